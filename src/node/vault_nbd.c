/* farshore-node vault open: a disk of a point as an NBD disk, served by nbdkit with our plugin until it is stopped.
 *
 *   vault open --vault DIR --point ID --disk NAME (--socket PATH | --port NUMBER [--address ADDRESS [--tls NODE-DIR]]) [--cache SIZE]
 *              [--recovery-key FILE] [--pidfile FILE]
 *              [--writable [--write-max SIZE | --write-percent N] | --hydrate PATH [--order FILE] [--written FILE] [--progress]]
 *
 * nbdkit is a child, which says by the plugin when it serves or what was wrong; only then the URI is printed. It ends with this process,
 * and when it has ended its socket goes. With --pidfile, as a node starts it, this process becomes nbdkit itself.
 * With --hydrate the disk comes to PATH while it is used, and what is written stays there (hydrate.h).
 * What is written with --writable is kept in a temporary file, of at most --write-max bytes (a quarter of what is free in TMPDIR, or
 * --write-percent), and goes when nbdkit ends; the point never changes. A port listens on loopback only, unless --tls names the folder of a
 * node: then nothing is said without TLS, and only to who shows a certificate of the cluster's CA. FARSHORE_NBDKIT_PLUGIN: the
 * plugin's file, where it is not installed. */
#include "base/child.h"
#include "base/file.h"
#include "dataplane/opened.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <unistd.h>

static const char *const names[] = {"--vault",        "--point",   "--disk",  "--socket", "--port", "--cache",
                                    "--recovery-key", "--hydrate", "--order", "--address", "--tls",  "--pidfile", "--written",
                                    "--write-max",    "--write-percent", NULL};
enum value {
    VAULT,
    POINT,
    DISK,
    SOCKET,
    PORT,
    CACHE,
    RECOVERY_KEY,
    HYDRATE,
    ORDER,
    ADDRESS,
    TLS,
    PIDFILE,
    WRITTEN,
    WRITE_MAX,
    WRITE_PERCENT,
    VALUES
};

enum { ARGUMENTS_MAX = 40, TEXT_MAX = 4300, SOCKET_PATH_MAX = 107, LOOK_MS = 10, ENDS_MS = 1000 };

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
    if ((values[ORDER] != NULL || values[WRITTEN] != NULL) && values[HYDRATE] == NULL) {
        return far_fail(err, FAR_INVALID, "each of --order and --written goes with --hydrate");
    }
    if (values[WRITE_PERCENT] != NULL && (atoi(values[WRITE_PERCENT]) < 1 || atoi(values[WRITE_PERCENT]) > 100)) {
        return far_fail(err, FAR_INVALID, "'%s' is no percentage: 1 to 100", values[WRITE_PERCENT]);
    }
    if (values[PORT] == NULL && (values[ADDRESS] != NULL || values[TLS] != NULL)) {
        return far_fail(err, FAR_INVALID, "--address and --tls go with --port");
    }
    const char *address = values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1";
    bool is_near = strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
    if (!is_near && values[TLS] == NULL) {
        return far_fail(err, FAR_INVALID, "everybody who reaches '%s' could read the disk: --tls NODE-DIR is needed for it", address);
    }
    if (values[SOCKET] != NULL && strlen(values[SOCKET]) > SOCKET_PATH_MAX) {
        return far_fail(err, FAR_INVALID, "'%s' is too long for a socket: at most %d bytes", values[SOCKET], SOCKET_PATH_MAX);
    }
    return 0;
}

/* ---- the socket ---- */

static bool is_listened_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(address.sun_path, sizeof address.sun_path, "%s", path);
    bool is_refused = fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0 && errno == ECONNREFUSED;
    if (fd >= 0) {
        close(fd);
    }
    return !is_refused;
}

/* One that a killed server left makes room; the server may be dying this moment, with who started it. */
static int make_room_for_socket(const char *path, struct far_error *err)
{
    char folder[SOCKET_PATH_MAX + 1];
    struct stat stat;
    if (lstat(path, &stat) == 0) {
        for (int i = 0; S_ISSOCK(stat.st_mode) && i < ENDS_MS / LOOK_MS && is_listened_to(path); i++) {
            usleep(LOOK_MS * 1000);
        }
        if (!S_ISSOCK(stat.st_mode) || is_listened_to(path)) {
            return far_fail(err, FAR_CONFLICT, "'%s' is there already", path);
        }
        return unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    const char *slash = strrchr(path, '/');
    snprintf(folder, sizeof folder, "%.*s", slash != NULL ? (int)(slash - path) + 1 : 1, slash != NULL ? path : ".");
    return access(folder, F_OK) == 0 ? 0 : far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "make '%s'", path);
}

