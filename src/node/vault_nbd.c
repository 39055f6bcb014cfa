/* farshore-node vault open: a disk of a point as an NBD disk, served by nbdkit with our plugin until it is stopped.
 *
 *   vault open --vault DIR --point ID --disk NAME (--socket PATH | --port NUMBER [--address ADDRESS [--tls NODE-DIR]]) [--cache SIZE]
 *              [--recovery-key FILE] [--writable | --hydrate PATH [--order FILE] [--progress]] [--pidfile FILE]
 *
 * With --hydrate the disk comes to PATH while it is used, and what is written stays there (hydrate.h).
 * What is written with --writable is kept by nbdkit's cow filter in a temporary file and goes when nbdkit ends; the point never
 * changes. A port listens on loopback only, unless --tls names the folder of a node: then
 * nothing is said without TLS, and only to who shows a certificate of the cluster's CA. FARSHORE_NBDKIT_PLUGIN: the
 * plugin's file, where it is not installed. */
#include "base/file.h"
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
                                    "--recovery-key", "--hydrate", "--order", "--address", "--tls",  "--pidfile", NULL};
enum value { VAULT, POINT, DISK, SOCKET, PORT, CACHE, RECOVERY_KEY, HYDRATE, ORDER, ADDRESS, TLS, PIDFILE, VALUES };

enum { ARGUMENTS_MAX = 40, TEXT_MAX = 4300, SOCKET_PATH_MAX = 107 };

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
    if (values[PORT] == NULL && (values[ADDRESS] != NULL || values[TLS] != NULL)) {
        return far_fail(err, FAR_INVALID, "--address and --tls go with --port");
    }
    const char *address = values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1";
    bool is_near = strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
    if (!is_near && values[TLS] == NULL) {
        return far_fail(err, FAR_INVALID, "everybody who reaches '%s' could read the disk: --tls NODE-DIR is needed for it", address);
    }
    if (values[SOCKET] != NULL && access(values[SOCKET], F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", values[SOCKET]);
    }
    return 0;
}

