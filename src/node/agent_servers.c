/* What a node keeps of what servers tell it: the servers, and by which keys vaults are believed. See agent.h. */
#include "node/agent.h"

#include "base/file.h"
#include "base/logging.h"

#include <errno.h>
#include <stdlib.h>

bool far_agent_parse_server(const char *text, struct far_agent_server *ret_server)
{
    char *end = NULL;
    errno = 0;
    unsigned long long id = strtoull(text, &end, 10);
    if (text[0] < '0' || text[0] > '9' || errno != 0 || id == 0 || *end != '@') {
        return false;
    }
    const char *address = end + 1, *key = strchr(address, '#');
    size_t len = key != NULL ? (size_t)(key - address) : strlen(address);
    struct far_agent_server server = {.id = id, .has_fingerprint = key != NULL};
    if (len == 0 || len >= sizeof server.address ||
        (key != NULL && !far_hex_decode(key + 1, strlen(key + 1), server.fingerprint, sizeof server.fingerprint))) {
        return false;
    }
    memcpy(server.address, address, len);
    *ret_server = server;
    return true;
}

/* Keep the list for the next start. Losing it costs nothing but a dial to servers that are gone. */
void far_agent_save_servers(const char *path, const struct far_agent_server *servers, size_t count)
{
    struct far_buf text;
    struct far_error err = {0};
    int rc = 0;
    if (path == NULL) {
        return;
    }
    far_buf_init(&text, FAR_AGENT_SERVERS_MAX * FAR_AGENT_SERVER_TEXT_MAX);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        const struct far_agent_server *server = &servers[i];
        char key[66] = "#";
        far_hex_encode(server->fingerprint, sizeof server->fingerprint, key + 1);
        rc = far_buf_printf(&text, "%llu@%s%s\n", (unsigned long long)server->id, server->address,
                            server->has_fingerprint ? key : "");
    }
    rc = rc == 0 ? far_file_replace(path, text.data, text.len, 0600, &err) : rc;
    far_buf_done(&text);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "agent", "the list of servers is not kept: %s", err.message);
    }
}

static bool is_same(const struct far_agent_server *a, const struct far_agent_server *b)
{
    return a->id == b->id && strcmp(a->address, b->address) == 0 && a->has_fingerprint == b->has_fingerprint &&
           memcmp(a->fingerprint, b->fingerprint, sizeof a->fingerprint) == 0;
}

bool far_agent_take_servers(const struct far_list *texts, struct far_agent_server servers[FAR_AGENT_SERVERS_MAX], size_t *count)
{
    struct far_agent_server told[FAR_AGENT_SERVERS_MAX];
    size_t told_count = 0, same = 0;
    const struct far_slice *items = texts->items;
    for (size_t i = 0; i < texts->count && told_count < FAR_AGENT_SERVERS_MAX; i++) {
        char text[FAR_AGENT_SERVER_TEXT_MAX] = {0};
        if (items[i].len < sizeof text) {
            memcpy(text, items[i].data, items[i].len);
            told_count += far_agent_parse_server(text, &told[told_count]);
        }
    }
    while (same < told_count && same < *count && is_same(&told[same], &servers[same])) {
        same++;
    }
    if (told_count == 0 || (same == told_count && told_count == *count)) {
        return false;
    }
    memcpy(servers, told, told_count * sizeof told[0]);
    *count = told_count;
    return true;
}

void far_agent_save_vaults(const char *path, const struct far_list *texts)
{
    const struct far_slice *items = texts->items;
    struct far_buf text;
    struct far_error err = {0};
    int rc = 0;
    if (path == NULL) {
        return;
    }
    far_buf_init(&text, 1 << 20);
    for (size_t i = 0; rc == 0 && i < texts->count; i++) {
        rc = far_buf_printf(&text, "%.*s\n", (int)items[i].len, (const char *)items[i].data);
    }
    rc = rc == 0 ? far_file_replace(path, text.data, text.len, 0600, &err) : rc;
    far_buf_done(&text);
    if (rc != 0) {
        far_logf(FAR_LEVEL_WARN, "agent", "by which keys the cluster believes vaults is not kept: %s", err.message);
    }
}
