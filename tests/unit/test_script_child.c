/* Scripts of a node: what they are given, what they may not do, what becomes of those that do not end. As root they run as `nobody`, in a
 * process namespace of their own; as another user as that user. */
#define _GNU_SOURCE
#include "dataplane/script_child.h"

#include "lib/cm.h"
#include "lib/remove_tree.h"

#include <fcntl.h>
#include <openssl/evp.h>
#include <pwd.h>
#include <string.h>
#include <unistd.h>

static char base[PATH_MAX], scripts[PATH_MAX];
static const char *user;
static struct far_script_result result;
static bool asked_to_stop;

static void write_script(const char *name, const char *text, mode_t mode)
{
    char path[PATH_MAX];
    snprintf(path, sizeof path, "%.4000s/%s", scripts, name);
    unlink(path);
    int fd = open(path, O_WRONLY | O_CREAT | O_EXCL, 0600);
    assert_true(fd >= 0);
    assert_int_equal(write(fd, text, strlen(text)), (ssize_t)strlen(text));
    assert_int_equal(fchmod(fd, mode), 0);
    close(fd);
}

static int setup(void **unused)
{
    static char own[64];
    char made[PATH_MAX];
    const struct passwd *entry = getpwuid(geteuid());
    snprintf(own, sizeof own, "%s", entry != NULL ? entry->pw_name : "");
    user = geteuid() == 0 ? "nobody" : own;
    assert_int_equal(far_test_make_folder("scripts", made, sizeof made), 0);
    assert_non_null(realpath(made, base));
    assert_int_equal(chmod(base, 0755), 0);
    *strrchr(made, '/') = '\0';
    (void)chmod(made, 0711); /* the folder of this run of the tests, where it has one: whoever runs the scripts comes through */
    snprintf(scripts, sizeof scripts, "%.4000s/scripts", base);
    assert_int_equal(mkdir(scripts, 0755), 0);
    asked_to_stop = false;
    return 0;
}

static int teardown(void **unused)
{
    return far_test_remove_tree(base);
}

static bool goes_on(void *arg)
{
    return !asked_to_stop;
}

static int run_with(const char *name, uint64_t timeout_ms, const uint8_t *sha256, struct far_error *err)
{
    const struct far_script script = {.dir = scripts,
                                      .user = user,
                                      .name = name,
                                      .sha256 = sha256,
                                      .about = {.job_id = 12,
                                                .kind = "gate",
                                                .phase = "gate",
                                                .plan = "gold",
                                                .workload = "web \"1\"\\",
                                                .machine = "web",
                                                .address = "10.0.0.2",
                                                .isolated = true},
                                      .timeout_ms = timeout_ms,
                                      .goes_on = goes_on};
    return far_script_run(&script, &result, err);
}

static int run(const char *name)
{
    return run_with(name, 30000, NULL, NULL);
}

static void it_is_told_what_it_is_about(void **unused)
{
    write_script("tell", "#!/bin/sh\ncat; env | sort | grep -v -e ^PWD -e ^_ -e ^SHLVL; echo to-stderr >&2; exit 3\n", 0755);
    assert_int_equal(run("tell"), 0);
    assert_int_equal(result.status, 3);
    assert_false(result.is_late);
    assert_string_equal(result.output,
                        "{\"job\":12,\"kind\":\"gate\",\"phase\":\"gate\",\"plan\":\"gold\",\"workload\":\"web \\\"1\\\"\\\\\","
                        "\"machine\":\"web\",\"address\":\"10.0.0.2\",\"isolated\":true}\n"
                        "FARSHORE_ADDRESS=10.0.0.2\nFARSHORE_JOB=12\nFARSHORE_KIND=gate\nFARSHORE_MACHINE=web\nFARSHORE_PHASE=gate\n"
                        "FARSHORE_PLAN=gold\nFARSHORE_WORKLOAD=web \"1\"\\\nPATH=/usr/local/bin:/usr/bin:/bin\nto-stderr\n");
}

