/* One simulated server: what log.c does around the raft driver, in virtual time. See sim.h.
 *
 * Committed entries are queued and applied a little later (sim_apply.c). A crash drops memory, and with a power cut also what
 * disk and store had not made durable. */
#include "sim.h"

#include "base/assert.h"

static uint64_t now_ms(void *arg)
{
    struct sim_server *server = arg;
    return server->sim->now_us / SIM_MS + 1000;
}

/* ---- timer ---- */

static void timer_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (server->alive && server->life == life && server->timer_order == unused) {
        far_raft_timeout(server->raft);
    }
}

static void set_timer(void *arg, uint64_t at_ms)
{
    struct sim_server *server = arg;
    uint64_t now = now_ms(arg);
    uint64_t us = at_ms > now ? (at_ms - now) * SIM_MS : 1;
    sim_after(server->sim, us, timer_due, server, server->life, ++server->timer_order, NULL);
}

/* ---- the writer ---- */

/* A write went astray: by now the log ends here, as the server believes. */
static void note_stray(struct sim_server *server)
{
    struct far_raft_status status;
    if (server->stray_index == 0 && sim_disk_astray(server->disk)) {
        far_raft_status(server->raft, &status);
        server->stray_index = status.last_index;
    }
}

static void job_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (!server->alive || server->life != life || server->job == NULL) {
        return;
    }
    struct far_wal_job *job = server->job;
    server->job = NULL;
    job->run(job);
    job->done(job);
    note_stray(server);
    if (server->alive && server->is_leader) {
        sim_server_pump(server);
    }
}

static void submit(void *arg, struct far_wal_job *job)
{
    struct sim_server *server = arg;
    FAR_ASSERT(server->job == NULL);
    server->job = job;
    uint64_t us = 100 + sim_random(server->sim, server->sim->swarm.disk_us) + sim_random(server->sim, server->slow_us + 1);
    sim_after(server->sim, us, job_due, server, server->life, 0, NULL);
}

/* ---- what the driver wants ---- */

static void env_send(void *arg, uint64_t peer_id, const char *address, struct far_slice message)
{
    sim_net_send(arg, peer_id, SIM_RAFT, 0, message);
}

static void env_commit(void *arg, const struct far_wal_entry *entry)
{
    struct sim_server *server = arg;
    FAR_ASSERT(server->queue_count < SIM_QUEUE_MAX);
    size_t at = (server->queue_head + server->queue_count++) % SIM_QUEUE_MAX;
    server->queued[at] = *entry;
    far_blob_ref(entry->blob);
    if (server->incarnation == server->sim->incarnation) {
        sim_check_commit(server->sim->check, server->id, entry);
    }
    sim_apply_plan(server);
}

static void env_leader(void *arg, uint64_t leader_id, uint64_t term, bool is_self)
{
    struct sim_server *server = arg;
    sim_say(server->sim, "server %llu: term %llu, leader %llu", (unsigned long long)server->id, (unsigned long long)term,
            (unsigned long long)leader_id);
    server->leader_moved = server->leader_moved || server->leader_id != leader_id || server->term != term ||
                           server->is_leader != is_self;
    server->is_leader = is_self;
    server->leader_id = leader_id;
    server->term = term;
    if (is_self) {
        sim_count(server->sim, SIM_COUNT_ELECTED);
        sim_check_leader(server->sim->check, server->id, term);
        sim_faults_elected(server);
    }
}

static void env_install(void *arg, uint64_t from_id, const struct far_raft_manifest *manifest)
{
    sim_install_begin(arg, from_id, manifest->index);
}

static void env_fatal(void *arg, const struct far_error *err)
{
    struct sim_server *server = arg;
    server->fatal = true;
    server->fatal_err = *err;
}

static void retry_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    if (server->alive && server->life == life) {
        far_raft_retry(server->raft);
    }
}

static void env_full(void *arg, const struct far_error *err)
{
    struct sim_server *server = arg;
    sim_after(server->sim, 500 * SIM_MS, retry_due, server, server->life, 0, NULL);
}

