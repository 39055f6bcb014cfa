/* farshore-kvm: what the adapter `kvm` asks libvirt, each time as a process of its own (see kvm_helper.h).
 *
 *   farshore-kvm list [SOCKET]                the domains of the machine's libvirtd, or of the one behind a socket, as JSON
 *   farshore-kvm probe LOCATOR                size and identity of a disk
 *   farshore-kvm written LOCATOR              when its image was written the last time, 0: nobody knows
 *   farshore-kvm freeze HINT LOCATOR…         all of them at one moment
 *   farshore-kvm release|keep VIEW LOCATOR…   the view ends; with keep its checkpoint stays for the list of the next
 *   farshore-kvm forget LOCATOR…              nothing of ours stays in the domain: it is protected no more
 *   farshore-kvm where VIEW LOCATOR           the NBD URI of a disk's view, and of which list
 *   farshore-kvm capture LOCATOR…             the configuration of the domain
 *   farshore-kvm machine VERB PLACE REF NAME [group=GROUP] [recovery=FILE] [isolated] [CONFIG {LOCATOR FORMAT TARGET}…]
 *                                             a machine of recovered disks: create, on, shutdown, off, look, destroy, addresses, ping,
 *                                             keep, remains
 *   farshore-kvm source look|on|shutdown|off [uuid=UUID] LOCATOR…
 *                                             the protected domain itself; by its UUID where none has the name
 *
 * Answers are lines; a failure is the one line "fail OUTCOME CLASS words" and exit status 1. */
#include "adapters/kvm/kvm_helper.h"

#include <ctype.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>

static struct far_kvm_domain domain;

static const char help[] =
    "farshore-kvm: what farshore-node asks libvirt. By hand, on the hypervisor's machine:\n"
    "\n"
    "  list [SOCKET]                 the domains, as JSON, of the machine's libvirtd or of the one behind SOCKET\n"
    "  probe LOCATOR                 size and identity of a disk\n"
    "  forget LOCATOR...             nothing of Farshore stays in the domain: it is protected no more\n"
    "  capture LOCATOR...            what the domain is, as its points keep it\n"
    "  source look LOCATOR...        is it off, running, paused, absent?\n"
    "  source on|shutdown|off [uuid=UUID] LOCATOR...\n"
    "                                turned off it does not start with its host either, until it is turned on;\n"
    "                                where no domain has the name, the one of that UUID is meant\n"
    "  machine VERB PLACE REF NAME [group=GROUP] [recovery=FILE] [isolated] [CONFIG {LOCATOR FORMAT TARGET}...]\n"
    "                                a machine of recovered disks; VERB is one of\n"
    "      create                    defined from CONFIG (a file of what capture gave) with the disks: where each was,\n"
    "                                raw or qcow2, and the image's path or NBD URI; changed as the recovery file says\n"
    "      on, shutdown, off, look   its power; look says what it is\n"
    "      addresses, ping           what is known of its addresses; does the agent in it answer?\n"
    "      keep                      it is a domain like any other from then on\n"
    "      destroy, remains          nothing of it stays but its disks; what is there of it?\n"
    "\n"
    "What the node does in each cycle:\n"
    "\n"
    "  freeze HINT LOCATOR...        a view of all the disks at one moment\n"
    "  where VIEW LOCATOR            the NBD URI of a disk's view, and of which list of changes\n"
    "  release|keep VIEW LOCATOR...  the view ends; with keep its checkpoint stays for the list of the next\n"
    "\n"
    "LOCATOR is kvm:///DOMAIN/TARGET, as kvm:///web/vda, PLACE is kvm:///; behind both may stand ?socket=PATH of\n"
    "libvirtd's socket, behind a LOCATOR also folder=PATH for scratch files. Answers are lines; a failure is the\n"
    "one line \"fail OUTCOME CLASS words\" and exit status 1. docs/KVM.md says more.\n";

static void print_disk(const struct far_kvm_disk *disk, const char *token)
{
    printf("disk %llu kvm:%s:%s %s\n", (unsigned long long)disk->size_bytes, domain.uuid, disk->place.target, token);
}

static int freeze(const char *hint, struct far_adapter_error *ret_error)
{
    static struct far_kvm_view view;
    int outcome = far_kvm_freeze(&domain, hint, &view, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        printf("ref %s\n", view.ref);
        for (size_t i = 0; i < domain.disk_count; i++) {
            print_disk(&domain.disks[i], view.tokens[i][0] != '\0' ? view.tokens[i] : "-");
        }
    }
    return outcome;
}

