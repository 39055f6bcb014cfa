/* The streams between the logs of the servers: see peers.h. */
#include "log/peers.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

struct peer;

/* One stream of a peer, dialed or accepted. */
struct conn {
    struct conn *next;
    struct peer *peer;
    struct far_stream *stream;
    bool is_dialed;
    bool is_open;
    struct far_buf parts; /* of a raft message */
};

struct peer {
    struct far_peers *peers;
    uint64_t id;
    char address[256]; /* "": unknown, not dialed */
    struct conn *conns;
    uv_timer_t timer; /* of the next dial */
    uint64_t backoff_ms;
    bool is_forgotten;
    bool is_connected; /* as last told */
};

struct far_peers {
    struct far_net *net;
    uv_loop_t *loop;
    uint64_t self_id;
    char self_address[256];
    struct far_peers_callbacks callbacks;
    void *arg;
    struct peer *peers[FAR_PEERS_MAX];
    unsigned handles; /* streams and timers that are not closed yet */
    bool is_closing;
    void (*done)(void *arg);
    void *done_arg;
};

static void dial(struct peer *peer);

static struct peer *find(const struct far_peers *peers, uint64_t id)
{
    for (int i = 0; i < FAR_PEERS_MAX; i++) {
        if (peers->peers[i] != NULL && peers->peers[i]->id == id) {
            return peers->peers[i];
        }
    }
    return NULL;
}

/* A place in the table: an empty one, else that of a peer that was forgotten and has no stream any more (servers come and go as
 * long as this one runs). NULL: none, or no memory. */
static struct peer *free_place(struct far_peers *peers)
{
    struct peer *left = NULL;
    for (int i = 0; i < FAR_PEERS_MAX; i++) {
        struct peer *peer = peers->peers[i];
        if (peer == NULL && (peer = calloc(1, sizeof *peer)) != NULL) {
            uv_timer_init(peers->loop, &peer->timer);
            peer->timer.data = peer;
            peers->handles++;
            peers->peers[i] = peer;
            return peer;
        }
        left = peer != NULL && peer->is_forgotten && peer->conns == NULL ? peer : left;
    }
    return left;
}

static struct peer *find_or_add(struct far_peers *peers, uint64_t id)
{
    struct peer *peer = find(peers, id);
    if (peer == NULL && (peer = free_place(peers)) != NULL) {
        peer->peers = peers;
        peer->id = id;
        peer->address[0] = '\0';
        peer->backoff_ms = FAR_BACKOFF_MIN_MS;
        peer->is_forgotten = peer->is_connected = false;
    }
    return peer;
}

/* The stream to say things on: the dialed one, else any that is open. */
static struct conn *speaker(const struct peer *peer)
{
    struct conn *any = NULL;
    for (struct conn *conn = peer == NULL ? NULL : peer->conns; conn != NULL; conn = conn->next) {
        if (conn->is_open && conn->is_dialed) {
            return conn;
        }
        any = any == NULL && conn->is_open ? conn : any;
    }
    return any;
}

static void tell_change(struct peer *peer)
{
    bool is_connected = speaker(peer) != NULL;
    if (is_connected != peer->is_connected && !peer->peers->is_closing) {
        peer->is_connected = is_connected;
        peer->peers->callbacks.on_change(peer->peers->arg, peer->id, is_connected);
    }
}

/* ---- the end ---- */

static void finish_if_done(struct far_peers *peers)
{
    if (!peers->is_closing || peers->handles > 0) {
        return;
    }
    void (*done)(void *arg) = peers->done;
    void *arg = peers->done_arg;
    for (int i = 0; i < FAR_PEERS_MAX; i++) {
        free(peers->peers[i]);
    }
    free(peers);
    done(arg);
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct peer *peer = handle->data;
    struct far_peers *peers = peer->peers;
    peers->handles--;
    finish_if_done(peers);
}

