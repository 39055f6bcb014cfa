/* Vaults: when they are reclaimed, what a pass may delete, what they say of themselves; and plans that are erased from them. */
#define _GNU_SOURCE
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <string.h>

#define HOUR 3600000ull
#define DAY (24 * HOUR)

static struct world w;
static uint64_t nodes[2], plan;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 1);
    plan = world_plan(&w, "p", (const char *const[]){"web"}, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static void work(void)
{
    static uint8_t nonce = 10;
    nonce = (uint8_t)(nonce + 1);
    world_pass(&w, 1);
    for (size_t i = 0; i < 2; i++) {
        if (world_row_node(&w, nodes[i]).state != FAR_node_state_up) {
            world_boot(&w, nodes[i], (uint8_t)(2 * nonce + i));
        }
    }
    world_pass(&w, 2);
    world_work_all(&w, nodes, 2);
}

static uint64_t cycle(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    work();
    return world_row_job(&w, job).checkpoint_id;
}

static struct far_row_vault vault(void)
{
    struct far_row_vault row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_vault);
    far_key_u64(&key, nodes[1]);
    (void)far_state_get(&w.state, &far_schema_row_vault, &key, &w.arena, &row, NULL);
    return row;
}

static uint64_t reclaim(void)
{
    uint64_t job = MUST(&w, vault_reclaim, .node = S("dst"));
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    return job;
}

static void a_vault_is_there_from_its_first_point_on(void **unused)
{
    assert_int_equal(APPLY(&w, vault_reclaim, .node = S("dst")), FAR_NOT_FOUND);
    assert_int_equal(vault().id, 0);
    cycle();
    assert_int_equal(vault().id, nodes[1]);
    assert_int_equal(vault().reclaim_due_ms / DAY, (w.now_ms + DAY) / DAY);
}

static void what_a_pass_found_is_deleted_by_a_later_one(void **unused)
{
    cycle();
    struct far_row_job first = world_row_job(&w, reclaim());
    assert_int_equal(first.delete_before, 0);
    assert_int_equal(first.quarantined_records, 3);
    assert_int_equal(first.deleted_records, 0);
    assert_int_equal(first.freed_bytes, 100);
    struct far_row_job second = world_row_job(&w, reclaim());
    assert_int_equal(second.delete_before, first.pass + 1);
    assert_true(second.pass > first.pass);
    assert_int_equal(second.deleted_records, 1);
    assert_int_equal(vault().pass, second.pass);
    assert_int_equal(vault().passes.count, 1); /* of the first nothing is left */
    assert_int_equal(vault().used_bytes, 2000);
    assert_int_equal(vault().unique_bytes, 600);
}

static void a_transfer_that_ran_then_holds_up_the_deletion(void **unused)
{
    cycle();
    uint64_t cycle_job = MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, nodes[0]); /* frozen: the target receives now */
    world_pass(&w, 2);
    uint64_t job = MUST(&w, vault_reclaim, .node = S("dst"));
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_report_item done = {.state = FAR_report_state_done};
    assert_int_equal(world_report(&w, &task, done), 0);
    uint64_t pass = world_row_job(&w, job).pass;
    world_pass(&w, 1000);
    job = MUST(&w, vault_reclaim, .node = S("dst"));
    assert_int_equal(world_row_job(&w, job).delete_before, 0); /* the transfer is older than the first pass */
    task = world_row_task(&w, job, 1);
    assert_int_equal(world_report(&w, &task, done), 0);
    work();
    assert_int_equal(world_row_job(&w, cycle_job).state, FAR_job_state_succeeded);
    world_pass(&w, 1000);
    job = MUST(&w, vault_reclaim, .node = S("dst"));
    assert_true(world_row_job(&w, job).delete_before > pass);
    work();
}

