/* Makes a vault with one point from an image, for benchmarks of what reads points:
 *
 *   make_point VAULT IMAGE [SIZE]      point 1, disk `disk0`; SIZE: so many bytes of disk, what is behind the image is a hole
 *
 * Blocks are stored as they are. */
#include "../lib/vault_kit.h"

#include <fcntl.h>

static struct far_error err;

static void must(int rc, const char *what)
{
    if (rc != 0) {
        fprintf(stderr, "make_point: %s: %s\n", what, err.message);
        exit(1);
    }
}

static void store(struct far_vault *vault, struct far_replica *replica, int fd)
{
    static uint8_t block[FAR_BLOCK_BYTES];
    struct far_hash256 id;
    ssize_t n;
    for (uint64_t index = 0; (n = pread(fd, block, sizeof block, (off_t)(index * sizeof block))) > 0; index++) {
        memset(block + n, 0, sizeof block - (size_t)n);
        if (!far_block_is_zero(block, sizeof block)) {
            far_block_leaf(block, sizeof block, &id);
            must(far_vault_put(vault, NULL, &id, FAR_CODEC_RAW, block, sizeof block, &err), "store a block");
            must(far_replica_set(replica, index, &id, &err), "set a leaf");
        }
    }
}

int main(int argc, char **argv)
{
    static struct far_manifest manifest;
    const struct far_vault_options options = {.create = true};
    const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 1, .attempt = 1};
    struct far_vault *vault;
    struct far_replica *replica;
    struct far_hash256 root;
    struct stat st;
    int fd = argc >= 3 ? open(argv[2], O_RDONLY | O_CLOEXEC) : -1;
    if (fd < 0 || fstat(fd, &st) != 0) {
        fprintf(stderr, "usage: make_point VAULT IMAGE [SIZE]\n");
        return 2;
    }
    uint64_t size = argc > 3 ? strtoull(argv[3], NULL, 10) : (uint64_t)st.st_size;
    must(far_vault_open(argv[1], &options, &vault, &err), "open the vault");
    must(far_replica_open(vault, NULL, 1, size, &fence, &replica, &err), "open the replica");
    store(vault, replica, fd);
    close(fd);
    must(far_replica_checkpoint(replica, far_map_block_count(size), "view", &err), "checkpoint");
    must(far_replica_root(replica, &root, &err), "root");
    kit_manifest(1, 1, size, &root, &manifest);
    strcpy(manifest.disks[0].name, "disk0");
    must(far_vault_seal(vault, &manifest, &err), "seal");
    far_replica_close(replica);
    far_vault_close(vault);
    return 0;
}
