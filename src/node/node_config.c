/* A node's folder and options: see node.h. */
#include "node/node.h"

#include "base/config.h"

#include <errno.h>
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <unistd.h>

enum { MACHINE_KEY_COUNT = 5, KEY_COUNT = 16 + MACHINE_KEY_COUNT };

void far_node_config_default(struct far_node_config *config)
{
    *config = (struct far_node_config){
        .memory_bytes = 128u << 20,
        .checkpoint_bytes = 500000000,
        .checkpoint_ms = 10000,
        .nbd_write_percent = 25,
    };
}

static void fill_machine_keys(struct far_node_config *c, struct far_config_key keys[MACHINE_KEY_COUNT])
{
    const struct far_config_key table[MACHINE_KEY_COUNT] = {
        {.name = "machines_place",
         .type = FAR_CONFIG_TEXT,
         .value = c->machines_place,
         .size = sizeof c->machines_place,
         .comment = "where recovered machines run: kvm:///, perhaps with ?socket=PATH of libvirtd's socket; empty: nowhere"},
        {.name = "recovery_dir",
         .type = FAR_CONFIG_TEXT,
         .value = c->recovery_dir,
         .size = sizeof c->recovery_dir,
         .comment = "folder below which the disks of recovered machines are made; goes with machines_place"},
        {.name = "scripts_dir",
         .type = FAR_CONFIG_TEXT,
         .value = c->scripts_dir,
         .size = sizeof c->scripts_dir,
         .comment = "folder of the scripts that plans may run here, root's and writable by nobody else; empty: none"},
        {.name = "scripts_user",
         .type = FAR_CONFIG_TEXT,
         .value = c->scripts_user,
         .size = sizeof c->scripts_user,
         .comment = "who runs them, not root; goes with scripts_dir"},
        {.name = "hydrate_bytes_per_s",
         .type = FAR_CONFIG_U64,
         .value = &c->hydrate_bytes_per_s,
         .max = (uint64_t)1 << 40,
         .comment = "so fast at the most each disk of a machine that came up at once is written out; 0: no bound"},
    };
    memcpy(keys, table, sizeof table);
}

static void fill_keys(struct far_node_config *c, struct far_config_key keys[KEY_COUNT])
{
    const struct far_config_key table[KEY_COUNT - MACHINE_KEY_COUNT] = {
        {.name = "node_id", .type = FAR_CONFIG_U64, .value = &c->node_id, .min = 1, .max = UINT64_MAX, .required = true},
        {.name = "name", .type = FAR_CONFIG_TEXT, .value = c->name, .size = sizeof c->name, .required = true},
        {.name = "cluster", .type = FAR_CONFIG_TEXT, .value = c->cluster, .size = sizeof c->cluster},
        {.name = "cluster_uuid", .type = FAR_CONFIG_HEX, .value = c->cluster_uuid, .size = 16, .required = true},
        {.name = "incarnation_epoch", .type = FAR_CONFIG_U64, .value = &c->incarnation_epoch, .max = UINT64_MAX},
        {.name = "data_address",
         .type = FAR_CONFIG_TEXT,
         .value = c->data_address,
         .size = sizeof c->data_address,
         .comment = "host:port where other nodes reach this one; empty: it calls them, and they need one"},
        {.name = "vault",
         .type = FAR_CONFIG_TEXT,
         .value = c->vault,
         .size = sizeof c->vault,
         .comment = "folder of the vault; empty: vault/ beside this file"},
        {.name = "store",
         .type = FAR_CONFIG_TEXT,
         .value = c->store,
         .size = sizeof c->store,
         .comment = "file that names the object store of the vault (docs/OBJECT_STORE.md); empty: none, or the one it is bound to"},
        {.name = "cache",
         .type = FAR_CONFIG_TEXT,
         .value = c->cache,
         .size = sizeof c->cache,
         .comment = "folder of the leaf maps of source disks; empty: cache/ beside this file"},
        {.name = "memory_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->memory_bytes,
         .min = 16u << 20,
         .max = (uint64_t)1 << 40,
         .comment = "of block buffers, allocated at start"},
        {.name = "workers",
         .type = FAR_CONFIG_U64,
         .value = &c->workers,
         .max = 64,
         .comment = "hashing threads of one transfer; 0: one a processor"},
        {.name = "checkpoint_bytes",
         .type = FAR_CONFIG_U64,
         .value = &c->checkpoint_bytes,
         .min = 1u << 20,
         .max = (uint64_t)1 << 40,
         .comment = "an intermediate checkpoint is made after so many bytes"},
        {.name = "checkpoint_ms",
         .type = FAR_CONFIG_U64,
         .value = &c->checkpoint_ms,
         .min = 100,
         .max = 3600000,
         .comment = "or after so many milliseconds"},
        {.name = "export_dir",
         .type = FAR_CONFIG_TEXT,
         .value = c->export_dir,
         .size = sizeof c->export_dir,
         .comment = "folder in which whoever rules the cluster may have files and vaults made of points; empty: nowhere"},
        {.name = "nbd_address",
         .type = FAR_CONFIG_TEXT,
         .value = c->nbd_address,
         .size = sizeof c->nbd_address,
         .comment = "besides loopback points may be opened at this address, for holders of the cluster's certificates; empty: nowhere"},
        {.name = "nbd_write_percent",
         .type = FAR_CONFIG_U64,
         .value = &c->nbd_write_percent,
         .min = 1,
         .max = 100,
         .comment = "of what is free in uses/: so much may be written to a point that is opened writable, if no bound is asked for"},
    };
    memcpy(keys, table, sizeof table);
    fill_machine_keys(c, keys + KEY_COUNT - MACHINE_KEY_COUNT);
}

