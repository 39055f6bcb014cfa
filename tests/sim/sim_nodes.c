/* Nodes with leases (the real node/leases.c), and the operator who makes a plan for them and starts its cycles. See sim.h.
 *
 * A node boots, takes orders from the state of whichever server it is connected to, works on each for a while, and reports
 * once a second; it dies, or falls silent for longer than its leases last. Checked from outside (sim_orders.c) is what the
 * core made of it. */
#include "sim.h"

#include "base/assert.h"
#include "fsm/query.h"

enum { BEAT_US = 500 * SIM_MS, ORDERS_MAX = 64 };

static uint64_t node_actor(const struct sim_node *node)
{
    return far_actor(FAR_ACTOR_NODE, node->id);
}

/* ---- boot and reports ---- */

static void boot(struct sim_node *node)
{
    uint8_t nonce[16] = {(uint8_t)node->number, (uint8_t)node->lives, (uint8_t)(node->lives >> 8), 7};
    struct far_cmd_node_boot boot = {
        .node_id = node->id, .nonce = far_slice(nonce, sizeof nonce), .data_address = far_slice_str("127.0.0.1:5002")};
    node->is_booting = true;
    sim_call(&node->caller, &far_schema_cmd_node_boot, &boot, node_actor(node), 0);
}

static void die(struct sim_node *node)
{
    sim_say(node->sim, "node %u dies", node->number);
    sim_count(node->sim, SIM_COUNT_NODE_DIED);
    sim_call_forget(&node->caller);
    node->leases.count = 0;
    node->work_count = 0;
    node->boot = node->sequence = 0;
    node->lives++;
    node->is_booting = false;
}

enum { SIM_DISK_BYTES = 1 << 20, SIM_DISK_BLOCKS = SIM_DISK_BYTES / 65536 };
static const struct far_sub_block_range missed = {.first_block = 3, .block_count = 2};

static void fill_root(uint8_t root[32], const struct sim_work *work)
{
    memset(root, 0, 32);
    far_put_be64(root, work->job_id);
    far_put_be64(root + 8, work->disk_id);
    root[31] = 1;
}

static void fill_item(struct sim_node *node, struct sim_work *work, struct far_sub_report_item *item,
                      struct far_sub_disk_found found[SIM_DISKS_MAX])
{
    bool is_done = node->sim->now_us >= work->done_us;
    *item = (struct far_sub_report_item){.job_id = work->job_id,
                                         .task = work->task,
                                         .attempt = work->attempt,
                                         .state = is_done ? FAR_report_state_done : FAR_report_state_running,
                                         .bytes_total = 1000,
                                         .bytes_done = is_done ? 1000 : 500};
    work->is_reported = is_done;
    if (!is_done) {
        return;
    }
    item->outcome = FAR_outcome_ok;
    if (work->kind == FAR_task_kind_freeze) {
        for (unsigned d = 0; d < work->disks; d++) {
            found[d] = (struct far_sub_disk_found){
                .disk_index = d, .size_bytes = SIM_DISK_BYTES, .identity = far_slice_str("same"), .token = far_slice_str("view")};
        }
        item->disks = (struct far_list){.items = found, .count = work->disks};
        item->freeze_ref = far_slice_str("view");
        item->frozen_at_ms = SIM_START_MS;
        item->survives = work->job_id % 2 == 0;
        item->shared = work->job_id % 4 == 0;
    } else {
        fill_root(work->root, work);
        item->root = far_slice(work->root, 32);
        item->full = !work->has_list;
        item->audit_next_block = work->audit_next_block;
        if (work->has_list && work->job_id % 3 == 0) { /* the audit finds that the list was wrong */
            item->missed_block_count = missed.block_count;
            item->missed = (struct far_list){.items = &missed, .count = 1};
        }
    }
}

static void report(struct sim_node *node)
{
    struct far_sub_report_item items[SIM_WORK_MAX];
    struct far_sub_disk_found found[SIM_WORK_MAX][SIM_DISKS_MAX];
    for (unsigned i = 0; i < node->work_count; i++) {
        fill_item(node, &node->work[i], &items[i], found[i]);
    }
    struct far_cmd_node_report cmd = {.node_id = node->id,
                                      .boot = node->boot,
                                      .sequence = ++node->sequence,
                                      .items = {.items = items, .count = node->work_count}};
    node->reported = node->work_count;
    node->sent_us = node->sim->now_us;
    sim_call(&node->caller, &far_schema_cmd_node_report, &cmd, node_actor(node), 0);
}

static void drop_work(struct sim_node *node, unsigned at)
{
    struct sim_work *work = &node->work[at];
    far_leases_remove(&node->leases, work->job_id, work->task, work->attempt);
    *work = node->work[--node->work_count];
}

