/* Compaction: superseded progress loses its payloads on all servers alike, whatever is sealed, fetched later or crashes in between;
 * the chain stays, every state since can be shown, and what was compacted wrongly is found. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw, fmemopen */
#endif
#include "../lib/cm.h"

#include "../lib/fsm_world.h"
#include "../lib/remove_tree.h"
#include "log/compact.h"
#include "log/export.h"
#include "log/history.h"
#include "log/log.h"
#include "log/replay.h"
#include "log/snapshot.h"
#include "log/tidy.h"
#include "verify/verify.h"

#include <dirent.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { EPOCH = 64, CYCLES = 12, EVENTS_MAX = 4000, SAID_MAX = 16384 };
#define DAY_MS 86400000ull
static const struct far_seal_limits limits = {.rows_max = 40, .segment_events = 100, .segment_bytes = 1 << 20};

static struct world w;
static struct far_event events[EVENTS_MAX];          /* as they were made */
static struct far_hash128 digests[EVENTS_MAX];       /* of the state behind each */
static uint64_t last_seq, decided_seq;               /* the newest event; up to where progress is compacted */
static struct far_buf compacted_rows[EVENTS_MAX];    /* what a compacted store holds */
static char base[256];

/* ---- a log ---- */

static void must(int rv, const struct far_error *err)
{
    if (rv != 0) {
        fail_msg("%s", err->message);
    }
}

/* Every task that the node holds is reported on the way, a few times. */
static void report_progress(uint64_t node_id)
{
    struct far_list list;
    far_arena_reset(&w.arena);
    assert_int_equal(far_query_orders(&w.state, node_id, 100, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        struct far_row_task task = world_row_task(&w, order->job_id, order->task);
        for (uint64_t done = 1; done <= 3; done++) {
            struct far_sub_report_item item = {.state = FAR_report_state_running, .bytes_total = 1 << 30,
                                               .bytes_done = done << 28, .bytes_changed = done << 20, .bytes_sent = done << 19};
            w.now_ms += 100;
            assert_int_equal(world_report(&w, &task, item), 0);
        }
    }
}

static void replicate(const uint64_t nodes[2])
{
    MUST(&w, plan_replicate, .name = S("gold"));
    for (unsigned round = 0, idle = 0; idle < 2; round++) {
        assert_in_range(round, 0, 100);
        size_t items = 0;
        for (int n = 0; n < 2; n++) {
            report_progress(nodes[n]);
            items += world_work(&w, nodes[n]);
        }
        world_pass(&w, 2);
        idle = items == 0 ? idle + 1 : 0;
    }
}

static void make_world(void)
{
    const char *const names[] = {"web", "db"};
    world_init(&w);
    world_cluster(&w);
    const uint64_t nodes[2] = {world_node(&w, "a", "paris"), world_node(&w, "b", "lyon")};
    world_workload(&w, "web", 2);
    world_workload(&w, "db", 1);
    world_plan(&w, "gold", names, 2);
    for (int cycle = 0; cycle < CYCLES; cycle++) {
        replicate(nodes);
    }
}

/* What the world recorded since the last call, in events and digests. */
static void take_events(void)
{
    static size_t at;
    static struct far_state fold;
    if (fold.kv == NULL) {
        fold.kv = far_kv_memory_new();
    }
    while (at < w.log.len) {
        struct far_event event;
        memcpy(&event, w.log.data + at, sizeof event);
        uint8_t *copy = malloc(event.payload.len + 1); /* the world's buffer moves */
        memcpy(copy, w.log.data + at + sizeof event, event.payload.len);
        at += sizeof event + event.payload.len;
        event.payload.data = copy;
        must(far_fsm_evolve(&fold, &event, &w.err), &w.err);
        last_seq = event.seq;
        assert_in_range(last_seq, 1, EVENTS_MAX - 1);
        events[last_seq] = event;
        digests[last_seq] = fold.digest;
    }
}

static void decide(uint64_t seq)
{
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, progress_compact, .seq = seq, .time_ms = events[seq].time_ms);
    take_events();
}

