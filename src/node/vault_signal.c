/* farshore-node vault signal --vault DIR [--point ID] [--features] [--recovery-key FILE]: scores of points, by this program's detector,
 * from the features that the vault keeps; of points of which it keeps none they are computed now (and not kept: the vault is only read). */
#include "dataplane/signal_store.h"
#include "node/node.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

struct listing {
    struct far_vault *vault;
    struct far_signal_point *signal;
    uint64_t only; /* this point; 0: all */
    bool features;
    uint64_t failed;
};

static void print_features(const struct far_signal_features *features)
{
    for (unsigned i = 0; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        if (features->values[i] != 0) {
            printf("    %-32s %14" PRIu64 "\n", far_signal_feature_name((enum far_signal_feature)i), features->values[i]);
        }
    }
}

static void print_disk(const struct listing *listing, const struct far_signal_disk *disk, const char *name)
{
    struct far_signal_score score;
    char shown[FAR_SHOWN_MAX];
    far_signal_judge(disk, &score);
    printf("%-8" PRIu64 " %-16s ", listing->signal->point_id, far_vault_shown(name, shown));
    if (disk->since_point == 0) {
        printf("%-8s %6s  the first point of this disk\n", "-", "-");
        return;
    }
    printf("%-8" PRIu64 " %6u %8u %9u %12" PRIu64 " %9" PRIu64 "  %s\n", disk->since_point, score.score, score.at_once, score.by_and_by,
           score.evidence, disk->features.values[FAR_SIGNAL_changed_blocks], score.score >= FAR_SIGNAL_ALERT ? "ROSE" : "");
    if (listing->features) {
        print_features(&disk->features);
    }
}

static int list_point(void *arg, uint64_t point_id, const struct far_manifest *manifest, const char *problem)
{
    struct listing *listing = arg;
    struct far_error err;
    if (listing->only != 0 && listing->only != point_id) {
        return 0;
    }
    if (manifest == NULL) {
        fprintf(stderr, "farshore-node: point %" PRIu64 " is damaged: %s\n", point_id, problem);
        listing->failed++;
        return 0;
    }
    if (far_signal_make(listing->vault, point_id, NULL, NULL, listing->signal, &err) != 0) {
        fprintf(stderr, "farshore-node: point %" PRIu64 ": %s\n", point_id, err.message);
        listing->failed++;
        return 0;
    }
    for (uint32_t i = 0; i < listing->signal->disk_count && i < manifest->disk_count; i++) {
        print_disk(listing, &listing->signal->disks[i], manifest->disks[i].name);
    }
    return 0;
}

int far_vault_signal_cli(int argc, char **argv, bool features, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--point", "--recovery-key", NULL};
    struct listing listing = {.features = features};
    const char *values[3];
    int rc = far_node_options(argc, argv, names, values, err);
    if (rc == 0 && values[0] == NULL) {
        rc = far_fail(err, FAR_INVALID, "--vault is missing");
    }
    rc = rc == 0 && values[1] != NULL ? far_vault_parse_point(values[1], &listing.only, err) : rc;
    if (rc != 0) {
        return rc;
    }
    listing.signal = malloc(sizeof *listing.signal);
    rc = listing.signal != NULL ? far_vault_cli_open(values[0], FAR_VAULT_READ, values[2], &listing.vault, err)
                                : far_fail(err, FAR_LIMIT, "no memory");
    if (rc == 0) {
        printf("%-8s %-16s %-8s %6s %8s %9s %12s %9s\n", "POINT", "DISK", "SINCE", "SCORE", "AT ONCE", "BY AND BY", "EVIDENCE", "CHANGED");
        rc = far_vault_points(listing.vault, list_point, &listing, err);
    }
    far_vault_close(listing.vault);
    free(listing.signal);
    return rc == 0 && listing.failed > 0 ? far_fail(err, FAR_CORRUPT, "%" PRIu64 " points could not be judged", listing.failed) : rc;
}
