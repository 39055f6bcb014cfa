/* Whose a vault is: it is refused to others, taken over whole wherever it is interrupted, and its numbers are exchanged one-to-one. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"
#include "base/file.h"
#include "base/hash.h"
#include "dataplane/vault_lock.h"
#include "dataplane/vault_owner.h"

enum { BLOCKS = 20 };
static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static struct far_vault_owner owner;
static uint8_t first[16], second[16] = {2};

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static int set_up(void **state)
{
    struct far_vault_options options = {.create = true, .pack_bytes_max = 1 << 20, .cache_bytes_max = 1 << 20};
    (void)state;
    memset(first, 0xC1, sizeof first); /* as kit_manifest() says */
    snprintf(dir, sizeof dir, "%s", kit_folder());
    must(far_vault_open(dir, &options, &vault, &err));
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    far_vault_close(vault);
    kit_remove(dir);
    return 0;
}

static int open_replica(uint64_t disk_id, uint64_t epoch, uint64_t job, struct far_replica **ret)
{
    struct far_fence fence = {.incarnation_epoch = epoch, .job = job};
    return far_replica_open(vault, NULL, disk_id, BLOCKS * FAR_BLOCK_BYTES, &fence, ret, &err);
}

static void make_point(uint64_t point_id, uint64_t disk_id, const char *plan)
{
    struct far_replica *replica;
    struct far_hash256 root;
    must(open_replica(disk_id, 5, point_id, &replica));
    must(kit_write(vault, replica, point_id % BLOCKS, 100 + point_id, &err));
    must(far_replica_checkpoint(replica, BLOCKS, "view", &err));
    must(far_replica_root(replica, &root, &err));
    far_replica_close(replica);
    kit_manifest(point_id, disk_id, BLOCKS * FAR_BLOCK_BYTES, &root, &manifest);
    snprintf(manifest.plan, sizeof manifest.plan, "%s", plan);
    must(far_vault_seal(vault, &manifest, &err));
}

static int claim(const uint8_t uuid[16])
{
    return far_vault_owner_claim(vault, uuid, &owner, &err);
}

static void a_path(const char *name, char path[400])
{
    snprintf(path, 400, "%s/%s", dir, name);
}

static void who_opens_an_empty_vault_owns_it(void **state)
{
    (void)state;
    must(claim(first));
    must(far_vault_owner_check(vault, &owner, first, &err));
    must(claim(second));
    assert_int_equal(far_vault_owner_check(vault, &owner, second, &err), FAR_CONFLICT);
    assert_non_null(strstr(err.message, "c1c1c1c1")); /* says whose it is */
    assert_memory_equal(owner.cluster_uuid, first, 16);
    assert_false(owner.assumed);
}

static void a_vault_of_before_is_its_manifests_cluster_s(void **state)
{
    char path[400];
    (void)state;
    make_point(7, 3, "plan");
    must(claim(second));
    assert_int_equal(far_vault_owner_check(vault, &owner, second, &err), FAR_CONFLICT);
    a_path("owner", path);
    assert_int_not_equal(access(path, F_OK), 0); /* nobody took it by looking */
    must(claim(first));
    must(far_vault_owner_check(vault, &owner, first, &err));
    assert_int_equal(access(path, F_OK), 0);
}

static void where_manifests_do_not_say_it_is_assumed(void **state)
{
    struct far_replica *replica;
    (void)state;
    must(open_replica(3, 1, 1, &replica));
    far_replica_close(replica);
    must(claim(second));
    assert_true(owner.assumed);
    must(far_vault_owner_check(vault, &owner, second, &err));
    must(claim(first));
    assert_int_equal(far_vault_owner_check(vault, &owner, first, &err), FAR_CONFLICT);
}

