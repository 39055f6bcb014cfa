/* JSON by the schema: what is written can be read, and nothing else can; routes and the OpenAPI document agree. */
#include "../lib/cm.h"

#include "../lib/faults.h"
#include "api/json.h"
#include "api/route.h"

#include <errno.h>
#include <stdlib.h>

static struct far_arena arena;
static struct far_error err;

static int setup(void **unused)
{
    far_arena_init(&arena, 1 << 24);
    return 0;
}

static int teardown(void **unused)
{
    far_arena_done(&arena);
    return 0;
}

/* ---- every command, filled by rule ---- */

static void fill(const struct far_schema *schema, void *object, unsigned depth);

static void fill_list(const struct far_field *field, struct far_list *list, unsigned depth)
{
    static const struct far_slice texts[2] = {{(const uint8_t *)"a", 1}, {(const uint8_t *)"b-\xc3\xa4", 4}};
    static const uint64_t numbers[2] = {1, INT64_MAX};
    list->count = field->max < 2 ? field->max : 2;
    if (field->type == FAR_TYPE_LIST) {
        uint8_t *items = far_arena_alloc(&arena, 2 * field->element->size);
        fill(field->element, items, depth + 1);
        fill(field->element, items + field->element->size, depth + 1);
        list->items = items;
    } else {
        list->items = field->type == FAR_TYPE_STRS ? (const void *)texts : (const void *)numbers;
    }
}

static void fill(const struct far_schema *schema, void *object, unsigned depth)
{
    static const uint8_t bytes[8] = {0, 1, 0xfe, 0xff, '"', '\\', 7, 8};
    for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
        void *at = (uint8_t *)object + field->offset;
        switch (field->type) {
        case FAR_TYPE_U64:
            *(uint64_t *)at = strcmp(field->name, "actor") == 0 ? 0 : 1000 + field->number;
            break;
        case FAR_TYPE_ENUM:
            *(uint64_t *)at = field->values->values[0].value;
            break;
        case FAR_TYPE_BOOL:
            *(bool *)at = true;
            break;
        case FAR_TYPE_STR:
            *(struct far_slice *)at = far_slice_str("n\"\\\n\xe2\x82\xac");
            break;
        case FAR_TYPE_BYTES:
            *(struct far_slice *)at = far_slice(bytes, field->max < 8 ? field->max : 8);
            break;
        case FAR_TYPE_LIST:
        case FAR_TYPE_STRS:
        case FAR_TYPE_U64S:
            fill_list(field, at, depth);
            break;
        case FAR_TYPE_SECRET: /* never travels */
        case FAR_TYPE_END:
            break;
        }
    }
}

static void encode(const struct far_schema *schema, const void *object, struct far_buf *out)
{
    far_buf_init(out, 1 << 20);
    assert_int_equal(far_schema_encode(schema, object, out, &err), 0);
}

static void every_command_survives_json_and_back(void **unused)
{
    static const struct far_json_rule all = {NULL, NULL};
    size_t seen = 0;
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        const struct far_schema *schema = far_schemas[i];
        if (schema->klass != FAR_CLASS_cmd) {
            continue;
        }
        void *in = far_arena_alloc(&arena, schema->size + 1), *back = far_arena_alloc(&arena, schema->size + 1);
        struct far_buf before, after, text;
        json_t *parsed = NULL;
        fill(schema, in, 0);
        json_t *json = far_json_from_struct(schema, in);
        far_buf_init(&text, 1 << 20);
        assert_int_equal(far_json_write(json, &text, &err), 0);
        assert_int_equal(far_json_parse(far_buf_slice(&text), &parsed, &err), 0);
        if (far_json_to_struct(schema, parsed, &all, &arena, back, &err) != 0) {
            fail_msg("%s: %s", schema->name, err.message);
        }
        encode(schema, in, &before);
        encode(schema, back, &after);
        assert_true(far_slice_equal(far_buf_slice(&before), far_buf_slice(&after)));
        json_decref(json);
        json_decref(parsed);
        far_buf_done(&before);
        far_buf_done(&after);
        far_buf_done(&text);
        seen++;
    }
    assert_true(seen >= 20);
}