/* ---- stores with it ---- */

struct server {
    char dir[300], state[320];
    struct far_store *store;
};

static void open_server(struct server *server)
{
    struct far_error err = {0};
    must(far_store_open_lmdb(server->state, (size_t)1 << 28, false, &server->store, &err), &err);
    server->store->epoch_events = EPOCH;
}

static void reopen(struct server *server)
{
    far_store_close(server->store);
    open_server(server);
}

/* The events that it lacks, entry by entry, as a server applies them. */
static void catch_up(struct server *server, uint64_t until)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(server->store, true, &txn, &err), &err);
    struct far_store_meta *meta = far_store_meta(txn);
    while (meta->last_seq < until) {
        struct far_history history;
        const struct far_event *event = &events[meta->last_seq + 1];
        if (event->index != meta->applied_index) {
            must(far_history_begin(&history, txn, &err), &err);
        }
        struct far_state state = {.kv = &history.kv, .digest = meta->digest};
        must(far_fsm_evolve(&state, event, &err), &err);
        must(far_store_event_append(txn, event, &err), &err);
        meta->digest = state.digest;
        meta->applied_index = event->index;
        meta->applied_term = 1;
    }
    must(far_store_commit(txn, &err), &err);
}

static struct server new_server(const char *name)
{
    struct server server = {.store = NULL};
    snprintf(server.dir, sizeof server.dir, "%s/%s", base, name);
    snprintf(server.state, sizeof server.state, "%s/state", server.dir);
    assert_int_equal(mkdir(server.dir, 0700), 0);
    assert_int_equal(mkdir(server.state, 0700), 0);
    open_server(&server);
    return server;
}

static struct far_store_txn *reading(const struct server *server)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(server->store, false, &txn, &err), &err);
    return txn;
}

static void seal(struct server *server)
{
    struct far_error err = {0};
    must(far_segments_seal_all(server->store, &limits, &err), &err);
}

static void compact(struct server *server)
{
    struct far_error err = {0};
    must(far_compact_all(server->store, &err), &err);
}

static int count_files(const struct server *server, const char *end)
{
    char path[400];
    int count = 0;
    snprintf(path, sizeof path, "%s/segments", server->state);
    DIR *folder = opendir(path);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); entry != NULL; entry = readdir(folder)) {
        size_t len = strlen(entry->d_name), end_len = strlen(end);
        count += len > end_len && strcmp(entry->d_name + len - end_len, end) == 0;
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return count;
}

static bool is_to_go(uint64_t seq)
{
    return seq <= decided_seq && events[seq].kind == FAR_KIND_ev_node_reported && events[seq].payload.len > 32;
}

/* The chain leads through all events from `first` on; what is to go is gone and nothing else. */
static void check_compacted(const struct server *server, uint64_t first)
{
    struct far_store_txn *txn = reading(server);
    struct far_error err = {0};
    uint8_t head[FAR_HEAD_SIZE], stored[FAR_HEAD_SIZE], hash[32];
    memcpy(head, far_store_meta(txn)->base_head, sizeof head);
    assert_int_equal(far_store_meta(txn)->first_seq, first);
    for (uint64_t seq = first; seq <= last_seq; seq++) {
        struct far_event event;
        struct far_slice row;
        must(far_store_event_get(txn, seq, &event, stored, &err), &err);
        must(far_event_payload_hash(events[seq].payload, hash, &err), &err);
        assert_int_equal(event.compacted_len, is_to_go(seq) ? events[seq].payload.len : 0);
        assert_true(far_slice_equal(event.payload, is_to_go(seq) ? far_slice(hash, 32) : events[seq].payload));
        must(far_chain_add(head, &event, &err), &err);
        assert_memory_equal(head, stored, sizeof head);
        must(far_store_event_row(txn, seq, &row, &err), &err);
        if (compacted_rows[seq].len > 0) { /* byte by byte the same everywhere */
            assert_true(far_slice_equal(row, far_buf_slice(&compacted_rows[seq])));
        } else {
            assert_int_equal(far_buf_append(&compacted_rows[seq], row.data, row.len), 0);
        }
    }
    assert_memory_equal(head, far_store_meta(txn)->head, sizeof head);
    far_store_abort(txn);
}

