/* Several nodes of a site: how work spreads over them, what a drained one hands over, views that survive their node, who dials. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

#define GIB (1ull << 30)

static struct world w;
static uint64_t s1, s2, t1, t2; /* nodes: two at paris, two at lyon */
static uint64_t nodes[4];
static uint64_t level;

static int setup(void **unused)
{
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    s1 = nodes[0] = world_node(&w, "s1", "paris");
    s2 = nodes[1] = world_node(&w, "s2", "paris");
    t1 = nodes[2] = world_node(&w, "t1", "lyon");
    t2 = nodes[3] = world_node(&w, "t2", "lyon");
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* Workloads "a", "b", … of one disk each, in the plan "p". */
static void protect(size_t count)
{
    static char names[26][2];
    const char *list[26];
    for (size_t i = 0; i < count; i++) {
        names[i][0] = (char)('a' + i);
        list[i] = names[i];
        world_workload(&w, names[i], 1);
    }
    world_plan(&w, "p", list, count);
}

static uint64_t replicate(void)
{
    return MUST(&w, plan_replicate, .name = S("p"));
}

static void work(void)
{
    world_work_all(&w, nodes, 4);
}

static uint64_t id_of(const char *name)
{
    uint64_t id = 0;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_workload, S(name), &id, &w.err), 0);
    return id;
}

static struct far_row_node node(uint64_t id)
{
    return world_row_node(&w, id);
}

/* The tasks of the i-th workload of one disk. */
enum { FREEZE = 1, SEAL, RELEASE, SEND, RECEIVE };
static struct far_row_task task(uint64_t job, size_t i, unsigned at)
{
    return world_row_task(&w, job, 5 * i + at);
}

/* The freeze of this task found a disk of so many bytes. */
static void frozen(const struct far_row_task *freeze, uint64_t size_bytes, bool survives, bool shared)
{
    struct far_sub_disk_found found[4];
    for (size_t d = 0; d < 4; d++) {
        found[d] = (struct far_sub_disk_found){.disk_index = d, .size_bytes = size_bytes, .identity = S("id")};
    }
    assert_int_equal(world_report(&w, freeze,
                                  (struct far_sub_report_item){.state = FAR_report_state_done,
                                                               .outcome = FAR_outcome_ok,
                                                               .freeze_ref = S("view-1"),
                                                               .frozen_at_ms = w.now_ms,
                                                               .survives = survives,
                                                               .shared = shared,
                                                               .disks = {found, 2}}),
                     0);
}

static void runs(const struct far_row_task *row, uint64_t bytes_total, uint64_t bytes_done)
{
    assert_int_equal(world_report(&w, row,
                                  (struct far_sub_report_item){
                                      .state = FAR_report_state_running, .bytes_total = bytes_total, .bytes_done = bytes_done}),
                     0);
}

/* A whole cycle in which the freezes find these sizes. */
static uint64_t cycle_of(const uint64_t *sizes, size_t count)
{
    uint64_t job = replicate();
    for (size_t i = 0; i < count; i++) {
        struct far_row_task freeze = task(job, i, FREEZE);
        frozen(&freeze, sizes[i], false, false);
    }
    return job;
}

static size_t count_on(uint64_t job, size_t count, unsigned at, uint64_t node_id)
{
    size_t on = 0;
    for (size_t i = 0; i < count; i++) {
        on += task(job, i, at).node_id == node_id;
    }
    return on;
}

static const struct far_sub_order *order_of(uint64_t node_id, uint64_t kind)
{
    struct far_list list;
    assert_int_equal(far_query_orders(&w.state, node_id, 100, &w.arena, &list, &w.err), 0);
    const struct far_sub_order *orders = list.items;
    for (size_t i = 0; i < list.count; i++) {
        if (orders[i].kind == kind) {
            return &orders[i];
        }
    }
    return NULL;
}

static void assert_text(struct far_slice is, const char *should)
{
    assert_int_equal(is.len, strlen(should));
    assert_memory_equal(is.data, should, is.len);
}

