/* Single flipped bits, anywhere in a vault: each is found, attributed to the disks and points that it touches and to no other, and
 * never comes back as data. FAR_FLIPS=<n> flips so many (200); FAR_SEED=<n> begins elsewhere.
 *
 * Three disks of several points share blocks; one is in a keyed domain; reclaim made dead ranges and removed packs. Before the flips
 * every record is attributed by walking the trees; afterwards what a verification of each point says is held against that. */
#include "../lib/cm.h"
#include "../lib/vault_reach.h"
#include "dataplane/reclaim.h"

#include <fcntl.h>

enum { DISKS = 3, POINTS = 5, BLOCKS = 300, FILES_MAX = 200, RECORDS_MAX = 2000 };

struct sealed {
    uint64_t id;
    uint64_t disk;
    uint32_t blocks[BLOCKS];
    struct far_hash256 root;
    uint16_t domain;
};

/* A record and the blocks of each point that cannot be read without it. */
struct record {
    struct far_hash256 id;
    struct far_place place;
    bool touches[DISKS * POINTS][BLOCKS];
    bool is_reached;
};

static char dir[300];
static struct far_vault *vault;
static struct far_error err;
static struct far_manifest manifest;
static struct sealed points[DISKS * POINTS];
static size_t point_count;
static struct record records[RECORDS_MAX];
static size_t record_count;
static char files[FILES_MAX][64]; /* in the vault's folder */
static size_t file_count;
static uint64_t state;
static struct far_domain_keys keys = {.name = "kept", .generation = 1, .uuid = {7}, .secret = {8}, .key = {9}};

static void must(int rc)
{
    if (rc != 0) {
        print_message("# %s\n", err.message);
    }
    assert_int_equal(rc, 0);
}

static uint64_t rnd(uint64_t below)
{
    state = state * 6364136223846793005ull + 1442695040888963407ull;
    return (state >> 33) % below;
}

static int try_open(bool read_only)
{
    const struct far_domain *domain;
    struct far_vault_options options = {.create = !read_only, .read_only = read_only, .pack_bytes_max = 1 << 20};
    int rc = far_vault_open(dir, &options, &vault, &err);
    return rc != 0 ? rc : far_vault_domain_open(vault, &keys, &domain, &err);
}

/* ---- the vault ---- */

static void make_points(void)
{
    const struct far_domain *domain;
    must(far_vault_domain_open(vault, &keys, &domain, &err));
    for (uint64_t disk = 0; disk < DISKS; disk++) {
        struct far_fence fence = {.job = 1};
        struct far_replica *replica;
        uint32_t now[BLOCKS] = {0};
        must(far_replica_open(vault, disk == 2 ? domain : NULL, disk + 1, BLOCKS * FAR_BLOCK_BYTES, &fence, &replica, &err));
        for (size_t i = 0; i < POINTS + 3; i++) {
            for (uint64_t k = 0; k < 12; k++) {
                uint64_t at = rnd(BLOCKS);
                now[at] = (uint32_t)rnd(40);
                must(kit_write(vault, replica, at, now[at], &err));
            }
            must(far_replica_checkpoint(replica, 0, "", &err));
            struct sealed sealed = {.id = disk * 100 + i + 1, .disk = disk, .domain = disk == 2 ? far_domain_number(domain) : 0};
            memcpy(sealed.blocks, now, sizeof now);
            must(far_replica_root(replica, &sealed.root, &err));
            kit_manifest(sealed.id, disk + 1, BLOCKS * FAR_BLOCK_BYTES, &sealed.root, &manifest);
            far_domain_uuid(far_replica_domain(replica), manifest.domain_uuid);
            must(far_vault_seal(vault, &manifest, &err));
            if (i < 3) {
                must(far_vault_forget(vault, sealed.id, &err));
            } else {
                points[point_count++] = sealed;
            }
        }
        far_replica_close(replica);
    }
}

static void reclaim(void)
{
    for (uint64_t pass = 1; pass <= 3; pass++) {
        struct far_reclaim_result result;
        struct far_reclaim_order order = {.pass = pass, .delete_before = pass, .move_percent = 30};
        must(far_vault_reclaim(vault, &order, NULL, NULL, &result, &err));
    }
    assert_int_equal(reach_unreachable(vault), 0);
}

/* ---- what touches what ---- */

