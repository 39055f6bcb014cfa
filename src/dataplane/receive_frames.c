/* What a receive does with each frame of the source. */
#include "dataplane/receive_local.h"

#include "base/clock.h"
#include "base/hash.h"
#include "dataplane/id_key.h"

#include <stdlib.h>

enum {
    ZERO_BATCH = 64,
    ZERO_STEP = 4096, /* blocks of a run, between two looks at whether to go on */
    PAGES_PAY = 12,   /* of 16 pages of a block on average fewer come: it is worth saying what is there */
    PAGES_PROBE = 16, /* else one offer of so many finds out whether that has changed */
    PAGES_KNOWN = 64, /* blocks that make an average */
    PAGE_WEIGHT = 256 * 1024, /* towards the next checkpoint, in stored bytes, of a page of the map */
};

static struct receive_group *group_of(struct far_receive *receive, uint64_t number)
{
    return &receive->groups[number % FAR_TRANSFER_SLOTS];
}

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

/* What was found damaged once is read before the vault says that it has it: it may be so still, though nobody read it since the node
 * began. */
static void look_at_damaged(struct far_receive *receive, const struct far_transfer_offer *offer, const struct far_hash256 *ids)
{
    const struct far_engine_order *order = &receive->attempt->order;
    uint8_t *block = order->damage_count > 0 ? malloc(FAR_BLOCK_BYTES) : NULL;
    for (size_t d = 0; block != NULL && d < order->damage_count; d++) {
        const struct far_engine_damage *damage = &order->damages[d];
        for (size_t i = 0; i < offer->block_count; i++) {
            if (offer->blocks[i] >= damage->first_block && offer->blocks[i] - damage->first_block < damage->block_count) {
                (void)far_vault_get(receive->vault, receive->domain, &ids[i], true, block, NULL); /* notes it */
            }
        }
    }
    free(block);
}

/* Settle what needs no data; the bits that are left are wanted. */
static int answer_blocks(struct far_receive *receive, const struct far_transfer_offer *offer, struct receive_group *group,
                         struct far_error *err)
{
    bool has[FAR_TRANSFER_GROUP] = {false};
    uint64_t changed = 0;
    memset(group, 0, sizeof *group);
    group->number = offer->group;
    group->count = offer->block_count;
    memcpy(group->blocks, offer->blocks, sizeof group->blocks);
    memcpy(group->ids, offer->ids, sizeof group->ids);
    look_at_damaged(receive, offer, group->ids);
    int rc = far_vault_has(receive->vault, receive->domain, group->ids, offer->block_count, has, err);
    rc = rc == 0 ? get_offered(receive, offer, group->before, err) : rc;
    for (size_t i = 0; rc == 0 && i < offer->block_count; i++) {
        bool equal = far_hash256_equal(&group->before[i], &group->ids[i]);
        changed += !equal;
        if (!has[i]) {
            group->wanted |= (uint16_t)(1u << i);
        } else if (!equal) {
            rc = far_replica_set(receive->replica, offer->blocks[i], &group->ids[i], err);
        }
    }
    atomic_fetch_add(&receive->attempt->bytes_changed, changed * FAR_BLOCK_BYTES);
    uint64_t wanted = (uint64_t)__builtin_popcount(group->wanted);
    atomic_fetch_add(&receive->attempt->figures.bytes_wanted, wanted * FAR_BLOCK_BYTES);
    atomic_fetch_add(&receive->attempt->figures.bytes_known, (offer->block_count - wanted) * FAR_BLOCK_BYTES);
    return rc;
}

/* A run may be as long as the disk: does anybody still wait for it? */
static int check_wanted(struct far_receive *receive, struct far_error *err)
{
    pthread_mutex_lock(&receive->mutex);
    int rc = receive->stop ? far_fail(err, FAR_CANCELED, "the session is over") : far_attempt_check(receive->attempt, err);
    pthread_mutex_unlock(&receive->mutex);
    return rc;
}

static int answer_some_zeroes(struct far_receive *receive, const struct far_transfer_run *run, struct far_error *err)
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

