/* The dispatcher: see fsm.h.
 *
 * A command is decided on an overlay: every event is numbered, encoded, and evolved from its bytes, as any replay will
 * do it. A rejection, at whatever point, drops the overlay and so changes nothing. An accepted command's overlay is
 * flushed, then its events are handed out. Only a failing store or memory makes far_fsm_apply() itself fail. */
#include "fsm/kv_overlay.h"
#include "fsm/machines.h"
#include "fsm/rows.h"

#include <stdio.h>

enum { ARENA_MAX = 256 * 1024 * 1024 };

/* ---- the handlers, from events.def ---- */

typedef int (*handler_fn)(struct far_step *step, const void *object);

struct handler {
    const struct far_schema *schema;
    handler_fn call;
};

#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_MACHINE_cmd(name)                                          \
    static int decide_##name(struct far_step *step, const void *object) \
    {                                                                  \
        return far_decide_##name(step, object);                        \
    }
#define FAR_MACHINE_ev(name)                                           \
    static int evolve_##name(struct far_step *step, const void *object) \
    {                                                                  \
        return far_evolve_##name(step, object);                        \
    }
#define FAR_BEGIN(klass, name, kind, version) FAR_MACHINE_##klass(name)
#include "fsm/events.def"
#include "fsm/schema_undef.h"
#undef FAR_MACHINE_cmd
#undef FAR_MACHINE_ev

/* By kind: each has one version as yet. */
#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_MACHINE_cmd(name) [FAR_KIND_cmd_##name] = {.schema = &far_schema_cmd_##name, .call = decide_##name},
#define FAR_MACHINE_ev(name)
#define FAR_BEGIN(klass, name, kind, version) FAR_MACHINE_##klass(name)
static const struct handler commands[] = {
#include "fsm/events.def"
};
#include "fsm/schema_undef.h"
#undef FAR_MACHINE_cmd
#undef FAR_MACHINE_ev

#include "fsm/schema_nofields.h"
#define FAR_ENUM_BEGIN(name)
#define FAR_VALUE(owner, number, name)
#define FAR_ENUM_END(name)
#define FAR_MACHINE_cmd(name)
#define FAR_MACHINE_ev(name) [FAR_KIND_ev_##name] = {.schema = &far_schema_ev_##name, .call = evolve_##name},
#define FAR_BEGIN(klass, name, kind, version) FAR_MACHINE_##klass(name)
static const struct handler events[] = {
#include "fsm/events.def"
};
#include "fsm/schema_undef.h"
#undef FAR_MACHINE_cmd
#undef FAR_MACHINE_ev

static const struct handler *handler_of(enum far_schema_class klass, uint16_t kind, uint16_t version)
{
    const struct handler *all = klass == FAR_CLASS_cmd ? commands : events;
    size_t count = klass == FAR_CLASS_cmd ? sizeof commands / sizeof commands[0] : sizeof events / sizeof events[0];
    return kind < count && all[kind].schema != NULL && all[kind].schema->version == version ? &all[kind] : NULL;
}

/* ---- evolve ---- */

static int load_progress(struct far_step *step)
{
    struct far_key key = far_key(&far_schema_row_progress);
    int rc = far_key_find(step, &far_schema_row_progress, &key, &step->progress);
    if (rc == FAR_NOT_FOUND) {
        step->progress = (struct far_row_progress){.next_seq = 1, .next_id = 1};
        rc = 0;
    }
    return rc;
}

int far_evolve(struct far_step *step, const struct far_event *event)
{
    const struct handler *handler = handler_of(FAR_CLASS_ev, event->kind, event->version);
    if (handler == NULL || (event->flags & FAR_FLAGS_INCOMPATIBLE) != 0) {
        return far_reject(step, FAR_INTERNAL, "event %llu: kind %u version %u is unknown", FAR_LLU(event->seq),
                          event->kind, event->version);
    }
    FAR_TRY(load_progress(step));
    if (event->seq != step->progress.next_seq) {
        return far_reject(step, FAR_INTERNAL, "event %llu cannot follow event %llu", FAR_LLU(event->seq),
                          FAR_LLU(step->progress.next_seq - 1));
    }
    FAR_TRY(far_clock_move(step, event->time_ms));
    step->actor = event->actor;
    step->command_id = event->command_id;
    void *object = far_step_alloc(step, handler->schema->size);
    if (object == NULL) {
        return FAR_LIMIT;
    }
    struct far_error why = {0};
    int rc = far_schema_decode(handler->schema, event->payload, step->arena, object, &why);
    if (rc == FAR_INVALID) {
        return far_reject(step, FAR_INTERNAL, "event %llu: %s", FAR_LLU(event->seq), why.message);
    }
    if (rc != 0) {
        return far_fail(step->err, rc, "%s", why.message);
    }
    step->progress.next_seq = event->seq + 1;
    FAR_TRY(handler->call(step, object));
    struct far_key key = far_key(&far_schema_row_progress);
    return far_key_put(step, &far_schema_row_progress, &key, &step->progress);
}

