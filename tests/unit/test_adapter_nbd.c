/* The NBD adapter against real servers: nbdkit with its filters, qemu-nbd with a dirty bitmap. */
#include "../lib/cm.h"
#include "../lib/nbd_server.h"
#include "../lib/until.h"

#include "adapters/adapters.h"
#include "base/error.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { SIZE = 8 << 20, MIB = 1 << 20, READERS = 8 };

static char dir[200], image[260], sock[260], uri[700], error_file[260];
static uint8_t *content;
static pid_t server;
static struct far_adapter_error said;
static const struct far_adapter *const nbd = &far_adapter_nbd;
static void *platform, *handle;

/* ---- fixture ---- */

static void write_file(const char *path, const void *data, size_t len)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, data, len), (ssize_t)len);
    close(fd);
}

/* 8 MiB: data, with holes of whole megabytes at 2 and 5. */
static void write_image(void)
{
    int fd = open(image, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_int_equal(ftruncate(fd, SIZE), 0);
    for (size_t i = 0; i < SIZE; i++) {
        size_t mib = i / MIB;
        content[i] = mib == 2 || mib == 5 ? 0 : (uint8_t)(i * 7 + i / 1000 + 1);
    }
    for (size_t mib = 0; mib < SIZE / MIB; mib++) {
        if (mib != 2 && mib != 5) {
            assert_int_equal(pwrite(fd, content + mib * MIB, MIB, (off_t)(mib * MIB)), MIB);
        }
    }
    close(fd);
}

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/nbd-XXXXXX", tmp != NULL && strlen(tmp) < 60 ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(image, sizeof image, "%s/disk.img", dir);
    snprintf(sock, sizeof sock, "%s/sock", dir);
    snprintf(error_file, sizeof error_file, "%s/errors", dir);
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s", sock);
    content = malloc(SIZE);
    write_image();
    memset(&said, 0, sizeof said);
    assert_int_equal(nbd->open("timeout_ms=10000\nretry_ms=200\n", &platform, &said), FAR_ADAPTER_OK);
    handle = NULL;
    return 0;
}

static int teardown(void **state)
{
    char command[300];
    nbd->bytes->close(handle);
    nbd->close(platform);
    far_nbd_server_kill(&server);
    free(content);
    snprintf(command, sizeof command, "rm -rf '%s'", dir);
    return system(command);
}

static void again_with(const char *config)
{
    nbd->close(platform);
    assert_int_equal(nbd->open(config, &platform, &said), FAR_ADAPTER_OK);
}

/* nbdkit's file plugin on the image, read-only, with what else is given: filters first, then parameters. */
static void serve(const char *a, const char *b, const char *c)
{
    char path[300];
    const char *argv[16] = {"nbdkit", "-f", "-r", "-U", sock};
    size_t count = 5;
    bool filtered = a != NULL && strncmp(a, "--", 2) == 0;
    if (!far_nbd_has("nbdkit")) {
        print_message("nbdkit is not installed\n");
        skip();
    }
    snprintf(path, sizeof path, "file=%s", image);
    if (filtered) {
        argv[count++] = a;
    }
    argv[count++] = "file";
    argv[count++] = path;
    if (!filtered && a != NULL) {
        argv[count++] = a;
    }
    if (b != NULL) {
        argv[count++] = b;
    }
    if (c != NULL) {
        argv[count++] = c;
    }
    far_nbd_server_kill(&server);
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
}

static struct far_adapter_disk disk(void)
{
    return (struct far_adapter_disk){.name = "disk", .locator = uri};
}

static void open_it(void)
{
    struct far_adapter_disk d = disk();
    int outcome = nbd->bytes->open_frozen(platform, "nbd-live:1-1-1", &d, &handle, &said);
    if (outcome != FAR_ADAPTER_OK) {
        print_error("open: %s\n", said.message);
    }
    assert_int_equal(outcome, FAR_ADAPTER_OK);
}

