/* Admission: the server's side of a join (POST /v1/join).
 *
 * Checks the token against the state, proposes server_join or node_join (which uses the token up, exactly once, however
 * many servers are asked), and signs the request for the id that the log gave. A new server also gets the CA's key and
 * the master key, sealed to its seal key. Core thread only. */
#ifndef FAR_SERVER_ADMISSION_H
#define FAR_SERVER_ADMISSION_H

#include "api/api.h"

struct far_admission;

struct far_admission_config {
    struct far_log *log;
    uint64_t server_id;
    uint8_t seal_key[32]; /* private half of this server's seal key */
};

int far_admission_new(const struct far_admission_config *config, struct far_admission **ret_admission,
                      struct far_error *err);
void far_admission_free(struct far_admission *admission); /* after every done was called; NULL is allowed */

/* request is borrowed for the call. FAR_DENIED: the token is unknown, used, expired or for something else; FAR_CONFLICT:
 * the name is taken; FAR_INVALID: the request; others as far_log_propose. */
void far_admission_join(struct far_admission *admission, const struct far_api_join_request *request,
                        far_api_join_done_fn done, void *arg);

/* The command that such a request would propose; its payload lies in *payload. Looks at nothing but the request. Any thread. */
int far_admission_command(struct far_admission *admission, const struct far_api_join_request *request,
                          struct far_command *ret_command, struct far_buf *payload, struct far_error *err);

#endif
