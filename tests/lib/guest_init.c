/* The only program of a test's guest (libvirt_kit.py): mounts the ext4 of each disk and writes records without pause.
 *
 * Record n (4096 bytes: magic, n, and bytes that follow from n) goes to slot n modulo the number of slots of the file `records`
 * on the first disk, which is then synced, then the same on the second, and so on; then "ACK n" goes to the console. So in a view
 * that froze all disks at one moment the last record of each disk is that of the disk before it, or the one before that. A
 * guest that starts again goes on behind the last record of its first disk. Now and then a file beside it is made anew or
 * removed, so that the file system's own blocks change as well.
 *
 * With far.load_kib=N on the kernel's command line it does so once a second only, and writes N KiB that never repeat to `load` on its first
 * disk in each of these, synced as well. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { RECORD_BYTES = 4096, DISKS_MAX = 8, FILES = 16, LOAD_SHARE = 2 };

static const char magic[8] = "FARREC01";

struct disk {
    char folder[32];
    int fd;
    uint64_t slots;
    uint64_t last;
};

static void die(const char *what)
{
    printf("GUEST FAILED: %s: %s\n", what, strerror(errno));
    fflush(stdout);
    sync();
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
    }
}

static void load_modules(void)
{
    char name[64], path[96];
    FILE *order = fopen("/modules/order", "r");
    while (order != NULL && fscanf(order, "%63s", name) == 1) {
        snprintf(path, sizeof path, "/modules/%s", name);
        int fd = open(path, O_RDONLY | O_CLOEXEC);
        if (fd < 0 || (syscall(SYS_finit_module, fd, "", 0) != 0 && errno != EEXIST)) {
            die(path);
        }
        close(fd);
    }
    if (order != NULL) {
        fclose(order);
    }
}

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void fill(uint8_t record[RECORD_BYTES], uint64_t number)
{
    uint64_t state = number * 0x9e3779b97f4a7c15u + 1;
    memcpy(record, magic, sizeof magic);
    memcpy(record + 8, &number, 8);
    for (size_t at = 16; at < RECORD_BYTES; at += 8) {
        uint64_t word = next_random(&state);
        memcpy(record + at, &word, 8);
    }
}

/* The newest record on the disk; one whose bytes are wrong was being written when the guest died, or is worth a look. */
static void find_last(struct disk *disk)
{
    uint8_t record[RECORD_BYTES], good[RECORD_BYTES];
    for (uint64_t slot = 0; slot < disk->slots; slot++) {
        uint64_t number;
        if (pread(disk->fd, record, sizeof record, (off_t)(slot * RECORD_BYTES)) != RECORD_BYTES || memcmp(record, magic, 8) != 0) {
            continue;
        }
        memcpy(&number, record + 8, 8);
        fill(good, number);
        if (memcmp(good, record, sizeof good) == 0) {
            disk->last = number > disk->last ? number : disk->last;
        } else {
            printf("TORN %s %llu\n", disk->folder, (unsigned long long)number);
        }
    }
}

/* Devices come when their driver has found them: a bounded wait. */
static bool open_disk(struct disk *disk, unsigned index)
{
    char device[32], path[64];
    struct stat about;
    snprintf(device, sizeof device, "/dev/vd%c", 'a' + (int)index);
    snprintf(disk->folder, sizeof disk->folder, "/disks/%u", index);
    for (unsigned n = 0; stat(device, &about) != 0; n++) {
        if (n == (index == 0 ? 500 : 1)) {
            return false;
        }
        usleep(10000); /* far-poll */
    }
    mkdir(disk->folder, 0755);
    if (mount(device, disk->folder, "ext4", MS_NOATIME, "discard") != 0) {
        die(device);
    }
    snprintf(path, sizeof path, "%s/records", disk->folder);
    disk->fd = open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    int64_t bytes = 0;
    FILE *size = NULL;
    snprintf(path, sizeof path, "/sys/class/block/vd%c/size", 'a' + (int)index);
    size = fopen(path, "r");
    if (disk->fd < 0 || size == NULL || fscanf(size, "%ld", &bytes) != 1) {
        die(path);
    }
    fclose(size);
    disk->slots = (uint64_t)bytes * 512 / 4 / RECORD_BYTES; /* a quarter of the disk, then round again */
    return true;
}

/* QEMU's guest agent, where there is one and the domain has a channel for it. */
static void start_agent(void)
{
    char name[64], path[300];
    DIR *ports = opendir("/sys/class/virtio-ports");
    for (struct dirent *entry; ports != NULL && (entry = readdir(ports)) != NULL;) {
        snprintf(path, sizeof path, "/sys/class/virtio-ports/%s/name", entry->d_name);
        FILE *file = fopen(path, "r");
        bool is_agent = file != NULL && fscanf(file, "%63s", name) == 1 && strcmp(name, "org.qemu.guest_agent.0") == 0;
        if (file != NULL) {
            fclose(file);
        }
        snprintf(path, sizeof path, "/dev/%s", entry->d_name);
        if (is_agent && fork() == 0) {
            execl("/bin/qemu-ga", "qemu-ga", "-m", "virtio-serial", "-p", path, "-t", "/run", (char *)NULL);
            _exit(127);
        }
    }
    if (ports != NULL) {
        closedir(ports);
    }
}

