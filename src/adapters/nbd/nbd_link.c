/* A connection to an NBD server: see nbd_link.h.
 *
 * On a good day: a thread hands its request to libnbd under the mutex and waits. If nobody polls, it does so itself, outside of
 * the mutex, lets libnbd read and write what is there, and wakes the others; if somebody polls, it wakes that one by the
 * eventfd (there may be something to write now) and sleeps. On failure the handle is closed at once under the mutex: from then
 * on libnbd touches no buffer any more, and all that were waiting find the handle gone and read why. */
#include "adapters/nbd/nbd_link.h"

#include "base/clock.h"

#include <errno.h>
#include <libnbd.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

enum { REQUEST_MAX = 32 << 20, POLL_MS_MAX = 60000 };

struct far_nbd_link {
    atomic_uint users;
    pthread_mutex_t mutex; /* all below */
    pthread_cond_t turned; /* somebody polled, or the link is lost */
    struct nbd_handle *nbd; /* NULL: lost */
    bool polling;
    int wake_fd;
    bool silent;
    struct far_nbd_words why; /* it was lost */
    char context[FAR_NBD_NAME_MAX];
    struct far_nbd_about about;
};

/* ---- words ---- */

/* What libnbd said last on this thread, without the name of its function in front. */
static void take_words(struct far_nbd_words *words, const char *otherwise)
{
    const char *said = nbd_get_error();
    const char *text = said != NULL ? said : otherwise;
    const char *colon = strncmp(text, "nbd_", 4) == 0 ? strstr(text, ": ") : NULL;
    words->sys_errno = nbd_get_errno();
    snprintf(words->text, sizeof words->text, "%s", colon != NULL ? colon + 2 : text);
}

/* The mutex is held. */
static void lose(struct far_nbd_link *link, const struct far_nbd_words *words)
{
    if (link->nbd == NULL) {
        return;
    }
    uint64_t one = 1;
    ssize_t woken = write(link->wake_fd, &one, sizeof one);
    (void)woken; /* full means that it is readable already */
    link->why = *words;
    nbd_close(link->nbd);
    link->nbd = NULL;
    pthread_cond_broadcast(&link->turned);
}

static void lose_by_libnbd(struct far_nbd_link *link)
{
    struct far_nbd_words words;
    take_words(&words, "the server closed the connection");
    lose(link, &words);
}

static void lose_silent(struct far_nbd_link *link, const char *what)
{
    struct far_nbd_words words = {.sys_errno = ETIMEDOUT};
    snprintf(words.text, sizeof words.text, "%s", what);
    link->silent = true;
    lose(link, &words);
}

/* ---- turning ---- */

/* Lets libnbd do what the socket is ready for. The mutex is held. */
static void notify(struct far_nbd_link *link, short revents)
{
    unsigned direction = nbd_aio_get_direction(link->nbd);
    int rc = 0;
    if ((direction & LIBNBD_AIO_DIRECTION_READ) != 0 && (revents & (POLLIN | POLLHUP)) != 0) {
        rc = nbd_aio_notify_read(link->nbd);
    } else if ((direction & LIBNBD_AIO_DIRECTION_WRITE) != 0 && (revents & (POLLOUT | POLLHUP | POLLERR)) != 0) {
        rc = nbd_aio_notify_write(link->nbd);
    } else if ((revents & (POLLERR | POLLNVAL)) != 0) {
        struct far_nbd_words words = {.sys_errno = ENOTCONN, .text = "the connection broke"};
        lose(link, &words);
        return;
    }
    if (rc != 0 || nbd_aio_is_dead(link->nbd) > 0 || nbd_aio_is_closed(link->nbd) > 0) {
        lose_by_libnbd(link);
    }
}

