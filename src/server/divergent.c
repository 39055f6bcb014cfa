/* farshored divergent: what servers accepted alone, while the cluster went on in a later incarnation without them.
 *
 * rejoin (server_rejoin.c) keeps each such server in divergent/<incarnation>-<number>/. list says how much each holds behind
 * the place where the cluster left it, show prints those events, diff what they changed, object by object. It is never merged:
 * whoever wants something of it back gives the command again. May run beside the server, whose own log it does not touch. */
#include "api/event_text.h"
#include "api/request.h"
#include "base/child.h"
#include "base/file.h"
#include "base/logging.h"
#include "fsm/kv_overlay.h"
#include "log/history.h"
#include "log/log_offline.h"
#include "server/server.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPT_DIR, OPT_DO, OPT_REQUIRED, OPT_NAME = OPT_REQUIRED, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--do", "--name", NULL};

enum { PLACES_MAX = 64, PLACE_MAX = 64, FORK_MAX = 512, ARENA_MAX = 2 * 1024 * 1024, CHANGES_MAX = 100000,
       PATH_BYTES = FAR_SERVER_FILE_MAX + PLACE_MAX + 16 };

struct divergent {
    char dir[PATH_BYTES];
    struct far_server_config config;
    struct far_log_config log_config;
    struct far_log_offline *log;
    struct far_log_view view;
    bool is_viewed;
    bool has_fork;      /* where the cluster left it is known */
    uint64_t fork_seq;  /* the last event that both have, as far as is known */
    uint64_t sure_seq;  /* at the cluster's side */
    bool is_removed;       /* the cluster never left its life: it has all that this server had applied */
    uint64_t answered_seq; /* events behind it were perhaps never answered */
    char damage[FAR_MESSAGE_MAX];
};

/* ---- what was kept may be damaged: its structure kills whoever reads it ---- */

struct work {
    int (*run)(const char *dir, const char *place, struct far_error *err);
    const char *dir, *place;
};

static int do_work(void *arg, struct far_error *err)
{
    const struct work *work = arg;
    return work->run(work->dir, work->place, err);
}

static int in_child(int (*run)(const char *dir, const char *place, struct far_error *err), const char *dir, const char *place,
                    struct far_error *err)
{
    struct work work = {.run = run, .dir = dir, .place = place};
    struct far_error why = {0};
    bool has_died = false;
    int rc = far_child_run(do_work, &work, &has_died, &why);
    if (has_died) {
        return far_fail(err, rc, "the store in '%.200s/divergent' cannot be read, its structure is damaged: %.200s", dir, why.message);
    }
    return rc == 0 ? 0 : far_fail(err, rc, "%s", why.message);
}

/* ---- opening ---- */

/* Do both have the event with this head? */
static bool has_head(struct divergent *d, uint64_t seq, const uint8_t head[32])
{
    static const uint8_t zeros[32];
    struct far_arena arena;
    struct far_event event;
    uint8_t own[32];
    if (seq == 0) {
        return memcmp(head, zeros, 32) == 0;
    }
    if (seq + 1 == d->view.first_seq) {
        return memcmp(d->view.base_head, head, 32) == 0;
    }
    far_arena_init(&arena, ARENA_MAX);
    bool same = far_log_view_event(&d->view, seq, &arena, &event, own, NULL) == 0 && memcmp(own, head, 32) == 0;
    far_arena_done(&arena);
    return same;
}

