/* Scripts: see script_child.h.
 *
 * Three processes where the node is root: the first makes a process namespace and waits, the second is its first process and reaps
 * whoever is left there, the third becomes the script. The kernel kills all of a namespace with its first process. Between fork and exec
 * only what is allowed after the fork of a process with threads. */
#define _GNU_SOURCE
#include "dataplane/script_child.h"

#include "base/buf.h"
#include "base/bytes.h"
#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <grp.h>
#include <openssl/evp.h>
#include <poll.h>
#include <pwd.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <sys/wait.h>
#include <unistd.h>

enum { POLL_MS = 100, NAME_BYTES_MAX = 63, FILE_BYTES_MAX = 16 << 20, ENVIRONMENT_MAX = 16 };

struct identity {
    uid_t uid;
    gid_t gid;
    bool changes; /* the node is root, the script is not */
};

struct running {
    const struct far_script *script;
    struct identity identity;
    char path[2 * PATH_MAX];
    char *environment[ENVIRONMENT_MAX + 1];
    int input; /* the JSON, in memory */
};

/* ---- whether it may run ---- */

static int find_user(const char *user, struct identity *ret, struct far_error *err)
{
    char room[16384];
    struct passwd entry, *found = NULL;
    if (user == NULL || user[0] == '\0') {
        return far_fail(err, FAR_DENIED, "this node has no user to run scripts as: its operator names one, scripts_user in its config");
    }
    int rc = getpwnam_r(user, &entry, room, sizeof room, &found);
    if (found == NULL) {
        return rc != 0 ? far_fail_errno(err, FAR_IO, rc, "look for the user '%s'", user)
                       : far_fail(err, FAR_NOT_FOUND, "there is no user '%s' (scripts_user in the node's config)", user);
    }
    *ret = (struct identity){.uid = entry.pw_uid, .gid = entry.pw_gid, .changes = geteuid() == 0};
    if (entry.pw_uid == 0) {
        return far_fail(err, FAR_DENIED, "scripts do not run as '%s': it is root; name a user who may do less", user);
    }
    return ret->changes || entry.pw_uid == geteuid()
               ? 0
               : far_fail(err, FAR_DENIED, "scripts cannot run as '%s': this node is not root, nor that user", user);
}

static bool is_safe(const struct stat *st)
{
    return (st->st_uid == 0 || st->st_uid == geteuid()) && (st->st_mode & (S_IWGRP | S_IWOTH)) == 0;
}

static int check_folder(const char *dir, struct far_error *err)
{
    struct stat st;
    if (dir == NULL || dir[0] == '\0') {
        return far_fail(err, FAR_DENIED, "this node runs no scripts: its operator names a folder of them, scripts_dir in its config");
    }
    if (stat(dir, &st) != 0 || !S_ISDIR(st.st_mode)) {
        return far_fail_errno(err, FAR_NOT_FOUND, errno != 0 ? errno : ENOTDIR, "open '%s', the folder of scripts", dir);
    }
    return is_safe(&st)
               ? 0
               : far_fail(err, FAR_DENIED, "others than root and the node may write to the folder of scripts '%s': none of it runs", dir);
}

int far_script_check(const char *dir, const char *user, struct far_error *err)
{
    struct identity identity;
    bool has_dir = dir != NULL && dir[0] != '\0', has_user = user != NULL && user[0] != '\0';
    if (!has_dir && !has_user) {
        return 0;
    }
    int rc = check_folder(dir, err);
    return rc == 0 ? find_user(user, &identity, err) : rc;
}

static bool is_good_name(const char *name)
{
    size_t len = strspn(name, "abcdefghijklmnopqrstuvwxyz0123456789._-");
    return len > 0 && len <= NAME_BYTES_MAX && name[len] == '\0' && name[0] != '.';
}

