/* Replication of one workload: freeze, then per disk send and receive, then seal, then release.
 *
 * advance() looks at the group as it is and does whatever can be done next; it is called after anything happened to the
 * group or to a node it needs, and calling it once more changes nothing. The rules, in order:
 *   1. A failed task (other than release) or a canceled job cancels the rest; the frozen view is still released.
 *   2. All receives of a workload are on one node: the one whose vault holds its points, else the one first chosen. Where
 *      that is gone for good, or is down before there is any point and another is up, the pairs move and start again. A drained
 *      node finishes what it has begun to receive; whatever begins after that goes to another, as a first copy.
 *   3. A view whose node booted anew, is gone, is drained, or is down while another could freeze, is lost: unless all disks are
 *      proven, freeze again; every send and receive waits for it with its next attempt. One that survives its node is not lost
 *      by a new boot; one that is shared is not lost at all. A node that is up releases what it is to give up.
 *   4. Freeze, as far as the platform's limits let (site_limit.h): an up node of the workload's site that has its adapter, as
 *      far_candidate_source() chooses.
 *   5. Pairs, the same: send where the view is, or where it can be opened; receive on the target, both at once, when both nodes are up and
 *      one of them listens.
 *   6. Seal, when every disk's two roots are equal.
 *   7. Release, where the view is or can be opened, when the seal is over; canceled when no such node is up, which drops what it
 *      froze by itself.
 *
 * What rules 2, 3, 5 and 7 say of drained nodes and of views that survive holds from FAR_SPREAD_LEVEL on: before, no node is
 * drained and no freeze says so. */
#include "fsm/coverage.h"
#include "fsm/machine_config.h"
#include "fsm/node_load.h"
#include "fsm/script_task.h"
#include "fsm/site_limit.h"
#include "fsm/vault_row.h"

static size_t disk_count(const struct far_group *g)
{
    return (g->count - FAR_AT_PAIRS) / 2;
}

static bool is_done(const struct far_row_task *row)
{
    return row->state == FAR_task_state_done;
}

static bool has_failed(const struct far_group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        if (i != FAR_AT_RELEASE && g->tasks[i].state == FAR_task_state_failed) {
            return true;
        }
    }
    return false;
}

static bool all_proven(const struct far_group *g)
{
    for (size_t i = FAR_AT_PAIRS; i < g->count; i++) {
        if (!is_done(&g->tasks[i])) {
            return false;
        }
    }
    return true;
}

/* ---- 1: the end ---- */

static int cancel_rest(struct far_step *step, struct far_group *g)
{
    for (size_t i = 0; i < g->count; i++) {
        if (i != FAR_AT_RELEASE && !far_task_over(&g->tasks[i])) {
            FAR_TRY(far_group_step(step, g, i, FAR_task_step_cancel));
        }
    }
    return 0;
}

/* ---- 2: the target ---- */

/* The node whose vault holds the workload's points, unless it is drained or removed; id 0: none. */
static int home_of(struct far_step *step, const struct far_group *g, struct far_row_node *ret)
{
    int rc = g->workload.target_node_id != 0 ? far_row_find(step, &far_schema_row_node, g->workload.target_node_id, ret)
                                             : FAR_NOT_FOUND;
    if (rc == FAR_NOT_FOUND || (rc == 0 && ret->drained_ms != 0)) {
        ret->id = 0;
        return 0;
    }
    return rc;
}

/* Where the receives go now; NULL: nowhere yet. */
static int target_of(struct far_step *step, struct far_group *g, struct far_candidate **ret)
{
    struct far_row_node home;
    uint64_t chosen_id = 0;
    bool spreads;
    FAR_TRY(home_of(step, g, &home));
    if (home.id != 0) {
        return far_candidate_node(step, home.id, ret);
    }
    for (size_t d = 0; d < disk_count(g) && chosen_id == 0; d++) {
        chosen_id = g->tasks[far_at_receive(d)].node_id;
    }
    *ret = NULL;
    if (chosen_id != 0) {
        FAR_TRY(far_candidate_node(step, chosen_id, ret));
    }
    FAR_TRY(far_level_spreads(step, &spreads));
    if (*ret != NULL) {
        return 0;
    }
    return spreads ? far_candidate_target(step, g->plan.target_site_id, ret)
                   : far_candidate_site(step, g->plan.target_site_id, far_slice(NULL, 0), ret);
}