static void schedule_dial(struct peer *peer);

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct conn *conn = arg;
    struct peer *peer = conn->peer;
    struct far_peers *peers = peer->peers;
    (void)stream;
    (void)why;
    for (struct conn **at = &peer->conns; *at != NULL; at = &(*at)->next) {
        if (*at == conn) {
            *at = conn->next;
            break;
        }
    }
    bool was_dialed = conn->is_dialed;
    far_buf_done(&conn->parts);
    free(conn);
    peers->handles--;
    if (was_dialed) {
        schedule_dial(peer);
    }
    tell_change(peer);
    finish_if_done(peers);
}

/* ---- what comes ---- */

static void drop_conn(struct conn *conn)
{
    conn->is_open = false;
    far_stream_close(conn->stream);
}

static void on_raft_part(struct conn *conn, uint16_t type, struct far_slice payload)
{
    struct far_peers *peers = conn->peer->peers;
    if (type == FAR_FRAME_RAFT && conn->parts.len == 0) {
        peers->callbacks.on_frame(peers->arg, conn->peer->id, conn->peer->address, FAR_FRAME_RAFT, payload);
        return;
    }
    if (far_buf_append(&conn->parts, payload.data, payload.len) != 0) {
        drop_conn(conn);
        return;
    }
    if (type == FAR_FRAME_RAFT) {
        struct far_buf whole = conn->parts; /* the callback may close the stream */
        far_buf_init(&conn->parts, FAR_PEER_MESSAGE_MAX);
        peers->callbacks.on_frame(peers->arg, conn->peer->id, conn->peer->address, FAR_FRAME_RAFT,
                                  far_buf_slice(&whole));
        far_buf_done(&whole);
    }
}

static void on_hello(struct conn *conn, struct far_slice payload)
{
    struct peer *peer = conn->peer;
    if (payload.len == 0 || payload.len >= sizeof peer->address || memchr(payload.data, 0, payload.len) != NULL) {
        drop_conn(conn);
        return;
    }
    char address[sizeof peer->address];
    snprintf(address, sizeof address, "%.*s", (int)payload.len, (const char *)payload.data);
    if (peer->address[0] == '\0') { /* what the configuration says of it counts more */
        far_peers_know(peer->peers, peer->id, address);
    }
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct conn *conn = arg;
    struct far_peers *peers = conn->peer->peers;
    (void)stream;
    if (peers->is_closing || conn->peer->is_forgotten || !conn->is_open) {
        return;
    }
    switch (type) {
    case FAR_FRAME_PEER_HELLO:
        on_hello(conn, payload);
        break;
    case FAR_FRAME_RAFT:
    case FAR_FRAME_RAFT_PART:
        on_raft_part(conn, type, payload);
        break;
    default:
        peers->callbacks.on_frame(peers->arg, conn->peer->id, conn->peer->address, type, payload);
    }
}

static void on_open(void *arg, struct far_stream *stream, struct far_peer who, enum far_purpose purpose)
{
    struct conn *conn = arg;
    struct peer *peer = conn->peer;
    (void)who;
    (void)purpose;
    if (peer->peers->is_closing || peer->is_forgotten) {
        far_stream_close(stream);
        return;
    }
    conn->is_open = true;
    peer->backoff_ms = FAR_BACKOFF_MIN_MS;
    (void)far_stream_send(stream, FAR_FRAME_PEER_HELLO, far_slice_str(peer->peers->self_address));
    tell_change(peer);
}

static const struct far_stream_callbacks stream_callbacks = {
    .on_open = on_open, .on_frame = on_frame, .on_close = on_close};

/* ---- dialing ---- */

static struct conn *conn_new(struct peer *peer, bool is_dialed)
{
    struct conn *conn = calloc(1, sizeof *conn);
    if (conn != NULL) {
        *conn = (struct conn){.next = peer->conns, .peer = peer, .is_dialed = is_dialed};
        far_buf_init(&conn->parts, FAR_PEER_MESSAGE_MAX);
        peer->conns = conn;
        peer->peers->handles++;
    }
    return conn;
}

