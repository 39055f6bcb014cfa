/* Workloads and their disks: registered by name at a site, protected by at most one plan. */
#include "fsm/machines.h"

#include "fsm/alert.h"
#include "fsm/coverage.h"
#include "fsm/job.h"
#include "fsm/machine_config.h"
#include "fsm/node_load.h"
#include "fsm/offer.h"

enum { ABSENT, FREE, PLANNED };
enum { CREATE, REMOVE, CLAIM, UNCLAIM, UPDATE };
static const char *const states[] = {"absent", "free", "planned"};
static const char *const inputs[] = {"workload_create", "workload_remove", "plan_create", "plan_remove", "workload_update"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_CONFLICT, "exists already; choose another name")
static const struct far_cell cells[3][5] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(FREE), [REMOVE] = GONE, [CLAIM] = GONE, [UNCLAIM] = GONE, [UPDATE] = GONE},
    [FREE] = {[CREATE] = TAKEN,
              [REMOVE] = FAR_MOVE(ABSENT),
              [CLAIM] = FAR_MOVE(PLANNED),
              [UNCLAIM] = FAR_REJECT(FAR_INTERNAL, "is in no plan"),
              [UPDATE] = FAR_MOVE(FREE)},
    [PLANNED] = {[CREATE] = TAKEN,
                 [REMOVE] = FAR_REJECT(FAR_CONFLICT, "is in a plan; remove the plan first"),
                 [CLAIM] = FAR_REJECT(FAR_CONFLICT, "is in another plan; remove that first"),
                 [UNCLAIM] = FAR_MOVE(FREE),
                 [UPDATE] = FAR_MOVE(PLANNED)},
};
const struct far_table far_table_workload = FAR_TABLE("workload", states, inputs, cells);

static unsigned state_of(const struct far_row_workload *row)
{
    return row->id == 0 ? ABSENT : row->plan_id == 0 ? FREE : PLANNED;
}

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_workload *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_workload, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_workload){.id = 0};
        return 0;
    }
    return rc;
}

static int look_name(struct far_step *step, struct far_slice name, struct far_row_workload *ret_row)
{
    uint64_t id = 0;
    int rc = far_name_find(step, &far_schema_row_workload, name, &id);
    return rc != 0 && rc != FAR_NOT_FOUND ? rc : look(step, id, ret_row);
}

/* ---- create ---- */

/* Settings may name folders since level 4. */
static bool adapter_ok(struct far_slice adapter, bool folders)
{
    size_t name_len = far_offer_name(adapter).len;
    bool ok = name_len > 0;
    for (size_t i = 0; ok && i < adapter.len; i++) {
        uint8_t b = adapter.data[i];
        bool word = (b >= 'a' && b <= 'z') || (b >= '0' && b <= '9') || b == '-' || b == '_' || b == '.';
        ok = word || (i < name_len ? b == ':' : b == '=' || b == '&' || (b == '/' && folders) || (b == '?' && i == name_len));
    }
    return ok;
}

/* The file adapter, plain or wrapped, finds disks by absolute path. */
static bool wants_path(struct far_slice adapter)
{
    struct far_slice name = far_offer_name(adapter);
    return (name.len == 4 && memcmp(name.data, "file", 4) == 0) ||
           (name.len > 5 && memcmp(name.data + name.len - 5, ":file", 5) == 0);
}

