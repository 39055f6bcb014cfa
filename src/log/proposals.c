/* Proposals on their way: see proposals.h.
 *
 * Answering takes the proposal off its list first, so that the answer may add others. */
#include "log/proposals.h"

#include <stdio.h>
#include <stdlib.h>

static void list_init(struct far_proposal_list *list)
{
    list->first = NULL;
    list->last = &list->first;
}

static void list_push(struct far_proposal_list *list, struct far_proposal *proposal)
{
    proposal->next = NULL;
    *list->last = proposal;
    list->last = &proposal->next;
}

static struct far_proposal *list_pop(struct far_proposal_list *list)
{
    struct far_proposal *first = list->first;
    if (first != NULL) {
        list->first = first->next;
        if (list->first == NULL) {
            list->last = &list->first;
        }
    }
    return first;
}

/* Take everything off `list`. */
static struct far_proposal_list list_take(struct far_proposal_list *list)
{
    struct far_proposal_list taken = *list;
    if (taken.first == NULL) {
        taken.last = NULL;
    }
    list_init(list);
    return taken;
}

static void list_assign(struct far_proposal_list *to, struct far_proposal_list from)
{
    to->first = from.first;
    to->last = from.first == NULL ? &to->first : from.last;
}

void far_proposals_init(struct far_proposals *proposals, far_proposal_answer_fn answer, void *arg, uint64_t first_request)
{
    memset(proposals, 0, sizeof *proposals);
    proposals->answer = answer;
    proposals->arg = arg;
    proposals->next_request = first_request;
    list_init(&proposals->queued);
    list_init(&proposals->sent);
}

static size_t size_of(const struct far_proposal *proposal)
{
    return sizeof *proposal + proposal->command.payload.len;
}

struct far_proposal *far_proposals_add(struct far_proposals *proposals, const struct far_command *command,
                                       uint64_t deadline_ms)
{
    size_t len = command == NULL ? 0 : command->payload.len;
    if (proposals->count >= FAR_PROPOSALS_MAX || len > FAR_PROPOSALS_BYTES_MAX - proposals->bytes ||
        proposals->bytes + sizeof(struct far_proposal) + len > FAR_PROPOSALS_BYTES_MAX) {
        return NULL;
    }
    struct far_proposal *proposal = calloc(1, sizeof *proposal + len);
    if (proposal == NULL) {
        return NULL;
    }
    proposal->deadline_ms = deadline_ms;
    proposal->is_barrier = command == NULL;
    if (command != NULL) {
        proposal->command = *command;
        proposal->command.payload = far_slice(proposal->payload, len);
    }
    if (len > 0) {
        memcpy(proposal->payload, command->payload.data, len);
    }
    proposals->count++;
    proposals->bytes += size_of(proposal);
    list_push(&proposals->queued, proposal);
    return proposal;
}

struct far_proposal *far_proposals_add_first(struct far_proposals *proposals, const struct far_command *command,
                                             uint64_t deadline_ms)
{
    struct far_proposal_list others;
    list_assign(&others, list_take(&proposals->queued));
    struct far_proposal *first = far_proposals_add(proposals, command, deadline_ms);
    for (struct far_proposal *p; (p = list_pop(&others)) != NULL;) {
        list_push(&proposals->queued, p);
    }
    return first;
}

static void answer(struct far_proposals *proposals, struct far_proposal *proposal, const struct far_result *result,
                   uint64_t applied_index)
{
    proposals->count--;
    proposals->bytes -= size_of(proposal);
    proposals->answer(proposals->arg, proposal, result, applied_index);
    free(proposal);
}

static void answer_list(struct far_proposals *proposals, struct far_proposal *list, int klass, const char *why)
{
    struct far_result result = {.klass = klass};
    snprintf(result.message, sizeof result.message, "%s", why);
    while (list != NULL) {
        struct far_proposal *next = list->next;
        answer(proposals, list, &result, 0);
        list = next;
    }
}

