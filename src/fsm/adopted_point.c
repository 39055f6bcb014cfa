/* A point of another cluster's vault becomes one of this cluster, and what it belongs to with it: see job_adopt.c. What the manifest
 * says is believed only as far as it fits: numbers within the span that was set aside, disks that follow each other, a workload that
 * has the same disks at each point. Everything else is left out, and counted. */
#include "fsm/adoption.h"

#include "fsm/checkpoint.h"
#include "fsm/expiry.h"
#include "fsm/plan_edit.h"
#include "fsm/recovery.h"
#include "fsm/vault_row.h"

#include <stdio.h>

enum { NAME_BYTES = 63 };

/* A point on its way in. */
struct arrival {
    const struct far_row_adoption *adoption;
    const struct far_sub_adopted *portion;
    const struct far_sub_adopted_point *said;
    struct far_ev_vault_adopted *result;
    uint64_t site_id; /* of the vault */
    uint64_t domain_id;
};

static uint64_t id_of(const struct arrival *a, uint64_t number)
{
    return a->adoption->base + number;
}

static int leave_out(struct far_step *step, struct arrival *a, uint64_t *counter, const char *why)
{
    char text[400];
    ++*counter;
    snprintf(text, sizeof text, "point %llu of the vault, of workload '%.*s': %s", FAR_LLU(a->said->point_id), FAR_TEXT(a->said->workload),
             why);
    return a->result->problem.len == 0 ? far_step_copy(step, far_slice_str(text), &a->result->problem) : 0;
}

/* ---- does it fit? ---- */

static bool in_span(const struct arrival *a, uint64_t number)
{
    return number > 0 && number < a->adoption->span;
}

