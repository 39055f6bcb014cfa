/* JSON at the edges: between jansson values and the structs of the schema (fsm/schema.h).
 *
 * Enums are names, bytes are lower-case hexadecimal, numbers are integers; what is zero or empty is written all the same, so
 * that readers need no defaults. Secrets, and the hashes of tokens in rows and events, are never written. Reading is
 * strict: an unknown field, a wrong type, a missing required field is FAR_INVALID and named by its path ("disks[1].name"), with the value
 * and what would be right. A list of at most one may also be its item. Pure functions, any thread. */
#ifndef FAR_API_JSON_H
#define FAR_API_JSON_H

#include "fsm/schema.h"

#include <jansson.h>

enum { FAR_JSON_DEPTH_MAX = 16 };

/* Parse one JSON object. FAR_INVALID says where it is malformed, nested deeper than FAR_JSON_DEPTH_MAX, has a key twice
 * or is no object. The caller owns *ret_object. */
int far_json_parse(struct far_slice text, json_t **ret_object, struct far_error *err);

/* Which fields of a command a body may and must set: names separated by spaces. */
struct far_json_rule {
    const char *allowed;  /* NULL: all but secrets */
    const char *required; /* NULL: none; an empty string or list is as good as missing */
};

/* Fill *ret_struct (schema->size bytes, all of it) from object. Slices and lists live in arena. */
int far_json_to_struct(const struct far_schema *schema, const json_t *object, const struct far_json_rule *rule,
                       struct far_arena *arena, void *ret_struct, struct far_error *err);

/* A new reference, or NULL without memory. */
json_t *far_json_from_struct(const struct far_schema *schema, const void *object);
/* The same as people would write it: without what is zero or empty, a list of at most one as its item. */
json_t *far_json_brief(const struct far_schema *schema, const void *object);
/* Text that may come from anywhere: bytes that are not UTF-8 become '?'. New reference. */
json_t *far_json_text(struct far_slice text);
json_t *far_json_hex(const void *data, size_t len);
/* A number; above 2^63 - 1, where JSON libraries end, its digits as text. */
json_t *far_json_u64(uint64_t value);
/* "token:12": who acted. */
json_t *far_json_actor(uint64_t actor);

/* Append the text of value, without spaces, to out. FAR_LIMIT: out is full. */
int far_json_write(const json_t *value, struct far_buf *out, struct far_error *err);

#endif
