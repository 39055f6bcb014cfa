/* Encryption at rest: domains in a vault, their keys lost, wrong, rotated, destroyed; ids by HMAC; what is damaged or old. */
#define _GNU_SOURCE
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "dataplane/id_key.h"
#include "dataplane/scrub.h"
#include "net/seal.h"

#include <fcntl.h>
#include <zstd.h>

enum { DISK_BLOCKS = 40, SIZE = DISK_BLOCKS * FAR_BLOCK_BYTES - 5 };

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static uint8_t block[FAR_BLOCK_BYTES];
static uint8_t expected[FAR_BLOCK_BYTES];
static struct far_manifest manifest;
static uint8_t recovery_public[32], recovery_private[32];

static void open_vault(void)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    int rc = far_vault_open(dir, &options, &vault, &err);
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static void close_vault(void)
{
    far_vault_close(vault);
    vault = NULL;
}

static void reopen(void)
{
    close_vault();
    open_vault();
}

static int set_up(void **state)
{
    (void)state;
    snprintf(dir, sizeof dir, "%s", kit_folder());
    assert_int_equal(far_seal_keypair(recovery_public, recovery_private, &err), 0);
    open_vault();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    close_vault();
    vault = NULL;
    kit_remove(dir);
    return 0;
}

/* Keys of the domain with this letter, as an order of this generation brings them. */
static struct far_domain_keys keys_of(char letter, uint32_t generation)
{
    struct far_domain_keys keys = {.generation = generation, .has_recovery_key = true};
    memset(keys.uuid, letter, 16);
    snprintf(keys.name, sizeof keys.name, "domain-%c", letter);
    memset(keys.secret, letter ^ 0x55, 32);
    memset(keys.key, letter, 32);
    keys.key[0] = (uint8_t)generation;
    if (generation > 1) {
        keys.old_generation = generation - 1;
        memcpy(keys.old_key, keys.key, 32);
        keys.old_key[0]--;
    }
    memcpy(keys.recovery_public, recovery_public, 32);
    return keys;
}

static const struct far_domain *domain_of(char letter, uint32_t generation)
{
    const struct far_domain *domain = NULL;
    struct far_domain_keys keys = keys_of(letter, generation);
    int rc = far_vault_domain_open(vault, &keys, &domain, &err);
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
    assert_non_null(domain);
    return domain;
}

