/* Views of a domain that is shut off: its images are at rest, so each is served as it is, read-only, by a qemu-nbd of its own.
 *
 * While such a view lives the image is locked against whoever would write to it, as QEMU's programs lock images among themselves: the
 * domain cannot start, and what is read is of one moment. No checkpoint is made. The export offers the bitmap K of the last view that
 * was kept, which is in the image; and because nothing was written since, K is this view's own token as well: what a later view says
 * changed since K holds all that changed since this one, and what this one has sent already.
 *
 * Each qemu-nbd is the child of a process `farshore-kvm hold`, which outlives the node and everything else of ours. It listens at
 * FOLDER/VIEW-TARGET.ctl: "where" has it tell where the view is and of which list, "end" has it end. It ends by itself when nobody was
 * connected to the view for an hour, so that a node that never comes back does not keep a machine from starting for ever. */
#define _GNU_SOURCE
#include "adapters/kvm/kvm_helper.h"

#include "base/clock.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/prctl.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

enum { POLL_MS = 10, READY_MS = 20000, TICK_MS = 5000, IDLE_MS = 3600 * 1000, TALK_S = 5, END_MS = 15000, WORDS_MAX = 400 };

static void pause_ms(unsigned ms)
{
    nanosleep(&(struct timespec){.tv_nsec = ms * 1000000L}, NULL);
}

/* -1: it is not there, or nobody listens. */
static int connect_to(const char *path)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    const struct timeval patience = {.tv_sec = TALK_S};
    if (strlen(path) >= sizeof address.sun_path) {
        return -1;
    }
    strcpy(address.sun_path, path);
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    if (fd >= 0 && connect(fd, (const struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        return -1;
    }
    return fd;
}

bool far_kvm_listens(const char *path)
{
    int fd = connect_to(path);
    if (fd >= 0) {
        close(fd);
    }
    return fd >= 0;
}

/* Does an NBD server serve there? One listens before it has opened its image, and may still find that it cannot. */
static bool greets(const char *path)
{
    char magic[8];
    int fd = connect_to(path);
    bool there = fd >= 0 && recv(fd, magic, sizeof magic, MSG_WAITALL) == sizeof magic && memcmp(magic, "NBDMAGIC", sizeof magic) == 0;
    if (fd >= 0) {
        close(fd);
    }
    return there;
}

/* ---- the process that holds a view ---- */

/* Its arguments behind "hold": control socket, socket of the view, target, image, driver of the file, is it qcow2, the bitmap, and what
 * "where" says. */
struct holder {
    const char *control, *socket, *target, *image, *file_driver, *format, *bitmap, *words;
    pid_t pid;
    int errors; /* what qemu-nbd said, in memory */
    int listener;
};

/* As a value of QEMU's options. */
static void put_value(char *to, size_t size, const char *value)
{
    size_t used = strlen(to);
    for (; *value != '\0' && used + 3 < size; value++) {
        to[used++] = *value;
        if (*value == ',') {
            to[used++] = ',';
        }
    }
    to[used] = '\0';
}

/* qcow2 does not share its image with whoever writes; of a raw one blkdebug says that it does not. */
static void image_options(const struct holder *holder, char *to, size_t size)
{
    bool is_qcow2 = strcmp(holder->format, "qcow2") == 0;
    snprintf(to, size, is_qcow2 ? "driver=qcow2,file.driver=%s,file.filename="
                                : "driver=raw,file.driver=blkdebug,file.unshare-child-perms.0=write,file.unshare-child-perms.1=resize,"
                                  "file.image.driver=%s,file.image.filename=",
             holder->file_driver);
    put_value(to, size, holder->image);
}

_Noreturn static void become_server(const struct holder *holder, pid_t parent)
{
    char image[2 * PATH_MAX];
    const char *argv[20] = {"qemu-nbd", "--read-only", "--persistent", "--shared=16", "--socket", holder->socket, "--export-name",
                            holder->target, "--image-opts"};
    size_t count = 9;
    (void)prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != parent) {
        _exit(127);
    }
    if (holder->bitmap[0] != '\0') {
        argv[count++] = "--bitmap";
        argv[count++] = holder->bitmap;
    }
    umask(0177);
    image_options(holder, image, sizeof image);
    argv[count++] = image;
    int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, STDIN_FILENO);
    dup2(nothing, STDOUT_FILENO);
    dup2(holder->errors, STDERR_FILENO);
    execvp(argv[0], (char *const *)argv);
    dprintf(STDERR_FILENO, "qemu-nbd cannot be started (Debian: qemu-utils): %s", strerror(errno));
    _exit(127);
}

