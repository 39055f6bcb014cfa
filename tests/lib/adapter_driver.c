/* An adapter as a program, for tests that hold what it says against other tools.
 *
 *   adapter_driver ADAPTER freeze HINT LOCATOR…         "ref R", and for each disk "disk SIZE IDENTITY TOKEN"
 *   adapter_driver ADAPTER release|keep REF LOCATOR…
 *   adapter_driver ADAPTER changed REF LOCATOR SINCE    a line for each extent: OFFSET LENGTH
 *   adapter_driver ADAPTER copy REF LOCATOR FILE        the frozen bytes
 *
 * A failure is "fail OUTCOME CLASS words" and exit status 1. Pages of a list are short, so that they are many. */
#include "adapters/adapters.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { DISKS_MAX = 64, PAGE = 7, PIECE = 1 << 20 };

static int freeze(const struct far_adapter *adapter, void *platform, const char *hint, const struct far_adapter_disk *disks, size_t count,
                  struct far_adapter_error *said)
{
    static struct far_adapter_found found[DISKS_MAX];
    char ref[128];
    bool fuzzy;
    int outcome = adapter->changes->freeze(platform, hint, disks, count, found, ref, &fuzzy, said);
    if (outcome == FAR_ADAPTER_OK) {
        printf("ref %s\n", ref);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < count; i++) {
        printf("disk %llu %s %s\n", (unsigned long long)found[i].size_bytes, found[i].identity, found[i].token);
    }
    return outcome;
}

static int changed(const struct far_adapter *adapter, void *platform, const char *ref, const struct far_adapter_disk *disk,
                   const char *since, struct far_adapter_error *said)
{
    struct far_adapter_found found;
    uint64_t offset = 0;
    int outcome = adapter->inventory->probe(platform, disk, &found, said);
    while (outcome == FAR_ADAPTER_OK && offset < found.size_bytes) {
        struct far_adapter_extent extents[PAGE];
        size_t count;
        outcome = adapter->changes->changed(platform, ref, disk, since, offset, extents, PAGE, &count, &offset, said);
        for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < count; i++) {
            printf("%llu %llu\n", (unsigned long long)extents[i].offset, (unsigned long long)extents[i].length);
        }
    }
    return outcome;
}

static int copy(const struct far_adapter *adapter, void *platform, const char *ref, const struct far_adapter_disk *disk, const char *path,
                struct far_adapter_error *said)
{
    static char piece[PIECE];
    struct far_adapter_found found;
    void *handle = NULL;
    FILE *file = fopen(path, "wb");
    int outcome = adapter->inventory->probe(platform, disk, &found, said);
    outcome = outcome == FAR_ADAPTER_OK ? adapter->bytes->open_frozen(platform, ref, disk, &handle, said) : outcome;
    for (uint64_t at = 0; outcome == FAR_ADAPTER_OK && at < found.size_bytes; at += PIECE) {
        size_t length = found.size_bytes - at < PIECE ? (size_t)(found.size_bytes - at) : PIECE;
        outcome = adapter->bytes->read(handle, piece, length, at, said);
        if (outcome == FAR_ADAPTER_OK && (file == NULL || fwrite(piece, 1, length, file) != length)) {
            outcome = far_adapter_fail(said, FAR_ADAPTER_FATAL, -10, "write '%s'", path);
        }
    }
    adapter->bytes->close(handle);
    if (file != NULL && fclose(file) != 0 && outcome == FAR_ADAPTER_OK) {
        outcome = far_adapter_fail(said, FAR_ADAPTER_FATAL, -10, "write '%s'", path);
    }
    return outcome;
}

int main(int argc, char **argv)
{
    static struct far_adapter_disk disks[DISKS_MAX];
    struct far_adapter_error said = {0};
    const struct far_adapter *adapter = argc >= 5 ? far_adapters_find(argv[1]) : NULL;
    void *platform;
    size_t count = 0;
    if (adapter == NULL || adapter->open("", &platform, &said) != FAR_ADAPTER_OK) {
        printf("fail 6 -1 usage: adapter_driver ADAPTER freeze|release|keep|changed|copy REF LOCATOR... %s\n", said.message);
        return 1;
    }
    for (int i = 4; i < argc && count < DISKS_MAX; i++) {
        disks[count++] = (struct far_adapter_disk){.name = "disk", .locator = argv[i]};
    }
    const char *verb = argv[2], *ref = argv[3];
    const struct far_adapter_changes *changes = adapter->changes;
    int outcome = strcmp(verb, "freeze") == 0    ? freeze(adapter, platform, ref, disks, count, &said)
                  : strcmp(verb, "changed") == 0 ? changed(adapter, platform, ref, disks, argv[5], &said)
                  : strcmp(verb, "copy") == 0    ? copy(adapter, platform, ref, disks, argv[5], &said)
                  : strcmp(verb, "keep") == 0    ? changes->keep(platform, ref, disks, count, &said)
                                                 : changes->release(platform, ref, disks, count, &said);
    adapter->close(platform);
    if (outcome != FAR_ADAPTER_OK) {
        printf("fail %d %d %s\n", outcome, said.klass, said.message);
    }
    return outcome == FAR_ADAPTER_OK ? 0 : 1;
}
