/* The agent: see agent.h. States: idle (waiting to dial), dialing, greeting (hello sent), live. */
#include "node/agent.h"

#include "base/assert.h"
#include "base/logging.h"
#include "base/random.h"
#include "dataplane/vault_trust.h"
#include "fsm/fsm.h"
#include "net/net.h"
#include "node/leases.h"
#include "node/orders.h"
#include "node/refusals.h"
#include "node/reports.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    TICK_MS = 200,            /* how often leases and due reports are looked at */
    PROGRESS_MS = 1000,       /* progress is coalesced to this */
    HELLO_TIMEOUT_MS = 10000, /* for the welcome; a log without a leader answers late */
    ACK_TIMEOUT_MS = 15000,   /* for a report's confirmation; then another server is asked */
    ARENA_MAX = 8 * 1024 * 1024,
    BATCH_MAX = 256 * 1024,
    FAR_AGENT_KEPT_MAX = 64, /* notes that one report asks about */
    ADAPTERS_MAX = 32, /* that the hello names */
};

enum state { STATE_IDLE, STATE_DIALING, STATE_GREETING, STATE_LIVE, STATE_CLOSING };

struct far_agent {
    uv_loop_t *loop;
    struct far_net *net;
    struct far_engine *engine;
    uint64_t node_id;
    uint8_t nonce[16]; /* of this process: the same one gets the same boot number */
    struct far_agent_server servers[FAR_AGENT_SERVERS_MAX];
    size_t server_count;
    size_t server_at; /* whom to dial next */
    struct far_agent_server server; /* that is dialed, or was last */
    char *servers_path;
    char *vaults_path;
    bool said_keys; /* of its vault, in this stream */
    void (*on_removed)(void *arg);
    int (*on_follow)(void *arg, struct far_incarnation_id incarnation, struct far_error *err);
    void *owner; /* of the two */
    const struct far_adapter *const *adapters;
    bool runs_scripts;

    enum state state;
    struct far_stream *stream;
    uint64_t state_since_ms;
    uint64_t backoff_ms;
    uint64_t dial_at_ms;

    uint64_t lease_ms;        /* how long a renewed lease lasts, as the last welcome said */
    uint64_t answered_ms;     /* when the hello or report was sent that was answered last: orders are newer */

    uint64_t boot;            /* 0 before the first welcome */
    uint64_t sequence;        /* of the last batch */
    struct far_buf batch;     /* the `report` message that waits for its confirmation; empty = none */
    struct far_report_batch taken; /* what is in it */
    uint64_t batch_sent_ms;   /* when it was sent last */
    bool batch_in_flight;     /* sent on the present stream */
    uint64_t last_batch_ms;
    bool is_unconfirmed;      /* the last report was refused, or not answered: whoever is dialed next is given no less time for it */
    struct far_refusals refusals;
    uint64_t refused_items;   /* that were refused for good, since the start */

    struct far_reports *reports;
    struct far_leases leases;

    uv_timer_t timer;
    uv_async_t wake;
    int handles_open;
    void (*close_done)(void *arg);
    void *close_arg;
};

static void send_reports(struct far_agent *agent);

/* ---- servers ---- */

/* The one behind the server that was dialed, if that is one of them. */
static size_t place_behind(const struct far_agent *agent)
{
    for (size_t i = 0; i < agent->server_count; i++) {
        if (agent->servers[i].id == agent->server.id) {
            return (i + 1) % agent->server_count;
        }
    }
    return 0;
}

static void learn_servers(struct far_agent *agent, const struct far_list *list)
{
    if (far_agent_take_servers(list, agent->servers, &agent->server_count)) {
        agent->server_at = place_behind(agent);
        far_agent_save_servers(agent->servers_path, agent->servers, agent->server_count);
    }
}

/* A server is known by the key that it joined with, not only by its certificate. */
static bool shows_its_key(const struct far_agent *agent, const struct far_stream *stream)
{
    const struct far_agent_server *server = &agent->server;
    if (!server->has_fingerprint || memcmp(server->fingerprint, far_stream_fingerprint(stream), 32) == 0) {
        return true;
    }
    far_logf(FAR_LEVEL_ERROR, "agent", "the certificate of server %llu at %s is of another key than the one that joined",
             (unsigned long long)server->id, server->address);
    return false;
}

