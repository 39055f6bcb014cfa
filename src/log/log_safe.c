/* Safe mode, as the log lives in it: it votes, stores and shows, applies nothing from one entry on, hands leadership over, and
 * waits for an operator to have that entry skipped (safe.h). See log.c. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

#include <stdio.h>

enum {
    HEARD_MS_MAX = 10 * 1000,
    HOLD_BYTES_MAX = 256 * 1024 * 1024, /* of entries that come meanwhile: raft keeps them in memory */
};

static void note_entry(struct far_log *log, const struct far_wal_entry *entry)
{
    struct far_envelope envelope;
    struct far_command command;
    struct far_slice data = far_blob_slice(entry->blob);
    size_t len = 0;
    log->hold_hash = far_hash64(data.data, data.len);
    if (far_envelope_open(data, &envelope, NULL) != 0) {
        return;
    }
    log->hold_command_count = 0;
    while (far_envelope_next(&envelope, &command)) {
        const struct far_schema *schema = far_schema_find(FAR_CLASS_cmd, command.kind, command.version);
        log->hold_command_count++;
        if (len + 72 >= sizeof log->hold_commands) {
            continue;
        }
        len += (size_t)snprintf(log->hold_commands + len, sizeof log->hold_commands - len, "%s%s", len == 0 ? "" : " ",
                                schema == NULL ? "unknown" : schema->name);
    }
}

bool far_log_hold(struct far_log *log, const struct far_wal_entry *entry)
{
    if (log->hold_index == 0 || entry->index < log->hold_index) {
        return false;
    }
    if (entry->index == log->hold_index) {
        note_entry(log, entry);
    }
    log->hold_bytes += entry->blob->len;
    if (log->hold_bytes > HOLD_BYTES_MAX) {
        far_log_stop_server("log", "in safe mode, and too much came since: replace this server, or have the entry skipped");
    }
    return true;
}

bool far_log_refuse_safe(struct far_log *log, far_log_done_fn done, void *arg)
{
    if (log->hold_index == 0) {
        return false;
    }
    char why[FAR_MESSAGE_MAX];
    snprintf(why, sizeof why,
             "this server is in safe mode: it crashed %d times at entry %llu and applies nothing from there on; "
             "'farshore cluster status' shows more, 'farshore cluster skip-entry' has the entry skipped",
             FAR_SAFE_CRASHES, (unsigned long long)log->hold_index);
    far_log_refuse(log, FAR_BUSY, why, done, arg);
    return true;
}

/* ---- skipping ---- */

void far_log_on_restart(struct far_log *log, far_log_restart_fn on_restart, void *arg)
{
    log->on_restart = on_restart;
    log->restart_arg = arg;
}

/* They only say who wanted something: whatever is wrong with them keeps no server from starting. */
void far_log_load_skip_orders(struct far_log *log)
{
    struct far_error err = {0};
    if (far_skip_orders_load(log->config.dir, &log->skip_orders, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "log", "%s; orders to skip an entry that were not told yet will not be in the log", err.message);
    }
}

/* Who wants it goes first: an order for an entry that is not skipped after all is dropped later (look_at_order). Where it cannot be kept
 * (a full disk, on which the instruction itself has its place already), the cluster is rescued all the same: this server's own log says
 * who wanted it. */
static void keep_order(struct far_log *log, const struct far_log_skip *skip)
{
    struct far_error err = {0};
    struct far_skip_order order = {.index = log->hold_index,
                                   .hash = log->hold_hash,
                                   .token_id = skip->token_id,
                                   .ordered_ms = far_clock_wall_ms(),
                                   .is_forced = skip->is_forced};
    snprintf(order.token_name, sizeof order.token_name, "%s", skip->token_name);
    snprintf(order.reason, sizeof order.reason, "%s", skip->reason);
    if (far_skip_orders_add(log->config.dir, &log->skip_orders, &order, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "log", "token '%s' has entry %llu skipped (%s); that will not be in the log: %s", order.token_name,
                 (unsigned long long)order.index, order.reason, err.message);
    }
}

static void drop_order(struct far_log *log, uint64_t index)
{
    struct far_error err = {0};
    if (far_skip_orders_remove(log->config.dir, &log->skip_orders, index, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "log", "%s", err.message);
    }
}

static int keep_skip(struct far_log *log, struct far_error *err)
{
    struct far_safe_entry entry = {log->hold_index, log->hold_hash};
    int rc = far_safe_set_skip(log->safe, entry, err);
    if (rc == 0) {
        far_logf(FAR_LEVEL_WARN, "log", "entry %llu will be skipped", (unsigned long long)entry.index);
        far_log_send_about(log);
    }
    if (rc == 0 && log->on_restart != NULL) {
        log->on_restart(log->restart_arg);
    }
    return rc;
}

static bool skips_it(const struct far_log *log, const struct far_about *about)
{
    return about->skip_index == log->hold_index && about->skip_hash == log->hold_hash;
}

static bool agrees(const struct far_log *log, const struct far_about *about)
{
    return skips_it(log, about) || (about->safe_index == log->hold_index && about->safe_hash == log->hold_hash);
}

