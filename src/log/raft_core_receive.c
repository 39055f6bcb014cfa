/* The raft driver: what peers say. See raft_core.h; "guard" points into reference/raft.md, section 5. */
#include "log/raft_core_local.h"

#include "base/assert.h"

#include <stdlib.h>

static void hear(struct far_raft *raft, uint64_t from_id, const struct raft_message *message)
{
    uint64_t now = raft->env.now_ms(raft->env.arg);
    struct far_raft_heard *slot = NULL;
    for (size_t i = 0; i < FAR_RAFT_MEMBERS_MAX; i++) {
        if (raft->heard[i].id == from_id) {
            slot = &raft->heard[i];
            break;
        }
        if (slot == NULL || raft->heard[i].at_ms < slot->at_ms) {
            slot = &raft->heard[i];
        }
    }
    if (slot->id != from_id) {
        *slot = (struct far_raft_heard){.id = from_id};
    }
    slot->at_ms = now;
    if (message->type == RAFT_APPEND_ENTRIES_RESULT) {
        slot->has_capacity = true;
        slot->capacity = message->append_entries_result.capacity;
    }
    if (message->type == RAFT_APPEND_ENTRIES && message->append_entries.term >= raft_current_term(&raft->raft)) {
        raft->leader_heard_ms = now;
    }
}

/* Part of a message: entries [from, from + n), with their data copied into a batch of their own. */
static int receive_part(struct far_raft *raft, const struct raft_message *whole, unsigned from, unsigned n)
{
    const struct raft_append_entries *all = &whole->append_entries;
    struct raft_message part = *whole;
    struct raft_append_entries *m = &part.append_entries;
    m->prev_log_index = all->prev_log_index + from;
    m->prev_log_term = from == 0 ? all->prev_log_term : all->entries[from - 1].term;
    m->n_entries = n;
    m->entries = NULL;
    if (n > 0) {
        size_t bytes = 0;
        for (unsigned i = 0; i < n; i++) {
            bytes += all->entries[from + i].buf.len;
        }
        m->entries = raft_calloc(n, sizeof *m->entries);
        uint8_t *batch = raft_malloc(bytes + 8);
        if (m->entries == NULL || batch == NULL) {
            raft_free(m->entries);
            raft_free(batch);
            return far_raft_die(raft, FAR_LIMIT, "entries cannot be taken", "no memory");
        }
        uint8_t *at = batch;
        for (unsigned i = 0; i < n; i++) {
            m->entries[i] = all->entries[from + i];
            m->entries[i].buf.base = memcpy(at, all->entries[from + i].buf.base, all->entries[from + i].buf.len);
            m->entries[i].batch = batch;
            at += m->entries[i].buf.len;
        }
    }
    /* guard: the commit index must not go back, nor past what this message vouches for */
    if (m->leader_commit > m->prev_log_index + n) {
        m->leader_commit = m->prev_log_index + n;
    }
    struct raft_event event = {.type = RAFT_RECEIVE};
    event.receive.message = &part;
    int rc = far_raft_step(raft, &event);
    raft_free(m->entries);
    return rc;
}

/* A word of a leader that says nothing of the log: keeps us its follower, is answered with nothing but "here". */
static void receive_beat(struct far_raft *raft, const struct raft_message *message, uint64_t term)
{
    struct raft_message beat = {.type = RAFT_APPEND_ENTRIES,
                                .server_id = message->server_id,
                                .server_address = message->server_address};
    struct raft_event event = {.type = RAFT_RECEIVE};
    beat.append_entries.term = term;
    event.receive.message = &beat;
    far_raft_step(raft, &event);
}

/* guard: entries below our snapshot are committed and equal everywhere (leader completeness), but libraft has forgotten
 * their terms: it would refuse them, or (from index 1 on) append them to the end, and its leader takes such a refusal for
 * a stale one. So the message is read from the snapshot on. Returns how many of its entries are passed over. */
static unsigned pass_over_snapshot(const struct far_raft *raft, struct raft_append_entries *m)
{
    if (m->prev_log_index >= raft->snapshot_index || far_raft_cache_get(&raft->cache, m->prev_log_index) != NULL) {
        return 0;
    }
    uint64_t below = raft->snapshot_index - m->prev_log_index;
    if (below < m->n_entries) {
        return (unsigned)below;
    }
    m->prev_log_index = raft->snapshot_index;
    m->prev_log_term = raft->snapshot_term;
    m->n_entries = 0;
    return 0;
}

