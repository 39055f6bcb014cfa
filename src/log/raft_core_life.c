/* The raft driver: its start and end, snapshots, installation. See raft_core.h. */
#include "log/raft_core_local.h"

#include "base/assert.h"

#include <inttypes.h>
#include <stdio.h>

enum {
    CACHE_BYTES_DEFAULT = 24 * 1024 * 1024,
    HEARTBEAT_PART = 10, /* of the election time-out (design, section 5) */
    INSTALL_AGAIN_MS = 10000,
};

/* libraft tells what it does in words; nobody listens, for what matters is in its updates. */
static void drop_trace(struct raft_tracer *tracer, int type, const void *info)
{
}

/* ---- snapshots ---- */

int far_raft_keep_manifest(struct far_raft *raft, const struct far_raft_manifest *manifest)
{
    struct far_buf conf, data;
    far_buf_init(&conf, FAR_RAFT_MANIFEST_MAX);
    far_buf_init(&data, FAR_RAFT_MANIFEST_MAX);
    static const uint8_t nothing[8];
    struct far_slice opaque = manifest->data.len > 0 ? manifest->data : far_slice(nothing, sizeof nothing);
    if (far_buf_append(&conf, manifest->configuration.data, manifest->configuration.len) != 0 ||
        far_buf_append(&data, opaque.data, opaque.len) != 0) {
        far_buf_done(&conf);
        far_buf_done(&data);
        return FAR_LIMIT;
    }
    far_buf_done(&raft->snapshot_conf);
    far_buf_done(&raft->snapshot_data);
    raft->snapshot_conf = conf;
    raft->snapshot_data = data;
    raft->snapshot_index = manifest->index;
    raft->snapshot_term = manifest->term;
    raft->snapshot_conf_index = manifest->configuration_index;
    return 0;
}

static int decode_metadata(const struct far_raft_manifest *manifest, struct raft_snapshot_metadata *ret)
{
    struct raft_buffer buffer = {.base = (void *)(uintptr_t)manifest->configuration.data,
                                 .len = manifest->configuration.len};
    if (!far_raft_configuration_good(manifest->configuration)) {
        return RAFT_MALFORMED;
    }
    ret->index = manifest->index;
    ret->term = manifest->term;
    ret->configuration_index = manifest->configuration_index;
    raft_configuration_init(&ret->configuration);
    return raft_configuration_decode(&buffer, &ret->configuration);
}

/* How many entries to keep behind a snapshot: for peers that are a little behind, as far as memory allows. */
static unsigned trailing_for(const struct far_raft *raft, uint64_t index)
{
    uint64_t bytes = 0;
    unsigned n = 0;
    while (n < FAR_RAFT_TRAILING) {
        const struct far_wal_entry *entry = index > n ? far_raft_cache_get(&raft->cache, index - n) : NULL;
        if (entry == NULL || (n >= FAR_RAFT_TRAILING_MIN && bytes + entry->blob->len > raft->cache_bytes_max / 2)) {
            break;
        }
        bytes += entry->blob->len;
        n++;
    }
    return n < FAR_RAFT_TRAILING_MIN ? FAR_RAFT_TRAILING_MIN : n;
}

void far_raft_durable(struct far_raft *raft, const struct far_raft_manifest *manifest)
{
    struct raft_event event = {.type = RAFT_SNAPSHOT};
    uint64_t news = manifest->index > raft->snapshot_index ? manifest->index - raft->snapshot_index : 0;
    bool due = news >= FAR_RAFT_SNAPSHOT_EVERY ||
               (raft->cache.bytes > raft->cache_bytes_max && news >= FAR_RAFT_TRAILING_MIN);
    if (raft->dead || raft->stopped || raft->stepping || raft->installing || !due ||
        manifest->index > raft->delivered_index || far_raft_cache_get(&raft->cache, manifest->index) == NULL) {
        return;
    }
    if (decode_metadata(manifest, &event.snapshot.metadata) != 0) {
        far_raft_die(raft, FAR_CORRUPT, "the state's configuration cannot be read", "malformed");
        return;
    }
    if (far_raft_keep_manifest(raft, manifest) != 0) {
        raft_configuration_close(&event.snapshot.metadata.configuration);
        return; /* no memory now; the next one serves as well */
    }
    event.snapshot.trailing = trailing_for(raft, manifest->index);
    if (far_raft_step(raft, &event) == 0) {
        far_raft_cache_cut(&raft->cache, raft->raft.trail.offset);
        far_wal_cut(raft->wal, raft->raft.trail.offset);
    }
}

/* ---- installation ---- */

void far_raft_installed(struct far_raft *raft, const struct far_raft_manifest *manifest)
{
    struct far_error err = {0};
    if (raft->dead || raft->stopped) {
        return;
    }
    FAR_ASSERT(raft->installing);
    if (far_raft_keep_manifest(raft, manifest) != 0) {
        far_raft_die(raft, FAR_LIMIT, "an installed state cannot be noted", "no memory");
        return;
    }
    raft->reset_wanted = true;
    if (far_wal_reset(raft->wal, manifest->index, manifest->term, &err) != 0) {
        far_raft_die(raft, err.klass, "the log cannot be emptied", err.message);
    }
}

