/* Enrolment: see enroll.h. On a good day: parse the token, make the key, one POST, check the certificates. Nothing is
 * written to disk here; the caller does that once everything is known to fit. */
#include "net/enroll.h"

#include "base/clock.h"
#include "net/incarnation.h"

#include "net/pki.h"
#include "net/join_token.h"

#include <curl/curl.h>
#include <jansson.h>
#include <openssl/pem.h>
#include <openssl/ssl.h>
#include <openssl/x509.h>
#include <stdlib.h>

enum { ANSWER_MAX = 256 * 1024, TRIED_MAX = 1024 * 1024 /* with events and changes */, CONNECT_MS = 5000, ANSWER_MS = 30000 };

/* ---- believing the server: its chain must end in the CA of the token ---- */

static bool is_token_ca(X509 *certificate, const uint8_t hash[32])
{
    unsigned char *der = NULL;
    int len = i2d_X509(certificate, &der);
    if (len <= 0) {
        return false;
    }
    uint8_t digest[32];
    far_pki_fingerprint(far_slice(der, (size_t)len), digest);
    OPENSSL_free(der);
    return memcmp(digest, hash, 32) == 0;
}

/* Nodes hold certificates of the same CA, but a join is answered by servers only. */
static bool is_server(X509 *certificate)
{
    char name[64] = "";
    struct far_peer named;
    int len = certificate == NULL ? -1
                                  : X509_NAME_get_text_by_NID(X509_get_subject_name(certificate), NID_commonName, name,
                                                              sizeof name);
    return len > 0 && far_peer_parse(name, (size_t)len, &named) && named.party == FAR_PARTY_SERVER;
}

/* Replaces the default verification of the handshake: the only trusted root is the one that the token names. */
static int verify_chain(X509_STORE_CTX *context, void *arg)
{
    const struct far_join_token *token = arg;
    STACK_OF(X509) *chain = X509_STORE_CTX_get0_untrusted(context);
    STACK_OF(X509) *roots = sk_X509_new_null();
    for (int i = 0; roots != NULL && i < sk_X509_num(chain); i++) {
        if (is_token_ca(sk_X509_value(chain, i), token->ca_hash)) {
            sk_X509_push(roots, sk_X509_value(chain, i));
        }
    }
    X509_STORE_CTX_set0_trusted_stack(context, roots);
    int ok = sk_X509_num(roots) > 0 && is_server(X509_STORE_CTX_get0_cert(context)) ? X509_verify_cert(context) : 0;
    if (ok <= 0 && X509_STORE_CTX_get_error(context) == X509_V_OK) {
        X509_STORE_CTX_set_error(context, X509_V_ERR_SELF_SIGNED_CERT_IN_CHAIN);
    }
    X509_STORE_CTX_set0_trusted_stack(context, NULL);
    sk_X509_free(roots);
    return ok > 0;
}

static CURLcode use_token_ca(CURL *curl, void *ssl_context, void *token)
{
    SSL_CTX_set_min_proto_version(ssl_context, TLS1_2_VERSION);
    SSL_CTX_set_cert_verify_callback(ssl_context, verify_chain, token);
    return CURLE_OK;
}

/* ---- the request ---- */

static void set_text(json_t *object, const char *name, const char *text)
{
    if (text != NULL) {
        json_object_set_new(object, name, json_string(text));
    }
}

static char *request_body(const struct far_enroll_request *request, struct far_slice csr_pem)
{
    json_t *object = json_object();
    set_text(object, "token", request->token);
    set_text(object, "party", request->party == FAR_PARTY_SERVER ? "server" : "node");
    set_text(object, "name", request->name);
    set_text(object, "api_address", request->api_address);
    set_text(object, "peer_address", request->peer_address);
    set_text(object, "data_address", request->data_address);
    json_object_set_new(object, "csr", json_stringn((const char *)csr_pem.data, csr_pem.len));
    if (request->seal_key != NULL) {
        char hex[65];
        far_hex_encode(request->seal_key, 32, hex);
        set_text(object, "seal_key", hex);
    }
    char *body = json_dumps(object, JSON_COMPACT);
    json_decref(object);
    return body;
}

