/* Structured logging: see logging.h. */
#include "base/logging.h"

#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

enum { LINE_MAX_BYTES = 2048 };

static _Atomic int least_level = FAR_LEVEL_INFO;
static const char *const level_names[] = {"debug", "info", "warn", "error"};

void far_log_level_set(enum far_level level)
{
    atomic_store(&least_level, (int)level);
}

/* Copies text into out as the inside of a quoted string; returns the bytes written. */
static size_t escape(const char *text, char *out, size_t room)
{
    size_t n = 0;
    for (; *text != '\0' && n + 4 < room; text++) {
        unsigned char c = (unsigned char)*text;
        if (c == '"' || c == '\\') {
            out[n++] = '\\';
            out[n++] = (char)c;
        } else if (c < 0x20 || c == 0x7f) {
            n += (size_t)snprintf(out + n, room - n, "\\x%02x", c);
        } else {
            out[n++] = (char)c;
        }
    }
    return n;
}

void far_logf(enum far_level level, const char *area, const char *format, ...)
{
    if ((int)level < atomic_load(&least_level)) {
        return;
    }
    char message[LINE_MAX_BYTES / 2];
    va_list args;
    va_start(args, format);
    vsnprintf(message, sizeof message, format, args);
    va_end(args);

    struct timespec now;
    struct tm utc;
    clock_gettime(CLOCK_REALTIME, &now);
    gmtime_r(&now.tv_sec, &utc);
    char line[LINE_MAX_BYTES];
    size_t n = strftime(line, sizeof line, "time=%Y-%m-%dT%H:%M:%S", &utc);
    n += (size_t)snprintf(line + n, sizeof line - n, ".%03ldZ level=%s area=%s msg=\"", now.tv_nsec / 1000000,
                          level_names[level], area);
    n += escape(message, line + n, sizeof line - n - 3);
    line[n++] = '"';
    line[n++] = '\n';
    ssize_t written = write(STDERR_FILENO, line, n);
    (void)written; /* nobody is left to tell */
}
