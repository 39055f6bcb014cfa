/* The API in this process: see api_fixture.h. A mutex stands where the server has LMDB's read transactions. */
#include "api_fixture.h"

#include "base/assert.h"
#include "base/random.h"
#include "fsm/kv_memory.h"
#include "log/chain.h"
#include "made_pki.h"

#include <pthread.h>
#include <stdlib.h>

enum { EVENTS_MAX = 20000, HELD_MAX = 64 };
#define TIME_MS 1700000000000u /* of the first command; each is a millisecond later */

struct kept_event {
    struct far_event event; /* payload on the heap */
    uint8_t head[32];
};

struct held {
    far_log_done_fn done;
    void *arg;
    struct far_result result;
};

struct fixture {
    struct far_test_api shown; /* first */
    struct far_test_pki pki;
    pthread_mutex_t lock;
    struct far_state state;
    struct kept_event *events;
    uint64_t last_seq, first_seq, index, other_id, other_first_seq, other_oldest_seq;
    int refuse;
    bool hold, stale, silent;
    struct held held[HELD_MAX];
    size_t held_count;
};

static void must(int rc, const struct far_error *err)
{
    if (rc != 0) {
        fprintf(stderr, "api fixture: %s\n", err->message);
        abort();
    }
}

static int keep_event(void *arg, const struct far_event *event, struct far_error *err)
{
    struct fixture *f = arg;
    FAR_ASSERT(event->seq < EVENTS_MAX);
    struct kept_event *kept = &f->events[event->seq];
    uint8_t *payload = malloc(event->payload.len + 1);
    memcpy(payload, event->payload.data, event->payload.len);
    kept->event = *event;
    kept->event.payload = far_slice(payload, event->payload.len);
    memcpy(kept->head, f->events[event->seq - 1].head, 32);
    must(far_chain_add(kept->head, event, err), err);
    f->last_seq = event->seq;
    return 0;
}

static struct far_result apply(struct fixture *f, const struct far_command *command)
{
    struct far_result result = {0};
    struct far_error err = {0};
    struct far_command stamped = *command;
    pthread_mutex_lock(&f->lock);
    stamped.proposed_at_ms = TIME_MS + f->index;
    if (f->refuse != 0) {
        result.klass = f->refuse;
        snprintf(result.message, sizeof result.message, "refused by the test");
    } else {
        f->index++;
        must(far_fsm_apply(&f->state, f->index, &stamped, keep_event, f, &result, &err), &err);
    }
    uint64_t index = f->index, seq = f->last_seq;
    struct far_api *api = f->shown.api;
    pthread_mutex_unlock(&f->lock);
    if (api != NULL) {
        far_api_committed(api, index, seq);
    }
    return result;
}

/* ---- hooks ---- */

static int view_begin(void *arg, struct far_log_view *ret_view, struct far_error *err)
{
    struct fixture *f = arg;
    pthread_mutex_lock(&f->lock);
    *ret_view = (struct far_log_view){.state = f->state, .applied_index = f->index, .last_seq = f->last_seq,
                                      .first_seq = f->first_seq, .digest = f->state.digest};
    memcpy(ret_view->head, f->events[f->last_seq].head, 32);
    memcpy(ret_view->base_head, f->events[f->first_seq - 1].head, 32);
    return 0;
}

/* The past as the fold of all events from the first. */
static int view_past(void *arg, struct far_log_view *view, const struct far_moment *moment, struct far_error *err)
{
    struct fixture *f = arg;
    struct far_state state = {.kv = far_kv_memory_new()};
    uint64_t seq = 0;
    if (moment->kind == FAR_MOMENT_SEQ && moment->value > f->last_seq) {
        far_kv_memory_free(state.kv);
        return far_fail(err, FAR_NOT_FOUND, "event %llu is yet to come", (unsigned long long)moment->value);
    }
    while (seq < f->last_seq && (moment->kind == FAR_MOMENT_SEQ ? seq < moment->value
                                                                : f->events[seq + 1].event.time_ms <= moment->value)) {
        seq++;
        must(far_fsm_evolve(&state, &f->events[seq].event, err), err);
    }
    view->state = state;
    view->past = state.kv;
    view->last_seq = seq;
    view->applied_index = f->events[seq].event.index;
    view->digest = state.digest;
    memcpy(view->head, f->events[seq].head, 32);
    return 0;
}

