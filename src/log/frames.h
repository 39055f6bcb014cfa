/* Frames between the logs of two servers, beside raft's own messages on the same streams: proposals passed to the leader
 * and their answers, marks to compare, the pieces of a snapshot, event history. Pure codecs, any thread. */
#ifndef FAR_LOG_FRAMES_H
#define FAR_LOG_FRAMES_H

#include "log/about.h"
#include "log/agreement.h"
#include "log/envelope.h"

/* Types of frames; those below 64 are of log/peers.h. */
enum far_frame_type {
    FAR_FRAME_FORWARD = 64,      /* request u64, timeout in ms u32, kind u32 (0 command, 1 barrier), the command */
    FAR_FRAME_ANSWER = 65,       /* request u64, applied index u64, the result */
    FAR_FRAME_MARK = 66,         /* wall clock in ms u64, count u64, so many marks of 64 bytes */
    FAR_FRAME_STATE_WANT = 67,   /* send the state, at least as of this index u64 */
    FAR_FRAME_STATE = 68,        /* what comes: the manifest (snapshot.h); then pieces */
    FAR_FRAME_PIECE = 69,        /* a piece (snapshot.h) */
    FAR_FRAME_PIECE_TAKEN = 70,  /* that many pieces are in the store u64: more may come */
    FAR_FRAME_HISTORY_WANT = 71, /* the newest seq wanted u64 */
    FAR_FRAME_HISTORY = 72,      /* a batch of far_history_encode(); empty: there is nothing older */
    FAR_FRAME_ABOUT = 73,        /* what a server says of itself, once a second */
    FAR_FRAME_PAST_WANT = 74,    /* states of the past: before which epoch u64, the key where to go on */
    FAR_FRAME_PAST = 75,         /* a batch of far_past_copy_encode() */
};

enum { FAR_FRAME_MARKS_MAX = 4, FAR_FRAME_HISTORY_MAX = 512 * 1024, FAR_FRAME_PIECES_AHEAD = 6 };

struct far_forward {
    uint64_t request;
    uint64_t timeout_ms;
    bool is_barrier;
    struct far_command command; /* payload borrowed */
};
int far_forward_encode(const struct far_forward *forward, struct far_buf *out);
int far_forward_decode(struct far_slice frame, struct far_forward *ret_forward, struct far_error *err);

struct far_answer {
    uint64_t request;
    uint64_t applied_index;
    struct far_result result;
};
int far_answer_encode(const struct far_answer *answer, struct far_buf *out);
int far_answer_decode(struct far_slice frame, struct far_answer *ret_answer, struct far_error *err);

struct far_marks {
    uint64_t wall_ms; /* the sender's clock when it sent this */
    size_t count;
    struct far_mark marks[FAR_FRAME_MARKS_MAX];
};
int far_marks_encode(const struct far_marks *marks, struct far_buf *out);
int far_marks_decode(struct far_slice frame, struct far_marks *ret_marks, struct far_error *err);

#endif
