/* A server's folder and options: see server.h. */
#include "server/server.h"

#include "base/config.h"
#include "base/file.h"
#include "net/address.h"
#include "net/pki.h"

#include <errno.h>
#include <stdio.h>
#include <unistd.h>

enum { BACKUP_KEY_COUNT = 4, HISTORY_KEY_COUNT = 4, MAIN_KEY_COUNT = 16 };
enum { KEY_COUNT = MAIN_KEY_COUNT + HISTORY_KEY_COUNT + BACKUP_KEY_COUNT };
enum { FREE_PORT_TRIES = 8 };

static void fill_backup_keys(struct far_server_config *c, struct far_config_key keys[BACKUP_KEY_COUNT])
{
    const struct far_config_key table[BACKUP_KEY_COUNT] = {
        {.name = "backup_interval_s",
         .type = FAR_CONFIG_U64,
         .value = &c->backup_interval_s,
         .max = 366 * 24 * 3600,
         .comment = "a backup of the cluster is made so often; 0: 86400, a day"},
        {.name = "backup_keep",
         .type = FAR_CONFIG_U64,
         .value = &c->backup_keep,
         .max = 64,
         .comment = "so many of them are kept in backups/; 0: 7"},
        {.name = "backup_folder",
         .type = FAR_CONFIG_TEXT,
         .value = c->backup_folder,
         .size = sizeof c->backup_folder,
         .comment = "folder that each backup is copied to as well"},
        {.name = "backup_command",
         .type = FAR_CONFIG_TEXT,
         .value = c->backup_command,
         .size = sizeof c->backup_command,
         .comment = "command of the shell that takes each backup elsewhere: its path is in FARSHORE_BACKUP"},
    };
    memcpy(keys, table, sizeof table);
}

static void fill_history_keys(struct far_server_config *c, struct far_config_key keys[HISTORY_KEY_COUNT])
{
    const uint64_t any = UINT64_MAX;
    const struct far_config_key table[HISTORY_KEY_COUNT] = {
        {.name = "events_max",
         .type = FAR_CONFIG_U64,
         .value = &c->events_max,
         .max = any,
         .comment = "so many of the newest events stay in the store, older ones are sealed in files; 0: 1000000"},
        {.name = "segment_events",
         .type = FAR_CONFIG_U64,
         .value = &c->segment_events,
         .max = any,
         .comment = "events in such a file, at most; 0: 262144"},
        {.name = "segment_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->segment_bytes,
         .max = any,
         .comment = "bytes at which such a file ends; 0: 64m"},
        {.name = "epoch_events",
         .type = FAR_CONFIG_U64,
         .value = &c->epoch_events,
         .max = any,
         .comment = "a state of the past is kept every so many events; 0: 8192"},
    };
    memcpy(keys, table, sizeof table);
}

static void fill_keys(struct far_server_config *c, struct far_config_key keys[KEY_COUNT])
{
    const uint64_t any = UINT64_MAX;
    const struct far_config_key table[MAIN_KEY_COUNT] = {
        {.name = "server_id", .type = FAR_CONFIG_U64, .value = &c->server_id, .min = 1, .max = any, .required = true},
        {.name = "name", .type = FAR_CONFIG_TEXT, .value = c->name, .size = sizeof c->name, .required = true},
        {.name = "cluster", .type = FAR_CONFIG_TEXT, .value = c->cluster, .size = sizeof c->cluster},
        {.name = "cluster_uuid", .type = FAR_CONFIG_HEX, .value = c->cluster_uuid, .size = 16, .required = true},
        {.name = "incarnation_epoch", .type = FAR_CONFIG_U64, .value = &c->incarnation_epoch, .max = any},
        {.name = "api_address",
         .type = FAR_CONFIG_TEXT,
         .value = c->api_address,
         .size = sizeof c->api_address,
         .required = true,
         .comment = "host:port where users reach this server (HTTPS)"},
        {.name = "peer_address",
         .type = FAR_CONFIG_TEXT,
         .value = c->peer_address,
         .size = sizeof c->peer_address,
         .required = true,
         .comment = "host:port where servers and nodes reach this one (mutual TLS)"},
        {.name = "api_listen",
         .type = FAR_CONFIG_TEXT,
         .value = c->api_listen,
         .size = sizeof c->api_listen,
         .comment = "host:port to listen on for users; empty: api_address"},
        {.name = "peer_listen",
         .type = FAR_CONFIG_TEXT,
         .value = c->peer_listen,
         .size = sizeof c->peer_listen,
         .comment = "host:port to listen on for servers and nodes; empty: peer_address"},
        {.name = "election_ms",
         .type = FAR_CONFIG_U64,
         .value = &c->election_ms,
         .max = 60000,
         .comment = "election time-out, the same on all servers, at least 10 round trips; 0: 700"},
        {.name = "wal_bytes_max",
         .type = FAR_CONFIG_U64,
         .value = &c->wal_bytes_max,
         .max = any,
         .comment = "of the log kept for servers that fell behind; 0: 32m"},
        {.name = "reserve_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->reserve_bytes,
         .max = any,
         .comment = "of the file that is given up when the disk is full; 0: 64m"},
        {.name = "low_space_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->low_space_bytes,
         .max = any,
         .comment = "free space below which commands of users are refused; 0: 256m"},
        {.name = "full_space_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->full_space_bytes,
         .max = any,
         .comment = "free space below which all but commands of the cluster are refused; 0: 64m"},
        {.name = "map_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->map_bytes,
         .max = any,
         .comment = "address space of the state's map; 0: 1024g"},
        {.name = "feature_level_max",
         .type = FAR_CONFIG_U64,
         .value = &c->feature_level_max,
         .max = FAR_FEATURE_LEVEL,
         .comment = "keeps the cluster at this feature level, for servers of an older version; 0: all that this one knows"},
    };
    memcpy(keys, table, sizeof table);
    fill_history_keys(c, keys + MAIN_KEY_COUNT);
    fill_backup_keys(c, keys + MAIN_KEY_COUNT + HISTORY_KEY_COUNT);
}

