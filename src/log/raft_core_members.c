/* The raft driver: proposing, membership, status. See raft_core.h; the rules of membership are those of raft.md, section 8,
 * and its guards in section 5. */
#include "log/raft_core_local.h"

#include <inttypes.h>
#include <stdio.h>

enum { CAUGHT_UP_ENTRIES = 32, CAPACITY_MIN_KIB = 8 * 1024 };

static int not_leader(struct far_raft *raft, struct far_error *err)
{
    if (raft->dead || raft->stopped) {
        return far_fail(err, FAR_CANCELED, "this server is stopping");
    }
    return far_fail(err, FAR_NOT_LEADER, "this server does not lead");
}

static bool leads(struct far_raft *raft)
{
    return !raft->dead && !raft->stopped && raft_state(&raft->raft) == RAFT_LEADER &&
           raft_transferee(&raft->raft) == 0;
}

static const struct far_raft_heard *find_heard(const struct far_raft *raft, uint64_t id)
{
    for (size_t i = 0; i < FAR_RAFT_MEMBERS_MAX; i++) {
        if (raft->heard[i].id == id) {
            return &raft->heard[i];
        }
    }
    return NULL;
}

/* ---- proposing ---- */

size_t far_raft_in_flight(const struct far_raft *raft)
{
    uint64_t last = far_raft_cache_last(&raft->cache);
    return last > raft->delivered_index ? (size_t)(last - raft->delivered_index) : 0;
}

/* Can the disks of this server and of a majority of the voters (as far as they said) take more (4.13)? */
static bool has_room(struct far_raft *raft)
{
    unsigned voters = 0, low = 0;
    for (unsigned i = 0; i < raft->raft.configuration.n; i++) {
        const struct raft_server *server = &raft->raft.configuration.servers[i];
        const struct far_raft_heard *heard = find_heard(raft, server->id);
        if (server->role == RAFT_VOTER) {
            voters++;
            low += heard != NULL && heard->has_capacity && heard->capacity < CAPACITY_MIN_KIB;
        }
    }
    return far_raft_capacity(raft) >= CAPACITY_MIN_KIB && 2 * low < voters;
}

int far_raft_next(struct far_raft *raft, uint64_t *ret_index, uint64_t *ret_term, struct far_error *err)
{
    if (!leads(raft)) {
        return not_leader(raft, err);
    }
    if (!has_room(raft)) {
        return far_fail(err, FAR_LIMIT, "the disk of the leader, or of a majority of the servers, is nearly full");
    }
    *ret_index = raft_last_index(&raft->raft) + 1;
    *ret_term = raft_current_term(&raft->raft);
    return 0;
}

/* Step one entry in; bytes (from raft_malloc) are taken on success. */
static int submit(struct far_raft *raft, enum raft_entry_type type, struct raft_buffer bytes, struct far_error *err)
{
    struct raft_entry entry = {
        .term = raft_current_term(&raft->raft), .type = type, .buf = bytes, .batch = bytes.base};
    struct raft_event event = {.type = RAFT_SUBMIT};
    event.submit.entries = &entry;
    event.submit.n = 1;
    int rv = far_raft_step(raft, &event);
    if (raft->dead) {
        return far_fail(err, FAR_INTERNAL, "this server is stopping");
    }
    if (rv == RAFT_NOTLEADER) {
        return not_leader(raft, err);
    }
    return rv == 0 ? 0 : far_fail(err, FAR_BUSY, "raft refused the entry: %s", raft_strerror(rv));
}

int far_raft_submit(struct far_raft *raft, struct far_slice data, struct far_error *err)
{
    if (!leads(raft)) {
        return not_leader(raft, err);
    }
    if (data.len == 0 || data.len % 8 != 0 || data.len > FAR_RAFT_ENTRY_MAX) {
        return far_fail(err, FAR_INVALID, "an entry of %zu bytes", data.len);
    }
    if (far_raft_in_flight(raft) >= FAR_RAFT_WINDOW) {
        return far_fail(err, FAR_BUSY, "%d entries are in flight", FAR_RAFT_WINDOW);
    }
    struct raft_buffer bytes = {.base = raft_malloc(data.len), .len = data.len};
    if (bytes.base == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for an entry");
    }
    memcpy(bytes.base, data.data, data.len);
    int rc = submit(raft, RAFT_COMMAND, bytes, err);
    if (rc != 0 && !raft->dead) {
        raft_free(bytes.base);
    }
    return rc;
}

/* ---- membership ---- */

static uint64_t heard_at(const struct far_raft *raft, uint64_t id)
{
    const struct far_raft_heard *heard = find_heard(raft, id);
    return heard == NULL ? 0 : heard->at_ms;
}

