/* Is a head of the log signed by a majority of those who count at it? See far_client_check_head() and docs/FORMATS.md, "Signed
 * heads": the signed bytes are made here from what the server says, so that it cannot say anything else than what was signed. Does
 * a key that was given lead to it? See far_client_trust_head(). And is it the head of a chain that this client computed itself? See
 * far_client_prove_signed(). */
#include "client/proof.h"
#include "client/transfer.h"
#include "client/trust.h"

#include <jansson.h>
#include <stdlib.h>

static uint64_t read_number(const json_t *object, const char *name)
{
    return (uint64_t)json_integer_value(json_object_get(object, name));
}

static bool read_hex(const json_t *object, const char *name, uint8_t *bytes, size_t len)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && strlen(text) == 2 * len && far_hex_decode(text, 2 * len, bytes, len);
}

/* Who of its voters has signed it: each signature must be right. */
static int read_signers(const json_t *head, const struct head_message *message, bool has_signed[TRUST_VOTERS_MAX],
                        struct far_error *err)
{
    const json_t *answers = json_object_get(head, "answers");
    for (size_t i = 0; i < json_array_size(answers); i++) {
        const json_t *answer = json_array_get(answers, i);
        uint8_t signature[TRUST_SIGNATURE];
        if (!json_is_true(json_object_get(answer, "signed"))) {
            continue;
        }
        size_t v = head_message_voter(message, read_number(answer, "server_id"));
        if (v == message->voters || !read_hex(answer, "signature", signature, sizeof signature) ||
            !head_message_is_signed(message, v, signature)) {
            return far_fail(err, FAR_CORRUPT, "the signature of server %llu on the head behind event %llu is not right",
                            (unsigned long long)read_number(answer, "server_id"), (unsigned long long)read_number(head, "seq"));
        }
        has_signed[v] = true;
    }
    return 0;
}

struct checked {
    struct head_message message;
    bool has_signed[TRUST_VOTERS_MAX];
};

/* Signed by a majority? */
static int check(const json_t *head, const char *cluster_uuid, struct checked *checked, struct far_error *err)
{
    size_t signatures = 0;
    memset(checked, 0, sizeof *checked);
    if (!head_message_make(head, cluster_uuid, &checked->message)) {
        return far_fail(err, FAR_CORRUPT, "this is no head that could be signed");
    }
    int rc = read_signers(head, &checked->message, checked->has_signed, err);
    for (size_t v = 0; v < checked->message.voters; v++) {
        signatures += checked->has_signed[v];
    }
    return rc != 0 || signatures > checked->message.voters / 2
               ? rc
               : far_fail(err, FAR_CORRUPT, "%zu of %zu voters have signed the head behind event %llu, which is no majority", signatures,
                          checked->message.voters, (unsigned long long)read_number(head, "seq"));
}

static int check_signer(const char *head, const char *cluster_uuid, const char *public_key, struct far_error *err)
{
    json_t *json = json_loads(head, 0, NULL);
    struct checked *checked = malloc(sizeof *checked);
    struct trust *trust = malloc(sizeof *trust);
    int rc = checked == NULL || trust == NULL ? far_fail(err, FAR_LIMIT, "no memory for a head") : 0;
    rc = rc != 0 || json != NULL ? rc : far_fail(err, FAR_INVALID, "the head is no JSON");
    rc = rc != 0 || public_key == NULL ? rc : trust_init(trust, cluster_uuid, public_key, err);
    rc = rc != 0 ? rc : check(json, cluster_uuid, checked, err);
    if (rc == 0 && public_key != NULL && !trust_leads_to(trust, &checked->message, checked->has_signed)) {
        rc = far_fail(err, FAR_CORRUPT, "the head behind event %llu is not signed with the key that was given",
                      (unsigned long long)head_message_seq(&checked->message));
    }
    json_decref(json);
    free(checked);
    free(trust);
    return rc;
}

