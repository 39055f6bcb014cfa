/* What the logs of the servers tell each other beside raft: marks to compare, the state for a server that fell too far
 * behind, event history for one that lacks it. See log.c and frames.h.
 *
 * State: the one behind asks (STATE WANT), the other begins a dump and sends its manifest and then pieces, at most
 * FAR_FRAME_PIECES_AHEAD more than were taken. Whatever goes wrong, the one behind asks again after a while. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

#include <stdio.h>

/* ---- marks ---- */

void far_log_send_marks(struct far_log *log)
{
    struct far_marks marks = {.wall_ms = far_clock_wall_ms()};
    const struct far_mark *now = far_agreement_own(&log->agreement, log->applied_index);
    const struct far_mark *round =
        far_agreement_own(&log->agreement, log->applied_index - log->applied_index % FAR_AGREEMENT_STRIDE);
    if (now != NULL) {
        marks.marks[marks.count++] = *now;
    }
    if (round != NULL && round != now) {
        marks.marks[marks.count++] = *round;
    }
    far_buf_reset(&log->scratch);
    if (far_marks_encode(&marks, &log->scratch) != 0) {
        return;
    }
    for (size_t i = 0; i < log->status.member_count; i++) {
        (void)far_peers_send(log->peers, log->status.members[i].id, FAR_FRAME_MARK, far_buf_slice(&log->scratch));
    }
}

static void on_marks(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_marks marks;
    if (far_marks_decode(payload, &marks, NULL) != 0) {
        far_peers_drop(log->peers, peer_id);
        return;
    }
    uint64_t mono = far_clock_monotonic_ms();
    far_cluster_clock_sample(&log->clock, peer_id, marks.wall_ms, mono, mono);
    for (size_t i = 0; i < marks.count; i++) {
        far_agreement_claim(&log->agreement, peer_id, &marks.marks[i]);
    }
}

unsigned far_log_count_clocks(struct far_log *log)
{
    uint64_t ids[FAR_LOG_MEMBERS_MAX];
    unsigned voters = 0;
    for (size_t i = 0; i < log->status.member_count; i++) {
        if (log->status.members[i].role == FAR_server_role_voter) {
            ids[voters++] = log->status.members[i].id;
        }
    }
    far_cluster_clock_servers(&log->clock, ids, voters);
    return voters;
}

void far_log_judge(struct far_log *log)
{
    uint64_t index = 0;
    unsigned voters = far_log_count_clocks(log);
    enum far_verdict verdict = far_agreement_judge_all(&log->agreement, voters, &index);
    if (verdict == FAR_VERDICT_MINORITY) {
        char why[FAR_MESSAGE_MAX];
        snprintf(why, sizeof why,
                 "its state at entry %llu is not that of the majority; it must rejoin as a new server (log verify says more)",
                 (unsigned long long)index);
        far_log_stop_server("log", why);
    }
    if (verdict == FAR_VERDICT_SPLIT) {
        far_logf(FAR_LEVEL_ERROR, "log", "the servers differ at entry %llu and none has a majority",
                 (unsigned long long)index);
    }
}

/* ---- history ---- */

/* Somebody who said that they hold what comes before ours; after one that did not answer, the next. 0: nobody. */
static uint64_t history_holder(const struct far_log *log)
{
    uint64_t first = 0;
    for (size_t i = 0; i < log->status.member_count; i++) {
        const struct far_log_member *member = &log->status.members[i];
        if (member->id == log->config.server_id || !member->connected || member->about.wall_ms == 0 ||
            member->about.first_seq >= log->first_seq) {
            continue;
        }
        if (member->id > log->history_from_id) {
            return member->id;
        }
        first = first == 0 || member->id < first ? member->id : first;
    }
    return first;
}

void far_log_ask_history(struct far_log *log)
{
    uint64_t now = far_clock_monotonic_ms();
    bool is_waiting = log->history_is_pending && now - log->history_asked_ms < FAR_LOG_INSTALL_STALL_MS;
    bool is_whole = log->first_seq <= 1 || log->first_seq <= log->cut_seq;
    if (is_whole || is_waiting || log->install.is_wanted) {
        return;
    }
    if (log->history_from_id == 0 || log->history_is_pending) { /* none yet, or it did not answer in time */
        log->history_from_id = history_holder(log);
    }
    uint8_t want[8];
    far_put_le64(want, log->first_seq - 1);
    log->history_is_pending = log->history_from_id != 0 && far_peers_send(log->peers, log->history_from_id, FAR_FRAME_HISTORY_WANT,
                                                                          far_slice(want, sizeof want)) == 0;
    log->history_from_id = log->history_is_pending ? log->history_from_id : 0;
    log->history_asked_ms = now;
}