static void it_may_do_less(void **unused)
{
    write_script("who",
                 "#!/bin/sh\nid -u; id -G | wc -w; grep NoNewPrivs /proc/self/status; ulimit -c; ulimit -n; ls /proc/self/fd | wc -l\n",
                 0755);
    setenv("FARSHORE_SECRET", "x", 1);
    int open_fd = open("/dev/null", O_RDONLY); /* without O_CLOEXEC: it is not inherited */
    assert_int_equal(run("who"), 0);
    close(open_fd);
    const struct passwd *entry = getpwnam(user);
    char wanted[200];
    snprintf(wanted, sizeof wanted, "%u\n1\nNoNewPrivs:\t1\n0\n256\n4\n", (unsigned)entry->pw_uid);
    if (geteuid() == 0) {
        assert_string_equal(result.output, wanted);
    }
    assert_int_equal(result.status, 0);
}

static void the_last_of_its_output_is_kept(void **unused)
{
    write_script("much", "#!/bin/sh\ni=0; while [ $i -lt 2000 ]; do echo line $i; i=$((i+1)); done; printf end\n", 0755);
    assert_int_equal(run("much"), 0);
    assert_int_equal(strlen(result.output), FAR_SCRIPT_OUTPUT_MAX);
    assert_non_null(strstr(result.output, "line 1999\nend"));
    assert_null(strstr(result.output, "line 0\n"));
}

/* The pipe of a process that is left would stay open; as root the namespace takes also what left the group. */
static void it_is_killed_with_its_children(void **unused)
{
    char mark[PATH_MAX], text[3 * PATH_MAX];
    struct stat st;
    snprintf(mark, sizeof mark, "%.4000s/ticks", base);
    int fd = open(mark, O_WRONLY | O_CREAT, 0666);
    assert_int_equal(fchmod(fd, 0666), 0);
    close(fd);
    snprintf(text, sizeof text,
             "#!/bin/sh\n%s sh -c 'while :; do echo x >> %s; done' &\nwhile [ ! -s %s ]; do :; done\necho begun\nwhile :; do :; done\n",
             geteuid() == 0 ? "setsid" : "", mark, mark);
    write_script("forever", text, 0755);
    assert_int_equal(run_with("forever", 1000, NULL, NULL), 0);
    assert_true(result.is_late);
    assert_int_equal(result.status, -1);
    assert_string_equal(result.output, "begun\n");
    off_t size = -1;
    write_script("quick", "#!/bin/sh\ncat /proc/self/status > /dev/null\n", 0755);
    assert_int_equal(stat(mark, &st), 0);
    for (int tries = 0; st.st_size != size && tries < 50; tries++) { /* the kernel kills them a moment later, when the machine is busy */
        size = st.st_size;
        for (int i = 0; i < 20; i++) {
            assert_int_equal(run("quick"), 0);
        }
        assert_int_equal(stat(mark, &st), 0);
    }
    assert_int_equal(st.st_size, size);
}

static void what_it_leaves_behind_goes_with_it(void **unused)
{
    write_script("leaves", "#!/bin/sh\nsh -c 'while :; do :; done' &\nexit 0\n", 0755);
    assert_int_equal(run("leaves"), 0);
    assert_int_equal(result.status, 0);
}

static void it_ends_when_it_is_canceled(void **unused)
{
    write_script("forever", "#!/bin/sh\nwhile :; do :; done\n", 0755);
    asked_to_stop = true;
    assert_int_equal(run("forever"), FAR_CANCELED);
}