/* Term and vote stay; everything else of libraft starts anew, as after a crash. */
void far_raft_finish_install(struct far_raft *raft)
{
    struct far_error err = {0};
    uint64_t term = raft_current_term(&raft->raft), vote = raft_voted_for(&raft->raft);
    far_raft_cache_reset(&raft->cache, raft->snapshot_index);
    raft->delivered_index = raft->snapshot_index;
    raft->stored_index = raft->snapshot_index;
    raft->stored_term = raft->snapshot_term;
    raft->pending_count = 0;
    raft->installing = false;
    raft_close(&raft->raft, NULL);
    raft->seed++;
    int rc = far_raft_init_library(raft, &err);
    rc = rc == 0 ? far_raft_load(raft, term, vote, &err) : rc;
    if (rc != 0) {
        far_raft_die(raft, rc, "raft cannot start from an installed state", err.message);
    }
}

/* ---- start ---- */

int far_raft_check_fit(const struct far_raft_manifest *manifest, const struct far_wal_loaded *log, struct far_error *err)
{
    uint64_t last = log->base_index + log->count;
    if (last < manifest->index) {
        return far_fail(err, FAR_CORRUPT,
                        "the log ends at entry %" PRIu64 ", the state at %" PRIu64
                        ": this server lost its memory and must rejoin under a new id",
                        last, manifest->index);
    }
    if (log->base_index > manifest->index) {
        return far_fail(err, FAR_CORRUPT, "the log starts behind entry %" PRIu64 ", the state ends at %" PRIu64,
                        log->base_index, manifest->index);
    }
    if (manifest->index > log->base_index) {
        uint64_t term = log->entries[manifest->index - log->base_index - 1].term;
        if (term != manifest->term) {
            return far_fail(err, FAR_CORRUPT,
                            "entry %" PRIu64 " has term %" PRIu64 " in the log and %" PRIu64 " in the state",
                            manifest->index, term, manifest->term);
        }
    }
    return 0;
}

/* The entries as libraft wants to see them at its start; the data stays ours. */
int far_raft_load(struct far_raft *raft, uint64_t term, uint64_t vote, struct far_error *err)
{
    struct far_raft_manifest manifest = {.index = raft->snapshot_index,
                                         .term = raft->snapshot_term,
                                         .configuration_index = raft->snapshot_conf_index,
                                         .configuration = far_buf_slice(&raft->snapshot_conf)};
    struct raft_snapshot_metadata metadata;
    struct raft_event event = {.type = RAFT_START};
    size_t count = raft->cache.count;
    struct raft_entry *entries = calloc(count + 1, sizeof *entries);
    if (entries == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to start raft");
    }
    for (size_t i = 0; i < count; i++) {
        const struct far_wal_entry *entry = far_raft_cache_get(&raft->cache, raft->cache.base_index + 1 + i);
        entries[i].term = entry->term;
        entries[i].type = (enum raft_entry_type)entry->type;
        entries[i].buf = (struct raft_buffer){.base = entry->blob->data, .len = entry->blob->len};
        entries[i].batch = entry->blob->data;
    }
    event.start.term = term;
    event.start.voted_for = vote;
    event.start.start_index = raft->cache.base_index + 1;
    event.start.entries = entries;
    event.start.n_entries = (unsigned)count;
    int rc = 0;
    if (manifest.index > 0) {
        rc = decode_metadata(&manifest, &metadata);
        event.start.metadata = &metadata; /* the library takes its configuration */
    }
    rc = rc == 0 ? far_raft_step(raft, &event) : FAR_CORRUPT;
    free(entries);
    return rc == 0 ? 0 : far_fail(err, FAR_CORRUPT, "raft cannot start from this log");
}

int far_raft_init_library(struct far_raft *raft, struct far_error *err)
{
    raft->tracer = (struct raft_tracer){.version = 2, .emit = drop_trace};
    if (raft_init(&raft->raft, NULL, NULL, raft->id, raft->address) != 0) {
        return far_fail(err, FAR_LIMIT, "no memory for raft");
    }
    raft->raft.tracer = &raft->tracer;
    raft_seed(&raft->raft, raft->seed);
    raft_set_pre_vote(&raft->raft, true);
    raft_set_election_timeout(&raft->raft, (unsigned)raft->election_ms);
    raft_set_heartbeat_timeout(&raft->raft, (unsigned)(raft->election_ms / HEARTBEAT_PART));
    raft_set_install_snapshot_timeout(&raft->raft, INSTALL_AGAIN_MS);
    raft_set_max_inflight_entries(&raft->raft, FAR_RAFT_INFLIGHT);
    return 0;
}

