/* The link: see link.h.
 *
 * A session lives as long as its stream, and longer while a proposal of it is not answered: `waits` counts those. */
#include "server/link.h"

#include "base/assert.h"
#include "base/logging.h"
#include "fsm/query.h"
#include "net/net.h"

#include <stdlib.h>

enum {
    COALESCE_MS = 5,        /* commits within it are looked at once */
    PROPOSE_TIMEOUT_MS = 8000,
    ARENA_MAX = 8 * 1024 * 1024,
    ORDERS_MAX = 1000,      /* that one node can hold */
    ORDERS_A_FRAME = 16,    /* each may be 60 KiB: disks with long paths */
    MESSAGE_MAX = FAR_FRAME_MAX,
};

enum session_state { SESSION_GREETING, SESSION_BOOTING, SESSION_LIVE, SESSION_ENDED };

struct session {
    struct far_link *link;
    struct session *next;
    struct far_stream *stream; /* NULL once it is closed */
    enum session_state state;
    uint64_t node_id;
    uint64_t boot;
    int waits;                 /* proposals whose answer is owed */
    bool report_pending;
    uint64_t report_sequence;
    struct far_sub_order_key *sent; /* what the node knows, in the order of (job, task) */
    size_t sent_count;
};

struct far_link {
    struct far_log *log;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct session *sessions;
    size_t session_count;
    bool closing;
    bool timer_closed;
    void (*done)(void *arg);
    void *done_arg;
};

/* ---- sessions ---- */

