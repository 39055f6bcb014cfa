/* farshored restore: a new cluster from a backup of an old one, with this server as its only one.
 *
 * Good day: the backup is read as a whole and proven; its state and events become this folder's log; with the recovery key
 * that was printed at init the CA's key and the master key are opened and sealed to this server, which gets a certificate of
 * the same CA under the next id; the incarnation is the next one, so that whatever is left of the old cluster is refused, and
 * fenced when it is met; incarnation_begin goes through the log. Nodes of the old cluster are taken along: they keep their
 * certificates and are told where the new server is (farshore-node follow).
 *
 * The file `restore.unfinished` is there from before the first change until after `config` was written: a folder with it is
 * the rest of a restore that was interrupted, and is made anew. A restore that fails leaves nothing. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* nftw */
#endif
#include "base/clock.h"
#include "base/file.h"
#include "base/logging.h"
#include "base/random.h"
#include "log/backup.h"
#include "net/address.h"
#include "net/incarnation.h"
#include "net/join_token.h"
#include "net/pki.h"
#include "net/seal.h"
#include "server/founding.h"
#include "server/secrets.h"

#include <errno.h>
#include <ftw.h>
#include <stdio.h>
#include <unistd.h>

enum { OPT_DIR, OPT_BACKUP, OPT_NAME, OPT_API, OPT_PEER, OPT_KEY, OPT_REQUIRED, OPT_DRY_RUN = OPT_REQUIRED, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--backup", "--name", "--api", "--peer", "--recovery-key", "--dry-run", NULL};
static const char marker_name[] = "restore.unfinished";
static const char *const marker_names[] = {marker_name, "config", NULL};
/* Everything that a restore makes, but the marker and config. */
static const char *const made_names[] = {"wal",      "state",      "segments",    "log.made",    "reserve", "server.key",
                                         "server.crt", "ca.crt",   "seal.key",    "sign.key",    "incarnation",
                                         "admin.token", "backups",    "safe", "skip-orders",        NULL};
static const struct far_new_folder_plan folder_plan = {
    .owner = "server", .files = marker_names, .others = made_names, .marker = marker_name};

enum { ARENA_MAX = 256 * 1024, PAYLOAD_MAX = 8192, SECRETS = 2, COMMANDS_MAX = 2 + SECRETS + 1, KEY_TEXT_MAX = 256 };

struct restore {
    const char *const *options;
    const char *dir;
    struct far_server_config config;
    struct far_log_config log_config;
    struct far_backup_header header;
    struct far_log_ending ending;
    struct far_incarnation incarnation;
    uint64_t feature_level;
    uint8_t recovery_private[32];
    uint8_t seal_public[32], seal_private[32];
    uint8_t admin_secret[32];
    uint8_t fingerprint[32];
    struct far_buf secrets[SECRETS]; /* opened: the CA's key, the master key */
    struct far_buf ca_certificate;   /* DER */
    struct far_buf key;              /* PEM */
    struct far_buf certificate;      /* DER */
    struct far_founding_command commands[COMMANDS_MAX];
    size_t command_count;
};

static const char *const secret_names[SECRETS] = {FAR_SECRET_CA_KEY, FAR_SECRET_MASTER_KEY};

static void restore_init(struct restore *r)
{
    memset(r, 0, sizeof *r);
    struct far_buf *const buffers[] = {&r->secrets[0], &r->secrets[1], &r->ca_certificate, &r->key, &r->certificate};
    for (size_t i = 0; i < 5; i++) {
        far_buf_init(buffers[i], FAR_PKI_BYTES_MAX);
    }
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_init(&r->commands[i].payload, PAYLOAD_MAX);
    }
}

static void restore_done(struct restore *r)
{
    struct far_buf *const buffers[] = {&r->secrets[0], &r->secrets[1], &r->ca_certificate, &r->key, &r->certificate};
    for (size_t i = 0; i < 5; i++) {
        far_secret_done(buffers[i]);
    }
    for (size_t i = 0; i < COMMANDS_MAX; i++) {
        far_buf_done(&r->commands[i].payload);
    }
    explicit_bzero(r, sizeof *r);
}

/* ---- what the restored state says ---- */

