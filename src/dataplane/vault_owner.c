/* Whose a vault is: see vault_owner.h. */
#include "dataplane/vault_owner.h"

#include "dataplane/remote.h"
#include "dataplane/vault_lock.h"
#include "dataplane/vault_private.h"

#include "base/clock.h"
#include "base/file.h"
#include "base/hash.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

enum { OWNER_BYTES = 96, VERSION = 1, ADOPTING = 1, ASSUMED = 2 };
static const char magic[8] = "FAROWNER";
#define IMPORTED (1ull << 63) /* numbers from here on no log gives */

static bool is_zero(const uint8_t uuid[16])
{
    static const uint8_t zero[16];
    return memcmp(uuid, zero, 16) == 0;
}

/* ---- the file, and its copy ----
 *
 * "owner" is written first: while it is whole it is believed, whatever the copy says; and each start writes anew what is missing, damaged
 * or behind. So a crash between the two, or one damaged block, loses nothing. */

static const char *const file_names[2] = {"owner", "owner.copy"};

static int decode(struct far_slice bytes, const char *path, struct far_vault_owner *ret_owner, struct far_error *err)
{
    const uint8_t *b = bytes.data;
    if (bytes.len != OWNER_BYTES || memcmp(b, magic, 8) != 0 || far_get_le32(b + 8) != VERSION ||
        far_get_le64(b + 88) != far_hash64(b, 88)) {
        return far_fail(err, FAR_CORRUPT, "'%s' is damaged: whose the vault is cannot be told", path);
    }
    uint32_t flags = far_get_le32(b + 12);
    *ret_owner = (struct far_vault_owner){.base = far_get_le64(b + 48),
                                          .span = far_get_le64(b + 56),
                                          .adopting = (flags & ADOPTING) != 0,
                                          .assumed = (flags & ASSUMED) != 0};
    memcpy(ret_owner->cluster_uuid, b + 16, 16);
    memcpy(ret_owner->former_uuid, b + 32, 16);
    return 0;
}

static int read_file(const struct far_vault *vault, size_t which, struct far_vault_owner *ret_owner, struct far_buf *bytes,
                     struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    snprintf(path, sizeof path, "%s/%s", vault->dir, file_names[which]);
    int rc = far_file_read(path, bytes, err);
    return rc == 0 ? decode(far_buf_slice(bytes), path, ret_owner, err) : rc;
}

static int write_file(const struct far_vault *vault, size_t which, struct far_slice bytes, struct far_error *err)
{
    char path[FAR_DIR_MAX + 16];
    snprintf(path, sizeof path, "%s/%s", vault->dir, file_names[which]);
    return far_file_replace(path, bytes.data, bytes.len, 0600, err);
}

/* What is to be had of the two, and both are that from now on; what cannot be mended is no harm yet. FAR_NOT_FOUND: there is none;
 * FAR_CORRUPT: there were, and none is whole. */
static int read_owner(const struct far_vault *vault, struct far_vault_owner *ret_owner, struct far_error *err)
{
    struct far_buf bytes[2];
    struct far_vault_owner copy;
    struct far_error copy_error;
    far_buf_init(&bytes[0], 4096);
    far_buf_init(&bytes[1], 4096);
    int rc = read_file(vault, 0, ret_owner, &bytes[0], err);
    int copy_rc = read_file(vault, 1, &copy, &bytes[1], &copy_error);
    bool is_behind = copy_rc != 0 || bytes[1].len != bytes[0].len || memcmp(bytes[0].data, bytes[1].data, bytes[0].len) != 0;
    if (rc == 0 && is_behind) {
        write_file(vault, 1, far_buf_slice(&bytes[0]), NULL);
    } else if ((rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) && copy_rc == 0) {
        *ret_owner = copy;
        rc = 0;
        write_file(vault, 0, far_buf_slice(&bytes[1]), NULL);
    } else if (rc == FAR_NOT_FOUND && copy_rc == FAR_CORRUPT) {
        rc = far_fail(err, FAR_CORRUPT, "%.400s", copy_error.message);
    }
    far_buf_done(&bytes[0]);
    far_buf_done(&bytes[1]);
    return rc;
}

