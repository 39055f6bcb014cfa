/* Random commands against the whole core, invariants after every step.
 *
 * Each seed draws a world of two source and two target nodes, workloads and plans, and then commands, boots, reports
 * (good, bad, stale), silent nodes, ticks, changes of leader, cancellations, removals. After every command: invariants
 * hold, a second state that only evolves the events has the same digest, be they
 * decided on an overlay or on rows held decoded; a rejection changed nothing, and the dry run
 * said the same. In the end everything heals, and every job must come to its end. FAR_SEED=<n> replays one seed. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>
#include <stdlib.h>

enum { SEEDS = 40, STEPS = 500, NODES = 4, WORKLOADS = 3, PLANS = 2 };

static uint64_t random_state;
static uint64_t tally[3]; /* accepted, rejected, without effect */
static uint64_t ends[FAR_job_kind_migration + 1][6]; /* jobs by kind and state */
static uint64_t runs_begun, runs_up; /* that were accepted; of those that ended, were up */
static uint64_t alerts_seen, suspects; /* alerts that somebody acknowledged, points that are suspect in the end */
static uint64_t retried;    /* tasks that needed more than one attempt */

static uint64_t draw(uint64_t below)
{
    random_state ^= random_state << 13;
    random_state ^= random_state >> 7;
    random_state ^= random_state << 17;
    return random_state % below;
}

struct model {
    struct world w;
    uint64_t nodes[NODES];
    uint8_t nonce[NODES];
    bool silent[NODES];
    bool spreads; /* the cluster has level 4 */
};

static const char *const workload_names[WORKLOADS] = {"web", "db", "mail"};
static const char *const plan_names[PLANS] = {"gold", "iron"};

/* Apply, and hold the outcome against the dry run and the digest before. */
static int act(struct model *m, const struct far_schema *schema, const void *command)
{
    struct world *w = &m->w;
    struct far_hash128 before = w->state.digest;
    uint64_t events = w->events;
    if (draw(3) == 0) {
        w->id[0] = (uint8_t)(1 + draw(40));
    }
    struct far_result dry;
    struct far_buf payload;
    far_buf_init(&payload, 1 << 20);
    assert_int_equal(far_schema_encode(schema, command, &payload, &w->err), 0);
    struct far_command c = {.kind = schema->kind,
                            .actor = w->actor != 0 ? w->actor : far_actor(FAR_ACTOR_TOKEN, 2),
                            .proposed_at_ms = w->now_ms,
                            .payload = far_buf_slice(&payload)};
    memcpy(c.id, w->id, sizeof c.id);
    assert_int_equal(far_fsm_check(&w->state, &c, &dry, &w->err), 0);
    assert_true(far_hash128_equal(before, w->state.digest));
    far_buf_done(&payload);

    int klass = world_apply(w, schema, command);
    assert_int_equal(klass, dry.klass);
    assert_string_equal(w->result.message, dry.message);
    if (klass == FAR_INTERNAL) {
        fprintf(stderr, "# %s: %s\n", schema->name, w->result.message);
    }
    assert_int_not_equal(klass, FAR_INTERNAL);
    bool is_changed = !far_hash128_equal(before, w->state.digest);
    assert_int_equal(is_changed, w->events != events);
    assert_true(klass == 0 || !is_changed);
    assert_true(far_hash128_equal(w->fold.digest, w->state.digest));
    int rc = far_fsm_invariants(&w->state, &w->err);
    if (rc != 0) {
        fprintf(stderr, "# after %s: %s\n", schema->name, w->err.message);
    }
    assert_int_equal(rc, 0);
    tally[klass != 0 ? 1 : is_changed ? 0 : 2]++;
    far_arena_reset(&w->arena);
    return klass;
}
#define ACT(m, name, ...) act(m, &far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})

static void boot(struct model *m, size_t i, bool is_new)
{
    m->nonce[i] = (uint8_t)(m->nonce[i] + is_new);
    uint8_t nonce[16] = {m->nonce[i], (uint8_t)i, 9};
    m->w.actor = far_actor(FAR_ACTOR_NODE, m->nodes[i]);
    ACT(m, node_boot, .node_id = m->nodes[i], .nonce = far_slice(nonce, 16), .data_address = S("127.0.0.1:9"),
        .dials_only = m->spreads && draw(6) == 0);
    m->w.actor = 0;
}

