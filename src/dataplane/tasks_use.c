/* Uses of a point on the node whose vault holds it: open, export, diff, copy, hydrate, list, get (docs/NBD.md, "From the cluster").
 *
 * Each is one of farshore-node's offline commands, run as a child (use_child.h): what kills it kills no node, and it needs nothing but the
 * vault's folder. Secrets of a keyed domain go to it in a file in memory, by descriptor. What is made gets its name when it is whole
 * (use_place.h); what is hydrated is the exception: it is used while it is made, and `TARGET.hydrating` beside it says that it is not
 * whole. */
#define _GNU_SOURCE
#include "dataplane/engine_local.h"
#include "dataplane/leaf_lanes.h"
#include "dataplane/use_child.h"
#include "dataplane/use_place.h"

#include "base/clock.h"
#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <unistd.h>

enum { ARGUMENTS_MAX = 32, READY_MS_MAX = 60000, SOCKET_PATH_MAX = 107, WRITE_PERCENT = 25 };

struct usage {
    struct far_attempt *attempt;
    const struct far_engine_use *use;
    struct far_engine_used used; /* as it is to be told */
    struct far_use_place place;
    const char *argv[ARGUMENTS_MAX + 1];
    size_t argc;
    int keys_fd;           /* -1: none */
    uint64_t end_ms;       /* monotonic; 0: none */
    bool is_late, is_over; /* why the child was ended: not ready in time; its time is over, or all is there */
    /* what is served */
    char uri[1100], pid_file[PATH_MAX], socket[PATH_MAX], tmp_dir[PATH_MAX], written[PATH_MAX];
    bool is_ready;
    uint64_t started_ms;
    /* hydrate, as the plugin says */
    uint64_t there, total, damaged, connections;
    bool was_used;   /* somebody was connected */
    bool is_stuck;   /* nothing more is written out, for the reason in error */
    FILE *ranges; /* diff; NULL: none */
    int rc;       /* of what is done with its lines */
    struct far_error error;
};

/* ---- what is told ---- */

struct far_engine_used *far_engine_used_ref(struct far_engine_used *used)
{
    if (used != NULL) {
        far_users_add(&used->users);
    }
    return used;
}

void far_engine_used_unref(struct far_engine_used *used)
{
    if (used != NULL && far_users_drop(&used->users)) {
        free(used);
    }
}

static struct far_engine_used *copy_used(const struct usage *usage)
{
    struct far_engine_used *used = malloc(sizeof *used);
    if (used != NULL) {
        *used = usage->used;
        used->users = 1;
    }
    return used;
}

/* At once, and with each report from now on. */
static void tell(struct usage *usage)
{
    struct far_attempt *attempt = usage->attempt;
    struct far_engine_used *used = copy_used(usage);
    if (used != NULL) {
        pthread_mutex_lock(&attempt->report_mutex);
        far_engine_used_unref(attempt->used);
        attempt->used = used;
        pthread_mutex_unlock(&attempt->report_mutex);
        far_attempt_report_running(attempt);
    }
}

/* ---- the command ---- */

static void add(struct usage *usage, const char *text)
{
    if (usage->argc < ARGUMENTS_MAX) {
        usage->argv[usage->argc++] = text;
    }
}

/* The value of an option is never taken for one: it stands behind its name. */
static void add_option(struct usage *usage, const char *name, const char *value)
{
    add(usage, name);
    add(usage, value);
}

static const char *number(struct usage *usage, uint64_t value)
{
    char *text = far_arena_alloc(&usage->attempt->arena, 24);
    if (text != NULL) {
        snprintf(text, 24, "%" PRIu64, value);
    }
    return text != NULL ? text : "0";
}

