/* The adapter kvm without a libvirt: the program that speaks with it is a script here that hangs, dies, lies or says too much, and
 * costs one call; and the trees of XML that the real program works on. What it does with libvirt: tests/integration/test_kvm_*.py. */
#include "../lib/cm.h"

#include "adapters/adapters.h"
#include "adapters/kvm/kvm_xml.h"
#include "base/error.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

static char dir[200], program[260];
static struct far_adapter_error said;
static void *platform;
static struct far_adapter_disk disks[] = {{.name = "a", .locator = "kvm:///web/vda"}, {.name = "b", .locator = "kvm:///web/vdb"}};
static const struct far_adapter *const kvm = &far_adapter_kvm;

static int setup(void **state)
{
    const char *tmp = getenv("TMPDIR");
    snprintf(dir, sizeof dir, "%s/kvm-XXXXXX", tmp != NULL ? tmp : "/tmp");
    assert_non_null(mkdtemp(dir));
    snprintf(program, sizeof program, "%s/farshore-kvm", dir);
    setenv("FARSHORE_KVM", program, 1);
    assert_int_equal(kvm->open("tm=60000\n", &platform, &said), FAR_ADAPTER_OK);
    return 0;
}

static int teardown(void **state)
{
    kvm->close(platform);
    return 0;
}

/* What the program does from now on. */
static void script(const char *text)
{
    FILE *file = fopen(program, "w");
    assert_non_null(file);
    fprintf(file, "#!/bin/sh\n%s\n", text);
    fclose(file);
    assert_int_equal(chmod(program, 0755), 0);
}

static int probe(struct far_adapter_found *ret_found)
{
    memset(&said, 0, sizeof said);
    return kvm->inventory->probe(platform, &disks[0], ret_found, &said);
}

static void answers_become_what_was_found(void **state)
{
    struct far_adapter_found found[2];
    char ref[128];
    bool fuzzy = true;
    script("[ \"$1 $2\" = 'probe kvm:///web/vda' ] || exit 1; echo 'disk 4711 kvm:x:vda -'");
    assert_int_equal(probe(found), FAR_ADAPTER_OK);
    assert_int_equal(found[0].size_bytes, 4711);
    assert_string_equal(found[0].identity, "kvm:x:vda");
    assert_string_equal(found[0].token, "");
    script("[ \"$*\" = 'freeze 1-2-3 kvm:///web/vda kvm:///web/vdb' ] || exit 1\n"
           "echo ref farshore-v; echo disk 1 one farshore-v; echo disk 2 two -");
    assert_int_equal(kvm->changes->freeze(platform, "1-2-3", disks, 2, found, ref, &fuzzy, &said), FAR_ADAPTER_OK);
    assert_string_equal(ref, "farshore-v");
    assert_false(fuzzy);
    assert_int_equal(found[1].size_bytes, 2);
    assert_string_equal(found[0].token, "farshore-v");
    assert_string_equal(found[1].token, "");
}

static void what_it_refuses_is_handed_on_in_its_words(void **state)
{
    struct far_adapter_found found[2];
    char ref[128];
    bool fuzzy;
    script("echo 'fail 5 -3 the bitmap is gone'; exit 1");
    assert_int_equal(probe(found), FAR_ADAPTER_RESYNC);
    assert_int_equal(said.klass, FAR_CONFLICT);
    assert_string_equal(said.message, "the bitmap is gone");
    script("echo 'disk 1 one two'; echo 'fail 2 -7 later'; exit 1");
    assert_int_equal(probe(found), FAR_ADAPTER_RETRY);
    assert_string_equal(said.message, "later");
    script("echo 'fail 99 -3 nonsense'; exit 1");
    assert_int_equal(probe(found), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_IO);
    script("kill -9 $$");
    assert_int_equal(probe(found), FAR_ADAPTER_RETRY);
    assert_non_null(strstr(said.message, "signal 9"));
    script("exit 0"); /* it says nothing, and that all is well */
    assert_int_equal(probe(found), FAR_ADAPTER_FATAL);
    assert_int_equal(said.klass, FAR_INTERNAL);
    script("echo ref farshore-v; echo disk 1 one -");
    assert_int_equal(kvm->changes->freeze(platform, "x", disks, 2, found, ref, &fuzzy, &said), FAR_ADAPTER_FATAL);
}

