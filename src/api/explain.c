/* Explanations: from an object as it is back through the events that made it so, and their causes.
 *
 * The history says in which stretches of events the object's row changed (far_log_view_changed); only those are folded, with
 * an eye on the row before and after each event. Who gave the command is in the event. A point or checkpoint was made by a
 * job, a job by a person's command or by its plan, a plan's cycles run because somebody started it, a server or node joined with a
 * token that somebody made: that is the chain under "because", each link with the event that it hangs on. On the worker's thread.
 *
 * Where progress was compacted (log/compact.h), a report in its place that says nothing but that the node lives keeps the fold
 * going: it finds the same events, but how far tasks were and until when leases ran is not known there. What was found behind one
 * says "compacted". */
#include "api/event_text.h"
#include "api/request.h"

#include "fsm/query.h"

#include <stdlib.h>

enum { STRETCHES_MAX = 16, DEPTH_MAX = 5, EVENT_ARENA_MAX = 1024 * 1024, SCRATCH_MAX = 256 * 1024 };

struct object {
    const struct far_schema *table; /* NULL: none */
    uint64_t id;
    uint8_t hash[32]; /* of a token: its key; its id is known when its row is seen */
};

struct explainer {
    struct far_api_request *request;
    struct far_log_view view; /* the state that is explained */
    struct far_arena scratch;
};

static const struct far_schema *const tables[] = {
    &far_schema_row_server, &far_schema_row_site, &far_schema_row_node,  &far_schema_row_workload,
    &far_schema_row_plan,   &far_schema_row_job,  &far_schema_row_point, &far_schema_row_checkpoint, &far_schema_row_consumer,
    &far_schema_row_alert, &far_schema_row_zone, &far_schema_row_domain,
    &far_schema_row_throttle,      /* these two only with the kind before it: by the id of its node, plan or site, */
    &far_schema_row_skipped_entry, /* by the entry's index */
};
enum { TABLES = sizeof tables / sizeof tables[0], TABLES_BY_ID = TABLES - 2 };

static struct far_key key_of(struct object object)
{
    struct far_key key = far_key(object.table);
    if (object.table == &far_schema_row_token) {
        far_key_bytes(&key, far_slice(object.hash, sizeof object.hash));
    } else {
        far_key_u64(&key, object.id);
    }
    return key;
}

static struct far_slice slice_of(const struct far_key *key)
{
    return far_slice(key->bytes, key->len);
}

/* ---- watching a row ---- */

struct watch {
    struct far_slice key;
    uint64_t from, to;
    size_t max;          /* the newest so many are kept */
    bool first_only;     /* stop at the first */
    bool is_compacted;   /* an event without its payload was among those before */
    const char *becomes; /* only changes after which the field "state" has this value; NULL: all */
    json_t *found;       /* oldest first */
};

static bool is_wanted(const struct watch *watch, const json_t *change)
{
    const json_t *before = json_object_get(json_object_get(change, "before"), "state");
    const json_t *after = json_object_get(json_object_get(change, "after"), "state");
    const char *state = json_string_value(after);
    return watch->becomes == NULL || (state != NULL && before != NULL && strcmp(state, watch->becomes) == 0);
}

static int note(struct watch *watch, const struct far_event *event, struct far_slice before, struct far_slice after,
                struct far_arena *arena, struct far_error *err)
{
    json_t *change = NULL;
    int rc = far_api_change_json(watch->key, before, after, &change, err);
    if (rc != 0) {
        return rc;
    }
    if (is_wanted(watch, change)) {
        json_t *entry = json_pack("{s:o, s:O, s:O, s:O}", "event", far_event_as_json(event, arena), "change",
                                  json_object_get(change, "change"), "before", json_object_get(change, "before"), "after",
                                  json_object_get(change, "after"));
        if (watch->is_compacted) {
            json_object_set_new(entry, "compacted", json_true());
        }
        json_array_append_new(watch->found, entry);
        if (json_array_size(watch->found) > watch->max) {
            json_array_remove(watch->found, 0);
        }
    }
    json_decref(change);
    return 0;
}