/* Do the other members say that they hold before the same entry? */
static int check_others(struct far_log *log, bool is_forced, struct far_error *err)
{
    struct far_log_status status;
    unsigned voters = 0, agreeing = 0;
    uint64_t silent_id = 0;
    far_log_status(log, &status);
    for (size_t i = 0; i < status.member_count; i++) {
        const struct far_log_member *m = &status.members[i];
        bool is_heard = m->about_age_ms <= HEARD_MS_MAX, is_self = m->id == status.server_id;
        if (is_heard && !is_self && m->about.applied_index >= log->hold_index && !skips_it(log, &m->about)) {
            return far_fail(err, FAR_CONFLICT, "server %llu has applied entry %llu: it is no fault of the entry; replace this "
                            "server by a new one", (unsigned long long)m->id, (unsigned long long)log->hold_index);
        }
        bool is_agreeing = is_self || (is_heard && agrees(log, &m->about));
        voters += m->role == FAR_server_role_voter;
        agreeing += is_agreeing && m->role == FAR_server_role_voter;
        silent_id = is_agreeing ? silent_id : m->id;
    }
    if (silent_id != 0 && !(is_forced && agreeing > voters / 2)) {
        return far_fail(err, FAR_BUSY, "server %llu does not say that it is in safe mode at the same entry; start it, and try "
                        "again (--force goes on with a majority of the voters)", (unsigned long long)silent_id);
    }
    return 0;
}

void far_log_skip_entry(struct far_log *log, const struct far_log_skip *skip, far_log_done_fn done, void *arg)
{
    struct far_error err = {0};
    int rc = 0;
    if (log->hold_index == 0) {
        rc = far_fail(&err, FAR_CONFLICT, "this server is not in safe mode: there is nothing to skip");
    } else if (log->hold_hash == 0) {
        rc = far_fail(&err, FAR_BUSY, "no majority of the servers has told this one yet that the entry is committed");
    } else if (skip->index != log->hold_index || skip->hash != log->hold_hash) {
        rc = far_fail(&err, FAR_CONFLICT, "this server holds before entry %llu with hash %016llx, not %llu with %016llx",
                      (unsigned long long)log->hold_index, (unsigned long long)log->hold_hash, (unsigned long long)skip->index,
                      (unsigned long long)skip->hash);
    }
    rc = rc != 0 ? rc : check_others(log, skip->is_forced, &err);
    if (rc == 0 && !skip->is_dry_run) {
        bool was_kept = far_safe_skip(log->safe).index == log->hold_index;
        keep_order(log, skip);
        rc = keep_skip(log, &err);
        if (rc != 0 && !was_kept) {
            drop_order(log, log->hold_index); /* nobody had it skipped */
        }
    }
    far_log_refuse(log, rc, rc != 0 ? err.message : "", done, arg); /* also the good answer comes in the next turn */
}

/* ---- telling the log who wanted it ---- */

enum { ORDER_LEVEL = 3, ORDER_TIMEOUT_MS = 30 * 1000, ORDER_PAYLOAD_MAX = 2048, ORDER_PAUSE_MAX = 300 /* beats */ };

/* The event at or behind this log entry, seq 0 if none is there; its payload is not looked at. */
static int first_event_at(struct far_store_txn *txn, uint64_t index, struct far_event *ret_event, struct far_error *err)
{
    uint64_t low = far_store_meta(txn)->first_seq, end = far_store_meta(txn)->last_seq + 1, high = end;
    int rc = 0;
    while (rc == 0 && low < high) {
        uint64_t middle = low + (high - low) / 2;
        rc = far_store_event_get(txn, middle, ret_event, NULL, err);
        if (rc == 0 && ret_event->index >= index) {
            high = middle;
        } else {
            low = middle + 1;
        }
    }
    if (rc == 0 && low < end) {
        return far_store_event_get(txn, low, ret_event, NULL, err);
    }
    ret_event->seq = 0;
    return rc;
}

enum order_fate { ORDER_WAITS, ORDER_DONE, ORDER_VOID };

