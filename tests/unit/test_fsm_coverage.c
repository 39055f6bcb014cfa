/* Lists of changes, the audit that mistrusts them, and what is known of the source: when a list may be used, how the audit goes round a
 * disk, what a missed block means for points, alerts and the next cycle. */
#include "fsm/coverage.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

enum { DISK_BLOCKS = 16384, DAY_MS = 24 * 3600 * 1000 };

static struct world w;
static uint64_t nodes[2], workload, plan;

static int setup(void **unused)
{
    const char *name = "web";
    world_init(&w);
    w.lists = true;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, name, 2);
    plan = world_plan(&w, "p", &name, 1);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

/* ---- what there is ---- */

static struct far_row_coverage coverage(uint64_t disk)
{
    struct far_row_coverage row = {.workload_id = 0};
    struct far_key key = far_key(&far_schema_row_coverage);
    far_key_u64(&key, workload);
    far_key_u32(&key, (uint32_t)disk);
    (void)far_state_get(&w.state, &far_schema_row_coverage, &key, &w.arena, &row, NULL);
    return row;
}

static struct far_row_disk disk_row(uint64_t disk)
{
    struct far_row_disk row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_disk);
    far_key_u64(&key, workload);
    far_key_u32(&key, (uint32_t)disk);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_disk, &key, &w.arena, &row, NULL), 0);
    return row;
}

static struct far_row_point last_point(void)
{
    return world_row_point(&w, world_row_workload(&w, workload).last_point_id);
}

/* The node's order of this kind, about this disk. */
static struct far_sub_order order_of(uint64_t node_id, uint64_t kind, uint64_t disk)
{
    struct far_list list;
    assert_int_equal(far_query_orders(&w.state, node_id, 1000, &w.arena, &list, &w.err), 0);
    for (size_t i = 0; i < list.count; i++) {
        struct far_sub_order order = ((const struct far_sub_order *)list.items)[i];
        if (order.kind == kind && order.disk_index == disk) {
            return order;
        }
    }
    return (struct far_sub_order){.job_id = 0};
}

static uint64_t alert_of(uint64_t kind, uint64_t object_id, struct far_row_alert *ret_row)
{
    struct far_key key = far_key(&far_schema_row_alert);
    while (far_state_next(&w.state, &far_schema_row_alert, &key, &w.arena, NULL, ret_row, NULL) == 0) {
        if (ret_row->kind == kind && ret_row->object_id == object_id && ret_row->state != FAR_alert_state_cleared) {
            return ret_row->id;
        }
    }
    return 0;
}

/* How many events of a kind there are; the last one of them. */
static size_t events_of(const struct far_schema *schema, void *ret_last)
{
    size_t count = 0;
    for (size_t at = 0; at < w.log.len;) {
        struct far_event event;
        memcpy(&event, w.log.data + at, sizeof event);
        event.payload = far_slice(w.log.data + at + sizeof event, event.payload.len);
        if (event.kind == schema->kind) {
            count++;
            assert_int_equal(far_schema_decode(schema, event.payload, &w.arena, ret_last, &w.err), 0);
        }
        at += sizeof event + event.payload.len;
    }
    return count;
}

/* ---- what happens ---- */

/* Time in which the nodes say that they are there. */
static void pass(uint64_t ms)
{
    w.now_ms += ms;
    for (size_t i = 0; i < 2; i++) {
        struct far_row_node node = world_row_node(&w, nodes[i]);
        w.actor = far_actor(FAR_ACTOR_NODE, node.id);
        MUST(&w, node_report, .node_id = node.id, .boot = node.boot, .sequence = node.sequence + 1);
        w.actor = 0;
    }
    world_pass(&w, 1);
}

static uint64_t begin(void)
{
    uint64_t job = MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, nodes[0]); /* the freeze */
    return job;
}

static void cycle(void)
{
    MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, nodes, 2);
}

/* A cycle in which the first disk's send says something else. */
static void cycle_with(struct far_sub_report_item item)
{
    uint64_t job = begin();
    struct far_sub_order order = order_of(nodes[0], FAR_task_kind_send, 0);
    struct far_row_task receive = world_row_task(&w, job, order.task + 1);
    uint8_t root[32] = {9};
    far_put_be64(root + 8, job);
    item.state = FAR_report_state_done;
    item.outcome = FAR_outcome_ok;
    item.root = far_slice(root, 32);
    struct far_row_task send = world_row_task(&w, job, order.task);
    assert_int_equal(world_report(&w, &send, item), 0);
    assert_int_equal(world_report(&w, &receive, (struct far_sub_report_item){.state = FAR_report_state_done, .root = item.root}), 0);
    world_work_all(&w, nodes, 2);
}