static int set_up(void **unused)
{
    const char *folder = getenv("TMPDIR");
    snprintf(base, sizeof base, "%s/far-compact-XXXXXX", folder != NULL ? folder : "/tmp");
    assert_non_null(mkdtemp(base));
    for (int i = 0; i < EVENTS_MAX; i++) {
        far_buf_init(&compacted_rows[i], FAR_EVENT_ROW_MAX);
    }
    make_world();
    take_events();
    return 0;
}

static int tear_down(void **unused)
{
    for (uint64_t i = 1; i <= last_seq; i++) {
        free((void *)(uintptr_t)events[i].payload.data);
    }
    for (int i = 0; i < EVENTS_MAX; i++) {
        far_buf_done(&compacted_rows[i]);
    }
    world_done(&w);
    return far_test_remove_tree(base);
}

/* ---- tests: one story ---- */

static uint64_t look(const struct server *server, uint64_t events_min)
{
    struct far_store_txn *txn = reading(server);
    struct far_error err = {0};
    uint64_t seq = 0, time_ms = 0;
    must(far_compact_look(txn, events_min, &seq, &time_ms, &err), &err);
    assert_true(seq == 0 || time_ms == events[seq].time_ms);
    far_store_abort(txn);
    return seq;
}

static void what_is_young_stays_and_what_is_old_is_found(void **unused)
{
    struct server server = new_server("look");
    catch_up(&server, last_seq);
    assert_int_equal(look(&server, 1), 0);
    uint64_t old = last_seq;
    w.now_ms += 30 * DAY_MS + DAY_MS / 2;
    MUST(&w, site_create, .name = S("young"), .role = FAR_site_role_protected);
    take_events();
    catch_up(&server, last_seq);
    assert_int_equal(look(&server, 1000000), 0); /* too little to be worth it, and not yet a day late */
    uint64_t found = look(&server, 1);
    assert_in_range(found, old - 2 * EPOCH, old);
    w.now_ms += DAY_MS;
    MUST(&w, site_create, .name = S("younger"), .role = FAR_site_role_protected);
    take_events();
    catch_up(&server, last_seq);
    assert_int_equal(look(&server, 1000000), found);
    struct far_epoch epoch;
    struct far_error err = {0};
    struct far_store_txn *txn = reading(&server);
    must(far_epoch_before(txn, found - 1, &epoch, &err), &err); /* one earlier: what stays behind it is looked at below */
    far_store_abort(txn);
    decide(epoch.seq);
    decided_seq = epoch.seq;
    catch_up(&server, last_seq);
    assert_int_equal(look(&server, 1), found);
    far_store_close(server.store);
    uint64_t count = 0;
    for (uint64_t seq = 1; seq <= last_seq; seq++) {
        count += is_to_go(seq);
    }
    assert_true(count > 100);
}

static void rows_lose_their_payloads_and_a_crash_at_any_piece_costs_nothing(void **unused)
{
    struct server server = new_server("rows");
    struct far_error err = {0};
    catch_up(&server, last_seq);
    bool more = true;
    for (int piece = 0; more; piece++) {
        struct far_store_txn *txn;
        bool changed = false;
        more = false;
        must(far_store_begin(server.store, true, &txn, &err), &err);
        must(far_compact_rows(txn, 7, &changed, &more, &err), &err);
        assert_true(changed == more);
        if (piece % 3 == 1) {
            far_store_abort(txn); /* died before the commit */
        } else {
            must(far_store_commit(txn, &err), &err);
        }
        if (piece % 10 == 2) {
            reopen(&server);
        }
    }
    check_compacted(&server, 1);
    reopen(&server);
    check_compacted(&server, 1);
    far_store_close(server.store);
}

