/* Machines of recovered disks, and the protected ones that they take the place of: brought up, waited for, taken away again.
 *
 * Each operation can be done again after any crash: on the platform everything bears the ref, the disks are in a folder that the job names
 * (run_folder.h). Nothing is kept here. Time inside calls of the platform, and time that was waited for a guest, are told apart, so
 * that what is left of an operation's time is ours. */
#define _GNU_SOURCE
#include "dataplane/engine_local.h"
#include "dataplane/run_folder.h"
#include "dataplane/script_child.h"
#include "dataplane/served.h"

#include "base/clock.h"

#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

enum {
    TIMEOUT_S = 300,
    POLL_MS = 500,
    SHUTDOWN_AGAIN_MS = 15000, /* a guest that boots does not hear it */
    CONNECT_MS = 2000,
    ADDRESSES_BYTES = 2048,
};

struct work {
    struct far_attempt *attempt;
    const struct far_engine_machine *order;
    const struct far_adapter_machines *machines;
    void *platform;
    struct far_adapter_machine machine;
    struct far_adapter_machine_disk disks[FAR_ENGINE_DISKS_MAX];
    struct far_engine_machined *told;
    struct far_engine_report *result;
    char group[48];
    uint64_t started_ms, until_ms;
    uint64_t call_ms; /* when the call of the platform began that is under way */
    struct far_adapter_error said;
};

/* ---- what is told ---- */

struct far_engine_machined *far_engine_machined_ref(struct far_engine_machined *machined)
{
    if (machined != NULL) {
        far_users_add(&machined->users);
    }
    return machined;
}

void far_engine_machined_unref(struct far_engine_machined *machined)
{
    if (machined != NULL && far_users_drop(&machined->users)) {
        free(machined);
    }
}

static void tell_left(struct work *work, const char *what)
{
    struct far_engine_machined *told = work->told;
    if (told->left_count < FAR_ENGINE_LEFT_MAX) {
        snprintf(told->left[told->left_count], sizeof told->left[0], "%.*s", (int)sizeof told->left[0] - 1, what);
        told->left_count++;
    }
}

/* NULL: no room. */
static const char *keep_text(struct far_engine_machined *told, const char *text)
{
    size_t len = strlen(text) + 1;
    char *at = told->text + told->text_bytes;
    if (told->text_bytes + len > sizeof told->text) {
        return NULL;
    }
    memcpy(at, text, len);
    told->text_bytes += len;
    return at;
}

/* Under which locators its disks can be protected themselves: for the way back. */
static void tell_disks(struct work *work)
{
    struct far_engine_machined *told = work->told;
    char locator[1025];
    for (size_t i = 0; i < work->order->disk_count; i++) {
        const struct far_engine_machine_disk *disk = &work->order->disks[i];
        bool is_there = disk->target[0] != '\0' && work->machines->disk_locator(work->platform, &work->machine, disk->source, locator,
                                                                               sizeof locator, NULL) == FAR_ADAPTER_OK;
        const char *name = is_there ? keep_text(told, disk->name) : NULL, *kept = name != NULL ? keep_text(told, locator) : NULL;
        if (kept != NULL) {
            told->disks[told->disk_count++] = (struct far_engine_disk){.name = name, .locator = kept};
        }
    }
}

/* ---- calls of the platform ---- */

static void begin_call(struct work *work)
{
    work->call_ms = far_clock_monotonic_ms();
    work->said = (struct far_adapter_error){0};
}

static int end_call(struct work *work, int answer, struct far_error *err)
{
    work->told->platform_ms += far_clock_monotonic_ms() - work->call_ms;
    return far_adapter_result(answer, &work->said, &work->result->outcome, err);
}

static void note_state(struct work *work, int state)
{
    static const char *const names[] = {"", "absent", "off", "running", "paused", "off"};
    bool is_known = state >= FAR_ADAPTER_MACHINE_ABSENT && state <= FAR_ADAPTER_MACHINE_STOPPED;
    snprintf(work->told->state, sizeof work->told->state, "%s", is_known ? names[state] : "");
}

static int look(struct work *work, int *ret_state, struct far_error *err)
{
    begin_call(work);
    int rc = end_call(work, work->machines->look(work->platform, work->order->ref, &work->machine, ret_state, &work->said), err);
    if (rc == 0) {
        note_state(work, *ret_state);
    }
    return rc;
}