/* Point `point` of a disk: blocks numbered from `first` on, raw and compressed ones, and holes. */
static void make_point(const struct far_domain *domain, uint64_t disk, uint64_t point, uint64_t first)
{
    struct far_replica *replica;
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = point, .attempt = 1};
    struct far_hash256 root;
    uint8_t packed[2 * FAR_BLOCK_BYTES];
    assert_int_equal(far_replica_open(vault, domain, disk, SIZE, &fence, &replica, &err), 0);
    for (uint64_t i = 0; i < DISK_BLOCKS - 1; i += 1 + i % 2) {
        struct far_hash256 id = kit_id(first + i);
        kit_block(first + i, block);
        size_t n = (first + i) % 2 == 0 ? ZSTD_compress(packed, sizeof packed, block, sizeof block, 1) : 0;
        int rc = n > 0 ? far_vault_put(vault, domain, &id, FAR_CODEC_ZSTD, packed, n, &err)
                       : far_vault_put(vault, domain, &id, FAR_CODEC_RAW, block, sizeof block, &err);
        assert_int_equal(rc, 0);
        assert_int_equal(far_replica_set(replica, i, &id, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, far_replica_blocks(replica), "view", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    assert_ptr_equal(far_replica_domain(replica), domain);
    kit_manifest(point, disk, SIZE, &root, &manifest);
    far_domain_uuid(domain, manifest.domain_uuid);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0); /* the same again */
    far_replica_close(replica);
}

static int verify(uint64_t point)
{
    struct far_point *disk = NULL;
    struct far_verify_result result;
    int rc = far_point_open_disk(vault, point, "root", &disk, &err);
    rc = rc == 0 ? far_point_verify(disk, NULL, NULL, NULL, &result, &err) : rc;
    far_point_close(disk);
    return rc;
}

/* Every block of the point is there, as it was put. */
static void assert_point(uint64_t point, uint64_t first)
{
    struct far_point *disk = NULL;
    int rc = far_point_open_disk(vault, point, "root", &disk, &err);
    if (rc != 0) {
        print_message("# point %d: %s\n", (int)point, err.message);
    }
    assert_int_equal(rc, 0);
    for (uint64_t i = 0; i < DISK_BLOCKS - 1; i += 1 + i % 2) {
        kit_block(first + i, expected);
        assert_int_equal(far_point_read(disk, i, true, block, NULL, &err), 0);
        assert_memory_equal(block, expected, FAR_BLOCK_BYTES);
    }
    far_point_close(disk);
    assert_int_equal(verify(point), 0);
}

static void remove_index(void)
{
    char path[400];
    snprintf(path, sizeof path, "%s/index", dir);
    kit_remove(path);
}

/* Calls each for the bytes of every file in a folder of the vault. */
static void each_file(const char *folder, void (*each)(void *arg, const uint8_t *bytes, size_t len), void *arg)
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", dir, folder);
    DIR *list = opendir(path);
    assert_non_null(list);
    struct dirent *entry;
    while ((entry = readdir(list)) != NULL) {
        struct stat st;
        char file[4400];
        snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
        int fd = open(file, O_RDONLY | O_CLOEXEC);
        assert_true(fd >= 0 && fstat(fd, &st) == 0);
        if (S_ISREG(st.st_mode)) {
            uint8_t *bytes = malloc((size_t)st.st_size + 1);
            assert_int_equal(read(fd, bytes, (size_t)st.st_size), st.st_size);
            each(arg, bytes, (size_t)st.st_size);
            free(bytes);
        }
        close(fd);
    }
    closedir(list);
}

struct needle {
    const void *bytes;
    size_t len;
    size_t found;
};

static void look_for(void *arg, const uint8_t *bytes, size_t len)
{
    struct needle *needle = arg;
    for (const uint8_t *at = bytes; (at = memmem(at, len - (size_t)(at - bytes), needle->bytes, needle->len)) != NULL; at++) {
        needle->found++;
    }
}

static size_t count_in(const char *folder, const void *bytes, size_t len)
{
    struct needle needle = {.bytes = bytes, .len = len};
    each_file(folder, look_for, &needle);
    return needle.found;
}

/* ---- tests ---- */

static void a_point_since_another_domain_is_read_whole(void **state)
{
    (void)state;
    struct far_point *plain, *keyed;
    struct far_verify_result result;
    make_point(NULL, 5, 1, 101);
    make_point(domain_of('a', 1), 6, 2, 101);
    assert_int_equal(far_point_open_disk(vault, 1, "root", &plain, &err), 0);
    assert_int_equal(far_point_open_disk(vault, 2, "root", &keyed, &err), 0);
    assert_int_equal(far_point_verify_since(keyed, plain, NULL, NULL, NULL, &result, &err), 0);
    assert_int_equal(result.blocks_known, 0); /* the same root, and other bytes */
    assert_true(result.bytes_read > 0);
    far_point_close(plain);
    far_point_close(keyed);
}

static void what_is_put_in_a_keyed_domain_is_read_again_and_lies_there_encrypted(void **state)
{
    (void)state;
    const struct far_domain *a = domain_of('a', 1);
    make_point(a, 5, 1, 101);
    assert_point(1, 101);
    reopen();
    domain_of('a', 1);
    assert_point(1, 101);
    kit_block(101, expected);
    struct far_hash256 leaf = kit_id(101), id;
    struct far_domain_keys keys = keys_of('a', 1);
    far_domain_id(domain_of('a', 1), &leaf, &id);
    assert_int_equal(count_in("packs", expected + 8, 64), 0);
    assert_int_equal(count_in("packs", leaf.bytes, 32), 0); /* neither as an id nor in a page */
    assert_int_equal(count_in("packs", id.bytes, 32), 1);
    assert_int_equal(count_in("domains", keys.secret, 32), 0);
    assert_int_equal(count_in("domains", keys.key, 32), 0);
}

