/* farshored run: log, links, members, admission and API on one loop, until a signal.
 *
 * Start: read the folder, then open from the inside out; `ready` (the file and the line on stdout) comes last and names the
 * ports. Stop: the API first (its thread ends), then the calls that it left, then listener, link, members and log
 * together; the log answers what is still owed; when all of them are gone the loop is empty. A server that hears that it
 * was removed stops by itself, with a status that says so. */
#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "net/address.h"
#include "server/backups.h"
#include "server/claims.h"
#include "server/fence.h"
#include "server/fence_probe.h"
#include "server/head_signer.h"
#include "server/hooks.h"
#include "server/link.h"
#include "server/members.h"
#include "server/peer_keys.h"
#include "server/removed.h"
#include "server/server.h"

#include <signal.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

enum { SIGNALS = 3, FILES_MAX = 8192, REFUSAL_LOG_MS = 1000, REMOVED_LOG_MS = 60000, ARENA_MAX = 64 * 1024 };
enum { RESTART_MS = 1500 }; /* for the answer to leave, and for peers to hear why */

struct program {
    struct far_call stop_call; /* first */
    struct far_error removal;  /* why it stops by itself; klass 0: it does not */
    const char *dir;
    struct far_server_config config;
    uv_loop_t loop;
    uv_signal_t signals[SIGNALS];
    struct far_net *net;
    struct far_calls *calls;
    struct far_log *log;
    struct far_link *link;
    struct far_members *members;
    struct far_head_signer *signer;
    struct far_fence_probe *probe;
    struct far_backups *backups;
    struct far_admission *admission;
    struct far_listener *listener;
    struct far_api *api;
    struct far_hooks_context hooks;
    struct far_claims claims;
    uv_timer_t restart_timer;
    bool is_restarting; /* it starts anew when it has stopped */
    bool stopping;
    uint64_t refusal_logged_ms; /* monotonic; refused connections are counted between two lines */
    uint64_t refusals;
    uint64_t removed_logged_ms; /* monotonic; a removed server dials for as long as it runs */
};

static void stop(struct program *p);

/* ---- what the log says ---- */

static void on_commit(void *arg, uint64_t applied_index, uint64_t last_seq)
{
    struct program *p = arg;
    if (p->api != NULL) {
        far_api_committed(p->api, applied_index, last_seq);
    }
    if (p->link != NULL) {
        far_link_committed(p->link);
    }
    if (p->members != NULL) {
        far_members_changed(p->members);
    }
    if (p->signer != NULL) {
        far_head_signer_changed(p->signer);
    }
}

static void on_leader(void *arg, uint64_t leader_id, uint64_t term, bool is_self)
{
    struct program *p = arg;
    if (p->members != NULL) {
        far_members_changed(p->members);
    }
    if (p->signer != NULL) {
        far_head_signer_changed(p->signer);
    }
}

/* ---- this server was removed ---- */

/* Not in the call: the log must not be closed in what it calls. */
static void on_removed_call(struct far_call *call, bool canceled)
{
    struct program *p = (struct program *)call;
    if (!canceled) {
        stop(p);
    }
}

static void stop_soon(struct program *p)
{
    p->stop_call.run = on_removed_call;
    if (far_calls_post(p->calls, &p->stop_call) != 0) {
        p->removal.klass = 0; /* its peers say it again */
    }
}

static void on_removed(void *arg, const char *ask)
{
    struct program *p = arg;
    struct far_error unkept;
    if (p->removal.klass != 0 || p->stopping) {
        return;
    }
    far_server_removed(&p->config, ask, &p->removal);
    far_logf(FAR_LEVEL_ERROR, "server", "%s", p->removal.message);
    if (far_server_removed_keep(p->dir, &p->removal, &unkept) != 0) {
        far_logf(FAR_LEVEL_WARN, "server", "it will have to be told again: %s", unkept.message);
    }
    stop_soon(p);
}

/* ---- another incarnation ---- */

/* A node that follows a newer one is refused, and its word kept (claims.h): it is a server's that fences. */
static void on_incarnation(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_incarnation_id theirs)
{
    struct program *p = arg;
    const char *file = NULL;
    struct far_error why = {0}, unkept;
    if (peer.party == FAR_PARTY_NODE) {
        far_claims_note(&p->claims, far_net_incarnation(p->net), peer.id, theirs);
    }
    if (p->removal.klass != 0 || p->stopping || peer.party != FAR_PARTY_SERVER ||
        far_fence_judge(&p->config, far_net_incarnation(p->net), peer.id, theirs, &file, &why) == 0) {
        return;
    }
    p->removal = why;
    far_logf(FAR_LEVEL_ERROR, "server", "%s", why.message);
    if (far_fence_keep(p->dir, file, &why, &unkept) != 0) {
        far_logf(FAR_LEVEL_WARN, "server", "it will have to be told again: %s", unkept.message);
    }
    stop_soon(p);
}

