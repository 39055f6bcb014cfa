/* Writing a backup: see backup.h. */
#include "log/backup.h"

#include "base/file.h"
#include "log/log_private.h"
#include "log/snapshot.h"

#include <errno.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HISTORY_BYTES = 512 * 1024, PATH_BYTES = 4096 + 16 };

struct writer {
    FILE *file;
    EVP_MD_CTX *hash;
    uint64_t records;
    struct far_buf body;
};

static int put(struct writer *w, const void *data, size_t len, struct far_error *err)
{
    if (fwrite(data, 1, len, w->file) != len) {
        return far_fail_errno(err, FAR_IO, errno, "write the backup");
    }
    return EVP_DigestUpdate(w->hash, data, len) == 1 ? 0 : far_fail(err, FAR_LIMIT, "no memory for a hash");
}

static int put_record(struct writer *w, enum far_backup_type type, struct far_slice body, struct far_error *err)
{
    uint8_t header[FAR_BACKUP_RECORD_HEADER] = {0};
    far_put_le16(header, (uint16_t)type);
    far_put_le32(header + 4, (uint32_t)body.len);
    int rc = put(w, header, sizeof header, err);
    w->records++;
    return rc != 0 ? rc : put(w, body.data, body.len, err);
}

static int put_state(struct writer *w, struct far_dump *dump, struct far_error *err)
{
    int rc = far_manifest_encode(&dump->manifest, &w->body, err);
    rc = rc != 0 ? rc : put_record(w, FAR_BACKUP_MANIFEST, far_buf_slice(&w->body), err);
    while (rc == 0 && !dump->ended) {
        far_buf_reset(&w->body);
        rc = far_dump_next(dump, &w->body, err);
        rc = rc != 0 ? rc : put_record(w, FAR_BACKUP_PIECE, far_buf_slice(&w->body), err);
    }
    return rc;
}

/* How many events a batch holds. */
static uint64_t count_rows(struct far_slice batch)
{
    uint64_t count = 0;
    while (batch.len >= 4 + FAR_HEAD_SIZE) {
        size_t row = 4 + FAR_HEAD_SIZE + far_get_le32(batch.data);
        batch = far_slice(batch.data + row, batch.len - row);
        count++;
    }
    return count;
}

static int put_events(struct writer *w, struct far_store_txn *txn, uint64_t events_max, struct far_error *err)
{
    const struct far_store_meta *meta = far_store_meta(txn);
    uint64_t to = meta->last_seq, from = meta->first_seq;
    from = to > events_max && to - events_max + 1 > from ? to - events_max + 1 : from;
    int rc = 0;
    while (rc == 0 && to >= from && to > 0) {
        far_buf_reset(&w->body);
        rc = far_history_encode(txn, from, to, HISTORY_BYTES, &w->body, err);
        uint64_t count = rc == 0 ? count_rows(far_buf_slice(&w->body)) : 0;
        if (rc == 0 && count == 0) {
            return far_fail(err, FAR_INTERNAL, "event %llu does not fit into a backup", (unsigned long long)to);
        }
        rc = rc != 0 ? rc : put_record(w, FAR_BACKUP_HISTORY, far_buf_slice(&w->body), err);
        to -= count;
    }
    return rc;
}

static int put_end(struct writer *w, struct far_error *err)
{
    uint8_t body[40];
    uint64_t records = w->records;
    if (EVP_DigestFinal_ex(w->hash, body, NULL) != 1) {
        return far_fail(err, FAR_LIMIT, "no memory for a hash");
    }
    far_put_le64(body + 32, records);
    int rc = EVP_DigestInit_ex(w->hash, EVP_sha256(), NULL) == 1 ? 0 : far_fail(err, FAR_LIMIT, "no memory for a hash");
    rc = rc != 0 ? rc : put_record(w, FAR_BACKUP_END, far_slice(body, sizeof body), err);
    if (rc == 0 && (fflush(w->file) != 0 || fsync(fileno(w->file)) != 0)) {
        rc = far_fail_errno(err, FAR_IO, errno, "write the backup");
    }
    return rc;
}

static int write_all(struct writer *w, struct far_store *store, uint64_t events_max, struct far_backup_header *identity,
                     struct far_error *err)
{
    uint8_t header[FAR_BACKUP_HEADER];
    struct far_dump dump = {0};
    int rc = far_dump_begin(store, &dump, err);
    if (rc != 0) {
        return rc;
    }
    identity->index = dump.manifest.index;
    identity->last_seq = dump.manifest.last_seq;
    far_backup_header_encode(identity, header);
    rc = put(w, header, sizeof header, err);
    rc = rc != 0 ? rc : put_state(w, &dump, err);
    rc = rc != 0 ? rc : put_events(w, dump.txn, events_max, err);
    far_dump_end(&dump);
    return rc != 0 ? rc : put_end(w, err);
}

int far_store_backup(struct far_store *store, const char *path, uint64_t events_max, struct far_backup_header *identity,
                     struct far_error *err)
{
    char part[PATH_BYTES], dir[PATH_BYTES];
    struct writer w = {.hash = EVP_MD_CTX_new()};
    far_buf_init(&w.body, FAR_BACKUP_BODY_MAX);
    int n = snprintf(part, sizeof part, "%s.part", path);
    int rc = n < 0 || (size_t)n >= sizeof part ? far_fail(err, FAR_INVALID, "the path '%.100s…' is too long", path) : 0;
    if (rc == 0 && (w.hash == NULL || EVP_DigestInit_ex(w.hash, EVP_sha256(), NULL) != 1)) {
        rc = far_fail(err, FAR_LIMIT, "no memory for a hash");
    }
    w.file = rc == 0 ? fopen(part, "wbe") : NULL;
    if (rc == 0 && w.file == NULL) {
        rc = far_fail_errno(err, FAR_IO, errno, "make file '%s'", part);
    }
    rc = rc != 0 ? rc : write_all(&w, store, events_max, identity, err);
    if (w.file != NULL && fclose(w.file) != 0 && rc == 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "write '%s'", part);
    }
    if (rc == 0 && rename(part, path) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "rename '%s'", part);
    }
    if (rc != 0 && w.file != NULL) {
        unlink(part);
    }
    far_file_dir_of(path, dir, sizeof dir);
    rc = rc != 0 ? rc : far_file_sync_dir(dir, err);
    EVP_MD_CTX_free(w.hash);
    far_buf_done(&w.body);
    return rc;
}

int far_log_backup(struct far_log *log, const char *path, uint64_t events_max, struct far_backup_header *identity,
                   struct far_error *err)
{
    return far_store_backup(log->store, path, events_max, identity, err);
}
