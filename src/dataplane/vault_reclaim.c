/* A pass of reclaim: the mark, the counting, the order of the rest. See reclaim.h. */
#include "dataplane/vault_reclaim_private.h"

#include "dataplane/import.h"
#include "dataplane/remote.h"
#include "dataplane/vault_copy.h"
#include "dataplane/vault_store.h"

#include "base/file.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/file.h>
#include <unistd.h>

int far_reclaim_tell(struct far_reclaim *reclaim, const char *phase, uint64_t done, uint64_t total, struct far_error *err)
{
    reclaim->now.phase = phase;
    reclaim->now.done = done;
    reclaim->now.total = total;
    reclaim->now.freed_bytes = reclaim->result->freed_bytes;
    bool ends = reclaim->progress != NULL && reclaim->progress(reclaim->arg, &reclaim->now) != 0;
    return ends ? far_fail(err, FAR_CANCELED, "the reclaim was canceled") : 0;
}

/* ---- the mark ---- */

/* From here on who finds a record that nobody needs yet says so. */
static int begin_finding(struct far_vault *vault, struct far_error *err)
{
    int rc = 0;
    pthread_mutex_lock(&vault->reclaim.seal_lock);
    pthread_rwlock_wrlock(&vault->reclaim.finding);
    if (vault->reclaim.found == NULL) {
        vault->reclaim.found = malloc(FAR_FOUND_BITS / 8);
    }
    if (vault->reclaim.found != NULL) {
        memset(vault->reclaim.found, 0, FAR_FOUND_BITS / 8);
        vault->reclaim.runs = true;
        vault->reclaim.mark = (struct far_place){.pack = UINT32_MAX}; /* until it is known what is newer */
    } else {
        rc = far_fail(err, FAR_LIMIT, "no memory to reclaim");
    }
    pthread_rwlock_unlock(&vault->reclaim.finding);
    pthread_mutex_unlock(&vault->reclaim.seal_lock);
    return rc;
}

static void end_finding(struct far_vault *vault)
{
    pthread_rwlock_wrlock(&vault->reclaim.finding);
    vault->reclaim.runs = false;
    pthread_rwlock_unlock(&vault->reclaim.finding);
}

/* Everything that somebody builds on is in a durable tree, or is found from now on. */
static int mark(struct far_reclaim *reclaim, struct far_error *err)
{
    struct far_vault *vault = reclaim->vault;
    uint8_t pass[16] = {0};
    far_put_le64(pass, reclaim->order.pass);
    int rc = far_ledger_set_word(vault, 'p', pass, err);
    rc = rc == 0 ? begin_finding(vault, err) : rc;
    rc = rc == 0 ? far_reclaim_tell(reclaim, "mark", 0, 0, err) : rc;
    rc = rc == 0 ? far_vault_settle_replicas(vault, err) : rc;
    rc = rc == 0 ? far_vault_sync(vault, err) : rc;
    if (rc == 0) {
        pthread_rwlock_wrlock(&vault->reclaim.finding);
        pthread_mutex_lock(&vault->lock);
        vault->reclaim.mark = vault->durable;
        pthread_mutex_unlock(&vault->lock);
        pthread_rwlock_unlock(&vault->reclaim.finding);
    }
    return rc;
}

/* ---- counting ---- */

enum { RELEASED_MAX = 128 };
struct counting {
    struct far_reclaim *reclaim;
    struct far_ledger *ledger;
    struct far_manifest *manifest;
    struct far_domain_info infos[FAR_DOMAINS_MAX];
    size_t info_count;
    uint64_t done;
    uint64_t released[RELEASED_MAX]; /* points whose forgotten manifests go behind the next commit */
    size_t released_count;
    uint64_t dropped[2 * FAR_MANIFEST_DISKS_MAX]; /* replicas of one of them, out of the counts */
    size_t dropped_count;
};

/* What it needs is not known. The manifest that was read last is the point's, but where there is none: then of no domain. */
static void uncountable(struct far_reclaim *reclaim, uint64_t point_id, const struct far_manifest *manifest, const char *disk,
                        const char *why)
{
    struct far_reclaim_result *result = reclaim->result;
    if (manifest != NULL) {
        far_domain_set_bit(reclaim->blocked, manifest->domain_number);
        reclaim->blocks_some = true;
    } else {
        reclaim->blocks_all = true;
    }
    if (result->points_uncountable++ == 0) {
        snprintf(result->problem, sizeof result->problem, "point %" PRIu64 "%s%.63s: %.300s", point_id,
                 disk[0] != '\0' ? ", disk " : "", disk, why);
    }
}

