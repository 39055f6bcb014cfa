/* Paths, queries, cursors and command ids: the input is "path?argument&argument…", decoded already. */
#include "api/route.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void try_texts(const uint8_t *data, size_t size)
{
    struct far_cursor cursor, again;
    char text[FAR_CURSOR_TEXT_MAX], copy[64];
    uint8_t id[16];
    if (far_cursor_parse(far_slice(data, size), &cursor, NULL) == 0) {
        far_cursor_format(&cursor, text);
        if (far_cursor_parse(far_slice_str(text), &again, NULL) != 0 || cursor.seq != again.seq ||
            cursor.has_head != again.has_head || memcmp(cursor.head, again.head, sizeof cursor.head) != 0) {
            abort();
        }
    }
    size_t len = size < sizeof copy - 1 ? size : sizeof copy - 1;
    memcpy(copy, size == 0 ? (const uint8_t *)"" : data, len);
    copy[len] = '\0';
    (void)far_command_id_parse(copy, id, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    const uint8_t *mark = size == 0 ? NULL : memchr(data, '?', size);
    size_t path_len = mark == NULL ? size : (size_t)(mark - data);
    struct far_match match;
    for (int method = FAR_HTTP_GET; method <= FAR_HTTP_DELETE; method++) {
        far_route_match((enum far_http_method)method, far_slice(data, path_len), &match);
        if (match.route != NULL && strlen(match.param) > FAR_ROUTE_PARAM_MAX) {
            abort();
        }
    }
    struct far_slice arguments[FAR_HTTP_QUERY_MAX];
    size_t count = 0, at = path_len + 1;
    while (mark != NULL && at <= size && count < FAR_HTTP_QUERY_MAX) {
        const uint8_t *end = at == size ? NULL : memchr(data + at, '&', size - at);
        size_t len = end == NULL ? size - at : (size_t)(end - (data + at));
        arguments[count++] = far_slice(data + at, len);
        at += len + 1;
    }
    struct far_query query;
    if (far_query_parse(arguments, count, &query, NULL) == 0 && (query.limit == 0 || query.limit > FAR_QUERY_LIMIT_MAX)) {
        abort();
    }
    try_texts(data, size);
    return 0;
}
