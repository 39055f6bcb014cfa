/* The commands of farshore-node, and what they share: the node's folder. Each command gets its own argv (argv[0] is its
 * name) and returns the exit status. */
#ifndef FAR_NODE_NODE_H
#define FAR_NODE_NODE_H

#include "base/error.h"

#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

int far_node_join(int argc, char **argv);
int far_node_follow(int argc, char **argv);
int far_node_run(int argc, char **argv);
int far_store_cli(int argc, char **argv); /* store_check.c */
int far_vault_cli(int argc, char **argv); /* vault_cli.c */
int far_vault_parse_point(const char *text, uint64_t *ret_point, struct far_error *err);
/* vault_help.c: the usage of one command, or of all (NULL); false: there is none of this name. */
bool far_vault_print_usage(FILE *out, const char *command, const char *indent);
/* No control characters in it? And a name that may have some, as it can be printed. */
bool far_vault_is_printable(const char *text);
enum { FAR_SHOWN_MAX = 256 };
const char *far_vault_shown(const char *text, char shown[FAR_SHOWN_MAX]);
/* vault_nbd.c: until it is stopped. */
int far_vault_nbd_cli(int argc, char **argv, bool writable, bool progress, struct far_error *err);
/* vault_cli.c: with --progress, a line that the node reads (dataplane/tasks_use.c), at most once a permille. */
void far_vault_cli_progress(uint64_t done, uint64_t total);
struct far_nbd_order {
    const char *vault;
    uint64_t point;
    const char *disk;
    const char *recovery_key; /* file; NULL: none */
    int *ret_status;          /* of the command, which is no error then; NULL: it is */
};
/* Runs a shell command while the disk is served, read-only; "$uri" in it is where. Every block is checked (SHA-256). FAR_IO: it failed. */
int far_vault_nbd_run(const struct far_nbd_order *order, const char *command, struct far_error *err);
/* vault_browse.c: what the inner command ended with, which has said why. */
int far_vault_browse_cli(int argc, char **argv, int *ret_status, struct far_error *err);
int far_vault_browse_served(const char *uri, struct far_error *err);
/* vault_carry.c */
int far_vault_copy_cli(int argc, char **argv, bool progress, struct far_error *err);
int far_vault_heal_cli(int argc, char **argv, struct far_error *err);
/* vault_export.c */
int far_vault_diff_cli(int argc, char **argv, bool pages, bool json, struct far_error *err);
/* vault_qcow2.c: what differs between two points of a disk, over the file of the first. It is removed when that fails. */
struct far_qcow2_order {
    const char *vault;
    uint64_t base, point;
    const char *disk;
    const char *backing; /* as the new file names it */
    const char *out;
    const char *recovery_key; /* file; NULL: none */
    bool progress;
};
int far_vault_qcow2_export(const struct far_qcow2_order *order, struct far_error *err);
/* Is there one on PATH? */
bool far_node_has_program(const char *program);
int far_vault_export_cli(int argc, char **argv, bool progress, struct far_error *err);
/* The first count options of names were given; FAR_INVALID names the first that was not. */
int far_vault_cli_need(const char *const *names, const char *const *values, size_t count, struct far_error *err);
enum far_vault_use { FAR_VAULT_READ, FAR_VAULT_WRITE, FAR_VAULT_MAKE };
/* Opens a vault and unlocks its domains with the key in a file (NULL: none). */
struct far_vault;
int far_vault_cli_open(const char *dir, enum far_vault_use use, const char *recovery_key_file, struct far_vault **ret_vault,
                       struct far_error *err);
/* vault_keep.c */
int far_vault_import_cli(int argc, char **argv, struct far_error *err);
int far_vault_forget_cli(int argc, char **argv, struct far_error *err);
int far_vault_reclaim_cli(int argc, char **argv, bool secure, struct far_error *err);
int far_vault_space_cli(int argc, char **argv, struct far_error *err);
/* vault_bind.c */
int far_vault_bind_cli(int argc, char **argv, struct far_error *err);
int far_vault_attach_cli(int argc, char **argv, bool read_only, bool take_over, struct far_error *err);
int far_vault_store_cli(int argc, char **argv, struct far_error *err);
int far_vault_scrub_cli(int argc, char **argv, struct far_error *err); /* vault_scrub.c */
int far_vault_keys_cli(int argc, char **argv, struct far_error *err);  /* vault_keys.c */
int far_vault_signal_cli(int argc, char **argv, bool features, struct far_error *err); /* vault_signal.c */

int far_vault_config_cli(int argc, char **argv, bool recovery, struct far_error *err); /* vault_config.c */

enum { FAR_NODE_PATH_MAX = 3072 };

/* The file `config` of a node's folder. */
struct far_node_config {
    uint64_t node_id;
    char name[64];
    char cluster[64];
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    char data_address[256];     /* where to listen for other nodes */
    char vault[FAR_NODE_PATH_MAX]; /* empty: vault/ in the folder */
    char store[FAR_NODE_PATH_MAX]; /* file that names an object store for the vault; empty: none */
    char cache[FAR_NODE_PATH_MAX]; /* empty: cache/ in the folder */
    uint64_t memory_bytes;      /* of block buffers */
    uint64_t workers;           /* hashing threads of one transfer; 0 = one a processor */
    uint64_t checkpoint_bytes;  /* between intermediate checkpoints of a transfer */
    uint64_t checkpoint_ms;
    char export_dir[FAR_NODE_PATH_MAX]; /* in which the cluster may have files made; empty: nowhere */
    uint64_t hydrate_bytes_per_s;       /* of each disk of a machine that came up at once; 0: no bound */
    uint64_t nbd_write_percent;         /* of what is free: bound of what is written to a point that is opened writable */
    char nbd_address[256];              /* besides loopback points are served here, by TLS; empty: nowhere */
    char machines_place[FAR_NODE_PATH_MAX]; /* where recovered machines run, as kvm:///; empty: nowhere */
    char recovery_dir[FAR_NODE_PATH_MAX];   /* below which their disks are made */
    char scripts_dir[FAR_NODE_PATH_MAX];    /* of scripts; empty: none run */
    char scripts_user[64];                  /* who runs them */
};

void far_node_config_default(struct far_node_config *config);
int far_node_config_load(const char *dir, struct far_node_config *ret_config, struct far_error *err);
int far_node_config_save(const char *dir, const struct far_node_config *config, struct far_error *err);
/* dir/name into path (FAR_NODE_PATH_MAX + 32 bytes). */
void far_node_path(const char *dir, const char *name, char path[FAR_NODE_PATH_MAX + 32]);

/* Holds the folder until *ret_fd is closed or the process ends. FAR_CONFLICT: a node runs there. */
int far_node_lock(const char *dir, int *ret_fd, struct far_error *err);

/* `--name value` options: each must be in names (closed by NULL) and is given at most once; values[i] is NULL if it is
 * not there. FAR_INVALID names what is wrong. */
int far_node_options(int argc, char **argv, const char *const *names, const char **ret_values, struct far_error *err);
/* Prints the error and returns its exit status. */
int far_node_failed(const struct far_error *err);

#endif
