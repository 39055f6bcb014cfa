/* Reports: see reports.h. A fixed table under one mutex; the engine's threads hold it for a copy of a struct. */
#include "node/reports_private.h"


#include <stdlib.h>

int far_reports_new(struct far_reports **ret_reports, struct far_error *err)
{
    struct far_reports *reports = calloc(1, sizeof *reports);
    if (reports == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for the table of reports");
    }
    pthread_mutex_init(&reports->mutex, NULL);
    *ret_reports = reports;
    return 0;
}

void far_report_entry_clear(struct far_report_entry *entry)
{
    free(entry->found);
    far_engine_vault_unref(entry->report.vault);
    far_engine_used_unref(entry->report.used);
    far_captured_unref(entry->report.captured);
    far_engine_machined_unref(entry->report.machined);
    far_engine_lost_unref(entry->report.lost);
    far_engine_scripted_unref(entry->report.scripted);
    *entry = (struct far_report_entry){0};
}

void far_reports_free(struct far_reports *reports)
{
    if (reports != NULL) {
        far_reports_clear(reports);
        pthread_mutex_destroy(&reports->mutex);
        free(reports);
    }
}

struct far_report_entry *far_report_find(struct far_reports *reports, uint64_t job_id, uint64_t task,
                                         struct far_report_entry **ret_unused)
{
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        struct far_report_entry *e = &reports->entries[i];
        if (e->used && e->report.job_id == job_id && e->report.task == task) {
            return e;
        }
        if (!e->used && ret_unused != NULL && *ret_unused == NULL) {
            *ret_unused = e;
        }
    }
    return NULL;
}

static int store(struct far_report_entry *entry, const struct far_engine_report *report)
{
    struct far_engine_found *found = NULL;
    if (report->disk_count > 0) {
        found = calloc(report->disk_count, sizeof *found);
        if (found == NULL) {
            return FAR_LIMIT;
        }
        memcpy(found, report->disks, report->disk_count * sizeof *found);
    }
    free(entry->found);
    struct far_engine_used *used = far_engine_used_ref(report->used); /* it may be the one that is there */
    struct far_captured *captured = far_captured_ref(report->captured);
    struct far_engine_machined *machined = far_engine_machined_ref(report->machined);
    struct far_engine_lost *lost = far_engine_lost_ref(report->lost);
    struct far_engine_scripted *scripted = far_engine_scripted_ref(report->scripted);
    far_engine_vault_unref(entry->report.vault);
    far_engine_used_unref(entry->report.used);
    far_captured_unref(entry->report.captured);
    far_engine_machined_unref(entry->report.machined);
    far_engine_lost_unref(entry->report.lost);
    far_engine_scripted_unref(entry->report.scripted);
    entry->found = found;
    entry->report = *report;
    entry->report.disks = found;
    entry->report.vault = far_engine_vault_ref(report->vault);
    entry->report.used = used;
    entry->report.captured = captured;
    entry->report.machined = machined;
    entry->report.lost = lost;
    entry->report.scripted = scripted;
    return 0;
}

int far_reports_put(struct far_reports *reports, const struct far_engine_report *report, bool *ret_urgent)
{
    pthread_mutex_lock(&reports->mutex);
    struct far_report_entry *unused = NULL;
    struct far_report_entry *e = far_report_find(reports, report->job_id, report->task, &unused);
    bool same_attempt = e != NULL && e->report.attempt == report->attempt;
    int rc = 0;
    bool urgent = false;
    if (e == NULL) {
        e = unused;
    }
    if (e == NULL) {
        rc = FAR_LIMIT;
    } else if (!e->used || report->attempt > e->report.attempt ||
               (same_attempt && e->report.state == FAR_ENGINE_RUNNING) ||
               (same_attempt && report->state != FAR_ENGINE_RUNNING)) {
        bool is_silent = same_attempt && (e->is_end_cut || (e->cut == FAR_CUT_ALL && report->state == FAR_ENGINE_RUNNING));
        rc = is_silent ? 0 : store(e, report);
        if (rc == 0 && !is_silent) {
            urgent = !same_attempt || report->state != FAR_ENGINE_RUNNING;
            if (!same_attempt || (report->state != FAR_ENGINE_RUNNING && !e->is_end_cut)) { /* nobody has refused that yet */
                e->suspect = e->is_end_cut = false;
                e->cut = FAR_CUT_NOTHING;
                e->refusals = 0;
                e->hold_ms = 0;
            }
            if (e->cut != FAR_CUT_NOTHING) {
                far_report_strip(e);
            }
            e->used = true;
            e->fresh = true;
            e->urgent = e->urgent || urgent;
            e->in_batch = e->in_batch && same_attempt && !urgent;
        }
    }
    pthread_mutex_unlock(&reports->mutex);
    *ret_urgent = urgent;
    return rc;
}