static int check_bytes(int fd, const struct far_script *script, struct far_error *err)
{
    struct far_buf bytes;
    uint8_t found[32] = {0};
    char piece[16384];
    ssize_t n = 1;
    far_buf_init(&bytes, FILE_BYTES_MAX);
    int rc = 0;
    while (rc == 0 && (n = read(fd, piece, sizeof piece)) > 0) {
        rc = far_buf_append(&bytes, piece, (size_t)n);
    }
    if (rc != 0 || n < 0) {
        rc = far_fail(err, rc != 0 ? FAR_LIMIT : FAR_IO, "the script '%s' cannot be read, or is too long", script->name);
    } else {
        char is[65], wanted[65];
        bool hashed = EVP_Digest(bytes.data, bytes.len, found, NULL, EVP_sha256(), NULL) == 1;
        far_hex_encode(found, sizeof found, is);
        far_hex_encode(script->sha256, sizeof found, wanted);
        rc = hashed && memcmp(found, script->sha256, sizeof found) == 0
                 ? 0
                 : far_fail(err, FAR_CORRUPT, "the script '%s' on this node is not the one that the plan names: SHA-256 %s, not %s",
                            script->name, is, wanted);
    }
    far_buf_done(&bytes);
    return rc;
}

static int check_file(const struct far_script *script, char *path, size_t size, struct far_error *err)
{
    struct stat st, again;
    if (!is_good_name(script->name)) {
        return far_fail(err, FAR_INVALID, "'%.80s' is no name of a script: letters a-z, digits, '.', '_' and '-'", script->name);
    }
    snprintf(path, size, "%.*s/%s", PATH_MAX, script->dir, script->name);
    int fd = open(path, O_RDONLY | O_NOFOLLOW | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return errno == ENOENT ? far_fail(err, FAR_NOT_FOUND, "there is no script '%s' on this node", script->name)
                               : far_fail_errno(err, FAR_DENIED, errno, "open the script '%s'", path);
    }
    int rc = fstat(fd, &st) == 0 && S_ISREG(st.st_mode) && is_safe(&st)
                 ? 0
                 : far_fail(err, FAR_DENIED, "the script '%s' is no file, or others than root and the node may write to it", path);
    rc = rc == 0 && script->sha256 != NULL ? check_bytes(fd, script, err) : rc;
    if (rc == 0 && (lstat(path, &again) != 0 || again.st_ino != st.st_ino || again.st_dev != st.st_dev)) {
        rc = far_fail(err, FAR_CONFLICT, "the script '%s' was replaced meanwhile", path);
    }
    close(fd);
    return rc;
}

/* ---- what it gets ---- */

static int put_text(struct far_buf *to, const char *key, const char *text)
{
    int rc = far_buf_printf(to, "\"%s\":\"", key);
    for (const char *c = text != NULL ? text : ""; rc == 0 && *c != '\0'; c++) {
        bool escapes = *c == '"' || *c == '\\';
        rc = (unsigned char)*c < 0x20 ? far_buf_printf(to, "\\u%04x", (unsigned char)*c)
             : escapes                ? far_buf_printf(to, "\\%c", *c)
                                      : far_buf_append(to, c, 1);
    }
    return rc == 0 ? far_buf_append_str(to, "\",") : rc;
}

static int make_input(const struct far_script_about *about, int *ret_fd, struct far_error *err)
{
    const struct {
        const char *key, *text;
    } texts[] = {{"kind", about->kind},         {"phase", about->phase},     {"plan", about->plan},
                 {"workload", about->workload}, {"machine", about->machine}, {"address", about->address}};
    struct far_buf json;
    far_buf_init(&json, 16384);
    int rc = far_buf_printf(&json, "{\"job\":%llu,", (unsigned long long)about->job_id);
    for (size_t i = 0; rc == 0 && i < sizeof texts / sizeof texts[0]; i++) {
        rc = put_text(&json, texts[i].key, texts[i].text);
    }
    rc = rc == 0 ? far_buf_printf(&json, "\"isolated\":%s%s%s%s}\n", about->isolated ? "true" : "false",
                                  about->result != NULL ? ",\"result\":\"" : "", about->result != NULL ? about->result : "",
                                  about->result != NULL ? "\"" : "")
                 : rc;
    int fd = rc == 0 ? memfd_create("farshore-script", MFD_CLOEXEC) : -1;
    bool ok = fd >= 0 && write(fd, json.data, json.len) == (ssize_t)json.len && lseek(fd, 0, SEEK_SET) == 0;
    far_buf_done(&json);
    if (!ok) {
        if (fd >= 0) {
            close(fd);
        }
        return far_fail(err, FAR_LIMIT, "no memory to start a script");
    }
    *ret_fd = fd;
    return 0;
}

static void free_environment(struct running *running)
{
    for (size_t i = 0; i < ENVIRONMENT_MAX; i++) {
        free(running->environment[i]);
    }
}

