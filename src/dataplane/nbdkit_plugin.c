/* nbdkit-farshore-plugin: any disk of any point of a vault as an NBD disk, at once.
 *
 *   nbdkit farshore vault=DIR point=ID disk=NAME [cache=SIZE] [sha=true] [recovery-key=FILE] [hydrate=PATH [order=FILE] [written=FILE]
 *          [progress=true]]
 *
 * Read-only, as a point is; with writable=true what is written goes to a layer that is gone when it ends, and is bounded (layer.h). Or it
 * is hydrated: what is written goes to PATH, where the rest of the disk comes meanwhile (hydrate.h). Read-ahead is nbdkit's readahead
 * filter (docs/NBD.md). A block that is damaged is an I/O error there and a line in nbdkit's log that names it. */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "dataplane/hydrate.h"
#include "dataplane/layer.h"

#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/prctl.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

static char *vault_dir, *key_file, *target, *order, *written;
static const char *disk;
static uint64_t point_id;
static struct far_opened_options options;
static struct far_opened *opened; /* one for all connections: they share the cache */
static struct far_hydrate *hydrate; /* NULL: the point as it is */
static struct far_layer *layer;     /* the same; of the two there is one at most */
static bool is_writable;
static uint64_t write_bytes_max; /* 0: write_percent of what is free */
static unsigned write_percent = 25;
static bool ends_with_parent;       /* at once */
static bool tells_progress;         /* a line for each change, for the node that runs this */
static _Atomic uint64_t connections, writes, there_now, blocks_now, damaged_now;

static int told_fd = -1; /* told-to=FD: who started this reads there how the start went: ready, or the class of what was wrong */

static void tell_start(int klass)
{
    if (told_fd >= 0) {
        (void)!dprintf(told_fd, "%d\n", klass);
    }
}

static void say(const struct far_error *error)
{
    tell_start(error->klass);
    nbdkit_error("%s", error->message);
    nbdkit_set_error(error->klass == FAR_INVALID ? EINVAL : error->klass == FAR_LIMIT ? ENOSPC : EIO);
}

static int take_path(char **path, const char *value)
{
    free(*path);
    *path = nbdkit_absolute_path(value);
    return *path != NULL ? 0 : -1;
}

static int take_bool(bool *flag, const char *value)
{
    int on = nbdkit_parse_bool(value);
    *flag = on > 0;
    return on >= 0 ? 0 : -1;
}

/* A size of at least least, or 0 where that is allowed. */
static int take_size(uint64_t *size, const char *key, const char *value, int64_t least)
{
    int64_t parsed = nbdkit_parse_size(value);
    if (parsed >= 0 && parsed < least) {
        nbdkit_error("%s=%s: at least %lld is needed", key, value, (long long)least);
        return -1;
    }
    *size = parsed > 0 ? (uint64_t)parsed : 0;
    return parsed >= 0 ? 0 : -1;
}

static int take_paths_and_flags(const char *key, const char *value, bool *ret_known)
{
    const struct {
        const char *key;
        char **path;
    } paths[] = {{"vault", &vault_dir}, {"hydrate", &target}, {"order", &order}, {"written", &written}};
    const struct {
        const char *key;
        bool *flag;
    } flags[] = {
        {"with-parent", &ends_with_parent}, {"progress", &tells_progress}, {"writable", &is_writable}, {"sha", &options.check_sha}};
    *ret_known = true;
    for (size_t i = 0; i < sizeof paths / sizeof paths[0]; i++) {
        if (strcmp(key, paths[i].key) == 0) {
            return take_path(paths[i].path, value);
        }
    }
    for (size_t i = 0; i < sizeof flags / sizeof flags[0]; i++) {
        if (strcmp(key, flags[i].key) == 0) {
            return take_bool(flags[i].flag, value);
        }
    }
    *ret_known = false;
    return 0;
}

static int take(const char *key, const char *value)
{
    bool is_known;
    int rc = take_paths_and_flags(key, value, &is_known);
    if (is_known) {
        return rc;
    }
    if (strcmp(key, "point") == 0) {
        return nbdkit_parse_uint64_t("point", value, &point_id);
    }
    if (strcmp(key, "disk") == 0) {
        disk = value; /* nbdkit keeps it */
        return 0;
    }
    if (strcmp(key, "recovery-key") == 0) { /* a file: what stands on a command line, everybody on the machine may read */
        rc = take_path(&key_file, value);
        options.recovery_key_file = key_file;
        return rc;
    }
    if (strcmp(key, "cache") == 0) {
        return take_size(&options.cache_bytes_max, key, value, 1 << 20);
    }
    if (strcmp(key, "write-max") == 0) {
        return take_size(&write_bytes_max, key, value, 0);
    }
    if (strcmp(key, "write-percent") == 0) {
        return nbdkit_parse_unsigned("write-percent", value, &write_percent);
    }
    if (strcmp(key, "told-to") == 0) {
        return nbdkit_parse_int("told-to", value, &told_fd);
    }
    nbdkit_error("unknown parameter '%s'", key);
    return -1;
}

