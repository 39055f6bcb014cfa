/* The schema: see schema.h.
 *
 * Encoding writes what msgpack-c would (the golden files were made with it), without a call for each byte. Decoding reads with
 * a cursor of our own too: msgpack-c's unpacker allocates what an array's header promises before it has seen the elements, so 5
 * hostile bytes could ask for gigabytes. Here a list is allocated only after its count is checked against its maximum and
 * against the bytes that are left. */
#include "fsm/schema.h"

/* ---- the tables, from events.def ---- */

#define FAR_ENUM_BEGIN(name_) static const struct far_enum_value enum_values_##name_[] = {
#define FAR_VALUE(owner, number_, name_) {.value = number_, .name = #name_},
#define FAR_ENUM_END(name_) {.name = NULL}};
#define FAR_BEGIN(klass_, name_, kind_, version_)                     \
    static const struct far_field *fields_of_##klass_##_##name_(void) \
    {                                                                 \
        typedef struct far_##klass_##_##name_ owner;                  \
        static const struct far_field table[] = {
#define FAR_PLAIN(type_, number_, name_, max_) \
    {.type = type_, .number = number_, .name = #name_, .offset = offsetof(owner, name_), .max = max_},
#define FAR_U64(number_, name_) FAR_PLAIN(FAR_TYPE_U64, number_, name_, 0)
#define FAR_BOOL(number_, name_) FAR_PLAIN(FAR_TYPE_BOOL, number_, name_, 0)
#define FAR_ENUM(number_, name_, values_) \
    {.type = FAR_TYPE_ENUM, .number = number_, .name = #name_, .offset = offsetof(owner, name_), \
     .values = &far_enum_##values_},
#define FAR_STR(number_, name_, max_) FAR_PLAIN(FAR_TYPE_STR, number_, name_, max_)
#define FAR_BYTES(number_, name_, max_) FAR_PLAIN(FAR_TYPE_BYTES, number_, name_, max_)
#define FAR_SECRET(number_, name_, max_) FAR_PLAIN(FAR_TYPE_SECRET, number_, name_, max_)
#define FAR_LIST(number_, name_, sub_, max_) \
    {.type = FAR_TYPE_LIST, .number = number_, .name = #name_, .offset = offsetof(owner, name_), .max = max_, \
     .element = &far_schema_sub_##sub_},
#define FAR_STRS(number_, name_, max_) FAR_PLAIN(FAR_TYPE_STRS, number_, name_, max_)
#define FAR_U64S(number_, name_, max_) FAR_PLAIN(FAR_TYPE_U64S, number_, name_, max_)
#define FAR_SINCE(level)
#define FAR_FIELD_SINCE(number, level)
#define FAR_SEVERITY(severity)
#define FAR_SEVERITY_IF(field, value, severity)
#define FAR_END(klass_, name_)        \
    {.type = FAR_TYPE_END, .offset = sizeof(owner)}}; \
    return table;                     \
    }
#include "fsm/events.def"
#include "fsm/schema_undef.h"
#undef FAR_PLAIN

#include "fsm/schema_nofields.h"
#undef FAR_SEVERITY
#undef FAR_SEVERITY_IF
#undef FAR_END
#define FAR_ENUM_BEGIN(name_)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass_, name_, kind_, version_)                        \
    static uint64_t severity_of_##klass_##_##name_(const void *object)   \
    {                                                                    \
        const struct far_##klass_##_##name_ *owner = object;             \
        uint64_t severity = 0;                                           \
        (void)owner;
#define FAR_SEVERITY(severity_) severity = FAR_severity_##severity_;
#define FAR_SEVERITY_IF(field_, value_, severity_) \
    severity = owner->field_ == (value_) ? (uint64_t)FAR_severity_##severity_ : severity;
#define FAR_END(klass_, name_) \
    return severity;           \
    }
#include "fsm/events.def"
#include "fsm/schema_undef.h"

#include "fsm/schema_nofields.h"
#undef FAR_SINCE
#undef FAR_FIELD_SINCE
#undef FAR_END
#define FAR_ENUM_BEGIN(name_)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass_, name_, kind_, version_)                         \
    static uint16_t since_of_##klass_##_##name_(uint16_t number)          \
    {                                                                     \
        uint16_t since = 1;
#define FAR_SINCE(level_) since = level_;
#define FAR_FIELD_SINCE(number_, level_) since = number == (number_) ? level_ : since;
#define FAR_END(klass_, name_) \
    (void)number;              \
    return since;              \
    }
#include "fsm/events.def"
#include "fsm/schema_undef.h"

/* Elements come before the lists of them. */
#include "fsm/schema_nofields.h"
#undef FAR_SINCE
#undef FAR_FIELD_SINCE
#undef FAR_LIST
#undef FAR_END
#define FAR_ENUM_BEGIN(name_)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass_, name_, kind_, version_) enum { levels_of_##klass_##_##name_ = 1 << 1
#define FAR_SINCE(level_) | 1 << (level_)
#define FAR_FIELD_SINCE(number_, level_) | 1 << (level_)
#define FAR_LIST(number_, name_, sub_, max_) | levels_of_sub_##sub_
#define FAR_END(klass_, name_) };
#include "fsm/events.def"
#include "fsm/schema_undef.h"

#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name_) const struct far_enum far_enum_##name_ = {.name = #name_, .values = enum_values_##name_};
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass_, name_, kind_, version_)                                                              \
    const struct far_schema far_schema_##klass_##_##name_ = {.klass = FAR_CLASS_##klass_,                      \
                                                             .name = #name_,                                   \
                                                             .kind = kind_,                                    \
                                                             .version = version_,                              \
                                                             .size = sizeof(struct far_##klass_##_##name_),    \
                                                             .fields = fields_of_##klass_##_##name_,           \
                                                             .severity = severity_of_##klass_##_##name_,       \
                                                             .since = since_of_##klass_##_##name_,             \
                                                             .levels = levels_of_##klass_##_##name_};
#include "fsm/events.def"
#include "fsm/schema_undef.h"

#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass_, name_, kind_, version_) &far_schema_##klass_##_##name_,
const struct far_schema *const far_schemas[] = {
#include "fsm/events.def"
    NULL,
};
#include "fsm/schema_undef.h"

const struct far_schema *far_schema_find(enum far_schema_class klass, uint16_t kind, uint16_t version)
{
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        const struct far_schema *schema = far_schemas[i];
        if (schema->klass == klass && schema->kind == kind && schema->version == version) {
            return schema;
        }
    }
    return NULL;
}

const struct far_schema *far_schema_find_name(enum far_schema_class klass, const char *name)
{
    const struct far_schema *newest = NULL;
    for (size_t i = 0; far_schemas[i] != NULL; i++) {
        const struct far_schema *schema = far_schemas[i];
        if (schema->klass == klass && strcmp(schema->name, name) == 0 &&
            (newest == NULL || schema->version > newest->version)) {
            newest = schema;
        }
    }
    return newest;
}

const char *far_enum_name(const struct far_enum *values, uint64_t value)
{
    for (const struct far_enum_value *v = values->values; v->name != NULL; v++) {
        if (v->value == value) {
            return v->name;
        }
    }
    return "unknown";
}

uint64_t far_enum_value(const struct far_enum *values, struct far_slice name)
{
    for (const struct far_enum_value *v = values->values; v->name != NULL; v++) {
        if (far_slice_equal(far_slice_str(v->name), name)) {
            return v->value;
        }
    }
    return 0;
}

/* ---- encoding ---- */

static const void *member(const struct far_field *field, const void *object)
{
    return (const uint8_t *)object + field->offset;
}

static bool field_empty(const struct far_field *field, const void *object)
{
    const void *at = member(field, object);
    switch (field->type) {
    case FAR_TYPE_U64:
    case FAR_TYPE_ENUM:
        return *(const uint64_t *)at == 0;
    case FAR_TYPE_BOOL:
        return !*(const bool *)at;
    case FAR_TYPE_STR:
    case FAR_TYPE_BYTES:
    case FAR_TYPE_SECRET:
        return ((const struct far_slice *)at)->len == 0;
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
    case FAR_TYPE_U64S:
        return ((const struct far_list *)at)->count == 0;
    case FAR_TYPE_END:
        break;
    }
    return true;
}

uint16_t far_schema_level(const struct far_schema *schema, const void *object)
{
    uint16_t level = schema->since(0);
    if (schema->levels == 1 << 1) {
        return level;
    }
    for (const struct far_field *f = schema->fields(); f->type != FAR_TYPE_END; f++) {
        if (field_empty(f, object)) {
            continue;
        }
        uint16_t needed = schema->since(f->number);
        level = needed > level ? needed : level;
        const struct far_list *list = member(f, object);
        for (size_t i = 0; f->type == FAR_TYPE_LIST && f->element->levels != 1 << 1 && i < list->count; i++) {
            needed = far_schema_level(f->element, (const uint8_t *)list->items + i * f->element->size);
            level = needed > level ? needed : level;
        }
    }
    return level;
}

static void clear_field(const struct far_field *f, void *object)
{
    void *at = (uint8_t *)object + f->offset;
    switch (f->type) {
    case FAR_TYPE_U64:
    case FAR_TYPE_ENUM:
        *(uint64_t *)at = 0;
        break;
    case FAR_TYPE_BOOL:
        *(bool *)at = false;
        break;
    case FAR_TYPE_STR:
    case FAR_TYPE_BYTES:
    case FAR_TYPE_SECRET:
        *(struct far_slice *)at = far_slice(NULL, 0);
        break;
    default:
        *(struct far_list *)at = (struct far_list){.items = NULL};
    }
}

void far_schema_lower(const struct far_schema *schema, void *object, uint64_t level)
{
    for (const struct far_field *f = schema->fields(); f->type != FAR_TYPE_END; f++) {
        const struct far_list *list = member(f, object);
        if (schema->since(f->number) > level) {
            clear_field(f, object);
        }
        for (size_t i = 0; f->type == FAR_TYPE_LIST && i < list->count; i++) {
            far_schema_lower(f->element, (uint8_t *)list->items + i * f->element->size, level);
        }
    }
}

static int too_big(const struct far_field *field, struct far_error *err)
{
    return far_fail(err, FAR_INVALID, "field '%s' is longer than %zu", field->name, field->max);
}

/* Where bytes go; a writer at its end stays there, and is_full. */
struct writer {
    uint8_t *at;
    uint8_t *end;
    bool is_full;
    bool cleans; /* texts that are no UTF-8 */
};

static uint8_t *room(struct writer *w, size_t len)
{
    if (len > (size_t)(w->end - w->at)) {
        w->is_full = true;
        w->end = w->at;
        return NULL;
    }
    uint8_t *at = w->at;
    w->at += len;
    return at;
}

static void write_u8(struct writer *w, uint8_t v)
{
    uint8_t *at = room(w, 1);
    if (at != NULL) {
        *at = v;
    }
}

/* code and a big-endian number of len bytes. */
static void write_code(struct writer *w, uint8_t code, uint64_t v, unsigned len)
{
    uint8_t *at = room(w, 1 + len);
    if (at != NULL) {
        *at = code;
        for (unsigned i = 0; i < len; i++) {
            at[1 + i] = (uint8_t)(v >> 8 * (len - 1 - i));
        }
    }
}

static void write_u64(struct writer *w, uint64_t v)
{
    if (v < 0x80) {
        write_u8(w, (uint8_t)v);
    } else if (v <= UINT8_MAX) {
        write_code(w, 0xcc, v, 1);
    } else if (v <= UINT16_MAX) {
        write_code(w, 0xcd, v, 2);
    } else if (v <= UINT32_MAX) {
        write_code(w, 0xce, v, 4);
    } else {
        write_code(w, 0xcf, v, 8);
    }
}

/* A count or length: fix and up to fix_max in one byte, else code8 (0: there is none), or the next codes with 2 or 4 bytes. */
static void write_size(struct writer *w, uint8_t fix, size_t fix_max, uint8_t code8, uint8_t code16, size_t size)
{
    if (size <= fix_max) {
        write_u8(w, (uint8_t)(fix | size));
    } else if (code8 != 0 && size <= UINT8_MAX) {
        write_code(w, code8, size, 1);
    } else if (size <= UINT16_MAX) {
        write_code(w, code16, size, 2);
    } else {
        write_code(w, (uint8_t)(code16 + 1), size, 4);
    }
}

/* Bytes of the character that begins here; 0: it is no well-formed UTF-8, or NUL, an overlong form or a surrogate (Unicode 15, table
 * 3-7). */
static size_t character(const uint8_t *at, size_t left)
{
    uint8_t b = at[0];
    size_t more = b < 0x80 ? 0 : b >= 0xc2 && b <= 0xdf ? 1 : (b & 0xf0) == 0xe0 ? 2 : b >= 0xf0 && b <= 0xf4 ? 3 : 9;
    if (b == 0 || more > left - 1) {
        return 0;
    }
    for (size_t k = 1; k <= more; k++) {
        if ((at[k] & 0xc0) != 0x80) {
            return 0;
        }
    }
    uint8_t second = more > 0 ? at[1] : 0;
    bool is_bad = (b == 0xe0 && second < 0xa0) || (b == 0xed && second > 0x9f) || (b == 0xf0 && second < 0x90) ||
                  (b == 0xf4 && second > 0x8f);
    return is_bad ? 0 : more + 1;
}

static bool is_utf8(struct far_slice text)
{
    size_t i = 0, n = 1;
    while (i < text.len && n > 0) {
        n = character(text.data + i, text.len - i);
        i += n;
    }
    return n > 0;
}

static void write_bytes(struct writer *w, struct far_slice bytes)
{
    uint8_t *at = room(w, bytes.len);
    if (at != NULL && bytes.len > 0) {
        memcpy(at, bytes.data, bytes.len);
    }
}

/* In messages of nodes and servers what is no UTF-8 (words of another program, a text that was cut inside a character) becomes '?', byte
 * by byte: the other side could not read it, nor anything that came with it. */
static void write_text(struct writer *w, struct far_slice text)
{
    write_size(w, 0xa0, 31, 0xd9, 0xda, text.len);
    if (!w->cleans) {
        write_bytes(w, text);
        return;
    }
    uint8_t *at = room(w, text.len);
    for (size_t i = 0; at != NULL && i < text.len;) {
        size_t n = character(text.data + i, text.len - i);
        memcpy(at + i, n > 0 ? text.data + i : (const uint8_t *)"?", n > 0 ? n : 1);
        i += n > 0 ? n : 1;
    }
}

static void write_bin(struct writer *w, struct far_slice bytes)
{
    if (bytes.len <= UINT8_MAX) {
        write_code(w, 0xc4, bytes.len, 1);
    } else {
        write_size(w, 0, 0, 0, 0xc5, bytes.len);
    }
    write_bytes(w, bytes);
}

static int pack_object(struct writer *w, const struct far_schema *schema, const void *object, struct far_error *err);

static int pack_list(struct writer *w, const struct far_field *field, const struct far_list *list, struct far_error *err)
{
    int rc = list->count > field->max ? too_big(field, err) : 0;
    write_size(w, 0x90, 15, 0, 0xdc, list->count);
    for (size_t i = 0; i < list->count && rc == 0 && !w->is_full; i++) {
        if (field->type == FAR_TYPE_LIST) {
            rc = pack_object(w, field->element, (const uint8_t *)list->items + i * field->element->size, err);
        } else if (field->type == FAR_TYPE_U64S) {
            write_u64(w, ((const uint64_t *)list->items)[i]);
        } else {
            write_text(w, ((const struct far_slice *)list->items)[i]);
        }
    }
    return rc;
}

static int pack_field(struct writer *w, const struct far_field *field, const void *object, struct far_error *err)
{
    const void *at = member(field, object);
    const struct far_slice *bytes = at;
    write_u64(w, field->number);
    switch (field->type) {
    case FAR_TYPE_U64:
    case FAR_TYPE_ENUM:
        write_u64(w, *(const uint64_t *)at);
        break;
    case FAR_TYPE_BOOL:
        write_u8(w, 0xc3);
        break;
    case FAR_TYPE_STR:
        if (bytes->len > field->max) {
            return too_big(field, err);
        }
        write_text(w, *bytes);
        break;
    case FAR_TYPE_BYTES:
    case FAR_TYPE_SECRET:
        if (bytes->len > field->max) {
            return too_big(field, err);
        }
        write_bin(w, *bytes);
        break;
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
    case FAR_TYPE_U64S:
        return pack_list(w, field, at, err);
    case FAR_TYPE_END:
        break;
    }
    return 0;
}

static int pack_object(struct writer *w, const struct far_schema *schema, const void *object, struct far_error *err)
{
    const struct far_field *fields = schema->fields();
    size_t count = 0;
    for (const struct far_field *f = fields; f->type != FAR_TYPE_END; f++) {
        count += !field_empty(f, object);
    }
    write_size(w, 0x80, 15, 0, 0xde, count);
    int rc = 0;
    for (const struct far_field *f = fields; count > 0 && rc == 0 && !w->is_full; f++) {
        if (!field_empty(f, object)) {
            rc = pack_field(w, f, object, err);
            count--;
        }
    }
    return rc;
}

enum { ROOM_FIRST = 4096 };

int far_schema_encode(const struct far_schema *schema, const void *object, struct far_buf *out, struct far_error *err)
{
    size_t left = out->max - out->len, want = out->cap > out->len ? out->cap - out->len : 0;
    for (want = want < ROOM_FIRST ? ROOM_FIRST : want;; want *= 4) {
        want = want < left ? want : left;
        uint8_t *at = far_buf_reserve(out, want);
        if (at == NULL) {
            return far_fail(err, FAR_LIMIT, "%s does not fit", schema->name);
        }
        struct writer w = {.at = at, .end = at + want, .cleans = schema->klass == FAR_CLASS_msg};
        int rc = pack_object(&w, schema, object, err);
        if (rc == 0 && !w.is_full) {
            out->len += (size_t)(w.at - at);
        }
        if (rc != 0 || !w.is_full) {
            return rc;
        }
        if (want == left) {
            return far_fail(err, FAR_LIMIT, "%s does not fit", schema->name);
        }
    }
}

/* ---- decoding ---- */

struct cursor {
    const uint8_t *at;
    const uint8_t *end;
    struct far_arena *arena;
    struct far_error *err;
};

enum { DEPTH_MAX = 4 };

static size_t left(const struct cursor *c)
{
    return (size_t)(c->end - c->at);
}

/* A big-endian number of len bytes; false if they are not there. */
static bool read_be(struct cursor *c, size_t len, uint64_t *ret)
{
    if (left(c) < len) {
        return false;
    }
    uint64_t v = 0;
    for (size_t i = 0; i < len; i++) {
        v = v << 8 | *c->at++;
    }
    *ret = v;
    return true;
}

/* A length or count whose header is one of: fix (mask of the first byte), or code followed by 1, 2 or 4 bytes. */
static bool read_size(struct cursor *c, uint8_t fix, uint8_t fix_mask, int code8, int code16, int code32, uint64_t *ret)
{
    if (left(c) == 0) {
        return false;
    }
    uint8_t first = *c->at++;
    if ((first & (uint8_t)~fix_mask) == fix && fix_mask != 0) {
        *ret = first & fix_mask;
        return true;
    }
    if (first == code8) {
        return read_be(c, 1, ret);
    }
    if (first == code16) {
        return read_be(c, 2, ret);
    }
    return first == code32 && read_be(c, 4, ret);
}

static inline bool read_u64(struct cursor *c, uint64_t *ret)
{
    if (left(c) == 0) {
        return false;
    }
    uint8_t first = *c->at++;
    if (first < 0x80) {
        *ret = first;
        return true;
    }
    if (first == 0xce && left(c) >= 4) {
        *ret = far_get_be32(c->at);
        c->at += 4;
        return true;
    }
    return first >= 0xcc && first <= 0xcf && read_be(c, (size_t)1 << (first - 0xcc), ret);
}

static bool read_bytes(struct cursor *c, bool is_text, struct far_slice *ret)
{
    uint64_t len = 0;
    bool ok = is_text ? read_size(c, 0xa0, 0x1f, 0xd9, 0xda, 0xdb, &len) : read_size(c, 0, 0, 0xc4, 0xc5, 0xc6, &len);
    if (!ok || len > left(c)) {
        return false;
    }
    *ret = far_slice(c->at, (size_t)len);
    c->at += len;
    return true;
}

static int wrong(struct cursor *c, const char *what)
{
    return far_fail(c->err, FAR_INVALID, "field '%s' is malformed", what);
}

static int unpack_object(struct cursor *c, const struct far_schema *schema, int depth, void *object);

static size_t item_size(const struct far_field *field)
{
    switch (field->type) {
    case FAR_TYPE_LIST:
        return field->element->size;
    case FAR_TYPE_STRS:
        return sizeof(struct far_slice);
    default:
        return sizeof(uint64_t);
    }
}

static int unpack_list(struct cursor *c, const struct far_field *field, int depth, struct far_list *ret)
{
    uint64_t count = 0;
    if (!read_size(c, 0x90, 0x0f, -1, 0xdc, 0xdd, &count) || count > left(c)) {
        return wrong(c, field->name);
    }
    if (count > field->max) {
        return far_fail(c->err, FAR_INVALID, "field '%s' has more than %zu items", field->name, field->max);
    }
    uint8_t *items = far_arena_alloc(c->arena, (size_t)count * item_size(field));
    if (items == NULL) {
        return far_fail(c->err, FAR_LIMIT, "field '%s' needs too much memory", field->name);
    }
    for (size_t i = 0; i < count; i++) {
        uint8_t *item = items + i * item_size(field);
        if (field->type == FAR_TYPE_LIST) {
            int rc = unpack_object(c, field->element, depth + 1, item);
            if (rc != 0) {
                return rc;
            }
        } else if (field->type == FAR_TYPE_U64S) {
            if (!read_u64(c, (uint64_t *)(void *)item)) {
                return wrong(c, field->name);
            }
        } else {
            struct far_slice *text = (struct far_slice *)(void *)item;
            if (!read_bytes(c, true, text) || !is_utf8(*text)) {
                return wrong(c, field->name);
            }
        }
    }
    *ret = (struct far_list){.items = items, .count = (size_t)count};
    return 0;
}

static int unpack_field(struct cursor *c, const struct far_field *field, int depth, void *object)
{
    void *at = (uint8_t *)object + field->offset;
    struct far_slice *bytes = at;
    switch (field->type) {
    case FAR_TYPE_U64:
    case FAR_TYPE_ENUM:
        return read_u64(c, at) ? 0 : wrong(c, field->name);
    case FAR_TYPE_BOOL:
        if (left(c) == 0 || *c->at != 0xc3) {
            return wrong(c, field->name);
        }
        c->at++;
        *(bool *)at = true;
        return 0;
    case FAR_TYPE_STR:
    case FAR_TYPE_BYTES:
    case FAR_TYPE_SECRET:
        if (!read_bytes(c, field->type == FAR_TYPE_STR, bytes) ||
            (field->type == FAR_TYPE_STR && !is_utf8(*bytes))) {
            return wrong(c, field->name);
        }
        return bytes->len <= field->max ? 0 : too_big(field, c->err);
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
    case FAR_TYPE_U64S:
        return unpack_list(c, field, depth, at);
    case FAR_TYPE_END:
        break;
    }
    return far_fail(c->err, FAR_INTERNAL, "field '%s' has no type", field->name);
}

static int unpack_object(struct cursor *c, const struct far_schema *schema, int depth, void *object)
{
    uint64_t count = 0;
    if (depth > DEPTH_MAX || !read_size(c, 0x80, 0x0f, -1, 0xde, 0xdf, &count)) {
        return wrong(c, schema->name);
    }
    const struct far_field *field = schema->fields();
    for (uint64_t i = 0; i < count; i++) {
        uint64_t number = 0;
        if (!read_u64(c, &number)) {
            return wrong(c, schema->name);
        }
        while (field->type != FAR_TYPE_END && field->number != number) {
            field++;
        }
        if (field->type == FAR_TYPE_END) {
            return far_fail(c->err, FAR_INVALID, "%s has no field %llu here", schema->name, (unsigned long long)number);
        }
        int rc = unpack_field(c, field, depth, object);
        if (rc != 0) {
            return rc;
        }
        field++;
    }
    return 0;
}

int far_schema_decode(const struct far_schema *schema, struct far_slice payload, struct far_arena *arena,
                      void *ret_object, struct far_error *err)
{
    void *object = far_arena_alloc(arena, schema->size);
    if (object == NULL) {
        return far_fail(err, FAR_LIMIT, "%s needs too much memory", schema->name);
    }
    struct cursor c = {.at = payload.data, .end = payload.data + payload.len, .arena = arena, .err = err};
    int rc = unpack_object(&c, schema, 0, object);
    if (rc != 0) {
        return rc;
    }
    if (c.at != c.end) {
        return far_fail(err, FAR_INVALID, "%s is followed by %zu stray bytes", schema->name, left(&c));
    }
    memcpy(ret_object, object, schema->size);
    return 0;
}