/* ---- the stream ---- */

static void enter(struct far_agent *agent, enum state state)
{
    agent->state = state;
    agent->state_since_ms = uv_now(agent->loop);
}

static void drop_stream(struct far_agent *agent)
{
    if (agent->stream != NULL) {
        far_stream_close(agent->stream);
    }
}

/* With the feature level that this program knows: servers of older versions do not look at it. */
static const char *version_text(char text[64])
{
    snprintf(text, 64, "%s+level.%d", FAR_VERSION, FAR_FEATURE_LEVEL);
    return text;
}

static void send_hello(struct far_agent *agent)
{
    char version[64];
    struct far_slice names[ADAPTERS_MAX];
    size_t count = 0;
    while (agent->adapters != NULL && count < ADAPTERS_MAX && agent->adapters[count] != NULL) {
        names[count] = far_slice_str(agent->adapters[count]->name);
        count++;
    }
    struct far_msg_hello hello = {
        .node_id = agent->node_id,
        .nonce = far_slice(agent->nonce, sizeof agent->nonce),
        .data_address = far_slice_str(far_engine_data_address(agent->engine)),
        .version = far_slice_str(version_text(version)),
        .adapters = {.items = names, .count = count},
        .dials_only = far_engine_data_address(agent->engine)[0] == '\0',
        .runs_scripts = agent->runs_scripts,
    };
    struct far_buf out;
    far_buf_init(&out, 4096);
    int rc = far_schema_encode(&far_schema_msg_hello, &hello, &out, NULL);
    FAR_ASSERT(rc == 0);
    rc = far_stream_send(agent->stream, FAR_KIND_msg_hello, far_buf_slice(&out));
    far_buf_done(&out);
    if (rc != 0) {
        drop_stream(agent);
    }
}

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct far_agent *agent = arg;
    agent->stream = stream;
    if (agent->state == STATE_CLOSING || !shows_its_key(agent, stream)) {
        drop_stream(agent);
        return;
    }
    enter(agent, STATE_GREETING);
    agent->said_keys = false;
    send_hello(agent);
}

static void try_close_done(struct far_agent *agent)
{
    if (agent->state != STATE_CLOSING || agent->stream != NULL || agent->handles_open > 0) {
        return;
    }
    void (*done)(void *) = agent->close_done;
    void *arg = agent->close_arg;
    far_buf_done(&agent->batch);
    far_reports_free(agent->reports);
    free(agent->servers_path);
    free(agent->vaults_path);
    free(agent);
    done(arg);
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct far_agent *agent = arg;
    agent->stream = NULL;
    agent->batch_in_flight = false;
    if (agent->state == STATE_CLOSING) {
        try_close_done(agent);
        return;
    }
    far_logf(FAR_LEVEL_INFO, "agent", "no stream to server %llu at %s: %s", (unsigned long long)agent->server.id,
             agent->server.address, why != NULL ? why->message : "it ended");
    agent->dial_at_ms = uv_now(agent->loop) + agent->backoff_ms;
    agent->backoff_ms = agent->backoff_ms * 2 > FAR_BACKOFF_MAX_MS ? FAR_BACKOFF_MAX_MS : agent->backoff_ms * 2;
    enter(agent, STATE_IDLE);
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload);

static const struct far_stream_callbacks stream_callbacks = {
    .on_open = on_open,
    .on_frame = on_frame,
    .on_close = on_close,
};

static void dial(struct far_agent *agent)
{
    agent->server = agent->servers[agent->server_at];
    agent->server_at = (agent->server_at + 1) % agent->server_count;
    struct far_peer to = {.party = FAR_PARTY_SERVER, .id = agent->server.id};
    struct far_error err = {0};
    enter(agent, STATE_DIALING);
    int rc = far_stream_dial(agent->net, agent->loop, agent->server.address, to, FAR_PURPOSE_LINK, &stream_callbacks, agent,
                             &agent->stream, &err);
    if (rc != 0) {
        agent->stream = NULL;
        on_close(agent, NULL, &err);
    }
}

