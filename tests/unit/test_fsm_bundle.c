/* What a report changes is one event, whatever jobs it is of, and the report itself goes with it: the event budget. */
#include "fsm/task.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

enum { PLANS = 4, SHARE = 5 };

static struct world w;
static uint64_t nodes[2], jobs[PLANS];

static int setup_at(uint64_t level)
{
    static char names[PLANS][SHARE][16];
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    for (size_t p = 0; p < PLANS; p++) {
        const char *members[SHARE];
        char plan[16];
        for (size_t i = 0; i < SHARE; i++) {
            snprintf(names[p][i], sizeof names[p][i], "w%zu-%zu", p, i);
            world_workload(&w, names[p][i], 1);
            members[i] = names[p][i];
        }
        snprintf(plan, sizeof plan, "p%zu", p);
        world_plan(&w, plan, members, SHARE);
        jobs[p] = MUST(&w, plan_replicate, .name = S(plan));
    }
    return 0;
}

static int setup(void **unused)
{
    return setup_at(0);
}

static int setup_before(void **unused)
{
    return setup_at(FAR_BUNDLE_LEVEL - 1);
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* ---- the events from a place in the log on ---- */

static struct far_event next_event(size_t *at)
{
    struct far_event event;
    memcpy(&event, w.log.data + *at, sizeof event);
    event.payload = far_slice(w.log.data + *at + sizeof event, event.payload.len);
    *at += sizeof event + event.payload.len;
    return event;
}

static size_t count_from(size_t at, uint16_t kind)
{
    size_t count = 0;
    while (at < w.log.len) {
        count += next_event(&at).kind == kind;
    }
    return count;
}

static struct far_ev_tasks_changed first_change(size_t at)
{
    struct far_ev_tasks_changed changed = {0};
    while (at < w.log.len) {
        struct far_event event = next_event(&at);
        if (event.kind == FAR_KIND_ev_tasks_changed) {
            assert_int_equal(far_schema_decode(&far_schema_ev_tasks_changed, event.payload, &w.arena, &changed, &w.err), 0);
            return changed;
        }
    }
    fail();
    return changed;
}

static void assert_states(uint64_t task, uint64_t state)
{
    for (size_t p = 0; p < PLANS; p++) {
        assert_int_equal(world_row_task(&w, jobs[p], task).state, state);
    }
}

/* ---- the cases ---- */

static void ends_of_several_jobs_are_one_event_with_the_report(void **unused)
{
    size_t at = w.log.len;
    assert_int_equal(world_work(&w, nodes[0]), PLANS * SHARE); /* all freezes */
    assert_int_equal(count_from(at, FAR_KIND_ev_tasks_changed), 1);
    assert_int_equal(count_from(at, FAR_KIND_ev_node_reported), 0);
    assert_states(1, FAR_task_state_done);
    assert_states(5, FAR_task_state_assigned);

    struct far_ev_tasks_changed changed = first_change(at);
    const struct far_sub_task_change *items = changed.items.items;
    size_t of[PLANS] = {0};
    for (size_t i = 0; i < changed.items.count; i++) {
        assert_int_not_equal(items[i].job_id, changed.job_id); /* that is said once */
        for (size_t p = 0; p < PLANS; p++) {
            of[p] += jobs[p] == (items[i].job_id != 0 ? items[i].job_id : changed.job_id);
        }
    }
    for (size_t p = 0; p < PLANS; p++) {
        assert_int_equal(of[p], 3 * SHARE); /* the freeze, the send, the receive */
    }
    struct far_row_node node = world_row_node(&w, nodes[0]);
    assert_int_equal(changed.node_id, nodes[0]);
    assert_int_equal(changed.sequence, node.sequence);
    assert_int_equal(changed.lease_until_ms, node.lease_until_ms);
    assert_int_equal(node.seen_ms, w.now_ms);
}

static void before_its_level_each_job_has_its_own(void **unused)
{
    size_t at = w.log.len;
    world_work(&w, nodes[0]);
    assert_int_equal(count_from(at, FAR_KIND_ev_tasks_changed), PLANS);
    assert_int_equal(count_from(at, FAR_KIND_ev_node_reported), 1);
    assert_int_equal(first_change(at).node_id, 0);
    assert_states(1, FAR_task_state_done);
}

static void a_report_that_changes_nothing_is_told_alone(void **unused)
{
    size_t at = w.log.len;
    struct far_row_task stale = world_row_task(&w, jobs[0], 1);
    stale.attempt = 7;
    assert_int_equal(world_report(&w, &stale, (struct far_sub_report_item){.state = FAR_report_state_done}), 0);
    assert_int_equal(count_from(at, FAR_KIND_ev_node_reported), 1);
    assert_int_equal(count_from(at, FAR_KIND_ev_tasks_changed), 0);
    assert_states(1, FAR_task_state_assigned);
}

static void samples_stay_in_an_event_that_can_be_compacted(void **unused)
{
    size_t at = w.log.len;
    struct far_row_task first = world_row_task(&w, jobs[0], 1), second = world_row_task(&w, jobs[1], 1);
    struct far_sub_report_item items[] = {
        {.job_id = first.job_id, .task = 1, .attempt = 1, .state = FAR_report_state_running, .bytes_done = 7},
        {.job_id = second.job_id, .task = 1, .attempt = 1, .state = FAR_report_state_failed, .error_class = S("io")},
    };
    struct far_row_node node = world_row_node(&w, nodes[0]);
    w.actor = far_actor(FAR_ACTOR_NODE, node.id);
    MUST(&w, node_report, .node_id = node.id, .boot = node.boot, .sequence = node.sequence + 1, .items = {items, 2});
    w.sequence[node.id % 16] = node.sequence + 1;
    assert_int_equal(count_from(at, FAR_KIND_ev_node_reported), 1);
    assert_int_equal(count_from(at, FAR_KIND_ev_tasks_changed), 1);
    assert_int_equal(first_change(at).node_id, 0);
    assert_int_equal(world_row_task(&w, jobs[0], 1).state, FAR_task_state_running);
    assert_int_equal(world_row_task(&w, jobs[1], 1).attempt, 2);
}

/* Until its report is heard, a node that was down can be given nothing. */
static void a_node_that_was_down_is_heard_before_it_gets_work(void **unused)
{
    world_work(&w, nodes[0]);
    struct far_row_task receive = world_row_task(&w, jobs[0], 5);
    world_pass(&w, 60 * 1000);
    assert_int_equal(world_row_node(&w, nodes[1]).state, FAR_node_state_down);
    size_t at = w.log.len;
    assert_int_equal(world_report(&w, &receive, (struct far_sub_report_item){.state = FAR_report_state_done}), 0);
    assert_int_equal(count_from(at, FAR_KIND_ev_node_reported), 1);
    assert_int_equal(world_row_node(&w, nodes[1]).state, FAR_node_state_up);
}

static void a_cycle_keeps_the_budget(void **unused)
{
    world_work_all(&w, nodes, 2);
    for (size_t p = 0; p < PLANS; p++) {
        char plan[16];
        assert_int_equal(world_row_job(&w, jobs[p]).state, FAR_job_state_succeeded);
        snprintf(plan, sizeof plan, "p%zu", p);
        jobs[p] = MUST(&w, plan_replicate, .name = S(plan));
    }
    size_t at = w.log.len, bytes = 0, count = 0;
    world_work_all(&w, nodes, 2);
    for (size_t p = 0; p < PLANS; p++) {
        assert_int_equal(world_row_job(&w, jobs[p]).state, FAR_job_state_succeeded);
    }
    while (at < w.log.len) {
        bytes += 64 + 32 + 8 + next_event(&at).payload.len;
        count++;
    }
    assert_true(count <= 4 * PLANS * SHARE);
    assert_true(bytes <= 1024 * PLANS * SHARE);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(ends_of_several_jobs_are_one_event_with_the_report, setup, teardown),
        cmocka_unit_test_setup_teardown(before_its_level_each_job_has_its_own, setup_before, teardown),
        cmocka_unit_test_setup_teardown(a_report_that_changes_nothing_is_told_alone, setup, teardown),
        cmocka_unit_test_setup_teardown(samples_stay_in_an_event_that_can_be_compacted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_that_was_down_is_heard_before_it_gets_work, setup, teardown),
        cmocka_unit_test_setup_teardown(a_cycle_keeps_the_budget, setup, teardown),
    };
    return cmocka_run_group_tests_name("what a report changes", tests, NULL, NULL);
}
