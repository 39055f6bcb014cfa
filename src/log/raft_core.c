/* The raft driver: see raft_core.h. Names in comments like (4) and "guard" point into reference/raft.md: section 4 is the
 * checklist, section 5 the defects of libraft 0.22.1 and what keeps them from us.
 *
 * One step: hand an event to raft_step(), then carry out its update in the fixed order term and vote, entries, snapshot,
 * messages, commit index (4.4). No step inside a step (4.9): what a step's consequences want to step is queued. Any
 * failure to do as told ends the process (4.5), for libraft has already moved on in memory. */
#include "log/raft_core.h"

#include "base/assert.h"
#include "log/raft_cache.h"
#include "log/raft_core_local.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { FREE_ASK_MS = 50 };

/* ---- ends ---- */

int far_raft_die(struct far_raft *raft, int klass, const char *what, const char *why)
{
    struct far_error err;
    far_fail(&err, klass, "raft: %s: %s", what, why);
    if (!raft->dead) {
        raft->dead = true;
        raft->env.on_fatal(raft->env.arg, &err);
    }
    return klass;
}

static int die_of(struct far_raft *raft, const struct far_error *err)
{
    return far_raft_die(raft, err->klass, "the log cannot be written", err->message);
}

/* ---- the update, part by part ---- */

static int do_vote(struct far_raft *raft)
{
    struct far_error err = {0};
    int rc = far_wal_set_vote(raft->wal, raft_current_term(&raft->raft), raft_voted_for(&raft->raft), &err);
    return rc == 0 ? 0 : die_of(raft, &err);
}

/* The library hands the batch over: data is copied into counted blobs, then freed. */
static int do_entries(struct far_raft *raft, uint64_t index, struct raft_entry *entries, unsigned n)
{
    struct far_error err = {0};
    int rc = 0;
    far_raft_cache_truncate(&raft->cache, index);
    for (unsigned i = 0; i < n && rc == 0; i++) {
        struct far_wal_entry entry = {.index = index + i,
                                      .term = entries[i].term,
                                      .type = (uint8_t)entries[i].type,
                                      .blob = far_blob_new(entries[i].buf.base, entries[i].buf.len)};
        rc = entry.blob == NULL ? FAR_LIMIT : far_raft_cache_append(&raft->cache, &entry);
        if (rc == 0) {
            rc = far_wal_append(raft->wal, &entry, 1, &err);
        }
    }
    raft_free(entries[0].batch);
    return rc == 0 ? 0 : far_raft_die(raft, rc, "entries cannot be kept", err.message);
}

/* Entries from index on, at most max, as many as fit one frame. */
static unsigned gather_entries(struct far_raft *raft, uint64_t index, unsigned max,
                               struct far_raft_codec_entry *entries)
{
    size_t bytes = 0;
    unsigned n = 0;
    while (n < max && n < FAR_RAFT_MESSAGE_ENTRIES_MAX) {
        const struct far_wal_entry *entry = far_raft_cache_get(&raft->cache, index + n);
        FAR_ASSERT(entry != NULL);
        bytes += entry->blob->len + 32;
        if (n > 0 && bytes > FAR_RAFT_MESSAGE_MAX - 4096) {
            break;
        }
        entries[n++] = (struct far_raft_codec_entry){
            .term = entry->term, .type = entry->type, .data = far_blob_slice(entry->blob)};
    }
    return n;
}

/* guard: every field of an InstallSnapshot comes from one manifest. */
static int fill_install(struct far_raft *raft, struct raft_install_snapshot *m)
{
    struct raft_buffer conf = {.base = raft->snapshot_conf.data, .len = raft->snapshot_conf.len};
    m->last_index = raft->snapshot_index;
    m->last_term = raft->snapshot_term;
    m->conf_index = raft->snapshot_conf_index;
    m->data = (struct raft_buffer){.base = raft->snapshot_data.data, .len = raft->snapshot_data.len};
    raft_configuration_init(&m->conf);
    return raft_configuration_decode(&conf, &m->conf) == 0 ? 0 : FAR_LIMIT;
}