static void tidying_compacts_as_the_log_decided(void **unused)
{
    struct server server = new_server("tidy");
    struct far_error err = {0};
    struct far_retain_walk walk = {.floor = 0};
    struct far_tidy tidy = {.more = true};
    catch_up(&server, last_seq);
    while (tidy.more) {
        tidy = (struct far_tidy){0};
        must(far_tidy(server.store, &walk, &tidy, &err), &err);
    }
    check_compacted(&server, 1);
    far_store_close(server.store);
}

static struct far_compacted compact_segment(const struct server *server)
{
    struct far_compactor *compactor;
    struct far_compacted compacted;
    struct far_error err = {0};
    bool done = false;
    must(far_compactor_new(server->store, &compactor, &err), &err);
    while (!done) {
        must(far_compactor_step(compactor, &done, &compacted, &err), &err);
    }
    far_compactor_free(compactor);
    return compacted;
}

static int take(const struct server *server, const struct far_compacted *compacted)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    must(far_store_begin(server->store, true, &txn, &err), &err);
    int rv = far_compact_take(txn, compacted, &err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    must(far_store_commit(txn, &err), &err);
    return 0;
}

static void segments_are_written_anew_and_a_crash_at_any_step_costs_nothing(void **unused)
{
    struct server server = new_server("segments");
    struct far_error err = {0};
    catch_up(&server, last_seq);
    seal(&server);
    int files = count_files(&server, ".seg");
    assert_true(files >= 4);
    struct far_compactor *compactor;
    must(far_compactor_new(server.store, &compactor, &err), &err); /* died while it was written */
    assert_int_equal(count_files(&server, ".new"), 1);
    far_compactor_free(compactor);
    assert_int_equal(count_files(&server, ".new"), 0);
    struct far_compacted compacted = compact_segment(&server); /* before it was taken */
    assert_int_equal(count_files(&server, ".seg"), files + 1);
    reopen(&server);
    assert_int_equal(count_files(&server, ".seg"), files);
    compacted = compact_segment(&server);
    struct far_store_txn *before = reading(&server); /* a reader of then */
    assert_int_equal(take(&server, &compacted), 0);
    assert_int_equal(take(&server, &compacted), FAR_CONFLICT); /* not twice */
    must(far_store_sync(server.store, &err), &err);
    must(far_segments_sweep(server.store, &err), &err); /* the old file goes */
    assert_int_equal(count_files(&server, ".seg"), files);
    struct far_event event;
    must(far_store_event_get(before, compacted.before.last_seq, &event, NULL, &err), &err);
    assert_int_equal(event.seq, compacted.before.last_seq);
    far_store_abort(before);
    reopen(&server);
    compact(&server);
    must(far_segments_sweep(server.store, &err), &err);
    assert_int_equal(count_files(&server, ".seg"), files);
    check_compacted(&server, 1);
    far_store_close(server.store);
}

static void what_is_sealed_meanwhile_does_not_bring_payloads_back(void **unused)
{
    struct server server = new_server("meanwhile");
    struct far_error err = {0};
    struct far_sealer *sealer;
    struct far_segment segment;
    struct far_store_txn *txn;
    bool done = false;
    catch_up(&server, last_seq);
    must(far_sealer_new(server.store, &limits, &sealer, &err), &err);
    while (!done) {
        must(far_sealer_step(sealer, &done, &segment, &err), &err);
    }
    far_sealer_free(sealer);
    compact(&server); /* its rows, that is */
    must(far_store_begin(server.store, true, &txn, &err), &err);
    assert_int_equal(far_segments_take(txn, &segment, &err), FAR_CONFLICT);
    far_store_abort(txn);
    seal(&server);
    check_compacted(&server, 1);
    far_store_close(server.store);
}

