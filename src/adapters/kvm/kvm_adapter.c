/* The KVM adapter: a workload is a domain of libvirt, a disk's locator kvm:///DOMAIN/TARGET, as kvm:///web/vda.
 *
 * A freeze is one pull-mode backup of all the workload's disks, so they are of one moment; QEMU then offers each as an NBD export, with the
 * dirty bitmap that says what changed since the view that became the last point. What goes over NBD is left to the adapter `nbd`:
 * bytes, holes and the pages of a list. What goes over libvirt is asked of `farshore-kvm`, a process for each question with a deadline
 * (kvm_call.h); how views, checkpoints and lineages work stands in kvm_view.c. A view lives in the domain's QEMU: it outlives the
 * node, and libvirtd, but not the domain. Settings ("kvm?tm=60000"; what is not here goes on to `nbd`):
 *
 *   timeout_ms  tm   a question to libvirt that has no answer for so long is given up (30,000) */
#include "adapters/kvm/kvm_adapter.h"

#include "base/error.h"

#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { PLACES_MAX = 64, URI_MAX = 1100, LOCATOR_MAX = 1100, NAME_MAX_BYTES = 128, WORDS_MAX = 512, INNER_CONFIG_MAX = 1024 };

/* What `where` said of one disk of a view. */
struct place {
    char ref[NAME_MAX_BYTES], locator[LOCATOR_MAX];
    char uri[URI_MAX];
    char base[NAME_MAX_BYTES]; /* the bitmap that the export offers; "": none */
    char also[WORDS_MAX];      /* names of younger views whose changes it holds as well, each behind a space */
    char why[WORDS_MAX];       /* there is none */
};

struct kvm {
    uint64_t timeout_ms;
    void *nbd; /* the platform of the adapter nbd */
    pthread_mutex_t mutex; /* below */
    struct place places[PLACES_MAX];
    size_t next; /* the one that the next takes */
};

/* ---- where a view is ---- */

/* The rest of the line that begins with this word, or "". */
static void take_line(const char *answer, const char *word, char *to, size_t size)
{
    size_t len = strlen(word);
    to[0] = '\0';
    for (const char *line = answer; line != NULL && *line != '\0'; line = strchr(line, '\n'), line += line != NULL) {
        if (strncmp(line, word, len) == 0 && line[len] == ' ') {
            snprintf(to, size, "%.*s", (int)strcspn(line + len + 1, "\n"), line + len + 1);
            return;
        }
    }
}

static bool is_ref(const char *ref)
{
    return strncmp(ref, "farshore-", 9) == 0 && strlen(ref) < NAME_MAX_BYTES;
}

static int ask_where(struct kvm *kvm, const char *ref, const char *locator, struct place *ret_place, struct far_adapter_error *ret_error)
{
    struct place place = {0};
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    if (answer == NULL || strlen(locator) >= sizeof place.locator || !is_ref(ref)) {
        free(answer);
        return answer == NULL ? far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory")
                              : far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "'%.100s' is no view of a domain", ref);
    }
    int outcome = far_kvm_call(kvm->timeout_ms, (const char *const[]){"where", ref, locator, NULL}, answer, ret_error);
    if (outcome == FAR_ADAPTER_OK) {
        strcpy(place.ref, ref);
        strcpy(place.locator, locator);
        take_line(answer, "uri", place.uri, sizeof place.uri);
        take_line(answer, "base", place.base, sizeof place.base);
        take_line(answer, "why", place.why, sizeof place.why);
        place.also[0] = ' ';
        take_line(answer, "also", place.also + 1, sizeof place.also - 1);
        pthread_mutex_lock(&kvm->mutex);
        kvm->places[kvm->next++ % PLACES_MAX] = place;
        pthread_mutex_unlock(&kvm->mutex);
        *ret_place = place;
    }
    free(answer);
    return outcome;
}

