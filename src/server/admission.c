/* Admission: see admission.h. One struct a join; its steps are: check, propose, sign, seal (servers), answer. */
#include "server/admission.h"

#include "base/logging.h"
#include "fsm/query.h"
#include "net/address.h"
#include "net/pki.h"
#include "net/join_token.h"
#include "server/link.h"
#include "server/secrets.h"

#include <openssl/pem.h>
#include <openssl/x509.h>
#include <stdlib.h>

enum { PROPOSE_TIMEOUT_MS = 10000, ARENA_MAX = 256 * 1024, SEALED_MAX = 1400, NAME_MAX_BYTES = 256 };

struct far_admission {
    struct far_admission_config config;
};

struct join {
    struct far_admission *admission;
    far_api_join_done_fn done;
    void *arg;
    enum far_party party;
    char name[NAME_MAX_BYTES];
    char api_address[NAME_MAX_BYTES];
    char peer_address[NAME_MAX_BYTES];
    char data_address[NAME_MAX_BYTES];
    uint8_t seal_key[32];
    uint64_t feature_level; /* of a server's program */
    uint8_t token_hash[32];
    uint8_t fingerprint[32];       /* SHA-256 of the public key */
    struct far_buf csr_der;
    struct far_buf certificate_pem;
    uint64_t id;                   /* given by the log */
    size_t secrets_left;           /* to seal to a new server */
    struct far_error failure;
};

static const char *const secrets[] = {FAR_SECRET_CA_KEY, FAR_SECRET_MASTER_KEY};
enum { SECRET_COUNT = 2 };

static void join_free(struct join *join)
{
    if (join != NULL) {
        far_buf_done(&join->csr_der);
        far_buf_done(&join->certificate_pem);
        free(join);
    }
}

static void join_fail(struct join *join, const struct far_error *err)
{
    far_logf(FAR_LEVEL_WARN, "join", "'%s' may not join: %s", join->name, err->message);
    join->done(join->arg, err, NULL);
    join_free(join);
}

/* ---- reading the request ---- */

static bool copy_text(const char *text, char out[NAME_MAX_BYTES])
{
    size_t len = text == NULL ? 0 : strlen(text);
    if (len >= NAME_MAX_BYTES) {
        return false;
    }
    memcpy(out, text == NULL ? "" : text, len + 1);
    return true;
}

/* host of host:port, or of [host]:port, into host. */
static void host_of(const char *address, char host[NAME_MAX_BYTES])
{
    const char *colon = strrchr(address, ':');
    size_t len = colon == NULL ? strlen(address) : (size_t)(colon - address);
    if (len >= 2 && address[0] == '[' && address[len - 1] == ']') {
        address++;
        len -= 2;
    }
    memcpy(host, address, len);
    host[len] = '\0';
}

/* The hosts of the addresses that were given. */
static size_t hosts_of(const struct join *join, char hosts[3][NAME_MAX_BYTES], const char *ret_names[3])
{
    size_t count = 0;
    const char *const addresses[3] = {join->api_address, join->peer_address, join->data_address};
    for (size_t i = 0; i < 3; i++) {
        if (addresses[i][0] != '\0') {
            host_of(addresses[i], hosts[count]);
            ret_names[count] = hosts[count];
            count++;
        }
    }
    return count;
}

/* The addresses that this party must have are ones. */
static int check_addresses(const struct join *join, struct far_error *err)
{
    struct far_address parsed;
    int rc = 0;
    if (join->party == FAR_PARTY_NODE) {
        return join->data_address[0] != '\0' ? far_address_parse(join->data_address, &parsed, err) : 0; /* none: it only dials */
    }
    rc = far_address_parse(join->api_address, &parsed, err);
    return rc == 0 ? far_address_parse(join->peer_address, &parsed, err) : rc;
}