/* One line that far_vault_unlock_from() knows, in memory only. */
int far_use_keys(struct far_attempt *attempt, int *ret_fd, struct far_error *err)
{
    const struct far_domain_keys *keys = &attempt->order.domain;
    const struct far_domain *domain;
    char uuid[33], secret[65], key[65], recovery[65] = "-", line[512];
    *ret_fd = -1;
    if (!attempt->order.has_domain) {
        return 0;
    }
    int rc = far_attempt_domain(attempt, &domain, NULL, err); /* the vault's file has the newest generation then */
    *ret_fd = rc == 0 ? memfd_create("farshore-keys", MFD_CLOEXEC) : -1;
    if (rc != 0 || *ret_fd < 0) {
        return rc != 0 ? rc : far_fail_errno(err, FAR_LIMIT, errno, "pass the keys of a domain on");
    }
    far_hex_encode(keys->uuid, 16, uuid);
    far_hex_encode(keys->secret, 32, secret);
    far_hex_encode(keys->key, 32, key);
    if (keys->has_recovery_key) {
        far_hex_encode(keys->recovery_public, 32, recovery);
    }
    int len = snprintf(line, sizeof line, "%s%s %s %s %" PRIu32 " %s %s\n", FAR_DOMAIN_KEYS_LINE, uuid, secret, key, keys->generation,
                       recovery, keys->name);
    rc = far_file_pwrite(*ret_fd, line, (size_t)len, 0, "the keys of a domain", err);
    explicit_bzero(line, sizeof line);
    explicit_bzero(secret, sizeof secret);
    explicit_bzero(key, sizeof key);
    return rc;
}

static int begin_command(struct usage *usage, const char *command, struct far_error *err)
{
    const struct far_engine *engine = usage->attempt->engine;
    add(usage, engine->config.use_program);
    add(usage, "vault");
    add(usage, command);
    add_option(usage, "--vault", engine->config.vault_dir);
    int rc = far_use_keys(usage->attempt, &usage->keys_fd, err);
    if (rc == 0 && usage->keys_fd >= 0) {
        char *path = far_arena_alloc(&usage->attempt->arena, 40);
        if (path == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for a command");
        }
        snprintf(path, 40, "/proc/self/fd/%d", usage->keys_fd);
        add_option(usage, "--recovery-key", path);
    }
    return rc;
}

static void add_disk(struct usage *usage, const char *point_option, uint64_t point_id)
{
    add_option(usage, point_option, number(usage, point_id));
    add_option(usage, "--disk", usage->attempt->order.disk);
}

/* ---- while it runs ---- */

static bool goes_on(void *arg, int pid)
{
    struct usage *usage = arg;
    uint64_t now_ms = far_clock_monotonic_ms();
    (void)pid;
    if (far_attempt_stopped(usage->attempt) || usage->rc != 0) {
        return false;
    }
    if (usage->pid_file[0] != '\0' && !usage->is_ready) {
        usage->is_ready = access(usage->pid_file, F_OK) == 0;
        usage->is_late = !usage->is_ready && now_ms > usage->started_ms + READY_MS_MAX;
        if (usage->is_ready) {
            snprintf(usage->used.uri, sizeof usage->used.uri, "%s", usage->uri);
            tell(usage);
        }
    }
    bool is_hydrated = usage->use->operation == FAR_ENGINE_USE_HYDRATE, is_late = usage->end_ms == 0 || now_ms >= usage->end_ms;
    bool is_written = usage->total != 0 && usage->there + usage->damaged >= usage->total && usage->connections == 0;
    if (usage->is_stuck && usage->connections == 0) {
        usage->rc = usage->error.klass;
    }
    usage->is_over = is_hydrated ? is_written && usage->is_ready && (usage->was_used || is_late) : usage->end_ms != 0 && is_late;
    return !usage->is_late && !usage->is_over && usage->rc == 0;
}

static void on_progress(struct usage *usage, const char *line)
{
    uint64_t done, total;
    double percent;
    if (sscanf(line, "progress %" SCNu64 " %" SCNu64, &done, &total) == 2) {
        atomic_store(&usage->attempt->bytes_total, total);
        atomic_store(&usage->attempt->bytes_done, done < total ? done : total);
    } else if (sscanf(line, " (%lf/100%%)", &percent) == 1 && percent >= 0 && percent <= 100) { /* qemu-img */
        uint64_t size = atomic_load(&usage->attempt->bytes_total);
        atomic_store(&usage->attempt->bytes_done, (uint64_t)((double)size * percent / 100));
    }
}

