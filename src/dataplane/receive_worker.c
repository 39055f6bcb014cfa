/* A worker of a receive: takes DATA frames, checks and decompresses what is compressed, puts pages that came on the block
 * that was there, checks SHA-256 against the offered id, puts the block into the vault and sets the leaf in the replica.
 * A whole block that is not what was offered ends the attempt: the source or the link is broken, and nothing of it is kept.
 * One made of pages is asked for once more, whole. */
#include "dataplane/receive_local.h"

#include "base/clock.h"
#include "base/hash.h"
#include "dataplane/leaf_lanes.h"

#include <errno.h>
#include <zstd.h>

enum {
    ITEMS = RECEIVE_TOGETHER,
    GATHER_MS = 2,
    ALL_PAGES = 0xffff,
    LEVEL = 1,
    SAMPLE_BYTES = 4096,
};

/* One block of a frame on its way. */
struct arrival {
    const struct far_transfer_stored *stored;
    const uint8_t *bytes; /* as it came */
    const uint8_t *plain; /* whole and uncompressed */
};

static int decompress(struct receive_worker *worker, const struct receive_item *item, const struct arrival *a,
                      uint8_t *plain, size_t plain_len, struct far_error *err)
{
    uint64_t block = item->group.blocks[a->stored->slot];
    if (far_hash64(a->bytes, a->stored->length) != a->stored->hash) {
        return far_fail(err, FAR_CORRUPT, "block %llu was damaged on its way from the source node",
                        (unsigned long long)block);
    }
    size_t length = ZSTD_decompressDCtx(worker->zstd, plain, plain_len, a->bytes, a->stored->length);
    if (ZSTD_isError(length) || length != plain_len) {
        return far_fail(err, FAR_CORRUPT, "block %llu from the source node cannot be decompressed",
                        (unsigned long long)block);
    }
    return 0;
}

/* The block that was there with the pages that came. It cannot be read any more: it will not be what was offered. */
static int put_on(struct receive_worker *worker, const struct receive_item *item, const struct arrival *a, uint8_t *block,
                  struct far_error *err)
{
    uint16_t pages = a->stored->pages;
    const uint8_t *from = a->bytes;
    size_t plain_len = (size_t)__builtin_popcount(pages) * FAR_TRANSFER_PAGE;
    if (a->stored->codec == FAR_TRANSFER_ZSTD) {
        int rc = decompress(worker, item, a, worker->scratch, plain_len, err);
        if (rc != 0) {
            return rc;
        }
        from = worker->scratch;
    }
    if (far_vault_get(worker->receive->vault, worker->receive->domain, &item->group.before[a->stored->slot], false, block, NULL) != 0) {
        memset(block, 0, FAR_BLOCK_BYTES);
    }
    for (size_t i = 0; i < FAR_TRANSFER_PAGES; i++) {
        if ((pages >> i & 1) != 0) {
            memcpy(block + i * FAR_TRANSFER_PAGE, from, FAR_TRANSFER_PAGE);
            from += FAR_TRANSFER_PAGE;
        }
    }
    return 0;
}

/* Stored blocks as whole ones: raw where they lie, others in the worker's buffer. */
static int unpack(struct receive_worker *worker, const struct receive_item *item, struct arrival *ret, struct far_error *err)
{
    const uint8_t *at = item->buffer;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < item->data.count; i++) {
        struct arrival *a = &ret[i];
        uint8_t *plain = worker->plain + i * FAR_BLOCK_BYTES;
        *a = (struct arrival){.stored = &item->data.stored[i], .bytes = at, .plain = at};
        if (a->stored->pages != ALL_PAGES) {
            rc = put_on(worker, item, a, plain, err);
            a->plain = plain;
        } else if (a->stored->codec == FAR_TRANSFER_ZSTD) {
            rc = decompress(worker, item, a, plain, FAR_BLOCK_BYTES, err);
            a->plain = plain;
        }
        at += a->stored->length;
    }
    return rc;
}