/* QEMU writes its bitmaps when it ends: so this is when that was, of an image that has some. */
static int written(const char *locator, struct far_adapter_error *ret_error)
{
    struct stat st;
    int outcome = far_kvm_open(&locator, 1, &domain, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        bool is_file = domain.disks[0].path[0] != '\0' && stat(domain.disks[0].path, &st) == 0 && S_ISREG(st.st_mode);
        printf("written %lld\n", is_file ? (long long)st.st_mtim.tv_sec * 1000 + st.st_mtim.tv_nsec / 1000000 : 0LL);
    }
    return outcome;
}

/* A domain that is gone has no views any more. */
static int end(const char *ref, bool keeps, const char *const *locators, size_t count, struct far_adapter_error *ret_error)
{
    struct far_adapter_error said = {0};
    int outcome = far_kvm_open(locators, count, &domain, &said);
    if (outcome == FAR_ADAPTER_FATAL && said.klass == FAR_NOT_FOUND && domain.domain == NULL) {
        return FAR_ADAPTER_OK;
    }
    if (outcome != FAR_ADAPTER_OK && ret_error != NULL) {
        *ret_error = said;
    }
    return outcome == FAR_ADAPTER_OK ? far_kvm_end(&domain, ref, keeps, ret_error) : outcome;
}

static bool is_ref(const char *name)
{
    size_t len = 0;
    while (isalnum((unsigned char)name[len]) || (name[len] != '\0' && strchr("-_.", name[len]) != NULL)) {
        len++;
    }
    return len > 0 && len < 64 && name[len] == '\0';
}

static bool is_name(const char *name)
{
    size_t len = strlen(name);
    bool good = len > 0 && len <= 80 && name[0] != '.' && name[0] != ' ' && name[len - 1] != ' ';
    for (size_t i = 0; good && i < len; i++) {
        good = (unsigned char)name[i] >= 0x20 && name[i] != 0x7f && name[i] != '/';
    }
    return good;
}

/* "word=value": its value, else NULL. */
static const char *value_of(const char *argument, const char *word)
{
    size_t len = strlen(word);
    return argument != NULL && strncmp(argument, word, len) == 0 && argument[len] == '=' ? argument + len + 1 : NULL;
}

/* Behind "machine": the verb, place, ref, name, what is optional, and for create the configuration and three words for each disk. */
static int run_machine(int argc, const char *const *argv, struct far_adapter_error *ret_error)
{
    static struct far_kvm_machine machine = {.recovery_path = ""};
    static const char over[] = "qcow2:";
    struct far_kvm_place place;
    int at = 6, outcome = argc >= 6 ? far_kvm_place_uri(argv[3], machine.uri, ret_error) : FAR_ADAPTER_OK;
    if (argc < 6 || outcome != FAR_ADAPTER_OK) {
        return argc < 6 ? far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "usage: farshore-kvm machine VERB PLACE REF NAME")
                        : outcome;
    }
    machine.ref = argv[4];
    machine.name = argv[5];
    const char *group = value_of(argv[at], "group");
    at += group != NULL;
    machine.group = group != NULL ? group : machine.ref;
    const char *recovery = value_of(argv[at], "recovery");
    at += recovery != NULL;
    machine.recovery_path = recovery != NULL ? recovery : "";
    const char *speed = value_of(argv[at], "speed");
    at += speed != NULL;
    machine.speed = speed != NULL ? strtoul(speed, NULL, 10) : 0;
    if (!is_ref(machine.ref) || !is_ref(machine.group)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "'%.100s' is no ref of a machine: 1 to 63 letters, digits, - _ .", argv[4]);
    }
    if (!is_name(machine.name)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "'%.100s' is no name for a machine: 1 to 80 bytes, none of them '/' or a control character, the first "
                                "no '.'",
                                machine.name);
    }
    machine.isolated = argc > at && strcmp(argv[at], "isolated") == 0;
    at += machine.isolated;
    machine.config = argc > at ? argv[at] : "";
    for (at++; outcome == FAR_ADAPTER_OK && at + 2 < argc && machine.disk_count < FAR_KVM_DISKS_MAX; at += 3) {
        struct far_kvm_machine_disk *disk = &machine.disks[machine.disk_count++];
        outcome = far_kvm_place(argv[at], &place, ret_error);
        snprintf(disk->target, sizeof disk->target, "%s", place.target);
        bool is_over = strncmp(argv[at + 1], over, strlen(over)) == 0; /* "qcow2:SOCKET": what is served there */
        disk->format = is_over ? "qcow2" : argv[at + 1];
        disk->backing = is_over ? argv[at + 1] + strlen(over) : "";
        disk->path = argv[at + 2];
    }
    return outcome == FAR_ADAPTER_OK ? far_kvm_machine(&machine, argv[2], ret_error) : outcome;
}

