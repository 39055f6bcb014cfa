/* What the files of the file adapter share. */
#ifndef FAR_ADAPTERS_FILE_FILE_ADAPTER_H
#define FAR_ADAPTERS_FILE_FILE_ADAPTER_H

#include "adapters/adapters.h"
#include "base/error.h"

#include <pthread.h>
#include <sys/types.h>

enum { FAR_FILE_PATH_MAX = 4096, FAR_FILE_PLACES_MAX = 16 };

/* Where the next page of a list goes on (file_list.c). */
struct far_file_place {
    dev_t device;
    ino_t inode;
    int64_t changed_ns; /* the list, last */
    uint64_t offset;   /* a page that begins here … */
    off_t position;    /* … begins with the line at this byte of the list */
    uint64_t line;     /* lines before it */
    uint64_t end;      /* of the extent before it */
    uint64_t used_at;  /* 0: free */
};

/* The platform; every function takes NULL as one without settings. */
struct far_file {
    char changes[FAR_FILE_PATH_MAX]; /* folder of the lists that another program writes; "": there are none */
    pthread_mutex_t mutex;           /* below */
    struct far_file_place places[FAR_FILE_PLACES_MAX];
    uint64_t uses;
};

/* Says what the system said about this disk: a disk that is not there is FAR_NOT_FOUND, a full one FAR_LIMIT, … */
int far_file_fail_errno(struct far_adapter_error *ret_error, int sys_errno, const char *what, const char *path);
/* Size and identity of what fd is; refuses what is neither a regular file nor a block device. */
int far_file_probe_fd(int fd, const char *path, struct far_adapter_found *ret_found,
                      struct far_adapter_error *ret_error);
int far_file_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                   struct far_adapter_error *ret_error);

/* file_freeze.c */
int far_file_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                    struct far_adapter_error *ret_error);
int far_file_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                     struct far_adapter_error *ret_error);
int far_file_keep(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                  struct far_adapter_error *ret_error);
/* Where the bytes of a frozen disk are read: the clone, or the disk itself. */
int far_file_frozen_path(const char *ref, const struct far_adapter_disk *disk, char path[FAR_FILE_PATH_MAX],
                         struct far_adapter_error *ret_error);
/* "7-1-1" of "clone:7-1-1"; NULL: the view is no clone. */
const char *far_file_clone_hint(const char *ref);

/* file_clones.c: the clones beside an image, by their names. */
int far_file_clone_path(const char *hint, const struct far_adapter_disk *disk, bool kept, char path[FAR_FILE_PATH_MAX],
                        struct far_adapter_error *ret_error);
/* Makes the clone of a view, durable. false: this file system cannot, or not for this disk. *ret_listed: it can be compared with
 * other clones. */
bool far_file_clone(const char *hint, const struct far_adapter_disk *disk, const char *identity, bool *ret_listed);
/* The clone becomes the only one that is kept of this disk. */
int far_file_clone_keep(const char *hint, const struct far_adapter_disk *disk, struct far_adapter_error *ret_error);
/* Removes <stem><job>-<task>-<attempt> files that no order can need any more, when a view of this hint is made. */
void far_file_sweep(const char *stem, const char *hint);
/* Opens the clone of the view `ref` and the kept one of `since`, both as they were made; else FAR_ADAPTER_RESYNC and why. */
int far_file_clone_pair(const char *ref, const struct far_adapter_disk *disk, const char *since, int *ret_base, int *ret_now,
                        struct far_adapter_error *ret_error);
/* Makes the names in the folder of a path durable; 0 or -1 with errno. */
int far_file_sync_folder(const char *path);

/* file_changed.c: what differs between two clones. */
int far_file_clones_differ(int base, int now, const char *locator, uint64_t offset, struct far_adapter_extent *ret_extents,
                           size_t max, size_t *ret_count, uint64_t *ret_next, struct far_adapter_error *ret_error);

/* file_list.c: lists of another program. */
void far_file_list_freeze(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk, char token[128]);
int far_file_list_release(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk,
                          struct far_adapter_error *ret_error);
int far_file_list_changed(struct far_file *file, const char *ref, const struct far_adapter_disk *disk, const char *since,
                          uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                          uint64_t *ret_next, struct far_adapter_error *ret_error);

extern const struct far_adapter_bytes far_file_bytes;

#endif
