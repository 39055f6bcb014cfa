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
    while (far_envelope_next(&envelope, &command) && len + 72 < sizeof log->hold_commands) {
        const struct far_schema *schema = far_schema_find(FAR_CLASS_cmd, command.kind, command.version);
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

void far_log_skip_entry(struct far_log *log, uint64_t index, uint64_t hash, bool is_forced, far_log_done_fn done, void *arg)
{
    struct far_error err = {0};
    int rc = 0;
    if (log->hold_index == 0) {
        rc = far_fail(&err, FAR_CONFLICT, "this server is not in safe mode: there is nothing to skip");
    } else if (log->hold_hash == 0) {
        rc = far_fail(&err, FAR_BUSY, "no majority of the servers has told this one yet that the entry is committed");
    } else if (index != log->hold_index || hash != log->hold_hash) {
        rc = far_fail(&err, FAR_CONFLICT, "this server holds before entry %llu with hash %016llx, not %llu with %016llx",
                      (unsigned long long)log->hold_index, (unsigned long long)log->hold_hash, (unsigned long long)index,
                      (unsigned long long)hash);
    }
    rc = rc != 0 ? rc : check_others(log, is_forced, &err);
    rc = rc != 0 ? rc : keep_skip(log, &err);
    far_log_refuse(log, rc, rc != 0 ? err.message : "", done, arg); /* also the good answer comes in the next turn */
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