static struct far_sub_report_item audited(uint64_t next_block)
{
    return (struct far_sub_report_item){.audit_next_block = next_block, .hashed_bytes = 65536, .duration_ms = 10};
}

static struct far_sub_report_item missed(uint64_t next_block, struct far_sub_block_range *range)
{
    struct far_sub_report_item item = audited(next_block);
    item.missed_block_count = range->block_count;
    item.missed = (struct far_list){.items = range, .count = 1};
    return item;
}

/* ---- when a list is used ---- */

static void the_next_cycle_goes_by_the_list_since_the_base_point(void **unused)
{
    begin();
    struct far_sub_order order = order_of(nodes[0], FAR_task_kind_send, 0);
    assert_int_equal(order.since.len, 0);
    assert_int_equal(order.audit_blocks, 0);
    world_work_all(&w, nodes, 2);
    struct far_slice token = disk_row(0).token;
    assert_int_not_equal(token.len, 0);
    assert_int_equal(last_point().proof, FAR_proof_full);
    begin();
    order = order_of(nodes[0], FAR_task_kind_send, 0);
    assert_true(far_slice_equal(order.since, token));
    assert_int_not_equal(order.base_root.len, 0);
    assert_int_equal(order.audit_first_block, 0);
    assert_int_not_equal(order.audit_blocks, 0);
    assert_false(order.full);
    assert_int_equal(order_of(nodes[1], FAR_task_kind_receive, 0).since.len, 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(last_point().proof, FAR_proof_transfer);
    assert_false(far_slice_equal(disk_row(0).token, token));
}

static void a_failed_cycle_leaves_lineage_and_audit_where_they_were(void **unused)
{
    cycle();
    struct far_row_coverage before = coverage(0);
    struct far_slice token = disk_row(0).token;
    uint64_t job = begin();
    struct far_row_task send = world_row_task(&w, job, order_of(nodes[0], FAR_task_kind_send, 0).task);
    assert_int_equal(world_report(&w, &send, (struct far_sub_report_item){.state = FAR_report_state_failed, .outcome = FAR_outcome_fatal,
                                                                       .error_class = S("io")}), 0);
    assert_false(order_of(nodes[0], FAR_task_kind_release, 0).proven);
    world_work_all(&w, nodes, 2);
    assert_true(far_slice_equal(disk_row(0).token, token));
    assert_int_equal(coverage(0).audit_next_block, before.audit_next_block);
    assert_int_equal(coverage(0).oldest_ms, before.oldest_ms);
}

static void a_view_that_became_a_point_is_kept_for_its_list(void **unused)
{
    begin();
    for (unsigned i = 0; i < 3 && order_of(nodes[0], FAR_task_kind_release, 0).job_id == 0; i++) {
        world_work(&w, nodes[1]);
        world_work(&w, order_of(nodes[0], FAR_task_kind_release, 0).job_id == 0 ? nodes[0] : nodes[1]);
    }
    assert_true(order_of(nodes[0], FAR_task_kind_release, 0).proven);
    world_work_all(&w, nodes, 2);
    w.lists = false;
    begin();
    for (unsigned i = 0; i < 3 && order_of(nodes[0], FAR_task_kind_release, 0).job_id == 0; i++) {
        world_work(&w, nodes[1]);
        world_work(&w, order_of(nodes[0], FAR_task_kind_release, 0).job_id == 0 ? nodes[0] : nodes[1]);
    }
    assert_false(order_of(nodes[0], FAR_task_kind_release, 0).proven); /* no list: nothing to keep */
    world_work_all(&w, nodes, 2);
}

static void a_platform_that_stops_to_keep_lists_is_read_as_a_whole(void **unused)
{
    cycle();
    w.lists = false;
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).since.len, 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(disk_row(0).token.len, 0);
    w.lists = true; /* and what it kept before does not count when it begins again */
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).since.len, 0);
    world_work_all(&w, nodes, 2);
}

