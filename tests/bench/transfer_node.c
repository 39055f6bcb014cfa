/* One node of a measured transfer: see transfer_node.h. */
#include "transfer_node.h"

#include "../lib/made_pki.h"

#include "adapters/adapters.h"

#include <poll.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <unistd.h>

struct node {
    const struct node_config *config;
    int fd;
    struct far_engine *source, *target;
};

void node_send(int fd, const struct node_message *message)
{
    if (send(fd, message, sizeof *message, MSG_NOSIGNAL) != (ssize_t)sizeof *message) {
        perror("transfer: the other process is gone");
        _exit(1);
    }
}

bool node_receive(int fd, struct node_message *ret_message, int timeout_ms)
{
    struct pollfd poller = {.fd = fd, .events = POLLIN};
    if (poll(&poller, 1, timeout_ms) <= 0) {
        return false;
    }
    if (recv(fd, ret_message, sizeof *ret_message, 0) != (ssize_t)sizeof *ret_message) {
        fprintf(stderr, "transfer: a node died\n");
        exit(1);
    }
    if (ret_message->said == NODE_FAILED) {
        fprintf(stderr, "transfer: %s\n", ret_message->report.error_message);
        exit(1);
    }
    return true;
}

static void node_fail(const struct node *node, const struct far_error *err)
{
    struct node_message message = {.said = NODE_FAILED};
    snprintf(message.report.error_message, sizeof message.report.error_message, "%.390s", err->message);
    node_send(node->fd, &message);
    exit(1);
}

static void show_running(const struct far_engine_report *report)
{
    static const char *const holds_up[] = {"?", "source", "link", "target", "processor", "memory", "throttle", "peer"};
    const struct far_engine_figures *figures = &report->figures;
    fprintf(stderr, "# %s: %5.1f s, done %llu MiB, sent %llu KiB, window %llu KiB, %llu connections, held up by %s\n",
            report->task == NODE_TASK_SEND ? "send" : "receive", (double)report->duration_ms / 1000,
            (unsigned long long)(report->bytes_done >> 20), (unsigned long long)(report->bytes_sent >> 10),
            (unsigned long long)(figures->window_bytes >> 10), (unsigned long long)figures->streams,
            holds_up[(size_t)figures->bottleneck < sizeof holds_up / sizeof holds_up[0] ? figures->bottleneck : 0]);
}

static void on_report(void *arg, const struct far_engine_report *report)
{
    const struct node *node = arg;
    if (report->state == FAR_ENGINE_RUNNING) {
        if (node->config->verbose && (report->task == NODE_TASK_SEND || report->task == NODE_TASK_RECEIVE)) {
            show_running(report);
        }
        return;
    }
    struct node_message message = {.said = NODE_ENDED, .job = report->job_id, .report = *report};
    if (report->disk_count > 0) {
        message.found_bytes = report->disks[0].size_bytes;
        memcpy(message.token, report->disks[0].token, sizeof message.token);
    }
    message.report.disks = NULL;
    node_send(node->fd, &message);
}

static struct far_engine *open_engine(const struct node *node, bool source)
{
    char vault[300], cache[300];
    struct far_test_pki pki = {.incarnation = {.epoch = 1}};
    struct far_engine *engine = NULL;
    struct far_error err;
    struct far_engine_config config = {
        .memory_bytes = node->config->memory_bytes,
        .worker_count = node->config->worker_count,
        .compress = node->config->compress,
        .adapters = far_adapters(),
    };
    snprintf(vault, sizeof vault, "%s/vault", node->config->dir);
    snprintf(cache, sizeof cache, "%s/cache", node->config->dir);
    snprintf(pki.dir, sizeof pki.dir, "%s/pki", node->config->dir);
    memset(pki.cluster_uuid, node->config->cluster_byte, sizeof pki.cluster_uuid);
    config.net = far_test_pki_net(&pki, FAR_PARTY_NODE, source ? NODE_SOURCE : NODE_TARGET);
    config.cache_dir = source ? cache : NULL;
    config.vault_dir = source ? NULL : vault;
    config.listen_address = source ? NULL : "127.0.0.1:0";
    if (far_engine_new(&config, on_report, (void *)node, &engine, &err) != 0) {
        node_fail(node, &err);
    }
    return engine;
}

