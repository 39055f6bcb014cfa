/* A server without its program: see server_alone.h. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "server_alone.h"
#include "remove_tree.h"

#include "base/file.h"
#include "base/logging.h"
#include "net/join_token.h"
#include "net/pki.h"
#include "net/seal.h"

#include <openssl/pem.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- the server ---- */

static void on_commit(void *arg, uint64_t applied_index, uint64_t last_seq)
{
    struct fixture *f = arg;
    if (f->link != NULL) {
        far_link_committed(f->link);
    }
    if (f->members != NULL) {
        far_members_changed(f->members);
    }
}

static void on_leader(void *arg, uint64_t leader_id, uint64_t term, bool is_self)
{
}

static void on_result(void *arg, const struct far_result *result, uint64_t applied_index)
{
    struct fixture *f = arg;
    f->answered = true;
    f->result = *result;
}

static uint64_t command_as(struct fixture *f, enum far_actor_kind kind, const struct far_schema *schema,
                           const void *object)
{
    struct far_buf payload;
    struct far_error err;
    far_buf_init(&payload, 8192);
    assert_int_equal(far_schema_encode(schema, object, &payload, &err), 0);
    struct far_command c = {
        .kind = schema->kind, .actor = far_actor(kind, 2), .payload = far_buf_slice(&payload)};
    f->answered = false;
    far_log_propose(f->log, &c, 1000, on_result, f);
    RUN_UNTIL(f, f->answered);
    far_buf_done(&payload);
    if (f->result.klass != 0) {
        print_error("%s: %s\n", schema->name, f->result.message);
    }
    assert_int_equal(f->result.klass, 0);
    return f->result.object_id;
}

uint64_t server_alone_command(struct fixture *f, const struct far_schema *schema, const void *object)
{
    return command_as(f, FAR_ACTOR_TOKEN, schema, object);
}

static void set_secret(struct fixture *f, const char *name, struct far_slice plain)
{
    struct far_error err;
    struct far_buf sealed;
    far_buf_init(&sealed, 2000);
    assert_int_equal(far_secrets_seal(name, 1, f->seal_public, plain, &sealed, &err), 0);
    struct far_cmd_secret_set set = {
        .name = far_slice_str(name), .recipient_id = 1, .sealed = far_buf_slice(&sealed)};
    server_alone_command(f, &far_schema_cmd_secret_set, &set);
    far_buf_done(&sealed);
}

static void found(struct fixture *f)
{
    struct far_error err;
    char path[64];
    struct far_buf pem;
    uint8_t zero[32] = {0};
    far_buf_init(&pem, 8192);
    far_buf_init(&f->ca, 8192);
    snprintf(path, sizeof path, "%s/ca.crt", f->pki_dir);
    assert_int_equal(far_file_read(path, &pem, &err), 0);
    assert_int_equal(far_pki_pem_to_der(far_buf_slice(&pem), &f->ca, &err), 0);
    assert_int_equal(far_seal_keypair(f->seal_public, f->seal_private, &err), 0);
    struct far_cmd_cluster_init init = {
        .name = far_slice_str("north"),
        .uuid = far_slice(f->pki.cluster_uuid, 16),
        .server_name = far_slice_str("a"),
        .api_address = far_slice_str("127.0.0.1:5000"),
        .peer_address = far_slice_str("127.0.0.1:5001"),
        .seal_key = far_slice(f->seal_public, 32),
        .fingerprint = far_slice(zero, 32),
        .ca_certificate = far_buf_slice(&f->ca),
        .admin_token_hash = far_slice(zero, 32),
        .recovery_public_key = far_slice(f->seal_public, 32),
    };
    server_alone_command(f, &far_schema_cmd_cluster_init, &init);
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    command_as(f, FAR_ACTOR_SERVER, &far_schema_cmd_feature_level_raise, &raise);
    far_buf_reset(&pem);
    snprintf(path, sizeof path, "%s/ca.key", f->pki_dir);
    assert_int_equal(far_file_read(path, &pem, &err), 0);
    set_secret(f, FAR_SECRET_CA_KEY, far_buf_slice(&pem));
    set_secret(f, FAR_SECRET_MASTER_KEY, far_slice(f->pki.cluster_uuid, 16));
    far_secret_done(&pem);
    struct far_cmd_site_create site = {.name = far_slice_str("west"), .role = FAR_site_role_recovery};
    server_alone_command(f, &far_schema_cmd_site_create, &site);
}

static void on_stream_open(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct fixture *f = arg;
    far_link_accept(f->link, peer.id, stream);
}

static void on_stream_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
}

static void on_stream_close(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct fixture *f = arg;
    f->refused = *why;
}

static const struct far_stream_callbacks accept_callbacks = {on_stream_open, on_stream_frame, on_stream_close};

int server_alone_set_up(void **state)
{
    struct fixture *f = calloc(1, sizeof *f);
    struct far_error err;
    far_log_level_set(FAR_LEVEL_ERROR);
    strcpy(f->dir, "/tmp/far-server-XXXXXX");
    strcpy(f->pki_dir, "/tmp/far-server-XXXXXX");
    assert_non_null(mkdtemp(f->dir));
    assert_non_null(mkdtemp(f->pki_dir));
    far_test_pki_init(&f->pki, f->pki_dir, 0x5a);
    f->net = far_test_pki_net(&f->pki, FAR_PARTY_SERVER, 1);
    uv_loop_init(&f->loop);
    struct far_log_config config = {.dir = f->dir, .server_id = 1, .address = "127.0.0.1:5001", .net = f->net};
    assert_int_equal(far_log_bootstrap(&config, &err), 0);
    assert_int_equal(far_log_open(&config, &f->loop, on_commit, on_leader, f, &f->log, &err), 0);
    found(f);
    far_peer_keys_watch(f->net, f->log);
    struct far_admission_config admission = {.log = f->log, .server_id = 1};
    memcpy(admission.seal_key, f->seal_private, 32);
    assert_int_equal(far_admission_new(&admission, &f->admission, &err), 0);
    assert_int_equal(far_link_new(f->log, &f->loop, &f->link, &err), 0);
    assert_int_equal(far_members_new(f->log, &f->loop, 1, &f->members, &err), 0);
    assert_int_equal(far_listener_new(f->net, &f->loop, "127.0.0.1:0", &accept_callbacks, f, &f->listener, &err), 0);
    *state = f;
    return 0;
}

