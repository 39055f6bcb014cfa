/* The command line: the parser by its table, and the program against the API in this process. */
#include "../lib/cm.h"

#include "../../src/cli/cli.h"
#include "../lib/api_fixture.h"
#include "../lib/made_pki.h"

#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static struct far_test_api *fixture;
static char out[256 * 1024];

/* ---- the parser ---- */

#define PARSE(parsed, err, ...) parse(parsed, err, (const char *const[]){"farshore", __VA_ARGS__, NULL})
static int parse(struct cli_parsed *parsed, struct far_error *err, const char *const *argv)
{
    int argc = 0;
    while (argv[argc] != NULL) {
        argc++;
    }
    memset(err, 0, sizeof *err);
    return cli_parse(argc, argv, parsed, err);
}

static void words_and_options_may_be_mixed(void **unused)
{
    struct cli_parsed parsed;
    struct far_error err;
    assert_int_equal(PARSE(&parsed, &err, "--server", "https://a:1", "site", "-o", "json", "create", "--role=recovery", "x"),
                     0);
    assert_string_equal(parsed.command->noun, "site");
    assert_string_equal(parsed.command->verb, "create");
    assert_string_equal(parsed.argument, "x");
    assert_string_equal(cli_value(&parsed, "role"), "recovery");
    assert_string_equal(cli_value(&parsed, "output"), "json");
    assert_string_equal(cli_value(&parsed, "server"), "https://a:1");
    assert_int_equal(PARSE(&parsed, &err, "events", "--follow"), 0);
    assert_int_equal(PARSE(&parsed, &err, "plan", "replicate", "p", "--wait"), 0);
    assert_non_null(cli_value(&parsed, "wait"));
}

static void what_is_wrong_is_named(void **unused)
{
    static const struct {
        const char *words[8];
        const char *message;
    } bad[] = {
        {{"site", "create", "x"}, "needs the option --role"},
        {{"site", "create", "--role", "witness"}, "needs an argument: NAME"},
        {{"site", "create", "a", "b", "--role", "witness"}, "'b' is one word too many"},
        {{"site", "create", "a", "--role"}, "'--role' needs a value"},
        {{"site", "create", "a", "--role="}, "'--role' needs a value"},
        {{"site", "create", "a", "--role=x", "--role=y"}, "given twice"},
        {{"site", "create", "a", "--colour=x"}, "unknown option '--colour'"},
        {{"site", "create", "a", "-x"}, "unknown option '-x'"},
        {{"server", "create", "s9"}, "--site"},
        {{"site", "list", "--wait"}, "unknown option '--wait'"},
        {{"site", "list", "--dry-run"}, "'--dry-run' does not fit: 'site list' does not change"},
        {{"site", "remove", "x", "--at", "5"}, "the past does not change: option '--at' needs '--dry-run'"},
        {{"events", "--at", "5"}, "'--at' does not fit here"},
        {{"plan", "replicate", "x", "--dry-run", "--wait"}, "do not fit together"},
        {{"log", "diff", "5"}, "needs a second argument"},
        {{"log", "diff", "5", "7", "9"}, "'9' is one word too many"},
        {{"site", "paint"}, "there is no 'site paint'"},
        {{"job", "create"}, "jobs are made by 'plan replicate'"},
        {{"checkpoint", "create"}, "made by a cycle"},
        {{"site"}, "'site' needs a verb"},
        {{"sight", "list"}, "unknown command 'sight'"},
        {{"plan", "replicate", "p", "--wait=1"}, "takes no value"},
        {{"recover", "p", "--workload=w", "--disk=a"}, "'--disk' needs NAME=PATH"},
        {{"recover", "p", "--workload=w", "--disk==a"}, "'--disk' needs NAME=PATH"},
        {{"recover", "p", "--workload=w", "--disk=a=b", "--checkpoint=x"}, "needs a number"},
    };
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        struct cli_parsed parsed;
        struct far_error err;
        const char *argv[10] = {"farshore"};
        memcpy(argv + 1, bad[i].words, sizeof bad[i].words);
        assert_int_equal(parse(&parsed, &err, argv), FAR_INVALID);
        if (strstr(err.message, bad[i].message) == NULL) {
            fail_msg("case %zu says: %s", i, err.message);
        }
        assert_int_equal(far_class_info(err.klass)->exit_code, 2);
    }
}

static void help_wins_over_what_is_missing(void **unused)
{
    struct cli_parsed parsed;
    struct far_error err;
    assert_int_equal(PARSE(&parsed, &err, "site", "create", "--help"), 0);
    assert_true(parsed.help);
    assert_int_equal(PARSE(&parsed, &err, "help", "plan"), 0);
    assert_true(parsed.help);
    assert_string_equal(parsed.help_noun, "plan");
    assert_int_equal(PARSE(&parsed, &err, "--version"), 0);
    assert_true(parsed.version);
}