static void on_range(struct usage *usage, const char *line)
{
    struct far_engine_used *used = &usage->used;
    uint64_t offset, length;
    if (sscanf(line, "%" SCNu64 " %" SCNu64, &offset, &length) != 2) {
        return;
    }
    bool is_before = used->range_count < usage->use->range_offset;
    if (!is_before && used->range_room < FAR_ENGINE_RANGES_MAX) {
        used->ranges[used->range_room++] = (struct far_engine_range){.offset = offset, .length = length};
    } else if (!is_before) {
        used->truncated = true;
    }
    used->range_count++;
    used->bytes += length;
    if (usage->ranges != NULL && fprintf(usage->ranges, "%s\n", line) < 0 && usage->rc == 0) {
        usage->rc = far_fail_errno(&usage->error, FAR_IO, errno, "write '%s'", usage->place.part);
    }
}

static void on_entry(struct usage *usage, const char *line)
{
    struct far_engine_used *used = &usage->used;
    size_t len = strlen(line) + 1;
    if (used->entry_count < FAR_ENGINE_ENTRIES_MAX && used->entry_bytes + len <= sizeof used->entries) {
        memcpy(used->entries + used->entry_bytes, line, len);
        used->entry_bytes += len;
        used->entry_count++;
    } else {
        used->truncated = true;
    }
}

/* "hydration there=N blocks=N damaged=N connections=N writes=N" */
static void on_hydration(struct usage *usage, const char *line)
{
    uint64_t there, blocks, damaged, connections, writes;
    const char *why = strncmp(line, "hydration of '", 14) == 0 ? strstr(line, "' stops: ") : NULL;
    if (why != NULL) { /* it goes on to be served as long as somebody uses it */
        usage->is_stuck = true;
        far_fail(&usage->error, FAR_IO, "%s", why + strlen("' stops: "));
    }
    if (sscanf(line, "hydration there=%" SCNu64 " blocks=%" SCNu64 " damaged=%" SCNu64 " connections=%" SCNu64 " writes=%" SCNu64, &there,
               &blocks, &damaged, &connections, &writes) == 5) {
        uint64_t size = usage->attempt->order.size_bytes, bytes = there * FAR_BLOCK_BYTES;
        usage->there = there;
        usage->total = blocks;
        usage->damaged = damaged;
        usage->connections = connections;
        usage->was_used = usage->was_used || connections > 0;
        usage->used.writes = writes;
        atomic_store(&usage->attempt->bytes_total, size);
        atomic_store(&usage->attempt->bytes_done, bytes < size ? bytes : size);
    }
}

/* "layer bytes=N max=N full=0|1" */
static void on_layer(struct usage *usage, const char *line)
{
    uint64_t bytes, most;
    int full;
    if (sscanf(line, "layer bytes=%" SCNu64 " max=%" SCNu64 " full=%d", &bytes, &most, &full) == 3) {
        usage->used.write_bytes = bytes;
        usage->used.write_bytes_max = most;
        usage->used.write_full = full != 0;
        if (usage->is_ready) {
            tell(usage);
        }
    }
}

static void on_line(void *arg, bool is_error, const char *line)
{
    struct usage *usage = arg;
    const char *copied = strstr(line, " copied, ");
    switch (usage->use->operation) {
    case FAR_ENGINE_USE_DIFF:
        if (!is_error) {
            on_range(usage, line);
        }
        break;
    case FAR_ENGINE_USE_LIST:
        if (!is_error) {
            on_entry(usage, line);
        }
        break;
    case FAR_ENGINE_USE_OPEN:
        on_layer(usage, line);
        break;
    case FAR_ENGINE_USE_HYDRATE:
        on_hydration(usage, line);
        break;
    default:
        if (!is_error) {
            on_progress(usage, line);
        }
        if (!is_error && usage->use->operation == FAR_ENGINE_USE_COPY && copied != NULL) {
            (void)sscanf(copied, " copied, %" SCNu64, &usage->used.bytes);
        }
        break;
    }
}

