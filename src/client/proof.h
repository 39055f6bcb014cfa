/* The proof that a client makes for itself of a stream of events: see far_client_proof in farshore/client.h.
 *
 * docs/FORMATS.md says how events are chained. Each event is added, whether it was given or left out; the head that comes out
 * must be the one that the server tells. Nothing here does I/O; errors are FAR_CORRUPT and say what is wrong with which event. */
#ifndef FAR_CLIENT_PROOF_H
#define FAR_CLIENT_PROOF_H

#include "base/buf.h"
#include "farshore/client.h"

#include <jansson.h>

enum { PROOF_KINDS_MAX = 1024, PROOF_HEADS = 16384 /* the servers sign none that is older */ };

/* The newest heads of a chain, to be held against a signed one. */
struct proof_heads {
    uint64_t first; /* seq behind which the chain begins; UINT64_MAX: it has not begun */
    uint8_t behind[PROOF_HEADS][32]; /* behind event seq, at seq modulo PROOF_HEADS */
};

struct proof {
    enum far_client_proof level;
    /* The filter, as far as it can be checked. */
    bool has_kinds;
    bool kinds[PROOF_KINDS_MAX];
    unsigned severities; /* KIND_… bits that pass */
    bool by_object;      /* what was left out may have been left out for that */
    bool has_head;       /* where the chain stands is known */
    struct far_client_proven proven;
    struct proof_heads *heads; /* borrowed; NULL: they are not kept. Set before proof_init */
};

/* FAR_INVALID: a filter that cannot be understood here. What else is in *proof is overwritten. */
int proof_init(struct proof *proof, const struct far_client_stream *stream, struct far_error *err);
/* The frames of a stream. */
int proof_start(struct proof *proof, const json_t *frame, struct far_error *err);
int proof_skipped(struct proof *proof, const json_t *frame, struct far_error *err);
int proof_event(struct proof *proof, const json_t *event, struct far_error *err);
/* A cursor that was told must be where the chain stands. */
int proof_cursor(const struct proof *proof, const char *cursor, struct far_error *err);

#endif
