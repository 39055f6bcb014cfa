/* Limits of platforms: see site_limit.h. */
#include "fsm/site_limit.h"

#include "fsm/node_load.h"

#include <stdio.h>

enum { LOOKS_MAX = 512 }; /* at tasks that wait, in one step: those of nodes that are down are passed over */

enum far_slot far_slot_of(const struct far_row_task *task)
{
    bool is_up = task->kind == FAR_task_kind_machine && task->operation == FAR_machine_operation_up;
    return task->kind == FAR_task_kind_send                  ? FAR_SLOT_SEND
           : task->kind == FAR_task_kind_freeze              ? FAR_SLOT_FREEZE
           : task->kind == FAR_task_kind_restore || is_up ? FAR_SLOT_RECOVERY
                                                             : FAR_SLOT_NONE;
}

static struct far_key queue_key(uint64_t site_id, enum far_slot slot, uint64_t job_id, uint64_t task)
{
    struct far_key key = far_key_id(&far_schema_row_site_queue, site_id);
    far_key_u8(&key, (uint8_t)slot);
    far_key_u64(&key, job_id);
    far_key_u32(&key, (uint32_t)task);
    return key;
}

/* The first that waits there, not before the key, which moves on; FAR_NOT_FOUND: none. */
static int next_waiting(struct far_step *step, uint64_t site_id, enum far_slot slot, struct far_key *key, uint64_t *ret_job_id,
                        uint64_t *ret_task)
{
    struct far_row_site_queue row;
    struct far_slice id;
    int rc = far_next(step, &far_schema_row_site_queue, key, &id, &row);
    if (rc != 0) {
        return rc;
    }
    *ret_job_id = far_get_be64(id.data + 9);
    *ret_task = far_get_be32(id.data + 17);
    return far_get_be64(id.data) == site_id && id.data[8] == slot ? 0 : FAR_NOT_FOUND;
}

/* Does anything wait that is begun before this task? A send goes before a freeze: its view is there already. */
static int waits_behind(struct far_step *step, uint64_t site_id, const struct far_row_task *task, bool *ret)
{
    enum far_slot slot = far_slot_of(task);
    struct far_key sends = queue_key(site_id, FAR_SLOT_SEND, 0, 0), same = queue_key(site_id, slot, 0, 0);
    uint64_t job_id = 0, number = 0;
    int rc = slot == FAR_SLOT_FREEZE ? next_waiting(step, site_id, FAR_SLOT_SEND, &sends, &job_id, &number) : FAR_NOT_FOUND;
    *ret = rc == 0;
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    rc = next_waiting(step, site_id, slot, &same, &job_id, &number);
    bool is_new = task->task == 0;
    *ret = rc == 0 && (is_new || job_id < task->job_id || (job_id == task->job_id && number < task->task));
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_slot_free(struct far_step *step, uint64_t site_id, const struct far_row_task *task, bool *ret_free)
{
    enum far_slot slot = far_slot_of(task);
    struct far_site_slots *slots = NULL;
    bool waits = false;
    *ret_free = true;
    if (slot == FAR_SLOT_NONE) {
        return 0;
    }
    FAR_TRY(far_site_slots(step, site_id, &slots));
    size_t kind = far_slot_kind(slot);
    if (slots->limits[kind] == 0) {
        return 0;
    }
    bool is_free = slots->used[kind] < slots->limits[kind], in_turn = step->goes_by_queue || slot == FAR_SLOT_SEND;
    FAR_TRY(is_free && !in_turn ? waits_behind(step, site_id, task, &waits) : 0);
    *ret_free = is_free && !waits;
    return 0;
}

/* ---- evolve ---- */

void far_slot_hold(struct far_row_node *node, const struct far_row_task *task, bool is_held)
{
    enum far_slot slot = far_slot_of(task);
    uint64_t *count = far_slot_kind(slot) == 0 ? &node->sending_count : &node->recovering_count;
    if (slot != FAR_SLOT_NONE) {
        *count = is_held ? *count + 1 : *count - 1;
    }
}

static int wake_at(struct far_step *step, struct far_row_site *site, uint64_t time_ms)
{
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_site_slots, site->id, 0, site->slots_ms, time_ms));
    site->slots_ms = time_ms;
    return far_row_put(step, &far_schema_row_site, site->id, site);
}

int far_slots_wake(struct far_step *step, uint64_t site_id)
{
    struct far_row_site site;
    struct far_row_site_queue row;
    struct far_slice id;
    struct far_key key = far_key_id(&far_schema_row_site_queue, site_id);
    int rc = far_row_find(step, &far_schema_row_site, site_id, &site);
    if (rc != 0 || site.slots_ms != 0 || (site.parallel_sends == 0 && site.parallel_recoveries == 0)) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    rc = far_next(step, &far_schema_row_site_queue, &key, &id, &row);
    bool waits = rc == 0 && far_get_be64(id.data) == site_id;
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return waits ? wake_at(step, &site, step->time_ms + 1) : 0;
}

