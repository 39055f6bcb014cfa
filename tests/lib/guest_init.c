/* The only program of a test's guest (libvirt_kit.py): mounts the ext4 of each disk and writes records without pause.
 *
 * Record n (4096 bytes: magic, n, and bytes that follow from n) goes to slot n modulo the number of slots of the file `records`
 * on the first disk, which is then synced, then the same on the second, and so on; then "ACK n" goes to the console. So in a view
 * that froze all disks at one moment the last record of each disk is that of the disk before it, or the one before that. A
 * guest that starts again goes on behind the last record of its first disk. Now and then a file beside it is made anew or
 * removed, so that the file system's own blocks change as well.
 *
 * Words on the kernel's command line make more of it:
 *   far.ip=10.9.0.2/24  its first network card has that address; far.ip=dhcp: the one that it is given, "DHCP A" goes to the console;
 *   far.serve=7000      it writes nothing by itself but what others send: on that TCP port each line "PUT n" has record n written, synced,
 *                       and answered by "OK n";
 *   far.peer=10.9.0.2:7000  each record goes to its own disks first, then there; it is acknowledged when it was answered. So what is
 *                       acknowledged is on both, and the other one never has a record that this one has not.
 *
 * It shuts down when its power button is pressed (ACPI), or its agent says so: the record that is under way is the last, "LAST n" goes to
 * the console, and its disks are unmounted.
 *
 *   far.port=7000       it writes by itself, and answers at that TCP port: whoever connects is let in, and nothing is said.
 *
 * With far.load_kib=N it does so once a second only, and writes N KiB that never repeat to `load` on its first
 * disk in each of these, synced as well. */
#include <arpa/inet.h>
#include <dirent.h>
#include <errno.h>
#include <signal.h>
#include <fcntl.h>
#include <linux/input.h>
#include <net/if.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/mount.h>
#include <sys/reboot.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

enum { LINE_BYTES = 64, RETRY_US = 200000, INPUTS = 8, RECORD_BYTES = 4096, DISKS_MAX = 8, FILES = 16, LOAD_SHARE = 2 };

static volatile sig_atomic_t is_ending; /* somebody shuts it down */

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

/* ---- its end ---- */

static void on_end(int number)
{
    (void)number;
    is_ending = 1;
}

/* A process that waits for the power button. */
static void watch_power(void)
{
    struct sigaction action = {.sa_handler = on_end}; /* what it interrupts is not begun anew */
    struct pollfd inputs[INPUTS];
    char path[32];
    sigaction(SIGTERM, &action, NULL);
    if (fork() != 0) {
        return;
    }
    for (unsigned i = 0; i < INPUTS; i++) { /* keyboards and the like among them */
        snprintf(path, sizeof path, "/dev/input/event%u", i);
        inputs[i] = (struct pollfd){.fd = open(path, O_RDONLY | O_CLOEXEC), .events = POLLIN};
    }
    while (poll(inputs, INPUTS, -1) > 0) {
        for (unsigned i = 0; i < INPUTS; i++) {
            struct input_event event;
            bool is_said = (inputs[i].revents & POLLIN) != 0 && read(inputs[i].fd, &event, sizeof event) == (ssize_t)sizeof event;
            if (is_said && event.type == EV_KEY && event.code == KEY_POWER && event.value == 1) {
                kill(1, SIGTERM);
            }
        }
    }
    _exit(0);
}

