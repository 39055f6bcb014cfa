/* Machines that follow in the next commits. */
#include "fsm/job.h"
#include "fsm/task.h"

int far_decide_server_join(struct far_step *step, const struct far_cmd_server_join *cmd)
{
    return far_reject(step, FAR_INVALID, "server_join is not there yet");
}

int far_decide_server_role_changed(struct far_step *step, const struct far_cmd_server_role_changed *cmd)
{
    return far_reject(step, FAR_INVALID, "server_role_changed is not there yet");
}

int far_decide_server_role_set(struct far_step *step, const struct far_cmd_server_role_set *cmd)
{
    return far_reject(step, FAR_INVALID, "server_role_set is not there yet");
}

int far_decide_node_join(struct far_step *step, const struct far_cmd_node_join *cmd)
{
    return far_reject(step, FAR_INVALID, "node_join is not there yet");
}

int far_decide_node_remove(struct far_step *step, const struct far_cmd_node_remove *cmd)
{
    return far_reject(step, FAR_INVALID, "node_remove is not there yet");
}

int far_decide_node_boot(struct far_step *step, const struct far_cmd_node_boot *cmd)
{
    return far_reject(step, FAR_INVALID, "node_boot is not there yet");
}

int far_decide_node_report(struct far_step *step, const struct far_cmd_node_report *cmd)
{
    return far_reject(step, FAR_INVALID, "node_report is not there yet");
}

int far_decide_workload_create(struct far_step *step, const struct far_cmd_workload_create *cmd)
{
    return far_reject(step, FAR_INVALID, "workload_create is not there yet");
}

int far_decide_workload_remove(struct far_step *step, const struct far_cmd_workload_remove *cmd)
{
    return far_reject(step, FAR_INVALID, "workload_remove is not there yet");
}

int far_decide_plan_create(struct far_step *step, const struct far_cmd_plan_create *cmd)
{
    return far_reject(step, FAR_INVALID, "plan_create is not there yet");
}

int far_decide_plan_remove(struct far_step *step, const struct far_cmd_plan_remove *cmd)
{
    return far_reject(step, FAR_INVALID, "plan_remove is not there yet");
}

int far_decide_plan_start(struct far_step *step, const struct far_cmd_plan_start *cmd)
{
    return far_reject(step, FAR_INVALID, "plan_start is not there yet");
}

int far_decide_plan_stop(struct far_step *step, const struct far_cmd_plan_stop *cmd)
{
    return far_reject(step, FAR_INVALID, "plan_stop is not there yet");
}

int far_decide_plan_replicate(struct far_step *step, const struct far_cmd_plan_replicate *cmd)
{
    return far_reject(step, FAR_INVALID, "plan_replicate is not there yet");
}

int far_decide_recover(struct far_step *step, const struct far_cmd_recover *cmd)
{
    return far_reject(step, FAR_INVALID, "recover is not there yet");
}

int far_decide_checkpoint_verify(struct far_step *step, const struct far_cmd_checkpoint_verify *cmd)
{
    return far_reject(step, FAR_INVALID, "checkpoint_verify is not there yet");
}

int far_decide_checkpoint_remove(struct far_step *step, const struct far_cmd_checkpoint_remove *cmd)
{
    return far_reject(step, FAR_INVALID, "checkpoint_remove is not there yet");
}

int far_decide_job_cancel(struct far_step *step, const struct far_cmd_job_cancel *cmd)
{
    return far_reject(step, FAR_INVALID, "job_cancel is not there yet");
}

int far_decide_server_site_set(struct far_step *step, const struct far_cmd_server_site_set *cmd)
{
    return far_reject(step, FAR_INVALID, "server_site_set is not there yet");
}

int far_evolve_server_joined(struct far_step *step, const struct far_ev_server_joined *ev)
{
    return far_reject(step, FAR_INVALID, "server_joined is not there yet");
}

int far_evolve_server_role_changed(struct far_step *step, const struct far_ev_server_role_changed *ev)
{
    return far_reject(step, FAR_INVALID, "server_role_changed is not there yet");
}

int far_evolve_server_role_wanted(struct far_step *step, const struct far_ev_server_role_wanted *ev)
{
    return far_reject(step, FAR_INVALID, "server_role_wanted is not there yet");
}

int far_evolve_server_site_changed(struct far_step *step, const struct far_ev_server_site_changed *ev)
{
    return far_reject(step, FAR_INVALID, "server_site_changed is not there yet");
}

int far_evolve_node_joined(struct far_step *step, const struct far_ev_node_joined *ev)
{
    return far_reject(step, FAR_INVALID, "node_joined is not there yet");
}

