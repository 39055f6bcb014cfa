/* Gives a stopped server's store so many events more: make_store STATE_FOLDER EVENTS [WORKLOADS].
 *
 * By the core itself, with history and chain, as if commands had been applied; the applied index stays, so the server's log
 * fits. Of five events four are acknowledgements of 1,000 consumers, the fifth makes or removes one of WORKLOADS (10,000)
 * workloads. Then what is old is sealed. Prints seconds, events, segments' bytes, history's bytes. */
#include "base/clock.h"
#include "log/history.h"
#include "log/segments.h"

#include <stdio.h>
#include <stdlib.h>

enum { CONSUMERS = 1000, BATCH = 4096, PAYLOAD_MAX = 65536 };

static struct far_store *store;
static struct far_store_txn *txn;
static struct far_history history;
static struct far_state state;
static struct far_buf payload;
static uint64_t workloads = 10000;

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fprintf(stderr, "make_store: %s\n", err->message);
        exit(1);
    }
}

static int append(void *arg, const struct far_event *event, struct far_error *err)
{
    (void)arg;
    return far_store_event_append(txn, event, err);
}

static void apply(const struct far_schema *schema, const void *object)
{
    struct far_error err = {0};
    struct far_result result = {0};
    far_buf_reset(&payload);
    must(far_schema_encode(schema, object, &payload, &err), &err);
    struct far_command command = {.kind = schema->kind, .version = schema->version, .actor = far_actor(FAR_ACTOR_SYSTEM, 1),
                                  .proposed_at_ms = far_clock_wall_ms(), .payload = far_buf_slice(&payload)};
    must(far_fsm_apply(&state, far_store_meta(txn)->applied_index, &command, append, NULL, &result, &err), &err);
    if (result.klass != 0 && result.klass != FAR_CONFLICT) {
        fprintf(stderr, "make_store: %s\n", result.message);
        exit(1);
    }
}

static void begin(void)
{
    struct far_error err = {0};
    must(far_store_begin(store, true, &txn, &err), &err);
    must(far_history_begin(&history, txn, &err), &err);
    state = (struct far_state){.kv = &history.kv, .digest = far_store_meta(txn)->digest};
}

static void end(void)
{
    struct far_error err = {0};
    far_store_meta(txn)->digest = state.digest;
    must(far_store_commit(txn, &err), &err);
}

static void workload(uint64_t number, bool is_there)
{
    char name[32], path[64];
    snprintf(name, sizeof name, "vm-%llu", (unsigned long long)number);
    snprintf(path, sizeof path, "/dev/disk/%llu", (unsigned long long)number);
    struct far_sub_disk_spec disk = {.name = far_slice_str("root"), .locator = far_slice_str(path)};
    struct far_cmd_workload_create create = {.name = far_slice_str(name), .site = far_slice_str("bench"),
                                             .adapter = far_slice_str("file"), .disks = {.items = &disk, .count = 1}};
    struct far_cmd_workload_remove remove = {.name = far_slice_str(name)};
    if (is_there) {
        apply(&far_schema_cmd_workload_remove, &remove);
    } else {
        apply(&far_schema_cmd_workload_create, &create);
    }
}

static void acknowledge(uint64_t number)
{
    char name[32];
    snprintf(name, sizeof name, "bench-%llu", (unsigned long long)number);
    struct far_cmd_consumer_ack ack = {.name = far_slice_str(name), .seq = far_store_meta(txn)->last_seq};
    apply(&far_schema_cmd_consumer_ack, &ack);
}

static void prepare(void)
{
    struct far_cmd_site_create site = {.name = far_slice_str("bench"), .role = FAR_site_role_protected};
    begin();
    apply(&far_schema_cmd_site_create, &site);
    for (uint64_t i = 0; i < CONSUMERS; i++) {
        char name[32];
        snprintf(name, sizeof name, "bench-%llu", (unsigned long long)i);
        struct far_cmd_consumer_create create = {.name = far_slice_str(name), .from_end = true};
        apply(&far_schema_cmd_consumer_create, &create);
    }
    for (uint64_t i = 0; i < workloads; i++) {
        workload(i, false);
    }
    end();
}

static void fill(uint64_t events)
{
    bool *gone = calloc(workloads, sizeof *gone);
    uint64_t until = 0, number = 0;
    unsigned random = 1;
    for (bool is_done = false; !is_done;) {
        begin();
        until = until == 0 ? far_store_meta(txn)->last_seq + events : until;
        for (int i = 0; i < BATCH; i++, number++) {
            if (number % 5 == 0) {
                uint64_t one = (uint64_t)rand_r(&random) % workloads;
                workload(one, !gone[one]);
                gone[one] = !gone[one];
            } else {
                acknowledge((uint64_t)rand_r(&random) % CONSUMERS);
            }
        }
        is_done = far_store_meta(txn)->last_seq >= until;
        end();
    }
    free(gone);
}

int main(int argc, char **argv)
{
    struct far_error err = {0};
    struct far_store_sizes sizes;
    uint64_t bytes = 0, start = far_clock_monotonic_ms();
    uint64_t events = argc < 3 ? 0 : strtoull(argv[2], NULL, 10);
    workloads = argc < 4 ? workloads : strtoull(argv[3], NULL, 10);
    if (events == 0 || workloads == 0) {
        fprintf(stderr, "usage: make_store STATE_FOLDER EVENTS [WORKLOADS]\n");
        return 2;
    }
    far_buf_init(&payload, PAYLOAD_MAX);
    must(far_store_open_lmdb(argv[1], 0, false, &store, &err), &err);
    prepare();
    fill(events);
    must(far_segments_seal_all(store, &(struct far_seal_limits){0}, &err), &err);
    must(far_store_begin(store, false, &txn, &err), &err);
    far_store_sizes(txn, &sizes);
    must(far_segments_bytes(txn, &bytes, &err), &err);
    printf("%.1f %llu %llu %llu\n", (double)(far_clock_monotonic_ms() - start) / 1000,
           (unsigned long long)far_store_meta(txn)->last_seq, (unsigned long long)bytes, (unsigned long long)sizes.history_bytes);
    far_store_abort(txn);
    far_store_close(store);
    far_buf_done(&payload);
    return 0;
}
