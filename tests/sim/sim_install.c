/* How a simulated server fetches the state of another one, piece by piece, with the real snapshot code. See sim.h. */
#include "sim.h"

#include "base/assert.h"

enum { PIECE_US = 2 * SIM_MS, ASK_AGAIN_US = 2 * SIM_SECOND };

static void ask_again(struct sim *sim, void *object, uint64_t life, uint64_t number, struct far_blob *blob);

static void ask(struct sim_server *server)
{
    struct sim *sim = server->sim;
    server->fetch_number = ++sim->next_order;
    server->fetch_heard_us = sim->now_us;
    sim_apply_settle(server);
    FAR_ASSERT(far_install_begin(server->store, &server->install, NULL) == 0);
    sim_net_send(server, server->fetch_from, SIM_STATE_WANT, server->fetch_number, far_slice(NULL, 0));
    sim_after(sim, ASK_AGAIN_US, ask_again, server, server->life, server->fetch_number, NULL);
}

static void ask_again(struct sim *sim, void *object, uint64_t life, uint64_t number, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life || !server->fetching || server->fetch_number != number) {
        return;
    }
    if (sim->now_us - server->fetch_heard_us < ASK_AGAIN_US) {
        sim_after(sim, ASK_AGAIN_US, ask_again, server, life, number, NULL);
        return;
    }
    struct sim_server *other = &sim->servers[sim_random(sim, SIM_MACHINES)]; /* any that is ahead will do */
    if (other->alive && other != server) {
        server->fetch_from = other->id;
    }
    ask(server);
}

void sim_install_begin(struct sim_server *server, uint64_t from_id, uint64_t min_index)
{
    sim_say(server->sim, "server %llu wants the state of %llu", (unsigned long long)server->id,
            (unsigned long long)from_id);
    server->fetching = true;
    server->fetch_from = from_id;
    server->fetch_min_index = min_index;
    ask(server);
}

/* ---- who sends ---- */

static void piece_due(struct sim *sim, void *object, uint64_t life, uint64_t number, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life || server->dump_number != number || server->dump.txn == NULL) {
        return;
    }
    far_buf_reset(&sim->scratch);
    struct far_error err = {0};
    if (far_dump_next(&server->dump, &sim->scratch, &err) != 0) {
        if (!server->damaged) {
            sim_fail(sim, "server %llu cannot give its state: %s", (unsigned long long)server->id, err.message);
        }
        far_dump_end(&server->dump);
        return;
    }
    sim_net_send(server, server->dump_to, SIM_STATE_PIECE, number, far_buf_slice(&sim->scratch));
    if (!server->dump.ended) {
        sim_after(sim, PIECE_US, piece_due, server, life, number, NULL);
        return;
    }
    far_buf_reset(&sim->scratch);
    FAR_ASSERT(far_manifest_encode(&server->dump.manifest, &sim->scratch, NULL) == 0);
    sim_net_send(server, server->dump_to, SIM_STATE_END, number, far_buf_slice(&sim->scratch));
    far_dump_end(&server->dump);
}

static void start_dump(struct sim_server *server, uint64_t to_id, uint64_t number)
{
    far_dump_end(&server->dump);
    memset(&server->dump, 0, sizeof server->dump);
    FAR_ASSERT(far_dump_begin(server->store, &server->dump, NULL) == 0);
    server->dump_to = to_id;
    server->dump_number = number;
    sim_after(server->sim, PIECE_US, piece_due, server, server->life, number, NULL);
}

/* ---- who receives ---- */

