/* Callers: whoever asks the cluster for something, again and again until it is answered. See sim.h.
 *
 * An answer may be lost, a leader may fall between entry and answer: then the outcome is unknown and the same command, by
 * its id, is asked for again, here or elsewhere. What it says does not change from one attempt to the next. */
#include "sim.h"

#include "base/assert.h"

#include <stdlib.h>

enum { HOPS = 3, TIMEOUT_MS = 3000 };

/* One attempt, as the server that was asked knows it. */
struct asked {
    struct sim_caller *caller;
    uint64_t attempt;
};

static void ask_due(struct sim *sim, void *object, uint64_t attempt, uint64_t unused, struct far_blob *blob);

static void ask_after(struct sim_caller *caller, uint64_t us)
{
    caller->attempt++;
    sim_after(caller->sim, us, ask_due, caller, caller->attempt, 0, NULL);
}

void sim_call_init(struct sim_caller *caller, struct sim *sim, sim_called_fn done, void *owner)
{
    caller->sim = sim;
    caller->done = done;
    caller->owner = owner;
    far_buf_init(&caller->payload, FAR_COMMAND_PAYLOAD_MAX);
}

void sim_call_done(struct sim_caller *caller)
{
    far_buf_done(&caller->payload);
}

static void begin(struct sim_caller *caller)
{
    FAR_ASSERT(!caller->is_active);
    caller->is_active = true;
    caller->hops = 0;
    caller->attempts = 0;
    ask_after(caller, 1 + sim_random(caller->sim, 200));
}

void sim_call(struct sim_caller *caller, const struct far_schema *schema, const void *object, uint64_t actor,
              uint64_t number)
{
    caller->is_barrier = false;
    caller->number = number;
    far_buf_reset(&caller->payload);
    FAR_ASSERT(far_schema_encode(schema, object, &caller->payload, NULL) == 0);
    caller->command = (struct far_command){
        .kind = schema->kind, .version = schema->version, .actor = actor, .payload = far_buf_slice(&caller->payload)};
    if (number != 0) {
        far_put_le64(caller->command.id, number);
        caller->command.id[15] = 1;
    }
    begin(caller);
}

void sim_call_barrier(struct sim_caller *caller)
{
    caller->is_barrier = true;
    caller->number = 0;
    begin(caller);
}

void sim_call_forget(struct sim_caller *caller)
{
    caller->is_active = false;
    caller->attempt++;
}

/* ---- answers ---- */

static bool may_repeat(int klass)
{
    return klass == FAR_BUSY || klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT;
}

struct answer {
    uint64_t index;
    uint64_t incarnation; /* of the cluster when it was given */
    struct far_result result;
};

static void answer_due(struct sim *sim, void *object, uint64_t attempt, uint64_t unused, struct far_blob *blob)
{
    struct sim_caller *caller = object;
    struct answer answer;
    memcpy(&answer, blob->data, sizeof answer);
    if (!caller->is_active || caller->attempt != attempt) {
        return;
    }
    if (answer.incarnation != sim->incarnation) {
        answer.result.klass = FAR_UNKNOWN_OUTCOME; /* its server was lost, and the answer with it */
    }
    if (may_repeat(answer.result.klass)) {
        caller->at = (unsigned)sim_random(sim, SIM_MACHINES);
        ask_after(caller, 20 * SIM_MS + sim_random(sim, 200 * SIM_MS));
        return;
    }
    caller->is_active = false;
    if (answer.result.klass == 0 && caller->number != 0) {
        sim_check_answered(sim->check, caller->number, answer.index);
        sim_faults_answered(sim);
    }
    caller->done(caller, &answer.result, answer.index);
}

static void on_done(void *arg, const struct far_result *result, uint64_t index)
{
    struct asked *asked = arg;
    struct sim_caller *caller = asked->caller;
    struct sim *sim = caller->sim;
    struct answer answer = {.index = index, .incarnation = sim->incarnation, .result = *result};
    if (caller->is_active && caller->attempt == asked->attempt && !(sim->trouble && sim_chance(sim, 5))) {
        sim_after(sim, 100 + sim_random(sim, sim->delay_us), answer_due, caller, asked->attempt, 0,
                  far_blob_new(&answer, sizeof answer));
    }
    free(asked);
}

/* ---- asking ---- */

static void give_up_due(struct sim *sim, void *object, uint64_t attempt, uint64_t unused, struct far_blob *blob)
{
    struct sim_caller *caller = object;
    if (caller->is_active && caller->attempt == attempt) {
        caller->at = (unsigned)sim_random(sim, SIM_MACHINES);
        ask_after(caller, 1);
    }
}

static void ask_due(struct sim *sim, void *object, uint64_t attempt, uint64_t unused, struct far_blob *blob)
{
    struct sim_caller *caller = object;
    if (!caller->is_active || caller->attempt != attempt) {
        return;
    }
    struct sim_server *server = &sim->servers[caller->at];
    struct asked *asked = NULL;
    if (server->alive && server->incarnation == sim->incarnation) {
        asked = malloc(sizeof *asked);
        FAR_ASSERT(asked != NULL);
        *asked = (struct asked){.caller = caller, .attempt = attempt};
    }
    if (asked == NULL ||
        !sim_propose(server, caller->is_barrier ? NULL : &caller->command, TIMEOUT_MS, on_done, asked)) {
        free(asked);
        caller->at = (unsigned)sim_random(sim, SIM_MACHINES);
        ask_after(caller, (caller->hops++ < HOPS ? 2 : 100) * SIM_MS);
        return;
    }
    caller->hops = 0;
    caller->attempts++;
    sim_after(sim, SIM_SECOND + sim_random(sim, 2 * SIM_SECOND), give_up_due, caller, attempt, 0, NULL);
    sim_server_pump(server);
}
