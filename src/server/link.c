/* The link: see link.h.
 *
 * A session lives as long as its stream, and longer while a proposal of it is not answered: `waits` counts those. */
#include "server/link_private.h"

#include "base/assert.h"
#include "base/logging.h"
#include "fsm/query.h"

#include <stdlib.h>

enum {
    COALESCE_MS = 5,        /* commits within it are looked at once */
    PROPOSE_TIMEOUT_MS = 8000,
    MESSAGE_MAX = FAR_FRAME_MAX,
};

/* ---- sessions ---- */

static void try_done(struct far_link *link)
{
    if (link->closing && link->timers == 0 && link->sessions == NULL) {
        void (*done)(void *) = link->done;
        void *arg = link->done_arg;
        far_master_key_done(&link->master);
        free(link);
        done(arg);
    }
}

static void session_free_if_over(struct session *session)
{
    struct far_link *link = session->link;
    if (session->stream != NULL || session->waits > 0) {
        return;
    }
    struct session **at = &link->sessions;
    while (*at != session) {
        at = &(*at)->next;
    }
    *at = session->next;
    link->session_count--;
    free(session->sent);
    far_buf_done(&session->held);
    free(session);
    try_done(link);
}

/* Once: the log may be gone before the session's memory is. */
static void cease(struct session *session)
{
    if (session->state != SESSION_ENDED) {
        session->state = SESSION_ENDED;
        far_link_forget_held(session);
        far_log_follow(session->link->log, false);
    }
}

void far_link_session_end(struct session *session)
{
    cease(session);
    if (session->stream != NULL) {
        far_stream_close(session->stream);
    }
}

int far_link_send(struct session *session, const struct far_schema *schema, const void *message)
{
    struct far_buf out;
    struct far_error err = {0};
    far_buf_init(&out, MESSAGE_MAX);
    int rc = far_schema_encode(schema, message, &out, &err);
    if (rc == 0 && session->stream != NULL) {
        rc = far_stream_send(session->stream, schema->kind, far_buf_slice(&out));
    }
    if (out.len > 0 && schema == &far_schema_msg_orders) { /* keys of dedup domains may have been in it */
        explicit_bzero(out.data, out.len);
    }
    far_buf_done(&out);
    return rc;
}

static void refuse(struct session *session, int klass, const char *message)
{
    struct far_msg_refused refused = {.error_class = far_slice_str(far_class_info(klass)->name),
                                      .error_message = far_slice(message, strnlen(message, 400))};
    far_link_send(session, &far_schema_msg_refused, &refused);
    far_link_session_end(session);
}

static void on_limits_timer(uv_timer_t *timer)
{
    far_link_committed(timer->data);
}

static void on_timer(uv_timer_t *timer)
{
    struct far_link *link = timer->data;
    struct far_log_view view;
    struct far_error err = {0};
    if (link->closing) {
        return;
    }
    if (far_log_view_begin_now(link->log, &view, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "link", "cannot read the state: %s", err.message);
        return;
    }
    struct far_link_news news = far_link_look(&view, link->looked_seq);
    link->limits_due = link->limits_due || news.limits;
    uint64_t limits_in_ms = link->limits_due ? far_link_push_limits(link, &view) : 0; /* before what they hold for */
    link->limits_due = limits_in_ms != 0;
    for (struct session *s = link->sessions; news.orders && s != NULL; s = s->next) {
        if (s->state == SESSION_LIVE) {
            far_link_push_orders(s, &view);
        }
    }
    if (news.servers) {
        far_link_push_servers(link, &view);
    }
    if (news.vaults) {
        far_link_push_vaults(link, &view);
    }
    link->looked_seq = view.last_seq;
    far_log_view_end(&view);
    if (link->limits_due && !uv_is_active((uv_handle_t *)&link->limits_timer)) {
        uv_timer_start(&link->limits_timer, on_limits_timer, limits_in_ms, 0);
    }
}

void far_link_committed(struct far_link *link)
{
    if (!link->closing && !uv_is_active((uv_handle_t *)&link->timer)) {
        uv_timer_start(&link->timer, on_timer, COALESCE_MS, 0);
    }
}

/* ---- proposals ---- */