static int run_child(struct usage *usage, bool *ret_ended, struct far_error *err)
{
    usage->argv[usage->argc] = NULL;
    usage->started_ms = far_clock_monotonic_ms();
    struct far_use_child child = {
        .argv = usage->argv, .tmp_dir = usage->tmp_dir, .keep_fd = usage->keys_fd, .line = on_line, .goes_on = goes_on, .arg = usage};
    const struct far_engine_order *order = &usage->attempt->order;
    int rc = far_use_tmp_make(usage->attempt->engine->config.node_dir, order->job_id, order->task, usage->tmp_dir, err);
    rc = rc == 0 ? far_use_child_run(&child, ret_ended, err) : rc;
    far_use_tmp_remove(usage->tmp_dir);
    rc = far_attempt_stopped(usage->attempt) ? far_fail(err, FAR_CANCELED, "canceled") : rc;
    if (rc == 0 && usage->rc != 0) {
        *err = usage->error;
        rc = usage->rc;
    }
    return rc;
}

/* ---- what makes a file ---- */

static int resolve(struct usage *usage, enum far_use_kind kind, char ret_path[PATH_MAX], struct far_error *err)
{
    const struct far_engine *engine = usage->attempt->engine;
    int rc = far_use_resolve(engine->config.export_dir, usage->use->path, kind, (const char *const *)engine->own_dirs,
                             sizeof engine->own_dirs / sizeof engine->own_dirs[0], ret_path, err);
    if (rc == 0) {
        snprintf(usage->used.path, sizeof usage->used.path, "%.*s", (int)sizeof usage->used.path - 1, ret_path);
    }
    return rc;
}

/* A file of an earlier attempt is no other's. */
static int begin_file(struct usage *usage, struct far_error *err)
{
    const struct far_engine_order *order = &usage->attempt->order;
    char path[PATH_MAX];
    int rc = resolve(usage, FAR_USE_OWN_FILE, path, err);
    rc = rc == 0 ? far_use_place_begin(usage->attempt->engine->config.node_dir, order->job_id, order->task, path, &usage->place, err) : rc;
    return rc != 0 || usage->place.is_whole ? rc : resolve(usage, FAR_USE_NEW_FILE, path, err);
}

static int finish_file(struct usage *usage, struct far_error *err)
{
    struct stat st;
    int rc = usage->place.is_whole ? 0 : far_use_place_finish(&usage->place, err);
    if (rc == 0 && usage->use->operation != FAR_ENGINE_USE_DIFF && stat(usage->place.path, &st) == 0) {
        usage->used.bytes = (uint64_t)st.st_size;
    }
    return rc;
}

static int run_export(struct usage *usage, struct far_error *err)
{
    bool ended = false;
    int rc = begin_file(usage, err);
    if (rc == 0 && !usage->place.is_whole) {
        atomic_store(&usage->attempt->bytes_total, usage->attempt->order.size_bytes);
        rc = begin_command(usage, "export", err);
        add_disk(usage, "--point", usage->attempt->order.point_id);
        add_option(usage, "--format", usage->use->is_qcow2 ? "qcow2" : "raw");
        add_option(usage, "--out", usage->place.part);
        add(usage, "--progress");
        if (usage->use->other_point_id != 0) {
            add_option(usage, "--base", number(usage, usage->use->other_point_id));
            add_option(usage, "--backing", usage->use->backing);
        }
        rc = rc == 0 ? run_child(usage, &ended, err) : rc;
    }
    return rc == 0 ? finish_file(usage, err) : rc;
}

