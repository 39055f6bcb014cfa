/* The head signer: see head_signer.h. One look at the state a tenth of a second after a change; at most one proposal under way. */
#include "server/head_signer.h"

#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "fsm/query.h"
#include "log/signed_head.h"
#include "net/sign.h"

#include <stdio.h>
#include <stdlib.h>

enum {
    LEVEL = 2, /* the feature level since which there are heads */
    LOOK_MS = 100,   /* after a change */
    AGAIN_MS = 1000, /* after a proposal that failed */
    PROPOSE_TIMEOUT_MS = 8000,
    ARENA_MAX = 1024 * 1024, /* an event, and rows */
    EVENTS_MAX = 1024,
    WAIT_MS = 60 * 1000,
};

struct far_head_signer {
    struct far_head_signer_config config;
    uint8_t public_key[FAR_SIGN_KEY_BYTES];
    uv_timer_t timer;
    bool will_look; /* the timer stands at the next look after a change */
    bool proposal_runs;
    bool closing;
    bool timer_closed;
    void (*done)(void *arg);
    void *done_arg;

    uint64_t settled_seq;  /* this server is known to agree with a majority up to this head */
    uint64_t unknown_seq;  /* of a head that it could not judge: said once */
    uint64_t quiet_seq;    /* nothing between the last head and this event says anything */
    uint64_t news_seq;     /* the first event behind the last head that does; 0 = none seen */
    uint64_t news_at_ms;   /* monotonic: when it was seen */
};

/* What one look sees; slices live as long as its view and arena. */
struct look {
    struct far_log_view view;
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_row_head_progress progress;
    struct far_row_head newest; /* seq 0: none */
};

/* ---- reading ---- */

static int get(struct look *look, const struct far_schema *table, const struct far_key *key, void *ret_row,
               struct far_error *err)
{
    int rc = far_state_get(&look->view.state, table, key, &look->arena, ret_row, err);
    if (rc == FAR_NOT_FOUND) {
        memset(ret_row, 0, table->size);
        return 0;
    }
    return rc;
}

static int get_head(struct look *look, uint64_t seq, struct far_row_head *ret_head, struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_head);
    far_key_u64(&key, seq);
    return get(look, &far_schema_row_head, &key, ret_head, err);
}

static void look_end(struct look *look)
{
    far_arena_done(&look->arena);
    far_log_view_end(&look->view);
}

static int look_begin(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    struct far_key cluster = far_key(&far_schema_row_cluster), progress = far_key(&far_schema_row_head_progress);
    int rc = far_log_view_begin_now(signer->config.log, &look->view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&look->arena, ARENA_MAX);
    rc = get(look, &far_schema_row_cluster, &cluster, &look->cluster, err);
    rc = rc != 0 ? rc : get(look, &far_schema_row_head_progress, &progress, &look->progress, err);
    rc = rc != 0 ? rc : get_head(look, look->progress.proposed_seq, &look->newest, err);
    if (rc != 0) {
        look_end(look);
    }
    return rc;
}

/* The chain head behind this event as this server has it. FAR_NOT_FOUND: its history does not reach so far back. */
static int own_head(struct look *look, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_event event;
    if (seq == look->view.last_seq || seq + 1 == look->view.first_seq) {
        memcpy(ret_head, seq == look->view.last_seq ? look->view.head : look->view.base_head, FAR_HEAD_SIZE);
        return 0;
    }
    return far_log_view_event(&look->view, seq, &look->arena, &event, ret_head, err);
}

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
        explicit_bzero(signer->config.private_key, sizeof signer->config.private_key);
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

static void propose(struct far_head_signer *signer, const struct far_schema *schema, const void *object)
{
    struct far_buf payload;
    far_buf_init(&payload, 4096);
    int rc = far_schema_encode(schema, object, &payload, NULL);
    FAR_ASSERT(rc == 0);
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_SERVER, signer->config.server_id),
                                  .payload = far_buf_slice(&payload)};
    signer->proposal_runs = true;
    far_log_propose(signer->config.log, &command, PROPOSE_TIMEOUT_MS, on_proposed, signer);
    far_buf_done(&payload);
}

