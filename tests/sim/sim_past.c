/* States of the past (`?at=`): servers keep a history in short epochs, and after an installed snapshot ask their peers for what
 * was before, by the real log/past_copy.c; log_past_copy.c says whom and when, and this follows it. See sim.h.
 *
 * Checked: a state of the past, recomputed from its rows, has the digest that servers had when they applied that entry (in the end
 * the replayed log has it, too: sim_check.c); where an epoch and all events since are whole, it must be shown; in the end every
 * server has the states that any other has. */
#include "sim.h"

#include "base/assert.h"
#include "log/compact.h"
#include "log/history.h"
#include "log/retain.h"

enum { STALL_US = 2 * SIM_SECOND, LATER_US = 4 * SIM_SECOND, READ_US = 6 * SIM_SECOND, WALK_ROWS = 20 };

static bool keeps(const struct sim_server *server)
{
    return server->sim->swarm.epoch_events > 0;
}

static void keep_commit(struct sim_server *server, struct far_store_txn *txn)
{
    *server->before = *server->meta;
    *server->meta = *far_store_meta(txn);
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
}

/* Its oldest state that it has whole. */
static uint64_t oldest_of(const struct sim_server *server, uint64_t from)
{
    struct far_store_txn *txn;
    struct far_epoch epoch = {.seq = UINT64_MAX};
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_epoch_after(txn, from - 1, &epoch, NULL);
    far_store_abort(txn);
    return rc == 0 ? epoch.seq : UINT64_MAX;
}

/* ---- what goes with the events that were cut ---- */

static void forget_some(struct sim_server *server)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    struct far_retain_walk walk = server->walk;
    bool changed = false, more = false;
    sim_apply_settle(server);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    if (far_retain_history(txn, &walk, UINT64_MAX, WALK_ROWS, &changed, &more, &err) != 0) {
        sim_fail(server->sim, "server %llu cannot forget old states: %s", (unsigned long long)server->id, err.message);
        changed = false;
    } else {
        server->walk = walk;
    }
    if (changed) {
        sim_count(server->sim, SIM_COUNT_PAST_FORGOT);
        keep_commit(server, txn);
    } else {
        far_store_abort(txn);
    }
}

/* ---- fetching them ---- */

static void ask(struct sim_server *server)
{
    struct sim_past *past = &server->past;
    past->is_asked = true;
    past->moved_us = server->sim->now_us;
    sim_net_send(server, past->from_id, SIM_PAST_WANT, past->before, far_slice(past->next, past->next_len));
}

static uint64_t next_holder(const struct sim_server *server, unsigned *ret_count)
{
    uint64_t first = 0, next = 0;
    *ret_count = 0;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        const struct sim_told *told = &server->told[i];
        if (told->id == 0 || told->id == server->id || told->first_seq > server->meta->first_seq) {
            continue;
        }
        ++*ret_count;
        first = first == 0 || told->id < first ? told->id : first;
        next = told->id > server->past.from_id && (next == 0 || told->id < next) ? told->id : next;
    }
    return next != 0 ? next : first;
}

static void give_up(struct sim_server *server)
{
    struct sim_past *past = &server->past;
    unsigned holders;
    next_holder(server, &holders);
    past->is_asked = false;
    if (++past->fruitless >= holders) {
        past->fruitless = 0;
        past->wait_us = LATER_US;
    }
}

static bool events_are_here(const struct sim_server *server)
{
    return server->meta->first_seq <= 1 || server->meta->first_seq <= server->cut_seq;
}

static void look(struct sim_server *server)
{
    struct sim_past *past = &server->past;
    unsigned holders;
    uint64_t wait_us = past->is_asked ? (uint64_t)STALL_US : past->wait_us;
    if (past->is_done || server->fetching || !events_are_here(server) || server->sim->now_us - past->moved_us < wait_us) {
        return;
    }
    past->moved_us = server->sim->now_us;
    past->wait_us = 0;
    if (past->is_asked) {
        past->is_asked = false;
        return;
    }
    past->before = oldest_of(server, 0);
    past->next_len = 0;
    past->is_done = server->meta->installed_index == 0 || past->before < server->meta->first_seq;
    if (past->before == UINT64_MAX || past->is_done) {
        return;
    }
    past->from_id = next_holder(server, &holders);
    if (past->from_id != 0) {
        ask(server);
    }
}

void sim_past_beat(struct sim_server *server)
{
    if (keeps(server) && !server->fatal && !server->fetching) {
        forget_some(server);
        look(server);
    }
}

static void send_past(struct sim_server *server, uint64_t to_id, uint64_t before, struct far_slice key)
{
    struct sim *sim = server->sim;
    struct far_store_txn *txn;
    struct far_error err = {0};
    far_buf_reset(&sim->scratch);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_past_copy_encode(txn, before, key, &sim->scratch, &err);
    far_store_abort(txn);
    if (rc != 0) {
        sim_fail(sim, "server %llu cannot give its states of the past: %s", (unsigned long long)server->id, err.message);
        return;
    }
    sim_net_send(server, to_id, SIM_PAST, before, far_buf_slice(&sim->scratch));
}

