/* Members: see members.h. */
#include "server/members.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "server/leadership.h"
#include "server/removed.h"

#include <limits.h>
#include <stdlib.h>

enum {
    LOOK_MS = 20,       /* after a change */
    AGAIN_MS = 1000,    /* after a step that failed, and as a slow poll on the leader */
    LEAD_WANTED_TRIES_MAX = 20,      /* to hand over as an operator wants it, about one a second */
    PREFER_MS = 60 * 1000,      /* between two changes of leader that nobody asked for */
    HEARD_MS_MAX = 10 * 1000, /* what a server said of itself longer ago does not count */
    PROPOSE_TIMEOUT_MS = 8000,
    ARENA_MAX = 256 * 1024,
};

enum step_kind { STEP_NONE, STEP_ADD, STEP_PROMOTE, STEP_TRANSFER, STEP_REMOVE, STEP_REPORT, STEP_RAISE };

struct step {
    enum step_kind kind;
    uint64_t id;       /* of the server it is about */
    uint64_t role;     /* STEP_REPORT */
    uint64_t level;    /* STEP_RAISE */
    char address[256]; /* STEP_ADD */
};

struct far_members {
    struct far_log *log;
    uint64_t server_id;
    uv_timer_t timer;
    bool step_running;
    bool is_polling; /* the timer waits for nothing in particular: a change need not wait for it */
    struct step step;
    uint64_t failed_id; /* what the last step was about, if it failed: then another server's turn comes first */
    uint64_t led_since_ms;   /* monotonic; 0: this server does not lead */
    uint64_t preferred_ms;   /* when it last handed over of its own accord */
    uint64_t lead_wanted_ms; /* of the state: the wish that is counted in lead_tries */
    unsigned lead_tries;
    bool closing;
    bool timer_closed;
    void (*done)(void *arg);
    void *done_arg;
};

static const char *const step_names[] = {"nothing", "add",    "promote",                   "hand leadership to",
                                         "remove",  "report", "raise the feature level by"};

/* ---- what is left to do ---- */

static const struct far_log_member *find_member(const struct far_log_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == id) {
            return &status->members[i];
        }
    }
    return NULL;
}

/* Another voter to lead, the most up to date. */
static uint64_t find_successor(const struct far_log_status *status, uint64_t id)
{
    const struct far_log_member *best = NULL;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        if (m->id != id && m->role == FAR_server_role_voter && m->connected &&
            (best == NULL || m->match_index > best->match_index)) {
            best = m;
        }
    }
    return best == NULL ? 0 : best->id;
}

static struct step step_of(const struct far_row_server *row, const struct far_log_status *status)
{
    const struct far_log_member *member = find_member(status, row->id);
    struct step step = {.id = row->id};
    uint64_t wanted = row->wanted_role != 0 ? row->wanted_role : row->role;
    if (wanted == FAR_server_role_removed) {
        if (member == NULL) {
            step.kind = row->role == FAR_server_role_removed ? STEP_NONE : STEP_REPORT;
            step.role = FAR_server_role_removed;
        } else if (row->id == status->server_id) {
            step.id = find_successor(status, row->id);
            step.kind = step.id != 0 ? STEP_TRANSFER : STEP_NONE; /* nobody to hand over to yet */
        } else {
            step.kind = STEP_REMOVE;
        }
        return step;
    }
    if (member == NULL) {
        step.kind = row->peer_address.len < sizeof step.address ? STEP_ADD : STEP_NONE;
        memcpy(step.address, row->peer_address.data, step.kind == STEP_ADD ? row->peer_address.len : 0);
    } else if (wanted == FAR_server_role_voter && member->role == FAR_server_role_standby) {
        step.kind = member->connected ? STEP_PROMOTE : STEP_NONE; /* one that is down keeps nobody waiting */
    } else if ((uint64_t)member->role != row->role) {
        step.kind = STEP_REPORT;
        step.role = (uint64_t)member->role;
    }
    return step;
}

