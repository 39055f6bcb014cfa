/* HTTPS/1.1 over libwebsockets (4.1 of Debian 12 to 4.3 of Debian 13): see http.h.
 *
 * On a good day: LWS_CALLBACK_HTTP makes an exchange of the headers, HTTP_BODY fills its body, the owner answers, and each
 * HTTP_WRITEABLE sends one chunk until the transaction is complete. A stream pulls its next chunk when the socket
 * can take one. When it fails: the connection closes, CLOSED_HTTP or DROP_PROTOCOL discards the exchange. */
#include "api/http_private.h"
#include "api/http_watch.h"
#include "base/thread.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netdb.h>
#include <openssl/ssl.h>
#include <sched.h>
#include <time.h>
#include <unistd.h>

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len);

static const struct lws_protocols protocols[] = {
    {.name = "http", .callback = callback, .per_session_data_size = sizeof(struct far_http_session)},
    {.name = NULL},
};

static int callback(struct lws *wsi, enum lws_callback_reasons reason, void *user, void *in, size_t len)
{
    struct far_http_session *session = user;
    struct far_http *http = lws_context_user(lws_get_context(wsi));
    http->is_stirred = true;
    switch (reason) {
    case LWS_CALLBACK_OPENSSL_LOAD_EXTRA_SERVER_VERIFY_CERTS: /* the listener's context is made */
        far_http_watch(user);
        return 0;
    case LWS_CALLBACK_FILTER_NETWORK_CONNECTION:
        return far_http_conns_admit(&http->conns, (int)(intptr_t)in) ? 0 : -1;
    case LWS_CALLBACK_SERVER_NEW_CLIENT_INSTANTIATED:
        return far_http_conns_add(&http->conns, wsi);
    case LWS_CALLBACK_WSI_DESTROY:
        far_http_conns_remove(&http->conns, wsi);
        return 0;
    case LWS_CALLBACK_HTTP:
        return far_http_on_head(http, wsi, session);
    case LWS_CALLBACK_HTTP_BODY:
        return far_http_on_body(session->exchange, in, len);
    case LWS_CALLBACK_HTTP_BODY_COMPLETION:
        far_http_on_body_end(session->exchange);
        return 0;
    case LWS_CALLBACK_RAW_RX:
        return far_http_on_stranger(http, wsi, in, len);
    case LWS_CALLBACK_HTTP_WRITEABLE:
        return far_http_on_writeable(session->exchange);
    case LWS_CALLBACK_CLOSED_HTTP:
    case LWS_CALLBACK_HTTP_DROP_PROTOCOL:
        if (session != NULL) {
            far_http_discard(session->exchange);
        }
        return 0;
    case LWS_CALLBACK_FILTER_PROTOCOL_CONNECTION:
    case LWS_CALLBACK_HTTP_CONFIRM_UPGRADE:
        return -1; /* no WebSockets here */
    default:
        return 0;
    }
}

/* ---- the thread ---- */

enum { IDLE_TURNS = 8, REST_NS = 2 * 1000 * 1000 };

static struct far_http_work *take_work(struct far_http *http)
{
    pthread_mutex_lock(&http->lock);
    struct far_http_work *work = http->first;
    http->first = http->last = NULL;
    pthread_mutex_unlock(&http->lock);
    return work;
}

static void run_work(struct far_http *http, bool dropped)
{
    for (struct far_http_work *work = take_work(http), *next; work != NULL; work = next) {
        next = work->next;
        http->is_stirred = true;
        work->run(work, dropped);
    }
}

static void on_timer(lws_sorted_usec_list_t *sul)
{
    struct far_http *http = ((struct timer *)(void *)sul)->http;
    http->is_stirred = true;
    http->callbacks.on_tick(http->arg);
    lws_sul_schedule(http->context, 0, &http->timer.sul, on_timer, (lws_usec_t)(http->tick_ms * 1000));
}

/* What a client sends while its answer is under way may stay in its socket until that has ended (http_watch.h; libwebsockets 4.1
 * does not even look), but keeps poll from waiting: a stream whose client says anything, or has left, would take a whole
 * processor. Turns in which nothing happens are made slower. */
static void rest_if_idle(struct far_http *http)
{
    static const struct timespec rest = {.tv_nsec = REST_NS};
    http->idle_turns = http->is_stirred ? 0 : http->idle_turns + 1;
    if (http->idle_turns > IDLE_TURNS) {
        nanosleep(&rest, NULL);
    }
}