static int look_at_source(struct work *work, int *ret_state, struct far_error *err)
{
    const struct far_engine_order *order = &work->attempt->order;
    struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX];
    for (size_t i = 0; i < order->disk_count; i++) {
        disks[i] = (struct far_adapter_disk){.name = order->disks[i].name, .locator = order->disks[i].locator};
    }
    begin_call(work);
    int rc = end_call(work, work->machines->source_look(work->platform, disks, order->disk_count, work->order->config, ret_state,
                                                        &work->said), err);
    if (rc == 0) {
        note_state(work, *ret_state);
    }
    return rc;
}

static int power_source(struct work *work, int power, struct far_error *err)
{
    const struct far_engine_order *order = &work->attempt->order;
    struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX];
    for (size_t i = 0; i < order->disk_count; i++) {
        disks[i] = (struct far_adapter_disk){.name = order->disks[i].name, .locator = order->disks[i].locator};
    }
    begin_call(work);
    return end_call(work, work->machines->source_power(work->platform, disks, order->disk_count, work->order->config, power,
                                                       &work->said), err);
}

/* ---- waiting ---- */

static bool is_late(const struct work *work)
{
    return far_clock_monotonic_ms() >= work->until_ms;
}

static int pause_for(struct work *work, struct far_error *err)
{
    struct far_attempt *attempt = work->attempt;
    pthread_mutex_lock(&attempt->mutex);
    if (!far_attempt_stopped(attempt)) {
        far_attempt_wait(attempt, POLL_MS);
    }
    pthread_mutex_unlock(&attempt->mutex);
    return far_attempt_check(attempt, err);
}

/* A libvirtd that starts anew costs a gate nothing but time. */
static bool may_pass(const struct work *work)
{
    enum far_adapter_outcome outcome = work->result->outcome;
    return outcome == FAR_ADAPTER_RETRY || outcome == FAR_ADAPTER_SLOW_DOWN;
}

/* ---- up ---- */

/* It is read from the vault, through a socket beside it. */
static int serve_disk(struct work *work, const struct far_engine_machine_disk *disk, struct far_adapter_machine_disk *to, bool makes,
                      struct far_error *err)
{
    char *socket = far_arena_alloc(&work->attempt->arena, 108);
    if (socket == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a path");
    }
    int rc = far_served_begin(work->attempt, disk->name, to->target, socket, err);
    to->backing = socket;
    return rc == 0 && makes ? far_served_image(work->attempt, to->target, socket, err) : rc;
}

static int place_disks(struct work *work, struct far_error *err)
{
    const struct far_engine *engine = work->attempt->engine;
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < work->order->disk_count; i++) {
        const struct far_engine_machine_disk *disk = &work->order->disks[i];
        struct far_adapter_machine_disk *to = &work->disks[work->machine.disk_count];
        bool is_nbd = strncmp(disk->target, "nbd", 3) == 0 && strstr(disk->target, "://") != NULL;
        char *path = disk->target[0] != '\0' && !is_nbd ? far_arena_alloc(&work->attempt->arena, PATH_MAX) : NULL;
        if (disk->target[0] == '\0') {
            continue; /* left out */
        }
        *to = (struct far_adapter_machine_disk){
            .source = disk->source, .target = is_nbd ? disk->target : path, .format = disk->is_qcow2 && !is_nbd ? "qcow2" : "raw"};
        rc = is_nbd         ? 0
             : path == NULL ? far_fail(err, FAR_LIMIT, "no memory for a path")
                            : far_run_folder_resolve(engine->config.recovery_dir, disk->target, work->order->at_once,
                                                     (const char *const *)engine->own_dirs,
                                                     sizeof engine->own_dirs / sizeof engine->own_dirs[0], path, err);
        bool is_up = work->order->operation == FAR_ENGINE_MACHINE_UP, is_hydrate = work->order->operation == FAR_ENGINE_MACHINE_HYDRATE;
        if (rc == 0 && !is_nbd && ((is_up && work->order->at_once) || is_hydrate)) {
            rc = serve_disk(work, disk, to, is_up, err);
        }
        struct stat st;
        if (rc == 0 && !is_nbd && lstat(path, &st) != 0) {
            rc = far_fail_errno(err, FAR_NOT_FOUND, errno, "find the recovered disk '%s'", path);
        }
        work->machine.disk_count++;
    }
    return rc;
}

/* An attempt before this one may have turned the machine on. One that is on is not asked why; one that was made and is off may have run
 * from its disks: they are not the point any more, as far as anybody knows. */