void sim_server_read_meta(struct sim_server *server)
{
    struct far_store_txn *txn;
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    *server->meta = *far_store_meta(txn);
    far_store_abort(txn);
}

/* It has seen that its data is damaged: bury() takes it away, and its machine joins again under a new id. */
void sim_server_stop(struct sim_server *server, const struct far_error *err)
{
    server->fatal = true;
    server->fatal_err = *err;
}

/* ---- messages ---- */

/* Broken on purpose: entries of an older leader are taken for those of the newest term, and whoever wants to lead for one
 * whose last entry is of it. */
static void skip_term_check(struct sim_server *server, struct far_slice message)
{
    enum { APPEND_ENTRIES = 1, REQUEST_VOTE = 3, TERM_AT = 1, LAST_TERM_AT = 25 }; /* as raft_codec.c writes them */
    uint8_t *bytes = (uint8_t *)(uintptr_t)message.data;
    if (server->sim->options.broken != SIM_BROKEN_TERM) {
        return;
    }
    if (bytes[0] == APPEND_ENTRIES && !server->is_leader && far_get_le64(bytes + TERM_AT) < server->term) {
        far_put_le64(bytes + TERM_AT, server->term);
    } else if (bytes[0] == REQUEST_VOTE) {
        far_put_le64(bytes + LAST_TERM_AT, far_get_le64(bytes + TERM_AT));
    }
}

void sim_server_receive(struct sim_server *server, uint64_t from_id, enum sim_message kind, uint64_t number,
                        struct far_slice bytes)
{
    struct far_error err = {0};
    char address[32];
    if (kind == SIM_CLOCK) {
        uint64_t mono = now_ms(server);
        far_cluster_clock_sample(&server->clock, from_id, number, mono, mono);
        sim_heads_told(server, from_id, far_get_le64(bytes.data));
        return;
    }
    if (kind == SIM_FORWARD || kind == SIM_ANSWER) {
        sim_propose_message(server, from_id, kind, bytes);
        return;
    }
    if (kind == SIM_PAST_WANT || kind == SIM_PAST) {
        sim_past_message(server, from_id, kind, number, bytes);
        return;
    }
    if (kind != SIM_RAFT) {
        sim_install_message(server, from_id, kind, number, bytes);
        return;
    }
    server->raft_heard_us = server->sim->now_us;
    skip_term_check(server, bytes);
    snprintf(address, sizeof address, "server-%llu", (unsigned long long)from_id);
    if (far_raft_receive(server->raft, from_id, address, bytes, &err) != 0) {
        sim_fail(server->sim, "server %llu could not read a message of %llu: %s", (unsigned long long)server->id,
                 (unsigned long long)from_id, err.message);
    }
    if (server->alive && !server->fatal) {
        sim_server_pump(server);
    }
}

/* ---- lives ---- */

static struct far_raft_env make_env(struct sim_server *server)
{
    return (struct far_raft_env){.arg = server,
                                 .now_ms = now_ms,
                                 .set_timer = set_timer,
                                 .send = env_send,
                                 .on_commit = env_commit,
                                 .on_leader = env_leader,
                                 .on_install = env_install,
                                 .on_fatal = env_fatal,
                                 .on_full = env_full};
}

/* The walk over all rows, as at each start and slowly all the time. false: they are damaged, and there was a reason. */
bool sim_server_walk(struct sim_server *server)
{
    struct far_store_txn *txn;
    struct far_hash128 digest = {0};
    uint64_t pairs;
    struct far_error err = {0};
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    int rc = far_state_digest_walk(far_store_kv(txn), &digest, &pairs, &err);
    bool good = rc == 0 && far_hash128_equal(digest, far_store_meta(txn)->digest);
    far_store_abort(txn);
    if (!good && !server->damaged) {
        sim_fail(server->sim, "server %llu: its rows are not what they were: %s", (unsigned long long)server->id, err.message);
    }
    return good || !server->damaged;
}