static void try_done(struct far_link *link)
{
    if (link->closing && link->timer_closed && link->sessions == NULL) {
        void (*done)(void *) = link->done;
        void *arg = link->done_arg;
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
    free(session);
    try_done(link);
}

/* Once: the log may be gone before the session's memory is. */
static void cease(struct session *session)
{
    if (session->state != SESSION_ENDED) {
        session->state = SESSION_ENDED;
        far_log_follow(session->link->log, false);
    }
}

static void session_end(struct session *session)
{
    cease(session);
    if (session->stream != NULL) {
        far_stream_close(session->stream);
    }
}

static int send_message(struct session *session, const struct far_schema *schema, const void *message)
{
    struct far_buf out;
    struct far_error err = {0};
    far_buf_init(&out, MESSAGE_MAX);
    int rc = far_schema_encode(schema, message, &out, &err);
    if (rc == 0 && session->stream != NULL) {
        rc = far_stream_send(session->stream, schema->kind, far_buf_slice(&out));
    }
    far_buf_done(&out);
    return rc;
}

static void refuse(struct session *session, int klass, const char *message)
{
    struct far_msg_refused refused = {.error_class = far_slice_str(far_class_info(klass)->name),
                                      .error_message = far_slice(message, strnlen(message, 400))};
    send_message(session, &far_schema_msg_refused, &refused);
    session_end(session);
}

/* ---- orders ---- */

static int key_compare(const struct far_sub_order_key *a, uint64_t job_id, uint64_t task)
{
    if (a->job_id != job_id) {
        return a->job_id < job_id ? -1 : 1;
    }
    return (a->task > task) - (a->task < task);
}

static const struct far_sub_order_key *find_sent(const struct session *session, uint64_t job_id, uint64_t task)
{
    for (size_t i = 0; i < session->sent_count; i++) {
        if (key_compare(&session->sent[i], job_id, task) == 0) {
            return &session->sent[i];
        }
    }
    return NULL;
}

/* What the state wants of the node, as keys; in the arena. */
static int wanted_keys(struct far_state *state, uint64_t node_id, struct far_arena *arena, struct far_list *ret_keys,
                       struct far_error *err)
{
    struct far_sub_order_key *keys = far_arena_alloc(arena, ORDERS_MAX * sizeof *keys);
    if (keys == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for orders");
    }
    struct far_key key = far_key(&far_schema_row_node_task);
    far_key_u64(&key, node_id);
    size_t count = 0;
    struct far_slice id;
    struct far_row_node_task row;
    int rc = 0;
    while (count < ORDERS_MAX &&
           (rc = far_state_next(state, &far_schema_row_node_task, &key, arena, &id, &row, err)) == 0) {
        if (id.len != 20 || far_get_be64(id.data) != node_id) {
            break;
        }
        keys[count++] = (struct far_sub_order_key){
            .job_id = far_get_be64(id.data + 8), .task = far_get_be32(id.data + 16), .attempt = row.attempt};
    }
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    *ret_keys = (struct far_list){.items = keys, .count = count};
    return 0;
}

static bool is_wanted(const struct far_list *wanted, const struct far_sub_order_key *sent)
{
    const struct far_sub_order_key *keys = wanted->items;
    for (size_t i = 0; i < wanted->count; i++) {
        if (keys[i].job_id == sent->job_id && keys[i].task == sent->task) {
            return keys[i].attempt == sent->attempt;
        }
    }
    return false;
}

static bool has_news(const struct session *session, const struct far_list *wanted)
{
    const struct far_sub_order_key *keys = wanted->items;
    bool same = session->sent_count == wanted->count;
    for (size_t i = 0; i < wanted->count && same; i++) {
        const struct far_sub_order_key *sent = find_sent(session, keys[i].job_id, keys[i].task);
        same = sent != NULL && sent->attempt == keys[i].attempt;
    }
    return !same;
}

static int send_stops(struct session *session, const struct far_list *wanted, struct far_arena *arena)
{
    struct far_sub_order_key *stops = far_arena_alloc(arena, session->sent_count * sizeof *stops);
    size_t count = 0;
    for (size_t i = 0; i < session->sent_count && stops != NULL; i++) {
        if (!is_wanted(wanted, &session->sent[i])) {
            stops[count++] = session->sent[i];
        }
    }
    if (stops == NULL || count == 0) {
        return stops == NULL ? FAR_LIMIT : 0;
    }
    struct far_msg_orders message = {.stop = {.items = stops, .count = count}};
    return send_message(session, &far_schema_msg_orders, &message);
}

/* It was not sent: the next look does, or finds that the lease has ended. */
static void unwant(struct far_list *wanted, const struct far_sub_order *order)
{
    struct far_sub_order_key *keys = (struct far_sub_order_key *)wanted->items;
    size_t kept = 0;
    for (size_t i = 0; i < wanted->count; i++) {
        if (key_compare(&keys[i], order->job_id, order->task) != 0) {
            keys[kept++] = keys[i];
        }
    }
    wanted->count = kept;
}

static int send_starts(struct session *session, struct far_state *state, struct far_list *wanted, struct far_arena *arena,
                       struct far_error *err)
{
    struct far_list orders;
    struct far_sub_order batch[ORDERS_A_FRAME];
    size_t count = 0;
    int rc = far_query_orders_at(state, session->node_id, far_log_now_ms(session->link->log), ORDERS_MAX, arena, &orders, err);
    const struct far_sub_order *all = orders.items;
    for (size_t i = 0; rc == 0 && i < orders.count; i++) {
        const struct far_sub_order_key *sent = find_sent(session, all[i].job_id, all[i].task);
        bool is_new = sent == NULL || sent->attempt != all[i].attempt;
        if (is_new && all[i].lease_ms > 0) {
            batch[count++] = all[i];
        } else if (is_new) {
            unwant(wanted, &all[i]);
        }
        if (count == ORDERS_A_FRAME || (count > 0 && i + 1 == orders.count)) {
            struct far_msg_orders message = {.start = {.items = batch, .count = count}};
            rc = send_message(session, &far_schema_msg_orders, &message);
            count = 0;
        }
    }
    return rc;
}

static void remember_sent(struct session *session, const struct far_list *wanted)
{
    struct far_sub_order_key *sent = malloc((wanted->count + 1) * sizeof *sent);
    if (sent == NULL) {
        session_end(session); /* a new stream starts from nothing */
        return;
    }
    if (wanted->count > 0) {
        memcpy(sent, wanted->items, wanted->count * sizeof *sent);
    }
    free(session->sent);
    session->sent = sent;
    session->sent_count = wanted->count;
}

static void push_orders(struct session *session, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_list wanted = {0};
    struct far_error err = {0};
    far_arena_init(&arena, ARENA_MAX);
    int rc = wanted_keys(&view->state, session->node_id, &arena, &wanted, &err);
    if (rc == 0 && has_news(session, &wanted)) {
        rc = send_stops(session, &wanted, &arena);
        if (rc == 0) {
            rc = send_starts(session, &view->state, &wanted, &arena, &err);
        }
        if (rc == 0) {
            remember_sent(session, &wanted);
        }
    }
    far_arena_done(&arena);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu: orders cannot be sent: %s", (unsigned long long)session->node_id,
                 err.message[0] != '\0' ? err.message : far_class_info(rc)->name);
        session_end(session);
    }
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
    for (struct session *s = link->sessions; s != NULL; s = s->next) {
        if (s->state == SESSION_LIVE) {
            push_orders(s, &view);
        }
    }
    far_log_view_end(&view);
}

void far_link_committed(struct far_link *link)
{
    if (!link->closing && !uv_is_active((uv_handle_t *)&link->timer)) {
        uv_timer_start(&link->timer, on_timer, COALESCE_MS, 0);
    }
}

/* ---- proposals ---- */