/* The tree cannot be read. Where it is the counts that are wrong, the pass ends. */
static bool goes_uncounted(const struct counting *counting, int rc)
{
    return !far_ledger_gave_up(counting->ledger) &&
           (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND || rc == FAR_DENIED || rc == FAR_CONFLICT);
}

/* All disks come into their chains; if one cannot, those before it stay: they come off again with the point. */
static int count_disks(struct counting *counting, uint64_t point_id, struct far_error *err)
{
    const struct far_manifest *manifest = counting->manifest;
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        struct far_chain chain = {.disk_id = disk->disk_id, .domain = manifest->domain_number};
        const struct far_domain *domain;
        struct far_ledger_tree tree;
        struct far_hash256 top;
        uint64_t size;
        int rc = far_vault_domain_numbered(counting->reclaim->vault, chain.domain, &domain, err);
        rc = rc == 0 ? far_vault_root_load(counting->reclaim->vault, domain, &disk->root, &size, &top, err) : rc;
        if (rc == 0) {
            far_ledger_tree_set(&tree, size, &top);
            rc = far_ledger_add(counting->ledger, chain, point_id, &tree, err);
        }
        if (goes_uncounted(counting, rc) && rc != FAR_CONFLICT) { /* of a destroyed domain nobody needs anything */
            uncountable(counting->reclaim, point_id, manifest, disk->name, err->message);
        }
        if (rc != 0) {
            return rc;
        }
    }
    return 0;
}

/* The point whose manifest was read. */
static int count_read(struct counting *counting, uint64_t point_id, struct far_error *err)
{
    struct far_reclaim *reclaim = counting->reclaim;
    struct far_error cause = {0};
    int rc = count_disks(counting, point_id, &cause);
    if (rc == 0) {
        rc = far_ledger_note_point(counting->ledger, point_id, counting->manifest->plan_id, true, &cause);
        reclaim->result->points_counted += rc == 0;
    }
    if (rc == 0) {
        rc = far_reclaim_tell(reclaim, "count", ++counting->done, 0, &cause);
    }
    if (rc != 0 && !goes_uncounted(counting, rc) && err != NULL) {
        *err = cause;
    }
    return goes_uncounted(counting, rc) ? 0 : rc;
}

static int count_point(void *arg, uint64_t point_id, struct far_error *err)
{
    struct counting *counting = arg;
    struct far_reclaim *reclaim = counting->reclaim;
    struct far_error cause = {0};
    if (far_ledger_has_point(reclaim->vault, point_id)) {
        return 0;
    }
    int rc = far_vault_manifest_read(reclaim->vault, point_id, counting->manifest, &cause);
    if (rc == FAR_NOT_FOUND) { /* forgotten meanwhile */
        return 0;
    }
    if (rc == FAR_CORRUPT) {
        uncountable(reclaim, point_id, NULL, "", cause.message);
        return 0;
    }
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc == 0 ? count_read(counting, point_id, err) : rc;
}

static void uncountable_replica(struct far_reclaim *reclaim, uint64_t disk_id, const struct far_replica_file *file, const char *why)
{
    struct far_reclaim_result *result = reclaim->result;
    if (file != NULL) {
        far_domain_set_bit(reclaim->blocked, file->domain);
        reclaim->blocks_some = true;
    } else {
        reclaim->blocks_all = true;
    }
    if (result->points_uncountable++ == 0) {
        snprintf(result->problem, sizeof result->problem, "replica of disk %" PRIu64 ": %.300s", disk_id, why);
    }
}

/* The disk's plan moved to another domain: its replica is in that one's chain now. */
static int leave_domain(struct counting *counting, struct far_chain chain, struct far_error *err)
{
    struct far_ledger_tree tree;
    uint64_t point_id = FAR_LEDGER_REPLICA;
    int rc = far_ledger_next(counting->reclaim->vault, chain, &point_id, &tree, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? 0 : rc;
    }
    rc = far_ledger_remove(counting->ledger, chain, FAR_LEDGER_REPLICA, err);
    rc = rc == FAR_CONFLICT ? far_ledger_drop(counting->ledger, chain, FAR_LEDGER_REPLICA, err) : rc;
    return rc == FAR_DENIED ? 0 : rc; /* it holds on until somebody brings the key */
}

