/* What a run of a plan took, step by step, and what it lost. The numbers come from fsm/query.h; here they become JSON. */
#include "api/request.h"

#include "fsm/query.h"

#include <stdlib.h>
#include <string.h>

/* The name of a workload, or of a plan; "": it is gone. */
static int name_to_json(struct far_state *state, bool is_plan, uint64_t id, struct far_arena *arena, json_t **ret, struct far_error *err)
{
    struct far_row_workload workload;
    struct far_row_plan plan;
    struct far_key key = far_key(is_plan ? &far_schema_row_plan : &far_schema_row_workload);
    far_key_u64(&key, id);
    int rc = is_plan ? far_state_get(state, &far_schema_row_plan, &key, arena, &plan, err)
                     : far_state_get(state, &far_schema_row_workload, &key, arena, &workload, err);
    *ret = rc != 0 ? json_string("") : far_json_text(is_plan ? plan.name : workload.name);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int add_steps(struct far_state *state, const struct far_run_report *report, struct far_arena *arena, json_t *steps,
                     struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < report->step_count; i++) {
        const struct far_run_turn *step = &report->steps[i];
        json_t *name = NULL;
        rc = name_to_json(state, false, step->slowest_id, arena, &name, err);
        json_array_append_new(steps, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "group", far_json_u64(step->group),
                                               "position", far_json_u64(step->position), "begun_ms", far_json_u64(step->begun_ms),
                                               "ended_ms", far_json_u64(step->ended_ms), "slowest", name, "platform_ms",
                                               far_json_u64(step->platform_ms), "waited_ms", far_json_u64(step->waited_ms), "delay_ms",
                                               far_json_u64(step->delay_ms), "own_ms", far_json_u64(step->own_ms)));
    }
    return rc;
}

/* What the source told of its disks once it was back. */
static json_t *disks_to_json(const struct far_run_loss *loss)
{
    json_t *disks = json_array();
    for (size_t d = 0; d < loss->disk_count; d++) {
        const struct far_row_run_lost_disk *disk = &loss->disks[d];
        const struct far_sub_byte_range *extents = disk->extents.items;
        json_t *list = json_array();
        for (size_t i = 0; i < disk->extents.count; i++) {
            json_array_append_new(list, json_pack("{s:o, s:o}", "offset", far_json_u64(extents[i].offset), "length",
                                                  far_json_u64(extents[i].length)));
        }
        json_array_append_new(disks, json_pack("{s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:o}", "disk", far_json_text(disk->name),
                                               "size_bytes", far_json_u64(disk->size_bytes), "compared_bytes",
                                               far_json_u64(disk->compared_bytes), "by_list", disk->by_list, "skipped", disk->skipped,
                                               "lost_bytes", far_json_u64(disk->lost_bytes), "extent_count",
                                               far_json_u64(disk->extent_count), "extents", list, "problem",
                                               far_json_text(disk->problem)));
    }
    return disks;
}

static int add_losses(struct far_state *state, const struct far_run_report *report, struct far_arena *arena, json_t *losses,
                      struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < report->loss_count; i++) {
        const struct far_run_loss *loss = &report->losses[i];
        const struct far_row_run_lost *told = &loss->told;
        const char *said = told->job_id != 0 ? far_enum_name(&far_enum_lost_state, told->state) : "";
        json_t *name = NULL;
        rc = name_to_json(state, false, loss->workload_id, arena, &name, err);
        json_array_append_new(
            losses,
            json_pack("{s:o, s:o, s:o, s:o, s:o, s:b, s:s, s:o, s:o, s:b, s:o, s:o, s:b, s:o, s:o, s:o, s:o}", "workload", name, "point_id",
                      far_json_u64(loss->point_id), "frozen_at_ms", far_json_u64(loss->frozen_at_ms), "lost_ms",
                      far_json_u64(loss->lost_ms), "until_ms", far_json_u64(loss->until_ms), "estimate", loss->is_estimate, "source", said,
                      "told_ms", far_json_u64(told->told_ms), "compare_job_id", far_json_u64(told->compare_job_id), "was_sending",
                      told->was_sending, "seen_bytes", far_json_u64(told->seen_bytes), "written_ms", far_json_u64(told->written_ms),
                      "has_run_since", told->has_run_since, "note", far_json_text(told->note), "lost_bytes",
                      far_json_u64(loss->lost_bytes), "extent_count", far_json_u64(loss->extent_count), "disks", disks_to_json(loss)));
    }
    return rc;
}