static int redo_pair(struct far_step *step, struct far_group *g, size_t disk, uint64_t step_kind)
{
    struct far_sub_task_change change = {.step = step_kind, .attempt = g->tasks[far_at_send(disk)].attempt + 1};
    FAR_TRY(far_group_change(step, g, far_at_send(disk), change));
    return far_group_change(step, g, far_at_receive(disk), change);
}

static int move_pairs(struct far_step *step, struct far_group *g, const struct far_candidate *target)
{
    for (size_t d = 0; target != NULL && d < disk_count(g); d++) {
        const struct far_row_task *receive = &g->tasks[far_at_receive(d)];
        if ((far_task_held(receive) || is_done(receive)) && receive->node_id != target->node_id) {
            FAR_TRY(redo_pair(step, g, d, FAR_task_step_redo));
        }
    }
    return 0;
}

/* ---- 3: the view ---- */

/* Another node than this one that could freeze, or open a shared view, now. */
static int other_source(struct far_step *step, const struct far_group *g, uint64_t node_id, struct far_candidate **ret)
{
    FAR_TRY(far_candidate_site(step, g->workload.site_id, g->workload.adapter, ret));
    *ret = *ret != NULL && (*ret)->node_id == node_id ? NULL : *ret;
    return 0;
}

static int view_lost(struct far_step *step, const struct far_group *g, bool *ret)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE];
    struct far_row_node node;
    struct far_candidate *other = NULL;
    *ret = false;
    if (freeze->shared) {
        return 0;
    }
    int rc = far_row_find(step, &far_schema_row_node, freeze->node_id, &node);
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (rc == FAR_NOT_FOUND || (node.boot != freeze->boot && !freeze->survives)) {
        *ret = true;
        return 0;
    }
    if (node.state != FAR_node_state_up || node.drained_ms != 0) {
        FAR_TRY(other_source(step, g, node.id, &other));
    }
    *ret = other != NULL;
    return 0;
}

/* A node that is up drops the view that it is to give up, while another freezes. */
static int give_up(struct far_step *step, struct far_group *g)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE], *row = &g->tasks[FAR_AT_RELEASE];
    struct far_candidate *node;
    FAR_TRY(far_candidate_node(step, freeze->node_id, &node));
    bool is_there = node != NULL && node->is_drained && (node->boot == freeze->boot || freeze->survives);
    if (!is_there || far_task_held(row) || far_task_over(row)) {
        return 0;
    }
    return far_group_change(step, g, FAR_AT_RELEASE,
                            (struct far_sub_task_change){.step = FAR_task_step_assign,
                                                         .node_id = node->node_id,
                                                         .boot = node->boot,
                                                         .freeze_ref = freeze->freeze_ref});
}

static int check_view(struct far_step *step, struct far_group *g)
{
    struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE];
    bool is_lost = false;
    if (!is_done(freeze) || all_proven(g)) {
        return 0;
    }
    FAR_TRY(view_lost(step, g, &is_lost));
    if (!is_lost) {
        return 0;
    }
    FAR_TRY(give_up(step, g));
    for (size_t d = 0; d < disk_count(g); d++) {
        if (g->tasks[far_at_send(d)].state != FAR_task_state_waiting) {
            FAR_TRY(redo_pair(step, g, d, FAR_task_step_suspend));
        }
    }
    return far_group_change(step, g, FAR_AT_FREEZE,
                            (struct far_sub_task_change){.step = FAR_task_step_redo, .attempt = freeze->attempt + 1});
}

/* Is it held by a drained node while another could do it? */
static int could_leave(struct far_step *step, const struct far_group *g, const struct far_row_task *row, bool *ret)
{
    struct far_candidate *node = NULL, *other = NULL;
    FAR_TRY(far_task_held(row) ? far_candidate_node(step, row->node_id, &node) : 0);
    if (node != NULL && node->is_drained) {
        FAR_TRY(other_source(step, g, node->node_id, &other));
    }
    *ret = other != NULL;
    return 0;
}

/* A drained source hands over what it has begun: a freeze, and sends of a view that others can open. */
static int leave_drained(struct far_step *step, struct far_group *g)
{
    bool leaves;
    FAR_TRY(could_leave(step, g, &g->tasks[FAR_AT_FREEZE], &leaves));
    if (leaves) {
        FAR_TRY(far_group_again(step, g, FAR_AT_FREEZE, (struct far_sub_task_change){.step = FAR_task_step_lose}));
    }
    for (size_t d = 0; g->tasks[FAR_AT_FREEZE].shared && d < disk_count(g); d++) {
        FAR_TRY(could_leave(step, g, &g->tasks[far_at_send(d)], &leaves));
        FAR_TRY(leaves ? redo_pair(step, g, d, FAR_task_step_redo) : 0);
    }
    return 0;
}