static int make_environment(struct running *running, struct far_error *err)
{
    const struct far_script_about *about = &running->script->about;
    const struct {
        const char *key, *text;
    } texts[] = {{"PHASE", about->phase},     {"PLAN", about->plan},       {"WORKLOAD", about->workload},
                 {"MACHINE", about->machine}, {"ADDRESS", about->address}, {"KIND", about->kind}};
    size_t count = 0;
    bool ok = asprintf(&running->environment[count], "PATH=/usr/local/bin:/usr/bin:/bin") >= 0;
    count += ok;
    ok = ok && asprintf(&running->environment[count], "FARSHORE_JOB=%llu", (unsigned long long)about->job_id) >= 0;
    count += ok;
    for (size_t i = 0; ok && i < sizeof texts / sizeof texts[0]; i++) {
        const char *text = texts[i].text != NULL ? texts[i].text : "";
        ok = asprintf(&running->environment[count], "FARSHORE_%s=%s", texts[i].key, text) >= 0;
        count += ok;
    }
    ok = ok && (about->result == NULL || asprintf(&running->environment[count], "FARSHORE_RESULT=%s", about->result) >= 0);
    count += ok && about->result != NULL;
    running->environment[count] = NULL;
    return ok ? 0 : far_fail(err, FAR_LIMIT, "no memory to start a script");
}

/* ---- its life ---- */

static void bound(int resource, rlim_t most)
{
    struct rlimit limit;
    if (getrlimit((__rlimit_resource_t)resource, &limit) == 0 && limit.rlim_max > most) {
        limit = (struct rlimit){.rlim_cur = most, .rlim_max = most};
        (void)setrlimit((__rlimit_resource_t)resource, &limit);
    }
}

/* The third process. Its own group, so that where there is no namespace the group can be killed. */
_Noreturn static void become_script(const struct running *running, int out)
{
    const struct identity *identity = &running->identity;
    const char *argv[] = {running->path, NULL};
    sigset_t none;
    for (int signal_number = 1; signal_number < 32; signal_number++) {
        signal(signal_number, SIG_DFL);
    }
    sigemptyset(&none);
    sigprocmask(SIG_SETMASK, &none, NULL);
    bound(RLIMIT_CORE, 0);
    bound(RLIMIT_NOFILE, 256);
    bound(RLIMIT_NPROC, 512);
    bound(RLIMIT_FSIZE, (rlim_t)1 << 30);
    bound(RLIMIT_AS, (rlim_t)4 << 30);
    bool ok = dup2(running->input, STDIN_FILENO) >= 0 && dup2(out, STDOUT_FILENO) >= 0 && dup2(out, STDERR_FILENO) >= 0 &&
              syscall(SYS_close_range, 3u, ~0u, 0u) == 0 && chdir("/") == 0;
    umask(077);
    if (ok && identity->changes) {
        ok = setgroups(1, &identity->gid) == 0 && setresgid(identity->gid, identity->gid, identity->gid) == 0 &&
             setresuid(identity->uid, identity->uid, identity->uid) == 0 && setuid(0) != 0;
    }
    ok = ok && prctl(PR_SET_NO_NEW_PRIVS, 1, 0, 0, 0) == 0;
    if (ok) {
        static const char failed[] = " cannot be run: it is no program, or not for that user\n";
        execve(running->path, (char *const *)argv, running->environment);
        bool told = write(STDERR_FILENO, running->path, strlen(running->path)) > 0 &&
                    write(STDERR_FILENO, failed, sizeof failed - 1) > 0;
        (void)told;
    }
    _exit(126);
}

static int status_of(int status)
{
    return WIFEXITED(status) ? WEXITSTATUS(status) : 128 + WTERMSIG(status);
}

/* The first process of the namespace: when the script ends, all that it left goes with this one. */
_Noreturn static void become_first(const struct running *running, pid_t parent, int out)
{
    int status = 0;
    pid_t pid, ended;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != 0 && getppid() != parent) { /* of another namespace: 0 */
        _exit(127);
    }
    pid = fork();
    if (pid == 0) {
        become_script(running, out);
    }
    close(out);
    do {
        ended = waitpid(-1, &status, 0);
    } while (pid > 0 && ended != pid && (ended > 0 || errno == EINTR));
    _exit(pid > 0 ? status_of(status) : 126);
}

