/* Clocks: see clock.h. */
#include "base/clock.h"

static uint64_t read_ns(clockid_t id)
{
    struct timespec ts;
    clock_gettime(id, &ts);
    return (uint64_t)ts.tv_sec * 1000000000u + (uint64_t)ts.tv_nsec;
}

uint64_t far_clock_monotonic_ns(void)
{
    return read_ns(CLOCK_MONOTONIC);
}

uint64_t far_clock_monotonic_ms(void)
{
    return read_ns(CLOCK_MONOTONIC) / 1000000u;
}

struct timespec far_clock_monotonic_in(uint64_t ms)
{
    struct timespec at;
    clock_gettime(CLOCK_MONOTONIC, &at);
    at.tv_sec += (time_t)(ms / 1000);
    at.tv_nsec += (long)(ms % 1000) * 1000000;
    if (at.tv_nsec >= 1000000000) {
        at.tv_sec++;
        at.tv_nsec -= 1000000000;
    }
    return at;
}

uint64_t far_clock_wall_ms(void)
{
    return read_ns(CLOCK_REALTIME) / 1000000u;
}