static void finish(struct sim_server *server, struct far_slice bytes)
{
    struct sim *sim = server->sim;
    struct far_manifest manifest;
    struct far_error err = {0};
    if (!server->install.ended) {
        return; /* a piece was lost: ask again */
    }
    FAR_ASSERT(far_manifest_decode(bytes, &manifest, NULL) == 0);
    if (manifest.index < server->fetch_min_index) {
        return; /* that server is behind, too */
    }
    sim_server_apply_all(server);
    if (server->fatal) {
        return;
    }
    if (far_install_finish(&server->install, &manifest, &err) != 0) {
        sim_fail(sim, "server %llu could not install: %s", (unsigned long long)server->id, err.message);
        return;
    }
    server->fetching = false;
    server->safe_first_seq = UINT64_MAX;
    sim_count(sim, SIM_COUNT_INSTALLED);
    sim_server_read_meta(server);
    server->installed_seq = server->meta->last_seq;
    server->past = (struct sim_past){.is_done = false}; /* behind the events */
    sim_propose_observe(server);
    *server->before = *server->meta;
    server->told_durable = server->meta->applied_index;
    sim_say(sim, "server %llu has installed the state at %llu", (unsigned long long)server->id,
            (unsigned long long)server->meta->applied_index);
    sim_check_applied(sim->check, server->id, server->meta);
    if (sim->trouble && sim_chance(sim, 15)) { /* a crash between the switch and what raft learns of it */
        sim_count(sim, SIM_COUNT_INSTALL_CUT);
        sim_server_crash(server, true);
        return;
    }
    struct far_raft_manifest raft_manifest = sim_manifest_of(server->meta);
    far_raft_installed(server->raft, &raft_manifest);
}

/* ---- the events from before ---- */

enum { HISTORY_BYTES = 64 * 1024 };

void sim_history_ask(struct sim_server *server)
{
    struct sim_server *other = &server->sim->servers[sim_random(server->sim, SIM_MACHINES)];
    if (server->fetching || sim_has_history(server) || !other->alive || other == server) {
        return;
    }
    sim_net_send(server, other->id, SIM_HISTORY_WANT, server->meta->first_seq - 1, far_slice(NULL, 0));
}

static void send_history(struct sim_server *server, uint64_t to_id, uint64_t seq)
{
    struct sim *sim = server->sim;
    struct far_store_txn *txn;
    struct far_error err = {0};
    far_buf_reset(&sim->scratch);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    bool has = seq <= far_store_meta(txn)->last_seq && seq >= far_store_meta(txn)->first_seq;
    int rc = has ? far_history_encode(txn, 1, seq, HISTORY_BYTES, &sim->scratch, &err) : 0;
    far_store_abort(txn);
    if (rc != 0 && !server->damaged) {
        sim_fail(sim, "server %llu cannot give its events: %s", (unsigned long long)server->id, err.message);
    } else if (rc == 0) {
        sim_net_send(server, to_id, SIM_HISTORY, seq, far_buf_slice(&sim->scratch));
    }
}

static void take_history(struct sim_server *server, uint64_t seq, struct far_slice batch)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    if (server->fetching || seq != server->meta->first_seq - 1 || batch.len == 0) {
        return; /* it is there by now */
    }
    sim_apply_settle(server);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    if (far_history_apply(txn, batch, &err) != 0) {
        sim_fail(server->sim, "server %llu cannot take events: %s", (unsigned long long)server->id, err.message);
        far_store_abort(txn);
        return;
    }
    sim_compact_fetched(server, txn, far_store_meta(txn)->first_seq, server->meta->first_seq);
    *server->before = *server->meta;
    *server->meta = *far_store_meta(txn);
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
    sim_count(server->sim, SIM_COUNT_BACKFILL);
    sim_history_ask(server);
}

void sim_install_message(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                         struct far_slice bytes)
{
    if (kind == SIM_STATE_WANT) {
        start_dump(server, from_id, number);
        return;
    }
    if (kind == SIM_HISTORY_WANT) {
        send_history(server, from_id, number);
        return;
    }
    if (kind == SIM_HISTORY) {
        take_history(server, number, bytes);
        return;
    }
    if (!server->fetching || number != server->fetch_number) {
        return;
    }
    server->fetch_heard_us = server->sim->now_us;
    sim_apply_settle(server);
    if (kind == SIM_STATE_END) {
        finish(server, bytes);
    } else if (far_install_piece(&server->install, bytes, NULL) != 0) {
        server->fetch_heard_us = 0; /* one before it was lost */
    }
}

void sim_install_end(struct sim_server *server)
{
    server->fetching = false;
    far_dump_end(&server->dump);
    memset(&server->dump, 0, sizeof server->dump);
}