static void join(struct model *m, size_t i)
{
    char name[16];
    uint8_t hash[32];
    for (size_t k = 0; k < sizeof hash; k++) {
        hash[k] = (uint8_t)draw(256);
    }
    snprintf(name, sizeof name, "n%zu", i);
    ACT(m, token_create, .name = S(name), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
        .expires_ms = m->w.now_ms + 1 + draw(1000000), .site = S(i < 2 ? "paris" : "lyon"));
    if (ACT(m, node_join, .token_hash = far_slice(hash, 32), .name = S(name), .data_address = S("127.0.0.1:8"),
            .fingerprint = far_slice(hash, 32)) == 0) {
        m->nodes[i] = m->w.result.object_id;
        boot(m, i, true);
    }
}

/* ---- reports ---- */

static void draw_failure(struct far_sub_report_item *item)
{
    static const char *const classes[] = {"io", "timeout", "busy", "not_found", "corrupt", "limit"};
    item->state = FAR_report_state_failed;
    item->outcome = draw(4) == 0 ? draw(7) : (uint64_t)FAR_outcome_retry;
    item->error_class = S(classes[draw(6)]);
    item->error_message = S("das Laufwerk sagt n\xc3\xb6");
}

/* What a send says of its source's list of changes, also what makes no sense. */
static void draw_audit(const struct far_sub_order *order, struct far_sub_report_item *item)
{
    static struct far_sub_block_range ranges[2];
    uint64_t blocks = order->size_bytes / 65536 + 1;
    item->full = draw(3) == 0 || order->full || order->since.len == 0;
    item->hashed_bytes = draw(4) == 0 ? UINT64_MAX : draw(1 << 28);
    item->duration_ms = draw(1000);
    item->audited_blocks = order->audit_blocks;
    item->audit_next_block = draw(5) == 0 ? draw(2 * blocks) : (order->audit_first_block + order->audit_blocks) % blocks;
    if (draw(2) == 0) {
        ranges[0] = (struct far_sub_block_range){.first_block = draw(blocks), .block_count = 1 + draw(3)};
        ranges[1] = (struct far_sub_block_range){.first_block = draw(10) == 0 ? UINT64_MAX : draw(2 * blocks), .block_count = draw(9)};
        item->missed_block_count = 1 + draw(20);
        item->missed = (struct far_list){.items = ranges, .count = draw(3)};
    }
    item->resync_reason = S(draw(6) == 0 ? "the bitmap is gone" : "");
}

static void draw_success(struct model *m, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    struct world *w = &m->w;
    item->state = FAR_report_state_done;
    item->bytes_total = draw(1 << 20);
    item->bytes_done = draw(1 << 20);
    item->bytes_sent = draw(1 << 20);
    item->full = draw(2);
    uint8_t *root = far_arena_alloc(&w->arena, 32);
    far_put_be64(root, order->job_id);
    far_put_be64(root + 8, order->disk_id);
    root[31] = draw(200) == 0; /* sometimes the copy is not the source */
    item->root = order->root.len != 0 && draw(20) != 0 ? order->root : far_slice(root, draw(200) == 0 ? 0 : 32);
    if (order->kind == FAR_task_kind_send && w->level == 0) {
        draw_audit(order, item);
    }
    if (order->kind == FAR_task_kind_verify) {
        item->blocks_damaged = draw(5) == 0;
    }
    if (order->kind == FAR_task_kind_freeze) {
        size_t count = order->disks.count - (draw(100) == 0);
        struct far_sub_disk_found *found = far_arena_alloc(&w->arena, (count + 1) * sizeof *found);
        for (size_t d = 0; d < count; d++) {
            found[d] = (struct far_sub_disk_found){.disk_index = d,
                                                   .size_bytes = 1000000 - (draw(100) == 0),
                                                   .identity = S(draw(100) == 0 ? "other" : "same")};
            found[d].token = S(m->w.level == 0 && draw(4) != 0 ? draw(2) == 0 ? "generation-7" : "generation-8" : "");
        }
        item->survives = m->w.level == 0 && draw(2) == 0;
        item->disks = (struct far_list){.items = found, .count = count};
        item->freeze_ref = S("view");
        item->fuzzy = draw(2);
        item->frozen_at_ms = w->now_ms;
        item->survives = m->spreads && draw(2) == 0;
        item->shared = m->spreads && draw(2) == 0;
    }
}

