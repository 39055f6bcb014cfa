/* libpowercut.so: records what a program does to one folder (powercut_log.h). Preloaded; thread-safe; several processes
 * may append to one log (O_APPEND, one writev a record).
 *
 * A write is recorded when it is done, a sync at its begin and at its end: so the tool never takes for durable what the
 * kernel did not promise. Opens, renames and the like hold a lock over call and record, so that their order is true. */
#define _GNU_SOURCE 1
#include "powercut_log.h"

#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

enum { FD_MAX = 65536 };

static char root[PATH_MAX];
static size_t root_len;
static int log_fd = -1;
static int mark_fd = -1; /* what the program writes there is a mark */
static _Atomic uint64_t handles[FD_MAX]; /* 0: not ours; bit 63: opened O_DSYNC */
static _Atomic uint64_t next_handle;
static pthread_mutex_t names = PTHREAD_MUTEX_INITIALIZER;

#define DSYNC_BIT (UINT64_C(1) << 63)
/* The libc's own function, looked up at the first use. */
#define REAL(name) ((__typeof__(&name))real(#name))

static void *real(const char *name)
{
    void *found = dlsym(RTLD_NEXT, name);
    if (found == NULL) {
        abort();
    }
    return found;
}

__attribute__((constructor)) static void start(void)
{
    const char *folder = getenv("FAR_POWERCUT_ROOT");
    const char *log = getenv("FAR_POWERCUT_LOG");
    if (folder == NULL || log == NULL || realpath(folder, root) == NULL) {
        return;
    }
    root_len = strlen(root);
    mark_fd = getenv("FAR_POWERCUT_MARK_FD") != NULL ? atoi(getenv("FAR_POWERCUT_MARK_FD")) : -1;
    log_fd = (int)syscall(SYS_openat, AT_FDCWD, log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
}

static uint64_t append(struct powercut_record *record, const char *path, const char *path2, const void *data)
{
    record->magic = POWERCUT_MAGIC;
    record->path_len = path != NULL ? (uint32_t)strlen(path) : 0;
    record->path2_len = path2 != NULL ? (uint32_t)strlen(path2) : 0;
    struct iovec parts[4] = {
        {.iov_base = record, .iov_len = sizeof *record},
        {.iov_base = (void *)(uintptr_t)path, .iov_len = record->path_len},
        {.iov_base = (void *)(uintptr_t)path2, .iov_len = record->path2_len},
        {.iov_base = (void *)(uintptr_t)data, .iov_len = record->data_len},
    };
    int saved = errno;
    size_t size = sizeof *record + record->path_len + record->path2_len + record->data_len;
    if (syscall(SYS_writev, log_fd, parts, 4) != (ssize_t)size) {
        abort(); /* a log with a hole proves nothing */
    }
    errno = saved;
    return size;
}

static void unsupported(const char *call)
{
    if (log_fd >= 0) {
        struct powercut_record record = {.type = POWERCUT_UNSUPPORTED, .data_len = (uint32_t)strlen(call)};
        append(&record, NULL, NULL, call);
    }
}

/* The path below the root, or NULL when it lies elsewhere. */
static const char *below(const char *path)
{
    if (strncmp(path, root, root_len) != 0 || (path[root_len] != '/' && path[root_len] != '\0')) {
        return NULL;
    }
    return path[root_len] == '/' ? path + root_len + 1 : "";
}

/* Absolute name of dir/path, whose last part need not exist. */
static const char *name_of(int dir, const char *path, char out[PATH_MAX + NAME_MAX + 2])
{
    char whole[2 * PATH_MAX];
    char link[64];
    char base[PATH_MAX] = "";
    if (path[0] != '/' && dir != AT_FDCWD) {
        snprintf(link, sizeof link, "/proc/self/fd/%d", dir);
        ssize_t n = readlink(link, base, sizeof base - 1);
        base[n > 0 ? n : 0] = '\0';
    } else if (path[0] != '/' && getcwd(base, sizeof base) == NULL) {
        return NULL;
    }
    snprintf(whole, sizeof whole, "%s%s%s", base, path[0] != '/' ? "/" : "", path);
    size_t end = strlen(whole);
    while (end > 1 && whole[end - 1] == '/') {
        whole[--end] = '\0';
    }
    char *last = strrchr(whole, '/');
    char parent[PATH_MAX];
    *last = '\0';
    if (realpath(whole[0] != '\0' ? whole : "/", parent) == NULL) {
        return NULL;
    }
    snprintf(out, PATH_MAX + NAME_MAX + 2, "%s/%s", strcmp(parent, "/") == 0 ? "" : parent, last + 1);
    return below(out);
}

static uint64_t handle_of(int fd)
{
    return fd >= 0 && fd < FD_MAX && log_fd >= 0 ? atomic_load(&handles[fd]) : 0;
}

/* After a successful open: is it ours, and what has it done? */
static void opened(int fd, int flags, bool existed)
{
    char link[64];
    char path[PATH_MAX];
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    ssize_t n = readlink(link, path, sizeof path - 1);
    path[n > 0 ? n : 0] = '\0';
    const char *name = below(path);
    struct stat info;
    if (name == NULL || fd >= FD_MAX || fstat(fd, &info) != 0) {
        return;
    }
    uint64_t handle = (uint64_t)getpid() << 32 | (atomic_fetch_add(&next_handle, 1) + 1);
    struct powercut_record record = {.type = POWERCUT_OPEN, .handle = handle};
    record.flags |= !existed ? POWERCUT_CREATED : 0;
    record.flags |= existed && (flags & O_TRUNC) != 0 ? POWERCUT_TRUNCATED : 0;
    record.flags |= S_ISDIR(info.st_mode) ? POWERCUT_FOLDER : 0;
    append(&record, name, NULL, NULL);
    atomic_store(&handles[fd], handle | ((flags & O_DSYNC) != 0 ? DSYNC_BIT : 0));
}

static int open_any(int dir, const char *path, int flags, mode_t mode)
{
    if (log_fd < 0 || (flags & O_TMPFILE) == O_TMPFILE) { /* without a name nothing of it outlives a cut; a name given later is a link */
        return (int)syscall(SYS_openat, dir, path, flags, mode);
    }
    pthread_mutex_lock(&names);
    struct stat info;
    bool existed = fstatat(dir, path, &info, 0) == 0;
    int fd = (int)syscall(SYS_openat, dir, path, flags, mode);
    if (fd >= 0) {
        opened(fd, flags, existed);
    }
    int saved = errno;
    pthread_mutex_unlock(&names);
    errno = saved;
    return fd;
}

#define OPEN_LIKE(name, parameters, dir)                      \
    int name parameters                                       \
    {                                                         \
        va_list arguments;                                    \
        va_start(arguments, flags);                           \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                    \
        return open_any(dir, path, flags, mode);              \
    }

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wredundant-decls"

OPEN_LIKE(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN_LIKE(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN_LIKE(openat, (int dir, const char *path, int flags, ...), dir)
OPEN_LIKE(openat64, (int dir, const char *path, int flags, ...), dir)

int creat(const char *path, mode_t mode)
{
    return open_any(AT_FDCWD, path, O_WRONLY | O_CREAT | O_TRUNC, mode);
}

int close(int fd)
{
    if (fd >= 0 && fd < FD_MAX) {
        atomic_store(&handles[fd], 0);
    }
    return REAL(close)(fd);
}

static void copy_handle(int from, int to)
{
    if (to >= 0 && to < FD_MAX) {
        atomic_store(&handles[to], handle_of(from));
    }
}

int dup(int fd)
{
    int copy = REAL(dup)(fd);
    copy_handle(fd, copy);
    return copy;
}

int dup2(int fd, int to)
{
    int copy = REAL(dup2)(fd, to);
    copy_handle(fd, copy);
    return copy;
}

static void wrote(int fd, const struct iovec *parts, int count, ssize_t done, off_t at, bool synced)
{
    uint64_t handle = handle_of(fd);
    if (handle == 0 || done <= 0) {
        return;
    }
    char *joined = malloc((size_t)done);
    size_t filled = 0;
    for (int i = 0; i < count && filled < (size_t)done; i++) {
        size_t piece = parts[i].iov_len < (size_t)done - filled ? parts[i].iov_len : (size_t)done - filled;
        memcpy(joined + filled, parts[i].iov_base, piece);
        filled += piece;
    }
    struct powercut_record record = {.type = POWERCUT_WRITE, .handle = handle & ~DSYNC_BIT, .offset = (uint64_t)at,
                                     .flags = synced || (handle & DSYNC_BIT) != 0, .data_len = (uint32_t)done};
    append(&record, NULL, NULL, joined);
    free(joined);
}

/* Where a write without an offset went. */
static off_t went_to(int fd, ssize_t done)
{
    return handle_of(fd) != 0 && done > 0 ? lseek(fd, 0, SEEK_CUR) - done : 0;
}

ssize_t write(int fd, const void *data, size_t size)
{
    ssize_t done = REAL(write)(fd, data, size);
    struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};
    wrote(fd, &part, 1, done, went_to(fd, done), false);
    if (fd == mark_fd && log_fd >= 0 && done > 0) {
        size_t length = (size_t)done - (((const char *)data)[done - 1] == '\n');
        struct powercut_record record = {.type = POWERCUT_MARK, .data_len = (uint32_t)length};
        append(&record, NULL, NULL, data);
    }
    return done;
}

ssize_t writev(int fd, const struct iovec *parts, int count)
{
    ssize_t done = REAL(writev)(fd, parts, count);
    wrote(fd, parts, count, done, went_to(fd, done), false);
    return done;
}

#define PWRITE(name, offset_type)                                                        \
    ssize_t name(int fd, const void *data, size_t size, offset_type at)                  \
    {                                                                                    \
        ssize_t done = REAL(name)(fd, data, size, at);                                   \
        struct iovec part = {.iov_base = (void *)(uintptr_t)data, .iov_len = size};      \
        wrote(fd, &part, 1, done, at, false);                                            \
        return done;                                                                     \
    }
PWRITE(pwrite, off_t)
PWRITE(pwrite64, off64_t)

#define PWRITEV(name, offset_type)                                                  \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type at)      \
    {                                                                               \
        ssize_t done = REAL(name)(fd, parts, count, at);                            \
        wrote(fd, parts, count, done, at, false);                                   \
        return done;                                                                \
    }
PWRITEV(pwritev, off_t)
PWRITEV(pwritev64, off64_t)

#define PWRITEV2(name, offset_type)                                                         \
    ssize_t name(int fd, const struct iovec *parts, int count, offset_type at, int flags)   \
    {                                                                                       \
        ssize_t done = REAL(name)(fd, parts, count, at, flags);                             \
        wrote(fd, parts, count, done, at != -1 ? at : went_to(fd, done), (flags & RWF_DSYNC) != 0); \
        return done;                                                                        \
    }
PWRITEV2(pwritev2, off_t)
PWRITEV2(pwritev64v2, off64_t)

static void resized(int fd, uint32_t type, off_t at, off_t length)
{
    uint64_t handle = handle_of(fd) & ~DSYNC_BIT;
    if (handle != 0) {
        struct powercut_record record = {.type = type, .handle = handle, .offset = (uint64_t)at,
                                         .length = (uint64_t)length};
        append(&record, NULL, NULL, NULL);
    }
}

#define FTRUNCATE(name, offset_type)                     \
    int name(int fd, offset_type size)                   \
    {                                                    \
        int rc = REAL(name)(fd, size);                   \
        if (rc == 0) {                                   \
            resized(fd, POWERCUT_TRUNCATE, size, 0);     \
        }                                                \
        return rc;                                       \
    }
FTRUNCATE(ftruncate, off_t)
FTRUNCATE(ftruncate64, off64_t)

#define FALLOCATE(name, offset_type)                                                      \
    int name(int fd, int mode, offset_type at, offset_type length)                        \
    {                                                                                     \
        int rc = REAL(name)(fd, mode, at, length);                                        \
        if (rc == 0 && (mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE)) != 0) {     \
            resized(fd, POWERCUT_PUNCH, at, length);                                      \
        } else if (rc == 0 && mode == 0) {                                                \
            resized(fd, POWERCUT_ALLOCATE, at, length);                                   \
        } else if (rc == 0 && (mode & ~FALLOC_FL_KEEP_SIZE) != 0 && handle_of(fd) != 0) { \
            unsupported("fallocate");                                                     \
        }                                                                                 \
        return rc;                                                                        \
    }
FALLOCATE(fallocate, off_t)
FALLOCATE(fallocate64, off64_t)

#define POSIX_FALLOCATE(name, offset_type)                 \
    int name(int fd, offset_type at, offset_type length)   \
    {                                                      \
        int rc = REAL(name)(fd, at, length);               \
        if (rc == 0) {                                     \
            resized(fd, POWERCUT_ALLOCATE, at, length);    \
        }                                                  \
        return rc;                                         \
    }
POSIX_FALLOCATE(posix_fallocate, off_t)
POSIX_FALLOCATE(posix_fallocate64, off64_t)

/* Begin and end of one sync carry the same number in `length`. */
#define SYNC(name)                                                                                        \
    int name(int fd)                                                                                      \
    {                                                                                                     \
        uint64_t handle = handle_of(fd) & ~DSYNC_BIT;                                                     \
        uint64_t number = atomic_fetch_add(&next_handle, 1) + 1;                                          \
        struct powercut_record record = {.type = POWERCUT_SYNC_BEGIN, .handle = handle, .length = number}; \
        if (handle != 0) {                                                                                \
            append(&record, NULL, NULL, NULL);                                                            \
        }                                                                                                 \
        int rc = REAL(name)(fd);                                                                          \
        record.type = POWERCUT_SYNC_END;                                                                  \
        if (handle != 0 && rc == 0) {                                                                     \
            append(&record, NULL, NULL, NULL);                                                            \
        }                                                                                                 \
        return rc;                                                                                        \
    }
SYNC(fsync)
SYNC(fdatasync)

void sync(void)
{
    REAL(sync)();
    if (log_fd >= 0) {
        struct powercut_record record = {.type = POWERCUT_SYNC_ALL};
        append(&record, NULL, NULL, NULL);
    }
}

int syncfs(int fd)
{
    int rc = REAL(syncfs)(fd);
    if (rc == 0 && log_fd >= 0) {
        struct powercut_record record = {.type = POWERCUT_SYNC_ALL};
        append(&record, NULL, NULL, NULL);
    }
    return rc;
}

static int rename_any(int dir, const char *from, int dir2, const char *to, unsigned flags)
{
    if (log_fd < 0) {
        return (int)syscall(SYS_renameat2, dir, from, dir2, to, flags);
    }
    char one[PATH_MAX + NAME_MAX + 2];
    char two[PATH_MAX + NAME_MAX + 2];
    pthread_mutex_lock(&names);
    const char *name = name_of(dir, from, one);
    const char *name2 = name_of(dir2, to, two);
    int rc = (int)syscall(SYS_renameat2, dir, from, dir2, to, flags);
    if (rc == 0 && name != NULL && name2 != NULL && (flags & ~1u) == 0) {
        struct powercut_record record = {.type = POWERCUT_RENAME};
        append(&record, name, name2, NULL);
    } else if (rc == 0 && (name != NULL || name2 != NULL)) {
        unsupported("rename into or out of the folder");
    }
    int saved = errno;
    pthread_mutex_unlock(&names);
    errno = saved;
    return rc;
}

int rename(const char *from, const char *to)
{
    return rename_any(AT_FDCWD, from, AT_FDCWD, to, 0);
}

int renameat(int dir, const char *from, int dir2, const char *to)
{
    return rename_any(dir, from, dir2, to, 0);
}

int renameat2(int dir, const char *from, int dir2, const char *to, unsigned flags)
{
    return rename_any(dir, from, dir2, to, flags);
}

/* unlink, rmdir, mkdir: one name each. */
static int one_name(uint32_t type, int dir, const char *path, long number, long argument)
{
    char buffer[PATH_MAX + NAME_MAX + 2];
    pthread_mutex_lock(&names);
    const char *name = log_fd >= 0 ? name_of(dir, path, buffer) : NULL;
    int rc = (int)syscall(number, dir, path, argument);
    if (rc == 0 && name != NULL) {
        struct powercut_record record = {.type = type};
        append(&record, name, NULL, NULL);
    }
    int saved = errno;
    pthread_mutex_unlock(&names);
    errno = saved;
    return rc;
}

int unlink(const char *path)
{
    return one_name(POWERCUT_UNLINK, AT_FDCWD, path, SYS_unlinkat, 0);
}

int unlinkat(int dir, const char *path, int flags)
{
    return one_name(POWERCUT_UNLINK, dir, path, SYS_unlinkat, flags);
}

int rmdir(const char *path)
{
    return one_name(POWERCUT_UNLINK, AT_FDCWD, path, SYS_unlinkat, AT_REMOVEDIR);
}

int remove(const char *path)
{
    int rc = unlink(path);
    return rc != 0 && errno == EISDIR ? rmdir(path) : rc;
}

int mkdir(const char *path, mode_t mode)
{
    return one_name(POWERCUT_MKDIR, AT_FDCWD, path, SYS_mkdirat, (long)mode);
}

int mkdirat(int dir, const char *path, mode_t mode)
{
    return one_name(POWERCUT_MKDIR, dir, path, SYS_mkdirat, (long)mode);
}

/* What would escape the record is refused by the tool later. */
int link(const char *from, const char *to)
{
    unsupported("link");
    return REAL(link)(from, to);
}

int linkat(int dir, const char *from, int dir2, const char *to, int flags)
{
    unsupported("linkat");
    return REAL(linkat)(dir, from, dir2, to, flags);
}

int truncate(const char *path, off_t size)
{
    unsupported("truncate");
    return REAL(truncate)(path, size);
}

ssize_t copy_file_range(int in, off64_t *from, int out, off64_t *to, size_t size, unsigned flags)
{
    if (handle_of(out) != 0) {
        errno = ENOSYS; /* callers fall back to read and write */
        return -1;
    }
    return REAL(copy_file_range)(in, from, out, to, size, flags);
}
