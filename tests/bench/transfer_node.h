/* One node of a measured transfer (transfer.c): a process with an engine, or with both, that is told what to do and says what
 * came of it over a socket, a message at a time. Messages are structs: both ends are one program, forked. */
#ifndef FAR_TESTS_BENCH_TRANSFER_NODE_H
#define FAR_TESTS_BENCH_TRANSFER_NODE_H

#include "dataplane/engine.h"

#include <sys/types.h>

enum { NODE_SOURCE = 11, NODE_TARGET = 12, NODE_DISKS_MAX = 256 };
enum { NODE_TASK_FREEZE = 1, NODE_TASK_SEND = 2, NODE_TASK_RECEIVE = 3, NODE_TASK_RELEASE = 5 };

struct node_config {
    char dir[200]; /* pki, source, target are in it */
    const char *adapter;
    const char *disks[NODE_DISKS_MAX]; /* paths; a disk is called as its file */
    size_t disk_count;
    uint64_t memory_bytes;
    uint32_t worker_count;
    enum far_engine_compress compress;
    uint8_t cluster_byte;
    bool verbose; /* reports of what runs go to stderr */
};

enum node_said {
    NODE_START, /* to the node: an order */
    NODE_USAGE, /* to the node: what did you use? */
    NODE_READY, /* from the node: its data address */
    NODE_ENDED, /* from the node: the last report of an attempt */
    NODE_USED,  /* from the node: processor seconds */
    NODE_FAILED, /* from the node: why it ends, in report.error_message */
};

struct node_message {
    enum node_said said;
    enum far_engine_kind kind;
    size_t disk; /* its place in the config */
    uint64_t job, size_bytes;
    bool has_base, proven;
    uint8_t base_root[32];
    char freeze_ref[128], since[128], address[64];
    double user_seconds, system_seconds;
    struct far_engine_report report; /* its disks is not to be followed */
    char token[128];                 /* of the disk that was frozen */
    uint64_t found_bytes;
};

/* Forks a node with a source engine, a target engine, or both; the parent's end of the socket. The pki is made already. */
pid_t node_fork(const struct node_config *config, bool source, bool target, int *ret_fd);
void node_send(int fd, const struct node_message *message);
/* False: nothing came for timeout_ms. Aborts with the node's words when it failed. */
bool node_receive(int fd, struct node_message *ret_message, int timeout_ms);

#endif
