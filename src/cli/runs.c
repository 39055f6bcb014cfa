/* What the commands do: see the table. */
#include "cli.h"

#include "base/bytes.h"
#include "base/clock.h"
#include "base/random.h"

#include <stdlib.h>
#include <string.h>

enum { JOIN_TOKEN_SECONDS = 3600 };

/* ---- paths ---- */

void cli_append_encoded(char *path, size_t room, const char *text)
{
    size_t len = strlen(path);
    for (; *text != '\0' && len + 4 < room; text++) {
        unsigned char c = (unsigned char)*text;
        bool plain = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || strchr("._-", c) != NULL;
        len += (size_t)snprintf(path + len, room - len, plain ? "%c" : "%%%02X", c);
    }
}

static void append_argument(char path[CLI_PATH_MAX], const char *name, const char *value)
{
    size_t len = strlen(path);
    snprintf(path + len, CLI_PATH_MAX - len, "%c%s=", strchr(path, '?') == NULL ? '?' : '&', name);
    cli_append_encoded(path, CLI_PATH_MAX, value);
}

int cli_path(const struct cli *cli, char path[CLI_PATH_MAX], struct far_error *err)
{
    const char *pattern = cli->parsed.command->path, *argument = cli->parsed.argument;
    const char *at = strstr(pattern, "%s");
    path[0] = '\0';
    for (; at != NULL; argument = cli->parsed.argument2, pattern = at + 2, at = strstr(pattern, "%s")) {
        if (strlen(argument) > 63 || strcmp(argument, ".") == 0 || strcmp(argument, "..") == 0) {
            return far_fail(err, FAR_INVALID, "'%s' is no name", argument);
        }
        strncat(path, pattern, (size_t)(at - pattern));
        cli_append_encoded(path, CLI_PATH_MAX, argument);
    }
    strncat(path, pattern, CLI_PATH_MAX - strlen(path) - 1);
    if (cli_value(&cli->parsed, "dry-run") != NULL) {
        append_argument(path, "dry_run", "true");
    }
    if (cli->parsed.command->asks_force && cli_value(&cli->parsed, "force") != NULL) {
        append_argument(path, "force", "true");
    }
    if (cli_value(&cli->parsed, "at") != NULL) {
        append_argument(path, "at", cli_value(&cli->parsed, "at"));
    }
    return 0;
}

/* ---- lists and objects ---- */

int cli_run_list(struct cli *cli, struct far_error *err)
{
    const struct cli_command *command = cli->parsed.command;
    char path[CLI_PATH_MAX];
    json_t *items = NULL;
    int rc = cli_path(cli, path, err);
    for (size_t i = 0; rc == 0 && command->options[i].name != NULL; i++) {
        const char *value = cli_value(&cli->parsed, command->options[i].name);
        if (value != NULL) {
            size_t len = strlen(path);
            snprintf(path + len, sizeof path - len, "%c%s=", strchr(path, '?') == NULL ? '?' : '&', command->options[i].name);
            cli_append_encoded(path, sizeof path, value);
        }
    }
    rc = rc != 0 ? rc : cli_list(cli, path, &items, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, items);
    } else {
        cli_print_table(cli->out, items, command->columns);
    }
    json_decref(items);
    return 0;
}

/* What 0 means in a plan; help.c and FIRST_STEPS say the same. */
static void explain_policy(json_t *plan)
{
    static const struct {
        const char *field, *text;
    } zeroes[] = {{"interval_s", "0 (cycles begin by hand)"},
                  {"audit_age_s", "0 (as usual: 604800, 7 days)"},
                  {"audit_ppm", "0 (as usual: 10.00 % of a disk in a cycle)"},
                  {"full_age_s", "0 (nothing is hashed for its age)"}};
    for (size_t i = 0; json_object_get(plan, "audit_ppm") != NULL && i < sizeof zeroes / sizeof zeroes[0]; i++) {
        if (json_integer_value(json_object_get(plan, zeroes[i].field)) == 0) {
            json_object_set_new(plan, zeroes[i].field, json_string(zeroes[i].text));
        }
    }
}