static int read_some(uint64_t offset, size_t length)
{
    uint8_t *buffer = malloc(length);
    int outcome = nbd->bytes->read(handle, buffer, length, offset, &said);
    if (outcome == FAR_ADAPTER_OK) {
        assert_memory_equal(buffer, content + offset, length);
    }
    free(buffer);
    return outcome;
}

/* ---- views ---- */

static void a_read_only_export_is_frozen_and_a_writable_one_is_fuzzy(void **state)
{
    struct far_adapter_found found, again;
    struct far_adapter_disk d = disk();
    char ref[128];
    bool fuzzy = true;
    serve(NULL, NULL, NULL);
    assert_int_equal(nbd->changes->freeze(platform, "7-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_false(fuzzy);
    assert_int_equal(found.size_bytes, SIZE);
    assert_string_equal(found.token, "");
    assert_string_equal(ref, "nbd:7-1-1");
    assert_int_equal(nbd->inventory->probe(platform, &d, &again, &said), FAR_ADAPTER_OK);
    assert_string_equal(found.identity, again.identity);
    assert_int_equal(nbd->changes->release(platform, ref, &d, 1, &said), FAR_ADAPTER_OK);
    const char *const argv[] = {"nbdkit", "-f", "-U", sock, "memory", "1M", NULL};
    far_nbd_server_kill(&server);
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    assert_int_equal(nbd->changes->freeze(platform, "7-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_true(fuzzy);
    /* what was frozen when it was frozen, and is writable now, is another view */
    assert_int_equal(nbd->bytes->open_frozen(platform, "nbd:7-1-1", &d, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(nbd->bytes->open_frozen(platform, "clone:7-1-1", &d, &handle, &said), FAR_ADAPTER_FATAL);
    handle = NULL;
}

static void what_is_no_uri_is_refused_by_name(void **state)
{
    struct far_adapter_found found;
    static const char *const wrong[] = {"/dev/sda", "", "http://host/x", "nbd+ssh://host/x", "nbd+vsock:///x",
                                        "nbd://h/x?bitmap=", "nbd+unix:///x", "nbd://h/x?bitmap=a%20b"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        struct far_adapter_disk d = {.name = "disk", .locator = wrong[i]};
        assert_int_equal(nbd->inventory->probe(platform, &d, &found, &said), FAR_ADAPTER_FATAL);
        assert_int_equal(said.klass, FAR_INVALID);
    }
    void *other;
    static const char *const settings[] = {"timeout_ms=0\n", "tm=x\n", "cn=9\n", "nosuch=1\n", "bm=\n", "timeout_ms\n"};
    for (size_t i = 0; i < sizeof settings / sizeof settings[0]; i++) {
        assert_int_equal(nbd->open(settings[i], &other, &said), FAR_ADAPTER_FATAL);
        assert_int_equal(said.klass, FAR_INVALID);
    }
}

/* ---- bytes ---- */

struct reader {
    pthread_t thread;
    size_t index;
    int outcome;
    struct far_adapter_error said;
};

static void *reader_main(void *arg)
{
    struct reader *reader = arg;
    uint8_t *buffer = malloc(MIB);
    reader->outcome = FAR_ADAPTER_OK;
    for (size_t n = 0; reader->outcome == FAR_ADAPTER_OK && n < 40; n++) {
        uint64_t offset = (n * 3 + reader->index) % 7 * MIB + n * 1000;
        size_t length = 65536 + n * 777;
        reader->outcome = nbd->bytes->read(handle, buffer, length, offset, &reader->said);
        if (reader->outcome == FAR_ADAPTER_OK && memcmp(buffer, content + offset, length) != 0) {
            reader->outcome = -1;
        }
    }
    free(buffer);
    return NULL;
}

static void read_by_many(struct reader readers[READERS])
{
    for (size_t i = 0; i < READERS; i++) {
        readers[i].index = i;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
    }
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
    }
}

static void many_threads_read_at_once_over_one_connection_or_several(void **state)
{
    static const char *const modes[] = {"multi-conn-mode=disable", "multi-conn-mode=unsafe"};
    struct reader readers[READERS];
    for (size_t m = 0; m < 2; m++) {
        serve("--filter=multi-conn", modes[m], NULL);
        open_it();
        read_by_many(readers);
        for (size_t i = 0; i < READERS; i++) {
            assert_int_equal(readers[i].outcome, FAR_ADAPTER_OK);
        }
        nbd->bytes->close(handle);
        handle = NULL;
    }
}

static void a_read_ends_with_the_disk(void **state)
{
    serve(NULL, NULL, NULL);
    open_it();
    assert_int_equal(read_some(SIZE - 100, 100), FAR_ADAPTER_OK);
    assert_int_equal(read_some(SIZE, 0), FAR_ADAPTER_OK);
    uint8_t buffer[200];
    assert_int_equal(nbd->bytes->read(handle, buffer, 101, SIZE - 100, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
    assert_int_equal(nbd->bytes->read(handle, buffer, 1, UINT64_MAX, &said), FAR_ADAPTER_FATAL);
}

static void a_server_that_wants_whole_blocks_is_read_byte_by_byte_all_the_same(void **state)
{
    serve("--filter=blocksize-policy", "blocksize-minimum=4096", "blocksize-error-policy=error");
    open_it();
    assert_int_equal(read_some(1, 1), FAR_ADAPTER_OK);
    assert_int_equal(read_some(4095, 2), FAR_ADAPTER_OK);
    assert_int_equal(read_some(100, 3 * 4096), FAR_ADAPTER_OK);
    assert_int_equal(read_some(SIZE - 5000, 5000), FAR_ADAPTER_OK);
}

static size_t walk_extents(size_t max)
{
    struct far_adapter_extent extents[8];
    size_t count, zeroes = 0;
    for (uint64_t at = 0; at < SIZE;) {
        assert_int_equal(nbd->bytes->extents(handle, at, extents, max, &count, &said), FAR_ADAPTER_OK);
        assert_true(count >= 1 && count <= max);
        for (size_t i = 0; i < count; i++) {
            assert_int_equal(extents[i].offset, at);
            assert_true(extents[i].length > 0);
            for (uint64_t k = at; extents[i].zero && k < at + extents[i].length && k < SIZE; k++) {
                zeroes++;
                assert_int_equal(content[k], 0);
            }
            at += extents[i].length;
        }
    }
    return zeroes;
}

static void holes_and_zeroes_are_told_where_the_server_knows_them(void **state)
{
    serve(NULL, NULL, NULL);
    open_it();
    assert_int_equal(walk_extents(1), 2 * MIB);
    assert_int_equal(walk_extents(8), 2 * MIB);
    struct far_adapter_extent extent;
    size_t count;
    assert_int_equal(nbd->bytes->extents(handle, SIZE, &extent, 1, &count, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(nbd->bytes->extents(handle, 2 * MIB + 5, &extent, 1, &count, &said), FAR_ADAPTER_OK);
    assert_int_equal(extent.offset, 2 * MIB + 5);
    assert_true(extent.zero);
    nbd->bytes->close(handle);
    serve("--filter=noextents", NULL, NULL);
    open_it();
    assert_int_equal(walk_extents(1), 0);
}

/* 40,000 extents of 4 KiB, more than are remembered of one answer. */
static void a_disk_in_very_many_pieces_is_told_piece_by_piece(void **state)
{
    enum { PIECES = 40000, PIECE = 4096 };
    char list[300], option[330];
    if (!far_nbd_has("nbdkit")) {
        skip();
    }
    snprintf(list, sizeof list, "%s/extents", dir);
    snprintf(option, sizeof option, "extentlist=%s", list);
    FILE *out = fopen(list, "w");
    for (size_t i = 1; i < PIECES; i += 2) { /* what is not listed is a hole */
        fprintf(out, "%zu %d\n", i * PIECE, PIECE);
    }
    fclose(out);
    const char *const argv[] = {"nbdkit", "-f", "-r", "-U", sock, "--filter=extentlist", "memory", "163840000", option, NULL};
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    open_it();
    struct far_adapter_extent extents[7];
    size_t count = 0, piece = 0;
    while (piece < PIECES) {
        assert_int_equal(nbd->bytes->extents(handle, piece * PIECE, extents, 7, &count, &said), FAR_ADAPTER_OK);
        assert_true(count > 0);
        for (size_t i = 0; i < count; i++, piece++) {
            assert_int_equal(extents[i].offset, piece * PIECE);
            assert_int_equal(extents[i].length, PIECE);
            assert_int_equal(extents[i].zero, piece % 2 == 0);
        }
    }
}

static void tls_is_used_where_the_uri_says_so(void **state)
{
    char keys[300], option[330], path[300];
    snprintf(keys, sizeof keys, "%s/keys.psk", dir);
    snprintf(option, sizeof option, "--tls-psk=%s", keys);
    snprintf(path, sizeof path, "file=%s", image);
    static const char key[] = "alice:00112233445566778899aabbccddeeff00112233445566778899aabbccddeeff\n";
    write_file(keys, key, sizeof key - 1);
    if (!far_nbd_has("nbdkit")) {
        skip();
    }
    const char *const argv[] = {"nbdkit", "-f", "-r", "-U", sock, "--tls=require", option, "file", path, NULL};
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    struct far_adapter_disk d = disk();
    assert_int_equal(nbd->bytes->open_frozen(platform, "nbd:1-1-1", &d, &handle, &said), FAR_ADAPTER_RETRY); /* not encrypted */
    snprintf(uri, sizeof uri, "nbds+unix://mallory@/?socket=%s&tls-psk-file=%s", sock, keys);
    assert_int_equal(nbd->bytes->open_frozen(platform, "nbd:1-1-1", &d, &handle, &said), FAR_ADAPTER_RETRY);
    snprintf(uri, sizeof uri, "nbds+unix://alice@/?socket=%s&tls-psk-file=%s", sock, keys);
    open_it();
    assert_int_equal(read_some(MIB - 3, 70000), FAR_ADAPTER_OK);
}

/* ---- failures ---- */

static void a_server_that_hangs_is_given_up_in_time_and_said_so(void **state)
{
    char config[60];
    snprintf(config, sizeof config, "timeout_ms=%d\nretry_ms=100\n", 1000 * far_test_slow());
    serve("--filter=delay", "delay-read=1000", NULL);
    again_with(config);
    open_it();
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_TIMEOUT);
    assert_non_null(strstr(said.message, "does not answer"));
    struct far_adapter_disk d = disk();
    void *other;
    far_nbd_server_kill(&server);
    serve("--filter=delay", "delay-open=1000", NULL);
    assert_int_equal(nbd->bytes->open_frozen(platform, "nbd:1-1-1", &d, &other, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_TIMEOUT);
    assert_non_null(strstr(said.message, "handshake"));
}

static void a_server_that_is_gone_is_named_and_reads_go_on_when_it_is_back(void **state)
{
    struct far_adapter_disk d = disk();
    void *other;
    assert_int_equal(nbd->bytes->open_frozen(platform, "nbd:1-1-1", &d, &other, &said), FAR_ADAPTER_RETRY);
    assert_non_null(strstr(said.message, "No such file"));
    serve(NULL, NULL, NULL);
    open_it();
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_OK);
    far_nbd_server_kill(&server);
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_IO);
    assert_non_null(strstr(said.message, sock));
    serve(NULL, NULL, NULL);
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_OK);
    /* within one call: the threads read while the server is gone, and it comes back */
    nbd->bytes->close(handle);
    again_with("retry_ms=60000\n");
    open_it();
    far_nbd_server_kill(&server);
    struct reader readers[READERS];
    for (size_t i = 0; i < READERS; i++) {
        readers[i].index = i;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
    }
    serve(NULL, NULL, NULL);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].outcome, FAR_ADAPTER_OK);
    }
}

static void a_server_that_dies_under_many_readers_leaves_none_of_them_hanging(void **state)
{
    struct reader readers[READERS];
    serve("--filter=delay", "delay-read=20ms", NULL);
    open_it();
    for (size_t i = 0; i < READERS; i++) {
        readers[i].index = i;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, reader_main, &readers[i]), 0);
    }
    far_nbd_server_kill(&server);
    for (size_t i = 0; i < READERS; i++) {
        pthread_join(readers[i].thread, NULL);
        assert_int_equal(readers[i].outcome, FAR_ADAPTER_RETRY);
        assert_true(readers[i].said.message[0] != '\0');
    }
}

static void another_disk_behind_the_same_uri_is_not_read_on(void **state)
{
    serve(NULL, NULL, NULL);
    open_it();
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_OK);
    far_nbd_server_kill(&server);
    assert_int_equal(truncate(image, SIZE - MIB), 0);
    serve(NULL, NULL, NULL);
    assert_int_equal(read_some(0, 100), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_CONFLICT);
    assert_non_null(strstr(said.message, "another one now"));
}

