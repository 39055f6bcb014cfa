/* farshore-node vault import|forget|reclaim|space: what is done to a vault while no node runs on it.
 *
 *   vault import --vault DIR --image FILE --label NAME [--disk NAME] [--level 1-19] [--domain NAME --recovery-key FILE]
 *   vault forget --vault DIR --point ID      an imported point; those of a cluster are the cluster's to forget
 *   vault reclaim --vault DIR [--secure] [--recovery-key FILE]
 *   vault space --vault DIR [--recovery-key FILE] */
#include "dataplane/import.h"
#include "dataplane/reclaim.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static bool is_terminal(void)
{
    return isatty(STDERR_FILENO) == 1;
}

/* ---- import ---- */

static int find_domain(struct far_vault *vault, const char *name, const struct far_domain **ret_domain, struct far_error *err)
{
    struct far_domain_info *infos = calloc(FAR_DOMAINS_MAX, sizeof *infos);
    size_t count = infos != NULL ? far_vault_domains(vault, infos, FAR_DOMAINS_MAX) : 0, i = 0;
    while (i < count && strcmp(infos[i].name, name) != 0) {
        i++;
    }
    int rc = i < count ? far_vault_domain_find(vault, infos[i].uuid, ret_domain, err)
                       : far_fail(err, FAR_NOT_FOUND, "the vault has no domain '%.63s'", name);
    free(infos);
    return rc;
}

static int draw_import(void *arg, uint64_t done, uint64_t total)
{
    (void)arg;
    if (is_terminal()) {
        fprintf(stderr, "\rimport %3u %%", (unsigned)(done * 100 / total));
        fputs(done == total ? "\n" : "", stderr);
    }
    return 0;
}

static int read_level(const char *text, int *ret_level, struct far_error *err)
{
    char *end = NULL;
    long level = text != NULL ? strtol(text, &end, 10) : 0;
    if (text != NULL && (end == text || *end != '\0' || level < 1 || level > 19)) {
        return far_fail(err, FAR_INVALID, "'%s' is no level of compression: 1 to 19", text);
    }
    *ret_level = (int)level;
    return 0;
}

static int check_name(const char *name, const char *option, struct far_error *err)
{
    size_t len = strlen(name);
    if (len == 0 || len > 63) {
        return far_fail(err, FAR_INVALID, "%s: a name has 1 to 63 characters", option);
    }
    return far_vault_is_printable(name) ? 0 : far_fail(err, FAR_INVALID, "%s: a name has no control characters in it", option);
}

/* Before a vault is made for it. */
static int check_image(const char *image, struct far_error *err)
{
    struct stat stat;
    int fd = open(image, O_RDONLY | O_CLOEXEC | O_NONBLOCK);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", image);
    }
    int rc = fstat(fd, &stat) != 0 ? far_fail_errno(err, FAR_IO, errno, "look at '%s'", image)
             : S_ISREG(stat.st_mode) || S_ISBLK(stat.st_mode)
                 ? 0
                 : far_fail(err, FAR_INVALID, "'%s' is no image: neither a file nor a block device", image);
    close(fd);
    return rc;
}

int far_vault_import_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--image", "--label", "--disk", "--level", "--domain", "--recovery-key", NULL};
    const char *values[7];
    struct far_import_options options = {.progress = draw_import};
    struct far_import_result result;
    struct far_vault *vault = NULL;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 3, err) : rc;
    rc = rc == 0 ? read_level(values[4], &options.level, err) : rc;
    options.image = values[1];
    options.label = values[2];
    options.disk = rc == 0 && values[3] != NULL ? values[3] : "disk0";
    rc = rc == 0 ? check_name(options.label, "--label", err) : rc;
    rc = rc == 0 ? check_name(options.disk, "--disk", err) : rc;
    rc = rc == 0 ? check_image(options.image, err) : rc;
    bool is_new = values[5] == NULL && values[6] == NULL; /* a new vault has no domain */
    rc = rc == 0 ? far_vault_cli_open(values[0], is_new ? FAR_VAULT_MAKE : FAR_VAULT_WRITE, values[6], &vault, err) : rc;
    rc = rc == 0 && values[5] != NULL ? find_domain(vault, values[5], &options.domain, err) : rc;
    rc = rc == 0 ? far_vault_import(vault, &options, &result, err) : rc;
    far_vault_close(vault);
    if (rc == 0) {
        char hex[65];
        far_hex_encode(result.root.bytes, 32, hex);
        printf("imported '%s' as disk '%s' of point %" PRIu64 ": %" PRIu64 " bytes; blocks: %" PRIu64 " stored in %" PRIu64
               " bytes, %" PRIu64 " there already, %" PRIu64 " zero\nroot %s\n", values[1], options.disk, result.point_id,
               result.size_bytes, result.blocks_stored, result.bytes_stored, result.blocks_same, result.blocks_zero, hex);
    }
    return rc;
}

/* ---- forget ---- */

int far_vault_forget_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--point", NULL};
    const char *values[2];
    struct far_vault *vault = NULL;
    struct far_manifest *manifest = malloc(sizeof *manifest);
    uint64_t point = 0;
    int rc = manifest != NULL ? far_node_options(argc, argv, names, values, err) : far_fail(err, FAR_LIMIT, "no memory");
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[1], &point, err) : rc;
    bool is_imported = point >= FAR_IMPORTED;
    rc = rc == 0 ? far_vault_cli_open(values[0], is_imported ? FAR_VAULT_WRITE : FAR_VAULT_READ, NULL, &vault, err) : rc;
    rc = rc == 0 ? far_vault_point(vault, point, manifest, err) : rc;
    if (rc == 0 && !is_imported) {
        rc = far_fail(err, FAR_CONFLICT, "point %" PRIu64 " is a cluster's: there it is removed (farshore checkpoint remove)", point);
    }
    rc = rc == 0 ? far_vault_forget(vault, point, err) : rc;
    far_vault_close(vault);
    free(manifest);
    if (rc == 0) {
        printf("forgot point %" PRIu64 "; its space comes back with two passes of reclaim\n", point);
    }
    return rc;
}

