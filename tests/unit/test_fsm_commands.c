/* Commands: what is accepted, remembered, rejected and why; and that a store that fails loses nothing. */
#include "fsm/machines.h"
#include "lib/fsm_world.h"

#include "lib/cm.h"
#include "lib/faults.h"

#include <errno.h>
#include <stdio.h>

static struct world w;
static uint8_t hash[32] = {9};

static int setup(void **unused)
{
    world_init(&w);
    world_cluster(&w);
    return 0;
}

static int teardown(void **unused)
{
    world_verify(&w);
    world_done(&w);
    return 0;
}

static void assert_message(const char *part)
{
    if (strstr(w.result.message, part) == NULL) {
        print_message("# '%s' is not in '%s'\n", part, w.result.message);
    }
    assert_non_null(strstr(w.result.message, part));
}

static struct far_hash128 before;
static int unchanged_after(int klass)
{
    assert_true(far_hash128_equal(before, w.state.digest));
    return klass;
}
/* The command is rejected with this class and part of a message, and nothing has changed. */
#define REFUSED(klass, part, name, ...)                                      \
    do {                                                                     \
        before = w.state.digest;                                             \
        assert_int_equal(unchanged_after(APPLY(&w, name, __VA_ARGS__)), klass); \
        assert_message(part);                                                \
    } while (0)

/* ---- the memory of commands ---- */

static void a_repeated_command_gets_its_first_answer(void **unused)
{
    w.id[3] = 7;
    uint64_t id = MUST(&w, site_create, .name = S("rome"), .role = 1);
    struct far_result first = w.result;
    assert_false(first.repeated);
    assert_int_equal(first.seq_last, first.seq_first + 1);
    uint64_t events = w.events;
    w.id[3] = 7;
    w.now_ms += 1000;
    assert_int_equal(MUST(&w, site_create, .name = S("rome"), .role = 1), id);
    assert_true(w.result.repeated);
    assert_int_equal(w.result.seq_first, first.seq_first);
    assert_int_equal(w.result.seq_last, first.seq_last);
    assert_int_equal(w.events, events);
    w.id[3] = 7;
    REFUSED(FAR_CONFLICT, "was used for another request", site_create, .name = S("oslo"), .role = 1);
    w.id[3] = 7;
    w.actor = far_actor(FAR_ACTOR_TOKEN, 99);
    MUST(&w, site_create, .name = S("oslo"), .role = 1);
    w.actor = 0;
    REFUSED(FAR_CONFLICT, "site 'rome' exists already", site_create, .name = S("rome"), .role = 1);
}

static void a_rejected_command_is_not_remembered(void **unused)
{
    w.id[3] = 7;
    REFUSED(FAR_NOT_FOUND, "does not exist", site_remove, .name = S("rome"));
    MUST(&w, site_create, .name = S("rome"), .role = 1);
    w.id[3] = 7;
    MUST(&w, site_remove, .name = S("rome"));
}

static uint64_t remembered(void)
{
    struct far_row_actor row;
    struct far_key key = far_key(&far_schema_row_actor);
    far_key_u64(&key, far_actor(FAR_ACTOR_TOKEN, 2));
    int rc = far_state_get(&w.state, &far_schema_row_actor, &key, &w.arena, &row, &w.err);
    return rc == 0 ? row.count : 0;
}

static void commands_are_forgotten_after_a_day(void **unused)
{
    for (uint8_t i = 1; i <= 5; i++) {
        w.id[0] = i;
        MUST(&w, secret_set, .name = S("k"), .sealed = far_slice(hash, i));
        w.now_ms += 1000;
    }
    assert_int_equal(remembered(), 5);
    world_pass(&w, 24 * 3600 * 1000 - 5000);
    assert_int_equal(remembered(), 4);
    w.id[0] = 1;
    MUST(&w, secret_set, .name = S("k"), .sealed = far_slice(hash, 20));
    world_pass(&w, 4000);
    assert_int_equal(remembered(), 1);
    world_pass(&w, 24 * 3600 * 1000);
    assert_int_equal(remembered(), 0);
}

/* From a command with that number on; each is remembered, and none is a repetition. */
static void set_secrets(uint32_t from, uint32_t to)
{
    uint8_t secret[4];
    for (uint32_t i = from; i <= to; i++) {
        far_put_le32(w.id, i);
        far_put_le32(secret, i);
        MUST(&w, secret_set, .name = S("k"), .sealed = far_slice(secret, 4));
        assert_false(w.result.repeated);
        w.log.len = 0;
    }
}

