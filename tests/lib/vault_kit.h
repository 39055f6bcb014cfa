/* What the tests of the vault share: a temporary folder, blocks by number, a disk as a plain array beside its replica. */
#ifndef FAR_TESTS_LIB_VAULT_KIT_H
#define FAR_TESTS_LIB_VAULT_KIT_H

#include "dataplane/vault.h"

#include <dirent.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

/* The block with this number: 0 is all zeroes, odd ones are random, even ones compress. */
static inline void kit_block(uint64_t number, uint8_t block[FAR_BLOCK_BYTES])
{
    uint64_t state = number * 0x9E3779B97F4A7C15ull + 1;
    memset(block, 0, FAR_BLOCK_BYTES);
    if (number == 0) {
        return;
    }
    far_put_le64(block, number);
    for (size_t at = 8; at < (number % 2 == 1 ? FAR_BLOCK_BYTES : 4096u); at += 8) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        far_put_le64(block + at, state);
    }
}

static inline struct far_hash256 kit_id(uint64_t number)
{
    static __thread uint8_t block[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    kit_block(number, block);
    far_block_leaf(block, FAR_BLOCK_BYTES, &id);
    return id;
}

static inline int kit_put_in(struct far_vault *vault, const struct far_domain *domain, uint64_t number,
                             struct far_hash256 *ret_id, struct far_error *err)
{
    static __thread uint8_t block[FAR_BLOCK_BYTES];
    kit_block(number, block);
    far_block_leaf(block, FAR_BLOCK_BYTES, ret_id);
    return far_vault_put(vault, domain, ret_id, FAR_CODEC_RAW, block, FAR_BLOCK_BYTES, err);
}

static inline int kit_put(struct far_vault *vault, uint64_t number, struct far_hash256 *ret_id, struct far_error *err)
{
    return kit_put_in(vault, NULL, number, ret_id, err);
}

/* Put a block and set it as block `index` of a replica. */
static inline int kit_write(struct far_vault *vault, struct far_replica *replica, uint64_t index, uint64_t number,
                            struct far_error *err)
{
    struct far_hash256 id;
    int rc = kit_put_in(vault, far_replica_domain(replica), number, &id, err);
    return rc != 0 ? rc : far_replica_set(replica, index, &id, err);
}

/* A manifest of one disk. */
static inline void kit_manifest(uint64_t point_id, uint64_t disk_id, uint64_t size_bytes,
                                const struct far_hash256 *root, struct far_manifest *ret_manifest)
{
    memset(ret_manifest, 0, sizeof *ret_manifest);
    memset(ret_manifest->cluster_uuid, 0xC1, 16);
    ret_manifest->incarnation_epoch = 1;
    ret_manifest->plan_id = 7;
    ret_manifest->plan_epoch = 1;
    ret_manifest->workload_id = 8;
    ret_manifest->point_id = point_id;
    ret_manifest->checkpoint_id = point_id + 1000;
    ret_manifest->job_id = 9;
    ret_manifest->frozen_at_ms = 1800000000000ull;
    strcpy(ret_manifest->plan, "plan");
    strcpy(ret_manifest->site, "near");
    strcpy(ret_manifest->workload, "web");
    ret_manifest->disk_count = 1;
    ret_manifest->disks[0].disk_id = disk_id;
    strcpy(ret_manifest->disks[0].name, "root");
    ret_manifest->disks[0].size_bytes = size_bytes;
    ret_manifest->disks[0].root = *root;
}

/* A folder and what is in it, gone. */
static inline void kit_remove(const char *path)
{
    DIR *dir = opendir(path);
    struct dirent *entry;
    while (dir != NULL && (entry = readdir(dir)) != NULL) {
        char inner[4096];
        if (strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0) {
            continue;
        }
        snprintf(inner, sizeof inner, "%.3800s/%s", path, entry->d_name);
        if (unlink(inner) != 0) {
            kit_remove(inner);
        }
    }
    if (dir != NULL) {
        closedir(dir);
    }
    rmdir(path);
}

/* A new temporary folder; its name stays valid until the next call. */
static inline const char *kit_folder(void)
{
    static char folder[256];
    const char *base = getenv("TMPDIR");
    snprintf(folder, sizeof folder, "%.200s/far-vault-XXXXXX", base != NULL ? base : "/tmp");
    return mkdtemp(folder);
}

#endif