/* A write went astray, and nothing that was stored later has been noted in the store: what is missing at the end of the log
 * could be a torn tail. No server can tell; that the machine broke down just now, its operator can. */
static bool is_in_doubt(const struct sim_server *server)
{
    return server->damaged && server->stray_index != 0 && server->meta->stored_index <= server->stray_index;
}

/* Broken on purpose: the last entry is applied once more, as if nobody remembered its commands. */
static void apply_again(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_envelope envelope;
    struct far_command command;
    struct far_store_txn *txn;
    uint64_t index = server->meta->applied_index, term;
    const struct far_blob *blob = sim_check_entry(sim->check, index, &term);
    if (blob == NULL || far_envelope_open(far_slice(blob->data, blob->len), &envelope, NULL) != 0) {
        return;
    }
    far_buf_reset(&sim->entry);
    FAR_ASSERT(far_envelope_begin(&sim->entry, NULL) == 0);
    while (far_envelope_next(&envelope, &command)) {
        command.id[8] ^= 0x55;
        FAR_ASSERT(far_envelope_add(&sim->entry, &command, NULL) == 0);
    }
    far_envelope_finish(&sim->entry, index, term);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    far_store_meta(txn)->applied_index--;
    FAR_ASSERT(far_apply_commands(txn, index, term, far_buf_slice(&sim->entry), NULL, NULL, NULL) == 0);
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
    sim_server_read_meta(server);
}

struct far_raft_config sim_server_config(struct sim_server *server)
{
    return (struct far_raft_config){
        .id = server->id,
        .address = server->address,
        .election_ms = server->sim->swarm.election_ms,
        .seed = (uint32_t)sim_random(server->sim, UINT32_MAX) | 1,
        .disk = sim_disk_base(server->disk),
        .executor = {.arg = server, .submit = submit},
        .manifest = sim_manifest_of(server->meta),
        .installed = server->meta->installed_index != 0 && server->meta->installed_index == server->meta->applied_index,
        .trusted_index = server->meta->stored_index,
        .trusted_term = server->meta->stored_term,
        .cache_bytes_max = server->sim->swarm.cache_bytes,
        .segment_bytes = server->sim->swarm.segment_bytes,
    };
}

/* Disk and store without what they had not made durable. */
static void lose_power(struct sim_server *server)
{
    struct sim *sim = server->sim;
    uint64_t applied_index = server->meta->applied_index, compacted_seq = server->meta->compacted_seq;
    sim_disk_crash(server->disk, true);
    far_store_memory_power_cut(server->store, sim_chance(sim, 50));
    sim_server_read_meta(server);
    sim->counts.of[SIM_COUNT_COMMIT_LOST] += server->meta->applied_index < applied_index;
    sim->counts.of[SIM_COUNT_COMPACT_UNDONE] += server->meta->compacted_seq < compacted_seq;
}

void sim_server_start(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_error err = {0};
    FAR_ASSERT(!server->alive && server->id != 0 && server->store != NULL);
    server->life++;
    server->fatal = false;
    server->is_leader = false;
    server->told_durable = 0;
    sim_server_read_meta(server);
    if (sim->options.broken == SIM_BROKEN_TWICE) {
        apply_again(server);
    }
    *server->before = *server->meta;
    server->env = make_env(server);
    far_cluster_clock_init(&server->clock);
    struct far_raft_config config = sim_server_config(server);
    server->raft_heard_us = sim->now_us;
    if (!sim_server_walk(server) || is_in_doubt(server)) {
        sim_count(sim, SIM_COUNT_SEEN);
        sim_server_forget(server);
        return;
    }
    server->alive = true;
    sim_apply_live(server);
    sim_propose_start(server);
    int rc = far_raft_open(&config, &server->env, &server->raft, &err);
    if (rc == 0) {
        sim_say(sim, "server %llu starts at index %llu", (unsigned long long)server->id,
                (unsigned long long)server->meta->applied_index);
        server->damaged = false;
        server->stray_index = 0;
        return;
    }
    server->alive = false;
    server->raft = NULL;
    sim_apply_end(server);
    bool may_refuse = server->damaged || sim->options.broken != SIM_SOUND; /* then it is for the checkers to see */
    if (rc == FAR_CORRUPT && may_refuse) {
        sim_say(sim, "server %llu refuses its damaged log: %s", (unsigned long long)server->id, err.message);
        sim_count(sim, SIM_COUNT_SEEN);
        sim_server_forget(server);
    } else if (sim_disk_dead(server->disk)) {
        sim_say(sim, "server %llu: power cut while it starts", (unsigned long long)server->id);
        sim_count(sim, SIM_COUNT_START_CUT);
        lose_power(server);
    } else {
        sim_fail(sim, "server %llu does not start: %s", (unsigned long long)server->id, err.message);
    }
}

