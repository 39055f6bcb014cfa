/* The scrub of a vault in the log (dataplane/scrub.h): its hourly runs, how far its rotation is, and what it found. A run goes on where the
 * last one ended: the place is in the vault's row, and comes with the report.
 *
 * A point that needs what is damaged becomes damaged, as when a verification finds that, and one alert names them for the vault. They are
 * good again when a verification says so, or when a whole rotation that left nothing out found no damage; the alert ends with the last. */
#include "fsm/alert.h"
#include "fsm/checkpoint.h"
#include "fsm/vault_row.h"

#include <stdio.h>

enum { ABSENT, IDLE, SCRUBBED };
enum { DUE, START, FINISH, REPORT };
static const char *const states[] = {"absent", "idle", "being scrubbed"};
static const char *const inputs[] = {"due", "scrub starts", "scrub finishes", "report"};
#define NONE FAR_REJECT(FAR_INTERNAL, "is not there")
static const struct far_cell cells[3][4] = {
    [ABSENT] = {[DUE] = NONE, [START] = NONE, [FINISH] = NONE, [REPORT] = NONE},
    [IDLE] = {[DUE] = FAR_MOVE(SCRUBBED),
              [START] = FAR_MOVE(SCRUBBED),
              [FINISH] = FAR_REJECT(FAR_INTERNAL, "is not being scrubbed"),
              [REPORT] = FAR_MOVE(IDLE)},
    [SCRUBBED] = {[DUE] = FAR_MOVE(SCRUBBED),
                  [START] = FAR_REJECT(FAR_CONFLICT, "is being scrubbed already; wait for that job or cancel it"),
                  [FINISH] = FAR_MOVE(IDLE),
                  [REPORT] = FAR_MOVE(SCRUBBED)},
};
const struct far_table far_table_vault_scrub = FAR_TABLE("scrub of vault", states, inputs, cells);

enum { HOUR_MS = 3600000, POINTS_MAX = 256, NAMED_MAX = 8 /* in the alert */ };

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t node_id, struct far_row_vault *ret)
{
    int rc = far_row_find(step, &far_schema_row_vault, node_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_vault){.id = 0};
        return 0;
    }
    return rc;
}

static int move(struct far_step *step, const struct far_row_vault *row, size_t input, uint64_t node_id)
{
    unsigned state = row->id == 0 ? ABSENT : row->scrub_job_id != 0 ? SCRUBBED : IDLE;
    return far_move_id(step, &far_table_vault_scrub, state, input, node_id, NULL);
}

/* ---- when ---- */

static int set_due(struct far_step *step, struct far_row_vault *row, uint64_t due_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_vault_scrub, row->id, 0, row->scrub_due_ms, due_ms));
    row->scrub_due_ms = due_ms;
    return 0;
}

int far_scrub_arm(struct far_step *step, struct far_row_vault *row, const struct far_row_vault_policy *policy)
{
    uint64_t due_ms = (row->scrubbed_ms != 0 ? row->scrubbed_ms : step->time_ms) + HOUR_MS;
    due_ms = due_ms > step->time_ms ? due_ms : step->time_ms + 1;
    return set_due(step, row, policy->scrub_bytes_per_hour != 0 ? due_ms : 0);
}

int far_scrub_due(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault row;
    struct far_row_vault_policy policy;
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(move(step, &row, DUE, node_id));
    if (row.scrub_due_ms == 0 || row.scrub_due_ms > step->time_ms) {
        return 0; /* dropped by deadline.c */
    }
    FAR_TRY(far_vault_row_policy(step, node_id, &policy));
    struct far_ev_vault_scheduled ev = {.node_id = node_id,
                                        .is_scrub = true,
                                        .scrub_due_ms = policy.scrub_bytes_per_hour != 0 ? step->time_ms + HOUR_MS : 0,
                                        .skipped = row.scrub_job_id != 0};
    FAR_TRY(far_emit(step, &far_schema_ev_vault_scheduled, &ev));
    bool starts = !ev.skipped && policy.scrub_bytes_per_hour != 0;
    return starts ? far_vault_row_job(step, &row, FAR_job_kind_scrub, policy.scrub_bytes_per_hour) : 0;
}

