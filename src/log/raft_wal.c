/* The write-ahead log: see raft_wal.h. On a good day: append() encodes entries behind those that wait; when no job is
 * under way, everything that waits becomes one record and one job; its end tells what is stored and starts the next. */
#include "log/raft_wal.h"

#include "base/assert.h"
#include "base/logging.h"
#include "log/raft_wal_format.h"
#include "log/raft_wal_load.h"

#include <inttypes.h>
#include <stdlib.h>

enum { GATHER_MAX = 64 * 1024 * 1024, ZERO_PIECE = 256 * 1024, SEGMENTS_MAX = 4096 };

/* What waits, or what is being written: entries as bytes, and the run of (index, term) that they leave behind. */
struct batch {
    struct far_buf payload;
    uint32_t count;
    uint64_t max_index;
    uint64_t run_first;
    uint64_t *terms;
    size_t run_count;
    size_t run_cap;
    uint64_t reset_index; /* 0: no reset in it */
};

struct far_wal {
    struct far_wal_config config;
    struct far_wal_job job;
    bool job_running;
    bool telling;
    bool dead; /* on_fatal was called, or closing */
    bool full; /* the last write failed for want of space */

    struct batch waiting;
    struct batch writing;
    uint64_t last_index;
    uint64_t next_ordinal;
    uint64_t cut_index;

    struct far_wal_segment *segments; /* in order; the last is written to */
    size_t segment_count;
    uint64_t next_number;
    uint64_t vote_counter;

    /* The writer's while a job runs. */
    struct far_file *file; /* of the last segment; NULL: the next record starts a new one */
    uint64_t file_offset;
    uint64_t file_bytes;
    uint32_t file_salt;
    uint64_t new_number;    /* of a segment that this job made; 0 = none */
    uint64_t remove_before; /* segments with smaller numbers go */
    uint64_t remove_from;
    struct far_error job_err;
    int job_rc;
};

/* ---- batches ---- */

static void batch_init(struct batch *batch)
{
    *batch = (struct batch){0};
    far_buf_init(&batch->payload, GATHER_MAX);
}

static void batch_done(struct batch *batch)
{
    far_buf_done(&batch->payload);
    free(batch->terms);
}

static void batch_reset(struct batch *batch)
{
    far_buf_reset(&batch->payload);
    batch->count = 0;
    batch->max_index = 0;
    batch->run_count = 0;
    batch->reset_index = 0;
}

static int batch_note(struct batch *batch, uint64_t index, uint64_t term)
{
    if (batch->run_count == 0 || index < batch->run_first) {
        batch->run_first = index;
        batch->run_count = 0;
    } else {
        batch->run_count = (size_t)(index - batch->run_first);
    }
    if (batch->run_count == batch->run_cap) {
        size_t cap = batch->run_cap == 0 ? 64 : batch->run_cap * 2;
        uint64_t *terms = realloc(batch->terms, cap * sizeof *terms);
        if (terms == NULL) {
            return FAR_LIMIT;
        }
        batch->terms = terms;
        batch->run_cap = cap;
    }
    batch->terms[batch->run_count++] = term;
    return 0;
}

/* ---- the job: on the writer ---- */

static int write_zeroes(struct far_wal *wal, struct far_file *file, uint64_t from, uint64_t to)
{
    static const uint8_t zeroes[ZERO_PIECE];
    struct far_disk *disk = wal->config.disk;
    int rc = 0;
    while (from < to && rc == 0) {
        size_t n = to - from < ZERO_PIECE ? (size_t)(to - from) : ZERO_PIECE;
        rc = disk->ops->write(disk, file, from, zeroes, n, &wal->job_err);
        from += n;
    }
    return rc;
}

