/* Dedup domains: made and given new keys. What is secret in the commands is drawn and sealed by the server's hook (server/domain_keys.h)
 * from the request's id, so that a request that is repeated is the same one. */
#include "api/request.h"

#include "base/random.h"
#include "fsm/query.h"

/* The id that the client gave the request; else what is drawn is drawn once. */
static int seed_of(struct far_api_request *request, uint8_t seed[16], struct far_error *err)
{
    const char *key = far_http_exchange_request(request->exchange)->idempotency_key;
    if (key[0] != '\0') {
        return far_command_id_parse(key, seed, err);
    }
    far_random_bytes(seed, 16);
    return 0;
}

static int seal(struct far_api_request *request, struct far_api_domain *domain, struct far_error *err)
{
    const struct far_api_hooks *hooks = &request->api->hooks;
    uint8_t seed[16];
    int rc = hooks->seal_domain != NULL ? seed_of(request, seed, err) : far_fail(err, FAR_INTERNAL, "this server seals no keys");
    return rc == 0 ? hooks->seal_domain(request->api->arg, seed, domain, err) : rc;
}

/* A domain of another cluster, whose vault is adopted: its uuid and secret come with the request and go no further than into the sealed
 * box. *ret_rest is the body without them. */
static int take_carried(const json_t *body, struct far_api_domain *domain, json_t **ret_rest, struct far_error *err)
{
    const char *uuid = json_string_value(json_object_get(body, "uuid")), *secret = json_string_value(json_object_get(body, "secret"));
    json_t *rest = json_deep_copy(body);
    if (rest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    *ret_rest = rest;
    if (json_object_get(body, "uuid") == NULL && json_object_get(body, "secret") == NULL) {
        return 0;
    }
    json_object_del(rest, "uuid");
    json_object_del(rest, "secret");
    domain->is_carried = true;
    bool fits = uuid != NULL && secret != NULL && strlen(uuid) == 32 && strlen(secret) == 64 &&
                far_hex_decode(uuid, 32, domain->uuid, 16) && far_hex_decode(secret, 64, domain->secret, 32);
    return fits ? 0
                : far_fail(err, FAR_INVALID,
                           "a domain of another cluster needs its 'uuid' (32 hexadecimal digits) and its 'secret' (64), as "
                           "'farshore-node vault keys' tells them");
}

static int create(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_domain_create *command = far_arena_alloc(&request->arena, sizeof *command);
    struct far_api_domain *domain = far_arena_alloc(&request->arena, sizeof *domain);
    if (command == NULL || domain == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    json_t *rest = NULL;
    *domain = (struct far_api_domain){.is_new = true, .generation = 1};
    int rc = take_carried(body, domain, &rest, err);
    rc = rc == 0 ? far_json_to_struct(request->route->schema, rest, &request->route->rule, &request->arena, command, err) : rc;
    json_decref(rest);
    rc = rc == 0 ? seal(request, domain, err) : rc;
    explicit_bzero(domain->secret, sizeof domain->secret);
    if (rc != 0) {
        return rc;
    }
    command->carried = domain->is_carried;
    command->uuid = far_slice(domain->uuid, sizeof domain->uuid);
    command->sealed_secret = far_slice(domain->sealed_secret, sizeof domain->sealed_secret);
    command->sealed_key = far_slice(domain->sealed_key, sizeof domain->sealed_key);
    return far_api_propose(request, command, err);
}

void far_api_domain_create(struct far_api_request *request)
{
    far_api_with_body(request, create);
}

/* The domain that gets a new key, as it is now. A repeated request finds it with that key already: it is sent as it was. */
static int find(struct far_api_request *request, struct far_slice name, struct far_row_domain *ret_row, struct far_error *err)
{
    struct far_log_view view;
    uint64_t id = 0;
    int rc = request->api->hooks.view_begin_now(request->api->arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_query_id(&view.state, &far_schema_row_domain, name, &id, err);
    if (rc == 0) {
        struct far_key key = far_key(&far_schema_row_domain);
        far_key_u64(&key, id);
        rc = far_state_get(&view.state, &far_schema_row_domain, &key, &request->arena, ret_row, err);
    }
    far_api_view_end(request, &view);
    return rc;
}

static int rotate(struct far_api_request *request, const json_t *body, struct far_error *err)
{
    struct far_cmd_domain_rotate *command = far_arena_alloc(&request->arena, sizeof *command);
    struct far_api_domain *domain = far_arena_alloc(&request->arena, sizeof *domain);
    struct far_row_domain row;
    if (command == NULL || domain == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the request");
    }
    int rc = far_json_to_struct(request->route->schema, body, &request->route->rule, &request->arena, command, err);
    rc = rc == 0 ? far_api_fill_from_route(request, command, err) : rc;
    rc = rc == 0 ? find(request, command->name, &row, err) : rc;
    if (rc == 0) {
        *domain = (struct far_api_domain){.generation = command->generation != 0 ? command->generation : row.generation + 1};
        memcpy(domain->uuid, row.uuid.data, row.uuid.len == 16 ? 16 : 0);
        rc = seal(request, domain, err);
    }
    if (rc != 0) {
        return rc;
    }
    command->generation = domain->generation;
    command->sealed_key = far_slice(domain->sealed_key, sizeof domain->sealed_key);
    return far_api_propose(request, command, err);
}

void far_api_domain_rotate(struct far_api_request *request)
{
    far_api_with_body(request, rotate);
}
