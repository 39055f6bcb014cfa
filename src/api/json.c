/* JSON ↔ structs by schema: see json.h. One function reads and one writes each type of field; both walk the table of
 * fields, so a new field or command needs nothing here. */
#include "api/json.h"

#include "fsm/fsm.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- text to value ---- */

/* The deepest nesting of brackets outside of strings. */
static size_t depth_of(struct far_slice text)
{
    size_t depth = 0, deepest = 0;
    bool in_string = false;
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (in_string) {
            i += c == '\\';
            in_string = c != '"';
        } else if (c == '"') {
            in_string = true;
        } else if (c == '{' || c == '[') {
            depth++;
            deepest = depth > deepest ? depth : deepest;
        } else if ((c == '}' || c == ']') && depth > 0) {
            depth--;
        }
    }
    return deepest;
}

struct place { /* in a text */
    const uint8_t *at, *end;
};

static void pass_blanks(struct place *place)
{
    while (place->at < place->end && (*place->at == ' ' || *place->at == '\n' || *place->at == '\r' || *place->at == '\t')) {
        place->at++;
    }
}

static bool take(struct place *place, uint8_t byte)
{
    pass_blanks(place);
    bool is_there = place->at < place->end && *place->at == byte;
    place->at += is_there;
    return is_there;
}

/* A string of printable ASCII without escapes. */
static bool take_plain(struct place *place, struct far_slice *ret_text)
{
    if (!take(place, '"')) {
        return false;
    }
    const uint8_t *from = place->at;
    while (place->at < place->end && *place->at >= 0x20 && *place->at < 0x7f && *place->at != '"' && *place->at != '\\') {
        place->at++;
    }
    *ret_text = far_slice(from, (size_t)(place->at - from));
    return place->at < place->end && *place->at++ == '"';
}

/* What most bodies are: some fields with plain texts. jansson looks at each byte for far longer. NULL: it is something else, or
 * wrong, or there is no memory; jansson knows. */
static json_t *parse_plain(struct far_slice text)
{
    struct place place = {text.data, text.data + text.len};
    char name[64];
    json_t *object = json_object();
    bool good = object != NULL && take(&place, '{');
    while (good) {
        struct far_slice key, value;
        good = take_plain(&place, &key) && key.len < sizeof name && take(&place, ':') && take_plain(&place, &value);
        if (good) {
            memcpy(name, key.data, key.len);
            name[key.len] = '\0';
            good = json_object_get(object, name) == NULL &&
                   json_object_set_new_nocheck(object, name, json_stringn_nocheck((const char *)value.data, value.len)) == 0;
        }
        if (!good || !take(&place, ',')) {
            break;
        }
    }
    good = good && take(&place, '}');
    pass_blanks(&place);
    if (!good || place.at != place.end) {
        json_decref(object);
        return NULL;
    }
    return object;
}

int far_json_parse(struct far_slice text, json_t **ret_object, struct far_error *err)
{
    json_t *plain = parse_plain(text);
    if (plain != NULL) {
        *ret_object = plain;
        return 0;
    }
    if (depth_of(text) > FAR_JSON_DEPTH_MAX) {
        return far_fail(err, FAR_INVALID, "JSON is nested deeper than %d", FAR_JSON_DEPTH_MAX);
    }
    json_error_t why;
    json_t *value = json_loadb((const char *)text.data, text.len, JSON_REJECT_DUPLICATES, &why);
    if (value == NULL) {
        return far_fail(err, FAR_INVALID, "malformed JSON at line %d, column %d: %s", why.line, why.column, why.text);
    }
    if (!json_is_object(value)) {
        json_decref(value);
        return far_fail(err, FAR_INVALID, "the body must be a JSON object");
    }
    *ret_object = value;
    return 0;
}

/* ---- value to struct ---- */

enum { VALUE_SHOWN = 60 }; /* bytes of a value that is refused */

