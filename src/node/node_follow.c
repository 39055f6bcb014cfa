/* farshore-node follow: where the cluster is now, for a node whose servers are all gone: after a restore from a backup. The
 * node keeps its identity, its vault and its cache; the incarnation it learns from the server that answers, whose certificate
 * must be of the CA that it knows. The node must not run.
 *
 * The server is asked before anything is kept: one that does not answer, has another number or key, or is of an incarnation that is
 * over would leave the node without any server, and nobody would hear of it but its log. */
#include "node/agent.h"
#include "node/node.h"

#include "base/assert.h"
#include "base/file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPT_DIR, OPT_SERVER, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--server", NULL};

/* ---- asking the server ---- */

struct probe {
    const struct far_agent_server *server;
    struct far_net *net;
    bool is_good;
    struct far_error err; /* class 0: none yet */
};

static void judge_key(struct probe *probe, const uint8_t fingerprint[32])
{
    const struct far_agent_server *server = probe->server;
    if (server->has_fingerprint && memcmp(server->fingerprint, fingerprint, 32) != 0) {
        far_fail(&probe->err, FAR_DENIED, "server %llu at %s has another key than the one that was given",
                 (unsigned long long)server->id, server->address);
        return;
    }
    probe->is_good = true;
}

/* It is of another life of the cluster: a newer one is what this is for. */
static void on_incarnation(void *arg, struct far_peer peer, const uint8_t fingerprint[32], struct far_incarnation_id theirs)
{
    struct probe *probe = arg;
    unsigned long long epoch = theirs.epoch, own = far_net_incarnation(probe->net).epoch;
    (void)peer;
    if (epoch > own) {
        judge_key(probe, fingerprint);
    } else {
        far_fail(&probe->err, FAR_CONFLICT, "server %llu at %s is of incarnation %llu of the cluster, %s (%llu)",
                 (unsigned long long)probe->server->id, probe->server->address, epoch,
                 epoch < own ? "which is over for this node" : "and not of the one that this node follows", own);
    }
}

static void on_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    (void)peer;
    (void)purpose;
    judge_key(arg, far_stream_fingerprint(stream));
    far_stream_close(stream);
}

static void on_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    (void)arg, (void)stream, (void)type, (void)payload;
}

static void on_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct probe *probe = arg;
    (void)stream;
    if (!probe->is_good && probe->err.klass == 0) {
        far_fail(&probe->err, why->klass == 0 ? FAR_IO : why->klass, "no server %llu at %s that this node can follow: %s",
                 (unsigned long long)probe->server->id, probe->server->address, why->message);
    }
}

static int ask(const char *dir, const struct far_node_config *config, const struct far_agent_server *server, struct far_error *err)
{
    static const struct far_stream_callbacks callbacks = {.on_open = on_open, .on_frame = on_frame, .on_close = on_close};
    struct probe probe = {.server = server};
    struct far_stream *stream;
    uv_loop_t loop;
    int rc = far_net_open(dir, (struct far_peer){FAR_PARTY_NODE, config->node_id}, config->cluster_uuid, config->incarnation_epoch,
                          &probe.net, err);
    if (rc != 0) {
        return rc;
    }
    rc = uv_loop_init(&loop);
    FAR_ASSERT(rc == 0);
    far_net_on_incarnation(probe.net, on_incarnation, &probe);
    rc = far_stream_dial(probe.net, &loop, server->address, (struct far_peer){FAR_PARTY_SERVER, server->id}, FAR_PURPOSE_LINK,
                         &callbacks, &probe, &stream, &probe.err);
    uv_run(&loop, UV_RUN_DEFAULT);
    rc = uv_loop_close(&loop);
    FAR_ASSERT(rc == 0);
    far_net_free(probe.net);
    return probe.is_good ? 0 : far_fail(err, probe.err.klass, "%s; nothing was changed", probe.err.message);
}

/* ---- the command ---- */

static int follow(const char *dir, const char *text, struct far_error *err)
{
    struct far_node_config config;
    struct far_agent_server server;
    char path[FAR_NODE_PATH_MAX + 32], line[FAR_AGENT_SERVER_TEXT_MAX + 2];
    int lock_fd = -1, rc = far_node_config_load(dir, &config, err);
    if (rc == 0 && (strlen(text) >= FAR_AGENT_SERVER_TEXT_MAX || !far_agent_parse_server(text, &server))) {
        rc = far_fail(err, FAR_INVALID, "follow: '%.60s' is no server: NUMBER@HOST:PORT, as farshored restore prints it", text);
    }
    rc = rc != 0 ? rc : far_node_lock(dir, &lock_fd, err); /* one that runs would not look, and write its own list */
    rc = rc != 0 ? rc : ask(dir, &config, &server, err);
    if (rc != 0) {
        if (lock_fd >= 0) {
            close(lock_fd);
        }
        return rc;
    }
    far_node_path(dir, "servers", path);
    int n = snprintf(line, sizeof line, "%s\n", text);
    rc = far_file_replace(path, line, (size_t)n, 0600, err);
    if (rc == 0) {
        printf("node '%s' of cluster '%s' will ask server %s; start it with: farshore-node run --dir %s\n", config.name,
               config.cluster, text, dir);
    }
    close(lock_fd);
    return rc;
}

int far_node_follow(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    int rc = far_node_options(argc, argv, option_names, options, &err);
    for (int i = 0; i < OPT_COUNT && rc == 0; i++) {
        if (options[i] == NULL) {
            rc = far_fail(&err, FAR_INVALID, "follow: '%s' is missing", option_names[i]);
        }
    }
    rc = rc != 0 ? rc : follow(options[OPT_DIR], options[OPT_SERVER], &err);
    return rc == 0 ? 0 : far_node_failed(&err);
}
