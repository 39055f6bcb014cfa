/* Which checkpoints of a plan are kept: by its rules, because somebody preserved or locked them, because a job reads them, or because
 * nothing better is left. */
#include "fsm/keep.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#define HOUR 3600000ull
#define DAY (24 * HOUR)

static struct world w;
static uint64_t nodes[2], plan, workload;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, "web", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web"}, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* Of a world in which an event was forged. */
static int forget_world(void **unused)
{
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), 0);
    world_done(&w);
    return 0;
}

/* Nodes hold no lease over a night without reports. */
static void boot(void)
{
    static uint8_t nonce = 10;
    nonce = (uint8_t)(nonce + 1);
    world_pass(&w, 1);
    for (size_t i = 0; i < 2; i++) {
        if (world_row_node(&w, nodes[i]).state != FAR_node_state_up) {
            world_boot(&w, nodes[i], (uint8_t)(2 * nonce + i));
        }
    }
}

static void work(void)
{
    boot();
    world_pass(&w, 2);
    world_work_all(&w, nodes, 2);
}

static uint64_t cycle(void)
{
    boot();
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    return world_row_job(&w, job).checkpoint_id;
}

static void pass(uint64_t ms)
{
    world_pass(&w, ms);
    work();
}

static uint64_t state_of(uint64_t checkpoint_id)
{
    return world_row_checkpoint(&w, checkpoint_id).state;
}

#define HERE(id) assert_int_equal(state_of(id), FAR_point_state_available)
#define GONE(id) assert_int_equal(state_of(id), FAR_point_state_removed)

/* ---- the rules alone ---- */

static uint64_t at(uint64_t year, uint64_t month, uint64_t day, uint64_t hour) /* from 2026 on */
{
    static const uint64_t before[] = {0, 31, 59, 90, 120, 151, 181, 212, 243, 273, 304, 334};
    uint64_t days = 20454 + (year - 2026) * 365 + (year > 2028) + before[month - 1] + (day - 1);
    return (days * 24 + hour) * HOUR;
}

static unsigned bit(enum far_keep_rule rule)
{
    return 1u << rule;
}

static void each_rule_keeps_the_last_of_its_hours_days_weeks_and_months(void **unused)
{
    struct far_keep keep = {.counts = {2, 2, 2, 2, 3}};
    /* Monday, November 30th, 2026 */
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 30, 12) + 5, true),
                     bit(FAR_KEEP_LAST) | bit(FAR_KEEP_HOURLY) | bit(FAR_KEEP_DAILY) | bit(FAR_KEEP_WEEKLY) | bit(FAR_KEEP_MONTHLY));
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 30, 12), true), bit(FAR_KEEP_LAST));
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 30, 11), true), bit(FAR_KEEP_HOURLY));
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 30, 10), true), 0);
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 29, 23), true), bit(FAR_KEEP_DAILY) | bit(FAR_KEEP_WEEKLY)); /* Sunday */
    assert_int_equal(far_keep_next(&keep, at(2026, 11, 28, 1), true), 0);
    assert_int_equal(far_keep_next(&keep, at(2026, 10, 31, 23), true), bit(FAR_KEEP_MONTHLY));
    assert_int_equal(far_keep_next(&keep, at(2026, 10, 1, 0), true), 0);
    assert_int_equal(far_keep_next(&keep, at(2026, 7, 9, 0), true), bit(FAR_KEEP_MONTHLY)); /* months that have none do not count */
    assert_int_equal(far_keep_next(&keep, at(2026, 6, 9, 0), true), 0);
}

static void a_damaged_one_takes_no_place(void **unused)
{
    struct far_keep keep = {.counts = {1, 0, 0, 0, 0}};
    assert_int_equal(far_keep_next(&keep, 3 * DAY, false), bit(FAR_KEEP_LAST));
    assert_int_equal(far_keep_next(&keep, 2 * DAY, true), bit(FAR_KEEP_LAST));
    assert_int_equal(far_keep_next(&keep, DAY, false), 0);
}

