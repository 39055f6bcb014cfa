/* An event as JSON: the same in streams, predictions and explanations. */
#include "api/request.h"

json_t *far_api_event_json(const struct far_event *event, struct far_arena *arena, const uint8_t *head)
{
    const struct far_schema *schema = far_schema_find(FAR_CLASS_ev, event->kind, event->version);
    void *object = schema == NULL ? NULL : far_arena_alloc(arena, schema->size);
    json_t *data = NULL;
    uint64_t severity = FAR_severity_error; /* of what this program does not know */
    if (object != NULL && far_schema_decode(schema, event->payload, arena, object, NULL) == 0) {
        data = far_json_from_struct(schema, object);
        severity = schema->severity(object);
    }
    json_t *json = json_pack("{s:o, s:o, s:s, s:i, s:s, s:o, s:o*, s:o*}", "seq", far_json_u64(event->seq), "index",
                             far_json_u64(event->index), "kind", schema != NULL ? schema->name : "unknown", "version",
                             (int)event->version, "severity", far_enum_name(&far_enum_severity, severity), "time_ms",
                             far_json_u64(event->time_ms), "actor", far_json_actor(event->actor), "command_id",
                             far_json_hex(event->command_id, sizeof event->command_id));
    if (head != NULL) {
        json_object_set_new(json, "head", far_json_hex(head, 32));
    }
    json_object_set_new(json, "data", data != NULL ? data : json_null());
    return json;
}