static bool is_remembered(uint32_t number)
{
    uint8_t secret[4];
    far_put_le32(w.id, number);
    far_put_le32(secret, number);
    MUST(&w, secret_set, .name = S("k"), .sealed = far_slice(secret, 4));
    return w.result.repeated;
}

static void start_at_level(uint64_t level)
{
    world_done(&w);
    world_init(&w);
    w.level = level;
    world_cluster(&w);
    far_buf_done(&w.log); /* keep it small: the fold is checked elsewhere */
    far_buf_init(&w.log, 1 << 30);
}

static void only_so_many_commands_of_an_actor_are_remembered(void **unused)
{
    enum { MAX = FAR_MEMORY_COMMANDS_MAX, AT_ONCE = 256 };
    start_at_level(0);
    set_secrets(1, MAX + AT_ONCE);
    assert_int_equal(remembered(), MAX + AT_ONCE);
    assert_true(is_remembered(1));
    uint64_t seq = w.events;
    set_secrets(MAX + AT_ONCE + 1, MAX + AT_ONCE + 1); /* one too many: the oldest go together, in the same command */
    assert_int_equal(w.events - seq, 3);
    assert_int_equal(remembered(), MAX + 1);
    assert_true(is_remembered(AT_ONCE + 1));
    assert_false(is_remembered(AT_ONCE));
    assert_int_equal(remembered(), MAX + 2);
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), 0);
}

static void before_level_3_each_makes_the_memory_forget_one(void **unused)
{
    start_at_level(2);
    set_secrets(1, FAR_MEMORY_COMMANDS_MAX + 3);
    assert_int_equal(remembered(), FAR_MEMORY_COMMANDS_MAX);
    assert_true(is_remembered(4));
    assert_false(is_remembered(3));
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), 0);
}

static int teardown_short(void **unused)
{
    world_done(&w);
    return 0;
}

/* ---- envelopes ---- */

static int raw(struct far_command c)
{
    before = w.state.digest;
    assert_int_equal(far_fsm_apply(&w.state, 1, &c, NULL, NULL, &w.result, &w.err), 0);
    return unchanged_after(w.result.klass);
}

static void what_cannot_be_read_is_rejected(void **unused)
{
    static uint8_t big[FAR_COMMAND_PAYLOAD_MAX + 1];
    struct far_command c = {.kind = FAR_KIND_cmd_site_create, .proposed_at_ms = w.now_ms, .payload = S("\x80")};
    assert_int_equal(raw(c), FAR_INVALID);
    c.payload = S("garbage");
    assert_int_equal(raw(c), FAR_INVALID);
    assert_message("site_create");
    c.payload = far_slice(big, sizeof big);
    assert_int_equal(raw(c), FAR_LIMIT);
    c = (struct far_command){.kind = 9999, .payload = S("\x80")};
    assert_int_equal(raw(c), FAR_INVALID);
    c = (struct far_command){.kind = FAR_KIND_cmd_tick, .version = 3, .payload = S("\x80")};
    assert_int_equal(raw(c), FAR_INVALID);
    c = (struct far_command){.kind = FAR_KIND_cmd_tick, .flags = 0x10000, .payload = S("\x80")};
    assert_int_equal(raw(c), FAR_INVALID);
    c = (struct far_command){.kind = FAR_KIND_cmd_tick, .flags = 1, .payload = S("\x80")};
    assert_int_equal(raw(c), 0);
}

static void what_causes_nothing_leaves_no_trace(void **unused)
{
    uint64_t events = w.events;
    before = w.state.digest;
    w.now_ms += 5000;
    w.id[0] = 9;
    MUST(&w, tick);
    assert_int_equal(w.result.seq_first, 0);
    MUST(&w, server_role_changed, .server_id = 1, .role = FAR_server_role_voter);
    assert_int_equal(w.events, events);
    assert_true(far_hash128_equal(before, w.state.digest));
}

static void time_never_runs_backwards(void **unused)
{
    struct far_row_progress row;
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t late = w.now_ms;
    w.now_ms = 5;
    MUST(&w, site_create, .name = S("rome"), .role = 1);
    assert_int_equal(far_state_get(&w.state, &far_schema_row_progress, &key, &w.arena, &row, &w.err), 0);
    assert_int_equal(row.time_ms, late);
    w.now_ms = late;
}

