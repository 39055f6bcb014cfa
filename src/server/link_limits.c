/* What a node may send, told when its stream begins and whenever it changes: see link.h.
 *
 * Shares depend on who holds sends, so many events may change them: they are computed for all nodes at once, not more often than every
 * 100 ms, and where that takes long, for a tenth of the time at most. A node of an older version is told nothing, and goes on as it did. */
#include "server/link_private.h"

#include "base/hash.h"
#include "base/logging.h"
#include "fsm/query.h"

#include <stdio.h>

enum { PACE_MS = 100, PACE_MS_MAX = 800, PACE_FACTOR = 10, ARENA_MAX = 64 * 1024 * 1024 };

/* "0.1.0+level.4": of an older one there is no such end. */
uint64_t far_link_level_of(struct far_slice version)
{
    static const char mark[] = "+level.";
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)version.len, version.len > 0 ? (const char *)version.data : "");
    const char *at = strstr(text, mark);
    unsigned level = 1;
    return at != NULL && sscanf(at + strlen(mark), "%3u", &level) == 1 && level > 1 ? level : 1;
}

static uint64_t hash_of(const struct far_node_limits *limits)
{
    const struct far_sub_plan_limit *plans = limits->plans.items;
    uint64_t hash = limits->bytes_per_s + 1;
    for (size_t i = 0; i < limits->plans.count; i++) {
        uint64_t parts[] = {hash, plans[i].plan_id, plans[i].bytes_per_s};
        hash = far_hash64_parts(far_slice(parts, sizeof parts), far_slice(NULL, 0), far_slice(NULL, 0));
    }
    return hash;
}

static void tell(struct session *session, const struct far_node_limits *limits)
{
    uint64_t hash = hash_of(limits);
    if (session->limits_told == hash) {
        return;
    }
    struct far_msg_limits message = {.bytes_per_s = limits->bytes_per_s, .plans = limits->plans};
    session->limits_told = hash;
    if (far_link_send(session, &far_schema_msg_limits, &message) != 0) {
        far_link_session_end(session); /* its next stream tells it */
    }
}

static bool knows(const struct session *session)
{
    return session->level >= far_schema_msg_limits.since(0) && session->state == SESSION_LIVE;
}

void far_link_begin_limits(struct session *session, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_list list = {.count = 0};
    struct far_error err = {0};
    if (!knows(session)) {
        return;
    }
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_query_limits(&view->state, session->node_id, 0, &arena, &list, &err);
    if (rc == 0) {
        tell(session, list.items);
    } else {
        far_logf(FAR_LEVEL_WARN, "link", "node %llu is not told its limits: %s", (unsigned long long)session->node_id, err.message);
    }
    far_arena_done(&arena);
}

static const struct far_node_limits *find(const struct far_list *list, uint64_t node_id)
{
    const struct far_node_limits *limits = list->items;
    for (size_t i = 0; i < list->count; i++) {
        if (limits[i].node_id == node_id) {
            return &limits[i];
        }
    }
    return NULL;
}

static void push(struct far_link *link, struct far_log_view *view)
{
    struct far_arena arena;
    struct far_list list;
    struct far_error err = {0};
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_query_limits(&view->state, 0, 0, &arena, &list, &err);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "nodes are not told their limits: %s", err.message);
    }
    for (struct session *s = link->sessions; rc == 0 && s != NULL; s = s->next) {
        const struct far_node_limits *limits = knows(s) ? find(&list, s->node_id) : NULL;
        if (limits != NULL) {
            tell(s, limits);
        }
    }
    far_arena_done(&arena);
}

/* Is there a limit, or was there one when nodes were told last? Else there is nothing to compute. */
static bool matters(struct far_link *link, struct far_log_view *view)
{
    struct far_error err = {0};
    bool had = link->has_limits;
    if (far_query_has_limits(&view->state, &link->has_limits, &err) != 0) {
        far_logf(FAR_LEVEL_WARN, "link", "limits cannot be read: %s", err.message);
        return false;
    }
    return had || link->has_limits;
}

uint64_t far_link_push_limits(struct far_link *link, struct far_log_view *view)
{
    uint64_t now_ms = uv_hrtime() / 1000000;
    if (!matters(link, view)) {
        return 0;
    }
    if (now_ms < link->limits_at_ms) {
        return link->limits_at_ms - now_ms;
    }
    push(link, view);
    uint64_t took_ms = uv_hrtime() / 1000000 - now_ms;
    uint64_t pause_ms = PACE_FACTOR * took_ms > PACE_MS ? PACE_FACTOR * took_ms : PACE_MS;
    link->limits_at_ms = now_ms + (pause_ms < PACE_MS_MAX ? pause_ms : PACE_MS_MAX);
    return 0;
}
