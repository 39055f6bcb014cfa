/* farshore-node vault config: what the machine of a point was, as its platform said it, and how it is to be brought up.
 *
 *   vault config --vault DIR --point ID [--recovery] [--out FILE]
 *
 * Both are in the point's manifest; the configuration is given as it was captured (of `kvm` the domain's XML), the rest as JSON. */
#include "dataplane/captured.h"
#include "dataplane/vault.h"
#include "fsm/schema.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

/* ---- JSON of what the log calls it ---- */

static void print_text(FILE *out, struct far_slice text)
{
    fputc('"', out);
    for (size_t i = 0; i < text.len; i++) {
        uint8_t c = text.data[i];
        if (c == '"' || c == '\\') {
            fprintf(out, "\\%c", c);
        } else if (c < 0x20 || c == 0x7f) {
            fprintf(out, "\\u%04x", c);
        } else {
            fputc(c, out);
        }
    }
    fputc('"', out);
}

static void print_object(FILE *out, const struct far_schema *schema, const void *object, int depth);

static void print_list(FILE *out, const struct far_field *field, const struct far_list *list, int depth)
{
    fputc('[', out);
    for (size_t i = 0; i < list->count; i++) {
        fputs(i > 0 ? ", " : "", out);
        if (field->type == FAR_TYPE_LIST) {
            print_object(out, field->element, (const uint8_t *)list->items + i * field->element->size, depth);
        } else {
            print_text(out, ((const struct far_slice *)list->items)[i]);
        }
    }
    fputc(']', out);
}

static bool is_empty(const struct far_field *field, const void *value)
{
    switch (field->type) {
    case FAR_TYPE_BOOL:
        return !*(const bool *)value;
    case FAR_TYPE_STR:
        return ((const struct far_slice *)value)->len == 0;
    case FAR_TYPE_LIST:
    case FAR_TYPE_STRS:
        return ((const struct far_list *)value)->count == 0;
    case FAR_TYPE_U64:
    case FAR_TYPE_ENUM:
        return *(const uint64_t *)value == 0;
    default:
        return true; /* none of what is printed has one */
    }
}

static void print_value(FILE *out, const struct far_field *field, const void *value, int depth)
{
    switch (field->type) {
    case FAR_TYPE_BOOL:
        fputs("true", out);
        break;
    case FAR_TYPE_STR:
        print_text(out, *(const struct far_slice *)value);
        break;
    case FAR_TYPE_ENUM:
        print_text(out, far_slice_str(far_enum_name(field->values, *(const uint64_t *)value)));
        break;
    case FAR_TYPE_U64:
        fprintf(out, "%" PRIu64, *(const uint64_t *)value);
        break;
    default:
        print_list(out, field, value, depth);
    }
}

/* What is 0 or empty is left out. */
static void print_object(FILE *out, const struct far_schema *schema, const void *object, int depth)
{
    bool any = false;
    fputc('{', out);
    for (const struct far_field *field = schema->fields(); field->type != FAR_TYPE_END; field++) {
        const void *value = (const uint8_t *)object + field->offset;
        if (!is_empty(field, value)) {
            fprintf(out, "%s\n%*s\"%s\": ", any ? "," : "", 2 * depth + 2, "", field->name);
            print_value(out, field, value, depth + 1);
            any = true;
        }
    }
    fprintf(out, any ? "\n%*s}" : "}", any ? 2 * depth : 0, "");
}

static int print_recovery(FILE *out, const struct far_manifest *manifest, struct far_error *err)
{
    struct far_arena arena;
    struct far_sub_recovery_kept kept = {.config = {.count = 0}};
    far_arena_init(&arena, 1 << 20);
    int rc = far_schema_decode(&far_schema_sub_recovery_kept, far_slice(manifest->recovery, manifest->recovery_len), &arena, &kept, err);
    if (rc == 0) {
        print_object(out, &far_schema_sub_recovery_kept, &kept, 0);
        fputc('\n', out);
    }
    far_arena_done(&arena);
    return rc == 0 ? 0 : far_error_context(err, "how point %" PRIu64 " is to be brought up", manifest->point_id);
}

/* ---- the command ---- */

static int print_config(FILE *out, const struct far_manifest *manifest, struct far_error *err)
{
    char *text = NULL;
    int rc = far_captured_text(manifest->config, manifest->config_len, &text, err);
    if (rc == 0) {
        fputs(text, out);
    }
    free(text);
    return rc;
}

/* Onto standard output where no file is named; one that is there is left alone. */
static int print_to(const char *path, const struct far_manifest *manifest, bool recovery, struct far_error *err)
{
    int fd = path != NULL ? open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600) : -1;
    FILE *out = path == NULL ? stdout : fd >= 0 ? fdopen(fd, "w") : NULL;
    if (out == NULL) {
        int rc = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make '%s'", path);
        if (fd >= 0) {
            close(fd);
        }
        return rc;
    }
    int rc = recovery ? print_recovery(out, manifest, err) : print_config(out, manifest, err);
    bool good = fflush(out) == 0 && ferror(out) == 0;
    if (path != NULL) {
        good = fclose(out) == 0 && good;
    }
    if (rc == 0 && !good) {
        rc = far_fail(err, FAR_IO, "write '%s': %s", path != NULL ? path : "standard output", strerror(errno));
    }
    if (rc != 0 && path != NULL) {
        unlink(path);
    }
    return rc;
}

int far_vault_config_cli(int argc, char **argv, bool recovery, struct far_error *err)
{
    static const char *const names[] = {"--vault", "--point", "--out", NULL};
    const char *values[3];
    uint64_t point_id = 0;
    struct far_vault *vault = NULL;
    struct far_manifest *manifest = malloc(sizeof *manifest);
    int rc = manifest != NULL ? far_node_options(argc, argv, names, values, err) : far_fail(err, FAR_LIMIT, "no memory");
    rc = rc == 0 ? far_vault_cli_need(names, values, 2, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[1], &point_id, err) : rc;
    rc = rc == 0 ? far_vault_cli_open(values[0], FAR_VAULT_READ, NULL, &vault, err) : rc;
    rc = rc == 0 ? far_vault_point(vault, point_id, manifest, err) : rc;
    if (rc == 0 && (recovery ? manifest->recovery_len : manifest->config_len) == 0) {
        rc = far_fail(err, FAR_NOT_FOUND,
                      recovery ? "nothing was set of how the workload of point %" PRIu64 " is to be brought up: as it was at the source"
                               : "point %" PRIu64 " does not say what its machine was: its platform has none, or could not tell",
                      point_id);
    }
    rc = rc == 0 ? print_to(values[2], manifest, recovery, err) : rc;
    far_vault_close(vault);
    free(manifest);
    return rc;
}