/* What a node of the newest level says of a transfer; nothing is drawn, so that lives stay what they were without it. */
static void add_figures(struct model *m, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    bool is_transfer = order->kind == FAR_task_kind_send || order->kind == FAR_task_kind_receive;
    uint64_t salt = m->w.index * 7 + order->task;
    if (m->w.level != 0 || !is_transfer || salt % 4 == 0) {
        return;
    }
    struct far_sub_figures *figures = far_arena_alloc(&m->w.arena, sizeof *figures);
    *figures = (struct far_sub_figures){.bytes_read = salt % 2 == 0 ? salt : UINT64_MAX - salt,
                                        .bytes_zero = salt % 1000,
                                        .bytes_known = salt % 77,
                                        .bytes_wanted = salt % 99,
                                        .window_bytes = salt << 20,
                                        .streams = salt % 5,
                                        .bottleneck = salt % 9};
    item->figures = (struct far_list){.items = figures, .count = 1};
}

/* What a freeze says of the machine, also what makes no sense; nothing is drawn, as above. */
static void add_machine(struct model *m, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    static uint8_t hashes[4][32], bytes[5000];
    uint64_t salt = m->w.index * 7 + order->task, which = salt / 3 % 4;
    bool is_freeze = order->kind == FAR_task_kind_freeze && item->state == FAR_report_state_done;
    if (m->w.level != 0 || !is_freeze || salt % 4 == 0) {
        return;
    }
    hashes[which][0] = (uint8_t)which;
    item->config_sha256 = far_slice(hashes[which], salt % 17 == 0 ? 3 : 32);
    bool is_known = far_slice_equal(item->config_sha256, order->config_sha256);
    item->config = far_slice(bytes, is_known || salt % 13 == 0 ? 0 : 1 + salt % sizeof bytes);
    item->config_problem = S(salt % 11 == 0 ? "libvirt does not answer" : "");
}

static void report(struct model *m, size_t i, unsigned good_percent)
{
    struct world *w = &m->w;
    struct far_sub_report_item items[200];
    struct far_list orders;
    size_t count = 0;
    struct far_row_node node = world_row_node(w, m->nodes[i]);
    if (node.id == 0 || far_query_orders(&w->state, node.id, 200, &w->arena, &orders, &w->err) != 0) {
        return;
    }
    for (size_t k = 0; k < orders.count; k++) {
        const struct far_sub_order *order = (const struct far_sub_order *)orders.items + k;
        struct far_sub_report_item *item = &items[count];
        *item = (struct far_sub_report_item){.job_id = order->job_id, .task = order->task, .attempt = order->attempt};
        if (good_percent < 100 && draw(3) == 0) {
            continue; /* not named: its lease goes on ageing */
        }
        count++;
        if (draw(100) < good_percent) {
            draw_success(m, order, item);
        } else if (draw(2) == 0) {
            item->state = FAR_report_state_running;
            item->bytes_total = draw(2) * 1000;
            item->bytes_done = draw(1000);
            item->bytes_sent = draw(1000);
            item->missed_block_count = w->level == 0 && draw(6) == 0 ? draw(5) : 0;
        } else {
            draw_failure(item);
        }
        add_figures(m, order, item);
        add_machine(m, order, item);
        if (good_percent < 100 && draw(20) == 0) {
            item->attempt -= 1; /* an attempt that is over */
        }
        if (good_percent < 100 && draw(40) == 0) {
            item->task = draw(1000);
        }
    }
    w->actor = far_actor(FAR_ACTOR_NODE, node.id);
    uint64_t boot_number = node.boot - (good_percent < 100 && draw(30) == 0);
    uint64_t sequence = node.sequence + (good_percent < 100 && draw(20) == 0 ? 0 : 1);
    ACT(m, node_report, .node_id = node.id, .boot = boot_number, .sequence = sequence,
        .items = {.items = items, .count = count});
    w->actor = 0;
}

/* ---- heads ---- */

/* The only server says something about a head, at last about the newest. */
static void answer_head(struct model *m, uint64_t seq, const uint8_t bytes[64], const uint8_t other[32])
{
    uint8_t public_key[32] = {(uint8_t)draw(4)};
    struct far_row_head_progress progress = {0};
    struct far_key key = far_key(&far_schema_row_head_progress);
    (void)far_state_get(&m->w.state, &far_schema_row_head_progress, &key, &m->w.arena, &progress, NULL);
    seq = draw(3) == 0 ? seq : progress.proposed_seq;
    switch (draw(6)) {
    case 0:
        ACT(m, server_key_set, .server_id = 1, .public_key = far_slice(public_key, 32));
        break;
    case 1:
    case 2:
        ACT(m, head_propose, .seq = m->w.events - draw(3), .head = far_slice(bytes, 32));
        break;
    case 3:
        ACT(m, head_refuse, .server_id = 1, .seq = seq, .head = far_slice(other, 32));
        break;
    default:
        ACT(m, head_sign, .server_id = 1, .seq = seq, .signature = far_slice(bytes, 64));
    }
}

