/* Figures of transfers that run: see figures.h. */
#include "fsm/figures.h"

/* Rates are of about the last ten seconds: beyond, what was before counts half. */
enum { LATELY_MS_MAX = 10000, STEP_MS_MAX = 5000 };

static struct far_key key_of(uint64_t node_id, uint64_t job_id, uint64_t task)
{
    struct far_key key = far_key_pair(&far_schema_row_figures, node_id, job_id);
    far_key_u32(&key, (uint32_t)(task / FAR_FIGURES_TASKS));
    return key;
}

static bool is_at(const struct far_figures *figures, const struct far_key *key)
{
    return figures->key.len == key->len && memcmp(figures->key.bytes, key->bytes, key->len) == 0;
}

static int load(struct far_step *step, const struct far_key *key, struct far_figures *ret)
{
    struct far_row_figures row;
    int rc = far_key_find(step, &far_schema_row_figures, key, &row);
    ret->key = *key;
    ret->count = rc == 0 ? row.items.count : 0;
    ret->is_changed = false;
    if (rc == 0 && ret->count > 0) {
        memcpy(ret->items, row.items.items, ret->count * sizeof ret->items[0]);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_figures_flush(struct far_step *step, struct far_figures *figures)
{
    struct far_row_figures row = {.items = {.items = figures->items, .count = figures->count}};
    bool is_changed = figures->is_changed;
    figures->is_changed = false;
    return is_changed ? far_key_put(step, &far_schema_row_figures, &figures->key, &row) : 0;
}

static struct far_sub_running_figures *item_of(struct far_figures *figures, uint64_t task)
{
    for (size_t i = 0; i < figures->count; i++) {
        if (figures->items[i].task == task) {
            return &figures->items[i];
        }
    }
    return NULL;
}

static uint64_t more_than(uint64_t now, uint64_t before)
{
    return now > before ? now - before : 0;
}

/* A transfer that stands and stood has nothing to say. */
static void count_lately(struct far_sub_running_figures *item, uint64_t time_ms, uint64_t done, uint64_t sent)
{
    uint64_t ms = more_than(time_ms, item->reported_ms);
    if (item->lately_ms >= LATELY_MS_MAX) {
        item->lately_ms /= 2;
        item->lately_done /= 2;
        item->lately_sent /= 2;
    }
    item->reported_ms = time_ms;
    item->lately_ms += ms < STEP_MS_MAX ? ms : STEP_MS_MAX;
    item->lately_done += done;
    item->lately_sent += sent;
    if (done == 0 && sent == 0 && item->lately_done < item->lately_ms && item->lately_sent < item->lately_ms) {
        item->lately_ms = item->lately_done = item->lately_sent = 0; /* less than 1,000 bytes a second */
    }
}

static struct far_sub_running_figures taken(const struct far_sub_running_figures *before, const struct far_sub_figures *said)
{
    struct far_sub_running_figures item = *before;
    item.bytes_read = said->bytes_read;
    item.bytes_zero = said->bytes_zero;
    item.bytes_known = said->bytes_known;
    item.bytes_wanted = said->bytes_wanted;
    item.window_bytes = said->window_bytes;
    item.streams = said->streams;
    item.bottleneck = said->bottleneck <= FAR_bottleneck_peer ? said->bottleneck : 0;
    return item;
}

int far_figures_take(struct far_step *step, struct far_figures *figures, uint64_t node_id, const struct far_sub_sample *sample,
                     uint64_t done_before, uint64_t sent_before)
{
    const struct far_sub_figures *said = sample->figures.items;
    struct far_key key = key_of(node_id, sample->job_id, sample->task);
    if (!is_at(figures, &key)) {
        FAR_TRY(far_figures_flush(step, figures));
        FAR_TRY(load(step, &key, figures));
    }
    struct far_sub_running_figures *item = item_of(figures, sample->task);
    if (item == NULL && figures->count == FAR_FIGURES_PART) {
        return 0;
    }
    if (item == NULL) {
        item = &figures->items[figures->count++];
        *item = (struct far_sub_running_figures){.task = sample->task, .reported_ms = step->time_ms};
        *item = taken(item, said);
        figures->is_changed = true;
        return 0;
    }
    uint64_t done = more_than(sample->bytes_done, done_before), sent = more_than(sample->bytes_sent, sent_before);
    struct far_sub_running_figures now = taken(item, said);
    if (done != 0 || sent != 0 || item->lately_ms != 0) {
        count_lately(&now, step->time_ms, done, sent);
    }
    figures->is_changed = figures->is_changed || memcmp(&now, item, sizeof now) != 0;
    *item = now;
    return 0;
}

int far_figures_drop(struct far_step *step, uint64_t node_id, const struct far_row_task *task)
{
    struct far_figures figures;
    struct far_key key = key_of(node_id, task->job_id, task->task);
    if (task->kind != FAR_task_kind_send && task->kind != FAR_task_kind_receive) {
        return 0;
    }
    FAR_TRY(load(step, &key, &figures));
    struct far_sub_running_figures *item = item_of(&figures, task->task);
    if (item == NULL) {
        return 0;
    }
    *item = figures.items[--figures.count];
    figures.is_changed = true;
    return figures.count > 0 ? far_figures_flush(step, &figures) : far_key_del(step, &far_schema_row_figures, &key);
}

int far_figures_find(struct far_step *step, const struct far_row_task *task, struct far_sub_running_figures *ret)
{
    struct far_figures figures;
    struct far_key key = key_of(task->node_id, task->job_id, task->task);
    FAR_TRY(load(step, &key, &figures));
    struct far_sub_running_figures *item = item_of(&figures, task->task);
    if (item == NULL) {
        return FAR_NOT_FOUND;
    }
    *ret = *item;
    return 0;
}
