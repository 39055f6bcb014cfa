/* Checking the signed heads of a log: see head_check.h. */
#include "log/head_check.h"

#include "base/arena.h"
#include "net/sign.h"

enum { ARENA_MAX = 1024 * 1024 };

int far_head_check_init(struct far_head_check *check, struct far_store_txn *txn, struct far_error *err)
{
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_key key = far_key(&far_schema_row_cluster);
    struct far_row_cluster cluster;
    struct far_arena arena;
    memset(check, 0, sizeof *check);
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_state_get(&state, &far_schema_row_cluster, &key, &arena, &cluster, err);
    if (rc == 0 && cluster.uuid.len == sizeof check->uuid) {
        memcpy(check->uuid, cluster.uuid.data, sizeof check->uuid);
    }
    far_arena_done(&arena);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* Is the chain behind this event known here, and is it this head? */
static int compare(struct far_store_txn *txn, struct far_open_head *open, struct far_error *err)
{
    const uint8_t *head = open->message + FAR_HEAD_IN_MESSAGE;
    uint64_t seq = open->seq;
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_event event;
    uint8_t own[FAR_HEAD_SIZE];
    int rc = 0;
    if (seq + 1 == meta->first_seq) {
        memcpy(own, meta->base_head, sizeof own);
    } else {
        rc = far_store_event_get(txn, seq, &event, own, err);
    }
    open->is_known = rc == 0;
    open->is_same = rc == 0 && memcmp(head, own, sizeof own) == 0;
    return rc == FAR_NOT_FOUND || rc == FAR_CORRUPT ? 0 : rc; /* a damaged event is a finding of its own */
}

static int take_proposal(struct far_head_check *check, struct far_store_txn *txn, uint64_t event_seq,
                         const struct far_ev_head_proposed *ev, struct far_error *err)
{
    struct far_open_head *open = &check->open[check->next++ % FAR_HEAD_CHECK_OPEN];
    const struct far_sub_head_voter *voters = ev->voters.items;
    memset(open, 0, sizeof *open);
    if (ev->seq >= event_seq || far_head_message(far_slice(check->uuid, 16), ev->incarnation_epoch, ev->seq, ev->head, &ev->voters,
                                                 open->message, &open->message_len, NULL) != 0) {
        return far_fail(err, FAR_CORRUPT, "event %llu proposes no head that could be signed", (unsigned long long)event_seq);
    }
    open->seq = ev->seq;
    open->voter_count = ev->voters.count;
    for (size_t i = 0; i < ev->voters.count; i++) {
        open->voter_ids[i] = voters[i].server_id;
        open->has_key[i] = voters[i].public_key.len == 32;
        if (open->has_key[i]) {
            memcpy(open->keys[i], voters[i].public_key.data, 32);
        }
    }
    return compare(txn, open, err); /* reads the store, so the event's own bytes are gone */
}

static struct far_open_head *find(struct far_head_check *check, uint64_t seq)
{
    for (size_t i = 0; i < FAR_HEAD_CHECK_OPEN; i++) {
        if (seq != 0 && check->open[i].seq == seq) {
            return &check->open[i];
        }
    }
    return NULL;
}

static int take_signature(struct far_head_check *check, uint64_t event_seq, const struct far_ev_head_signed *ev,
                          struct far_error *err)
{
    struct far_open_head *open = find(check, ev->seq);
    size_t i = 0;
    if (open == NULL) { /* proposed before the oldest event here */
        return 0;
    }
    while (i < open->voter_count && (open->voter_ids[i] != ev->server_id || !open->has_key[i])) {
        i++;
    }
    if (i == open->voter_count ||
        !far_sign_check(far_slice(open->keys[i], 32), far_slice(open->message, open->message_len), ev->signature)) {
        return far_fail(err, FAR_CORRUPT, "event %llu: the signature of server %llu on the head behind event %llu is not by a key "
                        "that it had then", (unsigned long long)event_seq, (unsigned long long)ev->server_id,
                        (unsigned long long)ev->seq);
    }
    check->signatures++;
    open->signed_count += !open->has_signed[i];
    open->has_signed[i] = true;
    if (!open->is_known || open->signed_count != open->voter_count / 2 + 1) {
        return 0;
    }
    if (!open->is_same) {
        return far_fail(err, FAR_CORRUPT, "a majority has signed another head behind event %llu than the events here give",
                        (unsigned long long)ev->seq);
    }
    check->signed_seq = ev->seq > check->signed_seq ? ev->seq : check->signed_seq;
    return 0;
}

int far_head_check_event(struct far_head_check *check, struct far_store_txn *txn, const struct far_event *event,
                         struct far_error *err)
{
    struct far_ev_head_proposed proposed;
    struct far_ev_head_signed sign;
    struct far_arena arena;
    bool is_proposal = event->kind == FAR_KIND_ev_head_proposed;
    if (event->version != 0 || (!is_proposal && event->kind != FAR_KIND_ev_head_signed)) {
        return 0;
    }
    uint64_t seq = event->seq; /* the event's payload goes with the next read of the store */
    far_arena_init(&arena, ARENA_MAX);
    int rc = is_proposal ? far_schema_decode(&far_schema_ev_head_proposed, event->payload, &arena, &proposed, err)
                         : far_schema_decode(&far_schema_ev_head_signed, event->payload, &arena, &sign, err);
    if (rc == FAR_INVALID) {
        rc = far_fail(err, FAR_CORRUPT, "event %llu is no head and no signature", (unsigned long long)seq);
    } else if (rc == 0) {
        rc = is_proposal ? take_proposal(check, txn, seq, &proposed, err) : take_signature(check, seq, &sign, err);
    }
    far_arena_done(&arena);
    return rc;
}
