/* Signed heads and retention. Each server does what the real log/head_duty.c says that it owes; a registrar keeps the rows of the
 * servers as the members' driver does; the leader cuts old events that enough servers said they hold. See sim.h.
 *
 * Checked at the end, by the events of the replayed log: every head that was proposed is the one of the chain there, nobody refused
 * one, and every signature is by the key that the head names. A run comes to rest only when what was there before the healing is
 * signed, and every server holds all that was not cut. */
#include "sim.h"

#include "base/assert.h"
#include "log/retain.h"
#include "log/segments.h"
#include "log/signed_head.h"

enum { REGISTER_US = 300 * SIM_MS, LOOK_US = 100 * SIM_MS, AGAIN_US = SIM_SECOND, TIMEOUT_MS = 8000, EVENTS_KEPT = 20 };

/* ---- the rows of the servers ---- */

static struct sim_row *row_of(struct sim *sim, uint64_t server_id)
{
    for (unsigned i = 0; i < sim->row_count; i++) {
        if (sim->rows[i].server_id == server_id) {
            return &sim->rows[i];
        }
    }
    return NULL;
}

static void add_row(struct sim *sim, uint64_t server_id, uint64_t id, bool is_voter)
{
    FAR_ASSERT(sim->row_count < SIM_ROWS_MAX);
    sim->rows[sim->row_count++] = (struct sim_row){.server_id = server_id, .id = id, .is_voter = is_voter};
}

static void fill_name(uint64_t server_id, char name[32], uint8_t hash[32])
{
    snprintf(name, 32, "server-%llu", (unsigned long long)server_id);
    memset(hash, 0, 32);
    hash[0] = 10;
    far_put_be64(hash + 8, server_id);
}

static void make_token(struct sim *sim, uint64_t server_id)
{
    char name[32];
    uint8_t hash[32];
    fill_name(server_id, name, hash);
    struct far_cmd_token_create token = {.name = far_slice_str(name), .purpose = FAR_token_purpose_join_server,
        .hash = far_slice(hash, 32), .expires_ms = SIM_START_MS * 2ull, .site = far_slice_str("home")};
    sim_call(&sim->registrar, &far_schema_cmd_token_create, &token, far_actor(FAR_ACTOR_TOKEN, 2), ++sim->next_command);
}

static void join(struct sim *sim, uint64_t server_id)
{
    char name[32];
    uint8_t hash[32];
    fill_name(server_id, name, hash);
    struct far_cmd_server_join cmd = {.token_hash = far_slice(hash, 32), .name = far_slice_str(name),
        .api_address = far_slice_str("127.0.0.1:5000"), .peer_address = far_slice_str("127.0.0.1:5001"),
        .seal_key = far_slice(hash, 32), .fingerprint = far_slice(hash, 32)};
    add_row(sim, server_id, 0, false);
    sim_call(&sim->registrar, &far_schema_cmd_server_join, &cmd, far_actor(FAR_ACTOR_TOKEN, 2), ++sim->next_command);
}

static void set_role(struct sim *sim, struct sim_row *row, uint64_t role)
{
    struct far_cmd_server_role_changed cmd = {.server_id = row->id, .role = role};
    row->is_voter = role == FAR_server_role_voter;
    row->is_removed = role == FAR_server_role_removed;
    sim_call(&sim->registrar, &far_schema_cmd_server_role_changed, &cmd, far_actor(FAR_ACTOR_SYSTEM, 1), ++sim->next_command);
}

static void on_registered(struct sim_caller *caller, const struct far_result *result, uint64_t index)
{
    struct sim *sim = caller->sim;
    uint16_t kind = caller->command.kind;
    if (result->klass != 0) {
        sim_fail(sim, "the registrar's command of kind %u: %s", kind, result->message);
    } else if (kind == FAR_KIND_cmd_token_create) {
        uint64_t server_id = sim->rows[sim->row_count].server_id;
        join(sim, server_id);
    } else if (kind == FAR_KIND_cmd_server_join) {
        sim->rows[sim->row_count - 1].id = result->object_id;
    }
}

