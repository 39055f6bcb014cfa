/* What happens to tasks: reports, lost nodes, leases and back-offs that end, nodes that come up, cancellation.
 *
 * Each is a piece of work on one job: load the groups it touches, change their rows, let each group do what it can do
 * next, emit the steps of all of them together, then make the points of what was sealed and finish the job if that was
 * all. From FAR_BUNDLE_LEVEL on the steps of all jobs of a report are emitted together, and the report with them; points and ends of
 * jobs follow. */
#include "fsm/task.h"

#include "fsm/job_use.h"
#include "fsm/running.h"
#include "fsm/script_task.h"
#include "fsm/site_limit.h"

enum { LOST_AT_ONCE_MAX = 1000, LOOKS_MAX = 64 };

struct work {
    struct work *next; /* of the same report */
    uint64_t job_id;
    struct far_changes *changes;
    struct far_group *first; /* groups touched, in the order of the first touch */
    struct far_group *last;
};

static int begin(struct far_step *step, struct work *work, uint64_t job_id)
{
    *work = (struct work){.job_id = job_id};
    return far_changes_new(step, job_id, &work->changes);
}

static bool is_in(const struct far_group *g, const struct far_row_task *task)
{
    uint64_t first = g->tasks[0].task;
    return g->workload_id == task->workload_id && task->task >= first && task->task - first < g->count;
}

/* The group of a task and its place there, loaded once in a piece of work. */
static int touch(struct far_step *step, struct work *work, const struct far_row_task *task, struct far_group **ret,
                 size_t *ret_at)
{
    struct far_group *g = work->first;
    while (g != NULL && !is_in(g, task)) {
        g = g->next;
    }
    if (g == NULL) {
        FAR_TRY(far_group_load(step, task, work->changes, &g));
        *(work->last != NULL ? &work->last->next : &work->first) = g;
        work->last = g;
    }
    *ret = g;
    *ret_at = (size_t)(task->task - g->tasks[0].task);
    return *ret_at < g->count ? 0
                              : far_reject(step, FAR_INTERNAL, "broken: task %llu of job %llu is in no group",
                                           FAR_LLU(task->task), FAR_LLU(task->job_id));
}

static bool is_over(const struct far_group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        if (!far_task_over(&g->tasks[i])) {
            return false;
        }
    }
    return true;
}

static int advance(struct far_step *step, struct work *work)
{
    for (struct far_group *g = work->first; g != NULL; g = g->next) {
        bool is_cycle = g->job.kind == FAR_job_kind_replicate;
        FAR_TRY(!is_cycle                                        ? far_simple_advance(step, g)
                : g->tasks[0].kind == FAR_task_kind_script ? far_cycle_script_advance(step, g)
                                                               : far_replicate_advance(step, g));
    }
    return 0;
}

/* Every group of the job. */
static int touch_all(struct far_step *step, struct work *work)
{
    struct far_key at = far_key_id(&far_schema_row_task, work->job_id);
    for (;;) {
        struct far_row_task task;
        struct far_group *g;
        size_t place;
        int rc = far_next(step, &far_schema_row_task, &at, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != work->job_id)) {
            return 0;
        }
        FAR_TRY(rc);
        FAR_TRY(touch(step, work, &task, &g, &place));
        at = far_key_part(&far_schema_row_task, work->job_id, g->tasks[0].task + g->count);
    }
}

/* A script came to its end, or what one waited for: groups that nothing happened to may go on. */
static int look_around(struct far_step *step, uint64_t job_id)
{
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        struct work work;
        FAR_TRY(begin(step, &work, job_id));
        FAR_TRY(touch_all(step, &work));
        FAR_TRY(advance(step, &work));
        bool any = work.changes->count > 0;
        FAR_TRY(far_changes_flush(step, work.changes));
        if (!any) {
            return 0;
        }
    }
    return 0; /* the next report brings us back */
}

int far_tasks_look_around(struct far_step *step, uint64_t job_id)
{
    return look_around(step, job_id);
}

