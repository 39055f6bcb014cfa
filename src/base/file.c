/* File helpers: see file.h. Nothing here retries after a failed sync: what was dirty then may be gone. */
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES_MAX = 4096 };

int far_file_pwrite(int fd, const void *data, size_t len, uint64_t offset, const char *path, struct far_error *err)
{
    const uint8_t *p = data;
    while (len > 0) {
        ssize_t n = pwrite(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            int cause = n == 0 || errno == EFBIG ? ENOSPC : errno;
            return far_fail_errno(err, FAR_IO, cause, "write '%s' at offset %llu", path, (unsigned long long)offset);
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int far_file_pread(int fd, void *data, size_t len, uint64_t offset, const char *path, struct far_error *err)
{
    uint8_t *p = data;
    while (len > 0) {
        ssize_t n = pread(fd, p, len, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return far_fail_errno(err, FAR_IO, errno, "read '%s' at offset %llu", path, (unsigned long long)offset);
        }
        if (n == 0) {
            return far_fail(err, FAR_CORRUPT, "'%s' ends at offset %llu, more was expected", path,
                            (unsigned long long)offset);
        }
        p += n;
        len -= (size_t)n;
        offset += (uint64_t)n;
    }
    return 0;
}

int far_file_sync_dir(const char *dir, struct far_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "open folder '%s'", dir);
    }
    int rc = fsync(fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync folder '%s'", dir);
    close(fd);
    return rc;
}

void far_file_dir_of(const char *path, char *dir, size_t len)
{
    const char *slash = strrchr(path, '/');
    if (slash == NULL) {
        snprintf(dir, len, ".");
    } else if (slash == path) {
        snprintf(dir, len, "/");
    } else {
        snprintf(dir, len, "%.*s", (int)(slash - path), path);
    }
}

static int write_new(const char *path, const void *data, size_t len, unsigned mode, struct far_error *err)
{
    unlink(path); /* left by a process that died; never written through, it may be a link */
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, (mode_t)mode);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", path);
    }
    int rc = far_file_pwrite(fd, data, len, 0, path, err);
    if (rc == 0 && (fchmod(fd, (mode_t)mode) != 0 || fdatasync(fd) != 0)) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
    }
    close(fd);
    return rc;
}

int far_file_replace(const char *path, const void *data, size_t len, unsigned mode, struct far_error *err)
{
    char temporary[PATH_BYTES_MAX];
    char dir[PATH_BYTES_MAX];
    int n = snprintf(temporary, sizeof temporary, "%s.tmp", path);
    if (n < 0 || (size_t)n >= sizeof temporary) {
        return far_fail(err, FAR_INVALID, "path too long: '%.100s…'", path);
    }
    int rc = write_new(temporary, data, len, mode, err);
    if (rc == 0 && rename(temporary, path) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "rename '%s'", temporary);
    }
    if (rc != 0) {
        unlink(temporary);
        return rc;
    }
    far_file_dir_of(path, dir, sizeof dir);
    return far_file_sync_dir(dir, err);
}

int far_file_read(const char *path, struct far_buf *buf, struct far_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        int klass = errno == ENOENT ? FAR_NOT_FOUND : FAR_IO;
        return far_fail_errno(err, klass, errno, "open '%s'", path);
    }
    struct stat st;
    int rc = 0;
    if (fstat(fd, &st) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "stat '%s'", path);
    } else if (!S_ISREG(st.st_mode)) {
        rc = far_fail(err, FAR_INVALID, "'%s' is not a regular file", path);
    } else {
        uint8_t *room = far_buf_reserve(buf, (size_t)st.st_size);
        rc = room == NULL ? far_fail(err, FAR_LIMIT, "'%s' is too large", path)
                          : far_file_pread(fd, room, (size_t)st.st_size, 0, path, err);
        if (rc == 0) {
            buf->len += (size_t)st.st_size;
        }
    }
    close(fd);
    return rc;
}

int far_file_make_dir(const char *path, struct far_error *err)
{
    char dir[PATH_BYTES_MAX];
    if (mkdir(path, 0700) != 0) {
        struct stat st;
        if (errno == EEXIST && stat(path, &st) == 0 && S_ISDIR(st.st_mode)) {
            return 0;
        }
        return far_fail_errno(err, FAR_IO, errno, "make folder '%s'", path);
    }
    far_file_dir_of(path, dir, sizeof dir);
    return far_file_sync_dir(dir, err);
}
