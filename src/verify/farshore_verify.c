/* farshore-verify: does an export of the log hold what was written, and does it end at the head that I know?
 *
 *   farshore-verify [--head HEX | --head SEQ:HEX] FILE
 *
 * Written from docs/FORMATS.md alone: it shares no code with the servers. Reads the file once, front to back, in memory of one
 * record. Each event must follow the one before by number, and SHA-256 over the head before and the event must give the head
 * that stands behind it; whatever does not is named with its event and its place in the file. Without --head it can only say
 * that the file fits together: take the head from another server, a log of heads, a mail of last month. Exit status: 0 all is
 * right, 1 it is not, 2 it could not be checked. */
#include <openssl/evp.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 128,
    HEADER_SUM_AT = 96,
    RECORD = 8,
    EVENT_HEADER = 64,
    HASH = 32,
    PAYLOAD_MAX = 128 * 1024,
    BODY_MAX = EVENT_HEADER + PAYLOAD_MAX + HASH,
    TYPE_EVENT = 1,
    TYPE_WITHHELD = 2,
    TYPE_SIGNED = 3,
    TYPE_END = 255,
};

struct verifier {
    FILE *file;
    unsigned long long at; /* of the record in the file, bytes */
    unsigned long long findings;
    unsigned long long first_seq, last_seq, next_seq, withheld;
    uint8_t head[HASH];    /* behind the event before, as its bytes give it */
    uint8_t stated[HASH];  /* and as the file says */
    bool wants_head, met_head;
    unsigned long long wanted_seq; /* 0: the last */
    uint8_t wanted[HASH];
    uint8_t body[BODY_MAX];
};

static uint64_t number(const uint8_t *p, unsigned bytes)
{
    uint64_t value = 0;
    while (bytes-- > 0) {
        value = value << 8 | p[bytes];
    }
    return value;
}

static void hash_two(const void *a, size_t a_len, const void *b, size_t b_len, uint8_t hash[HASH])
{
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    if (context == NULL || EVP_DigestInit_ex(context, EVP_sha256(), NULL) != 1 || EVP_DigestUpdate(context, a, a_len) != 1 ||
        EVP_DigestUpdate(context, b, b_len) != 1 || EVP_DigestFinal_ex(context, hash, NULL) != 1) {
        fprintf(stderr, "farshore-verify: SHA-256 failed\n");
        exit(2);
    }
    EVP_MD_CTX_free(context);
}

static const char *hex(const uint8_t hash[HASH], char text[2 * HASH + 1])
{
    for (size_t i = 0; i < HASH; i++) {
        snprintf(text + 2 * i, 3, "%02x", hash[i]);
    }
    return text;
}

static bool unhex(const char *text, uint8_t hash[HASH])
{
    if (strlen(text) != 2 * HASH || strspn(text, "0123456789abcdefABCDEF") != 2 * HASH) {
        return false;
    }
    for (size_t i = 0; i < HASH; i++) {
        char byte[3] = {text[2 * i], text[2 * i + 1], '\0'};
        hash[i] = (uint8_t)strtoul(byte, NULL, 16);
    }
    return true;
}

static void found(struct verifier *v, const char *where, unsigned long long seq, const char *what)
{
    v->findings++;
    printf("BAD  %s %llu, at byte %llu: %s\n", where, seq, v->at, what);
}

/* ---- the parts of a file ---- */

static bool check_header(struct verifier *v)
{
    uint8_t p[HEADER], sum[HASH];
    if (fread(p, 1, HEADER, v->file) != HEADER || memcmp(p, "FAREXPT0", 8) != 0) {
        found(v, "header", 0, "this is no export of Farshore");
        return false;
    }
    hash_two(p, HEADER_SUM_AT, "", 0, sum);
    if (memcmp(sum, p + HEADER_SUM_AT, HASH) != 0) {
        found(v, "header", 0, "it is not what was written (SHA-256)");
        return false;
    }
    if (number(p + 8, 4) != 0 || number(p + 12, 4) != HEADER) {
        found(v, "header", 0, "a version that this program does not know");
        return false;
    }
    v->first_seq = v->next_seq = number(p + 40, 8);
    v->last_seq = number(p + 48, 8);
    memcpy(v->head, p + 56, HASH);
    memcpy(v->stated, v->head, HASH);
    printf("cluster ");
    for (int i = 0; i < 16; i++) {
        printf("%02x", p[16 + i]);
    }
    printf(", incarnation %llu, events %llu to %llu\n", (unsigned long long)number(p + 32, 8), v->first_seq, v->last_seq);
    return true;
}

static void next_head(const uint8_t before[HASH], const uint8_t leaf[HASH], uint8_t head[HASH])
{
    hash_two(before, HASH, leaf, HASH, head);
}