static void a_range_that_cannot_be_read_is_named_and_the_rest_is_read(void **state)
{
    char option[300];
    snprintf(option, sizeof option, "error-file=%s", error_file);
    serve("--filter=error", "error-pread-rate=100%", option);
    open_it();
    assert_int_equal(read_some(MIB, 4096), FAR_ADAPTER_OK);
    write_file(error_file, "", 0);
    assert_int_equal(read_some(MIB, 4096), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_IO);
    assert_non_null(strstr(said.message, "bytes 1048576 to 1052671"));
    assert_non_null(strstr(said.message, "EIO"));
    assert_int_equal(unlink(error_file), 0);
    assert_int_equal(read_some(MIB, 4096), FAR_ADAPTER_OK);
}

static void an_error_that_does_not_come_twice_is_no_error(void **state)
{
    char once[600], size[64];
    snprintf(once, sizeof once, "pread=if mkdir %s/failed 2>/dev/null; then echo EIO no luck >&2; exit 1; fi; "
             "dd if=%s bs=1 skip=$4 count=$3 2>/dev/null", dir, image);
    snprintf(size, sizeof size, "get_size=echo %d", SIZE);
    if (!far_nbd_has("nbdkit")) {
        skip();
    }
    const char *const argv[] = {"nbdkit", "-f", "-r", "-U", sock, "eval", size, once, NULL};
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    open_it();
    assert_int_equal(read_some(MIB, 4096), FAR_ADAPTER_OK);
    char failed[300];
    snprintf(failed, sizeof failed, "%s/failed", dir);
    assert_int_equal(access(failed, F_OK), 0);
}