/* What is not whole, or not of one piece because its sender changed meanwhile, is asked for again. */
static bool put(struct sim_server *server, struct far_slice bytes)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    sim_apply_settle(server);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_past_copy_apply(txn, bytes, &err);
    if (rc == 0) {
        keep_commit(server, txn);
        return true;
    }
    far_store_abort(txn);
    sim_say(server->sim, "server %llu: %s", (unsigned long long)server->id, err.message);
    sim_count(server->sim, SIM_COUNT_PAST_REFUSED);
    if (rc != FAR_CORRUPT) {
        sim_fail(server->sim, "server %llu cannot take states of the past: %s", (unsigned long long)server->id, err.message);
    }
    return false;
}

static void take(struct sim_server *server, uint64_t from_id, struct far_slice bytes)
{
    struct sim *sim = server->sim;
    struct sim_past *past = &server->past;
    struct far_past_batch batch;
    if (!past->is_asked || from_id != past->from_id || server->fetching || far_past_copy_decode(bytes, &batch, NULL) != 0 ||
        batch.before != past->before) {
        return;
    }
    if (!put(server, bytes)) {
        give_up(server);
        return;
    }
    memcpy(past->next, batch.next.data, batch.next.len);
    past->next_len = batch.next.len;
    if (sim->trouble && sim_chance(sim, 5)) {
        sim_count(sim, SIM_COUNT_PAST_CRASH);
        sim_server_crash(server, sim_chance(sim, 70));
    } else if (!batch.is_last) {
        ask(server);
    } else if (oldest_of(server, 0) == past->before) {
        give_up(server);
    } else {
        sim_count(sim, SIM_COUNT_PAST_FETCHED);
        past->is_asked = false;
        past->fruitless = 0;
        past->from_id--; /* the same one, if it has more */
    }
}

void sim_past_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number, struct far_slice bytes)
{
    if (kind == SIM_PAST_WANT) {
        send_past(server, from_id, number, bytes);
    } else {
        take(server, from_id, bytes);
    }
}

void sim_past_live(struct sim_server *server)
{
    server->past = (struct sim_past){.is_done = false};
    server->walk = (struct far_retain_walk){.floor = 0};
}

bool sim_past_idle(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES && sim->swarm.epoch_events > 0; i++) {
        const struct sim_server *server = &sim->servers[i];
        if (server->id == 0 || server->away || server->past.is_done || server->meta->installed_index == 0) {
            continue;
        }
        if (sim->incarnation > 1 && !events_are_here(server)) {
            continue; /* they were lost with those who held them, and without them no state of the past is asked for */
        }
        uint64_t first_seq = server->meta->first_seq, own = oldest_of(server, 0);
        for (unsigned k = 0; k < SIM_MACHINES && own >= first_seq; k++) {
            const struct sim_server *other = &sim->servers[k];
            if (other != server && other->id != 0 && !other->away && oldest_of(other, first_seq - 1) < own) {
                return false;
            }
        }
    }
    return true;
}

/* For the end of a run that came to no rest. */
void sim_past_say(const struct sim *sim)
{
    for (unsigned i = 0; i < SIM_MACHINES && sim->swarm.epoch_events > 0; i++) {
        const struct sim_server *server = &sim->servers[i];
        if (server->id != 0) {
            printf("# server %llu: oldest state %lld, installed event %llu, compacted %llu, "
                   "states: done %d, asked %d from %llu, walk %llu\n",
                   (unsigned long long)server->id, (long long)oldest_of(server, 0), (unsigned long long)server->installed_seq,
                   (unsigned long long)server->meta->compacted_seq, server->past.is_done, server->past.is_asked,
                   (unsigned long long)server->past.from_id, (unsigned long long)server->walk.floor);
        }
    }
}

/* ---- reading them ---- */

/* An epoch, and every event from it to there. */
static bool must_show(struct far_store_txn *txn, uint64_t seq)
{
    struct far_epoch epoch;
    bool must = far_epoch_before(txn, seq, &epoch, NULL) == 0 && epoch.seq + 1 >= far_store_meta(txn)->first_seq;
    for (uint64_t at = epoch.seq + 1; must && at <= seq; at++) {
        struct far_event event;
        must = far_store_event_get(txn, at, &event, NULL, NULL) == 0 && event.compacted_len == 0;
    }
    return must;
}

