/* Reflink clones beside an image: <image>.farshore-<hint> is the view of a cycle, <image>.farshore-base-<hint> the one that is
 * kept, at most one a disk, to see what changed since.
 *
 * A clone is durable before anybody reads it: what is proven must still be in it after a power cut, or a later comparison would
 * call unchanged what the cut undid. It bears its origin and its own time of change in the extended attribute
 * user.farshore.view; a clone of another file, or one that was written to, is not compared with.
 *
 * A clone whose node died is found by its name when the next view of the disk is made. An older attempt of the same task can be
 * needed by nobody: the log took or refused its report for good. One of an older job may still be read by it if two plans protect
 * the same image, so it goes only when nobody has it open (readers hold a shared lock) and it is a day old; should it have been
 * needed all the same, that job fails and says that its view is gone. */
#include "adapters/file/file_adapter.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>
#include <sys/xattr.h>
#include <time.h>
#include <unistd.h>

#ifndef XFS_SUPER_MAGIC
#define XFS_SUPER_MAGIC 0x58465342
#endif

enum { MARK_MAX = 256, NAME_BYTES_MAX = 256, ABANDONED_S = 24 * 3600 };

static const char mark_name[] = "user.farshore.view";

int far_file_clone_path(const char *hint, const struct far_adapter_disk *disk, bool kept, char path[FAR_FILE_PATH_MAX],
                        struct far_adapter_error *ret_error)
{
    int n = snprintf(path, FAR_FILE_PATH_MAX, "%s.farshore-%s%s", disk->locator, kept ? "base-" : "", hint);
    if (n < 0 || n >= FAR_FILE_PATH_MAX || strchr(hint, '/') != NULL || hint[0] == '\0') {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the path of the disk '%s' is too long",
                                disk->name);
    }
    return FAR_ADAPTER_OK;
}

int far_file_sync_folder(const char *path)
{
    char folder[FAR_FILE_PATH_MAX];
    snprintf(folder, sizeof folder, "%s", path);
    char *slash = strrchr(folder, '/');
    if (slash == NULL) {
        return 0;
    }
    slash[slash == folder] = '\0';
    int fd = open(folder, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    int rc = fd >= 0 ? fsync(fd) : 0;
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* ---- making ---- */

static bool mark_text(int fd, const char *identity, char text[MARK_MAX])
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return false;
    }
    int n = snprintf(text, MARK_MAX, "1 %s %lld %lld.%09ld", identity, (long long)st.st_size, (long long)st.st_mtim.tv_sec,
                     st.st_mtim.tv_nsec);
    return n > 0 && n < MARK_MAX;
}

/* Only where a physical place is known to hold one thing at a time; some network file systems make their places up. */
static bool places_are_real(int fd)
{
    struct statfs fs;
    return fstatfs(fd, &fs) == 0 && (fs.f_type == XFS_SUPER_MAGIC || fs.f_type == BTRFS_SUPER_MAGIC);
}

bool far_file_clone(const char *hint, const struct far_adapter_disk *disk, const char *identity, bool *ret_listed)
{
    char path[FAR_FILE_PATH_MAX], text[MARK_MAX];
    if (far_file_clone_path(hint, disk, false, path, NULL) != FAR_ADAPTER_OK) {
        return false;
    }
    int from = open(disk->locator, O_RDONLY | O_NONBLOCK | O_CLOEXEC);
    if (from < 0) {
        return false;
    }
    unlink(path);
    int to = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    bool cloned = to >= 0 && ioctl(to, FICLONE, from) == 0;
    bool listed = cloned && places_are_real(to) && mark_text(to, identity, text) &&
                  fsetxattr(to, mark_name, text, strlen(text), 0) == 0;
    cloned = cloned && fsync(to) == 0;
    if (to >= 0) {
        close(to);
    }
    close(from);
    if (!cloned && to >= 0) {
        unlink(path);
    }
    *ret_listed = listed;
    return cloned;
}

/* ---- names ---- */

struct numbers {
    unsigned long long job, task, attempt;
};

static bool numbers_of(const char *hint, struct numbers *ret)
{
    char again[80];
    struct numbers numbers;
    if (strlen(hint) > 64 || sscanf(hint, "%llu-%llu-%llu", &numbers.job, &numbers.task, &numbers.attempt) != 3) {
        return false;
    }
    snprintf(again, sizeof again, "%llu-%llu-%llu", numbers.job, numbers.task, numbers.attempt);
    *ret = numbers;
    return strcmp(again, hint) == 0;
}

typedef void each_fn(const char *path, const char *rest, const void *arg);

/* Calls back for each file whose path begins with stem, with what follows it. */
static void each_with(const char *stem, each_fn *each, const void *arg)
{
    char folder[FAR_FILE_PATH_MAX], path[FAR_FILE_PATH_MAX];
    const char *slash = strrchr(stem, '/');
    size_t len = slash != NULL ? strlen(slash + 1) : 0;
    if (slash == NULL || len == 0) {
        return;
    }
    snprintf(folder, sizeof folder, "%.*s", (int)(slash == stem ? 1 : slash - stem), stem);
    DIR *dir = opendir(folder);
    for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
        if (strncmp(entry->d_name, slash + 1, len) == 0 &&
            snprintf(path, sizeof path, "%s%s", stem, entry->d_name + len) < (int)sizeof path) {
            each(path, entry->d_name + len, arg);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
}

static bool abandoned(const char *path)
{
    struct stat st;
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_NONBLOCK | O_CLOEXEC);
    bool old = fd >= 0 && fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && time(NULL) - st.st_mtim.tv_sec > ABANDONED_S &&
               flock(fd, LOCK_EX | LOCK_NB) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return old;
}

