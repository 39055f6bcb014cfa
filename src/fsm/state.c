/* The state: see state.h. Every write reads what was there, so that the digest can forget it; every read checks the
 * trailer, so that a changed byte is named and never returned. */
#include "fsm/state.h"

#include "fsm/row_value.h"
#include "fsm/rows.h"

enum { OVERFLOW = FAR_KV_KEY_MAX + 1 };

/* ---- keys ---- */

struct far_key far_key(const struct far_schema *table)
{
    struct far_key key; /* what is behind len is not looked at: filling it would cost more than the rest */
    key.len = 1;
    key.bytes[0] = (uint8_t)table->kind;
    return key;
}

/* Room for len more bytes, or NULL and the key is marked as overflown. */
static uint8_t *extend(struct far_key *key, size_t len)
{
    if (key->len > FAR_KV_KEY_MAX || len > FAR_KV_KEY_MAX - key->len) {
        key->len = OVERFLOW;
        return NULL;
    }
    uint8_t *at = key->bytes + key->len;
    key->len += len;
    return at;
}

void far_key_u8(struct far_key *key, uint8_t v)
{
    uint8_t *at = extend(key, 1);
    if (at != NULL) {
        *at = v;
    }
}

void far_key_u32(struct far_key *key, uint32_t v)
{
    uint8_t *at = extend(key, 4);
    if (at != NULL) {
        far_put_be32(at, v);
    }
}

void far_key_u64(struct far_key *key, uint64_t v)
{
    uint8_t *at = extend(key, 8);
    if (at != NULL) {
        far_put_be64(at, v);
    }
}

void far_key_bytes(struct far_key *key, struct far_slice bytes)
{
    uint8_t *at = extend(key, bytes.len);
    if (at != NULL && bytes.len > 0) {
        memcpy(at, bytes.data, bytes.len);
    }
}

static int check_key(const struct far_key *key, struct far_error *err)
{
    return key->len >= 1 && key->len <= FAR_KV_KEY_MAX ? 0 : far_fail(err, FAR_INTERNAL, "a key is too long");
}

static struct far_slice slice_of(const struct far_key *key)
{
    return far_slice(key->bytes, key->len);
}

/* ---- values ---- */

static int decode_row(const struct far_schema *table, struct far_slice key, struct far_slice value,
                      struct far_arena *arena, void *ret_row, struct far_error *err)
{
    struct far_slice body;
    int rc = far_row_body(key, value, &body, err);
    if (rc != 0) {
        return rc;
    }
    uint8_t *copy = far_arena_alloc(arena, body.len);
    if (copy == NULL) {
        return far_fail(err, FAR_LIMIT, "a row of table '%s' needs too much memory", table->name);
    }
    memcpy(copy, body.data, body.len);
    return far_row_decode(table, key, far_slice(copy, body.len), arena, ret_row, err);
}

int far_state_get(struct far_state *state, const struct far_schema *table, const struct far_key *key,
                  struct far_arena *arena, void *ret_row, struct far_error *err)
{
    struct far_slice value;
    int rc = check_key(key, err);
    if (rc == 0 && state->rows != NULL) {
        return far_rows_get(state->rows, table, slice_of(key), ret_row, err);
    }
    if (rc == 0) {
        rc = state->kv->ops->get(state->kv, slice_of(key), &value, err);
    }
    return rc != 0 ? rc : decode_row(table, slice_of(key), value, arena, ret_row, err);
}

int far_state_decode(struct far_slice key, struct far_slice value, struct far_arena *arena,
                     const struct far_schema **ret_table, void **ret_row, struct far_error *err)
{
    const struct far_schema *table = far_row_table(key);
    void *row = table == NULL ? NULL : far_arena_alloc(arena, table->size);
    if (row == NULL) {
        return table == NULL ? far_row_corrupt(key, "there is no such table", err) : far_fail(err, FAR_LIMIT, "out of memory");
    }
    int rc = decode_row(table, key, value, arena, row, err);
    if (rc == 0) {
        *ret_table = table;
        *ret_row = row;
    }
    return rc;
}

/* Take what is under key out of the digest; FAR_NOT_FOUND if nothing is. */
static int forget(struct far_state *state, const struct far_key *key, struct far_hash128 *digest,
                  struct far_slice *ret_old, struct far_error *err)
{
    struct far_slice body;
    int rc = state->kv->ops->get(state->kv, slice_of(key), ret_old, err);
    if (rc == 0) {
        rc = far_row_body(slice_of(key), *ret_old, &body, err);
    }
    if (rc == 0) {
        *digest = far_hash128_sub(*digest, far_hash128_parts(slice_of(key), *ret_old));
    }
    return rc;
}

