/* What the files of a send share: its groups, its workers, its connections, its queues.
 *
 * Threads of one session: workers read the frozen view, hash, and pack wanted blocks (send_worker.c, send_pack.c); each
 * connection (a lane) has one that reads frames and one that writes them (send_lane.c, send_writer.c); the attempt's own
 * waits for the end. They meet under far_send.mutex, once a chunk or a group. */
#ifndef FAR_DATAPLANE_SEND_LOCAL_H
#define FAR_DATAPLANE_SEND_LOCAL_H

#include "dataplane/engine_local.h"
#include "dataplane/id_key.h"
#include "dataplane/send_missed.h"
#include "dataplane/send_plan.h"
#include "dataplane/source_map.h"

enum {
    SEND_CHUNKS = 4,  /* hashed together: their blocks fill the lanes of leaf_lanes.h better */
    SEND_GROUPS = 512, /* at work, offered or about to be, at most; at most FAR_TRANSFER_SLOTS */
    SEND_BUFFERS_MAX = 64,  /* the window, and offers that run ahead of it */
    SEND_BUFFERS_NEAR = 12, /* the same on a path of less than SEND_NEAR_US: what is sent soon is still in the cache */
    SEND_NEAR_US = 2000, /* as the kernel sees it */
    SEND_NEAR_ANSWER_US = 10000, /* of a hello */
    SEND_AHEAD_US = 20000, /* dialing took as long: the answer to the hello is not waited for, send_lane_connect() */
    SEND_AHEAD_GROUPS = 64, /* offered before the target said how many may be open */
    SEND_LANES_FAR = 4,     /* connections on a path that is not near: one that is lost costs a quarter of the speed */
    SEND_FAR_BLOCKS = 4,    /* of a frame of data there */
    SEND_BUFFERS_MIN = 4,
    SEND_DIRECT_MIN = 8,    /* so many candidates in one chunk: it is its own group, nothing is copied */
    SEND_OPEN_CHUNKS = 64,  /* a gathering group waits for so many chunks before it is offered as it is, */
    SEND_OPEN_MS = 500,     /* or so long: until it is acknowledged, the frontier stands before it */
    SEND_MARK_BLOCKS = 512, /* between two marks, or SEND_MARK_MS */
    SEND_MARK_MS = 500,
    SEND_RATE_BYTES = 8 * 1024 * 1024,        /* written between two measurements of the wire */
    SEND_COMPRESS_BELOW = 200 * 1000 * 1000, /* bytes a second of the wire: slower, compression pays */
};

enum send_group_state {
    SEND_FREE,
    SEND_OPEN,     /* a worker fills it */
    SEND_OFFERING, /* in to_offer */
    SEND_OFFERED,  /* the target's answer is awaited */
    SEND_READING,  /* in to_read, or a worker reads wanted blocks once more: its buffer was needed elsewhere */
    SEND_PACKING,  /* in to_pack, or a worker compresses it */
    SEND_SENDING,  /* in to_send, or a writer writes it */
    SEND_SENT,     /* the target's acknowledgement is awaited */
};

struct send_group {
    enum send_group_state state;
    struct send_group *next; /* in a queue */
    unsigned lane;           /* where it was offered or sent last */
    uint8_t *buffer;         /* 16 blocks from the pool; NULL: only zero runs, or to be read once more */
    uint8_t place[FAR_TRANSFER_GROUP]; /* of each slot in the buffer */
    uint16_t places_used;              /* bit set */
    uint16_t wanted;
    bool counted;       /* its answer is in the figures */
    bool compress;
    bool early_ack, early_want; /* the answer came while it was being written */
    uint64_t low_block; /* nothing below it is in this group */
    uint64_t open_chunk;
    uint64_t unacked_bytes;
    struct far_transfer_offer offer;
    struct far_transfer_want want;
    struct far_transfer_data data;
};

struct send_queue {
    struct send_group *first, *last;
    size_t count;
};

