/* The short tasks: freeze and release at the source, seal, forget and verify at the target. */
#include "dataplane/engine_local.h"
#include "dataplane/vault_lock.h"

#include "base/clock.h"
#include "dataplane/signal_store.h"

#include <stdio.h>
#include <stdlib.h>

/* ---- source ---- */

static void disks_of(const struct far_engine_order *order, struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX])
{
    for (size_t i = 0; i < order->disk_count; i++) {
        disks[i] = (struct far_adapter_disk){.name = order->disks[i].name, .locator = order->disks[i].locator};
    }
}

/* Tokens are printable; one that is not would be refused wherever it is shown, so there is none: everything is read. */
static void copy_token(char to[128], const char from[128])
{
    size_t len = strnlen(from, 128);
    bool good = len < 128;
    for (size_t i = 0; good && i < len; i++) {
        good = from[i] > ' ' && from[i] < 0x7f;
    }
    memset(to, 0, 128);
    memcpy(to, from, good ? len : 0);
}

/* What the machine is, before it is frozen. That it cannot be told fails no cycle. */
static void capture(const struct far_platform *platform, const struct far_engine_order *order, const struct far_adapter_disk *disks,
                    struct far_engine_report *result)
{
    const struct far_adapter_machines *machines = platform->adapter->machines;
    struct far_adapter_error said = {0};
    struct far_error err = {0};
    if (machines == NULL || machines->capture == NULL) {
        return;
    }
    char *text = calloc(1, FAR_CAPTURED_TEXT_MAX);
    struct far_captured *captured = calloc(1, sizeof *captured);
    if (text == NULL || captured == NULL) {
        free(text);
        free(captured);
        return;
    }
    captured->users = 1;
    int answer = machines->capture(platform->platform, disks, order->disk_count, text, FAR_CAPTURED_TEXT_MAX, &said);
    if (answer != FAR_ADAPTER_OK) {
        snprintf(captured->problem, sizeof captured->problem, "%.*s", (int)sizeof captured->problem - 1,
                 said.message[0] != '\0' ? said.message : "it did not say why");
    } else if (text[0] == '\0') { /* this one has none */
        far_captured_unref(captured);
        captured = NULL;
    } else if (far_captured_pack(captured, text, order->has_config_hash ? order->config_hash : NULL, &err) != 0) {
        snprintf(captured->problem, sizeof captured->problem, "%.*s", (int)sizeof captured->problem - 1, err.message);
    } else if (said.message[0] != '\0') { /* a part of it is missing */
        snprintf(captured->problem, sizeof captured->problem, "%.*s", (int)sizeof captured->problem - 1, said.message);
    }
    free(text);
    result->captured = captured; /* let go of at the end of the attempt */
}

int far_run_freeze(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX];
    struct far_adapter_found found[FAR_ENGINE_DISKS_MAX] = {0};
    struct far_adapter_error said = {0};
    struct far_platform *platform;
    char hint[64], ref[128] = "";
    if (order->disk_count == 0) {
        return far_fail(err, FAR_INVALID, "an order to freeze no disks");
    }
    int rc = far_engine_platform(attempt->engine, order->adapter, &platform, err);
    if (rc != 0) {
        return rc;
    }
    disks_of(order, disks);
    snprintf(hint, sizeof hint, "%llu-%llu-%llu", (unsigned long long)order->job_id, (unsigned long long)order->task,
             (unsigned long long)order->attempt);
    capture(platform, order, disks, result);
    result->frozen_at_ms = far_clock_wall_ms();
    int answer = platform->adapter->changes->freeze(platform->platform, hint, disks, order->disk_count, found, ref,
                                                    &result->fuzzy, &said);
    rc = far_adapter_result(answer, &said, &result->outcome, err);
    if (rc != 0) {
        return rc;
    }
    struct far_engine_found *list = (struct far_engine_found *)result->disks;
    for (size_t i = 0; i < order->disk_count; i++) {
        list[i].disk_index = i;
        list[i].size_bytes = found[i].size_bytes;
        memcpy(list[i].identity, found[i].identity, sizeof list[i].identity);
        copy_token(list[i].token, found[i].token);
        result->size_bytes += found[i].size_bytes;
    }
    const struct far_adapter_changes *changes = platform->adapter->changes;
    result->survives = changes->survives_node && !result->fuzzy; /* what was not frozen is not the same for another process */
    result->shared = result->survives && changes->shares_views != NULL &&
                     changes->shares_views(platform->platform, disks, order->disk_count);
    result->disk_count = order->disk_count;
    memcpy(result->freeze_ref, ref, sizeof result->freeze_ref);
    result->freeze_ref[sizeof result->freeze_ref - 1] = '\0';
    return 0;
}

