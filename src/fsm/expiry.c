/* The retention of plans: see expiry.h. */
#include "fsm/expiry.h"

#include "fsm/checkpoint.h"

enum { ABSENT, PRESENT };
enum { SET, CLEAR, LOOK, GONE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"plan_retention_set", "plan_retention_set to keep everything", "look", "its plan is removed"};
static const struct far_cell cells[2][4] = {
    [ABSENT] = {[SET] = FAR_MOVE(PRESENT),
                [CLEAR] = FAR_MOVE(ABSENT),
                [LOOK] = FAR_REJECT(FAR_INTERNAL, "keeps everything"),
                [GONE] = FAR_MOVE(ABSENT)},
    [PRESENT] = {[SET] = FAR_MOVE(PRESENT), [CLEAR] = FAR_MOVE(ABSENT), [LOOK] = FAR_MOVE(PRESENT), [GONE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_plan_retention = FAR_TABLE("retention of plan", states, inputs, cells);

enum {
    LOOKS_MAX = 256,   /* checkpoints looked at in one piece */
    DROPS_MAX = 32,    /* of them removed */
    MEMBERS_MAX = 512, /* members of those: what removing costs */
    BUSY_MS = 600000,  /* one that a job reads is looked at again so much later */
    SCRATCH_BYTES = 1024 * 1024,
};
static const unsigned FOR_A_WHILE = FAR_STAYS_LOCKED | FAR_STAYS_READ;

static struct far_key key_of(uint64_t plan_id)
{
    return far_key_id(&far_schema_row_plan_retention, plan_id);
}

/* All zero if the plan keeps everything. */
static int look_row(struct far_step *step, uint64_t plan_id, struct far_row_plan_retention *ret)
{
    struct far_key key = key_of(plan_id);
    int rc = far_key_find(step, &far_schema_row_plan_retention, &key, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_plan_retention){.plan_id = 0};
        return 0;
    }
    return rc;
}

static unsigned state_of(const struct far_row_plan_retention *row)
{
    return row->plan_id != 0 ? PRESENT : ABSENT;
}

static int store(struct far_step *step, const struct far_row_plan_retention *row, uint64_t due_before_ms)
{
    struct far_key key = key_of(row->plan_id);
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_expiry, row->plan_id, 0, due_before_ms, row->due_ms));
    return far_key_put(step, &far_schema_row_plan_retention, &key, row);
}

/* ---- the policy ---- */

static int find_zone(struct far_step *step, struct far_slice zone, uint64_t *ret_id)
{
    *ret_id = 0;
    if (zone.len == 0) {
        return 0;
    }
    int rc = far_name_find(step, &far_schema_row_zone, zone, ret_id);
    return rc == FAR_NOT_FOUND ? far_reject(step, FAR_NOT_FOUND,
                                            "time zone '%.*s' (field 'zone') is not known here yet; 'farshore zone refresh %.*s' has a "
                                            "server read it",
                                            FAR_TEXT(zone), FAR_TEXT(zone))
                               : rc;
}

int far_decide_plan_retention_set(struct far_step *step, const struct far_cmd_plan_retention_set *cmd)
{
    const uint64_t counts[] = {cmd->last, cmd->hourly, cmd->daily, cmd->weekly, cmd->monthly};
    struct far_row_plan_retention row;
    struct far_ev_plan_retention_changed ev = {.last = cmd->last,
                                               .hourly = cmd->hourly,
                                               .daily = cmd->daily,
                                               .weekly = cmd->weekly,
                                               .monthly = cmd->monthly};
    uint64_t sum = 0;
    FAR_TRY(far_name_need(step, &far_schema_row_plan, cmd->name, &ev.plan_id));
    for (size_t i = 0; i < FAR_KEEP_RULES; i++) {
        sum += counts[i];
        if (counts[i] > FAR_KEEP_MAX) {
            return far_reject(step, FAR_INVALID, "field '%s' is %llu; a rule keeps at most %d checkpoints", far_keep_name(i),
                              FAR_LLU(counts[i]), FAR_KEEP_MAX);
        }
    }
    FAR_TRY(sum != 0 ? find_zone(step, cmd->zone, &ev.zone_id) : 0);
    FAR_TRY(look_row(step, ev.plan_id, &row));
    FAR_TRY(far_move(step, &far_table_plan_retention, state_of(&row), sum != 0 ? SET : CLEAR, cmd->name, NULL));
    step->object_id = ev.plan_id;
    bool same = row.last == ev.last && row.hourly == ev.hourly && row.daily == ev.daily && row.weekly == ev.weekly &&
                row.monthly == ev.monthly && row.zone_id == ev.zone_id;
    return same ? 0 : far_emit(step, &far_schema_ev_plan_retention_changed, &ev);
}

