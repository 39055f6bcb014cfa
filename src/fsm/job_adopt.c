/* Adopting a vault of another cluster (dataplane/vault_owner.h): a job of one node, a task after the other.
 *
 * The first one asks whose the vault is. From that the log decides, once, how the vault's numbers become numbers here: a base and a span
 * that no object here has or will have, so that what the vault calls n is base + n, and nothing clashes, whatever both clusters called
 * their things before. A second vault of the same cluster gets the same base: its plans, workloads and checkpoints are the same ones.
 * Each further task takes the vault over, if that was not done, and reports the next portion of its manifests; what they say becomes
 * sites, workloads, plans, points and checkpoints, as by the events that made them there. A point that is here already changes nothing,
 * so a portion may be told twice, and adopting again finds only what was left out before.
 *
 * Adopted workloads have no adapter and their disks no place: they have no source until `workload update` gives them one. */
#include "fsm/adoption.h"

#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/job.h"
#include "fsm/vault_row.h"

#include <stdio.h>

enum { ABSENT, IDLE, ADOPTING };
enum { ADOPT, SURVEY, PORTION, OVER };
static const char *const states[] = {"absent", "idle", "adopting"};
static const char *const inputs[] = {"vault_adopt", "survey", "portion", "over"};
#define NONE FAR_REJECT(FAR_INTERNAL, "is not being adopted")
static const struct far_cell cells[3][4] = {
    [ABSENT] = {[ADOPT] = FAR_MOVE(ADOPTING), [SURVEY] = NONE, [PORTION] = NONE, [OVER] = NONE},
    [IDLE] = {[ADOPT] = FAR_MOVE(ADOPTING), [SURVEY] = NONE, [PORTION] = NONE, [OVER] = NONE},
    [ADOPTING] = {[ADOPT] = FAR_REJECT(FAR_CONFLICT, "is being adopted already; wait for that job or cancel it"),
                  [SURVEY] = FAR_MOVE(ADOPTING),
                  [PORTION] = FAR_MOVE(ADOPTING),
                  [OVER] = FAR_MOVE(IDLE)},
};
const struct far_table far_table_adoption = FAR_TABLE("adoption of vault", states, inputs, cells);

#define HIGHEST_MAX (UINT64_MAX / 1000)

/* All zero if there is none. */
static int look(struct far_step *step, uint64_t node_id, struct far_row_adoption *ret)
{
    int rc = far_row_find(step, &far_schema_row_adoption, node_id, ret);
    if (rc == FAR_NOT_FOUND) {
        *ret = (struct far_row_adoption){.node_id = 0};
        return 0;
    }
    return rc;
}

static unsigned state_of(const struct far_row_adoption *row)
{
    return row->node_id == 0 ? ABSENT : row->job_id == 0 ? IDLE : ADOPTING;
}

/* ---- beginning and end ---- */

int far_decide_vault_adopt(struct far_step *step, const struct far_cmd_vault_adopt *cmd)
{
    struct far_row_adoption row;
    struct far_ev_vault_adopting ev = {.job_id = step->progress.next_id, .plans = cmd->plans};
    FAR_TRY(far_name_need(step, &far_schema_row_node, cmd->node, &ev.node_id));
    FAR_TRY(look(step, ev.node_id, &row));
    FAR_TRY(far_move(step, &far_table_adoption, state_of(&row), ADOPT, cmd->node, NULL));
    FAR_TRY(far_emit(step, &far_schema_ev_vault_adopting, &ev));
    struct far_row_vault vault = {.id = ev.node_id, .node_id = ev.node_id};
    return far_vault_row_job(step, &vault, FAR_job_kind_adopt, 0);
}

int far_evolve_vault_adopting(struct far_step *step, const struct far_ev_vault_adopting *ev)
{
    struct far_row_adoption row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_adoption, state_of(&row), ADOPT, ev->node_id, NULL));
    row = (struct far_row_adoption){.node_id = ev->node_id,
                                    .job_id = ev->job_id,
                                    .cluster_uuid = row.cluster_uuid,
                                    .vault_uuid = row.vault_uuid,
                                    .base = row.base,
                                    .span = row.span,
                                    .plans = ev->plans,
                                    .begun_ms = step->time_ms};
    FAR_TRY(far_vault_row_made(step, ev->node_id));
    return far_row_put(step, &far_schema_row_adoption, row.node_id, &row);
}

