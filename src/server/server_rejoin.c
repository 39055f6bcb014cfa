/* farshored rejoin: a fenced (or removed, or damaged) server becomes a new one, and keeps what it was.
 *
 * Good day: everything of the old server goes into divergent/<incarnation>-<number>/ of its folder, `config` first, so that
 * from the first move on the folder is no server's; then it joins with a new token, under a new id, as a standby that the
 * leader fills; `config` is written last. The file `rejoin` names the place while that lasts: interrupted at any point, the
 * next rejoin goes on. One that has a config of another server beside it is all that is left of a rejoin that came to its
 * end. What was moved is never read by the server again, only shown (divergent.c). */
#include "base/file.h"
#include "log/log.h"
#include "log/log_offline.h"
#include "net/enroll.h"
#include "net/join_token.h"
#include "net/seal.h"
#include "server/fence.h"
#include "server/server_join.h"

#include <dirent.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

enum { OPT_DIR, OPT_TOKEN, OPT_REQUIRED, OPT_NAME = OPT_REQUIRED, OPT_API, OPT_PEER, OPT_DRY_RUN, OPT_COUNT };
static const char *const option_names[] = {"--dir", "--token", "--name", "--api", "--peer", "--dry-run", NULL};
static const char marker_name[] = "rejoin";
enum { FINDINGS_TOLD = 3 };
/* What stays where it is. */
static const char *const kept[] = {".", "..", "divergent", "rejoin", "reserve", "ready", "admin.token", "backups", "new.lock", NULL};

enum { PLACE_MAX = 48, MARKER_MAX = 256, PATH_BYTES = FAR_SERVER_FILE_MAX + PLACE_MAX + 256 + 16 };

struct rejoin {
    const char *dir;
    const char *const *options;
    char place[PLACE_MAX]; /* "<epoch>-<id>" */
    struct far_server_config old;
    uint64_t old_epoch;
    char token[FAR_JOIN_TOKEN_TEXT_MAX]; /* once it was read: `@-` can be read only once */
};

static void place_path(const struct rejoin *r, const char *name, char path[PATH_BYTES])
{
    snprintf(path, PATH_BYTES, "%s/divergent/%s/%s", r->dir, r->place, name);
}

/* ---- may it? ---- */

static uint64_t epoch_of(const char *dir, const struct far_server_config *config)
{
    struct far_incarnation incarnation;
    return far_incarnation_load(dir, config->cluster_uuid, &incarnation, NULL) == 0 ? incarnation.epoch
                                                                                   : config->incarnation_epoch;
}

/* Joined, and not run since: there was never a log. What is kept of an earlier rejoin is not mixed with it. */
static bool is_new(const char *dir)
{
    static const char *const names[] = {"log.made", "wal", "state"};
    char path[FAR_SERVER_FILE_MAX];
    for (size_t i = 0; i < sizeof names / sizeof names[0]; i++) {
        far_server_path(dir, names[i], path);
        if (access(path, F_OK) == 0) {
            return false;
        }
    }
    return true;
}

/* A token that cannot be one is refused before anything is moved. */
static int check_token(struct rejoin *r, struct far_error *err)
{
    struct far_join_token token;
    int rc = far_token_argument(r->options[OPT_TOKEN], "join token", r->token, err);
    rc = rc != 0 ? rc : far_join_token_parse(r->token, strlen(r->token), &token, err);
    explicit_bzero(&token, sizeof token);
    return rc;
}

/* What is wrong, in words; the first few of it. */
static void tell_finding(void *arg, bool good, const char *text)
{
    unsigned *findings = arg;
    if (!good && (*findings)++ < FINDINGS_TOLD) {
        fprintf(stderr, "farshored: damaged: %s\n", text);
    }
}

