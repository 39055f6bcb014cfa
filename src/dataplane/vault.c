/* The vault's blocks: has, put, get, sync; see vault.h. Opening is in vault_open.c.
 *
 * A put goes into the buffer of the last pack and its name into `waiting`. sync hands the buffer to the kernel, moves
 * `waiting` to `committing`, syncs the pack, and only then writes the names into the index: the index never knows more
 * than the disk. If the index cannot be written (no space), `committing` stays and the next sync goes on with it. */
#include "dataplane/vault_private.h"

#include "dataplane/domain_private.h"
#include "dataplane/remote.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { HAS_BATCH = 256, PUT_BATCH = 64 };

/* ---- names that wait for the index ---- */

int far_waiting_init(struct far_waiting *waiting, struct far_error *err)
{
    waiting->count = 0;
    waiting->slots = calloc(FAR_WAITING_SLOTS, sizeof *waiting->slots);
    return waiting->slots != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the vault");
}

/* The slot of this id, or the free one where it would go. */
static struct far_index_entry *waiting_slot(const struct far_waiting *waiting, const struct far_hash256 *id)
{
    size_t i = far_get_le64(id->bytes) % FAR_WAITING_SLOTS;
    while (waiting->slots[i].place.pack != 0 && !far_hash256_equal(&waiting->slots[i].id, id)) {
        i = (i + 1) % FAR_WAITING_SLOTS;
    }
    return &waiting->slots[i];
}

static void waiting_add(struct far_waiting *waiting, const struct far_hash256 *id, struct far_place place)
{
    struct far_index_entry *slot = waiting_slot(waiting, id);
    waiting->count += slot->place.pack == 0;
    slot->id = *id;
    slot->place = place;
}

static void waiting_clear(struct far_waiting *waiting)
{
    if (waiting->count > 0) {
        memset(waiting->slots, 0, FAR_WAITING_SLOTS * sizeof *waiting->slots);
        waiting->count = 0;
    }
}

/* Under lock. */
static bool find_waiting(const struct far_vault *vault, const struct far_hash256 *id, struct far_place *ret_place)
{
    const struct far_index_entry *slot = waiting_slot(&vault->waiting, id);
    if (slot->place.pack == 0) {
        slot = waiting_slot(&vault->committing, id);
    }
    *ret_place = slot->place;
    return slot->place.pack != 0;
}

/* ---- damage ---- */

/* Under lock. */
static bool is_damaged(const struct far_vault *vault, struct far_place place)
{
    size_t count = vault->damaged_count < FAR_DAMAGED_MAX ? vault->damaged_count : FAR_DAMAGED_MAX;
    for (size_t i = 0; i < count; i++) {
        if (vault->damaged[i].pack == place.pack && vault->damaged[i].offset == place.offset) {
            return true;
        }
    }
    return false;
}

void far_vault_note_damage(struct far_vault *vault, struct far_place place, const char *text)
{
    pthread_mutex_lock(&vault->lock);
    if (!is_damaged(vault, place)) {
        vault->damaged[vault->damaged_count++ % FAR_DAMAGED_MAX] = place;
    }
    vault->stats.damages++;
    snprintf(vault->stats.damage, sizeof vault->stats.damage, "%s", text);
    pthread_mutex_unlock(&vault->lock);
}

/* A message that names the place; cause is what was found there. */
static int name_damage(struct far_vault *vault, struct far_place place, const struct far_hash256 *id,
                       const char *cause, struct far_error *err)
{
    char hex[65];
    char path[4096];
    struct far_error named;
    far_hex_encode(id->bytes, 32, hex);
    far_packs_path(&vault->packs, place.pack, path, sizeof path);
    far_fail(&named, FAR_CORRUPT, "%.300s: offset %llu: id %s: %s", path, (unsigned long long)place.offset, hex, cause);
    far_vault_note_damage(vault, place, named.message);
    if (err != NULL) {
        *err = named;
    }
    return FAR_CORRUPT;
}

