/* The drivers of the tables of recovery configurations and schedules: a part of test_fsm_tables.c, whose world and ways to give an input
 * they use. */
#ifndef FAR_TESTS_LIB_PLAN_DRIVERS_H
#define FAR_TESTS_LIB_PLAN_DRIVERS_H

extern const struct far_table far_table_recovery, far_table_machine_config;

static uint64_t version;

static uint64_t version_of_web(void)
{
    struct far_row_plan_workload row = {.plan_id = 0};
    struct far_key key = far_key(&far_schema_row_plan_workload);
    far_key_u64(&key, plan);
    far_key_u64(&key, workload);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_plan_workload, &key, &w.arena, &row, &w.err), 0);
    return row.recovery_id;
}
static void set_processors(uint64_t count)
{
    struct far_sub_recovery config = {.processors = count};
    MUST(&w, recovery_set, .workload = S("web"), .config = {&config, 1});
    version = version_of_web();
}
static void reach_recovery(unsigned state)
{
    version = 0;
    if (state > 0) {
        set_processors(2);
    }
    if (state == 2) {
        uint64_t kept = version;
        cycle();
        set_processors(3);
        version = kept;
    }
}
/* What was made under it goes. */
static void remove_its_checkpoint(void)
{
    uint64_t made = checkpoint;
    cycle();
    COMMAND(checkpoint_remove, .checkpoint_id = made);
}
static void give_recovery(unsigned state, unsigned input)
{
    struct far_sub_recovery config = {.processors = 7};
    uint64_t first = version;
    if (input == 0 && state == 0) {
        COMMAND(recovery_set, .workload = S("web"), .config = {&config, 1});
        version = version_of_web();
    } else if (input == 0 && state == 2) {
        EVENT(recovery_changed, .id = version, .plan_id = plan, .workload_id = workload, .config = {&config, 1});
    } else if (state == 1 && (input == 1 || input == 2)) {
        if (input == 1) {
            cycle(); /* a point is made under it */
        }
        COMMAND(recovery_set, .workload = S("web"), .config = {&config, 1});
        version = first;
    } else if (state == 2 && input == 2) {
        remove_its_checkpoint();
    } else if (input == 5) {
        version = state == 0 ? 100000 : version;
        EVENT(recovery_changed, .id = version, .plan_id = plan, .workload_id = workload, .config = {&config, 1}, .kept = true);
    } else {
        by_table(&far_table_recovery, state, input);
    }
}
static unsigned see_recovery(void)
{
    struct far_row_recovery row;
    struct far_key key = far_key(&far_schema_row_recovery);
    far_key_u64(&key, version);
    int rc = far_state_get(&w.state, &far_schema_row_recovery, &key, &w.arena, &row, &w.err);
    return rc == FAR_NOT_FOUND ? 0 : row.in_force ? 1 : 2;
}

static void change_machine(uint64_t id, bool kept)
{
    uint8_t sum[32] = {7};
    struct far_slice bytes = far_slice(sum, 32);
    EVENT(machine_config_changed, .id = id, .workload_id = workload, .sha256 = bytes, .config = bytes, .kept = kept);
}
static void reach_machine_config(unsigned state)
{
    version = 50000;
    if (state > 0) {
        change_machine(version, false);
    }
    if (state == 2) {
        cycle();
        change_machine(60000, false);
    }
}
static void give_machine_config(unsigned state, unsigned input)
{
    if (input < 2) {
        change_machine(version, input == 1);
    } else if (state == 1 && (input == 2 || input == 3)) {
        if (input == 2) {
            cycle(); /* a point is made under it */
        }
        change_machine(60000, false);
    } else if (state == 2 && input == 3) {
        remove_its_checkpoint();
    } else {
        by_table(&far_table_machine_config, state, input);
    }
}
static unsigned see_machine_config(void)
{
    struct far_row_machine_config row;
    struct far_slice bytes;
    int rc = far_query_machine_config(&w.state, version, &w.arena, &row, &bytes, &w.err);
    return rc == FAR_NOT_FOUND ? 0 : row.newest ? 1 : 2;
}

static void reach_schedule(unsigned state)
{
    struct far_sub_schedule schedule = {.catch_up = FAR_catch_up_now};
    if (state == 1) {
        MUST(&w, plan_schedule_set, .name = S("p"), .interval_s = 60, .schedule = {&schedule, 1});
    }
}
static void give_schedule(unsigned state, unsigned input)
{
    struct far_sub_schedule schedule = {.catch_up = FAR_catch_up_skip};
    if (input == 0) {
        COMMAND(plan_schedule_set, .name = S("p"), .interval_s = 60, .schedule = {&schedule, 1});
    } else if (input == 1) {
        COMMAND(plan_schedule_set, .name = S("p"), .interval_s = 90);
    } else {
        EVENT(plan_removed, .id = plan);
    }
}
static unsigned see_schedule(void)
{
    struct far_row_plan_schedule row;
    struct far_key key = far_key(&far_schema_row_plan_schedule);
    far_key_u64(&key, plan);
    return far_state_get(&w.state, &far_schema_row_plan_schedule, &key, &w.arena, &row, &w.err) == 0;
}

static const struct far_sub_plan_script script = {.name = {.data = (const uint8_t *)"s", .len = 1}, .timeout_s = 5, .phase = 1};

static void reach_scripts(unsigned state)
{
    if (state == 1) {
        EVENT(plan_scripts_changed, .plan_id = plan, .scripts = {&script, 1});
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_scripts(unsigned state, unsigned input)
{
    if (input == 0) {
        EVENT(plan_scripts_changed, .plan_id = plan, .scripts = {&script, 1});
    } else if (input == 1) {
        EVENT(plan_scripts_changed, .plan_id = plan);
    } else {
        EVENT(plan_removed, .id = plan);
    }
}
static unsigned see_scripts(void)
{
    struct far_row_plan_scripts row;
    struct far_key key = far_key(&far_schema_row_plan_scripts);
    far_key_u64(&key, plan);
    return far_state_get(&w.state, &far_schema_row_plan_scripts, &key, &w.arena, &row, &w.err) == 0;
}

#endif
