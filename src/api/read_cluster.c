/* The cluster, seen from this server: what raft knows, what each server says of itself, which failures it survives now; and
 * the place of the log. */
#include "api/request.h"

#include "base/clock.h"

#include "fsm/layout.h"

enum { UP_MS_MAX = 5000 /* since a server said something */, SCRATCH_MAX = 1024 * 1024 };

static json_t *digest_to_json(struct far_hash128 digest)
{
    uint8_t bytes[16];
    far_put_be64(bytes, digest.high);
    far_put_be64(bytes + 8, digest.low);
    return far_json_hex(bytes, sizeof bytes);
}

static json_t *log_to_json(const struct far_log_view *view, uint64_t server_id)
{
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o}", "seq", far_json_u64(view->last_seq), "first_seq",
                     far_json_u64(view->first_seq), "head", far_json_hex(view->head, sizeof view->head), "digest",
                     digest_to_json(view->digest), "applied_index", far_json_u64(view->applied_index), "server_id",
                     far_json_u64(server_id));
}

/* null: never. */
static json_t *age_to_json(uint64_t age_ms)
{
    return age_ms == UINT64_MAX ? json_null() : far_json_u64(age_ms);
}

/* null: all is well. */
static json_t *safe_to_json(const struct far_log_status *status)
{
    uint8_t hash[8];
    far_put_be64(hash, status->safe_hash);
    return status->safe_index == 0
               ? json_null()
               : json_pack("{s:o, s:o, s:s}", "index", far_json_u64(status->safe_index), "entry_hash",
                           status->safe_hash == 0 ? json_null() : far_json_hex(hash, sizeof hash), "commands",
                           status->safe_commands);
}

static json_t *status_to_json(const struct far_log_status *status)
{
    return json_pack("{s:o, s:o, s:o, s:b, s:b, s:o, s:o, s:o, s:o, s:o, s:o, s:o, s:I, s:b, s:o}", "id",
                     far_json_u64(status->server_id), "leader_id", far_json_u64(status->leader_id), "term",
                     far_json_u64(status->term), "is_leader", status->is_leader, "stale", status->stale, "commit_index",
                     far_json_u64(status->commit_index), "applied_index", far_json_u64(status->applied_index),
                     "durable_index", far_json_u64(status->durable_index), "last_index",
                     far_json_u64(status->last_index), "last_term", far_json_u64(status->last_term),
                     "leader_contact_age_ms",
                     age_to_json(status->leader_contact_age_ms), "free_bytes", far_json_u64(status->free_bytes),
                     "clock_offset_ms", (json_int_t)status->clock_offset_ms, "clock_is_suspect",
                     status->clock_is_suspect, "safe_mode", safe_to_json(status));
}

/* null: nobody claims anything. */
static json_t *claims_to_json(const struct far_api *api)
{
    struct far_api_claims claims = {.epoch = 0};
    if (api->hooks.claims != NULL) {
        api->hooks.claims(api->arg, &claims);
    }
    return claims.epoch == 0 ? json_null()
                             : json_pack("{s:o, s:I, s:o, s:o}", "epoch", far_json_u64(claims.epoch), "nodes",
                                         (json_int_t)claims.nodes, "node_id", far_json_u64(claims.node_id), "age_ms",
                                         far_json_u64(claims.age_ms));
}

/* Cluster time as near as it can be told here, and what the log last said of the servers' clocks (docs/STATE.md). */
static int clock_to_json(struct far_state *state, struct far_arena *arena, json_t **ret_json, struct far_error *err)
{
    struct far_row_progress row;
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t wall_ms = far_clock_wall_ms();
    int rc = far_state_get(state, &far_schema_row_progress, &key, arena, &row, err);
    if (rc == 0) {
        uint64_t verdict = row.clock_verdict != 0 ? row.clock_verdict : (uint64_t)FAR_clock_verdict_good;
        *ret_json = json_pack("{s:o, s:s, s:o}", "time_ms", far_json_u64(row.time_ms > wall_ms ? row.time_ms : wall_ms), "verdict",
                              far_enum_name(&far_enum_clock_verdict, verdict), "off_ms", far_json_u64(row.clock_off_ms));
    }
    return rc;
}

/* ---- members ---- */