static int no_such(const struct far_vault *vault, const struct far_hash256 *id, struct far_error *err)
{
    char hex[65];
    far_hex_encode(id->bytes, 32, hex);
    return far_fail(err, FAR_NOT_FOUND, "vault '%s' holds nothing with id %s", vault->dir, hex);
}

int far_vault_note_wrong(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hash,
                         const char *what, struct far_error *err)
{
    struct far_place place;
    struct far_hash256 id;
    far_domain_id(domain, hash, &id);
    int rc = far_vault_find(vault, &id, &place, err);
    if (rc == 0 && place.pack == 0) { /* a pass deleted it meanwhile: nobody needs it */
        return no_such(vault, &id, err);
    }
    return rc != 0 ? rc : name_damage(vault, place, &id, what, err);
}

/* ---- finding ---- */

/* At most HAS_BATCH ids: what is known of them, pack 0 where there is nothing. What waits for the index is needed by nobody yet. */
static int find_batch(struct far_vault *vault, const struct far_hash256 *ids, size_t count,
                      struct far_index_row *ret_rows, struct far_error *err)
{
    struct far_hash256 rest[HAS_BATCH];
    size_t rest_at[HAS_BATCH];
    struct far_index_row rest_rows[HAS_BATCH];
    size_t rest_count = 0;
    pthread_mutex_lock(&vault->lock);
    for (size_t i = 0; i < count; i++) {
        ret_rows[i] = (struct far_index_row){0};
        if (!find_waiting(vault, &ids[i], &ret_rows[i].place)) {
            rest_at[rest_count] = i;
            rest[rest_count++] = ids[i];
        }
    }
    pthread_mutex_unlock(&vault->lock);
    if (rest_count == 0) {
        return 0;
    }
    int rc = far_index_look(vault->index, rest, rest_count, rest_rows, err);
    for (size_t i = 0; rc == 0 && i < rest_count; i++) {
        ret_rows[rest_at[i]] = rest_rows[i];
    }
    return rc;
}

int far_vault_find(struct far_vault *vault, const struct far_hash256 *id, struct far_place *ret_place,
                   struct far_error *err)
{
    struct far_index_row row;
    int rc = find_batch(vault, id, 1, &row, err);
    if (rc == 0) {
        *ret_place = row.place;
    }
    return rc;
}

/* Somebody will build on this record: a pass that runs does not delete it. */
static void note_found(struct far_vault *vault, const struct far_hash256 *id, const struct far_index_row *row)
{
    if (vault->reclaim.runs && row->needs == 0 && far_place_before(row->place, vault->reclaim.mark)) {
        uint64_t bit = far_get_le64(id->bytes + 8) % FAR_FOUND_BITS;
        __atomic_fetch_or(&vault->reclaim.found[bit / 8], (uint8_t)(1u << (bit % 8)), __ATOMIC_RELAXED);
    }
}

static int has_batch(struct far_vault *vault, const struct far_hash256 *ids, size_t count, bool *ret_has,
                     struct far_error *err)
{
    struct far_index_row rows[HAS_BATCH];
    pthread_rwlock_rdlock(&vault->reclaim.finding);
    int rc = find_batch(vault, ids, count, rows, err);
    if (rc == 0) {
        pthread_mutex_lock(&vault->lock);
        for (size_t i = 0; i < count; i++) {
            bool there = rows[i].place.pack != 0 && !is_damaged(vault, rows[i].place);
            ret_has[i] = there || far_hash256_equal(&ids[i], far_zero_leaf());
            if (there) {
                note_found(vault, &ids[i], &rows[i]);
            }
        }
        pthread_mutex_unlock(&vault->lock);
    }
    pthread_rwlock_unlock(&vault->reclaim.finding);
    return rc;
}

