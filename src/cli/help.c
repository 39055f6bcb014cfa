/* Help: of a command, of all, and on topics that are no commands. Prints; otherwise pure. */
#include "cli.h"

#include <string.h>

static void print_usage(FILE *out, const struct cli_command *command)
{
    fprintf(out, "farshore %s", command->noun);
    if (command->verb != NULL) {
        fprintf(out, " %s", command->verb);
    }
    if (command->argument != NULL) {
        fprintf(out, " %s", command->argument);
    }
    if (command->argument2 != NULL) {
        fprintf(out, " %s", command->argument2);
    }
    for (size_t i = 0; i < CLI_OPTIONS_MAX && command->options[i].name != NULL; i++) {
        const struct cli_option *option = &command->options[i];
        bool often = option->type == CLI_PAIRS || option->type == CLI_TEXTS;
        fprintf(out, option->required ? " --%s%s%s%s" : " [--%s%s%s]%s", option->name, option->value != NULL ? " " : "",
                option->value != NULL ? option->value : "", often ? "…" : "");
    }
    fprintf(out, "\n");
}

static void print_options(FILE *out, const struct cli_option *options)
{
    for (size_t i = 0; i < CLI_OPTIONS_MAX && options[i].name != NULL; i++) {
        char left[64];
        snprintf(left, sizeof left, "--%s %s", options[i].name, options[i].value != NULL ? options[i].value : "");
        fprintf(out, "  %-28s %s\n", left, options[i].help);
    }
}

void cli_help_command(FILE *out, const struct cli_command *command)
{
    fprintf(out, "usage: ");
    print_usage(out, command);
    fprintf(out, "\n%s\n\n", command->help);
    print_options(out, command->options);
    fprintf(out, "\nand with every command:\n");
    print_options(out, cli_global_options);
}

/* ---- topics: words that are no commands, but what somebody in need looks for ---- */

