/* The turn: what raft commits goes to the apply thread, what the apply thread did is answered and told. See log.c. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

#include <stdio.h>

/* ---- what raft asks (its callbacks must not call it: they leave work for the turn) ---- */

static uint64_t now_ms(void *arg)
{
    (void)arg;
    return far_clock_monotonic_ms();
}

static void on_raft_timer(uv_timer_t *timer)
{
    struct far_log *log = timer->data;
    far_raft_timeout(log->raft);
    far_log_kick(log);
}

static void set_timer(void *arg, uint64_t at_ms)
{
    struct far_log *log = arg;
    uint64_t now = far_clock_monotonic_ms();
    if (!log->is_closing) {
        uv_update_time(log->loop);
        uv_timer_start(&log->raft_timer, on_raft_timer, at_ms > now ? at_ms - now : 0, 0);
    }
}

static void send_message(void *arg, uint64_t peer_id, const char *address, struct far_slice message)
{
    struct far_log *log = arg;
    if (log->is_closing) {
        return;
    }
    if (address != NULL && address[0] != '\0') {
        far_peers_know(log->peers, peer_id, address);
    }
    far_peers_send_raft(log->peers, peer_id, message);
}

static enum far_apply_kind job_kind(uint8_t type)
{
    return type == FAR_RAFT_COMMAND ? FAR_JOB_COMMANDS : type == FAR_RAFT_CHANGE ? FAR_JOB_CONFIGURATION : FAR_JOB_BARRIER;
}

/* Results that somebody here waits for are told as soon as they are decided; a barrier is passed only with the commit. */
static int push_entry(struct far_log *log, const struct far_wal_entry *entry)
{
    bool has_barrier = false, is_awaited = far_proposals_await(&log->proposals, entry->index, &has_barrier);
    int rv = far_apply_thread_push(log->apply, job_kind(entry->type), entry->index, entry->term, entry->blob, is_awaited);
    if (rv == 0 && (has_barrier || log->waiters != NULL)) {
        far_apply_thread_want(log->apply, entry->index);
    }
    return rv;
}

static void on_commit(void *arg, const struct far_wal_entry *entry)
{
    struct far_log *log = arg;
    if (entry->type == FAR_RAFT_CHANGE) {
        log->status_is_due = true;
        far_log_note_configuration(log, entry->index, entry->blob);
    }
    far_log_kick(log);
    log->has_committed = true;
    if (far_log_hold(log, entry)) {
        return;
    }
    log->committed_index = entry->index;
    if (log->backlog == NULL && push_entry(log, entry) == 0) { /* at once: somebody may wait for its answer */
        return;
    }
    struct far_backlog *item = malloc(sizeof *item);
    if (item == NULL) {
        far_log_stop_server("log", "out of memory");
    }
    *item = (struct far_backlog){.entry = *entry};
    far_blob_ref(item->entry.blob);
    *log->backlog_last = item;
    log->backlog_last = &item->next;
}

static void on_leader(void *arg, uint64_t leader_id, uint64_t term, bool is_self)
{
    struct far_log *log = arg;
    log->leader_moved = log->leader_moved || log->leader_id != leader_id || log->term != term || log->is_leader != is_self;
    log->leader_id = leader_id;
    log->term = term;
    log->is_leader = is_self;
    far_log_kick(log);
}

static void on_install(void *arg, uint64_t from_id, const struct far_raft_manifest *manifest)
{
    struct far_log *log = arg;
    far_logf(FAR_LEVEL_INFO, "log", "too far behind the log: fetching the state from server %llu at entry %llu",
             (unsigned long long)from_id, (unsigned long long)manifest->index);
    log->install.is_wanted = true;
    log->install.is_receiving = log->install.is_finishing = false;
    log->install.from_id = from_id;
    log->install.least_index = manifest->index;
    log->install.moved_ms = 0;
    far_log_kick(log);
}

static void on_fatal(void *arg, const struct far_error *err)
{
    (void)arg;
    far_log_stop_server("raft", err->message);
}

static void on_raft_full(void *arg, const struct far_error *err)
{
    struct far_log *log = arg;
    if (log->full_since_ms == 0) {
        far_logf(FAR_LEVEL_WARN, "raft", "waiting for space on the disk: %s", err->message);
    }
    log->full_since_ms = far_clock_monotonic_ms();
    far_space_give_back(&log->space);
}

