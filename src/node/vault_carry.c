/* farshore-node vault copy|repair: from one vault to another, with nothing but the two folders.
 *
 *   vault copy --vault DIR --to DIR --point ID[,ID…]|all [--recovery-key FILE]
 *   vault repair --vault DIR --from DIR [--point ID] [--recovery-key FILE]
 *
 * What is read from may be in use by a node; what is written to may not. */
#include "dataplane/vault_copy.h"
#include "dataplane/vault_heal.h"
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { POINTS_MAX = 1 << 20, POINTS_AT_ONCE = 256, DISKS_MAX = 1 << 16 };

static bool is_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

static int check_apart(const char *a, const char *b, struct far_error *err)
{
    struct stat first, second;
    bool same = stat(a, &first) == 0 && stat(b, &second) == 0 && first.st_dev == second.st_dev && first.st_ino == second.st_ino;
    return same ? far_fail(err, FAR_INVALID, "'%s' and '%s' are the same vault", a, b) : 0;
}

/* ---- which points ---- */

struct points {
    uint64_t *ids;
    size_t count;
    uint64_t damaged; /* manifests: not in ids */
    int rc;
    struct far_error error;
};

static int add_point(struct points *points, uint64_t id, struct far_error *err)
{
    if (points->count % POINTS_AT_ONCE == 0) {
        size_t room = points->count + POINTS_AT_ONCE;
        uint64_t *ids = room <= POINTS_MAX ? realloc(points->ids, room * sizeof *ids) : NULL;
        if (ids == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for so many points");
        }
        points->ids = ids;
    }
    points->ids[points->count++] = id;
    return 0;
}

static int note_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct points *points = arg;
    if (manifest == NULL) {
        points->damaged++;
        fprintf(stderr, "farshore-node: point %" PRIu64 " is damaged: %s\n", point_id, problem);
        return 0;
    }
    points->rc = add_point(points, point_id, &points->error);
    return points->rc;
}

/* text NULL or "all": every point of the vault. Each that is named must be there. */
static int read_points(struct far_vault *vault, const char *text, struct points *points, struct far_manifest *manifest,
                       struct far_error *err)
{
    char number[32];
    int rc = 0;
    if (text == NULL || strcmp(text, "all") == 0) {
        rc = far_vault_points(vault, note_point, points, err);
        if (points->rc != 0) {
            *err = points->error;
        }
        return rc;
    }
    for (const char *at = text; rc == 0 && at != NULL;) {
        uint64_t id = 0;
        const char *comma = strchr(at, ',');
        size_t len = comma != NULL ? (size_t)(comma - at) : strlen(at);
        snprintf(number, sizeof number, "%.*s", len < sizeof number ? (int)len : 31, at);
        rc = far_vault_parse_point(number, &id, err);
        rc = rc == 0 ? far_vault_point(vault, id, manifest, err) : rc;
        rc = rc == 0 ? add_point(points, id, err) : rc;
        at = comma != NULL ? comma + 1 : NULL;
    }
    return rc;
}

/* ---- copy ---- */

static bool tells_progress; /* to the node that runs this command */

static int draw_copy(void *arg, const char *disk, uint64_t done, uint64_t blocks)
{
    uint64_t point = *(const uint64_t *)arg;
    if (tells_progress) {
        far_vault_cli_progress(done * FAR_BLOCK_BYTES, blocks * FAR_BLOCK_BYTES);
    }
    if (is_terminal()) {
        fprintf(stderr, "\rpoint %" PRIu64 ", disk %-16.63s %3u %%", point, disk, (unsigned)(done * 100 / blocks));
    }
    return 0;
}

static bool may_go_on(int rc)
{
    return rc == FAR_CORRUPT || rc == FAR_NOT_FOUND || rc == FAR_DENIED || rc == FAR_CONFLICT;
}