static void sweep_one(const char *path, const char *rest, const void *arg)
{
    const struct numbers *now = arg;
    struct numbers then;
    if (!numbers_of(rest, &then)) {
        return;
    }
    bool superseded = then.job == now->job && then.task == now->task && then.attempt < now->attempt;
    if (superseded || (then.job < now->job && abandoned(path))) {
        unlink(path);
    }
}

void far_file_sweep(const char *stem, const char *hint)
{
    struct numbers now;
    if (numbers_of(hint, &now)) {
        each_with(stem, sweep_one, &now);
    }
}

/* ---- keeping ---- */

static void drop_other(const char *path, const char *rest, const void *arg)
{
    struct numbers numbers;
    if (strcmp(rest, arg) != 0 && numbers_of(rest, &numbers)) {
        unlink(path);
    }
}

int far_file_clone_keep(const char *hint, const struct far_adapter_disk *disk, struct far_adapter_error *ret_error)
{
    char path[FAR_FILE_PATH_MAX], kept[FAR_FILE_PATH_MAX], stem[FAR_FILE_PATH_MAX];
    int outcome = far_file_clone_path(hint, disk, false, path, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? far_file_clone_path(hint, disk, true, kept, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    if (rename(path, kept) != 0 && errno != ENOENT && errno != ENOTDIR) { /* not there: kept already, or never a clone */
        return far_file_fail_errno(ret_error, errno, "keep the clone", path);
    }
    if (far_file_sync_folder(kept) != 0) {
        return far_file_fail_errno(ret_error, errno, "keep the clone", kept);
    }
    snprintf(stem, sizeof stem, "%.4000s.farshore-base-", disk->locator);
    each_with(stem, drop_other, hint);
    return FAR_ADAPTER_OK;
}

/* ---- comparing ---- */

static bool bears_its_mark(int fd, char identity[MARK_MAX])
{
    char text[MARK_MAX] = "", expected[MARK_MAX];
    ssize_t n = fgetxattr(fd, mark_name, text, sizeof text - 1);
    if (n < 3 || strncmp(text, "1 ", 2) != 0) {
        return false;
    }
    snprintf(identity, MARK_MAX, "%.*s", (int)strcspn(text + 2, " "), text + 2);
    return mark_text(fd, identity, expected) && strcmp(text, expected) == 0;
}

static int check_pair(int base, int now, const char *locator, struct far_adapter_error *ret_error)
{
    struct stat then_st, now_st;
    char then_identity[MARK_MAX], now_identity[MARK_MAX];
    const char *why = NULL;
    if (fstat(base, &then_st) != 0 || fstat(now, &now_st) != 0) {
        return far_file_fail_errno(ret_error, errno, "look at the clones of", locator);
    }
    if (then_st.st_dev != now_st.st_dev || !places_are_real(now)) {
        why = "the clone that was kept is on another file system";
    } else if (!bears_its_mark(base, then_identity) || !bears_its_mark(now, now_identity)) {
        why = "a clone was written to, or is none of ours";
    } else if (strcmp(then_identity, now_identity) != 0) {
        why = "it is another file now";
    } else if (now_st.st_size < then_st.st_size) {
        why = "it shrank";
    }
    return why == NULL ? FAR_ADAPTER_OK
                       : far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT, "what changed is not known, %s: '%.200s'", why,
                                          locator);
}

static int open_clone(const char *hint, const struct far_adapter_disk *disk, bool kept)
{
    char path[FAR_FILE_PATH_MAX];
    return far_file_clone_path(hint, disk, kept, path, NULL) == FAR_ADAPTER_OK ? open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC)
                                                                               : -1;
}

/* `since` names a view that became a point, so its clone is kept. Where its node died before it could, that is done now. */
static int open_base(const char *since, const struct far_adapter_disk *disk)
{
    struct numbers numbers;
    if (!numbers_of(since, &numbers)) {
        return -1;
    }
    int base = open_clone(since, disk, true), late = base < 0 ? open_clone(since, disk, false) : -1;
    if (late >= 0) {
        close(late);
        base = far_file_clone_keep(since, disk, NULL) == FAR_ADAPTER_OK ? open_clone(since, disk, true) : -1;
    }
    return base;
}

int far_file_clone_pair(const char *ref, const struct far_adapter_disk *disk, const char *since, int *ret_base, int *ret_now,
                        struct far_adapter_error *ret_error)
{
    const char *hint = far_file_clone_hint(ref);
    if (hint == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT,
                                "what changed is not known, the file system makes no clones: '%.200s'", disk->locator);
    }
    int now = open_clone(hint, disk, false);
    now = now < 0 ? open_clone(hint, disk, true) : now;
    if (now < 0) {
        return far_file_fail_errno(ret_error, errno, "open the frozen disk", disk->locator);
    }
    int base = open_base(since, disk);
    int outcome = base >= 0 ? check_pair(base, now, disk->locator, ret_error)
                            : far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT,
                                               "what changed is not known, the clone of view '%.60s' is not there: '%.200s'", since,
                                               disk->locator);
    if (outcome != FAR_ADAPTER_OK) {
        close(now);
        if (base >= 0) {
            close(base);
        }
        return outcome;
    }
    *ret_base = base;
    *ret_now = now;
    return FAR_ADAPTER_OK;
}