int far_vault_has(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hashes, size_t count,
                  bool *ret_has, struct far_error *err)
{
    struct far_hash256 ids[HAS_BATCH];
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < count; at += HAS_BATCH) {
        size_t batch = count - at < HAS_BATCH ? count - at : HAS_BATCH;
        for (size_t i = 0; i < batch; i++) {
            far_domain_id(domain, &hashes[at + i], &ids[i]);
        }
        rc = has_batch(vault, ids, batch, ret_has + at, err);
        for (size_t i = at; rc == 0 && i < at + batch; i++) {
            ret_has[i] = ret_has[i] || far_hash256_equal(&hashes[i], far_zero_leaf());
        }
    }
    return rc;
}

/* ---- storing ---- */

int far_vault_check_writable(struct far_vault *vault, struct far_error *err)
{
    if (vault->read_only) {
        return far_fail(err, FAR_CONFLICT, "vault '%s' is open for reading only", vault->dir);
    }
    pthread_mutex_lock(&vault->lock);
    bool broken = vault->broken;
    pthread_mutex_unlock(&vault->lock);
    if (broken && far_remote_is_fenced(vault)) {
        return far_fail(err, FAR_CONFLICT, "vault '%s' was taken over: another folder writes to it", vault->dir);
    }
    return broken ? far_fail(err, FAR_IO, "vault '%s': an earlier sync failed; it must be opened anew", vault->dir) : 0;
}

/* Under lock: append and remember, unless it came meanwhile. */
static int append_locked(struct far_vault *vault, const struct far_record *record, const void *stored, uint64_t commits,
                         struct far_error *err)
{
    struct far_place place;
    struct far_index_row row = {0};
    /* The index was asked when there were so many commits: a later one may have brought it. */
    if (vault->commits != commits) {
        int asked = far_index_look(vault->index, &record->id, 1, &row, err);
        if (asked != 0) {
            return asked;
        }
    }
    bool came = row.place.pack != 0 && !is_damaged(vault, row.place) && row.needs == 0 && row.since == 0;
    if (came || (find_waiting(vault, &record->id, &place) && !is_damaged(vault, place))) {
        vault->stats.blocks_known += record->type == FAR_RECORD_BLOCK;
        return 0;
    }
    int rc = far_packs_append(&vault->packs, record, stored, &place, err);
    vault->broken = vault->broken || vault->packs.sync_failed;
    if (rc != 0) {
        return rc;
    }
    waiting_add(&vault->waiting, &record->id, place);
    vault->stats.blocks_put += record->type == FAR_RECORD_BLOCK;
    vault->stats.bytes_written += place.length;
    return 0;
}

/* Wait until there is room for a name. Under lock, which is let go meanwhile. */
static int make_room(struct far_vault *vault, struct far_error *err)
{
    int rc = 0;
    while (rc == 0 && vault->waiting.count >= FAR_WAITING_MAX) {
        pthread_mutex_unlock(&vault->lock);
        rc = far_vault_sync(vault, err);
        pthread_mutex_lock(&vault->lock);
    }
    return rc;
}

/* One record that is not there yet, encrypted; record->stored_len is of the plain bytes. */
static int store_sealed(struct far_vault *vault, const struct far_domain *domain, struct far_record *record, const void *plain,
                        uint64_t commits, struct far_error *err)
{
    uint8_t *stored = far_domain_scratch();
    if (stored == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to encrypt");
    }
    pthread_mutex_lock(&vault->lock);
    uint32_t pack = vault->packs.last != 0 ? vault->packs.last : 1;
    pthread_mutex_unlock(&vault->lock);
    int rc = far_domain_seal(domain, pack, record, plain, record->stored_len, stored, err);
    if (rc != 0) {
        return rc;
    }
    record->sum = far_hash64(stored, record->stored_len);
    pthread_mutex_lock(&vault->lock);
    rc = make_room(vault, err);
    rc = rc == 0 ? append_locked(vault, record, stored, commits, err) : rc;
    pthread_mutex_unlock(&vault->lock);
    return rc;
}

