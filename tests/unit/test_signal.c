/* The ransomware signal: classes of pages, features of increments made by hand, to the number; what is kept in the vault, damaged, made
 * again; what the detector makes of it. */
#include "../lib/cm.h"
#include "../lib/vault_kit.h"

#include "dataplane/signal_page.h"
#include "dataplane/signal_store.h"
#include "dataplane/vault_diff.h"

#include <zstd.h>

enum { BLOCKS = 300, PAGE = FAR_SIGNAL_PAGE_BYTES, PAGES = FAR_BLOCK_BYTES / PAGE, DISK = 7 };

static char dir[300];
static uint8_t disk[BLOCKS][FAR_BLOCK_BYTES];
static struct far_vault *vault;
static struct far_replica *replica;
static struct far_error err;
static uint64_t state;
static struct far_signal_point *signal_of, *other;

static int setup(void **unused)
{
    const struct far_vault_options options = {.create = true};
    const struct far_fence fence = {.incarnation_epoch = 1, .plan_epoch = 1, .job = 9, .attempt = 1};
    snprintf(dir, sizeof dir, "%s", kit_folder());
    memset(disk, 0, sizeof disk);
    state = 88172645463325252ull;
    signal_of = malloc(sizeof *signal_of);
    other = malloc(sizeof *other);
    assert_int_equal(far_vault_open(dir, &options, &vault, &err), 0);
    assert_int_equal(far_replica_open(vault, NULL, DISK, sizeof disk, &fence, &replica, &err), 0);
    return 0;
}

static int teardown(void **unused)
{
    far_replica_close(replica);
    far_vault_close(vault);
    kit_remove(dir);
    free(signal_of);
    free(other);
    return 0;
}

/* ---- contents ---- */

static void random_bytes(void *to, size_t len)
{
    uint8_t *bytes = to;
    for (size_t i = 0; i < len; i++) {
        state ^= state << 13;
        state ^= state >> 7;
        state ^= state << 17;
        bytes[i] = (uint8_t)(state >> 32);
    }
}

static void words(void *to, size_t len)
{
    static const char text[] = "The quick brown fox jumps over the lazy dog, page ";
    uint8_t *bytes = to;
    for (size_t i = 0; i < len; i++) {
        bytes[i] = i % 61 == 0 ? (uint8_t)('a' + state++ % 26) : (uint8_t)text[i % (sizeof text - 1)];
    }
}

static uint8_t *page_at(size_t page)
{
    return disk[page / PAGES] + page % PAGES * PAGE;
}

/* `pages` of a file, the last one with so many bytes. */
static void file(void (*fill)(void *, size_t), size_t page, size_t pages, size_t last)
{
    for (size_t i = 0; i < pages; i++) {
        memset(page_at(page + i), 0, PAGE);
        fill(page_at(page + i), i + 1 < pages ? PAGE : last);
    }
}

static void seal(uint64_t point_id)
{
    static struct far_manifest manifest;
    struct far_hash256 id, root;
    uint8_t packed[FAR_BLOCK_BYTES];
    for (size_t i = 0; i < BLOCKS; i++) {
        if (far_block_is_zero(disk[i], FAR_BLOCK_BYTES)) {
            assert_int_equal(far_replica_set(replica, i, far_zero_leaf(), &err), 0);
            continue;
        }
        far_block_leaf(disk[i], FAR_BLOCK_BYTES, &id);
        size_t n = ZSTD_compress(packed, sizeof packed, disk[i], FAR_BLOCK_BYTES, 1);
        bool pays = !ZSTD_isError(n) && n < FAR_BLOCK_BYTES;
        assert_int_equal(far_vault_put(vault, NULL, &id, pays ? FAR_CODEC_ZSTD : FAR_CODEC_RAW, pays ? packed : disk[i],
                                       pays ? n : FAR_BLOCK_BYTES, &err), 0);
        assert_int_equal(far_replica_set(replica, i, &id, &err), 0);
    }
    assert_int_equal(far_replica_checkpoint(replica, BLOCKS, "view", &err), 0);
    assert_int_equal(far_replica_root(replica, &root, &err), 0);
    kit_manifest(point_id, DISK, sizeof disk, &root, &manifest);
    assert_int_equal(far_vault_seal(vault, &manifest, &err), 0);
}