static int send_one(struct far_raft *raft, const struct raft_message *message,
                    const struct far_raft_codec_entry *entries)
{
    struct far_error err = {0};
    far_buf_reset(&raft->out);
    int rc = far_raft_message_encode(message, entries, &raft->out, &err);
    if (rc != 0) {
        return far_raft_die(raft, rc, "a message cannot be encoded", err.message);
    }
    raft->env.send(raft->env.arg, message->server_id, message->server_address, far_buf_slice(&raft->out));
    return 0;
}

/* The library names the entries, we bring them (4.7), in as many frames as they need: each is a whole AppendEntries. */
static int send_append(struct far_raft *raft, struct raft_message *message)
{
    struct far_raft_codec_entry entries[FAR_RAFT_MESSAGE_ENTRIES_MAX];
    struct raft_append_entries *m = &message->append_entries;
    unsigned left = m->n_entries;
    int rc = 0;
    do {
        m->n_entries = gather_entries(raft, m->prev_log_index + 1, left, entries);
        rc = send_one(raft, message, entries);
        left -= m->n_entries;
        if (left > 0) {
            m->prev_log_term = entries[m->n_entries - 1].term;
            m->prev_log_index += m->n_entries;
        }
    } while (left > 0 && rc == 0);
    return rc;
}

int far_raft_send_message(struct far_raft *raft, struct raft_message *message)
{
    if (message->type == RAFT_APPEND_ENTRIES) {
        return send_append(raft, message);
    }
    if (message->type == RAFT_REQUEST_VOTE_RESULT && message->request_vote_result.pre_vote &&
        message->request_vote_result.term < raft_current_term(&raft->raft)) {
        /* guard: libraft repeats the candidate's term here even when it refuses because its own is higher. A candidate with
         * the longer log would then never learn of that term, and nobody else may win */
        message->request_vote_result.term = raft_current_term(&raft->raft);
    }
    if (message->type == RAFT_APPEND_ENTRIES_RESULT && message->append_entries_result.rejected > 0) {
        /* libraft leaves this hint unset when it refuses an older term */
        message->append_entries_result.last_log_index = raft_last_index(&raft->raft);
    }
    if (message->type != RAFT_INSTALL_SNAPSHOT) {
        return send_one(raft, message, NULL);
    }
    int rc = fill_install(raft, &message->install_snapshot);
    rc = rc == 0 ? send_one(raft, message, NULL) : far_raft_die(raft, rc, "a snapshot cannot be sent", "no memory");
    raft_configuration_close(&message->install_snapshot.conf);
    return rc;
}

static void queue_configuration(struct far_raft *raft, uint64_t index)
{
    FAR_ASSERT(raft->pending_count < FAR_RAFT_PENDING_MAX);
    raft->pending_configurations[raft->pending_count++] = index;
}

/* An entry is handed on when it is committed and in our own WAL: the state must never be ahead of that, or a power cut
 * would leave a log that ends before its state, as one that was lost does. Nothing while a state is being fetched, for
 * that will be of a later index. */
static int do_commit(struct far_raft *raft)
{
    uint64_t commit = raft_commit_index(&raft->raft);
    commit = raft->raft.last_stored < commit ? raft->raft.last_stored : commit;
    commit = raft->installing ? 0 : commit;
    while (raft->delivered_index < commit && !raft->dead && raft->pending_count < FAR_RAFT_PENDING_MAX) {
        const struct far_wal_entry *entry = far_raft_cache_get(&raft->cache, raft->delivered_index + 1);
        if (entry == NULL) {
            char where[160];
            snprintf(where, sizeof where,
                     "entry %" PRIu64 " of %" PRIu64 " committed ones, the log holds %" PRIu64 " to %" PRIu64,
                     raft->delivered_index + 1, commit, raft->cache.base_index + 1, far_raft_cache_last(&raft->cache));
            return far_raft_die(raft, FAR_INTERNAL, "a committed entry is gone", where);
        }
        raft->delivered_index++;
        if (raft_state(&raft->raft) == RAFT_LEADER && entry->term == raft_current_term(&raft->raft)) {
            raft->own_term_committed = true;
        }
        if (entry->type == RAFT_CHANGE) {
            queue_configuration(raft, entry->index);
        }
        raft->env.on_commit(raft->env.arg, entry);
    }
    return 0;
}