/* A new segment, wholly written and durable with its name, so that later syncs move nothing but data. */
static int start_segment(struct far_wal *wal, uint64_t number, size_t record_bytes)
{
    struct far_disk *disk = wal->config.disk;
    char name[FAR_DISK_NAME_MAX];
    uint8_t header[FAR_WAL_HEADER_BYTES];
    struct far_file *file = NULL;
    uint64_t bytes = FAR_WAL_HEADER_BYTES + record_bytes;
    bytes = bytes < wal->config.segment_bytes ? wal->config.segment_bytes : bytes;
    far_wal_segment_name(number, name);
    far_wal_header_encode(header, &(struct far_wal_header){.number = number,
                                                           .first_ordinal = wal->next_ordinal,
                                                           .salt = wal->config.salt});
    int rc = disk->ops->open(disk, name, true, &file, &wal->job_err);
    if (rc == 0) {
        rc = write_zeroes(wal, file, 0, bytes);
    }
    if (rc == 0) {
        rc = disk->ops->write(disk, file, 0, header, sizeof header, &wal->job_err);
    }
    if (rc == 0) {
        rc = disk->ops->sync(disk, file, &wal->job_err);
    }
    if (rc == 0) {
        rc = disk->ops->sync_dir(disk, &wal->job_err);
    }
    if (rc != 0) {
        disk->ops->close(disk, file);
        return rc;
    }
    disk->ops->close(disk, wal->file);
    wal->file = file;
    wal->file_salt = wal->config.salt;
    wal->file_offset = FAR_WAL_HEADER_BYTES;
    wal->file_bytes = bytes;
    wal->new_number = number;
    return 0;
}

/* The payload was gathered behind room for its header, so that one write does. */
static int write_record(struct far_wal *wal)
{
    struct far_disk *disk = wal->config.disk;
    struct far_buf *payload = &wal->writing.payload;
    size_t bytes = payload->len;
    int rc = 0;
    if (wal->file == NULL || wal->file_offset + bytes > wal->file_bytes) {
        rc = start_segment(wal, wal->next_number, bytes);
    }
    if (rc == 0) {
        struct far_slice body = far_slice(payload->data + FAR_WAL_RECORD_HEADER_BYTES,
                                          bytes - FAR_WAL_RECORD_HEADER_BYTES);
        far_wal_record_header(payload->data, wal->next_ordinal, wal->writing.count, wal->file_salt, body);
        rc = disk->ops->write(disk, wal->file, wal->file_offset, payload->data, bytes, &wal->job_err);
    }
    if (rc == 0) {
        rc = disk->ops->sync(disk, wal->file, &wal->job_err);
    }
    if (rc == 0) {
        wal->file_offset += bytes;
    }
    return rc;
}

static int remove_segments(struct far_wal *wal)
{
    struct far_disk *disk = wal->config.disk;
    int rc = 0;
    for (uint64_t n = wal->remove_from; n < wal->remove_before && rc == 0; n++) {
        char name[FAR_DISK_NAME_MAX];
        far_wal_segment_name(n, name);
        rc = disk->ops->remove(disk, name, &wal->job_err);
    }
    return rc != 0 || wal->remove_from >= wal->remove_before ? rc : disk->ops->sync_dir(disk, &wal->job_err);
}

static void job_run(struct far_wal_job *job)
{
    struct far_wal *wal = (struct far_wal *)(void *)((char *)job - offsetof(struct far_wal, job));
    wal->job_rc = wal->writing.count > 0 ? write_record(wal) : 0;
    if (wal->job_rc == 0) {
        wal->job_rc = remove_segments(wal);
    }
}

/* ---- the job: on the core thread ---- */

/* Segments in front of the last whose every entry is cut off: the numbers to remove. */
static void plan_removal(struct far_wal *wal)
{
    wal->remove_from = wal->segment_count > 0 ? wal->segments[0].number : 0;
    wal->remove_before = wal->remove_from;
    for (size_t i = 0; i + 1 < wal->segment_count && wal->segments[i].max_index <= wal->cut_index; i++) {
        wal->remove_before = wal->segments[i].number + 1;
    }
}

static void start_job(struct far_wal *wal)
{
    if (wal->job_running || wal->telling || wal->dead || wal->full) {
        return;
    }
    if (wal->writing.count == 0 && wal->waiting.count > 0) {
        struct batch empty = wal->writing;
        wal->writing = wal->waiting;
        wal->waiting = empty;
    }
    plan_removal(wal);
    if (wal->writing.count == 0 && wal->remove_from == wal->remove_before) {
        return;
    }
    wal->job_running = true;
    wal->new_number = 0;
    wal->job_err = (struct far_error){0};
    wal->config.executor.submit(wal->config.executor.arg, &wal->job);
}

static void forget_removed(struct far_wal *wal)
{
    size_t gone = (size_t)(wal->remove_before - wal->remove_from);
    if (gone > 0) {
        memmove(wal->segments, wal->segments + gone, (wal->segment_count - gone) * sizeof *wal->segments);
        wal->segment_count -= gone;
    }
}

