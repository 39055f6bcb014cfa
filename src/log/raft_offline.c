/* What is done to the log of a server that does not run: the first one of a cluster, where a log ends, forced recovery.
 * See raft_core.h. Everything blocks; the jobs of the WAL run at once. */
#include "log/raft_core_local.h"
#include "log/raft_wal_load.h"

#include "base/random.h"

#include <inttypes.h>

static void run_at_once(void *arg, struct far_wal_job *job)
{
    job->run(job);
    job->done(job);
}

static void note_stored(void *arg, const struct far_wal_stored *stored)
{
}

static void note_failure(void *arg, const struct far_error *err)
{
    *(struct far_error *)arg = *err;
}

/* Write at once, and note in *failure what goes wrong. */
static void write_at_once(struct far_wal_config *wal, struct far_error *failure)
{
    far_random_bytes(&wal->salt, sizeof wal->salt); /* also when simulated: nothing that happens depends on it */
    wal->executor = (struct far_wal_executor){.submit = run_at_once};
    wal->on_stored = note_stored;
    wal->on_full = note_failure;
    wal->on_fatal = note_failure;
    wal->arg = failure;
}

static int failed(const struct far_error *failure, struct far_error *err)
{
    return failure->klass == 0 ? 0 : far_fail(err, failure->klass, "%s", failure->message);
}

/* A cluster of this one server, as raft encodes it, appended to out. */
static int alone(uint64_t id, const char *address, struct far_buf *out, struct far_error *err)
{
    struct raft_configuration conf;
    struct raft_buffer bytes = {0};
    raft_configuration_init(&conf);
    int rv = raft_configuration_add(&conf, id, address, RAFT_VOTER);
    if (rv == 0) {
        rv = raft_configuration_encode(&conf, &bytes);
    }
    int rc = rv != 0 || far_buf_append(out, bytes.base, bytes.len) != 0
                 ? far_fail(err, FAR_INVALID, "the configuration of one server cannot be made: %s", raft_strerror(rv))
                 : 0;
    raft_free(bytes.base);
    raft_configuration_close(&conf);
    return rc;
}

/* ---- a new log ---- */

int far_raft_found(struct far_disk *disk, uint64_t id, const char *address, const struct far_raft_end *at,
                   struct far_buf *ret_configuration, struct far_error *err)
{
    struct far_error failure = {0};
    struct far_wal *wal = NULL;
    struct far_wal_loaded log = {0};
    struct far_wal_config config = {.disk = disk};
    write_at_once(&config, &failure);
    int rc = far_wal_open(&config, &wal, &log, err);
    if (rc != 0) {
        return rc;
    }
    if (log.term != 0 || log.count != 0 || log.base_index != 0) {
        rc = far_fail(err, FAR_CONFLICT, "the folder holds a log already");
    }
    rc = rc != 0 ? rc : alone(id, address, ret_configuration, err);
    rc = rc != 0 ? rc : far_wal_set_vote(wal, at->term, 0, err);
    rc = rc != 0 ? rc : far_wal_reset(wal, at->last_index, at->last_term, err);
    rc = rc != 0 ? rc : failed(&failure, err);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
    return rc;
}

int far_raft_bootstrap(struct far_disk *disk, uint64_t id, const char *address, struct far_buf *ret_configuration,
                       struct far_error *err)
{
    const struct far_raft_end at = {.last_index = FAR_RAFT_BOOTSTRAP_INDEX,
                                    .last_term = FAR_RAFT_BOOTSTRAP_TERM,
                                    .term = FAR_RAFT_BOOTSTRAP_TERM};
    return far_raft_found(disk, id, address, &at, ret_configuration, err);
}

/* ---- where a log ends ---- */

int far_raft_end_compare(const struct far_raft_end *a, const struct far_raft_end *b)
{
    if (a->last_term != b->last_term) {
        return a->last_term < b->last_term ? -1 : 1;
    }
    return a->last_index == b->last_index ? 0 : a->last_index < b->last_index ? -1 : 1;
}

static struct far_raft_end end_of(const struct far_raft_config *config, const struct far_wal_loaded *log, uint64_t term)
{
    struct far_raft_end end = {.last_index = log->base_index + log->count, .term = term};
    end.last_term = log->count > 0 ? log->entries[log->count - 1].term : log->base_term;
    if (end.last_index <= config->manifest.index && log->count == 0) {
        end.last_index = config->manifest.index;
        end.last_term = config->manifest.term;
    }
    end.term = end.last_term > end.term ? end.last_term : end.term;
    return end;
}

