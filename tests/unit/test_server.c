/* src/server on a log of one server: joins, membership, the folder. */
#include "../lib/server_alone.h"
#include "net/join_token.h"
#include "net/pki.h"
#include "net/seal.h"

#include <netdb.h>
#include <stdlib.h>
#include <unistd.h>

/* ---- joins ---- */

static void a_node_joins_once_with_its_token(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_buf key = {.max = 4096};
    struct far_buf der = {.max = 4096};
    char csr[4096];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    server_alone_token(f, "n1", FAR_token_purpose_join_node, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    server_alone_request(far_buf_slice(&key), csr);

    assert_int_equal(server_alone_join(f, "nonsense", "node", "n1", csr, NULL), FAR_INVALID);
    assert_int_equal(server_alone_join(f, token, "server", "n1", csr, f->seal_public), FAR_DENIED);
    assert_int_equal(server_alone_join(f, token, "node", "n1", "no request", NULL), FAR_INVALID);
    assert_int_equal(server_alone_join(f, token, "thing", "n1", csr, NULL), FAR_INVALID);
    char bad[4096];
    snprintf(bad, sizeof bad, "%s", csr);
    char *in_signature = strstr(bad, "\n-----END") - 8;
    *in_signature = *in_signature == 'A' ? 'B' : 'A';
    assert_int_equal(server_alone_join(f, token, "node", "n1", bad, NULL), FAR_INVALID); /* and the token is not spent */
    assert_int_equal(server_alone_join(f, token, "node", "n1", csr, NULL), 0);
    assert_string_equal(f->cluster, "north");
    assert_int_equal(far_pki_pem_to_der(far_slice_str(f->certificate), &der, &err), 0);
    struct far_peer who = {FAR_PARTY_NODE, f->joined_id};
    assert_int_equal(far_pki_check(far_buf_slice(&key), far_buf_slice(&der), far_buf_slice(&f->ca), who, &err), 0);
    assert_int_equal(server_alone_join(f, token, "node", "n1", csr, NULL), FAR_DENIED);
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
    server_alone_token(f, "b", FAR_token_purpose_join_server, token);
    assert_int_equal(far_pki_key_make(&key, &err), 0);
    assert_int_equal(far_seal_keypair(public_key, private_key, &err), 0);
    server_alone_request(far_buf_slice(&key), csr);
    f->feature_level = FAR_FEATURE_LEVEL - 1; /* a program that is too old spends no token */
    assert_int_equal(server_alone_join(f, token, "server", "b", csr, public_key), FAR_CONFLICT);
    assert_non_null(strstr(f->error.message, "too old for this cluster"));
    f->feature_level = 0;
    assert_int_equal(server_alone_join(f, token, "server", "b", csr, public_key), 0);
    uint64_t id = f->joined_id;

    assert_int_equal(far_log_view_begin(f->log, &view, &err), 0);
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_MASTER_KEY, id, private_key, &secret, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&secret), far_slice(f->pki.cluster_uuid, 16)));
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_CA_KEY, id, private_key, &secret, &err), 0);
    assert_int_equal(far_secrets_open(&view.state, FAR_SECRET_CA_KEY, id, f->seal_private, &secret, &err), FAR_DENIED);
    far_log_view_end(&view);
    RUN_UNTIL(f, role_of(f, id) == FAR_server_role_voter);

    struct far_cmd_server_role_set remove = {.name = far_slice_str("b"), .role = FAR_server_role_removed};
    server_alone_command(f, &far_schema_cmd_server_role_set, &remove);
    RUN_UNTIL(f, role_of(f, id) == FAR_server_role_removed);
    struct far_log_status status;
    far_log_status(f->log, &status);
    assert_int_equal(status.member_count, 1);
    far_secret_done(&key);
    far_secret_done(&secret);
}

/* ---- the folder ---- */

