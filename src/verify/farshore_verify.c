/* farshore-verify: does an export of the log hold what was written, who signed it, and does it end at the head that I know?
 *
 *   farshore-verify [--key KEY]… [--head HEAD | --head SEQ:HEAD] FILE
 *
 * Written from docs/FORMATS.md alone: it shares no code with the servers. --key: the key of a server that signs heads, as `farshored
 * init` and `farshore cluster status` print it; everything up to the newest signed head that trust leads to from there is proven.
 * --head: a chain head from another server, a log of heads, a mail of last month. With neither it can only say that the file fits
 * together. Exit status: 0 all is right, 1 it is not, 2 it could not be checked. */
#include "verify/verify.h"

#include <stdlib.h>
#include <string.h>

enum { HEX_DIGITS = 2 * HASH, SEQ_DIGITS_MAX = 18 };

static bool unhex(const char *text, uint8_t hash[HASH])
{
    if (strlen(text) != HEX_DIGITS || strspn(text, "0123456789abcdefABCDEF") != HEX_DIGITS) {
        return false;
    }
    for (size_t i = 0; i < HASH; i++) {
        char byte[3] = {text[2 * i], text[2 * i + 1], '\0'};
        hash[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return true;
}

static int wrong(const char *before, const char *text, const char *behind)
{
    fprintf(stderr, "farshore-verify: %s%.100s%s\n", before, text, behind);
    return -1;
}

static int take_head(struct verifier *v, const char *text)
{
    const char *colon = strchr(text, ':'), *hex = colon != NULL ? colon + 1 : text;
    if (v->wants_head) {
        return wrong("--head is given twice", "", "");
    }
    if (colon != NULL) {
        size_t digits = (size_t)(colon - text);
        v->wanted_seq = strtoull(text, NULL, 10);
        if (digits == 0 || digits > SEQ_DIGITS_MAX || strspn(text, "0123456789") != digits || v->wanted_seq == 0) {
            return wrong("--head: '", text, "' does not begin with the number of an event, from 1 on");
        }
    }
    v->wants_head = true;
    return unhex(hex, v->wanted) ? 0 : wrong("--head: '", hex, "' is no chain head: 64 hexadecimal digits are");
}

static int take_key(struct verifier *v, const char *text)
{
    if (v->given_count >= GIVEN_MAX) {
        return wrong("--key is given too often", "", "");
    }
    return unhex(text, v->given[v->given_count++]) ? 0 : wrong("--key: '", text, "' is no key: 64 hexadecimal digits are");
}

static int take_option(struct verifier *v, const char *name, const char *value)
{
    bool is_head = strcmp(name, "--head") == 0;
    if (!is_head && strcmp(name, "--key") != 0) {
        return wrong("there is no option '", name, "'");
    }
    if (value == NULL) {
        return wrong("option '", name, "' needs a value");
    }
    return is_head ? take_head(v, value) : take_key(v, value);
}

/* The path of the file; NULL: it is not asked right, and that was said. */
static const char *take_arguments(struct verifier *v, int argc, char **argv)
{
    const char *path = NULL;
    for (int i = 1; i < argc; i++) {
        bool is_path = argv[i][0] != '-';
        if (is_path && path != NULL) {
            wrong("one file, not '", argv[i], "' too");
            return NULL;
        }
        if (is_path) {
            path = argv[i];
        } else if (take_option(v, argv[i], i + 1 < argc ? argv[i + 1] : NULL) != 0) {
            return NULL;
        } else {
            i++;
        }
    }
    if (path == NULL) {
        wrong("no file is given", "", "");
    }
    return path;
}

static void print_good(const struct verifier *v)
{
    printf("ok   all events are whole and follow each other; %llu payloads were withheld; head behind event %llu: ", v->withheld,
           v->last_seq);
    for (size_t i = 0; i < HASH; i++) {
        printf("%02x", v->head[i]);
    }
    puts(v->wants_head ? "\nok   that is the history whose head was given" : "");
    if (!v->wants_head && v->given_count == 0) {
        puts("     no head and no key was given: compare this head with one from elsewhere (--head)");
    }
}

static const char usage[] = "usage: farshore-verify [--key KEY]... [--head HEAD | --head SEQ:HEAD] FILE\n"
                            "       farshore-verify --help | --version\n";
static const char help[] =
    "\nProves an export of the log (farshore log export) with nothing but that file.\n\n"
    "  --key KEY       the key of a server that signs heads, as farshored init and farshore cluster status print it: what a\n"
    "                  majority of the servers signed is proven as far as trust leads from there\n"
    "  --head HEAD     the chain head that the export must end at, from another place than the export\n"
    "  --head SEQ:HEAD the chain head that the log must have behind that event\n\n"
    "KEY and HEAD are 64 hexadecimal digits. Exit status: 0 all is right, 1 it is not, 2 it could not be checked.\n";

int main(int argc, char **argv)
{
    static struct verifier v;
    if (argc == 2 && strcmp(argv[1], "--version") == 0) {
        printf("farshore-verify %s\n", FARSHORE_VERSION);
        return 0;
    }
    if (argc == 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "-h") == 0)) {
        fputs(usage, stdout);
        fputs(help, stdout);
        return 0;
    }
    const char *path = take_arguments(&v, argc, argv);
    if (path == NULL) {
        fputs(usage, stderr);
        return 2;
    }
    v.out = stdout;
    v.file = fopen(path, "rb");
    if (v.file == NULL) {
        fprintf(stderr, "farshore-verify: '%s' cannot be opened\n", path);
        return 2;
    }
    verify_file(&v);
    bool unread = ferror(v.file) != 0;
    fclose(v.file);
    if (v.findings > 0 || unread) {
        printf("%llu findings%s\n", v.findings, unread ? "; the file could not be read to its end" : "");
        return unread ? 2 : 1;
    }
    print_good(&v);
    return 0;
}
