/* The text of events, and what they are about: see event_text.h.
 *
 * What an event names is found by the names of its fields: a number called `id` or in the table below is the id of an object
 * (not object_id: that is how commands and deadlines are kept, not what happened to an object).
 * Ids come from one counter of the cluster, so an id alone says which object is meant. Of a compacted event only the node is known
 * that reported. */
#include "api/event_text.h"

#include "api/json.h"
#include "api/route.h"

enum { ARENA_MAX = 16 * 1024 * 1024, RELATED_MAX = 64 * 1024 };

static const struct naming {
    const char *field;
    const struct far_schema *table; /* NULL: rows of it are not keyed by their id */
} namings[] = {
    {"id", NULL},
    {"token_id", NULL},
    {"disk_id", NULL},
    {"server_id", &far_schema_row_server},
    {"recipient_id", &far_schema_row_server},
    {"site_id", &far_schema_row_site},
    {"source_site_id", &far_schema_row_site},
    {"target_site_id", &far_schema_row_site},
    {"node_id", &far_schema_row_node},
    {"workload_id", &far_schema_row_workload},
    {"workload_ids", &far_schema_row_workload},
    {"plan_id", &far_schema_row_plan},
    {"job_id", &far_schema_row_job},
    {"job_ids", &far_schema_row_job},
    {"checkpoint_id", &far_schema_row_checkpoint},
    {"point_id", &far_schema_row_point},
    {"point_ids", &far_schema_row_point},
    {"alert_id", &far_schema_row_alert},
};

static const struct naming *naming_of(const struct far_field *field)
{
    for (size_t i = 0; i < sizeof namings / sizeof namings[0]; i++) {
        if (strcmp(namings[i].field, field->name) == 0) {
            return &namings[i];
        }
    }
    return NULL;
}

/* ---- what an event names ---- */

static int add_reference(struct far_buf *references, uint64_t id, const struct far_schema *table)
{
    const struct far_event_reference *there = (const void *)references->data;
    size_t count = references->len / sizeof *there;
    for (size_t i = count; i > 0 && i + 16 > count; i--) { /* lists name the same job again and again */
        if (there[i - 1].id == id) {
            return 0;
        }
    }
    struct far_event_reference reference = {id, table};
    return id == 0 ? 0 : far_buf_append(references, &reference, sizeof reference);
}

/* The table of the object that an event is about by its name: "workload_created" of workloads. NULL: none keyed by ids. */
static const struct far_schema *own_table(const struct far_schema *event)
{
    const char *end = strrchr(event->name, '_');
    size_t len = end == NULL ? 0 : (size_t)(end - event->name);
    for (size_t i = 0; i < sizeof namings / sizeof namings[0]; i++) {
        const struct far_schema *table = namings[i].table;
        if (table != NULL && strlen(table->name) == len && memcmp(table->name, event->name, len) == 0) {
            return table;
        }
    }
    return NULL;
}

static int add_field(struct far_buf *references, const struct far_schema *own, const struct far_field *field,
                     const void *at)
{
    const struct naming *naming = naming_of(field);
    const struct far_list *list = at;
    int rc = 0;
    if (naming == NULL) {
        return 0;
    }
    if (field->type == FAR_TYPE_U64) {
        bool is_own = strcmp(field->name, "id") == 0;
        return add_reference(references, *(const uint64_t *)at, is_own ? own : naming->table);
    }
    for (size_t i = 0; field->type == FAR_TYPE_U64S && rc == 0 && i < list->count; i++) {
        rc = add_reference(references, ((const uint64_t *)list->items)[i], naming->table);
    }
    return rc;
}

static int add_fields(struct far_buf *references, const struct far_schema *schema, const void *object, bool *ret_secret)
{
    const struct far_schema *own = own_table(schema);
    int rc = 0;
    for (const struct far_field *field = schema->fields(); rc == 0 && field->type != FAR_TYPE_END; field++) {
        const void *at = (const uint8_t *)object + field->offset;
        const struct far_list *list = at;
        *ret_secret = *ret_secret || field->type == FAR_TYPE_SECRET;
        rc = field->type != FAR_TYPE_LIST ? add_field(references, own, field, at) : 0;
        for (size_t i = 0; field->type == FAR_TYPE_LIST && rc == 0 && i < list->count; i++) {
            const void *item = (const uint8_t *)list->items + i * field->element->size;
            for (const struct far_field *part = field->element->fields(); rc == 0 && part->type != FAR_TYPE_END; part++) {
                rc = add_field(references, NULL, part, (const uint8_t *)item + part->offset);
            }
        }
    }
    return rc;
}

