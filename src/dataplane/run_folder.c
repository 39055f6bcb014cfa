/* Folders of recovered disks: see run_folder.h. Each step down is by the folder above it (openat), so that nothing that is put there
 * meanwhile leads elsewhere. */
#define _GNU_SOURCE
#include "dataplane/run_folder.h"

#include "dataplane/use_place.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { DEPTH_MAX = 16, FOLDER_FLAGS = O_RDONLY | O_DIRECTORY | O_NOFOLLOW | O_CLOEXEC };

static int open_allowed(const char *dir, struct far_error *err)
{
    if (dir == NULL || dir[0] == '\0') {
        return far_fail(err, FAR_DENIED,
                        "this node recovers no machines: its operator names a folder for their disks, recovery_dir in its config");
    }
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd >= 0 ? fd : far_fail_errno(err, FAR_NOT_FOUND, errno, "open '%s', the folder for disks of recovered machines", dir);
}

/* A folder in another one. Takes fd. */
static int step(int fd, const char *name, bool makes, struct far_error *err)
{
    if (makes && mkdirat(fd, name, 0700) != 0 && errno != EEXIST) {
        int rc = far_fail_errno(err, FAR_IO, errno, "make folder '%s'", name);
        close(fd);
        return rc;
    }
    int next = openat(fd, name, FOLDER_FLAGS);
    int code = errno;
    close(fd);
    if (next < 0) {
        return code == ELOOP || code == ENOTDIR ? far_fail(err, FAR_DENIED, "'%s' is a symbolic link, or no folder", name)
                                                : far_fail_errno(err, FAR_NOT_FOUND, code, "open folder '%s'", name);
    }
    return next;
}

/* The folders of a path that was found to be well formed. */
static int make_folders(const char *dir, const char *path, struct far_error *err)
{
    int fd = open_allowed(dir, err);
    const char *at = path;
    for (const char *slash; fd >= 0 && (slash = strchr(at, '/')) != NULL; at = slash + 1) {
        char name[NAME_MAX + 1];
        snprintf(name, sizeof name, "%.*s", (int)(slash - at), at);
        fd = step(fd, name, true, err);
    }
    if (fd < 0) {
        return fd;
    }
    int rc = fsync(fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync a folder below '%s'", dir);
    close(fd);
    return rc;
}

static bool is_well_formed(const char *path)
{
    bool good = path[0] != '\0' && path[0] != '/' && strlen(path) < 1000;
    for (const char *at = path; good && *at != '\0'; at += at[0] == '/') {
        size_t len = strcspn(at, "/");
        good = len > 0 && len <= 200 && !(len == 1 && at[0] == '.') && !(len == 2 && at[0] == '.' && at[1] == '.') &&
               (at[len] == '\0' || at[len + 1] != '\0');
        at += len;
    }
    for (const char *c = path; good && *c != '\0'; c++) {
        good = (unsigned char)*c >= ' ' && *c != 0x7f;
    }
    return good;
}

int far_run_folder_resolve(const char *dir, const char *path, bool makes, const char *const *own_dirs, size_t own_count,
                           char ret_path[PATH_MAX], struct far_error *err)
{
    if (!is_well_formed(path)) {
        return far_fail(err, FAR_DENIED,
                        "'%.200s' is no path of a recovered disk: it leads out of the folder for them, or a part is empty, '.', '..' or "
                        "too long",
                        path);
    }
    int fd = open_allowed(dir, err);
    if (fd < 0) {
        return fd;
    }
    close(fd);
    int rc = makes ? make_folders(dir, path, err) : 0;
    return rc == 0 ? far_use_resolve(dir, path, FAR_USE_OWN_FILE, own_dirs, own_count, ret_path, err) : rc;
}

/* ---- removing ---- */

static int remove_all(int fd, unsigned depth, struct far_error *err);

static int remove_entry(int fd, const char *name, unsigned depth, struct far_error *err)
{
    if (unlinkat(fd, name, 0) == 0 || errno == ENOENT) {
        return 0;
    }
    int code = errno;
    struct stat st;
    if (fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) != 0 || !S_ISDIR(st.st_mode) || depth == DEPTH_MAX) {
        return far_fail_errno(err, FAR_IO, code, "remove '%s'", name);
    }
    int inner = openat(fd, name, FOLDER_FLAGS);
    int rc = inner >= 0 ? remove_all(inner, depth + 1, err) : far_fail_errno(err, FAR_IO, errno, "open folder '%s'", name);
    return rc == 0 && unlinkat(fd, name, AT_REMOVEDIR) != 0 ? far_fail_errno(err, FAR_IO, errno, "remove folder '%s'", name) : rc;
}

/* Takes fd. */
static int remove_all(int fd, unsigned depth, struct far_error *err)
{
    DIR *folder = fdopendir(fd);
    int rc = 0;
    if (folder == NULL) {
        rc = far_fail_errno(err, FAR_LIMIT, errno, "read a folder");
        close(fd);
        return rc;
    }
    for (struct dirent *entry; rc == 0 && (entry = readdir(folder)) != NULL;) {
        if (strcmp(entry->d_name, ".") != 0 && strcmp(entry->d_name, "..") != 0) {
            rc = remove_entry(dirfd(folder), entry->d_name, depth, err);
        }
    }
    closedir(folder);
    return rc;
}

int far_run_folder_remove(const char *dir, uint64_t job_id, const char *name, bool *ret_left, char ret_path[PATH_MAX],
                          struct far_error *err)
{
    char run[40];
    struct stat st;
    *ret_left = false;
    ret_path[0] = '\0';
    if (dir == NULL || dir[0] == '\0') {
        return 0; /* nothing was ever made here */
    }
    if (!is_well_formed(name) || strchr(name, '/') != NULL) {
        return far_fail(err, FAR_DENIED, "'%.200s' is no folder of a machine", name);
    }
    snprintf(run, sizeof run, "run-%llu", (unsigned long long)job_id);
    int top = open_allowed(dir, err);
    if (top < 0) {
        return top;
    }
    int rc = 0, fd = openat(top, run, FOLDER_FLAGS);
    if (fd < 0 && errno != ENOENT) {
        rc = far_fail(err, FAR_DENIED, "'%s' in '%s' is a symbolic link, or no folder", run, dir);
    }
    if (fd >= 0) {
        rc = remove_entry(fd, name, 0, err);
        *ret_left = fstatat(fd, name, &st, AT_SYMLINK_NOFOLLOW) == 0;
        snprintf(ret_path, PATH_MAX, "%.2000s/%s/%.200s", dir, run, name);
        close(fd);
        if (unlinkat(top, run, AT_REMOVEDIR) != 0 && errno != ENOTEMPTY && errno != EEXIST && errno != ENOENT && rc == 0) {
            rc = far_fail_errno(err, FAR_IO, errno, "remove folder '%s'", run);
        }
    }
    close(top);
    return rc;
}