/* A cut by the leader, at last of what is there. */
static void cut_events(struct model *m, uint64_t seq)
{
    uint64_t ids[2] = {1 + draw(3), 1}, actor = m->w.actor;
    m->w.actor = far_actor(draw(4) == 0 ? FAR_ACTOR_TOKEN : FAR_ACTOR_SYSTEM, 1);
    ACT(m, events_cut, .seq = seq, .held_by = {.items = ids, .count = draw(3)});
    uint64_t ago_ms = draw(3) * 86400000;
    ACT(m, progress_compact, .seq = draw(5) == 0 ? UINT64_MAX : draw(m->w.events + 2),
        .time_ms = m->w.now_ms > ago_ms ? m->w.now_ms - ago_ms : 0);
    ACT(m, entry_skip_order, .index = draw(m->w.index + 1), .server_id = 1 + draw(3), .token_id = 2, .forced = draw(2) == 0);
    m->w.actor = actor;
    ACT(m, history_forget, .before = draw(4) == 0 ? draw(m->w.events + 3) : draw(5), .forced = draw(2) == 0);
    ACT(m, retention_set, .days = draw(3), .bytes = draw(2) << (20 + draw(10)), .progress_days = draw(3));
}

/* ---- users ---- */

/* Everything of a plan, a workload or a disk is hashed anew; somebody looks at the alerts. */
static void watch(struct model *m, struct far_slice plan, struct far_slice workload)
{
    struct far_row_alert alert = {.id = draw(300)};
    struct far_key key = far_key(&far_schema_row_alert);
    if (draw(3) == 0) {
        ACT(m, plan_resync, .name = plan, .workload = draw(2) == 0 ? workload : S(""), .disk = S(draw(2) == 0 ? "" : "data"));
        return;
    }
    if (draw(8) == 0) {
        ACT(m, plan_seed, .name = plan, .workload = workload, .disk = S(draw(2) == 0 ? "" : "root"), .node = S(draw(3) == 0 ? "n1" : "n2"),
            .locator = S("/carried/disk.raw"));
        return;
    }
    while (far_state_next(&m->w.state, &far_schema_row_alert, &key, &m->w.arena, NULL, &alert, NULL) == 0 && draw(3) != 0) {
    }
    alerts_seen += ACT(m, alert_ack, .alert_id = alert.id, .note = S(draw(2) == 0 ? "" : "seen")) == 0;
}

/* Bandwidth limits with windows around now, zones whose clocks change soon; and what nodes are told by them. */
/* What is set of a plan as a whole or in part: how its workloads are brought up, networks, schedule, who comes and goes. */
static void edit_plan(struct model *m, struct far_slice plan, struct far_slice workload)
{
    static const uint64_t days[] = {1, 3, 5};
    struct far_sub_recovery_gate gate = {.kind = FAR_gate_kind_agent, .timeout_s = draw(3)};
    struct far_sub_recovery config = {.name = workload, .processors = draw(3), .gates = {&gate, draw(2)}}, both[2] = {config, config};
    struct far_sub_network_map map = {.source = S("vms"), .target = S(draw(2) == 0 ? "a" : "b")};
    struct far_sub_day_window window = {.days = {days, 3}, .from_min = draw(1500), .to_min = draw(1500)};
    struct far_sub_schedule schedule = {.catch_up = draw(3), .start_ms = draw(2) * m->w.now_ms, .blackouts = {&window, draw(2)}};
    struct far_sub_keep keep = {.last = 1 + m->w.index / 3 % 2};
    both[1].name = S(workload_names[draw(WORKLOADS)]);
    switch (draw(8)) {
    case 6:
        ACT(m, plan_pause, .name = plan, .until_ms = draw(2) * (m->w.now_ms + draw(90000)));
        break;
    case 7:
        ACT(m, plan_resume, .name = plan);
        break;
    case 0:
        ACT(m, recovery_set, .workload = workload, .config = {&config, draw(2)});
        break;
    case 1:
        ACT(m, plan_networks_set, .name = plan, .networks = {&map, draw(2)});
        break;
    case 2:
        ACT(m, plan_schedule_set, .name = plan, .interval_s = draw(3) * 60, .schedule = {&schedule, draw(2)});
        break;
    case 3:
        ACT(m, plan_workloads_add, .name = plan, .workloads = {&workload, 1});
        break;
    case 4:
        ACT(m, plan_workloads_remove, .name = plan, .workloads = {&workload, 1}, .with_points = m->w.index % 2 == 0);
        break;
    default:
        ACT(m, plan_apply, .name = plan, .source_site = S("paris"), .target_site = S("lyon"), .state = draw(3), .interval_s = draw(3) * 60,
            .rpo_s = draw(2) * 90, .rto_s = draw(2) * 60, .workloads = {both, 1 + draw(2)}, .networks = {&map, draw(2)},
            .schedule = {&schedule, draw(2)}, .retention = {&keep, m->w.index % 3 == 0});
    }
}