static void days_begin_by_the_clocks_of_the_zone(void **unused)
{
    /* two hours east of UTC, one hour from 2026-10-25T01:00Z on: the hour from 2 to 3 comes twice, and is one */
    const struct far_sub_zone_change changes[] = {{0, 7200, 0}, {at(2026, 10, 25, 1) / 1000, 3600, 0}};
    struct far_keep daily = {.counts = {0, 0, 5, 0, 0}, .changes = {changes, 2}};
    assert_int_equal(far_keep_next(&daily, at(2026, 10, 24, 22), true), bit(FAR_KEEP_DAILY)); /* the 25th there */
    assert_int_equal(far_keep_next(&daily, at(2026, 10, 24, 21), true), bit(FAR_KEEP_DAILY));
    assert_int_equal(far_keep_next(&daily, at(2026, 10, 23, 23), true), 0);
    struct far_keep hourly = {.counts = {0, 5, 0, 0, 0}, .changes = {changes, 2}};
    assert_int_equal(far_keep_next(&hourly, at(2026, 10, 25, 2), true), bit(FAR_KEEP_HOURLY));
    assert_int_equal(far_keep_next(&hourly, at(2026, 10, 25, 1), true), bit(FAR_KEEP_HOURLY));
    assert_int_equal(far_keep_next(&hourly, at(2026, 10, 25, 0), true), 0);
    assert_int_equal(far_keep_next(&hourly, at(2026, 10, 24, 23), true), bit(FAR_KEEP_HOURLY));
}

/* ---- in the log ---- */

static void without_rules_everything_is_kept(void **unused)
{
    uint64_t ids[5];
    for (size_t i = 0; i < 5; i++) {
        ids[i] = cycle();
        pass(DAY);
    }
    for (size_t i = 0; i < 5; i++) {
        HERE(ids[i]);
    }
}

static void what_the_rules_do_not_keep_goes_with_its_points(void **unused)
{
    uint64_t ids[6], points[6];
    MUST(&w, plan_retention_set, .name = S("p"), .last = 2);
    for (size_t i = 0; i < 6; i++) {
        ids[i] = cycle();
        points[i] = world_row_workload(&w, workload).last_point_id;
        pass(HOUR);
    }
    for (size_t i = 0; i < 4; i++) {
        GONE(ids[i]);
        assert_int_equal(world_row_point(&w, points[i]).state, FAR_point_state_removed);
    }
    HERE(ids[4]);
    HERE(ids[5]);
    assert_int_equal(world_row_node(&w, nodes[1]).point_count, 2);
    MUST(&w, plan_retention_set, .name = S("p"));
    for (size_t i = 0; i < 3; i++) {
        cycle();
    }
    HERE(ids[4]);
}

static void days_are_kept_when_hours_are_over(void **unused)
{
    uint64_t first_day[3], second_day[3];
    MUST(&w, plan_retention_set, .name = S("p"), .hourly = 2, .daily = 3);
    w.now_ms = at(2026, 12, 1, 8);
    for (size_t i = 0; i < 3; i++) {
        first_day[i] = cycle();
        pass(HOUR);
    }
    w.now_ms = at(2026, 12, 2, 8);
    for (size_t i = 0; i < 3; i++) {
        second_day[i] = cycle();
        pass(HOUR);
    }
    GONE(first_day[0]);
    GONE(first_day[1]);
    HERE(first_day[2]); /* the last one of its day */
    GONE(second_day[0]);
    HERE(second_day[1]);
    HERE(second_day[2]);
}

static void preserved_ones_stay_until_they_are_given_free(void **unused)
{
    uint64_t first = cycle();
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1);
    assert_int_equal(APPLY(&w, checkpoint_preserve, .checkpoint_id = first), FAR_INVALID);
    MUST(&w, checkpoint_preserve, .checkpoint_id = first, .reason = S("before the merger"));
    uint64_t second = cycle(), third = cycle();
    pass(DAY);
    HERE(first);
    GONE(second);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = first), FAR_CONFLICT);
    assert_non_null(strstr(w.result.message, "before the merger"));
    MUST(&w, checkpoint_unpreserve, .checkpoint_id = first);
    pass(1000);
    GONE(first);
    HERE(third);
}

