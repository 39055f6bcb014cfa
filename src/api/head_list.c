/* GET /v1/log/heads: the heads that were proposed, the newest first, with who signed or refused; and the newest that a majority
 * signed, for GET /v1/cluster. */
#include "api/request.h"

struct names {
    struct far_state *state;
    struct far_arena *arena;
    struct far_error *err;
};

/* The name of a server under "server"; "" if it is not known. */
static int add_name(const struct names *names, uint64_t server_id, json_t *json)
{
    struct far_row_server row = {.id = 0};
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, server_id);
    int rc = far_state_get(names->state, &far_schema_row_server, &key, names->arena, &row, names->err);
    json_object_set_new(json, "server", far_json_text(rc == 0 ? row.name : far_slice("", 0)));
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int add_voter_names(const struct names *names, json_t *head)
{
    json_t *voters = json_object_get(head, "voters");
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < json_array_size(voters); i++) {
        json_t *voter = json_array_get(voters, i);
        rc = add_name(names, (uint64_t)json_integer_value(json_object_get(voter, "server_id")), voter);
    }
    return rc;
}

/* Under "answers": what each voter said. */
static int add_answers(const struct names *names, uint64_t seq, json_t *head)
{
    struct far_row_head_signature row;
    struct far_key key = far_key(&far_schema_row_head_signature);
    json_t *answers = json_array();
    int rc;
    far_key_u64(&key, seq);
    json_object_set_new(head, "answers", answers);
    while ((rc = far_state_next(names->state, &far_schema_row_head_signature, &key, names->arena, NULL, &row, names->err)) == 0 &&
           row.seq == seq) {
        bool is_signed = row.signature.len > 0;
        json_t *answer = json_pack("{s:o, s:b, s:o, s:o}", "server_id", far_json_u64(row.server_id), "signed", is_signed,
                                   is_signed ? "signature" : "own_head",
                                   is_signed ? far_json_hex(row.signature.data, row.signature.len)
                                             : far_json_hex(row.head.data, row.head.len),
                                   "time_ms", far_json_u64(row.time_ms));
        json_array_append_new(answers, answer);
        rc = add_name(names, row.server_id, answer);
        if (rc != 0) {
            break;
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int head_to_json(const struct names *names, const struct far_row_head *row, json_t **ret_json)
{
    json_t *json = far_json_from_struct(&far_schema_row_head, row);
    int rc = json == NULL ? far_fail(names->err, FAR_LIMIT, "no memory for a head") : 0;
    rc = rc != 0 ? rc : add_voter_names(names, json);
    rc = rc != 0 ? rc : add_answers(names, row->seq, json);
    if (rc != 0) {
        json_decref(json);
        return rc;
    }
    *ret_json = json;
    return 0;
}

static int get_progress(const struct names *names, struct far_row_head_progress *ret_row)
{
    struct far_key key = far_key(&far_schema_row_head_progress);
    int rc = far_state_get(names->state, &far_schema_row_head_progress, &key, names->arena, ret_row, names->err);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_head_progress){.proposed_seq = 0};
        return 0;
    }
    return rc;
}

int far_api_signed_head(struct far_log_view *view, struct far_arena *arena, json_t **ret_json, struct far_error *err)
{
    struct names names = {&view->state, arena, err};
    struct far_row_head_progress progress;
    struct far_row_head row;
    struct far_key key = far_key(&far_schema_row_head);
    int rc = get_progress(&names, &progress);
    *ret_json = NULL;
    if (rc != 0 || progress.signed_seq == 0) {
        *ret_json = rc == 0 ? json_null() : NULL;
        return rc;
    }
    far_key_u64(&key, progress.signed_seq);
    rc = far_state_get(&view->state, &far_schema_row_head, &key, arena, &row, err);
    rc = rc == FAR_NOT_FOUND ? far_fail(err, FAR_CORRUPT, "the newest signed head is not there") : rc;
    rc = rc != 0 ? rc : head_to_json(&names, &row, ret_json);
    if (rc == 0) {
        json_object_set_new(*ret_json, "events_behind", far_json_u64(view->last_seq - row.seq));
    }
    return rc;
}

/* The rows are few (fsm/head.c); the newest comes first. */
static int list(const struct names *names, json_t *items)
{
    struct far_row_head row;
    struct far_key key = far_key(&far_schema_row_head);
    int rc;
    while ((rc = far_state_next(names->state, &far_schema_row_head, &key, names->arena, NULL, &row, names->err)) == 0) {
        json_t *item = NULL;
        rc = head_to_json(names, &row, &item);
        if (rc != 0) {
            return rc;
        }
        json_array_insert_new(items, 0, item);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    struct far_row_head_progress progress;
    json_t *items = json_array();
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        struct names names = {&view.state, &request->arena, err};
        rc = get_progress(&names, &progress);
        rc = rc != 0 ? rc : list(&names, items);
        far_api_view_end(request, &view);
    }
    if (rc != 0) {
        json_decref(items);
        return rc;
    }
    *ret_answer = json_pack("{s:o, s:o, s:o}", "items", items, "proposed_seq", far_json_u64(progress.proposed_seq), "signed_seq",
                            far_json_u64(progress.signed_seq));
    return 0;
}

void far_api_log_heads(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