static int leave_other_domains(struct counting *counting, uint64_t disk_id, uint16_t domain, struct far_error *err)
{
    struct far_domain_info *infos = counting->infos;
    int rc = 0;
    for (size_t i = 0; rc == 0 && counting->info_count > 0 && i <= counting->info_count; i++) {
        struct far_chain chain = {.disk_id = disk_id, .domain = i < counting->info_count ? infos[i].number : 0};
        rc = chain.domain != domain ? leave_domain(counting, chain, err) : 0;
    }
    return rc;
}

/* A replica's tree is the last of its disk's chain. */
static int count_replica(void *arg, uint64_t disk_id, struct far_error *err)
{
    struct counting *counting = arg;
    struct far_replica_file file = {0};
    struct far_ledger_tree tree;
    struct far_error cause = {0};
    int rc = far_replica_file_mend(counting->reclaim->vault, disk_id, &file, &cause);
    bool is_read = rc == 0 || (rc == FAR_DENIED && file.disk_id == disk_id); /* damaged, of a domain that is locked */
    if (rc == 0) {
        struct far_chain chain = {.disk_id = disk_id, .domain = file.domain};
        far_ledger_tree_set(&tree, file.size_bytes, &file.top);
        rc = leave_other_domains(counting, disk_id, file.domain, &cause);
        rc = rc == 0 ? far_ledger_add(counting->ledger, chain, FAR_LEDGER_REPLICA, &tree, &cause) : rc;
    }
    if (goes_uncounted(counting, rc)) {
        if (rc != FAR_CONFLICT && (is_read || rc != FAR_NOT_FOUND)) {
            uncountable_replica(counting->reclaim, disk_id, is_read ? &file : NULL, cause.message);
        }
        return 0;
    }
    rc = rc == 0 ? far_reclaim_tell(counting->reclaim, "count", ++counting->done, 0, &cause) : rc;
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}

/* ---- forgotten points ---- */

/* Has somebody, here or in another process, the point open? */
static bool is_pinned(struct counting *counting, const char *path)
{
    const struct far_manifest *manifest = counting->manifest;
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    bool pinned = fd >= 0 && flock(fd, LOCK_EX | LOCK_NB) != 0;
    if (fd >= 0) {
        close(fd);
    }
    for (uint32_t i = 0; i < manifest->disk_count && !pinned; i++) {
        pinned = far_vault_root_is_open(counting->reclaim->vault, &manifest->disks[i].root);
    }
    return pinned;
}

static int release_disks(struct counting *counting, uint64_t point_id, struct far_error *err)
{
    int rc = 0;
    for (uint32_t i = 0; rc == 0 && i < counting->manifest->disk_count; i++) {
        struct far_chain chain = {.disk_id = counting->manifest->disks[i].disk_id, .domain = counting->manifest->domain_number};
        rc = far_ledger_remove(counting->ledger, chain, point_id, err);
        rc = rc == FAR_CONFLICT ? far_ledger_drop(counting->ledger, chain, point_id, err) : rc;
    }
    return rc;
}

/* Has the disk a point, counted, in any domain? What cannot be told counts as yes. */
static bool has_points(const struct counting *counting, uint64_t disk_id)
{
    for (size_t i = 0; i <= counting->info_count; i++) {
        struct far_chain chain = {.disk_id = disk_id, .domain = i < counting->info_count ? counting->infos[i].number : 0};
        struct far_ledger_tree tree;
        uint64_t point_id = 0;
        int rc = far_ledger_next(counting->reclaim->vault, chain, &point_id, &tree, NULL);
        if (rc != FAR_NOT_FOUND && (rc != 0 || point_id != FAR_LEDGER_REPLICA)) {
            return true;
        }
    }
    return false;
}

/* The replica of an import, or of copies, out of the counts. It is nobody's base any more: who imports or copies again begins anew. */
static int let_go(struct counting *counting, uint64_t disk_id, struct far_error *err)
{
    struct far_replica_file file;
    int rc = far_replica_file_read(counting->reclaim->vault, disk_id, &file, NULL);
    if (rc != 0 || far_replica_is_open(counting->reclaim->vault, disk_id)) {
        return 0;
    }
    struct far_chain chain = {.disk_id = disk_id, .domain = file.domain};
    rc = far_ledger_remove(counting->ledger, chain, FAR_LEDGER_REPLICA, err);
    rc = rc == FAR_CONFLICT ? far_ledger_drop(counting->ledger, chain, FAR_LEDGER_REPLICA, err) : rc;
    if (rc == 0) {
        counting->dropped[counting->dropped_count++] = disk_id;
    }
    return rc == FAR_DENIED ? 0 : rc;
}