static void a_disk_that_moved_has_no_list(void **unused)
{
    struct far_sub_disk_spec move = {.name = S("root"), .locator = S("/elsewhere")};
    cycle();
    MUST(&w, workload_update, .name = S("web"), .disks = {&move, 1});
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).since.len, 0);
    assert_int_not_equal(order_of(nodes[0], FAR_task_kind_send, 1).since.len, 0);
    world_work_all(&w, nodes, 2);
}

static void a_removed_base_takes_its_lineage_along(void **unused)
{
    cycle();
    cycle();
    MUST(&w, checkpoint_remove, .checkpoint_id = last_point().checkpoint_id);
    world_work_all(&w, nodes, 2);
    assert_int_equal(disk_row(0).token.len, 0);
    assert_int_equal(coverage(0).block_count, 0);
    assert_int_not_equal(coverage(0).rate_bytes, 0); /* how fast it is read is still known */
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).since.len, 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(last_point().proof, FAR_proof_full);
}

/* ---- the audit ---- */

static void the_audit_goes_round_within_its_age(void **unused)
{
    MUST(&w, plan_update, .name = S("p"), .audit_age_s = 32 * 3600);
    cycle();
    uint64_t full_ms = coverage(0).full_ms, oldest_age_ms = 0, rounds = 0, before = 0;
    for (unsigned hour = 0; hour < 100; hour++) {
        pass(3600 * 1000);
        cycle();
        struct far_row_coverage row = coverage(0);
        rounds += row.audit_next_block < before;
        before = row.audit_next_block;
        uint64_t age_ms = w.now_ms - row.oldest_ms;
        oldest_age_ms = age_ms > oldest_age_ms ? age_ms : oldest_age_ms;
        assert_int_equal(last_point().oldest_ms, row.oldest_ms);
    }
    assert_true(oldest_age_ms <= 33ull * 3600 * 1000);
    assert_int_equal(rounds, 3);
    assert_int_equal(coverage(0).full_ms, full_ms);
    assert_int_equal(last_point().coverage_ppm, 1000000);
    assert_int_equal(last_point().proof, FAR_proof_transfer);
}

static void coverage_grows_by_what_the_audit_passed(void **unused)
{
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 250000, .audit_age_s = 1);
    cycle();
    assert_int_equal(last_point().coverage_ppm, 1000000);
    for (unsigned i = 1; i <= 5; i++) {
        pass(1000);
        cycle();
        assert_int_equal(last_point().coverage_ppm, i < 4 ? i * 250000 : 1000000);
        assert_int_equal(coverage(1).audit_next_block, i % 4 * DISK_BLOCKS / 4);
    }
}

static void a_cycle_audits_at_most_its_share(void **unused)
{
    cycle();
    pass(30ull * DAY_MS); /* a round is overdue */
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).audit_blocks, (DISK_BLOCKS + 9) / 10);
    world_work_all(&w, nodes, 2);
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 1);
    pass(30ull * DAY_MS);
    begin();
    assert_int_equal(order_of(nodes[0], FAR_task_kind_send, 0).audit_blocks, 1);
    world_work_all(&w, nodes, 2);
}

static void an_old_full_proof_is_made_anew(void **unused)
{
    MUST(&w, plan_update, .name = S("p"), .full_age_s = 3600);
    cycle();
    pass(1800 * 1000);
    cycle();
    assert_int_equal(last_point().proof, FAR_proof_transfer);
    pass(1801 * 1000);
    begin();
    assert_true(order_of(nodes[0], FAR_task_kind_send, 1).full);
    assert_int_not_equal(order_of(nodes[0], FAR_task_kind_send, 1).since.len, 0);
    world_work_all(&w, nodes, 2);
    assert_int_equal(last_point().proof, FAR_proof_full);
}

static void a_resync_hashes_what_was_asked_for(void **unused)
{
    cycle();
    MUST(&w, plan_resync, .name = S("p"), .workload = S("web"), .disk = S("data"));
    world_work(&w, nodes[0]);
    assert_false(order_of(nodes[0], FAR_task_kind_send, 0).full);
    assert_true(order_of(nodes[0], FAR_task_kind_send, 1).full);
    world_work_all(&w, nodes, 2);
    assert_int_equal(last_point().proof, FAR_proof_transfer); /* one disk's proof is not */
    assert_int_equal(coverage(1).full_point_id, last_point().id);
    MUST(&w, plan_resync, .name = S("p"));
    world_work_all(&w, nodes, 2);
    assert_int_equal(last_point().proof, FAR_proof_full);
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p"), .disk = S("data")), FAR_INVALID);
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p"), .workload = S("web"), .disk = S("tape")), FAR_NOT_FOUND);
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p"), .workload = S("nobody")), FAR_NOT_FOUND);
    MUST(&w, plan_resync, .name = S("p"));
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p")), FAR_CONFLICT);
    world_work_all(&w, nodes, 2);
}

