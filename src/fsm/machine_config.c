/* Captured configurations: see machine_config.h. */
#include "fsm/machine_config.h"

#include "fsm/alert.h"
#include "fsm/query.h"

enum { ABSENT, NEWEST, KEPT };
enum { CAPTURE, ADOPT, KEEP, FORGET, HOLD, LET_GO };
static const char *const states[] = {"absent", "newest of its workload", "kept for points"};
static const char *const inputs[] = {"captured",
                                     "adopted with a point that is not the newest",
                                     "replaced, but points were made under it",
                                     "replaced or let go, and no point needs it",
                                     "a point is made",
                                     "a point is removed, and others are there"};
#define GONE FAR_REJECT(FAR_INTERNAL, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
static const struct far_cell cells[3][6] = {
    [ABSENT] = {[CAPTURE] = FAR_MOVE(NEWEST), [ADOPT] = FAR_MOVE(KEPT), [KEEP] = GONE, [FORGET] = GONE, [HOLD] = GONE, [LET_GO] = GONE},
    [NEWEST] = {[CAPTURE] = TAKEN,
                [ADOPT] = TAKEN,
                [KEEP] = FAR_MOVE(KEPT),
                [FORGET] = FAR_MOVE(ABSENT),
                [HOLD] = FAR_MOVE(NEWEST),
                [LET_GO] = FAR_MOVE(NEWEST)},
    [KEPT] = {[CAPTURE] = TAKEN,
              [ADOPT] = TAKEN,
              [KEEP] = FAR_REJECT(FAR_INTERNAL, "is not the newest"),
              [FORGET] = FAR_MOVE(ABSENT),
              [HOLD] = FAR_MOVE(KEPT),
              [LET_GO] = FAR_MOVE(KEPT)},
};
const struct far_table far_table_machine_config = FAR_TABLE("configuration of machine", states, inputs, cells);

static unsigned state_of(const struct far_row_machine_config *row)
{
    return row->id == 0 ? ABSENT : row->newest ? NEWEST : KEPT;
}

static struct far_key key_of(uint64_t id, uint64_t part)
{
    return far_key_part(&far_schema_row_machine_config, id, part);
}

int far_machine_config_find(struct far_step *step, uint64_t id, struct far_row_machine_config *ret)
{
    struct far_key key = key_of(id, 0);
    int rc = id != 0 ? far_key_find(step, &far_schema_row_machine_config, &key, ret) : FAR_NOT_FOUND;
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_machine_config){.id = 0};
        return 0;
    }
    return rc;
}

int far_machine_config_bytes(struct far_step *step, uint64_t id, struct far_slice *ret_bytes)
{
    struct far_row_machine_config row;
    size_t len = 0;
    FAR_TRY(far_machine_config_find(step, id, &row));
    uint8_t *bytes = far_step_alloc(step, (size_t)row.part_count * FAR_MACHINE_CONFIG_PART_BYTES + 1);
    if (bytes == NULL) {
        return FAR_LIMIT;
    }
    for (uint64_t part = 1, count = row.part_count; part <= count; part++) {
        struct far_key key = key_of(id, part);
        FAR_TRY(far_key_need(step, &far_schema_row_machine_config, &key, &row));
        memcpy(bytes + len, row.bytes.data, row.bytes.len);
        len += row.bytes.len;
    }
    *ret_bytes = far_slice(bytes, len);
    return 0;
}

int far_query_machine_config(struct far_state *state, uint64_t id, struct far_arena *arena, struct far_row_machine_config *ret,
                             struct far_slice *ret_bytes, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = far_machine_config_find(&step, id, ret);
    rc = rc == 0 && ret->id == 0 ? FAR_NOT_FOUND : rc;
    rc = rc == 0 ? far_machine_config_bytes(&step, id, ret_bytes) : rc;
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, rc, "there is no configuration %llu of a machine", FAR_LLU(id));
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc != 0 && step.is_rejected ? far_fail(err, rc, "%s", step.reject_message) : rc;
}

/* ---- decide ---- */

static int missed(struct far_step *step, const struct far_group *g, struct far_slice why)
{
    struct far_alert_cause cause = {
        .kind = FAR_alert_kind_config_missed, .object_id = g->workload_id, .plan_id = g->plan.id, .workload_id = g->workload_id};
    return far_alert_raise(step, &cause, "workload '%.*s': what its machine is could not be captured, %s: %.*s",
                           FAR_TEXT(g->workload.name),
                           g->workload.config_id != 0 ? "its points come with what is known from before"
                                                      : "so its points can be recovered as disks only",
                           FAR_TEXT(why));
}

static int missed_part(struct far_step *step, const struct far_group *g, struct far_slice why)
{
    struct far_alert_cause cause = {
        .kind = FAR_alert_kind_config_missed, .object_id = g->workload_id, .plan_id = g->plan.id, .workload_id = g->workload_id};
    return far_alert_raise(step, &cause, "workload '%.*s': what its machine is was captured without a part of it: %.*s",
                           FAR_TEXT(g->workload.name), FAR_TEXT(why));
}

