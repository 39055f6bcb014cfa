/* farshore-node store check FILE: what a store offers and how fast it answers, before a vault trusts it.
 *
 * Works under keys of its own that begin with `check-` and 16 random digits, and removes them again. Says one line for each thing tried:
 * ok, no (it does not offer it), or FAILED. Exit status 0 when all that a vault needs is there. */
#ifndef _GNU_SOURCE
#define _GNU_SOURCE /* memfd_create */
#endif
#include "base/clock.h"
#include "base/random.h"
#include "node/node.h"
#include "objects/objects.h"

#include <fcntl.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum {
    SMALL_BYTES = 4096,
    ROUNDS = 8, /* small requests that are timed */
    LARGE_REST = 1 << 20,
    LARGE_MAX = 1 << 30,
    CHUNK = 1 << 20,
    LOCK_MS = 60000,
    MADE_MAX = 32,
};

struct check {
    struct far_objects *objects;
    const struct far_objects_options *options;
    char under[32]; /* "check-0123456789abcdef/" */
    bool has_versions;
    unsigned failures; /* of what a vault needs */
    /* what is to be removed */
    struct made {
        char key[64];
        char version[136];
    } made[MADE_MAX];
    size_t made_count;
    struct far_error err;
};

static void say(struct check *check, const char *verdict, const char *what, const char *detail)
{
    printf("%-6s  %-*s%s%s\n", verdict, detail[0] != '\0' ? 34 : 0, what, detail[0] != '\0' ? " " : "", detail);
    fflush(stdout);
    check->failures += strcmp(verdict, "FAILED") == 0;
}

/* A result of something that must work. */
static bool worked(struct check *check, int rc, const char *what)
{
    if (rc != 0) {
        say(check, "FAILED", what, check->err.message);
    }
    return rc == 0;
}

static void key_of(const struct check *check, const char *name, char key[64])
{
    snprintf(key, 64, "%s%s", check->under, name);
}

static void note(struct check *check, const char *key, const struct far_object *object)
{
    if (check->made_count < MADE_MAX) {
        struct made *made = &check->made[check->made_count++];
        snprintf(made->key, sizeof made->key, "%s", key);
        snprintf(made->version, sizeof made->version, "%s", object->version);
    }
}

static int put(struct check *check, const char *name, struct far_slice bytes, const struct far_object_put *how, struct far_object *ret)
{
    char key[64];
    struct far_object object;
    key_of(check, name, key);
    int rc = far_objects_put(check->objects, key, bytes, how, &object, &check->err);
    if (rc == 0) {
        note(check, key, &object);
        *ret = object;
    }
    return rc;
}

/* ---- small objects ---- */

static int by_value(const void *a, const void *b)
{
    uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
    return (x > y) - (x < y);
}

static void say_times(struct check *check, const char *what, uint64_t *us, size_t count)
{
    char text[80];
    qsort(us, count, sizeof *us, by_value);
    snprintf(text, sizeof text, "%.1f ms, the slowest of %zu %.1f ms", (double)us[count / 2] / 1000, count, (double)us[count - 1] / 1000);
    say(check, "ok", what, text);
}

static bool check_small(struct check *check)
{
    uint8_t bytes[SMALL_BYTES], got[SMALL_BYTES];
    uint64_t writes[ROUNDS], reads[ROUNDS];
    char name[32], key[64];
    struct far_object object = {0};
    for (unsigned i = 0; i < ROUNDS; i++) {
        far_random_bytes(bytes, sizeof bytes);
        snprintf(name, sizeof name, "small-%u", i);
        key_of(check, name, key);
        uint64_t began = far_clock_monotonic_ns();
        if (!worked(check, put(check, name, far_slice(bytes, sizeof bytes), NULL, &object), "write")) {
            return false;
        }
        writes[i] = (far_clock_monotonic_ns() - began) / 1000;
        began = far_clock_monotonic_ns();
        if (!worked(check, far_objects_get(check->objects, key, NULL, 0, sizeof got, got, &check->err), "read")) {
            return false;
        }
        reads[i] = (far_clock_monotonic_ns() - began) / 1000;
        if (memcmp(bytes, got, sizeof got) != 0) {
            say(check, "FAILED", "read", "other bytes than were just written");
            return false;
        }
    }
    check->has_versions = object.version[0] != '\0';
    say_times(check, "write 4 KiB", writes, ROUNDS);
    say_times(check, "read 4 KiB", reads, ROUNDS);
    uint8_t range[10];
    int rc = far_objects_get(check->objects, key, NULL, 100, sizeof range, range, &check->err);
    if (worked(check, rc, "read a range")) {
        bool same = memcmp(range, bytes + 100, sizeof range) == 0;
        say(check, same ? "ok" : "FAILED", "read a range", same ? "" : "other bytes than were written");
    }
    return true;
}

