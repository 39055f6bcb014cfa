/* farshore-node vault browse: files of a guest's file systems in a point, by libguestfs.
 *
 *   vault browse --vault DIR --point ID --disk NAME (--list PATH | --cat PATH | --get PATH --out FILE) [--mount DEVICE]
 *                [--recovery-key FILE]
 *
 * What a guest wrote is read by nobody here: the disk is served read-only over NBD (vault_nbd.c), and guestfish has a small virtual machine
 * of its own that mounts it. This program runs twice: the outer one serves, the inner one (--served URI) talks to guestfish over pipes;
 * the shell between them sees constants only, for what was asked comes by the environment. Of every path guestfish gets each byte as \xNN.
 * Where an operating system is found its file systems are mounted as it does; else the only file system, or --mount says which.
 * Names are printed with bytes that are not printable as \xNN, and a backslash as \\. */
#define _GNU_SOURCE
#include "base/bytes.h"
#include "base/child.h"
#include "base/file.h"
#include "base/random.h"
#include "node/node.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

enum { LINE_BYTES = 4096, LINES_MAX = 64, PATH_BYTES_MAX = 4096, SILENCE_MS_MAX = 600000, LISTING_BYTES_MAX = 64 << 20 };
static char marker[40]; /* of this process: nothing that a guest has is this line */

/* ---- the outer one ---- */

static const char *const names[] = {"--vault", "--point", "--disk", "--list", "--cat", "--get", "--out", "--mount", "--recovery-key", NULL};
enum value { VAULT, POINT, DISK, LIST, CAT, GET, OUT, MOUNT, RECOVERY_KEY, VALUES };

static int pass_on(const char *const *values, struct far_error *err)
{
    char program[PATH_BYTES_MAX];
    ssize_t len = readlink("/proc/self/exe", program, sizeof program - 1);
    enum value what = values[LIST] != NULL ? LIST : values[CAT] != NULL ? CAT : GET;
    if (len <= 0) {
        return far_fail_errno(err, FAR_IO, errno, "find this program");
    }
    program[len] = '\0';
    bool good = setenv("FARSHORE_BROWSE_PROGRAM", program, 1) == 0 && setenv("FARSHORE_BROWSE_WHAT", names[what], 1) == 0 &&
                setenv("FARSHORE_BROWSE_PATH", values[what], 1) == 0 &&
                setenv("FARSHORE_BROWSE_OUT", values[OUT] != NULL ? values[OUT] : "", 1) == 0 &&
                setenv("FARSHORE_BROWSE_MOUNT", values[MOUNT] != NULL ? values[MOUNT] : "", 1) == 0 &&
                setenv("LIBGUESTFS_BACKEND", "direct", 0) == 0;
    return good ? 0 : far_fail(err, FAR_LIMIT, "no memory to browse a disk");
}

static int check(const char *const *values, struct far_error *err)
{
    int count = (values[LIST] != NULL) + (values[CAT] != NULL) + (values[GET] != NULL);
    int rc = far_vault_cli_need(names, values, 3, err);
    if (rc == 0 && (count != 1 || (values[GET] == NULL) != (values[OUT] == NULL))) {
        rc = far_fail(err, FAR_INVALID, "one of --list, --cat and --get is needed, and --out with --get");
    }
    const char *path = values[LIST] != NULL ? values[LIST] : values[CAT] != NULL ? values[CAT] : values[GET];
    if (rc == 0 && (path[0] != '/' || strlen(path) >= PATH_BYTES_MAX)) {
        rc = far_fail(err, FAR_INVALID, "'%.200s' is no absolute path in the guest", path);
    }
    if (rc == 0 && values[OUT] != NULL && access(values[OUT], F_OK) == 0) {
        rc = far_fail(err, FAR_CONFLICT, "'%s' is there already", values[OUT]);
    }
    return rc;
}

int far_vault_browse_cli(int argc, char **argv, int *ret_status, struct far_error *err)
{
    const char *values[VALUES];
    uint64_t point = 0;
    int rc = far_node_options(argc, argv, names, values, err);
    rc = rc == 0 ? check(values, err) : rc;
    rc = rc == 0 ? far_vault_parse_point(values[POINT], &point, err) : rc;
    if (rc == 0 && !far_node_has_program("guestfish")) {
        rc = far_fail(err, FAR_NOT_FOUND, "the guest's files are read by guestfish, which is not installed (Debian: apt-get install "
                                          "guestfish, and a kernel: linux-image-cloud-amd64)");
    }
    rc = rc == 0 ? pass_on(values, err) : rc;
    if (rc != 0) {
        return rc;
    }
    const struct far_nbd_order order = {
        .vault = values[VAULT], .point = point, .disk = values[DISK], .recovery_key = values[RECOVERY_KEY], .ret_status = ret_status};
    return far_vault_nbd_run(&order, "exec \"$FARSHORE_BROWSE_PROGRAM\" vault browse --served \"$uri\"", err);
}