/* Was there ever such a row? */
static bool was_there(struct fixture *f, struct far_slice key)
{
    struct far_state state = {.kv = far_kv_memory_new()};
    struct far_slice value;
    struct far_error err;
    bool found = false;
    for (uint64_t seq = 1; seq <= f->last_seq && !found; seq++) {
        must(far_fsm_evolve(&state, &f->events[seq].event, &err), &err);
        found = state.kv->ops->get(state.kv, key, &value, &err) == 0;
    }
    far_kv_memory_free(state.kv);
    return found;
}

/* One stretch of all events. */
static int view_changed(void *arg, struct far_log_view *view, struct far_slice key, uint64_t before, uint64_t *ret_from,
                        uint64_t *ret_to, struct far_error *err)
{
    *ret_from = 1;
    *ret_to = ((struct fixture *)arg)->last_seq;
    return before > 1 && was_there(arg, key) ? 0 : FAR_NOT_FOUND;
}

static int view_export(void *arg, struct far_log_view *view, uint64_t from, const struct far_moment *until, size_t bytes_max,
                       struct far_buf *out, uint64_t *ret_next, uint64_t *ret_until, struct far_error *err)
{
    return far_fail(err, FAR_NOT_FOUND, "this test has no store");
}

static uint64_t now_ms(void *arg)
{
    struct fixture *f = arg;
    return TIME_MS + f->index;
}

static int join_command(void *arg, const struct far_api_join_request *request, struct far_command *ret_command,
                        struct far_buf *payload, struct far_error *err)
{
    struct far_join_token token;
    uint8_t hash[32], key[32] = {9};
    int rc = far_join_token_parse(request->token, strlen(request->token), &token, err);
    far_token_hash(token.secret, hash);
    struct far_cmd_node_join join = {.token_hash = far_slice(hash, 32), .name = far_slice_str(request->name),
                                     .data_address = far_slice_str(request->data_address),
                                     .fingerprint = far_slice(key, 32)};
    rc = rc != 0 ? rc : far_schema_encode(&far_schema_cmd_node_join, &join, payload, err);
    *ret_command = (struct far_command){.kind = FAR_KIND_cmd_node_join, .actor = far_actor(FAR_ACTOR_SERVER, 1),
                                        .payload = far_buf_slice(payload)};
    return rc;
}

static void view_end(void *arg, struct far_log_view *view)
{
    far_kv_memory_free(view->past);
    view->past = NULL;
    pthread_mutex_unlock(&((struct fixture *)arg)->lock);
}

static int view_event(void *arg, struct far_log_view *view, uint64_t seq, struct far_arena *arena,
                      struct far_event *ret_event, uint8_t ret_head[32], struct far_error *err)
{
    struct fixture *f = arg;
    if (seq < f->first_seq || seq > f->last_seq) {
        return far_fail(err, FAR_NOT_FOUND, "no event %llu", (unsigned long long)seq);
    }
    *ret_event = f->events[seq].event;
    if (ret_head != NULL) {
        memcpy(ret_head, f->events[seq].head, 32);
    }
    return 0;
}

static void status(void *arg, struct far_log_status *ret_status)
{
    struct fixture *f = arg;
    memset(ret_status, 0, sizeof *ret_status);
    ret_status->server_id = ret_status->leader_id = 1;
    ret_status->term = 1;
    ret_status->is_leader = true;
    ret_status->stale = f->stale;
    ret_status->applied_index = ret_status->commit_index = f->index;
    ret_status->member_count = 1;
    ret_status->members[0] = (struct far_log_member){.id = 1, .address = "127.0.0.1:1", .role = FAR_server_role_voter,
                                                     .connected = true, .match_index = f->index};
    pthread_mutex_lock(&f->lock);
    if (f->other_first_seq != 0) {
        ret_status->members[ret_status->member_count++] = (struct far_log_member){
            .id = f->other_id, .address = "127.0.0.1:2", .role = FAR_server_role_voter,
            .about = {.first_seq = f->other_first_seq, .oldest_seq = f->other_oldest_seq}, .about_age_ms = f->silent ? 60 * 1000 : 0};
    }
    pthread_mutex_unlock(&f->lock);
}