int far_run_release(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct far_adapter_disk disks[FAR_ENGINE_DISKS_MAX];
    struct far_adapter_error said = {0};
    struct far_platform *platform;
    int rc = far_engine_platform(attempt->engine, order->adapter, &platform, err);
    if (rc != 0 || order->freeze_ref[0] == '\0') {
        return rc;
    }
    disks_of(order, disks);
    const struct far_adapter_changes *changes = platform->adapter->changes;
    bool keeps = order->proven && changes->keep != NULL; /* what the list of the next cycle starts from */
    int answer = (keeps ? changes->keep : changes->release)(platform->platform, order->freeze_ref, disks, order->disk_count, &said);
    return far_adapter_result(answer, &said, &result->outcome, err);
}

/* ---- target ---- */

enum { JUDGED_MS_MAX = 2000 }; /* so long a point that is sealed waits for its signal to be announced; a rescore has all the time */

static void copy_text(char *to, size_t size, const char *from)
{
    size_t len = strlen(from);
    len = len < size ? len : size - 1;
    memcpy(to, from, len);
    to[len] = '\0';
}

/* The signal of a sealed point, kept and reported. */
struct judging {
    struct far_attempt *attempt;
    uint64_t until_ms; /* 0: no bound */
};

static bool judged_long_enough(void *arg)
{
    const struct judging *judging = arg;
    return far_attempt_stopped(judging->attempt) || (judging->until_ms != 0 && far_clock_monotonic_ms() > judging->until_ms);
}

static int judge(struct far_attempt *attempt, uint64_t ms_max, struct far_engine_report *result, struct far_error *err)
{
    struct judging judging = {.attempt = attempt, .until_ms = ms_max != 0 ? far_clock_monotonic_ms() + ms_max : 0};
    struct far_signal_point *point = malloc(sizeof *point);
    int rc = point != NULL ? far_signal_make(attempt->engine->vault, attempt->order.point_id, judged_long_enough, &judging, point, err)
                           : far_fail(err, FAR_LIMIT, "no memory for the signal");
    for (uint32_t i = 0; rc == 0 && i < point->disk_count && i < FAR_ENGINE_DISKS_MAX; i++) {
        const struct far_signal_disk *disk = &point->disks[i];
        struct far_signal_score score;
        far_signal_judge(disk, &score);
        if (score.detector != 0) {
            result->signals[result->signal_count++] = (struct far_engine_signal){
                .disk_index = i,
                .detector = score.detector,
                .score = score.score,
                .at_once = score.at_once,
                .by_and_by = score.by_and_by,
                .evidence = score.evidence,
                .changed_blocks = disk->features.values[FAR_SIGNAL_changed_blocks],
                .low_to_high_blocks = disk->features.values[FAR_SIGNAL_low_to_high_blocks],
                .calm_point_id = far_signal_calm_point(disk, &score),
            };
        }
    }
    free(point);
    return rc;
}

/* Every block of the place, SHA-256 against its leaf. */
static bool is_good(struct far_vault *vault, const struct far_engine_damage *damage, uint8_t *block)
{
    struct far_point *point = NULL;
    bool good = far_point_open_disk(vault, damage->point_id, damage->disk, &point, NULL) == 0;
    for (uint64_t i = 0; good && i < damage->block_count; i++) {
        good = far_point_read(point, damage->first_block + i, true, block, NULL, NULL) == 0;
    }
    far_point_close(point);
    return good;
}

/* Which damaged places did this cycle put again? The good ones come first in the result. */
static void look_at_damages(struct far_attempt *attempt, struct far_engine_report *result)
{
    const struct far_engine_order *order = &attempt->order;
    uint8_t *block = malloc(FAR_BLOCK_BYTES);
    for (unsigned good = 2; block != NULL && good-- > 0;) {
        for (size_t i = 0; i < order->damage_count; i++) {
            if (is_good(attempt->engine->vault, &order->damages[i], block) == (good == 1)) {
                result->damages[result->damage_count++] = order->damages[i];
                result->healed_count += good;
            }
        }
    }
    free(block);
}

