/* Calls: see calls.h. */
#include "server/calls.h"

#include "base/assert.h"
#include "net/wake.h"

#include <pthread.h>
#include <stdlib.h>

struct far_calls {
    pthread_mutex_t mutex;
    struct far_call *first;
    struct far_call **end;
    size_t count;
    bool closed;
    struct far_wake wake;
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

static void on_wake(struct far_wake *wake)
{
    run_all(take_all(wake->data, false), false);
}

int far_calls_new(uv_loop_t *loop, struct far_calls **ret_calls, struct far_error *err)
{
    struct far_calls *calls = calloc(1, sizeof *calls);
    if (calls == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the queue of calls");
    }
    int rc = far_wake_start(loop, &calls->wake, on_wake, calls);
    if (rc != 0) {
        free(calls);
        return far_fail_errno(err, FAR_IO, -rc, "make a wake-up");
    }
    pthread_mutex_init(&calls->mutex, NULL);
    calls->end = &calls->first;
    *ret_calls = calls;
    return 0;
}

int far_calls_add(struct far_calls *calls, struct far_call *call)
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
    }
    pthread_mutex_unlock(&calls->mutex);
    return rc;
}

void far_calls_wake(struct far_calls *calls)
{
    pthread_mutex_lock(&calls->mutex);
    bool has_work = calls->first != NULL;
    pthread_mutex_unlock(&calls->mutex);
    if (has_work) { /* after the mutex, which the woken thread wants */
        far_wake_send(&calls->wake);
    }
}

int far_calls_post(struct far_calls *calls, struct far_call *call)
{
    int rc = far_calls_add(calls, call);
    if (rc == 0) {
        far_wake_send(&calls->wake);
    }
    return rc;
}

void far_calls_close(struct far_calls *calls)
{
    run_all(take_all(calls, true), true);
    far_wake_stop(&calls->wake, NULL);
}

void far_calls_free(struct far_calls *calls)
{
    if (calls != NULL) {
        FAR_ASSERT(calls->first == NULL);
        far_wake_done(&calls->wake);
        pthread_mutex_destroy(&calls->mutex);
        free(calls);
    }
}