static void start(const struct node *node, const struct node_message *message)
{
    static const uint64_t tasks[] = {[FAR_ENGINE_FREEZE] = NODE_TASK_FREEZE,
                                     [FAR_ENGINE_SEND] = NODE_TASK_SEND,
                                     [FAR_ENGINE_RECEIVE] = NODE_TASK_RECEIVE,
                                     [FAR_ENGINE_RELEASE] = NODE_TASK_RELEASE};
    const char *path = node->config->disks[message->disk], *slash = strrchr(path, '/');
    struct far_engine_disk disk = {.name = slash != NULL ? slash + 1 : path, .locator = path};
    bool receives = message->kind == FAR_ENGINE_RECEIVE;
    struct far_engine_order order = {
        .job_id = message->job,
        .task = tasks[message->kind],
        .attempt = 1,
        .kind = message->kind,
        .incarnation_epoch = 1,
        .plan_epoch = 1,
        .plan_id = 20,
        .plan = "plan",
        .workload_id = 21,
        .workload = "workload",
        .adapter = node->config->adapter,
        .disks = &disk,
        .disk_count = message->kind == FAR_ENGINE_FREEZE || message->kind == FAR_ENGINE_RELEASE ? 1 : 0,
        .disk_index = 0,
        .disk_id = 100 + message->disk,
        .disk = disk.name,
        .locator = disk.locator,
        .size_bytes = message->size_bytes,
        .has_base_root = message->has_base,
        .freeze_ref = message->freeze_ref,
        .peer_node_id = receives ? NODE_SOURCE : NODE_TARGET,
        .peer_address = message->address,
        .site = "site",
        .since = message->since,
        .proven = message->proven,
    };
    struct far_error err;
    memcpy(order.base_root, message->base_root, sizeof order.base_root);
    if (far_engine_start(receives ? node->target : node->source, &order, &err) != 0) {
        node_fail(node, &err);
    }
}

static double seconds(struct timeval at)
{
    return (double)at.tv_sec + (double)at.tv_usec / 1e6;
}

static int node_main(struct node *node, bool source, bool target)
{
    struct node_message message = {.said = NODE_READY};
    node->target = target ? open_engine(node, false) : NULL;
    node->source = source ? open_engine(node, true) : NULL;
    if (target) {
        snprintf(message.address, sizeof message.address, "%s", far_engine_data_address(node->target));
    }
    node_send(node->fd, &message);
    while (recv(node->fd, &message, sizeof message, 0) == (ssize_t)sizeof message) {
        if (message.said == NODE_START) {
            start(node, &message);
            continue;
        }
        struct rusage used;
        getrusage(RUSAGE_SELF, &used);
        message.said = NODE_USED;
        message.user_seconds = seconds(used.ru_utime);
        message.system_seconds = seconds(used.ru_stime);
        node_send(node->fd, &message);
    }
    far_engine_free(node->source);
    far_engine_free(node->target);
    return 0;
}

pid_t node_fork(const struct node_config *config, bool source, bool target, int *ret_fd)
{
    int fds[2];
    const int room = 1 << 20; /* reports of many disks at once */
    if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_CLOEXEC, 0, fds) != 0) {
        perror("transfer: socketpair");
        exit(1);
    }
    setsockopt(fds[0], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    setsockopt(fds[1], SOL_SOCKET, SO_SNDBUF, &room, sizeof room);
    fflush(NULL);
    pid_t pid = fork();
    if (pid == 0) {
        struct node node = {.config = config, .fd = fds[1]};
        close(fds[0]);
        prctl(PR_SET_PDEATHSIG, SIGKILL);
        prctl(PR_SET_NAME, source && target ? "far-both" : source ? "far-source" : "far-target");
        exit(node_main(&node, source, target));
    }
    close(fds[1]);
    *ret_fd = fds[0];
    return pid;
}