static void tell_leader(struct far_raft *raft)
{
    raft_id leader = 0;
    const char *address = NULL;
    raft_leader(&raft->raft, &leader, &address);
    uint64_t term = raft_current_term(&raft->raft);
    bool is_self = raft_state(&raft->raft) == RAFT_LEADER;
    if (is_self) {
        leader = raft->id;
    }
    if (leader == raft->told_leader && term == raft->told_term && is_self == raft->told_self) {
        return;
    }
    if (is_self && (!raft->told_self || term != raft->told_term)) {
        raft->own_term_committed = false;
        raft->leader_since_ms = raft->env.now_ms(raft->env.arg);
    }
    raft->told_leader = leader;
    raft->told_term = term;
    raft->told_self = is_self;
    raft->env.on_leader(raft->env.arg, leader, term, is_self);
}

static int do_update(struct far_raft *raft, struct raft_update *update)
{
    int rc = 0;
    if (update->flags & (RAFT_UPDATE_CURRENT_TERM | RAFT_UPDATE_VOTED_FOR)) {
        rc = do_vote(raft);
    }
    if (rc == 0 && (update->flags & (RAFT_UPDATE_ENTRIES))) {
        rc = do_entries(raft, update->entries.index, update->entries.batch, update->entries.n);
    }
    FAR_ASSERT((update->flags & (RAFT_UPDATE_SNAPSHOT)) == 0); /* see raft_core_receive.c */
    if (rc == 0 && (update->flags & (RAFT_UPDATE_MESSAGES))) {
        for (unsigned i = 0; i < update->messages.n && rc == 0; i++) {
            rc = far_raft_send_message(raft, &update->messages.batch[i]);
        }
    }
    if (rc == 0) { /* the peers' disks may work while ours does: an answer to the leader comes after its own on_stored */
        far_wal_write(raft->wal);
    }
    if (rc == 0) {
        tell_leader(raft);
    }
    if (rc == 0) {
        rc = do_commit(raft);
    }
    if (rc == 0) {
        raft->env.set_timer(raft->env.arg, raft_timeout(&raft->raft));
    }
    return rc;
}

/* ---- steps ---- */

/* What the disk can take for sure, in KiB, as peers are told (4.9). We refuse proposals ourselves (4.13). The disk is not asked
 * in every step: what it does not take after all waits for space. */
uint16_t far_raft_capacity(struct far_raft *raft)
{
    uint64_t now = raft->env.now_ms(raft->env.arg);
    if (raft->free_at_ms == 0 || now >= raft->free_at_ms + FREE_ASK_MS) {
        raft->free_bytes = raft->disk->ops->free_bytes(raft->disk);
        raft->free_at_ms = now;
    }
    uint64_t kib = raft->full ? 0 : raft->free_bytes / 1024;
    return kib > UINT16_MAX ? UINT16_MAX : (uint16_t)kib;
}

static int step_one(struct far_raft *raft, struct raft_event *event)
{
    struct raft_update update = {0};
    event->time = raft->env.now_ms(raft->env.arg);
    event->capacity = far_raft_capacity(raft);
    int rv = raft_step(&raft->raft, event, &update);
    if (rv != 0) {
        if (event->type == RAFT_SUBMIT || event->type == RAFT_TRANSFER) {
            return rv;
        }
        return far_raft_die(raft, FAR_INTERNAL, "a step failed", raft_strerror(rv));
    }
    return do_update(raft, &update);
}