/* Its last words in one line. */
static void last_words(const struct holder *holder, char words[WORDS_MAX])
{
    ssize_t n = pread(holder->errors, words, WORDS_MAX - 1, 0);
    words[n > 0 ? n : 0] = '\0';
    for (char *c = words; *c != '\0'; c++) {
        *c = *c == '\n' ? ' ' : *c;
    }
}

static bool has_ended(struct holder *holder)
{
    holder->pid = holder->pid > 0 && waitpid(holder->pid, NULL, WNOHANG) != 0 ? -1 : holder->pid; /* its number may be another's now */
    return holder->pid < 0;
}

static bool start_server(struct holder *holder)
{
    pid_t self = getpid();
    uint64_t until_ms = far_clock_monotonic_ms() + READY_MS;
    holder->errors = memfd_create("farshore-nbd", MFD_CLOEXEC);
    holder->pid = holder->errors >= 0 ? fork() : -1;
    if (holder->pid == 0) {
        become_server(holder, self);
    }
    while (holder->pid > 0 && !has_ended(holder) && far_clock_monotonic_ms() < until_ms) {
        if (greets(holder->socket)) {
            return true;
        }
        pause_ms(POLL_MS);
    }
    return false;
}

static bool start_control(struct holder *holder)
{
    struct sockaddr_un address = {.sun_family = AF_UNIX};
    strncpy(address.sun_path, holder->control, sizeof address.sun_path - 1);
    holder->listener = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0);
    umask(0177);
    return holder->listener >= 0 && bind(holder->listener, (const struct sockaddr *)&address, sizeof address) == 0 &&
           listen(holder->listener, 8) == 0;
}

