/* The head of a request: see http_head.h. libwebsockets has percent-decoded path and query already; each argument of the
 * query is a fragment of its own. What it would have read wrongly was found before (http_scan.h). */
#include "api/http_head.h"

#include <stdarg.h>
#include <stdlib.h>

const char *far_http_method_name(enum far_http_method method)
{
    static const char *const names[] = {"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE"};
    return names[method];
}

static const struct {
    enum lws_token_indexes token;
    enum far_http_method method;
} methods[] = {
    {WSI_TOKEN_GET_URI, FAR_HTTP_GET},     {WSI_TOKEN_HEAD_URI, FAR_HTTP_HEAD},
    {WSI_TOKEN_POST_URI, FAR_HTTP_POST},   {WSI_TOKEN_PUT_URI, FAR_HTTP_PUT},
    {WSI_TOKEN_PATCH_URI, FAR_HTTP_PATCH}, {WSI_TOKEN_DELETE_URI, FAR_HTTP_DELETE},
};

/* ---- refusals ---- */

__attribute__((format(printf, 3, 4))) static int refuse(struct far_http_request *request, int status,
                                                        const char *format, ...)
{
    va_list args;
    va_start(args, format);
    vsnprintf(request->refuse_why, sizeof request->refuse_why, format, args);
    va_end(args);
    request->refuse_status = status;
    return status;
}

void far_http_refuse_body(struct far_http_request *request, size_t body_max)
{
    refuse(request, 413, "the body is larger than %zu bytes, the most that is taken", body_max);
}

int far_http_refuse_head(struct far_http_request *request, int status, const char *why)
{
    return refuse(request, status, "%s", why);
}

int far_http_head_stranger(struct far_slice data, struct far_http_request *request)
{
    size_t len = 0;
    while (len < data.len && len < 32 && ((data.data[len] >= 'A' && data.data[len] <= 'Z') || data.data[len] == '-')) {
        len++;
    }
    if (len > 0 && len < data.len && data.data[len] == ' ') {
        return refuse(request, 405, "the method %.*s is not known here; those are " FAR_HTTP_METHODS, (int)len,
                      (const char *)data.data);
    }
    return refuse(request, 400, "what came is no HTTP/1.1 request");
}

/* ---- the head ---- */

/* Room for len bytes and a NUL, or NULL. */
static char *text_room(struct far_http_head *head, size_t len)
{
    if (len + 1 > sizeof head->text - head->used) {
        return NULL;
    }
    char *at = head->text + head->used;
    head->used += len + 1;
    return at;
}

/* The value of a header, "" if it is not there, NULL if it is too long. name NULL: a known token. */
static const char *header(struct lws *wsi, struct far_http_head *head, enum lws_token_indexes token, const char *name)
{
    int name_length = name == NULL ? 0 : (int)strlen(name);
    int len = name == NULL ? lws_hdr_total_length(wsi, token) : lws_hdr_custom_length(wsi, name, name_length);
    if (len <= 0) {
        return "";
    }
    char *at = len <= FAR_HTTP_HEADER_MAX ? text_room(head, (size_t)len) : NULL;
    if (at == NULL) {
        return NULL;
    }
    int n = name == NULL ? lws_hdr_copy(wsi, at, len + 1, token)
                         : lws_hdr_custom_copy(wsi, at, len + 1, name, name_length);
    return n < 0 ? NULL : at;
}

static int read_query(struct lws *wsi, struct far_http_head *head, struct far_http_request *request)
{
    char one[FAR_HTTP_QUERY_BYTES + 1];
    size_t total = 0;
    for (int i = 0; lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > 0; i++) {
        int len = lws_hdr_copy_fragment(wsi, one, (int)sizeof one, WSI_TOKEN_HTTP_URI_ARGS, i);
        if (len < 0) {
            break;
        }
        total += (size_t)len;
        char *at = request->query_count < FAR_HTTP_QUERY_MAX && total <= FAR_HTTP_QUERY_BYTES
                       ? text_room(head, (size_t)len)
                       : NULL;
        if (at == NULL) {
            return refuse(request, 414, "the query has more than %d arguments or %d bytes", FAR_HTTP_QUERY_MAX,
                          FAR_HTTP_QUERY_BYTES);
        }
        memcpy(at, one, (size_t)len);
        request->query[request->query_count++] = far_slice(at, (size_t)len);
    }
    return total == 0 && lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > FAR_HTTP_QUERY_BYTES
               ? refuse(request, 414, "the query is longer than %d bytes", FAR_HTTP_QUERY_BYTES)
               : 0;
}