static void ids_differ_between_domains_and_are_hmac(void **state)
{
    (void)state;
    const struct far_domain *a = domain_of('a', 1), *b = domain_of('b', 1);
    struct far_hash256 leaf = kit_id(3), plain, in_a, in_b, again;
    bool has[2] = {false};
    far_domain_id(NULL, &leaf, &plain);
    far_domain_id(a, &leaf, &in_a);
    far_domain_id(b, &leaf, &in_b);
    assert_true(far_hash256_equal(&plain, &leaf));
    assert_false(far_hash256_equal(&in_a, &leaf) || far_hash256_equal(&in_b, &leaf) || far_hash256_equal(&in_a, &in_b));
    kit_block(3, block);
    assert_int_equal(far_vault_put(vault, a, &leaf, FAR_CODEC_RAW, block, sizeof block, &err), 0);
    assert_int_equal(far_vault_has(vault, a, &leaf, 1, has, &err), 0);
    assert_true(has[0]);
    assert_int_equal(far_vault_has(vault, b, &leaf, 1, has, &err), 0);
    assert_false(has[0]); /* whoever knows the hash does not know the block */
    assert_int_equal(far_vault_has(vault, NULL, &leaf, 1, has, &err), 0);
    assert_false(has[0]);
    assert_int_equal(far_vault_get(vault, b, &leaf, false, block, &err), FAR_NOT_FOUND);
    assert_int_equal(far_vault_get(vault, NULL, &in_a, false, block, &err), FAR_CORRUPT); /* named, and still not given away */
    assert_int_equal(far_domain_number(a), 1);
    assert_int_equal(far_domain_number(b), 2);
    assert_int_equal(far_domain_number(NULL), 0);
    struct far_id_key key;
    struct far_domain_keys keys = keys_of('a', 1);
    assert_int_equal(far_id_key_init(&key, keys.uuid, keys.secret, &err), 0);
    far_id_key_id(&key, &leaf, &again); /* as the source computes it */
    assert_true(far_hash256_equal(&again, &in_a));
}

/* RFC 4231, test case 2 has a short key; case 1 of 20 bytes is filled with zeroes to our 32, which HMAC does anyway. */
static void hmac_is_hmac(void **state)
{
    (void)state;
    uint8_t bytes[32] = {0}, mac[32], right[32];
    struct far_hmac_key key;
    memset(bytes, 0x0b, 20);
    far_hmac_key_init(&key, bytes);
    far_hmac(&key, "Hi There", 8, mac);
    assert_true(far_hex_decode("b0344c61d8db38535ca8afceaf0bf12b881dc200c9833da726e9376c2e32cff7", 64, right, 32));
    assert_memory_equal(mac, right, 32);
}

static void a_veiled_hash_is_for_whoever_has_the_key(void **state)
{
    (void)state;
    struct far_domain_keys a = keys_of('a', 1), b = keys_of('b', 1);
    struct far_id_key key_a, key_b;
    struct far_hash256 leaf = kit_id(9), id, other_id, veiled, back;
    assert_int_equal(far_id_key_init(&key_a, a.uuid, a.secret, &err), 0);
    assert_int_equal(far_id_key_init(&key_b, b.uuid, b.secret, &err), 0);
    far_id_key_id(&key_a, &leaf, &id);
    far_id_key_veil(&key_a, &id, &leaf, &veiled);
    assert_true(far_id_key_unveil(&key_a, &id, &veiled, &back));
    assert_true(far_hash256_equal(&back, &leaf));
    assert_false(far_hash256_equal(&veiled, &leaf));
    assert_false(far_id_key_unveil(&key_b, &id, &veiled, &back));
    far_id_key_id(&key_b, &leaf, &other_id);
    assert_false(far_id_key_unveil(&key_a, &other_id, &veiled, &back));
    assert_false(far_id_key_unveil(&key_a, &id, &leaf, &back));
}

