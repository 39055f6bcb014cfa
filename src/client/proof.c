/* A client's own proof of a stream: see proof.h. */
#include "client/proof.h"

#include "client/kinds.h"

#include <openssl/evp.h>
#include <openssl/sha.h>
#include <stdlib.h>

enum { PROGRESS = 16 /* node_reported: the only kind that is compacted */ };
enum { HEADER = 64, ENTRY = HEADER + 32, HEAD = 32, ACTOR_KINDS = 5, PAYLOAD_MAX = 128 * 1024 };

#define LLU(number) ((unsigned long long)(number))

static int wrong(struct far_error *err, const char *what)
{
    return far_fail(err, FAR_CORRUPT, "%s", what);
}

/* ---- the filter ---- */

static int read_kinds(struct proof *proof, const char *kinds, struct far_error *err)
{
    while (kinds != NULL && *kinds != '\0') {
        size_t len = strcspn(kinds, ",");
        const struct kind *kind = kind_by_name(kinds, len);
        if (kind == NULL || kind->number >= PROOF_KINDS_MAX) {
            return far_fail(err, FAR_INVALID, "this program knows no kind of event '%.*s'", (int)len, kinds);
        }
        proof->has_kinds = proof->kinds[kind->number] = true;
        kinds += len + (kinds[len] == ',');
    }
    return 0;
}

/* A whole cursor says where the chain stands. */
static bool read_cursor(const char *text, uint64_t *ret_seq, uint8_t ret_head[HEAD])
{
    size_t digits = strspn(text, "0123456789");
    *ret_seq = strtoull(text, NULL, 10);
    return digits > 0 && digits <= 19 && text[digits] == '-' &&
           far_hex_decode(text + digits + 1, strlen(text + digits + 1), ret_head, HEAD);
}

static void keep_head(struct proof *proof, bool is_first)
{
    if (proof->heads != NULL) {
        proof->heads->first = is_first ? proof->proven.seq : proof->heads->first;
        memcpy(proof->heads->behind[proof->proven.seq % PROOF_HEADS], proof->proven.head, HEAD);
    }
}

int proof_init(struct proof *proof, const struct far_client_stream *stream, struct far_error *err)
{
    *proof = (struct proof){.heads = proof->heads};
    proof->level = stream->proof;
    proof->by_object = stream->subject != NULL || stream->plan != NULL || stream->site != NULL;
    proof->severities = kind_severities_from(stream->severity == NULL ? "info" : stream->severity);
    if (proof->severities == 0) {
        return far_fail(err, FAR_INVALID, "there is no severity '%s': info, notice, warning or error", stream->severity);
    }
    proof->has_head = stream->from != NULL && read_cursor(stream->from, &proof->proven.seq, proof->proven.head);
    keep_head(proof, proof->has_head);
    return proof->level == FAR_CLIENT_PROOF_NONE ? 0 : read_kinds(proof, stream->kinds, err);
}

/* Must an event with this header be given, may it be? What cannot be told from the header may be either. */
static void judge(const struct proof *proof, const uint8_t header[HEADER], bool *ret_must, bool *ret_may)
{
    uint16_t number = far_get_le16(header + 16);
    const struct kind *kind = kind_by_number(number);
    bool wanted = !proof->has_kinds || (number < PROOF_KINDS_MAX && proof->kinds[number]);
    unsigned possible = kind == NULL ? 0 : kind->traits & ~(unsigned)KIND_SECRET;
    bool never = kind != NULL && strcmp(kind->name, "consumer_acked") == 0;
    *ret_may = wanted && !never && (kind == NULL || (possible & proof->severities) != 0);
    *ret_must = *ret_may && kind != NULL && (possible & ~proof->severities) == 0 && !proof->by_object;
}

/* ---- the chain ---- */

/* entry: header and payload hash. */
static int add(struct proof *proof, const uint8_t entry[ENTRY], struct far_error *err)
{
    uint8_t both[HEAD + 32];
    uint64_t seq = far_get_le64(entry);
    if (!proof->has_head) {
        return wrong(err, "the stream did not say where it begins");
    }
    if (seq != proof->proven.seq + 1) {
        return far_fail(err, FAR_CORRUPT, "event %llu came where event %llu belongs", LLU(seq), LLU(proof->proven.seq + 1));
    }
    memcpy(both, proof->proven.head, HEAD);
    SHA256(entry, ENTRY, both + HEAD);
    SHA256(both, sizeof both, proof->proven.head);
    proof->proven.seq = seq;
    keep_head(proof, false);
    return 0;
}

