/* Rows held decoded between steps: what makes a fold of many events cheap.
 *
 * A row that is read or written stays here as a struct, under its key; writes go to the map below only at a flush, each
 * changed row once, however often it changed. Until then the map and the digest are those of the last flush. Every change is
 * journaled, so a step that is rejected is undone without a copy of anything.
 *
 * A far_state with `rows` reads and writes through them: nothing else may write to that map meanwhile. Walks see what is not
 * flushed yet: new keys are put in order when a table is first walked. Structs handed out point into the rows and live until
 * far_rows_settle(). Bounded by whoever flushes (far_rows_count). Pure, one thread. */
#ifndef FAR_FSM_ROWS_H
#define FAR_FSM_ROWS_H

#include "base/hash.h"
#include "fsm/state.h"

enum { FAR_ROWS_KEEP = 65536 }; /* a flush leaves no more rows than this: first those go that were not asked for lately */

struct far_rows;

/* On the map below, which is borrowed. seeks_cheaply: it may also be asked what comes behind a key that is not there (not so for
 * the past, which has to pass by all that came since). NULL: no memory. */
struct far_rows *far_rows_new(struct far_kv *below, bool seeks_cheaply);
/* What is not flushed is lost. NULL is allowed. */
void far_rows_free(struct far_rows *rows);
/* Rows in memory, also those that are known not to be there. */
size_t far_rows_count(const struct far_rows *rows);

/* Scratch for the step that is on; far_rows_settle() resets it. */
struct far_arena *far_rows_arena(struct far_rows *rows);

/* As far_state_get, put, del and next. */
int far_rows_get(struct far_rows *rows, const struct far_schema *table, struct far_slice key, void *ret_row,
                 struct far_error *err);
int far_rows_put(struct far_rows *rows, const struct far_schema *table, struct far_slice key, const void *row,
                 struct far_error *err);
int far_rows_del(struct far_rows *rows, struct far_slice key, struct far_error *err);
/* The first row of the table whose key is >= key, and that key, until the next call. */
int far_rows_seek(struct far_rows *rows, const struct far_schema *table, struct far_slice key, struct far_slice *ret_key,
                  void *ret_row, struct far_error *err);
/* The last key < key of the map or among those not flushed, whether or not a row is under it. */
int far_rows_seek_before(struct far_rows *rows, struct far_slice key, struct far_slice *ret_key, struct far_error *err);

/* A place in the journal; undo takes back every change since. The first mark of a step begins the journal: a step without one,
 * as of a fold, overwrites in place where it can. */
size_t far_rows_mark(struct far_rows *rows);
void far_rows_undo(struct far_rows *rows, size_t mark);
/* The step is over: its changes stay, and what was handed out is no longer borrowed. */
void far_rows_settle(struct far_rows *rows);

/* Write what changed to the map below and bring the digest up to it. After a failure the rows are good for nothing but
 * far_rows_free(). Only between steps. */
int far_rows_flush(struct far_rows *rows, struct far_hash128 *digest, struct far_error *err);
/* The same, if there are more than FAR_ROWS_KEEP rows here: what bounds the memory of a long fold. */
int far_rows_trim(struct far_rows *rows, struct far_hash128 *digest, struct far_error *err);

#endif
