/* farshore-node vault scrub --vault DIR [--bytes N] [--from POINT/DISK/BLOCK] [--recovery-key FILE]: reads what a vault keeps, all of it or
 * so many bytes, and names what is damaged and who needs it (dataplane/scrub.h). Works beside a running node. */
#include "dataplane/scrub.h"
#include "node/node.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

static int draw(void *arg, uint64_t bytes_read, uint64_t bytes_max)
{
    (void)arg;
    (void)bytes_max;
    if (isatty(STDERR_FILENO) == 1) {
        fprintf(stderr, "\r%16" PRIu64 " bytes read ", bytes_read);
    }
    return 0;
}

static int read_bytes(const char *text, uint64_t *ret_bytes, struct far_error *err)
{
    char *end = NULL;
    errno = 0;
    *ret_bytes = text != NULL ? strtoull(text, &end, 10) : 0;
    if (text != NULL && (*text < '0' || *text > '9' || *end != '\0' || errno != 0)) {
        return far_fail(err, FAR_INVALID, "'%s' is no number of bytes", text);
    }
    return 0;
}

static int read_cursor(const char *text, struct far_scrub_cursor *ret_cursor, struct far_error *err)
{
    struct far_scrub_cursor cursor = {.rotation = 1};
    int len = 0, count = 3;
    if (text != NULL) {
        count = sscanf(text, "%20" SCNu64 "/%4" SCNu64 "/%20" SCNu64 "%n", &cursor.point_id, &cursor.disk, &cursor.block, &len);
    }
    if (count != 3 || (text != NULL && text[len] != '\0')) {
        return far_fail(err, FAR_INVALID, "'%s' is no place: POINT/DISK/BLOCK, as an earlier scrub said", text);
    }
    *ret_cursor = cursor;
    return 0;
}

static void print_damage(const struct far_scrub_result *result, size_t at)
{
    const struct far_scrub_damage *damage = &result->damages[at];
    char shown[FAR_SHOWN_MAX];
    if (damage->disk[0] == '\0') { /* its manifest, or the keys of its domain; or what is no point's */
        char of[48] = "";
        snprintf(of, sizeof of, "point %" PRIu64 " cannot be read: ", damage->point_id);
        printf("damaged: %s%s\n", damage->point_id != 0 ? of : "", damage->text);
        return;
    }
    printf("damaged: blocks %" PRIu64 " to %" PRIu64 " of disk '%s' of point %" PRIu64 ": %s\n  needed by %" PRIu64 " disks of points:",
           damage->first_block, damage->first_block + damage->block_count - 1, far_vault_shown(damage->disk, shown), damage->point_id,
           damage->text, damage->needed_by);
    for (size_t i = 0; i < result->name_count; i++) {
        const struct far_scrub_name *name = &result->names[i];
        if ((name->damages[at / 8] >> at % 8 & 1) == 1) {
            printf(" %" PRIu64 "/%s", name->point_id, far_vault_shown(name->disk, shown));
        }
    }
    printf("%s\n", result->more_names ? " and more" : "");
}

static void print_result(const struct far_scrub_result *result)
{
    printf("%" PRIu64 " blocks looked at, %" PRIu64 " bytes read, %" PRIu64 " blocks damaged\n", result->blocks, result->bytes_read,
           result->blocks_damaged);
    for (size_t i = 0; i < result->damage_count; i++) {
        print_damage(result, i);
    }
    if (result->points_skipped > 0) {
        printf("%" PRIu64 " points were left out: the key of their domain is not here (--recovery-key), or it was destroyed\n",
               result->points_skipped);
    }
    if (result->rotation_ended) {
        printf("the rotation is done\n");
    } else {
        printf("%u.%u %% of the rotation is done; go on with --from %" PRIu64 "/%" PRIu64 "/%" PRIu64 "\n", result->done_permille / 10,
               result->done_permille % 10, result->next.point_id, result->next.disk, result->next.block);
    }
}

int far_vault_scrub_cli(int argc, char **argv, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--bytes", "--from", "--recovery-key", NULL};
    const char *values[4];
    struct far_scrub_order order;
    struct far_vault *vault = NULL;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 1, err) : rc;
    struct far_scrub_result *result = calloc(1, sizeof *result);
    rc = rc == 0 && result == NULL ? far_fail(err, FAR_LIMIT, "no memory") : rc;
    rc = rc == 0 ? read_bytes(values[1], &order.bytes_max, err) : rc;
    rc = rc == 0 ? read_cursor(values[2], &order.cursor, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_READ, values[3], &vault, err) : rc;
    rc = rc == 0 ? far_vault_scrub(vault, &order, draw, NULL, result, err) : rc;
    far_vault_close(vault);
    if (rc == 0) {
        print_result(result);
        rc = result->damage_count > 0 ? far_fail(err, FAR_CORRUPT, "the vault '%s' is damaged", values[0]) : 0;
    }
    free(result);
    return rc;
}
