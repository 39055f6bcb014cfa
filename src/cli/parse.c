/* The command line by the table: see cli.h. Pure. */
#include "base/bytes.h"
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* ---- finding ---- */

bool cli_noun_exists(const char *noun)
{
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        if (strcmp(command->noun, noun) == 0) {
            return true;
        }
    }
    return false;
}

static const struct cli_command *find_command(const char *noun, const char *verb)
{
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        bool alone = command->verb == NULL;
        if (strcmp(command->noun, noun) == 0 && (alone || (verb != NULL && strcmp(command->verb, verb) == 0))) {
            return command;
        }
    }
    return NULL;
}

static const struct cli_option *find_in(const struct cli_option *options, size_t max, const char *name, size_t len)
{
    for (size_t i = 0; i < max && options[i].name != NULL; i++) {
        if (strlen(options[i].name) == len && memcmp(options[i].name, name, len) == 0) {
            return &options[i];
        }
    }
    return NULL;
}

static const struct cli_option *find_option(const struct cli_command *command, const char *name, size_t len)
{
    const struct cli_option *option = find_in(cli_global_options, CLI_OPTIONS_MAX, name, len);
    if (option == NULL && command != NULL) {
        option = find_in(command->options, CLI_OPTIONS_MAX, name, len);
    }
    return option;
}

/* ---- words ---- */

struct words {
    int argc;
    const char *const *argv;
    int at;
};

static bool is_option(const char *word)
{
    return word[0] == '-' && word[1] != '\0';
}

/* The command's words: the first one or two that are no options (nor the value of a global one). */
static int find_words(int argc, const char *const *argv, const char **ret_noun, const char **ret_verb)
{
    const char *found[2] = {NULL, NULL};
    int count = 0;
    for (int i = 1; i < argc && count < 2; i++) {
        const char *word = argv[i];
        if (!is_option(word)) {
            found[count++] = word;
            continue;
        }
        const char *name = word[1] == '-' ? word + 2 : strcmp(word, "-o") == 0 ? "output" : "";
        const struct cli_option *option = find_in(cli_global_options, CLI_OPTIONS_MAX, name, strlen(name));
        i += option != NULL && option->type != CLI_SWITCH && strchr(word, '=') == NULL;
    }
    *ret_noun = found[0];
    *ret_verb = found[1];
    return count;
}

static int add_value(struct cli_parsed *parsed, const struct cli_option *option, const char *text,
                     struct far_error *err)
{
    bool often = option->type == CLI_TEXTS || option->type == CLI_PAIRS || option->type == CLI_SWITCH;
    if (parsed->value_count == CLI_VALUES_MAX) {
        return far_fail(err, FAR_INVALID, "more than %d options are given", CLI_VALUES_MAX);
    }
    if (!often && cli_value(parsed, option->name) != NULL) {
        return far_fail(err, FAR_INVALID, "option '--%s' is given twice", option->name);
    }
    if (option->type == CLI_NUMBER && (text[0] == '\0' || strlen(text) > 18 || text[strspn(text, "0123456789")] != '\0')) {
        return far_fail(err, FAR_INVALID, "option '--%s' needs a number, not '%s'", option->name, text);
    }
    if (option->type == CLI_PAIRS && (strchr(text, '=') == NULL || text[0] == '=' || strchr(text, '=')[1] == '\0')) {
        return far_fail(err, FAR_INVALID, "option '--%s' needs %s, not '%s'", option->name, option->value, text);
    }
    if (option->type != CLI_SWITCH && text[0] == '\0') {
        return far_fail(err, FAR_INVALID, "option '--%s' needs a value: %s", option->name, option->value);
    }
    parsed->values[parsed->value_count++] = (struct cli_value){option, text};
    return 0;
}

static int take_option(struct words *words, struct cli_parsed *parsed, struct far_error *err)
{
    const char *word = words->argv[words->at];
    const char *name = word + 2, *equal = NULL;
    if (strcmp(word, "-h") == 0) {
        name = "help";
    } else if (strcmp(word, "-o") == 0) {
        name = "output";
    } else if (strcmp(word, "-f") == 0) {
        name = "file";
    } else if (strncmp(word, "--", 2) == 0) {
        equal = strchr(word, '=');
    } else {
        return far_fail(err, FAR_INVALID, "unknown option '%s'", word);
    }
    size_t len = equal != NULL ? (size_t)(equal - name) : strlen(name);
    const struct cli_option *option = find_option(parsed->command, name, len);
    if (option == NULL) {
        return far_fail(err, FAR_INVALID, "unknown option '%.*s'", (int)len + 2, word);
    }
    if (option->type == CLI_SWITCH) {
        return equal == NULL ? add_value(parsed, option, "", err)
                             : far_fail(err, FAR_INVALID, "option '--%s' takes no value", option->name);
    }
    if (equal != NULL) {
        return add_value(parsed, option, equal + 1, err);
    }
    if (words->at + 1 >= words->argc) {
        return far_fail(err, FAR_INVALID, "option '--%s' needs a value: %s", option->name, option->value);
    }
    return add_value(parsed, option, words->argv[++words->at], err);
}

