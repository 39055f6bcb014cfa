/* The engine: attempts come, run on a thread each, and end; see engine.h.
 *
 * On a good day: far_engine_start copies the order, cancels an older attempt of the task and starts a thread; the
 * thread waits until every earlier attempt that writes the same thing is gone, runs the task and reports its end. A
 * canceled attempt is silenced, its stream shut down, its waits woken; its thread finds out and leaves by itself.
 *
 * Locks, in this order: engine->mutex, attempt->mutex, pool. report_mutex is taken alone and held during the
 * callback. */
#include "dataplane/engine_local.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "base/thread.h"
#include "dataplane/served.h"
#include "dataplane/use_place.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { ORDER_BYTES_MAX = 1024 * 1024, WAIT_MS = 1000 };

/* ---- waiting ---- */

static void cond_init(pthread_cond_t *cond)
{
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_cond_init(cond, &attr);
    pthread_condattr_destroy(&attr);
}

void far_engine_wait(struct far_engine *engine, uint64_t timeout_ms)
{
    struct timespec at = far_clock_monotonic_in(timeout_ms);
    pthread_cond_timedwait(&engine->changed, &engine->mutex, &at);
}

void far_attempt_wait(struct far_attempt *attempt, uint64_t timeout_ms)
{
    if (!atomic_load(&attempt->canceled)) {
        struct timespec at = far_clock_monotonic_in(timeout_ms);
        pthread_cond_timedwait(&attempt->wake, &attempt->mutex, &at);
    }
}

bool far_attempt_stopped(struct far_attempt *attempt)
{
    return atomic_load(&attempt->canceled);
}

int far_attempt_check(struct far_attempt *attempt, struct far_error *err)
{
    return far_attempt_stopped(attempt) ? far_fail(err, FAR_CANCELED, "canceled") : 0;
}

int far_attempt_watch(struct far_attempt *attempt, void (*watch)(void *arg), void *arg, struct far_error *err)
{
    pthread_mutex_lock(&attempt->mutex);
    int rc = watch != NULL ? far_attempt_check(attempt, err) : 0;
    attempt->watch = rc == 0 ? watch : NULL;
    attempt->watch_arg = arg;
    pthread_mutex_unlock(&attempt->mutex);
    return rc;
}

/* ---- visitors ---- */

static struct far_visitor *take_visitor(struct far_attempt *attempt)
{
    struct far_visitor *visitor = attempt->visitors;
    if (visitor != NULL) {
        attempt->visitors = visitor->next;
        atomic_fetch_sub(&attempt->visitor_count, 1);
    }
    return visitor;
}

void far_attempt_visit(struct far_attempt *attempt, struct far_visitor *visitor)
{
    struct far_visitor *oldest = NULL;
    pthread_mutex_lock(&attempt->mutex);
    if (atomic_load(&attempt->visitor_count) >= FAR_ENGINE_VISITORS_MAX) {
        oldest = take_visitor(attempt);
    }
    struct far_visitor **end = &attempt->visitors;
    while (*end != NULL) {
        end = &(*end)->next;
    }
    visitor->next = NULL;
    *end = visitor;
    atomic_fetch_add(&attempt->visitor_count, 1);
    pthread_cond_broadcast(&attempt->wake);
    if (attempt->watch != NULL) {
        attempt->watch(attempt->watch_arg);
    }
    pthread_mutex_unlock(&attempt->mutex);
    far_visitor_free(oldest);
}

struct far_visitor *far_attempt_next_visitor(struct far_attempt *attempt)
{
    pthread_mutex_lock(&attempt->mutex);
    struct far_visitor *visitor = take_visitor(attempt);
    pthread_mutex_unlock(&attempt->mutex);
    return visitor;
}

bool far_attempt_has_visitor(struct far_attempt *attempt)
{
    return atomic_load(&attempt->visitor_count) > 0;
}

/* ---- attempts ---- */

static bool same_task(const struct far_attempt *attempt, uint64_t job_id, uint64_t task)
{
    return attempt->order.job_id == job_id && attempt->order.task == task;
}

