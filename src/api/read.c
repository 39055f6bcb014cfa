/* Reads: lists, single objects with their parts.
 *
 * Everything is generic over the tables of the schema: a row becomes JSON field by field, and each id of another object is
 * accompanied by its name. One view a request, ended before the answer is sent. */
#include "api/request.h"

#include "fsm/query.h"
#include "fsm/rows.h"

#include <stdlib.h>

enum {
    SCAN_MAX = 10000,  /* rows looked at for one page */
    PARTS_MAX = 1000,  /* parts shown with an object */
    SCRATCH_MAX = 256 * 1024,
};

static const struct reference {
    const char *field; /* holds an id */
    const char *name;  /* under which the name is shown */
    const char *filter;
    const struct far_schema *table;
} references[] = {
    {"site_id", "site", "site", &far_schema_row_site},
    {"source_site_id", "source_site", "site", &far_schema_row_site},
    {"target_site_id", "target_site", "site", &far_schema_row_site},
    {"plan_id", "plan", "plan", &far_schema_row_plan},
    {"workload_id", "workload", "workload", &far_schema_row_workload},
    {"node_id", "node", "node", &far_schema_row_node},
    {"zone_id", "zone", "zone", &far_schema_row_zone},
    {"domain_id", "domain", "domain", &far_schema_row_domain},
};
enum { REFERENCES = sizeof references / sizeof references[0], NAMES_MAX = 64 };

/* What a walk over rows needs. */
struct reader {
    struct far_api_request *request;
    struct far_log_view view;
    struct far_arena scratch; /* of one row */
    const struct far_schema *table; /* whose references these are: */
    const struct far_field *fields[REFERENCES]; /* NULL: it has none such */
    struct {
        uint64_t id;
        json_t *name;
    } names[NAMES_MAX]; /* of objects that rows referred to, each at the place of its id: many rows refer to the same */
    struct far_state running; /* the same state; rows of what runs on nodes are decoded once for all tasks of a job */
};

static const struct part {
    const struct far_schema *owner;
    const char *name;
    const struct far_schema *table; /* its keys start with the owner's id */
} parts[] = {
    {&far_schema_row_server, "keys", &far_schema_row_server_key},
    {&far_schema_row_workload, "disks", &far_schema_row_disk},
    {&far_schema_row_workload, "coverage", &far_schema_row_coverage},
    {&far_schema_row_plan, "workloads", &far_schema_row_plan_workload},
    {&far_schema_row_vault, "plans", &far_schema_row_vault_plan},
    {&far_schema_row_vault, "keys", &far_schema_row_vault_keys},
    {&far_schema_row_node, "vault_keys", &far_schema_row_vault_keys},
    {&far_schema_row_job, "tasks", &far_schema_row_task},
    {&far_schema_row_run, "members", &far_schema_row_run_member},
    {&far_schema_row_run, "scripts", &far_schema_row_run_script},
    {&far_schema_row_checkpoint, "members", &far_schema_row_checkpoint_member},
    {&far_schema_row_point, "disks", &far_schema_row_point_disk},
    {&far_schema_row_domain, "keys", &far_schema_row_domain_key},
    {&far_schema_row_domain, "vaults", &far_schema_row_domain_vault},
};

/* ---- rows ---- */