static void submit(struct session *session, const struct far_schema *schema, struct far_slice payload, far_log_done_fn done)
{
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_NODE, session->node_id),
                                  .payload = payload};
    session->waits++;
    far_log_propose(session->link->log, &command, PROPOSE_TIMEOUT_MS, done, session);
}

/* The command's bytes in the session's buffer. */
static int encode(struct session *session, const struct far_schema *schema, const void *payload, struct far_error *err)
{
    far_buf_reset(&session->held);
    return far_schema_encode(schema, payload, &session->held, err);
}

static int welcome(struct session *session, struct far_error *err)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_list servers;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_log_view_begin(session->link->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == 0) {
        rc = far_link_list_servers(&view.state, &arena, &servers, err);
    }
    if (rc == 0) {
        struct far_msg_welcome message = {.boot = session->boot,
                                          .lease_ms = cluster.lease_ms,
                                          .incarnation_epoch = cluster.incarnation_epoch,
                                          .servers = servers};
        session->servers_told = far_link_servers_hash(&servers);
        rc = far_link_send(session, &far_schema_msg_welcome, &message);
    }
    if (rc == 0) {
        session->state = SESSION_LIVE;
        far_link_begin_limits(session, &view);
        far_link_begin_vaults(session, &view);
        far_link_push_orders(session, &view);
    }
    far_arena_done(&arena);
    far_log_view_end(&view);
    return rc;
}

static void on_booted(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct session *session = arg;
    struct far_error err = {0};
    session->waits--;
    if (session->state == SESSION_BOOTING) {
        if (result->klass != 0) {
            refuse(session, result->klass, result->message);
        } else {
            session->boot = result->object_id;
            far_logf(FAR_LEVEL_INFO, "link", "node %llu is here, boot %llu", (unsigned long long)session->node_id,
                     (unsigned long long)session->boot);
            int rc = welcome(session, &err);
            if (rc != 0) {
                refuse(session, rc, err.message);
            }
        }
    }
    session_free_if_over(session);
}

static void answer_report(struct session *session, int klass, const char *message, const struct far_list *over)
{
    struct far_msg_report_ack ack = {.sequence = session->report_sequence, .over = *over};
    session->report_pending = false;
    if (klass != 0) {
        ack.error_class = far_slice_str(far_class_info(klass)->name);
        ack.error_message = far_slice(message, strnlen(message, 400));
    }
    if (far_link_send(session, &far_schema_msg_report_ack, &ack) != 0) {
        far_link_session_end(session);
    }
}

/* Of what the node keeps notes of: what is over, with this report at the latest. */
static void find_over(struct session *session, struct far_list *ret_over)
{
    struct far_log_view view;
    struct far_error err = {0};
    size_t count = 0;
    if (session->kept_count == 0) {
        return;
    }
    int rc = far_log_view_begin(session->link->log, &view, &err);
    if (rc == 0) {
        for (size_t i = 0; rc == 0 && i < session->kept_count; i++) {
            bool is_over = false;
            rc = far_query_task_over(&view.state, session->kept[i].job_id, session->kept[i].task, &is_over, &err);
            if (is_over) {
                session->kept[count++] = session->kept[i];
            }
        }
        far_log_view_end(&view);
    }
    if (rc != 0) { /* the node asks again */
        far_logf(FAR_LEVEL_WARN, "link", "cannot tell node %llu what is over: %s", (unsigned long long)session->node_id, err.message);
    }
    *ret_over = (struct far_list){.items = session->kept, .count = rc == 0 ? count : 0};
}

static void on_reported(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct session *session = arg;
    struct far_list over = {.count = 0};
    session->waits--;
    if (session->state == SESSION_LIVE) {
        if (result->klass == 0) {
            find_over(session, &over);
        }
        answer_report(session, result->klass, result->message, &over);
    }
    session_free_if_over(session);
}

void far_link_submit_report(struct session *session)
{
    submit(session, &far_schema_cmd_node_report, far_buf_slice(&session->held), on_reported);
}

/* ---- frames ---- */