static void drop(struct far_reports *reports, uint64_t job_id, uint64_t task, uint64_t attempt, bool ends_too)
{
    pthread_mutex_lock(&reports->mutex);
    struct far_report_entry *e = far_report_find(reports, job_id, task, NULL);
    if (e != NULL && e->report.attempt <= attempt && (ends_too || e->report.state == FAR_ENGINE_RUNNING)) {
        far_report_entry_clear(e);
    }
    pthread_mutex_unlock(&reports->mutex);
}

void far_reports_drop(struct far_reports *reports, uint64_t job_id, uint64_t task, uint64_t attempt)
{
    drop(reports, job_id, task, attempt, true);
}

void far_reports_drop_running(struct far_reports *reports, uint64_t job_id, uint64_t task, uint64_t attempt)
{
    drop(reports, job_id, task, attempt, false);
}

bool far_reports_urgent(struct far_reports *reports, uint64_t now_ms)
{
    bool urgent = false;
    pthread_mutex_lock(&reports->mutex);
    for (size_t i = 0; i < FAR_REPORTS_MAX && !urgent; i++) {
        urgent = reports->entries[i].urgent && reports->entries[i].hold_ms <= now_ms;
    }
    pthread_mutex_unlock(&reports->mutex);
    return urgent;
}

enum { SCRUB_DAMAGES_MAX = 16, SCRUB_POINTS_MAX = 256 /* as the log's items have room for */ };

/* The lists of an item: room for disk_count and missed_count elements. */
struct item_lists {
    struct far_sub_disk_found *found;
    struct far_sub_block_range *missed;
    struct far_sub_figures *figures;
    struct far_sub_signal *signals;
    struct far_sub_scrub_damage *damages;
    struct vault_lists *vault; /* NULL: it says nothing of a vault */
    struct adoption_lists *adoption; /* NULL: it was none */
    struct used_lists *used;   /* NULL: of no use */
    struct machined_lists *machined; /* NULL: of no machine */
    struct lost_lists *lost;   /* NULL: nothing was compared */
    struct far_sub_script_result *scripted; /* NULL: of no script */
};

struct vault_lists {
    struct far_sub_reclaimed reclaimed;
    struct far_sub_vault_usage usage;
    struct far_sub_plan_space spaces[FAR_ENGINE_SPACES_MAX];
    struct far_sub_scrubbed scrubbed;
    struct far_sub_scrub_damage damages[SCRUB_DAMAGES_MAX];
    uint64_t damaged_points[SCRUB_POINTS_MAX];
};

struct adoption_lists {
    struct far_sub_adoption_survey survey;
    struct far_sub_adopted adopted;
    struct far_sub_adopted_point points[FAR_ADOPTED_MAX];
    struct far_sub_point_disk disks[FAR_ADOPTED_DISKS_MAX];
    struct far_sub_adopted_config configs[FAR_ADOPTED_MAX];
};

/* True if it is in the list now. */
static bool add_damaged(struct vault_lists *lists, size_t *count, uint64_t point_id)
{
    for (size_t i = 0; i < *count; i++) {
        if (lists->damaged_points[i] == point_id) {
            return true;
        }
    }
    if (*count < SCRUB_POINTS_MAX) {
        lists->damaged_points[(*count)++] = point_id;
        return true;
    }
    return false;
}