static void limit(struct model *m, struct far_slice plan)
{
    static const uint64_t days[] = {1, 2, 3, 4, 5, 6, 7};
    uint64_t now_min = m->w.now_ms / 60000 % 1440, scope = draw(5), now_s = m->w.now_ms / 1000;
    struct far_slice name = scope == FAR_throttle_scope_plan ? plan : scope == FAR_throttle_scope_node ? S(draw(2) == 0 ? "n0" : "n2")
                                                                                                      : S(draw(2) == 0 ? "paris" : "lyon");
    struct far_sub_throttle_window windows[2];
    struct far_sub_zone_change changes[2] = {{0, draw(3) * 1800, 0}, {now_s + 1 + draw(200), 0, draw(2) * 3600}};
    for (size_t i = 0; i < 2; i++) {
        uint64_t from = (now_min + draw(8)) % 1440;
        windows[i] = (struct far_sub_throttle_window){.days = {days + draw(3), 1 + draw(5)},
                                                      .from_min = from,
                                                      .to_min = 1 + (from + draw(6)) % 1440,
                                                      .bytes_per_s = draw(4) == 0 ? draw(12000) : draw(2) * 50000};
    }
    switch (draw(6)) {
    case 0:
        ACT(m, throttle_remove, .scope = scope, .name = name);
        break;
    case 1:
        ACT(m, zone_set, .name = S(draw(2) == 0 ? "A/B" : "C"), .changes = {changes, 1 + draw(2)}, .until_s = now_s + draw(1000));
        break;
    default:
        ACT(m, throttle_set, .scope = scope, .name = name, .bytes_per_s = draw(3) * 20000,
            .zone = S(draw(2) == 0 ? "" : draw(2) == 0 ? "A/B" : "C"), .windows = {windows, draw(3)});
    }
    struct far_list limits;
    assert_int_equal(far_query_limits(&m->w.state, 0, draw(2) * m->w.now_ms, &m->w.arena, &limits, &m->w.err), 0);
}

/* Dedup domains made, given new keys, destroyed: by the index, so that older seeds draw what they drew. */
static void use_domains(struct model *m)
{
    static const uint8_t box[60] = {3};
    struct far_slice name = S(m->w.index % 2 == 0 ? "gold" : "tin"), sealed = far_slice(box, sizeof box);
    if (m->w.level != 0) {
        return;
    }
    switch (m->w.index % 7) {
    case 0:
        ACT(m, domain_destroy, .name = name, .confirm = name);
        break;
    case 1:
    case 2:
        ACT(m, domain_rotate, .name = name, .generation = 2 + m->w.index / 7 % 3, .sealed_key = sealed);
        break;
    default:
        ACT(m, domain_create, .name = name, .uuid = far_slice(box, 16), .sealed_secret = sealed, .sealed_key = sealed,
            .is_default = m->w.index % 3 == 0);
    }
}