static void numbers_are_exchanged_one_to_one(void **state)
{
    struct far_vault_owner adopted = {.base = 3000, .span = 1000};
    (void)state;
    assert_int_equal(far_vault_owner_exchange(&adopted, 0), 0);
    for (uint64_t n = 1; n < 6000; n++) {
        uint64_t there = far_vault_owner_exchange(&adopted, n);
        assert_int_equal(far_vault_owner_exchange(&adopted, there), n);
        assert_int_equal(there, n < 1000 ? 3000 + n : n > 3000 && n < 4000 ? n - 3000 : n);
    }
    uint64_t import = (1ull << 63) + 5;
    assert_int_equal(far_vault_owner_exchange(&adopted, import), import);
    adopted.base = adopted.span = 0;
    assert_int_equal(far_vault_owner_exchange(&adopted, 5), 5);
}

static void the_former_owner_is_refused_and_its_fences_are_gone(void **state)
{
    struct far_replica *replica;
    struct far_replica_state found;
    (void)state;
    make_point(7, 3, "plan");
    must(claim(first));
    must(claim(second));
    must(far_vault_adopt(vault, second, 3000, 1000, &owner, &err));
    must(far_vault_owner_check(vault, &owner, second, &err));
    must(claim(first));
    assert_int_equal(far_vault_owner_check(vault, &owner, first, &err), FAR_CONFLICT);
    must(claim(second));
    assert_true(owner.base == 3000 && owner.span == 1000 && !owner.adopting);
    assert_memory_equal(owner.former_uuid, first, 16);
    must(open_replica(3, 1, 1, &replica)); /* a young cluster's fence: the old one was at incarnation 5 */
    far_replica_state(replica, &found);
    assert_int_equal(found.job, 0);
    far_replica_close(replica);
    must(far_vault_adopt(vault, second, 3000, 1000, &owner, &err));
    assert_int_equal(open_replica(3, 0, 9, &replica), FAR_CONFLICT); /* again: the new owner's fences stay */
}

static void what_was_interrupted_is_finished(void **state)
{
    char path[400], bytes_path[400];
    struct far_buf bytes;
    struct far_replica *replica;
    (void)state;
    make_point(7, 3, "plan");
    must(claim(second));
    must(far_vault_adopt(vault, second, 3000, 1000, &owner, &err));
    a_path("owner", path);
    far_buf_init(&bytes, 4096);
    must(far_file_read(path, &bytes, &err));
    bytes.data[12] |= 1; /* as it is while fences are being dropped */
    far_put_le64(bytes.data + 88, far_hash64(bytes.data, 88));
    must(far_file_replace(path, bytes.data, bytes.len, 0600, &err));
    far_buf_done(&bytes);
    must(open_replica(3, 9, 9, &replica));
    far_replica_close(replica);
    must(claim(second));
    assert_int_equal(far_vault_owner_check(vault, &owner, second, &err), FAR_BUSY);
    must(far_vault_adopt(vault, second, 3000, 1000, &owner, &err));
    must(far_vault_owner_check(vault, &owner, second, &err));
    must(open_replica(3, 1, 1, &replica));
    far_replica_close(replica);
    a_path("owner", bytes_path);
    must(truncate(bytes_path, 50));
    a_path("owner.copy", bytes_path);
    must(truncate(bytes_path, 50));
    assert_int_equal(claim(second), FAR_CORRUPT);
}

static void flip(const char *name, long at)
{
    char path[400];
    a_path(name, path);
    FILE *file = fopen(path, "r+b");
    assert_non_null(file);
    fseek(file, at, SEEK_SET);
    int byte = fgetc(file);
    fseek(file, at, SEEK_SET);
    fputc(byte ^ 0x20, file);
    assert_int_equal(fclose(file), 0);
}