/* ---- objects ---- */

static void names_are_checked(void **unused)
{
    static const char *const bad[] = {"", "Rome", "-rome", ".rome", "ro me", "rome/x", "r\xc3\xb6m",
                                      "0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0] - 1; i++) {
        REFUSED(FAR_INVALID, "is not valid", site_create, .name = S(bad[i]), .role = 1);
    }
    MUST(&w, site_create, .name = far_slice(bad[7], 63), .role = 1);
    MUST(&w, site_create, .name = S("0.a_b-c"), .role = 1);
    REFUSED(FAR_INVALID, "needs a role", site_create, .name = S("x"));
    REFUSED(FAR_INVALID, "needs a role", site_create, .name = S("x"), .role = 4);
}

static void a_site_in_use_stays(void **unused)
{
    world_node(&w, "n", "paris");
    REFUSED(FAR_CONFLICT, "is used by node 'n'", site_remove, .name = S("paris"));
    MUST(&w, node_remove, .name = S("n"));
    world_workload(&w, "web", 1);
    REFUSED(FAR_CONFLICT, "is used by workload 'web'", site_remove, .name = S("paris"));
    world_plan(&w, "p", (const char *const[]){"web"}, 1);
    REFUSED(FAR_CONFLICT, "is used by plan 'p'", site_remove, .name = S("lyon"));
    MUST(&w, server_site_set, .name = S("s1"), .site = S("nice"));
    REFUSED(FAR_CONFLICT, "is used by server 's1'", site_remove, .name = S("nice"));
    MUST(&w, site_create, .name = S("rome"), .role = 1);
    MUST(&w, token_create, .name = S("n"), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 100, .site = S("rome"));
    REFUSED(FAR_CONFLICT, "a join token for 'n'", site_remove, .name = S("rome"));
    world_pass(&w, 100);
    MUST(&w, site_remove, .name = S("rome"));
}

static void join_tokens_are_for_one_name_one_purpose_and_one_use(void **unused)
{
    REFUSED(FAR_NOT_FOUND, "no site 'oslo'", token_create, .name = S("n"), .purpose = FAR_token_purpose_join_node,
            .hash = far_slice(hash, 32), .expires_ms = w.now_ms + 100, .site = S("oslo"));
    REFUSED(FAR_INVALID, "end before it began", token_create, .name = S("n"), .purpose = FAR_token_purpose_join_node,
            .hash = far_slice(hash, 32), .site = S("paris"));
    MUST(&w, token_create, .name = S("n"), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 100, .site = S("paris"));
    REFUSED(FAR_DENIED, "is for 'n', not for 'm'", node_join, .token_hash = far_slice(hash, 32), .name = S("m"),
            .fingerprint = far_slice(hash, 32));
    REFUSED(FAR_DENIED, "another purpose", server_join, .token_hash = far_slice(hash, 32), .name = S("n"),
            .fingerprint = far_slice(hash, 32));
    w.now_ms += 100;
    REFUSED(FAR_DENIED, "expired", node_join, .token_hash = far_slice(hash, 32), .name = S("n"),
            .fingerprint = far_slice(hash, 32));
    struct far_row_token token;
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_join_node, w.now_ms, &w.arena,
                                     &token, &w.err), FAR_DENIED);
    w.now_ms -= 1;
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_join_node, w.now_ms, &w.arena,
                                     &token, &w.err), 0);
    uint64_t id = MUST(&w, node_join, .token_hash = far_slice(hash, 32), .name = S("n"),
                       .fingerprint = far_slice(hash, 32));
    assert_int_not_equal(world_row_node(&w, id).site_id, 0);
    REFUSED(FAR_DENIED, "used up already", node_join, .token_hash = far_slice(hash, 32), .name = S("n"),
            .fingerprint = far_slice(hash, 32));
    REFUSED(FAR_CONFLICT, "node 'n' exists already", token_create, .name = S("n"),
            .purpose = FAR_token_purpose_join_node, .hash = S("01234567890123456789012345678901"),
            .expires_ms = w.now_ms + 100, .site = S("paris"));
    world_pass(&w, 1);
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_join_node, w.now_ms, &w.arena,
                                     &token, &w.err), FAR_DENIED);
}