static void secrets_and_hashes_of_tokens_are_never_written(void **unused)
{
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        const struct far_schema *schema = far_schemas[i];
        void *object = far_arena_alloc(&arena, schema->size + 1);
        for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
            if (field->type == FAR_TYPE_SECRET) {
                *(struct far_slice *)((uint8_t *)object + field->offset) = far_slice_str("s3cret");
            }
        }
        json_t *json = far_json_from_struct(schema, object);
        for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
            bool hash = field->type == FAR_TYPE_BYTES && strstr(field->name, "hash") != NULL;
            if (field->type == FAR_TYPE_SECRET || (hash && schema->klass != FAR_CLASS_cmd)) {
                assert_null(json_object_get(json, field->name));
            }
        }
        json_decref(json);
    }
    struct far_cmd_secret_set out;
    json_t *sent = json_pack("{s:s}", "sealed", "00ff");
    static const struct far_json_rule all = {NULL, NULL};
    assert_int_equal(far_json_to_struct(&far_schema_cmd_secret_set, sent, &all, &arena, &out, &err), FAR_INVALID);
    json_decref(sent);
}

static void a_hash_of_64_bits_is_written_whole(void **unused)
{
    struct far_ev_command_remembered event = {.body_hash = 0xfedcba9876543210, .object_id = 7};
    json_t *json = far_json_from_struct(&far_schema_ev_command_remembered, &event);
    assert_string_equal(json_string_value(json_object_get(json, "body_hash")), "fedcba9876543210");
    json_decref(json);
    struct far_ev_entry_skipped skipped = {.index = 5, .entry_hash = 0xcfdff3a77d6eb0f3, .commands = 1};
    json = far_json_from_struct(&far_schema_ev_entry_skipped, &skipped);
    assert_string_equal(json_string_value(json_object_get(json, "entry_hash")), "cfdff3a77d6eb0f3"); /* as skip-entry wants it */
    json_decref(json);
    skipped.entry_hash = 1;
    json = far_json_from_struct(&far_schema_ev_entry_skipped, &skipped);
    assert_string_equal(json_string_value(json_object_get(json, "entry_hash")), "0000000000000001");
    json_decref(json);
}

static void no_number_is_told_as_another_one(void **unused)
{
    static const uint64_t numbers[] = {0, INT64_MAX, (uint64_t)INT64_MAX + 1, UINT64_MAX};
    static const char *const texts[] = {"0", "9223372036854775807", "\"9223372036854775808\"", "\"18446744073709551615\""};
    struct far_cmd_events_cut object = {.seq = 1, .held_by = {.items = numbers, .count = 4}};
    json_t *json = far_json_from_struct(&far_schema_cmd_events_cut, &object);
    for (size_t i = 0; i < 4; i++) {
        struct far_buf text;
        json_t *one = far_json_u64(numbers[i]);
        assert_true(json_equal(one, json_array_get(json_object_get(json, "held_by"), i)));
        far_buf_init(&text, 100);
        assert_int_equal(far_json_write(one, &text, NULL), 0);
        assert_true(far_slice_equal(far_buf_slice(&text), far_slice_str(texts[i])));
        far_buf_done(&text);
        json_decref(one);
    }
    json_decref(json);
}

static int read_workload(const char *text)
{
    static const struct far_json_rule rule = {NULL, "name site disks"};
    struct far_cmd_workload_create out;
    json_t *json = NULL;
    err.message[0] = '\0';
    int rc = far_json_parse(far_slice_str(text), &json, &err);
    rc = rc != 0 ? rc : far_json_to_struct(&far_schema_cmd_workload_create, json, &rule, &arena, &out, &err);
    json_decref(json);
    return rc;
}