/* The mutex is held, and released while it waits. */
static void turn(struct far_nbd_link *link, uint64_t deadline_ms)
{
    uint64_t now_ms = far_clock_monotonic_ms(), rest_ms = deadline_ms > now_ms ? deadline_ms - now_ms : 0;
    if (link->polling) {
        struct timespec at = far_clock_monotonic_in(rest_ms);
        pthread_cond_timedwait(&link->turned, &link->mutex, &at);
        return;
    }
    unsigned direction = nbd_aio_get_direction(link->nbd);
    struct pollfd fds[2] = {{.fd = nbd_aio_get_fd(link->nbd)}, {.fd = link->wake_fd, .events = POLLIN}};
    fds[0].events = (short)((direction & LIBNBD_AIO_DIRECTION_READ ? POLLIN : 0) |
                            (direction & LIBNBD_AIO_DIRECTION_WRITE ? POLLOUT : 0));
    link->polling = true;
    pthread_mutex_unlock(&link->mutex);
    /* Servers that send an answer in two pieces wait for the acknowledgement of the first, which would else be 40 ms late. */
    setsockopt(fds[0].fd, IPPROTO_TCP, TCP_QUICKACK, &(int){1}, sizeof(int));
    int ready = poll(fds, 2, rest_ms < POLL_MS_MAX ? (int)rest_ms : POLL_MS_MAX);
    pthread_mutex_lock(&link->mutex);
    link->polling = false;
    if (ready > 0 && fds[1].revents != 0) {
        uint64_t count;
        ssize_t drained = read(link->wake_fd, &count, sizeof count);
        (void)drained;
    }
    if (ready > 0 && fds[0].revents != 0 && link->nbd != NULL) {
        notify(link, fds[0].revents);
    }
    pthread_cond_broadcast(&link->turned);
}

/* ---- opening ---- */

static struct far_nbd_link *link_new(void)
{
    struct far_nbd_link *link = calloc(1, sizeof *link);
    int wake_fd = link != NULL ? eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC) : -1;
    if (wake_fd < 0) {
        free(link);
        return NULL;
    }
    pthread_condattr_t attr;
    pthread_condattr_init(&attr);
    pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
    pthread_mutex_init(&link->mutex, NULL);
    pthread_cond_init(&link->turned, &attr);
    pthread_condattr_destroy(&attr);
    atomic_init(&link->users, 1);
    link->wake_fd = wake_fd;
    link->nbd = nbd_create();
    return link;
}

/* Only what an operator may want of a URI: no other program is started, no hypervisor's socket. */
static int prepare(struct far_nbd_link *link, const char *context)
{
    struct nbd_handle *nbd = link->nbd;
    snprintf(link->context, sizeof link->context, "%s", context);
    return nbd == NULL || nbd_set_uri_allow_transports(nbd, LIBNBD_ALLOW_TRANSPORT_TCP | LIBNBD_ALLOW_TRANSPORT_UNIX) != 0 ||
                   nbd_set_uri_allow_local_file(nbd, true) != 0 || nbd_set_full_info(nbd, true) != 0 ||
                   nbd_set_pread_initialize(nbd, false) != 0 || nbd_add_meta_context(nbd, context) != 0
               ? -1
               : 0;
}

static void take_name(char *(*get)(struct nbd_handle *), struct nbd_handle *nbd, char name[FAR_NBD_NAME_MAX])
{
    char *text = get(nbd);
    snprintf(name, FAR_NBD_NAME_MAX, "%s", text != NULL ? text : "");
    free(text);
}

