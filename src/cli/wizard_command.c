/* farshore plan wizard: a plan by questions. Each shows what there is, and in brackets what an empty answer means; what comes of it goes
 * the way of plan apply: it is shown, tried by the server, and made when somebody says so. Answers are lines of standard input. */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

enum { ANSWER_MAX = 4096, NAMES_MAX = 2048 };

/* Names of a list, those that are fit, with commas: what is there to choose from. */
static int names_of(struct cli *cli, const char *path, const char *field, const char *wanted, char names[NAMES_MAX], struct far_error *err)
{
    json_t *items = NULL, *item;
    size_t i;
    int rc = cli_list(cli, path, &items, err);
    names[0] = '\0';
    json_array_foreach(items, i, item)
    {
        const char *name = json_string_value(json_object_get(item, "name")), *value = json_string_value(json_object_get(item, field));
        size_t len = strlen(names);
        if (name != NULL && value != NULL && strcmp(value, wanted) == 0 && len + strlen(name) + 2 < NAMES_MAX) {
            snprintf(names + len, NAMES_MAX - len, "%s%s", len > 0 ? "," : "", name);
        }
    }
    json_decref(items);
    return rc;
}

/* One answer; usual: what an empty one means, NULL: there must be one. */
static int ask(const char *question, const char *usual, char answer[ANSWER_MAX], struct far_error *err)
{
    fprintf(stderr, usual != NULL ? "%s [%s]: " : "%s%s: ", question, usual != NULL ? usual : "");
    if (fgets(answer, ANSWER_MAX, stdin) == NULL) {
        return far_fail(err, FAR_CANCELED, "nothing was made: the answers end before the questions");
    }
    answer[strcspn(answer, "\r\n")] = '\0';
    if (answer[0] == '\0' && usual != NULL) {
        snprintf(answer, ANSWER_MAX, "%s", usual);
    }
    return answer[0] != '\0' ? 0 : far_fail(err, FAR_INVALID, "there must be an answer: %s", question);
}

static int ask_number(const char *question, const char *usual, json_int_t *ret, struct far_error *err)
{
    char answer[ANSWER_MAX];
    int rc = ask(question, usual, answer, err);
    if (rc == 0 && (strlen(answer) > 12 || answer[strspn(answer, "0123456789")] != '\0')) {
        rc = far_fail(err, FAR_INVALID, "'%.40s' is no number: %s", answer, question);
    }
    *ret = rc == 0 ? strtoll(answer, NULL, 10) : 0;
    return rc;
}

/* Asks for one of the sites in this role. */
static int ask_site(struct cli *cli, const char *role, const char *question, json_t *plan, const char *field, struct far_error *err)
{
    char names[NAMES_MAX], whole[NAMES_MAX + 128], answer[ANSWER_MAX];
    int rc = names_of(cli, "/v1/sites", "role", role, names, err);
    bool is_one = names[0] != '\0' && strchr(names, ',') == NULL;
    snprintf(whole, sizeof whole, "%s (%s)", question, names);
    rc = rc != 0 ? rc : ask(whole, is_one ? names : NULL, answer, err);
    json_object_set_new(plan, field, json_string(answer));
    return rc;
}

static int ask_workloads(struct cli *cli, json_t *plan, struct far_error *err)
{
    char path[256] = "/v1/workloads?site=", names[NAMES_MAX], answer[ANSWER_MAX];
    cli_append_encoded(path, sizeof path, json_string_value(json_object_get(plan, "source_site")));
    int rc = names_of(cli, path, "plan", "", names, err);
    rc = rc != 0 ? rc : ask("Which workloads, with commas; these are in no plan", names[0] != '\0' ? names : NULL, answer, err);
    json_t *list = json_array();
    for (const char *at = answer; rc == 0 && *at != '\0';) {
        size_t len = strcspn(at, ", ");
        if (len > 0) {
            json_array_append_new(list, json_pack("{s:s%}", "name", at, len));
        }
        at += len + strspn(at + len, ", ");
    }
    json_object_set_new(plan, "workloads", list);
    return rc;
}

static int ask_numbers(json_t *plan, struct far_error *err)
{
    json_int_t interval = 0, rpo = 0, last = 0, daily = 0;
    char answer[ANSWER_MAX];
    int rc = ask_number("A cycle every how many seconds (0: only by hand)", "300", &interval, err);
    rc = rc != 0 ? rc : ask_number("Promised: no recovery point is older than how many seconds (0: nothing is promised)", "0", &rpo, err);
    rc = rc != 0 ? rc : ask_number("How many of the newest checkpoints are kept (0 here and next: all)", "0", &last, err);
    rc = rc != 0 ? rc : ask_number("Of how many days the last checkpoint is kept", "0", &daily, err);
    rc = rc != 0 ? rc : ask("Start it at once (y or n)", "n", answer, err);
    json_object_set_new(plan, "interval_s", json_integer(interval));
    json_object_set_new(plan, "rpo_s", json_integer(rpo));
    json_object_set_new(plan, "state", json_string(rc == 0 && answer[0] == 'y' ? "active" : "stopped"));
    if (last + daily > 0) {
        json_object_set_new(plan, "retention", json_pack("{s:I, s:I}", "last", last, "daily", daily));
    }
    return rc;
}

int cli_run_plan_wizard(struct cli *cli, struct far_error *err)
{
    char answer[ANSWER_MAX];
    json_t *plan = json_object();
    int rc = ask("The name of the plan", NULL, answer, err);
    if (rc == 0 && json_object_set_new(plan, "name", json_string(answer)) != 0) {
        rc = far_fail(err, FAR_INVALID, "the name is not UTF-8");
    }
    rc = rc != 0 ? rc : ask_site(cli, "protected", "From which site", plan, "source_site", err);
    rc = rc != 0 ? rc : ask_site(cli, "recovery", "To which site", plan, "target_site", err);
    rc = rc != 0 ? rc : ask_workloads(cli, plan, err);
    rc = rc != 0 ? rc : ask_numbers(plan, err);
    rc = rc != 0 ? rc : cli_apply_plan(cli, plan, err);
    json_decref(plan);
    return rc;
}