static struct record *record_of(const struct far_domain *domain, const struct far_hash256 *hash)
{
    struct far_hash256 id;
    struct far_index_row row;
    far_domain_id(domain, hash, &id);
    for (size_t i = 0; i < record_count; i++) {
        if (far_hash256_equal(&records[i].id, &id)) {
            return &records[i];
        }
    }
    assert_true(record_count < RECORDS_MAX);
    must(far_index_look(vault->index, &id, 1, &row, &err));
    assert_true(row.place.pack != 0);
    records[record_count] = (struct record){.id = id, .place = row.place};
    return &records[record_count++];
}

static void touch(struct record *record, size_t point, uint64_t first, uint64_t count)
{
    record->is_reached = true;
    for (uint64_t i = first; i < first + count && i < BLOCKS; i++) {
        record->touches[point][i] = true;
    }
}

static void attribute(size_t n)
{
    const struct far_domain *domain;
    struct far_hash256 top, tops[FAR_MAP_FANOUT], leaves[FAR_MAP_FANOUT];
    uint64_t size;
    must(far_vault_domain_numbered(vault, points[n].domain, &domain, &err));
    must(far_vault_root_load(vault, domain, &points[n].root, &size, &top, &err));
    touch(record_of(domain, &points[n].root), n, 0, BLOCKS);
    touch(record_of(domain, &top), n, 0, BLOCKS);
    must(far_vault_page(vault, domain, 1, &top, tops, &err));
    for (uint64_t page = 0; page < 2; page++) {
        if (memcmp(&tops[page], far_map_zero(8), 32) == 0) {
            continue;
        }
        touch(record_of(domain, &tops[page]), n, page * FAR_MAP_FANOUT, FAR_MAP_FANOUT);
        must(far_vault_page(vault, domain, 0, &tops[page], leaves, &err));
        for (uint64_t i = 0; i < FAR_MAP_FANOUT; i++) {
            if (memcmp(&leaves[i], far_zero_leaf(), 32) != 0) {
                touch(record_of(domain, &leaves[i]), n, page * FAR_MAP_FANOUT + i, 1);
            }
        }
    }
}

static void list_files(const char *folder)
{
    char path[600];
    snprintf(path, sizeof path, "%s/%s", dir, folder);
    DIR *opened = opendir(path);
    struct dirent *entry;
    while ((entry = readdir(opened)) != NULL) {
        if (entry->d_name[0] != '.') {
            assert_true(file_count < FILES_MAX);
            snprintf(files[file_count++], sizeof files[0], "%s/%.40s", folder, entry->d_name);
        }
    }
    closedir(opened);
}

static int group_set_up(void **unused)
{
    (void)unused;
    const char *given = getenv("FAR_SEED");
    state = given != NULL ? strtoull(given, NULL, 10) : 4;
    print_message("# seed %llu\n", (unsigned long long)state);
    snprintf(dir, sizeof dir, "%s", kit_folder());
    must(try_open(false));
    make_points();
    reclaim();
    for (size_t i = 0; i < point_count; i++) {
        attribute(i);
    }
    far_vault_close(vault);
    list_files("packs");
    list_files("points");
    return 0;
}

static int group_tear_down(void **unused)
{
    (void)unused;
    kit_remove(dir);
    return 0;
}

/* ---- one flip ---- */

struct found {
    bool damaged[BLOCKS];
};

static void note_damage(void *arg, const struct far_point_damage *damage)
{
    struct found *found = arg;
    for (uint64_t i = damage->first_block; i < damage->first_block + damage->block_count && i < BLOCKS; i++) {
        found->damaged[i] = true;
    }
}

/* What the verification of a point finds; whatever can be read is what was written. */
static void look_at(const struct sealed *sealed, struct found *found)
{
    static uint8_t block[FAR_BLOCK_BYTES], expected[FAR_BLOCK_BYTES];
    struct far_point *point;
    struct far_verify_result result;
    memset(found, 0, sizeof *found);
    if (far_point_open_disk(vault, sealed->id, "root", &point, &err) != 0) {
        memset(found->damaged, true, sizeof found->damaged);
        return;
    }
    far_point_verify(point, note_damage, NULL, found, &result, &err);
    for (uint64_t i = rnd(8); i < BLOCKS; i += 8) {
        if (far_point_read(point, i, false, block, NULL, &err) == 0) {
            kit_block(sealed->blocks[i], expected);
            assert_memory_equal(block, expected, sizeof block);
        }
    }
    far_point_close(point);
}

