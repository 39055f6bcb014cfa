/* Healing a vault from the source. What a scrub or a verification found damaged of a disk is read again by the source at the next cycle
 * and offered whether it changed or not; the target looks at its own copy before it says that it has it. Where the source still has what
 * was stored, the block is put again, for every point that needs it. When the point is sealed the target says which of the places are
 * good now.
 *
 * What the source has changed meanwhile it cannot give back: the alert says so, and a second vault may have it (`vault repair`). A place of
 * a point that was removed since is not asked for any more, and gives way at the next pass of reclaim, scrub or healing; where other points
 * needed it, there is more than the list says, until a scrub names it with one of them. */
#include "fsm/alert.h"
#include "fsm/checkpoint.h"
#include "fsm/vault_row.h"

enum { DAMAGES_MAX = 16, BLOCKS_MAX = 4096 /* of one place; a page of a tree may have millions below it */ };

static bool same_place(const struct far_sub_scrub_damage *a, const struct far_sub_scrub_damage *b)
{
    return a->point_id == b->point_id && a->first_block == b->first_block && far_slice_equal(a->disk, b->disk);
}

static bool is_in(const struct far_list *list, const struct far_sub_scrub_damage *damage)
{
    const struct far_sub_scrub_damage *items = list->items;
    bool found = false;
    for (size_t i = 0; i < list->count && !found; i++) {
        found = same_place(&items[i], damage) && damage->block_count <= BLOCKS_MAX; /* of more only a part was offered */
    }
    return found;
}

int far_vault_damages_of(struct far_step *step, uint64_t node_id, uint64_t workload_id, struct far_slice disk, struct far_list *ret)
{
    struct far_row_vault vault;
    struct far_sub_scrub_damage *items = far_step_alloc(step, DAMAGES_MAX * sizeof *items);
    size_t count = 0;
    *ret = (struct far_list){.items = items};
    if (items == NULL) {
        return FAR_LIMIT;
    }
    int rc = far_row_find(step, &far_schema_row_vault, node_id, &vault);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    const struct far_sub_scrub_damage *all = vault.scrub_damages.items;
    for (size_t i = 0; i < vault.scrub_damages.count && count < DAMAGES_MAX; i++) {
        struct far_row_point point;
        FAR_TRY(far_point_find(step, all[i].point_id, &point));
        bool is_there = point.id != 0 && point.state != FAR_point_state_removed && point.workload_id == workload_id;
        if (is_there && all[i].disk.len != 0 && (disk.len == 0 || far_slice_equal(disk, all[i].disk))) {
            items[count] = all[i];
            items[count].block_count = all[i].block_count < BLOCKS_MAX ? all[i].block_count : BLOCKS_MAX;
            items[count++].text = far_slice(NULL, 0);
        }
    }
    ret->count = count;
    return 0;
}

static int is_of_point(struct far_step *step, const struct far_sub_scrub_damage *damage, bool *ret_is)
{
    struct far_row_point point;
    FAR_TRY(far_point_find(step, damage->point_id, &point));
    *ret_is = point.id != 0 && point.state != FAR_point_state_removed;
    return 0;
}

int far_vault_damages_prune(struct far_step *step, struct far_row_vault *row)
{
    struct far_sub_scrub_damage *items = far_step_alloc(step, DAMAGES_MAX * sizeof *items);
    const struct far_sub_scrub_damage *old = row->scrub_damages.items;
    size_t count = 0;
    if (items == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < row->scrub_damages.count && count < DAMAGES_MAX; i++) {
        bool is_there;
        FAR_TRY(is_of_point(step, &old[i], &is_there));
        if (is_there) {
            items[count++] = old[i];
        } else {
            row->scrub_more = row->scrub_more || old[i].needed_by > 1;
        }
    }
    row->scrub_damages = (struct far_list){.items = items, .count = count};
    return 0;
}

int far_vault_damages_merge(struct far_step *step, struct far_row_vault *row, const struct far_list *found, bool *ret_more)
{
    struct far_sub_scrub_damage *items = far_step_alloc(step, DAMAGES_MAX * sizeof *items);
    const struct far_sub_scrub_damage *news = found->items, *old;
    size_t count = 0;
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_vault_damages_prune(step, row));
    *ret_more = *ret_more || row->scrub_more;
    old = row->scrub_damages.items;
    for (size_t i = 0; i < found->count && count < DAMAGES_MAX; i++) {
        items[count++] = news[i];
    }
    for (size_t i = 0; i < row->scrub_damages.count; i++) {
        bool is_known = is_in(found, &old[i]);
        *ret_more = *ret_more || (!is_known && count == DAMAGES_MAX);
        if (!is_known && count < DAMAGES_MAX) {
            items[count++] = old[i];
        }
    }
    row->scrub_damages = (struct far_list){.items = items, .count = count};
    return 0;
}

/* Whoever was named is good again, the alert is over. */
static int all_is_good(struct far_step *step, const struct far_row_vault *vault)
{
    const uint64_t *ids = vault->damaged_point_ids.items;
    for (size_t i = 0; i < vault->damaged_point_ids.count; i++) {
        struct far_row_point point;
        FAR_TRY(far_point_find(step, ids[i], &point));
        struct far_ev_point_verified ev = {
            .point_id = point.id, .checkpoint_id = point.checkpoint_id, .state = FAR_point_state_available};
        FAR_TRY(point.state == FAR_point_state_damaged ? far_emit(step, &far_schema_ev_point_verified, &ev) : 0);
    }
    return far_alert_clear(step, FAR_alert_kind_vault_damaged, vault->id);
}

