/* The segments of a store: reading, noting, trimming, cutting. See segments.h; sealing is in sealer.c. */
#include "log/segments.h"

#include "log/older.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

typedef unsigned long long llu;

/* ---- reading ---- */

static int seek(struct far_store_txn *txn, uint64_t seq, struct far_segment *ret_segment, struct far_error *err)
{
    const struct far_store_ops *ops = txn->store->ops;
    return ops->segment_seek == NULL ? FAR_NOT_FOUND : ops->segment_seek(txn, seq, ret_segment, err);
}

static bool holds(const struct far_segment_reader *reader, uint64_t seq)
{
    return reader != NULL && far_segment_of(reader)->first_seq <= seq && seq <= far_segment_of(reader)->last_seq;
}

static bool ends_with(const char *name, const char *end)
{
    size_t len = strlen(name), end_len = strlen(end);
    return len > end_len && strcmp(name + len - end_len, end) == 0;
}

/* The file that took the place of one that was compacted, for a transaction that began before: the same events, by their
 * heads. */
static int open_compacted(const struct far_store *store, const struct far_segment *segment,
                          struct far_segment_reader **ret_reader, struct far_error *err)
{
    DIR *folder = opendir(store->segments_dir);
    char prefix[FAR_SEGMENT_NAME], path[4096];
    int rv = FAR_NOT_FOUND;
    snprintf(prefix, sizeof prefix, "%016llx-", (llu)segment->first_seq);
    for (struct dirent *entry = folder == NULL ? NULL : readdir(folder); rv == FAR_NOT_FOUND && entry != NULL; entry = readdir(folder)) {
        struct far_segment_reader *reader;
        snprintf(path, sizeof path, "%s/%s", store->segments_dir, entry->d_name);
        bool may_be = strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && ends_with(entry->d_name, ".seg");
        int fd = may_be ? open(path, O_RDONLY | O_CLOEXEC) : -1;
        if (fd < 0 || far_segment_open_fd(fd, entry->d_name, &reader, err) != 0) {
            continue;
        }
        const struct far_segment *other = far_segment_of(reader);
        if (other->last_seq == segment->last_seq && memcmp(other->head, segment->head, FAR_HEAD_SIZE) == 0 &&
            memcmp(other->base_head, segment->base_head, FAR_HEAD_SIZE) == 0) {
            *ret_reader = reader;
            rv = 0;
        } else {
            far_segment_close(reader);
        }
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return rv;
}

/* A file that is named and not there is damage, and no "not found" that a caller might take for the end of history. */
int far_segments_open(const struct far_store *store, const struct far_segment *segment, struct far_segment_reader **ret_reader,
                      struct far_error *err)
{
    int rv = far_segment_open(store->segments_dir, segment, ret_reader, err);
    rv = rv == FAR_NOT_FOUND ? open_compacted(store, segment, ret_reader, err) : rv;
    return rv != FAR_NOT_FOUND ? rv
                               : far_fail(err, FAR_CORRUPT, "segment of events %llu to %llu: its file is missing",
                                          (llu)segment->first_seq, (llu)segment->last_seq);
}

int far_segments_row(struct far_store_txn *txn, uint64_t seq, struct far_slice *ret_row, struct far_error *err)
{
    struct far_segment segment;
    int rv = 0;
    if (!holds(txn->segment, seq)) {
        rv = seek(txn, seq, &segment, err);
        if (rv != 0 || segment.first_seq > seq) {
            return rv != 0 ? rv : FAR_NOT_FOUND;
        }
        far_segment_close(txn->segment);
        txn->segment = NULL;
        rv = far_segments_open(txn->store, &segment, &txn->segment, err);
    }
    return rv != 0 ? rv : far_segment_row(txn->segment, seq, ret_row, err);
}

int far_segments_check(struct far_store_txn *txn, const struct far_segment *segment, struct far_error *err)
{
    struct far_segment_reader *reader = NULL;
    struct far_event event;
    uint8_t head[FAR_HEAD_SIZE], stored[FAR_HEAD_SIZE];
    int rv = far_segments_open(txn->store, segment, &reader, err);
    memcpy(head, segment->base_head, sizeof head);
    for (uint64_t seq = segment->first_seq; rv == 0 && seq <= segment->last_seq; seq++) {
        struct far_slice row;
        rv = far_segment_row(reader, seq, &row, err);
        rv = rv != 0 ? rv : far_event_row_decode(row, &event, stored, err);
        rv = rv != 0 ? rv : far_chain_add(head, &event, err);
        if (rv == 0 && (event.seq != seq || memcmp(head, stored, sizeof head) != 0)) {
            rv = far_fail(err, FAR_CORRUPT, "segment of events %llu to %llu: the chain does not lead to event %llu",
                          (llu)segment->first_seq, (llu)segment->last_seq, (llu)seq);
        }
    }
    if (rv == 0 && memcmp(head, segment->head, sizeof head) != 0) {
        rv = far_fail(err, FAR_CORRUPT, "segment of events %llu to %llu: the chain does not end where its record says",
                      (llu)segment->first_seq, (llu)segment->last_seq);
    }
    far_segment_close(reader);
    return rv;
}

/* ---- noting and trimming ---- */

/* The head after an event of which there is a row, or at the end of what was cut. */
static bool has_head(struct far_store_txn *txn, uint64_t seq, const uint8_t head[FAR_HEAD_SIZE])
{
    struct far_event event;
    uint8_t stored[FAR_HEAD_SIZE];
    if (seq + 1 == far_store_meta(txn)->first_seq) {
        return memcmp(far_store_meta(txn)->base_head, head, FAR_HEAD_SIZE) == 0;
    }
    return far_store_event_get(txn, seq, &event, stored, NULL) == 0 && memcmp(stored, head, FAR_HEAD_SIZE) == 0;
}

int far_segments_take(struct far_store_txn *txn, const struct far_segment *segment, struct far_error *err)
{
    struct far_segment other;
    int rv = seek(txn, segment->first_seq, &other, err);
    bool overlaps = rv == 0 && other.first_seq <= segment->last_seq;
    if (rv != 0 && rv != FAR_NOT_FOUND) {
        return rv;
    }
    const struct far_store_meta *meta = far_store_meta(txn);
    bool was_cut = segment->first_seq < meta->first_seq;
    bool was_compacted = segment->compacted_seq < meta->compacted_seq && segment->first_seq <= meta->compacted_seq &&
                         segment->last_seq > segment->compacted_seq; /* meanwhile: it may hold payloads that are gone */
    if (overlaps || was_cut || was_compacted || !has_head(txn, segment->last_seq, segment->head) ||
        !has_head(txn, segment->first_seq - 1, segment->base_head)) {
        return far_fail(err, FAR_CONFLICT, "the events %llu to %llu are not what was sealed any more", (llu)segment->first_seq,
                        (llu)segment->last_seq);
    }
    return txn->store->ops->segment_put(txn, segment, err);
}

int far_segments_trim(struct far_store_txn *txn, size_t max, bool *ret_more, struct far_error *err)
{
    struct far_segment segment = {.last_seq = 0};
    size_t removed = 0;
    int rv = 0;
    while (removed < max && (rv = seek(txn, segment.last_seq + 1, &segment, err)) == 0) {
        size_t count = 0;
        rv = txn->store->ops->event_remove(txn, segment.first_seq, segment.last_seq, max - removed, &count, err);
        if (rv != 0) {
            return rv;
        }
        removed += count;
    }
    *ret_more = removed == max;
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

/* ---- cutting ---- */

static int head_before(struct far_store_txn *txn, uint64_t seq, uint8_t ret_head[FAR_HEAD_SIZE], struct far_error *err)
{
    struct far_event event;
    if (seq == far_store_meta(txn)->last_seq + 1) {
        memcpy(ret_head, far_store_meta(txn)->head, FAR_HEAD_SIZE);
        return 0;
    }
    return far_store_event_get(txn, seq - 1, &event, ret_head, err);
}

/* The records of segments that end before seq. Readers that are open keep their files. */
static int remove_records(struct far_store_txn *txn, uint64_t seq, struct far_error *err)
{
    struct far_segment segment;
    int rv;
    while ((rv = seek(txn, 1, &segment, err)) == 0 && segment.last_seq < seq) {
        rv = txn->store->ops->segment_remove(txn, segment.last_seq, err);
        if (rv != 0) {
            return rv;
        }
    }
    return rv == FAR_NOT_FOUND ? 0 : rv;
}

int far_segments_cut(struct far_store_txn *txn, uint64_t seq, size_t max, bool *ret_more, struct far_error *err)
{
    struct far_store_meta *meta = far_store_meta(txn);
    size_t removed = 0;
    int rv = 0;
    *ret_more = false;
    if (seq > meta->last_seq + 1) {
        return far_fail(err, FAR_INTERNAL, "cannot cut before event %llu: the newest is %llu", (llu)seq, (llu)meta->last_seq);
    }
    rv = far_older_cut(txn, seq, err);
    if (rv == 0 && seq > meta->first_seq) {
        uint8_t head[FAR_HEAD_SIZE];
        rv = head_before(txn, seq, head, err);
        if (rv == 0) {
            meta->first_seq = seq;
            memcpy(meta->base_head, head, sizeof head);
        }
    }
    rv = rv != 0 ? rv : remove_records(txn, seq, err);
    rv = rv != 0 ? rv : far_older_remove(txn, max, &removed, err);
    *ret_more = removed == max;
    return rv;
}

int far_segments_bytes(struct far_store_txn *txn, uint64_t *ret_bytes, struct far_error *err)
{
    struct far_segment segment = {.last_seq = 0};
    uint64_t bytes = 0;
    int rv;
    while ((rv = seek(txn, segment.last_seq + 1, &segment, err)) == 0) {
        bytes += segment.bytes;
    }
    if (rv == FAR_NOT_FOUND) {
        *ret_bytes = bytes;
        rv = 0;
    }
    return rv;
}

/* ---- the folder ---- */

static bool is_named(struct far_store_txn *txn, const char *name)
{
    struct far_segment segment;
    char own[FAR_SEGMENT_NAME];
    llu first_seq;
    if (sscanf(name, "%16llx-", &first_seq) != 1) {
        return false;
    }
    int rv = seek(txn, first_seq, &segment, NULL);
    if (rv != 0) {
        return rv != FAR_NOT_FOUND; /* when in doubt it stays */
    }
    far_segment_name(&segment, own);
    return strcmp(own, name) == 0;
}

int far_segments_sweep(struct far_store *store, struct far_error *err)
{
    struct far_store_txn *txn;
    DIR *folder = store->segments_dir == NULL ? NULL : opendir(store->segments_dir);
    if (folder == NULL) {
        return store->segments_dir == NULL || errno == ENOENT
                   ? 0
                   : far_fail_errno(err, FAR_IO, errno, "open folder '%s'", store->segments_dir);
    }
    int rv = far_store_begin(store, false, &txn, err);
    for (struct dirent *entry = rv != 0 ? NULL : readdir(folder); entry != NULL; entry = readdir(folder)) {
        char path[4096];
        bool is_ours = ends_with(entry->d_name, ".seg") || ends_with(entry->d_name, ".new");
        if (is_ours && !is_named(txn, entry->d_name)) {
            snprintf(path, sizeof path, "%s/%s", store->segments_dir, entry->d_name);
            (void)unlink(path); /* what is left is swept at the next opening */
        }
    }
    if (rv == 0) {
        far_store_abort(txn);
    }
    closedir(folder);
    return rv;
}