/* Runs of plans begin, are helped along by a person, and end: by the index, so that older seeds draw what they drew. */
static void run(struct model *m, struct far_slice plan, struct far_slice workload)
{
    struct far_row_run row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_run);
    uint64_t salt = m->w.index * 2654435761u >> 3, id = 0;
    if (m->w.level != 0) {
        return;
    }
    while (far_state_next(&m->w.state, &far_schema_row_run, &key, &m->w.arena, NULL, &row, NULL) == 0) {
        id = row.phase != FAR_run_phase_done || id == 0 ? row.id : id;
    }
    switch (salt % 9) {
    case 0:
        ACT(m, run_finish, .job_id = id, .abandon = salt % 2);
        break;
    case 1:
        ACT(m, run_commit, .job_id = id);
        ACT(m, run_compare, .job_id = id);
        break;
    case 2:
        ACT(m, run_roll_back, .job_id = id);
        break;
    case 3:
        ACT(m, run_pass, .job_id = id, .workload = workload);
        break;
    case 4:
        ACT(m, run_retry, .job_id = id);
        ACT(m, plan_reverse, .name = plan, .to = S(salt % 2 == 0 ? "" : "home"));
        break;
    case 5:
        ACT(m, job_cancel, .job_id = id);
        break;
    default:
        runs_begun += ACT(m, run_start, .plan = plan, .kind = FAR_job_kind_test_recovery + salt % 3, .workloads = {&workload, salt % 2},
                          .expires_s = salt % 3 == 0 ? 200 : 0, .fence_s = salt % 3 == 1 ? 5 : 0, .force = salt % 3 == 2) == 0;
    }
}

static void use(struct model *m)
{
    struct far_slice plan = S(plan_names[draw(PLANS)]), workload = S(workload_names[draw(WORKLOADS)]);
    struct far_slice both[2] = {S(workload_names[draw(WORKLOADS)]), workload};
    struct far_row_plan row = {.id = 0};
    uint64_t plan_id = 0, workload_id = 0, disk_count = 1;
    if (far_query_id(&m->w.state, &far_schema_row_workload, workload, &workload_id, NULL) == 0) {
        disk_count = world_row_workload(&m->w, workload_id).disk_count;
    }
    if (far_query_id(&m->w.state, &far_schema_row_plan, plan, &plan_id, NULL) == 0) {
        row = world_row_plan(&m->w, plan_id);
    }
    struct far_sub_disk_spec disks[3] = {{S("root"), S("/a")}, {S("data"), S("/b")}, {S("log"), S("/c")}};
    struct far_sub_restore_spec specs[3] = {
        {S("root"), S("/out/a")}, {S("data"), S("/out/b")}, {S("log"), S("/out/c")}};
    uint64_t checkpoint_id = row.last_checkpoint_id;
    struct far_slice consumer = S(draw(2) == 0 ? "audit" : "billing");
    uint64_t seq = draw(m->w.events + 3);
    static uint8_t bytes[64] = {7}, other[32] = {8};
    switch (draw(24)) {
    case 23:
        edit_plan(m, plan, workload);
        break;
    case 22:
        limit(m, plan);
        use_domains(m);
        break;
    case 20:
        ACT(m, plan_update, .name = plan, .audit_age_s = draw(2) * 600, .audit_ppm = draw(3) * 600000, .full_age_s = draw(3) * 100,
            .rpo_s = m->w.index % 3 * 45, .conditional = draw(2) == 0, .revision = draw(2) == 0 ? row.revision : draw(4));
        break;
    case 21:
        watch(m, plan, workload);
        break;
    case 19:
        cut_events(m, seq);
        break;
    case 18:
        answer_head(m, seq, bytes, other);
        break;
    case 16:
        ACT(m, consumer_ack, .name = consumer, .seq = seq, .head = far_slice("12345678", draw(10) == 0 ? 3 : 8));
        break;
    case 17:
        if (draw(4) == 0) {
            ACT(m, consumer_remove, .name = consumer);
        } else {
            ACT(m, consumer_create, .name = consumer, .seq = seq);
        }
        break;
    case 0:
    case 13:
        ACT(m, workload_create, .name = workload, .site = S("paris"), .adapter = S("file"),
            .disks = {disks, 1 + draw(3)});
        break;
    case 1:
        ACT(m, plan_create, .name = plan, .source_site = S("paris"), .target_site = S("lyon"),
            .workloads = {both, 1 + draw(2)}, .interval_s = draw(3) * 60,
            .rpo_s = m->w.level == 0 ? m->w.index % 3 * 90 : 0, .domain = S(m->w.level == 0 && m->w.index % 4 == 1 ? "gold" : ""));
        break;
    case 2:
        ACT(m, plan_start, .name = plan);
        break;
    case 3:
        ACT(m, plan_stop, .name = plan);
        break;
    case 4:
    case 5:
    case 6:
        ACT(m, plan_replicate, .name = plan);
        break;
    case 7:
    case 8:
        ACT(m, recover, .plan = plan, .workload = workload, .checkpoint_id = draw(2) * checkpoint_id,
            .disks = {specs, draw(6) == 0 ? draw(4) : disk_count});
        break;
    case 9:
        ACT(m, checkpoint_verify, .checkpoint_id = checkpoint_id);
        break;
    case 10:
        ACT(m, checkpoint_remove, .checkpoint_id = checkpoint_id - (checkpoint_id > 0 && draw(2) ? draw(40) : 0));
        break;
    case 11:
        ACT(m, job_cancel, .job_id = draw(8) == 0 && row.running_job_id != 0 ? row.running_job_id : draw(200));
        break;
    case 12:
        if (draw(6) == 0) {
            ACT(m, plan_remove, .name = plan);
            ACT(m, workload_remove, .name = workload);
        }
        break;
    case 14:
        ACT(m, site_update, .name = S(draw(2) == 0 ? "paris" : "lyon"), .parallel_sends = draw(4), .parallel_recoveries = draw(3));
        ACT(m, site_remove, .name = S(draw(2) == 0 ? "paris" : "nice"));
        break;
    default:
        ACT(m, site_create, .name = S("nice"), .role = 1 + draw(4));
        break;
    }
    if (m->w.index % 3 == 0) {
        run(m, plan, workload);
    }
}

