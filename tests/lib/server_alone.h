/* A server without its program, for tests: admission, link, members and a listener on a log of one server
 * (log_alone.c), with a cluster "north", a site "west" and the secrets in its state. Aborts the test if anything fails. */
#ifndef FAR_TESTS_LIB_SERVER_ALONE_H
#define FAR_TESTS_LIB_SERVER_ALONE_H

#include "cm.h"
#include "made_pki.h"
#include "run_until.h"
#include "server/admission.h"
#include "server/link.h"
#include "server/members.h"
#include "server/peer_keys.h"
#include "server/secrets.h"
#include "server/server.h"

struct fixture {
    char dir[32];
    char pki_dir[32];
    struct far_test_pki pki;
    struct far_net *net; /* server 1 */
    uv_loop_t loop;
    struct far_log *log;
    struct far_link *link;
    struct far_members *members;
    struct far_admission *admission;
    struct far_listener *listener;
    uint8_t seal_public[32];
    uint8_t seal_private[32];
    struct far_buf ca; /* DER */
    unsigned secrets_made;
    unsigned left_open;
    /* of the last proposal or join */
    bool answered;
    struct far_result result;
    struct far_error error;
    struct far_error refused; /* why the last stream that was not accepted ended */
    uint64_t joined_id;
    uint64_t feature_level; /* of the programs that join; 0: the newest */
    char certificate[4096];
    char cluster[64];
};

/* cmocka's set-up and tear-down of a group: *state is the struct fixture. */
int server_alone_set_up(void **state);
int server_alone_tear_down(void **state);
/* Proposes and waits; the object of the answer, which must be a good one. */
uint64_t server_alone_command(struct fixture *f, const struct far_schema *schema, const void *object);

/* A token for a party with this name; its text, as POST /v1/tokens would give it. */
void server_alone_token(struct fixture *f, const char *name, uint64_t purpose, char *text);
/* A certificate request for the key. */
void server_alone_request(struct far_slice key, char pem[4096]);
/* The class of the answer; f->joined_id, certificate and cluster if it is 0. */
int server_alone_join(struct fixture *f, const char *token, const char *party, const char *name, const char *csr,
                      const uint8_t seal_key[32]);
uint64_t server_alone_join_node(struct fixture *f, const char *name);

#endif