static void a_lost_key_costs_its_domain_only(void **state)
{
    (void)state;
    make_point(domain_of('a', 1), 5, 1, 101);
    make_point(domain_of('b', 1), 6, 2, 101);
    make_point(NULL, 7, 3, 101);
    close_vault();
    remove_index();
    open_vault(); /* the index is made anew from packs that nobody can read */
    struct far_vault_stats stats;
    far_vault_stats(vault, &stats);
    assert_true(stats.index_rebuilt);
    assert_int_equal(stats.damages, 0);
    domain_of('b', 1);
    assert_point(2, 101);
    assert_point(3, 101);
    assert_int_equal(verify(1), FAR_DENIED);
    assert_non_null(strstr(err.message, "domain-a"));
    struct far_manifest *found = malloc(sizeof *found); /* what it is can be told without a key */
    assert_int_equal(far_vault_point(vault, 1, found, &err), 0);
    assert_int_equal(found->domain_number, 1);
    free(found);
    struct far_domain_info infos[8];
    assert_int_equal(far_vault_domains(vault, infos, 8), 2);
    assert_int_equal(infos[0].state, FAR_DOMAIN_LOCKED);
    assert_string_equal(infos[0].name, "domain-a");
    assert_int_equal(infos[1].state, FAR_DOMAIN_UNLOCKED);
    const struct far_domain *domain;
    assert_int_equal(far_vault_domain_numbered(vault, 1, &domain, &err), FAR_DENIED);
    assert_int_equal(far_vault_domain_numbered(vault, 2, &domain, &err), 0);
    assert_int_equal(far_vault_domain_numbered(vault, 3, &domain, &err), FAR_NOT_FOUND);
}

static void wrong_keys_are_refused_with_the_name_of_the_domain(void **state)
{
    (void)state;
    const struct far_domain *domain = NULL;
    make_point(domain_of('a', 1), 5, 1, 101);
    struct far_domain_keys keys = keys_of('a', 1), secret = keys;
    secret.secret[3] ^= 1;
    assert_int_equal(far_vault_domain_open(vault, &secret, &domain, &err), FAR_DENIED); /* while it is open, too */
    reopen();
    keys.key[3] ^= 1;
    assert_int_equal(far_vault_domain_open(vault, &keys, &domain, &err), FAR_DENIED);
    assert_non_null(strstr(err.message, "domain-a"));
    assert_int_equal(far_vault_domain_open(vault, &secret, &domain, &err), FAR_DENIED);
    struct far_domain_keys newer = keys_of('a', 3); /* an order that skips a generation, and brings neither */
    assert_int_equal(far_vault_domain_open(vault, &newer, &domain, &err), FAR_DENIED);
    keys = keys_of('a', 0);
    assert_int_equal(far_vault_domain_open(vault, &keys, &domain, &err), FAR_INVALID);
    assert_null(domain);
    domain_of('a', 1);
    assert_point(1, 101);
}

static void a_new_generation_reads_what_the_old_ones_wrote(void **state)
{
    (void)state;
    for (uint32_t generation = 1; generation <= 5; generation++) {
        const struct far_domain *a = domain_of('a', generation);
        make_point(a, 5, generation, 100 * generation);
        if (generation % 2 == 0) {
            reopen();
        }
    }
    for (uint32_t generation = 1; generation <= 5; generation++) {
        domain_of('a', 5);
        assert_point(generation, 100 * generation);
    }
    const struct far_domain *domain = domain_of('a', 3); /* an order from before: the newest stays */
    struct far_domain_info info;
    assert_non_null(domain);
    assert_int_equal(far_vault_domains(vault, &info, 1), 1);
    assert_int_equal(info.generation, 5);
    assert_int_equal(info.key_count, 5);
    reopen();
    struct far_domain_keys old = keys_of('a', 4); /* the old key does not open the vault any more */
    assert_int_equal(far_vault_domain_open(vault, &old, &domain, &err), FAR_DENIED);
    domain_of('a', 5);
    assert_point(1, 100);
}

