/* farshored init: a new cluster, with this server as its first.
 *
 * Makes the CA, this server's identity and seal key, the recovery key and the master key; runs the new log once to carry
 * cluster_init and the sealed secrets into it; writes the first administrator's token (0600) and prints the recovery key,
 * once. The CA's key and the master key exist only sealed, in the state.
 *
 * The file `init.unfinished` is there from before the first change until after `config` was written: a folder with it is
 * the rest of an init that was interrupted, and is made anew; a folder with any of init's files and without it is
 * refused. An init that fails leaves nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "base/logging.h"
#include "base/random.h"
#include "fsm/kv_memory.h"
#include "net/address.h"
#include "net/pki.h"
#include "net/seal.h"
#include "net/sign.h"
#include "net/join_token.h"
#include "server/founding.h"
#include "server/secrets.h"

#include <errno.h>
#include <fcntl.h>
#include <ftw.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPT_DIR, OPT_CLUSTER, OPT_NAME, OPT_API, OPT_PEER, OPT_REQUIRED, OPT_LEASE = OPT_REQUIRED, OPT_LEVEL, OPT_DRY_RUN, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--cluster", "--name", "--api", "--peer", "--lease-ms", "--feature-level",
                                            "--dry-run", NULL};
static const char marker_name[] = "init.unfinished";

enum { FIRST_SERVER_ID = 1, FIRST_EPOCH = 1, COMMAND_COUNT = 6, PAYLOAD_MAX = 8192, LEASE_MS_MAX = 3600 * 1000 };

/* Everything that init makes; the secrets among it are wiped at the end. */
struct material {
    const char *dir;
    uint64_t lease_ms;
    struct far_server_config config;
    struct far_buf ca_key;
    struct far_buf ca_certificate; /* DER */
    struct far_buf key;
    struct far_buf certificate; /* DER */
    uint8_t key_fingerprint[32];
    uint8_t seal_public[32];
    uint8_t seal_private[32];
    uint8_t sign_public[32];
    uint8_t sign_private[32];
    uint8_t recovery_public[32];
    uint8_t recovery_private[32];
    uint8_t master_key[32];
    uint8_t admin_secret[32];
    struct far_founding_command commands[COMMAND_COUNT];
};

static void material_init(struct material *m)
{
    memset(m, 0, sizeof *m);
    struct far_buf *const buffers[] = {&m->ca_key, &m->ca_certificate, &m->key, &m->certificate};
    for (size_t i = 0; i < 4; i++) {
        far_buf_init(buffers[i], FAR_PKI_BYTES_MAX);
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        far_buf_init(&m->commands[i].payload, PAYLOAD_MAX);
    }
}

static void material_done(struct material *m)
{
    struct far_buf *const buffers[] = {&m->ca_key, &m->ca_certificate, &m->key, &m->certificate};
    for (size_t i = 0; i < 4; i++) {
        far_secret_done(buffers[i]);
    }
    for (size_t i = 0; i < COMMAND_COUNT; i++) {
        far_buf_done(&m->commands[i].payload);
    }
    explicit_bzero(m, sizeof *m);
}

/* ---- keys and certificates ---- */

static int make_certificate(struct material *m, struct far_error *err)
{
    struct far_buf request;
    struct far_address api;
    struct far_address peer;
    struct far_peer self = {.party = FAR_PARTY_SERVER, .id = FIRST_SERVER_ID};
    far_buf_init(&request, FAR_PKI_BYTES_MAX);
    int rc = far_address_parse(m->config.api_address, &api, err);
    if (rc == 0) {
        rc = far_address_parse(m->config.peer_address, &peer, err);
    }
    if (rc == 0) {
        rc = far_pki_request_make(far_buf_slice(&m->key), &request, err);
    }
    if (rc == 0) {
        const char *const hosts[] = {api.host, peer.host};
        rc = far_pki_sign(far_buf_slice(&m->ca_key), far_buf_slice(&m->ca_certificate), far_buf_slice(&request), self,
                          hosts, strcmp(api.host, peer.host) == 0 ? 1 : 2, &m->certificate, err);
    }
    far_buf_done(&request);
    return rc;
}

