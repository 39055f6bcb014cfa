/* Replay: build a store anew from the events of another, event by event, with the chain checked. Offline, any thread. */
#ifndef FAR_LOG_REPLAY_H
#define FAR_LOG_REPLAY_H

#include "base/moment.h"
#include "log/store.h"

struct far_replay {
    uint64_t from_seq; /* the state before was taken over; 0: everything was folded */
    uint64_t seq;      /* the last event */
    uint64_t folded;
    uint64_t checked;  /* epochs whose recorded digest and head were met on the way */
    uint8_t head[FAR_HEAD_SIZE];
    struct far_hash128 digest; /* recomputed from the bytes */
};

/* From the folder dir of a server that does not run, up to the moment, into the new folder out (out/state, LMDB). Folds from
 * the first event, or where that is no longer kept from the oldest state that the history can show. FAR_CONFLICT: a server
 * runs, or out exists; FAR_CORRUPT: chain, events and recorded states do not agree. */
int far_log_replay(const char *dir, const struct far_moment *to, const char *out, struct far_replay *ret_replay,
                   struct far_error *err);
/* Events from there to far_log_view_export's file; FAR_CONFLICT: a server runs, or file exists. */
int far_log_export(const char *dir, const struct far_moment *to, const char *file, uint64_t *ret_seq, struct far_error *err);

#endif
