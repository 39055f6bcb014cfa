/* powercut: the command around powercut_disk.h.
 *
 *   powercut info LOG                             records, and each mark with its place
 *   powercut mark LOG TEXT                        append a mark: what the test knows to be acknowledged
 *   powercut build LOG BASE OUT CUT SEED [MODE]   the folder after a power cut before record CUT; CUT "end": at the end;
 *                                                 prints seed, cut and mode, then the marks before the cut
 */
#define _GNU_SOURCE 1
#include "powercut_disk.h"
#include "powercut_log.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/uio.h>
#include <unistd.h>

static const char *const mode_names[POWERCUT_MODES] = {"lose-all", "keep-all", "operations",
                                                       "pages",    "sectors",  "prefix"};

static void print_mark(size_t at, const char *text, size_t length)
{
    printf("mark %zu %.*s\n", at, (int)length, text);
}

static int mark(const char *log, const char *text)
{
    struct powercut_record record = {.magic = POWERCUT_MAGIC, .type = POWERCUT_MARK, .data_len = (uint32_t)strlen(text)};
    struct iovec parts[2] = {{.iov_base = &record, .iov_len = sizeof record},
                             {.iov_base = (void *)(uintptr_t)text, .iov_len = strlen(text)}};
    int fd = open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600);
    ssize_t size = (ssize_t)(sizeof record + strlen(text));
    if (fd < 0 || writev(fd, parts, 2) != size) {
        perror(log);
        return 2;
    }
    return close(fd);
}

static int mode_of(const char *name)
{
    for (int i = 0; i < POWERCUT_MODES; i++) {
        if (strcmp(name, mode_names[i]) == 0) {
            return i;
        }
    }
    return -1;
}

static int build(int argc, char **argv)
{
    struct powercut_disk *disk = powercut_disk_new(argv[2], argv[3]);
    size_t records = powercut_disk_records(disk);
    size_t cut = strcmp(argv[5], "end") == 0 ? records : (size_t)strtoull(argv[5], NULL, 10);
    uint64_t seed = strtoull(argv[6], NULL, 10);
    int mode = powercut_disk_build(disk, cut, seed, argc > 7 ? mode_of(argv[7]) : -1, argv[4]);
    printf("seed %" PRIu64 " cut %zu of %zu mode %s\n", seed, cut, records, mode_names[mode]);
    powercut_disk_marks(disk, cut, print_mark);
    powercut_disk_free(disk);
    return 0;
}

int main(int argc, char **argv)
{
    if (argc == 3 && strcmp(argv[1], "info") == 0) {
        struct powercut_disk *disk = powercut_disk_new(argv[2], NULL);
        printf("records %zu\n", powercut_disk_records(disk));
        powercut_disk_marks(disk, SIZE_MAX, print_mark);
        powercut_disk_free(disk);
        return 0;
    }
    if (argc == 4 && strcmp(argv[1], "mark") == 0) {
        return mark(argv[2], argv[3]);
    }
    if ((argc == 7 || argc == 8) && strcmp(argv[1], "build") == 0) {
        return build(argc, argv);
    }
    fprintf(stderr, "usage: powercut info LOG | mark LOG TEXT | build LOG BASE OUT CUT SEED [MODE]\n");
    return 2;
}
