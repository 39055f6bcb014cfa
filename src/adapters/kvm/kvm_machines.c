/* Machines of recovered disks on KVM, as the node asks for them: the configuration goes to `farshore-kvm` through a file in memory. */
#define _GNU_SOURCE
#include "adapters/kvm/kvm_adapter.h"

#include "base/buf.h"
#include "base/error.h"

#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MACHINE_DISKS_MAX = 64 /* with what else it says: FAR_KVM_ARGUMENTS_MAX */, RECOVERY_MAX = 256 * 1024 };

static int no_memory(struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
}

/* kvm_nvram.c says why the firmware's variables could not come along. */
static void note_missed(const char *config, struct far_adapter_error *ret_error)
{
    static const char element[] = "<farshore:nvram ", word[] = " missed='";
    const char *at = strstr(config, element), *missed = at != NULL ? strstr(at, word) : NULL;
    const char *end = at != NULL ? strchr(at, '>') : NULL;
    if (missed != NULL && missed < end && ret_error != NULL) {
        missed += strlen(word);
        snprintf(ret_error->message, sizeof ret_error->message, "the variables of its UEFI firmware (NVRAM): %.*s",
                 (int)strcspn(missed, "'"), missed);
    }
}

static int kvm_capture(void *platform, const struct far_adapter_disk *disks, size_t count, char *ret_config, size_t size,
                       struct far_adapter_error *ret_error)
{
    const char *arguments[MACHINE_DISKS_MAX + 2] = {"capture"};
    char *answer = count > 0 && count <= MACHINE_DISKS_MAX ? malloc(FAR_KVM_ANSWER_MAX) : NULL;
    if (answer == NULL) {
        return no_memory(ret_error);
    }
    for (size_t i = 0; i < count; i++) {
        arguments[1 + i] = disks[i].locator;
    }
    int outcome = far_kvm_call(far_kvm_timeout_ms(platform), arguments, answer, ret_error);
    if (outcome == FAR_ADAPTER_OK && (strlen(answer) >= size || strstr(answer, "</domain>") == NULL)) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_LIMIT, "the configuration of the domain is longer than %zu bytes",
                                   size < FAR_KVM_ANSWER_MAX ? size : (size_t)FAR_KVM_ANSWER_MAX);
    }
    if (outcome == FAR_ADAPTER_OK) {
        strcpy(ret_config, answer);
        note_missed(answer, ret_error);
    }
    free(answer);
    return outcome;
}

struct documents {
    const char *config, *recovery; /* paths; NULL: none */
    char (*formats)[128];          /* of each disk; "": its own */
};

static int ask(void *platform, const char *verb, const char *ref, const struct far_adapter_machine *machine,
               const struct documents *documents, char *answer, struct far_adapter_error *ret_error)
{
    const char *arguments[FAR_KVM_ARGUMENTS_MAX + 1] = {"machine", verb, machine->place, ref, machine->name};
    char group[128], speed[32];
    size_t count = 5;
    if (machine->group != NULL) {
        snprintf(group, sizeof group, "group=%.100s", machine->group);
        arguments[count++] = group;
    }
    if (documents != NULL) {
        arguments[count++] = documents->recovery;
    }
    if (strcmp(verb, "hydrate") == 0) {
        snprintf(speed, sizeof speed, "speed=%llu", (unsigned long long)machine->hydrate_bytes_per_s);
        arguments[count++] = speed;
    }
    if (machine->isolated) {
        arguments[count++] = "isolated";
    }
    if (documents != NULL) {
        arguments[count++] = documents->config;
    }
    for (size_t i = 0; documents != NULL && i < machine->disk_count; i++) {
        arguments[count++] = machine->disks[i].source;
        bool is_over = documents->formats != NULL && documents->formats[i][0] != '\0';
        arguments[count++] = is_over ? documents->formats[i] : machine->disks[i].format;
        arguments[count++] = machine->disks[i].target;
    }
    return far_kvm_call(far_kvm_timeout_ms(platform), arguments, answer, ret_error);
}

static int ask_simply(void *platform, const char *verb, const char *ref, const struct far_adapter_machine *machine,
                      struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask(platform, verb, ref, machine, NULL, answer, ret_error) : no_memory(ret_error);
    free(answer);
    return outcome;
}

/* ---- create ---- */

