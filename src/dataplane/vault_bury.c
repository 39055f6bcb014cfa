/* The bytes of what was deleted: zeroed, their room given back, packs without a living record removed. See reclaim.h.
 *
 * The index has a row for each place that nobody names any more (doomed). For one pack after the other: the places join its list of
 * dead ranges, which is durable before they are zeroed; then the rows go. A crash between any two steps leaves the rows, and the next
 * pass does it once more. */
#define _GNU_SOURCE
#include "dataplane/vault_reclaim_private.h"

#include "dataplane/remote.h"

#include "base/file.h"
#include "base/hash.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SEAL_LENGTH = FAR_RECORD_HEADER_BYTES + 8, MOVE_PERCENT = 50 };

/* ---- one pack ---- */

struct grave {
    struct far_index_key *keys; /* FAR_RECLAIM_BATCH_MAX of them: the doomed places of one pack */
    size_t count;
    uint32_t pack;
};

static int drop_rows(void *arg, struct far_index_txn *txn)
{
    const struct grave *grave = arg;
    int code = 0;
    for (size_t i = 0; code == 0 && i < grave->count; i++) {
        code = far_index_txn_del(txn, &grave->keys[i]);
    }
    return code;
}

/* The places that were doomed first, as many as are in one pack. */
static int list_doomed(struct far_reclaim *reclaim, struct grave *grave, struct far_error *err)
{
    struct far_index_key from;
    far_index_key_begin(&from, FAR_INDEX_DOOMED);
    far_index_key_u64(&from, 0);
    far_index_key_u64(&from, 0);
    int rc = far_index_list(reclaim->vault->index, &from, 5, grave->keys, reclaim->order.batch_max, &grave->count, err);
    grave->pack = rc == 0 && grave->count > 0 ? (uint32_t)far_index_key_get_u64(&grave->keys[0], 0) : 0;
    for (size_t i = 0; rc == 0 && i < grave->count; i++) {
        if (far_index_key_get_u64(&grave->keys[i], 0) != grave->pack) {
            grave->count = i;
        }
    }
    return rc;
}

/* What is new in the list, for zeroing: the doomed places, neighbours joined. */
static int collect(struct far_vault *vault, const struct grave *grave, struct far_dead_list *dead, struct far_dead_list *fresh,
                   struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < grave->count; i++) {
        uint8_t length[4];
        uint64_t offset = far_index_key_get_u64(&grave->keys[i], 1);
        rc = far_index_get(vault->index, &grave->keys[i], length, sizeof length, err);
        rc = rc == 0 ? far_dead_add(fresh, offset, far_get_le32(length), err) : rc;
        rc = rc == 0 ? far_dead_add(dead, offset, far_get_le32(length), err) : rc;
    }
    return rc;
}

static int zero_all(struct far_reclaim *reclaim, int fd, const char *path, const struct far_dead_list *fresh, struct far_error *err)
{
    struct stat before = {0}, after = {0};
    int rc = fstat(fd, &before) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "stat '%s'", path);
    for (size_t i = 0; rc == 0 && i < fresh->count; i++) {
        rc = far_dead_zero(fd, path, fresh->ranges[i], reclaim->order.secure, err);
    }
    if (rc == 0 && fstat(fd, &after) == 0 && after.st_blocks < before.st_blocks) {
        reclaim->result->freed_bytes += (uint64_t)(before.st_blocks - after.st_blocks) * 512;
    }
    return rc;
}

static int bury_in(struct far_reclaim *reclaim, const struct grave *grave, int fd, const char *path, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    struct far_dead_list dead, fresh = {0};
    struct far_error cause;
    int rc = far_dead_read(&vault->packs, grave->pack, &dead, &cause);
    if (rc == FAR_CORRUPT) { /* the zeroes that it named are taken for damage until the pack is gone */
        far_vault_note_damage(vault, (struct far_place){.pack = grave->pack}, cause.message);
        rc = 0;
    } else if (rc != 0 && err != NULL) {
        *err = cause;
    }
    uint64_t before = dead.total;
    rc = rc == 0 ? collect(vault, grave, &dead, &fresh, err) : rc;
    rc = rc == 0 ? far_dead_write(&vault->packs, grave->pack, &dead, err) : rc;
    if (rc == 0) {
        pthread_mutex_lock(&vault->lock);
        vault->packs.dead_bytes += dead.total - before;
        pthread_mutex_unlock(&vault->lock);
        rc = fd >= 0 ? zero_all(reclaim, fd, path, &fresh, err) : 0;
    }
    far_dead_done(&dead);
    far_dead_done(&fresh);
    return rc;
}

