/* farshore-node join: an identity for this machine. Nothing is written before the cluster has answered and everything
 * fits together; the file `config` is written last, so a folder without it was never joined and can be joined again; a
 * join that fails leaves nothing. */
#include "node/node.h"

#include "base/file.h"
#include "base/new_folder.h"
#include "net/address.h"
#include "net/enroll.h"
#include "net/join_token.h"
#include "net/pki.h"

#include <stdio.h>
#include <string.h>

enum { OPT_DIR, OPT_TOKEN, OPT_NAME, OPT_DATA, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--token", "--name", "--data", NULL};
static const char *const file_names[] = {"node.key", "node.crt", "ca.crt", "servers", "vaults", "incarnation", "config", NULL};
static const char *const kept_names[] = {"vault", "cache", "ready", NULL}; /* of a node that was here before */
static const struct far_new_folder_plan folder_plan = {.owner = "node", .files = file_names, .others = kept_names};

static int write_file(const char *dir, const char *name, struct far_slice data, int mode, struct far_error *err)
{
    char path[FAR_NODE_PATH_MAX + 32];
    far_node_path(dir, name, path);
    return far_file_replace(path, data.data, data.len, mode, err);
}

static int write_servers(const char *dir, const struct far_enrolment *enrolment, struct far_error *err)
{
    struct far_buf text;
    far_buf_init(&text, 8192);
    int rc = 0;
    for (size_t i = 0; i < enrolment->server_count && rc == 0; i++) {
        rc = far_buf_printf(&text, "%llu@%s\n", (unsigned long long)enrolment->servers[i].id,
                            enrolment->servers[i].address);
    }
    rc = rc == 0 ? write_file(dir, "servers", far_buf_slice(&text), 0600, err)
                 : far_fail(err, rc, "the list of servers is too long");
    far_buf_done(&text);
    return rc;
}

static int write_folder(const char *dir, const struct far_enrolment *enrolment, const char *const *options,
                        struct far_error *err)
{
    struct far_node_config config;
    far_node_config_default(&config);
    config.node_id = enrolment->id;
    config.incarnation_epoch = enrolment->incarnation_epoch;
    memcpy(config.cluster_uuid, enrolment->cluster_uuid, sizeof config.cluster_uuid);
    snprintf(config.cluster, sizeof config.cluster, "%s", enrolment->cluster);
    snprintf(config.name, sizeof config.name, "%s", options[OPT_NAME]);
    snprintf(config.data_address, sizeof config.data_address, "%s", options[OPT_DATA] != NULL ? options[OPT_DATA] : "");
    int rc = write_file(dir, "node.key", far_buf_slice(&enrolment->key_pem), 0600, err);
    if (rc == 0) {
        rc = write_file(dir, "node.crt", far_buf_slice(&enrolment->certificate_pem), 0644, err);
    }
    if (rc == 0) {
        rc = write_file(dir, "ca.crt", far_buf_slice(&enrolment->ca_pem), 0644, err);
    }
    if (rc == 0) {
        rc = write_servers(dir, enrolment, err);
    }
    if (rc == 0 && enrolment->vault[0] != '\0') { /* whose place is taken had one: whoever attaches it here goes by this */
        rc = write_file(dir, "vaults", far_slice_str(enrolment->vault), 0600, err);
    }
    rc = rc == 0 ? far_enroll_save_incarnation(dir, enrolment, err) : rc;
    return rc == 0 ? far_node_config_save(dir, &config, err) : rc;
}

/* The folder is there and ours: known before the token is spent. */
static int join(const char *const *options, struct far_error *err)
{
    struct far_enrolment enrolment;
    char token[FAR_JOIN_TOKEN_TEXT_MAX];
    int rc = far_token_argument(options[OPT_TOKEN], "join token", token, err);
    if (rc == 0) {
        struct far_enroll_request request = {.token = token,
                                             .party = FAR_PARTY_NODE,
                                             .name = options[OPT_NAME],
                                             .data_address = options[OPT_DATA]};
        rc = far_enroll(&request, &enrolment, err);
    }
    if (rc != 0) {
        return rc;
    }
    rc = write_folder(options[OPT_DIR], &enrolment, options, err);
    if (rc == 0) {
        printf("node '%s' joined cluster '%s' as number %llu; start it with: farshore-node run --dir %s\n",
               options[OPT_NAME], enrolment.cluster, (unsigned long long)enrolment.id, options[OPT_DIR]);
    }
    far_enroll_done(&enrolment);
    return rc;
}

int far_node_join(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    struct far_new_folder folder;
    struct sockaddr_storage data;
    socklen_t data_len;
    int rc = far_node_options(argc, argv, option_names, options, &err);
    for (int i = 0; i < OPT_COUNT && rc == 0; i++) {
        if (options[i] == NULL && i != OPT_DATA) {
            rc = far_fail(&err, FAR_INVALID, "join: '%s' is missing", option_names[i]);
        }
    }
    rc = rc == 0 && options[OPT_DATA] != NULL ? far_address_to_listen(options[OPT_DATA], &data, &data_len, &err) : rc;
    rc = rc == 0 ? far_new_folder_begin(options[OPT_DIR], &folder_plan, &folder, &err) : rc;
    if (rc != 0) {
        return far_node_failed(&err);
    }
    rc = join(options, &err);
    if (rc != 0) {
        far_new_folder_undo(&folder);
        return far_node_failed(&err);
    }
    far_new_folder_keep(&folder);
    return 0;
}
