/* src/server on a log of one server (lib/log_alone.c): joins, the nodes' link, membership, the folder. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "../lib/cm.h"
#include "../lib/made_pki.h"
#include "base/logging.h"
#include "net/pki.h"
#include "net/seal.h"
#include "net/join_token.h"
#include "server/admission.h"
#include "server/link.h"
#include "server/members.h"
#include "server/secrets.h"
#include "server/server.h"

#include <ftw.h>
#include <openssl/pem.h>
#include <stdlib.h>
#include <unistd.h>

struct fixture {
    char dir[32];
    char pki_dir[32];
    struct far_test_pki pki;
    struct far_net *net; /* server 1 */
    uv_loop_t loop;
    struct far_log *log;
    struct far_link *link;
    struct far_members *members;
    struct far_admission *admission;
    struct far_listener *listener;
    uint8_t seal_public[32];
    uint8_t seal_private[32];
    struct far_buf ca; /* DER */
    unsigned secrets_made;
    unsigned left_open;
    /* of the last proposal or join */
    bool answered;
    struct far_result result;
    struct far_error error;
    uint64_t joined_id;
    char certificate[4096];
    char cluster[64];
};

#define RUN_UNTIL(f, condition)                                          \
    do {                                                                 \
        uint64_t deadline_ns = uv_hrtime() + 10ull * 1000 * 1000 * 1000; \
        while (!(condition)) {                                           \
            assert_true(uv_hrtime() < deadline_ns);                      \
            uv_run(&(f)->loop, UV_RUN_NOWAIT);                           \
        }                                                                \
    } while (0)

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

static uint64_t command(struct fixture *f, const struct far_schema *schema, const void *object)
{
    struct far_buf payload;
    struct far_error err;
    far_buf_init(&payload, 8192);
    assert_int_equal(far_schema_encode(schema, object, &payload, &err), 0);
    struct far_command c = {
        .kind = schema->kind, .actor = far_actor(FAR_ACTOR_TOKEN, 2), .payload = far_buf_slice(&payload)};
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

static void set_secret(struct fixture *f, const char *name, struct far_slice plain)
{
    struct far_error err;
    struct far_buf sealed;
    far_buf_init(&sealed, 2000);
    assert_int_equal(far_secrets_seal(name, 1, f->seal_public, plain, &sealed, &err), 0);
    struct far_cmd_secret_set set = {
        .name = far_slice_str(name), .recipient_id = 1, .sealed = far_buf_slice(&sealed)};
    command(f, &far_schema_cmd_secret_set, &set);
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
        .recovery_key = far_slice(f->seal_public, 32),
    };
    command(f, &far_schema_cmd_cluster_init, &init);
    far_buf_reset(&pem);
    snprintf(path, sizeof path, "%s/ca.key", f->pki_dir);
    assert_int_equal(far_file_read(path, &pem, &err), 0);
    set_secret(f, FAR_SECRET_CA_KEY, far_buf_slice(&pem));
    set_secret(f, FAR_SECRET_MASTER_KEY, far_slice(f->pki.cluster_uuid, 16));
    far_secret_done(&pem);
    struct far_cmd_site_create site = {.name = far_slice_str("west"), .role = FAR_site_role_recovery};
    command(f, &far_schema_cmd_site_create, &site);
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
}

static const struct far_stream_callbacks accept_callbacks = {on_stream_open, on_stream_frame, on_stream_close};

static int set_up(void **state)
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

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static int tear_down(void **state)
{
    struct fixture *f = *state;
    f->left_open = 4;
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
    nftw(f->dir, remove_entry, 8, FTW_DEPTH | FTW_PHYS);
    free(f);
    return 0;
}

/* ---- joins ---- */

/* A token for a party with this name; its text, as POST /v1/tokens would give it. */
static void make_token(struct fixture *f, const char *name, uint64_t purpose, char *text)
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
    command(f, &far_schema_cmd_token_create, &create);
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

static void request_pem(struct far_slice key, char pem[4096])
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

static int join(struct fixture *f, const char *token, const char *party, const char *name, const char *csr,
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
    if (seal_key != NULL) {
        memcpy(request.seal_key, seal_key, 32);
    }
    f->answered = false;
    far_admission_join(f->admission, &request, on_join, f);
    RUN_UNTIL(f, f->answered);
    return f->error.klass;
}

