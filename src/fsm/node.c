/* Nodes: the data plane's processes. A node joins with a token, boots (its process opened a stream; a new nonce is a new
 * boot, and everything that the earlier boot held is lost), reports, and is down when it has not reported for a lease
 * time. A report renews the node's own lease and that of every attempt it names.
 *
 * A drained node gets no new work and hands over what another can do as well (job_replicate.c); what only it can do, because the
 * points are in its vault, it still does. */
#include "fsm/alert.h"
#include "fsm/bandwidth.h"
#include "fsm/dedup_domain.h"
#include "fsm/job.h"
#include "fsm/offer.h"
#include "fsm/running.h"
#include "fsm/task.h"
#include "fsm/vault_row.h"

enum { ABSENT, JOINED, UP, DOWN };
enum { JOIN, REMOVE, BOOT_SAME, BOOT_NEW, REPORT, LEASE, CHECK, DRAIN, UNDRAIN, REPLACE };
static const char *const states[] = {"absent", "joined", "up", "down"};
static const char *const inputs[] = {"node_join",   "node_remove", "node_boot, same nonce", "node_boot, new nonce",
                                     "node_report", "lease ended", "leases checked",        "node_drain",
                                     "node_undrain", "node_join in its place"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist; join it with a token")
#define TAKEN FAR_REJECT(FAR_CONFLICT, "exists already; choose another name, or remove the old node first")
#define SILENT FAR_REJECT(FAR_CONFLICT, "has not booted yet; it has to say hello first")
#define NO_LEASE FAR_REJECT(FAR_INTERNAL, "has no lease")
#define WORKS FAR_REJECT(FAR_CONFLICT, "is up: its place can be taken when it is gone; stop it first")
static const struct far_cell cells[4][10] = {
    [ABSENT] = {[JOIN] = FAR_MOVE(JOINED), [REMOVE] = GONE, [BOOT_SAME] = GONE, [BOOT_NEW] = GONE, [REPORT] = GONE,
                [LEASE] = GONE, [CHECK] = GONE, [DRAIN] = GONE, [UNDRAIN] = GONE, [REPLACE] = GONE},
    [JOINED] = {[JOIN] = TAKEN, [REMOVE] = FAR_MOVE(ABSENT), [BOOT_SAME] = SILENT, [BOOT_NEW] = FAR_MOVE(UP),
                [REPORT] = SILENT, [LEASE] = NO_LEASE, [CHECK] = NO_LEASE, [DRAIN] = FAR_MOVE(JOINED), [UNDRAIN] = FAR_MOVE(JOINED),
                [REPLACE] = FAR_MOVE(JOINED)},
    [UP] = {[JOIN] = TAKEN, [REMOVE] = FAR_MOVE(ABSENT), [BOOT_SAME] = FAR_MOVE(UP), [BOOT_NEW] = FAR_MOVE(UP),
            [REPORT] = FAR_MOVE(UP), [LEASE] = FAR_MOVE(DOWN), [CHECK] = FAR_MOVE(UP), [DRAIN] = FAR_MOVE(UP), [UNDRAIN] = FAR_MOVE(UP),
            [REPLACE] = WORKS},
    [DOWN] = {[JOIN] = TAKEN, [REMOVE] = FAR_MOVE(ABSENT), [BOOT_SAME] = FAR_MOVE(UP), [BOOT_NEW] = FAR_MOVE(UP),
              [REPORT] = FAR_MOVE(UP), [LEASE] = NO_LEASE, [CHECK] = FAR_MOVE(DOWN), [DRAIN] = FAR_MOVE(DOWN), [UNDRAIN] = FAR_MOVE(DOWN),
              [REPLACE] = FAR_MOVE(JOINED)},
};
const struct far_table far_table_node = FAR_TABLE("node", states, inputs, cells);

/* States are numbered like the enum. */
static unsigned state_of(const struct far_row_node *row)
{
    return row->id != 0 && row->state <= DOWN ? (unsigned)row->state : ABSENT;
}

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_node *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_node, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_node){.id = 0};
        return 0;
    }
    return rc;
}

static int look_name(struct far_step *step, struct far_slice name, struct far_row_node *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_node, name, &id);
    return rc != 0 && rc != FAR_NOT_FOUND ? rc : look(step, id, ret_row);
}

