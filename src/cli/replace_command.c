/* farshore server replace OLD NEW: another machine takes the place of a server while the cluster runs.
 *
 * What is to be done next is read from the cluster each time: a join token for NEW, wait until it votes, leadership away from
 * OLD, OLD out (which is refused, and tried again, while only OLD holds older events). So it can be interrupted at any moment, and
 * run again. A server that is down keeps others from being let in: then it goes first. */
#include "cli.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { LOOK_MS = 500, TOKEN_SECONDS = 24 * 3600, ASKED_MS = 10 * 1000 /* for leadership to move; for a server to come back */ };

struct replace {
    struct cli *cli;
    const char *old_name, *new_name;
    json_t *servers, *status; /* as seen last */
    char said[512];           /* last */
    uint64_t deadline_ms;     /* monotonic; 0: none */
    uint64_t down_since_ms;   /* OLD; 0: it is up */
    uint64_t transfer_ms;     /* when leadership was asked for; 0: not yet */
    bool is_removal_asked;
    bool has_failed_here;     /* on this machine: asking the cluster again is of no use */
};

static const char *text_of(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "" : text;
}

/* Each step once. */
static void say(struct replace *r, const char *text)
{
    if (strcmp(r->said, text) != 0) {
        snprintf(r->said, sizeof r->said, "%s", text);
        fprintf(stderr, "farshore: %s\n", text);
    }
}

/* Of this name, still in the cluster if there is such a one; else one that was removed; else NULL. */
static const json_t *find_server(const struct replace *r, const char *name)
{
    const json_t *found = NULL, *server;
    size_t i;
    json_array_foreach(r->servers, i, server) {
        bool is_same = strcmp(text_of(server, "name"), name) == 0;
        if (is_same && (found == NULL || strcmp(text_of(found, "role"), "removed") == 0)) {
            found = server;
        }
    }
    return found;
}

static bool has_role(const json_t *server, const char *role)
{
    return server != NULL && strcmp(text_of(server, "role"), role) == 0;
}

static const json_t *find_member(const struct replace *r, const char *name)
{
    size_t i;
    json_t *member;
    json_array_foreach(json_object_get(r->status, "members"), i, member) {
        if (strcmp(text_of(member, "name"), name) == 0) {
            return member;
        }
    }
    return NULL;
}

static int look(struct replace *r, struct far_error *err)
{
    json_t *servers = NULL, *status = NULL;
    int rc = cli_list(r->cli, "/v1/servers?consistency=linearizable", &servers, err);
    rc = rc != 0 ? rc : cli_request(r->cli, "GET", "/v1/cluster?consistency=linearizable", NULL, &status, err);
    if (rc != 0) {
        json_decref(servers);
        return rc;
    }
    json_decref(r->servers);
    json_decref(r->status);
    r->servers = servers;
    r->status = status;
    return 0;
}

/* Later may work. */
static bool is_passing(int klass)
{
    return klass == FAR_BUSY || klass == FAR_NOT_LEADER || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT || klass == FAR_IO;
}

/* From here on ask the other servers too: OLD may be the only one that was named. */
static int ask_everybody(struct replace *r, struct far_error *err)
{
    char all[4096];
    size_t len = (size_t)snprintf(all, sizeof all, "%s", r->cli->servers), i;
    json_t *server;
    json_array_foreach(r->servers, i, server) {
        const char *address = text_of(server, "api_address");
        bool is_other = !has_role(server, "removed") && address[0] != '\0' && strstr(all, address) == NULL;
        if (is_other && len + strlen(address) + 12 < sizeof all) {
            len += (size_t)snprintf(all + len, sizeof all - len, ",https://%s", address);
        }
    }
    free(r->cli->servers);
    r->cli->servers = strdup(all);
    far_client_free(r->cli->client);
    r->cli->client = NULL;
    return r->cli->servers != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory for the list of servers");
}

/* ---- the token ---- */