/* Whether raft, as its leader knows it, has this server; *ret_voter: as a voter. */
static bool find_member(const struct far_raft_status *status, uint64_t server_id, bool *ret_voter)
{
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == server_id) {
            *ret_voter = status->members[i].voter;
            return true;
        }
    }
    return false;
}

/* The first difference between the rows and raft. */
static void register_one(struct sim *sim, const struct far_raft_status *status)
{
    for (size_t i = 0; i < status->member_count; i++) {
        struct sim_row *row = row_of(sim, status->members[i].id);
        if (row == NULL) {
            FAR_ASSERT(sim->row_count < SIM_ROWS_MAX);
            sim->rows[sim->row_count].server_id = status->members[i].id; /* not counted until it joins */
            make_token(sim, status->members[i].id);
            return;
        }
        if (status->members[i].voter != row->is_voter && !row->is_removed) {
            set_role(sim, row, status->members[i].voter ? FAR_server_role_voter : FAR_server_role_standby);
            return;
        }
    }
    for (unsigned i = 0; i < sim->row_count; i++) {
        bool is_voter;
        if (!sim->rows[i].is_removed && !find_member(status, sim->rows[i].server_id, &is_voter)) {
            set_role(sim, &sim->rows[i], FAR_server_role_removed);
            return;
        }
    }
}

static void register_due(struct sim *sim, void *object, uint64_t a, uint64_t b, struct far_blob *blob)
{
    struct sim_server *leader = sim_leader(sim);
    struct far_raft_status status;
    sim_after(sim, REGISTER_US, register_due, NULL, 0, 0, NULL);
    if (leader == NULL || leader->fatal || sim->registrar.is_active) {
        return;
    }
    far_raft_status(leader->raft, &status);
    if (status.ready && !status.configuration_pending && leader->meta->applied_index >= status.configuration_index) {
        register_one(sim, &status);
    }
}

void sim_heads_start(struct sim *sim)
{
    if (!sim->swarm.heads) {
        return;
    }
    sim_call_init(&sim->registrar, sim, on_registered, sim);
    add_row(sim, 1, 1, true);
    struct far_cmd_site_create site = {.name = far_slice_str("home"), .role = FAR_site_role_witness};
    sim_call(&sim->registrar, &far_schema_cmd_site_create, &site, far_actor(FAR_ACTOR_TOKEN, 2), ++sim->next_command);
    sim_after(sim, REGISTER_US, register_due, NULL, 0, 0, NULL);
}

/* ---- what each server owes ---- */

static int read_event(void *arg, uint64_t seq, struct far_arena *arena, struct far_event *ret_event,
                      uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    return far_store_event_get(arg, seq, ret_event, ret_head, err);
}

struct asked {
    struct sim_server *server;
    uint64_t life;
};

static void on_proposed(void *arg, const struct far_result *result, uint64_t index)
{
    struct asked *asked = arg;
    struct sim_server *server = asked->server;
    if (server->life == asked->life) {
        server->head_runs = false;
        server->head_wait_us = server->sim->now_us + (result->klass == 0 ? LOOK_US : AGAIN_US);
    }
    free(asked);
}

/* Broken on purpose: a leader proposes another head. */
static void falsify(struct sim_server *server, const struct far_schema *schema, struct far_buf *payload)
{
    if (server->sim->options.broken == SIM_BROKEN_HEAD && schema == &far_schema_cmd_head_propose) {
        payload->data[payload->len - 1] ^= 1;
    }
}

static void propose(struct sim_server *server, const struct far_schema *schema, struct far_buf *payload)
{
    struct asked *asked = malloc(sizeof *asked);
    struct sim_row *row = row_of(server->sim, server->id);
    FAR_ASSERT(asked != NULL);
    *asked = (struct asked){.server = server, .life = server->life};
    falsify(server, schema, payload);
    struct far_command command = {.kind = schema->kind,
                                  .version = schema->version,
                                  .actor = far_actor(FAR_ACTOR_SERVER, row->id),
                                  .payload = far_buf_slice(payload)};
    server->head_runs = sim_propose(server, &command, TIMEOUT_MS, on_proposed, asked);
    if (!server->head_runs) {
        free(asked);
    }
    sim_server_pump(server);
}

