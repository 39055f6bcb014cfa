/* The file layer on a real folder: see disk.h. */
#include "log/disk.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

struct posix_disk {
    struct far_disk disk;
    int dir_fd;
};

struct far_file {
    int fd;
    char name[FAR_DISK_NAME_MAX];
};

static struct posix_disk *of(struct far_disk *disk)
{
    return (struct posix_disk *)(void *)disk;
}

static int posix_open(struct far_disk *disk, const char *name, bool create, struct far_file **ret_file,
                      struct far_error *err)
{
    int fd = openat(of(disk)->dir_fd, name, O_RDWR | O_CLOEXEC | (create ? O_CREAT : 0), 0600);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", name);
    }
    struct far_file *file = malloc(sizeof *file);
    if (file == NULL) {
        close(fd);
        return far_fail(err, FAR_LIMIT, "no memory to open '%s'", name);
    }
    file->fd = fd;
    snprintf(file->name, sizeof file->name, "%s", name);
    *ret_file = file;
    return 0;
}

static void posix_close(struct far_disk *disk, struct far_file *file)
{
    if (file != NULL) {
        close(file->fd);
        free(file);
    }
}

static int posix_size(struct far_disk *disk, struct far_file *file, uint64_t *ret_bytes, struct far_error *err)
{
    struct stat st;
    if (fstat(file->fd, &st) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "stat '%s'", file->name);
    }
    *ret_bytes = (uint64_t)st.st_size;
    return 0;
}

static int posix_read(struct far_disk *disk, struct far_file *file, uint64_t offset, void *data, size_t length,
                      struct far_error *err)
{
    uint8_t *at = data;
    while (length > 0) {
        ssize_t n = pread(file->fd, at, length, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n < 0) {
            return far_fail_errno(err, FAR_IO, errno, "read '%s'", file->name);
        }
        if (n == 0) {
            return far_fail(err, FAR_CORRUPT, "'%s' ends early", file->name);
        }
        at += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

static int posix_write(struct far_disk *disk, struct far_file *file, uint64_t offset, const void *data, size_t length,
                       struct far_error *err)
{
    const uint8_t *at = data;
    while (length > 0) {
        ssize_t n = pwrite(file->fd, at, length, (off_t)offset);
        if (n < 0 && errno == EINTR) {
            continue;
        }
        if (n <= 0) {
            return far_fail_errno(err, FAR_IO, n == 0 ? EIO : errno, "write '%s'", file->name);
        }
        at += n;
        offset += (uint64_t)n;
        length -= (size_t)n;
    }
    return 0;
}

static int posix_truncate(struct far_disk *disk, struct far_file *file, uint64_t bytes, struct far_error *err)
{
    return ftruncate(file->fd, (off_t)bytes) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "truncate '%s'", file->name);
}

static int posix_sync(struct far_disk *disk, struct far_file *file, struct far_error *err)
{
    return fdatasync(file->fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync '%s'", file->name);
}

static int posix_remove(struct far_disk *disk, const char *name, struct far_error *err)
{
    return unlinkat(of(disk)->dir_fd, name, 0) == 0 || errno == ENOENT
               ? 0
               : far_fail_errno(err, FAR_IO, errno, "remove '%s'", name);
}

static int posix_sync_dir(struct far_disk *disk, struct far_error *err)
{
    return fsync(of(disk)->dir_fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync the folder");
}

static int posix_list(struct far_disk *disk, far_disk_name_fn each, void *arg, struct far_error *err)
{
    int fd = openat(of(disk)->dir_fd, ".", O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    DIR *dir = fd < 0 ? NULL : fdopendir(fd);
    if (dir == NULL) {
        int failed = errno;
        if (fd >= 0) {
            close(fd);
        }
        return far_fail_errno(err, FAR_IO, failed, "list the folder");
    }
    struct dirent *entry;
    while ((entry = readdir(dir)) != NULL) {
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < FAR_DISK_NAME_MAX) {
            each(arg, entry->d_name);
        }
    }
    closedir(dir);
    return 0;
}

static uint64_t posix_free_bytes(struct far_disk *disk)
{
    struct statvfs st;
    return fstatvfs(of(disk)->dir_fd, &st) == 0 ? (uint64_t)st.f_bavail * st.f_frsize : 0;
}

static const struct far_disk_ops posix_ops = {
    .open = posix_open,
    .close = posix_close,
    .size = posix_size,
    .read = posix_read,
    .write = posix_write,
    .truncate = posix_truncate,
    .sync = posix_sync,
    .remove = posix_remove,
    .sync_dir = posix_sync_dir,
    .list = posix_list,
    .free_bytes = posix_free_bytes,
};

int far_disk_posix_new(const char *dir, struct far_disk **ret_disk, struct far_error *err)
{
    if (mkdir(dir, 0700) != 0 && errno != EEXIST) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", dir);
    }
    struct posix_disk *disk = calloc(1, sizeof *disk);
    if (disk == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open '%s'", dir);
    }
    disk->disk.ops = &posix_ops;
    disk->dir_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (disk->dir_fd < 0) {
        int failed = errno;
        free(disk);
        return far_fail_errno(err, FAR_IO, failed, "open '%s'", dir);
    }
    *ret_disk = &disk->disk;
    return 0;
}

void far_disk_posix_free(struct far_disk *disk)
{
    if (disk != NULL) {
        close(of(disk)->dir_fd);
        free(disk);
    }
}