/* In a keyed domain: each is encrypted outside the lock, and appended while it is still in the cache. */
static int store_keyed(struct far_vault *vault, const struct far_domain *domain, struct far_record *records,
                       const void *const *stored, const bool *known, size_t count, uint64_t commits, struct far_error *err)
{
    uint64_t blocks_known = 0;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        blocks_known += known[i] && records[i].type == FAR_RECORD_BLOCK;
        rc = known[i] ? 0 : store_sealed(vault, domain, &records[i], stored[i], commits, err);
    }
    pthread_mutex_lock(&vault->lock);
    vault->stats.blocks_known += blocks_known;
    pthread_mutex_unlock(&vault->lock);
    return rc;
}

/* At most PUT_BATCH records, named by their hashes; the lock is taken once for all that are not there yet. The zero block is. */
static int store_batch(struct far_vault *vault, const struct far_domain *domain, struct far_record *records,
                       const void *const *stored, size_t count, struct far_error *err)
{
    struct far_hash256 ids[PUT_BATCH] = {0};
    bool known[PUT_BATCH], zero[PUT_BATCH] = {false};
    for (size_t i = 0; i < count; i++) {
        zero[i] = far_hash256_equal(&records[i].id, far_zero_leaf());
        far_domain_id(domain, &records[i].id, &ids[i]);
        records[i].id = ids[i];
    }
    pthread_mutex_lock(&vault->lock);
    uint64_t commits = vault->commits;
    pthread_mutex_unlock(&vault->lock);
    int rc = has_batch(vault, ids, count, known, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        known[i] = known[i] || zero[i];
    }
    if (rc == 0 && domain != NULL) {
        return store_keyed(vault, domain, records, stored, known, count, commits, err);
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        records[i].sum = known[i] ? 0 : far_hash64(stored[i], records[i].stored_len);
    }
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&vault->lock);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = known[i] ? 0 : make_room(vault, err);
        if (rc == 0 && known[i]) {
            vault->stats.blocks_known += records[i].type == FAR_RECORD_BLOCK;
        } else if (rc == 0) {
            rc = append_locked(vault, &records[i], stored[i], commits, err);
        }
    }
    pthread_mutex_unlock(&vault->lock);
    return rc;
}

int far_vault_store(struct far_vault *vault, const struct far_domain *domain, struct far_record *record, const void *stored,
                    struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    return rc == 0 ? store_batch(vault, domain, record, &stored, 1, err) : rc;
}

int far_vault_move(struct far_vault *vault, const struct far_record *record, const void *stored, struct far_error *err)
{
    struct far_place place;
    int rc = far_vault_check_writable(vault, err);
    pthread_mutex_lock(&vault->lock);
    while (rc == 0 && vault->waiting.count >= FAR_WAITING_MAX) {
        pthread_mutex_unlock(&vault->lock);
        rc = far_vault_sync(vault, err);
        pthread_mutex_lock(&vault->lock);
    }
    if (rc == 0 && !find_waiting(vault, &record->id, &place)) {
        rc = far_packs_append(&vault->packs, record, stored, &place, err);
        vault->broken = vault->broken || vault->packs.sync_failed;
        if (rc == 0) {
            waiting_add(&vault->waiting, &record->id, place);
            vault->stats.bytes_written += place.length;
        }
    }
    pthread_mutex_unlock(&vault->lock);
    return rc;
}

static int check_block(const struct far_vault_block *block, struct far_error *err)
{
    bool raw = block->codec == FAR_CODEC_RAW;
    bool length_good = raw ? block->len == FAR_BLOCK_BYTES : block->len > 0 && block->len <= FAR_BLOCK_BYTES;
    if (!length_good || (!raw && block->codec != FAR_CODEC_ZSTD)) {
        return far_fail(err, FAR_INVALID, "a block of %zu bytes with codec %d cannot be stored", block->len,
                        (int)block->codec);
    }
    return 0;
}