/* ---- plans and sites of it ---- */

static int add_related(struct far_buf *related, uint64_t id)
{
    const uint64_t *there = (const void *)related->data;
    for (size_t i = 0; i < related->len / sizeof id; i++) {
        if (there[i] == id) {
            return 0;
        }
    }
    return far_buf_append(related, &id, sizeof id);
}

/* Appends the plan and the sites that the row of an object names, and those of its plan. */
static int relate(struct far_buf *related, struct far_state *state, const struct far_schema *table, uint64_t id,
                  struct far_arena *arena, struct far_error *err)
{
    uint64_t plan_id = 0;
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    void *row = far_arena_alloc(arena, table->size);
    int rc = row == NULL ? far_fail(err, FAR_LIMIT, "no memory for an event")
                         : far_state_get(state, table, &key, arena, row, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* it is gone: nothing more is known of it */
    }
    for (const struct far_field *field = table->fields(); rc == 0 && field->type != FAR_TYPE_END; field++) {
        const struct naming *naming = field->type == FAR_TYPE_U64 ? naming_of(field) : NULL;
        if (naming == NULL || (naming->table != &far_schema_row_plan && naming->table != &far_schema_row_site)) {
            continue;
        }
        uint64_t value = *(const uint64_t *)((const uint8_t *)row + field->offset);
        plan_id = naming->table == &far_schema_row_plan ? value : plan_id;
        rc = value == 0 || add_related(related, value) == 0 ? 0 : far_fail(err, FAR_LIMIT, "an event names too much");
    }
    return rc != 0 || plan_id == 0 ? rc : relate(related, state, &far_schema_row_plan, plan_id, arena, err);
}

int far_event_text_relate(struct far_event_text *text, struct far_state *state, struct far_error *err)
{
    const struct far_event_reference *references = (const void *)text->references.data;
    struct far_arena arena;
    int rc = 0;
    if (text->is_related) {
        return 0;
    }
    far_arena_init(&arena, ARENA_MAX);
    far_buf_reset(&text->related);
    for (size_t i = 0; rc == 0 && i < text->references.len / sizeof *references; i++) {
        if (references[i].table != NULL && references[i].table != &far_schema_row_site) {
            rc = relate(&text->related, state, references[i].table, references[i].id, &arena, err);
            far_arena_reset(&arena);
        }
    }
    far_arena_done(&arena);
    text->is_related = rc == 0;
    return rc;
}

/* ---- the text ---- */

/* head NULL: it has no place in the chain (yet). */
static json_t *event_to_json(const struct far_event *event, const struct far_schema *schema, const void *object,
                             uint64_t severity, const uint8_t *head)
{
    bool is_compacted = event->compacted_len != 0;
    json_t *data = object != NULL && !is_compacted ? far_json_from_struct(schema, object) : NULL;
    return json_pack("{s:o, s:o, s:s, s:i, s:s, s:o, s:o*, s:o*, s:o*, s:o*, s:o}", "seq", far_json_u64(event->seq), "index",
                     far_json_u64(event->index), "kind", schema != NULL ? schema->name : "unknown", "version",
                     (int)event->version, "severity", far_enum_name(&far_enum_severity, severity), "time_ms",
                     far_json_u64(event->time_ms), "actor", far_json_actor(event->actor), "command_id",
                     far_json_hex(event->command_id, sizeof event->command_id), "head",
                     head != NULL ? far_json_hex(head, FAR_HEAD_SIZE) : NULL, "compacted",
                     is_compacted ? json_true() : NULL, "data", data != NULL ? data : json_null());
}

/* NULL: this program does not know the kind, or the payload is none of it. Of a compacted event: an empty one. */
static void *decode(const struct far_event *event, const struct far_schema *schema, struct far_arena *arena)
{
    void *object = schema == NULL ? NULL : far_arena_alloc(arena, schema->size);
    if (event->compacted_len != 0) {
        return object;
    }
    return object != NULL && far_schema_decode(schema, event->payload, arena, object, NULL) == 0 ? object : NULL;
}

static uint64_t severity_of(const struct far_schema *schema, const void *object)
{
    return object != NULL ? schema->severity(object) : (uint64_t)FAR_severity_error;
}

json_t *far_event_as_json(const struct far_event *event, struct far_arena *arena)
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_ev, event->kind, event->version);
    const void *object = decode(event, schema, arena);
    return event_to_json(event, schema, object, severity_of(schema, object), NULL);
}

