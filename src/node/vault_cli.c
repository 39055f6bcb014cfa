/* farshore-node vault …: look at a vault and recover from it with nothing but its folder, and for encrypted domains the cluster's
 * recovery key in a file (--recovery-key FILE). No cluster, no network; works beside a running node and after it is gone.
 *
 *   vault list --vault DIR
 *   vault recover [--offline] --vault DIR --point ID --disk NAME --target PATH [--overwrite-device]
 *   vault rekey --vault DIR --recovery-key FILE
 *   vault keys …                                        vault_keys.c
 *   vault verify --vault DIR --point ID [--disk NAME] [--since POINT]
 *   vault open …                                        vault_nbd.c
 *   vault import|forget|reclaim|space …                 vault_keep.c
 *   vault config …                                      vault_config.c
 *   vault copy|repair …                                 vault_carry.c
 *   vault diff|export …                                 vault_export.c
 *   vault browse …                                      vault_browse.c
 *   vault scrub …                                       vault_scrub.c
 *   vault bind|attach|store …                           vault_bind.c
 *   vault signal --vault DIR [--point ID] [--features]  vault_signal.c
 *   vault confirm-time --vault DIR
 */
#include "base/date.h"
#include "dataplane/vault.h"
#include "dataplane/vault_lock.h"
#include "node/node.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

static const char *command_name = ""; /* that is run */

static void print_usage(FILE *out)
{
    if (!far_vault_print_usage(out, command_name, "usage: ")) {
        (void)far_vault_print_usage(out, NULL, "usage: ");
    }
}

static int fail_usage(const struct far_error *err)
{
    int status = far_node_failed(err);
    print_usage(stderr);
    return status;
}

/* Takes a flag without a value out of the arguments; true if it was there. */
static bool take_flag(int *argc, char **argv, const char *flag)
{
    for (int i = 1; i < *argc; i++) {
        if (strcmp(argv[i], flag) == 0) {
            memmove(argv + i, argv + i + 1, (size_t)(*argc - i - 1) * sizeof *argv);
            (*argc)--;
            return true;
        }
    }
    return false;
}

int far_vault_parse_point(const char *text, uint64_t *ret_point, struct far_error *err)
{
    char *end = NULL;
    errno = 0;
    *ret_point = strtoull(text, &end, 10);
    if (*text < '0' || *text > '9' || *end != '\0' || errno != 0) {
        return far_fail(err, FAR_INVALID, "'%s' is not the number of a point", text);
    }
    return 0;
}

int far_vault_cli_need(const char *const *names, const char *const *values, size_t count, struct far_error *err)
{
    for (size_t i = 0; i < count; i++) {
        if (values[i] == NULL) {
            return far_fail(err, FAR_INVALID, "%s is missing", names[i]);
        }
    }
    return 0;
}

int far_vault_cli_open(const char *dir, enum far_vault_use use, const char *recovery_key_file, struct far_vault **ret_vault,
                       struct far_error *err)
{
    const struct far_vault_options options = {.read_only = use == FAR_VAULT_READ, .create = use == FAR_VAULT_MAKE};
    struct far_vault *vault = NULL;
    int rc = far_vault_open(dir, &options, &vault, err);
    rc = rc == 0 ? far_vault_unlock_from(vault, recovery_key_file, err) : rc;
    if (rc != 0) {
        far_vault_close(vault);
        return rc;
    }
    *ret_vault = vault;
    return 0;
}

void far_vault_cli_progress(uint64_t done, uint64_t total)
{
    static uint64_t last = UINT64_MAX;
    uint64_t permille = total != 0 ? done * 1000 / total : 1000;
    if (permille != last) {
        printf("progress %" PRIu64 " %" PRIu64 "\n", done, total);
        fflush(stdout);
        last = permille;
    }
}

/* ---- list ---- */

struct listing {
    struct far_vault *vault;
    uint64_t points;
    uint64_t damaged;
    uint64_t unreadable; /* the keys of their domains are lost */
};

