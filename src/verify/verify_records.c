/* The records of an export and the chain of its events: see verify.h. Each event must follow the one before by number, and SHA-256
 * over the head before and the event must give the head that stands behind it; whatever does not is named with its event and its
 * place in the file. */
#include "verify/verify.h"

#include <openssl/evp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

enum {
    HEADER = 128,
    HEADER_SUM_AT = 96,
    RECORD = 8,
    TYPE_EVENT = 1,
    TYPE_WITHHELD = 2,
    TYPE_SIGNED = 3,
    TYPE_COMPACTED = 4,
    KIND_PROGRESS = 16, /* node_reported: the only one that may be compacted */
    TYPE_END = 255,
};

uint64_t verify_number(const uint8_t *p, unsigned bytes)
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

void verify_found(struct verifier *v, const char *where, unsigned long long seq, const char *format, ...)
{
    va_list args;
    v->findings++;
    fprintf(v->out, "BAD  %s %llu, at byte %llu: ", where, seq, v->at);
    va_start(args, format);
    vfprintf(v->out, format, args);
    va_end(args);
    fputc('\n', v->out);
}

/* ---- the parts of a file ---- */

static bool check_header(struct verifier *v)
{
    uint8_t p[HEADER], sum[HASH];
    if (fread(p, 1, HEADER, v->file) != HEADER || memcmp(p, "FAREXPT0", 8) != 0) {
        verify_found(v, "header", 0, "this is no export of Farshore");
        return false;
    }
    hash_two(p, HEADER_SUM_AT, "", 0, sum);
    if (memcmp(sum, p + HEADER_SUM_AT, HASH) != 0) {
        verify_found(v, "header", 0, "it is not what was written (SHA-256)");
        return false;
    }
    if (verify_number(p + 8, 4) != 0 || verify_number(p + 12, 4) != HEADER) {
        verify_found(v, "header", 0, "a version that this program does not know");
        return false;
    }
    v->first_seq = v->next_seq = verify_number(p + 40, 8);
    v->last_seq = verify_number(p + 48, 8);
    if (v->first_seq == 0) {
        verify_found(v, "header", 0, "events are counted from 1");
        return false;
    }
    memcpy(v->uuid, p + 16, sizeof v->uuid);
    memcpy(v->head, p + 56, HASH);
    memcpy(v->stated, v->head, HASH);
    memcpy(v->ring[(v->first_seq - 1) % HEADS_KEPT], v->head, HASH);
    fprintf(v->out, "cluster ");
    for (size_t i = 0; i < sizeof v->uuid; i++) {
        fprintf(v->out, "%02x", v->uuid[i]);
    }
    fprintf(v->out, ", incarnation %llu, events %llu to %llu\n", (unsigned long long)verify_number(p + 32, 8), v->first_seq,
            v->last_seq);
    v->has_header = true;
    return true;
}

static void next_head(const uint8_t before[HASH], const uint8_t leaf[HASH], uint8_t head[HASH])
{
    hash_two(before, HASH, leaf, HASH, head);
}

/* The head behind the event whose leaf this is. Where the head before was changed in the file, not the event, it follows the one
 * that the file states. */
static void follow(struct verifier *v, const uint8_t leaf[HASH], const uint8_t stated[HASH], uint8_t head[HASH])
{
    uint8_t other[HASH];
    next_head(v->head, leaf, head);
    if (memcmp(head, stated, HASH) == 0) {
        return;
    }
    next_head(v->stated, leaf, other);
    if (memcmp(other, stated, HASH) == 0) {
        memcpy(head, other, HASH);
        return;
    }
    verify_found(v, "event", v->next_seq, "its bytes, or the head behind it, are not what was written");
}

/* Its payload was let go by the log: is it one of those that may be? */
static void check_compacted(struct verifier *v, const uint8_t *header)
{
    if (verify_number(header + 16, 2) != KIND_PROGRESS || verify_number(header + 18, 2) != 0 || verify_number(header + 56, 4) <= HASH) {
        verify_found(v, "event", v->next_seq, "its payload is said to be compacted, which is for superseded progress only");
    }
    v->compacted++;
    v->compacted_seq = v->next_seq;
}