/* ---- 4 to 7 ---- */

static int assign_freeze(struct far_step *step, struct far_group *g)
{
    const struct far_row_task *row = &g->tasks[FAR_AT_FREEZE];
    struct far_candidate *node;
    bool is_free = false;
    FAR_TRY(far_task_assignable(row) ? far_slot_free(step, g->workload.site_id, row, &is_free) : 0);
    if (!is_free) {
        return 0;
    }
    FAR_TRY(far_candidate_source(step, g->workload.site_id, g->workload.adapter, g->workload.source_node_id, row->size_bytes, &node));
    return node != NULL ? far_group_assign(step, g, FAR_AT_FREEZE, node) : 0;
}

/* Who is to send so many bytes of the view; NULL: nobody that is up. */
static int source_of(struct far_step *step, const struct far_group *g, uint64_t bytes, struct far_candidate **ret)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE];
    struct far_candidate *node;
    if (freeze->shared) {
        FAR_TRY(far_candidate_source(step, g->workload.site_id, g->workload.adapter, freeze->node_id, bytes, ret));
        if (*ret != NULL) {
            return 0;
        }
    }
    FAR_TRY(far_candidate_node(step, freeze->node_id, &node));
    *ret = node != NULL && (node->boot == freeze->boot || freeze->survives) ? node : NULL;
    return 0;
}

static int fail_unreachable(struct far_step *step, struct far_group *g, size_t at, const struct far_candidate *source,
                            const struct far_candidate *target)
{
    struct far_row_node from, to;
    FAR_TRY(far_row_need(step, &far_schema_row_node, source->node_id, &from));
    FAR_TRY(far_row_need(step, &far_schema_row_node, target->node_id, &to));
    return far_group_fail(step, g, at, FAR_INVALID,
                          "neither node '%.*s' nor node '%.*s' has a data address, so neither can call the other; give one of them one",
                          FAR_TEXT(from.name), FAR_TEXT(to.name));
}

static int assign_pairs(struct far_step *step, struct far_group *g, struct far_candidate *target)
{
    struct far_candidate *source = NULL;
    if (!is_done(&g->tasks[FAR_AT_FREEZE]) || target == NULL) {
        return 0;
    }
    for (size_t d = 0; d < disk_count(g); d++) {
        size_t send = far_at_send(d), receive = far_at_receive(d);
        bool is_free;
        if (!far_task_assignable(&g->tasks[send]) || !far_task_assignable(&g->tasks[receive])) {
            continue;
        }
        FAR_TRY(far_slot_free(step, g->workload.site_id, &g->tasks[send], &is_free));
        if (!is_free) {
            return 0;
        }
        FAR_TRY(source_of(step, g, g->tasks[send].size_bytes, &source));
        if (source == NULL) {
            return 0;
        }
        if (target->spreads && !source->listens && !target->listens) {
            FAR_TRY(fail_unreachable(step, g, send, source, target));
            return cancel_rest(step, g);
        }
        FAR_TRY(far_group_assign(step, g, receive, target));
        FAR_TRY(far_group_assign(step, g, send, source));
    }
    return 0;
}

static int assign_seal(struct far_step *step, struct far_group *g, struct far_candidate *target)
{
    struct far_row_task *seal = &g->tasks[FAR_AT_SEAL];
    if (!all_proven(g)) {
        return 0;
    }
    if (seal->state == FAR_task_state_waiting) {
        FAR_TRY(far_group_step(step, g, FAR_AT_SEAL, FAR_task_step_ready));
    }
    return far_task_assignable(seal) && target != NULL ? far_group_assign(step, g, FAR_AT_SEAL, target) : 0;
}

/* Who can drop the view; NULL: nobody that is up. */
static int releaser_of(struct far_step *step, const struct far_group *g, struct far_candidate **ret)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE];
    FAR_TRY(far_candidate_node(step, freeze->node_id, ret));
    return *ret == NULL && freeze->shared ? far_candidate_site(step, g->workload.site_id, g->workload.adapter, ret) : 0;
}