static size_t gather(char *data, size_t size, size_t count, void *arg)
{
    return far_buf_append(arg, data, size * count) == 0 ? size * count : 0;
}

/* The server's own words, from problem+json; its class. */
static int refusal(long status, const struct far_buf *answer, struct far_error *err)
{
    json_t *problem = json_loadb((const char *)answer->data, answer->len, 0, NULL);
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    int klass = code == NULL ? FAR_INTERNAL : far_class_from_name(code);
    int rc = far_fail(err, klass == FAR_OK ? FAR_INTERNAL : klass, "the server refused the join: %s",
                      detail != NULL ? detail : "it gave no reason");
    json_decref(problem);
    return rc;
}

/* NULL: no memory. */
static struct curl_slist *headers_of(uint64_t feature_level)
{
    char level[64];
    struct curl_slist *first = curl_slist_append(NULL, "Content-Type: application/json");
    snprintf(level, sizeof level, "Farshore-Feature-Level: %llu", (unsigned long long)feature_level);
    struct curl_slist *both = first == NULL || feature_level == 0 ? first : curl_slist_append(first, level);
    if (both == NULL) {
        curl_slist_free_all(first);
    }
    return both;
}

/* A trial asks the state as of now: a server that is behind would not know a token that was just made. */
static const char join_path[] = "/v1/join", try_path[] = "/v1/join?dry_run=true&consistency=linearizable";

static int post(const char *address, const char *path, const char *body, uint64_t feature_level, const struct far_join_token *token,
                struct far_buf *answer, struct far_error *err)
{
    char url[FAR_JOIN_TOKEN_ADDRESS_BYTES_MAX + 40];
    char words[CURL_ERROR_SIZE] = "";
    snprintf(url, sizeof url, "https://%s%s", address, path);
    CURL *curl = curl_easy_init();
    struct curl_slist *headers = headers_of(feature_level);
    if (curl == NULL || headers == NULL) {
        curl_easy_cleanup(curl);
        curl_slist_free_all(headers);
        return far_fail(err, FAR_LIMIT, "no memory for a request");
    }
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_POSTFIELDS, body);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, gather);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, (long)ANSWER_MS);
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(curl, CURLOPT_SSL_VERIFYHOST, 0L); /* the token names the CA; the host may be any of the cluster */
    curl_easy_setopt(curl, CURLOPT_CAINFO, NULL); /* the machine's own are not asked, and may not be there */
    curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_FUNCTION, use_token_ca);
    curl_easy_setopt(curl, CURLOPT_SSL_CTX_DATA, token);
    CURLcode failed = curl_easy_perform(curl);
    long status = 0;
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &status);
    curl_slist_free_all(headers);
    curl_easy_cleanup(curl);
    if (failed == CURLE_PEER_FAILED_VERIFICATION || failed == CURLE_SSL_CONNECT_ERROR) {
        return far_fail(err, FAR_DENIED, "%s is not a server of the cluster that made this token: %s", address, words);
    }
    if (failed != CURLE_OK) {
        return far_fail(err, FAR_IO, "cannot reach %s: %s", address,
                        words[0] != '\0' ? words : curl_easy_strerror(failed));
    }
    return status >= 200 && status < 300 ? 0 : refusal(status, answer, err);
}

/* ---- the answer ---- */

static int take_pem(json_t *object, const char *name, struct far_buf *out, struct far_error *err)
{
    json_t *value = json_object_get(object, name);
    const char *text = json_string_value(value);
    if (text == NULL || far_buf_append(out, text, json_string_length(value)) != 0) {
        return far_fail(err, FAR_INVALID, "the answer has no %s", name);
    }
    return 0;
}

static int take_servers(json_t *list, struct far_enrolment *out, struct far_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        json_int_t id = json_integer_value(json_object_get(item, "id"));
        const char *address = json_string_value(json_object_get(item, "address"));
        if (i >= FAR_ENROLL_SERVERS_MAX || id <= 0 || address == NULL ||
            strlen(address) >= sizeof out->servers[i].address) {
            return far_fail(err, FAR_INVALID, "the answer's list of servers is not well formed");
        }
        out->servers[i].id = (uint64_t)id;
        strcpy(out->servers[i].address, address);
        out->server_count = i + 1;
    }
    return out->server_count > 0 ? 0 : far_fail(err, FAR_INVALID, "the answer names no server");
}