static void one_that_says_too_much_is_cut(void **state)
{
    struct far_adapter_found found;
    script("echo 'disk 9 one -'; head -c 1000000 /dev/zero | tr '\\0' 'x'");
    assert_int_equal(probe(&found), FAR_ADAPTER_OK);
    assert_int_equal(found.size_bytes, 9);
}

/* It and what it started are gone when the call returns. */
static void one_that_hangs_is_ended_at_the_deadline(void **state)
{
    struct far_adapter_found found;
    void *hasty;
    char text[400], path[300];
    int pid = 0;
    snprintf(text, sizeof text, "echo $$ > %s/pid; echo 'disk 1 one -'; exec sleep 600", dir);
    script(text);
    assert_int_equal(kvm->open("timeout_ms=700\n", &hasty, &said), FAR_ADAPTER_OK);
    assert_int_equal(kvm->inventory->probe(hasty, &disks[0], &found, &said), FAR_ADAPTER_RETRY);
    assert_int_equal(said.klass, FAR_TIMEOUT);
    assert_non_null(strstr(said.message, "700 ms"));
    kvm->close(hasty);
    snprintf(path, sizeof path, "%s/pid", dir);
    FILE *file = fopen(path, "r");
    if (file != NULL) { /* on a machine under load it may not have come so far */
        assert_int_equal(fscanf(file, "%d", &pid), 1);
        fclose(file);
        assert_int_equal(kill(pid, 0), -1);
        assert_int_equal(errno, ESRCH);
    }
}

static void a_list_is_asked_for_only_where_there_is_one(void **state)
{
    struct far_adapter_extent extents[4];
    size_t count;
    uint64_t next;
    script("echo 'uri nbd+unix:///vda?socket=/nosuch'; echo 'why the image is raw'");
    assert_int_equal(kvm->changes->changed(platform, "farshore-1", &disks[0], "farshore-0", 0, extents, 4, &count, &next, &said),
                     FAR_ADAPTER_RESYNC);
    assert_non_null(strstr(said.message, "the image is raw"));
    script("echo 'uri nbd+unix:///vda?socket=/nosuch'; echo 'base farshore-00'; echo 'also farshore-01 farshore-02'");
    assert_int_equal(kvm->changes->changed(platform, "farshore-2", &disks[0], "farshore-0", 0, extents, 4, &count, &next, &said),
                     FAR_ADAPTER_RESYNC); /* a piece of a name is none */
    assert_int_equal(kvm->changes->changed(platform, "nonsense", &disks[0], "farshore-0", 0, extents, 4, &count, &next, &said),
                     FAR_ADAPTER_FATAL);
}

static void settings_are_checked(void **state)
{
    static const char *const wrong[] = {"tm=0\n", "tm=x\n", "tm=5x\n", "tm\n", "timeout_ms=3600001\n", "nosuch=1\n"};
    void *made;
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_int_equal(kvm->open(wrong[i], &made, &said), FAR_ADAPTER_FATAL);
        assert_int_equal(said.klass, FAR_INVALID);
    }
    assert_int_equal(kvm->open("tm=5\nconnections=2\n", &made, &said), FAR_ADAPTER_OK); /* of the adapter nbd */
    kvm->close(made);
}

static void without_the_program_the_adapter_is_not_offered(void **state)
{
    struct far_adapter_found found;
    setenv("FARSHORE_KVM", "/nosuch/farshore-kvm", 1);
    assert_false(far_adapter_kvm_is_there());
    assert_int_equal(probe(&found), FAR_ADAPTER_FATAL);
    assert_non_null(strstr(said.message, "/nosuch/farshore-kvm"));
    for (size_t i = 0; far_adapters()[i] != NULL; i++) {
        assert_string_not_equal(far_adapters()[i]->name, "kvm");
    }
    assert_ptr_equal(far_adapters_find("kvm"), kvm);
    setenv("FARSHORE_KVM", program, 1);
}

