/* The commands of farshored, and what they share: a server's folder. Each command gets its own argv (argv[0] is its
 * name) and returns the exit status. */
#ifndef FAR_SERVER_SERVER_H
#define FAR_SERVER_SERVER_H

#include "base/new_folder.h"
#include "log/log.h"
#include "net/net.h"

int far_server_init(int argc, char **argv);
int far_server_join(int argc, char **argv);
int far_server_run(int argc, char **argv);
int far_server_divergent(int argc, char **argv);
int far_server_restore(int argc, char **argv);
#define FAR_FORK_NONE "none\n" /* in divergent/…/fork: the cluster never left the life that this server was of */
int far_server_rejoin(int argc, char **argv);
int far_server_rejoin_check(int argc, char **argv);
int far_server_recover_quorum(int argc, char **argv);
int far_server_log_verify(int argc, char **argv);
int far_server_log_replay(int argc, char **argv);
int far_server_log_export(int argc, char **argv);

enum { FAR_SERVER_PATH_MAX = FAR_NEW_FOLDER_PATH_MAX, FAR_SERVER_FILE_MAX = FAR_SERVER_PATH_MAX + 32 };

/* The file `config` of a server's folder. */
struct far_server_config {
    uint64_t server_id;
    char name[64];
    char cluster[64];
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    char api_address[256];  /* where users reach it, as the state has it */
    char peer_address[256]; /* where servers and nodes reach it, as the state has it */
    char api_listen[256];   /* empty: as api_address */
    char peer_listen[256];  /* empty: as peer_address */
    uint64_t election_ms;   /* these go to the log; 0 = its own value */
    uint64_t wal_bytes_max;
    uint64_t reserve_bytes;
    uint64_t low_space_bytes;
    uint64_t full_space_bytes;
    uint64_t map_bytes;
    uint64_t backup_interval_s; /* of the backups that are made by themselves; 0 = a day */
    uint64_t backup_keep;       /* so many; 0 = 7 */
    char backup_folder[FAR_SERVER_PATH_MAX];  /* where each is copied, too; empty: nowhere */
    char backup_command[1024];  /* what each is handed to; empty: nothing */
    uint64_t feature_level_max;
    uint64_t events_max;
    uint64_t segment_events;
    uint64_t epoch_events;
    uint64_t segment_bytes;
};

/* FAR_NOT_FOUND: dir is no folder of a server. */
int far_server_config_load(const char *dir, struct far_server_config *ret_config, struct far_error *err);
int far_server_config_save(const char *dir, const struct far_server_config *config, struct far_error *err);

/* What a folder's files make: the network's identity, and the log's settings (which borrow dir, config and net). */
int far_server_net_open(const char *dir, const struct far_server_config *config, struct far_net **ret_net,
                        struct far_error *err);
struct far_log_config far_server_log_config(const char *dir, const struct far_server_config *config,
                                            struct far_net *net);
/* The private half of the server's seal key. */
int far_server_seal_key_load(const char *dir, uint8_t ret_private[32], struct far_error *err);
int far_server_seal_key_save(const char *dir, const uint8_t private_key[32], struct far_error *err);
/* The private half of the key that the server signs heads with, Ed25519, and its public one; a folder without one (from 0.1.0)
 * gets a new one. */
int far_server_sign_key_load(const char *dir, uint8_t ret_private[32], uint8_t ret_public[32], struct far_error *err);
/* Prints the public half and what to do with it, after an incarnation was begun; makes a key where there is none. */
int far_server_sign_key_print(const char *dir, struct far_error *err);
int far_server_sign_key_save(const char *dir, const uint8_t private_key[32], struct far_error *err);

/* dir/name into path. */
void far_server_path(const char *dir, const char *name, char path[FAR_SERVER_FILE_MAX]);
int far_server_file_write(const char *dir, const char *name, struct far_slice data, int mode, struct far_error *err);
/* The message to whoever runs or asks this server after it was removed; ask: addresses of others, "" for none known. */
int far_server_removed(const struct far_server_config *config, const char *ask, struct far_error *err);
/* FAR_DENIED with that message if the folder says that the server was removed. */
int far_server_removed_check(const char *dir, struct far_error *err);
int far_server_removed_keep(const char *dir, const struct far_error *why, struct far_error *err);
/* Where the server is to listen, into config: names must be known, the two differ. A port that is 0 becomes a free one, for tests
 * and trials: the state needs the real one. */
int far_server_addresses_settle(const char *api, const char *peer, struct far_server_config *config, struct far_error *err);

/* `--name value` options (--dry-run and --plan stand alone: ""): each must be in names (closed by NULL) and is given at most once;
 * values[i] is NULL if it is not there. The first required_count of them must be there. FAR_INVALID names what is wrong. */
int far_server_options(int argc, char **argv, const char *const *names, size_t required_count,
                       const char **ret_values, struct far_error *err);
/* 32 bytes as 64 hexadecimal digits and a newline: the form of the keys in files of their own, mode 0600. */
int far_server_key_file_read(const char *dir, const char *name, uint8_t ret_key[32], struct far_error *err);
int far_server_key_file_write(const char *dir, const char *name, const uint8_t key[32], struct far_error *err);
/* Prints the error and returns its exit status. */
int far_server_failed(const struct far_error *err);

#endif