/* ---- lists that were wrong ---- */

static bool is_suspect(uint64_t point_id, uint64_t disk)
{
    struct far_row_point_disk row = {.disk_id = 0};
    struct far_key key = far_key(&far_schema_row_point_disk);
    far_key_u64(&key, point_id);
    far_key_u32(&key, (uint32_t)disk);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_point_disk, &key, &w.arena, &row, NULL), 0);
    assert_true(!row.suspect || (row.by_list && world_row_point(&w, point_id).suspect));
    return row.suspect;
}

static void a_missed_block_makes_every_point_by_a_list_suspect(void **unused)
{
    struct far_sub_block_range range = {.first_block = 9000, .block_count = 3};
    struct far_ev_change_list_missed event;
    struct far_ev_points_suspected named;
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id, ids[5];
    static const bool expected[5] = {false, true, true, false, true};
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 1000000, .audit_age_s = 1);
    cycle(); /* full */
    ids[0] = last_point().id;
    cycle_with(audited(8192));
    ids[1] = last_point().id;
    cycle_with(audited(0));
    ids[2] = last_point().id;
    MUST(&w, plan_resync, .name = S("p"));
    world_work_all(&w, nodes, 2);
    ids[3] = last_point().id;
    cycle_with(audited(8192));
    ids[4] = last_point().id;
    cycle_with(missed(0, &range));
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 1);
    assert_int_equal(event.disk_id, disk_id);
    assert_int_equal(event.block_count, 3);
    assert_int_equal(((const struct far_sub_block_range *)event.ranges.items)->first_block, 9000);
    assert_int_equal(event.good_point_id, ids[3]);
    assert_int_equal(event.point_count, 3);
    assert_int_not_equal(event.since.len, 0);
    assert_int_equal(events_of(&far_schema_ev_points_suspected, &named), 1);
    assert_int_equal(named.point_ids.count, 3);
    for (size_t i = 0; i < 5; i++) {
        assert_int_equal(world_row_point(&w, ids[i]).suspect, expected[i]);
        assert_int_equal(is_suspect(ids[i], 0), expected[i]);
        assert_false(is_suspect(ids[i], 1)); /* the other disk's lists were found to miss nothing */
        assert_int_equal(world_row_point(&w, ids[i]).state, FAR_point_state_available);
    }
    assert_int_equal(coverage(0).missed_block_count, 3);
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), 0);
    assert_int_equal(alert.plan_id, plan);
}

/* It was wrong at one point only; each audit since then found it as it should be. */
static void a_block_left_out_once_and_named_by_the_next_list_is_covered_by_a_miss_elsewhere(void **unused)
{
    struct far_sub_block_range elsewhere = {.first_block = 12000, .block_count = 1};
    struct far_ev_change_list_missed event;
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 250000, .audit_age_s = 1);
    cycle();
    cycle_with(audited(4096)); /* block 5000 has changed: not named, not audited */
    uint64_t wrong_id = last_point().id;
    cycle_with(audited(8192)); /* it is audited, but its list names it: nothing looks odd */
    for (unsigned i = 3; i <= 8; i++) {
        cycle_with(audited(i % 4 * 4096));
    }
    struct far_row_coverage row = coverage(0);
    for (size_t i = 0; i < row.marks.count; i++) { /* everything was hashed since */
        assert_true(((const struct far_sub_audit_mark *)row.marks.items)[i].point_id > wrong_id);
    }
    assert_false(world_row_point(&w, wrong_id).suspect);
    cycle_with(audited(4096));
    cycle_with(audited(8192));
    cycle_with(missed(12288, &elsewhere));
    assert_true(world_row_point(&w, wrong_id).suspect);
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 1);
    assert_true(event.good_point_id > wrong_id);
    assert_int_equal(event.point_count, 10);
}