int far_vault_owner_read(const struct far_vault *vault, struct far_vault_owner *ret_owner, struct far_error *err)
{
    return read_owner(vault, ret_owner, err);
}

static int write_owner(const struct far_vault *vault, const struct far_vault_owner *owner, struct far_error *err)
{
    uint8_t b[OWNER_BYTES] = {0};
    memcpy(b, magic, 8);
    far_put_le32(b + 8, VERSION);
    far_put_le32(b + 12, (owner->adopting ? ADOPTING : 0u) | (owner->assumed ? ASSUMED : 0u));
    memcpy(b + 16, owner->cluster_uuid, 16);
    memcpy(b + 32, owner->former_uuid, 16);
    far_put_le64(b + 48, owner->base);
    far_put_le64(b + 56, owner->span);
    far_put_le64(b + 64, far_clock_wall_ms());
    far_put_le64(b + 88, far_hash64(b, 88));
    int rc = write_file(vault, 0, far_slice(b, sizeof b), err);
    return rc == 0 ? write_file(vault, 1, far_slice(b, sizeof b), err) : rc;
}

/* ---- whose it is ---- */

struct finding {
    struct far_vault *vault;
    struct far_manifest *manifest;
    uint8_t uuid[16]; /* of the newest manifest that can be read */
    bool is_used;
};

static int find_cluster(void *arg, uint64_t number, struct far_error *err)
{
    struct finding *finding = arg;
    (void)err;
    if (number < IMPORTED) {
        finding->is_used = true;
        if (far_vault_manifest_peek(finding->vault, number, finding->manifest, NULL) == 0) {
            memcpy(finding->uuid, finding->manifest->cluster_uuid, 16);
        }
    }
    return 0;
}

static int find_used(void *arg, uint64_t number, struct far_error *err)
{
    struct finding *finding = arg;
    (void)err;
    finding->is_used = finding->is_used || number < IMPORTED;
    return 0;
}

