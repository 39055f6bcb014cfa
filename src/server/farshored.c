/* farshored: a management server.
 *
 *   farshored init --dir D --cluster N --name S --api H:P --peer H:P   make a new cluster with this as its first server
 *   farshored join --dir D --token T --name S --api H:P --peer H:P     become a server of a cluster
 *   farshored run --dir D                                              serve until SIGTERM, SIGINT or SIGHUP
 *   farshored rejoin --dir D --token T                                 a fenced or removed server becomes a new one
 *   farshored rejoin-check --dir D --name S                            would it be taken? (fenced, removed or damaged)
 *   farshored divergent --dir D --do list|show|diff [--name N]         what such a server accepted alone
 *   farshored restore --dir D --backup F --name S --api H:P --peer H:P --recovery-key K
 *                                                                      a new cluster from a backup of an old one
 *   farshored recover-quorum --dir D --token T [--second-token T] [--confirm NAME]
 *                                                                      go on alone when the quorum is gone for good
 *   farshored log-verify --dir D                                       check the log of a server that does not run
 *   farshored log-replay --dir D --out D2 [--to M]                     build its state anew from its events
 *   farshored log-export --dir D --out F [--to M]                      write its events into a file that proves itself
 *
 * A server's folder holds config, server.key, server.crt, ca.crt, seal.key, wal/, state/, and on the first server
 * admin.token. */
#include "server/server.h"

#include <stdio.h>
#include <sys/stat.h>

static void usage(FILE *out)
{
    fputs("usage: farshored init --dir DIR --cluster NAME --name NAME --api HOST:PORT --peer HOST:PORT [--lease-ms N]\n"
          "                      [--feature-level N] [--dry-run]\n"
          "       farshored join --dir DIR --token TOKEN|@FILE --name NAME --api HOST:PORT --peer HOST:PORT [--dry-run]\n"
          "       farshored run --dir DIR\n"
          "       farshored rejoin --dir DIR --token TOKEN|@FILE [--name NAME] [--api HOST:PORT] [--peer HOST:PORT]\n"
          "                        [--dry-run]\n"
          "       farshored rejoin-check --dir DIR --name NAME [--plan]\n"
          "       farshored divergent --dir DIR --do list|show|diff [--name NAME]\n"
          "       farshored restore --dir DIR --backup FILE --name NAME --api HOST:PORT --peer HOST:PORT --recovery-key KEY|@FILE\n"
          "                         [--dry-run]\n"
          "       farshored recover-quorum --dir DIR --token TOKEN|@FILE [--second-token TOKEN|@FILE] [--confirm NAME]\n"
          "                                [--dry-run]\n"
          "       farshored log-verify --dir DIR\n"
          "       farshored log-replay --dir DIR --out DIR [--to SEQ|TIME]\n"
          "       farshored log-export --dir DIR --out FILE [--to SEQ|TIME]\n"
          "       farshored --help | --version\n",
          out);
}

int main(int argc, char **argv)
{
    static const struct {
        const char *name;
        int (*run)(int argc, char **argv);
    } commands[] = {
        {"init", far_server_init},
        {"join", far_server_join},
        {"run", far_server_run},
        {"rejoin", far_server_rejoin},
        {"rejoin-check", far_server_rejoin_check},
        {"divergent", far_server_divergent},
        {"restore", far_server_restore},
        {"recover-quorum", far_server_recover_quorum},
        {"log-verify", far_server_log_verify},
        {"log-replay", far_server_log_replay},
        {"log-export", far_server_log_export},
    };
    umask(077);
    const char *command = argc > 1 ? argv[1] : "";
    if (argc > 2 && strcmp(argv[2], "--help") == 0) {
        usage(stdout);
        return 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof commands[0]; i++) {
        if (strcmp(command, commands[i].name) == 0) {
            return commands[i].run(argc - 1, argv + 1);
        }
    }
    if (strcmp(command, "--help") == 0 || strcmp(command, "help") == 0) {
        usage(stdout);
        return 0;
    }
    if (strcmp(command, "--version") == 0) {
        puts("farshored " FAR_VERSION);
        return 0;
    }
    if (*command != '\0') {
        fprintf(stderr, "farshored: '%s' is no command\n", command);
    }
    usage(stderr);
    return far_class_info(FAR_INVALID)->exit_code;
}