/* Put the row, its lease's deadline moved from where it was. */
static int store(struct far_step *step, const struct far_row_node *row, uint64_t lease_before_ms)
{
    step->candidates = NULL;
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_node_lease, row->id, 0, lease_before_ms, row->lease_until_ms));
    return far_row_put(step, &far_schema_row_node, row->id, row);
}

/* Only the node itself speaks for it (or the leader, in tests and repairs). */
static int check_actor(struct far_step *step, uint64_t node_id)
{
    uint64_t kind = step->actor >> 56;
    if (kind == FAR_ACTOR_TOKEN || (kind == FAR_ACTOR_NODE && step->actor != far_actor(FAR_ACTOR_NODE, node_id))) {
        return far_reject(step, FAR_DENIED, "only node %llu itself may speak for it", FAR_LLU(node_id));
    }
    return 0;
}

/* ---- join and remove ---- */

/* The former machine's boot is over: what it held is lost when the new one boots. */
static int take_place(struct far_step *step, const struct far_row_node *row, const struct far_cmd_node_join *cmd)
{
    struct far_ev_node_replaced ev = {
        .id = row->id, .data_address = cmd->data_address, .fingerprint = cmd->fingerprint, .token_hash = cmd->token_hash};
    step->object_id = row->id;
    return far_emit(step, &far_schema_ev_node_replaced, &ev);
}

int far_decide_node_join(struct far_step *step, const struct far_cmd_node_join *cmd)
{
    struct far_row_token token;
    struct far_row_node old;
    FAR_TRY(far_name_check(step, "node", cmd->name));
    FAR_TRY(far_token_for_join(step, cmd->token_hash, FAR_token_purpose_join_node, cmd->name, &token));
    FAR_TRY(look_name(step, cmd->name, &old));
    bool replaces = token.replaces_id != 0;
    FAR_TRY(far_move(step, &far_table_node, state_of(&old), replaces ? REPLACE : JOIN, cmd->name, NULL));
    if (cmd->fingerprint.len != 32) {
        return far_reject(step, FAR_INVALID, "node '%.*s' needs a fingerprint of 32 bytes", FAR_TEXT(cmd->name));
    }
    if (replaces && old.id != token.replaces_id) {
        return far_reject(step, FAR_CONFLICT, "the node whose place this token takes was removed since");
    }
    if (replaces) {
        return take_place(step, &old, cmd);
    }
    struct far_ev_node_joined ev = {.id = step->progress.next_id,
                                    .name = cmd->name,
                                    .site_id = token.site_id,
                                    .data_address = cmd->data_address,
                                    .fingerprint = cmd->fingerprint,
                                    .token_hash = cmd->token_hash};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_node_joined, &ev);
}

int far_evolve_node_joined(struct far_step *step, const struct far_ev_node_joined *ev)
{
    struct far_row_node row;
    FAR_TRY(look_name(step, ev->name, &row));
    FAR_TRY(far_move(step, &far_table_node, state_of(&row), JOIN, ev->name, NULL));
    row = (struct far_row_node){.id = ev->id,
                                .name = ev->name,
                                .site_id = ev->site_id,
                                .data_address = ev->data_address,
                                .fingerprint = ev->fingerprint,
                                .state = FAR_node_state_joined,
                                .joined_ms = step->time_ms};
    FAR_TRY(far_token_use(step, ev->token_hash));
    FAR_TRY(far_name_put(step, &far_schema_row_node, row.name, row.id));
    far_id_used(step, row.id);
    return store(step, &row, 0);
}

int far_evolve_node_replaced(struct far_step *step, const struct far_ev_node_replaced *ev)
{
    struct far_row_node row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), REPLACE, ev->id, NULL));
    FAR_TRY(far_token_use(step, ev->token_hash));
    row.data_address = ev->data_address;
    row.fingerprint = ev->fingerprint;
    row.state = FAR_node_state_joined;
    row.nonce = far_slice(NULL, 0);
    row.joined_ms = step->time_ms;
    return store(step, &row, row.lease_until_ms);
}

