/* The journal of a source's map (`disk-N.view`), whatever the bytes behind its head are: the first byte picks the disk and whether
 * the checksums of the records are made right, the rest are records. The map goes on from it, the target answers as if the base
 * point were empty; it comes to a root, or a page is not the base's. */
#include "dataplane/source_map.h"

#include "base/assert.h"
#include "base/bytes.h"
#include "base/hash.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { HEAD = 256, RECORD = 56, RECORD_HASHED = 48, RECORDS_MAX = 64, STEPS = 64 };

static char dir[200], view[300], pages[300];

static void remove_folder(void)
{
    unlink(view);
    unlink(pages);
    rmdir(dir);
}

static void make_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    if (dir[0] != '\0') {
        return;
    }
    snprintf(dir, sizeof dir, "%.120s/fuzz-journal-XXXXXX", tmp != NULL ? tmp : "/tmp");
    FAR_ASSERT(mkdtemp(dir) != NULL);
    snprintf(view, sizeof view, "%s/disk-7.view", dir);
    snprintf(pages, sizeof pages, "%s/disk-7.pages", dir);
    atexit(remove_folder);
}

static void write_records(const uint8_t *data, size_t size, bool right)
{
    static uint8_t records[RECORDS_MAX * RECORD];
    size_t length = size < sizeof records ? size : sizeof records;
    memcpy(records, data, length);
    for (size_t at = 0; right && at + RECORD <= length; at += RECORD) {
        records[at] = records[at] % 5; /* the type */
        records[at + 1] = records[at + 2] = records[at + 3] = 0;
        far_put_le64(records + at + RECORD_HASHED, far_hash64(records + at, RECORD_HASHED));
    }
    int fd = open(view, O_WRONLY | O_CLOEXEC);
    FAR_ASSERT(fd >= 0 && ftruncate(fd, HEAD) == 0 && pwrite(fd, records, length, HEAD) == (ssize_t)length);
    close(fd);
}

/* Answers what is asked; false: it is not what the base's root says, because the journal lied. */
static bool answer(struct far_source_map *map)
{
    unsigned level;
    uint64_t index;
    while (far_source_map_next_ask(map, &level, &index)) {
        struct far_hash256 hashes[FAR_MAP_FANOUT];
        for (size_t i = 0; i < FAR_MAP_FANOUT; i++) {
            hashes[i] = *far_map_zero(8 * level);
        }
        if (far_source_map_take(map, level, index, hashes, NULL) != 0) {
            return false;
        }
    }
    return true;
}

static void go_on(struct far_source_map *map, uint64_t base_bytes)
{
    struct far_hash256 leaf = {{1}}, root;
    uint64_t blocks = far_source_map_blocks(map), known = far_source_map_known(map);
    FAR_ASSERT(known <= blocks);
    far_source_map_begin(map, known, base_bytes != 0, base_bytes);
    for (uint64_t block = known, step = (blocks - known) / STEPS + 1; block < blocks; block += step) {
        while (far_source_map_open(map, block, NULL) != 0) {
            if (!answer(map)) {
                return;
            }
        }
        far_source_map_set(map, block, &leaf);
    }
    while (far_source_map_close_to(map, blocks, NULL) != 0) {
        if (!answer(map)) {
            return;
        }
    }
    far_source_map_durable(map, blocks);
    far_source_map_root(map, &root);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static const uint64_t sizes[] = {1, 200 * 65536ull, 256 * 65536ull, 3000 * 65536ull, 70000 * 65536ull + 17, 64ull << 40};
    if (size < 1) {
        return 0;
    }
    make_folder();
    uint64_t size_bytes = sizes[(data[0] >> 2) % 6], base_bytes = (data[0] & 1) != 0 ? size_bytes / (1 + (data[0] >> 5)) : 0;
    struct far_source_map_config config = {
        .dir = dir, .disk_id = 7, .size_bytes = size_bytes, .has_base = base_bytes != 0, .job_id = 3, .freeze_ref = "view"};
    struct far_source_map *map;
    if (base_bytes != 0) {
        far_map_bind_root(base_bytes, far_map_zero(8 * far_map_height(base_bytes)), &config.base_root);
    }
    if (far_source_map_new(&config, &map, NULL) != 0) { /* writes the head */
        return 0;
    }
    far_source_map_free(map);
    write_records(data + 1, size - 1, (data[0] & 2) != 0);
    FAR_ASSERT(far_source_map_new(&config, &map, NULL) == 0);
    go_on(map, base_bytes);
    far_source_map_free(map);
    return 0;
}