static int put_bytes(struct far_state *state, const struct far_key *key, struct far_slice value,
                     struct far_error *err)
{
    struct far_hash128 digest = state->digest;
    struct far_slice old = far_slice(NULL, 0);
    int rc = forget(state, key, &digest, &old, err);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (rc == 0 && far_slice_equal(old, value)) {
        return 0;
    }
    rc = state->kv->ops->put(state->kv, slice_of(key), value, err);
    if (rc == 0) {
        state->digest = far_hash128_add(digest, far_hash128_parts(slice_of(key), value));
    }
    return rc;
}

int far_state_put(struct far_state *state, const struct far_schema *table, const struct far_key *key, const void *row,
                  struct far_error *err)
{
    uint8_t bytes[FAR_KV_VALUE_MAX];
    struct far_slice value;
    int rc = check_key(key, err);
    if (rc == 0 && state->rows != NULL) {
        return far_rows_put(state->rows, table, slice_of(key), row, err);
    }
    rc = rc != 0 ? rc : far_row_encode(table, slice_of(key), row, bytes, &value, err);
    return rc != 0 ? rc : put_bytes(state, key, value, err);
}

int far_state_del(struct far_state *state, const struct far_key *key, struct far_error *err)
{
    struct far_hash128 digest = state->digest;
    struct far_slice old;
    int rc = check_key(key, err);
    if (rc == 0 && state->rows != NULL) {
        return far_rows_del(state->rows, slice_of(key), err);
    }
    if (rc == 0) {
        rc = forget(state, key, &digest, &old, err);
    }
    if (rc == 0) {
        rc = state->kv->ops->del(state->kv, slice_of(key), err);
    }
    if (rc == 0) {
        state->digest = digest;
    }
    return rc;
}

/* The first row of the table at or behind *key, and its key in *ret_found. */
static int seek(struct far_state *state, const struct far_schema *table, const struct far_key *key, struct far_arena *arena,
                struct far_key *ret_found, void *ret_row, struct far_error *err)
{
    struct far_slice at, value;
    if (state->rows != NULL) {
        int rc = far_rows_seek(state->rows, table, slice_of(key), &at, ret_row, err);
        if (rc == 0) {
            ret_found->len = at.len;
            memcpy(ret_found->bytes, at.data, at.len);
        }
        return rc;
    }
    int rc = state->kv->ops->seek(state->kv, slice_of(key), &at, &value, err);
    if (rc != 0) {
        return rc;
    }
    if (at.len == 0 || at.len >= FAR_KV_KEY_MAX || at.data[0] != table->kind) {
        return FAR_NOT_FOUND;
    }
    ret_found->len = at.len;
    memcpy(ret_found->bytes, at.data, at.len);
    return decode_row(table, slice_of(ret_found), value, arena, ret_row, err);
}

int far_state_next(struct far_state *state, const struct far_schema *table, struct far_key *key,
                   struct far_arena *arena, struct far_slice *ret_id, void *ret_row, struct far_error *err)
{
    struct far_key found;
    int rc = check_key(key, err);
    rc = rc != 0 ? rc : seek(state, table, key, arena, &found, ret_row, err);
    if (rc == 0 && ret_id != NULL) {
        uint8_t *id = far_arena_alloc(arena, found.len);
        if (id == NULL) {
            return far_fail(err, FAR_LIMIT, "out of memory");
        }
        memcpy(id, found.bytes, found.len);
        *ret_id = far_slice(id + 1, found.len - 1);
    }
    if (rc == 0) {
        found.bytes[found.len++] = 0;
        *key = found;
    }
    return rc;
}

int far_state_key_before(struct far_state *state, const struct far_key *key, struct far_slice *ret_key, struct far_error *err)
{
    struct far_slice value;
    int rc = check_key(key, err);
    if (rc != 0) {
        return rc;
    }
    return state->rows != NULL ? far_rows_seek_before(state->rows, slice_of(key), ret_key, err)
                               : state->kv->ops->seek_before(state->kv, slice_of(key), ret_key, &value, err);
}

int far_state_digest_walk(struct far_kv *kv, struct far_hash128 *ret_digest, uint64_t *ret_pairs,
                          struct far_error *err)
{
    struct far_hash128 digest = {0};
    uint64_t pairs = 0;
    uint8_t from[FAR_KV_KEY_MAX + 2];
    struct far_slice key = far_slice(from, 0), at, value, body;
    int rc;
    while ((rc = kv->ops->seek(kv, key, &at, &value, err)) == 0) {
        if (at.len == 0 || at.len > FAR_KV_KEY_MAX) {
            return far_fail(err, FAR_CORRUPT, "a key of %zu bytes", at.len);
        }
        rc = far_row_body(at, value, &body, err);
        if (rc != 0) {
            return rc;
        }
        digest = far_hash128_add(digest, far_hash128_parts(at, value));
        pairs++;
        memcpy(from, at.data, at.len);
        from[at.len] = 0;
        key = far_slice(from, at.len + 1);
    }
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    *ret_digest = digest;
    *ret_pairs = pairs;
    return 0;
}
