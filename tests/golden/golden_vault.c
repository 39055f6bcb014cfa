/* The bytes of the vault, held against files in tests/golden/vault: what is written today is what was written then, and
 * a whole vault of then opens, verifies and recovers. `golden_vault make DIR` made them; from the tag v0.1.0 on they are
 * never made anew. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "base/file.h"
#include "dataplane/signal_store.h"
#include "dataplane/vault_private.h"

#include "base/hash.h"

#include <fcntl.h>
#include <zstd.h>

static char golden[1024];
static char folder[300];
static struct far_error err;
static struct far_manifest manifest;
static const uint8_t uuid[16] = {1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16};

static void path_in(const char *dir, const char *name, char path[1400])
{
    snprintf(path, 1400, "%.1200s/%.150s", dir, name);
}

/* ---- the same bytes as then ---- */

static void make_pack(const char *dir)
{
    struct far_packs packs;
    struct far_place place;
    uint8_t page[FAR_MAP_PAGE_BYTES] = {1, 2, 3};
    struct far_record record = {.type = FAR_RECORD_PAGE, .stored_len = sizeof page, .raw_len = sizeof page};
    struct far_record root = {.type = FAR_RECORD_ROOT, .stored_len = 48, .raw_len = 48};
    far_map_page_hash((const struct far_hash256 *)page, &record.id);
    far_map_bind_root(FAR_BLOCK_BYTES, &record.id, &root.id);
    record.sum = far_hash64(page, sizeof page);
    assert_int_equal(far_packs_init(&packs, dir, uuid, FAR_PACK_HEADER_BYTES + 64 + sizeof page, &err), 0);
    assert_int_equal(far_packs_append(&packs, &record, page, &place, &err), 0);
    root.sum = far_hash64(page, 48);
    assert_int_equal(far_packs_append(&packs, &root, page, &place, &err), 0); /* seals the first pack */
    assert_int_equal(place.pack, 2);
    assert_int_equal(far_packs_flush(&packs, &err), 0);
    far_packs_done(&packs);
}

/* machine: with what its machine was and how it is to be brought up, since feature level 4. */
static void make_manifest(const char *path, bool machine)
{
    struct far_buf buf;
    uint8_t seed[32] = {3, 1, 4, 1, 5};
    struct far_hash256 root = {{9, 9}};
    kit_manifest(77, 5, 1 << 30, &root, &manifest);
    manifest.created_at_ms = 1800000001000ull;
    manifest.pack = 3;
    manifest.pack_offset = 4096;
    manifest.fuzzy = true;
    memcpy(manifest.vault_uuid, uuid, 16);
    if (machine) {
        manifest.config_sha256[31] = 7;
        memset(manifest.config, 'c', manifest.config_len = 300);
        memset(manifest.recovery, 'r', manifest.recovery_len = 5);
    }
    far_buf_init(&buf, FAR_MANIFEST_BYTES_MAX);
    assert_int_equal(far_manifest_sign(&manifest, seed, &buf, &err), 0);
    assert_int_equal(far_file_replace(path, buf.data, buf.len, 0600, &err), 0);
    far_buf_done(&buf);
}

static void make_replica(const char *path)
{
    uint8_t bytes[FAR_REPLICA_FILE_BYTES];
    struct far_replica_file file = {.disk_id = 5, .fence = {1, 2, 3, 4}, .size_bytes = 1 << 20, .job = 6};
    file.frontier_blocks = 8;
    file.durable = (struct far_place){.pack = 9, .offset = 10};
    file.top.bytes[0] = 11;
    strcpy(file.freeze_ref, "view");
    far_replica_file_encode(&file, bytes);
    assert_int_equal(far_file_replace(path, bytes, sizeof bytes, 0600, &err), 0);
}

static void make_files(const char *dir)
{
    char path[1400];
    make_pack(dir);
    path_in(dir, "77.manifest", path);
    make_manifest(path, false);
    path_in(dir, "77-machine.manifest", path);
    make_manifest(path, true);
    path_in(dir, "5.replica", path);
    make_replica(path);
}

static void every_file_is_written_as_it_was_written_then(void **state)
{
    (void)state;
    static const char *const names[] = {"00000001.pack", "00000002.pack", "77.manifest", "77-machine.manifest", "5.replica"};
    make_files(folder);
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        char path[1400];
        struct far_buf then, now;
        far_buf_init(&then, 1 << 20);
        far_buf_init(&now, 1 << 20);
        path_in(golden, names[i], path);
        assert_int_equal(far_file_read(path, &then, &err), 0);
        path_in(folder, names[i], path);
        assert_int_equal(far_file_read(path, &now, &err), 0);
        assert_int_equal(now.len, then.len);
        assert_memory_equal(now.data, then.data, then.len);
        far_buf_done(&then);
        far_buf_done(&now);
    }
}