static void more_generations_than_wrapping_keys_are_no_loss(void **state)
{
    (void)state;
    for (uint32_t generation = 1; generation <= FAR_DOMAIN_KEYS_MAX + 6; generation++) {
        const struct far_domain *a = domain_of('a', generation);
        kit_block(generation, block);
        struct far_hash256 id = kit_id(generation);
        assert_int_equal(far_vault_put(vault, a, &id, FAR_CODEC_RAW, block, sizeof block, &err), 0);
    }
    reopen();
    const struct far_domain *a = domain_of('a', FAR_DOMAIN_KEYS_MAX + 6);
    for (uint32_t generation = 1; generation <= FAR_DOMAIN_KEYS_MAX + 6; generation++) {
        struct far_hash256 id = kit_id(generation);
        assert_int_equal(far_vault_get(vault, a, &id, true, block, &err), 0);
    }
}

static void the_recovery_key_opens_all_and_another_none(void **state)
{
    (void)state;
    uint8_t other_public[32], other_private[32];
    make_point(domain_of('a', 1), 5, 1, 101);
    make_point(domain_of('a', 2), 5, 2, 201);
    make_point(domain_of('b', 1), 6, 3, 301);
    reopen();
    assert_int_equal(far_seal_keypair(other_public, other_private, &err), 0);
    assert_int_equal(far_vault_domains_recover(vault, other_private, &err), FAR_DENIED);
    assert_int_equal(verify(1), FAR_DENIED);
    assert_int_equal(far_vault_domains_recover(vault, recovery_private, &err), 0);
    for (uint64_t point = 1; point <= 3; point++) {
        assert_point(point, 100 * point + 1);
    }
    close_vault();
    struct far_vault_options options = {.read_only = true};
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0); /* beside a node, or after it */
    const struct far_domain *domain;
    struct far_domain_keys unknown = keys_of('c', 1), next = keys_of('a', 3);
    assert_int_equal(far_vault_domain_open(vault, &unknown, &domain, &err), FAR_NOT_FOUND);
    assert_int_equal(far_vault_domain_open(vault, &next, &domain, &err), 0); /* opened, and not rotated */
    assert_int_equal(far_vault_domains_recover(vault, recovery_private, &err), 0);
    assert_point(2, 201);
    assert_point(3, 301);
}

/* The cluster was restored from a backup that knows older keys. */
static void a_vault_that_was_reset_opens_with_any_key_of_its_domain(void **state)
{
    (void)state;
    char path[400], text[FAR_RECOVERY_KEY_TEXT_MAX];
    size_t count = 0;
    make_point(domain_of('a', 1), 5, 1, 101);
    make_point(domain_of('a', 5), 5, 2, 201);
    reopen();
    struct far_domain_keys old = keys_of('a', 3), other = old;
    const struct far_domain *domain;
    assert_int_equal(far_vault_domain_open(vault, &old, &domain, &err), FAR_DENIED);
    snprintf(path, sizeof path, "%s/key", dir);
    FILE *file = fopen(path, "w");
    far_recovery_key_print(recovery_private, text);
    fprintf(file, "%s\n", text);
    fclose(file);
    assert_int_equal(far_vault_domains_reset(vault, path, &count, &err), 0);
    assert_int_equal(count, 1);
    reopen();
    other.secret[0] ^= 1; /* but not with another secret */
    assert_int_equal(far_vault_domain_open(vault, &other, &domain, &err), FAR_DENIED);
    assert_int_equal(far_vault_domain_open(vault, &old, &domain, &err), 0);
    assert_point(1, 101);
    assert_point(2, 201);
    reopen();
    struct far_domain_keys past = keys_of('a', 5);
    past.old_generation = 0;
    assert_int_equal(far_vault_domain_open(vault, &past, &domain, &err), FAR_DENIED); /* it is sealed with the third now */
    domain_of('a', 4);
    assert_point(2, 201);
    unlink(path);
}