static int take_hello(struct session *session, struct far_slice payload, struct far_arena *arena,
                      struct far_error *err)
{
    struct far_msg_hello hello;
    int rc = far_schema_decode(&far_schema_msg_hello, payload, arena, &hello, err);
    if (rc != 0) {
        return rc;
    }
    if (hello.node_id != session->node_id) {
        return far_fail(err, FAR_DENIED, "the hello names node %llu", (unsigned long long)hello.node_id);
    }
    rc = far_link_look_at_level(session->link, err);
    if (rc != 0) {
        return rc;
    }
    struct far_cmd_node_boot boot = {
        .node_id = hello.node_id, .nonce = hello.nonce, .data_address = hello.data_address, .adapters = hello.adapters,
        .dials_only = hello.dials_only, .runs_scripts = hello.runs_scripts && session->link->level >= far_schema_row_run_script.since(0)};
    session->level = far_link_level_of(hello.version);
    session->state = SESSION_BOOTING;
    rc = encode(session, &far_schema_cmd_node_boot, &boot, err);
    if (rc == 0) {
        submit(session, &far_schema_cmd_node_boot, far_buf_slice(&session->held), on_booted);
    } else {
        refuse(session, FAR_INVALID, err->message);
    }
    return 0;
}

/* A node may be ahead of its cluster: what it says beyond the cluster's feature level would have the whole report refused. */
static int lower_report(struct far_link *link, struct far_msg_report *report, struct far_error *err)
{
    int rc = far_link_look_at_level(link, err);
    if (rc == 0 && link->level < FAR_FEATURE_LEVEL) {
        far_schema_lower(&far_schema_msg_report, report, link->level);
    }
    return rc;
}

static int take_report(struct session *session, struct far_slice payload, struct far_arena *arena,
                       struct far_error *err)
{
    struct far_msg_report report;
    int rc = far_schema_decode(&far_schema_msg_report, payload, arena, &report, err);
    rc = rc != 0 ? rc : lower_report(session->link, &report, err);
    if (rc != 0) {
        return rc;
    }
    if (session->report_pending) {
        return far_fail(err, FAR_INVALID, "a report came before the last one was answered");
    }
    struct far_cmd_node_report command = {
        .node_id = session->node_id, .boot = session->boot, .sequence = report.sequence, .items = report.items};
    session->report_pending = true;
    session->report_sequence = report.sequence;
    session->kept_count = report.kept.count < FAR_LINK_KEPT_MAX ? report.kept.count : FAR_LINK_KEPT_MAX;
    if (session->kept_count > 0) {
        memcpy(session->kept, report.kept.items, session->kept_count * sizeof session->kept[0]);
    }
    rc = encode(session, &far_schema_cmd_node_report, &command, err);
    if (rc != 0) { /* too large, say: the node must know which report that was */
        answer_report(session, FAR_INVALID, err->message, &(struct far_list){.count = 0});
    } else {
        far_link_pace(session, &report.items);
        rc = far_link_stop_strays(session, &report.items, arena);
    }
    return rc == FAR_LIMIT ? rc : 0;
}

/* Said again with the next stream, should it not get into the log. */
static void on_keys_told(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct session *session = arg;
    (void)applied_index;
    session->waits--;
    if (result->klass != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu: the keys of its vault were not taken: %s", (unsigned long long)session->node_id,
                 result->message);
        far_link_session_end(session);
    }
    session_free_if_over(session);
}

