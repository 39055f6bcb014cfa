/* Small files, written whole or not at all: see pki.h. */
#include "net/pki.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <limits.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

static int write_all(int fd, struct far_slice data)
{
    while (data.len > 0) {
        ssize_t n = write(fd, data.data, data.len);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return -1;
        }
        data = far_slice(data.data + n, data.len - (size_t)n);
    }
    return 0;
}

static int sync_folder_of(const char *path)
{
    char copy[PATH_MAX];
    snprintf(copy, sizeof copy, "%s", path);
    int fd = open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return -1;
    }
    int rc = fsync(fd);
    int saved = errno;
    close(fd);
    errno = saved;
    return rc;
}

int far_file_write(const char *path, struct far_slice data, int mode, struct far_error *err)
{
    char fresh[PATH_MAX];
    if (snprintf(fresh, sizeof fresh, "%s.new", path) >= (int)sizeof fresh) {
        return far_fail(err, FAR_INVALID, "the path '%.100s…' is too long", path);
    }
    unlink(fresh); /* left by a process that died; never written through, it may be a link */
    int fd = open(fresh, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, mode);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", fresh);
    }
    bool failed = fchmod(fd, (mode_t)mode) != 0 || write_all(fd, data) != 0 || fsync(fd) != 0;
    int saved = errno;
    if (close(fd) != 0 && !failed) {
        failed = true;
        saved = errno;
    }
    if (!failed && (rename(fresh, path) != 0 || sync_folder_of(path) != 0)) {
        failed = true;
        saved = errno;
    }
    if (failed) {
        unlink(fresh);
        return far_fail_errno(err, FAR_IO, saved, "write '%s'", path);
    }
    return 0;
}

int far_file_read(const char *path, struct far_buf *ret_data, struct far_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", path);
    }
    int rc = 0;
    uint8_t piece[4096];
    for (;;) {
        ssize_t n = read(fd, piece, sizeof piece);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            rc = far_fail_errno(err, FAR_IO, errno, "read '%s'", path);
            break;
        }
        if (n == 0) {
            break;
        }
        if (far_buf_append(ret_data, piece, (size_t)n) != 0) {
            rc = far_fail(err, FAR_LIMIT, "'%s' is longer than the %zu bytes allowed", path, ret_data->max);
            break;
        }
    }
    OPENSSL_cleanse(piece, sizeof piece);
    close(fd);
    return rc;
}

void far_secret_done(struct far_buf *buf)
{
    if (buf != NULL && buf->data != NULL) {
        OPENSSL_cleanse(buf->data, buf->cap);
    }
    far_buf_done(buf);
}
