/* The leader cuts events that are kept long enough: see retain.h; and has older progress compacted: see compact.h. Once a minute
 * it looks, on the pool together with sealing (log_seal.c); what is to go becomes a command, a cut with the servers that said they
 * hold all of it. Every server then cuts, and compacts, where the log says. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

enum { LOOK_MS = 60 * 1000, HOLDERS_MAX = 16, TIMEOUT_MS = 30 * 1000, COMPACT_EVENTS = 262144, REASON_LEVEL = 3 };

int far_log_retain_look(struct far_log_seal *seal, struct far_error *err)
{
    struct far_store_txn *txn;
    uint64_t events_min = seal->limits.segment_events != 0 ? seal->limits.segment_events : COMPACT_EVENTS;
    int rv = far_store_begin(seal->store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = far_retain_decided(txn, &seal->first_seq, err);
    rv = rv != 0 ? rv : far_retain_cut(txn, &seal->cut, err);
    rv = rv != 0 ? rv : far_compact_look(txn, events_min, &seal->compact_seq, &seal->compact_ms, err);
    far_store_abort(txn);
    return rv;
}

bool far_log_retain_due(struct far_log *log, uint64_t now_ms)
{
    if (!log->is_leader || !log->leader_named || log->feature_level < 2 || now_ms < log->seal.retain_ms) {
        return false;
    }
    log->seal.retain_ms = now_ms + LOOK_MS;
    return true;
}

static void on_decided(void *arg, const struct far_result *result, uint64_t applied_index)
{
    (void)arg;
    (void)applied_index;
    if (result->klass != 0) {
        far_logf(FAR_LEVEL_INFO, "retention", "%s", result->message);
    }
}

/* The servers that hold everything since the last cut. */
static size_t find_holders(const struct far_log *log, uint64_t first_seq, uint64_t ids[HOLDERS_MAX])
{
    size_t count = 0;
    for (size_t i = 0; i < log->status.member_count && count < HOLDERS_MAX; i++) {
        const struct far_log_member *member = &log->status.members[i];
        bool is_self = member->id == log->config.server_id;
        uint64_t first = is_self ? log->first_seq : member->about.first_seq;
        bool is_told = is_self || member->about.wall_ms != 0;
        if (is_told && first <= first_seq) {
            ids[count++] = member->id;
        }
    }
    return count;
}

/* Said once for each oldest event: what is kept and no server has, when every one has said so and none fetches any more. No cut ever
 * comes then. */
static void tell_lost(struct far_log *log, uint64_t first_seq)
{
    uint64_t oldest = log->first_seq;
    for (size_t i = 0; i < log->status.member_count; i++) {
        const struct far_log_member *member = &log->status.members[i];
        if (member->id != log->config.server_id && (member->about.wall_ms == 0 || member->about.first_seq != oldest)) {
            return;
        }
    }
    if (oldest > first_seq && oldest != log->seal.lost_told_seq) {
        far_logf(FAR_LEVEL_ERROR, "retention", "no server can show the events from %llu on and before %llu any more; 'farshore log forget "
                 "--before %llu' lets the history begin there", (unsigned long long)first_seq, (unsigned long long)oldest,
                 (unsigned long long)oldest);
        log->seal.lost_told_seq = oldest;
    }
}

static void propose(struct far_log *log, const struct far_schema *schema, const void *object)
{
    struct far_buf payload;
    far_buf_init(&payload, 1024);
    if (far_schema_encode(schema, object, &payload, NULL) == 0) {
        struct far_command command = {.kind = schema->kind,
                                      .version = schema->version,
                                      .actor = far_actor(FAR_ACTOR_SYSTEM, log->config.server_id),
                                      .payload = far_buf_slice(&payload)};
        far_log_propose(log, &command, TIMEOUT_MS, on_decided, log);
    }
    far_buf_done(&payload);
}

static void propose_cut(struct far_log *log)
{
    uint64_t ids[HOLDERS_MAX];
    struct far_cmd_events_cut cut = {.seq = log->seal.cut.seq, .held_by = {.items = ids}};
    if (log->feature_level >= REASON_LEVEL) {
        cut.time_ms = log->seal.cut.time_ms;
        cut.bytes = log->seal.cut.bytes;
    }
    cut.held_by.count = find_holders(log, log->seal.first_seq, ids);
    if (cut.held_by.count < (log->status.member_count < 2 ? 1 : 2)) {
        far_logf(FAR_LEVEL_WARN, "retention", "events before %llu stay: fewer than two servers hold them",
                 (unsigned long long)cut.seq);
        return;
    }
    propose(log, &far_schema_cmd_events_cut, &cut);
}

void far_log_retain_propose(struct far_log *log)
{
    const struct far_log_seal *seal = &log->seal;
    if (log->is_leader) {
        tell_lost(log, seal->first_seq);
    }
    if (log->is_leader && seal->cut.seq > seal->first_seq) {
        propose_cut(log);
    }
    if (log->is_leader && log->feature_level >= 3 && seal->compact_seq > 0) {
        struct far_cmd_progress_compact compact = {.seq = seal->compact_seq, .time_ms = seal->compact_ms};
        propose(log, &far_schema_cmd_progress_compact, &compact);
    }
}