static void on_part_closed(void *arg)
{
    (*(unsigned *)arg)--;
}

int server_alone_tear_down(void **state)
{
    struct fixture *f = *state;
    f->left_open = 4;
    far_net_check_keys(f->net, NULL, NULL);
    far_listener_close(f->listener, on_part_closed, &f->left_open);
    far_link_close(f->link, on_part_closed, &f->left_open);
    far_members_close(f->members, on_part_closed, &f->left_open);
    f->link = NULL;
    f->members = NULL;
    far_log_close(f->log, on_part_closed, &f->left_open);
    uv_run(&f->loop, UV_RUN_DEFAULT);
    assert_int_equal(f->left_open, 0);
    assert_int_equal(uv_loop_close(&f->loop), 0);
    far_admission_free(f->admission);
    far_net_free(f->net);
    far_buf_done(&f->ca);
    far_test_pki_done(&f->pki);
    far_test_remove_tree(f->dir);
    free(f);
    return 0;
}

/* ---- joins ---- */

/* A token for a party with this name; its text, as POST /v1/tokens would give it. */
void server_alone_token(struct fixture *f, const char *name, uint64_t purpose, char *text)
{
    struct far_error err;
    uint8_t hash[32];
    struct far_join_token token = {.address_count = 1};
    strcpy(token.addresses[0], "127.0.0.1:5000");
    memset(token.secret, 1 + (int)f->secrets_made++, sizeof token.secret);
    far_token_hash(token.secret, hash);
    struct far_cmd_token_create create = {.name = far_slice_str(name),
                                          .purpose = purpose,
                                          .hash = far_slice(hash, 32),
                                          .expires_ms = UINT64_MAX / 2,
                                          .site = far_slice_str("west")};
    server_alone_command(f, &far_schema_cmd_token_create, &create);
    assert_int_equal(far_join_token_print(&token, text, &err), 0);
}

static void on_join(void *arg, const struct far_error *error, const struct far_api_join_answer *answer)
{
    struct fixture *f = arg;
    f->answered = true;
    f->error = *error;
    if (answer != NULL) {
        f->joined_id = answer->id;
        snprintf(f->certificate, sizeof f->certificate, "%s", answer->certificate);
        snprintf(f->cluster, sizeof f->cluster, "%s", answer->cluster);
        assert_memory_equal(answer->cluster_uuid, f->pki.cluster_uuid, 16);
        assert_true(answer->server_count > 0);
    }
}

void server_alone_request(struct far_slice key, char pem[4096])
{
    struct far_error err;
    struct far_buf der;
    far_buf_init(&der, 4096);
    assert_int_equal(far_pki_request_make(key, &der, &err), 0);
    const unsigned char *at = der.data;
    X509_REQ *request = d2i_X509_REQ(NULL, &at, (long)der.len);
    BIO *bio = BIO_new(BIO_s_mem());
    assert_int_equal(PEM_write_bio_X509_REQ(bio, request), 1);
    int n = BIO_read(bio, pem, 4095);
    pem[n] = '\0';
    BIO_free(bio);
    X509_REQ_free(request);
    far_buf_done(&der);
}

int server_alone_join(struct fixture *f, const char *token, const char *party, const char *name, const char *csr,
                const uint8_t seal_key[32])
{
    bool is_server = strcmp(party, "server") == 0;
    struct far_api_join_request request = {
        .token = token,
        .csr = csr,
        .name = name,
        .party = party,
        .api_address = is_server ? "127.0.0.1:6000" : "",
        .peer_address = is_server ? "127.0.0.1:6001" : "",
        .data_address = is_server ? "" : "127.0.0.1:6002",
    };
    request.feature_level = f->feature_level != 0 ? f->feature_level : FAR_FEATURE_LEVEL;
    if (seal_key != NULL) {
        memcpy(request.seal_key, seal_key, 32);
    }
    f->answered = false;
    far_admission_join(f->admission, &request, on_join, f);
    RUN_UNTIL(f, f->answered);
    return f->error.klass;
}

/* What joined last has its key and certificate where far_test_pki_net() looks for them. */
static void keep_identity(struct fixture *f, const char *party, struct far_slice key)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s-%llu.key", f->pki_dir, party, (unsigned long long)f->joined_id);
    assert_int_equal(far_file_replace(path, key.data, key.len, 0600, NULL), 0);
    memcpy(path + strlen(path) - 4, ".crt", 4);
    assert_int_equal(far_file_replace(path, f->certificate, strlen(f->certificate), 0644, NULL), 0);
}

uint64_t server_alone_join_node(struct fixture *f, const char *name)
{
    struct far_error err;
    struct far_buf key = {.max = 4096};
    char csr[4096];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    server_alone_token(f, name, FAR_token_purpose_join_node, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    server_alone_request(far_buf_slice(&key), csr);
    assert_int_equal(server_alone_join(f, token, "node", name, csr, NULL), 0);
    keep_identity(f, "node", far_buf_slice(&key));
    far_secret_done(&key);
    return f->joined_id;
}