int far_raft_find_end(const struct far_raft_config *config, far_raft_entry_fn each, void *arg,
                      struct far_raft_end *ret_end, struct far_error *err)
{
    struct far_wal_config wal = far_raft_wal_config(config);
    struct far_wal_scan scan = {.trusted_index = wal.trusted_index, .trusted_term = wal.trusted_term};
    struct far_wal_votes votes = {0};
    int rc = far_wal_scan_read(config->disk, &scan, err);
    rc = rc != 0 ? rc : far_wal_vote_read(config->disk, scan.segment_count > 0, &votes, err);
    rc = rc != 0 ? rc : far_wal_check_trust(&wal, &scan, &votes, err);
    if (rc == 0 && votes.term == 0) {
        rc = far_fail(err, FAR_CORRUPT, "this server has no log");
    }
    struct far_wal_loaded *log = &scan.log;
    bool is_behind = rc == 0 && config->installed && log->base_index + log->count < config->manifest.index;
    if (is_behind) { /* its next start empties the log for the state that was installed */
        far_wal_loaded_done(log);
        log->base_index = config->manifest.index;
        log->base_term = config->manifest.term;
    }
    rc = rc != 0 ? rc : far_raft_check_fit(&config->manifest, log, err);
    for (size_t i = 0; rc == 0 && each != NULL && i < log->count; i++) {
        if (log->entries[i].index > config->manifest.index) {
            rc = each(arg, &log->entries[i], err);
        }
    }
    if (rc == 0) {
        *ret_end = end_of(config, log, votes.term);
    }
    far_wal_scan_done(&scan);
    return rc;
}

/* ---- forced recovery ---- */

static int append_alone(struct far_wal *wal, const struct far_raft_config *config, uint64_t index, uint64_t term,
                        struct far_error *err)
{
    struct far_buf bytes;
    far_buf_init(&bytes, FAR_RAFT_MANIFEST_MAX);
    int rc = alone(config->id, config->address, &bytes, err);
    struct far_blob *blob = rc == 0 ? far_blob_new(bytes.data, bytes.len) : NULL;
    if (rc == 0 && blob == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory for a configuration");
    }
    if (rc == 0) {
        struct far_wal_entry entry = {.index = index, .term = term, .type = FAR_RAFT_CHANGE, .blob = blob};
        rc = far_wal_append(wal, &entry, 1, err);
        far_wal_write(wal);
    }
    far_blob_unref(blob);
    far_buf_done(&bytes);
    return rc;
}

/* Has a recovery that was interrupted, or has ended, appended its entry? */
static bool has_alone(const struct far_raft_config *config, const struct far_wal_loaded *log, uint64_t start_term)
{
    for (size_t i = 0; i < log->count; i++) {
        if (log->entries[i].term == start_term && log->entries[i].type == FAR_RAFT_CHANGE) {
            return true;
        }
    }
    return config->manifest.term >= start_term;
}

int far_raft_recover(const struct far_raft_config *config, uint64_t start_term, struct far_error *err)
{
    struct far_error failure = {0};
    struct far_wal *wal = NULL;
    struct far_wal_loaded log = {0};
    struct far_wal_config wal_config = far_raft_wal_config(config);
    write_at_once(&wal_config, &failure);
    int rc = far_wal_open(&wal_config, &wal, &log, err);
    if (rc != 0) {
        return rc;
    }
    struct far_raft_end end = end_of(config, &log, log.term);
    if (log.term == 0) {
        rc = far_fail(err, FAR_CORRUPT, "this server has no log");
    } else {
        rc = far_raft_check_fit(&config->manifest, &log, err);
    }
    bool is_done = has_alone(config, &log, start_term);
    if (rc == 0 && !is_done && end.term >= start_term && log.term != start_term) {
        rc = far_fail(err, FAR_INVALID, "a recovery must begin behind term %" PRIu64 ", not in term %" PRIu64, end.term,
                      start_term);
    }
    if (rc == 0 && log.term < start_term) {
        rc = far_wal_set_vote(wal, start_term, 0, err);
    }
    if (rc == 0 && !is_done) {
        rc = append_alone(wal, config, end.last_index + 1, start_term, err);
    }
    rc = rc != 0 ? rc : failed(&failure, err);
    far_wal_loaded_done(&log);
    far_wal_close(wal);
    return rc;
}