static void what_is_wrong_in_a_list_is_named_with_its_place(void **unused)
{
    assert_int_equal(read_workload("{\"name\":\"w\",\"site\":\"s\",\"disks\":[{\"name\":\"a\"},{\"nam\":1}]}"), FAR_INVALID);
    assert_string_equal(err.message, "unknown field 'disks[1].nam'");
    assert_int_equal(read_workload("{\"name\":\"w\",\"site\":\"s\",\"disks\":[]}"), FAR_INVALID);
    assert_string_equal(err.message, "field 'disks' is missing");
    assert_int_equal(read_workload("{\"name\":\"w\",\"site\":\"s\",\"disks\":{}}"), FAR_INVALID);
    assert_string_equal(err.message, "field 'disks' must be a list, not {}");
    assert_int_equal(read_workload("{\"name\":\"w\",\"site\":\"s\",\"disks\":[1]}"), FAR_INVALID);
    char many[4096] = "{\"name\":\"w\",\"site\":\"s\",\"disks\":[{}";
    for (int i = 0; i < 60; i++) {
        strcat(many, ",{}");
    }
    strcat(many, "]}");
    assert_int_equal(read_workload(many), FAR_INVALID);
    assert_string_equal(err.message, "field 'disks' is longer than 60 items");
}

static void numbers_outside_of_the_range_are_refused(void **unused)
{
    static const char *const bad[] = {"-1", "1.5", "9223372036854775808", "1e3", "\"7\"", "null", "true"};
    static const struct far_json_rule all = {NULL, NULL};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        char text[64];
        struct far_cmd_job_cancel out;
        json_t *json = NULL;
        snprintf(text, sizeof text, "{\"job_id\":%s}", bad[i]);
        int rc = far_json_parse(far_slice_str(text), &json, &err);
        rc = rc != 0 ? rc : far_json_to_struct(&far_schema_cmd_job_cancel, json, &all, &arena, &out, &err);
        assert_int_equal(rc, FAR_INVALID);
        json_decref(json);
    }
}

/* What is read without jansson is what jansson would have read. */
static void plain_bodies_are_read_as_any_other(void **unused)
{
    static const char *const texts[] = {
        "{\"a\":\"b\"}", " {\t\"a\" :\r\n\"b\" , \"c\":\"\" } \n", "{\"a\":\"b\",\"c\":\"d e~!\"}", "{\"\":\"x\"}", "{}", "{ }", "",
        " ", "{", "}", "{\"a\"}", "{\"a\":}", "{\"a\":\"b\",}", "{\"a\":\"b\"", "{\"a\":\"b\"}}", "{\"a\":\"b\"}x",
        "{\"a\":\"b\" \"c\":\"d\"}",
        "{,\"a\":\"b\"}", "{\"a\":\"b\",\"a\":\"c\"}", "{\"a\":\"\\n\"}", "{\"a\":\"\\u00e4\"}", "{\"a\":\"\xc3\xa4\"}", "{\"a\":\"\xff\"}",
        "{\"a\":\"\x01\"}", "{\"a\":\"\x7f\"}", "{\"a\":1}", "{\"a\":null}", "[\"a\"]", "\"a\"", "{\"a\":\"b}", "{\"a:\"b\"}", "{a:\"b\"}",
        "{\"a\":\"b\"}\v", "{\"a23456789012345678901234567890123456789012345678901234567890123456789\":\"b\"}", "{\"a\":{\"b\":\"c\"}}",
    };
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        json_t *ours = NULL, *theirs = json_loads(texts[i], JSON_REJECT_DUPLICATES, NULL);
        int rc = far_json_parse(far_slice_str(texts[i]), &ours, &err);
        assert_int_equal(rc, json_is_object(theirs) ? 0 : FAR_INVALID);
        assert_true(rc != 0 || json_equal(ours, theirs));
        json_decref(ours);
        json_decref(theirs);
    }
    json_t *none = NULL;
    assert_int_equal(far_json_parse(far_slice("{\"a\":\"b\0\"}", 10), &none, &err), FAR_INVALID);
    assert_int_equal(far_json_parse(far_slice("{\"a\":\"b\"}\0", 10), &none, &err), FAR_INVALID);
}

static void bytes_that_are_no_utf8_still_make_json(void **unused)
{
    struct far_row_job row = {.error_message = far_slice("a\xff\xc3", 3)};
    json_t *json = far_json_from_struct(&far_schema_row_job, &row);
    assert_string_equal(json_string_value(json_object_get(json, "error_message")), "a??");
    json_decref(json);
}

