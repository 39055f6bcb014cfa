/* Machines of recovered disks on KVM, as the node asks for them: the configuration goes to `farshore-kvm` through a file in memory. */
#define _GNU_SOURCE
#include "adapters/kvm/kvm_adapter.h"

#include "base/error.h"

#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

enum { MACHINE_DISKS_MAX = 64 };

static int no_memory(struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
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
    }
    free(answer);
    return outcome;
}

static int ask(void *platform, const char *verb, const char *ref, const struct far_adapter_machine *machine, const char *config,
               char *answer, struct far_adapter_error *ret_error)
{
    const char *arguments[FAR_KVM_ARGUMENTS_MAX + 1] = {"machine", verb, machine->place, ref, machine->name};
    size_t count = 5;
    if (machine->isolated) {
        arguments[count++] = "isolated";
    }
    if (config != NULL) {
        arguments[count++] = config;
    }
    for (size_t i = 0; config != NULL && i < machine->disk_count; i++) {
        arguments[count++] = machine->disks[i].source;
        arguments[count++] = machine->disks[i].format;
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

static int kvm_create(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    char path[64];
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int fd = memfd_create("farshore-machine", MFD_CLOEXEC), outcome = FAR_ADAPTER_OK;
    size_t length = strlen(machine->config);
    if (machine->disk_count == 0 || machine->disk_count > MACHINE_DISKS_MAX) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a machine of %zu disks", machine->disk_count);
    } else if (answer == NULL || fd < 0 || write(fd, machine->config, length) != (ssize_t)length) {
        outcome = no_memory(ret_error);
    } else {
        snprintf(path, sizeof path, "/proc/%d/fd/%d", (int)getpid(), fd);
        outcome = ask(platform, "create", ref, machine, path, answer, ret_error);
    }
    if (fd >= 0) {
        close(fd);
    }
    free(answer);
    return outcome;
}

static int kvm_power(void *platform, const char *ref, const struct far_adapter_machine *machine, int power,
                     struct far_adapter_error *ret_error)
{
    const char *verb = power == FAR_ADAPTER_POWER_ON ? "on" : power == FAR_ADAPTER_POWER_SHUTDOWN ? "shutdown" : "off";
    return ask_simply(platform, verb, ref, machine, ret_error);
}

static int kvm_look(void *platform, const char *ref, const struct far_adapter_machine *machine, int *ret_state,
                    struct far_adapter_error *ret_error)
{
    static const struct {
        const char *words;
        int state;
    } states[] = {{"state absent", FAR_ADAPTER_MACHINE_ABSENT},
                  {"state off", FAR_ADAPTER_MACHINE_OFF},
                  {"state running", FAR_ADAPTER_MACHINE_RUNNING},
                  {"state paused", FAR_ADAPTER_MACHINE_PAUSED}};
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? ask(platform, "look", ref, machine, NULL, answer, ret_error) : no_memory(ret_error), found = 0;
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < sizeof states / sizeof states[0]; i++) {
        found = strncmp(answer, states[i].words, strlen(states[i].words)) == 0 ? states[i].state : found;
    }
    if (outcome == FAR_ADAPTER_OK && found == 0) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INTERNAL, "farshore-kvm says nothing of '%.60s'", machine->name);
    }
    *ret_state = outcome == FAR_ADAPTER_OK ? found : *ret_state;
    free(answer);
    return outcome;
}

static int kvm_destroy(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    return ask_simply(platform, "destroy", ref, machine, ret_error);
}

const struct far_adapter_machines far_kvm_machines = {
    .version = FAR_ADAPTER_VERSION,
    .capture = kvm_capture,
    .create = kvm_create,
    .power = kvm_power,
    .look = kvm_look,
    .destroy = kvm_destroy,
};