int cli_run_show(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *object = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &object, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, object);
    } else {
        if (json_is_object(json_object_get(object, "throttle"))) {
            char text[256];
            cli_throttle_text(json_object_get(object, "throttle"), text, sizeof text);
            json_object_set_new(object, "throttle", json_string(text));
        }
        json_t *rpo = json_incref(json_object_get(object, "rpo"));
        json_object_del(object, "rpo");
        json_object_del(object, "rpo_from_ms"); /* what they come to is said below */
        json_object_del(object, "rpo_due_ms");
        explain_policy(object);
        cli_print_object(cli->out, object, 0);
        if (json_is_object(rpo)) {
            cli_print_rpo(cli->out, rpo, far_clock_wall_ms());
        }
        json_decref(rpo);
    }
    json_decref(object);
    return 0;
}

/* Those that ran, with the end of what they wrote. */
static void print_scripts(FILE *out, const json_t *tasks)
{
    size_t i;
    json_t *task;
    json_array_foreach(tasks, i, task)
    {
        const json_t *script = json_array_get(json_object_get(task, "script"), 0);
        const json_t *result = json_array_get(json_object_get(task, "script_result"), 0);
        json_t *shown = script != NULL && result != NULL ? json_copy((json_t *)result) : NULL;
        json_object_update(shown, (json_t *)script);
        json_object_set(shown, "state", json_object_get(task, "state"));
        json_object_set_new(shown, "ended_ms", json_integer(json_integer_value(json_object_get(result, "duration_ms"))));
        if (shown != NULL) {
            cli_print_script(out, shown);
        }
        json_decref(shown);
    }
}

/* A job for people: what it is, how far it is, and a line for each task. */
static void print_job(FILE *out, json_t *job)
{
    static const char *const fields[] = {"id",         "kind",       "state",         "plan",        "workload",
                                         "started_ms", "finished_ms", "checkpoint_id", "error_class", "error_message"};
    json_t *head = json_object(), *tasks = json_object_get(job, "tasks"), *task;
    char phase[320];
    size_t i;
    for (i = 0; i < sizeof fields / sizeof fields[0]; i++) {
        const json_t *value = json_object_get(job, fields[i]);
        bool is_empty = value == NULL || (json_is_string(value) && json_string_length(value) == 0) ||
                        (json_is_integer(value) && json_integer_value(value) == 0);
        if (!is_empty) {
            json_object_set(head, fields[i], (json_t *)value);
        }
    }
    if (strcmp(json_string_value(json_object_get(job, "state")), "running") == 0) {
        cli_phase(job, far_clock_wall_ms(), 0, phase, sizeof phase);
        json_object_set_new(head, "now", json_string(phase));
    }
    cli_print_object(out, head, 0);
    json_decref(head);
    json_array_foreach(tasks, i, task)
    {
        const json_t *script = json_array_get(json_object_get(task, "script"), 0);
        const char *waits = json_string_value(json_object_get(task, "waits_for"));
        const char *error = json_string_value(json_object_get(task, "error_message"));
        json_object_set_new(task, "note", json_string(error != NULL && error[0] != '\0' ? error
                                                      : waits != NULL                    ? waits
                                                      : script != NULL ? json_string_value(json_object_get(script, "name"))
                                                                       : ""));
    }
    cli_print_cycle(out, job);
    fputc('\n', out);
    cli_print_table(out, tasks, "task:TASK kind:KIND state:STATE workload:WORKLOAD node:NODE attempt:ATTEMPT "
                                "bytes_done:DONE bytes_total:OF bytes_sent:SENT note:NOTE");
    if (json_is_true(json_object_get(job, "more"))) {
        fprintf(out, "and more tasks\n");
    }
    print_scripts(out, tasks);
}

int cli_run_job_show(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *job = NULL;
    if (cli->json || cli_value(&cli->parsed, "all") != NULL) {
        return cli_run_show(cli, err);
    }
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &job, err);
    if (rc == 0) {
        print_job(cli->out, job);
        json_decref(job);
    }
    return rc;
}

/* ---- writes ---- */

static int write_request(struct cli *cli, json_t *extra, json_t **ret_result, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *body = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_body(&cli->parsed, &body, err);
    if (rc == 0) {
        json_object_update(body, extra);
        rc = cli_request(cli, cli->parsed.command->method, path, json_object_size(body) > 0 ? body : NULL, ret_result, err);
    }
    json_decref(body);
    return rc;
}

