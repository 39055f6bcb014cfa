/* Between OpenSSL and libwebsockets: see http_watch.h. The scan hangs at its SSL object, and goes with it. */
#include "api/http_watch.h"

#include "api/http_scan.h"

#include <dlfcn.h>
#include <pthread.h>
#include <stdlib.h>

typedef int (*read_fn)(SSL *ssl, void *data, int max);

static pthread_once_t once = PTHREAD_ONCE_INIT;
static int context_place = -1, scan_place = -1; /* of what belongs to this file, at OpenSSL's objects */
static read_fn next_read;

static void free_scan(void *parent, void *scan, CRYPTO_EX_DATA *data, int place, long number, void *arg)
{
    free(scan);
}

static void find_places(void)
{
    void *found = dlsym(RTLD_NEXT, "SSL_read");
    memcpy(&next_read, &found, sizeof next_read);
    context_place = SSL_CTX_get_ex_new_index(0, NULL, NULL, NULL, NULL);
    scan_place = SSL_get_ex_new_index(0, NULL, NULL, NULL, free_scan);
}

void far_http_watch(SSL_CTX *context)
{
    static char mark;
    pthread_once(&once, find_places);
    SSL_CTX_set_ex_data(context, context_place, &mark);
}

static struct far_http_scan *scan_of(SSL *ssl)
{
    struct far_http_scan *scan = SSL_get_ex_data(ssl, scan_place);
    if (scan == NULL && SSL_CTX_get_ex_data(SSL_get_SSL_CTX(ssl), context_place) != NULL) {
        scan = calloc(1, sizeof *scan); /* without memory for it, nothing that is read is taken */
        if (scan != NULL && SSL_set_ex_data(ssl, scan_place, scan) != 1) {
            free(scan);
            scan = NULL;
        }
    }
    return scan;
}

__attribute__((visibility("default"))) int SSL_read(SSL *ssl, void *data, int max)
{
    pthread_once(&once, find_places);
    for (;;) {
        int n = next_read(ssl, data, max);
        struct far_http_scan *scan = n > 0 ? scan_of(ssl) : NULL;
        size_t handed_on = scan == NULL ? 0 : far_http_scan_bytes(scan, data, (size_t)n, (size_t)max);
        if (scan == NULL || handed_on > 0) {
            return scan == NULL ? n : (int)handed_on;
        }
    } /* all of it was dropped */
}

int far_http_watch_take(SSL *ssl, const char **ret_why)
{
    struct far_http_scan *scan = ssl == NULL ? NULL : scan_of(ssl);
    static struct far_http_scan unseen;
    return far_http_scan_take(scan == NULL ? &unseen : scan, ret_why);
}