static void add_scrub(const struct far_scrub_result *r, struct vault_lists *lists, struct far_sub_report_item *item)
{
    size_t count = 0, points = 0;
    bool more = r->more_names;
    for (; count < r->damage_count && count < SCRUB_DAMAGES_MAX; count++) {
        const struct far_scrub_damage *damage = &r->damages[count];
        lists->damages[count] = (struct far_sub_scrub_damage){.point_id = damage->point_id,
                                                              .disk = far_slice_str(damage->disk),
                                                              .first_block = damage->first_block,
                                                              .block_count = damage->block_count,
                                                              .needed_by = damage->needed_by,
                                                              .text = far_slice_str(damage->text)};
    }
    for (size_t i = 0; i < r->damage_count; i++) {
        more = !add_damaged(lists, &points, r->damages[i].point_id) || more;
    }
    for (size_t i = 0; i < r->name_count; i++) {
        more = !add_damaged(lists, &points, r->names[i].point_id) || more;
    }
    lists->scrubbed = (struct far_sub_scrubbed){.rotation = r->next.rotation,
                                                .point_id = r->next.point_id,
                                                .disk = r->next.disk,
                                                .block = r->next.block,
                                                .rotation_ended = r->rotation_ended,
                                                .done_permille = r->done_permille,
                                                .blocks = r->blocks,
                                                .bytes_read = r->bytes_read,
                                                .blocks_damaged = r->blocks_damaged,
                                                .damage_count = r->damage_count,
                                                .points_skipped = r->points_skipped,
                                                .more_points = more};
    item->scrubbed = (struct far_list){&lists->scrubbed, 1};
    item->scrub_damages = (struct far_list){lists->damages, count};
    item->damaged_point_ids = (struct far_list){lists->damaged_points, points};
}

static void add_vault(const struct far_engine_vault *vault, struct vault_lists *lists, struct far_sub_report_item *item)
{
    const struct far_reclaim_result *r = &vault->reclaimed;
    lists->usage = (struct far_sub_vault_usage){.used_bytes = vault->usage.used_bytes,
                                                .free_bytes = vault->usage.free_bytes,
                                                .total_bytes = vault->usage.total_bytes,
                                                .point_count = vault->usage.point_count};
    lists->reclaimed = (struct far_sub_reclaimed){.points_counted = r->points_counted,
                                                  .points_released = r->points_released,
                                                  .points_pinned = r->points_pinned,
                                                  .points_uncountable = r->points_uncountable,
                                                  .points_lost = r->points_lost,
                                                  .quarantined_records = r->quarantined_records,
                                                  .found_again_records = r->found_again_records,
                                                  .deleted_records = r->deleted_records,
                                                  .deleted_bytes = r->deleted_bytes,
                                                  .freed_bytes = r->freed_bytes,
                                                  .moved_records = r->moved_records,
                                                  .packs_removed = r->packs_removed,
                                                  .waiting_records = r->waiting_records,
                                                  .points_keyless = r->points_locked,
                                                  .problem = far_slice(r->problem, strnlen(r->problem, 400))};
    for (size_t i = 0; i < vault->space_count; i++) {
        const struct far_engine_space *space = &vault->spaces[i];
        lists->spaces[i] = (struct far_sub_plan_space){.plan_id = space->plan_id,
                                                       .logical_bytes = space->logical_bytes,
                                                       .points_bytes = space->points_bytes,
                                                       .unique_bytes = space->unique_bytes,
                                                       .shared_bytes = space->shared_bytes,
                                                       .estimated = space->estimated};
    }
    item->reclaimed = (struct far_list){&lists->reclaimed, vault->is_reclaimed};
    item->unused_disk_ids = (struct far_list){r->unused_disk_ids, r->unused_disk_count};
    item->usage = (struct far_list){&lists->usage, 1};
    item->spaces = (struct far_list){lists->spaces, vault->space_count};
    if (vault->scrubbed != NULL) {
        add_scrub(vault->scrubbed, lists, item);
    }
}

/* Each configuration once. */
static void add_config(const struct far_manifest *m, struct adoption_lists *lists, size_t *count)
{
    bool is_there = m->config_len == 0;
    for (size_t i = 0; i < *count && !is_there; i++) {
        is_there = memcmp(lists->configs[i].sha256.data, m->config_sha256, 32) == 0;
    }
    if (!is_there) {
        lists->configs[(*count)++] = (struct far_sub_adopted_config){.sha256 = far_slice(m->config_sha256, 32),
                                                                     .config = far_slice(m->config, m->config_len)};
    }
}

