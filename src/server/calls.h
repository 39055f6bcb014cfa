/* Calls: work that other threads hand to the core thread. One bounded queue, in order; posting never blocks. */
#ifndef FAR_SERVER_CALLS_H
#define FAR_SERVER_CALLS_H

#include "base/error.h"

#include <uv.h>

enum { FAR_CALLS_MAX = 4096 };

/* Embedded as the first member of a call; run frees it. canceled: the server stops, the core must not be used. */
struct far_call {
    struct far_call *next;
    void (*run)(struct far_call *call, bool canceled);
};

struct far_calls;
int far_calls_new(uv_loop_t *loop, struct far_calls **ret_calls, struct far_error *err);
/* Any thread. FAR_BUSY: the queue is full; FAR_CANCELED: it is closed. In both cases the call stays the caller's. */
int far_calls_post(struct far_calls *calls, struct far_call *call);
/* The same, but the core thread is woken only by far_calls_wake(): for who has several. Any thread. */
int far_calls_add(struct far_calls *calls, struct far_call *call);
void far_calls_wake(struct far_calls *calls);
/* Core thread: cancels what waits, takes nothing more. */
void far_calls_close(struct far_calls *calls);
/* After the loop has ended and nobody can post any more; NULL is allowed. */
void far_calls_free(struct far_calls *calls);

#endif