/* Only the newest events are held; the older ones come from another server, newest first. */
static void fetch(struct server *server, const struct server *from, uint64_t to)
{
    struct far_store_txn *txn, *source = reading(from);
    struct far_error err = {0};
    struct far_buf batch;
    far_buf_init(&batch, 1 << 20);
    must(far_history_encode(source, 1, to, 20000, &batch, &err), &err);
    must(far_store_begin(server->store, true, &txn, &err), &err);
    must(far_history_apply(txn, far_buf_slice(&batch), &err), &err);
    must(far_store_commit(txn, &err), &err);
    far_buf_done(&batch);
    far_store_abort(source);
}

/* A server that got the state of now from another one and has no event. */
static void install(struct server *server, const struct server *from)
{
    struct far_store_txn *source = reading(from), *txn;
    struct far_error err = {0};
    must(far_store_begin(server->store, true, &txn, &err), &err);
    struct far_slice key, value;
    struct far_key at = {.len = 0};
    while (far_store_kv(source)->ops->seek(far_store_kv(source), far_slice(at.bytes, at.len), &key, &value, &err) == 0) {
        must(far_store_kv(txn)->ops->put(far_store_kv(txn), key, value, &err), &err);
        memcpy(at.bytes, key.data, key.len);
        at.bytes[key.len] = 0;
        at.len = key.len + 1;
    }
    *far_store_meta(txn) = *far_store_meta(source);
    far_store_meta(txn)->first_seq = far_store_meta(txn)->last_seq + 1;
    memcpy(far_store_meta(txn)->base_head, far_store_meta(txn)->head, FAR_HEAD_SIZE);
    far_store_meta(txn)->compacted_seq = 0;
    must(far_store_commit(txn, &err), &err);
    far_store_abort(source);
}

static void what_is_fetched_later_is_compacted_too(void **unused)
{
    struct server whole = new_server("whole"), server = new_server("fetching"), other = new_server("fetching2");
    catch_up(&whole, last_seq);
    install(&server, &whole);
    for (uint64_t first = last_seq + 1; first > 1;) {
        fetch(&server, &whole, first - 1);
        compact(&server);
        struct far_store_txn *txn = reading(&server);
        first = far_store_meta(txn)->first_seq;
        far_store_abort(txn);
    }
    check_compacted(&server, 1);
    install(&other, &server);
    for (uint64_t first = last_seq + 1; first > 1;) { /* from one that has compacted them */
        fetch(&other, &server, first - 1);
        struct far_store_txn *txn = reading(&other);
        first = far_store_meta(txn)->first_seq;
        far_store_abort(txn);
    }
    compact(&other);
    check_compacted(&other, 1);
    far_store_close(whole.store);
    far_store_close(server.store);
    far_store_close(other.store);
}

/* ---- states ---- */

static void every_state_since_is_shown_and_of_those_before_what_can_be(void **unused)
{
    struct server server = new_server("past");
    catch_up(&server, last_seq);
    compact(&server);
    struct far_store_txn *txn = reading(&server);
    unsigned shown_before = 0, refused = 0;
    for (uint64_t seq = 1; seq <= last_seq; seq++) {
        struct far_moment moment = {FAR_MOMENT_SEQ, seq};
        struct far_past *past;
        struct far_error err = {0};
        int rv = far_past_open(txn, &moment, &past, &err);
        if (seq >= decided_seq || rv == 0) {
            struct far_hash128 walked;
            uint64_t rows;
            must(rv, &err);
            must(far_state_digest_walk(past->state.kv, &walked, &rows, &err), &err);
            assert_true(far_hash128_equal(walked, digests[seq]));
            far_past_close(past);
            shown_before += seq < decided_seq;
        } else {
            assert_int_equal(rv, FAR_NOT_FOUND);
            assert_non_null(strstr(err.message, "compacted"));
            refused++;
        }
    }
    far_store_abort(txn);
    assert_true(shown_before >= decided_seq / EPOCH && refused > 0);
    far_store_close(server.store);
}