static int check_disk(struct far_step *step, struct far_slice workload, struct far_slice adapter,
                      const struct far_sub_disk_spec *disks, size_t i)
{
    FAR_TRY(far_name_check(step, "disk", disks[i].name));
    if (disks[i].locator.len == 0 || (wants_path(adapter) && disks[i].locator.data[0] != '/')) {
        return far_reject(step, FAR_INVALID, "disk '%.*s' of workload '%.*s' needs a locator: an absolute path",
                          FAR_TEXT(disks[i].name), FAR_TEXT(workload));
    }
    for (size_t k = 0; k < disks[i].locator.len; k++) {
        if (disks[i].locator.data[k] < 0x20 || disks[i].locator.data[k] == 0x7f) {
            return far_reject(step, FAR_INVALID, "the locator of disk '%.*s' holds a control character",
                              FAR_TEXT(disks[i].name));
        }
    }
    for (size_t k = 0; k < i; k++) {
        if (far_slice_equal(disks[k].name, disks[i].name) || far_slice_equal(disks[k].locator, disks[i].locator)) {
            return far_reject(step, FAR_INVALID, "workload '%.*s' names disk '%.*s' or its place twice",
                              FAR_TEXT(workload), FAR_TEXT(disks[i].name));
        }
    }
    return 0;
}

int far_workload_place_check(struct far_step *step, struct far_slice workload, struct far_slice adapter,
                             const struct far_sub_disk_spec *disk)
{
    if (!adapter_ok(adapter, true)) {
        return far_reject(step, FAR_INVALID, "'%.*s' is no adapter, as 'file'", FAR_TEXT(adapter));
    }
    return check_disk(step, workload, adapter, disk, 0);
}

int far_decide_workload_create(struct far_step *step, const struct far_cmd_workload_create *cmd)
{
    struct far_row_workload old;
    struct far_row_site site;
    uint64_t site_id;
    bool folders = false;
    FAR_TRY(far_level_has(step, 4, &folders));
    FAR_TRY(far_name_check(step, "workload", cmd->name));
    FAR_TRY(look_name(step, cmd->name, &old));
    FAR_TRY(far_move(step, &far_table_workload, state_of(&old), CREATE, cmd->name, NULL));
    FAR_TRY(far_name_need(step, &far_schema_row_site, cmd->site, &site_id));
    FAR_TRY(far_row_need(step, &far_schema_row_site, site_id, &site));
    if (site.role == FAR_site_role_witness) {
        return far_reject(step, FAR_INVALID, "site '%.*s' is a witness and runs no workloads", FAR_TEXT(cmd->site));
    }
    if (!adapter_ok(cmd->adapter, folders)) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' needs an adapter, as 'file'", FAR_TEXT(cmd->name));
    }
    if (cmd->disks.count == 0) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' needs at least one disk", FAR_TEXT(cmd->name));
    }
    for (size_t i = 0; i < cmd->disks.count; i++) {
        FAR_TRY(check_disk(step, cmd->name, cmd->adapter, cmd->disks.items, i));
    }
    FAR_TRY(far_offer_need(step, site_id, cmd->site, cmd->adapter));
    struct far_ev_workload_created ev = {.id = step->progress.next_id,
                                         .name = cmd->name,
                                         .site_id = site_id,
                                         .adapter = cmd->adapter,
                                         .first_disk_id = step->progress.next_id + 1,
                                         .disks = cmd->disks};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_workload_created, &ev);
}

int far_evolve_workload_created(struct far_step *step, const struct far_ev_workload_created *ev)
{
    const struct far_sub_disk_spec *disks = ev->disks.items;
    struct far_row_workload row;
    FAR_TRY(look_name(step, ev->name, &row));
    FAR_TRY(far_move(step, &far_table_workload, state_of(&row), CREATE, ev->name, NULL));
    row = (struct far_row_workload){.id = ev->id,
                                    .name = ev->name,
                                    .site_id = ev->site_id,
                                    .adapter = ev->adapter,
                                    .disk_count = ev->disks.count,
                                    .created_ms = step->time_ms};
    FAR_TRY(far_row_put(step, &far_schema_row_workload, row.id, &row));
    FAR_TRY(far_name_put(step, &far_schema_row_workload, row.name, row.id));
    far_id_used(step, row.id);
    for (size_t i = 0; i < ev->disks.count; i++) {
        struct far_row_disk disk = {.id = ev->first_disk_id + i,
                                    .workload_id = row.id,
                                    .disk_index = i,
                                    .name = disks[i].name,
                                    .locator = disks[i].locator};
        struct far_key key = far_key_part(&far_schema_row_disk, row.id, i);
        FAR_TRY(far_key_put(step, &far_schema_row_disk, &key, &disk));
        far_id_used(step, disk.id);
    }
    return 0;
}

