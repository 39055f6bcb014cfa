/* Files: whole writes at an offset, whole reads, atomic replacement, folder sync.
 * Blocking; any thread; messages name the path. */
#ifndef FAR_BASE_FILE_H
#define FAR_BASE_FILE_H

#include "base/buf.h"

/* pwrite until everything is written, through short writes and EINTR. FAR_LIMIT on a full disk. */
int far_file_pwrite(int fd, const void *data, size_t len, uint64_t offset, const char *path, struct far_error *err);
/* pread exactly len bytes; FAR_CORRUPT if the file ends before. */
int far_file_pread(int fd, void *data, size_t len, uint64_t offset, const char *path, struct far_error *err);
/* The names in a folder are durable when this returns 0. */
int far_file_sync_dir(const char *dir, struct far_error *err);
/* The folder of a path into dir (room for len bytes): "." if it has none. */
void far_file_dir_of(const char *path, char *dir, size_t len);
/* Replace path by these bytes: new file beside it, fdatasync, rename, sync of the folder. The old file or the new one is
 * there at any moment, whole. It has this mode whatever the umask: 0600 for keys. */
int far_file_replace(const char *path, const void *data, size_t len, unsigned mode, struct far_error *err);
/* The whole regular file appended to buf; FAR_NOT_FOUND without one, FAR_LIMIT above the buffer's maximum. */
int far_file_read(const char *path, struct far_buf *buf, struct far_error *err);
/* mkdir if it is not there; the name is durable. */
int far_file_make_dir(const char *path, struct far_error *err);

#endif