static int note_segment(struct far_wal *wal)
{
    if (wal->new_number == 0) {
        return 0;
    }
    struct far_wal_segment *segments = realloc(wal->segments, (wal->segment_count + 1) * sizeof *segments);
    if (segments == NULL) {
        return far_fail(&wal->job_err, FAR_LIMIT, "no memory to list a segment");
    }
    wal->segments = segments;
    segments[wal->segment_count++] =
        (struct far_wal_segment){.number = wal->new_number, .bytes = wal->file_bytes};
    wal->next_number = wal->new_number + 1;
    return 0;
}

static void die(struct far_wal *wal)
{
    wal->dead = true;
    wal->config.on_fatal(wal->config.arg, &wal->job_err);
}

static void job_done(struct far_wal_job *job)
{
    struct far_wal *wal = (struct far_wal *)(void *)((char *)job - offsetof(struct far_wal, job));
    wal->job_running = false;
    if (wal->dead) {
        return; /* stopped meanwhile: what was written is found at the next start */
    }
    if (note_segment(wal) != 0) {
        die(wal);
        return;
    }
    if (wal->job_rc == FAR_LIMIT) {
        wal->full = true;
        wal->config.on_full(wal->config.arg, &wal->job_err);
        return;
    }
    if (wal->job_rc != 0) {
        die(wal);
        return;
    }
    forget_removed(wal);
    if (wal->writing.count > 0) {
        struct far_wal_segment *last = &wal->segments[wal->segment_count - 1];
        last->max_index = wal->writing.max_index > last->max_index ? wal->writing.max_index : last->max_index;
        wal->next_ordinal++;
        if (wal->writing.reset_index > wal->cut_index) {
            wal->cut_index = wal->writing.reset_index;
        }
        struct far_wal_stored stored = {.first_index = wal->writing.run_first,
                                        .terms = wal->writing.terms,
                                        .count = wal->writing.run_count};
        wal->telling = true; /* what the callback appends waits until this batch is let go */
        wal->config.on_stored(wal->config.arg, &stored);
        wal->telling = false;
        batch_reset(&wal->writing);
    }
    start_job(wal);
}

/* ---- appending ---- */

static int gather(struct far_wal *wal, const struct far_wal_item *item, struct far_error *err)
{
    static const uint8_t room[FAR_WAL_RECORD_HEADER_BYTES];
    struct batch *batch = &wal->waiting;
    int rc = batch->payload.len == 0 ? far_buf_append(&batch->payload, room, sizeof room) : 0;
    if (rc == 0) {
        rc = far_wal_item_encode(&batch->payload, item);
    }
    if (rc != 0) {
        return far_fail(err, FAR_LIMIT, "more than %d bytes wait to be written to the log", GATHER_MAX);
    }
    batch->count++;
    batch->max_index = item->index > batch->max_index ? item->index : batch->max_index;
    return 0;
}

int far_wal_append(struct far_wal *wal, const struct far_wal_entry *entries, size_t count, struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; i < count && rc == 0; i++) {
        FAR_ASSERT(entries[i].index <= wal->last_index + 1 && entries[i].term > 0);
        struct far_wal_item item = {.index = entries[i].index,
                                    .term = entries[i].term,
                                    .type = entries[i].type,
                                    .data = far_blob_slice(entries[i].blob)};
        rc = gather(wal, &item, err);
        if (rc == 0) {
            rc = batch_note(&wal->waiting, item.index, item.term);
            wal->last_index = item.index;
        }
    }
    return rc;
}

void far_wal_write(struct far_wal *wal)
{
    start_job(wal);
}

int far_wal_reset(struct far_wal *wal, uint64_t index, uint64_t term, struct far_error *err)
{
    struct far_wal_item item = {.index = index, .term = term, .type = FAR_WAL_TYPE_RESET};
    int rc = gather(wal, &item, err);
    if (rc == 0) {
        wal->waiting.run_count = 0;
        wal->waiting.reset_index = index;
        wal->last_index = index;
        start_job(wal);
    }
    return rc;
}

void far_wal_cut(struct far_wal *wal, uint64_t index)
{
    if (index > wal->cut_index) {
        wal->cut_index = index;
        start_job(wal);
    }
}