static int plugin_config(const char *key, const char *value)
{
    int rc = take(key, value);
    if (rc != 0) {
        tell_start(FAR_INVALID);
    }
    return rc;
}

/* nbdkit asks for SIGTERM itself, after which it waits for every client. Before and after the fork: a child does not inherit it. */
static void end_with_parent(void)
{
    if (ends_with_parent) {
        (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    }
}

static int plugin_get_ready(void)
{
    end_with_parent();
    return 0;
}

static int plugin_config_complete(void)
{
    if (vault_dir == NULL || point_id == 0 || disk == NULL) {
        nbdkit_error("vault=DIR, point=ID and disk=NAME are needed (farshore-node vault list tells them)");
        return -1;
    }
    return 0;
}

/* One line, one call: several threads tell. */
static void tell_state(void)
{
    if (tells_progress && atomic_load(&blocks_now) != 0) {
        fprintf(stderr, "hydration there=%llu blocks=%llu damaged=%llu connections=%llu writes=%llu\n",
                (unsigned long long)atomic_load(&there_now), (unsigned long long)atomic_load(&blocks_now),
                (unsigned long long)atomic_load(&damaged_now), (unsigned long long)atomic_load(&connections),
                (unsigned long long)atomic_load(&writes));
    }
}

static void told(void *arg, uint64_t there, uint64_t blocks, uint64_t damaged)
{
    static uint64_t last = 0;
    uint64_t percent = there * 100 / blocks;
    (void)arg;
    atomic_store(&there_now, there);
    atomic_store(&damaged_now, damaged);
    atomic_store(&blocks_now, blocks);
    tell_state();
    if (damaged > 0 && percent == last) {
        fprintf(stderr, "hydration of '%s': %llu blocks are damaged in the vault, and missing\n", target, (unsigned long long)damaged);
    }
    if (percent / 10 != last / 10 || percent == 100) {
        fprintf(stderr, "hydration of '%s': %llu %%\n", target, (unsigned long long)percent);
    }
    last = percent;
}

/* A line at the beginning, whenever another sixteenth is taken, and when the first write is refused. */
static void tell_layer(void)
{
    static _Atomic uint64_t told_state = UINT64_MAX;
    struct far_layer_state state;
    if (layer == NULL || !tells_progress) {
        return;
    }
    far_layer_state(layer, &state);
    uint64_t part = state.bytes_max / 16 + 1, now = state.bytes / part * 2 + state.is_full;
    if (atomic_exchange(&told_state, now) != now) {
        fprintf(stderr, "layer bytes=%llu max=%llu full=%d\n", (unsigned long long)(state.is_full ? state.bytes : now / 2 * part),
                (unsigned long long)state.bytes_max, state.is_full);
    }
}

static int begin_layer(struct far_error *error)
{
    const char *folder = getenv("TMPDIR");
    if (!is_writable || target != NULL) {
        return 0;
    }
    int rc = far_layer_new(opened, folder != NULL ? folder : "/var/tmp", write_bytes_max, write_percent, &layer, error);
    if (rc == 0) {
        tell_layer();
    }
    return rc;
}

static int begin_hydration(struct far_error *error)
{
    struct far_hydrate_options hydration = {.target = target, .written = written, .order = order, .told = told};
    return target != NULL ? far_hydrate_new(opened, &hydration, &hydrate, error) : 0;
}

/* After nbdkit went into the background: the vault is opened by the process that reads it. */
static int plugin_after_fork(void)
{
    struct far_error error;
    end_with_parent();
    if (far_opened_new(vault_dir, point_id, disk, &options, &opened, &error) != 0 || begin_hydration(&error) != 0 ||
        begin_layer(&error) != 0) {
        say(&error);
        return -1;
    }
    tell_start(0);
    told_fd = -1; /* what fails from now on is told to who reads the disk */
    return 0;
}

static void plugin_unload(void)
{
    far_hydrate_close(hydrate);
    far_layer_close(layer);
    far_opened_close(opened);
    free(target);
    free(order);
    free(written);
    free(vault_dir);
    free(key_file);
}

static void *plugin_open(int read_only)
{
    (void)read_only;
    atomic_fetch_add(&connections, 1);
    tell_state();
    return opened;
}

static void plugin_close(void *handle)
{
    (void)handle;
    atomic_fetch_sub(&connections, 1);
    tell_state();
}

static int64_t plugin_get_size(void *handle)
{
    return (int64_t)far_opened_size(handle);
}

static int plugin_block_size(void *handle, uint32_t *ret_least, uint32_t *ret_preferred, uint32_t *ret_most)
{
    (void)handle;
    *ret_least = 1;
    *ret_preferred = FAR_BLOCK_BYTES;
    *ret_most = UINT32_MAX;
    return 0;
}

static int plugin_can_multi_conn(void *handle)
{
    (void)handle;
    return 1;
}

static int plugin_can_cache(void *handle)
{
    (void)handle;
    return NBDKIT_CACHE_NATIVE;
}

static int plugin_pread(void *handle, void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct far_error error;
    (void)flags;
    int rc = hydrate != NULL ? far_hydrate_read(hydrate, buf, count, offset, &error)
             : layer != NULL ? far_layer_read(layer, buf, count, offset, &error)
                             : far_opened_read(handle, buf, count, offset, &error);
    if (rc != 0) {
        say(&error);
        return -1;
    }
    return 0;
}

static int plugin_can_write(void *handle)
{
    (void)handle;
    return hydrate != NULL || layer != NULL;
}

static int plugin_pwrite(void *handle, const void *buf, uint32_t count, uint64_t offset, uint32_t flags)
{
    struct far_error error;
    (void)handle;
    (void)flags;
    atomic_fetch_add(&writes, 1);
    int rc = hydrate != NULL ? far_hydrate_write(hydrate, buf, count, offset, &error)
                             : far_layer_write(layer, buf, count, offset, &error);
    tell_layer();
    if (rc != 0) {
        say(&error);
        return -1;
    }
    return 0;
}

static int plugin_flush(void *handle, uint32_t flags)
{
    struct far_error error;
    (void)handle;
    (void)flags;
    if (hydrate != NULL && far_hydrate_flush(hydrate, &error) != 0) {
        say(&error);
        return -1;
    }
    return 0;
}

static int plugin_cache(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
    (void)flags;
    if (hydrate == NULL) { /* else what is asked for is written out anyway */
        far_opened_prefetch(handle, offset, count);
    }
    return 0;
}

static int plugin_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags, struct nbdkit_extents *extents)
{
    struct far_error error;
    uint64_t end = offset + count, length;
    bool zero;
    for (; offset < end; offset += length) {
        int rc = hydrate != NULL ? far_hydrate_extent(hydrate, offset, &zero, &length, &error)
                 : layer != NULL ? far_layer_extent(layer, offset, &zero, &length, &error)
                                 : far_opened_extent(handle, offset, &zero, &length, &error);
        if (rc != 0) {
            say(&error);
            return -1;
        }
        if (nbdkit_add_extent(extents, offset, length, zero ? NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO : 0) != 0) {
            return -1;
        }
        if ((flags & NBDKIT_FLAG_REQ_ONE) != 0) {
            break;
        }
    }
    return 0;
}

