/* The file adapter: a disk is a raw image or a block device of this machine, its locator an absolute path.
 *
 * Identity is device, inode and birth time of the file (device number of a block device): another file under the same
 * path is another disk. What changed is known where the file system makes clones whose places can be compared (XFS, btrfs;
 * file_clones.c, file_changed.c), or where another program writes lists ("file?changes=FOLDER", file_list.c); else changed() says
 * RESYNC, the engine compares hashes. */
#define _GNU_SOURCE /* statx */
#include "adapters/file/file_adapter.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fs.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

int far_file_fail_errno(struct far_adapter_error *ret_error, int sys_errno, const char *what, const char *path)
{
    int klass = FAR_IO, outcome = FAR_ADAPTER_RETRY;
    switch (sys_errno) {
    case ENOENT:
    case ENOTDIR:
    case ENXIO:
    case ENODEV:
        klass = FAR_NOT_FOUND;
        outcome = FAR_ADAPTER_FATAL;
        break;
    case EACCES:
    case EPERM:
    case EROFS:
        klass = FAR_DENIED;
        outcome = FAR_ADAPTER_FATAL;
        break;
    case ENAMETOOLONG:
    case ELOOP:
    case EISDIR:
        klass = FAR_INVALID;
        outcome = FAR_ADAPTER_FATAL;
        break;
    case EEXIST:
        klass = FAR_CONFLICT;
        outcome = FAR_ADAPTER_FATAL;
        break;
    case EBUSY:
        klass = FAR_BUSY;
        break;
    case ENOSPC:
    case EDQUOT:
    case EFBIG:
        klass = FAR_LIMIT;
        break;
    default:
        break;
    }
    return far_adapter_fail(ret_error, outcome, klass, "%s '%s': %s", what, path, strerror(sys_errno));
}

static int probe_device(int fd, const char *path, const struct stat *st, struct far_adapter_found *ret_found,
                        struct far_adapter_error *ret_error)
{
    uint64_t size = 0;
    if (ioctl(fd, BLKGETSIZE64, &size) != 0) {
        return far_file_fail_errno(ret_error, errno, "ask for the size of", path);
    }
    ret_found->size_bytes = size;
    snprintf(ret_found->identity, sizeof ret_found->identity, "device:%u:%u", major(st->st_rdev), minor(st->st_rdev));
    return FAR_ADAPTER_OK;
}

int far_file_probe_fd(int fd, const char *path, struct far_adapter_found *ret_found,
                      struct far_adapter_error *ret_error)
{
    struct stat st;
    struct statx stx;
    if (fstat(fd, &st) != 0) {
        return far_file_fail_errno(ret_error, errno, "look at", path);
    }
    if (S_ISBLK(st.st_mode)) {
        return probe_device(fd, path, &st, ret_found, ret_error);
    }
    if (!S_ISREG(st.st_mode)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "'%s' is neither a regular file nor a block device", path);
    }
    long long born_s = 0, born_ns = 0;
    if (statx(fd, "", AT_EMPTY_PATH, STATX_BTIME, &stx) == 0 && (stx.stx_mask & STATX_BTIME) != 0) {
        born_s = stx.stx_btime.tv_sec;
        born_ns = stx.stx_btime.tv_nsec;
    }
    ret_found->size_bytes = (uint64_t)st.st_size;
    snprintf(ret_found->identity, sizeof ret_found->identity, "file:%u:%u:%llu:%lld.%09lld", major(st.st_dev),
             minor(st.st_dev), (unsigned long long)st.st_ino, born_s, born_ns);
    return FAR_ADAPTER_OK;
}

int far_file_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                   struct far_adapter_error *ret_error)
{
    int fd = open(disk->locator, O_RDONLY | O_NONBLOCK | O_CLOEXEC); /* of a pipe it would wait for a writer */
    if (fd < 0) {
        return far_file_fail_errno(ret_error, errno, "open the disk", disk->locator);
    }
    struct far_adapter_found found = {0};
    int outcome = far_file_probe_fd(fd, disk->locator, &found, ret_error);
    close(fd);
    if (outcome == FAR_ADAPTER_OK && found.size_bytes == 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT, "the disk '%s' is empty: it has 0 bytes",
                                disk->locator);
    }
    if (outcome == FAR_ADAPTER_OK) {
        *ret_found = found;
    }
    return outcome;
}

