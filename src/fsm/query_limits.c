/* Limits: what each node may send, from the bandwidth limits of nodes, sites and plans and from who holds sends. See query.h.
 *
 * A site's limit is shared evenly by its nodes that hold sends, a plan's by the nodes of its source site that hold sends of its cycle;
 * one that holds none is told the share that it would get as one more, so that whoever is given a send is bound before it begins. */
#include "fsm/query.h"

#include "fsm/bandwidth.h"
#include "fsm/task.h"

enum { SCRATCH_MAX = 16 * 1024 * 1024 };

struct node {
    uint64_t id, site_id;
    uint64_t own_rate;
};

/* Of a site or plan: and who shares it. */
struct limit {
    uint64_t id;
    uint64_t rate;
    uint64_t site_id; /* whose nodes share it */
    uint64_t job_id;  /* of a plan: its running cycle; 0: none */
    bool *sends;      /* of each node: does it? NULL: nobody does */
    size_t senders;
};

struct context {
    struct far_step *step; /* reads into an arena that is reset row by row */
    struct far_arena *out; /* of the answer */
    uint64_t now_ms;       /* 0: as the log said last */
    struct node *nodes;
    size_t node_count;
    struct limit *sites, *plans, *own;
    size_t site_count, plan_count, own_count;
};

/* 0 is no limit. */
static uint64_t least(uint64_t a, uint64_t b)
{
    return a == FAR_RATE_UNLIMITED || (b != FAR_RATE_UNLIMITED && b < a) ? b : a;
}

static uint64_t share(uint64_t rate, size_t count)
{
    if (rate <= FAR_RATE_PAUSED || count < 2) {
        return rate;
    }
    return rate / count > FAR_RATE_PAUSED ? rate / count : FAR_RATE_PAUSED + 1;
}

static int alloc(struct context *c, size_t size, void **ret)
{
    *ret = far_arena_alloc(c->out, size);
    return *ret != NULL ? 0 : far_fail(c->step->err, FAR_LIMIT, "no memory for the limits of nodes");
}

/* ---- who sends ---- */

/* Does the node hold a send? Of one job, or (0) of any. */
static int holds_send(struct far_step *step, uint64_t node_id, uint64_t job_id, bool *ret_holds)
{
    struct far_key key = job_id != 0 ? far_key_pair(&far_schema_row_node_task, node_id, job_id)
                                     : far_key_id(&far_schema_row_node_task, node_id);
    *ret_holds = false;
    for (;;) {
        struct far_row_node_task held;
        struct far_row_task task;
        struct far_slice id;
        far_arena_reset(step->arena);
        int rc = far_next(step, &far_schema_row_node_task, &key, &id, &held);
        bool is_other = rc == 0 && (far_get_be64(id.data) != node_id || (job_id != 0 && far_get_be64(id.data + 8) != job_id));
        if (rc == FAR_NOT_FOUND || is_other) {
            return 0;
        }
        FAR_TRY(rc);
        struct far_key at = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &at, &task));
        if (task.kind == FAR_task_kind_send) {
            *ret_holds = true;
            return 0;
        }
    }
}

static struct limit *find_limit(struct limit *list, size_t count, uint64_t id)
{
    for (size_t i = 0; i < count; i++) {
        if (list[i].id == id) {
            return &list[i];
        }
    }
    return NULL;
}

static int mark(struct context *c, struct limit *limit, size_t node)
{
    if (limit->sends == NULL) {
        FAR_TRY(alloc(c, c->node_count * sizeof *limit->sends, (void **)&limit->sends));
    }
    limit->senders += !limit->sends[node];
    limit->sends[node] = true;
    return 0;
}

static struct limit *find_job(struct context *c, uint64_t site_id, uint64_t job_id)
{
    for (size_t i = 0; i < c->plan_count; i++) {
        if (c->plans[i].job_id == job_id && c->plans[i].site_id == site_id) {
            return &c->plans[i];
        }
    }
    return NULL;
}