static int look_about(struct far_nbd_link *link)
{
    struct nbd_handle *nbd = link->nbd;
    struct far_nbd_about *about = &link->about;
    int64_t size = nbd_get_size(nbd), block_min = nbd_get_block_size(nbd, LIBNBD_SIZE_MINIMUM),
            block_max = nbd_get_block_size(nbd, LIBNBD_SIZE_MAXIMUM);
    if (size < 0) {
        return -1;
    }
    about->size_bytes = (uint64_t)size;
    about->block_min = block_min > 0 ? (uint64_t)block_min : 1;
    about->block_max = block_max > 0 && block_max < REQUEST_MAX ? (uint64_t)block_max : REQUEST_MAX;
    about->block_max -= about->block_max % about->block_min;
    about->read_only = nbd_is_read_only(nbd) > 0;
    about->multi_conn = nbd_can_multi_conn(nbd) > 0;
    about->can_zero = nbd_can_zero(nbd) > 0;
    about->has_context = nbd_can_meta_context(nbd, link->context) > 0;
    take_name(nbd_get_canonical_export_name, nbd, about->name);
    take_name(nbd_get_export_description, nbd, about->description);
    return about->block_max == 0 ? -1 : 0;
}

static void shake_hands(struct far_nbd_link *link, uint64_t deadline_ms)
{
    while (link->nbd != NULL && nbd_aio_is_ready(link->nbd) <= 0) {
        if (nbd_aio_is_dead(link->nbd) > 0 || nbd_aio_is_closed(link->nbd) > 0) {
            lose_by_libnbd(link);
        } else if (far_clock_monotonic_ms() >= deadline_ms) {
            lose_silent(link, "the server does not finish the handshake");
        } else {
            turn(link, deadline_ms);
        }
    }
    if (link->nbd != NULL && look_about(link) != 0) {
        lose_by_libnbd(link);
    }
}

enum far_nbd_answer far_nbd_link_open(const char *uri, const char *context, uint64_t deadline_ms,
                                      struct far_nbd_link **ret_link, struct far_nbd_words *ret_words)
{
    struct far_nbd_link *link = link_new();
    if (link == NULL) {
        *ret_words = (struct far_nbd_words){.sys_errno = ENOMEM, .text = "no memory for a connection"};
        return FAR_NBD_LOST;
    }
    pthread_mutex_lock(&link->mutex);
    enum far_nbd_answer answer = FAR_NBD_OK;
    if (prepare(link, context) != 0 || nbd_aio_connect_uri(link->nbd, uri) != 0) {
        take_words(ret_words, "no memory for a connection");
        answer = ret_words->sys_errno == EINVAL || ret_words->sys_errno == EPERM || ret_words->sys_errno == ENOTSUP
                     ? FAR_NBD_REFUSED
                     : FAR_NBD_LOST;
    } else {
        shake_hands(link, deadline_ms);
        if (link->nbd == NULL) {
            *ret_words = link->why;
            answer = link->silent ? FAR_NBD_SILENT : FAR_NBD_LOST;
        }
    }
    pthread_mutex_unlock(&link->mutex);
    if (answer != FAR_NBD_OK) {
        far_nbd_link_unref(link);
    } else {
        *ret_link = link;
    }
    return answer;
}

const struct far_nbd_about *far_nbd_link_about(const struct far_nbd_link *link)
{
    return &link->about;
}

bool far_nbd_link_is_lost(struct far_nbd_link *link)
{
    pthread_mutex_lock(&link->mutex);
    bool lost = link->nbd == NULL;
    pthread_mutex_unlock(&link->mutex);
    return lost;
}

void far_nbd_link_ref(struct far_nbd_link *link)
{
    atomic_fetch_add(&link->users, 1);
}

void far_nbd_link_unref(struct far_nbd_link *link)
{
    if (link == NULL || atomic_fetch_sub(&link->users, 1) > 1) {
        return;
    }
    if (link->nbd != NULL) {
        nbd_aio_disconnect(link->nbd, 0); /* a farewell as far as the socket takes it at once */
        nbd_close(link->nbd);
    }
    close(link->wake_fd);
    pthread_cond_destroy(&link->turned);
    pthread_mutex_destroy(&link->mutex);
    free(link);
}

/* ---- requests ---- */

/* What a status request hears; lives on the stack of the thread that waits. */
struct hearing {
    const struct far_nbd_link *link;
    const struct far_nbd_request *request;
    bool enough;
};