/* What is kept outside the log must fit the state: a recovery that did not finish must not be served, nor may an older
 * incarnation come back because a file was lost. */
static int check_incarnation(const struct program *p, struct far_error *err)
{
    struct far_incarnation own;
    struct far_log_view view;
    struct far_row_cluster cluster;
    struct far_arena arena;
    struct far_key key = far_key(&far_schema_row_cluster);
    uint64_t epoch = far_net_incarnation(p->net).epoch;
    int rc = far_log_view_begin_now(p->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    far_log_view_end(&view);
    if (rc == 0 && cluster.incarnation_epoch > epoch) {
        rc = far_fail(err, FAR_CORRUPT, "the state is of incarnation %llu, the folder of %llu: its file 'incarnation' was lost",
                      (unsigned long long)cluster.incarnation_epoch, (unsigned long long)epoch);
    } else if (rc == 0 && cluster.incarnation_epoch < epoch &&
               far_incarnation_load(p->dir, p->config.cluster_uuid, &own, NULL) == 0 &&
               own.reason != FAR_INCARNATION_FOLLOWED && own.server_id == p->config.server_id) {
        rc = far_fail(err, FAR_CONFLICT, "the recovery of this server into incarnation %llu did not finish: run it again "
                                         "(farshored recover-quorum)", (unsigned long long)epoch);
    }
    far_arena_done(&arena);
    return rc == FAR_NOT_FOUND ? 0 : rc; /* a new server, which its leader fills */
}

/* ---- streams on port 5001 ---- */

/* A server whose removal this one knows of is told so and not heard. One that it does not know may be newer than its own
 * state. */
static bool dismissed(struct program *p, uint64_t server_id, struct far_stream *stream)
{
    struct far_log_view view;
    struct far_removed removed;
    if (far_log_view_begin(p->log, &view, NULL) != 0) {
        return false;
    }
    int rc = far_removed_look(&view.state, &removed, NULL);
    far_log_view_end(&view);
    if (rc != 0 || !far_removed_has(&removed, server_id)) {
        return false;
    }
    uint64_t now_ms = far_clock_monotonic_ms();
    if (p->removed_logged_ms == 0 || now_ms - p->removed_logged_ms >= REMOVED_LOG_MS) {
        p->removed_logged_ms = now_ms;
        far_logf(FAR_LEVEL_WARN, "server", "server %llu was removed, is told so and not heard",
                 (unsigned long long)server_id);
    }
    far_log_dismiss(p->log, server_id, stream, removed.ask);
    return true;
}

static void on_stream_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct program *p = arg;
    if (p->stopping) {
        far_stream_close(stream);
    } else if (purpose == FAR_PURPOSE_LINK) {
        far_link_accept(p->link, peer.id, stream);
    } else if (!dismissed(p, peer.id, stream)) {
        far_log_accept(p->log, peer.id, stream);
    }
}

/* Only a stream that nobody has taken: it is closing. */
static void on_stream_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
}

/* A connection that was never greeted, or that nobody took. */
static void on_stream_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct program *p = arg;
    uint64_t now_ms = far_clock_monotonic_ms();
    if (why->klass == FAR_CANCELED) {
        return;
    }
    p->refusals++;
    if (p->refusal_logged_ms != 0 && now_ms - p->refusal_logged_ms < REFUSAL_LOG_MS) {
        return;
    }
    far_logf(FAR_LEVEL_WARN, "server", "a connection was refused: %s (%llu since the last such line)", why->message,
             (unsigned long long)p->refusals);
    p->refusal_logged_ms = now_ms;
    p->refusals = 0;
}

static const struct far_stream_callbacks stream_callbacks = {on_stream_open, on_stream_frame, on_stream_close};

/* ---- an entry is to be skipped: start anew ---- */

static void on_restart_timer(uv_timer_t *timer)
{
    struct program *p = timer->data;
    p->is_restarting = true;
    far_logf(FAR_LEVEL_WARN, "server", "starting anew to skip an entry");
    stop(p);
}

static void on_restart(void *arg)
{
    struct program *p = arg;
    if (!p->stopping && !uv_is_active((uv_handle_t *)&p->restart_timer)) {
        uv_timer_start(&p->restart_timer, on_restart_timer, RESTART_MS, 0);
    }
}

/* ---- start ---- */

/* What was decided together is answered together. */
static void on_batch(void *arg, bool begins)
{
    struct program *p = arg;
    if (p->api != NULL) {
        far_api_batch(p->api, begins);
    }
}