/* The record at this offset of a pack; NULL: none (a head, a seal, a dead range). */
static const struct record *record_at(const char *file, uint64_t offset)
{
    uint32_t pack = (uint32_t)strtoul(file + strlen("packs/"), NULL, 10);
    for (size_t i = 0; i < record_count && strstr(file, ".pack") != NULL; i++) {
        const struct far_place *place = &records[i].place;
        if (place->pack == pack && offset >= place->offset && offset < place->offset + place->length) {
            return &records[i];
        }
    }
    return NULL;
}

static bool hits_point(const char *file, const struct sealed *sealed)
{
    char name[64];
    snprintf(name, sizeof name, "points/%llu.manifest", (unsigned long long)sealed->id);
    return strcmp(file, name) == 0;
}

static void check_flip(const char *file, uint64_t offset, unsigned bit)
{
    const struct record *record = record_at(file, offset);
    struct far_vault_stats stats;
    bool found_any = false;
    int rc = try_open(true);
    assert_int_equal(rc, 0);
    far_vault_stats(vault, &stats);
    for (size_t i = 0; i < point_count; i++) {
        struct found found;
        look_at(&points[i], &found);
        for (uint64_t k = 0; k < BLOCKS; k++) {
            bool expected = (record != NULL && record->touches[i][k]) || hits_point(file, &points[i]);
            found_any = found_any || found.damaged[k];
            if (found.damaged[k] != expected) {
                print_message("# %s, offset %llu, bit %u: block %llu of point %llu is %s\n", file, (unsigned long long)offset, bit,
                              (unsigned long long)k, (unsigned long long)points[i].id, expected ? "not named" : "named");
            }
            assert_int_equal(found.damaged[k], expected);
        }
    }
    /* What no point needs is found when the vault is opened, but for zeroes of dead ranges, which nobody reads. */
    bool dead = strstr(file, ".pack") != NULL && record == NULL;
    if (!found_any && stats.damages == 0 && !dead) {
        print_message("# %s, offset %llu, bit %u was not found\n", file, (unsigned long long)offset, bit);
        assert_true(found_any || stats.damages > 0);
    }
    far_vault_close(vault);
    vault = NULL;
}

static void flip(const char *file, uint64_t offset, unsigned bit)
{
    char path[600];
    uint8_t byte;
    snprintf(path, sizeof path, "%s/%s", dir, file);
    int fd = open(path, O_RDWR);
    assert_int_equal(pread(fd, &byte, 1, (off_t)offset), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, (off_t)offset), 1);
    close(fd);
}

/* Half of them at the beginning of a record or file, where the heads are. */
static uint64_t pick_offset(const char *file, uint64_t size)
{
    uint64_t offset = rnd(size);
    const struct record *record = record_at(file, offset);
    return rnd(2) == 0 && record != NULL ? record->place.offset + rnd(FAR_RECORD_HEADER_BYTES) : offset;
}

static void each_flipped_bit_is_found_attributed_and_never_returned(void **unused)
{
    (void)unused;
    const char *wanted = getenv("FAR_FLIPS");
    uint64_t count = wanted != NULL ? strtoull(wanted, NULL, 10) : 200, in_records = 0;
    char index[400], aside[400];
    snprintf(index, sizeof index, "%s/index", dir);
    snprintf(aside, sizeof aside, "%s/index-aside", dir);
    for (uint64_t n = 0; n < count; n++) {
        struct stat st;
        char path[600];
        const char *file = files[rnd(file_count)];
        bool rebuilds = rnd(8) == 0; /* the index is made from the packs */
        snprintf(path, sizeof path, "%s/%s", dir, file);
        assert_int_equal(stat(path, &st), 0);
        uint64_t offset = pick_offset(file, (uint64_t)st.st_size);
        unsigned bit = (unsigned)rnd(8);
        in_records += record_at(file, offset) != NULL;
        flip(file, offset, bit);
        assert_true(!rebuilds || rename(index, aside) == 0);
        check_flip(file, offset, bit);
        assert_true(!rebuilds || rename(aside, index) == 0);
        flip(file, offset, bit);
    }
    print_message("# %llu flips, %llu of them in the %zu records of %zu points\n", (unsigned long long)count,
                  (unsigned long long)in_records, record_count, point_count);
}

int main(void)
{
    const struct CMUnitTest tests[] = {cmocka_unit_test(each_flipped_bit_is_found_attributed_and_never_returned)};
    return cmocka_run_group_tests(tests, group_set_up, group_tear_down);
}