static void print_disks(const struct far_manifest *manifest)
{
    char when[32] = "?";
    char root[65], shown[4][FAR_SHOWN_MAX];
    time_t seconds = (time_t)(manifest->frozen_at_ms / 1000);
    struct tm tm;
    if (gmtime_r(&seconds, &tm) != NULL) {
        strftime(when, sizeof when, "%Y-%m-%dT%H:%M:%SZ", &tm);
    }
    for (uint32_t i = 0; i < manifest->disk_count; i++) {
        const struct far_manifest_disk *disk = &manifest->disks[i];
        far_hex_encode(disk->root.bytes, 32, root);
        printf("%-8" PRIu64 " %-20s %-12s %-12s %-12s %-12s %14" PRIu64 "  %.16s  %s\n", manifest->point_id, when,
               far_vault_shown(manifest->site, shown[0]), far_vault_shown(manifest->plan, shown[1]),
               far_vault_shown(manifest->workload, shown[2]), far_vault_shown(disk->name, shown[3]), disk->size_bytes, root,
               manifest->fuzzy ? "fuzzy" : manifest->domain_number != 0 ? "encrypted" : "");
    }
}

static int list_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct listing *listing = arg;
    if (manifest == NULL) {
        listing->damaged++;
        fprintf(stderr, "farshore-node: point %" PRIu64 " is damaged: %s\n", point_id, problem);
        return 0;
    }
    struct far_error cause;
    if (far_vault_domain_is_lost(listing->vault, manifest->domain_uuid, &cause)) {
        listing->unreadable++;
        fprintf(stderr, "farshore-node: point %" PRIu64 " cannot be read: %s\n", point_id, cause.message);
    }
    listing->points++;
    print_disks(manifest);
    return 0;
}

static void print_domains(struct far_vault *vault)
{
    static const char *const states[] = {"encrypted, no key here", "encrypted, the key opens it", "destroyed", "its keys are damaged"};
    static struct far_domain_info infos[FAR_DOMAINS_MAX];
    char shown[FAR_SHOWN_MAX];
    size_t count = far_vault_domains(vault, infos, FAR_DOMAINS_MAX);
    for (size_t i = 0; i < count; i++) {
        printf("domain %u '%s': %s, key of generation %u\n", infos[i].number, far_vault_shown(infos[i].name, shown),
               states[infos[i].state], infos[i].generation);
    }
}

static int list(int argc, char **argv)
{
    static const char *const names[] = {"--vault", "--recovery-key", NULL};
    const char *values[2];
    struct far_error err;
    struct far_vault *vault = NULL;
    struct listing listing = {0};
    take_flag(&argc, argv, "--offline");
    if (far_node_options(argc, argv, names, values, &err) != 0 || far_vault_cli_need(names, values, 1, &err) != 0) {
        return fail_usage(&err);
    }
    int rc = far_vault_cli_open(values[0], FAR_VAULT_READ, values[1], &vault, &err);
    if (rc == 0) {
        print_domains(vault);
        printf("%-8s %-20s %-12s %-12s %-12s %-12s %14s  %-16s\n", "POINT", "FROZEN AT", "SITE", "PLAN", "WORKLOAD",
               "DISK", "BYTES", "ROOT");
        listing.vault = vault;
        rc = far_vault_points(vault, list_point, &listing, &err);
    }
    far_vault_close(vault);
    if (rc == 0 && listing.damaged > 0) {
        rc = far_fail(&err, FAR_CORRUPT, "%" PRIu64 " manifests are damaged, %" PRIu64 " disks' points are good",
                      listing.damaged, listing.points - listing.unreadable);
    }
    if (rc == 0 && listing.unreadable > 0) {
        rc = far_fail(&err, FAR_CORRUPT, "%" PRIu64 " points cannot be read: the keys of their domains are damaged", listing.unreadable);
    }
    return rc == 0 ? 0 : far_node_failed(&err);
}

/* ---- recover ---- */

struct bar {
    bool shown; /* a terminal looks at it */
    int percent;
    const char *phase;
};

static void draw_bar(struct bar *bar, const char *phase, uint64_t done, uint64_t total)
{
    enum { WIDTH = 40 };
    static const char full[] = "########################################";
    int percent = total == 0 ? 100 : (int)(done * 100 / total);
    if (bar->phase != NULL && percent == bar->percent && strcmp(bar->phase, phase) == 0) {
        return;
    }
    bool step = percent % 10 == 0;
    bar->percent = percent;
    bar->phase = phase;
    if (bar->shown) {
        fprintf(stderr, "\r%-6s [%-*.*s] %3d %%", phase, WIDTH, percent * WIDTH / 100, full, percent);
        if (percent == 100) {
            fputc('\n', stderr);
        }
    } else if (step) {
        fprintf(stderr, "%s %d %%\n", phase, percent);
    }
}

static void draw_recovery(void *arg, const struct far_recover_progress *progress)
{
    draw_bar(arg, progress->phase, progress->bytes_done, progress->bytes_total);
}

