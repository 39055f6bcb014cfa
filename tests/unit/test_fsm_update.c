/* What a person changes of a workload: what is not named stays, a wrong revision changes nothing, disks move only while nothing
 * reads them. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

static struct world w;
static uint64_t id;

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    id = world_workload(&w, "db", 2);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static struct far_row_disk disk_row(uint64_t index)
{
    struct far_row_disk row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_disk);
    far_key_u64(&key, id);
    far_key_u32(&key, (uint32_t)index);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_disk, &key, &w.arena, &row, &w.err), 0);
    return row;
}

#define UPDATE(...) APPLY(&w, workload_update, .name = S("db"), __VA_ARGS__)
/* Refused with this class, a word of the reason, and nothing changed. */
#define REFUSED(klass_, word, ...)                                          \
    do {                                                                    \
        struct far_hash128 before = w.state.digest;                         \
        assert_int_equal(UPDATE(__VA_ARGS__), klass_);                      \
        assert_non_null(strstr(w.result.message, word));                    \
        assert_true(far_hash128_equal(w.state.digest, before));             \
    } while (0)

static void assert_text(struct far_slice is, const char *should)
{
    assert_true(far_slice_equal(is, far_slice_str(should)));
}

static void what_is_not_named_stays(void **unused)
{
    struct far_sub_label labels[] = {{S("owner"), S("ann")}, {S("tier"), S("1")}};
    assert_int_equal(UPDATE(.description = S("the books"), .labels = {labels, 2}), 0);
    struct far_row_workload before = world_row_workload(&w, id);
    assert_int_equal(UPDATE(.labels = {labels, 1}), 0);
    struct far_row_workload row = world_row_workload(&w, id);
    assert_text(row.description, "the books");
    assert_int_equal(row.labels.count, 1);
    assert_text(((const struct far_sub_label *)row.labels.items)[0].value, "ann");
    assert_int_equal(row.revision, before.revision + 1);
    assert_int_equal(row.disk_count, before.disk_count);
}

static void fields_that_are_named_are_cleared(void **unused)
{
    struct far_sub_label label = {S("owner"), S("ann")};
    struct far_slice clear[] = {S("description"), S("labels")}, wrong = S("name");
    assert_int_equal(UPDATE(.description = S("x"), .labels = {&label, 1}), 0);
    assert_int_equal(UPDATE(.clear = {clear, 1}), 0);
    assert_int_equal(world_row_workload(&w, id).description.len, 0);
    assert_int_equal(world_row_workload(&w, id).labels.count, 1);
    assert_int_equal(UPDATE(.clear = {clear + 1, 1}), 0);
    assert_int_equal(world_row_workload(&w, id).labels.count, 0);
    REFUSED(FAR_INVALID, "cleared", .clear = {&wrong, 1});
    REFUSED(FAR_INVALID, "at once", .clear = {clear, 1}, .description = S("y"));
}

static void a_wrong_revision_changes_nothing(void **unused)
{
    assert_int_equal(UPDATE(.description = S("one"), .conditional = true, .revision = 0), 0);
    REFUSED(FAR_CONFLICT, "revision 1", .description = S("two"), .conditional = true, .revision = 0);
    assert_int_equal(UPDATE(.description = S("two"), .conditional = true, .revision = 1), 0);
}

static void bad_changes_are_refused(void **unused)
{
    struct far_sub_label twice[] = {{S("a"), S("1")}, {S("a"), S("2")}}, bad = {S("A b"), S("1")};
    REFUSED(FAR_INVALID, "nothing to change", .revision = 0);
    REFUSED(FAR_INVALID, "twice", .labels = {twice, 2});
    REFUSED(FAR_INVALID, "label", .labels = {&bad, 1});
    assert_int_equal(APPLY(&w, workload_update, .name = S("nobody"), .description = S("x")), FAR_NOT_FOUND);
}

static void disks_move_to_places_that_are_free(void **unused)
{
    struct far_row_disk first = disk_row(0), second = disk_row(1);
    struct far_sub_disk_spec move = {first.name, S("/new/place")}, taken = {first.name, second.locator},
                             unknown = {S("nodisk"), S("/x")}, relative = {first.name, S("x")};
    struct far_sub_disk_spec swap[] = {{first.name, second.locator}, {second.name, first.locator}};
    REFUSED(FAR_CONFLICT, "that place", .disks = {&taken, 1});
    REFUSED(FAR_NOT_FOUND, "nodisk", .disks = {&unknown, 1});
    REFUSED(FAR_INVALID, "absolute", .disks = {&relative, 1});
    assert_int_equal(UPDATE(.disks = {swap, 2}), 0);
    assert_true(far_slice_equal(disk_row(0).locator, second.locator));
    assert_int_equal(UPDATE(.disks = {&move, 1}), 0);
    assert_text(disk_row(0).locator, "/new/place");
    assert_true(far_slice_equal(disk_row(1).locator, first.locator));
}

static void disks_do_not_move_while_a_cycle_reads_them(void **unused)
{
    const char *names[] = {"db"};
    struct far_row_disk first = disk_row(0);
    struct far_sub_disk_spec move = {first.name, S("/new/place")};
    uint64_t nodes[2] = {world_node(&w, "n1", "paris"), world_node(&w, "n2", "lyon")};
    world_plan(&w, "gold", names, 1);
    MUST(&w, plan_replicate, .name = S("gold"));
    REFUSED(FAR_CONFLICT, "runs a cycle", .disks = {&move, 1});
    assert_int_equal(UPDATE(.description = S("words may change")), 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(UPDATE(.disks = {&move, 1}), 0);
}

static void the_largest_row_fits(void **unused)
{
    char text[400];
    struct far_sub_label labels[8];
    static char keys[8][32];
    memset(text, 'd', sizeof text);
    for (int i = 0; i < 8; i++) {
        memset(keys[i], 'a' + i, sizeof keys[i]);
        labels[i] = (struct far_sub_label){far_slice(keys[i], 32), far_slice(text, 63)};
    }
    assert_int_equal(UPDATE(.description = far_slice(text, sizeof text), .labels = {labels, 8}), 0);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_not_named_stays, setup, teardown),
        cmocka_unit_test_setup_teardown(fields_that_are_named_are_cleared, setup, teardown),
        cmocka_unit_test_setup_teardown(a_wrong_revision_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(bad_changes_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(disks_move_to_places_that_are_free, setup, teardown),
        cmocka_unit_test_setup_teardown(disks_do_not_move_while_a_cycle_reads_them, setup, teardown),
        cmocka_unit_test_setup_teardown(the_largest_row_fits, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