/* What an accepted command has to say beside its answer. */
static void warn(const json_t *result)
{
    const char *warning = json_string_value(json_object_get(result, "warning"));
    if (warning != NULL) {
        char text[512];
        cli_cell("warning", json_object_get(result, "warning"), text, sizeof text);
        fprintf(stderr, "farshore: warning: %s\n", text);
    }
}

/* A dry run's answer is shown here and taken; true: it was one. */
static bool show_prediction(struct cli *cli, json_t *result)
{
    bool dry = cli_value(&cli->parsed, "dry-run") != NULL;
    if (dry && cli->json) {
        cli_print_json(cli->out, result);
    } else if (dry) {
        cli_print_prediction(cli->out, result);
    }
    if (dry) {
        json_decref(result);
    }
    return dry;
}

int cli_write_and_say(struct cli *cli, json_t *extra, struct far_error *err)
{
    const struct cli_command *command = cli->parsed.command;
    json_t *result = NULL;
    int rc = write_request(cli, extra, &result, err);
    if (rc != 0) {
        return rc;
    }
    warn(result);
    if (show_prediction(cli, result)) {
        return 0;
    }
    if (cli->json) {
        cli_print_json(cli->out, result);
    } else {
        const char *repeated = json_is_true(json_object_get(result, "repeated")) ? ", already before" : "";
        if (command->argument == NULL) {
            fprintf(cli->out, "%s: %s%s\n", command->noun, command->done, repeated);
        } else if (command->argument2 != NULL) {
            fprintf(cli->out, "%s of %s '%s' %s%s\n", command->noun, cli->parsed.argument, cli->parsed.argument2, command->done, repeated);
        } else {
            fprintf(cli->out, "%s '%s' %s (id %lld)%s\n", command->object != NULL ? command->object : command->noun,
                    cli->parsed.argument, command->done,
                    json_integer_value(json_object_get(result, "id")), repeated);
        }
    }
    json_decref(result);
    return 0;
}

int cli_run_write(struct cli *cli, struct far_error *err)
{
    return cli_write_and_say(cli, NULL, err);
}

int cli_run_recovery_policy(struct cli *cli, struct far_error *err)
{
    bool with = cli_value(&cli->parsed, "second-approval") != NULL, without = cli_value(&cli->parsed, "no-second-approval") != NULL;
    if (with == without) {
        return far_fail(err, FAR_INVALID, "give --second-approval or --no-second-approval; what is in force shows: farshore "
                                          "cluster show-recovery-policy");
    }
    json_t *extra = json_pack("{s:b}", "second_approval", with);
    int rc = cli_write_and_say(cli, extra, err);
    json_decref(extra);
    return rc;
}

int cli_run_skip_entry(struct cli *cli, struct far_error *err)
{
    json_t *result = NULL;
    int rc = write_request(cli, NULL, &result, err);
    if (rc == 0 && show_prediction(cli, result)) {
        return 0;
    }
    if (rc == 0 && cli->json) {
        cli_print_json(cli->out, result);
    } else if (rc == 0) {
        fprintf(cli->out, "entry %s will be skipped; the servers start anew\n", cli->parsed.argument);
    }
    json_decref(result);
    return rc;
}

int cli_run_job(struct cli *cli, struct far_error *err)
{
    return cli_start_job(cli, NULL, err);
}

/* The job's id; 0: it was only predicted. shows: its JSON is all that is printed. */
static int begin_job(struct cli *cli, json_t *extra, bool shows, uint64_t *ret_job_id, struct far_error *err)
{
    json_t *result = NULL;
    int rc = write_request(cli, extra, &result, err);
    json_decref(extra);
    if (rc != 0) {
        return rc;
    }
    warn(result);
    *ret_job_id = 0;
    if (show_prediction(cli, result)) {
        return 0;
    }
    *ret_job_id = (uint64_t)json_integer_value(json_object_get(result, "id"));
    if (!cli->json) {
        fprintf(cli->out, "job %llu started\n", (unsigned long long)*ret_job_id);
        fflush(cli->out);
    } else if (shows) {
        cli_print_json(cli->out, result);
    }
    json_decref(result);
    return 0;
}

