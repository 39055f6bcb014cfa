/* Is a head of the log signed by a majority of those who count at it? See far_client_check_head() and docs/FORMATS.md, "Signed
 * heads": the signed bytes are made here from what the server says, so that it cannot say anything else than what was signed. And
 * is it the head of a chain that this client computed itself? See far_client_prove_signed(). */
#include "client/proof.h"
#include "client/transfer.h"

#include <jansson.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <stdlib.h>

enum { VOTERS_MAX = 16, FIXED = 88, VOTER = 40, KEY = 32, SIGNATURE = 64 };

struct message {
    uint8_t bytes[FIXED + VOTERS_MAX * VOTER];
    size_t len;
    size_t voters;
};

static bool read_hex(const json_t *object, const char *name, uint8_t *bytes, size_t len)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && strlen(text) == 2 * len && far_hex_decode(text, 2 * len, bytes, len);
}

static uint64_t read_number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static bool make_message(const json_t *head, const char *cluster_uuid, struct message *message)
{
    const json_t *voters = json_object_get(head, "voters");
    uint8_t *p = message->bytes;
    memset(message, 0, sizeof *message);
    memcpy(p, "farshore head 0", 16);
    far_put_le64(p + 32, read_number(head, "incarnation_epoch"));
    far_put_le64(p + 40, read_number(head, "seq"));
    message->voters = json_array_size(voters);
    if (strlen(cluster_uuid) != 32 || !far_hex_decode(cluster_uuid, 32, p + 16, 16) || !read_hex(head, "head", p + 48, 32) ||
        message->voters == 0 || message->voters > VOTERS_MAX) {
        return false;
    }
    far_put_le64(p + 80, message->voters);
    for (size_t i = 0; i < message->voters; i++) {
        const json_t *voter = json_array_get(voters, i);
        far_put_le64(p + FIXED + i * VOTER, read_number(voter, "server_id"));
        (void)read_hex(voter, "public_key", p + FIXED + i * VOTER + 8, KEY); /* none: zeros */
    }
    message->len = FIXED + message->voters * VOTER;
    return true;
}

static bool is_signed_by(const struct message *message, const uint8_t public_key[KEY], const uint8_t signature[SIGNATURE])
{
    EVP_PKEY *key = EVP_PKEY_new_raw_public_key(EVP_PKEY_ED25519, NULL, public_key, KEY);
    EVP_MD_CTX *context = EVP_MD_CTX_new();
    bool good = key != NULL && context != NULL && EVP_DigestVerifyInit(context, NULL, NULL, NULL, key) == 1 &&
                EVP_DigestVerify(context, signature, SIGNATURE, message->bytes, message->len) == 1;
    EVP_MD_CTX_free(context);
    EVP_PKEY_free(key);
    ERR_clear_error();
    return good;
}

/* The signatures that are right, one a voter; *ret_known: one of them by this key. */
static int count(const json_t *head, const struct message *message, const uint8_t *known, size_t *ret_count, bool *ret_known,
                 struct far_error *err)
{
    const json_t *answers = json_object_get(head, "answers");
    bool has_signed[VOTERS_MAX] = {false};
    *ret_count = 0;
    for (size_t i = 0; i < json_array_size(answers); i++) {
        const json_t *answer = json_array_get(answers, i);
        uint8_t signature[SIGNATURE];
        size_t v = 0;
        if (!json_is_true(json_object_get(answer, "signed"))) {
            continue;
        }
        while (v < message->voters && far_get_le64(message->bytes + FIXED + v * VOTER) != read_number(answer, "server_id")) {
            v++;
        }
        const uint8_t *key = message->bytes + FIXED + v * VOTER + 8;
        if (v == message->voters || !read_hex(answer, "signature", signature, SIGNATURE) ||
            !is_signed_by(message, key, signature)) {
            return far_fail(err, FAR_CORRUPT, "the signature of server %llu on the head behind event %llu is not right",
                            (unsigned long long)read_number(answer, "server_id"), (unsigned long long)read_number(head, "seq"));
        }
        *ret_count += !has_signed[v];
        has_signed[v] = true;
        *ret_known = *ret_known || (known != NULL && memcmp(known, key, KEY) == 0);
    }
    return 0;
}

