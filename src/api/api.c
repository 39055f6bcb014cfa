/* The way of a request: see api.h and request.h.
 *
 * On a good day: route and query are parsed, the token is looked up in a view, the index that the client names is waited
 * for, then the action of the route runs. When it fails, at any step: problem+json with the class of the error. */
#include "api/request.h"

#include "base/assert.h"
#include "base/clock.h"

#include <stdlib.h>

enum { CLOCKS_DIFFER_MS = 10000 };

static void proceed(struct far_api_request *request);

/* ---- views ---- */

int far_api_view(struct far_api_request *request, struct far_log_view *ret_view, struct far_error *err)
{
    const struct far_api *api = request->api;
    int rc = api->hooks.view_begin(api->arg, ret_view, err);
    if (rc != 0) {
        return rc;
    }
    request->applied_index = ret_view->applied_index;
    if (request->query.at.kind != FAR_MOMENT_NOW) {
        rc = api->hooks.view_past(api->arg, ret_view, &request->query.at, err);
        if (rc != 0) {
            api->hooks.view_end(api->arg, ret_view);
        }
    }
    return rc;
}

void far_api_view_end(struct far_api_request *request, struct far_log_view *view)
{
    request->api->hooks.view_end(request->api->arg, view);
}

/* ---- hooks that answer later ---- */

static void release(struct far_api_request *request)
{
    if (request->exchange != NULL || request->waiting) {
        return;
    }
    far_arena_done(&request->arena);
    far_buf_done(&request->payload);
    far_buf_done(&request->made);
    free(request);
}

/* Back on the API thread. */
static void run(struct far_http_work *work, bool dropped)
{
    struct far_api_request *request = (struct far_api_request *)(void *)work;
    request->waiting = false;
    request->api->calls--;
    if (!dropped && request->exchange != NULL) {
        request->next(request);
        return;
    }
    release(request);
}

int far_api_expect(struct far_api_request *request, void (*next)(struct far_api_request *request),
                   struct far_error *err)
{
    FAR_ASSERT(!request->waiting);
    if (request->api->calls >= FAR_API_CALLS_MAX) {
        return far_fail(err, FAR_BUSY, "too many requests are waiting; try again in a moment");
    }
    request->api->calls++;
    request->waiting = true;
    request->next = next;
    request->work.run = run;
    return 0;
}

void far_api_done(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_api_request *request = arg;
    request->result = *result;
    request->applied_index = applied_index;
    far_http_post(request->api->http, &request->work);
}

/* ---- the steps ---- */

static void waited(struct far_api_request *request)
{
    if (request->result.klass != 0) {
        struct far_error err;
        far_fail(&err, request->result.klass, "%s", request->result.message[0] != '\0'
                                                        ? request->result.message
                                                        : "this server did not get there in time");
        far_api_problem(request, 0, &err);
        return;
    }
    proceed(request);
}

static void health(struct far_api_request *request)
{
    far_api_answer(request, 200, json_pack("{s:s}", "status", "ok"));
}

static void openapi(struct far_api_request *request)
{
    struct far_buf body;
    far_buf_init(&body, FAR_API_ANSWER_MAX);
    if (far_buf_append_str(&body, far_openapi_json) != 0) {
        far_api_answer(request, 200, NULL);
        return;
    }
    far_api_answer_bytes(request, 200, "application/json", &body);
}

