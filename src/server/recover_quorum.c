/* farshored recover-quorum: forced quorum recovery, when the quorum is gone for good (DESIGN.md section 6).
 *
 * Good day: on the survivor that holds the most, with its server stopped. It asks every other server, says what may be lost,
 * wants the cluster's name typed and a second operator's token where the policy asks, and then, each step durable before the
 * next:
 *   1. the file `incarnation`: from here on this server is of the new incarnation, and its old life cannot be started;
 *   2. the log: a cluster of this server alone, in a term that nobody has seen;
 *   3. incarnation_begin, through the log, which removes all other servers.
 * With --dry-run all is asked and checked, but for the cluster's name, and these steps are told with their events.
 * Killed before 1, nothing has happened. Killed later, `farshored run` refuses and the next recover-quorum goes on from
 * where it was, without asking again. The others come back by join tokens, under new ids (farshored rejoin). */
#include "base/clock.h"
#include "base/file.h"
#include "base/logging.h"
#include "base/random.h"
#include "fsm/query.h"
#include "net/join_token.h"
#include "server/fence.h"
#include "server/founding.h"
#include "server/survivors.h"

#include <stdio.h>
#include <unistd.h>

enum { OPT_DIR, OPT_REQUIRED, OPT_TOKEN = OPT_REQUIRED, OPT_SECOND, OPT_CONFIRM, OPT_DRY_RUN, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--token", "--second-token", "--confirm", "--dry-run", NULL};

enum { ARENA_MAX = 256 * 1024, PAYLOAD_MAX = 4096, COMMANDS_MAX = 2 };

struct recovery {
    const char *dir;
    const char *const *options;
    struct far_server_config config;
    struct far_log_config log_config;
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    uint64_t actor;       /* the operator */
    uint64_t approved_by; /* token of the second one; 0: none */
    uint64_t state_epoch;
    uint64_t feature_level;
    uint64_t newest_ms;   /* cluster time of the newest event that was applied */
    bool needs_second;
    struct far_log_ending ending;
    struct far_survivors survivors;
    struct far_incarnation incarnation;
    bool is_contested;  /* by a recovery of the same epoch at another place */
    bool is_unfinished; /* the incarnation was written by a recovery that was interrupted */
};

/* ---- what the survivor's state says ---- */

/* Is it an API token of this state, and which? */
static int check_token(struct far_state *state, const char *argument, uint64_t time_ms, char *text, uint64_t *ret_id,
                       struct far_error *err)
{
    struct far_arena arena;
    struct far_row_token row;
    uint8_t secret[32], hash[32];
    int rc = far_token_argument(argument, "API token", text, err);
    if (rc != 0) {
        return rc;
    }
    text[strcspn(text, " \r\n")] = '\0';
    if (!far_api_token_parse(text, strlen(text), secret)) {
        return far_fail(err, FAR_INVALID, "what is given with --token or --second-token is no API token");
    }
    far_token_hash(secret, hash);
    far_arena_init(&arena, ARENA_MAX);
    rc = far_query_token(state, far_slice(hash, sizeof hash), FAR_token_purpose_api, time_ms, &arena, &row, err);
    *ret_id = rc == 0 ? row.id : 0;
    far_arena_done(&arena);
    return rc;
}

static int read_state(struct recovery *r, struct far_state *state, struct far_error *err)
{
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_row_progress progress;
    struct far_row_recovery_policy policy;
    struct far_key key = far_key(&far_schema_row_cluster);
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_state_get(state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == 0) {
        r->state_epoch = cluster.incarnation_epoch;
        r->feature_level = cluster.feature_level;
        key = far_key(&far_schema_row_progress);
        rc = far_state_get(state, &far_schema_row_progress, &key, &arena, &progress, err);
    } else if (rc == FAR_NOT_FOUND) {
        rc = far_fail(err, FAR_CONFLICT, "this server holds no state: nothing can go on from it");
    }
    if (rc == 0) {
        r->newest_ms = progress.time_ms;
        key = far_key(&far_schema_row_recovery_policy);
        rc = far_state_get(state, &far_schema_row_recovery_policy, &key, &arena, &policy, err);
        r->needs_second = rc == 0 && policy.second_approval;
        rc = rc == FAR_NOT_FOUND ? 0 : rc;
    }
    far_arena_done(&arena);
    return rc;
}

static int check_operators(struct recovery *r, struct far_state *state, struct far_error *err)
{
    char second[FAR_JOIN_TOKEN_TEXT_MAX];
    uint64_t id = 0, now_ms = far_clock_wall_ms();
    now_ms = now_ms > r->newest_ms ? now_ms : r->newest_ms;
    if (r->options[OPT_TOKEN] == NULL) {
        return far_fail(err, FAR_INVALID, "recover-quorum: '--token' is missing: an API token that this server knows");
    }
    int rc = check_token(state, r->options[OPT_TOKEN], now_ms, r->token, &id, err);
    r->actor = far_actor(FAR_ACTOR_TOKEN, id);
    if (rc == 0 && r->needs_second && r->options[OPT_SECOND] == NULL) {
        rc = far_fail(err, FAR_DENIED, "the cluster's policy wants a second operator: give their API token with "
                                       "--second-token");
    }
    if (rc == 0 && r->options[OPT_SECOND] != NULL) {
        rc = check_token(state, r->options[OPT_SECOND], now_ms, second, &r->approved_by, err);
        if (rc == 0 && r->approved_by == id) {
            rc = far_fail(err, FAR_DENIED, "the second token is the first one again; another operator has to approve");
        }
        explicit_bzero(second, sizeof second);
    }
    return rc;
}

/* ---- what is left, and what may be lost ---- */

static void print_survivors(const struct far_survivors *survivors)
{
    for (size_t i = 0; i < survivors->count; i++) {
        const struct far_survivor *one = &survivors->list[i];
        printf("  server %llu '%s' (%s): ", (unsigned long long)one->id, one->name, one->is_voter ? "voter" : "standby");
        if (one->is_self || one->is_judged) {
            printf("log ends at entry %llu of term %llu%s\n", (unsigned long long)one->end.last_index,
                   (unsigned long long)one->end.last_term, one->is_self ? " (this one)" : "");
        } else {
            printf("not there: %s\n", one->why);
        }
    }
}

static void print_loss(const struct recovery *r)
{
    const struct far_log_ending *e = &r->ending;
    printf("\nThis server goes on, alone, from event %llu of entry %llu.\n", (unsigned long long)e->parent_seq,
           (unsigned long long)e->end.last_index);
    printf("It knows that everything up to event %llu was decided; ", (unsigned long long)e->sure_seq);
    if (e->parent_seq == e->sure_seq) {
        printf("it holds nothing behind that.\n");
    } else {
        printf("events %llu to %llu may never have been answered and are kept.\n", (unsigned long long)e->sure_seq + 1,
               (unsigned long long)e->parent_seq);
    }
    printf("May be lost: whatever servers that are not there decided among themselves after that.\n"
           "The newest event here is from %llu s ago. When such a server comes back, it is fenced; what it decided alone is\n"
           "kept beside the log and shown (cluster divergent), never merged.\n\n",
           (unsigned long long)((far_clock_wall_ms() - (r->newest_ms < far_clock_wall_ms() ? r->newest_ms
                                                                                            : far_clock_wall_ms())) / 1000));
}

static int confirm(const struct recovery *r, struct far_error *err)
{
    char line[128] = "";
    const char *typed = r->options[OPT_CONFIRM];
    if (typed == NULL) {
        printf("Type the name of the cluster to go on: ");
        fflush(stdout);
        typed = fgets(line, sizeof line, stdin) != NULL ? line : "";
        line[strcspn(line, "\n")] = '\0';
    }
    return strcmp(typed, r->config.cluster) == 0
               ? 0
               : far_fail(err, FAR_CONFLICT, "'%.64s' is not the name of the cluster: nothing was changed", typed);
}

/* ---- before the first byte ---- */

static int load_incarnation(struct recovery *r, struct far_error *err)
{
    uint64_t epoch = r->config.incarnation_epoch;
    int rc = far_incarnation_load(r->dir, r->config.cluster_uuid, &r->incarnation, err);
    if (rc == 0) {
        epoch = r->incarnation.epoch;
    }
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    r->is_unfinished = rc == 0 && r->incarnation.reason == FAR_INCARNATION_QUORUM_LOST &&
                       r->incarnation.server_id == r->config.server_id && epoch == r->state_epoch + 1;
    if (epoch != r->state_epoch && !r->is_unfinished) {
        return far_fail(err, FAR_CONFLICT, "this server's state is of incarnation %llu, the cluster's is %llu: it has not caught "
                                           "up, nothing can go on from it",
                        (unsigned long long)r->state_epoch, (unsigned long long)epoch);
    }
    return 0;
}

static void fill_self(struct recovery *r)
{
    for (size_t i = 0; i < r->survivors.count; i++) {
        if (r->survivors.list[i].is_self) {
            r->survivors.list[i].end = r->ending.end;
        }
    }
}

static void make_incarnation(struct recovery *r)
{
    r->incarnation = (struct far_incarnation){
        .reason = FAR_INCARNATION_QUORUM_LOST,
        .epoch = r->state_epoch + 1,
        .start_term = far_survivors_term(&r->survivors) + FAR_RAFT_RECOVERY_TERMS,
        .server_id = r->config.server_id,
        .made_ms = far_clock_wall_ms(),
        .parent_index = r->ending.end.last_index,
        .parent_term = r->ending.end.last_term,
        .parent_seq = r->ending.parent_seq,
        .sure_seq = r->ending.sure_seq,
    };
    memcpy(r->incarnation.cluster_uuid, r->config.cluster_uuid, 16);
    far_random_bytes(r->incarnation.uuid, sizeof r->incarnation.uuid);
    memcpy(r->incarnation.parent_head, r->ending.parent_head, 32);
    memcpy(r->incarnation.sure_head, r->ending.sure_head, 32);
}

static int prepare(struct recovery *r, struct far_log_offline *log, struct far_error *err)
{
    struct far_log_view view;
    char ca[FAR_SERVER_FILE_MAX];
    int rc = far_log_offline_view(log, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = read_state(r, &view.state, err);
    rc = rc != 0 ? rc : load_incarnation(r, err);
    if (rc == 0 && (!r->is_unfinished || r->options[OPT_TOKEN] != NULL)) {
        rc = check_operators(r, &view.state, err);
    }
    if (rc == 0 && !r->is_unfinished) {
        rc = far_survivors_of(&view.state, r->config.server_id, &r->survivors, err);
    }
    far_log_view_end(&view);
    if (rc != 0 || r->is_unfinished) {
        return rc;
    }
    far_server_path(r->dir, "ca.crt", ca);
    rc = far_log_offline_ending(log, &r->ending, err);
    rc = rc != 0 ? rc : far_survivors_ask(&r->survivors, ca, r->token, err);
    if (rc != 0) {
        return rc;
    }
    fill_self(r);
    printf("cluster '%s', incarnation %llu:\n", r->config.cluster, (unsigned long long)r->state_epoch);
    print_survivors(&r->survivors);
    rc = far_survivors_judge(&r->survivors, r->state_epoch, r->is_contested, err);
    if (rc == 0) {
        print_loss(r);
        rc = r->options[OPT_DRY_RUN] != NULL ? 0 : confirm(r, err);
    }
    if (rc == 0) {
        make_incarnation(r);
    }
    return rc;
}

/* ---- the steps ---- */

static int encode_commands(const struct recovery *r, struct far_founding_command commands[COMMANDS_MAX],
                           struct far_error *err)
{
    const struct far_incarnation *in = &r->incarnation;
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    struct far_cmd_incarnation_begin begin = {
        .epoch = in->epoch,
        .uuid = far_slice(in->uuid, 16),
        .reason = FAR_incarnation_reason_quorum_lost,
        .parent_index = in->parent_index,
        .parent_term = in->parent_term,
        .parent_seq = in->parent_seq,
        .parent_head = far_slice(in->parent_head, 32),
        .sure_seq = in->sure_seq,
        .sure_head = far_slice(in->sure_head, 32),
        .server_id = in->server_id,
        .approved_by = r->approved_by,
    };
    commands[0].kind = FAR_KIND_cmd_feature_level_raise;
    commands[1].kind = FAR_KIND_cmd_incarnation_begin;
    commands[1].actor = r->actor;
    int rc = far_schema_encode(&far_schema_cmd_feature_level_raise, &raise, &commands[0].payload, err);
    return rc != 0 ? rc : far_schema_encode(&far_schema_cmd_incarnation_begin, &begin, &commands[1].payload, err);
}

/* ---- the dry run: everything was looked at, nothing is done ---- */

/* On the state that the incarnation goes on from: with what is in the log and perhaps was never decided. */
static int foresee_events(void *arg, struct far_state *state, struct far_error *err)
{
    const struct recovery *r = arg;
    struct far_founding_command commands[COMMANDS_MAX] = {{.kind = 0}};
    size_t first = r->feature_level < FAR_FEATURE_LEVEL ? 0 : 1;
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_init(&commands[i].payload, PAYLOAD_MAX);
    }
    int rc = encode_commands(r, commands, err);
    rc = rc != 0 ? rc : far_founding_foresee(state, r->ending.end.last_index + 1, r->config.server_id, commands + first,
                                             COMMANDS_MAX - first, err);
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_done(&commands[i].payload);
    }
    return rc;
}