static int run_get(struct usage *usage, struct far_error *err)
{
    bool ended = false;
    int rc = begin_file(usage, err);
    if (rc == 0 && !usage->place.is_whole) {
        rc = begin_command(usage, "browse", err);
        add_disk(usage, "--point", usage->attempt->order.point_id);
        add_option(usage, "--get", usage->use->guest_path);
        add_option(usage, "--out", usage->place.part);
        rc = rc == 0 ? run_child(usage, &ended, err) : rc;
    }
    return rc == 0 ? finish_file(usage, err) : rc;
}

/* ---- what only tells ---- */

static int run_list(struct usage *usage, struct far_error *err)
{
    bool ended = false;
    int rc = begin_command(usage, "browse", err);
    add_disk(usage, "--point", usage->attempt->order.point_id);
    add_option(usage, "--list", usage->use->guest_path);
    return rc == 0 ? run_child(usage, &ended, err) : rc;
}

static int run_diff(struct usage *usage, struct far_error *err)
{
    bool ended = false, makes_file = usage->use->path[0] != '\0';
    int rc = makes_file ? begin_file(usage, err) : 0;
    if (rc == 0 && makes_file && !usage->place.is_whole) {
        int fd = open(usage->place.part, O_WRONLY | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
        usage->ranges = fd >= 0 ? fdopen(fd, "w") : NULL;
        rc = usage->ranges != NULL ? 0 : far_fail_errno(err, FAR_IO, errno, "create '%s'", usage->place.part);
    }
    rc = rc == 0 ? begin_command(usage, "diff", err) : rc;
    add_disk(usage, "--point", usage->attempt->order.point_id);
    add_option(usage, "--with", number(usage, usage->use->other_point_id));
    rc = rc == 0 ? run_child(usage, &ended, err) : rc;
    if (usage->ranges != NULL && fclose(usage->ranges) != 0 && rc == 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "write '%s'", usage->place.part);
    }
    return rc == 0 && makes_file ? finish_file(usage, err) : rc;
}

/* ---- a second vault ---- */

/* Killed anywhere, the next attempt goes on: what was copied stays, and the point is there when it is whole (vault_copy.h). */
static int run_copy(struct usage *usage, struct far_error *err)
{
    char path[PATH_MAX];
    bool ended = false;
    int rc = resolve(usage, FAR_USE_FOLDER, path, err);
    rc = rc == 0 ? begin_command(usage, "copy", err) : rc;
    add_option(usage, "--point", number(usage, usage->attempt->order.point_id));
    add_option(usage, "--to", path);
    add(usage, "--progress");
    return rc == 0 ? run_child(usage, &ended, err) : rc;
}

/* ---- what is served ---- */

static bool is_loopback(const char *address)
{
    return strcmp(address, "127.0.0.1") == 0 || strcmp(address, "::1") == 0 || strcmp(address, "localhost") == 0;
}

/* "ADDRESS:PORT", "[ADDRESS]:PORT"; the address without brackets. */
static bool split_address(const char *listen, char address[256], const char **ret_port)
{
    const char *colon = strrchr(listen, ':');
    size_t len = colon != NULL ? (size_t)(colon - listen) : 0;
    bool is_bracketed = len > 2 && listen[0] == '[' && colon[-1] == ']';
    if (len == 0 || len >= 256) {
        return false;
    }
    memcpy(address, listen + is_bracketed, len - 2 * is_bracketed);
    address[len - 2 * is_bracketed] = '\0';
    *ret_port = colon + 1;
    size_t digits = strspn(colon + 1, "0123456789");
    return digits > 0 && digits <= 5 && colon[1 + digits] == '\0' && atoi(colon + 1) > 0 && atoi(colon + 1) < 65536;
}