static bool is_name(struct far_slice name)
{
    bool fits = name.len > 0 && name.len <= NAME_BYTES;
    for (size_t i = 0; fits && i < name.len; i++) {
        uint8_t b = name.data[i];
        bool word = (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9');
        fits = word || (i > 0 && (b == '.' || b == '_' || b == '-'));
    }
    return fits;
}

/* What the log calls a number of the vault (far_vault_owner_exchange()). */
static uint64_t in_log(const struct far_row_adoption *adoption, uint64_t number)
{
    if (number < adoption->span) {
        return adoption->base + number;
    }
    return number > adoption->base && number - adoption->base < adoption->span ? number - adoption->base : number;
}

static bool is_repeated(const struct far_sub_point_disk *disks, size_t at)
{
    size_t before = 0;
    while (before < at && !far_slice_equal(disks[before].name, disks[at].name)) {
        before++;
    }
    return before < at;
}

static bool is_sound(const struct arrival *a)
{
    const struct far_sub_adopted_point *said = a->said;
    const struct far_sub_point_disk *disks = said->disks.items;
    bool fits = in_span(a, said->point_id) && in_span(a, said->plan_id) && in_span(a, said->workload_id) &&
                in_span(a, said->checkpoint_id) && said->disks.count > 0;
    for (size_t d = 0; fits && d < said->disks.count; d++) {
        fits = in_span(a, disks[d].disk_id) && disks[d].disk_id == disks[0].disk_id + d && disks[d].disk_index == d &&
               disks[d].root.len == 32 && disks[d].size_bytes > 0 && is_name(disks[d].name) && !is_repeated(disks, d);
    }
    return fits;
}

static bool is_plain(struct far_slice uuid)
{
    bool is_zero = true;
    for (size_t i = 0; i < uuid.len; i++) {
        is_zero = is_zero && uuid.data[i] == 0;
    }
    return is_zero;
}

/* FAR_NOT_FOUND: this cluster has no key of it. */
static int find_domain(struct far_step *step, struct far_slice uuid, uint64_t *ret_id)
{
    struct far_key at = far_key(&far_schema_row_domain);
    struct far_row_domain row;
    int rc = 0;
    *ret_id = 0;
    if (is_plain(uuid)) {
        return 0;
    }
    while ((rc = far_next(step, &far_schema_row_domain, &at, NULL, &row)) == 0) {
        if (row.state == FAR_domain_state_active && far_slice_equal(row.uuid, uuid)) {
            *ret_id = row.id;
            return 0;
        }
    }
    return rc;
}

/* ---- names ---- */

/* That of the other cluster; where that is taken, with a number behind it. */
static int name_of(struct far_step *step, const struct far_schema *table, struct far_slice wanted, uint64_t id, struct far_slice *ret)
{
    char text[NAME_BYTES + 1];
    uint64_t other;
    struct far_slice base = is_name(wanted) ? wanted : far_slice_str("adopted");
    int rc = far_name_find(step, table, base, &other);
    if (rc == FAR_NOT_FOUND) {
        return far_step_copy(step, base, ret);
    }
    FAR_TRY(rc);
    size_t len = base.len < 40 ? base.len : 40;
    while (len < base.len && (base.data[len] & 0xc0) == 0x80) { /* never cut inside a character */
        len--;
    }
    snprintf(text, sizeof text, "%.*s-%llu", (int)len, (const char *)base.data, FAR_LLU(id));
    for (unsigned more = 2; (rc = far_name_find(step, table, far_slice_str(text), &other)) == 0; more++) {
        snprintf(text, sizeof text, "%.*s-%llu-%u", (int)(len < 24 ? len : 0), (const char *)base.data, FAR_LLU(id), more);
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return far_step_copy(step, far_slice_str(text), ret);
}

/* ---- what it belongs to ---- */

/* A site of this name where no vault of the plan is. */
static int fitting_site(struct far_step *step, const struct arrival *a, struct far_slice name, uint64_t *ret_id)
{
    struct far_row_site site;
    int rc = far_name_find(step, &far_schema_row_site, name, ret_id);
    FAR_TRY(rc);
    FAR_TRY(far_row_need(step, &far_schema_row_site, *ret_id, &site));
    return site.role != FAR_site_role_witness && site.id != a->site_id ? 0 : FAR_NOT_FOUND;
}

static int source_site(struct far_step *step, const struct arrival *a, uint64_t *ret_id)
{
    char text[NAME_BYTES + 1];
    struct far_slice wanted = is_name(a->said->site) ? a->said->site : far_slice_str("adopted");
    int rc = fitting_site(step, a, wanted, ret_id);
    if (rc != FAR_NOT_FOUND || step->is_rejected) {
        return rc;
    }
    struct far_ev_site_created ev = {.id = step->progress.next_id, .name = wanted, .role = FAR_site_role_protected};
    uint64_t other;
    rc = far_name_find(step, &far_schema_row_site, wanted, &other);
    if (rc == 0) {
        snprintf(text, sizeof text, "%.*s-adopted", (int)(wanted.len < 50 ? wanted.len : 50), (const char *)wanted.data);
        FAR_TRY(far_step_copy(step, far_slice_str(text), &ev.name));
        rc = fitting_site(step, a, ev.name, ret_id);
        if (rc != FAR_NOT_FOUND || step->is_rejected) {
            return rc;
        }
        FAR_TRY(name_of(step, &far_schema_row_site, ev.name, ev.id, &ev.name));
    }
    *ret_id = ev.id;
    return far_emit(step, &far_schema_ev_site_created, &ev);
}

static int create_workload(struct far_step *step, const struct arrival *a)
{
    const struct far_sub_point_disk *from = a->said->disks.items;
    struct far_sub_disk_spec *disks = far_step_alloc(step, a->said->disks.count * sizeof *disks);
    struct far_ev_workload_created ev = {.id = id_of(a, a->said->workload_id),
                                         .first_disk_id = id_of(a, from[0].disk_id),
                                         .disks = {.items = disks, .count = a->said->disks.count}};
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    for (size_t d = 0; d < a->said->disks.count; d++) {
        disks[d] = (struct far_sub_disk_spec){.name = from[d].name};
    }
    FAR_TRY(source_site(step, a, &ev.site_id));
    FAR_TRY(name_of(step, &far_schema_row_workload, a->said->workload, ev.id, &ev.name));
    return far_emit(step, &far_schema_ev_workload_created, &ev);
}

/* It has the disks of the point: the same, one after the other. */
static int has_its_disks(struct far_step *step, const struct arrival *a, const struct far_row_workload *workload, bool *ret_has)
{
    const struct far_sub_point_disk *disks = a->said->disks.items;
    *ret_has = workload->disk_count == a->said->disks.count;
    for (size_t d = 0; *ret_has && d < a->said->disks.count; d++) {
        struct far_row_disk row;
        struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &row));
        *ret_has = row.id == id_of(a, disks[d].disk_id) && far_slice_equal(row.name, disks[d].name);
    }
    return 0;
}