static void api_tokens_have_names_of_their_own(void **unused)
{
    struct far_row_token token;
    REFUSED(FAR_CONFLICT, "token 'admin' exists already", token_create, .name = S("admin"),
            .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
    uint64_t id = MUST(&w, token_create, .name = S("ci"), .purpose = FAR_token_purpose_api,
                       .hash = far_slice(hash, 32));
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_api, w.now_ms, &w.arena, &token,
                                     &w.err), 0);
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_join_node, w.now_ms, &w.arena,
                                     &token, &w.err), FAR_DENIED);
    assert_int_equal(far_query_token(&w.state, S("short"), FAR_token_purpose_api, w.now_ms, &w.arena, &token, &w.err),
                     FAR_DENIED);
    MUST(&w, token_revoke, .token_id = id);
    assert_int_equal(far_query_token(&w.state, far_slice(hash, 32), FAR_token_purpose_api, w.now_ms, &w.arena, &token,
                                     &w.err), FAR_DENIED);
    hash[0]++;
    MUST(&w, token_create, .name = S("ci"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
}

static void the_last_token_that_lets_anybody_in_stays(void **unused)
{
    struct far_row_token token;
    struct far_key key = far_key(&far_schema_row_token);
    assert_int_equal(far_state_next(&w.state, &far_schema_row_token, &key, &w.arena, NULL, &token, NULL), 0);
    uint64_t admin = token.id;
    REFUSED(FAR_CONFLICT, "is the last one that lets anybody in", token_revoke, .token_id = admin);
    uint64_t join = MUST(&w, token_create, .name = S("n8"), .purpose = FAR_token_purpose_join_node, .hash = far_slice(hash, 32),
                         .expires_ms = w.now_ms + 1000, .site = S("paris"));
    REFUSED(FAR_CONFLICT, "is the last one that lets anybody in", token_revoke, .token_id = admin);
    MUST(&w, token_revoke, .token_id = join); /* that of a node may always go */
    hash[0]++;
    uint64_t brief = MUST(&w, token_create, .name = S("brief"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32),
                          .expires_ms = w.now_ms + 1000);
    hash[0]++;
    uint64_t other = MUST(&w, token_create, .name = S("other"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32));
    MUST(&w, token_revoke, .token_id = other);
    MUST(&w, token_revoke, .token_id = brief);
    REFUSED(FAR_CONFLICT, "is the last one that lets anybody in", token_revoke, .token_id = admin);
    hash[0]++;
    brief = MUST(&w, token_create, .name = S("brief"), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, 32),
                 .expires_ms = w.now_ms + 1000);
    MUST(&w, token_revoke, .token_id = admin); /* accepted, and said: */
    assert_non_null(strstr(w.result.message, "all end by themselves"));
    REFUSED(FAR_CONFLICT, "is the last one that lets anybody in", token_revoke, .token_id = brief);
}

static void the_last_voter_is_not_removed(void **unused)
{
    REFUSED(FAR_CONFLICT, "is the last voter", server_role_set, .name = S("s1"), .role = FAR_server_role_removed);
    REFUSED(FAR_NOT_FOUND, "server 's9' does not exist", server_role_set, .name = S("s9"), .role = 3);
    REFUSED(FAR_INVALID, "standby, voter or removed", server_role_set, .name = S("s1"), .role = 4);
    REFUSED(FAR_INVALID, "needs a site", token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server,
            .hash = far_slice(hash, 32), .expires_ms = w.now_ms + 100);
    MUST(&w, token_create, .name = S("s2"), .purpose = FAR_token_purpose_join_server, .hash = far_slice(hash, 32),
         .expires_ms = w.now_ms + 100, .site = S("lyon"));
    uint64_t id = MUST(&w, server_join, .token_hash = far_slice(hash, 32), .name = S("s2"), .peer_address = S("b:1"),
                       .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32));
    struct far_row_server row = world_row_server(&w, id);
    assert_int_equal(row.role, FAR_server_role_standby);
    assert_int_equal(row.wanted_role, FAR_server_role_voter);
    MUST(&w, server_role_changed, .server_id = id, .role = FAR_server_role_voter);
    MUST(&w, server_role_set, .name = S("s1"), .role = FAR_server_role_removed);
    MUST(&w, server_role_changed, .server_id = 1, .role = FAR_server_role_removed);
    uint64_t found;
    assert_int_equal(far_query_id(&w.state, &far_schema_row_server, S("s1"), &found, &w.err), FAR_NOT_FOUND);
}