/* One turn: what the sockets bring, then what other threads posted. False: it is over. */
static bool turn(struct far_http *http)
{
    http->in_turn = true;
    http->is_stirred = false;
    bool goes_on = lws_service(http->context, 0) >= 0;
    http->in_turn = false;
    if (goes_on) {
        far_http_conns_reap(&http->conns);
        run_work(http, false);
    }
    if (goes_on && atomic_exchange(&http->woken, false)) {
        http->is_stirred = true;
        http->callbacks.on_wake(http->arg);
    }
    if (goes_on) {
        far_http_write_ready(http);
        http->in_turn = true;
        far_http_conns_read_ahead(&http->conns);
        http->in_turn = false;
    }
    if (http->callbacks.on_turn != NULL) {
        http->callbacks.on_turn(http->arg);
    }
    rest_if_idle(http);
    return goes_on;
}

static void *serve(void *arg)
{
    struct far_http *http = arg;
    far_thread_name("api");
    lws_sul_schedule(http->context, 0, &http->timer.sul, on_timer, (lws_usec_t)(http->tick_ms * 1000));
    while (!atomic_load(&http->stopping) && turn(http)) {
    }
    lws_sul_cancel(&http->timer.sul);
    atomic_store(&http->serving, false);
    while (atomic_load(&http->kicking) > 0) {
        sched_yield();
    }
    lws_context_destroy(http->context);
    http->context = NULL;
    while (http->exchanges != NULL) {
        http->exchanges->session = NULL;
        far_http_discard(http->exchanges);
    }
    return NULL;
}

/* Any thread, without the lock: who is woken wants it at once. */
static void kick(struct far_http *http)
{
    atomic_fetch_add(&http->kicking, 1);
    if (atomic_load(&http->serving)) {
        lws_cancel_service(http->context);
    }
    atomic_fetch_sub(&http->kicking, 1);
}

void far_http_post(struct far_http *http, struct far_http_work *work)
{
    work->next = NULL;
    pthread_mutex_lock(&http->lock);
    bool is_first = http->last == NULL, wakes = is_first && !http->is_batch;
    if (is_first) {
        http->first = work;
    } else {
        http->last->next = work;
    }
    http->last = work;
    pthread_mutex_unlock(&http->lock);
    if (wakes) {
        kick(http);
    }
}

void far_http_batch(struct far_http *http, bool begins)
{
    pthread_mutex_lock(&http->lock);
    http->is_batch = begins;
    bool wakes = !begins && http->first != NULL;
    pthread_mutex_unlock(&http->lock);
    if (wakes) {
        kick(http);
    }
}

void far_http_wake(struct far_http *http)
{
    if (!atomic_exchange(&http->woken, true)) {
        kick(http);
    }
}

/* ---- life ---- */

/* libwebsockets listens where it is given a number, and nowhere for a name. */
static int listen_host(const char *address, char host[FAR_HOST_MAX], struct far_error *err)
{
    struct sockaddr_storage where;
    socklen_t len;
    int rc = far_address_to_listen(address, &where, &len, err);
    int why = rc != 0 ? 0 : getnameinfo((struct sockaddr *)&where, len, host, FAR_HOST_MAX, NULL, 0, NI_NUMERICHOST);
    return why == 0 ? rc : far_fail(err, FAR_IO, "where to listen for '%.200s': %s", address, gai_strerror(why));
}