/* One that cannot be copied does not keep back the others; the first error is returned. */
static int copy_points(struct far_vault *source, struct far_vault *target, const struct points *points, struct far_error *err)
{
    int first = 0;
    for (size_t i = 0; i < points->count && (first == 0 || may_go_on(first)); i++) {
        uint64_t point = points->ids[i];
        struct far_copy_options options = {.progress = draw_copy, .arg = &point};
        struct far_copy_result result;
        struct far_error cause;
        int rc = far_vault_copy(source, target, point, &options, &result, &cause);
        fputs(is_terminal() ? "\n" : "", stderr);
        if (rc == 0 && result.was_there) {
            printf("point %" PRIu64 ": there already\n", point);
        } else if (rc == 0) {
            printf("point %" PRIu64 ": copied; %" PRIu64 " blocks looked at, %" PRIu64 " copied, %" PRIu64 " bytes\n", point,
                   result.blocks_changed, result.blocks_copied, result.bytes_copied);
        } else {
            printf("point %" PRIu64 ": not copied: %s\n", point, cause.message);
        }
        fflush(stdout);
        if (rc != 0 && (first == 0 || !may_go_on(rc))) {
            first = rc;
            *err = cause;
        }
    }
    return first;
}

int far_vault_copy_cli(int argc, char **argv, bool progress, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--to", "--point", "--recovery-key", NULL};
    const char *values[4];
    struct far_vault *source = NULL, *target = NULL;
    struct points points = {0};
    struct far_manifest *manifest = malloc(sizeof *manifest);
    tells_progress = progress;
    int rc = manifest != NULL ? far_node_options(argc, argv, names, values, err) : far_fail(err, FAR_LIMIT, "no memory");
    rc = rc == 0 ? far_vault_cli_need(names, values, 3, err) : rc;
    rc = rc == 0 ? check_apart(values[0], values[1], err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_READ, values[3], &source, err) : rc;
    rc = rc == 0 ? read_points(source, values[2], &points, manifest, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[1], FAR_VAULT_MAKE, values[3], &target, err) : rc;
    rc = rc == 0 ? copy_points(source, target, &points, err) : rc;
    if (rc == 0 && points.damaged > 0) {
        rc = far_fail(err, FAR_CORRUPT, "%" PRIu64 " manifests are damaged, their points were not copied", points.damaged);
    }
    far_vault_close(target);
    far_vault_close(source);
    free(points.ids);
    free(manifest);
    return rc;
}

/* ---- repair ---- */

/* The newest root of each disk that was looked at and is whole: of the next point only what differs from it is read. */
struct whole {
    uint64_t disk_id;
    uint8_t domain_uuid[16];
    struct far_hash256 root;
};
struct repair {
    struct far_vault *vault, *other;
    struct whole *wholes;
    size_t count;
    struct far_heal_result result;
};

static void print_place(void *arg, const struct far_heal_place *place)
{
    (void)arg;
    printf("%s: point %" PRIu64 ", disk '%s', block %" PRIu64 ", %" PRIu64 " blocks: %s%s%s\n", place->healed ? "repaired" : "NOT repaired",
           place->point_id, place->disk, place->first_block, place->block_count, place->damage, place->healed ? "" : "; ", place->cause);
}

static int draw_repair(void *arg, const char *disk, uint64_t done, uint64_t blocks)
{
    uint64_t point = *(const uint64_t *)arg;
    if (is_terminal()) {
        fprintf(stderr, "\rpoint %" PRIu64 ", disk %-16.63s %3u %%", point, disk, (unsigned)(done * 100 / blocks));
    }
    return 0;
}

static struct whole *find_whole(struct repair *repair, const struct far_manifest *manifest, const struct far_manifest_disk *disk)
{
    for (size_t i = 0; i < repair->count; i++) {
        struct whole *whole = &repair->wholes[i];
        if (whole->disk_id == disk->disk_id && memcmp(whole->domain_uuid, manifest->domain_uuid, 16) == 0) {
            return whole;
        }
    }
    return NULL;
}