/* One line; what would break it is refused. */
static int put_line(struct far_buf *text, const char *word, const char *const *fields, size_t count, struct far_adapter_error *ret_error)
{
    int rc = far_buf_append_str(text, word);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const char *field = fields[i] != NULL ? fields[i] : "";
        if (strpbrk(field, "\t\n\r") != NULL) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a control character in the recovery configuration");
        }
        rc = far_buf_printf(text, "\t%s", field);
    }
    rc = rc == 0 ? far_buf_append_str(text, "\n") : rc;
    return rc == 0 ? FAR_ADAPTER_OK : no_memory(ret_error);
}

static int put_number(struct far_buf *text, const char *word, uint64_t value, struct far_adapter_error *ret_error)
{
    char number[24];
    snprintf(number, sizeof number, "%llu", (unsigned long long)value);
    return value == 0 ? FAR_ADAPTER_OK : put_line(text, word, (const char *const[]){number}, 1, ret_error);
}

static int put_nic(struct far_buf *text, const struct far_adapter_machine_nic *nic, struct far_adapter_error *ret_error)
{
    char index[16], prefix[16];
    snprintf(index, sizeof index, "%u", nic->index);
    snprintf(prefix, sizeof prefix, "%u", nic->prefix);
    const char *mapped = nic->is_mapped ? "mapped" : "";
    const char *fields[] = {index, nic->mac, nic->network, nic->test_network, nic->address, prefix, nic->gateway, mapped};
    return put_line(text, "nic", fields, sizeof fields / sizeof fields[0], ret_error);
}

/* As kvm_recovery.c reads it. */
static int write_recovery(const struct far_adapter_machine *machine, struct far_buf *text, struct far_adapter_error *ret_error)
{
    const char *firmware = machine->firmware == FAR_ADAPTER_FIRMWARE_UEFI ? "uefi" : "bios";
    int outcome = put_number(text, "processors", machine->processors, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? put_number(text, "memory", machine->memory_bytes, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK && machine->firmware != FAR_ADAPTER_FIRMWARE_SAME) {
        outcome = put_line(text, "firmware", &firmware, 1, ret_error);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < machine->nic_count; i++) {
        outcome = put_nic(text, &machine->nics[i], ret_error);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < machine->network_count; i++) {
        const struct far_adapter_machine_network *network = &machine->networks[i];
        const char *fields[] = {network->source, network->target, network->test, network->source_subnet, network->target_subnet};
        outcome = put_line(text, "network", fields, sizeof fields / sizeof fields[0], ret_error);
    }
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < machine->tag_count; i++) {
        outcome = put_line(text, "tag", (const char *const[]){machine->tags[i].key, machine->tags[i].value}, 2, ret_error);
    }
    return outcome;
}

/* A file in memory, and the path by which the child reads it; -1: no memory. */
static int in_memory(const void *bytes, size_t length, char path[64])
{
    int fd = memfd_create("farshore-machine", MFD_CLOEXEC);
    if (fd >= 0 && length > 0 && write(fd, bytes, length) != (ssize_t)length) {
        close(fd);
        return -1;
    }
    snprintf(path, 64, "/proc/%d/fd/%d", (int)getpid(), fd);
    return fd;
}

static int kvm_create(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    char config[64], recovery[64], argument[80];
    struct far_buf text;
    if (machine->disk_count == 0 || machine->disk_count > MACHINE_DISKS_MAX) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a machine of %zu disks", machine->disk_count);
    }
    far_buf_init(&text, RECOVERY_MAX);
    int outcome = write_recovery(machine, &text, ret_error);
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int config_fd = in_memory(machine->config, strlen(machine->config), config), recovery_fd = in_memory(text.data, text.len, recovery);
    snprintf(argument, sizeof argument, "recovery=%s", recovery);
    if (outcome == FAR_ADAPTER_OK && (answer == NULL || config_fd < 0 || recovery_fd < 0)) {
        outcome = no_memory(ret_error);
    } else if (outcome == FAR_ADAPTER_OK) {
        char formats[MACHINE_DISKS_MAX][128];
        for (size_t i = 0; i < machine->disk_count; i++) {
            bool is_over = machine->disks[i].backing != NULL && machine->disks[i].backing[0] != '\0';
            snprintf(formats[i], sizeof formats[i], "%s%.110s", is_over ? "qcow2:" : "", is_over ? machine->disks[i].backing : "");
        }
        const struct documents documents = {.config = config, .recovery = argument, .formats = formats};
        outcome = ask(platform, "create", ref, machine, &documents, answer, ret_error);
    }
    if (config_fd >= 0) {
        close(config_fd);
    }
    if (recovery_fd >= 0) {
        close(recovery_fd);
    }
    far_buf_done(&text);
    free(answer);
    return outcome;
}