static bool destroys(const struct far_engine_order *order)
{
    return order->kind == FAR_ENGINE_MACHINE && order->machine.operation == FAR_ENGINE_MACHINE_DESTROY;
}

static bool hydrates(const struct far_engine_order *order)
{
    return order->kind == FAR_ENGINE_MACHINE && order->machine.operation == FAR_ENGINE_MACHINE_HYDRATE;
}

static bool writes_disks(const struct far_engine_order *order)
{
    return order->kind == FAR_ENGINE_RESTORE || hydrates(order);
}

/* Does it make a disk of the machine that this order takes away? */
static bool writes_for(const struct far_attempt *a, const struct far_engine_order *destroy)
{
    return writes_disks(&a->order) && a->order.job_id == destroy->job_id && a->workload_id == destroy->workload_id;
}

/* Of one machine one thing is done after the other, and its disks go when nobody writes them any more. Under one that runs they are written
 * out beside all else. */
static bool excludes_machine(const struct far_attempt *a, const struct far_attempt *b)
{
    bool is_machine = b->order.kind == FAR_ENGINE_MACHINE;
    if ((hydrates(&a->order) && !destroys(&b->order)) || (hydrates(&b->order) && !destroys(&a->order))) {
        return false;
    }
    return is_machine && ((a->order.kind == FAR_ENGINE_MACHINE && strcmp(a->order.machine.ref, b->order.machine.ref) == 0) ||
                          (destroys(&b->order) && writes_for(a, &b->order)));
}

/* Are the two disks in one place: of one domain, or in one folder? */
static bool shares_place(const char *one, const char *two)
{
    size_t place[2] = {0, 0}, ends[2] = {strcspn(one, "?"), strcspn(two, "?")};
    for (size_t i = 0; i < ends[0]; i++) {
        place[0] = one[i] == '/' ? i : place[0];
    }
    for (size_t i = 0; i < ends[1]; i++) {
        place[1] = two[i] == '/' ? i : place[1];
    }
    return place[0] == place[1] && memcmp(one, two, place[0]) == 0;
}

/* Each view of a machine takes the place of the one before: who compares it, and who seeds a vault with it, wait for each other. */
static bool excludes_view(const struct far_attempt *a, const struct far_attempt *b)
{
    const struct far_attempt *compare = a->order.kind == FAR_ENGINE_COMPARE ? a : b, *seed = compare == a ? b : a;
    bool found = false;
    if (compare->order.kind != FAR_ENGINE_COMPARE || seed->order.kind != FAR_ENGINE_SEED) {
        return false;
    }
    for (size_t i = 0; i < compare->order.disk_count && !found; i++) {
        found = shares_place(compare->order.disks[i].locator, seed->order.locator);
    }
    return found;
}

/* Would both write the same thing? */
static bool excludes(const struct far_attempt *a, const struct far_attempt *b)
{
    return same_task(a, b->order.job_id, b->order.task) ||
           (a->order.kind == b->order.kind && a->order.disk_id == b->order.disk_id &&
            (a->order.kind == FAR_ENGINE_SEND || a->order.kind == FAR_ENGINE_RECEIVE)) ||
           excludes_machine(a, b) || excludes_view(a, b);
}

static void attempt_free(struct far_attempt *attempt)
{
    while (attempt->visitors != NULL) {
        far_visitor_free(take_visitor(attempt));
    }
    pthread_cond_destroy(&attempt->wake);
    pthread_mutex_destroy(&attempt->mutex);
    pthread_mutex_destroy(&attempt->report_mutex);
    far_engine_used_unref(attempt->used);
    explicit_bzero(&attempt->order.domain, sizeof attempt->order.domain);
    if (attempt->order.vault_domains != NULL) {
        explicit_bzero((void *)attempt->order.vault_domains, attempt->order.vault_domain_count * sizeof attempt->order.vault_domains[0]);
    }
    far_arena_done(&attempt->arena);
    free(attempt);
}

