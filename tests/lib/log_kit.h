/* Test helper: three logs in one process over real TLS on loopback, on one loop that the test turns.
 *
 * Server 1 founds the cluster; kit_add_server() brings the others in. Every wait has a deadline and fails the test. For
 * the test's one thread. */
#ifndef FAR_TESTS_LIB_LOG_KIT_H
#define FAR_TESTS_LIB_LOG_KIT_H

#include "base/clock.h"
#include "log/log.h"

enum { KIT_SERVERS = 3, KIT_WAIT_MS = 20000, KIT_CALL_MS = 10000 };
enum { KIT_EVENTS_MAX = 500, KIT_SEGMENT_EVENTS = 200 }; /* so that events are sealed in every story */

struct kit_server {
    uint64_t id;
    char dir[300];
    char address[64];
    struct far_net *net;
    struct far_listener *listener;
    struct far_log *log; /* NULL: stopped */
};
extern struct kit_server kit_servers[KIT_SERVERS + 1]; /* by id, from 1 */
extern uv_loop_t kit_loop;
extern char kit_root[256];
extern uint64_t kit_low_space_bytes; /* first watermark of servers that are opened from now on */
extern uint64_t kit_epoch_events;    /* of states of the past, of servers that are opened from now on; 0: as ever */
extern uint64_t kit_next_number;     /* of the next site */

/* Let the loop do something; returns after 10 ms at the latest. */
void kit_turn(void);
#define WAIT_UP_TO(ms, condition)                                                  \
    do {                                                                           \
        uint64_t wait_until = far_clock_monotonic_ms() + (ms);                     \
        while (!(condition)) {                                                     \
            if (far_clock_monotonic_ms() > wait_until) {                           \
                fail_msg("line %d: did not happen: %s", __LINE__, #condition);     \
            }                                                                      \
            kit_turn();                                                            \
        }                                                                          \
    } while (0)
#define WAIT_FOR(condition) WAIT_UP_TO(KIT_WAIT_MS, condition)

struct far_log_config kit_config_of(struct kit_server *server);
void kit_make_server(uint64_t id); /* its folder and log; id 1 is bootstrapped */
void kit_open_server(struct kit_server *server);
void kit_close_server(struct kit_server *server);
/* Make it, add it, promote it. */
void kit_add_server(uint64_t id);

/* A call and its answer; kit_on_done takes the address of one. */
struct kit_call {
    bool is_done;
    struct far_result result;
    uint64_t applied_index;
};
void kit_on_done(void *arg, const struct far_result *result, uint64_t applied_index);
struct kit_call kit_propose(struct kit_server *server, const struct far_command *command);
/* Create the site with this number, again and again with the same id until it is accepted. */
void kit_must_propose(struct kit_server *server, uint64_t number);
typedef void (*kit_member_fn)(struct far_log *log, uint64_t id, far_log_done_fn done, void *arg);
void kit_must_change(kit_member_fn change, uint64_t id);

/* NULL: none (yet). */
struct kit_server *kit_leader(void);
struct kit_server *kit_follower(void);
uint64_t kit_applied(struct kit_server *server);
bool kit_all_at(uint64_t index);

/* What a server holds; the digest is walked from the bytes. */
struct kit_state {
    uint64_t index, first_seq, last_seq;
    uint8_t head[32];
    struct far_hash128 walked;
};
struct kit_state kit_read_state(struct kit_server *server);
/* Do all servers that run hold the same? */
bool kit_are_equal(void);

/* Of a cmocka group. */
int kit_setup(void **state);
int kit_teardown(void **state);

#endif
