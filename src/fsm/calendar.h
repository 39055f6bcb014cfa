/* Weekly calendars of bandwidth limits: which rate is in force at a time, and when the next one is.
 *
 * Windows go by the clocks of a place: what these show at a moment is UTC and the offset that the zone's changes say, which are data
 * of the state. So a window is in force whenever those clocks show a time in it: at a window that begins in the hour that a change
 * to summer time leaves out, they are in it from the change on; in the hour that comes twice, twice. Pure, any thread. */
#ifndef FAR_FSM_CALENDAR_H
#define FAR_FSM_CALENDAR_H

#include "fsm/schema.h"

enum {
    FAR_DAY_MIN = 24 * 60,
    FAR_WEEK_MIN = 7 * FAR_DAY_MIN,
    FAR_CALENDAR_WINDOWS_MAX = 32,
    FAR_ZONE_CHANGES_MAX = 128,
};

/* Rates: bytes a second, and two that are none. */
enum { FAR_RATE_UNLIMITED = 0, FAR_RATE_PAUSED = 1, FAR_RATE_MIN = 10000 /* shared by 1,000 nodes it is still one */ };
#define FAR_RATE_MAX 1000000000000ull

struct far_calendar {
    uint64_t bytes_per_s;     /* outside of the windows */
    struct far_list windows;  /* struct far_sub_throttle_window */
    struct far_list changes;  /* struct far_sub_zone_change, in their order; none: UTC */
};

/* *ret_next_ms: the first moment after time_ms when another rate is in force; 0: never. */
void far_calendar_at(const struct far_calendar *calendar, uint64_t time_ms, uint64_t *ret_bytes_per_s, uint64_t *ret_next_ms);

/* The days of a window, as bits: 1 Monday … 64 Sunday; 0: there are none, or one is no day or stands there twice. */
unsigned far_calendar_days(const struct far_sub_throttle_window *window);
/* How long a window is on each of its days. */
static inline uint64_t far_calendar_span_min(const struct far_sub_throttle_window *window)
{
    return window->to_min > window->from_min ? window->to_min - window->from_min
                                             : window->to_min + FAR_DAY_MIN - window->from_min;
}
/* Do two windows ever show the same time? Fills the first minute of the week (from Monday) that they share. */
bool far_calendar_overlap(const struct far_sub_throttle_window *a, const struct far_sub_throttle_window *b, uint64_t *ret_minute);

/* How far the clocks of a zone with these changes (struct far_sub_zone_change) are ahead of UTC at a time; none: UTC. */
int64_t far_zone_offset_s(const struct far_list *changes, int64_t time_s);

/* Could it be the name of a time zone? "Europe/Paris": parts of letters, digits, '_', '-', '+', with one '/' between two. */
bool far_zone_name_is_good(struct far_slice name);

#endif
