/* The command farshore: private header of src/cli/.
 *
 * One table (commands.c) lists every command with its arguments and options; parsing, help and most of the running come out of
 * it. A run builds one request (or a few) for the client library and prints what comes back, as a table for people or as
 * JSON for programs. Exit codes are those of the error classes; 2 is a wrong command line. One thread. */
#ifndef FAR_CLI_CLI_H
#define FAR_CLI_CLI_H

#include "base/buf.h"
#include "base/error.h"

#include "farshore/client.h"
#include <jansson.h>
#include <stdio.h>

enum { CLI_OPTIONS_MAX = 12, CLI_VALUES_MAX = 256 };

/* How the value of an option becomes a field of a request's body. */
enum cli_type {
    CLI_TEXT,
    CLI_NUMBER,
    CLI_TEXTS,   /* may be given often, also with commas: a list of strings */
    CLI_PAIRS,   /* may be given often: NAME=VALUE becomes {"<key>": NAME, "<value>": VALUE} */
    CLI_SWITCH,  /* no value */
};

struct cli_option {
    const char *name;  /* without dashes */
    enum cli_type type;
    const char *value; /* what help shows: "NAME" */
    bool required;
    const char *field; /* of the body; NULL: none */
    const char *key_field, *value_field; /* PAIRS */
    const char *help;
};

struct cli;
struct cli_command {
    const char *noun;
    const char *verb;     /* NULL: the noun stands alone */
    const char *argument; /* one positional argument: "NAME", "ID"; NULL: none */
    const char *argument2; /* one more behind it */
    const char *help;
    int (*run)(struct cli *cli, struct far_error *err);
    const char *method, *path; /* "%s" stands for the argument, a second one for the second */
    const char *columns;       /* list: "name:NAME state:STATE" */
    const char *body;          /* JSON that the body starts from; NULL: {} */
    const char *argument_field; /* the argument is also this field of the body; NULL: no */
    bool asks_force;            /* its option --force goes into the path's query */
    bool takes_at;              /* reads a state, also of the past */
    bool takes_dry_run;         /* also without a method: it tells its steps (foretell.c) */
    const char *done;           /* what is said when it worked: "created" */
    const char *object;         /* what that is said of; NULL: the noun */
    struct cli_option options[CLI_OPTIONS_MAX]; /* closed by name NULL */
};
extern const struct cli_command cli_commands[]; /* closed by noun NULL */
/* Options that every command takes. */
extern const struct cli_option cli_global_options[];

struct cli_value {
    const struct cli_option *option;
    const char *text; /* borrowed from argv; "" for a switch */
};

/* What the command line says. */
struct cli_parsed {
    const struct cli_command *command; /* NULL: help or version is wanted */
    bool help, version;
    const char *help_noun; /* help about one noun; NULL: all */
    const char *argument, *argument2;
    struct cli_value values[CLI_VALUES_MAX];
    size_t value_count;
};

struct cli {
    struct cli_parsed parsed;
    bool json;
    bool terminal; /* standard error is one: bars */
    FILE *out;
    struct far_client *client; /* made at the first use */
    bool told_stale;
    bool has_settings; /* they were read */
    char *servers, *ca_path, *token; /* settings, owned; NULL: not given */
    uint32_t timeout_ms;
    char *state_path; /* where the index of the last write is kept; NULL: nowhere */
};

/* ---- parse.c ---- */
/* Pure. FAR_INVALID names the word that is wrong and says what to type. */
int cli_parse(int argc, const char *const *argv, struct cli_parsed *ret_parsed, struct far_error *err);
const char *cli_value(const struct cli_parsed *parsed, const char *name); /* the last one, or NULL */
/* Of a noun's commands, of a topic, or of everything (NULL). FAR_INVALID: there is nothing of that name; near ones are named. */
int cli_help(FILE *out, const char *word, struct far_error *err);
bool cli_noun_exists(const char *noun); /* parse.c */
void cli_help_command(FILE *out, const struct cli_command *command);
/* --key, if it is given, is the key of a server that signs heads. */
int cli_check_key(const struct cli *cli, struct far_error *err);
/* The body that the options say; new reference. */
int cli_body(const struct cli_parsed *parsed, json_t **ret_body, struct far_error *err);

