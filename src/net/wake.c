/* Wake-ups: see wake.h. An eventfd in the loop's epoll. */
#include "net/wake.h"

#include <errno.h>
#include <sys/eventfd.h>
#include <unistd.h>

static void on_readable(uv_poll_t *poll, int status, int events)
{
    struct far_wake *wake = poll->data;
    uint64_t count;
    (void)status;
    (void)events;
    if (read(wake->fd, &count, sizeof count) < 0) {
        return; /* nobody sent: EAGAIN */
    }
    atomic_store(&wake->sent, false); /* before on_wake looks at what there is */
    wake->on_wake(wake);
}

int far_wake_start(uv_loop_t *loop, struct far_wake *wake, far_wake_fn on_wake, void *data)
{
    int fd = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
    if (fd < 0) {
        return uv_translate_sys_error(errno);
    }
    int rc = uv_poll_init(loop, &wake->poll, fd);
    if (rc != 0) {
        close(fd);
        return rc;
    }
    wake->poll.data = wake;
    wake->fd = fd;
    wake->on_wake = on_wake;
    wake->on_stopped = NULL;
    wake->data = data;
    atomic_init(&wake->sent, false);
    return uv_poll_start(&wake->poll, UV_READABLE, on_readable);
}

void far_wake_send(struct far_wake *wake)
{
    uint64_t one = 1;
    if (!atomic_exchange(&wake->sent, true)) {
        ssize_t n;
        do {
            n = write(wake->fd, &one, sizeof one); /* fails only when interrupted: the counter is 0 or 1 */
        } while (n < 0 && errno == EINTR);
    }
}

static void on_closed(uv_handle_t *handle)
{
    struct far_wake *wake = handle->data;
    if (wake->on_stopped != NULL) {
        wake->on_stopped(wake);
    }
}

void far_wake_stop(struct far_wake *wake, far_wake_fn on_stopped)
{
    wake->on_stopped = on_stopped;
    uv_close((uv_handle_t *)&wake->poll, on_closed);
}

void far_wake_done(struct far_wake *wake)
{
    close(wake->fd);
}
