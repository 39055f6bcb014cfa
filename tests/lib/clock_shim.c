/* A shim for tests: the wall clock of one program runs apart from the machine's by as many milliseconds as the file says that
 * FAR_CLOCK_OFFSET_FILE names. The monotonic clock is the machine's. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <fcntl.h>
#include <stdlib.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

static long long offset_ms(void)
{
    char text[32] = "";
    const char *path = getenv("FAR_CLOCK_OFFSET_FILE");
    int fd = path == NULL ? -1 : open(path, O_RDONLY | O_CLOEXEC);
    if (fd >= 0) {
        if (read(fd, text, sizeof text - 1) < 0) {
            text[0] = '\0';
        }
        close(fd);
    }
    return strtoll(text, NULL, 10);
}

int clock_gettime(clockid_t id, struct timespec *ts)
{
    int rc = (int)syscall(SYS_clock_gettime, id, ts);
    if (rc == 0 && id == CLOCK_REALTIME) {
        long long ns = ts->tv_nsec + offset_ms() % 1000 * 1000000;
        ts->tv_sec += (time_t)(offset_ms() / 1000);
        ts->tv_sec += (time_t)(ns / 1000000000) - (ns < 0);
        ts->tv_nsec = (long)((ns + 1000000000) % 1000000000);
    }
    return rc;
}
