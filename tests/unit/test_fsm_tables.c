/* Every cell of every transition table, legal and illegal.
 *
 * For each table a driver knows how to bring an object into each state and how to give it each input: by a command where
 * one leads there, by a forged event where only an event can (a replayed log that lies), and by asking the table where
 * no bytes can lead there at all. The cells themselves say what must happen. */
#include "fsm/step.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"

#include <stdio.h>

static struct world w;
static uint64_t source, target, workload, plan, job, checkpoint;
static uint64_t object; /* the id of what is driven */
static uint8_t hash[32] = {42};

/* What became of an input. */
static struct outcome {
    enum { BY_COMMAND, BY_EVENT, BY_TABLE } way;
    int klass;
    char message[FAR_MESSAGE_MAX];
} outcome;

/* ---- ways to give an input ---- */

static void by_command(const struct far_schema *schema, const void *command)
{
    outcome.way = BY_COMMAND;
    outcome.klass = world_apply(&w, schema, command);
    memcpy(outcome.message, w.result.message, sizeof outcome.message);
}
#define COMMAND(name, ...) by_command(&far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})

static void by_event(const struct far_schema *schema, const void *event)
{
    struct far_buf payload;
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_progress);
    far_buf_init(&payload, 1 << 20);
    assert_int_equal(far_schema_encode(schema, event, &payload, &w.err), 0);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &progress, &w.err), 0);
    struct far_event e = {.seq = progress.next_seq,
                          .kind = schema->kind,
                          .time_ms = w.now_ms,
                          .payload = far_buf_slice(&payload)};
    outcome.way = BY_EVENT;
    outcome.klass = far_fsm_evolve(&w.state, &e, &w.err);
    memcpy(outcome.message, w.err.message, sizeof outcome.message);
    far_buf_done(&payload);
}
#define EVENT(name, ...) by_event(&far_schema_ev_##name, &(struct far_ev_##name){__VA_ARGS__})

static void by_table(const struct far_table *table, unsigned state, unsigned input)
{
    struct far_step step = {.state = &w.state};
    outcome.way = BY_TABLE;
    outcome.klass = far_move(&step, table, state, input, S("x"), NULL);
    snprintf(outcome.message, sizeof outcome.message, "%s", step.reject_message);
}

/* ---- sites, cluster, commands, clock, leader, deadlines ---- */

static void reach_site(unsigned state)
{
    if (state == 1) {
        MUST(&w, site_create, .name = S("rome"), .role = FAR_site_role_recovery);
    }
}
static void give_site(unsigned state, unsigned input)
{
    if (input == 0) {
        COMMAND(site_create, .name = S("rome"), .role = FAR_site_role_recovery);
    } else if (input == 1) {
        COMMAND(site_remove, .name = S("rome"));
    } else {
        COMMAND(site_update, .name = S("rome"), .parallel_sends = 2);
    }
}
static unsigned see_site(void)
{
    uint64_t id;
    return far_query_id(&w.state, &far_schema_row_site, S("rome"), &id, NULL) == 0;
}

static void reach_consumer(unsigned state)
{
    if (state == 1) {
        object = MUST(&w, consumer_create, .name = S("audit"), .from_end = true);
    }
}
static void give_consumer(unsigned state, unsigned input)
{
    if (input == 0) {
        COMMAND(consumer_create, .name = S("audit"), .seq = 1);
    } else if (input == 1) {
        COMMAND(consumer_ack, .name = S("audit"), .seq = w.events);
    } else {
        COMMAND(consumer_remove, .name = S("audit"));
    }
}
static unsigned see_consumer(void)
{
    uint64_t id;
    return far_query_id(&w.state, &far_schema_row_consumer, S("audit"), &id, NULL) == 0;
}

