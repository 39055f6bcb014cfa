/* Requests of the command line: JSON values in and out of the client library. */
#include "cli.h"

#include "base/clock.h"

#include <stdlib.h>
#include <string.h>

int cli_failed(const struct far_client_error *from, struct far_error *err)
{
    return far_fail(err, far_class_from_name(from->code), "%s", from->message);
}

int cli_request(struct cli *cli, const char *method, const char *path, const json_t *body, json_t **ret_json,
                struct far_error *err)
{
    struct far_client *client = NULL;
    struct far_client_error why;
    int rc = cli_client(cli, NULL, &client, err);
    if (rc != 0) {
        return rc;
    }
    char *text = body == NULL ? NULL : json_dumps(body, JSON_COMPACT), *answer = NULL;
    rc = far_client_request(client, method, path, text, &answer, &why) != 0 ? cli_failed(&why, err) : 0;
    if (rc == 0 && far_client_is_stale(client) && !cli->json && !cli->told_stale) {
        cli->told_stale = true; /* once a command */
        fprintf(stderr, "farshore: warning: this server has had no word from a leader lately; what it shows may be old\n");
    }
    free(text);
    if (rc != 0) {
        return rc;
    }
    *ret_json = json_loads(answer, 0, NULL);
    free(answer);
    return *ret_json != NULL ? 0 : far_fail(err, FAR_CORRUPT, "the server's answer is no JSON");
}

/* Appends one page; *ret_cursor is 0 on the last one. */
static int add_page(struct cli *cli, const char *path, uint64_t cursor, json_t *items, uint64_t *ret_cursor,
                    struct far_error *err)
{
    char page_path[2048];
    json_t *page = NULL;
    snprintf(page_path, sizeof page_path, "%s%climit=1000&cursor=%llu", path, strchr(path, '?') == NULL ? '?' : '&',
             (unsigned long long)cursor);
    int rc = cli_request(cli, "GET", page_path, NULL, &page, err);
    if (rc != 0) {
        return rc;
    }
    json_array_extend(items, json_object_get(page, "items"));
    *ret_cursor = (uint64_t)json_integer_value(json_object_get(page, "cursor"));
    json_decref(page);
    return 0;
}

int cli_list(struct cli *cli, const char *path, json_t **ret_items, struct far_error *err)
{
    json_t *items = json_array();
    uint64_t cursor = 0;
    int rc = 0;
    do {
        rc = add_page(cli, path, cursor, items, &cursor, err);
    } while (rc == 0 && cursor != 0);
    if (rc != 0) {
        json_decref(items);
        return rc;
    }
    *ret_items = items;
    return 0;
}

int cli_cluster_time(struct cli *cli, uint64_t *ret_ms, struct far_error *err)
{
    json_t *status = NULL;
    int rc = cli_request(cli, "GET", "/v1/cluster", NULL, &status, err);
    if (rc == 0) {
        const json_t *time_ms = json_object_get(json_object_get(status, "clock"), "time_ms");
        *ret_ms = json_is_integer(time_ms) ? (uint64_t)json_integer_value(time_ms) : far_clock_wall_ms();
        json_decref(status);
    }
    return rc;
}