int far_adoption_over(struct far_step *step, uint64_t node_id, uint64_t job_id)
{
    struct far_row_adoption row;
    FAR_TRY(look(step, node_id, &row));
    if (row.job_id != job_id) {
        return 0; /* its node was removed meanwhile */
    }
    FAR_TRY(far_move_id(step, &far_table_adoption, state_of(&row), OVER, node_id, NULL));
    row.job_id = 0;
    return far_row_put(step, &far_schema_row_adoption, node_id, &row);
}

int far_adoption_is_whole(struct far_step *step, uint64_t node_id, bool *ret_is_whole)
{
    struct far_row_adoption row;
    FAR_TRY(look(step, node_id, &row));
    *ret_is_whole = row.damaged + row.unreadable + row.left_out == 0;
    return 0;
}

/* ---- whose it is ---- */

static bool is_unknown(struct far_slice uuid)
{
    static const uint8_t zero[16];
    return uuid.len != sizeof zero || far_slice_equal(uuid, far_slice(zero, sizeof zero));
}

/* Another vault of that cluster has its numbers already. */
static int find_base(struct far_step *step, const struct far_sub_adoption_survey *said, const struct far_row_adoption *own,
                     uint64_t *ret_base, uint64_t *ret_span)
{
    struct far_key at = far_key(&far_schema_row_adoption);
    struct far_row_adoption row;
    int rc;
    bool goes_on = said->own && said->base == own->base; /* it is adopted: what is above the span is this cluster's own since */
    if (own->base != 0 && far_slice_equal(own->vault_uuid, said->vault_uuid) && (goes_on || said->highest < own->span)) {
        *ret_base = own->base;
        *ret_span = own->span;
        return 0;
    }
    bool shares = !is_unknown(said->cluster_uuid) && !said->own;
    while (shares && (rc = far_next(step, &far_schema_row_adoption, &at, NULL, &row)) != FAR_NOT_FOUND) {
        FAR_TRY(rc);
        if (row.base != 0 && far_slice_equal(row.cluster_uuid, said->cluster_uuid) && said->highest < row.span) {
            *ret_base = row.base;
            *ret_span = row.span;
            return 0;
        }
    }
    return FAR_NOT_FOUND;
}

/* A span of a power of ten with room for twice as much, and a base that is a multiple of it: a number here ends as the vault's does. */
static void new_base(uint64_t next_id, uint64_t highest, uint64_t *ret_base, uint64_t *ret_span)
{
    uint64_t span = 100;
    while (span <= 2 * highest) {
        span *= 10;
    }
    *ret_span = span;
    *ret_base = (next_id / span + 1) * span;
}

static int survey(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_adoption_survey *said)
{
    struct far_row_adoption row;
    struct far_row_node node;
    struct far_ev_vault_adoption_based ev = {.node_id = g->tasks[at].vault_node_id,
                                             .job_id = g->job.id,
                                             .cluster_uuid = said->cluster_uuid,
                                             .vault_uuid = said->vault_uuid,
                                             .pass = said->pass,
                                             .point_count = said->point_count};
    FAR_TRY(look(step, ev.node_id, &row));
    FAR_TRY(far_row_need(step, &far_schema_row_node, ev.node_id, &node));
    bool is_ours = said->own && said->base == 0 && (!said->assumed || node.point_count != 0);
    if (is_ours) {
        return far_group_fail(step, g, at, FAR_CONFLICT, "the vault of node '%.*s' is this cluster's own: there is nothing to adopt",
                              FAR_TEXT(node.name));
    }
    if (!said->own && is_unknown(said->cluster_uuid) && node.point_count != 0) {
        return far_group_fail(step, g, at, FAR_CONFLICT, "whose the vault of node '%.*s' is cannot be told (its file 'owner' is "
                              "damaged), and this cluster has points in it: bring back that file", FAR_TEXT(node.name));
    }
    if (said->highest > HIGHEST_MAX || step->progress.next_id > HIGHEST_MAX) {
        return far_group_fail(step, g, at, FAR_LIMIT, "the vault of node '%.*s' has numbers that are too high to be adopted",
                              FAR_TEXT(node.name));
    }
    int rc = find_base(step, said, &row, &ev.base, &ev.span);
    FAR_TRY(rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc);
    if (rc != 0) {
        new_base(step->progress.next_id, said->highest, &ev.base, &ev.span);
    }
    return far_emit(step, &far_schema_ev_vault_adoption_based, &ev);
}