static int count_key(void *arg, const char *key, const struct far_object *object, struct far_error *err)
{
    (void)key, (void)object, (void)err;
    ++*(unsigned *)arg;
    return 0;
}

static void check_list(struct check *check)
{
    unsigned count = 0;
    char text[64];
    if (worked(check, far_objects_list(check->objects, check->under, count_key, &count, &check->err), "list")) {
        snprintf(text, sizeof text, "%u of %d that were just written", count, ROUNDS);
        say(check, count == ROUNDS ? "ok" : "FAILED", "list", text);
    }
}

/* ---- conditions ---- */

static void check_conditions(struct check *check)
{
    struct far_object first, other;
    const struct far_object_put is_new = {.condition = FAR_OBJECT_NEW};
    static const char if_new[] = "write only what is new", if_same[] = "write only over what is known";
    if (!worked(check, put(check, "cond", far_slice_str("one"), &is_new, &first), if_new)) {
        return;
    }
    int rc = put(check, "cond", far_slice_str("two"), &is_new, &other);
    if (rc != FAR_CONFLICT) {
        say(check, "FAILED", if_new, rc == 0 ? "the store ignores If-None-Match: two nodes could own one vault" : check->err.message);
        return;
    }
    say(check, "ok", if_new, "");
    struct far_object_put same = {.condition = FAR_OBJECT_SAME, .etag = "00000000000000000000000000000000"};
    rc = put(check, "cond", far_slice_str("three"), &same, &other);
    if (rc != FAR_CONFLICT) {
        say(check, "FAILED", if_same, rc == 0 ? "the store ignores If-Match: two nodes could take over one vault" : check->err.message);
        return;
    }
    same.etag = first.etag;
    if (worked(check, put(check, "cond", far_slice_str("four"), &same, &other), if_same)) {
        say(check, "ok", if_same, "");
    }
}

/* ---- a large object ---- */

static int make_large(uint64_t size, struct far_error *err)
{
    int fd = memfd_create("farshore-check", MFD_CLOEXEC);
    uint8_t *chunk = malloc(CHUNK);
    if (fd < 0 || chunk == NULL) {
        free(chunk);
        far_fail(err, FAR_LIMIT, "no memory for a large object");
        return fd >= 0 ? (close(fd), -1) : -1;
    }
    far_random_bytes(chunk, CHUNK);
    for (uint64_t done = 0; done < size && fd >= 0; done += CHUNK) {
        chunk[0]++; /* no two alike */
        if (pwrite(fd, chunk, CHUNK, (off_t)done) != CHUNK) {
            far_fail(err, FAR_LIMIT, "no memory for a large object");
            close(fd);
            fd = -1;
        }
    }
    free(chunk);
    return fd;
}

static bool same_bytes(struct check *check, const char *key, int fd, uint64_t size, const char *what)
{
    uint8_t *theirs = malloc(CHUNK), *ours = malloc(CHUNK);
    bool same = theirs != NULL && ours != NULL;
    for (uint64_t done = 0; done < size && same; done += CHUNK) {
        same = worked(check, far_objects_get(check->objects, key, NULL, done, CHUNK, theirs, &check->err), what);
        if (same && (pread(fd, ours, CHUNK, (off_t)done) != CHUNK || memcmp(ours, theirs, CHUNK) != 0)) {
            say(check, "FAILED", what, "other bytes than were written");
            same = false;
        }
    }
    free(theirs);
    free(ours);
    return same;
}

static void check_large(struct check *check)
{
    char key[64], text[80];
    struct far_object object;
    uint64_t part = check->options->part_bytes != 0 ? check->options->part_bytes : 16 << 20;
    uint64_t size = part < LARGE_MAX ? part / CHUNK * CHUNK + CHUNK + LARGE_REST : LARGE_MAX; /* two parts */
    static const char what[] = "write in parts", reads[] = "read it by ranges of 1 MiB";
    key_of(check, "large", key);
    int fd = make_large(size, &check->err);
    if (fd < 0) {
        say(check, "FAILED", what, check->err.message);
        return;
    }
    uint64_t began = far_clock_monotonic_ns();
    int rc = far_objects_put_file(check->objects, key, fd, size, NULL, NULL, NULL, &object, &check->err);
    if (worked(check, rc, what)) {
        note(check, key, &object);
        double seconds = (double)(far_clock_monotonic_ns() - began) / 1e9;
        snprintf(text, sizeof text, "%" PRIu64 " MiB, %.1f MiB/s", size >> 20, (double)size / (1 << 20) / seconds);
        say(check, "ok", what, text);
        began = far_clock_monotonic_ns();
        if (same_bytes(check, key, fd, size, reads)) {
            seconds = (double)(far_clock_monotonic_ns() - began) / 1e9;
            snprintf(text, sizeof text, "%.1f MiB/s, one at a time", (double)size / (1 << 20) / seconds);
            say(check, "ok", reads, text);
        }
    }
    close(fd);
    uint64_t count = 0;
    if (worked(check, far_objects_sweep(check->objects, check->under, 0, &count, &check->err), "list uploads in parts")) {
        say(check, count == 0 ? "ok" : "FAILED", "list uploads in parts", count == 0 ? "" : "one was left behind");
    }
}

