/* The cluster's clock, as the leader stamps it on commands (DESIGN.md section 3.6).
 *
 * It runs by the leader's monotonic clock, slewed by at most 500 ppm toward the median of the servers' wall clocks, and
 * never backwards. A correction of more than 10 s is made only when a majority of all servers' clocks agrees on it: forward
 * at once, backward by slewing. While it is wanted and not made, is_suspect says so, and calendar deadlines should wait.
 * Pure: every time is an argument. One thread. */
#ifndef FAR_LOG_CLUSTER_CLOCK_H
#define FAR_LOG_CLUSTER_CLOCK_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAR_CLUSTER_CLOCKS_MAX = 16,
    FAR_CLUSTER_CLOCK_PPM = 500,
    FAR_CLUSTER_CLOCK_STEP_MS = 10 * 1000,
    FAR_CLUSTER_CLOCK_AGREE_MS = 2 * 1000,  /* clocks this near to the median agree with it */
    FAR_CLUSTER_CLOCK_FRESH_MS = 30 * 1000, /* older samples do not count */
    FAR_CLUSTER_CLOCK_RTT_MAX_MS = 1000,    /* samples that took longer are not taken */
};

struct far_cluster_clock_sample {
    uint64_t server_id;
    int64_t offset_ms; /* its wall clock minus our monotonic clock */
    uint64_t taken_ms; /* monotonic */
};

/* What is to be done about the clocks; numbered as the schema's clock_verdict. */
enum far_clock_judgement { FAR_CLOCK_GOOD = 1, FAR_CLOCK_SUSPECT, FAR_CLOCK_FORWARD, FAR_CLOCK_AHEAD };

struct far_cluster_clock {
    bool is_set;
    bool steps_by_log;   /* a correction of more than 10 s forward is the log's: stamps do not make it, observe does */
    uint64_t mono_ms;    /* when time_us was right */
    uint64_t time_us;    /* cluster time then */
    uint64_t stamped_ms; /* the highest stamp ever handed out or observed */
    unsigned server_count; /* voters of the cluster */
    uint64_t voters[FAR_CLUSTER_CLOCKS_MAX];
    size_t sample_count;
    struct far_cluster_clock_sample samples[FAR_CLUSTER_CLOCKS_MAX];
    bool is_suspect;     /* as of the last stamp: more than 10 s off the median and not corrected at once */
    int64_t offset_ms;   /* as of the last stamp: median minus cluster time before the correction; 0 without samples */
    uint64_t step_count; /* corrections of more than 10 s that were made by a stamp */
    enum far_clock_judgement judgement; /* as of the last stamp */
    unsigned agreeing;                  /* then: clocks that agree with the median */
};

void far_cluster_clock_init(struct far_cluster_clock *clock);
/* Cluster time was state_ms when our monotonic clock was mono_ms: what the log said. A follower calls it for what it applies,
 * so that it goes on where the last leader was. Moves only forward. */
void far_cluster_clock_observe(struct far_cluster_clock *clock, uint64_t state_ms, uint64_t mono_ms);
/* The voters of the cluster; samples of others are forgotten, and not taken any more. Until it is called there is no majority. */
void far_cluster_clock_servers(struct far_cluster_clock *clock, const uint64_t *voter_ids, size_t count);
/* The server's wall clock was wall_ms somewhere between asked_ms and answered_ms of our monotonic clock (equal: our own, or
 * one that came without being asked for). Replaces its last sample. */
void far_cluster_clock_sample(struct far_cluster_clock *clock, uint64_t server_id, uint64_t wall_ms, uint64_t asked_ms,
                              uint64_t answered_ms);
/* How far the server's clock is from the median of all; false: there is no fresh sample of it. */
bool far_cluster_clock_offset(const struct far_cluster_clock *clock, uint64_t server_id, uint64_t mono_ms,
                              int64_t *ret_offset_ms);
/* The stamp for a command now. The first ever, with nothing observed, is the median of the samples; 0 without any. */
uint64_t far_cluster_clock_stamp(struct far_cluster_clock *clock, uint64_t mono_ms);

#endif