/* ---- this server's key ---- */

/* The key that a server has in use, empty: none. */
static int key_of(struct look *look, uint64_t server_id, struct far_slice *ret_key, struct far_error *err)
{
    struct far_row_server_key row;
    struct far_key key = far_key(&far_schema_row_server_key);
    int rc = 0;
    far_key_u64(&key, server_id);
    *ret_key = far_slice(NULL, 0);
    while ((rc = far_state_next(&look->view.state, &far_schema_row_server_key, &key, &look->arena, NULL, &row, err)) == 0 &&
           row.server_id == server_id) {
        *ret_key = row.until_seq == 0 ? row.public_key : *ret_key;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Is there something to say about the key? Proposes it then. */
static int keep_key(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    struct far_row_server self;
    struct far_slice registered, own = far_slice(signer->public_key, sizeof signer->public_key);
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, signer->config.server_id);
    int rc = get(look, &far_schema_row_server, &key, &self, err);
    rc = rc != 0 ? rc : key_of(look, signer->config.server_id, &registered, err);
    if (rc == 0 && self.id != 0 && self.role != FAR_server_role_removed && !far_slice_equal(registered, own)) {
        struct far_cmd_server_key_set set = {.server_id = self.id, .public_key = own};
        propose(signer, &far_schema_cmd_server_key_set, &set);
    }
    return rc;
}

/* ---- signing and refusing ---- */

static bool is_own_key(const struct far_head_signer *signer, const struct far_row_head *head)
{
    return far_slice_equal(far_head_voter_key(&head->voters, signer->config.server_id),
                           far_slice(signer->public_key, sizeof signer->public_key));
}

static int sign(struct far_head_signer *signer, struct look *look, const struct far_row_head *head, struct far_error *err)
{
    uint8_t message[FAR_HEAD_MESSAGE_MAX], signature[FAR_SIGNATURE_BYTES];
    size_t len;
    int rc = far_head_message(look->cluster.uuid, head->incarnation_epoch, head->seq, head->head, &head->voters, message, &len,
                              err);
    rc = rc != 0 ? rc : far_sign(signer->config.private_key, far_slice(message, len), signature, err);
    if (rc == 0) {
        struct far_cmd_head_sign command = {.server_id = signer->config.server_id,
                                            .seq = head->seq,
                                            .signature = far_slice(signature, sizeof signature)};
        propose(signer, &far_schema_cmd_head_sign, &command);
    }
    return rc;
}

static void refuse(struct far_head_signer *signer, const struct far_row_head *head, const uint8_t own[FAR_HEAD_SIZE])
{
    struct far_cmd_head_refuse command = {
        .server_id = signer->config.server_id, .seq = head->seq, .head = far_slice(own, FAR_HEAD_SIZE)};
    far_logf(FAR_LEVEL_ERROR, "heads", "the head behind event %llu that was proposed is not that of this server: it is not signed",
             (unsigned long long)head->seq);
    propose(signer, &far_schema_cmd_head_refuse, &command);
}

/* The newest head, if this server counts at it and has not said anything yet. */
static int answer(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    const struct far_row_head *head = &look->newest;
    struct far_row_head_signature said;
    struct far_key key = far_key(&far_schema_row_head_signature);
    uint8_t own[FAR_HEAD_SIZE];
    far_key_u64(&key, head->seq);
    far_key_u64(&key, signer->config.server_id);
    if (head->seq == 0 || head->state == FAR_head_state_refused || !is_own_key(signer, head)) {
        return 0;
    }
    int rc = get(look, &far_schema_row_head_signature, &key, &said, err);
    if (rc != 0 || said.seq != 0) {
        return rc;
    }
    rc = own_head(look, head->seq, own, err);
    if (rc == FAR_NOT_FOUND || rc == FAR_CORRUPT) {
        if (signer->unknown_seq != head->seq) {
            far_logf(rc == FAR_CORRUPT ? FAR_LEVEL_ERROR : FAR_LEVEL_INFO, "heads", "the head behind event %llu is not signed: %s",
                     (unsigned long long)head->seq, err->message);
        }
        signer->unknown_seq = head->seq;
        return 0;
    }
    if (rc == 0 && far_slice_equal(head->head, far_slice(own, sizeof own))) {
        return sign(signer, look, head, err);
    }
    if (rc == 0) {
        refuse(signer, head, own);
    }
    return rc;
}

/* ---- against a majority ---- */

static void stop_server(uint64_t seq, const char *what)
{
    char why[FAR_MESSAGE_MAX];
    snprintf(why, sizeof why, "its history up to event %llu is not the one that a majority %s; it must rejoin as a new server "
                              "(log verify says more)", (unsigned long long)seq, what);
    far_log_stop_server("heads", why);
}

/* How many refused this head for one and the same other: the most of any. */
static int count_refusals(struct look *look, uint64_t seq, size_t *ret_most, struct far_error *err)
{
    struct far_row_head_signature rows[FAR_HEAD_VOTERS_MAX];
    struct far_key key = far_key(&far_schema_row_head_signature);
    size_t count = 0;
    int rc = 0;
    far_key_u64(&key, seq);
    while (rc == 0 && count < FAR_HEAD_VOTERS_MAX) {
        rc = far_state_next(&look->view.state, &far_schema_row_head_signature, &key, &look->arena, NULL, &rows[count], err);
        if (rc == 0 && rows[count].seq != seq) {
            break;
        }
        count += rc == 0;
    }
    *ret_most = 0;
    for (size_t i = 0; i < count; i++) {
        size_t same = 0;
        for (size_t j = 0; j < count; j++) {
            same += rows[j].signature.len == 0 && far_slice_equal(rows[i].head, rows[j].head);
        }
        *ret_most = rows[i].signature.len == 0 && same > *ret_most ? same : *ret_most;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int judge(struct far_head_signer *signer, struct look *look, const struct far_row_head *head, struct far_error *err)
{
    uint8_t own[FAR_HEAD_SIZE];
    size_t refused = 0;
    int rc = head->state == FAR_head_state_proposed ? FAR_NOT_FOUND : own_head(look, head->seq, own, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND || rc == FAR_CORRUPT ? 0 : rc;
    }
    bool same = far_slice_equal(head->head, far_slice(own, sizeof own));
    if (head->state == FAR_head_state_signed && !same) {
        stop_server(head->seq, "has signed");
    }
    if (head->state == FAR_head_state_refused && same) {
        rc = count_refusals(look, head->seq, &refused, err);
        if (rc == 0 && refused >= head->voters.count / 2 + 1) {
            stop_server(head->seq, "holds");
        }
    }
    return rc;
}

/* The newest signed head, and the newest of all, if they are settled and were not judged before. */
static int judge_newest(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    struct far_row_head last;
    int rc = 0;
    if (look->progress.signed_seq > signer->settled_seq) {
        rc = get_head(look, look->progress.signed_seq, &last, err);
        rc = rc != 0 ? rc : judge(signer, look, &last, err);
        signer->settled_seq = rc == 0 ? look->progress.signed_seq : signer->settled_seq;
    }
    return rc == 0 && look->newest.state == FAR_head_state_refused ? judge(signer, look, &look->newest, err) : rc;
}

/* ---- the leader proposes ---- */

/* Events that heads and acknowledgements make by themselves are no reason for another head. */
static bool is_news(uint16_t kind)
{
    return kind != FAR_KIND_ev_head_proposed && kind != FAR_KIND_ev_head_signed && kind != FAR_KIND_ev_head_refused &&
           kind != FAR_KIND_ev_consumer_acked;
}

static int look_for_news(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    uint64_t covered = look->newest.seq;
    int rc = 0;
    if (signer->quiet_seq < covered || signer->news_seq <= covered) {
        signer->quiet_seq = signer->quiet_seq < covered ? covered : signer->quiet_seq;
        signer->news_seq = 0;
    }
    if (signer->quiet_seq + 1 < look->view.first_seq) {
        signer->quiet_seq = look->view.first_seq - 1;
    }
    while (rc == 0 && signer->news_seq == 0 && signer->quiet_seq < look->view.last_seq) {
        struct far_event event;
        struct far_arena arena;
        far_arena_init(&arena, ARENA_MAX);
        rc = far_log_view_event(&look->view, signer->quiet_seq + 1, &arena, &event, NULL, err);
        if (rc == 0 && is_news(event.kind)) {
            signer->news_seq = event.seq;
            signer->news_at_ms = far_clock_monotonic_ms();
        } else if (rc == 0) {
            signer->quiet_seq++;
        }
        far_arena_done(&arena);
    }
    return rc;
}

/* Who votes now, with their keys: are they those of the newest head? *ret_can: a majority has keys. */
static int compare_voters(struct look *look, bool *ret_same, bool *ret_can, struct far_error *err)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    const struct far_sub_head_voter *voters = look->newest.voters.items;
    size_t count = 0, keyed = 0;
    int rc;
    *ret_same = true;
    while ((rc = far_state_next(&look->view.state, &far_schema_row_server, &key, &look->arena, NULL, &row, err)) == 0) {
        struct far_slice public_key;
        if (row.role != FAR_server_role_voter) {
            continue;
        }
        rc = key_of(look, row.id, &public_key, err);
        if (rc != 0) {
            return rc;
        }
        *ret_same = *ret_same && count < look->newest.voters.count && voters[count].server_id == row.id &&
                    far_slice_equal(voters[count].public_key, public_key);
        keyed += public_key.len > 0;
        count++;
    }
    *ret_same = *ret_same && count == look->newest.voters.count;
    *ret_can = keyed >= count / 2 + 1;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int lead(struct far_head_signer *signer, struct look *look, struct far_error *err)
{
    bool same, can;
    int rc = look_for_news(signer, look, err);
    rc = rc != 0 ? rc : compare_voters(look, &same, &can, err);
    if (rc != 0 || signer->news_seq == 0 || !can) {
        return rc;
    }
    uint64_t waited = far_clock_monotonic_ms() - signer->news_at_ms;
    if (same && look->view.last_seq - look->newest.seq < signer->config.events_max && waited < signer->config.wait_ms) {
        look_in(signer, signer->config.wait_ms - waited);
        signer->will_look = false; /* a change may come before */
        return 0;
    }
    struct far_cmd_head_propose command = {.seq = look->view.last_seq, .head = far_slice(look->view.head, FAR_HEAD_SIZE)};
    propose(signer, &far_schema_cmd_head_propose, &command);
    return 0;
}

/* ---- the look ---- */

static void look(struct far_head_signer *signer)
{
    struct far_log_status status;
    struct far_error err = {0};
    struct look seen;
    if (signer->closing || signer->proposal_runs) {
        return;
    }
    far_log_status(signer->config.log, &status);
    int rc = look_begin(signer, &seen, &err);
    if (rc != 0) {
        far_logf(FAR_LEVEL_ERROR, "heads", "cannot read the state: %s", err.message);
        return;
    }
    if (seen.cluster.uuid.len == 16 && seen.cluster.feature_level >= LEVEL && status.leader_id != 0) {
        /* What it has to say comes before it stops. */
        rc = keep_key(signer, &seen, &err);
        rc = rc != 0 || signer->proposal_runs ? rc : answer(signer, &seen, &err);
        rc = rc != 0 || signer->proposal_runs ? rc : judge_newest(signer, &seen, &err);
        rc = rc != 0 || signer->proposal_runs || !status.is_leader ? rc : lead(signer, &seen, &err);
    }
    look_end(&seen);
    if (rc != 0) {
        far_logf(FAR_LEVEL_ERROR, "heads", "%s", err.message);
    }
}

/* ---- life ---- */

int far_head_signer_new(const struct far_head_signer_config *config, uv_loop_t *loop, struct far_head_signer **ret_signer,
                        struct far_error *err)
{
    struct far_head_signer *signer = calloc(1, sizeof *signer);
    if (signer == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for signing heads");
    }
    signer->config = *config;
    signer->config.events_max = config->events_max != 0 ? config->events_max : EVENTS_MAX;
    signer->config.wait_ms = config->wait_ms != 0 ? config->wait_ms : WAIT_MS;
    int rc = far_sign_public(config->private_key, signer->public_key, err);
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