/* engine->mutex is held. */
static void attempt_unref_locked(struct far_attempt *attempt)
{
    struct far_engine *engine = attempt->engine;
    if (--attempt->users > 0) {
        return;
    }
    for (struct far_attempt **at = &engine->attempts; *at != NULL; at = &(*at)->next) {
        if (*at == attempt) {
            *at = attempt->next;
            break;
        }
    }
    engine->attempt_count--;
    attempt_free(attempt);
    pthread_cond_broadcast(&engine->changed);
}

void far_attempt_unref(struct far_attempt *attempt)
{
    struct far_engine *engine = attempt->engine;
    pthread_mutex_lock(&engine->mutex);
    attempt_unref_locked(attempt);
    pthread_mutex_unlock(&engine->mutex);
}

/* engine->mutex is held. */
static void attempt_cancel_locked(struct far_attempt *attempt)
{
    pthread_mutex_lock(&attempt->mutex);
    atomic_store(&attempt->canceled, true);
    if (attempt->watch != NULL) {
        attempt->watch(attempt->watch_arg);
    }
    pthread_cond_broadcast(&attempt->wake);
    pthread_mutex_unlock(&attempt->mutex);
    far_pool_wake(attempt->engine->pool_in);
    far_pool_wake(attempt->engine->pool_out);
    far_throttle_wake(attempt->engine->throttle);
    pthread_cond_broadcast(&attempt->engine->changed);
}

/* Who compares is called as who sends is. */
static bool answers_as(enum far_engine_kind own, enum far_engine_kind wanted)
{
    return own == wanted || (own == FAR_ENGINE_COMPARE && wanted == FAR_ENGINE_SEND) ||
           (own == FAR_ENGINE_LEAVES && wanted == FAR_ENGINE_RECEIVE);
}

struct far_attempt *far_engine_find_transfer(struct far_engine *engine, enum far_engine_kind kind, uint64_t job_id,
                                             uint64_t disk_id, uint64_t node_id)
{
    for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        if (answers_as(a->order.kind, kind) && a->order.job_id == job_id && a->order.disk_id == disk_id &&
            a->order.peer_node_id == node_id && !far_attempt_stopped(a) && !atomic_load(&a->ended)) {
            a->users++;
            return a;
        }
    }
    return NULL;
}

/* Wait until those that exclude this one, and came earlier, are gone. */
static int wait_for_turn(struct far_attempt *attempt, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    pthread_mutex_lock(&engine->mutex);
    for (;;) {
        bool excluded = false;
        for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
            excluded = excluded || (a->turn < attempt->turn && !atomic_load(&a->ended) && excludes(a, attempt));
        }
        if (!excluded || far_attempt_stopped(attempt)) {
            break;
        }
        far_engine_wait(engine, WAIT_MS);
    }
    pthread_mutex_unlock(&engine->mutex);
    return far_attempt_check(attempt, err);
}

static void note_slots(struct far_engine *engine)
{
    atomic_store(&engine->sending_hint, engine->sending);
    atomic_store(&engine->receiving_hint, engine->receiving);
}

/* Of those that wait for one of these slots: the one that is due first, then the one that came first. */
static bool is_next(const struct far_attempt *attempt, const size_t *slots)
{
    for (const struct far_attempt *a = attempt->engine->attempts; a != NULL; a = a->next) {
        if (a == attempt || a->waits_for != slots || far_attempt_stopped((struct far_attempt *)a)) {
            continue;
        }
        uint64_t due = a->order.due_ms != 0 ? a->order.due_ms : UINT64_MAX;
        uint64_t own = attempt->order.due_ms != 0 ? attempt->order.due_ms : UINT64_MAX;
        if (due < own || (due == own && a->turn < attempt->turn)) {
            return false;
        }
    }
    return true;
}