static void a_lock_is_only_lengthened_and_holds_against_everybody(void **unused)
{
    uint64_t first = cycle(), until_ms = w.now_ms + 3 * DAY;
    uint64_t job = MUST(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = until_ms);
    work();
    assert_int_equal(world_row_job(&w, job).kind, FAR_job_kind_lock);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(APPLY(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = until_ms - 1), FAR_DENIED);
    assert_int_equal(APPLY(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = w.now_ms), FAR_INVALID);
    assert_int_equal(APPLY(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = w.now_ms + 4000 * DAY), FAR_INVALID);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = first), FAR_DENIED);
    assert_int_equal(APPLY(&w, plan_erase, .name = S("p"), .confirm = S("p")), FAR_DENIED);
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1);
    uint64_t second = cycle();
    pass(DAY);
    HERE(first);
    MUST(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = until_ms + DAY);
    pass(2 * DAY);
    HERE(first);
    pass(DAY + HOUR); /* retention comes back by itself when the lock ends */
    GONE(first);
    HERE(second);
}

static void a_locked_one_outlives_its_plan(void **unused)
{
    uint64_t first = cycle();
    MUST(&w, checkpoint_lock, .checkpoint_id = first, .until_ms = w.now_ms + DAY);
    work();
    MUST(&w, plan_remove, .name = S("p"));
    assert_non_null(strstr(w.result.message, "stay"));
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = first), FAR_DENIED);
    pass(DAY + 1);
    MUST(&w, checkpoint_remove, .checkpoint_id = first);
}

static void a_plan_locks_what_its_cycles_make(void **unused)
{
    struct far_list list;
    assert_int_equal(APPLY(&w, plan_update, .name = S("p"), .lock_days = 3661), FAR_INVALID);
    MUST(&w, plan_update, .name = S("p"), .lock_days = 7);
    uint64_t begun_ms = w.now_ms;
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    bool is_told = false;
    for (int i = 0; i < 12; i++) {
        for (size_t n = 0; n < 2; n++) {
            assert_int_equal(far_query_orders(&w.state, nodes[n], 100, &w.arena, &list, &w.err), 0);
            for (size_t k = 0; k < list.count; k++) {
                const struct far_sub_order *order = (const struct far_sub_order *)list.items + k;
                is_told = is_told || (order->kind == FAR_task_kind_seal && order->lock_until_ms == begun_ms + 7 * DAY);
            }
            world_work(&w, nodes[n]);
        }
    }
    assert_true(is_told);
    uint64_t checkpoint = world_row_job(&w, job).checkpoint_id;
    assert_int_equal(world_row_checkpoint(&w, checkpoint).locked_until_ms, begun_ms + 7 * DAY);
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = checkpoint), FAR_DENIED);
    struct far_slice clear = S("lock_days");
    MUST(&w, plan_update, .name = S("p"), .clear = {&clear, 1}); /* what is locked stays locked */
    assert_int_equal(APPLY(&w, checkpoint_remove, .checkpoint_id = checkpoint), FAR_DENIED);
}

static void damage(uint64_t checkpoint_id)
{
    boot();
    uint64_t job = MUST(&w, checkpoint_verify, .checkpoint_id = checkpoint_id);
    struct far_row_task task = world_row_task(&w, job, 1);
    assert_int_equal(world_report(&w, &task, (struct far_sub_report_item){.state = FAR_report_state_done, .blocks_damaged = 2}), 0);
    assert_int_equal(state_of(checkpoint_id), FAR_point_state_damaged);
}

