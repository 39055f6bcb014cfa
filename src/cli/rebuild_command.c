/* farshore server rebuild NAME --dir DIR: the server of this machine, whose disk or log is damaged, becomes a new one that the others
 * fill.
 *
 * What a server may have forgotten (a vote, what it acknowledged) it must not speak about again under its old id (DESIGN.md section
 * 6). So the old one is taken out of the cluster, and the machine joins with a token of its own under a new id, as a standby that
 * becomes a voter; what the old one was is kept (farshored rejoin). Nothing is done for a folder that is whole, or another server's.
 * Interrupted at any point, it goes on when it is run again. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include "cli.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { LOOK_MS = 300, OUT_WITHIN_MS = 120 * 1000, TOKEN_MS = 3600 * 1000, SITE_MAX = 256 };

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

/* Is there a server of this name that was not removed? Its site, also of one that was. */
static int look(struct cli *cli, bool *ret_is_in, char ret_site[SITE_MAX], struct far_error *err)
{
    json_t *servers = NULL, *server;
    size_t i;
    int rc = cli_list(cli, "/v1/servers?consistency=linearizable", &servers, err);
    bool is_known = false;
    *ret_is_in = false;
    json_array_foreach(servers, i, server) {
        if (strcmp(text_of(server, "name"), cli->parsed.argument) == 0) {
            is_known = true;
            *ret_is_in = *ret_is_in || strcmp(text_of(server, "role"), "removed") != 0;
            snprintf(ret_site, SITE_MAX, "%s", text_of(server, "site"));
        }
    }
    json_decref(servers);
    return rc != 0 || is_known ? rc : far_fail(err, FAR_NOT_FOUND, "there is no server '%s'", cli->parsed.argument);
}

static void removal_path(const struct cli *cli, char path[CLI_PATH_MAX])
{
    snprintf(path, CLI_PATH_MAX, "/v1/servers/");
    cli_append_encoded(path, CLI_PATH_MAX, cli->parsed.argument);
    if (cli_value(&cli->parsed, "force") != NULL) {
        strcat(path, "?force=true");
    }
}

static int take_out(struct cli *cli, char site[SITE_MAX], struct far_error *err)
{
    uint64_t give_up_ms = far_clock_monotonic_ms() + OUT_WITHIN_MS;
    char path[CLI_PATH_MAX];
    json_t *answer = NULL;
    bool is_in = false;
    int rc = look(cli, &is_in, site, err);
    if (rc != 0 || !is_in) {
        return rc;
    }
    removal_path(cli, path);
    fprintf(stderr, "farshore: taking the damaged server '%s' out of the cluster\n", cli->parsed.argument);
    rc = cli_request(cli, "DELETE", path, NULL, &answer, err);
    json_decref(answer);
    while (rc == 0 && is_in) {
        rc = look(cli, &is_in, site, err);
        if (rc == 0 && is_in && far_clock_monotonic_ms() > give_up_ms) {
            rc = far_fail(err, FAR_TIMEOUT, "server '%s' is not out yet; is there a quorum without it? Run this again",
                          cli->parsed.argument);
        } else if (rc == 0 && is_in) {
            usleep(LOOK_MS * 1000);
        }
    }
    return rc;
}

static int token_body(struct cli *cli, const char *site, json_t **ret_body, struct far_error *err)
{
    uint8_t secret[32];
    char hex[65];
    uint64_t now_ms = 0;
    int rc = cli_cluster_time(cli, &now_ms, err);
    if (rc != 0) {
        return rc;
    }
    far_random_bytes(secret, sizeof secret);
    far_hex_encode(secret, sizeof secret, hex);
    *ret_body = json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", cli->parsed.argument, "purpose", "join_server", "site", site, "secret",
                          hex, "expires_ms", (json_int_t)(now_ms + TOKEN_MS));
    return 0;
}

static int make_token(struct cli *cli, const char *site, char **ret_token, struct far_error *err)
{
    json_t *answer = NULL, *body = NULL;
    int rc = token_body(cli, site, &body, err);
    rc = rc != 0 ? rc : cli_request(cli, "POST", "/v1/tokens", body, &answer, err);
    json_decref(body);
    *ret_token = rc == 0 ? strdup(text_of(answer, "token")) : NULL;
    json_decref(answer);
    return rc == 0 && *ret_token == NULL ? far_fail(err, FAR_LIMIT, "no memory for the token") : rc;
}

