/* The program farshore from its command line to its exit code: see cli.h. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

static int fail_with(const struct cli *cli, const struct far_error *err)
{
    const struct far_class_info *info = far_class_info(err->klass);
    if (cli->json) {
        json_t *json = json_pack("{s:s, s:s, s:i}", "code", info->name, "detail", err->message, "exit_code", info->exit_code);
        json_dumpf(json, stderr, JSON_COMPACT);
        fputc('\n', stderr);
        json_decref(json);
    } else {
        char text[FAR_MESSAGE_MAX];
        snprintf(text, sizeof text, "%s", err->message);
        for (char *c = text; *c != '\0'; c++) {
            *c = (unsigned char)*c < ' ' || *c == 0x7f ? '?' : *c; /* a server's words hold names that others chose */
        }
        fprintf(stderr, "farshore: %s\n", text);
    }
    return info->exit_code;
}

static int show_help(const struct cli *cli, struct far_error *err)
{
    if (cli->parsed.command != NULL) {
        cli_help_command(cli->out, cli->parsed.command);
        return 0;
    }
    return cli_help(cli->out, cli->parsed.help_noun, err);
}

/* Was JSON wanted? Also of a command line that cannot be parsed. */
static bool wants_json(int argc, const char *const *argv)
{
    bool json = false;
    for (int i = 1; i < argc; i++) {
        bool apart = strcmp(argv[i], "-o") == 0 || strcmp(argv[i], "--output") == 0;
        const char *value = apart ? (i + 1 < argc ? argv[i + 1] : "") : argv[i] + 9;
        if (apart || strncmp(argv[i], "--output=", 9) == 0) {
            json = strcmp(value, "json") == 0;
        }
    }
    return json;
}

static int check_output(struct cli *cli, struct far_error *err)
{
    const char *output = cli_value(&cli->parsed, "output");
    cli->json = output != NULL && strcmp(output, "json") == 0;
    return output == NULL || cli->json || strcmp(output, "table") == 0
               ? 0
               : far_fail(err, FAR_INVALID, "option '--output' must be table or json, not '%s'", output);
}

int cli_main(int argc, const char *const *argv)
{
    struct far_error err = {0};
    struct cli *cli = calloc(1, sizeof *cli);
    if (cli == NULL) {
        fprintf(stderr, "farshore: no memory\n");
        return far_class_info(FAR_LIMIT)->exit_code;
    }
    cli->out = stdout;
    cli->terminal = isatty(STDERR_FILENO);
    int code = 0;
    int rc = cli_parse(argc, argv, &cli->parsed, &err);
    cli->json = wants_json(argc, argv);
    rc = rc != 0 ? rc : check_output(cli, &err);
    if (rc == 0 && cli->parsed.version) {
        fprintf(cli->out, "farshore %s\n", FARSHORE_VERSION);
    } else if (rc == 0 && cli->parsed.help) {
        rc = show_help(cli, &err);
    } else if (rc == 0) {
        rc = cli_check_timeout(cli, &err);
        rc = rc != 0 ? rc : cli->parsed.command->run(cli, &err);
    }
    if (rc == 0 && (fflush(cli->out) != 0 || ferror(cli->out))) {
        rc = far_fail(&err, FAR_IO, "the output could not be written");
    }
    if (rc != 0) {
        code = fail_with(cli, &err);
    }
    cli_done(cli);
    free(cli);
    return code;
}