static void one_pass_at_a_time_and_it_can_be_canceled(void **unused)
{
    cycle();
    uint64_t job = MUST(&w, vault_reclaim, .node = S("dst"));
    assert_int_equal(vault().reclaim_job_id, job);
    assert_int_equal(APPLY(&w, vault_reclaim, .node = S("dst")), FAR_CONFLICT);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    assert_int_equal(vault().reclaim_job_id, 0);
    reclaim();
}

static void passes_come_by_themselves_as_the_policy_says(void **unused)
{
    cycle();
    w.now_ms = vault().reclaim_due_ms - 1;
    MUST(&w, tick);
    assert_int_equal(vault().reclaim_job_id, 0);
    w.now_ms += 1;
    MUST(&w, tick);
    uint64_t job = vault().reclaim_job_id;
    assert_int_not_equal(job, 0);
    work(); /* the node was away, and does it when it is back */
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    MUST(&w, vault_policy_set, .node = S("dst"), .reclaim_interval_s = 3600);
    assert_int_equal(vault().reclaim_due_ms, vault().reclaimed_ms + HOUR);
    MUST(&w, vault_policy_set, .reclaim_off = true); /* another one of its own holds */
    assert_int_not_equal(vault().reclaim_due_ms, 0);
    MUST(&w, vault_policy_set, .node = S("dst"), .reclaim_off = true);
    assert_int_equal(vault().reclaim_due_ms, 0);
    assert_int_equal(APPLY(&w, vault_policy_set, .reclaim_interval_s = 59), FAR_INVALID);
}

static void a_vault_that_is_being_reclaimed_is_left_to_the_next_time(void **unused)
{
    cycle();
    MUST(&w, vault_policy_set, .reclaim_interval_s = 60);
    uint64_t job = MUST(&w, vault_reclaim, .node = S("dst"));
    uint64_t due_ms = vault().reclaim_due_ms;
    w.now_ms = due_ms;
    MUST(&w, tick);
    assert_int_equal(vault().reclaim_job_id, job);
    assert_int_equal(vault().reclaim_due_ms, due_ms + 60000);
    work();
}

static void jobs_of_vaults_are_kept_by_themselves(void **unused)
{
    cycle();
    for (size_t i = 0; i < 110; i++) {
        reclaim();
        far_arena_reset(&w.arena);
    }
    struct far_row_plan_job row;
    struct far_key key = far_key(&far_schema_row_plan_job);
    size_t count[2] = {0};
    while (far_state_next(&w.state, &far_schema_row_plan_job, &key, &w.arena, NULL, &row, NULL) == 0) {
        count[0] += row.plan_id == plan;
        count[1] += row.plan_id == nodes[1];
    }
    assert_int_equal(count[0], 1);
    assert_int_equal(count[1], 100);
}

static void samples_tell_how_it_fills(void **unused)
{
    cycle();
    for (size_t i = 0; i < 70; i++) {
        MUST(&w, vault_measure, .node = S("dst"));
        work();
        w.now_ms += HOUR;
        far_arena_reset(&w.arena);
    }
    struct far_row_vault_samples row;
    struct far_key key = far_key(&far_schema_row_vault_samples);
    far_key_u64(&key, nodes[1]);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_vault_samples, &key, &w.arena, &row, NULL), 0);
    assert_int_equal(row.items.count, 60);
}