static int release(struct far_step *step, struct far_group *g)
{
    const struct far_row_task *freeze = &g->tasks[FAR_AT_FREEZE], *row = &g->tasks[FAR_AT_RELEASE];
    struct far_candidate *node = NULL;
    if (!far_task_over(&g->tasks[FAR_AT_SEAL]) || far_task_held(row)) {
        return 0;
    }
    if (is_done(row) && is_done(freeze) && row->freeze_ref.len != 0) { /* it dropped the view before this one */
        FAR_TRY(far_group_again(step, g, FAR_AT_RELEASE, (struct far_sub_task_change){.step = FAR_task_step_redo}));
    }
    if (far_task_over(row)) {
        return 0;
    }
    if (is_done(freeze)) {
        FAR_TRY(releaser_of(step, g, &node));
    }
    if (node == NULL) {
        return far_group_step(step, g, FAR_AT_RELEASE, FAR_task_step_cancel);
    }
    bool is_paused = row->state == FAR_task_state_ready && row->retry_ms != 0;
    return is_paused ? 0 : far_group_assign(step, g, FAR_AT_RELEASE, node);
}

int far_replicate_advance(struct far_step *step, struct far_group *g)
{
    struct far_candidate *target = NULL;
    if (g->tasks[FAR_AT_FREEZE].state == FAR_task_state_waiting && !g->job.cancel) {
        FAR_TRY(far_cycle_scripts_gate(step, g));
    }
    if (g->job.cancel || has_failed(g)) {
        FAR_TRY(cancel_rest(step, g));
    } else if (!far_task_over(&g->tasks[FAR_AT_SEAL])) {
        FAR_TRY(target_of(step, g, &target));
        if (!far_task_held(&g->tasks[FAR_AT_SEAL])) {
            FAR_TRY(move_pairs(step, g, target));
            FAR_TRY(leave_drained(step, g));
            FAR_TRY(check_view(step, g));
        }
        FAR_TRY(assign_freeze(step, g));
        FAR_TRY(assign_pairs(step, g, target));
        FAR_TRY(assign_seal(step, g, target));
    }
    return release(step, g);
}

/* ---- what a finished task means ---- */

/* What the freeze found of a disk must fit what was proven of it last. */
static int check_found(struct far_step *step, struct far_group *g, const struct far_row_disk *disk,
                       const struct far_sub_disk_found *found)
{
    if (found == NULL || found->size_bytes == 0) {
        return far_group_fail(step, g, FAR_AT_FREEZE, FAR_NOT_FOUND,
                              "disk '%.*s' at '%.*s' is gone or empty; bring it back, or remove it from the workload",
                              FAR_TEXT(disk->name), FAR_TEXT(disk->locator));
    }
    if (found->size_bytes < disk->size_bytes) {
        return far_group_fail(step, g, FAR_AT_FREEZE, FAR_CONFLICT,
                              "disk '%.*s' shrank from %llu to %llu bytes; its recovery points stay as they are, "
                              "register the new disk as another workload",
                              FAR_TEXT(disk->name), FAR_LLU(disk->size_bytes), FAR_LLU(found->size_bytes));
    }
    if (disk->identity.len != 0 && !far_slice_equal(disk->identity, found->identity)) {
        return far_group_fail(step, g, FAR_AT_FREEZE, FAR_CONFLICT,
                              "disk '%.*s' is another one now ('%.*s' instead of '%.*s'); bring the old one back, or "
                              "register the new disk as another workload",
                              FAR_TEXT(disk->name), FAR_TEXT(found->identity), FAR_TEXT(disk->identity));
    }
    return 0;
}

static const struct far_sub_disk_found *found_of(const struct far_sub_report_item *item, size_t disk)
{
    const struct far_sub_disk_found *found = item->disks.items;
    for (size_t i = 0; i < item->disks.count; i++) {
        if (found[i].disk_index == disk) {
            return &found[i];
        }
    }
    return NULL;
}

static struct far_sub_task_change finish_of(const struct far_sub_report_item *item)
{
    return (struct far_sub_task_change){
        .step = FAR_task_step_finish,
        .bytes_total = item->bytes_total,
        .bytes_done = item->bytes_done,
        .bytes_changed = item->bytes_changed,
        .bytes_sent = item->bytes_sent,
        .full = item->full,
        .figures = item->figures,
    };
}