static int tell(struct recovery *r, struct far_log_offline *log, struct far_error *err)
{
    unsigned long long epoch = r->incarnation.epoch, from = r->ending.parent_seq + 1;
    if (r->is_unfinished) {
        printf("dry run: nothing was done. Incarnation %llu was begun here by a recovery that was interrupted; it would be finished: the\n"
               "log becomes one of this server alone, and incarnation_begin goes through it.\n", epoch);
        return 0;
    }
    printf("dry run: nothing was done. In this order, each step durable before the next:\n"
           "1. '%s/incarnation' is written: incarnation %llu of the cluster; from here on the old life cannot be started%s\n"
           "2. the log in '%s/wal' becomes that of this server alone, in term %llu; it keeps its entries up to %llu\n"
           "3. these events go through it, the first as number %llu or later (what leads comes before; the uuid is drawn then):\n",
           r->dir, epoch, r->is_contested ? ", and '" FAR_CONTESTED_FILE "' is removed" : "", r->dir,
           (unsigned long long)r->incarnation.start_term, (unsigned long long)r->ending.end.last_index, from);
    return far_log_offline_try(log, foresee_events, r, err);
}

/* ---- the last step ---- */

/* There is nobody else left who might not know what the level of this program brings. */
static int begin_incarnation(const struct recovery *r, struct far_error *err)
{
    struct far_founding_command commands[COMMANDS_MAX] = {{.kind = 0}};
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_init(&commands[i].payload, PAYLOAD_MAX);
    }
    size_t first = r->feature_level < FAR_FEATURE_LEVEL ? 0 : 1;
    int rc = encode_commands(r, commands, err);
    rc = rc != 0 ? rc : far_founding_continue(r->dir, &r->config, commands + first, COMMANDS_MAX - first, err);
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_done(&commands[i].payload);
    }
    return rc;
}

