/* Refused reports: see refusals.h. */
#include "node/refusals.h"

static bool is_unsure(int klass)
{
    return klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT || klass == FAR_IO || klass == FAR_CANCELED;
}

static enum far_verdict judge_probe(struct far_refusals *refusals, int klass, uint64_t now_ms)
{
    if (far_class_info(klass)->retry == FAR_RETRY_NEVER) {
        refusals->probes = false;
        return klass == FAR_DENIED || klass == FAR_NOT_FOUND ? FAR_VERDICT_GREET : FAR_VERDICT_ANEW;
    }
    uint64_t pause_ms = refusals->pause_ms == 0 ? FAR_REFUSAL_PAUSE_MS : 2 * refusals->pause_ms;
    refusals->pause_ms = pause_ms < FAR_REFUSAL_PAUSE_MS_MAX ? pause_ms : FAR_REFUSAL_PAUSE_MS_MAX;
    refusals->until_ms = now_ms + refusals->pause_ms;
    refusals->probes = true;
    return FAR_VERDICT_WAIT;
}

enum far_verdict far_refusals_judge(struct far_refusals *refusals, int klass, bool is_suspect, bool is_empty, uint64_t now_ms)
{
    if (is_unsure(klass)) {
        return FAR_VERDICT_ELSEWHERE;
    }
    if (is_empty) {
        return judge_probe(refusals, klass, now_ms);
    }
    if (is_suspect) {
        return FAR_VERDICT_GUILTY;
    }
    refusals->probes = true;
    return FAR_VERDICT_SPLIT;
}

void far_refusals_over(struct far_refusals *refusals, bool was_probe)
{
    refusals->probes = refusals->probes && !was_probe;
    refusals->pause_ms = refusals->until_ms = 0;
}
