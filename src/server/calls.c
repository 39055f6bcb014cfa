/* Calls: see calls.h. */
#include "server/calls.h"

#include "base/assert.h"

#include <pthread.h>
#include <stdlib.h>

struct far_calls {
    pthread_mutex_t mutex;
    struct far_call *first;
    struct far_call **end;
    size_t count;
    bool closed;
    uv_async_t wake;
};

static struct far_call *take_all(struct far_calls *calls, bool close)
{
    pthread_mutex_lock(&calls->mutex);
    struct far_call *first = calls->first;
    calls->first = NULL;
    calls->end = &calls->first;
    calls->count = 0;
    calls->closed = calls->closed || close;
    pthread_mutex_unlock(&calls->mutex);
    return first;
}

static void run_all(struct far_call *call, bool canceled)
{
    while (call != NULL) {
        struct far_call *next = call->next;
        call->run(call, canceled);
        call = next;
    }
}

static void on_wake(uv_async_t *wake)
{
    run_all(take_all(wake->data, false), false);
}

int far_calls_new(uv_loop_t *loop, struct far_calls **ret_calls, struct far_error *err)
{
    struct far_calls *calls = calloc(1, sizeof *calls);
    if (calls == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the queue of calls");
    }
    int rc = uv_async_init(loop, &calls->wake, on_wake);
    if (rc != 0) {
        free(calls);
        return far_fail_errno(err, FAR_IO, -rc, "make a wake-up");
    }
    pthread_mutex_init(&calls->mutex, NULL);
    calls->wake.data = calls;
    calls->end = &calls->first;
    *ret_calls = calls;
    return 0;
}

int far_calls_post(struct far_calls *calls, struct far_call *call)
{
    int rc = 0;
    call->next = NULL;
    pthread_mutex_lock(&calls->mutex);
    if (calls->closed) {
        rc = FAR_CANCELED;
    } else if (calls->count == FAR_CALLS_MAX) {
        rc = FAR_BUSY;
    } else {
        *calls->end = call;
        calls->end = &call->next;
        calls->count++;
        uv_async_send(&calls->wake); /* under the mutex: not after close */
    }
    pthread_mutex_unlock(&calls->mutex);
    return rc;
}

void far_calls_close(struct far_calls *calls)
{
    run_all(take_all(calls, true), true);
    uv_close((uv_handle_t *)&calls->wake, NULL);
}

void far_calls_free(struct far_calls *calls)
{
    if (calls != NULL) {
        FAR_ASSERT(calls->first == NULL);
        pthread_mutex_destroy(&calls->mutex);
        free(calls);
    }
}