static void without_memory_it_fails_and_leaks_nothing(void **unused)
{
    static const char text[] = "{\"name\":\"w\",\"site\":\"s\",\"disks\":[{\"name\":\"a\",\"locator\":\"/a\"}]}";
    for (uint64_t n = 1;; n++) {
        static const struct far_json_rule rule = {NULL, "name site disks"};
        struct far_cmd_workload_create out;
        struct far_arena small;
        json_t *json = NULL;
        assert_int_equal(far_json_parse(far_slice_str(text), &json, &err), 0);
        far_arena_init(&small, 1 << 16);
        far_fault_arm(FAR_FAULT_ALLOC, n, ENOMEM);
        int rc = far_json_to_struct(&far_schema_cmd_workload_create, json, &rule, &small, &out, &err);
        bool struck = far_fault_disarm();
        assert_int_equal(rc, struck ? FAR_LIMIT : 0);
        far_arena_done(&small);
        json_decref(json);
        if (!struck) {
            break;
        }
    }
}

/* ---- routes ---- */

static void paths_find_their_route(void **unused)
{
    struct far_match match;
    far_route_match(FAR_HTTP_POST, far_slice_str("/v1/plans/web-1/start"), &match);
    assert_non_null(match.route);
    assert_ptr_equal(match.route->schema, &far_schema_cmd_plan_start);
    assert_string_equal(match.param, "web-1");
    far_route_match(FAR_HTTP_HEAD, far_slice_str("/v1/plans"), &match);
    assert_non_null(match.route);
    static const char *const none[] = {"", "/", "/v1", "/v1/plans/", "/v1/plans//start", "/v1/plans/a/", "/v1/plans/a/b",
                                       "/v1/plans/a b", "/v1/plans/\xff", "//v1/plans", "/v1/plans/a/start/x",
                                       "/v1/sites/0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < sizeof none / sizeof none[0]; i++) {
        far_route_match(FAR_HTTP_GET, far_slice_str(none[i]), &match);
        assert_null(match.route);
        assert_int_equal(match.methods, 0);
    }
    far_route_match(FAR_HTTP_GET, far_slice("/v1/sites\0", 10), &match);
    assert_null(match.route);
}

static int query(struct far_query *ret_query, size_t count, const char *const *texts)
{
    struct far_slice arguments[8];
    for (size_t i = 0; i < count; i++) {
        arguments[i] = far_slice_str(texts[i]);
    }
    return far_query_parse(arguments, count, ret_query, &err);
}
#define QUERY(q, ...) \
    query(q, sizeof((const char *const[]){__VA_ARGS__}) / sizeof(char *), (const char *const[]){__VA_ARGS__})

static void arguments_are_checked(void **unused)
{
    struct far_query q;
    assert_int_equal(QUERY(&q, "limit=7", "min_index=9", "consistency=linearizable", "plan=p"), 0);
    assert_int_equal(q.limit, 7);
    assert_int_equal(q.min_index, 9);
    assert_true(q.linearizable);
    assert_int_equal(QUERY(&q, "from=12-00112233445566ff"), 0);
    assert_int_equal(q.from, FAR_FROM_CURSOR);
    assert_int_equal(q.from_cursor.seq, 12);
    assert_int_equal(q.from_cursor.head[7], 0xff);
    assert_int_equal(QUERY(&q, "from=end"), 0);
    assert_int_equal(q.from, FAR_FROM_END);
    static const char *const bad[] = {"limit=", "limit=1x", "limit=-1", "limit=9999999999999999999", "", "=", "limit", "x=1",
                                      "from=", "from=-", "from=1-0", "from=1-00112233445566fg", "follow=2", "format=xml",
                                      "plan=", "site=0123456789012345678901234567890123456789012345678901234567890123"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(QUERY(&q, bad[i]), FAR_INVALID);
    }
    assert_int_equal(QUERY(&q, "limit=1", "limit=1"), FAR_INVALID);
    assert_non_null(strstr(err.message, "twice"));
}