static int make_keys(struct material *m, struct far_error *err)
{
    int rc = far_pki_key_make(&m->ca_key, err);
    if (rc == 0) {
        rc = far_pki_ca_make(far_buf_slice(&m->ca_key), m->config.cluster, &m->ca_certificate, err);
    }
    if (rc == 0) {
        rc = far_pki_key_make(&m->key, err);
    }
    if (rc == 0) {
        rc = make_certificate(m, err);
    }
    if (rc == 0) {
        rc = far_pki_key_fingerprint(far_buf_slice(&m->certificate), m->key_fingerprint, err);
    }
    if (rc == 0) {
        rc = far_seal_keypair(m->seal_public, m->seal_private, err);
    }
    if (rc == 0) {
        rc = far_sign_keypair(m->sign_public, m->sign_private, err);
    }
    if (rc == 0) {
        rc = far_seal_keypair(m->recovery_public, m->recovery_private, err);
    }
    far_random_bytes(m->master_key, sizeof m->master_key);
    far_random_bytes(m->admin_secret, sizeof m->admin_secret);
    far_random_bytes(m->config.cluster_uuid, sizeof m->config.cluster_uuid);
    return rc;
}

/* ---- the folder ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

/* Everything that init makes, but the marker. */
static const char *const made_names[] = {"wal",        "state",      "reserve", "admin.token", "server.key",
                                         "server.crt", "ca.crt",     "seal.key",   "sign.key", "safe", "skip-orders",
                                         "log.made",   "segments",   NULL};
static const char *const marker_names[] = {marker_name, "config", NULL};
static const struct far_new_folder_plan folder_plan = {
    .owner = "server", .files = marker_names, .others = made_names, .marker = marker_name};

static int remove_made(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    for (size_t i = 0; made_names[i] != NULL; i++) {
        char temporary[FAR_SERVER_FILE_MAX + 4];
        far_server_path(dir, made_names[i], path);
        snprintf(temporary, sizeof temporary, "%s.tmp", path);
        unlink(temporary); /* of a replacement that was interrupted */
        if (nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS) != 0 && errno != ENOENT) {
            return far_fail_errno(err, FAR_IO, errno, "remove '%s', left by an init that was interrupted", path);
        }
    }
    return 0;
}

/* Nothing of somebody else's is there to be written over, or removed when this init fails. */
static int refuse_others(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    for (size_t i = 0; made_names[i] != NULL; i++) {
        far_server_path(dir, made_names[i], path);
        if (access(path, F_OK) == 0) {
            return far_fail(err, FAR_CONFLICT, i < 2 ? "'%s' holds a log but no config; give a new folder"
                                                     : "'%s' holds '%s' but no config; give a new folder",
                            dir, made_names[i]);
        }
    }
    return 0;
}

/* The folder was begun: make it empty but for the marker, from which on everything in it is this init's. */
static int mark_folder(const char *dir, struct far_error *err)
{
    char marker[FAR_SERVER_FILE_MAX];
    far_server_path(dir, marker_name, marker);
    if (access(marker, F_OK) == 0) {
        return remove_made(dir, err);
    }
    return far_server_file_write(dir, marker_name, far_slice_str("farshored init did not finish\n"), 0600, err);
}

static int finish_folder(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(dir, marker_name, path);
    return unlink(path) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
}

