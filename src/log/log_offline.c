/* The log of a server that does not run: see log_offline.h. */
#include "log/log_offline.h"

#include "base/child.h"
#include "log/apply.h"
#include "log/log_private.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct far_log_offline {
    const struct far_log_config *config; /* borrowed */
    int lock_fd;
    struct far_store *store;
    struct far_disk *disk;
    struct far_store_meta meta;
};

static int open_parts(struct far_log_offline *log, struct far_error *err)
{
    char path[PATH_BYTES];
    struct stat st;
    struct far_store_txn *txn;
    const char *dir = log->config->dir;
    log->lock_fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (log->lock_fd < 0) {
        return far_fail(err, FAR_NOT_FOUND, "there is no folder '%s'", dir);
    }
    if (flock(log->lock_fd, LOCK_EX | LOCK_NB) != 0) {
        return far_fail(err, FAR_CONFLICT, "a server runs on folder '%s': stop it first", dir);
    }
    snprintf(path, sizeof path, "%s/wal", dir);
    int rc = stat(path, &st) == 0 ? 0 : far_fail(err, FAR_NOT_FOUND, "folder '%s' holds no log", dir);
    rc = rc != 0 ? rc : far_disk_posix_new(path, &log->disk, err);
    snprintf(path, sizeof path, "%s/state", dir);
    if (rc == 0 && stat(path, &st) != 0) {
        rc = far_fail(err, FAR_NOT_FOUND, "folder '%s' holds no state", dir);
    }
    rc = rc != 0 ? rc : far_store_open_lmdb(path, log->config->map_bytes, false, &log->store, err);
    rc = rc != 0 ? rc : far_store_begin(log->store, false, &txn, err);
    if (rc == 0) {
        log->meta = *far_store_meta(txn);
        far_store_abort(txn);
    }
    return rc;
}

int far_log_offline_open(const struct far_log_config *config, struct far_log_offline **ret_log, struct far_error *err)
{
    struct far_log_offline *log = calloc(1, sizeof *log);
    if (log == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a log");
    }
    log->config = config;
    int rc = open_parts(log, err);
    if (rc != 0) {
        far_log_offline_close(log);
        return rc;
    }
    *ret_log = log;
    return 0;
}

void far_log_offline_close(struct far_log_offline *log)
{
    if (log != NULL) {
        far_disk_posix_free(log->disk);
        far_store_close(log->store);
        if (log->lock_fd >= 0) {
            close(log->lock_fd);
        }
        free(log);
    }
}

int far_log_offline_view(struct far_log_offline *log, struct far_log_view *ret_view, struct far_error *err)
{
    return far_log_view_of(log->store, ret_view, err);
}

/* ---- where it ends ---- */

static struct far_raft_config raft_config(const struct far_log_offline *log)
{
    const struct far_store_meta *meta = &log->meta;
    return (struct far_raft_config){
        .id = log->config->server_id,
        .address = log->config->address,
        .disk = log->disk,
        .manifest = {.index = meta->applied_index,
                     .term = meta->applied_term,
                     .configuration_index = meta->configuration_index,
                     .configuration = far_slice(meta->configuration, meta->configuration_len)},
        .installed = meta->installed_index != 0 && meta->installed_index == meta->applied_index,
        .trusted_index = meta->stored_index,
        .trusted_term = meta->stored_term,
    };
}

static int apply_entry(void *arg, const struct far_wal_entry *entry, struct far_error *err)
{
    struct far_store_txn *txn = arg;
    struct far_slice data = far_blob_slice(entry->blob);
    if (entry->type == FAR_RAFT_COMMAND) {
        return far_apply_commands(txn, entry->index, entry->term, data, NULL, NULL, err);
    }
    return entry->type == FAR_RAFT_CHANGE ? far_apply_configuration(txn, entry->index, entry->term, data, err)
                                          : far_apply_barrier(txn, entry->index, entry->term, err);
}

/* What is behind the state is tried out in a transaction that is given up. */
int far_log_offline_ending(struct far_log_offline *log, struct far_log_ending *ret_ending, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_raft_config config = raft_config(log);
    struct far_log_ending ending = {.sure_index = log->meta.applied_index, .sure_seq = log->meta.last_seq};
    int rc = far_store_begin(log->store, true, &txn, err);
    if (rc != 0) {
        return rc;
    }
    memcpy(ending.sure_head, log->meta.head, sizeof ending.sure_head);
    rc = far_raft_find_end(&config, apply_entry, txn, &ending.end, err);
    if (rc == 0) {
        ending.parent_seq = far_store_meta(txn)->last_seq;
        memcpy(ending.parent_head, far_store_meta(txn)->head, sizeof ending.parent_head);
        *ret_ending = ending;
    }
    far_store_abort(txn);
    return rc;
}

/* A transaction in which everything that the log holds is applied: to be committed or given up. */
static int begin_applied(struct far_log_offline *log, struct far_store_txn **ret_txn, struct far_error *err)
{
    struct far_raft_end end;
    struct far_raft_config config = raft_config(log);
    int rc = far_store_begin(log->store, true, ret_txn, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_raft_find_end(&config, apply_entry, *ret_txn, &end, err);
    if (rc != 0) {
        far_store_abort(*ret_txn);
    }
    return rc;
}

int far_log_offline_try(struct far_log_offline *log, int (*try)(void *arg, struct far_state *state, struct far_error *err), void *arg,
                        struct far_error *err)
{
    struct far_store_txn *txn;
    int rc = begin_applied(log, &txn, err);
    if (rc == 0) {
        struct far_state state = {.kv = far_store_kv(txn), .digest = far_store_meta(txn)->digest};
        rc = try(arg, &state, err);
        far_store_abort(txn);
    }
    return rc;
}

int far_log_offline_apply(struct far_log_offline *log, struct far_error *err)
{
    struct far_store_txn *txn;
    int rc = begin_applied(log, &txn, err);
    if (rc != 0) {
        return rc;
    }
    log->meta = *far_store_meta(txn);
    return far_store_commit(txn, err);
}

int far_log_offline_recover(struct far_log_offline *log, uint64_t start_term, struct far_error *err)
{
    struct far_raft_config config = raft_config(log);
    return far_raft_recover(&config, start_term, err);
}

/* ---- can it be read? ---- */

static int probe(void *arg, struct far_error *err)
{
    const struct far_log_config *config = arg;
    struct far_log_offline *log;
    struct far_log_view view;
    struct far_log_ending ending;
    struct far_hash128 digest;
    uint64_t rows;
    int rc = far_log_offline_open(config, &log, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_log_offline_view(log, &view, err);
    if (rc == 0) {
        (void)far_state_digest_walk(view.state.kv, &digest, &rows, NULL); /* each row is checked where it is used */
        far_log_view_end(&view);
        rc = far_log_offline_ending(log, &ending, err);
    }
    far_log_offline_close(log);
    return rc;
}

int far_log_offline_probe(const struct far_log_config *config, bool *ret_died, struct far_error *err)
{
    struct far_error why = {0};
    bool has_died = false;
    struct far_log_config copy = *config;
    int rc = far_child_run(probe, &copy, &has_died, &why);
    if (ret_died != NULL) {
        *ret_died = has_died;
    }
    if (has_died) {
        return far_fail(err, rc, "the store in '%.200s/state' cannot be read, its structure is damaged: %.200s", config->dir, why.message);
    }
    return rc == 0 ? 0 : far_fail(err, rc, "%s", why.message);
}