/* A step's scratch: that of the rows, or one of its own in *own. */
static struct far_arena *begin_scratch(struct far_state *state, struct far_arena *own)
{
    far_arena_init(own, ARENA_MAX);
    return state->rows != NULL ? far_rows_arena(state->rows) : own;
}

static void end_scratch(struct far_state *state, struct far_arena *own)
{
    if (state->rows != NULL) {
        far_rows_settle(state->rows);
    }
    far_arena_done(own);
}

int far_fsm_evolve(struct far_state *state, const struct far_event *event, struct far_error *err)
{
    if (event->compacted_len != 0) {
        return far_fail(err, FAR_NOT_FOUND, "event %llu is compacted: states behind it cannot be told from it any more",
                        FAR_LLU(event->seq));
    }
    struct far_arena own;
    struct far_error cause = {0};
    struct far_step step = {.state = state, .arena = begin_scratch(state, &own), .err = &cause, .index = event->index};
    int rc = far_evolve(&step, event);
    if (rc != 0 && step.is_rejected) {
        rc = far_fail(err, FAR_CORRUPT, "event %llu: %s", FAR_LLU(event->seq), step.reject_message);
    } else if (rc != 0 && err != NULL) {
        *err = cause;
    }
    end_scratch(state, &own);
    return rc;
}

/* ---- emit ---- */

static int encode(struct far_step *step, const struct far_schema *schema, const void *object,
                  struct far_slice *ret_payload)
{
    struct far_buf buf;
    struct far_error why = {0};
    far_buf_init(&buf, 8 * FAR_EVENT_PAYLOAD_MAX);
    int rc = far_schema_encode(schema, object, &buf, &why);
    if (rc == FAR_INVALID || (rc == 0 && buf.len > FAR_EVENT_PAYLOAD_MAX)) {
        rc = far_reject(step, FAR_INTERNAL, "event '%s' is too big: %s", schema->name, why.message);
    } else if (rc != 0) {
        far_fail(step->err, rc, "%s", why.message);
    } else {
        rc = far_step_copy(step, far_buf_slice(&buf), ret_payload);
    }
    far_buf_done(&buf);
    return rc;
}

int far_emit(struct far_step *step, const struct far_schema *schema, const void *object)
{
    struct far_emitted *emitted = far_step_alloc(step, sizeof *emitted);
    if (emitted == NULL) {
        return FAR_LIMIT;
    }
    FAR_TRY(far_level_emit(step, schema, object));
    emitted->event = (struct far_event){
        .seq = step->progress.next_seq,
        .index = step->index,
        .kind = schema->kind,
        .version = schema->version,
        .actor = step->actor,
        .time_ms = step->time_ms,
    };
    memcpy(emitted->event.command_id, step->command_id, sizeof emitted->event.command_id);
    FAR_TRY(encode(step, schema, object, &emitted->event.payload));
    const uint8_t *command_id = step->command_id;
    FAR_TRY(far_evolve(step, &emitted->event));
    step->command_id = command_id;
    if (step->last != NULL) {
        step->last->next = emitted;
    } else {
        step->first = emitted;
    }
    step->last = emitted;
    return 0;
}

/* ---- decide ---- */

static bool is_remembered(const struct far_command *command)
{
    static const uint8_t zero[16];
    return memcmp(command->id, zero, sizeof zero) != 0;
}

static int decide(struct far_step *step, const struct handler *handler, const struct far_command *command)
{
    void *object = far_step_alloc(step, handler->schema->size);
    if (object == NULL) {
        return FAR_LIMIT;
    }
    struct far_error why = {0};
    int rc = far_schema_decode(handler->schema, command->payload, step->arena, object, &why);
    if (rc == FAR_INVALID) {
        return far_reject(step, FAR_INVALID, "%s: %s", handler->schema->name, why.message);
    }
    if (rc != 0) {
        return far_fail(step->err, rc, "%s", why.message);
    }
    FAR_TRY(far_level_admit(step, handler->schema, object));
    FAR_TRY(handler->call(step, object));
    return step->first != NULL && is_remembered(command) ? far_memory_keep(step, command) : 0;
}