/* Is anybody connected to the view? As the kernel lists sockets: "…: RefCount Protocol Flags Type St Inode Path". */
static bool is_in_use(const struct holder *holder)
{
    FILE *file = fopen("/proc/net/unix", "re");
    char line[512], path[256];
    unsigned state;
    bool used = file == NULL;
    while (file != NULL && !used && fgets(line, sizeof line, file) != NULL) {
        used = sscanf(line, "%*s %*s %*s %*s %*s %x %*s %255s", &state, path) == 2 && state == 3 && strcmp(path, holder->socket) == 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return used;
}

/* false: it is to end. */
static bool answer(const struct holder *holder)
{
    char word[16] = "";
    const struct timeval patience = {.tv_sec = TALK_S};
    int fd = accept4(holder->listener, NULL, NULL, SOCK_CLOEXEC);
    if (fd < 0) {
        return true;
    }
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    ssize_t n = recv(fd, word, sizeof word - 1, 0);
    bool ends = n >= 3 && strncmp(word, "end", 3) == 0;
    if (ends) { /* whoever asked hears the end of the connection when all is gone: it stays open until then */
        return false;
    }
    if (n >= 5 && strncmp(word, "where", 5) == 0) {
        (void)send(fd, holder->words, strlen(holder->words), MSG_NOSIGNAL);
    }
    close(fd);
    return true;
}

static void end_server(const struct holder *holder)
{
    if (holder->pid > 0) {
        kill(holder->pid, SIGKILL); /* it only reads */
        while (waitpid(holder->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    unlink(holder->socket);
    unlink(holder->control);
}

static void report_and_close(const char *text)
{
    printf("%s\n", text);
    fflush(stdout);
    int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, STDOUT_FILENO);
}

static void on_child(int number)
{
    (void)number; /* it interrupts the poll */
}

int far_kvm_hold(const char *const *argv)
{
    struct holder holder = {.control = argv[0], .socket = argv[1], .target = argv[2], .image = argv[3], .file_driver = argv[4],
                            .format = argv[5],  .bitmap = argv[6], .words = argv[7], .errors = -1, .listener = -1};
    char words[WORDS_MAX] = "", text[WORDS_MAX + 16];
    uint64_t idle_ms = 0, tick_ms;
    sigaction(SIGCHLD, &(struct sigaction){.sa_handler = on_child}, NULL);
    if (!start_server(&holder) || !start_control(&holder)) {
        last_words(&holder, words);
        end_server(&holder);
        snprintf(text, sizeof text, "fail %s", words[0] != '\0' ? words : "qemu-nbd does not come up");
        report_and_close(text);
        return 1;
    }
    report_and_close("ready");
    for (bool goes_on = true; goes_on;) {
        tick_ms = far_clock_monotonic_ms();
        int ready = poll(&(struct pollfd){.fd = holder.listener, .events = POLLIN}, 1, TICK_MS);
        goes_on = (ready <= 0 || answer(&holder)) && !has_ended(&holder);
        idle_ms = is_in_use(&holder) ? 0 : idle_ms + (far_clock_monotonic_ms() - tick_ms);
        goes_on = goes_on && idle_ms < IDLE_MS;
    }
    end_server(&holder);
    return 0;
}

/* ---- who asks for it ---- */

static int paths_of(const struct far_kvm_disk *disk, const char *ref, char control[PATH_MAX], char socket[PATH_MAX],
                    struct far_adapter_error *ret_error)
{
    char folder[PATH_MAX];
    const size_t max = sizeof ((struct sockaddr_un *)0)->sun_path;
    int outcome = far_kvm_folder(disk, folder, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    snprintf(control, PATH_MAX, "%.3000s/%s-%s.ctl", folder, ref, disk->place.target);
    if ((size_t)snprintf(socket, PATH_MAX, "%.3000s/%s-%s.sock", folder, ref, disk->place.target) >= max) {
        return far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                "the folder '%.120s' has too long a name for a socket in it: give the locators a shorter folder=PATH",
                                folder);
    }
    return FAR_ADAPTER_OK;
}

_Noreturn static void become_holder(const char *const *argv, int out)
{
    setsid(); /* whoever ends this process's group does not mean it */
    int nothing = open("/dev/null", O_RDWR);
    dup2(nothing, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(nothing, STDERR_FILENO);
    if (chdir("/") == 0) {
        execv("/proc/self/exe", (char *const *)argv);
    }
    _exit(127);
}

/* Until it says "ready", or why not. */
static bool start_holder(const char *const *argv, char words[WORDS_MAX])
{
    int fds[2];
    char line[WORDS_MAX + 16] = "";
    size_t used = 0;
    ssize_t n = 1;
    strcpy(words, "no process could be started");
    if (pipe2(fds, O_CLOEXEC) != 0) {
        return false;
    }
    pid_t pid = fork();
    if (pid == 0) {
        become_holder(argv, fds[1]);
    }
    close(fds[1]);
    while (pid > 0 && n > 0 && used < sizeof line - 1) {
        n = read(fds[0], line + used, sizeof line - 1 - used);
        used += n > 0 ? (size_t)n : 0;
    }
    close(fds[0]);
    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "fail ", 5) == 0) {
        snprintf(words, WORDS_MAX, "%.*s", WORDS_MAX - 1, line + 5);
    }
    return strcmp(line, "ready") == 0;
}

/* Of one disk; *bitmap becomes "" where its image has none that is good, and why says it. */
static int hold(const struct far_kvm_disk *disk, const char *ref, char bitmap[FAR_KVM_NAME_MAX], const char *also, const char *why,
                struct far_adapter_error *ret_error)
{
    char control[PATH_MAX], socket[PATH_MAX], words[WORDS_MAX] = "", about[2 * PATH_MAX], reason[WORDS_MAX];
    int outcome = paths_of(disk, ref, control, socket, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    snprintf(reason, sizeof reason, "%s", disk->is_qcow2 ? why : "its image is no qcow2, so it keeps no list of what changes");
    for (;;) {
        bool has_list = bitmap[0] != '\0';
        snprintf(about, sizeof about, has_list ? "socket %s\nbase %s\nalso%s\n" : "socket %s\nwhy %s%s\n", socket,
                 has_list ? bitmap : reason, has_list ? also : "");
        const char *driver = disk->is_file ? "file" : "host_device", *format = disk->is_qcow2 ? "qcow2" : "raw";
        const char *argv[] = {"farshore-kvm", "hold", control, socket, disk->place.target, disk->path, driver, format, bitmap, about, NULL};
        if (start_holder(argv, words)) {
            return FAR_ADAPTER_OK;
        }
        if (bitmap[0] == '\0' || strstr(words, "itmap") == NULL) {
            break;
        }
        snprintf(reason, sizeof reason, "%s", words); /* missing, or left inconsistent by a QEMU that was killed */
        bitmap[0] = '\0';
    }
    bool is_locked = strstr(words, " lock") != NULL; /* somebody writes to it: the domain begins to run, or another program */
    return far_adapter_fail(ret_error, is_locked ? FAR_ADAPTER_RETRY : FAR_ADAPTER_FATAL, is_locked ? FAR_BUSY : FAR_IO,
                            "disk '%s' of '%.80s', which is shut off, cannot be read: %.250s", disk->place.target, disk->place.domain,
                            words);
}

/* The checkpoint of the last view that was kept, and the younger ones, which cannot be deleted while the domain is off. */
static int find_base(const struct far_kvm_domain *domain, char base[FAR_KVM_NAME_MAX], bool has[FAR_KVM_DISKS_MAX], char also[WORDS_MAX],
                     struct far_adapter_error *ret_error)
{
    struct far_kvm_checkpoints list;
    int outcome = far_kvm_checkpoints_list(domain, &list, ret_error);
    if (outcome != FAR_ADAPTER_OK) {
        return outcome;
    }
    for (int i = 0; i < list.count; i++) {
        const char *name = virDomainCheckpointGetName(list.all[i]);
        size_t used = strlen(also);
        if (far_kvm_checkpoint_is_ours(domain, list.all[i]) && base[0] == '\0') {
            snprintf(base, FAR_KVM_NAME_MAX, "%s", name);
            far_kvm_checkpoint_look(domain, list.all[i], has);
        } else if (far_kvm_checkpoint_is_ours(domain, list.all[i])) {
            snprintf(also + used, WORDS_MAX - used, " %s", name);
        }
    }
    far_kvm_checkpoints_free(&list);
    return FAR_ADAPTER_OK;
}

int far_kvm_off_freeze(const struct far_kvm_domain *domain, struct far_kvm_view *view, struct far_adapter_error *ret_error)
{
    char base[FAR_KVM_NAME_MAX] = "", also[WORDS_MAX] = "";
    bool has[FAR_KVM_DISKS_MAX] = {false};
    int outcome = find_base(domain, base, has, also, ret_error);
    const char *why = base[0] == '\0' ? "no checkpoint of an earlier view is there" : "the view that was kept last did not have this disk";
    for (size_t i = 0; outcome == FAR_ADAPTER_OK && i < domain->disk_count; i++) {
        snprintf(view->tokens[i], sizeof view->tokens[i], "%s", has[i] && domain->disks[i].is_qcow2 ? base : "");
        if (domain->disks[i].path[0] != '/') {
            outcome = far_adapter_fail(ret_error, FAR_ADAPTER_FATAL, FAR_INVALID,
                                       "the domain '%.100s' is shut off, and its disk '%s' is neither a file nor a device: it is protected "
                                       "while it runs, its last points stay good",
                                       domain->disks[i].place.domain, domain->disks[i].place.target);
        } else {
            outcome = hold(&domain->disks[i], view->ref, view->tokens[i], also, why, ret_error);
        }
    }
    if (outcome != FAR_ADAPTER_OK) {
        far_kvm_off_end(domain, view->ref);
    }
    return outcome;
}

static void end_one(const char *path)
{
    char byte;
    int fd = connect_to(path);
    const struct timeval patience = {.tv_sec = END_MS / 1000};
    if (fd >= 0) {
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
        while (send(fd, "end", 3, MSG_NOSIGNAL) == 3 && recv(fd, &byte, 1, 0) > 0) {
        }
        close(fd);
    }
}

void far_kvm_off_end(const struct far_kvm_domain *domain, const char *prefix)
{
    for (size_t i = 0; i < domain->disk_count; i++) {
        char folder[PATH_MAX], path[PATH_MAX + 256];
        DIR *dir = far_kvm_folder(&domain->disks[i], folder, NULL) == FAR_ADAPTER_OK ? opendir(folder) : NULL;
        for (struct dirent *entry; dir != NULL && (entry = readdir(dir)) != NULL;) {
            const char *end = strrchr(entry->d_name, '.');
            if (strncmp(entry->d_name, prefix, strlen(prefix)) == 0 && end != NULL && strcmp(end, ".ctl") == 0) {
                snprintf(path, sizeof path, "%s/%s", folder, entry->d_name);
                end_one(path);
            }
        }
        if (dir != NULL) {
            closedir(dir);
        }
    }
}

bool far_kvm_off_where(const struct far_kvm_disk *disk, const char *ref, char socket[PATH_MAX], char *rest, size_t size)
{
    char control[PATH_MAX], path[PATH_MAX], text[2 * PATH_MAX + 1];
    size_t used = 0;
    int fd = paths_of(disk, ref, control, path, NULL) == FAR_ADAPTER_OK ? connect_to(control) : -1;
    ssize_t n = fd >= 0 && send(fd, "where", 5, MSG_NOSIGNAL) == 5 ? 1 : 0;
    while (n > 0 && used < sizeof text - 1) {
        n = recv(fd, text + used, sizeof text - 1 - used, 0);
        used += n > 0 ? (size_t)n : 0;
    }
    text[used] = '\0';
    if (fd >= 0) {
        close(fd);
    }
    const char *line = strchr(text, '\n');
    if (strncmp(text, "socket ", 7) != 0 || line == NULL) {
        return false;
    }
    snprintf(socket, PATH_MAX, "%.*s", (int)(line - text - 7), text + 7);
    snprintf(rest, size, "%s", line + 1);
    return true;
}