/* As it was said before, if it was: a view does not move. */
static int find_where(struct kvm *kvm, const char *ref, const char *locator, struct place *ret_place, struct far_adapter_error *ret_error)
{
    bool found = false;
    pthread_mutex_lock(&kvm->mutex);
    for (size_t i = 0; i < PLACES_MAX && !found; i++) {
        found = strcmp(kvm->places[i].ref, ref) == 0 && strcmp(kvm->places[i].locator, locator) == 0;
        *ret_place = found ? kvm->places[i] : *ret_place;
    }
    pthread_mutex_unlock(&kvm->mutex);
    return found ? FAR_ADAPTER_OK : ask_where(kvm, ref, locator, ret_place, ret_error);
}

static void forget_where(struct kvm *kvm, const char *ref)
{
    pthread_mutex_lock(&kvm->mutex);
    for (size_t i = 0; i < PLACES_MAX; i++) {
        if (strcmp(kvm->places[i].ref, ref) == 0) {
            kvm->places[i].ref[0] = '\0';
        }
    }
    pthread_mutex_unlock(&kvm->mutex);
}

/* ---- inventory and changes ---- */

/* "disk SIZE IDENTITY TOKEN", from *at on; false: there is no such line. */
static bool take_disk(const char **at, struct far_adapter_found *ret_found)
{
    struct far_adapter_found found = {0};
    unsigned long long size;
    const char *line = strncmp(*at, "disk ", 5) == 0 ? *at : strstr(*at, "\ndisk ");
    line += line != NULL && *line == '\n';
    if (line == NULL || sscanf(line, "disk %llu %127s %127s", &size, found.identity, found.token) != 3) {
        return false;
    }
    found.size_bytes = size;
    found.token[0] = strcmp(found.token, "-") == 0 ? '\0' : found.token[0];
    *at = line + 5;
    *ret_found = found;
    return true;
}

/* arguments: the verb and what comes before the locators. */
static int call_with_disks(struct kvm *kvm, const char *verb, const char *what, const struct far_adapter_disk *disks, size_t count,
                           char *answer, struct far_adapter_error *ret_error)
{
    const char *arguments[FAR_KVM_ARGUMENTS_MAX + 1] = {verb, what};
    if (count > FAR_KVM_ARGUMENTS_MAX - 2) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_LIMIT, "%zu disks of one domain are too many", count);
    }
    for (size_t i = 0; i < count; i++) {
        arguments[2 + i] = disks[i].locator;
    }
    return far_kvm_call(kvm->timeout_ms, arguments, answer, ret_error);
}

static int kvm_probe(void *platform, const struct far_adapter_disk *disk, struct far_adapter_found *ret_found,
                     struct far_adapter_error *ret_error)
{
    struct kvm *kvm = platform;
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    const char *at = answer;
    int outcome = answer != NULL ? far_kvm_call(kvm->timeout_ms, (const char *const[]){"probe", disk->locator, NULL}, answer, ret_error)
                                 : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    if (outcome == FAR_ADAPTER_OK && !take_disk(&at, ret_found)) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INTERNAL, "farshore-kvm says nothing of '%.200s'", disk->locator);
    }
    free(answer);
    return outcome;
}

static int kvm_written(void *platform, const struct far_adapter_disk *disk, uint64_t *ret_ms, struct far_adapter_error *ret_error)
{
    struct kvm *kvm = platform;
    char word[32];
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? far_kvm_call(kvm->timeout_ms, (const char *const[]){"written", disk->locator, NULL}, answer, ret_error)
                                 : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    if (outcome == FAR_ADAPTER_OK) {
        take_line(answer, "written", word, sizeof word);
        *ret_ms = strtoull(word, NULL, 10);
    }
    free(answer);
    return outcome;
}

