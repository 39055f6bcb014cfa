/* Heads of the log that its servers sign. The leader proposes the chain head behind an event; the event that says so names who
 * counts, with their keys, so that a majority of that moment can be told for ever. Each voter that holds the same head signs it,
 * one that holds another refuses it; late answers are taken, too. The core has neither chain nor cryptography: it counts who
 * answered. A signature is made and checked outside, by each server and by everybody who verifies the log.
 *
 * The newest heads stay in the state, and always the newest that is signed; the log has them all. */
#include "fsm/machines.h"

enum { ABSENT, PROPOSED, SIGNED, REFUSED };
enum { PROPOSE, SIGN, SIGN_LAST, REFUSE, REFUSE_LAST };
static const char *const states[] = {"absent", "proposed", "signed", "refused"};
static const char *const inputs[] = {"head_propose", "head_sign", "head_sign with a majority", "head_refuse",
                                     "head_refuse with a majority"};
#define GONE FAR_REJECT(FAR_NOT_FOUND, "was not proposed, or too long ago")
#define TWICE FAR_REJECT(FAR_CONFLICT, "was proposed already")
#define OVER FAR_REJECT(FAR_CONFLICT, "was refused by a majority")
#define SETTLED FAR_REJECT(FAR_INTERNAL, "has had its majority before")
static const struct far_cell cells[4][5] = {
    [ABSENT] = {[PROPOSE] = FAR_MOVE(PROPOSED), [SIGN] = GONE, [SIGN_LAST] = GONE, [REFUSE] = GONE, [REFUSE_LAST] = GONE},
    [PROPOSED] = {[PROPOSE] = TWICE,
                  [SIGN] = FAR_MOVE(PROPOSED),
                  [SIGN_LAST] = FAR_MOVE(SIGNED),
                  [REFUSE] = FAR_MOVE(PROPOSED),
                  [REFUSE_LAST] = FAR_MOVE(REFUSED)},
    [SIGNED] = {[PROPOSE] = TWICE,
                [SIGN] = FAR_MOVE(SIGNED),
                [SIGN_LAST] = SETTLED,
                [REFUSE] = FAR_MOVE(SIGNED),
                [REFUSE_LAST] = SETTLED},
    [REFUSED] = {[PROPOSE] = TWICE,
                 [SIGN] = OVER,
                 [SIGN_LAST] = OVER,
                 [REFUSE] = FAR_MOVE(REFUSED),
                 [REFUSE_LAST] = SETTLED},
};
const struct far_table far_table_head = FAR_TABLE("head", states, inputs, cells);

enum { HEADS_KEPT = 32, VOTERS_MAX = 16, AGE_MAX = 16384, HEAD_BYTES = 32, SIGNATURE_BYTES = 64 };

/* The row of the head behind this event; its state is ABSENT if there is none. */
static int look(struct far_step *step, uint64_t seq, struct far_row_head *ret_row)
{
    int rc = far_row_find(step, &far_schema_row_head, seq, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_head){.seq = seq};
        return 0;
    }
    return rc;
}

static int look_progress(struct far_step *step, struct far_row_head_progress *ret_row)
{
    struct far_key key = far_key(&far_schema_row_head_progress);
    int rc = far_key_find(step, &far_schema_row_head_progress, &key, ret_row);
    if (rc == FAR_NOT_FOUND) {
        *ret_row = (struct far_row_head_progress){.proposed_seq = 0};
        return 0;
    }
    return rc;
}

/* ---- propose ---- */

