/* farshore-node vault open: a disk of a point as an NBD disk, served by nbdkit with our plugin until it is stopped.
 *
 *   vault open --vault DIR --point ID --disk NAME (--socket PATH | --port NUMBER) [--cache SIZE] [--recovery-key FILE]
 *              [--writable | --hydrate PATH [--order FILE]]
 *
 * With --hydrate the disk comes to PATH while it is used, and what is written stays there (hydrate.h).
 * What is written with --writable is kept by nbdkit's cow filter in a temporary file and goes when nbdkit ends; the point never
 * changes. A port listens on 127.0.0.1 only: NBD as it is served here has neither encryption nor passwords. FARSHORE_NBDKIT_PLUGIN: the
 * plugin's file, where it is not installed. */
#include "dataplane/opened.h"
#include "node/node.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[] = {"--vault",        "--point",   "--disk",  "--socket", "--port", "--cache",
                                    "--recovery-key", "--hydrate", "--order", NULL};
enum value { VAULT, POINT, DISK, SOCKET, PORT, CACHE, RECOVERY_KEY, HYDRATE, ORDER, VALUES };

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
    if (values[ORDER] != NULL && values[HYDRATE] == NULL) {
        return far_fail(err, FAR_INVALID, "--order goes with --hydrate");
    }
    if (values[SOCKET] != NULL && access(values[SOCKET], F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", values[SOCKET]);
    }
    return 0;
}

struct arguments {
    const char *list[ARGUMENTS_MAX];
    size_t count;
    char texts[7][TEXT_MAX];
    size_t text_count;
};

static void add(struct arguments *arguments, const char *text)
{
    arguments->list[arguments->count++] = text;
    arguments->list[arguments->count] = NULL;
}

static void add_value(struct arguments *arguments, const char *name, const char *value)
{
    char *text = arguments->texts[arguments->text_count++];
    snprintf(text, TEXT_MAX, "%s=%s", name, value);
    add(arguments, text);
}

/* The plugin and what it opens; all that is before are nbdkit's own. */
static void add_plugin(struct arguments *arguments, const char *vault, const char *point, const char *disk, const char *cache,
                       const char *recovery_key)
{
    const char *plugin = getenv("FARSHORE_NBDKIT_PLUGIN");
    add(arguments, "--filter=readahead");
    add(arguments, plugin != NULL ? plugin : "farshore");
    add_value(arguments, "vault", vault);
    add_value(arguments, "point", point);
    add_value(arguments, "disk", disk);
    add_value(arguments, "cache", cache != NULL ? cache : "64M");
    if (recovery_key != NULL) {
        add_value(arguments, "recovery-key", recovery_key);
    }
}

/* Does not return but when it fails. */
static void become_nbdkit(struct arguments *arguments)
{
    fflush(stdout);
    execvp("nbdkit", (char *const *)arguments->list);
}

static void run_nbdkit(const char *const *values, bool writable)
{
    static struct arguments arguments;
    add(&arguments, "nbdkit");
    add(&arguments, "--foreground");
    if (values[SOCKET] != NULL) {
        add(&arguments, "--unix");
        add(&arguments, values[SOCKET]);
    } else {
        add(&arguments, "--ipaddr");
        add(&arguments, "127.0.0.1");
        add(&arguments, "--port");
        add(&arguments, values[PORT]);
    }
    if (values[HYDRATE] == NULL) { /* else the plugin takes what is written */
        add(&arguments, writable ? "--filter=cow" : "--readonly");
    }
    add_plugin(&arguments, values[VAULT], values[POINT], values[DISK], values[CACHE], values[RECOVERY_KEY]);
    if (values[HYDRATE] != NULL) {
        add_value(&arguments, "hydrate", values[HYDRATE]);
    }
    if (values[ORDER] != NULL) {
        add_value(&arguments, "order", values[ORDER]);
    }
    become_nbdkit(&arguments);
}

static int wait_for(pid_t child, struct far_error *err)
{
    int status = 0;
    while (waitpid(child, &status, 0) < 0) {
        if (errno != EINTR) {
            return far_fail_errno(err, FAR_IO, errno, "wait for nbdkit");
        }
    }
    if (WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return far_fail(err, FAR_NOT_FOUND, "nbdkit or the command cannot be started (Debian: apt-get install nbdkit)");
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : far_fail(err, FAR_IO, "nbdkit and what reads from it failed, see above (%s %d)",
                          WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

int far_vault_nbd_run(const struct far_nbd_order *order, const char *command, struct far_error *err)
{
    static struct arguments arguments;
    const char *values[VALUES] = {[VAULT] = order->vault, [DISK] = order->disk, [RECOVERY_KEY] = order->recovery_key};
    char point[24];
    uint64_t bytes;
    int rc = try_to_open(values, order->point, &bytes, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(point, sizeof point, "%llu", (unsigned long long)order->point);
    arguments = (struct arguments){.count = 0};
    add(&arguments, "nbdkit");
    add(&arguments, "--unix"); /* a socket of its own, which goes with it */
    add(&arguments, "-");
    add(&arguments, "--readonly");
    add(&arguments, "--run");
    add(&arguments, command);
    add_plugin(&arguments, order->vault, point, order->disk, NULL, order->recovery_key);
    add(&arguments, "sha=true");
    fflush(NULL); /* the child has copies of what is buffered */
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGTERM);
        become_nbdkit(&arguments);
        _exit(127);
    }
    return child > 0 ? wait_for(child, err) : far_fail_errno(err, FAR_IO, errno, "start nbdkit");
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
    if (writable && values[HYDRATE] != NULL) {
        return far_fail(err, FAR_INVALID, "--hydrate is writable already, and keeps what is written");
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
