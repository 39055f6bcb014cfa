/* What a failover lost: which extents, told by the source itself once it is back (feature level 4).
 *
 * When a failover begins there is an estimate of the time, and of a cycle that it cut short what that had found changed. From then
 * on the source is waited for (row run_lost_wait). As soon as what was recovered is up, a node of the source's site is too, and the
 * source's machine was turned off by the run (or the run was committed), a job begins that compares: for each workload one task at the
 * source, which freezes its disks, reads what their lists of changes name since the point that was recovered, or everything, and
 * hashes it; and one at the vault, which says what the hashes of the point are. Nothing else moves, and nothing is written at the
 * source. What is told stays beside the run's rows as long as they do. A job that fails, or is canceled, is begun again only by a
 * person (run_compare). A run that comes to nothing has lost nothing. */
#include "fsm/run_lost.h"

#include "fsm/running.h"

enum { WRITTEN_SLACK_MS = 10000 /* the node's clock, and the time that a platform needs to say that a machine is off */ };

/* ---- a failover begins ---- */

/* What the cycle that runs has found changed of the workload until now. */
static int look_at_cycle(struct far_step *step, uint64_t job_id, struct far_sub_lost_member *item)
{
    struct far_key key = far_key_id(&far_schema_row_task, job_id);
    while (job_id != 0) {
        struct far_row_task task;
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job_id)) {
            return 0;
        }
        FAR_TRY(rc);
        if (task.workload_id == item->workload_id && task.kind == FAR_task_kind_send && task.started_ms != 0) {
            FAR_TRY(far_running_show(step, &task, NULL));
            item->was_sending = true;
            item->seen_bytes += task.bytes_changed;
        }
    }
    return 0;
}

int far_lost_open(struct far_step *step, const struct far_row_plan *plan, const struct far_run_pick *pick, uint64_t run_id)
{
    struct far_sub_lost_member *items = far_step_alloc(step, (pick->count + 1) * sizeof *items);
    struct far_ev_run_lost_open ev = {.job_id = run_id, .items = {.items = items}};
    struct far_row_job cycle = {.kind = 0};
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(plan->running_job_id != 0 ? far_row_need(step, &far_schema_row_job, plan->running_job_id, &cycle) : 0);
    for (size_t i = 0; i < pick->count; i++) {
        if (pick->items[i].point_id != 0 && pick->items[i].left_out.len == 0) {
            struct far_sub_lost_member *item = &items[ev.items.count++];
            *item = (struct far_sub_lost_member){.workload_id = pick->items[i].workload_id};
            FAR_TRY(cycle.kind == FAR_job_kind_replicate ? look_at_cycle(step, cycle.id, item) : 0);
        }
    }
    return ev.items.count > 0 ? far_emit(step, &far_schema_ev_run_lost_open, &ev) : 0;
}

/* ---- telling ---- */

static int tell(struct far_step *step, uint64_t run_id, uint64_t state, const uint64_t *ids, size_t count, struct far_slice note)
{
    struct far_ev_run_lost ev = {
        .job_id = run_id, .state = state, .workload_ids = {.items = ids, .count = count}, .note = note};
    return count > 0 ? far_emit(step, &far_schema_ev_run_lost, &ev) : 0;
}

/* Workloads of the run that are in one of these states (bit n: state n); at most FAR_RUN_MEMBERS_MAX. */
static int list(struct far_step *step, uint64_t run_id, unsigned states, uint64_t compare_job_id, uint64_t *ids, size_t *ret_count)
{
    struct far_key key = far_key_id(&far_schema_row_run_lost, run_id);
    *ret_count = 0;
    while (*ret_count < FAR_RUN_MEMBERS_MAX) {
        struct far_row_run_lost row;
        int rc = far_next(step, &far_schema_row_run_lost, &key, NULL, &row);
        if (rc == FAR_NOT_FOUND || (rc == 0 && row.job_id != run_id)) {
            return 0;
        }
        FAR_TRY(rc);
        if ((states >> row.state & 1) != 0 && (compare_job_id == 0 || row.compare_job_id == compare_job_id)) {
            ids[(*ret_count)++] = row.workload_id;
        }
    }
    return 0;
}

enum {
    IN_UNKNOWN = 1 << FAR_lost_state_unknown,
    IN_COMPARING = 1 << FAR_lost_state_comparing,
    IN_COMPARED = 1 << FAR_lost_state_compared,
    IN_FAILED = 1 << FAR_lost_state_failed,
};