/* ---- the inner one: guestfish ---- */

struct guestfish {
    pid_t pid;
    FILE *to;
    int from;
    char folder[PATH_BYTES_MAX]; /* with what it complains about; it goes */
    char buffer[LINE_BYTES];
    size_t length;
    char *lines[LINES_MAX]; /* of the last answer */
    size_t line_count;
};

_Noreturn static void become_guestfish(pid_t parent, const char *uri, int in, int out, const char *complaints)
{
    far_child_end_with(parent);
    int error = open(complaints, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
    dup2(in, STDIN_FILENO);
    dup2(out, STDOUT_FILENO);
    dup2(error, STDERR_FILENO);
    (void)close_range(3, ~0u, 0); /* keys of a domain, say, that this process got */
    execlp("guestfish", "guestfish", "--ro", "--format=raw", "-a", uri, (char *)NULL);
    _exit(127);
}

/* guestfish knows other forms: "nbd+unix://?socket=PATH" is its "nbd:///?socket=PATH". */
static void uri_of(const char *uri, char text[LINE_BYTES])
{
    const char *at = strstr(uri, "socket=");
    snprintf(text, LINE_BYTES, "nbd:///?%.3000s", at != NULL ? at : "");
}

static int start(struct guestfish *fish, const char *uri, struct far_error *err)
{
    int in[2], out[2];
    const char *base = getenv("TMPDIR");
    char path[PATH_BYTES_MAX + 16], text[LINE_BYTES];
    uint8_t drawn[16];
    far_random_bytes(drawn, sizeof drawn);
    far_hex_encode(drawn, sizeof drawn, marker);
    uri_of(uri, text);
    snprintf(fish->folder, sizeof fish->folder, "%.3000s/browse-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(fish->folder) == NULL || pipe2(in, O_CLOEXEC) != 0 || pipe2(out, O_CLOEXEC) != 0) {
        return far_fail_errno(err, FAR_IO, errno, "begin to browse");
    }
    snprintf(path, sizeof path, "%s/said", fish->folder);
    signal(SIGPIPE, SIG_IGN);
    pid_t parent = getpid();
    fish->pid = fork();
    if (fish->pid == 0) {
        become_guestfish(parent, text, in[0], out[1], path);
    }
    close(in[0]);
    close(out[1]);
    fish->to = fdopen(in[1], "w");
    fish->from = out[0];
    return fish->pid > 0 && fish->to != NULL ? 0 : far_fail_errno(err, FAR_IO, errno, "start guestfish");
}

/* The last thing that it complained about. */
static int failed(struct guestfish *fish, struct far_error *err)
{
    char path[PATH_BYTES_MAX + 16], line[LINE_BYTES] = "", last[LINE_BYTES] = "it gave no reason";
    snprintf(path, sizeof path, "%s/said", fish->folder);
    FILE *file = fopen(path, "re");
    while (file != NULL && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        if (line[0] != '\0') {
            memcpy(last, line, sizeof last);
        }
    }
    if (file != NULL) {
        fclose(file);
    }
    bool is_absent = strstr(last, "No such file") != NULL;
    return far_fail(err, is_absent ? FAR_NOT_FOUND : FAR_IO, "guestfish: %.300s", last);
}

/* One line of its answer; false: it ended, or said nothing for too long. */
static bool read_line(struct guestfish *fish, char line[LINE_BYTES])
{
    for (;;) {
        char *end = memchr(fish->buffer, '\n', fish->length);
        if (end != NULL || fish->length == sizeof fish->buffer) {
            size_t len = end != NULL ? (size_t)(end - fish->buffer) : fish->length - 1, used = len + 1;
            memcpy(line, fish->buffer, len);
            line[len] = '\0';
            memmove(fish->buffer, fish->buffer + used, fish->length - used);
            fish->length -= used;
            return true;
        }
        struct pollfd fd = {.fd = fish->from, .events = POLLIN};
        int ready = poll(&fd, 1, SILENCE_MS_MAX);
        ssize_t n = ready > 0 ? read(fish->from, fish->buffer + fish->length, sizeof fish->buffer - fish->length) : 0;
        if (n <= 0 && !(ready < 0 && errno == EINTR)) {
            return false;
        }
        fish->length += n > 0 ? (size_t)n : 0;
    }
}

/* What was written to it so far is done; its answer up to there is in lines. */
static int done(struct guestfish *fish, struct far_error *err)
{
    char line[LINE_BYTES];
    for (size_t i = 0; i < fish->line_count; i++) {
        free(fish->lines[i]);
    }
    fish->line_count = 0;
    fprintf(fish->to, "echo %s\n", marker);
    if (fflush(fish->to) != 0) {
        return failed(fish, err);
    }
    while (read_line(fish, line)) {
        if (strcmp(line, marker) == 0) {
            return 0;
        }
        char *copy = fish->line_count < LINES_MAX ? strdup(line) : NULL;
        if (copy != NULL) {
            fish->lines[fish->line_count++] = copy;
        }
    }
    return failed(fish, err);
}

static void put_argument(struct guestfish *fish, const char *text)
{
    fputs(" \"", fish->to);
    for (; *text != '\0'; text++) {
        fprintf(fish->to, "\\x%02x", (unsigned char)*text);
    }
    fputc('"', fish->to);
}

/* ---- what is mounted where ---- */

/* "/boot: /dev/sda1": shorter ones first, as they lie in each other. One that cannot be mounted is left out, as guestfish -i does. */
static int mount_system(struct guestfish *fish, const char *root, struct far_error *err)
{
    char *points[LINES_MAX];
    fputs("inspect-get-mountpoints", fish->to);
    put_argument(fish, root);
    fputc('\n', fish->to);
    int rc = done(fish, err);
    size_t count = rc == 0 ? fish->line_count : 0;
    memcpy(points, fish->lines, sizeof points);
    fish->line_count = 0; /* they are ours now */
    for (size_t length = 0; length < LINE_BYTES; length++) {
        for (size_t i = 0; i < count; i++) {
            char *colon = points[i] != NULL ? strstr(points[i], ": ") : NULL;
            if (colon != NULL && (size_t)(colon - points[i]) == length) {
                *colon = '\0';
                fputs("-mount-ro", fish->to);
                put_argument(fish, colon + 2);
                put_argument(fish, points[i]);
                fputc('\n', fish->to);
                *colon = ':';
            }
        }
    }
    for (size_t i = 0; i < count; i++) {
        free(points[i]);
    }
    return rc == 0 ? done(fish, err) : rc;
}

/* "/dev/sda1: ext4" */
static int mount_only(struct guestfish *fish, struct far_error *err)
{
    static const char *const others[] = {"unknown", "swap", "crypto_LUKS", "BitLocker", "LVM2_member", "linux_raid_member"};
    char device[LINE_BYTES] = "", found[400] = "";
    size_t count = 0;
    fputs("list-filesystems\n", fish->to);
    int rc = done(fish, err);
    for (size_t i = 0; rc == 0 && i < fish->line_count; i++) {
        char *colon = strstr(fish->lines[i], ": ");
        bool is_one = colon != NULL;
        for (size_t k = 0; is_one && k < sizeof others / sizeof others[0]; k++) {
            is_one = strcmp(colon + 2, others[k]) != 0;
        }
        if (is_one) {
            snprintf(found + strlen(found), sizeof found - strlen(found), "%s%s", count > 0 ? ", " : "", fish->lines[i]);
            snprintf(device, sizeof device, "%.*s", (int)(colon - fish->lines[i]), fish->lines[i]);
            count++;
        }
    }
    if (rc == 0 && count != 1) {
        return count == 0 ? far_fail(err, FAR_NOT_FOUND, "no file system is found on the disk")
                          : far_fail(err, FAR_INVALID, "which of its file systems? --mount names one: %s", found);
    }
    if (rc == 0) {
        fputs("mount-ro", fish->to);
        put_argument(fish, device);
        fputs(" /\n", fish->to);
        rc = done(fish, err);
    }
    return rc;
}

static int mount_all(struct guestfish *fish, struct far_error *err)
{
    const char *device = getenv("FARSHORE_BROWSE_MOUNT");
    fputs("run\n", fish->to);
    if (device != NULL && device[0] != '\0') {
        fputs("mount-ro", fish->to);
        put_argument(fish, device);
        fputs(" /\n", fish->to);
        return done(fish, err);
    }
    fputs("-inspect-os\n", fish->to);
    int rc = done(fish, err);
    if (rc != 0 || fish->line_count == 0) {
        return rc == 0 ? mount_only(fish, err) : rc;
    }
    char *root = strdup(fish->lines[0]);
    rc = root != NULL ? mount_system(fish, root, err) : far_fail(err, FAR_LIMIT, "no memory to browse a disk");
    free(root);
    return rc;
}

/* ---- what was asked ---- */

static void print_name(const char *name, size_t len)
{
    for (size_t i = 0; i < len; i++) {
        unsigned char c = (unsigned char)name[i];
        if (c == '\\') {
            fputs("\\\\", stdout);
        } else if (c < ' ' || c >= 0x7f) {
            printf("\\x%02x", c);
        } else {
            putchar(c);
        }
    }
    putchar('\n');
}

static int list(struct guestfish *fish, const char *path, struct far_error *err)
{
    char file[PATH_BYTES_MAX + 16];
    struct far_buf text;
    snprintf(file, sizeof file, "%s/names", fish->folder);
    fputs("ls0", fish->to);
    put_argument(fish, path);
    put_argument(fish, file);
    fputc('\n', fish->to);
    far_buf_init(&text, LISTING_BYTES_MAX);
    int rc = done(fish, err);
    rc = rc == 0 ? far_file_read(file, &text, err) : rc;
    for (size_t at = 0; rc == 0 && at < text.len;) {
        const char *name = (const char *)text.data + at;
        size_t len = strnlen(name, text.len - at);
        print_name(name, len);
        at += len + 1;
    }
    far_buf_done(&text);
    unlink(file);
    return rc;
}

/* out: a new file; NULL: standard output, once all of it is there. */
static int take(struct guestfish *fish, const char *path, const char *out, struct far_error *err)
{
    char file[PATH_BYTES_MAX + 16], bytes[1 << 16];
    snprintf(file, sizeof file, "%s/file", fish->folder);
    int fd = open(out != NULL ? out : file, O_RDWR | O_CREAT | O_EXCL | O_NOFOLLOW | O_CLOEXEC, 0600);
    if (fd < 0) {
        return far_fail_errno(err, errno == EEXIST ? FAR_CONFLICT : FAR_IO, errno, "create '%s'", out != NULL ? out : file);
    }
    fputs("download", fish->to);
    put_argument(fish, path);
    put_argument(fish, out != NULL ? out : file);
    fputc('\n', fish->to);
    int rc = done(fish, err);
    ssize_t n = 0;
    while (rc == 0 && out == NULL && (n = read(fd, bytes, sizeof bytes)) > 0) {
        fwrite(bytes, 1, (size_t)n, stdout);
    }
    if (rc == 0 && out != NULL && fsync(fd) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "sync '%s'", out);
    }
    close(fd);
    if (out == NULL || rc != 0) {
        unlink(out != NULL ? out : file);
    }
    return rc;
}