static int kvm_freeze(void *platform, const char *ref_hint, const struct far_adapter_disk *disks, size_t count,
                      struct far_adapter_found *ret_found, char ret_ref[128], bool *ret_fuzzy, struct far_adapter_error *ret_error)
{
    struct kvm *kvm = platform;
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    const char *at = answer;
    int outcome = answer != NULL ? call_with_disks(kvm, "freeze", ref_hint, disks, count, answer, ret_error)
                                 : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < count; i++) {
        if (!take_disk(&at, &ret_found[i])) {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INTERNAL, "farshore-kvm says nothing of '%.200s'",
                                       disks[i].locator);
        }
    }
    if (outcome == FAR_ADAPTER_OK) {
        take_line(answer, "ref", ret_ref, 128);
        *ret_fuzzy = false;
    }
    free(answer);
    return outcome;
}

static int end_view(struct kvm *kvm, const char *verb, const char *ref, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_error *ret_error)
{
    if (!is_ref(ref)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "'%.100s' is no view of a domain", ref);
    }
    char *answer = malloc(FAR_KVM_ANSWER_MAX);
    int outcome = answer != NULL ? call_with_disks(kvm, verb, ref, disks, count, answer, ret_error)
                                 : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    free(answer);
    forget_where(kvm, ref);
    return outcome;
}

static int kvm_release(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                       struct far_adapter_error *ret_error)
{
    return end_view(platform, "release", ref, disks, count, ret_error);
}

static int kvm_keep(void *platform, const char *ref, const struct far_adapter_disk *disks, size_t count,
                    struct far_adapter_error *ret_error)
{
    return end_view(platform, "keep", ref, disks, count, ret_error);
}

/* Is `name` one of the words of a list? */
static bool is_among(const char *words, const char *name)
{
    size_t len = strlen(name);
    for (const char *at = words; len > 0 && (at = strstr(at, name)) != NULL; at++) {
        if (at > words && at[-1] == ' ' && (at[len] == ' ' || at[len] == '\0')) {
            return true;
        }
    }
    return false;
}

static int kvm_changed(void *platform, const char *ref, const struct far_adapter_disk *disk, const char *since, uint64_t offset,
                       struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count, uint64_t *ret_next,
                       struct far_adapter_error *ret_error)
{
    struct kvm *kvm = platform;
    struct place place = {0};
    int outcome = find_where(kvm, ref, disk->locator, &place, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    if (place.base[0] == '\0' || (strcmp(place.base, since) != 0 && !is_among(place.also, since))) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RESYNC, FAR_CONFLICT, "libvirt has no list of what changed since '%.100s': %s",
                                since, place.why[0] != '\0' ? place.why : "another view was kept last");
    }
    const struct far_adapter_disk export = {.name = disk->name, .locator = place.uri};
    return far_adapter_nbd.changes->changed(kvm->nbd, "nbd:", &export, place.base, offset, ret_extents, max, ret_count, ret_next,
                                            ret_error);
}

/* ---- bytes: all over NBD ---- */

static int kvm_open_frozen(void *platform, const char *ref, const struct far_adapter_disk *disk, void **ret_handle,
                           struct far_adapter_error *ret_error)
{
    struct kvm *kvm = platform;
    struct place place;
    int outcome = ask_where(kvm, ref, disk->locator, &place, ret_error); /* anew: it may be gone */
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    const struct far_adapter_disk export = {.name = disk->name, .locator = place.uri};
    return far_adapter_nbd.bytes->open_frozen(kvm->nbd, "nbd:", &export, ret_handle, ret_error);
}

static int kvm_read(void *handle, void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    return far_adapter_nbd.bytes->read(handle, buffer, length, offset, ret_error);
}

static int kvm_open_target(void *platform, const char *ref, const char *locator, uint64_t size_bytes, void **ret_handle,
                           struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                            "a disk is recovered to a file or an NBD export, which a domain then has: '%.200s' is neither", locator);
}

static int kvm_write(void *handle, const void *buffer, size_t length, uint64_t offset, struct far_adapter_error *ret_error)
{
    return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "a view of a domain is not written to");
}