static void a_disk_that_changes_its_domain_begins_anew(void **state)
{
    (void)state;
    make_point(NULL, 5, 1, 101);
    const struct far_domain *a = domain_of('a', 1);
    struct far_replica *replica;
    struct far_replica_state found;
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 2, .attempt = 1};
    struct far_hash256 leaf;
    assert_int_equal(far_replica_open(vault, a, 5, SIZE, &fence, &replica, &err), 0);
    far_replica_state(replica, &found);
    assert_int_equal(found.job, 0);
    assert_int_equal(far_replica_get(replica, 0, &leaf, &err), 0);
    assert_true(far_hash256_equal(&leaf, far_zero_leaf()));
    leaf = kit_id(101);
    assert_int_equal(far_replica_set(replica, 0, &leaf, &err), FAR_NOT_FOUND); /* it lies in the other domain */
    far_replica_close(replica);
    make_point(a, 5, 2, 201);
    fence.job = 3;
    assert_int_equal(far_replica_open(vault, a, 5, SIZE, &fence, &replica, &err), 0);
    far_replica_state(replica, &found);
    assert_int_equal(found.job, 2);
    far_replica_close(replica);
    assert_point(1, 101);
    assert_point(2, 201);
}

static void a_destroyed_domain_cannot_be_read_by_anybody(void **state)
{
    (void)state;
    make_point(domain_of('a', 1), 5, 1, 101);
    make_point(domain_of('b', 1), 6, 2, 201);
    struct far_domain_keys keys = keys_of('a', 1);
    const struct far_domain *domain;
    uint8_t nowhere[16] = {9};
    assert_int_equal(far_vault_domain_destroy(vault, nowhere, &err), 0);
    for (int round = 0; round < 3; round++) {
        assert_int_equal(far_vault_domain_destroy(vault, keys.uuid, &err), 0);
        assert_int_equal(verify(1), FAR_CONFLICT);
        assert_non_null(strstr(err.message, "domain-a"));
        assert_int_equal(far_vault_domain_open(vault, &keys, &domain, &err), FAR_CONFLICT);
        assert_int_equal(far_vault_domains_recover(vault, recovery_private, &err), 0);
        domain_of('b', 1);
        assert_point(2, 201);
        reopen();
    }
    assert_int_equal(far_domain_number(domain_of('c', 1)), 3); /* its number is never another's */
}

static void flip_file(const char *file, size_t from_end)
{
    struct stat st;
    int fd = open(file, O_RDWR | O_CLOEXEC);
    uint8_t byte;
    assert_true(fd >= 0 && fstat(fd, &st) == 0 && (size_t)st.st_size > from_end);
    assert_int_equal(pread(fd, &byte, 1, st.st_size - 1 - (off_t)from_end), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, st.st_size - 1 - (off_t)from_end), 1);
    close(fd);
}

static void flip(const char *folder, size_t from_end)
{
    char path[4096], file[4400] = "";
    snprintf(path, sizeof path, "%s/%s", dir, folder);
    DIR *list = opendir(path);
    struct dirent *entry;
    while ((entry = readdir(list)) != NULL) {
        if (entry->d_name[0] != '.' && (strstr(entry->d_name, ".pack") == NULL || strcmp(entry->d_name, "00000001.pack") == 0)) {
            snprintf(file, sizeof file, "%s/%s", path, entry->d_name);
            break;
        }
    }
    closedir(list);
    flip_file(file, from_end);
}

static size_t scrub_names_points(void)
{
    struct far_scrub_order order = {.bytes_max = 0};
    struct far_scrub_result *result = calloc(1, sizeof *result);
    assert_int_equal(far_vault_scrub(vault, &order, NULL, NULL, result, &err), 0);
    assert_int_equal(result->points_skipped, 0);
    assert_true(result->damage_count == 0 || result->damages[0].point_id == 1);
    size_t count = result->damage_count;
    free(result);
    return count;
}

static off_t paths_of_domain(struct far_domain_keys keys, char path[4096], char copy[4096 + 8])
{
    struct stat st;
    char hex[33];
    far_hex_encode(keys.uuid, 16, hex);
    snprintf(path, 4096, "%s/domains/%s.domain", dir, hex);
    snprintf(copy, 4096 + 8, "%s.copy", path);
    assert_int_equal(stat(path, &st), 0);
    return st.st_size;
}