static const struct topic {
    const char *words; /* separated by spaces; the first is its name */
    const char *text;
} topics[] = {
    {"disaster emergency failover runbook recovery",
     "The protected site is lost. What to do, in this order:\n\n"
     "  1. Is there still a cluster?     farshore cluster status\n"
     "     Two of three servers suffice; every command takes --server with all of them.\n"
     "  2. What can be recovered?        farshore checkpoint list --plan PLAN\n"
     "                                   farshore checkpoint show ID\n"
     "  3. Stop the plan's cycles.       farshore plan stop PLAN\n"
     "  4. Write the disks out.          farshore recover PLAN --workload NAME --disk NAME=PATH… --wait\n"
     "     The newest point unless --checkpoint ID says another. Each disk is proven by reading it back.\n"
     "  5. Start the machine from the disks.\n\n"
     "The quorum is gone for good?     farshore help recover-quorum\n"
     "There is no cluster any more? The vault on the recovery node is enough: farshore help offline\n"},
    {"offline vault break-glass",
     "Recovery without any server, on the machine that has the vault (a node's folder, usually DIR/vault):\n\n"
     "  farshore-node vault list --vault DIR/vault\n"
     "  farshore-node vault recover --offline --vault DIR/vault --point ID --disk NAME --target PATH\n\n"
     "It needs the vault and nothing else: no server, no network, no token.\n"},
    {"quorum leader election",
     "Servers decide by majority: of three, two must be up and reach each other.\n\n"
     "  farshore cluster status          who leads, who is connected, how far behind\n"
     "  farshore server remove NAME      a server that is gone for good\n"
     "  farshore server rebuild NAME --dir DIR     one that is damaged, on its machine\n"
     "  farshore server create NAME      a join token for a new one; then: farshore cluster join\n\n"
     "Without a majority reads go on and say that they may be old; writes are refused.\n"},
    {"recover-quorum fenced rejoin incarnation divergent",
     "A majority of the servers is gone for good. On the survivor that holds the most, with its server stopped:\n\n"
     "  farshore cluster recover-quorum --dir DIR --token @FILE      asks the others, says what may be lost\n"
     "  farshored run --dir DIR                                      goes on alone; nodes follow by themselves\n"
     "  farshore server create NAME --site SITE                      a token for each other machine; there:\n"
     "  farshore cluster rejoin --dir DIR --token @FILE              it joins anew, and keeps what it was\n"
     "  farshore cluster divergent list --dir DIR                    what it had accepted alone\n\n"
     "Never because the link is down: a majority that lives goes on without you. docs/DISASTER.md has the whole.\n"},
    {"backup restore",
     "A backup is the whole cluster in one file; each server makes one a day into backups/ of its folder.\n\n"
     "  farshore cluster backup --out FILE         now, and everything\n"
     "  farshore cluster backups                   those that the server keeps\n"
     "  farshore cluster restore --dir DIR --backup FILE --name NAME --api HOST:PORT --peer HOST:PORT "
     "--recovery-key @FILE\n"
     "                                             a new cluster of it, when every server is lost\n"
     "  farshore-node follow --dir DIR --server NUMBER@HOST:PORT     takes a node of the old one along\n"},
    {"bandwidth limit limits calendar pause",
     "What may be sent: by a node, for a plan, by all nodes of a site; the least of them counts.\n\n"
     "  farshore throttle set site NAME --rate 400Mbit          bits a second; 20MB are bytes, pause is nothing\n"
     "  farshore throttle set plan NAME --zone Europe/Paris --window 'mon-fri 08:00-18:00 20MB'\n"
     "                                                          by the week; --rate is for the rest of it\n"
     "  farshore throttle list                                  what is in force now, and until when\n"
     "  farshore throttle remove node|plan|site NAME\n\n"
     "It holds within a second, also for what is under way.\n"},
    {"encryption encrypt keys domain rotate",
     "Plans in a dedup domain share a key: equal blocks are stored once among them, and nothing is readable without it.\n\n"
     "  farshore domain create NAME --default     new plans are in it from now on\n"
     "  farshore plan create … --domain NAME      or this one; a plan stays in its domain\n"
     "  farshore domain rotate NAME               a new key; domain show says which vaults have it\n"
     "  farshore domain destroy NAME              its keys are forgotten, and all it holds with them\n\n"
     "Without a cluster: farshore-node vault recover … --recovery-key FILE, with the recovery key as it was printed at init.\n"},
    {"late slow rpo metrics monitoring progress",
     "A recovery point is late, or a cycle is slow:\n\n"
     "  farshore plan show NAME          how old the newest point is, when the next one comes, and why not sooner\n"
     "  farshore job watch ID            each disk live: rate, time left, and what holds it up\n"
     "  farshore plan history NAME       the cycles before\n"
     "  farshore alert list --state raised\n"
     "  farshore plan set-policy NAME --rpo SECONDS     promise an age; an alert says when it is broken\n\n"
     "For Prometheus: https://SERVER/metrics with an API token as the bearer.\n"},
    {"exit status codes errors",
     "Exit codes: 0 done; 2 wrong command line or request; 3 not found; 4 conflict; 5 denied; 6 another server leads;\n"
     "7 it may or may not have happened; 8 busy; 9 a limit; 10 time-out; 11 not reached, disk or network; 12 damaged;\n"
     "13 canceled; 14 a fault of Farshore. With -o json errors are JSON on standard error.\n"},
};
enum { TOPICS = sizeof topics / sizeof topics[0], NEAR_MAX = 2 };