static int kvm_flush(void *handle, struct far_adapter_error *ret_error)
{
    return FAR_ADAPTER_OK;
}

static void kvm_close_disk(void *handle)
{
    far_adapter_nbd.bytes->close(handle);
}

static int kvm_extents(void *handle, uint64_t offset, struct far_adapter_extent *ret_extents, size_t max, size_t *ret_count,
                       struct far_adapter_error *ret_error)
{
    return far_adapter_nbd.bytes->extents(handle, offset, ret_extents, max, ret_count, ret_error);
}

/* ---- the platform ---- */

/* Takes our settings; *inner gets those of the adapter nbd. */
static int take_settings(struct kvm *kvm, const char *config, char inner[INNER_CONFIG_MAX], struct far_adapter_error *ret_error)
{
    size_t used = 0;
    inner[0] = '\0';
    while (*config != '\0') {
        size_t len = strcspn(config, "\n");
        const char *equals = memchr(config, '=', len);
        size_t key = equals != NULL ? (size_t)(equals - config) : len;
        if ((key == 2 && strncmp(config, "tm", 2) == 0) || (key == 10 && strncmp(config, "timeout_ms", 10) == 0)) {
            char *end;
            unsigned long ms = equals != NULL ? strtoul(equals + 1, &end, 10) : 0;
            if (ms == 0 || ms > 3600000 || end != config + len) {
                return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "the adapter kvm takes no '%.*s': 1 to 3600000 ms",
                                        (int)len, config);
            }
            kvm->timeout_ms = ms;
        } else if (len > 0) {
            if (used + len + 2 > INNER_CONFIG_MAX) {
                return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID, "too many settings");
            }
            used += (size_t)sprintf(inner + used, "%.*s\n", (int)len, config);
        }
        config += len + (config[len] == '\n');
    }
    return FAR_ADAPTER_OK;
}

static int kvm_open(const char *config, void **ret_platform, struct far_adapter_error *ret_error)
{
    char inner[INNER_CONFIG_MAX];
    struct kvm *kvm = calloc(1, sizeof *kvm);
    if (kvm == NULL) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
    }
    kvm->timeout_ms = 30000;
    int outcome = take_settings(kvm, config, inner, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? far_adapter_nbd.open(inner, &kvm->nbd, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        free(kvm);
        return outcome;
    }
    pthread_mutex_init(&kvm->mutex, NULL);
    *ret_platform = kvm;
    return FAR_ADAPTER_OK;
}

uint64_t far_kvm_timeout_ms(const void *platform)
{
    return ((const struct kvm *)platform)->timeout_ms;
}

static void kvm_close(void *platform)
{
    struct kvm *kvm = platform;
    far_adapter_nbd.close(kvm->nbd);
    pthread_mutex_destroy(&kvm->mutex);
    free(kvm);
}

static const struct far_adapter_inventory inventory = {
    .version = FAR_ADAPTER_INVENTORY_VERSION, .probe = kvm_probe, .written = kvm_written};

static const struct far_adapter_changes changes = {
    .version = FAR_ADAPTER_VERSION,
    .survives_node = true, /* it is QEMU's */
    .freeze = kvm_freeze,
    .release = kvm_release,
    .changed = kvm_changed,
    .keep = kvm_keep,
};

static const struct far_adapter_bytes bytes = {
    .version = FAR_ADAPTER_VERSION,
    .fence = "none",
    .open_frozen = kvm_open_frozen,
    .read = kvm_read,
    .open_target = kvm_open_target,
    .write = kvm_write,
    .flush = kvm_flush,
    .close = kvm_close_disk,
    .extents = kvm_extents,
};

const struct far_adapter far_adapter_kvm = {
    .version = FAR_ADAPTER_VERSION,
    .name = "kvm",
    .open = kvm_open,
    .close = kvm_close,
    .inventory = &inventory,
    .changes = &changes,
    .bytes = &bytes,
    .machines = &far_kvm_machines,
};