/* A server whose epochs begin elsewhere keeps what its own folds need. */
static void a_server_compacts_no_further_than_its_own_folds_allow(void **unused)
{
    struct server server = new_server("elsewhere");
    server.store->epoch_events = EPOCH + 37;
    catch_up(&server, last_seq);
    struct far_store_txn *txn = reading(&server);
    struct far_error err = {0};
    uint64_t bound;
    must(far_compact_bound(txn, &bound, &err), &err);
    assert_in_range(bound, decided_seq - EPOCH - 40, decided_seq - 1);
    far_store_abort(txn);
    compact(&server);
    txn = reading(&server);
    assert_int_equal(far_store_meta(txn)->compacted_seq, bound);
    for (uint64_t seq = bound; seq <= last_seq; seq++) {
        struct far_moment moment = {FAR_MOMENT_SEQ, seq};
        struct far_past *past;
        must(far_past_open(txn, &moment, &past, &err), &err);
        assert_true(far_hash128_equal(past->state.digest, digests[seq]));
        far_past_close(past);
    }
    far_store_abort(txn);
    far_store_close(server.store);
}

static void a_replay_begins_with_the_oldest_state_that_leads_to_now(void **unused)
{
    struct server server = new_server("replay");
    char out[300];
    struct far_replay replay;
    struct far_error err = {0};
    catch_up(&server, last_seq);
    compact(&server);
    far_store_close(server.store);
    snprintf(out, sizeof out, "%s/replayed", base);
    must(far_log_replay(server.dir, &(struct far_moment){.kind = FAR_MOMENT_NOW}, out, &replay, &err), &err);
    assert_int_equal(replay.from_seq, decided_seq);
    assert_true(far_hash128_equal(replay.digest, digests[last_seq]));
    snprintf(out, sizeof out, "%s/replayed2", base);
    struct far_moment earlier = {FAR_MOMENT_SEQ, decided_seq - EPOCH / 2};
    assert_int_equal(far_log_replay(server.dir, &earlier, out, &replay, &err), FAR_NOT_FOUND);
    must(far_log_replay(server.dir, &(struct far_moment){.kind = FAR_MOMENT_NOW}, out, &replay, &err), &err); /* nothing was left */
}

/* ---- who checks ---- */

static char said[SAID_MAX];

static void report(void *arg, bool good, const char *text)
{
    (void)arg;
    size_t len = strlen(said);
    snprintf(said + len, sizeof said - len, "%s %s\n", good ? "good" : "BAD", text);
}

static void assert_says(const char *format, ...) __attribute__((format(printf, 1, 2)));
static void assert_says(const char *format, ...)
{
    char text[400];
    va_list args;
    va_start(args, format);
    vsnprintf(text, sizeof text, format, args);
    va_end(args);
    if (strstr(said, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, said);
    }
}

/* Compacts one event that is none of those that the log decided. */
static void compact_wrongly(struct server *server)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    uint64_t seq = decided_seq + 1;
    bool changed = false;
    while (events[seq].kind != FAR_KIND_ev_node_reported || events[seq].payload.len <= 32) {
        seq++;
        assert_in_range(seq, 1, last_seq);
    }
    must(far_store_begin(server->store, true, &txn, &err), &err);
    must(far_store_event_compact(txn, seq, &changed, &err), &err);
    assert_true(changed);
    must(far_store_commit(txn, &err), &err);
}

static void a_verification_names_what_is_compacted_and_finds_what_is_wrongly(void **unused)
{
    struct server server = new_server("verify");
    struct far_error err = {0};
    catch_up(&server, last_seq);
    compact(&server);
    far_store_close(server.store);
    memset(said, 0, sizeof said);
    (void)far_log_verify(server.dir, report, NULL, &err); /* there is no WAL, which is all that is wrong */
    assert_says("good compacted: ");
    assert_says("progress up to event %llu", (unsigned long long)decided_seq);
    assert_says("good state: equal to the fold of the events since event %llu", (unsigned long long)decided_seq);
    assert_null(strstr(said, "BAD event"));
    open_server(&server);
    compact_wrongly(&server);
    far_store_close(server.store);
    memset(said, 0, sizeof said);
    assert_int_not_equal(far_log_verify(server.dir, report, NULL, &err), 0);
    assert_says("is compacted, and the log decided that only up to event %llu", (unsigned long long)decided_seq);
}

