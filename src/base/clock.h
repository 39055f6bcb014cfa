/* Clocks. Not for src/fsm/ and not for simulated code: what the simulator runs takes time from its environment. */
#ifndef FAR_BASE_CLOCK_H
#define FAR_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

/* CLOCK_MONOTONIC in nanoseconds; never runs backwards, means nothing on another machine. */
uint64_t far_clock_monotonic_ns(void);
uint64_t far_clock_monotonic_ms(void);
/* CLOCK_MONOTONIC so many milliseconds from now: for pthread_cond_timedwait on a condition of that clock. */
struct timespec far_clock_monotonic_in(uint64_t ms);
/* CLOCK_BOOTTIME: since the machine booted, asleep or not; and which boot that was (zero bytes: the system does not say). */
uint64_t far_clock_boot_ms(void);
void far_clock_boot_id(uint8_t ret_id[16]);
/* CLOCK_REALTIME in milliseconds since 1970-01-01 UTC; may jump. */
uint64_t far_clock_wall_ms(void);

#endif