/* What a worker has in hand: at most 16 blocks, neighbours or not. */
struct send_chunk {
    size_t index; /* of its buffer and spare group in the worker */
    size_t count;
    uint64_t blocks[FAR_TRANSFER_GROUP]; /* ascending */
    uint16_t unlisted;   /* bit set: only the audit wants it */
    uint16_t candidates; /* to be offered */
    uint16_t zeroes;     /* now zero, to be told */
    uint16_t holes;      /* known to be zero, not read */
    struct far_hash256 leaves[FAR_TRANSFER_GROUP];
};

struct send_worker {
    struct far_send *send;
    pthread_t thread;
    bool runs;
    uint8_t *buffers[SEND_CHUNKS];          /* to read into */
    struct send_group *spares[SEND_CHUNKS]; /* reserved for the chunks in work */
    struct send_group *open;  /* gathers sparse candidates */
    uint64_t open_since_ms;
    uint64_t low_block;       /* nothing below it is in this worker's hands; under the mutex */
    uint64_t work_block;      /* the same, of what it reads and hashes now; under the mutex */
    struct far_adapter_extent extent; /* of the frozen view, where it was asked for last */
    bool zeroes_before;       /* the chunk before had nothing else */
    uint8_t *scratch;         /* for compression */
    void *zstd;               /* ZSTD_CCtx */
};

/* One connection of a session. */
struct send_lane {
    struct far_send *send;
    unsigned index;
    pthread_t reader, writer;
    bool reader_runs, writer_runs;
    struct far_bstream *stream; /* dialing, shaking hands, or up; shut down by send_stop */
    bool up;                    /* the writer may use it */
    bool writing;
    uint64_t written_ms; /* when something was written last */
    uint64_t dialed_us;   /* how long dialing took; 0: the target dialed */
    bool awaits_welcome;  /* the session began before it came; under the mutex once threads run */
    uint64_t answered_us; /* from hello to welcome: a relay on the way hides the round trip from the kernel */
    struct send_group *held; /* waits for the limits of bandwidth; its place in their queue is the ticket */
    struct far_throttle_ticket ticket;
    uint64_t waited_ns; /* for them, since the last data */
};

struct far_send {
    struct far_attempt *attempt;
    struct far_engine *engine;
    struct far_platform *platform;
    void *handle;
    bool keyed;             /* the plan has a keyed dedup domain: */
    struct far_id_key ids;  /* its ids, in offers; in the groups blocks are known by their leaves */
    uint64_t size_bytes, blocks;
    struct far_source_map *map;
    bool list_failed; /* the platform's list of changes cannot be used */
    char resync_reason[200];
    enum far_adapter_outcome outcome;
    struct send_missed missed;
    _Atomic uint64_t audited_blocks;

    /* one session */
    uint8_t session[16];
    bool guesses;    /* the answer to a hello may be guessed; behind a guess that failed not until one was awaited */
    bool welcomed;   /* the answer came; under the mutex */
    bool skip_equal; /* blocks that equal the base need not be offered */
    bool local;      /* the target has everything: only the root is to be computed */
    pthread_mutex_t plan_mutex; /* of plan; taken before mutex */
    struct send_plan plan;
    pthread_mutex_t mutex;
    pthread_cond_t work, out, ended;
    bool stop;
    int rc;   /* why it stopped */
    bool own; /* the error is of this side: dialing again cannot help */
    struct far_error error;
    uint64_t next_block; /* nothing before it is still in the plan */
    bool planned;        /* nothing is left in the plan */
    size_t busy;         /* workers with chunks in hand */
    uint64_t pages_come; /* of the map, from the target */
    size_t buffers, buffers_max, groups_used, groups_open;
    uint64_t group_count; /* numbers given so far */
    struct far_transfer_credit credit;
    uint64_t unacked_bytes;
    uint64_t offered_blocks, wanted_blocks; /* lately */
    struct send_queue to_offer, to_read, to_pack, to_send;
    uint64_t marked_block, marked_ms;
    uint64_t wire_bytes, wire_ns; /* of the window being measured */
    uint64_t wire_rate;           /* bytes a second that the connections took lately; 0 = not known yet */
    bool fin_sent, fin_known; /* to be said no more; the target may have heard it once */
    unsigned lanes_up, lane_count;
    /* since the last look at what holds it up, send_judge.c */
    _Atomic uint64_t read_blocked_ns, write_blocked_ns, throttled_ns;
    bool pool_was_empty;
    uint64_t judged_ns;
    uint64_t lonely_since_ms; /* no connection is up since then; 0: some is */
    struct send_group groups[SEND_GROUPS];
    struct send_worker workers[FAR_ENGINE_WORKERS_MAX];
    struct send_lane lanes[SEND_LANES_FAR];
};