static unsigned long long verify_export(const struct far_buf *out)
{
    struct verifier *v = calloc(1, sizeof *v);
    assert_non_null(v);
    memset(said, 0, sizeof said);
    v->file = fmemopen(out->data, out->len, "rb");
    v->out = fmemopen(said, sizeof said - 1, "w");
    assert_true(v->file != NULL && v->out != NULL);
    verify_file(v);
    fclose(v->file);
    fclose(v->out);
    unsigned long long findings = v->findings;
    free(v);
    return findings;
}

/* The first record of an event with this type. */
static uint8_t *record_of(const struct far_buf *out, unsigned type)
{
    size_t at = FAR_EXPORT_HEADER;
    while (far_get_le16(out->data + at) != type) {
        at += FAR_EXPORT_RECORD + far_get_le32(out->data + at + 4);
        assert_true(at < out->len);
    }
    return out->data + at;
}

static void export_until(const struct server *server, uint64_t until, struct far_buf *out)
{
    struct far_store_txn *txn = reading(server);
    struct far_error err = {0};
    uint64_t next = 0;
    far_buf_reset(out);
    must(far_export_piece(txn, 0, until, 1 << 24, out, &next, &err), &err);
    far_store_abort(txn);
}

static void the_verifier_of_exports_knows_compacted_events(void **unused)
{
    struct server server = new_server("export");
    struct far_buf out;
    far_buf_init(&out, 1 << 25);
    catch_up(&server, last_seq);
    compact(&server);
    export_until(&server, last_seq, &out);
    assert_int_equal(verify_export(&out), 0);
    assert_says("events of progress are compacted, their payloads are gone; event %llu decided that, up to event %llu",
                (unsigned long long)last_seq, (unsigned long long)decided_seq);
    uint8_t *record = record_of(&out, FAR_EXPORT_COMPACTED);
    record[FAR_EXPORT_RECORD + FAR_EVENT_HEADER] ^= 1; /* another hash */
    assert_int_not_equal(verify_export(&out), 0);
    record[FAR_EXPORT_RECORD + FAR_EVENT_HEADER] ^= 1;
    record = record_of(&out, FAR_EXPORT_WITHHELD); /* what is no progress cannot be compacted */
    far_put_le16(record, FAR_EXPORT_COMPACTED);
    assert_int_not_equal(verify_export(&out), 0);
    assert_says("superseded progress only");
    compact_wrongly(&server);
    export_until(&server, last_seq, &out);
    (void)verify_export(&out);
    assert_says("NOT DECIDED in this file behind event %llu", (unsigned long long)decided_seq);
    far_buf_done(&out);
    far_store_close(server.store);
}

/* Events behind `until` without a payload; how many have one. */
static size_t payloads_behind(const struct far_buf *out, uint64_t until, bool *ret_decided)
{
    size_t count = 0;
    for (size_t at = FAR_EXPORT_HEADER; at < out->len; at += FAR_EXPORT_RECORD + far_get_le32(out->data + at + 4)) {
        const uint8_t *header = out->data + at + FAR_EXPORT_RECORD;
        unsigned type = far_get_le16(out->data + at), kind = far_get_le16(header + 16);
        bool is_event = type == FAR_EXPORT_EVENT || type == FAR_EXPORT_WITHHELD || type == FAR_EXPORT_COMPACTED;
        if (is_event && far_get_le64(header) > until && type != FAR_EXPORT_WITHHELD) {
            assert_int_equal(type, FAR_EXPORT_EVENT);
            *ret_decided = *ret_decided || kind == FAR_KIND_ev_progress_compacted;
            count += kind != FAR_KIND_ev_progress_compacted && kind != FAR_KIND_ev_head_proposed && kind != FAR_KIND_ev_head_signed;
        }
    }
    return count;
}

