/* Freezing files: a reflink clone beside each image where the file system can (btrfs, XFS), else the live disk, marked
 * fuzzy. A clone is exact for one disk; several are cloned one after the other, so more than one disk is fuzzy too.
 *
 * References: "clone:<hint>" and "live:<hint>". The clones themselves are file_clones.c's: made under the name of the hint, so a
 * repeat of the same freeze finds what an earlier one left, removes it and clones anew: nobody has read it yet. Release removes
 * it; what is not there is released. When a view became a point, its clone is kept instead, and its hint is the token since which
 * changes are known. */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

static const char *after(const char *ref, const char *prefix)
{
    size_t len = strlen(prefix);
    return strncmp(ref, prefix, len) == 0 ? ref + len : NULL;
}

const char *far_file_clone_hint(const char *ref)
{
    return after(ref, "clone:");
}

static bool has_lists(const struct far_file *file)
{
    return file != NULL && file->changes[0] != '\0';
}

/* ---- release, keep ---- */

static int remove_clone(const char *hint, const struct far_adapter_disk *disk, bool kept, struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX];
    int outcome = far_file_clone_path(hint, disk, kept, path, ret_error);
    if (outcome == FAR_ADAPTER_OK && unlink(path) != 0 && errno != ENOENT && errno != ENOTDIR) {
        return far_file_fail_errno(ret_error, errno, "remove the clone", path);
    }
    return outcome;
}

/* A view that was kept goes as well: what is released is needed no more. */
int far_file_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                     struct far_adapter_error *ret_error)
{
    const char *clone = far_file_clone_hint(ref), *hint = clone != NULL ? clone : after(ref, "live:");
    int outcome = FAR_ADAPTER_OK;
    for (size_t i = 0; clone != NULL && outcome == FAR_ADAPTER_OK && i < count; i++) {
        outcome = remove_clone(clone, &disks[i], false, ret_error);
        outcome = outcome == FAR_ADAPTER_OK ? remove_clone(clone, &disks[i], true, ret_error) : outcome;
    }
    for (size_t i = 0; hint != NULL && has_lists(platform) && outcome == FAR_ADAPTER_OK && i < count; i++) {
        outcome = far_file_list_release(platform, hint, &disks[i], ret_error);
    }
    return outcome;
}

int far_file_keep(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                  struct far_adapter_error *ret_error)
{
    const char *hint = far_file_clone_hint(ref);
    int outcome = FAR_ADAPTER_OK;
    if (hint == NULL || has_lists(platform)) { /* nothing is compared with what is here */
        return far_file_release(platform, ref, disks, count, ret_error);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < count; i++) {
        outcome = far_file_clone_keep(hint, &disks[i], ret_error);
    }
    return outcome;
}

/* ---- freeze ---- */

static void sweep(const char *hint, const struct far_adapter_disk *disk)
{
    char stem[FAR_FILE_PATH_MAX];
    if (snprintf(stem, sizeof stem, "%s.farshore-", disk->locator) < (int)sizeof stem) {
        far_file_sweep(stem, hint);
    }
}

static void take_tokens(const struct far_file *file, const char *hint, const struct far_adapter_disk *disk, bool listed,
                        struct far_adapter_found *found)
{
    if (has_lists(file)) {
        far_file_list_freeze(file, hint, disk, found->token);
    } else {
        snprintf(found->token, sizeof found->token, "%s", listed ? hint : "");
    }
}

int far_file_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy,
                    struct far_adapter_error *ret_error)
{
    char clone_ref[128];
    bool cloned = true, listed = true;
    for (size_t i = 0; i < count; i++) {
        int outcome = far_file_probe(platform, &disks[i], &ret_found[i], ret_error);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        sweep(ref_hint, &disks[i]);
    }
    for (size_t i = 0; cloned && i < count; i++) {
        bool can_compare = false;
        cloned = far_file_clone(ref_hint, &disks[i], ret_found[i].identity, &can_compare);
        listed = listed && can_compare;
    }
    snprintf(clone_ref, sizeof clone_ref, "clone:%s", ref_hint);
    if (!cloned) {
        far_file_release(NULL, clone_ref, disks, count, NULL);
    }
    for (size_t i = 0; i < count; i++) {
        take_tokens(platform, ref_hint, &disks[i], cloned && listed, &ret_found[i]);
    }
    snprintf(ret_ref, 128, "%s:%s", cloned ? "clone" : "live", ref_hint);
    *ret_fuzzy = !cloned || count > 1;
    return FAR_ADAPTER_OK;
}

int far_file_frozen_path(const char *ref, const struct far_adapter_disk *disk, char path[FAR_FILE_PATH_MAX],
                         struct far_adapter_error *ret_error)
{
    const char *hint = far_file_clone_hint(ref);
    if (hint != NULL) {
        return far_file_clone_path(hint, disk, false, path, ret_error);
    }
    if (after(ref, "live:") == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "'%s' is no frozen view of a file", ref);
    }
    snprintf(path, FAR_FILE_PATH_MAX, "%s", disk->locator);
    return FAR_ADAPTER_OK;
}