static void workloads_and_plans_are_checked(void **unused)
{
    struct far_sub_disk_spec good = {S("root"), S("/a")}, relative = {S("root"), S("a")};
    struct far_sub_disk_spec twice[2] = {{S("root"), S("/a")}, {S("root"), S("/b")}};
    struct far_sub_disk_spec same[2] = {{S("root"), S("/a")}, {S("data"), S("/a")}};
    REFUSED(FAR_INVALID, "at least one disk", workload_create, .name = S("web"), .site = S("paris"),
            .adapter = S("file"));
    REFUSED(FAR_INVALID, "absolute path", workload_create, .name = S("web"), .site = S("paris"),
            .adapter = S("fault:file"), .disks = {&relative, 1});
    REFUSED(FAR_INVALID, "twice", workload_create, .name = S("web"), .site = S("paris"), .adapter = S("file"),
            .disks = {twice, 2});
    REFUSED(FAR_INVALID, "twice", workload_create, .name = S("web"), .site = S("paris"), .adapter = S("file"),
            .disks = {same, 2});
    struct far_sub_disk_spec escape[1] = {{S("a"), S("/a\x1b[2J")}};
    REFUSED(FAR_INVALID, "control character", workload_create, .name = S("web"), .site = S("paris"),
            .adapter = S("file"), .disks = {escape, 1});
    REFUSED(FAR_INVALID, "needs an adapter", workload_create, .name = S("web"), .site = S("paris"),
            .disks = {&good, 1});
    REFUSED(FAR_NOT_FOUND, "no site 'oslo'", workload_create, .name = S("web"), .site = S("oslo"),
            .adapter = S("file"), .disks = {&good, 1});
    REFUSED(FAR_INVALID, "witness", workload_create, .name = S("web"), .site = S("nice"), .adapter = S("file"),
            .disks = {&good, 1});
    world_workload(&w, "web", 1);
    struct far_slice names[2] = {S("web"), S("web")};
    REFUSED(FAR_INVALID, "names workload 'web' twice", plan_create, .name = S("p"), .source_site = S("paris"),
            .target_site = S("lyon"), .workloads = {names, 2});
    REFUSED(FAR_NOT_FOUND, "no site 'oslo'", plan_create, .name = S("p"), .source_site = S("paris"),
            .target_site = S("oslo"), .workloads = {names, 1});
    REFUSED(FAR_INVALID, "to itself", plan_create, .name = S("p"), .source_site = S("paris"),
            .target_site = S("paris"), .workloads = {names, 1});
    REFUSED(FAR_INVALID, "witness", plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("nice"),
            .workloads = {names, 1});
    REFUSED(FAR_INVALID, "is not at site 'lyon'", plan_create, .name = S("p"), .source_site = S("lyon"),
            .target_site = S("paris"), .workloads = {names, 1});
    REFUSED(FAR_INVALID, "at least one workload", plan_create, .name = S("p"), .source_site = S("paris"),
            .target_site = S("lyon"));
    REFUSED(FAR_INVALID, "at most a year", plan_create, .name = S("p"), .source_site = S("paris"),
            .target_site = S("lyon"), .workloads = {names, 1}, .interval_s = UINT64_MAX);
}

static void rows_at_their_bounds_fit(void **unused)
{
    struct far_sub_disk_spec disks[60];
    static char locator[60][1025], name[60][8];
    for (size_t d = 0; d < 60; d++) {
        memset(locator[d], 'x', 1024);
        snprintf(name[d], sizeof name[d], "d%zu", d);
        locator[d][0] = '/';
        locator[d][1000] = (char)('A' + (int)d);
        disks[d] = (struct far_sub_disk_spec){S(name[d]), S(locator[d])};
    }
    MUST(&w, workload_create, .name = S("web"), .site = S("paris"), .adapter = S("file"), .disks = {disks, 60});
    uint8_t sealed[1400] = {1};
    MUST(&w, secret_set, .name = S("ca-key"), .recipient_id = 1, .sealed = far_slice(sealed, sizeof sealed));
    REFUSED(FAR_NOT_FOUND, "no server 7", secret_set, .name = S("ca-key"), .recipient_id = 7, .sealed = S("x"));
}

/* ---- what is broken stays where it is ---- */