static void look(struct sim_server *server, struct far_head_todo *todo)
{
    struct far_store_txn *txn;
    struct far_error err = {0};
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    const struct far_store_meta *meta = far_store_meta(txn);
    struct far_state state = {.kv = far_store_kv(txn), .digest = meta->digest};
    struct far_head_source source = {.state = &state,
                                     .first_seq = meta->first_seq,
                                     .last_seq = meta->last_seq,
                                     .head = meta->head,
                                     .base_head = meta->base_head,
                                     .event = read_event,
                                     .arg = txn};
    int rc = far_head_duty_look(&server->duty, &source, server->sim->now_us / SIM_MS, server->is_leader, todo, &err);
    far_store_abort(txn);
    if (rc != 0 && server->damaged) {
        sim_server_stop(server, &err);
    } else if (rc != 0) {
        sim_fail(server->sim, "server %llu cannot look after heads: %s", (unsigned long long)server->id, err.message);
    }
}

static void look_due(struct sim *sim, void *object, uint64_t life, uint64_t unused, struct far_blob *blob)
{
    struct sim_server *server = object;
    struct sim_row *row = row_of(sim, server->id);
    struct far_buf payload;
    struct far_head_todo todo = {.step = FAR_HEAD_REST, .payload = &payload};
    if (!server->alive || server->life != life) {
        return;
    }
    sim_after(sim, LOOK_US, look_due, server, life, 0, NULL);
    if (server->fatal || server->fetching || server->head_runs || server->leader_id == 0 || row == NULL || row->id == 0 ||
        row->is_removed || server->incarnation != sim->incarnation || sim->now_us < server->head_wait_us) {
        return;
    }
    server->duty.server_id = row->id;
    far_buf_init(&payload, 4096);
    look(server, &todo);
    if (todo.step == FAR_HEAD_PROPOSE) {
        propose(server, todo.schema, &payload);
    } else if (todo.step == FAR_HEAD_STOP) {
        sim_fail(sim, "server %llu: %s", (unsigned long long)server->id, todo.why);
    }
    far_buf_done(&payload);
}

void sim_heads_live(struct sim_server *server)
{
    struct sim *sim = server->sim;
    server->head_runs = false;
    server->head_wait_us = 0;
    server->safe_first_seq = UINT64_MAX;
    memset(server->told, 0, sizeof server->told);
    server->duty = (struct far_head_duty){.events_max = sim->swarm.head_events, .wait_ms = sim->swarm.head_ms};
    far_put_be64(server->duty.private_key, server->id);
    FAR_ASSERT(far_sign_public(server->duty.private_key, server->duty.public_key, NULL) == 0);
    if (sim->swarm.heads) {
        sim_after(sim, sim_random(sim, LOOK_US), look_due, server, server->life, 0, NULL);
    }
}

/* ---- retention ---- */

bool sim_has_history(const struct sim_server *server)
{
    uint64_t cut_seq = server->cut_seq > 1 ? server->cut_seq : 1;
    return server->meta->first_seq <= cut_seq && server->safe_first_seq <= cut_seq;
}

/* Then a machine can go without taking some of them with it for good. */
bool sim_all_have_history(const struct sim *sim)
{
    bool has = true;
    for (unsigned i = 0; i < SIM_MACHINES; i++) {
        has = has && (sim->servers[i].id == 0 || sim_has_history(&sim->servers[i]));
    }
    return has;
}

void sim_heads_told(struct sim_server *server, uint64_t from_id, uint64_t first_seq)
{
    const struct sim_server *from = sim_server_of(server->sim, from_id);
    if (from != NULL) {
        server->told[from->machine] = (struct sim_told){.id = from_id, .first_seq = first_seq};
    }
}