/* ---- settings.c ---- */
/* From options, then environment, then ~/.config/farshore: where to connect and who asks. Read once, when something is about to be
 * asked (cli_client does it): who works on a local folder needs none of it. */
int cli_settings(struct cli *cli, struct far_error *err);
int cli_check_timeout(struct cli *cli, struct far_error *err);
/* One line of the file: "key = value"; false: neither that nor empty nor a comment. Pure. */
bool cli_settings_line(char *line, char **ret_key, char **ret_value);
/* A client for all servers, or with only != NULL for that one. */
int cli_client(struct cli *cli, const char *only, struct far_client **ret_client, struct far_error *err);
void cli_done(struct cli *cli);

/* ---- foretell.c ---- */
/* What a command of several steps would do: {"dry_run": true, "steps": [{"do", "prediction" | "refused" | "needs"}]}. */
json_t *cli_plan_new(void);
/* A step that is told in words; needs: what has to be there before it can be foreseen, or NULL. */
void cli_plan_say(json_t *plan, const char *needs, const char *format, ...) __attribute__((format(printf, 3, 4)));
/* A step that is this request, tried with dry_run; what refuses it now is part of the plan. FAR_INVALID, FAR_DENIED: for good. */
int cli_plan_try(struct cli *cli, json_t *plan, const char *what, const char *method, const char *path, const json_t *body,
                 struct far_error *err);
void cli_plan_print(struct cli *cli, const json_t *plan);

/* ---- request.c ---- */
/* One request; *ret_json is the answer, new reference. */
int cli_request(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **ret_json,
                struct far_error *err);
/* All items of a list, page after page. */
int cli_list(struct cli *cli, const char *path, json_t **ret_items, struct far_error *err);
/* The cluster's time, by which tokens end; an older server does not tell it: this machine's. */
int cli_cluster_time(struct cli *cli, uint64_t *ret_ms, struct far_error *err);
int cli_failed(const struct far_client_error *from, struct far_error *err);

/* ---- output.c ---- */
/* Could this file be made? FAR_CONFLICT: it is there (option says how another one is given); FAR_IO: not in that folder. */
int cli_check_new_file(const char *path, const char *option, struct far_error *err);
void cli_print_json(FILE *out, const json_t *json);
void cli_print_table(FILE *out, const json_t *items, const char *columns);
void cli_print_object(FILE *out, const json_t *object, int indent);
/* "1.5 GiB" and the like; text has room for 32. */
const char *cli_bytes(uint64_t bytes, char text[32]);
/* "2026-11-20 14:00:05 UTC"; "-" for 0; text has room for 32. */
const char *cli_time(uint64_t time_ms, char text[32]);
/* "42 s", "2 min 5 s", "3 h 10 min"; text has room for 32. */
const char *cli_span(uint64_t ms, char text[32]);
/* Of a clock that runs down, "1:05" or "2:10:00"; text has room for 32. */
const char *cli_duration(uint64_t ms, char text[32]);
/* One cell of a table: numbers of bytes and times by the name of their field. */
void cli_cell(const char *field, const json_t *value, char *text, size_t room);

/* ---- wait.c ---- */
/* Follows a job to its end, with a bar on a terminal. The job's own failure is the error. */
int cli_wait_job(struct cli *cli, uint64_t job_id, struct far_error *err);
/* The line or bar of a job; pure. */
void cli_progress(const json_t *job, uint64_t elapsed_ms, char *text, size_t room);
/* What the job does now, or why it waits: "receiving", "waiting: site 'a' has no node". silent_ms: how long no lease of a
 * task that a node holds was renewed. now_ms: wall clock. Pure. */
