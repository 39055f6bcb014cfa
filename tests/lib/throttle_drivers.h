/* The drivers of the tables of bandwidth limits and time zones: a part of test_fsm_tables.c, whose world and ways to give an input
 * they use. */
#ifndef FAR_TESTS_LIB_THROTTLE_DRIVERS_H
#define FAR_TESTS_LIB_THROTTLE_DRIVERS_H

extern const struct far_table far_table_throttle;

static const struct far_sub_zone_change zone_changes[] = {{0, 3600, 0}, {2000000000, 7200, 0}};
static const uint64_t monday = 1;
static const struct far_sub_throttle_window window = {.days = {&monday, 1}, .from_min = 60, .to_min = 120, .bytes_per_s = 50000};

static void set_zone(void)
{
    MUST(&w, zone_set, .name = S("Some/Where"), .changes = {zone_changes, 2}, .until_s = 2000000001);
}
static void reach_throttle(unsigned state)
{
    set_zone();
    if (state == 1) {
        MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 20000);
    } else if (state == 2) {
        MUST(&w, throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 20000, .zone = S("Some/Where"),
             .windows = {&window, 1});
    }
}
static void give_throttle(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        COMMAND(throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .bytes_per_s = 30000);
        break;
    case 1:
        COMMAND(throttle_set, .scope = FAR_throttle_scope_plan, .name = S("p"), .windows = {&window, 1});
        break;
    case 2:
        COMMAND(throttle_remove, .scope = FAR_throttle_scope_plan, .name = S("p"));
        break;
    case 3:
        EVENT(plan_removed, .id = plan);
        break;
    case 4:
        EVENT(throttle_shifted, .scope = FAR_throttle_scope_plan, .plan_id = plan, .in_force_bytes_per_s = 50000, .next_ms = w.now_ms + 9);
        break;
    default:
        if (state == 2) {
            COMMAND(zone_set, .name = S("Some/Where"), .changes = {zone_changes, 1}, .until_s = 2000000001);
        } else {
            by_table(&far_table_throttle, state, input); /* the others go by no zone */
        }
    }
}
static unsigned see_throttle(void)
{
    struct far_row_throttle row;
    struct far_key key = far_key(&far_schema_row_throttle);
    far_key_u64(&key, plan);
    int rc = far_state_get(&w.state, &far_schema_row_throttle, &key, &w.arena, &row, &w.err);
    return rc == FAR_NOT_FOUND ? 0 : row.windows.count > 0 ? 2 : 1;
}

static void reach_zone(unsigned state)
{
    if (state == 1) {
        set_zone();
    }
}
static void give_zone(unsigned state, unsigned input)
{
    COMMAND(zone_set, .name = S("Some/Where"), .changes = {zone_changes, 1}, .until_s = 3);
}
static unsigned see_zone(void)
{
    uint64_t id;
    return far_query_id(&w.state, &far_schema_row_zone, S("Some/Where"), &id, NULL) == 0;
}

#endif
