/* The incarnation of a cluster: which of its lives a server or node belongs to.
 *
 * A forced recovery, or a restore from a backup, makes a new one: a greater epoch, a random uuid, and where it left the old
 * one (the parent). The file `incarnation` of a server's or node's folder holds it, outside the log, written before the first
 * byte of the new life; a folder without it is of the first incarnation (or of the one that its `config` names). Every
 * greeting carries epoch and tag. Any thread; the file is replaced as a whole. */
#ifndef FAR_NET_INCARNATION_H
#define FAR_NET_INCARNATION_H

#include "net/net.h"

enum { FAR_INCARNATION_BYTES = 184 };

enum far_incarnation_cause {
    FAR_INCARNATION_QUORUM_LOST = 1, /* cluster recover-quorum */
    FAR_INCARNATION_RESTORED = 2,    /* from a backup */
    FAR_INCARNATION_FOLLOWED = 3,    /* told by a server that it joined, or follows: the parent is not known here */
};

struct far_incarnation {
    enum far_incarnation_cause reason;
    uint8_t cluster_uuid[16];
    uint8_t uuid[16];
    uint64_t epoch;
    uint64_t start_term; /* no server of the old incarnation came so far */
    uint64_t server_id;  /* which server went on */
    uint64_t made_ms;    /* wall clock */
    uint64_t parent_index; /* of the last entry that it kept */
    uint64_t parent_term;
    uint64_t parent_seq;   /* of the last event that it kept, with the chain head behind it */
    uint8_t parent_head[32];
    uint64_t sure_seq;     /* of the last event that was known to be committed */
    uint8_t sure_head[32];
};

/* The tag is the first 8 bytes of the uuid. */
struct far_incarnation_id far_incarnation_id(const struct far_incarnation *incarnation);

void far_incarnation_encode(const struct far_incarnation *incarnation, uint8_t bytes[FAR_INCARNATION_BYTES]);
/* FAR_CORRUPT: not what was written; FAR_INVALID: of a newer version. */
int far_incarnation_decode(struct far_slice bytes, struct far_incarnation *ret_incarnation, struct far_error *err);

/* The file `incarnation` of dir. FAR_NOT_FOUND: there is none; FAR_CORRUPT, also if it is of another cluster. */
int far_incarnation_load(const char *dir, const uint8_t cluster_uuid[16], struct far_incarnation *ret_incarnation,
                         struct far_error *err);
/* Durable on return. */
int far_incarnation_save(const char *dir, const struct far_incarnation *incarnation, struct far_error *err);

#endif