static int check_unused(struct work *work, struct far_error *err)
{
    int state = 0, rc = work->attempt->order.attempt > 1 ? look(work, &state, err) : 0;
    if (rc != 0 || work->attempt->order.attempt <= 1 || state != FAR_ADAPTER_MACHINE_OFF) {
        return rc;
    }
    work->result->outcome = FAR_ADAPTER_FATAL;
    return far_fail(err, FAR_UNKNOWN_OUTCOME,
                    "an earlier attempt made the machine '%s', and it is off: it may have run and written to its disks, which have to be "
                    "written out anew",
                    work->order->name);
}

static int bring_up(struct work *work, struct far_error *err)
{
    const struct far_engine_machine *order = work->order;
    int state = 0;
    if (order->config[0] == '\0') {
        return far_fail(err, FAR_INVALID,
                        "the point of workload '%s' was made without its machine's configuration: recover its disks, or use a newer point",
                        work->attempt->order.workload);
    }
    bool can = !order->at_once || (work->machines->version >= 2 && work->machines->hydrate != NULL);
    int rc = can ? check_unused(work, err)
                 : far_fail(err, FAR_INVALID,
                            "the platform cannot run a machine from disks that are served from the vault: begin the run without at_once");
    rc = rc == 0 ? place_disks(work, err) : rc;
    if (rc != 0) {
        return rc;
    }
    begin_call(work);
    rc = end_call(work, work->machines->create(work->platform, order->ref, &work->machine, &work->said), err);
    rc = rc == 0 ? far_attempt_check(work->attempt, err) : rc;
    if (rc == 0) {
        begin_call(work);
        rc = end_call(work, work->machines->power(work->platform, order->ref, &work->machine, FAR_ADAPTER_POWER_ON, &work->said), err);
    }
    rc = rc == 0 ? look(work, &state, err) : rc;
    if (rc == 0) {
        tell_disks(work);
    }
    return rc;
}

/* ---- its disks are written out while it runs ---- */

/* Nothing of it goes by the orders before: what is there still is looked up on the platform each time. */
static int hydrate(struct work *work, struct far_error *err)
{
    struct far_attempt *attempt = work->attempt;
    bool is_over = false;
    if (work->machines->version < 2 || work->machines->hydrate == NULL) {
        return far_fail(err, FAR_INVALID, "the platform cannot write disks out while a machine runs from them");
    }
    int rc = place_disks(work, err);
    while (rc == 0 && !is_over) {
        struct far_error why = {0};
        uint64_t done = 0, total = 0;
        begin_call(work);
        rc = end_call(work, work->machines->hydrate(work->platform, work->order->ref, &work->machine, &done, &total, &is_over, &work->said),
                      &why);
        if (rc != 0 && !may_pass(work)) {
            *err = why;
            return rc;
        }
        if (rc == 0) {
            atomic_store(&attempt->bytes_total, total);
            atomic_store(&attempt->bytes_done, done < total ? done : total);
        }
        rc = is_over ? 0 : pause_for(work, err);
    }
    if (rc == 0) { /* nobody reads there any more */
        far_served_end(attempt->engine, attempt->order.job_id, attempt->order.workload_id);
        note_state(work, FAR_ADAPTER_MACHINE_RUNNING);
    }
    return rc;
}

/* ---- gates ---- */

static int ask_addresses(struct work *work, char text[ADDRESSES_BYTES], size_t *ret_count, struct far_error *err)
{
    begin_call(work);
    int rc = end_call(work, work->machines->addresses(work->platform, work->order->ref, &work->machine, text, ADDRESSES_BYTES, ret_count,
                                                      &work->said), err);
    if (rc == 0 && *ret_count > 0) {
        snprintf(work->told->address, sizeof work->told->address, "%.63s", text);
    }
    return rc;
}

static bool connects(const char *address, uint64_t port)
{
    char service[8];
    struct addrinfo hints = {.ai_flags = AI_NUMERICHOST, .ai_socktype = SOCK_STREAM}, *found = NULL;
    snprintf(service, sizeof service, "%u", (unsigned)(port & 0xffff));
    int fd = getaddrinfo(address, service, &hints, &found) == 0
                 ? socket(found->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0)
                 : -1;
    int code = -1;
    socklen_t len = sizeof code;
    bool begun = fd >= 0 && (connect(fd, found->ai_addr, found->ai_addrlen) == 0 || errno == EINPROGRESS);
    bool is_there = begun && poll(&(struct pollfd){.fd = fd, .events = POLLOUT}, 1, CONNECT_MS) > 0 &&
                    getsockopt(fd, SOL_SOCKET, SO_ERROR, &code, &len) == 0 && code == 0;
    if (fd >= 0) {
        close(fd);
    }
    if (found != NULL) {
        freeaddrinfo(found);
    }
    return is_there;
}

