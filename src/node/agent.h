/* The agent: a node's stream to the servers.
 *
 * On a good day it dials one server, says hello, gets its boot number and orders, hands them to the engine, and sends
 * the engine's reports back in batches: transitions at once, progress and with it the renewal of the leases once a
 * second. One batch is on its way at a time; it keeps its sequence number until a server confirms it.
 *
 * When the stream ends it dials the next server, with back-off, and goes on under the same boot number: nothing is
 * restarted. An order whose lease was not renewed in time (counted from sending the last confirmed renewal) is
 * canceled before the lease ends, connected or not. Everything here runs on the caller's uv loop, except
 * far_agent_report. */
#ifndef FAR_NODE_AGENT_H
#define FAR_NODE_AGENT_H

#include "base/error.h"
#include "dataplane/engine.h"
#include "fsm/schema.h"
#include "net/net.h"

#include <uv.h>

struct far_agent;

enum { FAR_AGENT_SERVERS_MAX = 16 };

struct far_agent_server {
    uint64_t id;
    char address[256]; /* host:port of its port 5001 */
    bool has_fingerprint; /* then it must show this key */
    uint8_t fingerprint[32];
};
enum { FAR_AGENT_SERVER_TEXT_MAX = 400 };

struct far_agent_config {
    struct far_net *net; /* borrowed */
    uint64_t node_id;
    const struct far_agent_server *servers; /* copied; at least one */
    size_t server_count;
    /* The cluster says that this node was removed; the agent may be closed within the call. NULL: it dials on. */
    void (*on_removed)(void *arg);
    /* A server of a newer incarnation of the cluster was met: keep that durably, and greet with it from now on. NULL: no
     * other incarnation is followed. */
    int (*on_follow)(void *arg, struct far_incarnation_id incarnation, struct far_error *err);
    void *owner; /* the first argument of both */
    const char *vaults_path;  /* where it is kept by which keys the cluster believes vaults (vault_trust.h); NULL = nowhere */
    const char *servers_path; /* where the list that the servers tell is kept for the next start; NULL = nowhere */
    const struct far_adapter *const *adapters; /* what it tells the servers it has; ends with NULL; NULL = nothing */
    bool runs_scripts; /* the same */
};

/* "<id>@<host>:<port>", with "#<64 hexadecimal digits>" where the fingerprint of its key is known; false if text is anything
 * else. */
bool far_agent_parse_server(const char *text, struct far_agent_server *ret_server);

/* The list that a server told, in place of the one that was known. False: it is the same, or holds nothing that can be read. */
bool far_agent_take_servers(const struct far_list *texts, struct far_agent_server servers[FAR_AGENT_SERVERS_MAX], size_t *count);
/* Losing the list costs nothing but a dial to servers that are gone. path NULL: nowhere. */
void far_agent_save_servers(const char *path, const struct far_agent_server *servers, size_t count);

/* By which keys vaults are believed, as a server told it. Losing it costs whoever attaches a vault beside this node a look elsewhere. */
void far_agent_save_vaults(const char *path, const struct far_list *texts);

int far_agent_new(const struct far_agent_config *config, uv_loop_t *loop, struct far_agent **ret_agent,
                  struct far_error *err);
/* The engine's callback, with the agent as its argument; any thread, also before far_agent_start. */
void far_agent_report(void *agent, const struct far_engine_report *report);
/* Dial. The engine is borrowed until the agent is closed. */
void far_agent_start(struct far_agent *agent, struct far_engine *engine);
/* Ends the stream; done runs on the loop when nothing of the agent is left there. The engine must be freed first: it
 * must not report any more. */
void far_agent_close(struct far_agent *agent, void (*done)(void *arg), void *arg);

#endif