static void propose(struct session *session, const struct far_schema *schema, const void *payload,
                    far_log_done_fn done)
{
    struct far_buf out;
    struct far_error err = {0};
    far_buf_init(&out, FAR_COMMAND_PAYLOAD_MAX);
    if (far_schema_encode(schema, payload, &out, &err) != 0) {
        far_buf_done(&out);
        refuse(session, FAR_INVALID, err.message);
        return;
    }
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_NODE, session->node_id),
                                  .payload = far_buf_slice(&out)};
    session->waits++;
    far_log_propose(session->link->log, &command, PROPOSE_TIMEOUT_MS, done, session);
    far_buf_done(&out);
}

/* "<id>@<host>:<port>#<fingerprint>" of every server that is not removed. */
static int list_servers(struct far_state *state, struct far_arena *arena, struct far_slice *texts, size_t max,
                        size_t *ret_count, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_server);
    struct far_row_server row;
    size_t count = 0;
    int rc = 0;
    while (count < max && (rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        if (row.role == FAR_server_role_removed || row.peer_address.len == 0) {
            continue;
        }
        char *text = far_arena_alloc(arena, row.peer_address.len + 24 + 66);
        if (text == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for the list of servers");
        }
        int n = sprintf(text, "%llu@%.*s", (unsigned long long)row.id, (int)row.peer_address.len,
                        (const char *)row.peer_address.data);
        if (row.fingerprint.len == 32) {
            text[n] = '#';
            far_hex_encode(row.fingerprint.data, 32, text + n + 1);
            n += 65;
        }
        texts[count++] = far_slice(text, (size_t)n);
    }
    *ret_count = count;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int welcome(struct session *session, struct far_error *err)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_slice servers[16];
    size_t count = 0;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_log_view_begin(session->link->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == 0) {
        rc = list_servers(&view.state, &arena, servers, 16, &count, err);
    }
    if (rc == 0) {
        struct far_msg_welcome message = {.boot = session->boot,
                                          .lease_ms = cluster.lease_ms,
                                          .incarnation_epoch = cluster.incarnation_epoch,
                                          .servers = {.items = servers, .count = count}};
        rc = send_message(session, &far_schema_msg_welcome, &message);
    }
    if (rc == 0) {
        session->state = SESSION_LIVE;
        push_orders(session, &view);
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

static void on_reported(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct session *session = arg;
    session->waits--;
    session->report_pending = false;
    if (session->state == SESSION_LIVE) {
        struct far_msg_report_ack ack = {.sequence = session->report_sequence};
        if (result->klass != 0) {
            ack.error_class = far_slice_str(far_class_info(result->klass)->name);
            ack.error_message = far_slice(result->message, strnlen(result->message, 400));
        }
        if (send_message(session, &far_schema_msg_report_ack, &ack) != 0) {
            session_end(session);
        }
    }
    session_free_if_over(session);
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
    struct far_cmd_node_boot boot = {
        .node_id = hello.node_id, .nonce = hello.nonce, .data_address = hello.data_address, .adapters = hello.adapters};
    session->state = SESSION_BOOTING;
    propose(session, &far_schema_cmd_node_boot, &boot, on_booted);
    return 0;
}

static int take_report(struct session *session, struct far_slice payload, struct far_arena *arena,
                       struct far_error *err)
{
    struct far_msg_report report;
    int rc = far_schema_decode(&far_schema_msg_report, payload, arena, &report, err);
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
    propose(session, &far_schema_cmd_node_report, &command, on_reported);
    return 0;
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct session *session = arg;
    struct far_arena arena;
    struct far_error err = {0};
    int rc = 0;
    far_arena_init(&arena, ARENA_MAX);
    if (session->state == SESSION_GREETING && type == FAR_KIND_msg_hello) {
        rc = take_hello(session, payload, &arena, &err);
    } else if (session->state == SESSION_LIVE && type == FAR_KIND_msg_report) {
        rc = take_report(session, payload, &arena, &err);
    } else if (session->state != SESSION_ENDED) {
        rc = far_fail(&err, FAR_INVALID, "message %u does not belong here", type);
    }
    far_arena_done(&arena);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu: stream given up: %s", (unsigned long long)session->node_id,
                 err.message);
        session_end(session);
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
            session_end(s); /* the newer stream wins: the older one is half open, or a former life */
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
    link->timer.data = link;
    *ret_link = link;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_link *link = handle->data;
    link->timer_closed = true;
    try_done(link);
}

void far_link_close(struct far_link *link, void (*done)(void *arg), void *arg)
{
    link->closing = true;
    link->done = done;
    link->done_arg = arg;
    uv_close((uv_handle_t *)&link->timer, on_timer_closed);
    for (struct session *s = link->sessions; s != NULL; s = s->next) {
        session_end(s);
    }
}