bool far_leader_knows_all(const struct far_leader_knows *knows)
{
    return knows->is_named && !knows->is_offered && knows->heard_ms != 0 && knows->now_ms < knows->heard_ms + knows->election_ms / 2 &&
           knows->applied_index >= knows->answered_index && knows->applied_index >= knows->committed_index;
}

void far_proposals_screen(struct far_proposals *proposals, far_proposal_screen_fn screen, void *arg,
                          uint64_t applied_index)
{
    struct far_proposal_list all;
    list_assign(&all, list_take(&proposals->queued));
    for (struct far_proposal *p; (p = list_pop(&all)) != NULL;) {
        struct far_result result = {0};
        bool is_refused = !p->is_screened && !p->is_barrier && screen(arg, p, &result);
        p->is_screened = true;
        if (is_refused) {
            answer(proposals, p, &result, applied_index);
        } else {
            list_push(&proposals->queued, p);
        }
    }
}

/* ---- entries ---- */

int far_proposals_take(struct far_proposals *proposals, uint64_t index, uint64_t term, uint64_t now_ms,
                       struct far_buf *out, struct far_error *err)
{
    if (proposals->queued.first == NULL) {
        return FAR_NOT_FOUND;
    }
    if (proposals->entry_count == FAR_ENTRIES_IN_FLIGHT_MAX) {
        return FAR_BUSY;
    }
    struct far_entry_in_flight *entry = &proposals->entries[proposals->entry_count];
    far_buf_reset(out);
    int rv = far_envelope_begin(out, err);
    if (rv != 0) {
        return rv;
    }
    *entry = (struct far_entry_in_flight){.index = index, .term = term};
    list_init(&entry->proposals);
    unsigned position = 0;
    for (struct far_proposal *p; (p = proposals->queued.first) != NULL;) {
        p->command.proposed_at_ms = now_ms;
        rv = p->is_barrier ? 0 : far_envelope_add(out, &p->command, err);
        if (rv != 0) {
            break;
        }
        p->position = p->is_barrier ? 0 : position++;
        list_push(&entry->proposals, list_pop(&proposals->queued));
    }
    if (entry->proposals.first == NULL) {
        return rv; /* no memory */
    }
    far_envelope_finish(out, index, term);
    proposals->entry_count++;
    return 0;
}

/* Forget the entry at this place; returns what is still in it. */
static struct far_proposal *entry_remove(struct far_proposals *proposals, unsigned at)
{
    struct far_proposal *rest = proposals->entries[at].proposals.first;
    proposals->entry_count--;
    for (unsigned i = at; i < proposals->entry_count; i++) {
        struct far_entry_in_flight *to = &proposals->entries[i], *from = &proposals->entries[i + 1];
        *to = *from;
        list_assign(&to->proposals, from->proposals);
    }
    return rest;
}

void far_proposals_refused(struct far_proposals *proposals, int klass, const char *why)
{
    if (proposals->entry_count > 0) {
        answer_list(proposals, entry_remove(proposals, proposals->entry_count - 1), klass, why);
    }
}

bool far_proposals_await(const struct far_proposals *proposals, uint64_t index, bool *ret_has_barrier)
{
    *ret_has_barrier = false;
    for (unsigned i = 0; i < proposals->entry_count; i++) {
        if (proposals->entries[i].index != index) {
            continue;
        }
        for (const struct far_proposal *p = proposals->entries[i].proposals.first; p != NULL; p = p->next) {
            *ret_has_barrier = *ret_has_barrier || p->is_barrier;
        }
        return true;
    }
    return false;
}

void far_proposals_decided(struct far_proposals *proposals, uint64_t index, uint64_t term, unsigned position,
                           const struct far_result *result, uint64_t applied_index)
{
    for (unsigned i = 0; i < proposals->entry_count; i++) {
        struct far_entry_in_flight *entry = &proposals->entries[i];
        if (entry->index != index || entry->term != term) {
            continue;
        }
        for (struct far_proposal **at = &entry->proposals.first; *at != NULL; at = &(*at)->next) {
            struct far_proposal *found = *at;
            if (!found->is_barrier && found->position == position) {
                *at = found->next;
                if (*at == NULL) {
                    entry->proposals.last = at;
                }
                answer(proposals, found, result, applied_index);
                if (entry->proposals.first == NULL) { /* its place is free for the next, though it is not committed yet */
                    (void)entry_remove(proposals, i);
                }
                return;
            }
        }
        return;
    }
}

