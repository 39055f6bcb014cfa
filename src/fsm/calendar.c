/* Weekly calendars: see calendar.h.
 *
 * The next change is looked for boundary by boundary: where a window begins or ends by the offset of now, or where the offset changes;
 * at each the rate is asked for again. Calendars repeat every week but for changes of the offset, so five weeks are enough. */
#include "fsm/calendar.h"

enum { DAY_S = 86400, WEEK_S = 7 * DAY_S, EPOCH_DAY = 3 /* 1970-01-01 was a Thursday */, HORIZON_S = 5 * WEEK_S };

unsigned far_calendar_days(const struct far_sub_throttle_window *window)
{
    const uint64_t *days = window->days.items;
    unsigned bits = 0;
    for (size_t i = 0; i < window->days.count; i++) {
        unsigned bit = days[i] >= 1 && days[i] <= 7 ? 1u << (days[i] - 1) : 0;
        if (bit == 0 || (bits & bit) != 0) {
            return 0;
        }
        bits |= bit;
    }
    return bits;
}

/* The offset at a time, and when it ends; INT64_MAX: never. */
static int64_t offset_in(const struct far_list *list, int64_t time_s, int64_t *ret_until_s)
{
    const struct far_sub_zone_change *changes = list->items;
    int64_t offset_s = 0;
    *ret_until_s = INT64_MAX;
    for (size_t i = 0; i < list->count; i++) {
        if ((int64_t)changes[i].at_s > time_s) {
            *ret_until_s = (int64_t)changes[i].at_s;
            break;
        }
        offset_s = (int64_t)changes[i].east_s - (int64_t)changes[i].west_s;
    }
    return offset_s;
}

static int64_t offset_at(const struct far_calendar *calendar, int64_t time_s, int64_t *ret_until_s)
{
    return offset_in(&calendar->changes, time_s, ret_until_s);
}

int64_t far_zone_offset_s(const struct far_list *changes, int64_t time_s)
{
    int64_t until_s;
    return offset_in(changes, time_s, &until_s);
}

/* What the clocks show, as seconds of the week from Monday 0:00. */
static int64_t second_of_week(int64_t time_s, int64_t offset_s)
{
    return (time_s + offset_s + EPOCH_DAY * DAY_S + WEEK_S) % WEEK_S;
}

/* Did the window begin on one of its days, and has not ended? */
static bool is_in(const struct far_sub_throttle_window *window, int64_t second)
{
    unsigned days = far_calendar_days(window);
    for (int64_t day = 0; day < 7; day++) {
        int64_t begin = day * DAY_S + (int64_t)window->from_min * 60;
        int64_t since = (second - begin + WEEK_S) % WEEK_S;
        if ((days >> day & 1) != 0 && since < (int64_t)far_calendar_span_min(window) * 60) {
            return true;
        }
    }
    return false;
}

static uint64_t rate_at(const struct far_calendar *calendar, int64_t time_s)
{
    const struct far_sub_throttle_window *windows = calendar->windows.items;
    int64_t until_s, second = second_of_week(time_s, offset_at(calendar, time_s, &until_s));
    for (size_t i = 0; i < calendar->windows.count; i++) {
        if (is_in(&windows[i], second)) {
            return windows[i].bytes_per_s;
        }
    }
    return calendar->bytes_per_s;
}

static void nearer(int64_t second, int64_t boundary, int64_t *nearest)
{
    int64_t ahead = (boundary % WEEK_S - second + WEEK_S) % WEEK_S;
    ahead = ahead == 0 ? WEEK_S : ahead;
    *nearest = ahead < *nearest ? ahead : *nearest;
}

/* The first time after this one when a window begins or ends, or the offset changes. */
static int64_t next_boundary(const struct far_calendar *calendar, int64_t time_s)
{
    const struct far_sub_throttle_window *windows = calendar->windows.items;
    int64_t until_s, offset_s = offset_at(calendar, time_s, &until_s);
    int64_t second = second_of_week(time_s, offset_s), nearest = WEEK_S;
    for (size_t i = 0; i < calendar->windows.count; i++) {
        unsigned days = far_calendar_days(&windows[i]);
        for (int64_t day = 0; day < 7; day++) {
            int64_t begin = day * DAY_S + (int64_t)windows[i].from_min * 60;
            if ((days >> day & 1) != 0) {
                nearer(second, begin, &nearest);
                nearer(second, begin + (int64_t)far_calendar_span_min(&windows[i]) * 60, &nearest);
            }
        }
    }
    return time_s + nearest < until_s ? time_s + nearest : until_s;
}

void far_calendar_at(const struct far_calendar *calendar, uint64_t time_ms, uint64_t *ret_bytes_per_s, uint64_t *ret_next_ms)
{
    int64_t now_s = (int64_t)(time_ms / 1000);
    uint64_t rate = rate_at(calendar, now_s);
    *ret_bytes_per_s = rate;
    *ret_next_ms = 0;
    for (int64_t at_s = now_s; calendar->windows.count > 0 && at_s < now_s + HORIZON_S;) {
        at_s = next_boundary(calendar, at_s);
        if (rate_at(calendar, at_s) != rate) {
            *ret_next_ms = (uint64_t)at_s * 1000;
            return;
        }
    }
}

bool far_calendar_overlap(const struct far_sub_throttle_window *a, const struct far_sub_throttle_window *b, uint64_t *ret_minute)
{
    unsigned days_a = far_calendar_days(a), days_b = far_calendar_days(b);
    uint64_t first = FAR_WEEK_MIN;
    for (uint64_t i = 0; i < 49; i++) {
        uint64_t begin_a = i / 7 * FAR_DAY_MIN + a->from_min, begin_b = i % 7 * FAR_DAY_MIN + b->from_min;
        if ((days_a >> (i / 7) & 1) == 0 || (days_b >> (i % 7) & 1) == 0) {
            continue;
        }
        if ((begin_b - begin_a + FAR_WEEK_MIN) % FAR_WEEK_MIN < far_calendar_span_min(a)) {
            first = begin_b < first ? begin_b : first;
        }
        if ((begin_a - begin_b + FAR_WEEK_MIN) % FAR_WEEK_MIN < far_calendar_span_min(b)) {
            first = begin_a < first ? begin_a : first;
        }
    }
    *ret_minute = first;
    return first < FAR_WEEK_MIN;
}
