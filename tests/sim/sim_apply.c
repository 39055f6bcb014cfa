/* How a simulated server applies what is committed: in groups, a little later, in one transaction each; what the commit before left
 * is durable then. See sim.h.
 *
 * In some seeds as the apply thread does (log/layers.h): a group is applied to a layer in memory and answered, the layer is frozen and
 * committed later, and the next one grows meanwhile; whoever writes the store otherwise has all of it committed first. A crash
 * loses what was answered and not committed, and the log gives it back. */
#include "sim.h"

#include "base/assert.h"
#include "log/layers.h"

static void apply_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob);
static void commit_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob);

static uint64_t mono_ms(const struct sim_server *server)
{
    return server->sim->now_us / SIM_MS + 1000;
}

void sim_apply_plan(struct sim_server *server)
{
    if (!server->apply_planned && server->queue_count > 0) {
        server->apply_planned = true;
        sim_after(server->sim, 50 + sim_random(server->sim, server->sim->swarm.apply_us), apply_due, server, server->life, 0, NULL);
    }
}

/* ---- one entry ---- */

struct decided {
    struct sim_server *server;
    uint64_t index;
    uint64_t term;
};

static void note_result(void *arg, unsigned position, const struct far_command *command, const struct far_result *result)
{
    struct decided *decided = arg;
    struct sim_server *server = decided->server;
    if (server->sim->options.verbose && result->klass != 0 && server->is_leader) {
        sim_say(server->sim, "command %llu of kind %u: %s", (unsigned long long)far_get_le64(command->id), command->kind,
                result->message);
    }
    if (result->seq_first != 0 && !result->repeated) { /* the state's time moves with its events only */
        far_cluster_clock_observe(&server->clock, command->proposed_at_ms, mono_ms(server));
    }
    if (command->kind == FAR_KIND_cmd_progress_compact && result->klass == 0 && server->incarnation == server->sim->incarnation) {
        sim_compact_decided(server->sim, command);
    }
    far_proposals_decided(&server->proposals, decided->index, decided->term, position, result, decided->index);
}

int sim_apply_one(struct sim_server *server, struct far_store_txn *txn, const struct far_wal_entry *entry,
                     struct far_error *err)
{
    struct decided decided = {.server = server, .index = entry->index, .term = entry->term};
    struct far_slice data = far_blob_slice(entry->blob);
    int rc;
    if (entry->type == FAR_RAFT_COMMAND) {
        rc = far_apply_commands(txn, entry->index, entry->term, data, note_result, &decided, err);
    } else if (entry->type == FAR_RAFT_BARRIER) {
        rc = far_apply_barrier(txn, entry->index, entry->term, err);
    } else {
        rc = far_apply_configuration(txn, entry->index, entry->term, data, err);
    }
    if (rc == 0) {
        struct far_store_meta *meta = far_store_meta(txn);
        if (server->sim->options.broken == SIM_BROKEN_APPLY && server->machine == 1 && entry->index % 100 == 99) {
            meta->digest.low++;
        }
        if (server->incarnation == server->sim->incarnation) {
            sim_check_applied(server->sim->check, server->id, meta);
        }
    }
    return rc;
}

struct far_raft_manifest sim_manifest_of(const struct far_store_meta *meta)
{
    return (struct far_raft_manifest){.index = meta->applied_index,
                                      .term = meta->applied_term,
                                      .configuration_index = meta->configuration_index,
                                      .configuration = far_slice(meta->configuration, meta->configuration_len),
                                      .data = far_slice(meta->head, FAR_HEAD_SIZE)};
}

void sim_server_tell_durable(struct sim_server *server)
{
    uint64_t durable = far_store_durable_index(server->store);
    const struct far_store_meta *meta = server->meta->applied_index == durable ? server->meta : server->before;
    if (durable > server->told_durable && meta->applied_index == durable) {
        struct far_raft_manifest manifest = sim_manifest_of(meta);
        server->told_durable = durable;
        far_raft_durable(server->raft, &manifest);
    }
}

/* ---- layers ---- */

static void freeze(struct sim_server *server)
{
    struct sim *sim = server->sim;
    server->frozen = far_layers_freeze(server->layers);
    server->is_growing = false;
    sim_after(sim, SIM_MS + sim_random(sim, sim->swarm.layer_us), commit_due, server, server->life, ++server->layer_number, NULL);
}

static void note_committed(struct sim_server *server)
{
    *server->before = *server->meta;
    sim_server_read_meta(server);
    far_proposals_applied(&server->proposals, server->meta->applied_index, server->meta->applied_term);
}

