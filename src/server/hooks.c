/* Hooks: see hooks.h. Views, events and status are for any thread and go straight to the log; proposals, waits, barriers
 * and joins become calls of the core thread. */
#include "server/hooks.h"

#include "server/backups.h"
#include "server/claims.h"

#include "base/assert.h"
#include "base/clock.h"
#include "net/pki.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_MAX = 256 * 1024 };

static int view_begin(void *arg, struct far_log_view *ret_view, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_log_view_begin_shown(context->log, ret_view, err);
}

static int view_begin_now(void *arg, struct far_log_view *ret_view, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_log_view_begin_now(context->log, ret_view, err);
}

static void view_end(void *arg, struct far_log_view *view)
{
    far_log_view_end(view);
}

static int view_event(void *arg, struct far_log_view *view, uint64_t seq, struct far_arena *arena,
                      struct far_event *ret_event, uint8_t ret_head[32], struct far_error *err)
{
    return far_log_view_event(view, seq, arena, ret_event, ret_head, err);
}

static void status(void *arg, struct far_log_status *ret_status)
{
    const struct far_hooks_context *context = arg;
    far_log_status(context->log, ret_status);
}

static int view_past(void *arg, struct far_log_view *view, const struct far_moment *moment, struct far_error *err)
{
    return far_log_view_past(view, moment, err);
}

static int view_changed(void *arg, struct far_log_view *view, struct far_slice key, uint64_t before, uint64_t *ret_from,
                        uint64_t *ret_to, struct far_error *err)
{
    return far_log_view_changed(view, key, before, ret_from, ret_to, err);
}

static int view_export(void *arg, struct far_log_view *view, uint64_t from, const struct far_moment *until, size_t bytes_max,
                       struct far_buf *out, uint64_t *ret_next, uint64_t *ret_until, struct far_error *err)
{
    return far_log_view_export(view, from, until, bytes_max, out, ret_next, ret_until, err);
}

static void glance(void *arg, struct far_log_glance *ret_glance)
{
    const struct far_hooks_context *context = arg;
    far_log_glance(context->log, ret_glance);
}

static void flush(void *arg)
{
    const struct far_hooks_context *context = arg;
    far_calls_wake(context->calls);
}

static void follow(void *arg, bool begins)
{
    const struct far_hooks_context *context = arg;
    far_log_follow(context->log, begins);
}

/* The leader's stamp follows the wall clocks of all servers; this server's is the nearest that any thread may ask. */
static uint64_t now_ms(void *arg)
{
    return far_clock_wall_ms();
}

/* ---- proposals, waits, barriers ---- */

enum log_call_kind { CALL_PROPOSE, CALL_WAIT_INDEX, CALL_BARRIER };

struct log_call {
    struct far_call call; /* first */
    enum log_call_kind kind;
    struct far_log *log;
    uint64_t timeout_ms;
    uint64_t index;
    far_log_done_fn done;
    void *done_arg;
    struct far_command command; /* its payload is behind the struct */
    uint8_t payload[];
};

static void fail_done(far_log_done_fn done, void *done_arg, int klass, const char *message)
{
    struct far_result result = {.klass = klass};
    snprintf(result.message, sizeof result.message, "%s", message);
    done(done_arg, &result, 0);
}

static void run_log_call(struct far_call *call, bool canceled)
{
    struct log_call *c = (struct log_call *)call;
    if (canceled) {
        fail_done(c->done, c->done_arg, FAR_CANCELED, "the server stops");
    } else if (c->kind == CALL_PROPOSE) {
        far_log_propose(c->log, &c->command, c->timeout_ms, c->done, c->done_arg);
    } else if (c->kind == CALL_WAIT_INDEX) {
        far_log_wait_index(c->log, c->index, c->timeout_ms, c->done, c->done_arg);
    } else {
        far_log_barrier(c->log, c->timeout_ms, c->done, c->done_arg);
    }
    free(c);
}

static void post_log_call(struct far_hooks_context *context, enum log_call_kind kind,
                          const struct far_command *command, uint64_t index, uint64_t timeout_ms,
                          far_log_done_fn done, void *done_arg)
{
    size_t payload_len = command == NULL ? 0 : command->payload.len;
    struct log_call *c = malloc(sizeof *c + payload_len);
    if (c == NULL) {
        fail_done(done, done_arg, FAR_LIMIT, "no memory for a call");
        return;
    }
    *c = (struct log_call){.call.run = run_log_call,
                           .kind = kind,
                           .log = context->log,
                           .timeout_ms = timeout_ms,
                           .index = index,
                           .done = done,
                           .done_arg = done_arg};
    if (command != NULL) {
        c->command = *command;
        c->command.payload = far_slice(c->payload, payload_len);
        memcpy(c->payload, command->payload.data, payload_len);
    }
    int rc = far_calls_add(context->calls, &c->call);
    if (rc != 0) {
        free(c);
        fail_done(done, done_arg, rc, rc == FAR_BUSY ? "too many calls wait" : "the server stops");
    }
}

