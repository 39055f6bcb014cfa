/* objects_driver: the client of object stores as a program, for tests to drive (tests/integration/test_objects.py).
 *
 *   objects_driver CONFIG COMMAND …       CONFIG: a `store` file of objects.h
 *     put KEY FILE [any|new|same ETAG] [UNTIL_MS]     from memory;    put-file … the same from the file, in parts
 *     get KEY OFFSET LEN OUT [VERSION]    read KEY BYTES_MAX OUT    head KEY    list UNDER    delete KEY [VERSION]
 *     retain KEY VERSION UNTIL_MS ("" = the newest version)    sweep UNDER OLDER_MS
 *     race KEY THREADS     each thread puts bytes of its own with the condition `new`; prints what each got
 *     fill UNDER COUNT     small objects UNDER0000 … by eight threads
 *
 * Prints "ok …" with what it got, or the class and message of the error; status 0 or 1. FAR_TIMEOUT_MS: a shorter time-out.
 * After so many bytes of put-file: FAR_CANCEL_AT gives up, FAR_KILL_AT dies, FAR_STOP_EACH stops (SIGSTOP), each time anew. */
#include "objects/objects.h"

#include "base/file.h"

#include <fcntl.h>
#include <inttypes.h>
#include <pthread.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { BYTES_MAX = 1 << 30, THREADS_MAX = 32, FILL_THREADS = 8 };

static struct far_objects *objects;
static struct far_error err;

static int say(int rc)
{
    if (rc != 0) {
        printf("%s: %s\n", far_class_info(rc)->name, err.message);
    }
    return rc != 0;
}

static int say_object(int rc, const struct far_object *object)
{
    if (rc == 0) {
        printf("ok size=%" PRIu64 " etag=%s version=%s modified=%" PRIu64 " until=%" PRIu64 "\n", object->size, object->etag,
               object->version, object->modified_ms, object->retain_until_ms);
    }
    return say(rc);
}

static bool reached(const char *variable, uint64_t done)
{
    const char *at = getenv(variable);
    return at != NULL && done >= strtoull(at, NULL, 10);
}

static int tell(void *arg, uint64_t done)
{
    static uint64_t stops = 1;
    (void)arg;
    if (reached("FAR_KILL_AT", done)) {
        raise(SIGKILL);
    }
    while (getenv("FAR_STOP_EACH") != NULL && reached("FAR_STOP_EACH", done / stops)) {
        stops++;
        raise(SIGSTOP);
    }
    return reached("FAR_CANCEL_AT", done);
}

static int put(int argc, char **argv, bool in_parts)
{
    struct far_object_put how = {.condition = FAR_OBJECT_ANY};
    struct far_object object;
    struct stat st;
    int at = 2;
    if (argc > at && strcmp(argv[at], "new") == 0) {
        how.condition = FAR_OBJECT_NEW;
        at++;
    } else if (argc > at + 1 && strcmp(argv[at], "same") == 0) {
        how.condition = FAR_OBJECT_SAME;
        how.etag = argv[at + 1];
        at += 2;
    } else if (argc > at && strcmp(argv[at], "any") == 0) {
        at++;
    }
    how.retain_until_ms = argc > at ? strtoull(argv[at], NULL, 10) : 0;
    int fd = open(argv[1], O_RDONLY | O_CLOEXEC);
    if (fd < 0 || fstat(fd, &st) != 0) {
        return 2;
    }
    int rc;
    if (in_parts) {
        rc = far_objects_put_file(objects, argv[0], fd, (uint64_t)st.st_size, &how, tell, NULL, &object, &err);
    } else {
        struct far_buf bytes;
        far_buf_init(&bytes, BYTES_MAX);
        rc = far_file_read(argv[1], &bytes, &err);
        rc = rc == 0 ? far_objects_put(objects, argv[0], far_buf_slice(&bytes), &how, &object, &err) : rc;
        far_buf_done(&bytes);
    }
    close(fd);
    return say_object(rc, &object);
}

static int get(int argc, char **argv)
{
    size_t len = strtoull(argv[2], NULL, 10);
    uint8_t *bytes = malloc(len + 1);
    int rc = far_objects_get(objects, argv[0], argc > 4 ? argv[4] : NULL, strtoull(argv[1], NULL, 10), len, bytes, &err);
    if (rc == 0) {
        rc = far_file_replace(argv[3], bytes, len, 0600, &err);
    }
    if (rc == 0) {
        printf("ok\n");
    }
    free(bytes);
    return say(rc);
}

static int read_all(char **argv)
{
    struct far_buf bytes;
    struct far_object object;
    far_buf_init(&bytes, BYTES_MAX);
    int rc = far_objects_read(objects, argv[0], strtoull(argv[1], NULL, 10), &bytes, &object, &err);
    rc = rc == 0 ? far_file_replace(argv[2], bytes.data, bytes.len, 0600, &err) : rc;
    far_buf_done(&bytes);
    return say_object(rc, &object);
}

static int tell_key(void *arg, const char *key, const struct far_object *object, struct far_error *ret)
{
    (void)ret;
    ++*(uint64_t *)arg;
    char hex[2 * FAR_OBJECT_KEY_MAX + 1];
    far_hex_encode(key, strlen(key), hex);
    printf("%s %" PRIu64 " %s\n", hex, object->size, object->etag);
    return 0;
}