/* Time passes, and only these nodes say that they are here. */
static void pass_alive(uint64_t ms, const uint64_t *alive, size_t count)
{
    for (uint64_t passed = 0; passed < ms; passed += 5000) {
        world_pass(&w, 5000);
        for (size_t i = 0; i < count; i++) {
            struct far_row_node row = node(alive[i]);
            w.actor = far_actor(FAR_ACTOR_NODE, row.id);
            MUST(&w, node_report, .node_id = row.id, .boot = row.boot, .sequence = row.sequence + 1);
            w.actor = 0;
        }
    }
}

/* ---- load ---- */

static void sixteen_equal_disks_split_evenly_over_both_sides(void **unused)
{
    protect(16);
    for (unsigned cycle = 0; cycle < 3; cycle++) {
        uint64_t job = replicate();
        assert_int_equal(count_on(job, 16, FREEZE, s1), 8);
        work();
        assert_int_equal(count_on(job, 16, SEND, s1), 8);
        assert_int_equal(count_on(job, 16, RECEIVE, t1), 8);
        assert_int_equal(count_on(job, 16, RECEIVE, t2), 8);
    }
    assert_int_equal(node(t1).vault_bytes, 8 * GIB);
    assert_int_equal(node(t1).point_count, 24);
    assert_int_equal(node(s1).todo_bytes + node(t1).todo_bytes + node(t2).receiving_bytes, 0);
}

static void a_big_disk_does_not_land_beside_all_the_small_ones(void **unused)
{
    uint64_t sizes[11] = {1024 * GIB, GIB, GIB, GIB, GIB, GIB, GIB, GIB, GIB, GIB, GIB};
    protect(11);
    uint64_t job = cycle_of(sizes, 11), big_target = task(job, 0, RECEIVE).node_id;
    assert_int_equal(count_on(job, 11, RECEIVE, big_target), 1);
    work();
    job = replicate(); /* the sizes are known before the freeze now */
    assert_int_equal(count_on(job, 11, FREEZE, task(job, 0, FREEZE).node_id), 1);
    work();
}

static void what_is_done_already_does_not_count_as_load(void **unused)
{
    protect(1);
    uint64_t size = 100 * GIB, job = cycle_of(&size, 1);
    struct far_row_task send = task(job, 0, SEND);
    assert_int_equal(node(send.node_id).todo_bytes, 100 * GIB);
    runs(&send, 0, 0);
    assert_int_equal(node(send.node_id).todo_bytes, 100 * GIB);
    runs(&send, 10 * GIB, 4 * GIB); /* an increment: it has less to look at */
    assert_int_equal(node(send.node_id).todo_bytes, 6 * GIB);
    runs(&send, 10 * GIB, 10 * GIB);
    assert_int_equal(node(send.node_id).todo_bytes, 0);
    assert_int_equal(node(task(job, 0, RECEIVE).node_id).receiving_bytes, 100 * GIB);
    world_verify(&w);
    work();
}

static void first_copies_that_become_ready_together_are_spread(void **unused)
{
    struct far_sub_disk_found found = {.size_bytes = GIB, .identity = S("id")};
    struct far_sub_report_item items[8];
    protect(8);
    MUST(&w, node_drain, .name = S("s2"));
    uint64_t job = replicate();
    for (size_t i = 0; i < 8; i++) {
        struct far_row_task row = task(job, i, FREEZE);
        items[i] = (struct far_sub_report_item){.job_id = job, .task = row.task, .attempt = 1, .state = FAR_report_state_done,
                                                .freeze_ref = S("v"), .frozen_at_ms = 1, .disks = {&found, 1}};
    }
    struct far_row_node row = node(s1);
    w.actor = far_actor(FAR_ACTOR_NODE, s1);
    MUST(&w, node_report, .node_id = s1, .boot = row.boot, .sequence = row.sequence + 1, .items = {items, 8});
    w.actor = 0;
    assert_int_equal(count_on(job, 8, RECEIVE, t1), 4);
    assert_int_equal(count_on(job, 8, RECEIVE, t2), 4);
    work();
}

