/* The data port: connections of other nodes are accepted, greeted, asked for their hello or knock and handed to the receive
 * or the send that waits for this disk with that node. Each connection has a thread of its own until then; at most
 * FAR_ENGINE_GREETINGS_MAX at once, beyond that a new one is dropped (it dials again). A hello that nobody waits for is
 * held for FAR_ENGINE_MATCH_MS, then answered with not_found or, when this vault has the whole view already, with a
 * WELCOME that says complete. */
#include "dataplane/engine_local.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>

struct greeting {
    struct far_engine *engine;
    struct far_bstream *stream;
};

void far_visitor_free(struct far_visitor *visitor)
{
    if (visitor != NULL) {
        far_bstream_free(visitor->stream);
        free(visitor);
    }
}

/* Was the whole view received already, by an attempt whose end the sender missed? Then its job says so in the vault. */
static bool has_all(struct far_engine *engine, const struct far_transfer_hello *hello)
{
    struct far_replica_state state;
    return engine->vault != NULL && hello->freeze_ref[0] != '\0' &&
           far_vault_replica_state(engine->vault, far_engine_number(engine, hello->disk_id), &state, NULL) == 0 &&
           state.job == hello->job_id && state.size_bytes == hello->size_bytes && strcmp(state.freeze_ref, hello->freeze_ref) == 0 &&
           state.frontier_blocks == far_map_block_count(state.size_bytes);
}

static void answer_error(struct far_engine *engine, const struct far_visitor *visitor, const struct far_error *error)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    size_t len = far_transfer_error_encode(error, head);
    far_frame_write(visitor->stream, FAR_TRANSFER_ERROR, head, len, engine->config.idle_ms, NULL);
}

static void answer_unmatched(struct far_engine *engine, const struct far_visitor *visitor)
{
    uint8_t head[FAR_TRANSFER_HEAD_MAX];
    uint64_t idle_ms = engine->config.idle_ms;
    if (has_all(engine, &visitor->hello)) {
        struct far_transfer_welcome welcome = {.complete = true};
        size_t len = far_transfer_welcome_encode(&welcome, head);
        far_frame_write(visitor->stream, FAR_TRANSFER_WELCOME, head, len, idle_ms, NULL);
        return;
    }
    struct far_error error;
    far_fail(&error, FAR_NOT_FOUND, "nobody here waits for disk %llu of job %llu",
             (unsigned long long)visitor->hello.disk_id, (unsigned long long)visitor->hello.job_id);
    answer_error(engine, visitor, &error);
}

/* What a connection said first: a sender's hello, or a receiver's knock on a send. */
struct call {
    enum far_engine_kind wanted; /* the kind of attempt that it is for */
    uint64_t job_id, disk_id, node_id;
};

static struct far_attempt *await_attempt(struct far_engine *engine, const struct call *call,
                                         const struct far_visitor *visitor)
{
    uint64_t until_ms = far_clock_monotonic_ms() + FAR_ENGINE_MATCH_MS;
    struct far_attempt *attempt = NULL;
    pthread_mutex_lock(&engine->mutex);
    for (;;) {
        uint64_t now_ms = far_clock_monotonic_ms();
        attempt = far_engine_find_transfer(engine, call->wanted, call->job_id, call->disk_id, call->node_id);
        if (attempt != NULL || engine->closing || now_ms >= until_ms ||
            (call->wanted == FAR_ENGINE_RECEIVE && has_all(engine, &visitor->hello))) {
            break;
        }
        far_engine_wait(engine, until_ms - now_ms);
    }
    pthread_mutex_unlock(&engine->mutex);
    return attempt;
}

/* Hands the visitor over; what is not the attempt's then is answered and ended here. */
static void match(struct far_engine *engine, struct far_visitor *visitor, const struct call *call)
{
    struct far_error error;
    struct far_attempt *attempt = await_attempt(engine, call, visitor);
    if (attempt == NULL && call->wanted == FAR_ENGINE_RECEIVE) {
        answer_unmatched(engine, visitor);
    } else if (attempt == NULL) {
        far_fail(&error, FAR_NOT_FOUND, "nobody here sends disk %llu of job %llu", (unsigned long long)call->disk_id,
                 (unsigned long long)call->job_id);
        answer_error(engine, visitor, &error);
    } else if (far_attempt_check_peer(attempt, visitor->stream, &error) != 0) {
        answer_error(engine, visitor, &error);
    } else {
        far_attempt_visit(attempt, visitor);
        visitor = NULL;
    }
    far_visitor_free(visitor);
    if (attempt != NULL) {
        far_attempt_unref(attempt);
    }
}