/* As far_log_retain_propose(): those that said they hold everything since the last cut. */
static size_t find_holders(const struct sim_server *leader, const struct far_raft_status *status, uint64_t ids[SIM_MACHINES])
{
    size_t count = 0;
    for (size_t i = 0; i < status->member_count && count < SIM_MACHINES; i++) {
        uint64_t id = status->members[i].id, first = UINT64_MAX;
        for (unsigned k = 0; k < SIM_MACHINES; k++) {
            first = leader->told[k].id == id ? leader->told[k].first_seq : first;
        }
        const struct sim_row *row = row_of(leader->sim, id);
        first = id == leader->id ? leader->meta->first_seq : first;
        if (first <= leader->cut_seq && row != NULL && row->id != 0) {
            ids[count++] = row->id;
        }
    }
    return count;
}

static void on_cut(void *arg, const struct far_result *result, uint64_t index)
{
    struct sim *sim = arg;
    sim->counts.of[SIM_COUNT_CUT] += result->klass == 0;
}

/* Where it cuts is drawn: by age and size it would be the same for all. Never before what a consumer has yet to read. */
static void propose_cut(struct sim_server *leader)
{
    struct sim *sim = leader->sim;
    struct far_raft_status status;
    uint64_t ids[SIM_MACHINES], floor = leader->meta->last_seq < EVENTS_KEPT ? 1 : leader->meta->last_seq - EVENTS_KEPT;
    struct far_buf payload;
    for (unsigned i = 0; i < sim->swarm.consumers; i++) {
        uint64_t next = sim->consumers[i].place.seq + 1;
        floor = next < floor ? next : floor;
    }
    if (floor <= leader->cut_seq || leader->meta->first_seq > leader->cut_seq) { /* as far_retain_cut(): it must hold them itself */
        return;
    }
    far_raft_status(leader->raft, &status);
    struct far_cmd_events_cut cut = {.seq = leader->cut_seq + 1 + sim_random(sim, floor - leader->cut_seq),
                                     .held_by = {.items = ids, .count = find_holders(leader, &status, ids)}};
    if (cut.held_by.count < (status.member_count < 2 ? 1 : 2)) {
        return;
    }
    sim->cut_floor = cut.seq > sim->cut_floor ? cut.seq : sim->cut_floor;
    far_buf_init(&payload, 1024);
    FAR_ASSERT(far_schema_encode(&far_schema_cmd_events_cut, &cut, &payload, NULL) == 0);
    struct far_command command = {.kind = far_schema_cmd_events_cut.kind,
                                  .version = far_schema_cmd_events_cut.version,
                                  .actor = far_actor(FAR_ACTOR_SYSTEM, leader->id),
                                  .payload = far_buf_slice(&payload)};
    sim_propose(leader, &command, TIMEOUT_MS, on_cut, sim);
    far_buf_done(&payload);
}

/* As the apply thread's tidying does. */
static void cut(struct sim_server *server)
{
    enum { ROWS = 50 };
    struct far_store_txn *txn;
    struct far_error err = {0};
    bool more = false;
    sim_apply_settle(server);
    FAR_ASSERT(far_store_begin(server->store, true, &txn, NULL) == 0);
    uint64_t last = far_store_meta(txn)->last_seq;
    int rc = far_retain_decided(txn, &server->cut_seq, &err);
    uint64_t seq = server->cut_seq > last + 1 ? last + 1 : server->cut_seq;
    if (rc == 0 && seq > 1 && !server->fetching) {
        rc = far_segments_cut(txn, seq, ROWS, &more, &err);
    }
    if (rc != 0) {
        far_store_abort(txn);
        if (server->damaged) {
            sim_server_stop(server, &err);
        } else {
            sim_fail(server->sim, "server %llu cannot cut before event %llu: %s", (unsigned long long)server->id,
                     (unsigned long long)seq, err.message);
        }
        return;
    }
    if (far_store_meta(txn)->first_seq == server->meta->first_seq && !more) {
        far_store_abort(txn);
        return;
    }
    *server->before = *server->meta;
    *server->meta = *far_store_meta(txn);
    FAR_ASSERT(far_store_commit(txn, NULL) == 0);
}