static void the_newest_sound_one_is_never_removed_by_age(void **unused)
{
    uint64_t good = cycle(), older;
    MUST(&w, plan_retention_set, .name = S("p"), .last = 2);
    older = good;
    for (size_t i = 0; i < 4; i++) {
        uint64_t id = cycle();
        damage(id);
        pass(HOUR);
    }
    HERE(older); /* four newer ones, and each of them is damaged */
    good = cycle();
    pass(HOUR);
    HERE(good);
    HERE(older); /* the second that counts */
    cycle();
    pass(HOUR);
    GONE(older);
}

/* As if the audit had found that the disk's lists lie. */
static void suspect(uint64_t checkpoint_id)
{
    struct far_row_checkpoint_member member;
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_checkpoint_member), at = far_key(&far_schema_row_progress);
    struct far_buf payload;
    far_key_u64(&key, checkpoint_id);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_checkpoint_member, &key, &w.arena, NULL, &member, &w.err), 0);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &at, &w.arena, &progress, &w.err), 0);
    struct far_ev_points_suspected ev = {.workload_id = workload, .point_ids = {&member.point_id, 1}};
    far_buf_init(&payload, 4096);
    assert_int_equal(far_schema_encode(&far_schema_ev_points_suspected, &ev, &payload, &w.err), 0);
    struct far_event event = {.seq = progress.next_seq,
                              .kind = far_schema_ev_points_suspected.kind,
                              .time_ms = w.now_ms,
                              .payload = far_buf_slice(&payload)};
    assert_int_equal(far_fsm_evolve(&w.state, &event, &w.err), 0);
    far_buf_done(&payload);
}

static void a_suspect_one_does_not_replace_the_last_sound_one(void **unused)
{
    w.lists = true;
    uint64_t sound = cycle(), newer[4];
    for (size_t i = 0; i < 4; i++) {
        newer[i] = cycle();
        suspect(newer[i]);
        world_pass(&w, HOUR);
    }
    MUST(&w, plan_retention_set, .name = S("p"), .last = 2);
    pass(HOUR);
    HERE(sound);
    GONE(newer[0]);
    GONE(newer[1]);
    HERE(newer[2]);
    HERE(newer[3]);
    cycle(); /* nobody finds fault with this one */
    pass(HOUR);
    GONE(sound);
}

static void one_that_a_job_reads_goes_when_it_is_read(void **unused)
{
    struct far_sub_restore_spec spec = {S("root"), S("/out/1")};
    uint64_t first = cycle();
    boot();
    uint64_t job = MUST(&w, recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = first, .disks = {&spec, 1});
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1);
    uint64_t next = MUST(&w, plan_replicate, .name = S("p"));
    for (int i = 0; i < 12; i++) {
        struct far_list list;
        world_work(&w, nodes[0]);
        assert_int_equal(far_query_orders(&w.state, nodes[1], 100, &w.arena, &list, &w.err), 0);
        for (size_t k = 0; k < list.count; k++) { /* the restore takes longer */
            const struct far_sub_order *order = (const struct far_sub_order *)list.items + k;
            struct far_row_task task = world_row_task(&w, order->job_id, order->task);
            struct far_row_task send = task.kind == FAR_task_kind_receive ? world_row_task(&w, task.job_id, task.task - 1) : task;
            struct far_sub_report_item item = {.state = FAR_report_state_done, .bytes_total = 1, .bytes_done = 1};
            item.root = send.root.len != 0 ? send.root : far_slice((const uint8_t *)"01234567890123456789012345678901", 32);
            if (task.kind != FAR_task_kind_restore && (task.kind != FAR_task_kind_receive || send.state == FAR_task_state_done)) {
                assert_int_equal(world_report(&w, &task, item), 0);
            }
        }
        world_pass(&w, 100);
    }
    assert_int_equal(world_row_job(&w, next).state, FAR_job_state_succeeded);
    HERE(first);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_running);
    MUST(&w, job_cancel, .job_id = job);
    pass(11 * 60000);
    GONE(first);
}

