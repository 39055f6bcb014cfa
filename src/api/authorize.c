/* Who asks: the bearer token of a request, and whether this server serves users at all.
 *
 * What the state says of a token is kept until the store commits anything, and then asked anew: so a token that was revoked,
 * or that has expired (time moves by commands), is good for not a moment longer than the state says. Only its hash is kept. */
#include "api/request.h"

#include "fsm/query.h"

#include <strings.h>

/* The hash of the request's bearer token. */
static int token_of(const struct far_api_request *request, uint8_t hash[32], struct far_error *err)
{
    const char *text = far_http_exchange_request(request->exchange)->authorization;
    uint8_t secret[32];
    if (strncasecmp(text, "Bearer ", 7) != 0 || !far_api_token_parse(text + 7, strlen(text + 7), secret)) {
        return far_fail(err, FAR_DENIED, "%s",
                        text[0] == '\0' ? "a token is needed: send the header 'Authorization: Bearer <token>'"
                                        : "this is no API token: those begin with 'far_'; a join token lets only servers and nodes join");
    }
    far_token_hash(secret, hash);
    return 0;
}

static int look_up(struct far_api_request *request, struct far_log_view *view, const uint8_t hash[32], uint64_t *ret_token_id,
                   struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_progress);
    struct far_row_progress progress;
    struct far_row_token token;
    int rc = far_state_get(&view->state, &far_schema_row_progress, &key, &request->arena, &progress, err);
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, FAR_BUSY, "this server holds no state yet");
    }
    if (rc == 0) {
        rc = far_query_token(&view->state, far_slice(hash, 32), FAR_token_purpose_api, progress.time_ms, &request->arena, &token,
                             err);
    }
    if (rc == 0) {
        *ret_token_id = token.id;
    }
    return rc;
}

int far_api_authorize(struct far_api_request *request, struct far_log_view *view, uint64_t *ret_token_id,
                      struct far_error *err)
{
    uint8_t hash[32];
    int rc = token_of(request, hash, err);
    return rc != 0 ? rc : look_up(request, view, hash, ret_token_id, err);
}

int far_api_let_in(struct far_api_request *request, struct far_error *err)
{
    struct far_api *api = request->api;
    struct far_log_glance glance;
    struct far_log_view view;
    uint8_t hash[32];
    int rc = token_of(request, hash, err);
    if (rc != 0) {
        return rc;
    }
    api->hooks.glance(api->arg, &glance); /* before the view, which is of this index or a newer one */
    struct far_api_known *known = &api->known[hash[0] % FAR_API_KNOWN_MAX];
    bool is_user = far_api_is_for_users(request->route);
    if (is_user && known->token_id != 0 && known->index == glance.committed_index && memcmp(known->hash, hash, sizeof hash) == 0) {
        request->token_id = known->token_id;
        return 0;
    }
    rc = api->hooks.view_begin_now(api->arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    rc = look_up(request, &view, hash, &request->token_id, err);
    rc = rc != 0 ? rc : far_api_check_witness(request, &view, err);
    far_api_view_end(request, &view);
    request->applied_index = 0;
    if (rc == 0 && is_user) {
        *known = (struct far_api_known){.token_id = request->token_id, .index = glance.committed_index};
        memcpy(known->hash, hash, sizeof hash);
    }
    return rc;
}

int far_api_token_name(struct far_state *state, uint64_t id, struct far_arena *arena, struct far_slice *ret_name,
                       struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_token);
    struct far_row_token row;
    int rc;
    *ret_name = far_slice("", 0);
    do {
        rc = far_state_next(state, &far_schema_row_token, &key, arena, NULL, &row, err);
    } while (rc == 0 && row.id != id);
    *ret_name = rc == 0 ? row.name : *ret_name;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}
