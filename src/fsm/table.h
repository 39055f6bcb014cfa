/* Transition tables: every pair of a state and an input of a kind of object, listed as a move or with its rejection.
 *
 * The tables are the truth (DESIGN.md section 3.2): decide asks them, evolve asks them again, the tests drive every cell
 * of every one. A cell that nobody listed is all zero, which the tests refuse and which rejects with FAR_INTERNAL. Const
 * data, any thread. */
#ifndef FAR_FSM_TABLE_H
#define FAR_FSM_TABLE_H

#include "base/error.h"

#include <stddef.h>

enum far_cell_kind { FAR_CELL_UNLISTED, FAR_CELL_MOVE, FAR_CELL_REJECT };

struct far_cell {
    enum far_cell_kind kind;
    unsigned next;   /* MOVE: the state after it */
    int klass;       /* REJECT */
    const char *why; /* REJECT: follows "<object> '<name>' ", says what to do */
};
#define FAR_MOVE(next_) {.kind = FAR_CELL_MOVE, .next = next_}
#define FAR_REJECT(klass_, why_) {.kind = FAR_CELL_REJECT, .klass = klass_, .why = why_}

struct far_table {
    const char *object; /* "site" */
    const char *const *states;
    size_t state_count;
    const char *const *inputs; /* of commands, reports and deadlines */
    size_t input_count;
    const struct far_cell *cells; /* state * input_count + input */
};
#define FAR_TABLE(object_, states_, inputs_, cells_)                                                         \
    {.object = object_,                                                                                      \
     .states = states_,                                                                                      \
     .state_count = sizeof(states_) / sizeof(states_)[0],                                                    \
     .inputs = inputs_,                                                                                      \
     .input_count = sizeof(inputs_) / sizeof(inputs_)[0],                                                    \
     .cells = &(cells_)[0][0]}

/* Every table there is, closed by NULL. */
extern const struct far_table *const far_tables[];

/* The cell, or an unlisted one if there is none. */
const struct far_cell *far_table_cell(const struct far_table *table, size_t state, size_t input);

#endif