int far_evolve_node_removed(struct far_step *step, const struct far_ev_node_removed *ev)
{
    return far_reject(step, FAR_INVALID, "node_removed is not there yet");
}

int far_evolve_node_booted(struct far_step *step, const struct far_ev_node_booted *ev)
{
    return far_reject(step, FAR_INVALID, "node_booted is not there yet");
}

int far_evolve_node_reported(struct far_step *step, const struct far_ev_node_reported *ev)
{
    return far_reject(step, FAR_INVALID, "node_reported is not there yet");
}

int far_evolve_node_lost(struct far_step *step, const struct far_ev_node_lost *ev)
{
    return far_reject(step, FAR_INVALID, "node_lost is not there yet");
}

int far_evolve_workload_created(struct far_step *step, const struct far_ev_workload_created *ev)
{
    return far_reject(step, FAR_INVALID, "workload_created is not there yet");
}

int far_evolve_workload_removed(struct far_step *step, const struct far_ev_workload_removed *ev)
{
    return far_reject(step, FAR_INVALID, "workload_removed is not there yet");
}

int far_evolve_plan_created(struct far_step *step, const struct far_ev_plan_created *ev)
{
    return far_reject(step, FAR_INVALID, "plan_created is not there yet");
}

int far_evolve_plan_removed(struct far_step *step, const struct far_ev_plan_removed *ev)
{
    return far_reject(step, FAR_INVALID, "plan_removed is not there yet");
}

int far_evolve_plan_started(struct far_step *step, const struct far_ev_plan_started *ev)
{
    return far_reject(step, FAR_INVALID, "plan_started is not there yet");
}

int far_evolve_plan_stopped(struct far_step *step, const struct far_ev_plan_stopped *ev)
{
    return far_reject(step, FAR_INVALID, "plan_stopped is not there yet");
}

int far_evolve_plan_scheduled(struct far_step *step, const struct far_ev_plan_scheduled *ev)
{
    return far_reject(step, FAR_INVALID, "plan_scheduled is not there yet");
}

int far_evolve_job_started(struct far_step *step, const struct far_ev_job_started *ev)
{
    return far_reject(step, FAR_INVALID, "job_started is not there yet");
}

int far_evolve_tasks_created(struct far_step *step, const struct far_ev_tasks_created *ev)
{
    return far_reject(step, FAR_INVALID, "tasks_created is not there yet");
}

int far_evolve_tasks_changed(struct far_step *step, const struct far_ev_tasks_changed *ev)
{
    return far_reject(step, FAR_INVALID, "tasks_changed is not there yet");
}

int far_evolve_job_cancel_requested(struct far_step *step, const struct far_ev_job_cancel_requested *ev)
{
    return far_reject(step, FAR_INVALID, "job_cancel_requested is not there yet");
}

int far_evolve_job_finished(struct far_step *step, const struct far_ev_job_finished *ev)
{
    return far_reject(step, FAR_INVALID, "job_finished is not there yet");
}

int far_evolve_jobs_woken(struct far_step *step, const struct far_ev_jobs_woken *ev)
{
    return far_reject(step, FAR_INVALID, "jobs_woken is not there yet");
}

int far_evolve_point_created(struct far_step *step, const struct far_ev_point_created *ev)
{
    return far_reject(step, FAR_INVALID, "point_created is not there yet");
}

int far_evolve_point_verified(struct far_step *step, const struct far_ev_point_verified *ev)
{
    return far_reject(step, FAR_INVALID, "point_verified is not there yet");
}

int far_evolve_checkpoint_created(struct far_step *step, const struct far_ev_checkpoint_created *ev)
{
    return far_reject(step, FAR_INVALID, "checkpoint_created is not there yet");
}

int far_evolve_checkpoint_removed(struct far_step *step, const struct far_ev_checkpoint_removed *ev)
{
    return far_reject(step, FAR_INVALID, "checkpoint_removed is not there yet");
}

int far_task_lease_due(struct far_step *step, uint64_t job_id, uint64_t task)
{
    return 0;
}

int far_task_retry_due(struct far_step *step, uint64_t job_id, uint64_t task)
{
    return 0;
}

int far_job_due(struct far_step *step, uint64_t job_id)
{
    return 0;
}

int far_plan_due(struct far_step *step, uint64_t plan_id)
{
    return 0;
}

int far_node_due(struct far_step *step, uint64_t node_id)
{
    return 0;
}

int far_leases_extend(struct far_step *step, uint64_t until_ms)
{
    return 0;
}