static void add_adopted(const struct far_adopted *from, struct adoption_lists *lists)
{
    size_t disks = 0, configs = 0;
    for (size_t i = 0; i < from->count; i++) {
        const struct far_manifest *m = &from->points[i].manifest;
        lists->points[i] = (struct far_sub_adopted_point){.point_id = m->point_id,
                                                          .plan_id = m->plan_id,
                                                          .plan = far_slice_str(m->plan),
                                                          .plan_epoch = m->plan_epoch,
                                                          .workload_id = m->workload_id,
                                                          .workload = far_slice_str(m->workload),
                                                          .site = far_slice_str(m->site),
                                                          .checkpoint_id = m->checkpoint_id,
                                                          .frozen_at_ms = m->frozen_at_ms,
                                                          .created_ms = m->created_at_ms,
                                                          .fuzzy = m->fuzzy,
                                                          .domain_uuid = far_slice(m->domain_uuid, m->domain_number != 0 ? 16 : 0),
                                                          .lock_until_ms = from->points[i].lock_until_ms,
                                                          .config_sha256 = far_slice(m->config_sha256, m->config_len != 0 ? 32 : 0),
                                                          .recovery = far_slice(m->recovery, m->recovery_len),
                                                          .disks = {&lists->disks[disks], m->disk_count}};
        add_config(m, lists, &configs);
        for (uint32_t d = 0; d < m->disk_count; d++) {
            lists->disks[disks++] = (struct far_sub_point_disk){.disk_index = m->disks[d].disk_index,
                                                                .disk_id = m->disks[d].disk_id,
                                                                .name = far_slice_str(m->disks[d].name),
                                                                .size_bytes = m->disks[d].size_bytes,
                                                                .root = far_slice(m->disks[d].root.bytes, 32)};
        }
    }
    lists->adopted = (struct far_sub_adopted){.after = from->after,
                                              .ended = from->ended,
                                              .damaged = from->damaged,
                                              .unreadable = from->unreadable,
                                              .problem = far_slice_str(from->problem),
                                              .points = {lists->points, from->count},
                                              .configs = {lists->configs, configs}};
}

static void add_adoption(const struct far_engine_adoption *from, struct adoption_lists *lists, struct far_sub_report_item *item)
{
    if (from->is_survey) {
        lists->survey = (struct far_sub_adoption_survey){.cluster_uuid = far_slice(from->owner.cluster_uuid, 16),
                                                         .vault_uuid = far_slice(from->survey.vault_uuid, 16),
                                                         .own = from->is_own,
                                                         .assumed = from->owner.assumed,
                                                         .base = from->owner.base,
                                                         .highest = from->survey.highest,
                                                         .pass = from->pass,
                                                         .point_count = from->survey.point_count};
        item->adoption_survey = (struct far_list){&lists->survey, 1};
        return;
    }
    add_adopted(&from->adopted, lists);
    item->adopted = (struct far_list){&lists->adopted, 1};
}

struct used_lists {
    struct far_sub_use_result result;
    struct far_sub_byte_range ranges[FAR_ENGINE_RANGES_MAX];
    struct far_slice entries[FAR_ENGINE_ENTRIES_MAX];
};

static void add_used(const struct far_engine_used *used, struct used_lists *lists, struct far_sub_report_item *item)
{
    const char *entry = used->entries;
    for (size_t i = 0; i < used->range_room; i++) {
        lists->ranges[i] = (struct far_sub_byte_range){.offset = used->ranges[i].offset, .length = used->ranges[i].length};
    }
    for (size_t i = 0; i < used->entry_count; i++) {
        lists->entries[i] = far_slice_str(entry);
        entry += strlen(entry) + 1;
    }
    lists->result = (struct far_sub_use_result){.uri = far_slice_str(used->uri),
                                                .path = far_slice_str(used->path),
                                                .bytes = used->bytes,
                                                .range_count = used->range_count,
                                                .ranges = {lists->ranges, used->range_room},
                                                .entries = {lists->entries, used->entry_count},
                                                .truncated = used->truncated,
                                                .writes = used->writes,
                                                .write_bytes = used->write_bytes,
                                                .write_bytes_max = used->write_bytes_max,
                                                .write_full = used->write_full};
    item->use_result = (struct far_list){&lists->result, 1};
}

struct machined_lists {
    struct far_sub_machine_result result;
    struct far_slice left[FAR_ENGINE_LEFT_MAX];
    struct far_sub_disk_spec disks[FAR_ENGINE_DISKS_MAX];
};

