/* Freezing files: a reflink clone beside each image where the file system can (btrfs, XFS), else the live disk, marked
 * fuzzy. A clone is exact for one disk; several are cloned one after the other, so more than one disk is fuzzy too.
 *
 * References: "clone:<hint>" and "live:<hint>". A clone is called <image>.farshore-<hint>; it is made under that name
 * with O_EXCL, so a repeat of the same freeze finds what an earlier one left, removes it and clones anew: nobody has
 * read it yet. Release removes it; what is not there is released. */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <string.h>
#include <sys/ioctl.h>
#include <unistd.h>

static int clone_path(const char *hint, const struct far_adapter_disk *disk, char path[FAR_FILE_PATH_MAX],
                      struct far_adapter_error *ret_error)
{
    int n = snprintf(path, FAR_FILE_PATH_MAX, "%s.farshore-%s", disk->locator, hint);
    if (n < 0 || n >= FAR_FILE_PATH_MAX || strchr(hint, '/') != NULL || hint[0] == '\0') {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the path of the disk '%s' is too long",
                                disk->name);
    }
    return FAR_ADAPTER_OK;
}

static const char *after(const char *ref, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(ref, prefix, len) == 0 ? ref + len : NULL;
}

/* false: this file system cannot, or not for this disk. */
static bool clone_disk(const char *hint, const struct far_adapter_disk *disk)
{
    char path[FAR_FILE_PATH_MAX];
    if (clone_path(hint, disk, path, NULL) != FAR_ADAPTER_OK) {
        return false;
    }
    int from = open(disk->locator, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (from < 0) {
        return false;
    }
    unlink(path);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool cloned = to >= 0 && ioctl(to, FICLONE, from) == 0;
    if (to >= 0) {
        close(to);
    }
    close(from);
    if (!cloned && to >= 0) {
        unlink(path);
    }
    return cloned;
}

int far_file_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                     struct far_adapter_error *ret_error)
{
    const char *hint = after(ref, "clone:");
    char path[FAR_FILE_PATH_MAX];
    for (size_t i = 0; hint != NULL && i < count; i++) {
        int outcome = clone_path(hint, &disks[i], path, ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        if (unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR) {
            return far_file_fail_errno(ret_error, errno, "remove the clone", path);
        }
    }
    return FAR_ADAPTER_OK;
}

int far_file_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                    struct far_adapter_error *ret_error)
{
    char clone_ref[128];
    for (size_t i = 0; i < count; i++) {
        int outcome = far_file_probe(platform, &disks[i], &ret_found[i], ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
    }
    snprintf(clone_ref, sizeof clone_ref, "clone:%s", ref_hint);
    bool cloned = true;
    for (size_t i = 0; cloned && i < count; i++) {
        cloned = clone_disk(ref_hint, &disks[i]);
    }
    if (!cloned) {
        far_file_release(platform, clone_ref, disks, count, NULL);
    }
    snprintf(ret_ref, 128, "%s:%s", cloned ? "clone" : "live", ref_hint);
    *ret_fuzzy = !cloned || count > 1;
    return FAR_ADAPTER_OK;
}

int far_file_frozen_path(const char *ref, const struct far_adapter_disk *disk, char path[FAR_FILE_PATH_MAX],
                         struct far_adapter_error *ret_error)
{
    const char *hint = after(ref, "clone:");
    if (hint != NULL) {
        return clone_path(hint, disk, path, ret_error);
    }
    if (after(ref, "live:") == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "'%s' is no frozen view of a file", ref);
    }
    snprintf(path, FAR_FILE_PATH_MAX, "%s", disk->locator);
    return FAR_ADAPTER_OK;
}