static void a_cursor_reads_back_as_it_was_written(void **unused)
{
    struct far_cursor in = {.seq = 123456789, .has_head = true, .head = {1, 2, 3, 4, 5, 6, 7, 8}}, back;
    char text[FAR_CURSOR_TEXT_MAX];
    far_cursor_format(&in, text);
    assert_string_equal(text, "123456789-0102030405060708");
    assert_int_equal(far_cursor_parse(far_slice_str(text), &back, &err), 0);
    assert_int_equal(back.seq, in.seq);
    assert_true(back.has_head);
    assert_memory_equal(in.head, back.head, sizeof in.head);
    in.is_whole = true;
    in.head[31] = 0xab;
    far_cursor_format(&in, text);
    assert_int_equal(far_cursor_parse(far_slice_str(text), &back, &err), 0);
    assert_true(back.is_whole);
    assert_memory_equal(in.head, back.head, sizeof in.head);
}

static void times_are_read_as_the_calendar_has_them(void **unused)
{
    static const struct {
        const char *text;
        uint64_t ms;
    } good[] = {{"1970-01-01T00:00:00Z", 0},
                {"@1700000000123", 1700000000123},
                {"2023-11-14T22:13:20Z", 1700000000000},
                {"2023-11-14T22:13:20.5Z", 1700000000500},
                {"2000-02-29T23:59:59.999Z", 951868799999},
                {"2024-03-01T00:00:00Z", 1709251200000},
                {"2100-03-01T00:00:00Z", 4107542400000},
                {"2023-11-14T23:13:20+01:00", 1700000000000},
                {"2023-11-14T16:43:20.5-05:30", 1700000000500}};
    static const char *const bad[] = {"@", "@x", "2023-11-14T22:13:20", "2023-13-14T22:13:20Z", "2023-11-14 22:13:20Z",
                                      "2023-11-14T24:13:20Z", "1969-12-31T23:59:59Z", "2023-11-14T22:13:20.Z",
                                      "2023-11-14T22:13:20.1234Z", "Z", "", "2026-02-30T00:00:00Z", "2026-04-31T00:00:00Z",
                                      "2026-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2023-11-14T22:13:20+24:00", "5"};
    uint64_t ms;
    for (size_t i = 0; i < sizeof good / sizeof good[0]; i++) {
        assert_true(far_time_parse(far_slice_str(good[i].text), &ms));
        assert_int_equal(ms, good[i].ms);
    }
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_false(far_time_parse(far_slice_str(bad[i]), &ms));
    }
}

/* ---- the OpenAPI document ---- */

static json_t *document(void)
{
    json_error_t why;
    char path[1024];
    snprintf(path, sizeof path, "%s/docs/openapi.json", SRCDIR);
    json_t *doc = json_load_file(path, JSON_REJECT_DUPLICATES, &why);
    if (doc == NULL) {
        fail_msg("%s: %s", path, why.text);
    }
    return doc;
}

static const char *method_key(enum far_http_method method)
{
    return method == FAR_HTTP_GET ? "get" : method == FAR_HTTP_POST ? "post" : method == FAR_HTTP_PATCH ? "patch"
           : method == FAR_HTTP_PUT ? "put" : "delete";
}

static void every_route_is_in_the_document_with_its_body(void **unused)
{
    json_t *doc = document();
    json_t *paths = json_object_get(doc, "paths");
    for (const struct far_route *route = far_routes; route->pattern != NULL; route++) {
        json_t *operation = json_object_get(json_object_get(paths, route->pattern), method_key(route->method));
        if (operation == NULL) {
            fail_msg("%s %s is not in docs/openapi.json", method_key(route->method), route->pattern);
        }
        char status[8];
        snprintf(status, sizeof status, "%d", route->status != 0 ? route->status : 200);
        assert_non_null(json_object_get(json_object_get(operation, "responses"), status));
        assert_string_equal(json_string_value(json_object_get(operation, "summary")), route->summary);
        assert_int_equal(route->open, json_object_get(operation, "security") != NULL);
        if (route->action != FAR_ROUTE_COMMAND && route->action != FAR_ROUTE_TOKEN && route->action != FAR_ROUTE_PATCH &&
            route->action != FAR_ROUTE_PLAN_APPLY && route->action != FAR_ROUTE_SCHEDULE_SET) {
            continue;
        }
        json_t *fields = NULL;
        json_unpack(operation, "{s:{s:{s:{s:{s:o}}}}}", "requestBody", "content", "application/json", "schema",
                    "properties", &fields);
        for (const struct far_field *field = route->schema->fields(); field->type != FAR_TYPE_END; field++) {
            char allowed[512], name[80];
            snprintf(allowed, sizeof allowed, " %s ", route->rule.allowed == NULL ? "" : route->rule.allowed);
            snprintf(name, sizeof name, " %s ", field->name);
            bool open = route->rule.allowed == NULL || strstr(allowed, name) != NULL;
            if (open != (json_object_get(fields, field->name) != NULL)) {
                fail_msg("%s: field '%s' in the table and in docs/openapi.json differ", route->pattern, field->name);
            }
        }
    }
    json_decref(doc);
}

