/* Source and target engine against each other over real TLS: cycles, restores, cancels, what goes wrong. */
#include "../lib/cm.h"
#include "../lib/engine_disk.h"
#include "../lib/until.h"

#include "dataplane/vault.h"

#include "base/file.h"
#include "net/pki.h"
#include <dirent.h>
#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <unistd.h>

enum { MIB = 1 << 20 };

static struct engine_pair pair;
static const struct far_engine_config small = {.memory_bytes = 32 * MIB, .worker_count = 2, .idle_ms = 5000};

static int setup(void **state)
{
    pair_init(&pair, "unit", &small);
    return 0;
}

static int teardown(void **state)
{
    pair_done(&pair);
    return 0;
}

static void remove_cache(void)
{
    char command[400], path[300];
    snprintf(command, sizeof command, "rm -f '%s'/*", pair_path(&pair, "source/cache", path, sizeof path));
    assert_int_equal(system(command), 0);
}

static void a_first_copy_gives_equal_roots_and_restores_bit_for_bit(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 40 * MIB + 12345, 7);
    assert_true(disk_cycle(&disk));
    assert_true(disk.send.has_root && disk.receive.has_root);
    assert_true(disk.freeze.fuzzy || strncmp(disk.freeze.freeze_ref, "clone:", 6) == 0);
    assert_int_equal(disk.freeze.disks[0].size_bytes, disk.size_bytes);
    assert_int_equal(disk.send.bytes_done, disk.size_bytes);
    assert_true(disk.send.full);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_second_cycle_sends_little_more_than_what_changed(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 64 * MIB, 8);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    uint64_t changed = disk_change(&disk, 20); /* 2 % */
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.send.bytes_changed, changed);
    assert_int_equal(disk.receive.bytes_changed, changed);
    assert_true(disk.send.bytes_sent <= changed + changed / 10);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_source_that_lost_its_maps_still_sends_only_what_changed(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 64 * MIB, 9);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    uint64_t changed = disk_change(&disk, 20);
    remove_cache();
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.receive.bytes_changed, changed);
    assert_true(disk.send.bytes_sent <= changed + changed / 10);
}

static void a_target_that_went_further_than_the_base_is_brought_back(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 16 * MIB, 10);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    disk_change(&disk, 8);
    assert_true(disk_cycle(&disk)); /* never proven: the log keeps the first base */
    disk_change(&disk, 8);
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
}

static void an_unchanged_disk_moves_nothing(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 16 * MIB, 11);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.send.bytes_changed, 0);
    assert_true(disk.send.bytes_sent < 2000);
    assert_memory_equal(disk.send.root, disk.base_root, 32);
}

static void a_disk_that_grew_is_copied_on(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 8 * MIB, 12);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    disk.size_bytes = 12 * MIB;
    assert_int_equal(truncate(disk.path, 12 * MIB), 0);
    disk_change(&disk, 6);
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
}

static void a_disk_of_zeroes_costs_nothing(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", MIB, 13);
    disk.size_bytes = 100 * MIB;
    assert_int_equal(truncate(disk.path, 0), 0);
    assert_int_equal(truncate(disk.path, 100 * MIB), 0);
    assert_true(disk_cycle(&disk));
    assert_true(disk.send.bytes_sent < 2000);
    assert_true(disk_restore(&disk, "restored"));
}

static void compressed_blocks_arrive_as_they_left(void **state)
{
    struct engine_disk disk;
    pair_stop_source(&pair);
    pair.config.compress = FAR_ENGINE_COMPRESS_ALWAYS;
    pair_start_source(&pair);
    disk_make(&disk, &pair, "disk", 32 * MIB, 14);
    assert_true(disk_cycle(&disk));
    assert_true(disk.send.bytes_sent < disk.send.bytes_changed * 3 / 4);
    assert_true(disk_restore(&disk, "restored"));
}

