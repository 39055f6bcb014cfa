/* The schema: what events.def lists, as C structs, codecs and names.
 *
 * Payloads are msgpack maps keyed by field number, fields in the order of their numbers, zero and empty ones left out,
 * so equal structs give equal bytes. Decoding is strict: unknown numbers, wrong types, repeated or unordered keys and
 * exceeded maxima are FAR_INVALID. Pure functions, any thread. */
#ifndef FAR_FSM_SCHEMA_H
#define FAR_FSM_SCHEMA_H

#include "base/arena.h"
#include "base/buf.h"

/* count items, each of the element's size; borrowed like a slice. */
struct far_list {
    const void *items;
    size_t count;
};

enum far_field_type {
    FAR_TYPE_END, /* closes each table of fields */
    FAR_TYPE_U64,
    FAR_TYPE_BOOL,
    FAR_TYPE_ENUM,
    FAR_TYPE_STR,
    FAR_TYPE_BYTES,
    FAR_TYPE_SECRET,
    FAR_TYPE_LIST,
    FAR_TYPE_STRS,
    FAR_TYPE_U64S,
};

struct far_enum_value {
    uint64_t value; /* from 1 */
    const char *name;
};

/* Closed by an entry with name NULL. */
struct far_enum {
    const char *name;
    const struct far_enum_value *values;
};

struct far_schema;
struct far_field {
    enum far_field_type type;
    uint16_t number;
    const char *name;
    size_t offset;                    /* in the struct */
    size_t max;                       /* bytes of STR, BYTES, SECRET; items of lists */
    const struct far_enum *values;    /* ENUM */
    const struct far_schema *element; /* LIST */
};

enum far_schema_class { FAR_CLASS_sub, FAR_CLASS_cmd, FAR_CLASS_ev, FAR_CLASS_row, FAR_CLASS_msg };

struct far_schema {
    enum far_schema_class klass;
    const char *name;
    uint16_t kind; /* command or event kind, table number, frame type */
    uint16_t version;
    size_t size; /* of the struct */
    /* The table of fields, closed by FAR_TYPE_END. A function, because only inside one can the table of events.def
     * name its own struct. */
    const struct far_field *(*fields)(void);
    /* Of an event: its severity (enum far_severity); 0 for everything else. */
    uint64_t (*severity)(const void *object);
    /* The feature level since which there is the field with this number; 0: the kind itself. */
    uint16_t (*since)(uint16_t number);
    uint64_t levels; /* bit n: something of it or of its elements is of level n */
};

/* The structs: struct far_cmd_site_create, struct far_row_plan, … */
#define FAR_ENUM_BEGIN(name) enum far_##name {
#define FAR_VALUE(owner, number, name) FAR_##owner##_##name = number,
#define FAR_ENUM_END(name) };
#define FAR_BEGIN(klass, name, kind, version) struct far_##klass##_##name {
#define FAR_U64(number, name) uint64_t name;
#define FAR_BOOL(number, name) bool name;
#define FAR_ENUM(number, name, values) uint64_t name;
#define FAR_STR(number, name, max) struct far_slice name;
#define FAR_BYTES(number, name, max) struct far_slice name;
#define FAR_SECRET(number, name, max) struct far_slice name;
#define FAR_LIST(number, name, sub, max) struct far_list name;
#define FAR_STRS(number, name, max) struct far_list name;
#define FAR_U64S(number, name, max) struct far_list name;
#define FAR_SINCE(level)
#define FAR_FIELD_SINCE(number, level)
#define FAR_SEVERITY(severity)
#define FAR_SEVERITY_IF(field, value, severity)
#define FAR_END(klass, name) };
#include "fsm/events.def"
#include "fsm/schema_undef.h"

/* The kinds: FAR_KIND_cmd_site_create, FAR_KIND_ev_…, FAR_KIND_row_plan (table number), FAR_KIND_msg_hello. */
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass, name, kind, version) FAR_KIND_##klass##_##name = kind,
#include "fsm/schema_nofields.h"
enum far_kind {
#include "fsm/events.def"
};
#include "fsm/schema_undef.h"

/* The schemas: far_schema_cmd_site_create, far_schema_row_plan, … */
#define FAR_ENUM_BEGIN(name) extern const struct far_enum far_enum_##name;
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_BEGIN(klass, name, kind, version) extern const struct far_schema far_schema_##klass##_##name;
#include "fsm/schema_nofields.h"
#include "fsm/events.def"
#include "fsm/schema_undef.h"

/* Every schema there is, in the order of events.def, closed by NULL. */
extern const struct far_schema *const far_schemas[];

/* The schema of a kind (its newest version), or NULL. */
const struct far_schema *far_schema_find(enum far_schema_class klass, uint16_t kind, uint16_t version);
/* The schema of a name, or NULL. */
const struct far_schema *far_schema_find_name(enum far_schema_class klass, const char *name);

/* Append the msgpack of *object to out. FAR_LIMIT: out is full. FAR_INVALID: a field exceeds its maximum. */
int far_schema_encode(const struct far_schema *schema, const void *object, struct far_buf *out, struct far_error *err);
/* Fill *ret_object (schema->size bytes) from payload. Slices point into payload, lists into arena: both must outlive
 * the object. FAR_INVALID says which field is wrong; FAR_LIMIT: the arena is full. */
int far_schema_decode(const struct far_schema *schema, struct far_slice payload, struct far_arena *arena,
                      void *ret_object, struct far_error *err);

/* The feature level that a server needs to know this object: its kind's, or that of its newest field that is not empty. */
uint16_t far_schema_level(const struct far_schema *schema, const void *object);
/* Empty every field that is newer than this level, also in the elements of its lists: what a node says that is ahead of its cluster. */
void far_schema_lower(const struct far_schema *schema, void *object, uint64_t level);

/* The name of an enum's value, or "unknown". */
const char *far_enum_name(const struct far_enum *values, uint64_t value);
/* The value of a name (by bytes), or 0. */
uint64_t far_enum_value(const struct far_enum *values, struct far_slice name);

#endif
