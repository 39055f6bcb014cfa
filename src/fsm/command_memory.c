/* The memory of commands: a repeated one gets its first answer (DESIGN.md section 3.9).
 *
 * What an accepted command with an id was and did is its last event, `command_remembered`, so that it is part of the
 * fold. It lasts for 24 hours, and for the newest 100,000 of each actor: the actor's row counts them, command_order
 * keeps them in order of age, and the deadline of the oldest lets `tick` forget up to 256 at once. From level 3 on a command that finds
 * 256 too many makes the memory forget those first; before, each one forgot the oldest, and moved its deadline. */
#include "fsm/machines.h"

enum { FORGET_AT_ONCE_MAX = 256, AT_ONCE_LEVEL = 3 };

enum { UNKNOWN, KNOWN };
enum { SAME_BODY, OTHER_BODY };
static const char *const states[] = {"unknown", "remembered"};
static const char *const inputs[] = {"the same body", "another body"};
static const struct far_cell cells[2][2] = {
    [UNKNOWN] = {[SAME_BODY] = FAR_MOVE(KNOWN), [OTHER_BODY] = FAR_MOVE(KNOWN)},
    [KNOWN] = {[SAME_BODY] = FAR_MOVE(KNOWN),
               [OTHER_BODY] = FAR_REJECT(FAR_CONFLICT, "was used for another request; draw a new command id")},
};
const struct far_table far_table_command = FAR_TABLE("command", states, inputs, cells);

static struct far_slice id_slice(const uint8_t *id)
{
    return far_slice(id, 16);
}

static struct far_key command_key(uint64_t actor, struct far_slice id)
{
    struct far_key key = far_key_id(&far_schema_row_command, actor);
    far_key_bytes(&key, id);
    return key;
}

uint64_t far_memory_body_hash(const struct far_command *command)
{
    uint8_t head[4];
    far_put_le16(head, command->kind);
    far_put_le16(head + 2, command->version);
    return far_hash64_parts(far_slice(head, sizeof head), command->payload, far_slice(NULL, 0));
}

int far_memory_find(struct far_step *step, const struct far_command *command, struct far_row_command *ret_row)
{
    struct far_key key = command_key(command->actor, id_slice(command->id));
    int rc = far_key_find(step, &far_schema_row_command, &key, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_command){.seq = 0};
        return 0;
    }
    FAR_TRY(rc);
    char text[33];
    far_hex_encode(command->id, sizeof command->id, text);
    unsigned input = ret_row->body_hash == far_memory_body_hash(command) ? SAME_BODY : OTHER_BODY;
    return far_move(step, &far_table_command, KNOWN, input, far_slice_str(text), NULL);
}

static int actor_row(struct far_step *step, uint64_t actor, struct far_row_actor *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_actor, actor, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_actor){.count = 0};
        return 0;
    }
    return rc;
}

