/* How many events a second one core folds, with the chain checked, and how long any moment takes: replay_fold [EVENTS].
 *
 * The mix of a recorded day: 40 plans with 10 workloads each run cycle after cycle, two at a time, started by people whose
 * commands are remembered, and four nodes report progress several times on the way; nine tenths of the events are reports and
 * changes of tasks. Made by the core itself, then folded in memory as a replay does it, three ways: the chain alone, the state
 * alone, both. Processor time of the one thread counts. Prints one line: events, rows at the end, events per second of the three
 * (the median of five runs), progress samples in all of the events, reports and changes of tasks among the events in per mille;
 * and of 40 moments in a store on disk the median and the longest time that opening their state took, in ms. */
#include "../lib/cm.h"

#include "../lib/fsm_world.h"
#include "base/clock.h"
#include "fsm/rows.h"
#include "log/history.h"

#include <stdlib.h>
#include <time.h>
#include <unistd.h>

enum { PLANS = 40, WORKLOADS = 10, PROGRESS = 6, NODES = 4, AT_ONCE = 2, RUNS = 5, FLUSH_EVENTS = 8192 };

static struct world w;

static void progress(uint64_t node_id)
{
    struct far_list list;
    struct far_sub_report_item items[256];
    far_arena_reset(&w.arena);
    if (far_query_orders(&w.state, node_id, 256, &w.arena, &list, &w.err) != 0) {
        abort();
    }
    const struct far_sub_order *orders = list.items;
    for (size_t i = 0; i < list.count; i++) {
        items[i] = (struct far_sub_report_item){.job_id = orders[i].job_id, .task = orders[i].task, .attempt = orders[i].attempt,
                                                .state = FAR_report_state_running, .bytes_total = 1 << 30,
                                                .bytes_done = w.events << 10, .bytes_sent = w.events << 8};
    }
    struct far_row_node node = world_row_node(&w, node_id);
    uint64_t actor = w.actor;
    w.actor = far_actor(FAR_ACTOR_NODE, node_id);
    APPLY(&w, node_report, .node_id = node_id, .boot = node.boot, .sequence = node.sequence + 1,
          .items = {.items = items, .count = list.count});
    w.actor = actor;
}

/* A report as nodes send it, every two seconds, then the end of what they hold. */
static void cycle(int first, const uint64_t nodes[NODES])
{
    for (int i = 0; i < AT_ONCE; i++) {
        char plan[16];
        snprintf(plan, sizeof plan, "plan-%d", (first + i) % PLANS);
        w.id[0] = 1;
        memcpy(w.id + 1, &w.events, sizeof w.events);
        MUST(&w, plan_replicate, .name = S(plan));
    }
    for (size_t busy = 1; busy > 0;) {
        for (int i = 0; i < PROGRESS; i++) {
            for (int n = 0; n < NODES; n++) {
                progress(nodes[n]);
            }
            world_pass(&w, 2000);
        }
        far_arena_reset(&w.arena);
        busy = 0;
        for (int n = 0; n < NODES; n++) {
            busy += world_work(&w, nodes[n]);
        }
    }
}

static void make_day(uint64_t events)
{
    uint64_t nodes[NODES];
    char name[WORKLOADS][32], plan[24];
    world_init(&w);
    w.rows = far_rows_new(w.state.kv, true);
    world_cluster(&w);
    for (int n = 0; n < NODES; n++) {
        snprintf(plan, sizeof plan, "n%d", n);
        nodes[n] = world_node(&w, plan, n % 2 == 0 ? "paris" : "lyon");
    }
    for (int p = 0; p < PLANS; p++) {
        const char *members[WORKLOADS];
        for (int i = 0; i < WORKLOADS; i++) {
            snprintf(name[i], sizeof name[i], "vm-%d-%d", p, i);
            world_workload(&w, name[i], 1);
            members[i] = name[i];
        }
        snprintf(plan, sizeof plan, "plan-%d", p);
        world_plan(&w, plan, members, WORKLOADS);
    }
    for (int i = 0; w.events < events; i += AT_ONCE) {
        cycle(i, nodes);
    }
}

/* What is in the reports: each sample changes a task and its lease. */
static uint64_t count_samples(uint64_t *ret_work)
{
    uint64_t samples = 0;
    *ret_work = 0;
    for (size_t at = 0; at < w.log.len;) {
        struct far_event event;
        struct far_ev_node_reported report;
        memcpy(&event, w.log.data + at, sizeof event);
        event.payload = far_slice(w.log.data + at + sizeof event, event.payload.len);
        far_arena_reset(&w.arena);
        *ret_work += event.kind == FAR_KIND_ev_node_reported || event.kind == FAR_KIND_ev_tasks_changed;
        if (event.kind == FAR_KIND_ev_node_reported &&
            far_schema_decode(&far_schema_ev_node_reported, event.payload, &w.arena, &report, NULL) == 0) {
            samples += report.samples.count;
        }
        at += sizeof event + event.payload.len;
    }
    return samples;
}

