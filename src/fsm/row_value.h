/* How a row lies in the map: its msgpack, and behind it the XXH3-64 of key and msgpack. For state.c and rows.c, which read
 * and write rows; everything else goes through state.h. Pure functions, any thread. */
#ifndef FAR_FSM_ROW_VALUE_H
#define FAR_FSM_ROW_VALUE_H

#include "fsm/kv.h"
#include "fsm/schema.h"

/* The table that a key begins with, or NULL. */
const struct far_schema *far_row_table(struct far_slice key);
/* FAR_CORRUPT that names table and key. */
int far_row_corrupt(struct far_slice key, const char *what, struct far_error *err);
/* The msgpack of a value whose checksum is right, or FAR_CORRUPT. */
int far_row_body(struct far_slice key, struct far_slice value, struct far_slice *ret_body, struct far_error *err);
/* A row from such msgpack: its slices point into body, its lists lie in arena. */
int far_row_decode(const struct far_schema *table, struct far_slice key, struct far_slice body, struct far_arena *arena,
                   void *ret_row, struct far_error *err);
/* Into bytes that have room for FAR_KV_VALUE_MAX. FAR_LIMIT: the row is too big. */
int far_row_encode(const struct far_schema *table, struct far_slice key, const void *row, uint8_t *bytes,
                   struct far_slice *ret_value, struct far_error *err);

#endif