/* --dry-run is for what changes something through a server, --at for what is read from one. */
static int check_fit(const struct cli_parsed *parsed, struct far_error *err)
{
    const struct cli_command *command = parsed->command;
    bool dry = cli_value(parsed, "dry-run") != NULL, writes = command->method != NULL;
    bool reads = !writes && command->takes_at;
    if (dry && command->takes_dry_run && cli_value(parsed, "at") != NULL) {
        return far_fail(err, FAR_INVALID, "option '--at' does not fit: what is to be done depends on how things are now");
    }
    if (dry && !writes && !command->takes_dry_run) {
        return far_fail(err, FAR_INVALID, "option '--dry-run' does not fit: '%s%s%s' does not change the cluster's state",
                        command->noun, command->verb != NULL ? " " : "", command->verb != NULL ? command->verb : "");
    }
    if (dry && cli_value(parsed, "wait") != NULL) {
        return far_fail(err, FAR_INVALID, "options '--dry-run' and '--wait' do not fit together");
    }
    if (cli_value(parsed, "at") != NULL && !dry && !reads) {
        return far_fail(err, FAR_INVALID, writes ? "the past does not change: option '--at' needs '--dry-run' here"
                                                 : "option '--at' does not fit here");
    }
    return 0;
}

static int check_complete(const struct cli_parsed *parsed, struct far_error *err)
{
    const struct cli_command *command = parsed->command;
    const char *space = command->verb != NULL ? " " : "", *verb = command->verb != NULL ? command->verb : "";
    if (command->argument != NULL && parsed->argument == NULL) {
        return far_fail(err, FAR_INVALID, "'%s%s%s' needs an argument: %s", command->noun, space, verb, command->argument);
    }
    if (command->argument2 != NULL && parsed->argument2 == NULL) {
        return far_fail(err, FAR_INVALID, "'%s%s%s' needs a second argument: %s", command->noun, space, verb, command->argument2);
    }
    for (size_t i = 0; i < CLI_OPTIONS_MAX && command->options[i].name != NULL; i++) {
        const struct cli_option *option = &command->options[i];
        if (option->required && cli_value(parsed, option->name) == NULL) {
            return far_fail(err, FAR_INVALID, "'%s%s%s' needs the option --%s %s", command->noun, space, verb, option->name,
                            option->value);
        }
    }
    return 0;
}

/* Which command it is; parsed->help if help is all that is wanted. */
static int choose(int argc, const char *const *argv, struct cli_parsed *parsed, int *ret_skip, struct far_error *err)
{
    const char *noun, *verb;
    int count = find_words(argc, argv, &noun, &verb);
    *ret_skip = 0;
    if (count == 0 || strcmp(noun, "help") == 0) {
        *ret_skip = count;
        parsed->help = true;
        parsed->help_noun = verb;
        return 0;
    }
    if (!cli_noun_exists(noun)) {
        return far_fail(err, FAR_INVALID, "unknown command '%s'; 'farshore help' lists them", noun);
    }
    parsed->help_noun = noun;
    parsed->command = find_command(noun, verb);
    *ret_skip = parsed->command != NULL && parsed->command->verb == NULL ? 1 : 2;
    return 0;
}

static int take_word(struct cli_parsed *parsed, const char *word, struct far_error *err)
{
    bool second = parsed->argument != NULL && parsed->command->argument2 != NULL && parsed->argument2 == NULL;
    if (parsed->command->argument == NULL || (parsed->argument != NULL && !second)) {
        return far_fail(err, FAR_INVALID, "'%s' is one word too many", word);
    }
    if (word[0] == '\0') {
        return far_fail(err, FAR_INVALID, "the argument %s is empty", parsed->command->argument);
    }
    if (second) {
        parsed->argument2 = word;
    } else {
        parsed->argument = word;
    }
    return 0;
}

static int no_verb(const struct cli_parsed *parsed, int argc, const char *const *argv, struct far_error *err)
{
    const char *noun, *verb;
    find_words(argc, argv, &noun, &verb);
    if (verb != NULL && strcmp(noun, "job") == 0 && strcmp(verb, "create") == 0) {
        return far_fail(err, FAR_INVALID, "jobs are made by 'plan replicate', 'recover' and 'checkpoint verify', and ended by "
                                          "'job cancel'");
    }
    if (verb != NULL && strcmp(noun, "checkpoint") == 0 && strcmp(verb, "create") == 0) {
        return far_fail(err, FAR_INVALID, "a checkpoint is made by a cycle: 'plan replicate'");
    }
    return verb == NULL ? far_fail(err, FAR_INVALID, "'%s' needs a verb; 'farshore help %s' lists them", noun, noun)
                        : far_fail(err, FAR_INVALID, "there is no '%s %s'; 'farshore help %s' lists what there is", noun, verb,
                                   noun);
}

