/* What nodes have to do and hold: see node_load.h. A node that was removed has no row, and nothing is counted for it. */
#include "fsm/node_load.h"

#include "fsm/machines.h"
#include "fsm/running.h"
#include "fsm/site_limit.h"

enum { SCAN_BYTES_MAX = 64 * 1024 * 1024 };

int far_level_spreads(struct far_step *step, bool *ret_spreads)
{
    return far_level_has(step, FAR_SPREAD_LEVEL, ret_spreads);
}

/* ---- tasks ---- */

static bool is_counted(uint64_t kind)
{
    return kind == FAR_task_kind_freeze || kind == FAR_task_kind_send || kind == FAR_task_kind_receive ||
           kind == FAR_task_kind_restore || kind == FAR_task_kind_verify;
}

uint64_t far_task_todo(const struct far_row_task *row)
{
    if (!is_counted(row->kind)) {
        return 0;
    }
    uint64_t left = row->bytes_total > row->bytes_done ? row->bytes_total - row->bytes_done : 0;
    return row->bytes_total != 0 ? left : row->size_bytes;
}

uint64_t far_task_receiving(const struct far_row_task *row)
{
    return row->kind == FAR_task_kind_receive ? row->size_bytes : 0;
}

int far_node_load_hold(struct far_step *step, struct far_row_node *node, const struct far_row_task *row, bool is_held)
{
    uint64_t todo = far_task_todo(row), receiving = far_task_receiving(row);
    bool spreads;
    FAR_TRY(far_level_spreads(step, &spreads));
    if (!spreads) {
        return 0;
    }
    if (!is_held && (node->todo_bytes < todo || node->receiving_bytes < receiving)) {
        return far_reject(step, FAR_INTERNAL, "broken: node %llu has less to do than task %llu of job %llu", FAR_LLU(node->id),
                          FAR_LLU(row->task), FAR_LLU(row->job_id));
    }
    node->todo_bytes = is_held ? node->todo_bytes + todo : node->todo_bytes - todo;
    node->receiving_bytes = is_held ? node->receiving_bytes + receiving : node->receiving_bytes - receiving;
    far_slot_hold(node, row, is_held);
    return 0;
}

void far_node_load_progress(struct far_row_node *node, uint64_t before_bytes, uint64_t after_bytes)
{
    node->todo_bytes = node->todo_bytes - before_bytes + after_bytes;
}

/* ---- vaults ---- */

/* The row if it is to be counted in; id 0: it is not. */
static int find_node(struct far_step *step, uint64_t node_id, struct far_row_node *ret_node)
{
    bool spreads;
    ret_node->id = 0;
    FAR_TRY(far_level_spreads(step, &spreads));
    if (!spreads || node_id == 0) {
        return 0;
    }
    int rc = far_row_find(step, &far_schema_row_node, node_id, ret_node);
    if (rc == FAR_NOT_FOUND) {
        ret_node->id = 0;
        return 0;
    }
    return rc;
}

/* The sizes of all its disks, as last proven. */
static int size_of(struct far_step *step, const struct far_row_workload *workload, uint64_t *ret_bytes)
{
    *ret_bytes = 0;
    for (uint64_t d = 0; d < workload->disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, workload->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        *ret_bytes += disk.size_bytes;
    }
    return 0;
}

int far_workload_size(struct far_step *step, const struct far_row_workload *workload, uint64_t *ret_bytes)
{
    bool spreads;
    *ret_bytes = 0;
    FAR_TRY(far_level_spreads(step, &spreads));
    return spreads ? size_of(step, workload, ret_bytes) : 0;
}

static int move_vault(struct far_step *step, const struct far_row_workload *workload, bool is_entering)
{
    struct far_row_node node;
    uint64_t bytes;
    FAR_TRY(find_node(step, workload->target_node_id, &node));
    if (node.id == 0) {
        return 0;
    }
    FAR_TRY(size_of(step, workload, &bytes));
    if (!is_entering && node.vault_bytes < bytes) {
        return far_reject(step, FAR_INTERNAL, "broken: the vault of node %llu holds less than workload %llu", FAR_LLU(node.id),
                          FAR_LLU(workload->id));
    }
    node.vault_bytes = is_entering ? node.vault_bytes + bytes : node.vault_bytes - bytes;
    step->candidates = NULL;
    return far_row_put(step, &far_schema_row_node, node.id, &node);
}

int far_node_vault_leave(struct far_step *step, const struct far_row_workload *workload)
{
    return move_vault(step, workload, false);
}

int far_node_vault_enter(struct far_step *step, const struct far_row_workload *workload)
{
    return move_vault(step, workload, true);
}

int far_node_points(struct far_step *step, uint64_t node_id, int delta)
{
    struct far_row_node node;
    FAR_TRY(find_node(step, node_id, &node));
    if (node.id == 0) {
        return 0;
    }
    if (delta < 0 && node.point_count == 0) {
        return far_reject(step, FAR_INTERNAL, "broken: the vault of node %llu holds no points", FAR_LLU(node.id));
    }
    node.point_count += (uint64_t)(int64_t)delta;
    return far_row_put(step, &far_schema_row_node, node.id, &node);
}