static int clear(struct far_step *step, const struct far_row_plan_retention *row)
{
    struct far_key key = key_of(row->plan_id);
    if (row->plan_id == 0) {
        return 0;
    }
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_plan_expiry, row->plan_id, 0, row->due_ms, 0));
    return far_key_del(step, &far_schema_row_plan_retention, &key);
}

int far_evolve_plan_retention_changed(struct far_step *step, const struct far_ev_plan_retention_changed *ev)
{
    struct far_row_plan_retention row;
    bool is_some = ev->last + ev->hourly + ev->daily + ev->weekly + ev->monthly != 0;
    FAR_TRY(look_row(step, ev->plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan_retention, state_of(&row), is_some ? SET : CLEAR, ev->plan_id, NULL));
    if (!is_some) {
        return clear(step, &row);
    }
    struct far_row_plan_retention changed = {.plan_id = ev->plan_id,
                                             .last = ev->last,
                                             .hourly = ev->hourly,
                                             .daily = ev->daily,
                                             .weekly = ev->weekly,
                                             .monthly = ev->monthly,
                                             .zone_id = ev->zone_id,
                                             .set_ms = step->time_ms,
                                             .due_ms = step->time_ms + 1};
    return store(step, &changed, row.due_ms);
}

int far_expiry_gone(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan_retention row;
    FAR_TRY(look_row(step, plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan_retention, state_of(&row), GONE, plan_id, NULL));
    return clear(step, &row);
}

int far_expiry_wake(struct far_step *step, uint64_t plan_id)
{
    struct far_row_plan_retention row;
    FAR_TRY(look_row(step, plan_id, &row));
    if (row.plan_id == 0) {
        return 0;
    }
    uint64_t due_before_ms = row.due_ms;
    row.checkpoint_id = row.wake_ms = 0;
    row.used = row.buckets = (struct far_list){.count = 0};
    row.has_sound = false;
    row.due_ms = step->time_ms + 1;
    return store(step, &row, due_before_ms);
}

int far_keep_load(struct far_step *step, const struct far_row_plan_retention *row, struct far_keep *ret)
{
    struct far_row_zone zone = {.changes = {.count = 0}};
    FAR_TRY(row->zone_id != 0 ? far_row_need(step, &far_schema_row_zone, row->zone_id, &zone) : 0);
    *ret = (struct far_keep){.counts = {row->last, row->hourly, row->daily, row->weekly, row->monthly}, .changes = zone.changes};
    return 0;
}

/* ---- the checkpoints of a plan ---- */

struct far_key far_plan_checkpoints_from(uint64_t plan_id, uint64_t behind_id)
{
    return far_key_pair(&far_schema_row_plan_checkpoint, plan_id, behind_id != 0 ? UINT64_MAX - behind_id + 1 : 0);
}

int far_plan_checkpoints_next(struct far_step *step, uint64_t plan_id, struct far_key *key, struct far_row_checkpoint *ret)
{
    struct far_row_plan_checkpoint listed;
    int rc = far_next(step, &far_schema_row_plan_checkpoint, key, NULL, &listed);
    if (rc != 0 || listed.plan_id != plan_id) {
        return rc != 0 ? rc : FAR_NOT_FOUND;
    }
    return far_row_need(step, &far_schema_row_checkpoint, listed.checkpoint_id, ret);
}