/* A fuzzy point is no snapshot: say so before anybody relies on it. */
static void warn_if_fuzzy(const char *dir, uint64_t point_id)
{
    struct far_vault *vault = NULL;
    struct far_manifest *manifest = malloc(sizeof *manifest);
    if (manifest != NULL && far_vault_cli_open(dir, FAR_VAULT_READ, NULL, &vault, NULL) == 0 &&
        far_vault_point(vault, point_id, manifest, NULL) == 0 &&
        manifest->fuzzy) {
        fprintf(stderr,
                "farshore-node: point %" PRIu64 " is fuzzy: the disk was not frozen while it was read, its blocks may be "
                "of different moments\n",
                point_id);
    }
    far_vault_close(vault);
    free(manifest);
}

static int recover(int argc, char **argv)
{
    static const char *const names[] = {"--vault", "--point", "--disk", "--target", "--recovery-key", NULL};
    const char *values[5];
    uint64_t point;
    char hex[65];
    struct far_error err;
    struct far_hash256 root;
    struct bar bar = {.shown = isatty(STDERR_FILENO) == 1};
    struct far_recover_options options = {.progress = draw_recovery, .arg = &bar};
    take_flag(&argc, argv, "--offline"); /* there is no other way here; it is said for clarity */
    options.overwrite_device = take_flag(&argc, argv, "--overwrite-device");
    if (far_node_options(argc, argv, names, values, &err) != 0 || far_vault_cli_need(names, values, 4, &err) != 0 ||
        far_vault_parse_point(values[1], &point, &err) != 0) {
        return fail_usage(&err);
    }
    options.recovery_key_file = values[4];
    int rc = far_vault_recover_offline(values[0], point, values[2], values[3], &options, &root, &err);
    if (rc != 0) {
        if (bar.shown && bar.phase != NULL) {
            fputc('\n', stderr);
        }
        return far_node_failed(&err);
    }
    warn_if_fuzzy(values[0], point);
    far_hex_encode(root.bytes, 32, hex);
    printf("recovered disk '%s' of point %" PRIu64 " to '%s'\nroot %s, read back and equal to the signed manifest's\n",
           values[2], point, values[3], hex);
    return 0;
}

/* ---- verify ---- */

static void print_damage(void *arg, const struct far_point_damage *damage)
{
    (void)arg;
    printf("damaged: block %" PRIu64 ", %" PRIu64 " blocks: %s\n", damage->first_block, damage->block_count,
           damage->text);
}

static int draw_verification(void *arg, uint64_t done, uint64_t total)
{
    draw_bar(arg, "verify", done, total);
    return 0;
}

/* since: the number of a point that was verified before, or 0; a disk that it has not is read whole. */
static int verify_disk(struct far_vault *vault, uint64_t point_id, const char *disk, uint64_t since, struct far_error *err)
{
    struct far_point *point = NULL, *before = NULL;
    struct far_verify_result result = {0};
    struct bar bar = {.shown = isatty(STDERR_FILENO) == 1};
    char hex[65];
    int rc = far_point_open_disk(vault, point_id, disk, &point, err);
    if (rc == 0 && since != 0) {
        int found = far_point_open_disk(vault, since, disk, &before, err);
        rc = found == FAR_NOT_FOUND ? 0 : found;
    }
    if (rc == 0) {
        rc = far_point_verify_since(point, before, print_damage, draw_verification, &bar, &result, err);
    }
    far_point_close(before);
    far_point_close(point);
    if (rc == 0) {
        far_hex_encode(result.root.bytes, 32, hex);
        printf("good: disk '%s' of point %" PRIu64 ": %" PRIu64 " blocks, ", disk, point_id, result.blocks);
        if (since != 0) {
            printf("%" PRIu64 " of them as in point %" PRIu64 " and not read, ", result.blocks_known, since);
        }
        printf("root %s\n", hex);
    }
    return rc;
}