/* Between what was sure and what was kept, only the chain head of the last event can be compared. */
static int find_fork(struct divergent *d, struct far_error *err)
{
    char path[PATH_BYTES + 8], parent[80], sure[80];
    unsigned long long parent_seq, sure_seq;
    uint8_t parent_head[32], sure_head[32];
    struct far_buf text;
    snprintf(path, sizeof path, "%s/fork", d->dir);
    far_buf_init(&text, FORK_MAX);
    int rc = far_file_read(path, &text, err);
    rc = rc == 0 ? far_buf_append(&text, "", 1) : rc;
    d->is_removed = rc == 0 && strcmp((const char *)text.data, FAR_FORK_NONE) == 0;
    if (rc == FAR_NOT_FOUND || d->is_removed) {
        far_buf_done(&text);
        d->has_fork = d->is_removed;
        d->fork_seq = d->is_removed ? d->answered_seq : 0;
        return 0;
    }
    bool good = rc == 0 && sscanf((const char *)text.data, "%llu %79s %llu %79s", &parent_seq, parent, &sure_seq, sure) == 4 &&
                far_hex_decode(parent, strlen(parent), parent_head, 32) && far_hex_decode(sure, strlen(sure), sure_head, 32);
    far_buf_done(&text);
    if (!good) {
        return far_fail(err, FAR_CORRUPT, "'%s' is not what was written", path);
    }
    bool has_all = d->view.last_seq >= parent_seq && has_head(d, parent_seq, parent_head);
    d->fork_seq = has_all ? parent_seq : sure_seq < d->view.last_seq ? sure_seq : d->view.last_seq;
    d->has_fork = has_all || d->view.last_seq <= sure_seq || has_head(d, sure_seq, sure_head);
    return 0;
}

static void close_divergent(struct divergent *d)
{
    if (d->is_viewed) {
        far_log_view_end(&d->view);
    }
    far_log_offline_close(d->log);
    *d = (struct divergent){.log = NULL};
}

static int open_divergent(const char *dir, const char *place, struct divergent *d, struct far_error *err)
{
    struct far_error damage = {0};
    *d = (struct divergent){.log = NULL};
    if (strchr(place, '/') != NULL || strlen(place) >= PLACE_MAX) {
        return far_fail(err, FAR_INVALID, "'%.60s' is none of those that list shows", place);
    }
    snprintf(d->dir, sizeof d->dir, "%s/divergent/%s", dir, place);
    int rc = far_server_config_load(d->dir, &d->config, err);
    if (rc == FAR_NOT_FOUND) {
        return far_fail(err, rc, "there is no '%s' in '%s/divergent'", place, dir);
    }
    d->log_config = far_server_log_config(d->dir, &d->config, NULL);
    rc = rc != 0 ? rc : far_log_offline_open(&d->log_config, &d->log, err);
    rc = rc != 0 ? rc : far_log_offline_view(d->log, &d->view, err);
    if (rc != 0) {
        return rc;
    }
    d->answered_seq = d->view.last_seq;
    far_log_view_end(&d->view);
    if (far_log_offline_apply(d->log, &damage) != 0) { /* what it holds applied is still worth a look */
        snprintf(d->damage, sizeof d->damage, "%s", damage.message);
    }
    rc = far_log_offline_view(d->log, &d->view, err);
    d->is_viewed = rc == 0;
    return rc != 0 ? rc : find_fork(d, err);
}

/* The first event behind the fork that is kept; a server that was still fetching older ones does not have all of them. */
static uint64_t first_alone(const struct divergent *d)
{
    return d->fork_seq + 1 > d->view.first_seq ? d->fork_seq + 1 : d->view.first_seq;
}

static uint64_t count_alone(const struct divergent *d)
{
    return d->view.last_seq + 1 - first_alone(d);
}

static void tell_missing(const struct divergent *d)
{
    if (first_alone(d) > d->fork_seq + 1) {
        fprintf(stderr, "events %llu to %llu are not here: this server never had them, or had cut them\n",
                (unsigned long long)d->fork_seq + 1, (unsigned long long)first_alone(d) - 1);
    }
}

/* ---- list ---- */

static int compare(const void *a, const void *b)
{
    return strcmp(a, b);
}

static int find_places(const char *dir, char places[PLACES_MAX][PLACE_MAX], size_t *ret_count, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    *ret_count = 0;
    far_server_path(dir, "divergent", path);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "read folder '%s'", path);
    }
    for (struct dirent *entry; *ret_count < PLACES_MAX && (entry = readdir(folder)) != NULL;) {
        if (entry->d_name[0] != '.' && strlen(entry->d_name) < PLACE_MAX) {
            snprintf(places[(*ret_count)++], PLACE_MAX, "%.63s", entry->d_name);
        }
    }
    closedir(folder);
    qsort(places, *ret_count, PLACE_MAX, compare);
    return 0;
}