/* The entry is applied: barriers in it are content; a command that was not decided by then was not in what committed. */
static void settle(struct far_proposals *proposals, struct far_proposal *list, uint64_t index, bool is_ours)
{
    struct far_result good = {0}, lost = {.klass = FAR_UNKNOWN_OUTCOME};
    snprintf(lost.message, sizeof lost.message, "another leader's entry took its place; repeat it with the same id");
    while (list != NULL) {
        struct far_proposal *next = list->next;
        answer(proposals, list, list->is_barrier && is_ours ? &good : &lost, index);
        list = next;
    }
}

void far_proposals_applied(struct far_proposals *proposals, uint64_t index, uint64_t term)
{
    while (proposals->entry_count > 0 && proposals->entries[0].index <= index) {
        bool is_ours = proposals->entries[0].term == term;
        settle(proposals, entry_remove(proposals, 0), index, is_ours);
    }
}

/* ---- to the leader ---- */

struct far_proposal *far_proposals_send(struct far_proposals *proposals)
{
    struct far_proposal *proposal = list_pop(&proposals->queued);
    if (proposal != NULL) {
        proposal->request = proposals->next_request++;
        list_push(&proposals->sent, proposal);
    }
    return proposal;
}

void far_proposals_answered(struct far_proposals *proposals, uint64_t request, const struct far_result *result,
                            uint64_t applied_index)
{
    for (struct far_proposal **at = &proposals->sent.first; *at != NULL; at = &(*at)->next) {
        struct far_proposal *found = *at;
        if (found->request == request) {
            *at = found->next;
            if (*at == NULL) {
                proposals->sent.last = at;
            }
            answer(proposals, found, result, applied_index);
            return;
        }
    }
}

/* ---- endings ---- */

void far_proposals_lost(struct far_proposals *proposals, const char *why)
{
    struct far_proposal *sent = list_take(&proposals->sent).first;
    struct far_proposal *entries[FAR_ENTRIES_IN_FLIGHT_MAX];
    unsigned count = proposals->entry_count;
    for (unsigned i = 0; i < count; i++) {
        entries[i] = proposals->entries[i].proposals.first;
    }
    proposals->entry_count = 0;
    for (unsigned i = 0; i < count; i++) {
        answer_list(proposals, entries[i], FAR_UNKNOWN_OUTCOME, why);
    }
    answer_list(proposals, sent, FAR_UNKNOWN_OUTCOME, why);
}

void far_proposals_drop_queued(struct far_proposals *proposals, int klass, const char *why)
{
    answer_list(proposals, list_take(&proposals->queued).first, klass, why);
}

/* Move what is past its deadline to `expired`. */
static void sift(struct far_proposal_list *list, uint64_t now_ms, struct far_proposal_list *expired)
{
    struct far_proposal_list kept;
    list_init(&kept);
    for (struct far_proposal *p; (p = list_pop(list)) != NULL;) {
        list_push(p->deadline_ms <= now_ms ? expired : &kept, p);
    }
    list_assign(list, kept);
}

void far_proposals_expire(struct far_proposals *proposals, uint64_t now_ms)
{
    struct far_proposal_list expired;
    list_init(&expired);
    sift(&proposals->queued, now_ms, &expired);
    sift(&proposals->sent, now_ms, &expired);
    for (unsigned i = 0; i < proposals->entry_count; i++) {
        sift(&proposals->entries[i].proposals, now_ms, &expired);
    }
    answer_list(proposals, expired.first, FAR_TIMEOUT, "no answer in time; it may still happen");
}