static void add_machined(const struct far_engine_machined *machined, struct machined_lists *lists, struct far_sub_report_item *item)
{
    for (size_t i = 0; i < machined->left_count; i++) {
        lists->left[i] = far_slice_str(machined->left[i]);
    }
    for (size_t i = 0; i < machined->disk_count; i++) {
        lists->disks[i] = (struct far_sub_disk_spec){.name = far_slice_str(machined->disks[i].name),
                                                     .locator = far_slice_str(machined->disks[i].locator)};
    }
    lists->result = (struct far_sub_machine_result){.address = far_slice_str(machined->address),
                                                    .state = far_slice_str(machined->state),
                                                    .platform_ms = machined->platform_ms,
                                                    .waited_ms = machined->waited_ms,
                                                    .left = {lists->left, machined->left_count},
                                                    .disks = {lists->disks, machined->disk_count},
                                                    .was_off = machined->was_off,
                                                    .was_forced = machined->was_forced};
    item->machine_result = (struct far_list){&lists->result, 1};
}

struct lost_lists {
    struct far_sub_lost_result result;
    struct far_sub_lost_disk disks[FAR_ENGINE_DISKS_MAX];
    struct far_sub_byte_range extents[FAR_ENGINE_DISKS_MAX][FAR_ENGINE_RANGES_MAX];
};

static void add_lost(const struct far_engine_lost *lost, struct lost_lists *lists, struct far_sub_report_item *item)
{
    for (size_t i = 0; i < lost->disk_count; i++) {
        const struct far_engine_lost_disk *from = &lost->disks[i];
        for (size_t e = 0; e < from->extent_room; e++) {
            lists->extents[i][e] = (struct far_sub_byte_range){.offset = from->extents[e].offset, .length = from->extents[e].length};
        }
        lists->disks[i] = (struct far_sub_lost_disk){.disk_id = from->disk_id,
                                                     .name = far_slice_str(from->name),
                                                     .size_bytes = from->size_bytes,
                                                     .compared_bytes = from->compared_bytes,
                                                     .by_list = from->by_list,
                                                     .lost_bytes = from->lost_bytes,
                                                     .extent_count = from->extent_count,
                                                     .extents = {lists->extents[i], from->extent_room},
                                                     .problem = far_slice_str(from->problem),
                                                     .skipped = from->skipped};
    }
    lists->result = (struct far_sub_lost_result){
        .runs = lost->runs, .written_ms = lost->written_ms, .disks = {lists->disks, lost->disk_count}};
    item->lost_result = (struct far_list){&lists->result, 1};
}

static size_t lost_bytes(const struct far_engine_lost *lost)
{
    size_t bytes = 0;
    for (size_t i = 0; lost != NULL && i < lost->disk_count; i++) {
        bytes += 360 + lost->disks[i].extent_room * 24;
    }
    return bytes;
}

static void add_scripted(const struct far_engine_scripted *scripted, struct far_sub_script_result *result, struct far_sub_report_item *item)
{
    *result = (struct far_sub_script_result){.status = scripted->status,
                                             .killed = scripted->is_killed,
                                             .late = scripted->is_late,
                                             .output = far_slice_str(scripted->output),
                                             .duration_ms = scripted->duration_ms};
    item->script_result = (struct far_list){result, 1};
}

static size_t machined_bytes(const struct far_engine_machined *machined)
{
    size_t lists = machined != NULL ? machined->left_count * sizeof machined->left[0] + machined->disk_count * 8 : 0;
    return machined != NULL ? 240 + lists + machined->text_bytes : 0;
}

/* Of a transfer; others have none. */
static struct far_list to_figures(const struct far_engine_figures *f, struct far_sub_figures *figures)
{
    *figures = (struct far_sub_figures){.bytes_read = f->bytes_read,
                                        .bytes_zero = f->bytes_zero,
                                        .bytes_known = f->bytes_known,
                                        .bytes_wanted = f->bytes_wanted,
                                        .window_bytes = f->window_bytes,
                                        .streams = f->streams,
                                        .bottleneck = (uint64_t)f->bottleneck};
    bool has = f->bytes_read != 0 || f->bytes_zero != 0 || f->bytes_known != 0 || f->bytes_wanted != 0 || f->window_bytes != 0 ||
               f->streams != 0 || f->bottleneck != FAR_ENGINE_UNKNOWN;
    return (struct far_list){.items = figures, .count = has};
}

