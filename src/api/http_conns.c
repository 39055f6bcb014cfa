/* Connections: see http_conns.h. */
#include "api/http_conns.h"

#include "api/http_watch.h"

#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

enum { ADDRESS_BYTES = 16 };

struct far_http_conn {
    struct lws *wsi;
    uint8_t address[ADDRESS_BYTES];
    bool is_idle;
    bool is_known; /* a request on it was allowed */
    bool keeps_buffers; /* of TLS, between two requests */
    bool is_dying;
    bool is_ahead; /* in the list of these */
    struct far_http_conn *older, *newer; /* while idle */
    struct far_http_conn *next_dying, *next_ahead;
};

/* Without the port; IPv4 stands at the front. All zero if it cannot be told. */
static void address_of(int fd, uint8_t address[ADDRESS_BYTES])
{
    struct sockaddr_storage peer;
    socklen_t len = sizeof peer;
    memset(address, 0, ADDRESS_BYTES);
    if (getpeername(fd, (struct sockaddr *)&peer, &len) != 0) {
        return;
    }
    if (peer.ss_family == AF_INET) {
        memcpy(address, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else if (peer.ss_family == AF_INET6) {
        memcpy(address, &((struct sockaddr_in6 *)&peer)->sin6_addr, ADDRESS_BYTES);
    }
}

static void take_out(struct far_http_conns *conns, struct far_http_conn *conn)
{
    struct far_http_idle *idle = &conns->idle[conn->is_known];
    if (!conn->is_idle) {
        return;
    }
    *(conn->older != NULL ? &conn->older->newer : &idle->oldest) = conn->newer;
    *(conn->newer != NULL ? &conn->newer->older : &idle->newest) = conn->older;
    conn->older = conn->newer = NULL;
    conn->is_idle = false;
    idle->count--;
}

static void put_newest(struct far_http_conns *conns, struct far_http_conn *conn)
{
    struct far_http_idle *idle = &conns->idle[conn->is_known];
    conn->older = idle->newest;
    *(idle->newest != NULL ? &idle->newest->newer : &idle->oldest) = conn;
    idle->newest = conn;
    conn->is_idle = true;
    idle->count++;
}

static void give_way(struct far_http_conns *conns, struct far_http_conn *conn)
{
    take_out(conns, conn);
    conn->is_dying = true;
    conn->next_dying = conns->dying;
    conns->dying = conn;
    conns->count--;
}

void far_http_conns_reap(struct far_http_conns *conns)
{
    while (conns->dying != NULL) { /* its removal, on the way, takes it out */
        lws_set_timeout(conns->dying->wsi, PENDING_TIMEOUT_KILLED_BY_PARENT, LWS_TO_KILL_SYNC);
    }
}

bool far_http_conns_admit(struct far_http_conns *conns, int fd)
{
    uint8_t address[ADDRESS_BYTES];
    unsigned same = 0;
    struct far_http_conn *oldest_same = NULL;
    address_of(fd, address);
    const struct far_http_idle *strangers = &conns->idle[false], *known = &conns->idle[true];
    for (struct far_http_conn *conn = strangers->newest; conn != NULL; conn = conn->older) {
        if (memcmp(conn->address, address, ADDRESS_BYTES) == 0) {
            same++;
            oldest_same = conn;
        }
    }
    if (same >= FAR_HTTP_IDLE_PER_ADDRESS_MAX) {
        give_way(conns, oldest_same);
    } else if (strangers->oldest != NULL && (strangers->count >= FAR_HTTP_IDLE_MAX || conns->count >= conns->max)) {
        give_way(conns, strangers->oldest);
    } else if (known->oldest != NULL && conns->count >= conns->max) {
        give_way(conns, known->oldest);
    }
    return conns->count < conns->max;
}

int far_http_conns_add(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = calloc(1, sizeof *conn);
    if (conn == NULL) {
        return -1;
    }
    conn->wsi = wsi;
    address_of(lws_get_socket_fd(wsi), conn->address);
    lws_set_opaque_user_data(wsi, conn);
    conns->count++;
    put_newest(conns, conn);
    return 0;
}

void far_http_conns_remove(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = lws_get_opaque_user_data(wsi);
    if (conn != NULL) {
        take_out(conns, conn);
        conns->keeping -= conn->keeps_buffers;
        conns->count -= !conn->is_dying;
        for (struct far_http_conn **at = &conns->dying; *at != NULL; at = &(*at)->next_dying) {
            if (*at == conn) {
                *at = conn->next_dying;
                break;
            }
        }
        for (struct far_http_conn **at = &conns->ahead; *at != NULL; at = &(*at)->next_ahead) {
            if (*at == conn) {
                *at = conn->next_ahead;
                break;
            }
        }
        lws_set_opaque_user_data(wsi, NULL);
        free(conn);
    }
}

void far_http_conns_busy(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = lws_get_opaque_user_data(wsi);
    if (conn != NULL) {
        take_out(conns, conn);
    }
}

void far_http_conns_idle(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = lws_get_opaque_user_data(wsi);
    if (conn != NULL && !conn->is_dying) {
        take_out(conns, conn);
        put_newest(conns, conn);
    }
}

void far_http_conns_known(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = lws_get_opaque_user_data(wsi);
    if (conn != NULL && !conn->is_known) {
        bool was_idle = conn->is_idle;
        take_out(conns, conn);
        conn->is_known = true;
        if (was_idle) {
            put_newest(conns, conn);
        }
        SSL *ssl = lws_get_ssl(wsi);
        if (ssl != NULL && conns->keeping < FAR_HTTP_KEEP_BUFFERS_MAX) { /* else they are allocated and freed for each record */
            SSL_clear_mode(ssl, SSL_MODE_RELEASE_BUFFERS);
            conn->keeps_buffers = true;
            conns->keeping++;
        }
    }
}

void far_http_conns_go_on(struct far_http_conns *conns, struct lws *wsi)
{
    struct far_http_conn *conn = lws_get_opaque_user_data(wsi);
    far_http_watch_hold(lws_get_ssl(wsi), false);
    if (conn != NULL && !conn->is_ahead && far_http_watch_ahead(lws_get_ssl(wsi)) > 0) {
        conn->is_ahead = true;
        conn->next_ahead = conns->ahead;
        conns->ahead = conn;
    }
}

void far_http_conns_read_ahead(struct far_http_conns *conns)
{
    struct far_http_conn *conn;
    for (struct far_http_conn **at = &conns->ahead; (conn = *at) != NULL;) {
        struct lws *wsi = conn->wsi;
        struct lws_pollfd readable = {.fd = lws_get_socket_fd(wsi), .events = LWS_POLLIN, .revents = LWS_POLLIN};
        size_t before = far_http_watch_ahead(lws_get_ssl(wsi));
        bool is_over = before == 0 || lws_service_fd(lws_get_context(wsi), &readable) != 0;
        if (*at != conn) {
            continue; /* it is closed, and gone */
        }
        if (is_over) {
            conn->is_ahead = false;
            *at = conn->next_ahead;
        } else if (far_http_watch_ahead(lws_get_ssl(wsi)) == before) {
            at = &conn->next_ahead; /* libwebsockets first waits for the socket to take more */
        }
    }
}
