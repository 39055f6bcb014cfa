/* What a send does with each frame of the target. */
#include "dataplane/send_local.h"

#include <stdlib.h>

/* Does compression pay? Level 1 takes about as long for a block as a wire of SEND_COMPRESS_BELOW takes to carry what it
 * saves; on a faster one the processor is the bottleneck, and compression would only slow it. The mutex is held. */
static bool compression_pays(struct far_send *send)
{
    enum far_engine_compress way = send->engine->config.compress;
    if (way != FAR_ENGINE_COMPRESS_AUTO) {
        return way == FAR_ENGINE_COMPRESS_ALWAYS;
    }
    return send->wire_rate != 0 && send->wire_rate < SEND_COMPRESS_BELOW;
}

/* The group with this number, if it is at work; an answer to one that was offered anew meanwhile is none. */
static struct send_group *find_group(struct far_send *send, uint64_t number)
{
    struct send_group *group = &send->groups[number % FAR_TRANSFER_SLOTS % SEND_GROUPS];
    bool at_work = group->state >= SEND_OFFERED && group->offer.group == number;
    return at_work ? group : NULL;
}

static void count_answer(struct far_send *send, struct send_group *group)
{
    uint64_t wanted = (uint64_t)__builtin_popcount(group->wanted);
    if (group->counted) {
        return;
    }
    group->counted = true;
    if (!send->skip_equal) { /* without a base, what the target lacks is the best that is known of what changed */
        atomic_fetch_add(&send->attempt->bytes_changed, wanted * FAR_BLOCK_BYTES);
    }
    atomic_fetch_add(&send->attempt->figures.bytes_wanted, wanted * FAR_BLOCK_BYTES);
    atomic_fetch_add(&send->attempt->figures.bytes_known, (group->offer.block_count - wanted) * FAR_BLOCK_BYTES);
    send->offered_blocks += group->offer.block_count;
    send->wanted_blocks += wanted;
    if (send->offered_blocks >= 8 * SEND_MARK_BLOCKS) { /* the last ones count, not the first */
        send->offered_blocks /= 2;
        send->wanted_blocks /= 2;
    }
}

/* *ret_ready: there is something for a writer. The mutex is held. */
static int take_want(struct far_send *send, const struct far_transfer_want *want, bool *ret_ready, struct far_error *err)
{
    struct send_group *group = find_group(send, want->group);
    if (group == NULL) {
        return 0;
    }
    if (want->mask >> group->offer.block_count != 0) {
        return far_fail(err, FAR_INVALID, "the other node wants blocks that were not offered");
    }
    *ret_ready = true;
    if (group->state == SEND_SENDING || group->state == SEND_SENT) { /* pages did not make the block: whole, once more */
        group->wanted &= want->mask;
        group->want.paged = 0;
        group->early_want = true;
        if (group->state == SEND_SENT) {
            send_group_read(send, group);
        }
        return 0;
    }
    if (group->state != SEND_OFFERED) {
        return far_fail(err, FAR_INVALID, "the other node answered an offer twice");
    }
    group->wanted = want->mask;
    count_answer(send, group);
    if (want->mask == 0) {
        send_group_free(send, group);
        return 0;
    }
    group->want = *want;
    group->compress = compression_pays(send);
    if (group->buffer == NULL) {
        send_group_read(send, group);
    } else if (group->compress || want->paged != 0) {
        group->state = SEND_PACKING;
        send_queue_push(&send->to_pack, group);
        pthread_cond_signal(&send->work);
    } else { /* no work for a worker: one hand-over less */
        send_describe_raw(group);
        group->state = SEND_SENDING;
        send_queue_insert(&send->to_send, group);
    }
    return 0;
}

static int take_wants(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_want want;
    struct far_slice head = far_frame_head(frame);
    bool ready = false;
    int rc = 0;
    pthread_mutex_lock(&send->mutex);
    while (rc == 0 && head.len > 0) {
        rc = far_transfer_want_next(&head, &want, err);
        rc = rc == 0 ? take_want(send, &want, &ready, err) : rc;
    }
    pthread_mutex_unlock(&send->mutex);
    if (ready) {
        pthread_cond_signal(&send->out);
    }
    return rc;
}

static int take_acks(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    uint64_t numbers[FAR_TRANSFER_WANTS_MAX];
    size_t count = 0;
    int rc = far_transfer_ack_decode(far_frame_head(frame), numbers, &count, err);
    pthread_mutex_lock(&send->mutex);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct send_group *group = find_group(send, numbers[i]);
        if (group != NULL && group->state == SEND_SENT) {
            send_group_free(send, group);
        } else if (group != NULL && group->state == SEND_SENDING) {
            group->early_ack = true;
        }
    }
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_signal(&send->out);
    return rc;
}

static int take_credit(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_credit credit;
    int rc = far_transfer_credit_decode(far_frame_head(frame), &credit, err);
    pthread_mutex_lock(&send->mutex);
    if (rc == 0) {
        send->credit = credit;
        atomic_store(&send->attempt->figures.window_bytes, credit.window_bytes);
    }
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_broadcast(&send->out);
    return rc;
}