/* PEM request to DER and the SHA-256 of its public key. */
static int take_csr(struct join *join, const char *pem, struct far_error *err)
{
    BIO *bio = BIO_new_mem_buf(pem, (int)strlen(pem));
    X509_REQ *req = bio == NULL ? NULL : PEM_read_bio_X509_REQ(bio, NULL, NULL, NULL);
    unsigned char *der = NULL;
    unsigned char *key = NULL;
    int der_len = req == NULL ? -1 : i2d_X509_REQ(req, &der);
    int key_len = req == NULL ? -1 : i2d_X509_PUBKEY(X509_REQ_get_X509_PUBKEY(req), &key);
    int rc = 0;
    if (der_len <= 0 || key_len <= 0 || far_buf_append(&join->csr_der, der, (size_t)der_len) != 0) {
        rc = far_fail(err, FAR_INVALID, "the certificate request is not well formed");
    } else {
        far_pki_fingerprint(far_slice(key, (size_t)key_len), join->fingerprint);
    }
    OPENSSL_free(der);
    OPENSSL_free(key);
    X509_REQ_free(req);
    BIO_free(bio);
    return rc;
}

static int take_request(struct join *join, const struct far_api_join_request *request, struct far_error *err)
{
    struct far_join_token token;
    if (!copy_text(request->name, join->name) || !copy_text(request->api_address, join->api_address) ||
        !copy_text(request->peer_address, join->peer_address) ||
        !copy_text(request->data_address, join->data_address)) {
        return far_fail(err, FAR_INVALID, "a name or address of the join is too long");
    }
    if (strcmp(request->party, "server") == 0) {
        join->party = FAR_PARTY_SERVER;
    } else if (strcmp(request->party, "node") == 0) {
        join->party = FAR_PARTY_NODE;
    } else {
        return far_fail(err, FAR_INVALID, "who joins is a server or a node, not '%.32s'", request->party);
    }
    memcpy(join->seal_key, request->seal_key, sizeof join->seal_key);
    join->feature_level = request->feature_level;
    int rc = check_addresses(join, err);
    rc = rc == 0 ? far_join_token_parse(request->token, strlen(request->token), &token, err) : rc;
    if (rc != 0) {
        return rc;
    }
    far_token_hash(token.secret, join->token_hash);
    rc = take_csr(join, request->csr, err);
    char hosts[3][NAME_MAX_BYTES];
    const char *names[3];
    size_t count = hosts_of(join, hosts, names);
    return rc == 0 ? far_pki_request_check(far_buf_slice(&join->csr_der), names, count, err) : rc;
}

/* A server whose program does not know the cluster's level would stop before the first entry of it: it had better never join. */
static int check_level(const struct join *join, struct far_state *state, struct far_arena *arena, struct far_error *err)
{
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = join->party == FAR_PARTY_SERVER ? far_state_get(state, &far_schema_row_cluster, &key, arena, &cluster, err) : 0;
    if (rc != 0 || join->party != FAR_PARTY_SERVER || join->feature_level >= cluster.feature_level) {
        return rc;
    }
    return far_fail(err, FAR_CONFLICT, "the program of server '%s' is too old for this cluster: it knows feature level %llu, the "
                    "cluster is at %llu; install a newer version and join again with the same token", join->name,
                    (unsigned long long)join->feature_level, (unsigned long long)cluster.feature_level);
}

/* Is the token good now? The log has the last word; this spares it the entry. */
static int check_token(struct join *join, struct far_error *err)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_row_token token;
    struct far_row_progress progress = {0};
    struct far_key key = far_key(&far_schema_row_progress);
    uint64_t purpose =
        join->party == FAR_PARTY_SERVER ? FAR_token_purpose_join_server : FAR_token_purpose_join_node;
    int rc = far_log_view_begin(join->admission->config.log, &view, err);
    if (rc != 0) {
        return rc;
    }
    far_arena_init(&arena, ARENA_MAX);
    rc = far_state_get(&view.state, &far_schema_row_progress, &key, &arena, &progress, err);
    if (rc == 0) {
        rc = far_query_token(&view.state, far_slice(join->token_hash, 32), purpose, progress.time_ms, &arena, &token,
                             err);
    }
    rc = rc != 0 ? rc : check_level(join, &view.state, &arena, err);
    far_arena_done(&arena);
    far_log_view_end(&view);
    return rc;
}

/* ---- signing ---- */