/* Those who vote now, in the order of their ids, each with the key that it has in use. */
static int list_voters(struct far_step *step, struct far_list *ret_voters, size_t *ret_keyed)
{
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    struct far_sub_head_voter *voters = far_step_alloc(step, VOTERS_MAX * sizeof *voters);
    size_t count = 0, keyed = 0;
    int rc;
    if (voters == NULL) {
        return FAR_LIMIT;
    }
    while ((rc = far_next(step, &far_schema_row_server, &key, NULL, &row)) == 0) {
        struct far_row_server_key own;
        if (row.role != FAR_server_role_voter) {
            continue;
        }
        if (count == VOTERS_MAX) {
            return far_reject(step, FAR_LIMIT, "a head has at most %d voters", VOTERS_MAX);
        }
        int found = far_server_key_find(step, row.id, &own);
        if (found != 0 && found != FAR_NOT_FOUND) {
            return found;
        }
        voters[count++] = (struct far_sub_head_voter){.server_id = row.id,
                                                      .public_key = found == 0 ? own.public_key : far_slice(NULL, 0)};
        keyed += found == 0;
    }
    *ret_voters = (struct far_list){.items = voters, .count = count};
    *ret_keyed = keyed;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int check_proposal(struct far_step *step, const struct far_cmd_head_propose *cmd)
{
    struct far_row_head_progress progress;
    if (cmd->head.len != HEAD_BYTES || cmd->seq == 0 || cmd->seq >= step->progress.next_seq) {
        return far_reject(step, FAR_INVALID, "a head has %d bytes and stands behind an event from 1 to %llu", HEAD_BYTES,
                          FAR_LLU(step->progress.next_seq - 1));
    }
    if (step->progress.next_seq - cmd->seq > AGE_MAX) {
        return far_reject(step, FAR_CONFLICT, "the head behind event %llu is too old to be signed; propose a newer one",
                          FAR_LLU(cmd->seq));
    }
    FAR_TRY(look_progress(step, &progress));
    return cmd->seq > progress.proposed_seq
               ? 0
               : far_reject(step, FAR_CONFLICT, "the head behind event %llu was proposed before", FAR_LLU(progress.proposed_seq));
}

int far_decide_head_propose(struct far_step *step, const struct far_cmd_head_propose *cmd)
{
    struct far_row_head old;
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    struct far_ev_head_proposed ev = {.seq = cmd->seq, .head = cmd->head};
    size_t keyed = 0;
    FAR_TRY(look(step, cmd->seq, &old));
    FAR_TRY(far_move_id(step, &far_table_head, old.state, PROPOSE, cmd->seq, NULL));
    FAR_TRY(check_proposal(step, cmd));
    FAR_TRY(list_voters(step, &ev.voters, &keyed));
    if (keyed < ev.voters.count / 2 + 1) {
        return far_reject(step, FAR_CONFLICT, "only %zu of %zu voters have a key: no majority can sign", keyed, ev.voters.count);
    }
    FAR_TRY(far_key_need(step, &far_schema_row_cluster, &key, &cluster));
    ev.incarnation_epoch = cluster.incarnation_epoch;
    step->object_id = cmd->seq;
    return far_emit(step, &far_schema_ev_head_proposed, &ev);
}

/* The next answer to this head behind `key`; FAR_NOT_FOUND after the last. */
static int next_answer(struct far_step *step, uint64_t seq, struct far_key *key, struct far_row_head_signature *ret_row)
{
    int rc = far_next(step, &far_schema_row_head_signature, key, NULL, ret_row);
    return rc == 0 && ret_row->seq != seq ? FAR_NOT_FOUND : rc;
}

static int forget(struct far_step *step, uint64_t seq)
{
    for (;;) {
        struct far_row_head_signature row;
        struct far_key key = far_key_id(&far_schema_row_head_signature, seq);
        int rc = next_answer(step, seq, &key, &row);
        if (rc == FAR_NOT_FOUND) {
            return far_row_del(step, &far_schema_row_head, seq);
        }
        FAR_TRY(rc);
        key = far_key_pair(&far_schema_row_head_signature, seq, row.server_id);
        FAR_TRY(far_key_del(step, &far_schema_row_head_signature, &key));
    }
}

/* The oldest goes, but never the newest that is signed. */
static int prune(struct far_step *step, struct far_row_head_progress *progress)
{
    struct far_row_head oldest;
    struct far_key key = far_key(&far_schema_row_head);
    if (progress->count <= HEADS_KEPT) {
        return 0;
    }
    do {
        int rc = far_next(step, &far_schema_row_head, &key, NULL, &oldest);
        FAR_TRY(rc != FAR_NOT_FOUND ? rc : far_reject(step, FAR_INTERNAL, "broken: heads are counted that are not there"));
    } while (oldest.seq == progress->signed_seq);
    progress->count--;
    return forget(step, oldest.seq);
}

int far_evolve_head_proposed(struct far_step *step, const struct far_ev_head_proposed *ev)
{
    struct far_row_head row;
    struct far_row_head_progress progress;
    struct far_key key = far_key(&far_schema_row_head_progress);
    FAR_TRY(look(step, ev->seq, &row));
    FAR_TRY(far_move_id(step, &far_table_head, row.state, PROPOSE, ev->seq, NULL));
    FAR_TRY(look_progress(step, &progress));
    row = (struct far_row_head){.seq = ev->seq,
                                .head = ev->head,
                                .state = FAR_head_state_proposed,
                                .incarnation_epoch = ev->incarnation_epoch,
                                .voters = ev->voters,
                                .proposed_ms = step->time_ms};
    FAR_TRY(far_row_put(step, &far_schema_row_head, row.seq, &row));
    progress.proposed_seq = ev->seq;
    progress.count++;
    FAR_TRY(prune(step, &progress));
    return far_key_put(step, &far_schema_row_head_progress, &key, &progress);
}

/* ---- answers ---- */

/* Its voter with a key; rejects anybody else. */
static int need_voter(struct far_step *step, const struct far_row_head *row, uint64_t server_id)
{
    const struct far_sub_head_voter *voters = row->voters.items;
    for (size_t i = 0; i < row->voters.count; i++) {
        if (voters[i].server_id == server_id && voters[i].public_key.len > 0) {
            return 0;
        }
    }
    return far_reject(step, FAR_DENIED, "server %llu does not count at the head behind event %llu, or had no key",
                      FAR_LLU(server_id), FAR_LLU(row->seq));
}

/* What this server said before; FAR_NOT_FOUND without a rejection: nothing. */
static int find_answer(struct far_step *step, uint64_t seq, uint64_t server_id, struct far_row_head_signature *ret_row)
{
    struct far_key key = far_key_pair(&far_schema_row_head_signature, seq, server_id);
    return far_key_find(step, &far_schema_row_head_signature, &key, ret_row);
}

/* May this server answer now? *ret_again: it has given the same answer before. */
static int check_answer(struct far_step *step, const struct far_row_head *row, uint64_t server_id, bool is_signature,
                        bool *ret_again)
{
    struct far_row_head_signature old;
    FAR_TRY(far_move_id(step, &far_table_head, row->state, is_signature ? SIGN : REFUSE, row->seq, NULL));
    FAR_TRY(need_voter(step, row, server_id));
    int rc = find_answer(step, row->seq, server_id, &old);
    *ret_again = rc == 0;
    step->object_id = row->seq;
    if (rc == 0 && (old.signature.len > 0) != is_signature) {
        return far_reject(step, FAR_CONFLICT, "server %llu has %s the head behind event %llu before", FAR_LLU(server_id),
                          is_signature ? "refused" : "signed", FAR_LLU(row->seq));
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static size_t majority_of(const struct far_row_head *row)
{
    return row->voters.count / 2 + 1;
}

int far_decide_head_sign(struct far_step *step, const struct far_cmd_head_sign *cmd)
{
    struct far_row_head row;
    bool again;
    FAR_TRY(look(step, cmd->seq, &row));
    FAR_TRY(check_answer(step, &row, cmd->server_id, true, &again));
    if (cmd->signature.len != SIGNATURE_BYTES) {
        return far_reject(step, FAR_INVALID, "a signature has %d bytes", SIGNATURE_BYTES);
    }
    struct far_ev_head_signed ev = {.server_id = cmd->server_id,
                                    .seq = cmd->seq,
                                    .signature = cmd->signature,
                                    .majority = row.state == FAR_head_state_proposed &&
                                                row.signed_count + 1 == majority_of(&row)};
    return again ? 0 : far_emit(step, &far_schema_ev_head_signed, &ev);
}

int far_decide_head_refuse(struct far_step *step, const struct far_cmd_head_refuse *cmd)
{
    struct far_row_head row;
    bool again;
    FAR_TRY(look(step, cmd->seq, &row));
    FAR_TRY(check_answer(step, &row, cmd->server_id, false, &again));
    if (cmd->head.len != HEAD_BYTES || far_slice_equal(cmd->head, row.head)) {
        return far_reject(step, FAR_INVALID, "who refuses a head names its own, which is another, in %d bytes", HEAD_BYTES);
    }
    struct far_ev_head_refused ev = {.server_id = cmd->server_id,
                                     .seq = cmd->seq,
                                     .head = cmd->head,
                                     .majority = row.state == FAR_head_state_proposed &&
                                                 row.refused_count + 1 == majority_of(&row)};
    return again ? 0 : far_emit(step, &far_schema_ev_head_refused, &ev);
}

/* Keep the answer and move the head on. */
static int keep_answer(struct far_step *step, struct far_row_head *row, unsigned input,
                       const struct far_row_head_signature *answer)
{
    struct far_row_head_signature old;
    struct far_key key = far_key_pair(&far_schema_row_head_signature, row->seq, answer->server_id);
    unsigned next;
    FAR_TRY(far_move_id(step, &far_table_head, row->state, input, row->seq, &next));
    FAR_TRY(need_voter(step, row, answer->server_id));
    int rc = find_answer(step, row->seq, answer->server_id, &old);
    if (rc == 0) {
        return far_reject(step, FAR_INTERNAL, "server %llu has answered the head behind event %llu before",
                          FAR_LLU(answer->server_id), FAR_LLU(row->seq));
    }
    FAR_TRY(rc == FAR_NOT_FOUND ? 0 : rc);
    FAR_TRY(far_key_put(step, &far_schema_row_head_signature, &key, answer));
    row->settled_ms = row->state == next ? row->settled_ms : step->time_ms;
    row->state = next;
    return far_row_put(step, &far_schema_row_head, row->seq, row);
}

int far_evolve_head_signed(struct far_step *step, const struct far_ev_head_signed *ev)
{
    struct far_row_head row;
    struct far_row_head_signature answer = {
        .seq = ev->seq, .server_id = ev->server_id, .signature = ev->signature, .time_ms = step->time_ms};
    FAR_TRY(look(step, ev->seq, &row));
    row.signed_count++;
    FAR_TRY(keep_answer(step, &row, ev->majority ? SIGN_LAST : SIGN, &answer));
    struct far_row_head_progress progress;
    struct far_key key = far_key(&far_schema_row_head_progress);
    FAR_TRY(look_progress(step, &progress));
    if (!ev->majority || ev->seq < progress.signed_seq) {
        return 0;
    }
    progress.signed_seq = ev->seq;
    return far_key_put(step, &far_schema_row_head_progress, &key, &progress);
}

int far_evolve_head_refused(struct far_step *step, const struct far_ev_head_refused *ev)
{
    struct far_row_head row;
    struct far_row_head_signature answer = {
        .seq = ev->seq, .server_id = ev->server_id, .head = ev->head, .time_ms = step->time_ms};
    FAR_TRY(look(step, ev->seq, &row));
    row.refused_count++;
    return keep_answer(step, &row, ev->majority ? REFUSE_LAST : REFUSE, &answer);
}