int far_transfer_slot_take(struct far_attempt *attempt, size_t *slots, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    pthread_mutex_lock(&engine->mutex);
    attempt->waits_for = slots;
    while ((*slots >= FAR_ENGINE_TRANSFERS_MAX || !is_next(attempt, slots)) && !far_attempt_stopped(attempt)) {
        atomic_store(&attempt->figures.bottleneck, FAR_ENGINE_MEMORY);
        far_engine_wait(engine, WAIT_MS);
    }
    attempt->waits_for = NULL;
    pthread_cond_broadcast(&engine->changed);
    int rc = far_attempt_check(attempt, err);
    if (rc == 0) {
        (*slots)++;
        note_slots(engine);
    }
    pthread_mutex_unlock(&engine->mutex);
    return rc;
}

void far_transfer_slot_give(struct far_engine *engine, size_t *slots)
{
    pthread_mutex_lock(&engine->mutex);
    (*slots)--;
    note_slots(engine);
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
}

static int run(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    static int (*const tasks[])(struct far_attempt *, struct far_engine_report *, struct far_error *) = {
        [FAR_ENGINE_FREEZE] = far_run_freeze,   [FAR_ENGINE_SEND] = far_run_send,
        [FAR_ENGINE_RECEIVE] = far_run_receive, [FAR_ENGINE_SEAL] = far_run_seal,
        [FAR_ENGINE_RELEASE] = far_run_release, [FAR_ENGINE_RESTORE] = far_run_restore,
        [FAR_ENGINE_VERIFY] = far_run_verify,   [FAR_ENGINE_FORGET] = far_run_forget,
        [FAR_ENGINE_RESCORE] = far_run_rescore,
        [FAR_ENGINE_RECLAIM] = far_run_reclaim, [FAR_ENGINE_LOCK] = far_run_lock,
        [FAR_ENGINE_MEASURE] = far_run_measure, [FAR_ENGINE_SCRUB] = far_run_scrub,
        [FAR_ENGINE_ADOPT] = far_run_adopt,
        [FAR_ENGINE_USE] = far_run_use,         [FAR_ENGINE_MACHINE] = far_run_machine,
        [FAR_ENGINE_SEED] = far_run_seed,       [FAR_ENGINE_COMPARE] = far_run_compare,
        [FAR_ENGINE_LEAVES] = far_run_leaves,
        [FAR_ENGINE_SCRIPT] = far_run_script,
    };
    int rc = wait_for_turn(attempt, err);
    rc = rc == 0 ? far_attempt_enter_vault(attempt, err) : rc;
    return rc == 0 ? tasks[attempt->order.kind](attempt, result, err) : rc;
}

static void *attempt_main(void *arg)
{
    struct far_attempt *attempt = arg;
    struct far_engine *engine = attempt->engine;
    struct far_engine_found disks[FAR_ENGINE_DISKS_MAX];
    struct far_engine_report result = {.disks = disks};
    struct far_error error = {0};
    far_thread_works_in_bulk();
    far_attempt_report_running(attempt);
    int rc = run(attempt, &result, &error);
    far_engine_exchange_report(engine, &result);
    far_attempt_report_end(attempt, &result, rc, &error);
    far_engine_vault_unref(result.vault);
    far_engine_used_unref(result.used);
    far_captured_unref(result.captured);
    far_engine_machined_unref(result.machined);
    far_engine_lost_unref(result.lost);
    far_engine_scripted_unref(result.scripted);
    pthread_mutex_lock(&engine->mutex);
    atomic_store(&attempt->ended, true);
    pthread_cond_broadcast(&engine->changed);
    attempt_unref_locked(attempt);
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

/* ---- orders ---- */

static struct far_attempt *attempt_new(struct far_engine *engine, const struct far_engine_order *order,
                                       struct far_error *err)
{
    struct far_attempt *attempt = calloc(1, sizeof *attempt);
    if (attempt == NULL) {
        far_fail(err, FAR_LIMIT, "no memory for an order");
        return NULL;
    }
    attempt->engine = engine;
    attempt->started_ms = far_clock_monotonic_ms();
    attempt->users = 1;
    attempt->workload_id = order->workload_id;
    far_arena_init(&attempt->arena, ORDER_BYTES_MAX);
    pthread_mutex_init(&attempt->report_mutex, NULL);
    pthread_mutex_init(&attempt->mutex, NULL);
    cond_init(&attempt->wake);
    if (far_attempt_copy_order(attempt, order, err) != 0) {
        attempt_free(attempt);
        return NULL;
    }
    return attempt;
}

/* Where the machine of a workload goes, what was ordered for its disks before is over, whether the order to stop has come or not: who
 * writes them is canceled, and who comes late, from a server that does not know yet, is refused. engine->mutex is held. */
static int make_way_for_destroy(struct far_engine *engine, const struct far_engine_order *order, struct far_error *err)
{
    struct far_engine_gone *gone = NULL;
    for (size_t i = 0; i < FAR_ENGINE_GONE_MAX; i++) {
        struct far_engine_gone *g = &engine->gone[i];
        gone = g->job_id == order->job_id && g->workload_id == order->workload_id && g->task != 0 ? g : gone;
    }
    if (writes_disks(order) && gone != NULL && order->task < gone->task) {
        return far_fail(err, FAR_CONFLICT, "the machine that this disk is for was taken away: task %llu came before that",
                        (unsigned long long)order->task);
    }
    if (!destroys(order)) {
        return 0;
    }
    gone = gone != NULL ? gone : &engine->gone[engine->gone_next++ % FAR_ENGINE_GONE_MAX];
    *gone = (struct far_engine_gone){.job_id = order->job_id, .workload_id = order->workload_id, .task = order->task};
    for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        if (writes_for(a, order) && a->order.task < order->task && !far_attempt_stopped(a)) {
            attempt_cancel_locked(a);
        }
    }
    return 0;
}

