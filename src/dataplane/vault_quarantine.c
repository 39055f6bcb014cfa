/* Quarantine: what nobody needs waits there for a full further cycle, and is then deleted. See reclaim.h.
 *
 * Each record that is not needed has a row (pass, id). Those that a count made so have theirs from the ledger; the sweep makes those
 * of records that were never needed (an attempt that failed, a tree that was never sealed), by looking at what came into the packs
 * since the last sweep. Whoever deletes is alone with the index: a record is found before that and stays, or it is not found. */
#include "dataplane/vault_reclaim_private.h"

#include "dataplane/remote.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* ---- sweeping ---- */

struct sweep {
    struct far_reclaim *reclaim;
    struct far_index_entry *entries; /* FAR_RECLAIM_BATCH_MAX of them */
    bool *destroyed; /* beside them: their domain was */
    size_t count;
    struct far_place place; /* swept up to here with these */
    uint64_t quarantined, deleted, deleted_bytes; /* by the transaction under way */
    uint64_t looked_at;
};

/* Of a domain that was destroyed: whoever needs it cannot read it. */
static int delete_destroyed(struct sweep *sweep, struct far_index_txn *txn, const struct far_index_entry *entry)
{
    struct far_index_row row;
    int code = far_index_txn_row(txn, &entry->id, &row);
    if (code == 0 && row.place.pack == entry->place.pack && row.place.offset == entry->place.offset) {
        code = far_index_txn_del_row(txn, &entry->id);
    }
    sweep->deleted++;
    sweep->deleted_bytes += entry->place.length;
    return code == 0 || code == FAR_INDEX_NOTHING ? far_index_txn_doom(txn, entry->place) : code;
}

static int sweep_entry(struct sweep *sweep, struct far_index_txn *txn, const struct far_index_entry *entry)
{
    struct far_index_row row;
    int code = far_index_txn_row(txn, &entry->id, &row);
    if (code == FAR_INDEX_NOTHING) { /* no index knows it: as if it had come just now */
        row = (struct far_index_row){.place = entry->place};
        code = far_index_txn_put_row(txn, &entry->id, &row);
    }
    if (code != 0) {
        return code;
    }
    if (row.place.pack != entry->place.pack || row.place.offset != entry->place.offset) {
        /* Stored again behind it. Where the index knows only the older one, the name of this one is still on its way there. */
        return far_place_before(entry->place, row.place) ? far_index_txn_doom(txn, entry->place) : 0;
    }
    if (row.needs > 0 || row.since != 0) {
        return 0;
    }
    sweep->quarantined++;
    return far_index_txn_quarantine(txn, &entry->id, &row, sweep->reclaim->order.pass);
}

static int sweep_batch(void *arg, struct far_index_txn *txn)
{
    struct sweep *sweep = arg;
    struct far_index_key key;
    uint8_t bytes[16] = {0};
    int code = 0;
    sweep->quarantined = sweep->deleted = sweep->deleted_bytes = 0;
    for (size_t i = 0; code == 0 && i < sweep->count; i++) {
        code = sweep->destroyed[i] ? delete_destroyed(sweep, txn, &sweep->entries[i]) : sweep_entry(sweep, txn, &sweep->entries[i]);
    }
    far_index_key_begin(&key, FAR_INDEX_WORD);
    key.bytes[key.len++] = 's';
    far_put_le64(bytes, sweep->place.pack);
    far_put_le64(bytes + 8, sweep->place.offset);
    return code == 0 ? far_index_txn_put(txn, &key, bytes, sizeof bytes) : code;
}

static int flush_sweep(struct sweep *sweep, struct far_error *err)
{
    int rc = far_index_write(sweep->reclaim->vault->index, sweep_batch, sweep, err);
    if (rc == 0) {
        sweep->looked_at += sweep->count;
        sweep->reclaim->result->quarantined_records += sweep->quarantined;
        sweep->reclaim->result->deleted_records += sweep->deleted;
        sweep->reclaim->result->deleted_bytes += sweep->deleted_bytes;
        sweep->count = 0;
        rc = far_reclaim_tell(sweep->reclaim, "quarantine", sweep->looked_at, 0, err);
    }
    return rc;
}

static int swept_record(void *arg, struct far_place place, const struct far_record *record, struct far_error *err)
{
    struct sweep *sweep = arg;
    if (record->type == FAR_RECORD_SEAL) {
        return 0;
    }
    sweep->destroyed[sweep->count] = far_domain_bit(sweep->reclaim->destroyed, record->domain);
    sweep->entries[sweep->count++] = (struct far_index_entry){.id = record->id, .place = place};
    sweep->place = (struct far_place){.pack = place.pack, .offset = place.offset + place.length};
    return sweep->count >= sweep->reclaim->order.batch_max ? flush_sweep(sweep, err) : 0;
}

