/* farshore-node run: the engine and the agent on one loop, until a signal.
 *
 * Start: read the folder, identity, agent, engine (which opens vault and data port), dial. Stop: free the engine first
 * (it cancels and reports nothing more), then close the agent, then the loop is empty. */
#include "node/node.h"

#include "adapters/adapters.h"
#include "base/assert.h"
#include "base/clock.h"
#include "base/logging.h"
#include "dataplane/vault_store.h"
#include "net/incarnation.h"
#include "node/agent.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

enum { SIGNALS = 3 };

struct program {
    uv_loop_t loop;
    struct far_net *net;
    struct far_agent *agent;
    struct far_engine *engine;
    uv_signal_t signals[SIGNALS];
    bool stopping;
    const char *dir;
    const struct far_node_config *config;
    struct far_error removal; /* why it stops by itself; klass 0: it does not */
};

static int load_servers(const char *dir, struct far_agent_server *servers, size_t *ret_count, struct far_error *err)
{
    char path[FAR_NODE_PATH_MAX + 32];
    char line[FAR_AGENT_SERVER_TEXT_MAX];
    size_t count = 0;
    far_node_path(dir, "servers", path);
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return far_fail_errno(err, FAR_IO, errno, "open '%s'", path);
    }
    while (count < FAR_AGENT_SERVERS_MAX && fgets(line, sizeof line, file) != NULL) {
        line[strcspn(line, "\n")] = '\0';
        count += far_agent_parse_server(line, &servers[count]);
    }
    fclose(file);
    if (count == 0) {
        return far_fail(err, FAR_INVALID, "'%s' names no server", path);
    }
    *ret_count = count;
    return 0;
}

/* The vault's packs go to an object store from now on. */
static int bind_vault(const char *vault_dir, const char *store, struct far_error *err)
{
    struct far_objects_options options = {0};
    if (store[0] == '\0') {
        return 0;
    }
    int rc = far_objects_options_read(store, &options, err);
    return rc == 0 ? far_vault_store_bind(vault_dir, &options, false, err) : rc;
}

static int open_engine(struct program *program, const char *dir, const struct far_node_config *config,
                       struct far_error *err)
{
    char vault[FAR_NODE_PATH_MAX + 32], cache[FAR_NODE_PATH_MAX + 32];
    far_node_path(dir, "vault", vault);
    far_node_path(dir, "cache", cache);
    struct far_engine_config engine = {
        .net = program->net,
        .listen_address = config->data_address[0] != '\0' ? config->data_address : NULL,
        .vault_dir = config->vault[0] != '\0' ? config->vault : vault,
        .cache_dir = config->cache[0] != '\0' ? config->cache : cache,
        .node_dir = dir,
        .memory_bytes = config->memory_bytes,
        .worker_count = (uint32_t)config->workers,
        .checkpoint_bytes = config->checkpoint_bytes,
        .checkpoint_ms = config->checkpoint_ms,
        .adapters = far_adapters(),
        .use_program = "/proc/self/exe", /* this one, also after an upgrade of the file */
        .export_dir = config->export_dir,
        .nbd_address = config->nbd_address,
        .hydrate_bytes_per_s = config->hydrate_bytes_per_s,
        .nbd_write_percent = (uint32_t)config->nbd_write_percent,
        .machines_place = config->machines_place,
        .recovery_dir = config->recovery_dir,
        .scripts_dir = config->scripts_dir,
        .scripts_user = config->scripts_user,
    };
    memcpy(engine.cluster_uuid, config->cluster_uuid, sizeof engine.cluster_uuid);
    int rc = bind_vault(engine.vault_dir, config->store, err);
    return rc != 0 ? rc : far_engine_new(&engine, far_agent_report, program->agent, &program->engine, err);
}

static void on_agent_closed(void *arg)
{
    struct program *program = arg;
    program->agent = NULL;
}

static void stop(struct program *program)
{
    if (program->stopping) {
        return;
    }
    program->stopping = true;
    far_engine_free(program->engine);
    program->engine = NULL;
    for (size_t i = 0; i < SIGNALS; i++) {
        if (program->signals[i].loop != NULL) {
            uv_close((uv_handle_t *)&program->signals[i], NULL);
        }
    }
    if (program->agent != NULL) {
        far_agent_close(program->agent, on_agent_closed, program);
    }
}