int far_decide_node_remove(struct far_step *step, const struct far_cmd_node_remove *cmd)
{
    struct far_row_node row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_node, state_of(&row), REMOVE, cmd->name, NULL));
    if (row.task_count != 0) {
        return far_reject(step, FAR_CONFLICT, "node '%.*s' holds %llu tasks; wait for them or cancel their jobs",
                          FAR_TEXT(cmd->name), FAR_LLU(row.task_count));
    }
    if (row.point_count != 0) {
        far_warn(step, "the vault of node '%.*s' holds %llu recovery points: nobody can reach them through the cluster any more",
                 FAR_TEXT(cmd->name), FAR_LLU(row.point_count));
    }
    struct far_ev_node_removed ev = {.id = row.id};
    step->object_id = row.id;
    FAR_TRY(far_emit(step, &far_schema_ev_node_removed, &ev));
    FAR_TRY(far_alert_clear(step, FAR_alert_kind_vault_damaged, row.id));
    FAR_TRY(far_alert_clear(step, FAR_alert_kind_vault_keys, row.id));
    return far_jobs_wake(step);
}

int far_evolve_node_removed(struct far_step *step, const struct far_ev_node_removed *ev)
{
    struct far_row_node row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), REMOVE, ev->id, NULL));
    step->candidates = NULL;
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_node_lease, row.id, 0, row.lease_until_ms, 0));
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_running_leases, row.id, 0, row.running_due_ms, 0));
    FAR_TRY(far_throttle_gone(step, row.id));
    FAR_TRY(far_domain_node_gone(step, row.id));
    FAR_TRY(far_vault_row_gone(step, row.id));
    FAR_TRY(far_name_del(step, &far_schema_row_node, row.name));
    return far_row_del(step, &far_schema_row_node, row.id);
}

/* ---- drain ---- */

/* Nobody is left to do its work. */
static int warn_alone(struct far_step *step, const struct far_row_node *row)
{
    struct far_candidate *other;
    struct far_row_site site;
    FAR_TRY(far_candidate_site(step, row->site_id, far_slice(NULL, 0), &other));
    if (other != NULL) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_site, row->site_id, &site));
    far_warn(step,
             "no other node of site '%.*s' is up and takes work: what node '%.*s' has begun it still does, what is new waits until "
             "there is one",
             FAR_TEXT(site.name), FAR_TEXT(row->name));
    return 0;
}

int far_decide_node_drain(struct far_step *step, const struct far_cmd_node_drain *cmd)
{
    struct far_row_node row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_node, state_of(&row), DRAIN, cmd->name, NULL));
    step->object_id = row.id;
    if (row.drained_ms != 0) {
        return 0;
    }
    struct far_ev_node_drained ev = {.node_id = row.id};
    FAR_TRY(far_emit(step, &far_schema_ev_node_drained, &ev));
    FAR_TRY(warn_alone(step, &row));
    FAR_TRY(far_tasks_leave(step, row.id));
    return far_jobs_wake(step);
}

int far_decide_node_undrain(struct far_step *step, const struct far_cmd_node_undrain *cmd)
{
    struct far_row_node row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_node, state_of(&row), UNDRAIN, cmd->name, NULL));
    step->object_id = row.id;
    if (row.drained_ms == 0) {
        return 0;
    }
    struct far_ev_node_undrained ev = {.node_id = row.id};
    FAR_TRY(far_emit(step, &far_schema_ev_node_undrained, &ev));
    return far_jobs_wake(step);
}

static int set_drained(struct far_step *step, uint64_t node_id, int input, uint64_t drained_ms)
{
    struct far_row_node row;
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), (size_t)input, node_id, NULL));
    row.drained_ms = drained_ms;
    return store(step, &row, row.lease_until_ms);
}

int far_evolve_node_drained(struct far_step *step, const struct far_ev_node_drained *ev)
{
    return set_drained(step, ev->node_id, DRAIN, step->time_ms);
}

int far_evolve_node_undrained(struct far_step *step, const struct far_ev_node_undrained *ev)
{
    return set_drained(step, ev->node_id, UNDRAIN, 0);
}

/* ---- boot ---- */

/* Nothing could be assigned to it until now: it was down, or its lease had ended before a tick could say so. */
static bool was_idle(const struct far_step *step, const struct far_row_node *row)
{
    return row->state != FAR_node_state_up || row->lease_until_ms <= step->time_ms;
}

static unsigned boot_input(const struct far_row_node *row, struct far_slice nonce)
{
    return row->nonce.len != 0 && far_slice_equal(row->nonce, nonce) ? BOOT_SAME : BOOT_NEW;
}

/* One that says nothing keeps what it said before; one that says that it only dials has none. */
static struct far_slice address_of(const struct far_row_node *row, const struct far_cmd_node_boot *cmd)
{
    if (cmd->dials_only) {
        return far_slice(NULL, 0);
    }
    return cmd->data_address.len != 0 ? cmd->data_address : row->data_address;
}