static void on_history_want(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    if (payload.len != 8 || far_store_begin(log->store, false, &txn, &err) != 0) {
        return;
    }
    far_buf_reset(&log->scratch);
    if (far_history_encode(txn, 1, far_get_le64(payload.data), FAR_FRAME_HISTORY_MAX, &log->scratch, &err) == 0) {
        (void)far_peers_send(log->peers, peer_id, FAR_FRAME_HISTORY, far_buf_slice(&log->scratch));
    } else {
        far_logf(FAR_LEVEL_ERROR, "log", "event history for server %llu: %s", (unsigned long long)peer_id, err.message);
    }
    far_store_abort(txn);
}

static void on_history(struct far_log *log, struct far_slice payload)
{
    struct far_blob *blob = payload.len == 0 ? NULL : far_blob_new(payload.data, payload.len);
    if (blob != NULL && log->history_is_pending && !log->install.is_wanted) {
        (void)far_apply_thread_push(log->apply, FAR_JOB_HISTORY, 0, 0, blob, false);
    }
    far_blob_unref(blob);
}

/* ---- state: the side that has it ---- */

void far_log_end_send(struct far_log *log)
{
    if (log->send.peer_id != 0) {
        far_dump_end(&log->send.dump);
        log->send = (struct far_log_send){0};
    }
}

static void send_pieces(struct far_log *log)
{
    struct far_log_send *send = &log->send;
    while (send->peer_id != 0 && !send->dump.ended && send->pieces_sent - send->pieces_taken < FAR_FRAME_PIECES_AHEAD) {
        struct far_error err = {0};
        far_buf_reset(&log->scratch);
        int rv = far_dump_next(&send->dump, &log->scratch, &err);
        if (rv == FAR_CORRUPT) {
            far_log_stop_server("log", err.message);
        }
        if (rv != 0 || far_peers_send(log->peers, send->peer_id, FAR_FRAME_PIECE, far_buf_slice(&log->scratch)) != 0) {
            far_log_end_send(log); /* it will ask again */
            return;
        }
        send->pieces_sent++;
    }
}

static void on_state_want(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_error err = {0};
    uint64_t now = far_clock_monotonic_ms();
    if (payload.len != 8 || far_get_le64(payload.data) > log->applied_index) {
        return; /* not there yet: it asks again */
    }
    if (log->send.peer_id != 0 && log->send.peer_id != peer_id && now - log->send.moved_ms < FAR_LOG_INSTALL_STALL_MS) {
        return; /* one at a time */
    }
    far_log_end_send(log);
    if (far_dump_begin(log->store, &log->send.dump, &err) != 0) {
        return;
    }
    log->send.peer_id = peer_id;
    log->send.moved_ms = now;
    far_buf_reset(&log->scratch);
    if (far_manifest_encode(&log->send.dump.manifest, &log->scratch, &err) != 0 ||
        far_peers_send(log->peers, peer_id, FAR_FRAME_STATE, far_buf_slice(&log->scratch)) != 0) {
        far_log_end_send(log);
        return;
    }
    far_logf(FAR_LEVEL_INFO, "log", "sending the state at entry %llu to server %llu",
             (unsigned long long)log->send.dump.manifest.index, (unsigned long long)peer_id);
    send_pieces(log);
}

static void on_piece_taken(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_log_send *send = &log->send;
    uint64_t taken = payload.len == 8 ? far_get_le64(payload.data) : 0;
    if (send->peer_id != peer_id || taken <= send->pieces_taken || taken > send->pieces_sent) {
        return;
    }
    send->pieces_taken = taken;
    send->moved_ms = far_clock_monotonic_ms();
    if (send->dump.ended && send->pieces_taken == send->pieces_sent) {
        far_log_end_send(log);
        return;
    }
    send_pieces(log);
}

/* ---- state: the side that wants it ---- */

void far_log_want_state(struct far_log *log)
{
    struct far_log_install *install = &log->install;
    uint64_t now = far_clock_monotonic_ms();
    /* What is committed here goes first, so that nothing of it comes after the switch. */
    if (!install->is_wanted || install->is_finishing || log->backlog != NULL ||
        (install->moved_ms != 0 && now - install->moved_ms < FAR_LOG_INSTALL_STALL_MS)) {
        return;
    }
    uint8_t want[8];
    uint64_t from = install->moved_ms != 0 && log->leader_id != 0 ? log->leader_id : install->from_id;
    far_put_le64(want, install->least_index);
    install->is_receiving = false;
    install->moved_ms = now;
    install->from_id = from;
    (void)far_peers_send(log->peers, from, FAR_FRAME_STATE_WANT, far_slice(want, sizeof want));
}