/* As the manifests say; where nobody does, it is this cluster's. */
static int guess_owner(struct far_vault *vault, const uint8_t cluster_uuid[16], struct far_vault_owner *ret_owner, struct far_error *err)
{
    char folder[FAR_DIR_MAX + 16];
    struct finding finding = {.vault = vault, .manifest = malloc(sizeof *finding.manifest)};
    if (finding.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    snprintf(folder, sizeof folder, "%s/points", vault->dir);
    int rc = far_vault_each_number(folder, ".manifest", find_cluster, &finding, err);
    snprintf(folder, sizeof folder, "%s/replicas", vault->dir);
    rc = rc == 0 ? far_vault_each_number(folder, ".replica", find_used, &finding, err) : rc;
    free(finding.manifest);
    *ret_owner = (struct far_vault_owner){.assumed = finding.is_used && is_zero(finding.uuid)};
    memcpy(ret_owner->cluster_uuid, is_zero(finding.uuid) ? cluster_uuid : finding.uuid, 16);
    return rc;
}

int far_vault_owner_claim(struct far_vault *vault, const uint8_t cluster_uuid[16], struct far_vault_owner *ret_owner,
                          struct far_error *err)
{
    *ret_owner = (struct far_vault_owner){.base = 0};
    if (is_zero(cluster_uuid)) {
        return 0; /* an engine of no cluster, in tests */
    }
    int rc = read_owner(vault, ret_owner, err);
    if (rc != FAR_NOT_FOUND) {
        return rc;
    }
    rc = guess_owner(vault, cluster_uuid, ret_owner, err);
    bool is_ours = memcmp(ret_owner->cluster_uuid, cluster_uuid, 16) == 0;
    return rc == 0 && is_ours ? write_owner(vault, ret_owner, err) : rc;
}

int far_vault_owner_check(const struct far_vault *vault, const struct far_vault_owner *owner, const uint8_t cluster_uuid[16],
                          struct far_error *err)
{
    char hex[33];
    if (is_zero(cluster_uuid)) {
        return 0;
    }
    if (memcmp(owner->cluster_uuid, cluster_uuid, 16) != 0) {
        far_hex_encode(owner->cluster_uuid, 16, hex);
        return far_fail(err, FAR_CONFLICT,
                        "the vault '%.200s' belongs to another cluster (%s): 'farshore vault adopt' on this node takes it over, for good",
                        vault->dir, hex);
    }
    return owner->adopting ? far_fail(err, FAR_BUSY, "the vault '%.200s' is being adopted", vault->dir) : 0;
}

uint64_t far_vault_owner_exchange(const struct far_vault_owner *owner, uint64_t number)
{
    if (owner->base == 0 || number == 0) {
        return number;
    }
    if (number < owner->span) {
        return owner->base + number;
    }
    return number > owner->base && number - owner->base < owner->span ? number - owner->base : number;
}

/* ---- taking it over ---- */

static int drop_fence(void *arg, uint64_t number, struct far_error *err)
{
    struct far_vault *vault = arg;
    struct far_replica_file file;
    static const struct far_fence none;
    int rc = number < IMPORTED ? far_replica_file_read(vault, number, &file, err) : FAR_NOT_FOUND;
    if (rc != 0) {
        return rc == FAR_NOT_FOUND || rc == FAR_CORRUPT ? 0 : rc; /* a damaged one is told by whoever needs it */
    }
    if (memcmp(&file.fence, &none, sizeof none) == 0 && file.job == 0) {
        return 0;
    }
    file.fence = none;
    file.job = 0; /* of the former owner's log: no job here goes on from it */
    file.frontier_blocks = 0;
    memset(file.freeze_ref, 0, sizeof file.freeze_ref);
    return far_replica_file_write(vault, &file, err);
}

int far_vault_adopt(struct far_vault *vault, const uint8_t cluster_uuid[16], uint64_t base, uint64_t span,
                    struct far_vault_owner *owner, struct far_error *err)
{
    char folder[FAR_DIR_MAX + 16];
    bool is_ours = memcmp(owner->cluster_uuid, cluster_uuid, 16) == 0 && owner->base == base && owner->span == span;
    if (is_ours && !owner->adopting) {
        return 0;
    }
    int rc = far_vault_check_writable(vault, err);
    rc = rc == 0 ? far_vault_mark_keyed(vault, err) : rc; /* v0.1.0 knows no owners: it refuses the vault from now on */
    if (rc == 0 && !is_ours) {
        struct far_vault_owner next = {.base = base, .span = span, .adopting = true};
        bool is_again = memcmp(owner->cluster_uuid, cluster_uuid, 16) == 0;
        memcpy(next.former_uuid, is_again ? owner->former_uuid : owner->cluster_uuid, 16);
        memcpy(next.cluster_uuid, cluster_uuid, 16);
        rc = write_owner(vault, &next, err);
        *owner = rc == 0 ? next : *owner;
    }
    snprintf(folder, sizeof folder, "%s/replicas", vault->dir);
    rc = rc == 0 ? far_vault_each_number(folder, ".replica", drop_fence, vault, err) : rc;
    if (rc == 0) {
        struct far_vault_owner next = *owner;
        next.adopting = false;
        rc = write_owner(vault, &next, err);
        *owner = rc == 0 ? next : *owner;
    }
    return rc == 0 ? far_remote_push(vault, "owner", err) : rc;
}

/* ---- what is in it ---- */

struct surveying {
    struct far_vault *vault;
    struct far_manifest *manifest;
    struct far_vault_survey *survey;
};

static void note_number(struct far_vault_survey *survey, uint64_t number)
{
    survey->highest = number < IMPORTED && number > survey->highest ? number : survey->highest;
}

static int survey_file(void *arg, uint64_t number, struct far_error *err)
{
    struct surveying *surveying = arg;
    (void)err;
    note_number(surveying->survey, number);
    return 0;
}

static int survey_point(void *arg, uint64_t number, struct far_error *err)
{
    struct surveying *surveying = arg;
    struct far_manifest *manifest = surveying->manifest;
    (void)err;
    if (number >= IMPORTED || far_vault_manifest_read(surveying->vault, number, manifest, NULL) != 0) {
        note_number(surveying->survey, number);
        return 0;
    }
    surveying->survey->point_count++;
    const uint64_t numbers[] = {number, manifest->plan_id, manifest->workload_id, manifest->checkpoint_id, manifest->job_id};
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        note_number(surveying->survey, numbers[i]);
    }
    for (uint32_t d = 0; d < manifest->disk_count; d++) {
        note_number(surveying->survey, manifest->disks[d].disk_id);
    }
    return 0;
}