/* ---- XML ---- */

static void trees_are_read_changed_and_written(void **state)
{
    struct far_buf text;
    struct far_kvm_xml *xml = far_kvm_xml_parse("<a n='1'>\n <b x='&lt;&amp;'>t&gt;</b>\n <c/> <b x='2'/></a>");
    assert_non_null(xml);
    const struct far_kvm_xml *b = far_kvm_xml_child(xml, "b");
    assert_string_equal(far_kvm_xml_attr(b, "x"), "<&");
    assert_string_equal(far_kvm_xml_text(b), "t>");
    assert_string_equal(far_kvm_xml_attr(far_kvm_xml_next(b), "x"), "2");
    assert_null(far_kvm_xml_next(far_kvm_xml_next(b)));
    assert_string_equal(far_kvm_xml_attr(far_kvm_xml_child(xml, "nosuch"), "x"), "");
    assert_true(far_kvm_xml_set(xml, "n", "'2'") && far_kvm_xml_set(xml, "m", "3") && far_kvm_xml_set(xml, "n2", NULL));
    far_kvm_xml_drop(xml, "b");
    assert_true(far_kvm_xml_add(xml, "<d><e/></d>"));
    assert_false(far_kvm_xml_add(xml, "<d>"));
    far_buf_init(&text, 4096);
    assert_int_equal(far_kvm_xml_write(xml, &text), 0);
    assert_int_equal(far_buf_append(&text, "", 1), 0);
    assert_string_equal((char *)text.data, "<a n='&apos;2&apos;' m='3'><c></c><d><e></e></d></a>");
    assert_true(far_kvm_xml_set(xml, "n", NULL));
    assert_string_equal(far_kvm_xml_attr(xml, "n"), "");
    assert_string_equal(far_kvm_xml_attr(xml, "m"), "3");
    far_buf_done(&text);
    far_kvm_xml_free(xml);
}

static void what_is_no_xml_or_too_much_is_refused(void **state)
{
    static const char *const wrong[] = {"", "x", "<a>", "<a></b>", "<a/><b/>", "<a x='1' x='2'/>", "<a>&nosuch;</a>"};
    for (size_t i = 0; i < sizeof wrong / sizeof wrong[0]; i++) {
        assert_null(far_kvm_xml_parse(wrong[i]));
    }
    char *deep = calloc(1, 1 << 20), *many = calloc(1, 1 << 20);
    assert_true(deep != NULL && many != NULL);
    for (size_t i = 0; i < 101; i++) {
        memcpy(deep + 3 * i, "<a>", 3);
        memcpy(deep + 3 * 101 + 4 * i, "</a>", 4);
    }
    assert_null(far_kvm_xml_parse(deep));
    memcpy(many, "<a>", 3);
    for (size_t i = 0; i < 50000; i++) {
        memcpy(many + 3 + 4 * i, "<b/>", 4);
    }
    memcpy(many + 3 + 4 * 50000, "</a>", 4);
    assert_null(far_kvm_xml_parse(many));
    memcpy(many + 3 + 4 * 49999, "</a>", 5);
    struct far_kvm_xml *xml = far_kvm_xml_parse(many);
    assert_non_null(xml);
    far_kvm_xml_free(xml);
    free(deep);
    free(many);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(answers_become_what_was_found),
        cmocka_unit_test(what_it_refuses_is_handed_on_in_its_words),
        cmocka_unit_test(one_that_says_too_much_is_cut),
        cmocka_unit_test(one_that_hangs_is_ended_at_the_deadline),
        cmocka_unit_test(a_list_is_asked_for_only_where_there_is_one),
        cmocka_unit_test(settings_are_checked),
        cmocka_unit_test(without_the_program_the_adapter_is_not_offered),
        cmocka_unit_test(trees_are_read_changed_and_written),
        cmocka_unit_test(what_is_no_xml_or_too_much_is_refused),
    };
    return cmocka_run_group_tests(tests, setup, teardown);
}