/* ---- orders ---- */

/* The engine would not take an order: the servers must hear of it, or they would wait for the lease to end. */
static void report_refusal(struct far_agent *agent, const struct far_sub_order *order, const struct far_error *err)
{
    struct far_engine_report report = {
        .job_id = order->job_id,
        .task = order->task,
        .attempt = order->attempt,
        .state = FAR_ENGINE_FAILED,
        .outcome = err->klass == FAR_INVALID || err->klass == FAR_DENIED ? FAR_ADAPTER_FATAL : FAR_ADAPTER_RETRY,
        .error_class = err->klass,
    };
    memcpy(report.error_message, err->message, sizeof report.error_message - 1);
    far_agent_report(agent, &report);
}

static void start_order(struct far_agent *agent, const struct far_sub_order *order)
{
    struct far_arena arena;
    far_arena_init(&arena, 1024 * 1024);
    struct far_engine_order converted;
    struct far_error err = {0};
    int rc = far_orders_convert(order, &arena, &converted, &err);
    if (rc == 0 && order->incarnation_epoch < far_net_incarnation(agent->net).epoch) {
        rc = far_fail(&err, FAR_CONFLICT, "it was given in incarnation %llu of the cluster, which is over",
                      (unsigned long long)order->incarnation_epoch);
    }
    if (rc == 0) {
        rc = far_leases_add(&agent->leases, order->job_id, order->task, order->attempt,
                            agent->answered_ms, order->lease_ms, &err);
    }
    if (rc == 0) {
        rc = far_engine_start(agent->engine, &converted, &err);
    }
    if (rc == 0) {
        explicit_bzero(&converted.domain, sizeof converted.domain);
        if (converted.vault_domain_count > 0) {
            explicit_bzero((void *)converted.vault_domains, converted.vault_domain_count * sizeof converted.vault_domains[0]);
        }
    }
    far_arena_done(&arena);
    if (rc == 0) {
        return;
    }
    far_logf(FAR_LEVEL_WARN, "agent", "order job %llu task %llu attempt %llu refused: %s",
             (unsigned long long)order->job_id, (unsigned long long)order->task, (unsigned long long)order->attempt,
             err.message);
    if (rc != FAR_CONFLICT) {
        far_leases_remove(&agent->leases, order->job_id, order->task, order->attempt);
        report_refusal(agent, order, &err);
    }
}

static void stop_order(struct far_agent *agent, uint64_t job_id, uint64_t task, uint64_t attempt)
{
    far_leases_remove(&agent->leases, job_id, task, attempt);
    far_engine_cancel(agent->engine, job_id, task, attempt);
    far_reports_drop(agent->reports, job_id, task, attempt);
}

