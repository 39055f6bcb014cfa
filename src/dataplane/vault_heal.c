/* Repair of a vault from another one: see vault_heal.h. The walk is that of a verification, one block at a time. */
#include "dataplane/vault_heal.h"

#include "dataplane/vault_private.h"

#include <stdlib.h>

struct heal {
    struct far_vault *vault, *other;
    const struct far_domain *domain, *other_domain;
    int other_rc; /* not 0: the other vault cannot help with this domain, for this reason */
    struct far_error other_error;
    const struct far_heal_options *options;
    struct far_heal_result *result;
    uint64_t point_id;
    const char *disk;
    uint64_t blocks; /* of the disk */
    struct far_packed *packed;
    uint8_t *raw;
};

static bool is_damage(int rc)
{
    return rc == FAR_CORRUPT || rc == FAR_NOT_FOUND;
}

/* Tells of a damaged place; rc and cause: how putting it again went. Only what stops the walk is returned. */
static int tell(struct heal *heal, uint64_t first, uint64_t count, const struct far_error *damage, int rc, const struct far_error *cause,
                struct far_error *err)
{
    struct far_heal_place place = {.point_id = heal->point_id, .disk = heal->disk, .first_block = first, .block_count = count};
    place.healed = rc == 0;
    place.damage = damage->message;
    place.cause = rc == 0 ? "" : cause->message;
    heal->result->damaged++;
    heal->result->healed += rc == 0;
    if (heal->options->found != NULL) {
        heal->options->found(heal->options->arg, &place);
    }
    if (rc != 0 && !is_damage(rc) && rc != FAR_DENIED) { /* no space, a disk that fails */
        if (err != NULL) {
            *err = *cause;
        }
        return rc;
    }
    return 0;
}

static int can_help(const struct heal *heal, struct far_error *err)
{
    if (heal->other_rc != 0) {
        *err = heal->other_error;
    }
    return heal->other_rc;
}

static int heal_block(struct heal *heal, uint64_t index, const struct far_hash256 *leaf, struct far_error *err)
{
    struct far_error damage, cause = {0};
    if (far_hash256_equal(leaf, far_zero_leaf())) {
        return 0;
    }
    int rc = far_vault_get(heal->vault, heal->domain, leaf, true, heal->raw, &damage);
    heal->result->blocks++;
    if (!is_damage(rc)) {
        if (rc != 0 && err != NULL) {
            *err = damage;
        }
        return rc;
    }
    rc = can_help(heal, &cause);
    rc = rc == 0 ? far_vault_get_packed(heal->other, heal->other_domain, leaf, heal->packed, heal->raw, &cause) : rc;
    if (rc == 0) {
        rc = far_vault_put(heal->vault, heal->domain, leaf, heal->packed->codec, heal->packed->data, heal->packed->len, &cause);
    }
    return tell(heal, index, 1, &damage, rc, &cause, err);
}

/* Past the cache: what is on the disk is what counts. Its hash must be its name. */
static int load_page(struct far_vault *vault, const struct far_domain *domain, const struct far_hash256 *id,
                     struct far_hash256 ret_children[FAR_MAP_FANOUT], struct far_error *err)
{
    struct far_hash256 computed;
    int rc = far_vault_load(vault, domain, FAR_RECORD_PAGE, id, ret_children, FAR_MAP_PAGE_BYTES, err);
    if (rc == 0) {
        far_map_page_hash(ret_children, &computed);
        rc = far_hash256_equal(&computed, id)
                 ? 0
                 : far_vault_note_wrong(vault, domain, id, "the page is not the one of its id (SHA-256)", err);
    }
    return rc;
}

/* *ret_there: the page is there now, and its children are known. */
static int heal_page(struct heal *heal, unsigned level, uint64_t first, uint64_t below, const struct far_hash256 *id,
                     struct far_hash256 ret_children[FAR_MAP_FANOUT], bool *ret_there, struct far_error *err)
{
    struct far_error damage, cause = {0};
    struct far_hash256 stored;
    int rc = load_page(heal->vault, heal->domain, id, ret_children, &damage);
    *ret_there = rc == 0;
    if (!is_damage(rc)) {
        if (rc != 0 && err != NULL) {
            *err = damage;
        }
        return rc;
    }
    rc = can_help(heal, &cause);
    rc = rc == 0 ? load_page(heal->other, heal->other_domain, id, ret_children, &cause) : rc;
    rc = rc == 0 ? far_vault_store_page(heal->vault, heal->domain, level, ret_children, &stored, &cause) : rc;
    *ret_there = rc == 0;
    return tell(heal, first, below, &damage, rc, &cause, err);
}