/* Does the list of names, separated by spaces, hold this one? */
static bool names_hold(const char *names, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = names; at != NULL && (at = strstr(at, name)) != NULL; at += len) {
        if ((at == names || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static int wrong(const struct far_field *field, const json_t *value, struct far_error *err, const char *wanted)
{
    char text[VALUE_SHOWN + 1] = "";
    size_t len = json_dumpb(value, text, VALUE_SHOWN, JSON_COMPACT | JSON_ENCODE_ANY | JSON_ENSURE_ASCII);
    text[len < VALUE_SHOWN ? len : VALUE_SHOWN] = '\0';
    return far_fail(err, FAR_INVALID, "field '%s' must be %s, not %s%s", field->name, wanted, text, len > VALUE_SHOWN ? "..." : "");
}

/* The error of an item names its field from the list on: "field 'disks[1].name' must be …". A list of at most one needs no number. */
static int at_item(const struct far_field *field, size_t i, struct far_error *err)
{
    static const char named[] = "field '";
    char number[24] = "", old[FAR_MESSAGE_MAX];
    if (err == NULL) {
        return FAR_INVALID;
    }
    snprintf(old, sizeof old, "%s", err->message);
    char *at = strstr(old, named);
    if (field->max != 1) {
        snprintf(number, sizeof number, "[%zu]", i);
    }
    if (at == NULL) {
        return far_fail(err, err->klass, "field '%s%s': %.300s", field->name, number, old);
    }
    at += sizeof named - 1;
    bool is_own = field->type != FAR_TYPE_LIST; /* the item has no fields: its name is the list's */
    const char *rest = is_own ? at + strlen(field->name) : at;
    return far_fail(err, err->klass, "%.*s%s%s%s%.300s", (int)(at - old), old, field->name, number, is_own ? "" : ".", rest);
}

static int too_long(const struct far_field *field, struct far_error *err)
{
    bool items = field->type == FAR_TYPE_LIST || field->type == FAR_TYPE_STRS || field->type == FAR_TYPE_U64S;
    return far_fail(err, FAR_INVALID, "field '%s' is longer than %zu %s", field->name, field->max,
                    items ? "items" : "bytes");
}

static int no_room(struct far_error *err)
{
    return far_fail(err, FAR_LIMIT, "the request needs too much memory");
}

static int read_text(const struct far_field *field, const json_t *value, struct far_arena *arena,
                     struct far_slice *ret_text, struct far_error *err)
{
    if (!json_is_string(value)) {
        return wrong(field, value, err, "a string");
    }
    size_t len = json_string_length(value);
    size_t max = field->type == FAR_TYPE_STRS ? 63 : field->max;
    if (len > max) {
        return far_fail(err, FAR_INVALID, "field '%s' is longer than %zu bytes", field->name, max);
    }
    uint8_t *copy = far_arena_alloc(arena, len + 1);
    if (copy == NULL) {
        return no_room(err);
    }
    memcpy(copy, json_string_value(value), len);
    *ret_text = far_slice(copy, len);
    return 0;
}

static int read_hex(const struct far_field *field, const json_t *value, struct far_arena *arena,
                    struct far_slice *ret_bytes, struct far_error *err)
{
    if (!json_is_string(value) || json_string_length(value) % 2 != 0) {
        return wrong(field, value, err, "a string of hexadecimal digits");
    }
    size_t len = json_string_length(value) / 2;
    if (len > field->max) {
        return too_long(field, err);
    }
    uint8_t *bytes = far_arena_alloc(arena, len + 1);
    if (bytes == NULL) {
        return no_room(err);
    }
    if (!far_hex_decode(json_string_value(value), 2 * len, bytes, len)) {
        return wrong(field, value, err, "a string of hexadecimal digits");
    }
    *ret_bytes = far_slice(bytes, len);
    return 0;
}

/* A hash has all 64 bits, more than a JSON number may have here: 16 hexadecimal digits. */
static bool is_hash(const struct far_field *field)
{
    return strcmp(field->name, "body_hash") == 0 || strcmp(field->name, "entry_hash") == 0;
}

static int read_hash(const struct far_field *field, const json_t *value, uint64_t *ret_number, struct far_error *err)
{
    uint8_t bytes[8];
    if (!json_is_string(value) || !far_hex_decode(json_string_value(value), json_string_length(value), bytes, sizeof bytes)) {
        return wrong(field, value, err, "16 hexadecimal digits");
    }
    *ret_number = far_get_be64(bytes);
    return 0;
}

static int read_number(const struct far_field *field, const json_t *value, uint64_t *ret_number, struct far_error *err)
{
    if (is_hash(field)) {
        return read_hash(field, value, ret_number, err);
    }
    if (!json_is_integer(value) || json_integer_value(value) < 0) {
        return wrong(field, value, err, "a whole number from 0 to 2^63 - 1");
    }
    *ret_number = (uint64_t)json_integer_value(value);
    return 0;
}

static int read_enum(const struct far_field *field, const json_t *value, uint64_t *ret_number, struct far_error *err)
{
    uint64_t number = 0;
    if (json_is_string(value)) {
        number = far_enum_value(field->values, far_slice(json_string_value(value), json_string_length(value)));
    }
    if (number == 0) {
        char names[256] = "one of";
        size_t used = strlen(names);
        for (const struct far_enum_value *v = field->values->values; v->name != NULL && used < sizeof names; v++) {
            used += (size_t)snprintf(names + used, sizeof names - used, " '%s'", v->name);
        }
        return wrong(field, value, err, names);
    }
    *ret_number = number;
    return 0;
}

static const struct far_json_rule rule_of_elements = {NULL, NULL};

static int read_list(const struct far_field *field, const json_t *value, struct far_arena *arena,
                     struct far_list *ret_list, struct far_error *err)
{
    bool is_one = field->type == FAR_TYPE_LIST && field->max == 1 && json_is_object(value);
    if (!json_is_array(value) && !is_one) {
        return wrong(field, value, err, field->type == FAR_TYPE_LIST && field->max == 1 ? "a JSON object" : "a list");
    }
    size_t count = is_one ? 1 : json_array_size(value);
    if (count > field->max) {
        return too_long(field, err);
    }
    size_t size = field->type == FAR_TYPE_LIST   ? field->element->size
                  : field->type == FAR_TYPE_STRS ? sizeof(struct far_slice)
                                                 : sizeof(uint64_t);
    uint8_t *items = far_arena_alloc(arena, count * size + 1);
    if (items == NULL) {
        return no_room(err);
    }
    for (size_t i = 0; i < count; i++) {
        const json_t *item = is_one ? value : json_array_get(value, i);
        void *at = items + i * size;
        int rc = field->type == FAR_TYPE_LIST   ? far_json_to_struct(field->element, item, &rule_of_elements, arena, at, err)
                 : field->type == FAR_TYPE_STRS ? read_text(field, item, arena, at, err)
                                                : read_number(field, item, at, err);
        if (rc != 0) {
            return at_item(field, i, err);
        }
    }
    *ret_list = (struct far_list){.items = items, .count = count};
    return 0;
}

static int read_field(const struct far_field *field, const json_t *value, struct far_arena *arena, void *object,
                      struct far_error *err)
{
    void *at = (uint8_t *)object + field->offset;
    switch (field->type) {
    case FAR_TYPE_U64:
        return read_number(field, value, at, err);
    case FAR_TYPE_ENUM:
        return read_enum(field, value, at, err);
    case FAR_TYPE_BOOL:
        if (!json_is_boolean(value)) {
            return wrong(field, value, err, "true or false");
        }
        *(bool *)at = json_is_true(value);
        return 0;
    case FAR_TYPE_STR:
        return read_text(field, value, arena, at, err);
    case FAR_TYPE_BYTES:
    case FAR_TYPE_SECRET:
        return read_hex(field, value, arena, at, err);
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
    case FAR_TYPE_U64S:
        return read_list(field, value, arena, at, err);
    case FAR_TYPE_END:
        break;
    }
    return far_fail(err, FAR_INTERNAL, "field '%s' has no type", field->name);
}

static const struct far_field *find_field(const struct far_schema *schema, const char *name)
{
    for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
        if (strcmp(field->name, name) == 0) {
            return field;
        }
    }
    return NULL;
}

static bool is_missing(const json_t *value)
{
    return value == NULL || (json_is_string(value) && json_string_length(value) == 0) ||
           (json_is_array(value) && json_array_size(value) == 0);
}

int far_json_to_struct(const struct far_schema *schema, const json_t *object, const struct far_json_rule *rule,
                       struct far_arena *arena, void *ret_struct, struct far_error *err)
{
    if (!json_is_object(object)) {
        return far_fail(err, FAR_INVALID, "a JSON object is expected");
    }
    const char *key;
    json_t *value;
    memset(ret_struct, 0, schema->size);
    json_object_foreach((json_t *)object, key, value)
    {
        const struct far_field *field = find_field(schema, key);
        bool allowed = field != NULL && field->type != FAR_TYPE_SECRET &&
                       (rule->allowed == NULL || names_hold(rule->allowed, key));
        if (!allowed) {
            return far_fail(err, FAR_INVALID, "unknown field '%.64s'", key);
        }
        int rc = read_field(field, value, arena, ret_struct, err);
        if (rc != 0) {
            return rc;
        }
    }
    for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
        if (names_hold(rule->required, field->name) && is_missing(json_object_get(object, field->name))) {
            return far_fail(err, FAR_INVALID, "field '%s' is missing", field->name);
        }
    }
    return 0;
}

/* ---- struct to value ---- */

json_t *far_json_text(struct far_slice text)
{
    json_t *value = text.len == 0 ? json_string("") : json_stringn((const char *)text.data, text.len);
    if (value != NULL) {
        return value;
    }
    char *copy = malloc(text.len + 1);
    if (copy == NULL) {
        return NULL;
    }
    for (size_t i = 0; i < text.len; i++) {
        copy[i] = text.data[i] < 0x80 ? (char)text.data[i] : '?';
    }
    value = json_stringn(copy, text.len);
    free(copy);
    return value;
}

json_t *far_json_hex(const void *data, size_t len)
{
    char *text = malloc(2 * len + 1);
    if (text == NULL) {
        return NULL;
    }
    far_hex_encode(data, len, text);
    json_t *value = json_stringn(text, 2 * len);
    free(text);
    return value;
}

json_t *far_json_u64(uint64_t value)
{
    return value > INT64_MAX ? json_sprintf("%llu", (unsigned long long)value) : json_integer((json_int_t)value);
}

json_t *far_json_actor(uint64_t actor)
{
    static const char *const kinds[] = {"unknown", "system", "server", "node", "token"};
    uint64_t kind = actor >> 56;
    return json_sprintf("%s:%llu", kinds[kind <= FAR_ACTOR_TOKEN ? kind : 0],
                        (unsigned long long)(actor & 0x00ffffffffffffffu));
}

static json_t *write_list(const struct far_field *field, const struct far_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; array != NULL && i < list->count; i++) {
        json_t *item = NULL;
        if (field->type == FAR_TYPE_LIST) {
            item = far_json_from_struct(field->element, (const uint8_t *)list->items + i * field->element->size);
        } else if (field->type == FAR_TYPE_STRS) {
            item = far_json_text(((const struct far_slice *)list->items)[i]);
        } else {
            item = far_json_u64(((const uint64_t *)list->items)[i]);
        }
        if (json_array_append_new(array, item) != 0) {
            json_decref(array);
            array = NULL;
        }
    }
    return array;
}

