/* Machines of what is wrapped; and, where they are asked for, configurations from a file beside the first disk, for installations whose
 * platform has no machines. */
#include "adapters/fault/fault.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>

/* Whoever changes it puts another one in its place. */
static int read_beside(const char *locator, char *ret_config, size_t size, struct far_adapter_error *ret_error)
{
    char path[PATH_MAX];
    int len = snprintf(path, sizeof path, "%s.machine", locator);
    FILE *file = len > 0 && (size_t)len < sizeof path ? fopen(path, "re") : NULL;
    if (file == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND, "open '%.200s': %s", path, strerror(errno));
    }
    size_t got = fread(ret_config, 1, size, file);
    bool whole = ferror(file) == 0 && got < size;
    fclose(file);
    if (!whole) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_LIMIT, "'%.200s' cannot be read, or is longer than %zu bytes", path,
                                size);
    }
    ret_config[got] = '\0';
    return FAR_ADAPTER_OK;
}

static int fault_capture(void *platform, const struct far_adapter_disk *disks, size_t count, char *ret_config, size_t size,
                         struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_machines *machines = fault->inner->machines;
    if (fault->number[FAR_FAULT_CAPTURE_BESIDE] != 0 && count > 0) {
        return read_beside(disks[0].locator, ret_config, size, ret_error);
    }
    ret_config[0] = '\0';
    return machines != NULL ? machines->capture(fault->platform, disks, count, ret_config, size, ret_error) : FAR_ADAPTER_OK;
}

static int none(struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the platform that is wrapped has no machines");
}

static int fault_create(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_machines *machines = fault->inner->machines;
    return machines != NULL ? machines->create(fault->platform, ref, machine, ret_error) : none(ret_error);
}

static int fault_power(void *platform, const char *ref, const struct far_adapter_machine *machine, int power,
                       struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_machines *machines = fault->inner->machines;
    return machines != NULL ? machines->power(fault->platform, ref, machine, power, ret_error) : none(ret_error);
}

static int fault_look(void *platform, const char *ref, const struct far_adapter_machine *machine, int *ret_state,
                      struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_machines *machines = fault->inner->machines;
    return machines != NULL ? machines->look(fault->platform, ref, machine, ret_state, ret_error) : none(ret_error);
}

static int fault_destroy(void *platform, const char *ref, const struct far_adapter_machine *machine, struct far_adapter_error *ret_error)
{
    struct far_fault *fault = platform;
    const struct far_adapter_machines *machines = fault->inner->machines;
    return machines != NULL ? machines->destroy(fault->platform, ref, machine, ret_error) : none(ret_error);
}

const struct far_adapter_machines far_fault_machines = {
    .version = FAR_ADAPTER_VERSION,
    .capture = fault_capture,
    .create = fault_create,
    .power = fault_power,
    .look = fault_look,
    .destroy = fault_destroy,
};