static int add_address(struct usage *usage, struct far_error *err)
{
    const struct far_engine_config *config = &usage->attempt->engine->config;
    char *address = far_arena_alloc(&usage->attempt->arena, 256);
    const char *port, *allowed = config->nbd_address != NULL ? config->nbd_address : "";
    if (address == NULL || !split_address(usage->use->listen, address, &port)) {
        return far_fail(err, FAR_INVALID, "'%s' is no place to listen at: ADDRESS:PORT", usage->use->listen);
    }
    bool is_near = is_loopback(address);
    if (!is_near && strcmp(address, allowed) != 0) {
        return far_fail(err, FAR_DENIED,
                        "this node opens points at loopback addresses only%s%s: nbd_address in its config names another one",
                        allowed[0] != '\0' ? " and at " : "", allowed);
    }
    add_option(usage, "--address", address);
    add_option(usage, "--port", port);
    if (!is_near) {
        add_option(usage, "--tls", config->node_dir);
    }
    snprintf(usage->uri, sizeof usage->uri, "%s://%s", is_near ? "nbd" : "nbds", usage->use->listen);
    return 0;
}

static int add_socket(struct usage *usage, const char *stem, struct far_error *err)
{
    snprintf(usage->socket, sizeof usage->socket, "%.*s.sock", PATH_MAX - 20, stem);
    if (strlen(usage->socket) > SOCKET_PATH_MAX) {
        return far_fail(err, FAR_INVALID, "the folder of this node has too long a name for a socket in it; name an address to listen at");
    }
    unlink(usage->socket); /* of an attempt that ended with its process */
    add_option(usage, "--socket", usage->socket);
    snprintf(usage->uri, sizeof usage->uri, "nbd+unix:///?socket=%.*s", SOCKET_PATH_MAX, usage->socket);
    return 0;
}

static int begin_service(struct usage *usage, struct far_error *err)
{
    const struct far_engine_order *order = &usage->attempt->order;
    char uses[PATH_MAX], stem[PATH_MAX];
    int rc = begin_command(usage, "open", err);
    rc = rc == 0 ? far_use_folder(usage->attempt->engine->config.node_dir, uses, err) : rc;
    if (rc != 0) {
        return rc;
    }
    snprintf(stem, sizeof stem, "%.*s/%" PRIu64 "-%" PRIu64, PATH_MAX - 60, uses, order->job_id, order->task);
    snprintf(usage->pid_file, sizeof usage->pid_file, "%.*s.pid", PATH_MAX - 20, stem);
    unlink(usage->pid_file);
    add_disk(usage, "--point", order->point_id);
    add_option(usage, "--pidfile", usage->pid_file);
    usage->end_ms = usage->use->duration_s != 0 ? far_clock_monotonic_ms() + usage->use->duration_s * 1000 : 0;
    return usage->use->listen[0] != '\0' ? add_address(usage, err) : add_socket(usage, stem, err);
}

static int end_service(struct usage *usage, int rc, struct far_error *err)
{
    unlink(usage->pid_file);
    if (usage->socket[0] != '\0') {
        unlink(usage->socket);
    }
    usage->used.uri[0] = '\0';
    if (rc == 0 && usage->is_late) {
        return far_fail(err, FAR_TIMEOUT, "nbdkit was not ready within %d s", READY_MS_MAX / 1000);
    }
    return rc == 0 && !usage->is_over ? far_fail(err, FAR_IO, "what served the disk ended by itself") : rc;
}

static int run_open(struct usage *usage, struct far_error *err)
{
    bool ended = false;
    int rc = begin_service(usage, err);
    if (usage->use->writable) {
        uint32_t percent = usage->attempt->engine->config.nbd_write_percent;
        add(usage, "--writable");
        add(usage, "--progress");
        add_option(usage, "--write-percent", number(usage, percent != 0 ? percent : WRITE_PERCENT));
    }
    if (usage->use->writable && usage->use->write_bytes_max != 0) {
        add_option(usage, "--write-max", number(usage, usage->use->write_bytes_max));
    }
    rc = rc == 0 ? run_child(usage, &ended, err) : rc;
    return end_service(usage, rc, err);
}

/* ---- instant recovery ---- */