int far_server_config_load(const char *dir, struct far_server_config *ret_config, struct far_error *err)
{
    struct far_config_key keys[KEY_COUNT];
    char path[FAR_SERVER_FILE_MAX];
    *ret_config = (struct far_server_config){0};
    fill_keys(ret_config, keys);
    far_server_path(dir, "config", path);
    int rc = far_config_load(path, keys, KEY_COUNT, err);
    return rc != FAR_NOT_FOUND
               ? rc
               : far_fail(err, rc, "'%s' is no folder of a server: run `farshored init` or `farshored join` first", dir);
}

int far_server_config_save(const char *dir, const struct far_server_config *config, struct far_error *err)
{
    struct far_server_config copy = *config;
    struct far_config_key keys[KEY_COUNT];
    char path[FAR_SERVER_FILE_MAX];
    fill_keys(&copy, keys);
    far_server_path(dir, "config", path);
    return far_config_save(path, keys, KEY_COUNT, err);
}

int far_server_net_open(const char *dir, const struct far_server_config *config, struct far_net **ret_net,
                        struct far_error *err)
{
    struct far_peer self = {.party = FAR_PARTY_SERVER, .id = config->server_id};
    return far_net_open(dir, self, config->cluster_uuid, config->incarnation_epoch, ret_net, err);
}

struct far_log_config far_server_log_config(const char *dir, const struct far_server_config *config,
                                            struct far_net *net)
{
    return (struct far_log_config){
        .dir = dir,
        .server_id = config->server_id,
        .address = config->peer_address,
        .net = net,
        .election_ms = config->election_ms,
        .wal_bytes_max = config->wal_bytes_max,
        .reserve_bytes = config->reserve_bytes,
        .low_space_bytes = config->low_space_bytes,
        .full_space_bytes = config->full_space_bytes,
        .map_bytes = config->map_bytes,
        .feature_level_max = config->feature_level_max,
        .events_max = config->events_max,
        .segment_events = config->segment_events,
        .segment_bytes = config->segment_bytes,
        .epoch_events = config->epoch_events,
    };
}

/* ---- keys in files of their own ---- */

enum { KEY_TEXT_BYTES = 65 };

int far_server_key_file_read(const char *dir, const char *name, uint8_t ret_key[32], struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    struct far_buf text;
    far_server_path(dir, name, path);
    far_buf_init(&text, KEY_TEXT_BYTES);
    int rc = far_file_read(path, &text, err);
    if (rc == 0 && (text.len != KEY_TEXT_BYTES || !far_hex_decode((const char *)text.data, 64, ret_key, 32))) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' does not hold a key", path);
    }
    far_secret_done(&text);
    return rc;
}

int far_server_key_file_write(const char *dir, const char *name, const uint8_t key[32], struct far_error *err)
{
    char text[KEY_TEXT_BYTES + 1];
    far_hex_encode(key, 32, text);
    text[64] = '\n';
    int rc = far_server_file_write(dir, name, far_slice(text, KEY_TEXT_BYTES), 0600, err);
    explicit_bzero(text, sizeof text);
    return rc;
}

int far_server_seal_key_load(const char *dir, uint8_t ret_private[32], struct far_error *err)
{
    return far_server_key_file_read(dir, "seal.key", ret_private, err);
}

int far_server_seal_key_save(const char *dir, const uint8_t private_key[32], struct far_error *err)
{
    return far_server_key_file_write(dir, "seal.key", private_key, err);
}

