/* Queries about transfers: their figures, rates and what is left. See query.h. */
#include "fsm/query.h"

#include "fsm/figures.h"
#include "fsm/running.h"
#include "fsm/task.h"

enum { SCRATCH_MAX = 1024 * 1024 };

/* bytes x 1000 / ms, without overflow. */
static uint64_t per_second(uint64_t bytes, uint64_t ms)
{
    return ms == 0 ? 0 : bytes < UINT64_MAX / 1000 ? bytes * 1000 / ms : bytes / ms * 1000;
}

static uint64_t time_of(uint64_t bytes, uint64_t bytes_per_s)
{
    return bytes / bytes_per_s * 1000 + bytes % bytes_per_s * 1000 / bytes_per_s;
}

static uint64_t less(uint64_t all, uint64_t part)
{
    return all > part ? all - part : 0;
}

/* Which node the bottleneck is about: 0 where it is none alone. */
static int node_of(struct far_step *step, const struct far_row_task *task, uint64_t bottleneck, uint64_t *ret_id)
{
    bool is_send = task->kind == FAR_task_kind_send;
    bool is_peers = bottleneck == FAR_bottleneck_peer || (is_send && bottleneck == FAR_bottleneck_target_write) ||
                    (!is_send && (bottleneck == FAR_bottleneck_source_read || bottleneck == FAR_bottleneck_throttle));
    struct far_row_task peer;
    struct far_key key = far_key_part(&far_schema_row_task, task->job_id, is_send ? task->task + 1 : task->task - 1);
    *ret_id = bottleneck == 0 || bottleneck == FAR_bottleneck_link ? 0 : task->node_id;
    if (!is_peers) {
        return 0;
    }
    FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &peer));
    *ret_id = peer.node_id;
    return 0;
}

static int running_figures(struct far_step *step, const struct far_row_task *task, struct far_task_figures *ret)
{
    struct far_sub_running_figures said;
    int rc = far_figures_find(step, task, &said);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    *ret = (struct far_task_figures){.is_known = true,
                                     .is_running = true,
                                     .bytes_read = said.bytes_read,
                                     .bytes_zero = said.bytes_zero,
                                     .bytes_known = said.bytes_known,
                                     .bytes_wanted = said.bytes_wanted,
                                     .window_bytes = said.window_bytes,
                                     .streams = said.streams,
                                     .bottleneck = said.bottleneck,
                                     .bytes_per_s = per_second(said.lately_done, said.lately_ms),
                                     .sent_bytes_per_s = per_second(said.lately_sent, said.lately_ms)};
    return node_of(step, task, said.bottleneck, &ret->bottleneck_node_id);
}

int far_figures_show(struct far_step *step, const struct far_row_task *task, struct far_task_figures *ret)
{
    bool is_transfer = task->kind == FAR_task_kind_send || task->kind == FAR_task_kind_receive;
    *ret = (struct far_task_figures){.is_known = false};
    if (is_transfer && far_task_held(task)) {
        FAR_TRY(running_figures(step, task, ret));
    } else if (is_transfer && task->state == FAR_task_state_done) {
        *ret = (struct far_task_figures){.is_known = true,
                                         .bytes_read = task->bytes_read,
                                         .bytes_zero = task->bytes_zero,
                                         .bytes_known = task->bytes_known,
                                         .bytes_wanted = task->bytes_wanted};
    }
    ret->saved = far_saved_of(task->bytes_done, task->bytes_sent, ret->bytes_zero, ret->bytes_known, ret->bytes_wanted);
    ret->left_bytes = less(task->bytes_total, task->bytes_done);
    ret->has_left_ms = ret->is_running && ret->bytes_per_s != 0 && task->bytes_total != 0;
    ret->left_ms = ret->has_left_ms ? time_of(ret->left_bytes, ret->bytes_per_s) : 0;
    return 0;
}

struct far_saved far_saved_of(uint64_t looked_at, uint64_t sent, uint64_t zero, uint64_t known, uint64_t wanted)
{
    uint64_t equal = less(less(less(looked_at, zero), known), wanted), saved = less(looked_at, sent);
    uint64_t encoded = less(less(less(saved, zero), known), equal); /* of what is wanted some is still to be sent */
    return (struct far_saved){.bytes = saved,
                              .zero = zero,
                              .known = known,
                              .unchanged = equal,
                              .encoding = encoded < less(wanted, sent) ? encoded : less(wanted, sent)};
}

/* ---- jobs ---- */

/* What is left of a send that has not said it; false: nobody knows. */
static bool left_of(const struct far_row_task *task, uint64_t *ret_bytes)
{
    *ret_bytes = task->bytes_total != 0 ? less(task->bytes_total, task->bytes_done) : task->size_bytes;
    return task->bytes_total != 0 || task->size_bytes != 0;
}