static int forget_contest(const struct recovery *r, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(r->dir, FAR_CONTESTED_FILE, path);
    bool was_there = unlink(path) == 0;
    return was_there ? far_file_sync_dir(r->dir, err) : 0;
}

/* A run before this one was interrupted when the command was in the log, and not in the state yet. */
static bool is_begun(struct recovery *r)
{
    struct far_log_offline *log;
    struct far_log_view view;
    if (far_log_offline_open(&r->log_config, &log, NULL) != 0) {
        return false;
    }
    bool is_read = far_log_offline_view(log, &view, NULL) == 0;
    if (is_read) {
        is_read = read_state(r, &view.state, NULL) == 0;
        far_log_view_end(&view);
    }
    far_log_offline_close(log);
    return is_read && r->state_epoch == r->incarnation.epoch;
}

/* Before the first byte: damage that would kill this program halfway is found now. What else is wrong is said where it is met. */
static int check_readable(const struct recovery *r, struct far_error *err)
{
    struct far_error why = {0};
    bool would_die = false;
    (void)far_log_offline_probe(&r->log_config, &would_die, &why);
    return would_die ? far_fail(err, FAR_CORRUPT, "nothing can go on from here: %.300s; recover another survivor, or restore a backup",
                                why.message)
                     : 0;
}