/* Older attempts of the same task are canceled; a newer one refuses. engine->mutex is held. *ret_same: it runs
 * already. */
static int make_way(struct far_engine *engine, const struct far_engine_order *order, bool *ret_same,
                    struct far_error *err)
{
    bool same = false;
    for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        if (!same_task(a, order->job_id, order->task) || (far_attempt_stopped(a) && a->order.attempt <= order->attempt)) {
            continue;
        }
        if (a->order.attempt > order->attempt) {
            return far_fail(err, FAR_CONFLICT, "attempt %llu of this task was replaced by attempt %llu",
                            (unsigned long long)order->attempt, (unsigned long long)a->order.attempt);
        }
        if (a->order.attempt == order->attempt) {
            same = true;
        } else {
            attempt_cancel_locked(a);
        }
    }
    /* One whose thread has not left yet may have ended all the same. */
    *ret_same = far_engine_report_again(engine, order) || same;
    return 0;
}

static int start_thread(struct far_attempt *attempt, struct far_error *err)
{
    pthread_attr_t attr;
    pthread_t thread;
    pthread_attr_init(&attr);
    pthread_attr_setstacksize(&attr, FAR_ENGINE_ATTEMPT_STACK_BYTES);
    pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
    int failed = pthread_create(&thread, &attr, attempt_main, attempt);
    pthread_attr_destroy(&attr);
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread for a task");
}

int far_engine_start(struct far_engine *engine, const struct far_engine_order *order, struct far_error *err)
{
    int rc = far_engine_check_order(engine, order, err);
    if (rc != 0) {
        return rc;
    }
    struct far_attempt *attempt = attempt_new(engine, order, err);
    if (attempt == NULL) {
        return FAR_LIMIT;
    }
    bool same = false;
    pthread_mutex_lock(&engine->mutex);
    rc = engine->closing ? far_fail(err, FAR_CANCELED, "the engine ends") : make_way(engine, order, &same, err);
    rc = rc == 0 ? make_way_for_destroy(engine, order, err) : rc;
    if (rc == 0 && !same && engine->attempt_count >= FAR_ENGINE_ATTEMPTS_MAX) {
        rc = far_fail(err, FAR_LIMIT, "this node carries out %d orders already", FAR_ENGINE_ATTEMPTS_MAX);
    }
    if (rc == 0 && !same) {
        attempt->turn = engine->next_turn++;
        attempt->next = engine->attempts;
        engine->attempts = attempt;
        engine->attempt_count++;
        rc = start_thread(attempt, err);
        if (rc != 0) {
            engine->attempts = attempt->next;
            engine->attempt_count--;
        } else {
            attempt = NULL;
            pthread_cond_broadcast(&engine->changed);
        }
    }
    pthread_mutex_unlock(&engine->mutex);
    if (attempt != NULL) {
        attempt_free(attempt);
    }
    return rc;
}