/* The first remembered command of an actor at or after *key; its seq is 0 if there is none. */
static int oldest(struct far_step *step, uint64_t actor, struct far_key *key, uint64_t *ret_seq,
                  struct far_row_command_order *ret_row)
{
    struct far_slice id;
    *ret_seq = 0;
    int rc = far_next(step, &far_schema_row_command_order, key, &id, ret_row);
    if (rc == 0 && id.len == 16 && far_get_be64(id.data) == actor) {
        *ret_seq = far_get_be64(id.data + 8);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The oldest are to be forgotten, but none that is newer than until_ms; at most so many at once. */
static int forget_some(struct far_step *step, uint64_t actor, uint64_t until_ms)
{
    struct far_ev_commands_forgotten ev = {.actor = actor};
    struct far_row_command_order order;
    struct far_key key = far_key_id(&far_schema_row_command_order, actor);
    for (unsigned i = 0; i < FORGET_AT_ONCE_MAX; i++) {
        uint64_t seq;
        FAR_TRY(oldest(step, actor, &key, &seq, &order));
        if (seq == 0 || order.time_ms > until_ms) {
            break;
        }
        ev.through_seq = seq;
    }
    return ev.through_seq != 0 ? far_emit(step, &far_schema_ev_commands_forgotten, &ev) : 0;
}

int far_memory_keep(struct far_step *step, const struct far_command *command)
{
    struct far_row_actor actor;
    struct far_row_command_order row;
    struct far_key key = far_key_id(&far_schema_row_command_order, command->actor);
    struct far_ev_command_remembered ev = {.body_hash = far_memory_body_hash(command),
                                           .object_id = step->object_id,
                                           .seq_first = step->first->event.seq};
    bool at_once = false;
    FAR_TRY(actor_row(step, command->actor, &actor));
    FAR_TRY(actor.count >= FAR_MEMORY_COMMANDS_MAX ? far_level_has(step, AT_ONCE_LEVEL, &at_once) : 0);
    if (at_once && actor.count >= FAR_MEMORY_COMMANDS_MAX + FORGET_AT_ONCE_MAX) {
        FAR_TRY(forget_some(step, command->actor, UINT64_MAX));
    } else if (!at_once && actor.count >= FAR_MEMORY_COMMANDS_MAX) {
        FAR_TRY(oldest(step, command->actor, &key, &ev.forget_seq, &row));
    }
    return far_emit(step, &far_schema_ev_command_remembered, &ev);
}

/* Forget the remembered command with this seq and row. */
static int forget(struct far_step *step, uint64_t actor, uint64_t seq, const struct far_row_command_order *order)
{
    struct far_key key = command_key(actor, order->command_id);
    FAR_TRY(far_key_del(step, &far_schema_row_command, &key));
    key = far_key_pair(&far_schema_row_command_order, actor, seq);
    return far_key_del(step, &far_schema_row_command_order, &key);
}

/* The deadline follows the oldest that is left. */
static int settle(struct far_step *step, uint64_t actor_id, struct far_row_actor *actor)
{
    uint64_t seq;
    struct far_row_command_order order;
    struct far_key key = far_key_id(&far_schema_row_command_order, actor_id);
    FAR_TRY(oldest(step, actor_id, &key, &seq, &order));
    uint64_t forget_ms = seq != 0 ? order.time_ms + FAR_MEMORY_MS_MAX : 0;
    FAR_TRY(far_deadline_move(step, FAR_deadline_kind_command_memory, actor_id, 0, actor->forget_ms, forget_ms));
    actor->forget_ms = forget_ms;
    return actor->count != 0 ? far_row_put(step, &far_schema_row_actor, actor_id, actor)
                             : far_row_del(step, &far_schema_row_actor, actor_id);
}

int far_evolve_command_remembered(struct far_step *step, const struct far_ev_command_remembered *ev)
{
    struct far_row_actor actor;
    struct far_row_command old, row = {.body_hash = ev->body_hash,
                                       .object_id = ev->object_id,
                                       .seq = ev->seq_first,
                                       .time_ms = step->time_ms,
                                       .seq_last = step->progress.next_seq - 1};
    struct far_row_command_order order = {.command_id = id_slice(step->command_id), .time_ms = step->time_ms};
    struct far_key key = command_key(step->actor, order.command_id);
    int rc = far_key_find(step, &far_schema_row_command, &key, &old);
    if (rc != FAR_NOT_FOUND) {
        return rc != 0 ? rc : far_reject(step, FAR_INTERNAL, "broken: a command is remembered twice");
    }
    FAR_TRY(actor_row(step, step->actor, &actor));
    FAR_TRY(far_key_put(step, &far_schema_row_command, &key, &row));
    key = far_key_pair(&far_schema_row_command_order, step->actor, row.seq_last);
    FAR_TRY(far_key_put(step, &far_schema_row_command_order, &key, &order));
    bool is_oldest_known = actor.count > 0 && ev->forget_seq == 0; /* and its deadline is set */
    actor.count++;
    if (is_oldest_known) {
        return far_row_put(step, &far_schema_row_actor, step->actor, &actor);
    }
    if (ev->forget_seq != 0) {
        struct far_row_command_order oldest_order;
        key = far_key_pair(&far_schema_row_command_order, step->actor, ev->forget_seq);
        FAR_TRY(far_key_need(step, &far_schema_row_command_order, &key, &oldest_order));
        FAR_TRY(forget(step, step->actor, ev->forget_seq, &oldest_order));
        actor.count--;
    }
    return settle(step, step->actor, &actor);
}

int far_memory_due(struct far_step *step, uint64_t actor)
{
    return step->time_ms < FAR_MEMORY_MS_MAX ? 0 : forget_some(step, actor, step->time_ms - FAR_MEMORY_MS_MAX);
}

int far_evolve_commands_forgotten(struct far_step *step, const struct far_ev_commands_forgotten *ev)
{
    struct far_row_actor actor;
    struct far_key key = far_key_id(&far_schema_row_command_order, ev->actor); /* goes on behind what was removed */
    FAR_TRY(far_row_need(step, &far_schema_row_actor, ev->actor, &actor));
    for (unsigned i = 0; i < FORGET_AT_ONCE_MAX && actor.count > 0; i++) {
        uint64_t seq;
        struct far_row_command_order order;
        FAR_TRY(oldest(step, ev->actor, &key, &seq, &order));
        if (seq == 0 || seq > ev->through_seq) {
            break;
        }
        FAR_TRY(forget(step, ev->actor, seq, &order));
        actor.count--;
    }
    return settle(step, ev->actor, &actor);
}
