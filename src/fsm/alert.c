/* Alerts: raised when a cause shows, acknowledged by a person, cleared when the cause is gone. While one is open, the same cause about
 * the same object only counts. Cleared ones are kept for a while, then forgotten, the oldest first: the log has all of them. */
#include "fsm/alert.h"

#include <stdarg.h>
#include <stdio.h>

enum { ABSENT, RAISED, ACKNOWLEDGED, CLEARED };
enum { RAISE, REPEAT, ACK, CLEAR, FORGET };
static const char *const states[] = {"absent", "raised", "acknowledged", "cleared"};
static const char *const inputs[] = {"raise", "repeat", "alert_ack", "clear", "forget"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "does not exist")
#define TAKEN FAR_REJECT(FAR_INTERNAL, "exists already")
#define OPEN FAR_REJECT(FAR_INTERNAL, "is still open")
#define OVER FAR_REJECT(FAR_CONFLICT, "is cleared: its cause is gone")
static const struct far_cell cells[4][5] = {
    [ABSENT] = {[RAISE] = FAR_MOVE(RAISED), [REPEAT] = GONE, [ACK] = GONE, [CLEAR] = GONE, [FORGET] = GONE},
    [RAISED] = {[RAISE] = TAKEN,
                [REPEAT] = FAR_MOVE(RAISED),
                [ACK] = FAR_MOVE(ACKNOWLEDGED),
                [CLEAR] = FAR_MOVE(CLEARED),
                [FORGET] = OPEN},
    [ACKNOWLEDGED] = {[RAISE] = TAKEN,
                      [REPEAT] = FAR_MOVE(ACKNOWLEDGED),
                      [ACK] = FAR_MOVE(ACKNOWLEDGED),
                      [CLEAR] = FAR_MOVE(CLEARED),
                      [FORGET] = OPEN},
    [CLEARED] = {[RAISE] = TAKEN, [REPEAT] = OVER, [ACK] = OVER, [CLEAR] = OVER, [FORGET] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_alert = FAR_TABLE("alert", states, inputs, cells);

enum { MESSAGE_MAX = 400 };

/* The row with this id; all zero if there is none. */
static int look(struct far_step *step, uint64_t id, struct far_row_alert *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_alert, id, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_alert){.id = 0};
        return 0;
    }
    return rc;
}

static struct far_key open_key(uint64_t kind, uint64_t object_id)
{
    struct far_key key = far_key(&far_schema_row_alert_open);
    far_key_u8(&key, (uint8_t)kind);
    far_key_u64(&key, object_id);
    return key;
}

static int load_progress(struct far_step *step, struct far_row_alert_progress *ret_progress)
{
    struct far_key key = far_key(&far_schema_row_alert_progress);
    int rc = far_key_find(step, &far_schema_row_alert_progress, &key, ret_progress);
    if (rc == FAR_NOT_FOUND) {
        *ret_progress = (struct far_row_alert_progress){.open_count = 0};
        return 0;
    }
    return rc;
}

static int store_progress(struct far_step *step, const struct far_row_alert_progress *progress)
{
    struct far_key key = far_key(&far_schema_row_alert_progress);
    return far_key_put(step, &far_schema_row_alert_progress, &key, progress);
}

int far_alert_find(struct far_step *step, uint64_t kind, uint64_t object_id, struct far_row_alert *ret_row)
{
    struct far_row_alert_open open;
    struct far_key key = open_key(kind, object_id);
    FAR_TRY(far_key_find(step, &far_schema_row_alert_open, &key, &open));
    return far_row_need(step, &far_schema_row_alert, open.alert_id, ret_row);
}

/* ---- raise ---- */

/* Not more than the field holds, never half a character. */
static size_t cut(const char *text, size_t len)
{
    if (len > MESSAGE_MAX) {
        len = MESSAGE_MAX;
        while (len > 0 && ((uint8_t)text[len] & 0xc0) == 0x80) {
            len--;
        }
    }
    return len;
}