/* The join is tried out, as it will be asked for: which cluster the token is of, or why it would be refused. */
static int try_join(const struct rejoin *r, struct far_enroll_cluster *ret_cluster, struct far_error *err)
{
    uint8_t seal_private[32], seal_public[32];
    const char *name = r->options[OPT_NAME], *api = r->options[OPT_API], *peer = r->options[OPT_PEER];
    struct far_server_config config;
    int rc = far_server_addresses_settle(api != NULL ? api : r->old.api_address, peer != NULL ? peer : r->old.peer_address, &config, err);
    rc = rc != 0 ? rc : far_seal_keypair(seal_public, seal_private, err);
    explicit_bzero(seal_private, sizeof seal_private); /* only a trial */
    const struct far_enroll_request request = {.token = r->token,
                                               .party = FAR_PARTY_SERVER,
                                               .name = name != NULL ? name : r->old.name,
                                               .api_address = config.api_address,
                                               .peer_address = config.peer_address,
                                               .seal_key = seal_public,
                                               .feature_level = FAR_FEATURE_LEVEL};
    return rc != 0 ? rc : far_enroll_try(&request, ret_cluster, err);
}

/* The cluster of the token is this server's, in a later life: then this one's id is nobody's there, and it has only not heard of it. */
static bool was_left(const struct rejoin *r, const struct far_enroll_cluster *cluster)
{
    uint64_t own_epoch = epoch_of(r->dir, &r->old);
    if (memcmp(cluster->uuid, r->old.cluster_uuid, sizeof cluster->uuid) != 0 || cluster->incarnation_epoch <= own_epoch) {
        return false;
    }
    fprintf(stderr, "farshored: server '%s' is of incarnation %llu of the cluster, which is in incarnation %llu and went on "
            "without it\n", r->old.name, (unsigned long long)own_epoch, (unsigned long long)cluster->incarnation_epoch);
    return true;
}

/* A member that is whole is not thrown away by mistake: damage that does not keep it from opening is looked for everywhere, which
 * reads all that it holds. */
static int check_unfit(const struct rejoin *r, struct far_error *err)
{
    unsigned findings = 0;
    struct far_log_config config = far_server_log_config(r->dir, &r->old, NULL);
    struct far_error why = {0};
    if (is_new(r->dir)) {
        return far_fail(err, FAR_CONFLICT, "server '%s' has joined and not run yet: start it with: farshored run --dir %s",
                        r->old.name, r->dir);
    }
    int rc = far_log_offline_probe(&config, NULL, &why);
    rc = rc != 0 ? rc : far_log_verify(r->dir, tell_finding, &findings, &why);
    if (rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) {
        fprintf(stderr, "farshored: server '%s' is not whole: %s\n", r->old.name, why.message);
        return 0;
    }
    return rc != 0 ? far_fail(err, rc, "%s", why.message)
                   : far_fail(err, FAR_CONFLICT,
                              "server '%s' is whole and neither fenced nor removed: start it with: farshored run --dir %s; to make "
                              "it a new one, remove it from the cluster first (farshore server remove)", r->old.name, r->dir);
}

/* It knows itself that the cluster goes on without it. */
static bool is_given_up(const char *dir)
{
    struct far_error why = {0};
    return far_fence_check(dir, NULL, &why) != 0 || far_server_removed_check(dir, &why) != 0;
}

/* One that was left behind may still run, with others that were. */
static int check_stopped(const struct rejoin *r, struct far_error *err)
{
    struct far_log_config config = far_server_log_config(r->dir, &r->old, NULL);
    struct far_error why = {0};
    int rc = is_new(r->dir) ? FAR_NOT_FOUND : far_log_offline_probe(&config, NULL, &why);
    return rc == FAR_CONFLICT ? far_fail(err, rc, "%s", why.message) : 0;
}

/* Not a no: whoever cannot be reached, or does not know of trials (an older version), may take the server in later. */
static bool is_no_answer(int klass)
{
    return klass == FAR_IO || klass == FAR_BUSY || klass == FAR_TIMEOUT || klass == FAR_NOT_LEADER || klass == FAR_NOT_FOUND;
}

/* The token, as the cluster sees it now. Where it does not answer, the moves are made all the same, and the same command goes on; a
 * dry run says that it does not. */
