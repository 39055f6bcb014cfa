/* Wakes a uv loop from other threads, as uv_async_t does, but without its busy wait: when the loop's thread runs before
 * uv_async_send() has returned (on the sender's own processor that is the rule), libuv spins until the sender runs again,
 * some 25 microseconds each. A command crosses six such wake-ups. */
#ifndef FAR_NET_WAKE_H
#define FAR_NET_WAKE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <uv.h>

struct far_wake;
/* On the loop's thread, once for all that was sent before it is called. */
typedef void (*far_wake_fn)(struct far_wake *wake);

struct far_wake {
    uv_poll_t poll;
    int fd;
    atomic_bool sent;
    far_wake_fn on_wake, on_stopped;
    void *data; /* the owner's */
};

/* On the loop's thread. Returns 0, or libuv's (negative) error: no descriptor left; *wake needs nothing then. */
int far_wake_start(uv_loop_t *loop, struct far_wake *wake, far_wake_fn on_wake, void *data);
/* Any thread, until far_wake_done(). */
void far_wake_send(struct far_wake *wake);
/* On the loop's thread: on_wake is not called any more; on_stopped (or NULL) is, in a later turn of the loop. */
void far_wake_stop(struct far_wake *wake, far_wake_fn on_stopped);
/* After on_stopped, and when nobody sends any more: lets the descriptor go. */
void far_wake_done(struct far_wake *wake);

#endif