/* ---- update ---- */

enum { CLEAR_DESCRIPTION = 1, CLEAR_LABELS = 2 };

static int check_labels(struct far_step *step, const struct far_list *list)
{
    const struct far_sub_label *labels = list->items;
    for (size_t i = 0; i < list->count; i++) {
        FAR_TRY(far_name_check(step, "label", labels[i].key));
        for (size_t k = 0; k < i; k++) {
            if (far_slice_equal(labels[k].key, labels[i].key)) {
                return far_reject(step, FAR_INVALID, "label '%.*s' is there twice", FAR_TEXT(labels[i].key));
            }
        }
    }
    return 0;
}

static int what_to_clear(struct far_step *step, const struct far_cmd_workload_update *cmd, unsigned *ret_clear)
{
    const struct far_slice *names = cmd->clear.items;
    *ret_clear = 0;
    for (size_t i = 0; i < cmd->clear.count; i++) {
        bool is_description = far_slice_equal(names[i], far_slice_str("description"));
        if (!is_description && !far_slice_equal(names[i], far_slice_str("labels"))) {
            return far_reject(step, FAR_INVALID, "'%.*s' of a workload cannot be cleared; only description and labels can",
                              FAR_TEXT(names[i]));
        }
        *ret_clear |= is_description ? CLEAR_DESCRIPTION : CLEAR_LABELS;
    }
    if (((*ret_clear & CLEAR_DESCRIPTION) != 0 && cmd->description.len > 0) ||
        ((*ret_clear & CLEAR_LABELS) != 0 && cmd->labels.count > 0)) {
        return far_reject(step, FAR_INVALID, "a field cannot be set and cleared at once");
    }
    if (*ret_clear == 0 && cmd->description.len == 0 && cmd->labels.count == 0 && cmd->disks.count == 0 && cmd->adapter.len == 0) {
        return far_reject(step, FAR_INVALID, "there is nothing to change; give a description, labels or disks");
    }
    return 0;
}

/* The disk of this name, and where its row is; FAR_NOT_FOUND: none. */
static int find_disk(struct far_step *step, const struct far_row_workload *row, struct far_slice name,
                     struct far_row_disk *ret_disk)
{
    for (uint64_t i = 0; i < row->disk_count; i++) {
        struct far_key key = far_key_part(&far_schema_row_disk, row->id, i);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, ret_disk));
        if (far_slice_equal(ret_disk->name, name)) {
            return 0;
        }
    }
    return FAR_NOT_FOUND;
}

/* No two disks of the workload may end up in one place. */
static int check_place(struct far_step *step, const struct far_row_workload *row, const struct far_list *moves, size_t i)
{
    const struct far_sub_disk_spec *move = moves->items;
    for (uint64_t d = 0; d < row->disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, row->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        bool is_moved = false;
        for (size_t k = 0; k < moves->count; k++) {
            is_moved = is_moved || far_slice_equal(move[k].name, disk.name);
        }
        if (!is_moved && far_slice_equal(disk.locator, move[i].locator)) {
            return far_reject(step, FAR_CONFLICT, "disk '%.*s' of workload '%.*s' is in that place already",
                              FAR_TEXT(disk.name), FAR_TEXT(row->name));
        }
    }
    return 0;
}

