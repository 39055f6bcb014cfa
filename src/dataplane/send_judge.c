/* What holds a send up: looked at twice a second, from how long its threads waited in reads and writes since the last look, and
 * from what lies in its queues. In this order: nobody to talk to; a limit of bandwidth; what is behind the offers (the
 * target, if it says that it is busy, else the link); no buffers; the source's reads; else the processor. */
#include "dataplane/send_local.h"

#include "base/clock.h"

#include <time.h>

static uint64_t thread_ns(void)
{
    struct timespec ts;
    clock_gettime(CLOCK_THREAD_CPUTIME_ID, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

struct send_stopwatch send_stopwatch_begin(void)
{
    return (struct send_stopwatch){.wall_ns = far_clock_monotonic_ns(), .processor_ns = thread_ns()};
}

uint64_t send_stopwatch_blocked_ns(const struct send_stopwatch *watch)
{
    uint64_t wall_ns = far_clock_monotonic_ns() - watch->wall_ns, processor_ns = thread_ns() - watch->processor_ns;
    return wall_ns > processor_ns ? wall_ns - processor_ns : 0;
}

/* Is there work for the wire, or are its answers awaited, and the workers have nothing to do? */
static bool is_held_behind(const struct far_send *send, uint64_t interval_ns)
{
    bool window_full = send->to_send.first != NULL && send->unacked_bytes >= send->credit.window_bytes / 4 * 3;
    bool writes_block = atomic_load(&send->write_blocked_ns) >= interval_ns / 3 * send->lanes_up;
    bool workers_idle = send->busy == 0 && !send->planned && send->buffers > 0;
    return window_full || writes_block || workers_idle;
}

void send_judge(struct far_send *send)
{
    uint64_t now_ns = far_clock_monotonic_ns(), interval_ns = now_ns - send->judged_ns;
    uint64_t workers = send->engine->config.worker_count;
    enum far_engine_bottleneck found = FAR_ENGINE_PROCESSOR;
    if (send->lanes_up == 0 && !send->local) {
        found = FAR_ENGINE_PEER;
    } else if (atomic_load(&send->throttled_ns) >= interval_ns / 3) {
        found = FAR_ENGINE_THROTTLE;
    } else if (is_held_behind(send, interval_ns)) {
        found = send->credit.busy ? FAR_ENGINE_TARGET_WRITE : FAR_ENGINE_LINK;
    } else if (send->pool_was_empty) {
        found = FAR_ENGINE_MEMORY;
    } else if (atomic_load(&send->read_blocked_ns) >= interval_ns / 4 * workers) {
        found = FAR_ENGINE_SOURCE_READ;
    }
    atomic_store(&send->attempt->figures.bottleneck, found);
    atomic_store(&send->read_blocked_ns, 0);
    atomic_store(&send->write_blocked_ns, 0);
    atomic_store(&send->throttled_ns, 0);
    send->pool_was_empty = false;
    send->judged_ns = now_ns;
}