struct walk {
    struct far_log_view *view;
    const struct far_log_status *status;
    struct far_arena *arena;
};

bool far_api_member_is_up(const struct far_log_status *status, const struct far_log_member *member)
{
    return member->id == status->server_id || (member->connected && member->about_age_ms <= UP_MS_MAX) ||
           member->contact_age_ms <= UP_MS_MAX;
}

/* The name of a row, and the row; "" if there is none. */
static int find(struct walk *walk, const struct far_schema *table, uint64_t id, void *row, bool *ret_found,
                struct far_error *err)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    int rc = id == 0 ? FAR_NOT_FOUND : far_state_get(&walk->view->state, table, &key, walk->arena, row, err);
    *ret_found = rc == 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static json_t *said_to_json(const struct far_log_member *member)
{
    static const char *const verdicts[] = {"unknown", "equal", "differs"};
    const struct far_about *about = &member->about;
    return json_pack("{s:o, s:o, s:o, s:o, s:o, s:o, s:s, s:o, s:o, s:s, s:o, s:b}", "said_age_ms",
                     age_to_json(member->about_age_ms), "applied_index", far_json_u64(about->applied_index),
                     "durable_index", far_json_u64(about->durable_index), "first_seq", far_json_u64(about->first_seq),
                     "last_seq", far_json_u64(about->last_seq), "digest", digest_to_json(about->digest), "digest_state",
                     verdicts[member->digest_state], "clock_offset_ms",
                     member->has_clock ? json_integer((json_int_t)member->clock_offset_ms) : json_null(),
                     "feature_level", far_json_u64(about->feature_level), "version", about->version, "free_bytes",
                     far_json_u64(about->free_bytes), "safe_mode", about->is_safe);
}

static int member_to_json(struct walk *walk, const struct far_log_member *member, json_t **ret_json,
                          struct far_error *err)
{
    const struct far_log_status *status = walk->status;
    struct far_row_server server = {.id = 0};
    struct far_row_site site = {.id = 0};
    bool has_server, has_site = false;
    int rc = find(walk, &far_schema_row_server, member->id, &server, &has_server, err);
    rc = rc != 0 ? rc : find(walk, &far_schema_row_site, server.site_id, &site, &has_site, err);
    if (rc != 0) {
        return rc;
    }
    uint64_t lag = status->commit_index > member->match_index ? status->commit_index - member->match_index : 0;
    *ret_json = json_pack(
        "{s:o, s:o, s:o, s:s, s:o, s:o, s:b, s:b, s:b, s:o, s:o, s:o}", "id", far_json_u64(member->id), "name",
        far_json_text(server.name), "address", far_json_text(far_slice_str(member->address)), "role",
        far_enum_name(&far_enum_server_role, (uint64_t)member->role), "site", far_json_text(site.name), "site_role",
        has_site ? json_string(far_enum_name(&far_enum_site_role, site.role)) : json_null(), "leads",
        member->id == status->leader_id, "up", far_api_member_is_up(status, member), "connected", member->connected, "match_index",
        status->is_leader ? far_json_u64(member->match_index) : json_null(), "lag",
        status->is_leader ? far_json_u64(lag) : json_null(), "contact_age_ms", age_to_json(member->contact_age_ms));
    json_t *said = said_to_json(member);
    json_object_update(*ret_json, said);
    json_decref(said);
    return 0;
}

/* ---- what is survived ---- */

static json_t *layout_to_json(const struct far_layout *layout)
{
    char warning[FAR_MESSAGE_MAX];
    json_t *sites = json_array();
    for (size_t i = 0; i < layout->site_count; i++) {
        const struct far_layout_site *site = &layout->sites[i];
        json_array_append_new(sites, json_pack("{s:o, s:s, s:I, s:b}", "site", far_json_text(site->name), "role",
                                               far_enum_name(&far_enum_site_role, site->role), "voters",
                                               (json_int_t)site->voters, "survived", site->is_survived));
    }
    far_layout_warning(layout, warning, sizeof warning);
    return json_pack("{s:I, s:I, s:I, s:I, s:b, s:b, s:o, s:s}", "voters", (json_int_t)layout->voters, "up",
                     (json_int_t)layout->up, "majority", (json_int_t)layout->majority, "without_site",
                     (json_int_t)layout->homeless, "quorum", layout->has_quorum, "any_one_server",
                     layout->is_one_survived, "sites", sites, "warning", warning);
}