/* The record is an event: does it lead from the head before to the one behind it? */
static void check_event(struct verifier *v, unsigned type, size_t len)
{
    bool withheld = type != TYPE_EVENT;
    const uint8_t *header = v->body, *payload = v->body + EVENT_HEADER, *stated = v->body + len - HASH;
    size_t payload_len = len - EVENT_HEADER - HASH;
    unsigned long long seq = verify_number(header, 8), expected = v->next_seq;
    uint8_t payload_hash[HASH], leaf[HASH], head[HASH];
    if (seq != expected) {
        verify_found(v, "event", expected, "another one stands in its place, or its number was changed");
    }
    if (!withheld && verify_number(header + 56, 4) != payload_len) {
        verify_found(v, "event", expected, "its length is wrong");
    }
    if (withheld) {
        memcpy(payload_hash, payload, HASH);
        v->withheld += type == TYPE_WITHHELD;
    } else {
        hash_two(payload, payload_len, "", 0, payload_hash);
    }
    if (type == TYPE_COMPACTED) {
        check_compacted(v, header);
    }
    hash_two(header, EVENT_HEADER, payload_hash, HASH, leaf);
    follow(v, leaf, stated, head);
    memcpy(v->head, head, HASH);
    memcpy(v->stated, stated, HASH);
    memcpy(v->ring[expected % HEADS_KEPT], stated, HASH);
    v->next_seq = expected + 1;
    if (v->wants_head && expected == v->wanted_seq) {
        v->met_head = memcmp(v->wanted, head, HASH) == 0 && memcmp(v->wanted, stated, HASH) == 0;
    }
    if (!withheld) {
        verify_heads_event(v, header, payload, payload_len);
    }
}

static bool check_end(struct verifier *v, size_t len)
{
    if (len != 8 + HASH || verify_number(v->body, 8) != v->last_seq || v->next_seq != v->last_seq + 1) {
        verify_found(v, "end", v->next_seq - 1, "the file does not hold all the events that its header names");
    } else if (memcmp(v->body + 8, v->head, HASH) != 0) {
        verify_found(v, "end", v->last_seq, "its head is not that of the last event");
    }
    if (fgetc(v->file) != EOF) {
        v->at += RECORD + len;
        verify_found(v, "end", v->last_seq, "something stands behind it");
    }
    return false;
}

static bool length_fits(unsigned type, size_t len)
{
    switch (type) {
    case TYPE_EVENT:
        return len >= EVENT_HEADER + HASH && len <= BODY_MAX;
    case TYPE_WITHHELD:
    case TYPE_COMPACTED:
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
    unsigned type = got == RECORD ? (unsigned)verify_number(p, 2) : 0;
    size_t len = got == RECORD ? (size_t)verify_number(p + 4, 4) : 0;
    bool is_event = type == TYPE_EVENT || type == TYPE_WITHHELD || type == TYPE_COMPACTED;
    bool known = is_event || type == TYPE_SIGNED || type == TYPE_END;
    if (got != RECORD || !known || verify_number(p + 2, 2) != 0 || !length_fits(type, len) ||
        fread(v->body, 1, len, v->file) != len) {
        verify_found(v, "event", v->next_seq, "%s", got == 0 ? "the file ends before it"
                                                             : "its record is damaged or cut off; what follows cannot be read");
        return false;
    }
    if (is_event) {
        check_event(v, type, len);
    } else if (type == TYPE_SIGNED) {
        verify_heads_record(v, len);
    }
    bool more = type != TYPE_END || check_end(v, len);
    v->at += RECORD + len;
    return more;
}

/* A file that ends before the event which decided it cannot show that: that is said, and is no finding. */
static void tell_compacted(struct verifier *v)
{
    if (v->compacted == 0) {
        return;
    }
    fprintf(v->out, "     %llu events of progress are compacted, their payloads are gone; ", v->compacted);
    if (v->compacted_seq <= v->decided_seq) {
        fprintf(v->out, "event %llu decided that, up to event %llu\n", v->decided_by, v->decided_seq);
    } else {
        fprintf(v->out, "NOT DECIDED in this file behind event %llu, and the last is event %llu\n", v->decided_seq, v->compacted_seq);
    }
}

void verify_file(struct verifier *v)
{
    if (!check_header(v)) {
        return;
    }
    v->wanted_seq = v->wanted_seq != 0 ? v->wanted_seq : v->last_seq;
    v->at = HEADER;
    while (check_record(v)) {
    }
    if (v->wants_head && !v->met_head && v->wanted_seq > v->last_seq) {
        verify_found(v, "event", v->wanted_seq, "the export ends before it: the head that was given says nothing about this file");
    } else if (v->wants_head && !v->met_head && v->wanted_seq < v->first_seq) {
        verify_found(v, "event", v->wanted_seq, "the export begins behind it: the head that was given says nothing about this file");
    } else if (v->wants_head && !v->met_head) {
        verify_found(v, "event", v->wanted_seq, "the head behind it is not the one that was given: this is another history");
    }
    tell_compacted(v);
    verify_heads_end(v);
}