/* ---- targets ---- */

static void a_writable_export_is_recovered_to_if_it_is_large_enough(void **state)
{
    const char *const argv[] = {"nbdkit", "-f", "-U", sock, "memory", "1M", NULL};
    uint8_t data[8192], back[8192];
    if (!far_nbd_has("nbdkit")) {
        skip();
    }
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
    assert_int_equal(nbd->bytes->open_target(platform, "restore-1-1", uri, MIB + 1, &handle, &said), FAR_ADAPTER_FATAL);
    assert_non_null(strstr(said.message, "too small"));
    assert_int_equal(nbd->bytes->open_target(platform, "restore-1-1", uri, MIB - 1, &handle, &said), FAR_ADAPTER_OK);
    memset(data, 'x', sizeof data);
    assert_int_equal(nbd->bytes->write(handle, data, sizeof data, 65536, &said), FAR_ADAPTER_OK);
    memset(data, 0, 4096);
    assert_int_equal(nbd->bytes->write(handle, data, 4096, 65536, &said), FAR_ADAPTER_OK);
    assert_int_equal(nbd->bytes->flush(handle, &said), FAR_ADAPTER_OK);
    assert_int_equal(nbd->bytes->read(handle, back, sizeof back, 65536, &said), FAR_ADAPTER_OK);
    assert_memory_equal(back, data, sizeof back);
    nbd->bytes->close(handle);
    serve(NULL, NULL, NULL);
    assert_int_equal(nbd->bytes->open_target(platform, "restore-1-1", uri, MIB, &handle, &said), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_DENIED);
    handle = NULL;
}