static void act(struct far_api_request *request)
{
    static void (*const actions[])(struct far_api_request *) = {
        [FAR_ROUTE_HEALTH] = health,           [FAR_ROUTE_READY] = far_api_ready,
        [FAR_ROUTE_OPENAPI] = openapi,         [FAR_ROUTE_CLUSTER] = far_api_cluster,
        [FAR_ROUTE_LOG_HEAD] = far_api_log_head, [FAR_ROUTE_EVENTS] = far_api_events,
        [FAR_ROUTE_LOG_DIFF] = far_api_log_diff, [FAR_ROUTE_LOG_EXPLAIN] = far_api_log_explain,
        [FAR_ROUTE_LOG_EXPORT] = far_api_log_export,
        [FAR_ROUTE_LOG_HEADS] = far_api_log_heads,
        [FAR_ROUTE_RETENTION] = far_api_retention, [FAR_ROUTE_RECOVERY_POLICY] = far_api_recovery_policy,
        [FAR_ROUTE_RESYNC] = far_api_resync, [FAR_ROUTE_RUN_REPORT] = far_api_run_report,
        [FAR_ROUTE_HISTORY] = far_api_plan_history, [FAR_ROUTE_METRICS] = far_api_metrics,
        [FAR_ROUTE_BACKUP_MAKE] = far_api_backup_make,
        [FAR_ROUTE_BACKUP_LIST] = far_api_backup_list,
        [FAR_ROUTE_BACKUP_PIECE] = far_api_backup_piece,
        [FAR_ROUTE_LIST] = far_api_list,       [FAR_ROUTE_OBJECT] = far_api_object,
        [FAR_ROUTE_COMMAND] = far_api_command, [FAR_ROUTE_PATCH] = far_api_patch,
        [FAR_ROUTE_TOKEN] = far_api_token,
        [FAR_ROUTE_JOIN] = far_api_join,
        [FAR_ROUTE_CONSUMER_CREATE] = far_api_consumer_create,
        [FAR_ROUTE_CONSUMER_ACK] = far_api_consumer_ack,
        [FAR_ROUTE_SKIP_ENTRY] = far_api_skip_entry,
        [FAR_ROUTE_THROTTLE] = far_api_throttle, [FAR_ROUTE_THROTTLE_SET] = far_api_throttle_set,
        [FAR_ROUTE_PLAN_RETENTION] = far_api_plan_retention, [FAR_ROUTE_RETENTION_SET] = far_api_retention_set,
        [FAR_ROUTE_PLAN_SPEC] = far_api_plan_spec, [FAR_ROUTE_PLAN_APPLY] = far_api_plan_apply,
        [FAR_ROUTE_SCHEDULE_SET] = far_api_schedule_set,
        [FAR_ROUTE_VAULT_POLICY] = far_api_vault_policy,
        [FAR_ROUTE_ZONE] = far_api_zone_refresh,
        [FAR_ROUTE_DOMAIN_CREATE] = far_api_domain_create,
        [FAR_ROUTE_DOMAIN_ROTATE] = far_api_domain_rotate,
    };
    actions[request->route->action](request);
}

/* Waits for what the query asks for, then acts. */
static void proceed(struct far_api_request *request)
{
    struct far_api *api = request->api;
    struct far_error err;
    if (request->query.min_index > 0 && !request->index_reached) {
        request->index_reached = true;
        if (far_api_expect(request, waited, &err) != 0) {
            far_api_problem(request, 0, &err);
            return;
        }
        api->hooks.wait_index(api->arg, request->query.min_index, FAR_API_TIMEOUT_MS, far_api_done, request);
        return;
    }
    if (request->query.linearizable && !request->barrier_passed) {
        request->barrier_passed = true;
        if (far_api_expect(request, waited, &err) != 0) {
            far_api_problem(request, 0, &err);
            return;
        }
        api->hooks.barrier(api->arg, FAR_API_TIMEOUT_MS, far_api_done, request);
        return;
    }
    act(request);
}

/* Breaks a limit of HTTP: said as it is; the same request will break it again. */
static void refuse(struct far_api_request *request, const struct far_http_request *http)
{
    struct far_error err;
    int status = http->refuse_status;
    bool too_large = status == 413 || status == 414 || status == 431;
    far_fail(&err, too_large ? FAR_LIMIT : FAR_INVALID, "%s", http->refuse_why);
    far_api_problem(request, status, &err);
}

