/* Walking the records of one pack: see pack.h. Used at open and to rebuild the index.
 *
 * The tolerant walk must not lose what is behind a damaged place: it looks for the next header whose own checksum holds.
 * The strict walk is for the tail that was never acknowledged: the first byte that is not good ends it. */
#define _GNU_SOURCE
#include "dataplane/vault_dead.h"

#include "base/file.h"
#include "base/hash.h"

#include <stdio.h>
#include <stdlib.h>

enum { RESYNC_WINDOW = 65536, READ_WINDOW = 1 << 20 };

struct scan {
    int fd;
    const char *path;
    uint32_t number;
    uint64_t to;
    bool strict;
    const struct far_pack_visitor *visitor;
    uint8_t *window; /* READ_WINDOW bytes of the file */
    uint64_t window_at;
    size_t window_len;
};

/* len bytes at offset, inside [0, to); valid until the next call. */
static const uint8_t *view(struct scan *scan, uint64_t offset, size_t len, struct far_error *err)
{
    bool inside = offset >= scan->window_at && offset + len <= scan->window_at + scan->window_len;
    if (!inside) {
        /* Headers alone are sparse: read much at once only where the payloads are wanted too. */
        uint64_t want = scan->strict ? READ_WINDOW : len;
        uint64_t count = scan->to - offset < want ? scan->to - offset : want;
        scan->window_len = 0;
        if (far_file_pread(scan->fd, scan->window, (size_t)count, offset, scan->path, err) != 0) {
            return NULL;
        }
        scan->window_at = offset;
        scan->window_len = (size_t)count;
    }
    return scan->window + (offset - scan->window_at);
}

static void tell(struct scan *scan, uint64_t offset, const struct far_hash256 *id, const char *what)
{
    if (scan->visitor->damage == NULL) {
        return;
    }
    char text[5000];
    char hex[65] = "unknown";
    if (id != NULL) {
        far_hex_encode(id->bytes, 32, hex);
    }
    snprintf(text, sizeof text, "%s: offset %llu: id %s: %s", scan->path, (unsigned long long)offset, hex, what);
    scan->visitor->damage(scan->visitor->arg, (struct far_place){.pack = scan->number, .offset = offset}, id, text);
}

/* The next offset >= from at which a good header starts, or `to`. */
static int resync(struct scan *scan, uint64_t from, uint64_t *ret_offset, struct far_error *err)
{
    struct far_record record;
    uint8_t bytes[RESYNC_WINDOW];
    while (from + FAR_RECORD_HEADER_BYTES <= scan->to) {
        size_t len = scan->to - from < sizeof bytes ? (size_t)(scan->to - from) : sizeof bytes;
        int rc = far_file_pread(scan->fd, bytes, len, from, scan->path, err);
        if (rc != 0) {
            return rc;
        }
        size_t last = len - FAR_RECORD_HEADER_BYTES;
        const uint8_t *p = bytes;
        while ((p = memmem(p, last + 4 - (size_t)(p - bytes), "FAR1", 4)) != NULL) {
            if (far_record_decode(p, &record, NULL) == 0) {
                *ret_offset = from + (uint64_t)(p - bytes);
                return 0;
            }
            p++;
        }
        from += last + 1;
    }
    *ret_offset = scan->to;
    return 0;
}

/* One record at offset: 0 and its header; FAR_CORRUPT what is wrong (err), *ret_known whether the header is good. */
static int look(struct scan *scan, uint64_t offset, struct far_record *ret_record, bool *ret_known,
                struct far_error *err)
{
    *ret_known = false;
    if (scan->to - offset < FAR_RECORD_HEADER_BYTES) {
        return far_fail(err, FAR_CORRUPT, "the pack ends inside a record");
    }
    const uint8_t *header = view(scan, offset, FAR_RECORD_HEADER_BYTES, err);
    if (header == NULL) {
        return err->klass;
    }
    int rc = far_record_decode(header, ret_record, err);
    if (rc != 0) {
        return rc;
    }
    *ret_known = true;
    if (scan->to - offset - FAR_RECORD_HEADER_BYTES < ret_record->stored_len) {
        return far_fail(err, FAR_CORRUPT, "the pack ends inside a record");
    }
    if (!scan->strict) {
        return 0;
    }
    const uint8_t *stored = view(scan, offset + FAR_RECORD_HEADER_BYTES, ret_record->stored_len, err);
    if (stored == NULL) {
        return err->klass;
    }
    bool good = far_hash64(stored, ret_record->stored_len) == ret_record->sum;
    return good ? 0 : far_fail(err, FAR_CORRUPT, "checksum (XXH3) of the stored bytes is wrong");
}

static int walk(struct scan *scan, uint64_t from, uint64_t *ret_end, bool *ret_sealed, struct far_error *err)
{
    uint64_t offset = from;
    bool sealed = false;
    while (offset < scan->to && !sealed) {
        struct far_record record;
        struct far_error cause = {0};
        bool known;
        uint64_t dead_end = far_dead_end(scan->visitor->dead, offset);
        if (dead_end != offset) {
            offset = dead_end < scan->to ? dead_end : scan->to;
            continue;
        }
        int rc = look(scan, offset, &record, &known, &cause);
        if (rc != 0 && rc != FAR_CORRUPT) {
            *err = cause;
            return rc;
        }
        if (rc != 0 && scan->strict) {
            break;
        }
        if (rc != 0) {
            tell(scan, offset, known ? &record.id : NULL, cause.message);
            rc = resync(scan, offset + 1, &offset, err);
            if (rc != 0) {
                return rc;
            }
            continue;
        }
        struct far_place place = {.pack = scan->number, .offset = offset};
        place.length = FAR_RECORD_HEADER_BYTES + record.stored_len;
        rc = scan->visitor->record(scan->visitor->arg, place, &record, err);
        if (rc != 0) {
            return rc;
        }
        offset += place.length;
        sealed = record.type == FAR_RECORD_SEAL;
    }
    *ret_end = offset;
    *ret_sealed = sealed;
    return 0;
}

int far_pack_scan(int fd, const char *path, uint32_t number, uint64_t from, uint64_t to, bool strict,
                  const struct far_pack_visitor *visitor, uint64_t *ret_end, bool *ret_sealed, struct far_error *err)
{
    struct far_error unused;
    struct scan scan = {.fd = fd, .path = path, .number = number, .to = to, .strict = strict, .visitor = visitor};
    scan.window = malloc(READ_WINDOW);
    if (scan.window == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to scan a pack");
    }
    int rc = walk(&scan, from, ret_end, ret_sealed, err != NULL ? err : &unused);
    free(scan.window);
    return rc;
}
