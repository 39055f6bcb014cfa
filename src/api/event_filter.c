/* Which events a stream wants: see event_filter.h. */
#include "api/event_filter.h"

#include "fsm/query.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- the query ---- */

static int add_kind(struct far_event_filter *filter, struct far_slice name, struct far_error *err)
{
    char text[64];
    snprintf(text, sizeof text, "%.*s", (int)name.len, (const char *)name.data);
    const struct far_schema *schema = name.len < sizeof text ? far_schema_find_name(FAR_CLASS_ev, text) : NULL;
    if (schema == NULL || schema->kind >= FAR_EVENT_KINDS_MAX) {
        return far_fail(err, FAR_INVALID, "there is no kind of event '%s'", text);
    }
    if (schema == &far_schema_ev_consumer_acked) {
        return far_fail(err, FAR_INVALID, "events of kind '%s' are never streamed", text);
    }
    filter->has_kinds = filter->kinds[schema->kind] = true;
    return 0;
}

static int add_kinds(struct far_event_filter *filter, struct far_slice kinds, struct far_error *err)
{
    int rc = 0;
    while (rc == 0 && kinds.len > 0) {
        const uint8_t *comma = memchr(kinds.data, ',', kinds.len);
        size_t len = comma == NULL ? kinds.len : (size_t)(comma - kinds.data);
        rc = add_kind(filter, far_slice(kinds.data, len), err);
        len += comma != NULL;
        kinds = far_slice(kinds.data + len, kinds.len - len);
    }
    return rc;
}

static bool parse_id(struct far_slice text, uint64_t *ret_id)
{
    char digits[20];
    snprintf(digits, sizeof digits, "%.*s", text.len > 18 ? 0 : (int)text.len, (const char *)text.data);
    *ret_id = strtoull(digits, NULL, 10);
    return digits[0] != '\0' && digits[strspn(digits, "0123456789")] == '\0';
}

/* The id of an object by name or, where none has that name, by number: also of one that is gone. */
static int find(struct far_state *state, const struct far_schema *table, struct far_slice text, uint64_t *ret_id,
                struct far_error *err)
{
    uint64_t id;
    if (text.len == 0) {
        return 0;
    }
    int rc = far_query_id(state, table, text, ret_id, err);
    if (rc == FAR_NOT_FOUND && parse_id(text, &id)) {
        *ret_id = id;
        rc = 0;
    }
    return rc;
}

/* "17", "plan:gold", "job:17". */
static int find_subject(struct far_state *state, struct far_slice text, uint64_t *ret_id, struct far_error *err)
{
    static const struct far_schema *const tables[] = {
        &far_schema_row_server,   &far_schema_row_site, &far_schema_row_node,       &far_schema_row_workload,
        &far_schema_row_disk,     &far_schema_row_plan, &far_schema_row_job,        &far_schema_row_checkpoint,
        &far_schema_row_point,    &far_schema_row_token, &far_schema_row_consumer,
        &far_schema_row_alert,
    };
    const uint8_t *colon = text.len == 0 ? NULL : memchr(text.data, ':', text.len);
    if (text.len == 0 || (colon == NULL && parse_id(text, ret_id))) {
        return 0;
    }
    size_t len = colon == NULL ? 0 : (size_t)(colon - text.data);
    for (size_t i = 0; colon != NULL && i < sizeof tables / sizeof tables[0]; i++) {
        if (far_slice_equal(far_slice_str(tables[i]->name), far_slice(text.data, len))) {
            return find(state, tables[i], far_slice(colon + 1, text.len - len - 1), ret_id, err);
        }
    }
    return far_fail(err, FAR_INVALID, "argument 'subject' must be an id or an object, as 'plan:gold' or 'job:17'");
}

int far_event_filter_init(struct far_event_filter *filter, const struct far_query *query, struct far_state *state,
                          struct far_error *err)
{
    memset(filter, 0, sizeof *filter);
    int rc = add_kinds(filter, query->kind, err);
    if (rc == 0 && query->severity.len > 0) {
        filter->severity_min = far_enum_value(&far_enum_severity, query->severity);
        rc = filter->severity_min != 0
                 ? 0
                 : far_fail(err, FAR_INVALID, "argument 'severity' must be info, notice, warning or error");
    }
    rc = rc != 0 ? rc : find_subject(state, query->subject, &filter->subject_id, err);
    rc = rc != 0 ? rc : find(state, &far_schema_row_plan, query->plan, &filter->plan_id, err);
    return rc != 0 ? rc : find(state, &far_schema_row_site, query->site, &filter->site_id, err);
}

/* ---- the event ---- */

static bool names(const struct far_event_text *text, uint64_t id)
{
    const struct far_event_reference *references = (const void *)text->references.data;
    for (size_t i = 0; i < text->references.len / sizeof *references; i++) {
        if (references[i].id == id) {
            return true;
        }
    }
    return false;
}

static bool concerns(const struct far_event_text *text, uint64_t id)
{
    const uint64_t *related = (const void *)text->related.data;
    for (size_t i = 0; i < text->related.len / sizeof *related; i++) {
        if (related[i] == id) {
            return true;
        }
    }
    return names(text, id);
}

int far_event_filter_passes(const struct far_event_filter *filter, struct far_event_text *text, struct far_state *state,
                            bool *ret_passes, struct far_error *err)
{
    bool kind = text->kind != FAR_KIND_ev_consumer_acked &&
                (!filter->has_kinds || (text->kind < FAR_EVENT_KINDS_MAX && filter->kinds[text->kind]));
    *ret_passes = kind && text->severity >= filter->severity_min &&
                  (filter->subject_id == 0 || names(text, filter->subject_id));
    if (!*ret_passes || (filter->plan_id == 0 && filter->site_id == 0)) {
        return 0;
    }
    int rc = far_event_text_relate(text, state, err);
    *ret_passes = rc == 0 && (filter->plan_id == 0 || concerns(text, filter->plan_id)) &&
                  (filter->site_id == 0 || concerns(text, filter->site_id));
    return rc;
}
