/* The checkers: they see what servers deliver, apply and answer, and know nothing else of them. See sim.h.
 *
 * - one leader a term;
 * - equal prefixes: what any server ever delivered at an index is the same everywhere, and for ever;
 * - equal digests of state and equal heads of the chain at equal index;
 * - no acknowledged command is lost, none takes effect twice: at the end the committed log is replayed into a fresh store,
 *   and each server's digest is computed anew from the bytes of its rows. */
#include "sim.h"

#include "base/assert.h"

struct spot { /* one index of the log */
    bool is_committed;
    bool is_applied;
    uint64_t term;
    uint8_t type;
    uint64_t by; /* who delivered it first */
    struct far_blob *blob;
    uint64_t applied_us; /* when it was first applied anywhere */
    struct far_hash128 digest;
    uint8_t head[FAR_HEAD_SIZE];
    uint64_t last_seq;
};

struct leader {
    uint64_t term;
    uint64_t id;
    uint64_t at_us;
};

struct answer {
    uint64_t command;
    uint64_t index;
};

struct sim_check {
    struct sim *sim;
    struct spot *spots; /* by index */
    size_t spot_cap;
    uint64_t last_index;
    struct leader *leaders;
    size_t leader_count, leader_cap;
    struct answer *answers;
    size_t answer_count, answer_cap;
};

struct sim_check *sim_check_new(struct sim *sim)
{
    struct sim_check *check = calloc(1, sizeof *check);
    FAR_ASSERT(check != NULL);
    check->sim = sim;
    return check;
}

void sim_check_free(struct sim_check *check)
{
    for (size_t i = 0; i < check->spot_cap; i++) {
        far_blob_unref(check->spots[i].blob);
    }
    free(check->spots);
    free(check->leaders);
    free(check->answers);
    free(check);
}

const struct far_blob *sim_check_entry(const struct sim_check *check, uint64_t index, uint64_t *ret_term)
{
    if (index >= check->spot_cap || !check->spots[index].is_committed || check->spots[index].type != FAR_RAFT_COMMAND) {
        return NULL;
    }
    *ret_term = check->spots[index].term;
    return check->spots[index].blob;
}

uint64_t sim_check_last_index(const struct sim_check *check)
{
    return check->last_index;
}

uint64_t sim_check_answers(const struct sim_check *check)
{
    return check->answer_count;
}

static struct spot *spot_at(struct sim_check *check, uint64_t index)
{
    if (index >= check->spot_cap) {
        size_t cap = (size_t)index * 2 + 64;
        check->spots = realloc(check->spots, cap * sizeof *check->spots);
        FAR_ASSERT(check->spots != NULL);
        memset(check->spots + check->spot_cap, 0, (cap - check->spot_cap) * sizeof *check->spots);
        check->spot_cap = cap;
    }
    return &check->spots[index];
}

bool sim_check_is_same(const struct sim_check *check, const struct far_wal_entry *entry)
{
    return entry->index >= check->spot_cap || !check->spots[entry->index].is_committed ||
           check->spots[entry->index].term == entry->term;
}

uint64_t sim_check_recover(struct sim_check *check, uint64_t last_index)
{
    uint64_t lost = 0;
    for (uint64_t index = last_index + 1; index < check->spot_cap; index++) {
        far_blob_unref(check->spots[index].blob);
        check->spots[index] = (struct spot){0};
    }
    check->last_index = check->last_index > last_index ? last_index : check->last_index;
    for (size_t i = check->answer_count; i-- > 0;) {
        if (check->answers[i].index > last_index) {
            check->answers[i] = check->answers[--check->answer_count];
            lost++;
        }
    }
    sim_history_recover(check->sim->history, last_index, lost > 0);
    return lost;
}

void sim_check_leader(struct sim_check *check, uint64_t id, uint64_t term)
{
    for (size_t i = 0; i < check->leader_count; i++) {
        if (check->leaders[i].term == term && check->leaders[i].id != id) {
            sim_fail(check->sim, "two leaders in term %llu: %llu and %llu", (unsigned long long)term,
                     (unsigned long long)check->leaders[i].id, (unsigned long long)id);
        }
    }
    if (check->leader_count == check->leader_cap) {
        check->leader_cap = check->leader_cap * 2 + 64;
        check->leaders = realloc(check->leaders, check->leader_cap * sizeof *check->leaders);
        FAR_ASSERT(check->leaders != NULL);
    }
    check->leaders[check->leader_count++] = (struct leader){.term = term, .id = id, .at_us = check->sim->now_us};
}

