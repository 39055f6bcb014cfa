/* Test helper: the API in this process over a real state in memory; commands go straight through far_fsm_apply.
 *
 * One at a time. Failures abort the test program. */
#ifndef FAR_TESTS_LIB_API_FIXTURE_H
#define FAR_TESTS_LIB_API_FIXTURE_H

#include "api/api.h"

struct far_test_api {
    struct far_api *api;
    int port;
    char url[64];         /* https://127.0.0.1:port */
    char dir[64];         /* its folder; holds ca.crt and admin.token */
    char ca_path[128];
    char token[FAR_API_TOKEN_TEXT_MAX]; /* of the administrator */
    char token_path[128];
};

/* Starts with cluster "test", server "s1". heartbeat_ms 0: the default. */
struct far_test_api *far_test_api_start(uint64_t heartbeat_ms);
void far_test_api_stop(struct far_test_api *fixture);
/* Apply a command of the system as if it had come through the log; its class. */
int far_test_api_apply(struct far_test_api *fixture, const struct far_schema *schema, const void *object);
/* Instead of what it holds: these events and their fold, as fsm_world.h records them (struct far_event, payload, …). */
void far_test_api_become(struct far_test_api *fixture, struct far_slice recorded);
uint64_t far_test_api_last_seq(struct far_test_api *fixture);
/* What the next proposals get instead of being applied; 0: apply again. */
void far_test_api_refuse(struct far_test_api *fixture, int klass);
/* Keep the answers of proposals until it is called with false: dones then come from another thread. */
void far_test_api_hold(struct far_test_api *fixture, bool hold);
/* Forget the events before seq. */
void far_test_api_trim(struct far_test_api *fixture, uint64_t first_seq);
/* Another server, heard just now, whose oldest event is this one; 0: none. */
void far_test_api_other(struct far_test_api *fixture, uint64_t id, uint64_t first_seq);
/* It also keeps events from this one on, apart from the others; 0: none. */
void far_test_api_apart(struct far_test_api *fixture, uint64_t oldest_seq);
/* The other server has said nothing for a minute. */
void far_test_api_silent(struct far_test_api *fixture, bool silent);
void far_test_api_stale(struct far_test_api *fixture, bool stale);

#endif
