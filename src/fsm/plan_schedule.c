/* When the cycles of a plan begin: by whole intervals from a start on, in some windows of the week and not in others, by the clocks of a
 * place.
 *
 * A plan without a row here goes by its interval alone, as before level 4. Else the next cycle is at the first time of its grid at which
 * the windows let one begin, and is looked at again when it is due: rules of the zone may have changed. What becomes of a cycle that could
 * not begin says catch_up; without it one that was noticed late begins at once, and one that met a blackout or a running cycle is left
 * out. */
#include "fsm/plan_edit.h"

#include "fsm/calendar.h"
#include "fsm/recovery.h"
#include "fsm/refuse.h"

enum { ABSENT, PRESENT };
enum { SET, CLEAR, GONE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"plan_schedule_set", "plan_schedule_set to an interval alone", "its plan is removed"};
static const struct far_cell cells[2][3] = {
    [ABSENT] = {[SET] = FAR_MOVE(PRESENT), [CLEAR] = FAR_MOVE(ABSENT), [GONE] = FAR_MOVE(ABSENT)},
    [PRESENT] = {[SET] = FAR_MOVE(PRESENT), [CLEAR] = FAR_MOVE(ABSENT), [GONE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_plan_schedule = FAR_TABLE("schedule of plan", states, inputs, cells);

enum { TRIES_MAX = 256 }; /* windows that are looked at for the next cycle: more than five weeks have */

int far_schedule_of(struct far_step *step, uint64_t plan_id, struct far_row_plan_schedule *ret)
{
    int rc = far_row_find(step, &far_schema_row_plan_schedule, plan_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_plan_schedule){.plan_id = 0};
        return 0;
    }
    return rc;
}

static unsigned state_of(const struct far_row_plan_schedule *row)
{
    return row->plan_id != 0 ? PRESENT : ABSENT;
}

/* ---- the calendar ---- */

/* Blackouts before windows: where both hold, none begins. Rates of a calendar stand for yes and no. */
static int calendar_of(struct far_step *step, const struct far_row_plan_schedule *row, struct far_calendar *ret)
{
    const struct far_sub_day_window *blackouts = row->blackouts.items, *windows = row->windows.items;
    struct far_row_zone zone = {.changes = {.count = 0}};
    size_t count = row->blackouts.count + row->windows.count;
    struct far_sub_throttle_window *all = far_step_alloc(step, (count + 1) * sizeof *all);
    if (all == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(row->zone_id != 0 ? far_row_need(step, &far_schema_row_zone, row->zone_id, &zone) : 0);
    for (size_t i = 0; i < count; i++) {
        bool is_blackout = i < row->blackouts.count;
        const struct far_sub_day_window *from = is_blackout ? &blackouts[i] : &windows[i - row->blackouts.count];
        all[i] = (struct far_sub_throttle_window){.days = from->days,
                                                  .from_min = from->from_min,
                                                  .to_min = from->to_min,
                                                  .bytes_per_s = is_blackout ? FAR_RATE_PAUSED : FAR_RATE_UNLIMITED};
    }
    *ret = (struct far_calendar){.bytes_per_s = row->windows.count > 0 ? FAR_RATE_PAUSED : FAR_RATE_UNLIMITED,
                                 .windows = {.items = all, .count = count},
                                 .changes = zone.changes};
    return 0;
}

/* May a cycle begin then, and when is it otherwise; 0: never. */
static bool is_open(const struct far_calendar *calendar, uint64_t time_ms, uint64_t *ret_next_ms)
{
    uint64_t rate;
    far_calendar_at(calendar, time_ms, &rate, ret_next_ms);
    return rate == FAR_RATE_UNLIMITED;
}

/* The first time of the grid that is not before this one. */
static uint64_t slot_from(uint64_t anchor_ms, uint64_t interval_ms, uint64_t time_ms)
{
    return time_ms <= anchor_ms ? anchor_ms : anchor_ms + (time_ms - anchor_ms + interval_ms - 1) / interval_ms * interval_ms;
}

/* The first time from this one on at which a cycle may begin: of the grid, or where what a blackout took is caught up with, its end. */
static int next_open(struct far_step *step, const struct far_row_plan_schedule *row, uint64_t anchor_ms, uint64_t interval_ms,
                     uint64_t time_ms, uint64_t *ret_ms)
{
    struct far_calendar calendar;
    FAR_TRY(calendar_of(step, row, &calendar));
    *ret_ms = 0;
    for (size_t i = 0; i < TRIES_MAX; i++) {
        uint64_t next_ms;
        if (is_open(&calendar, time_ms, &next_ms)) {
            *ret_ms = time_ms;
            return 0;
        }
        if (next_ms == 0) {
            return 0;
        }
        time_ms = row->catch_up == FAR_catch_up_now ? next_ms : slot_from(anchor_ms, interval_ms, next_ms);
    }
    return 0;
}

static int due_from(struct far_step *step, const struct far_row_plan_schedule *row, uint64_t interval_s, uint64_t from_ms,
                    uint64_t *ret_ms)
{
    uint64_t anchor_ms = row->start_ms != 0 ? row->start_ms : from_ms, interval_ms = interval_s * 1000;
    *ret_ms = 0;
    return interval_s == 0 ? 0 : next_open(step, row, anchor_ms, interval_ms, slot_from(anchor_ms, interval_ms, from_ms), ret_ms);
}

int far_schedule_next(struct far_step *step, const struct far_row_plan *plan, uint64_t from_ms, uint64_t *ret_due_ms)
{
    struct far_row_plan_schedule row;
    FAR_TRY(far_schedule_of(step, plan->id, &row));
    return due_from(step, &row, plan->interval_s, from_ms, ret_due_ms);
}

int far_schedule_resume(struct far_step *step, const struct far_row_plan *plan, uint64_t *ret_due_ms)
{
    struct far_row_plan_schedule row;
    uint64_t interval_ms = plan->interval_s * 1000;
    FAR_TRY(far_schedule_of(step, plan->id, &row));
    bool has_missed = row.start_ms != 0 && interval_ms != 0 && slot_from(row.start_ms, interval_ms, plan->paused_ms) < step->time_ms;
    row.start_ms = has_missed && row.catch_up == FAR_catch_up_now ? 0 : row.start_ms;
    return due_from(step, &row, plan->interval_s, step->time_ms, ret_due_ms);
}

int far_schedule_judge(struct far_step *step, const struct far_row_plan *plan, struct far_ev_plan_scheduled *ev, bool *ret_begins)
{
    struct far_row_plan_schedule row;
    struct far_calendar calendar;
    uint64_t interval_ms = plan->interval_s * 1000, missed = (step->time_ms - plan->due_ms) / interval_ms, next_ms;
    uint64_t anchor_ms = plan->due_ms;
    bool runs = plan->running_job_id != 0;
    *ev = (struct far_ev_plan_scheduled){.plan_id = plan->id, .due_ms = plan->due_ms + (missed + 1) * interval_ms, .skipped = runs};
    *ret_begins = !runs;
    FAR_TRY(far_schedule_of(step, plan->id, &row));
    if (row.plan_id == 0) {
        return 0;
    }
    FAR_TRY(calendar_of(step, &row, &calendar));
    bool open = is_open(&calendar, step->time_ms, &next_ms), catches_up = row.catch_up == FAR_catch_up_now;
    bool is_late = missed > 0 && row.catch_up == FAR_catch_up_skip;
    anchor_ms = row.start_ms != 0 ? row.start_ms : anchor_ms;
    ev->reason = runs ? FAR_skip_reason_running : !open ? FAR_skip_reason_blackout : is_late ? FAR_skip_reason_outage : 0;
    ev->skipped = ev->reason != 0;
    ev->owed = runs && catches_up;
    *ret_begins = !ev->skipped;
    uint64_t from_ms = !open && catches_up ? step->time_ms : slot_from(anchor_ms, interval_ms, step->time_ms + 1);
    return next_open(step, &row, anchor_ms, interval_ms, from_ms, &ev->due_ms);
}

/* ---- what may be set ---- */

int far_window_check(struct far_step *step, const char *path, const struct far_list *days, uint64_t from_min, uint64_t to_min)
{
    const struct far_sub_throttle_window window = {.days = *days};
    if (far_calendar_days(&window) == 0) {
        return far_reject(step, FAR_INVALID, "field '%sdays' must name days from 1 (Monday) to 7 (Sunday), each once", path);
    }
    if (from_min >= FAR_DAY_MIN) {
        return far_refuse_number(step, path, "from_min", from_min, "a minute of the day, 0 to 1439");
    }
    return to_min == 0 || to_min > FAR_DAY_MIN || to_min == from_min
               ? far_refuse_number(step, path, "to_min", to_min, "from 1 to 1440 and another minute than 'from_min'; a day is 0 to 1440")
               : 0;
}

int far_zone_check(struct far_step *step, const char *path, struct far_slice zone, uint64_t *ret_id)
{
    *ret_id = 0;
    if (zone.len == 0) {
        return 0;
    }
    if (!far_zone_name_is_good(zone)) {
        return far_refuse_text(step, path, "zone", zone, "the name of a time zone, like 'Europe/Paris'");
    }
    int rc = far_name_find(step, &far_schema_row_zone, zone, ret_id);
    return rc == FAR_NOT_FOUND ? far_reject(step, FAR_NOT_FOUND,
                                            "field '%szone' is '%.*s': that time zone is not known here yet; 'farshore zone refresh %.*s' "
                                            "has a server read it",
                                            path, FAR_TEXT(zone), FAR_TEXT(zone))
                               : rc;
}

static int check_windows(struct far_step *step, const char *path, const char *name, const struct far_list *list)
{
    const struct far_sub_day_window *windows = list->items;
    for (size_t i = 0; i < list->count; i++) {
        struct far_place at = far_place(path, name, i);
        FAR_TRY(far_window_check(step, at.path, &windows[i].days, windows[i].from_min, windows[i].to_min));
    }
    return 0;
}

static struct far_row_plan_schedule row_of(uint64_t plan_id, uint64_t zone_id, const struct far_sub_schedule *schedule)
{
    return (struct far_row_plan_schedule){.plan_id = plan_id,
                                          .start_ms = schedule->start_ms,
                                          .zone_id = zone_id,
                                          .windows = schedule->windows,
                                          .blackouts = schedule->blackouts,
                                          .catch_up = schedule->catch_up};
}

int far_schedule_check(struct far_step *step, const char *path, const struct far_sub_schedule *schedule)
{
    uint64_t zone_id, open_ms = 0;
    if (schedule->zone.len > 0 && schedule->windows.count + schedule->blackouts.count == 0) {
        return far_refuse_text(step, path, "zone", schedule->zone, "left out: without windows or blackouts no clock matters");
    }
    FAR_TRY(far_refuse_above(step, path, "start_ms", schedule->start_ms, step->time_ms + FAR_INTERVAL_S_MAX * 1000));
    FAR_TRY(check_windows(step, path, "windows", &schedule->windows));
    FAR_TRY(check_windows(step, path, "blackouts", &schedule->blackouts));
    FAR_TRY(far_zone_check(step, path, schedule->zone, &zone_id));
    struct far_row_plan_schedule row = row_of(0, zone_id, schedule);
    row.catch_up = FAR_catch_up_now;
    FAR_TRY(next_open(step, &row, step->time_ms, 1000, step->time_ms, &open_ms));
    return open_ms != 0 ? 0 : far_reject(step, FAR_INVALID, "field '%sblackouts' leaves no time for any cycle: there must be some", path);
}

/* ---- set ---- */

/* When the next cycle is due: where it was, if that still fits; never while it is stopped. */
static int due_after(struct far_step *step, const struct far_row_plan *plan, const struct far_ev_plan_schedule_changed *ev,
                     uint64_t *ret_ms)
{
    struct far_row_plan_schedule row = {.start_ms = ev->start_ms,
                                        .zone_id = ev->zone_id,
                                        .windows = ev->windows,
                                        .blackouts = ev->blackouts,
                                        .catch_up = ev->catch_up};
    uint64_t latest_ms = step->time_ms + ev->interval_s * 1000;
    uint64_t from_ms = plan->due_ms == 0 ? step->time_ms : plan->due_ms < latest_ms ? plan->due_ms : latest_ms;
    *ret_ms = plan->state == FAR_plan_state_paused ? plan->due_ms : 0; /* the end of the pause */
    return plan->state == FAR_plan_state_active ? due_from(step, &row, ev->interval_s, from_ms, ret_ms) : 0;
}

int far_schedule_put(struct far_step *step, const struct far_row_plan *plan, uint64_t interval_s, const struct far_sub_schedule *schedule)
{
    static const struct far_sub_schedule none;
    struct far_row_plan_schedule old;
    bool same;
    schedule = schedule != NULL ? schedule : &none;
    struct far_ev_plan_schedule_changed ev = {.plan_id = plan->id,
                                              .interval_s = interval_s,
                                              .start_ms = schedule->start_ms,
                                              .windows = schedule->windows,
                                              .blackouts = schedule->blackouts,
                                              .catch_up = schedule->catch_up};
    FAR_TRY(far_zone_check(step, "", schedule->zone, &ev.zone_id));
    FAR_TRY(far_schedule_of(step, plan->id, &old));
    struct far_ev_plan_schedule_changed before = {.plan_id = plan->id,
                                                  .interval_s = plan->interval_s,
                                                  .start_ms = old.start_ms,
                                                  .zone_id = old.zone_id,
                                                  .windows = old.windows,
                                                  .blackouts = old.blackouts,
                                                  .catch_up = old.catch_up};
    FAR_TRY(far_same(step, &far_schema_ev_plan_schedule_changed, &ev, &before, &same));
    if (same) {
        return 0;
    }
    FAR_TRY(due_after(step, plan, &ev, &ev.due_ms));
    return far_emit(step, &far_schema_ev_plan_schedule_changed, &ev);
}

int far_decide_plan_schedule_set(struct far_step *step, const struct far_cmd_plan_schedule_set *cmd)
{
    const struct far_sub_schedule *schedule = cmd->schedule.count > 0 ? cmd->schedule.items : NULL;
    struct far_row_plan plan;
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_plan, cmd->name, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, id, &plan));
    FAR_TRY(far_refuse_above(step, "", "interval_s", cmd->interval_s, FAR_INTERVAL_S_MAX));
    FAR_TRY(schedule != NULL ? far_schedule_check(step, "schedule.", schedule) : 0);
    step->object_id = id;
    return far_schedule_put(step, &plan, cmd->interval_s, schedule);
}

/* ---- evolve ---- */

int far_evolve_plan_schedule_changed(struct far_step *step, const struct far_ev_plan_schedule_changed *ev)
{
    struct far_row_plan plan;
    struct far_row_plan_schedule old;
    bool is_some = ev->start_ms != 0 || ev->windows.count + ev->blackouts.count > 0 || ev->catch_up != 0;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    FAR_TRY(far_schedule_of(step, ev->plan_id, &old));
    FAR_TRY(far_move_id(step, &far_table_plan_schedule, state_of(&old), is_some ? SET : CLEAR, ev->plan_id, NULL));
    if (is_some) {
        struct far_row_plan_schedule row = {.plan_id = ev->plan_id,
                                            .start_ms = ev->start_ms,
                                            .zone_id = ev->zone_id,
                                            .windows = ev->windows,
                                            .blackouts = ev->blackouts,
                                            .catch_up = ev->catch_up};
        FAR_TRY(far_row_put(step, &far_schema_row_plan_schedule, ev->plan_id, &row));
    } else if (old.plan_id != 0) {
        FAR_TRY(far_row_del(step, &far_schema_row_plan_schedule, ev->plan_id));
    }
    uint64_t due_before_ms = plan.due_ms;
    plan.interval_s = ev->interval_s;
    plan.due_ms = ev->due_ms;
    plan.owed = plan.owed && ev->catch_up == FAR_catch_up_now;
    plan.revision++;
    return far_plan_put(step, &plan, due_before_ms);
}

int far_schedule_gone(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan_schedule row;
    FAR_TRY(far_schedule_of(step, plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan_schedule, state_of(&row), GONE, plan_id, NULL));
    return row.plan_id != 0 ? far_row_del(step, &far_schema_row_plan_schedule, plan_id) : 0;
}