static int read_cluster(struct restore *r, struct far_state *state, struct far_arena *arena, struct far_error *err)
{
    struct far_row_cluster cluster;
    struct far_row_progress progress;
    struct far_key key = far_key(&far_schema_row_cluster);
    int rc = far_state_get(state, &far_schema_row_cluster, &key, arena, &cluster, err);
    key = far_key(&far_schema_row_progress);
    rc = rc != 0 ? rc : far_state_get(state, &far_schema_row_progress, &key, arena, &progress, err);
    if (rc != 0) {
        return rc == FAR_NOT_FOUND ? far_fail(err, FAR_CORRUPT, "the backup holds no cluster") : rc;
    }
    if (cluster.uuid.len != 16 || memcmp(cluster.uuid.data, r->header.cluster_uuid, 16) != 0) {
        return far_fail(err, FAR_CORRUPT, "the backup's state is of another cluster than it says");
    }
    snprintf(r->config.cluster, sizeof r->config.cluster, "%.*s", (int)cluster.name.len, (const char *)cluster.name.data);
    memcpy(r->config.cluster_uuid, cluster.uuid.data, 16);
    r->config.server_id = progress.next_id;
    r->config.incarnation_epoch = cluster.incarnation_epoch + 1;
    r->feature_level = cluster.feature_level;
    return far_buf_append(&r->ca_certificate, cluster.ca_certificate.data, cluster.ca_certificate.len) == 0
               ? 0
               : far_fail(err, FAR_CORRUPT, "the CA's certificate is too long");
}

static int identify(void *arg, struct far_log_view *view, struct far_error *err)
{
    struct restore *r = arg;
    struct far_arena arena;
    far_arena_init(&arena, ARENA_MAX);
    int rc = read_cluster(r, &view->state, &arena, err);
    for (size_t i = 0; rc == 0 && i < SECRETS; i++) {
        rc = far_secrets_open(&view->state, secret_names[i], FAR_SECRET_RECOVERY, r->recovery_private, &r->secrets[i], err);
        rc = rc == 0 ? 0 : far_error_context(err, "the recovery key does not open '%s'", secret_names[i]);
    }
    far_arena_done(&arena);
    r->log_config.server_id = r->config.server_id;
    return rc;
}

/* ---- identity ---- */

static int make_certificate(struct restore *r, struct far_error *err)
{
    struct far_buf request;
    struct far_address api, peer;
    const struct far_peer self = {.party = FAR_PARTY_SERVER, .id = r->config.server_id};
    far_buf_init(&request, FAR_PKI_BYTES_MAX);
    int rc = far_pki_key_make(&r->key, err);
    rc = rc != 0 ? rc : far_address_parse(r->config.api_address, &api, err);
    rc = rc != 0 ? rc : far_address_parse(r->config.peer_address, &peer, err);
    rc = rc != 0 ? rc : far_pki_request_make(far_buf_slice(&r->key), &request, err);
    if (rc == 0) {
        const char *const hosts[] = {api.host, peer.host};
        rc = far_pki_sign(far_buf_slice(&r->secrets[0]), far_buf_slice(&r->ca_certificate), far_buf_slice(&request), self,
                          hosts, strcmp(api.host, peer.host) == 0 ? 1 : 2, &r->certificate, err);
    }
    rc = rc != 0 ? rc : far_pki_key_fingerprint(far_buf_slice(&r->certificate), r->fingerprint, err);
    far_buf_done(&request);
    return rc != 0 ? rc : far_seal_keypair(r->seal_public, r->seal_private, err);
}

static int write_identity(const struct restore *r, struct far_error *err)
{
    struct far_buf ca, chain;
    far_buf_init(&ca, 2 * FAR_PKI_BYTES_MAX);
    far_buf_init(&chain, 4 * FAR_PKI_BYTES_MAX);
    int rc = far_pki_der_to_pem(far_buf_slice(&r->ca_certificate), &ca, err);
    rc = rc != 0 ? rc : far_pki_der_to_pem(far_buf_slice(&r->certificate), &chain, err);
    if (rc == 0 && far_buf_append(&chain, ca.data, ca.len) != 0) {
        rc = far_fail(err, FAR_LIMIT, "no memory for a certificate");
    }
    rc = rc != 0 ? rc : far_server_file_write(r->dir, "server.key", far_buf_slice(&r->key), 0600, err);
    rc = rc != 0 ? rc : far_server_file_write(r->dir, "server.crt", far_buf_slice(&chain), 0644, err);
    rc = rc != 0 ? rc : far_server_file_write(r->dir, "ca.crt", far_buf_slice(&ca), 0644, err);
    rc = rc != 0 ? rc : far_server_seal_key_save(r->dir, r->seal_private, err);
    far_buf_done(&ca);
    far_buf_done(&chain);
    return rc != 0 ? rc : far_incarnation_save(r->dir, &r->incarnation, err);
}