void sim_heads_beat(struct sim_server *server)
{
    struct sim *sim = server->sim;
    cut(server);
    if (sim->swarm.retention && sim->trouble && server->is_leader && server->leader_named && !server->fatal && sim_chance(sim, 20)) {
        propose_cut(server);
    }
}

/* ---- the end ---- */

bool sim_heads_idle(struct sim *sim, uint64_t seq)
{
    struct sim_server *leader = sim_leader(sim);
    struct far_row_head_progress progress = {0};
    struct far_key key = far_key(&far_schema_row_head_progress);
    struct far_store_txn *txn;
    struct far_arena arena;
    if (!sim->swarm.heads) {
        return true;
    }
    if (leader == NULL || sim->registrar.is_active) {
        return false;
    }
    far_arena_init(&arena, 4096);
    FAR_ASSERT(far_store_begin(leader->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    int rc = far_state_get(&state, &far_schema_row_head_progress, &key, &arena, &progress, NULL);
    far_store_abort(txn);
    far_arena_done(&arena);
    return rc == 0 && progress.signed_seq >= seq;
}

/* For the end of a run that came to no rest. */
void sim_heads_say(struct sim *sim)
{
    struct sim_server *leader = sim_leader(sim);
    struct far_row_head_progress progress = {0};
    struct far_row_head head = {0};
    struct far_store_txn *txn;
    struct far_arena arena;
    if (!sim->swarm.heads || leader == NULL) {
        return;
    }
    far_arena_init(&arena, 1 << 16);
    FAR_ASSERT(far_store_begin(leader->store, true, &txn, NULL) == 0);
    struct far_state state = {.kv = far_store_kv(txn)};
    struct far_key key = far_key(&far_schema_row_head_progress);
    far_state_get(&state, &far_schema_row_head_progress, &key, &arena, &progress, NULL);
    key = far_key(&far_schema_row_head);
    far_key_u64(&key, progress.proposed_seq);
    far_state_get(&state, &far_schema_row_head, &key, &arena, &head, NULL);
    far_store_abort(txn);
    const struct far_sub_head_voter *voters = head.voters.items;
    printf("# heads: wanted behind event %llu, proposed %llu, signed %llu by %llu of", (unsigned long long)sim->healed_seq,
           (unsigned long long)progress.proposed_seq, (unsigned long long)progress.signed_seq, (unsigned long long)head.signed_count);
    for (size_t i = 0; i < head.voters.count; i++) {
        printf(" %llu%s", (unsigned long long)voters[i].server_id, voters[i].public_key.len == 0 ? " (no key)" : "");
    }
    printf("; rows:");
    for (unsigned i = 0; i < sim->row_count; i++) {
        const struct sim_row *row = &sim->rows[i];
        printf(" %llu=%llu%s", (unsigned long long)row->id, (unsigned long long)row->server_id,
               row->is_removed ? " removed" : row->is_voter ? " voter" : " standby");
    }
    printf("\n");
    far_arena_done(&arena);
}

/* The heads that were proposed, as the replayed events tell. */
struct proposed {
    uint64_t seq, epoch;
    uint8_t head[FAR_HEAD_SIZE];
    struct far_sub_head_voter voters[FAR_HEAD_VOTERS_MAX];
    uint8_t keys[FAR_HEAD_VOTERS_MAX][FAR_SIGN_KEY_BYTES];
    size_t count;
};

static void check_proposed(struct sim *sim, struct far_store_txn *replayed, const struct far_ev_head_proposed *ev,
                           struct proposed *ret)
{
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE];
    const struct far_sub_head_voter *voters = ev->voters.items;
    *ret = (struct proposed){.seq = ev->seq, .epoch = ev->incarnation_epoch, .count = ev->voters.count};
    memcpy(ret->head, ev->head.data, FAR_HEAD_SIZE);
    for (size_t i = 0; i < ret->count; i++) {
        if (voters[i].public_key.len > 0) {
            memcpy(ret->keys[i], voters[i].public_key.data, voters[i].public_key.len);
        }
        ret->voters[i] = (struct far_sub_head_voter){.server_id = voters[i].server_id,
                                                     .public_key = far_slice(ret->keys[i], voters[i].public_key.len)};
    }
    if (far_store_event_get(replayed, ev->seq, &event, head, NULL) != 0 || memcmp(head, ret->head, FAR_HEAD_SIZE) != 0) {
        sim_fail(sim, "the head behind event %llu that was proposed is not that of the log", (unsigned long long)ev->seq);
    }
}

static void check_signed(struct sim *sim, const struct proposed *heads, size_t count, const struct far_ev_head_signed *ev)
{
    static const uint8_t uuid[16] = {1, 2, 3}; /* as sim_clients.c makes the cluster */
    uint8_t message[FAR_HEAD_MESSAGE_MAX];
    size_t len, i = count;
    while (i > 0 && heads[i - 1].seq != ev->seq) {
        i--;
    }
    if (i == 0) {
        sim_fail(sim, "the head behind event %llu was signed and never proposed", (unsigned long long)ev->seq);
        return;
    }
    const struct proposed *head = &heads[i - 1];
    struct far_list voters = {.items = (void *)(uintptr_t)head->voters, .count = head->count};
    FAR_ASSERT(far_head_message(far_slice(uuid, 16), head->epoch, head->seq, far_slice(head->head, FAR_HEAD_SIZE), &voters, message,
                                &len, NULL) == 0);
    if (!far_sign_check(far_head_voter_key(&voters, ev->server_id), far_slice(message, len), ev->signature)) {
        sim_fail(sim, "server %llu did not sign the head behind event %llu", (unsigned long long)ev->server_id,
                 (unsigned long long)ev->seq);
    }
    sim->counts.of[SIM_COUNT_HEAD] += ev->majority;
}

static void check_event(struct sim *sim, struct far_store_txn *replayed, const struct far_event *event, struct far_arena *arena,
                        struct proposed *heads, size_t *count)
{
    if (event->kind == FAR_KIND_ev_head_proposed) {
        struct far_ev_head_proposed ev;
        FAR_ASSERT(far_schema_decode(&far_schema_ev_head_proposed, event->payload, arena, &ev, NULL) == 0);
        check_proposed(sim, replayed, &ev, &heads[(*count)++]);
    } else if (event->kind == FAR_KIND_ev_head_signed) {
        struct far_ev_head_signed ev;
        FAR_ASSERT(far_schema_decode(&far_schema_ev_head_signed, event->payload, arena, &ev, NULL) == 0);
        check_signed(sim, heads, *count, &ev);
    } else if (event->kind == FAR_KIND_ev_head_refused) {
        sim_fail(sim, "a head was refused, in event %llu", (unsigned long long)event->seq);
    }
}

void sim_heads_check(struct sim *sim, struct far_store_txn *replayed)
{
    uint64_t last = far_store_meta(replayed)->last_seq;
    struct proposed *heads = calloc((size_t)last + 1, sizeof *heads);
    size_t count = 0;
    struct far_arena arena;
    FAR_ASSERT(heads != NULL);
    far_arena_init(&arena, 1 << 20);
    for (uint64_t seq = 1; seq <= last && !sim->failed; seq++) {
        struct far_event event;
        far_arena_reset(&arena);
        FAR_ASSERT(far_store_event_get(replayed, seq, &event, NULL, NULL) == 0);
        uint8_t *payload = far_arena_alloc(&arena, event.payload.len + 1);
        FAR_ASSERT(payload != NULL);
        memcpy(payload, event.payload.data, event.payload.len);
        event.payload = far_slice(payload, event.payload.len);
        check_event(sim, replayed, &event, &arena, heads, &count);
    }
    far_arena_done(&arena);
    free(heads);
}
