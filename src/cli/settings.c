/* Where to connect, whom to believe, who we are: options, environment, ~/.config/farshore; and the index of the last write,
 * kept between runs so that each one reads what the one before wrote. */
#include "cli.h"

#include "base/hash.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

enum { FILE_MAX = 4096, TIMEOUT_S_MAX = 86400 };

bool cli_settings_line(char *line, char **ret_key, char **ret_value)
{
    *ret_key = *ret_value = NULL;
    line += strspn(line, " \t");
    line[strcspn(line, "\r\n")] = '\0';
    if (*line == '\0' || *line == '#') {
        return true;
    }
    char *equal = strchr(line, '=');
    if (equal == NULL || equal == line) {
        return false;
    }
    char *value = equal + 1 + strspn(equal + 1, " \t");
    for (char *end = equal; end > line && (end[-1] == ' ' || end[-1] == '\t'); end--) {
        end[-1] = '\0';
    }
    *equal = '\0';
    for (char *end = value + strlen(value); end > value && (end[-1] == ' ' || end[-1] == '\t'); end--) {
        end[-1] = '\0';
    }
    *ret_key = line;
    *ret_value = value;
    return true;
}

struct file_settings {
    char server[FILE_MAX], token_file[FILE_MAX], ca[FILE_MAX];
};

static int read_line(const char *path, int number, char *line, struct file_settings *settings, struct far_error *err)
{
    char *key, *value;
    if (!cli_settings_line(line, &key, &value)) {
        return far_fail(err, FAR_INVALID, "%s, line %d: it must be 'key = value'", path, number);
    }
    char *to = key == NULL                       ? NULL
               : strcmp(key, "server") == 0      ? settings->server
               : strcmp(key, "token_file") == 0  ? settings->token_file
               : strcmp(key, "ca") == 0          ? settings->ca
                                                 : NULL;
    if (key != NULL && to == NULL) {
        return far_fail(err, FAR_INVALID, "%s, line %d: unknown key '%s'", path, number, key);
    }
    if (to != NULL) {
        snprintf(to, FILE_MAX, "%s", value);
    }
    return 0;
}

static int read_file(struct file_settings *settings, struct far_error *err)
{
    const char *home = getenv("HOME"), *config = getenv("XDG_CONFIG_HOME");
    char path[FILE_MAX], line[FILE_MAX];
    if (config != NULL && config[0] == '/') {
        snprintf(path, sizeof path, "%s/farshore", config);
    } else if (home != NULL) {
        snprintf(path, sizeof path, "%s/.config/farshore", home);
    } else {
        return 0;
    }
    FILE *file = fopen(path, "re");
    int rc = 0;
    for (int number = 1; file != NULL && rc == 0 && fgets(line, sizeof line, file) != NULL; number++) {
        rc = read_line(path, number, line, settings, err);
    }
    if (file != NULL) {
        fclose(file);
    }
    return rc;
}

/* The first of option, environment and file that says something; NULL. */
static char *first_of(const struct cli *cli, const char *option, const char *variable, const char *from_file)
{
    const char *text = cli_value(&cli->parsed, option);
    if (text == NULL || text[0] == '\0') {
        text = getenv(variable);
    }
    if (text == NULL || text[0] == '\0') {
        text = from_file;
    }
    return text[0] == '\0' ? NULL : strdup(text);
}

static int read_token(struct cli *cli, const char *path, struct far_error *err)
{
    char token[1024] = "";
    FILE *file = fopen(path, "re");
    if (file == NULL) {
        return far_fail_errno(err, FAR_NOT_FOUND, errno, "read the token file '%s'", path);
    }
    bool good = fgets(token, sizeof token, file) != NULL;
    int code = ferror(file) ? errno : 0;
    fclose(file);
    if (code != 0) {
        return far_fail_errno(err, FAR_INVALID, code, "read the token file '%s'", path);
    }
    token[strcspn(token, " \t\r\n")] = '\0';
    if (!good || token[0] == '\0') {
        return far_fail(err, FAR_INVALID, "the token file '%s' is empty", path);
    }
    cli->token = strdup(token);
    explicit_bzero(token, sizeof token);
    return 0;
}

