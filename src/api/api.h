/* The API of a server: REST and event streams over HTTPS (port 5000), DESIGN.md section 10.
 *
 * One thread of its own serves HTTP (http.h); everything it needs of the server are the hooks below, so nothing here
 * knows the server. A request is checked (token, route, JSON), waits for the index it names, then reads a view or proposes
 * a command; views never live across turns of the loop. Hooks are called on the API thread and must not block for
 * longer than a read of LMDB. Their `done` may be called on any thread, also before the hook returns, exactly once.
 *
 * Lifetime: far_api_new() starts the thread; far_api_stop() ends it (open requests are cut off); afterwards every `done`
 * that is still owed must be called (closing the log does that); then far_api_free(). */
#ifndef FAR_API_API_H
#define FAR_API_API_H

#include "base/moment.h"
#include "log/log.h"
#include "net/join_token.h"

enum {
    FAR_API_BODY_MAX = 1024 * 1024,  /* of a request; beyond: 413 */
    FAR_API_CONNECTIONS_MAX = 1200,  /* 1,000 event consumers and some people; beyond: idle ones give way (http_conns.h) */
    FAR_API_CALLS_MAX = 4096,        /* hook calls whose done is owed; beyond: busy */
    FAR_API_TIMEOUT_MS = 15000,      /* of a proposal, a barrier, a wait for an index */
};

struct far_api_config {
    const char *address;          /* host:port to listen on; port 0: any (far_api_port) */
    const char *certificate_path; /* PEM chain of the server; its subjectAltName must name the host that clients use */
    const char *key_path;         /* PEM */
    uint64_t heartbeat_ms;        /* of event streams; 0 = 5,000 */
    uint64_t stall_ms;            /* a consumer that takes nothing for so long is cut off; 0 = 30,000 */
};

/* What somebody who wants to join sent to POST /v1/join. Borrowed for the call. */
struct far_api_join_request {
    const char *token;        /* as in the body: the text of the join token */
    const char *csr;          /* PEM certificate signing request */
    const char *name;
    const char *api_address;  /* servers, else "" */
    const char *peer_address; /* servers, else "" */
    const char *data_address; /* nodes, else "" */
    const char *party;        /* "server" or "node" */
    uint8_t seal_key[32];     /* servers: X25519 public key; else zero */
    uint64_t feature_level;   /* servers: the newest one that its program knows */
};

/* A life of the cluster after the first one, as its row has it. */
struct far_api_incarnation {
    uint64_t epoch;
    uint8_t uuid[16];
    uint64_t parent_seq;
    uint8_t parent_head[32];
    uint64_t sure_seq;
    uint8_t sure_head[32];
};
enum { FAR_API_INCARNATIONS_MAX = 16 };

/* The answer to it. Borrowed for the call. */
struct far_api_join_answer {
    uint64_t id; /* of the new server or node */
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    const char *cluster;        /* its name */
    const char *certificate;    /* PEM, signed by the cluster's CA */
    const char *ca_certificate; /* PEM */
    /* Peer addresses (host:port, port 5001) of all servers, and ids of them, in the same order. */
    size_t server_count;
    const char *server_addresses[FAR_LOG_MEMBERS_MAX];
    uint64_t server_ids[FAR_LOG_MEMBERS_MAX];
    const char *vault; /* of a node whose place is taken: "<uuid> <fingerprint> <node>", by which keys its vault is believed; NULL */
    size_t incarnation_count; /* the newest ones, oldest first */
    struct far_api_incarnation incarnations[FAR_API_INCARNATIONS_MAX];
};
/* klass 0 and an answer, or a class with a message; exactly once, any thread. */
typedef void (*far_api_join_done_fn)(void *arg, const struct far_error *error, const struct far_api_join_answer *answer);

/* Nodes that follow another incarnation, not older than this server's. */
struct far_api_claims {
    uint64_t epoch;   /* the newest one; 0: none */
    size_t nodes;     /* that follow it, as far as they called */
    uint64_t node_id; /* one of them */
    uint64_t age_ms;  /* since the last call */
};

/* A backup that a server keeps. */
enum { FAR_API_BACKUPS_MAX = 128, FAR_API_BACKUP_NAME_MAX = 64 };
struct far_api_backup {
    char name[FAR_API_BACKUP_NAME_MAX];
    uint64_t made_ms;
    uint64_t index; /* of the state in it */
    uint64_t server_id;
    uint64_t bytes;
};

/* Keys of a dedup domain, sealed (server/domain_keys.h). */
enum { FAR_API_DOMAIN_BOX = 60 };
struct far_api_domain {
    bool is_new;         /* uuid and sealed_secret are made too */
    bool is_carried;     /* of another cluster: uuid and secret are given, sealed_secret is made of that */
    uint8_t secret[32];
    uint8_t uuid[16];
    uint64_t generation; /* of the key */
    uint8_t sealed_secret[FAR_API_DOMAIN_BOX];
    uint8_t sealed_key[FAR_API_DOMAIN_BOX];
};