int far_run_seal(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_engine_order *order = &attempt->order;
    struct far_manifest *manifest = calloc(1, sizeof *manifest);
    if (manifest == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a manifest");
    }
    manifest->incarnation_epoch = order->incarnation_epoch;
    manifest->plan_id = order->plan_id;
    manifest->plan_epoch = order->plan_epoch;
    manifest->workload_id = order->workload_id;
    manifest->point_id = order->point_id;
    manifest->checkpoint_id = order->checkpoint_id;
    manifest->job_id = order->job_id;
    manifest->frozen_at_ms = order->frozen_at_ms;
    manifest->fuzzy = order->fuzzy;
    copy_text(manifest->plan, sizeof manifest->plan, order->plan);
    copy_text(manifest->site, sizeof manifest->site, order->site);
    copy_text(manifest->workload, sizeof manifest->workload, order->workload);
    memcpy(manifest->cluster_uuid, attempt->engine->config.cluster_uuid, sizeof manifest->cluster_uuid);
    manifest->disk_count = (uint32_t)order->point_disk_count;
    for (size_t i = 0; i < order->point_disk_count; i++) {
        const struct far_engine_point_disk *from = &order->point_disks[i];
        struct far_manifest_disk *to = &manifest->disks[i];
        to->disk_index = from->disk_index;
        to->disk_id = from->disk_id;
        to->size_bytes = from->size_bytes;
        memcpy(to->root.bytes, from->root, sizeof to->root.bytes);
        copy_text(to->name, sizeof to->name, from->name);
    }
    if (order->config_len != 0 && order->has_config_hash) {
        memcpy(manifest->config_sha256, order->config_hash, sizeof manifest->config_sha256);
        memcpy(manifest->config, order->config, order->config_len);
        manifest->config_len = (uint32_t)order->config_len;
    }
    memcpy(manifest->recovery, order->recovery, order->recovery_len);
    manifest->recovery_len = (uint32_t)order->recovery_len;
    const struct far_domain *domain;
    int rc = far_attempt_domain(attempt, &domain, result, err);
    if (rc == 0 && order->lock_until_ms != 0) { /* first: there is no moment when it could be forgotten */
        rc = far_vault_lock(attempt->engine->vault, order->point_id, order->lock_until_ms, err);
    }
    if (rc == 0) {
        far_domain_uuid(domain, manifest->domain_uuid);
        rc = far_vault_seal(attempt->engine->vault, manifest, err);
    }
    free(manifest);
    if (rc == 0) {
        far_seeds_over(attempt);
    }
    if (rc == 0) { /* the point is good whatever becomes of its signal, or of what was damaged before */
        look_at_damages(attempt, result);
        judge(attempt, JUDGED_MS_MAX, result, NULL);
    }
    return rc;
}

int far_run_rescore(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    const struct far_domain *domain;
    int rc = far_attempt_domain(attempt, &domain, result, err);
    return rc == 0 ? judge(attempt, 0, result, err) : rc;
}

int far_run_forget(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    return far_vault_forget(attempt->engine->vault, attempt->order.point_id, err);
}

struct verification {
    struct far_attempt *attempt;
    uint64_t size_bytes;
    char first_damage[320];
    struct far_engine_report *result; /* gets the first places */
};

static void on_damage(void *arg, const struct far_point_damage *damage)
{
    struct verification *verification = arg;
    struct far_engine_report *result = verification->result;
    if (result->damage_count < FAR_ENGINE_DAMAGES_MAX) {
        result->damages[result->damage_count++] = (struct far_engine_damage){.point_id = verification->attempt->order.point_id,
                                                                             .first_block = damage->first_block,
                                                                             .block_count = damage->block_count};
    }
    if (verification->first_damage[0] == '\0') {
        copy_text(verification->first_damage, sizeof verification->first_damage, damage->text);
    }
}

static int on_progress(void *arg, uint64_t blocks_done, uint64_t blocks)
{
    struct verification *verification = arg;
    uint64_t bytes = blocks_done * FAR_BLOCK_BYTES;
    atomic_store(&verification->attempt->bytes_done,
                 bytes < verification->size_bytes ? bytes : verification->size_bytes);
    return far_attempt_stopped(verification->attempt) ? FAR_CANCELED : 0;
}

/* Damage is a result, not a failure: the report is done, with the number of damaged blocks and no root. */
int far_run_verify(struct far_attempt *attempt, struct far_engine_report *result, struct far_error *err)
{
    struct verification verification = {.attempt = attempt, .result = result};
    struct far_verify_result found = {0};
    struct far_hash256 root;
    struct far_point *point;
    memcpy(root.bytes, attempt->order.root, sizeof root.bytes);
    const struct far_domain *domain;
    int rc = far_attempt_domain(attempt, &domain, result, err);
    rc = rc == 0 ? far_point_open(attempt->engine->vault, domain, &root, &point, err) : rc;
    if (rc != 0) {
        return rc;
    }
    verification.size_bytes = far_point_size(point);
    atomic_store(&attempt->bytes_total, verification.size_bytes);
    rc = far_point_verify(point, on_damage, on_progress, &verification, &found, err);
    far_point_close(point);
    result->blocks_damaged = found.blocks_damaged;
    result->size_bytes = verification.size_bytes;
    if (rc == FAR_CORRUPT && found.blocks_damaged > 0) {
        copy_text(result->error_message, sizeof result->error_message,
                  verification.first_damage[0] != '\0' ? verification.first_damage : err != NULL ? err->message : "");
        return 0;
    }
    if (rc == 0) {
        memcpy(result->root, found.root.bytes, sizeof result->root);
        result->has_root = true;
        atomic_store(&attempt->bytes_done, verification.size_bytes);
    }
    return rc;
}