static void propose(void *arg, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                    void *done_arg)
{
    post_log_call(arg, CALL_PROPOSE, command, 0, timeout_ms, done, done_arg);
}

static void wait_index(void *arg, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *done_arg)
{
    post_log_call(arg, CALL_WAIT_INDEX, NULL, index, timeout_ms, done, done_arg);
}

static void barrier(void *arg, uint64_t timeout_ms, far_log_done_fn done, void *done_arg)
{
    post_log_call(arg, CALL_BARRIER, NULL, 0, timeout_ms, done, done_arg);
}

struct skip_call {
    struct far_call call; /* first */
    struct far_log *log;
    struct far_log_skip skip;
    far_log_done_fn done;
    void *done_arg;
};

static void run_skip(struct far_call *call, bool canceled)
{
    struct skip_call *c = (struct skip_call *)call;
    if (canceled) {
        fail_done(c->done, c->done_arg, FAR_CANCELED, "the server stops");
    } else {
        far_log_skip_entry(c->log, &c->skip, c->done, c->done_arg);
    }
    free(c);
}

static void skip_entry(void *arg, const struct far_log_skip *skip, far_log_done_fn done, void *done_arg)
{
    struct far_hooks_context *context = arg;
    struct skip_call *c = malloc(sizeof *c);
    if (c == NULL) {
        fail_done(done, done_arg, FAR_LIMIT, "no memory for a call");
        return;
    }
    *c = (struct skip_call){.call.run = run_skip, .log = context->log, .skip = *skip, .done = done, .done_arg = done_arg};
    if (far_calls_add(context->calls, &c->call) != 0) {
        free(c);
        fail_done(done, done_arg, FAR_BUSY, "too many calls wait");
    }
}

/* ---- join tokens ---- */

static void add_address(struct far_join_token *token, const struct far_row_server *row)
{
    if (row->role == FAR_server_role_removed || row->api_address.len == 0 ||
        row->api_address.len > FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX ||
        token->address_count == FAR_JOIN_TOKEN_ADDRESSES_MAX) {
        return;
    }
    memcpy(token->addresses[token->address_count++], row->api_address.data, row->api_address.len);
}

/* This server first: it is known to answer. */
static int add_addresses(struct far_state *state, uint64_t self, struct far_join_token *token, struct far_arena *arena,
                         struct far_error *err)
{
    for (int others = 0; others <= 1; others++) {
        struct far_row_server row;
        struct far_key key = far_key(&far_schema_row_server);
        int rc;
        while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
            if ((row.id != self) == (others == 1)) {
                add_address(token, &row);
            }
        }
        if (rc != FAR_NOT_FOUND) {
            return rc;
        }
    }
    return 0;
}

static int join_token(void *arg, uint64_t purpose, const char *name, const uint8_t secret[32], char *ret_text,
                      struct far_error *err)
{
    struct far_hooks_context *context = arg;
    struct far_join_token token = {0};
    struct far_log_view view;
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_log_view_begin(context->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == FAR_NOT_FOUND) {
        far_fail(err, rc, "this server does not hold the cluster's state yet; try again in a moment");
    }
    if (rc == 0) {
        far_pki_fingerprint(cluster.ca_certificate, token.ca_hash);
        rc = add_addresses(&view.state, context->server_id, &token, &arena, err);
    }
    if (rc == 0) {
        memcpy(token.secret, secret, sizeof token.secret);
        rc = far_join_token_print(&token, ret_text, err);
    }
    far_arena_done(&arena);
    far_log_view_end(&view);
    explicit_bzero(&token, sizeof token);
    return rc;
}

/* ---- joins ---- */

enum { JOIN_TEXTS = 7 };

struct join_call {
    struct far_call call; /* first */
    struct far_admission *admission;
    struct far_api_join_request request; /* its texts are behind the struct */
    far_api_join_done_fn done;
    void *done_arg;
    char texts[];
};

static void fail_join(far_api_join_done_fn done, void *done_arg, int klass, const char *message)
{
    struct far_error err;
    far_fail(&err, klass, "%s", message);
    done(done_arg, &err, NULL);
}

static void run_join_call(struct far_call *call, bool canceled)
{
    struct join_call *c = (struct join_call *)call;
    if (canceled) {
        fail_join(c->done, c->done_arg, FAR_CANCELED, "the server stops");
    } else {
        far_admission_join(c->admission, &c->request, c->done, c->done_arg);
    }
    free(c);
}

