/* What the files of a receive share.
 *
 * Threads of one session: the attempt's own reads frames, answers offers from replica and vault, and puts data on a
 * queue; workers check and store it (receive_worker.c); a writer sends answers and credit (receive_writer.c); a
 * checkpointer makes what is there durable now and then. They meet under far_receive.mutex, once a frame. */
#ifndef FAR_DATAPLANE_RECEIVE_LOCAL_H
#define FAR_DATAPLANE_RECEIVE_LOCAL_H

#include "dataplane/engine_local.h"

enum {
    RECEIVE_GROUPS = 256, /* offered and not settled */
    RECEIVE_MARKS = 64,   /* marks whose data is still being stored */
    RECEIVE_ITEMS = FAR_ENGINE_WINDOW,
    RECEIVE_TOGETHER = 4, /* frames hashed together: that fills the lanes of leaf_lanes.h better */
};

struct receive_group {
    bool used;
    uint16_t wanted;
    uint16_t count;
    uint64_t blocks[FAR_TRANSFER_GROUP];
    struct far_hash256 ids[FAR_TRANSFER_GROUP];
};

/* One DATA frame on its way into the vault. */
struct receive_item {
    struct receive_item *next;
    uint8_t *buffer; /* the bulk, from the pool */
    uint64_t number; /* of the frame in this session, from 1 */
    bool in_work;    /* queued or with a worker */
    struct receive_group group;
    struct far_transfer_data data;
};

struct receive_mark {
    uint64_t block;
    uint64_t number; /* of the last DATA frame before it */
};

struct receive_worker {
    struct far_receive *receive;
    pthread_t thread;
    bool runs;
    uint8_t *plain; /* from the pool: decompressed blocks */
    void *zstd;     /* ZSTD_DCtx */
};

struct far_receive {
    struct far_attempt *attempt;
    struct far_engine *engine;
    struct far_vault *vault;
    struct far_replica *replica;
    uint64_t size_bytes, blocks;
    bool touched;            /* the replica may differ from the base beyond what its frontier says */
    uint64_t frontier_block; /* durable, of the view freeze_ref */
    char freeze_ref[FAR_TRANSFER_REF_MAX + 1];
    uint64_t received_before; /* bytes of earlier sessions */

    /* one session */
    struct far_bstream *stream;
    pthread_mutex_t mutex;
    pthread_cond_t work, out, settled;
    bool stop;
    int rc;
    bool own; /* the error is of this side: another session cannot help */
    struct far_error error;
    struct receive_group groups[RECEIVE_GROUPS];
    struct receive_item items[RECEIVE_ITEMS];
    size_t buffers; /* items with a buffer: what was granted, or is in work */
    struct receive_item *first, *last; /* to be stored */
    size_t queued;                     /* of them */
    size_t awaited;                    /* groups whose data was asked for and has not come */
    size_t in_work;
    uint64_t numbered; /* DATA frames so far */
    struct receive_mark marks[RECEIVE_MARKS];
    size_t mark_count;
    uint64_t settled_block; /* everything below it is in the replica, perhaps not durable yet */
    uint64_t stored_bytes;  /* since the last checkpoint */
    struct far_transfer_want wants[RECEIVE_GROUPS];
    size_t want_count;
    struct far_transfer_credit credit, credit_told;
    uint64_t durable_told;
    bool fin, complete;
    struct receive_worker workers[FAR_ENGINE_WORKERS_MAX];
};

/* The mutex is held: */
void receive_stop(struct far_receive *receive, int rc, const struct far_error *error, bool own);
void receive_settle(struct far_receive *receive); /* moves settled_block over the marks whose data is stored */
void receive_grant(struct far_receive *receive); /* more credit, as far as buffers can be had */

void receive_say_error(struct far_bstream *stream, const struct far_error *error); /* mutex not held */
void *receive_worker_main(void *arg);
void *receive_writer_main(void *arg);
void *receive_checkpoint_main(void *arg);

/* receive_frames.c: one frame of the source; own as above */
int receive_take_frame(struct far_receive *receive, const struct far_frame *frame, bool *ret_own, struct far_error *err);

#endif