static int freeze_done(struct far_step *step, struct far_group *g, const struct far_sub_report_item *item)
{
    for (size_t d = 0; d < disk_count(g); d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, g->workload_id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        FAR_TRY(check_found(step, g, &disk, found_of(item, d)));
        if (has_failed(g)) {
            return 0;
        }
    }
    FAR_TRY(far_machine_config_seen(step, g, item));
    struct far_sub_task_change finish = finish_of(item);
    finish.freeze_ref = item->freeze_ref;
    finish.fuzzy = item->fuzzy;
    finish.survives = item->survives;
    finish.shared = item->survives && item->shared;
    finish.frozen_at_ms = item->frozen_at_ms != 0 ? item->frozen_at_ms : step->time_ms;
    FAR_TRY(far_group_change(step, g, FAR_AT_FREEZE, finish));
    for (size_t d = 0; d < disk_count(g); d++) {
        const struct far_sub_disk_found *found = found_of(item, d);
        struct far_sub_task_change ready = {
            .step = FAR_task_step_ready, .size_bytes = found->size_bytes, .identity = found->identity};
        FAR_TRY(far_group_change(step, g, far_at_receive(d), ready));
        ready.token = found->token;
        FAR_TRY(far_group_change(step, g, far_at_send(d), ready));
    }
    return 0;
}

static int audit_of(struct far_step *step, const struct far_group *g, size_t at, struct far_audit *ret)
{
    const struct far_row_task *send = &g->tasks[at];
    struct far_row_disk disk;
    struct far_key key = far_key_part(&far_schema_row_disk, g->workload_id, send->disk_index);
    FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
    struct far_audit_of of = {.job = &g->job,
                              .plan = &g->plan,
                              .workload = &g->workload,
                              .disk = &disk,
                              .send = send,
                              .target_id = g->tasks[far_at_receive((size_t)send->disk_index)].node_id};
    return far_audit_plan(step, &of, ret);
}

int far_replicate_missed(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    struct far_audit audit;
    if (g->tasks[at].kind != FAR_task_kind_send || item->missed_block_count <= g->tasks[at].missed_block_count) {
        return 0;
    }
    FAR_TRY(audit_of(step, g, at, &audit));
    FAR_TRY(far_list_missed(step, g, at, &audit, item));
    g->tasks[at].missed_block_count = audit.since.len != 0 ? item->missed_block_count : 0;
    return 0;
}

/* What the send says of the source and of its platform's list of changes. */
static int sent(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item,
                struct far_sub_task_change *finish)
{
    struct far_audit audit;
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    if (!has) {
        return 0;
    }
    FAR_TRY(audit_of(step, g, at, &audit));
    finish->hashed_bytes = item->hashed_bytes;
    finish->duration_ms = item->duration_ms;
    finish->audit_passed_blocks = far_audit_passed(&audit, item);
    finish->missed_block_count = audit.since.len != 0 ? item->missed_block_count : 0;
    return far_list_reported(step, g, at, &audit, item);
}

static int disk_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    const struct far_row_task *row = &g->tasks[at];
    bool is_send = row->kind == FAR_task_kind_send;
    size_t disk = (size_t)row->disk_index;
    const struct far_row_task *peer = &g->tasks[is_send ? far_at_receive(disk) : far_at_send(disk)];
    if (item->root.len != 32) {
        return far_group_fail(step, g, at, FAR_CORRUPT, "the %s side reported no root", is_send ? "source" : "target");
    }
    if (is_done(peer) && !far_slice_equal(peer->root, item->root)) {
        char own[65], other[65];
        far_hex_encode(item->root.data, 32, own);
        far_hex_encode(peer->root.data, 32, other);
        return far_group_fail(step, g, at, FAR_CORRUPT,
                              "the copy is not the source: root %s at the source, %s at the target",
                              is_send ? own : other, is_send ? other : own);
    }
    struct far_sub_task_change finish = finish_of(item);
    finish.root = item->root;
    FAR_TRY(is_send ? sent(step, g, at, item, &finish) : 0);
    return far_group_change(step, g, at, finish);
}

int far_replicate_done(struct far_step *step, struct far_group *g, size_t at, const struct far_sub_report_item *item)
{
    switch (g->tasks[at].kind) {
    case FAR_task_kind_freeze:
        return freeze_done(step, g, item);
    case FAR_task_kind_script:
        return far_script_done(step, g, at, item);
    case FAR_task_kind_send:
    case FAR_task_kind_receive:
        return disk_done(step, g, at, item);
    default: {
        struct far_sub_task_change finish = finish_of(item);
        g->is_sealed = g->is_sealed || at == FAR_AT_SEAL;
        finish.freeze_ref = g->tasks[at].freeze_ref; /* which view a release has dropped */
        FAR_TRY(at == FAR_AT_SEAL ? far_vault_heal_done(step, g->tasks[at].node_id, g->job.id, item) : 0);
        return far_group_change(step, g, at, finish);
    }
    }
}
