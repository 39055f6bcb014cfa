/* A vault with a keyed dedup domain, as it was first written: it opens with the keys of its orders, with the newest one and the one
 * before, and with the recovery key alone. `golden_keyed make DIR` made tests/golden/vault_keyed; what a released version wrote is
 * never made anew. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "base/file.h"
#include "net/seal.h"

#include <zstd.h>

enum { BLOCKS = 300, SIZE = BLOCKS * FAR_BLOCK_BYTES - 9 };

static char golden[1024], folder[300];
static struct far_error err;
static struct far_manifest manifest;
static const uint8_t recovery_private[32] = {9, 8, 7};
static const char *const names[] = {"vault", "vault.key", "packs/00000001.pack", "points/1.manifest", "points/2.manifest",
                                    "replicas/5.replica", "domains/67676767676767676767676767676767.domain"};
enum { NAMES = sizeof names / sizeof names[0] };

static struct far_domain_keys keys_of(uint32_t generation)
{
    struct far_domain_keys keys = {.name = "gold", .generation = generation, .old_generation = generation - 1, .has_recovery_key = true};
    memset(keys.uuid, 'g', 16);
    memset(keys.secret, 0x51, 32);
    memset(keys.key, (int)generation, 32);
    memset(keys.old_key, (int)generation - 1, 32);
    assert_int_equal(far_seal_public(recovery_private, keys.recovery_public, &err), 0);
    return keys;
}

static const struct far_domain *open_domain(struct far_vault *vault, uint32_t generation)
{
    const struct far_domain *domain = NULL;
    struct far_domain_keys keys = keys_of(generation);
    assert_int_equal(far_vault_domain_open(vault, &keys, &domain, &err), 0);
    return domain;
}

/* Even numbers compress well: small files. */
static uint64_t number_at(uint64_t point, uint64_t index)
{
    return index % 50 == 0 ? 1000 * point + index + 2 : 0;
}

static void write_point(struct far_vault *vault, const struct far_domain *domain, uint64_t point)
{
    static uint8_t block[FAR_BLOCK_BYTES], packed[FAR_BLOCK_BYTES];
    struct far_replica *replica;
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = point, .attempt = 1};
    struct far_hash256 root;
    assert_int_equal(far_replica_open(vault, domain, 5, SIZE, &fence, &replica, &err), 0);
    for (uint64_t i = 0; i < BLOCKS; i += 50) {
        struct far_hash256 id = kit_id(number_at(point, i));
        kit_block(number_at(point, i), block);
        size_t n = ZSTD_compress(packed, sizeof packed, block, sizeof block, 3);
        assert_int_equal(far_vault_put(vault, domain, &id, FAR_CODEC_ZSTD, packed, n, &err), 0);
        assert_int_equal(far_replica_set(replica, i, &id, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, BLOCKS, "view", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(point, 5, SIZE, &root, &manifest);
    far_domain_uuid(domain, manifest.domain_uuid);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    far_replica_close(replica);
}

static void make(const char *dir)
{
    struct far_vault *vault;
    struct far_vault_options options = {.create = true};
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0);
    write_point(vault, open_domain(vault, 1), 1);
    write_point(vault, open_domain(vault, 2), 2);
    far_vault_close(vault);
}

/* The vault of then, in a folder of its own: opening may change its files. */
static struct far_vault *open_copy(const char *name)
{
    static const char *const folders[] = {"", "/packs", "/points", "/replicas", "/domains"};
    char dir[400], from[1400], to[1400];
    struct far_vault *vault;
    snprintf(dir, sizeof dir, "%s/%s", folder, name);
    for (size_t i = 0; i < sizeof folders / sizeof folders[0]; i++) {
        snprintf(to, sizeof to, "%s%s", dir, folders[i]);
        assert_int_equal(far_file_make_dir(to, &err), 0);
    }
    for (size_t i = 0; i < NAMES; i++) {
        struct far_buf buf;
        far_buf_init(&buf, 1 << 20);
        snprintf(from, sizeof from, "%s/%s", golden, names[i]);
        snprintf(to, sizeof to, "%s/%s", dir, names[i]);
        assert_int_equal(far_file_read(from, &buf, &err), 0);
        assert_int_equal(far_file_replace(to, buf.data, buf.len, 0600, &err), 0);
        far_buf_done(&buf);
    }
    assert_int_equal(far_vault_open(dir, NULL, &vault, &err), 0);
    return vault;
}

static void assert_points(struct far_vault *vault)
{
    static uint8_t block[FAR_BLOCK_BYTES], expected[FAR_BLOCK_BYTES];
    struct far_vault_stats stats;
    for (uint64_t point = 1; point <= 2; point++) {
        struct far_point *disk;
        struct far_verify_result result;
        assert_int_equal(far_point_open_disk(vault, point, "root", &disk, &err), 0);
        assert_int_equal(far_point_verify(disk, NULL, NULL, NULL, &result, &err), 0);
        for (uint64_t i = 0; i < BLOCKS; i += 25) {
            kit_block(number_at(point, i), expected);
            assert_int_equal(far_point_read(disk, i, true, block, NULL, &err), 0);
            assert_memory_equal(block, expected, sizeof block);
        }
        far_point_close(disk);
    }
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.damages, 0);
}

static void a_keyed_vault_of_then_opens_with_its_keys(void **state)
{
    (void)state;
    struct far_vault *vault = open_copy("keys");
    struct far_point *disk;
    assert_int_equal(far_point_open_disk(vault, 1, "root", &disk, &err), FAR_DENIED);
    open_domain(vault, 2);
    assert_points(vault);
    write_point(vault, open_domain(vault, 3), 3); /* and goes on */
    assert_points(vault);
    far_vault_close(vault);
}

static void a_keyed_vault_of_then_opens_with_the_recovery_key(void **state)
{
    (void)state;
    struct far_vault *vault = open_copy("recovery");
    assert_int_equal(far_vault_domains_recover(vault, recovery_private, &err), 0);
    assert_points(vault);
    far_vault_close(vault);
}

static int set_up(void **state)
{
    (void)state;
    const char *source = getenv("srcdir");
    snprintf(golden, sizeof golden, "%s/tests/golden/vault_keyed", source != NULL ? source : FAR_SRCDIR);
    snprintf(folder, sizeof folder, "%s", kit_folder());
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    kit_remove(folder);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_keyed_vault_of_then_opens_with_its_keys, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_keyed_vault_of_then_opens_with_the_recovery_key, set_up, tear_down),
    };
    if (argc == 3 && strcmp(argv[1], "make") == 0) {
        make(argv[2]);
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
