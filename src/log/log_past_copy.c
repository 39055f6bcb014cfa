/* A server that installed a state, and has the events before it again, fetches the states of the past, too: see past_copy.h. One
 * server is asked for all of it, a batch after the other; if it does not answer, or what it sent is not whole, the next one is asked,
 * from the beginning. When nobody has more, another look comes later,
 * after longer and longer waits. What the states may take on the disk (retain.h) is not
 * exceeded for it. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"
#include "log/history.h"
#include "log/retain.h"

enum { LOOK_MS = 1000, LATER_MS = 2 * 1000, LATER_MAX_MS = 60 * 1000, LEVEL = 3 /* of servers that know these frames */ };
enum found { NOTHING_YET, COMPLETE, MISSING };

/* ---- who has them ---- */

static void on_want(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    if (payload.len < FAR_PAST_WANT_HEADER || payload.len > FAR_PAST_WANT_HEADER + FAR_PAST_KEY_MAX + 1 ||
        far_store_begin(log->store, false, &txn, &err) != 0) {
        return;
    }
    struct far_slice key = far_slice(payload.data + FAR_PAST_WANT_HEADER, payload.len - FAR_PAST_WANT_HEADER);
    far_buf_reset(&log->scratch);
    int rv = far_past_copy_encode(txn, far_get_le64(payload.data), key, &log->scratch, &err);
    far_store_abort(txn);
    if (rv == 0) {
        (void)far_peers_send(log->peers, peer_id, FAR_FRAME_PAST, far_buf_slice(&log->scratch));
    } else {
        far_logf(FAR_LEVEL_ERROR, "log", "states of the past for server %llu: %s", (unsigned long long)peer_id, err.message);
    }
}

/* ---- who wants them ---- */

static uint64_t next_holder(const struct far_log *log)
{
    uint64_t first = 0;
    for (size_t i = 0; i < log->status.member_count; i++) {
        const struct far_log_member *member = &log->status.members[i];
        if (member->id == log->config.server_id || !member->connected || member->about.wall_ms == 0 ||
            member->about.feature_level < LEVEL || member->about.first_seq > log->first_seq) {
            continue;
        }
        if (member->id > log->past.from_id) {
            return member->id;
        }
        first = first == 0 || member->id < first ? member->id : first;
    }
    return first;
}

static void ask(struct far_log *log)
{
    struct far_log_past *past = &log->past;
    uint8_t want[FAR_PAST_WANT_HEADER + sizeof past->next];
    far_put_le64(want, past->before);
    memcpy(want + FAR_PAST_WANT_HEADER, past->next, past->next_len);
    past->moved_ms = far_clock_monotonic_ms();
    past->is_asked = far_peers_send(log->peers, past->from_id, FAR_FRAME_PAST_WANT,
                                    far_slice(want, FAR_PAST_WANT_HEADER + past->next_len)) == 0;
}

/* Are states missing whose events are here, and is there room for them? */
static enum found look(struct far_log *log, uint64_t *ret_oldest)
{
    struct far_store_txn *txn;
    struct far_store_sizes sizes;
    struct far_epoch epoch;
    if (far_store_begin(log->store, false, &txn, NULL) != 0) {
        return NOTHING_YET;
    }
    uint64_t bytes_max = log->store->history_bytes_max != 0 ? log->store->history_bytes_max : FAR_HISTORY_BYTES;
    bool is_installed = far_store_meta(txn)->installed_index != 0;
    int rv = far_epoch_after(txn, UINT64_MAX, &epoch, NULL);
    far_store_sizes(txn, &sizes);
    far_store_abort(txn);
    if (rv != 0) {
        return NOTHING_YET;
    }
    *ret_oldest = epoch.seq;
    return !is_installed || epoch.seq < log->first_seq || sizes.history_bytes > bytes_max / 4 * 3 ? COMPLETE : MISSING;
}

