/* Candidates: the nodes that are up, and how much each has to do. Loaded once in a step when first asked for, and forgotten
 * when a node changes. Assignments of the step are counted in, so that work spreads within one command too.
 *
 * How much a node has to do is counted in bytes, and each task as so many more: where no sizes are known yet, that spreads the
 * tasks by their number, and where one disk is bigger than all others together, they go elsewhere. */
#include "fsm/node_load.h"
#include "fsm/offer.h"
#include "fsm/site_limit.h"

#define TASK_BYTES (64ull * 1024 * 1024) /* what a task costs besides its bytes */

struct far_candidates {
    size_t count;
    size_t capacity;
    struct far_candidate *nodes; /* by id */
    struct far_site_slots *sites; /* those that were asked for, and of all what is held */
    size_t site_count, site_capacity;
};

static int add(struct far_step *step, struct far_candidates *c, const struct far_row_node *row)
{
    bool spreads;
    FAR_TRY(far_level_spreads(step, &spreads));
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
    c->nodes[c->count++] = (struct far_candidate){.node_id = row->id,
                                                  .boot = row->boot,
                                                  .site_id = row->site_id,
                                                  .held = row->task_count,
                                                  .adapters = row->adapters,
                                                  .todo_bytes = row->todo_bytes,
                                                  .receiving_bytes = row->receiving_bytes,
                                                  .vault_bytes = row->vault_bytes,
                                                  .spreads = spreads,
                                                  .is_drained = row->drained_ms != 0,
                                                  .listens = row->data_address.len != 0,
                                                  .runs_scripts = row->runs_scripts};
    return 0;
}

static int add_site(struct far_step *step, struct far_candidates *c, uint64_t site_id, struct far_site_slots **ret)
{
    for (size_t i = 0; i < c->site_count; i++) {
        if (c->sites[i].site_id == site_id) {
            *ret = &c->sites[i];
            return 0;
        }
    }
    if (c->site_count == c->site_capacity) {
        size_t capacity = c->site_capacity == 0 ? 8 : 2 * c->site_capacity;
        struct far_site_slots *sites = far_step_alloc(step, capacity * sizeof *sites);
        if (sites == NULL) {
            return FAR_LIMIT;
        }
        for (size_t i = 0; i < c->site_count; i++) {
            sites[i] = c->sites[i];
        }
        c->sites = sites;
        c->site_capacity = capacity;
    }
    struct far_row_site row;
    int rc = far_row_find(step, &far_schema_row_site, site_id, &row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    *ret = &c->sites[c->site_count++];
    **ret = (struct far_site_slots){.site_id = site_id};
    (*ret)->limits[0] = rc == 0 ? row.parallel_sends : 0;
    (*ret)->limits[1] = rc == 0 ? row.parallel_recoveries : 0;
    return 0;
}

/* Whoever is down holds what it has until its lease ends. */
static int add_held(struct far_step *step, struct far_candidates *c, const struct far_row_node *row)
{
    struct far_site_slots *site;
    FAR_TRY(add_site(step, c, row->site_id, &site));
    site->used[0] += row->sending_count;
    site->used[1] += row->recovering_count;
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
        FAR_TRY(add_held(step, c, &row));
    }
    if (rc == FAR_NOT_FOUND) {
        step->candidates = c;
        rc = 0;
    }
    return rc;
}

int far_site_slots(struct far_step *step, uint64_t site_id, struct far_site_slots **ret)
{
    FAR_TRY(load(step));
    return add_site(step, step->candidates, site_id, ret);
}

void far_site_slot_take(struct far_step *step, uint64_t site_id, const struct far_row_task *row, bool is_taken)
{
    struct far_candidates *c = step->candidates;
    enum far_slot slot = far_slot_of(row);
    for (size_t i = 0; slot != FAR_SLOT_NONE && c != NULL && i < c->site_count; i++) {
        uint64_t *used = &c->sites[i].used[far_slot_kind(slot)];
        if (c->sites[i].site_id == site_id) {
            *used = is_taken ? *used + 1 : *used - (*used > 0);
        }
    }
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

/* Before FAR_SPREAD_LEVEL nodes count no bytes. */
static uint64_t load_of(const struct far_candidate *c)
{
    return c->todo_bytes + c->held * TASK_BYTES;
}

static bool fits(const struct far_candidate *c, uint64_t site_id, struct far_slice adapter)
{
    return c->site_id == site_id && !c->is_drained && (adapter.len == 0 || far_offer_holds(&c->adapters, adapter));
}

int far_candidate_site(struct far_step *step, uint64_t site_id, struct far_slice adapter, struct far_candidate **ret)
{
    FAR_TRY(load(step));
    *ret = NULL;
    for (size_t i = 0; i < step->candidates->count; i++) {
        struct far_candidate *c = &step->candidates->nodes[i];
        if (fits(c, site_id, adapter) && (*ret == NULL || load_of(c) < load_of(*ret))) {
            *ret = c;
        }
    }
    return 0;
}

int far_candidate_source(struct far_step *step, uint64_t site_id, struct far_slice adapter, uint64_t last_id, uint64_t bytes,
                         struct far_candidate **ret)
{
    struct far_candidate *last;
    FAR_TRY(far_candidate_site(step, site_id, adapter, ret));
    FAR_TRY(far_candidate_node(step, last_id, &last));
    bool could = last != NULL && last->spreads && fits(last, site_id, adapter);
    *ret = could && load_of(last) <= load_of(*ret) + (bytes + TASK_BYTES) / 2 ? last : *ret;
    return 0;
}

static bool holds_less(const struct far_candidate *a, const struct far_candidate *b)
{
    uint64_t a_bytes = a->vault_bytes + a->receiving_bytes, b_bytes = b->vault_bytes + b->receiving_bytes;
    return a_bytes != b_bytes ? a_bytes < b_bytes : load_of(a) < load_of(b);
}

int far_candidate_target(struct far_step *step, uint64_t site_id, struct far_candidate **ret)
{
    FAR_TRY(load(step));
    *ret = NULL;
    for (size_t i = 0; i < step->candidates->count; i++) {
        struct far_candidate *c = &step->candidates->nodes[i];
        if (fits(c, site_id, far_slice(NULL, 0)) && (*ret == NULL || holds_less(c, *ret))) {
            *ret = c;
        }
    }
    return 0;
}

int far_candidate_scripts(struct far_step *step, uint64_t site_id, uint64_t prefer_id, struct far_candidate **ret)
{
    FAR_TRY(load(step));
    *ret = NULL;
    for (size_t i = 0; i < step->candidates->count; i++) {
        struct far_candidate *c = &step->candidates->nodes[i];
        bool is_better = *ret == NULL || c->node_id == prefer_id || ((*ret)->node_id != prefer_id && load_of(c) < load_of(*ret));
        if (c->runs_scripts && fits(c, site_id, far_slice(NULL, 0)) && is_better) {
            *ret = c;
        }
    }
    return 0;
}

void far_candidate_add(struct far_step *step, struct far_candidate *node, const struct far_row_task *row)
{
    far_site_slot_take(step, node->site_id, row, true);
    node->held++;
    if (node->spreads) {
        node->todo_bytes += far_task_todo(row);
        node->receiving_bytes += far_task_receiving(row);
    }
}
