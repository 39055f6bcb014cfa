/* Reading a backup: verification, and making a log of it. See backup.h. */
#include "log/backup.h"

#include "log/log_private.h"
#include "log/snapshot.h"

#include <errno.h>
#include <fcntl.h>
#include <openssl/evp.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

struct reader {
    FILE *file;
    EVP_MD_CTX *hash; /* of what is before the record that is read */
    struct far_backup_header header;
    uint64_t records;
    unsigned type;
    struct far_buf body;
};

static int take(struct reader *r, void *data, size_t len, struct far_error *err)
{
    size_t n = fread(data, 1, len, r->file);
    if (n == len) {
        return 0;
    }
    return ferror(r->file) ? far_fail_errno(err, FAR_IO, errno, "read the backup")
                           : far_fail(err, FAR_CORRUPT, "the backup ends before its end: it is not whole");
}

static void close_reader(struct reader *r)
{
    if (r->file != NULL) {
        fclose(r->file);
    }
    EVP_MD_CTX_free(r->hash);
    far_buf_done(&r->body);
}

static int open_reader(const char *path, struct reader *r, struct far_error *err)
{
    uint8_t header[FAR_BACKUP_HEADER];
    *r = (struct reader){.file = fopen(path, "rbe"), .hash = EVP_MD_CTX_new()};
    far_buf_init(&r->body, FAR_BACKUP_BODY_MAX);
    int rc = r->file == NULL ? far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open backup '%s'", path)
             : r->hash == NULL || EVP_DigestInit_ex(r->hash, EVP_sha256(), NULL) != 1 ? far_fail(err, FAR_LIMIT, "no memory")
                                                                                     : 0;
    rc = rc != 0 ? rc : take(r, header, sizeof header, err);
    rc = rc != 0 ? rc : far_backup_header_decode(far_slice(header, sizeof header), &r->header, err);
    if (rc == 0 && EVP_DigestUpdate(r->hash, header, sizeof header) != 1) {
        rc = far_fail(err, FAR_LIMIT, "no memory");
    }
    return rc;
}

static int check_end(struct reader *r, struct far_error *err)
{
    uint8_t hash[32];
    if (r->body.len != 40 || EVP_DigestFinal_ex(r->hash, hash, NULL) != 1 || memcmp(hash, r->body.data, 32) != 0 ||
        far_get_le64(r->body.data + 32) != r->records || fgetc(r->file) != EOF) {
        return far_fail(err, FAR_CORRUPT, "the backup is damaged: it does not give the hash at its end");
    }
    return 0;
}

/* The next record; FAR_NOT_FOUND after the last one, whose hash was right. */
static int next_record(struct reader *r, struct far_error *err)
{
    uint8_t header[FAR_BACKUP_RECORD_HEADER];
    uint32_t len = 0;
    far_buf_reset(&r->body);
    int rc = take(r, header, sizeof header, err);
    rc = rc != 0 ? rc : far_backup_record_decode(header, &r->type, &len, err);
    uint8_t *at = rc == 0 ? far_buf_reserve(&r->body, (size_t)len + 1) : NULL;
    if (rc == 0 && at == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a record");
    }
    rc = rc != 0 ? rc : take(r, at, len, err);
    if (rc != 0) {
        return rc;
    }
    r->body.len += len;
    if (r->type == FAR_BACKUP_END) {
        rc = check_end(r, err);
        return rc != 0 ? rc : FAR_NOT_FOUND;
    }
    r->records++;
    if ((r->records == 1) != (r->type == FAR_BACKUP_MANIFEST)) {
        return far_fail(err, FAR_CORRUPT, "the records of the backup are not in their order");
    }
    return EVP_DigestUpdate(r->hash, header, sizeof header) == 1 && EVP_DigestUpdate(r->hash, at, len) == 1
               ? 0
               : far_fail(err, FAR_LIMIT, "no memory");
}

int far_backup_verify(const char *path, struct far_backup_header *ret_header, struct far_error *err)
{
    struct reader r;
    int rc = open_reader(path, &r, err);
    while (rc == 0) {
        rc = next_record(&r, err);
    }
    if (rc == FAR_NOT_FOUND && r.type == FAR_BACKUP_END) {
        rc = r.records > 0 ? 0 : far_fail(err, FAR_CORRUPT, "the backup holds nothing");
    }
    if (rc == 0) {
        *ret_header = r.header;
    }
    close_reader(&r);
    return rc;
}

/* ---- a log made of one ---- */