int cli_begin_job(struct cli *cli, json_t *extra, uint64_t *ret_job_id, struct far_error *err)
{
    return begin_job(cli, extra, false, ret_job_id, err);
}

int cli_start_job(struct cli *cli, json_t *extra, struct far_error *err)
{
    uint64_t job_id;
    bool wait = cli_value(&cli->parsed, "wait") != NULL;
    int rc = begin_job(cli, extra, !wait, &job_id, err);
    return rc == 0 && wait && job_id != 0 ? cli_wait_job(cli, job_id, err) : rc;
}

int cli_run_job_wait(struct cli *cli, struct far_error *err)
{
    const char *id = cli->parsed.argument;
    if (strlen(id) > 18 || id[strspn(id, "0123456789")] != '\0') {
        return far_fail(err, FAR_INVALID, "'%s' is no id of a job", id);
    }
    return cli_wait_job(cli, strtoull(id, NULL, 10), err);
}

/* The secret is drawn here, so that a repeated request makes the same token. */
int cli_run_token(struct cli *cli, struct far_error *err)
{
    uint8_t secret[32];
    char hex[65];
    const char *valid = cli_value(&cli->parsed, "valid"), *purpose = cli_value(&cli->parsed, "purpose");
    bool api = cli->parsed.command->body == NULL && (purpose == NULL || strcmp(purpose, "api") == 0);
    uint64_t seconds = valid != NULL ? strtoull(valid, NULL, 10) : api ? 0 : JOIN_TOKEN_SECONDS, now_ms = 0;
    int rc = seconds > 0 ? cli_cluster_time(cli, &now_ms, err) : 0;
    if (rc != 0) {
        return rc;
    }
    far_random_bytes(secret, sizeof secret);
    far_hex_encode(secret, sizeof secret, hex);
    json_t *extra = json_pack("{s:s}", "secret", hex), *result = NULL;
    if (cli->parsed.command->body == NULL && purpose == NULL) {
        json_object_set_new(extra, "purpose", json_string("api"));
    }
    if (seconds > 0) {
        json_object_set_new(extra, "expires_ms", json_integer((json_int_t)(now_ms + seconds * 1000)));
    }
    rc = write_request(cli, extra, &result, err);
    json_decref(extra);
    if (rc != 0 || show_prediction(cli, result)) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, result);
    } else {
        fprintf(cli->out, "%s\n", json_string_value(json_object_get(result, "token")));
        fprintf(stderr, "This token is shown only now%s.\n",
                api ? "" : "; it is good for one machine. Pass it to 'farshore cluster join' or 'farshore-node join'");
    }
    json_decref(result);
    return 0;
}

/* ---- the cluster ---- */

static const char *text_in(const json_t *object, const char *name)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text == NULL ? "?" : text;
}

static const char *yes_no(bool value)
{
    return value ? "yes" : "NO";
}

/* "survives the loss of: protected site 'paris' yes, recovery site 'lyon' NO, any one server yes" */
static void print_survives(FILE *out, const json_t *survives)
{
    size_t i;
    json_t *site;
    fprintf(out, "survives the loss of: ");
    json_array_foreach(json_object_get(survives, "sites"), i, site) {
        fprintf(out, "%s site '%s' %s, ", text_in(site, "role"), text_in(site, "site"),
                yes_no(json_is_true(json_object_get(site, "survived"))));
    }
    fprintf(out, "any one server %s\n", yes_no(json_is_true(json_object_get(survives, "any_one_server"))));
    if (!json_is_true(json_object_get(survives, "quorum"))) {
        fprintf(out, "NO QUORUM: %lld of %lld voting servers are up, %lld are needed\n",
                json_integer_value(json_object_get(survives, "up")),
                json_integer_value(json_object_get(survives, "voters")),
                json_integer_value(json_object_get(survives, "majority")));
    }
    if (text_in(survives, "warning")[0] != '\0') {
        fprintf(out, "warning: %s\n", text_in(survives, "warning"));
    }
}

