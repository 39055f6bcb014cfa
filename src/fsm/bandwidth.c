/* Bandwidth limits of nodes, plans and sites: a rate, and windows of the week with other rates.
 *
 * What is in force is decided by the log: when a limit is set, and at each deadline where its calendar says another rate, an event
 * names the rate from then on and the next deadline. So nodes, streams and the audit see the same change at the same place. A deadline
 * that comes late (no leader, clocks that nobody can believe) says what holds then. Who gets how much of it: query_limits.c. */
#include "fsm/bandwidth.h"

enum { ABSENT, STEADY, CALENDAR };
enum { SET_STEADY, SET_CALENDAR, REMOVE, GONE, DUE, RECHECK };
static const char *const states[] = {"absent", "steady", "with a calendar"};
static const char *const inputs[] = {"throttle_set, no windows", "throttle_set, windows", "throttle_remove",
                                     "its object is removed",    "due",                   "its time zone changed"};
#define NONE FAR_REJECT(FAR_NOT_FOUND, "is not set")
#define BROKEN FAR_REJECT(FAR_INTERNAL, "has no calendar")
static const struct far_cell cells[3][6] = {
    [ABSENT] = {[SET_STEADY] = FAR_MOVE(STEADY),
                [SET_CALENDAR] = FAR_MOVE(CALENDAR),
                [REMOVE] = NONE,
                [GONE] = FAR_MOVE(ABSENT),
                [DUE] = BROKEN,
                [RECHECK] = BROKEN},
    [STEADY] = {[SET_STEADY] = FAR_MOVE(STEADY),
                [SET_CALENDAR] = FAR_MOVE(CALENDAR),
                [REMOVE] = FAR_MOVE(ABSENT),
                [GONE] = FAR_MOVE(ABSENT),
                [DUE] = BROKEN,
                [RECHECK] = BROKEN},
    [CALENDAR] = {[SET_STEADY] = FAR_MOVE(STEADY),
                  [SET_CALENDAR] = FAR_MOVE(CALENDAR),
                  [REMOVE] = FAR_MOVE(ABSENT),
                  [GONE] = FAR_MOVE(ABSENT),
                  [DUE] = FAR_MOVE(CALENDAR),
                  [RECHECK] = FAR_MOVE(CALENDAR)},
};
const struct far_table far_table_throttle = FAR_TABLE("the bandwidth limit of", states, inputs, cells);

static unsigned state_of(const struct far_row_throttle *row)
{
    return row->id == 0 ? ABSENT : row->windows.count > 0 ? CALENDAR : STEADY;
}

/* The limit of this object; all zero if it has none. */
static int look(struct far_step *step, uint64_t id, struct far_row_throttle *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_throttle, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_throttle){.id = 0};
        return 0;
    }
    return rc;
}

/* Put the row, its deadline moved from where it was. */
static int store(struct far_step *step, const struct far_row_throttle *row, uint64_t next_before_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_throttle, row->id, 0, next_before_ms, row->next_ms));
    return far_row_put(step, &far_schema_row_throttle, row->id, row);
}

int far_throttle_at(struct far_step *step, const struct far_row_throttle *row, uint64_t time_ms, uint64_t *ret_bytes_per_s,
                    uint64_t *ret_next_ms)
{
    struct far_row_zone zone = {.changes = {.count = 0}};
    FAR_TRY(row->zone_id != 0 ? far_row_need(step, &far_schema_row_zone, row->zone_id, &zone) : 0);
    struct far_calendar calendar = {.bytes_per_s = row->bytes_per_s, .windows = row->windows, .changes = zone.changes};
    far_calendar_at(&calendar, time_ms, ret_bytes_per_s, ret_next_ms);
    return 0;
}

/* ---- what it is about ---- */

static const struct far_schema *table_of(uint64_t scope)
{
    return scope == FAR_throttle_scope_node   ? &far_schema_row_node
           : scope == FAR_throttle_scope_plan ? &far_schema_row_plan
           : scope == FAR_throttle_scope_site ? &far_schema_row_site
                                              : NULL;
}

static int find_object(struct far_step *step, uint64_t scope, struct far_slice name, uint64_t *ret_id)
{
    const struct far_schema *table = table_of(scope);
    if (table == NULL) {
        return far_reject(step, FAR_INVALID, "field 'scope' is %llu; a bandwidth limit is of a node, a plan or a site",
                          FAR_LLU(scope));
    }
    FAR_TRY(far_name_check(step, table->name, name));
    return far_name_need(step, table, name, ret_id);
}

/* ---- what may be set ---- */

static int check_rate(struct far_step *step, const char *field, uint64_t rate)
{
    return rate == FAR_RATE_UNLIMITED || rate == FAR_RATE_PAUSED || (rate >= FAR_RATE_MIN && rate <= FAR_RATE_MAX)
               ? 0
               : far_reject(step, FAR_INVALID,
                            "field '%s' is %llu bytes a second; it must be from %d to %llu, 0 for no limit, or 1 for a pause", field,
                            FAR_LLU(rate), FAR_RATE_MIN, FAR_RATE_MAX);
}