static int decode_base64(const json_t *text, uint8_t *data, size_t max, size_t *ret_len)
{
    size_t len = json_string_length(text), pad = 0;
    const char *digits = json_string_value(text);
    if (digits == NULL || len % 4 != 0 || len / 4 * 3 > max + 2) {
        return -1;
    }
    while (pad < 2 && pad < len && digits[len - 1 - pad] == '=') {
        pad++;
    }
    int got = len == 0 ? 0 : EVP_DecodeBlock(data, (const uint8_t *)digits, (int)len);
    *ret_len = got < 0 ? 0 : (size_t)got - pad;
    return got < 0 || *ret_len > max ? -1 : 0;
}

/* ---- frames ---- */

int proof_start(struct proof *proof, const json_t *frame, struct far_error *err)
{
    static const uint8_t zero[HEAD];
    uint8_t head[HEAD];
    uint64_t seq = (uint64_t)json_integer_value(json_object_get(frame, "seq"));
    const json_t *text = json_object_get(frame, "head");
    if (!json_is_string(text) || !far_hex_decode(json_string_value(text), json_string_length(text), head, sizeof head)) {
        return wrong(err, "the stream did not say with which head it begins");
    }
    if (seq == 0 && memcmp(head, zero, sizeof head) != 0) {
        return wrong(err, "there is a head before the first event");
    }
    if (proof->has_head && (proof->proven.seq != seq || memcmp(proof->proven.head, head, sizeof head) != 0)) {
        return far_fail(err, FAR_CORRUPT, "the stream begins at event %llu with another head than was proven up to event %llu",
                        LLU(seq), LLU(proof->proven.seq));
    }
    if (!proof->has_head) {
        proof->has_head = true;
        proof->proven.from_start = seq == 0;
        proof->proven.seq = seq;
        memcpy(proof->proven.head, head, sizeof head);
        keep_head(proof, true);
    }
    return 0;
}

int proof_skipped(struct proof *proof, const json_t *frame, struct far_error *err)
{
    const json_t *events = json_object_get(frame, "events");
    size_t max = json_string_length(events), len = 0;
    uint8_t *entries = malloc(max + 4);
    int rc = entries == NULL ? far_fail(err, FAR_LIMIT, "no memory for the headers of events") : 0;
    if (rc == 0 && (decode_base64(events, entries, max, &len) != 0 || len % ENTRY != 0)) {
        rc = wrong(err, "the headers of skipped events are not readable");
    }
    for (size_t at = 0; rc == 0 && at < len; at += ENTRY) {
        bool must, may;
        judge(proof, entries + at, &must, &may);
        rc = add(proof, entries + at, err);
        if (rc == 0 && must) {
            rc = far_fail(err, FAR_CORRUPT, "event %llu was left out, though it is one of those that were asked for",
                          LLU(proof->proven.seq));
        }
        proof->proven.skipped++;
    }
    free(entries);
    return rc;
}

static bool same_number(const json_t *event, const char *name, uint64_t value)
{
    const json_t *told = json_object_get(event, name);
    return json_is_integer(told) && (uint64_t)json_integer_value(told) == value;
}

static bool same_text(const json_t *event, const char *name, const char *value)
{
    const char *told = json_string_value(json_object_get(event, name));
    return told != NULL && strcmp(told, value) == 0;
}