static json_t *write_number(const struct far_field *field, uint64_t value)
{
    if (strcmp(field->name, "actor") == 0) {
        return far_json_actor(value);
    }
    return is_hash(field) ? json_sprintf("%016llx", (unsigned long long)value) : far_json_u64(value);
}

static json_t *write_field(const struct far_field *field, const void *object)
{
    const void *at = (const uint8_t *)object + field->offset;
    switch (field->type) {
    case FAR_TYPE_U64:
        return write_number(field, *(const uint64_t *)at);
    case FAR_TYPE_ENUM:
        return *(const uint64_t *)at == 0 ? json_string("")
                                          : json_string(far_enum_name(field->values, *(const uint64_t *)at));
    case FAR_TYPE_BOOL:
        return json_boolean(*(const bool *)at);
    case FAR_TYPE_STR:
        return far_json_text(*(const struct far_slice *)at);
    case FAR_TYPE_BYTES:
        return far_json_hex(((const struct far_slice *)at)->data, ((const struct far_slice *)at)->len);
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
    case FAR_TYPE_U64S:
        return write_list(field, at);
    case FAR_TYPE_SECRET:
    case FAR_TYPE_END:
        break;
    }
    return NULL;
}

/* Never written: secrets, and what tokens are looked up by. */
static bool is_hidden(const struct far_schema *schema, const struct far_field *field)
{
    size_t len = strlen(field->name);
    bool hash = field->type == FAR_TYPE_BYTES && len >= 4 && strcmp(field->name + len - 4, "hash") == 0;
    return field->type == FAR_TYPE_SECRET ||
           (hash && (schema->klass == FAR_CLASS_ev || schema->klass == FAR_CLASS_row));
}