/* ---- the rest ---- */

static const char *verb_of(int power)
{
    return power == FAR_ADAPTER_POWER_ON ? "on" : power == FAR_ADAPTER_POWER_SHUTDOWN ? "shutdown" : "off";
}

static int kvm_power(void *platform, const char *ref, const struct far_adapter_machine *machine, int power,
                     struct far_adapter_error *ret_error)
{
    return ask_simply(platform, verb_of(power), ref, machine, ret_error);
}

static int state_of(const char *answer, const char *name, int *ret_state, struct far_adapter_error *ret_error)
{
    static const struct {
        const char *words;
        int state;
    } states[] = {{"state absent", FAR_ADAPTER_MACHINE_ABSENT},
                  {"state off", FAR_ADAPTER_MACHINE_OFF},
                  {"state running", FAR_ADAPTER_MACHINE_RUNNING},
                  {"state paused", FAR_ADAPTER_MACHINE_PAUSED},
                  {"state stopped", FAR_ADAPTER_MACHINE_STOPPED}};
    for (size_t i = 0; i < sizeof states / sizeof states[0]; i++) {
        if (strncmp(answer, states[i].words, strlen(states[i].words)) == 0) {
            *ret_state = states[i].state;
            return FAR_ADAPTER_OK;
        }
    }
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INTERNAL, "farshore-kvm says nothing of '%.60s'", name);
}

static int kvm_look(void *platform, const char *ref, const struct far_adapter_machine *machine, int *ret_state,
                    struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask(platform, "look", ref, machine, NULL, answer, ret_error) : no_memory(ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? state_of(answer, machine->name, ret_state, ret_error) : outcome;
    free(answer);
    return outcome;
}

static int kvm_destroy(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    return ask_simply(platform, "destroy", ref, machine, ret_error);
}

/* What stands behind `word` in each line that begins with it, one after the other. */
static int ask_for_list(void *platform, const char *verb, const char *ref, const struct far_adapter_machine *machine, const char *word,
                        char *ret_text, size_t size, size_t *ret_count, struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask(platform, verb, ref, machine, NULL, answer, ret_error) : no_memory(ret_error);
    size_t used = 0, count = 0, length = strlen(word);
    for (const char *line = answer; outcome == FAR_ADAPTER_OK && *line != '\0'; line += strcspn(line, "\n"), line += *line == '\n') {
        size_t len = strcspn(line, "\n");
        if (len > length && strncmp(line, word, length) == 0 && line[length] == ' ' && used + len - length <= size) {
            used += (size_t)snprintf(ret_text + used, size - used, "%.*s", (int)(len - length - 1), line + length + 1) + 1;
            count++;
        }
    }
    if (outcome == FAR_ADAPTER_OK) {
        *ret_count = count;
    }
    free(answer);
    return outcome;
}

static int kvm_addresses(void *platform, const char *ref, const struct far_adapter_machine *machine, char *ret_text, size_t size,
                         size_t *ret_count, struct far_adapter_error *ret_error)
{
    return ask_for_list(platform, "addresses", ref, machine, "address", ret_text, size, ret_count, ret_error);
}

static int kvm_ping(void *platform, const char *ref, const struct far_adapter_machine *machine, bool *ret_answers,
                    struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask(platform, "ping", ref, machine, NULL, answer, ret_error) : no_memory(ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        *ret_answers = strncmp(answer, "agent answers", strlen("agent answers")) == 0;
    }
    free(answer);
    return outcome;
}

static int kvm_keep(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    return ask_simply(platform, "keep", ref, machine, ret_error);
}

static int kvm_remains(void *platform, const char *ref, const struct far_adapter_machine *machine, char *ret_text, size_t size,
                       size_t *ret_count, struct far_adapter_error *ret_error)
{
    return ask_for_list(platform, "remains", ref, machine, "left", ret_text, size, ret_count, ret_error);
}

static int kvm_hydrate(void *platform, const char *ref, const struct far_adapter_machine *machine, uint64_t *ret_done, uint64_t *ret_total,
                       bool *ret_is_over, struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX), word[8] = "";
    unsigned long long done = 0, total = 0;
    int outcome = answer != NULL ? ask(platform, "hydrate", ref, machine, NULL, answer, ret_error) : no_memory(ret_error);
    if (outcome == FAR_ADAPTER_OK && sscanf(answer, "hydrated %llu %llu %7s", &done, &total, word) != 3) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INTERNAL, "farshore-kvm says nothing of '%.60s'", machine->name);
    }
    *ret_done = done;
    *ret_total = total;
    *ret_is_over = strcmp(word, "over") == 0;
    free(answer);
    return outcome;
}