static void print_status(struct cli *cli, const json_t *status)
{
    const json_t *server = json_object_get(status, "server"), *log = json_object_get(status, "log");
    const json_t *cluster = json_object_get(status, "cluster");
    fprintf(cli->out, "cluster %s at feature level %lld, seen by server %lld%s\n", text_in(cluster, "name"),
            json_integer_value(json_object_get(cluster, "feature_level")),
            json_integer_value(json_object_get(server, "id")),
            json_is_true(json_object_get(server, "stale")) ? " (STALE: no word from a leader lately)" : "");
    fprintf(cli->out, "leader: server %lld in term %lld\n", json_integer_value(json_object_get(server, "leader_id")),
            json_integer_value(json_object_get(server, "term")));
    fprintf(cli->out, "log: index %lld applied, %lld events, head %.16s…, digest %s\n",
            json_integer_value(json_object_get(log, "applied_index")), json_integer_value(json_object_get(log, "seq")),
            text_in(log, "head"), text_in(log, "digest"));
    if (json_is_true(json_object_get(server, "clock_is_suspect"))) {
        fprintf(cli->out, "CLOCK: the servers' clocks are %lld ms off the cluster's time; calendar deadlines wait\n",
                json_integer_value(json_object_get(server, "clock_offset_ms")));
    }
    const json_t *clock = json_object_get(status, "clock");
    if (strcmp(text_in(clock, "verdict"), "ahead") == 0) {
        fprintf(cli->out, "CLOCK: the cluster's time is ahead of a majority of the servers' clocks, by %lld ms when that was judged; it "
                "never goes back\n", json_integer_value(json_object_get(clock, "off_ms")));
    } else if (strcmp(text_in(clock, "verdict"), "forward") == 0) {
        fprintf(cli->out, "CLOCK: the cluster's time went forward by %lld ms, to a majority of the servers' clocks\n",
                json_integer_value(json_object_get(clock, "off_ms")));
    }
    const json_t *safe = json_object_get(server, "safe_mode");
    if (json_is_object(safe)) {
        fprintf(cli->out, "SAFE MODE: this server crashed again and again at entry %lld (hash %s: %s) and applies nothing from there on\n",
                json_integer_value(json_object_get(safe, "index")), text_in(safe, "entry_hash"), text_in(safe, "commands"));
    }
    const json_t *claim = json_object_get(status, "claimed_incarnation");
    if (json_is_object(claim)) {
        fprintf(cli->out, "ANOTHER INCARNATION: %lld of the nodes (one is node %lld) follow incarnation %lld of this cluster and are not "
                "served here.\nIf it was recovered or restored elsewhere, stop these servers and rejoin (farshore help disaster)\n",
                json_integer_value(json_object_get(claim, "nodes")), json_integer_value(json_object_get(claim, "node_id")),
                json_integer_value(json_object_get(claim, "epoch")));
    }
    print_survives(cli->out, json_object_get(status, "survives"));
    fprintf(cli->out, "\n");
    cli_print_table(cli->out, json_object_get(status, "members"),
                    "name:NAME role:ROLE site:SITE leads:LEADS up:UP applied_index:APPLIED lag:LAG digest_state:DIGEST "
                    "first_seq:HISTORY clock_offset_ms:CLOCK version:VERSION safe_mode:SAFE");
    fputc('\n', cli->out);
    cli_print_signed_head(cli->out, json_object_get(status, "signed_head"));
}

int cli_run_status(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *status = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &status, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->json) {
        cli_print_json(cli->out, status);
        json_decref(status);
        return 0;
    }
    print_status(cli, status);
    json_decref(status);
    return 0;
}

int cli_run_farshored(struct cli *cli, struct far_error *err)
{
    const struct cli_command *command = cli->parsed.command;
    const char *argv[2 * CLI_OPTIONS_MAX + 6] = {"farshored", command->path};
    char names[CLI_OPTIONS_MAX][32];
    size_t count = 2;
    if (command->argument != NULL) {
        argv[count++] = "--do";
        argv[count++] = cli->parsed.argument;
    }
    for (size_t i = 0; command->options[i].name != NULL; i++) {
        const char *value = cli_value(&cli->parsed, command->options[i].name);
        if (value != NULL) {
            snprintf(names[i], sizeof names[i], "--%s", command->options[i].name);
            argv[count++] = names[i];
            argv[count++] = value;
        }
    }
    if (cli_value(&cli->parsed, "dry-run") != NULL) {
        argv[count++] = "--dry-run";
    }
    return cli_call_farshored(argv, err);
}