/* The token goes by a file without a name, not by the arguments of a process: killed at any moment, it leaves nothing. */
static int join(struct cli *cli, const char *token, struct far_error *err)
{
    char at_path[64];
    int fd = memfd_create("farshore-token", 0);
    if (fd < 0 || write(fd, token, strlen(token)) != (ssize_t)strlen(token)) {
        int code = errno;
        if (fd >= 0) {
            close(fd);
        }
        return far_fail_errno(err, FAR_IO, code, "hand over the join token");
    }
    snprintf(at_path, sizeof at_path, "@/dev/fd/%d", fd);
    const char *argv[] = {"farshored", "rejoin", "--dir", cli_value(&cli->parsed, "dir"), "--token", at_path, "--name",
                          cli->parsed.argument, NULL};
    int rc = cli_call_farshored(argv, err);
    close(fd);
    return rc;
}

static int check_site(struct cli *cli, const char *site, struct far_error *err)
{
    return site[0] != '\0' ? 0
                           : far_fail(err, FAR_INVALID, "server '%s' stands at no site: farshore server create, then farshore cluster "
                                      "rejoin", cli->parsed.argument);
}

/* ---- the dry run ---- */

enum { TOLD_MAX = 4 * 1024 * 1024 };

/* What would become of the folder, a step a line; the check says before on the standard error what is damaged. */
static int plan_folder(const char **check, json_t *plan, struct far_error *err)
{
    struct far_buf told;
    char *rest = NULL;
    far_buf_init(&told, TOLD_MAX);
    int rc = cli_read_farshored(check, &told, err);
    for (char *line = rc == 0 ? strtok_r((char *)told.data, "\n", &rest) : NULL; line != NULL; line = strtok_r(NULL, "\n", &rest)) {
        cli_plan_say(plan, NULL, "%s", line);
    }
    far_buf_done(&told);
    return rc;
}

static int plan_cluster(struct cli *cli, json_t *plan, struct far_error *err)
{
    char site[SITE_MAX] = "", path[CLI_PATH_MAX];
    bool is_in = false;
    json_t *body = NULL;
    int rc = look(cli, &is_in, site, err);
    rc = rc != 0 ? rc : check_site(cli, site, err);
    if (rc == 0 && is_in) {
        removal_path(cli, path);
        rc = cli_plan_try(cli, plan, "take the damaged server out of the cluster, and wait until it is", "DELETE", path, NULL, err);
        cli_plan_say(plan, "the removal", "make a join token for '%s' at site '%s' (event token_created)", cli->parsed.argument, site);
    } else if (rc == 0 && (rc = token_body(cli, site, &body, err)) == 0) {
        rc = cli_plan_try(cli, plan, "make a join token", "POST", "/v1/tokens", body, err);
    }
    json_decref(body);
    return rc;
}

static int run_dry(struct cli *cli, struct far_error *err)
{
    const char *dir = cli_value(&cli->parsed, "dir");
    const char *check[] = {"farshored", "rejoin-check", "--dir", dir, "--name", cli->parsed.argument, "--plan", NULL};
    json_t *folder = cli_plan_new(), *plan = cli_plan_new();
    int rc = cli_settings(cli, err);
    rc = rc != 0 ? rc : plan_folder(check, folder, err); /* first: a server that is whole is not asked about */
    rc = rc != 0 ? rc : plan_cluster(cli, plan, err);
    if (rc == 0) {
        json_array_extend(json_object_get(plan, "steps"), json_object_get(folder, "steps"));
        cli_plan_say(plan, "the token and the new key", "the cluster takes it in under a new number (event server_joined); when it is "
                     "started, the others fill it and it votes (event server_role_changed)");
        cli_plan_print(cli, plan);
    }
    json_decref(folder);
    json_decref(plan);
    return rc;
}

/* ---- the command ---- */

int cli_run_rebuild(struct cli *cli, struct far_error *err)
{
    const char *dir = cli_value(&cli->parsed, "dir");
    const char *check[] = {"farshored", "rejoin-check", "--dir", dir, "--name", cli->parsed.argument, NULL};
    char site[SITE_MAX] = "", *token = NULL;
    if (cli_value(&cli->parsed, "dry-run") != NULL) {
        return run_dry(cli, err);
    }
    int rc = cli_settings(cli, err); /* before the folder is read, which may take long */
    rc = rc != 0 ? rc : cli_call_farshored(check, err);
    rc = rc != 0 ? rc : take_out(cli, site, err);
    rc = rc != 0 ? rc : check_site(cli, site, err);
    rc = rc != 0 ? rc : make_token(cli, site, &token, err);
    rc = rc != 0 ? rc : join(cli, token, err);
    free(token);
    if (rc == 0) {
        fprintf(cli->out, "server '%s' is a new one; start it: farshored run --dir %s\n", cli->parsed.argument, dir);
    }
    return rc;
}