/* The request's texts, one after the other. */
static void text_fields(struct far_api_join_request *request, const char **fields[JOIN_TEXTS])
{
    const char **const all[JOIN_TEXTS] = {&request->token,       &request->csr,
                                          &request->name,        &request->api_address,
                                          &request->peer_address, &request->data_address,
                                          &request->party};
    memcpy(fields, all, sizeof all);
}

static void join(void *arg, const struct far_api_join_request *request, far_api_join_done_fn done, void *done_arg)
{
    struct far_hooks_context *context = arg;
    struct far_api_join_request copy = *request;
    const char **fields[JOIN_TEXTS];
    size_t bytes = 0;
    text_fields(&copy, fields);
    for (size_t i = 0; i < JOIN_TEXTS; i++) {
        bytes += strlen(*fields[i]) + 1;
    }
    struct join_call *c = malloc(sizeof *c + bytes);
    if (c == NULL) {
        fail_join(done, done_arg, FAR_LIMIT, "no memory for a join");
        return;
    }
    char *at = c->texts;
    for (size_t i = 0; i < JOIN_TEXTS; i++) {
        size_t len = strlen(*fields[i]) + 1;
        memcpy(at, *fields[i], len);
        *fields[i] = at;
        at += len;
    }
    c->call = (struct far_call){.run = run_join_call};
    c->admission = context->admission;
    c->request = copy;
    c->done = done;
    c->done_arg = done_arg;
    int rc = far_calls_add(context->calls, &c->call);
    if (rc != 0) {
        free(c);
        fail_join(done, done_arg, rc, rc == FAR_BUSY ? "too many calls wait" : "the server stops");
    }
}

static int join_command(void *arg, const struct far_api_join_request *request, struct far_command *ret_command,
                        struct far_buf *payload, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_admission_command(context->admission, request, ret_command, payload, err);
}

/* ---- backups ---- */

static int backup_make(void *arg, struct far_api_backup *ret_backup, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_backups_make(context->backups, UINT64_MAX, ret_backup, err);
}

static int backup_list(void *arg, struct far_api_backup list[FAR_API_BACKUPS_MAX], size_t *ret_count, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_backups_list(context->backups, list, ret_count, err);
}

static int backup_read(void *arg, const char *name, uint64_t offset, size_t max, struct far_buf *out, struct far_error *err)
{
    const struct far_hooks_context *context = arg;
    return far_backups_read(context->backups, name, offset, max, out, err);
}

static void claims(void *arg, struct far_api_claims *ret_claims)
{
    const struct far_hooks_context *context = arg;
    far_claims_get(context->claims, ret_claims);
}

static int seal_domain(void *arg, const uint8_t seed[16], struct far_api_domain *domain, struct far_error *err)
{
    struct far_hooks_context *context = arg;
    struct far_master_key *master = &context->master;
    struct far_log_view view;
    int rc = far_log_view_begin_now(context->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_master_key_open(master, &view.state, err);
    far_log_view_end(&view);
    if (rc == 0 && domain->is_carried) {
        rc = far_domain_seal_secret(master, seed, domain->uuid, domain->secret, domain->sealed_secret, err);
    } else if (rc == 0 && domain->is_new) {
        rc = far_domain_draw_uuid(master, seed, domain->uuid, err);
        rc = rc == 0 ? far_domain_draw(master, seed, domain->uuid, FAR_DOMAIN_SECRET_GENERATION, domain->sealed_secret, err) : rc;
    }
    return rc == 0 ? far_domain_draw(master, seed, domain->uuid, domain->generation, domain->sealed_key, err) : rc;
}

_Static_assert((int)FAR_API_DOMAIN_BOX == (int)FAR_DOMAIN_BOX_BYTES, "the API has room for what is sealed");

const struct far_api_hooks far_server_hooks = {
    .view_begin = view_begin,
    .view_begin_now = view_begin_now,
    .view_end = view_end,
    .view_event = view_event,
    .status = status,
    .propose = propose,
    .wait_index = wait_index,
    .barrier = barrier,
    .join_token = join_token,
    .join = join,
    .view_past = view_past,
    .view_changed = view_changed,
    .view_export = view_export,
    .now_ms = now_ms,
    .join_command = join_command,
    .backup_make = backup_make,
    .backup_list = backup_list,
    .backup_read = backup_read,
    .glance = glance,
    .flush = flush,
    .follow = follow,
    .skip_entry = skip_entry,
    .seal_domain = seal_domain,
    .claims = claims,
};