static int sweep_pack(struct sweep *sweep, uint32_t number, uint64_t from, uint64_t to, struct far_error *err)
{
    struct far_vault *vault = sweep->reclaim->vault;
    struct far_dead_list dead;
    struct far_pack_visitor visitor = {.arg = sweep, .dead = &dead, .record = swept_record};
    struct stat st;
    char path[4096];
    uint64_t end;
    bool sealed;
    far_packs_path(&vault->packs, number, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0 && errno == ENOENT && far_remote_has(vault, number, &end)) {
        int rc = far_dead_read(&vault->packs, number, &dead, NULL);
        rc = rc == 0 || rc == FAR_CORRUPT ? far_remote_scan(vault, number, from, to, &visitor, &end, &sealed, err) : rc;
        far_dead_done(&dead);
        return rc;
    }
    if (fd < 0) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    }
    int rc = fstat(fd, &st) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "stat '%s'", path);
    if (rc == 0 && far_dead_read(&vault->packs, number, &dead, NULL) != 0) {
        far_dead_done(&dead); /* zeroes are then skipped as what cannot be read */
    }
    uint64_t size = rc == 0 ? (uint64_t)st.st_size : 0;
    if (rc == 0) {
        rc = far_pack_scan(fd, path, number, from, to < size ? to : size, false, &visitor, &end, &sealed, err);
        far_dead_done(&dead);
    }
    close(fd);
    return rc;
}

/* Where the last sweep ended; at the beginning where a domain was destroyed since. */
static int sweep_begin(struct far_reclaim *reclaim, struct far_place *ret_from, struct far_error *err)
{
    uint8_t bytes[16], destroyed[16];
    int rc = far_ledger_word(reclaim->vault, 's', bytes, err);
    rc = rc == 0 || rc == FAR_NOT_FOUND ? far_ledger_word(reclaim->vault, 'd', destroyed, err) : rc;
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    *ret_from = (struct far_place){.pack = (uint32_t)far_get_le64(bytes), .offset = far_get_le64(bytes + 8)};
    if (far_get_le64(destroyed) != reclaim->destroyed_count) {
        *ret_from = (struct far_place){0};
    }
    return 0;
}

static int note_destroyed(struct far_reclaim *reclaim, struct far_error *err)
{
    uint8_t bytes[16] = {0};
    far_put_le64(bytes, reclaim->destroyed_count);
    return reclaim->destroyed_count == 0 ? 0 : far_ledger_set_word(reclaim->vault, 'd', bytes, err);
}

int far_reclaim_sweep(struct far_reclaim *reclaim, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    struct sweep sweep = {.reclaim = reclaim};
    struct far_place mark = vault->reclaim.mark;
    struct far_place from;
    int rc = sweep_begin(reclaim, &from, err);
    if (rc != 0) {
        return rc;
    }
    if (mark.pack == 0 || !far_place_before(from, mark)) {
        return 0;
    }
    bool destroyed[FAR_RECLAIM_BATCH_MAX];
    sweep.destroyed = destroyed;
    sweep.entries = malloc(FAR_RECLAIM_BATCH_MAX * sizeof *sweep.entries);
    if (sweep.entries == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to reclaim");
    }
    from = from.pack == 0 ? (struct far_place){.pack = 1} : from;
    for (uint32_t number = from.pack; rc == 0 && number <= mark.pack; number++) {
        uint64_t begin = number == from.pack && from.offset > FAR_PACK_HEADER_BYTES ? from.offset : FAR_PACK_HEADER_BYTES;
        uint64_t to = number == mark.pack ? mark.offset : UINT64_MAX;
        rc = begin < to ? sweep_pack(&sweep, number, begin, to, err) : 0;
    }
    sweep.place = mark;
    rc = rc == 0 ? flush_sweep(&sweep, err) : rc;
    free(sweep.entries);
    return rc == 0 ? note_destroyed(reclaim, err) : rc;
}

/* ---- deleting ---- */

struct deletion {
    struct far_reclaim *reclaim;
    struct far_index_key keys[FAR_RECLAIM_BATCH_MAX];
    size_t count;
    uint64_t deleted, bytes, found_again, waiting; /* by the transaction under way */
    bool is_silent; /* the store did not answer: it is not asked again while others wait */
};

static bool was_found(const struct far_vault *vault, const struct far_hash256 *id)
{
    uint64_t bit = far_get_le64(id->bytes + 8) % FAR_FOUND_BITS;
    return (__atomic_load_n(&vault->reclaim.found[bit / 8], __ATOMIC_RELAXED) >> (bit % 8) & 1) != 0;
}

