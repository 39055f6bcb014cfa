/* The clock of the log: the stamp of commands, and what the leader says in the log about the servers' clocks
 * (cluster_clock.h, DESIGN.md section 3.6).
 *
 * A majority that is ahead moves time forward by a command, which also extends every live lease; one that is behind is told,
 * and time slewed; without a majority the calendar waits, once that has lasted for some seconds: after a start the peers'
 * clocks are not known yet. See log.c. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

enum {
    SUSPECT_BEATS = 5, /* slow ones */
    LEVEL_MIN = 2,     /* of the cluster: from there on the log makes the corrections */
};

uint64_t far_log_cluster_now(struct far_log *log)
{
    uint64_t mono = far_clock_monotonic_ms();
    log->clock.steps_by_log = log->feature_level >= LEVEL_MIN;
    far_cluster_clock_sample(&log->clock, log->config.server_id, far_clock_wall_ms(), mono, mono);
    return far_cluster_clock_stamp(&log->clock, mono);
}

uint64_t far_log_now_ms(struct far_log *log)
{
    return log->clock.is_set ? far_log_cluster_now(log) : 0;
}

static void on_judged(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_log *log = arg;
    (void)applied_index;
    log->judging = false;
    if (result->klass != 0 && !log->is_closing) {
        far_logf(FAR_LEVEL_WARN, "clock", "the verdict on the clocks was not taken: %s", result->message);
    }
}

/* Does the state need to hear it? */
static bool is_news(const struct far_log *log, uint64_t off_ms)
{
    uint64_t known = log->clock_verdict == 0 ? (uint64_t)FAR_CLOCK_GOOD : log->clock_verdict;
    uint64_t apart = off_ms > log->clock_off_ms ? off_ms - log->clock_off_ms : log->clock_off_ms - off_ms;
    switch (log->clock.judgement) {
    case FAR_CLOCK_FORWARD:
        return true;
    case FAR_CLOCK_SUSPECT:
        return known != FAR_CLOCK_SUSPECT && log->suspect_beats >= SUSPECT_BEATS;
    case FAR_CLOCK_AHEAD:
        return known != FAR_CLOCK_AHEAD || apart > FAR_CLUSTER_CLOCK_STEP_MS;
    default:
        return known != FAR_CLOCK_GOOD;
    }
}

void far_log_judge_clocks(struct far_log *log)
{
    if (!log->clock.is_set && !log->is_leader) {
        return; /* a new server: its own clock must not be the cluster's before it has heard of the state */
    }
    uint64_t now = far_log_cluster_now(log);
    int64_t offset_ms = log->clock.offset_ms;
    uint64_t off_ms = offset_ms < 0 ? (uint64_t)-offset_ms : (uint64_t)offset_ms;
    log->suspect_beats = log->clock.judgement == FAR_CLOCK_SUSPECT ? log->suspect_beats + 1 : 0;
    if (!log->is_leader || !log->leader_named || log->judging || log->feature_level < LEVEL_MIN ||
        log->clock.sample_count == 0 || !is_news(log, off_ms)) {
        return;
    }
    bool is_forward = log->clock.judgement == FAR_CLOCK_FORWARD;
    struct far_cmd_clock_judge judge = {.verdict = log->clock.judgement,
                                        .off_ms = off_ms,
                                        .agreeing = log->clock.agreeing,
                                        .voters = log->clock.server_count,
                                        .to_ms = is_forward ? now + off_ms : 0};
    far_logf(log->clock.judgement == FAR_CLOCK_GOOD ? FAR_LEVEL_INFO : FAR_LEVEL_WARN, "clock",
             "cluster time is %llu ms %s the median of the clocks, with which %u of %u agree: %s",
             (unsigned long long)off_ms, offset_ms < 0 ? "ahead of" : "behind", log->clock.agreeing,
             log->clock.server_count, far_enum_name(&far_enum_clock_verdict, judge.verdict));
    log->judging = far_log_propose_own(log, &far_schema_cmd_clock_judge, &judge, false, on_judged) != NULL;
}
