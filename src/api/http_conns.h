/* The connections of the HTTP server, and which of them give way: private to http*.c, the HTTP thread.
 *
 * A connection is idle until its request is there whole (handshaking, between two requests, in the middle of one: it costs
 * a client nothing to stay there), then busy until it is answered. It is a stranger's until a request on it was allowed. Of
 * strangers' idle ones there are at most FAR_HTTP_IDLE_MAX, and FAR_HTTP_IDLE_PER_ADDRESS_MAX of one address; beyond, the one
 * that is idle for longest is closed. In all there are at most `max`; beyond, an idle one gives way, strangers' first, and
 * where all are busy the new one is closed. */
#ifndef FAR_API_HTTP_CONNS_H
#define FAR_API_HTTP_CONNS_H

#include <libwebsockets.h>
#include <stdbool.h>

enum {
    FAR_HTTP_IDLE_MAX = 512,
    FAR_HTTP_KEEP_BUFFERS_MAX = 192, /* known connections whose TLS buffers, 34 KiB, stay: the first ones */
    FAR_HTTP_IDLE_PER_ADDRESS_MAX = 256, /* 200 consumers of one machine that come back at once */
    /* Room in libwebsockets' table for those that are being closed while new ones come; without it, it would accept
     * nothing until they are gone. */
    FAR_HTTP_CONNS_SPARE = 256,
};

struct far_http_conn;
struct far_http_conns {
    unsigned max;
    unsigned count; /* without those that are being closed */
    unsigned keeping; /* their TLS buffers */
    struct far_http_idle {
        struct far_http_conn *oldest, *newest;
        unsigned count;
    } idle[2]; /* the strangers', the known ones' */
    struct far_http_conn *dying;           /* to be closed */
    struct far_http_conn *ahead;           /* that may have something to read */
};

/* A connection was accepted as this socket: may it stay? Others may have to give way. */
bool far_http_conns_admit(struct far_http_conns *conns, int fd);
/* Closes those that gave way. Between two turns of libwebsockets only: it does not like another connection to go while it
 * looks at one. */
void far_http_conns_reap(struct far_http_conns *conns);
/* It has become this wsi, and is idle. -1: no memory. */
int far_http_conns_add(struct far_http_conns *conns, struct lws *wsi);
void far_http_conns_remove(struct far_http_conns *conns, struct lws *wsi);
void far_http_conns_busy(struct far_http_conns *conns, struct lws *wsi);
/* Its request was answered. */
void far_http_conns_idle(struct far_http_conns *conns, struct lws *wsi);
/* It is no stranger's any more. */
void far_http_conns_known(struct far_http_conns *conns, struct lws *wsi);
/* It may read on; if something was read ahead already (http_watch.h), no socket will tell. */
void far_http_conns_go_on(struct far_http_conns *conns, struct lws *wsi);
/* Between two turns: libwebsockets reads what was read ahead, as far as it can by now. */
void far_http_conns_read_ahead(struct far_http_conns *conns);

#endif
