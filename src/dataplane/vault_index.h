/* The index of the vault: id of a record → its place in the packs, in LMDB. Only a cache, private to the vault.
 *
 * It also knows up to which position of the packs it is complete. Every entry carries a check bound to the vault and the
 * id; the whole file is walked at open (vault_index_check.c), because LMDB trusts its own pages. Whatever is wrong: the
 * index is thrown away and made again from the packs. Threads: lookups any, put one at a time (the vault sees to it). */
#ifndef FAR_DATAPLANE_VAULT_INDEX_H
#define FAR_DATAPLANE_VAULT_INDEX_H

#include "dataplane/pack.h"

enum {
    FAR_INDEX_BATCH_MAX = 8192, /* entries in one transaction: at worst about 40 MiB of dirty pages */
    FAR_INDEX_VALUE_BYTES = 20,
};

struct far_index;

struct far_index_entry {
    struct far_hash256 id;
    struct far_place place;
};

/* Opens or makes the index in a folder of its own. An index that is damaged or of another vault is removed and made anew
 * (*ret_position.pack 0 then, as for a new one). read_only: FAR_NOT_FOUND or FAR_CORRUPT instead. */
int far_index_open(const char *dir, const uint8_t vault_uuid[16], bool read_only, struct far_index **ret_index,
                   struct far_place *ret_position, struct far_error *err);
void far_index_close(struct far_index *index); /* NULL is allowed */
/* ret_places[i].pack is 0 where nothing is known of ids[i]. */
int far_index_get(struct far_index *index, const struct far_hash256 *ids, size_t count, struct far_place *ret_places,
                  struct far_error *err);
/* Adds or replaces up to FAR_INDEX_BATCH_MAX entries and, if position is not NULL, says that everything before it is in:
 * one transaction, durable when this returns 0. */
int far_index_put(struct far_index *index, const struct far_index_entry *entries, size_t count,
                  const struct far_place *position, struct far_error *err);
uint64_t far_index_count(struct far_index *index);
void far_index_value_encode(const uint8_t vault_uuid[16], struct far_slice key, struct far_place place,
                            uint8_t ret_value[FAR_INDEX_VALUE_BYTES]);
/* false: damaged, or of another vault or key. */
bool far_index_value_decode(const uint8_t vault_uuid[16], struct far_slice key, struct far_slice value,
                            struct far_place *ret_place);
/* Walks the LMDB file below the library: geometry, page types, bounds, order of keys, the check of every entry. The
 * file is not open anywhere. FAR_NOT_FOUND, FAR_CORRUPT. */
int far_index_check(const char *path, const uint8_t vault_uuid[16], struct far_error *err);

#endif