static int take_history(struct far_store *store, struct far_slice batch, struct far_error *err)
{
    struct far_store_txn *txn;
    int rc = far_store_begin(store, true, &txn, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_history_apply(txn, batch, err);
    if (rc != 0) {
        far_store_abort(txn);
        return rc;
    }
    return far_store_commit(txn, err);
}

/* Without history only the state is taken. */
static int fill_store(struct far_store *store, struct reader *r, bool has_history, struct far_error *err)
{
    struct far_install install;
    struct far_manifest manifest = {.index = 0};
    struct far_buf kept; /* the manifest borrows its configuration */
    bool is_finished = false;
    far_buf_init(&kept, FAR_MANIFEST_MAX);
    int rc = far_install_begin(store, &install, err);
    while (rc == 0 && (rc = next_record(r, err)) == 0) {
        struct far_slice body = far_buf_slice(&r->body);
        if (r->type == FAR_BACKUP_MANIFEST) {
            rc = far_buf_append(&kept, body.data, body.len) == 0 ? far_manifest_decode(far_buf_slice(&kept), &manifest, err)
                                                                 : far_fail(err, FAR_CORRUPT, "the manifest is too long");
        } else if (r->type == FAR_BACKUP_PIECE) {
            rc = far_install_piece(&install, body, err);
        } else if (!is_finished) {
            rc = far_install_finish(&install, &manifest, err);
            is_finished = rc == 0;
            rc = rc != 0 || !has_history ? rc : take_history(store, body, err);
        } else if (has_history) {
            rc = take_history(store, body, err);
        }
    }
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    if (rc == 0 && !is_finished) {
        rc = far_install_finish(&install, &manifest, err);
    }
    far_buf_done(&kept);
    return rc;
}

/* The state's raft configuration becomes that of this server alone; the log begins behind it. */
static int begin_log(struct far_store *store, const struct far_log_config *config, struct far_log_ending *ending,
                     struct far_error *err)
{
    char path[PATH_BYTES];
    struct far_disk *disk = NULL;
    struct far_store_txn *txn;
    struct far_buf configuration;
    far_buf_init(&configuration, FAR_RAFT_MANIFEST_MAX);
    snprintf(path, sizeof path, "%s/wal", config->dir);
    int rc = far_disk_posix_new(path, &disk, err);
    rc = rc != 0 ? rc : far_raft_found(disk, config->server_id, config->address, &ending->end, &configuration, err);
    far_disk_posix_free(disk);
    rc = rc != 0 ? rc : far_store_begin(store, true, &txn, err);
    if (rc == 0) {
        struct far_store_meta *meta = far_store_meta(txn);
        memcpy(meta->configuration, configuration.data, configuration.len);
        meta->configuration_len = configuration.len;
        meta->configuration_index = meta->stored_index = meta->applied_index;
        meta->stored_term = meta->applied_term;
        meta->installed_index = 0;
        rc = far_store_commit(txn, err);
    }
    far_buf_done(&configuration);
    return rc != 0 ? rc : far_store_sync(store, err);
}

static int read_ending(struct far_store *store, struct far_log_ending *ret, struct far_error *err)
{
    struct far_store_txn *txn;
    int rc = far_store_begin(store, false, &txn, err);
    if (rc == 0) {
        const struct far_store_meta *meta = far_store_meta(txn);
        *ret = (struct far_log_ending){.end = {.last_term = meta->applied_term,
                                               .last_index = meta->applied_index,
                                               .term = meta->applied_term + FAR_RAFT_RECOVERY_TERMS},
                                       .sure_index = meta->applied_index,
                                       .sure_seq = meta->last_seq,
                                       .parent_seq = meta->last_seq};
        memcpy(ret->sure_head, meta->head, 32);
        memcpy(ret->parent_head, meta->head, 32);
        far_store_abort(txn);
    }
    return rc;
}

static int identify_view(struct far_store *store, far_backup_identify_fn identify, void *arg, struct far_error *err)
{
    struct far_log_view view;
    int rc = far_log_view_of(store, &view, err);
    if (rc == 0) {
        rc = identify(arg, &view, err);
        far_log_view_end(&view);
    }
    return rc;
}

int far_log_restore(struct far_log_config *config, const char *path, far_backup_identify_fn identify, void *arg,
                    struct far_log_ending *ret_ending, struct far_error *err)
{
    char state[PATH_BYTES];
    struct far_store *store = NULL;
    struct reader r;
    int rc = open_reader(path, &r, err);
    snprintf(state, sizeof state, "%s/state", config->dir);
    if (rc == 0 && mkdir(state, 0700) != 0) {
        rc = errno == EEXIST ? far_fail(err, FAR_CONFLICT, "folder '%s' holds a log", config->dir)
                             : far_fail_errno(err, FAR_IO, errno, "make folder '%s'", state);
    }
    rc = rc != 0 ? rc : far_store_open_lmdb(state, config->map_bytes, false, &store, err);
    rc = rc != 0 ? rc : fill_store(store, &r, true, err);
    rc = rc != 0 ? rc : read_ending(store, ret_ending, err);
    rc = rc != 0 ? rc : identify_view(store, identify, arg, err);
    rc = rc != 0 ? rc : begin_log(store, config, ret_ending, err);
    far_store_close(store);
    close_reader(&r);
    return rc;
}

int far_backup_look(const char *path, far_backup_identify_fn identify, void *arg, struct far_log_ending *ret_ending,
                    struct far_error *err)
{
    struct far_store *store = NULL;
    struct reader r;
    int rc = open_reader(path, &r, err);
    rc = rc != 0 ? rc : far_store_open_memory(&store, err);
    rc = rc != 0 ? rc : fill_store(store, &r, false, err);
    rc = rc != 0 ? rc : read_ending(store, ret_ending, err);
    rc = rc != 0 ? rc : identify_view(store, identify, arg, err);
    far_store_close(store);
    close_reader(&r);
    return rc;
}