/* Work under way meets a dead disk and ends; then everything in memory goes. */
static void end_life(struct sim_server *server)
{
    server->alive = false;
    server->life++;
    if (server->raft != NULL) {
        far_raft_stop(server->raft);
        sim_disk_die(server->disk);
        if (server->job != NULL) {
            struct far_wal_job *job = server->job;
            server->job = NULL;
            job->run(job);
            job->done(job);
        }
        far_raft_close(server->raft);
        server->raft = NULL;
    }
    server->job = NULL;
    sim_apply_end(server);
    server->is_leader = false;
    sim_propose_end(server);
    sim_install_end(server);
}

void sim_server_crash(struct sim_server *server, bool power_cut)
{
    struct sim *sim = server->sim;
    if (!server->alive) {
        return;
    }
    sim_say(sim, "server %llu: %s", (unsigned long long)server->id, power_cut ? "power cut" : "killed");
    end_life(server);
    if (power_cut) {
        lose_power(server);
    } else {
        sim_disk_crash(server->disk, false);
    }
    sim->crashes++;
    sim->cuts += power_cut;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        sim_net_break(sim, i, server->machine);
        sim_net_break(sim, server->machine, i);
    }
}

void sim_server_bury(struct sim_server *server)
{
    if (!server->alive) {
        return;
    }
    if (sim_disk_dead(server->disk)) {
        sim_server_crash(server, true);
    } else if (server->fatal && server->damaged && server->fatal_err.klass == FAR_CORRUPT) {
        sim_say(server->sim, "server %llu stops: %s", (unsigned long long)server->id, server->fatal_err.message);
        sim_count(server->sim, SIM_COUNT_SEEN);
        sim_server_forget(server);
    } else if (server->fatal && server->fatal_err.klass == FAR_LIMIT) {
        sim_server_crash(server, false); /* term or vote on a full disk: the supervisor starts it again */
    } else if (server->fatal) {
        sim_fail(server->sim, "server %llu aborted: %s", (unsigned long long)server->id, server->fatal_err.message);
    }
}

void sim_server_forget(struct sim_server *server)
{
    if (server->alive) {
        end_life(server);
    }
    far_store_close(server->store);
    server->store = NULL;
    free(server->meta);
    free(server->before);
    server->meta = NULL;
    server->before = NULL;
    server->id = 0;
    server->away = false;
    server->was_removed = false;
    server->damaged = false;
    server->stray_index = 0;
    sim_disk_wipe(server->disk);
}

static void note_made(struct sim_server *server, struct far_store_txn *txn, uint64_t index, uint8_t type,
                      struct far_slice data)
{
    struct far_blob *blob = far_blob_new(data.data, data.len);
    struct far_wal_entry entry = {.index = index, .term = FAR_RAFT_BOOTSTRAP_TERM, .type = type, .blob = blob};
    struct far_error err = {0};
    sim_check_commit(server->sim->check, server->id, &entry);
    FAR_ASSERT(sim_apply_one(server, txn, &entry, &err) == 0);
    far_blob_unref(blob);
}