static uint64_t join_new_node(struct fixture *f, const char *name)
{
    struct far_error err;
    struct far_buf key = {.max = 4096};
    char csr[4096];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    make_token(f, name, FAR_token_purpose_join_node, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    request_pem(far_buf_slice(&key), csr);
    assert_int_equal(join(f, token, "node", name, csr, NULL), 0);
    far_secret_done(&key);
    return f->joined_id;
}

static void a_node_joins_once_with_its_token(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_buf key = {.max = 4096};
    struct far_buf der = {.max = 4096};
    char csr[4096];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    make_token(f, "n1", FAR_token_purpose_join_node, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    request_pem(far_buf_slice(&key), csr);

    assert_int_equal(join(f, "nonsense", "node", "n1", csr, NULL), FAR_INVALID);
    assert_int_equal(join(f, token, "server", "n1", csr, f->seal_public), FAR_DENIED);
    assert_int_equal(join(f, token, "node", "n1", "no request", NULL), FAR_INVALID);
    assert_int_equal(join(f, token, "thing", "n1", csr, NULL), FAR_INVALID);
    assert_int_equal(join(f, token, "node", "n1", csr, NULL), 0);
    assert_string_equal(f->cluster, "north");
    assert_int_equal(far_pki_pem_to_der(far_slice_str(f->certificate), &der, &err), 0);
    struct far_peer who = {FAR_PARTY_NODE, f->joined_id};
    assert_int_equal(far_pki_check(far_buf_slice(&key), far_buf_slice(&der), far_buf_slice(&f->ca), who, &err), 0);
    assert_int_equal(join(f, token, "node", "n1", csr, NULL), FAR_DENIED);
    far_secret_done(&key);
    far_buf_done(&der);
}

static void row_of_server(struct fixture *f, uint64_t id, struct far_row_server *ret_row)
{
    struct far_log_view view;
    struct far_arena arena;
    struct far_error err;
    struct far_key key = far_key(&far_schema_row_server);
    far_key_u64(&key, id);
    far_arena_init(&arena, 65536);
    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    assert_int_equal(far_state_get(&view.state, &far_schema_row_server, &key, &arena, ret_row, &err), 0);
    far_log_view_end(&view);
    far_arena_done(&arena); /* only the numbers of the row are used */
}

static uint64_t role_of(struct fixture *f, uint64_t id)
{
    struct far_row_server row;
    row_of_server(f, id, &row);
    return row.role;
}

static void a_server_joins_can_open_the_secrets_and_becomes_a_voter(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_buf key = {.max = 4096};
    struct far_buf secret = {.max = 4096};
    struct far_log_view view;
    uint8_t public_key[32];
    uint8_t private_key[32];
    char csr[4096];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    make_token(f, "b", FAR_token_purpose_join_server, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    request_pem(far_buf_slice(&key), csr);
    assert_int_equal(join(f, token, "server", "b", csr, public_key), 0);
    uint64_t id = f->joined_id;

    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_MASTER_KEY, id, private_key, &secret, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&secret), far_slice(f->pki.cluster_uuid, 16)));
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_CA_KEY, id, private_key, &secret, &err), 0);
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_CA_KEY, id, f->seal_private, &secret, &err), FAR_DENIED);
    far_log_view_end(&view);
    RUN_UNTIL(f, role_of(f, id) == FAR_server_role_voter);

    struct far_cmd_server_role_set remove = {.name = far_slice_str("b"), .role = FAR_server_role_removed};
    command(f, &far_schema_cmd_server_role_set, &remove);
    RUN_UNTIL(f, role_of(f, id) == FAR_server_role_removed);
    struct far_log_status status;
    far_log_status(f->log, &status);
    assert_int_equal(status.member_count, 1);
    far_secret_done(&key);
    far_secret_done(&secret);
}

/* ---- the link, as a node sees it ---- */

struct node {
    struct fixture *f;
    struct far_net *net;
    struct far_stream *stream;
    uint64_t id;
    bool opened;
    bool closed;
    bool refused;
    char error_class[33];
    uint64_t boot;
    uint64_t lease_ms;
    size_t servers;
    uint64_t acked;
};

static void node_opened(void *arg, struct far_stream *stream, struct far_peer peer, enum far_purpose purpose)
{
    struct node *n = arg;
    n->opened = true;
}

static void copy_class(struct node *n, struct far_slice text)
{
    memset(n->error_class, 0, sizeof n->error_class);
    memcpy(n->error_class, text.data, text.len < 32 ? text.len : 32);
}

