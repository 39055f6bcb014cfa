/* farshore plan set-recovery, set-schedule: how a workload is brought up on the far side, and when the cycles of a plan begin, by flags.
 *
 * A network card is "0,network=dr-vms,test=lab,mode=static,address=10.9.0.5/16,gateway=10.9.0.1,dns=10.9.0.2+10.9.0.3": which one (from 0
 * on, or its MAC), then what is set of it. A gate is "port:5432:300", "agent:60", "address:60", "script:ready.sh:60" or
 * "person:3600:look at the books": what it waits for, and for how many seconds. A window is "mon-fri 22:00-06:00". */
#include "cli.h"

#include <stdlib.h>
#include <string.h>

/* A number of the option; false: it is none. */
static bool number_in(const char *text, size_t len, json_int_t *ret)
{
    char *end = NULL;
    bool good = len > 0 && len <= 18 && text[0] >= '0' && text[0] <= '9';
    *ret = good ? strtoll(text, &end, 10) : 0;
    return good && end == text + len;
}

/* "4GiB", "512MiB", or bytes. */
static int parse_memory(const char *text, json_int_t *ret_bytes, struct far_error *err)
{
    static const struct {
        const char *name;
        json_int_t bytes;
    } units[] = {{"", 1}, {"MiB", 1 << 20}, {"GiB", 1 << 30}, {"TiB", (json_int_t)1 << 40}};
    size_t digits = strspn(text, "0123456789");
    const char *unit = text + digits + strspn(text + digits, " ");
    for (size_t i = 0; i < sizeof units / sizeof units[0]; i++) {
        json_int_t count;
        if (strcmp(unit, units[i].name) == 0 && digits <= 9 + 9 * (i == 0) && number_in(text, digits, &count) &&
            count <= INT64_MAX / units[i].bytes) {
            *ret_bytes = count * units[i].bytes;
            return 0;
        }
    }
    return far_fail(err, FAR_INVALID, "option '--memory': '%s' is no amount: write it like 4GiB or 512MiB", text);
}

/* ---- network cards ---- */

static int bad_nic(const char *text, struct far_error *err)
{
    return far_fail(err, FAR_INVALID,
                    "option '--nic': '%s' is none: write it like 0,network=NAME,test=NAME,mode=static,address=10.9.0.5/16,"
                    "gateway=10.9.0.1,dns=10.9.0.2+10.9.0.3; instead of 0 also its MAC", text);
}

/* "10.9.0.5/16" */
static bool add_address(json_t *nic, const char *text, size_t len)
{
    const char *slash = memchr(text, '/', len);
    json_int_t prefix;
    if (slash == NULL || !number_in(slash + 1, len - (size_t)(slash - text) - 1, &prefix)) {
        return false;
    }
    json_object_set_new(nic, "address", json_stringn(text, (size_t)(slash - text)));
    json_object_set_new(nic, "prefix", json_integer(prefix));
    return true;
}

static bool add_part(json_t *nic, const char *part, size_t len)
{
    static const char *const names[] = {"network", "test", "mode", "gateway"};
    const char *equal = memchr(part, '=', len);
    size_t name_len = equal != NULL ? (size_t)(equal - part) : len, value_len = equal != NULL ? len - name_len - 1 : 0;
    if (equal == NULL || value_len == 0) {
        return false;
    }
    if (name_len == 7 && memcmp(part, "address", 7) == 0) {
        return add_address(nic, equal + 1, value_len);
    }
    if (name_len == 3 && memcmp(part, "dns", 3) == 0) {
        json_t *list = json_array();
        for (const char *at = equal + 1, *end = part + len; at < end;) {
            const char *plus = memchr(at, '+', (size_t)(end - at));
            json_array_append_new(list, json_stringn(at, (size_t)((plus != NULL ? plus : end) - at)));
            at = plus != NULL ? plus + 1 : end;
        }
        json_object_set_new(nic, "dns", list);
        return true;
    }
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        if (strlen(names[i]) == name_len && memcmp(names[i], part, name_len) == 0) {
            return json_object_set_new(nic, i == 1 ? "test_network" : names[i], json_stringn(equal + 1, value_len)) == 0;
        }
    }
    return false;
}

