/* An adapter as a program, for tests that hold what it says against other tools.
 *
 *   adapter_driver ADAPTER freeze HINT LOCATOR…         "ref R", and for each disk "disk SIZE IDENTITY TOKEN"
 *   adapter_driver ADAPTER release|keep REF LOCATOR…
 *   adapter_driver ADAPTER changed REF LOCATOR SINCE    a line for each extent: OFFSET LENGTH
 *   adapter_driver ADAPTER copy REF LOCATOR FILE        the frozen bytes
 *   adapter_driver ADAPTER capture FILE LOCATOR…
 *   adapter_driver ADAPTER create REF PLACE NAME yes|no FILE {LOCATOR FORMAT TARGET}…   a machine; yes: isolated
 *   adapter_driver ADAPTER on|shutdown|off|look|destroy REF PLACE NAME yes|no
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

static int capture(const struct far_adapter *adapter, void *platform, const char *path, const struct far_adapter_disk *disks, size_t count,
                   struct far_adapter_error *said)
{
    static char config[FAR_ADAPTER_CONFIG_TEXT_MAX];
    int outcome = adapter->machines->capture(platform, disks, count, config, sizeof config, said);
    FILE *file = outcome == FAR_ADAPTER_OK ? fopen(path, "w") : NULL;
    if (outcome == FAR_ADAPTER_OK && (file == NULL || fputs(config, file) < 0 || fclose(file) != 0)) {
        outcome = far_adapter_fail(said, FAR_ADAPTER_FATAL, -10, "write '%s'", path);
    }
    return outcome;
}

static int run_machine(const struct far_adapter *adapter, void *platform, char **argv, int argc, struct far_adapter_error *said)
{
    static char config[FAR_ADAPTER_CONFIG_TEXT_MAX];
    static struct far_adapter_machine_disk disks[DISKS_MAX];
    struct far_adapter_machine machine = {.place = argv[4], .name = argv[5], .isolated = strcmp(argv[6], "yes") == 0, .disks = disks};
    const struct far_adapter_machines *machines = adapter->machines;
    const char *verb = argv[2], *ref = argv[3];
    int state, outcome;
    if (strcmp(verb, "create") == 0) {
        FILE *file = fopen(argv[7], "r");
        size_t n = file != NULL ? fread(config, 1, sizeof config - 1, file) : 0;
        config[n] = '\0';
        machine.config = config;
        for (int i = 8; i + 2 < argc && machine.disk_count < DISKS_MAX; i += 3) {
            disks[machine.disk_count++] =
                (struct far_adapter_machine_disk){.source = argv[i], .format = argv[i + 1], .target = argv[i + 2]};
        }
        if (file != NULL) {
            fclose(file);
        }
        return machines->create(platform, ref, &machine, said);
    }
    if (strcmp(verb, "destroy") == 0) {
        return machines->destroy(platform, ref, &machine, said);
    }
    if (strcmp(verb, "look") == 0) {
        outcome = machines->look(platform, ref, &machine, &state, said);
        if (outcome == FAR_ADAPTER_OK) {
            printf("state %d\n", state);
        }
        return outcome;
    }
    return machines->power(platform, ref, &machine,
                           strcmp(verb, "on") == 0    ? FAR_ADAPTER_POWER_ON
                           : strcmp(verb, "off") == 0 ? FAR_ADAPTER_POWER_OFF
                                                      : FAR_ADAPTER_POWER_SHUTDOWN,
                           said);
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
    bool is_machine = argc >= 7 && strstr("create on shutdown off look destroy", verb) != NULL;
    int outcome = is_machine ? run_machine(adapter, platform, argv, argc, &said)
                  : strcmp(verb, "capture") == 0 ? capture(adapter, platform, ref, disks, count, &said)
                  : strcmp(verb, "freeze") == 0    ? freeze(adapter, platform, ref, disks, count, &said)
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
