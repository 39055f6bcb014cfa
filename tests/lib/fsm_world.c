/* See fsm_world.h. */
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static uint8_t some_hash[32] = {7};

void world_init(struct world *w)
{
    *w = (struct world){.state = {.kv = far_kv_memory_new()}, .now_ms = 1000000};
    far_arena_init(&w->arena, 1 << 28);
    far_buf_init(&w->log, 1 << 30);
}

void world_done(struct world *w)
{
    far_rows_free(w->rows);
    far_kv_memory_free(w->state.kv);
    far_kv_memory_free(w->fold.kv);
    far_arena_done(&w->arena);
    far_buf_done(&w->log);
}

static void write_hex(FILE *file, const void *data, size_t len)
{
    fputc(' ', file);
    if (len == 0) {
        fputc('-', file);
    }
    for (size_t i = 0; i < len; i++) {
        fprintf(file, "%02x", ((const uint8_t *)data)[i]);
    }
}

/* "C kind version actor time id payload" and "E seq kind version actor time id payload", numbers decimal, bytes hex. */
static void write_command(const struct world *w, const struct far_command *c)
{
    if (w->transcript != NULL) {
        fprintf(w->transcript, "C %u %u %llu %llu", c->kind, c->version, (unsigned long long)c->actor,
                (unsigned long long)c->proposed_at_ms);
        write_hex(w->transcript, c->id, sizeof c->id);
        write_hex(w->transcript, c->payload.data, c->payload.len);
        fputc('\n', w->transcript);
    }
}

static void write_event(const struct world *w, const struct far_event *e)
{
    if (w->transcript != NULL) {
        fprintf(w->transcript, "E %llu %u %u %llu %llu", (unsigned long long)e->seq, e->kind, e->version,
                (unsigned long long)e->actor, (unsigned long long)e->time_ms);
        write_hex(w->transcript, e->command_id, sizeof e->command_id);
        write_hex(w->transcript, e->payload.data, e->payload.len);
        fputc('\n', w->transcript);
    }
}

static int record(void *arg, const struct far_event *event, struct far_error *err)
{
    struct world *w = arg;
    w->events++;
    write_event(w, event);
    if (w->check_fold) {
        assert_int_equal(far_fsm_evolve(&w->fold, event, err), 0);
    }
    assert_int_equal(far_buf_append(&w->log, event, sizeof *event), 0);
    assert_int_equal(far_buf_append(&w->log, event->payload.data, event->payload.len), 0);
    return 0;
}

int world_apply(struct world *w, const struct far_schema *schema, const void *command)
{
    struct far_buf payload;
    far_buf_init(&payload, 1 << 20);
    assert_int_equal(far_schema_encode(schema, command, &payload, &w->err), 0);
    struct far_command c = {.kind = schema->kind,
                            .version = schema->version,
                            .actor = w->actor != 0 ? w->actor : far_actor(FAR_ACTOR_TOKEN, 2),
                            .proposed_at_ms = w->now_ms,
                            .payload = far_buf_slice(&payload)};
    memcpy(c.id, w->id, sizeof c.id);
    memset(w->id, 0, sizeof w->id);
    write_command(w, &c);
    w->state.rows = w->rows;
    int rc = far_fsm_apply(&w->state, ++w->index, &c, record, w, &w->result, &w->err);
    rc = rc == 0 && w->rows != NULL ? far_rows_flush(w->rows, &w->state.digest, &w->err) : rc;
    w->state.rows = NULL; /* who reads reads the map */
    if (rc != 0) {
        fprintf(stderr, "# %s: %s\n", schema->name, w->err.message);
    }
    assert_int_equal(rc, 0);
    far_buf_done(&payload);
    return w->result.klass;
}

uint64_t world_must(struct world *w, const struct far_schema *schema, const void *command)
{
    int klass = world_apply(w, schema, command);
    if (klass != 0) {
        fprintf(stderr, "# %s: %s\n", schema->name, w->result.message);
    }
    assert_int_equal(klass, 0);
    return w->result.object_id;
}