static void a_node_that_joins_takes_its_share_at_the_next_cycle(void **unused)
{
    protect(8);
    MUST(&w, node_drain, .name = S("s2"));
    MUST(&w, node_drain, .name = S("t2"));
    uint64_t job = replicate();
    work();
    assert_int_equal(count_on(job, 8, SEND, s1), 8);
    MUST(&w, node_undrain, .name = S("s2"));
    MUST(&w, node_undrain, .name = S("t2"));
    job = replicate();
    work();
    assert_int_equal(count_on(job, 8, SEND, s2), 4);
    assert_int_equal(count_on(job, 8, RECEIVE, t1), 8); /* where their points are */
    world_workload(&w, "new", 1);
    world_plan(&w, "q", (const char *const[]){"new"}, 1);
    MUST(&w, plan_replicate, .name = S("q"));
    work();
    assert_int_equal(world_row_workload(&w, id_of("new")).target_node_id, t2);
}

static void a_source_keeps_its_workloads_unless_another_has_clearly_less_to_do(void **unused)
{
    protect(3);
    uint64_t sizes[3] = {GIB, GIB, GIB}, job = cycle_of(sizes, 3);
    work();
    assert_int_equal(count_on(job, 3, FREEZE, s1), 2);
    uint64_t held_by[3] = {task(job, 0, FREEZE).node_id, task(job, 1, FREEZE).node_id, task(job, 2, FREEZE).node_id};
    for (unsigned cycle = 0; cycle < 3; cycle++) {
        job = cycle_of(sizes, 3);
        work();
        for (size_t i = 0; i < 3; i++) {
            assert_int_equal(task(job, i, FREEZE).node_id, held_by[i]);
        }
    }
}

/* ---- views ---- */

static void a_surviving_view_is_not_lost_by_a_new_boot(void **unused)
{
    for (unsigned survives = 0; survives < 2; survives++) {
        if (survives == 0) {
            protect(1);
        }
        uint64_t job = replicate();
        struct far_row_task freeze = task(job, 0, FREEZE);
        frozen(&freeze, GIB, survives != 0, false);
        uint64_t boot = world_boot(&w, freeze.node_id, (uint8_t)(7 + survives));
        world_pass(&w, 5);
        struct far_row_task again = task(job, 0, FREEZE), send = task(job, 0, SEND);
        assert_int_equal(again.attempt, survives ? 1 : 2);
        assert_int_equal(again.state == FAR_task_state_done, survives);
        if (survives) {
            assert_int_equal(send.state, FAR_task_state_assigned);
            assert_int_equal(send.attempt, 2);
            assert_int_equal(send.node_id, freeze.node_id);
            assert_int_equal(send.boot, boot);
            assert_text(order_of(freeze.node_id, FAR_task_kind_send)->freeze_ref, "view-1");
        }
        work();
        assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    }
}

