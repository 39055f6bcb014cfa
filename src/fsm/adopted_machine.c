/* What comes with an adopted point besides its disks: what its machine was, how it is to be brought up, and where the plan's networks are;
 * as its manifest has them. It becomes what is in force, as the newest, where nobody has set anything else since the newest point came;
 * else only the point keeps it. What cannot be is left out, and said. */
#include "fsm/adoption.h"

#include "fsm/checkpoint.h"
#include "fsm/machine_config.h"
#include "fsm/recovery.h"

static int find_config(const struct far_sub_adopted *portion, struct far_slice sha256, struct far_slice *ret_config)
{
    const struct far_sub_adopted_config *configs = portion->configs.items;
    for (size_t i = 0; i < portion->configs.count; i++) {
        if (far_slice_equal(configs[i].sha256, sha256) && configs[i].config.len > 0) {
            *ret_config = configs[i].config;
            return 0;
        }
    }
    return FAR_NOT_FOUND;
}

/* A cycle that runs has said already what the machine is now. */
static int runs_cycle(struct far_step *step, const struct far_row_workload *workload, bool *ret_runs)
{
    struct far_row_plan plan = {.id = 0};
    FAR_TRY(workload->plan_id != 0 ? far_row_need(step, &far_schema_row_plan, workload->plan_id, &plan) : 0);
    *ret_runs = plan.running_job_id != 0;
    return 0;
}

static int adopt_config(struct far_step *step, const struct far_adopted_from *from, const struct far_row_workload *workload,
                        uint64_t *ret_config_id)
{
    struct far_row_machine_config newest;
    struct far_ev_machine_config_changed ev = {.id = step->progress.next_id,
                                               .workload_id = workload->id,
                                               .job_id = from->job_id,
                                               .node_id = from->node_id,
                                               .sha256 = from->said->config_sha256};
    bool runs;
    if (from->said->config_sha256.len != 32) {
        return 0;
    }
    FAR_TRY(far_machine_config_find(step, workload->config_id, &newest));
    if (newest.id != 0 && far_slice_equal(newest.sha256, ev.sha256)) {
        *ret_config_id = newest.id;
        return 0;
    }
    if (find_config(from->portion, ev.sha256, &ev.config) != 0) {
        return 0;
    }
    FAR_TRY(runs_cycle(step, workload, &runs));
    ev.kept = runs || from->point_id < workload->last_point_id;
    *ret_config_id = ev.id;
    return far_emit(step, &far_schema_ev_machine_config_changed, &ev);
}

/* Could it have been set here? Checks reject, which is no fate for what a node found. */
static int is_sound(struct far_step *step, const struct far_row_workload *workload, const struct far_sub_recovery_kept *kept, bool *ret_is)
{
    struct far_step trial = *step;
    int rc = kept->config.count > 0 ? far_recovery_check(&trial, "", workload, kept->config.items) : 0;
    rc = rc == 0 ? far_networks_check(&trial, &kept->networks) : rc;
    *ret_is = !trial.is_rejected;
    FAR_TRY(trial.is_rejected ? 0 : rc);
    struct far_ev_recovery_changed whole = {.id = UINT64_MAX,
                                            .plan_id = UINT64_MAX,
                                            .workload_id = UINT64_MAX,
                                            .config = kept->config,
                                            .kept = true};
    bool fits = false;
    FAR_TRY(*ret_is ? far_fits_row(step, &far_schema_ev_recovery_changed, &whole, &fits) : 0);
    whole = (struct far_ev_recovery_changed){.id = UINT64_MAX, .plan_id = UINT64_MAX, .networks = kept->networks, .kept = true};
    FAR_TRY(fits ? far_fits_row(step, &far_schema_ev_recovery_changed, &whole, &fits) : 0);
    *ret_is = *ret_is && fits;
    return 0;
}

/* Does this version (0: none) say the same? */
static int says(struct far_step *step, uint64_t id, const struct far_ev_recovery_changed *ev, bool *ret_same)
{
    struct far_row_recovery row;
    *ret_same = false;
    if (id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_recovery, id, &row));
    struct far_sub_recovery_kept now = {.config = row.config, .networks = row.networks}, other = {.config = ev->config,
                                                                                                .networks = ev->networks};
    return far_same(step, &far_schema_sub_recovery_kept, &now, &other, ret_same);
}