static struct nbdkit_plugin plugin = {
    .name = "farshore",
    .longname = "Farshore recovery points",
    .version = FARSHORE_VERSION,
    .description = "opens a disk of a recovery point in a vault",
    .config_help = "vault=DIR    (needed) the folder of the vault; a node may be using it\n"
                   "point=ID     (needed) the number of the point\n"
                   "disk=NAME    (needed) the name of the disk\n"
                   "cache=SIZE   of blocks in memory, at least 1M (default 64M)\n"
                   "recovery-key=FILE   with the recovery key, for a point in an encrypted domain\n"
                   "hydrate=PATH   writable: what is written goes to this file, and the rest of the disk comes to it meanwhile\n"
                   "writable=true   what is written is gone when it ends\n"
                   "write-max=SIZE, write-percent=N   what is written may take so much, or that share of what is free (25)\n"
                   "order=FILE   of blocks that earlier boots asked for: they are brought first\n"
                   "written=FILE   made before somebody's first write to the disk that is hydrated\n"
                   "with-parent=true   end when the process ends that started nbdkit's server\n"
                   "progress=true   tell on stderr how far it is, in lines for programs\n"
                   "sha=true     check SHA-256 of every block, not only XXH3",
    .config = plugin_config,
    .config_complete = plugin_config_complete,
    .get_ready = plugin_get_ready,
    .after_fork = plugin_after_fork,
    .unload = plugin_unload,
    .open = plugin_open,
    .close = plugin_close,
    .get_size = plugin_get_size,
    .block_size = plugin_block_size,
    .can_multi_conn = plugin_can_multi_conn,
    .can_cache = plugin_can_cache,
    .pread = plugin_pread,
    .can_write = plugin_can_write,
    .pwrite = plugin_pwrite,
    .flush = plugin_flush,
    .cache = plugin_cache,
    .extents = plugin_extents,
    .errno_is_preserved = 0,
};

struct nbdkit_plugin *plugin_init(void); /* what the macro defines, and no header declares */
NBDKIT_REGISTER_PLUGIN(plugin)