void cli_phase(const json_t *job, uint64_t now_ms, uint64_t silent_ms, char *text, size_t room);
/* Progress and phase on one line of a terminal of so many columns (0: no terminal); where they do not fit, a shorter form,
 * cut. room: 768. Pure. */
void cli_progress_line(const json_t *job, uint64_t elapsed_ms, const char *phase, unsigned columns, char *text,
                       size_t room);

/* ---- changes.c ---- */
void cli_print_changes(FILE *out, const json_t *changes, bool more);
void cli_print_prediction(FILE *out, const json_t *prediction);
/* ---- head_command.c ---- */
/* What the newest signed head says of the log; JSON null: there is none. */
void cli_print_signed_head(FILE *out, const json_t *head);
int cli_run_log_heads(struct cli *cli, struct far_error *err);
/* ---- log_command.c ---- */
int cli_run_log_explain(struct cli *cli, struct far_error *err);
int cli_run_log_export(struct cli *cli, struct far_error *err);
/* Hexadecimal digits as bytes. */
int cli_write_hex(FILE *file, const char *hex, struct far_error *err);
/* ---- figures_command.c ---- */
/* How a replication goes, and a line for each disk; nothing of another job. */
void cli_print_cycle(FILE *out, const json_t *job);
/* How a plan stands with its RPO; now_ms: wall clock. */
void cli_print_rpo(FILE *out, const json_t *rpo, uint64_t now_ms);
/* Shows a job once a second until it is over: drawn over on a terminal, else every ten seconds below each other. */
int cli_run_job_watch(struct cli *cli, struct far_error *err);
int cli_run_plan_history(struct cli *cli, struct far_error *err);

/* ---- throttle_command.c ---- */
/* "20MB", "400Mbit", "unlimited", "pause". FAR_INVALID says how to write it. Pure, as the others. */
int cli_parse_rate(const char *text, uint64_t *ret_bytes_per_s, struct far_error *err);
/* "20 MB/s"; text has room for 32. */
const char *cli_rate(uint64_t bytes_per_s, char text[32]);
/* "mon-fri 08:00-18:00 20MB" as an element of `windows`, new reference; and back. */
int cli_parse_window(const char *text, json_t **ret_window, struct far_error *err);
void cli_window_text(const json_t *window, char *text, size_t room);
/* "20 MB/s until 2026-11-20 17:00:00 UTC, outside of its windows unlimited" */
void cli_throttle_text(const json_t *throttle, char *text, size_t room);
int cli_run_throttle_set(struct cli *cli, struct far_error *err);
int cli_run_throttle_show(struct cli *cli, struct far_error *err);
int cli_run_throttle_remove(struct cli *cli, struct far_error *err);
/* ---- vault_command.c ---- */
/* "2027-01-31" (in UTC) or RFC 3339. Pure. */
int cli_parse_date(const char *text, uint64_t *ret_ms, struct far_error *err);
int cli_run_plan_retention(struct cli *cli, struct far_error *err);
int cli_run_checkpoint_lock(struct cli *cli, struct far_error *err);
int cli_run_vault_space(struct cli *cli, struct far_error *err);
int cli_run_domain_adopt(struct cli *cli, struct far_error *err);
/* ---- plan_command.c ---- */
/* Make the plan (an object with its name) so, as plan apply does. */
int cli_apply_plan(struct cli *cli, json_t *plan, struct far_error *err);
int cli_run_plan_wizard(struct cli *cli, struct far_error *err); /* wizard_command.c */
int cli_run_plan_apply(struct cli *cli, struct far_error *err);
int cli_run_plan_pause(struct cli *cli, struct far_error *err);
int cli_run_plan_export(struct cli *cli, struct far_error *err);
/* ---- recovery_command.c ---- */
int cli_run_set_recovery(struct cli *cli, struct far_error *err);
int cli_run_show_recovery(struct cli *cli, struct far_error *err);
int cli_run_set_schedule(struct cli *cli, struct far_error *err);
/* ---- run_command.c ---- */
int cli_run_run_start(struct cli *cli, struct far_error *err);
int cli_run_migrate(struct cli *cli, struct far_error *err);
/* One script of a run's report, or of a cycle. */
void cli_print_script(FILE *out, const json_t *script);
int cli_run_run_report(struct cli *cli, struct far_error *err);
int cli_run_gate_pass(struct cli *cli, struct far_error *err);
/* ---- use_command.c ---- */
int cli_run_checkpoint_open(struct cli *cli, struct far_error *err);
int cli_run_checkpoint_diff(struct cli *cli, struct far_error *err);
int cli_run_checkpoint_browse(struct cli *cli, struct far_error *err);
int cli_run_checkpoint_get(struct cli *cli, struct far_error *err);
/* ---- replace_command.c ---- */
int cli_run_replace(struct cli *cli, struct far_error *err);
/* ---- rebuild_command.c ---- */
int cli_run_rebuild(struct cli *cli, struct far_error *err);
/* ---- resync_command.c ---- */
int cli_run_resync(struct cli *cli, struct far_error *err);
/* ---- backup_command.c ---- */
int cli_run_backup(struct cli *cli, struct far_error *err);
int cli_run_log_replay(struct cli *cli, struct far_error *err);
int cli_run_log_diff(struct cli *cli, struct far_error *err);

