/* Looking for servers that a recovery left behind: see fence_probe.h. One call at a time; its end, and a timer, begin the
 * next. What is said in the greeting goes to whoever watches the network's incarnations. */
#include "server/fence_probe.h"

#include "base/assert.h"

#include <stdio.h>
#include <stdlib.h>

enum { ARENA_MAX = 256 * 1024, ADDRESS_MAX = 256 };

struct left {
    uint64_t id;
    char address[ADDRESS_MAX];
};

struct far_fence_probe {
    struct far_net *net;
    struct far_log *log;
    uv_loop_t *loop;
    uv_timer_t timer;
    struct far_stream *stream; /* of the call under way */
    uint64_t last_id;          /* that was called */
    bool timer_closed;
};

static void free_if_done(struct far_fence_probe *probe)
{
    if (probe->timer_closed && probe->stream == NULL) {
        free(probe);
    }
}

/* Greeted, so of the same incarnation: that it was removed it hears when it calls. */
static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    far_stream_close(stream);
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct far_fence_probe *probe = arg;
    probe->stream = NULL;
    free_if_done(probe);
}

static const struct far_stream_callbacks callbacks = {on_open, on_frame, on_close};

/* Does a member answer at this address now? */
static int is_taken(struct far_state *state, struct far_arena *arena, struct far_slice address, bool *ret, struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    *ret = false;
    while (!*ret && (rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        *ret = row.role != FAR_server_role_removed && far_slice_equal(row.peer_address, address);
    }
    return *ret || rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The newest FAR_FENCE_PROBES_MAX that were removed; of them the next after the one that was called last. */
static int find_next(struct far_state *state, struct far_arena *arena, uint64_t last_id, struct left *ret_left,
                     struct far_error *err)
{
    struct far_row_server row;
    struct left all[FAR_FENCE_PROBES_MAX];
    struct far_key key = far_key(&far_schema_row_server);
    size_t count = 0;
    int rc;
    ret_left->id = 0;
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        bool taken = true;
        rc = row.role == FAR_server_role_removed && row.peer_address.len < ADDRESS_MAX
                 ? is_taken(state, arena, row.peer_address, &taken, err)
                 : 0;
        if (rc != 0) {
            return rc;
        }
        if (!taken) {
            struct left *one = &all[count++ % FAR_FENCE_PROBES_MAX];
            one->id = row.id;
            snprintf(one->address, sizeof one->address, "%.*s", (int)row.peer_address.len,
                     (const char *)row.peer_address.data);
        }
    }
    for (size_t i = 0; i < count && i < FAR_FENCE_PROBES_MAX; i++) {
        bool is_next = all[i].id > last_id && (ret_left->id <= last_id || all[i].id < ret_left->id);
        bool is_first = ret_left->id <= last_id && (ret_left->id == 0 || all[i].id < ret_left->id);
        if (is_next || is_first) {
            *ret_left = all[i];
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static void call(struct far_fence_probe *probe, const struct left *left)
{
    const struct far_peer to = {.party = FAR_PARTY_SERVER, .id = left->id};
    probe->last_id = left->id;
    if (far_stream_dial(probe->net, probe->loop, left->address, to, FAR_PURPOSE_RAFT, &callbacks, probe, &probe->stream,
                        NULL) != 0) {
        probe->stream = NULL;
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct far_fence_probe *probe = timer->data;
    struct far_log_view view;
    struct far_arena arena;
    struct left left = {.id = 0};
    if (probe->stream != NULL || far_net_incarnation(probe->net).epoch < 2 ||
        far_log_view_begin_now(probe->log, &view, NULL) != 0) {
        return;
    }
    far_arena_init(&arena, ARENA_MAX);
    int rc = find_next(&view.state, &arena, probe->last_id, &left, NULL);
    far_arena_done(&arena);
    far_log_view_end(&view);
    if (rc == 0 && left.id != 0) {
        call(probe, &left);
    }
}

int far_fence_probe_new(struct far_net *net, struct far_log *log, uv_loop_t *loop, struct far_fence_probe **ret_probe,
                        struct far_error *err)
{
    struct far_fence_probe *probe = calloc(1, sizeof *probe);
    if (probe == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to look for servers");
    }
    *probe = (struct far_fence_probe){.net = net, .log = log, .loop = loop};
    int rc = uv_timer_init(loop, &probe->timer);
    FAR_ASSERT(rc == 0);
    probe->timer.data = probe;
    uv_timer_start(&probe->timer, on_timer, FAR_FENCE_PROBE_MS, FAR_FENCE_PROBE_MS);
    *ret_probe = probe;
    return 0;
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_fence_probe *probe = handle->data;
    probe->timer_closed = true;
    free_if_done(probe);
}

void far_fence_probe_close(struct far_fence_probe *probe)
{
    if (probe->stream != NULL) {
        far_stream_close(probe->stream);
    }
    uv_close((uv_handle_t *)&probe->timer, on_timer_closed);
}