static const uint64_t *features_of(uint64_t point_id)
{
    assert_int_equal(far_signal_make(vault, point_id, NULL, NULL, signal_of, &err), 0);
    assert_int_equal(signal_of->disk_count, 1);
    assert_int_equal(signal_of->disks[0].disk_id, DISK);
    return signal_of->disks[0].features.values;
}

static uint32_t score_of(uint64_t point_id)
{
    struct far_signal_score score;
    features_of(point_id);
    far_signal_judge(&signal_of->disks[0], &score);
    return score.score;
}

static void encrypt_some(size_t from, size_t count)
{
    for (size_t f = from; f < from + count; f++) {
        file(random_bytes, f * 8, 7, 2000);
    }
}

/* ---- pages ---- */

static void pages_are_what_they_look_like(void **unused)
{
    static uint8_t page[PAGE];
    struct far_signal_page look;
    far_signal_page_look(page, &look);
    assert_int_equal(look.klass, FAR_SIGNAL_ZERO);
    unsigned random = 0;
    for (unsigned i = 0; i < 1000; i++) {
        random_bytes(page, PAGE);
        far_signal_page_look(page, &look);
        random += look.klass == FAR_SIGNAL_RANDOM;
        assert_true(look.klass == FAR_SIGNAL_RANDOM || look.klass == FAR_SIGNAL_COMPRESSED);
    }
    assert_true(random > 985);
    words(page, PAGE);
    far_signal_page_look(page, &look);
    assert_int_equal(look.klass, FAR_SIGNAL_STRUCTURED);
    for (size_t i = 0; i < PAGE; i++) { /* as of Huffman codes: all values, some of them twice as often */
        random_bytes(&page[i], 1);
        page[i] = i % 5 == 0 ? page[i] & 0x7f : page[i];
    }
    far_signal_page_look(page, &look);
    assert_int_equal(look.klass, FAR_SIGNAL_COMPRESSED);
    random_bytes(page, PAGE);
    memset(page + 1000, 0, PAGE - 1000);
    page[999] = 1;
    far_signal_page_look(page, &look);
    assert_int_equal(look.bytes, 1000);
    assert_int_equal(look.klass, FAR_SIGNAL_RANDOM);
    assert_false(far_signal_page_runs_on(page));
    memset(page + 100, 0, PAGE - 100);
    far_signal_page_look(page, &look);
    assert_int_equal(look.klass, FAR_SIGNAL_STRUCTURED); /* too little to judge */
}

static void chi_square_is_exact(void **unused)
{
    struct far_signal_histogram histogram = {.bytes = 0};
    assert_int_equal(far_signal_chi(&histogram), 0);
    for (size_t i = 0; i < 256; i++) {
        histogram.counts[i] = 4;
    }
    histogram.bytes = 1024;
    assert_int_equal(far_signal_chi(&histogram), 0);
    histogram.counts[0] = 8;
    histogram.counts[1] = 0; /* (16 + 16) / 4 */
    assert_int_equal(far_signal_chi(&histogram), 8);
}

static void heads_are_known_unknown_or_none(void **unused)
{
    static uint8_t page[PAGE];
    unsigned none = 0;
    for (unsigned i = 0; i < 1000; i++) {
        random_bytes(page, PAGE);
        none += far_signal_page_head(page) == FAR_SIGNAL_HEAD_NONE;
    }
    assert_true(none > 990);
    random_bytes(page, PAGE);
    memcpy(page, "\x89PNG", 4);
    assert_int_equal(far_signal_page_head(page), FAR_SIGNAL_HEAD_KNOWN);
    random_bytes(page, PAGE);
    memset(page + 8, 0, 16);
    page[0] = 'q';
    assert_int_equal(far_signal_page_head(page), FAR_SIGNAL_HEAD_UNKNOWN);
}

static void bytes_woven_into_others_are_seen(void **unused)
{
    static uint8_t before[PAGE], after[PAGE];
    words(before, PAGE);
    memcpy(after, before, PAGE);
    for (size_t i = 0; i < PAGE; i += 32) {
        random_bytes(after + i, 16);
    }
    assert_true(far_signal_page_woven(before, after));
    memcpy(after, before, PAGE);
    random_bytes(after + 1000, 2000); /* in one piece */
    assert_false(far_signal_page_woven(before, after));
    words(after, PAGE);
    assert_false(far_signal_page_woven(before, after));
}

/* ---- increments ---- */