_Noreturn static void become_keeper(const struct running *running, pid_t parent, int out)
{
    int status = 0;
    setpgid(0, 0);
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    if (!running->identity.changes || unshare(CLONE_NEWPID) != 0) {
        become_script(running, out); /* its group has to do */
    }
    pid_t self = getpid(), pid = fork();
    if (pid == 0) {
        become_first(running, self, out);
    }
    close(out);
    while (pid > 0 && waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    _exit(pid > 0 ? status_of(status) : 126);
}

/* Keeps the last of what comes. */
static bool hear(int fd, struct far_script_result *result, size_t *used)
{
    char piece[1024];
    ssize_t n = read(fd, piece, sizeof piece);
    if (n > 0) {
        size_t got = (size_t)n, drop = *used + got > FAR_SCRIPT_OUTPUT_MAX ? *used + got - FAR_SCRIPT_OUTPUT_MAX : 0;
        memmove(result->output, result->output + drop, *used - drop);
        memcpy(result->output + *used - drop, piece, got);
        *used += got - drop;
        result->output[*used] = '\0';
    }
    return n > 0 || (n < 0 && (errno == EAGAIN || errno == EINTR));
}

static int attend(const struct far_script *script, pid_t pid, int fd, struct far_script_result *result, struct far_error *err)
{
    uint64_t until_ms = far_clock_monotonic_ms() + script->timeout_ms;
    size_t used = 0;
    int status = 0;
    bool is_gone = false, is_canceled = false, is_open = true;
    while (!is_gone) {
        struct pollfd item = {.fd = is_open ? fd : -1, .events = POLLIN};
        int ready = poll(&item, 1, POLL_MS);
        is_open = is_open && (ready <= 0 || hear(fd, result, &used));
        siginfo_t info = {.si_pid = 0};
        is_gone = (waitid(P_PID, (id_t)pid, &info, WEXITED | WNOHANG | WNOWAIT) != 0 && errno != EINTR) || info.si_pid == pid;
        is_canceled = !is_gone && !script->goes_on(script->arg);
        result->is_late = !is_gone && far_clock_monotonic_ms() >= until_ms;
        if (is_canceled || result->is_late) {
            kill(-pid, SIGKILL);
            break;
        }
    }
    kill(-pid, SIGKILL); /* whom it left behind; the number is taken until it is waited for */
    while (waitpid(pid, &status, 0) < 0 && errno == EINTR) {
    }
    while (is_open && poll(&(struct pollfd){.fd = fd, .events = POLLIN}, 1, 0) > 0 && hear(fd, result, &used)) {
    }
    result->status = is_gone && WIFEXITED(status) ? WEXITSTATUS(status) : -1;
    return is_canceled ? far_fail(err, FAR_CANCELED, "canceled") : 0;
}

static int start(struct running *running, struct far_script_result *result, struct far_error *err)
{
    int fds[2];
    pid_t parent = getpid();
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return far_fail_errno(err, FAR_LIMIT, errno, "make a pipe");
    }
    pid_t pid = fork();
    if (pid == 0) {
        become_keeper(running, parent, fds[1]);
    }
    int code = errno;
    close(fds[1]);
    int rc = pid > 0 ? 0 : far_fail_errno(err, FAR_LIMIT, code, "start a script");
    if (rc == 0) {
        setpgid(pid, pid); /* whoever is first */
        fcntl(fds[0], F_SETFL, O_NONBLOCK);
        rc = attend(running->script, pid, fds[0], result, err);
    }
    close(fds[0]);
    return rc;
}

int far_script_run(const struct far_script *script, struct far_script_result *ret_result, struct far_error *err)
{
    struct running running = {.script = script, .input = -1};
    *ret_result = (struct far_script_result){.status = -1};
    int rc = check_folder(script->dir, err);
    rc = rc == 0 ? find_user(script->user, &running.identity, err) : rc;
    rc = rc == 0 ? check_file(script, running.path, sizeof running.path, err) : rc;
    rc = rc == 0 ? make_environment(&running, err) : rc;
    rc = rc == 0 ? make_input(&script->about, &running.input, err) : rc;
    rc = rc == 0 ? start(&running, ret_result, err) : rc;
    if (running.input >= 0) {
        close(running.input);
    }
    free_environment(&running);
    return rc;
}