/* The mutex is held: */
void send_queue_push(struct send_queue *queue, struct send_group *group);
/* Before those that lie behind it on the disk: what holds the frontier up goes first. */
void send_queue_insert(struct send_queue *queue, struct send_group *group);
struct send_group *send_queue_pop(struct send_queue *queue);
void send_group_free(struct far_send *send, struct send_group *group);
void send_group_drop_buffer(struct far_send *send, struct send_group *group);
/* It is to be offered, with a number that was never used. */
void send_group_offer(struct far_send *send, struct send_group *group);
/* What is wanted of it is to be read once more. */
void send_group_read(struct far_send *send, struct send_group *group);
/* The first error stops the session. own: as above. */
void send_stop(struct far_send *send, int rc, const struct far_error *error, bool own);
/* What is wanted of a group, as it lies. */
void send_describe_raw(struct send_group *group);
bool send_all_hashed(const struct far_send *send);
/* Everything below it is hashed, and settled at the target. */
uint64_t send_low_block(const struct far_send *send);
/* Raises the attempt's bytes_done to what is behind it. The mutex is held. */
void send_note_progress(struct far_send *send);

/* Reads length bytes of the view; what its adapter knows to be zeroes is not read. ret_hole: all of it is, and the buffer was
 * not touched. send_read.c */
int send_read(struct send_worker *worker, uint8_t *buffer, uint64_t offset, size_t length, bool *ret_hole,
              struct far_error *err);

void *send_worker_main(void *arg);
/* send_pack.c, a worker's; the mutex is not held: what is wanted of a group gets ready to be sent, pages and compression
 * included */
void send_pack(struct send_worker *worker, struct send_group *group);
/* Reads what is wanted of a group once more into its buffer. *ret_changed: the view is not what it was (it was never
 * frozen); the group has to be offered anew. */
int send_read_again(struct send_worker *worker, struct send_group *group, bool *ret_changed, struct far_error *err);

/* send_lane.c: one connection, dialed or waited for, after its hello; the stream is lane->stream then. On a far path a session
 * that begins from nothing does not wait for the welcome: it is guessed, and a guess that was wrong ends the session. */
int send_lane_connect(struct send_lane *lane, bool joins, struct far_transfer_welcome *ret_welcome, struct far_error *err);
void send_lane_close(struct send_lane *lane);
void *send_lane_reader_main(void *arg);
void *send_lane_writer_main(void *arg); /* send_writer.c */

/* send_judge.c: what holds the transfer up, now and then. The mutex is held. */
void send_judge(struct far_send *send);
/* Time that a thread spent in something and did not compute in; from begin() to the call of blocked_ns(). */
struct send_stopwatch {
    uint64_t wall_ns, processor_ns;
};
struct send_stopwatch send_stopwatch_begin(void);
uint64_t send_stopwatch_blocked_ns(const struct send_stopwatch *watch);

/* send_frames.c: one frame of the target */
int send_take_frame(struct send_lane *lane, const struct far_frame *frame, struct far_error *err);
/* What was under way on this lane is offered once more on another. The mutex is held. */
void send_lane_lost(struct send_lane *lane);

#endif