static void a_line_through_the_samples_says_when_it_is_full(void **unused)
{
    struct far_sub_vault_sample items[60];
    struct far_forecast forecast;
    struct far_list list = {items, 2};
    for (size_t i = 0; i < 60; i++) {
        items[i] = (struct far_sub_vault_sample){.time_ms = 1000 * DAY + i * DAY, .used_bytes = (1000 + 10 * i + (i % 2)) << 30};
    }
    far_query_forecast(&list, 100ull << 30, &forecast);
    assert_false(forecast.is_known); /* too few */
    list.count = 60;
    far_query_forecast(&list, 100ull << 30, &forecast);
    assert_true(forecast.is_known);
    assert_true(forecast.bytes_per_day > (9ull << 30) && forecast.bytes_per_day < (11ull << 30));
    assert_true(forecast.full_ms > items[59].time_ms + 9 * DAY && forecast.full_ms < items[59].time_ms + 11 * DAY);
    for (size_t i = 0; i < 60; i++) {
        items[i].used_bytes = (1000 - i) << 30;
    }
    far_query_forecast(&list, 100ull << 30, &forecast);
    assert_true(forecast.is_known && forecast.full_ms == 0 && forecast.bytes_per_day == 0);
    for (size_t i = 0; i < 60; i++) { /* an exabyte, over years */
        items[i] = (struct far_sub_vault_sample){.time_ms = i * 60 * DAY, .used_bytes = i << 54};
    }
    far_query_forecast(&list, 1ull << 60, &forecast);
    assert_true(forecast.is_known && forecast.bytes_per_day > (1ull << 54) / 70 && forecast.bytes_per_day < (1ull << 54) / 50);
}

/* ---- erasing ---- */

static void a_plan_is_erased_step_by_step(void **unused)
{
    uint64_t checkpoints[20];
    for (size_t i = 0; i < 20; i++) {
        checkpoints[i] = cycle();
    }
    assert_int_equal(APPLY(&w, plan_erase, .name = S("p"), .confirm = S("q")), FAR_INVALID);
    MUST(&w, plan_start, .name = S("p"));
    assert_int_equal(APPLY(&w, plan_erase, .name = S("p"), .confirm = S("p")), FAR_CONFLICT);
    MUST(&w, plan_stop, .name = S("p"));
    MUST(&w, checkpoint_preserve, .checkpoint_id = checkpoints[3], .reason = S("law"));
    assert_int_equal(APPLY(&w, plan_erase, .name = S("p"), .confirm = S("p")), FAR_CONFLICT);
    MUST(&w, checkpoint_unpreserve, .checkpoint_id = checkpoints[3]);
    uint64_t job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
    assert_int_equal(APPLY(&w, plan_replicate, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_remove, .name = S("p")), FAR_CONFLICT);
    for (size_t i = 0; i < 20; i++) {
        work();
        world_verify(&w);
        world_pass(&w, 1000);
    }
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(row.shared_bytes, 50);
    assert_int_equal(row.freed_bytes, 200); /* by two passes */
    assert_int_equal(row.task_count, 1 + 20 + 2);
    for (size_t i = 0; i < 20; i++) {
        assert_int_equal(world_row_checkpoint(&w, checkpoints[i]).state, FAR_point_state_removed);
    }
    assert_int_equal(world_row_node(&w, nodes[1]).point_count, 0);
    MUST(&w, plan_remove, .name = S("p"));
}

/* There is no vault to do anything: the job ends by itself; and so does one of a plan that was erased before. */
static void a_plan_without_points_is_erased_at_once(void **unused)
{
    for (size_t i = 0; i < 2; i++) {
        uint64_t job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
        world_pass(&w, 100);
        struct far_row_job row = world_row_job(&w, job);
        assert_int_equal(row.state, FAR_job_state_succeeded);
        assert_int_equal(row.task_count, 0);
        world_verify(&w);
    }
    cycle();
    for (size_t i = 0; i < 2; i++) {
        uint64_t job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
        for (size_t k = 0; k < 20; k++) {
            work();
            world_pass(&w, 1000);
        }
        assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
        assert_int_equal(world_row_job(&w, job).task_count == 0, i == 1);
    }
    MUST(&w, plan_remove, .name = S("p"));
}