static int add_scripts(struct far_state *state, const struct far_run_report *report, struct far_arena *arena, json_t *scripts,
                       struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < report->script_count; i++) {
        const struct far_run_scripted *each = &report->scripts[i];
        const struct far_sub_plan_script *script = each->row.script.items;
        json_t *name = NULL;
        rc = name_to_json(state, false, each->row.workload_id, arena, &name, err);
        json_t *item = json_pack("{s:o, s:s, s:o, s:s}", "name", far_json_text(script->name), "phase",
                                 far_enum_name(&far_enum_script_phase, script->phase), "workload", name, "state",
                                 far_enum_name(&far_enum_run_script_state, each->row.state));
        json_object_set_new(item, "started_ms", far_json_u64(each->row.started_ms));
        json_object_set_new(item, "ended_ms", far_json_u64(each->row.ended_ms));
        json_object_set_new(item, "status", far_json_u64(each->result.status));
        json_object_set_new(item, "output", far_json_text(each->result.output));
        json_object_set_new(item, "error_message", far_json_text(each->row.error_message));
        json_array_append_new(scripts, item);
    }
    return rc;
}

static int report_in(struct far_api_request *request, struct far_log_view *view, json_t **ret_answer, struct far_error *err)
{
    struct far_arena *arena = &request->arena;
    struct far_run_report report;
    json_t *steps = json_array(), *losses = json_array(), *scripts = json_array(), *plan = NULL;
    const char *param = request->param;
    bool is_id = param[0] != '\0' && strlen(param) < 19 && param[strspn(param, "0123456789")] == '\0';
    int rc = is_id ? far_query_run_report(&view->state, strtoull(param, NULL, 10), arena, &report, err)
                   : far_fail(err, FAR_NOT_FOUND, "there is no run '%s'", param);
    rc = rc != 0 ? rc : add_steps(&view->state, &report, arena, steps, err);
    rc = rc != 0 ? rc : add_losses(&view->state, &report, arena, losses, err);
    rc = rc != 0 ? rc : add_scripts(&view->state, &report, arena, scripts, err);
    rc = rc != 0 ? rc : name_to_json(&view->state, true, report.run.plan_id, arena, &plan, err);
    if (rc != 0) {
        json_decref(steps);
        json_decref(losses);
        json_decref(scripts);
        json_decref(plan);
        return rc;
    }
    const struct far_row_run *run = &report.run;
    *ret_answer = json_pack("{s:o, s:s, s:o, s:s, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:o}", "id", far_json_u64(run->id),
                            "kind", far_enum_name(&far_enum_job_kind, run->kind), "plan", plan, "phase",
                            far_enum_name(&far_enum_run_phase, run->phase), "begun_ms", far_json_u64(run->begun_ms), "up_ms",
                            far_json_u64(run->up_ms), "total_ms", far_json_u64(report.total_ms), "down_ms", far_json_u64(report.down_ms),
                            "forecast_ms", far_json_u64(run->forecast_ms), "disks_ms", far_json_u64(report.disks_ms), "fence_ms",
                            far_json_u64(report.fence_ms), "own_ms", far_json_u64(report.own_ms), "worst_lost_ms",
                            far_json_u64(report.worst_lost_ms), "steps", steps, "losses", losses);
    json_object_set_new(*ret_answer, "scripts_ms", far_json_u64(report.scripts_ms));
    json_object_set_new(*ret_answer, "scripts", scripts);
    return 0;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        rc = report_in(request, &view, ret_answer, err);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_run_report(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
