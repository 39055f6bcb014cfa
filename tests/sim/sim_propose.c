/* What log_propose.c does on a server, in virtual time: proposals become entries, or go to the leader; what a leader
 * proposes by itself. The queue, its entries and its frames are the real ones (proposals.h, frames.h). See sim.h. */
#include "sim.h"

#include "base/assert.h"
#include "fsm/query.h"

enum { BEAT_US = 100 * SIM_MS, OWN_TIMEOUT_MS = 30 * 1000, SLOW_BEAT = 10 };

static uint64_t mono_ms(const struct sim_server *server)
{
    return server->sim->now_us / SIM_MS + 1000;
}

static uint64_t wall_ms(const struct sim_server *server)
{
    return (uint64_t)((int64_t)(SIM_START_MS + mono_ms(server)) + server->wall_off_ms);
}

static uint64_t cluster_now(struct sim_server *server)
{
    uint64_t mono = mono_ms(server);
    uint64_t steps = server->clock.step_count, was_ms = server->clock.stamped_ms;
    bool was_set = server->clock.is_set;
    far_cluster_clock_sample(&server->clock, server->id, wall_ms(server), mono, mono);
    uint64_t now_ms = far_cluster_clock_stamp(&server->clock, mono);
    if (server->clock.step_count != steps || now_ms > was_ms + 3600 * 1000) {
        sim_say(server->sim, "server %llu: cluster time goes from %llu to %llu (set %d, %u servers, %zu samples)",
                (unsigned long long)server->id, (unsigned long long)was_ms, (unsigned long long)now_ms, was_set,
                server->clock.server_count, server->clock.sample_count);
    }
    return now_ms;
}

/* ---- answers ---- */

static void send_answer(struct sim_server *server, uint64_t peer_id, const struct far_answer *answer)
{
    struct far_buf *out = &server->sim->scratch;
    far_buf_reset(out);
    FAR_ASSERT(far_answer_encode(answer, out) == 0);
    sim_net_send(server, peer_id, SIM_ANSWER, 0, far_buf_slice(out));
}

static void on_answer(void *arg, const struct far_proposal *proposal, const struct far_result *result, uint64_t index)
{
    struct sim_server *server = arg;
    if (proposal->done != NULL) {
        proposal->done(proposal->arg, result, index);
    } else if (proposal->peer_id != 0 && server->alive) {
        struct far_answer answer = {.request = proposal->request, .applied_index = index, .result = *result};
        send_answer(server, proposal->peer_id, &answer);
    }
}

bool sim_propose(struct sim_server *server, const struct far_command *command, uint64_t timeout_ms, sim_done_fn done,
                 void *arg)
{
    struct far_proposal *proposal = far_proposals_add(&server->proposals, command, mono_ms(server) + timeout_ms);
    if (proposal != NULL) {
        proposal->done = done;
        proposal->arg = arg;
    }
    return proposal != NULL;
}

static void on_forward(struct sim_server *server, uint64_t from_id, struct far_slice frame)
{
    struct far_forward forward;
    struct far_proposal *proposal = NULL;
    FAR_ASSERT(far_forward_decode(frame, &forward, NULL) == 0);
    if (server->is_leader) {
        proposal = far_proposals_add(&server->proposals, forward.is_barrier ? NULL : &forward.command,
                                     mono_ms(server) + forward.timeout_ms);
    }
    if (proposal != NULL) {
        proposal->peer_id = from_id;
        proposal->request = forward.request;
        sim_server_pump(server);
        return;
    }
    struct far_answer answer = {.request = forward.request, .result = {.klass = FAR_NOT_LEADER}};
    send_answer(server, from_id, &answer);
}

void sim_propose_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, struct far_slice bytes)
{
    struct far_answer answer;
    if (kind == SIM_FORWARD) {
        on_forward(server, from_id, bytes);
    } else if (far_answer_decode(bytes, &answer, NULL) == 0) {
        far_proposals_answered(&server->proposals, answer.request, &answer.result, answer.applied_index);
    }
}

/* ---- the leader's own commands ---- */