static void erasing_waits_for_transfers_and_can_be_canceled(void **unused)
{
    world_workload(&w, "db", 1);
    world_plan(&w, "q", (const char *const[]){"db"}, 1);
    cycle();
    uint64_t other = MUST(&w, plan_replicate, .name = S("q"));
    world_work(&w, nodes[0]);
    world_pass(&w, 2);
    uint64_t job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
    for (size_t i = 0; i < 40; i++) { /* everything but the transfer of the other plan */
        struct far_row_job row = world_row_job(&w, job);
        for (uint64_t t = 1; t <= row.task_count; t++) {
            struct far_row_task task = world_row_task(&w, job, t);
            if (task.state == FAR_task_state_assigned) {
                assert_int_equal(world_report(&w, &task, (struct far_sub_report_item){.state = FAR_report_state_done}), 0);
            }
        }
        world_pass(&w, 100);
    }
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_running);
    assert_int_equal(row.task_count, 3); /* measured, forgotten, marked: and nothing is deleted yet */
    assert_int_equal(row.tasks_done, 3);
    work();
    assert_int_equal(world_row_job(&w, other).state, FAR_job_state_succeeded);
    for (size_t i = 0; i < 4; i++) {
        world_pass(&w, 10000);
        work();
    }
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    cycle();
    job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
    MUST(&w, job_cancel, .job_id = job);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_canceled);
    cycle();
}

/* Whatever the job has its nodes do is done; passes say that so many points are being read. */
static void do_all(uint64_t job, uint64_t pinned, uint64_t uncountable)
{
    struct far_row_job row = world_row_job(&w, job);
    for (uint64_t t = 1; t <= row.task_count; t++) {
        struct far_row_task task = world_row_task(&w, job, t);
        struct far_sub_reclaimed said = {
            .points_pinned = pinned, .points_uncountable = uncountable, .problem = S(uncountable > 0 ? "manifest 7 is damaged" : "")};
        struct far_sub_report_item done = {.state = FAR_report_state_done,
                                           .reclaimed = {&said, task.kind == FAR_task_kind_reclaim}};
        if (task.state == FAR_task_state_assigned) {
            assert_int_equal(world_report(&w, &task, done), 0);
        }
    }
    world_pass(&w, 1000);
    world_boot(&w, nodes[1], 200); /* it is up, however long it takes */
}

static uint64_t erase_and_work(uint64_t job, uint64_t pinned, uint64_t uncountable, size_t rounds)
{
    for (size_t i = 0; i < rounds; i++) {
        do_all(job, pinned, uncountable);
    }
    return world_row_job(&w, job).task_count;
}

static void a_plan_is_not_erased_as_long_as_some_of_it_is_left(void **unused)
{
    cycle();
    uint64_t job = MUST(&w, plan_erase, .name = S("p"), .confirm = S("p"));
    uint64_t passes = erase_and_work(job, 1, 0, 40);
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_running);
    assert_memory_equal(row.error_message.data, "some of it may be left: in 1 vaults 1 forgotten points", 54);
    assert_true(erase_and_work(job, 1, 0, 200) > passes); /* it is tried again */
    erase_and_work(job, 0, 2, 400);
    row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_running);
    assert_non_null(memmem(row.error_message.data, row.error_message.len, "manifest 7 is damaged", 21));
    passes = row.task_count;
    erase_and_work(job, 0, 0, 4000);
    row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_succeeded);
    assert_int_equal(row.error_message.len, 0);
    assert_int_equal(row.task_count, passes + 2); /* one that lets go, one that deletes */
}

/* ---- scrubs ---- */

static uint64_t scrub(const uint64_t *points, size_t count, bool ended)
{
    uint64_t job = MUST(&w, vault_scrub, .node = S("dst"), .bytes = 1 << 20);
    struct far_row_task task = world_row_task(&w, job, 1);
    struct far_sub_scrub_damage damage = {.point_id = count > 0 ? points[0] : 0, .disk = S("d0"), .block_count = 1, .text = S("rot")};
    struct far_sub_scrubbed said = {.rotation = 7, .point_id = 3, .block = 5, .done_permille = 400, .damage_count = count > 0,
                                    .rotation_ended = ended};
    struct far_sub_report_item done = {.state = FAR_report_state_done,
                                       .scrubbed = {&said, 1},
                                       .scrub_damages = {&damage, count > 0},
                                       .damaged_point_ids = {points, count}};
    assert_int_equal(world_report(&w, &task, done), 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    return job;
}

static uint64_t point_of(uint64_t checkpoint_id)
{
    struct far_row_checkpoint_member row;
    struct far_key key = far_key(&far_schema_row_checkpoint_member);
    far_key_u64(&key, checkpoint_id);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_checkpoint_member, &key, &w.arena, NULL, &row, NULL), 0);
    return row.point_id;
}