/* The job that compares for the run now; 0: none. */
static int find_running(struct far_step *step, uint64_t run_id, uint64_t *ret_job_id)
{
    struct far_row_run_lost_wait wait;
    struct far_row_job job;
    *ret_job_id = 0;
    int rc = far_row_find(step, &far_schema_row_run_lost_wait, run_id, &wait);
    rc = rc == 0 ? far_row_find(step, &far_schema_row_job, wait.compare_job_id, &job) : rc;
    if (rc == 0 && job.state == FAR_job_state_running) {
        *ret_job_id = job.id;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_lost_none(struct far_step *step, uint64_t run_id)
{
    uint64_t *ids = far_step_alloc(step, FAR_RUN_MEMBERS_MAX * sizeof *ids);
    struct far_cmd_job_cancel cancel = {.job_id = 0};
    uint64_t object_id = step->object_id;
    size_t count = 0;
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(find_running(step, run_id, &cancel.job_id));
    FAR_TRY(list(step, run_id, IN_UNKNOWN | IN_COMPARING | IN_COMPARED | IN_FAILED, 0, ids, &count));
    FAR_TRY(tell(step, run_id, FAR_lost_state_none, ids, count, far_slice(NULL, 0)));
    FAR_TRY(cancel.job_id != 0 ? far_decide_job_cancel(step, &cancel) : 0);
    step->object_id = object_id;
    return 0;
}

/* ---- does anybody have something to compare? ---- */

/* Who of a run is compared, by whom. */
struct wish {
    struct far_run run;
    bool is_asked; /* by a person */
    uint64_t ids[FAR_LOST_TOGETHER_MAX];
    struct far_sub_task_new tasks[2 * FAR_LOST_TOGETHER_MAX];
    size_t count;
    bool is_mute; /* there are two nodes of which neither can call the other */
};

static bool is_kept(const struct far_row_run *run)
{
    return run->phase == FAR_run_phase_committing || (run->phase == FAR_run_phase_done && run->end == FAR_run_end_committed);
}

static bool goes_up(const struct far_row_run *run)
{
    return run->phase >= FAR_run_phase_preparing && run->phase <= FAR_run_phase_up;
}

/* While the run lives whoever comes back is turned off first; one that did not obey is looked at as it is. */
static bool is_turn_of(const struct wish *wish, const struct far_row_run_member *m)
{
    bool is_told = m->source == FAR_run_source_off || m->source == FAR_run_source_uncertain;
    return wish->is_asked || is_told || is_kept(&wish->run.row);
}

static int is_point_there(struct far_step *step, uint64_t point_id, bool *ret)
{
    struct far_row_point point;
    int rc = far_row_find(step, &far_schema_row_point, point_id, &point);
    *ret = rc == 0 && point.state != FAR_point_state_removed;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Of a run that is over: is the workload still where that moved it? *ret_none: the run did not move it, so it lost nothing. */
static int is_where_it_was_moved(struct far_step *step, const struct wish *wish, const struct far_row_run_member *m, bool *ret,
                                 bool *ret_none)
{
    const struct far_row_run *run = &wish->run.row;
    struct far_row_plan_workload row;
    struct far_key key = far_key_pair(&far_schema_row_plan_workload, run->plan_id, m->workload_id);
    *ret = true;
    *ret_none = is_kept(run) && !far_run_has_moved(m);
    if (run->phase != FAR_run_phase_done) {
        return 0;
    }
    int rc = far_key_find(step, &far_schema_row_plan_workload, &key, &row);
    *ret = rc == 0 && row.moved_job_id == run->id;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Who could do the two tasks of a workload now; NULL: nobody that is up. */
static int find_pair(struct far_step *step, const struct far_row_workload *workload, uint64_t vault_node_id,
                     struct far_candidate **ret_source, struct far_candidate **ret_target)
{
    FAR_TRY(far_candidate_node(step, vault_node_id, ret_target));
    return far_candidate_source(step, workload->site_id, workload->adapter, workload->source_node_id, 0, ret_source);
}

/* With the nodes that do it, if both are up and one of them can be called. */
static int add_pair(struct far_step *step, struct wish *wish, const struct far_row_run_member *m, const struct far_row_workload *workload)
{
    struct far_sub_task_new *tasks = &wish->tasks[2 * wish->count];
    struct far_candidate *nodes[2];
    FAR_TRY(find_pair(step, workload, m->node_id, &nodes[FAR_AT_COMPARE], &nodes[FAR_AT_LEAVES]));
    bool is_ready = nodes[0] != NULL && nodes[1] != NULL && (nodes[0]->listens || nodes[1]->listens);
    for (size_t i = 0; i < 2; i++) {
        tasks[i] = (struct far_sub_task_new){.kind = i == FAR_AT_COMPARE ? FAR_task_kind_compare : FAR_task_kind_leaves,
                                             .ready = true,
                                             .workload_id = m->workload_id,
                                             .point_id = m->point_id,
                                             .node_id = is_ready ? nodes[i]->node_id : 0,
                                             .boot = is_ready ? nodes[i]->boot : 0};
        if (is_ready) {
            far_candidate_add(step, nodes[i], &(struct far_row_task){.kind = tasks[i].kind});
        }
    }
    wish->is_mute = wish->is_mute || (nodes[0] != NULL && nodes[1] != NULL && !is_ready);
    wish->ids[wish->count++] = m->workload_id;
    return 0;
}

static int consider(struct far_step *step, struct wish *wish, const struct far_row_run_member *m)
{
    struct far_row_run_lost lost;
    struct far_row_workload workload;
    struct far_candidate *node;
    bool is_there, is_moved, is_none;
    FAR_TRY(far_lost_find(step, m->job_id, m->workload_id, &lost));
    bool is_open = lost.state == FAR_lost_state_unknown || (wish->is_asked && (lost.state == FAR_lost_state_compared ||
                                                                               lost.state == FAR_lost_state_failed));
    if (!is_open || !is_turn_of(wish, m) || wish->count == FAR_LOST_TOGETHER_MAX) {
        return 0;
    }
    FAR_TRY(is_where_it_was_moved(step, wish, m, &is_moved, &is_none));
    if (is_none || !is_moved) {
        return tell(step, m->job_id, is_none ? FAR_lost_state_none : FAR_lost_state_failed, &m->workload_id, 1,
                    far_slice_str(is_none ? "" : "the plan goes by where its machine is now: nobody knows the source any more"));
    }
    int rc = far_row_find(step, &far_schema_row_workload, m->workload_id, &workload);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(is_point_there(step, m->point_id, &is_there));
    if (rc == FAR_NOT_FOUND || !is_there) {
        return tell(step, m->job_id, FAR_lost_state_failed, &m->workload_id, 1,
                    far_slice_str(rc == FAR_NOT_FOUND ? "the workload was removed" : "the point that it was recovered from is gone"));
    }
    FAR_TRY(far_candidate_site(step, workload.site_id, workload.adapter, &node));
    bool begins = node != NULL || wish->is_asked; /* what a person asks for waits for a node, visibly */
    return begins ? add_pair(step, wish, m, &workload) : 0;
}

static int begin(struct far_step *step, struct wish *wish)
{
    const struct far_row_run *run = &wish->run.row;
    struct far_row_checkpoint checkpoint;
    int rc = far_row_find(step, &far_schema_row_checkpoint, run->checkpoint_id, &checkpoint);
    bool is_there = rc == 0 && checkpoint.state != FAR_point_state_removed;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    struct far_ev_job_started job = {.id = step->progress.next_id,
                                     .kind = FAR_job_kind_compare,
                                     .plan_id = run->plan_id,
                                     .checkpoint_id = is_there ? run->checkpoint_id : 0,
                                     .actor = step->actor,
                                     .run_job_id = run->id};
    struct far_ev_run_lost told = {.job_id = run->id,
                                   .compare_job_id = job.id,
                                   .state = FAR_lost_state_comparing,
                                   .workload_ids = {.items = wish->ids, .count = wish->count}};
    struct far_ev_tasks_created tasks = {
        .job_id = job.id, .first_task = 1, .items = {.items = wish->tasks, .count = 2 * wish->count}};
    FAR_TRY(far_emit(step, &far_schema_ev_job_started, &job));
    FAR_TRY(far_emit(step, &far_schema_ev_run_lost, &told));
    FAR_TRY(far_lease_until(step, &tasks.lease_until_ms));
    FAR_TRY(far_emit(step, &far_schema_ev_tasks_created, &tasks));
    return wish->is_mute ? far_tasks_assign(step, job.id) : 0; /* which says so */
}

/* Some are being turned off, or will be now that somebody is there: one job compares them together, a little later. */
static int is_being_fenced(struct far_step *step, const struct wish *wish, bool *ret)
{
    *ret = false;
    for (size_t i = 0; i < wish->run.count && !*ret && !wish->is_asked && !is_kept(&wish->run.row); i++) {
        const struct far_row_run_member *m = &wish->run.members[i];
        struct far_row_workload workload;
        struct far_candidate *node = NULL;
        int rc = m->source == FAR_run_source_unreachable ? far_row_find(step, &far_schema_row_workload, m->workload_id, &workload)
                                                           : FAR_NOT_FOUND;
        FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
        FAR_TRY(rc == 0 ? far_candidate_site(step, workload.site_id, workload.adapter, &node) : 0);
        *ret = m->source == FAR_run_source_turning_off || node != NULL;
    }
    return 0;
}

/* Finds who can be compared; they are of a run that is there. */
static int look(struct far_step *step, struct wish *wish)
{
    bool waits;
    FAR_TRY(is_being_fenced(step, wish, &waits));
    for (size_t i = 0; !waits && i < wish->run.count; i++) {
        const struct far_row_run_member *m = &wish->run.members[i];
        bool takes_part = m->state != FAR_run_member_state_left_out || is_kept(&wish->run.row);
        FAR_TRY(takes_part ? consider(step, wish, m) : 0);
    }
    return 0;
}

int far_lost_look(struct far_step *step, uint64_t run_id)
{
    struct far_row_run_lost_wait wait;
    struct far_row_run run;
    uint64_t running_id;
    int rc = far_row_find(step, &far_schema_row_run_lost_wait, run_id, &wait);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    FAR_TRY(find_running(step, run_id, &running_id));
    FAR_TRY(far_run_find(step, run_id, &run));
    if (running_id != 0 || run.id == 0 || !(run.phase == FAR_run_phase_up || is_kept(&run))) { /* recovering comes first */
        return 0;
    }
    struct wish *wish = far_step_alloc(step, sizeof *wish);
    if (wish == NULL) {
        return FAR_LIMIT;
    }
    *wish = (struct wish){.count = 0};
    FAR_TRY(far_run_load(step, run_id, &wish->run));
    FAR_TRY(look(step, wish));
    return wish->count > 0 ? begin(step, wish) : 0;
}

int far_lost_look_all(struct far_step *step)
{
    struct far_key key = far_key(&far_schema_row_run_lost_wait);
    for (;;) {
        struct far_row_run_lost_wait wait;
        int rc = far_next(step, &far_schema_row_run_lost_wait, &key, NULL, &wait);
        if (rc != 0) {
            return rc == FAR_NOT_FOUND ? 0 : rc;
        }
        FAR_TRY(far_lost_look(step, wait.job_id));
    }
}

int far_decide_run_compare(struct far_step *step, const struct far_cmd_run_compare *cmd)
{
    struct far_row_run run;
    uint64_t running_id;
    struct wish *wish = far_step_alloc(step, sizeof *wish);
    if (wish == NULL) {
        return FAR_LIMIT;
    }
    *wish = (struct wish){.is_asked = true};
    FAR_TRY(far_run_find(step, cmd->job_id, &run));
    if (run.id == 0) {
        return far_reject(step, FAR_NOT_FOUND, "run %llu does not exist", FAR_LLU(cmd->job_id));
    }
    if (run.kind != FAR_job_kind_failover || !(goes_up(&run) || is_kept(&run))) {
        return far_reject(step, FAR_CONFLICT, "run %llu has lost nothing: only a failover that goes on, or was committed, does",
                          FAR_LLU(run.id));
    }
    FAR_TRY(find_running(step, run.id, &running_id));
    if (running_id != 0) {
        return far_reject(step, FAR_CONFLICT, "what run %llu lost is being found out by job %llu already", FAR_LLU(run.id),
                          FAR_LLU(running_id));
    }
    FAR_TRY(far_run_load(step, run.id, &wish->run));
    FAR_TRY(look(step, wish));
    if (wish->count == 0) {
        return far_reject(step, FAR_CONFLICT, "run %llu has no workload whose source could be compared", FAR_LLU(run.id));
    }
    step->object_id = step->progress.next_id;
    uint64_t job_id = step->object_id;
    FAR_TRY(begin(step, wish));
    step->object_id = job_id;
    return 0;
}

/* ---- the job ---- */

static int end_both(struct far_step *step, struct far_group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        FAR_TRY(!far_task_over(&g->tasks[i]) ? far_group_step(step, g, i, FAR_task_step_cancel) : 0);
    }
    return 0;
}

int far_compare_advance(struct far_step *step, struct far_group *g)
{
    const struct far_row_task *compare = &g->tasks[FAR_AT_COMPARE], *leaves = &g->tasks[FAR_AT_LEAVES];
    struct far_row_point point;
    struct far_row_node home;
    struct far_candidate *source, *target;
    if (g->job.cancel || far_task_over(compare) || far_task_over(leaves)) { /* the vault's side ends with the source's */
        return end_both(step, g);
    }
    if (!far_task_assignable(compare) || !far_task_assignable(leaves)) {
        return 0;
    }
    int rc = far_row_find(step, &far_schema_row_point, compare->point_id, &point);
    rc = rc == 0 ? far_row_find(step, &far_schema_row_node, point.node_id, &home) : rc;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    if (rc == FAR_NOT_FOUND || g->workload.id == 0) {
        FAR_TRY(far_group_fail(step, g, FAR_AT_COMPARE, FAR_NOT_FOUND,
                               g->workload.id == 0 ? "it was removed" : "the point that it was recovered from is gone, or its vault"));
        return end_both(step, g);
    }
    FAR_TRY(find_pair(step, &g->workload, point.node_id, &source, &target));
    if (source == NULL || target == NULL) {
        return 0;
    }
    if (!source->listens && !target->listens) {
        FAR_TRY(far_group_fail(step, g, FAR_AT_COMPARE, FAR_INVALID,
                               "neither its source's node nor that of its point has a data address, so neither can call the other"));
        return end_both(step, g);
    }
    FAR_TRY(far_group_assign(step, g, FAR_AT_LEAVES, target));
    return far_group_assign(step, g, FAR_AT_COMPARE, source);
}

static int tell_result(struct far_step *step, const struct far_group *g, const struct far_sub_lost_result *result)
{
    struct far_row_run_lost lost;
    struct far_row_run_member member;
    struct far_key key = far_key_pair(&far_schema_row_run_member, g->job.run_job_id, g->workload_id);
    FAR_TRY(far_lost_find(step, g->job.run_job_id, g->workload_id, &lost));
    int rc = far_key_find(step, &far_schema_row_run_member, &key, &member);
    if (rc != 0 || lost.job_id == 0 || lost.compare_job_id != g->job.id || lost.state != FAR_lost_state_comparing) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* its run is forgotten, or came to nothing */
    }
    bool was_off = member.source == FAR_run_source_off;
    struct far_ev_run_lost ev = {.job_id = g->job.run_job_id,
                                 .state = FAR_lost_state_compared,
                                 .workload_ids = {.items = &g->workload_id, .count = 1},
                                 .result = {.items = result, .count = 1},
                                 .has_run_since = result->runs ||
                                                  (was_off && result->written_ms > member.source_ms + WRITTEN_SLACK_MS)};
    return far_emit(step, &far_schema_ev_run_lost, &ev);
}

int far_compare_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    if (at == FAR_AT_COMPARE && item->lost_result.count == 0) {
        return far_group_fail(step, g, at, FAR_INTERNAL, "its node compared, and does not say what it found");
    }
    FAR_TRY(at == FAR_AT_COMPARE ? tell_result(step, g, item->lost_result.items) : 0);
    return far_group_change(step, g, at,
                            (struct far_sub_task_change){.step = FAR_task_step_finish,
                                                         .bytes_total = item->bytes_total,
                                                         .bytes_done = item->bytes_done,
                                                         .bytes_changed = item->bytes_changed,
                                                         .bytes_sent = item->bytes_sent});
}

/* Why the workload was not compared, by its tasks. */
static int reason_of(struct far_step *step, const struct far_row_job *job, uint64_t workload_id, struct far_slice *ret)
{
    struct far_key key = far_key_id(&far_schema_row_task, job->id);
    *ret = far_slice_str(job->cancel ? "the comparison was canceled" : "the comparison came to nothing");
    for (;;) {
        struct far_row_task task;
        int rc = far_next(step, &far_schema_row_task, &key, NULL, &task);
        if (rc == FAR_NOT_FOUND || (rc == 0 && task.job_id != job->id)) {
            return 0;
        }
        FAR_TRY(rc);
        if (task.workload_id == workload_id && task.state == FAR_task_state_failed) {
            *ret = task.error_message;
            return 0;
        }
    }
}

int far_compare_over(struct far_step *step, const struct far_row_job *job)
{
    uint64_t *ids = far_step_alloc(step, FAR_RUN_MEMBERS_MAX * sizeof *ids);
    size_t count = 0;
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(list(step, job->run_job_id, IN_COMPARING, job->id, ids, &count));
    for (size_t i = 0; i < count; i++) {
        struct far_slice note;
        FAR_TRY(reason_of(step, job, ids[i], &note));
        FAR_TRY(tell(step, job->run_job_id, FAR_lost_state_failed, &ids[i], 1, note));
    }
    return 0;
}