/* A token for NEW that nobody has used yet. */
static int find_token(struct replace *r, uint64_t *ret_id, struct far_error *err)
{
    json_t *tokens = NULL, *token;
    size_t i;
    uint64_t now_ms = 0;
    int rc = cli_cluster_time(r->cli, &now_ms, err);
    rc = rc != 0 ? rc : cli_list(r->cli, "/v1/tokens?consistency=linearizable", &tokens, err);
    *ret_id = 0;
    json_array_foreach(tokens, i, token) {
        bool is_good = strcmp(text_of(token, "purpose"), "join_server") == 0 && strcmp(text_of(token, "name"), r->new_name) == 0 &&
                       json_integer_value(json_object_get(token, "used_ms")) == 0 &&
                       !json_is_true(json_object_get(token, "revoked")) &&
                       (uint64_t)json_integer_value(json_object_get(token, "expires_ms")) > now_ms;
        *ret_id = is_good ? (uint64_t)json_integer_value(json_object_get(token, "id")) : *ret_id;
    }
    json_decref(tokens);
    return rc;
}

/* Before there is a token, which is told only once. */
static int open_token_file(const char *path, int *ret_fd, struct far_error *err)
{
    *ret_fd = open(path, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
    if (*ret_fd < 0) {
        return errno == EEXIST ? far_fail(err, FAR_CONFLICT, "'%s' is there already: give another --token-out", path)
                               : far_fail_errno(err, FAR_IO, errno, "make file '%s'", path);
    }
    return 0;
}

static int write_token(struct replace *r, int fd, const char *path, const json_t *answer, struct far_error *err)
{
    const char *token = text_of(answer, "token");
    size_t len = strlen(token);
    bool ok = write(fd, token, len) == (ssize_t)len && write(fd, "\n", 1) == 1 && fsync(fd) == 0;
    if (ok) {
        return 0;
    }
    r->has_failed_here = true;
    return far_fail_errno(err, FAR_IO, errno, "write the join token to '%s' (farshore token remove %" JSON_INTEGER_FORMAT
                          ", and this again)", path, json_integer_value(json_object_get(answer, "id")));
}

/* To the file that was opened for it, or to the standard output. */
static int tell_token(struct replace *r, int fd, const char *path, const json_t *answer, struct far_error *err)
{
    int rc = fd >= 0 ? write_token(r, fd, path, answer, err) : 0;
    if (rc != 0) {
        return rc;
    }
    if (fd < 0) {
        fprintf(r->cli->out, "%s\n", text_of(answer, "token"));
        fflush(r->cli->out);
    }
    fprintf(stderr, "farshore: on the new machine, with that token (good for a day): farshore cluster join --dir DIR --token %s%s "
            "--name %s --api HOST:PORT --peer HOST:PORT, then farshored run --dir DIR\n", fd >= 0 ? "@" : "TOKEN",
            fd >= 0 ? path : "", r->new_name);
    return 0;
}

/* What the token is to be made of; the secret is drawn here. */
static int token_body(struct replace *r, json_t **ret_body, struct far_error *err)
{
    const char *site = cli_value(&r->cli->parsed, "site");
    uint8_t secret[32];
    char hex[65];
    uint64_t now_ms = 0;
    site = site != NULL ? site : text_of(find_server(r, r->old_name), "site");
    if (site[0] == '\0') {
        return far_fail(err, FAR_INVALID, "server '%s' stands at no site: say with --site where '%s' will stand", r->old_name, r->new_name);
    }
    int rc = cli_cluster_time(r->cli, &now_ms, err);
    if (rc != 0) {
        return rc;
    }
    far_random_bytes(secret, sizeof secret);
    far_hex_encode(secret, sizeof secret, hex);
    *ret_body = json_pack("{s:s, s:s, s:s, s:s, s:I}", "name", r->new_name, "purpose", "join_server", "site", site, "secret", hex,
                          "expires_ms", (json_int_t)(now_ms + TOKEN_SECONDS * 1000ull));
    return 0;
}

static int make_token(struct replace *r, struct far_error *err)
{
    const char *path = cli_value(&r->cli->parsed, "token-out");
    json_t *answer = NULL, *body = NULL;
    int fd = -1, rc = token_body(r, &body, err);
    if (rc != 0) {
        return rc;
    }
    rc = path != NULL ? open_token_file(path, &fd, err) : 0;
    r->has_failed_here = rc != 0;
    rc = rc != 0 ? rc : cli_request(r->cli, "POST", "/v1/tokens", body, &answer, err);
    json_decref(body);
    rc = rc != 0 ? rc : tell_token(r, fd, path, answer, err);
    json_decref(answer);
    if (fd >= 0) {
        close(fd);
    }
    if (fd >= 0 && rc != 0) {
        unlink(path);
    }
    return rc;
}

/* ---- the steps: each says what it does, and comes back ---- */

static int ask_to_join(struct replace *r, struct far_error *err)
{
    char text[512];
    uint64_t id = 0;
    int rc = r->said[0] != '\0' && strstr(r->said, "to join") != NULL ? 0 : find_token(r, &id, err);
    if (rc == 0 && id != 0) {
        fprintf(stderr, "farshore: token %" PRIu64 " for '%s' was made before; if it is lost: farshore token remove %" PRIu64
                ", and this again\n", id, r->new_name, id);
    } else if (rc == 0 && strstr(r->said, "to join") == NULL) {
        rc = make_token(r, err);
    }
    snprintf(text, sizeof text, "waiting for '%s' to join", r->new_name);
    if (rc == 0) {
        say(r, text);
    }
    return rc;
}

static int wait_for_vote(struct replace *r)
{
    char text[512];
    const json_t *member = find_member(r, r->new_name);
    bool is_up = json_is_true(json_object_get(member, "up"));
    snprintf(text, sizeof text, is_up ? "'%s' is catching up" : "waiting for '%s' to be started (farshored run --dir DIR)", r->new_name);
    say(r, text);
    return 0;
}

/* The removal would hand leadership over too; so it goes where it is wanted, and before. */
static int move_leadership(struct replace *r, struct far_error *err)
{
    const json_t *new_member = find_member(r, r->new_name);
    json_t *answer = NULL;
    char text[512];
    if (strcmp(text_of(new_member, "site_role"), "witness") == 0) {
        return 0;
    }
    snprintf(text, sizeof text, "handing leadership over from '%s' to '%s'", r->old_name, r->new_name);
    say(r, text);
    json_t *body = json_pack("{s:s}", "to", r->new_name);
    int rc = cli_request(r->cli, "POST", "/v1/cluster/transfer", body, &answer, err);
    json_decref(body);
    json_decref(answer);
    r->transfer_ms = is_passing(rc) ? 0 : far_clock_monotonic_ms();
    return rc == FAR_CONFLICT ? 0 : rc; /* it may not lead: the removal hands over to another one */
}

static void removal_path(const struct replace *r, char path[CLI_PATH_MAX])
{
    snprintf(path, CLI_PATH_MAX, "/v1/servers/");
    cli_append_encoded(path, CLI_PATH_MAX, r->old_name);
    if (cli_value(&r->cli->parsed, "force") != NULL) {
        strcat(path, "?force=true");
    }
}

static int remove_old(struct replace *r, struct far_error *err)
{
    char path[CLI_PATH_MAX], text[512];
    json_t *answer = NULL;
    if (r->is_removal_asked) {
        return 0;
    }
    removal_path(r, path);
    int rc = cli_request(r->cli, "DELETE", path, NULL, &answer, err);
    if (rc == FAR_CONFLICT) { /* only OLD holds older events: another one fetches them */
        say(r, err->message);
        return 0;
    }
    r->is_removal_asked = rc == 0;
    snprintf(text, sizeof text, "taking '%s' out", r->old_name);
    if (rc == 0) {
        say(r, text);
    }
    json_decref(answer);
    return rc;
}

/* For some time, not only out of reach for a moment. */
static bool is_down(struct replace *r, bool is_up)
{
    uint64_t now_ms = far_clock_monotonic_ms();
    if (is_up) {
        r->down_since_ms = 0;
        return false;
    }
    r->down_since_ms = r->down_since_ms != 0 ? r->down_since_ms : now_ms;
    return now_ms - r->down_since_ms >= ASKED_MS;
}

/* One step; *ret_done when nothing is left. */
static int step(struct replace *r, bool *ret_done, struct far_error *err)
{
    const json_t *old = find_server(r, r->old_name), *new_server = find_server(r, r->new_name);
    const json_t *member = find_member(r, r->old_name);
    bool is_out = has_role(old, "removed"), is_in = has_role(new_server, "voter");
    *ret_done = is_out && is_in;
    if (*ret_done) {
        return 0;
    }
    bool is_away = !is_out && !json_is_true(json_object_get(member, "up")), is_gone = is_down(r, !is_away);
    if (!is_in && is_gone) {
        return remove_old(r, err); /* or NEW is not let in */
    }
    if (!is_in && is_away) {
        say(r, "the old server does not answer: if it stays so, it goes first");
        return 0;
    }
    if (new_server == NULL || has_role(new_server, "removed")) {
        return ask_to_join(r, err);
    }
    if (!is_in) {
        return wait_for_vote(r);
    }
    if (json_is_true(json_object_get(member, "leads")) && r->transfer_ms == 0) {
        return move_leadership(r, err);
    }
    bool waits = json_is_true(json_object_get(member, "leads")) && far_clock_monotonic_ms() - r->transfer_ms < ASKED_MS;
    return waits ? 0 : remove_old(r, err);
}

static int check(const struct replace *r, struct far_error *err)
{
    if (strcmp(r->old_name, r->new_name) == 0) {
        return far_fail(err, FAR_INVALID, "the new server needs another name than '%s'", r->old_name);
    }
    if (find_server(r, r->old_name) == NULL) {
        return far_fail(err, FAR_NOT_FOUND, "there is no server '%s'", r->old_name);
    }
    if (!has_role(find_server(r, r->old_name), "removed") && has_role(find_server(r, r->new_name), "voter") &&
        cli_value(&r->cli->parsed, "resume") == NULL) {
        return far_fail(err, FAR_CONFLICT, "server '%s' votes already: without '%s' there would be one server less. If it joined for "
                        "this replacement, which was interrupted, say so with --resume; else choose another name, or farshore server "
                        "remove %s", r->new_name, r->old_name, r->old_name);
    }
    return 0;
}

static int plan_token(struct replace *r, json_t *plan, struct far_error *err)
{
    const char *path = cli_value(&r->cli->parsed, "token-out");
    uint64_t id = 0;
    json_t *body = NULL;
    int rc = find_token(r, &id, err);
    if (rc == 0 && id == 0 && path != NULL) {
        rc = cli_check_new_file(path, "--token-out", err);
        r->has_failed_here = rc != 0;
    }
    if (rc == 0 && id != 0) {
        cli_plan_say(plan, NULL, "token %" PRIu64 " for '%s' was made before and is used", id, r->new_name);
    } else if (rc == 0 && (rc = token_body(r, &body, err)) == 0) {
        rc = cli_plan_try(r->cli, plan, "make a join token for the new server, good for a day", "POST", "/v1/tokens", body, err);
    }
    json_decref(body);
    return rc;
}

/* Before OLD may be taken out for it: a name or a site that no token is made for, a file that cannot be made. */
static int check_token(struct replace *r, struct far_error *err)
{
    const json_t *new_server = find_server(r, r->new_name);
    json_t *scratch = cli_plan_new();
    int rc = new_server == NULL || has_role(new_server, "removed") ? plan_token(r, scratch, err) : 0;
    json_decref(scratch);
    return is_passing(rc) && !r->has_failed_here ? 0 : rc;
}

static int run(struct replace *r, struct far_error *err)
{
    bool is_done = false;
    int rc = look(r, err);
    rc = rc != 0 ? rc : check(r, err);
    rc = rc != 0 ? rc : check_token(r, err);
    rc = rc != 0 ? rc : ask_everybody(r, err);
    while (rc == 0 && !is_done) {
        rc = step(r, &is_done, err);
        if (rc == 0 && !is_done) {
            usleep(LOOK_MS * 1000);
            rc = look(r, err);
        }
        rc = is_passing(rc) && !r->has_failed_here ? 0 : rc; /* the next look sees what came of it */
        if (rc == 0 && !is_done && r->deadline_ms != 0 && far_clock_monotonic_ms() > r->deadline_ms) {
            rc = far_fail(err, FAR_TIMEOUT, "not within the time that was given (%s); run it again to go on%s", r->said,
                          has_role(find_server(r, r->new_name), "voter") ? " (with --resume)" : "");
        }
    }
    return rc;
}

/* ---- the dry run: the same steps, in their order, none taken ---- */

static int plan_entry(struct replace *r, json_t *plan, struct far_error *err)
{
    const json_t *new_server = find_server(r, r->new_name);
    if (new_server == NULL || has_role(new_server, "removed")) {
        int rc = plan_token(r, plan, err);
        if (rc != 0) {
            return rc;
        }
        cli_plan_say(plan, "the token, and on the new machine 'farshore cluster join' with its addresses",
                     "'%s' joins (event server_joined) as a standby and is filled by the others", r->new_name);
    }
    cli_plan_say(plan, "the new server, which runs and has caught up", "'%s' votes (event server_role_changed: voter)", r->new_name);
    return 0;
}

static int plan_removal(struct replace *r, json_t *plan, const char *what, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    removal_path(r, path);
    return cli_plan_try(r->cli, plan, what, "DELETE", path, NULL, err);
}

static int plan_leadership(struct replace *r, json_t *plan, bool is_in, struct far_error *err)
{
    if (!is_in) {
        cli_plan_say(plan, "the vote of the new server",
                     "leadership goes from '%s' to '%s' (event leader_wanted), unless that is a witness", r->old_name, r->new_name);
        return 0;
    }
    if (strcmp(text_of(find_member(r, r->new_name), "site_role"), "witness") == 0) {
        return 0;
    }
    json_t *body = json_pack("{s:s}", "to", r->new_name);
    int rc = cli_plan_try(r->cli, plan, "hand leadership over to the new server", "POST", "/v1/cluster/transfer", body, err);
    json_decref(body);
    return rc;
}

static int plan_steps(struct replace *r, json_t *plan, struct far_error *err)
{
    const json_t *member = find_member(r, r->old_name);
    bool is_out = has_role(find_server(r, r->old_name), "removed"), is_in = has_role(find_server(r, r->new_name), "voter");
    bool is_up = json_is_true(json_object_get(member, "up")), goes_first = !is_out && !is_in && !is_up;
    int rc = 0;
    if (goes_first) {
        rc = plan_removal(r, plan, "the old server does not answer: if it stays so for 10 seconds, it is taken out first", err);
    }
    if (rc == 0 && !is_in) {
        rc = plan_entry(r, plan, err);
    }
    if (rc == 0 && !is_out && !goes_first && json_is_true(json_object_get(member, "leads"))) {
        rc = plan_leadership(r, plan, is_in, err);
    }
    if (rc == 0 && !is_out && !goes_first) {
        rc = plan_removal(r, plan, is_in ? "take the old server out"
                                         : "when the new server votes: take the old one out (told as of now)", err);
    }
    if (rc == 0 && !is_out) {
        cli_plan_say(plan, "the removal", "the leader takes '%s' out of the log's members (event server_role_changed: removed)",
                     r->old_name);
    }
    return rc;
}

static int run_dry(struct replace *r, struct far_error *err)
{
    json_t *plan = cli_plan_new();
    int rc = look(r, err);
    rc = rc != 0 ? rc : check(r, err);
    rc = rc != 0 ? rc : plan_steps(r, plan, err);
    if (rc == 0) {
        cli_plan_print(r->cli, plan);
    }
    json_decref(plan);
    json_decref(r->servers);
    json_decref(r->status);
    return rc;
}

int cli_run_replace(struct cli *cli, struct far_error *err)
{
    const char *within = cli_value(&cli->parsed, "within");
    struct replace r = {.cli = cli, .old_name = cli->parsed.argument, .new_name = cli->parsed.argument2};
    if (cli_value(&cli->parsed, "dry-run") != NULL) {
        return run_dry(&r, err);
    }
    if (cli->json && cli_value(&cli->parsed, "token-out") == NULL) {
        return far_fail(err, FAR_INVALID, "with -o json the join token needs a file: --token-out FILE");
    }
    if (within != NULL) {
        r.deadline_ms = far_clock_monotonic_ms() + strtoull(within, NULL, 10) * 1000;
    }
    int rc = run(&r, err);
    if (rc == 0 && cli->json) {
        json_t *done = json_pack("{s:s, s:s, s:O*}", "old", r.old_name, "new", r.new_name, "id",
                                 json_object_get(find_server(&r, r.new_name), "id"));
        cli_print_json(cli->out, done);
        json_decref(done);
    } else if (rc == 0) {
        const char *warning = text_of(json_object_get(r.status, "survives"), "warning");
        fprintf(cli->out, "server '%s' is in the place of '%s'\n", r.new_name, r.old_name);
        if (warning[0] != '\0') {
            fprintf(stderr, "farshore: warning: %s\n", warning);
        }
    }
    json_decref(r.servers);
    json_decref(r.status);
    return rc;
}
