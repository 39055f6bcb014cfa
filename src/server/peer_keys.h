/* The keys of servers and nodes are those that they joined with: the fingerprint in the row of whoever connects, or is
 * dialed, must be that of the key it shows. A certificate alone is not enough: the CA may have signed another for the same
 * id. A server without a row here may be newer than this server's state, a node without one is refused at its hello. */
#ifndef FAR_SERVER_PEER_KEYS_H
#define FAR_SERVER_PEER_KEYS_H

#include "log/log.h"
#include "net/net.h"

/* From now on net asks the state of log. Take it away (far_net_check_keys with NULL) before the log is closed. */
void far_peer_keys_watch(struct far_net *net, struct far_log *log);

#endif