static void propose(void *arg, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                    void *done_arg)
{
    struct fixture *f = arg;
    struct far_result result = apply(f, command);
    pthread_mutex_lock(&f->lock);
    bool is_held = f->hold && f->held_count < HELD_MAX;
    if (is_held) {
        f->held[f->held_count++] = (struct held){done, done_arg, result};
    }
    uint64_t index = f->index;
    pthread_mutex_unlock(&f->lock);
    if (!is_held) {
        done(done_arg, &result, index);
    }
}

static void wait_index(void *arg, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *done_arg)
{
    struct fixture *f = arg;
    struct far_result result = {.klass = index <= f->index ? 0 : FAR_TIMEOUT};
    done(done_arg, &result, f->index);
}

static void barrier(void *arg, uint64_t timeout_ms, far_log_done_fn done, void *done_arg)
{
    struct far_result result = {0};
    done(done_arg, &result, ((struct fixture *)arg)->index);
}

/* The fixture's server is never in safe mode. */
static void skip_entry(void *arg, const struct far_log_skip *skip, far_log_done_fn done, void *done_arg)
{
    struct far_result result = {.klass = FAR_CONFLICT, .message = "this server is not in safe mode"};
    done(done_arg, &result, ((struct fixture *)arg)->index);
}

static int join_token(void *arg, uint64_t purpose, const char *name, const uint8_t secret[32], char *ret_text,
                      struct far_error *err)
{
    struct far_join_token token = {.address_count = 1};
    memcpy(token.secret, secret, 32);
    snprintf(token.addresses[0], sizeof token.addresses[0], "%s", ((struct fixture *)arg)->shown.url + 8);
    return far_join_token_print(&token, ret_text, err);
}

static void join(void *arg, const struct far_api_join_request *request, far_api_join_done_fn done, void *done_arg)
{
    struct far_join_token token;
    struct far_error err = {0};
    struct far_api_join_answer answer = {.id = 9, .cluster = "test", .incarnation_epoch = 1,
                                         .certificate = request->csr, .ca_certificate = "ca", .server_count = 1,
                                         .server_addresses = {"127.0.0.1:5001"}, .server_ids = {1}};
    int rc = far_join_token_parse(request->token, strlen(request->token), &token, &err);
    done(done_arg, rc != 0 ? &err : NULL, rc != 0 ? NULL : &answer);
}

/* ---- backups: of one name, with the bytes of a text ---- */

static const char backup_text[] = "a backup";

static int backup_make(void *arg, struct far_api_backup *ret_backup, struct far_error *err)
{
    struct fixture *f = arg;
    *ret_backup = (struct far_api_backup){
        .name = "7-1-1.farbackup", .made_ms = 7, .index = f->index, .server_id = 1, .bytes = sizeof backup_text - 1};
    return 0;
}

static int backup_list(void *arg, struct far_api_backup list[FAR_API_BACKUPS_MAX], size_t *ret_count, struct far_error *err)
{
    *ret_count = 1;
    return backup_make(arg, list, err);
}

static int backup_read(void *arg, const char *name, uint64_t offset, size_t max, struct far_buf *out, struct far_error *err)
{
    size_t len = sizeof backup_text - 1;
    if (strcmp(name, "7-1-1.farbackup") != 0) {
        return far_fail(err, FAR_NOT_FOUND, "this server has no backup '%.80s'", name);
    }
    return offset >= len ? 0 : far_buf_append(out, backup_text + offset, len - offset < max ? len - offset : max);
}

static void glance(void *arg, struct far_log_glance *ret_glance)
{
    struct far_log_status now;
    status(arg, &now);
    *ret_glance = (struct far_log_glance){
        .server_id = now.server_id, .applied_index = now.applied_index, .committed_index = now.applied_index, .is_stale = now.stale};
}