static int write_certificates(const struct material *m, struct far_error *err)
{
    struct far_buf ca;
    struct far_buf chain;
    far_buf_init(&ca, 2 * FAR_PKI_BYTES_MAX);
    far_buf_init(&chain, 4 * FAR_PKI_BYTES_MAX);
    int rc = far_pki_der_to_pem(far_buf_slice(&m->ca_certificate), &ca, err);
    if (rc == 0) {
        rc = far_pki_der_to_pem(far_buf_slice(&m->certificate), &chain, err);
    }
    if (rc == 0 && far_buf_append(&chain, ca.data, ca.len) != 0) {
        rc = far_fail(err, FAR_LIMIT, "no memory for a certificate");
    }
    if (rc == 0) {
        rc = far_server_file_write(m->dir, "server.crt", far_buf_slice(&chain), 0644, err);
    }
    if (rc == 0) {
        rc = far_server_file_write(m->dir, "ca.crt", far_buf_slice(&ca), 0644, err);
    }
    far_buf_done(&ca);
    far_buf_done(&chain);
    return rc;
}

static int write_identity(const struct material *m, struct far_error *err)
{
    int rc = far_server_file_write(m->dir, "server.key", far_buf_slice(&m->key), 0600, err);
    if (rc == 0) {
        rc = write_certificates(m, err);
    }
    rc = rc == 0 ? far_server_seal_key_save(m->dir, m->seal_private, err) : rc;
    return rc == 0 ? far_server_sign_key_save(m->dir, m->sign_private, err) : rc;
}