/* A workload that was adopted gets its source: adapter and places of all disks at once. */
static int check_source(struct far_step *step, const struct far_row_workload *row, const struct far_cmd_workload_update *cmd)
{
    struct far_row_site site;
    if (cmd->adapter.len == 0) {
        return row->adapter.len != 0 || cmd->disks.count == 0
                   ? 0
                   : far_reject(step, FAR_INVALID, "workload '%.*s' was adopted and has no adapter yet: give one with its disks",
                                FAR_TEXT(row->name));
    }
    if (row->adapter.len != 0) {
        return far_reject(step, FAR_CONFLICT, "workload '%.*s' has the adapter '%.*s'; another one is another workload",
                          FAR_TEXT(row->name), FAR_TEXT(row->adapter));
    }
    if (!adapter_ok(cmd->adapter, true) || cmd->disks.count != row->disk_count) {
        return far_reject(step, FAR_INVALID, "workload '%.*s' needs an adapter, as 'file', and the places of all of its %llu disks",
                          FAR_TEXT(row->name), FAR_LLU(row->disk_count));
    }
    FAR_TRY(far_row_need(step, &far_schema_row_site, row->site_id, &site));
    return far_offer_need(step, row->site_id, site.name, cmd->adapter);
}

static int check_moves(struct far_step *step, const struct far_row_workload *row, const struct far_list *moves)
{
    const struct far_sub_disk_spec *move = moves->items;
    struct far_row_plan plan = {0};
    struct far_row_disk disk;
    if (moves->count > 0 && row->plan_id != 0) {
        FAR_TRY(far_row_need(step, &far_schema_row_plan, row->plan_id, &plan));
    }
    if (plan.running_job_id != 0) {
        return far_reject(step, FAR_CONFLICT, "plan '%.*s' runs a cycle (job %llu); disks move when it is over",
                          FAR_TEXT(plan.name), FAR_LLU(plan.running_job_id));
    }
    for (size_t i = 0; i < moves->count; i++) {
        FAR_TRY(check_disk(step, row->name, row->adapter, move, i));
        int rc = find_disk(step, row, move[i].name, &disk);
        if (rc == FAR_NOT_FOUND && !step->is_rejected) {
            return far_reject(step, FAR_NOT_FOUND, "workload '%.*s' has no disk '%.*s'", FAR_TEXT(row->name),
                              FAR_TEXT(move[i].name));
        }
        FAR_TRY(rc);
        FAR_TRY(check_place(step, row, moves, i));
    }
    return 0;
}

int far_decide_workload_update(struct far_step *step, const struct far_cmd_workload_update *cmd)
{
    struct far_row_workload row;
    unsigned clear;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_workload, state_of(&row), UPDATE, cmd->name, NULL));
    if (cmd->conditional && cmd->revision != row.revision) {
        return far_reject(step, FAR_CONFLICT, "workload '%.*s' has revision %llu, not %llu: somebody changed it; read it again",
                          FAR_TEXT(cmd->name), FAR_LLU(row.revision), FAR_LLU(cmd->revision));
    }
    FAR_TRY(what_to_clear(step, cmd, &clear));
    FAR_TRY(check_labels(step, &cmd->labels));
    FAR_TRY(check_source(step, &row, cmd));
    row.adapter = cmd->adapter.len != 0 ? cmd->adapter : row.adapter;
    FAR_TRY(check_moves(step, &row, &cmd->disks));
    struct far_ev_workload_updated ev = {
        .id = row.id, .description = row.description, .labels = row.labels, .disks = cmd->disks, .adapter = cmd->adapter};
    if ((clear & CLEAR_DESCRIPTION) != 0 || cmd->description.len > 0) {
        ev.description = cmd->description;
    }
    if ((clear & CLEAR_LABELS) != 0 || cmd->labels.count > 0) {
        ev.labels = cmd->labels;
    }
    step->object_id = row.id;
    return far_emit(step, &far_schema_ev_workload_updated, &ev);
}