int far_evolve_vault_adoption_based(struct far_step *step, const struct far_ev_vault_adoption_based *ev)
{
    struct far_row_adoption row;
    struct far_row_vault vault;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_adoption, state_of(&row), SURVEY, ev->node_id, NULL));
    row.cluster_uuid = ev->base == row.base && row.cluster_uuid.len != 0 ? row.cluster_uuid : ev->cluster_uuid;
    row.vault_uuid = ev->vault_uuid;
    row.base = ev->base;
    row.span = ev->span;
    row.point_count = ev->point_count;
    far_id_used(step, ev->base + ev->span - 1);
    FAR_TRY(far_row_need(step, &far_schema_row_vault, ev->node_id, &vault));
    vault.pass = vault.pass > ev->pass ? vault.pass : ev->pass;
    FAR_TRY(far_vault_row_store(step, &vault, vault.reclaim_due_ms));
    return far_row_put(step, &far_schema_row_adoption, row.node_id, &row);
}

/* ---- a portion ---- */

static int next_task(struct far_step *step, uint64_t job_id, uint64_t node_id)
{
    struct far_row_job job;
    struct far_candidate *node;
    struct far_sub_task_new item = {.kind = FAR_task_kind_adopt, .ready = true, .vault_node_id = node_id};
    FAR_TRY(far_row_need(step, &far_schema_row_job, job_id, &job));
    FAR_TRY(far_candidate_node(step, node_id, &node));
    if (node != NULL) {
        item.node_id = node->node_id;
        item.boot = node->boot;
    }
    struct far_ev_tasks_created ev = {
        .job_id = job_id, .first_task = job.task_count + 1, .items = {.items = &item, .count = 1}};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    return !job.cancel ? far_emit(step, &far_schema_ev_tasks_created, &ev) : 0;
}

static int portion(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_adopted *said, bool *ret_ended)
{
    struct far_row_adoption row;
    struct far_ev_vault_adopted ev = {.node_id = g->tasks[at].vault_node_id,
                                      .job_id = g->job.id,
                                      .after = said->after,
                                      .ended = said->ended,
                                      .damaged = said->damaged,
                                      .unreadable = said->unreadable,
                                      .problem = said->problem};
    FAR_TRY(look(step, ev.node_id, &row));
    if (row.base == 0 || (!said->ended && said->after <= row.after)) {
        return far_group_fail(step, g, at, FAR_INVALID, "the node told a portion of its vault that nobody asked for");
    }
    const struct far_sub_adopted_point *points = said->points.items;
    for (size_t i = 0; i < said->points.count; i++) {
        FAR_TRY(far_adopt_point(step, &row, said, &points[i], &ev));
    }
    *ret_ended = ev.ended;
    return far_emit(step, &far_schema_ev_vault_adopted, &ev);
}

int far_evolve_vault_adopted(struct far_step *step, const struct far_ev_vault_adopted *ev)
{
    struct far_row_adoption row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_adoption, state_of(&row), PORTION, ev->node_id, NULL));
    row.after = ev->after;
    row.ended_ms = ev->ended ? step->time_ms : 0;
    row.points += ev->points;
    row.known += ev->known;
    row.damaged += ev->damaged;
    row.unreadable += ev->unreadable;
    row.left_out += ev->left_out;
    row.problem = row.problem.len != 0 ? row.problem : ev->problem;
    return far_row_put(step, &far_schema_row_adoption, row.node_id, &row);
}

int far_adoption_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    struct far_row_adoption row;
    bool ended = false;
    FAR_TRY(look(step, g->tasks[at].vault_node_id, &row));
    if (row.job_id != g->job.id) {
        return 0; /* its node was removed meanwhile */
    }
    if (item->adoption_survey.count > 0) {
        FAR_TRY(survey(step, g, at, item->adoption_survey.items));
    } else if (item->adopted.count > 0) {
        FAR_TRY(portion(step, g, at, item->adopted.items, &ended));
    } else {
        return far_group_fail(step, g, at, FAR_INVALID, "the node said nothing of its vault");
    }
    return ended || far_task_over(&g->tasks[at]) ? 0 : next_task(step, g->job.id, row.node_id);
}
