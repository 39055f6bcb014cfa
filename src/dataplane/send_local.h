/* What the files of a send share: its groups, its workers, its queues.
 *
 * Threads of one session: the attempt's own reads frames; one writes them (send_writer.c); the workers read the frozen
 * view, hash, and pack wanted blocks (send_worker.c). They meet under far_send.mutex, once a chunk or a group. */
#ifndef FAR_DATAPLANE_SEND_LOCAL_H
#define FAR_DATAPLANE_SEND_LOCAL_H

#include "dataplane/engine_local.h"

enum {
    SEND_CHUNKS = 4, /* hashed together: their blocks fill the lanes of leaf_lanes.h better */
    SEND_GROUPS = 96,       /* offered or about to be, at most */
    SEND_BUFFERS_MAX = 48,  /* the window, and offers that run ahead of it */
    SEND_BUFFERS_NEAR = 12, /* the same on a path of less than SEND_NEAR_US: what is sent soon is still in the cache */
    SEND_NEAR_US = 2000,
    SEND_BUFFERS_MIN = 4,
    SEND_DIRECT_MIN = 8,    /* so many candidates in one chunk: it is its own group, nothing is copied */
    SEND_OPEN_CHUNKS = 64,  /* a gathering group waits for so many chunks before it is offered as it is */
    SEND_MARK_BLOCKS = 512, /* between two marks */
    SEND_RATE_BYTES = 8 * 1024 * 1024,        /* written between two measurements of the wire */
    SEND_COMPRESS_BELOW = 200 * 1000 * 1000, /* bytes a second of the wire: slower, compression pays */
};

enum send_group_state {
    SEND_FREE,
    SEND_OPEN,     /* a worker fills it */
    SEND_OFFERING, /* in to_offer */
    SEND_OFFERED,  /* the target's answer is awaited */
    SEND_PACKING,  /* in to_pack, or a worker compresses it */
    SEND_SENDING,  /* in to_send, or the writer writes it */
};

struct send_group {
    enum send_group_state state;
    struct send_group *next; /* in a queue */
    uint8_t *buffer;         /* 16 blocks from the pool; NULL: only zero runs */
    uint8_t place[FAR_TRANSFER_GROUP]; /* of each slot in the buffer */
    uint16_t places_used;              /* bit set */
    uint16_t wanted;
    uint64_t low_block; /* nothing below it is in this group */
    uint64_t open_chunk;
    struct far_transfer_offer offer;
    struct far_transfer_data data;
};

struct send_queue {
    struct send_group *first, *last;
    size_t count;
};

struct send_worker {
    struct far_send *send;
    pthread_t thread;
    bool runs;
    uint8_t *buffers[SEND_CHUNKS];           /* to read into */
    struct send_group *spares[SEND_CHUNKS]; /* reserved for the chunks in work */
    struct send_group *open;  /* gathers sparse candidates */
    uint64_t low_block;       /* nothing below it is in this worker's hands; under the mutex */
    struct far_adapter_extent extent; /* of the frozen view, where it was asked for last */
    uint8_t *scratch;         /* for compression */
    void *zstd;               /* ZSTD_CCtx */
};

struct far_send {
    struct far_attempt *attempt;
    struct far_engine *engine;
    struct far_platform *platform;
    void *handle;
    uint64_t size_bytes, blocks, chunks;
    struct far_map *base;    /* what the target is known to have; NULL: unknown */
    struct far_map *map;     /* leaves of the frozen view */
    struct far_map *durable; /* the part of map below durable_block, to be saved */
    uint64_t known_block;    /* map is right below this block */
    uint64_t durable_block;
    enum far_adapter_outcome outcome;

    /* one session */
    struct far_bstream *stream;
    bool skip_equal; /* blocks that equal the base need not be offered */
    bool local;      /* the target has everything: only the root is to be computed */
    pthread_mutex_t mutex;
    pthread_cond_t work, out;
    bool stop;
    int rc; /* why it stopped */
    bool own; /* the error is of this side: dialing again cannot help */
    struct far_error error;
    uint64_t next_chunk;
    size_t busy; /* workers with a chunk in hand */
    size_t buffers, buffers_max, groups_used;
    struct far_transfer_credit credit, spent;
    struct send_queue to_offer, to_pack, to_send;
    uint64_t marked_block;
    uint64_t wire_bytes, wire_ns; /* of the window being measured */
    uint64_t wire_rate;           /* bytes a second that the stream took lately; 0 = not known yet */
    bool fin_sent, acked;
    struct send_group groups[SEND_GROUPS];
    struct send_worker workers[FAR_ENGINE_WORKERS_MAX];
};

/* The mutex is held: */
void send_queue_push(struct send_queue *queue, struct send_group *group);
struct send_group *send_queue_pop(struct send_queue *queue);
void send_group_free(struct far_send *send, struct send_group *group);
/* The first error stops the session. own: as above. */
void send_stop(struct far_send *send, int rc, const struct far_error *error, bool own);
/* What is wanted of a group, as it lies. */
void send_describe_raw(struct send_group *group);
bool send_all_hashed(const struct far_send *send);
/* Everything below it is hashed, and what was wanted of it written to the stream. */
uint64_t send_low_block(const struct far_send *send);
/* Raises the attempt's bytes_done to what is behind it: hashed and, where wanted, on its way. The mutex is held. */
void send_note_progress(struct far_send *send);

/* Reads length bytes of the view; what its adapter knows to be zeroes is not read. ret_hole: all of it is, and the buffer was
 * not touched. send_read.c */
int send_read(struct send_worker *worker, uint8_t *buffer, uint64_t offset, size_t length, bool *ret_hole,
              struct far_error *err);

void *send_worker_main(void *arg);
void *send_writer_main(void *arg);

/* send_cache.c: maps that outlive the process, as files in the cache folder; all best effort */
void send_cache_load_base(struct far_send *send);
void send_cache_load_work(struct far_send *send);
void send_cache_save_work(struct far_send *send, uint64_t durable_block);
void send_cache_finish(struct far_send *send);

#endif
