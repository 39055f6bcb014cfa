/* The client library: see farshore/client.h.
 *
 * On a good day: one libcurl handle, one request to the server that answered last. When it fails: the next server, the
 * same command id, a short pause after each round, until the time is over. Which failures are worth a repetition is what
 * the server's problem says (retry), or, without an answer, whatever can be said of the connection. */
#include "client/transfer.h"

#include "base/clock.h"
#include "base/random.h"

#include <jansson.h>
#include <pthread.h>
#include <stdlib.h>
#include <strings.h>
#include <unistd.h>

enum {
    ANSWER_MAX = 64 * 1024 * 1024,
    TIMEOUT_MS = 30000,
    CONNECT_MS = 3000,
    ATTEMPT_MS = 17000, /* a little more than what a server gives a command */
};

/* ---- errors ---- */

int client_give(struct far_client_error *ret_error, const struct far_error *err, int http_status)
{
    const struct far_class_info *info = far_class_info(err->klass);
    if (ret_error != NULL) {
        memset(ret_error, 0, sizeof *ret_error);
        snprintf(ret_error->code, sizeof ret_error->code, "%s", info->name);
        snprintf(ret_error->message, sizeof ret_error->message, "%s", err->message);
        ret_error->exit_code = info->exit_code;
        ret_error->http_status = http_status;
    }
    return -1;
}

/* ---- life ---- */

static void init_curl(void)
{
    curl_global_init(CURL_GLOBAL_DEFAULT);
}

static int add_server(struct far_client *client, const char *text, size_t len, struct far_error *err)
{
    bool scheme = len > 8 && strncasecmp(text, "https://", 8) == 0;
    while (len > 8 && text[len - 1] == '/') {
        len--;
    }
    if (client->server_count == SERVERS_MAX) {
        return far_fail(err, FAR_LIMIT, "more than %d servers are given", SERVERS_MAX);
    }
    if (len == 0 || (!scheme && memchr(text, '/', len) != NULL) || memchr(text, ' ', len) != NULL) {
        return far_fail(err, FAR_INVALID, "'%.*s' is no address of a server: it must be https://host:port", (int)len, text);
    }
    char *url = malloc(len + 9);
    if (url == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the client");
    }
    snprintf(url, len + 9, "%s%.*s", scheme ? "" : "https://", (int)len, text);
    client->servers[client->server_count++] = url;
    return 0;
}

static int add_servers(struct far_client *client, const char *list, struct far_error *err)
{
    for (const char *at = list; at != NULL;) {
        size_t len = strcspn(at, ",");
        int rc = add_server(client, at, len, err);
        if (rc != 0) {
            return rc;
        }
        at = at[len] == ',' ? at + len + 1 : NULL;
    }
    return client->server_count > 0 ? 0 : far_fail(err, FAR_INVALID, "no server is given");
}

static int set_up(struct far_client *client, const struct far_client_config *config, struct far_error *err)
{
    if (config->version != FAR_CLIENT_CONFIG_VERSION) {
        return far_fail(err, FAR_INVALID, "the client's configuration has version %u", config->version);
    }
    client->timeout_ms = config->timeout_ms != 0 ? config->timeout_ms : TIMEOUT_MS;
    client->curl = curl_easy_init();
    int rc = client->curl == NULL ? far_fail(err, FAR_LIMIT, "no memory for the client") : 0;
    rc = rc != 0 ? rc : add_servers(client, config->servers, err);
    if (rc == 0 && config->ca_path != NULL) {
        client->ca_path = strdup(config->ca_path);
        rc = client->ca_path == NULL ? far_fail(err, FAR_LIMIT, "no memory for the client") : 0;
    }
    if (rc == 0 && config->ca_path != NULL && access(config->ca_path, R_OK) != 0) {
        rc = far_fail(err, FAR_NOT_FOUND, "the CA file '%s' cannot be read", config->ca_path);
    }
    if (rc == 0 && config->token != NULL) {
        size_t len = strcspn(config->token, "\r\n");
        client->authorization = malloc(len + 32);
        if (client->authorization == NULL) {
            return far_fail(err, FAR_LIMIT, "no memory for the client");
        }
        snprintf(client->authorization, len + 32, "Authorization: Bearer %.*s", (int)len, config->token);
    }
    return rc;
}