static void a_broken_object_costs_a_tick_only_its_own_deadline(void **unused)
{
    struct far_slice db = S("db"), web = S("web");
    world_node(&w, "n", "paris");
    world_workload(&w, "db", 1);
    world_workload(&w, "web", 1);
    uint64_t broken = MUST(&w, plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"),
                           .workloads = {&db, 1}, .interval_s = 60);
    uint64_t good = MUST(&w, plan_create, .name = S("q"), .source_site = S("paris"), .target_site = S("lyon"),
                         .workloads = {&web, 1}, .interval_s = 60);
    MUST(&w, plan_start, .name = S("p"));
    MUST(&w, plan_start, .name = S("q"));
    struct far_key key = far_key(&far_schema_row_plan);
    far_key_u64(&key, broken);
    assert_int_equal(far_state_del(&w.state, &key, &w.err), 0);
    assert_int_equal(far_fsm_invariants(&w.state, &w.err), FAR_INTERNAL);
    MUST(&w, tick);
    assert_int_not_equal(world_row_plan(&w, good).running_job_id, 0);
    uint64_t due;
    assert_int_equal(far_query_next_deadline(&w.state, &due, &w.err), 0);
    assert_true(due > w.now_ms);
}

static void events_that_cannot_follow_are_named(void **unused)
{
    struct far_event e = {.seq = 1, .kind = FAR_KIND_ev_site_created, .time_ms = w.now_ms, .payload = S("\x80")};
    assert_int_equal(far_fsm_evolve(&w.state, &e, &w.err), FAR_CORRUPT);
    assert_non_null(strstr(w.err.message, "event 1 cannot follow event"));
    e.seq = w.events + 1;
    e.kind = 999;
    assert_int_equal(far_fsm_evolve(&w.state, &e, &w.err), FAR_CORRUPT);
    e.kind = FAR_KIND_ev_site_created;
    e.payload = S("x");
    assert_int_equal(far_fsm_evolve(&w.state, &e, &w.err), FAR_CORRUPT);
}

/* ---- a store that fails ---- */

struct failing {
    struct far_kv kv;
    struct far_kv *below;
    uint64_t calls;
    uint64_t fail_at; /* this call fails; 0 = none */
};

static int fails(struct far_kv *kv, struct far_error *err)
{
    struct failing *f = (struct failing *)(void *)kv;
    return ++f->calls == f->fail_at ? far_fail(err, FAR_IO, "the store failed") : 0;
}
#define BELOW(kv) ((struct failing *)(void *)(kv))->below
static int f_get(struct far_kv *kv, struct far_slice key, struct far_slice *ret_value, struct far_error *err)
{
    int rc = fails(kv, err);
    return rc != 0 ? rc : BELOW(kv)->ops->get(BELOW(kv), key, ret_value, err);
}
static int f_put(struct far_kv *kv, struct far_slice key, struct far_slice value, struct far_error *err)
{
    int rc = fails(kv, err);
    return rc != 0 ? rc : BELOW(kv)->ops->put(BELOW(kv), key, value, err);
}
static int f_del(struct far_kv *kv, struct far_slice key, struct far_error *err)
{
    int rc = fails(kv, err);
    return rc != 0 ? rc : BELOW(kv)->ops->del(BELOW(kv), key, err);
}
static int f_seek(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key, struct far_slice *ret_value,
                  struct far_error *err)
{
    int rc = fails(kv, err);
    return rc != 0 ? rc : BELOW(kv)->ops->seek(BELOW(kv), key, ret_key, ret_value, err);
}
static int f_seek_before(struct far_kv *kv, struct far_slice key, struct far_slice *ret_key,
                         struct far_slice *ret_value, struct far_error *err)
{
    int rc = fails(kv, err);
    return rc != 0 ? rc : BELOW(kv)->ops->seek_before(BELOW(kv), key, ret_key, ret_value, err);
}
static const struct far_kv_ops failing_ops = {
    .get = f_get, .put = f_put, .del = f_del, .seek = f_seek, .seek_before = f_seek_before};

/* The caller's side: work on a copy, and give it up when apply fails. Every failing call must be told, never be taken for a
 * rejection, and the repeat on an intact store must go as if nothing had been. */
