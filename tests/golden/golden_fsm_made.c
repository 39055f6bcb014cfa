/* See golden_fsm_made.h. */
#include "golden/golden_fsm_made.h"

#include "lib/fsm_world.h"

#include "lib/cm.h"

/* ---- kinds ---- */

static struct far_arena arena;

static void fill(const struct far_schema *schema, uint8_t *object, uint64_t salt);

static struct far_slice bytes_of(uint64_t salt, size_t max, bool is_text)
{
    size_t len = 1 + salt * 7 % 20;
    len = len < max ? len : max;
    uint8_t *bytes = far_arena_alloc(&arena, len);
    assert_non_null(bytes);
    for (size_t i = 0; i < len; i++) {
        bytes[i] = (uint8_t)(is_text ? 'a' + (salt + i) % 26 : salt * 31 + i);
    }
    return far_slice(bytes, len);
}

static struct far_list list_of(const struct far_field *field, uint64_t salt)
{
    size_t size = field->type == FAR_TYPE_LIST ? field->element->size
                  : field->type == FAR_TYPE_STRS ? sizeof(struct far_slice)
                                                 : sizeof(uint64_t);
    uint8_t *items = far_arena_alloc(&arena, 2 * size);
    assert_non_null(items);
    for (size_t i = 0; i < 2; i++) {
        if (field->type == FAR_TYPE_LIST) {
            fill(field->element, items + i * size, salt + i);
        } else if (field->type == FAR_TYPE_STRS) {
            *(struct far_slice *)(void *)(items + i * size) = bytes_of(salt + i, 63, true);
        } else {
            *(uint64_t *)(void *)(items + i * size) = salt * 1000 + i;
        }
    }
    return (struct far_list){.items = items, .count = field->max < 2 ? field->max : 2};
}

static uint16_t level; /* whose fields are filled, with those of older ones */

static void fill(const struct far_schema *schema, uint8_t *object, uint64_t salt)
{
    for (const struct far_field *f = schema->fields(); f->type != FAR_TYPE_END; f++) {
        void *at = object + f->offset;
        salt = salt * 3 + f->number;
        if (schema->since(f->number) > level) {
            continue;
        }
        switch (f->type) {
        case FAR_TYPE_U64:
        case FAR_TYPE_ENUM:
            *(uint64_t *)at = salt % 5 == 0 ? UINT64_MAX - salt % 97 : 1 + salt % 70000;
            break;
        case FAR_TYPE_BOOL:
            *(bool *)at = true;
            break;
        case FAR_TYPE_STR:
        case FAR_TYPE_BYTES:
        case FAR_TYPE_SECRET:
            *(struct far_slice *)at = bytes_of(salt % 1000, f->max, f->type == FAR_TYPE_STR);
            break;
        default:
            *(struct far_list *)at = list_of(f, salt % 1000);
            break;
        }
    }
}

/* The kinds that are of this level, or have a field of it. */
static void write_kinds(FILE *file)
{
    static const char *const classes[] = {"sub", "cmd", "ev", "row", "msg"};
    struct far_error err;
    far_arena_init(&arena, 1 << 20);
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        const struct far_schema *schema = far_schemas[i];
        if (schema->klass == FAR_CLASS_sub || schema->since(0) > level || (schema->levels >> level & 1) == 0) {
            continue;
        }
        struct far_buf buf;
        uint8_t *object = far_arena_alloc(&arena, schema->size);
        far_buf_init(&buf, 1 << 20);
        memset(object, 0, schema->size);
        fill(schema, object, schema->kind);
        assert_int_equal(far_schema_encode(schema, object, &buf, &err), 0);
        fprintf(file, "%s %s %u %u ", classes[schema->klass], schema->name, schema->kind, schema->version);
        for (size_t k = 0; k < buf.len; k++) {
            fprintf(file, "%02x", buf.data[k]);
        }
        fputc('\n', file);
        far_buf_done(&buf);
        far_arena_reset(&arena);
    }
    far_arena_done(&arena);
}

/* Level by level: what a version brings is behind what was there before it. */
void golden_write_kinds(FILE *file)
{
    for (level = 1; level <= FAR_FEATURE_LEVEL; level++) {
        write_kinds(file);
    }
}

/* ---- a log ---- */