static int add_send(struct far_step *step, struct far_row_task *task, struct far_job_figures *ret)
{
    struct far_task_figures figures;
    uint64_t left_bytes = 0;
    FAR_TRY(far_running_show(step, task, NULL));
    FAR_TRY(far_figures_show(step, task, &figures));
    ret->bytes_read += figures.bytes_read;
    ret->bytes_zero += figures.bytes_zero;
    ret->bytes_known += figures.bytes_known;
    ret->bytes_wanted += figures.bytes_wanted;
    ret->bytes_per_s += figures.bytes_per_s;
    ret->sent_bytes_per_s += figures.sent_bytes_per_s;
    ret->saved.unchanged += figures.is_known ? figures.saved.unchanged : 0;
    ret->saved.encoding += figures.is_known ? figures.saved.encoding : 0;
    if (task->state == FAR_task_state_done || task->state == FAR_task_state_failed || task->state == FAR_task_state_canceled) {
        return 0;
    }
    ret->has_left_ms = left_of(task, &left_bytes) && ret->has_left_ms;
    ret->left_bytes += left_bytes;
    if (figures.is_running && (ret->slowest_task == 0 || figures.left_ms > ret->slowest_ms)) {
        ret->slowest_task = task->task;
        ret->slowest_ms = figures.left_ms;
        ret->bottleneck = figures.bottleneck;
        ret->bottleneck_node_id = figures.bottleneck_node_id;
    }
    return 0;
}

static int sum_up(struct far_step *step, const struct far_row_job *job, struct far_job_figures *ret)
{
    struct far_key key = far_key_id(&far_schema_row_task, job->id);
    bool is_running = job->state == FAR_job_state_running;
    *ret = (struct far_job_figures){.has_left_ms = is_running && job->next_workload_id == 0, .is_whole = true};
    for (size_t seen = 0; is_running; seen++) {
        struct far_row_task task;
        far_arena_reset(step->arena);
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job->id)) {
            break;
        }
        FAR_TRY(rc);
        if (seen == FAR_JOB_TASKS_SEEN_MAX) {
            ret->is_whole = ret->has_left_ms = false;
            break;
        }
        FAR_TRY(task.kind == FAR_task_kind_send ? add_send(step, &task, ret) : 0);
    }
    if (!is_running || !ret->is_whole) { /* of those that are done */
        ret->bytes_read = job->bytes_read;
        ret->bytes_zero = job->bytes_zero;
        ret->bytes_known = job->bytes_known;
        ret->bytes_wanted = job->bytes_wanted;
    }
    ret->has_left_ms = ret->has_left_ms && ret->bytes_per_s != 0;
    ret->left_ms = ret->has_left_ms ? time_of(ret->left_bytes, ret->bytes_per_s) : 0;
    ret->left_ms = ret->has_left_ms && ret->slowest_ms > ret->left_ms ? ret->slowest_ms : ret->left_ms;
    struct far_saved saved = far_saved_of(job->bytes_done, job->bytes_sent, ret->bytes_zero, ret->bytes_known, ret->bytes_wanted);
    if (is_running && ret->is_whole) { /* the sends are not all at the same place: each counts for itself */
        saved.unchanged = ret->saved.unchanged;
        saved.encoding = ret->saved.encoding;
    } else if (job->state != FAR_job_state_succeeded) { /* those that failed say nothing */
        saved.unchanged = 0;
    }
    ret->saved = saved;
    return 0;
}

static int ask(struct far_step *step, int rc, const struct far_error *cause, struct far_error *err)
{
    if (rc != 0 && step->is_rejected) {
        return far_fail(err, rc, "%s", step->reject_message);
    }
    if (rc != 0 && err != NULL) {
        *err = *cause;
    }
    return rc;
}

int far_query_figures(struct far_state *state, const struct far_row_task *task, struct far_arena *arena, struct far_task_figures *ret,
                      struct far_error *err)
{
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = arena, .err = &cause};
    return ask(&step, far_figures_show(&step, task, ret), &cause, err);
}

int far_query_job_figures(struct far_state *state, const struct far_row_job *job, struct far_job_figures *ret, struct far_error *err)
{
    struct far_error cause = {0};
    struct far_arena scratch;
    struct far_step step = {.state = state, .arena = &scratch, .err = &cause};
    far_arena_init(&scratch, SCRATCH_MAX);
    int rc = ask(&step, sum_up(&step, job, ret), &cause, err);
    far_arena_done(&scratch);
    return rc;
}
