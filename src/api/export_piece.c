/* Exports of the log, piece by piece: GET /v1/log/export. The format is that of log/export.h; a piece comes as hexadecimal
 * digits in JSON, and the pieces one after the other are the file. */
#include "api/request.h"

enum { PIECE_BYTES_MAX = 2 * 1024 * 1024 };

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_api *api = request->api;
    const struct far_query *query = &request->query;
    struct far_log_view view;
    struct far_buf piece;
    uint64_t next = 0, until = 0;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_buf_init(&piece, 2 * PIECE_BYTES_MAX);
    rc = api->hooks.view_export(api->arg, &view, query->from == FAR_FROM_SEQ ? query->from_cursor.seq : 0,
                                &query->until, PIECE_BYTES_MAX, &piece, &next, &until, err);
    far_api_view_end(request, &view);
    if (rc == 0) {
        *ret_answer = json_pack("{s:o, s:o, s:o}", "bytes", far_json_hex(piece.data, piece.len), "next",
                                next == 0 ? json_null() : far_json_u64(next), "until", far_json_u64(until));
    }
    far_buf_done(&piece);
    return rc;
}

void far_api_log_export(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
