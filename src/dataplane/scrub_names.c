/* Who needs what a scrub found damaged: the trees of all points are searched, each disk's points in order. Where a tree equals that of the
 * point before, it needs the same at the same places, so a disk's points cost what they differ. */
#include "dataplane/scrub_private.h"
#include "dataplane/vault_private.h"

#include <stdlib.h>

enum { PLACES_MAX = 4096 /* of a disk of a point that are kept in mind for the next one */ };

/* A place of a disk at which something damaged is needed. */
struct need {
    size_t damage;
    uint64_t first;
    uint64_t count;
};

struct needs {
    struct need list[PLACES_MAX];
    size_t count;
};

struct search {
    struct far_vault *vault;
    const struct far_scrub_wanted *wanted;
    struct far_scrub_result *result;
    const struct far_domain *domain;
    uint64_t blocks; /* of the disk */
    struct needs *before, *now;
};

static void add(struct search *search, size_t damage, uint64_t first, uint64_t count)
{
    struct needs *now = search->now;
    if (now->count == PLACES_MAX) {
        search->result->more_names = true;
        return;
    }
    uint64_t rest = first < search->blocks ? search->blocks - first : 0;
    now->list[now->count++] = (struct need){.damage = damage, .first = first, .count = count < rest ? count : rest};
}

/* As the point before, from this block on. */
static void take_over(struct search *search, uint64_t first, uint64_t count)
{
    for (size_t i = 0; i < search->before->count; i++) {
        const struct need *need = &search->before->list[i];
        if (need->first >= first && need->first - first < count) {
            add(search, need->damage, need->first, need->count);
        }
    }
}

/* A page of this height, or a block (0). Is it one of those that are damaged? */
static bool match(struct search *search, unsigned height, const struct far_hash256 *id, uint64_t first, uint64_t count)
{
    bool found = false;
    for (size_t i = 0; i < search->result->damage_count; i++) {
        const struct far_scrub_wanted *wanted = &search->wanted[i];
        if (!wanted->is_root && wanted->height == height && wanted->domain == search->domain && far_hash256_equal(&wanted->id, id)) {
            add(search, i, first, count);
            found = true;
        }
    }
    return found;
}

static int look(struct search *search, unsigned height, uint64_t first, const struct far_hash256 *id, const struct far_hash256 *known,
                struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT], before[FAR_MAP_FANOUT];
    uint64_t below = 1ull << (8 * height);
    if (known != NULL && far_hash256_equal(id, known)) {
        take_over(search, first, below);
        return 0;
    }
    if (first >= search->blocks || far_hash256_equal(id, far_map_zero(8 * height)) || match(search, height, id, first, below) ||
        height == 0) {
        return 0;
    }
    int rc = far_vault_page(search->vault, search->domain, height - 1, id, children, err);
    if (rc != 0) { /* damaged, and not found to be so by this run: what is below it is not known */
        return rc == FAR_CORRUPT || rc == FAR_NOT_FOUND ? 0 : rc;
    }
    bool has_before =
        known != NULL && far_vault_page(search->vault, search->domain, height - 1, known, before, NULL) == 0;
    for (unsigned i = 0; rc == 0 && i < FAR_MAP_FANOUT; i++) {
        uint64_t child = first + ((uint64_t)i << (8 * (height - 1)));
        rc = look(search, height - 1, child, &children[i], has_before ? &before[i] : NULL, err);
    }
    return rc;
}

static void name(struct search *search, const struct far_scrub_entry *entry)
{
    struct far_scrub_result *result = search->result;
    struct far_scrub_name found = {.point_id = entry->point_id};
    if (search->now->count == 0) {
        return;
    }
    memcpy(found.disk, entry->name, sizeof found.disk);
    for (size_t i = 0; i < search->now->count; i++) {
        const struct need *need = &search->now->list[i];
        uint8_t bit = (uint8_t)(1u << need->damage % 8);
        result->damages[need->damage].needed_by += (found.damages[need->damage / 8] & bit) == 0;
        found.damages[need->damage / 8] |= bit;
        found.blocks += need->count;
    }
    if (result->name_count == FAR_SCRUB_NAMES_MAX) {
        result->more_names = true;
        return;
    }
    result->names[result->name_count++] = found;
}

/* *point: of this disk in the point before, or NULL; then of this one, or NULL if it cannot be opened. */
static int look_at(struct search *search, const struct far_scrub_entry *entry, struct far_point **point, struct far_error *err)
{
    struct far_point *now = NULL, *before = *point;
    struct far_error cause;
    *point = NULL;
    search->now->count = 0;
    search->blocks = entry->blocks;
    int rc = far_point_open_disk(search->vault, entry->point_id, entry->name, &now, &cause);
    if (rc != 0) {
        bool is_gone = rc == FAR_NOT_FOUND || rc == FAR_CORRUPT || rc == FAR_DENIED || rc == FAR_CONFLICT;
        for (size_t i = 0; i < search->result->damage_count; i++) {
            if (search->wanted[i].is_root && far_hash256_equal(&search->wanted[i].id, &entry->root)) {
                add(search, i, 0, entry->blocks);
            }
        }
        far_point_close(before);
        return is_gone ? 0 : far_fail(err, rc, "%s", cause.message);
    }
    unsigned height = far_map_height(far_point_size(now));
    bool is_known = before != NULL && far_map_height(far_point_size(before)) == height && far_point_domain(before) == far_point_domain(now);
    search->domain = far_point_domain(now);
    rc = look(search, height, 0, far_point_top(now), is_known ? far_point_top(before) : NULL, err);
    far_point_close(before);
    *point = now;
    return rc;
}

int far_scrub_names(struct far_vault *vault, struct far_scrub_entry *const *by_disk, size_t count, const struct far_scrub_wanted *wanted,
                    struct far_scrub_result *result, struct far_error *err)
{
    struct search search = {.vault = vault, .wanted = wanted, .result = result};
    struct far_point *point = NULL;
    int rc = 0;
    search.before = calloc(1, sizeof *search.before);
    search.now = calloc(1, sizeof *search.now);
    if (search.before == NULL || search.now == NULL) {
        rc = far_fail(err, FAR_LIMIT, "no memory to name who needs what is damaged");
    }
    for (size_t i = 0; rc == 0 && i < count; i++) {
        if (by_disk[i]->before == NULL) {
            far_point_close(point);
            point = NULL;
        }
        rc = look_at(&search, by_disk[i], &point, err);
        if (rc == 0) {
            name(&search, by_disk[i]);
            struct needs *now = search.now;
            search.now = search.before;
            search.before = now;
        }
    }
    far_point_close(point);
    free(search.before);
    free(search.now);
    return rc;
}