static bool reachable(const struct far_raft *raft, uint64_t id)
{
    uint64_t at = heard_at(raft, id);
    return at != 0 && raft->env.now_ms(raft->env.arg) - at <= 2 * (uint64_t)raft->raft.election_timeout;
}

/* guard: a new leader whose log was clean has nothing of its own term to commit: give it something. */
static void commit_own_term(struct far_raft *raft)
{
    struct far_error err = {0};
    struct raft_buffer bytes = {.base = raft_calloc(1, 8), .len = 8};
    if (far_raft_in_flight(raft) > 0 || bytes.base == NULL || submit(raft, RAFT_BARRIER, bytes, &err) != 0) {
        raft_free(bytes.base);
    }
}

/* May the configuration change now? Every voter must know the last one, and be there (rules 2 and 3). */
static int may_change(struct far_raft *raft, uint64_t except_id, struct far_error *err)
{
    const struct raft *r = &raft->raft;
    if (!leads(raft)) {
        return not_leader(raft, err);
    }
    if (!raft->own_term_committed) {
        commit_own_term(raft);
        return far_fail(err, FAR_BUSY, "the leader has not committed an entry of its term yet");
    }
    if (r->configuration_uncommitted_index != 0) {
        return far_fail(err, FAR_BUSY, "another change of the membership is under way");
    }
    for (unsigned i = 0; i < r->configuration.n; i++) {
        const struct raft_server *server = &r->configuration.servers[i];
        raft_index match = 0;
        if (server->role != RAFT_VOTER || server->id == raft->id || server->id == except_id) {
            continue;
        }
        if (!reachable(raft, server->id)) {
            return far_fail(err, FAR_BUSY, "server %llu cannot be reached", server->id);
        }
        if (raft_match_index(r, server->id, &match) != 0 || match < r->configuration_committed_index) {
            return far_fail(err, FAR_BUSY, "server %llu does not know the last membership yet", server->id);
        }
    }
    return 0;
}

static int find(const struct far_raft *raft, uint64_t id)
{
    for (unsigned i = 0; i < raft->raft.configuration.n; i++) {
        if (raft->raft.configuration.servers[i].id == id) {
            return (int)i;
        }
    }
    return -1;
}

/* The present configuration without `without` and with what is added, proposed. */
static int propose(struct far_raft *raft, uint64_t without, uint64_t add_id, const char *add_address, int add_role,
                   struct far_error *err)
{
    struct raft_configuration conf;
    struct raft_buffer bytes = {0};
    const struct raft_configuration *now = &raft->raft.configuration;
    int rv = 0;
    raft_configuration_init(&conf);
    for (unsigned i = 0; i < now->n && rv == 0; i++) {
        if (now->servers[i].id != without) {
            rv = raft_configuration_add(&conf, now->servers[i].id, now->servers[i].address, now->servers[i].role);
        }
    }
    if (rv == 0 && add_id != 0) {
        rv = raft_configuration_add(&conf, add_id, add_address, add_role);
    }
    if (rv == 0) {
        rv = raft_configuration_encode(&conf, &bytes);
    }
    raft_configuration_close(&conf);
    if (rv != 0) {
        return far_fail(err, rv == RAFT_DUPLICATEADDRESS || rv == RAFT_DUPLICATEID ? FAR_CONFLICT : FAR_INVALID,
                        "the membership cannot be changed so: %s", raft_strerror(rv));
    }
    int rc = submit(raft, RAFT_CHANGE, bytes, err);
    if (rc != 0 && !raft->dead) {
        raft_free(bytes.base);
    }
    return rc;
}

int far_raft_add(struct far_raft *raft, uint64_t id, const char *address, struct far_error *err)
{
    int rc = may_change(raft, 0, err);
    if (rc != 0) {
        return rc;
    }
    if (find(raft, id) >= 0) {
        return far_fail(err, FAR_CONFLICT, "server %" PRIu64 " is a member already", id);
    }
    if (raft->raft.configuration.n >= FAR_RAFT_MEMBERS_MAX) {
        return far_fail(err, FAR_LIMIT, "the cluster has %d members, the most it may have", FAR_RAFT_MEMBERS_MAX);
    }
    return propose(raft, 0, id, address, RAFT_STANDBY, err);
}

int far_raft_promote(struct far_raft *raft, uint64_t id, struct far_error *err)
{
    raft_index match = 0;
    int rc = may_change(raft, 0, err);
    if (rc != 0) {
        return rc;
    }
    int at = find(raft, id);
    if (at < 0) {
        return far_fail(err, FAR_NOT_FOUND, "server %" PRIu64 " is no member", id);
    }
    if (raft->raft.configuration.servers[at].role == RAFT_VOTER) {
        return 0;
    }
    if (!reachable(raft, id) || raft_match_index(&raft->raft, id, &match) != 0 || match == 0 ||
        match + CAUGHT_UP_ENTRIES < raft_last_index(&raft->raft)) {
        return far_fail(err, FAR_BUSY, "server %" PRIu64 " has not caught up yet", id);
    }
    char address[256];
    snprintf(address, sizeof address, "%s", raft->raft.configuration.servers[at].address);
    return propose(raft, id, id, address, RAFT_VOTER, err);
}