static void options_become_the_body(void **unused)
{
    struct cli_parsed parsed;
    struct far_error err;
    json_t *body = NULL;
    assert_int_equal(PARSE(&parsed, &err, "plan", "create", "p", "--source", "a", "--target", "b", "--workload", "w1,w2",
                           "--workload", "w3", "--interval", "60"), 0);
    assert_int_equal(cli_body(&parsed, &body, &err), 0);
    char *text = json_dumps(body, JSON_COMPACT);
    assert_string_equal(text, "{\"name\":\"p\",\"source_site\":\"a\",\"target_site\":\"b\",\"workloads\":[\"w1\",\"w2\","
                              "\"w3\"],\"interval_s\":60}");
    free(text);
    json_decref(body);
    assert_int_equal(PARSE(&parsed, &err, "recover", "p", "--workload", "w", "--disk", "root=/a=b", "--disk", "d=/c"), 0);
    assert_int_equal(cli_body(&parsed, &body, &err), 0);
    text = json_dumps(body, JSON_COMPACT);
    assert_string_equal(text, "{\"workload\":\"w\",\"disks\":[{\"disk\":\"root\",\"path\":\"/a=b\"},{\"disk\":\"d\",\"path\":"
                              "\"/c\"}]}");
    free(text);
    json_decref(body);
    assert_int_equal(PARSE(&parsed, &err, "site", "create", "\xff", "--role", "witness"), 0);
    assert_int_equal(cli_body(&parsed, &body, &err), FAR_INVALID);
}

static void every_command_is_whole(void **unused)
{
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        assert_non_null(command->help);
        assert_non_null(command->run);
        assert_true(command->run != cli_run_list || command->columns != NULL);
        assert_true((command->path != NULL && strstr(command->path, "%s") != NULL) <= (command->argument != NULL));
        assert_true(command->run != cli_run_write || command->done != NULL);
    }
}

static void figures_are_for_people(void **unused)
{
    char text[512];
    assert_string_equal(cli_bytes(0, text), "0 B");
    assert_string_equal(cli_bytes(1536, text), "1.5 KiB");
    assert_string_equal(cli_bytes(UINT64_MAX, text), "16.0 EiB");
    assert_string_equal(cli_duration(65000, text), "1:05");
    assert_string_equal(cli_duration(7200000, text), "2:00:00");
    assert_string_equal(cli_span(0, text), "0 s");
    assert_string_equal(cli_span(2638, text), "2.6 s");
    assert_string_equal(cli_span(59999, text), "59 s");
    assert_string_equal(cli_span(65000, text), "1 min 5 s");
    assert_string_equal(cli_span(7260000, text), "2 h 1 min");
    assert_string_equal(cli_span(200000000, text), "2 d 7 h");
    assert_string_equal(cli_time(0, text), "-");
    assert_string_equal(cli_time(1700000000000, text), "2023-11-14 22:13:20 UTC");
    json_t *job = json_pack("{s:i, s:s, s:[{s:s, s:i, s:i, s:i}, {s:s, s:i}]}", "id", 7, "kind", "replicate", "tasks", "kind",
                            "send", "bytes_total", 1048576, "bytes_done", 524288, "bytes_sent", 1024, "kind", "receive",
                            "bytes_total", 999);
    cli_progress(job, 1000, text, sizeof text);
    assert_string_equal(text, "replicate 7 [############............]  49%  512.0 KiB of 1.0 MiB  sent 1.0 KiB  512.0 KiB/s  "
                              "ETA 0:01");
    char line[768];
    cli_progress_line(job, 1000, "sending", 200, line, sizeof line);
    assert_string_equal(line + strlen(text), "  sending");
    cli_progress_line(job, 1000, "receiving 43% on node 't\u00e4rget-of-a-long-name'", 80, line, sizeof line);
    assert_string_equal(line, "replicate 7 [#####.....]  49%  512.0 KiB/s  ETA 0:01  receiving 43% on node 't");
    json_decref(job);
    json_t *cell = json_string("a\033[31mb");
    cli_cell("name", cell, text, sizeof text);
    assert_string_equal(text, "a?[31mb");
    json_decref(cell);
    cell = json_integer(2638);
    cli_cell("rate_ms", cell, text, sizeof text);
    assert_string_equal(text, "2638"); /* a span, no moment of 1970 */
    json_decref(cell);
}