/* ---- dirty bitmaps ---- */

static void run(const char *format, const char *a)
{
    char command[700];
    snprintf(command, sizeof command, format, a, a, a);
    assert_int_equal(system(command), 0);
}

static void serve_bitmap(const char *bitmap, const char *description)
{
    char path[300];
    snprintf(path, sizeof path, "%s/disk.qcow2", dir);
    const char *const argv[] = {"qemu-nbd", "-t", "-r", "--shared=0", "-f", "qcow2", "-k", sock, "-D", description,
                                "-B", bitmap, path, NULL};
    far_nbd_server_kill(&server);
    server = far_nbd_server_start(sock, argv);
    assert_true(server > 0);
}

/* A qcow2 disk of 1 GiB, with a bitmap b0 that counts from its beginning, and some writes after that. */
static void make_bitmap(void)
{
    if (!far_nbd_has("qemu-nbd") || !far_nbd_has("qemu-img") || !far_nbd_has("qemu-io")) {
        print_message("qemu-utils are not installed\n");
        skip();
    }
    run("cd '%s' && qemu-img create -q -f qcow2 disk.qcow2 1G && qemu-img bitmap --add -g 64k disk.qcow2 b0", dir);
    run("cd '%s' && qemu-io -f qcow2 -c 'write -q -P 1 0 64k' -c 'write -q -P 2 10M 128k' -c 'write -q -P 3 500M 1' "
        "-c 'write -q -P 4 1023M 1M' disk.qcow2", dir);
}