/* The level that every member supports, if it is higher than the cluster's; else 0. */
static uint64_t level_to_raise(const struct far_log_status *status)
{
    uint64_t level = UINT64_MAX;
    for (size_t i = 0; i < status->member_count; i++) {
        const struct far_log_member *m = &status->members[i];
        if (m->about_age_ms > HEARD_MS_MAX) {
            return 0; /* one of v0.1.0 says nothing */
        }
        level = m->about.feature_level < level ? m->about.feature_level : level;
    }
    return status->member_count > 0 && status->feature_level != 0 && level > status->feature_level ? level : 0;
}

/* Removals first: a voter that is gone keeps every other change from beginning. Among their like, the server after the one that
 * failed last: one that cannot be changed now holds up no other. */
static int rank_of(const struct far_members *members, const struct step *step)
{
    if (step->kind == STEP_NONE) {
        return INT_MAX;
    }
    bool is_removal = step->kind == STEP_REMOVE || step->kind == STEP_TRANSFER;
    return (is_removal ? 0 : 2) + (step->id <= members->failed_id ? 1 : 0);
}

static int find_change(struct far_members *members, struct far_state *state, const struct far_log_status *status,
                       struct far_arena *arena, struct step *ret_step, struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    struct step step = {.kind = STEP_NONE};
    int rc = 0;
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        struct step next = step_of(&row, status);
        if (rank_of(members, &next) < rank_of(members, &step)) {
            step = next;
        }
        far_arena_reset(arena);
    }
    *ret_step = step;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int find_witnesses(struct far_state *state, struct far_arena *arena, struct far_witnesses *ret_witnesses,
                          struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    *ret_witnesses = (struct far_witnesses){.count = 0};
    while ((rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        struct far_row_site site;
        struct far_key site_key = far_key(&far_schema_row_site);
        far_key_u64(&site_key, row.site_id);
        int found = far_state_get(state, &far_schema_row_site, &site_key, arena, &site, err);
        if (found == 0 && site.role == FAR_site_role_witness && ret_witnesses->count < FAR_LOG_MEMBERS_MAX) {
            ret_witnesses->ids[ret_witnesses->count++] = row.id;
        }
        if (found != 0 && found != FAR_NOT_FOUND) {
            return found;
        }
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Somebody else is to lead: as an operator wants it, or because it would be better. */
static int find_leader(struct far_members *members, struct far_state *state, const struct far_log_status *status,
                       struct far_arena *arena, struct step *ret_step, struct far_error *err)
{
    struct far_row_progress progress;
    struct far_witnesses witnesses;
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t now = far_clock_monotonic_ms();
    int rc = far_state_get(state, &far_schema_row_progress, &key, arena, &progress, err);
    rc = rc != 0 ? rc : find_witnesses(state, arena, &witnesses, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    if (progress.leader_wanted_ms != members->lead_wanted_ms) {
        members->lead_wanted_ms = progress.leader_wanted_ms;
        members->lead_tries = 0;
    }
    const struct far_log_member *wanted = find_member(status, progress.wanted_leader_id);
    if (wanted != NULL && wanted->role == FAR_server_role_voter && members->lead_tries < LEAD_WANTED_TRIES_MAX) {
        members->lead_tries++;
        *ret_step = (struct step){.kind = STEP_TRANSFER, .id = wanted->id};
        return 0;
    }
    bool is_due = members->preferred_ms == 0 || now - members->preferred_ms >= PREFER_MS ||
                  far_leadership_is_witness(&witnesses, status->server_id);
    uint64_t better = is_due && now - members->led_since_ms >= AGAIN_MS ? far_leadership_choose(status, &witnesses) : 0;
    if (better != 0) {
        members->preferred_ms = now;
        *ret_step = (struct step){.kind = STEP_TRANSFER, .id = better};
    }
    return 0;
}

static int find_step(struct far_members *members, const struct far_log_status *status, struct step *ret_step,
                     struct far_error *err)
{
    struct far_log_view view;
    struct far_arena arena;
    struct step step = {.kind = STEP_NONE}, change = {.kind = STEP_NONE};
    int rc = far_log_view_begin_now(members->log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = find_change(members, &view.state, status, &arena, &change, err);
    /* A change that fails again and again does not keep the rest from its turn. */
    bool is_free = change.kind == STEP_NONE || members->failed_id != 0;
    if (rc == 0 && is_free) {
        step.level = level_to_raise(status);
        step.id = status->server_id;
        step.kind = step.level != 0 ? STEP_RAISE : STEP_NONE;
    }
    if (rc == 0 && is_free && step.kind == STEP_NONE) {
        rc = find_leader(members, &view.state, status, &arena, &step, err);
    }
    step = step.kind == STEP_NONE ? change : step;
    far_arena_done(&arena);
    far_log_view_end(&view);
    *ret_step = step;
    return rc;
}

/* ---- on every server: who is removed hears it ---- */

static void dismiss_removed(struct far_members *members)
{
    struct far_log_view view;
    struct far_removed removed;
    struct far_error err = {0};
    int rc = far_log_view_begin_now(members->log, &view, &err);
    if (rc == 0) {
        rc = far_removed_look(&view.state, &removed, &err);
        far_log_view_end(&view);
    }
    for (size_t i = 0; rc == 0 && i < removed.count; i++) {
        if (removed.ids[i] != members->server_id) {
            far_log_dismiss(members->log, removed.ids[i], NULL, removed.ask);
        }
    }
    if (rc != 0) {
        far_logf(FAR_LEVEL_ERROR, "members", "cannot read the state: %s", err.message);
    }
}

/* ---- doing it ---- */

static void look(struct far_members *members);
static void watch_step(struct far_members *members);

static void try_done(struct far_members *members)
{
    if (members->closing && members->timer_closed && !members->step_running) {
        void (*done)(void *) = members->done;
        void *arg = members->done_arg;
        free(members);
        done(arg);
    }
}

static void on_timer(uv_timer_t *timer)
{
    struct far_members *members = timer->data;
    members->is_polling = false;
    if (members->step_running && !members->closing) {
        watch_step(members);
    } else {
        look(members);
    }
}

static void on_step_done(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct far_members *members = arg;
    members->step_running = false;
    if (members->closing) {
        try_done(members);
        return;
    }
    uint64_t failed_id = result->klass == 0 ? 0 : members->step.id;
    enum far_level level = failed_id == 0 ? FAR_LEVEL_INFO : failed_id == members->failed_id ? FAR_LEVEL_DEBUG : FAR_LEVEL_WARN;
    far_logf(level, "members", "%s server %llu: %s", step_names[members->step.kind], (unsigned long long)members->step.id,
             failed_id == 0 ? "done" : result->message);
    members->failed_id = failed_id;
    uv_timer_start(&members->timer, on_timer, result->klass == 0 ? LOOK_MS : AGAIN_MS, 0);
}

static void propose(struct far_members *members, const struct far_schema *schema, const void *object)
{
    struct far_buf payload;
    far_buf_init(&payload, 256);
    int rc = far_schema_encode(schema, object, &payload, NULL);
    FAR_ASSERT(rc == 0);
    struct far_command command = {.kind = schema->kind,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, members->server_id),
                                  .payload = far_buf_slice(&payload)};
    far_log_propose(members->log, &command, PROPOSE_TIMEOUT_MS, on_step_done, members);
    far_buf_done(&payload);
}

static void report_role(struct far_members *members, const struct step *step)
{
    struct far_cmd_server_role_changed changed = {.server_id = step->id, .role = step->role};
    propose(members, &far_schema_cmd_server_role_changed, &changed);
}

static void raise_level(struct far_members *members, const struct step *step)
{
    struct far_cmd_feature_level_raise raise = {.level = step->level};
    propose(members, &far_schema_cmd_feature_level_raise, &raise);
}

static void run_step(struct far_members *members, const struct step *step)
{
    members->step = *step;
    members->step_running = true;
    if (step->kind == STEP_ADD || step->kind == STEP_PROMOTE) {
        uv_timer_start(&members->timer, on_timer, AGAIN_MS, 0);
    }
    switch (step->kind) {
    case STEP_ADD:
        far_log_member_add(members->log, step->id, step->address, on_step_done, members);
        return;
    case STEP_PROMOTE:
        far_log_member_promote(members->log, step->id, on_step_done, members);
        return;
    case STEP_TRANSFER:
        far_log_transfer(members->log, step->id, on_step_done, members);
        return;
    case STEP_REMOVE:
        far_log_member_remove(members->log, step->id, on_step_done, members);
        return;
    case STEP_REPORT:
        report_role(members, step);
        return;
    case STEP_RAISE:
        raise_level(members, step);
        return;
    case STEP_NONE:
        break;
    }
    members->step_running = false;
    members->is_polling = true;
    uv_timer_start(&members->timer, on_timer, AGAIN_MS, 0);
}

/* A server is not let in, or promoted, when it is to be removed meanwhile. */
static bool is_unwanted(struct far_members *members, uint64_t id)
{
    struct far_log_view view;
    struct far_row_server row;
    struct far_arena arena;
    struct far_error err = {0};
    struct far_key key = far_key(&far_schema_row_server);
    if (far_log_view_begin_now(members->log, &view, &err) != 0) {
        return false;
    }
    far_arena_init(&arena, ARENA_MAX);
    far_key_u64(&key, id);
    int rc = far_state_get(&view.state, &far_schema_row_server, &key, &arena, &row, &err);
    bool is_removed = rc == 0 && row.wanted_role == FAR_server_role_removed;
    far_arena_done(&arena);
    far_log_view_end(&view);
    return is_removed;
}

static void watch_step(struct far_members *members)
{
    if (is_unwanted(members, members->step.id)) {
        far_log_member_give_up(members->log, members->step.id);
    } else {
        uv_timer_start(&members->timer, on_timer, AGAIN_MS, 0);
    }
}

static void look(struct far_members *members)
{
    struct far_log_status status;
    struct step step;
    struct far_error err = {0};
    if (members->closing || members->step_running) {
        return;
    }
    dismiss_removed(members);
    far_log_status(members->log, &status);
    if (!status.is_leader) {
        members->led_since_ms = 0;
        return;
    }
    members->led_since_ms = members->led_since_ms != 0 ? members->led_since_ms : far_clock_monotonic_ms();
    if (find_step(members, &status, &step, &err) != 0) {
        far_logf(FAR_LEVEL_ERROR, "members", "cannot read the state: %s", err.message);
        return;
    }
    run_step(members, &step);
}

/* ---- life ---- */

int far_members_new(struct far_log *log, uv_loop_t *loop, uint64_t server_id, struct far_members **ret_members,
                    struct far_error *err)
{
    struct far_members *members = calloc(1, sizeof *members);
    if (members == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the members");
    }
    members->log = log;
    members->server_id = server_id;
    int rc = uv_timer_init(loop, &members->timer);
    FAR_ASSERT(rc == 0);
    members->timer.data = members;
    *ret_members = members;
    return 0;
}

void far_members_changed(struct far_members *members)
{
    if (!members->closing && !members->step_running &&
        (members->is_polling || !uv_is_active((uv_handle_t *)&members->timer))) {
        members->is_polling = false;
        uv_timer_start(&members->timer, on_timer, LOOK_MS, 0);
    }
}

static void on_timer_closed(uv_handle_t *handle)
{
    struct far_members *members = handle->data;
    members->timer_closed = true;
    try_done(members);
}

void far_members_close(struct far_members *members, void (*done)(void *arg), void *arg)
{
    members->closing = true;
    members->done = done;
    members->done_arg = arg;
    uv_close((uv_handle_t *)&members->timer, on_timer_closed);
}