static void sweep(const struct far_schema *schema, const void *command)
{
    struct far_buf payload;
    struct far_error err;
    struct far_result result = {0};
    far_buf_init(&payload, 1 << 20);
    assert_int_equal(far_schema_encode(schema, command, &payload, &err), 0);
    struct far_command c = {.kind = schema->kind,
                            .actor = far_actor(FAR_ACTOR_SYSTEM, 1),
                            .id = {5},
                            .proposed_at_ms = w.now_ms,
                            .payload = far_buf_slice(&payload)};
    for (uint64_t n = 1;; n++) {
        struct failing f = {.kv.ops = &failing_ops, .below = far_kv_memory_clone(w.state.kv), .fail_at = n};
        struct far_state state = {.kv = &f.kv, .digest = w.state.digest};
        int rc = far_fsm_apply(&state, 1, &c, NULL, NULL, &result, &err);
        bool is_done = f.calls < n;
        far_kv_memory_free(f.below);
        if (is_done) {
            assert_int_equal(rc, 0);
            assert_int_equal(result.klass, 0);
            break;
        }
        assert_int_equal(rc, FAR_IO);
        assert_string_equal(err.message, "the store failed");
    }
    for (uint64_t n = 1;; n++) {
        struct far_kv *copy = far_kv_memory_clone(w.state.kv);
        struct far_state state = {.kv = copy, .digest = w.state.digest};
        far_fault_arm(FAR_FAULT_ALLOC, n, ENOMEM);
        int rc = far_fsm_apply(&state, 1, &c, NULL, NULL, &result, &err);
        bool has_struck = far_fault_disarm();
        far_kv_memory_free(copy);
        assert_int_equal(rc, has_struck ? FAR_LIMIT : 0);
        if (!has_struck) {
            break;
        }
    }
    far_buf_done(&payload);
    assert_int_equal(world_apply(&w, schema, command), 0);
}
#define SWEEP(name, ...) sweep(&far_schema_cmd_##name, &(struct far_cmd_##name){__VA_ARGS__})

static void a_failing_store_or_allocation_is_told_and_never_taken_for_a_rejection(void **unused)
{
    struct far_slice member = S("web");
    uint64_t source = world_node(&w, "src", "paris"), target = world_node(&w, "dst", "lyon");
    uint8_t nonce[16] = {77};
    w.actor = far_actor(FAR_ACTOR_SYSTEM, 1);
    SWEEP(site_create, .name = S("rome"), .role = 1);
    SWEEP(site_remove, .name = S("rome"));
    world_workload(&w, "web", 2);
    SWEEP(plan_create, .name = S("p"), .source_site = S("paris"), .target_site = S("lyon"),
          .workloads = {&member, 1}, .interval_s = 60);
    SWEEP(plan_start, .name = S("p"));
    SWEEP(tick);
    world_work(&w, source);
    SWEEP(node_boot, .node_id = source, .nonce = far_slice(nonce, 16));
    SWEEP(leader_started, .server_id = 1, .term = 3);
    world_work_all(&w, (const uint64_t[]){source, target}, 2);
    struct far_sub_restore_spec specs[2] = {{S("root"), S("/o/1")}, {S("data"), S("/o/2")}};
    SWEEP(recover, .plan = S("p"), .workload = S("web"), .disks = {specs, 2});
    uint64_t job = w.result.object_id;
    SWEEP(job_cancel, .job_id = job);
    w.now_ms += 30000;
    SWEEP(tick);
    w.actor = 0;
}

#define TEST(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
#define TEST_SHORT(name) cmocka_unit_test_setup_teardown(name, setup, teardown_short)

int main(void)
{
    const struct CMUnitTest tests[] = {
        TEST(a_repeated_command_gets_its_first_answer),
        TEST(a_rejected_command_is_not_remembered),
        TEST(commands_are_forgotten_after_a_day),
        TEST_SHORT(only_so_many_commands_of_an_actor_are_remembered),
        TEST_SHORT(before_level_3_each_makes_the_memory_forget_one),
        TEST(what_cannot_be_read_is_rejected),
        TEST(what_causes_nothing_leaves_no_trace),
        TEST(time_never_runs_backwards),
        TEST(names_are_checked),
        TEST(a_site_in_use_stays),
        TEST(join_tokens_are_for_one_name_one_purpose_and_one_use),
        TEST(api_tokens_have_names_of_their_own),
        TEST(the_last_token_that_lets_anybody_in_stays),
        TEST(the_last_voter_is_not_removed),
        TEST(workloads_and_plans_are_checked),
        TEST(rows_at_their_bounds_fit),
        TEST_SHORT(a_broken_object_costs_a_tick_only_its_own_deadline),
        TEST_SHORT(events_that_cannot_follow_are_named),
        TEST(a_failing_store_or_allocation_is_told_and_never_taken_for_a_rejection),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