/* ---- files ---- */

void far_server_path(const char *dir, const char *name, char path[FAR_SERVER_FILE_MAX])
{
    snprintf(path, FAR_SERVER_FILE_MAX, "%.*s/%s", FAR_SERVER_PATH_MAX - 1, dir, name);
}

int far_server_file_write(const char *dir, const char *name, struct far_slice data, int mode, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(dir, name, path);
    return far_file_replace(path, data.data, data.len, mode, err);
}

/* ---- addresses ---- */

static int free_port(const struct far_address *address, struct sockaddr_storage *bound, socklen_t len, char out[256],
                     struct far_error *err)
{
    char text[FAR_ADDRESS_TEXT_MAX];
    int rc = 0, fd = socket(bound->ss_family, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)bound, len) != 0 || getsockname(fd, (struct sockaddr *)bound, &len) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "find a free port of %s", address->host);
    } else {
        rc = far_address_print((struct sockaddr *)bound, len, text, err);
    }
    if (rc == 0) {
        bool v6 = strchr(address->host, ':') != NULL;
        snprintf(out, 256, v6 ? "[%.240s]:%s" : "%.240s:%s", address->host, strrchr(text, ':') + 1);
    }
    if (fd >= 0) {
        close(fd);
    }
    return rc;
}

static int settle(const char *address, struct sockaddr_storage *ret_where, char out[256], struct far_error *err)
{
    struct far_address parsed;
    socklen_t len;
    int rc = far_address_parse(address, &parsed, err);
    if (rc == 0 && strlen(address) > 255) {
        rc = far_fail(err, FAR_INVALID, "the address '%.60s…' is too long", address);
    }
    rc = rc != 0 ? rc : far_address_to_listen(address, ret_where, &len, err);
    if (rc != 0 || strcmp(parsed.port, "0") == 0) {
        return rc != 0 ? rc : free_port(&parsed, ret_where, len, out, err);
    }
    snprintf(out, 256, "%s", address);
    return 0;
}

int far_server_addresses_settle(const char *api, const char *peer, struct far_server_config *config, struct far_error *err)
{
    struct sockaddr_storage api_at, peer_at;
    int rc = settle(api, &api_at, config->api_address, err);
    rc = rc != 0 ? rc : settle(peer, &peer_at, config->peer_address, err);
    for (int i = 0; rc == 0 && i < FREE_PORT_TRIES && strcmp(peer, config->peer_address) != 0 &&
                    far_address_overlaps(&api_at, &peer_at); i++) {
        rc = settle(peer, &peer_at, config->peer_address, err); /* the same free port twice */
    }
    if (rc == 0 && far_address_overlaps(&api_at, &peer_at)) {
        rc = far_fail(err, FAR_INVALID, "'%.100s' and '%.100s' are the same address: users and servers need a port each",
                      config->api_address, config->peer_address);
    }
    return rc;
}

/* ---- options ---- */

/* Those that stand alone. */
static bool is_switch(const char *name)
{
    return strcmp(name, "--dry-run") == 0 || strcmp(name, "--plan") == 0;
}

static int take_option(char **argv, int i, int argc, const char *const *names, const char **values,
                       struct far_error *err)
{
    size_t n = 0;
    while (names[n] != NULL && strcmp(names[n], argv[i]) != 0) {
        n++;
    }
    if (names[n] == NULL) {
        return far_fail(err, FAR_INVALID, "%s: unknown option '%s'", argv[0], argv[i]);
    }
    if (values[n] != NULL) {
        return far_fail(err, FAR_INVALID, "%s: '%s' is given twice", argv[0], argv[i]);
    }
    if (is_switch(argv[i])) {
        values[n] = "";
        return 0;
    }
    if (i + 1 == argc) {
        return far_fail(err, FAR_INVALID, "%s: '%s' needs a value", argv[0], argv[i]);
    }
    values[n] = argv[i + 1];
    return 0;
}

int far_server_options(int argc, char **argv, const char *const *names, size_t required_count,
                       const char **ret_values, struct far_error *err)
{
    int rc = 0;
    for (size_t n = 0; names[n] != NULL; n++) {
        ret_values[n] = NULL;
    }
    for (int i = 1; i < argc && rc == 0; i += is_switch(argv[i]) ? 1 : 2) {
        rc = take_option(argv, i, argc, names, ret_values, err);
    }
    for (size_t n = 0; n < required_count && rc == 0; n++) {
        if (ret_values[n] == NULL) {
            rc = far_fail(err, FAR_INVALID, "%s: '%s' is missing", argv[0], names[n]);
        }
    }
    return rc;
}

int far_server_failed(const struct far_error *err)
{
    fprintf(stderr, "farshored: %s\n", err->message);
    return far_class_info(err->klass)->exit_code;
}