static void a_look_at_many_goes_on_at_the_next_tick(void **unused)
{
    enum { MANY = 700 };
    static uint64_t ids[MANY];
    for (size_t i = 0; i < MANY; i++) {
        ids[i] = cycle();
        world_pass(&w, 1000);
        far_arena_reset(&w.arena);
    }
    MUST(&w, plan_retention_set, .name = S("p"), .last = 300, .monthly = 2);
    uint64_t ticks = 0, gone = 0, last = 0;
    for (; gone < MANY - 300 && ticks < 100; ticks++) {
        w.now_ms += 1;
        MUST(&w, tick);
        while (gone < MANY - 300 && state_of(ids[MANY - 301 - gone]) == FAR_point_state_removed) {
            far_arena_reset(&w.arena);
            gone++;
        }
        assert_true(gone - last <= 32);
        last = gone;
    }
    assert_int_equal(gone, MANY - 300);
    print_message("# %llu ticks\n", (unsigned long long)ticks);
    work();
    for (size_t i = 0; i < MANY; i++) {
        assert_int_equal(state_of(ids[i]), i >= MANY - 300 ? FAR_point_state_available : FAR_point_state_removed);
        far_arena_reset(&w.arena);
    }
}

static void rules_have_bounds_and_zones_must_be_known(void **unused)
{
    assert_int_equal(APPLY(&w, plan_retention_set, .name = S("q"), .last = 1), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, plan_retention_set, .name = S("p"), .last = 10001), FAR_INVALID);
    assert_int_equal(APPLY(&w, plan_retention_set, .name = S("p"), .last = 1, .zone = S("Some/Where")), FAR_NOT_FOUND);
    const struct far_sub_zone_change change = {0, 3600, 0};
    MUST(&w, zone_set, .name = S("Some/Where"), .changes = {&change, 1}, .until_s = 2000000001);
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1, .zone = S("Some/Where"));
    uint64_t events = w.events;
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1, .zone = S("Some/Where"));
    assert_int_equal(w.events, events);
}

static void what_was_there_before_level_4_is_listed_when_it_comes(void **unused)
{
    world_verify(&w);
    world_done(&w);
    world_init(&w);
    w.level = 3;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, "web", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web"}, 1);
    uint64_t first = cycle(), second = cycle();
    assert_int_equal(APPLY(&w, plan_retention_set, .name = S("p"), .last = 1), FAR_CONFLICT);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, feature_level_raise, .level = 4);
    w.actor = 0;
    far_fsm_invariants(&w.state, &w.err);
    MUST(&w, plan_retention_set, .name = S("p"), .last = 1);
    pass(1000);
    GONE(first);
    HERE(second);
    MUST(&w, vault_reclaim, .node = S("dst"));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(each_rule_keeps_the_last_of_its_hours_days_weeks_and_months),
        cmocka_unit_test(a_damaged_one_takes_no_place),
        cmocka_unit_test(days_begin_by_the_clocks_of_the_zone),
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        IN_A_WORLD(without_rules_everything_is_kept),
        IN_A_WORLD(what_the_rules_do_not_keep_goes_with_its_points),
        IN_A_WORLD(days_are_kept_when_hours_are_over),
        IN_A_WORLD(preserved_ones_stay_until_they_are_given_free),
        IN_A_WORLD(a_lock_is_only_lengthened_and_holds_against_everybody),
        IN_A_WORLD(a_locked_one_outlives_its_plan),
        IN_A_WORLD(a_plan_locks_what_its_cycles_make),
        IN_A_WORLD(the_newest_sound_one_is_never_removed_by_age),
        cmocka_unit_test_setup_teardown(a_suspect_one_does_not_replace_the_last_sound_one, setup, forget_world),
        IN_A_WORLD(one_that_a_job_reads_goes_when_it_is_read),
        IN_A_WORLD(a_look_at_many_goes_on_at_the_next_tick),
        IN_A_WORLD(rules_have_bounds_and_zones_must_be_known),
        IN_A_WORLD(what_was_there_before_level_4_is_listed_when_it_comes),
    };
    return cmocka_run_group_tests_name("fsm_retention", tests, NULL, NULL);
}
