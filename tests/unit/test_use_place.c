/* Where uses of points may write, and what is left of a file that was being made when its node ended anywhere. */
#define _GNU_SOURCE
#include "dataplane/use_place.h"

#include "lib/cm.h"
#include "lib/remove_tree.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char base[PATH_MAX], node[PATH_MAX], allowed[PATH_MAX], resolved[PATH_MAX];

static const char *at(const char *dir, const char *name)
{
    static char paths[4][2 * PATH_MAX];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", dir, name);
    return path;
}

static void write_file(const char *path, const char *text)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    close(fd);
}

static bool is_there(const char *path)
{
    struct stat st;
    return lstat(path, &st) == 0;
}

static int setup(void **unused)
{
    char made[PATH_MAX];
    assert_int_equal(far_test_make_folder("place", made, sizeof made), 0);
    assert_non_null(realpath(made, base));
    snprintf(node, sizeof node, "%.4000s/node", base);
    snprintf(allowed, sizeof allowed, "%.4000s/exports", base);
    assert_int_equal(mkdir(node, 0700), 0);
    assert_int_equal(mkdir(allowed, 0700), 0);
    assert_int_equal(mkdir(at(allowed, "folder"), 0700), 0);
    return 0;
}

static int teardown(void **unused)
{
    return far_test_remove_tree(base);
}

static int resolve(const char *path, enum far_use_kind kind)
{
    const char *own[] = {node, NULL};
    return far_use_resolve(allowed, path, kind, own, 2, resolved, NULL);
}

static void what_leads_out_of_the_folder_is_denied(void **unused)
{
    assert_int_equal(resolve("a.raw", FAR_USE_NEW_FILE), 0);
    assert_string_equal(resolved, at(allowed, "a.raw"));
    assert_int_equal(resolve("folder/a.raw", FAR_USE_NEW_FILE), 0);
    assert_int_equal(resolve(at(allowed, "folder/a.raw"), FAR_USE_NEW_FILE), 0);
    assert_string_equal(resolved, at(allowed, "folder/a.raw"));
    static const char *const bad[] = {"", "..", "../a", "folder/../a", "folder//a", "./a", "folder/", "/etc/passwd", "/"};
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        assert_int_equal(resolve(bad[i], FAR_USE_NEW_FILE), FAR_DENIED);
    }
    assert_int_equal(resolve(at(base, "exports-too/a"), FAR_USE_NEW_FILE), FAR_DENIED); /* the same beginning, another folder */
    assert_int_equal(resolve(at(base, "exports/../a"), FAR_USE_NEW_FILE), FAR_DENIED);
    assert_int_equal(resolve("nowhere/a", FAR_USE_NEW_FILE), FAR_NOT_FOUND);
    assert_int_equal(resolve("a\nb", FAR_USE_NEW_FILE), FAR_INVALID);
    assert_int_equal(far_use_resolve("", "a", FAR_USE_NEW_FILE, NULL, 0, resolved, NULL), FAR_DENIED);
    assert_int_equal(far_use_resolve(NULL, "a", FAR_USE_NEW_FILE, NULL, 0, resolved, NULL), FAR_DENIED);
    assert_int_equal(far_use_resolve(at(base, "nowhere"), "a", FAR_USE_NEW_FILE, NULL, 0, resolved, NULL), FAR_NOT_FOUND);
}

static void links_are_denied_wherever_they_lead(void **unused)
{
    assert_int_equal(symlink(base, at(allowed, "out")), 0);
    assert_int_equal(symlink("folder", at(allowed, "in")), 0);
    assert_int_equal(symlink("nowhere", at(allowed, "file")), 0);
    assert_int_equal(resolve("out/a", FAR_USE_NEW_FILE), FAR_DENIED);
    assert_int_equal(resolve("in/a", FAR_USE_NEW_FILE), FAR_DENIED);
    for (int kind = FAR_USE_NEW_FILE; kind <= FAR_USE_OLD_FILE; kind++) {
        assert_int_equal(resolve("file", (enum far_use_kind)kind), FAR_DENIED);
    }
    assert_int_equal(symlink(node, at(base, "also")), 0); /* the folder that is allowed may itself be named by one */
    const char *own[] = {node};
    assert_int_equal(far_use_resolve(at(base, "also"), "a", FAR_USE_NEW_FILE, NULL, 0, resolved, NULL), 0);
    assert_int_equal(far_use_resolve(at(base, "also"), "a", FAR_USE_NEW_FILE, own, 1, resolved, NULL), FAR_DENIED);
}