static const struct far_field *field_of(const struct far_schema *schema, const char *name)
{
    for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

static uint64_t number_in(const struct far_schema *schema, const void *row, const char *name)
{
    const struct far_field *field = field_of(schema, name);
    return field == NULL ? 0 : *(const uint64_t *)((const uint8_t *)row + field->offset);
}

static struct far_slice name_in(const struct far_schema *schema, const void *row)
{
    const struct far_field *field = field_of(schema, "name");
    return field == NULL ? far_slice("", 0) : *(const struct far_slice *)((const uint8_t *)row + field->offset);
}

/* The row with this id, in the scratch arena; FAR_NOT_FOUND. */
static int get_row(struct reader *reader, const struct far_schema *table, uint64_t id, void **ret_row,
                   struct far_error *err)
{
    struct far_key key = far_key(table);
    far_key_u64(&key, id);
    void *row = far_arena_alloc(&reader->scratch, table->size);
    if (row == NULL) {
        return far_fail(err, FAR_LIMIT, "the answer needs too much memory");
    }
    *ret_row = row;
    return far_state_get(&reader->view.state, table, &key, &reader->scratch, row, err);
}

/* The name of an object, "" if it is gone. */
static int name_of(struct reader *reader, const struct far_schema *table, uint64_t id, json_t **ret_name,
                   struct far_error *err)
{
    void *row = NULL;
    size_t at = id % NAMES_MAX;
    if (id != 0 && reader->names[at].id == id) {
        *ret_name = json_incref(reader->names[at].name);
        return 0;
    }
    int rc = id == 0 ? FAR_NOT_FOUND : get_row(reader, table, id, &row, err);
    *ret_name = far_json_text(rc == 0 ? name_in(table, row) : far_slice("", 0));
    if (rc == 0) {
        json_decref(reader->names[at].name);
        reader->names[at].id = id;
        reader->names[at].name = json_incref(*ret_name);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int add_names(struct reader *reader, const struct far_schema *table, const void *row, json_t *json, struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; reader->table != table && i < REFERENCES; i++) {
        reader->fields[i] = field_of(table, references[i].field);
    }
    reader->table = table;
    for (size_t i = 0; rc == 0 && i < REFERENCES; i++) {
        const struct far_field *field = reader->fields[i];
        if (field != NULL) {
            json_t *name = NULL;
            rc = name_of(reader, references[i].table, *(const uint64_t *)((const uint8_t *)row + field->offset), &name, err);
            json_object_set_new(json, references[i].name, name);
        }
    }
    return rc;
}

/* How far it is behind, and whether events that it has yet to read were cut. */
static int add_place(struct reader *reader, const struct far_row_consumer *row, json_t *json, struct far_error *err)
{
    struct far_row_retention retention = {.first_seq = 1};
    struct far_key key = far_key(&far_schema_row_retention);
    uint64_t last = reader->view.last_seq;
    int rc = far_state_get(&reader->view.state, &far_schema_row_retention, &key, &reader->scratch, &retention, err);
    json_object_set_new(json, "lag", far_json_u64(last > row->seq ? last - row->seq : 0));
    json_object_set_new(json, "cut", json_boolean((rc == 0 || rc == FAR_NOT_FOUND) && row->seq + 1 < retention.first_seq));
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* What a drained node still holds, in words; empty of one that takes part. */
static void add_drain(const struct far_row_node *row, json_t *json)
{
    char text[200] = "";
    if (row->drained_ms != 0 && row->task_count == 0 && row->point_count == 0) {
        snprintf(text, sizeof text, "drained and empty: it can be removed");
    } else if (row->drained_ms != 0) {
        snprintf(text, sizeof text,
                 "drained; it still holds %llu tasks and %llu recovery points. It is empty when the tasks are done and the "
                 "checkpoints with these points are removed",
                 (unsigned long long)row->task_count, (unsigned long long)row->point_count);
    }
    json_object_set_new(json, "drain", json_string(text));
}

/* A row as JSON, with the names of what it refers to. */
static int row_to_json(struct reader *reader, const struct far_schema *table, const void *row, json_t **ret_json,
                       struct far_error *err)
{
    json_t *json = far_json_from_struct(table, row);
    int rc = json == NULL ? far_fail(err, FAR_LIMIT, "the answer needs too much memory") : 0;
    rc = rc == 0 ? add_names(reader, table, row, json, err) : rc;
    if (rc == 0 && table == &far_schema_row_consumer) {
        rc = add_place(reader, row, json, err);
    }
    rc = rc == 0 ? far_api_add_recovery(&reader->view.state, table, row, &reader->scratch, json, err) : rc;
    if (rc == 0 && table == &far_schema_row_node) {
        add_drain(row, json);
    }
    if (rc == 0 && table == &far_schema_row_throttle) {
        const char *of = number_in(table, row, "node_id") != 0 ? "node" : number_in(table, row, "plan_id") != 0 ? "plan" : "site";
        json_object_set(json, "name", json_object_get(json, of));
    }
    if (rc != 0) {
        json_decref(json);
        return rc;
    }
    *ret_json = json;
    return 0;
}

/* ---- lists ---- */

struct filters {
    uint64_t ids[REFERENCES]; /* 0: none */
    const struct far_field *enums[3];
    uint64_t values[3];
    size_t enum_count;
};

static int no_filter(const char *name, struct far_error *err)
{
    return far_fail(err, FAR_INVALID, "argument '%s' does not fit this list", name);
}

static int filter_by_name(struct reader *reader, const struct far_schema *table, const char *filter,
                          struct far_slice name, struct filters *filters, struct far_error *err)
{
    bool fits = false;
    for (size_t i = 0; i < REFERENCES; i++) {
        if (strcmp(references[i].filter, filter) != 0 || field_of(table, references[i].field) == NULL) {
            continue;
        }
        int rc = far_query_id(&reader->view.state, references[i].table, name, &filters->ids[i], err);
        if (rc != 0) {
            return rc;
        }
        fits = true;
    }
    return fits ? 0 : no_filter(filter, err);
}

static int filter_by_value(const struct far_schema *table, const char *filter, struct far_slice name,
                           struct filters *filters, struct far_error *err)
{
    const struct far_field *field = field_of(table, filter);
    uint64_t value = field == NULL || field->type != FAR_TYPE_ENUM ? 0 : far_enum_value(field->values, name);
    if (value == 0) {
        return no_filter(filter, err);
    }
    filters->enums[filters->enum_count] = field;
    filters->values[filters->enum_count++] = value;
    return 0;
}

static int make_filters(struct reader *reader, const struct far_schema *table, struct filters *filters,
                        struct far_error *err)
{
    const struct far_query *query = &reader->request->query;
    const struct {
        const char *name;
        struct far_slice value;
        bool by_name;
    } wanted[] = {
        {"site", query->site, true},   {"plan", query->plan, true},    {"workload", query->workload, true},
        {"node", query->node, true},   {"state", query->state, false}, {"kind", query->kind, false},
        {"role", query->role, false},
    };
    memset(filters, 0, sizeof *filters);
    for (size_t i = 0; i < sizeof wanted / sizeof wanted[0]; i++) {
        if (wanted[i].value.len == 0) {
            continue;
        }
        int rc = wanted[i].by_name ? filter_by_name(reader, table, wanted[i].name, wanted[i].value, filters, err)
                                   : filter_by_value(table, wanted[i].name, wanted[i].value, filters, err);
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

static bool passes(const struct filters *filters, const struct far_schema *table, const void *row)
{
    bool wanted[REFERENCES] = {false}, met[REFERENCES] = {false};
    for (size_t i = 0; i < REFERENCES; i++) {
        if (filters->ids[i] == 0) {
            continue;
        }
        /* Source and target site are one filter: either may meet it. */
        size_t group = i > 0 && strcmp(references[i].filter, references[0].filter) == 0 ? 0 : i;
        wanted[group] = true;
        met[group] = met[group] || number_in(table, row, references[i].field) == filters->ids[i];
    }
    for (size_t i = 0; i < REFERENCES; i++) {
        if (wanted[i] && !met[i]) {
            return false;
        }
    }
    for (size_t i = 0; i < filters->enum_count; i++) {
        if (*(const uint64_t *)((const uint8_t *)row + filters->enums[i]->offset) != filters->values[i]) {
            return false;
        }
    }
    return true;
}

static int list_rows(struct reader *reader, const struct far_schema *table, json_t *items, uint64_t *ret_cursor,
                     struct far_error *err)
{
    const struct far_query *query = &reader->request->query;
    struct filters filters;
    struct far_key key = far_key(table);
    far_key_u64(&key, query->cursor + 1);
    void *row = far_arena_alloc(&reader->request->arena, table->size);
    int rc = row == NULL ? far_fail(err, FAR_LIMIT, "no memory for the list") : 0;
    rc = rc != 0 ? rc : make_filters(reader, table, &filters, err);
    for (size_t seen = 0; rc == 0; seen++) {
        far_arena_reset(&reader->scratch);
        rc = far_state_next(&reader->view.state, table, &key, &reader->scratch, NULL, row, err);
        if (rc == FAR_NOT_FOUND) {
            *ret_cursor = 0; /* the end of the table */
            return 0;
        }
        if (rc == 0 && (json_array_size(items) >= query->limit || seen >= SCAN_MAX)) {
            return 0; /* there is more behind the cursor */
        }
        if (rc == 0 && passes(&filters, table, row)) {
            json_t *item = NULL;
            rc = row_to_json(reader, table, row, &item, err);
            json_array_append_new(items, item);
        }
        *ret_cursor = rc == 0 ? number_in(table, row, "id") : 0;
    }
    return rc;
}

/* Tokens are keyed by their hash, which must not show: the page is made of the smallest ids behind the cursor. */
static int list_tokens(struct reader *reader, json_t *items, struct far_error *err)
{
    const struct far_query *query = &reader->request->query;
    struct far_key key = far_key(&far_schema_row_token);
    struct far_row_token row;
    struct filters filters;
    int rc = make_filters(reader, &far_schema_row_token, &filters, err);
    while (rc == 0) {
        far_arena_reset(&reader->scratch);
        rc = far_state_next(&reader->view.state, &far_schema_row_token, &key, &reader->scratch, NULL, &row, err);
        if (rc != 0 || row.id <= query->cursor || !passes(&filters, &far_schema_row_token, &row)) {
            continue;
        }
        size_t at = json_array_size(items);
        while (at > 0 && (uint64_t)json_integer_value(json_object_get(json_array_get(items, at - 1), "id")) > row.id) {
            at--;
        }
        if (at > query->limit) {
            continue;
        }
        json_t *item = NULL;
        rc = row_to_json(reader, &far_schema_row_token, &row, &item, err);
        json_array_insert_new(items, at, item);
        if (json_array_size(items) > query->limit + 1) {
            json_array_remove(items, query->limit + 1);
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int begin(struct reader *reader, struct far_api_request *request, struct far_error *err)
{
    *reader = (struct reader){.request = request};
    reader->running = (struct far_state){.kv = NULL};
    far_arena_init(&reader->scratch, SCRATCH_MAX);
    return far_api_view(request, &reader->view, err);
}

static void end(struct reader *reader)
{
    far_rows_free(reader->running.rows);
    for (size_t i = 0; i < NAMES_MAX; i++) {
        json_decref(reader->names[i].name);
    }
    far_api_view_end(reader->request, &reader->view);
    far_arena_done(&reader->scratch);
}

static int list(struct reader *reader, json_t **ret_answer, struct far_error *err)
{
    const struct far_schema *table = reader->request->route->schema;
    json_t *items = json_array();
    uint64_t cursor = 0, limit = reader->request->query.limit;
    int rc = 0;
    if (table == &far_schema_row_token) {
        rc = list_tokens(reader, items, err);
        if (rc == 0 && json_array_size(items) > limit) {
            json_array_remove(items, limit);
            cursor = (uint64_t)json_integer_value(json_object_get(json_array_get(items, limit - 1), "id"));
        }
    } else {
        rc = list_rows(reader, table, items, &cursor, err);
    }
    if (rc != 0) {
        json_decref(items);
        return rc;
    }
    *ret_answer = json_pack("{s:o, s:o}", "items", items, "cursor", cursor == 0 ? json_null() : far_json_u64(cursor));
    return 0;
}

static int compute_list(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct reader reader;
    int rc = begin(&reader, request, err);
    if (rc == 0) {
        rc = list(&reader, ret_answer, err);
        end(&reader);
    }
    return rc;
}

void far_api_list(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_list);
}

/* ---- single objects ---- */

static bool has_name_index(const struct far_schema *table)
{
    return table == &far_schema_row_site || table == &far_schema_row_node || table == &far_schema_row_workload ||
           table == &far_schema_row_plan || table == &far_schema_row_server || table == &far_schema_row_consumer ||
           table == &far_schema_row_domain;
}

/* By name where the table has names, else (or if no name fits) by id. */
static int find(struct reader *reader, const struct far_schema *table, const char *param, void **ret_row,
                struct far_error *err)
{
    uint64_t id = 0;
    int rc = FAR_NOT_FOUND;
    bool is_vault = table == &far_schema_row_vault; /* by the name of its node */
    if (has_name_index(table) || is_vault) {
        rc = far_query_id(&reader->view.state, is_vault ? &far_schema_row_node : table, far_slice_str(param), &id, err);
    }
    if (rc == FAR_NOT_FOUND && strlen(param) <= 18 && param[strspn(param, "0123456789")] == '\0') {
        id = strtoull(param, NULL, 10);
        rc = 0;
    }
    if (rc == 0) {
        rc = get_row(reader, table, id, ret_row, err);
    }
    return rc == FAR_NOT_FOUND ? far_fail(err, FAR_NOT_FOUND, "there is no %s '%s'", table->name, param) : rc;
}

/* A task with what its node keeps for it. */
static int show_running(struct reader *reader, struct far_row_task *task, struct far_error *err)
{
    if (reader->running.rows == NULL) {
        reader->running.kv = reader->view.state.kv;
        reader->running.rows = far_rows_new(reader->running.kv, false);
    }
    return reader->running.rows == NULL ? far_fail(err, FAR_LIMIT, "no memory for the answer")
                                        : far_query_running(&reader->running, task, &reader->scratch, err);
}

static int part_to_json(struct reader *reader, const struct far_schema *table, void *row, struct far_slice id,
                        json_t **ret_json, struct far_error *err)
{
    int rc = table == &far_schema_row_task ? show_running(reader, row, err) : 0;
    rc = rc == 0 ? row_to_json(reader, table, row, ret_json, err) : rc;
    if (rc == 0 && table == &far_schema_row_point_disk && id.len == 12) {
        json_object_set_new(*ret_json, "disk_index", far_json_u64(far_get_be32(id.data + 8)));
    }
    if (rc == 0 && table == &far_schema_row_task) {
        struct far_slice why = {0};
        rc = far_query_wait(&reader->view.state, row, &reader->scratch, &why, err);
        json_object_set_new(*ret_json, "waits_for", far_json_text(why));
        rc = rc != 0 ? rc : far_api_task_figures(&reader->running, row, &reader->scratch, *ret_json, err);
    }
    if (rc == 0 && table == &far_schema_row_checkpoint_member) {
        void *point = NULL;
        json_t *json = NULL;
        rc = get_row(reader, &far_schema_row_point, number_in(table, row, "point_id"), &point, err);
        rc = rc == 0 ? row_to_json(reader, &far_schema_row_point, point, &json, err) : rc == FAR_NOT_FOUND ? 0 : rc;
        json_object_set_new(*ret_json, "point", json != NULL ? json : json_null());
    }
    return rc;
}

static int add_parts(struct reader *reader, const struct part *part, uint64_t owner_id, json_t *owner,
                     struct far_error *err)
{
    json_t *items = json_array();
    struct far_key key = far_key(part->table);
    far_key_u64(&key, owner_id);
    void *row = far_arena_alloc(&reader->request->arena, part->table->size);
    int rc = row == NULL ? far_fail(err, FAR_LIMIT, "no memory for the answer") : 0;
    bool more = false;
    while (rc == 0 && !more) {
        struct far_slice id;
        far_arena_reset(&reader->scratch);
        rc = far_state_next(&reader->view.state, part->table, &key, &reader->scratch, &id, row, err);
        if (rc != 0 || id.len < 8 || far_get_be64(id.data) != owner_id) {
            break;
        }
        more = json_array_size(items) >= PARTS_MAX;
        json_t *item = NULL;
        if (!more && (rc = part_to_json(reader, part->table, row, id, &item, err)) == 0) {
            json_array_append_new(items, item);
        }
    }
    json_object_set_new(owner, part->name, items);
    if (more) {
        json_object_set_new(owner, "more", json_true());
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* ---- bandwidth limits ---- */

/* The limit of the object with this id; JSON null: it has none. */
static int throttle_of(struct reader *reader, uint64_t id, json_t **ret_json, struct far_error *err)
{
    void *row = NULL;
    int rc = get_row(reader, &far_schema_row_throttle, id, &row, err);
    if (rc == FAR_NOT_FOUND) {
        *ret_json = json_null();
        return 0;
    }
    return rc != 0 ? rc : row_to_json(reader, &far_schema_row_throttle, row, ret_json, err);
}

/* Which one is in force with a node, plan or site; and of a node what it may send by it and by its share of its site's. */
static int add_throttle(struct reader *reader, const struct far_schema *table, uint64_t id, json_t *json, struct far_error *err)
{
    json_t *throttle = NULL;
    struct far_list limits = {.count = 0};
    if (table != &far_schema_row_node && table != &far_schema_row_plan && table != &far_schema_row_site) {
        return 0;
    }
    int rc = throttle_of(reader, id, &throttle, err);
    json_object_set_new(json, "throttle", throttle);
    if (rc == 0 && table == &far_schema_row_node) {
        rc = far_query_limits(&reader->view.state, id, 0, &reader->request->arena, &limits, err);
    }
    const struct far_node_limits *of_node = limits.items;
    if (rc == 0 && limits.count > 0) {
        json_object_set_new(json, "send_limit_bytes_per_s", far_json_u64(of_node->bytes_per_s));
    }
    return rc;
}

static int compute_throttle(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    const struct far_schema *table = request->route->schema;
    struct reader reader;
    void *row = NULL;
    int rc = begin(&reader, request, err);
    if (rc != 0) {
        return rc;
    }
    rc = find(&reader, table, request->param, &row, err);
    rc = rc != 0 ? rc : throttle_of(&reader, number_in(table, row, "id"), ret_answer, err);
    end(&reader);
    if (rc == 0 && json_is_null(*ret_answer)) {
        rc = far_fail(err, FAR_NOT_FOUND, "%s '%s' has no bandwidth limit", table->name, request->param);
    }
    return rc;
}

void far_api_throttle(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_throttle);
}

/* How a job goes, or how a plan stands with its RPO. */
static int add_figures(struct reader *reader, const struct far_schema *table, uint64_t id, json_t *json, struct far_error *err)
{
    struct far_api_request *request = reader->request;
    uint64_t now_ms = 0;
    if (table == &far_schema_row_job) {
        void *row = NULL;
        int rc = get_row(reader, table, id, &row, err);
        return rc != 0 ? rc : far_api_job_figures(&reader->view.state, row, &request->arena, json, err);
    }
    if (table == &far_schema_row_vault) {
        void *row = NULL;
        int rc = get_row(reader, table, id, &row, err);
        return rc != 0 ? rc : far_api_vault_figures(&reader->view.state, row, &request->arena, json, err);
    }
    if (table != &far_schema_row_plan) {
        return 0;
    }
    int rc = far_api_stamp(request, &reader->view, &now_ms, err);
    rc = rc != 0 ? rc : far_api_plan_space(&reader->view.state, id, &request->arena, json, err);
    return rc != 0 ? rc : far_api_plan_rpo(&reader->view.state, id, now_ms, &request->arena, json, err);
}

static int object(struct reader *reader, json_t **ret_answer, struct far_error *err)
{
    const struct far_schema *table = reader->request->route->schema;
    void *row = NULL;
    json_t *json = NULL;
    int rc = find(reader, table, reader->request->param, &row, err);
    if (rc == 0) {
        rc = row_to_json(reader, table, row, &json, err);
    }
    if (rc != 0) {
        return rc;
    }
    uint64_t id = number_in(table, row, "id");
    for (size_t i = 0; rc == 0 && i < sizeof parts / sizeof parts[0]; i++) {
        if (parts[i].owner == table) {
            rc = add_parts(reader, &parts[i], id, json, err);
        }
    }
    rc = rc == 0 ? add_throttle(reader, table, id, json, err) : rc;
    rc = rc == 0 ? add_figures(reader, table, id, json, err) : rc;
    if (rc != 0) {
        json_decref(json);
        return rc;
    }
    if (json_object_get(json, "revision") != NULL) {
        snprintf(reader->request->etag, sizeof reader->request->etag, "\"%llu\"",
                 (unsigned long long)json_integer_value(json_object_get(json, "revision")));
    }
    *ret_answer = json;
    return 0;
}

static int compute_object(struct far_api_request *request, json_t **ret_answer, struct far_error *err)
{
    struct reader reader;
    int rc = begin(&reader, request, err);
    if (rc == 0) {
        rc = object(&reader, ret_answer, err);
        end(&reader);
    }
    return rc;
}

void far_api_object(struct far_api_request *request)
{
    far_api_compute(request, 200, compute_object);
}
