/* farshore-node vault diff|export: what differs between two points of a disk, and a disk of a point as a file.
 *
 *   vault diff --vault DIR --point ID --with ID --disk NAME [--pages] [--json] [--recovery-key FILE]
 *   vault export --vault DIR --point ID --disk NAME --format raw|qcow2 --out FILE [--base ID --backing FILE] [--recovery-key FILE]
 *
 * raw is a recovery (vault_recover.c). qcow2 is written by qemu-img from the disk over NBD, and compared with it by qemu-img again;
 * a file that does not get that far is removed. With a base: vault_qcow2.c. */
#include "dataplane/vault_diff.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- diff ---- */

enum { PAGE_BYTES = 4096 };

struct diff {
    struct far_vault *vault;
    const struct far_domain *before_domain, *after_domain;
    bool pages; /* look inside blocks */
    bool json;
    uint64_t size; /* of the larger disk: ranges end there */
    uint64_t begin, end; /* the range that is open; both 0: none */
    uint64_t ranges, bytes;
    uint8_t *before_block, *after_block;
};

static void print_range(struct diff *diff)
{
    if (diff->begin == diff->end) {
        return;
    }
    uint64_t length = diff->end - diff->begin;
    if (diff->json) {
        printf("%s{\"offset\":%" PRIu64 ",\"length\":%" PRIu64 "}", diff->ranges > 0 ? "," : "", diff->begin, length);
    } else {
        printf("%" PRIu64 " %" PRIu64 "\n", diff->begin, length);
    }
    diff->ranges++;
    diff->bytes += length;
}

/* Ranges come in order; one that follows on is the same. */
static void add_range(struct diff *diff, uint64_t begin, uint64_t length)
{
    uint64_t end = diff->size - begin < length ? diff->size : begin + length;
    if (begin >= diff->size) {
        return;
    }
    if (begin != diff->end || diff->begin == diff->end) {
        print_range(diff);
        diff->begin = begin;
    }
    diff->end = end;
}

static int take_block(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after,
                      struct far_error *err)
{
    struct diff *diff = arg;
    uint64_t at = block * FAR_BLOCK_BYTES;
    if (!diff->pages) {
        add_range(diff, at, FAR_BLOCK_BYTES);
        return 0;
    }
    int rc = far_vault_get(diff->vault, diff->before_domain, before, true, diff->before_block, err);
    rc = rc == 0 ? far_vault_get(diff->vault, diff->after_domain, after, true, diff->after_block, err) : rc;
    for (uint32_t i = 0; rc == 0 && i < FAR_BLOCK_BYTES; i += PAGE_BYTES) {
        if (memcmp(diff->before_block + i, diff->after_block + i, PAGE_BYTES) != 0) {
            add_range(diff, at + i, PAGE_BYTES);
        }
    }
    return rc;
}

/* The difference has no direction; the walk goes to the end of the second one. */
static int compare(struct diff *diff, struct far_point *first, struct far_point *second, struct far_error *err)
{
    bool swapped = far_point_size(second) < far_point_size(first);
    struct far_point *before = swapped ? second : first, *after = swapped ? first : second;
    diff->size = far_point_size(after);
    diff->before_domain = far_point_domain(before);
    diff->after_domain = far_point_domain(after);
    if (diff->json) {
        printf("{\"size_before\":%" PRIu64 ",\"size_after\":%" PRIu64 ",\"ranges\":[", far_point_size(first), far_point_size(second));
    }
    int rc = far_vault_diff(diff->vault, before, after, take_block, diff, err);
    if (rc != 0) {
        return rc;
    }
    print_range(diff);
    if (diff->json) {
        printf("],\"bytes\":%" PRIu64 "}\n", diff->bytes);
    } else {
        printf("total: %" PRIu64 " ranges, %" PRIu64 " of %" PRIu64 " bytes\n", diff->ranges, diff->bytes, diff->size);
    }
    return 0;
}

int far_vault_diff_cli(int argc, char **argv, bool pages, bool json, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--point", "--with", "--disk", "--recovery-key", NULL};
    const char *values[5];
    uint64_t first_id = 0, second_id = 0;
    struct far_point *first = NULL, *second = NULL;
    struct diff diff = {.pages = pages, .json = json};
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? far_vault_cli_need(names, values, 4, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[1], &first_id, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[2], &second_id, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_READ, values[4], &diff.vault, err) : rc;
    rc = rc == 0 ? far_point_open_disk(diff.vault, first_id, values[3], &first, err) : rc;
    rc = rc == 0 ? far_point_open_disk(diff.vault, second_id, values[3], &second, err) : rc;
    diff.before_block = malloc(FAR_BLOCK_BYTES);
    diff.after_block = malloc(FAR_BLOCK_BYTES);
    if (rc == 0 && (diff.before_block == NULL || diff.after_block == NULL)) {
        rc = far_fail(err, FAR_LIMIT, "no memory to compare two points");
    }
    rc = rc == 0 ? compare(&diff, first, second, err) : rc;
    free(diff.before_block);
    free(diff.after_block);
    far_point_close(first);
    far_point_close(second);
    far_vault_close(diff.vault);
    return rc;
}

