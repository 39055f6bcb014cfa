/* Founding: see founding.h. A loop of its own; a timer starts the next command, tries a busy one again under the same id,
 * and is the deadline. */
#include "server/founding.h"

#include "api/event_text.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/random.h"
#include "fsm/kv_overlay.h"

#include <stdlib.h>

enum { AGAIN_MS = 20, PROPOSE_TIMEOUT_MS = 5000, PATIENCE_MS = 30000, EVENT_ARENA_MAX = 1024 * 1024 };

struct founding {
    uv_loop_t loop;
    uv_timer_t timer;
    struct far_log *log;
    const struct far_founding_command *commands;
    size_t count;
    size_t next;
    uint64_t server_id;
    uint8_t command_id[16];
    uint64_t deadline_ms;
    bool waiting;
    bool caught_up; /* what was in the log is in the state */
    int rc;
    struct far_error err;
};

static void on_closed(void *arg)
{
    struct founding *f = arg;
    uv_close((uv_handle_t *)&f->timer, NULL);
}

static void finish(struct founding *f)
{
    uv_timer_stop(&f->timer);
    far_log_close(f->log, on_closed, f);
}

/* Later may work, under the same id. */
static bool is_passing(int klass)
{
    return klass == FAR_BUSY || klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT;
}

static void on_proposed(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct founding *f = arg;
    f->waiting = false;
    if (result->klass == 0) {
        f->next++;
        f->deadline_ms = far_clock_monotonic_ms() + PATIENCE_MS;
        far_random_bytes(f->command_id, sizeof f->command_id);
    } else if (!is_passing(result->klass)) {
        f->rc = far_fail(&f->err, result->klass, "%s", result->message);
        f->next = f->count;
    }
}

static void on_barrier(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct founding *f = arg;
    f->waiting = false;
    f->caught_up = result->klass == 0; /* else again, until the deadline */
}

static void on_timer(uv_timer_t *timer)
{
    struct founding *f = timer->data;
    if (f->waiting) {
        return;
    }
    if (f->next == f->count) {
        finish(f);
        return;
    }
    if (far_clock_monotonic_ms() > f->deadline_ms) {
        f->rc = far_fail(&f->err, FAR_TIMEOUT, "the new cluster's log does not come up");
        finish(f);
        return;
    }
    if (!f->caught_up) {
        f->waiting = true;
        far_log_barrier(f->log, PROPOSE_TIMEOUT_MS, on_barrier, f);
        return;
    }
    struct far_command command = {
        .kind = f->commands[f->next].kind,
        .actor = f->commands[f->next].actor != 0 ? f->commands[f->next].actor : far_actor(FAR_ACTOR_SERVER, f->server_id),
        .payload = far_buf_slice(&f->commands[f->next].payload),
    };
    memcpy(command.id, f->command_id, sizeof command.id);
    f->waiting = true;
    far_log_propose(f->log, &command, PROPOSE_TIMEOUT_MS, on_proposed, f);
}

static void on_commit(void *arg, uint64_t applied_index, uint64_t last_seq)
{
}

static void on_leader(void *arg, uint64_t leader_id, uint64_t term, bool is_self)
{
}

static int run(const struct far_log_config *log_config, struct founding *f)
{
    uv_loop_init(&f->loop);
    uv_timer_init(&f->loop, &f->timer);
    f->timer.data = f;
    f->rc = far_log_open(log_config, &f->loop, on_commit, on_leader, f, &f->log, &f->err);
    if (f->rc == 0) {
        f->deadline_ms = far_clock_monotonic_ms() + PATIENCE_MS;
        far_random_bytes(f->command_id, sizeof f->command_id);
        uv_timer_start(&f->timer, on_timer, 0, AGAIN_MS);
    } else {
        uv_close((uv_handle_t *)&f->timer, NULL);
    }
    uv_run(&f->loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&f->loop);
    FAR_ASSERT(busy == 0);
    return f->rc;
}

static int open_and_run(const char *dir, const struct far_server_config *config, bool is_new,
                        const struct far_founding_command *commands, size_t count, struct far_error *err)
{
    struct far_net *net = NULL;
    struct founding f = {.commands = commands, .count = count, .server_id = config->server_id};
    int rc = far_server_net_open(dir, config, &net, err);
    if (rc != 0) {
        return rc;
    }
    struct far_log_config log_config = far_server_log_config(dir, config, net);
    rc = is_new ? far_log_bootstrap(&log_config, err) : 0;
    if (rc == 0) {
        rc = run(&log_config, &f);
        if (rc != 0 && err != NULL) {
            *err = f.err;
        }
    }
    far_net_free(net);
    return rc;
}

int far_founding_run(const char *dir, const struct far_server_config *config,
                     const struct far_founding_command *commands, size_t count, struct far_error *err)
{
    return open_and_run(dir, config, true, commands, count, err);
}

int far_founding_continue(const char *dir, const struct far_server_config *config,
                          const struct far_founding_command *commands, size_t count, struct far_error *err)
{
    return open_and_run(dir, config, false, commands, count, err);
}

/* ---- a dry run ---- */

static int print_event(void *arg, const struct far_event *event, struct far_error *err)
{
    struct far_arena arena;
    (void)arg;
    (void)err;
    far_arena_init(&arena, EVENT_ARENA_MAX);
    json_t *json = far_event_as_json(event, &arena);
    char *data = json_dumps(json_object_get(json, "data"), JSON_COMPACT | JSON_ENCODE_ANY);
    printf("  %llu %s %s\n", (unsigned long long)event->seq, json_string_value(json_object_get(json, "kind")), data == NULL ? "" : data);
    free(data);
    json_decref(json);
    far_arena_done(&arena);
    return 0;
}

int far_founding_foresee(struct far_state *state, uint64_t next_index, uint64_t server_id,
                         const struct far_founding_command *commands, size_t count, struct far_error *err)
{
    struct far_state above = {.kv = far_kv_overlay_new(state->kv), .digest = state->digest};
    int rc = above.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for a dry run") : 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct far_result result = {0};
        struct far_command command = {
            .kind = commands[i].kind,
            .actor = commands[i].actor != 0 ? commands[i].actor : far_actor(FAR_ACTOR_SERVER, server_id),
            .proposed_at_ms = far_clock_wall_ms(),
            .payload = far_buf_slice(&commands[i].payload),
        };
        far_random_bytes(command.id, sizeof command.id); /* they are remembered, as they will be */
        rc = far_fsm_apply(&above, next_index + i, &command, print_event, NULL, &result, err);
        rc = rc == 0 && result.klass != 0 ? far_fail(err, result.klass, "%s", result.message) : rc;
    }
    far_kv_overlay_free(above.kv);
    return rc;
}