/* Job by job of those that the node holds something of. */
static int mark_jobs(struct context *c, size_t node)
{
    struct far_key key = far_key_id(&far_schema_row_node_task, c->nodes[node].id);
    for (;;) {
        struct far_row_node_task held;
        struct far_slice id;
        far_arena_reset(c->step->arena);
        int rc = far_next(c->step, &far_schema_row_node_task, &key, &id, &held);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != c->nodes[node].id)) {
            return 0;
        }
        FAR_TRY(rc);
        uint64_t job_id = far_get_be64(id.data + 8);
        struct limit *limit = find_job(c, c->nodes[node].site_id, job_id);
        bool holds = false;
        FAR_TRY(limit != NULL ? holds_send(c->step, c->nodes[node].id, job_id, &holds) : 0);
        FAR_TRY(holds ? mark(c, limit, node) : 0);
        key = far_key_pair(&far_schema_row_node_task, c->nodes[node].id, job_id + 1);
    }
}

/* Only where a limit is to be shared. */
static int load_senders(struct context *c)
{
    for (size_t i = 0; i < c->node_count; i++) {
        struct limit *of_site = find_limit(c->sites, c->site_count, c->nodes[i].site_id);
        bool holds = false;
        if (of_site != NULL && of_site->rate > FAR_RATE_PAUSED) {
            FAR_TRY(holds_send(c->step, c->nodes[i].id, 0, &holds));
            FAR_TRY(holds ? mark(c, of_site, i) : 0);
        }
        FAR_TRY(c->plan_count > 0 ? mark_jobs(c, i) : 0);
    }
    return 0;
}

/* ---- what there is ---- */

static int rate_of(struct context *c, const struct far_row_throttle *row, uint64_t *ret_rate)
{
    uint64_t next_ms;
    *ret_rate = row->in_force_bytes_per_s;
    return c->now_ms != 0 ? far_throttle_at(c->step, row, c->now_ms, ret_rate, &next_ms) : 0;
}

