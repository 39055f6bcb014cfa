/* Reading a WAL's folder: see raft_wal_load.h.
 *
 * Segments are read one after the other; ordinals must run through all of them. A record that is not valid ends the log
 * only in the last segment, and only if no later record is found behind it: each record was written after the one
 * before was synced, so what is behind a torn one was never there. */
#include "log/raft_wal_load.h"

#include "log/raft_wal_format.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { SEGMENTS_MAX = 4096 };

void far_wal_segment_name(uint64_t number, char name[FAR_DISK_NAME_MAX])
{
    snprintf(name, FAR_DISK_NAME_MAX, "%016" PRIx64 ".wal", number);
}

/* ---- which segments there are ---- */

struct names {
    uint64_t numbers[SEGMENTS_MAX];
    size_t count;
    bool too_many;
};

static void take_name(void *arg, const char *name)
{
    struct names *names = arg;
    uint64_t number = 0;
    char again[FAR_DISK_NAME_MAX];
    if (sscanf(name, "%16" SCNx64, &number) != 1) {
        return;
    }
    far_wal_segment_name(number, again);
    if (strcmp(again, name) != 0) {
        return;
    }
    if (names->count == SEGMENTS_MAX) {
        names->too_many = true;
        return;
    }
    names->numbers[names->count++] = number;
}

