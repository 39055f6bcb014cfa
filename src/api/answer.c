/* Answers: JSON, problem+json (RFC 9457) and the headers that all of them carry. */
#include "api/request.h"

#include <stdio.h>

static const char *title_of(int klass)
{
    switch (klass) {
    case FAR_INVALID:
        return "The request is not valid";
    case FAR_NOT_FOUND:
        return "There is no such object";
    case FAR_CONFLICT:
        return "The object is in another state";
    case FAR_DENIED:
        return "Not allowed";
    case FAR_NOT_LEADER:
        return "Another server leads";
    case FAR_UNKNOWN_OUTCOME:
        return "It may or may not have happened";
    case FAR_BUSY:
        return "Not now";
    case FAR_LIMIT:
        return "A limit was reached";
    case FAR_TIMEOUT:
        return "It took too long";
    case FAR_CANCELED:
        return "Canceled";
    default:
        return "The server failed";
    }
}

static const char *retry_name(enum far_retry retry)
{
    static const char *const names[] = {"never", "later", "elsewhere", "same_id"};
    return names[retry];
}

size_t far_api_headers(struct far_api_request *request, char index_text[24],
                       struct far_http_header headers[FAR_API_HEADERS_MAX])
{
    struct far_log_glance glance;
    request->api->hooks.glance(request->api->arg, &glance);
    uint64_t index = request->applied_index != 0 ? request->applied_index : glance.applied_index;
    snprintf(index_text, 24, "%llu", (unsigned long long)index);
    headers[0] = (struct far_http_header){"farshore-index:", index_text};
    headers[1] = (struct far_http_header){"cache-control:", "no-store"};
    headers[2] = (struct far_http_header){"x-content-type-options:", "nosniff"};
    size_t count = 3;
    if (glance.is_stale) {
        headers[count++] = (struct far_http_header){"farshore-stale:", "true"};
    }
    if (request->etag[0] != '\0') {
        headers[count++] = (struct far_http_header){"etag:", request->etag};
    }
    return count;
}

static void list_methods(unsigned methods, char text[64])
{
    size_t len = 0;
    text[0] = '\0';
    for (unsigned method = FAR_HTTP_GET; method <= FAR_HTTP_DELETE; method++) {
        if ((methods & 1U << method) != 0) {
            len += (size_t)snprintf(text + len, 64 - len, "%s%s", len == 0 ? "" : ", ",
                                    far_http_method_name((enum far_http_method)method));
        }
    }
}

void far_api_answer_bytes(struct far_api_request *request, int status, const char *type, struct far_buf *body)
{
    struct far_http_header headers[FAR_API_HEADERS_MAX];
    char index_text[24], allowed[64];
    size_t count = far_api_headers(request, index_text, headers);
    if (status == 401) {
        headers[count++] = (struct far_http_header){"www-authenticate:", "Bearer"};
    } else if (status == 405) {
        list_methods(request->allowed, allowed);
        headers[count++] = (struct far_http_header){"allow:", allowed[0] != '\0' ? allowed : FAR_HTTP_METHODS};
    } else if (status == 503) {
        headers[count++] = (struct far_http_header){"retry-after:", "1"};
    }
    far_http_answer(request->exchange, status, type, headers, count, body);
}

json_t *far_api_problem_json(const struct far_api_request *request, int status, const struct far_error *error)
{
    const struct far_class_info *info = far_class_info(error->klass);
    bool too_large = status == 413 || status == 414 || status == 431; /* and will be the next time */
    char type[64];
    snprintf(type, sizeof type, "urn:farshore:problem:%s", info->name);
    json_t *problem = json_pack("{s:s, s:s, s:i, s:s, s:o*, s:s}", "type", type, "title", title_of(error->klass),
                                "status", status, "code", info->name, "detail",
                                far_json_text(far_slice_str(error->message)), "retry",
                                retry_name(too_large ? FAR_RETRY_NEVER : info->retry));
    if (problem != NULL && request != NULL && request->param[0] != '\0') {
        json_object_set_new(problem, "object", json_string(request->param));
    }
    return problem;
}

void far_api_problem(struct far_api_request *request, int status, const struct far_error *error)
{
    int code = status != 0 ? status : far_class_info(error->klass)->http_status;
    json_t *problem = far_api_problem_json(request, code, error);
    struct far_buf body;
    far_buf_init(&body, FAR_API_ANSWER_MAX);
    far_json_write(problem, &body, NULL); /* without memory the answer is empty; its status still tells */
    json_decref(problem);
    far_api_answer_bytes(request, code, "application/problem+json", &body);
}

void far_api_answer(struct far_api_request *request, int status, json_t *value)
{
    struct far_error err;
    struct far_buf body;
    far_buf_init(&body, FAR_API_ANSWER_MAX);
    int rc = far_json_write(value, &body, &err);
    json_decref(value);
    if (rc != 0) {
        far_buf_done(&body);
        far_api_problem(request, 0, &err);
        return;
    }
    far_api_answer_bytes(request, status, "application/json", &body);
}