static void everything_in_the_document_is_a_route(void **unused)
{
    json_t *doc = document(), *methods, *operation;
    const char *path, *method;
    size_t documented = 0, routed = 0;
    json_object_foreach(json_object_get(doc, "paths"), path, methods)
    {
        json_object_foreach(methods, method, operation)
        {
            const struct far_route *route = far_routes;
            while (route->pattern != NULL &&
                   (strcmp(route->pattern, path) != 0 || strcmp(method_key(route->method), method) != 0)) {
                route++;
            }
            if (route->pattern == NULL) {
                fail_msg("%s %s is in docs/openapi.json, but no route", method, path);
            }
            documented++;
        }
    }
    while (far_routes[routed].pattern != NULL) {
        routed++;
    }
    assert_int_equal(documented, routed);
    json_decref(doc);
}

static void fields_of_the_table_exist(void **unused)
{
    for (const struct far_route *route = far_routes; route->pattern != NULL; route++) {
        const char *names[] = {route->path_field, route->fixed_field};
        for (size_t i = 0; i < 2; i++) {
            bool found = names[i] == NULL;
            for (const struct far_field *field = found ? NULL : route->schema->fields();
                 field != NULL && field->type != FAR_TYPE_END; field++) {
                found = found || strcmp(field->name, names[i]) == 0;
            }
            assert_true(found);
        }
        bool is_read = route->action == FAR_ROUTE_OBJECT || route->action == FAR_ROUTE_BACKUP_PIECE || route->action == FAR_ROUTE_RESYNC ||
                       route->action == FAR_ROUTE_THROTTLE || route->action == FAR_ROUTE_HISTORY ||
                       route->action == FAR_ROUTE_PLAN_RETENTION || route->action == FAR_ROUTE_PLAN_SPEC ||
                       route->action == FAR_ROUTE_RUN_REPORT;
        assert_int_equal(route->path_field != NULL || is_read, strchr(route->pattern, '{') != NULL);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(every_command_survives_json_and_back, setup, teardown),
        cmocka_unit_test_setup_teardown(secrets_and_hashes_of_tokens_are_never_written, setup, teardown),
        cmocka_unit_test_setup_teardown(a_hash_of_64_bits_is_written_whole, setup, teardown),
        cmocka_unit_test_setup_teardown(no_number_is_told_as_another_one, setup, teardown),
        cmocka_unit_test_setup_teardown(no_number_is_told_as_another_one, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_wrong_in_a_list_is_named_with_its_place, setup, teardown),
        cmocka_unit_test_setup_teardown(numbers_outside_of_the_range_are_refused, setup, teardown),
        cmocka_unit_test(plain_bodies_are_read_as_any_other),
        cmocka_unit_test(bytes_that_are_no_utf8_still_make_json),
        cmocka_unit_test(without_memory_it_fails_and_leaks_nothing),
        cmocka_unit_test(paths_find_their_route),
        cmocka_unit_test(arguments_are_checked),
        cmocka_unit_test(a_cursor_reads_back_as_it_was_written),
        cmocka_unit_test(times_are_read_as_the_calendar_has_them),
        cmocka_unit_test(every_route_is_in_the_document_with_its_body),
        cmocka_unit_test(everything_in_the_document_is_a_route),
        cmocka_unit_test(fields_of_the_table_exist),
    };
    return cmocka_run_group_tests_name("json", tests, NULL, NULL);
}