static void commit_frozen(struct sim_server *server)
{
    struct far_error err = {0};
    int rc = far_layer_commit(server->frozen, server->store, &err);
    server->frozen = NULL;
    rc = rc != 0 ? rc : far_layers_settle(server->layers, &err);
    if (rc != 0) {
        sim_fail(server->sim, "server %llu cannot commit a layer: %s", (unsigned long long)server->id, err.message);
        return;
    }
    sim_count(server->sim, SIM_COUNT_LAYER);
    note_committed(server);
}

void sim_apply_settle(struct sim_server *server)
{
    while (server->layers != NULL && (server->frozen != NULL || server->is_growing) && !server->sim->failed && !server->fatal) {
        if (server->frozen == NULL) {
            freeze(server);
        }
        commit_frozen(server);
    }
    if (server->layers != NULL) {
        far_layers_forget(server->layers);
    }
}

static void after_commit(struct sim_server *server)
{
    struct sim *sim = server->sim;
    if (sim_chance(sim, 10)) {
        FAR_ASSERT(far_store_sync(server->store, NULL) == 0);
    }
    if (!sim->failed) {
        sim_server_tell_durable(server);
        sim_server_pump(server);
        sim_apply_plan(server);
    }
}

static void commit_due(struct sim *sim, void *object, uint64_t life, uint64_t number, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life || server->fatal || server->frozen == NULL || server->layer_number != number) {
        return;
    }
    commit_frozen(server);
    if (server->is_growing) {
        freeze(server);
    }
    after_commit(server);
}

void sim_apply_live(struct sim_server *server)
{
    if (server->sim->swarm.layer_us > 0) {
        server->layers = far_layers_new(server->store);
        FAR_ASSERT(server->layers != NULL);
    }
}

void sim_apply_end(struct sim_server *server)
{
    for (; server->queue_count > 0; server->queue_count--) {
        far_blob_unref(server->queued[server->queue_head].blob);
        server->queue_head = (server->queue_head + 1) % SIM_QUEUE_MAX;
    }
    server->apply_planned = false;
    server->sim->counts.of[SIM_COUNT_LAYER_LOST] += (server->frozen != NULL) + server->is_growing;
    far_layers_free(server->layers);
    server->layers = NULL;
    server->frozen = NULL;
    server->is_growing = false;
}

/* ---- groups ---- */

static bool apply_entries(struct sim_server *server, struct far_store_txn *txn)
{
    struct far_error err = {0};
    struct far_raft_status status;
    for (unsigned i = 0; i < server->sim->swarm.apply_group && server->queue_count > 0; i++) {
        struct far_wal_entry *entry = &server->queued[server->queue_head];
        int rc = sim_apply_one(server, txn, entry, &err);
        if (rc == FAR_CORRUPT && server->damaged) {
            sim_server_stop(server, &err);
            return false;
        }
        if (rc != 0) {
            sim_fail(server->sim, "server %llu cannot apply entry %llu: %s", (unsigned long long)server->id,
                     (unsigned long long)entry->index, err.message);
            return false;
        }
        far_blob_unref(entry->blob);
        server->queue_head = (server->queue_head + 1) % SIM_QUEUE_MAX;
        server->queue_count--;
    }
    far_raft_status(server->raft, &status);
    if (status.stored_index > 0) {
        far_store_meta(txn)->stored_index = status.stored_index;
        far_store_meta(txn)->stored_term = status.stored_term;
    }
    return true;
}

static void apply_to_layer(struct sim_server *server)
{
    struct far_store_txn *txn;
    FAR_ASSERT(far_layers_grow(server->layers, &txn, NULL) == 0);
    if (!apply_entries(server, txn)) {
        far_layers_drop(server->layers);
        server->is_growing = false;
        return;
    }
    server->is_growing = true;
    if (server->frozen == NULL) {
        freeze(server);
    }
}

static void apply_group(struct sim_server *server)
{
    struct far_store_txn *txn;
    if (server->layers != NULL) {
        apply_to_layer(server);
        return;
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    if (!apply_entries(server, txn)) {
        far_store_abort(txn);
        return;
    }
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
    note_committed(server);
}

void sim_server_apply_all(struct sim_server *server)
{
    while (server->queue_count > 0 && !server->sim->failed && !server->fatal) {
        apply_group(server);
    }
    sim_apply_settle(server);
}

static void apply_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life) {
        return;
    }
    server->apply_planned = false;
    if (server->queue_count == 0) {
        return;
    }
    apply_group(server);
    if (!server->fatal) {
        after_commit(server);
    }
}
