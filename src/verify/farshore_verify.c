/* farshore-verify: does an export of the log hold what was written, who signed it, and does it end at the head that I know?
 *
 *   farshore-verify [--key HEX]… [--head HEX | --head SEQ:HEX] FILE
 *
 * Written from docs/FORMATS.md alone: it shares no code with the servers. --key: the key of a server that signs heads, as `farshored
 * init` and `farshore cluster status` print it; everything up to the newest signed head that trust leads to from there is proven.
 * --head: a chain head from another server, a log of heads, a mail of last month. With neither it can only say that the file fits
 * together. Exit status: 0 all is right, 1 it is not, 2 it could not be checked. */
#include "verify/verify.h"

#include <stdlib.h>
#include <string.h>

enum { HEX_DIGITS = 2 * HASH };

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

static bool take_head(struct verifier *v, const char *text)
{
    const char *colon = strchr(text, ':');
    bool again = v->wants_head;
    v->wants_head = true;
    v->wanted_seq = colon != NULL ? strtoull(text, NULL, 10) : 0;
    return !again && unhex(colon != NULL ? colon + 1 : text, v->wanted) && (colon == NULL || v->wanted_seq != 0);
}

static bool take_key(struct verifier *v, const char *text)
{
    return v->given_count < GIVEN_MAX && unhex(text, v->given[v->given_count++]);
}

/* The path of the file; NULL: it is not asked right. */
static const char *take_arguments(struct verifier *v, int argc, char **argv)
{
    int i = 1;
    for (; i + 2 < argc; i += 2) {
        bool good = strcmp(argv[i], "--head") == 0  ? take_head(v, argv[i + 1])
                    : strcmp(argv[i], "--key") == 0 ? take_key(v, argv[i + 1])
                                                    : false;
        if (!good) {
            return NULL;
        }
    }
    return i + 1 == argc && argv[i][0] != '-' ? argv[i] : NULL;
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

int main(int argc, char **argv)
{
    static struct verifier v;
    const char *path = take_arguments(&v, argc, argv);
    if (path == NULL) {
        fprintf(stderr, "usage: farshore-verify [--key HEX]... [--head HEX | --head SEQ:HEX] FILE\n");
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