json_t *far_json_from_struct(const struct far_schema *schema, const void *object)
{
    json_t *result = json_object();
    for (const struct far_field *field = schema->fields(); result != NULL && field->type != FAR_TYPE_END; field++) {
        if (is_hidden(schema, field)) {
            continue;
        }
        if (json_object_set_new(result, field->name, write_field(field, object)) != 0) {
            json_decref(result);
            result = NULL;
        }
    }
    return result;
}

/* Is it what a field is that nobody sets? Minutes of a day are told all the same. */
static bool is_void(const struct far_field *field, const json_t *value)
{
    size_t len = strlen(field->name);
    bool is_minute = len > 4 && strcmp(field->name + len - 4, "_min") == 0;
    return json_is_false(value) || json_is_null(value) || (json_is_integer(value) && json_integer_value(value) == 0 && !is_minute) ||
           (json_is_string(value) && json_string_length(value) == 0) || (json_is_array(value) && json_array_size(value) == 0);
}

static json_t *brief_list(const struct far_field *field, const struct far_list *list)
{
    json_t *array = json_array();
    for (size_t i = 0; i < list->count; i++) {
        json_array_append_new(array, far_json_brief(field->element, (const uint8_t *)list->items + i * field->element->size));
    }
    if (field->max != 1 || list->count != 1) {
        return array;
    }
    json_t *one = json_incref(json_array_get(array, 0));
    json_decref(array);
    return one;
}

json_t *far_json_brief(const struct far_schema *schema, const void *object)
{
    json_t *result = json_object();
    for (const struct far_field *field = schema->fields(); result != NULL && field->type != FAR_TYPE_END; field++) {
        const void *at = (const uint8_t *)object + field->offset;
        json_t *value = is_hidden(schema, field) ? NULL : field->type == FAR_TYPE_LIST ? brief_list(field, at) : write_field(field, object);
        if (value != NULL && !is_void(field, value)) {
            json_object_set(result, field->name, value);
        }
        json_decref(value);
    }
    return result;
}

/* ---- value to text ---- */

static int append(const char *bytes, size_t len, void *out)
{
    return far_buf_append(out, bytes, len);
}

int far_json_write(const json_t *value, struct far_buf *out, struct far_error *err)
{
    size_t before = out->len;
    if (value == NULL || json_dump_callback(value, append, out, JSON_COMPACT | JSON_ENCODE_ANY) != 0) {
        out->len = before;
        return far_fail(err, FAR_LIMIT, "the answer needs too much memory");
    }
    return 0;
}