/* ---- object lock ---- */

static void check_lock(struct check *check)
{
    static const char what[] = "object lock";
    struct far_object object = {0};
    char key[64];
    if (check->options->lock_mode[0] == '\0') {
        say(check, "no", what, "not tried: the configuration has no lock_mode");
        return;
    }
    uint64_t until = far_clock_wall_ms() + LOCK_MS;
    struct far_object_put locked = {.condition = FAR_OBJECT_ANY, .retain_until_ms = until};
    key_of(check, "locked", key);
    if (!worked(check, put(check, "locked", far_slice_str("locked"), &locked, &object), what)) {
        return;
    }
    check->made_count--; /* it stays, that is the point of it */
    const char *version = object.version[0] != '\0' ? object.version : NULL;
    int rc = far_objects_delete(check->objects, key, version, &check->err);
    if (rc != FAR_DENIED) {
        say(check, "FAILED", what, rc == 0 ? "a locked object was deleted" : check->err.message);
        return;
    }
    if (worked(check, far_objects_retain(check->objects, key, version, until + 1000, &check->err), "extend a lock")) {
        say(check, "ok", what, "one object stays locked for a minute; then it may be deleted");
    }
}

/* ---- the end ---- */

static void check_delete(struct check *check)
{
    static const char what[] = "delete";
    char key[64];
    struct far_object object;
    bool good = true;
    key_of(check, "small-0", key);
    good = worked(check, far_objects_delete(check->objects, key, NULL, &check->err), what);
    int rc = good ? far_objects_head(check->objects, key, &object, &check->err) : 0;
    if (good && rc != FAR_NOT_FOUND) {
        say(check, "FAILED", what, rc == 0 ? "what was deleted is still there" : check->err.message);
        good = false;
    }
    for (size_t i = 0; i < check->made_count && good; i++) {
        const struct made *made = &check->made[i];
        const char *version = made->version[0] != '\0' ? made->version : NULL;
        good = worked(check, far_objects_delete(check->objects, made->key, version, &check->err), what);
    }
    if (good) {
        say(check, "ok", what, check->has_versions ? "(one delete marker stays)" : "");
    }
    say(check, check->has_versions ? "ok" : "no", "versions", check->has_versions ? "" : "the bucket keeps none");
}

static int run(const char *path, struct far_error *err)
{
    struct far_objects_options options = {0};
    struct check check = {.options = &options};
    uint8_t random[8];
    char digits[17];
    far_random_bytes(random, sizeof random);
    far_hex_encode(random, sizeof random, digits);
    snprintf(check.under, sizeof check.under, "check-%s/", digits);
    int rc = far_objects_options_read(path, &options, err);
    if (rc == FAR_NOT_FOUND) {
        rc = far_fail(err, FAR_INVALID, "there is no file '%s'", path);
    }
    rc = rc == 0 ? far_objects_open(&options, &check.objects, err) : rc;
    if (rc != 0) {
        return rc;
    }
    printf("%s, bucket '%s', below '%s%s'\n", options.endpoint, options.bucket, options.prefix, check.under);
    if (check_small(&check)) {
        check_list(&check);
        check_conditions(&check);
        check_large(&check);
        check_lock(&check);
        check_delete(&check);
    }
    far_objects_close(check.objects);
    return check.failures == 0 ? 0 : far_fail(err, FAR_INVALID, "a vault cannot be on this store: %u failed", check.failures);
}

int far_store_cli(int argc, char **argv)
{
    struct far_error err = {0};
    if (argc != 3 || strcmp(argv[1], "check") != 0) {
        far_fail(&err, FAR_INVALID, "farshore-node store check FILE");
        return far_node_failed(&err);
    }
    return run(argv[2], &err) == 0 ? 0 : far_node_failed(&err);
}
