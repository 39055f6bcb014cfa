/* One question to `farshore-kvm`: see kvm_call.h. Between fork and exec only what is allowed after the fork of a process with threads. */
#define _GNU_SOURCE
#include "adapters/kvm/kvm_call.h"

#include "base/child.h"
#include "base/clock.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

static int find_program(char path[PATH_MAX], struct far_adapter_error *ret_error)
{
    const char *given = getenv("FARSHORE_KVM");
    ssize_t len = given == NULL ? readlink("/proc/self/exe", path, PATH_MAX - 32) : 0;
    if (given != NULL) {
        snprintf(path, PATH_MAX, "%s", given);
    } else if (len > 0) {
        path[len] = '\0';
        *strrchr(path, '/') = '\0';
        char *libs = strrchr(path, '/'); /* a build folder of libtool's */
        if (libs != NULL && strcmp(libs, "/.libs") == 0) {
            *libs = '\0';
        }
        strcat(path, "/farshore-kvm");
    }
    if ((given == NULL && len <= 0) || access(path, X_OK) != 0) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND,
                                "there is no '%.200s': it speaks with libvirt; install it beside farshore-node (a build without "
                                "libvirt-dev has none)",
                                path);
    }
    return FAR_ADAPTER_OK;
}

bool far_adapter_kvm_is_there(void)
{
    char path[PATH_MAX] = "";
    return find_program(path, NULL) == FAR_ADAPTER_OK;
}

_Noreturn static void become(const char *path, const char *const *argv, pid_t parent, int out)
{
    far_child_begin_program(parent); /* of the thread that waits for it */
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    execve(path, (char *const *)argv, environ);
    _exit(127);
}

/* What it says, until it closes its end or the time is over. */
static bool hear(int fd, uint64_t until_ms, char *answer)
{
    size_t have = 0;
    for (;;) {
        uint64_t now_ms = far_clock_monotonic_ms();
        struct pollfd item = {.fd = fd, .events = POLLIN};
        int ready = now_ms < until_ms ? poll(&item, 1, (int)(until_ms - now_ms < 1000 ? until_ms - now_ms : 1000)) : 0;
        if (ready <= 0 && now_ms >= until_ms) {
            return false;
        }
        char spill[512];
        bool room = have < FAR_KVM_ANSWER_MAX - 1;
        ssize_t n = ready > 0 ? read(fd, room ? answer + have : spill, room ? FAR_KVM_ANSWER_MAX - 1 - have : sizeof spill) : -1;
        have += n > 0 && room ? (size_t)n : 0;
        answer[have] = '\0';
        if (n == 0 || (n < 0 && ready > 0 && errno != EINTR && errno != EAGAIN)) {
            return true;
        }
    }
}

/* "fail OUTCOME CLASS words" is its last line, where it failed. */
static int judge(int status, const char *answer, struct far_adapter_error *ret_error)
{
    const char *fail = strncmp(answer, "fail ", 5) == 0 ? answer - 1 : strstr(answer, "\nfail ");
    int outcome, klass, at = 0;
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return FAR_ADAPTER_OK;
    }
    if (fail != NULL && sscanf(fail + 1, "fail %d %d %n", &outcome, &klass, &at) == 2 && at > 0 && outcome > FAR_ADAPTER_OK &&
        outcome <= FAR_ADAPTER_FATAL) {
        return far_adapter_fail(ret_error, outcome, klass, "%.*s", (int)strcspn(fail + 1 + at, "\n"), fail + 1 + at);
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_IO, "farshore-kvm ended by %s %d without a word",
                            WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int far_kvm_call(uint64_t timeout_ms, const char *const *arguments, char *ret_answer, struct far_adapter_error *ret_error)
{
    char path[PATH_MAX] = "";
    const char *argv[FAR_KVM_ARGUMENTS_MAX + 2] = {"farshore-kvm"};
    int fds[2], status = 0;
    pid_t parent = getpid();
    int outcome = find_program(path, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    for (size_t i = 0; arguments[i] != NULL && i < FAR_KVM_ARGUMENTS_MAX; i++) {
        argv[i + 1] = arguments[i];
    }
    pid_t pid = pipe2(fds, O_CLOEXEC) == 0 ? fork() : -2;
    if (pid == 0) {
        become(path, argv, parent, fds[1]);
    }
    if (pid < 0) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "start farshore-kvm: %s", strerror(errno));
        if (pid == -1) {
            close(fds[0]);
            close(fds[1]);
        }
        return outcome;
    }
    setpgid(pid, pid); /* whoever is first */
    close(fds[1]);
    ret_answer[0] = '\0';
    bool whole = hear(fds[0], far_clock_monotonic_ms() + timeout_ms, ret_answer);
    close(fds[0]);
    if (!whole) {
        kill(-pid, SIGKILL);
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    return whole ? judge(status, ret_answer, ret_error)
                 : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_TIMEOUT, "libvirt does not answer '%s' within %llu ms: given up",
                                    arguments[0], (unsigned long long)timeout_ms);
}
