/* farshore-node: the data plane's program.
 *
 *   farshore-node join --dir D --token T --name N [--data HOST:PORT] become a node of a cluster; without: it only dials
 *   farshore-node run --dir D                                        serve until SIGTERM, SIGINT or SIGHUP
 *   farshore-node follow --dir D --server N@H:P                      where the cluster is after a restore
 *   farshore-node vault list|recover|open …                               look at and recover from a vault, without a cluster
 *   farshore-node store check FILE                                   what an object store offers, and how fast
 *
 * A node's folder holds config, node.key, node.crt, ca.crt, servers, vault/ and cache/. */
#include "node/node.h"

#include <stdio.h>
#include <string.h>
#include <sys/stat.h>

static void usage(FILE *out)
{
    fputs("usage: farshore-node join --dir DIR --token TOKEN|@FILE --name NAME [--data HOST:PORT]\n"
          "       farshore-node run --dir DIR\n"
          "       farshore-node follow --dir DIR --server NUMBER@HOST:PORT\n",
          out);
    (void)far_vault_print_usage(out, NULL, "       ");
    fputs("       farshore-node store check FILE\n"
          "       farshore-node --help | --version\n",
          out);
}

int main(int argc, char **argv)
{
    umask(077);
    const char *command = argc > 1 ? argv[1] : "";
    if (argc > 2 && strcmp(argv[2], "--help") == 0 && strcmp(command, "vault") != 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(command, "join") == 0) {
        return far_node_join(argc - 1, argv + 1);
    }
    if (strcmp(command, "run") == 0) {
        return far_node_run(argc - 1, argv + 1);
    }
    if (strcmp(command, "follow") == 0) {
        return far_node_follow(argc - 1, argv + 1);
    }
    if (strcmp(command, "vault") == 0) {
        return far_vault_cli(argc - 1, argv + 1);
    }
    if (strcmp(command, "store") == 0) {
        return far_store_cli(argc - 1, argv + 1);
    }
    if (strcmp(command, "--help") == 0 || strcmp(command, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(command, "--version") == 0) {
        puts("farshore-node " FAR_VERSION);
        return 0;
    }
    if (*command != '\0') {
        fprintf(stderr, "farshore-node: '%s' is no command\n", command);
    }
    usage(stderr);
    return far_class_info(FAR_INVALID)->exit_code;
}