/* A damaged block, or a file that is gone, loses nothing, and the next start has both again. */
static void either_of_its_two_files_will_do(void **state)
{
    static const char *const names[] = {"owner", "owner.copy"};
    char path[400];
    (void)state;
    make_point(7, 3, "plan");
    must(claim(first));
    must(claim(second));
    must(far_vault_adopt(vault, second, 3000, 1000, &owner, &err));
    for (size_t i = 0; i < 6; i++) {
        size_t which = i % 2;
        a_path(names[which], path);
        if (i < 2) {
            flip(names[which], 50);
        } else if (i < 4) {
            must(truncate(path, 0));
        } else {
            assert_int_equal(unlink(path), 0);
        }
        must(claim(second));
        assert_true(owner.base == 3000 && owner.span == 1000 && !owner.adopting);
        flip(names[!which], 50); /* the one that was mended is whole */
        must(claim(second));
        must(far_vault_owner_check(vault, &owner, second, &err));
    }
    flip("owner", 50);
    flip("owner.copy", 50);
    assert_int_equal(claim(second), FAR_CORRUPT);
    a_path("owner", path);
    assert_int_equal(unlink(path), 0); /* whose it was somebody knew: it is not guessed */
    assert_int_equal(claim(second), FAR_CORRUPT);
}

/* A replica that has to be made anew keeps older attempts out. */
static void a_damaged_replica_has_the_fence_of_its_newest_point(void **state)
{
    struct far_replica *replica;
    (void)state;
    must(claim(first));
    make_point(7, 3, "plan");
    flip("replicas/3.replica", 60);
    assert_int_equal(open_replica(3, 1, 8, &replica), FAR_CONFLICT); /* before the job of the point */
    must(open_replica(3, 2, 1, &replica));
    far_replica_close(replica);
}

static void portions_tell_what_is_proven_and_what_is_not(void **state)
{
    static struct far_adopted adopted;
    static struct far_vault_survey survey;
    char path[400];
    (void)state;
    for (uint64_t id = 1; id <= 40; id++) {
        make_point(id, id % 2 == 0 ? 50 : 51, id % 4 == 0 ? "four" : "plan");
    }
    must(far_vault_lock(vault, 9, 4000000000000ull, &err));
    must(far_vault_survey(vault, &survey, &err));
    assert_int_equal(survey.highest, 1040); /* a checkpoint's */
    assert_int_equal(survey.point_count, 40);
    a_path("points/5.manifest", path);
    FILE *file = fopen(path, "r+");
    fseek(file, 100, SEEK_SET);
    fputc('x', file);
    fclose(file);
    must(far_vault_adopted(vault, 0, NULL, 0, &adopted, &err));
    assert_int_equal(adopted.count, 32);
    assert_int_equal(adopted.damaged, 1);
    assert_non_null(strstr(adopted.problem, "5"));
    assert_false(adopted.ended);
    assert_int_equal(adopted.after, 33);
    assert_int_equal(adopted.points[7].manifest.point_id, 9);
    assert_true(adopted.points[7].lock_until_ms == 4000000000000ull);
    must(far_vault_adopted(vault, adopted.after, NULL, 0, &adopted, &err));
    assert_int_equal(adopted.count, 7);
    assert_true(adopted.ended && adopted.after == 40);
    must(far_vault_adopted(vault, 0, (const char *const[]){"four"}, 1, &adopted, &err));
    assert_int_equal(adopted.count, 10);
    assert_true(adopted.ended);
    must(far_vault_forget(vault, 8, &err));
    must(far_vault_adopted(vault, 0, (const char *const[]){"four"}, 1, &adopted, &err));
    assert_int_equal(adopted.count, 9);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_VAULT(test) cmocka_unit_test_setup_teardown(test, set_up, tear_down)
        IN_A_VAULT(who_opens_an_empty_vault_owns_it),
        IN_A_VAULT(a_vault_of_before_is_its_manifests_cluster_s),
        IN_A_VAULT(where_manifests_do_not_say_it_is_assumed),
        cmocka_unit_test(numbers_are_exchanged_one_to_one),
        IN_A_VAULT(the_former_owner_is_refused_and_its_fences_are_gone),
        IN_A_VAULT(what_was_interrupted_is_finished),
        IN_A_VAULT(either_of_its_two_files_will_do),
        IN_A_VAULT(a_damaged_replica_has_the_fence_of_its_newest_point),
        IN_A_VAULT(portions_tell_what_is_proven_and_what_is_not),
    };
    return cmocka_run_group_tests_name("vault_owner", tests, NULL, NULL);
}
