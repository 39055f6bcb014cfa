/* The head of a request, out of libwebsockets: method, path, query, the headers that are looked at, the body's length.
 * Private to http*.c. */
#ifndef FAR_API_HTTP_HEAD_H
#define FAR_API_HTTP_HEAD_H

#include "api/http.h"

#include <libwebsockets.h>

enum { FAR_HTTP_HEAD_MAX = 8192 };

/* Where the texts of a head are kept. */
struct far_http_head {
    size_t used;
    char text[FAR_HTTP_HEAD_MAX];
};

/* Fills *request from the connection; its texts live in *head. Returns 0, or the status with which to refuse the
 * request: 400, 405, 411 (a chunked body), 413 (a body larger than body_max), 414, 431. */
int far_http_head_read(struct lws *wsi, size_t body_max, struct far_http_head *head, struct far_http_request *request,
                       uint64_t *ret_body_length);

#endif