static int check_answer(const struct rejoin *r, const struct far_error *answer, struct far_error *err)
{
    bool is_good = answer->klass == 0 || (is_no_answer(answer->klass) && r->options[OPT_DRY_RUN] == NULL);
    return is_good ? 0 : far_fail(err, answer->klass, "%s", answer->message);
}

/* Neither a token that the cluster refuses nor a member that is whole costs anything. */
static int check_fit(struct rejoin *r, struct far_error *err)
{
    struct far_error no_token = {0}, no_answer = {0};
    struct far_enroll_cluster cluster;
    bool is_answered = check_token(r, &no_token) == 0 && try_join(r, &cluster, &no_answer) == 0;
    int rc = is_given_up(r->dir) ? 0 : is_answered && was_left(r, &cluster) ? check_stopped(r, err) : check_unfit(r, err);
    if (rc == FAR_CONFLICT && no_answer.klass != 0) {
        struct far_error why = *err;
        return far_fail(err, rc, "%.320s (the cluster of the token was asked whether it went on without this server: %.130s)",
                        why.message, no_answer.message);
    }
    if (rc == 0 && no_token.klass != 0) {
        return far_fail(err, no_token.klass, "%s", no_token.message);
    }
    return rc != 0 ? rc : check_answer(r, &no_answer, err);
}

/* ---- moving ---- */

static bool is_kept(const char *name)
{
    for (size_t i = 0; kept[i] != NULL; i++) {
        if (strcmp(kept[i], name) == 0) {
            return true;
        }
    }
    return false;
}

static int move(const struct rejoin *r, const char *name, struct far_error *err)
{
    char from[FAR_SERVER_FILE_MAX + 256], to[PATH_BYTES];
    snprintf(from, sizeof from, "%s/%s", r->dir, name);
    place_path(r, name, to);
    if (rename(from, to) != 0 && errno != ENOENT) {
        return far_fail_errno(err, FAR_IO, errno, "move '%s' to '%s'", from, to);
    }
    return 0;
}

static int move_rest(const struct rejoin *r, struct far_error *err)
{
    DIR *folder = opendir(r->dir);
    int rc = folder == NULL ? far_fail_errno(err, FAR_IO, errno, "read folder '%s'", r->dir) : 0;
    for (struct dirent *entry; rc == 0 && (entry = readdir(folder)) != NULL;) {
        rc = is_kept(entry->d_name) ? 0 : move(r, entry->d_name, err);
    }
    if (folder != NULL) {
        closedir(folder);
    }
    return rc;
}

static int move_all(const struct rejoin *r, struct far_error *err)
{
    char path[PATH_BYTES];
    snprintf(path, sizeof path, "%s/divergent", r->dir);
    int rc = far_file_make_dir(path, err);
    place_path(r, ".", path);
    path[strlen(path) - 2] = '\0';
    rc = rc != 0 ? rc : far_file_make_dir(path, err);
    rc = rc != 0 ? rc : move(r, "config", err);
    rc = rc != 0 ? rc : far_file_sync_dir(r->dir, err);
    rc = rc != 0 ? rc : move_rest(r, err);
    rc = rc != 0 ? rc : far_file_sync_dir(path, err);
    return rc != 0 ? rc : far_file_sync_dir(r->dir, err);
}

/* ---- where was it? ---- */

static int read_marker(struct rejoin *r, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    struct far_buf text;
    far_server_path(r->dir, marker_name, path);
    far_buf_init(&text, MARKER_MAX);
    int rc = far_file_read(path, &text, err);
    if (rc == 0 && (text.len == 0 || text.len > PLACE_MAX || text.data[text.len - 1] != '\n' ||
                    memchr(text.data, '/', text.len) != NULL)) {
        rc = far_fail(err, FAR_CORRUPT, "'%s' does not name a place", path);
    }
    if (rc == 0) {
        snprintf(r->place, sizeof r->place, "%.*s", (int)text.len - 1, (const char *)text.data);
    }
    far_buf_done(&text);
    return rc;
}