static int check_window(struct far_step *step, const struct far_sub_throttle_window *window, size_t number)
{
    if (far_calendar_days(window) == 0) {
        return far_reject(step, FAR_INVALID, "window %zu: field 'days' must name days from 1 (Monday) to 7 (Sunday), each once",
                          number);
    }
    if (window->from_min >= FAR_DAY_MIN) {
        return far_reject(step, FAR_INVALID, "window %zu: field 'from_min' is %llu; it must be a minute of the day, 0 to 1439", number,
                          FAR_LLU(window->from_min));
    }
    if (window->to_min == 0 || window->to_min > FAR_DAY_MIN || window->to_min == window->from_min) {
        return far_reject(step, FAR_INVALID,
                          "window %zu: field 'to_min' is %llu; it must be from 1 to 1440 and another minute than 'from_min' (%llu); "
                          "a whole day is from 0 to 1440",
                          number, FAR_LLU(window->to_min), FAR_LLU(window->from_min));
    }
    return check_rate(step, "bytes_per_s", window->bytes_per_s);
}

static int overlap(struct far_step *step, size_t a, size_t b, uint64_t minute)
{
    static const char *const days[] = {"Monday", "Tuesday", "Wednesday", "Thursday", "Friday", "Saturday", "Sunday"};
    return far_reject(step, FAR_INVALID, "windows %zu and %zu overlap on %s at %02u:%02u; at any time at most one may hold",
                      a + 1, b + 1, days[minute / FAR_DAY_MIN % 7], (unsigned)(minute % FAR_DAY_MIN / 60), (unsigned)(minute % 60));
}

static int check_windows(struct far_step *step, const struct far_list *list)
{
    const struct far_sub_throttle_window *windows = list->items;
    for (size_t i = 0; i < list->count; i++) {
        FAR_TRY(check_window(step, &windows[i], i + 1));
    }
    for (size_t i = 0; i < list->count; i++) {
        for (size_t k = i + 1; k < list->count; k++) {
            uint64_t minute;
            if (far_calendar_overlap(&windows[i], &windows[k], &minute)) {
                return overlap(step, i, k, minute);
            }
        }
    }
    return 0;
}

static int find_zone(struct far_step *step, const struct far_cmd_throttle_set *cmd, uint64_t *ret_id)
{
    *ret_id = 0;
    if (cmd->zone.len == 0) {
        return 0;
    }
    if (cmd->windows.count == 0) {
        return far_reject(step, FAR_INVALID,
                          "field 'zone' is '%.*s', but without windows no clock matters: leave it out, or give windows",
                          FAR_TEXT(cmd->zone));
    }
    if (!far_zone_name_is_good(cmd->zone)) {
        return far_reject(step, FAR_INVALID, "field 'zone' is '%.*s'; it must be the name of a time zone, like 'Europe/Paris'",
                          FAR_TEXT(cmd->zone));
    }
    int rc = far_name_find(step, &far_schema_row_zone, cmd->zone, ret_id);
    return rc == FAR_NOT_FOUND
               ? far_reject(step, FAR_NOT_FOUND,
                            "time zone '%.*s' (field 'zone') is not known here yet; 'farshore zone refresh %.*s' has a server read it",
                            FAR_TEXT(cmd->zone), FAR_TEXT(cmd->zone))
               : rc;
}

