/* Membership: one change at a time, tried until raft's rules allow it (every voter reachable and up to date), but not for long:
 * another one may be possible meanwhile. See log.h. */
#include "log/log_private.h"

#include "base/clock.h"

#include <stdio.h>

void far_log_member_end(struct far_log *log, int klass, const char *why)
{
    struct far_member_op op = log->member;
    if (op.change == FAR_MEMBER_NONE) {
        return;
    }
    log->member = (struct far_member_op){0};
    struct far_result result = {.klass = klass, .object_id = op.id};
    snprintf(result.message, sizeof result.message, "%s", klass == 0 ? "" : why);
    op.done(op.arg, &result, log->applied_index);
}

static void start(struct far_log *log, enum far_member_change change, uint64_t id, const char *address,
                  far_log_done_fn done, void *arg)
{
    if (log->is_closing || !log->is_leader) {
        far_log_refuse(log, FAR_NOT_LEADER, "another server leads; ask it", done, arg);
        return;
    }
    if (log->member.change != FAR_MEMBER_NONE) {
        far_log_refuse(log, FAR_BUSY, "another change of the servers is under way; try again later", done, arg);
        return;
    }
    uint64_t timeout_ms = change == FAR_MEMBER_TRANSFER ? FAR_LOG_TRANSFER_TIMEOUT_MS : FAR_LOG_MEMBER_TIMEOUT_MS;
    uint64_t now = far_clock_monotonic_ms();
    log->member = (struct far_member_op){.change = change,
                                         .id = id,
                                         .begin_deadline_ms = now + FAR_LOG_MEMBER_BEGIN_MS,
                                         .deadline_ms = now + timeout_ms,
                                         .done = done,
                                         .arg = arg};
    snprintf(log->member.address, sizeof log->member.address, "%s", address);
}

void far_log_member_add(struct far_log *log, uint64_t id, const char *address, far_log_done_fn done, void *arg)
{
    start(log, FAR_MEMBER_ADD, id, address, done, arg);
}

void far_log_member_promote(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    start(log, FAR_MEMBER_PROMOTE, id, "", done, arg);
}

void far_log_member_remove(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    start(log, FAR_MEMBER_REMOVE, id, "", done, arg);
}

void far_log_transfer(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg)
{
    start(log, FAR_MEMBER_TRANSFER, id, "", done, arg);
}

void far_log_member_give_up(struct far_log *log, uint64_t id)
{
    if (log->member.id == id) {
        far_log_member_end(log, FAR_CANCELED, "it is not wanted any more, and may still happen");
    }
}

static const struct far_raft_member *find(const struct far_raft_status *status, uint64_t id)
{
    for (size_t i = 0; i < status->member_count; i++) {
        if (status->members[i].id == id) {
            return &status->members[i];
        }
    }
    return NULL;
}

static bool is_reached(const struct far_member_op *op, const struct far_raft_status *status)
{
    const struct far_raft_member *member = find(status, op->id);
    bool committed = !status->configuration_pending;
    switch (op->change) {
    case FAR_MEMBER_ADD:
        return committed && member != NULL;
    case FAR_MEMBER_PROMOTE: /* and it knows: were another voter lost before, it would not vote (raft.md, section 5) */
        return committed && member != NULL && member->voter && member->match_index >= status->configuration_index;
    case FAR_MEMBER_REMOVE:
        return committed && member == NULL;
    default:
        return status->leader_id == op->id;
    }
}

static int begin(struct far_log *log, struct far_error *err)
{
    const struct far_member_op *op = &log->member;
    switch (op->change) {
    case FAR_MEMBER_ADD:
        return far_raft_add(log->raft, op->id, op->address, err);
    case FAR_MEMBER_PROMOTE:
        return far_raft_promote(log->raft, op->id, err);
    case FAR_MEMBER_REMOVE:
        return far_raft_remove(log->raft, op->id, err);
    default:
        return far_raft_transfer(log->raft, op->id, err);
    }
}

/* Is it done, lost or too late? */
static bool end_if_over(struct far_log *log)
{
    struct far_member_op *op = &log->member;
    struct far_raft_status status;
    far_raft_status(log->raft, &status);
    if (is_reached(op, &status)) {
        if (op->change == FAR_MEMBER_REMOVE) {
            far_peers_forget(log->peers, op->id);
        }
        far_log_member_end(log, 0, "");
        return true;
    }
    if (!status.is_leader && (op->change != FAR_MEMBER_TRANSFER || status.leader_id != 0)) {
        far_log_member_end(log, FAR_UNKNOWN_OUTCOME, "leadership moved; look at the members and try again");
        return true;
    }
    uint64_t now = far_clock_monotonic_ms();
    if (!op->is_begun && op->why[0] != '\0' && now >= op->begin_deadline_ms) {
        char why[FAR_MESSAGE_MAX];
        snprintf(why, sizeof why, "%s", op->why);
        far_log_member_end(log, FAR_BUSY, why);
        return true;
    }
    if (now >= op->deadline_ms) {
        char why[FAR_MESSAGE_MAX];
        snprintf(why, sizeof why, "%s", op->why[0] != '\0' ? op->why : "it is not done in time, and may still happen");
        far_log_member_end(log, FAR_TIMEOUT, why);
        return true;
    }
    return false;
}

void far_log_member_beat(struct far_log *log)
{
    struct far_member_op *op = &log->member;
    if (op->change == FAR_MEMBER_NONE || end_if_over(log) || op->is_begun) {
        return;
    }
    struct far_error err = {0};
    int rv = begin(log, &err);
    op->is_begun = rv == 0;
    if (rv == FAR_BUSY) {
        snprintf(op->why, sizeof op->why, "%s", err.message);
    } else if (rv != 0) {
        far_log_member_end(log, rv, err.message);
    }
}