/* Fills ret_result of an accepted command. */
static int run(struct far_step *step, const struct far_command *command, struct far_result *ret_result)
{
    const struct handler *handler = handler_of(FAR_CLASS_cmd, command->kind, command->version);
    if (handler == NULL) {
        return far_reject(step, FAR_INVALID, "command kind %u version %u is unknown", command->kind, command->version);
    }
    if ((command->flags & FAR_FLAGS_INCOMPATIBLE) != 0) {
        return far_reject(step, FAR_INVALID, "command %s has unknown flags", handler->schema->name);
    }
    if (command->payload.len > FAR_COMMAND_PAYLOAD_MAX) {
        return far_reject(step, FAR_LIMIT, "command %s is larger than %d bytes", handler->schema->name,
                          FAR_COMMAND_PAYLOAD_MAX);
    }
    FAR_TRY(load_progress(step));
    step->time_ms = command->proposed_at_ms > step->progress.time_ms ? command->proposed_at_ms
                                                                     : step->progress.time_ms;
    if (is_remembered(command)) {
        struct far_row_command known;
        FAR_TRY(far_memory_find(step, command, &known));
        if (known.seq != 0) {
            *ret_result = (struct far_result){.repeated = true,
                                              .object_id = known.object_id,
                                              .seq_first = known.seq,
                                              .seq_last = known.seq_last};
            return 0;
        }
    }
    FAR_TRY(command->kind != FAR_KIND_cmd_cluster_init ? far_cluster_need(step) : 0);
    FAR_TRY(decide(step, handler, command));
    *ret_result = (struct far_result){
        .object_id = step->object_id,
        .seq_first = step->first != NULL ? step->first->event.seq : 0,
        .seq_last = step->last != NULL ? step->last->event.seq : 0,
    };
    memcpy(ret_result->message, step->warning, sizeof ret_result->message);
    return 0;
}

static int hand_out(const struct far_step *step, far_event_fn emit, void *arg, struct far_error *err)
{
    for (const struct far_emitted *e = step->first; e != NULL && emit != NULL; e = e->next) {
        FAR_TRY(emit(arg, &e->event, err));
    }
    return 0;
}

static void fill_rejection(const struct far_step *step, struct far_result *ret_result)
{
    *ret_result = (struct far_result){.klass = step->reject_class};
    snprintf(ret_result->message, sizeof ret_result->message, "%s", step->reject_message);
}

/* Run it and, unless it is a try, leave what it did on the map: decided on an overlay, or where rows are held in their journal.
 * step->is_rejected says whether it was rejected; then, as with a failure, nothing is left. */
static int run_on_overlay(struct far_step *step, const struct far_command *command, bool is_dry, struct far_result *result)
{
    struct far_state *state = step->state;
    struct far_state above = {.kv = far_kv_overlay_new(state->kv), .digest = state->digest};
    if (above.kv == NULL) {
        return far_fail(step->err, FAR_LIMIT, "out of memory");
    }
    step->state = &above;
    int rc = run(step, command, result);
    if (rc == 0 && !is_dry) {
        rc = far_kv_overlay_flush(above.kv, step->err);
        state->digest = rc == 0 ? above.digest : state->digest;
    }
    step->state = state;
    far_kv_overlay_free(above.kv);
    return rc;
}

static int run_on_rows(struct far_step *step, const struct far_command *command, bool is_dry, struct far_result *result)
{
    struct far_rows *rows = step->state->rows;
    size_t mark = far_rows_mark(rows);
    int rc = run(step, command, result);
    if (rc != 0 || is_dry) {
        far_rows_undo(rows, mark);
    }
    return rc;
}

static int apply(struct far_state *state, uint64_t index, const struct far_command *command, bool is_dry,
                 far_event_fn emit, void *arg, struct far_result *ret_result, struct far_error *err)
{
    struct far_arena own;
    struct far_error cause = {0};
    struct far_step step = {.state = state,
                            .arena = begin_scratch(state, &own),
                            .err = &cause,
                            .index = index,
                            .actor = command->actor,
                            .command_id = command->id};
    struct far_result result = {0};
    int rc = state->rows != NULL ? run_on_rows(&step, command, is_dry, &result)
                                 : run_on_overlay(&step, command, is_dry, &result);
    if (rc != 0 && step.is_rejected) {
        fill_rejection(&step, &result);
        rc = 0;
    } else if (rc == 0 && !is_dry) {
        rc = hand_out(&step, emit, arg, &cause);
    }
    if (rc == 0) {
        *ret_result = result;
    } else if (err != NULL) {
        *err = cause;
    }
    end_scratch(state, &own);
    return rc;
}

int far_fsm_apply(struct far_state *state, uint64_t index, const struct far_command *command, far_event_fn emit,
                  void *arg, struct far_result *ret_result, struct far_error *err)
{
    return apply(state, index, command, false, emit, arg, ret_result, err);
}

int far_fsm_check(struct far_state *state, const struct far_command *command, struct far_result *ret_result,
                  struct far_error *err)
{
    return apply(state, 0, command, true, NULL, NULL, ret_result, err);
}
