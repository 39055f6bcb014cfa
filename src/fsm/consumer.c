/* Named consumers of the events: made at a place, moved by acknowledgements, removed. An acknowledgement that comes late, from
 * a consumer that was already further elsewhere, changes nothing: a place never moves back. */
#include "fsm/machines.h"

enum { ABSENT, PRESENT };
enum { CREATE, ACK, REMOVE };
static const char *const states[] = {"absent", "present"};
static const char *const inputs[] = {"consumer_create", "consumer_ack", "consumer_remove"};
static const struct far_cell cells[2][3] = {
    [ABSENT] = {[CREATE] = FAR_MOVE(PRESENT),
                [ACK] = FAR_REJECT(FAR_NOT_FOUND, "does not exist"),
                [REMOVE] = FAR_REJECT(FAR_NOT_FOUND, "does not exist")},
    [PRESENT] = {[CREATE] = FAR_REJECT(FAR_CONFLICT, "exists already; choose another name"),
                 [ACK] = FAR_MOVE(PRESENT),
                 [REMOVE] = FAR_MOVE(ABSENT)},
};
const struct far_table far_table_consumer = FAR_TABLE("consumer", states, inputs, cells);

enum { CONSUMERS_MAX = 1000 };

/* The state of the consumer with this name, and its row. */
static int look(struct far_step *step, struct far_slice name, unsigned *ret_state, struct far_row_consumer *ret_row)
{
    uint64_t id;
    int rc = far_name_find(step, &far_schema_row_consumer, name, &id);
    *ret_state = rc == 0 ? PRESENT : ABSENT;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    return far_row_need(step, &far_schema_row_consumer, id, ret_row);
}

static int check_place(struct far_step *step, struct far_slice name, uint64_t seq, struct far_slice head)
{
    if (seq >= step->progress.next_seq) {
        return far_reject(step, FAR_INVALID, "consumer '%.*s' cannot be at event %llu: the newest is %llu",
                          FAR_TEXT(name), FAR_LLU(seq), FAR_LLU(step->progress.next_seq - 1));
    }
    if (head.len != 0 && head.len != 8 && head.len != 32) {
        return far_reject(step, FAR_INVALID, "the head of consumer '%.*s' must have 8 or 32 bytes", FAR_TEXT(name));
    }
    return 0;
}

static int count(struct far_step *step, size_t *ret_count)
{
    struct far_row_consumer row;
    struct far_key key = far_key(&far_schema_row_consumer);
    int rc;
    *ret_count = 0;
    while ((rc = far_next(step, &far_schema_row_consumer, &key, NULL, &row)) == 0) {
        (*ret_count)++;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

int far_decide_consumer_create(struct far_step *step, const struct far_cmd_consumer_create *cmd)
{
    unsigned state;
    size_t there;
    struct far_row_consumer row;
    FAR_TRY(far_name_check(step, "consumer", cmd->name));
    FAR_TRY(look(step, cmd->name, &state, &row));
    FAR_TRY(far_move(step, &far_table_consumer, state, CREATE, cmd->name, NULL));
    uint64_t seq = cmd->from_end ? step->progress.next_seq - 1 : cmd->seq;
    struct far_slice head = cmd->from_end ? far_slice(NULL, 0) : cmd->head;
    FAR_TRY(check_place(step, cmd->name, seq, head));
    FAR_TRY(count(step, &there));
    if (there >= CONSUMERS_MAX) {
        return far_reject(step, FAR_LIMIT, "there are %d consumers already; remove one first", CONSUMERS_MAX);
    }
    struct far_ev_consumer_created ev = {
        .id = step->progress.next_id, .name = cmd->name, .seq = seq, .head = head};
    step->object_id = ev.id;
    return far_emit(step, &far_schema_ev_consumer_created, &ev);
}

int far_evolve_consumer_created(struct far_step *step, const struct far_ev_consumer_created *ev)
{
    unsigned state;
    struct far_row_consumer old;
    FAR_TRY(look(step, ev->name, &state, &old));
    FAR_TRY(far_move(step, &far_table_consumer, state, CREATE, ev->name, NULL));
    struct far_row_consumer row = {
        .id = ev->id, .name = ev->name, .seq = ev->seq, .head = ev->head, .created_ms = step->time_ms};
    FAR_TRY(far_row_put(step, &far_schema_row_consumer, row.id, &row));
    FAR_TRY(far_name_put(step, &far_schema_row_consumer, row.name, row.id));
    far_id_used(step, ev->id);
    return 0;
}

int far_decide_consumer_ack(struct far_step *step, const struct far_cmd_consumer_ack *cmd)
{
    unsigned state;
    struct far_row_consumer row;
    FAR_TRY(look(step, cmd->name, &state, &row));
    FAR_TRY(far_move(step, &far_table_consumer, state, ACK, cmd->name, NULL));
    FAR_TRY(check_place(step, cmd->name, cmd->seq, cmd->head));
    step->object_id = row.id;
    struct far_ev_consumer_acked ev = {.id = row.id, .seq = cmd->seq, .head = cmd->head};
    return cmd->seq <= row.seq ? 0 : far_emit(step, &far_schema_ev_consumer_acked, &ev);
}

/* The consumer that an event names; one that is not there is refused by the table. */
static int need(struct far_step *step, uint64_t id, size_t input, struct far_row_consumer *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_consumer, id, ret_row);
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    return far_move_id(step, &far_table_consumer, rc == 0 ? PRESENT : ABSENT, input, id, NULL);
}

int far_evolve_consumer_acked(struct far_step *step, const struct far_ev_consumer_acked *ev)
{
    struct far_row_consumer row;
    FAR_TRY(need(step, ev->id, ACK, &row));
    row.seq = ev->seq;
    row.head = ev->head;
    row.acked_ms = step->time_ms;
    return far_row_put(step, &far_schema_row_consumer, row.id, &row);
}

int far_decide_consumer_remove(struct far_step *step, const struct far_cmd_consumer_remove *cmd)
{
    unsigned state;
    struct far_row_consumer row;
    FAR_TRY(look(step, cmd->name, &state, &row));
    FAR_TRY(far_move(step, &far_table_consumer, state, REMOVE, cmd->name, NULL));
    struct far_ev_consumer_removed ev = {.id = row.id};
    step->object_id = row.id;
    return far_emit(step, &far_schema_ev_consumer_removed, &ev);
}

int far_evolve_consumer_removed(struct far_step *step, const struct far_ev_consumer_removed *ev)
{
    struct far_row_consumer row;
    FAR_TRY(need(step, ev->id, REMOVE, &row));
    FAR_TRY(far_name_del(step, &far_schema_row_consumer, row.name));
    return far_row_del(step, &far_schema_row_consumer, ev->id);
}
