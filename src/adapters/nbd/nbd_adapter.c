/* The NBD adapter: a disk is an export of an NBD server, its locator an NBD URI (nbd://, nbds:// with TLS, nbd+unix://,
 * nbds+unix://): what QEMU, nbdkit and others offer.
 *
 * An export that is read-only is frozen by whoever exports it; a writable one is read as it lives, fuzzy. Neither hangs on the
 * node that reads: any node that reaches the server can go on with it. Settings ("nbd?timeout_ms=5000"; numbers, and names):
 *
 *   timeout_ms  tm   a server that does not answer one request for so long is given up (15,000)
 *   retry_ms    rm   a server that is gone is looked for again for so long, within one call (10,000)
 *   connections cn   at most so many for one disk, where the server offers several (4)
 *   bitmap      bm   the dirty bitmap that counts what changes from the views on; also in a locator: "…?bitmap=NAME"
 *
 * How lists of changes work stands in nbd_changes.c. */
#include "adapters/nbd/nbd_adapter.h"

#include "base/clock.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

enum { PAUSE_MS = 50, PAUSE_MS_MAX = 1000 };

void far_nbd_pause(unsigned n)
{
    uint64_t ms = n < 5 ? (uint64_t)PAUSE_MS << n : PAUSE_MS_MAX;
    ms = ms < PAUSE_MS_MAX ? ms : PAUSE_MS_MAX;
    struct timespec pause = {.tv_sec = (time_t)(ms / 1000), .tv_nsec = (long)(ms % 1000) * 1000000};
    nanosleep(&pause, NULL);
}

/* ---- locators ---- */

static bool is_bitmap_name(const char *name, size_t len)
{
    bool ok = len > 0 && len <= FAR_NBD_TOKEN_MAX;
    for (size_t i = 0; ok && i < len; i++) {
        ok = name[i] > 0x20 && name[i] < 0x7f && strchr("%&\"\\", name[i]) == NULL;
    }
    return ok;
}

static bool is_uri(const char *locator)
{
    static const char *const schemes[] = {"nbd://", "nbds://", "nbd+unix://", "nbds+unix://"};
    for (size_t i = 0; i < sizeof schemes / sizeof schemes[0]; i++) {
        if (strncmp(locator, schemes[i], strlen(schemes[i])) == 0) {
            return true;
        }
    }
    return false;
}

int far_nbd_place(const struct far_nbd *nbd, const char *locator, struct far_nbd_place *ret_place,
                  struct far_adapter_error *ret_error)
{
    struct far_nbd_place place = {0};
    if (!is_uri(locator) || strlen(locator) >= sizeof place.uri) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the locator '%.200s' is no NBD URI: nbd://, nbds://, nbd+unix:// or nbds+unix://", locator);
    }
    size_t len = strcspn(locator, "?");
    const char *at = locator + len;
    bool first = true;
    memcpy(place.uri, locator, len);
    strcpy(place.bitmap, nbd->bitmap);
    while (*at != '\0') { /* at a '?' or '&' */
        size_t piece = strcspn(++at, "&");
        if (strncmp(at, "bitmap=", 7) == 0) {
            if (!is_bitmap_name(at + 7, piece - 7)) {
                return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                        "the locator '%.200s' names no bitmap: 1 to %d printable characters", locator,
                                        FAR_NBD_TOKEN_MAX);
            }
            memcpy(place.bitmap, at + 7, piece - 7);
            place.bitmap[piece - 7] = '\0';
        } else {
            len += (size_t)sprintf(place.uri + len, "%c%.*s", first ? '?' : '&', (int)piece, at);
            first = false;
        }
        at += piece;
    }
    *ret_place = place;
    return FAR_ADAPTER_OK;
}

/* ---- connections ---- */

int far_nbd_connect(const struct far_nbd *nbd, const char *uri, const char *context, bool once,
                    struct far_nbd_link **ret_link, struct far_adapter_error *ret_error)
{
    uint64_t give_up_ms = far_clock_monotonic_ms() + nbd->retry_ms;
    struct far_nbd_words words = {0};
    for (unsigned n = 0;; n++) {
        enum far_nbd_answer answer =
            far_nbd_link_open(uri, context, far_clock_monotonic_ms() + nbd->timeout_ms, ret_link, &words);
        if (answer == FAR_NBD_OK) {
            return FAR_ADAPTER_OK;
        }
        if (answer == FAR_NBD_REFUSED) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "connect to '%.160s': %s", uri, words.text);
        }
        if (answer == FAR_NBD_SILENT) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_TIMEOUT, "connect to '%.160s': %s within %llu ms", uri,
                                    words.text, (unsigned long long)nbd->timeout_ms);
        }
        if (once || far_clock_monotonic_ms() >= give_up_ms) {
            break;
        }
        far_nbd_pause(n);
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, words.sys_errno == EPERM || words.sys_errno == EACCES ? FAR_DENIED : FAR_IO,
                            "connect to '%.160s': %s", uri, words.text);
}