void sim_check_commit(struct sim_check *check, uint64_t id, const struct far_wal_entry *entry)
{
    struct spot *spot = spot_at(check, entry->index);
    if (!spot->is_committed) {
        spot->is_committed = true;
        spot->term = entry->term;
        spot->type = entry->type;
        spot->by = id;
        spot->blob = far_blob_ref(entry->blob);
        check->last_index = entry->index > check->last_index ? entry->index : check->last_index;
    } else if (spot->term != entry->term || spot->type != entry->type ||
               !far_slice_equal(far_blob_slice(spot->blob), far_blob_slice(entry->blob))) {
        sim_fail(check->sim, "entry %llu: server %llu committed it in term %llu, server %llu another one in term %llu",
                 (unsigned long long)entry->index, (unsigned long long)spot->by, (unsigned long long)spot->term,
                 (unsigned long long)id, (unsigned long long)entry->term);
    }
}

void sim_check_applied(struct sim_check *check, uint64_t id, const struct far_store_meta *meta)
{
    uint64_t index = meta->applied_index;
    struct spot *spot = spot_at(check, index);
    if (!spot->is_applied) {
        spot->is_applied = true;
        spot->applied_us = check->sim->now_us;
        spot->digest = meta->digest;
        spot->last_seq = meta->last_seq;
        memcpy(spot->head, meta->head, FAR_HEAD_SIZE);
    } else if (!far_hash128_equal(spot->digest, meta->digest)) {
        sim_fail(check->sim, "server %llu has another state at index %llu", (unsigned long long)id,
                 (unsigned long long)index);
    } else if (memcmp(spot->head, meta->head, FAR_HEAD_SIZE) != 0 || spot->last_seq != meta->last_seq) {
        sim_fail(check->sim, "server %llu has another chain at index %llu", (unsigned long long)id,
                 (unsigned long long)index);
    }
}

bool sim_check_moment(const struct sim_check *check, uint64_t index, uint64_t *ret_seq, struct far_hash128 *ret_digest)
{
    if (index >= check->spot_cap || !check->spots[index].is_applied) {
        return false;
    }
    *ret_seq = check->spots[index].last_seq;
    *ret_digest = check->spots[index].digest;
    return true;
}

void sim_check_answered(struct sim_check *check, uint64_t command, uint64_t index)
{
    if (check->answer_count == check->answer_cap) {
        check->answer_cap = check->answer_cap * 2 + 256;
        check->answers = realloc(check->answers, check->answer_cap * sizeof *check->answers);
        FAR_ASSERT(check->answers != NULL);
    }
    check->answers[check->answer_count++] = (struct answer){.command = command, .index = index};
}

/* ---- the end ---- */

/* A command took effect where it was accepted first; a second time is an alarm. */
struct effects {
    struct sim_check *check;
    uint64_t *at; /* index by command */
    uint64_t count;
    uint64_t index;
    struct far_store_txn *txn;
};

static uint64_t elected_at(const struct sim_check *check, uint64_t term)
{
    for (size_t i = check->leader_count; i-- > 0;) {
        if (check->leaders[i].term == term) {
            return check->leaders[i].at_us;
        }
    }
    return 0;
}

static void note_effect(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    struct effects *effects = arg;
    struct sim *sim = effects->check->sim;
    uint64_t number = far_get_le64(command->id);
    struct spot *spot = spot_at(effects->check, effects->index);
    const struct sim_decided decided = {.index = effects->index,
                                        .command = command,
                                        .result = result,
                                        .applied_us = spot->applied_us,
                                        .elected_us = elected_at(effects->check, spot->term)};
    sim_orders_decided(sim->orders, effects->txn, &decided);
    if (command->id[15] != 1 || number > effects->count || result->klass != 0 || result->repeated) {
        return;
    }
    if (effects->at[number] != 0) {
        sim_fail(sim, "command %llu took effect twice, at %llu and %llu", (unsigned long long)number,
                 (unsigned long long)effects->at[number], (unsigned long long)effects->index);
    }
    effects->at[number] = effects->index;
    sim_history_effect(sim->history, number, result->object_id, spot_at(effects->check, effects->index)->applied_us);
}