static int create_plan(struct far_step *step, const struct arrival *a, const struct far_row_workload *workload)
{
    uint64_t workload_id = workload->id;
    struct far_ev_plan_created ev = {.id = id_of(a, a->said->plan_id),
                                     .source_site_id = workload->site_id,
                                     .target_site_id = a->site_id,
                                     .domain_id = a->domain_id,
                                     .workload_ids = {.items = &workload_id, .count = workload->plan_id == 0}};
    FAR_TRY(name_of(step, &far_schema_row_plan, a->said->plan, ev.id, &ev.name));
    return far_emit(step, &far_schema_ev_plan_created, &ev);
}

/* The plan, with the workload in it unless another plan has that already. */
static int take_plan(struct far_step *step, const struct arrival *a, const struct far_row_workload *workload)
{
    struct far_row_plan plan;
    int rc = far_row_find(step, &far_schema_row_plan, id_of(a, a->said->plan_id), &plan);
    if (rc == FAR_NOT_FOUND) {
        return create_plan(step, a, workload);
    }
    FAR_TRY(rc);
    struct far_ev_plan_joined ev = {.plan_id = plan.id, .workload_id = workload->id};
    return workload->plan_id == 0 && plan.running_job_id == 0 ? far_emit(step, &far_schema_ev_plan_joined, &ev) : 0;
}

/* ---- the point ---- */

static int take_machine(struct far_step *step, const struct arrival *a, struct far_adopted_machine *ret)
{
    struct far_adopted_from from = {.portion = a->portion,
                                    .said = a->said,
                                    .point_id = id_of(a, a->said->point_id),
                                    .workload_id = id_of(a, a->said->workload_id),
                                    .plan_id = id_of(a, a->said->plan_id),
                                    .checkpoint_id = id_of(a, a->said->checkpoint_id),
                                    .job_id = a->result->job_id,
                                    .node_id = a->result->node_id};
    char text[400];
    FAR_TRY(far_adopt_machine(step, &from, ret));
    if (!ret->is_unsound || a->result->problem.len != 0) {
        return 0;
    }
    snprintf(text, sizeof text, "point %llu of the vault, of workload '%.*s': how it is to be brought up cannot be, and was left out",
             FAR_LLU(a->said->point_id), FAR_TEXT(a->said->workload));
    return far_step_copy(step, far_slice_str(text), &a->result->problem);
}