static int answer_zeroes(struct far_receive *receive, const struct far_transfer_run *run, struct far_error *err)
{
    int rc = 0;
    for (uint32_t at = 0; rc == 0 && at < run->count;) {
        uint32_t rest = run->count - at, count = rest < ZERO_STEP ? rest : ZERO_STEP;
        struct far_transfer_run some = {.first_block = run->first_block + at, .count = count};
        rc = at == 0 ? 0 : check_wanted(receive, err);
        rc = rc == 0 ? answer_some_zeroes(receive, &some, err) : rc;
        at += count;
    }
    return rc;
}

/* Is it worth saying which pages of the old blocks are there? Under the mutex. */
static bool pages_pay(struct far_receive *receive)
{
    bool known = receive->paged_blocks >= PAGES_KNOWN;
    return !known || receive->paged_pages < receive->paged_blocks * PAGES_PAY || receive->offers % PAGES_PROBE == 0;
}

/* The pages of what is in the place of a wanted block now. A block that cannot be read has none to offer. */
static bool sum_pages(struct far_receive *receive, const struct far_hash256 *before, uint8_t *block,
                      uint64_t ret_sums[FAR_TRANSFER_PAGES])
{
    if (far_vault_get(receive->vault, receive->domain, before, false, block, NULL) != 0) {
        return false;
    }
    for (size_t i = 0; i < FAR_TRANSFER_PAGES; i++) {
        ret_sums[i] = far_hash64(block + i * FAR_TRANSFER_PAGE, FAR_TRANSFER_PAGE);
    }
    return true;
}

static void offer_pages(struct far_receive *receive, struct receive_group *group, struct far_transfer_want *want)
{
    uint8_t *block = group->wanted != 0 ? malloc(FAR_BLOCK_BYTES) : NULL;
    for (size_t i = 0; block != NULL && i < group->count; i++) {
        if ((group->wanted >> i & 1) != 0 && sum_pages(receive, &group->before[i], block, want->sums[i])) {
            want->paged |= (uint16_t)(1u << i);
        }
    }
    free(block);
    group->paged = want->paged;
}

/* Waits for room among the answers. The mutex is held. */
static int push_want(struct receive_lane *lane, const struct far_transfer_want *want, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    while (lane->want_count == RECEIVE_WANTS && !receive->stop && lane->up) {
        pthread_cond_wait(&receive->room, &receive->mutex);
    }
    if (receive->stop || !lane->up) {
        return far_fail(err, FAR_CANCELED, "the session is over");
    }
    lane->wants[(lane->want_first + lane->want_count++) % RECEIVE_WANTS] = *want;
    return 0;
}

/* Pages of the map that change and did not with the offer before: the source keeps them until a checkpoint. */
static uint64_t pages_of(struct far_receive *receive, const struct far_transfer_offer *offer)
{
    uint64_t count = 0;
    for (size_t i = 0; i < (size_t)offer->block_count + offer->run_count; i++) {
        uint64_t block = i < offer->block_count ? offer->blocks[i] : offer->runs[i - offer->block_count].first_block;
        count += block / FAR_MAP_FANOUT != receive->last_page;
        receive->last_page = block / FAR_MAP_FANOUT;
    }
    return count;
}

/* Is it newer than what was offered in its slot before? What is not comes from a connection that is lost, and was offered again
 * on another meanwhile: nobody waits for its answer, and nobody would send its data. */
static bool is_news(struct far_receive *receive, uint64_t number)
{
    pthread_mutex_lock(&receive->mutex);
    uint64_t *newest = &receive->newest[number % FAR_TRANSFER_SLOTS];
    bool news = number > *newest;
    *newest = news ? number : *newest;
    pthread_mutex_unlock(&receive->mutex);
    return news;
}

/* From here on what was offered is known by its hashes. */
static int unveil(const struct far_receive *receive, struct far_transfer_offer *offer, struct far_error *err)
{
    const struct far_id_key *key = far_domain_id_key(receive->domain);
    bool good = offer->keyed == (key != NULL);
    for (size_t i = 0; good && key != NULL && i < offer->block_count; i++) {
        struct far_hash256 id, veiled, hash;
        memcpy(id.bytes, offer->ids[i], 32);
        memcpy(veiled.bytes, offer->veiled[i], 32);
        good = far_id_key_unveil(key, &id, &veiled, &hash);
        memcpy(offer->ids[i], hash.bytes, good ? 32 : 0);
    }
    return good ? 0 : far_fail(err, FAR_DENIED, "the source node offers what is not of the dedup domain of this transfer");
}