void world_cluster(struct world *w)
{
    MUST(w, cluster_init, .name = S("c"), .uuid = far_slice(some_hash, 16), .server_name = S("s1"),
         .api_address = S("127.0.0.1:5000"), .peer_address = S("127.0.0.1:5001"),
         .seal_key = far_slice(some_hash, 32), .fingerprint = far_slice(some_hash, 32),
         .ca_certificate = S("ca"), .admin_token_hash = far_slice(some_hash, 32),
         .recovery_public_key = far_slice(some_hash, 32));
    uint64_t actor = w->actor, level = w->level != 0 ? w->level : FAR_FEATURE_LEVEL;
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    if (level > 1) {
        MUST(w, feature_level_raise, .level = level);
    }
    w->actor = actor;
    MUST(w, site_create, .name = S("paris"), .role = FAR_site_role_protected);
    MUST(w, site_create, .name = S("lyon"), .role = FAR_site_role_recovery);
    MUST(w, site_create, .name = S("nice"), .role = FAR_site_role_witness);
}

uint64_t world_boot(struct world *w, uint64_t node_id, uint8_t nonce)
{
    uint8_t bytes[16] = {nonce, 1};
    uint64_t actor = w->actor;
    w->actor = far_actor(FAR_ACTOR_NODE, node_id);
    w->sequence[node_id % 16] = 0;
    uint64_t boot = MUST(w, node_boot, .node_id = node_id, .nonce = far_slice(bytes, 16),
                         .data_address = S("127.0.0.1:5002"));
    w->actor = actor;
    return boot;
}

uint64_t world_node(struct world *w, const char *name, const char *site)
{
    uint8_t hash[32] = {0};
    snprintf((char *)hash, sizeof hash, "%s", name);
    MUST(w, token_create, .name = S(name), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
         .expires_ms = w->now_ms + 1000000000, .site = S(site));
    uint64_t id = MUST(w, node_join, .token_hash = far_slice(hash, 32), .name = S(name),
                       .data_address = S("127.0.0.1:1"), .fingerprint = far_slice(hash, 32));
    world_boot(w, id, 1);
    return id;
}

uint64_t world_workload(struct world *w, const char *name, size_t disks)
{
    static const char *const names[] = {"root", "data", "log", "tmp"};
    struct far_sub_disk_spec specs[60];
    char text[60][96], disk[60][32];
    for (size_t d = 0; d < disks; d++) {
        snprintf(text[d], sizeof text[d], "/disks/%s-%zu", name, d);
        snprintf(disk[d], sizeof disk[d], "d%zu", d);
        specs[d] = (struct far_sub_disk_spec){.name = S(d < 4 ? names[d] : disk[d]), .locator = S(text[d])};
    }
    return MUST(w, workload_create, .name = S(name), .site = S("paris"), .adapter = S("file"),
                .disks = {.items = specs, .count = disks});
}

uint64_t world_plan(struct world *w, const char *name, const char *const *workloads, size_t count)
{
    struct far_slice names[256];
    for (size_t i = 0; i < count; i++) {
        names[i] = S(workloads[i]);
    }
    return MUST(w, plan_create, .name = S(name), .source_site = S("paris"), .target_site = S("lyon"),
                .workloads = {.items = names, .count = count});
}

void world_pass(struct world *w, uint64_t ms)
{
    uint64_t until = w->now_ms + ms, due, actor = w->actor;
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    for (;;) {
        assert_int_equal(far_query_next_deadline(&w->state, &due, &w->err), 0);
        if (due > until) {
            break;
        }
        w->now_ms = due > w->now_ms ? due : w->now_ms;
        world_must(w, &far_schema_cmd_tick, &(struct far_cmd_tick){});
    }
    w->now_ms = until;
    w->actor = actor;
}

static void get_row(struct world *w, const struct far_schema *table, uint64_t id, void *row)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    int rc = far_state_get(&w->state, table, &key, &w->arena, row, &w->err);
    if (rc == FAR_NOT_FOUND) {
        memset(row, 0, table->size);
        rc = 0;
    }
    assert_int_equal(rc, 0);
}