/* The first entry of a new cluster, applied as far_log_bootstrap() does. */
static void make_cluster(struct sim_server *server)
{
    static const uint8_t zeros[8];
    struct far_buf configuration;
    struct far_error err = {0};
    struct far_store_txn *txn;
    far_buf_init(&configuration, FAR_RAFT_MANIFEST_MAX);
    if (far_raft_bootstrap(sim_disk_base(server->disk), server->id, server->address, &configuration, &err) != 0) {
        sim_fail(server->sim, "bootstrap: %s", err.message);
    }
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    for (uint64_t index = 1; index < FAR_RAFT_BOOTSTRAP_INDEX; index++) {
        note_made(server, txn, index, FAR_RAFT_BARRIER, far_slice(zeros, sizeof zeros));
    }
    note_made(server, txn, FAR_RAFT_BOOTSTRAP_INDEX, FAR_RAFT_CHANGE, far_buf_slice(&configuration));
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
    FAR_ASSERT(far_store_sync(server->store, NULL) == 0);
    far_buf_done(&configuration);
}

void sim_server_create(struct sim *sim, unsigned machine, bool first)
{
    struct sim_server *server = &sim->servers[machine];
    FAR_ASSERT(server->id == 0);
    sim_disk_wipe(server->disk);
    server->id = sim->next_id++;
    server->incarnation = sim->incarnation;
    snprintf(server->address, sizeof server->address, "server-%llu", (unsigned long long)server->id);
    FAR_ASSERT(far_store_open_memory(&server->store, NULL) == 0);
    if (sim->swarm.epoch_events > 0) {
        far_store_memory_keep_history(server->store, sim->swarm.epoch_events);
        server->store->past_looks = sim->swarm.past_looks;
    }
    server->installed_seq = 0;
    server->meta = calloc(1, sizeof *server->meta);
    server->before = calloc(1, sizeof *server->before);
    FAR_ASSERT(server->meta != NULL && server->before != NULL);
    if (first) {
        make_cluster(server);
    }
    sim_server_start(server);
}

/* ---- an older copy of a server ---- */

/* The state by way of a dump, as if copied file by file while the server stood still. */
static struct far_store *copy_store(struct sim_server *server)
{
    struct sim *sim = server->sim;
    struct far_store *store;
    struct far_dump dump = {0};
    struct far_install install;
    FAR_ASSERT(far_store_open_memory(&store, NULL) == 0 && far_dump_begin(server->store, &dump, NULL) == 0);
    FAR_ASSERT(far_install_begin(store, &install, NULL) == 0);
    while (!dump.ended) {
        far_buf_reset(&sim->scratch);
        FAR_ASSERT(far_dump_next(&dump, &sim->scratch, NULL) == 0);
        FAR_ASSERT(far_install_piece(&install, far_buf_slice(&sim->scratch), NULL) == 0);
    }
    FAR_ASSERT(far_install_finish(&install, &dump.manifest, NULL) == 0);
    far_dump_end(&dump);
    return store;
}

struct sim_copy sim_server_copy(struct sim_server *server)
{
    struct sim_copy copy = {.id = server->id, .disk = sim_disk_new(server->sim), .store = copy_store(server)};
    sim_disk_copy(copy.disk, server->disk);
    return copy;
}

void sim_server_return(struct sim *sim, unsigned machine, struct sim_copy *copy)
{
    struct sim_server *server = &sim->servers[machine];
    FAR_ASSERT(server->id == 0);
    server->id = copy->id;
    snprintf(server->address, sizeof server->address, "server-%llu", (unsigned long long)server->id);
    sim_disk_copy(server->disk, copy->disk);
    sim_disk_free(copy->disk);
    server->store = copy->store;
    server->meta = calloc(1, sizeof *server->meta);
    server->before = calloc(1, sizeof *server->before);
    FAR_ASSERT(server->meta != NULL && server->before != NULL);
    *copy = (struct sim_copy){0};
    sim_server_start(server);
}