static int take_durable(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    uint64_t block = 0;
    int rc = far_transfer_block_decode(far_frame_head(frame), send->blocks, &block, err);
    pthread_mutex_lock(&send->mutex);
    if (rc == 0 && block > send->marked_block && !send->fin_known) {
        rc = far_fail(err, FAR_INVALID, "the other node says that it stored what was not sent");
    }
    send_note_progress(send);
    uint64_t low = send_low_block(send);
    block = block < low ? block : low; /* of what is under way the leaves may still be set */
    pthread_mutex_unlock(&send->mutex);
    if (rc == 0 && far_source_map_close_to(send->map, block, NULL) == 0) { /* else with the next one */
        far_source_map_durable(send->map, block);
    }
    return rc;
}

static int take_page(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_page *page = malloc(sizeof *page);
    if (page == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a page of a map");
    }
    bool wanted = false;
    int rc = far_transfer_page_decode(far_frame_head(frame), page, err);
    if (rc == 0) {
        rc = far_source_map_take(send->map, page->level, page->index, (const struct far_hash256 *)page->hashes, err);
        wanted = rc != FAR_INVALID;
        rc = wanted ? rc : 0;
    }
    free(page);
    if (rc == 0 && !wanted) { /* asked for once more when a connection was lost, and answered on another all the same */
        return 0;
    }
    pthread_mutex_lock(&send->mutex);
    send->pages_come += rc == 0;
    if (rc == FAR_CORRUPT) { /* asking the same node again cannot help */
        send_stop(send, rc, err, true);
    }
    pthread_mutex_unlock(&send->mutex);
    pthread_cond_broadcast(&send->work);
    pthread_cond_signal(&send->out); /* pages below it may be asked for now */
    return rc;
}

/* The session began with a guess of it. */
static int take_welcome(struct send_lane *lane, const struct far_frame *frame, struct far_error *err)
{
    struct far_send *send = lane->send;
    struct far_transfer_welcome welcome;
    int rc = far_transfer_welcome_decode(far_frame_head(frame), &welcome, err);
    uint64_t base_bytes = send->attempt->order.has_base_root ? send->size_bytes : 0;
    pthread_mutex_lock(&send->mutex);
    if (rc == 0 && !lane->awaits_welcome) {
        rc = far_fail(err, FAR_INVALID, "the other node sent a welcome that nobody awaits");
    } else if (rc == 0 && (welcome.complete || welcome.resume_block != 0 || welcome.base_bytes != base_bytes)) {
        rc = far_fail(err, FAR_CONFLICT, "the other node has not what was expected");
        send_stop(send, rc, err, false);
    } else if (rc == 0) {
        lane->awaits_welcome = false;
        send->welcomed = true;
        pthread_cond_broadcast(&send->ended);
    }
    pthread_mutex_unlock(&send->mutex);
    return rc;
}

static int take_error(struct far_send *send, const struct far_frame *frame, struct far_error *err)
{
    int rc = far_frame_error(frame, err);
    pthread_mutex_lock(&send->mutex);
    send_stop(send, rc, err, rc == FAR_DENIED && !send->welcomed);
    pthread_mutex_unlock(&send->mutex);
    return rc;
}

static int take_end(struct far_send *send, struct far_error *err)
{
    pthread_mutex_lock(&send->mutex);
    bool complete = send->fin_known; /* it stays true when a connection is lost: what it has, it has */
    if (complete) {
        send_stop(send, 0, NULL, false);
    }
    pthread_mutex_unlock(&send->mutex);
    return complete ? 0 : far_fail(err, FAR_INVALID, "the other node ended a transfer that is not complete");
}

int send_take_frame(struct send_lane *lane, const struct far_frame *frame, struct far_error *err)
{
    struct far_send *send = lane->send;
    switch (frame->header.type) {
    case FAR_TRANSFER_WELCOME:
        return take_welcome(lane, frame, err);
    case FAR_TRANSFER_CREDIT:
        return take_credit(send, frame, err);
    case FAR_TRANSFER_WANT:
        return take_wants(send, frame, err);
    case FAR_TRANSFER_ACK:
        return take_acks(send, frame, err);
    case FAR_TRANSFER_DURABLE:
        return take_durable(send, frame, err);
    case FAR_TRANSFER_MAP_PAGE:
        return take_page(send, frame, err);
    case FAR_TRANSFER_PING:
        return 0;
    case FAR_TRANSFER_ERROR:
        return take_error(send, frame, err);
    case FAR_TRANSFER_FIN_ACK:
        return take_end(send, err);
    default:
        return far_fail(err, FAR_INVALID, "the other node sent a frame that only a source sends");
    }
}

void send_lane_lost(struct send_lane *lane)
{
    struct far_send *send = lane->send;
    for (size_t i = 0; i < SEND_GROUPS; i++) {
        struct send_group *group = &send->groups[i];
        if (group->lane == lane->index && (group->state == SEND_OFFERED || group->state == SEND_SENT)) {
            send_group_offer(send, group);
        }
    }
    if (lane->held != NULL) {
        send_group_offer(send, lane->held);
        lane->held = NULL;
    }
    far_throttle_ticket_done(send->engine->throttle, &lane->ticket);
    far_throttle_ticket_init(&lane->ticket, send);
    send->fin_sent = false; /* what is offered once more has to be answered first */
    far_source_map_ask_again(send->map);
    pthread_cond_broadcast(&send->out);
}