void far_log_install_beat(struct far_log *log)
{
    uint64_t now = far_clock_monotonic_ms();
    far_log_want_state(log);
    if (log->send.peer_id != 0 && now - log->send.moved_ms > 2 * FAR_LOG_INSTALL_STALL_MS) {
        far_log_end_send(log); /* no read transaction is kept for a peer that is gone */
    }
}

/* Give up what came so far and ask again in a while. */
static void install_again(struct far_log *log, const char *why)
{
    far_logf(FAR_LEVEL_WARN, "log", "fetching the state begins anew: %s", why);
    log->install.is_receiving = log->install.is_finishing = false;
    log->install.moved_ms = far_clock_monotonic_ms();
}

static void push_install(struct far_log *log, enum far_apply_kind kind, struct far_slice payload)
{
    struct far_blob *blob = payload.len == 0 ? NULL : far_blob_new(payload.data, payload.len);
    if ((payload.len > 0 && blob == NULL) || far_apply_thread_push(log->apply, kind, 0, 0, blob, false) != 0) {
        install_again(log, "no room for it");
    }
    far_blob_unref(blob);
}

static void on_state(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_log_install *install = &log->install;
    struct far_manifest manifest;
    struct far_error err = {0};
    if (!install->is_wanted || install->is_receiving || install->is_finishing || install->from_id != peer_id) {
        return;
    }
    if (far_manifest_decode(payload, &manifest, &err) != 0) {
        install_again(log, err.message);
        return;
    }
    if (manifest.index < install->least_index) {
        install_again(log, "the peer's state is too old");
        return;
    }
    struct far_blob *blob = far_blob_new(payload.data, payload.len);
    if (blob == NULL) {
        install_again(log, "out of memory");
        return;
    }
    far_blob_unref(install->manifest);
    install->manifest = blob;
    install->is_receiving = true;
    install->pieces_taken = 0;
    install->moved_ms = far_clock_monotonic_ms();
    push_install(log, FAR_JOB_INSTALL_BEGIN, far_slice(NULL, 0));
}

static void on_piece(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_log_install *install = &log->install;
    if (!install->is_receiving || install->is_finishing || install->from_id != peer_id) {
        return;
    }
    install->moved_ms = far_clock_monotonic_ms();
    push_install(log, FAR_JOB_INSTALL_PIECE, payload);
    if (install->is_receiving && far_piece_is_last(payload)) {
        install->is_finishing = true;
        push_install(log, FAR_JOB_INSTALL_FINISH, far_blob_slice(install->manifest));
    }
}

static void installed(struct far_log *log)
{
    struct far_log_install *install = &log->install;
    struct far_manifest manifest;
    struct far_error err = {0};
    if (far_manifest_decode(far_blob_slice(install->manifest), &manifest, &err) != 0) {
        far_log_stop_server("log", err.message);
    }
    struct far_blob *blob = far_blob_new(manifest.configuration.data, manifest.configuration.len);
    if (blob == NULL) {
        far_log_stop_server("log", "out of memory");
    }
    far_log_note_configuration(log, manifest.configuration_index, blob);
    far_blob_unref(blob);
    install->is_wanted = install->is_receiving = install->is_finishing = false;
    log->told_durable_index = manifest.index;
    log->history_is_pending = false;
    struct far_raft_manifest told = far_log_raft_manifest(log, manifest.index, manifest.term);
    far_logf(FAR_LEVEL_INFO, "log", "the state at entry %llu is here", (unsigned long long)manifest.index);
    far_raft_installed(log->raft, &told);
    far_log_ask_history(log);
}

void far_log_install_outcome(struct far_log *log, const struct far_apply_outcome *outcome)
{
    struct far_log_install *install = &log->install;
    if (outcome->jobs[FAR_JOB_HISTORY] > 0) {
        log->history_is_pending = false;
        if (outcome->job_error.klass == 0) {
            far_log_ask_history(log);
        } else {
            log->history_from_id = 0; /* perhaps somebody else's leads to ours */
        }
        return;
    }
    unsigned jobs = outcome->jobs[FAR_JOB_INSTALL_BEGIN] + outcome->jobs[FAR_JOB_INSTALL_PIECE] +
                    outcome->jobs[FAR_JOB_INSTALL_FINISH];
    if (jobs == 0 || !install->is_wanted) {
        return;
    }
    if (outcome->job_error.klass != 0) {
        install_again(log, outcome->job_error.message);
        return;
    }
    install->moved_ms = far_clock_monotonic_ms();
    if (outcome->jobs[FAR_JOB_INSTALL_PIECE] > 0) {
        uint8_t taken[8];
        far_put_le64(taken, ++install->pieces_taken);
        (void)far_peers_send(log->peers, install->from_id, FAR_FRAME_PIECE_TAKEN, far_slice(taken, sizeof taken));
    }
    if (outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        installed(log);
    }
}

