/* Invariants: see fsm.h. */
#include "fsm/fsm.h"

int far_fsm_invariants(struct far_state *state, struct far_error *err)
{
    return 0;
}