static void rates_and_windows_are_read_as_people_write_them(void **unused)
{
    static const struct {
        const char *text;
        uint64_t rate;
    } rates[] = {{"20MB", 20000000},  {"20MB/s", 20000000}, {"1.5MB", 1500000},   {"400Mbit", 50000000}, {"10Gbit/s", 1250000000},
                 {"64KiB", 65536},    {"2GiB", 2147483648}, {"800kbit", 100000},  {"12345B", 12345},     {"unlimited", 0},
                 {"pause", 1},        {"2B", 2},            {"1TB", 1000000000000}, {"20 MB/s", 20000000},
                 {"paused", 1},       {"99999999TB", INT64_MAX}};
    static const char *const no_rates[] = {"", "20", "MB", "-5MB", "20 M B", "1B", "0.1B", "20MBs", "0MB",
                                           "0x10MB", "1e99MB", "nanMB", "20mb/h", "fast"};
    static const struct {
        const char *text, *json, *again;
    } windows[] = {
        {"mon-fri 08:00-18:00 20MB", "{\"days\":[1,2,3,4,5],\"from_min\":480,\"to_min\":1080,\"bytes_per_s\":20000000}",
         "mon-fri 08:00-18:00 20 MB/s"},
        {"sat,sun  22:30-06:00   pause", "{\"days\":[6,7],\"from_min\":1350,\"to_min\":360,\"bytes_per_s\":1}",
         "sat,sun 22:30-06:00 paused"},
        {"daily 00:00-24:00 unlimited", "{\"days\":[1,2,3,4,5,6,7],\"from_min\":0,\"to_min\":1440,\"bytes_per_s\":0}",
         "mon-sun 00:00-24:00 unlimited"},
        {"sat-mon,wed 20:00-00:00 1Gbit", "{\"days\":[1,3,6,7],\"from_min\":1200,\"to_min\":1440,\"bytes_per_s\":125000000}",
         "mon,wed,sat,sun 20:00-24:00 125 MB/s"},
    };
    static const char *const no_windows[] = {"",
                                             "mon",
                                             "mon 08:00-18:00",
                                             "mon 08:00-18:00 ",
                                             "mon 8:00-18:00 20MB",
                                             "mon 08:00 18:00 20MB",
                                             "mon 08:00-25:00 20MB",
                                             "mon 08:60-18:00 20MB",
                                             "mon 24:00-18:00 20MB",
                                             "monday 08:00-18:00 20MB",
                                             "mon, 08:00-18:00 20MB",
                                             "mon-xyz 08:00-18:00 20MB",
                                             "mon 08:00-18:00 fast",
                                             "08:00-18:00 20MB"};
    struct far_error err;
    uint64_t rate = 0;
    char text[128];
    for (size_t i = 0; i < sizeof rates / sizeof rates[0]; i++) {
        assert_int_equal(cli_parse_rate(rates[i].text, &rate, &err), 0);
        assert_int_equal(rate, rates[i].rate);
    }
    for (size_t i = 0; i < sizeof no_rates / sizeof no_rates[0]; i++) {
        if (cli_parse_rate(no_rates[i], &rate, &err) != FAR_INVALID) {
            fail_msg("'%s' is a rate of %llu", no_rates[i], (unsigned long long)rate);
        }
        assert_non_null(strstr(err.message, "like 20MB"));
    }
    for (size_t i = 0; i < sizeof windows / sizeof windows[0]; i++) {
        json_t *window = NULL;
        assert_int_equal(cli_parse_window(windows[i].text, &window, &err), 0);
        char *json = json_dumps(window, JSON_COMPACT);
        assert_string_equal(json, windows[i].json);
        cli_window_text(window, text, sizeof text);
        assert_string_equal(text, windows[i].again);
        free(json);
        json_decref(window);
    }
    for (size_t i = 0; i < sizeof no_windows / sizeof no_windows[0]; i++) {
        json_t *window = NULL;
        if (cli_parse_window(no_windows[i], &window, &err) != FAR_INVALID) {
            fail_msg("'%s' is a window", no_windows[i]);
        }
    }
    json_t *limit = json_pack("{s:i, s:i, s:I}", "bytes_per_s", 0, "in_force_bytes_per_s", 20000000, "next_ms",
                              (json_int_t)1700000000000);
    cli_throttle_text(limit, text, sizeof text);
    assert_string_equal(text, "20 MB/s until 2023-11-14 22:13:20 UTC, outside of its windows unlimited");
    json_decref(limit);
}

static void a_wait_says_why(void **unused)
{
    static const struct {
        const char *tasks;
        uint64_t silent_ms;
        const char *phase;
    } cases[] = {
        {"[{'kind':'freeze','state':'ready','retry_ms':0,'waits_for':\"site 'a' has no node\"}]", 0,
         "waiting: site 'a' has no node"},
        {"[{'kind':'send','state':'ready','retry_ms':12000,'error_message':'no such disk'}]", 0,
         "send is tried again in 2 s: no such disk"},
        {"[{'kind':'send','state':'ready','retry_ms':12000,'error_message':''},"
         "{'kind':'receive','state':'ready','retry_ms':12000,'error_message':'no space'}]", 0,
         "receive is tried again in 2 s: no space"},
        {"[{'kind':'send','state':'ready','retry_ms':12000,'error_message':''}]", 0, "send is tried again in 2 s"},
        {"[{'kind':'send','state':'running','node':'s','bytes_total':100,'bytes_done':43},"
         "{'kind':'receive','state':'running','node':'t','bytes_total':1000,'bytes_done':473},"
         "{'kind':'seal','state':'waiting'}]", 0, "receiving 43% on node 't'"},
        {"[{'kind':'restore','state':'running','node':'t','bytes_total':100,'bytes_done':0}]", 0,
         "writing the disks on node 't'"},
        {"[{'kind':'receive','state':'running','node':'t','lease_until_ms':18500}]", 5000,
         "no word from node 't' for 5 s; its lease runs out in 8 s"},
        {"[{'kind':'seal','state':'waiting'},{'kind':'freeze','state':'done'}]", 0, "seal waits for what comes before it"},
        {"[{'kind':'seal','state':'done'}]", 0, "ending"},
        {"[]", 0, "its tasks are being made"},
    };
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        char text[512], phase[320], json[600];
        snprintf(text, sizeof text, "%s", cases[i].tasks);
        bool quoted = false; /* JSON's quotes, but those within "…" */
        for (char *c = text; *c != '\0'; c++) {
            quoted = *c == '"' ? !quoted : quoted;
            *c = *c == '\'' && !quoted ? '"' : *c;
        }
        snprintf(json, sizeof json, "{\"tasks\": %s}", text);
        json_t *job = json_loads(json, 0, NULL);
        assert_non_null(job);
        cli_phase(job, 10000, cases[i].silent_ms, phase, sizeof phase);
        assert_string_equal(phase, cases[i].phase);
        json_decref(job);
    }
}