enum { ALERT = 500, OTHER_ALERT = 501 };
static void raise_alert(uint64_t id)
{
    EVENT(alert_raised, .id = id, .kind = FAR_alert_kind_rpo_late, .object_id = id, .plan_id = plan, .message = S("late"));
}
static void reach_alert(unsigned state)
{
    object = ALERT;
    if (state != 0) {
        raise_alert(ALERT);
        assert_int_equal(outcome.klass, 0);
    }
    if (state == 2) {
        MUST(&w, alert_ack, .alert_id = ALERT, .note = S("seen"));
    } else if (state == 3) {
        EVENT(alert_cleared, .alert_id = ALERT);
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_alert(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        raise_alert(ALERT);
        break;
    case 1:
        EVENT(alert_repeated, .alert_id = ALERT, .message = S("still late"));
        break;
    case 2:
        COMMAND(alert_ack, .alert_id = ALERT, .note = S("seen"));
        break;
    case 3:
        EVENT(alert_cleared, .alert_id = ALERT);
        break;
    default:
        raise_alert(OTHER_ALERT);
        assert_int_equal(outcome.klass, 0);
        EVENT(alert_cleared, .alert_id = OTHER_ALERT, .forget_id = ALERT);
    }
}
static unsigned see_alert(void)
{
    struct far_row_alert row = {.state = 0};
    struct far_key key = far_key(&far_schema_row_alert);
    far_key_u64(&key, ALERT);
    return far_state_get(&w.state, &far_schema_row_alert, &key, &w.arena, &row, NULL) == 0 ? (unsigned)row.state : 0;
}

static void reach_cluster(unsigned state)
{
    if (state == 0) {
        world_done(&w);
        world_init(&w);
    }
}
static void give_cluster(unsigned state, unsigned input)
{
    if (input == 1) {
        COMMAND(secret_set, .name = S("ca-key"), .sealed = S("x"));
        return;
    }
    COMMAND(cluster_init, .name = S("c"), .uuid = far_slice(hash, 16), .server_name = S("s1"),
            .peer_address = S("a:1"), .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32),
            .admin_token_hash = far_slice(hash, 32), .recovery_public_key = far_slice(hash, 32));
}
static unsigned see_cluster(void)
{
    return world_row_server(&w, 1).id == 1;
}

static bool is_remembered;
static void reach_command(unsigned state)
{
    is_remembered = state == 1;
    if (is_remembered) {
        w.id[0] = 1;
        MUST(&w, site_create, .name = S("rome"), .role = 1);
    }
}
static void give_command(unsigned state, unsigned input)
{
    w.id[0] = 1;
    COMMAND(site_create, .name = S(input == 0 ? "rome" : "oslo"), .role = 1);
    is_remembered = is_remembered || outcome.klass == 0;
}
static unsigned see_command(void)
{
    return is_remembered;
}

static void reach_nothing(unsigned state)
{
}
static unsigned see_nothing(void)
{
    return 0;
}
static void give_clock(unsigned state, unsigned input)
{
    w.now_ms = input == 0 ? 1 : w.now_ms;
    EVENT(site_created, .id = 100, .name = S("rome"), .role = 1);
}
static void reach_calendar(unsigned state)
{
    static const uint64_t verdicts[] = {FAR_clock_verdict_good, FAR_clock_verdict_suspect, FAR_clock_verdict_ahead};
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, clock_judge, .verdict = verdicts[state], .off_ms = 20000, .agreeing = 2, .voters = 3);
    w.actor = 0;
}
static void give_calendar(unsigned state, unsigned input)
{
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    COMMAND(clock_judge, .verdict = 1 + input, .off_ms = 20000, .agreeing = 2, .voters = 3, .to_ms = w.now_ms + 20000);
    w.now_ms += 20000;
    w.actor = 0;
}
static unsigned see_calendar(void)
{
    struct far_row_progress row;
    struct far_key key = far_key(&far_schema_row_progress);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &row, NULL), 0);
    return row.clock_verdict == FAR_clock_verdict_suspect ? 1 : row.clock_verdict == FAR_clock_verdict_ahead ? 2 : 0;
}

static void reach_skip(unsigned state)
{
}
static void give_skip(unsigned state, unsigned input)
{
    COMMAND(entry_skip, .index = w.index + 1 + input, .commands = 1);
}

static void reach_level(unsigned state)
{
}
static void give_level(unsigned state, unsigned input)
{
    EVENT(feature_level_raised, .level = input == 0 ? FAR_FEATURE_LEVEL + 1 : FAR_FEATURE_LEVEL);
}

static void reach_retention(unsigned state)
{
    uint64_t one = 1, actor = w.actor;
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    MUST(&w, events_cut, .seq = 3, .held_by = {.items = &one, .count = 1});
    w.actor = actor;
}
static void give_retention(unsigned state, unsigned input)
{
    EVENT(events_cut, .seq = input == 0 ? 4 : 3);
}