static bool try_address(struct work *work, const char *address)
{
    bool answers = connects(address, work->order->gate_port);
    if (answers) {
        snprintf(work->told->address, sizeof work->told->address, "%.63s", address);
    }
    return answers;
}

/* First those that it is to have: a guest without an agent, and with an address of its own, may be known to nobody. Not in a test: there
 * the protected one has the same address, and would answer for it; the platform knows by whom it was heard. */
static int try_port(struct work *work, bool *ret_passed, struct far_error *err)
{
    char text[ADDRESSES_BYTES];
    size_t count = 0;
    for (size_t i = 0; !work->order->isolated && !*ret_passed && i < work->order->nic_count; i++) {
        const char *known = work->order->nics[i].address;
        *ret_passed = known != NULL && known[0] != '\0' && try_address(work, known);
    }
    int rc = *ret_passed ? 0 : ask_addresses(work, text, &count, err);
    const char *address = text;
    for (size_t i = 0; rc == 0 && i < count && !*ret_passed; i++, address += strlen(address) + 1) {
        *ret_passed = try_address(work, address);
    }
    return rc;
}

static bool script_goes_on(void *arg)
{
    return !far_attempt_stopped(arg);
}

/* The end of its output says why, as far as there is room. */
static int script_failed(const struct work *work, const struct far_script_result *ran, struct far_error *err)
{
    enum { TAIL = 240 };
    size_t len = strlen(ran->output);
    const char *tail = len > TAIL ? ran->output + len - TAIL : ran->output;
    const char *name = work->order->gate_script;
    return ran->is_late
               ? far_fail(err, FAR_TIMEOUT, "the script '%s' was ended, its time was over; it said last: %s", name, tail)
               : far_fail(err, FAR_DENIED, "the script '%s' does not let the machine pass (status %d): %s", name, ran->status, tail);
}

static int try_script(struct work *work, bool *ret_passed, struct far_error *err)
{
    const struct far_engine_order *order = &work->attempt->order;
    const struct far_engine_config *config = &work->attempt->engine->config;
    struct far_script_result *ran = malloc(sizeof *ran);
    uint64_t now_ms = far_clock_monotonic_ms();
    char text[ADDRESSES_BYTES];
    size_t count = 0;
    if (ran == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a script's output");
    }
    int rc = ask_addresses(work, text, &count, err);
    struct far_script script = {.dir = config->scripts_dir,
                                .user = config->scripts_user,
                                .name = work->order->gate_script,
                                .about = {.job_id = order->job_id,
                                          .kind = "gate",
                                          .phase = "gate",
                                          .plan = order->plan,
                                          .workload = order->workload,
                                          .machine = work->order->name,
                                          .address = work->told->address,
                                          .isolated = work->order->isolated},
                                .timeout_ms = work->until_ms > now_ms ? work->until_ms - now_ms : 1,
                                .goes_on = script_goes_on,
                                .arg = work->attempt};
    rc = rc == 0 ? far_script_run(&script, ran, err) : rc;
    if (rc == 0 && ran->status != 0 && (ran->is_late || ran->status != FAR_SCRIPT_NOT_YET)) {
        rc = script_failed(work, ran, err);
        work->result->outcome = FAR_ADAPTER_FATAL; /* it said no: it is not asked again by itself */
    }
    *ret_passed = rc == 0 && ran->status == 0;
    free(ran);
    return rc;
}

static int try_gate(struct work *work, bool *ret_passed, struct far_error *err)
{
    char text[ADDRESSES_BYTES];
    size_t count = 0;
    int rc;
    *ret_passed = false;
    work->result->outcome = FAR_ADAPTER_OK;
    switch (work->order->gate) {
    case FAR_ENGINE_GATE_ADDRESS:
        rc = ask_addresses(work, text, &count, err);
        *ret_passed = rc == 0 && count > 0;
        return rc;
    case FAR_ENGINE_GATE_PORT:
        return try_port(work, ret_passed, err);
    case FAR_ENGINE_GATE_AGENT:
        begin_call(work);
        rc = end_call(work, work->machines->ping(work->platform, work->order->ref, &work->machine, ret_passed, &work->said), err);
        return rc == 0 && *ret_passed ? ask_addresses(work, text, &count, err) : rc;
    case FAR_ENGINE_GATE_SCRIPT:
        return try_script(work, ret_passed, err);
    default:
        return far_fail(err, FAR_INVALID, "a gate of kind %d is no node's to wait for", (int)work->order->gate);
    }
}