static void what_goes_by_distrusted_lists_is_suspect_from_the_start(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_ev_point_created created;
    struct far_ev_points_suspected named;
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id;
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 500000, .audit_age_s = 1);
    cycle();
    cycle_with(missed(8192, &range)); /* no point went by a list before */
    assert_int_equal(events_of(&far_schema_ev_points_suspected, &named), 0);
    for (unsigned i = 0; i < 3; i++) {
        assert_true(coverage(0).distrusted == (i < 2) && !coverage(1).distrusted);
        events_of(&far_schema_ev_point_created, &created);
        const struct far_sub_point_part *parts = created.disks.items;
        assert_true(parts[0].suspect && !parts[1].suspect);
        assert_true(is_suspect(created.id, 0) && !is_suspect(created.id, 1));
        assert_int_not_equal(world_row_point(&w, created.id).suspected_ms, 0);
        assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert) != 0, i < 2);
        cycle_with(audited(i % 2 == 0 ? 0 : 8192)); /* the second ends the round: before its end lists were not to be trusted */
    }
    assert_false(last_point().suspect);
    assert_int_equal(coverage(0).missed_block_count, 2);
}

static void a_full_proof_is_never_suspect_and_ends_the_distrust(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id;
    cycle();
    cycle_with(missed(100, &range));
    assert_true(is_suspect(last_point().id, 0));
    MUST(&w, plan_resync, .name = S("p"), .workload = S("web"), .disk = S("root"));
    world_work_all(&w, nodes, 2);
    uint64_t resync_id = last_point().id;
    assert_int_equal(last_point().proof, FAR_proof_transfer); /* the other disk's is */
    assert_false(last_point().suspect || coverage(0).distrusted);
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), 0);
    cycle();
    uint64_t trusted_id = last_point().id;
    assert_false(last_point().suspect);
    cycle_with(missed(300, &range));
    assert_true(is_suspect(trusted_id, 0));
    assert_false(is_suspect(resync_id, 0));
}

/* A resync that finds blocks which no list named proves this point, and that lists are not to be trusted on. */
static void a_full_proof_that_finds_missed_blocks_keeps_the_distrust(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_sub_report_item item = missed(0, &range);
    struct far_row_alert alert;
    item.full = true;
    cycle();
    cycle();
    uint64_t by_list_id = last_point().id;
    cycle_with(item);
    uint64_t full_id = last_point().id;
    assert_true(is_suspect(by_list_id, 0));
    assert_false(is_suspect(full_id, 0));
    assert_true(coverage(0).distrusted);
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_missed, disk_row(0).id, &alert), 0);
    cycle();
    assert_true(is_suspect(last_point().id, 0));
}

static void a_removed_base_begins_anew_and_in_full(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_row_alert alert;
    cycle();
    cycle_with(missed(100, &range));
    MUST(&w, checkpoint_remove, .checkpoint_id = last_point().checkpoint_id);
    world_work_all(&w, nodes, 2);
    assert_true(coverage(0).distrusted);
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_missed, disk_row(0).id, &alert), 0);
    cycle();
    assert_false(last_point().suspect || coverage(0).distrusted);
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_row(0).id, &alert), 0);
}

static void what_an_attempt_found_is_told_once_even_if_it_dies(void **unused)
{
    struct far_sub_block_range ranges[] = {{.first_block = 5, .block_count = 3}, {.first_block = 90, .block_count = 1}};
    struct far_sub_report_item running = missed(100, ranges), failed;
    struct far_ev_change_list_missed event;
    struct far_row_alert alert;
    cycle();
    cycle();
    uint64_t suspect_id = last_point().id, job = begin();
    struct far_sub_order order = order_of(nodes[0], FAR_task_kind_send, 0);
    struct far_row_task send = world_row_task(&w, job, order.task);
    running.state = FAR_report_state_running;
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(world_report(&w, &send, running), 0);
    }
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 1);
    assert_true(world_row_point(&w, suspect_id).suspect);
    assert_int_equal(coverage(0).missed_block_count, 3);
    running.missed_block_count = 4;
    running.missed.items = ranges;
    running.missed.count = 2;
    assert_int_equal(world_report(&w, &send, running), 0);
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 2);
    assert_int_equal(event.block_count, 4);
    assert_int_equal(coverage(0).missed_block_count, 4);
    failed = running;
    failed.state = FAR_report_state_failed;
    failed.outcome = FAR_outcome_retry;
    failed.error_class = S("io");
    assert_int_equal(world_report(&w, &send, failed), 0);
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 2);
    pass(1000);
    world_work_all(&w, nodes, 2); /* the next attempt goes on where it was, and finds nothing */
    assert_int_equal(coverage(0).missed_block_count, 4);
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_missed, disk_row(0).id, &alert), 0);
    assert_true(is_suspect(last_point().id, 0));
}