static const struct far_adapter_extent written[] = {
    {.offset = 0, .length = 65536}, {.offset = 10 << 20, .length = 131072},
    {.offset = 500 << 20, .length = 65536}, {.offset = 1023ull << 20, .length = 1 << 20}};

/* All pages of at most max extents; returns how many extents there were. */
static size_t walk_changes(size_t max, const char *since)
{
    struct far_adapter_disk d = disk();
    struct far_adapter_extent extents[8];
    size_t count, all = 0;
    for (uint64_t at = 0; at < 1ull << 30;) {
        uint64_t next = 0;
        int outcome = nbd->changes->changed(platform, "nbd:1-1-1", &d, since, at, extents, max, &count, &next, &said);
        assert_int_equal(outcome, FAR_ADAPTER_OK);
        assert_true(next > at && count <= max);
        for (size_t i = 0; i < count; i++, all++) {
            assert_true(all < 4);
            assert_int_equal(extents[i].offset, written[all].offset);
            assert_int_equal(extents[i].length, written[all].length);
        }
        at = next;
    }
    return all;
}

static void a_dirty_bitmap_is_the_list_of_changes(void **state)
{
    struct far_adapter_found found;
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    char ref[128];
    bool fuzzy;
    make_bitmap();
    serve_bitmap("b0", "a view");
    snprintf(uri, sizeof uri, "nbd+unix:///?bitmap=b0&socket=%s", sock);
    struct far_adapter_disk d = disk();
    assert_int_equal(nbd->changes->freeze(platform, "1-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_string_equal(found.token, "b0");
    assert_false(fuzzy);
    assert_int_equal(walk_changes(8, "b0"), 4);
    assert_int_equal(walk_changes(1, "b0"), 4);
    assert_int_equal(nbd->changes->changed(platform, ref, &d, "b0", 10 << 20 | 70000, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_OK);
    assert_int_equal(count, 1);
    assert_int_equal(extents[0].offset, (10 << 20) + 70000); /* from where it was asked */
    assert_int_equal(nbd->changes->changed(platform, ref, &d, "b0", UINT64_MAX, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_OK);
    assert_int_equal(count, 0);
    assert_int_equal(next, 1ull << 30);
    assert_int_equal(nbd->changes->changed(platform, ref, &d, "b1", 0, extents, 4, &count, &next, &said), FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "offers no dirty bitmap 'b1'"));
    assert_int_equal(nbd->changes->changed(platform, ref, &d, "", 0, extents, 4, &count, &next, &said), FAR_ADAPTER_RESYNC);
    assert_int_equal(nbd->changes->changed(platform, ref, &d, "b0", 0, extents, 0, &count, &next, &said), FAR_ADAPTER_FATAL);
}

static void whoever_exports_names_the_next_bitmap_in_the_description(void **state)
{
    struct far_adapter_found found;
    char ref[128];
    bool fuzzy;
    make_bitmap();
    serve_bitmap("b0", "nightly; farshore-token=b1; of vm7");
    struct far_adapter_disk d = disk();
    assert_int_equal(nbd->changes->freeze(platform, "1-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_string_equal(found.token, "b1");
    assert_int_equal(walk_changes(8, "b0"), 4);
    /* a bitmap that this view does not offer counts from nobody knows when */
    snprintf(uri, sizeof uri, "nbd+unix:///?socket=%s&bitmap=b7", sock);
    serve_bitmap("b0", "");
    assert_int_equal(nbd->changes->freeze(platform, "1-1-1", &d, 1, &found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_string_equal(found.token, "");
}

static void pages_go_on_when_the_server_was_away_between_them(void **state)
{
    struct far_adapter_extent extents[1];
    struct far_adapter_disk d = disk();
    size_t count;
    uint64_t next;
    make_bitmap();
    serve_bitmap("b0", "");
    assert_int_equal(nbd->changes->changed(platform, "nbd:1-1-1", &d, "b0", 0, extents, 1, &count, &next, &said), FAR_ADAPTER_OK);
    far_nbd_server_kill(&server);
    assert_int_equal(nbd->changes->changed(platform, "nbd:1-1-1", &d, "b0", next, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_RETRY);
    serve_bitmap("b0", "");
    assert_int_equal(nbd->changes->changed(platform, "nbd:1-1-1", &d, "b0", next, extents, 1, &count, &next, &said),
                     FAR_ADAPTER_OK);
    assert_int_equal(extents[0].offset, 10 << 20);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_read_only_export_is_frozen_and_a_writable_one_is_fuzzy, setup, teardown),
        cmocka_unit_test_setup_teardown(what_is_no_uri_is_refused_by_name, setup, teardown),
        cmocka_unit_test_setup_teardown(many_threads_read_at_once_over_one_connection_or_several, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_ends_with_the_disk, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_wants_whole_blocks_is_read_byte_by_byte_all_the_same, setup, teardown),
        cmocka_unit_test_setup_teardown(holes_and_zeroes_are_told_where_the_server_knows_them, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_in_very_many_pieces_is_told_piece_by_piece, setup, teardown),
        cmocka_unit_test_setup_teardown(tls_is_used_where_the_uri_says_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_hangs_is_given_up_in_time_and_said_so, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_is_gone_is_named_and_reads_go_on_when_it_is_back, setup, teardown),
        cmocka_unit_test_setup_teardown(a_server_that_dies_under_many_readers_leaves_none_of_them_hanging, setup, teardown),
        cmocka_unit_test_setup_teardown(another_disk_behind_the_same_uri_is_not_read_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_range_that_cannot_be_read_is_named_and_the_rest_is_read, setup, teardown),
        cmocka_unit_test_setup_teardown(an_error_that_does_not_come_twice_is_no_error, setup, teardown),
        cmocka_unit_test_setup_teardown(a_writable_export_is_recovered_to_if_it_is_large_enough, setup, teardown),
        cmocka_unit_test_setup_teardown(a_dirty_bitmap_is_the_list_of_changes, setup, teardown),
        cmocka_unit_test_setup_teardown(whoever_exports_names_the_next_bitmap_in_the_description, setup, teardown),
        cmocka_unit_test_setup_teardown(pages_go_on_when_the_server_was_away_between_them, setup, teardown),
    };
    return cmocka_run_group_tests_name("adapter_nbd", tests, NULL, NULL);
}