/* Supplied by src/server (and by tests). Every function gets `arg` of far_api_new(). */
struct far_api_hooks {
    /* As far_log_view_begin, far_log_view_end, far_log_view_event, far_log_status. */
    int (*view_begin)(void *arg, struct far_log_view *ret_view, struct far_error *err);
    void (*view_end)(void *arg, struct far_log_view *view);
    int (*view_event)(void *arg, struct far_log_view *view, uint64_t seq, struct far_arena *arena,
                      struct far_event *ret_event, uint8_t ret_head[32], struct far_error *err);
    void (*status)(void *arg, struct far_log_status *ret_status);
    /* As far_log_propose (the command is borrowed: copy it), far_log_wait_index, far_log_barrier; the server carries the
     * call to the core thread. FAR_BUSY through done when that is not possible. */
    void (*propose)(void *arg, const struct far_command *command, uint64_t timeout_ms, far_log_done_fn done,
                    void *done_arg);
    void (*wait_index)(void *arg, uint64_t index, uint64_t timeout_ms, far_log_done_fn done, void *done_arg);
    void (*barrier)(void *arg, uint64_t timeout_ms, far_log_done_fn done, void *done_arg);
    /* The join token (net/join_token.h) with this secret, as a person carries it to the machine called name; ret_text has room
     * for FAR_JOIN_TOKEN_TEXT_MAX bytes. */
    int (*join_token)(void *arg, uint64_t purpose, const char *name, const uint8_t secret[32], char *ret_text,
                      struct far_error *err);
    /* Check the token, propose server_join or node_join, sign the request. */
    void (*join)(void *arg, const struct far_api_join_request *request, far_api_join_done_fn done, void *done_arg);
    /* As far_log_view_begin_now: for tokens, which must not wait for the commit of what was just answered. */
    int (*view_begin_now)(void *arg, struct far_log_view *ret_view, struct far_error *err);
    /* As far_log_view_past. On the API's worker thread, like the view. */
    int (*view_past)(void *arg, struct far_log_view *view, const struct far_moment *moment, struct far_error *err);
    /* As far_log_view_changed. */
    int (*view_changed)(void *arg, struct far_log_view *view, struct far_slice key, uint64_t before, uint64_t *ret_from,
                        uint64_t *ret_to, struct far_error *err);
    /* As far_log_view_export. */
    int (*view_export)(void *arg, struct far_log_view *view, uint64_t from, const struct far_moment *until, size_t bytes_max,
                       struct far_buf *out, uint64_t *ret_next, uint64_t *ret_until, struct far_error *err);
    /* The cluster time that a command would be stamped with now, as near as this server knows it. */
    uint64_t (*now_ms)(void *arg);
    /* The command that `join` would propose; its payload lies in *payload. Nothing is checked against the state. */
    int (*join_command)(void *arg, const struct far_api_join_request *request, struct far_command *ret_command,
                        struct far_buf *payload, struct far_error *err);
    /* Backups of this server: make one, list the newest first, read a part. Blocking; never on the API's thread. */
    int (*backup_make)(void *arg, struct far_api_backup *ret_backup, struct far_error *err);
    int (*backup_list)(void *arg, struct far_api_backup list[FAR_API_BACKUPS_MAX], size_t *ret_count, struct far_error *err);
    int (*backup_read)(void *arg, const char *name, uint64_t offset, size_t max, struct far_buf *out, struct far_error *err);
    /* As far_log_glance. */
    void (*glance)(void *arg, struct far_log_glance *ret_glance);
    /* The API's thread has done what there was: what propose, wait_index, barrier, skip_entry and join were called for may begin
     * only now. */
    void (*flush)(void *arg);
    /* As far_log_follow. */
    void (*follow)(void *arg, bool begins);
    /* As far_log_skip_entry, on the core thread. */
    void (*skip_entry)(void *arg, const struct far_log_skip *skip, far_log_done_fn done, void *done_arg);
    /* What nodes claim of a newer incarnation; NULL: nothing ever. */
    void (*claims)(void *arg, struct far_api_claims *ret_claims);
    /* Draw and seal what the domain needs; the same seed gives the same. NULL: this server cannot. */
    int (*seal_domain)(void *arg, const uint8_t seed[16], struct far_api_domain *domain, struct far_error *err);
};

struct far_api;

/* Listen and start the thread. hooks and arg must outlive the API; config is copied. */
int far_api_new(const struct far_api_config *config, const struct far_api_hooks *hooks, void *arg,
                struct far_api **ret_api, struct far_error *err);
/* The port that is listened on. */
int far_api_port(const struct far_api *api);
/* Something was committed: event streams look again. Any thread, cheap; call it from far_log_commit_fn. */
void far_api_committed(struct far_api *api, uint64_t applied_index, uint64_t last_seq);
/* As far_log_batch_fn: between the two calls, `done`s do not wake the API's thread. One thread at a time. */
void far_api_batch(struct far_api *api, bool begins);
/* Ends the thread and all connections. Not on the API thread. */
void far_api_stop(struct far_api *api);
/* After far_api_stop() and after every done that was owed. NULL is allowed. */
void far_api_free(struct far_api *api);

#endif