const struct far_raft_env far_log_env = {
    .now_ms = now_ms,
    .set_timer = set_timer,
    .send = send_message,
    .on_commit = on_commit,
    .on_leader = on_leader,
    .on_install = on_install,
    .on_fatal = on_fatal,
    .on_full = on_raft_full,
};

/* ---- configurations and manifests ---- */

void far_log_note_configuration(struct far_log *log, uint64_t index, struct far_blob *blob)
{
    struct far_configuration_at *all = log->configurations;
    far_blob_unref(all[0].blob);
    memmove(all, all + 1, (FAR_LOG_CONFIGURATIONS - 1) * sizeof *all);
    all[FAR_LOG_CONFIGURATIONS - 1] = (struct far_configuration_at){.index = index, .blob = far_blob_ref(blob)};
}

/* The configuration in force at this index. */
static const struct far_configuration_at *configuration_at(const struct far_log *log, uint64_t index)
{
    for (int i = FAR_LOG_CONFIGURATIONS - 1; i >= 0; i--) {
        if (log->configurations[i].blob != NULL && log->configurations[i].index <= index) {
            return &log->configurations[i];
        }
    }
    return NULL;
}

struct far_raft_manifest far_log_raft_manifest(const struct far_log *log, uint64_t index, uint64_t term)
{
    const struct far_configuration_at *at = configuration_at(log, index);
    const struct far_mark *mark = far_agreement_own(&log->agreement, index);
    return (struct far_raft_manifest){
        .index = index,
        .term = term,
        .configuration_index = at == NULL ? 0 : at->index,
        .configuration = at == NULL ? far_slice(NULL, 0) : far_blob_slice(at->blob),
        .data = mark == NULL ? far_slice(NULL, 0) : far_slice(mark->head, FAR_HEAD_SIZE),
    };
}

/* ---- to the apply thread ---- */

static void push_stored(struct far_log *log)
{
    struct far_raft_place status;
    far_raft_place(log->raft, &status);
    if ((status.stored_index != log->told_stored_index || status.stored_term != log->told_stored_term) &&
        far_apply_thread_push(log->apply, FAR_JOB_STORED, status.stored_index, status.stored_term, NULL, false) == 0) {
        log->told_stored_index = status.stored_index;
        log->told_stored_term = status.stored_term;
    }
}

static void push_backlog(struct far_log *log)
{
    if (log->has_committed) { /* noted together with the entries */
        log->has_committed = false;
        push_stored(log);
    }
    while (log->backlog != NULL) {
        struct far_backlog *item = log->backlog;
        if (push_entry(log, &item->entry) != 0) {
            return; /* the next outcome makes room */
        }
        log->backlog = item->next;
        if (log->backlog == NULL) {
            log->backlog_last = &log->backlog;
        }
        far_blob_unref(item->entry.blob);
        free(item);
    }
}

void far_log_free_backlog(struct far_log *log)
{
    while (log->backlog != NULL) {
        struct far_backlog *item = log->backlog;
        log->backlog = item->next;
        far_blob_unref(item->entry.blob);
        free(item);
    }
    log->backlog_last = &log->backlog;
}

/* ---- from the apply thread ---- */

static void note_point(struct far_log *log, uint64_t index, uint64_t term)
{
    struct far_commit_point *points = log->points;
    if (points[FAR_LOG_POINTS - 1].index == index) {
        return;
    }
    memmove(points, points + 1, (FAR_LOG_POINTS - 1) * sizeof *points);
    points[FAR_LOG_POINTS - 1] = (struct far_commit_point){.index = index, .term = term};
}

/* The store's durable index moved: the log before it may go. */
static void tell_durable(struct far_log *log)
{
    if (log->durable_index <= log->told_durable_index || log->install.is_wanted) {
        return;
    }
    for (int i = 0; i < FAR_LOG_POINTS; i++) {
        const struct far_commit_point *point = &log->points[i];
        if (point->index == log->durable_index) {
            struct far_raft_manifest manifest = far_log_raft_manifest(log, point->index, point->term);
            log->told_durable_index = point->index;
            far_raft_durable(log->raft, &manifest);
            return;
        }
    }
}