static void an_increment_is_counted_to_the_page(void **unused)
{
    for (size_t f = 0; f < 20; f++) {
        file(words, f * 8, 7, 2000);
    }
    memcpy(page_at(16), "%PDF-1.5", 8); /* the third one */
    state = state / 26 * 26;
    file(words, 24, 7, 2000);
    seal(1);
    state = 88172645463325252ull; /* of one page in 500 chance makes a compressed one: not of these */
    file(random_bytes, 8, 7, 2000);      /* in place, structured before */
    file(random_bytes, 16, 7, 2000);     /* in place, a known format before */
    file(random_bytes, 40 * 8, 3, 1500); /* where nothing was, behind nothing */
    file(random_bytes, 60 * 8, 4, 3000); /* the same with a head */
    memcpy(page_at(60 * 8), "\x1f\x8b\x08", 3);
    state = state / 26 * 26 + 13;
    file(words, 24, 7, 1900); /* an edited document */
    seal(2);
    const uint64_t *v = features_of(2);
    assert_int_equal(signal_of->disks[0].since_point, 1);
    assert_int_equal(v[FAR_SIGNAL_disk_blocks], BLOCKS);
    assert_int_equal(v[FAR_SIGNAL_changed_blocks], 4); /* 0, 1, 20, 30 */
    assert_int_equal(v[FAR_SIGNAL_changed_runs], 3);
    assert_int_equal(v[FAR_SIGNAL_from_zero_blocks], 2);
    assert_int_equal(v[FAR_SIGNAL_looked_blocks], 4);
    assert_int_equal(v[FAR_SIGNAL_known_blocks], 0);
    assert_int_equal(v[FAR_SIGNAL_sampled_blocks], 4);
    assert_int_equal(v[FAR_SIGNAL_changed_pages], 7 + 7 + 3 + 4 + 7);
    assert_int_equal(v[FAR_SIGNAL_zero_to_random_pages] + v[FAR_SIGNAL_zero_to_compressed_pages], 7);
    assert_int_equal(v[FAR_SIGNAL_structured_to_random_pages] + v[FAR_SIGNAL_structured_to_compressed_pages], 14);
    assert_int_equal(v[FAR_SIGNAL_structured_to_structured_pages], 7);
    assert_int_equal(v[FAR_SIGNAL_bare_on_structured_runs], 1);
    assert_int_equal(v[FAR_SIGNAL_bare_on_head_runs], 1);
    assert_int_equal(v[FAR_SIGNAL_bare_on_zero_runs], 1);
    assert_int_equal(v[FAR_SIGNAL_bare_tail_runs], 3);
    assert_int_equal(v[FAR_SIGNAL_bare_pages], 7 + 7 + 3);
    assert_int_equal(v[FAR_SIGNAL_tails_kept_runs], 2);
    assert_int_equal(v[FAR_SIGNAL_known_head_runs], 1);
    assert_int_equal(v[FAR_SIGNAL_heads_lost_pages], 1);
    assert_int_equal(v[FAR_SIGNAL_hidden_runs] + v[FAR_SIGNAL_dense_runs] + v[FAR_SIGNAL_woven_pages], 0);
}

static void what_the_vault_had_before_is_known(void **unused)
{
    for (size_t i = 0; i < 10; i++) {
        random_bytes(disk[i], FAR_BLOCK_BYTES);
    }
    seal(1);
    memcpy(disk[200], disk[3], FAR_BLOCK_BYTES); /* moved */
    memcpy(disk[201], disk[4], FAR_BLOCK_BYTES);
    memset(disk[3], 0, FAR_BLOCK_BYTES);
    random_bytes(disk[280], FAR_BLOCK_BYTES);
    seal(2);
    const uint64_t *v = features_of(2);
    assert_int_equal(v[FAR_SIGNAL_changed_blocks], 4);
    assert_int_equal(v[FAR_SIGNAL_known_blocks], 2);
    assert_int_equal(v[FAR_SIGNAL_zero_to_high_blocks], 3);
    assert_int_equal(v[FAR_SIGNAL_to_zero_blocks], 1);
}

/* Of more than is looked at the same is looked at each time, in any vault. */
static void the_sample_is_bounded_and_the_same_again(void **unused)
{
    static uint64_t first[FAR_SIGNAL_FEATURE_COUNT];
    char path[400];
    seal(1);
    for (size_t i = 0; i < BLOCKS; i++) {
        i % 3 == 0 ? random_bytes(disk[i], FAR_BLOCK_BYTES) : words(disk[i], FAR_BLOCK_BYTES);
    }
    seal(2);
    memcpy(first, features_of(2), sizeof first);
    assert_int_equal(first[FAR_SIGNAL_changed_blocks], BLOCKS);
    assert_true(first[FAR_SIGNAL_sampled_blocks] <= FAR_SIGNAL_SAMPLE_MAX);
    snprintf(path, sizeof path, "%s/signals/2.signal", dir);
    assert_int_equal(unlink(path), 0);
    assert_memory_equal(features_of(2), first, sizeof first);
}