/* Was the entry skipped? Where its events are no longer (or not yet) here, nobody but the order says so. */
static int look_at_order(struct far_log *log, const struct far_skip_order *order, enum order_fate *ret_fate, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_event event = {0}, oldest = {0};
    *ret_fate = ORDER_WAITS;
    int rc = far_store_begin(log->store, false, &txn, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    if (meta->applied_index >= order->index) {
        bool has_events = meta->last_seq >= meta->first_seq && meta->last_seq > 0;
        rc = has_events ? far_store_event_get(txn, meta->first_seq, &oldest, NULL, err) : 0;
        rc = rc != 0 || !has_events ? rc : first_event_at(txn, order->index, &event, err);
        bool is_here = has_events && (meta->first_seq == 1 || oldest.index <= order->index);
        bool is_skipped = event.seq != 0 && event.index == order->index && event.kind == FAR_KIND_ev_entry_skipped;
        *ret_fate = rc == 0 && is_here && !is_skipped ? ORDER_VOID : ORDER_DONE;
    }
    far_store_abort(txn);
    return rc;
}

static bool is_refusal(int klass)
{
    return klass == FAR_INVALID || klass == FAR_NOT_FOUND || klass == FAR_DENIED || klass == FAR_CONFLICT;
}

/* A leader may be there in a moment; a full disk stays for longer. */
static bool is_passing(int klass)
{
    return klass == FAR_BUSY || klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT;
}

/* The first order was told, or is refused for good: it is not kept any longer. Anything else is tried again, later and later. */
static void on_order_told(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_log *log = arg;
    bool is_over = result->klass == 0 || is_refusal(result->klass);
    (void)applied_index;
    log->skip_order_is_proposed = false;
    if (is_refusal(result->klass)) {
        far_logf(FAR_LEVEL_ERROR, "log", "the log does not take who had an entry skipped: %s", result->message);
    }
    if (is_over && log->skip_orders.count > 0) {
        drop_order(log, log->skip_orders.items[0].index);
    }
    if (is_over || is_passing(result->klass)) {
        log->skip_order_pause = 0;
    } else {
        log->skip_order_pause = log->skip_order_pause * 2 < ORDER_PAUSE_MAX ? log->skip_order_pause * 2 + 1 : ORDER_PAUSE_MAX;
        far_logf(FAR_LEVEL_WARN, "log", "who had an entry skipped is told to the log later: %s", result->message);
    }
    log->skip_order_beats = log->skip_order_pause;
}

/* The id is made of what is told: repeated, it is the same command. */
static void propose_order(struct far_log *log, const struct far_skip_order *order)
{
    struct far_buf payload;
    struct far_cmd_entry_skip_order told = {.index = order->index,
                                            .entry_hash = order->hash,
                                            .server_id = log->config.server_id,
                                            .token_id = order->token_id,
                                            .token_name = far_slice_str(order->token_name),
                                            .reason = far_slice_str(order->reason),
                                            .forced = order->is_forced,
                                            .ordered_ms = order->ordered_ms};
    far_buf_init(&payload, ORDER_PAYLOAD_MAX);
    if (far_schema_encode(&far_schema_cmd_entry_skip_order, &told, &payload, NULL) == 0) {
        struct far_command command = {.kind = far_schema_cmd_entry_skip_order.kind,
                                      .version = far_schema_cmd_entry_skip_order.version,
                                      .actor = far_actor(FAR_ACTOR_SYSTEM, log->config.server_id),
                                      .payload = far_buf_slice(&payload)};
        struct far_hash128 id = far_hash128_parts(far_slice_str("entry_skip_order"), far_buf_slice(&payload));
        far_put_be64(command.id, id.high);
        far_put_be64(command.id + 8, id.low);
        log->skip_order_is_proposed = true;
        far_log_propose(log, &command, ORDER_TIMEOUT_MS, on_order_told, log);
    }
    far_buf_done(&payload);
}

static void tell_order(struct far_log *log)
{
    struct far_error err = {0};
    enum order_fate fate;
    const struct far_skip_order *order = &log->skip_orders.items[0];
    if (log->skip_orders.count == 0 || log->skip_order_is_proposed || log->feature_level < ORDER_LEVEL ||
        log->status.leader_id == 0 || log->applied_index < order->index) {
        return;
    }
    if (log->skip_order_beats > 0) {
        log->skip_order_beats--;
        return;
    }
    if (look_at_order(log, order, &fate, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "log", "%s", err.message);
    } else if (fate == ORDER_VOID) {
        far_logf(FAR_LEVEL_WARN, "log", "entry %llu was to be skipped and was not: that order is void",
                 (unsigned long long)order->index);
        drop_order(log, order->index);
    } else if (fate == ORDER_DONE) {
        propose_order(log, order);
    }
}

/* ---- once a second ---- */

static void on_handed_over(void *arg, const struct far_result *result, uint64_t applied_index)
{
    (void)arg;
    (void)result;
    (void)applied_index;
}

/* Who applies nothing must not lead while another one can. */
static void hand_over(struct far_log *log)
{
    for (size_t i = 0; i < log->status.member_count; i++) {
        const struct far_log_member *m = &log->status.members[i];
        bool is_fit = m->id != log->config.server_id && m->role == FAR_server_role_voter && m->connected &&
                      m->about.wall_ms != 0 && !m->about.is_safe;
        if (is_fit && log->member.change == FAR_MEMBER_NONE) {
            far_log_transfer(log, m->id, on_handed_over, log);
            return;
        }
    }
}

void far_log_safe_beat(struct far_log *log)
{
    struct far_error err = {0};
    if (log->hold_index == 0) {
        tell_order(log);
        return;
    }
    if (log->is_leader) {
        hand_over(log);
    }
    bool is_kept = far_safe_skip(log->safe).index == log->hold_index;
    for (size_t i = 0; i < FAR_PEERS_MAX && !is_kept && log->hold_hash != 0; i++) {
        if (log->abouts[i].peer_id != 0 && skips_it(log, &log->abouts[i].about)) {
            is_kept = true;
            if (keep_skip(log, &err) != 0) {
                far_logf(FAR_LEVEL_ERROR, "log", "%s", err.message);
            }
        }
    }
}