/* ---- export ---- */

enum { PATH_LENGTH_MAX = 4000 };

/* Both passes: it is written, and read back. */
static void tell_export(void *arg, const struct far_recover_progress *progress)
{
    (void)arg;
    bool is_proof = strcmp(progress->phase, "prove") == 0;
    far_vault_cli_progress(progress->bytes_done + (is_proof ? progress->bytes_total : 0), 2 * progress->bytes_total);
}

static int export_raw(const char *const *values, uint64_t point, bool progress, struct far_error *err)
{
    struct far_recover_options options = {.recovery_key_file = values[5], .progress = progress ? tell_export : NULL};
    return far_vault_recover_offline(values[0], point, values[2], values[4], &options, NULL, err);
}

bool far_node_has_program(const char *program)
{
    char path[PATH_LENGTH_MAX + 300];
    const char *at = getenv("PATH");
    while (at != NULL && *at != '\0') {
        size_t len = strcspn(at, ":");
        snprintf(path, sizeof path, "%.*s/%s", len < PATH_LENGTH_MAX ? (int)len : PATH_LENGTH_MAX, at, program);
        if (access(path, X_OK) == 0) {
            return true;
        }
        at += len + (at[len] == ':');
    }
    return false;
}

static int sync_file(const char *path, struct far_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    int rc = fd >= 0 && fsync(fd) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "sync '%s'", path);
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

/* Under its name only when it is whole; what came to be there meanwhile stays. */
static int export_qcow2(const char *const *values, uint64_t point, bool progress, struct far_error *err)
{
    /* $uri is where it is served; the name of the file comes through the environment, so no shell reads it. */
    static const char command[] = "qemu-img convert $FARSHORE_EXPORT_HOW -f raw -O qcow2 \"$uri\" \"$FARSHORE_EXPORT\" && "
                                  "qemu-img compare -q -f raw -F qcow2 \"$uri\" \"$FARSHORE_EXPORT\"";
    char part[PATH_LENGTH_MAX + 8];
    if (!far_node_has_program("qemu-img")) {
        return far_fail(err, FAR_NOT_FOUND, "qcow2 is written by qemu-img, which is not installed (Debian: apt-get install qemu-utils)");
    }
    if (strlen(values[4]) > PATH_LENGTH_MAX) {
        return far_fail(err, FAR_INVALID, "the name of the file is too long");
    }
    snprintf(part, sizeof part, "%s%s.part", values[4][0] == '/' ? "" : "./", values[4]); /* a colon in it is no protocol then */
    if (access(values[4], F_OK) == 0 || access(part, F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", access(values[4], F_OK) == 0 ? values[4] : part);
    }
    if (setenv("FARSHORE_EXPORT", part, 1) != 0 || setenv("FARSHORE_EXPORT_HOW", progress ? "-p" : "-q", 1) != 0) {
        return far_fail(err, FAR_LIMIT, "no memory to export a disk");
    }
    const struct far_nbd_order order = {.vault = values[0], .point = point, .disk = values[2], .recovery_key = values[5]};
    int rc = far_vault_nbd_run(&order, command, err);
    rc = rc == 0 ? sync_file(part, err) : rc;
    if (rc == 0 && link(part, values[4]) != 0) {
        rc = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "give '%s' its name", values[4]);
    }
    unlink(part);
    return rc;
}

static int check_export(const char *const *names, const char *const *values, struct far_error *err)
{
    int rc = far_vault_cli_need(names, values, 5, err);
    bool raw = rc == 0 && strcmp(values[3], "raw") == 0;
    if (rc == 0 && !raw && strcmp(values[3], "qcow2") != 0) {
        return far_fail(err, FAR_INVALID, "'%s' is no format: raw, qcow2", values[3]);
    }
    if (rc == 0 && ((values[6] != NULL) != (values[7] != NULL) || (raw && values[6] != NULL))) {
        return far_fail(err, FAR_INVALID, "--base, --backing and the format qcow2 go together");
    }
    return rc;
}

int far_vault_export_cli(int argc, char **argv, bool progress, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--point",        "--disk", "--format",  "--out",
                                        "--recovery-key", "--base", "--backing", NULL};
    const char *values[8];
    uint64_t point = 0, base = 0;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? check_export(names, values, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[1], &point, err) : rc;
    rc = rc == 0 && values[6] != NULL ? far_vault_parse_point(values[6], &base, err) : rc;
    if (rc == 0 && base != 0) {
        const struct far_qcow2_order order = {.vault = values[0], .base = base, .point = point, .disk = values[2], .backing = values[7],
                                              .out = values[4], .recovery_key = values[5], .progress = progress};
        rc = far_vault_qcow2_export(&order, err);
    } else if (rc == 0) {
        rc = strcmp(values[3], "raw") == 0 ? export_raw(values, point, progress, err) : export_qcow2(values, point, progress, err);
    }
    if (rc == 0) {
        printf("exported disk '%s' of point %" PRIu64 " to '%s' (%s), read back and equal\n", values[2], point, values[4], values[3]);
    }
    return rc;
}