/* Does the JSON say what the header says? */
static bool agrees(const json_t *event, const uint8_t header[HEADER])
{
    static const char *const actors[ACTOR_KINDS] = {"unknown", "system", "server", "node", "token"};
    char command_id[33], actor[48];
    const struct kind *kind = kind_by_number(far_get_le16(header + 16));
    uint64_t who = far_get_le64(header + 40), who_kind = who >> 56;
    far_hex_encode(header + 24, 16, command_id);
    snprintf(actor, sizeof actor, "%s:%llu", actors[who_kind < ACTOR_KINDS ? who_kind : 0],
             LLU(who & 0x00ffffffffffffffu));
    return same_number(event, "seq", far_get_le64(header)) && same_number(event, "index", far_get_le64(header + 8)) &&
           (kind == NULL || same_text(event, "kind", kind->name)) &&
           same_number(event, "version", far_get_le16(header + 18)) &&
           same_number(event, "time_ms", far_get_le64(header + 48)) && same_text(event, "command_id", command_id) &&
           same_text(event, "actor", actor);
}

/* Does it say that its payload is gone, and is it of those whose may be (docs/FORMATS.md, "Compacted events")? */
static bool is_compacted(const json_t *event, const uint8_t header[HEADER])
{
    return json_is_true(json_object_get(event, "compacted")) && far_get_le16(header + 16) == PROGRESS &&
           far_get_le32(header + 56) > 32;
}

/* Fills the hash of the payload, from the payload itself where there has to be one. */
static int hash_payload(const struct proof *proof, const json_t *event, uint8_t entry[ENTRY], struct far_error *err)
{
    const json_t *payload = json_object_get(event, "payload"), *hash = json_object_get(event, "payload_hash");
    const struct kind *kind = kind_by_number(far_get_le16(entry + 16));
    uint64_t seq = far_get_le64(entry);
    size_t len = 0;
    if (payload == NULL) {
        bool may_hide = proof->level != FAR_CLIENT_PROOF_FULL || kind == NULL || (kind->traits & KIND_SECRET) != 0 ||
                        is_compacted(event, entry);
        bool good = may_hide && json_is_string(hash) &&
                    far_hex_decode(json_string_value(hash), json_string_length(hash), entry + HEADER, 32);
        return good ? 0 : far_fail(err, FAR_CORRUPT, "event %llu came without its payload", LLU(seq));
    }
    uint8_t *bytes = malloc(PAYLOAD_MAX + 4);
    if (bytes == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for an event");
    }
    bool good = decode_base64(payload, bytes, PAYLOAD_MAX, &len) == 0 && len == far_get_le32(entry + 56);
    SHA256(bytes, len, entry + HEADER);
    free(bytes);
    return good ? 0 : far_fail(err, FAR_CORRUPT, "the payload of event %llu has not the length that its header says", LLU(seq));
}

int proof_event(struct proof *proof, const json_t *event, struct far_error *err)
{
    uint8_t entry[ENTRY + 4];
    char head[2 * HEAD + 1];
    size_t len = 0;
    bool must, may;
    if (decode_base64(json_object_get(event, "header"), entry, HEADER, &len) != 0 || len != HEADER) {
        return wrong(err, "an event came without its header");
    }
    uint64_t seq = far_get_le64(entry);
    if (!agrees(event, entry)) {
        return far_fail(err, FAR_CORRUPT, "what is told of event %llu is not what its header says", LLU(seq));
    }
    int rc = hash_payload(proof, event, entry, err);
    rc = rc != 0 ? rc : add(proof, entry, err);
    if (rc != 0) {
        return rc;
    }
    far_hex_encode(proof->proven.head, HEAD, head);
    if (!same_text(event, "head", head)) {
        return far_fail(err, FAR_CORRUPT, "event %llu does not give the head that is told", LLU(seq));
    }
    judge(proof, entry, &must, &may);
    if (!may) {
        return far_fail(err, FAR_CORRUPT, "event %llu is none of those that were asked for", LLU(seq));
    }
    proof->proven.events++;
    return 0;
}

int proof_cursor(const struct proof *proof, const char *cursor, struct far_error *err)
{
    uint64_t seq;
    uint8_t head[HEAD];
    if (!read_cursor(cursor, &seq, head)) {
        return wrong(err, "a cursor is not readable");
    }
    if (seq != proof->proven.seq || memcmp(head, proof->proven.head, sizeof head) != 0) {
        return far_fail(err, FAR_CORRUPT, "the stream is told to be at event %llu, but the chain over the events that came gives "
                                          "event %llu or another head", LLU(seq), LLU(proof->proven.seq));
    }
    return 0;
}