static void answered(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim_node *node = caller->owner;
    struct sim *sim = node->sim;
    if (node->is_booting) {
        node->is_booting = false;
        node->boot = result->klass == 0 ? result->object_id : 0;
        node->sequence = 0;
        return;
    }
    if (result->klass != 0) { /* the boot is over, or the report comes too late */
        die(node);
        return;
    }
    sim_orders_confirmed(sim->orders, node->id, node->sent_us, sim->now_us);
    for (unsigned i = node->work_count; i-- > 0;) {
        struct sim_work *work = &node->work[i];
        if (work->is_reported) {
            drop_work(node, i);
        } else {
            far_leases_renew(&node->leases, work->job_id, work->task, work->attempt, node->sent_us / SIM_MS,
                             sim->swarm.lease_ms);
        }
    }
}

/* ---- orders ---- */

static bool is_ordered(const struct far_list *orders, const struct sim_work *work)
{
    const struct far_sub_order *order = orders->items;
    for (size_t i = 0; i < orders->count; i++) {
        if (order[i].job_id == work->job_id && order[i].task == work->task && order[i].attempt == work->attempt) {
            return true;
        }
    }
    return false;
}

static void start_order(struct sim_node *node, const struct far_sub_order *order)
{
    struct sim *sim = node->sim;
    for (unsigned i = 0; i < node->work_count; i++) {
        const struct sim_work *work = &node->work[i];
        if (work->job_id == order->job_id && work->task == order->task) {
            if (work->attempt >= order->attempt) {
                return;
            }
            drop_work(node, i--);
        }
    }
    if (node->work_count == SIM_WORK_MAX ||
        far_leases_add(&node->leases, order->job_id, order->task, order->attempt, sim->now_us / SIM_MS, order->lease_ms,
                       NULL) != 0) {
        return;
    }
    uint64_t audit_next = (order->audit_first_block + order->audit_blocks) % SIM_DISK_BLOCKS;
    node->work[node->work_count++] = (struct sim_work){.job_id = order->job_id,
                                                       .has_list = order->since.len != 0 && !order->full,
                                                       .audit_next_block = audit_next,
                                                       .task = order->task,
                                                       .attempt = order->attempt,
                                                       .kind = order->kind,
                                                       .disk_id = order->disk_id,
                                                       .disks = (unsigned)order->disks.count,
                                                       .done_us = sim->now_us + sim_random(sim, 3 * SIM_SECOND)};
}

static void look_for_orders(struct sim_node *node)
{
    struct sim *sim = node->sim;
    struct sim_server *server = &sim->servers[node->at];
    struct far_store_txn *txn;
    struct far_list orders;
    struct far_arena arena;
    if (!server->alive || server->fatal || server->incarnation != sim->incarnation || sim_chance(sim, 2)) {
        node->at = (unsigned)sim_random(sim, SIM_MACHINES);
        return;
    }
    far_arena_init(&arena, 1 << 20);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
    if (far_query_orders(&state, node->id, ORDERS_MAX, &arena, &orders, NULL) == 0) {
        for (unsigned i = node->work_count; i-- > 0 && !node->caller.is_active;) {
            if (!is_ordered(&orders, &node->work[i])) {
                drop_work(node, i);
            }
        }
        for (size_t i = 0; i < orders.count && !node->caller.is_active; i++) {
            start_order(node, (const struct far_sub_order *)orders.items + i);
        }
    }
    far_store_abort(txn);
    far_arena_done(&arena);
}

static void beat_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_node *node = object;
    const struct far_lease *late;
    sim_after(sim, BEAT_US, beat_due, node, 0, 0, NULL);
    while ((late = far_leases_late(&node->leases, sim->now_us / SIM_MS)) != NULL) {
        for (unsigned i = 0; i < node->work_count; i++) {
            if (node->work[i].job_id == late->job_id && node->work[i].task == late->task) {
                drop_work(node, i);
                break;
            }
        }
    }
    if (sim->now_us < node->silent_until_us || node->id == 0) {
        return;
    }
    if (sim->trouble && sim_random(sim, 1000) < 10) {
        node->silent_until_us = sim->now_us + sim_random(sim, 2000 * sim->swarm.lease_ms);
        sim_say(sim, "node %u falls silent", node->number);
        sim_count(sim, SIM_COUNT_NODE_SILENT);
    } else if (sim->trouble && sim_random(sim, 1000) < 5) {
        die(node);
    } else if (!node->caller.is_active && node->boot == 0) {
        boot(node);
    } else if (!node->caller.is_active && !sim->calm) {
        look_for_orders(node);
        report(node);
    }
}

/* ---- the operator ---- */

static void next_step(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob);

