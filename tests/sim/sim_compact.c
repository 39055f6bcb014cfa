/* Compaction of superseded progress (log/compact.h). The leader has it decided in the log; each server carries it out by the real
 * code, some rows at a time, at moments of its own, and crashes between. See sim.h.
 *
 * Where is drawn, and the events are called a month older than they are: by the policy's days nothing would happen in a minute.
 * Checked: no server ever shows a compacted event behind what the log decided; a consumer gets every event, and the chain leads
 * from each to the next, whether it has its payload or not; in the end each row of each server is that of the replayed log, or
 * the same without its payload, which only decided reports of nodes may have lost; and then all of it is carried out. */
#include "sim.h"

#include "base/assert.h"
#include "log/compact.h"
#include "log/history.h"
#include "log/retain.h"

enum { TIMEOUT_MS = 8000, STEP_US = 2 * SIM_SECOND, CALM_STEP_US = 200 * SIM_MS };
#define MONTH_MS (31 * 86400000ull)

/* ---- deciding ---- */

static void on_decided(void *arg, const struct far_result *result, uint64_t index)
{
    struct sim *sim = arg;
    sim->counts.of[SIM_COUNT_COMPACT] += result->klass == 0;
}

/* As far_compact_look(): the start of an epoch, where there are epochs. */
static int draw_seq(struct sim_server *leader, struct far_cmd_progress_compact *ret_cmd)
{
    struct far_store_txn *txn;
    struct far_row_retention row = {.compacted_seq = 0};
    struct far_epoch epoch;
    uint64_t now_ms = 0, last_seq = leader->meta->last_seq;
    FAR_ASSERT(far_store_begin(leader->store, true, &txn, NULL) == 0);
    int rc = far_retain_row(txn, &row, &now_ms, NULL);
    uint64_t least = row.compacted_seq + 1 > leader->meta->first_seq ? row.compacted_seq + 1 : leader->meta->first_seq;
    rc = rc == 0 && least >= last_seq ? FAR_NOT_FOUND : rc;
    if (rc == 0) {
        uint64_t back = sim_random(leader->sim, sim_random(leader->sim, last_seq - least) + 1); /* the nearer, the likelier */
        *ret_cmd = (struct far_cmd_progress_compact){.seq = last_seq - 1 - back, .time_ms = now_ms - MONTH_MS};
    }
    if (rc == 0 && far_store_history(txn) != NULL) {
        rc = far_epoch_before(txn, ret_cmd->seq, &epoch, NULL);
        ret_cmd->seq = rc == 0 ? epoch.seq : 0;
        rc = rc == 0 && epoch.seq < least ? FAR_NOT_FOUND : rc;
    }
    far_store_abort(txn);
    return rc;
}

static void propose(struct sim_server *leader)
{
    struct far_cmd_progress_compact cmd;
    struct far_buf payload;
    if (draw_seq(leader, &cmd) != 0) {
        return;
    }
    far_buf_init(&payload, 256);
    FAR_ASSERT(far_schema_encode(&far_schema_cmd_progress_compact, &cmd, &payload, NULL) == 0);
    struct far_command command = {.kind = far_schema_cmd_progress_compact.kind,
                                  .version = far_schema_cmd_progress_compact.version,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, leader->id),
                                  .payload = far_buf_slice(&payload)};
    sim_propose(leader, &command, TIMEOUT_MS, on_decided, leader->sim);
    far_buf_done(&payload);
}

void sim_compact_beat(struct sim_server *server)
{
    struct sim *sim = server->sim;
    if (sim->swarm.compact_rows > 0 && sim->trouble && server->is_leader && server->leader_named && !server->fatal &&
        sim_chance(sim, 15)) {
        propose(server);
    }
}

/* The log has decided it, as the first server that applies it shows. */
void sim_compact_decided(struct sim *sim, const struct far_command *command)
{
    struct far_cmd_progress_compact cmd;
    struct far_arena arena;
    far_arena_init(&arena, 256);
    FAR_ASSERT(far_schema_decode(&far_schema_cmd_progress_compact, command->payload, &arena, &cmd, NULL) == 0);
    sim->compacted_seq = cmd.seq > sim->compacted_seq ? cmd.seq : sim->compacted_seq;
    far_arena_done(&arena);
}

/* ---- carrying it out ---- */

/* Broken on purpose: an event that the log did not decide. */
static void compact_another(struct sim_server *server, struct far_store_txn *txn, bool *ret_changed)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    if (server->sim->options.broken == SIM_BROKEN_COMPACT && meta->last_seq > meta->first_seq) {
        bool changed = false;
        uint64_t seq = meta->first_seq + sim_random(server->sim, meta->last_seq - meta->first_seq);
        (void)far_store_event_compact(txn, seq, &changed, NULL);
        *ret_changed = *ret_changed || changed;
    }
}