/* Where what it is now would be kept; r->old is known. */
static int choose_place(struct rejoin *r, struct far_error *err)
{
    char path[PATH_BYTES];
    r->old_epoch = epoch_of(r->dir, &r->old);
    snprintf(r->place, sizeof r->place, "%llu-%llu", (unsigned long long)r->old_epoch, (unsigned long long)r->old.server_id);
    place_path(r, "config", path);
    return access(path, F_OK) == 0 ? far_fail(err, FAR_CONFLICT, "'%s' is there already", path) : 0;
}

/* All that is looked at before the first byte of a new rejoin. */
static int check_begin(struct rejoin *r, struct far_error *err)
{
    int rc = far_server_config_load(r->dir, &r->old, err);
    rc = rc != 0 ? rc : check_fit(r, err);
    return rc != 0 ? rc : choose_place(r, err);
}

static int begin(struct rejoin *r, struct far_error *err)
{
    char text[PLACE_MAX + 1];
    int rc = check_begin(r, err);
    if (rc != 0) {
        return rc;
    }
    snprintf(text, sizeof text, "%s\n", r->place);
    return far_server_file_write(r->dir, marker_name, far_slice_str(text), 0600, err);
}

/* The folder has the identity of another server than the one that was to be moved: the rejoin was done but for its marker. */
static bool is_joined(const struct rejoin *r)
{
    char now[PLACE_MAX];
    struct far_server_config config;
    if (far_server_config_load(r->dir, &config, NULL) != 0) {
        return false;
    }
    snprintf(now, sizeof now, "%llu-%llu", (unsigned long long)epoch_of(r->dir, &config), (unsigned long long)config.server_id);
    return strcmp(now, r->place) != 0;
}

static int load_old(struct rejoin *r, struct far_error *err)
{
    char path[PATH_BYTES];
    place_path(r, ".", path);
    path[strlen(path) - 2] = '\0';
    int rc = far_server_config_load(path, &r->old, err);
    r->old_epoch = rc == 0 ? epoch_of(path, &r->old) : 0;
    return rc;
}

/* ---- joining ---- */

/* Is the life that it joined the very one that it was in? There may be two of one epoch. */
static bool is_same_life(const struct rejoin *r, const struct far_enrolment *enrolment)
{
    const struct far_enroll_incarnation *now = NULL;
    struct far_incarnation was;
    char path[PATH_BYTES];
    for (size_t i = 0; i < enrolment->incarnation_count; i++) {
        now = enrolment->incarnations[i].epoch == enrolment->incarnation_epoch ? &enrolment->incarnations[i] : now;
    }
    place_path(r, ".", path);
    path[strlen(path) - 2] = '\0';
    int rc = far_incarnation_load(path, r->old.cluster_uuid, &was, NULL);
    bool is_first = rc == FAR_NOT_FOUND && now == NULL;
    return enrolment->incarnation_epoch == r->old_epoch && memcmp(enrolment->cluster_uuid, r->old.cluster_uuid, 16) == 0 &&
           (is_first || (rc == 0 && now != NULL && memcmp(was.uuid, now->uuid, sizeof was.uuid) == 0));
}

/* Where the cluster left the incarnation that this server was in, or that it did not leave it: a line of text. */
static int keep_fork(void *arg, const struct far_enrolment *enrolment, struct far_error *err)
{
    const struct rejoin *r = arg;
    char path[PATH_BYTES], text[256], parent[65], sure[65];
    for (size_t i = 0; i < enrolment->incarnation_count; i++) {
        const struct far_enroll_incarnation *one = &enrolment->incarnations[i];
        if (one->epoch == r->old_epoch + 1) {
            far_hex_encode(one->parent_head, 32, parent);
            far_hex_encode(one->sure_head, 32, sure);
            int n = snprintf(text, sizeof text, "%llu %s %llu %s\n", (unsigned long long)one->parent_seq, parent,
                             (unsigned long long)one->sure_seq, sure);
            place_path(r, "fork", path);
            return far_file_replace(path, text, (size_t)n, 0600, err);
        }
    }
    if (is_same_life(r, enrolment)) {
        place_path(r, "fork", path);
        return far_file_replace(path, FAR_FORK_NONE, strlen(FAR_FORK_NONE), 0600, err);
    }
    return 0;
}

