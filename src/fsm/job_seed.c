/* Seeding: the vault of a node at the plan's target site takes what another disk holds, so that the first copy of the plan's disk finds
 * those blocks there and sends only what differs: an image that was carried over, or, when a plan goes back, the disk that the
 * machine had there before. One task, on the node that is named; what it brings are blocks, never a point of the plan. The vault forgets
 * it when the disk's first point is sealed there (dataplane/tasks_seed.c). */
#include "fsm/job.h"
#include "fsm/offer.h"
#include "fsm/vault_row.h"

struct wish {
    struct far_row_plan plan;
    struct far_row_workload workload;
    struct far_row_disk disk;
    uint64_t disk_index;
    struct far_row_node node;
};

static int find_disk(struct far_step *step, const struct far_cmd_plan_seed *cmd, struct wish *wish)
{
    const struct far_row_workload *workload = &wish->workload;
    if (cmd->disk.len == 0 && workload->disk_count != 1) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' has %llu disks: which one is to be seeded?", FAR_TEXT(workload->name),
                          FAR_LLU(workload->disk_count));
    }
    for (uint64_t d = 0; d < workload->disk_count; d++) {
        struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &wish->disk));
        if (cmd->disk.len == 0 || far_slice_equal(wish->disk.name, cmd->disk)) {
            wish->disk_index = d;
            return 0;
        }
    }
    return far_reject(step, FAR_NOT_FOUND, "workload '%.*s' has no disk '%.*s'", FAR_TEXT(workload->name), FAR_TEXT(cmd->disk));
}

static int find_node(struct far_step *step, const struct far_cmd_plan_seed *cmd, struct far_slice adapter, struct wish *wish)
{
    struct far_row_site site;
    uint64_t id;
    FAR_TRY(far_name_need(step, &far_schema_row_node, cmd->node, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_node, id, &wish->node));
    FAR_TRY(far_row_need(step, &far_schema_row_site, wish->plan.target_site_id, &site));
    if (wish->node.site_id != site.id) {
        return far_reject(step, FAR_INVALID, "node '%.*s' is not at site '%.*s', where plan '%.*s' keeps its points", FAR_TEXT(cmd->node),
                          FAR_TEXT(site.name), FAR_TEXT(cmd->name));
    }
    if (!far_offer_holds(&wish->node.adapters, adapter)) {
        return far_reject(step, FAR_INVALID, "node '%.*s' has no adapter '%.*s'", FAR_TEXT(cmd->node), FAR_TEXT(adapter));
    }
    return 0;
}

int far_decide_plan_seed(struct far_step *step, const struct far_cmd_plan_seed *cmd)
{
    struct wish *wish = far_step_alloc(step, sizeof *wish);
    struct far_slice adapter = cmd->adapter.len != 0 ? cmd->adapter : far_slice_str("file");
    uint64_t id;
    if (wish == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_name_need(step, &far_schema_row_plan, cmd->name, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_plan, id, &wish->plan));
    FAR_TRY(far_name_need(step, &far_schema_row_workload, cmd->workload, &id));
    FAR_TRY(far_row_need(step, &far_schema_row_workload, id, &wish->workload));
    if (wish->workload.plan_id != wish->plan.id) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' is not in plan '%.*s'", FAR_TEXT(cmd->workload), FAR_TEXT(cmd->name));
    }
    FAR_TRY(find_disk(step, cmd, wish));
    FAR_TRY(far_workload_place_check(step, wish->workload.name, adapter,
                                     &(struct far_sub_disk_spec){.name = wish->disk.name, .locator = cmd->locator}));
    FAR_TRY(find_node(step, cmd, adapter, wish));
    struct far_sub_seed seed = {
        .disk = wish->disk.name, .disk_id = wish->disk.id, .adapter = adapter, .locator = cmd->locator};
    struct far_ev_job_started ev = {.id = step->progress.next_id,
                                    .kind = FAR_job_kind_seed,
                                    .plan_id = wish->plan.id,
                                    .workload_id = wish->workload.id,
                                    .actor = step->actor,
                                    .seed = {.items = &seed, .count = 1}};
    struct far_sub_task_new item = {.kind = FAR_task_kind_seed,
                                    .ready = true,
                                    .workload_id = wish->workload.id,
                                    .disk_index = wish->disk_index,
                                    .vault_node_id = wish->node.id,
                                    .size_bytes = wish->disk.size_bytes};
    step->object_id = ev.id;
    return far_job_begin_at(step, &ev, &item, wish->node.id);
}