static int read_leaf(int fd, const char *path, uint64_t size, uint64_t block, uint8_t *bytes, struct far_hash256 *ret_leaf,
                     struct far_error *err)
{
    uint64_t at = block * FAR_BLOCK_BYTES, rest = size - at;
    size_t len = rest < FAR_BLOCK_BYTES ? (size_t)rest : FAR_BLOCK_BYTES;
    int rc = far_file_pread(fd, bytes, len, at, path, err);
    memset(bytes + len, 0, FAR_BLOCK_BYTES - len);
    if (rc == 0 && far_block_is_zero(bytes, FAR_BLOCK_BYTES)) {
        *ret_leaf = *far_zero_leaf();
    } else if (rc == 0) {
        const uint8_t *blocks[1] = {bytes};
        far_block_leaves(blocks, 1, ret_leaf);
    }
    return rc;
}

/* Read back from where it was written; the core compares the root with what was proven. */
static int prove(struct usage *usage, struct far_engine_report *result, struct far_error *err)
{
    uint64_t size = usage->attempt->order.size_bytes, blocks = far_map_block_count(size);
    const char *path = usage->used.path;
    struct far_map_stream *map = malloc(sizeof *map);
    uint8_t *bytes = malloc(FAR_BLOCK_BYTES);
    struct far_hash256 leaf, root;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = map == NULL || bytes == NULL ? far_fail(err, FAR_LIMIT, "no memory to prove a disk")
             : fd < 0                     ? far_fail_errno(err, FAR_IO, errno, "open '%s' to read it back", path)
                                          : 0;
    if (rc == 0) {
        (void)posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
        far_map_stream_init(map, size);
    }
    for (uint64_t i = 0; rc == 0 && i < blocks; i++) {
        rc = read_leaf(fd, path, size, i, bytes, &leaf, err);
        rc = rc == 0 ? far_attempt_check(usage->attempt, err) : rc;
        if (rc == 0) {
            far_map_stream_add(map, &leaf);
        }
    }
    if (rc == 0) {
        far_map_stream_root(map, &root);
        memcpy(result->root, root.bytes, sizeof result->root);
        result->has_root = true;
    }
    if (fd >= 0) {
        close(fd);
    }
    free(map);
    free(bytes);
    return rc;
}

/* Of each disk there is one order on this node: how it booted the last time. */
static int add_order(struct usage *usage, struct far_error *err)
{
    char uses[PATH_MAX], *path = far_arena_alloc(&usage->attempt->arena, PATH_MAX);
    int rc = path != NULL ? far_use_folder(usage->attempt->engine->config.node_dir, uses, err)
                          : far_fail(err, FAR_LIMIT, "no memory for a command");
    if (rc == 0) {
        snprintf(path, PATH_MAX, "%.*s/disk-%" PRIu64 ".order", PATH_MAX - 60, uses, usage->attempt->order.disk_id);
        add_option(usage, "--order", path);
    }
    return rc;
}

/* Is it whole already? An earlier attempt may have ended after that. What was there before any attempt of this task is no disk of it. */
static int look_at_target(struct usage *usage, const char *path, bool *ret_is_whole, struct far_error *err)
{
    const struct far_engine_order *order = &usage->attempt->order;
    const char *node_dir = usage->attempt->engine->config.node_dir;
    char beside[PATH_MAX + 16];
    struct stat st;
    bool is_there = lstat(path, &st) == 0;
    snprintf(beside, sizeof beside, "%s.hydrating", path);
    bool is_begun = access(beside, F_OK) == 0;
    bool is_resumed = false;
    int rc = far_use_mark(node_dir, order->job_id, order->task, path, &is_resumed, usage->written, err);
    if (rc == 0 && is_there && !is_begun && !is_resumed) {
        far_use_settle(node_dir, order->job_id, order->task); /* what is there is none of it */
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", path);
    }
    *ret_is_whole = rc == 0 && is_there && !is_begun && (uint64_t)st.st_size == order->size_bytes;
    return rc;
}