/* What a printer of JSON writes; to be freed. */
static char *printed(void (*print)(FILE *file, const json_t *json), const char *json)
{
    char *text = NULL;
    size_t size = 0;
    json_t *object = json_loads(json, 0, NULL);
    FILE *file = open_memstream(&text, &size);
    assert_non_null(object);
    assert_non_null(file);
    print(file, object);
    fclose(file);
    json_decref(object);
    return text;
}

static void a_cycle_shows_a_line_for_each_disk(void **unused)
{
    char *text = printed(cli_print_cycle,
                         "{\"state\":\"running\",\"bytes_total\":104857600,\"bytes_done\":52428800,\"bytes_changed\":26214400,"
                         "\"bytes_sent\":15728640,\"figures\":{\"bytes_saved\":36700160,\"reduction_ppm\":700000,"
                         "\"bytes_zero\":5242880,"
                         "\"bytes_unchanged\":20971520,\"bytes_known\":0,\"bytes_encoded_away\":10485760,\"bytes_per_s\":10485760,"
                         "\"left_for_ms\":5000,\"bottleneck\":\"target_write\",\"bottleneck_node\":\"n2\"},"
                         "\"tasks\":[{\"kind\":\"freeze\"},"
                         "{\"kind\":\"send\",\"state\":\"running\",\"workload\":\"web\",\"disk\":\"root\",\"bytes_total\":104857600,"
                         "\"bytes_done\":52428800,\"bytes_changed\":26214400,\"bytes_sent\":15728640,\"figures\":{\"bytes_saved\":36700160,"
                         "\"window_bytes\":33554432,\"streams\":4,\"bytes_per_s\":10485760,\"left_for_ms\":5000,"
                         "\"bottleneck\":\"source_read\",\"bottleneck_node\":\"n1\"}},"
                         "{\"kind\":\"send\",\"state\":\"ready\",\"workload\":\"web\",\"disk\":\"data\",\"figures\":null}]}");
    assert_string_equal(text,
                        "looked at 50.0 MiB of 100.0 MiB, 25.0 MiB changed, 15.0 MiB sent\n"
                        "saved 35.0 MiB (70.0 %): 5.0 MiB zero, 20.0 MiB unchanged, 10.0 MiB pages and compression\n"
                        "10.0 MiB/s now, about 5 s left, held up by: target write at n2\n"
                        "\n"
                        "DISK      STATE    DONE  OF         CHANGED   SENT      SAVED     WINDOW    STREAMS  RATE        "
                        "LEFT  BOTTLENECK\n"
                        "web/root  running  50 %  100.0 MiB  25.0 MiB  15.0 MiB  35.0 MiB  32.0 MiB  4        10.0 MiB/s  "
                        "5 s   source read at n1\n"
                        "web/data  ready    -     0 B        0 B       0 B       -         -         -        -           -     -\n");
    free(text);
    text = printed(cli_print_cycle, "{\"kind\":\"recover\",\"figures\":null}");
    assert_string_equal(text, "");
    free(text);
}

static void print_rpo_at(FILE *file, const json_t *rpo)
{
    cli_print_rpo(file, rpo, 1000000);
}

static void a_plan_says_how_late_it_is_and_why(void **unused)
{
    char *text = printed(print_rpo_at, "{\"promised_s\":3600,\"newest_ms\":1000,\"workload\":\"web\",\"age_s\":4000,\"slack_s\":-400,"
                                       "\"late\":true,\"expected_ms\":1060000,\"reasons\":[{\"text\":\"a\\u001bb\"},{\"text\":\"c\"}]}");
    assert_string_equal(text, "recovery point: 1 h 6 min old, of 1970-01-01 00:00:01 UTC (workload 'web')\n"
                              "promised RPO: 1 h 0 min, LATE by 6 min 40 s\n"
                              "next point: about 1970-01-01 00:17:40 UTC, in 1 min 0 s\n"
                              "why it is late:\n"
                              "  - a?b\n"
                              "  - c\n");
    free(text);
    text = printed(print_rpo_at, "{\"promised_s\":0,\"newest_ms\":null,\"workload\":null,\"slack_s\":null,\"late\":false,"
                                 "\"reasons\":[{\"text\":\"it is stopped\"}]}");
    assert_string_equal(text, "recovery point: none yet\n"
                              "promised RPO: none ('farshore plan set-policy NAME --rpo SECONDS' makes one)\n"
                              "what the next point waits for:\n"
                              "  - it is stopped\n");
    free(text);
}

static void every_command_to_a_server_can_be_tried_out(void **unused)
{
    struct far_error err;
    unsigned count = 0;
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        const char *words[2 * CLI_OPTIONS_MAX + 8] = {"farshore", command->noun};
        char names[CLI_OPTIONS_MAX][40];
        struct cli_parsed parsed;
        size_t n = 2;
        if (command->verb != NULL) {
            words[n++] = command->verb;
        }
        if (command->argument != NULL) {
            words[n++] = "x";
        }
        for (size_t i = 0; i < CLI_OPTIONS_MAX && command->options[i].name != NULL; i++) {
            if (command->options[i].required) {
                snprintf(names[i], sizeof names[i], "--%s", command->options[i].name);
                words[n++] = names[i];
                words[n++] = command->options[i].type == CLI_PAIRS ? "a=b" : command->options[i].type == CLI_NUMBER ? "1" : "x";
            }
        }
        words[n++] = "--dry-run";
        if (command->argument2 == NULL) {
            bool is_dry = command->method != NULL || command->takes_dry_run;
            assert_int_equal(parse(&parsed, &err, words), is_dry ? 0 : FAR_INVALID);
            count += command->method != NULL;
        }
    }
    assert_true(count > 15);
}