static struct far_list to_signals(const struct far_engine_report *r, struct far_sub_signal *signals)
{
    for (size_t i = 0; i < r->signal_count; i++) {
        const struct far_engine_signal *from = &r->signals[i];
        signals[i] = (struct far_sub_signal){.disk_index = from->disk_index,
                                             .detector = from->detector,
                                             .score = from->score,
                                             .at_once = from->at_once,
                                             .by_and_by = from->by_and_by,
                                             .evidence = from->evidence,
                                             .changed_blocks = from->changed_blocks,
                                             .low_to_high_blocks = from->low_to_high_blocks,
                                             .calm_point_id = from->calm_point_id};
    }
    return (struct far_list){.items = signals, .count = r->signal_count};
}

/* The item borrows from the entry; its lists go into `lists`. */
static struct far_sub_report_item to_item(const struct far_report_entry *e, const struct item_lists *lists)
{
    const struct far_engine_report *r = &e->report;
    struct far_sub_disk_found *found = lists->found;
    for (size_t i = 0; i < r->missed_count && i < FAR_ENGINE_MISSED_MAX; i++) {
        lists->missed[i] = (struct far_sub_block_range){.first_block = r->missed[i].first_block,
                                                        .block_count = r->missed[i].block_count};
    }
    for (size_t i = 0; i < r->damage_count; i++) {
        lists->damages[i] = (struct far_sub_scrub_damage){.point_id = r->damages[i].point_id,
                                                          .disk = far_slice_str(r->damages[i].disk),
                                                          .first_block = r->damages[i].first_block,
                                                          .block_count = r->damages[i].block_count};
    }
    for (size_t i = 0; i < r->disk_count && i < FAR_ENGINE_DISKS_MAX; i++) {
        found[i] = (struct far_sub_disk_found){.disk_index = r->disks[i].disk_index,
                                               .size_bytes = r->disks[i].size_bytes,
                                               .identity = far_slice_str(r->disks[i].identity),
                                               .token = far_slice_str(r->disks[i].token)};
    }
    return (struct far_sub_report_item){
        .job_id = r->job_id,
        .task = r->task,
        .attempt = r->attempt,
        .state = (uint64_t)r->state,
        .bytes_total = r->bytes_total,
        .bytes_done = r->bytes_done,
        .bytes_changed = r->bytes_changed,
        .bytes_sent = r->bytes_sent,
        .duration_ms = r->duration_ms,
        .root = far_slice(r->root, r->has_root ? 32 : 0),
        .size_bytes = r->size_bytes,
        .freeze_ref = far_slice_str(r->freeze_ref),
        .fuzzy = r->fuzzy,
        .frozen_at_ms = r->frozen_at_ms,
        .disks = {.items = found, .count = r->disk_count},
        .outcome = r->state == FAR_ENGINE_RUNNING ? 0 : (uint64_t)r->outcome,
        .error_class = far_slice_str(r->state == FAR_ENGINE_FAILED ? far_class_info(r->error_class)->name : ""),
        .error_message =
            far_slice_str(r->state == FAR_ENGINE_FAILED || r->blocks_damaged > 0 ? r->error_message : ""),
        .blocks_damaged = r->blocks_damaged,
        .full = r->full,
        .survives = r->survives,
        .hashed_bytes = r->hashed_bytes,
        .audited_blocks = r->audited_blocks,
        .audit_next_block = r->audit_next_block,
        .missed_block_count = r->missed_block_count,
        .missed = {.items = lists->missed, .count = r->missed_count},
        .resync_reason = far_slice_str(r->resync_reason),
        .shared = r->shared,
        .erased_domain_ids = {.items = r->erased_domains, .count = r->erased_domain_count},
        .domain_id = r->domain_id,
        .domain_generation = r->domain_generation,
        .figures = to_figures(&r->figures, lists->figures),
        .signals = to_signals(r, lists->signals),
        .healed = {.items = lists->damages, .count = r->healed_count},
        .unhealed = {.items = lists->damages + r->healed_count, .count = r->damage_count - r->healed_count},
    };
}

static void add_captured(const struct far_captured *captured, struct far_sub_report_item *item)
{
    item->config_sha256 = far_slice(captured->hash, captured->is_known ? sizeof captured->hash : 0);
    item->config = far_slice(captured->bytes, captured->len);
    item->config_problem = far_slice_str(captured->problem);
}

static bool has_adoption(const struct far_report_entry *e)
{
    return e->report.vault != NULL && e->report.vault->adoption != NULL;
}

