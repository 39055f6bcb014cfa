/* The backups that a server keeps: see backups.h. */
#include "server/backups.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/file.h"
#include "base/logging.h"
#include "log/backup.h"
#include "net/incarnation.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

extern char **environ;

enum { LOOK_MS = 60 * 1000, PATH_BYTES = FAR_SERVER_FILE_MAX + FAR_API_BACKUP_NAME_MAX + 8, KEEP_DEFAULT = 7,
       INTERVAL_DEFAULT_S = 24 * 3600, COPY_BYTES = 256 * 1024, COMMAND_MS = 10 * 60 * 1000 };
static const char suffix[] = ".farbackup";

struct far_backups {
    char dir[FAR_SERVER_FILE_MAX];
    const struct far_server_config *config;
    struct far_net *net;
    struct far_log *log;
    uv_loop_t *loop;
    uv_timer_t timer;
    uv_work_t work; /* a daily one */
    uv_mutex_t lock;
    bool is_making;  /* under the lock */
    bool is_working; /* on the pool; core thread, as what follows */
    bool has_made;   /* the work made one */
    uint64_t due_mono_ms; /* the next one by itself, by the monotonic clock; for this newest one: */
    char newest[FAR_API_BACKUP_NAME_MAX];
    _Atomic bool is_closing; /* also for a command that is waited for on the pool */
    bool timer_closed;
    void (*done)(void *arg);
    void *done_arg;
};

/* ---- names ---- */

static bool parse_name(const char *name, struct far_api_backup *ret)
{
    unsigned long long made, index, server;
    char rest[16] = "";
    if (sscanf(name, "%llu-%llu-%llu%15s", &made, &index, &server, rest) != 4 || strcmp(rest, suffix) != 0 ||
        strlen(name) >= sizeof ret->name) {
        return false;
    }
    *ret = (struct far_api_backup){.made_ms = made, .index = index, .server_id = server};
    snprintf(ret->name, sizeof ret->name, "%s", name);
    return true;
}

static void path_of(const struct far_backups *b, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/%s", b->dir, name);
}

/* By the place in the log: a wall clock may have been anywhere. */
static int newest_first(const void *a, const void *b)
{
    const struct far_api_backup *x = a, *y = b;
    uint64_t one = x->index == y->index ? x->made_ms : x->index, other = x->index == y->index ? y->made_ms : y->index;
    return one == other ? 0 : one < other ? 1 : -1;
}

int far_backups_list(struct far_backups *b, struct far_api_backup list[FAR_API_BACKUPS_MAX], size_t *ret_count,
                     struct far_error *err)
{
    DIR *folder = opendir(b->dir);
    size_t count = 0;
    if (folder == NULL) {
        return far_fail_errno(err, FAR_IO, errno, "read folder '%s'", b->dir);
    }
    for (struct dirent *entry; count < FAR_API_BACKUPS_MAX && (entry = readdir(folder)) != NULL;) {
        struct stat st;
        if (parse_name(entry->d_name, &list[count]) && fstatat(dirfd(folder), entry->d_name, &st, 0) == 0) {
            list[count++].bytes = (uint64_t)st.st_size;
        }
    }
    closedir(folder);
    qsort(list, count, sizeof list[0], newest_first);
    *ret_count = count;
    return 0;
}