/* Its steps are emitted. */
static int conclude(struct far_step *step, struct work *work)
{
    bool looks_around = false;
    for (struct far_group *g = work->first; g != NULL; g = g->next) {
        looks_around = looks_around || g->looks_around;
        if (g->is_sealed) {
            FAR_TRY(far_point_create(step, g));
            FAR_TRY(far_point_score(step, g->tasks[FAR_AT_SEAL].point_id, g->signals));
        } else if (g->job.kind == FAR_job_kind_rescore) {
            FAR_TRY(far_point_score(step, g->tasks[0].point_id, g->signals));
        } else if (g->job.kind == FAR_job_kind_verify && !g->was_over && is_over(g)) {
            FAR_TRY(far_point_verified(step, g));
        }
    }
    FAR_TRY(looks_around ? look_around(step, work->job_id) : 0);
    return far_job_settle(step, work->job_id);
}

static int end(struct far_step *step, struct work *work)
{
    FAR_TRY(advance(step, work));
    FAR_TRY(far_changes_flush(step, work->changes));
    return conclude(step, work);
}

static int find_task(struct far_step *step, uint64_t job_id, uint64_t task, struct far_row_task *ret_row)
{
    struct far_key key = far_key_part(&far_schema_row_task, job_id, task);
    return task <= UINT32_MAX ? far_key_find(step, &far_schema_row_task, &key, ret_row) : FAR_NOT_FOUND;
}

/* ---- reports ---- */

static int report_one(struct far_step *step, struct work *work, const struct far_row_node *node,
                      const struct far_row_task *task, const struct far_sub_report_item *item)
{
    struct far_group *g;
    size_t at;
    FAR_TRY(touch(step, work, task, &g, &at));
    const struct far_row_task *row = &g->tasks[at];
    if (!far_task_held(row) || row->node_id != node->id || row->boot != node->boot || row->attempt != item->attempt) {
        return 0; /* stale: another attempt, node or boot holds it, or nobody */
    }
    FAR_TRY(g->job.kind == FAR_job_kind_replicate ? far_replicate_missed(step, g, at, item) : 0);
    FAR_TRY(g->job.kind == FAR_job_kind_use && item->state != FAR_report_state_failed ? far_use_told(step, &g->job, item) : 0);
    if (item->state == FAR_report_state_running) {
        return 0;
    }
    g->signals = item->state == FAR_report_state_done ? &item->signals : NULL;
    if (item->state == FAR_report_state_failed) {
        return far_group_failed(step, g, at, item);
    }
    return g->job.kind == FAR_job_kind_replicate ? far_replicate_done(step, g, at, item)
                                                 : far_simple_done(step, g, at, item);
}

/* The works of a report: one after the other, or all together. */
struct works {
    struct far_changes *changes; /* of all together; or NULL */
    struct work *first;
    struct work *last;
};

static int begin_works(struct far_step *step, const struct far_ev_node_reported *report, struct works *works)
{
    bool bundles;
    *works = (struct works){0};
    FAR_TRY(far_level_has(step, FAR_BUNDLE_LEVEL, &bundles));
    if (bundles) {
        FAR_TRY(far_changes_new(step, 0, &works->changes));
        works->changes->is_mixed = true;
        works->changes->report = report;
    }
    return 0;
}

static int end_works(struct far_step *step, struct works *works)
{
    for (struct work *work = works->first; work != NULL; work = work->next) {
        FAR_TRY(advance(step, work));
    }
    FAR_TRY(works->changes != NULL ? far_changes_flush(step, works->changes) : 0);
    FAR_TRY(works->changes == NULL && works->first != NULL ? far_changes_flush(step, works->first->changes) : 0);
    for (struct work *work = works->first; work != NULL; work = work->next) {
        FAR_TRY(conclude(step, work));
    }
    works->first = works->last = NULL;
    return 0;
}

/* The work on the job; alone, what was before it is ended. */
static int work_on(struct far_step *step, struct works *works, uint64_t job_id, struct work **ret)
{
    struct work *work = works->first;
    while (work != NULL && work->job_id != job_id) {
        work = work->next;
    }
    if (work == NULL) {
        FAR_TRY(works->changes == NULL ? end_works(step, works) : 0);
        work = far_step_alloc(step, sizeof *work);
        if (work == NULL) {
            return FAR_LIMIT;
        }
        *work = (struct work){.job_id = job_id, .changes = works->changes};
        FAR_TRY(works->changes == NULL ? far_changes_new(step, job_id, &work->changes) : 0);
        *(works->last != NULL ? &works->last->next : &works->first) = work;
        works->last = work;
    }
    *ret = work;
    return 0;
}