static size_t adopted_disks(const struct far_report_entry *e)
{
    const struct far_adopted *adopted = &e->report.vault->adoption->adopted;
    size_t count = 0;
    for (size_t i = 0; i < adopted->count; i++) {
        count += adopted->points[i].manifest.disk_count;
    }
    return count;
}

static size_t used_bytes(const struct far_engine_used *used)
{
    return used != NULL ? 2600 + used->range_room * 24 + used->entry_bytes + used->entry_count * 4 : 0;
}

/* What an item may become in msgpack, rounded up. */
static size_t item_bytes(const struct far_report_entry *e)
{
    return 480 + strlen(e->report.error_message) + strlen(e->report.resync_reason) + e->report.disk_count * 310 +
           e->report.missed_count * 24 + e->report.damage_count * 120 + e->report.signal_count * 96 +
           used_bytes(e->report.used) + machined_bytes(e->report.machined) + lost_bytes(e->report.lost) +
           (e->report.scripted != NULL ? 60 + strlen(e->report.scripted->output) : 0) +
           (e->report.captured != NULL ? 280 + e->report.captured->len : 0) +
           (e->report.vault != NULL ? 800 + e->report.vault->space_count * 64 : 0) +
           (has_adoption(e) ? 800 + FAR_ADOPTED_CONFIG_BYTES_MAX + e->report.vault->adoption->adopted.count * 480 + adopted_disks(e) * 140
                            : 0) +
           (e->report.vault != NULL && e->report.vault->scrubbed != NULL ? 300 + SCRUB_POINTS_MAX * 10 + SCRUB_DAMAGES_MAX * 400 : 0);
}

/* The suspect whose turn it is, or NULL. */
static struct far_report_entry *next_suspect(struct far_reports *reports, uint64_t now_ms)
{
    struct far_report_entry *found = NULL;
    for (size_t i = 0; i < FAR_REPORTS_MAX && found == NULL; i++) {
        struct far_report_entry *e = &reports->entries[(reports->suspect_at + i) % FAR_REPORTS_MAX];
        if (e->used && e->fresh && e->suspect && e->hold_ms <= now_ms) {
            reports->suspect_at = (size_t)(e - reports->entries) + 1;
            found = e;
        }
    }
    return found;
}

static bool has_others(const struct far_reports *reports)
{
    bool found = false;
    for (size_t i = 0; i < FAR_REPORTS_MAX && !found; i++) {
        found = reports->entries[i].used && reports->entries[i].fresh && !reports->entries[i].suspect;
    }
    return found;
}

/* Fill items from what is fresh; arena holds the lists of disks. alone: only that one; NULL: all that are no suspects. */
static size_t gather(struct far_reports *reports, const struct far_report_entry *alone, struct far_arena *arena,
                     struct far_sub_report_item *items, struct far_report_key *keys)
{
    size_t count = 0;
    size_t bytes = 0;
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        struct far_report_entry *e = &reports->entries[i];
        bool is_asked = alone != NULL ? e == alone : e->used && e->fresh && !e->suspect;
        e->in_batch = false;
        if (!is_asked || count == FAR_REPORT_BATCH_MAX || (count > 0 && bytes + item_bytes(e) > FAR_REPORT_BATCH_BYTES)) {
            continue;
        }
        struct item_lists lists = {
            .found = far_arena_alloc(arena, e->report.disk_count * sizeof *lists.found),
            .missed = far_arena_alloc(arena, e->report.missed_count * sizeof *lists.missed),
            .figures = far_arena_alloc(arena, sizeof *lists.figures),
            .signals = far_arena_alloc(arena, (e->report.signal_count + 1) * sizeof *lists.signals),
            .damages = far_arena_alloc(arena, (e->report.damage_count + 1) * sizeof *lists.damages),
            .vault = e->report.vault != NULL ? far_arena_alloc(arena, sizeof *lists.vault) : NULL,
            .adoption = has_adoption(e) ? far_arena_alloc(arena, sizeof *lists.adoption) : NULL,
            .used = e->report.used != NULL ? far_arena_alloc(arena, sizeof *lists.used) : NULL,
            .machined = e->report.machined != NULL ? far_arena_alloc(arena, sizeof *lists.machined) : NULL,
            .lost = e->report.lost != NULL ? far_arena_alloc(arena, sizeof *lists.lost) : NULL,
            .scripted = e->report.scripted != NULL ? far_arena_alloc(arena, sizeof *lists.scripted) : NULL,
        };
        bool lacks_vault = (e->report.vault != NULL && lists.vault == NULL) || (has_adoption(e) && lists.adoption == NULL) ||
                           (e->report.used != NULL && lists.used == NULL) ||
                           (e->report.machined != NULL && lists.machined == NULL) || (e->report.lost != NULL && lists.lost == NULL) ||
                           (e->report.scripted != NULL && lists.scripted == NULL);
        if (lists.found == NULL || lists.missed == NULL || lists.figures == NULL || lists.signals == NULL || lists.damages == NULL ||
            lacks_vault) {
            continue; /* the next batch has room */
        }
        bytes += item_bytes(e);
        keys[count] = (struct far_report_key){.job_id = e->report.job_id,
                                              .task = e->report.task,
                                              .attempt = e->report.attempt,
                                              .ended = e->report.state != FAR_ENGINE_RUNNING};
        items[count] = to_item(e, &lists);
        if (lists.vault != NULL) {
            add_vault(e->report.vault, lists.vault, &items[count]);
        }
        if (lists.adoption != NULL) {
            add_adoption(e->report.vault->adoption, lists.adoption, &items[count]);
        }
        if (lists.machined != NULL) {
            add_machined(e->report.machined, lists.machined, &items[count]);
        }
        if (lists.lost != NULL) {
            add_lost(e->report.lost, lists.lost, &items[count]);
        }
        if (lists.scripted != NULL) {
            add_scripted(e->report.scripted, lists.scripted, &items[count]);
        }
        if (e->report.captured != NULL) {
            add_captured(e->report.captured, &items[count]);
        }
        if (lists.used != NULL) {
            add_used(e->report.used, lists.used, &items[count]);
        }
        count++;
        e->in_batch = true;
    }
    return count;
}