void far_engine_cancel(struct far_engine *engine, uint64_t job_id, uint64_t task, uint64_t attempt)
{
    pthread_mutex_lock(&engine->mutex);
    for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        if (same_task(a, job_id, task) && a->order.attempt <= attempt && !far_attempt_stopped(a)) {
            attempt_cancel_locked(a);
        }
    }
    pthread_mutex_unlock(&engine->mutex);
}

/* ---- the engine ---- */

/* It can be read and reclaimed; what wants to write more finds no space. */
static void tell_full(struct far_vault *vault)
{
    struct far_vault_stats stats;
    far_vault_stats(vault, &stats);
    if (stats.is_disk_full) {
        far_logf(FAR_LEVEL_WARN, "vault", "the disk of the vault is full: its reserve was given up to open it; a reclaim gives space back");
    }
}

static int open_stores(struct far_engine *engine, struct far_error *err)
{
    const struct far_engine_config *config = &engine->config;
    struct far_vault_options options = {.create = true};
    int rc = config->vault_dir != NULL ? far_vault_open(config->vault_dir, &options, &engine->vault, err) : 0;
    rc = rc == 0 && engine->vault != NULL ? far_engine_owner_claim(engine, err) : rc;
    if (rc == 0 && engine->vault != NULL) {
        tell_full(engine->vault);
    }
    /* Half for what leaves the node, half for what comes in. */
    size_t buffers = (size_t)(config->memory_bytes / 2 / FAR_ENGINE_CHUNK);
    if (rc == 0) {
        rc = far_pool_new(FAR_ENGINE_CHUNK, buffers, &engine->pool_out, err);
    }
    if (rc == 0) {
        rc = far_pool_new(FAR_ENGINE_CHUNK, buffers, &engine->pool_in, err);
    }
    if (rc == 0 && config->cache_dir != NULL && (engine->cache_dir = strdup(config->cache_dir)) == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory");
    }
    const char *own[] = {config->node_dir, config->vault_dir, config->cache_dir};
    for (size_t i = 0; i < sizeof own / sizeof own[0]; i++) {
        engine->own_dirs[i] = own[i] != NULL ? realpath(own[i], NULL) : NULL;
    }
    return rc;
}

static void config_defaults(struct far_engine_config *config)
{
    long processors = sysconf(_SC_NPROCESSORS_ONLN);
    uint32_t workers = config->worker_count != 0 ? config->worker_count : (uint32_t)(processors > 0 ? processors : 1);
    config->worker_count = workers < FAR_ENGINE_WORKERS_MAX ? workers : FAR_ENGINE_WORKERS_MAX;
    config->memory_bytes = config->memory_bytes != 0 ? config->memory_bytes : 128ull << 20;
    config->memory_bytes = config->memory_bytes > 16ull << 20 ? config->memory_bytes : 16ull << 20;
    uint64_t buffers = config->memory_bytes / 2 / FAR_ENGINE_CHUNK; /* a receive needs one for each worker, and one */
    config->worker_count = config->worker_count < buffers - 1 ? config->worker_count : (uint32_t)buffers - 1;
    config->checkpoint_bytes = config->checkpoint_bytes != 0 ? config->checkpoint_bytes : 500ull * 1000 * 1000;
    config->checkpoint_ms = config->checkpoint_ms != 0 ? config->checkpoint_ms : 10000;
    config->idle_ms = config->idle_ms != 0 ? config->idle_ms : 20000;
}

