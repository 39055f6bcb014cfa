/* farshore-node vault open: a disk of a point as an NBD disk, served by nbdkit with our plugin until it is stopped.
 *
 *   vault open --vault DIR --point ID --disk NAME (--socket PATH | --port NUMBER) [--cache SIZE] [--recovery-key FILE]
 *              [--writable]
 *
 * What is written with --writable is kept by nbdkit's cow filter in a temporary file and goes when nbdkit ends; the point never
 * changes. A port listens on 127.0.0.1 only: NBD as it is served here has neither encryption nor passwords. FARSHORE_NBDKIT_PLUGIN: the
 * plugin's file, where it is not installed. */
#include "dataplane/opened.h"
#include "node/node.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static const char *const names[] = {"--vault", "--point", "--disk", "--socket", "--port", "--cache", "--recovery-key", NULL};
enum value { VAULT, POINT, DISK, SOCKET, PORT, CACHE, RECOVERY_KEY, VALUES };

enum { ARGUMENTS_MAX = 32, TEXT_MAX = 4300 };

/* Opens it once itself: what is wrong is said in our words, and nbdkit is not started for it. */
static int try_to_open(const char *const *values, uint64_t point, uint64_t *ret_bytes, struct far_error *err)
{
    struct far_opened *opened;
    struct far_opened_options options = {.recovery_key_file = values[RECOVERY_KEY]};
    int rc = far_opened_new(values[VAULT], point, values[DISK], &options, &opened, err);
    if (rc == 0) {
        *ret_bytes = far_opened_size(opened);
        far_opened_close(opened);
    }
    return rc;
}

static int check(const char *const *values, struct far_error *err)
{
    for (int i = VAULT; i <= DISK; i++) {
        if (values[i] == NULL) {
            return far_fail(err, FAR_INVALID, "%s is missing", names[i]);
        }
    }
    if ((values[SOCKET] == NULL) == (values[PORT] == NULL)) {
        return far_fail(err, FAR_INVALID, "one of --socket and --port is needed");
    }
    if (values[PORT] != NULL && (strspn(values[PORT], "0123456789") != strlen(values[PORT]) || strlen(values[PORT]) > 5 ||
                                 atoi(values[PORT]) < 1 || atoi(values[PORT]) > 65535)) {
        return far_fail(err, FAR_INVALID, "'%s' is no port: 1 to 65535", values[PORT]);
    }
    if (values[SOCKET] != NULL && access(values[SOCKET], F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", values[SOCKET]);
    }
    return 0;
}

static void run_nbdkit(const char *const *values, bool writable)
{
    static char texts[5][TEXT_MAX];
    const char *plugin = getenv("FARSHORE_NBDKIT_PLUGIN");
    const char *arguments[ARGUMENTS_MAX];
    size_t count = 0;
    arguments[count++] = "nbdkit";
    arguments[count++] = "--foreground";
    if (values[SOCKET] != NULL) {
        arguments[count++] = "--unix";
        arguments[count++] = values[SOCKET];
    } else {
        arguments[count++] = "--ipaddr";
        arguments[count++] = "127.0.0.1";
        arguments[count++] = "--port";
        arguments[count++] = values[PORT];
    }
    if (writable) {
        arguments[count++] = "--filter=cow";
    } else {
        arguments[count++] = "--readonly";
    }
    arguments[count++] = "--filter=readahead";
    arguments[count++] = plugin != NULL ? plugin : "farshore";
    snprintf(texts[0], TEXT_MAX, "vault=%s", values[VAULT]);
    snprintf(texts[1], TEXT_MAX, "point=%s", values[POINT]);
    snprintf(texts[2], TEXT_MAX, "disk=%s", values[DISK]);
    snprintf(texts[3], TEXT_MAX, "cache=%s", values[CACHE] != NULL ? values[CACHE] : "64M");
    snprintf(texts[4], TEXT_MAX, "recovery-key=%s", values[RECOVERY_KEY] != NULL ? values[RECOVERY_KEY] : "");
    for (size_t i = 0; i < (values[RECOVERY_KEY] != NULL ? 5 : 4); i++) {
        arguments[count++] = texts[i];
    }
    arguments[count] = NULL;
    fflush(stdout);
    execvp("nbdkit", (char *const *)arguments);
}

int far_vault_nbd_cli(int argc, char **argv, bool writable, struct far_error *err)
{
    const char *values[VALUES];
    uint64_t point = 0, bytes = 0;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? check(values, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[POINT], &point, err) : rc;
    if (rc != 0) {
        return rc;
    }
    rc = try_to_open(values, point, &bytes, err);
    if (rc != 0) {
        return rc;
    }
    if (values[SOCKET] != NULL) {
        printf("disk '%s' of point %s, %llu bytes: nbd+unix:///?socket=%s\n", values[DISK], values[POINT], (unsigned long long)bytes,
               values[SOCKET]);
    } else {
        printf("disk '%s' of point %s, %llu bytes: nbd://127.0.0.1:%s\n", values[DISK], values[POINT], (unsigned long long)bytes,
               values[PORT]);
    }
    run_nbdkit(values, writable);
    return far_fail_errno(err, FAR_IO, errno, "start nbdkit (Debian: apt-get install nbdkit)");
}