int far_plan_checkpoint_list(struct far_step *step, const struct far_row_checkpoint *row, bool is_there)
{
    struct far_row_plan_checkpoint listed = {.plan_id = row->plan_id, .checkpoint_id = row->id, .created_ms = row->created_ms};
    struct far_key key = far_key_pair(&far_schema_row_plan_checkpoint, row->plan_id, UINT64_MAX - row->id);
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    return !has       ? 0
           : is_there ? far_key_put(step, &far_schema_row_plan_checkpoint, &key, &listed)
                      : far_key_del(step, &far_schema_row_plan_checkpoint, &key);
}

int far_checkpoints_list(struct far_step *step)
{
    struct far_arena own, *whole = step->arena;
    struct far_key key = far_key(&far_schema_row_checkpoint);
    int rc;
    far_arena_init(&own, SCRATCH_BYTES);
    do {
        struct far_row_checkpoint row;
        far_arena_reset(&own);
        step->arena = &own;
        rc = far_next(step, &far_schema_row_checkpoint, &key, NULL, &row);
        if (rc == 0 && row.state != FAR_point_state_removed) {
            rc = far_plan_checkpoint_list(step, &row, true);
        }
    } while (rc == 0);
    step->arena = whole;
    far_arena_done(&own);
    return rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc;
}

int far_checkpoint_is_sound(struct far_step *step, const struct far_row_checkpoint *row, bool *ret_is_sound)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, row->id);
    *ret_is_sound = row->state == FAR_point_state_available;
    while (*ret_is_sound) {
        struct far_row_checkpoint_member member;
        struct far_row_point point;
        int rc = far_next(step, &far_schema_row_checkpoint_member, &key, NULL, &member);
        if (rc == FAR_NOT_FOUND || (rc == 0 && member.checkpoint_id != row->id)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(member.point_id != 0 ? far_row_need(step, &far_schema_row_point, member.point_id, &point) : 0);
        *ret_is_sound = member.point_id != 0 && point.state == FAR_point_state_available && !point.suspect;
    }
    return 0;
}

/* ---- a look ---- */

struct look {
    struct far_row_plan_retention row;
    struct far_expiry_look seen;
    uint64_t checkpoint_id; /* of the last one looked at */
    uint64_t wake_ms;       /* 0: nothing waits */
    size_t drops, members;
};

/* Is a point of it the last one before a rise that is not over? The workload names it until then. */
static int is_calm(struct far_step *step, const struct far_row_checkpoint *row, bool *ret_is_calm)
{
    struct far_key key = far_key_id(&far_schema_row_checkpoint_member, row->id);
    *ret_is_calm = false;
    while (!*ret_is_calm) {
        struct far_row_checkpoint_member member;
        struct far_row_workload workload;
        int rc = far_checkpoint_member(step, row->id, &key, &member);
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        rc = far_row_find(step, &far_schema_row_workload, member.workload_id, &workload);
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc); /* removed since */
        *ret_is_calm = rc == 0 && member.point_id != 0 && workload.calm_point_id == member.point_id;
    }
    return 0;
}

int far_expiry_judge(struct far_step *step, struct far_expiry_look *look, const struct far_row_checkpoint *row, unsigned *ret_stays)
{
    bool is_sound = false;
    FAR_TRY(!look->has_sound ? far_checkpoint_is_sound(step, row, &is_sound) : 0);
    unsigned stays = far_keep_next(&look->keep, row->created_ms, row->state != FAR_point_state_damaged);
    look->has_sound = look->has_sound || is_sound;
    stays |= row->id == look->newest_id ? FAR_STAYS_NEWEST : 0;
    stays |= is_sound ? FAR_STAYS_SOUND : 0;
    stays |= row->preserved_ms != 0 ? FAR_STAYS_PRESERVED : 0;
    stays |= row->locked_until_ms > step->time_ms ? FAR_STAYS_LOCKED : 0;
    stays |= row->readers != 0 ? FAR_STAYS_READ : 0;
    bool is_held = false;
    FAR_TRY((stays & ~FOR_A_WHILE) == 0 ? is_calm(step, row, &is_held) : 0);
    *ret_stays = stays | (is_held ? FAR_STAYS_CALM : 0);
    return 0;
}

