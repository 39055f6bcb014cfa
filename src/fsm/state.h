/* The state: rows in tables over a key-value map, each with a checksum, all with a running digest.
 *
 * Key = table number (1 byte) ‖ id. Value = msgpack of the row ‖ XXH3-64 (little endian) of key and msgpack, checked at
 * every read: FAR_CORRUPT names table and key. The digest is the sum modulo 2^128 of XXH3-128(key ‖ value) over all
 * pairs, kept up by every put and del; far_state_digest_walk() computes it anew from the bytes. Pure, one thread. */
#ifndef FAR_FSM_STATE_H
#define FAR_FSM_STATE_H

#include "base/arena.h"
#include "base/hash.h"
#include "fsm/kv.h"
#include "fsm/schema.h"

struct far_rows; /* rows.h */

struct far_state {
    struct far_kv *kv; /* borrowed */
    struct far_hash128 digest;
    struct far_rows *rows; /* borrowed; NULL: none. Else what was written is there until far_rows_flush(), as is the digest */
};

/* A key being built: table, then numbers (big endian) or bytes. Overflow makes every later use FAR_INTERNAL. */
struct far_key {
    uint8_t bytes[FAR_KV_KEY_MAX];
    size_t len;
};

struct far_key far_key(const struct far_schema *table);
void far_key_u8(struct far_key *key, uint8_t v);
void far_key_u32(struct far_key *key, uint32_t v);
void far_key_u64(struct far_key *key, uint64_t v);
void far_key_bytes(struct far_key *key, struct far_slice bytes);

/* Decode the row under key into *ret_row (a struct far_row_<table>); its slices are copied into arena. FAR_NOT_FOUND
 * without filling err if there is none. */
int far_state_get(struct far_state *state, const struct far_schema *table, const struct far_key *key,
                  struct far_arena *arena, void *ret_row, struct far_error *err);
int far_state_put(struct far_state *state, const struct far_schema *table, const struct far_key *key, const void *row,
                  struct far_error *err);
int far_state_del(struct far_state *state, const struct far_key *key, struct far_error *err);

/* The first row of the table whose key is >= *key, which is moved to just behind it; FAR_NOT_FOUND at the end of the
 * table. So `key = far_key(table); while (far_state_next(...) == 0)` walks a table, and a longer key starts inside it.
 * ret_id (may be NULL) is the key without its table byte, copied into arena. */
int far_state_next(struct far_state *state, const struct far_schema *table, struct far_key *key,
                   struct far_arena *arena, struct far_slice *ret_id, void *ret_row, struct far_error *err);

/* The last key before this one, of any table; there may be no row under it any more. FAR_NOT_FOUND before the first. */
int far_state_key_before(struct far_state *state, const struct far_key *key, struct far_slice *ret_key, struct far_error *err);

/* Decode a pair of any table as it lies in the map: its schema and a new struct far_row_<table> in the arena, which holds
 * copies of everything. FAR_CORRUPT as above. */
int far_state_decode(struct far_slice key, struct far_slice value, struct far_arena *arena,
                     const struct far_schema **ret_table, void **ret_row, struct far_error *err);

/* The digest of the bytes that are there, walked pair by pair; also verifies each checksum. */
int far_state_digest_walk(struct far_kv *kv, struct far_hash128 *ret_digest, uint64_t *ret_pairs,
                          struct far_error *err);

#endif