int far_machine_config_seen(struct far_step *step, const struct far_group *g, const struct far_sub_report_item *item)
{
    struct far_row_machine_config now;
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    if (!has || (item->config_sha256.len == 0 && item->config_problem.len == 0)) {
        return 0; /* the platform has no machines */
    }
    FAR_TRY(far_machine_config_find(step, g->workload.config_id, &now));
    bool is_same = now.id != 0 && far_slice_equal(now.sha256, item->config_sha256), is_whole = item->config_problem.len == 0;
    if (!is_whole && item->config_sha256.len == 0) {
        return missed(step, g, item->config_problem);
    }
    if (!is_same && (item->config_sha256.len != 32 || item->config.len == 0)) {
        return missed(step, g, far_slice_str("its node told another one by name only; the next cycle brings it"));
    }
    FAR_TRY(is_whole ? far_alert_clear(step, FAR_alert_kind_config_missed, g->workload_id) : missed_part(step, g, item->config_problem));
    struct far_ev_machine_config_changed ev = {.id = step->progress.next_id,
                                               .workload_id = g->workload_id,
                                               .job_id = g->job.id,
                                               .node_id = g->tasks[FAR_AT_FREEZE].node_id,
                                               .sha256 = item->config_sha256,
                                               .config = item->config};
    return is_same ? 0 : far_emit(step, &far_schema_ev_machine_config_changed, &ev);
}

/* ---- evolve ---- */

static int put_parts(struct far_step *step, const struct far_ev_machine_config_changed *ev)
{
    size_t done = 0;
    uint64_t count = (ev->config.len + FAR_MACHINE_CONFIG_PART_BYTES - 1) / FAR_MACHINE_CONFIG_PART_BYTES;
    struct far_row_machine_config row = {.id = ev->id,
                                         .workload_id = ev->workload_id,
                                         .newest = !ev->kept,
                                         .captured_ms = step->time_ms,
                                         .sha256 = ev->sha256,
                                         .part_count = count};
    struct far_key key = key_of(ev->id, 0);
    FAR_TRY(far_key_put(step, &far_schema_row_machine_config, &key, &row));
    for (uint64_t part = 1; part <= count; part++) {
        size_t left = ev->config.len - done, len = left < FAR_MACHINE_CONFIG_PART_BYTES ? left : FAR_MACHINE_CONFIG_PART_BYTES;
        row = (struct far_row_machine_config){.id = ev->id, .part = part, .bytes = far_slice(ev->config.data + done, len)};
        key = key_of(ev->id, part);
        FAR_TRY(far_key_put(step, &far_schema_row_machine_config, &key, &row));
        done += len;
    }
    return 0;
}

static int store(struct far_step *step, const struct far_row_machine_config *row)
{
    struct far_key key = key_of(row->id, 0);
    if (row->newest || row->holds != 0) {
        return far_key_put(step, &far_schema_row_machine_config, &key, row);
    }
    for (uint64_t part = 0; part <= row->part_count; part++) {
        key = key_of(row->id, part);
        FAR_TRY(far_key_del(step, &far_schema_row_machine_config, &key));
    }
    return 0;
}

int far_evolve_machine_config_changed(struct far_step *step, const struct far_ev_machine_config_changed *ev)
{
    struct far_row_machine_config old;
    struct far_row_workload workload;
    FAR_TRY(far_machine_config_find(step, ev->id, &old));
    FAR_TRY(far_move_id(step, &far_table_machine_config, state_of(&old), ev->kept ? ADOPT : CAPTURE, ev->id, NULL));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, ev->workload_id, &workload));
    FAR_TRY(ev->kept ? 0 : far_machine_config_end(step, workload.config_id));
    workload.config_id = ev->kept ? workload.config_id : ev->id;
    FAR_TRY(far_row_put(step, &far_schema_row_workload, workload.id, &workload));
    far_id_used(step, ev->id);
    return put_parts(step, ev);
}

int far_machine_config_end(struct far_step *step, uint64_t id)
{
    struct far_row_machine_config row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_machine_config_find(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_machine_config, state_of(&row), row.holds != 0 ? KEEP : FORGET, id, NULL));
    row.newest = false;
    return store(step, &row);
}

int far_machine_config_hold(struct far_step *step, uint64_t id)
{
    struct far_row_machine_config row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_machine_config_find(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_machine_config, state_of(&row), HOLD, id, NULL));
    row.holds++;
    return store(step, &row);
}

int far_machine_config_let_go(struct far_step *step, uint64_t id)
{
    struct far_row_machine_config row;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_machine_config_find(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_machine_config, state_of(&row), row.newest || row.holds > 1 ? LET_GO : FORGET, id, NULL));
    if (row.holds == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: no point was made under configuration %llu of a machine", FAR_LLU(id));
    }
    row.holds--;
    return store(step, &row);
}
