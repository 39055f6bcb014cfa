/* Time zones: the rules by which calendars are computed, put here by a command, so that every server computes the same ones
 * (DESIGN.md section 3.6). A server finds them on its machine when somebody names a zone. They stay: a zone is a row, and there are
 * hardly more than 600. Set anew (the law changed), the limits that go by them are looked at again. */
#include "fsm/bandwidth.h"

enum { ABSENT, PRESENT };
enum { SET };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"zone_set"};
static const struct far_cell cells[2][1] = {
    [ABSENT] = {[SET] = FAR_MOVE(PRESENT)},
    [PRESENT] = {[SET] = FAR_MOVE(PRESENT)},
};
const struct far_table far_table_zone = FAR_TABLE("time zone", states, inputs, cells);

enum { ZONES_MAX = 700, OFFSET_S_MAX = 26 * 3600 };

/* The zone of this name; all zero if there is none. */
static int look(struct far_step *step, struct far_slice name, struct far_row_zone *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_zone, name, &id);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_zone){.id = 0};
        return 0;
    }
    FAR_TRY(rc);
    return far_row_need(step, &far_schema_row_zone, id, ret_row);
}

static bool is_zone_byte(uint8_t b)
{
    return (b >= 'a' && b <= 'z') || (b >= 'A' && b <= 'Z') || (b >= '0' && b <= '9') || b == '_' || b == '-' || b == '+';
}

bool far_zone_name_is_good(struct far_slice name)
{
    bool good = name.len >= 1 && name.len <= 63 && name.data[name.len - 1] != '/';
    for (size_t i = 0; good && i < name.len; i++) {
        good = is_zone_byte(name.data[i]) || (name.data[i] == '/' && i > 0 && name.data[i - 1] != '/');
    }
    return good;
}

static int check_changes(struct far_step *step, const struct far_cmd_zone_set *cmd)
{
    const struct far_sub_zone_change *changes = cmd->changes.items;
    if (cmd->changes.count == 0 || changes[0].at_s != 0) {
        return far_reject(step, FAR_INVALID, "time zone '%.*s' needs a first change at 0: the offset that its rules begin with",
                          FAR_TEXT(cmd->name));
    }
    for (size_t i = 0; i < cmd->changes.count; i++) {
        if (i > 0 && changes[i].at_s <= changes[i - 1].at_s) {
            return far_reject(step, FAR_INVALID, "time zone '%.*s': change %zu is at %llu, not after the one before it (%llu)",
                              FAR_TEXT(cmd->name), i, FAR_LLU(changes[i].at_s), FAR_LLU(changes[i - 1].at_s));
        }
        if (changes[i].east_s > OFFSET_S_MAX || changes[i].west_s > OFFSET_S_MAX ||
            (changes[i].east_s != 0 && changes[i].west_s != 0) || changes[i].at_s > UINT32_MAX) {
            return far_reject(step, FAR_INVALID,
                              "time zone '%.*s': change %zu is %llu s east and %llu s west of UTC; it must be one of both, at most "
                              "26 hours, and before the year 2106",
                              FAR_TEXT(cmd->name), i, FAR_LLU(changes[i].east_s), FAR_LLU(changes[i].west_s));
        }
    }
    return 0;
}

static int check_room(struct far_step *step)
{
    struct far_row_zone row;
    struct far_key key = far_key(&far_schema_row_zone);
    size_t count = 0;
    int rc;
    while ((rc = far_next(step, &far_schema_row_zone, &key, NULL, &row)) == 0) {
        count++;
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return count < ZONES_MAX ? 0 : far_reject(step, FAR_LIMIT, "there are %d time zones already; use one of them", ZONES_MAX);
}

static bool same_rules(const struct far_row_zone *row, const struct far_cmd_zone_set *cmd)
{
    const struct far_sub_zone_change *a = row->changes.items, *b = cmd->changes.items;
    bool same = row->until_s == cmd->until_s && row->changes.count == cmd->changes.count;
    for (size_t i = 0; same && i < cmd->changes.count; i++) {
        same = a[i].at_s == b[i].at_s && a[i].east_s == b[i].east_s && a[i].west_s == b[i].west_s;
    }
    return same;
}

int far_decide_zone_set(struct far_step *step, const struct far_cmd_zone_set *cmd)
{
    struct far_row_zone row;
    if (!far_zone_name_is_good(cmd->name)) {
        return far_reject(step, FAR_INVALID, "'%.*s' is not the name of a time zone: they are like 'Europe/Paris' or 'UTC'",
                          FAR_TEXT(cmd->name));
    }
    FAR_TRY(check_changes(step, cmd));
    FAR_TRY(look(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_zone, row.id != 0 ? PRESENT : ABSENT, SET, cmd->name, NULL));
    FAR_TRY(row.id == 0 ? check_room(step) : 0);
    struct far_ev_zone_changed ev = {.id = row.id != 0 ? row.id : step->progress.next_id,
                                     .name = cmd->name,
                                     .changes = cmd->changes,
                                     .until_s = cmd->until_s};
    step->object_id = ev.id;
    return row.id != 0 && same_rules(&row, cmd) ? 0 : far_emit(step, &far_schema_ev_zone_changed, &ev);
}

int far_evolve_zone_changed(struct far_step *step, const struct far_ev_zone_changed *ev)
{
    struct far_row_zone old;
    FAR_TRY(look(step, ev->name, &old));
    FAR_TRY(far_move(step, &far_table_zone, old.id != 0 ? PRESENT : ABSENT, SET, ev->name, NULL));
    struct far_row_zone row = {
        .id = ev->id, .name = ev->name, .changes = ev->changes, .until_s = ev->until_s, .set_ms = step->time_ms};
    if (old.id == 0) {
        FAR_TRY(far_name_put(step, &far_schema_row_zone, row.name, row.id));
        far_id_used(step, row.id);
    }
    FAR_TRY(far_row_put(step, &far_schema_row_zone, row.id, &row));
    return old.id != 0 ? far_throttles_recheck(step, row.id) : 0;
}