static void tick(struct model *m)
{
    m->w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    act(m, &far_schema_cmd_tick, &(struct far_cmd_tick){});
    m->w.actor = 0;
}

static void one_step(struct model *m)
{
    size_t i = (size_t)draw(NODES);
    m->w.now_ms += draw(60) == 0 ? draw(30000) : draw(300);
    switch (draw(20)) {
    case 0:
        if (draw(4) == 0) {
            boot(m, i, draw(2) == 0);
        }
        break;
    case 1:
        m->silent[i] = draw(8) == 0;
        break;
    case 2:
        m->w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
        ACT(m, leader_started, .server_id = 1, .term = m->w.index / 50);
        m->w.actor = 0;
        break;
    case 3:
        if (draw(3) == 0) {
            char name[16];
            snprintf(name, sizeof name, "n%zu", i);
            switch (draw(6)) {
            case 0:
            case 1:
                ACT(m, node_remove, .name = S(name));
                break;
            case 2:
            case 3:
                ACT(m, node_drain, .name = S(name));
                break;
            default:
                ACT(m, node_undrain, .name = S(name));
            }
        } else {
            join(m, i);
        }
        break;
    case 4:
    case 5:
    case 6:
    case 7:
        use(m);
        break;
    case 8:
    case 9:
    case 10:
    case 11:
        tick(m);
        break;
    default:
        for (i = 0; i < NODES; i++) {
            if (!m->silent[i] && draw(2) == 0) {
                report(m, i, 50 + (unsigned)draw(49));
            }
        }
        break;
    }
}

static bool was_up(struct model *m, uint64_t job_id)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    far_key_u64(&key, job_id);
    return far_state_get(&m->w.state, &far_schema_row_run, &key, &m->w.arena, &row, NULL) == 0 && row.up_ms != 0;
}

/* A person ends them; what cannot be cleaned up is abandoned in the end. */
static void end_runs(struct model *m, bool abandons)
{
    struct far_row_run row;
    struct far_key key = far_key(&far_schema_row_run);
    while (far_state_next(&m->w.state, &far_schema_row_run, &key, &m->w.arena, NULL, &row, &m->w.err) == 0) {
        if (row.phase == FAR_run_phase_done) {
            continue;
        }
        ACT(m, job_cancel, .job_id = row.id);
        if (abandons) {
            ACT(m, run_finish, .job_id = row.id, .abandon = true);
        }
    }
}