static void lines_of_the_settings_file_are_read(void **unused)
{
    char *key, *value;
    char good[] = "  server =  https://a:1,https://b:2 \n", comment[] = "# x", bad[] = "server", empty[] = "\n";
    assert_true(cli_settings_line(good, &key, &value));
    assert_string_equal(key, "server");
    assert_string_equal(value, "https://a:1,https://b:2");
    assert_true(cli_settings_line(comment, &key, &value));
    assert_null(key);
    assert_true(cli_settings_line(empty, &key, &value));
    assert_false(cli_settings_line(bad, &key, &value));
}

/* ---- the program ---- */

/* Runs the program with these words; its exit code. What it prints is in out. */
static int run(const char *words)
{
    char command[2048];
    snprintf(command, sizeof command, "src/cli/farshore %s 2>&1", words);
    FILE *pipe = popen(command, "r");
    assert_non_null(pipe);
    size_t len = fread(out, 1, sizeof out - 1, pipe);
    out[len] = '\0';
    int status = pclose(pipe);
    return WIFEXITED(status) ? WEXITSTATUS(status) : -1;
}

static void assert_says(const char *text)
{
    if (strstr(out, text) == NULL) {
        fail_msg("'%s' is not in: %s", text, out);
    }
}

static void what_is_tried_out_does_not_happen(void **unused)
{
    uint64_t seq = far_test_api_last_seq(fixture);
    assert_int_equal(run("site create dry --role witness --dry-run"), 0);
    assert_says("nothing was done");
    assert_says("site_created");
    assert_says("'dry' created");
    assert_says("+ role: witness");
    assert_int_equal(run("token create dry --dry-run"), 0);
    assert_null(strstr(out, "far_"));
    assert_int_equal(run("plan replicate nowhere --dry-run"), far_class_info(FAR_NOT_FOUND)->exit_code);
    assert_int_equal(run("site create dry --role witness --dry-run --at 1 -o json"), 0);
    assert_says("\"dry_run\": true");
    assert_int_equal(far_test_api_last_seq(fixture), seq);
    assert_int_equal(run("site show dry"), far_class_info(FAR_NOT_FOUND)->exit_code);
}

static void the_past_is_shown_compared_and_explained(void **unused)
{
    char words[128];
    uint64_t before = far_test_api_last_seq(fixture);
    assert_int_equal(run("site create gone --role witness"), 0);
    uint64_t with = far_test_api_last_seq(fixture);
    assert_int_equal(run("log explain site:gone"), 0);
    assert_says("site_created");
    assert_says("a command of token:");
    assert_int_equal(run("throttle set site gone --rate 20MB"), 0);
    assert_int_equal(run("site show gone -o json"), 0);
    const char *id_at = strstr(out, "\"id\": ");
    assert_non_null(id_at);
    unsigned long long id = strtoull(id_at + 6, NULL, 10);
    snprintf(words, sizeof words, "log explain throttle:%llu", id);
    assert_int_equal(run(words), 0);
    assert_says("throttle_changed");
    assert_says("a command of token:");
    snprintf(words, sizeof words, "log explain %llu", id);
    assert_int_equal(run(words), 0);
    assert_says("'gone'"); /* the site, whose limit has the same id */
    assert_int_equal(run("site remove gone"), 0);
    snprintf(words, sizeof words, "site show gone --at %llu", (unsigned long long)with);
    assert_int_equal(run(words), 0);
    snprintf(words, sizeof words, "site list --at %llu", (unsigned long long)with);
    assert_int_equal(run(words), 0);
    assert_says("gone");
    snprintf(words, sizeof words, "log diff %llu %llu", (unsigned long long)before, (unsigned long long)with);
    assert_int_equal(run(words), 0);
    assert_says("'gone' created");
    snprintf(words, sizeof words, "log diff %llu 2999-01-01T00:00:00Z", (unsigned long long)before);
    assert_int_equal(run(words), 2);
    snprintf(words, sizeof words, "log diff %llu %llu", (unsigned long long)before, (unsigned long long)before);
    assert_int_equal(run(words), 0);
    assert_says("no object differs");
    assert_int_equal(run("site list --at yesterday"), 2);
}

static void a_policy_is_set_whole_and_has_no_name(void **unused)
{
    assert_int_equal(run("log retention"), 2);
    assert_int_equal(run("server rebuild x"), 2);
    assert_int_equal(run("log retention --days 90"), 2);
    assert_int_equal(run("log retention --days 90 --bytes 0"), 0);
    assert_says("log: retention set\n");
    assert_int_equal(run("log show-retention"), 0);
    assert_says("90");
    assert_int_equal(run("cluster recovery-policy"), 2);
    assert_int_equal(run("cluster recovery-policy --second-approval --no-second-approval"), 2);
    assert_int_equal(run("cluster recovery-policy --second-approval"), 0);
    assert_int_equal(run("cluster show-recovery-policy"), 0);
    assert_says("yes");
    assert_int_equal(run("cluster recovery-policy --no-second-approval"), 0);
    assert_int_equal(run("cluster show-recovery-policy"), 0);
    assert_says("no");
}