/* A block made of pages is compressed here, where the vault compresses at all and it pays. */
static struct far_vault_block record_of(struct receive_worker *worker, const struct arrival *a, const struct far_hash256 *id,
                                        uint8_t *room)
{
    struct far_vault_block block = {.id = *id, .codec = FAR_CODEC_RAW, .data = a->plain, .len = FAR_BLOCK_BYTES};
    if (a->stored->pages == ALL_PAGES) {
        block.codec = a->stored->codec == FAR_TRANSFER_ZSTD ? FAR_CODEC_ZSTD : FAR_CODEC_RAW;
        block.data = a->bytes;
        block.len = a->stored->length;
    } else if (worker->receive->engine->config.compress != FAR_ENGINE_COMPRESS_NEVER) {
        size_t n = ZSTD_compress(room, FAR_BLOCK_BYTES, a->plain + FAR_BLOCK_BYTES / 2, SAMPLE_BYTES, LEVEL);
        if (!ZSTD_isError(n) && n <= SAMPLE_BYTES - SAMPLE_BYTES / 8) {
            n = ZSTD_compress(room, FAR_BLOCK_BYTES - FAR_BLOCK_BYTES / 8, a->plain, FAR_BLOCK_BYTES, LEVEL);
            if (!ZSTD_isError(n)) {
                block.codec = FAR_CODEC_ZSTD;
                block.data = room;
                block.len = n;
            }
        }
    }
    return block;
}

/* The blocks of one frame into the vault and the replica, if each is the one that was offered. */
static int store(struct receive_worker *worker, struct receive_item *item, const struct arrival *arrivals,
                 const struct far_hash256 *leaves, struct far_error *err)
{
    struct far_receive *receive = worker->receive;
    struct far_vault_block blocks[FAR_TRANSFER_GROUP];
    struct far_hash256 ids[FAR_TRANSFER_GROUP];
    uint64_t indices[FAR_TRANSFER_GROUP] = {0};
    size_t count = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < item->data.count; i++) {
        const struct far_transfer_stored *s = arrivals[i].stored;
        if (!far_hash256_equal(&leaves[i], &item->group.ids[s->slot])) {
            if (s->pages == ALL_PAGES) {
                return far_fail(err, FAR_CORRUPT, "block %llu from the source node is not the one it offered: its SHA-256 "
                                "differs", (unsigned long long)item->group.blocks[s->slot]);
            }
            item->again |= (uint16_t)(1u << s->slot);
            continue;
        }
        indices[count] = item->group.blocks[s->slot];
        ids[count] = leaves[i];
        blocks[count] = record_of(worker, &arrivals[i], &leaves[i], worker->scratch);
        if (blocks[count].data == worker->scratch) { /* the room is used again for the next one */
            rc = far_vault_put_many(receive->vault, receive->domain, &blocks[count], 1, err);
            rc = rc == 0 ? far_replica_set_many(receive->replica, &indices[count], &ids[count], 1, err) : rc;
        } else {
            count++;
        }
    }
    rc = rc == 0 && count > 0 ? far_vault_put_many(receive->vault, receive->domain, blocks, count, err) : rc;
    rc = rc == 0 && count > 0 ? far_replica_set_many(receive->replica, indices, ids, count, err) : rc;
    return rc == 0 ? 0 : far_error_context(err, "store blocks from %llu on", (unsigned long long)item->group.blocks[0]);
}

/* One frame, or several whose blocks are hashed together: that fills the lanes of leaf_lanes.h better. */
static int do_items(struct receive_worker *worker, struct receive_item *const items[], size_t count,
                    struct far_error *err)
{
    struct arrival arrivals[ITEMS * FAR_TRANSFER_GROUP];
    const uint8_t *plain[ITEMS * FAR_TRANSFER_GROUP];
    struct far_hash256 leaves[ITEMS * FAR_TRANSFER_GROUP];
    size_t blocks = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = unpack(worker, items[i], arrivals + blocks, err);
        blocks += items[i]->data.count;
    }
    if (rc != 0) {
        return rc;
    }
    for (size_t i = 0; i < blocks; i++) {
        plain[i] = arrivals[i].plain;
    }
    far_block_leaves(plain, blocks, leaves);
    blocks = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = store(worker, items[i], arrivals + blocks, leaves + blocks, err);
        blocks += items[i]->data.count;
    }
    return rc;
}

static bool all_raw(const struct receive_item *item)
{
    for (size_t i = 0; i < item->data.count; i++) {
        if (item->data.stored[i].codec != FAR_TRANSFER_RAW || item->data.stored[i].pages != ALL_PAGES) {
            return false;
        }
    }
    return true;
}

/* The next frame, and those after it if none needs the room for decompressed blocks. The mutex is held. */
static size_t take_items(struct far_receive *receive, struct receive_item *items[ITEMS])
{
    size_t count = 0;
    while (receive->first != NULL && count < ITEMS &&
           (count == 0 || (all_raw(items[0]) && all_raw(receive->first)))) {
        items[count++] = receive->first;
        receive->first = receive->first->next;
    }
    receive->queued -= count;
    receive->last = receive->first != NULL ? receive->last : NULL;
    return count;
}