/* Every other server that is there has said what it holds. */
static bool knows_all(const struct far_log *log)
{
    bool knows = true;
    for (size_t i = 0; i < log->status.member_count; i++) {
        const struct far_log_member *member = &log->status.members[i];
        knows = knows && (member->id == log->config.server_id || !member->connected || member->about.wall_ms != 0);
    }
    return knows;
}

/* The server that was asked had nothing more, or nothing good: the next one, or all again later. */
static void give_up(struct far_log *log)
{
    struct far_log_past *past = &log->past;
    past->is_asked = false;
    past->fruitless++;
    if (past->fruitless + 1 >= log->status.member_count && knows_all(log)) {
        past->fruitless = 0;
        past->later_ms = past->later_ms == 0 ? LATER_MS : 2 * past->later_ms;
        past->later_ms = past->later_ms > LATER_MAX_MS ? LATER_MAX_MS : past->later_ms;
        past->wait_ms = past->later_ms;
    }
}

void far_log_past_beat(struct far_log *log)
{
    struct far_log_past *past = &log->past;
    uint64_t now = far_clock_monotonic_ms();
    bool events_are_here = log->first_seq <= 1 || log->first_seq <= log->cut_seq;
    uint64_t wait_ms = past->is_asked ? FAR_LOG_INSTALL_STALL_MS : past->wait_ms;
    if (past->is_done || log->install.is_wanted || !events_are_here || now - past->moved_ms < wait_ms) {
        return;
    }
    past->moved_ms = now;
    past->wait_ms = LOOK_MS;
    if (past->is_asked) { /* no answer is no word of what it has */
        past->is_asked = false;
        return;
    }
    past->next_len = 0;
    enum found found = look(log, &past->before);
    past->is_done = found == COMPLETE;
    past->from_id = found == MISSING ? next_holder(log) : past->from_id;
    if (found == MISSING && past->from_id != 0) {
        ask(log);
    }
}

static void on_batch(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_log_past *past = &log->past;
    struct far_past_batch batch;
    if (!past->is_asked || peer_id != past->from_id || log->install.is_wanted ||
        far_past_copy_decode(payload, &batch, NULL) != 0 || batch.before != past->before || batch.next.len > sizeof past->next) {
        return;
    }
    struct far_blob *blob = far_blob_new(payload.data, payload.len);
    if (blob != NULL && far_apply_thread_push(log->apply, FAR_JOB_PAST, 0, 0, blob, false) == 0) {
        memcpy(past->next, batch.next.data, batch.next.len);
        past->next_len = batch.next.len;
        past->is_last = batch.is_last;
        past->moved_ms = far_clock_monotonic_ms();
    }
    far_blob_unref(blob);
}

void far_log_past_frame(struct far_log *log, uint64_t peer_id, uint16_t type, struct far_slice payload)
{
    if (type == FAR_FRAME_PAST_WANT) {
        on_want(log, peer_id, payload);
    } else {
        on_batch(log, peer_id, payload);
    }
}

void far_log_past_outcome(struct far_log *log, const struct far_apply_outcome *outcome)
{
    struct far_log_past *past = &log->past;
    if (outcome->jobs[FAR_JOB_INSTALL_FINISH] > 0) {
        *past = (struct far_log_past){.is_done = false}; /* begin anew, behind the events */
        return;
    }
    if (outcome->jobs[FAR_JOB_PAST] == 0 || !past->is_asked) {
        return;
    }
    if (outcome->job_error.klass != 0) {
        far_logf(FAR_LEVEL_WARN, "log", "%s; another server is asked", outcome->job_error.message);
        give_up(log);
    } else if (!past->is_last) {
        ask(log);
    } else {
        uint64_t oldest = past->before;
        (void)look(log, &oldest);
        if (oldest == past->before) {
            give_up(log);
            return;
        }
        past->is_asked = false;
        past->fruitless = 0;
        past->later_ms = 0;
        past->from_id--; /* the same one, if it has more */
        far_logf(FAR_LEVEL_INFO, "log", "the states of the past back to event %llu are here", (unsigned long long)oldest);
    }
}