/* The state behind entry index, as this server shows it now. */
static void read_one(struct sim_server *server, uint64_t index)
{
    struct sim *sim = server->sim;
    struct far_store_txn *txn;
    struct far_past *past = NULL;
    struct far_hash128 want, digest = {0};
    struct far_error err = {0};
    struct far_moment moment = {.kind = FAR_MOMENT_SEQ};
    uint64_t pairs;
    if (!sim_check_moment(sim->check, index, &moment.value, &want)) {
        return;
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_past_open(txn, &moment, &past, &err);
    bool is_known = rc != FAR_NOT_FOUND;
    rc = rc != 0 ? rc : far_state_digest_walk(past->state.kv, &digest, &pairs, &err);
    far_past_close(past);
    if (!is_known && must_show(txn, moment.value)) {
        sim_fail(sim, "server %llu does not show the state behind event %llu: %s", (unsigned long long)server->id,
                 (unsigned long long)moment.value, err.message);
    } else if (is_known && rc != 0 && !server->damaged) {
        sim_fail(sim, "server %llu, the state behind event %llu: %s", (unsigned long long)server->id,
                 (unsigned long long)moment.value, err.message);
    } else if (rc == 0 && !far_hash128_equal(digest, want)) {
        sim_fail(sim, "server %llu shows another state behind event %llu than there was", (unsigned long long)server->id,
                 (unsigned long long)moment.value);
    }
    bool is_before = moment.value < server->installed_seq;
    sim_count(sim, !is_known ? SIM_COUNT_PAST_UNKNOWN : is_before ? SIM_COUNT_PAST_BEFORE : SIM_COUNT_PAST_READ);
    far_store_abort(txn);
}

static void read_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_server *server = &sim->servers[sim_random(sim, SIM_MACHINES)];
    sim_after(sim, READ_US + sim_random(sim, READ_US), read_due, NULL, 0, 0, NULL);
    if (server->alive && !server->fatal && !server->fetching && server->incarnation == sim->incarnation && !sim->calm) {
        uint64_t installed = server->meta->installed_index;
        uint64_t most = installed > 0 && sim_chance(sim, 60) ? installed : server->meta->applied_index;
        read_one(server, 1 + sim_random(sim, most));
    }
}

void sim_past_start(struct sim *sim)
{
    if (sim->swarm.epoch_events > 0) {
        sim_after(sim, READ_US, read_due, NULL, 0, 0, NULL);
    }
}

/* One epoch behind the other, from the oldest to where it is: an entry may step over a few. */
static void check_epochs(struct sim_server *server)
{
    enum { STEP_MAX = 512 };
    struct far_store_txn *txn;
    struct far_epoch epoch = {.seq = 0};
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    uint64_t last_seq = far_store_meta(txn)->last_seq, at = UINT64_MAX;
    bool is_whole = true;
    for (; far_epoch_after(txn, at, &epoch, NULL) == 0; at = epoch.seq) {
        is_whole = is_whole && (at == UINT64_MAX || epoch.seq - at < STEP_MAX);
    }
    if (!is_whole || at == UINT64_MAX || last_seq - at >= STEP_MAX) {
        sim_fail(server->sim, "server %llu: behind event %llu there are epochs missing (it is at %llu)", (unsigned long long)server->id,
                 (unsigned long long)at, (unsigned long long)last_seq);
    }
    far_store_abort(txn);
}

/* From the oldest state that all events lead on from to now. */
static void check_fold(struct sim_server *server)
{
    struct far_store_txn *txn;
    struct far_past *past = NULL;
    struct far_hash128 digest = {0};
    struct far_error err = {0};
    struct far_moment moment = {.kind = FAR_MOMENT_SEQ};
    uint64_t pairs;
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    const struct far_store_meta *meta = far_store_meta(txn);
    int rc = far_compact_base(txn, &moment.value, &err);
    if (rc == 0) {
        rc = far_past_open(txn, &moment, &past, &err);
        rc = rc != 0 ? rc : far_past_forward(past, txn, meta->last_seq, &err);
        rc = rc != 0 ? rc : far_state_digest_walk(past->state.kv, &digest, &pairs, &err);
        if (rc != 0 || !far_hash128_equal(digest, meta->digest) || memcmp(past->head, meta->head, FAR_HEAD_SIZE) != 0) {
            sim_fail(server->sim, "server %llu: the events from %llu to %llu do not lead to its state: %s", (unsigned long long)server->id,
                     (unsigned long long)moment.value, (unsigned long long)meta->last_seq, err.message);
        }
    }
    far_past_close(past);
    far_store_abort(txn);
}

void sim_past_check(struct sim *sim)
{
    unsigned folded = (unsigned)sim_random(sim, SIM_MACHINES);
    for (unsigned i = 0; i < SIM_MACHINES && sim->swarm.epoch_events > 0 && !sim->failed; i++) {
        struct sim_server *server = &sim->servers[i];
        if (!server->alive || server->incarnation != sim->incarnation || server->meta->applied_index < 2) {
            continue;
        }
        read_one(server, 1 + sim_random(sim, server->meta->installed_index > 0 ? server->meta->installed_index
                                                                               : server->meta->applied_index));
        check_epochs(server);
        if (i == folded) {
            check_fold(server);
        }
    }
}
