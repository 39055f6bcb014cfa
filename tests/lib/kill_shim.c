/* libkill.so: kills a Farshore program (SIGKILL) right before its n-th step. Preloaded; what a program starts is counted on.
 *
 * A step is what others can see: a name made, moved or removed, a file synced, bytes sent to another program. Each is a
 * line of FAR_KILL_STEPS (64 bytes, so that its size is the count, over several programs); before step FAR_KILL_AT (from 1; 0:
 * never) the program dies, with FAR_KILL_GROUP=1 its process group with it. Other programs (the shell script that libtool puts
 * before a program of the build tree) take no steps.
 *
 * FAR_KILL_UNDER=FOLDER:FOLDER… counts only what is done to files below them, and that a program is started; but by nbdkit and
 * qemu-img, too.
 * FAR_KILL_STOPS=1: it is stopped there (SIGSTOP), and goes on when it is told to. */
#define _GNU_SOURCE 1
#include <dlfcn.h>
#include <fcntl.h>
#include <limits.h>
#include <signal.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <unistd.h>

enum { LINE = 64 };

#define REAL(name) ((__typeof__(&name))(uintptr_t)dlsym(RTLD_NEXT, #name))

static int steps_fd = -1;
static long kill_at;
static const char *folders; /* of FAR_KILL_UNDER; NULL: everywhere */

__attribute__((constructor)) static void start(void)
{
    char self[PATH_MAX] = "";
    const char *steps = getenv("FAR_KILL_STEPS"), *at = getenv("FAR_KILL_AT");
    const char *name = readlink("/proc/self/exe", self, sizeof self - 1) > 0 ? strrchr(self, '/') : "";
    bool is_ours = strstr(name, "farshore") != NULL, is_used = strstr(name, "nbdkit") != NULL || strstr(name, "qemu-img") != NULL;
    folders = getenv("FAR_KILL_UNDER");
    if (steps != NULL && (is_ours || (folders != NULL && is_used))) {
        steps_fd = (int)syscall(SYS_openat, AT_FDCWD, steps, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
        kill_at = at != NULL ? atol(at) : 0;
    }
}

static bool is_under(const char *path)
{
    for (const char *at = folders; at != NULL && path != NULL && *at != '\0';) {
        size_t len = strcspn(at, ":");
        if (strncmp(at, path, len) == 0 && (path[len] == '/' || path[len] == '\0')) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return folders == NULL;
}

static void take_step(const char *what, const char *path)
{
    struct stat info;
    char line[LINE + 1];
    const char *last = path != NULL ? strrchr(path, '/') : NULL;
    if (steps_fd < 0) {
        return;
    }
    snprintf(line, sizeof line, "%-10.10s %-52.52s\n", what, last != NULL ? last + 1 : path != NULL ? path : "");
    if (syscall(SYS_write, steps_fd, line, LINE) != LINE || fstat(steps_fd, &info) != 0) {
        abort();
    }
    if (info.st_size / LINE == kill_at && getenv("FAR_KILL_STOPS") != NULL) {
        kill(getpid(), SIGSTOP);
    } else if (info.st_size / LINE == kill_at) {
        kill(getenv("FAR_KILL_GROUP") != NULL ? 0 : getpid(), SIGKILL);
        pause();
    }
}

static void step(const char *what, const char *path)
{
    if (is_under(path)) {
        take_step(what, path);
    }
}

/* The name of what a descriptor is open on. */
static void step_of(const char *what, int fd)
{
    char link[64], path[PATH_MAX] = "";
    snprintf(link, sizeof link, "/proc/self/fd/%d", fd);
    if (steps_fd >= 0 && readlink(link, path, sizeof path - 1) > 0) {
        step(what, path);
    }
}

static void step_if_socket(int fd)
{
    struct stat info;
    if (steps_fd >= 0 && fstat(fd, &info) == 0 && S_ISSOCK(info.st_mode)) {
        step("send", NULL);
    }
}

#pragma GCC diagnostic ignored "-Wmissing-prototypes"
#pragma GCC diagnostic ignored "-Wredundant-decls"

#define OPEN_LIKE(name, parameters, dir)                                                    \
    int name parameters                                                                     \
    {                                                                                       \
        va_list arguments;                                                                  \
        va_start(arguments, flags);                                                         \
        mode_t mode = (flags & (O_CREAT | O_TMPFILE)) != 0 ? va_arg(arguments, mode_t) : 0; \
        va_end(arguments);                                                                  \
        if ((flags & O_CREAT) != 0) {                                                       \
            step("create", path);                                                           \
        }                                                                                   \
        return (int)syscall(SYS_openat, dir, path, flags, mode);                            \
    }
OPEN_LIKE(open, (const char *path, int flags, ...), AT_FDCWD)
OPEN_LIKE(open64, (const char *path, int flags, ...), AT_FDCWD)
OPEN_LIKE(openat, (int dir, const char *path, int flags, ...), dir)
OPEN_LIKE(openat64, (int dir, const char *path, int flags, ...), dir)

int rename(const char *from, const char *to)
{
    step("rename", from);
    return REAL(rename)(from, to);
}

int unlink(const char *path)
{
    step("unlink", path);
    return REAL(unlink)(path);
}

int mkdir(const char *path, mode_t mode)
{
    step("mkdir", path);
    return REAL(mkdir)(path, mode);
}

int link(const char *from, const char *to)
{
    step("link", to);
    return REAL(link)(from, to);
}

int execve(const char *path, char *const *argv, char *const *environment)
{
    if (folders != NULL) {
        take_step("exec", path);
    }
    return (int)syscall(SYS_execve, path, argv, environment);
}

int fsync(int fd)
{
    step_of("sync", fd);
    return REAL(fsync)(fd);
}

int fdatasync(int fd)
{
    step_of("sync", fd);
    return REAL(fdatasync)(fd);
}

ssize_t write(int fd, const void *data, size_t size)
{
    step_if_socket(fd);
    return REAL(write)(fd, data, size);
}

ssize_t send(int fd, const void *data, size_t size, int flags)
{
    step_if_socket(fd);
    return REAL(send)(fd, data, size, flags);
}
