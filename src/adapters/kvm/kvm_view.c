/* Views of a domain: pull-mode backups of libvirt, and the checkpoints that say what changed between them.
 *
 * On a good day there is one checkpoint of ours, K, that of the view which last became a point. A freeze begins the backup of all disks
 * and a new checkpoint in one step of libvirt's (one transaction of QEMU: the disks are of one moment), incremental since K: the
 * export of each disk then offers K's bitmap under K's name. When the view became a point, its checkpoint is kept and K goes.
 *
 * What a lost attempt left (a backup that nobody reads, files, younger checkpoints) goes at the next freeze; the checkpoints that went
 * are noted in the new one's description (`also`): what changed since K holds what changed since them. Where libvirt finds K's
 * bitmaps missing or inconsistent (QEMU was killed, a disk was replaced), all of ours go, the view is made without a list, and the
 * description says why. */
#include "adapters/kvm/kvm_helper.h"

#include "base/clock.h"
#include "base/random.h"

#include <dirent.h>
#include <libvirt/virterror.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 10, END_MS = 20000, STUCK_MS = 10000, XML_MAX = 1 << 20, WORDS_MAX = 400 };

/* ---- names and files ---- */

int far_kvm_folder(const struct far_kvm_disk *disk, char folder[PATH_MAX], struct far_adapter_error *ret_error)
{
    const char *slash = strrchr(disk->path, '/');
    if (disk->place.folder[0] != '\0') {
        snprintf(folder, PATH_MAX, "%s", disk->place.folder);
    } else if (disk->is_file && slash != NULL && slash != disk->path) {
        snprintf(folder, PATH_MAX, "%.*s", (int)(slash - disk->path), disk->path);
    } else {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "disk '%s' of '%.80s' is no image file: its locator needs folder=PATH, where what is written meanwhile "
                                "has its old bytes kept",
                                disk->place.target, disk->place.domain);
    }
    return FAR_ADAPTER_OK;
}

static int socket_of(const struct far_kvm_domain *domain, const char *ref, char path[PATH_MAX], struct far_adapter_error *ret_error)
{
    char folder[PATH_MAX];
    int outcome = far_kvm_folder(&domain->disks[0], folder, ret_error);
    const size_t max = sizeof ((struct sockaddr_un *)0)->sun_path;
    if (outcome == FAR_ADAPTER_OK && (size_t)snprintf(path, PATH_MAX, "%s/%s.sock", folder, ref) >= max) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                   "the folder '%.120s' has too long a name for a socket in it: give the locators a shorter folder=PATH",
                                   folder);
    }
    return outcome;
}