static void live(struct world *w, const uint64_t *nodes)
{
    struct far_sub_restore_spec specs[2] = {{S("root"), S("/o/1")}, {S("data"), S("/o/2")}};
    struct far_slice names[2] = {S("web"), S("db")};
    uint8_t secret[40] = {1, 2, 3};
    w->id[0] = 1;
    MUST(w, secret_set, .name = S("ca-key"), .sealed = far_slice(secret, sizeof secret));
    world_workload(w, "web", 2);
    world_workload(w, "db", 3);
    w->id[0] = 2;
    MUST(w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"), .workloads = {names, 2},
         .interval_s = 60);
    MUST(w, plan_start, .name = S("p"));
    world_pass(w, 1);
    world_work_all(w, nodes, 3);
    uint64_t plan_id = 0;
    assert_int_equal(far_query_id(&w->state, &far_schema_row_plan, S("p"), &plan_id, &w->err), 0);
    uint64_t first = world_row_plan(w, plan_id).last_checkpoint_id;
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(w, leader_started, .server_id = 1, .term = 4);
    w->actor = 0;
    uint64_t job = MUST(w, plan_replicate, .name = S("p"));
    world_work(w, nodes[0]);
    world_boot(w, nodes[0], 2);
    struct far_row_task freeze = world_row_task(w, job, 1);
    world_report(w, &freeze, (struct far_sub_report_item){.state = FAR_report_state_failed,
                                                          .outcome = FAR_outcome_fatal,
                                                          .error_class = S("not_found"),
                                                          .error_message = S("no such disk")});
    world_work_all(w, nodes, 3);
    MUST(w, recover, .plan = S("p"), .workload = S("web"), .disks = {specs, 2});
    world_work_all(w, nodes, 3);
    MUST(w, checkpoint_verify, .checkpoint_id = first);
    world_work_all(w, nodes, 3);
    job = MUST(w, plan_replicate, .name = S("p"));
    world_work(w, nodes[0]);
    MUST(w, job_cancel, .job_id = job);
    world_pass(w, 50000);
    MUST(w, plan_stop, .name = S("p"));
    for (size_t i = 0; i < 3; i++) {
        world_boot(w, nodes[i], 7);
    }
    world_work_all(w, nodes, 3);
    MUST(w, checkpoint_remove, .checkpoint_id = first);
    world_work_all(w, nodes, 3);
    world_pass(w, 3600 * 1000);
    MUST(w, server_site_set, .name = S("s1"), .site = S("nice"));
    APPLY(w, site_remove, .name = S("paris"));
    MUST(w, plan_remove, .name = S("p"));
    MUST(w, workload_remove, .name = S("db"));
    MUST(w, node_remove, .name = S("b"));
    world_pass(w, 25ull * 3600 * 1000);
}

static void consume(struct world *w, const uint64_t *nodes)
{
    uint8_t head[32] = {5, 6, 7};
    MUST(w, consumer_create, .name = S("audit"), .seq = 3, .head = far_slice(head, 8));
    w->id[0] = 9;
    MUST(w, consumer_create, .name = S("billing"), .from_end = true);
    MUST(w, consumer_ack, .name = S("audit"), .seq = 7, .head = far_slice(head, 32));
    MUST(w, consumer_ack, .name = S("audit"), .seq = 5);
    APPLY(w, consumer_ack, .name = S("nobody"), .seq = 5);
    APPLY(w, consumer_create, .name = S("audit"), .seq = 1);
    world_pass(w, 1000);
    MUST(w, consumer_ack, .name = S("billing"), .seq = w->events);
    MUST(w, consumer_remove, .name = S("audit"));
}

