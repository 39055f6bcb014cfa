/* A source and a target engine in one process: see engine_pair.h. */
#include "engine_pair.h"

#include "adapters/adapters.h"
#include "until.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

static void must(int rc, const struct far_error *err)
{
    if (rc != 0) {
        fprintf(stderr, "# engine_pair: %s\n", err->message);
        abort();
    }
}

const char *pair_path(const struct engine_pair *pair, const char *name, char *path, size_t size)
{
    snprintf(path, size, "%s/%s", pair->dir, name);
    return path;
}

static void on_report(void *arg, const struct far_engine_report *report)
{
    struct engine_pair *pair = arg;
    pthread_mutex_lock(&pair->mutex);
    if (report->state == FAR_ENGINE_RUNNING) {
        pair->running_count++;
        pair->running_done[report->task % 8] = report->bytes_done;
        pair->running_sent[report->task % 8] = report->bytes_sent;
    } else {
        struct pair_report *end = &pair->ends[pair->end_count++ % PAIR_REPORTS];
        end->report = *report;
        size_t count = report->disk_count < 4 ? report->disk_count : 4;
        if (count > 0) {
            memcpy(end->disks, report->disks, count * sizeof end->disks[0]);
        }
        end->report.disks = end->disks;
    }
    pthread_cond_broadcast(&pair->reported);
    pthread_mutex_unlock(&pair->mutex);
}

static struct pair_report *find(struct engine_pair *pair, uint64_t job, uint64_t task, uint64_t attempt)
{
    for (size_t i = 0; i < PAIR_REPORTS && i < pair->end_count; i++) {
        struct far_engine_report *r = &pair->ends[i].report;
        if (r->job_id == job && r->task == task && r->attempt == attempt) {
            return &pair->ends[i];
        }
    }
    return NULL;
}

bool pair_ended(struct engine_pair *pair, uint64_t job, uint64_t task, uint64_t attempt)
{
    pthread_mutex_lock(&pair->mutex);
    bool ended = find(pair, job, task, attempt) != NULL;
    pthread_mutex_unlock(&pair->mutex);
    return ended;
}

struct far_engine_report pair_wait(struct engine_pair *pair, uint64_t job, uint64_t task, uint64_t attempt)
{
    struct timespec at;
    clock_gettime(CLOCK_REALTIME, &at);
    at.tv_sec += PAIR_WAIT_MS / 1000 * far_test_slow();
    pthread_mutex_lock(&pair->mutex);
    struct pair_report *end;
    while ((end = find(pair, job, task, attempt)) == NULL) {
        if (pthread_cond_timedwait(&pair->reported, &pair->mutex, &at) != 0) {
            fprintf(stderr, "# engine_pair: job %llu task %llu attempt %llu never ended\n", (unsigned long long)job,
                    (unsigned long long)task, (unsigned long long)attempt);
            abort();
        }
    }
    struct far_engine_report report = end->report;
    pthread_mutex_unlock(&pair->mutex);
    return report;
}

static void make_dir(const struct engine_pair *pair, const char *name)
{
    char path[300];
    mkdir(pair_path(pair, name, path, sizeof path), 0700);
}

void pair_init(struct engine_pair *pair, const char *name, const struct far_engine_config *config)
{
    const char *tmp = getenv("TMPDIR");
    char path[300];
    memset(pair, 0, sizeof *pair);
    snprintf(pair->dir, sizeof pair->dir, "%.120s/engine-%.40s-XXXXXX", tmp != NULL ? tmp : "/tmp", name);
    if (mkdtemp(pair->dir) == NULL) {
        perror(pair->dir);
        abort();
    }
    make_dir(pair, "pki");
    make_dir(pair, "source");
    make_dir(pair, "source/cache");
    make_dir(pair, "target");
    far_test_pki_init(&pair->pki, pair_path(pair, "pki", path, sizeof path), 0xfa);
    pair->source_net = far_test_pki_net(&pair->pki, FAR_PARTY_NODE, PAIR_SOURCE);
    pair->target_net = far_test_pki_net(&pair->pki, FAR_PARTY_NODE, PAIR_TARGET);
    pthread_mutex_init(&pair->mutex, NULL);
    pthread_cond_init(&pair->reported, NULL);
    pair->config = *config;
    pair->config.adapters = config->adapters != NULL ? config->adapters : far_adapters();
    pair->job = 1000; /* above the numbers that tests use by themselves: a fence knows the newest job */
    pair_start_target(pair);
    pair_start_source(pair);
}

void pair_start_source(struct engine_pair *pair)
{
    char cache[300];
    struct far_error err;
    struct far_engine_config config = pair->config;
    config.net = pair->source_net;
    config.cache_dir = pair_path(pair, "source/cache", cache, sizeof cache);
    config.listen_address = pair->source_listens ? "127.0.0.1:0" : NULL;
    must(far_engine_new(&config, on_report, pair, &pair->source, &err), &err);
}

void pair_start_target(struct engine_pair *pair)
{
    char vault[300];
    struct far_error err;
    struct far_engine_config config = pair->config;
    config.net = pair->target_net;
    config.vault_dir = pair_path(pair, "target/vault", vault, sizeof vault);
    config.listen_address = "127.0.0.1:0";
    must(far_engine_new(&config, on_report, pair, &pair->target, &err), &err);
}

void pair_stop_source(struct engine_pair *pair)
{
    far_engine_free(pair->source);
    pair->source = NULL;
}

void pair_stop_target(struct engine_pair *pair)
{
    far_engine_free(pair->target);
    pair->target = NULL;
}

void pair_done(struct engine_pair *pair)
{
    char command[300];
    pair_stop_source(pair);
    pair_stop_target(pair);
    far_net_free(pair->source_net);
    far_net_free(pair->target_net);
    far_test_pki_done(&pair->pki);
    pthread_mutex_destroy(&pair->mutex);
    pthread_cond_destroy(&pair->reported);
    snprintf(command, sizeof command, "rm -rf '%s'", pair->dir);
    if (system(command) != 0) {
        fprintf(stderr, "# could not remove %s\n", pair->dir);
    }
}