static int hydrate(struct usage *usage, const char *path, struct far_error *err)
{
    bool ended = false;
    int rc = begin_service(usage, err);
    rc = rc == 0 ? add_order(usage, err) : rc;
    add_option(usage, "--hydrate", path);
    add_option(usage, "--written", usage->written);
    add(usage, "--progress");
    rc = rc == 0 ? run_child(usage, &ended, err) : rc;
    rc = end_service(usage, rc, err);
    if (rc == 0 && usage->damaged > 0) {
        rc = far_fail(err, FAR_CORRUPT, "%" PRIu64 " blocks are damaged in the vault and missing in '%s'", usage->damaged, path);
    }
    return rc;
}

/* Read back; the core compares it with the point. Not if somebody wrote, in this attempt or an earlier one: that is known, whoever died. */
static int check_hydrated(struct usage *usage, struct far_engine_report *result, struct far_error *err)
{
    if (usage->used.writes == 0 && access(usage->written, F_OK) == 0) {
        usage->used.writes = 1; /* at least */
    }
    return usage->used.writes == 0 ? prove(usage, result, err) : 0;
}

static int run_hydrate(struct usage *usage, struct far_engine_report *result, struct far_error *err)
{
    char path[PATH_MAX];
    bool is_whole = false;
    int rc = resolve(usage, FAR_USE_OWN_FILE, path, err);
    rc = rc == 0 ? look_at_target(usage, path, &is_whole, err) : rc;
    rc = rc == 0 && !is_whole ? hydrate(usage, path, err) : rc;
    return rc == 0 ? check_hydrated(usage, result, err) : rc;
}

/* ---- all of them ---- */

static int take_slot(struct far_engine *engine, struct far_error *err)
{
    pthread_mutex_lock(&engine->mutex);
    bool has_room = engine->uses < FAR_ENGINE_USES_MAX;
    engine->uses += has_room;
    pthread_mutex_unlock(&engine->mutex);
    return has_room ? 0 : far_fail(err, FAR_BUSY, "this node uses %d points already", FAR_ENGINE_USES_MAX);
}

static int dispatch(struct usage *usage, struct far_engine_report *result, struct far_error *err)
{
    switch (usage->use->operation) {
    case FAR_ENGINE_USE_OPEN:
        return run_open(usage, err);
    case FAR_ENGINE_USE_EXPORT:
        return run_export(usage, err);
    case FAR_ENGINE_USE_DIFF:
        return run_diff(usage, err);
    case FAR_ENGINE_USE_COPY:
        return run_copy(usage, err);
    case FAR_ENGINE_USE_HYDRATE:
        return run_hydrate(usage, result, err);
    case FAR_ENGINE_USE_LIST:
        return run_list(usage, err);
    case FAR_ENGINE_USE_GET:
        return run_get(usage, err);
    }
    return far_fail(err, FAR_INVALID, "an order to use a point in an unknown way");
}

int far_run_use(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct far_engine *engine = attempt->engine;
    if (engine->config.use_program == NULL || engine->config.node_dir == NULL) {
        return far_fail(err, FAR_INVALID, "this node uses no points");
    }
    struct usage *usage = calloc(1, sizeof *usage);
    int rc = usage != NULL ? take_slot(engine, err) : far_fail(err, FAR_LIMIT, "no memory to use a point");
    if (rc == 0) {
        usage->attempt = attempt;
        usage->use = &attempt->order.use;
        usage->keys_fd = -1;
        rc = dispatch(usage, result, err);
        if (rc == 0) {
            atomic_store(&attempt->bytes_done, atomic_load(&attempt->bytes_total));
            result->used = copy_used(usage);
        }
        far_use_place_end(&usage->place);
        atomic_store(&engine->keeps, true); /* before the end of it is told */
        if (usage->keys_fd >= 0) {
            close(usage->keys_fd);
        }
        pthread_mutex_lock(&engine->mutex);
        engine->uses--;
        pthread_mutex_unlock(&engine->mutex);
    }
    free(usage);
    return rc;
}