int far_client_new(const struct far_client_config *config, struct far_client **ret_client,
                   struct far_client_error *ret_error)
{
    static pthread_once_t once = PTHREAD_ONCE_INIT;
    struct far_error err = {0};
    pthread_once(&once, init_curl);
    struct far_client *client = calloc(1, sizeof *client);
    int rc = client == NULL ? far_fail(&err, FAR_LIMIT, "no memory for the client") : set_up(client, config, &err);
    if (rc != 0) {
        far_client_free(client);
        return client_give(ret_error, &err, 0);
    }
    *ret_client = client;
    return 0;
}

void far_client_free(struct far_client *client)
{
    if (client == NULL) {
        return;
    }
    curl_easy_cleanup(client->curl);
    for (size_t i = 0; i < client->server_count; i++) {
        free(client->servers[i]);
    }
    if (client->authorization != NULL) {
        explicit_bzero(client->authorization, strlen(client->authorization));
    }
    free(client->authorization);
    free(client->ca_path);
    free(client->heads);
    free(client);
}

uint64_t far_client_index(const struct far_client *client)
{
    return client->index;
}

bool far_client_is_stale(const struct far_client *client)
{
    return client->is_stale;
}

void far_client_set_index(struct far_client *client, uint64_t index)
{
    client->index = index;
}

void far_client_cancel(struct far_client *client)
{
    atomic_store(&client->canceled, true);
}

/* ---- one exchange with one server ---- */

static size_t on_header(char *data, size_t size, size_t count, void *arg)
{
    struct answer *answer = arg;
    size_t len = size * count;
    if (len > 15 && strncasecmp(data, "farshore-index:", 15) == 0) {
        char text[32] = "";
        memcpy(text, data + 15, len - 15 < sizeof text - 1 ? len - 15 : sizeof text - 1);
        answer->index = strtoull(text, NULL, 10);
    }
    if (len > 15 && strncasecmp(data, "farshore-stale:", 15) == 0) {
        answer->is_stale = true;
    }
    return len;
}

static size_t on_body(char *data, size_t size, size_t count, void *arg)
{
    struct answer *answer = arg;
    answer->too_large = far_buf_append(&answer->body, data, size * count) != 0;
    return answer->too_large ? 0 : size * count;
}

/* Not 0 ends the transfer. */
static int on_progress(void *arg, curl_off_t a, curl_off_t b, curl_off_t c, curl_off_t d)
{
    return atomic_load(&((struct far_client *)arg)->canceled);
}

void client_prepare(struct far_client *client, const char *url, struct curl_slist *headers, char *words)
{
    CURL *curl = client->curl;
    curl_easy_reset(curl);
    curl_easy_setopt(curl, CURLOPT_URL, url);
    curl_easy_setopt(curl, CURLOPT_PROTOCOLS_STR, "https");
    curl_easy_setopt(curl, CURLOPT_PROXY, "");
    curl_easy_setopt(curl, CURLOPT_NOSIGNAL, 1L);
    curl_easy_setopt(curl, CURLOPT_HTTPHEADER, headers);
    curl_easy_setopt(curl, CURLOPT_CONNECTTIMEOUT_MS, (long)CONNECT_MS);
    curl_easy_setopt(curl, CURLOPT_SSLVERSION, (long)CURL_SSLVERSION_TLSv1_2);
    curl_easy_setopt(curl, CURLOPT_ERRORBUFFER, words);
    curl_easy_setopt(curl, CURLOPT_NOPROGRESS, 0L);
    curl_easy_setopt(curl, CURLOPT_XFERINFOFUNCTION, on_progress);
    curl_easy_setopt(curl, CURLOPT_XFERINFODATA, client);
    if (client->ca_path != NULL) {
        curl_easy_setopt(curl, CURLOPT_CAINFO, client->ca_path);
        curl_easy_setopt(curl, CURLOPT_CAPATH, NULL);
    }
}

int client_transport_failed(struct far_client *client, const char *server, CURLcode code, const char *words,
                            bool *ret_sent, struct far_error *err)
{
    const char *what = words[0] != '\0' ? words : curl_easy_strerror(code);
    long connected = 0;
    curl_easy_getinfo(client->curl, CURLINFO_REQUEST_SIZE, &connected);
    *ret_sent = connected > 0;
    if (atomic_load(&client->canceled)) {
        return far_fail(err, FAR_CANCELED, "canceled");
    }
    if (code == CURLE_PEER_FAILED_VERIFICATION || code == CURLE_SSL_CACERT_BADFILE) {
        return far_fail(err, FAR_DENIED, "%s is not believed: %s", server, what);
    }
    if (code == CURLE_OPERATION_TIMEDOUT) {
        return far_fail(err, FAR_TIMEOUT, "%s does not answer: %s", server, what);
    }
    return far_fail(err, FAR_IO, "cannot reach %s: %s", server, what);
}