int far_client_check_head(const char *head, const char *cluster_uuid, const char *public_key,
                          struct far_client_error *ret_error)
{
    struct far_error err = {0};
    return check_signer(head, cluster_uuid, public_key, &err) == 0 ? 0 : client_give(ret_error, &err, 0);
}

/* ---- from a key of then to a head of now ---- */

static int on_head_event(void *arg, const char *json, const char *cursor)
{
    json_t *event = json == NULL ? NULL : json_loads(json, 0, NULL);
    trust_event(arg, event);
    json_decref(event);
    return 0;
}

/* Reads all heads and signatures that the log still has. What is proven of a stream before stays. */
static int follow_keys(struct far_client *client, struct trust *trust, struct far_client_error *ret_error)
{
    struct far_client_stream stream = {.version = FAR_CLIENT_STREAM_VERSION, .kinds = "head_proposed,head_signed"};
    struct far_client_proven proven = client->proven;
    struct proof_heads *heads = client->heads;
    client->heads = NULL;
    int rc = far_client_stream(client, &stream, on_head_event, trust, ret_error);
    client->heads = heads;
    client->proven = proven;
    return rc;
}

/* Also where the key was another server's than those of now. */
static int check_trust(struct far_client *client, const json_t *head, const char *cluster_uuid, const char *public_key,
                       struct far_client_error *ret_error)
{
    struct far_error err = {0};
    struct checked *checked = malloc(sizeof *checked);
    struct trust *trust = malloc(sizeof *trust);
    int given = 0;
    int rc = checked == NULL || trust == NULL ? far_fail(&err, FAR_LIMIT, "no memory for a head") : 0;
    rc = rc != 0 || public_key == NULL ? rc : trust_init(trust, cluster_uuid, public_key, &err);
    rc = rc != 0 ? rc : check(head, cluster_uuid, checked, &err);
    if (rc == 0 && public_key != NULL && !trust_leads_to(trust, &checked->message, checked->has_signed)) {
        given = follow_keys(client, trust, ret_error);
        if (given == 0 && !trust->is_begun) {
            rc = far_fail(&err, FAR_CORRUPT, "the head behind event %llu is not signed with the key that was given, nor does the history "
                                             "of keys that the log still has lead from it to those that signed",
                          (unsigned long long)head_message_seq(&checked->message));
        } else if (given == 0 && !trust_leads_to(trust, &checked->message, checked->has_signed)) {
            rc = far_fail(&err, FAR_CORRUPT, "trust leads from the key that was given to the head behind event %llu and no further: the "
                                             "head behind event %llu is signed by others (after a forced recovery or a restore, give "
                                             "the key that it printed)", (unsigned long long)head_message_seq(&trust->newest),
                          (unsigned long long)(trust->lost_seq > head_message_seq(&trust->newest)
                                                   ? trust->lost_seq : head_message_seq(&checked->message)));
        }
    }
    free(checked);
    free(trust);
    return rc != 0 ? client_give(ret_error, &err, 0) : given;
}

int far_client_trust_head(struct far_client *client, const char *head, const char *cluster_uuid, const char *public_key,
                          struct far_client_error *ret_error)
{
    struct far_error err = {0};
    json_t *json = json_loads(head, 0, NULL);
    if (json == NULL) {
        far_fail(&err, FAR_INVALID, "the head is no JSON");
        return client_give(ret_error, &err, 0);
    }
    int rc = check_trust(client, json, cluster_uuid, public_key, ret_error);
    json_decref(json);
    return rc;
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
    rc = rc != 0 ? rc : compare(client, head, &err);
    rc = rc != 0 ? client_give(ret_error, &err, 0) : check_trust(client, head, uuid == NULL ? "" : uuid, public_key, ret_error);
    *ret_seq = rc == 0 ? read_number(head, "seq") : *ret_seq;
    json_decref(cluster);
    json_decref(heads);
    return rc;
}
