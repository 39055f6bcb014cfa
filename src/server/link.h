/* The link: the server's side of the streams of nodes (port 5001, FAR_PURPOSE_LINK).
 *
 * A node says hello; its boot is proposed, and with the answer it is welcome. After each commit what the state wants of
 * the node (its tasks and their attempts) is compared with what it was sent, and the difference goes out as orders; so does
 * the list of servers when it is another one than the node was told. A report is proposed as the node's command and answered
 * when it is committed. A node that connects twice keeps the newer stream. Any server serves any node: nothing here is more
 * than a cache of the state. Core thread only. */
#ifndef FAR_SERVER_LINK_H
#define FAR_SERVER_LINK_H

#include "log/log.h"

#include <uv.h>

struct far_link;
struct far_stream;

enum { FAR_LINK_NODES_MAX = 1000 };

int far_link_new(struct far_log *log, uv_loop_t *loop, struct far_link **ret_link, struct far_error *err);
/* For orders of plans in keyed dedup domains: whose seal key opens the master key. Without it they are not sent. */
void far_link_use_seal_key(struct far_link *link, uint64_t server_id, const uint8_t seal_key[32]);
/* Takes a greeted stream of this node. */
void far_link_accept(struct far_link *link, uint64_t node_id, struct far_stream *stream);
/* Something was committed; cheap, looks a few milliseconds later. */
void far_link_committed(struct far_link *link);
/* Ends all streams; done runs on the loop when nothing of the link is left there. The proposals that it still waits for
 * must be answered first or after: closing the log does that. */
void far_link_close(struct far_link *link, void (*done)(void *arg), void *arg);

/* By which keys the vault of a node is believed, "<uuid> <fingerprint> <node>", in the arena. FAR_NOT_FOUND: it never said which
 * it has. */
int far_link_vault_of(struct far_state *state, uint64_t node_id, struct far_arena *arena, struct far_slice *ret_text,
                      struct far_error *err);

#endif
