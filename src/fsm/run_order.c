/* Runs of plans: what a node is told of an operation on a machine. See run_begin.c. */
#include "fsm/run.h"

#include "fsm/machine_config.h"

#include <stdio.h>

/* Where a disk of the point is at the source; empty: its workload has it no more. */
static int source_of(struct far_step *step, uint64_t workload_id, uint64_t disk_index, uint64_t disk_id, struct far_slice *ret)
{
    struct far_row_disk row;
    struct far_key key = far_key_part(&far_schema_row_disk, workload_id, disk_index);
    int rc = far_key_find(step, &far_schema_row_disk, &key, &row);
    *ret = rc == 0 && row.id == disk_id ? row.locator : far_slice(NULL, 0);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int list_disks(struct far_step *step, const struct far_row_run_member *m, const struct far_sub_recovery *config,
                      bool at_once, struct far_list *ret)
{
    struct far_row_point point;
    struct far_row_workload workload;
    FAR_TRY(far_row_need(step, &far_schema_row_workload, m->workload_id, &workload));
    uint64_t format = at_once ? (uint64_t)FAR_image_format_qcow2 : far_run_format(&workload, config); /* over the point */
    FAR_TRY(far_row_need(step, &far_schema_row_point, m->point_id, &point));
    struct far_sub_machine_disk *disks = far_step_alloc(step, (point.disk_count + 1) * sizeof *disks);
    if (disks == NULL) {
        return FAR_LIMIT;
    }
    for (uint64_t d = 0; d < point.disk_count; d++) {
        struct far_row_point_disk disk;
        struct far_key key = far_key_part(&far_schema_row_point_disk, point.id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
        disks[d] = (struct far_sub_machine_disk){.name = disk.name, .format = format};
        FAR_TRY(source_of(step, m->workload_id, d, disk.disk_id, &disks[d].source));
        FAR_TRY(far_run_leaves_disk(config, disk.name)
                    ? 0
                    : far_run_path(step, m->job_id, workload.name, disk.name, format, &disks[d].target));
    }
    *ret = (struct far_list){.items = disks, .count = point.disk_count};
    return 0;
}

static int list_networks(struct far_step *step, uint64_t checkpoint_id, struct far_list *ret)
{
    struct far_row_checkpoint checkpoint;
    struct far_row_recovery row;
    FAR_TRY(far_row_need(step, &far_schema_row_checkpoint, checkpoint_id, &checkpoint));
    if (checkpoint.networks_id == 0) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_recovery, checkpoint.networks_id, &row));
    *ret = row.networks;
    return 0;
}

static int fill_up(struct far_step *step, const struct far_row_run *run, uint64_t point_id, struct far_sub_machine_order *machine)
{
    struct far_row_point point;
    FAR_TRY(far_row_need(step, &far_schema_row_point, point_id, &point));
    FAR_TRY(far_machine_config_bytes(step, point.config_id, &machine->config));
    return list_networks(step, run->checkpoint_id, &machine->networks);
}

static int fill_gate(struct far_step *step, const struct far_row_task *task, const struct far_sub_recovery *config,
                     struct far_sub_machine_order *machine)
{
    const struct far_sub_recovery_gate *gates = config->gates.items;
    if (task->disk_index >= config->gates.count) {
        return far_reject(step, FAR_INTERNAL, "broken: workload %llu has no gate %llu", FAR_LLU(task->workload_id),
                          FAR_LLU(task->disk_index));
    }
    machine->gate = (struct far_list){.items = &gates[task->disk_index], .count = 1};
    machine->gate_index = task->disk_index;
    machine->timeout_s = gates[task->disk_index].timeout_s;
    return 0;
}

int far_run_order(struct far_step *step, const struct far_row_job *job, const struct far_row_task *task, struct far_sub_order *order)
{
    struct far_sub_machine_order *machine = far_step_alloc(step, sizeof *machine);
    struct far_sub_recovery *config = far_step_alloc(step, sizeof *config);
    struct far_row_run run;
    struct far_row_run_member m;
    struct far_key key = far_key_pair(&far_schema_row_run_member, job->id, task->workload_id);
    char ref[FAR_RUN_REF_MAX];
    if (machine == NULL || config == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_run, job->id, &run));
    FAR_TRY(far_key_need(step, &far_schema_row_run_member, &key, &m));
    snprintf(ref, sizeof ref, "farshore-run-%llu-%llu", FAR_LLU(job->id), FAR_LLU(task->workload_id));
    *machine = (struct far_sub_machine_order){.operation = task->operation,
                                              .name = m.machine,
                                              .isolated = run.kind == FAR_job_kind_test_recovery};
    FAR_TRY(far_step_copy(step, far_slice_str(ref), &machine->ref));
    bool is_source = task->operation == FAR_machine_operation_source_off || task->operation == FAR_machine_operation_source_on;
    if (is_source) {
        struct far_row_workload workload; /* the id in it finds a machine that was given another name */
        FAR_TRY(far_row_need(step, &far_schema_row_workload, task->workload_id, &workload));
        FAR_TRY(far_machine_config_bytes(step, workload.config_id, &machine->config));
        machine->timeout_s = run.shutdown_s;
        machine->force = run.force;
    } else {
        bool is_up = task->operation == FAR_machine_operation_up, is_gate = task->operation == FAR_machine_operation_gate;
        FAR_TRY(far_run_recovery(step, m.recovery_id, config));
        machine->at_once = is_up && run.at_once;
        FAR_TRY(list_disks(step, &m, config, run.at_once, &machine->disks));
        FAR_TRY(is_up ? fill_up(step, &run, m.point_id, machine) : 0);
        FAR_TRY(is_gate ? fill_gate(step, task, config, machine) : 0);
        machine->recovery = (struct far_list){.items = config, .count = is_up || is_gate}; /* a gate: the addresses that it will have */
    }
    order->machine = (struct far_list){.items = machine, .count = 1};
    order->checkpoint_id = run.checkpoint_id;
    return 0;
}