void far_node_path(const char *dir, const char *name, char path[FAR_NODE_PATH_MAX + 32])
{
    snprintf(path, FAR_NODE_PATH_MAX + 32, "%.*s/%s", FAR_NODE_PATH_MAX - 1, dir, name);
}

int far_node_config_load(const char *dir, struct far_node_config *ret_config, struct far_error *err)
{
    struct far_config_key keys[KEY_COUNT];
    char path[FAR_NODE_PATH_MAX + 32];
    far_node_config_default(ret_config);
    fill_keys(ret_config, keys);
    far_node_path(dir, "config", path);
    int rc = far_config_load(path, keys, KEY_COUNT, err);
    return rc == FAR_NOT_FOUND ? far_fail(err, rc, "'%s' is no folder of a node: run `farshore-node join` first", dir)
                               : rc;
}

int far_node_config_save(const char *dir, const struct far_node_config *config, struct far_error *err)
{
    struct far_node_config copy = *config;
    struct far_config_key keys[KEY_COUNT];
    char path[FAR_NODE_PATH_MAX + 32];
    fill_keys(&copy, keys);
    far_node_path(dir, "config", path);
    return far_config_save(path, keys, KEY_COUNT, err);
}

int far_node_options(int argc, char **argv, const char *const *names, const char **ret_values, struct far_error *err)
{
    for (size_t n = 0; names[n] != NULL; n++) {
        ret_values[n] = NULL;
    }
    for (int i = 1; i < argc; i += 2) {
        size_t n = 0;
        while (names[n] != NULL && strcmp(names[n], argv[i]) != 0) {
            n++;
        }
        if (names[n] == NULL) {
            return far_fail(err, FAR_INVALID, "%s: unknown option '%s'", argv[0], argv[i]);
        }
        if (ret_values[n] != NULL) {
            return far_fail(err, FAR_INVALID, "%s: '%s' is given twice", argv[0], argv[i]);
        }
        if (i + 1 == argc) {
            return far_fail(err, FAR_INVALID, "%s: '%s' needs a value", argv[0], argv[i]);
        }
        ret_values[n] = argv[i + 1];
    }
    return 0;
}

int far_node_failed(const struct far_error *err)
{
    fprintf(stderr, "farshore-node: %s\n", err->message);
    return far_class_info(err->klass)->exit_code;
}

int far_node_lock(const char *dir, int *ret_fd, struct far_error *err)
{
    int fd = open(dir, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, FAR_NOT_FOUND, errno, "open folder '%s'", dir);
    }
    if (flock(fd, LOCK_EX | LOCK_NB) != 0) {
        int code = errno;
        close(fd);
        return code == EWOULDBLOCK ? far_fail(err, FAR_CONFLICT, "a node runs on folder '%s': stop it first", dir)
                                   : far_fail_errno(err, FAR_IO, code, "lock folder '%s'", dir);
    }
    *ret_fd = fd;
    return 0;
}