/* What the state holds under the key, copied; no data if nothing. */
static int copy_of(struct far_state *state, struct far_slice key, uint8_t copy[FAR_KV_VALUE_MAX], struct far_slice *ret_value,
                   struct far_error *err)
{
    struct far_slice value;
    int rc = state->kv->ops->get(state->kv, key, &value, err);
    *ret_value = far_slice(NULL, 0);
    if (rc == 0 && value.len <= FAR_KV_VALUE_MAX) {
        memcpy(copy, value.data, value.len);
        *ret_value = far_slice(copy, value.len);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

enum { LEASE_MS = 15000, REPORT_MAX = 64 };

/* A report of the node that a compacted event came from, without what it said. */
static int evolve_compacted(struct far_state *state, const struct far_event *event, struct far_arena *arena, struct far_error *err)
{
    struct far_ev_node_reported report = {.node_id = event->actor & 0x00ffffffffffffffu, .lease_until_ms = event->time_ms + LEASE_MS};
    struct far_event standing = *event;
    struct far_row_node node;
    struct far_key key = far_key(&far_schema_row_node);
    struct far_buf payload;
    far_key_u64(&key, report.node_id);
    int rc = far_state_get(state, &far_schema_row_node, &key, arena, &node, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? far_fail(err, rc, "event %llu is compacted: what was before it cannot be explained",
                                              (unsigned long long)event->seq)
                                   : rc;
    }
    report.sequence = node.sequence;
    far_buf_init(&payload, REPORT_MAX);
    rc = far_schema_encode(&far_schema_ev_node_reported, &report, &payload, err);
    standing.payload = far_buf_slice(&payload);
    standing.compacted_len = 0;
    rc = rc != 0 ? rc : far_fsm_evolve(state, &standing, err);
    far_buf_done(&payload);
    return rc;
}

static int watch_event(struct watch *watch, struct far_state *state, const struct far_event *event, struct far_arena *arena,
                       struct far_error *err)
{
    uint8_t was[FAR_KV_VALUE_MAX], is[FAR_KV_VALUE_MAX];
    struct far_slice before, after;
    if (event->compacted_len != 0) {
        watch->is_compacted = true;
        return evolve_compacted(state, event, arena, err);
    }
    int rc = copy_of(state, watch->key, was, &before, err);
    rc = rc != 0 ? rc : far_fsm_evolve(state, event, err);
    rc = rc != 0 ? rc : copy_of(state, watch->key, is, &after, err);
    bool differs = rc == 0 && ((before.data == NULL) != (after.data == NULL) || !far_slice_equal(before, after));
    return differs ? note(watch, event, before, after, arena, err) : rc;
}

/* Folds the stretch and notes what changed the row. */
static int watch_stretch(struct explainer *explainer, struct watch *watch, struct far_error *err)
{
    const struct far_api *api = explainer->request->api;
    struct far_moment start = {FAR_MOMENT_SEQ, watch->from - 1};
    struct far_log_view view;
    struct far_arena arena;
    int rc = api->hooks.view_begin(api->arg, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, EVENT_ARENA_MAX);
    watch->is_compacted = false;
    rc = api->hooks.view_past(api->arg, &view, &start, err); /* ours alone: it may be written on */
    for (uint64_t seq = watch->from; rc == 0 && seq <= watch->to; seq++) {
        struct far_event event;
        far_arena_reset(&arena);
        rc = api->hooks.view_event(api->arg, &view, seq, &arena, &event, NULL, err);
        rc = rc != 0 ? rc : watch_event(watch, &view.state, &event, &arena, err);
        if (watch->first_only && json_array_size(watch->found) > 0) {
            break;
        }
    }
    far_arena_done(&arena);
    api->hooks.view_end(api->arg, &view);
    return rc;
}

/* The newest stretch before `before` in which the row changed, up to event `last`. */
static int stretch_of(struct explainer *explainer, struct far_slice key, uint64_t before, uint64_t last, struct watch *watch,
                      struct far_error *err)
{
    const struct far_api *api = explainer->request->api;
    int rc = api->hooks.view_changed(api->arg, &explainer->view, key, before, &watch->from, &watch->to, err);
    watch->to = watch->to > last ? last : watch->to;
    return rc;
}

/* ---- who and why ---- */

static int name_in(struct explainer *explainer, const struct far_schema *table, uint64_t id, struct far_slice *ret_name,
                   struct far_error *err)
{
    struct far_key key = key_of((struct object){.table = table, .id = id});
    struct far_row_node node;
    struct far_row_server server;
    bool is_node = table == &far_schema_row_node;
    int rc = far_state_get(&explainer->view.state, table, &key, &explainer->scratch, is_node ? (void *)&node : (void *)&server, err);
    *ret_name = rc != 0 ? far_slice("", 0) : is_node ? node.name : server.name;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Adds to an entry who gave the command that the event came from. */
static int add_cause(struct explainer *explainer, json_t *entry, struct far_error *err)
{
    const json_t *event = json_object_get(entry, "event");
    const char *actor = json_string_value(json_object_get(event, "actor"));
    const char *colon = actor == NULL ? NULL : strchr(actor, ':');
    uint64_t id = colon == NULL ? 0 : strtoull(colon + 1, NULL, 10);
    struct far_slice name = far_slice("", 0);
    const char *by = "the cluster itself, at its time";
    int rc = 0;
    if (colon != NULL && strncmp(actor, "token", 5) == 0) {
        by = "a command of";
        rc = far_api_token_name(&explainer->view.state, id, &explainer->scratch, &name, err);
    } else if (colon != NULL && strncmp(actor, "node", 4) == 0) {
        by = "a report of";
        rc = name_in(explainer, &far_schema_row_node, id, &name, err);
    } else if (colon != NULL && strncmp(actor, "server", 6) == 0) {
        by = "a command of";
        rc = name_in(explainer, &far_schema_row_server, id, &name, err);
    }
    json_object_set_new(entry, "cause", json_pack("{s:s, s:O, s:o, s:O, s:O}", "by", by, "actor", json_object_get(event, "actor"),
                                                  "name", far_json_text(name), "command_id",
                                                  json_object_get(event, "command_id"), "proposed_at_ms",
                                                  json_object_get(event, "time_ms")));
    far_arena_reset(&explainer->scratch);
    return rc;
}

/* The event that made the object, or the last one before `before` that brought it into a state; NULL if none is known. */
static int link_of(struct explainer *explainer, struct object object, uint64_t before, const char *becomes,
                   json_t **ret_entry, struct far_error *err)
{
    struct far_key key = key_of(object);
    struct watch watch = {.key = slice_of(&key), .max = 1, .first_only = becomes == NULL, .becomes = becomes}, found = watch;
    bool some = false;
    int rc = 0;
    *ret_entry = NULL;
    watch.found = json_array();
    for (unsigned i = 0; rc == 0 && (becomes == NULL || i < STRETCHES_MAX) && json_array_size(watch.found) == 0; i++) {
        uint64_t from = some ? watch.from : before;
        rc = stretch_of(explainer, slice_of(&key), from, before - 1, &watch, err);
        some = some || rc == 0;
        if (rc == 0 && becomes != NULL) {
            rc = watch_stretch(explainer, &watch, err);
        }
        found = rc == 0 ? watch : found;
    }
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    if (rc == 0 && becomes == NULL && some) { /* the oldest stretch: there it was made */
        rc = watch_stretch(explainer, &found, err);
    }
    if (rc == 0 && json_array_size(watch.found) > 0) {
        *ret_entry = json_incref(json_array_get(watch.found, 0));
        rc = add_cause(explainer, *ret_entry, err);
    }
    json_decref(watch.found);
    return rc;
}

static uint64_t number_in(const json_t *entry, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(json_object_get(entry, "after"), name));
}

static bool is_of_a_person(const json_t *entry)
{
    const char *actor = json_string_value(json_object_get(json_object_get(entry, "cause"), "actor"));
    return actor != NULL && strncmp(actor, "token:", 6) == 0;
}

/* The token that the join used up, from the event's own bytes: its JSON shows no hash. */
static int token_of(struct explainer *explainer, const json_t *origin, struct object *ret_token, struct far_error *err)
{
    const struct far_api *api = explainer->request->api;
    struct far_ev_server_joined server;
    struct far_ev_node_joined node;
    struct far_ev_node_replaced place;
    struct far_event event;
    struct far_slice hash = {0};
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(json_object_get(origin, "event"), "seq"));
    int rc = api->hooks.view_event(api->arg, &explainer->view, seq, &explainer->scratch, &event, NULL, err);
    if (rc == 0 && event.kind == FAR_KIND_ev_server_joined) {
        rc = far_schema_decode(&far_schema_ev_server_joined, event.payload, &explainer->scratch, &server, err);
        hash = server.token_hash;
    } else if (rc == 0 && event.kind == FAR_KIND_ev_node_joined) {
        rc = far_schema_decode(&far_schema_ev_node_joined, event.payload, &explainer->scratch, &node, err);
        hash = node.token_hash;
    } else if (rc == 0 && event.kind == FAR_KIND_ev_node_replaced) {
        rc = far_schema_decode(&far_schema_ev_node_replaced, event.payload, &explainer->scratch, &place, err);
        hash = place.token_hash;
    }
    if (rc == 0 && hash.len == sizeof ret_token->hash) {
        ret_token->table = &far_schema_row_token;
        memcpy(ret_token->hash, hash.data, sizeof ret_token->hash);
    }
    far_arena_reset(&explainer->scratch);
    return rc == FAR_NOT_FOUND ? 0 : rc; /* it is no longer kept: the chain ends here */
}

/* Which object this one is because of; without a table: none, a command stands at the beginning. */
static int reason_of(struct explainer *explainer, struct object object, const json_t *origin, struct object *ret_reason,
                     struct far_error *err)
{
    *ret_reason = (struct object){.table = NULL};
    if (object.table == &far_schema_row_point || object.table == &far_schema_row_checkpoint) {
        *ret_reason = (struct object){.table = &far_schema_row_job, .id = number_in(origin, "job_id")};
    } else if (object.table == &far_schema_row_job && !is_of_a_person(origin)) {
        *ret_reason = (struct object){.table = &far_schema_row_plan, .id = number_in(origin, "plan_id")};
    } else if (object.table == &far_schema_row_server || object.table == &far_schema_row_node) {
        return token_of(explainer, origin, ret_reason, err);
    }
    ret_reason->table = ret_reason->id != 0 ? ret_reason->table : NULL;
    return 0;
}

static json_t *object_name(struct object object)
{
    return json_sprintf("%s:%llu", object.table->name, (unsigned long long)object.id);
}

/* The chain of causes of an object, link in link. */
static int because(struct explainer *explainer, struct object object, json_t **ret_because, struct far_error *err)
{
    uint64_t before = explainer->view.last_seq + 1;
    const char *becomes = NULL;
    json_t *chain = NULL, *end = NULL;
    int rc = 0;
    for (unsigned depth = 0; rc == 0 && object.table != NULL && depth < DEPTH_MAX; depth++) {
        json_t *origin = NULL;
        rc = link_of(explainer, object, before, becomes, &origin, err);
        if (rc == 0 && origin == NULL && becomes != NULL) {
            rc = link_of(explainer, object, before, NULL, &origin, err);
        }
        if (origin == NULL) {
            break;
        }
        object.id = object.id != 0 ? object.id : number_in(origin, "id");
        json_t *link = json_pack("{s:o, s:o, s:n}", "object", object_name(object), "origin", origin, "because");
        if (end == NULL) {
            chain = json_incref(link);
        } else {
            json_object_set(end, "because", link);
        }
        end = link;
        json_decref(link); /* the chain holds it */
        before = (uint64_t)json_integer_value(json_object_get(json_object_get(origin, "event"), "seq"));
        rc = reason_of(explainer, object, origin, &object, err);
        becomes = object.table == &far_schema_row_plan ? "active" : NULL;
    }
    if (rc != 0) {
        json_decref(chain);
        return rc;
    }
    *ret_because = chain;
    return 0;
}

/* ---- changes ---- */

/* The newest changes of the row, newest first. */
static int changes_of(struct explainer *explainer, struct object object, json_t **ret_changes, bool *ret_more,
                      struct far_error *err)
{
    struct far_key key = key_of(object);
    uint64_t before = explainer->view.last_seq + 1;
    size_t limit = explainer->request->query.limit;
    json_t *changes = json_array();
    int rc = 0;
    for (unsigned i = 0; rc == 0 && i < STRETCHES_MAX && json_array_size(changes) <= limit; i++) {
        struct watch watch = {.key = slice_of(&key), .max = limit + 1, .found = json_array()};
        rc = stretch_of(explainer, watch.key, before, explainer->view.last_seq, &watch, err);
        rc = rc != 0 ? rc : watch_stretch(explainer, &watch, err);
        for (size_t n = json_array_size(watch.found); rc == 0 && n > 0; n--) {
            json_array_append(changes, json_array_get(watch.found, n - 1));
        }
        before = watch.from;
        json_decref(watch.found);
    }
    *ret_more = rc == 0;
    while (json_array_size(changes) > limit) {
        *ret_more = true;
        json_array_remove(changes, json_array_size(changes) - 1);
    }
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    for (size_t i = 0; rc == 0 && i < json_array_size(changes); i++) {
        rc = add_cause(explainer, json_array_get(changes, i), err);
    }
    *ret_changes = changes;
    return rc;
}

/* ---- the object ---- */

static bool parse_id(struct far_slice text, uint64_t *ret_id)
{
    uint64_t id = 0;
    for (size_t i = 0; i < text.len; i++) {
        if (text.data[i] < '0' || text.data[i] > '9') {
            return false;
        }
        id = id * 10 + (uint64_t)(text.data[i] - '0');
    }
    *ret_id = id;
    return text.len > 0 && text.len <= 18 && id != 0;
}

/* Ids are of one object only: the table in which the row is, or of which the history knows. */
static int find_by_id(struct explainer *explainer, const struct far_schema *only, uint64_t id, struct object *ret_object,
                      struct far_error *err)
{
    struct far_kv *kv = explainer->view.state.kv;
    for (size_t i = 0; i < 2 * TABLES; i++) {
        struct object object = {.table = tables[i % TABLES], .id = id};
        bool is_meant = only != NULL ? only == object.table : i % TABLES < TABLES_BY_ID;
        struct far_key key = key_of(object);
        struct far_slice value;
        struct watch watch;
        if (!is_meant) {
            continue;
        }
        int rc = i < TABLES ? kv->ops->get(kv, slice_of(&key), &value, err)
                            : stretch_of(explainer, slice_of(&key), explainer->view.last_seq + 1, UINT64_MAX, &watch, err);
        if (rc != FAR_NOT_FOUND) {
            *ret_object = object;
            return rc;
        }
    }
    return far_fail(err, FAR_NOT_FOUND, "there is and was no object %llu that can be explained", (unsigned long long)id);
}

static int find_object(struct explainer *explainer, struct object *ret_object, struct far_error *err)
{
    struct far_slice text = explainer->request->query.object;
    const uint8_t *colon = text.len == 0 ? NULL : memchr(text.data, ':', text.len);
    uint64_t id = 0;
    if (parse_id(text, &id)) {
        return find_by_id(explainer, NULL, id, ret_object, err);
    }
    size_t len = colon == NULL ? 0 : (size_t)(colon - text.data);
    for (size_t i = 0; colon != NULL && i < TABLES; i++) {
        if (!far_slice_equal(far_slice(text.data, len), far_slice_str(tables[i]->name))) {
            continue;
        }
        struct far_slice name = far_slice(colon + 1, text.len - len - 1);
        *ret_object = (struct object){.table = tables[i]};
        if (parse_id(name, &id)) {
            return find_by_id(explainer, tables[i], id, ret_object, err);
        }
        return far_query_id(&explainer->view.state, tables[i], name, &ret_object->id, err);
    }
    return far_fail(err, FAR_INVALID, "argument 'object' must be an id, or a kind and a name like 'plan:web'; kinds are server, "
                                      "site, node, workload, plan, job, point, checkpoint, consumer, alert, zone, domain, throttle "
                                      "(with the id of its node, plan or site), skipped_entry (with the entry's number)");
}

static int explain(struct explainer *explainer, json_t **ret_answer, struct far_error *err)
{
    struct object object = {.table = NULL};
    json_t *changes = NULL, *chain = NULL, *change = NULL;
    uint8_t copy[FAR_KV_VALUE_MAX];
    struct far_slice value = {0};
    bool more = false;
    int rc = find_object(explainer, &object, err);
    if (rc != 0) {
        return rc;
    }
    struct far_key key = key_of(object);
    rc = copy_of(&explainer->view.state, slice_of(&key), copy, &value, err);
    rc = rc != 0 || value.data == NULL ? rc : far_api_change_json(slice_of(&key), far_slice(NULL, 0), value, &change, err);
    rc = rc != 0 ? rc : changes_of(explainer, object, &changes, &more, err);
    rc = rc != 0 ? rc : because(explainer, object, &chain, err);
    if (rc == 0) {
        json_t *row = json_object_get(change, "after");
        *ret_answer = json_pack("{s:o, s:o, s:O*, s:O, s:b, s:O*}", "object", object_name(object), "id",
                                far_json_u64(object.id), "row", row, "changes", changes, "more", more, "because", chain);
    }
    json_decref(change);
    json_decref(changes);
    json_decref(chain);
    return rc;
}

static int compute(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct explainer explainer = {.request = request};
    int rc = far_api_view(request, &explainer.view, err);
    if (rc == 0) {
        far_arena_init(&explainer.scratch, SCRATCH_MAX);
        rc = explain(&explainer, ret_answer, err);
        far_arena_done(&explainer.scratch);
        far_api_view_end(request, &explainer.view);
    }
    return rc;
}

void far_api_log_explain(struct far_api_request *request)
{
    far_api_compute(request, 200, compute);
}
