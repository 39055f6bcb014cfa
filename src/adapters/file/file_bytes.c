/* Bytes of files and block devices: frozen ones to read, recovered ones to write and to read back.
 *
 * A new target file is made under a name of its own, gets its size and its mark, and only then its real name, by
 * link(2), which refuses a name that is taken. The mark is the extended attribute user.farshore.recovery with the
 * reference of the recovery, or, where the file system has none, a file <target>.farshore-recovery beside it, written
 * before the target appears. So a target that bears the mark of this recovery is an earlier attempt's, and everything
 * else is refused. Pieces of zeroes are not written to a file: it began as one hole, and every attempt of a recovery
 * writes the same. */
#define _GNU_SOURCE /* SEEK_DATA */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/xattr.h>
#include <unistd.h>

enum { HOLE_BYTES = 65536, REF_MAX = 256 };

static const char mark_name[] = "user.farshore.recovery";

struct image {
    int fd;
    bool device;
    char path[]; /* for messages */
};

static int handle_new(int fd, const char *path, struct image **ret_handle, struct far_adapter_error *ret_error)
{
    struct stat st;
    struct image *handle = malloc(sizeof *handle + strlen(path) + 1);
    if (handle == NULL || fstat(fd, &st) != 0) {
        free(handle);
        close(fd);
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "open '%s': no memory", path);
    }
    handle->fd = fd;
    handle->device = S_ISBLK(st.st_mode);
    strcpy(handle->path, path);
    *ret_handle = handle;
    return FAR_ADAPTER_OK;
}

/* ---- frozen ---- */

