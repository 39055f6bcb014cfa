/* Proposals and leadership: who gets a command, who answers it, and what a leader proposes by itself. See log.c. */
#include "log/log_private.h"
#include "log/signed_head.h"

#include "base/clock.h"
#include "base/logging.h"

#include <stdio.h>

/* ---- public: propose, wait, barrier ---- */

void far_log_propose(struct far_log *log, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                     void *arg)
{
    struct far_proposal *proposal = NULL;
    if (command->payload.len > FAR_COMMAND_PAYLOAD_MAX) {
        far_log_refuse(log, FAR_LIMIT, "the command is too long", done, arg);
        return;
    }
    if (far_log_refuse_safe(log, done, arg)) {
        return;
    }
    if (!log->is_closing) {
        proposal = far_proposals_add(&log->proposals, command, far_clock_monotonic_ms() + timeout_ms);
    }
    if (proposal == NULL) {
        far_log_refuse(log, FAR_BUSY, "too many commands are waiting; try again later", done, arg);
        return;
    }
    proposal->done = done;
    proposal->arg = arg;
    far_log_note_asked(log, 0, command);
    far_log_kick(log);
}

void far_log_wait_index(struct far_log *log, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *arg)
{
    struct far_waiter *waiter = log->waiter_count < FAR_LOG_WAITERS_MAX && !log->is_closing ? malloc(sizeof *waiter) : NULL;
    if (waiter == NULL) {
        far_log_refuse(log, FAR_BUSY, "too many requests are waiting; try again later", done, arg);
        return;
    }
    *waiter = (struct far_waiter){.next = log->waiters,
                                  .index = index,
                                  .deadline_ms = far_clock_monotonic_ms() + timeout_ms,
                                  .done = done,
                                  .arg = arg};
    log->waiters = waiter;
    log->waiter_count++;
    far_apply_thread_want(log->apply, index);
    far_log_kick(log);
}

struct barrier {
    struct far_log *log;
    uint64_t deadline_ms;
    far_log_done_fn done;
    void *arg;
};

/* The leader named an index: wait until it is applied here. */
static void on_barrier(void *arg, const struct far_result *result, uint64_t index)
{
    struct barrier *barrier = arg;
    uint64_t now = far_clock_monotonic_ms();
    if (result->klass != 0) {
        barrier->done(barrier->arg, result, index);
    } else {
        far_log_wait_index(barrier->log, index, barrier->deadline_ms > now ? barrier->deadline_ms - now : 0, barrier->done,
                           barrier->arg);
    }
    free(barrier);
}

void far_log_barrier(struct far_log *log, uint64_t timeout_ms, far_log_done_fn done, void *arg)
{
    if (far_log_refuse_safe(log, done, arg)) {
        return;
    }
    uint64_t deadline_ms = far_clock_monotonic_ms() + timeout_ms;
    struct barrier *barrier = malloc(sizeof *barrier);
    struct far_proposal *proposal = barrier == NULL || log->is_closing ? NULL
                                    : far_proposals_add(&log->proposals, NULL, deadline_ms);
    if (proposal == NULL) {
        free(barrier);
        far_log_refuse(log, FAR_BUSY, "too many requests are waiting; try again later", done, arg);
        return;
    }
    *barrier = (struct barrier){.log = log, .deadline_ms = deadline_ms, .done = done, .arg = arg};
    proposal->done = on_barrier;
    proposal->arg = barrier;
    far_log_kick(log);
}

/* ---- answers ---- */

void far_log_answer(void *arg, const struct far_proposal *proposal, const struct far_result *result,
                    uint64_t applied_index)
{
    struct far_log *log = arg;
    if (log->answering_index != 0 && proposal->command.kind != FAR_KIND_cmd_node_report) {
        log->shown_index = log->answering_index;
    }
    if (proposal->done != NULL) {
        proposal->done(proposal->arg, result, applied_index);
        return;
    }
    if (proposal->peer_id == 0 || log->is_closing) {
        return;
    }
    struct far_answer answer = {.request = proposal->request, .applied_index = applied_index, .result = *result};
    far_buf_reset(&log->scratch);
    if (far_answer_encode(&answer, &log->scratch) == 0) {
        (void)far_peers_send(log->peers, proposal->peer_id, FAR_FRAME_ANSWER, far_buf_slice(&log->scratch));
    }
}