static int check_room(struct far_step *step)
{
    struct far_row_throttle row;
    struct far_key key = far_key(&far_schema_row_throttle);
    size_t count = 0;
    int rc;
    while ((rc = far_next(step, &far_schema_row_throttle, &key, NULL, &row)) == 0) {
        count++;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return count < FAR_THROTTLES_MAX
               ? 0
               : far_reject(step, FAR_LIMIT, "there are %d bandwidth limits already; remove one first", FAR_THROTTLES_MAX);
}

/* ---- set and remove ---- */

int far_decide_throttle_set(struct far_step *step, const struct far_cmd_throttle_set *cmd)
{
    struct far_row_throttle row = {.scope = cmd->scope, .bytes_per_s = cmd->bytes_per_s, .windows = cmd->windows}, old;
    FAR_TRY(find_object(step, cmd->scope, cmd->name, &row.id));
    FAR_TRY(check_rate(step, "bytes_per_s", cmd->bytes_per_s));
    FAR_TRY(check_windows(step, &cmd->windows));
    FAR_TRY(find_zone(step, cmd, &row.zone_id));
    FAR_TRY(look(step, row.id, &old));
    FAR_TRY(far_move(step, &far_table_throttle, state_of(&old), cmd->windows.count > 0 ? SET_CALENDAR : SET_STEADY, cmd->name, NULL));
    FAR_TRY(old.id == 0 ? check_room(step) : 0);
    struct far_ev_throttle_changed ev = {.scope = cmd->scope,
                                         .node_id = cmd->scope == FAR_throttle_scope_node ? row.id : 0,
                                         .plan_id = cmd->scope == FAR_throttle_scope_plan ? row.id : 0,
                                         .site_id = cmd->scope == FAR_throttle_scope_site ? row.id : 0,
                                         .bytes_per_s = row.bytes_per_s,
                                         .zone_id = row.zone_id,
                                         .windows = row.windows};
    FAR_TRY(far_throttle_at(step, &row, step->time_ms, &ev.in_force_bytes_per_s, &ev.next_ms));
    step->object_id = row.id;
    return far_emit(step, &far_schema_ev_throttle_changed, &ev);
}

int far_evolve_throttle_changed(struct far_step *step, const struct far_ev_throttle_changed *ev)
{
    struct far_row_throttle old;
    uint64_t id = ev->node_id + ev->plan_id + ev->site_id;
    FAR_TRY(look(step, id, &old));
    FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&old), ev->windows.count > 0 ? SET_CALENDAR : SET_STEADY, id, NULL));
    struct far_row_throttle row = {.id = id,
                                   .scope = ev->scope,
                                   .node_id = ev->node_id,
                                   .plan_id = ev->plan_id,
                                   .site_id = ev->site_id,
                                   .bytes_per_s = ev->bytes_per_s,
                                   .zone_id = ev->zone_id,
                                   .windows = ev->windows,
                                   .in_force_bytes_per_s = ev->in_force_bytes_per_s,
                                   .next_ms = ev->next_ms,
                                   .set_ms = step->time_ms};
    return store(step, &row, old.next_ms);
}

static int drop(struct far_step *step, const struct far_row_throttle *row)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_throttle, row->id, 0, row->next_ms, 0));
    return far_row_del(step, &far_schema_row_throttle, row->id);
}

int far_decide_throttle_remove(struct far_step *step, const struct far_cmd_throttle_remove *cmd)
{
    struct far_row_throttle row;
    uint64_t id = 0;
    FAR_TRY(find_object(step, cmd->scope, cmd->name, &id));
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move(step, &far_table_throttle, state_of(&row), REMOVE, cmd->name, NULL));
    struct far_ev_throttle_removed ev = {
        .scope = row.scope, .node_id = row.node_id, .plan_id = row.plan_id, .site_id = row.site_id};
    step->object_id = id;
    return far_emit(step, &far_schema_ev_throttle_removed, &ev);
}

int far_evolve_throttle_removed(struct far_step *step, const struct far_ev_throttle_removed *ev)
{
    struct far_row_throttle row;
    uint64_t id = ev->node_id + ev->plan_id + ev->site_id;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&row), REMOVE, id, NULL));
    return drop(step, &row);
}

int far_throttle_gone(struct far_step *step, uint64_t id)
{
    struct far_row_throttle row;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&row), GONE, id, NULL));
    return row.id != 0 ? drop(step, &row) : 0;
}

/* ---- the calendar ---- */

int far_throttle_due(struct far_step *step, uint64_t id)
{
    struct far_row_throttle row;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&row), DUE, id, NULL));
    if (row.next_ms == 0 || row.next_ms > step->time_ms) {
        return 0; /* dropped by deadline.c */
    }
    struct far_ev_throttle_shifted ev = {
        .scope = row.scope, .node_id = row.node_id, .plan_id = row.plan_id, .site_id = row.site_id};
    FAR_TRY(far_throttle_at(step, &row, step->time_ms, &ev.in_force_bytes_per_s, &ev.next_ms));
    return far_emit(step, &far_schema_ev_throttle_shifted, &ev);
}

int far_evolve_throttle_shifted(struct far_step *step, const struct far_ev_throttle_shifted *ev)
{
    struct far_row_throttle row;
    uint64_t id = ev->node_id + ev->plan_id + ev->site_id;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&row), DUE, id, NULL));
    uint64_t next_before_ms = row.next_ms;
    row.in_force_bytes_per_s = ev->in_force_bytes_per_s;
    row.next_ms = ev->next_ms;
    return store(step, &row, next_before_ms);
}

int far_throttles_recheck(struct far_step *step, uint64_t zone_id)
{
    struct far_row_throttle row;
    struct far_key key = far_key(&far_schema_row_throttle);
    int rc;
    while ((rc = far_next(step, &far_schema_row_throttle, &key, NULL, &row)) == 0) {
        if (row.zone_id != zone_id) {
            continue;
        }
        uint64_t next_before_ms = row.next_ms;
        FAR_TRY(far_move_id(step, &far_table_throttle, state_of(&row), RECHECK, row.id, NULL));
        row.next_ms = step->time_ms;
        FAR_TRY(store(step, &row, next_before_ms));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}
