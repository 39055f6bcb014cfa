/* Dead ranges of packs: bytes that no index names any more. Private to the vault.
 *
 * Beside a pack with dead ranges lies `00000001.dead`, which says where they are; it is replaced as a whole and durable before the
 * first byte of a range is zeroed, so whoever walks the pack takes no zeroes for damage. Zeroed ranges are holes where the file
 * system can make them. The file `removed` says which packs are gone altogether. Bytes in docs/FORMATS.md. */
#ifndef FAR_DATAPLANE_VAULT_DEAD_H
#define FAR_DATAPLANE_VAULT_DEAD_H

#include "dataplane/pack.h"

struct far_dead_range {
    uint64_t offset;
    uint64_t length;
};

/* Sorted, apart from each other. A value; done frees it. */
struct far_dead_list {
    struct far_dead_range *ranges;
    size_t count;
    size_t room;
    uint64_t total; /* bytes */
};
void far_dead_done(struct far_dead_list *list);
/* FAR_LIMIT: no memory. A range that lies within others already is 0. */
int far_dead_add(struct far_dead_list *list, uint64_t offset, uint64_t length, struct far_error *err);
/* The end of the range that covers this offset; the offset itself if none does. list NULL: none. */
uint64_t far_dead_end(const struct far_dead_list *list, uint64_t offset);
/* No file: an empty list. FAR_CORRUPT: the list is empty and the file damaged. */
int far_dead_read(const struct far_packs *packs, uint32_t number, struct far_dead_list *ret_list, struct far_error *err);
int far_dead_write(const struct far_packs *packs, uint32_t number, const struct far_dead_list *list, struct far_error *err);
/* Zeroes a range of a pack, and gives its room back. overwrite: writes zeroes first. Not durable before the file is synced. */
int far_dead_zero(int fd, const char *path, struct far_dead_range range, bool overwrite, struct far_error *err);

/* Numbers of packs that are gone: runs of them. */
struct far_removed {
    struct far_dead_range *runs; /* offset: first number, length: how many */
    size_t count;
};
int far_removed_read(const struct far_packs *packs, struct far_removed *ret_removed, struct far_error *err);
void far_removed_done(struct far_removed *removed);
bool far_removed_has(const struct far_removed *removed, uint32_t number);
/* Durable when this returns 0. */
int far_removed_add(const struct far_packs *packs, struct far_removed *removed, uint32_t number, struct far_error *err);

#endif
