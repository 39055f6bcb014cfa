/* What the servers say of themselves: once a second each tells its peers how far it is, what it holds and which feature
 * level its program supports. `cluster status` shows it, and the leader raises the cluster's level by it. Nothing that is
 * decided depends on it. See log.c. */
#include "log/log_private.h"

#include "base/clock.h"
#include "base/logging.h"

#include <stdio.h>

enum { ROW_ARENA_MAX = 64 * 1024 };

/* ---- the cluster's feature level ---- */

int far_log_take_level(struct far_log *log, uint64_t level, struct far_error *err)
{
    if (level > FAR_FEATURE_LEVEL) {
        return far_fail(err, FAR_CONFLICT,
                        "the cluster has feature level %llu and this version of farshored (%s) only %d; upgrade it",
                        (unsigned long long)level, FARSHORE_VERSION, FAR_FEATURE_LEVEL);
    }
    log->feature_level = level;
    return 0;
}

int far_log_load_level(struct far_log *log, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_row_cluster row;
    struct far_arena arena;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rv = far_store_begin(log->store, false, &txn, err);
    if (rv != 0) {
        return rv;
    }
    far_arena_init(&arena, ROW_ARENA_MAX);
    struct far_state state = {.kv = far_store_kv(txn)};
    rv = far_state_get(&state, &far_schema_row_cluster, &key, &arena, &row, err);
    rv = rv == 0 ? far_log_take_level(log, row.feature_level, err) : rv == FAR_NOT_FOUND ? 0 : rv;
    far_arena_done(&arena);
    far_store_abort(txn);
    return rv;
}

/* ---- saying it ---- */

static struct far_about about_self(const struct far_log *log)
{
    const struct far_mark *mark = far_agreement_own(&log->agreement, log->applied_index);
    uint64_t held = log->config.feature_level_max;
    struct far_about about = {
        .wall_ms = far_clock_wall_ms(),
        .feature_level = held != 0 && held < FAR_FEATURE_LEVEL ? (uint32_t)held : FAR_FEATURE_LEVEL,
        .applied_index = log->applied_index,
        .durable_index = log->durable_index,
        .first_seq = log->first_seq,
        .oldest_seq = log->oldest_seq,
        .last_seq = log->last_seq,
        .free_bytes = log->space.free_bytes,
        .version = FARSHORE_VERSION,
    };
    struct far_safe_entry skip = far_safe_skip(log->safe);
    about.is_safe = log->hold_index != 0;
    about.safe_index = log->hold_index;
    about.safe_hash = log->hold_hash;
    about.skip_index = skip.index;
    about.skip_hash = skip.hash;
    if (mark != NULL) {
        about.digest_index = mark->index;
        about.digest = mark->digest;
    }
    return about;
}

void far_log_send_about(struct far_log *log)
{
    struct far_about about = about_self(log);
    far_buf_reset(&log->scratch);
    if (far_about_encode(&about, &log->scratch) != 0) {
        return;
    }
    for (size_t i = 0; i < log->status.member_count; i++) {
        (void)far_peers_send(log->peers, log->status.members[i].id, FAR_FRAME_ABOUT, far_buf_slice(&log->scratch));
    }
}

/* ---- hearing it ---- */

static bool is_member(const struct far_log *log, uint64_t id)
{
    for (size_t i = 0; i < log->status.member_count; i++) {
        if (log->status.members[i].id == id) {
            return true;
        }
    }
    return false;
}

/* The place of this peer; a new one takes that of somebody who is no member. */
static struct far_log_about *place_of(struct far_log *log, uint64_t peer_id)
{
    struct far_log_about *free_place = NULL;
    for (size_t i = 0; i < FAR_PEERS_MAX; i++) {
        struct far_log_about *place = &log->abouts[i];
        if (place->peer_id == peer_id) {
            return place;
        }
        if (free_place == NULL && (place->peer_id == 0 || !is_member(log, place->peer_id))) {
            free_place = place;
        }
    }
    return free_place;
}

void far_log_on_about(struct far_log *log, uint64_t peer_id, struct far_slice payload)
{
    struct far_about about;
    struct far_error err = {0};
    if (far_about_decode(payload, &about, &err) != 0) {
        far_logf(FAR_LEVEL_WARN, "log", "server %llu: %s", (unsigned long long)peer_id, err.message);
        far_peers_drop(log->peers, peer_id);
        return;
    }
    struct far_log_about *place = place_of(log, peer_id);
    if (place != NULL) {
        uint64_t asked = place->peer_id == peer_id ? place->asked : 0;
        *place = (struct far_log_about){
            .peer_id = peer_id, .heard_ms = far_clock_monotonic_ms(), .about = about, .asked = asked};
    }
}

/* ---- through whom the users' commands come ---- */

enum { ASKED_ONE = 64, ASKED_MAX = 1 << 30 };

void far_log_note_asked(struct far_log *log, uint64_t peer_id, const struct far_command *command)
{
    if (command->actor >> 56 != FAR_ACTOR_TOKEN) {
        return;
    }
    uint64_t *asked = peer_id == 0 ? &log->asked : NULL;
    for (size_t i = 0; asked == NULL && i < FAR_PEERS_MAX; i++) {
        asked = log->abouts[i].peer_id == peer_id ? &log->abouts[i].asked : NULL;
    }
    if (asked != NULL && *asked < ASKED_MAX) {
        *asked += ASKED_ONE;
    }
}

void far_log_fade_asked(struct far_log *log)
{
    log->asked -= log->asked / ASKED_ONE;
    for (size_t i = 0; i < FAR_PEERS_MAX; i++) {
        log->abouts[i].asked -= log->abouts[i].asked / ASKED_ONE;
    }
}

/* ---- for the status ---- */

static void compare_digest(const struct far_log *log, struct far_log_member *member)
{
    const struct far_mark *own = far_agreement_own(&log->agreement, member->about.digest_index);
    member->digest_state = own == NULL                                                ? FAR_DIGEST_UNKNOWN
                           : far_hash128_equal(own->digest, member->about.digest) ? FAR_DIGEST_EQUAL
                                                                                      : FAR_DIGEST_DIFFERS;
}

void far_log_fill_about(struct far_log *log, struct far_log_member *member)
{
    uint64_t now = far_clock_monotonic_ms();
    member->about_age_ms = UINT64_MAX;
    member->has_clock = far_cluster_clock_offset(&log->clock, member->id, now, &member->clock_offset_ms);
    if (member->id == log->config.server_id) {
        member->about = about_self(log);
        member->about_age_ms = now;
        member->asked = log->asked / ASKED_ONE;
        compare_digest(log, member);
        return;
    }
    for (size_t i = 0; i < FAR_PEERS_MAX; i++) {
        if (log->abouts[i].peer_id == member->id) {
            member->about = log->abouts[i].about;
            member->about_age_ms = log->abouts[i].heard_ms;
            member->asked = log->abouts[i].asked / ASKED_ONE;
            compare_digest(log, member);
        }
    }
}
