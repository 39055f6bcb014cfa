/* A worker of a receive: takes one DATA frame at a time, checks and decompresses what is compressed, checks
 * SHA-256 against the offered id, puts the block into the vault as it came and sets the leaf in the replica. A block
 * that is not what was offered ends the attempt: the source or the link is broken, and nothing of it is kept. */
#include "dataplane/receive_local.h"

#include "base/clock.h"
#include "base/hash.h"
#include "dataplane/leaf_lanes.h"

#include <errno.h>
#include <zstd.h>

enum { ITEMS = RECEIVE_TOGETHER, GATHER_MS = 2 };

/* Stored blocks as whole ones: raw where they lie, others decompressed. */
static int unpack(struct receive_worker *worker, const struct receive_item *item, const uint8_t **ret_stored,
                  const uint8_t **ret_plain, struct far_error *err)
{
    const uint8_t *at = item->buffer;
    for (size_t i = 0; i < item->data.count; i++) {
        const struct far_transfer_stored *stored = &item->data.stored[i];
        ret_stored[i] = ret_plain[i] = at;
        bool compressed = stored->codec == FAR_TRANSFER_ZSTD;
        if (compressed && far_hash64(at, stored->length) != stored->hash) {
            return far_fail(err, FAR_CORRUPT, "block %llu was damaged on its way from the source node",
                            (unsigned long long)item->group.blocks[stored->slot]);
        }
        if (compressed) {
            uint8_t *plain = worker->plain + i * FAR_BLOCK_BYTES;
            size_t length = ZSTD_decompressDCtx(worker->zstd, plain, FAR_BLOCK_BYTES, at, stored->length);
            if (ZSTD_isError(length) || length != FAR_BLOCK_BYTES) {
                return far_fail(err, FAR_CORRUPT, "block %llu from the source node cannot be decompressed",
                                (unsigned long long)item->group.blocks[stored->slot]);
            }
            ret_plain[i] = plain;
        }
        at += stored->length;
    }
    return 0;
}

/* The blocks of one frame into the vault and the replica, if each is the one that was offered. */
static int store(struct far_receive *receive, const struct receive_item *item, const uint8_t *const *stored,
                 const struct far_hash256 *leaves, struct far_error *err)
{
    struct far_vault_block blocks[FAR_TRANSFER_GROUP];
    uint64_t indices[FAR_TRANSFER_GROUP] = {0};
    size_t count = item->data.count;
    for (size_t i = 0; i < count; i++) {
        const struct far_transfer_stored *s = &item->data.stored[i];
        indices[i] = item->group.blocks[s->slot];
        if (!far_hash256_equal(&leaves[i], &item->group.ids[s->slot])) {
            return far_fail(err, FAR_CORRUPT, "block %llu from the source node is not the one it offered: its SHA-256 "
                            "differs", (unsigned long long)indices[i]);
        }
        enum far_codec codec = s->codec == FAR_TRANSFER_ZSTD ? FAR_CODEC_ZSTD : FAR_CODEC_RAW;
        blocks[i] = (struct far_vault_block){.id = leaves[i], .codec = codec, .data = stored[i], .len = s->length};
    }
    int rc = far_vault_put_many(receive->vault, blocks, count, err);
    rc = rc == 0 ? far_replica_set_many(receive->replica, indices, leaves, count, err) : rc;
    return rc == 0 ? 0 : far_error_context(err, "store blocks from %llu on", (unsigned long long)indices[0]);
}

/* One frame, or several whose blocks are hashed together: that fills the lanes of leaf_lanes.h better. */
static int do_items(struct receive_worker *worker, struct receive_item *const items[], size_t count,
                    struct far_error *err)
{
    const uint8_t *stored[ITEMS * FAR_TRANSFER_GROUP], *plain[ITEMS * FAR_TRANSFER_GROUP];
    struct far_hash256 leaves[ITEMS * FAR_TRANSFER_GROUP];
    size_t blocks = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = unpack(worker, items[i], stored + blocks, plain + blocks, err);
        blocks += items[i]->data.count;
    }
    if (rc != 0) {
        return rc;
    }
    far_block_leaves(plain, blocks, leaves);
    blocks = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = store(worker->receive, items[i], stored + blocks, leaves + blocks, err);
        blocks += items[i]->data.count;
    }
    return rc;
}

static bool all_raw(const struct receive_item *item)
{
    for (size_t i = 0; i < item->data.count; i++) {
        if (item->data.stored[i].codec != FAR_TRANSFER_RAW) {
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

/* The buffer is credit again, unless others wait for one and this transfer has more than it needs to go on. */
static void recycle(struct far_receive *receive, struct receive_item *item)
{
    item->in_work = false;
    receive->in_work--;
    if (receive->buffers > 2 && far_pool_waited_for(receive->engine->pool_in)) {
        far_pool_give(receive->engine->pool_in, item->buffer);
        item->buffer = NULL;
        receive->buffers--;
    } else {
        receive->credit.datas++;
    }
    receive_grant(receive);
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
            recycle(receive, items[i]);
        }
        if (rc != 0) {
            receive_stop(receive, rc, &error, true);
        } else {
            receive_settle(receive);
        }
        pthread_cond_signal(&receive->out);
    }
    pthread_mutex_unlock(&receive->mutex);
    return NULL;
}
