/* What the files of a receive share.
 *
 * Threads of one session: each connection (a lane) has one that reads frames, answers offers from replica and vault, and
 * queues data, and one that writes answers (receive_lane.c, receive_writer.c); workers check and store (receive_worker.c);
 * a checkpointer makes what is there durable now and then. The attempt's own begins and ends sessions. They meet under
 * far_receive.mutex, once a frame. */
#ifndef FAR_DATAPLANE_RECEIVE_LOCAL_H
#define FAR_DATAPLANE_RECEIVE_LOCAL_H

#include "dataplane/engine_local.h"

enum {
    RECEIVE_ITEMS = FAR_ENGINE_WINDOW,
    RECEIVE_ITEMS_MIN = 2,
    RECEIVE_TOGETHER = 4, /* frames hashed together: that fills the lanes of leaf_lanes.h better */
    RECEIVE_WANTS = 64,   /* answers of a connection that wait to be written */
    RECEIVE_PAGES = 64,   /* pages of the base that the source asked for on a connection */
    RECEIVE_POLL_MS = 5,
    RECEIVE_DIALS = 4,    /* connections, where this side dials */
};

/* A group that was offered and is not settled. */
struct receive_group {
    uint64_t number; /* 0: none */
    uint16_t wanted; /* and not come yet */
    uint16_t again;  /* came in pages that did not make the block: to be wanted once more, whole */
    uint16_t paged;  /* of wanted: pages may come */
    uint16_t count;
    uint16_t pending; /* frames that came and are not stored yet */
    uint64_t blocks[FAR_TRANSFER_GROUP];
    struct far_hash256 ids[FAR_TRANSFER_GROUP];
    struct far_hash256 before[FAR_TRANSFER_GROUP]; /* what the pages are put on */
};

/* One DATA frame on its way into the vault. */
struct receive_item {
    struct receive_item *next;
    uint8_t *buffer; /* the bulk, from the pool; kept between frames while nobody else wants it */
    bool in_work;    /* being read, queued or with a worker */
    unsigned lane;
    uint64_t lane_life; /* of that connection: an answer to one that is gone is not given to the next */
    uint16_t again;     /* slots whose pages did not make the block: they are wanted once more, whole */
    struct receive_group group;
    struct far_transfer_data data;
};

struct receive_worker {
    struct far_receive *receive;
    pthread_t thread;
    bool runs;
    uint8_t *plain; /* from the pool: decompressed blocks, and blocks made of pages */
    uint8_t *scratch; /* of one block */
    void *zstd;     /* ZSTD_DCtx */
};

struct receive_lane {
    struct far_receive *receive;
    unsigned index;
    pthread_t reader, writer;
    bool runs; /* its threads are there, to be joined */
    bool up;
    bool over; /* its reader has left */
    bool told; /* FIN_ACK is on its way: on every connection, so that the source redials none */
    uint64_t life;
    struct far_bstream *stream;
    struct far_transfer_want wants[RECEIVE_WANTS]; /* ring */
    size_t want_first, want_count;
    uint64_t acks[FAR_TRANSFER_SLOTS];
    size_t ack_count;
    struct {
        unsigned level;
        uint64_t index;
    } pages[RECEIVE_PAGES];
    size_t page_count;
    struct far_transfer_credit credit_told;
    uint64_t durable_told;
};

struct far_receive {
    struct far_attempt *attempt;
    struct far_engine *engine;
    struct far_vault *vault;
    const struct far_domain *domain; /* of the order */
    struct far_replica *replica;
    struct far_point *base; /* the base point, for pages of its tree; NULL: none, or the vault lacks it */
    uint64_t size_bytes, blocks;
    uint64_t frontier_block; /* durable, of the view freeze_ref */
    char freeze_ref[FAR_TRANSFER_REF_MAX + 1];

    /* one session */
    uint8_t session[16];
    bool active; /* its threads are there */
    pthread_t checkpointer;
    bool checkpointer_runs;
    pthread_mutex_t mutex;
    pthread_cond_t work, out, settled, room, ended;
    bool stop;
    int rc;
    bool own; /* the error is of this side: another session cannot help */
    struct far_error error;
    struct receive_group groups[FAR_TRANSFER_SLOTS];
    uint64_t newest[FAR_TRANSFER_SLOTS]; /* number that was offered last in each slot */
    struct receive_item items[RECEIVE_ITEMS];
    struct receive_item *first, *last; /* to be stored */
    size_t queued;                     /* of them */
    size_t awaited;                    /* groups whose data was asked for and has not come */
    size_t open_groups;                /* in groups: wanted and not stored yet */
    size_t in_work;
    uint64_t window_bytes, adapted_ms;
    bool busy;
    uint64_t paged_blocks, paged_pages; /* lately: of blocks in pages, how many pages came */
    uint64_t offers;                    /* so far */
    uint64_t last_page;                 /* of the map, in the last of them */
    uint64_t settled_block; /* everything below it is in the replica, perhaps not durable yet */
    uint64_t stored_bytes;  /* since the last checkpoint */
    bool fin, complete;
    struct receive_worker workers[FAR_ENGINE_WORKERS_MAX];
    struct receive_lane lanes[FAR_TRANSFER_LANES_MAX];
    struct receive_dialer {
        struct far_receive *receive;
        pthread_t thread;
        bool runs;
        struct far_bstream *stream; /* being greeted; shut down by receive_dial_stop */
    } dialers[RECEIVE_DIALS];
    size_t dials_wanted; /* by the first connection's round trip */
    bool closing;
};

/* The mutex is held: */
void receive_stop(struct far_receive *receive, int rc, const struct far_error *error, bool own);
/* After FIN, when nothing is open: all blocks are settled. */
void receive_settle(struct far_receive *receive);
/* Window and busyness, as things go; a connection lost makes the window smaller. */
void receive_adapt(struct far_receive *receive, bool lane_lost);
size_t receive_items_max(const struct far_receive *receive);

void receive_say_error(struct far_bstream *stream, const struct far_error *error); /* mutex not held */
void *receive_worker_main(void *arg);
void *receive_checkpoint_main(void *arg);
/* receive_lane.c: a connection of the session begins. Takes the stream, also when it fails. The mutex is not held. */
int receive_lane_start(struct far_receive *receive, struct far_bstream *stream, struct far_error *err);
void receive_lanes_join(struct far_receive *receive);
size_t receive_lanes_up(const struct far_receive *receive); /* the mutex is held */
void *receive_lane_writer_main(void *arg); /* receive_writer.c */

/* receive_frames.c: one frame of the source; own as above */
int receive_take_frame(struct receive_lane *lane, const struct far_frame *frame, bool *ret_own, struct far_error *err);

/* receive_dial.c: where this side opens the connections */
int receive_dial_start(struct far_receive *receive, struct far_error *err);
void receive_dial_stop(struct far_receive *receive);

#endif
