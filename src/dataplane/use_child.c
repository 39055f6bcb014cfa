/* Children of the node: see use_child.h.
 *
 * Between fork and exec only what is allowed after the fork of a process with threads. The parent reads both pipes until the child is
 * gone; a grandchild that holds them open does not keep it. */
#define _GNU_SOURCE
#include "dataplane/use_child.h"

#include "base/child.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 4096, POLL_MS = 200, END_MS = 10000 /* so long it may take to end when it is asked to */ };

struct output {
    int fd; /* -1: at its end */
    bool is_error;
    size_t length;
    char line[LINE_MAX_BYTES];
};

struct running {
    const struct far_use_child *child;
    pid_t pid;
    struct output outputs[2];
    char last_error[FAR_MESSAGE_MAX];
    bool is_ours; /* last_error is what a command of ours said */
};

/* ---- its life ---- */

_Noreturn static void become(const struct far_use_child *child, char *const *environment, pid_t parent, int out, int error)
{
    far_child_begin_program(parent); /* killed: nbdkit would wait for a client that does not read */
    int nothing = open("/dev/null", O_RDONLY);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    if (child->keep_fd >= 0) {
        fcntl(child->keep_fd, F_SETFD, 0);
    }
    execve(child->argv[0], (char *const *)child->argv, environment);
    _exit(127);
}

/* This process's own, with TMPDIR; to be freed, and only the last string with it (*ret_own). NULL: no memory. */
static char **make_environment(const char *tmp_dir, char **ret_own)
{
    size_t count = 0, kept = 0;
    while (environ[count] != NULL) {
        count++;
    }
    char **list = calloc(count + 2, sizeof *list);
    if (list == NULL || asprintf(ret_own, "TMPDIR=%s", tmp_dir) < 0) {
        free(list);
        return NULL;
    }
    for (size_t i = 0; i < count; i++) {
        if (strncmp(environ[i], "TMPDIR=", 7) != 0) {
            list[kept++] = environ[i];
        }
    }
    list[kept] = *ret_own;
    return list;
}

static int make_pipes(int out[2], int error[2], struct far_error *err)
{
    if (pipe2(out, O_CLOEXEC) != 0) {
        return far_fail_errno(err, FAR_LIMIT, errno, "make a pipe");
    }
    if (pipe2(error, O_CLOEXEC) != 0) {
        int code = errno;
        close(out[0]);
        close(out[1]);
        return far_fail_errno(err, FAR_LIMIT, code, "make a pipe");
    }
    return 0;
}

static int start(struct running *running, struct far_error *err)
{
    int out[2], error[2];
    pid_t parent = getpid();
    char *own = NULL, **environment = make_environment(running->child->tmp_dir, &own);
    int rc = environment != NULL ? make_pipes(out, error, err) : far_fail(err, FAR_LIMIT, "no memory to start a child process");
    if (rc != 0) {
        free(environment);
        free(own);
        return rc;
    }
    running->pid = fork();
    if (running->pid == 0) {
        become(running->child, environment, parent, out[1], error[1]);
    }
    int code = errno;
    free(environment);
    free(own);
    close(out[1]);
    close(error[1]);
    running->outputs[0] = (struct output){.fd = out[0]};
    running->outputs[1] = (struct output){.fd = error[0], .is_error = true};
    if (running->pid < 0) {
        close(out[0]);
        close(error[0]);
        return far_fail_errno(err, FAR_LIMIT, code, "start a child process");
    }
    setpgid(running->pid, running->pid); /* whoever is first */
    fcntl(out[0], F_SETFL, O_NONBLOCK);
    fcntl(error[0], F_SETFL, O_NONBLOCK);
    return 0;
}

/* ---- what it says ---- */