static void an_empty_increment_has_no_evidence(void **unused)
{
    file(words, 0, 20, 100);
    seal(1);
    seal(2);
    const uint64_t *v = features_of(2);
    for (size_t i = 1; i < FAR_SIGNAL_FEATURE_COUNT; i++) {
        assert_int_equal(v[i], 0);
    }
    assert_int_equal(score_of(2), 0);
}

static bool stop_at_once(void *arg)
{
    (void)arg;
    return true;
}

/* What takes too long is left for later, and nothing half is kept. */
static void it_can_be_stopped(void **unused)
{
    for (size_t i = 0; i < BLOCKS; i++) {
        words(disk[i], FAR_BLOCK_BYTES);
    }
    seal(1);
    encrypt_some(0, 30);
    seal(2);
    assert_int_equal(far_signal_make(vault, 2, stop_at_once, NULL, signal_of, &err), FAR_CANCELED);
    assert_int_equal(far_signal_load(vault, 2, signal_of, &err), FAR_NOT_FOUND);
    assert_int_not_equal(score_of(2), 0);
}

static int stop_now(void *arg, uint64_t block, const struct far_hash256 *before, const struct far_hash256 *after, struct far_error *e)
{
    uint64_t *seen = arg;
    (void)before, (void)after;
    assert_true(*seen == 0 || block > *seen);
    *seen = block;
    return block == 280 ? far_fail(e, FAR_CANCELED, "enough") : 0;
}

static void a_difference_goes_over_pages_of_the_tree_and_ends_when_told(void **unused)
{
    struct far_point *before, *after;
    uint64_t seen = 0;
    words(disk[5], 100);
    seal(1);
    words(disk[5], 200);
    words(disk[255], 10);
    words(disk[256], 10);
    words(disk[280], 10);
    words(disk[290], 10);
    seal(2);
    assert_int_equal(far_point_open_disk(vault, 1, "root", &before, &err), 0);
    assert_int_equal(far_point_open_disk(vault, 2, "root", &after, &err), 0);
    assert_int_equal(far_vault_diff(vault, before, after, stop_now, &seen, &err), FAR_CANCELED);
    assert_int_equal(seen, 280);
    seen = 0;
    assert_int_equal(far_vault_diff(vault, before, before, stop_now, &seen, &err), 0);
    assert_int_equal(seen, 0);
    assert_int_equal(far_vault_diff(vault, NULL, before, stop_now, &seen, &err), 0);
    assert_int_equal(seen, 5);
    far_point_close(before);
    far_point_close(after);
}

/* ---- what is kept ---- */

static void history_outlives_its_points(void **unused)
{
    for (size_t f = 0; f < 60; f++) {
        file(words, f * 8, 7, 2000);
    }
    for (uint64_t point = 1; point <= 40; point++) {
        encrypt_some(point, point >= 38);
        words(page_at(500), 2000);
        seal(point);
        features_of(point);
        assert_int_equal(signal_of->disks[0].history_count, point < 3 ? 0 : point < 34 ? point - 2 : FAR_SIGNAL_HISTORY_MAX);
        assert_int_equal(signal_of->disks[0].since_point, point - 1);
        assert_int_equal(point > 3 ? far_vault_forget(vault, point - 2, &err) : 0, 0); /* of it nothing is left */
        assert_int_equal(point > 3 ? far_signal_load(vault, point - 2, other, &err) : FAR_NOT_FOUND, FAR_NOT_FOUND);
    }
    struct far_signal_score score;
    far_signal_judge(&signal_of->disks[0], &score);
    assert_int_equal(score.rising, 3);
    assert_int_equal(far_signal_calm_point(&signal_of->disks[0], &score), 37);
    assert_true(score.by_and_by > 0 && score.at_once > 0);
}