int far_decide_node_boot(struct far_step *step, const struct far_cmd_node_boot *cmd)
{
    struct far_row_node row;
    FAR_TRY(check_actor(step, cmd->node_id));
    if (cmd->nonce.len != 16) {
        return far_reject(step, FAR_INVALID, "node %llu needs a nonce of 16 bytes", FAR_LLU(cmd->node_id));
    }
    FAR_TRY(look(step, cmd->node_id, &row));
    unsigned input = boot_input(&row, cmd->nonce);
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), input, cmd->node_id, NULL));
    FAR_TRY(far_offer_check(step, &row, &cmd->adapters));
    struct far_ev_node_booted ev = {.node_id = row.id,
                                    .boot = row.boot + (input == BOOT_NEW),
                                    .nonce = cmd->nonce,
                                    .data_address = address_of(&row, cmd),
                                    .adapters = cmd->adapters,
                                    .runs_scripts = cmd->runs_scripts};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    step->object_id = ev.boot;
    FAR_TRY(far_emit(step, &far_schema_ev_node_booted, &ev));
    if (input == BOOT_NEW) {
        FAR_TRY(far_tasks_lost(step, row.id, ev.boot));
    }
    return input == BOOT_NEW || was_idle(step, &row) ? far_jobs_wake(step) : 0;
}

int far_evolve_node_booted(struct far_step *step, const struct far_ev_node_booted *ev)
{
    struct far_row_node row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), boot_input(&row, ev->nonce), ev->node_id, NULL));
    uint64_t lease_before_ms = row.lease_until_ms;
    if (row.boot != ev->boot) {
        row.sequence = 0;
    }
    row.state = FAR_node_state_up;
    row.boot = ev->boot;
    row.nonce = ev->nonce;
    row.data_address = ev->data_address;
    row.adapters = ev->adapters;
    row.runs_scripts = ev->runs_scripts;
    row.seen_ms = step->time_ms;
    row.lease_until_ms = ev->lease_until_ms;
    return store(step, &row, lease_before_ms);
}

/* ---- reports ---- */

