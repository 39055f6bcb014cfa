/* A child for what may kill: see child.h. The error comes back through a pipe, as it is: both are of one program. */
#include "base/child.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

void far_child_end_with(pid_t parent)
{
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
}

void far_child_begin_program(pid_t parent)
{
    static const int reset[] = {SIGPIPE, SIGTERM, SIGINT, SIGHUP, SIGCHLD};
    sigset_t none;
    setpgid(0, 0);
    far_child_end_with(parent);
    for (size_t i = 0; i < sizeof reset / sizeof reset[0]; i++) {
        signal(reset[i], SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
}

void far_child_settle(void)
{
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT};
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL); /* it has the parent's locks, too */
    for (size_t i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        signal(deadly[i], SIG_DFL); /* a handler of the parent's could jump back into the parent's code */
    }
}

_Noreturn static void be_child(int fd, int (*work)(void *arg, struct far_error *err), void *arg)
{
    struct far_error result = {0};
    far_child_settle();
    int rc = work(arg, &result);
    result.klass = rc;
    fflush(NULL);
    _exit(write(fd, &result, sizeof result) == (ssize_t)sizeof result ? 0 : 1);
}

/* All of it, or the child died before. */
static bool read_result(int fd, struct far_error *ret_result)
{
    size_t have = 0;
    ssize_t n = 1;
    while (have < sizeof *ret_result && (n > 0 || (n < 0 && errno == EINTR))) {
        n = read(fd, (char *)ret_result + have, sizeof *ret_result - have);
        have += n > 0 ? (size_t)n : 0;
    }
    return have == sizeof *ret_result;
}

int far_child_run(int (*work)(void *arg, struct far_error *err), void *arg, bool *ret_died, struct far_error *err)
{
    struct far_error result = {0};
    int fds[2], status = 0;
    if (ret_died != NULL) {
        *ret_died = false;
    }
    if (pipe(fds) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "make a pipe");
    }
    fflush(NULL); /* the child has copies of what is buffered */
    pid_t pid = fork();
    if (pid == 0) {
        close(fds[0]);
        be_child(fds[1], work, arg);
    }
    int code = errno;
    close(fds[1]);
    bool is_whole = pid > 0 && read_result(fds[0], &result);
    close(fds[0]);
    if (pid < 0) {
        return far_fail_errno(err, FAR_IO, code, "start a child process");
    }
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    if (WIFSIGNALED(status) || !is_whole) {
        if (ret_died != NULL) {
            *ret_died = true;
        }
        return far_fail(err, FAR_CORRUPT, "whoever reads it is ended by signal %d", WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    }
    if (result.klass != 0 && err != NULL) {
        *err = result;
    }
    return result.klass;
}
