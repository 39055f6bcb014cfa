/* New folders: see new_folder.h. */
#include "base/new_folder.h"

#include "base/assert.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_PATH_MAX = FAR_NEW_FOLDER_PATH_MAX + 64 };

static bool file_path(const char *dir, const char *name, char path[FILE_PATH_MAX])
{
    int n = snprintf(path, FILE_PATH_MAX, "%s/%s", dir, name);
    return n > 0 && n < FILE_PATH_MAX;
}

static bool has(const char *dir, const char *name)
{
    char path[FILE_PATH_MAX];
    struct stat found;
    return file_path(dir, name, path) && lstat(path, &found) == 0;
}

/* ---- the lock ---- */

static const char lock_name[] = "new.lock";

/* Whoever had the lock may have removed the file while this process waited for it: then it locks nothing. */
static bool is_still_there(const char *path, int fd)
{
    struct stat mine, there;
    return fstat(fd, &mine) == 0 && lstat(path, &there) == 0 && mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
}

int far_new_folder_lock(const char *dir, int *ret_fd, struct far_error *err)
{
    char path[FILE_PATH_MAX];
    if (!file_path(dir, lock_name, path)) {
        return far_fail(err, FAR_INVALID, "the path of the folder is too long");
    }
    int fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC | O_NOFOLLOW, 0600);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "write into '%s'", dir);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0 || !is_still_there(path, fd)) {
        close(fd);
        return far_fail(err, FAR_CONFLICT, "another init, restore or join is at work on folder '%s'", dir);
    }
    *ret_fd = fd;
    return 0;
}

void far_new_folder_unlock(const char *dir, int fd)
{
    char path[FILE_PATH_MAX];
    if (fd >= 0) {
        if (file_path(dir, lock_name, path)) {
            unlink(path);
        }
        close(fd);
    }
}

/* ---- the folder ---- */

static bool is_named(const char *name, size_t len, const char *const *names)
{
    for (size_t i = 0; names != NULL && names[i] != NULL; i++) {
        if (strlen(names[i]) == len && memcmp(names[i], name, len) == 0) {
            return true;
        }
    }
    return false;
}

/* Also the new file beside it of a replacement that was interrupted. */
static bool is_expected(const char *name, const struct far_new_folder_plan *plan)
{
    static const char *const always[] = {".", "..", lock_name, "lost+found", NULL};
    static const char temporary[] = ".tmp";
    size_t len = strlen(name), cut = sizeof temporary - 1;
    return is_named(name, len, always) || is_named(name, len, plan->files) || is_named(name, len, plan->others) ||
           (len > cut && strcmp(name + len - cut, temporary) == 0 &&
            (is_named(name, len - cut, plan->files) || is_named(name, len - cut, plan->others)));
}

static int refuse_foreign(const char *dir, const struct far_new_folder_plan *plan, struct far_error *err)
{
    DIR *folder = opendir(dir);
    int rc = folder == NULL ? far_fail_errno(err, FAR_IO, errno, "read folder '%s'", dir) : 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(folder)) != NULL;) {
        if (!is_expected(entry->d_name, plan)) {
            rc = far_fail(err, FAR_CONFLICT, "'%s' is not empty, it holds '%.100s': give a new folder", dir, entry->d_name);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return rc;
}

int far_new_folder_begin_locked(const char *dir, const struct far_new_folder_plan *plan, struct far_new_folder *ret_folder,
                                struct far_error *err)
{
    struct far_new_folder folder = {.dir = dir, .files = plan->files, .lock_fd = -1};
    if (has(dir, "config")) {
        return far_fail(err, FAR_CONFLICT, "'%s' belongs to a %s already", dir, plan->owner);
    }
    int rc = plan->marker != NULL && has(dir, plan->marker) ? 0 : refuse_foreign(dir, plan, err);
    for (size_t i = 0; rc == 0 && plan->files[i] != NULL; i++) {
        FAR_ASSERT(i < FAR_NEW_FOLDER_FILES_MAX);
        folder.had |= has(dir, plan->files[i]) ? 1U << i : 0;
    }
    if (rc == 0) {
        *ret_folder = folder;
    }
    return rc;
}

int far_new_folder_begin(const char *dir, const struct far_new_folder_plan *plan, struct far_new_folder *ret_folder,
                         struct far_error *err)
{
    int lock_fd = -1;
    if (strlen(dir) >= FAR_NEW_FOLDER_PATH_MAX) {
        return far_fail(err, FAR_INVALID, "the path of the folder is too long");
    }
    bool made = mkdir(dir, 0700) == 0;
    if (!made && errno != EEXIST) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", dir);
    }
    /* Before anything is written, if only a lock: a folder of somebody else is not touched. */
    int rc = far_new_folder_begin_locked(dir, plan, ret_folder, err);
    rc = rc != 0 ? rc : far_new_folder_lock(dir, &lock_fd, err);
    if (rc == 0) {
        rc = far_new_folder_begin_locked(dir, plan, ret_folder, err); /* nobody changes it from here on */
        ret_folder->lock_fd = lock_fd;
        ret_folder->made = made;
    }
    if (rc != 0) {
        far_new_folder_unlock(dir, lock_fd);
        if (made) {
            rmdir(dir);
        }
    }
    return rc;
}

void far_new_folder_keep(struct far_new_folder *folder)
{
    far_new_folder_unlock(folder->dir, folder->lock_fd);
    folder->lock_fd = -1;
}

void far_new_folder_undo(struct far_new_folder *folder)
{
    char path[FILE_PATH_MAX];
    for (size_t i = 0; folder->files[i] != NULL; i++) {
        if ((folder->had & 1U << i) == 0 && file_path(folder->dir, folder->files[i], path)) {
            unlink(path);
        }
    }
    far_new_folder_keep(folder);
    if (folder->made) {
        rmdir(folder->dir);
    }
}