static void tell_batch(struct far_log *log, bool begins)
{
    if (log->on_batch != NULL) {
        log->on_batch(log->batch_arg, begins);
    }
}

static void answer_results(struct far_log *log, const struct far_apply_outcome *outcome)
{
    if (outcome->result_count == 0) {
        return;
    }
    tell_batch(log, true);
    for (size_t i = 0; i < outcome->result_count; i++) {
        const struct far_apply_result *result = &outcome->results[i];
        log->answered_index = log->answering_index = result->index;
        far_proposals_decided(&log->proposals, result->index, result->term, result->position, &result->result,
                              result->index);
    }
    log->answering_index = 0;
    tell_batch(log, false);
}

void far_log_on_outcome(void *arg, const struct far_apply_outcome *outcome)
{
    struct far_log *log = arg;
    if (log->is_closing) {
        return;
    }
    answer_results(log, outcome);
    if (outcome->is_early) {
        far_log_kick(log);
        return;
    }
    log->applied_index = outcome->applied_index;
    log->applied_term = outcome->applied_term;
    log->durable_index = outcome->durable_index;
    log->first_seq = outcome->first_seq;
    log->oldest_seq = outcome->oldest_seq;
    log->last_seq = outcome->last_seq;
    log->cut_seq = outcome->cut_seq;
    log->compact_is_due = outcome->compact_is_due;
    log->next_deadline_ms = outcome->next_deadline_ms;
    log->clock_verdict = outcome->clock_verdict;
    log->clock_off_ms = outcome->clock_off_ms;
    far_cluster_clock_observe(&log->clock, outcome->time_ms, far_clock_monotonic_ms());
    struct far_error too_new = {0};
    if (far_log_take_level(log, outcome->feature_level, &too_new) != 0) {
        far_log_stop_server("log", too_new.message);
    }
    note_point(log, outcome->applied_index, outcome->applied_term);
    if (outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        far_agreement_reset(&log->agreement);
    }
    for (size_t i = 0; i < outcome->mark_count; i++) {
        far_agreement_note(&log->agreement, &outcome->marks[i]);
    }
    far_proposals_applied(&log->proposals, outcome->applied_index, outcome->applied_term);
    far_log_install_outcome(log, outcome);
    far_log_seal_outcome(log, outcome);
    far_log_past_outcome(log, outcome);
    far_log_kick(log);
}

/* ---- waiters ---- */

void far_log_run_waiters(struct far_log *log)
{
    uint64_t now = far_clock_monotonic_ms();
    struct far_waiter *all = log->waiters, *next;
    log->waiters = NULL;
    for (; all != NULL; all = next) {
        next = all->next;
        if (all->index > log->applied_index && all->deadline_ms > now) {
            all->next = log->waiters;
            log->waiters = all;
            continue;
        }
        struct far_result result = {.klass = all->index > log->applied_index ? FAR_TIMEOUT : 0};
        if (result.klass != 0) {
            snprintf(result.message, sizeof result.message, "this server is at entry %llu and has not reached %llu in time",
                     (unsigned long long)log->applied_index, (unsigned long long)all->index);
        }
        log->waiter_count--;
        all->done(all->arg, &result, log->applied_index);
        free(all);
    }
}

static void run_refusals(struct far_log *log)
{
    struct far_refusal *all = log->refusals, *next;
    log->refusals = NULL;
    for (; all != NULL; all = next) {
        next = all->next;
        all->done(all->arg, &all->result, log->applied_index);
        free(all);
    }
}

/* ---- status ---- */

static void fill_members(struct far_log_status *status, const struct far_raft_status *raft, struct far_log *log)
{
    status->member_count = raft->member_count;
    for (size_t i = 0; i < raft->member_count; i++) {
        struct far_log_member *member = &status->members[i];
        const struct far_raft_member *from = &raft->members[i];
        *member = (struct far_log_member){
            .id = from->id,
            .role = from->voter ? FAR_server_role_voter : FAR_server_role_standby,
            .connected = from->id == log->config.server_id || far_peers_connected(log->peers, from->id),
            .match_index = from->match_index,
        };
        snprintf(member->address, sizeof member->address, "%s", from->address);
        far_log_fill_about(log, member);
        log->member_heard_ms[i] = from->heard_ms;
    }
}

