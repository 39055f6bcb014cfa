/* What changed between two moments, row by row: the events between them folded on an overlay of the state at the first. */
#include "api/request.h"

#include "fsm/kv_overlay.h"

enum { EVENTS_MAX = 131072, CHANGES_MAX = 20000, EVENT_ARENA_MAX = 1024 * 1024 };

struct stretch {
    uint64_t from_seq, to_seq;
    uint64_t until_ms; /* UINT64_MAX: no limit */
};

/* Folds one event after the other until the stretch ends; to_seq becomes the last one folded. */
static int fold(struct far_api_request *request, struct far_log_view *view, struct far_state *state,
                struct stretch *stretch, struct far_error *err)
{
    const struct far_api *api = request->api;
    struct far_arena arena;
    struct far_event event;
    uint64_t seq = stretch->from_seq;
    int rc = 0;
    far_arena_init(&arena, EVENT_ARENA_MAX);
    while (rc == 0 && seq < stretch->to_seq) {
        far_arena_reset(&arena);
        rc = api->hooks.view_event(api->arg, view, seq + 1, &arena, &event, NULL, err);
        if (rc == 0 && event.time_ms > stretch->until_ms) {
            break;
        }
        if (rc == 0 && seq - stretch->from_seq >= EVENTS_MAX) {
            rc = far_fail(err, FAR_LIMIT, "there are more than %d events between the two moments; ask for a shorter "
                                          "stretch", EVENTS_MAX);
        }
        rc = rc != 0 ? rc : far_fsm_evolve(state, &event, err);
        seq += rc == 0;
    }
    stretch->to_seq = seq;
    far_arena_done(&arena);
    return rc;
}

static int differences(struct far_api_request *request, struct far_log_view *view, struct stretch *stretch,
                       json_t **ret_answer, struct far_error *err)
{
    json_t *changes = NULL;
    bool more = false;
    struct far_state above = {.kv = far_kv_overlay_new(view->state.kv), .digest = view->state.digest};
    int rc = above.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for the differences") : 0;
    rc = rc != 0 ? rc : fold(request, view, &above, stretch, err);
    rc = rc != 0 ? rc : far_api_changes(view->state.kv, above.kv, CHANGES_MAX, &changes, &more, err);
    if (rc == 0) {
        *ret_answer = json_pack("{s:o, s:o, s:o, s:b}", "from_seq", far_json_u64(stretch->from_seq), "to_seq",
                                far_json_u64(stretch->to_seq), "changes", changes, "more", more);
    }
    far_kv_overlay_free(above.kv);
    return rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_api *api = request->api;
    const struct far_query *query = &request->query;
    struct far_log_view view;
    int rc = api->hooks.view_begin(api->arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    struct stretch stretch = {.to_seq = view.last_seq, .until_ms = UINT64_MAX};
    request->applied_index = view.applied_index;
    if (query->until.kind == FAR_MOMENT_TIME) {
        stretch.until_ms = query->until.value;
    } else if (query->until.kind == FAR_MOMENT_SEQ && query->until.value > view.last_seq) {
        rc = far_fail(err, FAR_NOT_FOUND, "event %llu is yet to come; the newest here is %llu",
                      (unsigned long long)query->until.value, (unsigned long long)view.last_seq);
    } else if (query->until.kind == FAR_MOMENT_SEQ) {
        stretch.to_seq = query->until.value;
    }
    rc = rc != 0 ? rc : api->hooks.view_past(api->arg, &view, &query->at, err);
    stretch.from_seq = view.last_seq;
    if (rc == 0 && stretch.from_seq > stretch.to_seq) {
        rc = far_fail(err, FAR_INVALID, "the second moment (event %llu) is before the first (event %llu)",
                      (unsigned long long)stretch.to_seq, (unsigned long long)stretch.from_seq);
    }
    rc = rc != 0 ? rc : differences(request, &view, &stretch, ret_answer, err);
    api->hooks.view_end(api->arg, &view);
    return rc;
}

void far_api_log_diff(struct far_api_request *request)
{
    if (request->query.at.kind == FAR_MOMENT_NOW) {
        struct far_error err;
        far_fail(&err, FAR_INVALID, "argument 'at' is missing: the moment from which on changes are to be shown");
        far_api_problem(request, 0, &err);
        return;
    }
    far_api_compute(request, 200, compute);
}
