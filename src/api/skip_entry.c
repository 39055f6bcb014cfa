/* Skipping an entry that crashes this server (log/safe.h): for this server itself, not for the leader. */
#include "api/request.h"

#include <stdlib.h>

static void skipped(struct far_api_request *request)
{
    if (request->result.klass != 0) {
        struct far_error err;
        far_fail(&err, request->result.klass, "%s", request->result.message);
        far_api_problem(request, 0, &err);
        return;
    }
    far_api_answer(request, request->route->status, json_pack("{s:s}", "status", "the entry will be skipped; the server starts anew"));
}

/* A number, also as text: on the command line it is one. */
static bool number_of(const json_t *value, uint64_t *ret_number)
{
    if (json_is_integer(value) && json_integer_value(value) > 0) {
        *ret_number = (uint64_t)json_integer_value(value);
        return true;
    }
    const char *text = json_string_value(value);
    char *end = NULL;
    *ret_number = text == NULL || *text < '0' || *text > '9' ? 0 : strtoull(text, &end, 10);
    return *ret_number > 0 && *end == '\0';
}

static int skip(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    const json_t *hash_json = json_object_get(body, "entry_hash"), *force = json_object_get(body, "force");
    uint8_t hash[8];
    uint64_t index = 0;
    size_t known = 2 + (force != NULL);
    if (!number_of(json_object_get(body, "index"), &index)) {
        return far_fail(err, FAR_INVALID, "field 'index' must be the number of a log entry");
    }
    if (!json_is_string(hash_json) || !far_hex_decode(json_string_value(hash_json), json_string_length(hash_json), hash, 8)) {
        return far_fail(err, FAR_INVALID, "field 'entry_hash' must be 16 hexadecimal digits, as the status of the cluster shows them");
    }
    if ((force != NULL && !json_is_boolean(force)) || json_object_size(body) != known) {
        return far_fail(err, FAR_INVALID, "the fields are index, entry_hash and force");
    }
    if (request->query.dry_run) {
        return far_fail(err, FAR_INVALID, "argument 'dry_run' does not fit: this is about the server, not about the state");
    }
    int rc = far_api_expect(request, skipped, err);
    if (rc == 0) {
        request->api->hooks.skip_entry(request->api->arg, index, far_get_be64(hash), json_is_true(force), far_api_done, request);
    }
    return rc;
}

void far_api_skip_entry(struct far_api_request *request)
{
    far_api_with_body(request, skip);
}
