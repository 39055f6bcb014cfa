/* What a server owes to the signed heads: see head_duty.h. */
#include "log/head_duty.h"

#include "base/assert.h"
#include "base/logging.h"
#include "log/signed_head.h"

#include <stdio.h>

enum {
    LEVEL = 2, /* the feature level since which there are heads */
    ARENA_MAX = 1024 * 1024, /* an event, and rows */
    EVENTS_MAX = 1024,
    WAIT_MS = 60 * 1000,
};

/* What one look sees; slices live as long as its source and arena. */
struct look {
    const struct far_head_source *source;
    uint64_t now_ms;
    struct far_head_todo *todo;
    struct far_arena arena;
    struct far_row_cluster cluster;
    struct far_row_head_progress progress;
    struct far_row_head newest; /* seq 0: none */
};

/* ---- reading ---- */

static int get(struct look *look, const struct far_schema *table, const struct far_key *key, void *ret_row,
               struct far_error *err)
{
    int rc = far_state_get(look->source->state, table, key, &look->arena, ret_row, err);
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

static int read_rows(struct look *look, struct far_error *err)
{
    struct far_key cluster = far_key(&far_schema_row_cluster), progress = far_key(&far_schema_row_head_progress);
    int rc = get(look, &far_schema_row_cluster, &cluster, &look->cluster, err);
    rc = rc != 0 ? rc : get(look, &far_schema_row_head_progress, &progress, &look->progress, err);
    return rc != 0 ? rc : get_head(look, look->progress.proposed_seq, &look->newest, err);
}

static int read_event(struct look *look, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                      uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    return look->source->event(look->source->arg, seq, arena, ret_event, ret_head, err);
}

/* The chain head behind this event as this server has it. FAR_NOT_FOUND: its history does not reach so far back. */
static int own_head(struct look *look, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    const struct far_head_source *source = look->source;
    struct far_event event;
    if (seq == source->last_seq || seq + 1 == source->first_seq) {
        memcpy(ret_head, seq == source->last_seq ? source->head : source->base_head, FAR_HEAD_SIZE);
        return 0;
    }
    return read_event(look, seq, &look->arena, &event, ret_head, err);
}

/* ---- proposing ---- */

static void propose(struct look *look, const struct far_schema *schema, const void *object)
{
    far_buf_reset(look->todo->payload);
    int rc = far_schema_encode(schema, object, look->todo->payload, NULL);
    FAR_ASSERT(rc == 0);
    look->todo->step = FAR_HEAD_PROPOSE;
    look->todo->schema = schema;
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
    while ((rc = far_state_next(look->source->state, &far_schema_row_server_key, &key, &look->arena, NULL, &row, err)) == 0 &&
           row.server_id == server_id) {
        *ret_key = row.until_seq == 0 ? row.public_key : *ret_key;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Is there something to say about the key? Proposes it then. */
static int keep_key(struct far_head_duty *duty, struct look *look, struct far_error *err)
{
    struct far_row_server self;
    struct far_slice registered, own = far_slice(duty->public_key, sizeof duty->public_key);
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, duty->server_id);
    int rc = get(look, &far_schema_row_server, &key, &self, err);
    rc = rc != 0 ? rc : key_of(look, duty->server_id, &registered, err);
    if (rc == 0 && self.id != 0 && self.role != FAR_server_role_removed && !far_slice_equal(registered, own)) {
        struct far_cmd_server_key_set set = {.server_id = self.id, .public_key = own};
        propose(look, &far_schema_cmd_server_key_set, &set);
    }
    return rc;
}

/* ---- signing and refusing ---- */

static bool is_own_key(const struct far_head_duty *duty, const struct far_row_head *head)
{
    return far_slice_equal(far_head_voter_key(&head->voters, duty->server_id),
                           far_slice(duty->public_key, sizeof duty->public_key));
}

static int sign(struct far_head_duty *duty, struct look *look, const struct far_row_head *head, struct far_error *err)
{
    uint8_t message[FAR_HEAD_MESSAGE_MAX], signature[FAR_SIGNATURE_BYTES];
    size_t len;
    int rc = far_head_message(look->cluster.uuid, head->incarnation_epoch, head->seq, head->head, &head->voters, message, &len,
                              err);
    rc = rc != 0 ? rc : far_sign(duty->private_key, far_slice(message, len), signature, err);
    if (rc == 0) {
        struct far_cmd_head_sign command = {.server_id = duty->server_id,
                                            .seq = head->seq,
                                            .signature = far_slice(signature, sizeof signature)};
        propose(look, &far_schema_cmd_head_sign, &command);
    }
    return rc;
}

static void refuse(struct far_head_duty *duty, struct look *look, const struct far_row_head *head, const uint8_t own[FAR_HEAD_SIZE])
{
    struct far_cmd_head_refuse command = {
        .server_id = duty->server_id, .seq = head->seq, .head = far_slice(own, FAR_HEAD_SIZE)};
    far_logf(FAR_LEVEL_ERROR, "heads", "the head behind event %llu that was proposed is not that of this server: it is not signed",
             (unsigned long long)head->seq);
    propose(look, &far_schema_cmd_head_refuse, &command);
}

/* The newest head, if this server counts at it and has not said anything yet. */
static int answer(struct far_head_duty *duty, struct look *look, struct far_error *err)
{
    const struct far_row_head *head = &look->newest;
    struct far_row_head_signature said;
    struct far_key key = far_key(&far_schema_row_head_signature);
    uint8_t own[FAR_HEAD_SIZE];
    far_key_u64(&key, head->seq);
    far_key_u64(&key, duty->server_id);
    if (head->seq == 0 || head->state == FAR_head_state_refused || !is_own_key(duty, head)) {
        return 0;
    }
    int rc = get(look, &far_schema_row_head_signature, &key, &said, err);
    if (rc != 0 || said.seq != 0) {
        return rc;
    }
    rc = own_head(look, head->seq, own, err);
    if (rc == FAR_NOT_FOUND || rc == FAR_CORRUPT) {
        if (duty->unknown_seq != head->seq) {
            far_logf(rc == FAR_CORRUPT ? FAR_LEVEL_ERROR : FAR_LEVEL_INFO, "heads", "the head behind event %llu is not signed: %s",
                     (unsigned long long)head->seq, err->message);
        }
        duty->unknown_seq = head->seq;
        return 0;
    }
    if (rc == 0 && far_slice_equal(head->head, far_slice(own, sizeof own))) {
        return sign(duty, look, head, err);
    }
    if (rc == 0) {
        refuse(duty, look, head, own);
    }
    return rc;
}

/* ---- against a majority ---- */

static void stop(struct look *look, uint64_t seq, const char *what)
{
    look->todo->step = FAR_HEAD_STOP;
    snprintf(look->todo->why, sizeof look->todo->why,
             "its history up to event %llu is not the one that a majority %s; it must rejoin as a new server (log verify says more)",
             (unsigned long long)seq, what);
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
        rc = far_state_next(look->source->state, &far_schema_row_head_signature, &key, &look->arena, NULL, &rows[count], err);
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

static int judge(struct far_head_duty *duty, struct look *look, const struct far_row_head *head, struct far_error *err)
{
    uint8_t own[FAR_HEAD_SIZE];
    size_t refused = 0;
    int rc = head->state == FAR_head_state_proposed ? FAR_NOT_FOUND : own_head(look, head->seq, own, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND || rc == FAR_CORRUPT ? 0 : rc;
    }
    bool same = far_slice_equal(head->head, far_slice(own, sizeof own));
    if (head->state == FAR_head_state_signed && !same) {
        stop(look, head->seq, "has signed");
    }
    if (head->state == FAR_head_state_refused && same) {
        rc = count_refusals(look, head->seq, &refused, err);
        if (rc == 0 && refused >= head->voters.count / 2 + 1) {
            stop(look, head->seq, "holds");
        }
    }
    return rc;
}

/* The newest signed head, and the newest of all, if they are settled and were not judged before. */
static int judge_newest(struct far_head_duty *duty, struct look *look, struct far_error *err)
{
    struct far_row_head last;
    int rc = 0;
    if (look->progress.signed_seq > duty->settled_seq) {
        rc = get_head(look, look->progress.signed_seq, &last, err);
        rc = rc != 0 ? rc : judge(duty, look, &last, err);
        duty->settled_seq = rc == 0 ? look->progress.signed_seq : duty->settled_seq;
    }
    return rc == 0 && look->newest.state == FAR_head_state_refused ? judge(duty, look, &look->newest, err) : rc;
}

/* ---- the leader proposes ---- */

/* Events that heads and acknowledgements make by themselves are no reason for another head. */
static bool is_news(uint16_t kind)
{
    return kind != FAR_KIND_ev_head_proposed && kind != FAR_KIND_ev_head_signed && kind != FAR_KIND_ev_head_refused &&
           kind != FAR_KIND_ev_consumer_acked && kind != FAR_KIND_ev_leases_checked &&
           kind != FAR_KIND_ev_progress_compacted;
}

static int look_for_news(struct far_head_duty *duty, struct look *look, struct far_error *err)
{
    uint64_t covered = look->newest.seq;
    int rc = 0;
    if (duty->quiet_seq < covered || duty->news_seq <= covered) {
        duty->quiet_seq = duty->quiet_seq < covered ? covered : duty->quiet_seq;
        duty->news_seq = 0;
    }
    if (duty->quiet_seq + 1 < look->source->first_seq) {
        duty->quiet_seq = look->source->first_seq - 1;
    }
    while (rc == 0 && duty->news_seq == 0 && duty->quiet_seq < look->source->last_seq) {
        struct far_event event;
        struct far_arena arena;
        far_arena_init(&arena, ARENA_MAX);
        rc = read_event(look, duty->quiet_seq + 1, &arena, &event, NULL, err);
        if (rc == 0 && is_news(event.kind)) {
            duty->news_seq = event.seq;
            duty->news_at_ms = look->now_ms;
        } else if (rc == 0) {
            duty->quiet_seq++;
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
    while ((rc = far_state_next(look->source->state, &far_schema_row_server, &key, &look->arena, NULL, &row, err)) == 0) {
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

static int lead(struct far_head_duty *duty, struct look *look, struct far_error *err)
{
    bool same, can;
    int rc = look_for_news(duty, look, err);
    rc = rc != 0 ? rc : compare_voters(look, &same, &can, err);
    if (rc != 0 || duty->news_seq == 0 || !can) {
        return rc;
    }
    uint64_t waited = look->now_ms - duty->news_at_ms, wait_ms = duty->wait_ms != 0 ? duty->wait_ms : WAIT_MS;
    uint64_t events_max = duty->events_max != 0 ? duty->events_max : EVENTS_MAX;
    if (same && look->source->last_seq - look->newest.seq < events_max && waited < wait_ms) {
        look->todo->step = FAR_HEAD_WAIT;
        look->todo->wait_ms = wait_ms - waited;
        return 0;
    }
    struct far_cmd_head_propose command = {.seq = look->source->last_seq, .head = far_slice(look->source->head, FAR_HEAD_SIZE)};
    propose(look, &far_schema_cmd_head_propose, &command);
    return 0;
}

/* ---- the look ---- */

static int look_all(struct far_head_duty *duty, struct look *look, bool is_leader, struct far_error *err)
{
    const struct far_head_todo *todo = look->todo;
    int rc = read_rows(look, err);
    if (rc != 0 || look->cluster.uuid.len != 16 || look->cluster.feature_level < LEVEL) {
        return rc;
    }
    /* What it has to say comes before it stops. */
    rc = keep_key(duty, look, err);
    rc = rc != 0 || todo->step != FAR_HEAD_REST ? rc : answer(duty, look, err);
    rc = rc != 0 || todo->step != FAR_HEAD_REST ? rc : judge_newest(duty, look, err);
    return rc != 0 || todo->step != FAR_HEAD_REST || !is_leader ? rc : lead(duty, look, err);
}

int far_head_duty_look(struct far_head_duty *duty, const struct far_head_source *source, uint64_t now_ms, bool is_leader,
                       struct far_head_todo *todo, struct far_error *err)
{
    struct look look = {.source = source, .now_ms = now_ms, .todo = todo};
    todo->step = FAR_HEAD_REST;
    far_arena_init(&look.arena, ARENA_MAX);
    int rc = look_all(duty, &look, is_leader, err);
    far_arena_done(&look.arena);
    if (rc != 0) {
        todo->step = FAR_HEAD_REST;
    }
    return rc;
}