/* In many small pieces the same file. */
static void assert_pieces_are_the_same(const struct server *server, uint64_t until, const struct far_buf *whole)
{
    struct far_store_txn *txn = reading(server);
    struct far_error err = {0};
    struct far_buf out;
    uint64_t next = 0;
    unsigned pieces = 0;
    far_buf_init(&out, 1 << 25);
    do {
        must(far_export_piece(txn, next, until, 4096, &out, &next, &err), &err);
        pieces++;
    } while (next != 0);
    far_store_abort(txn);
    assert_true(pieces > 5 && out.len == whole->len);
    assert_memory_equal(out.data, whole->data, out.len);
    far_buf_done(&out);
}

/* It goes on to the event that decided what is compacted, and of all that lies between it gives nothing away. */
static void an_export_that_ends_before_the_decision_carries_it(void **unused)
{
    struct server server = new_server("early");
    struct far_buf out;
    const uint64_t first = last_seq, first_seq = decided_seq; /* the decision, and how far it went */
    far_buf_init(&out, 1 << 25);
    for (int i = 0; i < 5 * EPOCH; i++) {
        char name[24];
        snprintf(name, sizeof name, "later-%d", i);
        MUST(&w, site_create, .name = far_slice_str(name), .role = FAR_site_role_witness);
        w.now_ms += DAY_MS / EPOCH;
    }
    take_events();
    w.now_ms += 31 * DAY_MS;
    decide(first + 2 * EPOCH); /* a second one */
    for (int i = 0; i < 2 * EPOCH; i++) {
        MUST(&w, consumer_create, .name = S("c"), .from_end = true);
        MUST(&w, consumer_remove, .name = S("c"));
    }
    take_events();
    catch_up(&server, last_seq);
    compact(&server);
    const uint64_t ends[] = {first_seq / 3, first_seq - 1, first_seq};
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++) {
        bool is_decided = false;
        export_until(&server, ends[i], &out);
        assert_int_equal(verify_export(&out), 0);
        assert_null(strstr(said, "NOT DECIDED"));
        assert_says("event %llu decided that, up to event %llu", (unsigned long long)first, (unsigned long long)first_seq);
        assert_int_equal(payloads_behind(&out, ends[i], &is_decided), 0);
        assert_true(is_decided);
        assert_pieces_are_the_same(&server, ends[i], &out);
    }
    export_until(&server, first, &out); /* it may hold what only the second one let go */
    assert_int_equal(verify_export(&out), 0);
    assert_says("up to event %llu", (unsigned long long)(first + 2 * EPOCH));
    export_until(&server, last_seq - 1, &out); /* all of it, to the end that was asked for */
    assert_int_equal(verify_export(&out), 0);
    assert_says("events 1 to %llu", (unsigned long long)last_seq - 1);
    far_buf_done(&out);
    far_store_close(server.store);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_young_stays_and_what_is_old_is_found),
        cmocka_unit_test(rows_lose_their_payloads_and_a_crash_at_any_piece_costs_nothing),
        cmocka_unit_test(tidying_compacts_as_the_log_decided),
        cmocka_unit_test(segments_are_written_anew_and_a_crash_at_any_step_costs_nothing),
        cmocka_unit_test(what_is_sealed_meanwhile_does_not_bring_payloads_back),
        cmocka_unit_test(what_is_fetched_later_is_compacted_too),
        cmocka_unit_test(every_state_since_is_shown_and_of_those_before_what_can_be),
        cmocka_unit_test(a_server_compacts_no_further_than_its_own_folds_allow),
        cmocka_unit_test(a_replay_begins_with_the_oldest_state_that_leads_to_now),
        cmocka_unit_test(a_verification_names_what_is_compacted_and_finds_what_is_wrongly),
        cmocka_unit_test(the_verifier_of_exports_knows_compacted_events),
        cmocka_unit_test(an_export_that_ends_before_the_decision_carries_it),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