static int open_log(struct program *p, struct far_error *err)
{
    struct far_log_config config = far_server_log_config(p->dir, &p->config, p->net);
    int rc = far_log_open(&config, &p->loop, on_commit, on_leader, p, &p->log, err);
    if (rc == 0) {
        far_log_on_removed(p->log, on_removed, p);
        far_log_on_batch(p->log, on_batch, p);
        far_log_on_restart(p->log, on_restart, p);
        rc = check_incarnation(p, err);
    }
    if (rc == 0) {
        far_net_on_incarnation(p->net, on_incarnation, p);
        far_peer_keys_watch(p->net, p->log);
        rc = far_fence_probe_new(p->net, p->log, &p->loop, &p->probe, err);
    }
    if (rc == 0) {
        rc = far_backups_new(p->dir, &p->config, p->net, p->log, &p->loop, &p->backups, err);
    }
    if (rc == 0) {
        rc = far_link_new(p->log, &p->loop, &p->link, err);
    }
    if (rc == 0) {
        rc = far_members_new(p->log, &p->loop, p->config.server_id, &p->members, err);
    }
    return rc;
}

static int open_signer(struct program *p, struct far_error *err)
{
    struct far_head_signer_config config = {.log = p->log, .server_id = p->config.server_id};
    uint8_t public_key[32];
    int rc = far_server_sign_key_load(p->dir, config.private_key, public_key, err);
    rc = rc != 0 ? rc : far_head_signer_new(&config, &p->loop, &p->signer, err);
    explicit_bzero(config.private_key, sizeof config.private_key);
    return rc;
}

static int open_admission(struct program *p, struct far_error *err)
{
    struct far_admission_config config = {.log = p->log, .server_id = p->config.server_id};
    int rc = far_server_seal_key_load(p->dir, config.seal_key, err);
    if (rc == 0) {
        rc = far_admission_new(&config, &p->admission, err);
        far_link_use_seal_key(p->link, p->config.server_id, config.seal_key);
        p->hooks.master.server_id = p->config.server_id;
        memcpy(p->hooks.master.seal_key, config.seal_key, sizeof config.seal_key);
    }
    explicit_bzero(config.seal_key, sizeof config.seal_key);
    return rc;
}

static const char *api_listen(const struct program *p)
{
    return p->config.api_listen[0] != '\0' ? p->config.api_listen : p->config.api_address;
}

static int open_ports(struct program *p, struct far_error *err)
{
    const char *peer = p->config.peer_listen[0] != '\0' ? p->config.peer_listen : p->config.peer_address;
    int rc = far_listener_new(p->net, &p->loop, peer, &stream_callbacks, p, &p->listener, err);
    if (rc != 0) {
        return rc;
    }
    char certificate[FAR_SERVER_FILE_MAX];
    char key[FAR_SERVER_FILE_MAX];
    far_server_path(p->dir, "server.crt", certificate);
    far_server_path(p->dir, "server.key", key);
    struct far_master_key master = p->hooks.master;
    p->hooks = (struct far_hooks_context){
        .master = master, .log = p->log, .calls = p->calls, .admission = p->admission, .server_id = p->config.server_id,
        .backups = p->backups, .claims = &p->claims};
    struct far_api_config config = {.address = api_listen(p), .certificate_path = certificate, .key_path = key};
    return far_api_new(&config, &far_server_hooks, &p->hooks, &p->api, err);
}

static int tell_ready(struct program *p, struct far_error *err)
{
    struct far_address api;
    char text[1024];
    int rc = far_address_parse(api_listen(p), &api, err);
    if (rc != 0) {
        return rc;
    }
    bool v6 = strchr(api.host, ':') != NULL;
    int n = snprintf(text, sizeof text, "api=%s%s%s:%d peer=%s\n", v6 ? "[" : "", api.host, v6 ? "]" : "",
                     far_api_port(p->api), far_listener_address(p->listener));
    rc = far_server_file_write(p->dir, "ready", far_slice(text, (size_t)n), 0600, err);
    if (rc == 0) {
        printf("ready %s", text);
        fflush(stdout);
    }
    return rc;
}

static int start(struct program *p, struct far_error *err)
{
    int rc = far_calls_new(&p->loop, &p->calls, err);
    if (rc == 0) {
        rc = open_log(p, err);
    }
    if (rc == 0) {
        rc = open_signer(p, err);
    }
    if (rc == 0) {
        rc = open_admission(p, err);
    }
    if (rc == 0) {
        rc = open_ports(p, err);
    }
    return rc == 0 ? tell_ready(p, err) : rc;
}

/* ---- stop ---- */

