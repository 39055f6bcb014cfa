/* Import of an image into a vault: what a first copy would bring is there already, carried by whatever way (offline seeding). The first
 * cycle of the disk then finds its blocks, and sends only what changed since.
 *
 * The image becomes a point of its own, under a number that the log never gives (the highest bit set), of a disk that is named after
 * its label; imported again under the same label, only what changed is stored, and it is a new point. Such points are
 * listed, opened, recovered, verified and reclaimed as all others; far_vault_forget() lets go of them. */
#ifndef FAR_DATAPLANE_IMPORT_H
#define FAR_DATAPLANE_IMPORT_H

#include "dataplane/vault.h"

#define FAR_IMPORTED (1ull << 63) /* in the numbers of imported points and disks */

/* A disk that is no file, read by whoever knows how. Calls of one handle come from one thread. */
struct far_import_source {
    uint64_t size_bytes;
    int (*open)(void *arg, void **ret_handle, struct far_error *err);
    int (*read)(void *arg, void *handle, void *buffer, size_t length, uint64_t offset, struct far_error *err);
    void (*close)(void *arg, void *handle);
    void *arg;
};

struct far_import_options {
    const char *image;   /* path of a raw image or block device; read, never written. With a source only what it is called in messages */
    const struct far_import_source *source; /* NULL: image is a file */
    const char *label;   /* 1 to 63 bytes: what it is an image of */
    const char *disk;    /* 1 to 63 bytes: name of the disk in the point */
    const struct far_domain *domain;
    unsigned workers;    /* threads; 0 = one a processor, at most 8 */
    int level;           /* of zstd, 1 to 19; 0 = between 1 and 2 */
    /* May be NULL; another result than 0 cancels (FAR_CANCELED: nothing is sealed). */
    int (*progress)(void *arg, uint64_t bytes_done, uint64_t bytes);
    void *arg;
};
struct far_import_result {
    uint64_t point_id;
    uint64_t size_bytes;
    uint64_t blocks_zero;
    uint64_t blocks_same;   /* as in the import before, or elsewhere in the vault */
    uint64_t blocks_stored;
    uint64_t bytes_stored;  /* of them, compressed */
    struct far_hash256 root;
};
/* Forget what was imported under this label and name of a disk; nothing was: 0. Errors as far_vault_forget(). */
int far_vault_import_forget(struct far_vault *vault, const char *label, const char *disk, struct far_error *err);
/* Blocks the caller; memory: 6 MiB a worker. An image that is cut short while it is imported once more may end the process
 * (SIGBUS), which costs the vault nothing. FAR_NOT_FOUND, FAR_IO: the image; FAR_INVALID: names, size; FAR_LIMIT: no space. */
int far_vault_import(struct far_vault *vault, const struct far_import_options *options, struct far_import_result *ret_result,
                     struct far_error *err);

#endif