static int create_point(struct far_step *step, const struct arrival *a)
{
    const struct far_sub_adopted_point *said = a->said;
    const struct far_sub_point_disk *from = said->disks.items;
    struct far_sub_point_part *parts = far_step_alloc(step, said->disks.count * sizeof *parts);
    struct far_ev_point_created ev = {.id = id_of(a, said->point_id),
                                      .workload_id = id_of(a, said->workload_id),
                                      .plan_id = id_of(a, said->plan_id),
                                      .checkpoint_id = id_of(a, said->checkpoint_id),
                                      .job_id = a->result->job_id,
                                      .node_id = a->result->node_id,
                                      .plan_epoch = said->plan_epoch,
                                      .proof = FAR_proof_transfer,
                                      .fuzzy = said->fuzzy,
                                      .frozen_at_ms = said->frozen_at_ms,
                                      .domain_id = a->domain_id,
                                      .adopted = true,
                                      .disks = {.items = parts, .count = said->disks.count}};
    if (parts == NULL) {
        return FAR_LIMIT;
    }
    for (size_t d = 0; d < said->disks.count; d++) {
        parts[d] = (struct far_sub_point_part){.disk_id = id_of(a, from[d].disk_id),
                                               .name = from[d].name,
                                               .size_bytes = from[d].size_bytes,
                                               .root = from[d].root};
    }
    struct far_adopted_machine machine;
    FAR_TRY(take_machine(step, a, &machine));
    ev.config_id = machine.config_id;
    ev.recovery_id = machine.recovery_id;
    FAR_TRY(far_emit(step, &far_schema_ev_point_created, &ev));
    struct far_sub_member member = {.workload_id = ev.workload_id, .point_id = ev.id};
    struct far_ev_checkpoint_adopted checkpoint = {.id = ev.checkpoint_id,
                                                   .plan_id = ev.plan_id,
                                                   .job_id = ev.job_id,
                                                   .created_ms = said->created_ms < step->time_ms ? said->created_ms : step->time_ms,
                                                   .locked_until_ms = said->lock_until_ms,
                                                   .networks_id = machine.networks_id,
                                                   .members = {.items = &member, .count = 1}};
    return far_emit(step, &far_schema_ev_checkpoint_adopted, &checkpoint);
}

/* Was the checkpoint removed here, or is another point of the workload in it? */
static int checkpoint_takes(struct far_step *step, const struct arrival *a, bool *ret_takes)
{
    struct far_row_checkpoint row;
    struct far_row_checkpoint_member member;
    uint64_t id = id_of(a, a->said->checkpoint_id);
    struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, id, id_of(a, a->said->workload_id));
    FAR_TRY(far_checkpoint_find(step, id, &row));
    int rc = far_key_find(step, &far_schema_row_checkpoint_member, &key, &member);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    *ret_takes = rc != 0 && (row.id == 0 || (row.state != FAR_point_state_removed && row.plan_id == id_of(a, a->said->plan_id)));
    return 0;
}

static int take(struct far_step *step, struct arrival *a)
{
    struct far_row_workload workload;
    uint64_t workload_id = id_of(a, a->said->workload_id);
    bool takes, has;
    FAR_TRY(checkpoint_takes(step, a, &takes));
    if (!takes) {
        return leave_out(step, a, &a->result->left_out, "its checkpoint was removed here, or has another point of the workload");
    }
    int rc = far_row_find(step, &far_schema_row_workload, workload_id, &workload);
    if (rc == FAR_NOT_FOUND) {
        FAR_TRY(create_workload(step, a));
        rc = far_row_find(step, &far_schema_row_workload, workload_id, &workload);
    }
    FAR_TRY(rc);
    FAR_TRY(has_its_disks(step, a, &workload, &has));
    if (!has) {
        return leave_out(step, a, &a->result->left_out, "its disks are not those that the workload has at other points");
    }
    FAR_TRY(take_plan(step, a, &workload));
    a->result->points++;
    return create_point(step, a);
}