static int add_nic(json_t *list, const char *text, struct far_error *err)
{
    json_t *nic = json_object();
    size_t len = strcspn(text, ",");
    json_int_t number;
    bool good = len > 0;
    if (number_in(text, len, &number)) {
        json_object_set_new(nic, "nic", json_integer(number));
    } else {
        good = json_object_set_new(nic, "mac", json_stringn(text, len)) == 0 && good;
    }
    for (const char *at = text + len; good && *at == ',';) {
        size_t part = strcspn(at + 1, ",");
        good = add_part(nic, at + 1, part);
        at += 1 + part;
    }
    json_array_append_new(list, nic);
    return good ? 0 : bad_nic(text, err);
}

/* ---- gates ---- */

static int add_gate(json_t *list, const char *text, struct far_error *err)
{
    size_t kind_len = strcspn(text, ":");
    bool is_port = kind_len == 4 && memcmp(text, "port", 4) == 0, is_script = kind_len == 6 && memcmp(text, "script", 6) == 0;
    const char *rest = text[kind_len] == ':' ? text + kind_len + 1 : "";
    json_t *gate = json_pack("{s:s%}", "kind", text, kind_len);
    json_int_t number = 0;
    bool good = gate != NULL;
    if (good && (is_port || is_script)) {
        size_t len = strcspn(rest, ":");
        good = is_script || number_in(rest, len, &number);
        json_object_set_new(gate, is_port ? "port" : "script", is_port ? json_integer(good ? number : 0) : json_stringn(rest, len));
        rest = rest[len] == ':' ? rest + len + 1 : "";
    }
    size_t len = strcspn(rest, ":");
    good = good && number_in(rest, len, &number);
    if (good) {
        json_object_set_new(gate, "timeout_s", json_integer(number));
    }
    if (good && rest[len] == ':') {
        good = json_object_set_new(gate, "note", json_string(rest + len + 1)) == 0;
    }
    json_array_append_new(list, gate != NULL ? gate : json_null());
    return good ? 0
                : far_fail(err, FAR_INVALID,
                           "option '--gate': '%s' is none: write it like port:5432:300, agent:60, address:60, script:NAME:60 or "
                           "person:3600:WHAT TO LOOK AT (seconds to wait)", text);
}

/* ---- the commands ---- */

static json_t *list_in(json_t *object, const char *name)
{
    json_t *list = json_object_get(object, name);
    if (list == NULL) {
        list = json_array();
        json_object_set_new(object, name, list);
    }
    return list;
}

/* One option goes into the config. */
static int add_value(json_t *config, const struct cli_value *value, struct far_error *err)
{
    static const char *const numbers[][2] = {
        {"processors", "processors"}, {"group", "group"}, {"position", "position"}, {"delay", "delay_s"}};
    const char *name = value->option->name, *text = value->text, *equal = strchr(text, '=');
    json_int_t number = 0;
    int rc = 0;
    for (size_t i = 0; i < sizeof numbers / sizeof numbers[0]; i++) {
        if (strcmp(numbers[i][0], name) == 0) {
            json_object_set_new(config, numbers[i][1], json_integer(strtoll(text, NULL, 10)));
        }
    }
    if (strcmp(name, "memory") == 0) {
        rc = parse_memory(text, &number, err);
        json_object_set_new(config, "memory_bytes", json_integer(number));
    } else if (strcmp(name, "name") == 0 || strcmp(name, "firmware") == 0) {
        json_object_set_new(config, name[0] == 'n' ? "recovered_name" : name, json_string(text));
    } else if (strcmp(name, "disk-format") == 0) {
        json_object_set_new(config, "disk_format", json_string(text));
    } else if (strcmp(name, "leave-out") == 0) {
        json_array_append_new(list_in(config, "disks_left_out"), json_string(text));
    } else if (strcmp(name, "tag") == 0 && equal != NULL) {
        json_array_append_new(list_in(config, "tags"),
                              json_pack("{s:s%, s:s}", "key", text, (size_t)(equal - text), "value", equal + 1));
    } else if (strcmp(name, "nic") == 0) {
        rc = add_nic(list_in(config, "nics"), text, err);
    } else if (strcmp(name, "gate") == 0) {
        rc = add_gate(list_in(config, "gates"), text, err);
    }
    return rc;
}