/* Does this node hold the attempt that the item names? One that runs needs no look at its task's row. */
static int is_held(struct far_step *step, const struct far_row_node *node, struct far_running *running,
                   const struct far_sub_report_item *item, bool *ret_is_held)
{
    const struct far_sub_running_task *runs = far_running_find(running, item->job_id, item->task);
    if (runs != NULL) {
        *ret_is_held = runs->boot == node->boot && runs->attempt == item->attempt;
        return 0;
    }
    struct far_row_task task;
    struct far_key key = far_key_part(&far_schema_row_task, item->job_id, item->task);
    int rc = item->task <= UINT32_MAX ? far_key_find(step, &far_schema_row_task, &key, &task) : FAR_NOT_FOUND;
    *ret_is_held = rc == 0 && far_task_held(&task) && task.node_id == node->id && task.boot == node->boot &&
                   task.attempt == item->attempt;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The items that name an attempt which this node holds: its sample renews the lease. */
static int sample(struct far_step *step, const struct far_row_node *node, const struct far_list *items,
                  struct far_list *ret_samples)
{
    const struct far_sub_report_item *item = items->items;
    struct far_running running;
    struct far_sub_sample *samples = far_step_alloc(step, items->count * sizeof *samples);
    size_t count = 0;
    if (samples == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_running_load(step, node, 0, &running));
    for (size_t i = 0; i < items->count; i++) {
        bool holds = false;
        if (item[i].state == FAR_report_state_running) {
            FAR_TRY(is_held(step, node, &running, &item[i], &holds));
        }
        if (holds) {
            samples[count++] = (struct far_sub_sample){.job_id = item[i].job_id,
                                                       .task = item[i].task,
                                                       .bytes_total = item[i].bytes_total,
                                                       .bytes_done = item[i].bytes_done,
                                                       .bytes_changed = item[i].bytes_changed,
                                                       .bytes_sent = item[i].bytes_sent,
                                                       .figures = item[i].figures};
        }
    }
    *ret_samples = (struct far_list){.items = samples, .count = count};
    return 0;
}

/* With which generation of its key is the domain of what was done sealed there? */
static int see_domains(struct far_step *step, const struct far_row_node *row, const struct far_list *items)
{
    const struct far_sub_report_item *item = items->items;
    for (size_t i = 0; i < items->count; i++) {
        if (item[i].domain_id != 0 && item[i].state == FAR_report_state_done) {
            FAR_TRY(far_domain_seen(step, row->id, item[i].domain_id, item[i].domain_generation));
        }
        const uint64_t *erased = item[i].erased_domain_ids.items;
        for (size_t k = 0; k < item[i].erased_domain_ids.count; k++) {
            FAR_TRY(far_domain_erased(step, row->id, erased[k]));
        }
    }
    return 0;
}

int far_decide_node_report(struct far_step *step, const struct far_cmd_node_report *cmd)
{
    struct far_row_node row;
    bool bundles;
    FAR_TRY(check_actor(step, cmd->node_id));
    FAR_TRY(look(step, cmd->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), REPORT, cmd->node_id, NULL));
    step->object_id = row.id;
    if (cmd->boot != row.boot) {
        return far_reject(step, FAR_DENIED, "node '%.*s' is in boot %llu; a report of boot %llu comes too late",
                          FAR_TEXT(row.name), FAR_LLU(row.boot), FAR_LLU(cmd->boot));
    }
    if (cmd->sequence == row.sequence && cmd->sequence != 0) {
        return 0; /* heard already */
    }
    if (cmd->sequence <= row.sequence) {
        return far_reject(step, FAR_CONFLICT, "node '%.*s' has reported %llu already; report %llu comes too late",
                          FAR_TEXT(row.name), FAR_LLU(row.sequence), FAR_LLU(cmd->sequence));
    }
    struct far_ev_node_reported ev = {.node_id = row.id, .sequence = cmd->sequence};
    FAR_TRY(far_lease_until(step, &ev.lease_until_ms));
    FAR_TRY(sample(step, &row, &cmd->items, &ev.samples));
    FAR_TRY(far_level_has(step, FAR_BUNDLE_LEVEL, &bundles));
    bool is_bundled = bundles && ev.samples.count == 0 && !was_idle(step, &row); /* before the report it can be given work, too */
    FAR_TRY(is_bundled ? 0 : far_emit(step, &far_schema_ev_node_reported, &ev));
    FAR_TRY(far_tasks_report(step, &row, &cmd->items, is_bundled ? &ev : NULL));
    FAR_TRY(see_domains(step, &row, &cmd->items));
    return was_idle(step, &row) ? far_jobs_wake(step) : 0;
}

int far_node_heard(struct far_step *step, const struct far_ev_node_reported *said)
{
    struct far_row_node row;
    FAR_TRY(look(step, said->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), REPORT, said->node_id, NULL));
    uint64_t lease_before_ms = row.lease_until_ms;
    row.state = FAR_node_state_up;
    row.sequence = said->sequence;
    row.seen_ms = step->time_ms;
    row.lease_until_ms = said->lease_until_ms;
    FAR_TRY(far_task_samples(step, &row, &said->samples, said->lease_until_ms));
    return store(step, &row, lease_before_ms);
}

int far_evolve_node_reported(struct far_step *step, const struct far_ev_node_reported *ev)
{
    return far_node_heard(step, ev);
}

/* ---- leases ---- */

int far_node_due(struct far_step *step, uint64_t node_id)
{
    struct far_row_node row;
    FAR_TRY(look(step, node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), LEASE, node_id, NULL));
    struct far_ev_node_lost ev = {.node_id = node_id};
    FAR_TRY(far_emit(step, &far_schema_ev_node_lost, &ev));
    return far_jobs_wake(step);
}

int far_evolve_node_lost(struct far_step *step, const struct far_ev_node_lost *ev)
{
    struct far_row_node row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), LEASE, ev->node_id, NULL));
    uint64_t lease_before_ms = row.lease_until_ms;
    row.state = FAR_node_state_down;
    row.lease_until_ms = 0;
    return store(step, &row, lease_before_ms);
}

int far_evolve_leases_checked(struct far_step *step, const struct far_ev_leases_checked *ev)
{
    struct far_row_node row;
    FAR_TRY(look(step, ev->node_id, &row));
    FAR_TRY(far_move_id(step, &far_table_node, state_of(&row), CHECK, ev->node_id, NULL));
    FAR_TRY(far_running_rearm(step, &row));
    return far_row_put(step, &far_schema_row_node, row.id, &row);
}
