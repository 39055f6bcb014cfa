/* Peers: the streams between the logs of the servers, one dialed by each side of a pair.
 *
 * A server dials every peer that it knows the address of and says everything on the stream that it dialed; where it has
 * none (a new server that nobody told the addresses yet) it answers on the one that the peer dialed. The first frame of a
 * dialer names its address. Messages may be longer than a frame and go in parts. What does not fit into a peer's queue
 * is dropped: raft sends again. Core thread; the streams' certificates have named the peers. */
#ifndef FAR_LOG_PEERS_H
#define FAR_LOG_PEERS_H

#include "base/buf.h"
#include "net/net.h"

enum {
    FAR_PEERS_MAX = 32,                     /* at a time; one that is forgotten makes room */
    FAR_PEER_STREAMS_MAX = 4,               /* that one peer has dialed; beyond, the oldest is closed */
    FAR_PEER_QUEUE_MAX = 1024 * 1024,       /* bytes waiting for a peer, beyond which raft's messages are dropped */
    FAR_PEER_MESSAGE_MAX = 6 * 1024 * 1024, /* joined from its parts */
    FAR_PEER_PART_MAX = 256 * 1024,
};

/* Types of frames on these streams; more in log/frames.h. */
enum {
    FAR_FRAME_PEER_HELLO = 1, /* the dialer's own address */
    FAR_FRAME_RAFT = 2,       /* a raft message, or its last part */
    FAR_FRAME_RAFT_PART = 3,  /* a part that is not the last */
    FAR_FRAME_REMOVED = 4,    /* the receiver was removed from the cluster; addresses of servers that users may ask */
};

struct far_peers;
struct far_peers_callbacks {
    /* A frame, a raft message already joined. address: what the peer said of itself, "" if unknown. */
    void (*on_frame)(void *arg, uint64_t peer_id, const char *address, uint16_t type, struct far_slice payload);
    /* The first stream to the peer is open, or the last one is gone. */
    void (*on_change)(void *arg, uint64_t peer_id, bool is_connected);
};

int far_peers_new(struct far_net *net, uv_loop_t *loop, uint64_t self_id, const char *self_address,
                  const struct far_peers_callbacks *callbacks, void *arg, struct far_peers **ret_peers,
                  struct far_error *err);
/* Keep a stream dialed to this peer at this address; again with another address when it moved. */
void far_peers_know(struct far_peers *peers, uint64_t id, const char *address);
/* Stop dialing it and end its streams. */
void far_peers_forget(struct far_peers *peers, uint64_t id);
/* Say frame of this type on every open stream of the peer, then as far_peers_forget(). */
void far_peers_dismiss(struct far_peers *peers, uint64_t id, uint16_t type, struct far_slice payload);
/* Takes an accepted stream. */
void far_peers_accept(struct far_peers *peers, uint64_t id, struct far_stream *stream);
/* A raft message; dropped when the queue is high or there is no stream. */
void far_peers_send_raft(struct far_peers *peers, uint64_t id, struct far_slice message);
/* One frame. FAR_BUSY: no stream, or its queue is full. */
int far_peers_send(struct far_peers *peers, uint64_t id, uint16_t type, struct far_slice payload);
/* Bytes that wait for the peer. */
size_t far_peers_queued(const struct far_peers *peers, uint64_t id);
bool far_peers_connected(const struct far_peers *peers, uint64_t id);
/* End the streams of a peer that sent something malformed. */
void far_peers_drop(struct far_peers *peers, uint64_t id);
/* Frees when everything is closed; done from the loop. No callback after the call. */
void far_peers_close(struct far_peers *peers, void (*done)(void *arg), void *arg);

#endif