/* Waits for frames, and if there are few and more are on their way, a moment for those. The mutex is held; 0: stop. */
static size_t next_items(struct far_receive *receive, struct receive_item *items[ITEMS])
{
    struct timespec until;
    bool waits = false, waited = false;
    while (!receive->stop) {
        bool enough = receive->queued >= ITEMS || receive->awaited == 0 || waited;
        if (receive->first == NULL) {
            pthread_cond_wait(&receive->work, &receive->mutex);
            waits = waited = false;
        } else if (enough) {
            return take_items(receive, items);
        } else {
            until = waits ? until : far_clock_monotonic_in(GATHER_MS);
            waits = true;
            waited = pthread_cond_timedwait(&receive->work, &receive->mutex, &until) == ETIMEDOUT;
        }
    }
    return 0;
}

/* What came in pages, lately: it says whether pages pay. */
static void count_pages(struct far_receive *receive, const struct receive_item *item)
{
    enum { LATELY = 1024 };
    for (size_t i = 0; i < item->data.count; i++) {
        const struct far_transfer_stored *s = &item->data.stored[i];
        if ((item->group.paged >> s->slot & 1) != 0) {
            receive->paged_blocks++;
            receive->paged_pages += (uint64_t)__builtin_popcount(s->pages);
        }
    }
    if (receive->paged_blocks >= LATELY) {
        receive->paged_blocks /= 2;
        receive->paged_pages /= 2;
    }
}

/* The last frame of a group is stored: the source is told, on the connection on which it sent; if that is gone it offers the
 * group again by itself. The mutex is held. */
static void answer(struct far_receive *receive, struct receive_item *item)
{
    struct receive_lane *lane = &receive->lanes[item->lane];
    struct receive_group *group = &receive->groups[item->group.number % FAR_TRANSFER_SLOTS];
    bool up = lane->up && lane->life == item->lane_life;
    if (group->number != item->group.number) {
        return; /* it was offered anew meanwhile */
    }
    group->again |= item->again;
    if (--group->pending > 0 || group->wanted != 0) {
        return;
    }
    if (group->again == 0) {
        group->number = 0;
        receive->open_groups--;
        receive_settle(receive);
        if (up && lane->ack_count < FAR_TRANSFER_SLOTS) {
            lane->acks[lane->ack_count++] = item->group.number;
        }
    } else if (up && lane->want_count < RECEIVE_WANTS) {
        group->wanted = group->again;
        group->again = group->paged = 0;
        receive->awaited++;
        lane->wants[(lane->want_first + lane->want_count++) % RECEIVE_WANTS] =
            (struct far_transfer_want){.group = group->number, .mask = group->wanted};
    } else if (up) { /* no room to say it: the source offers all of it again on a new connection */
        far_bstream_shutdown(lane->stream);
    }
}

/* The buffer stays with the item, unless others wait for one and this transfer has more than it needs to go on. */
static void recycle(struct far_receive *receive, struct receive_item *item)
{
    item->in_work = false;
    receive->in_work--;
    if (item != &receive->items[0] &&
        (far_pool_waited_for(receive->engine->pool_in) || receive->in_work >= receive_items_max(receive))) {
        far_pool_give(receive->engine->pool_in, item->buffer);
        item->buffer = NULL;
    }
}

void *receive_worker_main(void *arg)
{
    struct receive_worker *worker = arg;
    struct far_receive *receive = worker->receive;
    pthread_mutex_lock(&receive->mutex);
    while (!receive->stop) {
        struct receive_item *items[ITEMS];
        size_t count = next_items(receive, items);
        if (count == 0) {
            break;
        }
        pthread_mutex_unlock(&receive->mutex);
        struct far_error error;
        int rc = do_items(worker, items, count, &error);
        pthread_mutex_lock(&receive->mutex);
        for (size_t i = 0; i < count; i++) {
            receive->stored_bytes += (uint64_t)items[i]->data.count * FAR_BLOCK_BYTES;
            if (rc == 0) {
                count_pages(receive, items[i]);
                answer(receive, items[i]);
            }
            recycle(receive, items[i]);
        }
        if (rc != 0) {
            receive_stop(receive, rc, &error, true);
        }
        receive_adapt(receive, false);
        pthread_cond_broadcast(&receive->out);
        pthread_cond_broadcast(&receive->room);
    }
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}