static int put_batch(struct far_vault *vault, const struct far_domain *domain, const struct far_vault_block *blocks,
                     size_t count, struct far_error *err)
{
    struct far_record records[PUT_BATCH];
    const void *stored[PUT_BATCH];
    for (size_t i = 0; i < count; i++) {
        records[i] = (struct far_record){
            .type = FAR_RECORD_BLOCK, .codec = (uint8_t)blocks[i].codec, .id = blocks[i].id,
            .stored_len = (uint32_t)blocks[i].len, .raw_len = FAR_BLOCK_BYTES,
        };
        stored[i] = blocks[i].data;
    }
    return store_batch(vault, domain, records, stored, count, err);
}

int far_vault_put_many(struct far_vault *vault, const struct far_domain *domain, const struct far_vault_block *blocks,
                       size_t count, struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < count; i++) {
        rc = check_block(&blocks[i], err);
    }
    rc = rc == 0 ? far_vault_check_writable(vault, err) : rc;
    for (size_t i = 0; rc == 0 && i < count; i += PUT_BATCH) {
        rc = put_batch(vault, domain, blocks + i, count - i < PUT_BATCH ? count - i : PUT_BATCH, err);
    }
    return rc;
}

int far_vault_put(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *id, enum far_codec codec,
                  const void *data, size_t len, struct far_error *err)
{
    struct far_vault_block block = {.id = *id, .codec = codec, .data = data, .len = len};
    return far_vault_put_many(vault, domain, &block, 1, err);
}

/* ---- syncing ---- */

static int compare_entries(const void *a, const void *b)
{
    const struct far_index_entry *x = a;
    const struct far_index_entry *y = b;
    return memcmp(x->id.bytes, y->id.bytes, 32);
}

/* Names into the index, sorted (fewer pages are touched), in transactions of bounded size; the last sets the position. */
static int commit_names(struct far_vault *vault, struct far_error *err)
{
    size_t count = 0;
    struct far_index_entry *entries = malloc((vault->committing.count + 1) * sizeof *entries);
    if (entries == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to sync the vault");
    }
    for (size_t i = 0; i < FAR_WAITING_SLOTS; i++) { /* only sync changes committing: no lock to read it */
        if (vault->committing.slots[i].place.pack != 0) {
            entries[count++] = vault->committing.slots[i];
        }
    }
    qsort(entries, count, sizeof *entries, compare_entries);
    int rc = 0;
    for (size_t at = 0; rc == 0 && at < count; at += FAR_INDEX_BATCH_MAX) {
        size_t batch = count - at < FAR_INDEX_BATCH_MAX ? count - at : FAR_INDEX_BATCH_MAX;
        bool last = at + batch == count;
        rc = far_index_put(vault->index, entries + at, batch, last ? &vault->committing_end : NULL, err);
    }
    free(entries);
    return rc;
}