static void take_line(struct running *running, struct output *output)
{
    static const char ours[] = "farshore-node: ";
    const char *text = output->line;
    output->line[output->length] = '\0';
    if (output->is_error && output->length > 0 && !running->is_ours) { /* behind ours there may be the usage */
        running->is_ours = strncmp(text, ours, sizeof ours - 1) == 0;
        text += running->is_ours ? sizeof ours - 1 : 0;
        snprintf(running->last_error, sizeof running->last_error, "%.400s", text);
    }
    if (running->child->line != NULL) {
        running->child->line(running->child->arg, output->is_error, output->line);
    }
    output->length = 0;
}

/* What is there now. */
static void drain(struct running *running, struct output *output)
{
    char bytes[LINE_MAX_BYTES];
    ssize_t n = 0;
    while (output->fd >= 0 && ((n = read(output->fd, bytes, sizeof bytes)) > 0 || (n < 0 && errno == EINTR))) {
        for (ssize_t i = 0; i < n; i++) {
            if (bytes[i] == '\n' || bytes[i] == '\r') { /* qemu-img draws over its line */
                take_line(running, output);
            } else if (output->length < sizeof output->line - 1) {
                output->line[output->length++] = bytes[i];
            }
        }
    }
    if (output->fd >= 0 && (n == 0 || errno != EAGAIN)) {
        if (output->length > 0) {
            take_line(running, output);
        }
        close(output->fd);
        output->fd = -1;
    }
}

static void listen_to(struct running *running, int timeout_ms)
{
    struct pollfd fds[2];
    for (size_t i = 0; i < 2; i++) {
        fds[i] = (struct pollfd){.fd = running->outputs[i].fd, .events = POLLIN};
    }
    (void)poll(fds, 2, timeout_ms);
    for (size_t i = 0; i < 2; i++) {
        drain(running, &running->outputs[i]);
    }
}

/* ---- its end ---- */

/* It is not waited for yet: until then its number, and so that of the group, is nobody else's. */
static bool is_gone(const struct running *running)
{
    siginfo_t info = {.si_pid = 0};
    int rc = waitid(P_PID, (id_t)running->pid, &info, WEXITED | WNOHANG | WNOWAIT);
    return rc == 0 ? info.si_pid == running->pid : errno != EINTR;
}

static int result_of(const struct running *running, int status, struct far_error *err)
{
    const char *said = running->last_error[0] != '\0' ? running->last_error : "it gave no reason";
    if (WIFEXITED(status) && WEXITSTATUS(status) == 0) {
        return 0;
    }
    for (int klass = FAR_INVALID; WIFEXITED(status) && klass >= FAR_CLASS_MIN; klass--) {
        if (far_class_info(klass)->exit_code == WEXITSTATUS(status)) {
            return far_fail(err, klass, "%s", said);
        }
    }
    return far_fail(err, FAR_IO, "%s (%s %d)", said, WIFSIGNALED(status) ? "signal" : "status",
                    WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int far_use_child_run(const struct far_use_child *child, bool *ret_ended, struct far_error *err)
{
    struct running running = {.child = child};
    uint64_t kill_ms = 0;
    bool ended = false;
    int status = 0;
    int rc = start(&running, err);
    if (rc != 0) {
        return rc;
    }
    while (!is_gone(&running)) {
        bool is_silent = running.outputs[0].fd < 0 && running.outputs[1].fd < 0;
        listen_to(&running, is_silent ? POLL_MS / 10 : POLL_MS);
        if (!ended && !child->goes_on(child->arg, running.pid)) {
            ended = true;
            kill_ms = far_clock_monotonic_ms() + END_MS;
            kill(-running.pid, SIGTERM);
        } else if (ended && far_clock_monotonic_ms() > kill_ms) {
            kill(-running.pid, SIGKILL);
        }
    }
    kill(-running.pid, SIGKILL); /* whom it left behind */
    while (waitpid(running.pid, &status, 0) < 0 && errno == EINTR) {
    }
    listen_to(&running, 0);
    for (size_t i = 0; i < 2; i++) {
        if (running.outputs[i].fd >= 0) {
            close(running.outputs[i].fd);
        }
    }
    *ret_ended = ended;
    return ended ? 0 : result_of(&running, status, err);
}