/* Beyond the bound nothing is remembered, and such disks are read whole. */
static void note_whole(struct repair *repair, const struct far_manifest *manifest, const struct far_manifest_disk *disk)
{
    struct whole *whole = find_whole(repair, manifest, disk);
    if (whole == NULL && repair->count % POINTS_AT_ONCE == 0 && repair->count < DISKS_MAX) {
        struct whole *wholes = realloc(repair->wholes, (repair->count + POINTS_AT_ONCE) * sizeof *wholes);
        repair->wholes = wholes != NULL ? wholes : repair->wholes;
        whole = wholes != NULL ? &wholes[repair->count++] : NULL;
    } else if (whole == NULL && repair->count % POINTS_AT_ONCE != 0) {
        whole = &repair->wholes[repair->count++];
    }
    if (whole != NULL) {
        whole->disk_id = disk->disk_id;
        memcpy(whole->domain_uuid, manifest->domain_uuid, 16);
        whole->root = disk->root;
    }
}

static int repair_point(struct repair *repair, uint64_t point, struct far_manifest *manifest, struct far_error *err)
{
    struct far_heal_options options = {.found = print_place, .progress = draw_repair, .arg = &point};
    int rc = far_vault_point(repair->vault, point, manifest, err);
    for (uint32_t i = 0; rc == 0 && i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        const struct whole *since = find_whole(repair, manifest, disk);
        struct far_heal_result before = repair->result;
        rc = far_vault_heal(repair->vault, repair->other, manifest, i, since != NULL ? &since->root : NULL, &options, &repair->result,
                            err);
        if (rc == 0 && repair->result.damaged - before.damaged == repair->result.healed - before.healed) {
            note_whole(repair, manifest, disk);
        }
    }
    fputs(is_terminal() ? "\n" : "", stderr);
    return rc;
}

static int repair_points(struct repair *repair, const struct points *points, struct far_manifest *manifest, struct far_error *err)
{
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < points->count; i++) {
        rc = repair_point(repair, points->ids[i], manifest, err);
    }
    struct far_error other;
    int synced = far_vault_sync(repair->vault, &other); /* what was repaired before it failed, too */
    if (rc == 0 && synced != 0) {
        *err = other;
        rc = synced;
    }
    if (rc == 0) {
        uint64_t left = repair->result.damaged - repair->result.healed;
        printf("%" PRIu64 " blocks read in %zu points, %" PRIu64 " places were damaged, %" PRIu64 " repaired\n", repair->result.blocks,
               points->count, repair->result.damaged, repair->result.healed);
        rc = left == 0 ? 0 : far_fail(err, FAR_CORRUPT, "%" PRIu64 " damaged places could not be repaired", left);
    }
    if (rc == 0 && points->damaged > 0) {
        rc = far_fail(err, FAR_CORRUPT, "%" PRIu64 " manifests are damaged; no other vault can sign them", points->damaged);
    }
    return rc;
}

int far_vault_heal_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--from", "--point", "--recovery-key", NULL};
    const char *values[4];
    struct repair repair = {0};
    struct points points = {0};
    struct far_manifest *manifest = malloc(sizeof *manifest);
    int rc = manifest != NULL ? far_node_options(argc, argv, names, values, err) : far_fail(err, FAR_LIMIT, "no memory");
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 ? check_apart(values[0], values[1], err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[1], FAR_VAULT_READ, values[3], &repair.other, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_WRITE, values[3], &repair.vault, err) : rc;
    rc = rc == 0 ? read_points(repair.vault, values[2], &points, manifest, err) : rc;
    rc = rc == 0 ? repair_points(&repair, &points, manifest, err) : rc;
    far_vault_close(repair.vault);
    far_vault_close(repair.other);
    free(repair.wholes);
    free(points.ids);
    free(manifest);
    return rc;
}