static int remove_marker(const struct rejoin *r, struct far_error *err)
{
    char path[FAR_SERVER_FILE_MAX];
    far_server_path(r->dir, marker_name, path);
    return unlink(path) == 0 || errno == ENOENT ? far_file_sync_dir(r->dir, err)
                                                : far_fail_errno(err, FAR_IO, errno, "remove '%s'", path);
}

/* What an earlier rejoin left, if there was one; ret_is_over: it came to its end, and the server has not run since. */
static int take_up(struct rejoin *r, bool *ret_is_over, struct far_error *err)
{
    int rc = read_marker(r, err);
    *ret_is_over = false;
    if (rc == FAR_NOT_FOUND) {
        return begin(r, err);
    }
    if (rc != 0 || !is_joined(r)) {
        return rc;
    }
    *ret_is_over = is_new(r->dir);
    rc = *ret_is_over ? load_old(r, err) : remove_marker(r, err);
    return rc != 0 || *ret_is_over ? rc : begin(r, err);
}

static int rejoin(struct rejoin *r, struct far_error *err)
{
    const char *name = r->options[OPT_NAME], *api = r->options[OPT_API], *peer = r->options[OPT_PEER];
    bool is_over = false;
    int rc = take_up(r, &is_over, err);
    if (rc == 0 && !is_over) {
        rc = move_all(r, err);
        rc = rc != 0 ? rc : load_old(r, err);
        const struct far_join_options join = {.dir = r->dir,
                                              .token = r->token[0] != '\0' ? r->token : r->options[OPT_TOKEN],
                                              .name = name != NULL ? name : r->old.name,
                                              .api = api != NULL ? api : r->old.api_address,
                                              .peer = peer != NULL ? peer : r->old.peer_address,
                                              .is_locked = true,
                                              .before_config = keep_fork,
                                              .arg = r};
        rc = rc != 0 ? rc : far_server_join_folder(&join, err);
    }
    rc = rc != 0 ? rc : remove_marker(r, err);
    if (rc == 0) {
        printf("what it was is kept in %s/divergent/%s; look at it with: farshore cluster divergent list --dir %s\n", r->dir,
               r->place, r->dir);
    }
    return rc;
}

/* ---- the dry run ---- */

static void print_names(const char *what, const char *dir, bool kept_ones)
{
    DIR *folder = opendir(dir);
    bool some = false;
    for (struct dirent *entry; folder != NULL && (entry = readdir(folder)) != NULL;) {
        bool is_dot = strcmp(entry->d_name, ".") == 0 || strcmp(entry->d_name, "..") == 0 || strcmp(entry->d_name, "new.lock") == 0;
        if (!is_dot && is_kept(entry->d_name) == kept_ones) {
            printf("%s%s", some ? ", " : what, entry->d_name);
            some = true;
        }
    }
    printf("%s", some ? "\n" : "");
    if (folder != NULL) {
        closedir(folder);
    }
}

/* What would become of the folder; r->place and r->old are known. is_begun: an earlier one was interrupted. */
static void tell_moves(const struct rejoin *r, bool is_begun)
{
    const char *dir = r->dir;
    printf(is_begun ? "go on with the rejoin that was begun here: what is left to be moved goes into '%s/divergent/%s'\n"
                    : "write the file 'rejoin' in '%s', which names divergent/%s: interrupted from here on, the same command goes on\n",
           dir, r->place);
    if (!is_begun) {
        printf("make folder '%s/divergent/%s'; from the first move on the folder is no server's\n", dir, r->place);
    }
    print_names("move there: ", dir, false);
    print_names("leave where it is: ", dir, true);
    printf("make a new key, ask the cluster with the join token, write server.key, server.crt, ca.crt, seal.key, sign.key,\n"
           "incarnation (in a later life of the cluster), and at last config; then remove the file 'rejoin'\n");
}