int far_scrub_scheduled(struct far_step *step, const struct far_ev_vault_scheduled *ev)
{
    struct far_row_vault row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(move(step, &row, DUE, ev->node_id));
    FAR_TRY(set_due(step, &row, ev->scrub_due_ms));
    return far_row_put(step, &far_schema_row_vault, row.id, &row);
}

int far_decide_vault_scrub(struct far_step *step, const struct far_cmd_vault_scrub *cmd)
{
    struct far_row_vault row;
    struct far_row_vault_policy policy;
    FAR_TRY(far_vault_row_need(step, cmd->node, &row));
    FAR_TRY(far_move(step, &far_table_vault_scrub, row.scrub_job_id != 0 ? SCRUBBED : IDLE, START, cmd->node, NULL));
    FAR_TRY(far_vault_row_policy(step, row.id, &policy));
    return far_vault_row_job(step, &row, FAR_job_kind_scrub, cmd->bytes != 0 ? cmd->bytes : policy.scrub_bytes_per_hour);
}

int far_scrub_running(struct far_step *step, uint64_t node_id, uint64_t job_id, bool is_running)
{
    struct far_row_vault row;
    FAR_TRY(look(step, node_id, &row));
    if (!is_running && (row.id == 0 || row.scrub_job_id != job_id)) {
        return 0; /* its node was removed meanwhile */
    }
    FAR_TRY(move(step, &row, is_running ? START : FINISH, node_id));
    row.scrub_job_id = is_running ? job_id : 0;
    if (is_running && row.scrub_began_ms == 0) {
        row.scrub_began_ms = step->time_ms;
        row.scrub_damage_count = 0;
    }
    return far_row_put(step, &far_schema_row_vault, row.id, &row);
}

/* ---- what it found ---- */

/* Of these, those of this vault that are damaged; `new_ones`: or that are there. */
static int keep_damaged(struct far_step *step, uint64_t node_id, const struct far_list *ids, bool new_ones, uint64_t *list, size_t *count)
{
    const uint64_t *items = ids->items;
    for (size_t i = 0; i < ids->count && *count < POINTS_MAX; i++) {
        struct far_row_point point;
        size_t at = 0;
        while (at < *count && list[at] != items[i]) {
            at++;
        }
        FAR_TRY(far_point_find(step, items[i], &point));
        bool is_damaged = point.state == FAR_point_state_damaged || (new_ones && point.state == FAR_point_state_available);
        if (at == *count && point.id != 0 && point.node_id == node_id && is_damaged) {
            list[(*count)++] = items[i];
        }
    }
    return 0;
}

static int mark(struct far_step *step, const uint64_t *ids, size_t count, uint64_t state)
{
    for (size_t i = 0; i < count; i++) {
        struct far_row_point point;
        FAR_TRY(far_point_find(step, ids[i], &point));
        struct far_ev_point_verified ev = {.point_id = point.id, .checkpoint_id = point.checkpoint_id, .state = state};
        FAR_TRY(point.state != state ? far_emit(step, &far_schema_ev_point_verified, &ev) : 0);
    }
    return 0;
}

static int raise(struct far_step *step, const struct far_row_vault *vault, const struct far_sub_report_item *item, const uint64_t *ids,
                 size_t count)
{
    const struct far_sub_scrubbed *said = item->scrubbed.items;
    const struct far_sub_scrub_damage *first = item->scrub_damages.items;
    const struct far_alert_cause cause = {.kind = FAR_alert_kind_vault_damaged, .object_id = vault->id};
    struct far_row_node node;
    char points[NAMED_MAX * 24 + 32] = "";
    size_t len = 0;
    FAR_TRY(far_row_need(step, &far_schema_row_node, vault->node_id, &node));
    for (size_t i = 0; i < count && i < NAMED_MAX; i++) {
        len += (size_t)snprintf(points + len, sizeof points - len, "%s %llu", i > 0 ? "," : "", FAR_LLU(ids[i]));
    }
    snprintf(points + len, sizeof points - len, "%s", count == 0 ? " none of this cluster" : count > NAMED_MAX ? " and more" : "");
    struct far_slice disk = item->scrub_damages.count > 0 ? first->disk : far_slice_str("");
    struct far_slice text = item->scrub_damages.count > 0 ? first->text : far_slice_str("");
    return far_alert_raise(step, &cause,
                           "%llu places in the vault of node '%.*s' are damaged, needed by points%s; 'farshore vault show %.*s' names them;"
                           " first, disk '%.*s': %.*s",
                           FAR_LLU(said->damage_count), FAR_TEXT(node.name), points, FAR_TEXT(node.name), FAR_TEXT(disk), FAR_TEXT(text));
}

