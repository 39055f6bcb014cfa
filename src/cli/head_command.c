/* log heads: which heads of the log were proposed, and who signed them; and what cluster status says of the newest that is signed. */
#include "cli.h"

#include <string.h>

/* "protected, recovery" of those who gave this answer. */
static void name_answers(const json_t *head, bool is_signed, char *text, size_t size)
{
    const json_t *answers = json_object_get(head, "answers");
    text[0] = '\0';
    for (size_t i = 0; i < json_array_size(answers); i++) {
        const json_t *answer = json_array_get(answers, i);
        size_t len = strlen(text);
        if (json_is_true(json_object_get(answer, "signed")) == is_signed) {
            snprintf(text + len, size - len, "%s%s", len > 0 ? ", " : "", json_string_value(json_object_get(answer, "server")));
        }
    }
}

void cli_print_signed_head(FILE *out, const json_t *head)
{
    char signers[1024];
    const json_t *voters = json_object_get(head, "voters");
    if (!json_is_object(head)) {
        fprintf(out, "signed: no head of the log yet\n");
        return;
    }
    name_answers(head, true, signers, sizeof signers);
    fprintf(out, "signed: up to event %lld by %s (%lld of %zu voters), head %.16s…; %lld events are behind it\n",
            json_integer_value(json_object_get(head, "seq")), signers, json_integer_value(json_object_get(head, "signed_count")),
            json_array_size(voters), json_string_value(json_object_get(head, "head")),
            json_integer_value(json_object_get(head, "events_behind")));
    for (size_t i = 0; i < json_array_size(voters); i++) {
        const json_t *voter = json_array_get(voters, i);
        const char *key = json_string_value(json_object_get(voter, "public_key"));
        fprintf(out, "  key of %s: %s\n", json_string_value(json_object_get(voter, "server")),
                key != NULL && key[0] != '\0' ? key : "none yet");
    }
}

int cli_run_log_heads(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *answer = NULL;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &answer, err);
    if (rc != 0) {
        return rc;
    }
    json_t *items = json_object_get(answer, "items");
    for (size_t i = 0; i < json_array_size(items) && !cli->json; i++) {
        json_t *head = json_array_get(items, i);
        char text[1024];
        name_answers(head, true, text, sizeof text);
        json_object_set_new(head, "signed_by", json_string(text));
        name_answers(head, false, text, sizeof text);
        json_object_set_new(head, "refused_by", json_string(text));
        json_object_set_new(head, "voter_count", json_integer((json_int_t)json_array_size(json_object_get(head, "voters"))));
    }
    if (cli->json) {
        cli_print_json(cli->out, answer);
    } else {
        cli_print_table(cli->out, items, "seq:SEQ state:STATE proposed_ms:PROPOSED voter_count:VOTERS signed_by:SIGNED_BY "
                                         "refused_by:REFUSED_BY head:HEAD");
    }
    json_decref(answer);
    return 0;
}