static const char *gate_words(const struct far_engine_machine *order)
{
    switch (order->gate) {
    case FAR_ENGINE_GATE_ADDRESS:
        return "has no address that anybody knows of";
    case FAR_ENGINE_GATE_PORT:
        return "does not answer at its port";
    case FAR_ENGINE_GATE_AGENT:
        return "has no guest agent that answers";
    default:
        return "was not let pass by its script";
    }
}

static int wait_at_gate(struct work *work, struct far_error *err)
{
    struct far_error last = {0};
    bool passed = false;
    int state = 0, rc = 0;
    while (!passed) {
        struct far_error why = {0};
        rc = try_gate(work, &passed, &why);
        rc = rc == 0 && !passed ? look(work, &state, &why) : rc;
        if (rc != 0 && !may_pass(work)) {
            *err = why;
            return rc;
        }
        last = rc != 0 ? why : (struct far_error){0};
        if (rc == 0 && !passed && (state == FAR_ADAPTER_MACHINE_OFF || state == FAR_ADAPTER_MACHINE_ABSENT)) {
            return far_fail(err, FAR_CONFLICT, "the machine '%s' went off while its gate was waited for", work->order->name);
        }
        if (!passed && is_late(work)) {
            const char *name = work->order->name;
            return last.klass != 0
                       ? far_fail(err, FAR_TIMEOUT, "the gate of '%s' could not be looked at in time: %.200s", name, last.message)
                       : far_fail(err, FAR_TIMEOUT, "in its time the machine '%s' %s", name, gate_words(work->order));
        }
        rc = passed ? 0 : pause_for(work, err);
        if (rc != 0) {
            return rc;
        }
    }
    return look(work, &state, err);
}

/* ---- the end ---- */

/* Of a target run-JOB/NAME/DISK: its NAME, if it is this job's. */
static bool folder_of(const struct work *work, const char *target, char name[256])
{
    char run[48];
    int len = snprintf(run, sizeof run, "run-%llu/", (unsigned long long)work->attempt->order.job_id);
    const char *rest = strncmp(target, run, (size_t)len) == 0 ? target + len : "", *slash = strchr(rest, '/');
    bool is_ours = slash != NULL && slash > rest && slash - rest < 256;
    snprintf(name, 256, "%.*s", is_ours ? (int)(slash - rest) : 0, rest);
    return is_ours;
}

static int remove_disks(struct work *work, struct far_error *err)
{
    const char *dir = work->attempt->engine->config.recovery_dir;
    char done[256] = "", name[256], path[PATH_MAX], words[256];
    int rc = 0;
    for (size_t i = 0; rc == 0 && i <= work->order->disk_count; i++) { /* the last: where they would be if it were not said */
        bool is_said = i < work->order->disk_count;
        bool left = false, is_ours = is_said && folder_of(work, work->order->disks[i].target, name);
        if (!is_said) {
            snprintf(name, sizeof name, "%.255s", work->attempt->order.workload);
            is_ours = name[0] != '\0';
        }
        if (is_ours && strcmp(name, done) != 0) {
            rc = far_run_folder_remove(dir, work->attempt->order.job_id, name, &left, path, err);
            memcpy(done, name, sizeof done);
        }
        if (left) {
            snprintf(words, sizeof words, "folder '%.240s'", path);
            tell_left(work, words);
        }
    }
    return rc;
}