int far_tasks_report(struct far_step *step, const struct far_row_node *node, const struct far_list *items,
                     const struct far_ev_node_reported *report)
{
    const struct far_sub_report_item *item = items->items;
    struct works works;
    FAR_TRY(begin_works(step, report, &works));
    for (size_t i = 0; i < items->count; i++) {
        struct far_row_task task;
        struct work *work;
        bool is_end = item[i].state == FAR_report_state_done || item[i].state == FAR_report_state_failed;
        bool tells = item[i].missed_block_count != 0 || item[i].use_result.count > 0;
        if (!is_end && (item[i].state != FAR_report_state_running || !tells)) {
            continue;
        }
        int rc = find_task(step, item[i].job_id, item[i].task, &task);
        if (rc == FAR_NOT_FOUND) {
            continue;
        }
        FAR_TRY(rc);
        if (!is_end && item[i].use_result.count == 0 && item[i].missed_block_count <= task.missed_block_count) {
            continue; /* told already */
        }
        FAR_TRY(work_on(step, &works, item[i].job_id, &work));
        FAR_TRY(report_one(step, work, node, &task, &item[i]));
    }
    return end_works(step, &works);
}

/* ---- losses ---- */

static int lose(struct far_step *step, struct work *work, const struct far_row_task *task)
{
    struct far_group *g;
    size_t at;
    FAR_TRY(touch(step, work, task, &g, &at));
    if (!far_task_held(&g->tasks[at]) || g->tasks[at].attempt != task->attempt) {
        return 0; /* its peer's loss took it along */
    }
    return task->kind == FAR_task_kind_script ? far_script_lost(step, g, at)
                                              : far_group_again(step, g, at, (struct far_sub_task_change){.step = FAR_task_step_lose});
}

/* The tasks that the node holds, at most LOST_AT_ONCE_MAX; the leases of any beyond run out by themselves. */
static int held_by(struct far_step *step, uint64_t node_id, struct far_row_task **ret_tasks, size_t *ret_count)
{
    struct far_key at = far_key_id(&far_schema_row_node_task, node_id);
    struct far_row_node_task held;
    struct far_slice id;
    size_t count = 0;
    struct far_row_task *tasks = far_step_alloc(step, LOST_AT_ONCE_MAX * sizeof *tasks);
    if (tasks == NULL) {
        return FAR_LIMIT;
    }
    while (count < LOST_AT_ONCE_MAX) {
        int rc = far_next(step, &far_schema_row_node_task, &at, &id, &held);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != node_id)) {
            break;
        }
        FAR_TRY(rc);
        struct far_key key = far_key_part(&far_schema_row_task, far_get_be64(id.data + 8), far_get_be32(id.data + 16));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &tasks[count]));
        count++;
    }
    *ret_tasks = tasks;
    *ret_count = count;
    return 0;
}

typedef int (*each_fn)(struct far_step *step, struct work *work, const struct far_row_task *task);

/* Tasks of one job follow each other: each job is one piece of work. */
static int for_each(struct far_step *step, const struct far_row_task *tasks, size_t count, each_fn each)
{
    struct work work = {0};
    for (size_t i = 0; i < count; i++) {
        if (work.changes != NULL && work.changes->job_id != tasks[i].job_id) {
            FAR_TRY(end(step, &work));
            work.changes = NULL;
        }
        FAR_TRY(work.changes == NULL ? begin(step, &work, tasks[i].job_id) : 0);
        FAR_TRY(each(step, &work, &tasks[i]));
    }
    return work.changes != NULL ? end(step, &work) : 0;
}

int far_tasks_lost(struct far_step *step, uint64_t node_id, uint64_t boot)
{
    struct far_row_task *tasks = NULL;
    size_t count = 0, lost = 0;
    FAR_TRY(held_by(step, node_id, &tasks, &count));
    for (size_t i = 0; i < count; i++) {
        if (tasks[i].boot != boot) {
            tasks[lost++] = tasks[i];
        }
    }
    return for_each(step, tasks, lost, lose);
}

