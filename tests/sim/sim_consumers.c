/* Consumers of the events: each reads on from its cursor (seq, head) at whichever server, acknowledges its place by name, and
 * when it dies goes on from there. See sim.h.
 *
 * A consumer only hashes what it gets. In the end the events of the replayed log are hashed in the same way: each must have
 * got every one, once and in order. */
#include "sim.h"

#include "base/assert.h"
#include "base/hash.h"
#include "fsm/query.h"

enum { BATCH = 100, ACK_US = 4 * SIM_SECOND, ASLEEP_US = 30 * SIM_SECOND };

static void poll_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob);

static uint64_t add_row(uint64_t hash, struct far_slice row)
{
    uint8_t before[8];
    far_put_le64(before, hash);
    return far_hash64_parts(far_slice(before, sizeof before), row, far_slice(NULL, 0));
}

/* Where events may lose their payloads, the head behind one stands for all of it. */
static uint64_t add_event(const struct sim *sim, uint64_t hash, struct far_slice row, const uint8_t head[FAR_HEAD_SIZE])
{
    return add_row(hash, sim->swarm.compact_rows > 0 ? far_slice(head, FAR_HEAD_SIZE) : row);
}

static struct far_slice name_of(const struct sim_consumer *consumer, char name[32])
{
    snprintf(name, 32, "consumer-%u", consumer->number);
    return far_slice_str(name);
}

/* ---- its place ---- */

static void acked(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim_consumer *consumer = caller->owner;
    consumer->is_known = consumer->is_known || result->klass == 0 || result->klass == FAR_CONFLICT;
}

/* What it acknowledges it must be able to go on from: the newest few places are kept with what it had seen by then. */
static void acknowledge(struct sim_consumer *consumer)
{
    char name[32];
    struct far_slice text = name_of(consumer, name);
    uint64_t actor = far_actor(FAR_ACTOR_TOKEN, 2);
    if (!consumer->is_known) {
        struct far_cmd_consumer_create create = {.name = text};
        sim_call(&consumer->caller, &far_schema_cmd_consumer_create, &create, actor, 0);
        return;
    }
    struct far_cmd_consumer_ack ack = {
        .name = text, .seq = consumer->place.seq, .head = far_slice(consumer->place.head, FAR_HEAD_SIZE)};
    consumer->marks[consumer->mark_count++ % SIM_CONSUMER_MARKS] = consumer->place;
    sim_call(&consumer->caller, &far_schema_cmd_consumer_ack, &ack, actor, 0);
}

/* It has died: it asks a server where it was. */
static void go_back(struct sim_consumer *consumer, struct far_store_txn *txn)
{
    char name[32];
    uint64_t id;
    struct far_row_consumer row;
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_arena arena;
    far_arena_init(&arena, 4096);
    if (far_query_id(&state, &far_schema_row_consumer, name_of(consumer, name), &id, NULL) == 0) {
        struct far_key key = far_key(&far_schema_row_consumer);
        far_key_u64(&key, id);
        int rc = far_state_get(&state, &far_schema_row_consumer, &key, &arena, &row, NULL);
        for (unsigned i = 0; rc == 0 && i < SIM_CONSUMER_MARKS; i++) {
            const struct sim_place *mark = &consumer->marks[i];
            bool is_there = mark->seq + 1 >= consumer->sim->cut_floor; /* else it is answered that it is gone */
            if (is_there && mark->seq == row.seq && far_slice_equal(row.head, far_slice(mark->head, FAR_HEAD_SIZE))) {
                consumer->place = *mark;
                sim_count(consumer->sim, SIM_COUNT_CONSUMER_BACK);
                break;
            }
        }
    }
    far_arena_done(&arena);
}

/* ---- reading ---- */

/* false: this server does not have the place, or not any more. */
static bool has_place(struct sim_consumer *consumer, struct sim_server *server, struct far_store_txn *txn)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE];
    if (consumer->place.seq + 1 < meta->first_seq || consumer->place.seq > meta->last_seq) {
        return false;
    }
    if (consumer->place.seq + 1 == meta->first_seq) {
        memcpy(head, meta->base_head, sizeof head);
    } else if (far_store_event_get(txn, consumer->place.seq, &event, head, NULL) != 0) {
        return false;
    }
    if (memcmp(head, consumer->place.head, sizeof head) != 0) {
        sim_fail(consumer->sim, "consumer %u was at event %llu, and server %llu has another one there", consumer->number,
                 (unsigned long long)consumer->place.seq, (unsigned long long)server->id);
        return false;
    }
    return true;
}

