/* The cluster's clock: see cluster_clock.h.
 *
 * Time is kept in microseconds, so that 500 ppm of a short while is not lost in rounding. Each stamp adds what the
 * monotonic clock ran since the last one, and slews by at most the 2,000th part of that. */
#include "log/cluster_clock.h"

#include <string.h>

void far_cluster_clock_init(struct far_cluster_clock *clock)
{
    memset(clock, 0, sizeof *clock);
}

void far_cluster_clock_observe(struct far_cluster_clock *clock, uint64_t state_ms, uint64_t mono_ms)
{
    if (clock->is_set && mono_ms < clock->mono_ms) {
        mono_ms = clock->mono_ms;
    }
    uint64_t now_us = clock->is_set ? clock->time_us + (mono_ms - clock->mono_ms) * 1000 : 0;
    if (state_ms != 0 && (!clock->is_set || state_ms * 1000 > now_us)) {
        clock->is_set = true;
        clock->mono_ms = mono_ms;
        clock->time_us = state_ms * 1000;
    }
    if (state_ms > clock->stamped_ms) {
        clock->stamped_ms = state_ms;
    }
}

static bool is_voter(const struct far_cluster_clock *clock, uint64_t server_id)
{
    for (unsigned i = 0; i < clock->server_count; i++) {
        if (clock->voters[i] == server_id) {
            return true;
        }
    }
    return false;
}

void far_cluster_clock_servers(struct far_cluster_clock *clock, const uint64_t *voter_ids, size_t count)
{
    count = count > FAR_CLUSTER_CLOCKS_MAX ? FAR_CLUSTER_CLOCKS_MAX : count;
    clock->server_count = (unsigned)count;
    memcpy(clock->voters, voter_ids, count * sizeof *voter_ids);
    size_t kept = 0;
    for (size_t i = 0; i < clock->sample_count; i++) {
        if (is_voter(clock, clock->samples[i].server_id)) {
            clock->samples[kept++] = clock->samples[i];
        }
    }
    clock->sample_count = kept;
}

void far_cluster_clock_sample(struct far_cluster_clock *clock, uint64_t server_id, uint64_t wall_ms, uint64_t asked_ms,
                              uint64_t answered_ms)
{
    if (answered_ms < asked_ms || answered_ms - asked_ms > FAR_CLUSTER_CLOCK_RTT_MAX_MS || wall_ms > INT64_MAX / 1000 ||
        (clock->server_count > 0 && !is_voter(clock, server_id))) {
        return;
    }
    size_t i = 0;
    while (i < clock->sample_count && clock->samples[i].server_id != server_id) {
        i++;
    }
    if (i == clock->sample_count) {
        if (i == FAR_CLUSTER_CLOCKS_MAX) {
            return;
        }
        clock->sample_count++;
    }
    uint64_t middle_ms = asked_ms + (answered_ms - asked_ms) / 2;
    clock->samples[i] = (struct far_cluster_clock_sample){
        .server_id = server_id, .offset_ms = (int64_t)wall_ms - (int64_t)middle_ms, .taken_ms = answered_ms};
}

static bool is_fresh(const struct far_cluster_clock_sample *sample, uint64_t mono_ms)
{
    return mono_ms <= sample->taken_ms || mono_ms - sample->taken_ms <= FAR_CLUSTER_CLOCK_FRESH_MS;
}