/* ---- inventory ---- */

static int nbd_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                     struct far_adapter_error *ret_error)
{
    char ref[128];
    bool fuzzy;
    return far_nbd_freeze(platform, "probe", disk, 1, ret_found, ref, &fuzzy, ret_error);
}

/* ---- the platform ---- */

static int set_number(const char *value, size_t len, uint64_t min, uint64_t max, uint64_t *ret_number)
{
    uint64_t number = 0;
    for (size_t i = 0; i < len; i++) {
        if (value[i] < '0' || value[i] > '9' || number > max) {
            return -1;
        }
        number = number * 10 + (uint64_t)(value[i] - '0');
    }
    if (len == 0 || number < min || number > max) {
        return -1;
    }
    *ret_number = number;
    return 0;
}

static bool key_is(const char *key, size_t len, const char *name, const char *brief)
{
    return (strlen(name) == len && memcmp(name, key, len) == 0) || (strlen(brief) == len && memcmp(brief, key, len) == 0);
}

static int set(struct far_nbd *nbd, const char *line, size_t len, struct far_adapter_error *ret_error)
{
    const char *equals = memchr(line, '=', len);
    size_t key_len = equals != NULL ? (size_t)(equals - line) : len;
    const char *value = equals != NULL ? equals + 1 : line + len;
    size_t value_len = len - (size_t)(value - line);
    int rc = -1;
    if (key_is(line, key_len, "timeout_ms", "tm")) {
        rc = set_number(value, value_len, 1, 3600000, &nbd->timeout_ms);
    } else if (key_is(line, key_len, "retry_ms", "rm")) {
        rc = set_number(value, value_len, 0, 3600000, &nbd->retry_ms);
    } else if (key_is(line, key_len, "connections", "cn")) {
        rc = set_number(value, value_len, 1, FAR_NBD_LINKS_MAX, &nbd->connections);
    } else if (key_is(line, key_len, "bitmap", "bm") && is_bitmap_name(value, value_len)) {
        memcpy(nbd->bitmap, value, value_len);
        nbd->bitmap[value_len] = '\0';
        rc = 0;
    }
    return rc == 0 ? FAR_ADAPTER_OK
                   : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                      "the adapter nbd has no setting '%.*s', or not with this value", (int)len, line);
}

static int nbd_open(const char *config, void **ret_platform, struct far_adapter_error *ret_error)
{
    struct far_nbd *nbd = calloc(1, sizeof *nbd);
    int outcome = nbd != NULL ? FAR_ADAPTER_OK : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    if (nbd != NULL) {
        *nbd = (struct far_nbd){.timeout_ms = 15000, .retry_ms = 10000, .connections = 4};
    }
    while (outcome == FAR_ADAPTER_OK && *config != '\0') {
        size_t len = strcspn(config, "\n");
        outcome = len > 0 ? set(nbd, config, len, ret_error) : FAR_ADAPTER_OK;
        config += len + (config[len] == '\n');
    }
    if (outcome != FAR_ADAPTER_OK) {
        free(nbd);
        return outcome;
    }
    pthread_mutex_init(&nbd->mutex, NULL);
    *ret_platform = nbd;
    return FAR_ADAPTER_OK;
}

static void nbd_close_platform(void *platform)
{
    struct far_nbd *nbd = platform;
    for (size_t i = 0; i < FAR_NBD_LISTS_MAX; i++) {
        far_nbd_list_free(nbd->lists[i]);
    }
    pthread_mutex_destroy(&nbd->mutex);
    free(nbd);
}

static const struct far_adapter_inventory inventory = {.version = FAR_ADAPTER_VERSION, .probe = nbd_probe};

/* An export that is reached over the network is so from every node; a socket in the file system is this machine's. */
static bool nbd_shares_views(void *platform, const struct far_adapter_disk *disks, size_t count)
{
    bool ok = true;
    (void)platform;
    for (size_t i = 0; i < count; i++) {
        ok = ok && (strncmp(disks[i].locator, "nbd://", 6) == 0 || strncmp(disks[i].locator, "nbds://", 7) == 0);
    }
    return ok;
}

static const struct far_adapter_changes changes = {
    .version = FAR_ADAPTER_VERSION,
    .survives_node = true, /* the server's view, not ours */
    .freeze = far_nbd_freeze,
    .release = far_nbd_release,
    .changed = far_nbd_changed,
    .shares_views = nbd_shares_views,
};

const struct far_adapter far_adapter_nbd = {
    .version = FAR_ADAPTER_VERSION,
    .name = "nbd",
    .open = nbd_open,
    .close = nbd_close_platform,
    .inventory = &inventory,
    .changes = &changes,
    .bytes = &far_nbd_bytes,
};
