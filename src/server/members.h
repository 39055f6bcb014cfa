/* Members: carries out on the leader what the state wants of raft's configuration; on every server, tells those that are
 * removed so.
 *
 * A server that joined is added as a standby; one whose wanted role is voter is promoted when it has caught up; one
 * that is to be removed is removed (the leader hands leadership over first). Each step that raft committed is reported
 * into the log with server_role_changed. When every member says that it supports a higher feature level than the cluster has,
 * that is proposed. Leadership goes to whom an operator wants, off a witness, and toward the users (leadership.h). One step at
 * a time; a step that fails is tried again later, and after those of other servers, so that one that cannot be changed now (a
 * standby that is down) holds up nobody. What it looks at is the state and raft's own configuration, so it can stop
 * and start between any two steps. Core thread only. */
#ifndef FAR_SERVER_MEMBERS_H
#define FAR_SERVER_MEMBERS_H

#include "log/log.h"

struct far_members;

int far_members_new(struct far_log *log, uv_loop_t *loop, uint64_t server_id, struct far_members **ret_members,
                    struct far_error *err);
/* Something was committed, or leadership moved; cheap. */
void far_members_changed(struct far_members *members);
/* done runs on the loop; a step under way must be answered first or after: closing the log does that. */
void far_members_close(struct far_members *members, void (*done)(void *arg), void *arg);

#endif