static void replay_entry(struct sim_check *check, struct far_store *store, struct effects *effects)
{
    uint64_t index = effects->index;
    struct spot *spot = spot_at(check, index);
    struct far_error err = {0};
    struct far_store_txn *txn;
    int rc;
    if (!spot->is_committed) {
        sim_fail(check->sim, "entry %llu was passed over", (unsigned long long)index);
        return;
    }
    FAR_ASSERT(far_store_begin(store, true, &txn, NULL) == 0);
    effects->txn = txn;
    if (spot->type == FAR_RAFT_COMMAND) {
        rc = far_apply_commands(txn, index, spot->term, far_blob_slice(spot->blob), note_effect, effects, &err);
    } else if (spot->type == FAR_RAFT_BARRIER) {
        rc = far_apply_barrier(txn, index, spot->term, &err);
    } else {
        rc = far_apply_configuration(txn, index, spot->term, far_blob_slice(spot->blob), &err);
    }
    struct far_store_meta *meta = far_store_meta(txn);
    struct far_state state = {.kv = far_store_kv(txn)};
    if (rc != 0) {
        sim_fail(check->sim, "replay of entry %llu: %s", (unsigned long long)index, err.message);
    } else if (spot->is_applied && !far_hash128_equal(meta->digest, spot->digest)) {
        sim_fail(check->sim, "replay gives another state at index %llu", (unsigned long long)index);
    } else {
        sim_history_at(check->sim->history, index, &state);
    }
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
}

static void check_server(struct sim_check *check, struct sim_server *server)
{
    struct far_store_txn *txn;
    struct far_hash128 digest;
    uint64_t pairs;
    struct far_error err = {0};
    FAR_ASSERT(far_store_begin(server->store, false, &txn, NULL) == 0);
    const struct far_store_meta *meta = far_store_meta(txn);
    struct spot *spot = spot_at(check, meta->applied_index);
    if (far_state_digest_walk(far_store_kv(txn), &digest, &pairs, &err) != 0) {
        sim_fail(check->sim, "server %llu: %s", (unsigned long long)server->id, err.message);
    } else if (!far_hash128_equal(digest, meta->digest) || !spot->is_applied ||
               !far_hash128_equal(digest, spot->digest)) {
        sim_fail(check->sim, "server %llu: its rows do not give the digest of index %llu", (unsigned long long)server->id,
                 (unsigned long long)meta->applied_index);
    }
    far_store_abort(txn);
}

void sim_check_end(struct sim_check *check)
{
    struct sim *sim = check->sim;
    struct far_store *store;
    struct effects effects = {.check = check, .count = sim->next_command};
    effects.at = calloc((size_t)sim->next_command + 1, sizeof *effects.at);
    FAR_ASSERT(effects.at != NULL && far_store_open_memory(&store, NULL) == 0);
    for (effects.index = 1; effects.index <= check->last_index && !sim->failed; effects.index++) {
        replay_entry(check, store, &effects);
    }
    for (size_t i = 0; i < check->answer_count && !sim->failed; i++) {
        if (effects.at[check->answers[i].command] == 0) {
            sim_fail(sim, "command %llu was acknowledged at index %llu and is lost",
                     (unsigned long long)check->answers[i].command, (unsigned long long)check->answers[i].index);
        }
    }
    if (!sim->failed) {
        struct far_store_txn *txn;
        sim_history_check(sim->history);
        FAR_ASSERT(far_store_begin(store, true, &txn, NULL) == 0);
        sim_consumers_check(sim, txn);
        sim_heads_check(sim, txn);
        for (unsigned i = 0; i < SIM_MACHINES && !sim->failed; i++) {
            if (sim->servers[i].alive && sim->servers[i].incarnation == sim->incarnation) {
                sim_compact_check(&sim->servers[i], txn);
            }
        }
        far_store_abort(txn);
        sim_past_check(sim);
    }
    for (unsigned i = 0; i < SIM_MACHINES && !sim->failed; i++) {
        if (sim->servers[i].alive && sim->servers[i].meta->applied_index > 0) {
            check_server(check, &sim->servers[i]);
        }
    }
    free(effects.at);
    far_store_close(store);
}