/* A replica that no point is made of: of a first copy under way, or of a workload that is gone, which only the log can tell. Imports and
 * copies are let go of with their last point. */
static int note_unused(void *arg, uint64_t disk_id, struct far_error *err)
{
    struct counting *counting = arg;
    struct far_reclaim_result *result = counting->reclaim->result;
    struct far_replica_file file;
    (void)err;
    if (result->unused_disk_count == FAR_UNUSED_DISKS_MAX || disk_id >= FAR_IMPORTED ||
        far_replica_file_read(counting->reclaim->vault, disk_id, &file, NULL) != 0 ||
        far_hash256_equal(&file.top, far_map_zero(8 * far_map_height(file.size_bytes))) ||
        far_replica_is_open(counting->reclaim->vault, disk_id) || has_points(counting, disk_id)) {
        return 0;
    }
    result->unused_disk_ids[result->unused_disk_count++] = disk_id;
    return 0;
}

/* Out of the counts first, durably; then the files. A crash between them leaves the point to be let go of once more. */
static int drop_replicas(struct counting *counting, struct far_error *err)
{
    struct far_vault *vault = counting->reclaim->vault;
    int rc = counting->dropped_count > 0 ? far_ledger_commit(counting->ledger, err) : 0;
    for (size_t i = 0; rc == 0 && i < counting->dropped_count; i++) {
        char name[96];
        rc = far_replica_drop(vault, counting->dropped[i], err);
        snprintf(name, sizeof name, "replicas/%" PRIu64 ".replica", counting->dropped[i]);
        rc = rc == 0 ? far_remote_push(vault, name, err) : rc == FAR_BUSY ? 0 : rc;
    }
    counting->dropped_count = 0;
    return rc;
}

/* The points' replicas that no log knows, where this was the last point of the disk. */
static int release_replicas(struct counting *counting, struct far_error *err)
{
    struct far_vault *vault = counting->reclaim->vault;
    struct far_manifest *manifest = counting->manifest;
    int rc = 0;
    bool is_known = counting->reclaim->result->points_uncountable == 0; /* else one of those may be of the same disk */
    for (size_t i = 0; rc == 0 && is_known && i < counting->released_count; i++) {
        if (far_vault_forgotten_read(vault, counting->released[i], manifest, NULL) != 0) {
            continue;
        }
        for (uint32_t d = 0; rc == 0 && d < manifest->disk_count; d++) {
            uint64_t disk_id = manifest->disks[d].disk_id;
            if (has_points(counting, disk_id)) {
                continue;
            }
            rc = disk_id >= FAR_IMPORTED ? let_go(counting, disk_id, err) : 0;
            rc = rc == 0 ? let_go(counting, far_copy_replica_id(manifest->cluster_uuid, disk_id), err) : rc;
        }
        rc = rc == 0 ? drop_replicas(counting, err) : rc;
    }
    return rc;
}

/* Their chains and rows are gone from the index: now the files. */
static int unlink_released(struct counting *counting, struct far_error *err)
{
    int rc = far_ledger_commit(counting->ledger, err);
    rc = rc == 0 ? release_replicas(counting, err) : rc;
    rc = rc == 0 && counting->released_count > 0 ? far_remote_check_holder(counting->reclaim->vault, err) : rc;
    rc = rc == 0 && counting->released_count > 0 ? far_remote_announce(counting->reclaim->vault, err) : rc;
    for (size_t i = 0; rc == 0 && i < counting->released_count; i++) {
        char path[4096];
        snprintf(path, sizeof path, "points/%" PRIu64 ".manifest", counting->released[i]); /* there is none: from the store, too */
        rc = far_remote_push(counting->reclaim->vault, path, err);
        snprintf(path, sizeof path, "points/%" PRIu64 ".lock", counting->released[i]);
        rc = rc == 0 ? far_remote_push(counting->reclaim->vault, path, err) : rc;
        if (rc != 0) {
            break;
        }
        snprintf(path, sizeof path, "%s/points/%" PRIu64 FAR_FORGOTTEN, counting->reclaim->vault->dir, counting->released[i]);
        rc = unlink(path) == 0 || errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
    }
    counting->released_count = 0;
    return rc;
}