/* One disk, or (disk NULL) all of the point; a damaged one does not keep the others from being looked at. */
static int verify_point(const char *dir, const char *recovery_key_file, uint64_t point_id, const char *disk, uint64_t since,
                        struct far_manifest *manifest, struct far_error *err)
{
    struct far_vault *vault = NULL;
    struct far_error other;
    int rc = far_vault_cli_open(dir, FAR_VAULT_READ, recovery_key_file, &vault, err);
    if (rc == 0 && since != 0) {
        rc = far_vault_point(vault, since, manifest, err); /* it must be there */
    }
    if (rc == 0) {
        rc = far_vault_point(vault, point_id, manifest, err);
    }
    if (rc == 0 && disk != NULL) {
        rc = verify_disk(vault, point_id, disk, since, err);
    }
    uint32_t count = rc == 0 && disk == NULL ? manifest->disk_count : 0;
    for (uint32_t i = 0; i < count; i++) {
        if (verify_disk(vault, point_id, manifest->disks[i].name, since, &other) != 0) {
            *err = other;
            rc = other.klass;
        }
    }
    far_vault_close(vault);
    return rc;
}

static int verify(int argc, char **argv)
{
    static const char *const names[] = {"--vault", "--point", "--disk", "--since", "--recovery-key", NULL};
    const char *values[5];
    uint64_t point, since = 0;
    struct far_error err;
    take_flag(&argc, argv, "--offline");
    if (far_node_options(argc, argv, names, values, &err) != 0 || far_vault_cli_need(names, values, 2, &err) != 0 ||
        far_vault_parse_point(values[1], &point, &err) != 0 || (values[3] != NULL && far_vault_parse_point(values[3], &since, &err) != 0)) {
        return fail_usage(&err);
    }
    struct far_manifest *manifest = malloc(sizeof *manifest);
    int rc = manifest != NULL ? verify_point(values[0], values[4], point, values[2], since, manifest, &err)
                              : far_fail(&err, FAR_LIMIT, "no memory to verify a point");
    free(manifest);
    return rc == 0 ? 0 : far_node_failed(&err);
}

/* After the cluster was restored from a backup that knows older keys than the vault: whatever key the next order brings is good. */
static int rekey(int argc, char **argv)
{
    static const char *const names[] = {"--vault", "--recovery-key", NULL};
    const char *values[2];
    struct far_error err;
    struct far_vault *vault = NULL;
    size_t count = 0;
    take_flag(&argc, argv, "--offline");
    if (far_node_options(argc, argv, names, values, &err) != 0 || far_vault_cli_need(names, values, 2, &err) != 0) {
        return fail_usage(&err);
    }
    int rc = far_vault_open(values[0], NULL, &vault, &err);
    rc = rc == 0 ? far_vault_domains_reset(vault, values[1], &count, &err) : rc;
    far_vault_close(vault);
    if (rc != 0) {
        return far_node_failed(&err);
    }
    printf("%zu domains are sealed anew with the first key that an order brings\n", count);
    return 0;
}