static bool take_hex(json_t *object, const char *name, uint8_t *out, size_t size)
{
    const char *text = json_string_value(json_object_get(object, name));
    return text != NULL && far_hex_decode(text, strlen(text), out, size);
}

/* A server of 0.1.0 sends none. */
static int take_incarnations(json_t *list, struct far_enrolment *out, struct far_error *err)
{
    size_t i;
    json_t *item;
    json_array_foreach(list, i, item)
    {
        struct far_enroll_incarnation *one = &out->incarnations[i];
        json_int_t epoch = json_integer_value(json_object_get(item, "epoch"));
        json_int_t parent = json_integer_value(json_object_get(item, "parent_seq"));
        json_int_t sure = json_integer_value(json_object_get(item, "sure_seq"));
        if (i >= FAR_ENROLL_INCARNATIONS_MAX || epoch < 2 || parent < 0 || sure < 0 ||
            !take_hex(item, "uuid", one->uuid, 16) || !take_hex(item, "parent_head", one->parent_head, 32) ||
            !take_hex(item, "sure_head", one->sure_head, 32)) {
            return far_fail(err, FAR_INVALID, "the answer's list of incarnations is not well formed");
        }
        one->epoch = (uint64_t)epoch;
        one->parent_seq = (uint64_t)parent;
        one->sure_seq = (uint64_t)sure;
        out->incarnation_count = i + 1;
    }
    return 0;
}

int far_enroll_save_incarnation(const char *dir, const struct far_enrolment *enrolment, struct far_error *err)
{
    struct far_incarnation incarnation = {.reason = FAR_INCARNATION_FOLLOWED, .epoch = enrolment->incarnation_epoch,
                                          .made_ms = far_clock_wall_ms()};
    memcpy(incarnation.cluster_uuid, enrolment->cluster_uuid, 16);
    for (size_t i = 0; i < enrolment->incarnation_count; i++) {
        if (enrolment->incarnations[i].epoch == enrolment->incarnation_epoch) {
            memcpy(incarnation.uuid, enrolment->incarnations[i].uuid, 16);
            return far_incarnation_save(dir, &incarnation, err);
        }
    }
    return 0;
}

/* Servers of before level 4 send none. */
static int take_vault(const json_t *value, struct far_enrolment *out, struct far_error *err)
{
    const char *text = json_is_string(value) ? json_string_value(value) : "";
    if (strlen(text) + 1 >= sizeof out->vault || strchr(text, '\n') != NULL) {
        return far_fail(err, FAR_INVALID, "what the answer says of the vault is not well formed");
    }
    snprintf(out->vault, sizeof out->vault, "%s%s", text, text[0] != '\0' ? "\n" : "");
    return 0;
}

static int take_answer(json_t *object, struct far_enrolment *out, struct far_error *err)
{
    json_int_t id = json_integer_value(json_object_get(object, "id"));
    json_int_t epoch = json_integer_value(json_object_get(object, "incarnation_epoch"));
    const char *uuid = json_string_value(json_object_get(object, "cluster_uuid"));
    const char *cluster = json_string_value(json_object_get(object, "cluster"));
    if (id <= 0 || epoch < 0 || uuid == NULL || cluster == NULL || strlen(cluster) >= sizeof out->cluster ||
        !far_hex_decode(uuid, strlen(uuid), out->cluster_uuid, sizeof out->cluster_uuid)) {
        return far_fail(err, FAR_INVALID, "the answer to the join is not well formed");
    }
    out->id = (uint64_t)id;
    out->incarnation_epoch = (uint64_t)epoch;
    strcpy(out->cluster, cluster);
    int rc = take_pem(object, "certificate", &out->certificate_pem, err);
    if (rc == 0) {
        rc = take_pem(object, "ca_certificate", &out->ca_pem, err);
    }
    rc = rc != 0 ? rc : take_incarnations(json_object_get(object, "incarnations"), out, err);
    rc = rc != 0 ? rc : take_vault(json_object_get(object, "vault"), out, err);
    return rc != 0 ? rc : take_servers(json_object_get(object, "servers"), out, err);
}

