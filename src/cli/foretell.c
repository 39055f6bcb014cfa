/* Dry runs of commands that are several: each step as far as it can be told now.
 *
 * A step that is one request is tried with dry_run, on the state as it is: what it would cause is right if nothing comes between, so
 * of a step behind another one the numbers are later ones, and a refusal may be one of now only. A step whose beginning another one
 * has to make first (a token, a new server's address) says what it needs. */
#include "cli.h"

#include <stdarg.h>
#include <string.h>

json_t *cli_plan_new(void)
{
    return json_pack("{s:b, s:[]}", "dry_run", true, "steps");
}

static json_t *add_step(json_t *plan, const char *what)
{
    json_t *step = json_pack("{s:s}", "do", what);
    json_array_append_new(json_object_get(plan, "steps"), step);
    return step;
}

void cli_plan_say(json_t *plan, const char *needs, const char *format, ...)
{
    char what[1024];
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(what, sizeof what, format, arguments);
    va_end(arguments);
    json_t *step = add_step(plan, what);
    if (needs != NULL) {
        json_object_set_new(step, "needs", json_string(needs));
    }
}

int cli_plan_try(struct cli *cli, json_t *plan, const char *what, const char *method, const char *path, const json_t *body,
                 struct far_error *err)
{
    char dry[CLI_PATH_MAX];
    json_t *prediction = NULL;
    snprintf(dry, sizeof dry, "%s%cdry_run=true", path, strchr(path, '?') == NULL ? '?' : '&');
    int rc = cli_request(cli, method, dry, body, &prediction, err);
    if (rc == 0) {
        json_object_set_new(add_step(plan, what), "prediction", prediction);
    } else if (rc == FAR_CONFLICT || rc == FAR_NOT_FOUND || rc == FAR_INVALID || rc == FAR_DENIED || rc == FAR_LIMIT) {
        json_object_set_new(add_step(plan, what), "refused", json_string(err->message));
        rc = 0;
    }
    return rc;
}

void cli_plan_print(struct cli *cli, const json_t *plan)
{
    const json_t *steps = json_object_get(plan, "steps");
    if (cli->json) {
        cli_print_json(cli->out, plan);
        return;
    }
    fprintf(cli->out, "dry run: nothing was done. %s\n",
            json_array_size(steps) > 0 ? "These steps would come:" : "Nothing is left to be done.");
    for (size_t i = 0; i < json_array_size(steps); i++) {
        const json_t *step = json_array_get(steps, i), *prediction = json_object_get(step, "prediction");
        const char *needs = json_string_value(json_object_get(step, "needs"));
        const char *refused = json_string_value(json_object_get(step, "refused"));
        fprintf(cli->out, "%zu. %s\n", i + 1, json_string_value(json_object_get(step, "do")));
        if (needs != NULL) {
            fprintf(cli->out, "   needs first: %s\n", needs);
        }
        if (refused != NULL) {
            fprintf(cli->out, "   as things are now it would be refused: %s\n", refused);
        }
        if (prediction != NULL) {
            cli_print_prediction(cli->out, prediction);
        }
    }
}