static void print_divergent(const char *place, struct divergent *d, int rc, const struct far_error *err)
{
    if (rc != 0) {
        printf("%s: cannot be read: %s\n", place, err->message);
        return;
    }
    printf("%s: server '%s' (number %llu), ", place, d->config.name, (unsigned long long)d->config.server_id);
    if (!d->has_fork) {
        printf("%llu events, %llu to %llu; where the cluster left it is not known\n", (unsigned long long)count_alone(d),
               (unsigned long long)first_alone(d), (unsigned long long)d->view.last_seq);
    } else if (d->view.last_seq == d->fork_seq) {
        printf("nothing that the cluster does not have\n");
    } else {
        printf("%llu events %s: %llu to %llu\n", (unsigned long long)count_alone(d),
               d->is_removed ? "that the cluster perhaps does not have" : "alone", (unsigned long long)first_alone(d),
               (unsigned long long)d->view.last_seq);
    }
    if (d->damage[0] != '\0') {
        printf("%s: its log is damaged, so the end may be missing: %s\n", place, d->damage);
    }
}

static int print_place(const char *dir, const char *place, struct far_error *err)
{
    struct divergent d;
    struct far_error why = {0};
    print_divergent(place, &d, open_divergent(dir, place, &d, &why), &why);
    close_divergent(&d);
    return 0;
}

static int list(const char *dir, const char *unused, struct far_error *err)
{
    char places[PLACES_MAX][PLACE_MAX];
    size_t count;
    int rc = access(dir, F_OK) == 0 ? 0 : far_fail_errno(err, FAR_NOT_FOUND, errno, "open folder '%s'", dir);
    rc = rc != 0 ? rc : find_places(dir, places, &count, err);
    for (size_t i = 0; rc == 0 && i < count; i++) {
        struct divergent d = {.log = NULL};
        struct far_error why = {0};
        int died = in_child(print_place, dir, places[i], &why);
        if (died != 0) {
            print_divergent(places[i], &d, died, &why);
        }
    }
    if (rc == 0 && count == 0) {
        printf("this server never diverged\n");
    }
    return rc;
}

/* ---- show, diff ---- */

/* One line of JSON. */
static int print_json(json_t *value, struct far_error *err)
{
    char *text = value == NULL ? NULL : json_dumps(value, JSON_COMPACT);
    if (text == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to print");
    }
    puts(text);
    free(text);
    return 0;
}

static int show_event(struct divergent *d, uint64_t seq, struct far_error *err)
{
    struct far_arena arena;
    struct far_event event;
    far_arena_init(&arena, ARENA_MAX);
    int rc = far_log_view_event(&d->view, seq, &arena, &event, NULL, err);
    if (rc == 0) {
        json_t *json = far_event_as_json(&event, &arena);
        json_object_set_new(json, "answered", json_boolean(seq <= d->answered_seq));
        rc = print_json(json, err);
        json_decref(json);
    }
    far_arena_done(&arena);
    return rc;
}

static int show(const char *dir, const char *place, struct far_error *err)
{
    struct divergent d;
    int rc = open_divergent(dir, place, &d, err);
    if (rc == 0) {
        tell_missing(&d);
    }
    for (uint64_t seq = rc == 0 ? first_alone(&d) : 0; rc == 0 && seq <= d.view.last_seq; seq++) {
        rc = show_event(&d, seq, err);
    }
    close_divergent(&d);
    return rc;
}

static int fold(struct divergent *d, struct far_state *state, uint64_t last_seq, struct far_error *err)
{
    int rc = 0;
    for (uint64_t seq = d->fork_seq + 1; rc == 0 && seq <= last_seq; seq++) {
        struct far_arena arena;
        struct far_event event;
        far_arena_init(&arena, ARENA_MAX);
        rc = far_log_view_event(&d->view, seq, &arena, &event, NULL, err);
        rc = rc != 0 ? rc : far_fsm_evolve(state, &event, err);
        far_arena_done(&arena);
    }
    return rc;
}