struct arguments {
    const char *list[ARGUMENTS_MAX];
    size_t count;
    char texts[16][TEXT_MAX];
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
static void add_plugin(struct arguments *arguments, const char *told_fd, const char *vault, const char *point, const char *disk,
                       const char *cache, const char *recovery_key)
{
    const char *plugin = getenv("FARSHORE_NBDKIT_PLUGIN");
    add(arguments, "--filter=readahead");
    add(arguments, plugin != NULL ? plugin : "farshore");
    if (told_fd != NULL) { /* first: also what is wrong with the others is told */
        add_value(arguments, "told-to", told_fd);
    }
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

static struct arguments command_line;

static void list_server_arguments(const char *const *values)
{
    add(&command_line, "nbdkit");
    add(&command_line, "--foreground");
    if (values[PIDFILE] != NULL) { /* there when it listens */
        add(&command_line, "--pidfile");
        add(&command_line, values[PIDFILE]);
    }
    if (values[TLS] != NULL) {
        add(&command_line, "--tls=require");
        add(&command_line, "--tls-verify-peer");
        add(&command_line, "--tls-certificates");
        add(&command_line, tls_folder);
    }
    if (values[SOCKET] != NULL) {
        add(&command_line, "--unix");
        add(&command_line, values[SOCKET]);
    } else {
        add(&command_line, "--ipaddr");
        add(&command_line, values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1");
        add(&command_line, "--port");
        add(&command_line, values[PORT]);
    }
}

static void list_arguments(const char *const *values, bool writable, bool progress, int told_fd)
{
    char fd[12];
    command_line = (struct arguments){.count = 0};
    list_server_arguments(values);
    if (values[HYDRATE] == NULL && !writable) { /* else the plugin takes what is written */
        add(&command_line, "--readonly");
    }
    snprintf(fd, sizeof fd, "%d", told_fd);
    add_plugin(&command_line, told_fd >= 0 ? fd : NULL, values[VAULT], values[POINT], values[DISK], values[CACHE], values[RECOVERY_KEY]);
    if (values[HYDRATE] != NULL) {
        add_value(&command_line, "hydrate", values[HYDRATE]);
    }
    if (values[ORDER] != NULL) {
        add_value(&command_line, "order", values[ORDER]);
    }
    if (values[WRITTEN] != NULL) {
        add_value(&command_line, "written", values[WRITTEN]);
    }
    if (writable && values[HYDRATE] == NULL) {
        add(&command_line, "writable=true");
        if (values[WRITE_MAX] != NULL) {
            add_value(&command_line, "write-max", values[WRITE_MAX]);
        }
        if (values[WRITE_PERCENT] != NULL) {
            add_value(&command_line, "write-percent", values[WRITE_PERCENT]);
        }
    }
    add(&command_line, "with-parent=true");
    if (progress) {
        add(&command_line, "progress=true");
    }
}

/* ---- for a command of ours ----
 *
 * Not by nbdkit's --run: there a process that only waits for the command has the socket, too, and whoever connects to it after the server
 * died waits for an answer for ever. */

static char socket_path[SOCKET_PATH_MAX + 1], ready_path[SOCKET_PATH_MAX + 8];

static int make_folder_in(const char *base, char folder[TEXT_MAX])
{
    snprintf(folder, TEXT_MAX, "%.4000s/nbd-XXXXXX", base);
    return strlen(folder) + sizeof "/s" <= sizeof socket_path && mkdtemp(folder) != NULL ? 0 : FAR_IO;
}

/* In TMPDIR, where who started this looks after what a kill leaves, unless there it would have too long a name. */
static int make_socket_folder(char folder[TEXT_MAX], struct far_error *err)
{
    const char *base = getenv("TMPDIR");
    if (make_folder_in(base != NULL ? base : "/tmp", folder) != 0 && make_folder_in("/tmp", folder) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "make a folder for a socket");
    }
    snprintf(socket_path, sizeof socket_path, "%.*s/s", SOCKET_PATH_MAX - 2, folder);
    snprintf(ready_path, sizeof ready_path, "%.*s/ready", SOCKET_PATH_MAX - 2, folder);
    return 0;
}

/* "" in text: it ended well. */
static void describe_end(int status, char text[40])
{
    text[0] = '\0';
    if (!WIFEXITED(status) || WEXITSTATUS(status) != 0) {
        bool is_signal = WIFSIGNALED(status);
        snprintf(text, 40, "%s %d", is_signal ? "signal" : "status", is_signal ? WTERMSIG(status) : WEXITSTATUS(status));
    }
}

static int wait_for(pid_t child, int *ret_status, struct far_error *err)
{
    while (waitpid(child, ret_status, 0) < 0) {
        if (errno != EINTR) {
            return far_fail_errno(err, FAR_IO, errno, "wait for a child process");
        }
    }
    return 0;
}

/* Until it listens. */
static int wait_until_ready(pid_t server, struct far_error *err)
{
    int status = 0;
    char how[40];
    while (access(ready_path, F_OK) != 0) {
        if (waitpid(server, &status, WNOHANG) == server) {
            describe_end(status, how);
            return WIFEXITED(status) && WEXITSTATUS(status) == 127
                       ? far_fail(err, FAR_NOT_FOUND, "nbdkit cannot be started (Debian: apt-get install nbdkit)")
                       : far_fail(err, FAR_IO, "nbdkit failed, see above (%s)", how);
        }
        usleep(LOOK_MS * 1000);
    }
    return 0;
}

/* A child ends with this process: the server at once, though somebody is connected. */
static pid_t start_server(struct arguments *arguments, struct far_error *err)
{
    fflush(NULL); /* the child has copies of what is buffered */
    pid_t parent = getpid(), server = fork();
    if (server == 0) {
        far_child_end_with(parent);
        become_nbdkit(arguments);
        _exit(127);
    }
    if (server < 0) {
        far_fail_errno(err, FAR_IO, errno, "start nbdkit");
    }
    return server;
}

static int run_command(const char *command, int *ret_status, struct far_error *err)
{
    char uri[SOCKET_PATH_MAX + 40];
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s", socket_path);
    pid_t parent = getpid(), child = fork();
    if (child == 0) {
        far_child_end_with(parent);
        setenv("uri", uri, 1);
        execl("/bin/sh", "sh", "-c", command, (char *)NULL);
        _exit(127);
    }
    return child > 0 ? wait_for(child, ret_status, err) : far_fail_errno(err, FAR_IO, errno, "start a command");
}

/* The server has no more to do. Did it last so long? */
static bool end_server(pid_t server)
{
    int status = 0;
    bool lasted = waitpid(server, &status, WNOHANG) == 0;
    if (lasted) {
        kill(server, SIGKILL);
        (void)wait_for(server, &status, NULL);
    }
    return lasted;
}

static int serve(const struct far_nbd_order *order, struct arguments *arguments, const char *command, struct far_error *err)
{
    int status = 0;
    char how[40];
    pid_t server = start_server(arguments, err);
    if (server < 0) {
        return FAR_IO;
    }
    int rc = wait_until_ready(server, err);
    if (rc != 0) {
        return rc;
    }
    rc = run_command(command, &status, err);
    bool lasted = end_server(server);
    describe_end(status, how);
    if (rc == 0 && !lasted && how[0] != '\0') {
        return far_fail(err, FAR_IO, "nbdkit died under what reads from it");
    }
    if (rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return far_fail(err, FAR_NOT_FOUND, "the command that reads from nbdkit cannot be started");
    }
    if (rc == 0 && order->ret_status != NULL && WIFEXITED(status)) {
        *order->ret_status = WEXITSTATUS(status);
        return 0;
    }
    return rc == 0 && how[0] != '\0' ? far_fail(err, FAR_IO, "what reads from nbdkit failed, see above (%s)", how) : rc;
}

int far_vault_nbd_run(const struct far_nbd_order *order, const char *command, struct far_error *err)
{
    const char *values[VALUES] = {[VAULT] = order->vault, [DISK] = order->disk, [RECOVERY_KEY] = order->recovery_key};
    char point[24], folder[TEXT_MAX];
    uint64_t bytes;
    int rc = try_to_open(values, order->point, &bytes, err);
    rc = rc == 0 ? make_socket_folder(folder, err) : rc;
    if (rc != 0) {
        return rc;
    }
    snprintf(point, sizeof point, "%llu", (unsigned long long)order->point);
    command_line = (struct arguments){.count = 0};
    add(&command_line, "nbdkit");
    add(&command_line, "--foreground");
    add(&command_line, "--pidfile"); /* there when it listens */
    add(&command_line, ready_path);
    add(&command_line, "--unix");
    add(&command_line, socket_path);
    add(&command_line, "--readonly");
    add_plugin(&command_line, NULL, order->vault, point, order->disk, NULL, order->recovery_key);
    add(&command_line, "sha=true");
    add(&command_line, "with-parent=true");
    rc = serve(order, &command_line, command, err);
    unlink(socket_path);
    unlink(ready_path);
    rmdir(folder);
    return rc;
}

/* ---- for whoever typed it ---- */

static volatile sig_atomic_t served_by;

static void pass_on(int signal)
{
    if (served_by > 0) {
        kill((pid_t)served_by, signal);
    }
}

static void print_uri(const char *const *values, uint64_t bytes)
{
    printf("disk '%s' of point %s, %llu bytes: ", values[DISK], values[POINT], (unsigned long long)bytes);
    if (values[SOCKET] != NULL) {
        printf("nbd+unix:///?socket=%s\n", values[SOCKET]);
    } else {
        printf("%s://%s:%s\n", values[TLS] != NULL ? "nbds" : "nbd", values[ADDRESS] != NULL ? values[ADDRESS] : "127.0.0.1",
               values[PORT]);
    }
    fflush(stdout);
}

/* What the plugin says of the start: true if it serves; else *ret_class, FAR_IO where nothing was said. */
static bool read_start(int fd, int *ret_class)
{
    char text[16] = "";
    ssize_t n;
    while ((n = read(fd, text, sizeof text - 1)) < 0 && errno == EINTR) {
    }
    int klass = n > 0 ? atoi(text) : FAR_IO;
    *ret_class = klass;
    return n > 0 && klass == 0;
}

static int serve_until_stopped(const char *const *values, uint64_t bytes, int told[2], struct far_error *err)
{
    struct sigaction action = {.sa_handler = pass_on};
    int status = 0, klass;
    char how[40];
    pid_t server = start_server(&command_line, err);
    close(told[1]);
    if (server < 0) {
        return FAR_IO;
    }
    served_by = server;
    sigaction(SIGTERM, &action, NULL);
    sigaction(SIGINT, &action, NULL);
    sigaction(SIGHUP, &action, NULL);
    bool serves = read_start(told[0], &klass);
    if (serves) {
        print_uri(values, bytes);
    }
    int rc = wait_for(server, &status, err);
    served_by = 0;
    describe_end(status, how);
    if (rc == 0 && WIFEXITED(status) && WEXITSTATUS(status) == 127) {
        return far_fail(err, FAR_NOT_FOUND, "nbdkit cannot be started (Debian: apt-get install nbdkit)");
    }
    if (rc == 0 && how[0] != '\0') {
        return far_fail(err, serves ? FAR_IO : (enum far_class)klass, "nbdkit failed, see above (%s)", how);
    }
    return rc;
}

static int serve_disk(const char *const *values, uint64_t bytes, bool writable, bool progress, struct far_error *err)
{
    int told[2];
    int rc = values[SOCKET] != NULL ? make_room_for_socket(values[SOCKET], err) : 0;
    if (rc == 0 && values[PIDFILE] != NULL) {
        print_uri(values, bytes);
        list_arguments(values, writable, progress, -1);
        become_nbdkit(&command_line);
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "start nbdkit (Debian: apt-get install nbdkit)");
    }
    if (rc == 0 && (pipe(told) != 0 || fcntl(told[0], F_SETFD, FD_CLOEXEC) != 0)) {
        rc = far_fail_errno(err, FAR_IO, errno, "make a pipe");
    }
    if (rc != 0) {
        return rc;
    }
    list_arguments(values, writable, progress, told[1]);
    rc = serve_until_stopped(values, bytes, told, err);
    close(told[0]);
    if (values[SOCKET] != NULL && !is_listened_to(values[SOCKET])) {
        unlink(values[SOCKET]);
    }
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
    return serve_disk(values, bytes, writable, progress, err);
}