static int release_point(void *arg, uint64_t point_id, struct far_error *err)
{
    struct counting *counting = arg;
    struct far_reclaim *reclaim = counting->reclaim;
    struct far_vault *vault = reclaim->vault;
    char path[4096];
    snprintf(path, sizeof path, "%s/points/%" PRIu64 FAR_FORGOTTEN, vault->dir, point_id);
    struct far_error cause = {0};
    int rc = far_vault_forgotten_read(vault, point_id, counting->manifest, &cause);
    if (rc == FAR_CORRUPT) { /* its chains hold on, which costs room only */
        reclaim->result->points_lost++;
        return 0;
    }
    if (rc == 0 && is_pinned(counting, path)) {
        reclaim->result->points_pinned++;
        return far_ledger_has_point(vault, point_id) ? 0 : count_read(counting, point_id, err);
    }
    rc = rc == 0 ? release_disks(counting, point_id, &cause) : rc;
    if (rc == FAR_DENIED) {
        reclaim->result->points_locked++;
        return 0;
    }
    rc = rc == 0 ? far_ledger_note_point(counting->ledger, point_id, 0, false, &cause) : rc;
    if (rc == 0) {
        reclaim->result->points_released++;
        counting->released[counting->released_count++] = point_id;
        rc = counting->released_count == RELEASED_MAX ? unlink_released(counting, &cause) : 0;
    }
    rc = rc == 0 ? far_reclaim_tell(reclaim, "count", ++counting->done, 0, &cause) : rc;
    if (rc != 0 && err != NULL) {
        *err = cause;
    }
    return rc;
}

/* Points that are counted, and whose manifests are gone although nobody forgot them: what they need stays. */
static int count_lost(struct far_reclaim *reclaim, struct far_error *err)
{
    enum { AT_ONCE = 256 };
    struct far_index_key from, *keys = malloc(AT_ONCE * sizeof *keys);
    size_t count = AT_ONCE;
    int rc = keys != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to reclaim");
    far_ledger_point_key(0, &from);
    while (rc == 0 && count == AT_ONCE) {
        rc = far_index_list(reclaim->vault->index, &from, 5, keys, AT_ONCE, &count, err);
        for (size_t i = 0; rc == 0 && i < count; i++) {
            char path[4096];
            uint64_t point_id = far_index_key_get_u64(&keys[i], 0);
            snprintf(path, sizeof path, "%s/points/%" PRIu64 ".manifest", reclaim->vault->dir, point_id);
            bool there = access(path, F_OK) == 0;
            snprintf(path, sizeof path, "%s/points/%" PRIu64 FAR_FORGOTTEN, reclaim->vault->dir, point_id);
            reclaim->result->points_lost += !there && access(path, F_OK) != 0;
            far_ledger_point_key(point_id + 1, &from);
        }
    }
    free(keys);
    return rc;
}

static int count_all(struct far_reclaim *reclaim, struct far_error *err)
{
    struct counting *counting = calloc(1, sizeof *counting);
    char points[4096], replicas[4096];
    snprintf(points, sizeof points, "%s/points", reclaim->vault->dir);
    snprintf(replicas, sizeof replicas, "%s/replicas", reclaim->vault->dir);
    struct far_manifest *manifest = malloc(sizeof *manifest);
    if (counting == NULL || manifest == NULL) {
        free(counting);
        free(manifest);
        return far_fail(err, FAR_LIMIT, "no memory to reclaim");
    }
    counting->reclaim = reclaim;
    counting->manifest = manifest;
    counting->info_count = far_vault_domains(reclaim->vault, counting->infos, FAR_DOMAINS_MAX);
    for (size_t i = 0; i < counting->info_count; i++) {
        if (counting->infos[i].state == FAR_DOMAIN_DESTROYED) {
            far_domain_set_bit(reclaim->destroyed, counting->infos[i].number);
            reclaim->destroyed_count++;
        }
    }
    int rc = far_ledger_open(reclaim->vault, reclaim->order.pass, &counting->ledger, err);
    /* Replicas first: a point that is sealed meanwhile is listed then, or is made of a tree counted here and of what was found since. */
    rc = rc == 0 ? far_vault_each_number(replicas, ".replica", count_replica, counting, err) : rc;
    rc = rc == 0 ? far_vault_each_number(points, ".manifest", count_point, counting, err) : rc;
    rc = rc == 0 ? far_ledger_commit(counting->ledger, err) : rc;
    rc = rc == 0 ? far_vault_each_number(points, FAR_FORGOTTEN, release_point, counting, err) : rc;
    rc = rc == 0 ? unlink_released(counting, err) : rc;
    if (rc == 0 && reclaim->result->points_uncountable == 0) { /* else one of those may be of the same disk */
        rc = far_vault_each_number(replicas, ".replica", note_unused, counting, err);
    }
    if (counting->ledger != NULL) {
        reclaim->result->quarantined_records += far_ledger_quarantined(counting->ledger);
    }
    far_ledger_close(counting->ledger);
    free(manifest);
    free(counting);
    return rc == 0 ? count_lost(reclaim, err) : rc;
}