void far_log_fill_status(struct far_log *log)
{
    struct far_raft_status raft;
    far_raft_status(log->raft, &raft);
    uv_mutex_lock(&log->status_mutex);
    struct far_log_status *status = &log->status;
    *status = (struct far_log_status){
        .server_id = log->config.server_id,
        .leader_id = raft.leader_id,
        .term = raft.term,
        .is_leader = raft.is_leader,
        .commit_index = raft.commit_index,
        .applied_index = log->applied_index,
        .durable_index = log->durable_index,
        .last_index = raft.stored_index,
        .last_term = raft.stored_term,
        .feature_level = log->feature_level,
        .safe_index = log->hold_index,
        .safe_hash = log->hold_hash,
        .clock_offset_ms = log->clock.offset_ms,
        .clock_is_suspect = log->clock_verdict == FAR_clock_verdict_suspect,
    };
    memcpy(status->safe_commands, log->hold_commands, sizeof status->safe_commands);
    status->safe_command_count = log->hold_command_count;
    log->leader_heard_ms = raft.leader_heard_ms;
    fill_members(status, &raft, log);
    uv_mutex_unlock(&log->status_mutex);
    log->status_is_due = false;
}

/* In most turns only places in the log move; the members are looked at with the beat, or when something befell them. */
static void refresh_status(struct far_log *log)
{
    struct far_raft_place place;
    far_raft_place(log->raft, &place);
    struct far_log_status *status = &log->status;
    if (log->status_is_due || place.leader_id != status->leader_id || place.term != status->term ||
        place.is_leader != status->is_leader || status->safe_index != log->hold_index || status->safe_hash != log->hold_hash) {
        far_log_fill_status(log);
        return;
    }
    uv_mutex_lock(&log->status_mutex);
    status->commit_index = place.commit_index;
    status->applied_index = log->applied_index;
    status->durable_index = log->durable_index;
    status->last_index = place.stored_index;
    status->last_term = place.stored_term;
    status->feature_level = log->feature_level;
    log->leader_heard_ms = place.leader_heard_ms;
    uv_mutex_unlock(&log->status_mutex);
}

/* Keep streams to the members of the configuration. */
static void know_members(struct far_log *log)
{
    for (size_t i = 0; i < log->status.member_count; i++) {
        far_peers_know(log->peers, log->status.members[i].id, log->status.members[i].address);
    }
}

/* ---- the turn and the beat ---- */

void far_log_turn(struct far_log *log)
{
    uint64_t applied_before = log->status.applied_index;
    if (log->leader_moved) {
        far_log_leadership(log);
    }
    push_backlog(log);
    tell_durable(log);
    far_log_want_state(log);
    far_log_flush_proposals(log);
    refresh_status(log);
    far_log_run_waiters(log);
    run_refusals(log);
    far_log_schedule_tick(log);
    if (log->applied_index != applied_before && log->on_commit != NULL) {
        log->on_commit(log->arg, log->applied_index, log->last_seq);
    }
}

static void slow_beat(struct far_log *log)
{
    far_space_look(&log->space);
    know_members(log);
    far_log_send_marks(log);
    far_log_send_about(log);
    far_log_fade_asked(log);
    far_log_safe_beat(log);
    far_log_judge(log);
    far_log_judge_clocks(log);
    far_log_ask_history(log);
    far_log_seal_beat(log);
    far_log_past_beat(log);
    push_stored(log);
    far_log_mark_made(log);
    bool is_quiet = log->quiet_index == log->applied_index; /* else the next commit makes the last one durable */
    log->quiet_index = log->applied_index;
    if (is_quiet && log->durable_index < log->applied_index && log->backlog == NULL) {
        (void)far_apply_thread_push(log->apply, FAR_JOB_SYNC, 0, 0, NULL, false);
    }
}

void far_log_on_beat(struct far_log *log)
{
    uint64_t now = far_clock_monotonic_ms();
    log->status_is_due = true;
    far_proposals_expire(&log->proposals, now);
    if (log->full_since_ms != 0 && now - log->full_since_ms >= FAR_LOG_FULL_RETRY_MS) {
        log->full_since_ms = 0;
        far_raft_retry(log->raft);
    }
    far_log_member_beat(log);
    far_log_install_beat(log);
    if (log->beats++ % FAR_LOG_SLOW_BEAT == 0) {
        slow_beat(log);
    }
    far_log_kick(log);
}
