/* One operation on a machine by an engine of its own, as a node carries it out, for tests that need no cluster for it.
 *
 *   machine_driver up|gate|destroy|source_off|source_on|keep KEY=VALUE…
 *
 * Keys of the node: place, recovery_dir, scripts_dir, scripts_user. Of the order: job, ref, name, plan, workload, config (a file),
 * isolated, processors, memory, firmware, gate (address, port:N, agent, script:NAME), timeout, force; and several times, their fields
 * apart by commas: disk=NAME,SOURCE,TARGET nic=INDEX,MAC,NETWORK,TEST,ADDRESS,PREFIX,GATEWAY,mapped
 * network=SOURCE,TARGET,TEST,SUBNET,SUBNET tag=KEY,VALUE.
 *
 * What comes of it are lines, each a word and its value; "failed CLASS words" and exit status 1 where it failed. */
#include "adapters/adapters.h"
#include "dataplane/engine.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { EACH_MAX = 8, FIELDS = 8, CONFIG_MAX = FAR_ADAPTER_CONFIG_TEXT_MAX };

struct words {
    char *fields[FIELDS];
};

static struct far_engine_config node;
static struct far_engine_order order = {.job_id = 7, .task = 1, .attempt = 1, .kind = FAR_ENGINE_MACHINE, .adapter = "kvm", .plan = "gold",
                                        .workload = "web"};
static struct far_engine_machine_disk disks[EACH_MAX];
static struct far_engine_disk sources[EACH_MAX];
static struct far_adapter_machine_nic nics[EACH_MAX];
static struct far_adapter_machine_network networks[EACH_MAX];
static struct far_adapter_machine_tag tags[EACH_MAX];
static char config[CONFIG_MAX];

static pthread_mutex_t mutex = PTHREAD_MUTEX_INITIALIZER;
static pthread_cond_t ended = PTHREAD_COND_INITIALIZER;
static struct far_engine_report last;

static void on_report(void *arg, const struct far_engine_report *report)
{
    (void)arg;
    pthread_mutex_lock(&mutex);
    if (report->state != FAR_ENGINE_RUNNING) {
        last = *report;
        last.machined = far_engine_machined_ref(report->machined);
        pthread_cond_signal(&ended);
    }
    pthread_mutex_unlock(&mutex);
}

static struct words split(char *value)
{
    struct words words = {{"", "", "", "", "", "", "", ""}};
    for (size_t i = 0; i < FIELDS && value != NULL; i++) {
        words.fields[i] = strsep(&value, ",");
    }
    return words;
}

static void take_gate(struct far_engine_machine *machine, char *value)
{
    char *colon = strchr(value, ':');
    const char *rest = colon != NULL ? colon + 1 : "";
    machine->gate = strncmp(value, "port", 4) == 0     ? FAR_ENGINE_GATE_PORT
                    : strncmp(value, "agent", 5) == 0  ? FAR_ENGINE_GATE_AGENT
                    : strncmp(value, "script", 6) == 0 ? FAR_ENGINE_GATE_SCRIPT
                                                       : FAR_ENGINE_GATE_ADDRESS;
    machine->gate_port = strtoull(rest, NULL, 10);
    machine->gate_script = rest;
}

static void take_config(const char *path)
{
    FILE *file = fopen(path, "r");
    size_t n = file != NULL ? fread(config, 1, sizeof config - 1, file) : 0;
    config[n] = '\0';
    if (file != NULL) {
        fclose(file);
    }
    order.machine.config = config;
}

/* What may stand several times; false: it is not that. */
static bool take_one_of_many(const char *key, char *value)
{
    struct far_engine_machine *machine = &order.machine;
    bool is_disk = strcmp(key, "disk") == 0, is_nic = strcmp(key, "nic") == 0, is_network = strcmp(key, "network") == 0;
    if (!is_disk && !is_nic && !is_network && strcmp(key, "tag") != 0) {
        return false;
    }
    struct words w = split(value);
    if (is_disk && machine->disk_count < EACH_MAX) {
        sources[order.disk_count++] = (struct far_engine_disk){.name = w.fields[0], .locator = w.fields[1]};
        disks[machine->disk_count++] =
            (struct far_engine_machine_disk){.name = w.fields[0], .source = w.fields[1], .target = w.fields[2]};
    } else if (is_nic && machine->nic_count < EACH_MAX) {
        nics[machine->nic_count++] = (struct far_adapter_machine_nic){.index = (uint32_t)atoi(w.fields[0]),
                                                                      .mac = w.fields[1],
                                                                      .network = w.fields[2],
                                                                      .test_network = w.fields[3],
                                                                      .address = w.fields[4],
                                                                      .prefix = (uint32_t)atoi(w.fields[5]),
                                                                      .gateway = w.fields[6],
                                                                      .is_mapped = strcmp(w.fields[7], "mapped") == 0};
    } else if (is_network && machine->network_count < EACH_MAX) {
        networks[machine->network_count++] = (struct far_adapter_machine_network){.source = w.fields[0],
                                                                                  .target = w.fields[1],
                                                                                  .test = w.fields[2],
                                                                                  .source_subnet = w.fields[3],
                                                                                  .target_subnet = w.fields[4]};
    } else if (machine->tag_count < EACH_MAX) {
        tags[machine->tag_count++] = (struct far_adapter_machine_tag){.key = w.fields[0], .value = w.fields[1]};
    }
    return true;
}