/* ---- the pass ---- */

int far_vault_reclaim_last(struct far_vault *vault, uint64_t *ret_pass, struct far_error *err)
{
    uint8_t bytes[16];
    int rc = far_ledger_word(vault, 'p', bytes, err);
    if (rc == 0 || rc == FAR_NOT_FOUND) {
        *ret_pass = far_get_le64(bytes);
        return 0;
    }
    return rc;
}

static int check_order(struct far_vault *vault, const struct far_reclaim_order *order, struct far_error *err)
{
    uint64_t last;
    int rc = far_vault_check_writable(vault, err);
    if (rc == 0 && (order->pass == 0 || order->delete_before > order->pass)) {
        rc = far_fail(err, FAR_INVALID, "a pass of reclaim has a number, and deletes only what earlier ones quarantined");
    }
    rc = rc == 0 ? far_vault_reclaim_last(vault, &last, err) : rc;
    if (rc == 0 && order->pass < last) {
        rc = far_fail(err, FAR_CONFLICT, "pass %" PRIu64 " of reclaim is older than the last one, %" PRIu64, order->pass, last);
    }
    return rc;
}

static int run_pass(struct far_reclaim *reclaim, struct far_error *err)
{
    int rc = far_reclaim_bury(reclaim, err); /* what a crash left half done */
    rc = rc == 0 ? mark(reclaim, err) : rc;
    rc = rc == 0 ? count_all(reclaim, err) : rc;
    if (rc == 0 && !reclaim->blocks_all) {
        rc = far_reclaim_sweep(reclaim, err);
        rc = rc == 0 ? far_reclaim_delete(reclaim, err) : rc;
    }
    end_finding(reclaim->vault);
    rc = rc == 0 ? far_reclaim_bury(reclaim, err) : rc;
    return rc == 0 ? far_reclaim_move(reclaim, err) : rc;
}

/* What an operator has to know of the vault's store, where the pass itself has nothing to say. */
static void add_problem(struct far_vault *vault, struct far_reclaim_result *result)
{
    struct far_store_state state;
    far_vault_store_state(vault, &state);
    if (result->problem[0] == '\0' && state.packs_unlocked > 0) {
        snprintf(result->problem, sizeof result->problem, "%" PRIu64 " packs cannot be locked in the store: %.250s", state.packs_unlocked,
                 state.unlocked_why);
    }
    if (result->problem[0] == '\0') {
        snprintf(result->problem, sizeof result->problem, "%s", state.stays);
    }
}

int far_vault_reclaim(struct far_vault *vault, const struct far_reclaim_order *order,
                      int (*progress)(void *arg, const struct far_reclaim_progress *progress), void *arg,
                      struct far_reclaim_result *ret_result, struct far_error *err)
{
    struct far_error unused;
    const struct far_reclaim fresh = {.vault = vault, .order = *order, .progress = progress, .arg = arg, .result = ret_result};
    bool batch_good = order->batch_max > 0 && order->batch_max < FAR_RECLAIM_BATCH_MAX;
    *ret_result = (struct far_reclaim_result){0};
    err = err != NULL ? err : &unused;
    if (pthread_mutex_trylock(&vault->reclaim.pass_lock) != 0) {
        return far_fail(err, FAR_BUSY, "vault '%s' is being reclaimed already", vault->dir);
    }
    int rc = check_order(vault, order, err);
    for (bool again = rc == 0; again;) {
        struct far_reclaim reclaim = fresh;
        reclaim.order.batch_max = batch_good ? order->batch_max : FAR_RECLAIM_BATCH_MAX;
        rc = run_pass(&reclaim, err);
        again = rc == FAR_LIMIT && far_vault_reserve_release(vault); /* no space even to begin: what was set aside for that */
        *ret_result = again ? (struct far_reclaim_result){0} : *ret_result;
    }
    far_vault_reserve_keep(vault);
    if (rc == 0) {
        add_problem(vault, ret_result);
    }
    pthread_mutex_unlock(&vault->reclaim.pass_lock);
    return rc;
}
