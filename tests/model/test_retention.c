/* Random cycles, failures, damage, locks, preserved checkpoints, jobs that read and other rules, against what must never happen: that a
 * checkpoint goes while it is locked, preserved or read, that a plan loses its newest one or its last sound one, or that one stays for
 * ever which nothing keeps. And a hundred thousand points of a thousand disks: what a look costs depends on its plan alone. */
#include "fsm/expiry.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <malloc.h>
#include <stdlib.h>

#define HOUR 3600000ull
#define DAY (24 * HOUR)

enum { CHECKPOINTS_MAX = 4000 };

struct model {
    struct world w;
    uint64_t nodes[2], plan;
    uint64_t ids[CHECKPOINTS_MAX];
    bool gone[CHECKPOINTS_MAX];
    size_t count, expired, saved;
    uint64_t random;
    uint8_t nonce;
};

static uint64_t draw(struct model *m, uint64_t below)
{
    m->random ^= m->random << 13;
    m->random ^= m->random >> 7;
    m->random ^= m->random << 17;
    return m->random % below;
}

static void boot(struct model *m)
{
    world_pass(&m->w, 1);
    for (size_t i = 0; i < 2; i++) {
        if (world_row_node(&m->w, m->nodes[i]).state != FAR_node_state_up) {
            world_boot(&m->w, m->nodes[i], ++m->nonce);
        }
    }
    world_pass(&m->w, 2);
}

static bool is_sound(struct model *m, const struct far_row_checkpoint *row)
{
    struct far_error err = {0};
    struct far_step step = {.state = &m->w.state, .arena = &m->w.arena, .err = &err, .time_ms = m->w.now_ms};
    bool sound = false;
    assert_int_equal(far_checkpoint_is_sound(&step, row, &sound), 0);
    return sound;
}

static size_t count_sound(struct model *m)
{
    size_t count = 0;
    for (size_t i = 0; i < m->count; i++) {
        struct far_row_checkpoint row = world_row_checkpoint(&m->w, m->ids[i]);
        count += row.state == FAR_point_state_available && is_sound(m, &row);
    }
    far_arena_reset(&m->w.arena);
    return count;
}

/* What is gone since the last look was free to go. */
static void look(struct model *m, uint64_t removed_by_hand)
{
    for (size_t i = m->count; i-- > 0;) {
        struct far_row_checkpoint row = world_row_checkpoint(&m->w, m->ids[i]);
        bool is_gone = row.state == FAR_point_state_removed;
        if (is_gone && !m->gone[i]) {
            assert_true(row.locked_until_ms <= m->w.now_ms);
            assert_int_equal(row.preserved_ms, 0);
            assert_true(row.id == removed_by_hand || i + 1 < m->count); /* never the newest */
            m->gone[i] = true;
            m->expired += row.id != removed_by_hand;
        }
    }
    far_arena_reset(&m->w.arena);
}

static void cycle(struct model *m)
{
    uint64_t job = 0;
    boot(m);
    if (m->count < CHECKPOINTS_MAX && APPLY(&m->w, plan_replicate, .name = S("p")) == 0) {
        job = m->w.result.object_id;
        world_work_all(&m->w, m->nodes, 2);
        uint64_t id = world_row_job(&m->w, job).checkpoint_id;
        if (world_row_checkpoint(&m->w, id).id != 0) {
            m->ids[m->count++] = id;
        }
    }
}

static void damage(struct model *m, uint64_t id, uint64_t blocks)
{
    boot(m);
    if (APPLY(&m->w, checkpoint_verify, .checkpoint_id = id) == 0) {
        struct far_row_task task = world_row_task(&m->w, m->w.result.object_id, 1);
        if (task.state == FAR_task_state_assigned) {
            world_report(&m->w, &task, (struct far_sub_report_item){.state = FAR_report_state_done, .blocks_damaged = blocks});
        }
        world_work_all(&m->w, m->nodes, 2);
    }
}

