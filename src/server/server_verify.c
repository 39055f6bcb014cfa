/* farshored log-verify: recompute chain, state and digest from the events of a server that does not run. One line a
 * finding; the exit status is that of the class: 0 all equal, that of `corrupt` otherwise. */
#include "server/server.h"

#include <stdio.h>

static void report(void *arg, bool good, const char *text)
{
    printf("%s  %s\n", good ? "ok " : "BAD", text);
}

int far_server_log_verify(int argc, char **argv)
{
    static const char *const names[] = {"--dir", NULL};
    const char *dir = NULL;
    struct far_error err = {0};
    int rc = far_server_options(argc, argv, names, 1, &dir, &err);
    if (rc == 0) {
        rc = far_log_verify(dir, report, NULL, &err);
        fflush(stdout);
    }
    return rc == 0 ? 0 : far_server_failed(&err);
}