/* Take back a conn that never had a stream. */
static void conn_cancel(struct conn *conn)
{
    conn->peer->conns = conn->next;
    conn->peer->peers->handles--;
    free(conn);
}

static bool is_dialing(const struct peer *peer)
{
    for (const struct conn *conn = peer->conns; conn != NULL; conn = conn->next) {
        if (conn->is_dialed) {
            return true;
        }
    }
    return false;
}

static void on_dial_timer(uv_timer_t *timer)
{
    dial(timer->data);
}

static void schedule_dial(struct peer *peer)
{
    if (peer->peers->is_closing || peer->is_forgotten || peer->address[0] == '\0') {
        return;
    }
    uv_timer_start(&peer->timer, on_dial_timer, peer->backoff_ms, 0);
    peer->backoff_ms = peer->backoff_ms * 2 > FAR_BACKOFF_MAX_MS ? FAR_BACKOFF_MAX_MS : peer->backoff_ms * 2;
}

static void dial(struct peer *peer)
{
    struct far_peers *peers = peer->peers;
    if (peers->is_closing || peer->is_forgotten || peer->address[0] == '\0' || is_dialing(peer)) {
        return;
    }
    struct conn *conn = conn_new(peer, true);
    if (conn == NULL) {
        schedule_dial(peer);
        return;
    }
    struct far_peer to = {.party = FAR_PARTY_SERVER, .id = peer->id};
    if (far_stream_dial(peers->net, peers->loop, peer->address, to, FAR_PURPOSE_RAFT, &stream_callbacks, conn,
                        &conn->stream, NULL) != 0) {
        conn_cancel(conn);
        schedule_dial(peer);
    }
}

/* ---- public ---- */

int far_peers_new(struct far_net *net, uv_loop_t *loop, uint64_t self_id, const char *self_address,
                  const struct far_peers_callbacks *callbacks, void *arg, struct far_peers **ret_peers,
                  struct far_error *err)
{
    struct far_peers *peers = calloc(1, sizeof *peers);
    if (peers == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory");
    }
    *peers = (struct far_peers){.net = net, .loop = loop, .self_id = self_id, .callbacks = *callbacks, .arg = arg};
    snprintf(peers->self_address, sizeof peers->self_address, "%s", self_address);
    *ret_peers = peers;
    return 0;
}

void far_peers_know(struct far_peers *peers, uint64_t id, const char *address)
{
    struct peer *peer = id == peers->self_id || peers->is_closing ? NULL : find_or_add(peers, id);
    if (peer == NULL) {
        return;
    }
    peer->is_forgotten = false;
    if (strcmp(peer->address, address) != 0) {
        snprintf(peer->address, sizeof peer->address, "%s", address);
        for (struct conn *conn = peer->conns; conn != NULL; conn = conn->next) {
            if (conn->is_dialed) {
                drop_conn(conn); /* its end dials anew */
            }
        }
    }
    if (!is_dialing(peer) && !uv_is_active((uv_handle_t *)&peer->timer)) {
        dial(peer);
    }
}

void far_peers_drop(struct far_peers *peers, uint64_t id)
{
    struct peer *peer = find(peers, id);
    for (struct conn *conn = peer == NULL ? NULL : peer->conns; conn != NULL; conn = conn->next) {
        drop_conn(conn);
    }
}

void far_peers_forget(struct far_peers *peers, uint64_t id)
{
    struct peer *peer = find(peers, id);
    if (peer != NULL) {
        peer->is_forgotten = true;
        uv_timer_stop(&peer->timer);
        far_peers_drop(peers, id);
    }
}