static size_t alerts_of(uint64_t kind)
{
    struct far_row_alert row;
    struct far_key key = far_key(&far_schema_row_alert);
    size_t count = 0;
    while (far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, &row, NULL) == 0) {
        count += row.kind == kind && row.state != FAR_alert_state_cleared;
    }
    return count;
}

static size_t alerts_open(void)
{
    return alerts_of(FAR_alert_kind_vault_damaged);
}

static uint64_t state_of_point(uint64_t id)
{
    struct far_row_point row;
    struct far_key key = far_key(&far_schema_row_point);
    far_key_u64(&key, id);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_point, &key, &w.arena, &row, NULL), 0);
    return row.state;
}

static void scrubs_come_hourly_and_go_on_where_the_last_one_ended(void **unused)
{
    cycle();
    assert_int_equal(vault().scrub_due_ms, 0); /* as long as nobody gave it a budget */
    MUST(&w, vault_policy_set, .scrub_bytes_per_hour = 1 << 20);
    uint64_t due_ms = vault().scrub_due_ms;
    w.now_ms = due_ms;
    MUST(&w, tick);
    uint64_t job = vault().scrub_job_id;
    assert_int_equal(vault().scrub_due_ms, due_ms + HOUR);
    assert_int_equal(world_row_job(&w, job).scrub_bytes, 1 << 20);
    assert_int_equal(APPLY(&w, vault_scrub, .node = S("dst")), FAR_CONFLICT);
    MUST(&w, job_cancel, .job_id = job);
    assert_int_equal(vault().scrub_job_id, 0);
    world_boot(&w, nodes[1], 77);
    scrub(NULL, 0, false);
    assert_int_equal(vault().scrub_permille, 400);
    assert_int_equal(vault().scrub_proven_ms, 0);
    uint64_t began_ms = vault().scrub_began_ms;
    MUST(&w, vault_scrub, .node = S("dst"));
    struct far_list orders;
    assert_int_equal(far_query_orders(&w.state, nodes[1], 10, &w.arena, &orders, &w.err), 0);
    const struct far_sub_order *order = orders.items;
    assert_int_equal(orders.count, 1);
    assert_true(order->scrub_rotation == 7 && order->scrub_point_id == 3 && order->scrub_block == 5 && order->scrub_bytes == 1 << 20);
    work(); /* the rotation ends */
    assert_int_equal(vault().scrub_proven_ms, began_ms);
    assert_int_equal(vault().scrub_began_ms, 0);
    MUST(&w, vault_policy_set, .reclaim_off = true);
    assert_int_equal(vault().scrub_due_ms, 0);
}

static void what_a_scrub_finds_is_an_alert_until_it_is_verified(void **unused)
{
    uint64_t checkpoints[] = {cycle(), cycle()};
    uint64_t points[] = {point_of(checkpoints[0]), point_of(checkpoints[1]), 1ull << 63};
    scrub(points, 3, false);
    assert_int_equal(alerts_open(), 1);
    assert_int_equal(vault().damaged_point_ids.count, 2); /* an imported one is none of the log's */
    assert_int_equal(state_of_point(points[0]), FAR_point_state_damaged);
    assert_int_equal(state_of_point(points[1]), FAR_point_state_damaged);
    scrub(NULL, 0, true); /* the damage was found in this rotation: that says nothing */
    assert_int_equal(alerts_open(), 1);
    MUST(&w, checkpoint_verify, .checkpoint_id = checkpoints[0]);
    work();
    assert_int_equal(state_of_point(points[0]), FAR_point_state_available);
    assert_int_equal(alerts_open(), 1);
    scrub(NULL, 0, false);
    assert_int_equal(vault().damaged_point_ids.count, 1);
    MUST(&w, checkpoint_verify, .checkpoint_id = checkpoints[1]);
    work();
    assert_int_equal(alerts_open(), 0);
    scrub(&points[1], 1, true);
    assert_int_equal(alerts_open(), 1);
    scrub(NULL, 0, true); /* a whole rotation without damage */
    assert_int_equal(alerts_open(), 0);
    assert_int_equal(state_of_point(points[1]), FAR_point_state_available);
    assert_int_equal(vault().damaged_point_ids.count, 0);
}

