/* What a receive does with each frame of the source. */
#include "dataplane/receive_local.h"

enum { ZERO_BATCH = 64 };

/* ---- offers ---- */

/* What the replica has where the offered blocks go: in one go where they lie together. */
static int get_offered(struct far_receive *receive, const struct far_transfer_offer *offer, struct far_hash256 *ret_leaves,
                       struct far_error *err)
{
    struct far_hash256 around[FAR_TRANSFER_GROUP];
    size_t count = offer->block_count;
    uint64_t span = count > 0 ? offer->blocks[count - 1] - offer->blocks[0] + 1 : 0;
    int rc = 0;
    if (span <= FAR_TRANSFER_GROUP) {
        rc = count > 0 ? far_replica_get_many(receive->replica, offer->blocks[0], (size_t)span, around, err) : 0;
        for (size_t i = 0; rc == 0 && i < count; i++) {
            ret_leaves[i] = around[offer->blocks[i] - offer->blocks[0]];
        }
        return rc;
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = far_replica_get(receive->replica, offer->blocks[i], &ret_leaves[i], err);
    }
    return rc;
}

/* Settle what needs no data; the bits that are left are wanted. */
static int answer_blocks(struct far_receive *receive, const struct far_transfer_offer *offer, uint16_t *ret_wanted,
                         struct far_error *err)
{
    struct far_hash256 ids[FAR_TRANSFER_GROUP], before[FAR_TRANSFER_GROUP];
    bool has[FAR_TRANSFER_GROUP] = {false};
    uint64_t changed = 0;
    uint16_t wanted = 0;
    for (size_t i = 0; i < offer->block_count; i++) {
        memcpy(ids[i].bytes, offer->ids[i], sizeof ids[i].bytes);
    }
    int rc = far_vault_has(receive->vault, ids, offer->block_count, has, err);
    rc = rc == 0 ? get_offered(receive, offer, before, err) : rc;
    for (size_t i = 0; rc == 0 && i < offer->block_count; i++) {
        bool equal = far_hash256_equal(&before[i], &ids[i]);
        changed += !equal;
        if (!has[i]) {
            wanted |= (uint16_t)(1u << i);
        } else if (!equal) {
            rc = far_replica_set(receive->replica, offer->blocks[i], &ids[i], err);
        }
    }
    atomic_fetch_add(&receive->attempt->bytes_changed, changed * FAR_BLOCK_BYTES);
    *ret_wanted = wanted;
    return rc;
}

static int answer_zeroes(struct far_receive *receive, const struct far_transfer_run *run, struct far_error *err)
{
    struct far_hash256 before[ZERO_BATCH];
    uint64_t changed = 0;
    int rc = 0;
    for (uint64_t at = 0; rc == 0 && at < run->count; at += ZERO_BATCH) {
        size_t count = run->count - at < ZERO_BATCH ? (size_t)(run->count - at) : ZERO_BATCH;
        rc = far_replica_get_many(receive->replica, run->first_block + at, count, before, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            changed += !far_hash256_equal(&before[i], far_zero_leaf());
        }
    }
    atomic_fetch_add(&receive->attempt->bytes_changed, changed * FAR_BLOCK_BYTES);
    return rc == 0 && changed > 0 ? far_replica_set_zero(receive->replica, run->first_block, run->count, err) : rc;
}

static int take_offer(struct far_receive *receive, const struct far_frame *frame, bool *ret_own, struct far_error *err)
{
    struct far_transfer_offer offer;
    int rc = far_transfer_offer_decode(far_frame_head(frame), receive->blocks, &offer, err);
    struct receive_group *group = rc == 0 && offer.group < RECEIVE_GROUPS ? &receive->groups[offer.group] : NULL;
    if (rc != 0) {
        return rc;
    }
    if (group == NULL || group->used) {
        return far_fail(err, FAR_INVALID, "the source node offered a group twice, or more than it may");
    }
    uint16_t wanted = 0;
    *ret_own = true;
    rc = answer_blocks(receive, &offer, &wanted, err);
    for (size_t i = 0; rc == 0 && i < offer.run_count; i++) {
        rc = answer_zeroes(receive, &offer.runs[i], err);
    }
    if (rc != 0) {
        return rc;
    }
    group->used = wanted != 0;
    group->wanted = wanted;
    group->count = offer.block_count;
    memcpy(group->blocks, offer.blocks, sizeof group->blocks);
    memcpy(group->ids, offer.ids, sizeof group->ids);
    pthread_mutex_lock(&receive->mutex);
    if (receive->want_count >= RECEIVE_GROUPS) {
        *ret_own = false;
        rc = far_fail(err, FAR_LIMIT, "the source node offers more than it may");
    } else {
        receive->wants[receive->want_count++] = (struct far_transfer_want){.group = offer.group, .mask = wanted};
        receive->credit.offers++;
        receive->awaited += wanted != 0;
    }
    pthread_mutex_unlock(&receive->mutex);
    pthread_cond_signal(&receive->out);
    return rc;
}

