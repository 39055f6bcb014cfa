/* The head signer: see head_signer.h. One look at the state a tenth of a second after a change; at most one proposal under way. */
#include "server/head_signer.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "log/head_duty.h"

#include <stdlib.h>

enum {
    LOOK_MS = 100,   /* after a change */
    AGAIN_MS = 1000, /* after a proposal that failed */
    PROPOSE_TIMEOUT_MS = 8000,
};

struct far_head_signer {
    struct far_log *log;
    struct far_head_duty duty;
    uv_timer_t timer;
    bool will_look; /* the timer stands at the next look after a change */
    bool proposal_runs;
    bool closing;
    bool timer_closed;
    void (*done)(void *arg);
    void *done_arg;
};

/* ---- proposing ---- */

static void look(struct far_head_signer *signer);

static void on_timer(uv_timer_t *timer)
{
    struct far_head_signer *signer = timer->data;
    signer->will_look = false;
    look(signer);
}

static void look_in(struct far_head_signer *signer, uint64_t ms)
{
    if (!signer->closing) {
        signer->will_look = true;
        uv_timer_start(&signer->timer, on_timer, ms, 0);
    }
}

static void try_done(struct far_head_signer *signer)
{
    if (signer->closing && signer->timer_closed && !signer->proposal_runs) {
        void (*done)(void *) = signer->done;
        void *arg = signer->done_arg;
        explicit_bzero(signer->duty.private_key, sizeof signer->duty.private_key);
        free(signer);
        done(arg);
    }
}

static void on_proposed(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_head_signer *signer = arg;
    signer->proposal_runs = false;
    if (signer->closing) {
        try_done(signer);
        return;
    }
    if (result->klass != 0) {
        far_logf(FAR_LEVEL_DEBUG, "heads", "not now: %s", result->message);
    }
    look_in(signer, result->klass == 0 ? LOOK_MS : AGAIN_MS);
}

static void propose(struct far_head_signer *signer, const struct far_schema *schema, struct far_slice payload)
{
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_SERVER, signer->duty.server_id),
                                  .payload = payload};
    signer->proposal_runs = true;
    far_log_propose(signer->log, &command, PROPOSE_TIMEOUT_MS, on_proposed, signer);
}

/* ---- the look ---- */

static int read_event(void *arg, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                      uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    return far_log_view_event(arg, seq, arena, ret_event, ret_head, err);
}

static int look_at_view(struct far_head_signer *signer, bool is_leader, struct far_head_todo *todo, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_log_view_begin_now(signer->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    struct far_head_source source = {.state = &view.state,
                                     .first_seq = view.first_seq,
                                     .last_seq = view.last_seq,
                                     .head = view.head,
                                     .base_head = view.base_head,
                                     .event = read_event,
                                     .arg = &view};
    rc = far_head_duty_look(&signer->duty, &source, far_clock_monotonic_ms(), is_leader, todo, err);
    far_log_view_end(&view);
    return rc;
}

static void look(struct far_head_signer *signer)
{
    struct far_log_status status;
    struct far_error err = {0};
    struct far_buf payload;
    struct far_head_todo todo = {.step = FAR_HEAD_REST, .payload = &payload};
    far_log_status(signer->log, &status);
    if (signer->closing || signer->proposal_runs || status.leader_id == 0) {
        return;
    }
    far_buf_init(&payload, 4096);
    if (look_at_view(signer, status.is_leader, &todo, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "heads", "%s", err.message);
    } else if (todo.step == FAR_HEAD_PROPOSE) {
        propose(signer, todo.schema, far_buf_slice(&payload));
    } else if (todo.step == FAR_HEAD_WAIT) {
        look_in(signer, todo.wait_ms);
        signer->will_look = false; /* a change may come before */
    } else if (todo.step == FAR_HEAD_STOP) {
        far_log_stop_server("heads", todo.why);
    }
    far_buf_done(&payload);
}

/* ---- life ---- */

int far_head_signer_new(const struct far_head_signer_config *config, uv_loop_t *loop, struct far_head_signer **ret_signer,
                        struct far_error *err)
{
    struct far_head_signer *signer = calloc(1, sizeof *signer);
    if (signer == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for signing heads");
    }
    signer->log = config->log;
    signer->duty = (struct far_head_duty){
        .server_id = config->server_id, .events_max = config->events_max, .wait_ms = config->wait_ms};
    memcpy(signer->duty.private_key, config->private_key, sizeof signer->duty.private_key);
    int rc = far_sign_public(config->private_key, signer->duty.public_key, err);
    if (rc != 0) {
        free(signer);
        return rc;
    }
    rc = uv_timer_init(loop, &signer->timer);
    FAR_ASSERT(rc == 0);
    signer->timer.data = signer;
    *ret_signer = signer;
    return 0;
}

void far_head_signer_changed(struct far_head_signer *signer)
{
    if (!signer->will_look) {
        look_in(signer, LOOK_MS);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_head_signer *signer = handle->data;
    signer->timer_closed = true;
    try_done(signer);
}

void far_head_signer_close(struct far_head_signer *signer, void (*done)(void *arg), void *arg)
{
    signer->closing = true;
    signer->done = done;
    signer->done_arg = arg;
    uv_close((uv_handle_t *)&signer->timer, on_timer_closed);
}