/* ---- counting everything once ---- */

/* What is counted of each node before its row is put, once. */
struct tally {
    struct far_row_node *nodes; /* by id */
    size_t count;
    size_t capacity;
};

typedef int (*count_fn)(struct far_step *step, struct tally *tally, struct far_slice id, const void *row);

/* One table, row by row, in memory of its own: there may be a million. */
static int scan(struct far_step *step, const struct far_schema *table, struct tally *tally, count_fn count)
{
    struct far_key key = far_key(table);
    struct far_arena own, *whole = step->arena;
    int rc;
    far_arena_init(&own, SCAN_BYTES_MAX);
    do {
        struct far_slice id;
        far_arena_reset(&own);
        step->arena = &own;
        void *row = far_step_alloc(step, table->size);
        rc = row == NULL ? FAR_LIMIT : far_next(step, table, &key, &id, row);
        rc = rc == 0 ? count(step, tally, id, row) : rc;
    } while (rc == 0);
    step->arena = whole;
    far_arena_done(&own);
    return rc == FAR_NOT_FOUND && !step->is_rejected ? 0 : rc;
}

static struct far_row_node *node_of(struct tally *tally, uint64_t id)
{
    size_t low = 0, high = tally->count;
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (tally->nodes[middle].id < id) {
            low = middle + 1;
        } else {
            high = middle;
        }
    }
    return low < tally->count && tally->nodes[low].id == id ? &tally->nodes[low] : NULL;
}

static int count_task(struct far_step *step, struct tally *tally, struct far_slice id, const void *unused)
{
    struct far_row_task task;
    struct far_key key = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
    struct far_row_node *node = node_of(tally, far_get_be64(id.data));
    (void)unused;
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
    FAR_TRY(far_running_show(step, &task, NULL));
    return node != NULL ? far_node_load_hold(step, node, &task, true) : 0;
}

static int count_workload(struct far_step *step, struct tally *tally, struct far_slice id, const void *row)
{
    const struct far_row_workload *workload = row;
    struct far_row_node *node = node_of(tally, workload->target_node_id);
    uint64_t bytes = 0;
    (void)id;
    FAR_TRY(node != NULL ? size_of(step, workload, &bytes) : 0);
    if (node != NULL) {
        node->vault_bytes += bytes;
    }
    return 0;
}

static int count_point(struct far_step *step, struct tally *tally, struct far_slice id, const void *row)
{
    const struct far_row_point *point = row;
    struct far_row_node *node = node_of(tally, point->node_id);
    (void)step;
    (void)id;
    if (node != NULL && point->state != FAR_point_state_removed) {
        node->point_count++;
    }
    return 0;
}

/* What waits for a node stands in the queue of its site from now on. */
static int queue_task(struct far_step *step, struct tally *tally, struct far_slice id, const void *unused)
{
    struct far_row_task task;
    struct far_key key = far_key_part(&far_schema_row_task, far_get_be64(id.data), far_get_be32(id.data + 8));
    (void)tally;
    (void)unused;
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
    FAR_TRY(far_slot_queue(step, &task, true));
    return far_key_put(step, &far_schema_row_task, &key, &task);
}

static int list_nodes(struct far_step *step, struct tally *tally)
{
    struct far_key key = far_key(&far_schema_row_node);
    struct far_row_node row;
    int rc;
    while ((rc = far_next(step, &far_schema_row_node, &key, NULL, &row)) == 0) {
        if (tally->count == tally->capacity) {
            size_t capacity = tally->capacity == 0 ? 16 : 2 * tally->capacity;
            struct far_row_node *nodes = far_step_alloc(step, capacity * sizeof *nodes);
            if (nodes == NULL) {
                return FAR_LIMIT;
            }
            for (size_t i = 0; i < tally->count; i++) {
                nodes[i] = tally->nodes[i];
            }
            tally->nodes = nodes;
            tally->capacity = capacity;
        }
        tally->nodes[tally->count++] = row;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_node_load_count(struct far_step *step)
{
    struct tally tally = {.count = 0};
    FAR_TRY(list_nodes(step, &tally));
    FAR_TRY(scan(step, &far_schema_row_node_task, &tally, count_task));
    FAR_TRY(scan(step, &far_schema_row_task_ready, &tally, queue_task));
    FAR_TRY(scan(step, &far_schema_row_workload, &tally, count_workload));
    FAR_TRY(scan(step, &far_schema_row_point, &tally, count_point));
    for (size_t i = 0; i < tally.count; i++) {
        FAR_TRY(far_row_put(step, &far_schema_row_node, tally.nodes[i].id, &tally.nodes[i]));
    }
    step->candidates = NULL;
    return 0;
}