#define ROW(name)                                                      \
    struct far_row_##name world_row_##name(struct world *w, uint64_t id) \
    {                                                                  \
        struct far_row_##name row;                                     \
        get_row(w, &far_schema_row_##name, id, &row);                  \
        return row;                                                    \
    }
ROW(node)
ROW(job)
ROW(plan)
ROW(workload)
ROW(point)
ROW(checkpoint)
ROW(server)

struct far_row_task world_row_task(struct world *w, uint64_t job_id, uint64_t task)
{
    struct far_row_task row;
    struct far_key key = far_key(&far_schema_row_task);
    far_key_u64(&key, job_id);
    far_key_u32(&key, (uint32_t)task);
    assert_int_equal(far_state_get(&w->state, &far_schema_row_task, &key, &w->arena, &row, &w->err), 0);
    assert_int_equal(far_query_running(&w->state, &row, &w->arena, &w->err), 0);
    return row;
}

/* ---- nodes ---- */

static int send_report(struct world *w, uint64_t node_id, const struct far_sub_report_item *items, size_t count)
{
    uint64_t actor = w->actor;
    struct far_row_node node = world_row_node(w, node_id);
    w->actor = far_actor(FAR_ACTOR_NODE, node_id);
    w->sequence[node_id % 16] = node.sequence + 1;
    int klass = APPLY(w, node_report, .node_id = node_id, .boot = node.boot, .sequence = w->sequence[node_id % 16],
                      .items = {.items = items, .count = count});
    w->actor = actor;
    return klass;
}

int world_report(struct world *w, const struct far_row_task *task, struct far_sub_report_item item)
{
    item.job_id = task->job_id;
    item.task = task->task;
    item.attempt = task->attempt;
    return send_report(w, task->node_id, &item, 1);
}

/* The root of a disk in a job: both sides compute the same. */
static struct far_slice root_of(struct world *w, const struct far_sub_order *order)
{
    uint8_t *root = far_arena_alloc(&w->arena, 32);
    assert_non_null(root);
    root[0] = 0xab;
    far_put_be64(root + 8, order->job_id);
    far_put_be64(root + 16, order->disk_id);
    return far_slice(root, 32);
}

static struct far_slice token_of(struct world *w, uint64_t job_id, size_t disk)
{
    char *text = far_arena_alloc(&w->arena, 32);
    assert_non_null(text);
    snprintf(text, 32, "view-%llu-%zu", (unsigned long long)job_id, disk);
    return far_slice_str(text);
}

/* What a good engine says of a send that follows a list of one block, and audits. */
static void take_audit(const struct far_sub_order *order, struct far_sub_report_item *item)
{
    uint64_t blocks = order->size_bytes / 65536;
    item->full = order->since.len == 0 || order->full;
    item->hashed_bytes = item->full ? order->size_bytes : (1 + order->audit_blocks) * 65536;
    item->audited_blocks = item->full ? 0 : order->audit_blocks;
    item->audit_next_block = item->full ? 0 : (order->audit_first_block + order->audit_blocks) % blocks;
    item->duration_ms = 1000;
}

/* A vault says that each plan takes a thousand bytes, and a pass that it freed a hundred. */
static void take_vault(struct world *w, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    const uint64_t *plan_ids = order->plan_ids.items;
    struct far_sub_plan_space *spaces = far_arena_alloc(&w->arena, (order->plan_ids.count + 1) * sizeof *spaces);
    struct far_sub_vault_usage *usage = far_arena_alloc(&w->arena, sizeof *usage);
    struct far_sub_reclaimed *reclaimed = far_arena_alloc(&w->arena, sizeof *reclaimed);
    assert_true(spaces != NULL && usage != NULL && reclaimed != NULL);
    for (size_t i = 0; i < order->plan_ids.count; i++) {
        spaces[i] = (struct far_sub_plan_space){
            .plan_id = plan_ids[i], .logical_bytes = 1000, .points_bytes = 5000, .unique_bytes = 600, .shared_bytes = 50};
    }
    *usage = (struct far_sub_vault_usage){.used_bytes = 2000, .free_bytes = 8000, .total_bytes = 10000, .point_count = 1};
    *reclaimed = (struct far_sub_reclaimed){.quarantined_records = 3, .deleted_records = order->delete_before != 0, .freed_bytes = 100};
    item->spaces = (struct far_list){spaces, order->plan_ids.count};
    item->usage = (struct far_list){usage, 1};
    item->reclaimed = (struct far_list){reclaimed, order->kind == FAR_task_kind_reclaim};
}

/* As a node says it: a configuration that the log knows already by its hash alone. */
static void take_machine(struct world *w, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    uint8_t *hash = far_arena_alloc(&w->arena, 32), *bytes = far_arena_alloc(&w->arena, w->machine);
    assert_true(hash != NULL && bytes != NULL);
    memset(hash, 0, 32);
    far_put_be64(hash, w->machine);
    far_put_be64(hash + 8, order->workload_id);
    memset(bytes, (int)w->machine, w->machine);
    item->config_sha256 = far_slice(hash, 32);
    item->config = far_slice(bytes, far_slice_equal(item->config_sha256, order->config_sha256) ? 0 : w->machine);
}

/* Where the disks of a machine that is up can be read. */
static void tell_of_machine(struct world *w, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    const struct far_sub_machine_order *machine = order->machine.items;
    const struct far_sub_machine_disk *disks = machine->disks.items;
    struct far_sub_machine_result *result = far_arena_alloc(&w->arena, sizeof *result);
    struct far_sub_disk_spec *located = far_arena_alloc(&w->arena, (machine->disks.count + 1) * sizeof *located);
    bool is_up = machine->operation == FAR_machine_operation_up || machine->operation == FAR_machine_operation_keep;
    assert_true(result != NULL && located != NULL);
    for (size_t i = 0; i < machine->disks.count; i++) {
        char *locator = far_arena_alloc(&w->arena, 300);
        assert_non_null(locator);
        snprintf(locator, 300, "/recovered/%.*s", (int)disks[i].target.len, (const char *)disks[i].target.data);
        located[i] = (struct far_sub_disk_spec){.name = disks[i].name, .locator = S(locator)};
    }
    *result = (struct far_sub_machine_result){.state = S("running"), .disks = {located, is_up ? machine->disks.count : 0}};
    item->machine_result = (struct far_list){result, 1};
}

/* One block of each disk differs from the point. */
static void tell_of_disks(struct world *w, const struct far_sub_order *order, struct far_sub_report_item *item)
{
    const struct far_sub_point_disk *points = order->point_disks.items;
    struct far_sub_lost_result *result = far_arena_alloc(&w->arena, sizeof *result);
    struct far_sub_lost_disk *disks = far_arena_alloc(&w->arena, order->point_disks.count * sizeof *disks);
    struct far_sub_byte_range *extent = far_arena_alloc(&w->arena, sizeof *extent);
    assert_true(result != NULL && disks != NULL && extent != NULL);
    *extent = (struct far_sub_byte_range){.offset = 1 << 20, .length = 65536};
    for (size_t i = 0; i < order->point_disks.count; i++) {
        disks[i] = (struct far_sub_lost_disk){.disk_id = points[i].disk_id,
                                              .name = points[i].name,
                                              .size_bytes = 1 << 30,
                                              .compared_bytes = 1 << 20,
                                              .by_list = true,
                                              .lost_bytes = 65536,
                                              .extent_count = 1,
                                              .extents = {extent, 1}};
    }
    *result = (struct far_sub_lost_result){.written_ms = order->frozen_at_ms + 500, .disks = {disks, order->point_disks.count}};
    item->lost_result = (struct far_list){result, 1};
}

static struct far_sub_report_item success(struct world *w, const struct far_sub_order *order)
{
    struct far_sub_report_item item = {.job_id = order->job_id,
                                       .task = order->task,
                                       .attempt = order->attempt,
                                       .state = FAR_report_state_done,
                                       .outcome = FAR_outcome_ok};
    if (order->kind == FAR_task_kind_freeze) {
        struct far_sub_disk_found *found = far_arena_alloc(&w->arena, order->disks.count * sizeof *found);
        for (size_t d = 0; d < order->disks.count; d++) {
            found[d] = (struct far_sub_disk_found){.disk_index = d, .size_bytes = 1 << 30, .identity = S("id")};
            found[d].token = w->lists ? token_of(w, order->job_id, d) : S("");
        }
        item.disks = (struct far_list){.items = found, .count = order->disks.count};
        item.freeze_ref = S("view-1");
        item.frozen_at_ms = w->now_ms - 10;
        if (w->machine != 0) {
            take_machine(w, order, &item);
        }
    } else if (order->kind == FAR_task_kind_send || order->kind == FAR_task_kind_receive) {
        item.root = root_of(w, order);
        item.bytes_total = item.bytes_done = 1 << 30;
        item.bytes_sent = 1000;
        item.bytes_changed = 65536;
        item.full = order->base_root.len == 0;
        if (w->lists && order->kind == FAR_task_kind_send) {
            take_audit(order, &item);
        }
    } else {
        item.root = order->root;
    }
    if (order->kind == FAR_task_kind_scrub) {
        struct far_sub_scrubbed *scrubbed = far_arena_alloc(&w->arena, sizeof *scrubbed);
        assert_non_null(scrubbed);
        *scrubbed = (struct far_sub_scrubbed){.rotation = order->scrub_rotation + 1, .rotation_ended = true, .done_permille = 1000};
        item.scrubbed = (struct far_list){scrubbed, 1};
    }
    if (order->kind == FAR_task_kind_reclaim || order->kind == FAR_task_kind_measure) {
        take_vault(w, order, &item);
    }
    if (order->machine.count > 0) {
        tell_of_machine(w, order, &item);
    }
    if (order->kind == FAR_task_kind_compare) {
        tell_of_disks(w, order, &item);
    }
    return item;
}

size_t world_work_but(struct world *w, uint64_t node_id, uint64_t kind)
{
    struct far_list list;
    assert_int_equal(far_query_orders(&w->state, node_id, 1000, &w->arena, &list, &w->err), 0);
    struct far_sub_report_item items[1000];
    size_t count = 0;
    for (size_t i = 0; i < list.count; i++) {
        const struct far_sub_order *order = (const struct far_sub_order *)list.items + i;
        if (order->kind != kind && order->kind != FAR_task_kind_leaves) { /* it ends with who compares */
            items[count++] = success(w, order);
        }
    }
    if (count > 0) {
        assert_int_equal(send_report(w, node_id, items, count), 0);
    }
    return count;
}

size_t world_work(struct world *w, uint64_t node_id)
{
    return world_work_but(w, node_id, 0);
}

size_t world_work_all(struct world *w, const uint64_t *nodes, size_t count)
{
    for (size_t rounds = 0;; rounds++) {
        size_t items = 0;
        assert_true(rounds < 1000);
        for (size_t i = 0; i < count; i++) {
            items += world_work(w, nodes[i]);
        }
        world_pass(w, 2);
        if (items == 0) {
            return rounds;
        }
    }
}

/* ---- verification ---- */

void world_verify(struct world *w)
{
    struct far_hash128 digest;
    uint64_t pairs;
    int rc = far_fsm_invariants(&w->state, &w->err);
    if (rc != 0) {
        fprintf(stderr, "# %s\n", w->err.message);
    }
    assert_int_equal(rc, 0);
    assert_int_equal(far_state_digest_walk(w->state.kv, &digest, &pairs, &w->err), 0);
    assert_true(far_hash128_equal(digest, w->state.digest));
    struct far_state fold = {.kv = far_kv_memory_new()};
    for (size_t at = 0; at < w->log.len;) {
        struct far_event event;
        memcpy(&event, w->log.data + at, sizeof event);
        event.payload = far_slice(w->log.data + at + sizeof event, event.payload.len);
        rc = far_fsm_evolve(&fold, &event, &w->err);
        if (rc != 0) {
            fprintf(stderr, "# %s\n", w->err.message);
        }
        assert_int_equal(rc, 0);
        at += sizeof event + event.payload.len;
    }
    assert_true(far_hash128_equal(fold.digest, w->state.digest));
    far_kv_memory_free(fold.kv);
}