static void the_file_is_checked_and_made_again(void **unused)
{
    char path[400];
    struct far_buf file_bytes, again;
    for (size_t f = 0; f < 60; f++) {
        file(words, f * 8, 7, 2000);
    }
    seal(1);
    encrypt_some(0, 30);
    seal(2);
    uint32_t score = score_of(2);
    assert_true(score >= FAR_SIGNAL_ALERT);
    far_buf_init(&file_bytes, FAR_SIGNAL_FILE_BYTES_MAX);
    far_buf_init(&again, FAR_SIGNAL_FILE_BYTES_MAX);
    assert_int_equal(far_signal_encode(signal_of, &file_bytes, &err), 0);
    assert_int_equal(far_signal_decode(far_buf_slice(&file_bytes), other, &err), 0);
    assert_int_equal(far_signal_encode(other, &again, &err), 0);
    assert_true(far_slice_equal(far_buf_slice(&file_bytes), far_buf_slice(&again)));
    for (size_t at = 0; at < file_bytes.len; at++) {
        for (unsigned bit = 0; bit < 8; bit++) {
            file_bytes.data[at] ^= (uint8_t)(1u << bit);
            assert_int_equal(far_signal_decode(far_buf_slice(&file_bytes), other, &err), FAR_CORRUPT);
            file_bytes.data[at] ^= (uint8_t)(1u << bit);
        }
        assert_int_equal(far_signal_decode(far_slice(file_bytes.data, at), other, &err), FAR_CORRUPT);
    }
    far_buf_done(&file_bytes);
    far_buf_done(&again);
    snprintf(path, sizeof path, "%s/signals/2.signal", dir);
    assert_int_equal(truncate(path, 60), 0);
    assert_int_equal(far_signal_load(vault, 2, other, &err), FAR_CORRUPT);
    assert_int_equal(score_of(2), score); /* from the trees */
    assert_int_equal(far_signal_load(vault, 2, other, &err), 0);
}

static void the_first_point_has_no_features(void **unused)
{
    struct far_signal_score score;
    encrypt_some(0, 30);
    seal(1);
    features_of(1);
    assert_int_equal(signal_of->disks[0].since_point, 0);
    far_signal_judge(&signal_of->disks[0], &score);
    assert_int_equal(score.detector, 0);
    assert_int_equal(score.score, 0);
}

/* ---- the detector ---- */

static void a_slow_encryptor_is_caught_by_and_by(void **unused)
{
    uint64_t caught = 0;
    for (size_t f = 0; f < 120; f++) {
        file(words, f * 8, 7, 2000);
    }
    for (uint64_t point = 1; point <= 40; point++) {
        encrypt_some(point, point >= 8); /* one file */
        seal(point);
        uint32_t score = score_of(point);
        assert_true(point >= 8 || score == 0);
        caught = caught == 0 && score >= FAR_SIGNAL_ALERT ? point : caught;
    }
    assert_in_range(caught, 10, 20);
}

static void a_disk_that_its_guest_encrypts_says_nothing(void **unused)
{
    for (size_t i = 0; i < 200; i++) {
        random_bytes(disk[i], FAR_BLOCK_BYTES);
    }
    seal(1);
    for (size_t i = 0; i < 200; i += 3) {
        random_bytes(disk[i], FAR_BLOCK_BYTES / 2);
    }
    for (size_t f = 210 * PAGES; f < 280 * PAGES; f += 9) { /* where it never wrote before */
        random_bytes(page_at(f), 5 * PAGE <= FAR_BLOCK_BYTES ? PAGE : 0);
    }
    seal(2);
    assert_int_equal(score_of(2), 0);
}

int main(void)
{
#define CASE(name) cmocka_unit_test_setup_teardown(name, setup, teardown)
    const struct CMUnitTest tests[] = {
        CASE(pages_are_what_they_look_like),
        CASE(chi_square_is_exact),
        CASE(heads_are_known_unknown_or_none),
        CASE(bytes_woven_into_others_are_seen),
        CASE(an_increment_is_counted_to_the_page),
        CASE(what_the_vault_had_before_is_known),
        CASE(the_sample_is_bounded_and_the_same_again),
        CASE(an_empty_increment_has_no_evidence),
        CASE(a_difference_goes_over_pages_of_the_tree_and_ends_when_told),
        CASE(it_can_be_stopped),
        CASE(history_outlives_its_points),
        CASE(the_file_is_checked_and_made_again),
        CASE(the_first_point_has_no_features),
        CASE(a_slow_encryptor_is_caught_by_and_by),
        CASE(a_disk_that_its_guest_encrypts_says_nothing),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
