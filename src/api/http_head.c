/* The head of a request: see http_head.h. libwebsockets has percent-decoded path and query already; each argument of the
 * query is a fragment of its own. */
#include "api/http_head.h"

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
            return 414;
        }
        memcpy(at, one, (size_t)len);
        request->query[request->query_count++] = far_slice(at, (size_t)len);
    }
    return total == 0 && lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_URI_ARGS) > FAR_HTTP_QUERY_BYTES ? 414 : 0;
}

static int read_length(struct lws *wsi, size_t body_max, uint64_t *ret_length)
{
    char text[32] = "";
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_TRANSFER_ENCODING) > 0) {
        return 411;
    }
    if (lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0) {
        return 0;
    }
    if (lws_hdr_copy(wsi, text, sizeof text, WSI_TOKEN_HTTP_CONTENT_LENGTH) <= 0 || strlen(text) > 15 ||
        text[strspn(text, "0123456789")] != '\0') {
        return 400;
    }
    *ret_length = strtoull(text, NULL, 10);
    return *ret_length > body_max ? 413 : 0;
}

int far_http_head_read(struct lws *wsi, size_t body_max, struct far_http_head *head, struct far_http_request *request,
                       uint64_t *ret_body_length)
{
    request->authorization = request->accept = request->idempotency_key = request->last_event_id = "";
    size_t found = sizeof methods / sizeof methods[0];
    for (size_t i = 0; i < sizeof methods / sizeof methods[0]; i++) {
        if (lws_hdr_total_length(wsi, methods[i].token) > 0) {
            found = i;
        }
    }
    if (found == sizeof methods / sizeof methods[0]) {
        return 405;
    }
    request->method = methods[found].method;
    int len = lws_hdr_total_length(wsi, methods[found].token);
    char *path = len <= FAR_HTTP_PATH_MAX ? text_room(head, (size_t)len) : NULL;
    if (path == NULL || lws_hdr_copy(wsi, path, len + 1, methods[found].token) < 0) {
        return 414;
    }
    request->path = far_slice(path, (size_t)len);
    request->authorization = header(wsi, head, WSI_TOKEN_HTTP_AUTHORIZATION, NULL);
    request->accept = header(wsi, head, WSI_TOKEN_HTTP_ACCEPT, NULL);
    request->idempotency_key = header(wsi, head, 0, "idempotency-key:");
    request->last_event_id = header(wsi, head, 0, "last-event-id:");
    int status = read_query(wsi, head, request);
    request->close_after = (request->method == FAR_HTTP_POST || request->method == FAR_HTTP_PUT ||
                            request->method == FAR_HTTP_PATCH) &&
                           lws_hdr_total_length(wsi, WSI_TOKEN_HTTP_CONTENT_LENGTH) == 0;
    int length_status = read_length(wsi, body_max, ret_body_length);
    if (request->authorization == NULL || request->accept == NULL || request->idempotency_key == NULL ||
        request->last_event_id == NULL) {
        request->authorization = request->accept = request->idempotency_key = request->last_event_id = "";
        return 431;
    }
    return status != 0 ? status : length_status;
}