static void what_is_created_is_listed_and_removed(void **unused)
{
    assert_int_equal(run("site create north --role protected"), 0);
    assert_says("site 'north' created (id ");
    assert_int_equal(run("site list"), 0);
    assert_says("NAME");
    assert_says("north");
    assert_int_equal(run("site list -o json"), 0);
    json_t *json = json_loads(out, 0, NULL);
    assert_int_equal(json_array_size(json), 1);
    json_decref(json);
    assert_int_equal(run("site show north"), 0);
    assert_says("role: protected");
    assert_int_equal(run("site remove north -o json"), 0);
    assert_says("\"repeated\": false");
    assert_int_equal(run("cluster status"), 0);
    assert_says("leader: server 1");
    assert_int_equal(run("server list"), 0);
    assert_says("s1");
}

static void limits_are_set_shown_and_removed(void **unused)
{
    assert_int_equal(run("site create slow --role protected"), 0);
    assert_int_equal(run("throttle set site slow --rate 50MB --zone UTC --window 'daily 00:00-12:00 20MB' "
                         "--window 'daily 12:00-24:00 pause'"), 0);
    assert_string_equal(out, "throttle of site 'slow' set\n");
    assert_int_equal(run("throttle show site slow"), 0);
    assert_non_null(strstr(out, "outside of its windows 50 MB/s\n  mon-sun 00:00-12:00 20 MB/s   by the clocks of UTC\n  mon-sun "
                                "12:00-24:00 paused\n"));
    assert_int_equal(run("throttle show site slow -o json"), 0);
    assert_non_null(strstr(out, "\"bytes_per_s\": 50000000"));
    assert_int_equal(run("throttle list"), 0);
    assert_non_null(strstr(out, "site  slow"));
    assert_int_equal(run("throttle list --site slow"), 0);
    assert_non_null(strstr(out, "UTC"));
    assert_int_equal(run("site show slow"), 0);
    assert_non_null(strstr(out, "outside of its windows 50 MB/s"));
    assert_int_equal(run("zone list"), 0);
    assert_non_null(strstr(out, "UTC"));
    assert_int_equal(run("zone refresh UTC"), 0);
    assert_int_equal(run("zone refresh Mars/Base"), 3);
    assert_non_null(strstr(out, "no time zone 'Mars/Base'"));
    assert_int_equal(run("throttle set site slow"), 2);
    assert_non_null(strstr(out, "--rate"));
    assert_int_equal(run("throttle set disk slow --rate 1MB"), 2);
    assert_non_null(strstr(out, "node, plan or site"));
    assert_int_equal(run("throttle set site slow --rate 1kB"), 2);
    assert_non_null(strstr(out, "from 10000"));
    assert_int_equal(run("throttle set site slow --rate 1MB --dry-run"), 0);
    assert_non_null(strstr(out, "throttle_changed"));
    assert_int_equal(run("throttle remove site slow"), 0);
    assert_string_equal(out, "throttle of site 'slow' removed\n");
    assert_int_equal(run("throttle show site slow"), 3);
    assert_non_null(strstr(out, "has no bandwidth limit"));
    assert_int_equal(run("site remove slow"), 0);
}

static void a_workload_is_changed(void **unused)
{
    assert_int_equal(run("site create moving --role protected"), 0);
    assert_int_equal(run("workload create books --site moving --adapter file --disk a=/d/a"), 0);
    assert_int_equal(run("workload set books --description 'the books' --label owner=ann --disk a=/d/b"), 0);
    assert_says("workload 'books' changed");
    assert_int_equal(run("workload set books --clear description --revision 0"), 4);
    assert_says("revision 1");
    assert_int_equal(run("workload set books --clear description --revision 1 --dry-run"), 0);
    assert_says("nothing was done");
    assert_int_equal(run("workload show books -o json"), 0);
    assert_says("the books");
    assert_says("/d/b");
    assert_int_equal(run("workload set books"), 2);
    assert_int_equal(run("workload remove books"), 0);
    assert_int_equal(run("site remove moving"), 0);
}

static void failures_have_the_exit_code_of_their_class(void **unused)
{
    assert_int_equal(run("site show nowhere"), 3);
    assert_says("farshore: ");
    assert_int_equal(run("site create a --role boss"), 2);
    assert_says("'role' must be one of");
    assert_int_equal(run("site create twice --role witness"), 0);
    assert_int_equal(run("site create twice --role witness"), 4);
    assert_int_equal(run("site list --server https://127.0.0.1:1 --timeout 1"), 11);
    assert_says("cannot reach https://127.0.0.1:1");
    assert_int_equal(run("site list --ca /nonexistent"), 3);
    assert_int_equal(run("site list --token-file /nonexistent"), 3);
    assert_int_equal(run("site list --token-file /dev/null"), 2);
    assert_int_equal(run("nonsense -o json"), 2);
    assert_int_equal(run("site create x --role witness --unknown"), 2);
    assert_says("unknown option");
    char words[256];
    snprintf(words, sizeof words, "site list --token-file %s", fixture->ca_path);
    assert_int_equal(run(words), 5);
}

static void a_dead_server_in_the_list_is_passed_over(void **unused)
{
    char words[256];
    snprintf(words, sizeof words, "site create over --role witness --server https://127.0.0.1:1,%s", fixture->url);
    assert_int_equal(run(words), 0);
}

static void another_ca_is_not_believed(void **unused)
{
    struct far_test_pki other;
    char dir[256], words[512];
    snprintf(dir, sizeof dir, "%s/other", fixture->dir);
    assert_int_equal(mkdir(dir, 0700), 0);
    far_test_pki_init(&other, dir, 2);
    snprintf(words, sizeof words, "site list --timeout 1 --ca %s/ca.crt", dir);
    assert_int_equal(run(words), 5);
    assert_says("is not believed");
}