/* Everything comes back and works: every job must end. */
static void heal(struct model *m)
{
    for (size_t p = 0; p < PLANS; p++) {
        ACT(m, plan_stop, .name = S(plan_names[p]));
    }
    for (size_t i = 0; i < NODES; i++) {
        char name[16];
        snprintf(name, sizeof name, "n%zu", i);
        join(m, i);
        boot(m, i, true);
        for (unsigned k = 0; k < 3; k++) { /* an id that was drawn before is refused */
            ACT(m, node_undrain, .name = S(name));
        }
    }
    for (unsigned round = 0; round < 60; round++) {
        m->w.now_ms += 1500;
        tick(m);
        end_runs(m, round > 20);
        for (size_t i = 0; i < NODES; i++) {
            report(m, i, 100);
        }
    }
    struct far_key key = far_key(&far_schema_row_job);
    struct far_row_job job;
    while (far_state_next(&m->w.state, &far_schema_row_job, &key, &m->w.arena, NULL, &job, &m->w.err) == 0) {
        if (job.state == FAR_job_state_running) {
            fprintf(stderr, "# job %llu of kind %llu still runs\n", (unsigned long long)job.id,
                    (unsigned long long)job.kind);
        }
        assert_int_not_equal(job.state, FAR_job_state_running);
        ends[job.kind][job.state]++;
        runs_up += was_up(m, job.id);
    }
    struct far_row_task task;
    struct far_row_point point;
    key = far_key(&far_schema_row_point);
    while (far_state_next(&m->w.state, &far_schema_row_point, &key, &m->w.arena, NULL, &point, &m->w.err) == 0) {
        suspects += point.suspect;
    }
    key = far_key(&far_schema_row_task);
    while (far_state_next(&m->w.state, &far_schema_row_task, &key, &m->w.arena, NULL, &task, &m->w.err) == 0) {
        retried += task.attempt > 1;
    }
}

static void run_seed(uint64_t seed)
{
    struct model m = {0};
    random_state = seed * 0x9e3779b97f4a7c15u + 1;
    fprintf(stderr, "# FAR_SEED=%llu\n", (unsigned long long)seed);
    world_init(&m.w);
    m.w.check_fold = true;
    m.w.fold.kv = far_kv_memory_new();
    m.w.rows = seed % 2 == 0 ? far_rows_new(m.w.state.kv, true) : NULL; /* half of them decide on rows, half on an overlay */
    m.w.level = seed % 4 < 2 ? 0 : 2; /* half of them live a while before what runs is kept by nodes */
    m.spreads = m.w.level == 0;
    world_cluster(&m.w);
    for (size_t i = 0; i < NODES; i++) {
        join(&m, i);
    }
    for (size_t i = 0; i < WORKLOADS; i++) {
        world_workload(&m.w, workload_names[i], i + 1);
    }
    world_plan(&m.w, "gold", workload_names, 2);
    world_plan(&m.w, "iron", workload_names + 2, 1);
    for (unsigned i = 0; i < STEPS; i++) {
        one_step(&m);
        if (i == STEPS / 2 && m.w.level != 0) {
            m.w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
            MUST(&m.w, feature_level_raise, .level = FAR_FEATURE_LEVEL);
            m.w.level = 0;
            m.w.actor = 0;
            m.spreads = true;
        }
    }
    heal(&m);
    world_verify(&m.w);
    world_done(&m.w);
}

static void random_commands_break_nothing_and_every_job_ends(void **unused)
{
    const char *text = getenv("FAR_SEED");
    uint64_t first = text != NULL ? strtoull(text, NULL, 0) : 1;
    uint64_t count = text != NULL ? 1 : SEEDS;
    for (uint64_t seed = first; seed < first + count; seed++) {
        run_seed(seed);
    }
    printf("# commands: %llu with effect, %llu rejected, %llu without effect\n", (unsigned long long)tally[0],
           (unsigned long long)tally[1], (unsigned long long)tally[2]);
    for (unsigned kind = 1; kind < 5; kind++) {
        printf("# %s: %llu succeeded, %llu failed, %llu canceled, %llu partial\n",
               far_enum_name(&far_enum_job_kind, kind), (unsigned long long)ends[kind][2],
               (unsigned long long)ends[kind][3], (unsigned long long)ends[kind][4], (unsigned long long)ends[kind][5]);
        assert_true(text != NULL || ends[kind][FAR_job_state_succeeded] > 0);
    }
    printf("# tasks with more than one attempt: %llu\n", (unsigned long long)retried);
    printf("# runs begun: %llu, up: %llu\n", (unsigned long long)runs_begun, (unsigned long long)runs_up);
    printf("# alerts acknowledged: %llu, suspect points: %llu\n", (unsigned long long)alerts_seen, (unsigned long long)suspects);
    assert_true(text != NULL || (alerts_seen > 0 && suspects > 0));
    assert_true(text != NULL || (retried > 0 && ends[1][FAR_job_state_partial] > 0));
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(random_commands_break_nothing_and_every_job_ends)};
    return cmocka_run_group_tests(tests, NULL, NULL);
}
