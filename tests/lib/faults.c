/* Faults by the linker: `--wrap=malloc` turns calls of malloc into __wrap_malloc and offers the libc's as __real_malloc.
 * Each wrapper asks struck() first; see faults.h. Calls that are not armed cost one atomic load. */
#include "faults.h"

#include <errno.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/types.h>
#include <sys/uio.h>

static _Atomic int armed = FAR_FAULT_NONE;
static _Atomic uint64_t seen;
static _Atomic bool fired;
static _Atomic uint64_t strike_at;
static _Atomic bool strike_on;
static _Atomic int strike_errno;
static _Atomic bool shorten;
static _Atomic size_t shorten_to;

static void arm(enum far_fault what, uint64_t nth, int error, bool from)
{
    atomic_store(&armed, FAR_FAULT_NONE);
    strike_at = nth;
    strike_on = from;
    strike_errno = error;
    shorten = false;
    atomic_store(&seen, 0);
    atomic_store(&fired, false);
    atomic_store(&armed, (int)what);
}

void far_fault_arm(enum far_fault what, uint64_t nth, int error)
{
    arm(what, nth, error, false);
}

void far_fault_arm_from(enum far_fault what, uint64_t nth, int error)
{
    arm(what, nth, error, true);
}

void far_fault_arm_short_write(uint64_t nth, size_t bytes)
{
    arm(FAR_FAULT_NONE, nth, 0, false);
    shorten = true;
    shorten_to = bytes;
    atomic_store(&armed, FAR_FAULT_WRITE);
}

bool far_fault_disarm(void)
{
    atomic_store(&armed, FAR_FAULT_NONE);
    return atomic_load(&fired);
}

uint64_t far_fault_count(void)
{
    return atomic_load(&seen);
}

/* Whether this call is to fail; sets errno then. */
static bool struck(enum far_fault what)
{
    if (atomic_load(&armed) != (int)what) {
        return false;
    }
    uint64_t n = atomic_fetch_add(&seen, 1) + 1;
    if (n != strike_at && !(strike_on && n > strike_at)) {
        return false;
    }
    atomic_store(&fired, true);
    if (!shorten) {
        errno = strike_errno;
    }
    return true;
}

/* The wrappers: named by the linker, so nobody declares them. */
#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wredundant-decls"

#define WRAP(kind, type, failure, name, parameters, arguments) \
    type __real_##name parameters;                             \
    type __wrap_##name parameters;                             \
    type __wrap_##name parameters                              \
    {                                                          \
        return struck(kind) ? failure : __real_##name arguments; \
    }

WRAP(FAR_FAULT_ALLOC, void *, NULL, malloc, (size_t size), (size))
WRAP(FAR_FAULT_ALLOC, void *, NULL, calloc, (size_t count, size_t size), (count, size))
WRAP(FAR_FAULT_ALLOC, void *, NULL, realloc, (void *old, size_t size), (old, size))
WRAP(FAR_FAULT_ALLOC, void *, NULL, reallocarray, (void *old, size_t count, size_t size), (old, count, size))
WRAP(FAR_FAULT_ALLOC, char *, NULL, strdup, (const char *text), (text))
WRAP(FAR_FAULT_ALLOC, char *, NULL, strndup, (const char *text, size_t size), (text, size))
WRAP(FAR_FAULT_ALLOC, void *, NULL, aligned_alloc, (size_t alignment, size_t size), (alignment, size))
WRAP(FAR_FAULT_ALLOC, int, strike_errno, posix_memalign, (void **ret, size_t alignment, size_t size),
     (ret, alignment, size))
WRAP(FAR_FAULT_READ, ssize_t, -1, read, (int fd, void *data, size_t size), (fd, data, size))
WRAP(FAR_FAULT_READ, ssize_t, -1, pread, (int fd, void *data, size_t size, off_t at), (fd, data, size, at))
WRAP(FAR_FAULT_READ, ssize_t, -1, preadv, (int fd, const struct iovec *parts, int count, off_t at),
     (fd, parts, count, at))
