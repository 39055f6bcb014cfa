/* Platforms by the name that an order carries: name[:inner][?key=value&key=value]. Opened at first use with the rest of
 * the name as config lines ("inner=file\nread_delay_us=500\n"), kept until the engine ends. */
#include "dataplane/engine_local.h"

#include "base/buf.h"

#include <stdio.h>
#include <stdlib.h>

int far_adapter_result(int outcome, const struct far_adapter_error *said, enum far_adapter_outcome *ret_outcome,
                       struct far_error *err)
{
    static const int classes[] = {
        [FAR_ADAPTER_RETRY] = FAR_IO,   [FAR_ADAPTER_SLOW_DOWN] = FAR_BUSY, [FAR_ADAPTER_REFRESH_CREDENTIALS] = FAR_DENIED,
        [FAR_ADAPTER_RESYNC] = FAR_CONFLICT, [FAR_ADAPTER_FATAL] = FAR_IO,
    };
    if (outcome == FAR_ADAPTER_OK) {
        return 0;
    }
    bool known = outcome > FAR_ADAPTER_OK && outcome <= FAR_ADAPTER_FATAL;
    *ret_outcome = known ? (enum far_adapter_outcome)outcome : FAR_ADAPTER_FATAL;
    int klass = said->klass < 0 && said->klass >= FAR_CLASS_MIN ? said->klass : known ? classes[outcome] : FAR_INTERNAL;
    return far_fail(err, klass, "%s", said->message[0] != '\0' ? said->message : "the platform refused without a word");
}

static int config_lines(const char *rest, struct far_buf *lines)
{
    int rc = 0;
    if (*rest == ':') {
        size_t len = strcspn(++rest, "?");
        rc = far_buf_printf(lines, "inner=%.*s\n", (int)len, rest);
        rest += len;
    }
    for (; rc == 0 && *rest != '\0'; rest += strcspn(rest, "&")) {
        rest++;
        rc = far_buf_printf(lines, "%.*s\n", (int)strcspn(rest, "&"), rest);
    }
    return rc == 0 ? far_buf_append(lines, "", 1) : rc;
}

static int platform_open(struct far_engine *engine, const char *name, struct far_platform *ret_platform,
                         struct far_error *err)
{
    size_t base_len = strcspn(name, ":?");
    const struct far_adapter *adapter = NULL;
    for (const struct far_adapter *const *a = engine->config.adapters; a != NULL && *a != NULL; a++) {
        if (strlen((*a)->name) == base_len && strncmp((*a)->name, name, base_len) == 0) {
            adapter = *a;
        }
    }
    if (adapter == NULL || adapter->version != FAR_ADAPTER_VERSION) {
        return far_fail(err, FAR_NOT_FOUND, "this node has no adapter '%.*s'", (int)base_len, name);
    }
    struct far_buf lines;
    far_buf_init(&lines, 1024);
    int rc = config_lines(name + base_len, &lines);
    if (rc == 0) {
        struct far_adapter_error said = {0};
        enum far_adapter_outcome outcome;
        rc = far_adapter_result(adapter->open((const char *)lines.data, &ret_platform->platform, &said), &said, &outcome,
                                err);
    } else {
        far_fail(err, FAR_INVALID, "the adapter name '%s' is too long", name);
    }
    far_buf_done(&lines);
    ret_platform->adapter = adapter;
    snprintf(ret_platform->name, sizeof ret_platform->name, "%s", name);
    return rc == 0 ? 0 : far_error_context(err, "open the adapter '%s'", name);
}

int far_engine_platform(struct far_engine *engine, const char *name, struct far_platform **ret_platform,
                        struct far_error *err)
{
    int rc = 0;
    struct far_platform *found = NULL;
    if (name[0] == '\0' || strlen(name) >= sizeof found->name) {
        return far_fail(err, FAR_INVALID, "the adapter name '%.80s' is empty or too long", name);
    }
    pthread_mutex_lock(&engine->platforms_mutex);
    for (size_t i = 0; i < engine->platform_count && found == NULL; i++) {
        found = strcmp(engine->platforms[i].name, name) == 0 ? &engine->platforms[i] : NULL;
    }
    if (found == NULL && engine->platform_count == FAR_ENGINE_PLATFORMS_MAX) {
        rc = far_fail(err, FAR_LIMIT, "more than %d adapters are open", FAR_ENGINE_PLATFORMS_MAX);
    } else if (found == NULL) {
        found = &engine->platforms[engine->platform_count];
        rc = platform_open(engine, name, found, err);
        engine->platform_count += rc == 0;
    }
    pthread_mutex_unlock(&engine->platforms_mutex);
    if (rc == 0) {
        *ret_platform = found;
    }
    return rc;
}

void far_engine_platforms_close(struct far_engine *engine)
{
    for (size_t i = 0; i < engine->platform_count; i++) {
        engine->platforms[i].adapter->close(engine->platforms[i].platform);
    }
    engine->platform_count = 0;
}