static int read_length(struct lws *wsi, size_t body_max, struct far_http_request *request, uint64_t *ret_length)
{
    char text[32] = "";
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        return refuse(request, 411, "send the body with Content-Length, not in chunks");
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0) {
        return 0;
    }
    if (lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0 || strlen(text) > 15 ||
        text[strspn(text, "0123456789")] != '\0') {
        return refuse(request, 400, "the header Content-Length is no number of bytes");
    }
    *ret_length = strtoull(text, NULL, 10);
    if (*ret_length > body_max) {
        far_http_refuse_body(request, body_max);
    }
    return request->refuse_status;
}

/* The headers that are looked at. */
static int read_headers(struct lws *wsi, struct far_http_head *head, struct far_http_request *request)
{
    const struct {
        const char *name;
        const char **value;
        enum lws_token_indexes token;
        const char *custom;
    } wanted[] = {
        {"Authorization", &request->authorization, WSI_TOKEN_HTTP_AUTHORIZATION, NULL},
        {"Accept", &request->accept, WSI_TOKEN_HTTP_ACCEPT, NULL},
        {"Idempotency-Key", &request->idempotency_key, 0, "idempotency-key:"},
        {"If-Match", &request->if_match, WSI_TOKEN_HTTP_IF_MATCH, NULL},
        {"Last-Event-ID", &request->last_event_id, 0, "last-event-id:"},
        {"Farshore-Feature-Level", &request->feature_level, 0, "farshore-feature-level:"},
    };
    int status = 0;
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        *wanted[i].value = header(wsi, head, wanted[i].token, wanted[i].custom);
        if (*wanted[i].value == NULL) {
            *wanted[i].value = "";
            status = refuse(request, 431, "the header %s is longer than %d bytes, or all headers than %d", wanted[i].name,
                            FAR_HTTP_HEADER_MAX, FAR_HTTP_HEAD_MAX / 2);
        }
    }
    if (status == 0 && request->idempotency_key[0] == '\0' && lws_hdr_custom_length(wsi, "idempotency-key:", 16) == 0) {
        status = refuse(request, 400, "the header Idempotency-Key is empty: leave it out, or send 32 hexadecimal digits");
    }
    return status;
}

int far_http_head_read(struct lws *wsi, size_t body_max, struct far_http_head *head, struct far_http_request *request,
                       uint64_t *ret_body_length)
{
    request->authorization = request->accept = request->idempotency_key = request->last_event_id = request->if_match = "";
    request->feature_level = "";
    size_t found = sizeof methods / sizeof methods[0];
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (lws_hdr_total_length(wsi, methods[i].token) > 0) {
            found = i;
        }
    }
    if (found == sizeof methods / sizeof methods[0]) {
        return refuse(request, 405, "the method is not known here; those are " FAR_HTTP_METHODS);
    }
    request->method = methods[found].method;
    int len = lws_hdr_total_length(wsi, methods[found].token);
    char *path = len <= FAR_HTTP_PATH_MAX ? text_room(head, (size_t)len) : NULL;
    if (path == NULL || lws_hdr_copy(wsi, path, len + 1, methods[found].token) < 0) {
        return refuse(request, 414, "the path is longer than %d bytes", FAR_HTTP_PATH_MAX);
    }
    request->path = far_slice(path, (size_t)len);
    request->close_after = (request->method == FAR_HTTP_POST || request->method == FAR_HTTP_PUT ||
                            request->method == FAR_HTTP_PATCH) &&
                           lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0;
    int length_status = read_length(wsi, body_max, request, ret_body_length);
    int query_status = read_query(wsi, head, request);
    int header_status = read_headers(wsi, head, request);
    return header_status != 0 ? header_status : query_status != 0 ? query_status : length_status;
}