static void config_is_what_was_saved(void **state)
{
    struct fixture *f = *state;
    struct far_error err;
    struct far_server_config config = {.server_id = 3, .incarnation_epoch = 2, .wal_bytes_max = 1 << 20};
    struct far_server_config back;
    const struct far_new_folder_plan nothing = {.owner = "server", .files = (const char *const[]){NULL}};
    struct far_new_folder folder;
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
    assert_int_equal(far_new_folder_begin(f->dir, &nothing, &folder, &err), FAR_CONFLICT);
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

/* ---- where it listens ---- */

static void a_port_of_0_becomes_a_free_one(void **unused)
{
    struct far_error err;
    struct far_server_config c;
    assert_int_equal(far_server_addresses_settle("127.0.0.1:0", "127.0.0.1:0", &c, &err), 0);
    assert_true(strncmp(c.api_address, "127.0.0.1:", 10) == 0 && strcmp(c.api_address, "127.0.0.1:0") != 0);
    assert_string_not_equal(c.api_address, c.peer_address);
    assert_int_equal(far_server_addresses_settle("localhost:7", "127.0.0.1:8", &c, &err), 0);
    assert_string_equal(c.api_address, "localhost:7");
}

static void users_and_servers_need_a_known_address_each(void **unused)
{
    static const char *const wrong[][2] = {{"127.0.0.1:7", "127.0.0.1:7"}, {"localhost:7", "localhost:7"},
                                           {"0.0.0.0:7", "127.0.0.1:7"},   {"127.0.0.1:7", "[::]:7"},
                                           {"127.0.0.1", "127.0.0.1:7"},   {"127.0.0.1:7", "nobody.invalid:8"}};
    struct far_error err;
    struct far_server_config c;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(far_server_addresses_settle(wrong[i][0], wrong[i][1], &c, &err), FAR_INVALID);
    }
    const struct addrinfo hints = {.ai_socktype = SOCK_STREAM};
    struct addrinfo *local = NULL;
    assert_int_equal(getaddrinfo("localhost", "7", &hints, &local), 0); /* it may be ::1 first */
    const char *number = local->ai_family == AF_INET6 ? "[::1]:7" : "127.0.0.1:7";
    freeaddrinfo(local);
    assert_int_equal(far_server_addresses_settle("localhost:7", number, &c, &err), FAR_INVALID);
    assert_int_equal(far_server_addresses_settle("127.0.0.2:7", "127.0.0.1:7", &c, &err), 0);
}

/* ---- a new folder ---- */

static const struct far_new_folder_plan plan = {.owner = "server",
                                                .files = (const char *const[]){"begun", "config", NULL},
                                                .others = (const char *const[]){"rest", NULL},
                                                .marker = "begun"};

static void touch(const char *dir, const char *name)
{
    char path[128];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    FILE *file = fopen(path, "w");
    assert_non_null(file);
    fclose(file);
}

static void one_at_a_time_fills_a_folder(void **unused)
{
    char dir[] = "/tmp/far-new-XXXXXX", inner[64];
    struct far_new_folder first, second;
    struct far_error err;
    assert_non_null(mkdtemp(dir));
    snprintf(inner, sizeof inner, "%s/inner", dir);
    assert_int_equal(far_new_folder_begin(inner, &plan, &first, &err), 0);
    touch(inner, "begun");
    assert_int_equal(far_new_folder_begin(inner, &plan, &second, &err), FAR_CONFLICT);
    assert_non_null(strstr(err.message, "at work"));
    far_new_folder_undo(&first); /* takes everything back, its lock and the folder too */
    assert_int_equal(access(inner, F_OK), -1);
    assert_int_equal(far_new_folder_begin(inner, &plan, &first, &err), 0);
    touch(inner, "begun");
    far_new_folder_keep(&first);
    assert_int_equal(far_new_folder_begin(inner, &plan, &second, &err), 0); /* what an interrupted one left */
    far_new_folder_keep(&second);
    snprintf(inner, sizeof inner, "%s/inner/begun", dir);
    assert_int_equal(unlink(inner), 0);
    *strrchr(inner, '/') = '\0';
    assert_int_equal(rmdir(inner), 0);
    assert_int_equal(rmdir(dir), 0);
}

static void a_folder_with_something_else_is_left_alone(void **unused)
{
    char dir[] = "/tmp/far-new-XXXXXX", path[64];
    struct far_new_folder folder;
    struct far_error err;
    assert_non_null(mkdtemp(dir));
    touch(dir, "rest");
    assert_int_equal(far_new_folder_begin(dir, &plan, &folder, &err), 0);
    far_new_folder_keep(&folder);
    touch(dir, "letter");
    assert_int_equal(far_new_folder_begin(dir, &plan, &folder, &err), FAR_CONFLICT);
    assert_non_null(strstr(err.message, "'letter'"));
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, i == 0 ? "letter" : "rest");
        assert_int_equal(unlink(path), 0);
    }
    assert_int_equal(rmdir(dir), 0); /* nothing else was there */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_node_joins_once_with_its_token),
        cmocka_unit_test(a_server_joins_can_open_the_secrets_and_becomes_a_voter),
        cmocka_unit_test(config_is_what_was_saved),
        cmocka_unit_test(options_are_strict),
        cmocka_unit_test(a_port_of_0_becomes_a_free_one),
        cmocka_unit_test(users_and_servers_need_a_known_address_each),
        cmocka_unit_test(one_at_a_time_fills_a_folder),
        cmocka_unit_test(a_folder_with_something_else_is_left_alone),
    };
    return cmocka_run_group_tests_name("server", tests, server_alone_set_up, server_alone_tear_down);
}