/* The record is an event: does it lead from the head before to the one behind it? */
static void check_event(struct verifier *v, bool withheld, size_t len)
{
    const uint8_t *header = v->body, *payload = v->body + EVENT_HEADER, *stated = v->body + len - HASH;
    size_t payload_len = len - EVENT_HEADER - HASH;
    unsigned long long seq = number(header, 8), expected = v->next_seq;
    uint8_t payload_hash[HASH], leaf[HASH], head[HASH];
    if (seq != expected) {
        found(v, "event", expected, "another one stands in its place, or its number was changed");
    }
    if (!withheld && number(header + 56, 4) != payload_len) {
        found(v, "event", expected, "its length is wrong");
    }
    if (withheld) {
        memcpy(payload_hash, payload, HASH);
        v->withheld++;
    } else {
        hash_two(payload, payload_len, "", 0, payload_hash);
    }
    hash_two(header, EVENT_HEADER, payload_hash, HASH, leaf);
    next_head(v->head, leaf, head);
    if (memcmp(head, stated, HASH) != 0) { /* where the head before was changed in the file, not the event, this one is right */
        uint8_t other[HASH];
        next_head(v->stated, leaf, other);
        bool is_behind_stated = memcmp(other, stated, HASH) == 0;
        if (!is_behind_stated) {
            found(v, "event", expected, "its bytes, or the head behind it, are not what was written");
        }
        memcpy(head, is_behind_stated ? other : head, HASH);
    }
    memcpy(v->head, head, HASH);
    memcpy(v->stated, stated, HASH);
    v->next_seq = expected + 1;
    if (v->wants_head && expected == v->wanted_seq) {
        v->met_head = memcmp(v->wanted, head, HASH) == 0 && memcmp(v->wanted, stated, HASH) == 0;
    }
}

static bool check_end(struct verifier *v, size_t len)
{
    if (len != 8 + HASH || number(v->body, 8) != v->last_seq || v->next_seq != v->last_seq + 1) {
        found(v, "end", v->next_seq - 1, "the file does not hold all the events that its header names");
    } else if (memcmp(v->body + 8, v->head, HASH) != 0) {
        found(v, "end", v->last_seq, "its head is not that of the last event");
    }
    if (fgetc(v->file) != EOF) {
        v->at += RECORD + len;
        found(v, "end", v->last_seq, "something stands behind it");
    }
    return false;
}

static bool length_fits(unsigned type, size_t len)
{
    switch (type) {
    case TYPE_EVENT:
        return len >= EVENT_HEADER + HASH && len <= BODY_MAX;
    case TYPE_WITHHELD:
        return len == EVENT_HEADER + HASH + HASH;
    default:
        return len <= BODY_MAX;
    }
}

/* One record; false: there is nothing more to read. */
static bool check_record(struct verifier *v)
{
    uint8_t p[RECORD];
    size_t got = fread(p, 1, RECORD, v->file);
    unsigned type = got == RECORD ? (unsigned)number(p, 2) : 0;
    size_t len = got == RECORD ? (size_t)number(p + 4, 4) : 0;
    bool known = type == TYPE_EVENT || type == TYPE_WITHHELD || type == TYPE_SIGNED || type == TYPE_END;
    if (got != RECORD || !known || number(p + 2, 2) != 0 || !length_fits(type, len) ||
        fread(v->body, 1, len, v->file) != len) {
        found(v, "event", v->next_seq, got == 0 ? "the file ends before it" : "its record is damaged or cut off; what follows "
                                                                           "cannot be read");
        return false;
    }
    if (type == TYPE_EVENT || type == TYPE_WITHHELD) {
        check_event(v, type == TYPE_WITHHELD, len);
    }
    bool more = type != TYPE_END || check_end(v, len);
    v->at += RECORD + len;
    return more;
}

static void check_file(struct verifier *v)
{
    if (!check_header(v)) {
        return;
    }
    v->wanted_seq = v->wanted_seq != 0 ? v->wanted_seq : v->last_seq;
    v->at = HEADER;
    while (check_record(v)) {
    }
    if (v->wants_head && !v->met_head) {
        found(v, "event", v->wanted_seq, "the head behind it is not the one that was given: this is another history");
    }
}

static int usage(void)
{
    fprintf(stderr, "usage: farshore-verify [--head HEX | --head SEQ:HEX] FILE\n");
    return 2;
}

static bool take_head(struct verifier *v, const char *text)
{
    const char *colon = strchr(text, ':');
    v->wants_head = true;
    v->wanted_seq = colon != NULL ? strtoull(text, NULL, 10) : 0;
    return unhex(colon != NULL ? colon + 1 : text, v->wanted) && (colon == NULL || v->wanted_seq != 0);
}

int main(int argc, char **argv)
{
    static struct verifier v;
    char text[2 * HASH + 1];
    const char *path = argc == 2 ? argv[1] : argc == 4 && strcmp(argv[1], "--head") == 0 ? argv[3] : NULL;
    if (path == NULL || (argc == 4 && !take_head(&v, argv[2])) || path[0] == '-') {
        return usage();
    }
    v.file = fopen(path, "rb");
    if (v.file == NULL) {
        fprintf(stderr, "farshore-verify: '%s' cannot be opened\n", path);
        return 2;
    }
    check_file(&v);
    bool unread = ferror(v.file) != 0;
    fclose(v.file);
    if (v.findings > 0 || unread) {
        printf("%llu findings%s\n", v.findings, unread ? "; the file could not be read to its end" : "");
        return unread ? 2 : 1;
    }
    printf("ok   all events are whole and follow each other; %llu payloads were withheld; head behind event %llu: %s\n",
           v.withheld, v.last_seq, hex(v.head, text));
    puts(v.wants_head ? "ok   that is the history whose head was given"
                      : "     no head was given: compare this one with one from elsewhere (--head)");
    return 0;
}