static int bytes_open_frozen(void *platform, const char *ref, const struct far_adapter_disk *disk, void **ret_handle,
                             struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    struct image *handle;
    int outcome = far_file_frozen_path(ref, disk, path, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    int fd = open(path, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (fd < 0) {
        return far_file_fail_errno(ret_error, errno, "open the frozen disk", path);
    }
    if (far_file_clone_hint(ref) != NULL) { /* in use: no sweep removes it */
        flock(fd, LOCK_SH | LOCK_NB);
    }
    posix_fadvise(fd, 0, 0, POSIX_FADV_SEQUENTIAL);
    outcome = handle_new(fd, path, &handle, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        *ret_handle = handle;
    }
    return outcome;
}

static int bytes_read(void *opaque, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    struct image *handle = opaque;
    uint8_t *at = buffer;
    while (length > 0) {
        ssize_t n = pread(handle->fd, at, length, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return far_file_fail_errno(ret_error, errno, "read", handle->path);
        }
        if (n == 0) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                    "the disk '%s' shrank: it ends at byte %llu", handle->path,
                                    (unsigned long long)offset);
        }
        at += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return FAR_ADAPTER_OK;
}

/* The file system says what is a hole. One that cannot says that everything is data, or nothing at all: then it is data. */
static struct far_adapter_extent extent_at(int fd, uint64_t offset)
{
    off_t data = lseek(fd, (off_t)offset, SEEK_DATA);
    if (data < 0 && errno == ENXIO) { /* nothing but a hole up to the end, or offset is behind it */
        off_t end = lseek(fd, 0, SEEK_END);
        bool inside = end >= 0 && (uint64_t)end > offset;
        return (struct far_adapter_extent){
            .offset = offset, .length = inside ? (uint64_t)end - offset : UINT64_MAX - offset, .zero = inside};
    }
    if (data > (off_t)offset) {
        return (struct far_adapter_extent){.offset = offset, .length = (uint64_t)data - offset, .zero = true};
    }
    off_t hole = data < 0 ? -1 : lseek(fd, data, SEEK_HOLE);
    return (struct far_adapter_extent){
        .offset = offset, .length = hole > (off_t)offset ? (uint64_t)hole - offset : UINT64_MAX - offset};
}

static int bytes_extents(void *opaque, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max,
                         size_t *ret_count, struct far_adapter_error *ret_error)
{
    struct image *handle = opaque;
    ret_extents[0] = handle->device ? (struct far_adapter_extent){.offset = offset, .length = UINT64_MAX - offset}
                                    : extent_at(handle->fd, offset);
    *ret_count = 1;
    return FAR_ADAPTER_OK;
}

/* ---- targets ---- */

static int side_path(const char *locator, char path[FAR_FILE_PATH_MAX], struct far_adapter_error *ret_error)
{
    int n = snprintf(path, FAR_FILE_PATH_MAX, "%s.farshore-recovery", locator);
    return n > 0 && n < FAR_FILE_PATH_MAX
               ? FAR_ADAPTER_OK
               : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the path '%.200s' is too long", locator);
}

static bool side_file_says(const char *locator, const char *ref)
{
    char path[FAR_FILE_PATH_MAX], text[REF_MAX] = "";
    if (side_path(locator, path, NULL) != FAR_ADAPTER_OK) {
        return false;
    }
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    ssize_t n = fd >= 0 ? read(fd, text, sizeof text - 1) : -1;
    if (fd >= 0) {
        close(fd);
    }
    return n > 0 && strcmp(text, ref) == 0;
}

/* Is this target an earlier attempt's of the same recovery? */
static bool marked(int fd, const char *locator, const char *ref)
{
    char text[REF_MAX] = "";
    ssize_t n = fgetxattr(fd, mark_name, text, sizeof text - 1);
    return n >= 0 ? strcmp(text, ref) == 0 : side_file_says(locator, ref);
}

static int mark(int fd, const char *locator, const char *ref, struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    if (fsetxattr(fd, mark_name, ref, strlen(ref), 0) == 0) {
        return FAR_ADAPTER_OK;
    }
    if (errno != ENOTSUP && errno != EPERM && errno != ENOSPC) {
        return far_file_fail_errno(ret_error, errno, "mark the recovered disk", locator);
    }
    int outcome = side_path(locator, path, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    int side = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    bool written = side >= 0 && write(side, ref, strlen(ref)) == (ssize_t)strlen(ref) && fsync(side) == 0;
    int sys_errno = errno;
    if (side >= 0) {
        close(side);
    }
    return written ? FAR_ADAPTER_OK : far_file_fail_errno(ret_error, sys_errno, "write the mark", path);
}

static int make_target(const char *ref, const char *locator, uint64_t size_bytes, int *ret_fd,
                       struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    int n = snprintf(path, sizeof path, "%s.farshore-%s.new", locator, ref);
    if (n < 0 || (size_t)n >= sizeof path || strchr(ref, '/') != NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the path '%.200s' is too long", locator);
    }
    unlink(path);
    int fd = open(path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (fd < 0) {
        return far_file_fail_errno(ret_error, errno, "create the disk", locator);
    }
    int outcome = FAR_ADAPTER_OK;
    if (ftruncate(fd, (off_t)size_bytes) != 0) {
        outcome = far_file_fail_errno(ret_error, errno, "give its size to", locator);
    }
    outcome = outcome == FAR_ADAPTER_OK ? mark(fd, locator, ref, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK && link(path, locator) != 0) {
        outcome = errno == EEXIST ? far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                                     "the recovery target '%s' exists already", locator)
                                  : far_file_fail_errno(ret_error, errno, "create the disk", locator);
    }
    unlink(path);
    if (outcome != FAR_ADAPTER_OK) {
        close(fd);
        return outcome;
    }
    *ret_fd = fd;
    return FAR_ADAPTER_OK;
}

static int check_existing(int fd, const char *ref, const char *locator, uint64_t size_bytes,
                          struct far_adapter_error *ret_error)
{
    struct stat st;
    struct far_adapter_found found;
    int outcome = far_file_probe_fd(fd, locator, &found, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    bool device = fstat(fd, &st) == 0 && S_ISBLK(st.st_mode);
    if (device && found.size_bytes < size_bytes) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the recovery target '%s' is too small: it has %llu bytes, the disk %llu", locator,
                                (unsigned long long)found.size_bytes, (unsigned long long)size_bytes);
    }
    if (!device && (!marked(fd, locator, ref) || found.size_bytes != size_bytes)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT, "the recovery target '%s' exists already",
                                locator);
    }
    return FAR_ADAPTER_OK;
}