/* One that is not there cannot be turned off: where it is, whoever asks is told that nobody knows. */
static int run_source(const char *verb, const char *const *locators, size_t count, struct far_adapter_error *ret_error)
{
    struct far_adapter_error said = {0};
    const char *uuid = value_of(locators[0], "uuid");
    locators += uuid != NULL;
    count -= uuid != NULL;
    int outcome = far_kvm_open_as(locators, count, uuid, &domain, &said);
    if (outcome == FAR_ADAPTER_FATAL && said.klass == FAR_NOT_FOUND && domain.domain == NULL && strcmp(verb, "on") != 0) {
        printf("state absent\n");
        return FAR_ADAPTER_OK;
    }
    if (outcome != FAR_ADAPTER_OK && ret_error != NULL) {
        *ret_error = said;
    }
    return outcome == FAR_ADAPTER_OK ? far_kvm_source(&domain, verb, ret_error) : outcome;
}

static int run(int argc, const char *const *argv, struct far_adapter_error *ret_error)
{
    const char *verb = argv[1];
    if (strcmp(verb, "list") == 0 && argc <= 3) {
        char uri[PATH_MAX];
        snprintf(uri, sizeof uri, "qemu:///system%s%s", argc == 3 ? "?socket=" : "", argc == 3 ? argv[2] : "");
        return far_kvm_list(uri, ret_error);
    }
    if (strcmp(verb, "machine") == 0) {
        return run_machine(argc, argv, ret_error);
    }
    if (strcmp(verb, "source") == 0 && argc >= 4) {
        return run_source(argv[2], &argv[3], (size_t)argc - 3, ret_error);
    }
    if (strcmp(verb, "capture") == 0 && argc >= 3) {
        int outcome = far_kvm_open(&argv[2], (size_t)argc - 2, &domain, ret_error);
        return outcome == FAR_ADAPTER_OK ? far_kvm_capture(&domain, ret_error) : outcome;
    }
    if (strcmp(verb, "probe") == 0 && argc == 3) {
        int outcome = far_kvm_open(&argv[2], 1, &domain, ret_error);
        if (outcome == FAR_ADAPTER_OK) {
            print_disk(&domain.disks[0], "-");
        }
        return outcome;
    }
    if (strcmp(verb, "written") == 0 && argc == 3) {
        return written(argv[2], ret_error);
    }
    if (strcmp(verb, "forget") == 0 && argc >= 3) {
        int outcome = far_kvm_open(&argv[2], (size_t)argc - 2, &domain, ret_error);
        return outcome == FAR_ADAPTER_OK ? far_kvm_forget(&domain, ret_error) : outcome;
    }
    bool keeps = strcmp(verb, "keep") == 0;
    if (argc >= 4 && (keeps || strcmp(verb, "release") == 0)) {
        return end(argv[2], keeps, &argv[3], (size_t)argc - 3, ret_error);
    }
    if (argc >= 4 && (strcmp(verb, "freeze") == 0 || (strcmp(verb, "where") == 0 && argc == 4))) {
        int outcome = far_kvm_open(&argv[3], (size_t)argc - 3, &domain, ret_error);
        return outcome != FAR_ADAPTER_OK ? outcome
               : verb[0] == 'f'          ? freeze(argv[2], ret_error)
                                         : far_kvm_where(&domain, argv[2], ret_error);
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                            "usage: farshore-kvm list [SOCKET] | probe LOCATOR | freeze HINT LOCATOR... | release VIEW LOCATOR... | "
                            "keep VIEW LOCATOR... | where VIEW LOCATOR | forget LOCATOR... | capture LOCATOR... | "
                            "machine VERB PLACE REF NAME ... | source VERB LOCATOR...; --help says more");
}

int main(int argc, char **argv)
{
    struct far_adapter_error said = {0};
    signal(SIGPIPE, SIG_IGN);
    if (argc == 3 && strcmp(argv[1], "guard") == 0) {
        return far_kvm_guard(argv[2]);
    }
    if (argc == 10 && strcmp(argv[1], "hold") == 0) {
        return far_kvm_hold((const char *const *)&argv[2]);
    }
    if (argc >= 2 && (strcmp(argv[1], "--help") == 0 || strcmp(argv[1], "help") == 0)) {
        return fputs(help, stdout) >= 0 && fflush(stdout) == 0 ? 0 : 1;
    }
    int outcome = argc >= 2 ? run(argc, (const char *const *)argv, &said) : run(2, (const char *const[]){argv[0], "", NULL}, &said);
    far_kvm_close(&domain);
    if (outcome != FAR_ADAPTER_OK) {
        for (char *c = said.message; *c != '\0'; c++) {
            *c = *c == '\n' ? ' ' : *c;
        }
        printf("fail %d %d %s\n", outcome, said.klass, said.message);
    }
    return fflush(stdout) == 0 && outcome == FAR_ADAPTER_OK ? 0 : 1;
}
