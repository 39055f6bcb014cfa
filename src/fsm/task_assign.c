/* Candidates: the nodes that are up, and how much each has to do. Loaded once in a step when first asked for, and forgotten
 * when a node changes. Assignments of the step are counted in, so that work spreads within one command too. */
#include "fsm/offer.h"
#include "fsm/task.h"

struct far_candidates {
    size_t count;
    size_t capacity;
    struct far_candidate *nodes; /* by id */
};

static int add(struct far_step *step, struct far_candidates *c, const struct far_row_node *row)
{
    if (c->count == c->capacity) {
        size_t capacity = c->capacity == 0 ? 8 : 2 * c->capacity;
        struct far_candidate *nodes = far_step_alloc(step, capacity * sizeof *nodes);
        if (nodes == NULL) {
            return FAR_LIMIT;
        }
        for (size_t i = 0; i < c->count; i++) {
            nodes[i] = c->nodes[i];
        }
        c->nodes = nodes;
        c->capacity = capacity;
    }
    c->nodes[c->count++] = (struct far_candidate){
        .node_id = row->id, .boot = row->boot, .site_id = row->site_id, .held = row->task_count, .adapters = row->adapters};
    return 0;
}

static int load(struct far_step *step)
{
    struct far_row_node row;
    struct far_key key = far_key(&far_schema_row_node);
    struct far_candidates *c;
    int rc;
    if (step->candidates != NULL) {
        return 0;
    }
    c = far_step_alloc(step, sizeof *c);
    if (c == NULL) {
        return FAR_LIMIT;
    }
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        /* a node whose lease ends now is as good as down, whichever deadline of this tick comes first */
        bool is_live = row.state == FAR_node_state_up && row.lease_until_ms > step->time_ms;
        FAR_TRY(is_live ? add(step, c, &row) : 0);
    }
    if (rc == FAR_NOT_FOUND) {
        step->candidates = c;
        rc = 0;
    }
    return rc;
}

int far_candidate_node(struct far_step *step, uint64_t node_id, struct far_candidate **ret)
{
    FAR_TRY(load(step));
    *ret = NULL;
    for (size_t i = 0; i < step->candidates->count; i++) {
        if (step->candidates->nodes[i].node_id == node_id) {
            *ret = &step->candidates->nodes[i];
        }
    }
    return 0;
}

int far_candidate_site(struct far_step *step, uint64_t site_id, struct far_slice adapter, struct far_candidate **ret)
{
    FAR_TRY(load(step));
    *ret = NULL;
    for (size_t i = 0; i < step->candidates->count; i++) {
        struct far_candidate *c = &step->candidates->nodes[i];
        bool fits = c->site_id == site_id && (adapter.len == 0 || far_offer_holds(&c->adapters, adapter));
        if (fits && (*ret == NULL || c->held < (*ret)->held)) {
            *ret = c;
        }
    }
    return 0;
}