static bool has_word(const char *words, const char *word)
{
    size_t len = strlen(word);
    for (const char *at = words; (at = strstr(at, word)) != NULL; at++) {
        if ((at == words || at[-1] == ' ') && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

/* How many letters must change to make b of a (Levenshtein), for words of at most 31. */
static size_t distance(const char *a, size_t a_len, const char *b, size_t b_len)
{
    size_t row[32];
    if (a_len > 31 || b_len > 31) {
        return 32;
    }
    for (size_t j = 0; j <= b_len; j++) {
        row[j] = j;
    }
    for (size_t i = 1; i <= a_len; i++) {
        size_t corner = row[0];
        row[0] = i;
        for (size_t j = 1; j <= b_len; j++) {
            size_t change = corner + (a[i - 1] != b[j - 1]), other = row[j] < row[j - 1] ? row[j] : row[j - 1];
            corner = row[j];
            row[j] = change < other + 1 ? change : other + 1;
        }
    }
    return row[b_len];
}

/* Appends the word to the list of near ones if it is near and not there yet. */
static void add_near(const char *wanted, const char *word, size_t len, char *near, size_t room)
{
    char text[40];
    size_t used = strlen(near), shared = strlen(wanted) >= 4 && strncmp(word, wanted, 4) == 0;
    snprintf(text, sizeof text, "'%.*s'", (int)(len < 32 ? len : 32), word);
    if ((shared != 0 || distance(wanted, strlen(wanted), word, len) <= NEAR_MAX) && strstr(near, text) == NULL) {
        snprintf(near + used, room - used, "%s%s", used == 0 ? "" : ", ", text);
    }
}

static int no_topic(const char *word, struct far_error *err)
{
    char near[256] = "";
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        add_near(word, command->noun, strlen(command->noun), near, sizeof near);
        if (command->verb != NULL && strcmp(command->verb, word) == 0) { /* a verb of several */
            add_near(command->noun, command->noun, strlen(command->noun), near, sizeof near);
        }
    }
    for (size_t i = 0; i < TOPICS; i++) {
        for (const char *at = topics[i].words; *at != '\0'; at += strcspn(at, " "), at += strspn(at, " ")) {
            add_near(word, at, strcspn(at, " "), near, sizeof near);
        }
    }
    return far_fail(err, FAR_INVALID, "there is no help on '%s'%s%s; 'farshore help' lists the commands", word,
                    near[0] != '\0' ? "; near are " : "", near);
}

static void list_commands(FILE *out, const char *noun)
{
    for (const struct cli_command *command = cli_commands; command->noun != NULL; command++) {
        char words[64];
        if (noun != NULL && strcmp(command->noun, noun) == 0) {
            fprintf(out, "  ");
            print_usage(out, command);
            fprintf(out, "      %s\n", command->help);
        } else if (noun == NULL) {
            snprintf(words, sizeof words, "%s %s", command->noun, command->verb != NULL ? command->verb : "");
            fprintf(out, "  %-20s %s\n", words, command->help);
        }
    }
    for (size_t i = 0; noun == NULL && i < TOPICS; i++) {
        int len = (int)strcspn(topics[i].words, " ");
        fprintf(out, "%s%.*s", i == 0 ? "\nmore with 'farshore help': " : ", ", len, topics[i].words);
    }
    fputs(noun == NULL ? "\n" : "", out);
}

/* The topic of this word; false: there is none. */
static bool print_topic(FILE *out, const char *word)
{
    for (size_t i = 0; word != NULL && i < TOPICS; i++) {
        if (has_word(topics[i].words, word)) {
            fputs(topics[i].text, out);
            return true;
        }
    }
    return false;
}

int cli_help(FILE *out, const char *word, struct far_error *err)
{
    if (word != NULL && !cli_noun_exists(word) && print_topic(out, word)) {
        return 0;
    }
    if (word != NULL && !cli_noun_exists(word)) {
        return no_topic(word, err);
    }
    fprintf(out, "farshore: disaster recovery on one replicated event log\n\n");
    list_commands(out, word);
    fputs(word != NULL ? "\n" : "", out);
    (void)print_topic(out, word);
    fprintf(out, "\nwith every command:\n");
    print_options(out, cli_global_options);
    fprintf(out, "\n~/.config/farshore may hold lines 'server = …', 'token_file = …', 'ca = …'.\n");
    return 0;
}