int client_refused(const struct answer *answer, char ret_retry[16], struct far_error *err)
{
    json_t *problem = json_loadb((const char *)answer->body.data, answer->body.len, 0, NULL);
    const char *code = json_string_value(json_object_get(problem, "code"));
    const char *detail = json_string_value(json_object_get(problem, "detail"));
    const char *retry = json_string_value(json_object_get(problem, "retry"));
    int klass = code == NULL ? FAR_INTERNAL : far_class_from_name(code);
    snprintf(ret_retry, 16, "%s", retry == NULL ? "never" : retry);
    int rc = 0;
    if (detail != NULL) {
        rc = far_fail(err, klass == FAR_OK ? FAR_INTERNAL : klass, "%s", detail);
    } else {
        rc = far_fail(err, FAR_INTERNAL, "the server answered with status %ld and no reason", answer->status);
    }
    json_decref(problem);
    return rc;
}

/* ---- a request with its repetitions ---- */

static char *url_of(const struct far_client *client, const struct attempt *attempt)
{
    const char *server = client->servers[client->current];
    size_t room = strlen(server) + strlen(attempt->path) + 64;
    char *url = malloc(room);
    if (url == NULL) {
        return NULL;
    }
    snprintf(url, room, "%s%s", server, attempt->path);
    bool reads = strcmp(attempt->method, "GET") == 0;
    if (reads && client->index > 0 && strstr(attempt->path, "min_index=") == NULL && strncmp(attempt->path, "/v1/", 4) == 0) {
        size_t len = strlen(url);
        snprintf(url + len, room - len, "%cmin_index=%llu", strchr(attempt->path, '?') == NULL ? '?' : '&',
                 (unsigned long long)client->index);
    }
    return url;
}

struct curl_slist *client_headers(const struct far_client *client, const struct attempt *attempt)
{
    struct curl_slist *headers = curl_slist_append(NULL, "Expect:");
    if (client->authorization != NULL) {
        headers = curl_slist_append(headers, client->authorization);
    }
    if (attempt->id_header[0] != '\0') {
        headers = curl_slist_append(headers, attempt->id_header);
        headers = curl_slist_append(headers, "Content-Type: application/json");
    }
    return headers;
}

static CURLcode transfer(struct far_client *client, const struct attempt *attempt, const char *url,
                         struct answer *answer)
{
    struct curl_slist *headers = client_headers(client, attempt);
    uint64_t now_ms = far_clock_monotonic_ms();
    long left = attempt->deadline_ms > now_ms ? (long)(attempt->deadline_ms - now_ms) : 1;
    if (client->server_count > 1 && left > ATTEMPT_MS) {
        left = ATTEMPT_MS; /* a server that hangs leaves time for the others */
    }
    CURL *curl = client->curl;
    client_prepare(client, url, headers, answer->words);
    curl_easy_setopt(curl, CURLOPT_TIMEOUT_MS, left);
    curl_easy_setopt(curl, CURLOPT_HEADERFUNCTION, on_header);
    curl_easy_setopt(curl, CURLOPT_HEADERDATA, answer);
    curl_easy_setopt(curl, CURLOPT_WRITEFUNCTION, on_body);
    curl_easy_setopt(curl, CURLOPT_WRITEDATA, answer);
    if (strcmp(attempt->method, "GET") != 0) {
        curl_easy_setopt(curl, CURLOPT_POSTFIELDS, attempt->body != NULL ? attempt->body : "");
        curl_easy_setopt(curl, CURLOPT_CUSTOMREQUEST, attempt->method);
    }
    CURLcode code = curl_easy_perform(curl);
    curl_easy_getinfo(curl, CURLINFO_RESPONSE_CODE, &answer->status);
    curl_slist_free_all(headers);
    return code;
}

