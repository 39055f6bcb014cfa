/* A list of changes that another program writes (file?changes=), whatever is in it: read in large pages and in small ones it names
 * the same ranges, inside the disk and in order, or is refused both times. */
#include "adapters/file/file_adapter.h"

#include "base/assert.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

enum { DISK_BYTES = 1 << 20, EXTENTS = 256, SMALL = 3 };

static struct far_file platform = {.mutex = PTHREAD_MUTEX_INITIALIZER};
static char dir[200], disk_path[300], list_path[300];
static struct far_adapter_disk disk = {.name = "disk", .locator = disk_path};

static void remove_folder(void)
{
    unlink(list_path);
    unlink(disk_path);
    rmdir(dir);
}

static void make_folder(void)
{
    const char *tmp = getenv("TMPDIR");
    if (dir[0] != '\0') {
        return;
    }
    snprintf(dir, sizeof dir, "%.120s/fuzz-list-XXXXXX", tmp != NULL ? tmp : "/tmp");
    FAR_ASSERT(mkdtemp(dir) != NULL);
    snprintf(disk_path, sizeof disk_path, "%s/disk", dir);
    snprintf(list_path, sizeof list_path, "%s/disk.changes.farshore-v", dir);
    snprintf(platform.changes, sizeof platform.changes, "%s", dir);
    int fd = open(disk_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    FAR_ASSERT(fd >= 0 && ftruncate(fd, DISK_BYTES) == 0);
    close(fd);
    atexit(remove_folder);
}

/* Bytes of the disk that are listed, in marks; the outcome. */
static int read_list(size_t max, uint8_t *marks)
{
    struct far_adapter_extent extents[EXTENTS];
    struct far_adapter_error said;
    uint64_t at = 0, before = 0;
    memset(marks, 0, DISK_BYTES);
    while (at < DISK_BYTES) {
        size_t count = 0;
        uint64_t next = 0;
        int outcome = far_file_list_changed(&platform, "live:v", &disk, "a", at, extents, max, &count, &next, &said);
        if (outcome != FAR_ADAPTER_OK) {
            return outcome;
        }
        FAR_ASSERT(count <= max && next > at && next <= DISK_BYTES);
        for (size_t i = 0; i < count; i++) {
            FAR_ASSERT(extents[i].offset >= before && extents[i].length > 0);
            FAR_ASSERT(extents[i].offset <= DISK_BYTES && extents[i].length <= DISK_BYTES - extents[i].offset);
            before = extents[i].offset + extents[i].length;
            memset(marks + extents[i].offset, 1, extents[i].length);
        }
        at = next;
    }
    return FAR_ADAPTER_OK;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static uint8_t large[DISK_BYTES], small[DISK_BYTES];
    make_folder();
    unlink(list_path); /* each list is another file, as if it had been renamed to here */
    int fd = open(list_path, O_WRONLY | O_CREAT | O_CLOEXEC, 0600);
    FAR_ASSERT(fd >= 0 && write(fd, data, size) == (ssize_t)size);
    close(fd);
    memset(platform.places, 0, sizeof platform.places); /* inode and time may be those of the list before */
    int outcome = read_list(EXTENTS, large);
    FAR_ASSERT(read_list(SMALL, small) == outcome);
    FAR_ASSERT(outcome != FAR_ADAPTER_OK || memcmp(large, small, DISK_BYTES) == 0);
    return 0;
}