/* Everything put so far on the disk; *ret_all: `waiting` was moved to `committing` by this call. */
static int sync_packs(struct far_vault *vault, bool *ret_all, struct far_error *err)
{
    int fd = -1;
    pthread_mutex_lock(&vault->lock);
    int rc = far_packs_flush(&vault->packs, err);
    struct far_place end = far_packs_end(&vault->packs);
    if (rc == 0 && vault->packs.write_fd >= 0) {
        fd = dup(vault->packs.write_fd);
        rc = fd >= 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync the packs of '%s'", vault->dir);
    }
    if (rc == 0 && vault->committing.count == 0) {
        struct far_waiting empty = vault->committing;
        vault->committing = vault->waiting;
        vault->waiting = empty;
        vault->committing_end = end;
        *ret_all = true;
    }
    pthread_mutex_unlock(&vault->lock);
    if (rc == 0 && fd >= 0 && fdatasync(fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync the packs of '%s'", vault->dir);
        pthread_mutex_lock(&vault->lock);
        vault->broken = true;
        pthread_mutex_unlock(&vault->lock);
    }
    if (fd >= 0) {
        close(fd);
    }
    if (rc == 0) {
        pthread_mutex_lock(&vault->lock);
        vault->durable = end;
        pthread_mutex_unlock(&vault->lock);
    }
    return rc;
}

static bool nothing_to_sync(struct far_vault *vault)
{
    pthread_mutex_lock(&vault->lock);
    struct far_place end = far_packs_end(&vault->packs);
    bool nothing = vault->waiting.count == 0 && vault->committing.count == 0 &&
                   end.pack == vault->durable.pack && end.offset == vault->durable.offset;
    pthread_mutex_unlock(&vault->lock);
    return nothing;
}

int far_vault_sync(struct far_vault *vault, struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&vault->sync_lock);
    bool all = nothing_to_sync(vault);
    while (rc == 0 && !all) {
        rc = sync_packs(vault, &all, err);
        if (rc == 0) {
            rc = commit_names(vault, err);
        }
        if (rc == 0) {
            pthread_mutex_lock(&vault->lock);
            waiting_clear(&vault->committing);
            vault->commits++;
            pthread_mutex_unlock(&vault->lock);
        }
    }
    pthread_mutex_unlock(&vault->sync_lock);
    return rc;
}

/* ---- reading ---- */

/* The bytes of a record as they are stored, header first. */
static int read_stored(struct far_vault *vault, struct far_place place, uint8_t *bytes, struct far_error *err)
{
    int fd = -1;
    char path[4096];
    pthread_mutex_lock(&vault->lock);
    bool buffered = far_packs_read_buffer(&vault->packs, place, bytes);
    int rc = buffered ? 0 : far_packs_get_file(&vault->packs, place.pack, &fd, err);
    pthread_mutex_unlock(&vault->lock);
    uint64_t size;
    if (rc == FAR_CORRUPT && far_remote_has(vault, place.pack, &size)) { /* only there */
        return far_remote_read(vault, place.pack, place.offset, place.length, bytes, err);
    }
    if (buffered || rc != 0) {
        return rc;
    }
    far_packs_path(&vault->packs, place.pack, path, sizeof path);
    rc = far_file_pread(fd, bytes, place.length, place.offset, path, err);
    pthread_mutex_lock(&vault->lock);
    far_packs_put_file(&vault->packs, place.pack, fd);
    pthread_mutex_unlock(&vault->lock);
    return rc;
}

/* Read, check and uncompress what is at a place. ret_packed may be NULL. */
static int open_place(struct far_vault *vault, const struct far_domain *domain, struct far_place place, uint8_t type,
                      const struct far_hash256 *id, struct far_packed *ret_packed, void *ret_raw, size_t raw_len,
                      struct far_error *err)
{
    uint8_t stored[FAR_RECORD_HEADER_BYTES + FAR_RECORD_PAYLOAD_MAX];
    struct far_record record;
    if (place.length < FAR_RECORD_HEADER_BYTES || place.length > sizeof stored) {
        return far_fail(err, FAR_CORRUPT, "the index gives an impossible length");
    }
    int rc = read_stored(vault, place, stored, err);
    if (rc == 0) {
        rc = far_record_decode(stored, &record, err);
    }
    if (rc != 0) {
        return rc;
    }
    bool expected = record.type == type && record.domain == far_domain_number(domain) && record.raw_len == raw_len &&
                    far_hash256_equal(&record.id, id) &&
                    record.stored_len + FAR_RECORD_HEADER_BYTES == place.length;
    if (!expected) {
        return far_fail(err, FAR_CORRUPT, "another record than expected");
    }
    uint8_t *payload = stored + FAR_RECORD_HEADER_BYTES;
    size_t len = record.stored_len;
    rc = far_record_check(&record, payload, err);
    if (rc == 0 && domain != NULL) {
        rc = far_domain_unseal(domain, &record, payload, payload, err);
        len -= FAR_SEALED_OVERHEAD;
    }
    rc = rc == 0 ? far_record_unpack(&record, payload, len, ret_raw, raw_len, err) : rc;
    if (rc == 0 && ret_packed != NULL) {
        ret_packed->codec = (enum far_codec)record.codec;
        ret_packed->len = len;
        memcpy(ret_packed->data, payload, len);
    }
    return rc;
}