static int write_frame(struct far_event_text *text, uint64_t seq, const json_t *json, struct far_error *err)
{
    char cursor_text[FAR_CURSOR_TEXT_MAX];
    struct far_cursor cursor = {.seq = seq, .has_head = true};
    memcpy(cursor.head, text->head, sizeof cursor.head);
    far_cursor_format(&cursor, cursor_text);
    int rc = far_buf_printf(&text->frame, "id: %s\ndata: ", cursor_text);
    text->json_at = text->frame.len;
    rc = rc != 0 ? rc : far_json_write(json, &text->frame, NULL);
    text->json_len = text->frame.len - text->json_at;
    rc = rc != 0 ? rc : far_buf_append_str(&text->frame, "\n\n");
    return rc == 0 ? 0 : far_fail(err, FAR_LIMIT, "event %llu is too large to be sent", (unsigned long long)seq);
}

static int describe(struct far_event_text *text, const struct far_event *event, struct far_arena *arena,
                    struct far_error *err)
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_ev, event->kind, event->version);
    const void *object = decode(event, schema, arena);
    text->kind = event->kind;
    text->severity = severity_of(schema, object);
    text->is_secret = object == NULL; /* who knows what is in it */
    far_event_header(event, text->header);
    text->is_compacted = event->compacted_len != 0;
    int rc = object != NULL ? add_fields(&text->references, schema, object, &text->is_secret) : 0;
    if (rc == 0 && text->is_compacted) {
        memcpy(text->payload_hash, event->payload.data, sizeof text->payload_hash);
        text->is_hashed = true;
        rc = event->actor >> 56 == FAR_ACTOR_NODE
                 ? add_reference(&text->references, event->actor & 0x00ffffffffffffffu, &far_schema_row_node)
                 : 0;
    } else if (rc == 0) {
        rc = far_buf_append(&text->payload, event->payload.data, event->payload.len);
    }
    if (rc != 0) {
        return far_fail(err, FAR_LIMIT, "event %llu is too large to be sent", (unsigned long long)event->seq);
    }
    json_t *json = event_to_json(event, schema, object, text->severity, text->head);
    rc = write_frame(text, event->seq, json, err);
    json_decref(json);
    return rc;
}

static void clear(struct far_event_text *text)
{
    const struct {
        struct far_buf *buf;
        size_t max;
    } bufs[] = {{&text->frame, FAR_EVENT_TEXT_MAX},
                {&text->payload, FAR_EVENT_PAYLOAD_MAX},
                {&text->references, FAR_EVENT_REFERENCES_MAX},
                {&text->related, RELATED_MAX}};
    for (size_t i = 0; i < sizeof bufs / sizeof bufs[0]; i++) {
        if (bufs[i].buf->max == 0 || bufs[i].buf->cap > FAR_EVENT_CACHED_MAX) {
            far_buf_done(bufs[i].buf);
            far_buf_init(bufs[i].buf, bufs[i].max);
        }
        far_buf_reset(bufs[i].buf);
    }
    text->seq = 0;
    text->is_hashed = text->is_related = text->is_secret = text->is_compacted = false;
}

int far_event_text(struct far_event_cache *cache, const struct far_api_hooks *hooks, void *arg,
                   struct far_log_view *view, uint64_t seq, struct far_event_text **ret_text, struct far_error *err)
{
    struct far_event_text *text = &cache->texts[seq % FAR_EVENT_CACHE];
    struct far_arena arena;
    struct far_event event;
    bool is_outdated = text->kind == FAR_KIND_ev_node_reported && !text->is_compacted && seq <= view->compacted_seq;
    if (text->seq == seq && !is_outdated) { /* it may have been compacted since */
        *ret_text = text;
        return 0;
    }
    clear(text);
    far_arena_init(&arena, ARENA_MAX);
    int rc = hooks->view_event(arg, view, seq, &arena, &event, text->head, err);
    rc = rc != 0 ? rc : describe(text, &event, &arena, err);
    if (rc == 0) {
        text->seq = seq;
        *ret_text = text;
    }
    far_arena_done(&arena);
    return rc;
}

int far_event_text_hash(struct far_event_text *text, struct far_error *err)
{
    int rc = text->is_hashed ? 0 : far_event_payload_hash(far_buf_slice(&text->payload), text->payload_hash, err);
    text->is_hashed = rc == 0;
    return rc;
}

void far_event_cache_done(struct far_event_cache *cache)
{
    for (size_t i = 0; i < FAR_EVENT_CACHE; i++) {
        far_buf_done(&cache->texts[i].frame);
        far_buf_done(&cache->texts[i].payload);
        far_buf_done(&cache->texts[i].references);
        far_buf_done(&cache->texts[i].related);
    }
}