static void end_well(const struct disk *disks, unsigned count)
{
    printf("LAST %llu\n", (unsigned long long)disks[0].last);
    fflush(stdout);
    for (unsigned i = 0; i < count; i++) {
        close(disks[i].fd);
        umount2(disks[i].folder, 0);
    }
    sync();
    reboot(RB_POWER_OFF);
    for (;;) {
        pause();
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

/* ---- what it is asked to be ---- */

/* The word on the kernel's command line that begins so, without that. */
static bool asked(const char *name, char ret_text[LINE_BYTES])
{
    char line[2048] = "";
    FILE *file = fopen("/proc/cmdline", "r");
    const char *found = file != NULL && fgets(line, sizeof line, file) != NULL ? strstr(line, name) : NULL;
    if (file != NULL) {
        fclose(file);
    }
    size_t len = found != NULL ? strcspn(found + strlen(name), " \n") : 0;
    if (found == NULL || len == 0 || len >= LINE_BYTES) {
        return false;
    }
    memcpy(ret_text, found + strlen(name), len);
    ret_text[len] = '\0';
    return true;
}

/* ---- its network ---- */

struct dhcp {
    uint8_t op, hardware, hardware_len, hops;
    uint32_t id;
    uint16_t seconds, flags;
    uint32_t client, yours, server, relay;
    uint8_t mac[16], names[64 + 128], cookie[4], options[312];
} __attribute__((packed));

enum { DHCP_MASK = 1, DHCP_ADDRESS = 50, DHCP_TYPE = 53, DHCP_SERVER = 54, DHCP_END = 255, DISCOVER = 1, OFFER = 2, REQUEST = 3, ACK = 5 };

/* The option's bytes; NULL: it has none of so many. */
static const uint8_t *option_of(const struct dhcp *message, uint8_t code, uint8_t len)
{
    for (size_t at = 0; at + 2 < sizeof message->options && message->options[at] != DHCP_END;) {
        if (message->options[at] == 0) {
            at++;
        } else if (message->options[at] == code && message->options[at + 1] == len && at + 2 + len <= sizeof message->options) {
            return &message->options[at + 2];
        } else {
            at += 2u + message->options[at + 1];
        }
    }
    return NULL;
}

/* Says it to whoever listens, and hears for a second. offer: what is asked for; NULL: who gives one? */
static bool ask_dhcp(int fd, const uint8_t mac[6], const struct dhcp *offer, struct dhcp *ret_answer)
{
    struct dhcp say = {.op = 1, .hardware = 1, .hardware_len = 6, .id = htonl(0xfa5041e), .flags = htons(0x8000)};
    struct sockaddr_in all = {.sin_family = AF_INET, .sin_port = htons(67), .sin_addr.s_addr = INADDR_BROADCAST};
    uint8_t kind = offer != NULL ? REQUEST : DISCOVER, *to = say.options;
    memcpy(say.mac, mac, 6);
    memcpy(say.cookie, (const uint8_t[]){99, 130, 83, 99}, 4);
    to = (uint8_t *)memcpy(to, (const uint8_t[]){DHCP_TYPE, 1, kind}, 3) + 3;
    const uint8_t *server = offer != NULL ? option_of(offer, DHCP_SERVER, 4) : NULL;
    if (offer != NULL && server != NULL) {
        to = (uint8_t *)memcpy(to, (const uint8_t[]){DHCP_ADDRESS, 4}, 2) + 2;
        to = (uint8_t *)memcpy(to, &offer->yours, 4) + 4;
        to = (uint8_t *)memcpy(to, (const uint8_t[]){DHCP_SERVER, 4}, 2) + 2;
        to = (uint8_t *)memcpy(to, server, 4) + 4;
    }
    *to = DHCP_END;
    (void)sendto(fd, &say, sizeof say, 0, (struct sockaddr *)&all, sizeof all);
    for (ssize_t n; (n = recv(fd, ret_answer, sizeof *ret_answer, 0)) > 0; memset(ret_answer, 0, sizeof *ret_answer)) {
        const uint8_t *type = n > (ssize_t)offsetof(struct dhcp, options) ? option_of(ret_answer, DHCP_TYPE, 1) : NULL;
        if (ret_answer->op == 2 && ret_answer->id == say.id && type != NULL && *type == (offer != NULL ? ACK : OFFER)) {
            return true;
        }
    }
    return false;
}

/* A card that is up and has no address. */
static bool ask_for_address(const char *card, struct in_addr *ret_address, struct in_addr *ret_mask)
{
    struct ifreq request = {.ifr_flags = IFF_UP | IFF_RUNNING};
    struct sockaddr_in own = {.sin_family = AF_INET, .sin_port = htons(68)};
    struct timeval patience = {.tv_sec = 1};
    static struct dhcp offer, answer;
    int one = 1, fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(request.ifr_name, card);
    bool is_given = false, ok = ioctl(fd, SIOCSIFFLAGS, &request) == 0 && ioctl(fd, SIOCGIFHWADDR, &request) == 0 &&
                    setsockopt(fd, SOL_SOCKET, SO_BROADCAST, &one, sizeof one) == 0 &&
                    setsockopt(fd, SOL_SOCKET, SO_BINDTODEVICE, card, (socklen_t)strlen(card)) == 0 &&
                    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience) == 0 &&
                    bind(fd, (struct sockaddr *)&own, sizeof own) == 0;
    uint8_t mac[6];
    memcpy(mac, request.ifr_hwaddr.sa_data, sizeof mac);
    for (unsigned n = 0; ok && !is_given && n < 60; n++) {
        is_given = ask_dhcp(fd, mac, NULL, &offer) && ask_dhcp(fd, mac, &offer, &answer);
    }
    const uint8_t *mask = is_given ? option_of(&answer, DHCP_MASK, 4) : NULL;
    close(fd);
    ret_address->s_addr = answer.yours;
    memcpy(ret_mask, mask != NULL ? mask : (const uint8_t[]){255, 255, 255, 0}, 4);
    return is_given;
}

static void start_network(void)
{
    struct ifreq request = {.ifr_name = "eth0"};
    struct sockaddr_in wanted = {.sin_family = AF_INET};
    struct in_addr mask;
    char text[LINE_BYTES];
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    strcpy(request.ifr_name, "lo");
    request.ifr_flags = IFF_UP;
    ioctl(fd, SIOCSIFFLAGS, &request);
    if (!asked("far.ip=", text)) {
        close(fd);
        return;
    }
    strcpy(request.ifr_name, "eth0");
    for (unsigned n = 0; ioctl(fd, SIOCGIFINDEX, &request) != 0 && n < 500; n++) {
        usleep(10000); /* far-poll */
    }
    char *slash = strchr(text, '/');
    unsigned prefix = slash != NULL ? (unsigned)atoi(slash + 1) : 24;
    if (slash != NULL) {
        *slash = '\0';
    }
    mask.s_addr = htonl(prefix == 0 ? 0 : ~0u << (32 - prefix));
    bool asks = strcmp(text, "dhcp") == 0;
    bool good = asks ? ask_for_address("eth0", &wanted.sin_addr, &mask) : inet_pton(AF_INET, text, &wanted.sin_addr) == 1;
    if (asks) {
        printf("DHCP %s\n", good ? inet_ntop(AF_INET, &wanted.sin_addr, text, sizeof text) : "gives nothing");
    }
    memcpy(&request.ifr_addr, &wanted, sizeof wanted);
    good = good && ioctl(fd, SIOCSIFADDR, &request) == 0;
    wanted.sin_addr = mask;
    memcpy(&request.ifr_netmask, &wanted, sizeof wanted);
    good = good && ioctl(fd, SIOCSIFNETMASK, &request) == 0;
    request.ifr_flags = IFF_UP | IFF_RUNNING;
    good = good && ioctl(fd, SIOCSIFFLAGS, &request) == 0;
    if (!good && !asks) {
        die("bring the network up");
    }
    close(fd);
}

/* ---- a steady load ---- */

struct load {
    uint64_t kib; /* a second; 0: none */
    uint64_t at, bytes, number;
    int fd;
};


static void open_load(struct load *load, const struct disk *disk)
{
    char path[64];
    char text[LINE_BYTES];
    load->kib = asked("far.load_kib=", text) ? strtoull(text, NULL, 10) : 0;
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

/* ---- one of two ---- */

/* Serves whoever comes, one after the other, for ever. */
static void serve(struct disk *disks, unsigned count, const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int one = 1, listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0) {
        die("listen");
    }
    while (!is_ending) {
        int fd = accept(listener, NULL, NULL);
        FILE *stream = fd >= 0 ? fdopen(fd, "r") : NULL;
        unsigned long long number;
        char line[LINE_BYTES];
        struct timeval patience = {.tv_sec = 5};
        setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience); /* who only looks whether it answers says nothing */
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        while (stream != NULL && fgets(line, sizeof line, stream) != NULL && sscanf(line, "PUT %llu", &number) == 1) {
            for (unsigned i = 0; i < count; i++) {
                write_record(&disks[i], number);
            }
            printf("ACK %llu\n", number);
            dprintf(fd, "OK %llu\n", number);
        }
        if (stream != NULL) {
            fclose(stream);
        }
    }
}