static int sign(struct join *join, struct far_state *state, struct far_slice ca_der, struct far_error *err)
{
    struct far_buf ca_key, der;
    char hosts[3][NAME_MAX_BYTES];
    const char *names[3];
    size_t count = hosts_of(join, hosts, names);
    struct far_peer who = {.party = join->party, .id = join->id};
    far_buf_init(&ca_key, FAR_PKI_BYTES_MAX);
    far_buf_init(&der, FAR_PKI_BYTES_MAX);
    int rc = far_secrets_open(state, FAR_SECRET_CA_KEY, join->admission->config.server_id,
                              join->admission->config.seal_key, &ca_key, err);
    if (rc == 0) {
        rc = far_pki_sign(far_buf_slice(&ca_key), ca_der, far_buf_slice(&join->csr_der), who, names, count, &der, err);
    }
    if (rc == 0) {
        rc = far_pki_der_to_pem(far_buf_slice(&der), &join->certificate_pem, err);
    }
    far_secret_done(&ca_key);
    far_buf_done(&der);
    return rc;
}

/* ---- the answer ---- */

/* A NUL-terminated copy in the arena, or NULL. */
static const char *text_of(struct far_slice slice, struct far_arena *arena)
{
    char *text = far_arena_alloc(arena, slice.len + 1);
    if (text != NULL && slice.len > 0) {
        memcpy(text, slice.data, slice.len);
    }
    return text;
}