/* Each configuration that was committed is told to raft at once (4.8). */
static int step_configurations(struct far_raft *raft)
{
    int rc = 0;
    while (raft->pending_count > 0 && rc == 0) {
        uint64_t index = raft->pending_configurations[0];
        raft->pending_count--;
        memmove(raft->pending_configurations, raft->pending_configurations + 1,
                raft->pending_count * sizeof raft->pending_configurations[0]);
        const struct far_wal_entry *entry = far_raft_cache_get(&raft->cache, index);
        FAR_ASSERT(entry != NULL);
        struct raft_event event = {.type = RAFT_CONFIGURATION};
        struct raft_buffer buffer = {.base = entry->blob->data, .len = entry->blob->len};
        event.configuration.index = index;
        raft_configuration_init(&event.configuration.conf);
        if (raft_configuration_decode(&buffer, &event.configuration.conf) != 0) {
            return far_raft_die(raft, FAR_CORRUPT, "a configuration cannot be read", "malformed");
        }
        rc = step_one(raft, &event);
    }
    return rc;
}

int far_raft_step(struct far_raft *raft, struct raft_event *event)
{
    if (raft->dead || raft->stopped) {
        return RAFT_SHUTDOWN;
    }
    FAR_ASSERT(!raft->stepping);
    raft->stepping = true;
    int rc = step_one(raft, event);
    if (!raft->dead) {
        int conf_rc = step_configurations(raft);
        rc = rc != 0 ? rc : conf_rc;
    }
    raft->stepping = false;
    return rc;
}

void far_raft_timeout(struct far_raft *raft)
{
    struct raft_event event = {.type = RAFT_TIMEOUT};
    if (raft->dead || raft->stopped) {
        return;
    }
    if (raft->installing) { /* no candidate: its log is about to go */
        raft->env.set_timer(raft->env.arg, raft->env.now_ms(raft->env.arg) + raft->election_ms);
        return;
    }
    if (raft->env.now_ms(raft->env.arg) < raft_timeout(&raft->raft)) {
        raft->env.set_timer(raft->env.arg, raft_timeout(&raft->raft));
        return;
    }
    far_raft_step(raft, &event);
}

/* ---- what the WAL says ---- */

/* The highest index of the writing whose entry is still the one in memory (4.6). */
void far_raft_on_stored(void *arg, const struct far_wal_stored *stored)
{
    struct far_raft *raft = arg;
    size_t n = stored->count;
    while (n > 0) {
        const struct far_wal_entry *entry = far_raft_cache_get(&raft->cache, stored->first_index + n - 1);
        if (entry != NULL && entry->term == stored->terms[n - 1]) {
            break;
        }
        n--;
    }
    uint64_t index = stored->first_index + n - 1;
    if (raft->reset_wanted && stored->count == 0) {
        raft->reset_wanted = false;
        far_raft_finish_install(raft);
        return;
    }
    raft->full = false;
    if (n == 0 || raft->reset_wanted || index <= raft->raft.last_stored) {
        return;
    }
    raft->stored_index = index;
    raft->stored_term = stored->terms[n - 1];
    struct raft_event event = {.type = RAFT_PERSISTED_ENTRIES};
    event.persisted_entries.index = index;
    far_raft_step(raft, &event);
}

void far_raft_on_wal_fatal(void *arg, const struct far_error *err)
{
    die_of(arg, err);
}

void far_raft_on_wal_full(void *arg, const struct far_error *err)
{
    struct far_raft *raft = arg;
    raft->full = true;
    raft->env.on_full(raft->env.arg, err);
}

void far_raft_retry(struct far_raft *raft)
{
    if (!raft->stopped && !raft->dead) {
        far_wal_retry(raft->wal);
    }
}