static void many_suspects_are_named_in_pages_and_each_once(void **unused)
{
    enum { POINTS = 300, PAGE = 256 };
    struct far_sub_block_range range = {.first_block = DISK_BLOCKS - 1, .block_count = 1};
    struct far_ev_change_list_missed event;
    struct far_ev_points_suspected named;
    cycle();
    uint64_t full_id = last_point().id;
    for (unsigned i = 0; i < POINTS; i++) {
        cycle();
    }
    cycle_with(missed(coverage(0).audit_next_block + 1, &range));
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 1);
    assert_int_equal(event.good_point_id, full_id);
    assert_int_equal(event.point_count, POINTS);
    assert_int_equal(events_of(&far_schema_ev_points_suspected, &named), 2);
    assert_int_equal(named.point_ids.count, POINTS - PAGE);
    assert_true(is_suspect(last_point().id, 0));
    cycle_with(missed(coverage(0).audit_next_block + 1, &range)); /* the next cycle's list missed it again */
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 2);
    assert_int_equal(event.point_count, POINTS + 1);
    assert_int_equal(events_of(&far_schema_ev_points_suspected, &named), 2); /* all of them are known */
}

static void a_recovery_from_a_suspect_point_is_warned_of(void **unused)
{
    struct far_sub_restore_spec specs[] = {{S("root"), S("/out/a")}, {S("data"), S("/out/b")}};
    struct far_sub_block_range range = {.first_block = 1, .block_count = 1};
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 1000000, .audit_age_s = 1);
    cycle();
    pass(1000);
    cycle();
    uint64_t suspect = last_point().checkpoint_id;
    MUST(&w, plan_resync, .name = S("p"));
    world_work_all(&w, nodes, 2);
    uint64_t full = last_point().checkpoint_id;
    pass(1000);
    MUST(&w, recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = suspect, .disks = {specs, 2});
    assert_string_equal(w.result.message, "");
    world_work_all(&w, nodes, 2);
    cycle_with(missed(0, &range));
    MUST(&w, recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = suspect, .disks = {specs, 2});
    assert_non_null(strstr(w.result.message, "suspect"));
    MUST(&w, recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = full, .disks = {specs, 2});
    assert_string_equal(w.result.message, "");
    world_work_all(&w, nodes, 2);
}

static void the_alert_ends_when_the_audit_went_round_and_found_no_more(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id;
    MUST(&w, plan_update, .name = S("p"), .audit_ppm = 500000, .audit_age_s = 1);
    cycle();
    cycle_with(missed(8192, &range));
    uint64_t id = alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert);
    assert_int_not_equal(id, 0);
    MUST(&w, alert_ack, .alert_id = id, .note = S("told the vendor"));
    pass(60000);
    range.first_block = 9000;
    cycle_with(missed(0, &range));
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), id);
    assert_int_equal(alert.state, FAR_alert_state_acknowledged);
    assert_int_equal(alert.count, 2);
    cycle_with(audited(8192));
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), id);
    cycle_with(audited(0));
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), 0);
    assert_int_equal(APPLY(&w, alert_ack, .alert_id = id), FAR_CONFLICT);
}

static void a_list_that_cannot_be_used_is_told_in_the_platforms_words(void **unused)
{
    struct far_sub_report_item item = {.full = true, .hashed_bytes = 1 << 30, .resync_reason = S("the bitmap 'far-7' is gone")};
    struct far_ev_change_list_refused event;
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id;
    cycle();
    cycle_with(item);
    assert_int_equal(events_of(&far_schema_ev_change_list_refused, &event), 1);
    assert_true(far_slice_equal(event.reason, item.resync_reason));
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_refused, disk_id, &alert), 0);
    assert_int_equal(coverage(0).full_point_id, last_point().id);
    cycle(); /* the list is good again */
    assert_int_equal(alert_of(FAR_alert_kind_change_list_refused, disk_id, &alert), 0);
}