static void carry_out(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_store_txn *txn;
    struct far_error err = {0};
    bool changed = false, more;
    sim_apply_settle(server);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_compact_rows(txn, sim->trouble ? sim->swarm.compact_rows : 500, &changed, &more, &err);
    compact_another(server, txn, &changed);
    if (rc != 0 || !changed) {
        far_store_abort(txn);
        if (rc != 0 && server->damaged) {
            sim_server_stop(server, &err);
        } else if (rc != 0) {
            sim_fail(sim, "server %llu cannot compact: %s", (unsigned long long)server->id, err.message);
        }
        return;
    }
    *server->before = *server->meta;
    *server->meta = *far_store_meta(txn);
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
    sim_count(sim, SIM_COUNT_COMPACT_PIECE);
    if (sim->trouble && sim_chance(sim, 5)) {
        sim_count(sim, SIM_COUNT_COMPACT_CRASH);
        sim_server_crash(server, sim_chance(sim, 70));
    }
}

static void step_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life) {
        return;
    }
    sim_after(sim, sim->trouble ? CALM_STEP_US + sim_random(sim, STEP_US) : CALM_STEP_US, step_due, server, life, 0, NULL);
    if (!server->fatal && !server->fetching && server->incarnation == sim->incarnation) {
        carry_out(server);
    }
}

void sim_compact_live(struct sim_server *server)
{
    if (server->sim->swarm.compact_rows > 0) {
        sim_after(server->sim, sim_random(server->sim, STEP_US), step_due, server, server->life, 0, NULL);
    }
}

bool sim_compact_idle(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES && sim->swarm.compact_rows > 0; i++) {
        const struct sim_server *server = &sim->servers[i];
        struct far_store_txn *txn;
        enum far_compact_next next = FAR_COMPACT_NOTHING;
        if (!server->alive || server->incarnation != sim->incarnation) {
            continue;
        }
        FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
        int rc = far_compact_next(txn, &next, NULL);
        far_store_abort(txn);
        if (rc != 0 || next != FAR_COMPACT_NOTHING) {
            return false;
        }
    }
    return true;
}

/* ---- the checkers ---- */

/* A server shows this event: to a consumer, or to another server. */
void sim_compact_seen(struct sim_server *server, const struct far_event *event)
{
    struct sim *sim = server->sim;
    if (event->compacted_len != 0 && event->seq > sim->compacted_seq) {
        sim_fail(sim, "server %llu has compacted event %llu, and the log has decided on those up to %llu",
                 (unsigned long long)server->id, (unsigned long long)event->seq, (unsigned long long)sim->compacted_seq);
    }
}

/* It got the events [from, to) from a server that may have gone further than it, or less far. */
void sim_compact_fetched(struct sim_server *server, struct far_store_txn *txn, uint64_t from, uint64_t to)
{
    struct sim *sim = server->sim;
    for (uint64_t seq = from; seq < to && sim->compacted_seq > 0; seq++) {
        struct far_event event;
        FAR_ASSERT(far_store_event_get(txn, seq, &event, NULL, NULL) == 0);
        sim_compact_seen(server, &event);
        sim->counts.of[SIM_COUNT_BACKFILL_SHORT] += event.compacted_len != 0;
        sim->counts.of[SIM_COUNT_BACKFILL_WHOLE] +=
            event.compacted_len == 0 && seq <= sim->compacted_seq && far_event_may_compact(&event);
    }
}

/* Is this row the one of the replayed log without its payload? */
static bool is_shortened(struct far_slice row, struct far_slice replayed, struct far_buf *scratch)
{
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], hash[32];
    if (far_event_row_decode(replayed, &event, head, NULL) != 0 || !far_event_may_compact(&event)) {
        return false;
    }
    far_buf_reset(scratch);
    FAR_ASSERT(far_event_compact(&event, hash, NULL) == 0 && far_event_row_encode(&event, head, scratch, NULL) == 0);
    return far_slice_equal(row, far_buf_slice(scratch));
}

/* Its rows of events against those of the replayed log. */
void sim_compact_check(struct sim_server *server, struct far_store_txn *replayed)
{
    struct sim *sim = server->sim;
    struct far_store_txn *txn;
    uint64_t decided = 0;
    FAR_ASSERT(far_compact_decided(replayed, &decided, NULL) == 0);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    const struct far_store_meta *meta = far_store_meta(txn);
    for (uint64_t seq = meta->first_seq; seq <= meta->last_seq && !sim->failed; seq++) {
        struct far_slice row, whole;
        struct far_event event;
        if (far_store_event_row(txn, seq, &row, NULL) != 0 || far_store_event_row(replayed, seq, &whole, NULL) != 0) {
            sim_fail(sim, "server %llu has no event %llu, or the log has none", (unsigned long long)server->id, (unsigned long long)seq);
        } else if (!far_slice_equal(row, whole) && (seq > decided || !is_shortened(row, whole, &sim->scratch))) {
            sim_fail(sim, "server %llu: event %llu is not that of the log, nor one that was to be compacted (up to %llu)",
                     (unsigned long long)server->id, (unsigned long long)seq, (unsigned long long)decided);
        } else if (seq <= meta->compacted_seq && (far_event_row_decode(row, &event, NULL, NULL) != 0 ||
                                                  (event.compacted_len == 0 && far_event_may_compact(&event)))) {
            sim_fail(sim, "server %llu: event %llu has its payload, and was compacted up to %llu", (unsigned long long)server->id,
                     (unsigned long long)seq, (unsigned long long)meta->compacted_seq);
        }
    }
    far_store_abort(txn);
}