static int load_limits(struct context *c)
{
    struct far_row_throttle row;
    struct far_key key = far_key(&far_schema_row_throttle);
    FAR_TRY(alloc(c, 3 * FAR_THROTTLES_MAX * sizeof *c->sites, (void **)&c->sites));
    c->plans = c->sites + FAR_THROTTLES_MAX;
    c->own = c->plans + FAR_THROTTLES_MAX;
    int rc;
    while ((rc = far_next(c->step, &far_schema_row_throttle, &key, NULL, &row)) == 0) {
        struct limit limit = {.id = row.id, .site_id = row.site_id};
        struct limit *list = row.site_id != 0 ? c->sites : row.plan_id != 0 ? c->plans : c->own;
        size_t *count = row.site_id != 0 ? &c->site_count : row.plan_id != 0 ? &c->plan_count : &c->own_count;
        FAR_TRY(rate_of(c, &row, &limit.rate));
        if (*count < FAR_THROTTLES_MAX && limit.rate != FAR_RATE_UNLIMITED) {
            list[(*count)++] = limit;
        }
        far_arena_reset(c->step->arena);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int count_nodes(struct far_step *step, size_t *ret_count)
{
    struct far_row_node row;
    struct far_key key = far_key(&far_schema_row_node);
    int rc;
    *ret_count = 0;
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        (*ret_count)++;
        far_arena_reset(step->arena);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int load_nodes(struct context *c)
{
    struct far_row_node row;
    struct far_key key = far_key(&far_schema_row_node);
    size_t capacity;
    int rc = 0;
    FAR_TRY(count_nodes(c->step, &capacity));
    FAR_TRY(alloc(c, (capacity + 1) * sizeof *c->nodes, (void **)&c->nodes));
    while (c->node_count < capacity && (rc = far_next(c->step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        const struct limit *own = find_limit(c->own, c->own_count, row.id);
        c->nodes[c->node_count++] = (struct node){
            .id = row.id, .site_id = row.site_id, .own_rate = own != NULL ? own->rate : FAR_RATE_UNLIMITED};
        far_arena_reset(c->step->arena);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Where each limited plan starts from, and its cycle. */
static int load_plans(struct context *c)
{
    for (size_t i = 0; i < c->plan_count; i++) {
        struct far_row_plan plan;
        far_arena_reset(c->step->arena);
        FAR_TRY(far_row_need(c->step, &far_schema_row_plan, c->plans[i].id, &plan));
        c->plans[i].site_id = plan.source_site_id;
        c->plans[i].job_id = plan.running_job_id;
    }
    return 0;
}

/* ---- the answer ---- */

/* The node's part of a limit. */
static uint64_t part_of(const struct context *c, const struct limit *limit, const struct node *self)
{
    bool sends = limit->sends != NULL && limit->sends[self - c->nodes];
    return share(limit->rate, limit->senders + !sends);
}

static int compose(struct context *c, const struct node *self, struct far_node_limits *ret)
{
    const struct limit *of_site = find_limit(c->sites, c->site_count, self->site_id);
    struct far_sub_plan_limit *plans;
    size_t count = 0;
    FAR_TRY(alloc(c, (c->plan_count + 1) * sizeof *plans, (void **)&plans));
    for (size_t i = 0; i < c->plan_count; i++) {
        if (c->plans[i].site_id == self->site_id) {
            plans[count++] = (struct far_sub_plan_limit){.plan_id = c->plans[i].id, .bytes_per_s = part_of(c, &c->plans[i], self)};
        }
    }
    uint64_t of_this_site = of_site != NULL ? part_of(c, of_site, self) : FAR_RATE_UNLIMITED;
    *ret = (struct far_node_limits){.node_id = self->id,
                                    .bytes_per_s = least(self->own_rate, of_this_site),
                                    .plans = {.items = plans, .count = count}};
    return 0;
}

static int list_limits(struct context *c, uint64_t node_id, struct far_list *ret_limits)
{
    struct far_node_limits *limits;
    size_t count = 0;
    FAR_TRY(load_limits(c));
    FAR_TRY(load_plans(c));
    FAR_TRY(load_nodes(c));
    FAR_TRY(load_senders(c));
    FAR_TRY(alloc(c, (c->node_count + 1) * sizeof *limits, (void **)&limits));
    for (size_t i = 0; i < c->node_count; i++) {
        if (node_id == 0 || c->nodes[i].id == node_id) {
            FAR_TRY(compose(c, &c->nodes[i], &limits[count++]));
        }
    }
    if (node_id != 0 && count == 0) {
        return far_reject(c->step, FAR_NOT_FOUND, "there is no node %llu", FAR_LLU(node_id));
    }
    *ret_limits = (struct far_list){.items = limits, .count = count};
    return 0;
}

int far_query_limits(struct far_state *state, uint64_t node_id, uint64_t now_ms, struct far_arena *arena, struct far_list *ret_limits,
                     struct far_error *err)
{
    struct far_error cause = {0};
    struct far_arena scratch;
    struct far_step step = {.state = state, .arena = &scratch, .err = &cause};
    struct context c = {.step = &step, .out = arena, .now_ms = now_ms};
    far_arena_init(&scratch, SCRATCH_MAX);
    int rc = list_limits(&c, node_id, ret_limits);
    far_arena_done(&scratch);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, rc, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}

int far_query_has_limits(struct far_state *state, bool *ret_has, struct far_error *err)
{
    struct far_row_throttle row;
    struct far_arena arena;
    struct far_key key = far_key(&far_schema_row_throttle);
    far_arena_init(&arena, 1 << 16);
    int rc = far_state_next(state, &far_schema_row_throttle, &key, &arena, NULL, &row, err);
    far_arena_done(&arena);
    *ret_has = rc == 0;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_query_throttle(struct far_state *state, const struct far_row_throttle *row, uint64_t now_ms, struct far_arena *arena,
                       uint64_t *ret_bytes_per_s, uint64_t *ret_next_ms, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = far_throttle_at(&step, row, now_ms, ret_bytes_per_s, ret_next_ms);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, rc, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