static int listen_on(struct far_http *http, const struct far_http_config *config, struct far_error *err)
{
    /* Once: it would give new places to what the contexts before keep at their SSL objects, and these would never be found again. */
    static atomic_flag ssl_is_ready = ATOMIC_FLAG_INIT;
    unsigned init_ssl = atomic_flag_test_and_set(&ssl_is_ready) ? 0 : LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT;
    struct lws_context_creation_info info = {
        .port = CONTEXT_PORT_NO_LISTEN,
        .options = init_ssl | LWS_SERVER_OPTION_DISABLE_OS_CA_CERTS | LWS_SERVER_OPTION_EXPLICIT_VHOSTS |
                   LWS_SERVER_OPTION_FALLBACK_TO_APPLY_LISTEN_ACCEPT_CONFIG | LWS_SERVER_OPTION_FAIL_UPON_UNABLE_TO_BIND,
        .user = http,
        .gid = (gid_t)-1,
        .uid = (uid_t)-1,
        .fd_limit_per_thread = config->connections_max + FAR_HTTP_CONNS_SPARE + 8, /* the listener, the wake-up pipe */
        .max_http_header_data = FAR_HTTP_HEAD_MAX, /* it closes beyond: see http_scan.h */
        .max_http_header_pool = (unsigned short)(config->connections_max + 8),
        .timeout_secs = 10, /* for the handshake, for a head, between two pieces of a body */
        .keepalive_timeout = 60,
    };
    http->context = lws_create_context(&info);
    if (http->context == NULL) {
        return far_fail(err, FAR_INTERNAL, "libwebsockets does not start");
    }
    char host[FAR_HOST_MAX];
    int rc = listen_host(config->address, host, err);
    if (rc != 0) {
        return rc;
    }
    bool any = strcmp(host, "0.0.0.0") == 0 || strcmp(host, "::") == 0;
    info.port = atoi(http->address.port);
    info.iface = any ? NULL : host;
    if (!any && inet_pton(AF_INET, host, &(struct in_addr){0}) == 1) {
        info.options |= LWS_SERVER_OPTION_DISABLE_IPV6; /* else it listens on all addresses for one of IPv4 */
    }
    info.options |= LWS_SERVER_OPTION_DO_SSL_GLOBAL_INIT; /* with TLS */
    info.vhost_name = "farshore";
    info.protocols = protocols;
    info.ssl_cert_filepath = http->certificate_path;
    info.ssl_private_key_filepath = http->key_path;
    info.ssl_options_set = (long)(SSL_OP_NO_SSLv3 | SSL_OP_NO_TLSv1 | SSL_OP_NO_TLSv1_1 | SSL_OP_NO_RENEGOTIATION);
    info.alpn = "http/1.1";
    info.listen_accept_role = "raw-skt"; /* of what turns out not to be HTTP, or has a method of its own */
    info.listen_accept_protocol = protocols[0].name;
    struct lws_vhost *vhost = lws_create_vhost(http->context, &info);
    if (vhost == NULL) {
        return far_fail(err, FAR_IO, "cannot listen on '%s' with certificate '%s': the address is in use or not of this "
                                     "machine, or certificate and key do not fit",
                        config->address, config->certificate_path);
    }
    http->port = lws_get_vhost_listen_port(vhost);
    return 0;
}

static int check_files(const struct far_http *http, struct far_error *err)
{
    const char *paths[] = {http->certificate_path, http->key_path};
    for (size_t i = 0; i < 2; i++) {
        if (access(paths[i], R_OK) != 0) {
            return far_fail_errno(err, FAR_IO, errno, "read '%s'", paths[i]);
        }
    }
    return 0;
}

int far_http_new(const struct far_http_config *config, const struct far_http_callbacks *callbacks, void *arg,
                 struct far_http **ret_http, struct far_error *err)
{
    struct far_http *http = calloc(1, sizeof *http);
    if (http == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the HTTP server");
    }
    lws_set_log_level(0, NULL);
    pthread_mutex_init(&http->lock, NULL);
    http->callbacks = *callbacks;
    http->arg = arg;
    http->conns.max = config->connections_max;
    http->body_max = config->body_max;
    http->stall_ms = config->stall_ms;
    http->tick_ms = config->tick_ms;
    http->timer.http = http;
    far_buf_init(&http->scratch, LWS_PRE + FAR_HTTP_PULL_MAX + FAR_HTTP_CHUNK);
    snprintf(http->certificate_path, sizeof http->certificate_path, "%s", config->certificate_path);
    snprintf(http->key_path, sizeof http->key_path, "%s", config->key_path);
    int rc = far_address_parse(config->address, &http->address, err);
    if (rc == 0) {
        rc = check_files(http, err);
    }
    if (rc == 0) {
        rc = listen_on(http, config, err);
    }
    if (rc != 0) {
        far_http_free(http);
        return rc;
    }
    *ret_http = http;
    return 0;
}

int far_http_start(struct far_http *http, struct far_error *err)
{
    atomic_store(&http->serving, true);
    int failed = pthread_create(&http->thread, NULL, serve, http);
    if (failed != 0) {
        atomic_store(&http->serving, false);
        return far_fail_errno(err, FAR_IO, failed, "start the HTTP thread");
    }
    http->started = true;
    return 0;
}

int far_http_port(const struct far_http *http)
{
    return http->port;
}

void far_http_stop(struct far_http *http)
{
    if (!http->started) {
        return;
    }
    atomic_store(&http->stopping, true);
    kick(http);
    pthread_join(http->thread, NULL);
    http->started = false;
}

void far_http_free(struct far_http *http)
{
    if (http == NULL) {
        return;
    }
    far_http_stop(http);
    if (http->context != NULL) {
        lws_context_destroy(http->context);
    }
    run_work(http, true);
    far_buf_done(&http->scratch);
    pthread_mutex_destroy(&http->lock);
    free(http);
}
