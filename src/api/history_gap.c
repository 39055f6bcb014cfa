/* Who holds which events. A server that joined or installed a state fetches the events before it in its own time (log_peers.c).
 * Meanwhile it must not tell its oldest event as the beginning: whoever asks for what is older, and is kept by another server, is
 * sent there. And the only server that holds some events is not taken out of the cluster unless that is really wanted.
 *
 * Events that no server holds any more are never cut by the retention, which asks for servers that hold them: an operator gives them up
 * (history_forget), exactly those that no member has, once every member said so. */
#include "api/request.h"
#include "fsm/query.h"

enum { HEARD_MS_MAX = 10 * 1000 }; /* what a server said of itself longer ago does not count */

/* Another server that has older events than this one; NULL: none is known of. */
static const struct far_log_member *find_older(const struct far_log_status *status, uint64_t first_seq)
{
    const struct far_log_member *oldest = NULL;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        if (m->id != status->server_id && m->about_age_ms <= HEARD_MS_MAX && m->about.first_seq != 0 &&
            m->about.first_seq < first_seq && (oldest == NULL || m->about.first_seq < oldest->about.first_seq)) {
            oldest = m;
        }
    }
    return oldest;
}

/* A server is there that has not said yet what it holds: in the first second with it. */
static bool is_one_unheard(const struct far_log_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        if (m->id != id && m->id != status->server_id && m->connected && m->about_age_ms == UINT64_MAX) {
            return true;
        }
    }
    return false;
}

/* The oldest event that the cluster keeps: those before it were cut. */
static int first_kept(struct far_api_request *request, struct far_log_view *view, uint64_t *ret_seq, struct far_error *err)
{
    struct far_row_retention row;
    struct far_key key = far_key(&far_schema_row_retention);
    int rc = far_state_get(&view->state, &far_schema_row_retention, &key, &request->arena, &row, err);
    *ret_seq = rc == 0 && row.first_seq != 0 ? row.first_seq : 1;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_api_check_oldest(struct far_api_request *request, struct far_log_view *view, uint64_t wanted_seq, struct far_error *err)
{
    const struct far_api *api = request->api;
    struct far_log_status status;
    struct far_row_server server;
    uint64_t kept;
    int rc = first_kept(request, view, &kept, err);
    if (rc != 0 || kept >= view->first_seq || wanted_seq >= view->first_seq) {
        return rc;
    }
    api->hooks.status(api->arg, &status);
    const struct far_log_member *member = find_older(&status, view->first_seq);
    if (member == NULL) {
        return !is_one_unheard(&status, 0) ? 0
                                           : far_fail(err, FAR_BUSY, "this server still fetches the events before %llu, and has not "
                                                      "heard yet which other one has them: ask another one, or this one later",
                                                      (unsigned long long)view->first_seq);
    }
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, member->id);
    rc = far_state_get(&view->state, &far_schema_row_server, &key, &request->arena, &server, err);
    struct far_slice address = rc == 0 ? server.api_address : far_slice_str("?");
    return far_fail(err, FAR_BUSY, "this server still fetches the events before %llu: ask server %llu at %.*s, which has them from "
                    "%llu on, or this one later", (unsigned long long)view->first_seq, (unsigned long long)member->id,
                    (int)address.len, (const char *)address.data, (unsigned long long)member->about.first_seq);
}

/* The oldest event that a server holds, also where it cannot show it yet, for the events that follow are still to be fetched. */
static uint64_t oldest_of(const struct far_log_member *m)
{
    return m->about.oldest_seq != 0 && m->about.oldest_seq < m->about.first_seq ? m->about.oldest_seq : m->about.first_seq;
}

/* The same, as it said last; 0: it never did, so it may hold everything. */
static uint64_t first_of(const struct far_log_status *status, uint64_t id, uint64_t own_first_seq)
{
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        if (m->id == id) {
            uint64_t oldest = oldest_of(m);
            return id != status->server_id ? (m->about_age_ms == UINT64_MAX ? 0 : oldest)
                                           : (oldest != 0 && oldest < own_first_seq ? oldest : own_first_seq);
        }
    }
    return UINT64_MAX; /* it is no member of the log, and holds nothing for it */
}

/* The oldest event that one of the others can show that are there. */
static uint64_t first_of_others(const struct far_log_status *status, uint64_t id, uint64_t own_first_seq)
{
    uint64_t first = status->server_id == id ? UINT64_MAX : own_first_seq;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        bool is_other = m->id != id && m->id != status->server_id && m->about_age_ms <= HEARD_MS_MAX && m->about.first_seq != 0;
        first = is_other && m->about.first_seq < first ? m->about.first_seq : first;
    }
    return first;
}

