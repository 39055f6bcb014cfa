/* Writes: a body becomes a command, the command is proposed, its result is the answer.
 *
 * The command's id is the Idempotency-Key, or drawn here; whoever wants to repeat a request safely sends one. Tokens differ
 * in that their secret is made here (or sent, so that a repeated request is the same command) and shown once. */
#include "api/request.h"

#include "base/clock.h"
#include "base/random.h"

#include <inttypes.h>
#include <stdlib.h>

enum { JOIN_TOKEN_LIFE_MS = 3600 * 1000, CSR_MAX = 8192 };

/* ---- the body ---- */

/* The body as a JSON object; none at all is an empty object. */
static int body_of(struct far_api_request *request, json_t **ret_object, struct far_error *err)
{
    struct far_slice body = far_http_exchange_request(request->exchange)->body;
    if (body.len == 0) {
        *ret_object = json_object();
        return *ret_object != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    return far_json_parse(body, ret_object, err);
}

static const struct far_field *field_of(const struct far_schema *schema, const char *name)
{
    const struct far_field *field = schema->fields();
    while (field->type != FAR_TYPE_END && strcmp(field->name, name) != 0) {
        field++;
    }
    return field;
}

int far_api_fill_from_route(const struct far_api_request *request, void *object, struct far_error *err)
{
    const struct far_route *route = request->route;
    if (route->fixed_field != NULL) {
        const struct far_field *field = field_of(route->schema, route->fixed_field);
        *(uint64_t *)((uint8_t *)object + field->offset) = route->fixed_value;
    }
    if (route->path_field == NULL) {
        return 0;
    }
    const struct far_field *field = field_of(route->schema, route->path_field);
    void *at = (uint8_t *)object + field->offset;
    if (field->type == FAR_TYPE_STR) {
        *(struct far_slice *)at = far_slice_str(request->param);
        return 0;
    }
    size_t digits = strspn(request->param, "0123456789");
    if (request->param[digits] != '\0' || digits > 18) {
        return far_fail(err, FAR_INVALID, "'%s' is not an id: it must be a number", request->param);
    }
    *(uint64_t *)at = strtoull(request->param, NULL, 10);
    return 0;
}

/* ---- proposing ---- */

static void answer_problem(struct far_api_request *request)
{
    struct far_error err;
    far_fail(&err, request->result.klass, "%s", request->result.message);
    far_api_problem(request, 0, &err);
}

/* An id that nobody draws twice: a UUID of version 7 (RFC 9562) with a count within the millisecond. Ids that follow each other in
 * time lie side by side in every server's store: remembering one and forgetting the oldest touches no page of its own. */
static void draw_id(struct far_api *api, uint8_t id[16])
{
    enum { RANDOM = 8, COUNT_BITS = 12 };
    uint64_t now_ms = far_clock_wall_ms();
    if (api->random_left < RANDOM) {
        far_random_bytes(api->random, sizeof api->random);
        api->random_left = sizeof api->random;
    }
    uint64_t count = (now_ms << COUNT_BITS) > api->last_id ? now_ms << COUNT_BITS : api->last_id + 1; /* full: into the next */
    api->last_id = count;
    far_put_be64(id, (count >> COUNT_BITS) << 16 | 0x7000 | (count & ((1u << COUNT_BITS) - 1)));
    memcpy(id + 8, api->random + sizeof api->random - api->random_left, RANDOM);
    id[8] = (uint8_t)((id[8] & 0x3f) | 0x80);
    api->random_left -= RANDOM;
}

/* The answer to nearly every command: numbers only, so it is written as it is. */
static void answer_plain(struct far_api_request *request)
{
    const struct far_result *result = &request->result;
    char id[2 * sizeof request->command.id + 1];
    struct far_buf body;
    far_hex_encode(request->command.id, sizeof request->command.id, id);
    far_buf_init(&body, FAR_API_ANSWER_MAX);
    int rc = far_buf_printf(&body, "{\"command_id\":\"%s\",\"id\":%" PRIu64 ",\"repeated\":%s,\"seq_first\":%" PRIu64
                            ",\"seq_last\":%" PRIu64 ",\"index\":%" PRIu64 "}", id, result->object_id,
                            result->repeated ? "true" : "false", result->seq_first, result->seq_last, request->applied_index);
    if (rc != 0) {
        far_buf_done(&body);
        far_api_answer(request, request->route->status, NULL);
        return;
    }
    far_api_answer_bytes(request, request->route->status, "application/json", &body);
}

static void proposed(struct far_api_request *request)
{
    const struct far_result *result = &request->result;
    if (result->klass != 0) {
        answer_problem(request);
        return;
    }
    if (request->token_text == NULL && result->message[0] == '\0' && result->object_id <= INT64_MAX) {
        answer_plain(request);
        return;
    }
    json_t *answer = json_pack("{s:o*, s:o, s:b, s:o, s:o, s:o}", "command_id",
                               far_json_hex(request->command.id, sizeof request->command.id), "id",
                               far_json_u64(result->object_id), "repeated", result->repeated, "seq_first",
                               far_json_u64(result->seq_first), "seq_last", far_json_u64(result->seq_last), "index",
                               far_json_u64(request->applied_index));
    if (answer != NULL && request->token_text != NULL) {
        json_object_set_new(answer, "token", json_string(request->token_text));
    }
    if (answer != NULL && result->message[0] != '\0') {
        json_object_set_new(answer, "warning", json_string(result->message));
    }
    far_api_answer(request, request->route->status, answer);
}

int far_api_propose(struct far_api_request *request, const void *object, struct far_error *err)
{
    const struct far_schema *schema = request->route->schema;
    const char *key = far_http_exchange_request(request->exchange)->idempotency_key;
    struct far_command *command = &request->command;
    int rc = far_schema_encode(schema, object, &request->payload, err);
    if (rc == FAR_LIMIT) {
        return far_fail(err, FAR_INVALID, "the request says too much at once: as a command it may be %d bytes", FAR_COMMAND_PAYLOAD_MAX);
    }
    if (rc == 0 && key[0] != '\0') {
        rc = far_command_id_parse(key, command->id, err);
    } else {
        draw_id(request->api, command->id);
    }
    command->kind = schema->kind;
    command->version = schema->version;
    command->actor = far_actor(FAR_ACTOR_TOKEN, request->token_id);
    command->payload = far_buf_slice(&request->payload);
    if (rc == 0 && request->query.dry_run) {
        far_api_dry_run(request);
        return 0;
    }
    if (rc == 0) {
        rc = far_api_expect(request, proposed, err);
    }
    if (rc != 0) {
        return rc;
    }
    request->api->hooks.propose(request->api->arg, command, FAR_API_TIMEOUT_MS, far_api_done, request);
    return 0;
}

static int command(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    const struct far_route *route = request->route;
    void *object = far_arena_alloc(&request->arena, route->schema->size);
    if (object == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    int rc = far_json_to_struct(route->schema, body, &route->rule, &request->arena, object, err);
    rc = rc != 0 ? rc : far_api_fill_from_route(request, object, err);
    if (rc == 0 && route->keeps_history) {
        rc = far_api_check_history(request, object, err);
    }
    rc = rc != 0 ? rc : far_api_check_users_served(request, object, err);
    return rc != 0 ? rc : far_api_propose(request, object, err);
}

void far_api_with_body(struct far_api_request *request,
                       int (*make)(struct far_api_request *request, const json_t *body, struct far_error *err))
{
    struct far_error err;
    json_t *body = NULL;
    int rc = body_of(request, &body, &err);
    if (rc == 0) {
        rc = make(request, body, &err);
        json_decref(body);
    }
    if (rc != 0) {
        far_api_problem(request, 0, &err);
    }
}

void far_api_command(struct far_api_request *request)
{
    far_api_with_body(request, command);
}

/* ---- changes of what is there (RFC 7396, but that a list of disks names only those that move) ---- */

/* A new body in which "clear" lists the fields that are null; empty texts and lists, and 0, are as null. */
static json_t *without_nulls(const json_t *body)
{
    json_t *rest = json_object(), *clear = json_array(), *value;
    const char *key;
    json_object_foreach((json_t *)body, key, value)
    {
        bool is_number = json_is_integer(value) && json_integer_value(value) == 0 && strcmp(key, "revision") != 0;
        bool is_empty = is_number || json_is_null(value) || (json_is_string(value) && json_string_length(value) == 0) ||
                        (json_is_array(value) && json_array_size(value) == 0);
        if (is_empty) {
            json_array_append_new(clear, json_string(key));
        } else if (strcmp(key, "clear") == 0 && json_is_array(value)) {
            json_array_extend(clear, value);
        } else if (strcmp(key, "revision") != 0) {
            json_object_set(rest, key, value);
        }
    }
    if (json_array_size(clear) > 0) {
        json_object_set(rest, "clear", clear);
    }
    json_decref(clear);
    return rest;
}

/* The revision that must be there: If-Match, or the field for who cannot send headers. Every command of this kind has both fields. */
static int condition(struct far_api_request *request, const json_t *body, void *update, struct far_error *err)
{
    const struct far_schema *schema = request->route->schema;
    const char *header = far_http_exchange_request(request->exchange)->if_match;
    const json_t *field = json_object_get(body, "revision");
    bool is_any = true;
    if (field != NULL && (!json_is_integer(field) || json_integer_value(field) < 0)) {
        return far_fail(err, FAR_INVALID, "field 'revision' must be a number");
    }
    uint64_t revision = field != NULL ? (uint64_t)json_integer_value(field) : 0, stated = revision;
    int rc = header[0] != '\0' ? far_if_match_parse(header, &is_any, &stated, err) : 0;
    if (rc == 0 && field != NULL && !is_any && stated != revision) {
        return far_fail(err, FAR_INVALID, "the header If-Match and the field 'revision' name different revisions");
    }
    *(uint64_t *)((uint8_t *)update + field_of(schema, "revision")->offset) = stated;
    *(bool *)((uint8_t *)update + field_of(schema, "conditional")->offset) = field != NULL || !is_any;
    return rc;
}

static int patch(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    const struct far_route *route = request->route;
    void *update = far_arena_alloc(&request->arena, route->schema->size);
    json_t *rest = without_nulls(body);
    int rc = rest == NULL || update == NULL
                 ? far_fail(err, FAR_LIMIT, "no memory for the request")
                 : far_json_to_struct(route->schema, rest, &route->rule, &request->arena, update, err);
    json_decref(rest);
    rc = rc != 0 ? rc : far_api_fill_from_route(request, update, err);
    rc = rc != 0 ? rc : condition(request, body, update, err);
    return rc != 0 ? rc : far_api_propose(request, update, err);
}

void far_api_patch(struct far_api_request *request)
{
    far_api_with_body(request, patch);
}

/* ---- tokens ---- */

/* The secret of a token: sent by the client as 64 hexadecimal digits, or drawn. */
static int secret_of(const json_t *body, uint8_t secret[32], struct far_error *err)
{
    const json_t *sent = json_object_get(body, "secret");
    if (sent == NULL) {
        far_random_bytes(secret, 32);
        return 0;
    }
    if (!json_is_string(sent) || !far_hex_decode(json_string_value(sent), json_string_length(sent), secret, 32)) {
        return far_fail(err, FAR_INVALID, "field 'secret' must be 64 hexadecimal digits");
    }
    return 0;
}

static int token_text(struct far_api_request *request, const struct far_cmd_token_create *object,
                      const uint8_t secret[32], struct far_error *err)
{
    request->token_text = far_arena_alloc(&request->arena, FAR_JOIN_TOKEN_TEXT_MAX);
    if (request->token_text == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the token");
    }
    if (object->purpose == FAR_token_purpose_api) {
        far_api_token_print(secret, request->token_text);
        return 0;
    }
    char name[64];
    snprintf(name, sizeof name, "%.*s", (int)object->name.len, (const char *)object->name.data);
    return request->api->hooks.join_token(request->api->arg, object->purpose, name, secret, request->token_text, err);
}

/* Cluster time as near as it can be told here: the state's may be ahead of all clocks, and this one ahead of the last command. */
static int cluster_now(struct far_api_request *request, uint64_t *ret_ms, struct far_error *err)
{
    struct far_log_view view;
    struct far_row_progress row = {.time_ms = 0};
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t wall_ms = far_clock_wall_ms();
    int rc = request->api->hooks.view_begin_now(request->api->arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_state_get(&view.state, &far_schema_row_progress, &key, &request->arena, &row, err);
    far_api_view_end(request, &view);
    *ret_ms = row.time_ms > wall_ms ? row.time_ms : wall_ms;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int token(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    const struct far_schema *schema = request->route->schema;
    struct far_cmd_token_create object;
    uint8_t secret[32], hash[32];
    json_t *rest = json_copy((json_t *)body);
    json_object_del(rest, "secret");
    int rc = far_json_to_struct(schema, rest, &request->route->rule, &request->arena, &object, err);
    json_decref(rest);
    rc = rc != 0 ? rc : secret_of(body, secret, err);
    rc = rc != 0 ? rc : token_text(request, &object, secret, err);
    if (rc != 0) {
        return rc;
    }
    if (object.purpose == FAR_token_purpose_api && object.site.len > 0) {
        return far_fail(err, FAR_INVALID, "field 'site' does not fit: a token of a user or program stands at no site");
    }
    if (object.purpose != FAR_token_purpose_api && object.expires_ms == 0) {
        rc = cluster_now(request, &object.expires_ms, err);
        object.expires_ms += JOIN_TOKEN_LIFE_MS;
    }
    if (rc != 0) {
        return rc;
    }
    far_token_hash(secret, hash);
    object.hash = far_slice(hash, sizeof hash);
    return far_api_propose(request, &object, err);
}

void far_api_token(struct far_api_request *request)
{
    far_api_with_body(request, token);
}

/* ---- joining ---- */

static const struct join_field {
    const char *name;
    size_t max;
    bool required;
} join_fields[] = {
    {"token", FAR_JOIN_TOKEN_TEXT_MAX - 1, true}, {"csr", CSR_MAX, true},  {"name", 63, true}, {"party", 6, true},
    {"api_address", 255, false},                  {"peer_address", 255, false}, {"data_address", 255, false},
    {"seal_key", 64, false},
};
enum { JOIN_FIELDS = sizeof join_fields / sizeof join_fields[0] };

/* Copies the field's text into the arena; "" where it is not there. */
static int join_text(struct far_api_request *request, const json_t *body, const struct join_field *field,
                     const char **ret_text, struct far_error *err)
{
    const json_t *value = json_object_get(body, field->name);
    size_t len = json_string_length(value);
    if (value != NULL && !json_is_string(value)) {
        return far_fail(err, FAR_INVALID, "field '%s' must be a string", field->name);
    }
    if (len > field->max) {
        return far_fail(err, FAR_INVALID, "field '%s' is longer than %zu bytes", field->name, field->max);
    }
    if (len == 0 && field->required) {
        return far_fail(err, FAR_INVALID, "field '%s' is missing", field->name);
    }
    char *copy = far_arena_alloc(&request->arena, len + 1);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    memcpy(copy, len == 0 ? "" : json_string_value(value), len);
    *ret_text = copy;
    return 0;
}

static int join_texts(struct far_api_request *request, const json_t *body, const char *texts[JOIN_FIELDS],
                      struct far_error *err)
{
    const char *key;
    json_t *value;
    json_object_foreach((json_t *)body, key, value)
    {
        size_t i = 0;
        while (i < JOIN_FIELDS && strcmp(join_fields[i].name, key) != 0) {
            i++;
        }
        if (i == JOIN_FIELDS) {
            return far_fail(err, FAR_INVALID, "unknown field '%.64s'", key);
        }
    }
    for (size_t i = 0; i < JOIN_FIELDS; i++) {
        int rc = join_text(request, body, &join_fields[i], &texts[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static json_t *incarnations_to_json(const struct far_api_join_answer *answer)
{
    json_t *list = json_array();
    for (size_t i = 0; i < answer->incarnation_count; i++) {
        const struct far_api_incarnation *one = &answer->incarnations[i];
        json_array_append_new(list, json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "epoch", far_json_u64(one->epoch), "uuid",
                                              far_json_hex(one->uuid, sizeof one->uuid), "parent_seq",
                                              far_json_u64(one->parent_seq), "parent_head",
                                              far_json_hex(one->parent_head, sizeof one->parent_head), "sure_seq",
                                              far_json_u64(one->sure_seq), "sure_head",
                                              far_json_hex(one->sure_head, sizeof one->sure_head)));
    }
    return list;
}

static json_t *join_to_json(const struct far_api_join_answer *answer)
{
    json_t *servers = json_array();
    for (size_t i = 0; i < answer->server_count; i++) {
        json_array_append_new(servers, json_pack("{s:o, s:s}", "id", far_json_u64(answer->server_ids[i]), "address",
                                                 answer->server_addresses[i]));
    }
    json_t *vault = answer->vault != NULL ? json_string(answer->vault) : json_null();
    return json_pack("{s:o, s:o, s:s, s:o, s:o, s:s, s:s, s:o, s:o}", "id", far_json_u64(answer->id), "cluster_uuid",
                     far_json_hex(answer->cluster_uuid, sizeof answer->cluster_uuid), "cluster", answer->cluster,
                     "incarnation_epoch", far_json_u64(answer->incarnation_epoch), "incarnations",
                     incarnations_to_json(answer), "certificate", answer->certificate,
                     "ca_certificate", answer->ca_certificate, "servers", servers, "vault", vault);
}

/* Any thread. */
static void join_done(void *arg, const struct far_error *error, const struct far_api_join_answer *answer)
{
    struct far_api_request *request = arg;
    struct far_error err = {0};
    if (error != NULL && error->klass != 0) {
        err = *error;
    } else {
        json_t *json = join_to_json(answer);
        far_json_write(json, &request->made, &err);
        json_decref(json);
    }
    struct far_result result = {.klass = err.klass};
    memcpy(result.message, err.message, sizeof result.message);
    far_api_done(request, &result, 0);
}

static void joined(struct far_api_request *request)
{
    if (request->result.klass != 0) {
        answer_problem(request);
        return;
    }
    far_api_answer_bytes(request, request->route->status, "application/json", &request->made);
}

/* A header, not a field: 0.1.0 refuses unknown fields, and says nothing itself. */
static int level_of(struct far_api_request *request, uint64_t *ret_level, struct far_error *err)
{
    const char *text = far_http_exchange_request(request->exchange)->feature_level;
    size_t len = strlen(text);
    if (len > 9 || strspn(text, "0123456789") != len) {
        return far_fail(err, FAR_INVALID, "the header Farshore-Feature-Level must be a number");
    }
    *ret_level = len == 0 ? 1 : strtoull(text, NULL, 10);
    return 0;
}

static int join(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    const char *texts[JOIN_FIELDS];
    int rc = join_texts(request, body, texts, err);
    if (rc != 0) {
        return rc;
    }
    struct far_api_join_request join_request = {
        .token = texts[0],       .csr = texts[1],          .name = texts[2],         .party = texts[3],
        .api_address = texts[4], .peer_address = texts[5], .data_address = texts[6],
    };
    bool server = strcmp(join_request.party, "server") == 0;
    if (!server && strcmp(join_request.party, "node") != 0) {
        return far_fail(err, FAR_INVALID, "field 'party' must be one of 'server' 'node'");
    }
    if (server && (!far_hex_decode(texts[7], strlen(texts[7]), join_request.seal_key, 32) || *texts[4] == '\0' ||
                   *texts[5] == '\0')) {
        return far_fail(err, FAR_INVALID, "a server needs 'api_address', 'peer_address' and 'seal_key' (64 "
                                          "hexadecimal digits)");
    }
    rc = level_of(request, &join_request.feature_level, err);
    if (rc != 0) {
        return rc;
    }
    if (request->query.dry_run) {
        rc = request->api->hooks.join_command(request->api->arg, &join_request, &request->command, &request->payload, err);
        if (rc == 0) {
            far_api_dry_run(request);
        }
        return rc;
    }
    rc = far_api_expect(request, joined, err);
    if (rc == 0) {
        request->api->hooks.join(request->api->arg, &join_request, join_done, request);
    }
    return rc;
}

void far_api_join(struct far_api_request *request)
{
    far_api_with_body(request, join);
}