/* The old config, wherever an interrupted rejoin left it. */
static int load_begun(struct rejoin *r, struct far_error *err)
{
    return load_old(r, NULL) == 0 ? 0 : far_server_config_load(r->dir, &r->old, err);
}

static int try_begun(struct rejoin *r, struct far_error *err)
{
    struct far_enroll_cluster cluster;
    int rc = load_begun(r, err);
    rc = rc != 0 ? rc : check_token(r, err);
    return rc != 0 ? rc : try_join(r, &cluster, err);
}

static int try_out(struct rejoin *r, struct far_error *err)
{
    int rc = read_marker(r, err);
    bool has_marker = rc == 0, is_over = has_marker && is_joined(r), is_begun = has_marker && !is_over;
    if (rc != 0 && rc != FAR_NOT_FOUND) {
        return rc;
    }
    if (is_over && is_new(r->dir)) {
        rc = load_old(r, err);
        if (rc == 0) {
            printf("dry run: nothing was done. The rejoin came to its end; only the file 'rejoin' in '%s' would be removed\n", r->dir);
        }
        return rc;
    }
    rc = is_begun ? try_begun(r, err) : check_begin(r, err);
    if (rc == 0) {
        printf("dry run: nothing was done, and the token stays good. In this order:\n");
        tell_moves(r, is_begun);
        printf("the cluster takes the server in under a new number (events server_joined, then server_role_changed: voter)\n");
    }
    return rc;
}

int far_server_rejoin(int argc, char **argv)
{
    const char *options[OPT_COUNT];
    struct far_error err = {0};
    struct rejoin r = {.options = options};
    int rc = far_server_options(argc, argv, option_names, OPT_REQUIRED, options, &err);
    r.dir = options[OPT_DIR];
    int lock_fd = -1;
    if (rc == 0 && access(r.dir, F_OK) == 0) { /* else rejoin says what is wrong */
        rc = far_new_folder_lock(r.dir, &lock_fd, &err);
    }
    if (rc == 0) {
        rc = options[OPT_DRY_RUN] != NULL ? try_out(&r, &err) : rejoin(&r, &err);
    }
    far_new_folder_unlock(r.dir, lock_fd);
    explicit_bzero(r.token, sizeof r.token);
    return rc == 0 ? 0 : far_server_failed(&err);
}

/* farshored rejoin-check: would rejoin take this folder, and is it that server's? With --plan also what would become of it. Nothing
 * is changed. */
int far_server_rejoin_check(int argc, char **argv)
{
    static const char *const names[] = {"--dir", "--name", "--plan", NULL};
    const char *options[3];
    struct far_error err = {0};
    struct rejoin r = {.dir = NULL};
    int rc = far_server_options(argc, argv, names, 2, options, &err);
    r.dir = options[0];
    if (rc != 0) {
        return far_server_failed(&err);
    }
    rc = read_marker(&r, &err);
    bool is_begun = rc == 0 && !is_joined(&r); /* the next rejoin goes on */
    rc = rc == FAR_NOT_FOUND ? 0 : rc;
    if (rc == 0) {
        rc = is_begun ? load_begun(&r, &err) : far_server_config_load(r.dir, &r.old, &err);
    }
    if (rc == 0 && strcmp(r.old.name, options[1]) != 0) {
        rc = far_fail(&err, FAR_INVALID, "folder '%s' is that of server '%s'", r.dir, r.old.name);
    }
    rc = rc != 0 || is_begun || is_given_up(r.dir) ? rc : check_unfit(&r, &err);
    if (rc == FAR_CONFLICT) {
        struct far_error why = err;
        far_fail(&err, rc, "%.340s; if the cluster was recovered without it: farshore server create, then farshore cluster rejoin",
                 why.message);
    }
    rc = rc != 0 || is_begun ? rc : choose_place(&r, &err);
    if (rc == 0 && options[2] != NULL) {
        tell_moves(&r, is_begun);
    }
    return rc == 0 ? 0 : far_server_failed(&err);
}