/* The kernel answers for it. */
static void answer_at(const char *port)
{
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)atoi(port))};
    int listener = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    if (bind(listener, (struct sockaddr *)&address, sizeof address) != 0 || listen(listener, 8) != 0) {
        die("listen");
    }
    if (fork() == 0) {
        for (;;) {
            close(accept(listener, NULL, NULL));
        }
    }
    close(listener);
}

static FILE *dial(const char *peer)
{
    struct sockaddr_in address = {.sin_family = AF_INET};
    struct timeval patience = {.tv_sec = 5};
    char host[LINE_BYTES];
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    snprintf(host, sizeof host, "%s", peer);
    char *colon = strchr(host, ':');
    if (colon == NULL) {
        die(peer);
    }
    *colon = '\0';
    address.sin_port = htons((uint16_t)atoi(colon + 1));
    inet_pton(AF_INET, host, &address.sin_addr);
    setsockopt(fd, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience);
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    if (connect(fd, (struct sockaddr *)&address, sizeof address) != 0) {
        close(fd);
        usleep(RETRY_US); /* far-poll */
        return NULL;
    }
    return fdopen(fd, "r");
}

/* Until it is answered. */
static void send_record(FILE **stream, const char *peer, uint64_t number)
{
    while (!is_ending) {
        unsigned long long answer;
        char line[LINE_BYTES];
        if (*stream == NULL && (*stream = dial(peer)) == NULL) {
            continue;
        }
        if (dprintf(fileno(*stream), "PUT %llu\n", (unsigned long long)number) > 0 && fgets(line, sizeof line, *stream) != NULL &&
            sscanf(line, "OK %llu", &answer) == 1 && answer == number) {
            return;
        }
        fclose(*stream);
        *stream = NULL;
    }
}

int main(void)
{
    if (getpid() != 1) { /* as /sbin/shutdown, which the agent calls */
        return kill(1, SIGTERM) == 0 ? 0 : 1;
    }
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
    struct timespec now;
    char port[LINE_BYTES], peer[LINE_BYTES] = "";
    FILE *stream = NULL;
    clock_gettime(CLOCK_REALTIME, &now);
    printf("GUEST %u disks, last record %llu, at %lld.%03ld\n", count, (unsigned long long)disks[0].last, (long long)now.tv_sec,
           now.tv_nsec / 1000000);
    if (count == 0) {
        die("no disk came");
    }
    start_agent();
    watch_power();
    start_network();
    if (asked("far.serve=", port)) {
        serve(disks, count, port);
        end_well(disks, count);
    }
    if (asked("far.port=", port)) {
        answer_at(port);
    }
    bool has_peer = asked("far.peer=", peer);
    open_load(&load, &disks[0]);
    for (uint64_t number = disks[0].last + 1;; number++) {
        for (unsigned i = 0; i < count; i++) {
            write_record(&disks[i], number);
        }
        if (has_peer) {
            send_record(&stream, peer, number);
        }
        if (is_ending) {
            end_well(disks, count);
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