static void node_got_frame(void *arg, struct far_stream *stream, uint16_t type, struct far_slice payload)
{
    struct node *n = arg;
    struct far_arena arena;
    struct far_error err;
    far_arena_init(&arena, 1 << 20);
    if (type == FAR_KIND_msg_welcome) {
        struct far_msg_welcome welcome;
        assert_int_equal(far_schema_decode(&far_schema_msg_welcome, payload, &arena, &welcome, &err), 0);
        n->boot = welcome.boot;
        n->lease_ms = welcome.lease_ms;
        n->servers = welcome.servers.count;
    } else if (type == FAR_KIND_msg_report_ack) {
        struct far_msg_report_ack ack;
        assert_int_equal(far_schema_decode(&far_schema_msg_report_ack, payload, &arena, &ack, &err), 0);
        n->acked = ack.sequence;
        copy_class(n, ack.error_class);
    } else if (type == FAR_KIND_msg_refused) {
        struct far_msg_refused refused;
        assert_int_equal(far_schema_decode(&far_schema_msg_refused, payload, &arena, &refused, &err), 0);
        n->refused = true;
        copy_class(n, refused.error_class);
    }
    far_arena_done(&arena);
}

static void node_closed(void *arg, struct far_stream *stream, const struct far_error *why)
{
    struct node *n = arg;
    n->closed = true;
    n->stream = NULL;
}

static const struct far_stream_callbacks node_callbacks = {node_opened, node_got_frame, node_closed};

static void connect_node(struct fixture *f, uint64_t id, struct node *n)
{
    struct far_error err;
    *n = (struct node){.f = f, .id = id};
    n->net = far_test_pki_net(&f->pki, FAR_PARTY_NODE, id);
    assert_int_equal(far_stream_dial(n->net, &f->loop, far_listener_address(f->listener),
                                     (struct far_peer){FAR_PARTY_SERVER, 0}, FAR_PURPOSE_LINK, &node_callbacks, n,
                                     &n->stream, &err),
                     0);
    RUN_UNTIL(f, n->opened);
}

static void send_message(struct node *n, const struct far_schema *schema, const void *message)
{
    struct far_buf payload;
    far_buf_init(&payload, 8192);
    assert_int_equal(far_schema_encode(schema, message, &payload, NULL), 0);
    assert_int_equal(far_stream_send(n->stream, schema->kind, far_buf_slice(&payload)), 0);
    far_buf_done(&payload);
}

static void say_hello(struct node *n, uint64_t id, uint8_t nonce_byte)
{
    uint8_t nonce[16];
    memset(nonce, nonce_byte, sizeof nonce);
    struct far_msg_hello hello = {.node_id = id,
                                  .nonce = far_slice(nonce, 16),
                                  .data_address = far_slice_str("127.0.0.1:6002"),
                                  .version = far_slice_str("test")};
    send_message(n, &far_schema_msg_hello, &hello);
}

static void disconnect(struct node *n)
{
    if (n->stream != NULL) {
        far_stream_close(n->stream);
    }
    RUN_UNTIL(n->f, n->closed);
    far_net_free(n->net);
}

static void a_node_is_welcomed_and_its_reports_are_answered(void **state)
{
    struct fixture *f = *state;
    struct node n;
    uint64_t id = join_new_node(f, "n2");
    connect_node(f, id, &n);
    say_hello(&n, id, 7);
    RUN_UNTIL(f, n.boot != 0);
    assert_int_equal(n.lease_ms, 15000);
    assert_int_equal(n.servers, 1);
    struct far_msg_report report = {.sequence = 1};
    send_message(&n, &far_schema_msg_report, &report);
    RUN_UNTIL(f, n.acked == 1);
    assert_string_equal(n.error_class, "");
    uint64_t boot = n.boot;
    disconnect(&n);

    connect_node(f, id, &n); /* the same process again: the same boot */
    say_hello(&n, id, 7);
    RUN_UNTIL(f, n.boot != 0);
    assert_int_equal(n.boot, boot);
    disconnect(&n);
    connect_node(f, id, &n); /* another process */
    say_hello(&n, id, 8);
    RUN_UNTIL(f, n.boot != 0);
    assert_true(n.boot > boot);
    disconnect(&n);
}

static void the_newer_of_two_streams_of_a_node_stays(void **state)
{
    struct fixture *f = *state;
    struct node first;
    struct node second;
    uint64_t id = join_new_node(f, "n3");
    connect_node(f, id, &first);
    say_hello(&first, id, 1);
    RUN_UNTIL(f, first.boot != 0);
    connect_node(f, id, &second);
    say_hello(&second, id, 1);
    RUN_UNTIL(f, second.boot != 0 && first.closed);
    assert_false(second.closed);
    disconnect(&second);
    disconnect(&first);
}