static int take_vault_keys(struct session *session, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_vault_keys message;
    int rc = far_schema_decode(&far_schema_msg_vault_keys, payload, arena, &message, err);
    if (rc == 0) {
        struct far_cmd_vault_keys_tell command = {.node_id = session->node_id, .boot = session->boot, .keys = message.keys};
        struct far_buf bytes;
        far_buf_init(&bytes, MESSAGE_MAX);
        rc = far_schema_encode(&far_schema_cmd_vault_keys_tell, &command, &bytes, err);
        if (rc == 0) {
            submit(session, &far_schema_cmd_vault_keys_tell, far_buf_slice(&bytes), on_keys_told);
        }
        far_buf_done(&bytes);
    }
    return rc;
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct session *session = arg;
    struct far_arena arena;
    struct far_error err = {0};
    int rc = 0;
    far_arena_init(&arena, FAR_LINK_ARENA_MAX);
    if (session->state == SESSION_GREETING && type == FAR_KIND_msg_hello) {
        rc = take_hello(session, payload, &arena, &err);
    } else if (session->state == SESSION_LIVE && type == FAR_KIND_msg_report) {
        rc = take_report(session, payload, &arena, &err);
    } else if (session->state == SESSION_LIVE && type == FAR_KIND_msg_vault_keys) {
        rc = take_vault_keys(session, payload, &arena, &err);
    } else if (session->state != SESSION_ENDED) {
        rc = far_fail(&err, FAR_INVALID, "message %u does not belong here", type);
    }
    far_arena_done(&arena);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu: stream given up: %s", (unsigned long long)session->node_id,
                 err.message);
        far_link_session_end(session);
    }
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct session *session = arg;
    session->stream = NULL;
    cease(session);
    far_logf(FAR_LEVEL_INFO, "link", "node %llu: stream ended: %s", (unsigned long long)session->node_id,
             why != NULL ? why->message : "closed");
    session_free_if_over(session);
}

static const struct far_stream_callbacks session_callbacks = {.on_frame = on_frame, .on_close = on_close};

/* A stream that nobody wants: its one callback is its end. */
static void on_unwanted_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
}

static void on_unwanted_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
}

static const struct far_stream_callbacks unwanted_callbacks = {.on_frame = on_unwanted_frame,
                                                               .on_close = on_unwanted_close};

void far_link_accept(struct far_link *link, uint64_t node_id, struct far_stream *stream)
{
    for (struct session *s = link->sessions; s != NULL; s = s->next) {
        if (s->node_id == node_id && s->state != SESSION_ENDED) {
            far_link_session_end(s); /* the newer stream wins: the older one is half open, or a former life */
        }
    }
    struct session *session = link->closing || link->session_count >= FAR_LINK_NODES_MAX ? NULL
                                                                                           : calloc(1, sizeof *session);
    if (session == NULL) {
        far_stream_set_callbacks(stream, &unwanted_callbacks, NULL);
        far_stream_close(stream);
        return;
    }
    session->link = link;
    far_buf_init(&session->held, FAR_COMMAND_PAYLOAD_MAX);
    session->node_id = node_id;
    session->stream = stream;
    session->next = link->sessions;
    link->sessions = session;
    link->session_count++;
    far_log_follow(link->log, true);
    far_stream_set_callbacks(stream, &session_callbacks, session);
}

/* ---- life ---- */

int far_link_new(struct far_log *log, uv_loop_t *loop, struct far_link **ret_link, struct far_error *err)
{
    struct far_link *link = calloc(1, sizeof *link);
    if (link == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the link");
    }
    link->log = log;
    link->loop = loop;
    int rc = uv_timer_init(loop, &link->timer);
    FAR_ASSERT(rc == 0);
    rc = uv_timer_init(loop, &link->pace_timer);
    FAR_ASSERT(rc == 0);
    rc = uv_timer_init(loop, &link->limits_timer);
    FAR_ASSERT(rc == 0);
    rc = uv_timer_init(loop, &link->delay_timer);
    FAR_ASSERT(rc == 0);
    link->timer.data = link->pace_timer.data = link->limits_timer.data = link->delay_timer.data = link;
    link->timers = 4;
    link->held_last = &link->held;
    *ret_link = link;
    return 0;
}

void far_link_use_seal_key(struct far_link *link, uint64_t server_id, const uint8_t seal_key[32])
{
    link->has_seal_key = true;
    link->master = (struct far_master_key){.server_id = server_id};
    memcpy(link->master.seal_key, seal_key, sizeof link->master.seal_key);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_link *link = handle->data;
    link->timers--;
    try_done(link);
}

void far_link_close(struct far_link *link, void (*done)(void *arg), void *arg)
{
    link->closing = true;
    link->done = done;
    link->done_arg = arg;
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
    uv_close((uv_handle_t *)&link->pace_timer, on_timer_closed);
    uv_close((uv_handle_t *)&link->limits_timer, on_timer_closed);
    uv_close((uv_handle_t *)&link->delay_timer, on_timer_closed);
    for (struct session *s = link->sessions; s != NULL; s = s->next) {
        far_link_session_end(s);
    }
}