static int take_offer(struct receive_lane *lane, const struct far_frame *frame, bool *ret_own, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    struct far_transfer_offer offer;
    struct far_transfer_want want = {0};
    struct receive_group group;
    int rc = far_transfer_offer_decode(far_frame_head(frame), receive->blocks, &offer, err);
    rc = rc == 0 ? unveil(receive, &offer, err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (!is_news(receive, offer.group)) {
        return 0;
    }
    *ret_own = true;
    rc = answer_blocks(receive, &offer, &group, err);
    for (size_t i = 0; rc == 0 && i < offer.run_count; i++) {
        rc = answer_zeroes(receive, &offer.runs[i], err);
    }
    if (rc != 0) {
        *ret_own = rc != FAR_CANCELED;
        return rc;
    }
    *ret_own = false;
    want.group = offer.group;
    want.mask = group.wanted;
    pthread_mutex_lock(&receive->mutex);
    receive->stored_bytes += pages_of(receive, &offer) * PAGE_WEIGHT;
    receive->offers++;
    bool paged = pages_pay(receive);
    pthread_mutex_unlock(&receive->mutex);
    if (paged) {
        offer_pages(receive, &group, &want);
    }
    pthread_mutex_lock(&receive->mutex);
    struct receive_group *kept = group_of(receive, offer.group);
    if (receive->newest[offer.group % FAR_TRANSFER_SLOTS] != offer.group) {
        pthread_mutex_unlock(&receive->mutex);
        return 0;
    }
    receive->awaited -= kept->number != 0 && kept->wanted != 0; /* it was lost with its connection */
    receive->open_groups += (group.wanted != 0) - (kept->number != 0);
    if (group.wanted != 0) {
        *kept = group;
    } else {
        kept->number = 0;
    }
    receive->awaited += group.wanted != 0;
    receive_settle(receive);
    rc = push_want(lane, &want, err);
    pthread_mutex_unlock(&receive->mutex);
    pthread_cond_broadcast(&receive->out);
    return rc;
}

/* ---- data ---- */

/* An item with a buffer to read into; waits for one while others have them. The mutex is held. */
static struct receive_item *take_item(struct receive_lane *lane)
{
    struct far_receive *receive = lane->receive;
    while (!receive->stop) {
        struct receive_item *found = NULL;
        for (size_t i = 0; i < RECEIVE_ITEMS && receive->in_work < receive_items_max(receive); i++) {
            struct receive_item *item = &receive->items[i];
            if (!item->in_work && (found == NULL || (found->buffer == NULL && item->buffer != NULL))) {
                found = item;
            }
        }
        if (found != NULL && found->buffer == NULL) {
            found->buffer = far_pool_try(receive->engine->pool_in);
        }
        if (found != NULL && found->buffer != NULL) {
            found->in_work = true;
            receive->in_work++;
            return found;
        }
        struct timespec at = far_clock_monotonic_in(RECEIVE_POLL_MS);
        pthread_cond_timedwait(&receive->room, &receive->mutex, &at);
    }
    return NULL;
}

static int check_data(const struct receive_group *group, const struct far_transfer_data *data, struct far_error *err)
{
    uint16_t slots = 0, paged = 0;
    for (size_t i = 0; i < data->count; i++) {
        slots |= (uint16_t)(1u << data->stored[i].slot);
        paged |= (uint16_t)((data->stored[i].pages != 0xffff) << data->stored[i].slot);
    }
    if (group->number != data->group || (slots & ~group->wanted) != 0 || (paged & ~group->paged) != 0) {
        return far_fail(err, FAR_INVALID, "the source node sent blocks that were not asked for");
    }
    return 0;
}

static void queue_item(struct far_receive *receive, struct receive_item *item)
{
    item->next = NULL;
    if (receive->first != NULL) {
        receive->last->next = item;
    } else {
        receive->first = item;
    }
    receive->last = item;
    receive->queued++;
}

static int take_data(struct receive_lane *lane, const struct far_frame *frame, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    struct far_transfer_data data;
    int rc = far_transfer_data_decode(far_frame_head(frame), frame->header.bulk_len, &data, err);
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    struct receive_group *group = group_of(receive, data.group);
    rc = check_data(group, &data, err);
    struct receive_item *item = rc == 0 ? take_item(lane) : NULL;
    if (rc == 0 && item == NULL) {
        rc = far_fail(err, FAR_CANCELED, "the session is over");
    }
    if (rc == 0) {
        for (size_t i = 0; i < data.count; i++) {
            group->wanted &= (uint16_t)~(1u << data.stored[i].slot);
        }
        group->pending++;
        receive->awaited -= group->wanted == 0;
        item->lane = lane->index;
        item->lane_life = lane->life;
        item->again = 0;
        item->group = *group;
        item->data = data;
    }
    pthread_mutex_unlock(&receive->mutex);
    if (rc != 0) {
        return rc;
    }
    rc = far_bstream_read(lane->stream, item->buffer, frame->header.bulk_len, receive->engine->config.idle_ms, err);
    pthread_mutex_lock(&receive->mutex);
    if (rc != 0) { /* the group will be offered anew */
        item->in_work = false;
        receive->in_work--;
    } else {
        queue_item(receive, item);
    }
    bool enough = receive->queued == 1 || receive->queued >= RECEIVE_TOGETHER || receive->awaited == 0;
    pthread_mutex_unlock(&receive->mutex);
    if (enough) { /* the first wakes somebody who then waits for more */
        pthread_cond_signal(&receive->work);
    }
    return rc;
}

/* ---- marks and pages ---- */

static int take_mark(struct far_receive *receive, const struct far_frame *frame, struct far_error *err)
{
    uint64_t block;
    bool fin = frame->header.type == FAR_TRANSFER_FIN;
    int rc = far_transfer_block_decode(far_frame_head(frame), receive->blocks, &block, err);
    if (rc == 0 && fin && block != receive->blocks) {
        rc = far_fail(err, FAR_INVALID, "the source node ended before the end of the disk");
    }
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    if (!fin) {
        receive->settled_block = block > receive->settled_block ? block : receive->settled_block;
    }
    receive->fin = receive->fin || fin;
    receive_settle(receive);
    pthread_cond_signal(&receive->settled);
    pthread_cond_broadcast(&receive->out);
    pthread_mutex_unlock(&receive->mutex);
    return 0;
}

static int take_page_ask(struct receive_lane *lane, const struct far_frame *frame, struct far_error *err)
{
    struct far_receive *receive = lane->receive;
    unsigned level;
    uint64_t index;
    int rc = far_transfer_page_ask_decode(far_frame_head(frame), &level, &index, err);
    if (rc == 0 && receive->base == NULL) {
        rc = far_fail(err, FAR_INVALID, "the source node asked for the map of a point that is not here");
    }
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&receive->mutex);
    while (lane->page_count == RECEIVE_PAGES && !receive->stop && lane->up) {
        pthread_cond_wait(&receive->room, &receive->mutex);
    }
    if (lane->page_count < RECEIVE_PAGES) {
        lane->pages[lane->page_count].level = level;
        lane->pages[lane->page_count++].index = index;
    }
    pthread_cond_broadcast(&receive->out);
    pthread_mutex_unlock(&receive->mutex);
    return 0;
}

int receive_take_frame(struct receive_lane *lane, const struct far_frame *frame, bool *ret_own, struct far_error *err)
{
    *ret_own = false;
    switch (frame->header.type) {
    case FAR_TRANSFER_OFFER:
        return take_offer(lane, frame, ret_own, err);
    case FAR_TRANSFER_DATA:
        return take_data(lane, frame, err);
    case FAR_TRANSFER_MARK:
    case FAR_TRANSFER_FIN:
        return take_mark(lane->receive, frame, err);
    case FAR_TRANSFER_PAGE_ASK:
        return take_page_ask(lane, frame, err);
    case FAR_TRANSFER_PING:
        return 0;
    case FAR_TRANSFER_ERROR:
        return far_frame_error(frame, err);
    default:
        return far_fail(err, FAR_INVALID, "the source node sent a frame that only a target sends");
    }
}