struct arguments {
    const char *list[ARGUMENTS_MAX];
    size_t count;
    char texts[10][TEXT_MAX];
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

/* nbdkit wants the files of a certificate under names of its own. In the node's folder, made once: links to what is there. */
static char tls_folder[TEXT_MAX];

static int make_tls_folder(const char *node_dir, struct far_error *err)
{
    static const char *const links[][2] = {
        {"../ca.crt", "ca-cert.pem"}, {"../node.crt", "server-cert.pem"}, {"../node.key", "server-key.pem"}};
    char path[TEXT_MAX + 32];
    snprintf(tls_folder, sizeof tls_folder, "%.4096s/nbd-tls", node_dir);
    int rc = far_file_make_dir(tls_folder, err);
    for (size_t i = 0; rc == 0 && i < sizeof links / sizeof links[0]; i++) {
        snprintf(path, sizeof path, "%s/%s", tls_folder, links[i][1]);
        if (symlink(links[i][0], path) != 0 && errno != EEXIST) {
            rc = far_fail_errno(err, FAR_IO, errno, "make '%s'", path);
        }
    }
    return rc;
}

static void run_nbdkit(const char *const *values, bool writable, bool progress)
{
    static struct arguments arguments;
    add(&arguments, "nbdkit");
    add(&arguments, "--foreground");
    if (values[PIDFILE] != NULL) { /* there when it listens */
        add(&arguments, "--pidfile");
        add(&arguments, values[PIDFILE]);
    }
    if (values[TLS] != NULL) {
        add(&arguments, "--tls=require");
        add(&arguments, "--tls-verify-peer");
        add(&arguments, "--tls-certificates");
        add(&arguments, tls_folder);
    }
    if (values[SOCKET] != NULL) {
        add(&arguments, "--unix");
        add(&arguments, values[SOCKET]);
    } else {
        add(&arguments, "--ipaddr");
        add(&arguments, values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1");
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
    if (values[PIDFILE] != NULL) {
        add(&arguments, "with-parent=true");
    }
    if (progress) {
        add(&arguments, "progress=true");
    }
    become_nbdkit(&arguments);
}

static int wait_for(pid_t child, int *ret_status, struct far_error *err)
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
    if (ret_status != NULL && WIFEXITED(status)) {
        *ret_status = WEXITSTATUS(status);
        return 0;
    }
    return WIFEXITED(status) && WEXITSTATUS(status) == 0
               ? 0
               : far_fail(err, FAR_IO, "nbdkit and what reads from it failed, see above (%s %d)",
                          WIFSIGNALED(status) ? "signal" : "status", WIFSIGNALED(status) ? WTERMSIG(status) : WEXITSTATUS(status));
}

static char socket_path[SOCKET_PATH_MAX + 1];

/* In TMPDIR, where who started this looks after what a kill leaves; false: there it would have too long a name. */
static bool make_socket_folder(char folder[TEXT_MAX])
{
    const char *base = getenv("TMPDIR");
    snprintf(folder, TEXT_MAX, "%.4000s/nbd-XXXXXX", base != NULL ? base : "/tmp");
    if (strlen(folder) + sizeof "/s" > sizeof socket_path || mkdtemp(folder) == NULL) {
        folder[0] = socket_path[0] = '\0';
        return false;
    }
    snprintf(socket_path, sizeof socket_path, "%.*s/s", SOCKET_PATH_MAX - 2, folder);
    return true;
}

int far_vault_nbd_run(const struct far_nbd_order *order, const char *command, struct far_error *err)
{
    static struct arguments arguments;
    const char *values[VALUES] = {[VAULT] = order->vault, [DISK] = order->disk, [RECOVERY_KEY] = order->recovery_key};
    char point[24], folder[TEXT_MAX];
    uint64_t bytes;
    int rc = try_to_open(values, order->point, &bytes, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(point, sizeof point, "%llu", (unsigned long long)order->point);
    arguments = (struct arguments){.count = 0};
    add(&arguments, "nbdkit");
    add(&arguments, "--unix"); /* a socket of its own, which goes with it; "-": one that nbdkit makes in /tmp */
    add(&arguments, make_socket_folder(folder) ? socket_path : "-");
    add(&arguments, "--readonly");
    add(&arguments, "--run");
    add(&arguments, command);
    add_plugin(&arguments, order->vault, point, order->disk, NULL, order->recovery_key);
    add(&arguments, "sha=true");
    add(&arguments, "with-parent=true");
    fflush(NULL); /* the child has copies of what is buffered */
    pid_t child = fork();
    if (child == 0) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
        become_nbdkit(&arguments);
        _exit(127);
    }
    rc = child > 0 ? wait_for(child, order->ret_status, err) : far_fail_errno(err, FAR_IO, errno, "start nbdkit");
    unlink(socket_path);
    rmdir(folder);
    return rc;
}

int far_vault_nbd_cli(int argc, char **argv, bool writable, bool progress, struct far_error *err)
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
    rc = rc == 0 && values[TLS] != NULL ? make_tls_folder(values[TLS], err) : rc;
    if (rc != 0) {
        return rc;
    }
    if (values[SOCKET] != NULL) {
        printf("disk '%s' of point %s, %llu bytes: nbd+unix:///?socket=%s\n", values[DISK], values[POINT], (unsigned long long)bytes,
               values[SOCKET]);
    } else {
        printf("disk '%s' of point %s, %llu bytes: %s://%s:%s\n", values[DISK], values[POINT], (unsigned long long)bytes,
               values[TLS] != NULL ? "nbds" : "nbd", values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1", values[PORT]);
    }
    run_nbdkit(values, writable, progress);
    return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "start nbdkit (Debian: apt-get install nbdkit)");
}