/* Leftovers, and what is too old. */
static void tidy(const struct far_backups *b, bool parts)
{
    struct far_api_backup list[FAR_API_BACKUPS_MAX];
    size_t count = 0, keep = b->config->backup_keep != 0 ? b->config->backup_keep : KEEP_DEFAULT;
    char path[PATH_BYTES];
    DIR *folder = parts ? opendir(b->dir) : NULL;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        size_t len = strlen(entry->d_name);
        if (len > 5 && strcmp(entry->d_name + len - 5, ".part") == 0) {
            (void)unlinkat(dirfd(folder), entry->d_name, 0);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    if (far_backups_list((struct far_backups *)(uintptr_t)b, list, &count, NULL) == 0) {
        for (size_t i = keep; i < count; i++) {
            path_of(b, list[i].name, path);
            unlink(path);
        }
    }
}

/* ---- elsewhere ---- */

static int copy_bytes(int from, int to, const char *path, struct far_error *err)
{
    static _Thread_local uint8_t bytes[COPY_BYTES];
    uint64_t at = 0;
    ssize_t n;
    int rc = 0;
    while (rc == 0 && (n = read(from, bytes, sizeof bytes)) > 0) {
        rc = far_file_pwrite(to, bytes, (size_t)n, at, path, err);
        at += (uint64_t)n;
    }
    return rc == 0 && fsync(to) != 0 ? far_fail_errno(err, FAR_IO, errno, "write '%s'", path) : rc;
}

static int copy_to_folder(const struct far_backups *b, const char *name, struct far_error *err)
{
    char from[PATH_BYTES], part[PATH_BYTES + 8], to[PATH_BYTES];
    path_of(b, name, from);
    snprintf(to, sizeof to, "%s/%s", b->config->backup_folder, name);
    snprintf(part, sizeof part, "%s.part", to);
    int in = open(from, O_RDONLY | O_CLOEXEC), out = open(part, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    int rc = in < 0 || out < 0 ? far_fail_errno(err, FAR_IO, errno, "copy the backup to '%s'", to)
                               : copy_bytes(in, out, part, err);
    if (rc == 0 && rename(part, to) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "rename '%s'", part);
    }
    if (in >= 0) {
        close(in);
    }
    if (out >= 0) {
        close(out);
        rc != 0 ? unlink(part) : 0;
    }
    return rc != 0 ? rc : far_file_sync_dir(b->config->backup_folder, err);
}

/* By the shell, with the file's path in FARSHORE_BACKUP. It is ended after COMMAND_MS, or when the server stops. */
static int run_command(const struct far_backups *b, const char *name, struct far_error *err)
{
    char path[PATH_BYTES], variable[PATH_BYTES + 20];
    char shell[] = "sh", option[] = "-c", *argv[] = {shell, option, (char *)(uintptr_t)b->config->backup_command, NULL};
    size_t count = 0;
    int status = 0;
    pid_t child;
    path_of(b, name, path);
    snprintf(variable, sizeof variable, "FARSHORE_BACKUP=%s", path);
    while (environ[count] != NULL) {
        count++;
    }
    char **environment = calloc(count + 2, sizeof *environment);
    if (environment == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to run a command");
    }
    environment[0] = variable;
    memcpy(environment + 1, environ, count * sizeof *environ);
    uint64_t deadline_ms = far_clock_monotonic_ms() + COMMAND_MS;
    int failed = posix_spawn(&child, "/bin/sh", NULL, NULL, argv, environment);
    free(environment);
    if (failed != 0) {
        return far_fail_errno(err, FAR_IO, failed, "run '%s'", b->config->backup_command);
    }
    while (waitpid(child, &status, WNOHANG) == 0) {
        if (far_clock_monotonic_ms() > deadline_ms || b->is_closing) {
            kill(child, SIGKILL);
            (void)waitpid(child, &status, 0);
            break;
        }
        nanosleep(&(struct timespec){.tv_nsec = 50 * 1000 * 1000}, NULL);
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : far_fail(err, FAR_IO, "'%s' did not take the backup (status %d)", b->config->backup_command, status);
}

static void send_elsewhere(const struct far_backups *b, const char *name)
{
    struct far_error err = {0};
    if (b->config->backup_folder[0] != '\0' && copy_to_folder(b, name, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "backup", "%s", err.message);
    }
    if (b->config->backup_command[0] != '\0' && run_command(b, name, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "backup", "%s", err.message);
    }
}

/* ---- making ---- */

static int make(struct far_backups *b, uint64_t events_max, struct far_api_backup *ret, struct far_error *err)
{
    char name[FAR_API_BACKUP_NAME_MAX], path[PATH_BYTES], unnamed[PATH_BYTES];
    struct far_incarnation_id incarnation = far_net_incarnation(b->net);
    struct far_backup_header identity = {.incarnation_epoch = incarnation.epoch,
                                         .incarnation_tag = incarnation.tag,
                                         .server_id = b->config->server_id,
                                         .made_ms = far_clock_wall_ms()};
    memcpy(identity.cluster_uuid, b->config->cluster_uuid, 16);
    snprintf(unnamed, sizeof unnamed, "%s/new.part", b->dir); /* its index is not known yet */
    int rc = far_log_backup(b->log, unnamed, events_max, &identity, err);
    snprintf(name, sizeof name, "%llu-%llu-%llu%s", (unsigned long long)identity.made_ms,
             (unsigned long long)identity.index, (unsigned long long)identity.server_id, suffix);
    path_of(b, name, path);
    if (rc == 0 && rename(unnamed, path) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "rename '%s'", unnamed);
    }
    rc = rc != 0 ? rc : far_file_sync_dir(b->dir, err);
    if (rc == 0) {
        struct stat st;
        parse_name(name, ret);
        ret->bytes = stat(path, &st) == 0 ? (uint64_t)st.st_size : 0;
        tidy(b, false);
        send_elsewhere(b, name);
    }
    return rc;
}

int far_backups_make(struct far_backups *b, uint64_t events_max, struct far_api_backup *ret_backup, struct far_error *err)
{
    uv_mutex_lock(&b->lock);
    bool is_busy = b->is_making;
    b->is_making = true;
    uv_mutex_unlock(&b->lock);
    if (is_busy) {
        return far_fail(err, FAR_BUSY, "another backup is being made");
    }
    int rc = make(b, events_max, ret_backup, err);
    uv_mutex_lock(&b->lock);
    b->is_making = false;
    uv_mutex_unlock(&b->lock);
    return rc;
}

int far_backups_read(struct far_backups *b, const char *name, uint64_t offset, size_t max, struct far_buf *out,
                     struct far_error *err)
{
    char path[PATH_BYTES];
    struct far_api_backup parsed;
    uint8_t *at = far_buf_reserve(out, max);
    if (at == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a backup");
    }
    path_of(b, name, path);
    int fd = parse_name(name, &parsed) ? open(path, O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0) {
        return far_fail(err, FAR_NOT_FOUND, "this server has no backup '%.80s'", name);
    }
    size_t got = 0;
    ssize_t n = 1;
    while (got < max && (n = pread(fd, at + got, max - got, (off_t)(offset + got))) > 0) {
        got += (size_t)n;
    }
    int rc = n < 0 ? far_fail_errno(err, FAR_IO, errno, "read '%s'", path) : 0;
    close(fd);
    out->len += rc == 0 ? got : 0;
    return rc;
}

/* ---- daily ---- */

static uint64_t interval_ms(const struct far_backups *b)
{
    return (b->config->backup_interval_s != 0 ? b->config->backup_interval_s : INTERVAL_DEFAULT_S) * 1000;
}

static void work(uv_work_t *request)
{
    struct far_backups *b = request->data;
    struct far_api_backup made;
    struct far_error err = {0};
    b->has_made = far_backups_make(b, FAR_BACKUPS_DAILY_EVENTS, &made, &err) == 0;
    if (b->has_made) {
        far_logf(FAR_LEVEL_INFO, "backup", "backup '%s' is made, %llu bytes", made.name, (unsigned long long)made.bytes);
    } else if (err.klass != FAR_BUSY) {
        far_logf(FAR_LEVEL_ERROR, "backup", "no backup could be made: %s", err.message);
    }
}

static void end_if_done(struct far_backups *b)
{
    if (b->is_closing && b->timer_closed && !b->is_working) {
        b->done(b->done_arg);
    }
}

static void after_work(uv_work_t *request, int status)
{
    struct far_backups *b = request->data;
    b->is_working = false;
    if (b->has_made) {
        b->due_mono_ms = far_clock_monotonic_ms() + interval_ms(b);
    }
    end_if_done(b);
}

/* The wall clock, which may jump, is asked once: at the start, how old the newest one is; one that is dated later than now counts as
 * old. From then on the monotonic clock counts, anew from each one that somebody asked for. */
static bool is_due(struct far_backups *b)
{
    struct far_api_backup list[FAR_API_BACKUPS_MAX];
    size_t count = 0;
    uint64_t now = far_clock_wall_ms(), mono = far_clock_monotonic_ms();
    if (far_backups_list(b, list, &count, NULL) != 0) {
        return false;
    }
    if (count > 0 && strcmp(b->newest, list[0].name) != 0) {
        bool is_start = b->newest[0] == '\0', is_old = now < list[0].made_ms || now - list[0].made_ms >= interval_ms(b);
        uint64_t age = !is_start ? 0 : is_old ? interval_ms(b) : now - list[0].made_ms;
        b->due_mono_ms = mono + interval_ms(b) - age;
        memcpy(b->newest, list[0].name, sizeof b->newest);
    }
    return count == 0 || mono >= b->due_mono_ms;
}

static void on_timer(uv_timer_t *timer)
{
    struct far_backups *b = timer->data;
    struct far_log_status status;
    far_log_status(b->log, &status);
    if (status.applied_index > 0 && !b->is_working && !b->is_closing && is_due(b) &&
        uv_queue_work(b->loop, &b->work, work, after_work) == 0) {
        b->is_working = true;
    }
}

/* ---- life ---- */

int far_backups_new(const char *dir, const struct far_server_config *config, struct far_net *net, struct far_log *log,
                    uv_loop_t *loop, struct far_backups **ret_backups, struct far_error *err)
{
    struct far_backups *b = calloc(1, sizeof *b);
    if (b == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for backups");
    }
    *b = (struct far_backups){.config = config, .net = net, .log = log, .loop = loop};
    far_server_path(dir, "backups", b->dir);
    int rc = far_file_make_dir(b->dir, err);
    if (rc != 0) {
        free(b);
        return rc;
    }
    uv_mutex_init(&b->lock);
    tidy(b, true);
    rc = uv_timer_init(loop, &b->timer);
    FAR_ASSERT(rc == 0);
    b->timer.data = b->work.data = b;
    uint64_t look_ms = interval_ms(b) / 2 < LOOK_MS ? interval_ms(b) / 2 : LOOK_MS;
    uv_timer_start(&b->timer, on_timer, look_ms, look_ms);
    *ret_backups = b;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_backups *b = handle->data;
    b->timer_closed = true;
    end_if_done(b);
}

void far_backups_close(struct far_backups *b, void (*done)(void *arg), void *arg)
{
    b->is_closing = true;
    b->done = done;
    b->done_arg = arg;
    uv_close((uv_handle_t *)&b->timer, on_timer_closed);
}

void far_backups_free(struct far_backups *b)
{
    if (b != NULL) {
        uv_mutex_destroy(&b->lock);
        free(b);
    }
}