static void write_record(struct disk *disk, uint64_t number)
{
    uint8_t record[RECORD_BYTES];
    fill(record, number);
    if (pwrite(disk->fd, record, sizeof record, (off_t)(number % disk->slots * RECORD_BYTES)) != RECORD_BYTES || fsync(disk->fd) != 0) {
        die("write a record");
    }
    disk->last = number;
}

/* What a file system does beside: names made and removed, files of several sizes. */
static void stir(const struct disk *disk, uint64_t number)
{
    char path[64];
    snprintf(path, sizeof path, "%s/file%llu", disk->folder, (unsigned long long)(number / 8 % FILES));
    if (number / 8 % 3 == 0) {
        unlink(path);
        return;
    }
    int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) {
        die(path);
    }
    uint8_t record[RECORD_BYTES];
    for (uint64_t n = 0; n < number % 32; n++) {
        fill(record, number + n);
        if (write(fd, record, sizeof record) != RECORD_BYTES) {
            die(path);
        }
    }
    close(fd);
}

/* ---- a steady load ---- */

struct load {
    uint64_t kib; /* a second; 0: none */
    uint64_t at, bytes, number;
    int fd;
};

static uint64_t asked_load(void)
{
    char line[2048] = "";
    unsigned long long kib = 0;
    FILE *file = fopen("/proc/cmdline", "r");
    const char *found = file != NULL && fgets(line, sizeof line, file) != NULL ? strstr(line, "far.load_kib=") : NULL;
    if (found != NULL && sscanf(found, "far.load_kib=%llu", &kib) != 1) {
        kib = 0;
    }
    if (file != NULL) {
        fclose(file);
    }
    return kib;
}

static void open_load(struct load *load, const struct disk *disk)
{
    char path[64];
    load->kib = asked_load();
    load->bytes = disk->slots * 4 / LOAD_SHARE * RECORD_BYTES; /* then round again */
    load->number = (uint64_t)1 << 40;
    snprintf(path, sizeof path, "%s/load", disk->folder);
    load->fd = load->kib == 0 ? -1 : open(path, O_RDWR | O_CREAT | O_CLOEXEC, 0644);
    if (load->kib != 0 && load->fd < 0) {
        die(path);
    }
}

/* What is due in a second; returns when that is over, or at once if it took longer. */
static void write_load(struct load *load)
{
    static uint8_t chunk[64 * RECORD_BYTES];
    struct timespec began, now;
    clock_gettime(CLOCK_MONOTONIC, &began);
    for (uint64_t done = 0; done < load->kib * 1024; done += sizeof chunk) {
        for (size_t at = 0; at < sizeof chunk; at += RECORD_BYTES) {
            fill(chunk + at, load->number++);
        }
        load->at = load->at + sizeof chunk > load->bytes ? 0 : load->at;
        if (pwrite(load->fd, chunk, sizeof chunk, (off_t)load->at) != sizeof chunk) {
            die("write the load");
        }
        load->at += sizeof chunk;
    }
    if (fdatasync(load->fd) != 0) {
        die("sync the load");
    }
    clock_gettime(CLOCK_MONOTONIC, &now);
    int64_t left_us = 1000000 - (int64_t)(now.tv_sec - began.tv_sec) * 1000000 - (now.tv_nsec - began.tv_nsec) / 1000;
    if (left_us > 0) {
        usleep((useconds_t)left_us); /* far-poll */
    }
}

int main(void)
{
    struct disk disks[DISKS_MAX] = {0};
    struct load load = {.fd = -1};
    unsigned count = 0;
    mount("dev", "/dev", "devtmpfs", 0, NULL);
    mount("proc", "/proc", "proc", 0, NULL);
    mount("sys", "/sys", "sysfs", 0, NULL);
    setvbuf(stdout, NULL, _IOLBF, 0);
    load_modules();
    while (count < DISKS_MAX && open_disk(&disks[count], count)) {
        find_last(&disks[count]);
        count++;
    }
    printf("GUEST %u disks, last record %llu\n", count, (unsigned long long)disks[0].last);
    if (count == 0) {
        die("no disk came");
    }
    start_agent();
    open_load(&load, &disks[0]);
    for (uint64_t number = disks[0].last + 1;; number++) {
        for (unsigned i = 0; i < count; i++) {
            write_record(&disks[i], number);
        }
        printf("ACK %llu\n", (unsigned long long)number);
        if (load.kib != 0) {
            write_load(&load);
        }
        if (number % 8 == 0) {
            stir(&disks[number / 8 % count], number);
        }
    }
}