static int read_call(struct far_visitor *visitor, struct call *ret_call, struct far_error *err)
{
    struct far_peer peer;
    struct far_frame frame;
    struct far_transfer_knock knock;
    int rc = far_bstream_handshake(visitor->stream, FAR_HANDSHAKE_MS, &peer, err);
    rc = rc == 0 ? far_frame_read(visitor->stream, FAR_HANDSHAKE_MS, &frame, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (frame.header.type == FAR_TRANSFER_KNOCK) {
        rc = far_transfer_knock_decode(far_frame_head(&frame), &knock, err);
        *ret_call = (struct call){.wanted = FAR_ENGINE_SEND, .job_id = knock.job_id, .disk_id = knock.disk_id};
    } else if (frame.header.type == FAR_TRANSFER_HELLO) {
        rc = far_transfer_hello_decode(far_frame_head(&frame), &visitor->hello, err);
        *ret_call = (struct call){
            .wanted = FAR_ENGINE_RECEIVE, .job_id = visitor->hello.job_id, .disk_id = visitor->hello.disk_id};
    } else {
        rc = far_fail(err, FAR_INVALID, "the first frame is no hello");
    }
    ret_call->node_id = peer.id;
    return rc;
}

static void *greeting_main(void *arg)
{
    struct greeting *greeting = arg;
    struct far_engine *engine = greeting->engine;
    struct far_visitor *visitor = calloc(1, sizeof *visitor);
    struct call call = {0};
    if (visitor == NULL) {
        far_bstream_free(greeting->stream);
    } else {
        visitor->stream = greeting->stream;
        if (read_call(visitor, &call, NULL) != 0) {
            far_visitor_free(visitor);
        } else {
            match(engine, visitor, &call);
        }
    }
    free(greeting);
    pthread_mutex_lock(&engine->mutex);
    engine->greetings--;
    pthread_cond_broadcast(&engine->changed);
    pthread_mutex_unlock(&engine->mutex);
    return NULL;
}

/* Takes the stream. */
static void greet(struct far_engine *engine, struct far_bstream *stream)
{
    struct greeting *greeting = calloc(1, sizeof *greeting);
    pthread_attr_t attr;
    pthread_t thread;
    pthread_mutex_lock(&engine->mutex);
    bool room = greeting != NULL && engine->greetings < FAR_ENGINE_GREETINGS_MAX && !engine->closing;
    engine->greetings += room;
    pthread_mutex_unlock(&engine->mutex);
    if (room) {
        *greeting = (struct greeting){.engine = engine, .stream = stream};
        pthread_attr_init(&attr);
        pthread_attr_setdetachstate(&attr, PTHREAD_CREATE_DETACHED);
        int failed = pthread_create(&thread, &attr, greeting_main, greeting);
        pthread_attr_destroy(&attr);
        if (failed == 0) {
            return;
        }
        pthread_mutex_lock(&engine->mutex);
        engine->greetings--;
        pthread_mutex_unlock(&engine->mutex);
    }
    free(greeting);
    far_bstream_free(stream);
}

static void *acceptor_main(void *arg)
{
    struct far_engine *engine = arg;
    struct far_bstream *stream;
    struct far_error error;
    for (;;) {
        int rc = far_blistener_accept(engine->listener, &stream, &error);
        if (rc == 0) {
            greet(engine, stream);
            continue;
        }
        pthread_mutex_lock(&engine->mutex);
        if (rc != FAR_CANCELED && !engine->closing) {
            far_engine_wait(engine, FAR_BACKOFF_MIN_MS); /* no descriptors left, perhaps: later */
        }
        bool ends = rc == FAR_CANCELED || engine->closing;
        pthread_mutex_unlock(&engine->mutex);
        if (ends) {
            return NULL;
        }
    }
}

int far_engine_listen(struct far_engine *engine, const char *address, struct far_error *err)
{
    int rc = far_blistener_new(engine->config.net, address, &engine->listener, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(engine->data_address, sizeof engine->data_address, "%s", far_blistener_address(engine->listener));
    int failed = pthread_create(&engine->acceptor, NULL, acceptor_main, engine);
    engine->acceptor_runs = failed == 0;
    return failed == 0 ? 0 : far_fail_errno(err, FAR_LIMIT, failed, "start a thread");
}

void far_engine_listen_stop(struct far_engine *engine)
{
    if (engine->listener == NULL) {
        return;
    }
    far_blistener_shutdown(engine->listener);
    if (engine->acceptor_runs) {
        pthread_join(engine->acceptor, NULL);
    }
    pthread_mutex_lock(&engine->mutex);
    while (engine->greetings > 0) {
        far_engine_wait(engine, 1000);
    }
    pthread_mutex_unlock(&engine->mutex);
    far_blistener_free(engine->listener);
    engine->listener = NULL;
}