/* An extension that is to be skipped, of a version to come, behind those of a manifest. */
static void what_a_later_version_adds_to_a_manifest_is_skipped(void **state)
{
    (void)state;
    char path[1400];
    struct far_buf then, more;
    const uint8_t added[] = {200, 3, 0, 0, 0, 'n', 'e', 'w'}, meant[] = {100, 3, 0, 0, 0, 'n', 'e', 'w'};
    const size_t tail = 32 + 64 + 8;
    far_buf_init(&then, FAR_MANIFEST_BYTES_MAX);
    path_in(golden, "77-machine.manifest", path);
    assert_int_equal(far_file_read(path, &then, &err), 0);
    assert_int_equal(far_manifest_decode(far_buf_slice(&then), &manifest, &err), 0);
    assert_int_equal(manifest.config_len, 300);
    assert_int_equal(manifest.config[299], 'c');
    assert_int_equal(manifest.config_sha256[31], 7);
    assert_int_equal(manifest.recovery_len, 5);
    for (size_t i = 0; i < 2; i++) {
        far_buf_init(&more, FAR_MANIFEST_BYTES_MAX);
        assert_int_equal(far_buf_append(&more, then.data, then.len - tail), 0);
        assert_int_equal(far_buf_append(&more, i == 0 ? added : meant, sizeof added), 0);
        assert_int_equal(far_buf_append(&more, then.data + then.len - tail, tail), 0);
        far_put_le32(more.data + 12, (uint32_t)(more.len - 16 - tail));
        far_put_le64(more.data + more.len - 8, far_hash64(more.data, more.len - 8));
        assert_int_equal(far_manifest_decode(far_buf_slice(&more), &manifest, &err), i == 0 ? 0 : FAR_CORRUPT);
        assert_int_equal(manifest.config_len, 300);
        far_buf_done(&more);
    }
    far_buf_done(&then);
}

/* ---- a signal of then ---- */

enum { SIGNAL_FEATURES_THEN = 48 }; /* they grow at the end */

static uint64_t signal_value(size_t increment, size_t feature)
{
    return feature % 5 == 0 ? 0 : feature % 7 == 0 ? UINT64_MAX - increment : (increment + 1) * feature * feature * feature;
}

static void make_signal(const char *path)
{
    struct far_signal_point *point = calloc(1, sizeof *point);
    struct far_buf buf;
    point->point_id = 77;
    point->disk_count = 2;
    point->disks[0] = (struct far_signal_disk){.disk_id = 5, .since_point = 76, .history_count = 1, .history_since = {70}};
    point->disks[0].features.version = point->disks[0].history[0].version = FAR_SIGNAL_FEATURES_VERSION;
    for (size_t i = 0; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        point->disks[0].features.values[i] = signal_value(0, i);
        point->disks[0].history[0].values[i] = signal_value(1, i);
    }
    point->disks[1].disk_id = 6;
    far_buf_init(&buf, FAR_SIGNAL_FILE_BYTES_MAX);
    assert_int_equal(far_signal_encode(point, &buf, &err), 0);
    assert_int_equal(far_file_replace(path, buf.data, buf.len, 0600, &err), 0);
    far_buf_done(&buf);
    free(point);
}

static void a_signal_of_then_is_read(void **state)
{
    (void)state;
    struct far_signal_point *point = calloc(1, sizeof *point);
    char path[1400];
    struct far_buf buf;
    far_buf_init(&buf, FAR_SIGNAL_FILE_BYTES_MAX);
    path_in(golden, "77.signal", path);
    assert_int_equal(far_file_read(path, &buf, &err), 0);
    assert_int_equal(far_signal_decode(far_buf_slice(&buf), point, &err), 0);
    assert_int_equal(point->point_id, 77);
    assert_int_equal(point->disk_count, 2);
    assert_int_equal(point->disks[0].disk_id, 5);
    assert_int_equal(point->disks[0].since_point, 76);
    assert_int_equal(point->disks[0].history_count, 1);
    assert_int_equal(point->disks[0].history_since[0], 70);
    assert_int_equal(point->disks[0].features.version, 1);
    for (size_t i = 0; i < SIGNAL_FEATURES_THEN; i++) {
        assert_true(point->disks[0].features.values[i] == signal_value(0, i));
        assert_true(point->disks[0].history[0].values[i] == signal_value(1, i));
    }
    assert_int_equal(point->disks[1].disk_id, 6);
    assert_int_equal(point->disks[1].since_point, 0);
    far_buf_done(&buf);
    free(point);
}

/* ---- a whole vault of then ---- */

enum { WHOLE_BLOCKS = 300 };
static const char whole_root[] = "c054c396b392ca8c75c3856f1076d3db9b909b050b99b48cb30c1c43090dd812";