static int keep(struct far_step *step, struct far_ev_recovery_changed *ev, uint64_t *ret_id)
{
    ev->id = *ret_id = step->progress.next_id;
    ev->kept = true;
    return far_emit(step, &far_schema_ev_recovery_changed, ev);
}

static int adopt_recovery(struct far_step *step, const struct far_adopted_from *from, const struct far_row_workload *workload,
                          const struct far_sub_recovery *config, uint64_t *ret_id)
{
    struct far_row_point last;
    struct far_row_plan plan;
    struct far_sub_recovery nameless = *config;
    struct far_ev_recovery_changed ev = {.plan_id = from->plan_id, .workload_id = workload->id, .config = {&nameless, 1}};
    uint64_t now_id;
    bool same;
    nameless.name = far_slice(NULL, 0);
    FAR_TRY(far_recovery_of(step, from->plan_id, workload->id, &now_id));
    FAR_TRY(says(step, now_id, &ev, &same));
    if (same) {
        *ret_id = now_id;
        return 0;
    }
    FAR_TRY(far_point_find(step, workload->last_point_id, &last));
    bool is_member = workload->plan_id == from->plan_id;
    if (!is_member || from->point_id < last.id || now_id != last.recovery_id) {
        return keep(step, &ev, ret_id);
    }
    FAR_TRY(far_row_need(step, &far_schema_row_plan, from->plan_id, &plan));
    FAR_TRY(far_recovery_put(step, &plan, workload->id, &nameless));
    return far_recovery_of(step, plan.id, workload->id, ret_id);
}

/* One that is there has them from the first of its points. */
static int adopt_networks(struct far_step *step, const struct far_adopted_from *from, const struct far_list *networks, uint64_t *ret_id)
{
    struct far_row_checkpoint checkpoint, last;
    struct far_row_plan plan;
    struct far_ev_recovery_changed ev = {.plan_id = from->plan_id, .networks = *networks};
    bool same;
    FAR_TRY(far_checkpoint_find(step, from->checkpoint_id, &checkpoint));
    if (checkpoint.id != 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_plan, from->plan_id, &plan));
    FAR_TRY(says(step, plan.networks_id, &ev, &same));
    if (same) {
        *ret_id = plan.networks_id;
        return 0;
    }
    FAR_TRY(far_checkpoint_find(step, plan.last_checkpoint_id, &last));
    if (from->checkpoint_id < last.id || plan.networks_id != last.networks_id) {
        return keep(step, &ev, ret_id);
    }
    FAR_TRY(far_networks_put(step, &plan, networks));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, from->plan_id, &plan));
    *ret_id = plan.networks_id;
    return 0;
}

int far_adopt_machine(struct far_step *step, const struct far_adopted_from *from, struct far_adopted_machine *ret)
{
    struct far_row_workload workload;
    struct far_sub_recovery_kept *kept = far_step_alloc(step, sizeof *kept);
    *ret = (struct far_adopted_machine){.config_id = 0};
    if (kept == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_workload, from->workload_id, &workload));
    FAR_TRY(adopt_config(step, from, &workload, &ret->config_id));
    if (from->said->recovery.len == 0) {
        return 0;
    }
    struct far_error why = {0};
    int rc = far_schema_decode(&far_schema_sub_recovery_kept, from->said->recovery, step->arena, kept, &why);
    if (rc != 0 && rc != FAR_INVALID) {
        return far_fail(step->err, rc, "%s", why.message);
    }
    bool is = false;
    FAR_TRY(rc == 0 ? is_sound(step, &workload, kept, &is) : 0);
    ret->is_unsound = !is;
    FAR_TRY(is && kept->config.count > 0 ? adopt_recovery(step, from, &workload, kept->config.items, &ret->recovery_id) : 0);
    return is && kept->networks.count > 0 ? adopt_networks(step, from, &kept->networks, &ret->networks_id) : 0;
}