static int list_servers(struct far_state *state, struct far_arena *arena, struct far_api_join_answer *answer,
                        struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_server);
    struct far_row_server row;
    int rc = 0;
    while (answer->server_count < FAR_LOG_MEMBERS_MAX &&
           (rc = far_state_next(state, &far_schema_row_server, &key, arena, NULL, &row, err)) == 0) {
        if (row.role == FAR_server_role_removed) {
            continue;
        }
        const char *address = text_of(row.peer_address, arena);
        if (address == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for the list of servers");
        }
        answer->server_ids[answer->server_count] = row.id;
        answer->server_addresses[answer->server_count++] = address;
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* The newest ones that the answer has room for. */
static int list_incarnations(struct far_state *state, struct far_arena *arena, struct far_api_join_answer *answer,
                             struct far_error *err)
{
    struct far_key key = far_key(&far_schema_row_incarnation);
    struct far_row_incarnation row;
    int rc;
    while ((rc = far_state_next(state, &far_schema_row_incarnation, &key, arena, NULL, &row, err)) == 0) {
        if (row.uuid.len != 16 || row.parent_head.len != 32 || row.sure_head.len != 32) {
            continue;
        }
        if (answer->incarnation_count == FAR_API_INCARNATIONS_MAX) {
            answer->incarnation_count--;
            memmove(answer->incarnations, answer->incarnations + 1,
                    answer->incarnation_count * sizeof answer->incarnations[0]);
        }
        struct far_api_incarnation *one = &answer->incarnations[answer->incarnation_count++];
        *one = (struct far_api_incarnation){.epoch = row.epoch, .parent_seq = row.parent_seq, .sure_seq = row.sure_seq};
        memcpy(one->uuid, row.uuid.data, 16);
        memcpy(one->parent_head, row.parent_head.data, 32);
        memcpy(one->sure_head, row.sure_head.data, 32);
    }
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

/* By which keys the vault is believed of a node whose place is taken. */
static int find_vault(const struct join *join, struct far_state *state, struct far_arena *arena, struct far_api_join_answer *answer,
                      struct far_error *err)
{
    struct far_slice text = {0};
    int rc = far_link_vault_of(state, join->id, arena, &text, err);
    answer->vault = rc == 0 ? text_of(text, arena) : NULL;
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

static int fill_answer(struct join *join, struct far_log_view *view, struct far_arena *arena,
                       struct far_api_join_answer *answer, struct far_buf *ca_pem, struct far_error *err)
{
    struct far_row_cluster cluster;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_state_get(&view->state, &far_schema_row_cluster, &key, arena, &cluster, err);
    if (rc != 0) {
        return rc;
    }
    answer->id = join->id;
    answer->incarnation_epoch = cluster.incarnation_epoch;
    answer->cluster = text_of(cluster.name, arena);
    memcpy(answer->cluster_uuid, cluster.uuid.data, cluster.uuid.len < 16 ? cluster.uuid.len : 16);
    if (answer->cluster == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the answer");
    }
    rc = sign(join, &view->state, cluster.ca_certificate, err);
    if (rc == 0) {
        rc = far_pki_der_to_pem(cluster.ca_certificate, ca_pem, err);
    }
    if (rc == 0) {
        rc = far_buf_append(ca_pem, "", 1);
    }
    if (rc == 0) {
        rc = far_buf_append(&join->certificate_pem, "", 1);
    }
    answer->certificate = (const char *)join->certificate_pem.data;
    answer->ca_certificate = (const char *)ca_pem->data;
    rc = rc == 0 ? list_incarnations(&view->state, arena, answer, err) : rc;
    rc = rc == 0 && join->party == FAR_PARTY_NODE ? find_vault(join, &view->state, arena, answer, err) : rc;
    return rc == 0 ? list_servers(&view->state, arena, answer, err) : rc;
}

static void answer_join(struct join *join)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_buf ca_pem;
    struct far_api_join_answer answer = {0};
    struct far_error err = {0};
    if (far_log_view_begin(join->admission->config.log, &view, &err) != 0) {
        join_fail(join, &err);
        return;
    }
    far_arena_init(&arena, ARENA_MAX);
    far_buf_init(&ca_pem, FAR_PKI_BYTES_MAX);
    int rc = fill_answer(join, &view, &arena, &answer, &ca_pem, &err);
    far_log_view_end(&view);
    if (rc == 0) {
        far_logf(FAR_LEVEL_INFO, "join", "'%s' joined as number %llu", join->name, (unsigned long long)join->id);
        join->done(join->arg, &(struct far_error){0}, &answer);
        join_free(join);
    } else {
        join_fail(join, &err);
    }
    far_buf_done(&ca_pem);
    far_arena_done(&arena);
}

/* ---- sealing to a new server ---- */

static void on_secret_set(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct join *join = arg;
    if (result->klass != 0 && join->failure.klass == 0) {
        far_fail(&join->failure, result->klass, "%s", result->message);
    }
    if (--join->secrets_left > 0) {
        return;
    }
    if (join->failure.klass != 0) {
        join_fail(join, &join->failure);
        return;
    }
    answer_join(join);
}

/* Open the secret with our key and seal it to the new server's. */
static int reseal(struct join *join, struct far_state *state, const char *name, struct far_buf *out,
                  struct far_error *err)
{
    struct far_buf plain;
    far_buf_init(&plain, FAR_PKI_BYTES_MAX);
    int rc = far_secrets_open(state, name, join->admission->config.server_id, join->admission->config.seal_key, &plain,
                              err);
    if (rc == 0) {
        rc = far_secrets_seal(name, join->id, join->seal_key, far_buf_slice(&plain), out, err);
    }
    far_secret_done(&plain);
    return rc;
}

static int propose_secret(struct join *join, struct far_state *state, const char *name, struct far_error *err)
{
    struct far_buf sealed, payload;
    far_buf_init(&sealed, SEALED_MAX);
    far_buf_init(&payload, 2 * SEALED_MAX);
    int rc = reseal(join, state, name, &sealed, err);
    if (rc == 0) {
        struct far_cmd_secret_set set = {
            .name = far_slice_str(name), .recipient_id = join->id, .sealed = far_buf_slice(&sealed)};
        rc = far_schema_encode(&far_schema_cmd_secret_set, &set, &payload, err);
    }
    if (rc == 0) {
        struct far_command command = {.kind = FAR_KIND_cmd_secret_set,
                                      .actor = far_actor(FAR_ACTOR_SERVER, join->admission->config.server_id),
                                      .payload = far_buf_slice(&payload)};
        far_log_propose(join->admission->config.log, &command, PROPOSE_TIMEOUT_MS, on_secret_set, join);
    }
    far_buf_done(&sealed);
    far_buf_done(&payload);
    return rc;
}

static void seal_secrets(struct join *join)
{
    struct far_log_view view;
    struct far_error err = {0};
    if (far_log_view_begin(join->admission->config.log, &view, &err) != 0) {
        join_fail(join, &err);
        return;
    }
    join->secrets_left = SECRET_COUNT;
    for (size_t i = 0; i < SECRET_COUNT; i++) {
        if (propose_secret(join, &view.state, secrets[i], &err) != 0) {
            join->failure = err;
            join->secrets_left--;
        }
    }
    far_log_view_end(&view);
    if (join->secrets_left == 0) {
        join_fail(join, &join->failure);
    }
}

/* ---- proposing ---- */

static void on_joined(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct join *join = arg;
    if (result->klass != 0) {
        struct far_error err;
        far_fail(&err, result->klass, "%s", result->message);
        join_fail(join, &err);
        return;
    }
    join->id = result->object_id;
    if (join->party == FAR_PARTY_SERVER) {
        seal_secrets(join);
    } else {
        answer_join(join);
    }
}

static int encode_join(const struct join *join, struct far_buf *out, struct far_error *err)
{
    if (join->party == FAR_PARTY_SERVER) {
        struct far_cmd_server_join command = {.token_hash = far_slice(join->token_hash, 32),
                                              .name = far_slice_str(join->name),
                                              .api_address = far_slice_str(join->api_address),
                                              .peer_address = far_slice_str(join->peer_address),
                                              .seal_key = far_slice(join->seal_key, 32),
                                              .fingerprint = far_slice(join->fingerprint, 32)};
        return far_schema_encode(&far_schema_cmd_server_join, &command, out, err);
    }
    struct far_cmd_node_join command = {.token_hash = far_slice(join->token_hash, 32),
                                        .name = far_slice_str(join->name),
                                        .data_address = far_slice_str(join->data_address),
                                        .fingerprint = far_slice(join->fingerprint, 32)};
    return far_schema_encode(&far_schema_cmd_node_join, &command, out, err);
}

static int command_of(const struct join *join, struct far_command *ret_command, struct far_buf *payload,
                      struct far_error *err)
{
    int rc = encode_join(join, payload, err);
    if (rc == 0) {
        *ret_command = (struct far_command){
            .kind = join->party == FAR_PARTY_SERVER ? FAR_KIND_cmd_server_join : FAR_KIND_cmd_node_join,
            .actor = far_actor(FAR_ACTOR_SERVER, join->admission->config.server_id),
            .payload = far_buf_slice(payload)};
    }
    return rc;
}

static void propose_join(struct join *join)
{
    struct far_error err = {0};
    struct far_buf payload;
    struct far_command command;
    far_buf_init(&payload, FAR_COMMAND_PAYLOAD_MAX);
    int rc = check_token(join, &err);
    if (rc == 0) {
        rc = command_of(join, &command, &payload, &err);
    }
    if (rc != 0) {
        join_fail(join, &err);
    } else {
        far_log_propose(join->admission->config.log, &command, PROPOSE_TIMEOUT_MS, on_joined, join);
    }
    far_buf_done(&payload);
}

static void on_up_to_date(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct join *join = arg;
    if (result->klass != 0) {
        struct far_error err;
        far_fail(&err, result->klass, "%s", result->message);
        join_fail(join, &err);
        return;
    }
    propose_join(join);
}

/* The token may be younger than this server's state, and so may the secrets that it needs: it catches up first. */
void far_admission_join(struct far_admission *admission, const struct far_api_join_request *request,
                        far_api_join_done_fn done, void *arg)
{
    struct far_error err = {0};
    struct join *join = calloc(1, sizeof *join);
    if (join == NULL) {
        far_fail(&err, FAR_LIMIT, "no memory for a join");
        done(arg, &err, NULL);
        return;
    }
    *join = (struct join){.admission = admission, .done = done, .arg = arg};
    far_buf_init(&join->csr_der, FAR_PKI_BYTES_MAX);
    far_buf_init(&join->certificate_pem, FAR_PKI_BYTES_MAX);
    if (take_request(join, request, &err) != 0) {
        join_fail(join, &err);
        return;
    }
    far_log_barrier(admission->config.log, PROPOSE_TIMEOUT_MS, on_up_to_date, join);
}

int far_admission_command(struct far_admission *admission, const struct far_api_join_request *request,
                          struct far_command *ret_command, struct far_buf *payload, struct far_error *err)
{
    struct join join = {.admission = admission};
    far_buf_init(&join.csr_der, FAR_PKI_BYTES_MAX);
    int rc = take_request(&join, request, err);
    rc = rc != 0 ? rc : command_of(&join, ret_command, payload, err);
    far_buf_done(&join.csr_der);
    return rc;
}

/* ---- life ---- */

int far_admission_new(const struct far_admission_config *config, struct far_admission **ret_admission,
                      struct far_error *err)
{
    struct far_admission *admission = calloc(1, sizeof *admission);
    if (admission == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for admission");
    }
    admission->config = *config;
    *ret_admission = admission;
    return 0;
}

void far_admission_free(struct far_admission *admission)
{
    if (admission != NULL) {
        explicit_bzero(admission->config.seal_key, sizeof admission->config.seal_key);
        free(admission);
    }
}