static void make_incarnation(struct restore *r)
{
    r->incarnation = (struct far_incarnation){.reason = FAR_INCARNATION_RESTORED,
                                              .epoch = r->config.incarnation_epoch,
                                              .start_term = r->ending.end.term,
                                              .server_id = r->config.server_id,
                                              .made_ms = far_clock_wall_ms(),
                                              .parent_index = r->ending.end.last_index,
                                              .parent_term = r->ending.end.last_term,
                                              .parent_seq = r->ending.parent_seq,
                                              .sure_seq = r->ending.sure_seq};
    memcpy(r->incarnation.cluster_uuid, r->config.cluster_uuid, 16);
    far_random_bytes(r->incarnation.uuid, sizeof r->incarnation.uuid);
    memcpy(r->incarnation.parent_head, r->ending.parent_head, 32);
    memcpy(r->incarnation.sure_head, r->ending.sure_head, 32);
}

/* ---- the first commands ---- */

static int add_command(struct restore *r, const struct far_schema *schema, const void *object, struct far_error *err)
{
    struct far_founding_command *command = &r->commands[r->command_count++];
    command->kind = schema->kind;
    return far_schema_encode(schema, object, &command->payload, err);
}

static int add_begin(struct restore *r, struct far_error *err)
{
    const struct far_incarnation *in = &r->incarnation;
    struct far_cmd_incarnation_begin begin = {
        .epoch = in->epoch,
        .uuid = far_slice(in->uuid, 16),
        .reason = FAR_incarnation_reason_restored,
        .parent_index = in->parent_index,
        .parent_term = in->parent_term,
        .parent_seq = in->parent_seq,
        .parent_head = far_slice(in->parent_head, 32),
        .sure_seq = in->sure_seq,
        .sure_head = far_slice(in->sure_head, 32),
        .server_id = in->server_id,
        .server_name = far_slice_str(r->config.name),
        .api_address = far_slice_str(r->config.api_address),
        .peer_address = far_slice_str(r->config.peer_address),
        .seal_key = far_slice(r->seal_public, 32),
        .fingerprint = far_slice(r->fingerprint, 32),
    };
    return add_command(r, &far_schema_cmd_incarnation_begin, &begin, err);
}

static int add_secret(struct restore *r, size_t which, struct far_error *err)
{
    struct far_buf sealed;
    far_buf_init(&sealed, PAYLOAD_MAX);
    int rc = far_secrets_seal(secret_names[which], r->config.server_id, r->seal_public, far_buf_slice(&r->secrets[which]),
                              &sealed, err);
    if (rc == 0) {
        struct far_cmd_secret_set set = {.name = far_slice_str(secret_names[which]),
                                         .recipient_id = r->config.server_id,
                                         .sealed = far_buf_slice(&sealed)};
        rc = add_command(r, &far_schema_cmd_secret_set, &set, err);
    }
    far_buf_done(&sealed);
    return rc;
}

/* The tokens of the old cluster are good as they were; whoever has none of them left gets this one. */
static int add_token(struct restore *r, struct far_error *err)
{
    char name[64];
    uint8_t hash[32];
    far_random_bytes(r->admin_secret, sizeof r->admin_secret);
    far_token_hash(r->admin_secret, hash);
    snprintf(name, sizeof name, "restored-%llu", (unsigned long long)r->incarnation.epoch);
    struct far_cmd_token_create create = {
        .name = far_slice_str(name), .purpose = FAR_token_purpose_api, .hash = far_slice(hash, sizeof hash)};
    return add_command(r, &far_schema_cmd_token_create, &create, err);
}

