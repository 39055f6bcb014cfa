/* New folders: see new_folder.h. */
#include "base/new_folder.h"

#include "base/assert.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
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

int far_new_folder_begin(const char *dir, const char *owner, const char *const *files,
                         struct far_new_folder *ret_folder, struct far_error *err)
{
    struct far_new_folder folder = {.dir = dir, .files = files};
    if (strlen(dir) >= FAR_NEW_FOLDER_PATH_MAX) {
        return far_fail(err, FAR_INVALID, "the path of the folder is too long");
    }
    folder.made = mkdir(dir, 0700) == 0;
    if (!folder.made && errno != EEXIST) {
        return far_fail_errno(err, FAR_IO, errno, "create '%s'", dir);
    }
    if (has(dir, "config")) {
        return far_fail(err, FAR_CONFLICT, "'%s' belongs to a %s already", dir, owner);
    }
    if (access(dir, W_OK | X_OK) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "write into '%s'", dir);
    }
    for (size_t i = 0; files[i] != NULL; i++) {
        FAR_ASSERT(i < FAR_NEW_FOLDER_FILES_MAX);
        folder.had |= has(dir, files[i]) ? 1U << i : 0;
    }
    *ret_folder = folder;
    return 0;
}

void far_new_folder_undo(const struct far_new_folder *folder)
{
    char path[FILE_PATH_MAX];
    for (size_t i = 0; folder->files[i] != NULL; i++) {
        if ((folder->had & 1U << i) == 0 && file_path(folder->dir, folder->files[i], path)) {
            unlink(path);
        }
    }
    if (folder->made) {
        rmdir(folder->dir);
    }
}