struct far_wal_config far_raft_wal_config(const struct far_raft_config *config)
{
    bool trusts_state = config->manifest.index > config->trusted_index; /* it was applied, so it was stored */
    return (struct far_wal_config){
        .disk = config->disk,
        .segment_bytes = (size_t)config->segment_bytes,
        .executor = config->executor,
        .salt = config->seed,
        .trusted_index = trusts_state ? config->manifest.index : config->trusted_index,
        .trusted_term = trusts_state ? config->manifest.term : config->trusted_term,
        .installed_index = config->installed ? config->manifest.index : 0,
        .installed_term = config->installed ? config->manifest.term : 0,
    };
}

/* Is this the only voter, as the newest configuration in the log or the state says? */
static bool is_alone(const struct far_raft *raft, const struct far_wal_loaded *log)
{
    struct far_slice newest = far_buf_slice(&raft->snapshot_conf);
    struct raft_configuration conf;
    unsigned voters = 0;
    for (size_t i = log->count; i-- > 0;) {
        if (log->entries[i].type == FAR_RAFT_CHANGE) {
            newest = far_blob_slice(log->entries[i].blob);
            break;
        }
    }
    struct raft_buffer bytes = {.base = (void *)(uintptr_t)newest.data, .len = newest.len};
    if (!far_raft_configuration_good(newest) || raft_configuration_decode(&bytes, &conf) != 0) {
        return false;
    }
    for (unsigned i = 0; i < conf.n; i++) {
        voters += conf.servers[i].role == RAFT_VOTER;
    }
    raft_configuration_close(&conf);
    return voters == 1;
}

/* libraft lets a lone voter lead at once, in the term that it had. What that leader had sent to a standby before it was
 * stored here would then be there under the same index and term as something else. So it begins a new term. */
static int begin_term_alone(struct far_raft *raft, struct far_wal_loaded *log, struct far_error *err)
{
    if (!is_alone(raft, log)) {
        return 0;
    }
    log->term++;
    log->vote = raft->id;
    return far_wal_set_vote(raft->wal, log->term, log->vote, err);
}

int far_raft_open(const struct far_raft_config *config, const struct far_raft_env *env, struct far_raft **ret_raft,
                  struct far_error *err)
{
    struct far_wal_loaded log = {0};
    struct far_raft *raft = calloc(1, sizeof *raft);
    if (raft == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for raft");
    }
    raft->id = config->id;
    snprintf(raft->address, sizeof raft->address, "%s", config->address);
    raft->election_ms = config->election_ms != 0 ? config->election_ms : 1000;
    raft->seed = config->seed;
    int rc = far_raft_init_library(raft, err);
    if (rc != 0) {
        free(raft);
        return rc;
    }
    raft->env = *env;
    raft->disk = config->disk;
    raft->cache_bytes_max = config->cache_bytes_max != 0 ? config->cache_bytes_max : CACHE_BYTES_DEFAULT;
    far_buf_init(&raft->out, (size_t)FAR_RAFT_MESSAGE_MAX + FAR_WAL_ENTRY_MAX);
    struct far_wal_config wal = far_raft_wal_config(config);
    wal.on_stored = far_raft_on_stored;
    wal.on_full = far_raft_on_wal_full;
    wal.on_fatal = far_raft_on_wal_fatal;
    wal.arg = raft;
    rc = far_wal_open(&wal, &raft->wal, &log, err);
    if (rc == 0) {
        rc = far_raft_check_fit(&config->manifest, &log, err);
    }
    if (rc == 0 && config->manifest.index > 0 && far_raft_keep_manifest(raft, &config->manifest) != 0) {
        rc = far_fail(err, FAR_LIMIT, "the state's configuration is too long");
    }
    if (rc == 0) {
        raft->delivered_index = config->manifest.index;
        raft->stored_index = log.base_index + log.count;
        raft->stored_term = log.count > 0 ? log.entries[log.count - 1].term : config->manifest.term;
        rc = begin_term_alone(raft, &log, err);
    }
    if (rc == 0) {
        far_raft_cache_init(&raft->cache, &log);
        rc = far_raft_load(raft, log.term, log.vote, err);
    }
    far_wal_loaded_done(&log);
    if (rc != 0) {
        raft->stopped = true;
        far_raft_close(raft);
        return rc;
    }
    *ret_raft = raft;
    return 0;
}

void far_raft_stop(struct far_raft *raft)
{
    raft->stopped = true;
    far_wal_stop(raft->wal);
}

bool far_raft_busy(const struct far_raft *raft)
{
    return raft->wal != NULL && far_wal_busy(raft->wal);
}

void far_raft_close(struct far_raft *raft)
{
    if (raft == NULL) {
        return;
    }
    far_wal_close(raft->wal);
    raft_close(&raft->raft, NULL);
    far_raft_cache_done(&raft->cache);
    far_buf_done(&raft->out);
    far_buf_done(&raft->snapshot_conf);
    far_buf_done(&raft->snapshot_data);
    free(raft);
}