static void what_is_there_counts_by_what_is_made(void **unused)
{
    write_file(at(allowed, "file"), "x");
    assert_int_equal(resolve("file", FAR_USE_NEW_FILE), FAR_CONFLICT);
    assert_int_equal(resolve("file", FAR_USE_OWN_FILE), 0);
    assert_int_equal(resolve("file", FAR_USE_OLD_FILE), 0);
    assert_int_equal(resolve("file", FAR_USE_FOLDER), FAR_CONFLICT);
    assert_int_equal(resolve("folder", FAR_USE_FOLDER), 0);
    assert_int_equal(resolve("folder", FAR_USE_OWN_FILE), FAR_CONFLICT);
    assert_int_equal(resolve("none", FAR_USE_OLD_FILE), FAR_NOT_FOUND);
}

static void a_file_gets_its_name_when_it_is_whole(void **unused)
{
    struct far_use_place place;
    assert_int_equal(far_use_place_begin(node, 7, 1, at(allowed, "a.raw"), &place, NULL), 0);
    assert_true(is_there(place.note));
    write_file(place.part, "the disk");
    assert_false(is_there(at(allowed, "a.raw")));
    assert_int_equal(far_use_place_finish(&place, NULL), 0);
    far_use_place_end(&place);
    assert_true(is_there(at(allowed, "a.raw")));
    assert_false(is_there(place.part));
}

/* Until the log knows of the end an attempt may be done again: it finds its own file, after any restart. */
static void the_note_stays_until_the_log_knows_of_the_end(void **unused)
{
    struct far_use_place place, again;
    struct far_use_key keys[4];
    assert_int_equal(far_use_kept(node, keys, 4), 0);
    assert_int_equal(far_use_place_begin(node, 7, 2, at(allowed, "a.raw"), &place, NULL), 0);
    write_file(place.part, "the disk");
    assert_int_equal(far_use_place_finish(&place, NULL), 0);
    far_use_place_end(&place);
    far_use_sweep(node);
    assert_int_equal(far_use_kept(node, keys, 4), 1);
    assert_true(keys[0].job_id == 7 && keys[0].task == 2);
    assert_int_equal(far_use_kept(node, keys, 0), 0);
    assert_int_equal(far_use_place_begin(node, 7, 2, at(allowed, "a.raw"), &again, NULL), 0);
    assert_true(again.is_whole);
    far_use_place_end(&again);
    assert_true(is_there(at(allowed, "a.raw")) && is_there(again.note));
    far_use_settle(node, 7, 2);
    assert_int_equal(far_use_kept(node, keys, 4), 0);
    assert_true(is_there(at(allowed, "a.raw")));
}

static void what_came_to_be_there_meanwhile_stays(void **unused)
{
    struct far_use_place place;
    char text[8] = "";
    assert_int_equal(far_use_place_begin(node, 7, 1, at(allowed, "a.raw"), &place, NULL), 0);
    write_file(place.part, "the disk");
    write_file(at(allowed, "a.raw"), "other");
    assert_int_equal(far_use_place_finish(&place, NULL), FAR_CONFLICT);
    far_use_place_end(&place);
    int fd = open(at(allowed, "a.raw"), O_RDONLY);
    assert_int_equal(read(fd, text, sizeof text), 5);
    close(fd);
    assert_string_equal(text, "other");
    assert_false(is_there(place.part) || is_there(place.note));
}

/* The node ends while the file is made: its next start removes what is left. */
static void what_was_not_whole_is_swept(void **unused)
{
    struct far_use_place place;
    char tmp[PATH_MAX];
    assert_int_equal(far_use_place_begin(node, 7, 1, at(allowed, "a.raw"), &place, NULL), 0);
    write_file(place.part, "half");
    write_file(place.part2, "of it");
    assert_int_equal(far_use_tmp_make(node, 7, 1, tmp, NULL), 0);
    write_file(at(tmp, "file"), "x");
    write_file(at(node, "uses/7-1.sock"), "");
    write_file(at(node, "uses/disk-3.order"), "x");
    far_use_sweep(node);
    assert_false(is_there(place.part) || is_there(place.part2) || is_there(place.note) || is_there(tmp));
    assert_false(is_there(at(node, "uses/7-1.sock")));
    assert_true(is_there(at(node, "uses/disk-3.order")));
    far_use_sweep(at(base, "nowhere")); /* no uses: nothing to do */
}