void far_log_on_answer(struct far_log *log, struct far_slice frame)
{
    struct far_answer answer;
    if (far_answer_decode(frame, &answer, NULL) != 0) {
        return;
    }
    if (answer.result.klass == FAR_NOT_LEADER) { /* it was not proposed: nothing happened */
        answer.result.klass = FAR_BUSY;
    }
    far_proposals_answered(&log->proposals, answer.request, &answer.result, answer.applied_index);
}

void far_log_on_forward(struct far_log *log, uint64_t peer_id, struct far_slice frame)
{
    struct far_forward forward;
    struct far_error err = {0};
    if (far_forward_decode(frame, &forward, &err) != 0) {
        far_logf(FAR_LEVEL_WARN, "log", "server %llu: %s", (unsigned long long)peer_id, err.message);
        far_peers_drop(log->peers, peer_id);
        return;
    }
    struct far_answer answer = {.request = forward.request, .result = {.klass = FAR_NOT_LEADER}};
    struct far_proposal *proposal = NULL;
    if (log->is_leader && log->hold_index == 0) {
        proposal = far_proposals_add(&log->proposals, forward.is_barrier ? NULL : &forward.command,
                                     far_clock_monotonic_ms() + forward.timeout_ms);
    }
    answer.result.klass = log->is_leader ? FAR_BUSY : FAR_NOT_LEADER;
    if (proposal != NULL) {
        if (!forward.is_barrier) {
            far_log_note_asked(log, peer_id, &forward.command);
        }
        proposal->peer_id = peer_id;
        proposal->request = forward.request;
        far_log_kick(log);
        return;
    }
    snprintf(answer.result.message, sizeof answer.result.message, "%s",
             log->hold_index != 0 ? "the leader is in safe mode; try again later"
             : log->is_leader     ? "too many commands are waiting; try again later"
                                  : "leadership moved; try again");
    far_buf_reset(&log->scratch);
    if (far_answer_encode(&answer, &log->scratch) == 0) {
        (void)far_peers_send(log->peers, peer_id, FAR_FRAME_ANSWER, far_buf_slice(&log->scratch));
    }
}

/* ---- the leader's own commands ---- */

struct far_proposal *far_log_propose_own(struct far_log *log, const struct far_schema *schema, const void *object,
                                         bool is_first, far_log_done_fn done)
{
    struct far_buf payload;
    far_buf_init(&payload, 4096);
    struct far_proposal *proposal = NULL;
    if (far_schema_encode(schema, object, &payload, NULL) == 0) {
        struct far_command command = {.kind = schema->kind,
                                      .version = schema->version,
                                      .actor = far_actor(FAR_ACTOR_SYSTEM, log->config.server_id),
                                      .payload = far_buf_slice(&payload)};
        uint64_t deadline_ms = far_clock_monotonic_ms() + FAR_LOG_OWN_TIMEOUT_MS;
        proposal = is_first ? far_proposals_add_first(&log->proposals, &command, deadline_ms)
                            : far_proposals_add(&log->proposals, &command, deadline_ms);
    }
    if (proposal != NULL) {
        proposal->is_own = true;
        proposal->done = done;
        proposal->arg = log;
    }
    far_buf_done(&payload);
    return proposal;
}

static void on_named(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_log *log = arg;
    (void)applied_index;
    log->leader_naming = false;
    log->leader_named = log->leader_named || result->klass == 0;
}

/* Every leader's first command; before there is a cluster it is refused, and comes again after the first event. */
static void propose_leader_started(struct far_log *log)
{
    struct far_cmd_leader_started started = {.server_id = log->config.server_id, .term = log->term};
    log->leader_naming = far_log_propose_own(log, &far_schema_cmd_leader_started, &started, true, on_named) != NULL;
}

static void on_ticked(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_log *log = arg;
    (void)result;
    (void)applied_index;
    log->tick_is_pending = false;
}

static void on_tick_timer(uv_timer_t *timer)
{
    struct far_log *log = timer->data;
    struct far_cmd_tick tick = {};
    if (log->is_leader && !log->tick_is_pending && log->leader_named) {
        log->tick_is_pending = far_log_propose_own(log, &far_schema_cmd_tick, &tick, false, on_ticked) != NULL;
        far_log_kick(log);
    }
}