/* A plan of several workloads: each has a disk 0, all of one job. */
static void disks_of_several_workloads_in_one_job_do_not_mix(void **state)
{
    struct engine_disk disks[2];
    struct far_engine_order orders[2][2];
    for (size_t i = 0; i < 2; i++) {
        disk_make(&disks[i], &pair, i == 0 ? "one" : "two", (4 + 3 * i) * MIB, 30 + i);
        struct far_engine_disk list[] = {{.name = "disk", .locator = disks[i].path}};
        struct far_engine_order freeze = disk_order(&disks[i], FAR_ENGINE_FREEZE, pair.job + 1, 10 * (i + 1) + 2, 1);
        freeze.disks = list;
        freeze.disk_count = 1;
        disk_start(&disks[i], &freeze);
        disks[i].freeze = pair_wait(&pair, freeze.job_id, freeze.task, 1);
        for (size_t k = 0; k < 2; k++) {
            enum far_engine_kind kind = k == 0 ? FAR_ENGINE_RECEIVE : FAR_ENGINE_SEND;
            orders[i][k] = disk_order(&disks[i], kind, pair.job + 1, 10 * (i + 1) + k, 1);
            orders[i][k].workload_id += i;
            orders[i][k].disk_id += i;
        }
    }
    pair.job++;
    for (size_t k = 0; k < 2; k++) { /* all receives wait before the first send begins */
        disk_start(&disks[0], &orders[0][k]);
        disk_start(&disks[1], &orders[1][k]);
    }
    for (size_t i = 0; i < 2; i++) {
        disks[i].receive = pair_wait(&pair, pair.job, orders[i][0].task, 1);
        disks[i].send = pair_wait(&pair, pair.job, orders[i][1].task, 1);
        assert_int_equal(disks[i].receive.state, FAR_ENGINE_DONE);
        assert_int_equal(disks[i].send.state, FAR_ENGINE_DONE);
        assert_memory_equal(disks[i].send.root, disks[i].receive.root, 32);
    }
}

/* The source died after this disk was received and before its workload's others were: everything is frozen anew. */
static void a_disk_received_from_a_lost_view_is_received_again_from_the_new_one(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 4 * MIB, 33);
    assert_true(disk_cycle(&disk));
    struct far_engine_disk list[] = {{.name = "disk", .locator = disk.path}};
    struct far_engine_order freeze = disk_order(&disk, FAR_ENGINE_FREEZE, pair.job, TASK_FREEZE, 2);
    freeze.disks = list;
    freeze.disk_count = 1;
    uint64_t changed = disk_change(&disk, 3);
    disk_start(&disk, &freeze);
    disk.freeze = pair_wait(&pair, pair.job, TASK_FREEZE, 2);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, pair.job, TASK_RECEIVE, 2);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, pair.job, TASK_SEND, 2);
    disk_start(&disk, &receive);
    disk_start(&disk, &send);
    disk.receive = pair_wait(&pair, pair.job, TASK_RECEIVE, 2);
    disk.send = pair_wait(&pair, pair.job, TASK_SEND, 2);
    assert_int_equal(disk.receive.state, FAR_ENGINE_DONE);
    assert_int_equal(disk.send.state, FAR_ENGINE_DONE);
    assert_memory_equal(disk.send.root, disk.receive.root, 32);
    assert_true(disk.send.bytes_sent < 2 * changed + 65536);
    assert_true(disk_restore(&disk, "restored"));
}

static void a_disk_that_shrank_or_vanished_is_refused(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 4 * MIB, 15);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    assert_int_equal(truncate(disk.path, 2 * MIB), 0);
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 500, TASK_SEND, 1);
    disk_start(&disk, &send);
    struct far_engine_report report = pair_wait(&pair, 500, TASK_SEND, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.error_class, FAR_CONFLICT);
    assert_non_null(strstr(report.error_message, "shrank"));
    unlink(disk.path);
    assert_false(disk_cycle(&disk));
    assert_int_equal(disk.freeze.error_class, FAR_NOT_FOUND);
    assert_int_equal(disk.freeze.outcome, FAR_ADAPTER_FATAL);
    assert_non_null(strstr(disk.freeze.error_message, disk.path));
}