static int repeat(struct far_step *step, const struct far_row_alert *row, struct far_slice message)
{
    uint64_t last_ms = row->repeated_ms != 0 ? row->repeated_ms : row->raised_ms;
    if (step->time_ms < last_ms + FAR_ALERT_REPEAT_MS) {
        return 0;
    }
    struct far_ev_alert_repeated ev = {.alert_id = row->id, .message = message};
    return far_emit(step, &far_schema_ev_alert_repeated, &ev);
}

int far_alert_raise(struct far_step *step, const struct far_alert_cause *cause, const char *format, ...)
{
    struct far_row_alert_progress progress;
    struct far_row_alert row;
    char text[2 * MESSAGE_MAX];
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    if (!has) {
        return 0;
    }
    va_list args;
    va_start(args, format);
    int n = vsnprintf(text, sizeof text, format, args);
    va_end(args);
    size_t len = n < 0 ? 0 : (size_t)n < sizeof text ? (size_t)n : sizeof text - 1;
    struct far_slice message = far_slice(text, cut(text, len));
    int rc = far_alert_find(step, cause->kind, cause->object_id, &row);
    if (rc != FAR_NOT_FOUND) {
        return rc != 0 ? rc : repeat(step, &row, message);
    }
    FAR_TRY(load_progress(step, &progress));
    if (progress.open_count >= FAR_ALERTS_OPEN_MAX) {
        return 0;
    }
    struct far_ev_alert_raised ev = {.id = step->progress.next_id,
                                     .kind = cause->kind,
                                     .object_id = cause->object_id,
                                     .plan_id = cause->plan_id,
                                     .workload_id = cause->workload_id,
                                     .disk_id = cause->disk_id,
                                     .message = message};
    return far_emit(step, &far_schema_ev_alert_raised, &ev);
}

int far_evolve_alert_raised(struct far_step *step, const struct far_ev_alert_raised *ev)
{
    struct far_row_alert_progress progress;
    struct far_row_alert row, other;
    FAR_TRY(look(step, ev->id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, RAISE, ev->id, NULL));
    int rc = far_alert_find(step, ev->kind, ev->object_id, &other);
    if (rc != FAR_NOT_FOUND) {
        return rc != 0 ? rc : far_move_id(step, &far_table_alert, (size_t)other.state, RAISE, other.id, NULL);
    }
    row = (struct far_row_alert){.id = ev->id,
                                 .kind = ev->kind,
                                 .state = FAR_alert_state_raised,
                                 .object_id = ev->object_id,
                                 .plan_id = ev->plan_id,
                                 .workload_id = ev->workload_id,
                                 .disk_id = ev->disk_id,
                                 .message = ev->message,
                                 .count = 1,
                                 .raised_ms = step->time_ms};
    struct far_row_alert_open open = {.alert_id = ev->id};
    struct far_key key = open_key(ev->kind, ev->object_id);
    FAR_TRY(far_key_put(step, &far_schema_row_alert_open, &key, &open));
    FAR_TRY(load_progress(step, &progress));
    progress.open_count++;
    FAR_TRY(store_progress(step, &progress));
    far_id_used(step, ev->id);
    return far_row_put(step, &far_schema_row_alert, row.id, &row);
}

int far_evolve_alert_repeated(struct far_step *step, const struct far_ev_alert_repeated *ev)
{
    struct far_row_alert row;
    FAR_TRY(look(step, ev->alert_id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, REPEAT, ev->alert_id, NULL));
    row.count++;
    row.repeated_ms = step->time_ms;
    row.message = ev->message;
    return far_row_put(step, &far_schema_row_alert, row.id, &row);
}

/* ---- acknowledge ---- */