static int on_entries(void *arg, const char *context, uint64_t offset, uint32_t *entries, size_t count, int *error)
{
    struct hearing *hearing = arg;
    if (strcmp(context, hearing->link->context) != 0) {
        return 0;
    }
    for (size_t i = 0; i + 1 < count && !hearing->enough; i += 2) {
        hearing->enough = hearing->request->on_extent(hearing->request->arg, offset, entries[i], entries[i + 1]) != 0;
        offset += entries[i];
    }
    return 0;
}

static int64_t submit(struct far_nbd_link *link, const struct far_nbd_request *request, struct hearing *hearing)
{
    struct nbd_handle *nbd = link->nbd;
    nbd_extent_callback on_extent = {.callback = on_entries, .user_data = hearing};
    switch (request->op) {
    case FAR_NBD_READ:
        return nbd_aio_pread(nbd, request->into, request->length, request->offset, NBD_NULL_COMPLETION, 0);
    case FAR_NBD_WRITE:
        return nbd_aio_pwrite(nbd, request->from, request->length, request->offset, NBD_NULL_COMPLETION, 0);
    case FAR_NBD_ZERO:
        return nbd_aio_zero(nbd, request->length, request->offset, NBD_NULL_COMPLETION, 0);
    case FAR_NBD_FLUSH:
        return nbd_aio_flush(nbd, NBD_NULL_COMPLETION, 0);
    default:
        return nbd_aio_block_status(nbd, request->length, request->offset, on_extent, NBD_NULL_COMPLETION, 0);
    }
}

/* Waits for the answer to what was submitted. The mutex is held. */
static enum far_nbd_answer await(struct far_nbd_link *link, uint64_t cookie, uint64_t deadline_ms,
                                 struct far_nbd_words *ret_words)
{
    while (link->nbd != NULL) {
        int done = nbd_aio_command_completed(link->nbd, cookie);
        if (done > 0) {
            return FAR_NBD_OK;
        }
        if (done < 0 && nbd_aio_is_dead(link->nbd) <= 0 && nbd_aio_is_closed(link->nbd) <= 0) {
            take_words(ret_words, "the server refused");
            return FAR_NBD_REFUSED;
        }
        if (done < 0) {
            lose_by_libnbd(link);
        } else if (far_clock_monotonic_ms() >= deadline_ms) {
            lose_silent(link, "the server does not answer");
        } else {
            turn(link, deadline_ms);
        }
    }
    *ret_words = link->why;
    return link->silent ? FAR_NBD_SILENT : FAR_NBD_LOST;
}

enum far_nbd_answer far_nbd_link_do(struct far_nbd_link *link, const struct far_nbd_request *request, uint64_t deadline_ms,
                                    struct far_nbd_words *ret_words)
{
    struct hearing hearing = {.link = link, .request = request};
    enum far_nbd_answer answer = FAR_NBD_LOST;
    pthread_mutex_lock(&link->mutex);
    int64_t cookie = link->nbd != NULL ? submit(link, request, &hearing) : -1;
    if (link->nbd == NULL) {
        *ret_words = link->why;
        answer = link->silent ? FAR_NBD_SILENT : FAR_NBD_LOST;
    } else if (cookie < 0 && (nbd_aio_is_dead(link->nbd) > 0 || nbd_aio_is_closed(link->nbd) > 0)) {
        lose_by_libnbd(link);
        *ret_words = link->why;
    } else if (cookie < 0) {
        take_words(ret_words, "the request is none");
        answer = FAR_NBD_REFUSED;
    } else {
        if (link->polling) { /* whoever polls did not know that there is something to write */
            uint64_t one = 1;
            ssize_t woken = write(link->wake_fd, &one, sizeof one);
            (void)woken;
        }
        answer = await(link, (uint64_t)cookie, deadline_ms, ret_words);
    }
    pthread_mutex_unlock(&link->mutex);
    return answer;
}