static int take_away(struct work *work, struct far_error *err)
{
    char text[ADDRESSES_BYTES];
    size_t count = 0;
    int rc = 0;
    if (work->machines != NULL) {
        begin_call(work);
        rc = end_call(work, work->machines->destroy(work->platform, work->order->ref, &work->machine, &work->said), err);
    }
    if (rc == 0) {
        far_served_end(work->attempt->engine, work->attempt->order.job_id, work->attempt->order.workload_id);
    }
    rc = rc == 0 ? remove_disks(work, err) : rc;
    if (rc == 0 && work->machines != NULL) {
        begin_call(work);
        int answer = work->machines->remains(work->platform, work->order->ref, &work->machine, text, sizeof text, &count, &work->said);
        rc = end_call(work, answer, err);
    }
    const char *each = text;
    for (size_t i = 0; rc == 0 && i < count; i++, each += strlen(each) + 1) {
        tell_left(work, each);
    }
    if (rc == 0 && work->told->left_count > 0) {
        work->result->outcome = FAR_ADAPTER_RETRY;
        rc = far_fail(err, FAR_IO, "of the machine '%s' something is left: %s", work->order->name, work->told->left[0]);
    }
    note_state(work, rc == 0 ? FAR_ADAPTER_MACHINE_ABSENT : 0);
    return rc;
}

static int keep(struct work *work, struct far_error *err)
{
    begin_call(work);
    int rc = end_call(work, work->machines->keep(work->platform, work->order->ref, &work->machine, &work->said), err);
    if (rc == 0) { /* it stands on its own: who brought it up once more after it was written out had its disks served again */
        far_served_end(work->attempt->engine, work->attempt->order.job_id, work->attempt->order.workload_id);
        tell_disks(work);
    }
    return rc;
}

/* ---- the protected machine ---- */

static bool is_off(int state)
{
    return state == FAR_ADAPTER_MACHINE_OFF || state == FAR_ADAPTER_MACHINE_ABSENT || state == FAR_ADAPTER_MACHINE_STOPPED;
}

/* The guest is asked now and again, until it is off or its time is over. */
static int shut_down(struct work *work, int *state, struct far_error *err)
{
    uint64_t ask_ms = 0;
    int rc = 0;
    while (rc == 0 && !is_off(*state) && !is_late(work)) {
        struct far_error why = {0};
        uint64_t now_ms = far_clock_monotonic_ms();
        rc = now_ms >= ask_ms ? power_source(work, FAR_ADAPTER_POWER_SHUTDOWN, &why) : 0;
        ask_ms = now_ms >= ask_ms ? now_ms + SHUTDOWN_AGAIN_MS : ask_ms;
        rc = rc == 0 ? look_at_source(work, state, &why) : rc;
        if (rc != 0 && !may_pass(work)) {
            *err = why;
            return rc;
        }
        rc = rc != 0 || !is_off(*state) ? pause_for(work, err) : 0;
    }
    return rc;
}

static int turn_source_off(struct work *work, struct far_error *err)
{
    int state = 0, rc = look_at_source(work, &state, err);
    if (rc != 0) {
        return rc;
    }
    work->told->was_off = state == FAR_ADAPTER_MACHINE_OFF; /* not one that an earlier attempt turned off: STOPPED */
    if (work->told->was_off) { /* it is not to start by itself either */
        return power_source(work, FAR_ADAPTER_POWER_OFF, err);
    }
    rc = shut_down(work, &state, err);
    if (rc == 0 && !is_off(state) && !work->order->force) {
        return far_fail(err, FAR_TIMEOUT, "the guest of workload '%s' does not shut down: it was asked, and it runs still",
                        work->attempt->order.workload);
    }
    if (rc == 0 && !is_off(state)) {
        work->told->was_forced = true;
        rc = power_source(work, FAR_ADAPTER_POWER_OFF, err);
        rc = rc == 0 ? look_at_source(work, &state, err) : rc;
    }
    return rc;
}

/* One that is on already may have been asked to shut down a moment ago, by a run that was ended meanwhile, and go off yet: for as long as
 * guests are given for that it is watched, and turned on again. */
static int turn_source_on(struct work *work, struct far_error *err)
{
    int state = 0, rc = look_at_source(work, &state, err);
    bool was_on = rc == 0 && !is_off(state);
    rc = rc == 0 ? power_source(work, FAR_ADAPTER_POWER_ON, err) : rc;
    rc = rc == 0 ? look_at_source(work, &state, err) : rc;
    while (rc == 0 && was_on && !is_off(state) && !is_late(work)) {
        rc = pause_for(work, err);
        rc = rc == 0 ? look_at_source(work, &state, err) : rc;
    }
    if (rc == 0 && is_off(state)) {
        rc = power_source(work, FAR_ADAPTER_POWER_ON, err);
        rc = rc == 0 ? look_at_source(work, &state, err) : rc;
    }
    return rc;
}

/* ---- the task ---- */