static int recover(struct recovery *r, struct far_error *err)
{
    struct far_log_offline *log;
    int rc = check_readable(r, err);
    rc = rc != 0 ? rc : far_log_offline_open(&r->log_config, &log, err);
    if (rc != 0) {
        return rc;
    }
    rc = prepare(r, log, err);
    if (r->options[OPT_DRY_RUN] != NULL) {
        rc = rc != 0 ? rc : tell(r, log, err);
        far_log_offline_close(log);
        return rc;
    }
    if (rc == 0 && r->is_unfinished) {
        printf("incarnation %llu was begun and is finished now\n", (unsigned long long)r->incarnation.epoch);
    } else if (rc == 0) {
        rc = far_incarnation_save(r->dir, &r->incarnation, err);
    }
    rc = rc != 0 ? rc : forget_contest(r, err);
    rc = rc != 0 ? rc : far_log_offline_recover(log, r->incarnation.start_term, err);
    far_log_offline_close(log);
    rc = rc != 0 ? rc : begin_incarnation(r, err);
    return rc == FAR_CONFLICT && is_begun(r) ? 0 : rc;
}

int far_server_recover_quorum(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    struct recovery r = {.options = options};
    far_log_level_set(FAR_LEVEL_WARN);
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, options, &err);
    r.dir = options[OPT_DIR];
    rc = rc != 0 ? rc : far_server_config_load(r.dir, &r.config, &err);
    rc = rc != 0 ? rc : far_server_removed_check(r.dir, &err);
    if (rc == 0) {
        rc = far_fence_check(r.dir, &r.is_contested, &err);
        rc = r.is_contested ? 0 : rc;
    }
    if (rc == 0) {
        r.log_config = far_server_log_config(r.dir, &r.config, NULL);
        rc = recover(&r, &err);
    }
    explicit_bzero(r.token, sizeof r.token);
    if (rc != 0) {
        return far_server_failed(&err);
    }
    if (options[OPT_DRY_RUN] != NULL) {
        return 0;
    }
    printf("cluster '%s' is in incarnation %llu, with server '%s' alone. Start it with: farshored run --dir %s\n"
           "Then bring the others back, each with a join token of its own: farshored rejoin --dir DIR --token TOKEN\n",
           r.config.cluster, (unsigned long long)r.incarnation.epoch, r.config.name, r.dir);
    rc = far_server_sign_key_print(r.dir, &err);
    return rc == 0 ? 0 : far_server_failed(&err);
}