/* Removes files of views in the disks' folders: those of one view, or of all. None of them is in use. */
static void sweep(const struct far_kvm_domain *domain, const char *prefix)
{
    for (size_t i = 0; i < domain->disk_count; i++) {
        char folder[PATH_MAX], path[PATH_MAX + 256];
        DIR *dir = far_kvm_folder(&domain->disks[i], folder, NULL) == FAR_ADAPTER_OK ? opendir(folder) : NULL;
        for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
            const char *end = strrchr(entry->d_name, '.');
            bool is_ours = strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && end != NULL &&
                           (strcmp(end, ".sock") == 0 || strcmp(end, ".scratch") == 0 || strcmp(end, ".ctl") == 0);
            if (is_ours) {
                snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
                unlink(path);
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
    }
}

/* ---- the backup that is under way ---- */

/* NULL: none is. The text is malloc'ed. */
static char *backup_of(const struct far_kvm_domain *domain)
{
    return domain->is_active ? virDomainBackupGetXMLDesc(domain->domain, 0) : NULL;
}

/* The view that a backup is, if it is one of ours; else "". */
static void view_of(const struct far_kvm_domain *domain, const struct far_kvm_xml *backup, char ref[FAR_KVM_NAME_MAX])
{
    char prefix[FAR_KVM_NAME_MAX];
    const char *socket = far_kvm_xml_attr(far_kvm_xml_child(backup, "server"), "socket"), *slash = strrchr(socket, '/');
    const char *name = slash != NULL ? slash + 1 : socket, *end = strrchr(name, '.');
    far_kvm_prefix(domain, prefix);
    bool is_ours = strncmp(name, prefix, strlen(prefix)) == 0 && end != NULL && strcmp(end, ".sock") == 0;
    snprintf(ref, FAR_KVM_NAME_MAX, "%.*s", is_ours ? (int)(end - name) : 0, name);
}

static int await_end(const struct far_kvm_domain *domain, struct far_adapter_error *ret_error)
{
    uint64_t until_ms = far_clock_monotonic_ms() + END_MS;
    for (char *text; (text = backup_of(domain)) != NULL;) {
        free(text);
        if (far_clock_monotonic_ms() > until_ms) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_TIMEOUT, "the backup of '%.100s' does not end",
                                    domain->disks[0].place.domain);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return FAR_ADAPTER_OK;
}

/* Ends the backup that is under way if it is the view `ref` (NULL: any of ours); *ret_other: it is somebody else's. */
static int end_backup(const struct far_kvm_domain *domain, const char *ref, bool *ret_other, struct far_adapter_error *ret_error)
{
    char *text = backup_of(domain), found[FAR_KVM_NAME_MAX] = "";
    *ret_other = false;
    if (text == NULL) {
        return FAR_ADAPTER_OK;
    }
    struct far_kvm_xml *backup = far_kvm_xml_parse(text);
    free(text);
    view_of(domain, backup, found);
    far_kvm_xml_free(backup);
    if (found[0] == '\0' || (ref != NULL && strcmp(found, ref) != 0)) {
        *ret_other = true;
        return FAR_ADAPTER_OK;
    }
    if (virDomainAbortJob(domain->domain) != 0 && virGetLastErrorCode() != VIR_ERR_OPERATION_INVALID) { /* else it is over */
        return far_kvm_said(ret_error, "end the backup '%.100s'", found);
    }
    return await_end(domain, ret_error);
}

/* ---- freeze ---- */

/* What a freeze begins with. */
struct base {
    char name[FAR_KVM_NAME_MAX]; /* of the checkpoint K; "": there is none */
    bool has[FAR_KVM_DISKS_MAX];
    char also[WORDS_MAX];        /* younger ones that went, each behind a space */
    char why[WORDS_MAX];         /* there is no list */
};

/* All but the oldest go, youngest first. */
static int take_base(const struct far_kvm_domain *domain, struct base *base, struct far_adapter_error *ret_error)
{
    struct far_kvm_checkpoints list;
    int outcome = far_kvm_checkpoints_list(domain, &list, ret_error), oldest = -1;
    for (int i = 0; i < list.count && oldest < 0; i++) {
        oldest = far_kvm_checkpoint_is_ours(domain, list.all[i]) ? i : -1;
    }
    if (oldest >= 0) {
        snprintf(base->name, sizeof base->name, "%s", virDomainCheckpointGetName(list.all[oldest]));
        far_kvm_checkpoint_look(domain, list.all[oldest], base->has);
    }
    for (int i = list.count - 1; outcome == FAR_ADAPTER_OK && oldest >= 0 && i > oldest; i--) {
        if (far_kvm_checkpoint_is_ours(domain, list.all[i])) {
            size_t used = strlen(base->also);
            snprintf(base->also + used, sizeof base->also - used, " %s", virDomainCheckpointGetName(list.all[i]));
            outcome = far_kvm_checkpoint_remove(domain, list.all[i], ret_error);
        }
    }
    if (oldest < 0) {
        snprintf(base->why, sizeof base->why, "no checkpoint of an earlier view is there");
    }
    far_kvm_checkpoints_free(&list);
    return outcome;
}

/* The lineage is broken: nothing of ours stays, and why is kept. */
static int drop_base(const struct far_kvm_domain *domain, struct base *base, const struct far_adapter_error *why,
                     struct far_adapter_error *ret_error)
{
    struct far_kvm_checkpoints list;
    int outcome = far_kvm_checkpoints_list(domain, &list, ret_error);
    for (int i = list.count - 1; outcome == FAR_ADAPTER_OK && i >= 0; i--) {
        bool is_ours = far_kvm_checkpoint_is_ours(domain, list.all[i]);
        outcome = is_ours ? far_kvm_checkpoint_remove(domain, list.all[i], ret_error) : FAR_ADAPTER_OK;
    }
    far_kvm_checkpoints_free(&list);
    *base = (struct base){0};
    snprintf(base->why, sizeof base->why, "%.*s", (int)sizeof base->why - 1, why->message);
    return outcome;
}

static int write_backup(const struct far_kvm_domain *domain, const char *ref, const struct base *base, struct far_buf *xml,
                        struct far_adapter_error *ret_error)
{
    char path[PATH_MAX];
    int outcome = socket_of(domain, ref, path, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    int rc = far_buf_append_str(xml, "<domainbackup mode='pull'><server transport='unix' socket='");
    rc = rc == 0 ? far_kvm_xml_escape(xml, path) : rc;
    rc = rc == 0 ? far_buf_append_str(xml, "'/><disks>") : rc;
    for (size_t i = 0; rc == 0 && outcome == FAR_ADAPTER_OK && i < domain->disk_count; i++) {
        const struct far_kvm_disk *disk = &domain->disks[i];
        const char *target = disk->place.target;
        outcome = far_kvm_folder(disk, path, ret_error);
        rc = far_buf_printf(xml, "<disk name='%s' backup='yes' type='file' exportname='%s' ", target, target);
        if (rc == 0 && base->name[0] != '\0' && base->has[i]) {
            rc = far_buf_printf(xml, "backupmode='incremental' incremental='%s' exportbitmap='%s'>", base->name, base->name);
        } else {
            rc = rc == 0 ? far_buf_append_str(xml, "backupmode='full'>") : rc;
        }
        rc = rc == 0 ? far_buf_append_str(xml, "<scratch file='") : rc;
        rc = rc == 0 ? far_kvm_xml_escape(xml, path) : rc;
        rc = rc == 0 ? far_buf_printf(xml, "/%s-%s.scratch'/></disk>", ref, target) : rc;
    }
    rc = rc == 0 ? far_buf_append(xml, "</disks></domainbackup>", sizeof "</disks></domainbackup>") : rc;
    return rc == 0 ? outcome : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
}

/* *ret_any: a disk can have a bitmap. Only qcow2 keeps one. */
static int write_checkpoint(const struct far_kvm_domain *domain, const char *ref, const struct base *base, struct far_buf *xml,
                            bool *ret_any, struct far_adapter_error *ret_error)
{
    *ret_any = false;
    int rc = far_buf_printf(xml, "<domaincheckpoint><name>%s</name><description>also%s; why ", ref, base->also);
    rc = rc == 0 ? far_kvm_xml_escape(xml, base->why) : rc;
    rc = rc == 0 ? far_buf_append_str(xml, "</description><disks>") : rc;
    for (size_t i = 0; rc == 0 && i < domain->disk_count; i++) {
        if (domain->disks[i].is_qcow2) {
            *ret_any = true;
            rc = far_buf_printf(xml, "<disk name='%s' checkpoint='bitmap'/>", domain->disks[i].place.target);
        }
    }
    rc = rc == 0 ? far_buf_append(xml, "</disks></domaincheckpoint>", sizeof "</disks></domaincheckpoint>") : rc;
    return rc == 0 ? FAR_ADAPTER_OK : far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_LIMIT, "no memory");
}

/* *ret_code: libvirt's, where it refused. */
static int begin(struct far_kvm_domain *domain, const char *ref, const struct base *base, int *ret_code,
                 struct far_adapter_error *ret_error)
{
    struct far_buf backup, checkpoint;
    struct far_kvm_quiesce quiesce;
    bool any = false;
    *ret_code = VIR_ERR_OK;
    far_buf_init(&backup, XML_MAX);
    far_buf_init(&checkpoint, XML_MAX);
    int outcome = write_backup(domain, ref, base, &backup, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? write_checkpoint(domain, ref, base, &checkpoint, &any, ret_error) : outcome;
    if (outcome == FAR_ADAPTER_OK) {
        far_kvm_quiesce(domain, &quiesce);
        if (virDomainBackupBegin(domain->domain, (const char *)backup.data, any ? (const char *)checkpoint.data : NULL, 0) != 0) {
            *ret_code = virGetLastErrorCode();
            outcome = far_kvm_said(ret_error, "begin a backup of the domain '%.100s'", domain->disks[0].place.domain);
        }
        far_kvm_thaw(domain, &quiesce);
    }
    far_buf_done(&backup);
    far_buf_done(&checkpoint);
    return outcome;
}

/* Did libvirt refuse because of the base? What else it refuses, it refuses without a base as well. */
static bool breaks_lineage(int code)
{
    return code == VIR_ERR_CHECKPOINT_INCONSISTENT || code == VIR_ERR_NO_DOMAIN_CHECKPOINT || code == VIR_ERR_INVALID_ARG ||
           code == VIR_ERR_INTERNAL_ERROR || code == VIR_ERR_CONFIG_UNSUPPORTED;
}

static int freeze_running(struct far_kvm_domain *domain, struct far_kvm_view *view, struct far_adapter_error *why)
{
    struct base base = {0};
    int code = VIR_ERR_OK, outcome = take_base(domain, &base, why);
    outcome = outcome == FAR_ADAPTER_OK ? begin(domain, view->ref, &base, &code, why) : outcome;
    if (base.name[0] != '\0' && breaks_lineage(code)) {
        outcome = drop_base(domain, &base, why, why);
        outcome = outcome == FAR_ADAPTER_OK ? begin(domain, view->ref, &base, &code, why) : outcome;
    }
    for (size_t i = 0; i < domain->disk_count; i++) {
        snprintf(view->tokens[i], sizeof view->tokens[i], "%s", domain->disks[i].is_qcow2 ? view->ref : "");
    }
    return outcome;
}

/* A libvirtd that is killed while it begins a backup knows afterwards that the domain has such a job, and nothing of it: it lets nobody
 * begin another, and has no call that ends this one (9.0). For a moment that is so of every backup that begins. */
static int check_is_free(const struct far_kvm_domain *domain, struct far_adapter_error *ret_error)
{
    uint64_t until_ms = far_clock_monotonic_ms() + STUCK_MS;
    virDomainJobInfo job;
    while (domain->is_active && virDomainGetJobInfo(domain->domain, &job) != 0 && virGetLastErrorCode() == VIR_ERR_INTERNAL_ERROR) {
        if (far_clock_monotonic_ms() > until_ms) {
            return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_CONFLICT,
                                    "libvirtd ended while it began a backup of the domain '%.100s', and does not let go of it: no view "
                                    "can be made until the guest is shut down and started again",
                                    domain->disks[0].place.domain);
        }
        nanosleep(&(struct timespec){.tv_nsec = POLL_MS * 1000000L}, NULL);
    }
    return FAR_ADAPTER_OK;
}

int far_kvm_freeze(struct far_kvm_domain *domain, const char *hint, struct far_kvm_view *ret_view, struct far_adapter_error *ret_error)
{
    struct far_adapter_error why = {0};
    char prefix[FAR_KVM_NAME_MAX];
    uint32_t random;
    bool other;
    int outcome = end_backup(domain, NULL, &other, ret_error);
    if (outcome == FAR_ADAPTER_OK && other) {
        outcome = far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_BUSY,
                                   "another program's backup of the domain '%.100s' is under way", domain->disks[0].place.domain);
    }
    outcome = outcome == FAR_ADAPTER_OK ? check_is_free(domain, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    far_kvm_prefix(domain, prefix);
    far_kvm_off_end(domain, prefix);
    sweep(domain, prefix);
    far_random_bytes(&random, sizeof random);
    snprintf(ret_view->ref, sizeof ret_view->ref, FAR_KVM_OURS "%.8s-%.64s-%08x", domain->uuid, hint, random);
    outcome = domain->is_active ? freeze_running(domain, ret_view, &why) : far_kvm_off_freeze(domain, ret_view, &why);
    if (outcome != FAR_ADAPTER_OK && ret_error != NULL && why.message[0] != '\0') {
        *ret_error = why;
    }
    return outcome;
}

/* ---- end ---- */

int far_kvm_end(struct far_kvm_domain *domain, const char *ref, bool keeps, struct far_adapter_error *ret_error)
{
    struct far_kvm_checkpoints list;
    bool other, there = false;
    far_kvm_off_end(domain, ref);
    int outcome = end_backup(domain, ref, &other, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_checkpoints_list(domain, &list, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    for (int i = 0; i < list.count; i++) {
        there = there || strcmp(virDomainCheckpointGetName(list.all[i]), ref) == 0;
    }
    /* One that cannot be deleted now (the domain is off) costs nothing: the next freeze finds it. */
    for (int i = list.count - 1; i >= 0; i--) {
        bool same = strcmp(virDomainCheckpointGetName(list.all[i]), ref) == 0;
        if (far_kvm_checkpoint_is_ours(domain, list.all[i]) && (keeps ? there && !same : same)) {
            (void)far_kvm_checkpoint_remove(domain, list.all[i], NULL);
        }
    }
    far_kvm_checkpoints_free(&list);
    sweep(domain, ref);
    return FAR_ADAPTER_OK;
}

int far_kvm_forget(struct far_kvm_domain *domain, struct far_adapter_error *ret_error)
{
    struct far_kvm_checkpoints list;
    char prefix[FAR_KVM_NAME_MAX];
    bool other;
    far_kvm_prefix(domain, prefix);
    far_kvm_off_end(domain, prefix);
    int outcome = end_backup(domain, NULL, &other, ret_error);
    outcome = outcome == FAR_ADAPTER_OK ? far_kvm_checkpoints_list(domain, &list, ret_error) : outcome;
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    for (int i = list.count - 1; outcome == FAR_ADAPTER_OK && i >= 0; i--) {
        bool is_ours = far_kvm_checkpoint_is_ours(domain, list.all[i]);
        outcome = is_ours ? far_kvm_checkpoint_remove(domain, list.all[i], ret_error) : FAR_ADAPTER_OK;
    }
    far_kvm_checkpoints_free(&list);
    sweep(domain, prefix);
    return outcome;
}

/* ---- where ---- */

/* A path as it may stand in a URI's query. */
static void print_uri(const char *target, const char *path)
{
    printf("uri nbd+unix:///%s?socket=", target);
    for (; *path != '\0'; path++) {
        bool plain = (*path >= 'a' && *path <= 'z') || (*path >= 'A' && *path <= 'Z') || (*path >= '0' && *path <= '9') ||
                     strchr("/._-~", *path) != NULL;
        printf(plain ? "%c" : "%%%02X", (unsigned char)*path);
    }
    printf("\n");
}

/* What the view's own checkpoint says of its list: "also A B; why words". */
static void print_described(const struct far_kvm_domain *domain, const char *ref, bool has_base)
{
    virDomainCheckpointPtr checkpoint = virDomainCheckpointLookupByName(domain->domain, ref, 0);
    char *text = checkpoint != NULL ? virDomainCheckpointGetXMLDesc(checkpoint, VIR_DOMAIN_CHECKPOINT_XML_NO_DOMAIN) : NULL;
    struct far_kvm_xml *xml = text != NULL ? far_kvm_xml_parse(text) : NULL;
    const char *words = far_kvm_xml_text(far_kvm_xml_child(xml, "description")), *why = strstr(words, "; why ");
    if (why != NULL && has_base && strncmp(words, "also", 4) == 0) {
        printf("also%.*s\n", (int)(why - words - 4), words + 4);
    } else if (why != NULL && !has_base) {
        printf("why %s\n", why[6] != '\0' ? why + 6 : "the view that was kept last did not have this disk");
    }
    far_kvm_xml_free(xml);
    free(text);
    if (checkpoint != NULL) {
        virDomainCheckpointFree(checkpoint);
    }
}

int far_kvm_where(struct far_kvm_domain *domain, const char *ref, struct far_adapter_error *ret_error)
{
    const struct far_kvm_disk *disk = &domain->disks[0];
    char *text = backup_of(domain), found[FAR_KVM_NAME_MAX] = "", base[FAR_KVM_NAME_MAX] = "", path[PATH_MAX], rest[PATH_MAX];
    struct far_kvm_xml *backup = text != NULL ? far_kvm_xml_parse(text) : NULL;
    const struct far_kvm_xml *at = far_kvm_xml_child(far_kvm_xml_child(backup, "disks"), "disk");
    while (at != NULL && strcmp(far_kvm_xml_attr(at, "name"), disk->place.target) != 0) {
        at = far_kvm_xml_next(at);
    }
    free(text);
    if (backup != NULL) {
        view_of(domain, backup, found);
        snprintf(path, sizeof path, "%s", far_kvm_xml_attr(far_kvm_xml_child(backup, "server"), "socket"));
        snprintf(base, sizeof base, "%s", far_kvm_xml_attr(at, "incremental"));
    }
    far_kvm_xml_free(backup);
    bool is_here = at != NULL && strcmp(found, ref) == 0;
    if (!is_here && far_kvm_off_where(disk, ref, path, rest, sizeof rest)) {
        print_uri(disk->place.target, path);
        printf("%s", rest);
        return FAR_ADAPTER_OK;
    }
    if (!is_here && domain->is_active && socket_of(domain, ref, path, NULL) == FAR_ADAPTER_OK && far_kvm_listens(path)) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_RETRY, FAR_BUSY,
                                "libvirt does not know of the view '%.100s' of the domain '%.100s', which is there: it may have started "
                                "anew",
                                ref, disk->place.domain);
    }
    if (!is_here) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_NOT_FOUND,
                                "the view '%.100s' of the domain '%.100s' is gone: it was ended, or the domain was", ref,
                                disk->place.domain);
    }
    print_uri(disk->place.target, path);
    if (base[0] != '\0') {
        printf("base %s\n", base);
    }
    if (!disk->is_qcow2) {
        printf("why its image is no qcow2, so it keeps no list of what changes\n");
    } else {
        print_described(domain, ref, base[0] != '\0');
    }
    return FAR_ADAPTER_OK;
}