static int check(const json_t *head, const char *cluster_uuid, const char *public_key, struct far_error *err)
{
    struct message message;
    uint8_t known[KEY];
    size_t signatures = 0;
    bool is_known = public_key == NULL;
    unsigned long long seq = read_number(head, "seq");
    if (public_key != NULL && (strlen(public_key) != 2 * KEY || !far_hex_decode(public_key, 2 * KEY, known, KEY))) {
        return far_fail(err, FAR_INVALID, "a key has %d hexadecimal digits", 2 * KEY);
    }
    if (!make_message(head, cluster_uuid, &message)) {
        return far_fail(err, FAR_CORRUPT, "this is no head that could be signed");
    }
    int rc = count(head, &message, public_key == NULL ? NULL : known, &signatures, &is_known, err);
    if (rc == 0 && signatures < message.voters / 2 + 1) {
        rc = far_fail(err, FAR_CORRUPT, "%zu of %zu voters have signed the head behind event %llu, which is no majority", signatures,
                      message.voters, seq);
    }
    if (rc == 0 && !is_known) {
        rc = far_fail(err, FAR_CORRUPT, "the head behind event %llu is not signed with the key that was given", seq);
    }
    return rc;
}

int far_client_check_head(const char *head, const char *cluster_uuid, const char *public_key,
                          struct far_client_error *ret_error)
{
    struct far_error err = {0};
    json_t *json = json_loads(head, 0, NULL);
    int rc = json == NULL ? far_fail(&err, FAR_INVALID, "the head is no JSON") : check(json, cluster_uuid, public_key, &err);
    json_decref(json);
    return rc == 0 ? 0 : client_give(ret_error, &err, 0);
}

/* ---- the chain of a stream ---- */

/* The newest of these heads that is signed and that the chain which was computed here passed. */
static int find_signed(const struct far_client *client, const json_t *items, const json_t **ret_head, struct far_error *err)
{
    uint64_t last = client->proven.seq;
    if (client->heads == NULL || client->heads->first == UINT64_MAX) {
        return far_fail(err, FAR_INVALID, "there was no stream with a proof before");
    }
    for (size_t i = 0; i < json_array_size(items); i++) { /* the newest first */
        const json_t *head = json_array_get(items, i);
        const char *state = json_string_value(json_object_get(head, "state"));
        uint64_t seq = read_number(head, "seq");
        if (state != NULL && strcmp(state, "signed") == 0 && seq >= client->heads->first && seq <= last &&
            last - seq < PROOF_HEADS) {
            *ret_head = head;
            return 0;
        }
    }
    return far_fail(err, FAR_NOT_FOUND, "no signed head lies between event %llu and %llu, where the stream went",
                    (unsigned long long)client->heads->first + 1, (unsigned long long)last);
}

/* Is it the one of the chain? */
static int compare(const struct far_client *client, const json_t *head, struct far_error *err)
{
    uint8_t bytes[32];
    uint64_t seq = read_number(head, "seq");
    return read_hex(head, "head", bytes, sizeof bytes) && memcmp(bytes, client->heads->behind[seq % PROOF_HEADS], sizeof bytes) == 0
               ? 0
               : far_fail(err, FAR_CORRUPT, "the events that came up to event %llu are not those that a majority signed",
                          (unsigned long long)seq);
}

static int get(struct far_client *client, const char *path, json_t **ret_json, struct far_client_error *ret_error)
{
    char *answer = NULL;
    int rc = far_client_request(client, "GET", path, NULL, &answer, ret_error);
    *ret_json = rc == 0 ? json_loads(answer, 0, NULL) : NULL;
    free(answer);
    return rc;
}

int far_client_prove_signed(struct far_client *client, const char *public_key, uint64_t *ret_seq,
                            struct far_client_error *ret_error)
{
    struct far_error err = {0};
    json_t *cluster = NULL, *heads = NULL;
    const json_t *head = NULL;
    if (get(client, "/v1/cluster", &cluster, ret_error) != 0 || get(client, "/v1/log/heads", &heads, ret_error) != 0) {
        json_decref(cluster);
        return -1;
    }
    const char *uuid = json_string_value(json_object_get(json_object_get(cluster, "cluster"), "uuid"));
    int rc = find_signed(client, json_object_get(heads, "items"), &head, &err);
    rc = rc != 0 ? rc : check(head, uuid == NULL ? "" : uuid, public_key, &err);
    rc = rc != 0 ? rc : compare(client, head, &err);
    *ret_seq = rc == 0 ? read_number(head, "seq") : *ret_seq;
    json_decref(cluster);
    json_decref(heads);
    return rc == 0 ? 0 : client_give(ret_error, &err, 0);
}
