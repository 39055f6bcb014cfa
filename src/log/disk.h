/* The file layer under the WAL: one folder, few operations, all blocking. Production is disk_posix.c; the simulator has
 * its own, which loses what was not synced. Names are plain file names within the folder. A disk may be used by the core
 * thread and the WAL writer at once, on different files. */
#ifndef FAR_LOG_DISK_H
#define FAR_LOG_DISK_H

#include "base/bytes.h"
#include "base/error.h"

enum { FAR_DISK_NAME_MAX = 64 };

struct far_disk;
struct far_file; /* opaque, each disk has its own */

typedef void (*far_disk_name_fn)(void *arg, const char *name);

struct far_disk_ops {
    /* create: make it if it is not there (FAR_NOT_FOUND otherwise). */
    int (*open)(struct far_disk *disk, const char *name, bool create, struct far_file **ret_file,
                struct far_error *err);
    void (*close)(struct far_disk *disk, struct far_file *file); /* NULL is allowed */
    int (*size)(struct far_disk *disk, struct far_file *file, uint64_t *ret_bytes, struct far_error *err);
    /* Exactly length bytes; beyond the end is FAR_CORRUPT. */
    int (*read)(struct far_disk *disk, struct far_file *file, uint64_t offset, void *data, size_t length,
                struct far_error *err);
    /* FAR_LIMIT: the disk is full. */
    int (*write)(struct far_disk *disk, struct far_file *file, uint64_t offset, const void *data, size_t length,
                 struct far_error *err);
    int (*truncate)(struct far_disk *disk, struct far_file *file, uint64_t bytes, struct far_error *err);
    int (*sync)(struct far_disk *disk, struct far_file *file, struct far_error *err); /* fdatasync */
    int (*remove)(struct far_disk *disk, const char *name, struct far_error *err);
    int (*sync_dir)(struct far_disk *disk, struct far_error *err);
    /* Every name in the folder, in no order. */
    int (*list)(struct far_disk *disk, far_disk_name_fn each, void *arg, struct far_error *err);
    uint64_t (*free_bytes)(struct far_disk *disk);
};

/* Embedded as the first member of each implementation. */
struct far_disk {
    const struct far_disk_ops *ops;
};

/* The folder is made if it is not there. */
int far_disk_posix_new(const char *dir, struct far_disk **ret_disk, struct far_error *err);
void far_disk_posix_free(struct far_disk *disk); /* NULL is allowed */

#endif