static void do_something(struct model *m)
{
    uint64_t id = m->count > 0 ? m->ids[m->count - 1 - draw(m, m->count < 12 ? m->count : 12)] : 1, by_hand = 0;
    switch (draw(m, 12)) {
    case 0:
        (void)APPLY(&m->w, checkpoint_preserve, .checkpoint_id = id, .reason = S("because"));
        break;
    case 1:
        (void)APPLY(&m->w, checkpoint_unpreserve, .checkpoint_id = id);
        break;
    case 2:
        (void)APPLY(&m->w, checkpoint_lock, .checkpoint_id = id, .until_ms = m->w.now_ms + draw(m, 5 * DAY));
        break;
    case 3:
        (void)APPLY(&m->w, plan_retention_set, .name = S("p"), .last = draw(m, 4), .hourly = draw(m, 5), .daily = draw(m, 4));
        break;
    case 4:
        damage(m, id, draw(m, 2));
        break;
    case 5:
        by_hand = m->count > 1 && id != m->ids[m->count - 1] && APPLY(&m->w, checkpoint_remove, .checkpoint_id = id) == 0 ? id : 0;
        break;
    case 6:
        (void)APPLY(&m->w, plan_update, .name = S("p"), .lock_days = 1 + draw(m, 3));
        break;
    case 7: /* all the newest ones */
        for (size_t i = 0; i < m->count && i < 1 + draw(m, 6); i++) {
            damage(m, m->ids[m->count - 1 - i], 1);
        }
        break;
    default:
        cycle(m);
    }
    look(m, by_hand);
    size_t sound = count_sound(m);
    world_pass(&m->w, draw(m, 8 * HOUR)); /* nothing but time */
    look(m, 0);
    assert_true(sound == 0 || count_sound(m) > 0);
    m->saved += sound == 1;
}

static void run(uint64_t seed, size_t steps)
{
    struct model *m = calloc(1, sizeof *m);
    assert_non_null(m);
    m->random = seed * 0x9e3779b97f4a7c15ull + 1;
    world_init(&m->w);
    world_cluster(&m->w);
    m->nodes[0] = world_node(&m->w, "src", "paris");
    m->nodes[1] = world_node(&m->w, "dst", "lyon");
    m->nonce = 2;
    world_workload(&m->w, "web", 1);
    m->plan = world_plan(&m->w, "p", (const char *const[]){"web"}, 1);
    MUST(&m->w, plan_retention_set, .name = S("p"), .last = 2, .daily = 2);
    for (size_t i = 0; i < steps; i++) {
        do_something(m);
    }
    world_verify(&m->w);
    printf("# seed %llu: %zu checkpoints, %zu expired, one sound one left %zu times\n", (unsigned long long)seed, m->count, m->expired,
           m->saved);
    assert_true(m->expired > 0);
    world_done(&m->w);
    free(m);
}

static void nothing_goes_that_has_to_stay(void **unused)
{
    for (uint64_t seed = 1; seed <= 8; seed++) {
        run(seed, 120);
    }
}

/* ---- a hundred thousand points of a thousand disks ---- */

enum { PLANS = 100, WORKLOADS = 10, CYCLES = 100 };

struct large {
    struct world w;
    uint64_t node, plans[PLANS], workloads[PLANS][WORKLOADS], seq;
};

static size_t allocated(void)
{
    struct mallinfo2 info = mallinfo2();
    return info.uordblks + info.hblkhd;
}

static void evolve(struct large *l, const struct far_schema *schema, const void *object)
{
    struct far_buf payload;
    far_buf_init(&payload, 1 << 20);
    assert_int_equal(far_schema_encode(schema, object, &payload, &l->w.err), 0);
    struct far_event event = {
        .seq = l->seq++, .kind = schema->kind, .time_ms = l->w.now_ms, .payload = far_buf_slice(&payload)};
    assert_int_equal(far_fsm_evolve(&l->w.state, &event, &l->w.err), 0);
    far_buf_done(&payload);
}

