/* What runs on a node: see running.h. Tasks stand in no order: one that begins is put at the end, the last one takes the place of
 * one that ends, so each writes one row or two. */
#include "fsm/running.h"

#include "fsm/query.h"

static struct far_key key_of(uint64_t node_id, size_t part)
{
    return far_key_part(&far_schema_row_running, node_id, part);
}

static int load_part(struct far_step *step, const struct far_row_node *node, size_t part, struct far_row_running *ret_row)
{
    struct far_key key = key_of(node->id, part);
    size_t left = (size_t)node->running_count - part * FAR_RUNNING_PART;
    FAR_TRY(far_key_need(step, &far_schema_row_running, &key, ret_row));
    return ret_row->items.count == (left < FAR_RUNNING_PART ? left : FAR_RUNNING_PART)
               ? 0
               : far_reject(step, FAR_INTERNAL, "broken: part %zu of what runs on node %llu has %zu tasks", part,
                            FAR_LLU(node->id), ret_row->items.count);
}

int far_running_load(struct far_step *step, const struct far_row_node *node, size_t more, struct far_running *ret_running)
{
    if (node->running_count > FAR_RUNNING_MAX) {
        return far_reject(step, FAR_INTERNAL, "broken: %llu tasks run on node %llu", FAR_LLU(node->running_count),
                          FAR_LLU(node->id));
    }
    size_t count = (size_t)node->running_count, room = more < FAR_RUNNING_MAX - count ? count + more : FAR_RUNNING_MAX;
    struct far_sub_running_task *items = far_step_alloc(step, room * sizeof *items);
    if (items == NULL) {
        return FAR_LIMIT;
    }
    for (size_t at = 0; at < count; at += FAR_RUNNING_PART) {
        struct far_row_running row;
        FAR_TRY(load_part(step, node, at / FAR_RUNNING_PART, &row));
        memcpy(items + at, row.items.items, row.items.count * sizeof *items);
    }
    *ret_running = (struct far_running){.node_id = node->id, .items = items, .count = count, .room = room};
    return 0;
}

struct far_sub_running_task *far_running_find(struct far_running *running, uint64_t job_id, uint64_t task)
{
    for (size_t i = 0; i < running->count; i++) {
        size_t at = running->next + i < running->count ? running->next + i : running->next + i - running->count;
        if (running->items[at].task == task && running->items[at].job_id == job_id) {
            running->next = at + 1 < running->count ? at + 1 : 0;
            return &running->items[at];
        }
    }
    return NULL;
}

void far_running_touch(struct far_running *running, const struct far_sub_running_task *task)
{
    running->is_changed[(size_t)(task - running->items) / FAR_RUNNING_PART] = true;
}

bool far_running_add(struct far_running *running, const struct far_sub_running_task *task)
{
    if (running->count == running->room) {
        return false;
    }
    running->items[running->count] = *task;
    far_running_touch(running, &running->items[running->count]);
    running->count++;
    return true;
}

static int put_part(struct far_step *step, const struct far_running *running, size_t part)
{
    size_t from = part * FAR_RUNNING_PART, left = running->count - from;
    struct far_row_running row = {
        .items = {.items = running->items + from, .count = left < FAR_RUNNING_PART ? left : FAR_RUNNING_PART}};
    struct far_key key = key_of(running->node_id, part);
    return far_key_put(step, &far_schema_row_running, &key, &row);
}

static int put_changed(struct far_step *step, const struct far_running *running)
{
    for (size_t part = 0; part * FAR_RUNNING_PART < running->count; part++) {
        FAR_TRY(running->is_changed[part] ? put_part(step, running, part) : 0);
    }
    return 0;
}

/* When the first lease ends; 0: nothing runs. */
static uint64_t earliest(const struct far_running *running)
{
    uint64_t first_ms = running->count > 0 ? running->items[0].lease_until_ms : 0;
    for (size_t i = 1; i < running->count; i++) {
        first_ms = running->items[i].lease_until_ms < first_ms ? running->items[i].lease_until_ms : first_ms;
    }
    return first_ms;
}

static int move_due(struct far_step *step, struct far_row_node *node, uint64_t to_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_running_leases, node->id, 0, node->running_due_ms, to_ms));
    node->running_due_ms = to_ms;
    return 0;
}

int far_running_store(struct far_step *step, struct far_running *running, struct far_row_node *node)
{
    FAR_TRY(put_changed(step, running));
    node->running_count = running->count;
    return node->running_due_ms == 0 ? move_due(step, node, earliest(running)) : 0;
}

