/* The listener: accepts streams and keeps those that are not greeted yet, the oldest first, at most FAR_ACCEPT_MAX
 * and FAR_ACCEPT_PER_ADDRESS_MAX of one address.
 *
 * It ends when its socket is closed and all of those are gone; opened streams have left it. A connection for which there is
 * no memory is accepted and closed, for one that is left in the queue would be offered again and again. */
#include "net/stream_private.h"

#include "base/assert.h"
#include "net/address.h"

#include <stdlib.h>

enum { BACKLOG = 128 };

struct far_listener {
    struct far_net *net;
    uv_loop_t *loop;
    struct far_stream_callbacks callbacks;
    void *arg;
    uv_tcp_t tcp;
    bool is_closed; /* the handle */
    bool is_closing;
    char address[FAR_ADDRESS_TEXT_MAX];
    struct far_stream *oldest;
    struct far_stream *newest;
    size_t count;
    uv_tcp_t turned_away; /* for want of memory */
    bool turning_away;
    bool is_offered; /* one more came meanwhile; libuv listens on only after it was accepted */
    void (*done)(void *arg);
    void *done_arg;
};

const char *far_listener_address(const struct far_listener *listener)
{
    return listener->address;
}

static void finish_if_done(struct far_listener *listener)
{
    if (listener->is_closed && listener->count == 0 && !listener->turning_away) {
        void (*done)(void *arg) = listener->done;
        void *arg = listener->done_arg;
        free(listener);
        if (done != NULL) {
            done(arg);
        }
    }
}

/* ---- the list of streams that are not greeted yet ---- */

static void remember(struct far_listener *listener, struct far_stream *stream)
{
    stream->listener = listener;
    stream->older = listener->newest;
    if (listener->newest != NULL) {
        listener->newest->newer = stream;
    } else {
        listener->oldest = stream;
    }
    listener->newest = stream;
    listener->count++;
}

static void unlink_stream(struct far_listener *listener, struct far_stream *stream)
{
    *(stream->older != NULL ? &stream->older->newer : &listener->oldest) = stream->newer;
    *(stream->newer != NULL ? &stream->newer->older : &listener->newest) = stream->older;
    stream->older = NULL;
    stream->newer = NULL;
    listener->count--;
}

void far_listener_forget(struct far_listener *listener, struct far_stream *stream)
{
    unlink_stream(listener, stream);
    finish_if_done(listener);
}

static bool waits(const struct far_stream *stream)
{
    return stream->state != FAR_STREAM_CLOSING;
}

static void drop_oldest(struct far_listener *listener)
{
    struct far_error why;
    far_fail(&why, FAR_LIMIT, "more than %d connections wait for their greeting", FAR_ACCEPT_MAX);
    for (struct far_stream *s = listener->oldest; s != NULL; s = s->newer) {
        if (waits(s)) {
            far_stream_end(s, &why);
            return;
        }
    }
}

/* The address without the port; IPv4 stands at the front. All zero if it cannot be told. */
static void note_address(struct far_stream *stream)
{
    struct sockaddr_storage peer;
    int len = sizeof peer;
    if (uv_tcp_getpeername(&stream->tcp, (struct sockaddr *)&peer, &len) != 0) {
        return;
    }
    if (peer.ss_family == AF_INET) {
        memcpy(stream->from, &((struct sockaddr_in *)&peer)->sin_addr, 4);
    } else if (peer.ss_family == AF_INET6) {
        memcpy(stream->from, &((struct sockaddr_in6 *)&peer)->sin6_addr, sizeof stream->from);
    }
}

/* One address does not crowd out the others. */
static void drop_oldest_of(struct far_listener *listener, const uint8_t from[16])
{
    struct far_stream *oldest = NULL;
    size_t count = 0;
    for (struct far_stream *s = listener->newest; s != NULL; s = s->older) {
        if (waits(s) && memcmp(s->from, from, sizeof s->from) == 0) {
            oldest = s;
            count++;
        }
    }
    if (count > FAR_ACCEPT_PER_ADDRESS_MAX) {
        struct far_error why;
        far_fail(&why, FAR_LIMIT, "more than %d connections of one address wait for their greeting",
                 FAR_ACCEPT_PER_ADDRESS_MAX);
        far_stream_end(oldest, &why);
    }
}