static void what_is_removed_takes_its_alerts_along(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_row_alert alert;
    uint64_t disk_id = disk_row(0).id;
    cycle();
    cycle_with(missed(10, &range));
    assert_int_not_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), 0);
    MUST(&w, plan_remove, .name = S("p"));
    MUST(&w, workload_remove, .name = S("web"));
    assert_int_equal(alert_of(FAR_alert_kind_change_list_missed, disk_id, &alert), 0);
}

static void a_report_without_a_list_says_nothing_of_lists(void **unused)
{
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_ev_change_list_missed event;
    struct far_sub_report_item item = missed(0, &range);
    item.full = true;
    item.resync_reason = S("?");
    cycle_with(item); /* the first cycle */
    assert_int_equal(events_of(&far_schema_ev_change_list_missed, &event), 0);
    assert_int_equal(coverage(0).missed_block_count, 0);
}

/* ---- feature levels ---- */

static bool has_rows(const struct far_schema *table)
{
    struct far_key key = far_key(table);
    void *row = far_arena_alloc(&w.arena, table->size);
    return far_state_next(&w.state, table, &key, &w.arena, NULL, row, NULL) == 0;
}

static void below_level_4_there_is_no_coverage(void **unused)
{
    const char *name = "web";
    world_done(&w);
    world_init(&w);
    w.level = 3;
    world_cluster(&w);
    nodes[0] = world_node(&w, "src", "paris");
    nodes[1] = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, name, 1);
    plan = world_plan(&w, "p", &name, 1);
    cycle();
    cycle();
    assert_false(has_rows(&far_schema_row_coverage) || has_rows(&far_schema_row_workload_point) || has_rows(&far_schema_row_alert));
    assert_int_equal(APPLY(&w, plan_update, .name = S("p"), .audit_ppm = 5), FAR_CONFLICT);
    assert_int_equal(APPLY(&w, plan_resync, .name = S("p")), FAR_CONFLICT);
    assert_int_equal(last_point().coverage_ppm, 1000000);
    uint64_t before_id = last_point().id;
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, feature_level_raise, .level = 4);
    w.actor = 0;
    w.lists = true;
    cycle(); /* there is no lineage yet: all of it is hashed */
    assert_int_equal(last_point().proof, FAR_proof_full);
    cycle();
    assert_int_equal(last_point().proof, FAR_proof_transfer);
    assert_int_not_equal(last_point().oldest_ms, 0);
    MUST(&w, checkpoint_remove, .checkpoint_id = world_row_point(&w, before_id).checkpoint_id); /* it is not listed */
    world_work_all(&w, nodes, 2);
}

static void what_is_newer_than_the_level_is_emptied_also_in_lists(void **unused)
{
    struct far_sub_disk_found found = {.size_bytes = 5, .identity = S("a"), .token = S("b")};
    struct far_sub_block_range range = {.first_block = 1, .block_count = 2};
    struct far_sub_report_item item = {.job_id = 7, .survives = true, .hashed_bytes = 9, .disks = {&found, 1}, .missed = {&range, 1}};
    struct far_msg_report report = {.sequence = 3, .items = {&item, 1}};
    far_schema_lower(&far_schema_msg_report, &report, 4);
    assert_int_equal(far_schema_level(&far_schema_msg_report, &report), 4);
    far_schema_lower(&far_schema_msg_report, &report, 3);
    assert_true(far_schema_level(&far_schema_msg_report, &report) < 4);
    assert_int_equal(item.job_id, 7);
    assert_int_equal(found.size_bytes, 5);
    assert_int_equal(found.token.len, 0);
    assert_int_equal(item.missed.count, 0);
    assert_false(item.survives);
}

/* ---- the stretches ---- */