static int begin(struct far_step *step, struct look *look)
{
    const uint64_t *used = look->row.used.items, *buckets = look->row.buckets.items;
    struct far_row_plan plan;
    FAR_TRY(far_row_need(step, &far_schema_row_plan, look->row.plan_id, &plan));
    FAR_TRY(far_keep_load(step, &look->row, &look->seen.keep));
    look->seen.newest_id = plan.last_checkpoint_id;
    look->seen.has_sound = look->row.has_sound;
    look->checkpoint_id = look->row.checkpoint_id;
    look->wake_ms = look->row.wake_ms;
    for (size_t i = 0; i < FAR_KEEP_RULES; i++) {
        look->seen.keep.used[i] = i < look->row.used.count ? used[i] : 0;
        look->seen.keep.buckets[i] = i < look->row.buckets.count ? buckets[i] : 0;
    }
    return 0;
}

/* What holds it, if only that does, will not for ever. */
static int drop_or_wait(struct far_step *step, struct look *look, const struct far_row_checkpoint *row, unsigned stays)
{
    if ((stays & ~FOR_A_WHILE) != 0) {
        return 0;
    }
    if (stays != 0) {
        uint64_t ms = (stays & FAR_STAYS_LOCKED) != 0 ? row->locked_until_ms : step->time_ms + BUSY_MS;
        look->wake_ms = look->wake_ms == 0 || ms < look->wake_ms ? ms : look->wake_ms;
        return 0;
    }
    look->drops++;
    look->members += row->member_count;
    return far_checkpoint_drop(step, row, true);
}

int far_expiry_due(struct far_step *step, uint64_t plan_id)
{
    struct look look = {.drops = 0};
    FAR_TRY(look_row(step, plan_id, &look.row));
    if (look.row.plan_id == 0 || look.row.due_ms == 0 || look.row.due_ms > step->time_ms) {
        return 0; /* dropped by deadline.c */
    }
    FAR_TRY(begin(step, &look));
    struct far_key key = far_plan_checkpoints_from(plan_id, look.checkpoint_id);
    bool is_done = false;
    for (size_t i = 0; i < LOOKS_MAX && look.drops < DROPS_MAX && look.members < MEMBERS_MAX && !is_done; i++) {
        struct far_row_checkpoint row;
        int rc = far_plan_checkpoints_next(step, plan_id, &key, &row);
        is_done = rc == FAR_NOT_FOUND;
        FAR_TRY(is_done ? 0 : rc);
        look.checkpoint_id = is_done ? 0 : row.id;
        unsigned stays = 0;
        FAR_TRY(is_done ? 0 : far_expiry_judge(step, &look.seen, &row, &stays));
        FAR_TRY(is_done ? 0 : drop_or_wait(step, &look, &row, stays));
    }
    struct far_ev_expiry_scanned ev = {.plan_id = plan_id,
                                       .checkpoint_id = look.checkpoint_id,
                                       .used = {look.seen.keep.used, FAR_KEEP_RULES},
                                       .buckets = {look.seen.keep.buckets, FAR_KEEP_RULES},
                                       .has_sound = look.seen.has_sound,
                                       .wake_ms = look.wake_ms,
                                       .due_ms = is_done ? look.wake_ms : step->time_ms + 1};
    return far_emit(step, &far_schema_ev_expiry_scanned, &ev);
}

int far_evolve_expiry_scanned(struct far_step *step, const struct far_ev_expiry_scanned *ev)
{
    struct far_row_plan_retention row;
    FAR_TRY(look_row(step, ev->plan_id, &row));
    FAR_TRY(far_move_id(step, &far_table_plan_retention, state_of(&row), LOOK, ev->plan_id, NULL));
    uint64_t due_before_ms = row.due_ms;
    bool goes_on = ev->checkpoint_id != 0;
    row.checkpoint_id = ev->checkpoint_id;
    row.used = goes_on ? ev->used : (struct far_list){.count = 0};
    row.buckets = goes_on ? ev->buckets : (struct far_list){.count = 0};
    row.has_sound = goes_on && ev->has_sound;
    row.wake_ms = goes_on ? ev->wake_ms : 0;
    row.due_ms = ev->due_ms;
    return store(step, &row, due_before_ms);
}