static void init(struct far_enrolment *enrolment)
{
    memset(enrolment, 0, sizeof *enrolment);
    far_buf_init(&enrolment->key_pem, FAR_PKI_BYTES_MAX);
    far_buf_init(&enrolment->certificate_pem, (size_t)FAR_PKI_BYTES_MAX * 2);
    far_buf_init(&enrolment->ca_pem, FAR_PKI_BYTES_MAX);
}

void far_enroll_done(struct far_enrolment *enrolment)
{
    if (enrolment != NULL) {
        far_secret_done(&enrolment->key_pem);
        far_buf_done(&enrolment->certificate_pem);
        far_buf_done(&enrolment->ca_pem);
    }
}

int far_enroll_parse(const char *json, size_t len, struct far_enrolment *ret_enrolment, struct far_error *err)
{
    struct far_enrolment out;
    init(&out);
    json_t *object = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    int rc = json_is_object(object) ? take_answer(object, &out, err)
                                    : far_fail(err, FAR_INVALID, "the answer to the join is not JSON");
    json_decref(object);
    if (rc != 0) {
        far_enroll_done(&out);
        return rc;
    }
    *ret_enrolment = out;
    return 0;
}

/* Does everything fit together: the key, the certificate, the CA, and the CA that the token named? The chain then goes
 * into the certificate's file. */
static int check(const struct far_enroll_request *request, const struct far_join_token *token,
                 struct far_enrolment *enrolment, struct far_error *err)
{
    struct far_buf ca_der, own_der;
    struct far_peer who = {.party = request->party, .id = enrolment->id};
    uint8_t fingerprint[32];
    far_buf_init(&ca_der, FAR_PKI_BYTES_MAX);
    far_buf_init(&own_der, FAR_PKI_BYTES_MAX);
    int rc = far_pki_pem_to_der(far_buf_slice(&enrolment->ca_pem), &ca_der, err);
    if (rc == 0) {
        rc = far_pki_pem_to_der(far_buf_slice(&enrolment->certificate_pem), &own_der, err);
    }
    if (rc == 0) {
        far_pki_fingerprint(far_buf_slice(&ca_der), fingerprint);
        if (memcmp(fingerprint, token->ca_hash, 32) != 0) {
            rc = far_fail(err, FAR_DENIED, "the server answered with another CA than the token's");
        }
    }
    if (rc == 0) {
        rc = far_pki_check(far_buf_slice(&enrolment->key_pem), far_buf_slice(&own_der), far_buf_slice(&ca_der), who,
                           err);
    }
    if (rc == 0 && far_buf_append(&enrolment->certificate_pem, enrolment->ca_pem.data, enrolment->ca_pem.len) != 0) {
        rc = far_fail(err, FAR_LIMIT, "the certificate chain is too long");
    }
    far_buf_done(&ca_der);
    far_buf_done(&own_der);
    return rc;
}

/* PEM of a request: what the API takes. */
static int request_pem(struct far_slice der, struct far_buf *ret_pem, struct far_error *err)
{
    const unsigned char *at = der.data;
    X509_REQ *req = d2i_X509_REQ(NULL, &at, (long)der.len);
    BIO *bio = BIO_new(BIO_s_mem());
    char *text = NULL;
    int rc = FAR_LIMIT;
    if (req != NULL && bio != NULL && PEM_write_bio_X509_REQ(bio, req) == 1) {
        long len = BIO_get_mem_data(bio, &text);
        rc = far_buf_append(ret_pem, text, (size_t)len);
    }
    BIO_free(bio);
    X509_REQ_free(req);
    return rc == 0 ? 0 : far_fail(err, rc, "cannot write the certificate request");
}

/* The first answer that one of the token's servers gives. */
static int ask(const struct far_enroll_request *request, const char *path, const struct far_join_token *token,
               struct far_slice csr_pem, struct far_buf *answer, struct far_error *err)
{
    char *body = request_body(request, csr_pem);
    if (body == NULL) {
        return far_fail(err, FAR_INVALID, "the join request holds text that is not UTF-8");
    }
    int rc = far_fail(err, FAR_IO, "the token names no server");
    for (size_t i = 0; i < token->address_count; i++) {
        far_buf_reset(answer);
        rc = post(token->addresses[i], path, body, request->feature_level, token, answer, err);
        if (rc != FAR_IO && rc != FAR_BUSY && rc != FAR_NOT_LEADER) {
            break; /* an answer; a token is used up by the first good one, so nobody else is asked after it */
        }
    }
    free(body);
    return rc;
}