static bool propose_own(struct sim_server *server, const struct far_schema *schema, const void *object, bool is_first,
                        sim_done_fn done)
{
    struct far_buf *payload = &server->sim->payload;
    far_buf_reset(payload);
    FAR_ASSERT(far_schema_encode(schema, object, payload, NULL) == 0);
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, server->id),
                                  .payload = far_buf_slice(payload)};
    uint64_t deadline_ms = mono_ms(server) + OWN_TIMEOUT_MS;
    struct far_proposal *proposal = is_first ? far_proposals_add_first(&server->proposals, &command, deadline_ms)
                                             : far_proposals_add(&server->proposals, &command, deadline_ms);
    if (proposal != NULL) {
        proposal->is_own = true;
        proposal->done = done;
        proposal->arg = server;
    }
    return proposal != NULL;
}

static void on_named(void *arg, const struct far_result *result, uint64_t index)
{
    struct sim_server *server = arg;
    server->leader_naming = false;
    server->leader_named = server->leader_named || result->klass == 0;
}

static void on_ticked(void *arg, const struct far_result *result, uint64_t index)
{
    struct sim_server *server = arg;
    server->tick_is_pending = false;
}

/* Broken on purpose: nothing says that a leader has started, so leases go on as if nothing had been the matter. */
static void propose_leader_started(struct sim_server *server)
{
    struct far_cmd_leader_started started = {.server_id = server->id, .term = server->term};
    if (server->sim->options.broken == SIM_BROKEN_LEASE) {
        server->leader_named = true;
        return;
    }
    server->leader_naming = propose_own(server, &far_schema_cmd_leader_started, &started, true, on_named);
}

static void propose_tick(struct sim_server *server)
{
    struct far_store_txn *txn;
    uint64_t due_ms = UINT64_MAX;
    struct far_cmd_tick tick = {};
    if (!server->is_leader || !server->leader_named || server->tick_is_pending) {
        return;
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    int rc = far_query_next_deadline(&state, &due_ms, NULL);
    far_store_abort(txn);
    if (rc == 0 && due_ms <= cluster_now(server)) {
        server->tick_is_pending = propose_own(server, &far_schema_cmd_tick, &tick, false, on_ticked);
        sim_server_pump(server);
    }
}

/* The clock goes on where the state is, as each commit tells it; and what it says of the clocks. */
void sim_propose_observe(struct sim_server *server)
{
    struct far_store_txn *txn;
    struct far_row_progress progress = {0};
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_progress);
    struct far_arena arena;
    far_arena_init(&arena, 16384);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    if (far_state_get(&state, &far_schema_row_progress, &key, &arena, &progress, NULL) == 0) {
        far_cluster_clock_observe(&server->clock, progress.time_ms, mono_ms(server));
        server->clock_verdict = progress.clock_verdict;
        server->clock_off_ms = progress.clock_off_ms;
    }
    key = far_key(&far_schema_row_cluster);
    if (far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, NULL) == 0) {
        server->clock.steps_by_log = cluster.feature_level >= 2;
    }
    far_store_abort(txn);
    far_arena_done(&arena);
}

static void on_judged(void *arg, const struct far_result *result, uint64_t index)
{
    struct sim_server *server = arg;
    server->judging = false;
}

/* As far_log_judge_clocks(). */
static void judge_clocks(struct sim_server *server)
{
    sim_propose_observe(server);
    if (!server->clock.is_set && !server->is_leader) {
        return;
    }
    uint64_t now = cluster_now(server);
    int64_t offset_ms = server->clock.offset_ms;
    uint64_t off_ms = offset_ms < 0 ? (uint64_t)-offset_ms : (uint64_t)offset_ms;
    uint64_t known = server->clock_verdict == 0 ? (uint64_t)FAR_CLOCK_GOOD : server->clock_verdict;
    uint64_t apart = off_ms > server->clock_off_ms ? off_ms - server->clock_off_ms : server->clock_off_ms - off_ms;
    bool is_forward = server->clock.judgement == FAR_CLOCK_FORWARD;
    bool is_suspect = server->clock.judgement == FAR_CLOCK_SUSPECT;
    server->suspect_beats = is_suspect ? server->suspect_beats + 1 : 0;
    bool is_news = is_forward || (is_suspect && known != FAR_CLOCK_SUSPECT && server->suspect_beats >= 5) ||
                   (!is_suspect && (uint64_t)server->clock.judgement != known) ||
                   (server->clock.judgement == FAR_CLOCK_AHEAD && apart > FAR_CLUSTER_CLOCK_STEP_MS);
    if (!server->is_leader || !server->leader_named || server->judging || !server->clock.steps_by_log ||
        server->clock.sample_count == 0 || !is_news) {
        return;
    }
    struct far_cmd_clock_judge judge = {.verdict = server->clock.judgement,
                                        .off_ms = off_ms,
                                        .agreeing = server->clock.agreeing,
                                        .voters = server->clock.server_count,
                                        .to_ms = is_forward ? now + off_ms : 0};
    sim_say(server->sim, "server %llu judges the clocks: %d, off %lld ms, %u of %u agree", (unsigned long long)server->id,
            (int)judge.verdict, (long long)offset_ms, server->clock.agreeing, server->clock.server_count);
    server->judging = propose_own(server, &far_schema_cmd_clock_judge, &judge, false, on_judged);
    sim_count(server->sim, SIM_COUNT_CLOCK_JUDGED);
}