/* The part is one task shorter. */
static int shorten(struct far_step *step, struct far_row_node *node, size_t part, struct far_row_running *row)
{
    struct far_key key = key_of(node->id, part);
    row->items.count--;
    node->running_count--;
    return row->items.count > 0 ? far_key_put(step, &far_schema_row_running, &key, row)
                                : far_key_del(step, &far_schema_row_running, &key);
}

/* The last task of the last row, which is taken out there. */
static int take_last(struct far_step *step, struct far_row_node *node, struct far_sub_running_task *ret_task)
{
    struct far_row_running row;
    size_t part = ((size_t)node->running_count - 1) / FAR_RUNNING_PART;
    FAR_TRY(load_part(step, node, part, &row));
    *ret_task = ((const struct far_sub_running_task *)row.items.items)[row.items.count - 1];
    return shorten(step, node, part, &row);
}

/* Its place among all that run on the node; FAR_NOT_FOUND without a rejection. */
static int find_place(struct far_step *step, const struct far_row_node *node, uint64_t job_id, uint64_t task, size_t *ret_at,
                      struct far_row_running *ret_row)
{
    for (size_t from = 0; from < node->running_count; from += FAR_RUNNING_PART) {
        FAR_TRY(load_part(step, node, from / FAR_RUNNING_PART, ret_row));
        const struct far_sub_running_task *items = ret_row->items.items;
        for (size_t i = 0; i < ret_row->items.count; i++) {
            if (items[i].task == task && items[i].job_id == job_id) {
                *ret_at = from + i;
                return 0;
            }
        }
    }
    return FAR_NOT_FOUND;
}

int far_running_drop(struct far_step *step, struct far_row_node *node, uint64_t job_id, uint64_t task)
{
    struct far_row_running row;
    struct far_sub_running_task last, items[FAR_RUNNING_PART];
    size_t at = 0;
    int rc = find_place(step, node, job_id, task, &at, &row);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    FAR_TRY(rc);
    FAR_TRY(take_last(step, node, &last));
    if (at == node->running_count) { /* it was the last itself */
        return 0;
    }
    size_t part = at / FAR_RUNNING_PART;
    struct far_key key = key_of(node->id, part);
    FAR_TRY(load_part(step, node, part, &row));
    memcpy(items, row.items.items, row.items.count * sizeof *items);
    items[at % FAR_RUNNING_PART] = last;
    row.items.items = items;
    return far_key_put(step, &far_schema_row_running, &key, &row);
}

int far_running_extend(struct far_step *step, const struct far_row_node *node, uint64_t until_ms)
{
    struct far_running running;
    FAR_TRY(far_running_load(step, node, 0, &running));
    for (size_t i = 0; i < running.count; i++) {
        if (running.items[i].lease_until_ms < until_ms) {
            running.items[i].lease_until_ms = until_ms;
            far_running_touch(&running, &running.items[i]);
        }
    }
    return put_changed(step, &running);
}

int far_running_rearm(struct far_step *step, struct far_row_node *node)
{
    struct far_running running;
    FAR_TRY(far_running_load(step, node, 0, &running));
    return move_due(step, node, earliest(&running));
}

int far_running_show(struct far_step *step, struct far_row_task *row, uint64_t *ret_lease_ms)
{
    struct far_row_node node;
    struct far_row_running part;
    size_t at = 0;
    if (!far_task_runs(row)) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_node, row->node_id, &node));
    int rc = find_place(step, &node, row->job_id, row->task, &at, &part);
    if (rc == FAR_NOT_FOUND) {
        return far_reject(step, FAR_INTERNAL, "broken: task %llu of job %llu runs nowhere", FAR_LLU(row->task),
                          FAR_LLU(row->job_id));
    }
    FAR_TRY(rc);
    const struct far_sub_running_task *item = (const struct far_sub_running_task *)part.items.items + at % FAR_RUNNING_PART;
    row->bytes_total = item->bytes_total;
    row->bytes_done = item->bytes_done;
    row->bytes_changed = item->bytes_changed;
    row->bytes_sent = item->bytes_sent;
    if (ret_lease_ms != NULL) {
        *ret_lease_ms = item->lease_until_ms;
    }
    return 0;
}

int far_query_running(struct far_state *state, struct far_row_task *task, struct far_arena *arena, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    int rc = far_running_show(&step, task, &task->lease_until_ms);
    if (rc != 0 && step.is_rejected) {
        return far_fail(err, FAR_INTERNAL, "%s", step.reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}