static int open_disk(int argc, char **argv)
{
    struct far_error err;
    bool writable = take_flag(&argc, argv, "--writable"), progress = take_flag(&argc, argv, "--progress");
    take_flag(&argc, argv, "--offline");
    int rc = far_vault_nbd_cli(argc, argv, writable, progress, &err);
    return rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

/* Those of vault_keep.c, vault_scrub.c and vault_keys.c; -1: it is none of them. */
static int keep(const char *command, int argc, char **argv)
{
    struct far_error err;
    bool secure = strcmp(command, "reclaim") == 0 && take_flag(&argc, argv, "--secure");
    int rc = strcmp(command, "import") == 0    ? far_vault_import_cli(argc, argv, &err)
             : strcmp(command, "forget") == 0  ? far_vault_forget_cli(argc, argv, &err)
             : strcmp(command, "reclaim") == 0 ? far_vault_reclaim_cli(argc, argv, secure, &err)
             : strcmp(command, "space") == 0   ? far_vault_space_cli(argc, argv, &err)
             : strcmp(command, "scrub") == 0   ? far_vault_scrub_cli(argc, argv, &err)
             : strcmp(command, "keys") == 0    ? far_vault_keys_cli(argc, argv, &err)
                                               : 1;
    return rc == 1 ? -1 : rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

/* Those of vault_bind.c; -1: it is none of them. */
static int bind_store(const char *command, int argc, char **argv)
{
    struct far_error err;
    bool attach = strcmp(command, "attach") == 0;
    bool read_only = attach && take_flag(&argc, argv, "--read-only"), take_over = attach && take_flag(&argc, argv, "--take-over");
    take_flag(&argc, argv, "--offline");
    int rc = attach                          ? far_vault_attach_cli(argc, argv, read_only, take_over, &err)
             : strcmp(command, "bind") == 0  ? far_vault_bind_cli(argc, argv, &err)
             : strcmp(command, "store") == 0 ? far_vault_store_cli(argc, argv, &err)
                                             : 1;
    return rc == 1 ? -1 : rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

/* Those of vault_carry.c and vault_export.c; -1: it is none of them. */
static int carry(const char *command, int argc, char **argv)
{
    struct far_error err;
    bool differ = strcmp(command, "diff") == 0;
    bool pages = differ && take_flag(&argc, argv, "--pages"), json = differ && take_flag(&argc, argv, "--json");
    bool progress = take_flag(&argc, argv, "--progress");
    take_flag(&argc, argv, "--offline");
    int rc = differ                           ? far_vault_diff_cli(argc, argv, pages, json, &err)
             : strcmp(command, "export") == 0 ? far_vault_export_cli(argc, argv, progress, &err)
             : strcmp(command, "copy") == 0   ? far_vault_copy_cli(argc, argv, progress, &err)
             : strcmp(command, "repair") == 0 ? far_vault_heal_cli(argc, argv, &err)
                                              : 1;
    return rc == 1 ? -1 : rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

static int browse(int argc, char **argv)
{
    struct far_error err;
    int status = 0;
    take_flag(&argc, argv, "--offline");
    if (argc == 3 && strcmp(argv[1], "--served") == 0) {
        return far_vault_browse_served(argv[2], &err) == 0 ? 0 : far_node_failed(&err);
    }
    int rc = far_vault_browse_cli(argc, argv, &status, &err);
    return rc == 0 ? status : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

static int show_signal(int argc, char **argv)
{
    struct far_error err;
    bool features = take_flag(&argc, argv, "--features");
    take_flag(&argc, argv, "--offline");
    int rc = far_vault_signal_cli(argc, argv, features, &err);
    return rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

static int show_config(int argc, char **argv)
{
    struct far_error err;
    bool recovery = take_flag(&argc, argv, "--recovery");
    int rc = far_vault_config_cli(argc, argv, recovery, &err);
    return rc == 0 ? 0 : rc == FAR_INVALID ? fail_usage(&err) : far_node_failed(&err);
}

/* The operator at the vault says that the clock of this machine is right: locks go by it again. */
static int confirm_time(int argc, char **argv)
{
    static const char *const names[] = {"--vault", NULL};
    const char *values[1];
    char now[FAR_DATE_MAX];
    struct far_vault_time time;
    struct far_error err;
    if (far_node_options(argc, argv, names, values, &err) != 0 || far_vault_cli_need(names, values, 1, &err) != 0) {
        return fail_usage(&err);
    }
    if (far_vault_time_confirm(values[0], &time, &err) != 0) {
        return far_node_failed(&err);
    }
    printf("by the clock of the vault it is %s\n", far_date_text(time.time_ms, now));
    return 0;
}

int far_vault_cli(int argc, char **argv)
{
    struct far_error err;
    const char *command = argc > 1 ? argv[1] : "";
    command_name = command;
    if ((argc > 2 && strcmp(argv[2], "--help") == 0) || strcmp(command, "--help") == 0 || strcmp(command, "help") == 0) {
        print_usage(stdout);
        return 0;
    }
    if (strcmp(command, "list") == 0) {
        return list(argc - 1, argv + 1);
    }
    if (strcmp(command, "recover") == 0) {
        return recover(argc - 1, argv + 1);
    }
    if (strcmp(command, "verify") == 0) {
        return verify(argc - 1, argv + 1);
    }
    if (strcmp(command, "rekey") == 0) {
        return rekey(argc - 1, argv + 1);
    }
    if (strcmp(command, "open") == 0) {
        return open_disk(argc - 1, argv + 1);
    }
    if (strcmp(command, "browse") == 0) {
        return browse(argc - 1, argv + 1);
    }
    if (strcmp(command, "signal") == 0) {
        return show_signal(argc - 1, argv + 1);
    }
    if (strcmp(command, "config") == 0) {
        return show_config(argc - 1, argv + 1);
    }
    if (strcmp(command, "confirm-time") == 0) {
        return confirm_time(argc - 1, argv + 1);
    }
    int status = argc > 1 ? keep(command, argc - 1, argv + 1) : -1;
    status = argc > 1 && status < 0 ? carry(command, argc - 1, argv + 1) : status;
    status = argc > 1 && status < 0 ? bind_store(command, argc - 1, argv + 1) : status;
    if (status >= 0) {
        return status;
    }
    far_fail(&err, FAR_INVALID, "vault: '%s' is no command", command);
    return fail_usage(&err);
}