static int load(struct far_vault *vault, const struct far_domain *domain, uint8_t type, const struct far_hash256 *hash,
                struct far_packed *ret_packed, void *ret_raw, size_t raw_len, struct far_error *err)
{
    struct far_error cause;
    struct far_place place;
    struct far_hash256 id;
    far_domain_id(domain, hash, &id);
    int rc = far_vault_find(vault, &id, &place, err);
    if (rc != 0) {
        return rc;
    }
    if (place.pack == 0) {
        return no_such(vault, &id, err);
    }
    rc = open_place(vault, domain, place, type, &id, ret_packed, ret_raw, raw_len, &cause);
    /* Reclaim may have moved it between the two. */
    struct far_place now = place;
    while (rc == FAR_CORRUPT && far_vault_find(vault, &id, &now, NULL) == 0 && now.pack != 0 &&
           (now.pack != place.pack || now.offset != place.offset)) {
        place = now;
        rc = open_place(vault, domain, place, type, &id, ret_packed, ret_raw, raw_len, &cause);
    }
    if (rc == FAR_CORRUPT && now.pack == 0) { /* or deleted: its bytes are zeroed, which is no damage */
        return no_such(vault, &id, err);
    }
    if (rc == FAR_CORRUPT) {
        return name_damage(vault, place, &id, cause.message, err);
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}

int far_vault_load(struct far_vault *vault, const struct far_domain *domain, uint8_t type, const struct far_hash256 *hash,
                   void *ret_raw, size_t raw_len, struct far_error *err)
{
    return load(vault, domain, type, hash, NULL, ret_raw, raw_len, err);
}

int far_vault_get_packed(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *hash,
                         struct far_packed *ret_packed, void *ret_raw, struct far_error *err)
{
    struct far_hash256 leaf;
    int rc = load(vault, domain, FAR_RECORD_BLOCK, hash, ret_packed, ret_raw, FAR_BLOCK_BYTES, err);
    if (rc == 0) {
        far_block_leaf(ret_raw, FAR_BLOCK_BYTES, &leaf);
        rc = far_hash256_equal(&leaf, hash) ? 0 : far_vault_note_wrong(vault, domain, hash, FAR_WRONG_BLOCK, err);
    }
    return rc;
}

int far_vault_get(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *id, bool check_sha,
                  void *ret_block, struct far_error *err)
{
    if (far_hash256_equal(id, far_zero_leaf())) {
        memset(ret_block, 0, FAR_BLOCK_BYTES);
        return 0;
    }
    int rc = far_vault_load(vault, domain, FAR_RECORD_BLOCK, id, ret_block, FAR_BLOCK_BYTES, err);
    if (rc == 0 && check_sha) {
        struct far_hash256 leaf;
        far_block_leaf(ret_block, FAR_BLOCK_BYTES, &leaf);
        if (!far_hash256_equal(&leaf, id)) {
            rc = far_vault_note_wrong(vault, domain, id, FAR_WRONG_BLOCK, err);
        }
    }
    return rc;
}

void far_vault_stats(struct far_vault *vault, struct far_vault_stats *ret_stats)
{
    uint64_t indexed = far_index_count(vault->index);
    pthread_mutex_lock(&vault->lock);
    *ret_stats = vault->stats;
    ret_stats->packs = vault->packs.first == 0 ? 0 : vault->packs.last - vault->packs.first + 1 - vault->packs.removed;
    ret_stats->pack_bytes = vault->packs.total_bytes - vault->packs.dead_bytes;
    ret_stats->records = indexed + vault->waiting.count + vault->committing.count;
    pthread_mutex_unlock(&vault->lock);
}
