/* Running farshored for what needs a server's own folder: cluster init, cluster join, log verify --dir. It is looked for
 * beside this program (also in the build tree), then on PATH. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include "cli.h"

#include <errno.h>
#include <spawn.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

extern char **environ;

static bool beside(char *path)
{
    static const char *const places[] = {"/farshored", "/../server/farshored", "/../../server/farshored"};
    char dir[PATH_BYTES - 64];
    ssize_t len = readlink("/proc/self/exe", dir, sizeof dir - 1);
    if (len <= 0) {
        return false;
    }
    dir[len] = '\0';
    *strrchr(dir, '/') = '\0';
    for (size_t i = 0; i < sizeof places / sizeof places[0]; i++) {
        snprintf(path, PATH_BYTES, "%s%s", dir, places[i]);
        if (access(path, X_OK) == 0) {
            return true;
        }
    }
    return false;
}

/* out_fd: what it prints; -1: where this program prints. */
static int spawn(const char **argv, int out_fd, int *ret_status, struct far_error *err)
{
    char path[PATH_BYTES] = "farshored";
    posix_spawn_file_actions_t actions;
    pid_t child;
    int status = 0;
    if (!beside(path)) {
        snprintf(path, sizeof path, "farshored");
    }
    argv[0] = path;
    fflush(NULL);
    int failed = posix_spawn_file_actions_init(&actions);
    if (failed == 0) {
        failed = out_fd >= 0 ? posix_spawn_file_actions_adddup2(&actions, out_fd, STDOUT_FILENO) : 0;
        failed = failed != 0 ? failed : posix_spawnp(&child, path, &actions, NULL, (char *const *)argv, environ);
        posix_spawn_file_actions_destroy(&actions);
    }
    if (failed != 0) {
        return far_fail_errno(err, FAR_NOT_FOUND, failed, "run farshored (the server must be installed on this machine)");
    }
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return far_fail_errno(err, FAR_INTERNAL, errno, "wait for farshored");
        }
    }
    *ret_status = WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
    return 0;
}

int cli_spawn_farshored(const char **argv, int *ret_status, struct far_error *err)
{
    return spawn(argv, -1, ret_status, err);
}

static int call(const char **argv, int out_fd, struct far_error *err)
{
    int status = 0, rc = spawn(argv, out_fd, &status, err);
    if (rc != 0 || status == 0) {
        return rc;
    }
    for (int klass = -1; klass >= FAR_CLASS_MIN; klass--) {
        if (far_class_info(klass)->exit_code == status) {
            return far_fail(err, klass, "farshored %s failed; it says above why", argv[1]);
        }
    }
    return far_fail(err, FAR_INTERNAL, "farshored %s ended with status %d", argv[1], status);
}

int cli_call_farshored(const char **argv, struct far_error *err)
{
    return call(argv, -1, err);
}

/* All that is in the file, and a 0. */
static int read_told(int fd, struct far_buf *text, struct far_error *err)
{
    struct stat st;
    if (fstat(fd, &st) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "read what farshored says");
    }
    uint8_t *room = far_buf_reserve(text, (size_t)st.st_size + 1);
    if (room == NULL) {
        return far_fail(err, FAR_LIMIT, "farshored says more than there is room for: %lld bytes", (long long)st.st_size);
    }
    if (pread(fd, room, (size_t)st.st_size, 0) != (ssize_t)st.st_size) {
        return far_fail_errno(err, FAR_IO, errno, "read what farshored says");
    }
    room[st.st_size] = '\0';
    text->len += (size_t)st.st_size + 1;
    return 0;
}

int cli_read_farshored(const char **argv, struct far_buf *text, struct far_error *err)
{
    int fd = memfd_create("farshore-told", MFD_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "make room for what farshored says");
    }
    int rc = call(argv, fd, err);
    rc = rc != 0 ? rc : read_told(fd, text, err);
    close(fd);
    return rc;
}
