/* The client library of Farshore: requests to a cluster over HTTPS, and following its events.
 *
 * A client knows the addresses of several servers and uses whichever answers: a request that could not be delivered, or
 * whose outcome is not known, is repeated at the next one under the same command id, so it happens at most once. It
 * remembers the log index of its last write and reads nothing older than that, at any server. JSON goes in and out as text.
 *
 * A client is used by one thread at a time; different clients by different threads. far_client_cancel() is for any thread
 * and for signal handlers. Only C11 and libc are needed to include this. */
#ifndef FARSHORE_CLIENT_H
#define FARSHORE_CLIENT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#ifdef __cplusplus
extern "C" {
#endif

struct far_client;

struct far_client_config {
    unsigned version;       /* FAR_CLIENT_CONFIG_VERSION */
    const char *servers;    /* "https://host:port", several separated by commas; at most 16 */
    const char *ca_path;    /* PEM of the cluster's CA: the only one that is believed. NULL: those of the system */
    const char *token;      /* the bearer token; NULL: none is sent */
    uint32_t timeout_ms;    /* of one request, with all its repetitions; 0 = 30,000 */
};
enum { FAR_CLIENT_CONFIG_VERSION = 1 };

/* What went wrong. code is the stable name of the class ("invalid", "not_found", "conflict", "denied", "not_leader",
 * "unknown_outcome", "busy", "limit", "timeout", "io", "corrupt", "canceled", "internal"), exit_code what a program
 * should exit with. */
struct far_client_error {
    char code[32];
    int exit_code;
    int http_status; /* 0: no server answered */
    char message[512];
};

/* Everything is copied. Returns 0, or -1 with *ret_error: an address that is none, a CA file that cannot be read. */
int far_client_new(const struct far_client_config *config, struct far_client **ret_client,
                   struct far_client_error *ret_error);
void far_client_free(struct far_client *client); /* NULL is allowed */

/* One request. method: "GET", "POST", "DELETE"; path with its query, as in the OpenAPI document: "/v1/sites?limit=10";
 * body: JSON, or NULL for none. Returns 0 and the JSON of the answer in *ret_body (free it with free()), or -1 with
 * *ret_error; *ret_body is untouched then. Answers of more than 64 MiB are "limit". Blocks at most timeout_ms. */
int far_client_request(struct far_client *client, const char *method, const char *path, const char *body,
                       char **ret_body, struct far_client_error *ret_error);

/* The log index of the last write, which every later read waits for; 0: none yet. To hand it on to another client. */
uint64_t far_client_index(const struct far_client *client);
void far_client_set_index(struct far_client *client, uint64_t index);

/* Did the server that gave the last answer say that it has had no word from a leader lately? What it shows may be old. */
bool far_client_is_stale(const struct far_client *client);

/* Called for each event with its JSON and the cursor behind it, and for each heartbeat (and at the end of a stream that has
 * one) with json NULL. Both texts are borrowed for the call. Not 0: stop following. */
typedef int (*far_client_event_fn)(void *arg, const char *json, const char *cursor);

/* What is proven of the events of a stream, by the client itself:
 * HEADERS: that no event of the history was left out, changed, moved or given twice (every event's header and payload hash came
 *   and gave, one after the other, each chain head that was told), and that whatever the filters of kind and severity let
 *   pass was given. Filters by object cannot be checked from headers: there the server is believed.
 * FULL: also that the payload of each event given is the one that the chain holds ("payload" in its JSON, base64; kinds that
 *   hold a secret come without). "data" is the server's reading of it.
 * What begins with the first event is proven from nothing; what begins elsewhere, from the head in the cursor, or from the one
 * that the first server told. */
enum far_client_proof { FAR_CLIENT_PROOF_NONE, FAR_CLIENT_PROOF_HEADERS, FAR_CLIENT_PROOF_FULL };

/* Which events; NULL: no such filter. All texts are borrowed for the call. */
struct far_client_stream {
    unsigned version;     /* FAR_CLIENT_STREAM_VERSION */
    const char *from;     /* NULL, "start": the oldest kept; "end": only new ones; "<seq>": from that event on;
                             "<seq>-<hex>": a cursor, behind that event; "2026-11-20T17:04:05Z" or "@<ms>": a time */
    const char *to;       /* the last one: a seq, a cursor or a time */
    const char *consumer; /* begin at the place that this consumer acknowledged, unless from says otherwise */
    const char *kinds;    /* separated by commas */
    const char *severity; /* at least: "info", "notice", "warning", "error" */
    const char *subject;  /* an object that the event names: an id, "plan:gold", "job:17" */
    const char *plan;     /* about this plan, by name or id */
    const char *site;     /* about this site */
    enum far_client_proof proof;
    bool follow;          /* false: until the newest event of now */
    uint32_t limit;       /* at most so many events, up to 1,000; 0: any number */
};
enum { FAR_CLIENT_STREAM_VERSION = 1 };

/* Follow the events. A lost connection is resumed at the next server behind the last event, for as long as it takes; no event
 * is given twice. Returns 0 when on_event said stop or the end was reached, else -1: refused, canceled, the place is no longer
 * kept, or "corrupt": a server lied or lost something, and the message says which and what; nothing behind that was given. */
int far_client_stream(struct far_client *client, const struct far_client_stream *stream, far_client_event_fn on_event,
                      void *arg, struct far_client_error *ret_error);
/* The same without filters and proof. */
int far_client_events(struct far_client *client, const char *from, bool follow, far_client_event_fn on_event, void *arg,
                      struct far_client_error *ret_error);

/* How far the chain was computed in the last stream with a proof; also within on_event. */
struct far_client_proven {
    uint64_t seq;     /* of the last event */
    uint8_t head[32]; /* after it, computed here */
    uint64_t events;  /* given */
    uint64_t skipped; /* proven, and left out by the filters */
    bool from_start;  /* the chain begins with the first event there ever was */
};
void far_client_proven(const struct far_client *client, struct far_client_proven *ret_proven);

/* Is a head of the log, an item of GET /v1/log/heads or signed_head of GET /v1/cluster, signed by a majority of the voters that it
 * names, each signature right? cluster_uuid: as GET /v1/cluster has it. public_key: one of the signers must have this one, 64
 * hexadecimal digits, got elsewhere (`farshored init` prints it); NULL: whoever they are. Needs no server. 0, or -1 with "corrupt" and
 * what is wrong. What events lead to the head is for a stream with a proof to say, or farshore-verify. */
int far_client_check_head(const char *head, const char *cluster_uuid, const char *public_key,
                          struct far_client_error *ret_error);

/* The same, and public_key may be that of a server which has another one by now, or was replaced: the history of keys, which the log
 * keeps with its signed heads, is read from a server and followed from the key that was given to those that signed this head; each
 * step is signed, so that no server can make one up. Nothing leads over a forced recovery or a restore, which print a new key. */
int far_client_trust_head(struct far_client *client, const char *head, const char *cluster_uuid, const char *public_key,
                          struct far_client_error *ret_error);

/* After a stream with a proof has ended: the newest signed head is on the chain that was computed here, and signed as
 * far_client_trust_head() says: so all events up to *ret_seq, given and left out, are those that a majority of the cluster's servers
 * signed, trusted from public_key on (NULL: whoever they are). Asks a server for the signatures. 0, or -1: "corrupt", or "not_found"
 * where no signed head lies in the stream's reach. */
int far_client_prove_signed(struct far_client *client, const char *public_key, uint64_t *ret_seq,
                            struct far_client_error *ret_error);

/* The consumer has done with everything up to the cursor. Servers keep the newest of a second: call it as often as you like.
 * Within on_event with another client only. */
int far_client_ack(struct far_client *client, const char *consumer, const char *cursor, struct far_client_error *ret_error);

/* Makes the running call, and every later one, end with "canceled". */
void far_client_cancel(struct far_client *client);

#ifdef __cplusplus
}
#endif

#endif