int far_decide_alert_ack(struct far_step *step, const struct far_cmd_alert_ack *cmd)
{
    struct far_row_alert row;
    FAR_TRY(look(step, cmd->alert_id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, ACK, cmd->alert_id, NULL));
    step->object_id = row.id;
    if (row.state == FAR_alert_state_acknowledged && cmd->note.len == 0) {
        return 0;
    }
    struct far_ev_alert_acknowledged ev = {.alert_id = row.id, .note = cmd->note};
    return far_emit(step, &far_schema_ev_alert_acknowledged, &ev);
}

int far_evolve_alert_acknowledged(struct far_step *step, const struct far_ev_alert_acknowledged *ev)
{
    struct far_row_alert row;
    FAR_TRY(look(step, ev->alert_id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, ACK, ev->alert_id, NULL));
    row.state = FAR_alert_state_acknowledged;
    row.acknowledged_ms = step->time_ms;
    row.acknowledged_by = step->actor;
    row.note = ev->note;
    return far_row_put(step, &far_schema_row_alert, row.id, &row);
}

/* ---- clear ---- */

static struct far_key cleared_key(const struct far_row_alert *row)
{
    return far_key_pair(&far_schema_row_alert_cleared, row->cleared_ms, row->id);
}

/* The one that was cleared first of those that are kept. */
static int oldest_cleared(struct far_step *step, uint64_t *ret_id)
{
    struct far_row_alert_cleared row;
    struct far_slice id;
    struct far_key key = far_key(&far_schema_row_alert_cleared);
    FAR_TRY(far_next(step, &far_schema_row_alert_cleared, &key, &id, &row));
    *ret_id = far_get_be64(id.data + 8);
    return 0;
}

int far_alert_clear(struct far_step *step, uint64_t kind, uint64_t object_id)
{
    struct far_row_alert_progress progress;
    struct far_row_alert row;
    bool has;
    FAR_TRY(far_level_has(step, 4, &has));
    int rc = has ? far_alert_find(step, kind, object_id, &row) : FAR_NOT_FOUND;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    struct far_ev_alert_cleared ev = {.alert_id = row.id};
    FAR_TRY(load_progress(step, &progress));
    FAR_TRY(progress.cleared_count >= FAR_ALERTS_CLEARED_MAX ? oldest_cleared(step, &ev.forget_id) : 0);
    return far_emit(step, &far_schema_ev_alert_cleared, &ev);
}

static int forget(struct far_step *step, uint64_t id, struct far_row_alert_progress *progress)
{
    struct far_row_alert row;
    FAR_TRY(look(step, id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, FORGET, id, NULL));
    struct far_key key = cleared_key(&row);
    FAR_TRY(far_key_del(step, &far_schema_row_alert_cleared, &key));
    progress->cleared_count--;
    return far_row_del(step, &far_schema_row_alert, id);
}

int far_evolve_alert_cleared(struct far_step *step, const struct far_ev_alert_cleared *ev)
{
    struct far_row_alert_progress progress;
    struct far_row_alert_cleared cleared;
    struct far_row_alert row;
    FAR_TRY(look(step, ev->alert_id, &row));
    FAR_TRY(far_move_id(step, &far_table_alert, (size_t)row.state, CLEAR, ev->alert_id, NULL));
    FAR_TRY(load_progress(step, &progress));
    FAR_TRY(ev->forget_id != 0 ? forget(step, ev->forget_id, &progress) : 0);
    struct far_key key = open_key(row.kind, row.object_id);
    FAR_TRY(far_key_del(step, &far_schema_row_alert_open, &key));
    row.state = FAR_alert_state_cleared;
    row.cleared_ms = step->time_ms;
    key = cleared_key(&row);
    FAR_TRY(far_key_put(step, &far_schema_row_alert_cleared, &key, &cleared));
    progress.open_count--;
    progress.cleared_count++;
    FAR_TRY(store_progress(step, &progress));
    return far_row_put(step, &far_schema_row_alert, row.id, &row);
}
