/* Every transition table, for the tests and the diagrams: see table.h. */
#include "fsm/table.h"

extern const struct far_table far_table_alert, far_table_calendar, far_table_skip, far_table_compaction, far_table_throttle,
    far_table_zone, far_table_domain, far_table_plan_retention, far_table_vault, far_table_vault_scrub, far_table_erasing,
    far_table_adoption, far_table_recovery, far_table_plan_schedule,
    far_table_plan_scripts, far_table_machine_config, far_table_run;
extern const struct far_table far_table_checkpoint, far_table_clock, far_table_cluster, far_table_command,
    far_table_consumer, far_table_deadline, far_table_head, far_table_incarnation, far_table_job, far_table_leader,
    far_table_level, far_table_node, far_table_plan, far_table_point, far_table_retention, far_table_server,
    far_table_server_key, far_table_site,
    far_table_task, far_table_token, far_table_workload;

const struct far_table *const far_tables[] = {
    &far_table_alert,      &far_table_calendar,   &far_table_skip, &far_table_plan_retention, &far_table_vault, &far_table_erasing,
    &far_table_vault_scrub, &far_table_adoption,
    &far_table_checkpoint, &far_table_clock,  &far_table_cluster,     &far_table_command,    &far_table_consumer,
    &far_table_deadline,   &far_table_head,   &far_table_incarnation, &far_table_job,        &far_table_leader,
    &far_table_level,      &far_table_node,   &far_table_plan,        &far_table_point,      &far_table_server,
    &far_table_server_key, &far_table_site,   &far_table_task,        &far_table_token,      &far_table_workload,
    &far_table_retention,  &far_table_compaction, &far_table_throttle, &far_table_zone,
    &far_table_domain,     &far_table_recovery, &far_table_plan_schedule, &far_table_plan_scripts, &far_table_machine_config,
    &far_table_run,
    NULL,
};

const struct far_cell *far_table_cell(const struct far_table *table, size_t state, size_t input)
{
    static const struct far_cell unlisted = {.kind = FAR_CELL_UNLISTED};
    return state < table->state_count && input < table->input_count ? &table->cells[state * table->input_count + input]
                                                                    : &unlisted;
}
