/* What requests and event streams of the client library share: private to src/client/. */
#ifndef FAR_CLIENT_TRANSFER_H
#define FAR_CLIENT_TRANSFER_H

#include "base/buf.h"
#include "farshore/client.h"

#include <curl/curl.h>
#include <stdatomic.h>

enum { SERVERS_MAX = 16, PAUSE_MIN_MS = 50, PAUSE_MAX_MS = 1000 };

struct proof_heads; /* proof.h */

struct far_client {
    CURL *curl;
    char *servers[SERVERS_MAX];
    size_t server_count;
    size_t current; /* which server answered last */
    char *ca_path;
    char *authorization; /* header, or NULL */
    uint64_t timeout_ms;
    uint64_t index;
    bool is_stale; /* the last answer said so */
    struct far_client_proven proven;
    struct proof_heads *heads; /* of the last stream with a proof; NULL: there was none */
    atomic_bool canceled;
};

/* What a running transfer fills. */
struct answer {
    struct far_client *client;
    struct far_buf body;
    bool too_large;
    uint64_t index; /* of the header Farshore-Index */
    bool is_stale;  /* of the header Farshore-Stale */
    long status;
    char words[CURL_ERROR_SIZE];
};

struct attempt {
    const char *method, *path, *body;
    char id_header[64];
    uint64_t deadline_ms;
    size_t disbelieved;     /* so many servers one after the other showed no certificate of the CA */
    bool may_have_happened; /* an earlier attempt reached a server and its outcome is unknown */
};

enum verdict { DONE, GIVE_UP, TRY_AGAIN };

/* Shows err to the caller of the library; returns -1. */
int client_give(struct far_client_error *ret_error, const struct far_error *err, int http_status);
/* Sets the handle up for a URL; words is where libcurl explains a failure. */
void client_prepare(struct far_client *client, const char *url, struct curl_slist *headers, char *words);
struct curl_slist *client_headers(const struct far_client *client, const struct attempt *attempt);
/* The class of what libcurl says when no answer came. *ret_sent: the request may have reached the server. */
int client_transport_failed(struct far_client *client, const char *server, CURLcode code, const char *words,
                            bool *ret_sent, struct far_error *err);
/* The class and words of a problem+json. *ret_retry: "never", "later", "elsewhere", "same_id". */
int client_refused(const struct answer *answer, char ret_retry[16], struct far_error *err);
/* Waits a little before the next round; false: the time is over, or the call was canceled. */
bool client_pause(struct far_client *client, uint64_t pause_ms, uint64_t deadline_ms);

#endif