void far_log_schedule_tick(struct far_log *log)
{
    if (!log->is_leader || !log->leader_named || log->tick_is_pending || log->next_deadline_ms == UINT64_MAX) {
        uv_timer_stop(&log->tick_timer);
        return;
    }
    uint64_t now = far_log_cluster_now(log);
    uint64_t delay = log->next_deadline_ms > now ? log->next_deadline_ms - now : 0;
    delay = delay > 60 * 1000 ? 60 * 1000 : delay; /* the clock is slewed: look again */
    uv_update_time(log->loop);
    uv_timer_start(&log->tick_timer, on_tick_timer, delay, 0);
}

void far_log_leadership(struct far_log *log)
{
    log->leader_moved = false;
    log->leader_named = log->leader_naming = log->tick_is_pending = log->judging = false;
    far_proposals_lost(&log->proposals, "leadership moved before the answer; repeat it with the same id");
    if (log->is_leader && log->hold_index == 0) {
        far_log_fill_status(log);
        (void)far_log_count_clocks(log); /* the majority that may move the time is that of now */
        propose_leader_started(log);
    }
    far_logf(FAR_LEVEL_INFO, "log", "term %llu, leader: server %llu%s", (unsigned long long)log->term,
             (unsigned long long)log->leader_id, log->is_leader ? " (this one)" : log->leader_id == 0 ? " (none known)" : "");
    if (log->on_leader != NULL) {
        log->on_leader(log->arg, log->leader_id, log->term, log->is_leader);
    }
}

/* ---- into entries, or to the leader ---- */

struct screening {
    struct far_log *log;
    struct far_log_view view;
    bool has_view;
    bool is_sure; /* our state is the cluster's, see far_leader_knows_all() */
};

static bool need_view(struct screening *screening)
{
    struct far_error err;
    screening->has_view = screening->has_view || far_log_view_begin_now(screening->log, &screening->view, &err) == 0;
    return screening->has_view;
}

/* The core only counts signatures, so no wrong one may enter the log: also where our state may be behind, for a head that is there
 * does not change. One that is not there yet is asked for again. */
static bool screen_signature(struct screening *screening, const struct far_command *command, struct far_result *ret_result)
{
    if (command->kind != FAR_KIND_cmd_head_sign) {
        return false;
    }
    enum far_head_fit fit = need_view(screening) ? far_head_signature_fits(&screening->view.state, command) : FAR_HEAD_UNKNOWN;
    if (fit == FAR_HEAD_WRONG) {
        ret_result->klass = FAR_DENIED;
        snprintf(ret_result->message, sizeof ret_result->message, "the signature of the head is not by the server's key of then");
    } else if (fit == FAR_HEAD_UNKNOWN && !screening->is_sure) {
        ret_result->klass = FAR_BUSY;
        snprintf(ret_result->message, sizeof ret_result->message, "the leader does not know that head yet; try again");
    }
    return ret_result->klass != 0;
}

/* Spend no entry on what the state refuses now, or has answered already. */
static bool screen(void *arg, struct far_proposal *proposal, struct far_result *ret_result)
{
    struct screening *screening = arg;
    struct far_error err = {0};
    if (proposal->is_own) {
        return false;
    }
    if (far_space_admit(&screening->log->space, &proposal->command, &err) != 0) {
        ret_result->klass = FAR_LIMIT;
        snprintf(ret_result->message, sizeof ret_result->message, "%s", err.message);
        return true;
    }
    if (screen_signature(screening, &proposal->command, ret_result)) {
        return true;
    }
    if (!screening->is_sure || proposal->command.kind == FAR_KIND_cmd_node_report || !need_view(screening)) {
        return false;
    }
    proposal->command.proposed_at_ms = far_log_cluster_now(screening->log);
    return far_fsm_check(&screening->view.state, &proposal->command, ret_result, &err) == 0 &&
           (ret_result->klass != 0 || ret_result->repeated);
}

static bool knows_all(const struct far_log *log)
{
    struct far_raft_place place;
    far_raft_place(log->raft, &place);
    const struct far_leader_knows knows = {.is_named = log->leader_named,
                                           .is_offered = place.is_offered,
                                           .heard_ms = place.leader_heard_ms,
                                           .now_ms = far_clock_monotonic_ms(),
                                           .election_ms = log->config.election_ms,
                                           .committed_index = log->committed_index,
                                           .answered_index = log->answered_index,
                                           .applied_index = log->applied_index};
    return far_leader_knows_all(&knows);
}