int far_adopt_point(struct far_step *step, const struct far_row_adoption *adoption, const struct far_sub_adopted *portion,
                    const struct far_sub_adopted_point *said, struct far_ev_vault_adopted *result)
{
    struct arrival a = {.adoption = adoption, .portion = portion, .said = said, .result = result};
    struct far_row_node node;
    struct far_row_point point;
    FAR_TRY(far_point_find(step, in_log(adoption, said->point_id), &point));
    if (point.id != 0) { /* adopted already, or this cluster's own since it was */
        result->known++;
        return 0;
    }
    if (!is_sound(&a)) {
        return leave_out(step, &a, &result->left_out, "its manifest has numbers or disks that cannot be");
    }
    int rc = find_domain(step, said->domain_uuid, &a.domain_id);
    if (rc == FAR_NOT_FOUND && !step->is_rejected) {
        return leave_out(step, &a, &result->unreadable, "this cluster has no key of its dedup domain");
    }
    FAR_TRY(rc);
    FAR_TRY(far_row_need(step, &far_schema_row_node, result->node_id, &node));
    a.site_id = node.site_id;
    return take(step, &a);
}

/* ---- events ---- */

int far_evolve_plan_joined(struct far_step *step, const struct far_ev_plan_joined *ev)
{
    struct far_row_plan plan;
    struct far_row_plan_workload member = {.plan_id = ev->plan_id, .workload_id = ev->workload_id};
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, ev->plan_id, ev->workload_id);
    FAR_TRY(far_row_need(step, &far_schema_row_plan, ev->plan_id, &plan));
    FAR_TRY(far_workload_claim(step, ev->workload_id, ev->plan_id));
    FAR_TRY(far_key_put(step, &far_schema_row_plan_workload, &key, &member));
    plan.workload_count++;
    far_plan_moved_settle(step, &plan);
    return far_row_put(step, &far_schema_row_plan, plan.id, &plan);
}

static int add_members(struct far_step *step, struct far_row_checkpoint *row, const struct far_list *list)
{
    const struct far_sub_member *members = list->items;
    for (size_t i = 0; i < list->count; i++) {
        struct far_row_point point;
        struct far_row_checkpoint_member member = {
            .checkpoint_id = row->id, .workload_id = members[i].workload_id, .point_id = members[i].point_id};
        struct far_key key = far_key_pair(&far_schema_row_checkpoint_member, row->id, member.workload_id);
        FAR_TRY(far_key_put(step, &far_schema_row_checkpoint_member, &key, &member));
        FAR_TRY(far_row_need(step, &far_schema_row_point, member.point_id, &point));
        point.holds++;
        FAR_TRY(far_row_put(step, &far_schema_row_point, point.id, &point));
        row->member_count++;
    }
    return 0;
}

int far_evolve_checkpoint_adopted(struct far_step *step, const struct far_ev_checkpoint_adopted *ev)
{
    struct far_row_checkpoint row;
    struct far_row_plan plan;
    FAR_TRY(far_checkpoint_find(step, ev->id, &row));
    bool is_new = row.id == 0;
    if (is_new) {
        FAR_TRY(far_move_id(step, &far_table_checkpoint, (size_t)row.state, FAR_CHECKPOINT_CREATE, ev->id, NULL));
        row = (struct far_row_checkpoint){.id = ev->id,
                                          .plan_id = ev->plan_id,
                                          .job_id = ev->job_id,
                                          .created_ms = ev->created_ms,
                                          .state = FAR_point_state_available,
                                          .networks_id = ev->networks_id};
        far_id_used(step, ev->id);
        FAR_TRY(far_recovery_hold(step, ev->networks_id));
    }
    row.locked_until_ms = row.locked_until_ms > ev->locked_until_ms ? row.locked_until_ms : ev->locked_until_ms;
    FAR_TRY(add_members(step, &row, &ev->members));
    FAR_TRY(far_row_put(step, &far_schema_row_checkpoint, row.id, &row));
    FAR_TRY(is_new ? far_plan_checkpoint_list(step, &row, true) : 0);
    FAR_TRY(far_lock_points(step, &row));
    FAR_TRY(far_expiry_wake(step, row.plan_id));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, row.plan_id, &plan));
    return plan.last_checkpoint_id < row.id ? far_plan_checkpoint(step, row.plan_id, row.id) : 0;
}