static void count_clocks(struct sim_server *server, const struct far_raft_status *status)
{
    uint64_t ids[FAR_RAFT_MEMBERS_MAX];
    size_t voters = 0;
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].voter) {
            ids[voters++] = status->members[i].id;
        }
    }
    far_cluster_clock_servers(&server->clock, ids, voters);
}

static void leadership(struct sim_server *server)
{
    server->leader_moved = false;
    server->leader_named = server->leader_naming = server->tick_is_pending = false;
    far_proposals_lost(&server->proposals, "leadership moved before the answer; repeat it with the same id");
    server->judging = false;
    if (server->is_leader) {
        struct far_raft_status status;
        far_raft_status(server->raft, &status);
        count_clocks(server, &status);
        propose_leader_started(server);
    }
}

/* ---- into entries, or to the leader ---- */

struct screening {
    struct sim_server *server;
    struct far_store_txn *txn;
    struct far_state state;
    bool is_sure;
};

static bool screen(void *arg, struct far_proposal *proposal, struct far_result *ret_result)
{
    struct screening *screening = arg;
    struct far_error err = {0};
    if (proposal->is_own || !screening->is_sure || proposal->command.kind == FAR_KIND_cmd_node_report) {
        return false;
    }
    if (screening->txn == NULL) {
        FAR_ASSERT(far_store_begin(screening->server->store, true, &screening->txn, NULL) == 0);
        screening->state = (struct far_state){.kv = far_store_kv(screening->txn),
                                              .digest = far_store_meta(screening->txn)->digest};
    }
    proposal->command.proposed_at_ms = cluster_now(screening->server);
    return far_fsm_check(&screening->state, &proposal->command, ret_result, &err) == 0 &&
           (ret_result->klass != 0 || ret_result->repeated);
}

static void screen_queue(struct sim_server *server)
{
    struct far_raft_status status;
    far_raft_status(server->raft, &status);
    const struct far_leader_knows knows = {.is_named = server->leader_named,
                                           .is_offered = status.is_offered,
                                           .heard_ms = status.leader_heard_ms,
                                           .now_ms = mono_ms(server),
                                           .election_ms = server->sim->swarm.election_ms,
                                           .committed_index = status.commit_index,
                                           .applied_index = server->meta->applied_index};
    struct screening screening = {.server = server, .is_sure = far_leader_knows_all(&knows)};
    far_proposals_screen(&server->proposals, screen, &screening, server->meta->applied_index);
    far_store_abort(screening.txn);
}

static void flush_as_leader(struct sim_server *server)
{
    struct far_error err = {0};
    uint64_t index, term;
    if (!server->leader_named && !server->leader_naming && server->meta->last_seq > 0) {
        propose_leader_started(server);
    }
    if (server->proposals.queued.first == NULL) {
        return;
    }
    screen_queue(server);
    while (server->proposals.queued.first != NULL && far_raft_in_flight(server->raft) < FAR_RAFT_WINDOW) {
        if (far_raft_next(server->raft, &index, &term, &err) != 0 ||
            far_proposals_take(&server->proposals, index, term, cluster_now(server), &server->sim->entry, &err) != 0) {
            return;
        }
        int rc = far_raft_submit(server->raft, far_buf_slice(&server->sim->entry), &err);
        if (rc != 0) {
            far_proposals_refused(&server->proposals, rc == FAR_NOT_LEADER ? FAR_BUSY : rc, err.message);
            return;
        }
    }
}