static int tell_unhealed(struct far_step *step, const struct far_row_vault *vault, const struct far_list *unhealed)
{
    const struct far_alert_cause cause = {.kind = FAR_alert_kind_vault_damaged, .object_id = vault->id};
    const struct far_sub_scrub_damage *first = unhealed->items;
    struct far_row_node node;
    FAR_TRY(far_row_need(step, &far_schema_row_node, vault->node_id, &node));
    return far_alert_raise(step, &cause,
                           "%zu damaged places in the vault of node '%.*s' could not be put again from the source, which has "
                           "changed them since; first, disk '%.*s' of point %llu, block %llu: 'farshore-node vault repair' takes them "
                           "from a second vault",
                           unhealed->count, FAR_TEXT(node.name), FAR_TEXT(first->disk), FAR_LLU(first->point_id),
                           FAR_LLU(first->first_block));
}

int far_vault_heal_done(struct far_step *step, uint64_t node_id, uint64_t job_id, const struct far_sub_report_item *item)
{
    struct far_row_vault vault;
    size_t left = 0;
    if (item->healed.count + item->unhealed.count == 0) {
        return 0;
    }
    int rc = far_row_find(step, &far_schema_row_vault, node_id, &vault);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    FAR_TRY(far_vault_damages_prune(step, &vault));
    const struct far_sub_scrub_damage *all = vault.scrub_damages.items;
    for (size_t i = 0; i < vault.scrub_damages.count; i++) {
        left += !is_in(&item->healed, &all[i]);
    }
    struct far_ev_vault_healed ev = {.node_id = node_id,
                                     .job_id = job_id,
                                     .healed = item->healed,
                                     .unhealed = item->unhealed,
                                     .all_good = left == 0 && !vault.scrub_more};
    FAR_TRY(ev.all_good ? all_is_good(step, &vault) : 0);
    FAR_TRY(far_emit(step, &far_schema_ev_vault_healed, &ev));
    return item->unhealed.count > 0 ? tell_unhealed(step, &vault, &item->unhealed) : 0;
}

int far_evolve_vault_healed(struct far_step *step, const struct far_ev_vault_healed *ev)
{
    struct far_row_vault row;
    FAR_TRY(far_row_need(step, &far_schema_row_vault, ev->node_id, &row));
    FAR_TRY(far_vault_damages_prune(step, &row));
    const struct far_sub_scrub_damage *old = row.scrub_damages.items;
    struct far_sub_scrub_damage *items = far_step_alloc(step, DAMAGES_MAX * sizeof *items);
    size_t count = 0;
    if (items == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < row.scrub_damages.count && count < DAMAGES_MAX; i++) {
        if (!is_in(&ev->healed, &old[i])) {
            items[count++] = old[i];
        }
    }
    row.scrub_damages = (struct far_list){.items = items, .count = count};
    row.damaged_point_ids.count = ev->all_good ? 0 : row.damaged_point_ids.count;
    return far_row_put(step, &far_schema_row_vault, row.id, &row);
}

/* ---- what verifications find ---- */

int far_vault_damage_found(struct far_step *step, const struct far_row_task *verify, const struct far_sub_report_item *item)
{
    const struct far_sub_scrub_damage *said = item->unhealed.items;
    struct far_row_vault vault;
    struct far_row_point_disk disk;
    struct far_key key = far_key_part(&far_schema_row_point_disk, verify->point_id, verify->disk_index);
    struct far_ev_vault_damage_found ev = {.node_id = verify->node_id,
                                           .job_id = verify->job_id,
                                           .point_id = verify->point_id,
                                           .more = item->unhealed.count == DAMAGES_MAX};
    int rc = item->unhealed.count > 0 ? far_row_find(step, &far_schema_row_vault, ev.node_id, &vault) : FAR_NOT_FOUND;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    struct far_sub_scrub_damage *items = far_step_alloc(step, item->unhealed.count * sizeof *items);
    if (items == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_key_need(step, &far_schema_row_point_disk, &key, &disk));
    for (size_t i = 0; i < item->unhealed.count; i++) {
        items[i] = (struct far_sub_scrub_damage){.point_id = verify->point_id,
                                                 .disk = disk.name,
                                                 .first_block = said[i].first_block,
                                                 .block_count = said[i].block_count,
                                                 .needed_by = 1};
    }
    ev.damages = (struct far_list){.items = items, .count = item->unhealed.count};
    return far_emit(step, &far_schema_ev_vault_damage_found, &ev);
}

int far_evolve_vault_damage_found(struct far_step *step, const struct far_ev_vault_damage_found *ev)
{
    enum { POINTS_MAX = 256 };
    struct far_row_vault row;
    FAR_TRY(far_row_need(step, &far_schema_row_vault, ev->node_id, &row));
    const uint64_t *old = row.damaged_point_ids.items;
    uint64_t *ids = far_step_alloc(step, POINTS_MAX * sizeof *ids);
    size_t count = 0;
    bool is_in = false, more = row.scrub_more || ev->more;
    if (ids == NULL) {
        return FAR_LIMIT;
    }
    for (size_t i = 0; i < row.damaged_point_ids.count; i++) {
        is_in = is_in || old[i] == ev->point_id;
        ids[count++] = old[i];
    }
    more = more || (!is_in && count == POINTS_MAX);
    if (!is_in && count < POINTS_MAX) {
        ids[count++] = ev->point_id;
    }
    row.damaged_point_ids = (struct far_list){.items = ids, .count = count};
    FAR_TRY(far_vault_damages_merge(step, &row, &ev->damages, &more));
    row.scrub_more = more;
    return far_row_put(step, &far_schema_row_vault, row.id, &row);
}