int far_engine_new(const struct far_engine_config *config, far_engine_report_fn *report, void *arg,
                   struct far_engine **ret_engine, struct far_error *err)
{
    struct far_engine *engine = calloc(1, sizeof *engine);
    if (engine == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the engine");
    }
    engine->config = *config;
    config_defaults(&engine->config);
    engine->report = report;
    engine->report_arg = arg;
    far_use_sweep(config->node_dir);
    atomic_store(&engine->keeps, true);
    pthread_mutex_init(&engine->mutex, NULL);
    pthread_mutex_init(&engine->platforms_mutex, NULL);
    pthread_mutex_init(&engine->owner_mutex, NULL);
    cond_init(&engine->changed);
    engine->remembered = calloc(FAR_ENGINE_REMEMBERED_MAX, sizeof engine->remembered[0]);
    int rc = engine->remembered == NULL ? far_fail(err, FAR_LIMIT, "no memory for the engine")
                                           : far_throttle_new(&engine->throttle, err);
    rc = rc == 0 ? far_engine_check_machines(&engine->config, err) : rc;
    rc = rc == 0 ? open_stores(engine, err) : rc;
    if (rc == 0) {
        int failed = pthread_create(&engine->ticker, NULL, far_engine_ticker_main, engine);
        engine->ticker_runs = failed == 0;
        rc = failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
    }
    if (rc == 0 && engine->vault != NULL) {
        int failed = pthread_create(&engine->clock, NULL, far_engine_clock_main, engine);
        engine->clock_runs = failed == 0;
        rc = failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
    }
    if (rc == 0 && config->listen_address != NULL) {
        rc = far_engine_listen(engine, config->listen_address, err);
    }
    if (rc != 0) {
        far_engine_free(engine);
        return rc;
    }
    *ret_engine = engine;
    return 0;
}

const char *far_engine_data_address(const struct far_engine *engine)
{
    return engine->data_address;
}

struct far_vault *far_engine_vault(struct far_engine *engine)
{
    return engine->vault;
}

static void stop_everything(struct far_engine *engine)
{
    pthread_mutex_lock(&engine->mutex);
    engine->closing = true;
    for (struct far_attempt *a = engine->attempts; a != NULL; a = a->next) {
        attempt_cancel_locked(a);
    }
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    far_engine_listen_stop(engine);
    if (engine->ticker_runs) {
        pthread_join(engine->ticker, NULL);
    }
    if (engine->clock_runs) {
        pthread_join(engine->clock, NULL);
    }
    pthread_mutex_lock(&engine->mutex);
    while (engine->attempts != NULL) {
        far_engine_wait(engine, WAIT_MS);
    }
    pthread_mutex_unlock(&engine->mutex);
}

void far_engine_free(struct far_engine *engine)
{
    if (engine == NULL) {
        return;
    }
    stop_everything(engine);
    far_served_end_all(engine);
    far_engine_platforms_close(engine);
    far_vault_close(engine->vault);
    far_pool_free(engine->pool_in);
    far_pool_free(engine->pool_out);
    far_throttle_free(engine->throttle);
    for (size_t i = 0; engine->remembered != NULL && i < FAR_ENGINE_REMEMBERED_MAX; i++) {
        free((void *)engine->remembered[i].disks);
        far_engine_vault_unref(engine->remembered[i].vault);
        far_engine_used_unref(engine->remembered[i].used);
        far_captured_unref(engine->remembered[i].captured);
        far_engine_machined_unref(engine->remembered[i].machined);
        far_engine_lost_unref(engine->remembered[i].lost);
        far_engine_scripted_unref(engine->remembered[i].scripted);
    }
    free(engine->remembered);
    free(engine->cache_dir);
    for (size_t i = 0; i < sizeof engine->own_dirs / sizeof engine->own_dirs[0]; i++) {
        free(engine->own_dirs[i]);
    }
    pthread_cond_destroy(&engine->changed);
    pthread_mutex_destroy(&engine->platforms_mutex);
    pthread_mutex_destroy(&engine->owner_mutex);
    pthread_mutex_destroy(&engine->mutex);
    free(engine);
}