/* A file of our own for this cluster and token: a new cluster at an old address starts anew. */
static void choose_state_path(struct cli *cli)
{
    const char *home = getenv("HOME"), *state = getenv("XDG_STATE_HOME");
    char dir[FILE_MAX], path[FILE_MAX + 64];
    if (cli->state_path != NULL) {
        return; /* by the servers that were given, also when others are asked later */
    }
    if (state != NULL && state[0] == '/') {
        snprintf(dir, sizeof dir, "%s", state);
    } else if (home != NULL) {
        snprintf(dir, sizeof dir, "%s/.local/state", home);
    } else {
        return;
    }
    const char *token = cli->token != NULL ? cli->token : "";
    uint64_t name = far_hash64_parts(far_slice_str("farshore index"), far_slice_str(cli->servers), far_slice_str(token));
    snprintf(path, sizeof path, "%s/farshore-index-%016llx", dir, (unsigned long long)name);
    cli->state_path = strdup(path);
}

static uint64_t load_index(const struct cli *cli)
{
    unsigned long long index = 0;
    FILE *file = cli->state_path == NULL ? NULL : fopen(cli->state_path, "re");
    if (file != NULL) {
        if (fscanf(file, "%llu", &index) != 1) {
            index = 0;
        }
        fclose(file);
    }
    return index;
}

static void store_index(const struct cli *cli)
{
    uint64_t index = cli->client == NULL ? 0 : far_client_index(cli->client);
    if (cli->state_path == NULL || index == 0 || index == load_index(cli)) {
        return;
    }
    char *end = strrchr(cli->state_path, '/');
    *end = '\0';
    for (char *slash = strchr(cli->state_path + 1, '/'); slash != NULL; slash = strchr(slash + 1, '/')) {
        *slash = '\0';
        mkdir(cli->state_path, 0755);
        *slash = '/';
    }
    mkdir(cli->state_path, 0700);
    *end = '/';
    FILE *file = fopen(cli->state_path, "we"); /* a comfort: failing to keep it is no failure of the command */
    if (file != NULL) {
        fprintf(file, "%llu\n", (unsigned long long)index);
        fclose(file);
    }
}

int cli_settings(struct cli *cli, struct far_error *err)
{
    struct file_settings *file = cli->has_settings ? NULL : calloc(1, sizeof *file);
    char *token_path = NULL;
    if (cli->has_settings || file == NULL) {
        return cli->has_settings ? 0 : far_fail(err, FAR_LIMIT, "no memory");
    }
    int rc = read_file(file, err);
    if (rc == 0) {
        cli->has_settings = true;
        cli->servers = first_of(cli, "server", "FARSHORE_SERVER", file->server);
        cli->ca_path = first_of(cli, "ca", "FARSHORE_CA", file->ca);
        token_path = first_of(cli, "token-file", "FARSHORE_TOKEN_FILE", file->token_file);
    }
    free(file);
    rc = rc == 0 && token_path != NULL ? read_token(cli, token_path, err) : rc;
    free(token_path);
    return rc;
}

int cli_check_timeout(struct cli *cli, struct far_error *err)
{
    const char *timeout = cli_value(&cli->parsed, "timeout");
    unsigned long seconds = timeout == NULL ? 0 : strtoul(timeout, NULL, 10);
    cli->timeout_ms = seconds > TIMEOUT_S_MAX ? 0 : (uint32_t)seconds * 1000;
    return seconds > TIMEOUT_S_MAX ? far_fail(err, FAR_INVALID, "option '--timeout' must be at most %d seconds", TIMEOUT_S_MAX) : 0;
}

int cli_client(struct cli *cli, const char *only, struct far_client **ret_client, struct far_error *err)
{
    if (only == NULL && cli->client != NULL) {
        *ret_client = cli->client;
        return 0;
    }
    int rc = cli_settings(cli, err);
    if (rc != 0) {
        return rc;
    }
    if (cli->servers == NULL) {
        return far_fail(err, FAR_INVALID, "no server is given: use --server URL, FARSHORE_SERVER or ~/.config/farshore");
    }
    struct far_client_config config = {.version = FAR_CLIENT_CONFIG_VERSION,
                                       .servers = only != NULL ? only : cli->servers,
                                       .ca_path = cli->ca_path,
                                       .token = cli->token,
                                       .timeout_ms = cli->timeout_ms};
    struct far_client_error why;
    if (far_client_new(&config, ret_client, &why) != 0) {
        return cli_failed(&why, err);
    }
    if (only == NULL) {
        cli->client = *ret_client;
        choose_state_path(cli);
        far_client_set_index(cli->client, load_index(cli));
    }
    return 0;
}

void cli_done(struct cli *cli)
{
    store_index(cli);
    far_client_free(cli->client);
    if (cli->token != NULL) {
        explicit_bzero(cli->token, strlen(cli->token));
    }
    free(cli->token);
    free(cli->servers);
    free(cli->ca_path);
    free(cli->state_path);
}
