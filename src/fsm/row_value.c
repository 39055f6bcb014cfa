/* The bytes of a row: see row_value.h. */
#include "fsm/row_value.h"

#include "base/hash.h"

enum { TRAILER = 8 };

/* By the number of the table, from events.def. */
#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_TABLE_sub(name, kind)
#define FAR_TABLE_cmd(name, kind)
#define FAR_TABLE_ev(name, kind)
#define FAR_TABLE_msg(name, kind)
#define FAR_TABLE_row(name, kind) [kind] = &far_schema_row_##name,
#define FAR_BEGIN(klass, name, kind, version) FAR_TABLE_##klass(name, kind)
static const struct far_schema *const tables[256] = {
#include "fsm/events.def"
};
#include "fsm/schema_undef.h"

const struct far_schema *far_row_table(struct far_slice key)
{
    return key.len > 0 ? tables[key.data[0]] : NULL;
}

int far_row_corrupt(struct far_slice key, const char *what, struct far_error *err)
{
    char text[2 * FAR_KV_KEY_MAX + 1];
    const struct far_schema *table = far_row_table(key);
    size_t len = key.len > FAR_KV_KEY_MAX ? FAR_KV_KEY_MAX : key.len;
    far_hex_encode(key.data, len, text);
    return far_fail(err, FAR_CORRUPT, "table '%s', key %s: %s", table != NULL ? table->name : "unknown", text, what);
}

int far_row_body(struct far_slice key, struct far_slice value, struct far_slice *ret_body, struct far_error *err)
{
    if (value.len < TRAILER) {
        return far_row_corrupt(key, "the value is cut off", err);
    }
    struct far_slice body = far_slice(value.data, value.len - TRAILER);
    if (far_hash64_parts(key, body, far_slice(NULL, 0)) != far_get_le64(value.data + body.len)) {
        return far_row_corrupt(key, "the value is not what was written (checksum)", err);
    }
    *ret_body = body;
    return 0;
}

int far_row_decode(const struct far_schema *table, struct far_slice key, struct far_slice body, struct far_arena *arena,
                   void *ret_row, struct far_error *err)
{
    struct far_error why;
    int rc = far_schema_decode(table, body, arena, ret_row, &why);
    return rc == FAR_INVALID ? far_row_corrupt(key, why.message, err) : rc != 0 ? far_fail(err, rc, "%s", why.message) : 0;
}

int far_row_encode(const struct far_schema *table, struct far_slice key, const void *row, uint8_t *bytes,
                   struct far_slice *ret_value, struct far_error *err)
{
    struct far_buf value = {.data = bytes, .cap = FAR_KV_VALUE_MAX, .max = FAR_KV_VALUE_MAX - TRAILER};
    int rc = far_schema_encode(table, row, &value, err);
    if (rc == 0) {
        far_put_le64(bytes + value.len, far_hash64_parts(key, far_buf_slice(&value), far_slice(NULL, 0)));
        *ret_value = far_slice(bytes, value.len + TRAILER);
    }
    return rc;
}
