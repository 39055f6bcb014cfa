/* Scripts of a plan, before and after a cycle or a recovery: see script_child.h for how one runs, and what it may do.
 *
 * One attempt begins it once; where it says "not yet" (exit status 75) it begins anew, a moment later, until its time is over. What it says
 * otherwise is the end of the attempt: whether there is another one, the log decides. */
#include "dataplane/engine_local.h"
#include "dataplane/script_child.h"

#include "base/clock.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

enum { AGAIN_MS = 500, TIMEOUT_S = 300, TAIL_BYTES = 160 };

struct far_engine_scripted *far_engine_scripted_ref(struct far_engine_scripted *scripted)
{
    if (scripted != NULL) {
        far_users_add(&scripted->users);
    }
    return scripted;
}

void far_engine_scripted_unref(struct far_engine_scripted *scripted)
{
    if (scripted != NULL && far_users_drop(&scripted->users)) {
        free(scripted);
    }
}

/* How many bytes of UTF-8 begin here; 0: none do. */
static size_t rune_len(const unsigned char *at)
{
    bool is_none_alone = (at[0] >= 0x80 && at[0] < 0xc2) || at[0] > 0xf4;
    size_t len = is_none_alone ? 0 : at[0] < 0x80 ? 1 : at[0] < 0xe0 ? 2 : at[0] < 0xf0 ? 3 : 4;
    for (size_t i = 1; i < len; i++) {
        if ((at[i] & 0xc0) != 0x80) {
            return 0;
        }
    }
    bool is_overlong = (at[0] == 0xe0 && at[1] < 0xa0) || (at[0] == 0xf0 && at[1] < 0x90);
    bool is_none = (at[0] == 0xed && at[1] >= 0xa0) || (at[0] == 0xf4 && at[1] >= 0x90);
    return is_overlong || is_none ? 0 : len;
}

void far_script_clean(const char *output, char *ret_text, size_t size)
{
    const unsigned char *at = (const unsigned char *)output;
    size_t len = strlen(output), room = size - 1, used = 0;
    at += len > room ? len - room : 0;
    while (len > room && (*at & 0xc0) == 0x80) { /* the end of one that begins before */
        at++;
    }
    while (*at != '\0') {
        size_t runes = rune_len(at);
        bool is_plain = runes > 1 || (runes == 1 && ((*at >= 0x20 && *at != 0x7f) || *at == '\n' || *at == '\t'));
        if (is_plain) {
            memcpy(ret_text + used, at, runes);
        } else {
            ret_text[used] = '?';
        }
        used += is_plain ? runes : 1;
        at += is_plain ? runes : 1;
    }
    ret_text[used] = '\0';
}

static bool goes_on(void *arg)
{
    return !far_attempt_stopped(arg);
}

static int pause_for(struct far_attempt *attempt, struct far_error *err)
{
    pthread_mutex_lock(&attempt->mutex);
    if (!far_attempt_stopped(attempt)) {
        far_attempt_wait(attempt, AGAIN_MS);
    }
    pthread_mutex_unlock(&attempt->mutex);
    return far_attempt_check(attempt, err);
}

/* The last line or two, for the operator. */
static const char *tail_of(const char *output)
{
    size_t len = strlen(output);
    const char *tail = len > TAIL_BYTES ? output + len - TAIL_BYTES : output;
    while ((*tail & 0xc0) == 0x80) {
        tail++;
    }
    return tail;
}

static int say_failed(const struct far_engine_scripted *told, uint64_t timeout_s, struct far_error *err)
{
    const char *tail = tail_of(told->output), *says = tail[0] != '\0' ? "; it said last: " : "";
    if (told->is_late) {
        return far_fail(err, FAR_TIMEOUT, "its time of %llu s was over, it was ended%s%s", (unsigned long long)timeout_s, says, tail);
    }
    if (told->is_killed) {
        return far_fail(err, FAR_CONFLICT, "it was killed%s%s", says, tail);
    }
    return far_fail(err, FAR_CONFLICT, "it ended with status %u%s%s", (unsigned)told->status, says, tail);
}

static int run_once(struct far_attempt *attempt, uint64_t timeout_ms, struct far_engine_scripted *told, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    const struct far_engine_script *from = &order->script;
    struct far_script_result *ran = malloc(sizeof *ran);
    struct far_script script = {.dir = attempt->engine->config.scripts_dir,
                                .user = attempt->engine->config.scripts_user,
                                .name = from->name,
                                .sha256 = from->sha256,
                                .about = {.job_id = order->job_id,
                                          .kind = from->kind,
                                          .phase = from->phase,
                                          .plan = order->plan,
                                          .workload = order->workload,
                                          .machine = from->machine,
                                          .address = from->address,
                                          .isolated = from->isolated,
                                          .result = from->result[0] != '\0' ? from->result : NULL},
                                .timeout_ms = timeout_ms,
                                .goes_on = goes_on,
                                .arg = attempt};
    if (ran == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a script's output");
    }
    int rc = far_script_run(&script, ran, err);
    told->is_late = ran->is_late;
    told->is_killed = ran->status < 0 || ran->is_late;
    told->status = told->is_killed ? 0 : (uint32_t)ran->status;
    far_script_clean(ran->output, told->output, sizeof told->output);
    free(ran);
    return rc;
}

int far_run_script(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    uint64_t begun_ms = far_clock_monotonic_ms(), timeout_s = attempt->order.script.timeout_s;
    uint64_t until_ms = begun_ms + (timeout_s != 0 ? timeout_s : (uint64_t)TIMEOUT_S) * 1000, now_ms = begun_ms;
    struct far_engine_scripted *told = calloc(1, sizeof *told);
    int rc = 0;
    bool asks_again = true;
    if (told == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a script's output");
    }
    told->users = 1;
    while (rc == 0 && asks_again) {
        rc = run_once(attempt, until_ms > now_ms ? until_ms - now_ms : 1, told, err);
        asks_again = rc == 0 && !told->is_killed && told->status == FAR_SCRIPT_NOT_YET;
        rc = asks_again ? pause_for(attempt, err) : rc;
        now_ms = far_clock_monotonic_ms();
        if (asks_again && now_ms >= until_ms) {
            told->is_late = true;
            asks_again = false;
        }
    }
    told->duration_ms = now_ms - begun_ms;
    if (rc != 0) { /* it did not begin: told nothing */
        far_engine_scripted_unref(told);
        return rc;
    }
    result->scripted = told;
    if (told->is_late || told->is_killed || told->status != 0) {
        result->outcome = FAR_ADAPTER_RETRY; /* as often as the plan says */
        return say_failed(told, timeout_s, err);
    }
    return 0;
}