void far_wal_retry(struct far_wal *wal)
{
    wal->full = false;
    start_job(wal);
}

uint64_t far_wal_bytes(const struct far_wal *wal)
{
    uint64_t bytes = 0;
    for (size_t i = 0; i < wal->segment_count; i++) {
        bytes += wal->segments[i].bytes;
    }
    return bytes;
}

/* ---- term and vote ---- */

static int write_vote(struct far_disk *disk, const char *name, const uint8_t bytes[FAR_WAL_VOTE_BYTES],
                      struct far_error *err)
{
    struct far_file *file = NULL;
    int rc = disk->ops->open(disk, name, true, &file, err);
    if (rc == 0) {
        rc = disk->ops->write(disk, file, 0, bytes, FAR_WAL_VOTE_BYTES, err);
    }
    if (rc == 0) {
        rc = disk->ops->sync(disk, file, err);
    }
    disk->ops->close(disk, file);
    return rc;
}

int far_wal_set_vote(struct far_wal *wal, uint64_t term, uint64_t vote, struct far_error *err)
{
    struct far_disk *disk = wal->config.disk;
    uint8_t bytes[FAR_WAL_VOTE_BYTES];
    bool is_new = wal->vote_counter == 0;
    far_wal_vote_encode(bytes, ++wal->vote_counter, term, vote);
    int rc = write_vote(disk, FAR_WAL_VOTE_A, bytes, err);
    if (rc == 0 && is_new) {
        rc = disk->ops->sync_dir(disk, err);
    }
    if (rc == 0) {
        rc = write_vote(disk, FAR_WAL_VOTE_B, bytes, err);
    }
    if (rc == 0 && is_new) {
        rc = disk->ops->sync_dir(disk, err);
    }
    return rc == 0 ? 0 : far_error_context(err, "write term and vote");
}

/* ---- opening ---- */

/* Cut the torn tail off, so that it cannot be taken for damage once records follow. */
static int mend_tail(struct far_disk *disk, struct far_wal_scan *scan, struct far_error *err)
{
    char name[FAR_DISK_NAME_MAX];
    struct far_file *file = NULL;
    if (!scan->torn_header && scan->torn_at == 0) {
        return 0;
    }
    struct far_wal_segment *last = &scan->segments[scan->segment_count - 1];
    far_wal_segment_name(last->number, name);
    if (scan->torn_header) {
        scan->segment_count--;
        scan->end_offset = scan->segment_count > 0 ? scan->segments[scan->segment_count - 1].bytes : 0;
        int rc = disk->ops->remove(disk, name, err);
        return rc == 0 ? disk->ops->sync_dir(disk, err) : rc;
    }
    int rc = disk->ops->open(disk, name, false, &file, err);
    if (rc == 0) {
        rc = disk->ops->truncate(disk, file, scan->torn_at, err);
    }
    if (rc == 0) {
        rc = disk->ops->sync(disk, file, err);
    }
    last->bytes = scan->torn_at;
    scan->end_offset = scan->torn_at;
    disk->ops->close(disk, file);
    return rc;
}

/* Go on in the last segment where its records end. */
static int resume_segment(struct far_wal *wal, uint64_t offset, struct far_error *err)
{
    char name[FAR_DISK_NAME_MAX];
    const struct far_wal_segment *last = &wal->segments[wal->segment_count - 1];
    far_wal_segment_name(last->number, name);
    wal->file_offset = offset;
    wal->file_bytes = last->bytes;
    return wal->config.disk->ops->open(wal->config.disk, name, false, &wal->file, err);
}

/* A state was installed (LMDB has it) and the log knows nothing of it: it is to be emptied after that index. */
static bool is_behind_install(const struct far_wal_config *config, const struct far_wal_loaded *log)
{
    uint64_t index = config->installed_index;
    if (index > log->base_index && index <= log->base_index + log->count) {
        return log->entries[index - log->base_index - 1].term != config->installed_term;
    }
    return index > log->base_index + log->count;
}

