/* Dry runs of commands that are several: each step as far as it can be told now.
 *
 * A step that is one request is tried with dry_run, on the state as it is: what it would cause is right if nothing comes between, so
 * of a step behind another one the numbers are later ones, and a refusal may be one of now only (what is refused for good, whatever the
 * state, is an error of the dry run itself). A step whose beginning another one
 * has to make first (a token, a new server's address) says what it needs. */
#include "cli.h"

#include <stdarg.h>
#include <string.h>

json_t *cli_plan_new(void)
{
    return json_pack("{s:b, s:[]}", "dry_run", true, "steps");
}

static json_t *add_step(json_t *plan, json_t *what)
{
    json_t *step = json_pack("{s:o}", "do", what != NULL ? what : json_string("(a text that is not UTF-8)"));
    json_array_append_new(json_object_get(plan, "steps"), step);
    return step;
}

void cli_plan_say(json_t *plan, const char *needs, const char *format, ...)
{
    va_list arguments;
    va_start(arguments, format);
    json_t *step = add_step(plan, json_vsprintf(format, arguments));
    va_end(arguments);
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
        json_object_set_new(add_step(plan, json_string(what)), "prediction", prediction);
    } else if (rc == FAR_CONFLICT || rc == FAR_NOT_FOUND || rc == FAR_LIMIT) {
        json_object_set_new(add_step(plan, json_string(what)), "refused", json_string(err->message));
        rc = 0;
    }
    return rc;
}

/* What a step would cause; nothing where it makes files, and no events. */
static void print_step(FILE *out, const json_t *prediction)
{
    static const char *const parts[] = {"events", "changes", "steps"};
    size_t count = 0;
    for (size_t i = 0; i < sizeof parts / sizeof parts[0]; i++) {
        count += json_array_size(json_object_get(prediction, parts[i]));
    }
    if (count > 0) {
        cli_print_prediction(out, prediction);
    }
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
        print_step(cli->out, prediction);
    }
}
