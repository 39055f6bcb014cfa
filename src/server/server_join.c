/* farshored join: an identity for this machine. Nothing is written before the cluster has answered and everything fits
 * together; the file `config` is written last, so a folder without it was never joined and can be joined again; a join
 * that fails leaves nothing. The log begins empty: the leader fills it. */
#include "net/enroll.h"
#include "net/join_token.h"
#include "net/pki.h"
#include "net/seal.h"
#include "net/sign.h"
#include "server/server_join.h"

#include <stdio.h>

enum { OPT_DIR, OPT_TOKEN, OPT_NAME, OPT_API, OPT_PEER, OPT_REQUIRED, OPT_DRY_RUN = OPT_REQUIRED, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--token", "--name", "--api", "--peer", "--dry-run", NULL};
static const char *const file_names[] = {"server.key", "server.crt",  "ca.crt", "seal.key",
                                         "sign.key",   "incarnation", "config", NULL};

/* What a server that rejoins leaves there. */
static const char *const kept_names[] = {"divergent", "rejoin", "reserve", "ready", "admin.token", "backups", NULL};
static const struct far_new_folder_plan folder_plan = {.owner = "server", .files = file_names, .others = kept_names};

static int write_folder(const char *dir, const struct far_enrolment *enrolment, const uint8_t seal_key[32],
                        struct far_server_config *config, struct far_error *err)
{
    config->server_id = enrolment->id;
    config->incarnation_epoch = enrolment->incarnation_epoch;
    memcpy(config->cluster_uuid, enrolment->cluster_uuid, sizeof config->cluster_uuid);
    snprintf(config->cluster, sizeof config->cluster, "%s", enrolment->cluster);
    int rc = far_server_file_write(dir, "server.key", far_buf_slice(&enrolment->key_pem), 0600, err);
    if (rc == 0) {
        rc = far_server_file_write(dir, "server.crt", far_buf_slice(&enrolment->certificate_pem), 0644, err);
    }
    if (rc == 0) {
        rc = far_server_file_write(dir, "ca.crt", far_buf_slice(&enrolment->ca_pem), 0644, err);
    }
    if (rc == 0) {
        rc = far_server_seal_key_save(dir, seal_key, err);
    }
    uint8_t sign_public[32], sign_private[32];
    rc = rc == 0 ? far_sign_keypair(sign_public, sign_private, err) : rc;
    rc = rc == 0 ? far_server_sign_key_save(dir, sign_private, err) : rc;
    explicit_bzero(sign_private, sizeof sign_private);
    rc = rc == 0 ? far_enroll_save_incarnation(dir, enrolment, err) : rc;
    return rc == 0 ? far_server_config_save(dir, config, err) : rc;
}

/* A log without a config is what is left of a server that was here: its files may not be given to another id. */
static int refuse_old_log(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(dir, "state", path);
    FILE *state = fopen(path, "re");
    if (state == NULL) {
        return 0;
    }
    fclose(state);
    return far_fail(err, FAR_CONFLICT, "'%s' holds the log of a server that was here before; give a new folder", dir);
}

/* ret_cluster: the join is only tried out; else ret_enrolment. */
static int enroll(const struct far_join_options *options, const struct far_server_config *config, uint8_t seal_private[32],
                  struct far_enrolment *ret_enrolment, struct far_enroll_cluster *ret_cluster, struct far_error *err)
{
    uint8_t seal_public[32];
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    int rc = far_token_argument(options->token, "join token", token, err);
    rc = rc == 0 ? far_seal_keypair(seal_public, seal_private, err) : rc;
    if (rc != 0) {
        return rc;
    }
    struct far_enroll_request request = {
        .token = token,
        .party = FAR_PARTY_SERVER,
        .name = options->name,
        .api_address = config->api_address,
        .peer_address = config->peer_address,
        .seal_key = seal_public,
        .feature_level = FAR_FEATURE_LEVEL,
    };
    return ret_cluster != NULL ? far_enroll_try(&request, ret_cluster, err) : far_enroll(&request, ret_enrolment, err);
}

/* The folder is there and ours: everything that is needed besides, then the token, then the files. */
static int join(const struct far_join_options *options, struct far_error *err)
{
    struct far_enrolment enrolment;
    struct far_server_config config = {0};
    uint8_t seal_private[32];
    int rc = refuse_old_log(options->dir, err);
    rc = rc != 0 ? rc : far_server_addresses_settle(options->api, options->peer, &config, err);
    if (rc == 0) {
        snprintf(config.name, sizeof config.name, "%s", options->name);
        rc = enroll(options, &config, seal_private, &enrolment, NULL, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = options->before_config != NULL ? options->before_config(options->arg, &enrolment, err) : 0;
    rc = rc != 0 ? rc : write_folder(options->dir, &enrolment, seal_private, &config, err);
    if (rc == 0) {
        printf("server '%s' joined cluster '%s' as number %llu; start it with: farshored run --dir %s\n",
               options->name, enrolment.cluster, (unsigned long long)enrolment.id, options->dir);
    }
    far_enroll_done(&enrolment);
    explicit_bzero(seal_private, sizeof seal_private);
    return rc;
}

int far_server_join_folder(const struct far_join_options *options, struct far_error *err)
{
    struct far_new_folder folder;
    int rc = options->is_locked ? far_new_folder_begin_locked(options->dir, &folder_plan, &folder, err)
                                : far_new_folder_begin(options->dir, &folder_plan, &folder, err);
    if (rc != 0) {
        return rc;
    }
    rc = join(options, err);
    if (rc != 0) {
        far_new_folder_undo(&folder);
    } else {
        far_new_folder_keep(&folder);
    }
    return rc;
}

/* The folder is made and taken away again, or left as it was; the cluster tries the join out, and the token stays good. */
static int try_out(const struct far_join_options *options, struct far_error *err)
{
    struct far_new_folder folder;
    struct far_enroll_cluster cluster;
    struct far_server_config config = {0};
    uint8_t seal_private[32];
    char uuid[33];
    int rc = far_new_folder_begin(options->dir, &folder_plan, &folder, err);
    if (rc != 0) {
        return rc;
    }
    rc = refuse_old_log(options->dir, err);
    far_new_folder_undo(&folder);
    rc = rc != 0 ? rc : far_server_addresses_settle(options->api, options->peer, &config, err);
    rc = rc != 0 ? rc : enroll(options, &config, seal_private, NULL, &cluster, err);
    explicit_bzero(seal_private, sizeof seal_private);
    if (rc == 0) {
        far_hex_encode(cluster.uuid, sizeof cluster.uuid, uuid);
        printf("dry run: nothing was done, and the token stays good. In this order:\n"
               "1. cluster %s, in incarnation %llu, takes server '%s' in as a standby (event server_joined)\n"
               "2. folder '%s' is made or filled: server.key, server.crt, ca.crt, seal.key, sign.key, and at last config\n"
               "3. when it was started and the others have filled it, it votes (event server_role_changed: voter)\n",
               uuid, (unsigned long long)cluster.incarnation_epoch, options->name, options->dir);
    }
    return rc;
}

int far_server_join(int argc, char **argv)
{
    const char *values[OPT_COUNT];
    struct far_error err = {0};
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, values, &err);
    if (rc == 0) {
        const struct far_join_options options = {.dir = values[OPT_DIR],
                                                 .token = values[OPT_TOKEN],
                                                 .name = values[OPT_NAME],
                                                 .api = values[OPT_API],
                                                 .peer = values[OPT_PEER]};
        rc = values[OPT_DRY_RUN] != NULL ? try_out(&options, &err) : far_server_join_folder(&options, &err);
    }
    return rc == 0 ? 0 : far_server_failed(&err);
}