static void marks_follow_the_audit_stretch_by_stretch(void **unused)
{
    for (uint64_t blocks = 1; blocks < 70; blocks++) {
        for (uint64_t budget = 1; budget <= blocks; budget++) {
            struct far_coverage c = {.row = {.workload_id = 1}};
            uint64_t hashed[70] = {0}, at = 0;
            struct far_sub_point_part part = {.size_bytes = blocks * 65536 - 1, .full = true};
            far_coverage_advance(&c, &part, 1, 1);
            for (uint64_t b = 0; b < blocks; b++) {
                hashed[b] = 1;
            }
            part.full = false;
            for (uint64_t id = 2; id < 40; id++) {
                part.audit_passed_blocks = budget < blocks - at ? budget : blocks - at;
                for (uint64_t k = 0; k < part.audit_passed_blocks; k++) {
                    hashed[at++] = id;
                }
                at = at % blocks;
                far_coverage_advance(&c, &part, id, id);
                assert_int_equal(c.row.audit_next_block, at);
                uint64_t least = UINT64_MAX;
                for (uint64_t b = 0; b < blocks; b++) {
                    struct far_sub_block_range one = {.first_block = b, .block_count = 1};
                    uint64_t good = far_coverage_good_point(&c, &(struct far_list){&one, 1});
                    assert_true(good >= 1 && good <= hashed[b]); /* never said to be younger than it is */
                    least = hashed[b] < least ? hashed[b] : least;
                }
                assert_true(far_coverage_oldest_ms(&c) <= least);
            }
        }
    }
}

static void a_disk_of_another_size_is_not_said_to_be_younger(void **unused)
{
    struct far_coverage c = {.row = {.workload_id = 1}};
    struct far_sub_point_part part = {.size_bytes = 1000 * 65536, .full = true};
    far_coverage_advance(&c, &part, 1, 1);
    part.full = false;
    part.audit_passed_blocks = 500;
    far_coverage_advance(&c, &part, 2, 2);
    part.size_bytes = 2000 * 65536;
    part.audit_passed_blocks = 200;
    far_coverage_advance(&c, &part, 3, 3);
    assert_int_equal(c.row.audit_next_block, 200);
    assert_int_equal(c.row.coverage_ppm, 100000);
    assert_int_equal(far_coverage_oldest_ms(&c), 1);
    assert_false(c.row.distrusted);
    far_coverage_missed(&c, 1, 4);
    part.size_bytes = 3000 * 65536;
    part.audit_passed_blocks = 2999; /* a round begins with the size */
    far_coverage_advance(&c, &part, 4, 4);
    assert_true(c.row.distrusted);
    part.audit_passed_blocks = 1;
    far_coverage_advance(&c, &part, 5, 5);
    assert_false(c.row.distrusted);
}

int main(void)
{
#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        TEST(the_next_cycle_goes_by_the_list_since_the_base_point),
        TEST(a_failed_cycle_leaves_lineage_and_audit_where_they_were),
        TEST(a_view_that_became_a_point_is_kept_for_its_list),
        TEST(a_platform_that_stops_to_keep_lists_is_read_as_a_whole),
        TEST(a_disk_that_moved_has_no_list),
        TEST(a_removed_base_takes_its_lineage_along),
        TEST(the_audit_goes_round_within_its_age),
        TEST(coverage_grows_by_what_the_audit_passed),
        TEST(a_cycle_audits_at_most_its_share),
        TEST(an_old_full_proof_is_made_anew),
        TEST(a_resync_hashes_what_was_asked_for),
        TEST(a_missed_block_makes_every_point_by_a_list_suspect),
        TEST(a_block_left_out_once_and_named_by_the_next_list_is_covered_by_a_miss_elsewhere),
        TEST(what_goes_by_distrusted_lists_is_suspect_from_the_start),
        TEST(a_full_proof_is_never_suspect_and_ends_the_distrust),
        TEST(a_full_proof_that_finds_missed_blocks_keeps_the_distrust),
        TEST(a_removed_base_begins_anew_and_in_full),
        TEST(what_an_attempt_found_is_told_once_even_if_it_dies),
        TEST(many_suspects_are_named_in_pages_and_each_once),
        TEST(a_recovery_from_a_suspect_point_is_warned_of),
        TEST(the_alert_ends_when_the_audit_went_round_and_found_no_more),
        TEST(a_list_that_cannot_be_used_is_told_in_the_platforms_words),
        TEST(what_is_removed_takes_its_alerts_along),
        TEST(a_report_without_a_list_says_nothing_of_lists),
        TEST(below_level_4_there_is_no_coverage),
        TEST(what_is_newer_than_the_level_is_emptied_also_in_lists),
        cmocka_unit_test(marks_follow_the_audit_stretch_by_stretch),
        cmocka_unit_test(a_disk_of_another_size_is_not_said_to_be_younger),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
