/* Backups: POST /v1/cluster/backups makes one on the server that is asked, GET lists them or gives one piece by piece as
 * hexadecimal digits. All of it on the worker's thread. */
#include "api/request.h"

enum { PIECE_BYTES_MAX = 2 * 1024 * 1024 };

static json_t *backup_to_json(const struct far_api_backup *backup)
{
    return json_pack("{s:s, s:o, s:o, s:o, s:o}", "name", backup->name, "made_ms", far_json_u64(backup->made_ms), "index",
                     far_json_u64(backup->index), "server_id", far_json_u64(backup->server_id), "bytes",
                     far_json_u64(backup->bytes));
}

static int make(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_api *api = request->api;
    struct far_api_backup made;
    int rc = api->hooks.backup_make(api->arg, &made, err);
    if (rc == 0) {
        *ret_answer = backup_to_json(&made);
    }
    return rc;
}

static int list(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_api *api = request->api;
    struct far_api_backup found[FAR_API_BACKUPS_MAX];
    size_t count = 0;
    int rc = api->hooks.backup_list(api->arg, found, &count, err);
    if (rc == 0) {
        json_t *items = json_array();
        for (size_t i = 0; i < count; i++) {
            json_array_append_new(items, backup_to_json(&found[i]));
        }
        *ret_answer = json_pack("{s:o}", "items", items);
    }
    return rc;
}

static int piece(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_api *api = request->api;
    uint64_t offset = request->query.from == FAR_FROM_SEQ ? request->query.from_cursor.seq : 0;
    struct far_buf bytes;
    far_buf_init(&bytes, PIECE_BYTES_MAX);
    int rc = api->hooks.backup_read(api->arg, request->param, offset, PIECE_BYTES_MAX, &bytes, err);
    if (rc == 0) {
        bool is_last = bytes.len < PIECE_BYTES_MAX;
        *ret_answer = json_pack("{s:o, s:o}", "bytes", far_json_hex(bytes.data, bytes.len), "next",
                                is_last ? json_null() : far_json_u64(offset + bytes.len));
    }
    far_buf_done(&bytes);
    return rc;
}

static int begin(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    if (json_object_size(body) > 0) {
        return far_fail(err, FAR_INVALID, "a backup takes no field");
    }
    if (request->query.dry_run) { /* it is a file, and no event */
        far_api_answer(request, 200, json_pack("{s:[], s:[]}", "events", "changes"));
    } else {
        far_api_compute(request, 201, make);
    }
    return 0;
}

void far_api_backup_make(struct far_api_request *request)
{
    far_api_with_body(request, begin);
}

void far_api_backup_list(struct far_api_request *request)
{
    far_api_compute(request, 200, list);
}

void far_api_backup_piece(struct far_api_request *request)
{
    far_api_compute(request, 200, piece);
}