WRAP(FAR_FAULT_TRUNCATE, int, -1, ftruncate, (int fd, off_t size), (fd, size))
WRAP(FAR_FAULT_TRUNCATE, int, -1, fallocate, (int fd, int mode, off_t at, off_t size), (fd, mode, at, size))
WRAP(FAR_FAULT_TRUNCATE, int, strike_errno, posix_fallocate, (int fd, off_t at, off_t size), (fd, at, size))
WRAP(FAR_FAULT_SYNC, int, -1, fsync, (int fd), (fd))
WRAP(FAR_FAULT_SYNC, int, -1, fdatasync, (int fd), (fd))
WRAP(FAR_FAULT_RENAME, int, -1, rename, (const char *from, const char *to), (from, to))
WRAP(FAR_FAULT_RENAME, int, -1, renameat, (int dir, const char *from, int dir2, const char *to), (dir, from, dir2, to))
WRAP(FAR_FAULT_UNLINK, int, -1, unlink, (const char *path), (path))
WRAP(FAR_FAULT_UNLINK, int, -1, unlinkat, (int dir, const char *path, int flags), (dir, path, flags))
WRAP(FAR_FAULT_UNLINK, int, -1, rmdir, (const char *path), (path))
WRAP(FAR_FAULT_MKDIR, int, -1, mkdir, (const char *path, mode_t mode), (path, mode))
WRAP(FAR_FAULT_MKDIR, int, -1, mkdirat, (int dir, const char *path, mode_t mode), (dir, path, mode))
WRAP(FAR_FAULT_STAT, int, -1, fstat, (int fd, struct stat *ret), (fd, ret))

int __real_open(const char *path, int flags, mode_t mode);
int __wrap_open(const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return struck(FAR_FAULT_OPEN) ? -1 : __real_open(path, flags, mode);
}

int __real_openat(int dir, const char *path, int flags, mode_t mode);
int __wrap_openat(int dir, const char *path, int flags, ...)
{
    va_list arguments;
    va_start(arguments, flags);
    mode_t mode = va_arg(arguments, mode_t);
    va_end(arguments);
    return struck(FAR_FAULT_OPEN) ? -1 : __real_openat(dir, path, flags, mode);
}

/* Writes: fail, or store only a part. */
static size_t part_of(size_t size)
{
    return shorten_to < size ? shorten_to : size;
}

ssize_t __real_write(int fd, const void *data, size_t size);
ssize_t __wrap_write(int fd, const void *data, size_t size)
{
    if (!struck(FAR_FAULT_WRITE)) {
        return __real_write(fd, data, size);
    }
    return shorten ? __real_write(fd, data, part_of(size)) : -1;
}

ssize_t __real_pwrite(int fd, const void *data, size_t size, off_t at);
ssize_t __wrap_pwrite(int fd, const void *data, size_t size, off_t at)
{
    if (!struck(FAR_FAULT_WRITE)) {
        return __real_pwrite(fd, data, size, at);
    }
    return shorten ? __real_pwrite(fd, data, part_of(size), at) : -1;
}

ssize_t __real_writev(int fd, const struct iovec *parts, int count);
ssize_t __wrap_writev(int fd, const struct iovec *parts, int count)
{
    if (!struck(FAR_FAULT_WRITE)) {
        return __real_writev(fd, parts, count);
    }
    return shorten && count > 0 ? __real_write(fd, parts[0].iov_base, part_of(parts[0].iov_len)) : -1;
}

ssize_t __real_pwritev(int fd, const struct iovec *parts, int count, off_t at);
ssize_t __wrap_pwritev(int fd, const struct iovec *parts, int count, off_t at)
{
    if (!struck(FAR_FAULT_WRITE)) {
        return __real_pwritev(fd, parts, count, at);
    }
    return shorten && count > 0 ? __real_pwrite(fd, parts[0].iov_base, part_of(parts[0].iov_len), at) : -1;
}