static void a_read_error_ends_the_send_with_the_platforms_words(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 8 * MIB, 16);
    disk.adapter = "fault:file?fr=4";
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, 501, TASK_SEND, 1);
    struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, 501, TASK_RECEIVE, 1);
    disk_start(&disk, &receive);
    disk_start(&disk, &send);
    struct far_engine_report report = pair_wait(&pair, 501, TASK_SEND, 1);
    assert_int_equal(report.state, FAR_ENGINE_FAILED);
    assert_int_equal(report.outcome, FAR_ADAPTER_RETRY);
    assert_non_null(strstr(report.error_message, "on purpose"));
    send.attempt = 2; /* the fault happens once; the receive is still waiting */
    disk_start(&disk, &send);
    struct far_engine_report sent = pair_wait(&pair, 501, TASK_SEND, 2);
    struct far_engine_report received = pair_wait(&pair, 501, TASK_RECEIVE, 1);
    assert_int_equal(sent.state, FAR_ENGINE_DONE);
    assert_memory_equal(sent.root, received.root, 32);
}

static void an_existing_recovery_target_is_refused_and_kept(void **state)
{
    struct engine_disk disk;
    struct stat st;
    char path[300];
    disk_make(&disk, &pair, "disk", 2 * MIB, 17);
    assert_true(disk_cycle(&disk));
    pair_path(&pair, "taken", path, sizeof path);
    int fd = open(path, O_WRONLY | O_CREAT, 0600);
    assert_int_equal(write(fd, "mine", 4), 4);
    close(fd);
    assert_false(disk_restore(&disk, "taken"));
    assert_int_equal(stat(path, &st), 0);
    assert_int_equal(st.st_size, 4);
    struct far_engine_report report = pair_wait(&pair, pair.job, TASK_RESTORE, 1);
    assert_int_equal(report.error_class, FAR_CONFLICT);
}

static void nothing_is_recovered_into_the_nodes_own_folders(void **state)
{
    static const char *const inside[] = {"target/vault/disk", "target/vault/packs/00000099.pack", "target/vault/../vault/disk"};
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 2 * MIB, 19);
    assert_true(disk_cycle(&disk));
    for (size_t i = 0; i < sizeof inside / sizeof inside[0]; i++) {
        char path[300];
        assert_false(disk_restore(&disk, inside[i]));
        struct far_engine_report report = pair_wait(&pair, pair.job, TASK_RESTORE, 1);
        assert_int_equal(report.error_class, FAR_CONFLICT);
        assert_int_equal(report.outcome, FAR_ADAPTER_FATAL);
        assert_int_equal(access(pair_path(&pair, inside[i], path, sizeof path), F_OK), -1);
    }
    assert_true(disk_restore(&disk, "beside"));
}

static void a_repeated_restore_goes_on_with_its_own_target(void **state)
{
    struct engine_disk disk;
    char path[300];
    disk_make(&disk, &pair, "disk", 8 * MIB, 18);
    assert_true(disk_cycle(&disk));
    struct far_engine_order restore = disk_order(&disk, FAR_ENGINE_RESTORE, 502, TASK_RESTORE, 1);
    memcpy(restore.root, disk.receive.root, 32);
    restore.target_path = pair_path(&pair, "restored", path, sizeof path);
    restore.adapter = "fault:file?fw=3";
    disk_start(&disk, &restore);
    assert_int_equal(pair_wait(&pair, 502, TASK_RESTORE, 1).state, FAR_ENGINE_FAILED);
    restore.attempt = 2;
    disk_start(&disk, &restore);
    struct far_engine_report report = pair_wait(&pair, 502, TASK_RESTORE, 2);
    assert_int_equal(report.state, FAR_ENGINE_DONE);
    assert_memory_equal(report.root, disk.receive.root, 32);
    restore.job_id = 503; /* another recovery may not */
    disk_start(&disk, &restore);
    assert_int_equal(pair_wait(&pair, 503, TASK_RESTORE, 2).error_class, FAR_CONFLICT);
}