/* It ends at any place of the naming: the next attempt either makes it anew, or finds it whole; never a stranger's file. */
static void between_whole_and_named_the_next_attempt_knows(void **unused)
{
    for (int way = 0; way < 4; way++) {
        for (int is_swept = 0; is_swept < 2; is_swept++) {
            struct far_use_place place, again;
            char target[PATH_MAX];
            snprintf(target, sizeof target, "%.4000s/%d-%d.raw", allowed, way, is_swept);
            assert_int_equal(far_use_place_begin(node, 7, 1, target, &place, NULL), 0);
            write_file(place.part, "the disk");
            if (way == 0) { /* named, and the part is still there */
                assert_int_equal(far_use_place_finish(&place, NULL), 0);
            } else if (way == 1) { /* named, the part is gone, the note not yet */
                assert_int_equal(far_use_place_finish(&place, NULL), 0);
                unlink(place.part);
            } else if (way == 2) { /* noted, not named */
                assert_int_equal(far_use_place_finish(&place, NULL), 0);
                unlink(target);
            } else { /* noted, not named, and somebody else made a file of that name */
                assert_int_equal(far_use_place_finish(&place, NULL), 0);
                unlink(target);
                write_file(target, "other");
            }
            if (is_swept) {
                far_use_sweep(node);
            }
            assert_int_equal(far_use_place_begin(node, 7, 1, target, &again, NULL), 0);
            assert_int_equal(again.is_whole, way < 2);
            far_use_place_end(&again);
            far_use_settle(node, 7, 1);
            assert_int_equal(is_there(target), way != 2);
            assert_false(is_there(place.part) || is_there(place.note));
        }
    }
}

static void a_mark_is_the_task_s_and_of_its_path(void **unused)
{
    bool was_there = true;
    char written[PATH_MAX];
    assert_int_equal(far_use_mark(node, 7, 1, at(allowed, "vm.raw"), &was_there, written, NULL), 0);
    assert_false(was_there);
    assert_int_equal(far_use_mark(node, 7, 1, at(allowed, "vm.raw"), &was_there, written, NULL), 0);
    assert_true(was_there);
    assert_int_equal(far_use_mark(node, 8, 1, at(allowed, "vm.raw"), &was_there, written, NULL), 0);
    assert_false(was_there);
    assert_int_equal(far_use_mark(node, 7, 1, at(allowed, "other.raw"), &was_there, written, NULL), 0);
    assert_false(was_there);
    write_file(at(allowed, "other.raw"), "x");
    write_file(at(node, "uses/7-1.written"), "");
    write_file(at(node, "uses/8-1.written"), "");
    assert_string_equal(written, at(node, "uses/7-1.written"));
    far_use_sweep(node); /* the one of 8 tells of no file */
    assert_true(is_there(at(node, "uses/7-1.written")));
    assert_false(is_there(at(node, "uses/8-1.written")));
    assert_true(is_there(at(node, "uses/7-1.mark")));
    assert_false(is_there(at(node, "uses/8-1.mark")));
    far_use_settle(node, 7, 1);
    assert_false(is_there(at(node, "uses/7-1.mark")) || is_there(at(node, "uses/7-1.written")));
}

int main(void)
{
    const struct CMUnitTest tests[] = {
#define IN_A_FOLDER(test) cmocka_unit_test_setup_teardown(test, setup, teardown)
        IN_A_FOLDER(what_leads_out_of_the_folder_is_denied),
        IN_A_FOLDER(links_are_denied_wherever_they_lead),
        IN_A_FOLDER(what_is_there_counts_by_what_is_made),
        IN_A_FOLDER(a_file_gets_its_name_when_it_is_whole),
        IN_A_FOLDER(the_note_stays_until_the_log_knows_of_the_end),
        IN_A_FOLDER(what_came_to_be_there_meanwhile_stays),
        IN_A_FOLDER(what_was_not_whole_is_swept),
        IN_A_FOLDER(between_whole_and_named_the_next_attempt_knows),
        IN_A_FOLDER(a_mark_is_the_task_s_and_of_its_path),
    };
    return cmocka_run_group_tests_name("use_place", tests, NULL, NULL);
}