static int write_admin_token(const struct material *m, struct far_error *err)
{
    char text[FAR_API_TOKEN_TEXT_MAX + 1];
    far_api_token_print(m->admin_secret, text);
    size_t len = strlen(text);
    text[len] = '\n';
    int rc = far_server_file_write(m->dir, "admin.token", far_slice(text, len + 1), 0600, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

/* ---- the first commands ---- */

static int encode_cluster_init(struct material *m, struct far_error *err)
{
    uint8_t token_hash[32];
    far_token_hash(m->admin_secret, token_hash);
    struct far_cmd_cluster_init init = {
        .name = far_slice_str(m->config.cluster),
        .uuid = far_slice(m->config.cluster_uuid, 16),
        .server_name = far_slice_str(m->config.name),
        .api_address = far_slice_str(m->config.api_address),
        .peer_address = far_slice_str(m->config.peer_address),
        .seal_key = far_slice(m->seal_public, 32),
        .fingerprint = far_slice(m->key_fingerprint, 32),
        .ca_certificate = far_buf_slice(&m->ca_certificate),
        .admin_token_hash = far_slice(token_hash, 32),
        .recovery_public_key = far_slice(m->recovery_public, 32),
        .lease_ms = m->lease_ms,
    };
    m->commands[0].kind = FAR_KIND_cmd_cluster_init;
    return far_schema_encode(&far_schema_cmd_cluster_init, &init, &m->commands[0].payload, err);
}

static int encode_secret(struct far_founding_command *command, const char *name, struct far_slice plain,
                         uint64_t recipient_id, const uint8_t public_key[32], struct far_error *err)
{
    struct far_buf sealed;
    far_buf_init(&sealed, PAYLOAD_MAX);
    int rc = far_secrets_seal(name, recipient_id, public_key, plain, &sealed, err);
    if (rc == 0) {
        struct far_cmd_secret_set set = {
            .name = far_slice_str(name), .recipient_id = recipient_id, .sealed = far_buf_slice(&sealed)};
        command->kind = FAR_KIND_cmd_secret_set;
        rc = far_schema_encode(&far_schema_cmd_secret_set, &set, &command->payload, err);
    }
    far_buf_done(&sealed);
    return rc;
}

static int encode_commands(struct material *m, struct far_error *err)
{
    const struct {
        const char *name;
        struct far_slice plain;
    } secrets[] = {{FAR_SECRET_CA_KEY, far_buf_slice(&m->ca_key)},
                   {FAR_SECRET_MASTER_KEY, far_slice(m->master_key, sizeof m->master_key)}};
    const struct {
        uint64_t id;
        const uint8_t *public_key;
    } recipients[] = {{FIRST_SERVER_ID, m->seal_public}, {FAR_SECRET_RECOVERY, m->recovery_public}};
    int rc = encode_cluster_init(m, err);
    for (size_t i = 0; i < 4 && rc == 0; i++) {
        rc = encode_secret(&m->commands[1 + i], secrets[i / 2].name, secrets[i / 2].plain, recipients[i % 2].id,
                           recipients[i % 2].public_key, err);
    }
    uint64_t held = m->config.feature_level_max;
    struct far_cmd_feature_level_raise raise = {.level = held != 0 ? held : FAR_FEATURE_LEVEL};
    m->commands[COMMAND_COUNT - 1].kind = FAR_KIND_cmd_feature_level_raise;
    return rc == 0 ? far_schema_encode(&far_schema_cmd_feature_level_raise, &raise, &m->commands[COMMAND_COUNT - 1].payload,
                                       err)
                   : rc;
}

/* ---- the command ---- */

static int take_options(struct material *m, const char *const *options, struct far_error *err)
{
    struct far_server_config *config = &m->config;
    m->dir = options[OPT_DIR];
    if (strlen(options[OPT_CLUSTER]) >= sizeof config->cluster || strlen(options[OPT_NAME]) >= sizeof config->name) {
        return far_fail(err, FAR_INVALID, "names have at most 63 characters");
    }
    snprintf(config->cluster, sizeof config->cluster, "%s", options[OPT_CLUSTER]);
    snprintf(config->name, sizeof config->name, "%s", options[OPT_NAME]);
    config->server_id = FIRST_SERVER_ID;
    config->incarnation_epoch = FIRST_EPOCH;
    if (options[OPT_LEASE] != NULL) {
        char *end = NULL;
        m->lease_ms = strtoull(options[OPT_LEASE], &end, 10);
        if (*end != '\0' || options[OPT_LEASE][0] == '-' || m->lease_ms == 0 || m->lease_ms > LEASE_MS_MAX) {
            return far_fail(err, FAR_INVALID, "--lease-ms: '%.40s' is not 1 to %d milliseconds", options[OPT_LEASE],
                            (int)LEASE_MS_MAX);
        }
    }
    if (options[OPT_LEVEL] != NULL) {
        char *end = NULL;
        config->feature_level_max = strtoull(options[OPT_LEVEL], &end, 10);
        if (*end != '\0' || options[OPT_LEVEL][0] == '-' || config->feature_level_max == 0 ||
            config->feature_level_max > FAR_FEATURE_LEVEL) {
            return far_fail(err, FAR_INVALID, "--feature-level: '%.40s' is not 1 to %d", options[OPT_LEVEL],
                            FAR_FEATURE_LEVEL);
        }
    }
    return far_server_addresses_settle(options[OPT_API], options[OPT_PEER], config, err);
}

static void print_founded(const struct material *m)
{
    char recovery[FAR_RECOVERY_KEY_TEXT_MAX];
    char signing[2 * sizeof m->sign_public + 1];
    far_recovery_key_print(m->recovery_private, recovery);
    far_hex_encode(m->sign_public, sizeof m->sign_public, signing);
    printf("cluster: %s\nserver: %s (number %d)\napi: %s\nadmin token: %s/admin.token\nrecovery key: %s\n"
           "signing key: %s\n"
           "\nWrite the recovery key down and keep it away from this machine: it is shown only now, and it opens the\n"
           "secrets of the cluster when every server is lost. The signing key is no secret: farshore-verify --key proves with it what the\n"
           "log of this cluster holds. Start the server with: farshored run --dir %s\n"
           "\nOne server survives no failure. Say at which site this one stands (farshore server site NAME --site SITE), and join\n"
           "one at the recovery site and one at a third place, so that losing the protected site does not lose the quorum.\n",
           m->config.cluster, m->config.name, FIRST_SERVER_ID, m->config.api_address, m->dir, recovery, signing, m->dir);
    fflush(stdout);
    explicit_bzero(recovery, sizeof recovery);
}

static int fill_folder(struct material *m, struct far_error *err)
{
    int rc = write_identity(m, err);
    if (rc == 0) {
        rc = far_founding_run(m->dir, &m->config, m->commands,
                             m->config.feature_level_max == 1 ? COMMAND_COUNT - 1 : COMMAND_COUNT, err); /* 1: as it is made */
    }
    if (rc == 0) {
        rc = write_admin_token(m, err);
    }
    if (rc == 0) {
        print_founded(m); /* before the folder counts as a server's: no cluster without its recovery key */
        rc = far_server_config_save(m->dir, &m->config, err);
    }
    return rc == 0 ? finish_folder(m->dir, err) : rc;
}

static int found(struct material *m, struct far_error *err)
{
    struct far_new_folder folder;
    char marker[FAR_SERVER_FILE_MAX];
    int rc = make_keys(m, err);
    if (rc == 0) {
        rc = encode_commands(m, err);
    }
    if (rc == 0) {
        rc = far_new_folder_begin(m->dir, &folder_plan, &folder, err);
    }
    if (rc != 0) {
        return rc;
    }
    far_server_path(m->dir, marker_name, marker);
    rc = access(marker, F_OK) == 0 ? 0 : refuse_others(m->dir, err);
    bool is_ours = rc == 0;
    if (rc == 0) {
        rc = mark_folder(m->dir, err);
    }
    if (rc == 0) {
        rc = fill_folder(m, err);
    }
    if (rc != 0 && is_ours) {
        (void)remove_made(m->dir, NULL);
        unlink(marker); /* also one that an earlier init left */
    }
    if (rc != 0) {
        far_new_folder_undo(&folder);
    } else {
        far_new_folder_keep(&folder);
    }
    return rc;
}

/* ---- the dry run: the folder is made and taken away again, or left as it was ---- */

static int try_out(struct material *m, struct far_error *err)
{
    struct far_new_folder folder;
    char marker[FAR_SERVER_FILE_MAX];
    struct far_state nothing = {.kv = far_kv_memory_new()};
    int rc = nothing.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for a dry run") : make_keys(m, err);
    rc = rc != 0 ? rc : encode_commands(m, err);
    rc = rc != 0 ? rc : far_new_folder_begin(m->dir, &folder_plan, &folder, err);
    if (rc == 0) {
        far_server_path(m->dir, marker_name, marker);
        rc = access(marker, F_OK) == 0 ? 0 : refuse_others(m->dir, err);
        far_new_folder_undo(&folder);
    }
    if (rc == 0) {
        printf("dry run: nothing was done. In this order:\n"
               "1. folder '%s' is made or filled: server.key, server.crt, ca.crt, seal.key, sign.key, wal, state, reserve, admin.token,\n"
               "   and at last config; interrupted before, another init begins anew. The recovery key is printed once\n"
               "2. these events are the first of cluster '%s' (keys, uuid and token are drawn then; leader_started comes among them):\n",
               m->dir, m->config.cluster);
        rc = far_founding_foresee(&nothing, 1, FIRST_SERVER_ID, m->commands,
                                  m->config.feature_level_max == 1 ? COMMAND_COUNT - 1 : COMMAND_COUNT, err);
    }
    far_kv_memory_free(nothing.kv);
    return rc;
}

int far_server_init(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    struct material m;
    material_init(&m);
    far_log_level_set(FAR_LEVEL_WARN); /* the log's first steps are not news here */
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, options, &err);
    if (rc == 0) {
        rc = take_options(&m, options, &err);
    }
    if (rc == 0) {
        rc = options[OPT_DRY_RUN] != NULL ? try_out(&m, &err) : found(&m, &err);
    }
    material_done(&m);
    return rc == 0 ? 0 : far_server_failed(&err);
}