static int make_commands(struct restore *r, struct far_error *err)
{
    struct far_cmd_feature_level_raise raise = {.level = FAR_FEATURE_LEVEL};
    int rc = r->feature_level < FAR_FEATURE_LEVEL ? add_command(r, &far_schema_cmd_feature_level_raise, &raise, err) : 0;
    rc = rc != 0 ? rc : add_begin(r, err);
    for (size_t i = 0; rc == 0 && i < SECRETS; i++) {
        rc = add_secret(r, i, err);
    }
    return rc != 0 ? rc : add_token(r, err);
}

static int write_admin_token(const struct restore *r, struct far_error *err)
{
    char text[FAR_API_TOKEN_TEXT_MAX + 1];
    far_api_token_print(r->admin_secret, text);
    size_t len = strlen(text);
    text[len] = '\n';
    int rc = far_server_file_write(r->dir, "admin.token", far_slice(text, len + 1), 0600, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

/* ---- the folder ---- */

static int remove_entry(const char *path, const struct stat *st, int type, struct FTW *ftw)
{
    return remove(path);
}

static void remove_made(const char *dir)
{
    char path[FAR_SERVER_FILE_MAX];
    for (size_t i = 0; made_names[i] != NULL; i++) {
        char temporary[FAR_SERVER_FILE_MAX + 4];
        far_server_path(dir, made_names[i], path);
        snprintf(temporary, sizeof temporary, "%s.tmp", path);
        unlink(temporary); /* of a replacement that was interrupted */
        (void)nftw(path, remove_entry, 16, FTW_DEPTH | FTW_PHYS);
    }
}

static int refuse_others(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    for (size_t i = 0; made_names[i] != NULL; i++) {
        far_server_path(dir, made_names[i], path);
        if (access(path, F_OK) == 0) {
            return far_fail(err, FAR_CONFLICT, "'%s' holds '%s' already; give a new folder", dir, made_names[i]);
        }
    }
    return 0;
}

static int fill(struct restore *r, struct far_error *err)
{
    int rc = far_log_restore(&r->log_config, r->options[OPT_BACKUP], identify, r, &r->ending, err);
    if (rc == 0) {
        make_incarnation(r);
        rc = make_certificate(r, err);
    }
    rc = rc != 0 ? rc : write_identity(r, err);
    rc = rc != 0 ? rc : make_commands(r, err);
    rc = rc != 0 ? rc : far_founding_continue(r->dir, &r->config, r->commands, r->command_count, err);
    rc = rc != 0 ? rc : write_admin_token(r, err);
    return rc != 0 ? rc : far_server_config_save(r->dir, &r->config, err);
}

static int restore(struct restore *r, struct far_error *err)
{
    struct far_new_folder folder;
    char marker[FAR_SERVER_FILE_MAX];
    int rc = far_backup_verify(r->options[OPT_BACKUP], &r->header, err);
    rc = rc != 0 ? rc : far_new_folder_begin(r->dir, &folder_plan, &folder, err);
    if (rc != 0) {
        return rc;
    }
    far_server_path(r->dir, marker_name, marker);
    bool is_rest = access(marker, F_OK) == 0;
    rc = is_rest ? 0 : refuse_others(r->dir, err);
    bool is_ours = rc == 0;
    if (is_rest) {
        remove_made(r->dir);
    } else if (rc == 0) {
        rc = far_server_file_write(r->dir, marker_name, far_slice_str("farshored restore did not finish\n"), 0600, err);
    }
    rc = rc != 0 ? rc : fill(r, err);
    if (rc == 0) {
        rc = unlink(marker) == 0 ? 0 : far_fail_errno(err, FAR_IO, errno, "remove '%s'", marker);
        far_new_folder_keep(&folder);
        return rc;
    }
    if (is_ours) {
        remove_made(r->dir);
        unlink(marker);
    }
    far_new_folder_undo(&folder);
    return rc;
}

/* ---- the dry run ---- */

/* The state is there, in memory: the key opens its secrets, and the first commands are decided on it. */
static int foresee(void *arg, struct far_log_view *view, struct far_error *err)
{
    struct restore *r = arg;
    int rc = identify(r, view, err);
    if (rc == 0) {
        make_incarnation(r);
        rc = make_certificate(r, err);
    }
    rc = rc != 0 ? rc : make_commands(r, err);
    if (rc != 0) {
        return rc;
    }
    printf("dry run: nothing was done. The backup is whole, and the recovery key opens what it keeps sealed. In this order:\n"
           "1. folder '%s' is made or filled: wal, state (and segments), server.key, server.crt, ca.crt, seal.key, sign.key, incarnation,\n"
           "   admin.token, and at last config; interrupted before, the folder is no server's, and another restore makes it anew\n"
           "2. cluster '%s' goes on as incarnation %llu, from event %llu of entry %llu, with server '%s' (number %llu) alone\n"
           "3. these events go through its log, the first as number %llu or later (keys, uuid and token are drawn then):\n",
           r->dir, r->config.cluster, (unsigned long long)r->incarnation.epoch, (unsigned long long)r->ending.parent_seq,
           (unsigned long long)r->ending.end.last_index, r->config.name, (unsigned long long)r->config.server_id,
           (unsigned long long)r->ending.parent_seq + 1);
    return far_founding_foresee(&view->state, r->ending.end.last_index + 1, r->config.server_id, r->commands, r->command_count, err);
}

/* The folder is made and taken away again, or left as it was: so far it would be taken. */
static int try_out(struct restore *r, struct far_error *err)
{
    struct far_new_folder folder;
    char marker[FAR_SERVER_FILE_MAX];
    int rc = far_backup_verify(r->options[OPT_BACKUP], &r->header, err);
    rc = rc != 0 ? rc : far_new_folder_begin(r->dir, &folder_plan, &folder, err);
    if (rc != 0) {
        return rc;
    }
    far_server_path(r->dir, marker_name, marker);
    rc = access(marker, F_OK) == 0 ? 0 : refuse_others(r->dir, err);
    far_new_folder_undo(&folder);
    return rc != 0 ? rc : far_backup_look(r->options[OPT_BACKUP], foresee, r, &r->ending, err);
}

/* ---- the command ---- */

static int take_key(struct restore *r, struct far_error *err)
{
    const char *argument = r->options[OPT_KEY];
    struct far_buf text;
    far_buf_init(&text, KEY_TEXT_MAX);
    int rc = argument[0] == '@' ? far_file_read(argument + 1, &text, err)
                                : far_buf_append(&text, argument, strlen(argument));
    if (rc == 0 && text.len > 0 && text.data[text.len - 1] == '\n') {
        text.len--;
    }
    rc = rc != 0 ? rc : far_recovery_key_parse((const char *)text.data, text.len, r->recovery_private, err);
    far_secret_done(&text);
    return rc;
}

static int take_options(struct restore *r, struct far_error *err)
{
    r->dir = r->options[OPT_DIR];
    if (strlen(r->options[OPT_NAME]) >= sizeof r->config.name) {
        return far_fail(err, FAR_INVALID, "names have at most 63 characters");
    }
    snprintf(r->config.name, sizeof r->config.name, "%s", r->options[OPT_NAME]);
    int rc = far_server_addresses_settle(r->options[OPT_API], r->options[OPT_PEER], &r->config, err);
    r->log_config = far_server_log_config(r->dir, &r->config, NULL);
    return rc != 0 ? rc : take_key(r, err);
}

int far_server_restore(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    struct restore r;
    restore_init(&r);
    r.options = options;
    far_log_level_set(FAR_LEVEL_WARN);
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, options, &err);
    rc = rc != 0 ? rc : take_options(&r, &err);
    bool is_dry = rc == 0 && options[OPT_DRY_RUN] != NULL;
    rc = rc != 0 ? rc : is_dry ? try_out(&r, &err) : restore(&r, &err);
    if (rc == 0 && !is_dry) {
        printf("cluster '%s' is restored as incarnation %llu, from event %llu of entry %llu, with server '%s' (number %llu)\n"
               "api: %s\nadmin token: %s/admin.token\n"
               "Start it with: farshored run --dir %s\n"
               "Take nodes of the old cluster along, on each: farshore-node follow --dir DIR --server %llu@%s\n",
               r.config.cluster, (unsigned long long)r.incarnation.epoch, (unsigned long long)r.ending.parent_seq,
               (unsigned long long)r.ending.end.last_index, r.config.name, (unsigned long long)r.config.server_id,
               r.config.api_address, r.dir, r.dir, (unsigned long long)r.config.server_id, r.config.peer_address);
        rc = far_server_sign_key_print(r.dir, &err);
    }
    restore_done(&r);
    return rc == 0 ? 0 : far_server_failed(&err);
}
