/* The head of a request, out of libwebsockets: method, path, query, the headers that are looked at, the body's length.
 * Private to http*.c. */
#ifndef FAR_API_HTTP_HEAD_H
#define FAR_API_HTTP_HEAD_H

#include "api/http.h"

#include <libwebsockets.h>

/* Where the texts of a head are kept. */
struct far_http_head {
    size_t used;
    char text[FAR_HTTP_HEAD_MAX];
};

/* What came is no head that libwebsockets knows: refuse with 405 if it begins with the name of a method, else 400.
 * Returns the status. */
int far_http_head_stranger(struct far_slice data, struct far_http_request *request);
/* Refuse the request for its head as it was sent (http_scan.h). Returns the status. */
int far_http_refuse_head(struct far_http_request *request, int status, const char *why);
/* Refuse the request for its body. */
void far_http_refuse_body(struct far_http_request *request, size_t body_max);
/* Fills *request from the connection; its texts live in *head. Returns 0, or the status with which to refuse the
 * request: 400, 405, 411 (a chunked body), 413 (a body larger than body_max), 414, 431. */
int far_http_head_read(struct lws *wsi, size_t body_max, struct far_http_head *head, struct far_http_request *request,
                       uint64_t *ret_body_length);

#endif