int far_scrub_done(struct far_step *step, const struct far_row_vault *vault, uint64_t job_id, const struct far_sub_report_item *item)
{
    const struct far_sub_scrubbed *said = item->scrubbed.items;
    uint64_t *ids = far_step_alloc(step, POINTS_MAX * sizeof *ids);
    size_t count = 0;
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(keep_damaged(step, vault->id, &item->damaged_point_ids, true, ids, &count));
    FAR_TRY(keep_damaged(step, vault->id, &vault->damaged_point_ids, false, ids, &count));
    bool is_clean = said->rotation_ended && said->damage_count + vault->scrub_damage_count + said->points_skipped == 0;
    FAR_TRY(mark(step, ids, count, is_clean ? FAR_point_state_available : FAR_point_state_damaged));
    count = is_clean ? 0 : count;
    struct far_ev_vault_scrubbed ev = {.node_id = vault->id,
                                       .job_id = job_id,
                                       .scrubbed = item->scrubbed,
                                       .damages = item->scrub_damages,
                                       .damaged_point_ids = {.items = ids, .count = count}};
    FAR_TRY(far_emit(step, &far_schema_ev_vault_scrubbed, &ev));
    if (said->damage_count > 0) {
        return raise(step, vault, item, ids, count);
    }
    bool was_named = vault->damaged_point_ids.count > 0 && count == 0;
    return is_clean || was_named ? far_alert_clear(step, FAR_alert_kind_vault_damaged, vault->id) : 0;
}

int far_evolve_vault_scrubbed(struct far_step *step, const struct far_ev_vault_scrubbed *ev)
{
    const struct far_sub_scrubbed *said = ev->scrubbed.items;
    struct far_row_vault row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(move(step, &row, REPORT, ev->node_id));
    row.scrubbed_ms = step->time_ms;
    row.damaged_point_ids = ev->damaged_point_ids;
    bool more = row.scrub_more;
    if (ev->damages.count > 0) {
        FAR_TRY(far_vault_damages_merge(step, &row, &ev->damages, &more));
        more = more || said->damage_count > ev->damages.count || said->more_points;
    } else if (ev->damaged_point_ids.count == 0) {
        row.scrub_damages = ev->damages;
        more = false;
    }
    row.scrub_more = more;
    if (ev->scrubbed.count > 0) {
        row.scrub_damage_count += said->damage_count;
        row.scrub_rotation = said->rotation;
        row.scrub_point_id = said->point_id;
        row.scrub_disk = said->disk;
        row.scrub_block = said->block;
        row.scrub_permille = said->done_permille;
        row.scrub_read_bytes = said->bytes_read;
        row.scrub_skipped_points = said->points_skipped;
        if (said->rotation_ended) {
            row.scrub_proven_ms = row.scrub_began_ms;
            row.scrub_began_ms = 0;
            row.scrub_ended_ms = step->time_ms;
        }
    }
    return far_row_put(step, &far_schema_row_vault, row.id, &row);
}

int far_scrub_good(struct far_step *step, uint64_t node_id)
{
    struct far_row_vault row;
    uint64_t *ids = far_step_alloc(step, POINTS_MAX * sizeof *ids);
    size_t count = 0;
    FAR_TRY(look(step, node_id, &row));
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(keep_damaged(step, node_id, &row.damaged_point_ids, false, ids, &count));
    bool is_over = row.damaged_point_ids.count > 0 && count == 0;
    return is_over ? far_alert_clear(step, FAR_alert_kind_vault_damaged, node_id) : 0;
}
