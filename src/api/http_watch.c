/* Between OpenSSL and libwebsockets: see http_watch.h. The watch hangs at its SSL object, and goes with it. */
#include "api/http_watch.h"

#include "api/http_scan.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

enum { RECORD_MAX = SSL3_RT_MAX_PLAIN_LENGTH };

typedef int (*read_fn)(SSL *ssl, void *data, int max);

struct watch {
    struct far_http_scan scan;
    bool is_held;         /* a request is being answered */
    struct far_buf ahead; /* read, and not scanned yet */
};

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int context_place = -1, watch_place = -1; /* of what belongs to this file, at OpenSSL's objects */
static read_fn next_read;

static void free_watch(void *parent, void *watch, CRYPTO_EX_DATA *data, int place, long number, void *arg)
{
    if (watch != NULL) {
        far_buf_done(&((struct watch *)watch)->ahead);
        free(watch);
    }
}

static void find_places(void)
{
    void *found = dlsym(RTLD_NEXT, "SSL_read");
    memcpy(&next_read, &found, sizeof next_read);
    context_place = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    watch_place = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_watch);
}

void far_http_watch(SSL_CTX *context)
{
    static char mark;
    pthread_once(&once, find_places);
    SSL_CTX_set_ex_data(context, context_place, &mark);
}

/* NULL: of another context, or there is no memory for it, then nothing that is read is taken. */
static struct watch *watch_of(SSL *ssl)
{
    struct watch *watch = SSL_get_ex_data(ssl, watch_place);
    if (watch == NULL && SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_place) != NULL) {
        watch = calloc(1, sizeof *watch);
        if (watch != NULL && SSL_set_ex_data(ssl, watch_place, watch) != 1) {
            free(watch);
            watch = NULL;
        }
        if (watch != NULL) {
            far_buf_init(&watch->ahead, FAR_HTTP_AHEAD_MAX);
        }
    }
    return watch;
}

/* ---- what is sent ahead of an answer ---- */

static void drop_ahead(struct watch *watch, size_t len)
{
    far_buf_consume(&watch->ahead, len);
    if (watch->ahead.len == 0) {
        far_buf_done(&watch->ahead);
        far_buf_init(&watch->ahead, FAR_HTTP_AHEAD_MAX);
    }
}

static long read_nothing(BIO *bio, int what, const char *data, size_t len, int number, long other, int result, size_t *done)
{
    if (what != BIO_CB_READ) {
        return result;
    }
    BIO_clear_retry_flags(bio);
    BIO_set_retry_read(bio);
    return -1;
}

/* A record is read only where there is room for all of it, so that OpenSSL keeps none of it. Where there is no room, the socket
 * is not looked at: OpenSSL is told that nothing came, for it is OpenSSL whom libwebsockets asks why nothing was read. */
static int read_ahead(SSL *ssl, struct watch *watch)
{
    uint8_t *room, byte;
    while ((room = far_buf_reserve(&watch->ahead, RECORD_MAX)) != NULL) {
        int n = next_read(ssl, room, RECORD_MAX);
        if (n <= 0) {
            drop_ahead(watch, 0);
            return n;
        }
        watch->ahead.len += (size_t)n;
    }
    BIO_set_callback_ex(SSL_get_rbio(ssl), read_nothing);
    int n = next_read(ssl, &byte, 1);
    BIO_set_callback_ex(SSL_get_rbio(ssl), NULL);
    return n > 0 ? -1 : n; /* there was no memory: it ends the connection */
}

/* ---- in the place of OpenSSL's ---- */

/* From what was read ahead, else from the socket. What follows the end of a request becomes the former. */
static int read_scanned(SSL *ssl, struct watch *watch, uint8_t *data, int max)
{
    size_t handed_on = 0, used;
    while (handed_on == 0) { /* all of it was dropped */
        size_t len = watch->ahead.len < (size_t)max ? watch->ahead.len : (size_t)max;
        bool was_ahead = len > 0;
        if (was_ahead) {
            memcpy(data, watch->ahead.data, len);
        } else {
            int n = next_read(ssl, data, max);
            if (n <= 0) {
                return n;
            }
            len = (size_t)n;
        }
        handed_on = far_http_scan_bytes(&watch->scan, data, len, (size_t)max, &used);
        if (was_ahead) {
            drop_ahead(watch, used);
        } else if (used < len && far_buf_append(&watch->ahead, data + used, len - used) != 0) {
            return -1;
        }
    }
    return (int)handed_on;
}

__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *data, int max)
{
    pthread_once(&once, find_places);
    struct watch *watch = watch_of(ssl);
    return watch == NULL     ? next_read(ssl, data, max)
           : watch->is_held ? read_ahead(ssl, watch)
                            : read_scanned(ssl, watch, data, max);
}

int far_http_watch_take(SSL *ssl, const char **ret_why)
{
    struct watch *watch = ssl == NULL ? NULL : watch_of(ssl);
    static struct far_http_scan unseen;
    return far_http_scan_take(watch == NULL ? &unseen : &watch->scan, ret_why);
}

void far_http_watch_hold(SSL *ssl, bool is_held)
{
    struct watch *watch = ssl == NULL ? NULL : watch_of(ssl);
    if (watch != NULL) {
        watch->is_held = is_held;
    }
}

size_t far_http_watch_ahead(SSL *ssl)
{
    struct watch *watch = ssl == NULL ? NULL : watch_of(ssl);
    return watch == NULL || watch->is_held ? 0 : watch->ahead.len + (size_t)SSL_pending(ssl);
}