/* Even numbers compress well: small files. One block is raw. */
static uint64_t whole_number(uint64_t index)
{
    return index == 299 ? 1 : index % 50 == 0 ? index + 2 : 0;
}

static void make_whole(const char *dir)
{
    struct far_vault *vault;
    struct far_replica *replica;
    struct far_vault_options options = {.create = true};
    struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 9, .attempt = 1};
    struct far_hash256 root;
    uint8_t block[FAR_BLOCK_BYTES], packed[FAR_BLOCK_BYTES];
    char hex[65];
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0);
    assert_int_equal(far_replica_open(vault, NULL, 5, WHOLE_BLOCKS * FAR_BLOCK_BYTES - 9, &fence, &replica, &err), 0);
    for (uint64_t i = 0; i < WHOLE_BLOCKS; i++) {
        struct far_hash256 id = kit_id(whole_number(i));
        kit_block(whole_number(i), block);
        if (whole_number(i) == 1) {
            memset(block + FAR_BLOCK_BYTES - 9, 0, 9);
            far_block_leaf(block, FAR_BLOCK_BYTES, &id);
            assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_RAW, block, FAR_BLOCK_BYTES, &err), 0);
        } else {
            size_t n = ZSTD_compress(packed, sizeof packed, block, sizeof block, 3);
            assert_int_equal(far_vault_put(vault, NULL, &id, FAR_CODEC_ZSTD, packed, n, &err), 0);
        }
        assert_int_equal(far_replica_set(replica, i, &id, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, WHOLE_BLOCKS, "view", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(1, 5, WHOLE_BLOCKS * FAR_BLOCK_BYTES - 9, &root, &manifest);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
    far_hex_encode(root.bytes, 32, hex);
    printf("%s\n", hex);
    far_replica_close(replica);
    far_vault_close(vault);
}

static void copy_file(const char *from, const char *to, const char *name)
{
    char source[1400], target[1400];
    struct far_buf buf;
    far_buf_init(&buf, 1 << 20);
    path_in(from, name, source);
    path_in(to, name, target);
    assert_int_equal(far_file_read(source, &buf, &err), 0);
    assert_int_equal(far_file_replace(target, buf.data, buf.len, 0600, &err), 0);
    far_buf_done(&buf);
}

static void a_whole_vault_of_then_opens_and_verifies(void **state)
{
    (void)state;
    static const char *const folders[] = {"", "packs", "points", "replicas"};
    static const char *const names[] = {"vault", "vault.key", "packs/00000001.pack", "points/1.manifest",
                                        "replicas/5.replica"};
    char from[1400], to[1400], path[1400], hex[65];
    struct far_vault *vault;
    struct far_point *point;
    struct far_verify_result result;
    struct far_vault_stats stats;
    path_in(golden, "whole", from);
    path_in(folder, "whole", to);
    for (size_t i = 0; i < 4; i++) {
        path_in(to, folders[i], path);
        assert_int_equal(far_file_make_dir(path, &err), 0);
    }
    for (size_t i = 0; i < 5; i++) {
        copy_file(from, to, names[i]);
    }
    assert_int_equal(far_vault_open(to, NULL, &vault, &err), 0);
    far_vault_stats(vault, &stats);
    assert_int_equal(stats.damages, 0);
    assert_int_equal(far_point_open_disk(vault, 1, "root", &point, &err), 0);
    assert_int_equal(far_point_verify(point, NULL, NULL, NULL, &result, &err), 0);
    far_hex_encode(result.root.bytes, 32, hex);
    assert_string_equal(hex, whole_root);
    far_point_close(point);
    far_vault_close(vault);
    path_in(folder, "out.raw", path);
    assert_int_equal(far_vault_recover_offline(to, 1, "root", path, NULL, NULL, &err), 0);
}

static int set_up(void **state)
{
    (void)state;
    const char *source = getenv("srcdir");
    snprintf(golden, sizeof golden, "%s/tests/golden/vault", source != NULL ? source : FAR_SRCDIR);
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
        cmocka_unit_test(every_file_is_written_as_it_was_written_then),
        cmocka_unit_test(a_whole_vault_of_then_opens_and_verifies),
        cmocka_unit_test(what_a_later_version_adds_to_a_manifest_is_skipped),
        cmocka_unit_test(a_signal_of_then_is_read),
    };
    if (argc == 3 && strcmp(argv[1], "make-signal") == 0) {
        make_signal(argv[2]); /* came later than the others */
        return 0;
    }
    if (argc == 3 && strcmp(argv[1], "make") == 0) {
        char path[1400];
        make_files(argv[2]);
        path_in(argv[2], "whole", path);
        make_whole(path);
        return 0;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