int far_evolve_workload_updated(struct far_step *step, const struct far_ev_workload_updated *ev)
{
    const struct far_sub_disk_spec *moves = ev->disks.items;
    struct far_row_workload row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_workload, state_of(&row), UPDATE, ev->id, NULL));
    for (size_t i = 0; i < ev->disks.count; i++) {
        struct far_row_disk disk;
        int rc = find_disk(step, &row, moves[i].name, &disk);
        if (rc == FAR_NOT_FOUND && !step->is_rejected) {
            return far_reject(step, FAR_INTERNAL, "broken: workload %llu has no such disk", FAR_LLU(row.id));
        }
        FAR_TRY(rc);
        disk.locator = moves[i].locator;
        disk.token = far_slice(NULL, 0); /* what another place changed is no list of this one */
        struct far_key key = far_key_part(&far_schema_row_disk, row.id, disk.disk_index);
        FAR_TRY(far_key_put(step, &far_schema_row_disk, &key, &disk));
    }
    row.description = ev->description;
    row.labels = ev->labels;
    row.adapter = ev->adapter.len != 0 ? ev->adapter : row.adapter;
    row.revision++;
    return far_row_put(step, &far_schema_row_workload, row.id, &row);
}

/* ---- remove ---- */

/* What was wrong with its disks is no cause any more. */
static int clear_alerts(struct far_step *step, const struct far_row_workload *row)
{
    for (uint64_t d = 0; d < row->disk_count; d++) {
        struct far_row_disk disk;
        struct far_key key = far_key_part(&far_schema_row_disk, row->id, d);
        FAR_TRY(far_key_need(step, &far_schema_row_disk, &key, &disk));
        FAR_TRY(far_alert_clear(step, FAR_alert_kind_change_list_missed, disk.id));
        FAR_TRY(far_alert_clear(step, FAR_alert_kind_change_list_refused, disk.id));
        FAR_TRY(far_alert_clear(step, FAR_alert_kind_signal_rose, disk.id));
    }
    return far_alert_clear(step, FAR_alert_kind_config_missed, row->id);
}

int far_decide_workload_remove(struct far_step *step, const struct far_cmd_workload_remove *cmd)
{
    struct far_row_workload row;
    FAR_TRY(look_name(step, cmd->name, &row));
    FAR_TRY(far_move(step, &far_table_workload, state_of(&row), REMOVE, cmd->name, NULL));
    struct far_ev_workload_removed ev = {.id = row.id};
    step->object_id = row.id;
    FAR_TRY(clear_alerts(step, &row));
    return far_emit(step, &far_schema_ev_workload_removed, &ev);
}

int far_evolve_workload_removed(struct far_step *step, const struct far_ev_workload_removed *ev)
{
    struct far_row_workload row;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_workload, state_of(&row), REMOVE, ev->id, NULL));
    FAR_TRY(far_node_vault_leave(step, &row));
    FAR_TRY(far_machine_config_end(step, row.config_id));
    for (uint64_t i = 0; i < row.disk_count; i++) {
        struct far_key key = far_key_part(&far_schema_row_disk, row.id, i);
        FAR_TRY(far_key_del(step, &far_schema_row_disk, &key));
        FAR_TRY(far_coverage_forget(step, row.id, i));
    }
    FAR_TRY(far_name_del(step, &far_schema_row_workload, row.name));
    return far_row_del(step, &far_schema_row_workload, row.id);
}

/* ---- plans ---- */

int far_workload_claimable(struct far_step *step, struct far_slice name, struct far_row_workload *ret_row)
{
    FAR_TRY(look_name(step, name, ret_row));
    return far_move(step, &far_table_workload, state_of(ret_row), CLAIM, name, NULL);
}

int far_workload_claim(struct far_step *step, uint64_t id, uint64_t plan_id)
{
    struct far_row_workload row;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_workload, state_of(&row), plan_id != 0 ? CLAIM : UNCLAIM, id, NULL));
    row.plan_id = plan_id;
    return far_row_put(step, &far_schema_row_workload, id, &row);
}