static void a_flipped_bit_in_both_files_of_a_domain_is_named(void **state)
{
    (void)state;
    char path[4096], copy[4096 + 8], hex[33];
    struct far_domain_keys keys = keys_of('a', 1);
    const struct far_domain *domain;
    make_point(domain_of('a', 1), 5, 1, 101);
    make_point(NULL, 7, 3, 101);
    off_t size = paths_of_domain(keys, path, copy);
    far_hex_encode(keys.uuid, 16, hex);
    assert_int_equal(scrub_names_points(), 0);
    for (off_t at = 0; at < size; at += 7) {
        close_vault();
        flip_file(path, (size_t)at);
        flip_file(copy, (size_t)(size - 1 - at));
        open_vault();
        assert_int_equal(far_vault_domain_open(vault, &keys, &domain, &err), FAR_CORRUPT);
        assert_non_null(strstr(err.message, hex));
        struct far_domain_keys other = keys_of('c', 1); /* its number would perhaps be this one's */
        assert_int_equal(far_vault_domain_open(vault, &other, &domain, &err), FAR_CORRUPT);
        assert_int_equal(verify(1), FAR_DENIED);
        assert_int_equal(verify(3), 0);
        assert_int_equal(scrub_names_points(), 1);
        flip_file(path, (size_t)at);
        flip_file(copy, (size_t)(size - 1 - at));
    }
    close_vault();
    assert_int_equal(unlink(path), 0);
    assert_int_equal(unlink(copy), 0);
    open_vault();
    assert_int_equal(scrub_names_points(), 1); /* that it is gone is no better */
}

/* Damaged, cut or gone: the other one says all, and the next start has both again; so does a rotation. */
static void either_file_of_a_domain_will_do(void **state)
{
    (void)state;
    char paths[2][4096 + 8];
    struct far_domain_keys keys = keys_of('a', 1);
    make_point(domain_of('a', 1), 5, 1, 101);
    off_t size = paths_of_domain(keys, paths[0], paths[1]);
    for (off_t at = 0; at < size; at += 7) {
        size_t which = (size_t)at / 7 % 2;
        close_vault();
        if (at % 5 == 0) {
            assert_int_equal(unlink(paths[which]), 0);
        } else {
            flip_file(paths[which], (size_t)at);
        }
        open_vault();
        domain_of('a', 1);
        assert_int_equal(scrub_names_points(), 0);
        assert_int_equal(verify(1), 0);
    }
    domain_of('a', 2);
    close_vault();
    flip_file(paths[0], 9);
    open_vault();
    domain_of('a', 2);
    assert_point(1, 101);
    assert_int_equal(far_vault_domain_destroy(vault, keys.uuid, &err), 0);
    close_vault();
    assert_int_equal(unlink(paths[0]), 0);
    open_vault();
    assert_int_equal(verify(1), FAR_CONFLICT); /* the copy has no keys either */
}

static void a_flipped_bit_in_an_encrypted_record_is_found_without_a_key(void **state)
{
    (void)state;
    make_point(domain_of('a', 1), 5, 1, 100);
    close_vault();
    remove_index();
    flip("packs", 300 * 1024); /* in the payload of a block */
    open_vault();
    struct far_vault_stats stats;
    domain_of('a', 1);
    assert_int_equal(verify(1), FAR_CORRUPT);
    far_vault_stats(vault, &stats);
    assert_true(stats.damages > 0);
    assert_non_null(strstr(stats.damage, "XXH3"));
}