/* The order to stop may come later than that to destroy, and a restore from a server that does not know yet later than both. */
static void what_a_destroyed_machine_was_to_get_is_given_up(void **state)
{
    struct engine_disk disk;
    struct far_error err;
    char path[300];
    disk_make(&disk, &pair, "disk", 8 * MIB, 20);
    assert_true(disk_cycle(&disk));
    struct far_engine_order restore = disk_order(&disk, FAR_ENGINE_RESTORE, 510, 3, 1);
    memcpy(restore.root, disk.receive.root, 32);
    restore.target_path = pair_path(&pair, "restored", path, sizeof path);
    restore.adapter = "fault:file?wd=50000";
    disk_start(&disk, &restore);
    assert_true(FAR_UNTIL(access(path, F_OK) == 0, 20000));
    struct far_engine_order destroy = disk_order(&disk, FAR_ENGINE_MACHINE, 510, 5, 1);
    destroy.machine = (struct far_engine_machine){.operation = FAR_ENGINE_MACHINE_DESTROY, .ref = "farshore-run-510-21"};
    disk_start(&disk, &destroy);
    assert_int_equal(pair_wait(&pair, 510, 5, 1).state, FAR_ENGINE_DONE);
    assert_false(pair_ended(&pair, 510, 3, 1)); /* it was canceled, and is over: nothing writes there any more */
    (void)unlink(path);
    restore.attempt = 2;
    assert_int_equal(far_engine_start(pair.target, &restore, &err), FAR_CONFLICT);
    assert_int_equal(access(path, F_OK), -1);
    restore.task = 6; /* it is to be brought up once more */
    restore.attempt = 1;
    restore.adapter = "file";
    disk_start(&disk, &restore);
    assert_int_equal(pair_wait(&pair, 510, 6, 1).state, FAR_ENGINE_DONE);
}

static void a_point_is_sealed_verified_and_a_flipped_byte_found(void **state)
{
    struct engine_disk disk;
    char path[300], pack[600];
    disk_make(&disk, &pair, "disk", 8 * MIB, 19);
    assert_true(disk_cycle(&disk));
    struct far_engine_point_disk points[] = {{.disk_id = 22, .name = "disk", .size_bytes = disk.size_bytes}};
    memcpy(points[0].root, disk.receive.root, 32);
    struct far_engine_order seal = disk_order(&disk, FAR_ENGINE_SEAL, pair.job, TASK_SEAL, 1);
    seal.point_id = 900;
    seal.checkpoint_id = 901;
    seal.point_disks = points;
    seal.point_disk_count = 1;
    disk_start(&disk, &seal);
    assert_int_equal(pair_wait(&pair, pair.job, TASK_SEAL, 1).state, FAR_ENGINE_DONE);
    struct far_manifest manifest;
    assert_int_equal(far_vault_point(far_engine_vault(pair.target), 900, &manifest, NULL), 0);
    assert_string_equal(manifest.workload, "workload");

    struct far_engine_order verify = disk_order(&disk, FAR_ENGINE_VERIFY, 504, TASK_VERIFY, 1);
    memcpy(verify.root, disk.receive.root, 32);
    disk_start(&disk, &verify);
    struct far_engine_report report = pair_wait(&pair, 504, TASK_VERIFY, 1);
    assert_int_equal(report.state, FAR_ENGINE_DONE);
    assert_int_equal(report.blocks_damaged, 0);
    assert_memory_equal(report.root, disk.receive.root, 32);

    pair_stop_target(&pair);
    snprintf(pack, sizeof pack, "find '%s' -name '*.pack' | head -1", pair_path(&pair, "target/vault", path, sizeof path));
    FILE *found = popen(pack, "r");
    assert_non_null(fgets(pack, sizeof pack, found));
    pclose(found);
    pack[strcspn(pack, "\n")] = '\0';
    int fd = open(pack, O_RDWR);
    uint8_t byte;
    assert_int_equal(pread(fd, &byte, 1, 2 * MIB), 1);
    byte ^= 4;
    assert_int_equal(pwrite(fd, &byte, 1, 2 * MIB), 1);
    close(fd);
    pair_start_target(&pair);
    verify.attempt = 2;
    disk_start(&disk, &verify);
    report = pair_wait(&pair, 504, TASK_VERIFY, 2);
    assert_int_equal(report.state, FAR_ENGINE_DONE);
    assert_int_equal(report.blocks_damaged, 1);
    assert_false(report.has_root);
    assert_non_null(strstr(report.error_message, ".pack"));
    assert_false(disk_restore(&disk, "restored"));

    struct far_engine_order forget = disk_order(&disk, FAR_ENGINE_FORGET, 505, TASK_SEAL, 1);
    forget.point_id = 900;
    disk_start(&disk, &forget);
    assert_int_equal(pair_wait(&pair, 505, TASK_SEAL, 1).state, FAR_ENGINE_DONE);
    assert_int_equal(far_vault_point(far_engine_vault(pair.target), 900, &manifest, NULL), FAR_NOT_FOUND);
}