static bool take(char *argument)
{
    struct far_engine_machine *machine = &order.machine;
    char *value = strchr(argument, '=');
    if (value == NULL) {
        return false;
    }
    *value++ = '\0';
    const struct {
        const char *key, **text;
    } texts[] = {{"place", &node.machines_place},     {"recovery_dir", &node.recovery_dir}, {"scripts_dir", &node.scripts_dir},
                 {"scripts_user", &node.scripts_user}, {"ref", &machine->ref},               {"name", &machine->name},
                 {"plan", &order.plan},                {"workload", &order.workload}};
    const struct {
        const char *key;
        uint64_t *number;
    } numbers[] = {{"job", &order.job_id}, {"processors", &machine->processors}, {"memory", &machine->memory_bytes},
                   {"timeout", &machine->timeout_s}};
    for (size_t i = 0; i < sizeof texts / sizeof texts[0]; i++) {
        if (strcmp(argument, texts[i].key) == 0) {
            *texts[i].text = value;
            return true;
        }
    }
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(argument, numbers[i].key) == 0) {
            *numbers[i].number = strtoull(value, NULL, 10);
            return true;
        }
    }
    if (strcmp(argument, "config") == 0) {
        take_config(value);
    } else if (strcmp(argument, "firmware") == 0) {
        machine->firmware = strcmp(value, "uefi") == 0 ? FAR_ADAPTER_FIRMWARE_UEFI : FAR_ADAPTER_FIRMWARE_BIOS;
    } else if (strcmp(argument, "gate") == 0) {
        take_gate(machine, value);
    } else if (strcmp(argument, "isolated") == 0) {
        machine->isolated = true;
    } else if (strcmp(argument, "force") == 0) {
        machine->force = true;
    } else {
        return take_one_of_many(argument, value);
    }
    return true;
}

static int tell(void)
{
    const struct far_engine_machined *machined = last.machined;
    if (machined != NULL) {
        printf("state %s\naddress %s\nwas_off %d\nwas_forced %d\nplatform_ms %llu\nwaited_ms %llu\nduration_ms %llu\n", machined->state,
               machined->address, machined->was_off, machined->was_forced, (unsigned long long)machined->platform_ms,
               (unsigned long long)machined->waited_ms, (unsigned long long)last.duration_ms);
        for (size_t i = 0; i < machined->left_count; i++) {
            printf("left %s\n", machined->left[i]);
        }
        for (size_t i = 0; i < machined->disk_count; i++) {
            printf("disk %s %s\n", machined->disks[i].name, machined->disks[i].locator);
        }
    }
    if (last.state == FAR_ENGINE_FAILED) {
        printf("failed %d %s\n", last.error_class, last.error_message);
    }
    return last.state == FAR_ENGINE_DONE ? 0 : 1;
}

int main(int argc, char **argv)
{
    static const char *const operations[] = {"", "up", "gate", "destroy", "source_off", "source_on", "keep"};
    struct far_engine *engine = NULL;
    struct far_error err = {0};
    bool good = argc >= 2;
    order.disks = sources;
    order.machine = (struct far_engine_machine){.ref = "farshore-run-7-1", .name = "web", .disks = disks, .nics = nics,
                                                .networks = networks, .tags = tags};
    for (int i = 1; i <= 6 && good; i++) {
        order.machine.operation = strcmp(argv[1], operations[i]) == 0 ? (enum far_engine_machine_operation)i : order.machine.operation;
    }
    for (int i = 2; i < argc && good; i++) {
        good = take(argv[i]);
    }
    node.adapters = far_adapters();
    int rc = good ? far_engine_new(&node, on_report, NULL, &engine, &err) : far_fail(&err, FAR_INVALID, "usage: machine_driver OPERATION");
    rc = rc == 0 ? far_engine_start(engine, &order, &err) : rc;
    if (rc != 0) {
        printf("failed %d %s\n", rc, err.message);
        far_engine_free(engine);
        return 1;
    }
    pthread_mutex_lock(&mutex);
    while (last.state == 0) {
        pthread_cond_wait(&ended, &mutex);
    }
    pthread_mutex_unlock(&mutex);
    rc = tell();
    far_engine_machined_unref(last.machined);
    far_engine_free(engine);
    return rc;
}