static int open_existing(const char *ref, const char *locator, uint64_t size_bytes, int *ret_fd,
                         struct far_adapter_error *ret_error)
{
    struct stat st;
    bool device = stat(locator, &st) == 0 && S_ISBLK(st.st_mode);
    /* O_EXCL on a block device: nobody has it mounted. */
    int fd = open(locator, O_RDWR | O_CLOEXEC | (device ? O_EXCL : 0));
    if (fd < 0 && errno == EBUSY) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                "the recovery target '%s' is in use: it is mounted, or another program holds it; unmount it "
                                "or name another device", locator);
    }
    if (fd < 0) {
        return errno == EISDIR ? far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                                  "the recovery target '%s' is a folder", locator)
                               : far_file_fail_errno(ret_error, errno, "open the recovery target", locator);
    }
    int outcome = check_existing(fd, ref, locator, size_bytes, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        close(fd);
        return outcome;
    }
    *ret_fd = fd;
    return FAR_ADAPTER_OK;
}

static int bytes_open_target(void *platform, const char *ref, const char *locator, uint64_t size_bytes,
                             void **ret_handle, struct far_adapter_error *ret_error)
{
    struct stat st;
    struct image *handle;
    int fd = -1;
    if (locator[0] != '/') {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the recovery target '%s' is not an absolute path", locator);
    }
    int outcome = lstat(locator, &st) == 0 ? open_existing(ref, locator, size_bytes, &fd, ret_error)
                                           : make_target(ref, locator, size_bytes, &fd, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? handle_new(fd, locator, &handle, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK) {
        *ret_handle = handle;
    }
    return outcome;
}

static bool all_zero(const uint8_t *data, size_t length)
{
    return length > 0 && data[0] == 0 && memcmp(data, data + 1, length - 1) == 0;
}

static int write_whole(struct image *handle, const uint8_t *data, size_t length, uint64_t offset,
                       struct far_adapter_error *ret_error)
{
    while (length > 0) {
        ssize_t n = pwrite(handle->fd, data, length, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return far_file_fail_errno(ret_error, errno, "write", handle->path);
        }
        data += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return FAR_ADAPTER_OK;
}

static int bytes_write(void *opaque, const void *buffer, size_t length, uint64_t offset,
                       struct far_adapter_error *ret_error)
{
    struct image *handle = opaque;
    const uint8_t *data = buffer;
    if (handle->device) {
        return write_whole(handle, data, length, offset, ret_error);
    }
    int outcome = FAR_ADAPTER_OK;
    for (size_t at = 0; outcome == FAR_ADAPTER_OK && at < length;) {
        size_t start = at; /* a run without zero pieces */
        size_t piece = 0;
        for (; at < length; at += piece) {
            piece = length - at < HOLE_BYTES ? length - at : HOLE_BYTES;
            if (all_zero(data + at, piece)) {
                break;
            }
        }
        outcome = write_whole(handle, data + start, at - start, offset + start, ret_error);
        at += at < length ? piece : 0;
    }
    return outcome;
}

static int bytes_flush(void *opaque, struct far_adapter_error *ret_error)
{
    struct image *handle = opaque;
    if (fsync(handle->fd) != 0 || (!handle->device && far_file_sync_folder(handle->path) != 0)) {
        return far_file_fail_errno(ret_error, errno, "make durable", handle->path);
    }
    /* Clean pages leave the cache, so that what is read from now on comes from the device. */
    posix_fadvise(handle->fd, 0, 0, POSIX_FADV_DONTNEED);
    if (handle->device) {
        ioctl(handle->fd, BLKFLSBUF, 0);
    }
    return FAR_ADAPTER_OK;
}

static void bytes_close(void *opaque)
{
    struct image *handle = opaque;
    if (handle != NULL) {
        close(handle->fd);
        free(handle);
    }
}

const struct far_adapter_bytes far_file_bytes = {
    .version = FAR_ADAPTER_VERSION,
    .fence = "epoch",
    .open_frozen = bytes_open_frozen,
    .read = bytes_read,
    .open_target = bytes_open_target,
    .write = bytes_write,
    .flush = bytes_flush,
    .close = bytes_close,
    .extents = bytes_extents,
};