/* The median of the fresh samples (of an even number, the lower middle one) and how many agree with it. */
static bool median(const struct far_cluster_clock *clock, uint64_t mono_ms, int64_t *ret_offset_ms, unsigned *ret_agreeing)
{
    int64_t sorted[FAR_CLUSTER_CLOCKS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < clock->sample_count; i++) {
        const struct far_cluster_clock_sample *sample = &clock->samples[i];
        if (!is_fresh(sample, mono_ms)) {
            continue;
        }
        size_t at = count++;
        for (; at > 0 && sorted[at - 1] > sample->offset_ms; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = sample->offset_ms;
    }
    if (count == 0) {
        return false;
    }
    int64_t middle = sorted[(count - 1) / 2];
    unsigned agreeing = 0;
    for (size_t i = 0; i < count; i++) {
        int64_t apart = sorted[i] - middle;
        agreeing += apart <= FAR_CLUSTER_CLOCK_AGREE_MS && apart >= -FAR_CLUSTER_CLOCK_AGREE_MS;
    }
    *ret_offset_ms = middle;
    *ret_agreeing = agreeing;
    return true;
}

bool far_cluster_clock_offset(const struct far_cluster_clock *clock, uint64_t server_id, uint64_t mono_ms,
                              int64_t *ret_offset_ms)
{
    int64_t middle = 0;
    unsigned agreeing = 0;
    *ret_offset_ms = 0;
    for (size_t i = 0; i < clock->sample_count; i++) {
        const struct far_cluster_clock_sample *sample = &clock->samples[i];
        if (sample->server_id == server_id && is_fresh(sample, mono_ms) && median(clock, mono_ms, &middle, &agreeing)) {
            *ret_offset_ms = sample->offset_ms - middle;
            return true;
        }
    }
    return false;
}

/* Move toward where the median says we should be, as far as that is allowed after elapsed_us. */
static void correct(struct far_cluster_clock *clock, int64_t off_us, uint64_t elapsed_us, unsigned agreeing)
{
    bool is_far = off_us > FAR_CLUSTER_CLOCK_STEP_MS * 1000LL || off_us < -FAR_CLUSTER_CLOCK_STEP_MS * 1000LL;
    bool has_majority = clock->server_count > 0 && agreeing > clock->server_count / 2;
    clock->is_suspect = is_far && (!has_majority || off_us < 0);
    clock->agreeing = agreeing;
    clock->judgement = !is_far         ? FAR_CLOCK_GOOD
                       : !has_majority ? FAR_CLOCK_SUSPECT
                       : off_us > 0    ? FAR_CLOCK_FORWARD
                                       : FAR_CLOCK_AHEAD;
    if (clock->judgement == FAR_CLOCK_FORWARD && clock->steps_by_log) {
        return;
    }
    if (clock->judgement == FAR_CLOCK_FORWARD) {
        clock->time_us += (uint64_t)off_us;
        clock->step_count++;
        return;
    }
    if (is_far && !has_majority) {
        return;
    }
    int64_t most_us = (int64_t)(elapsed_us / (1000000 / FAR_CLUSTER_CLOCK_PPM));
    int64_t move_us = off_us > most_us ? most_us : off_us < -most_us ? -most_us : off_us;
    clock->time_us = (uint64_t)((int64_t)clock->time_us + move_us);
}

uint64_t far_cluster_clock_stamp(struct far_cluster_clock *clock, uint64_t mono_ms)
{
    int64_t offset_ms = 0;
    unsigned agreeing = 0;
    bool has_median = median(clock, mono_ms, &offset_ms, &agreeing);
    if (!clock->is_set) {
        if (!has_median || (int64_t)mono_ms + offset_ms < 0) {
            return clock->stamped_ms;
        }
        clock->is_set = true;
        clock->mono_ms = mono_ms;
        clock->time_us = (uint64_t)((int64_t)mono_ms + offset_ms) * 1000;
    }
    uint64_t elapsed_us = mono_ms > clock->mono_ms ? (mono_ms - clock->mono_ms) * 1000 : 0;
    clock->time_us += elapsed_us;
    clock->mono_ms += elapsed_us / 1000;
    clock->offset_ms = 0;
    clock->is_suspect = false;
    clock->judgement = FAR_CLOCK_GOOD;
    if (has_median) {
        int64_t off_us = ((int64_t)mono_ms + offset_ms) * 1000 - (int64_t)clock->time_us;
        clock->offset_ms = off_us / 1000;
        correct(clock, off_us, elapsed_us, agreeing);
    }
    if (clock->time_us / 1000 > clock->stamped_ms) {
        clock->stamped_ms = clock->time_us / 1000;
    }
    return clock->stamped_ms;
}