static void a_source_without_a_place_for_its_maps_still_copies(void **state)
{
    struct engine_disk disk;
    char cache[300], aside[300];
    pair_path(&pair, "source/cache", cache, sizeof cache);
    pair_path(&pair, "source/aside", aside, sizeof aside);
    disk_make(&disk, &pair, "disk", 16 * MIB, 23);
    assert_int_equal(rename(cache, aside), 0); /* its disk is gone, or full: no file can be made */
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    uint64_t changed = disk_change(&disk, 8);
    assert_true(disk_cycle(&disk));
    assert_true(disk.send.bytes_sent < changed + MIB);
    disk_accept(&disk);
    assert_int_equal(rename(aside, cache), 0); /* back again: the maps are kept from the next cycle on */
    disk_change(&disk, 4);
    assert_true(disk_cycle(&disk));
    disk_accept(&disk);
    assert_true(disk_cycle(&disk));
    assert_int_equal(disk.send.bytes_changed, 0);
    assert_true(disk_restore(&disk, "restored"));
}

/* Of the key in pki/node-<id>.crt. */
static void fingerprint_of(uint64_t id, uint8_t fingerprint[32])
{
    char name[64], path[300];
    struct far_buf pem, der;
    far_buf_init(&pem, 8192);
    far_buf_init(&der, 8192);
    snprintf(name, sizeof name, "pki/node-%llu.crt", (unsigned long long)id);
    assert_int_equal(far_file_read(pair_path(&pair, name, path, sizeof path), &pem, NULL), 0);
    assert_int_equal(far_pki_pem_to_der(far_buf_slice(&pem), &der, NULL), 0);
    assert_int_equal(far_pki_key_fingerprint(far_buf_slice(&der), fingerprint, NULL), 0);
    far_buf_done(&pem);
    far_buf_done(&der);
}

static void a_node_with_another_key_than_the_registered_one_is_refused_by_its_peer(void **state)
{
    struct engine_disk disk;
    disk_make(&disk, &pair, "disk", 2 * MIB, 22);
    snprintf(disk.freeze.freeze_ref, sizeof disk.freeze.freeze_ref, "live:x");
    for (int wrong = 0; wrong < 3; wrong++) { /* nobody, the target, the source */
        uint64_t job = 900 + (uint64_t)wrong;
        struct far_engine_order send = disk_order(&disk, FAR_ENGINE_SEND, job, TASK_SEND, 1);
        struct far_engine_order receive = disk_order(&disk, FAR_ENGINE_RECEIVE, job, TASK_RECEIVE, 1);
        send.has_peer_fingerprint = receive.has_peer_fingerprint = true;
        fingerprint_of(PAIR_TARGET, send.peer_fingerprint);
        fingerprint_of(PAIR_SOURCE, receive.peer_fingerprint);
        send.peer_fingerprint[31] ^= wrong == 1;
        receive.peer_fingerprint[0] ^= wrong == 2;
        disk_start(&disk, &receive);
        disk_start(&disk, &send);
        disk.send = pair_wait(&pair, job, TASK_SEND, 1);
        if (wrong == 0) {
            assert_int_equal(disk.send.state, FAR_ENGINE_DONE);
            assert_int_equal(pair_wait(&pair, job, TASK_RECEIVE, 1).state, FAR_ENGINE_DONE);
            continue;
        }
        assert_int_equal(disk.send.error_class, FAR_DENIED);
        assert_non_null(strstr(disk.send.error_message, wrong == 1 ? "node 12 is of another key" : "node 11 is of another key"));
        assert_false(pair_ended(&pair, job, TASK_RECEIVE, 1)); /* it waits for the right one */
        far_engine_cancel(pair.target, job, TASK_RECEIVE, 1);
    }
}