int cli_run_set_recovery(struct cli *cli, struct far_error *err)
{
    json_t *config = json_object();
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < cli->parsed.value_count; i++) {
        rc = add_value(config, &cli->parsed.values[i], err);
    }
    if (rc == 0 && json_object_size(config) == 0) {
        rc = far_fail(err, FAR_INVALID, "say something of it; 'plan clear-recovery' brings it up as it was at the source");
    }
    json_t *body = json_pack("{s:o}", "config", config);
    rc = rc == 0 ? cli_write_and_say(cli, body, err) : rc;
    json_decref(body);
    return rc;
}

/* "mon-fri 22:00-06:00": as a window of a bandwidth limit, less its rate. */
static int add_window(json_t *list, const char *text, struct far_error *err)
{
    char whole[128];
    json_t *window = NULL;
    snprintf(whole, sizeof whole, "%.100s pause", text);
    int rc = cli_parse_window(whole, &window, err);
    if (rc != 0) {
        return far_fail(err, FAR_INVALID,
                        "'%s' is no window: write it like 'mon-fri 22:00-06:00' (days: mon to sun, ranges, commas, or daily; it may end on "
                        "the next day)", text);
    }
    json_object_del(window, "bytes_per_s");
    json_array_append_new(list, window);
    return 0;
}

int cli_run_set_schedule(struct cli *cli, struct far_error *err)
{
    json_t *schedule = json_object(), *body = json_pack("{s:o}", "schedule", schedule);
    int rc = 0;
    for (size_t i = 0; rc == 0 && i < cli->parsed.value_count; i++) {
        const char *name = cli->parsed.values[i].option->name, *text = cli->parsed.values[i].text;
        if (strcmp(name, "window") == 0 || strcmp(name, "blackout") == 0) {
            rc = add_window(list_in(schedule, name[0] == 'w' ? "windows" : "blackouts"), text, err);
        } else if (strcmp(name, "start") == 0) {
            uint64_t start_ms = 0;
            rc = cli_parse_date(text, &start_ms, err);
            json_object_set_new(schedule, "start_ms", json_integer((json_int_t)start_ms));
        } else if (strcmp(name, "zone") == 0 || strcmp(name, "catch-up") == 0) {
            json_object_set_new(schedule, name[0] == 'z' ? "zone" : "catch_up", json_string(text));
        }
    }
    rc = rc == 0 ? cli_write_and_say(cli, body, err) : rc;
    json_decref(body);
    return rc;
}

/* The member of its plan, as plan show has it. */
int cli_run_show_recovery(struct cli *cli, struct far_error *err)
{
    char path[CLI_PATH_MAX];
    json_t *workload = NULL, *plan = NULL, *member;
    size_t i;
    int rc = cli_path(cli, path, err);
    rc = rc != 0 ? rc : cli_request(cli, "GET", path, NULL, &workload, err);
    const char *name = json_string_value(json_object_get(workload, "plan"));
    if (rc == 0 && (name == NULL || name[0] == '\0')) {
        rc = far_fail(err, FAR_NOT_FOUND, "workload '%s' is in no plan: nothing brings it up", cli->parsed.argument);
    }
    if (rc == 0) {
        snprintf(path, sizeof path, "/v1/plans/%.63s", name);
        rc = cli_request(cli, "GET", path, NULL, &plan, err);
    }
    json_array_foreach(json_object_get(plan, "workloads"), i, member)
    {
        const char *found = json_string_value(json_object_get(member, "workload"));
        const json_t *recovery = json_object_get(member, "recovery");
        if (rc != 0 || found == NULL || strcmp(found, cli->parsed.argument) != 0) {
            continue;
        }
        if (cli->json) {
            cli_print_json(cli->out, recovery);
        } else if (json_is_object(recovery)) {
            cli_print_object(cli->out, recovery, 0);
        } else {
            fprintf(cli->out, "workload '%s' comes up as it was at the source\n", found);
        }
    }
    json_decref(workload);
    json_decref(plan);
    return rc;
}