/* Where it is to be done; 0: nobody knows. */
static int site_of(struct far_step *step, const struct far_row_task *task, uint64_t *ret_site_id)
{
    struct far_row_workload workload;
    struct far_row_point point;
    struct far_row_node node;
    int rc;
    *ret_site_id = 0;
    if (far_slot_of(task) == FAR_SLOT_RECOVERY) {
        rc = far_row_find(step, &far_schema_row_point, task->point_id, &point);
        rc = rc == 0 ? far_row_find(step, &far_schema_row_node, point.node_id, &node) : rc;
        *ret_site_id = rc == 0 ? node.site_id : 0;
    } else {
        rc = far_row_find(step, &far_schema_row_workload, task->workload_id, &workload);
        *ret_site_id = rc == 0 ? workload.site_id : 0;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_slot_queue(struct far_step *step, struct far_row_task *task, bool waits)
{
    enum far_slot slot = far_slot_of(task);
    struct far_row_site_queue row;
    bool has;
    FAR_TRY(far_level_spreads(step, &has));
    if (!has || slot == FAR_SLOT_NONE || (!waits && task->queue_site_id == 0)) {
        return 0;
    }
    if (!waits) {
        struct far_key key = queue_key(task->queue_site_id, slot, task->job_id, task->task);
        uint64_t site_id = task->queue_site_id;
        task->queue_site_id = 0;
        FAR_TRY(far_key_del(step, &far_schema_row_site_queue, &key));
        return far_slots_wake(step, site_id); /* those behind it waited for it, whatever is free */
    }
    FAR_TRY(site_of(step, task, &task->queue_site_id));
    struct far_key key = queue_key(task->queue_site_id, slot, task->job_id, task->task);
    FAR_TRY(task->queue_site_id != 0 ? far_key_put(step, &far_schema_row_site_queue, &key, &row) : 0);
    return task->queue_site_id != 0 ? far_slots_wake(step, task->queue_site_id) : 0;
}

int far_slots_gone(struct far_step *step, struct far_row_site *site)
{
    return far_deadline_move(step, FAR_deadline_kind_site_slots, site->id, 0, site->slots_ms, 0);
}

/* ---- decide ---- */

static int look_at(struct far_step *step, uint64_t site_id, enum far_slot slot)
{
    struct far_key key = queue_key(site_id, slot, 0, 0);
    for (unsigned i = 0; i < LOOKS_MAX; i++) {
        struct far_site_slots *slots;
        struct far_row_task task;
        uint64_t job_id, number;
        size_t kind = far_slot_kind(slot);
        FAR_TRY(far_site_slots(step, site_id, &slots));
        int rc = slots->limits[kind] == 0 || slots->used[kind] < slots->limits[kind]
                     ? next_waiting(step, site_id, slot, &key, &job_id, &number)
                     : FAR_NOT_FOUND;
        if (rc == FAR_NOT_FOUND) {
            return 0;
        }
        FAR_TRY(rc);
        struct far_key at = far_key_part(&far_schema_row_task, job_id, number);
        FAR_TRY(far_key_need(step, &far_schema_row_task, &at, &task));
        FAR_TRY(far_task_look(step, &task));
        key = queue_key(site_id, slot, job_id, number + 1);
    }
    return 0;
}

int far_slots_due(struct far_step *step, uint64_t site_id)
{
    struct far_row_site site;
    int rc = far_row_find(step, &far_schema_row_site, site_id, &site);
    if (rc != 0 || site.slots_ms == 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc; /* dropped by deadline.c */
    }
    struct far_ev_deadline_dropped ev = {
        .time_ms = site.slots_ms, .kind = FAR_deadline_kind_site_slots, .object_id = site_id};
    FAR_TRY(far_emit(step, &far_schema_ev_deadline_dropped, &ev));
    step->goes_by_queue = true;
    for (enum far_slot slot = FAR_SLOT_SEND; rc == 0 && slot <= FAR_SLOT_RECOVERY; slot++) {
        rc = look_at(step, site_id, slot);
    }
    step->goes_by_queue = false;
    return rc;
}

int far_slot_why(struct far_step *step, const struct far_row_task *task, char text[FAR_MESSAGE_MAX])
{
    struct far_site_slots *slots = NULL;
    struct far_row_site site;
    enum far_slot slot = far_slot_of(task);
    if (slot == FAR_SLOT_NONE || task->queue_site_id == 0) {
        return 0;
    }
    FAR_TRY(far_site_slots(step, task->queue_site_id, &slots));
    size_t kind = far_slot_kind(slot);
    if (slots->limits[kind] == 0 || slots->used[kind] < slots->limits[kind]) {
        return 0;
    }
    FAR_TRY(far_row_need(step, &far_schema_row_site, task->queue_site_id, &site));
    snprintf(text, FAR_MESSAGE_MAX, "the platform limit of site '%.*s': %llu %s at a time (%s)", FAR_TEXT(site.name),
             FAR_LLU(slots->limits[kind]), kind == 0 ? "frozen or sent disks" : "disks or machines",
             kind == 0 ? "parallel_sends" : "parallel_recoveries");
    return 0;
}