static void on_stranger(void *arg, const struct far_http_request *http, struct far_buf *body)
{
    struct far_error err;
    far_fail(&err, FAR_INVALID, "%s", http->refuse_why);
    json_t *problem = far_api_problem_json(NULL, http->refuse_status, &err);
    far_json_write(problem, body, NULL);
    json_decref(problem);
}

/* By the cluster's time and this server's clock, either of which may be off, as may that of who asks. */
static bool is_to_come(const struct far_api *api, const struct far_moment *moment)
{
    if (moment->kind != FAR_MOMENT_TIME) {
        return false;
    }
    uint64_t cluster_ms = api->hooks.now_ms(api->arg), wall_ms = far_clock_wall_ms();
    return moment->value > (cluster_ms > wall_ms ? cluster_ms : wall_ms) + CLOCKS_DIFFER_MS;
}

/* Are the arguments about the past and about trying things out where they mean something? */
static int check_fit(const struct far_api *api, const struct far_route *route, const struct far_query *query,
                     struct far_error *err)
{
    bool writes = route->method != FAR_HTTP_GET;
    bool is_state = writes || (route->action >= FAR_ROUTE_CLUSTER && route->action != FAR_ROUTE_EVENTS &&
                               route->action < FAR_ROUTE_BACKUP_MAKE);
    if (is_to_come(api, &query->at) || is_to_come(api, &query->until)) {
        return far_fail(err, FAR_INVALID, "that moment is still to come: give one of the past, or none for now");
    }
    bool is_piece = route->action == FAR_ROUTE_LOG_EXPORT || route->action == FAR_ROUTE_BACKUP_PIECE;
    if (is_piece && query->from != FAR_FROM_START && query->from != FAR_FROM_SEQ) {
        return far_fail(err, FAR_INVALID, "argument 'from' must be a number here");
    }
    if (query->force && !route->keeps_history) {
        return far_fail(err, FAR_INVALID, "argument 'force' does not fit here");
    }
    if (query->disk.len > 0 && route->action != FAR_ROUTE_RESYNC) {
        return far_fail(err, FAR_INVALID, "argument 'disk' does not fit here");
    }
    if (query->dry_run && !writes) {
        return far_fail(err, FAR_INVALID, "argument 'dry_run' does not fit: this request changes nothing");
    }
    if (query->at.kind != FAR_MOMENT_NOW && writes && !query->dry_run) {
        return far_fail(err, FAR_INVALID, "the past does not change: argument 'at' needs 'dry_run=true' here");
    }
    if ((query->at.kind != FAR_MOMENT_NOW && !is_state) || (query->until.kind != FAR_MOMENT_NOW && !route->is_long)) {
        return far_fail(err, FAR_INVALID, "argument '%s' does not fit here",
                        query->until.kind != FAR_MOMENT_NOW ? "until" : "at");
    }
    return 0;
}

/* Finds the route and checks who asks; 0 if the request was answered. */
static bool admit(struct far_api_request *request)
{
    const struct far_http_request *http = far_http_exchange_request(request->exchange);
    struct far_match match;
    struct far_error err;
    if (http->refuse_status != 0) {
        refuse(request, http);
        return false;
    }
    far_route_match(http->method, http->path, &match);
    request->route = match.route;
    request->allowed = match.methods;
    memcpy(request->param, match.param, sizeof request->param);
    if (match.route == NULL) {
        far_fail(&err, match.methods != 0 ? FAR_INVALID : FAR_NOT_FOUND,
                 match.methods != 0 ? "this path has no method %s" : "there is no such path (%s)",
                 far_http_method_name(http->method));
        far_api_problem(request, match.methods != 0 ? 405 : 404, &err);
        return false;
    }
    int rc = match.route->open ? 0 : far_api_let_in(request, &err);
    if (rc == FAR_DENIED) {
        far_api_problem(request, 401, &err);
        return false;
    }
    if (rc == 0 && !match.route->open) {
        far_http_exchange_known(request->exchange);
    }
    if (rc == 0) {
        rc = far_query_parse(http->query, http->query_count, &request->query, &err);
    }
    rc = rc != 0 ? rc : check_fit(request->api, match.route, &request->query, &err);
    if (rc == 0 && http->if_match[0] != '\0' && match.route->action != FAR_ROUTE_PATCH) {
        rc = far_fail(&err, FAR_INVALID, "the header If-Match does not fit here: only what PATCH changes can depend on a revision");
    }
    if (rc != 0) {
        far_api_problem(request, 0, &err);
    }
    return rc == 0;
}

