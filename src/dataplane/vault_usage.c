/* The room that a vault takes: see vault_usage.h. */
#include "dataplane/vault_usage.h"
#include "dataplane/vault_private.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <sys/stat.h>
#include <sys/statvfs.h>
#include <unistd.h>

enum { DEPTH_MAX = 4, BLOCK_BYTES = 512 /* of st_blocks */ };

/* What comes and goes meanwhile is no error. fd is closed. */
static void add_folder(int fd, unsigned depth, uint64_t *bytes)
{
    DIR *dir = fdopendir(fd);
    if (dir == NULL) {
        close(fd);
        return;
    }
    for (struct dirent *entry; (entry = readdir(dir)) != NULL;) {
        struct stat st;
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 ||
            fstatat(dirfd(dir), entry->d_name, &st, AT_SYMLINK_NOFOLLOW) != 0) {
            continue;
        }
        *bytes += (uint64_t)st.st_blocks * BLOCK_BYTES;
        int below = S_ISDIR(st.st_mode) && depth < DEPTH_MAX
                        ? openat(dirfd(dir), entry->d_name, O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC)
                        : -1;
        if (below >= 0) {
            add_folder(below, depth + 1, bytes);
        }
    }
    closedir(dir);
}

static int count_point(void *arg, uint64_t number, struct far_error *err)
{
    *(uint64_t *)arg += 1;
    return 0;
}

int far_vault_usage(struct far_vault *vault, struct far_vault_usage *ret_usage, struct far_error *err)
{
    struct far_vault_usage usage = {.used_bytes = 0};
    struct statvfs fs;
    char points[FAR_DIR_MAX + 16];
    int fd = open(vault->dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0 || fstatvfs(fd, &fs) != 0) {
        int number = errno;
        if (fd >= 0) {
            close(fd);
        }
        return far_fail_errno(err, FAR_IO, number, "look at '%s'", vault->dir);
    }
    add_folder(fd, 0, &usage.used_bytes);
    usage.free_bytes = (uint64_t)fs.f_bavail * fs.f_frsize;
    usage.total_bytes = (uint64_t)fs.f_blocks * fs.f_frsize;
    snprintf(points, sizeof points, "%s/points", vault->dir);
    int rc = far_vault_each_number(points, ".manifest", count_point, &usage.point_count, err);
    if (rc == 0) {
        *ret_usage = usage;
    }
    return rc;
}