/* There is room for 16 places: what nobody needs any more keeps none from being known. */
static void places_of_removed_points_give_way_at_the_next_pass(void **unused)
{
    for (int is_reclaim = 0; is_reclaim < 2; is_reclaim++) {
        uint64_t checkpoints[] = {cycle(), cycle()};
        uint64_t points[] = {point_of(checkpoints[0]), point_of(checkpoints[1])};
        scrub(points, 2, false);
        scrub(&points[1], 1, false);
        assert_int_equal(vault().scrub_damages.count, 2);
        MUST(&w, checkpoint_remove, .checkpoint_id = checkpoints[0]);
        work();
        if (is_reclaim) {
            reclaim();
        } else {
            scrub(&points[1], 1, false);
        }
        const struct far_sub_scrub_damage *left = vault().scrub_damages.items;
        assert_int_equal(vault().scrub_damages.count, 1);
        assert_int_equal(left->point_id, points[1]);
        assert_int_equal(alerts_open(), 1);
        MUST(&w, checkpoint_remove, .checkpoint_id = checkpoints[1]);
        work();
        reclaim();
        assert_int_equal(vault().scrub_damages.count, 0);
        assert_int_equal(alerts_open(), 0);
        scrub(NULL, 0, true);
    }
}

/* ---- keys ---- */

/* The node boots, and says that its vault `vault_number` has keys of a fingerprint of this byte, and had those before (0: none). */
static void boot_with(uint8_t nonce, uint8_t vault_number, uint8_t keys, uint8_t before)
{
    uint8_t uuid[16], fingerprint[32], fingerprint_before[32];
    memset(uuid, vault_number, sizeof uuid);
    memset(fingerprint, keys, sizeof fingerprint);
    memset(fingerprint_before, before, sizeof fingerprint_before);
    struct far_sub_vault_keys said = {.vault_uuid = far_slice(uuid, 16), .public_key = far_slice(fingerprint, 32),
                                      .fingerprint = far_slice(fingerprint, 32),
                                      .fingerprint_before = far_slice(fingerprint_before, before != 0 ? 32 : 0)};
    uint64_t boot = world_boot(&w, nodes[1], nonce);
    w.actor = far_actor(FAR_ACTOR_NODE, nodes[1]);
    MUST(&w, vault_keys_tell, .node_id = nodes[1], .boot = boot, .keys = {.items = &said, .count = 1});
    assert_int_equal(APPLY(&w, vault_keys_tell, .node_id = nodes[1], .boot = boot - 1), FAR_DENIED);
    assert_int_equal(APPLY(&w, vault_keys_tell, .node_id = nodes[0], .boot = boot), FAR_DENIED);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
}

/* First bytes of the fingerprints that are known, and claimed; 0: none. */
static void check_keys(uint8_t known, uint8_t claimed)
{
    struct far_row_vault_keys row = {.node_id = 0};
    struct far_key key = far_key(&far_schema_row_vault_keys);
    far_key_u64(&key, nodes[1]);
    (void)far_state_get(&w.state, &far_schema_row_vault_keys, &key, &w.arena, &row, NULL);
    assert_int_equal(row.fingerprint.len != 0 ? row.fingerprint.data[0] : 0, known);
    assert_int_equal(row.claimed_fingerprint.len != 0 ? row.claimed_fingerprint.data[0] : 0, claimed);
    assert_int_equal(alerts_of(FAR_alert_kind_vault_keys), claimed != 0);
}