/* ---- reclaim ---- */

static int draw_reclaim(void *arg, const struct far_reclaim_progress *progress)
{
    (void)arg;
    if (is_terminal()) {
        fprintf(stderr, "\r%-10s %10" PRIu64 "  %12" PRIu64 " bytes freed", progress->phase, progress->done, progress->freed_bytes);
    }
    return 0;
}

static void print_pass(const struct far_reclaim_result *result)
{
    printf("%s%" PRIu64 " records deleted, %" PRIu64 " bytes freed, %" PRIu64 " packs removed; %" PRIu64 " records are in quarantine now,"
           " %" PRIu64 " are needed again\n", is_terminal() ? "\n" : "", result->deleted_records, result->freed_bytes,
           result->packs_removed, result->quarantined_records + result->waiting_records, result->found_again_records);
    if (result->points_pinned > 0) {
        printf("%" PRIu64 " forgotten points are open somewhere and hold on\n", result->points_pinned);
    }
    if (result->points_locked > 0) {
        printf("%" PRIu64 " forgotten points hold on, because the key of their domain is not here (--recovery-key)\n",
               result->points_locked);
    }
    if (result->points_uncountable > 0) {
        printf("%" PRIu64 " points cannot be counted, so nothing of their domains was deleted: %s\nGive --recovery-key for an encrypted "
               "domain; mend or forget a point that is damaged (farshore-node vault repair, forget); then reclaim again\n",
               result->points_uncountable, result->problem);
    } else if (result->problem[0] != '\0') {
        printf("%s\n", result->problem);
    }
}

int far_vault_reclaim_cli(int argc, char **argv, bool secure, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--recovery-key", NULL};
    const char *values[2];
    struct far_vault *vault = NULL;
    struct far_reclaim_order order = {.secure = secure};
    struct far_reclaim_result result = {0};
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 1, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_WRITE, values[1], &vault, err) : rc;
    rc = rc == 0 ? far_vault_reclaim_last(vault, &order.pass, err) : rc;
    order.delete_before = ++order.pass; /* nobody else writes: what earlier passes quarantined was not found since */
    rc = rc == 0 ? far_vault_reclaim(vault, &order, draw_reclaim, NULL, &result, err) : rc;
    far_vault_close(vault);
    if (rc == 0) {
        print_pass(&result);
    }
    return rc;
}

/* ---- space ---- */

struct plan {
    uint64_t id;
    char name[64];
};
struct plans {
    struct plan *list;
    size_t count;
    int rc;
};
enum { PLANS_AT_ONCE = 64, PLANS_MAX = 1 << 16 };

static int note_plan(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct plans *plans = arg;
    (void)point_id;
    (void)problem;
    for (size_t i = 0; manifest != NULL && i < plans->count; i++) {
        if (plans->list[i].id == manifest->plan_id) {
            return 0;
        }
    }
    if (manifest != NULL && plans->count % PLANS_AT_ONCE == 0) {
        struct plan *list = plans->count < PLANS_MAX ? realloc(plans->list, (plans->count + PLANS_AT_ONCE) * sizeof *list) : NULL;
        if (list == NULL) {
            plans->rc = FAR_LIMIT;
            return FAR_LIMIT;
        }
        plans->list = list;
    }
    if (manifest != NULL) {
        struct plan *plan = &plans->list[plans->count++];
        plan->id = manifest->plan_id;
        memcpy(plan->name, manifest->plan, sizeof plan->name);
    }
    return 0;
}

static int print_space(struct far_vault *vault, const struct plan *plan, struct far_error *err)
{
    struct far_space space;
    char shown[FAR_SHOWN_MAX];
    int rc = far_vault_space(vault, &plan->id, 1, &space, err);
    far_vault_shown(plan->name, shown);
    if (rc == 0) {
        printf("%-20s %18" PRIu64 " %18" PRIu64 " %18" PRIu64 " %18" PRIu64 "%s\n", shown, space.logical_bytes, space.points_bytes,
               space.unique_bytes, space.shared_bytes, space.estimated ? "  about" : "");
    } else if (rc == FAR_NOT_FOUND) {
        printf("%-20s %18s %18s %18s %18s  not counted yet: that is done by a pass of reclaim\n", shown, "-", "-", "-", "-");
        rc = 0;
    }
    return rc;
}

int far_vault_space_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--recovery-key", NULL};
    const char *values[2];
    struct plans plans = {0};
    struct far_vault *vault = NULL;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 1, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_WRITE, values[1], &vault, err) : rc;
    if (rc != 0 && (err->sys_errno == EROFS || err->sys_errno == EACCES)) { /* it is only looked at */
        rc = far_vault_cli_open(values[0], FAR_VAULT_READ, values[1], &vault, err);
    }
    rc = rc == 0 ? far_vault_points(vault, note_plan, &plans, err) : rc;
    rc = rc == 0 && plans.rc != 0 ? far_fail(err, FAR_LIMIT, "no memory for so many plans") : rc;
    if (rc == 0) {
        printf("%-20s %18s %18s %18s %18s\n", "PLAN", "LOGICAL", "ALL POINTS", "UNIQUE", "SHARED");
    }
    for (size_t i = 0; rc == 0 && i < plans.count; i++) {
        rc = print_space(vault, &plans.list[i], err);
    }
    far_vault_close(vault);
    free(plans.list);
    return rc;
}