static void on_removed(void *arg)
{
    struct program *program = arg;
    far_fail(&program->removal, FAR_DENIED,
             "node '%s' (number %llu) was removed from cluster '%s' and stops. To use this machine again, join it as a new "
             "node, with a new token and a new folder",
             program->config->name, (unsigned long long)program->config->node_id, program->config->cluster);
    far_logf(FAR_LEVEL_ERROR, "node", "%s", program->removal.message);
    stop(program);
}

/* Kept before the first word in it: after a crash this node does not hear the old one again. */
static int on_follow(void *arg, struct far_incarnation_id id, struct far_error *err)
{
    struct program *program = arg;
    struct far_incarnation incarnation = {
        .reason = FAR_INCARNATION_FOLLOWED, .epoch = id.epoch, .made_ms = far_clock_wall_ms()};
    memcpy(incarnation.cluster_uuid, program->config->cluster_uuid, 16);
    far_put_le64(incarnation.uuid, id.tag); /* no more of it is told */
    int rc = far_incarnation_save(program->dir, &incarnation, err);
    if (rc == 0) {
        far_net_set_incarnation(program->net, id);
    }
    return rc;
}

static int open_agent(struct program *program, const char *dir, const struct far_node_config *config,
                      struct far_error *err)
{
    struct far_agent_server servers[FAR_AGENT_SERVERS_MAX] = {0};
    char path[FAR_NODE_PATH_MAX + 32], vaults[FAR_NODE_PATH_MAX + 32];
    far_node_path(dir, "servers", path);
    far_node_path(dir, "vaults", vaults);
    struct far_agent_config agent = {
        .net = program->net, .node_id = config->node_id, .servers = servers, .servers_path = path, .vaults_path = vaults,
        .on_removed = on_removed, .on_follow = on_follow, .owner = program, .adapters = far_adapters(),
        .runs_scripts = config->scripts_dir[0] != '\0' && config->scripts_user[0] != '\0'};
    int rc = load_servers(dir, servers, &agent.server_count, err);
    return rc != 0 ? rc : far_agent_new(&agent, &program->loop, &program->agent, err);
}

static void on_signal(uv_signal_t *signal, int number)
{
    far_logf(FAR_LEVEL_INFO, "node", "stopping on signal %d", number);
    stop(signal->data);
}

static void watch_signals(struct program *program)
{
    const int numbers[SIGNALS] = {SIGTERM, SIGINT, SIGHUP};
    signal(SIGPIPE, SIG_IGN);
    for (size_t i = 0; i < SIGNALS; i++) {
        int rc = uv_signal_init(&program->loop, &program->signals[i]);
        FAR_ASSERT(rc == 0);
        program->signals[i].data = program;
        uv_signal_start(&program->signals[i], on_signal, numbers[i]);
    }
}

int far_node_run(int argc, char **argv)
{
    static const char *const names[] = {"--dir", NULL};
    const char *dir = NULL;
    struct far_error err = {0};
    struct far_node_config config;
    struct program program = {0};
    int lock_fd = -1;
    int rc = far_node_options(argc, argv, names, &dir, &err);
    if (rc == 0 && dir == NULL) {
        rc = far_fail(&err, FAR_INVALID, "run: '--dir' is missing");
    }
    if (rc == 0) {
        rc = far_node_config_load(dir, &config, &err);
    }
    rc = rc != 0 ? rc : far_node_lock(dir, &lock_fd, &err);
    if (rc == 0) {
        rc = far_net_open(dir, (struct far_peer){FAR_PARTY_NODE, config.node_id}, config.cluster_uuid,
                          config.incarnation_epoch, &program.net, &err);
    }
    if (rc != 0) {
        goto out;
    }
    uv_loop_init(&program.loop);
    watch_signals(&program);
    program.config = &config;
    program.dir = dir;
    rc = open_agent(&program, dir, &config, &err);
    if (rc == 0) {
        rc = open_engine(&program, dir, &config, &err);
    }
    if (rc == 0) {
        far_agent_start(program.agent, program.engine);
        printf("ready data=%s\n", far_engine_data_address(program.engine));
        fflush(stdout);
    } else {
        stop(&program);
    }
    uv_run(&program.loop, UV_RUN_DEFAULT);
    int busy = uv_loop_close(&program.loop);
    FAR_ASSERT(busy == 0);
    far_net_free(program.net);
    if (rc == 0 && program.removal.klass != 0) {
        err = program.removal;
        rc = err.klass;
    }
out:
    if (lock_fd >= 0) {
        close(lock_fd);
    }
    return rc == 0 ? 0 : far_node_failed(&err);
}