static bool is_about_source(const struct far_engine_machine *order)
{
    return order->operation == FAR_ENGINE_MACHINE_SOURCE_OFF || order->operation == FAR_ENGINE_MACHINE_SOURCE_ON;
}

/* The source's machines are its adapter's; those that are made run where this node's config says, with the order's settings if that is the
 * same adapter. */
static int find_platform(struct work *work, struct far_error *err)
{
    const struct far_engine_order *order = &work->attempt->order;
    const char *place = work->attempt->engine->config.machines_place;
    char name[64];
    struct far_platform *platform;
    if (!is_about_source(work->order) && (place == NULL || place[0] == '\0')) {
        return work->order->operation == FAR_ENGINE_MACHINE_DESTROY /* which then never made one */
                   ? 0
                   : far_fail(err, FAR_DENIED, "this node runs no machines: its operator says where, machines_place in its config");
    }
    bool takes_own = is_about_source(work->order) || far_is_place_of(order->adapter, place);
    snprintf(name, sizeof name, "%.*s", takes_own ? (int)sizeof name - 1 : (int)strcspn(place, ":"), takes_own ? order->adapter : place);
    int rc = far_engine_platform(work->attempt->engine, name, &platform, err);
    if (rc != 0) {
        return rc;
    }
    const struct far_adapter_machines *machines = platform->adapter->machines;
    if (machines == NULL || machines->version < 1) {
        return far_fail(err, FAR_INVALID, "the adapter '%s' has no machines that could be turned on or off", name);
    }
    work->machines = machines;
    work->platform = platform->platform;
    return 0;
}

static void begin(struct work *work)
{
    const struct far_engine_machine *order = work->order;
    uint64_t timeout_s = order->timeout_s != 0 ? order->timeout_s : TIMEOUT_S;
    work->started_ms = far_clock_monotonic_ms();
    work->until_ms = work->started_ms + timeout_s * 1000;
    snprintf(work->group, sizeof work->group, "farshore-run-%llu", (unsigned long long)work->attempt->order.job_id);
    work->machine = (struct far_adapter_machine){.place = work->attempt->engine->config.machines_place,
                                                 .name = order->name,
                                                 .config = order->config,
                                                 .isolated = order->isolated,
                                                 .disks = work->disks,
                                                 .group = work->group,
                                                 .processors = order->processors,
                                                 .memory_bytes = order->memory_bytes,
                                                 .firmware = order->firmware,
                                                 .nics = order->nics,
                                                 .nic_count = order->nic_count,
                                                 .networks = order->networks,
                                                 .network_count = order->network_count,
                                                 .tags = order->tags,
                                                 .tag_count = order->tag_count,
                                                 .hydrate_bytes_per_s = work->attempt->engine->config.hydrate_bytes_per_s};
}

int far_run_machine(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    static int (*const operations[])(struct work *, struct far_error *) = {
        [FAR_ENGINE_MACHINE_UP] = bring_up,
        [FAR_ENGINE_MACHINE_GATE] = wait_at_gate,
        [FAR_ENGINE_MACHINE_DESTROY] = take_away,
        [FAR_ENGINE_MACHINE_SOURCE_OFF] = turn_source_off,
        [FAR_ENGINE_MACHINE_SOURCE_ON] = turn_source_on,
        [FAR_ENGINE_MACHINE_KEEP] = keep,
        [FAR_ENGINE_MACHINE_HYDRATE] = hydrate,
    };
    struct work work = {.attempt = attempt, .order = &attempt->order.machine, .result = result};
    enum far_engine_machine_operation operation = work.order->operation;
    if (operation < FAR_ENGINE_MACHINE_UP || operation > FAR_ENGINE_MACHINE_HYDRATE) {
        return far_fail(err, FAR_INVALID, "an order to do nothing with a machine");
    }
    work.told = calloc(1, sizeof *work.told);
    if (work.told == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a machine");
    }
    work.told->users = 1;
    result->machined = work.told;
    begin(&work);
    int rc = find_platform(&work, err);
    rc = rc == 0 ? operations[operation](&work, err) : rc;
    bool waits = operation == FAR_ENGINE_MACHINE_GATE || is_about_source(work.order);
    uint64_t took_ms = far_clock_monotonic_ms() - work.started_ms;
    work.told->waited_ms = waits && took_ms > work.told->platform_ms ? took_ms - work.told->platform_ms : 0;
    return rc;
}
