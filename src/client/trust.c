/* Trust from head to head: see trust.h. */
#include "client/trust.h"

#include "base/buf.h"

#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdio.h>

/* ---- what is signed ---- */

static bool read_hex(const json_t *object, const char *name, uint8_t *bytes, size_t len)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && strlen(text) == 2 * len && far_hex_decode(text, 2 * len, bytes, len);
}

static uint64_t read_number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

bool head_message_make(const json_t *head, const char *cluster_uuid, struct head_message *message)
{
    const json_t *voters = json_object_get(head, "voters");
    uint8_t *p = message->bytes;
    memset(message, 0, sizeof *message);
    memcpy(p, "farshore head 0", 16);
    far_put_le64(p + 32, read_number(head, "incarnation_epoch"));
    far_put_le64(p + 40, read_number(head, "seq"));
    message->voters = json_array_size(voters);
    if (strlen(cluster_uuid) != 32 || !far_hex_decode(cluster_uuid, 32, p + 16, 16) || !read_hex(head, "head", p + 48, 32) ||
        message->voters == 0 || message->voters > TRUST_VOTERS_MAX) {
        return false;
    }
    far_put_le64(p + 80, message->voters);
    for (size_t i = 0; i < message->voters; i++) {
        const json_t *voter = json_array_get(voters, i);
        far_put_le64(p + TRUST_FIXED + i * TRUST_VOTER, read_number(voter, "server_id"));
        (void)read_hex(voter, "public_key", p + TRUST_FIXED + i * TRUST_VOTER + 8, TRUST_KEY); /* none: zeros */
    }
    message->len = TRUST_FIXED + message->voters * TRUST_VOTER;
    return true;
}

uint64_t head_message_seq(const struct head_message *message)
{
    return far_get_le64(message->bytes + 40);
}

static uint64_t incarnation_of(const struct head_message *message)
{
    return far_get_le64(message->bytes + 32);
}

size_t head_message_voter(const struct head_message *message, uint64_t server_id)
{
    size_t v = 0;
    while (v < message->voters && far_get_le64(message->bytes + TRUST_FIXED + v * TRUST_VOTER) != server_id) {
        v++;
    }
    return v;
}

const uint8_t *head_message_key(const struct head_message *message, size_t voter)
{
    return message->bytes + TRUST_FIXED + voter * TRUST_VOTER + 8;
}

bool head_message_is_signed(const struct head_message *message, size_t voter, const uint8_t signature[TRUST_SIGNATURE])
{
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, head_message_key(message, voter), TRUST_KEY);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = key != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature, TRUST_SIGNATURE, message->bytes, message->len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}

/* ---- trust ---- */

int trust_init(struct trust *trust, const char *cluster_uuid, const char *public_key, struct far_error *err)
{
    memset(trust, 0, sizeof *trust);
    snprintf(trust->cluster_uuid, sizeof trust->cluster_uuid, "%s", cluster_uuid);
    return strlen(public_key) == 2 * TRUST_KEY && far_hex_decode(public_key, 2 * TRUST_KEY, trust->known, TRUST_KEY)
               ? 0
               : far_fail(err, FAR_INVALID, "a key has %d hexadecimal digits", 2 * TRUST_KEY);
}

static bool is_known(const struct trust *trust, const struct head_message *message, size_t voter)
{
    static const uint8_t none[TRUST_KEY];
    const uint8_t *key = head_message_key(message, voter);
    return memcmp(key, trust->known, TRUST_KEY) == 0 && memcmp(key, none, TRUST_KEY) != 0;
}

/* The same server with the same key? */
static bool is_trusted(const struct trust *trust, const struct head_message *message, size_t voter)
{
    const uint8_t *entry = message->bytes + TRUST_FIXED + voter * TRUST_VOTER;
    size_t at = head_message_voter(&trust->newest, far_get_le64(entry));
    return at < trust->newest.voters && memcmp(trust->newest.bytes + TRUST_FIXED + at * TRUST_VOTER, entry, TRUST_VOTER) == 0;
}

bool trust_leads_to(const struct trust *trust, const struct head_message *message, const bool has_signed[TRUST_VOTERS_MAX])
{
    size_t signers = 0, trusted = 0, known = 0;
    for (size_t v = 0; v < message->voters; v++) {
        signers += has_signed[v];
        trusted += has_signed[v] && trust->is_begun && is_trusted(trust, message, v);
        known += has_signed[v] && is_known(trust, message, v);
    }
    if (signers < message->voters / 2 + 1) {
        return false;
    }
    bool begins = known > 0 && (!trust->is_begun || incarnation_of(message) > incarnation_of(&trust->newest));
    return begins || (trust->is_begun && trusted >= trust->newest.voters / 2 + 1);
}

/* Could this head move anything? Most have the voters of the one before, and need not be looked at. */
static bool is_interesting(const struct trust *trust, const struct head_message *message)
{
    bool has_known = false;
    for (size_t v = 0; v < message->voters; v++) {
        has_known = has_known || is_known(trust, message, v);
    }
    bool is_same = trust->is_begun && trust->newest.len == message->len && incarnation_of(message) == incarnation_of(&trust->newest) &&
                   memcmp(trust->newest.bytes + 80, message->bytes + 80, message->len - 80) == 0;
    return trust->is_begun ? !is_same : has_known;
}

static void take_signature(struct trust *trust, const json_t *data)
{
    uint8_t signature[TRUST_SIGNATURE];
    uint64_t seq = read_number(data, "seq");
    for (size_t i = 0; i < TRUST_OPEN; i++) {
        struct head_message *message = &trust->open[i].message;
        bool *has_signed = trust->open[i].has_signed;
        if (message->len == 0 || head_message_seq(message) != seq) {
            continue;
        }
        size_t v = head_message_voter(message, read_number(data, "server_id")), signers = 0;
        if (v == message->voters || !is_interesting(trust, message) || !read_hex(data, "signature", signature, sizeof signature) ||
            !head_message_is_signed(message, v, signature)) {
            return;
        }
        has_signed[v] = true;
        for (size_t j = 0; j < message->voters; j++) {
            signers += has_signed[j];
        }
        if (trust_leads_to(trust, message, has_signed)) {
            trust->is_begun = true;
            trust->newest = *message;
        } else if (signers > message->voters / 2 && seq > trust->lost_seq) {
            trust->lost_seq = seq;
        }
        return;
    }
}

void trust_event(struct trust *trust, const json_t *event)
{
    const char *kind = json_string_value(json_object_get(event, "kind"));
    const json_t *data = json_object_get(event, "data");
    if (kind != NULL && strcmp(kind, "head_proposed") == 0) {
        size_t at = trust->next++ % TRUST_OPEN;
        memset(&trust->open[at], 0, sizeof trust->open[at]);
        if (!head_message_make(data, trust->cluster_uuid, &trust->open[at].message) ||
            (trust->is_begun && head_message_seq(&trust->open[at].message) <= head_message_seq(&trust->newest))) {
            trust->open[at].message.len = 0;
        }
    } else if (kind != NULL && strcmp(kind, "head_signed") == 0) {
        take_signature(trust, data);
    }
}