/* The batch was encoded: what is in it is no longer news. */
static void settle(struct far_reports *reports)
{
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        struct far_report_entry *e = &reports->entries[i];
        if (e->in_batch) {
            e->fresh = false;
            e->urgent = false;
        }
    }
}

/* It could not be encoded: it cannot be sent like that. */
static void spoil(struct far_reports *reports)
{
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        reports->entries[i].suspect = reports->entries[i].suspect || reports->entries[i].in_batch;
    }
}

int far_reports_take(struct far_reports *reports, struct far_report_batch *batch, struct far_buf *out, struct far_error *err)
{
    struct far_arena arena;
    far_arena_init(&arena, 1024 * 1024);
    struct far_sub_report_item *items = far_arena_alloc(&arena, FAR_REPORT_BATCH_MAX * sizeof *items);
    if (items == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a report");
    }
    pthread_mutex_lock(&reports->mutex);
    reports->is_suspects_turn = !batch->is_probe && (!reports->is_suspects_turn || !has_others(reports));
    struct far_report_entry *alone = reports->is_suspects_turn ? next_suspect(reports, batch->now_ms) : NULL;
    batch->is_suspect = alone != NULL;
    batch->count = batch->is_probe ? 0 : gather(reports, alone, &arena, items, batch->keys);
    struct far_msg_report message = {
        .sequence = batch->sequence, .items = {.items = items, .count = batch->count}, .kept = batch->kept};
    int rc = far_schema_encode(&far_schema_msg_report, &message, out, err);
    if (rc == 0 && !batch->is_probe) {
        settle(reports);
    } else if (rc != 0) {
        spoil(reports);
    }
    pthread_mutex_unlock(&reports->mutex);
    far_arena_done(&arena);
    return rc;
}

void far_reports_confirm(struct far_reports *reports)
{
    pthread_mutex_lock(&reports->mutex);
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        struct far_report_entry *e = &reports->entries[i];
        if (e->in_batch && !e->fresh && e->report.state != FAR_ENGINE_RUNNING) {
            far_report_entry_clear(e);
        } else if (e->in_batch) {
            e->in_batch = e->suspect = false;
            e->refusals = 0;
            e->hold_ms = 0;
        }
    }
    pthread_mutex_unlock(&reports->mutex);
}

void far_reports_clear(struct far_reports *reports)
{
    pthread_mutex_lock(&reports->mutex);
    for (size_t i = 0; i < FAR_REPORTS_MAX; i++) {
        far_report_entry_clear(&reports->entries[i]);
    }
    pthread_mutex_unlock(&reports->mutex);
}