static void flush(void *arg)
{
    (void)arg; /* the fixture's hooks begin at once */
}

static void follow(void *arg, bool begins)
{
    (void)arg;
    (void)begins;
}

/* Not sealed to anybody, but another one for each domain and generation. */
static int seal_domain(void *arg, const uint8_t seed[16], struct far_api_domain *domain, struct far_error *err)
{
    (void)arg;
    (void)err;
    if (domain->is_new) {
        memcpy(domain->uuid, seed, 16);
        memcpy(domain->sealed_secret, seed, 16);
    }
    memcpy(domain->sealed_key, seed, 16);
    domain->sealed_key[16] = (uint8_t)domain->generation;
    return 0;
}

static const struct far_api_hooks hooks = {view_begin, view_end,   view_event, status, propose,
                                           wait_index, barrier, join_token, join, view_begin,
                                           view_past,  view_changed, view_export, now_ms, join_command,
                                           backup_make, backup_list, backup_read, glance, flush, follow, skip_entry, NULL,
                                          .seal_domain = seal_domain};

/* ---- life ---- */

int far_test_api_apply(struct far_test_api *shown, const struct far_schema *schema, const void *object)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    struct far_error err;
    struct far_buf payload;
    far_buf_init(&payload, FAR_COMMAND_PAYLOAD_MAX);
    must(far_schema_encode(schema, object, &payload, &err), &err);
    struct far_command command = {.kind = schema->kind, .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, 1), .payload = far_buf_slice(&payload)};
    far_random_bytes(command.id, sizeof command.id);
    struct far_result result = apply(f, &command);
    far_buf_done(&payload);
    return result.klass;
}

static void forget_all(struct fixture *f)
{
    for (uint64_t seq = 1; seq <= f->last_seq; seq++) {
        free((void *)f->events[seq].event.payload.data);
    }
    far_kv_memory_free(f->state.kv);
    f->last_seq = 0;
    f->state = (struct far_state){.kv = far_kv_memory_new()};
}

void far_test_api_become(struct far_test_api *shown, struct far_slice recorded)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    struct far_error err;
    pthread_mutex_lock(&f->lock);
    forget_all(f);
    for (size_t at = 0; at < recorded.len;) {
        struct far_event event;
        memcpy(&event, recorded.data + at, sizeof event);
        event.payload = far_slice(recorded.data + at + sizeof event, event.payload.len);
        must(far_fsm_evolve(&f->state, &event, &err), &err);
        must(keep_event(f, &event, &err), &err);
        f->index = event.index;
        at += sizeof event + event.payload.len;
    }
    pthread_mutex_unlock(&f->lock);
}

static void init_cluster(struct fixture *f)
{
    uint8_t secret[32], hash[32], bytes[32] = {7};
    far_random_bytes(secret, sizeof secret);
    far_token_hash(secret, hash);
    far_api_token_print(secret, f->shown.token);
    struct far_cmd_cluster_init init = {
        .name = far_slice_str("test"), .uuid = far_slice(bytes, 16), .server_name = far_slice_str("s1"),
        .api_address = far_slice_str("127.0.0.1:1"), .peer_address = far_slice_str("127.0.0.1:2"),
        .seal_key = far_slice(bytes, 32), .fingerprint = far_slice(bytes, 32), .ca_certificate = far_slice("ca", 2),
        .admin_token_hash = far_slice(hash, 32), .recovery_public_key = far_slice(bytes, 32),
    };
    FAR_ASSERT(far_test_api_apply(&f->shown, &far_schema_cmd_cluster_init, &init) == 0);
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    FAR_ASSERT(far_test_api_apply(&f->shown, &far_schema_cmd_feature_level_raise, &raise) == 0);
    FILE *file = fopen(f->shown.token_path, "w");
    fprintf(file, "%s\n", f->shown.token);
    fclose(file);
}