static int list(char **argv)
{
    uint64_t count = 0;
    int rc = far_objects_list(objects, argv[0], tell_key, &count, &err);
    if (rc == 0) {
        printf("ok %" PRIu64 "\n", count);
    }
    return say(rc);
}

/* ---- many at once ---- */

struct racer {
    const char *key;
    unsigned number;
    int rc;
    struct far_error error;
};

static void *race_one(void *arg)
{
    struct racer *racer = arg;
    char text[64];
    struct far_object_put how = {.condition = FAR_OBJECT_NEW};
    snprintf(text, sizeof text, "racer %u", racer->number);
    racer->rc = far_objects_put(objects, racer->key, far_slice_str(text), &how, NULL, &racer->error);
    return NULL;
}

static int race(char **argv)
{
    static struct racer racers[THREADS_MAX];
    pthread_t threads[THREADS_MAX];
    unsigned count = (unsigned)strtoul(argv[1], NULL, 10);
    for (unsigned i = 0; i < count && i < THREADS_MAX; i++) {
        racers[i] = (struct racer){.key = argv[0], .number = i};
        pthread_create(&threads[i], NULL, race_one, &racers[i]);
    }
    for (unsigned i = 0; i < count && i < THREADS_MAX; i++) {
        pthread_join(threads[i], NULL);
        printf("%u %s %s\n", i, racers[i].rc == 0 ? "ok" : far_class_info(racers[i].rc)->name,
               racers[i].rc == 0 ? "" : racers[i].error.message);
    }
    return 0;
}

static const char *fill_under;
static unsigned long fill_count;
static atomic_ulong fill_next;
static atomic_int fill_failed;

static void *fill_some(void *arg)
{
    (void)arg;
    char key[FAR_OBJECT_KEY_MAX];
    for (unsigned long i = atomic_fetch_add(&fill_next, 1); i < fill_count; i = atomic_fetch_add(&fill_next, 1)) {
        struct far_error error;
        snprintf(key, sizeof key, "%s%04lu", fill_under, i);
        int rc = far_objects_put(objects, key, far_slice_str(key), NULL, NULL, &error);
        if (rc != 0) {
            atomic_store(&fill_failed, rc);
            fprintf(stderr, "%s\n", error.message);
        }
    }
    return NULL;
}

static int fill(char **argv)
{
    pthread_t threads[FILL_THREADS];
    fill_under = argv[0];
    fill_count = strtoul(argv[1], NULL, 10);
    for (unsigned i = 0; i < FILL_THREADS; i++) {
        pthread_create(&threads[i], NULL, fill_some, NULL);
    }
    for (unsigned i = 0; i < FILL_THREADS; i++) {
        pthread_join(threads[i], NULL);
    }
    printf(atomic_load(&fill_failed) == 0 ? "ok\n" : "failed\n");
    return atomic_load(&fill_failed) != 0;
}

static int run(const char *command, int argc, char **argv)
{
    struct far_object object;
    uint64_t count = 0;
    if (strcmp(command, "put") == 0 && argc >= 2) {
        return put(argc, argv, false);
    }
    if (strcmp(command, "put-file") == 0 && argc >= 2) {
        return put(argc, argv, true);
    }
    if (strcmp(command, "get") == 0 && argc >= 4) {
        return get(argc, argv);
    }
    if (strcmp(command, "read") == 0 && argc == 3) {
        return read_all(argv);
    }
    if (strcmp(command, "head") == 0 && argc == 1) {
        return say_object(far_objects_head(objects, argv[0], &object, &err), &object);
    }
    if (strcmp(command, "list") == 0 && argc == 1) {
        return list(argv);
    }
    if (strcmp(command, "delete") == 0 && argc >= 1) {
        return say(far_objects_delete(objects, argv[0], argc > 1 ? argv[1] : NULL, &err));
    }
    if (strcmp(command, "retain") == 0 && argc == 3) {
        const char *version = argv[1][0] != '\0' ? argv[1] : NULL;
        return say(far_objects_retain(objects, argv[0], version, strtoull(argv[2], NULL, 10), &err));
    }
    if (strcmp(command, "sweep") == 0 && argc == 2) {
        int rc = far_objects_sweep(objects, argv[0], strtoull(argv[1], NULL, 10), &count, &err);
        if (rc == 0) {
            printf("ok %" PRIu64 "\n", count);
        }
        return say(rc);
    }
    if (strcmp(command, "race") == 0 && argc == 2) {
        return race(argv);
    }
    if (strcmp(command, "fill") == 0 && argc == 2) {
        return fill(argv);
    }
    fprintf(stderr, "objects_driver: no such command\n");
    return 2;
}

int main(int argc, char **argv)
{
    struct far_objects_options options;
    if (argc < 3) {
        fprintf(stderr, "usage: objects_driver CONFIG COMMAND …\n");
        return 2;
    }
    const char *timeout = getenv("FAR_TIMEOUT_MS");
    int rc = far_objects_options_read(argv[1], &options, &err);
    if (rc == 0 && timeout != NULL) {
        options.timeout_ms = strtoull(timeout, NULL, 10);
    }
    rc = rc == 0 ? far_objects_open(&options, &objects, &err) : rc;
    if (rc != 0) {
        return say(rc);
    }
    int status = run(argv[2], argc - 3, argv + 3);
    far_objects_close(objects);
    return status;
}