/* ---- the runs ---- */
enum { CLI_PATH_MAX = 1024 };
/* The command's path with its argument in the place of %s, and --at or --dry-run. */
int cli_path(const struct cli *cli, char path[CLI_PATH_MAX], struct far_error *err);
/* Appends text percent-encoded. */
void cli_append_encoded(char *path, size_t room, const char *text);
int cli_run_list(struct cli *cli, struct far_error *err);
int cli_run_show(struct cli *cli, struct far_error *err);
/* The command's request with what its options and extra (borrowed, may be NULL) say, and what came of it, in a line. */
int cli_write_and_say(struct cli *cli, json_t *extra, struct far_error *err);
int cli_run_write(struct cli *cli, struct far_error *err); /* create, remove, start, stop … */
int cli_run_recovery_policy(struct cli *cli, struct far_error *err);
int cli_run_job(struct cli *cli, struct far_error *err);   /* a write that starts a job; --wait */
/* The same with more in its body; takes extra (NULL is allowed). */
int cli_start_job(struct cli *cli, json_t *extra, struct far_error *err);
/* The same without waiting: *ret_job_id, 0 if it was only tried (--dry-run). */
int cli_begin_job(struct cli *cli, json_t *extra, uint64_t *ret_job_id, struct far_error *err);
int cli_run_job_show(struct cli *cli, struct far_error *err);
int cli_run_job_wait(struct cli *cli, struct far_error *err);
int cli_run_token(struct cli *cli, struct far_error *err);
int cli_run_status(struct cli *cli, struct far_error *err);
int cli_run_skip_entry(struct cli *cli, struct far_error *err);
int cli_run_events(struct cli *cli, struct far_error *err); /* events_command.c */
int cli_run_log_verify(struct cli *cli, struct far_error *err);
int cli_run_farshored(struct cli *cli, struct far_error *err); /* cluster init, cluster join */

/* ---- spawn.c ---- */
/* Run farshored, found beside this program or on PATH; its exit status. argv[0] is filled in. */
int cli_spawn_farshored(const char **argv, int *ret_status, struct far_error *err);
/* The same; a status that is not 0 is an error of the class that it says. */
int cli_call_farshored(const char **argv, struct far_error *err);
/* The same, and what it prints goes into text, with a 0 behind. FAR_LIMIT: there is no room for all of it. */
int cli_read_farshored(const char **argv, struct far_buf *text, struct far_error *err);

/* The whole program; the exit code. */
int cli_main(int argc, const char *const *argv);

#endif