static void flush_to_leader(struct sim_server *server)
{
    struct sim *sim = server->sim;
    while (server->proposals.queued.first != NULL) {
        struct sim_server *leader = sim_server_of(sim, server->leader_id);
        if (server->proposals.queued.first->peer_id != 0) {
            far_proposals_drop_queued(&server->proposals, FAR_NOT_LEADER, "leadership moved; try again");
            return;
        }
        if (leader == NULL || leader == server || sim->links[server->machine][leader->machine].blocked) {
            far_proposals_drop_queued(&server->proposals, FAR_BUSY, "no leader is reachable; try again later");
            return;
        }
        struct far_proposal *proposal = far_proposals_send(&server->proposals);
        struct far_forward frame = {.request = proposal->request,
                                    .timeout_ms = proposal->deadline_ms - mono_ms(server),
                                    .is_barrier = proposal->is_barrier,
                                    .command = proposal->command};
        far_buf_reset(&sim->scratch);
        FAR_ASSERT(far_forward_encode(&frame, &sim->scratch) == 0);
        sim_net_send(server, server->leader_id, SIM_FORWARD, 0, far_buf_slice(&sim->scratch));
    }
}

void sim_server_pump(struct sim_server *server)
{
    if (!server->alive || server->fatal || sim_disk_dead(server->disk)) {
        return;
    }
    if (server->leader_moved) {
        leadership(server);
    }
    if (server->is_leader) {
        flush_as_leader(server);
    } else if (server->proposals.queued.first != NULL) {
        flush_to_leader(server);
    }
}

/* ---- the beat ---- */

static void slow_beat(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_raft_status status;
    far_raft_status(server->raft, &status);
    uint8_t first_seq[8];
    far_put_le64(first_seq, server->meta->first_seq);
    for (size_t i = 0; i < status.member_count; i++) {
        sim_net_send(server, status.members[i].id, SIM_CLOCK, wall_ms(server), far_slice(first_seq, sizeof first_seq));
    }
    count_clocks(server, &status);
    judge_clocks(server);
    sim_heads_beat(server);
    sim_compact_beat(server);
    sim_past_beat(server);
    sim_history_ask(server);
    if (sim_chance(sim, 3) && !sim_server_walk(server)) {
        struct far_error err = {.klass = FAR_CORRUPT, .message = "the walk found a damaged row"};
        sim_server_stop(server, &err);
        return;
    }
    if (far_store_durable_index(server->store) < server->meta->applied_index && server->queue_count == 0 &&
        sim_chance(sim, 50)) {
        FAR_ASSERT(far_store_sync(server->store, NULL) == 0);
        sim_server_tell_durable(server);
    }
    if (server->safe_first_seq > server->meta->first_seq && sim_chance(sim, 50)) {
        FAR_ASSERT(far_store_sync(server->store, NULL) == 0);
        server->safe_first_seq = server->meta->first_seq;
    }
}

static void beat_due(struct sim *sim, void *object, uint64_t life, uint64_t count, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life) {
        return;
    }
    sim_after(sim, BEAT_US, beat_due, server, life, count + 1, NULL);
    if (server->fatal || sim_disk_dead(server->disk)) {
        return;
    }
    far_proposals_expire(&server->proposals, mono_ms(server));
    propose_tick(server);
    if (count % SLOW_BEAT == 0) {
        slow_beat(server);
    }
    sim_server_pump(server);
}

void sim_propose_start(struct sim_server *server)
{
    sim_propose_observe(server);
    far_proposals_init(&server->proposals, on_answer, server, sim_random(server->sim, UINT64_MAX));
    server->leader_moved = server->leader_named = server->leader_naming = server->tick_is_pending = false;
    server->judging = false;
    server->leader_id = 0;
    sim_heads_live(server);
    sim_compact_live(server);
    sim_past_live(server);
    sim_after(server->sim, sim_random(server->sim, BEAT_US), beat_due, server, server->life, 0, NULL);
}

void sim_propose_end(struct sim_server *server)
{
    if (server->proposals.answer != NULL) {
        far_proposals_lost(&server->proposals, "the server died");
        far_proposals_drop_queued(&server->proposals, FAR_BUSY, "the server died");
    }
}