/* A bit anywhere in the packs: what is read is right or an error, and with all keys nothing that is wrong decrypts. */
static void no_flipped_bit_is_ever_returned_as_data(void **state)
{
    (void)state;
    enum { ROUNDS = 150 };
    uint64_t random = 88172645463325252ull, found = 0, errors = 0;
    char path[400];
    struct stat st;
    make_point(domain_of('a', 1), 5, 1, 100);
    make_point(domain_of('b', 1), 6, 2, 100);
    snprintf(path, sizeof path, "%s/packs/00000001.pack", dir);
    for (int round = 0; round < ROUNDS; round++) {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        close_vault();
        assert_int_equal(stat(path, &st), 0);
        size_t at = (size_t)(random >> 8) % (size_t)st.st_size;
        flip("packs", at);
        if (round % 2 == 0) {
            remove_index();
        }
        open_vault();
        domain_of('a', 1);
        domain_of('b', 1);
        for (uint64_t point = 1; point <= 2; point++) {
            struct far_point *disk = NULL;
            int rc = far_point_open_disk(vault, point, "root", &disk, &err);
            for (uint64_t i = 0; rc == 0 && i < DISK_BLOCKS - 1; i += 1 + i % 2) {
                kit_block(100 + i, expected);
                if (far_point_read(disk, i, false, block, NULL, &err) == 0) {
                    assert_memory_equal(block, expected, FAR_BLOCK_BYTES);
                } else {
                    errors++;
                }
            }
            found += rc != 0 || far_point_verify(disk, NULL, NULL, NULL, &(struct far_verify_result){0}, &err) != 0;
            far_point_close(disk);
        }
        close_vault();
        assert_int_equal(stat(path, &st), 0);
        flip("packs", at);
        remove_index();
        open_vault();
    }
    print_message("# %d bits, %d points with damage, %d blocks not returned\n", ROUNDS, (int)found, (int)errors);
    assert_true(found > ROUNDS / 2);
    domain_of('a', 1);
    domain_of('b', 1);
    assert_point(1, 100);
    assert_point(2, 100);
}

static void an_older_program_refuses_a_keyed_vault(void **state)
{
    (void)state;
    uint8_t version[4];
    char path[400];
    snprintf(path, sizeof path, "%s/vault", dir);
    for (int keyed = 0; keyed < 2; keyed++) {
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        assert_int_equal(pread(fd, version, 4, 8), 4);
        close(fd);
        assert_int_equal(far_get_le32(version), keyed); /* v0.1.0 opens 0 alone */
        domain_of('a', 1);
    }
    reopen();
    make_point(domain_of('a', 1), 5, 1, 101);
    assert_point(1, 101);
}

static void plain_blocks_go_on_as_before_beside_a_domain(void **state)
{
    (void)state;
    make_point(NULL, 5, 1, 101);
    make_point(domain_of('a', 1), 6, 2, 101);
    make_point(NULL, 5, 3, 102);
    assert_point(1, 101);
    assert_point(2, 101);
    assert_point(3, 102);
    reopen();
    assert_point(1, 101);
    assert_point(3, 102);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(what_is_put_in_a_keyed_domain_is_read_again_and_lies_there_encrypted, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_point_since_another_domain_is_read_whole, set_up, tear_down),
        cmocka_unit_test_setup_teardown(ids_differ_between_domains_and_are_hmac, set_up, tear_down),
        cmocka_unit_test(hmac_is_hmac),
        cmocka_unit_test_setup_teardown(a_veiled_hash_is_for_whoever_has_the_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_lost_key_costs_its_domain_only, set_up, tear_down),
        cmocka_unit_test_setup_teardown(wrong_keys_are_refused_with_the_name_of_the_domain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_new_generation_reads_what_the_old_ones_wrote, set_up, tear_down),
        cmocka_unit_test_setup_teardown(more_generations_than_wrapping_keys_are_no_loss, set_up, tear_down),
        cmocka_unit_test_setup_teardown(the_recovery_key_opens_all_and_another_none, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_vault_that_was_reset_opens_with_any_key_of_its_domain, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_disk_that_changes_its_domain_begins_anew, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_destroyed_domain_cannot_be_read_by_anybody, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_in_both_files_of_a_domain_is_named, set_up, tear_down),
        cmocka_unit_test_setup_teardown(either_file_of_a_domain_will_do, set_up, tear_down),
        cmocka_unit_test_setup_teardown(a_flipped_bit_in_an_encrypted_record_is_found_without_a_key, set_up, tear_down),
        cmocka_unit_test_setup_teardown(no_flipped_bit_is_ever_returned_as_data, set_up, tear_down),
        cmocka_unit_test_setup_teardown(an_older_program_refuses_a_keyed_vault, set_up, tear_down),
        cmocka_unit_test_setup_teardown(plain_blocks_go_on_as_before_beside_a_domain, set_up, tear_down),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