/* A device says nothing of it: the time of its node is not that of its bytes. */
static int file_written(void *platform, const struct far_adapter_disk *disk, uint64_t *ret_ms, struct far_adapter_error *ret_error)
{
    struct stat st;
    (void)platform;
    if (stat(disk->locator, &st) != 0) {
        return far_file_fail_errno(ret_error, errno, "look at", disk->locator);
    }
    bool is_file = S_ISREG(st.st_mode) && st.st_mtim.tv_sec > 0;
    *ret_ms = is_file ? (uint64_t)st.st_mtim.tv_sec * 1000 + (uint64_t)st.st_mtim.tv_nsec / 1000000 : 0;
    return FAR_ADAPTER_OK;
}

static int file_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since,
                        uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                        uint64_t *ret_next, struct far_adapter_error *ret_error)
{
    struct far_file *file = platform;
    int base, now;
    if (max == 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a page of no extents");
    }
    if (file != NULL && file->changes[0] != '\0') {
        return far_file_list_changed(file, ref, disk, since, offset, ret_extents, max, ret_count, ret_next, ret_error);
    }
    int outcome = far_file_clone_pair(ref, disk, since, &base, &now, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        outcome = far_file_clones_differ(base, now, disk->locator, offset, ret_extents, max, ret_count, ret_next, ret_error);
        close(base);
        close(now);
    }
    return outcome;
}

/* ---- the platform ---- */

static int set(struct far_file *file, const char *line, size_t len, struct far_adapter_error *ret_error)
{
    static const char key[] = "changes=";
    size_t key_len = sizeof key - 1;
    if (len <= key_len || strncmp(line, key, key_len) != 0 || len - key_len >= sizeof file->changes) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the adapter file has no setting '%.*s'; there is: changes=FOLDER", (int)(len < 200 ? len : 200),
                                line);
    }
    memcpy(file->changes, line + key_len, len - key_len);
    file->changes[len - key_len] = '\0';
    return FAR_ADAPTER_OK;
}

static int file_open(const char *config, void **ret_platform, struct far_adapter_error *ret_error)
{
    struct far_file *file = calloc(1, sizeof *file);
    int outcome = file != NULL ? FAR_ADAPTER_OK : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    while (outcome == FAR_ADAPTER_OK && *config != '\0') {
        size_t len = strcspn(config, "\n");
        outcome = len > 0 ? set(file, config, len, ret_error) : FAR_ADAPTER_OK;
        config += len + (config[len] == '\n');
    }
    if (outcome != FAR_ADAPTER_OK) {
        free(file);
        return outcome;
    }
    pthread_mutex_init(&file->mutex, NULL);
    *ret_platform = file;
    return FAR_ADAPTER_OK;
}

static void file_close(void *platform)
{
    struct far_file *file = platform;
    if (file != NULL) {
        pthread_mutex_destroy(&file->mutex);
        free(file);
    }
}

static const struct far_adapter_inventory inventory = {
    .version = FAR_ADAPTER_INVENTORY_VERSION, .probe = far_file_probe, .written = file_written};

static const struct far_adapter_changes changes = {
    .version = FAR_ADAPTER_VERSION,
    .survives_node = true, /* a clone is a file; the live disk is there anyway */
    .freeze = far_file_freeze,
    .release = far_file_release,
    .changed = file_changed,
    .keep = far_file_keep,
};

const struct far_adapter far_adapter_file = {
    .version = FAR_ADAPTER_VERSION,
    .name = "file",
    .open = file_open,
    .close = file_close,
    .inventory = &inventory,
    .changes = &changes,
    .bytes = &far_file_bytes,
};