struct far_test_api *far_test_api_start(uint64_t heartbeat_ms)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct far_error err;
    char certificate[512], key[512];
    snprintf(f->shown.dir, sizeof f->shown.dir, "/tmp/far-api-XXXXXX");
    FAR_ASSERT(mkdtemp(f->shown.dir) != NULL);
    pthread_mutexattr_t again; /* a thread may have two views at once, as LMDB allows */
    pthread_mutexattr_init(&again);
    pthread_mutexattr_settype(&again, PTHREAD_MUTEX_RECURSIVE);
    pthread_mutex_init(&f->lock, &again);
    pthread_mutexattr_destroy(&again);
    f->first_seq = 1;
    f->events = calloc(EVENTS_MAX, sizeof *f->events);
    f->state.kv = far_kv_memory_new();
    snprintf(f->shown.ca_path, sizeof f->shown.ca_path, "%s/ca.crt", f->shown.dir);
    snprintf(f->shown.token_path, sizeof f->shown.token_path, "%s/admin.token", f->shown.dir);
    far_test_pki_init(&f->pki, f->shown.dir, 1);
    far_net_free(far_test_pki_net(&f->pki, FAR_PARTY_SERVER, 1));
    init_cluster(f);
    snprintf(certificate, sizeof certificate, "%s/server-1.crt", f->shown.dir);
    snprintf(key, sizeof key, "%s/server-1.key", f->shown.dir);
    struct far_api_config config = {.address = "127.0.0.1:0", .certificate_path = certificate, .key_path = key,
                                    .heartbeat_ms = heartbeat_ms};
    struct far_api *api = NULL;
    must(far_api_new(&config, &hooks, f, &api, &err), &err);
    f->shown.port = far_api_port(api);
    snprintf(f->shown.url, sizeof f->shown.url, "https://127.0.0.1:%d", f->shown.port);
    pthread_mutex_lock(&f->lock);
    f->shown.api = api;
    pthread_mutex_unlock(&f->lock);
    return &f->shown;
}

void far_test_api_stop(struct far_test_api *shown)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    char command[128];
    far_api_stop(shown->api);
    far_test_api_hold(shown, false);
    far_api_free(shown->api);
    forget_all(f);
    far_kv_memory_free(f->state.kv);
    free(f->events);
    pthread_mutex_destroy(&f->lock);
    snprintf(command, sizeof command, "rm -r '%s'", f->shown.dir);
    FAR_ASSERT(system(command) == 0);
    free(f);
}

uint64_t far_test_api_last_seq(struct far_test_api *shown)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    uint64_t seq = f->last_seq;
    pthread_mutex_unlock(&f->lock);
    return seq;
}

void far_test_api_refuse(struct far_test_api *shown, int klass)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    f->refuse = klass;
    pthread_mutex_unlock(&f->lock);
}

void far_test_api_hold(struct far_test_api *shown, bool hold)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    struct held released[HELD_MAX];
    pthread_mutex_lock(&f->lock);
    f->hold = hold;
    size_t count = hold ? 0 : f->held_count;
    memcpy(released, f->held, sizeof released);
    f->held_count -= count;
    uint64_t index = f->index;
    pthread_mutex_unlock(&f->lock);
    for (size_t i = 0; i < count; i++) {
        released[i].done(released[i].arg, &released[i].result, index);
    }
}

void far_test_api_trim(struct far_test_api *shown, uint64_t first_seq)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    f->first_seq = first_seq;
    pthread_mutex_unlock(&f->lock);
}

void far_test_api_other(struct far_test_api *shown, uint64_t id, uint64_t first_seq)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    f->other_id = id;
    f->other_first_seq = first_seq;
    pthread_mutex_unlock(&f->lock);
}

void far_test_api_apart(struct far_test_api *shown, uint64_t oldest_seq)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    f->other_oldest_seq = oldest_seq;
    pthread_mutex_unlock(&f->lock);
}

void far_test_api_silent(struct far_test_api *shown, bool silent)
{
    struct fixture *f = (struct fixture *)(void *)shown;
    pthread_mutex_lock(&f->lock);
    f->silent = silent;
    pthread_mutex_unlock(&f->lock);
}

void far_test_api_stale(struct far_test_api *shown, bool stale)
{
    ((struct fixture *)(void *)shown)->stale = stale;
}
