/* Removed servers. Whoever knows of the removal of another tells it (removed.h); one that is told stops and keeps the
 * message in the file `removed` of its folder, so that it does not start again either: what it holds grows old, and must not
 * be served as if it were the cluster's. */
#include "server/removed.h"

#include "base/file.h"
#include "server/server.h"

#include <stdio.h>

enum { ARENA_MAX = 256 * 1024 };
static const char file_name[] = "removed";

/* ---- of others ---- */

static void add_address(char ask[FAR_LOG_REMOVED_ASK_MAX], struct far_slice address)
{
    size_t len = strlen(ask);
    if (address.len > 0 && len + address.len + 3 < FAR_LOG_REMOVED_ASK_MAX) {
        snprintf(ask + len, FAR_LOG_REMOVED_ASK_MAX - len, "%s%.*s", len == 0 ? "" : ", ", (int)address.len,
                 (const char *)address.data);
    }
}

int far_removed_look(struct far_state *state, struct far_removed *ret_removed, struct far_error *err)
{
    struct far_arena arena;
    struct far_row_server row;
    struct far_key key = far_key(&far_schema_row_server);
    int rc;
    ret_removed->count = 0;
    ret_removed->ask[0] = '\0';
    far_arena_init(&arena, ARENA_MAX);
    while ((rc = far_state_next(state, &far_schema_row_server, &key, &arena, NULL, &row, err)) == 0) {
        if (row.role != FAR_server_role_removed) {
            add_address(ret_removed->ask, row.api_address);
        } else if (ret_removed->count < FAR_REMOVED_MAX) {
            ret_removed->ids[ret_removed->count++] = row.id;
        } else {
            memmove(ret_removed->ids, ret_removed->ids + 1, sizeof ret_removed->ids - sizeof ret_removed->ids[0]);
            ret_removed->ids[FAR_REMOVED_MAX - 1] = row.id;
        }
        far_arena_reset(&arena);
    }
    far_arena_done(&arena);
    return rc == FAR_NOT_FOUND ? 0 : rc;
}

bool far_removed_has(const struct far_removed *removed, uint64_t id)
{
    for (size_t i = 0; i < removed->count; i++) {
        if (removed->ids[i] == id) {
            return true;
        }
    }
    return false;
}

/* ---- of oneself ---- */

int far_server_removed(const struct far_server_config *config, const char *ask, struct far_error *err)
{
    return far_fail(err, FAR_DENIED,
                    "server '%s' (number %llu) was removed from cluster '%s' and serves nothing any more: what it holds is "
                    "old. To use this machine again, join it as a new server, with a new token and a new folder%s%s",
                    config->name, (unsigned long long)config->server_id, config->cluster,
                    ask[0] == '\0' ? "" : ". The cluster answers at ", ask);
}

int far_server_removed_keep(const char *dir, const struct far_error *why, struct far_error *err)
{
    return far_server_file_write(dir, file_name, far_slice_str(why->message), 0600, err);
}

int far_server_removed_check(const char *dir, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    struct far_buf text;
    struct far_error unread;
    far_server_path(dir, file_name, path);
    far_buf_init(&text, FAR_MESSAGE_MAX);
    int rc = far_file_read(path, &text, &unread);
    if (rc == 0) {
        rc = far_fail(err, FAR_DENIED, "%.*s", (int)text.len, (const char *)text.data);
    } else if (rc != FAR_NOT_FOUND) {
        rc = far_fail(err, unread.klass, "%s", unread.message);
    } else {
        rc = 0;
    }
    far_buf_done(&text);
    return rc;
}
