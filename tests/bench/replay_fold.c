/* How many events a second one core folds, with the chain checked, and how long any moment takes: replay_fold [EVENTS].
 *
 * The mix of a recorded day: plans with 40 workloads of one disk run cycle after cycle, and their nodes report progress several
 * times on the way. Made by the core itself, then folded in memory three ways: the chain alone, the state alone, both. Prints one
 * line: events, rows at the end, events per second of the three, progress samples in all of the
 * events; and of 40 moments in a store on disk the median and the longest time that opening their state took, in ms. */
#include "../lib/cm.h"

#include "../lib/fsm_world.h"
#include "base/clock.h"
#include "log/history.h"

#include <stdlib.h>
#include <unistd.h>

enum { PLANS = 4, WORKLOADS = 10, PROGRESS = 6 };

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
static void cycle(const char *plan, const uint64_t nodes[2])
{
    MUST(&w, plan_replicate, .name = S(plan));
    for (size_t busy = 1; busy > 0;) {
        for (int i = 0; i < PROGRESS; i++) {
            progress(nodes[0]);
            progress(nodes[1]);
            world_pass(&w, 2000);
        }
        far_arena_reset(&w.arena);
        busy = world_work(&w, nodes[0]) + world_work(&w, nodes[1]);
    }
    world_pass(&w, 60000);
}

static void make_day(uint64_t events)
{
    char names[PLANS][WORKLOADS][16], plan[16];
    uint64_t nodes[2];
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "n1", "paris");
    nodes[1] = world_node(&w, "n2", "lyon");
    for (int p = 0; p < PLANS; p++) {
        const char *members[WORKLOADS];
        for (int i = 0; i < WORKLOADS; i++) {
            snprintf(names[p][i], sizeof names[p][i], "vm-%d-%d", p, i);
            world_workload(&w, names[p][i], 1);
            members[i] = names[p][i];
        }
        snprintf(plan, sizeof plan, "plan-%d", p);
        world_plan(&w, plan, members, WORKLOADS);
    }
    for (int i = 0; w.events < events; i++) {
        snprintf(plan, sizeof plan, "plan-%d", i % PLANS);
        cycle(plan, nodes);
    }
}

/* What is in the reports: each sample changes a task and its lease. */
static uint64_t count_samples(void)
{
    uint64_t samples = 0;
    for (size_t at = 0; at < w.log.len;) {
        struct far_event event;
        struct far_ev_node_reported report;
        memcpy(&event, w.log.data + at, sizeof event);
        event.payload = far_slice(w.log.data + at + sizeof event, event.payload.len);
        far_arena_reset(&w.arena);
        if (event.kind == FAR_KIND_ev_node_reported &&
            far_schema_decode(&far_schema_ev_node_reported, event.payload, &w.arena, &report, NULL) == 0) {
            samples += report.samples.count;
        }
        at += sizeof event + event.payload.len;
    }
    return samples;
}

static double fold(bool with_chain, bool with_state, uint64_t *ret_rows)
{
    struct far_state state = {.kv = far_kv_memory_new()};
    uint8_t head[FAR_HEAD_SIZE] = {0};
    uint64_t count = 0, start = far_clock_monotonic_ms();
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
    }
    uint64_t ms = far_clock_monotonic_ms() - start;
    if (with_state && !far_hash128_equal(state.digest, w.state.digest)) {
        fprintf(stderr, "the fold is not the state\n");
        exit(1);
    }
    *ret_rows = far_kv_memory_count(state.kv);
    far_kv_memory_free(state.kv);
    return (double)count * 1000 / (double)(ms > 0 ? ms : 1);
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

int main(int argc, char **argv)
{
    double median, longest;
    uint64_t rows, unused;
    make_day(argc > 1 ? strtoull(argv[1], NULL, 10) : 100000);
    double chain = fold(true, false, &unused), state = fold(false, true, &rows), both = fold(true, true, &rows);
    time_moments(&median, &longest);
    printf("%llu %llu %.0f %.0f %.0f %llu %.0f %.0f\n", (unsigned long long)w.events, (unsigned long long)rows, chain, state, both,
           (unsigned long long)count_samples(), median, longest);
    world_done(&w);
    return 0;
}