static void tokens_are_printed_once(void **unused)
{
    assert_int_equal(run("token create ci"), 0);
    assert_says("far_");
    assert_int_equal(run("token list"), 0);
    assert_says("ci");
    assert_null(strstr(out, "far_"));
    assert_int_equal(run("site create ns --role recovery"), 0);
    assert_int_equal(run("node create n1 --site ns -o json"), 0);
    assert_says("\"token\"");
}

static void events_are_printed(void **unused)
{
    assert_int_equal(run("events --from 1"), 0);
    assert_says("cluster_");
    assert_int_equal(run("events -o json --kind site_created"), 0);
    assert_says("\"north\"");
    assert_int_equal(run("events --from nonsense"), 2);
}

static void consumers_are_kept_and_events_proven(void **unused)
{
    assert_int_equal(run("consumer create audit --from start"), 0);
    assert_says("consumer 'audit' created");
    assert_int_equal(run("consumer list"), 0);
    assert_says("LAG");
    assert_says("audit");
    assert_int_equal(run("events --consumer audit --proof full --kind site_created -o json"), 0);
    assert_says("\"payload\"");
    assert_int_equal(run("consumer show audit"), 0);
    assert_says("lag");
    assert_int_equal(run("events --kind site_created,node_lost --severity notice --limit 1 --to @9999999999999"), 0);
    assert_says("site_created");
    assert_int_equal(run("events --subject site:ns --kind node_joined"), 0);
    assert_null(strstr(out, "site_created"));
    assert_int_equal(run("events --proof some"), 2);
    assert_says("none, headers and full");
    assert_int_equal(run("events --severity loud"), 2);
    assert_int_equal(run("events --to nonsense"), 2);
    assert_int_equal(run("consumer remove audit"), 0);
    assert_int_equal(run("events --consumer audit"), 3);
    assert_says("there is no consumer 'audit'");
}

static void the_log_of_all_servers_is_compared(void **unused)
{
    char words[512];
    snprintf(words, sizeof words, "log verify --server %s,%s", fixture->url, fixture->url);
    assert_int_equal(run(words), 0);
    assert_says("all 2 alike");
}

static void a_server_that_is_not_reached_is_named_after_the_others_are_compared(void **unused)
{
    char words[512];
    snprintf(words, sizeof words, "log verify --timeout 1 --server https://127.0.0.1:1,%s,%s", fixture->url, fixture->url);
    assert_int_equal(run(words), 11);
    assert_says("1 of 3 servers could not be verified: https://127.0.0.1:1; those that answered are alike");
    assert_says(fixture->url); /* its row */
    assert_says("cannot reach https://127.0.0.1:1");
}

static void a_job_is_shown_short_and_says_what_it_waits_for(void **unused)
{
    assert_int_equal(run("site create jobs-a --role protected"), 0);
    assert_int_equal(run("site create jobs-b --role recovery"), 0);
    assert_int_equal(run("workload create jobs-w --site jobs-a --adapter file --disk root=/nowhere/disk"), 0);
    assert_int_equal(run("plan create jobs-p --source jobs-a --target jobs-b --workload jobs-w"), 0);
    assert_int_equal(run("plan replicate jobs-p"), 0);
    char words[64];
    const char *end = strstr(out, " started\n"); /* "job 7 started", perhaps behind a warning */
    assert_non_null(end);
    while (end[-1] != ' ') {
        end--;
    }
    int id = atoi(end);
    snprintf(words, sizeof words, "job show %d", id);
    assert_int_equal(run(words), 0);
    assert_says("now: waiting: site 'jobs-a' has no node");
    assert_says("KIND");
    assert_says("freeze");
    assert_null(strstr(out, "freeze_ref"));
    size_t lines = 0;
    for (const char *at = out; (at = strchr(at, '\n')) != NULL; at++) {
        lines++;
    }
    assert_true(lines < 16);
    snprintf(words, sizeof words, "job show %d --all", id);
    assert_int_equal(run(words), 0);
    assert_says("freeze_ref");
    snprintf(words, sizeof words, "job show %d -o json", id);
    assert_int_equal(run(words), 0);
    assert_says("\"freeze_ref\"");
}

static void a_resync_shows_first_what_it_would_read(void **unused)
{
    assert_int_equal(run("site create sync-a --role protected"), 0);
    assert_int_equal(run("site create sync-b --role recovery"), 0);
    assert_int_equal(run("workload create sync-w --site sync-a --adapter file --disk root=/nowhere/sync"), 0);
    assert_int_equal(run("plan create sync-p --source sync-a --target sync-b --workload sync-w --audit-age 3600 --full-age 86400"), 0);
    assert_int_equal(run("plan show sync-p"), 0);
    assert_says("audit_ppm: 0 (as usual: 10.00 % of a disk in a cycle)");
    assert_int_equal(run("plan set-policy sync-p --audit-share 5000 --full-age 0 --revision 0"), 0);
    assert_says("changed");
    assert_int_equal(run("plan set-policy sync-p --audit-share 5000 --revision 0"), far_class_info(FAR_CONFLICT)->exit_code);
    assert_int_equal(run("plan show sync-p"), 0);
    assert_says("audit_age_s: 3600");
    assert_says("audit_ppm: 0.50 %");
    assert_says("full_age_s: 0");
    assert_int_equal(run("plan resync sync-p --estimate"), 0);
    assert_says("in all 1 disk, 0 B to read, not known: nothing was measured yet");
    assert_null(strstr(out, "started"));
    assert_int_equal(run("plan resync sync-p --workload sync-w --disk root --estimate -o json"), 0);
    assert_says("\"measured\"");
    assert_int_equal(run("plan resync sync-p --workload sync-w --disk tape"), far_class_info(FAR_NOT_FOUND)->exit_code);
    assert_int_equal(run("plan resync sync-p --dry-run"), 0);
    assert_says("job_started");
    assert_int_equal(run("plan resync sync-p --workload sync-w"), 0);
    assert_says("sync-w");
    assert_says(" started");
    assert_int_equal(run("alert list --state raised"), 0);
    assert_says("RAISED");
    assert_int_equal(run("alert show 99999"), far_class_info(FAR_NOT_FOUND)->exit_code);
    assert_int_equal(run("alert ack 99999 --note seen"), far_class_info(FAR_NOT_FOUND)->exit_code);
}