static int print_changes(struct divergent *d, uint64_t last_seq, struct far_error *err)
{
    json_t *changes = NULL;
    bool more = false;
    struct far_state above = {.kv = far_kv_overlay_new(d->view.state.kv), .digest = d->view.state.digest};
    int rc = above.kv == NULL ? far_fail(err, FAR_LIMIT, "no memory for the differences") : fold(d, &above, last_seq, err);
    rc = rc != 0 ? rc : far_api_changes(d->view.state.kv, above.kv, CHANGES_MAX, &changes, &more, err);
    for (size_t i = 0; rc == 0 && i < json_array_size(changes); i++) {
        json_t *change = json_array_get(changes, i);
        rc = json_is_true(json_object_get(change, "internal")) ? 0 : print_json(change, err);
    }
    if (rc == 0 && more) {
        rc = far_fail(err, FAR_LIMIT, "there are more than %d changes; look at them with show", CHANGES_MAX);
    }
    json_decref(changes);
    far_kv_overlay_free(above.kv);
    return rc;
}

/* To the state at the fork, or to the oldest one behind it that is kept: then that is where the differences begin. */
static int go_to_fork(struct divergent *d, struct far_error *err)
{
    struct far_moment fork = {.kind = FAR_MOMENT_SEQ, .value = d->fork_seq};
    struct far_epoch epoch;
    uint64_t behind = first_alone(d) - 1;
    int rc = far_log_view_past(&d->view, &fork, err);
    if (rc != FAR_NOT_FOUND || behind == 0 || far_epoch_after(d->view.transaction, behind - 1, &epoch, NULL) != 0) {
        return rc;
    }
    far_log_view_end(&d->view);
    d->is_viewed = false;
    rc = far_log_offline_view(d->log, &d->view, err);
    d->is_viewed = rc == 0;
    fprintf(stderr, "the state behind event %llu is not here: what changed is shown from that behind event %llu on\n",
            (unsigned long long)d->fork_seq, (unsigned long long)epoch.seq);
    d->fork_seq = fork.value = epoch.seq;
    return rc != 0 ? rc : far_log_view_past(&d->view, &fork, err);
}

static int diff(const char *dir, const char *place, struct far_error *err)
{
    struct divergent d;
    int rc = open_divergent(dir, place, &d, err);
    uint64_t last_seq = rc == 0 ? d.view.last_seq : 0;
    if (rc == 0 && last_seq > d.fork_seq) {
        rc = go_to_fork(&d, err);
        rc = rc != 0 ? rc : print_changes(&d, last_seq, err);
    }
    close_divergent(&d);
    return rc;
}

/* ---- the command ---- */

int far_server_divergent(int argc, char **argv)
{
    static const struct {
        const char *name;
        bool needs_place;
        int (*run)(const char *dir, const char *place, struct far_error *err);
    } verbs[] = {{"list", false, list}, {"show", true, show}, {"diff", true, diff}};
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    far_log_level_set(FAR_LEVEL_WARN);
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, options, &err);
    size_t i = 0;
    while (rc == 0 && i < 3 && strcmp(verbs[i].name, options[OPT_DO]) != 0) {
        i++;
    }
    if (rc == 0 && i == 3) {
        rc = far_fail(&err, FAR_INVALID, "divergent: what to do is list, show or diff, not '%.40s'", options[OPT_DO]);
    } else if (rc == 0 && verbs[i].needs_place && options[OPT_NAME] == NULL) {
        rc = far_fail(&err, FAR_INVALID, "divergent: '--name' is missing: one of those that list shows");
    }
    if (rc == 0 && verbs[i].needs_place) {
        rc = in_child(verbs[i].run, options[OPT_DIR], options[OPT_NAME], &err);
    } else if (rc == 0) {
        rc = verbs[i].run(options[OPT_DIR], NULL, &err); /* each of the list by itself */
    }
    return rc == 0 ? 0 : far_server_failed(&err);
}