int cli_parse(int argc, const char *const *argv, struct cli_parsed *ret_parsed, struct far_error *err)
{
    struct words words = {.argc = argc, .argv = argv};
    int skip = 0;
    memset(ret_parsed, 0, sizeof *ret_parsed);
    int rc = choose(argc, argv, ret_parsed, &skip, err);
    for (words.at = 1; rc == 0 && words.at < argc; words.at++) {
        if (is_option(argv[words.at])) {
            rc = take_option(&words, ret_parsed, err);
        } else if (skip > 0) {
            skip--;
        } else if (ret_parsed->command != NULL) {
            rc = take_word(ret_parsed, argv[words.at], err);
        }
    }
    if (rc != 0) {
        return rc;
    }
    ret_parsed->version = cli_value(ret_parsed, "version") != NULL;
    ret_parsed->help = ret_parsed->help || cli_value(ret_parsed, "help") != NULL;
    if (ret_parsed->help || ret_parsed->version) {
        return 0;
    }
    if (ret_parsed->command == NULL) {
        return no_verb(ret_parsed, argc, argv, err);
    }
    rc = check_fit(ret_parsed, err);
    return rc != 0 ? rc : check_complete(ret_parsed, err);
}

const char *cli_value(const struct cli_parsed *parsed, const char *name)
{
    for (size_t i = parsed->value_count; i > 0; i--) {
        if (strcmp(parsed->values[i - 1].option->name, name) == 0) {
            return parsed->values[i - 1].text;
        }
    }
    return NULL;
}

int cli_check_key(const struct cli *cli, struct far_error *err)
{
    uint8_t key[32];
    const char *text = cli_value(&cli->parsed, "key");
    bool is_good = text == NULL || far_hex_decode(text, strlen(text), key, sizeof key);
    return is_good ? 0 : far_fail(err, FAR_INVALID, "option '--key': '%.80s' is no key: 64 hexadecimal digits, as farshored init and "
                                                    "farshore cluster status print it", text);
}

/* ---- the body ---- */

static json_t *list_in(json_t *body, const char *field)
{
    json_t *list = json_object_get(body, field);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(body, field, list);
    }
    return list;
}

static void add_texts(json_t *list, const char *text)
{
    while (text != NULL) {
        size_t len = strcspn(text, ",");
        if (len > 0) {
            json_array_append_new(list, json_stringn(text, len));
        }
        text = text[len] == ',' ? text + len + 1 : NULL;
    }
}

static int add_field(json_t *body, const struct cli_value *value, struct far_error *err)
{
    const struct cli_option *option = value->option;
    const char *text = value->text;
    const char *equal = strchr(text, '=');
    json_t *item = NULL;
    switch (option->type) {
    case CLI_TEXT:
        item = json_string(text);
        json_object_set_new(body, option->field, item);
        break;
    case CLI_NUMBER:
        item = json_integer((json_int_t)strtoull(text, NULL, 10));
        json_object_set_new(body, option->field, item);
        break;
    case CLI_SWITCH:
        item = json_true();
        json_object_set_new(body, option->field, item);
        break;
    case CLI_TEXTS:
        item = list_in(body, option->field);
        add_texts(item, text);
        break;
    case CLI_PAIRS:
        item = json_pack("{s:s%, s:s}", option->key_field, text, (size_t)(equal - text), option->value_field, equal + 1);
        json_array_append_new(list_in(body, option->field), item);
        break;
    }
    return item != NULL ? 0 : far_fail(err, FAR_INVALID, "option '--%s': '%s' is not UTF-8", option->name, text);
}

int cli_body(const struct cli_parsed *parsed, json_t **ret_body, struct far_error *err)
{
    const struct cli_command *command = parsed->command;
    json_t *body = command->body != NULL ? json_loads(command->body, 0, NULL) : json_object();
    int rc = 0;
    if (command->argument_field != NULL &&
        json_object_set_new(body, command->argument_field, json_string(parsed->argument)) != 0) {
        rc = far_fail(err, FAR_INVALID, "the argument %s is not UTF-8", command->argument);
    }
    for (size_t i = 0; rc == 0 && i < parsed->value_count; i++) {
        if (parsed->values[i].option->field != NULL) {
            rc = add_field(body, &parsed->values[i], err);
        }
    }
    if (rc != 0) {
        json_decref(body);
        return rc;
    }
    *ret_body = body;
    return 0;
}