static void help_finds_topics_or_what_is_near(void **unused)
{
    assert_int_equal(run("help disaster"), 0);
    assert_says("farshore recover PLAN");
    assert_int_equal(run("help vault"), 0);
    assert_says("farshore-node vault recover --offline");
    assert_int_equal(run("help plan"), 0);
    assert_says("plan replicate NAME");
    assert_int_equal(run("help disastr"), 2);
    assert_says("there is no help on 'disastr'");
    assert_says("'disaster'");
    assert_int_equal(run("help replicate"), 2);
    assert_says("'plan'");
    assert_int_equal(run("help xyzzy"), 2);
    assert_int_equal(run("help"), 0);
    assert_says("disaster, offline");
}

static void a_wrong_command_line_is_json_too_where_that_is_wanted(void **unused)
{
    static const char *const wrong[] = {"site list --colour red -o json", "-o json nonsense", "site --output=json",
                                        "help xyzzy --output json", "site create -o json"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(run(wrong[i]), 2);
        json_t *json = json_loads(out, 0, NULL);
        assert_string_equal(json_string_value(json_object_get(json, "code")), "invalid");
        assert_int_equal(json_integer_value(json_object_get(json, "exit_code")), 2);
        json_decref(json);
    }
}

static void a_job_that_is_not_there_is_said(void **unused)
{
    assert_int_equal(run("job wait 999"), 3);
    assert_int_equal(run("job cancel 999"), 3);
    assert_int_equal(run("plan replicate nothing --wait"), 3);
    assert_int_equal(run("checkpoint verify abc"), 2);
}

static int setup(void **unused)
{
    fixture = far_test_api_start(0);
    setenv("FARSHORE_SERVER", fixture->url, 1);
    setenv("FARSHORE_CA", fixture->ca_path, 1);
    setenv("FARSHORE_TOKEN_FILE", fixture->token_path, 1);
    setenv("HOME", fixture->dir, 1);
    unsetenv("XDG_CONFIG_HOME");
    unsetenv("XDG_STATE_HOME");
    return 0;
}

static int teardown(void **unused)
{
    far_test_api_stop(fixture);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(words_and_options_may_be_mixed),
        cmocka_unit_test(what_is_wrong_is_named),
        cmocka_unit_test(help_wins_over_what_is_missing),
        cmocka_unit_test(options_become_the_body),
        cmocka_unit_test(every_command_is_whole),
        cmocka_unit_test(figures_are_for_people),
        cmocka_unit_test(every_command_to_a_server_can_be_tried_out),
        cmocka_unit_test(lines_of_the_settings_file_are_read),
        cmocka_unit_test(what_is_tried_out_does_not_happen),
        cmocka_unit_test(the_past_is_shown_compared_and_explained),
        cmocka_unit_test(a_policy_is_set_whole_and_has_no_name),
        cmocka_unit_test(what_is_created_is_listed_and_removed),
        cmocka_unit_test(limits_are_set_shown_and_removed),
        cmocka_unit_test(a_workload_is_changed),
        cmocka_unit_test(failures_have_the_exit_code_of_their_class),
        cmocka_unit_test(a_dead_server_in_the_list_is_passed_over),
        cmocka_unit_test(another_ca_is_not_believed),
        cmocka_unit_test(tokens_are_printed_once),
        cmocka_unit_test(events_are_printed),
        cmocka_unit_test(consumers_are_kept_and_events_proven),
        cmocka_unit_test(the_log_of_all_servers_is_compared),
        cmocka_unit_test(a_server_that_is_not_reached_is_named_after_the_others_are_compared),
        cmocka_unit_test(a_job_is_shown_short_and_says_what_it_waits_for),
        cmocka_unit_test(a_resync_shows_first_what_it_would_read),
        cmocka_unit_test(rates_and_windows_are_read_as_people_write_them),
        cmocka_unit_test(a_wait_says_why),
        cmocka_unit_test(a_cycle_shows_a_line_for_each_disk),
        cmocka_unit_test(a_plan_says_how_late_it_is_and_why),
        cmocka_unit_test(help_finds_topics_or_what_is_near),
        cmocka_unit_test(a_wrong_command_line_is_json_too_where_that_is_wanted),
        cmocka_unit_test(a_job_that_is_not_there_is_said),
    };
    return cmocka_run_group_tests_name("cli", tests, setup, teardown);
}