static void make_plans(struct large *l)
{
    char name[32];
    world_init(&l->w);
    world_cluster(&l->w);
    l->node = world_node(&l->w, "dst", "lyon");
    for (size_t p = 0; p < PLANS; p++) {
        char names[WORKLOADS][16];
        const char *list[WORKLOADS];
        for (size_t i = 0; i < WORKLOADS; i++) {
            snprintf(names[i], sizeof names[i], "w%zu-%zu", p, i);
            l->workloads[p][i] = world_workload(&l->w, names[i], 1);
            list[i] = names[i];
        }
        snprintf(name, sizeof name, "p%zu", p);
        l->plans[p] = world_plan(&l->w, name, list, WORKLOADS);
        far_arena_reset(&l->w.arena);
    }
}

static void make_checkpoint(struct large *l, size_t p, uint64_t *next_id)
{
    static const uint8_t root[32] = {7};
    struct far_sub_point_part part = {.disk_id = 1, .name = S("root"), .size_bytes = 1 << 30, .root = far_slice(root, 32), .full = true};
    struct far_sub_member members[WORKLOADS];
    uint64_t checkpoint_id = (*next_id)++;
    for (size_t i = 0; i < WORKLOADS; i++) {
        struct far_ev_point_created ev = {.id = (*next_id)++,
                                          .workload_id = l->workloads[p][i],
                                          .plan_id = l->plans[p],
                                          .checkpoint_id = checkpoint_id,
                                          .node_id = l->node,
                                          .proof = FAR_proof_full,
                                          .frozen_at_ms = l->w.now_ms,
                                          .disks = {&part, 1}};
        evolve(l, &far_schema_ev_point_created, &ev);
        members[i] = (struct far_sub_member){.workload_id = ev.workload_id, .point_id = ev.id};
    }
    struct far_ev_checkpoint_created ev = {.id = checkpoint_id, .plan_id = l->plans[p], .members = {members, WORKLOADS}};
    evolve(l, &far_schema_ev_checkpoint_created, &ev);
}

static void a_hundred_thousand_points_of_a_thousand_disks(void **unused)
{
    struct large *l = calloc(1, sizeof *l);
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_progress);
    struct far_retention found;
    assert_non_null(l);
    make_plans(l);
    assert_int_equal(far_state_get(&l->w.state, &far_schema_row_progress, &key, &l->w.arena, &progress, &l->w.err), 0);
    uint64_t next_id = progress.next_id + 1000;
    l->seq = progress.next_seq;
    for (size_t c = 0; c < CYCLES; c++) {
        l->w.now_ms += HOUR;
        for (size_t p = 0; p < PLANS; p++) {
            make_checkpoint(l, p, &next_id);
        }
        far_arena_reset(&l->w.arena);
    }
    size_t whole = allocated();
    struct far_retention_wish wish = {.plan_id = l->plans[PLANS / 2], .is_trial = true, .counts = {10, 0, 3, 0, 0}, .max = 1000};
    assert_int_equal(far_query_retention(&l->w.state, &wish, l->w.now_ms, &l->w.arena, &found, &l->w.err), 0);
    assert_int_equal(found.kept + found.going, CYCLES);
    assert_int_equal(found.item_count, CYCLES);
    world_pass(&l->w, 1);
    world_boot(&l->w, l->node, 9);
    MUST(&l->w, plan_retention_set, .name = S("p50"), .last = 10, .daily = 3);
    for (size_t i = 0; i < 20; i++) {
        world_pass(&l->w, 1);
        world_work_all(&l->w, &l->node, 1);
        far_arena_reset(&l->w.arena);
    }
    assert_int_equal(world_row_node(&l->w, l->node).point_count, (uint64_t)PLANS * WORKLOADS * CYCLES - found.going * WORKLOADS);
    size_t after = allocated();
    printf("# %d points: %zu MiB of state, %zu MiB when a plan's were looked at\n", PLANS * WORKLOADS * CYCLES, whole >> 20, after >> 20);
    assert_true(after < (256u << 20));
    world_done(&l->w);
    free(l);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(nothing_goes_that_has_to_stay),
                                       cmocka_unit_test(a_hundred_thousand_points_of_a_thousand_disks)};
    return cmocka_run_group_tests_name("retention", tests, NULL, NULL);
}