static void forget_ready(const struct program *p)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(p->dir, "ready", path);
    unlink(path);
}

static void on_part_closed(void *arg)
{
}

static void close_log(void *arg)
{
    struct program *p = arg;
    if (p->log != NULL) {
        far_net_check_keys(p->net, NULL, NULL);
        far_net_on_incarnation(p->net, NULL, NULL);
        far_log_close(p->log, on_part_closed, p);
    }
}

static void stop(struct program *p)
{
    if (p->stopping) {
        return;
    }
    p->stopping = true;
    forget_ready(p);
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_close((uv_handle_t *)&p->signals[i], NULL);
    }
    uv_close((uv_handle_t *)&p->restart_timer, NULL);
    if (p->api != NULL) {
        far_api_stop(p->api);
    }
    if (p->calls != NULL) {
        far_calls_close(p->calls);
    }
    if (p->listener != NULL) {
        far_listener_close(p->listener, on_part_closed, p);
    }
    if (p->link != NULL) {
        far_link_close(p->link, on_part_closed, p);
        p->link = NULL;
    }
    if (p->members != NULL) {
        far_members_close(p->members, on_part_closed, p);
        p->members = NULL;
    }
    if (p->signer != NULL) {
        far_head_signer_close(p->signer, on_part_closed, p);
        p->signer = NULL;
    }
    if (p->probe != NULL) {
        far_fence_probe_close(p->probe);
        p->probe = NULL;
    }
    if (p->backups != NULL) {
        far_backups_close(p->backups, close_log, p); /* one that is being made reads the log */
    } else {
        close_log(p);
    }
}

static void on_signal(uv_signal_t *signal, int number)
{
    far_logf(FAR_LEVEL_INFO, "server", "stopping on signal %d", number);
    stop(signal->data);
}

static void watch_signals(struct program *p)
{
    const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    for (size_t i = 0; i < SIGNALS; i++) {
        uv_signal_init(&p->loop, &p->signals[i]);
        p->signals[i].data = p;
        uv_signal_start(&p->signals[i], on_signal, numbers[i]);
    }
}

/* ---- the command ---- */

/* Each connection is an open file; the usual soft limit of 1,024 is less than FAR_API_CONNECTIONS_MAX. */
static void raise_file_limit(void)
{
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) == 0 && limit.rlim_cur < FILES_MAX) {
        limit.rlim_cur = limit.rlim_max < FILES_MAX ? limit.rlim_max : FILES_MAX;
        (void)setrlimit(RLIMIT_NOFILE, &limit);
    }
}

static int serve(struct program *p, struct far_error *err)
{
    int rc = far_server_net_open(p->dir, &p->config, &p->net, err);
    if (rc != 0) {
        return rc;
    }
    far_logf(FAR_LEVEL_INFO, "server", "server %llu '%s' of cluster '%s' starts",
             (unsigned long long)p->config.server_id, p->config.name, p->config.cluster);
    raise_file_limit();
    far_claims_init(&p->claims);
    uv_loop_init(&p->loop);
    watch_signals(p);
    uv_timer_init(&p->loop, &p->restart_timer);
    p->restart_timer.data = p;
    forget_ready(p);
    rc = start(p, err);
    if (rc != 0) {
        stop(p);
    }
    uv_run(&p->loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&p->loop);
    FAR_ASSERT(busy == 0);
    far_api_free(p->api);
    far_backups_free(p->backups);
    far_admission_free(p->admission);
    far_calls_free(p->calls);
    far_net_free(p->net);
    far_claims_done(&p->claims);
    if (rc == 0 && p->removal.klass != 0) {
        *err = p->removal;
        rc = err->klass;
    }
    return rc;
}

/* Once: what it was told is left in the folder, so that it can begin anew. */
static int run_once(const char *dir, bool *ret_again, struct far_error *err)
{
    struct program p = {.dir = dir};
    int rc = far_server_config_load(p.dir, &p.config, err);
    if (rc == 0) {
        rc = far_server_removed_check(p.dir, err);
    }
    if (rc == 0) {
        rc = far_fence_check(p.dir, NULL, err);
    }
    if (rc == 0) {
        rc = serve(&p, err);
    }
    *ret_again = rc == 0 && p.is_restarting;
    return rc;
}

int far_server_run(int argc, char **argv)
{
    static const char *const names[] = {"--dir", NULL};
    struct far_error err = {0};
    const char *dir = NULL;
    bool again = true;
    int rc = far_server_options(argc, argv, names, 1, &dir, &err);
    while (rc == 0 && again) {
        rc = run_once(dir, &again, &err);
    }
    return rc == 0 ? 0 : far_server_failed(&err);
}
