/* A step: one command being decided, or one event being evolved. What the files of this folder share.
 *
 * decide functions read through the step, reject with far_reject(), and emit events, each of which is evolved before
 * far_emit() returns, so that what comes next sees it. All of this happens on an overlay that is dropped at a rejection.
 * A function returns 0; or not 0 with step->is_rejected set: the command is rejected (everywhere alike); or not 0
 * without: the store or the memory failed (only here), and the transaction must be given up. */
#ifndef FAR_FSM_STEP_H
#define FAR_FSM_STEP_H

#include "fsm/fsm.h"
#include "fsm/table.h"

struct far_candidates; /* task_assign.h */

/* Events of this step, oldest first. */
struct far_emitted {
    struct far_emitted *next;
    struct far_event event;
};

struct far_step {
    struct far_state *state;
    struct far_arena *arena; /* scratch: rows and events; kept until the step ends */
    struct far_error *err;   /* of store and memory */
    uint64_t index;
    uint64_t time_ms; /* cluster time of the step */
    uint64_t actor;
    const uint8_t *command_id; /* 16 bytes */
    struct far_row_progress progress; /* decide takes the next id from here */
    uint64_t lease_ms;
    uint64_t level; /* of the cluster; 0: not read yet */
    uint64_t object_id; /* of the answer */
    struct far_emitted *first;
    struct far_emitted *last;
    struct far_candidates *candidates; /* loaded when first asked for */
    bool goes_by_queue; /* what waits for a limit of its platform is looked at in its order */
    bool is_rejected;
    int reject_class;
    char reject_message[FAR_MESSAGE_MAX];
    char warning[FAR_MESSAGE_MAX]; /* told with an accepted command's answer */
};

/* Reject the command; returns klass. */
int far_reject(struct far_step *step, int klass, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* Tell whoever gave the command, though it is accepted; the first warning of a step stays. */
void far_warn(struct far_step *step, const char *format, ...) __attribute__((format(printf, 2, 3)));
/* Memory that lives as long as the step; NULL (with step->err filled) without memory. */
void *far_step_alloc(struct far_step *step, size_t size);
/* Copy bytes into memory of the step. */
int far_step_copy(struct far_step *step, struct far_slice bytes, struct far_slice *ret_copy);
/* Ask a table: 0 and the state after it in *ret_next (may be NULL), or the cell's rejection about the object's name. */
int far_move(struct far_step *step, const struct far_table *table, size_t state, size_t input, struct far_slice name,
             unsigned *ret_next);
/* The same for an object known by its number. */
int far_move_id(struct far_step *step, const struct far_table *table, size_t state, size_t input, uint64_t id,
                unsigned *ret_next);

/* Rows by id. find: FAR_NOT_FOUND without a rejection. need: a missing row is a broken invariant. */
int far_row_find(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret_row);
int far_row_need(struct far_step *step, const struct far_schema *table, uint64_t id, void *ret_row);
int far_row_put(struct far_step *step, const struct far_schema *table, uint64_t id, const void *row);
int far_row_del(struct far_step *step, const struct far_schema *table, uint64_t id);
/* The same with a number behind the id: disks, tasks, members. wide: 8 bytes instead of 4. */
static inline struct far_key far_key_id(const struct far_schema *table, uint64_t id)
{
    struct far_key key;
    key.len = 9;
    key.bytes[0] = (uint8_t)table->kind;
    far_put_be64(key.bytes + 1, id);
    return key;
}
static inline struct far_key far_key_part(const struct far_schema *table, uint64_t id, uint64_t part)
{
    struct far_key key = far_key_id(table, id);
    far_put_be32(key.bytes + key.len, (uint32_t)part);
    key.len += 4;
    return key;
}
static inline struct far_key far_key_pair(const struct far_schema *table, uint64_t id, uint64_t second_id)
{
    struct far_key key = far_key_id(table, id);
    far_put_be64(key.bytes + key.len, second_id);
    key.len += 8;
    return key;
}
int far_key_find(struct far_step *step, const struct far_schema *table, const struct far_key *key, void *ret_row);
int far_key_need(struct far_step *step, const struct far_schema *table, const struct far_key *key, void *ret_row);
int far_key_put(struct far_step *step, const struct far_schema *table, const struct far_key *key, const void *row);
/* Deleting what is not there is a broken invariant. */
int far_key_del(struct far_step *step, const struct far_schema *table, const struct far_key *key);
/* far_state_next() on the step. */
int far_next(struct far_step *step, const struct far_schema *table, struct far_key *key, struct far_slice *ret_id,
             void *ret_row);

/* Names: 1 to 63 of [a-z0-9._-], first a letter or digit. */
int far_name_check(struct far_step *step, const char *object, struct far_slice name);
/* 0 and the id, or FAR_NOT_FOUND without a rejection. */
int far_name_find(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t *ret_id);
/* A missing name rejects: "there is no site 'x'". */
int far_name_need(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t *ret_id);
int far_name_put(struct far_step *step, const struct far_schema *table, struct far_slice name, uint64_t id);
int far_name_del(struct far_step *step, const struct far_schema *table, struct far_slice name);

/* Encode, number, evolve and keep the event. */
int far_emit(struct far_step *step, const struct far_schema *schema, const void *event);
/* Evolve one event on the state: the only way it is ever written. */
int far_evolve(struct far_step *step, const struct far_event *event);
/* evolve uses this id: none below it is given out again. */
void far_id_used(struct far_step *step, uint64_t id);

/* "%.*s" of a slice. */
#define FAR_TEXT(slice) (int)(slice).len, (const char *)(slice).data
#define FAR_LLU(number) ((unsigned long long)(number))
/* Give a failure up to the caller. */
#define FAR_TRY(call)               \
    do {                            \
        int far_try_rc = (call);    \
        if (far_try_rc != 0) {      \
            return far_try_rc;      \
        }                           \
    } while (0)

#endif