static int survives(struct walk *walk, json_t **ret_json, struct far_error *err)
{
    struct far_layout layout;
    uint64_t down[FAR_LOG_MEMBERS_MAX];
    size_t count = 0;
    for (size_t i = 0; i < walk->status->member_count; i++) {
        if (!far_api_member_is_up(walk->status, &walk->status->members[i])) {
            down[count++] = walk->status->members[i].id;
        }
    }
    int rc = far_layout_of(&walk->view->state, false, down, count, walk->arena, &layout, err);
    if (rc == 0) {
        *ret_json = layout_to_json(&layout);
    }
    return rc;
}

static int no_cluster(const struct walk *walk, bool is_past, struct far_error *err)
{
    return is_past ? far_fail(err, FAR_NOT_FOUND, "there was no cluster yet behind event %llu",
                              (unsigned long long)walk->view->last_seq)
                   : far_fail(err, FAR_BUSY, "this server holds no state yet");
}

static int cluster(struct walk *walk, bool is_past, json_t **ret_answer, struct far_error *err)
{
    struct far_row_cluster row;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_state_get(&walk->view->state, &far_schema_row_cluster, &key, walk->arena, &row, err);
    if (rc == FAR_NOT_FOUND) {
        return no_cluster(walk, is_past, err);
    }
    json_t *members = json_array(), *layout = NULL, *head = NULL, *clock = NULL;
    json_t *row_json = rc == 0 ? far_json_from_struct(&far_schema_row_cluster, &row) : NULL;
    for (size_t i = 0; rc == 0 && i < walk->status->member_count; i++) {
        json_t *member = NULL;
        rc = member_to_json(walk, &walk->status->members[i], &member, err);
        json_array_append_new(members, member);
    }
    rc = rc != 0 ? rc : survives(walk, &layout, err);
    rc = rc != 0 ? rc : far_api_signed_head(walk->view, walk->arena, &head, err);
    rc = rc != 0 ? rc : clock_to_json(&walk->view->state, walk->arena, &clock, err);
    *ret_answer = json_pack("{s:o*, s:o, s:o, s:o*, s:o, s:o*, s:o*}", "cluster", row_json, "server", status_to_json(walk->status),
                            "members", members, "survives", layout, "log",
                            log_to_json(walk->view, walk->status->server_id), "signed_head", head, "clock", clock);
    return rc;
}

static int compute_cluster(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    struct far_log_status status;
    struct far_arena arena;
    json_t *answer = NULL;
    int rc = far_api_view(request, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, SCRATCH_MAX);
    request->api->hooks.status(request->api->arg, &status);
    struct walk walk = {.view = &view, .status = &status, .arena = &arena};
    rc = cluster(&walk, request->query.at.kind != FAR_MOMENT_NOW, &answer, err);
    json_object_set_new(answer, "claimed_incarnation", claims_to_json(request->api));
    far_arena_done(&arena);
    far_api_view_end(request, &view);
    if (rc != 0) {
        json_decref(answer);
        return rc;
    }
    *ret_answer = answer;
    return 0;
}

void far_api_cluster(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_cluster);
}

/* ---- the log ---- */

static int compute_log_head(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct far_log_view view;
    struct far_log_status status;
    int rc = far_api_view(request, &view, err);
    if (rc == 0) {
        request->api->hooks.status(request->api->arg, &status);
        *ret_answer = log_to_json(&view, status.server_id);
        far_api_view_end(request, &view);
    }
    return rc;
}

void far_api_log_head(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_log_head);
}

void far_api_ready(struct far_api_request *request)
{
    struct far_log_status status;
    request->api->hooks.status(request->api->arg, &status);
    if (status.leader_id == 0 || status.stale || status.safe_index != 0) {
        struct far_error err;
        far_fail(&err, FAR_BUSY, status.safe_index != 0 ? "this server is in safe mode" : "this server knows no leader, or lags behind it");
        far_api_problem(request, 0, &err);
        return;
    }
    far_api_answer(request, 200, json_pack("{s:s, s:o}", "status", "ready", "leader_id", far_json_u64(status.leader_id)));
}