int far_vault_survey(struct far_vault *vault, struct far_vault_survey *ret_survey, struct far_error *err)
{
    static const char *const files[][2] = {{"points", ".forgotten"}, {"points", ".lock"}, {"replicas", ".replica"}};
    char folder[FAR_DIR_MAX + 16];
    struct surveying surveying = {.vault = vault, .manifest = malloc(sizeof *surveying.manifest), .survey = ret_survey};
    *ret_survey = (struct far_vault_survey){.highest = 0};
    if (surveying.manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to read a manifest");
    }
    memcpy(ret_survey->vault_uuid, vault->uuid, 16);
    snprintf(folder, sizeof folder, "%s/points", vault->dir);
    int rc = far_vault_each_number(folder, ".manifest", survey_point, &surveying, err);
    for (size_t i = 0; rc == 0 && i < sizeof files / sizeof files[0]; i++) {
        snprintf(folder, sizeof folder, "%s/%s", vault->dir, files[i][0]);
        rc = far_vault_each_number(folder, files[i][1], survey_file, &surveying, err);
    }
    free(surveying.manifest);
    return rc;
}

/* ---- a portion ---- */

struct portion {
    struct far_vault *vault;
    uint64_t after;
    const char *const *plans;
    size_t plan_count;
    size_t disk_count;
    size_t config_bytes; /* configurations, each counted once, and how points are to be brought up */
    struct far_adopted *adopted;
    bool is_full;
};

enum { FULL = 1 }; /* of far_vault_each_number: it ends there */

static int problem_of(struct far_adopted *adopted, uint64_t *counter, uint64_t number, const char *message)
{
    ++*counter;
    if (adopted->problem[0] == '\0') {
        snprintf(adopted->problem, sizeof adopted->problem, "point %" PRIu64 " of the vault: %.350s", number, message);
    }
    return 0;
}

static bool is_wanted(const struct portion *portion, const char *plan)
{
    bool wanted = portion->plan_count == 0;
    for (size_t i = 0; i < portion->plan_count && !wanted; i++) {
        wanted = strcmp(portion->plans[i], plan) == 0;
    }
    return wanted;
}

static int check_roots(struct far_vault *vault, const struct far_domain *domain, const struct far_manifest *manifest, struct far_error *err)
{
    for (uint32_t d = 0; d < manifest->disk_count; d++) {
        struct far_hash256 top;
        uint64_t size;
        int rc = far_vault_root_load(vault, domain, &manifest->disks[d].root, &size, &top, err);
        if (rc == 0 && size != manifest->disks[d].size_bytes) {
            rc = far_fail(err, FAR_CORRUPT, "its root is of another size");
        }
        if (rc != 0) {
            return far_error_context(err, "disk '%.63s'", manifest->disks[d].name);
        }
    }
    return 0;
}