int far_raft_remove(struct far_raft *raft, uint64_t id, struct far_error *err)
{
    /* A voter that is gone must not keep itself in: being out of reach is why it is removed. */
    int rc = may_change(raft, id, err);
    int at = find(raft, id);
    if (rc != 0) {
        return rc;
    }
    if (at < 0) {
        return far_fail(err, FAR_NOT_FOUND, "server %" PRIu64 " is no member", id);
    }
    if (id == raft->id) {
        return far_fail(err, FAR_CONFLICT, "the leader does not remove itself: hand leadership over first");
    }
    return propose(raft, id, 0, NULL, 0, err);
}

int far_raft_transfer(struct far_raft *raft, uint64_t id, struct far_error *err)
{
    struct raft_event event = {.type = RAFT_TRANSFER};
    if (!leads(raft)) {
        return not_leader(raft, err);
    }
    event.transfer.server_id = id;
    raft->offered_term = raft_current_term(&raft->raft);
    int rv = far_raft_step(raft, &event);
    return rv == 0 ? 0 : far_fail(err, FAR_INVALID, "leadership cannot be handed to server %" PRIu64 ": %s", id,
                                  raft_strerror(rv));
}

/* ---- status ---- */

static int newest_first(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x < y) - (x > y);
}

/* When a majority of the voters, the leader itself among them, was last there. */
static uint64_t majority_heard(const struct far_raft *raft)
{
    uint64_t at[FAR_RAFT_MEMBERS_MAX];
    size_t n = 0;
    for (unsigned i = 0; i < raft->raft.configuration.n && n < FAR_RAFT_MEMBERS_MAX; i++) {
        const struct raft_server *server = &raft->raft.configuration.servers[i];
        if (server->role == RAFT_VOTER) {
            at[n++] = server->id == raft->id ? raft->env.now_ms(raft->env.arg) : heard_at(raft, server->id);
        }
    }
    qsort(at, n, sizeof at[0], newest_first);
    uint64_t heard = n == 0 ? 0 : at[n / 2];
    return heard > raft->leader_since_ms ? heard : raft->leader_since_ms;
}

void far_raft_place(struct far_raft *raft, struct far_raft_place *ret_place)
{
    struct raft *r = &raft->raft;
    bool is_leader = raft_state(r) == RAFT_LEADER;
    *ret_place = (struct far_raft_place){
        .leader_id = raft->told_leader,
        .term = raft_current_term(r),
        .is_leader = is_leader,
        .ready = is_leader && raft->own_term_committed,
        .is_offered = is_leader && raft->offered_term == raft_current_term(r),
        .commit_index = raft_commit_index(r),
        .last_index = raft_last_index(r),
        .stored_index = raft->stored_index,
        .stored_term = raft->stored_term,
        .leader_heard_ms = is_leader ? majority_heard(raft) : raft->leader_heard_ms,
    };
}

void far_raft_status(struct far_raft *raft, struct far_raft_status *ret_status)
{
    struct raft *r = &raft->raft;
    struct far_raft_place place;
    far_raft_place(raft, &place);
    struct far_raft_status status = {
        .leader_id = place.leader_id,
        .term = place.term,
        .is_leader = place.is_leader,
        .ready = place.ready,
        .is_offered = place.is_offered,
        .commit_index = place.commit_index,
        .last_index = place.last_index,
        .stored_index = place.stored_index,
        .stored_term = place.stored_term,
        .leader_heard_ms = place.leader_heard_ms,
        .transferee = place.is_leader ? raft_transferee(r) : 0,
        .installing = raft->installing,
        .configuration_pending = r->configuration_uncommitted_index != 0,
        .configuration_index = r->configuration_committed_index,
    };
    for (unsigned i = 0; i < r->configuration.n && status.member_count < FAR_RAFT_MEMBERS_MAX; i++) {
        const struct raft_server *server = &r->configuration.servers[i];
        struct far_raft_member *member = &status.members[status.member_count++];
        raft_index match = 0;
        member->id = server->id;
        member->voter = server->role == RAFT_VOTER;
        member->heard_ms = heard_at(raft, server->id);
        snprintf(member->address, sizeof member->address, "%s", server->address);
        if (status.is_leader && raft_match_index(r, server->id, &match) == 0) {
            member->match_index = match;
        }
    }
    *ret_status = status;
}