/* Is it not known what is needed in this record's domain? */
static bool is_blocked(struct deletion *deletion, struct far_place place)
{
    const struct far_reclaim *reclaim = deletion->reclaim;
    uint8_t header[FAR_RECORD_HEADER_BYTES];
    struct far_record record;
    char path[4096];
    uint64_t size;
    if (!reclaim->blocks_some || place.pack == 0) {
        return false;
    }
    far_packs_path(&reclaim->vault->packs, place.pack, path, sizeof path);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool known = fd >= 0 && far_file_pread(fd, header, sizeof header, place.offset, path, NULL) == 0 &&
                 far_record_decode(header, &record, NULL) == 0;
    if (fd >= 0) {
        close(fd);
    } else { /* the bytes of a pack that is only in the store: one range, as likely as not there already */
        int rc = !deletion->is_silent && far_remote_has(reclaim->vault, place.pack, &size)
                     ? far_remote_read(reclaim->vault, place.pack, place.offset, sizeof header, header, NULL)
                     : FAR_NOT_FOUND;
        deletion->is_silent = deletion->is_silent || rc == FAR_BUSY;
        known = rc == 0 && far_record_decode(header, &record, NULL) == 0;
    }
    return !known || far_domain_bit(reclaim->blocked, record.domain);
}

static int delete_one(struct deletion *deletion, struct far_index_txn *txn, const struct far_index_key *key)
{
    struct far_vault *vault = deletion->reclaim->vault;
    struct far_hash256 id;
    struct far_index_row row;
    memcpy(id.bytes, key->bytes + key->len - 32, 32);
    int code = far_index_txn_del(txn, key);
    code = code == 0 ? far_index_txn_row(txn, &id, &row) : code;
    if (code != 0) {
        return code == FAR_INDEX_NOTHING ? 0 : code;
    }
    if (row.since != far_index_key_get_u64(key, 0)) { /* needed since, or another record now */
        deletion->found_again++;
        return 0;
    }
    if (was_found(vault, &id) || is_blocked(deletion, row.place)) { /* the next pass knows whether a tree has it */
        deletion->waiting++;
        return far_index_txn_quarantine(txn, &id, &row, deletion->reclaim->order.pass);
    }
    deletion->deleted++;
    deletion->bytes += row.place.length;
    code = far_index_txn_doom(txn, row.place);
    return code == 0 ? far_index_txn_del_row(txn, &id) : code;
}

static int delete_batch(void *arg, struct far_index_txn *txn)
{
    struct deletion *deletion = arg;
    int code = 0;
    deletion->deleted = deletion->bytes = deletion->found_again = deletion->waiting = 0;
    for (size_t i = 0; code == 0 && i < deletion->count; i++) {
        code = delete_one(deletion, txn, &deletion->keys[i]);
    }
    return code;
}

/* Those rows of the quarantine that are old enough, the oldest first. */
static int list_old(struct deletion *deletion, struct far_error *err)
{
    struct far_reclaim *reclaim = deletion->reclaim;
    static const struct far_hash256 least;
    struct far_index_key from;
    far_index_key_begin(&from, FAR_INDEX_QUARANTINE);
    far_index_key_u64(&from, 0);
    far_index_key_id(&from, &least);
    int rc = far_index_list(reclaim->vault->index, &from, 5, deletion->keys, reclaim->order.batch_max, &deletion->count, err);
    for (size_t i = 0; rc == 0 && i < deletion->count; i++) {
        if (far_index_key_get_u64(&deletion->keys[i], 0) >= reclaim->order.delete_before) {
            deletion->count = i;
        }
    }
    return rc;
}

int far_reclaim_delete(struct far_reclaim *reclaim, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    struct far_reclaim_result *result = reclaim->result;
    struct deletion *deletion = calloc(1, sizeof *deletion);
    if (deletion == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to reclaim");
    }
    deletion->reclaim = reclaim;
    int rc = list_old(deletion, err);
    while (rc == 0 && deletion->count > 0) {
        pthread_rwlock_wrlock(&vault->reclaim.finding);
        rc = far_index_write(vault->index, delete_batch, deletion, err);
        pthread_rwlock_unlock(&vault->reclaim.finding);
        if (rc == 0) {
            result->deleted_records += deletion->deleted;
            result->deleted_bytes += deletion->bytes;
            result->found_again_records += deletion->found_again;
            result->waiting_records += deletion->waiting;
            rc = far_reclaim_tell(reclaim, "delete", result->deleted_records, 0, err);
        }
        rc = rc == 0 ? list_old(deletion, err) : rc;
    }
    free(deletion);
    return rc;
}