/* It proves by the chain that it got this event next, with its payload or the payload's hash. */
static bool follows(struct sim_consumer *consumer, struct sim_server *server, const struct far_event *event,
                    const uint8_t head[FAR_HEAD_SIZE])
{
    struct sim *sim = consumer->sim;
    uint8_t own[FAR_HEAD_SIZE];
    memcpy(own, consumer->place.head, sizeof own);
    FAR_ASSERT(far_chain_add(own, event, NULL) == 0);
    if (memcmp(own, head, sizeof own) != 0) {
        sim_fail(sim, "server %llu: the chain does not lead to event %llu", (unsigned long long)server->id, (unsigned long long)event->seq);
        return false;
    }
    sim->counts.of[SIM_COUNT_SHORT_READ] += event->compacted_len != 0;
    sim_compact_seen(server, event);
    return true;
}

static void take(struct sim_consumer *consumer, struct sim_server *server, struct far_store_txn *txn)
{
    struct sim *sim = consumer->sim;
    for (unsigned i = 0; i < BATCH; i++) {
        struct far_event event;
        struct far_slice row;
        uint8_t head[FAR_HEAD_SIZE];
        uint64_t seq = consumer->place.seq + 1;
        if (seq > far_store_meta(txn)->last_seq || far_store_event_get(txn, seq, &event, head, NULL) != 0 ||
            far_store_event_row(txn, seq, &row, NULL) != 0) {
            return;
        }
        if (sim->swarm.compact_rows > 0 && !follows(consumer, server, &event, head)) {
            return;
        }
        if (sim->options.broken != SIM_BROKEN_EVENT || !sim_chance(sim, 1)) {
            consumer->place.hash = add_event(sim, consumer->place.hash, row, head);
        }
        consumer->place.seq = seq;
        memcpy(consumer->place.head, head, sizeof head);
    }
}

static void poll_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_consumer *consumer = object;
    struct sim_server *server = &sim->servers[sim_random(sim, SIM_MACHINES)];
    struct far_store_txn *txn;
    sim_after(sim, 100 * SIM_MS + sim_random(sim, 500 * SIM_MS), poll_due, consumer, 0, 0, NULL);
    if (!server->alive || server->fatal || server->incarnation != sim->incarnation || sim->now_us < consumer->asleep_us) {
        return;
    }
    if (sim->trouble && sim_chance(sim, 3)) { /* and then what it missed may be compacted */
        consumer->asleep_us = sim->now_us + sim_random(sim, ASLEEP_US);
        return;
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    if (sim->trouble && sim_chance(sim, 2)) {
        go_back(consumer, txn);
    }
    if (has_place(consumer, server, txn)) {
        take(consumer, server, txn);
    }
    far_store_abort(txn);
    if (!sim->calm && !consumer->caller.is_active && sim->now_us > consumer->acked_us + ACK_US) {
        consumer->acked_us = sim->now_us;
        acknowledge(consumer);
    }
}

void sim_consumers_start(struct sim *sim)
{
    for (unsigned i = 0; i < sim->swarm.consumers; i++) {
        struct sim_consumer *consumer = &sim->consumers[i];
        consumer->sim = sim;
        consumer->number = i;
        sim_call_init(&consumer->caller, sim, acked, consumer);
        sim_after(sim, sim_random(sim, SIM_SECOND), poll_due, consumer, 0, 0, NULL);
    }
}

bool sim_consumers_idle(const struct sim *sim, uint64_t last_seq)
{
    for (unsigned i = 0; i < sim->swarm.consumers; i++) {
        if (sim->consumers[i].caller.is_active || sim->consumers[i].place.seq != last_seq) {
            return false;
        }
    }
    return true;
}

void sim_consumers_check(struct sim *sim, struct far_store_txn *replayed)
{
    for (unsigned i = 0; i < sim->swarm.consumers && !sim->failed; i++) {
        const struct sim_consumer *consumer = &sim->consumers[i];
        uint64_t hash = 0;
        for (uint64_t seq = 1; seq <= consumer->place.seq; seq++) {
            struct far_slice row;
            struct far_event event;
            uint8_t head[FAR_HEAD_SIZE];
            if (far_store_event_row(replayed, seq, &row, NULL) != 0 || far_event_row_decode(row, &event, head, NULL) != 0) {
                sim_fail(sim, "consumer %u got event %llu, and the log has none", i, (unsigned long long)seq);
                return;
            }
            hash = add_event(sim, hash, row, head);
        }
        if (hash != consumer->place.hash) {
            sim_fail(sim, "consumer %u did not get every event up to %llu once and in order", i,
                     (unsigned long long)consumer->place.seq);
        }
    }
}