/* A new key, what asks to have it certified, and the answer to that. */
static int make_and_ask(const struct far_enroll_request *request, const char *path, const struct far_join_token *token,
                        struct far_buf *ret_key, struct far_buf *answer, struct far_error *err)
{
    struct far_buf der, pem;
    far_buf_init(&der, FAR_PKI_BYTES_MAX);
    far_buf_init(&pem, FAR_PKI_BYTES_MAX);
    int rc = far_pki_key_make(ret_key, err);
    rc = rc != 0 ? rc : far_pki_request_make(far_buf_slice(ret_key), &der, err);
    rc = rc != 0 ? rc : request_pem(far_buf_slice(&der), &pem, err);
    rc = rc != 0 ? rc : ask(request, path, token, far_buf_slice(&pem), answer, err);
    far_buf_done(&der);
    far_buf_done(&pem);
    return rc;
}

int far_enroll(const struct far_enroll_request *request, struct far_enrolment *ret_enrolment, struct far_error *err)
{
    struct far_join_token token;
    struct far_buf key, answer;
    struct far_enrolment enrolment;
    int rc = far_join_token_parse(request->token, strlen(request->token), &token, err);
    if (rc != 0) {
        return rc;
    }
    init(&enrolment);
    far_buf_init(&key, FAR_PKI_BYTES_MAX);
    far_buf_init(&answer, ANSWER_MAX);
    rc = make_and_ask(request, join_path, &token, &key, &answer, err);
    rc = rc != 0 ? rc : far_enroll_parse((const char *)answer.data, answer.len, &enrolment, err);
    rc = rc != 0 ? rc : far_buf_append(&enrolment.key_pem, key.data, key.len);
    rc = rc != 0 ? rc : check(request, &token, &enrolment, err);
    far_secret_done(&key);
    far_buf_done(&answer);
    if (rc != 0) {
        far_enroll_done(&enrolment);
        return rc;
    }
    *ret_enrolment = enrolment;
    return 0;
}

int far_enroll_parse_cluster(const char *json, size_t len, struct far_enroll_cluster *ret_cluster, struct far_error *err)
{
    json_t *object = json_loadb(json, len, JSON_REJECT_DUPLICATES, NULL);
    json_int_t epoch = json_integer_value(json_object_get(object, "incarnation_epoch"));
    struct far_enroll_cluster cluster = {.incarnation_epoch = epoch > 0 ? (uint64_t)epoch : 0};
    bool good = epoch > 0 && take_hex(object, "cluster_uuid", cluster.uuid, sizeof cluster.uuid);
    json_decref(object);
    if (!good) {
        return far_fail(err, FAR_INVALID, "the answer does not say which cluster it is from");
    }
    *ret_cluster = cluster;
    return 0;
}

/* Version 0.1.0 has no trials, and says so in these words. */
static int check_knows_trials(int rc, struct far_error *err)
{
    return rc == FAR_INVALID && strstr(err->message, "unknown argument 'dry_run'") != NULL
               ? far_fail(err, FAR_NOT_FOUND, "the server that was asked is of a version that cannot try a join out")
               : rc;
}

int far_enroll_try(const struct far_enroll_request *request, struct far_enroll_cluster *ret_cluster, struct far_error *err)
{
    struct far_join_token token;
    struct far_buf key, answer;
    struct far_error why = {0};
    int rc = far_join_token_parse(request->token, strlen(request->token), &token, err);
    if (rc != 0) {
        return rc;
    }
    far_buf_init(&key, FAR_PKI_BYTES_MAX);
    far_buf_init(&answer, TRIED_MAX);
    rc = check_knows_trials(make_and_ask(request, try_path, &token, &key, &answer, &why), &why);
    if (rc != 0 && err != NULL) {
        *err = why;
    }
    rc = rc != 0 ? rc : far_enroll_parse_cluster((const char *)answer.data, answer.len, ret_cluster, err);
    far_secret_done(&key);
    far_buf_done(&answer);
    return rc;
}