static void another_file_than_the_one_that_is_meant_does_not_run(void **unused)
{
    static const char text[] = "#!/bin/sh\nexit 0\n";
    uint8_t sha256[32];
    write_script("good", text, 0755);
    assert_int_equal(EVP_Digest(text, strlen(text), sha256, NULL, EVP_sha256(), NULL), 1);
    assert_int_equal(run_with("good", 30000, sha256, NULL), 0);
    assert_int_equal(result.status, 0);
    sha256[5] ^= 1;
    struct far_error err = {0};
    assert_int_equal(run_with("good", 30000, sha256, &err), FAR_CORRUPT);
    assert_non_null(strstr(err.message, ": SHA-256 ")); /* of what is there, and of what was meant */
    assert_non_null(strstr(err.message, ", not "));
    assert_true(strlen(err.message) > 128);
    write_script("open", text, 0777);
    assert_int_equal(run("open"), FAR_DENIED);
    write_script("plain", text, 0644);
    assert_int_equal(run("plain"), 0);
    assert_int_equal(result.status, 126);
    assert_non_null(strstr(result.output, "cannot be run"));
    assert_int_equal(run("absent"), FAR_NOT_FOUND);
    assert_int_equal(symlinkat("good", open(scripts, O_RDONLY | O_DIRECTORY | O_CLOEXEC), "link"), 0);
    assert_int_equal(run("link"), FAR_DENIED);
    static const char *const wrong[] = {"", "../good", ".good", "go od", "/bin/sh", "Good"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(run(wrong[i]), FAR_INVALID);
    }
    assert_int_equal(chmod(scripts, 0777), 0);
    assert_int_equal(run("good"), FAR_DENIED);
    assert_int_equal(far_script_check(scripts, user, NULL), FAR_DENIED);
}

static void what_the_node_s_config_says_is_checked(void **unused)
{
    assert_int_equal(far_script_check("", "", NULL), 0);
    assert_int_equal(far_script_check(NULL, NULL, NULL), 0);
    assert_int_equal(far_script_check(scripts, user, NULL), 0);
    assert_int_equal(far_script_check(scripts, "", NULL), FAR_DENIED);
    assert_int_equal(far_script_check("", user, NULL), FAR_DENIED);
    assert_int_equal(far_script_check(scripts, "root", NULL), FAR_DENIED);
    assert_int_equal(far_script_check(scripts, "no-such-user", NULL), FAR_NOT_FOUND);
    assert_int_equal(far_script_check("/no/such/folder", user, NULL), FAR_NOT_FOUND);
}

static void its_output_becomes_text(void **unused)
{
    static const struct {
        const char *output, *text;
    } cases[] = {
        {"plain\n\tline", "plain\n\tline"},
        {"b\xc3\xa4r \xe2\x82\xac \xf0\x9f\x9a\xa2", "b\xc3\xa4r \xe2\x82\xac \xf0\x9f\x9a\xa2"},
        {"\xff\x1b[31m\xc3", "??[31m?"},
        {"\xed\xa0\x80 \xc0\xaf", "??? ??"},
        {"", ""},
    };
    char text[32];
    for (size_t i = 0; i < sizeof cases / sizeof cases[0]; i++) {
        far_script_clean(cases[i].output, text, sizeof text);
        assert_string_equal(text, cases[i].text);
    }
    far_script_clean("0123456789\xe2\x82\xac", text, 6); /* the end of it, never half a character */
    assert_string_equal(text, "89\xe2\x82\xac");
    far_script_clean("0123456789\xe2\x82\xac", text, 3);
    assert_string_equal(text, "");
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_is_told_what_it_is_about, setup, teardown),
        cmocka_unit_test_setup_teardown(it_may_do_less, setup, teardown),
        cmocka_unit_test_setup_teardown(the_last_of_its_output_is_kept, setup, teardown),
        cmocka_unit_test_setup_teardown(it_is_killed_with_its_children, setup, teardown),
        cmocka_unit_test_setup_teardown(what_it_leaves_behind_goes_with_it, setup, teardown),
        cmocka_unit_test_setup_teardown(it_ends_when_it_is_canceled, setup, teardown),
        cmocka_unit_test_setup_teardown(another_file_than_the_one_that_is_meant_does_not_run, setup, teardown),
        cmocka_unit_test(its_output_becomes_text),
        cmocka_unit_test_setup_teardown(what_the_node_s_config_says_is_checked, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
