/* farshore-node follow: where the cluster is now, for a node whose servers are all gone: after a restore from a backup. The
 * node keeps its identity, its vault and its cache; the incarnation it learns from the server that answers, whose certificate
 * must be of the CA that it knows. The node must not run. */
#include "node/agent.h"
#include "node/node.h"

#include "base/file.h"

#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { OPT_DIR, OPT_SERVER, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--server", NULL};

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
    if (rc != 0) {
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