static void end(struct guestfish *fish)
{
    char path[PATH_BYTES_MAX + 16];
    if (fish->to != NULL) {
        fputs("exit\n", fish->to);
        fclose(fish->to);
        close(fish->from);
        while (waitpid(fish->pid, NULL, 0) < 0 && errno == EINTR) {
        }
    }
    for (size_t i = 0; i < fish->line_count; i++) {
        free(fish->lines[i]);
    }
    snprintf(path, sizeof path, "%s/said", fish->folder);
    unlink(path);
    rmdir(fish->folder);
}

int far_vault_browse_served(const char *uri, struct far_error *err)
{
    static struct guestfish fish;
    const char *what = getenv("FARSHORE_BROWSE_WHAT"), *path = getenv("FARSHORE_BROWSE_PATH"), *out = getenv("FARSHORE_BROWSE_OUT");
    if (what == NULL || path == NULL || out == NULL) {
        return far_fail(err, FAR_INVALID, "--served is for 'vault browse' itself");
    }
    int rc = start(&fish, uri, err);
    rc = rc == 0 ? mount_all(&fish, err) : rc;
    rc = rc != 0                        ? rc
         : strcmp(what, "--list") == 0 ? list(&fish, path, err)
                                       : take(&fish, path, out[0] != '\0' ? out : NULL, err);
    end(&fish);
    if (rc == 0 && fflush(stdout) != 0) {
        rc = far_fail_errno(err, FAR_IO, errno, "print what was found");
    }
    return rc;
}
