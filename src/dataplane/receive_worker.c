/* A worker of a receive: takes one DATA frame at a time, checks and decompresses what is compressed, checks
 * SHA-256 against the offered id, puts the block into the vault as it came and sets the leaf in the replica. A block
 * that is not what was offered ends the attempt: the source or the link is broken, and nothing of it is kept. */
#include "dataplane/receive_local.h"

#include "base/hash.h"
#include "dataplane/leaf_lanes.h"

#include <zstd.h>

enum { ITEMS = 4 };

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

static int store(struct far_receive *receive, const struct receive_item *item, const uint8_t *const *stored,
                 const struct far_hash256 *leaves, struct far_error *err)
{
    for (size_t i = 0; i < item->data.count; i++) {
        const struct far_transfer_stored *s = &item->data.stored[i];
        const struct far_hash256 *id = &item->group.ids[s->slot];
        uint64_t block = item->group.blocks[s->slot];
        if (!far_hash256_equal(&leaves[i], id)) {
            return far_fail(err, FAR_CORRUPT, "block %llu from the source node is not the one it offered: its SHA-256 "
                            "differs", (unsigned long long)block);
        }
        enum far_codec codec = s->codec == FAR_TRANSFER_ZSTD ? FAR_CODEC_ZSTD : FAR_CODEC_RAW;
        int rc = far_vault_put(receive->vault, id, codec, stored[i], s->length, err);
        rc = rc == 0 ? far_replica_set(receive->replica, block, id, err) : rc;
        if (rc != 0) {
            return far_error_context(err, "store block %llu", (unsigned long long)block);
        }
    }
    return 0;
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
    receive->last = receive->first != NULL ? receive->last : NULL;
    return count;
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
        size_t count = take_items(receive, items);
        if (count == 0) {
            pthread_cond_wait(&receive->work, &receive->mutex);
            continue;
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