static void sign_heads(struct world *w, const uint64_t *nodes)
{
    uint8_t head[32] = {5, 6, 7}, other[32] = {8}, signature[64] = {9}, keys[3][32] = {{1}, {2}, {3}}, hash[32] = {4};
    MUST(w, server_key_set, .server_id = 1, .public_key = far_slice(keys[0], 32));
    MUST(w, head_propose, .seq = w->events, .head = far_slice(head, 32));
    uint64_t seq = w->result.object_id;
    MUST(w, head_sign, .server_id = 1, .seq = seq, .signature = far_slice(signature, 64));
    MUST(w, token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w->now_ms + 1000, .site = S("lyon"));
    uint64_t second = MUST(w, server_join, .token_hash = far_slice(hash, 32), .name = S("s2"), .peer_address = S("b:1"),
                           .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    MUST(w, server_key_set, .server_id = second, .public_key = far_slice(keys[1], 32));
    APPLY(w, server_key_set, .server_id = 1, .public_key = far_slice(keys[1], 32));
    MUST(w, server_role_changed, .server_id = second, .role = FAR_server_role_voter);
    world_pass(w, 1000);
    MUST(w, head_propose, .seq = w->events, .head = far_slice(head, 32));
    seq = w->result.object_id;
    APPLY(w, head_propose, .seq = seq, .head = far_slice(head, 32));
    MUST(w, head_sign, .server_id = second, .seq = seq, .signature = far_slice(signature, 64));
    MUST(w, head_sign, .server_id = second, .seq = seq, .signature = far_slice(signature, 64));
    MUST(w, head_refuse, .server_id = 1, .seq = seq, .head = far_slice(other, 32));
    APPLY(w, head_sign, .server_id = 1, .seq = seq, .signature = far_slice(signature, 64));
    MUST(w, server_key_set, .server_id = second, .public_key = far_slice(keys[2], 32));
    for (int i = 0; i < 34; i++) {
        MUST(w, head_propose, .seq = w->events, .head = far_slice(head, 32));
        MUST(w, head_refuse, .server_id = 1, .seq = w->result.object_id, .head = far_slice(other, 32));
    }
}

static void recover_quorum(struct world *w, const uint64_t *nodes)
{
    uint8_t uuid[16] = {1, 2, 3}, head[32] = {4, 5}, key[32] = {6};
    MUST(w, recovery_policy_set, .second_approval = true);
    MUST(w, incarnation_begin, .epoch = 2, .uuid = far_slice(uuid, 16), .reason = FAR_incarnation_reason_quorum_lost,
         .parent_index = 30, .parent_term = 4, .parent_seq = w->events, .parent_head = far_slice(head, 32),
         .sure_seq = w->events - 1, .sure_head = far_slice(head, 32), .server_id = 1, .approved_by = 2);
    APPLY(w, incarnation_begin, .epoch = 2, .uuid = far_slice(uuid, 16), .reason = FAR_incarnation_reason_quorum_lost,
          .parent_head = far_slice(head, 32), .sure_head = far_slice(head, 32), .server_id = 1);
    struct far_row_progress progress = {0};
    struct far_key row_key = far_key(&far_schema_row_progress);
    (void)far_state_get(&w->state, &far_schema_row_progress, &row_key, &w->arena, &progress, NULL);
    MUST(w, incarnation_begin, .epoch = 3, .uuid = far_slice(uuid, 16), .reason = FAR_incarnation_reason_restored,
         .parent_seq = w->events, .parent_head = far_slice(head, 32), .sure_seq = w->events,
         .sure_head = far_slice(head, 32), .server_id = progress.next_id, .server_name = S("again"),
         .api_address = S("c:1"), .peer_address = S("c:2"), .seal_key = far_slice(key, 32),
         .fingerprint = far_slice(key, 32));
    MUST(w, recovery_policy_set, .second_approval = false);
}

static void cut_events(struct world *w, const uint64_t *nodes)
{
    uint64_t ids[3] = {1, 1, 99};
    MUST(w, retention_set, .days = 7, .bytes = 1ull << 30);
    MUST(w, retention_set, .days = 7, .bytes = 1ull << 30);
    APPLY(w, retention_set, .days = 1000000);
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(w, events_cut, .seq = 5, .held_by = {.items = ids, .count = 1});
    APPLY(w, events_cut, .seq = 5, .held_by = {.items = ids, .count = 1});
    uint8_t hash[32] = {4};
    w->actor = far_actor(FAR_ACTOR_TOKEN, 2);
    MUST(w, token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w->now_ms + 1000, .site = S("lyon"));
    uint64_t second = MUST(w, server_join, .token_hash = far_slice(hash, 32), .name = S("s2"), .peer_address = S("b:1"),
                           .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    APPLY(w, events_cut, .seq = 6, .held_by = {.items = ids, .count = 3});
    ids[1] = second;
    MUST(w, events_cut, .seq = 7, .held_by = {.items = ids, .count = 2});
    MUST(w, retention_set);
}

static void compact_progress(struct world *w, const uint64_t *nodes)
{
    const uint64_t day = 86400000;
    w->now_ms += 40 * day;
    APPLY(w, retention_set, .progress_days = 1000000);
    MUST(w, retention_set, .days = 90, .progress_days = 1);
    APPLY(w, progress_compact, .seq = 5, .time_ms = w->now_ms - 2 * day);
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    APPLY(w, progress_compact, .seq = 5, .time_ms = w->now_ms - day / 2);
    APPLY(w, progress_compact, .seq = 5, .time_ms = w->now_ms + 1);
    APPLY(w, progress_compact, .seq = 5000, .time_ms = w->now_ms - 2 * day);
    MUST(w, progress_compact, .seq = 5, .time_ms = w->now_ms - day);
    APPLY(w, progress_compact, .seq = 5, .time_ms = w->now_ms - day);
    MUST(w, retention_set);
    APPLY(w, progress_compact, .seq = 9, .time_ms = w->now_ms - 2 * day);
    MUST(w, progress_compact, .seq = 9, .time_ms = w->now_ms - 31 * day);
    uint64_t one = 1;
    struct far_list held_by = {.items = &one, .count = 1};
    APPLY(w, events_cut, .seq = 7, .held_by = held_by, .time_ms = w->now_ms - 29 * day);
    MUST(w, events_cut, .seq = 7, .held_by = held_by, .time_ms = w->now_ms - 31 * day);
    APPLY(w, events_cut, .seq = 8, .held_by = held_by, .bytes = 1ull << 30);
    MUST(w, events_cut, .seq = 8, .held_by = held_by, .bytes = FAR_RETAIN_BYTES);
}

static void skip_entries(struct world *w, const uint64_t *nodes)
{
    APPLY(w, entry_skip_order, .index = 2, .server_id = 1);
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    APPLY(w, entry_skip_order, .index = 1000, .server_id = 1);
    APPLY(w, entry_skip_order, .index = 2, .server_id = 999);
    MUST(w, entry_skip_order, .index = 2, .entry_hash = 0xfedcba9876543210, .server_id = 1, .token_id = 2, .token_name = S("ann"),
         .reason = S("it crashes"), .forced = true, .ordered_ms = w->now_ms);
    MUST(w, entry_skip_order, .index = 2, .server_id = 1, .reason = S("again"));
    for (uint64_t index = 3; index < 6; index++) {
        MUST(w, entry_skip_order, .index = index, .entry_hash = index, .server_id = 1, .token_id = 2);
    }
}

static void forget_history(struct world *w, const uint64_t *nodes)
{
    uint64_t one = 1;
    APPLY(w, history_forget, .before = 1000);
    MUST(w, history_forget, .before = 4, .forced = true);
    APPLY(w, history_forget, .before = 4);
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    APPLY(w, history_forget, .before = 5);
    MUST(w, events_cut, .seq = 6, .held_by = {.items = &one, .count = 1});
    w->actor = far_actor(FAR_ACTOR_TOKEN, 2);
    MUST(w, history_forget, .before = 7);
}

/* A week of a calendar, with a change of the clocks in it. */
static void limit_bandwidth(struct world *w, const uint64_t *nodes)
{
    static const uint64_t days[] = {1, 2, 3, 4, 5, 6, 7};
    static const struct far_sub_zone_change changes[] = {{0, 3600, 0}, {1806195600, 7200, 0}, {1824944400, 3600, 0}};
    struct far_sub_throttle_window windows[] = {
        {.days = {days, 5}, .from_min = 480, .to_min = 1080, .bytes_per_s = 20000000},
        {.days = {days + 5, 2}, .from_min = 1320, .to_min = 150, .bytes_per_s = 1},
    };
    w->now_ms = 1805900000000; /* 2027-03-24 14:53:20 UTC */
    world_boot(w, nodes[0], 1);
    APPLY(w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .zone = S("Europe/Berlin"), .windows = {windows, 2});
    MUST(w, zone_set, .name = S("Europe/Berlin"), .changes = {changes, 3}, .until_s = 1830000000);
    MUST(w, zone_set, .name = S("Europe/Berlin"), .changes = {changes, 3}, .until_s = 1830000000);
    MUST(w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("paris"), .bytes_per_s = 50000000, .zone = S("Europe/Berlin"),
         .windows = {windows, 2});
    MUST(w, throttle_set, .scope = FAR_throttle_scope_node, .name = S("a"), .bytes_per_s = 10000, .windows = {windows + 1, 1});
    windows[1].from_min = 1079;
    windows[1].days.items = days;
    APPLY(w, throttle_set, .scope = FAR_throttle_scope_node, .name = S("a"), .windows = {windows, 2});
    world_pass(w, 7ull * 86400 * 1000);
    MUST(w, zone_set, .name = S("Europe/Berlin"), .changes = {changes, 1}, .until_s = 1830000000);
    world_pass(w, 1);
    MUST(w, throttle_set, .scope = FAR_throttle_scope_site, .name = S("lyon"), .bytes_per_s = 1);
    MUST(w, throttle_remove, .scope = FAR_throttle_scope_site, .name = S("lyon"));
    APPLY(w, throttle_remove, .scope = FAR_throttle_scope_site, .name = S("lyon"));
    MUST(w, node_remove, .name = S("a"));
}

static void update_workloads(struct world *w, const uint64_t *nodes)
{
    struct far_sub_label labels[] = {{S("owner"), S("ann")}, {S("tier"), S("1")}};
    struct far_sub_disk_spec moved = {S("data"), S("/elsewhere")}, unknown = {S("disk9"), S("/x")};
    struct far_slice clear = S("description");
    world_workload(w, "books", 2);
    MUST(w, workload_update, .name = S("books"), .description = S("the books"), .labels = {labels, 2});
    APPLY(w, workload_update, .name = S("books"), .description = S("other"), .conditional = true, .revision = 7);
    MUST(w, workload_update, .name = S("books"), .disks = {&moved, 1}, .conditional = true, .revision = 1);
    APPLY(w, workload_update, .name = S("books"), .disks = {&unknown, 1});
    MUST(w, workload_update, .name = S("books"), .labels = {labels + 1, 1}, .clear = {&clear, 1});
    MUST(w, workload_remove, .name = S("books"));
}

/* What runs is reported, renewed, forgotten and ends; its node boots anew. */
static void run_tasks(struct world *w, const uint64_t *nodes)
{
    static const char *const names[] = {"w0", "w1", "w2", "w3"};
    for (size_t i = 0; i < 4; i++) {
        world_workload(w, names[i], 2);
    }
    world_plan(w, "p", names, 4);
    uint64_t job = MUST(w, plan_replicate, .name = S("p"));
    for (unsigned round = 0; round < 3; round++) {
        for (uint64_t i = round; i < 4; i++) { /* one less is named each time: its lease ends */
            struct far_row_task freeze = world_row_task(w, job, 1 + 7 * i);
            world_report(w, &freeze, (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_total = 1000,
                                                                  .bytes_done = 100 * round + i});
        }
        world_pass(w, 9000);
    }
    w->actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(w, leader_started, .server_id = 1, .term = 4);
    w->actor = 0;
    world_boot(w, nodes[0], 1);
    world_boot(w, nodes[1], 1);
    world_work(w, nodes[0]);
    for (uint64_t number = 4; number < 8; number++) {
        struct far_row_task task = world_row_task(w, job, number);
        world_report(w, &task, (struct far_sub_report_item){.state = FAR_report_state_running, .bytes_total = 1 << 30,
                                                            .bytes_done = 1 << 20, .bytes_changed = 4096, .bytes_sent = 9});
    }
    world_boot(w, nodes[0], 2);
    world_work_all(w, nodes, 3);
}

/* cluster_level: so that an old life stays the same when newer levels come. */
static void write_log(FILE *file, uint64_t cluster_level, void (*life)(struct world *w, const uint64_t *nodes))
{
    struct world w;
    world_init(&w);
    w.level = cluster_level;
    w.transcript = file;
    world_cluster(&w);
    uint64_t nodes[3] = {world_node(&w, "a", "paris"), world_node(&w, "b", "lyon"), world_node(&w, "c", "lyon")};
    life(&w, nodes);
    world_verify(&w);
    fprintf(file, "D %016llx%016llx\n", (unsigned long long)w.state.digest.high,
            (unsigned long long)w.state.digest.low);
    world_done(&w);
}

void golden_write_log(FILE *file)
{
    write_log(file, 1, live);
}

void golden_write_log_consumers(FILE *file)
{
    write_log(file, 2, consume);
}

void golden_write_log_heads(FILE *file)
{
    write_log(file, 2, sign_heads);
}

void golden_write_log_incarnations(FILE *file)
{
    write_log(file, 2, recover_quorum);
}

void golden_write_log_retention(FILE *file)
{
    write_log(file, 2, cut_events);
}

void golden_write_log_updates(FILE *file)
{
    write_log(file, 2, update_workloads);
}

void golden_write_log_running(FILE *file)
{
    write_log(file, 3, run_tasks);
}

void golden_write_log_compaction(FILE *file)
{
    write_log(file, 3, compact_progress);
}

void golden_write_log_skips(FILE *file)
{
    write_log(file, 3, skip_entries);
}

void golden_write_log_forget(FILE *file)
{
    write_log(file, 3, forget_history);
}

void golden_write_log_throttles(FILE *file)
{
    write_log(file, 4, limit_bandwidth);
}
