/* How many jobs are kept: the newest of each plan, and of removed plans together; their rows go, the events stay. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include "fsm/job.h"

static struct world w;
static uint64_t source, target;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    target = world_node(&w, "dst", "lyon");
    world_workload(&w, "web", 2);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* So many cycles of the plan; the ids of the first and the last job. */
static void run_cycles(const char *name, size_t count, uint64_t *ret_first, uint64_t *ret_last)
{
    for (size_t i = 0; i < count; i++) {
        uint64_t job = MUST(&w, plan_replicate, .name = S(name));
        world_work_all(&w, (const uint64_t[]){source, target}, 2);
        assert_int_equal(world_row_job(&w, job).state, FAR_job_state_succeeded); /* also there when it has just ended */
        *(i == 0 ? ret_first : ret_last) = job;
        far_arena_reset(&w.arena);
    }
}

static size_t count_rows(const struct far_schema *table)
{
    union {
        struct far_row_job job;
        struct far_row_task task;
        struct far_row_plan_job listed;
    } row;
    struct far_key key = far_key(table);
    size_t count = 0;
    while (far_state_next(&w.state, table, &key, &w.arena, NULL, &row, NULL) == 0) {
        count++;
        far_arena_reset(&w.arena);
    }
    return count;
}

static bool is_there(uint64_t job)
{
    struct far_key key = far_key(&far_schema_row_job);
    struct far_row_job row;
    far_key_u64(&key, job);
    return far_state_get(&w.state, &far_schema_row_job, &key, &w.arena, &row, NULL) == 0;
}

static void the_newest_jobs_of_a_plan_are_kept_with_their_tasks(void **unused)
{
    uint64_t first = 0, last = 0;
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    run_cycles("p", FAR_JOBS_KEPT, &first, &last);
    assert_true(is_there(first)); /* the bound */
    size_t tasks = count_rows(&far_schema_row_task);
    uint64_t second = 0, events = w.events;
    run_cycles("p", 2, &second, &last);
    assert_false(is_there(first));
    assert_true(is_there(second));
    assert_int_equal(count_rows(&far_schema_row_job), FAR_JOBS_KEPT);
    assert_int_equal(count_rows(&far_schema_row_plan_job), FAR_JOBS_KEPT);
    assert_int_equal(count_rows(&far_schema_row_task), tasks);
    assert_true(w.events > events);
    assert_int_equal(APPLY(&w, job_cancel, .job_id = first), FAR_NOT_FOUND);
}

static void what_removed_plans_leave_is_bounded_too(void **unused)
{
    uint64_t first = 0, last = 0, other = 0;
    for (int i = 0; i < 2; i++) {
        world_plan(&w, "gone", (const char *const[]){"web"}, 1);
        run_cycles("gone", FAR_JOBS_KEPT / 2 + 5, i == 0 ? &first : &other, &last);
        MUST(&w, plan_remove, .name = S("gone"));
    }
    assert_int_equal(count_rows(&far_schema_row_job), FAR_JOBS_KEPT + 10);
    assert_true(is_there(first));
    world_plan(&w, "next", (const char *const[]){"web"}, 1);
    run_cycles("next", 3, &other, &last);
    assert_false(is_there(first));
    assert_int_equal(count_rows(&far_schema_row_job), FAR_JOBS_KEPT + 3);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(the_newest_jobs_of_a_plan_are_kept_with_their_tasks, setup, teardown),
        cmocka_unit_test_setup_teardown(what_removed_plans_leave_is_bounded_too, setup, teardown),
    };
    return cmocka_run_group_tests_name("fsm_prune", tests, NULL, NULL);
}