static void orders_that_make_no_sense_are_refused(void **state)
{
    struct engine_disk disk;
    struct far_error err;
    disk_make(&disk, &pair, "disk", 2 * MIB, 20);
    struct far_engine_order order = disk_order(&disk, (enum far_engine_kind)99, 1, 1, 1);
    assert_int_equal(far_engine_start(pair.source, &order, &err), FAR_INVALID);
    order = disk_order(&disk, FAR_ENGINE_RECEIVE, 1, 1, 1);
    assert_int_equal(far_engine_start(pair.source, &order, &err), FAR_INVALID); /* no vault there */
    order = disk_order(&disk, FAR_ENGINE_RESTORE, 1, 1, 1); /* no such root */
    order.target_path = "/nonexistent/disk";
    disk_start(&disk, &order);
    assert_int_equal(pair_wait(&pair, 1, 1, 1).error_class, FAR_NOT_FOUND);
    disk.adapter = "nosuch";
    assert_false(disk_cycle(&disk));
    assert_int_equal(disk.freeze.error_class, FAR_NOT_FOUND);
}

static void many_workers_fit_into_the_least_memory(void **state)
{
    const struct far_engine_config least = {.memory_bytes = 16 * MIB, .worker_count = 8, .idle_ms = 5000};
    struct engine_disk disk;
    pair_init(&pair, "least", &least);
    disk_make(&disk, &pair, "disk", 24 * MIB, 5);
    assert_true(disk_cycle(&disk));
    assert_true(disk_restore(&disk, "restored"));
    pair_done(&pair);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_first_copy_gives_equal_roots_and_restores_bit_for_bit, setup, teardown),
        cmocka_unit_test_setup_teardown(a_second_cycle_sends_little_more_than_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_that_lost_its_maps_still_sends_only_what_changed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_target_that_went_further_than_the_base_is_brought_back, setup, teardown),
        cmocka_unit_test_setup_teardown(an_unchanged_disk_moves_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_grew_is_copied_on, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_of_zeroes_costs_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(compressed_blocks_arrive_as_they_left, setup, teardown),
        cmocka_unit_test_setup_teardown(disks_of_several_workloads_in_one_job_do_not_mix, setup, teardown),
        cmocka_unit_test_setup_teardown(a_disk_received_from_a_lost_view_is_received_again_from_the_new_one, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(a_disk_that_shrank_or_vanished_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(a_read_error_ends_the_send_with_the_platforms_words, setup, teardown),
        cmocka_unit_test_setup_teardown(an_existing_recovery_target_is_refused_and_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_is_recovered_into_the_nodes_own_folders, setup, teardown),
        cmocka_unit_test_setup_teardown(a_repeated_restore_goes_on_with_its_own_target, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_destroyed_machine_was_to_get_is_given_up, setup, teardown),
        cmocka_unit_test_setup_teardown(a_point_is_sealed_verified_and_a_flipped_byte_found, setup, teardown),
        cmocka_unit_test_setup_teardown(a_source_without_a_place_for_its_maps_still_copies, setup, teardown),
        cmocka_unit_test_setup_teardown(a_node_with_another_key_than_the_registered_one_is_refused_by_its_peer, setup,
                                        teardown),
        cmocka_unit_test_setup_teardown(orders_that_make_no_sense_are_refused, setup, teardown),
        cmocka_unit_test(many_workers_fit_into_the_least_memory),
    };
    return cmocka_run_group_tests_name("engine", tests, NULL, NULL);
}
