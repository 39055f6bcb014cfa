/* Disks of machines that come up at once: see served.h. Each has a thread, which waits for its child. */
#define _GNU_SOURCE
#include "dataplane/served.h"

#include "base/clock.h"
#include "base/file.h"
#include "dataplane/engine_local.h"
#include "dataplane/use_child.h"
#include "dataplane/use_place.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { READY_MS = 60000, AGAIN_MS = 500, SOCKET_MAX = 107 };

struct far_served {
    struct far_served *next; /* engine->mutex, as what follows */
    uint64_t job_id, workload_id;
    bool stops, is_ready;
    char problem[240]; /* what its last child said */
    /* its own */
    struct far_engine *engine;
    pthread_t thread;
    uint64_t point_id;
    int keys_fd; /* -1: none */
    char disk[64], socket[SOCKET_MAX + 1], pid_file[SOCKET_MAX + 8];
};

static bool goes_on(void *arg, int pid)
{
    struct far_served *served = arg;
    (void)pid;
    bool is_ready = access(served->pid_file, F_OK) == 0;
    pthread_mutex_lock(&served->engine->mutex);
    bool goes = !served->stops;
    if (is_ready && !served->is_ready) {
        served->is_ready = true;
        pthread_cond_broadcast(&served->engine->changed);
    }
    pthread_mutex_unlock(&served->engine->mutex);
    return goes;
}

static void run_once(struct far_served *served)
{
    const struct far_engine_config *config = &served->engine->config;
    char point[24], keys[40], tmp_dir[PATH_MAX];
    struct far_error error = {0};
    bool ended;
    snprintf(point, sizeof point, "%" PRIu64, served->point_id);
    snprintf(keys, sizeof keys, "/proc/self/fd/%d", served->keys_fd);
    const char *argv[] = {config->use_program, "vault", "open", "--vault", config->vault_dir, "--point", point, "--disk", served->disk,
                          "--socket", served->socket, "--pidfile", served->pid_file, served->keys_fd >= 0 ? "--recovery-key" : NULL, keys,
                          NULL};
    struct far_use_child child = {.argv = argv, .tmp_dir = tmp_dir, .keep_fd = served->keys_fd, .goes_on = goes_on, .arg = served};
    unlink(served->pid_file);
    unlink(served->socket);
    int rc = far_use_folder(config->node_dir, tmp_dir, &error);
    rc = rc == 0 ? far_use_child_run(&child, &ended, &error) : rc;
    pthread_mutex_lock(&served->engine->mutex);
    served->is_ready = false;
    snprintf(served->problem, sizeof served->problem, "%.*s", (int)sizeof served->problem - 1, rc != 0 ? error.message : "it ended");
    pthread_cond_broadcast(&served->engine->changed);
    pthread_mutex_unlock(&served->engine->mutex);
}

static void *serve_main(void *arg)
{
    struct far_served *served = arg;
    struct far_engine *engine = served->engine;
    bool goes = true;
    while (goes) {
        run_once(served);
        pthread_mutex_lock(&engine->mutex);
        uint64_t until_ms = far_clock_monotonic_ms() + AGAIN_MS;
        while (!served->stops && far_clock_monotonic_ms() < until_ms) {
            far_engine_wait(engine, AGAIN_MS);
        }
        goes = !served->stops;
        pthread_mutex_unlock(&engine->mutex);
    }
    unlink(served->pid_file);
    unlink(served->socket);
    return NULL;
}

static void served_free(struct far_served *served)
{
    if (served != NULL && served->keys_fd >= 0) {
        close(served->keys_fd);
    }
    free(served);
}

/* engine->mutex is held. */
static struct far_served *find(struct far_engine *engine, const char *socket)
{
    struct far_served *served = engine->served;
    while (served != NULL && strcmp(served->socket, socket) != 0) {
        served = served->next;
    }
    return served;
}

static int start(struct far_attempt *attempt, const char *disk, const char *socket, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct far_served *served = calloc(1, sizeof *served);
    if (served == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to serve a disk");
    }
    served->engine = attempt->engine;
    served->job_id = order->job_id;
    served->workload_id = order->workload_id;
    served->point_id = far_engine_number(attempt->engine, order->point_id);
    snprintf(served->disk, sizeof served->disk, "%.63s", disk);
    snprintf(served->socket, sizeof served->socket, "%.107s", socket);
    snprintf(served->pid_file, sizeof served->pid_file, "%.107s.pid", socket);
    int rc = far_use_keys(attempt, &served->keys_fd, err);
    int failed = rc == 0 ? pthread_create(&served->thread, NULL, serve_main, served) : 0;
    if (rc != 0 || failed != 0) {
        served_free(served);
        return rc != 0 ? rc : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
    }
    pthread_mutex_lock(&attempt->engine->mutex);
    served->next = attempt->engine->served;
    attempt->engine->served = served;
    pthread_mutex_unlock(&attempt->engine->mutex);
    return 0;
}