static void on_request(void *arg, struct far_http_exchange *exchange)
{
    struct far_api_request *request = calloc(1, sizeof *request);
    if (request == NULL) {
        struct far_buf nothing = {0};
        far_http_answer(exchange, 503, "application/json", NULL, 0, &nothing);
        return;
    }
    request->api = arg;
    request->exchange = exchange;
    far_arena_init(&request->arena, FAR_API_ARENA_MAX);
    far_buf_init(&request->payload, FAR_COMMAND_PAYLOAD_MAX);
    far_buf_init(&request->made, FAR_API_ANSWER_MAX);
    far_http_exchange_set_data(exchange, request);
    if (admit(request)) {
        proceed(request);
    }
}

static void on_gone(void *arg, struct far_http_exchange *exchange)
{
    struct far_api_request *request = far_http_exchange_data(exchange);
    if (request != NULL) {
        far_api_events_gone(request);
        request->exchange = NULL;
        release(request);
    }
}

static void on_tick(void *arg)
{
    far_api_events_tick(arg);
    far_api_acks_tick(arg);
}

static void on_wake(void *arg)
{
    far_api_events_wake(arg);
}

static void on_turn(void *arg)
{
    struct far_api *api = arg;
    api->hooks.flush(api->arg);
}

void far_api_batch(struct far_api *api, bool begins)
{
    far_http_batch(api->http, begins);
}

/* ---- life ---- */

int far_api_new(const struct far_api_config *config, const struct far_api_hooks *hooks, void *arg,
                struct far_api **ret_api, struct far_error *err)
{
    static const struct far_http_callbacks callbacks = {on_request, on_gone, on_tick, on_wake, on_stranger, on_turn};
    struct far_api *api = calloc(1, sizeof *api);
    if (api == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the API");
    }
    api->hooks = *hooks;
    api->arg = arg;
    api->heartbeat_ms = config->heartbeat_ms != 0 ? config->heartbeat_ms : 5000;
    struct far_http_config http = {
        .address = config->address,
        .certificate_path = config->certificate_path,
        .key_path = config->key_path,
        .body_max = FAR_API_BODY_MAX,
        .connections_max = FAR_API_CONNECTIONS_MAX,
        .stall_ms = config->stall_ms != 0 ? config->stall_ms : 30000,
        .tick_ms = api->heartbeat_ms < FAR_API_TICK_MS ? api->heartbeat_ms : FAR_API_TICK_MS,
    };
    int rc = far_http_new(&http, &callbacks, api, &api->http, err);
    if (rc == 0) {
        rc = far_api_worker_start(&api->worker, err);
    }
    if (rc == 0) {
        rc = far_http_start(api->http, err);
    }
    if (rc != 0) {
        far_api_free(api);
        return rc;
    }
    *ret_api = api;
    return 0;
}

int far_api_port(const struct far_api *api)
{
    return far_http_port(api->http);
}

void far_api_committed(struct far_api *api, uint64_t applied_index, uint64_t last_seq)
{
    far_http_wake(api->http);
}

void far_api_stop(struct far_api *api)
{
    far_http_stop(api->http);
    far_api_worker_stop(api->worker);
    api->worker = NULL;
}

void far_api_free(struct far_api *api)
{
    if (api == NULL) {
        return;
    }
    far_api_worker_stop(api->worker);
    far_http_free(api->http);
    FAR_ASSERT(api->calls == 0); /* somebody called far_api_free before every done was called */
    far_event_cache_done(&api->cache);
    far_api_acks_done(api);
    free(api);
}