/* Does the log end before what was once told to be stored? Replaced since then is not lost. */
int far_wal_check_trust(const struct far_wal_config *config, const struct far_wal_scan *scan,
                        const struct far_wal_votes *votes, struct far_error *err)
{
    const struct far_wal_loaded *log = &scan->log;
    uint64_t last_index = log->base_index + log->count;
    uint64_t last_term = log->count > 0 ? log->entries[log->count - 1].term : log->base_term;
    if (config->installed_index > 0 && votes->counter == 0) {
        return far_fail(err, FAR_CORRUPT, "term and vote are gone: this server lost its memory and must rejoin under a "
                                          "new id");
    }
    if (config->trusted_index == 0 || last_index >= config->trusted_index || scan->trusted_seen ||
        is_behind_install(config, log)) {
        return 0;
    }
    return far_fail(err, FAR_CORRUPT,
                    "the log ends at entry %" PRIu64 " of term %" PRIu64 ", but entry %" PRIu64 " of term %" PRIu64
                    " was stored: this server lost its memory and must rejoin under a new id",
                    last_index, last_term, config->trusted_index, config->trusted_term);
}

/* Read and judge everything, and only then mend what a crash left. */
static int load(struct far_wal *wal, struct far_wal_scan *scan, struct far_error *err)
{
    const struct far_wal_config *config = &wal->config;
    struct far_wal_votes votes = {0};
    scan->trusted_index = config->trusted_index;
    scan->trusted_term = config->trusted_term;
    int rc = far_wal_scan_read(config->disk, scan, err);
    if (rc == 0) {
        rc = far_wal_vote_read(config->disk, scan->segment_count > 0, &votes, err);
    }
    if (rc == 0) {
        rc = far_wal_check_trust(config, scan, &votes, err);
    }
    if (rc == 0) {
        rc = mend_tail(config->disk, scan, err);
    }
    wal->vote_counter = votes.counter;
    scan->log.term = votes.term;
    scan->log.vote = votes.vote;
    if (rc == 0 && votes.bad != NULL) {
        far_logf(FAR_LEVEL_WARN, "wal", "'%s' was missing or damaged: it is written again from its whole copy", votes.bad);
        rc = far_wal_set_vote(wal, votes.term, votes.vote, err);
    }
    return rc;
}

int far_wal_open(const struct far_wal_config *config, struct far_wal **ret_wal, struct far_wal_loaded *ret_loaded,
                 struct far_error *err)
{
    struct far_wal_scan scan = {0};
    struct far_wal *wal = calloc(1, sizeof *wal);
    if (wal == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to open the log");
    }
    wal->config = *config;
    wal->config.segment_bytes = config->segment_bytes != 0 ? config->segment_bytes : FAR_WAL_SEGMENT_BYTES;
    wal->job = (struct far_wal_job){.run = job_run, .done = job_done};
    batch_init(&wal->waiting);
    batch_init(&wal->writing);
    int rc = load(wal, &scan, err);
    if (rc == 0) {
        wal->segments = scan.segments;
        wal->segment_count = scan.segment_count;
        rc = scan.segment_count > 0 ? resume_segment(wal, scan.end_offset, err) : 0;
    }
    if (rc != 0) {
        wal->segments = NULL;
        far_wal_scan_done(&scan);
        far_wal_close(wal);
        return rc;
    }
    wal->next_ordinal = scan.next_ordinal;
    wal->file_salt = scan.salt;
    wal->next_number = scan.segment_count > 0 ? scan.segments[scan.segment_count - 1].number + 1 : 1;
    wal->last_index = scan.log.base_index + scan.log.count;
    if (is_behind_install(config, &scan.log)) {
        uint64_t term = scan.log.term, vote = scan.log.vote;
        far_wal_loaded_done(&scan.log);
        scan.log = (struct far_wal_loaded){.term = term,
                                           .vote = vote,
                                           .base_index = config->installed_index,
                                           .base_term = config->installed_term};
        rc = far_wal_reset(wal, config->installed_index, config->installed_term, err);
        FAR_ASSERT(rc == 0);
    }
    *ret_loaded = scan.log;
    *ret_wal = wal;
    return 0;
}

void far_wal_stop(struct far_wal *wal)
{
    wal->dead = true;
}

bool far_wal_busy(const struct far_wal *wal)
{
    return wal->job_running;
}

void far_wal_close(struct far_wal *wal)
{
    if (wal == NULL) {
        return;
    }
    FAR_ASSERT(!wal->job_running);
    wal->config.disk->ops->close(wal->config.disk, wal->file);
    batch_done(&wal->waiting);
    batch_done(&wal->writing);
    free(wal->segments);
    free(wal);
}