/* Of this thread, on a processor: what others do on the machine meanwhile does not count. */
static uint64_t worked_ns(void)
{
    struct timespec now;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &now);
    return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static double fold(bool with_chain, bool with_state, uint64_t *ret_rows)
{
    struct far_state state = {.kv = far_kv_memory_new()};
    state.rows = far_rows_new(state.kv, true);
    uint8_t head[FAR_HEAD_SIZE] = {0};
    uint64_t count = 0, start = worked_ns();
    struct far_error err;
    for (size_t at = 0; at < w.log.len;) {
        struct far_event event;
        memcpy(&event, w.log.data + at, sizeof event);
        event.payload = far_slice(w.log.data + at + sizeof event, event.payload.len);
        if ((with_chain && far_chain_add(head, &event, &err) != 0) || (with_state && far_fsm_evolve(&state, &event, &err) != 0)) {
            fprintf(stderr, "event %llu: %s\n", (unsigned long long)event.seq, err.message);
            exit(1);
        }
        at += sizeof event + event.payload.len;
        count++;
        if (count % FLUSH_EVENTS == 0 && far_rows_flush(state.rows, &state.digest, &err) != 0) {
            exit(1);
        }
    }
    if (far_rows_flush(state.rows, &state.digest, &err) != 0) {
        exit(1);
    }
    uint64_t ns = worked_ns() - start;
    if (with_state && !far_hash128_equal(state.digest, w.state.digest)) {
        fprintf(stderr, "the fold is not the state\n");
        exit(1);
    }
    *ret_rows = far_kv_memory_count(state.kv);
    far_rows_free(state.rows);
    far_kv_memory_free(state.kv);
    return (double)count * 1e9 / (double)(ns > 0 ? ns : 1);
}

/* ---- moments, in a store on disk ---- */

enum { MOMENTS = 40, BATCH = 2000 };

static void must(int rc, const struct far_error *err)
{
    if (rc != 0) {
        fprintf(stderr, "%s\n", err->message);
        exit(1);
    }
}

static void store_batch(struct far_store *store, size_t *at)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    for (int i = 0; i < BATCH && *at < w.log.len; i++) {
        struct far_event event;
        struct far_history history;
        memcpy(&event, w.log.data + *at, sizeof event);
        event.payload = far_slice(w.log.data + *at + sizeof event, event.payload.len);
        must(far_history_begin(&history, txn, &err), &err);
        struct far_state state = {.kv = &history.kv, .digest = far_store_meta(txn)->digest};
        must(far_fsm_evolve(&state, &event, &err), &err);
        must(far_store_event_append(txn, &event, &err), &err);
        far_store_meta(txn)->digest = state.digest;
        *at += sizeof event + event.payload.len;
    }
    must(far_store_commit(txn, &err), &err);
}

static int by_size(const void *a, const void *b)
{
    double x = *(const double *)a, y = *(const double *)b;
    return (x > y) - (x < y);
}

static void time_moments(double *ret_median, double *ret_longest)
{
    char dir[] = "/tmp/far-replay-XXXXXX", command[64];
    struct far_store *store;
    struct far_error err = {0};
    double took[MOMENTS];
    if (mkdtemp(dir) == NULL) {
        exit(1);
    }
    must(far_store_open_lmdb(dir, 0, false, &store, &err), &err);
    for (size_t at = 0; at < w.log.len;) {
        store_batch(store, &at);
    }
    for (unsigned i = 0; i < MOMENTS; i++) {
        struct far_moment moment = {FAR_MOMENT_SEQ, w.events * (2 * i + 1) / (2 * MOMENTS)};
        struct far_store_txn *txn;
        struct far_past *past;
        uint64_t start = far_clock_monotonic_ms();
        must(far_store_begin(store, false, &txn, &err), &err);
        must(far_past_open(txn, &moment, &past, &err), &err);
        took[i] = (double)(far_clock_monotonic_ms() - start);
        far_past_close(past);
        far_store_abort(txn);
    }
    qsort(took, MOMENTS, sizeof took[0], by_size);
    *ret_median = took[MOMENTS / 2];
    *ret_longest = took[MOMENTS - 1];
    far_store_close(store);
    snprintf(command, sizeof command, "rm -r %s", dir);
    if (system(command) != 0) {
        exit(1);
    }
}

static double fold_median(bool with_chain, bool with_state, uint64_t *ret_rows)
{
    double runs[RUNS];
    for (int i = 0; i < RUNS; i++) {
        runs[i] = fold(with_chain, with_state, ret_rows);
    }
    qsort(runs, RUNS, sizeof runs[0], by_size);
    return runs[RUNS / 2];
}

int main(int argc, char **argv)
{
    double median, longest;
    uint64_t rows, unused, work;
    make_day(argc > 1 ? strtoull(argv[1], NULL, 10) : 100000);
    double chain = fold_median(true, false, &unused), state = fold_median(false, true, &rows), both = fold_median(true, true, &rows);
    uint64_t samples = count_samples(&work);
    time_moments(&median, &longest);
    printf("%llu %llu %.0f %.0f %.0f %llu %llu %.0f %.0f\n", (unsigned long long)w.events, (unsigned long long)rows, chain, state,
           both, (unsigned long long)samples, (unsigned long long)(work * 1000 / w.events), median, longest);
    world_done(&w);
    return 0;
}