static void reach_compaction(unsigned state)
{
    EVENT(progress_compacted, .seq = 3);
}
static void give_compaction(unsigned state, unsigned input)
{
    EVENT(progress_compacted, .seq = input == 0 ? 4 : 3);
}

static void reach_leader(unsigned state)
{
    MUST(&w, leader_started, .server_id = 1, .term = 5);
}
static void give_leader(unsigned state, unsigned input)
{
    COMMAND(leader_started, .server_id = 1, .term = 4 + input);
}

static void reach_deadline(unsigned state)
{
    object = 100;
    if (state == 1) {
        EVENT(token_created, .id = 100, .name = S("t"), .purpose = 2, .hash = far_slice(hash, 32),
              .expires_ms = w.now_ms + 50);
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_deadline(unsigned state, unsigned input)
{
    static uint8_t other[32] = {43};
    if (input == 0) {
        EVENT(token_created, .id = 100, .name = S("t"), .purpose = 2, .hash = far_slice(other, 32),
              .expires_ms = w.now_ms + 50);
    } else {
        EVENT(deadline_dropped, .time_ms = w.now_ms + 50, .kind = FAR_deadline_kind_token_expiry, .object_id = 100);
    }
}
static unsigned see_deadline(void)
{
    struct far_row_deadline row;
    struct far_key key = far_key(&far_schema_row_deadline);
    far_key_u64(&key, w.now_ms + 50);
    far_key_u8(&key, FAR_deadline_kind_token_expiry);
    far_key_u64(&key, 100);
    far_key_u32(&key, 0);
    return far_state_get(&w.state, &far_schema_row_deadline, &key, &w.arena, &row, NULL) == 0;
}

/* ---- tokens ---- */

static void reach_token(unsigned state)
{
    if (state == 0) {
        object = 999;
        return;
    }
    object = MUST(&w, token_create, .name = S("n9"), .purpose = FAR_token_purpose_join_node,
                  .hash = far_slice(hash, 32), .expires_ms = w.now_ms + 1000, .site = S("paris"));
    if (state == 2) {
        MUST(&w, node_join, .token_hash = far_slice(hash, 32), .name = S("n9"), .fingerprint = far_slice(hash, 32));
        MUST(&w, node_remove, .name = S("n9"));
    } else if (state == 3) {
        MUST(&w, token_revoke, .token_id = object);
    }
}
static void give_token(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        COMMAND(token_create, .name = S("n9"), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
                .expires_ms = w.now_ms + 1000, .site = S("paris"));
        break;
    case 1:
        COMMAND(token_revoke, .token_id = object);
        break;
    case 2:
        COMMAND(node_join, .token_hash = far_slice(hash, 32), .name = S("n9"), .fingerprint = far_slice(hash, 32));
        break;
    default:
        if (state == 0) {
            EVENT(token_expired, .token_id = object, .hash = far_slice(hash, 32));
        } else {
            w.now_ms += 1000;
            COMMAND(tick);
        }
    }
}
static unsigned see_token(void)
{
    struct far_row_token row;
    struct far_key key = far_key(&far_schema_row_token);
    far_key_bytes(&key, far_slice(hash, 32));
    if (far_state_get(&w.state, &far_schema_row_token, &key, &w.arena, &row, NULL) != 0) {
        return 0;
    }
    return row.revoked ? 3 : row.used_ms != 0 ? 2 : 1;
}

/* ---- servers ---- */

static void server_token(uint8_t tag)
{
    hash[31] = tag;
    MUST(&w, token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 1000, .site = S("lyon"));
}
static void server_join(void)
{
    COMMAND(server_join, .token_hash = far_slice(hash, 32), .name = S("s2"), .peer_address = S("b:1"),
            .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
}
static void reach_server(unsigned state)
{
    object = 999;
    server_token(1);
    if (state == 0) {
        return;
    }
    server_join();
    object = w.result.object_id;
    if (state != 3) {
        /* a second token for the same name can only be older than the server */
        EVENT(token_created, .id = 500, .name = S("s2"), .purpose = FAR_token_purpose_join_server,
              .hash = S("01234567890123456789012345678901"), .expires_ms = w.now_ms + 5000, .site_id = 3);
        assert_int_equal(outcome.klass, 0);
    }
    for (unsigned role = 2; role <= state; role++) {
        MUST(&w, server_role_changed, .server_id = object, .role = role);
    }
}
static void give_server(unsigned state, unsigned input)
{
    if (state == 3 && input == 0) {
        server_token(2);
        EVENT(server_joined, .id = object, .name = S("s2"), .token_hash = far_slice(hash, 32));
    } else if (state != 0 && input == 0) {
        COMMAND(server_join, .token_hash = S("01234567890123456789012345678901"), .name = S("s2"),
                .peer_address = S("b:1"), .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    } else if (input == 0) {
        server_join();
        object = w.result.object_id;
    } else if (input <= 3 && state != 3) {
        COMMAND(server_role_set, .name = S("s2"), .role = input);
    } else if (input <= 3) {
        EVENT(server_role_wanted, .server_id = object, .role = input);
    } else if (input <= 6) {
        COMMAND(server_role_changed, .server_id = object, .role = input - 3);
    } else if (input == 8 && state != 3) {
        COMMAND(leader_transfer, .to = S("s2"));
    } else if (input == 8) {
        EVENT(leader_wanted, .server_id = object);
    } else if (state != 3) {
        COMMAND(server_site_set, .name = S("s2"), .site = S("paris"));
    } else {
        EVENT(server_site_changed, .server_id = object, .site_id = 3);
    }
}
static unsigned see_server(void)
{
    return (unsigned)world_row_server(&w, object).role;
}

#include "lib/head_drivers.h"

/* ---- nodes ---- */

/* A token with which somebody may. */
static void take_its_place(void)
{
    EVENT(token_created, .id = 501, .name = S("n9"), .purpose = FAR_token_purpose_join_node,
          .hash = S("a place that somebody takes over"), .expires_ms = w.now_ms + 500000, .site_id = 3, .replaces_id = object);
    assert_int_equal(outcome.klass, 0);
}

static void reach_node(unsigned state)
{
    object = 999;
    uint64_t first = MUST(&w, token_create, .name = S("n9"), .purpose = FAR_token_purpose_join_node,
                          .hash = far_slice(hash, 32), .expires_ms = w.now_ms + 100000, .site = S("paris"));
    assert_int_not_equal(first, 0);
    if (state == 0) {
        take_its_place();
        return;
    }
    COMMAND(node_join, .token_hash = far_slice(hash, 32), .name = S("n9"), .fingerprint = far_slice(hash, 32));
    object = w.result.object_id;
    EVENT(token_created, .id = 500, .name = S("n9"), .purpose = FAR_token_purpose_join_node,
          .hash = S("01234567890123456789012345678901"), .expires_ms = w.now_ms + 500000, .site_id = 3);
    assert_int_equal(outcome.klass, 0);
    take_its_place();
    if (state >= 2) {
        world_boot(&w, object, 1);
    }
    if (state == 3) {
        world_pass(&w, 20000);
    }
}
static void give_node(unsigned state, unsigned input)
{
    struct far_row_node row = world_row_node(&w, object);
    uint8_t nonce[16] = {input == 2 ? 1 : 2, 1};
    w.actor = far_actor(FAR_ACTOR_NODE, object);
    switch (input) {
    case 0:
        COMMAND(node_join, .token_hash = state == 0 ? far_slice(hash, 32) : S("01234567890123456789012345678901"),
                .name = S("n9"), .fingerprint = far_slice(hash, 32));
        object = outcome.klass == 0 ? w.result.object_id : object;
        break;
    case 1:
        COMMAND(node_remove, .name = S("n9"));
        break;
    case 2:
        if (state < 2) { /* who has never booted has no nonce to be the same as */
            extern const struct far_table far_table_node;
            by_table(&far_table_node, state, input);
            break;
        } /* fall through */
    case 3:
        COMMAND(node_boot, .node_id = object, .nonce = far_slice(nonce, 16));
        break;
    case 4:
        COMMAND(node_report, .node_id = object, .boot = row.boot, .sequence = row.sequence + 1);
        break;
    case 6:
        EVENT(leases_checked, .node_id = object);
        break;
    case 9:
        w.actor = 0;
        COMMAND(node_join, .token_hash = S("a place that somebody takes over"), .name = S("n9"), .fingerprint = far_slice(hash, 32));
        break;
    case 7:
    case 8:
        w.actor = 0;
        if (input == 7) {
            COMMAND(node_drain, .name = S("n9"));
        } else {
            COMMAND(node_undrain, .name = S("n9"));
        }
        break;
    default:
        if (state == 2) {
            w.now_ms = row.lease_until_ms;
            COMMAND(tick);
        } else {
            EVENT(node_lost, .node_id = object);
        }
    }
}
static unsigned see_node(void)
{
    return (unsigned)world_row_node(&w, object).state;
}

/* ---- workloads and plans ---- */

static void reach_workload(unsigned state)
{
    object = state >= 1 ? world_workload(&w, "db", 1) : 999;
    if (state == 2) {
        world_plan(&w, "q", (const char *const[]){"db"}, 1);
    }
}
static void give_workload(unsigned state, unsigned input)
{
    extern const struct far_table far_table_workload;
    struct far_sub_disk_spec disk = {S("root"), S("/x")};
    struct far_slice name = S("db");
    switch (input) {
    case 0:
        COMMAND(workload_create, .name = name, .site = S("paris"), .adapter = S("file"), .disks = {&disk, 1});
        object = outcome.klass == 0 ? w.result.object_id : object;
        break;
    case 1:
        COMMAND(workload_remove, .name = name);
        break;
    case 2:
        COMMAND(plan_create, .name = S("r"), .source_site = S("paris"), .target_site = S("lyon"),
                .workloads = {&name, 1});
        break;
    case 4:
        COMMAND(workload_update, .name = name, .description = S("the books"));
        break;
    default:
        if (state == 2) {
            COMMAND(plan_remove, .name = S("q"));
        } else {
            by_table(&far_table_workload, state, input);
        }
    }
}
static unsigned see_workload(void)
{
    struct far_row_workload row = world_row_workload(&w, object);
    return row.id == 0 ? 0 : row.plan_id == 0 ? 1 : 2;
}

/* "p" exists with a finished cycle; its interval is a minute. */
static void reach_plan(unsigned state)
{
    if (state == 0) {
        MUST(&w, plan_remove, .name = S("p"));
        object = 999;
        return;
    }
    object = plan;
    if (state >= 3) {
        MUST(&w, plan_start, .name = S("p"));
    }
    if (state == 2) {
        job = MUST(&w, plan_replicate, .name = S("p"));
    } else if (state == 4 || state == 6) {
        MUST(&w, tick);
        job = world_row_plan(&w, plan).running_job_id;
    }
    if (state >= 5) {
        MUST(&w, plan_pause, .name = S("p"));
    }
}
static void give_plan(unsigned state, unsigned input)
{
    extern const struct far_table far_table_plan;
    struct far_slice name = S("p"), member = S("web");
    struct far_sub_restore_spec specs[2] = {{S("root"), S("/o/1")}, {S("data"), S("/o/2")}};
    switch (input) {
    case 0:
        COMMAND(plan_create, .name = name, .source_site = S("paris"), .target_site = S("lyon"),
                .workloads = {&member, 1}, .interval_s = 60);
        object = outcome.klass == 0 ? w.result.object_id : object;
        break;
    case 1:
        COMMAND(plan_remove, .name = name);
        break;
    case 2:
        COMMAND(plan_start, .name = name);
        break;
    case 3:
        COMMAND(plan_stop, .name = name);
        break;
    case 4:
        COMMAND(plan_replicate, .name = name);
        break;
    case 5:
        if (state == 3 || state == 4) {
            w.now_ms += 60000;
            COMMAND(tick);
        } else {
            EVENT(plan_scheduled, .plan_id = object, .due_ms = w.now_ms + 1);
        }
        break;
    case 6:
        COMMAND(recover, .plan = name, .workload = S("web"), .disks = {specs, 2});
        break;
    case 8:
        COMMAND(plan_update, .name = name, .audit_ppm = 5);
        break;
    case 9:
        COMMAND(plan_pause, .name = name);
        break;
    case 10:
        COMMAND(plan_resume, .name = name);
        break;
    default:
        if (state == 2 || state == 4 || state == 6) {
            COMMAND(job_cancel, .job_id = job);
        } else {
            by_table(&far_table_plan, state, input);
        }
    }
}
static unsigned see_plan(void)
{
    struct far_row_plan row = world_row_plan(&w, object);
    unsigned state = row.state == FAR_plan_state_active ? 3 : row.state == FAR_plan_state_paused ? 5 : 1;
    return row.id == 0 ? 0 : state + (row.running_job_id != 0);
}

/* ---- jobs and tasks ---- */

static void reach_job(unsigned state)
{
    if (state == 0) {
        object = 999;
        return;
    }
    object = MUST(&w, plan_replicate, .name = S("p"));
    world_work(&w, source); /* a frozen view keeps a canceled job until it is released */
    if (state == 6) {
        MUST(&w, job_cancel, .job_id = object);
    } else if (state != 1) {
        EVENT(job_finished, .job_id = object, .state = state);
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_job(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        if (state == 0) {
            MUST(&w, plan_replicate, .name = S("p"));
            outcome = (struct outcome){.way = BY_COMMAND};
            object = w.result.object_id;
        } else {
            EVENT(job_started, .id = object, .kind = FAR_job_kind_replicate, .plan_id = plan, .checkpoint_id = 900);
        }
        break;
    case 1:
        EVENT(tasks_changed, .job_id = object);
        break;
    case 2:
        COMMAND(job_cancel, .job_id = object);
        break;
    case 4:
        EVENT(job_pruned, .job_id = object);
        break;
    default:
        EVENT(job_finished, .job_id = object,
              .state = state == 6 ? FAR_job_state_canceled : FAR_job_state_succeeded);
    }
}
static unsigned see_job(void)
{
    struct far_row_job row = world_row_job(&w, object);
    return row.state == FAR_job_state_running && row.cancel ? 6 : (unsigned)row.state;
}

static void step_task(unsigned kind)
{
    struct far_sub_task_change change = {.task = object, .step = kind, .attempt = 2, .node_id = source, .boot = 1};
    EVENT(tasks_changed, .job_id = job, .lease_until_ms = w.now_ms + 1000, .items = {&change, 1});
}
static void reach_task(unsigned state)
{
    static const unsigned way[8][3] = {
        {0}, {0}, {FAR_task_step_ready}, {FAR_task_step_assign}, {FAR_task_step_assign, FAR_task_step_start},
        {FAR_task_step_assign, FAR_task_step_finish}, {FAR_task_step_assign, FAR_task_step_fail},
        {FAR_task_step_cancel}};
    job = MUST(&w, plan_replicate, .name = S("p"));
    object = state == 0 ? 8 : 2; /* of seven; the seal */
    for (unsigned i = 0; way[state][i] != 0; i++) {
        step_task(way[state][i]);
        assert_int_equal(outcome.klass, 0);
    }
}
static void give_task(unsigned state, unsigned input)
{
    struct far_sub_task_new item = {.kind = FAR_task_kind_seal, .workload_id = workload, .point_id = 1};
    if (input == 0) {
        EVENT(tasks_created, .job_id = job, .first_task = object, .items = {&item, 1});
    } else {
        step_task(input);
    }
}
static unsigned see_task(void)
{
    struct far_row_task row;
    struct far_key key = far_key(&far_schema_row_task);
    far_key_u64(&key, job);
    far_key_u32(&key, (uint32_t)object);
    return far_state_get(&w.state, &far_schema_row_task, &key, &w.arena, &row, NULL) == 0 ? (unsigned)row.state : 0;
}

/* ---- points and checkpoints ---- */

static void cycle(void)
{
    uint64_t id = MUST(&w, plan_replicate, .name = S("p"));
    world_work_all(&w, (const uint64_t[]){source, target}, 2);
    checkpoint = world_row_job(&w, id).checkpoint_id;
}
static void reach_point(unsigned state)
{
    object = 999;
    if (state == 0) {
        return;
    }
    uint64_t older = checkpoint;
    object = world_row_workload(&w, workload).last_point_id;
    if (state == 2) {
        EVENT(point_verified, .point_id = object, .checkpoint_id = checkpoint, .state = FAR_point_state_damaged);
        assert_int_equal(outcome.klass, 0);
    } else if (state == 3) {
        cycle();
        MUST(&w, checkpoint_remove, .checkpoint_id = older);
    }
}
static void give_point(unsigned state, unsigned input)
{
    switch (input) {
    case 0:
        EVENT(point_created, .id = object, .workload_id = workload, .plan_id = plan, .job_id = job,
              .node_id = target, .proof = FAR_proof_full);
        break;
    case 1:
    case 2:
        EVENT(point_verified, .point_id = object, .checkpoint_id = checkpoint, .state = input);
        break;
    default:
        if (state == 1 || state == 2) {
            COMMAND(checkpoint_remove, .checkpoint_id = checkpoint);
        } else {
            EVENT(checkpoint_removed, .id = checkpoint, .point_ids = {&object, 1});
        }
    }
}
static unsigned see_point(void)
{
    return (unsigned)world_row_point(&w, object).state;
}

static void reach_checkpoint(unsigned state)
{
    object = state == 0 ? 999 : checkpoint;
    if (state == 2) { /* damaged by a member that is none of the workload's that is recovered */
        uint64_t other = world_row_workload(&w, workload).last_point_id;
        cycle();
        object = checkpoint;
        EVENT(point_verified, .point_id = other, .checkpoint_id = checkpoint, .state = FAR_point_state_damaged);
        assert_int_equal(outcome.klass, 0);
    } else if (state == 3) {
        MUST(&w, checkpoint_remove, .checkpoint_id = checkpoint);
    }
}
static void give_checkpoint(unsigned state, unsigned input)
{
    struct far_sub_restore_spec specs[2] = {{S("root"), S("/o/1")}, {S("data"), S("/o/2")}};
    struct far_sub_member member = {.workload_id = workload, .failed = true};
    switch (input) {
    case 0:
        EVENT(checkpoint_created, .id = object, .plan_id = plan, .job_id = job, .members = {&member, 1});
        break;
    case 1:
        COMMAND(recover, .plan = S("p"), .workload = S("web"), .checkpoint_id = object, .disks = {specs, 2});
        break;
    case 2:
        COMMAND(checkpoint_verify, .checkpoint_id = object);
        break;
    case 4:
        COMMAND(checkpoint_preserve, .checkpoint_id = object, .reason = S("the audit"));
        break;
    case 5:
        COMMAND(checkpoint_unpreserve, .checkpoint_id = object);
        break;
    case 6:
        COMMAND(checkpoint_lock, .checkpoint_id = object, .until_ms = w.now_ms + 1000);
        break;
    default:
        COMMAND(checkpoint_remove, .checkpoint_id = object);
    }
}
static unsigned see_checkpoint(void)
{
    return (unsigned)world_row_checkpoint(&w, object).state;
}

#include "lib/domain_drivers.h"
#include "lib/plan_drivers.h"
#include "lib/throttle_drivers.h"
#include "lib/vault_drivers.h"
#include "lib/run_drivers.h"

/* ---- all of them ---- */

static const struct driver {
    const char *object;
    void (*reach)(unsigned state);
    void (*give)(unsigned state, unsigned input);
    unsigned (*see)(void);
} drivers[] = {
    {"alert", reach_alert, give_alert, see_alert},
    {"calendar", reach_calendar, give_calendar, see_calendar},
    {"entry", reach_skip, give_skip, see_nothing},
    {"checkpoint", reach_checkpoint, give_checkpoint, see_checkpoint},
    {"clock", reach_nothing, give_clock, see_nothing},
    {"cluster", reach_cluster, give_cluster, see_cluster},
    {"command", reach_command, give_command, see_command},
    {"consumer", reach_consumer, give_consumer, see_consumer},
    {"dedup domain", reach_domain, give_domain, see_domain},
    {"deadline", reach_deadline, give_deadline, see_deadline},
    {"events", reach_retention, give_retention, see_nothing},
    {"feature level", reach_level, give_level, see_nothing},
    {"head", reach_head, give_head, see_head},
    {"incarnation", reach_incarnation, give_incarnation, see_incarnation},
    {"job", reach_job, give_job, see_job},
    {"key of server", reach_server_key, give_server_key, see_server_key},
    {"node", reach_node, give_node, see_node},
    {"plan", reach_plan, give_plan, see_plan},
    {"progress", reach_compaction, give_compaction, see_nothing},
    {"configuration of machine", reach_machine_config, give_machine_config, see_machine_config},
    {"recovery configuration", reach_recovery, give_recovery, see_recovery},
    {"scripts of plan", reach_scripts, give_scripts, see_scripts},
    {"schedule of plan", reach_schedule, give_schedule, see_schedule},
    {"recovery point", reach_point, give_point, see_point},
    {"site", reach_site, give_site, see_site},
    {"task", reach_task, give_task, see_task},
    {"the bandwidth limit of", reach_throttle, give_throttle, see_throttle},
    {"time zone", reach_zone, give_zone, see_zone},
    {"retention of plan", reach_retention_of_plan, give_retention_of_plan, see_retention_of_plan},
    {"vault of node", reach_vault, give_vault, see_vault},
    {"scrub of vault", reach_scrub_of_vault, give_scrub_of_vault, see_scrub_of_vault},
    {"adoption of vault", reach_adoption, give_adoption, see_adoption},
    {"erasing of job", reach_erasing, give_erasing, see_erasing},
    {"run", reach_run, give_run, see_run},
    {"token", reach_token, give_token, see_token},
    {"workload", reach_workload, give_workload, see_workload},
};

/* Two tables are about servers: who leads, and who is a member. */
static const struct driver leader_driver = {"server", reach_leader, give_leader, see_nothing};
static const struct driver server_driver = {"server", reach_server, give_server, see_server};

static const struct driver *driver_of(const struct far_table *table)
{
    if (strcmp(table->object, "server") == 0) {
        return table->state_count == 1 ? &leader_driver : &server_driver;
    }
    for (size_t i = 0; i < sizeof drivers / sizeof drivers[0]; i++) {
        if (strcmp(drivers[i].object, table->object) == 0) {
            return &drivers[i];
        }
    }
    return NULL;
}

static void prepare(void)
{
    struct far_slice member = S("web");
    world_init(&w);
    world_cluster(&w);
    source = world_node(&w, "src", "paris");
    target = world_node(&w, "dst", "lyon");
    workload = world_workload(&w, "web", 2);
    plan = MUST(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"),
                .workloads = {&member, 1}, .interval_s = 60);
    job = 0;
    cycle();
    hash[31] = 0;
}

static unsigned counts[3];

static void drive_cell(const struct far_table *table, const struct driver *driver, unsigned state, unsigned input)
{
    const struct far_cell *cell = far_table_cell(table, state, input);
    print_message("# %s: %s, %s\n", table->object, table->states[state], table->inputs[input]);
    assert_int_not_equal(cell->kind, FAR_CELL_UNLISTED);
    prepare();
    driver->reach(state);
    assert_int_equal(driver->see(), state);
    struct far_hash128 before = w.state.digest;
    driver->give(state, input);
    if (cell->kind == FAR_CELL_MOVE) {
        if (outcome.klass != 0) {
            print_message("# %s\n", outcome.message);
        }
        assert_int_equal(outcome.klass, 0);
        assert_int_equal(driver->see(), cell->next);
    } else {
        assert_int_equal(outcome.klass, outcome.way == BY_EVENT ? FAR_CORRUPT : cell->klass);
        assert_non_null(strstr(outcome.message, cell->why));
        assert_true(outcome.way != BY_COMMAND || far_hash128_equal(before, w.state.digest));
    }
    counts[outcome.way]++;
    world_done(&w);
}

static void every_cell_of_every_table_does_what_it_says(void **unused)
{
    unsigned cells = 0;
    for (size_t t = 0; far_tables[t] != NULL; t++) {
        const struct far_table *table = far_tables[t];
        const struct driver *driver = driver_of(table);
        assert_non_null(driver);
        for (unsigned state = 0; state < table->state_count; state++) {
            for (unsigned input = 0; input < table->input_count; input++) {
                cells++;
                drive_cell(table, driver, state, input);
            }
        }
    }
    unsigned driven = counts[BY_COMMAND] + counts[BY_EVENT] + counts[BY_TABLE];
    print_message("# table cells: %u, driven %u (%u by commands, %u by forged events, %u asked directly): %u %%\n", cells,
                  driven, counts[BY_COMMAND], counts[BY_EVENT], counts[BY_TABLE], driven * 100 / cells);
    assert_int_equal(driven, cells);
}

static void a_cell_outside_of_a_table_is_unlisted(void **unused)
{
    assert_int_equal(far_table_cell(far_tables[0], 99, 0)->kind, FAR_CELL_UNLISTED);
    assert_int_equal(far_table_cell(far_tables[0], 0, 99)->kind, FAR_CELL_UNLISTED);
    by_table(far_tables[0], 99, 0);
    assert_int_equal(outcome.klass, FAR_INTERNAL);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(every_cell_of_every_table_does_what_it_says),
        cmocka_unit_test(a_cell_outside_of_a_table_is_unlisted),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