static void whoever_is_unknown_or_out_of_turn_is_cut_off(void **state)
{
    struct fixture *f = *state;
    struct node n;
    connect_node(f, 4711, &n); /* a certificate, but no row */
    say_hello(&n, 4711, 1);
    RUN_UNTIL(f, n.refused && n.closed);
    assert_string_equal(n.error_class, "not_found");
    disconnect(&n);

    uint64_t id = join_new_node(f, "n4");
    connect_node(f, id, &n);
    say_hello(&n, id + 1, 1); /* in the name of somebody else */
    RUN_UNTIL(f, n.closed);
    assert_int_equal(n.boot, 0);
    disconnect(&n);

    connect_node(f, id, &n);
    struct far_msg_report report = {.sequence = 1};
    send_message(&n, &far_schema_msg_report, &report); /* before the hello */
    RUN_UNTIL(f, n.closed);
    disconnect(&n);

    connect_node(f, id, &n);
    assert_int_equal(far_stream_send(n.stream, FAR_KIND_msg_hello, far_slice("\xff\xff", 2)), 0);
    RUN_UNTIL(f, n.closed);
    disconnect(&n);
}

/* ---- the folder ---- */

static void config_is_what_was_saved(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_server_config config = {.server_id = 3, .incarnation_epoch = 2, .wal_bytes_max = 1 << 20};
    struct far_server_config back;
    uint8_t key[32];
    uint8_t key_back[32];
    char path[64];
    assert_int_equal(far_server_config_load(f->dir, &back, &err), FAR_NOT_FOUND);
    strcpy(config.name, "b");
    strcpy(config.cluster, "north");
    strcpy(config.api_address, "127.0.0.1:5000");
    strcpy(config.peer_address, "[::1]:5001");
    assert_int_equal(far_server_config_save(f->dir, &config, &err), 0);
    assert_int_equal(far_server_config_load(f->dir, &back, &err), 0);
    assert_memory_equal(&back, &config, sizeof back);
    assert_int_equal(far_server_folder_prepare(f->dir, &err), FAR_CONFLICT);
    memset(key, 0x3c, sizeof key);
    assert_int_equal(far_server_seal_key_save(f->dir, key, &err), 0);
    assert_int_equal(far_server_seal_key_load(f->dir, key_back, &err), 0);
    assert_memory_equal(key, key_back, 32);
    snprintf(path, sizeof path, "%s/seal.key", f->dir);
    assert_int_equal(truncate(path, 64), 0);
    assert_int_equal(far_server_seal_key_load(f->dir, key_back, &err), FAR_CORRUPT);
}

static void options_are_strict(void **unused)
{
    static const char *const names[] = {"--dir", "--x", NULL};
    struct far_error err;
    const char *values[2];
    char *unknown[] = {"run", "--dri", "a"};
    char *twice[] = {"run", "--dir", "a", "--dir", "b"};
    char *cut[] = {"run", "--dir"};
    char *missing[] = {"run", "--x", "1"};
    char *good[] = {"run", "--dir", "a"};
    assert_int_equal(far_server_options(3, unknown, names, 1, values, &err), FAR_INVALID);
    assert_int_equal(far_server_options(5, twice, names, 1, values, &err), FAR_INVALID);
    assert_int_equal(far_server_options(2, cut, names, 1, values, &err), FAR_INVALID);
    assert_int_equal(far_server_options(3, missing, names, 1, values, &err), FAR_INVALID);
    assert_int_equal(far_server_options(3, good, names, 1, values, &err), 0);
    assert_string_equal(values[0], "a");
    assert_null(values[1]);
}

static void a_port_of_0_becomes_a_free_one(void **unused)
{
    struct far_error err;
    char address[256];
    assert_int_equal(far_server_address_settle("127.0.0.1:0", address, &err), 0);
    assert_true(strncmp(address, "127.0.0.1:", 10) == 0 && strcmp(address, "127.0.0.1:0") != 0);
    assert_int_equal(far_server_address_settle("example.org:7", address, &err), 0);
    assert_string_equal(address, "example.org:7");
    assert_int_equal(far_server_address_settle("example.org", address, &err), FAR_INVALID);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_joins_once_with_its_token),
        cmocka_unit_test(a_server_joins_can_open_the_secrets_and_becomes_a_voter),
        cmocka_unit_test(a_node_is_welcomed_and_its_reports_are_answered),
        cmocka_unit_test(the_newer_of_two_streams_of_a_node_stays),
        cmocka_unit_test(whoever_is_unknown_or_out_of_turn_is_cut_off),
        cmocka_unit_test(config_is_what_was_saved),
        cmocka_unit_test(options_are_strict),
        cmocka_unit_test(a_port_of_0_becomes_a_free_one),
    };
    return cmocka_run_group_tests_name("server", tests, set_up, tear_down);
}