/* ---- accepting ---- */

static void on_connection(uv_stream_t *server, int status);

static void on_turned_away(uv_handle_t *handle)
{
    struct far_listener *listener = handle->data;
    bool again = listener->is_offered && !listener->is_closing;
    listener->turning_away = false;
    listener->is_offered = false;
    if (again) {
        on_connection((uv_stream_t *)&listener->tcp, 0);
        return;
    }
    finish_if_done(listener);
}

static void turn_away(struct far_listener *listener)
{
    if (listener->turning_away) {
        listener->is_offered = true;
        return;
    }
    listener->turning_away = true;
    uv_tcp_init(listener->loop, &listener->turned_away);
    listener->turned_away.data = listener;
    uv_accept((uv_stream_t *)&listener->tcp, (uv_stream_t *)&listener->turned_away);
    uv_close((uv_handle_t *)&listener->turned_away, on_turned_away);
}

static void on_connection(uv_stream_t *server, int status)
{
    struct far_listener *listener = server->data;
    if (status != 0 || listener->is_closing) {
        return;
    }
    struct far_stream *stream = far_stream_new(listener->net, listener->loop, &listener->callbacks, listener->arg);
    if (stream == NULL) {
        turn_away(listener);
        return;
    }
    if (listener->count >= FAR_ACCEPT_MAX) {
        drop_oldest(listener);
    }
    remember(listener, stream);
    stream->state = FAR_STREAM_HANDSHAKE; /* nothing to resolve or connect */
    status = uv_accept(server, (uv_stream_t *)&stream->tcp);
    if (status != 0) {
        struct far_error why;
        far_fail_errno(&why, FAR_IO, -status, "accept a connection");
        far_stream_end(stream, &why);
        return;
    }
    note_address(stream);
    drop_oldest_of(listener, stream->from);
    far_stream_start_tls(stream);
}

/* ---- life ---- */

static void on_failed_closed(uv_handle_t *handle)
{
    free(handle->data);
}

int far_listener_new(struct far_net *net, uv_loop_t *loop, const char *address,
                     const struct far_stream_callbacks *callbacks, void *arg, struct far_listener **ret_listener,
                     struct far_error *err)
{
    struct sockaddr_storage bound;
    int bound_len = sizeof bound;
    socklen_t resolved_len;
    int rc = far_address_to_listen(address, &bound, &resolved_len, err);
    if (rc != 0) {
        return rc;
    }
    struct far_listener *listener = calloc(1, sizeof *listener);
    if (listener == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a listener");
    }
    listener->net = net;
    listener->loop = loop;
    listener->callbacks = *callbacks;
    listener->arg = arg;
    uv_tcp_init(loop, &listener->tcp);
    listener->tcp.data = listener;
    int status = uv_tcp_bind(&listener->tcp, (const struct sockaddr *)&bound, 0);
    if (status == 0) {
        status = uv_listen((uv_stream_t *)&listener->tcp, BACKLOG, on_connection);
    }
    if (status == 0) {
        status = uv_tcp_getsockname(&listener->tcp, (struct sockaddr *)&bound, &bound_len);
    }
    if (status != 0) {
        rc = far_fail_errno(err, FAR_IO, -status, "listen on %s", address);
    } else {
        rc = far_address_print((struct sockaddr *)&bound, (socklen_t)bound_len, listener->address, err);
    }
    if (rc != 0) {
        uv_close((uv_handle_t *)&listener->tcp, on_failed_closed);
        return rc;
    }
    *ret_listener = listener;
    return 0;
}

static void on_closed(uv_handle_t *handle)
{
    struct far_listener *listener = handle->data;
    listener->is_closed = true;
    finish_if_done(listener);
}

void far_listener_close(struct far_listener *listener, void (*done)(void *arg), void *arg)
{
    FAR_ASSERT(!listener->is_closing);
    struct far_error why;
    far_fail(&why, FAR_CANCELED, "the listener was closed");
    listener->is_closing = true;
    listener->done = done;
    listener->done_arg = arg;
    for (struct far_stream *s = listener->oldest; s != NULL; s = s->newer) {
        far_stream_end(s, &why);
    }
    uv_close((uv_handle_t *)&listener->tcp, on_closed);
}