/* ---- frames and streams ---- */

static void on_raft_message(struct far_log *log, uint64_t peer_id, const char *address, struct far_slice payload)
{
    struct far_error err = {0};
    if (far_raft_receive(log->raft, peer_id, address, payload, &err) != 0) {
        far_logf(FAR_LEVEL_WARN, "raft", "server %llu: %s", (unsigned long long)peer_id, err.message);
        far_peers_drop(log->peers, peer_id);
    }
}

/* ---- removal ---- */

void far_log_on_removed(struct far_log *log, far_log_removed_fn on_removed, void *arg)
{
    log->on_removed = on_removed;
    log->removed_arg = arg;
}

static void on_removed(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    char ask[FAR_LOG_REMOVED_ASK_MAX];
    if (payload.len >= sizeof ask || (payload.len > 0 && memchr(payload.data, 0, payload.len) != NULL)) {
        far_peers_drop(log->peers, peer_id);
        return;
    }
    snprintf(ask, sizeof ask, "%.*s", (int)payload.len, payload.len == 0 ? "" : (const char *)payload.data);
    if (log->on_removed != NULL) {
        log->on_removed(log->removed_arg, ask);
    }
}

void far_log_dismiss(struct far_log *log, uint64_t peer_id, struct far_stream *stream, const char *ask)
{
    if (stream != NULL) {
        (void)far_stream_send(stream, FAR_FRAME_REMOVED, far_slice_str(ask));
        far_stream_close(stream);
    }
    if (!log->is_closing) {
        far_peers_dismiss(log->peers, peer_id, FAR_FRAME_REMOVED, far_slice_str(ask));
    }
}

void far_log_on_frame(void *arg, uint64_t peer_id, const char *address, uint16_t type, struct far_slice payload)
{
    struct far_log *log = arg;
    if (log->is_closing || log->raft == NULL) {
        return;
    }
    switch (type) {
    case FAR_FRAME_RAFT:
        on_raft_message(log, peer_id, address, payload);
        break;
    case FAR_FRAME_FORWARD:
        far_log_on_forward(log, peer_id, payload);
        break;
    case FAR_FRAME_ANSWER:
        far_log_on_answer(log, payload);
        break;
    case FAR_FRAME_MARK:
        on_marks(log, peer_id, payload);
        break;
    case FAR_FRAME_STATE_WANT:
        on_state_want(log, peer_id, payload);
        break;
    case FAR_FRAME_STATE:
        on_state(log, peer_id, payload);
        break;
    case FAR_FRAME_PIECE:
        on_piece(log, peer_id, payload);
        break;
    case FAR_FRAME_PIECE_TAKEN:
        on_piece_taken(log, peer_id, payload);
        break;
    case FAR_FRAME_HISTORY_WANT:
        on_history_want(log, peer_id, payload);
        break;
    case FAR_FRAME_HISTORY:
        on_history(log, payload);
        break;
    case FAR_FRAME_ABOUT:
        far_log_on_about(log, peer_id, payload);
        break;
    case FAR_FRAME_PAST_WANT:
    case FAR_FRAME_PAST:
        far_log_past_frame(log, peer_id, type, payload);
        break;
    case FAR_FRAME_REMOVED:
        on_removed(log, peer_id, payload);
        break;
    default: /* of a newer server */
        break;
    }
    far_log_kick(log);
}

void far_log_on_peer(void *arg, uint64_t peer_id, bool is_connected)
{
    struct far_log *log = arg;
    if (!is_connected && peer_id == log->leader_id && !log->is_leader && !log->is_closing) {
        far_proposals_lost(&log->proposals, "the connection to the leader was lost; repeat it with the same id");
    }
    if (!is_connected && log->send.peer_id == peer_id) {
        far_log_end_send(log);
    }
    if (!is_connected && log->history_from_id == peer_id) {
        log->history_is_pending = false; /* it will not answer any more: somebody else may */
        log->history_from_id = 0;
    }
    log->status_is_due = true;
    far_log_kick(log);
}