void far_peers_dismiss(struct far_peers *peers, uint64_t id, uint16_t type, struct far_slice payload)
{
    struct peer *peer = find(peers, id);
    for (struct conn *conn = peer == NULL ? NULL : peer->conns; conn != NULL; conn = conn->next) {
        if (conn->is_open) {
            (void)far_stream_send(conn->stream, type, payload); /* closing writes what is queued */
        }
    }
    far_peers_forget(peers, id);
}

void far_peers_accept(struct far_peers *peers, uint64_t id, struct far_stream *stream)
{
    struct peer *peer = peers->is_closing || id == peers->self_id ? NULL : find_or_add(peers, id);
    struct conn *conn = peer == NULL || peer->is_forgotten ? NULL : conn_new(peer, false);
    if (conn == NULL) {
        far_stream_close(stream);
        return;
    }
    conn->stream = stream;
    conn->is_open = true;
    far_stream_set_callbacks(stream, &stream_callbacks, conn);
    int accepted = 0;
    for (struct conn *other = peer->conns; other != NULL; other = other->next) {
        accepted += !other->is_dialed && other->is_open;
        if (accepted > FAR_PEER_STREAMS_MAX) { /* the newest stand first */
            drop_conn(other);
        }
    }
    tell_change(peer);
}

int far_peers_send(struct far_peers *peers, uint64_t id, uint16_t type, struct far_slice payload)
{
    struct conn *conn = speaker(find(peers, id));
    return conn == NULL ? FAR_BUSY : far_stream_send(conn->stream, type, payload) == 0 ? 0 : FAR_BUSY;
}

void far_peers_send_raft(struct far_peers *peers, uint64_t id, struct far_slice message)
{
    struct conn *conn = speaker(find(peers, id));
    size_t queued = conn == NULL ? SIZE_MAX : far_stream_queued(conn->stream);
    if (queued > FAR_PEER_QUEUE_MAX || queued + message.len + FAR_PEER_PART_MAX > FAR_STREAM_QUEUE_MAX) {
        return;
    }
    int rv = 0;
    while (rv == 0 && message.len > FAR_PEER_PART_MAX) {
        rv = far_stream_send(conn->stream, FAR_FRAME_RAFT_PART, far_slice(message.data, FAR_PEER_PART_MAX));
        message = far_slice(message.data + FAR_PEER_PART_MAX, message.len - FAR_PEER_PART_MAX);
    }
    rv = rv != 0 ? rv : far_stream_send(conn->stream, FAR_FRAME_RAFT, message);
    if (rv != 0) {
        drop_conn(conn); /* half a message must not be joined with the next */
    }
}

size_t far_peers_queued(const struct far_peers *peers, uint64_t id)
{
    const struct conn *conn = speaker(find(peers, id));
    return conn == NULL ? 0 : far_stream_queued(conn->stream);
}

bool far_peers_connected(const struct far_peers *peers, uint64_t id)
{
    return speaker(find(peers, id)) != NULL;
}

void far_peers_close(struct far_peers *peers, void (*done)(void *arg), void *arg)
{
    FAR_ASSERT(!peers->is_closing);
    peers->is_closing = true;
    peers->done = done;
    peers->done_arg = arg;
    peers->handles++; /* until all are told */
    for (int i = 0; i < FAR_PEERS_MAX; i++) {
        struct peer *peer = peers->peers[i];
        for (struct conn *conn = peer == NULL ? NULL : peer->conns; conn != NULL; conn = conn->next) {
            drop_conn(conn);
        }
        if (peer != NULL) {
            uv_close((uv_handle_t *)&peer->timer, on_timer_closed);
        }
    }
    peers->handles--;
    /* Without any handle there is nobody to call done later: dial nothing, but go through the loop once. */
    if (peers->handles == 0) {
        struct peer *peer = find_or_add(peers, UINT64_MAX);
        FAR_ASSERT(peer != NULL);
        uv_close((uv_handle_t *)&peer->timer, on_timer_closed);
    }
}