static int report(const struct heal *heal, uint64_t done, struct far_error *err)
{
    const struct far_heal_options *options = heal->options;
    bool ends = options->progress != NULL && options->progress(options->arg, heal->disk, done, heal->blocks) != 0;
    return ends ? far_fail(err, FAR_CANCELED, "the repair was canceled") : 0;
}

static int walk(struct heal *heal, unsigned level, uint64_t first, const struct far_hash256 *id, const struct far_hash256 *known,
                struct far_error *err)
{
    struct far_hash256 children[FAR_MAP_FANOUT], before[FAR_MAP_FANOUT];
    uint64_t span = 1ull << (8 * (level + 1)), below = heal->blocks - first < span ? heal->blocks - first : span;
    bool there;
    if (far_hash256_equal(id, far_map_zero(8 * (level + 1))) || (known != NULL && far_hash256_equal(id, known))) {
        return 0;
    }
    int rc = heal_page(heal, level, first, below, id, children, &there, err);
    bool beside = known != NULL && far_vault_page(heal->vault, heal->domain, level, known, before, NULL) == 0;
    for (unsigned i = 0; rc == 0 && there && i < FAR_MAP_FANOUT; i++) {
        uint64_t at = first + ((uint64_t)i << (8 * level));
        bool same = beside && far_hash256_equal(&children[i], &before[i]);
        if (at >= heal->blocks) {
            break;
        }
        if (!same) {
            rc = level > 0 ? walk(heal, level - 1, at, &children[i], beside ? &before[i] : NULL, err)
                           : heal_block(heal, at, &children[i], err);
        }
    }
    return rc == 0 && level == 0 ? report(heal, first + below, err) : rc;
}

/* The record that says what top belongs to a root. */
static int heal_root(struct heal *heal, const struct far_manifest_disk *disk, struct far_hash256 *ret_top, bool *ret_there,
                     struct far_error *err)
{
    struct far_error damage, cause = {0};
    struct far_hash256 root;
    uint64_t size;
    int rc = far_vault_root_load(heal->vault, heal->domain, &disk->root, &size, ret_top, &damage);
    *ret_there = rc == 0;
    if (!is_damage(rc)) {
        if (rc != 0 && err != NULL) {
            *err = damage;
        }
        return rc;
    }
    rc = can_help(heal, &cause);
    rc = rc == 0 ? far_vault_root_load(heal->other, heal->other_domain, &disk->root, &size, ret_top, &cause) : rc;
    rc = rc == 0 ? far_vault_root_store(heal->vault, heal->domain, size, ret_top, &root, &cause) : rc;
    *ret_there = rc == 0;
    return tell(heal, 0, heal->blocks, &damage, rc, &cause, err);
}

/* The top of `since`, where it can be compared with. */
static bool find_known(const struct heal *heal, const struct far_hash256 *since, struct far_hash256 *ret_top)
{
    uint64_t size;
    return since != NULL && far_vault_root_load(heal->vault, heal->domain, since, &size, ret_top, NULL) == 0 &&
           far_map_height(size) == far_map_height(heal->blocks * FAR_BLOCK_BYTES);
}

int far_vault_heal(struct far_vault *vault, struct far_vault *other, const struct far_manifest *manifest, uint32_t disk,
                   const struct far_hash256 *since, const struct far_heal_options *options, struct far_heal_result *ret_result,
                   struct far_error *err)
{
    const struct far_manifest_disk *entry = &manifest->disks[disk];
    struct heal heal = {.vault = vault, .other = other, .options = options, .result = ret_result, .point_id = manifest->point_id};
    struct far_hash256 top, known;
    bool there = false;
    heal.disk = entry->name;
    heal.blocks = far_map_block_count(entry->size_bytes);
    heal.packed = malloc(sizeof *heal.packed);
    heal.raw = malloc(FAR_BLOCK_BYTES);
    int rc = heal.packed != NULL && heal.raw != NULL ? 0 : far_fail(err, FAR_LIMIT, "no memory to repair a vault");
    rc = rc == 0 ? far_vault_domain_find(vault, manifest->domain_uuid, &heal.domain, err) : rc;
    heal.other_rc = far_vault_domain_find(other, manifest->domain_uuid, &heal.other_domain, &heal.other_error);
    rc = rc == 0 ? heal_root(&heal, entry, &top, &there, err) : rc;
    if (rc == 0 && there) {
        bool beside = find_known(&heal, since, &known);
        rc = walk(&heal, far_map_height(entry->size_bytes) - 1, 0, &top, beside ? &known : NULL, err);
    }
    free(heal.raw);
    free(heal.packed);
    return rc;
}
