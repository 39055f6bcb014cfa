/* farshore cluster backup: asks a server for a backup, and fetches it piece by piece into a file beside the wanted one, which
 * gets its name when all of it is there and durable. */
#include "cli.h"

#include <errno.h>
#include <fcntl.h>
#include <string.h>
#include <sys/file.h>
#include <sys/stat.h>
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

/* Made, or taken over from one that was interrupted; locked, so that no other backup writes into it. */
static int open_part(const char *part, FILE **ret_file, struct far_error *err)
{
    struct stat mine, there;
    int fd = open(part, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    if (fd < 0) {
        return far_fail_errno(err, FAR_IO, errno, "make file '%s'", part);
    }
    bool is_mine = flock(fd, LOCK_EX | LOCK_NB) == 0 && fstat(fd, &mine) == 0 && stat(part, &there) == 0 &&
                   mine.st_ino == there.st_ino && mine.st_dev == there.st_dev;
    if (!is_mine) {
        close(fd);
        return far_fail(err, FAR_CONFLICT, "another backup is being written to '%s'", part);
    }
    FILE *file = ftruncate(fd, 0) == 0 ? fdopen(fd, "wb") : NULL;
    if (file == NULL) {
        int code = errno;
        close(fd);
        return far_fail_errno(err, FAR_IO, code, "write '%s'", part);
    }
    *ret_file = file;
    return 0;
}

static int fetch_into(struct cli *cli, const char *name, const char *out, struct far_error *err)
{
    char part[PATH_BYTES];
    int n = snprintf(part, sizeof part, "%s.part", out);
    if (n < 0 || (size_t)n >= sizeof part) {
        return far_fail(err, FAR_INVALID, "the path '%.60s…' is too long", out);
    }
    FILE *file = NULL;
    int rc = open_part(part, &file, err);
    if (rc != 0) {
        return rc;
    }
    rc = fetch(cli, name, file, err);
    if (rc == 0 && link(part, out) != 0) { /* never over another one */
        rc = far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "make file '%s'", out);
    }
    unlink(part); /* while it is locked: it is this one's */
    fclose(file); /* what it held was made durable before */
    return rc;
}

static int run_dry(struct cli *cli, const char *out, struct far_error *err)
{
    json_t *plan = cli_plan_new(), *body = json_object();
    int rc = cli_plan_try(cli, plan, "the server that answers makes a backup in its folder 'backups', and lets the oldest go that is "
                          "one too many", "POST", "/v1/cluster/backups", body, err);
    if (rc == 0) {
        cli_plan_say(plan, NULL, "it is fetched into '%s.part', which gets the name '%s' when it is whole", out, out);
        cli_plan_print(cli, plan);
    }
    json_decref(body);
    json_decref(plan);
    return rc;
}

int cli_run_backup(struct cli *cli, struct far_error *err)
{
    const char *out = cli_value(&cli->parsed, "out");
    json_t *made = NULL;
    int rc = cli_check_new_file(out, "--out", err); /* before the server makes one */
    if (rc != 0 || cli_value(&cli->parsed, "dry-run") != NULL) {
        return rc != 0 ? rc : run_dry(cli, out, err);
    }
    json_t *body = json_object();
    rc = cli_request(cli, "POST", "/v1/cluster/backups", body, &made, err);
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
