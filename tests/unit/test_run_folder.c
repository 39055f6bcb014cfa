/* Folders of recovered disks: nothing is made or removed outside of what the node's operator allows, whatever is ordered or lies there. */
#define _GNU_SOURCE
#include "dataplane/run_folder.h"

#include "lib/cm.h"
#include "lib/remove_tree.h"

#include <fcntl.h>
#include <string.h>
#include <unistd.h>

static char base[PATH_MAX], allowed[PATH_MAX], found[PATH_MAX];
static bool left;

static const char *at(const char *name)
{
    static char paths[4][2 * PATH_MAX];
    static size_t next;
    char *path = paths[next++ % 4];
    snprintf(path, sizeof paths[0], "%s/%s", base, name);
    return path;
}

static void write_file(const char *path)
{
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC, 0600);
    assert_true(fd >= 0);
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
    assert_int_equal(far_test_make_folder("runs", made, sizeof made), 0);
    assert_non_null(realpath(made, base));
    snprintf(allowed, sizeof allowed, "%.4000s/allowed", base);
    assert_int_equal(mkdir(allowed, 0700), 0);
    assert_int_equal(mkdir(at("node"), 0700), 0);
    assert_int_equal(mkdir(at("outside"), 0700), 0);
    write_file(at("outside/file"));
    return 0;
}

static int teardown(void **unused)
{
    return far_test_remove_tree(base);
}

static int resolve(const char *path, bool makes)
{
    const char *own[] = {at("node"), NULL};
    return far_run_folder_resolve(allowed, path, makes, own, 2, found, NULL);
}

static int remove_of(uint64_t job_id, const char *name)
{
    return far_run_folder_remove(allowed, job_id, name, &left, found, NULL);
}

static void folders_are_made_below_the_one_that_is_allowed(void **unused)
{
    assert_int_equal(resolve("run-7/web/disk0.raw", false), FAR_NOT_FOUND);
    assert_int_equal(resolve("run-7/web/disk0.raw", true), 0);
    assert_string_equal(found, at("allowed/run-7/web/disk0.raw"));
    assert_int_equal(resolve("run-7/web/disk0.raw", true), 0);
    write_file(found);
    assert_int_equal(resolve("run-7/web/disk0.raw", true), 0);
    assert_int_equal(resolve("run-7/web/disk0.raw", false), 0);
}

static void what_leads_out_is_refused(void **unused)
{
    static const char *const wrong[] = {"",    "/etc/passwd", "../outside/x", "run-7/../../outside/x", "run-7//x",
                                        "./x", "run-7/.",     "run-7/web/",   "run-7/we\nb/x"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(resolve(wrong[i], true), FAR_DENIED);
    }
    assert_false(is_there(at("outside/x")));
    assert_int_equal(far_run_folder_resolve(NULL, "run-7/web/x", true, NULL, 0, found, NULL), FAR_DENIED);
    assert_int_equal(far_run_folder_resolve("", "run-7/web/x", true, NULL, 0, found, NULL), FAR_DENIED);
}

static void links_are_not_followed(void **unused)
{
    assert_int_equal(symlink(at("outside"), at("allowed/run-8")), 0);
    assert_int_equal(resolve("run-8/web/x", true), FAR_DENIED);
    assert_int_equal(remove_of(8, "web"), FAR_DENIED);
    assert_int_equal(mkdir(at("allowed/run-9"), 0700), 0);
    assert_int_equal(symlink(at("outside"), at("allowed/run-9/web")), 0);
    assert_int_equal(resolve("run-9/web/file", true), FAR_DENIED);
    assert_int_equal(remove_of(9, "web"), 0); /* the link goes, not where it leads */
    assert_false(is_there(at("allowed/run-9")));
    assert_true(is_there(at("outside/file")));
}

static void a_run_s_folder_goes_with_its_last_machine(void **unused)
{
    assert_int_equal(resolve("run-5/web/disk0.raw", true), 0);
    write_file(found);
    assert_int_equal(symlink(at("outside"), at("allowed/run-5/web/link")), 0);
    assert_int_equal(mkdir(at("allowed/run-5/web/inner"), 0700), 0);
    write_file(at("allowed/run-5/web/inner/x"));
    assert_int_equal(resolve("run-5/db/disk0.raw", true), 0);
    write_file(found);
    assert_int_equal(resolve("run-55/web/disk0.raw", true), 0);
    assert_int_equal(remove_of(5, "web"), 0);
    assert_false(left);
    assert_false(is_there(at("allowed/run-5/web")));
    assert_true(is_there(at("allowed/run-5/db/disk0.raw")));
    assert_int_equal(remove_of(5, "web"), 0);
    assert_int_equal(remove_of(5, "db"), 0);
    assert_false(is_there(at("allowed/run-5")));
    assert_int_equal(remove_of(5, "db"), 0);
    assert_true(is_there(at("allowed/run-55/web")));
    assert_true(is_there(at("outside/file")));
    static const char *const wrong[] = {"..", ".", "", "a/b", "../run-55"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(remove_of(5, wrong[i]), FAR_DENIED);
    }
    assert_int_equal(far_run_folder_remove("", 5, "db", &left, found, NULL), 0); /* where nothing was ever made */
}

static void what_the_node_lives_on_is_no_place(void **unused)
{
    const char *own[] = {at("allowed/run-3")};
    assert_int_equal(far_run_folder_resolve(allowed, "run-3/web/x", true, own, 1, found, NULL), FAR_DENIED);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(folders_are_made_below_the_one_that_is_allowed, setup, teardown),
        cmocka_unit_test_setup_teardown(what_leads_out_is_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(links_are_not_followed, setup, teardown),
        cmocka_unit_test_setup_teardown(a_run_s_folder_goes_with_its_last_machine, setup, teardown),
        cmocka_unit_test_setup_teardown(what_the_node_lives_on_is_no_place, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
