/* farshore cluster backup: asks a server for a backup, and fetches it piece by piece into a file beside the wanted one, which
 * gets its name when all of it is there and durable. */
#include "cli.h"

#include <errno.h>
#include <string.h>
#include <unistd.h>

enum { PATH_BYTES = 4096 };

static int fetch(struct cli *cli, const char *name, FILE *file, struct far_error *err)
{
    long long next = 0;
    int rc = 0;
    do {
        char path[256];
        json_t *piece = NULL;
        snprintf(path, sizeof path, "/v1/cluster/backups/%s?from=%lld", name, next);
        rc = cli_request(cli, "GET", path, NULL, &piece, err);
        rc = rc != 0 ? rc : cli_write_hex(file, json_string_value(json_object_get(piece, "bytes")), err);
        next = json_integer_value(json_object_get(piece, "next"));
        json_decref(piece);
    } while (rc == 0 && next != 0);
    if (rc == 0 && (fflush(file) != 0 || fsync(fileno(file)) != 0)) {
        rc = far_fail_errno(err, FAR_IO, errno, "write the backup");
    }
    return rc;
}

static int fetch_into(struct cli *cli, const char *name, const char *out, struct far_error *err)
{
    char part[PATH_BYTES];
    int n = snprintf(part, sizeof part, "%s.part", out);
    if (n < 0 || (size_t)n >= sizeof part) {
        return far_fail(err, FAR_INVALID, "the path '%.60s…' is too long", out);
    }
    FILE *file = fopen(part, "wb");
    if (file == NULL) {
        return far_fail_errno(err, FAR_IO, errno, "make file '%s'", part);
    }
    int rc = fetch(cli, name, file, err);
    if (fclose(file) != 0 && rc == 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "write '%s'", part);
    }
    if (rc == 0 && link(part, out) != 0) { /* never over another one */
        rc = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make file '%s'", out);
    }
    unlink(part);
    return rc;
}

int cli_run_backup(struct cli *cli, struct far_error *err)
{
    const char *out = cli_value(&cli->parsed, "out");
    json_t *made = NULL;
    if (access(out, F_OK) == 0) {
        return far_fail(err, FAR_CONFLICT, "'%s' is there already", out);
    }
    json_t *body = json_object();
    int rc = cli_request(cli, "POST", "/v1/cluster/backups", body, &made, err);
    json_decref(body);
    if (rc != 0) {
        return rc;
    }
    const char *name = json_string_value(json_object_get(made, "name"));
    rc = name == NULL ? far_fail(err, FAR_CORRUPT, "the server's answer names no backup") : fetch_into(cli, name, out, err);
    if (rc == 0 && cli->json) {
        cli_print_json(cli->out, made);
    } else if (rc == 0) {
        fprintf(cli->out, "'%s' holds the cluster as of entry %lld; a new one is made of it with: farshore cluster restore\n",
                out, json_integer_value(json_object_get(made, "index")));
    }
    json_decref(made);
    return rc;
}