static int bury_batch(struct far_reclaim *reclaim, struct grave *grave, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    char path[4096];
    far_packs_path(&vault->packs, grave->pack, path, sizeof path);
    int fd = open(path, O_RDWR | O_CLOEXEC);
    int rc = fd >= 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    uint64_t size;
    if (fd >= 0 || (rc == 0 && far_remote_has(vault, grave->pack, &size))) { /* there nothing is zeroed: the pack goes as a whole */
        far_remote_hold(vault, grave->pack);
        rc = bury_in(reclaim, grave, fd, path, err);
        far_remote_let(vault);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc == 0 ? far_index_write(vault->index, drop_rows, grave, err) : rc;
}

int far_reclaim_bury(struct far_reclaim *reclaim, struct far_error *err)
{
    struct grave grave = {.keys = malloc(FAR_RECLAIM_BATCH_MAX * sizeof *grave.keys)};
    uint64_t done = 0;
    if (grave.keys == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to reclaim");
    }
    int rc = list_doomed(reclaim, &grave, err);
    while (rc == 0 && grave.count > 0) {
        done += grave.count;
        rc = bury_batch(reclaim, &grave, err);
        rc = rc == 0 ? far_reclaim_tell(reclaim, "bury", done, 0, err) : rc;
        rc = rc == 0 ? list_doomed(reclaim, &grave, err) : rc;
    }
    free(grave.keys);
    return rc;
}

/* ---- packs that go ---- */

int far_vault_remove_pack(struct far_vault *vault, uint32_t number, struct far_error *err)
{
    char path[4096], dead[4096];
    pthread_mutex_lock(&vault->lock);
    far_packs_drop_file(&vault->packs, number);
    pthread_mutex_unlock(&vault->lock);
    far_packs_path(&vault->packs, number, path, sizeof path);
    snprintf(dead, sizeof dead, "%.4000s/%08u.dead", vault->packs.dir, number);
    if ((unlink(path) != 0 && errno != ENOENT) || (unlink(dead) != 0 && errno != ENOENT)) {
        return far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    return far_file_sync_dir(vault->packs.dir, err);
}

struct mover {
    struct far_reclaim *reclaim;
    int fd;
    const char *path;
    uint64_t moved;
};

/* A needed record of a pack that is to go. One that is damaged or in quarantine stays, and the pack with it. */
static int move_record(void *arg, struct far_place place, const struct far_record *record, struct far_error *err)
{
    struct mover *mover = arg;
    struct far_index_row row = {0};
    uint8_t stored[FAR_RECORD_PAYLOAD_MAX];
    int rc = record->type == FAR_RECORD_SEAL ? 0 : far_index_look(mover->reclaim->vault->index, &record->id, 1, &row, err);
    if (rc != 0 || record->type == FAR_RECORD_SEAL || row.needs == 0 || row.place.pack != place.pack ||
        row.place.offset != place.offset) {
        return rc;
    }
    rc = far_file_pread(mover->fd, stored, record->stored_len, place.offset + FAR_RECORD_HEADER_BYTES, mover->path, err);
    if (rc != 0 || far_hash64(stored, record->stored_len) != record->sum) {
        return rc;
    }
    rc = far_vault_move(mover->reclaim->vault, record, stored, err);
    mover->reclaim->result->moved_records += rc == 0;
    if (rc == 0 && ++mover->moved % mover->reclaim->order.batch_max == 0) {
        rc = far_reclaim_tell(mover->reclaim, "move", mover->reclaim->result->moved_records, 0, err);
    }
    return rc;
}

static int move_living(struct far_reclaim *reclaim, uint32_t number, uint64_t size, const struct far_dead_list *dead,
                       struct far_error *err)
{
    struct mover mover = {.reclaim = reclaim};
    struct far_pack_visitor visitor = {.arg = &mover, .dead = dead, .record = move_record};
    char path[4096];
    uint64_t end;
    bool sealed;
    far_packs_path(&reclaim->vault->packs, number, path, sizeof path);
    mover.path = path;
    int rc = far_remote_open_pack(reclaim->vault, number, &mover.fd, err);
    if (rc != 0) {
        return rc;
    }
    rc = far_pack_scan(mover.fd, path, number, FAR_PACK_HEADER_BYTES, size, false, &visitor, &end, &sealed, err);
    close(mover.fd);
    rc = rc == 0 ? far_vault_sync(reclaim->vault, err) : rc;
    return rc == 0 ? far_reclaim_bury(reclaim, err) : rc;
}

struct pack_size {
    uint64_t bytes;
    uint64_t room; /* that it takes */
};

/* In the folder, or else in the store. */
static bool find_size(struct far_vault *vault, uint32_t number, struct pack_size *ret_size)
{
    char path[4096];
    struct stat st;
    uint64_t stored = 0;
    far_packs_path(&vault->packs, number, path, sizeof path);
    bool is_here = stat(path, &st) == 0;
    bool is_up = far_remote_has(vault, number, &stored);
    *ret_size = (struct pack_size){.bytes = is_here ? (uint64_t)st.st_size : stored, .room = is_here ? (uint64_t)st.st_blocks * 512 : 0};
    ret_size->room += stored;
    return is_here || is_up;
}

/* Nothing in it is alive: first it is said, then it goes. What stays in the store although it should go is tried again by the next
 * pass. */
static int remove_whole(struct far_reclaim *reclaim, uint32_t number, struct pack_size size, uint64_t dead_bytes, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    int rc = far_removed_add(&vault->packs, &vault->removed, number, err);
    rc = rc == 0 ? far_remote_drop_pack(vault, number, err) : rc;
    rc = rc == 0 ? far_vault_remove_pack(vault, number, err) : rc;
    if (rc == 0) {
        pthread_mutex_lock(&vault->lock);
        vault->packs.removed++;
        vault->packs.total_bytes -= size.bytes;
        vault->packs.dead_bytes -= dead_bytes;
        pthread_mutex_unlock(&vault->lock);
        reclaim->result->packs_removed++;
        reclaim->result->freed_bytes += size.room;
    }
    return rc;
}

/* How much of a pack has to be dead before what lives in it moves. In a store no bytes can be zeroed, so whoever wants them gone
 * moves all. */
static uint64_t move_percent(const struct far_reclaim *reclaim, uint32_t number)
{
    uint64_t stored;
    bool all = reclaim->order.secure && far_remote_has(reclaim->vault, number, &stored);
    return all ? 0 : reclaim->order.move_percent != 0 ? reclaim->order.move_percent : MOVE_PERCENT;
}

/* One pack that has a list of dead ranges and does not grow any more. */
static int tidy_pack(struct far_reclaim *reclaim, uint32_t number, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    struct far_dead_list dead;
    struct pack_size size;
    if (far_dead_read(&vault->packs, number, &dead, NULL) != 0 || !find_size(vault, number, &size)) {
        far_dead_done(&dead);
        return 0;
    }
    uint64_t content = size.bytes - FAR_PACK_HEADER_BYTES - SEAL_LENGTH;
    bool moves = reclaim->moves && dead.total < content && dead.total * 100 >= content * move_percent(reclaim, number);
    int rc = 0;
    if (moves && far_remote_may_go(vault, number)) {
        rc = move_living(reclaim, number, size.bytes, &dead, err);
        far_dead_done(&dead);
        rc = rc == 0 ? far_dead_read(&vault->packs, number, &dead, err) : rc;
    }
    if (rc == 0 && reclaim->removes && dead.total >= content && far_remote_may_go(vault, number)) {
        rc = remove_whole(reclaim, number, size, dead.total, err);
    }
    far_dead_done(&dead);
    return rc;
}

static int visit_pack(void *arg, uint64_t number, struct far_error *err)
{
    struct far_reclaim *reclaim = arg;
    struct far_vault *vault = reclaim->vault;
    pthread_mutex_lock(&vault->lock);
    bool grows = number >= vault->packs.last;
    pthread_mutex_unlock(&vault->lock);
    if (grows || flock(vault->readers_fd, LOCK_EX | LOCK_NB) != 0) { /* somebody who only reads: packs stay where they are */
        return 0;
    }
    int rc = tidy_pack(reclaim, (uint32_t)number, err);
    flock(vault->readers_fd, LOCK_UN);
    return rc == 0 ? far_reclaim_tell(reclaim, "move", reclaim->result->moved_records, 0, err) : rc;
}

/* What a pass, or an open, could not make go from the store. */
static int drop_again(void *arg, uint64_t number, struct far_error *err)
{
    struct far_vault *vault = arg;
    bool is_gone = number <= UINT32_MAX && far_removed_has(&vault->removed, (uint32_t)number);
    return is_gone && far_remote_may_go(vault, (uint32_t)number) ? far_remote_drop_pack(vault, (uint32_t)number, err) : 0;
}

int far_reclaim_move(struct far_reclaim *reclaim, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    reclaim->moves = true;
    reclaim->removes = vault->remote == NULL;
    bool is_read;
    int rc = far_remote_is_read(vault, &is_read, err);
    rc = rc == 0 && !is_read ? far_vault_each_number(vault->packs.dir, ".dead", visit_pack, reclaim, err) : rc;
    if (rc == 0 && vault->remote != NULL && !is_read) { /* what moved is in the store before its old place goes from there */
        reclaim->moves = false;
        reclaim->removes = true;
        rc = far_remote_settle(vault, err);
        rc = rc == 0 ? far_vault_each_number(vault->packs.dir, ".up", drop_again, vault, err) : rc;
        rc = rc == 0 ? far_vault_each_number(vault->packs.dir, ".dead", visit_pack, reclaim, err) : rc;
    }
    return rc;
}