/* Attempts at one machine's disks exclude each other but for hydrate, which comes when all are there. */
int far_served_begin(struct far_attempt *attempt, const char *disk, const char *path, char ret_socket[108], struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    uint64_t until_ms = far_clock_monotonic_ms() + READY_MS;
    struct far_served *served;
    if (engine->config.use_program == NULL || engine->config.node_dir == NULL || engine->config.vault_dir == NULL) {
        return far_fail(err, FAR_DENIED, "this node serves no points: it has no vault");
    }
    if (snprintf(ret_socket, SOCKET_MAX + 1, "%s.sock", path) > SOCKET_MAX) {
        return far_fail(err, FAR_INVALID, "'%s' is too long for a socket beside it: at most %d bytes; give recovery_dir a shorter name",
                        path, SOCKET_MAX - 5);
    }
    pthread_mutex_lock(&engine->mutex);
    bool is_begun = find(engine, ret_socket) != NULL;
    pthread_mutex_unlock(&engine->mutex);
    int rc = is_begun ? 0 : start(attempt, disk, ret_socket, err);
    pthread_mutex_lock(&engine->mutex);
    while (rc == 0 && (served = find(engine, ret_socket)) != NULL && !served->is_ready) {
        if (far_clock_monotonic_ms() >= until_ms || served->problem[0] != '\0') {
            rc = far_fail(err, FAR_TIMEOUT, "disk '%s' is not served from the vault: %s", disk,
                          served->problem[0] != '\0' ? served->problem : "nobody says why");
            served->problem[0] = '\0'; /* it is tried again */
        } else {
            far_engine_wait(engine, AGAIN_MS);
        }
        rc = rc == 0 && far_attempt_stopped(attempt) ? far_fail(err, FAR_CANCELED, "canceled") : rc;
    }
    pthread_mutex_unlock(&engine->mutex);
    return rc;
}

static bool image_goes_on(void *arg, int pid)
{
    (void)pid;
    return !far_attempt_stopped(arg);
}

int far_served_image(struct far_attempt *attempt, const char *path, const char *socket, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    char part[PATH_MAX], backing[SOCKET_MAX + 32], tmp_dir[PATH_MAX], folder[PATH_MAX];
    struct stat st;
    bool ended;
    if (lstat(path, &st) == 0) {
        return 0;
    }
    snprintf(part, sizeof part, "%.*s.part", PATH_MAX - 8, path);
    snprintf(backing, sizeof backing, "nbd+unix:///?socket=%.107s", socket);
    unlink(part);
    struct far_use_child child = {.argv = (const char *const[]){"/usr/bin/qemu-img", "create", "-q", "-f", "qcow2", "-o",
                                                                "cluster_size=65536,compat=1.1", "-F", "raw", "-b", backing, part, NULL},
                                  .tmp_dir = tmp_dir,
                                  .keep_fd = -1,
                                  .goes_on = image_goes_on,
                                  .arg = attempt};
    int rc = far_use_tmp_make(attempt->engine->config.node_dir, order->job_id, order->task, tmp_dir, err);
    rc = rc == 0 ? far_use_child_run(&child, &ended, err) : rc;
    far_use_tmp_remove(tmp_dir);
    if (far_attempt_stopped(attempt)) {
        return far_fail(err, FAR_CANCELED, "canceled");
    }
    int fd = rc == 0 ? open(part, O_RDWR | O_CLOEXEC) : -1;
    if (rc == 0 && (fd < 0 || fsync(fd) != 0)) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", part);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0 && rename(part, path) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "make '%s'", path);
    }
    far_file_dir_of(path, folder, sizeof folder);
    return rc == 0 ? far_file_sync_dir(folder, err) : rc;
}

/* ---- the end ---- */

static bool is_of(const struct far_served *served, uint64_t job_id, uint64_t workload_id)
{
    return job_id == 0 || (served->job_id == job_id && (workload_id == 0 || served->workload_id == workload_id));
}

void far_served_end(struct far_engine *engine, uint64_t job_id, uint64_t workload_id)
{
    struct far_served *ended = NULL;
    pthread_mutex_lock(&engine->mutex);
    for (struct far_served **at = &engine->served; *at != NULL;) {
        struct far_served *served = *at;
        if (is_of(served, job_id, workload_id)) {
            *at = served->next;
            served->stops = true;
            served->next = ended;
            ended = served;
        } else {
            at = &served->next;
        }
    }
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    while (ended != NULL) {
        struct far_served *next = ended->next;
        pthread_join(ended->thread, NULL);
        served_free(ended);
        ended = next;
    }
}

void far_served_end_all(struct far_engine *engine)
{
    far_served_end(engine, 0, 0);
}