/* What a group does with a drained node is its own rule (job_replicate.c). */
static int look_again(struct far_step *step, struct work *work, const struct far_row_task *task)
{
    struct far_group *g;
    size_t at;
    return touch(step, work, task, &g, &at);
}

int far_tasks_leave(struct far_step *step, uint64_t node_id)
{
    struct far_row_task *tasks = NULL;
    size_t count = 0;
    FAR_TRY(held_by(step, node_id, &tasks, &count));
    return for_each(step, tasks, count, look_again);
}

int far_running_due(struct far_step *step, uint64_t node_id)
{
    struct far_row_node node;
    struct far_running running;
    size_t lost = 0;
    int rc = far_row_find(step, &far_schema_row_node, node_id, &node);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    FAR_TRY(rc);
    FAR_TRY(far_running_load(step, &node, 0, &running));
    struct far_row_task *tasks = far_step_alloc(step, running.count * sizeof *tasks);
    if (tasks == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < running.count; i++) {
        const struct far_sub_running_task *item = &running.items[i];
        struct far_key key = far_key_part(&far_schema_row_task, item->job_id, item->task);
        if (item->lease_until_ms <= step->time_ms) {
            FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &tasks[lost++]));
        }
    }
    FAR_TRY(for_each(step, tasks, lost, lose));
    struct far_ev_leases_checked ev = {.node_id = node_id};
    return far_emit(step, &far_schema_ev_leases_checked, &ev);
}

int far_task_lease_due(struct far_step *step, uint64_t job_id, uint64_t task)
{
    struct far_row_task row;
    struct work work;
    int rc = find_task(step, job_id, task, &row);
    if (rc == FAR_NOT_FOUND || (rc == 0 && (!far_task_held(&row) || far_task_runs(&row) || row.lease_until_ms > step->time_ms))) {
        return 0;
    }
    FAR_TRY(rc);
    FAR_TRY(begin(step, &work, job_id));
    FAR_TRY(lose(step, &work, &row));
    return end(step, &work);
}

int far_task_retry_due(struct far_step *step, uint64_t job_id, uint64_t task)
{
    struct far_row_task row;
    struct far_group *g;
    struct work work;
    size_t at;
    int rc = find_task(step, job_id, task, &row);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    FAR_TRY(rc);
    FAR_TRY(begin(step, &work, job_id));
    FAR_TRY(touch(step, &work, &row, &g, &at));
    for (size_t i = 0; i < g->count; i++) {
        const struct far_row_task *t = &g->tasks[i];
        if (t->state == FAR_task_state_ready && t->retry_ms != 0 && t->retry_ms <= step->time_ms) {
            FAR_TRY(far_group_step(step, g, i, FAR_task_step_ready));
        }
    }
    return end(step, &work);
}

/* ---- looking again ---- */

int far_task_look(struct far_step *step, const struct far_row_task *task)
{
    struct work work;
    FAR_TRY(begin(step, &work, task->job_id));
    FAR_TRY(look_again(step, &work, task));
    return end(step, &work);
}

int far_tasks_assign(struct far_step *step, uint64_t job_id)
{
    struct far_key at = far_key_id(&far_schema_row_task_ready, job_id);
    struct work work;
    FAR_TRY(begin(step, &work, job_id));
    for (;;) {
        struct far_row_task_ready ready;
        struct far_row_task task;
        struct far_group *g;
        struct far_slice id;
        size_t place;
        int rc = far_next(step, &far_schema_row_task_ready, &at, &id, &ready);
        if (rc == FAR_NOT_FOUND || (rc == 0 && far_get_be64(id.data) != job_id)) {
            return end(step, &work);
        }
        FAR_TRY(rc);
        struct far_key key = far_key_part(&far_schema_row_task, job_id, far_get_be32(id.data + 8));
        FAR_TRY(far_key_need(step, &far_schema_row_task, &key, &task));
        FAR_TRY(touch(step, &work, &task, &g, &place));
    }
}

int far_tasks_cancel(struct far_step *step, uint64_t job_id)
{
    struct work work;
    FAR_TRY(begin(step, &work, job_id));
    FAR_TRY(touch_all(step, &work));
    return end(step, &work);
}