/* ---- data ---- */

static struct receive_item *free_item(struct far_receive *receive)
{
    for (size_t i = 0; i < RECEIVE_ITEMS; i++) {
        if (receive->items[i].buffer != NULL && !receive->items[i].in_work) {
            return &receive->items[i];
        }
    }
    return NULL;
}

static int check_data(struct receive_group *group, const struct far_transfer_data *data, struct far_error *err)
{
    uint16_t slots = 0;
    for (size_t i = 0; i < data->count; i++) {
        slots |= (uint16_t)(1u << data->stored[i].slot);
    }
    if (group == NULL || !group->used || slots != group->wanted) {
        return far_fail(err, FAR_INVALID, "the source node sent blocks that were not asked for");
    }
    return 0;
}

static int take_data(struct far_receive *receive, const struct far_frame *frame, struct far_error *err)
{
    struct far_transfer_data data;
    int rc = far_transfer_data_decode(far_frame_head(frame), frame->header.bulk_len, &data, err);
    struct receive_group *group = rc == 0 && data.group < RECEIVE_GROUPS ? &receive->groups[data.group] : NULL;
    rc = rc == 0 ? check_data(group, &data, err) : rc;
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    struct receive_item *item = free_item(receive);
    receive->awaited--;
    if (item != NULL) {
        item->in_work = true;
        item->number = 0;
        receive->in_work++;
    }
    pthread_mutex_unlock(&receive->mutex);
    if (item == NULL) {
        return far_fail(err, FAR_LIMIT, "the source node sent more than its credit");
    }
    item->group = *group;
    item->data = data;
    item->next = NULL;
    group->used = false;
    rc = far_bstream_read(receive->stream, item->buffer, frame->header.bulk_len, receive->engine->config.idle_ms, err);
    pthread_mutex_lock(&receive->mutex);
    if (rc != 0) {
        item->in_work = false;
        receive->in_work--;
    } else {
        item->number = ++receive->numbered;
        if (receive->last != NULL && receive->first != NULL) {
            receive->last->next = item;
        } else {
            receive->first = item;
        }
        receive->last = item;
        receive->queued++;
    }
    bool enough = receive->queued == 1 || receive->queued >= RECEIVE_TOGETHER || receive->awaited == 0;
    pthread_mutex_unlock(&receive->mutex);
    if (enough) { /* the first wakes somebody who then waits for more */
        pthread_cond_signal(&receive->work);
    }
    return rc;
}

/* ---- marks ---- */

static int take_mark(struct far_receive *receive, const struct far_frame *frame, struct far_error *err)
{
    uint64_t block;
    int rc = far_transfer_block_decode(far_frame_head(frame), receive->blocks, &block, err);
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    if (frame->header.type == FAR_TRANSFER_FIN && block != receive->blocks) {
        rc = far_fail(err, FAR_INVALID, "the source node ended before the end of the disk");
    } else {
        receive->mark_count -= receive->mark_count == RECEIVE_MARKS; /* the newest says at least as much, later */
        receive->marks[receive->mark_count++] = (struct receive_mark){.block = block, .number = receive->numbered};
        receive->fin = receive->fin || frame->header.type == FAR_TRANSFER_FIN;
        receive_settle(receive);
    }
    pthread_mutex_unlock(&receive->mutex);
    return rc;
}

int receive_take_frame(struct far_receive *receive, const struct far_frame *frame, bool *ret_own, struct far_error *err)
{
    *ret_own = false;
    switch (frame->header.type) {
    case FAR_TRANSFER_OFFER:
        return take_offer(receive, frame, ret_own, err);
    case FAR_TRANSFER_DATA:
        return take_data(receive, frame, err);
    case FAR_TRANSFER_MARK:
    case FAR_TRANSFER_FIN:
        return take_mark(receive, frame, err);
    case FAR_TRANSFER_PING:
        return 0;
    case FAR_TRANSFER_ERROR:
        return far_frame_error(frame, err);
    default:
        return far_fail(err, FAR_INVALID, "the source node sent a frame that only a target sends");
    }
}