/* ---- the protected machine ---- */

/* "uuid=…" of a configuration; "": it has none. */
static void uuid_of(const char *config, char argument[64])
{
    static const char head[] = "<uuid>";
    const char *found = config != NULL ? strstr(config, head) : NULL;
    size_t len = found != NULL ? strspn(found + strlen(head), "0123456789abcdefABCDEF-") : 0;
    argument[0] = '\0';
    if (len == 36) {
        snprintf(argument, 64, "uuid=%.36s", found + strlen(head));
    }
}

static int ask_source(void *platform, const char *verb, const struct far_adapter_disk *disks, size_t count, const char *config,
                      char *answer, struct far_adapter_error *ret_error)
{
    char uuid[64];
    const char *arguments[MACHINE_DISKS_MAX + 4] = {"source", verb, uuid};
    uuid_of(config, uuid);
    size_t head = 2 + (uuid[0] != '\0');
    if (count == 0 || count > MACHINE_DISKS_MAX) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a machine of %zu disks", count);
    }
    for (size_t i = 0; i < count; i++) {
        arguments[head + i] = disks[i].locator;
    }
    return far_kvm_call(far_kvm_timeout_ms(platform), arguments, answer, ret_error);
}

static int kvm_source_power(void *platform, const struct far_adapter_disk *disks, size_t count, const char *config, int power,
                            struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask_source(platform, verb_of(power), disks, count, config, answer, ret_error) : no_memory(ret_error);
    free(answer);
    return outcome;
}

static int kvm_source_look(void *platform, const struct far_adapter_disk *disks, size_t count, const char *config, int *ret_state,
                           struct far_adapter_error *ret_error)
{
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask_source(platform, "look", disks, count, config, answer, ret_error) : no_memory(ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? state_of(answer, disks[0].locator, ret_state, ret_error) : outcome;
    free(answer);
    return outcome;
}

/* kvm:///NAME/TARGET, with the place's own settings; TARGET as it was. */
static int kvm_disk_locator(void *platform, const struct far_adapter_machine *machine, const char *source, char *ret_locator, size_t size,
                            struct far_adapter_error *ret_error)
{
    static const char scheme[] = "kvm:///";
    const char *settings = strchr(machine->place, '?');
    const char *target = strncmp(source, scheme, strlen(scheme)) == 0 ? strchr(source + strlen(scheme), '/') : NULL;
    char name[3 * 80 + 1];
    size_t used = 0;
    for (const char *c = machine->name; *c != '\0' && used + 4 < sizeof name; c++) {
        bool is_plain = isalnum((unsigned char)*c) || strchr("-_.", *c) != NULL;
        used += (size_t)sprintf(name + used, is_plain ? "%c" : "%%%02X", (unsigned char)*c);
    }
    name[used] = '\0';
    int n = target != NULL ? snprintf(ret_locator, size, "%s%s/%.*s%s", scheme, name, (int)strcspn(target + 1, "?"), target + 1,
                                      settings != NULL ? settings : "")
                           : -1;
    return n > 0 && (size_t)n < size ? FAR_ADAPTER_OK
                                     : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                                        "'%.200s' names no disk of a domain", source);
}

const struct far_adapter_machines far_kvm_machines = {
    .version = FAR_ADAPTER_MACHINES_VERSION,
    .capture = kvm_capture,
    .create = kvm_create,
    .power = kvm_power,
    .look = kvm_look,
    .destroy = kvm_destroy,
    .addresses = kvm_addresses,
    .ping = kvm_ping,
    .keep = kvm_keep,
    .remains = kvm_remains,
    .source_power = kvm_source_power,
    .source_look = kvm_source_look,
    .disk_locator = kvm_disk_locator,
    .hydrate = kvm_hydrate,
};