static int check_removal(struct far_api_request *request, struct far_log_view *view, struct far_slice name, struct far_error *err)
{
    struct far_log_status status;
    uint64_t id = 0, kept = 1;
    int rc = far_query_id(&view->state, &far_schema_row_server, name, &id, err);
    rc = rc != 0 ? rc : first_kept(request, view, &kept, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* the core says so better */
    }
    request->api->hooks.status(request->api->arg, &status);
    uint64_t own = view->first_seq == 0 ? 1 : view->first_seq, held = first_of(&status, id, own);
    uint64_t others = first_of_others(&status, id, own);
    if (others == UINT64_MAX && is_one_unheard(&status, id)) {
        return far_fail(err, FAR_CONFLICT, "server '%.*s' holds events that are kept, and the others that are there have not said yet "
                        "whether they have them: ask again in a second, or lose them with --force (force=true)", (int)name.len,
                        (const char *)name.data);
    }
    if (others <= kept || others <= held || others == UINT64_MAX) {
        return 0;
    }
    return far_fail(err, FAR_CONFLICT, "server '%.*s' %s the events before %llu, which are kept, and no other server that is there has "
                    "them: wait until one has fetched them (HISTORY of cluster status), or lose them with --force (force=true)",
                    (int)name.len, (const char *)name.data, held == 0 ? "may hold" : "holds", (unsigned long long)others);
}

/* ---- giving up what nobody holds ---- */

/* Every member said what it holds, and has all that another one has: else one may still hold, or find again, what is older. */
static int check_silent(const struct far_log_status *status, uint64_t own_first_seq, uint64_t first, struct far_error *err)
{
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        bool is_self = m->id == status->server_id;
        if (!is_self && (m->about_age_ms > HEARD_MS_MAX || m->about.first_seq == 0)) {
            return far_fail(err, FAR_CONFLICT, "server %llu has not said lately what it holds, so it may hold the events before %llu: "
                            "start it, or take it out, or give them up with --force (force=true)", (unsigned long long)m->id,
                            (unsigned long long)first);
        }
        if ((is_self ? own_first_seq : m->about.first_seq) > first) {
            return far_fail(err, FAR_CONFLICT, "server %llu still fetches older events: wait until it has them from %llu on, or give up "
                            "those before with --force (force=true)", (unsigned long long)m->id, (unsigned long long)first);
        }
        if (oldest_of(m) != 0 && oldest_of(m) < first) {
            return far_fail(err, FAR_CONFLICT, "server %llu keeps events from %llu on, and those between them and %llu are nowhere: give "
                            "all of them up with --force (force=true)", (unsigned long long)m->id, (unsigned long long)oldest_of(m),
                            (unsigned long long)first);
        }
    }
    return 0;
}

static int check_forget(struct far_api_request *request, struct far_log_view *view, const struct far_cmd_history_forget *command,
                        struct far_error *err)
{
    struct far_log_status status;
    uint64_t kept = 1, own = view->first_seq == 0 ? 1 : view->first_seq;
    int rc = first_kept(request, view, &kept, err);
    if (rc != 0 || command->before <= kept || command->before > view->last_seq + 1) {
        return rc; /* the core says so better */
    }
    request->api->hooks.status(request->api->arg, &status);
    uint64_t first = first_of_others(&status, 0, own); /* of all: none is left out */
    if (first < command->before) {
        return far_fail(err, FAR_CONFLICT, "a server holds the events from %llu on: only what none holds any more is given up; how long "
                        "events are kept says 'farshore log retention'", (unsigned long long)first);
    }
    if (first > command->before) {
        return far_fail(err, FAR_INVALID, "the oldest event that a server holds is %llu: the history can begin there, not at %llu",
                        (unsigned long long)first, (unsigned long long)command->before);
    }
    return request->query.force ? 0 : check_silent(&status, own, first, err);
}

int far_api_check_history(struct far_api_request *request, void *command, struct far_error *err)
{
    const struct far_cmd_server_role_set *role = command;
    struct far_cmd_history_forget *forget = command;
    struct far_log_view view;
    bool is_forget = request->route->schema == &far_schema_cmd_history_forget;
    if (is_forget) {
        forget->forced = request->query.force;
    } else if (request->query.force || role->role != FAR_server_role_removed) {
        return 0;
    }
    int rc = request->api->hooks.view_begin(request->api->arg, &view, err);
    if (rc == 0) {
        rc = is_forget ? check_forget(request, &view, forget, err) : check_removal(request, &view, role->name, err);
        request->api->hooks.view_end(request->api->arg, &view);
    }
    return rc;
}