static enum verdict judge(struct far_client *client, struct attempt *attempt, struct answer *answer, CURLcode code,
                          struct far_error *err)
{
    if (answer->too_large) {
        far_fail(err, FAR_LIMIT, "the answer is larger than %d MiB", ANSWER_MAX / 1024 / 1024);
        return GIVE_UP;
    }
    if (code != CURLE_OK) {
        bool sent = false;
        int klass = client_transport_failed(client, client->servers[client->current], code, answer->words, &sent, err);
        attempt->may_have_happened = attempt->may_have_happened || sent;
        answer->status = 0;
        attempt->disbelieved = klass == FAR_DENIED ? attempt->disbelieved + 1 : 0;
        bool nobody_is_believed = attempt->disbelieved >= client->server_count && !attempt->may_have_happened;
        return klass == FAR_CANCELED || nobody_is_believed ? GIVE_UP : TRY_AGAIN;
    }
    if (answer->status >= 200 && answer->status < 300) {
        return DONE;
    }
    char retry[16];
    int klass = client_refused(answer, retry, err);
    attempt->may_have_happened = attempt->may_have_happened || klass == FAR_UNKNOWN_OUTCOME || klass == FAR_TIMEOUT;
    bool no_space = klass == FAR_LIMIT;
    return strcmp(retry, "never") == 0 || no_space ? GIVE_UP : TRY_AGAIN;
}

bool client_pause(struct far_client *client, uint64_t pause_ms, uint64_t deadline_ms)
{
    for (uint64_t waited = 0; waited < pause_ms; waited += 10) {
        if (atomic_load(&client->canceled) || far_clock_monotonic_ms() >= deadline_ms) {
            return false;
        }
        usleep(10000);
    }
    return !atomic_load(&client->canceled) && far_clock_monotonic_ms() < deadline_ms;
}

/* One attempt at the current server. */
static enum verdict try_once(struct far_client *client, struct attempt *attempt, struct answer *answer,
                             struct far_error *err)
{
    char *url = url_of(client, attempt);
    if (url == NULL) {
        far_fail(err, FAR_LIMIT, "no memory for the request");
        return GIVE_UP;
    }
    far_buf_reset(&answer->body);
    answer->is_stale = false;
    answer->words[0] = '\0';
    answer->status = 0;
    CURLcode code = transfer(client, attempt, url, answer);
    free(url);
    return judge(client, attempt, answer, code, err);
}

/* Tries server after server until one answers for good or the time is over. */
static int perform(struct far_client *client, struct attempt *attempt, struct answer *answer, struct far_error *err)
{
    uint64_t pause_ms = PAUSE_MIN_MS;
    for (size_t tries = 1;; tries++) {
        enum verdict verdict = try_once(client, attempt, answer, err);
        if (verdict != TRY_AGAIN) {
            return verdict == DONE ? 0 : err->klass;
        }
        client->current = (client->current + 1) % client->server_count;
        bool round_over = tries % client->server_count == 0;
        if (round_over && !client_pause(client, pause_ms, attempt->deadline_ms)) {
            break;
        }
        if (round_over && pause_ms < PAUSE_MAX_MS) {
            pause_ms *= 2;
        }
    }
    if (atomic_load(&client->canceled)) {
        return far_fail(err, FAR_CANCELED, "canceled");
    }
    bool writes = attempt->id_header[0] != '\0';
    if (writes && attempt->may_have_happened) {
        err->klass = FAR_UNKNOWN_OUTCOME;
        return far_error_context(err, "it may or may not have happened");
    }
    return err->klass;
}

static void note_headers(struct far_client *client, const struct attempt *attempt, const struct answer *answer)
{
    if (attempt->id_header[0] != '\0' && answer->index > client->index) {
        client->index = answer->index;
    }
    client->is_stale = answer->is_stale;
}

int far_client_request(struct far_client *client, const char *method, const char *path, const char *body,
                       char **ret_body, struct far_client_error *ret_error)
{
    struct far_error err = {0};
    struct attempt attempt = {.method = method, .path = path, .body = body,
                              .deadline_ms = far_clock_monotonic_ms() + client->timeout_ms};
    struct answer answer = {.client = client};
    far_buf_init(&answer.body, ANSWER_MAX);
    if (strcmp(method, "GET") != 0) {
        uint8_t id[16];
        char hex[33];
        far_random_bytes(id, sizeof id);
        far_hex_encode(id, sizeof id, hex);
        snprintf(attempt.id_header, sizeof attempt.id_header, "Idempotency-Key: %s", hex);
    }
    int rc = perform(client, &attempt, &answer, &err);
    char *text = NULL;
    if (rc == 0) {
        note_headers(client, &attempt, &answer);
        text = malloc(answer.body.len + 1);
        rc = text == NULL ? far_fail(&err, FAR_LIMIT, "no memory for the answer") : 0;
    }
    if (rc == 0) {
        memcpy(text, answer.body.len == 0 ? "" : (const char *)answer.body.data, answer.body.len);
        text[answer.body.len] = '\0';
        *ret_body = text;
    }
    far_buf_done(&answer.body);
    return rc == 0 ? 0 : client_give(ret_error, &err, (int)answer.status);
}