/* guard: libraft notes a membership change under the index of the batch's first entry, so each one comes first. */
static void receive_append(struct far_raft *raft, struct raft_message *message)
{
    struct raft_append_entries *m = &message->append_entries;
    if (raft->installing) {
        receive_beat(raft, message, m->term);
        return;
    }
    unsigned from = pass_over_snapshot(raft, m);
    do {
        unsigned n = m->n_entries - from;
        for (unsigned i = 1; i < n; i++) {
            if (m->entries[from + i].type == RAFT_CHANGE) {
                n = i;
            }
        }
        if (receive_part(raft, message, from, n) != 0) {
            return;
        }
        from += n;
    } while (from < m->n_entries);
}

/* Tell a leader how far our log is its log. */
static void answer_install(struct far_raft *raft, const struct raft_message *message, uint64_t index)
{
    struct raft_message answer = {.type = RAFT_APPEND_ENTRIES_RESULT,
                                  .server_id = message->server_id,
                                  .server_address = message->server_address};
    answer.append_entries_result.version = 2; /* with features and capacity */
    answer.append_entries_result.term = raft_current_term(&raft->raft);
    answer.append_entries_result.last_log_index = index;
    answer.append_entries_result.features = 1;
    answer.append_entries_result.capacity = far_raft_capacity(raft);
    far_raft_send_message(raft, &answer);
}

static void begin_install(struct far_raft *raft, const struct raft_message *message)
{
    const struct raft_install_snapshot *m = &message->install_snapshot;
    struct raft_buffer conf = {0};
    if (raft_configuration_encode(&m->conf, &conf) != 0) {
        return; /* no memory; the leader sends it again */
    }
    struct far_raft_manifest manifest = {.index = m->last_index,
                                         .term = m->last_term,
                                         .configuration_index = m->conf_index,
                                         .configuration = far_slice(conf.base, conf.len),
                                         .data = far_slice(m->data.base, m->data.len)};
    raft->installing = true;
    raft->env.on_install(raft->env.arg, message->server_id, &manifest);
    raft_free(conf.base);
}

/* guard: a leader wants us to install its state. libraft is not told: it would be "installing", deaf and without a vote,
 * until the state is here, which may be never (its leader gone), and it cannot be told to give up. For libraft this is a
 * heartbeat; when the state is here, it is started again from it, as after a crash (far_raft_finish_install()). */
static void receive_install(struct far_raft *raft, const struct raft_message *message)
{
    const struct raft_install_snapshot *m = &message->install_snapshot;
    receive_beat(raft, message, m->term);
    if (raft->dead || raft->installing || raft_current_term(&raft->raft) != m->term ||
        raft_state(&raft->raft) != RAFT_FOLLOWER) {
        return;
    }
    const struct far_wal_entry *own = far_raft_cache_get(&raft->cache, m->last_index);
    if (raft->snapshot_index >= m->last_index) {
        answer_install(raft, message, raft->snapshot_index);
    } else if (own != NULL && own->term == m->last_term) {
        uint64_t stored = raft->raft.last_stored;
        answer_install(raft, message, stored < m->last_index ? stored : m->last_index);
    } else {
        begin_install(raft, message);
    }
}

/* guard: while a state is fetched there is no time-out that makes libraft forget its leader (far_raft_timeout()), and while it has one
 * it gives no vote. A leader that is silent for so long is none. */
static void forget_silent_leader(const struct far_raft *raft, struct raft_message *message)
{
    uint64_t silent_ms = raft->env.now_ms(raft->env.arg) - raft->leader_heard_ms;
    if (message->type == RAFT_REQUEST_VOTE && raft->installing && silent_ms >= raft->election_ms) {
        message->request_vote.disrupt_leader = true;
    }
}

int far_raft_receive(struct far_raft *raft, uint64_t from_id, const char *from_address, struct far_slice message,
                     struct far_error *err)
{
    struct raft_message decoded;
    if (raft->dead || raft->stopped) {
        return 0;
    }
    int rc = far_raft_message_decode(message, &decoded, err);
    if (rc != 0) {
        return rc;
    }
    if (decoded.type == RAFT_REQUEST_VOTE && decoded.request_vote.candidate_id != from_id) {
        return far_fail(err, FAR_INVALID, "server %llu asks for a vote for another one", (unsigned long long)from_id);
    }
    decoded.server_id = from_id;
    decoded.server_address = from_address;
    hear(raft, from_id, &decoded);
    forget_silent_leader(raft, &decoded);
    if (decoded.type == RAFT_APPEND_ENTRIES) {
        unsigned n = decoded.append_entries.n_entries;
        receive_append(raft, &decoded);
        decoded.append_entries.n_entries = n;
    } else if (decoded.type == RAFT_INSTALL_SNAPSHOT) {
        receive_install(raft, &decoded);
    } else if (decoded.type != RAFT_TIMEOUT_NOW || !raft->installing) {
        struct raft_event event = {.type = RAFT_RECEIVE};
        event.receive.message = &decoded;
        far_raft_step(raft, &event);
    }
    far_raft_message_done(&decoded, true);
    return 0;
}