static int compare_numbers(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static int find_segments(struct far_disk *disk, struct far_wal_scan *scan, struct far_error *err)
{
    struct names *names = calloc(1, sizeof *names);
    if (names == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to list the log");
    }
    int rc = disk->ops->list(disk, take_name, names, err);
    if (rc == 0 && names->too_many) {
        rc = far_fail(err, FAR_LIMIT, "the log has more than %d segments", SEGMENTS_MAX);
    }
    qsort(names->numbers, names->count, sizeof names->numbers[0], compare_numbers);
    for (size_t i = 1; i < names->count && rc == 0; i++) {
        if (names->numbers[i] != names->numbers[i - 1] + 1) {
            rc = far_fail(err, FAR_CORRUPT, "segment %016" PRIx64 ".wal is missing", names->numbers[i - 1] + 1);
        }
    }
    scan->segments = rc == 0 ? calloc(names->count + 1, sizeof *scan->segments) : NULL;
    for (size_t i = 0; i < names->count && scan->segments != NULL; i++) {
        scan->segments[scan->segment_count++].number = names->numbers[i];
    }
    free(names);
    return rc == 0 && scan->segments == NULL ? far_fail(err, FAR_LIMIT, "no memory to list the log") : rc;
}

/* ---- entries ---- */

static void drop_entries_from(struct far_wal_scan *scan, size_t at)
{
    for (size_t i = at; i < scan->log.count; i++) {
        far_blob_unref(scan->log.entries[i].blob);
    }
    if (at < scan->log.count) {
        scan->log.count = at;
    }
}

static int add_entry(struct far_wal_scan *scan, const struct far_wal_item *item)
{
    struct far_wal_loaded *log = &scan->log;
    if (log->count == scan->log_cap) {
        size_t cap = scan->log_cap == 0 ? 1024 : scan->log_cap * 2;
        struct far_wal_entry *entries = realloc(log->entries, cap * sizeof *entries);
        if (entries == NULL) {
            return FAR_LIMIT;
        }
        log->entries = entries;
        scan->log_cap = cap;
    }
    struct far_blob *blob = far_blob_new(item->data.data, item->data.len);
    if (blob == NULL) {
        return FAR_LIMIT;
    }
    log->entries[log->count++] =
        (struct far_wal_entry){.index = item->index, .term = item->term, .type = item->type, .blob = blob};
    return 0;
}

static int take_item(struct far_wal_scan *scan, const struct far_wal_item *item, bool is_first)
{
    struct far_wal_loaded *log = &scan->log;
    if (item->index == scan->trusted_index && item->term == scan->trusted_term) {
        scan->trusted_seen = true; /* it may have been replaced since: a truncation is no loss */
    }
    if (item->type == FAR_WAL_TYPE_RESET) {
        drop_entries_from(scan, 0);
        log->base_index = item->index;
        log->base_term = item->term;
        return 0;
    }
    if (item->index == 0 || item->term == 0) {
        return FAR_CORRUPT;
    }
    if (is_first || item->index <= log->base_index) {
        drop_entries_from(scan, 0); /* what was before it has been cut off */
        log->base_index = item->index - 1;
        log->base_term = 0;
    } else if (item->index > log->base_index + log->count + 1) {
        return FAR_CORRUPT;
    } else {
        drop_entries_from(scan, (size_t)(item->index - log->base_index - 1));
    }
    return add_entry(scan, item);
}

static int take_record(struct far_wal_scan *scan, struct far_wal_segment *segment, const struct far_wal_record *record,
                       bool is_first)
{
    struct far_slice rest = record->payload;
    uint32_t count = 0;
    while (rest.len > 0) {
        struct far_wal_item item;
        if (!far_wal_item_decode(&rest, &item)) {
            return FAR_CORRUPT;
        }
        int rc = take_item(scan, &item, is_first && count == 0);
        if (rc != 0) {
            return rc;
        }
        segment->max_index = item.index > segment->max_index ? item.index : segment->max_index;
        count++;
    }
    return count == record->count ? 0 : FAR_CORRUPT;
}

/* ---- segments ---- */

static bool all_zero(struct far_slice bytes)
{
    return bytes.len == 0 || (bytes.data[0] == 0 && memcmp(bytes.data, bytes.data + 1, bytes.len - 1) == 0);
}

static int damage(struct far_error *err, uint64_t number, uint64_t offset, const char *what)
{
    return far_fail(err, FAR_CORRUPT, "log segment %016" PRIx64 ".wal is damaged at offset %" PRIu64 ": %s", number,
                    offset, what);
}

/* The end of a segment's records: empty, torn (last segment only), or damage. */
static int take_end(struct far_wal_scan *scan, const struct far_wal_segment *segment, bool is_last, uint64_t at,
                    struct far_slice rest, struct far_error *err)
{
    if (all_zero(rest)) {
        return 0;
    }
    if (!is_last || far_wal_record_behind(rest, scan->next_ordinal, &scan->salt)) {
        return damage(err, segment->number, at, "a record that was stored is not there");
    }
    scan->torn_at = at;
    return 0;
}

static int take_header(struct far_wal_scan *scan, const struct far_wal_segment *segment, bool is_first, bool is_last,
                       struct far_slice bytes, struct far_error *err)
{
    struct far_wal_header header = {0};
    bool good = bytes.len >= FAR_WAL_HEADER_BYTES && far_wal_header_decode(bytes.data, &header);
    if (!good && is_last && !far_wal_record_behind(bytes, scan->next_ordinal, NULL)) {
        scan->torn_header = true;
        return 0;
    }
    if (!good || header.number != segment->number) {
        return damage(err, segment->number, 0, "its header");
    }
    if (is_first) {
        scan->next_ordinal = header.first_ordinal;
    } else if (header.first_ordinal != scan->next_ordinal) {
        return damage(err, segment->number, 24, "records before it are missing");
    }
    scan->salt = header.salt;
    return 0;
}

static int take_segment(struct far_wal_scan *scan, size_t at_segment, struct far_slice bytes, struct far_error *err)
{
    struct far_wal_segment *segment = &scan->segments[at_segment];
    bool is_last = at_segment + 1 == scan->segment_count;
    int rc = take_header(scan, segment, at_segment == 0, is_last, bytes, err);
    if (rc != 0 || scan->torn_header) {
        return rc;
    }
    bool is_first = at_segment == 0;
    size_t at = FAR_WAL_HEADER_BYTES;
    struct far_wal_record record;
    while (far_wal_record_decode(far_slice(bytes.data + at, bytes.len - at), &record)) {
        if (record.ordinal != scan->next_ordinal || record.salt != scan->salt) {
            return damage(err, segment->number, at, "a record of another place");
        }
        rc = take_record(scan, segment, &record, is_first);
        if (rc == FAR_LIMIT) {
            return far_fail(err, rc, "no memory to read the log");
        }
        if (rc != 0) {
            return damage(err, segment->number, at, "its entries do not follow each other");
        }
        is_first = false;
        scan->next_ordinal++;
        at += record.bytes;
    }
    scan->end_offset = at;
    return take_end(scan, segment, is_last, at, far_slice(bytes.data + at, bytes.len - at), err);
}

static int read_segment(struct far_disk *disk, uint64_t number, uint8_t **ret_bytes, uint64_t *ret_len,
                        struct far_error *err)
{
    char name[FAR_DISK_NAME_MAX];
    struct far_file *file = NULL;
    uint64_t len = 0;
    uint8_t *bytes = NULL;
    far_wal_segment_name(number, name);
    int rc = disk->ops->open(disk, name, false, &file, err);
    if (rc == 0) {
        rc = disk->ops->size(disk, file, &len, err);
    }
    if (rc == 0) {
        bytes = malloc(len + 1);
        rc = bytes == NULL ? far_fail(err, FAR_LIMIT, "no memory to read '%s'", name)
                           : disk->ops->read(disk, file, 0, bytes, len, err);
    }
    disk->ops->close(disk, file);
    if (rc != 0) {
        free(bytes);
        return rc;
    }
    *ret_bytes = bytes;
    *ret_len = len;
    return 0;
}

static void report_segment(struct far_wal_scan *scan, const struct far_wal_segment *segment, int rc,
                           const struct far_error *err)
{
    char text[FAR_MESSAGE_MAX];
    if (scan->report == NULL) {
        return;
    }
    if (rc == 0 && scan->torn_at != 0) { /* of the last segment only */
        snprintf(text, sizeof text, "log segment %016" PRIx64 ".wal: every record up to offset %" PRIu64
                 " is as it was written; one behind it is not whole", segment->number, scan->torn_at);
    } else {
        snprintf(text, sizeof text, "log segment %016" PRIx64 ".wal: every record is as it was written", segment->number);
    }
    scan->report(scan->report_arg, rc == 0, rc == 0 ? text : err->message);
}

int far_wal_scan_read(struct far_disk *disk, struct far_wal_scan *scan, struct far_error *err)
{
    struct far_error local = {0};
    err = err == NULL ? &local : err;
    scan->next_ordinal = 1;
    int rc = find_segments(disk, scan, err);
    for (size_t i = 0; i < scan->segment_count && rc == 0; i++) {
        uint8_t *bytes = NULL;
        uint64_t len = 0;
        rc = read_segment(disk, scan->segments[i].number, &bytes, &len, err);
        if (rc == 0) {
            scan->segments[i].bytes = len;
            rc = take_segment(scan, i, far_slice(bytes, len), err);
        }
        free(bytes);
        report_segment(scan, &scan->segments[i], rc, err);
    }
    return rc;
}

void far_wal_loaded_done(struct far_wal_loaded *loaded)
{
    for (size_t i = 0; i < loaded->count; i++) {
        far_blob_unref(loaded->entries[i].blob);
    }
    free(loaded->entries);
    *loaded = (struct far_wal_loaded){0};
}

void far_wal_scan_done(struct far_wal_scan *scan)
{
    far_wal_loaded_done(&scan->log);
    free(scan->segments);
    scan->segments = NULL;
    scan->segment_count = 0;
}

/* ---- term and vote ---- */

struct vote {
    bool there;
    bool good;
    uint64_t counter;
    uint64_t term;
    uint64_t vote;
};

static int read_vote(struct far_disk *disk, const char *name, struct vote *ret, struct far_error *err)
{
    uint8_t bytes[FAR_WAL_VOTE_BYTES];
    struct far_file *file = NULL;
    uint64_t len = 0;
    *ret = (struct vote){0};
    int rc = disk->ops->open(disk, name, false, &file, err);
    if (rc == FAR_NOT_FOUND) {
        return 0;
    }
    if (rc == 0) {
        ret->there = true;
        rc = disk->ops->size(disk, file, &len, err);
    }
    if (rc == 0 && len >= sizeof bytes) {
        rc = disk->ops->read(disk, file, 0, bytes, sizeof bytes, err);
        ret->good = rc == 0 && far_wal_vote_decode(bytes, &ret->counter, &ret->term, &ret->vote);
    }
    disk->ops->close(disk, file);
    return rc;
}

int far_wal_vote_read(struct far_disk *disk, bool has_log, struct far_wal_votes *ret_votes, struct far_error *err)
{
    struct vote a, b;
    int rc = read_vote(disk, FAR_WAL_VOTE_A, &a, err);
    if (rc == 0) {
        rc = read_vote(disk, FAR_WAL_VOTE_B, &b, err);
    }
    if (rc != 0) {
        return rc;
    }
    if (!a.good && !b.good && (has_log || b.there)) {
        return far_fail(err, FAR_CORRUPT, "term and vote ('%s', '%s') are lost: this server may not vote again",
                        FAR_WAL_VOTE_A, FAR_WAL_VOTE_B);
    }
    const struct vote *newest = b.good && (!a.good || b.counter > a.counter) ? &b : &a;
    *ret_votes = (struct far_wal_votes){.counter = newest->counter, .term = newest->term, .vote = newest->vote};
    if (newest->good && (!a.good || !b.good)) {
        ret_votes->bad = a.good ? FAR_WAL_VOTE_B : FAR_WAL_VOTE_A;
    }
    return 0;
}

static int verify_votes(const struct far_wal_config *config, const struct far_wal_scan *scan, bool whole,
                        struct far_error *err)
{
    struct far_wal_votes votes = {0};
    int rc = far_wal_vote_read(config->disk, scan->segment_count > 0, &votes, err);
    bool is_read = rc == 0;
    if (rc == 0 && votes.bad != NULL) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' is damaged at offset 0; its other copy is whole", votes.bad);
    }
    scan->report(scan->report_arg, rc == 0, rc == 0 ? "term and vote are as they were written" : err->message);
    struct far_error lost = {0};
    int lost_rc = is_read && whole ? far_wal_check_trust(config, scan, &votes, &lost) : 0;
    if (lost_rc == FAR_CORRUPT && scan->torn_at != 0) { /* no tear of a crash, then: it was whole once */
        far_error_context(&lost, "log segment %016" PRIx64 ".wal is damaged at offset %" PRIu64,
                          scan->segments[scan->segment_count - 1].number, scan->torn_at);
    }
    if (lost_rc != 0) {
        scan->report(scan->report_arg, false, lost.message);
        *err = rc == 0 ? lost : *err;
    }
    return rc != 0 ? rc : lost_rc;
}

int far_wal_verify(const struct far_wal_config *config, void (*report)(void *arg, bool good, const char *text), void *arg,
                   struct far_error *err)
{
    struct far_wal_scan scan = {.report = report,
                                .report_arg = arg,
                                .trusted_index = config->trusted_index,
                                .trusted_term = config->trusted_term};
    struct far_error local = {0}, vote_err = {0};
    err = err == NULL ? &local : err;
    int rc = far_wal_scan_read(config->disk, &scan, err);
    if (rc != 0 && scan.segment_count == 0) {
        report(arg, false, err->message);
    }
    int vote_rc = verify_votes(config, &scan, rc == 0, &vote_err);
    far_wal_scan_done(&scan);
    if (rc == 0 && vote_rc != 0) {
        *err = vote_err;
    }
    return rc != 0 ? rc : vote_rc;
}