static int trust(uint8_t keys)
{
    uint8_t fingerprint[32];
    memset(fingerprint, keys, sizeof fingerprint);
    return APPLY(&w, vault_trust, .node = S("dst"), .fingerprint = far_slice(fingerprint, 32));
}

static void keys_are_believed_that_follow_those_that_are_known(void **unused)
{
    cycle();
    check_keys(0, 0);
    assert_int_equal(trust(1), FAR_CONFLICT);
    boot_with(1, 7, 1, 0);
    check_keys(1, 0); /* the first ones */
    boot_with(2, 7, 1, 0);
    boot_with(3, 7, 2, 1); /* taken over from the store, with keys that are known */
    check_keys(2, 0);
}

static void other_keys_are_an_alert_until_somebody_says_that_they_are_right(void **unused)
{
    cycle();
    boot_with(1, 7, 1, 0);
    boot_with(2, 7, 3, 2); /* two steps at once: what came between, nobody knows */
    check_keys(1, 3);
    boot_with(3, 7, 3, 2);
    check_keys(1, 3);
    boot_with(4, 7, 1, 0); /* it was attached again, with the right ones */
    check_keys(1, 0);
    boot_with(5, 7, 3, 2);
    assert_int_equal(trust(2), FAR_CONFLICT);
    check_keys(1, 3);
    assert_int_equal(trust(3), 0);
    check_keys(3, 0);
    assert_int_equal(trust(3), 0);
    boot_with(6, 8, 4, 0); /* another vault, and points are in that one */
    check_keys(3, 4);
    MUST(&w, node_remove, .name = S("dst"));
    check_keys(0, 0);
}

static void a_new_vault_of_a_node_without_points_is_believed(void **unused)
{
    boot_with(1, 7, 1, 0);
    boot_with(2, 8, 2, 0);
    check_keys(2, 0);
}

static void a_vault_goes_with_its_node(void **unused)
{
    cycle();
    reclaim();
    MUST(&w, node_remove, .name = S("dst"));
    assert_int_equal(vault().id, 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_WORLD(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        IN_A_WORLD(a_vault_is_there_from_its_first_point_on),
        IN_A_WORLD(what_a_pass_found_is_deleted_by_a_later_one),
        IN_A_WORLD(a_transfer_that_ran_then_holds_up_the_deletion),
        IN_A_WORLD(one_pass_at_a_time_and_it_can_be_canceled),
        IN_A_WORLD(passes_come_by_themselves_as_the_policy_says),
        IN_A_WORLD(a_vault_that_is_being_reclaimed_is_left_to_the_next_time),
        IN_A_WORLD(jobs_of_vaults_are_kept_by_themselves),
        IN_A_WORLD(samples_tell_how_it_fills),
        cmocka_unit_test(a_line_through_the_samples_says_when_it_is_full),
        IN_A_WORLD(a_plan_is_erased_step_by_step),
        IN_A_WORLD(a_plan_without_points_is_erased_at_once),
        IN_A_WORLD(erasing_waits_for_transfers_and_can_be_canceled),
        IN_A_WORLD(a_plan_is_not_erased_as_long_as_some_of_it_is_left),
        IN_A_WORLD(scrubs_come_hourly_and_go_on_where_the_last_one_ended),
        IN_A_WORLD(what_a_scrub_finds_is_an_alert_until_it_is_verified),
        IN_A_WORLD(places_of_removed_points_give_way_at_the_next_pass),
        IN_A_WORLD(keys_are_believed_that_follow_those_that_are_known),
        IN_A_WORLD(other_keys_are_an_alert_until_somebody_says_that_they_are_right),
        IN_A_WORLD(a_new_vault_of_a_node_without_points_is_believed),
        IN_A_WORLD(a_vault_goes_with_its_node),
    };
    return cmocka_run_group_tests_name("fsm_vault", tests, NULL, NULL);
}
