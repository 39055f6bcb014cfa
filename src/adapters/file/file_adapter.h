/* What the files of the file adapter share. */
#ifndef FAR_ADAPTERS_FILE_FILE_ADAPTER_H
#define FAR_ADAPTERS_FILE_FILE_ADAPTER_H

#include "adapters/adapters.h"
#include "base/error.h"

enum { FAR_FILE_PATH_MAX = 4096 };

/* Says what the system said about this disk: a disk that is not there is FAR_NOT_FOUND, a full one FAR_LIMIT, … */
int far_file_fail_errno(struct far_adapter_error *ret_error, int sys_errno, const char *what, const char *path);
/* Size and identity of what fd is; refuses what is neither a regular file nor a block device. */
int far_file_probe_fd(int fd, const char *path, struct far_adapter_found *ret_found,
                      struct far_adapter_error *ret_error);
int far_file_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                   struct far_adapter_error *ret_error);

int far_file_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                    struct far_adapter_error *ret_error);
int far_file_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                     struct far_adapter_error *ret_error);
/* Where the bytes of a frozen disk are read: the clone, or the disk itself. */
int far_file_frozen_path(const char *ref, const struct far_adapter_disk *disk, char path[FAR_FILE_PATH_MAX],
                         struct far_adapter_error *ret_error);

extern const struct far_adapter_bytes far_file_bytes;

#endif
