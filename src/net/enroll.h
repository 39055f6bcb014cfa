/* Enrolment: how a new server or node gets its identity with a join token.
 *
 * Makes a key, asks a server of the token (POST /v1/join over HTTPS) to sign a request for it, and checks what comes
 * back. The server is believed because its chain ends in the CA whose hash the token carries; its certificate file must
 * therefore hold the chain: its own certificate, then the CA's. Blocking; any thread. */
#ifndef FAR_NET_ENROLL_H
#define FAR_NET_ENROLL_H

#include "net/net.h"

enum { FAR_ENROLL_SERVERS_MAX = 16, FAR_ENROLL_INCARNATIONS_MAX = 16 };

struct far_enroll_request {
    const char *token; /* text of the join token */
    enum far_party party;
    const char *name;
    const char *api_address;   /* servers, else NULL */
    const char *peer_address;  /* servers, else NULL */
    const char *data_address;  /* nodes that listen, else NULL */
    const uint8_t *seal_key;   /* servers: 32 bytes, X25519 public key; else NULL */
    uint64_t feature_level;    /* servers: the newest one that the program knows; 0: nothing is said */
};

struct far_enroll_server {
    uint64_t id;
    char address[256]; /* host:port of its port 5001 */
};

/* A life of the cluster after the first one, and where it left the one before (see incarnation.h). */
struct far_enroll_incarnation {
    uint64_t epoch;
    uint8_t uuid[16];
    uint64_t parent_seq;
    uint8_t parent_head[32];
    uint64_t sure_seq;
    uint8_t sure_head[32];
};

/* What the cluster said; ended with far_enroll_done. */
struct far_enrolment {
    uint64_t id;
    char cluster[64];
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    struct far_buf key_pem;         /* secret */
    struct far_buf certificate_pem; /* its own certificate, then the CA's: the whole chain */
    struct far_buf ca_pem;
    size_t incarnation_count; /* the newest ones, oldest first */
    struct far_enroll_incarnation incarnations[FAR_ENROLL_INCARNATIONS_MAX];
    struct far_enroll_server servers[FAR_ENROLL_SERVERS_MAX];
    size_t server_count;
    char vault[256]; /* of a node whose place is taken: by which keys its vault is believed, one line of the file `vaults`; "" */
};

/* Tries each server of the token. FAR_INVALID: the token's text; FAR_DENIED: used, expired, revoked, or the server's
 * chain is not the token's; FAR_CONFLICT: the name is taken; FAR_IO: no server could be reached. */
int far_enroll(const struct far_enroll_request *request, struct far_enrolment *ret_enrolment, struct far_error *err);
/* Which cluster the token is of, and in which of its lives that is. */
struct far_enroll_cluster {
    uint8_t uuid[16];
    uint64_t incarnation_epoch;
};
/* The join is only tried out: the errors are the same, the token stays good. FAR_NOT_FOUND: the server is of an older version that has
 * no trials. */
int far_enroll_try(const struct far_enroll_request *request, struct far_enroll_cluster *ret_cluster, struct far_error *err);
void far_enroll_done(struct far_enrolment *enrolment); /* NULL is allowed */

/* Keep in the folder which incarnation it joined: nothing, if that is the first. Durable on return. */
int far_enroll_save_incarnation(const char *dir, const struct far_enrolment *enrolment, struct far_error *err);

/* The answer's JSON, checked but not yet compared with a key: pure, for enrolment and fuzzing. */
int far_enroll_parse(const char *json, size_t len, struct far_enrolment *ret_enrolment, struct far_error *err);
/* The same for the answer to a trial. */
int far_enroll_parse_cluster(const char *json, size_t len, struct far_enroll_cluster *ret_cluster, struct far_error *err);

#endif