static void step_done(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim *sim = caller->sim;
    unsigned step = sim->operator_step;
    if (result->klass == 0 && step >= 2 && step < 2 + 2 * sim->swarm.nodes && step % 2 == 1) {
        sim->nodes[(step - 2) / 2].id = result->object_id;
    }
    bool is_setup = step < 2 + 2 * sim->swarm.nodes + 2;
    if (is_setup && result->klass != 0) {
        sim_fail(sim, "step %u of the operator: %s", step, result->message);
        return;
    }
    sim->operator_step++;
    sim_after(sim, is_setup ? 1 : SIM_SECOND + sim_random(sim, 3 * SIM_SECOND), next_step, NULL, 0, 0, NULL);
}

static void join_step(struct sim *sim, unsigned number, bool is_token)
{
    uint8_t hash[32] = {9, (uint8_t)number};
    char name[16];
    uint64_t actor = far_actor(FAR_ACTOR_TOKEN, 2);
    snprintf(name, sizeof name, "node-%u", number);
    struct far_cmd_token_create token = {.name = far_slice_str(name), .purpose = FAR_token_purpose_join_node,
        .hash = far_slice(hash, 32), .expires_ms = SIM_START_MS + 86400 * 1000,
        .site = far_slice_str(number % 2 == 0 ? "near" : "far")};
    struct far_cmd_node_join join = {.token_hash = far_slice(hash, 32), .name = far_slice_str(name),
        .data_address = far_slice_str("127.0.0.1:5002"), .fingerprint = far_slice(hash, 32)};
    sim_call(&sim->operator_caller, is_token ? &far_schema_cmd_token_create : &far_schema_cmd_node_join,
             is_token ? (const void *)&token : (const void *)&join, actor, ++sim->next_command);
}

/* Now and then a node is drained, and some steps later it takes part again. Refused before the level has it. */
static void drain_step(struct sim *sim, unsigned step)
{
    char name[16];
    snprintf(name, sizeof name, "node-%u", step / 10 % sim->swarm.nodes);
    struct far_cmd_node_drain drain = {.name = far_slice_str(name)};
    struct far_cmd_node_undrain undrain = {.name = far_slice_str(name)};
    bool begins = step % 10 == 3;
    sim_call(&sim->operator_caller, begins ? &far_schema_cmd_node_drain : &far_schema_cmd_node_undrain,
             begins ? (const void *)&drain : (const void *)&undrain, far_actor(FAR_ACTOR_TOKEN, 2), ++sim->next_command);
}

static void next_step(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    unsigned step = sim->operator_step, joined = 2 + 2 * sim->swarm.nodes;
    uint64_t actor = far_actor(FAR_ACTOR_TOKEN, 2);
    struct far_sub_disk_spec disks[] = {{far_slice_str("root"), far_slice_str("/a")}, {far_slice_str("data"), far_slice_str("/b")}};
    struct far_slice workload = far_slice_str("web");
    if (sim->calm) {
        return;
    }
    if (step < 2) {
        struct far_cmd_site_create site = {.name = far_slice_str(step == 0 ? "near" : "far"),
                                           .role = step == 0 ? FAR_site_role_protected : FAR_site_role_recovery};
        sim_call(&sim->operator_caller, &far_schema_cmd_site_create, &site, actor, ++sim->next_command);
    } else if (step < joined) {
        join_step(sim, (step - 2) / 2, step % 2 == 0);
    } else if (step == joined) {
        struct far_cmd_workload_create create = {
            .name = workload, .site = far_slice_str("near"), .adapter = far_slice_str("file"), .disks = {disks, 2}};
        sim_call(&sim->operator_caller, &far_schema_cmd_workload_create, &create, actor, ++sim->next_command);
    } else if (step == joined + 1) {
        struct far_cmd_plan_create create = {.name = far_slice_str("plan"), .source_site = far_slice_str("near"),
            .target_site = far_slice_str("far"), .workloads = {&workload, 1}};
        sim_call(&sim->operator_caller, &far_schema_cmd_plan_create, &create, actor, ++sim->next_command);
    } else if (step % 5 == 3) {
        drain_step(sim, step);
    } else {
        struct far_cmd_plan_replicate run = {.name = far_slice_str("plan")};
        sim_call(&sim->operator_caller, &far_schema_cmd_plan_replicate, &run, actor, ++sim->next_command);
    }
}

void sim_nodes_start(struct sim *sim)
{
    for (unsigned i = 0; i < sim->swarm.nodes; i++) {
        struct sim_node *node = &sim->nodes[i];
        node->sim = sim;
        node->number = i;
        sim_call_init(&node->caller, sim, answered, node);
        sim_after(sim, sim_random(sim, BEAT_US), beat_due, node, 0, 0, NULL);
    }
    if (sim->swarm.nodes > 0) {
        sim_call_init(&sim->operator_caller, sim, step_done, sim);
        sim_after(sim, 1, next_step, NULL, 0, 0, NULL);
    }
}
