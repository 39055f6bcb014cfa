/* Copies of rows in one piece of memory: the struct, and behind it what its slices and lists point at. Pure, one thread. */
#ifndef FAR_FSM_ROW_COPY_H
#define FAR_FSM_ROW_COPY_H

#include "fsm/schema.h"

enum { FAR_ROW_TABLES = 256 };

/* Where in the struct of each table the slices and lists are; found out when a table is first copied. All zero: none yet. */
struct far_row_shape;
struct far_row_block;
enum { FAR_ROW_BLOCKS = 32 };
struct far_row_shapes {
    struct far_row_shape *of[FAR_ROW_TABLES]; /* owned */
    struct far_row_block *spare[FAR_ROW_BLOCKS]; /* owned; by size: memory of copies that were freed, for the next ones */
    size_t spare_bytes;
};
void far_row_shapes_done(struct far_row_shapes *shapes);

/* To be given to far_row_free(); NULL: no memory. */
void *far_row_copy(struct far_row_shapes *shapes, const struct far_schema *table, const void *row);
void far_row_free(struct far_row_shapes *shapes, void *copy); /* NULL is allowed */
/* Do slices and lists of both point at the same memory? */
bool far_row_same_pointers(struct far_row_shapes *shapes, const struct far_schema *table, const void *a, const void *b);

#endif