static void screen_queue(struct far_log *log)
{
    struct screening screening = {.log = log, .is_sure = knows_all(log)};
    far_proposals_screen(&log->proposals, screen, &screening, log->applied_index);
    if (screening.has_view) {
        far_log_view_end(&screening.view);
    }
}

static void on_pace_timer(uv_timer_t *timer)
{
    far_log_kick(timer->data);
}

/* Each entry costs every server a write, a sync and some wake-ups. So while one of ours is under way the next one waits for
 * it, or for FAR_LOG_PACE_MS, and takes along what comes until then: what is near makes few large entries, and where the
 * others are far the window still fills. */
static bool must_wait(struct far_log *log)
{
    if (far_raft_in_flight(log->raft) == 0 || uv_hrtime() - log->submitted_ns >= FAR_LOG_PACE_MS * (uint64_t)1000000) {
        return false;
    }
    if (!uv_is_active((uv_handle_t *)&log->pace_timer)) {
        uv_update_time(log->loop);
        uv_timer_start(&log->pace_timer, on_pace_timer, FAR_LOG_PACE_MS, 0);
    }
    return true;
}

static void flush_as_leader(struct far_log *log)
{
    if (!log->leader_named && !log->leader_naming && log->last_seq > 0 && log->hold_index == 0) {
        propose_leader_started(log);
    }
    if (log->proposals.queued.first == NULL) {
        return;
    }
    screen_queue(log);
    while (log->proposals.queued.first != NULL && far_raft_in_flight(log->raft) < FAR_RAFT_WINDOW && !must_wait(log)) {
        uint64_t index, term;
        struct far_error err = {0};
        if (far_raft_next(log->raft, &index, &term, &err) != 0 ||
            far_proposals_take(&log->proposals, index, term, far_log_cluster_now(log), &log->scratch, &err) != 0) {
            return; /* again in a later turn, or in time-outs */
        }
        int rv = far_raft_submit(log->raft, far_buf_slice(&log->scratch), &err);
        if (rv != 0) {
            far_proposals_refused(&log->proposals, rv == FAR_NOT_LEADER ? FAR_BUSY : rv, err.message);
            return;
        }
        log->submitted_ns = uv_hrtime();
    }
}

static int forward(struct far_log *log, const struct far_proposal *proposal)
{
    uint64_t now = far_clock_monotonic_ms();
    struct far_forward frame = {.request = proposal->request,
                                .timeout_ms = proposal->deadline_ms > now ? proposal->deadline_ms - now : 0,
                                .is_barrier = proposal->is_barrier,
                                .command = proposal->command};
    far_buf_reset(&log->scratch);
    int rv = far_forward_encode(&frame, &log->scratch);
    return rv != 0 ? rv : far_peers_send(log->peers, log->leader_id, FAR_FRAME_FORWARD, far_buf_slice(&log->scratch));
}

static void flush_to_leader(struct far_log *log)
{
    while (log->proposals.queued.first != NULL) {
        if (log->proposals.queued.first->peer_id != 0) { /* came here while we led */
            far_proposals_drop_queued(&log->proposals, FAR_NOT_LEADER, "leadership moved; try again");
            return;
        }
        struct far_proposal *proposal = far_proposals_send(&log->proposals);
        if (forward(log, proposal) != 0) {
            struct far_result result = {.klass = FAR_BUSY};
            snprintf(result.message, sizeof result.message, "the leader, server %llu, is busy; try again later",
                     (unsigned long long)log->leader_id);
            far_proposals_answered(&log->proposals, proposal->request, &result, 0);
        }
    }
}

void far_log_flush_proposals(struct far_log *log)
{
    if (log->is_leader) {
        flush_as_leader(log);
    } else if (log->leader_id == 0) {
        far_proposals_drop_queued(&log->proposals, FAR_BUSY, "no server leads the cluster now; try again later");
    } else if (!far_peers_connected(log->peers, log->leader_id)) {
        far_proposals_drop_queued(&log->proposals, FAR_BUSY, "the leader is not reachable from this server; try again later");
    } else {
        flush_to_leader(log);
    }
}