/* A lock that cannot be read is in force in the vault all the same. */
static void read_lock(struct portion *portion, uint64_t number, uint64_t *ret_until_ms)
{
    struct far_error cause;
    int rc = far_vault_lock_until(portion->vault, number, ret_until_ms, &cause);
    if (rc != 0 && portion->adopted->problem[0] == '\0') {
        snprintf(portion->adopted->problem, sizeof portion->adopted->problem, "%.390s", cause.message);
    }
}

/* What this point adds of them. */
static size_t config_bytes_of(const struct far_adopted *adopted, const struct far_manifest *manifest)
{
    bool is_known = false;
    for (size_t i = 0; i < adopted->count && !is_known; i++) {
        const struct far_manifest *other = &adopted->points[i].manifest;
        is_known = other->config_len != 0 && memcmp(other->config_sha256, manifest->config_sha256, 32) == 0;
    }
    return manifest->recovery_len + (is_known ? 0 : manifest->config_len);
}

static int look_at(void *arg, uint64_t number, struct far_error *err)
{
    struct portion *portion = arg;
    struct far_adopted *adopted = portion->adopted;
    struct far_adopted_point *point = &adopted->points[adopted->count];
    const struct far_domain *domain = NULL;
    struct far_error cause;
    if (number <= portion->after || number >= IMPORTED) {
        return 0;
    }
    if (adopted->count == FAR_ADOPTED_MAX || portion->disk_count > FAR_ADOPTED_DISKS_MAX - FAR_MANIFEST_DISKS_MAX) {
        portion->is_full = true;
        return FULL;
    }
    int rc = far_vault_manifest_read(portion->vault, number, &point->manifest, &cause);
    bool is_there = rc != FAR_NOT_FOUND; /* forgotten meanwhile, or a name like 007 */
    size_t more_bytes = rc == 0 ? config_bytes_of(adopted, &point->manifest) : 0;
    if (adopted->count > 0 && portion->config_bytes + more_bytes > FAR_ADOPTED_CONFIG_BYTES_MAX) {
        portion->is_full = true;
        return FULL;
    }
    adopted->after = is_there ? number : adopted->after;
    if (rc == FAR_CORRUPT) {
        return problem_of(adopted, &adopted->damaged, number, cause.message);
    }
    if (rc != 0 || !is_wanted(portion, point->manifest.plan)) {
        return !is_there || rc == 0 ? 0 : far_fail(err, rc, "%s", cause.message);
    }
    if (far_vault_domain_find(portion->vault, point->manifest.domain_uuid, &domain, &cause) != 0) {
        return problem_of(adopted, &adopted->unreadable, number, cause.message);
    }
    rc = check_roots(portion->vault, domain, &point->manifest, &cause);
    if (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) {
        return problem_of(adopted, &adopted->damaged, number, cause.message);
    }
    if (rc != 0) {
        return far_fail(err, rc, "%s", cause.message);
    }
    read_lock(portion, number, &point->lock_until_ms);
    portion->disk_count += point->manifest.disk_count;
    portion->config_bytes += more_bytes;
    adopted->count++;
    return 0;
}

int far_vault_adopted(struct far_vault *vault, uint64_t after, const char *const *plans, size_t plan_count, struct far_adopted *ret_adopted,
                      struct far_error *err)
{
    char folder[FAR_DIR_MAX + 16];
    struct portion portion = {.vault = vault, .after = after, .plans = plans, .plan_count = plan_count, .adopted = ret_adopted};
    *ret_adopted = (struct far_adopted){.after = after};
    snprintf(folder, sizeof folder, "%s/points", vault->dir);
    int rc = far_vault_each_number(folder, ".manifest", look_at, &portion, err);
    ret_adopted->ended = rc == 0;
    return rc == FULL ? 0 : rc;
}