static void a_view_that_survives_is_still_lost_with_its_node(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, true, false);
    const uint64_t alive[3] = {freeze.node_id == s1 ? s2 : s1, t1, t2};
    pass_alive(25000, alive, 3);
    assert_int_equal(task(job, 0, FREEZE).attempt, 2);
    assert_int_equal(task(job, 0, FREEZE).node_id, alive[0]);
    world_work_all(&w, alive, 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_shared_view_is_sent_and_released_by_another_when_its_node_is_gone(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, true, true);
    struct far_row_task before = task(job, 0, SEND);
    assert_int_equal(before.node_id, freeze.node_id);
    const uint64_t alive[3] = {freeze.node_id == s1 ? s2 : s1, t1, t2};
    pass_alive(25000, alive, 3);
    struct far_row_task send = task(job, 0, SEND);
    assert_int_equal(task(job, 0, FREEZE).attempt, 1);
    assert_int_equal(send.attempt, 2);
    assert_int_equal(send.node_id, alive[0]);
    assert_text(order_of(alive[0], FAR_task_kind_send)->freeze_ref, "view-1");
    assert_int_equal(task(job, 0, RECEIVE).node_id, before.node_id != 0 ? task(job, 0, RECEIVE).node_id : 0);
    world_work_all(&w, alive, 3);
    assert_int_equal(task(job, 0, RELEASE).node_id, alive[0]);
    assert_int_equal(task(job, 0, RELEASE).state, FAR_task_state_done);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void the_disks_of_a_shared_view_are_sent_by_both_nodes(void **unused)
{
    world_workload(&w, "web", 2);
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    uint64_t job = replicate();
    struct far_row_task freeze = world_row_task(&w, job, 1);
    frozen(&freeze, 10 * GIB, true, true);
    assert_int_not_equal(world_row_task(&w, job, 4).node_id, world_row_task(&w, job, 6).node_id);
    assert_int_equal(world_row_task(&w, job, 5).node_id, world_row_task(&w, job, 7).node_id);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* ---- drain ---- */

static void a_drained_source_hands_its_sends_over_and_releases_its_view(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    uint64_t other = freeze.node_id == s1 ? s2 : s1;
    frozen(&freeze, GIB, false, false);
    struct far_row_task send = task(job, 0, SEND);
    runs(&send, GIB, GIB / 2);
    uint64_t target = task(job, 0, RECEIVE).node_id;
    MUST(&w, node_drain, .name = S(freeze.node_id == s1 ? "s1" : "s2"));
    assert_string_equal(w.result.message, "");
    assert_int_equal(task(job, 0, FREEZE).node_id, other);
    assert_int_equal(task(job, 0, FREEZE).state, FAR_task_state_assigned);
    assert_int_equal(task(job, 0, SEND).attempt, 2);
    const struct far_sub_order *release = order_of(freeze.node_id, FAR_task_kind_release);
    assert_non_null(release);
    assert_text(release->freeze_ref, "view-1");
    assert_int_equal(node(freeze.node_id).task_count, 1);
    work();
    assert_int_equal(task(job, 0, SEND).node_id, other);
    assert_int_equal(task(job, 0, RECEIVE).node_id, target);
    assert_int_equal(task(job, 0, RELEASE).node_id, other); /* of the second view */
    assert_int_equal(node(freeze.node_id).task_count, 0);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* Every view but the first is called so. */
static void finish_with_view(uint64_t job, const char *ref)
{
    struct far_sub_disk_found found = {.size_bytes = GIB, .identity = S("id")};
    struct far_row_task freeze = task(job, 0, FREEZE);
    assert_int_equal(world_report(&w, &freeze,
                                  (struct far_sub_report_item){.state = FAR_report_state_done, .freeze_ref = S(ref),
                                                               .frozen_at_ms = 1, .disks = {&found, 1}}),
                     0);
}

static void both_views_are_released_one_after_the_other(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    uint64_t old = freeze.node_id, other = old == s1 ? s2 : s1;
    frozen(&freeze, GIB, false, false);
    MUST(&w, node_drain, .name = S(old == s1 ? "s1" : "s2"));
    finish_with_view(job, "view-2");
    world_work_all(&w, (const uint64_t[]){other, t1, t2}, 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_running); /* the old view is still there */
    assert_text(order_of(old, FAR_task_kind_release)->freeze_ref, "view-1");
    world_work(&w, old);
    assert_text(order_of(other, FAR_task_kind_release)->freeze_ref, "view-2");
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_drained_source_of_a_shared_view_hands_over_without_another_freeze(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    uint64_t other = freeze.node_id == s1 ? s2 : s1;
    frozen(&freeze, GIB, true, true);
    MUST(&w, node_drain, .name = S(freeze.node_id == s1 ? "s1" : "s2"));
    assert_int_equal(task(job, 0, FREEZE).attempt, 1);
    assert_int_equal(task(job, 0, SEND).node_id, other);
    assert_int_equal(task(job, 0, SEND).attempt, 2);
    assert_int_equal(node(freeze.node_id).task_count, 0);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_freeze_under_way_is_handed_over(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    MUST(&w, node_drain, .name = S(freeze.node_id == s1 ? "s1" : "s2"));
    assert_int_equal(task(job, 0, FREEZE).node_id, freeze.node_id == s1 ? s2 : s1);
    assert_int_equal(task(job, 0, FREEZE).attempt, 2);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_drained_target_finishes_what_it_receives_and_gets_nothing_more(void **unused)
{
    protect(1);
    uint64_t first = replicate();
    work();
    uint64_t old = world_row_workload(&w, id_of("a")).target_node_id, other = old == t1 ? t2 : t1;
    uint64_t checkpoint = world_row_job(&w, first).checkpoint_id;
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    MUST(&w, node_drain, .name = S(old == t1 ? "t1" : "t2"));
    assert_int_equal(task(job, 0, RECEIVE).attempt, 1);
    work();
    assert_int_equal(task(job, 0, RECEIVE).node_id, old);
    assert_int_equal(node(old).point_count, 2);

    job = replicate(); /* a first copy elsewhere */
    freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    assert_int_equal(order_of(other, FAR_task_kind_receive)->base_root.len, 0);
    work();
    assert_int_equal(task(job, 0, RECEIVE).node_id, other);
    assert_int_equal(world_row_workload(&w, id_of("a")).target_node_id, other);
    assert_int_equal(node(old).vault_bytes, 0);
    assert_int_equal(node(other).vault_bytes, GIB);

    uint64_t verify = MUST(&w, checkpoint_verify, .checkpoint_id = checkpoint); /* its old points are readable */
    assert_int_equal(world_row_task(&w, verify, 1).node_id, old);
    assert_int_equal(node(old).todo_bytes, GIB);
    work();
    assert_int_equal(world_row_job(&w, verify).state, FAR_job_state_succeeded);
    MUST(&w, node_undrain, .name = S(old == t1 ? "t1" : "t2"));
    job = replicate();
    work();
    assert_int_equal(task(job, 0, RECEIVE).node_id, other); /* it stays where its points are now */
}

static void a_drained_target_that_dies_is_replaced(void **unused)
{
    protect(1);
    replicate();
    work();
    uint64_t old = world_row_workload(&w, id_of("a")).target_node_id, other = old == t1 ? t2 : t1;
    MUST(&w, node_drain, .name = S(old == t1 ? "t1" : "t2"));
    MUST(&w, node_drain, .name = S(old == t1 ? "t2" : "t1"));
    MUST(&w, node_undrain, .name = S(old == t1 ? "t1" : "t2"));
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    assert_int_equal(task(job, 0, RECEIVE).node_id, old);
    MUST(&w, node_undrain, .name = S(old == t1 ? "t2" : "t1"));
    MUST(&w, node_drain, .name = S(old == t1 ? "t1" : "t2"));
    const uint64_t alive[3] = {s1, s2, other};
    pass_alive(25000, alive, 3);
    assert_int_equal(task(job, 0, RECEIVE).node_id, other);
    world_work_all(&w, alive, 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void draining_the_only_node_warns_and_what_has_begun_goes_on(void **unused)
{
    struct far_slice why;
    protect(1);
    MUST(&w, node_drain, .name = S("s2"));
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    assert_int_equal(freeze.node_id, s1);
    frozen(&freeze, GIB, false, false);
    MUST(&w, node_drain, .name = S("s1"));
    assert_non_null(strstr(w.result.message, "no other node of site 'paris' is up and takes work"));
    assert_int_equal(task(job, 0, SEND).state, FAR_task_state_assigned);
    MUST(&w, node_drain, .name = S("s1")); /* once more: nothing */
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    job = replicate();
    assert_non_null(strstr(w.result.message, "every node of site 'paris' with the adapter 'file' that is up is drained"));
    assert_int_equal(task(job, 0, FREEZE).state, FAR_task_state_ready);
    freeze = task(job, 0, FREEZE);
    assert_int_equal(far_query_wait(&w.state, &freeze, &w.arena, &why, &w.err), 0);
    assert_text(why, "every node of site 'paris' with the adapter 'file' that is up is drained");
    MUST(&w, node_undrain, .name = S("s2"));
    world_pass(&w, 5);
    work();
    assert_int_equal(task(job, 0, FREEZE).node_id, s2);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

static void a_node_is_empty_when_its_points_are_removed(void **unused)
{
    protect(1);
    uint64_t job = replicate();
    work();
    uint64_t old = world_row_workload(&w, id_of("a")).target_node_id;
    const char *name = old == t1 ? "t1" : "t2";
    MUST(&w, node_drain, .name = S(name));
    assert_int_equal(node(old).point_count, 1);
    assert_int_equal(APPLY(&w, node_remove, .name = S("t9")), FAR_NOT_FOUND);
    MUST(&w, checkpoint_remove, .checkpoint_id = world_row_job(&w, job).checkpoint_id);
    assert_int_equal(node(old).point_count, 0);
    assert_int_equal(node(old).vault_bytes, 0);
    assert_int_equal(node(old).task_count, 1); /* forgets */
    work();
    assert_int_equal(node(old).task_count, 0);
    MUST(&w, node_remove, .name = S(name));
    assert_string_equal(w.result.message, "");
}

static void removing_a_node_with_points_warns(void **unused)
{
    protect(1);
    replicate();
    work();
    uint64_t old = world_row_workload(&w, id_of("a")).target_node_id;
    MUST(&w, node_remove, .name = S(old == t1 ? "t1" : "t2"));
    assert_non_null(strstr(w.result.message, "holds 1 recovery points"));
    uint64_t job = replicate(), others[3] = {s1, s2, old == t1 ? t2 : t1}; /* and the workload begins anew on the other one */
    world_work_all(&w, others, 3);
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(world_row_workload(&w, id_of("a")).target_node_id, old == t1 ? t2 : t1);
}

/* ---- who dials ---- */

static void boot_silent(uint64_t node_id)
{
    uint8_t nonce[16] = {99};
    w.actor = far_actor(FAR_ACTOR_NODE, node_id);
    MUST(&w, node_boot, .node_id = node_id, .nonce = far_slice(nonce, 16), .dials_only = true);
    w.actor = 0;
    assert_int_equal(node(node_id).data_address.len, 0);
}

static void the_target_listens_if_it_has_an_address_else_the_source(void **unused)
{
    protect(1);
    MUST(&w, node_drain, .name = S("s2"));
    MUST(&w, node_drain, .name = S("t2"));
    for (unsigned silent = 0; silent < 2; silent++) {
        if (silent) {
            boot_silent(t1);
        }
        uint64_t job = replicate();
        struct far_row_task freeze = task(job, 0, FREEZE);
        frozen(&freeze, GIB, false, false);
        assert_text(order_of(s1, FAR_task_kind_send)->peer_address, silent ? "" : "127.0.0.1:5002");
        assert_text(order_of(t1, FAR_task_kind_receive)->peer_address, silent ? "127.0.0.1:5002" : "");
        work();
        assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    }
}

static void two_nodes_without_addresses_are_told_apart_in_words(void **unused)
{
    protect(1);
    MUST(&w, node_drain, .name = S("s2"));
    MUST(&w, node_drain, .name = S("t2"));
    boot_silent(s1);
    boot_silent(t1);
    world_workload(&w, "z", 1);
    world_plan(&w, "q", (const char *const[]){"z"}, 1);
    assert_non_null(strstr(w.result.message, "nodes 's1' and 't1' have no data address"));
    uint64_t job = replicate();
    work();
    struct far_row_job row = world_row_job(&w, job);
    assert_int_equal(row.state, FAR_job_state_failed);
    char text[FAR_MESSAGE_MAX];
    snprintf(text, sizeof text, "%.*s", (int)row.error_message.len, (const char *)row.error_message.data);
    assert_non_null(strstr(text, "neither node 's1' nor node 't1' has a data address"));
    assert_int_equal(task(job, 0, RELEASE).state, FAR_task_state_done);
}

/* ---- why something waits ---- */

static void assert_waits(uint64_t job, unsigned at, const char *why)
{
    struct far_slice text;
    struct far_row_task row = world_row_task(&w, job, at);
    assert_int_equal(far_query_wait(&w.state, &row, &w.arena, &text, &w.err), 0);
    assert_text(text, why);
}

static void what_waits_says_for_whom(void **unused)
{
    const uint64_t sources[2] = {s1, s2};
    protect(1);
    MUST(&w, node_drain, .name = S("t1"));
    MUST(&w, node_drain, .name = S("t2"));
    uint64_t job = replicate();
    struct far_row_task freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    assert_waits(job, RECEIVE, "every node of site 'lyon' that is up is drained");
    assert_waits(job, SEND, "every node of site 'lyon' that is up is drained");
    assert_waits(job, SEAL, ""); /* for the copy */
    MUST(&w, node_undrain, .name = S("t1"));
    world_pass(&w, 5);
    assert_waits(job, SEND, "");
    work();
    uint64_t checkpoint = world_row_job(&w, job).checkpoint_id;
    pass_alive(25000, sources, 2);
    job = replicate();
    freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    assert_waits(job, RECEIVE, "node 't1', which has the points of this workload, is not up");
    uint64_t verify = MUST(&w, checkpoint_verify, .checkpoint_id = checkpoint);
    assert_waits(verify, 1, "node 't1', which has the point in its vault, is not up");
    world_boot(&w, t1, 9);
    world_pass(&w, 5);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
}

/* ---- the promised RPO ---- */

static void orders_say_when_the_promised_rpo_is_broken(void **unused)
{
    struct far_slice name = S("r");
    world_workload(&w, "r", 1);
    assert_int_equal(APPLY(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"),
                           .workloads = {&name, 1}, .rpo_s = 400ull * 24 * 3600),
                     FAR_INVALID);
    uint64_t plan = MUST(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"),
                         .workloads = {&name, 1}, .rpo_s = 300);
    assert_int_equal(world_row_plan(&w, plan).rpo_s, 300);
    uint64_t job = replicate(), started_ms = w.now_ms;
    struct far_row_task freeze = task(job, 0, FREEZE);
    world_pass(&w, 1000);
    frozen(&freeze, GIB, false, false);
    assert_int_equal(order_of(freeze.node_id, FAR_task_kind_send)->due_ms, started_ms + 300000);
    work();
    uint64_t frozen_ms = world_row_point(&w, world_row_workload(&w, id_of("r")).last_point_id).frozen_at_ms;
    job = replicate();
    freeze = task(job, 0, FREEZE);
    frozen(&freeze, GIB, false, false);
    struct far_row_task receive = task(job, 0, RECEIVE);
    assert_int_equal(order_of(receive.node_id, FAR_task_kind_receive)->due_ms, frozen_ms + 300000);
    work();
}

/* ---- the level ---- */

static int setup_old(void **unused)
{
    level = 3;
    int rc = setup(unused);
    level = 0;
    return rc;
}

static void everything_is_counted_when_the_level_is_reached(void **unused)
{
    protect(4);
    replicate();
    work();
    assert_int_equal(node(t1).vault_bytes + node(t1).point_count + node(s1).todo_bytes, 0);
    uint64_t sizes[4] = {GIB, GIB, GIB, GIB}, job = cycle_of(sizes, 4);
    struct far_row_task send = task(job, 0, SEND);
    runs(&send, GIB, GIB / 4);
    assert_int_equal(APPLY(&w, node_drain, .name = S("s1")), FAR_CONFLICT);
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, feature_level_raise, .level = 4);
    w.actor = 0;
    assert_int_equal(node(t1).point_count, 2);
    assert_int_equal(node(t1).vault_bytes, 2 * GIB);
    assert_int_equal(node(t1).receiving_bytes, 2 * GIB);
    assert_int_equal(node(s1).todo_bytes, 2 * GIB - GIB / 4);
    world_verify(&w);
    work();
    assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded);
    assert_int_equal(node(s1).todo_bytes + node(t1).receiving_bytes, 0);
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)

/* ---- a machine takes the place of another ---- */

static int token_for(const char *name, bool replaces, const char *site)
{
    return APPLY(&w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_node, .hash = S("a place that somebody takes over"),
                 .expires_ms = w.now_ms + 1000000, .site = site != NULL ? S(site) : far_slice(NULL, 0), .replaces = replaces);
}

static int join_as(const char *name)
{
    return APPLY(&w, node_join, .token_hash = S("a place that somebody takes over"), .name = S(name), .data_address = S("10.9.8.7:5002"),
                 .fingerprint = S("fingerprint of another machine ."));
}

static void a_machine_takes_the_place_of_a_node_that_is_down_with_its_points(void **unused)
{
    protect(1);
    replicate();
    work();
    uint64_t target = world_row_workload(&w, id_of("a")).target_node_id;
    const char *name = target == t1 ? "t1" : "t2";
    uint64_t points = world_row_node(&w, target).point_count;
    assert_int_equal(points, 1);
    assert_int_equal(token_for(name, true, NULL), 0);
    assert_int_equal(join_as(name), FAR_CONFLICT); /* it is up */
    world_pass(&w, 60000);
    assert_int_equal(join_as(name), 0);
    assert_int_equal(w.result.object_id, target);
    struct far_row_node row = world_row_node(&w, target);
    assert_int_equal(row.state, FAR_node_state_joined);
    assert_int_equal(row.point_count, points);
    assert_true(far_slice_equal(row.fingerprint, S("fingerprint of another machine .")));
    assert_true(far_slice_equal(row.data_address, S("10.9.8.7:5002")));
    assert_int_equal(join_as(name), FAR_DENIED); /* once */
    uint64_t boot = row.boot;
    for (size_t i = 0; i < 4; i++) {
        world_boot(&w, nodes[i], 9);
    }
    assert_int_equal(world_row_node(&w, target).boot, boot + 1);
    replicate();
    work();
    assert_int_equal(world_row_node(&w, target).point_count, 2); /* increments go on where the points are */
}

static void only_the_place_of_a_node_that_is_there_is_taken_and_at_its_site(void **unused)
{
    assert_int_equal(token_for("nobody", true, NULL), FAR_NOT_FOUND);
    assert_int_equal(token_for("t1", true, "paris"), FAR_CONFLICT);
    assert_int_equal(token_for("t1", false, "lyon"), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, token_create, .name = S("t1"), .purpose = FAR_token_purpose_join_server, .site = S("lyon"),
                           .hash = S("a place that somebody takes over"), .expires_ms = w.now_ms + 1000, .replaces = true), FAR_INVALID);
    assert_int_equal(token_for("t1", true, "lyon"), 0);
    assert_int_equal(join_as("t2"), FAR_DENIED);
    MUST(&w, node_remove, .name = S("t1"));
    assert_int_equal(join_as("t1"), FAR_NOT_FOUND);
}

static void below_level_4_nobody_takes_a_place(void **unused)
{
    assert_int_equal(token_for("t1", true, "lyon"), FAR_CONFLICT); /* the command has no such field: the name is taken */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(sixteen_equal_disks_split_evenly_over_both_sides),
        TEST(a_big_disk_does_not_land_beside_all_the_small_ones),
        TEST(what_is_done_already_does_not_count_as_load),
        TEST(first_copies_that_become_ready_together_are_spread),
        TEST(a_node_that_joins_takes_its_share_at_the_next_cycle),
        TEST(a_source_keeps_its_workloads_unless_another_has_clearly_less_to_do),
        TEST(a_surviving_view_is_not_lost_by_a_new_boot),
        TEST(a_view_that_survives_is_still_lost_with_its_node),
        TEST(a_shared_view_is_sent_and_released_by_another_when_its_node_is_gone),
        TEST(the_disks_of_a_shared_view_are_sent_by_both_nodes),
        TEST(a_drained_source_hands_its_sends_over_and_releases_its_view),
        TEST(both_views_are_released_one_after_the_other),
        TEST(a_drained_source_of_a_shared_view_hands_over_without_another_freeze),
        TEST(a_freeze_under_way_is_handed_over),
        TEST(a_drained_target_finishes_what_it_receives_and_gets_nothing_more),
        TEST(a_drained_target_that_dies_is_replaced),
        TEST(draining_the_only_node_warns_and_what_has_begun_goes_on),
        TEST(a_node_is_empty_when_its_points_are_removed),
        TEST(removing_a_node_with_points_warns),
        TEST(the_target_listens_if_it_has_an_address_else_the_source),
        TEST(two_nodes_without_addresses_are_told_apart_in_words),
        TEST(what_waits_says_for_whom),
        TEST(orders_say_when_the_promised_rpo_is_broken),
        TEST(a_machine_takes_the_place_of_a_node_that_is_down_with_its_points),
        TEST(only_the_place_of_a_node_that_is_there_is_taken_and_at_its_site),
        cmocka_unit_test_setup_teardown(below_level_4_nobody_takes_a_place, setup_old, teardown),
        cmocka_unit_test_setup_teardown(everything_is_counted_when_the_level_is_reached, setup_old, teardown),
    };
    return cmocka_run_group_tests_name("several nodes", tests, NULL, NULL);
}