static int take_orders(struct far_agent *agent, struct far_slice payload, struct far_arena *arena,
                       struct far_error *err)
{
    struct far_msg_orders orders;
    int rc = far_schema_decode(&far_schema_msg_orders, payload, arena, &orders, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_sub_order_key *stops = orders.stop.items;
    for (size_t i = 0; i < orders.stop.count; i++) {
        stop_order(agent, stops[i].job_id, stops[i].task, stops[i].attempt);
    }
    const struct far_sub_order *starts = orders.start.items;
    for (size_t i = 0; i < orders.start.count; i++) {
        start_order(agent, &starts[i]);
    }
    return 0;
}

/* ---- frames ---- */

/* Another boot number than before: the servers gave this process up, whatever it held is somebody else's. */
static void forget_everything(struct far_agent *agent)
{
    const struct far_lease *lease;
    while ((lease = far_leases_first(&agent->leases)) != NULL) {
        stop_order(agent, lease->job_id, lease->task, lease->attempt);
    }
    far_reports_clear(agent->reports);
    far_buf_reset(&agent->batch);
    agent->batch_in_flight = false;
    agent->refusals = (struct far_refusals){.probes = false};
    agent->sequence = 0;
}

/* The server that was dialed belongs to another incarnation. A newer one is followed: whatever was ordered in the old one
 * must not go on, for the new one may know nothing of it, so this is a new process to the servers. */
static void on_incarnation(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_incarnation_id theirs)
{
    struct far_agent *agent = arg;
    struct far_incarnation_id own = far_net_incarnation(agent->net);
    const struct far_agent_server *server = &agent->server;
    struct far_error err = {0};
    unsigned long long id = peer.id, epoch = theirs.epoch;
    if (peer.party != FAR_PARTY_SERVER || agent->state == STATE_CLOSING || agent->on_follow == NULL ||
        (server->has_fingerprint && memcmp(server->fingerprint, fingerprint, 32) != 0)) {
        return;
    }
    if (theirs.epoch <= own.epoch) {
        far_logf(FAR_LEVEL_WARN, "agent", theirs.epoch < own.epoch
                 ? "server %llu is of incarnation %llu of the cluster, which is over: it is not heard"
                 : "server %llu is of another incarnation %llu than the one that this node follows: it is not heard; the "
                   "cluster was recovered at two places", id, epoch);
        return;
    }
    forget_everything(agent);
    if (agent->on_follow(agent->owner, theirs, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "agent", "incarnation %llu cannot be followed: %s", epoch, err.message);
        return;
    }
    far_random_bytes(agent->nonce, sizeof agent->nonce);
    agent->boot = 0;
    agent->backoff_ms = FAR_BACKOFF_MIN_MS;
    far_logf(FAR_LEVEL_WARN, "agent", "server %llu is of incarnation %llu of the cluster: this node follows it", id, epoch);
}

static int take_welcome(struct far_agent *agent, struct far_slice payload, struct far_arena *arena,
                        struct far_error *err)
{
    struct far_msg_welcome welcome;
    int rc = far_schema_decode(&far_schema_msg_welcome, payload, arena, &welcome, err);
    if (rc != 0) {
        return rc;
    }
    if (agent->boot != 0 && agent->boot != welcome.boot) {
        forget_everything(agent);
    }
    agent->boot = welcome.boot;
    agent->lease_ms = welcome.lease_ms;
    agent->answered_ms = agent->state_since_ms; /* of the hello */
    agent->backoff_ms = agent->is_unconfirmed ? agent->backoff_ms : FAR_BACKOFF_MIN_MS; /* else it would greet without end */
    far_logf(FAR_LEVEL_INFO, "agent", "connected to server %llu, boot %llu",
             (unsigned long long)agent->server.id, (unsigned long long)welcome.boot);
    learn_servers(agent, &welcome.servers);
    enter(agent, STATE_LIVE);
    send_reports(agent);
    return 0;
}

/* They have changed. */
static int take_servers(struct far_agent *agent, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_servers message;
    int rc = far_schema_decode(&far_schema_msg_servers, payload, arena, &message, err);
    if (rc == 0) {
        learn_servers(agent, &message.servers);
    }
    return rc;
}

/* ---- keys of vaults ---- */

/* What is said of those of its own. */
struct keys {
    struct far_vault_keys all;
    uint8_t fingerprint[32], before[32];
};

static struct far_sub_vault_keys keys_of(const struct far_vault *vault, struct keys *keys)
{
    far_vault_keys(vault, &keys->all);
    far_vault_keys_fingerprint(&keys->all, keys->all.count, keys->fingerprint);
    far_vault_keys_fingerprint(&keys->all, keys->all.count - 1, keys->before);
    return (struct far_sub_vault_keys){
        .vault_uuid = far_slice(keys->all.uuid, 16),
        .public_key = far_slice(keys->all.keys[keys->all.count - 1], 32),
        .fingerprint = far_slice(keys->fingerprint, 32),
        .fingerprint_before = far_slice(keys->before, keys->all.count > 1 ? 32 : 0),
    };
}

static void say_keys(struct far_agent *agent)
{
    const struct far_vault *vault = far_engine_vault(agent->engine);
    struct keys keys;
    struct far_buf out;
    if (vault == NULL || agent->said_keys) {
        return;
    }
    struct far_sub_vault_keys said = keys_of(vault, &keys);
    struct far_msg_vault_keys message = {.keys = {.items = &said, .count = 1}};
    far_buf_init(&out, 4096);
    int rc = far_schema_encode(&far_schema_msg_vault_keys, &message, &out, NULL);
    FAR_ASSERT(rc == 0);
    agent->said_keys = far_stream_send(agent->stream, FAR_KIND_msg_vault_keys, far_buf_slice(&out)) == 0;
    far_buf_done(&out);
}

/* By which keys vaults are believed. A server that says so wants to hear of this one's. */
static int take_vaults(struct far_agent *agent, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_vaults message;
    int rc = far_schema_decode(&far_schema_msg_vaults, payload, arena, &message, err);
    if (rc == 0) {
        far_agent_save_vaults(agent->vaults_path, &message.vaults);
        say_keys(agent);
    }
    return rc;
}

/* What this node may send, from now on. */
static int take_limits(struct far_agent *agent, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_limits message;
    int rc = far_schema_decode(&far_schema_msg_limits, payload, arena, &message, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_sub_plan_limit *plans = message.plans.items;
    struct far_engine_plan_limit *limits = far_arena_alloc(arena, (message.plans.count + 1) * sizeof *limits);
    if (limits == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for bandwidth limits");
    }
    for (size_t i = 0; i < message.plans.count; i++) {
        limits[i] = (struct far_engine_plan_limit){.plan_id = plans[i].plan_id, .bytes_per_s = plans[i].bytes_per_s};
    }
    return far_engine_set_limits(agent->engine, message.bytes_per_s, limits, message.plans.count, err);
}

/* ---- what becomes of a report ---- */

/* The node's notes of what is over. */
static void settle_kept(struct far_agent *agent, const struct far_list *over)
{
    const struct far_sub_order_key *keys = over->items;
    for (size_t i = 0; i < over->count; i++) {
        far_engine_settle(agent->engine, keys[i].job_id, keys[i].task);
    }
}

static void confirm(struct far_agent *agent)
{
    agent->answered_ms = agent->batch_sent_ms;
    for (size_t i = 0; i < agent->taken.count; i++) {
        const struct far_report_key *key = &agent->taken.keys[i];
        if (key->ended) {
            far_leases_remove(&agent->leases, key->job_id, key->task, key->attempt);
        } else {
            far_leases_renew(&agent->leases, key->job_id, key->task, key->attempt, agent->batch_sent_ms, agent->lease_ms);
        }
    }
    far_reports_confirm(agent->reports);
    far_refusals_over(&agent->refusals, agent->taken.is_probe);
    agent->is_unconfirmed = false;
    agent->backoff_ms = FAR_BACKOFF_MIN_MS;
}

/* One item, which the servers refuse alone. */
static void blame(struct far_agent *agent, int klass, const char *message)
{
    const struct far_report_key *key = &agent->taken.keys[0];
    enum far_refused what = far_reports_refuse(agent->reports, key, klass, message, uv_now(agent->loop));
    const char *text = what == FAR_REFUSED_LATER ? "it is sent again later"
                       : what == FAR_REFUSED_CUT ? "it is sent without what came of it"
                                                 : "it is dropped";
    if (what == FAR_REFUSED_NOTHING) {
        return;
    }
    agent->refused_items += what != FAR_REFUSED_LATER;
    far_logf(FAR_LEVEL_WARN, "agent",
             "the servers refuse the report of job %llu task %llu attempt %llu, %s: %s: %s (%llu refused for good since the start)",
             (unsigned long long)key->job_id, (unsigned long long)key->task, (unsigned long long)key->attempt, text,
             far_class_info(klass)->name, message, (unsigned long long)agent->refused_items);
    if (what == FAR_REFUSED_DROPPED && key->ended) {
        far_leases_remove(&agent->leases, key->job_id, key->task, key->attempt);
    }
}

/* Not 0: the stream is given up for it. */
static int refused(struct far_agent *agent, struct far_slice class_name, struct far_slice text, struct far_error *err)
{
    char name[40], message[400];
    snprintf(name, sizeof name, "%.*s", (int)class_name.len, (const char *)class_name.data);
    snprintf(message, sizeof message, "%.*s", (int)text.len, (const char *)text.data);
    int klass = far_class_from_name(name);
    enum far_verdict verdict = far_refusals_judge(&agent->refusals, klass, agent->taken.is_suspect, agent->taken.count == 0,
                                                  uv_now(agent->loop));
    agent->is_unconfirmed = true;
    far_fail(err, FAR_BUSY, "report %llu was not taken: %s: %s", (unsigned long long)agent->sequence, name, message);
    if (verdict == FAR_VERDICT_ELSEWHERE) {
        return err->klass;
    }
    far_buf_reset(&agent->batch); /* it is settled: what is told next has another sequence number */
    agent->batch_in_flight = false;
    if (verdict == FAR_VERDICT_GUILTY) {
        blame(agent, klass, message);
    } else if (verdict == FAR_VERDICT_SPLIT) {
        far_reports_split(agent->reports);
        far_logf(FAR_LEVEL_WARN, "agent", "%s; its %zu items are sent one by one", err->message, agent->taken.count);
    } else if (verdict == FAR_VERDICT_WAIT) {
        far_logf(FAR_LEVEL_WARN, "agent", "%s; the next one in %llu ms", err->message, (unsigned long long)agent->refusals.pause_ms);
    } else if (verdict == FAR_VERDICT_ANEW) {
        forget_everything(agent);
        far_random_bytes(agent->nonce, sizeof agent->nonce);
        agent->boot = 0;
    }
    return verdict == FAR_VERDICT_GREET || verdict == FAR_VERDICT_ANEW ? err->klass : 0;
}

static int take_ack(struct far_agent *agent, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_report_ack ack;
    int rc = far_schema_decode(&far_schema_msg_report_ack, payload, arena, &ack, err);
    if (rc != 0 || ack.sequence != agent->sequence || agent->batch.len == 0) {
        return rc; /* an answer to an earlier sending of a batch that is settled */
    }
    if (ack.error_class.len > 0) {
        rc = refused(agent, ack.error_class, ack.error_message, err);
    } else {
        confirm(agent);
        far_buf_reset(&agent->batch);
        agent->batch_in_flight = false;
    }
    settle_kept(agent, &ack.over);
    if (rc == 0) {
        send_reports(agent);
    }
    return rc;
}

/* A server of v0.1.0 says so, and ends the stream, when a report is too large for it. */
static int take_refused_report(struct far_agent *agent, struct far_slice payload, struct far_arena *arena, struct far_error *err)
{
    struct far_msg_refused message;
    int rc = far_schema_decode(&far_schema_msg_refused, payload, arena, &message, err);
    return rc != 0 || agent->batch.len == 0 ? rc : refused(agent, message.error_class, message.error_message, err);
}

/* That the node does not exist is decided by the log, like every answer to a boot: no server's view is behind it. */
static int take_refused(struct far_agent *agent, struct far_slice payload, struct far_arena *arena,
                        struct far_error *err)
{
    struct far_msg_refused refused;
    int rc = far_schema_decode(&far_schema_msg_refused, payload, arena, &refused, err);
    if (rc != 0) {
        return rc;
    }
    if (far_slice_equal(refused.error_class, far_slice_str(far_class_info(FAR_NOT_FOUND)->name)) &&
        agent->on_removed != NULL) {
        agent->on_removed(agent->owner);
        return 0;
    }
    return far_fail(err, FAR_DENIED, "the server refused this node: %.*s", (int)refused.error_message.len,
                    (const char *)refused.error_message.data);
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct far_agent *agent = arg;
    struct far_arena arena;
    struct far_error err = {0};
    int rc = 0;
    far_arena_init(&arena, ARENA_MAX);
    if (agent->state == STATE_GREETING && type == FAR_KIND_msg_welcome) {
        rc = take_welcome(agent, payload, &arena, &err);
    } else if (agent->state == STATE_GREETING && type == FAR_KIND_msg_refused) {
        rc = take_refused(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_orders) {
        rc = take_orders(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_report_ack) {
        rc = take_ack(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_refused) {
        rc = take_refused_report(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_servers) {
        rc = take_servers(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_limits) {
        rc = take_limits(agent, payload, &arena, &err);
    } else if (agent->state == STATE_LIVE && type == FAR_KIND_msg_vaults) {
        rc = take_vaults(agent, payload, &arena, &err);
    } else if (agent->state != STATE_CLOSING) {
        rc = far_fail(&err, FAR_INVALID, "message %u does not belong here", type);
    }
    far_arena_done(&arena);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "agent", "stream given up: %s", err.message);
        drop_stream(agent);
    }
}

/* ---- reports ---- */

static void send_batch(struct far_agent *agent)
{
    if (far_stream_send(agent->stream, FAR_KIND_msg_report, far_buf_slice(&agent->batch)) != 0) {
        return; /* the queue is full; the next tick tries again */
    }
    agent->batch_sent_ms = uv_now(agent->loop);
    agent->batch_in_flight = true;
}

/* What the node keeps until the log knows of an end: are they over? They are what engine and log are asked about last. */
static size_t list_kept(struct far_agent *agent, struct far_sub_order_key *keys, size_t max)
{
    struct far_engine_task tasks[FAR_AGENT_KEPT_MAX];
    size_t count = far_engine_kept(agent->engine, tasks, max);
    for (size_t i = 0; i < count; i++) {
        keys[i] = (struct far_sub_order_key){.job_id = tasks[i].job_id, .task = tasks[i].task};
    }
    return count;
}

static int take_batch(struct far_agent *agent, uint64_t now_ms)
{
    struct far_error err = {0};
    struct far_sub_order_key kept[FAR_AGENT_KEPT_MAX];
    agent->taken.sequence = agent->sequence + 1;
    agent->taken.now_ms = now_ms;
    agent->taken.is_probe = agent->refusals.probes;
    agent->taken.kept = (struct far_list){.items = kept, .count = list_kept(agent, kept, FAR_AGENT_KEPT_MAX)};
    int rc = far_reports_take(agent->reports, &agent->taken, &agent->batch, &err);
    agent->taken.kept = (struct far_list){.count = 0};
    agent->last_batch_ms = now_ms;
    if (rc == 0) {
        agent->sequence++;
        return 0;
    }
    far_logf(FAR_LEVEL_WARN, "agent", "no report: %s", err.message);
    far_buf_reset(&agent->batch);
    if (agent->taken.is_suspect && agent->taken.count == 1) {
        blame(agent, rc, err.message);
    }
    return rc;
}

/* Send what is due: the batch that a broken stream left behind, else a new one. */
static void send_reports(struct far_agent *agent)
{
    if (agent->state != STATE_LIVE || agent->batch_in_flight) {
        return;
    }
    uint64_t now_ms = uv_now(agent->loop);
    if (agent->batch.len == 0) {
        const struct far_refusals *refusals = &agent->refusals;
        bool due = now_ms - agent->last_batch_ms >= PROGRESS_MS || refusals->probes || far_reports_urgent(agent->reports, now_ms);
        if (!due || now_ms < refusals->until_ms || take_batch(agent, now_ms) != 0) {
            return;
        }
    }
    send_batch(agent);
}

void far_agent_report(void *arg, const struct far_engine_report *report)
{
    struct far_agent *agent = arg;
    bool urgent = false;
    if (far_reports_put(agent->reports, report, &urgent) != 0) {
        far_logf(FAR_LEVEL_WARN, "agent", "a report of job %llu task %llu is dropped: too many wait",
                 (unsigned long long)report->job_id, (unsigned long long)report->task);
    }
    if (urgent) {
        uv_async_send(&agent->wake);
    }
}

/* ---- time ---- */

static void on_wake(uv_async_t *wake)
{
    send_reports(wake->data);
}

static void end_late_leases(struct far_agent *agent, uint64_t now_ms)
{
    const struct far_lease *late;
    while ((late = far_leases_late(&agent->leases, now_ms)) != NULL) {
        struct far_lease lease = *late;
        far_logf(FAR_LEVEL_WARN, "agent", "job %llu task %llu attempt %llu: the lease was not renewed, stopped",
                 (unsigned long long)lease.job_id, (unsigned long long)lease.task, (unsigned long long)lease.attempt);
        far_leases_remove(&agent->leases, lease.job_id, lease.task, lease.attempt);
        far_engine_cancel(agent->engine, lease.job_id, lease.task, lease.attempt);
        far_reports_drop_running(agent->reports, lease.job_id, lease.task, lease.attempt);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct far_agent *agent = timer->data;
    uint64_t now_ms = uv_now(agent->loop);
    end_late_leases(agent, now_ms);
    if (agent->state == STATE_IDLE && now_ms >= agent->dial_at_ms) {
        dial(agent);
    } else if ((agent->state == STATE_GREETING || agent->state == STATE_DIALING) &&
               now_ms - agent->state_since_ms > HELLO_TIMEOUT_MS) {
        drop_stream(agent);
    } else if (agent->state == STATE_LIVE && agent->batch_in_flight &&
               now_ms - agent->batch_sent_ms > ACK_TIMEOUT_MS) {
        drop_stream(agent);
    } else {
        send_reports(agent);
    }
}

/* ---- life ---- */

int far_agent_new(const struct far_agent_config *config, uv_loop_t *loop, struct far_agent **ret_agent,
                  struct far_error *err)
{
    FAR_ASSERT(config->server_count >= 1 && config->server_count <= FAR_AGENT_SERVERS_MAX);
    struct far_agent *agent = calloc(1, sizeof *agent);
    if (agent == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the agent");
    }
    int rc = far_reports_new(&agent->reports, err);
    if (rc != 0) {
        free(agent);
        return rc;
    }
    agent->loop = loop;
    agent->net = config->net;
    agent->node_id = config->node_id;
    agent->backoff_ms = FAR_BACKOFF_MIN_MS;
    agent->on_removed = config->on_removed;
    agent->on_follow = config->on_follow;
    agent->owner = config->owner;
    agent->server_count = config->server_count;
    memcpy(agent->servers, config->servers, config->server_count * sizeof config->servers[0]);
    agent->servers_path = config->servers_path == NULL ? NULL : strdup(config->servers_path);
    agent->vaults_path = config->vaults_path == NULL ? NULL : strdup(config->vaults_path);
    agent->adapters = config->adapters;
    agent->runs_scripts = config->runs_scripts;
    far_buf_init(&agent->batch, BATCH_MAX);
    far_random_bytes(agent->nonce, sizeof agent->nonce);
    rc = uv_timer_init(loop, &agent->timer);
    FAR_ASSERT(rc == 0);
    rc = uv_async_init(loop, &agent->wake, on_wake);
    FAR_ASSERT(rc == 0);
    agent->timer.data = agent;
    agent->wake.data = agent;
    agent->handles_open = 2;
    *ret_agent = agent;
    return 0;
}

void far_agent_start(struct far_agent *agent, struct far_engine *engine)
{
    agent->engine = engine;
    far_net_on_incarnation(agent->net, on_incarnation, agent);
    uv_update_time(agent->loop);
    agent->dial_at_ms = uv_now(agent->loop);
    uv_timer_start(&agent->timer, on_timer, 0, TICK_MS);
}

static void on_handle_closed(uv_handle_t *handle)
{
    struct far_agent *agent = handle->data;
    agent->handles_open--;
    try_close_done(agent);
}

void far_agent_close(struct far_agent *agent, void (*done)(void *arg), void *arg)
{
    far_net_on_incarnation(agent->net, NULL, NULL);
    agent->close_done = done;
    agent->close_arg = arg;
    enter(agent, STATE_CLOSING);
    uv_close((uv_handle_t *)&agent->timer, on_handle_closed);
    uv_close((uv_handle_t *)&agent->wake, on_handle_closed);
    drop_stream(agent);
}
