/* The domains of a vault: opened with what an order brings, or with the recovery key; see domain.h.
 *
 * The file of a domain is read when the vault is opened, so that its number is known; its secrets stay sealed until somebody brings a
 * key. A new generation is durable in the file before a pack uses its wrapping key: the file is replaced under the vault's lock, so
 * that no pack begins meanwhile. A crash leaves the old file or the new one; each opens with a key that whoever has the orders has. */
#include "dataplane/domain_private.h"
#include "dataplane/remote.h"
#include "dataplane/vault_lock.h"
#include "dataplane/vault_private.h"

#include "base/file.h"
#include "base/random.h"
#include "net/keyed_box.h"

#include <dirent.h>
#include <errno.h>
#include <openssl/crypto.h>
#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

#define COPY ".copy"
static _Atomic uint64_t serials;

static void path_of(const struct far_vault *vault, const uint8_t uuid[16], char path[4096])
{
    char hex[33];
    far_hex_encode(uuid, 16, hex);
    snprintf(path, 4096, "%s/domains/%s.domain", vault->dir, hex);
}

static bool is_zero(const uint8_t *bytes, size_t len)
{
    uint8_t all = 0;
    for (size_t i = 0; i < len; i++) {
        all |= bytes[i];
    }
    return all == 0;
}

/* ---- the list; domains_lock is held ---- */

static struct far_domain *find(const struct far_vault *vault, const uint8_t uuid[16])
{
    for (size_t i = 0; i < vault->domain_count; i++) {
        if (memcmp(vault->domains[i]->uuid, uuid, 16) == 0) {
            return vault->domains[i];
        }
    }
    return NULL;
}

static struct far_domain *find_numbered(const struct far_vault *vault, uint16_t number)
{
    for (size_t i = 0; i < vault->domain_count; i++) {
        if (vault->domains[i]->number == number) {
            return vault->domains[i];
        }
    }
    return NULL;
}

static int add(struct far_vault *vault, const uint8_t uuid[16], struct far_domain **ret_domain, struct far_error *err)
{
    if (vault->domain_count == FAR_DOMAINS_MAX) {
        return far_fail(err, FAR_LIMIT, "vault '%s' has %d domains, and can have no more", vault->dir, FAR_DOMAINS_MAX);
    }
    struct far_domain *domain = calloc(1, sizeof *domain);
    if (domain == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory for a domain");
    }
    domain->serial = atomic_fetch_add(&serials, 1) + 1;
    memcpy(domain->uuid, uuid, 16);
    memcpy(domain->vault_uuid, vault->uuid, 16);
    vault->domains[vault->domain_count++] = domain;
    *ret_domain = domain;
    return 0;
}

static void wipe(struct far_domain *domain)
{
    OPENSSL_cleanse(&domain->ids, sizeof domain->ids);
    OPENSSL_cleanse(domain->secret, sizeof domain->secret);
    OPENSSL_cleanse(domain->keys, sizeof domain->keys);
}

/* ---- files ---- */

static int read_one(const struct far_vault *vault, const uint8_t uuid[16], const char *path, struct far_buf *bytes,
                    struct far_domain_file *ret_file, struct far_error *err)
{
    int rc = far_file_read(path, bytes, err);
    if (rc == FAR_LIMIT) {
        rc = far_fail(err, FAR_CORRUPT, "it is too long");
    }
    rc = rc == 0 ? far_domain_file_decode(far_buf_slice(bytes), ret_file, err) : rc;
    bool of_here = rc == 0 && memcmp(ret_file->uuid, uuid, 16) == 0 && memcmp(ret_file->vault_uuid, vault->uuid, 16) == 0;
    if (rc == 0 && !of_here) {
        rc = far_fail(err, FAR_CORRUPT, "it is of another domain or vault");
    }
    return rc == FAR_CORRUPT ? far_error_context(err, "domain '%s'", path) : rc;
}

static void mend_file(const struct far_vault *vault, const char *path, const struct far_buf *bytes)
{
    if (!vault->read_only) {
        far_file_replace(path, bytes->data, bytes->len, 0600, NULL); /* what cannot be mended is no harm yet */
    }
}

/* bytes holds what the file's slices point to. The file is written first, then its copy: while the file is whole it is believed, whatever
 * the copy says, and who may write makes both that. FAR_NOT_FOUND: there is none. FAR_CORRUPT: there were, and none is whole. */
static int read_file(const struct far_vault *vault, const uint8_t uuid[16], struct far_buf *bytes, struct far_domain_file *ret_file,
                     struct far_error *err)
{
    char path[4096], copy_path[4096 + 8];
    struct far_buf copy_bytes;
    struct far_domain_file copy = {0};
    struct far_error cause, copy_cause; /* what a class comes from, also for who does not want to know */
    err = err != NULL ? err : &cause;
    path_of(vault, uuid, path);
    snprintf(copy_path, sizeof copy_path, "%s" COPY, path);
    far_buf_init(&copy_bytes, FAR_DOMAIN_FILE_MAX);
    int rc = read_one(vault, uuid, path, bytes, ret_file, err);
    int copy_rc = read_one(vault, uuid, copy_path, &copy_bytes, &copy, &copy_cause);
    bool is_behind = copy_rc != 0 || copy_bytes.len != bytes->len || memcmp(copy_bytes.data, bytes->data, bytes->len) != 0;
    if (rc == 0 && is_behind) {
        mend_file(vault, copy_path, bytes);
    } else if ((rc == FAR_CORRUPT || rc == FAR_NOT_FOUND) && copy_rc == 0) {
        struct far_buf unused = *bytes;
        *bytes = copy_bytes; /* what the slices point to */
        copy_bytes = unused;
        *ret_file = copy;
        mend_file(vault, path, bytes);
        rc = 0;
    } else if (rc == FAR_NOT_FOUND && copy_rc == FAR_CORRUPT) {
        rc = far_fail(err, FAR_CORRUPT, "domain '%s': it is gone, and its copy is damaged", path);
    }
    far_buf_done(&copy_bytes);
    return rc;
}

static int write_both(const char *path, const struct far_buf *bytes, struct far_error *err)
{
    char copy_path[4096 + 8];
    snprintf(copy_path, sizeof copy_path, "%s" COPY, path);
    int rc = far_file_replace(path, bytes->data, bytes->len, 0600, err);
    return rc == 0 ? far_file_replace(copy_path, bytes->data, bytes->len, 0600, err) : rc;
}

static int write_file(const struct far_vault *vault, const struct far_domain *domain, const struct far_domain_secrets *secrets,
                      uint32_t generation, const uint8_t key[32], struct far_error *err)
{
    char path[4096];
    struct far_buf bytes;
    struct far_domain_file file = {.number = domain->number, .generation = generation, .destroyed = secrets == NULL};
    memcpy(file.uuid, domain->uuid, 16);
    memcpy(file.vault_uuid, vault->uuid, 16);
    memcpy(file.name, domain->name, sizeof file.name);
    memcpy(file.recovery_public, domain->recovery_public, domain->has_recovery_key ? 32 : 0);
    far_buf_init(&bytes, FAR_DOMAIN_FILE_MAX);
    path_of(vault, domain->uuid, path);
    int rc = far_domain_file_encode(&file, secrets, key, &bytes, err);
    rc = rc == 0 ? write_both(path, &bytes, err) : rc;
    far_buf_done(&bytes);
    return rc;
}

/* ---- at open: what is there ---- */

static int note_domain(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err)
{
    struct far_buf bytes;
    struct far_domain_file file = {0};
    struct far_domain *domain;
    int rc = find(vault, uuid) == NULL ? add(vault, uuid, &domain, err) : FAR_CONFLICT;
    if (rc != 0) {
        return rc == FAR_CONFLICT ? 0 : rc;
    }
    far_buf_init(&bytes, FAR_DOMAIN_FILE_MAX);
    bool good = read_file(vault, uuid, &bytes, &file, NULL) == 0;
    far_buf_done(&bytes);
    domain->state = !good ? FAR_DOMAIN_DAMAGED : file.destroyed ? FAR_DOMAIN_DESTROYED : FAR_DOMAIN_LOCKED;
    if (good) {
        domain->number = file.number;
        domain->generation = file.generation;
        memcpy(domain->name, file.name, sizeof domain->name);
        domain->has_recovery_key = !is_zero(file.recovery_public, 32);
        memcpy(domain->recovery_public, file.recovery_public, 32);
    }
    return 0;
}

int far_vault_domains_list(struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    uint8_t uuid[16];
    int rc = 0;
    snprintf(path, sizeof path, "%s/domains", vault->dir);
    DIR *folder = opendir(path);
    if (folder == NULL) {
        return errno == ENOENT ? 0 : far_fail_errno(err, FAR_IO, errno, "open folder '%s'", path);
    }
    struct dirent *entry;
    while (rc == 0 && (entry = readdir(folder)) != NULL) {
        const char *end = entry->d_name + (strlen(entry->d_name) > 32 ? 32 : 0);
        if ((strcmp(end, ".domain") == 0 || strcmp(end, ".domain" COPY) == 0) &&
            far_hex_decode(entry->d_name, 32, uuid, 16)) {
            rc = note_domain(vault, uuid, err);
        }
    }
    closedir(folder);
    return rc;
}

void far_vault_domains_done(struct far_vault *vault)
{
    for (size_t i = 0; i < vault->domain_count; i++) {
        wipe(vault->domains[i]);
        free(vault->domains[i]);
    }
    vault->domain_count = 0;
}

/* ---- unlocking; domains_lock is held ---- */

static int use_secrets(struct far_domain *domain, const struct far_domain_secrets *secrets, struct far_error *err)
{
    int rc = far_id_key_init(&domain->ids, domain->uuid, secrets->secret, err);
    if (rc == 0) {
        memcpy(domain->secret, secrets->secret, 32);
        memcpy(domain->keys, secrets->keys, secrets->key_count * sizeof secrets->keys[0]);
        atomic_store_explicit(&domain->key_count, secrets->key_count, memory_order_release);
        atomic_store_explicit(&domain->usable, true, memory_order_release);
        domain->state = FAR_DOMAIN_UNLOCKED;
    }
    return rc;
}

/* What seals a file that was reset: generation 0, a key of the domain's secret, which every order brings. */
static int reset_key(const uint8_t uuid[16], const uint8_t secret[32], uint8_t ret_key[32], struct far_error *err)
{
    return far_hkdf(secret, far_slice(uuid, 16), "farshore domain reset", ret_key, err);
}

static int open_reset(const struct far_domain_file *file, const struct far_domain_keys *keys, struct far_domain_secrets *secrets,
                      struct far_error *err)
{
    uint8_t key[32];
    int rc = reset_key(file->uuid, keys->secret, key, err);
    rc = rc == 0 ? far_domain_file_open(file, key, secrets, err) : rc;
    OPENSSL_cleanse(key, sizeof key);
    return rc;
}

/* Of the two keys of an order the one that the file is sealed with. */
static int open_with(const struct far_domain_file *file, const struct far_domain_keys *keys, struct far_domain_secrets *secrets,
                     struct far_error *err)
{
    int rc = file->generation == 0 ? open_reset(file, keys, secrets, err) : far_domain_file_open(file, keys->key, secrets, err);
    if (rc == FAR_DENIED && keys->old_generation != 0) {
        rc = far_domain_file_open(file, keys->old_key, secrets, err);
    }
    if (rc == 0 && CRYPTO_memcmp(secrets->secret, keys->secret, 32) != 0) {
        rc = far_fail(err, FAR_DENIED, "the secret of the domain is another one than was ordered");
    }
    if (rc != 0) {
        far_error_context(err, "domain '%s' (key of generation %u in the vault, %u ordered)", file->name, file->generation,
                          keys->generation);
    }
    return rc;
}

static int unlock(struct far_vault *vault, struct far_domain *domain, const struct far_domain_keys *keys, struct far_error *err)
{
    struct far_buf bytes;
    struct far_domain_file file;
    struct far_domain_secrets secrets = {0};
    far_buf_init(&bytes, FAR_DOMAIN_FILE_MAX);
    int rc = read_file(vault, domain->uuid, &bytes, &file, err);
    rc = rc == 0 ? open_with(&file, keys, &secrets, err) : rc;
    rc = rc == 0 ? use_secrets(domain, &secrets, err) : rc;
    if (rc == 0) {
        domain->generation = file.generation; /* another process may have brought it further since the vault was opened */
    }
    OPENSSL_cleanse(&secrets, sizeof secrets);
    far_buf_done(&bytes);
    return rc;
}

static void secrets_of(const struct far_domain *domain, struct far_domain_secrets *secrets)
{
    memcpy(secrets->secret, domain->secret, 32);
    secrets->key_count = atomic_load(&domain->key_count);
    memcpy(secrets->keys, domain->keys, sizeof secrets->keys);
}

/* Sealed with the newest key; packs from the next one on have a new wrapping key. */
static int bring_to(struct far_vault *vault, struct far_domain *domain, const struct far_domain_keys *keys, struct far_error *err)
{
    struct far_domain_secrets secrets;
    bool had_recovery_key = domain->has_recovery_key;
    secrets_of(domain, &secrets);
    if (keys->has_recovery_key) {
        domain->has_recovery_key = true;
        memcpy(domain->recovery_public, keys->recovery_public, 32);
    }
    pthread_mutex_lock(&vault->lock);
    if (secrets.key_count < FAR_DOMAIN_KEYS_MAX) {
        struct far_wrapping_key *next = &secrets.keys[secrets.key_count++];
        const struct far_wrapping_key *last = next - 1;
        next->generation = keys->generation;
        next->first_pack = vault->packs.last + 1 > last->first_pack ? vault->packs.last + 1 : last->first_pack;
        far_random_bytes(next->key, sizeof next->key);
    }
    int rc = write_file(vault, domain, &secrets, keys->generation, keys->key, err);
    if (rc == 0) {
        memcpy(domain->keys, secrets.keys, sizeof domain->keys);
        atomic_store_explicit(&domain->key_count, secrets.key_count, memory_order_release);
        domain->generation = keys->generation;
    }
    pthread_mutex_unlock(&vault->lock);
    OPENSSL_cleanse(&secrets, sizeof secrets);
    domain->has_recovery_key = rc == 0 ? domain->has_recovery_key : had_recovery_key;
    return rc == 0 ? 0 : far_error_context(err, "bring domain '%s' to its key of generation %u", domain->name, keys->generation);
}

static uint16_t free_number(const struct far_vault *vault)
{
    uint16_t number = 0;
    for (size_t i = 0; i < vault->domain_count; i++) {
        number = vault->domains[i]->number > number ? vault->domains[i]->number : number;
    }
    return (uint16_t)(number + 1);
}

/* One with a file that cannot be read has a number that nobody knows: records of it must not come to be another domain's. */
static int check_numbers(const struct far_vault *vault, struct far_error *err)
{
    char path[4096];
    for (size_t i = 0; i < vault->domain_count; i++) {
        if (vault->domains[i]->number == 0) {
            path_of(vault, vault->domains[i]->uuid, path);
            return far_fail(err, FAR_CORRUPT, "no new domain is made while the file of another one is damaged: '%s'", path);
        }
    }
    return 0;
}

static int make(struct far_vault *vault, const struct far_domain_keys *keys, struct far_domain **ret_domain, struct far_error *err)
{
    char path[4096];
    struct far_domain *domain = NULL;
    struct far_domain_secrets secrets = {.key_count = 1};
    uint16_t number = free_number(vault);
    snprintf(path, sizeof path, "%s/domains", vault->dir);
    int rc = check_numbers(vault, err);
    rc = rc == 0 ? far_vault_check_writable(vault, err) : rc;
    rc = rc == 0 ? far_vault_mark_keyed(vault, err) : rc;
    rc = rc == 0 ? far_file_make_dir(path, err) : rc;
    rc = rc == 0 ? add(vault, keys->uuid, &domain, err) : rc;
    if (rc != 0) {
        return rc;
    }
    domain->number = number;
    domain->generation = keys->generation;
    memcpy(domain->name, keys->name, sizeof domain->name);
    domain->has_recovery_key = keys->has_recovery_key;
    memcpy(domain->recovery_public, keys->recovery_public, 32);
    memcpy(secrets.secret, keys->secret, 32);
    secrets.keys[0].generation = keys->generation;
    far_random_bytes(secrets.keys[0].key, 32);
    rc = write_file(vault, domain, &secrets, keys->generation, keys->key, err);
    rc = rc == 0 ? use_secrets(domain, &secrets, err) : rc;
    OPENSSL_cleanse(&secrets, sizeof secrets);
    if (rc != 0) {
        vault->domain_count--;
        wipe(domain);
        free(domain);
        return rc;
    }
    *ret_domain = domain;
    return 0;
}

static int open_domain(struct far_vault *vault, const struct far_domain_keys *keys, struct far_domain **ret_domain,
                       struct far_error *err)
{
    struct far_domain *domain = find(vault, keys->uuid);
    int rc = 0;
    if (domain == NULL) {
        return vault->read_only ? far_fail(err, FAR_NOT_FOUND, "vault '%s' has no domain '%s'", vault->dir, keys->name)
                                : make(vault, keys, ret_domain, err);
    }
    if (domain->state == FAR_DOMAIN_DESTROYED) {
        return far_fail(err, FAR_CONFLICT, "domain '%s' was destroyed in vault '%s'", domain->name, vault->dir);
    }
    if (domain->state != FAR_DOMAIN_UNLOCKED) {
        rc = unlock(vault, domain, keys, err);
    } else if (CRYPTO_memcmp(domain->secret, keys->secret, 32) != 0) {
        rc = far_fail(err, FAR_DENIED, "domain '%s': the secret of the domain is another one than was ordered", domain->name);
    }
    if (rc == 0 && keys->generation > domain->generation && !vault->read_only) {
        rc = far_vault_check_writable(vault, err);
        rc = rc == 0 ? bring_to(vault, domain, keys, err) : rc;
    }
    if (rc == 0) {
        *ret_domain = domain;
    }
    return rc;
}

int far_vault_domain_open(struct far_vault *vault, const struct far_domain_keys *keys, const struct far_domain **ret_domain,
                          struct far_error *err)
{
    struct far_domain *domain = NULL;
    if (keys->generation == 0 || is_zero(keys->uuid, 16) || memchr(keys->name, 0, sizeof keys->name) == NULL) {
        return far_fail(err, FAR_INVALID, "keys of a domain without generation, uuid or name");
    }
    pthread_mutex_lock(&vault->domains_lock);
    int rc = open_domain(vault, keys, &domain, err);
    pthread_mutex_unlock(&vault->domains_lock);
    if (rc == 0) {
        *ret_domain = domain;
    }
    return rc;
}

int far_vault_domain_carry(struct far_vault *vault, const struct far_domain *from, const struct far_domain **ret_domain,
                           struct far_error *err)
{
    struct far_domain_keys keys = {.generation = 0, .has_recovery_key = from->has_recovery_key};
    struct far_domain *domain = NULL;
    memcpy(keys.uuid, from->uuid, 16);
    memcpy(keys.name, from->name, sizeof keys.name);
    memcpy(keys.secret, from->secret, 32);
    memcpy(keys.recovery_public, from->recovery_public, 32);
    int rc = reset_key(keys.uuid, keys.secret, keys.key, err);
    pthread_mutex_lock(&vault->domains_lock);
    if (rc == 0 && find(vault, keys.uuid) != NULL) {
        rc = far_fail(err, FAR_CONFLICT, "vault '%s' has domain '%s' already", vault->dir, keys.name);
    }
    rc = rc == 0 ? make(vault, &keys, &domain, err) : rc;
    pthread_mutex_unlock(&vault->domains_lock);
    OPENSSL_cleanse(&keys, sizeof keys);
    if (rc == 0) {
        *ret_domain = domain;
    }
    return rc;
}

/* ---- the recovery key ---- */

static int recover_one(struct far_vault *vault, struct far_domain *domain, const uint8_t recovery_private[32], struct far_error *err)
{
    struct far_buf bytes;
    struct far_domain_file file;
    struct far_domain_secrets secrets = {0};
    far_buf_init(&bytes, FAR_DOMAIN_FILE_MAX);
    int rc = read_file(vault, domain->uuid, &bytes, &file, err);
    rc = rc == 0 ? far_domain_file_recover(&file, recovery_private, &secrets, err) : rc;
    rc = rc == 0 ? use_secrets(domain, &secrets, err) : rc;
    OPENSSL_cleanse(&secrets, sizeof secrets);
    far_buf_done(&bytes);
    return rc != 0 ? far_error_context(err, "domain '%s'", domain->name) : 0;
}

int far_vault_domains_recover(struct far_vault *vault, const uint8_t recovery_private[32], struct far_error *err)
{
    struct far_error cause;
    size_t locked = 0, opened = 0;
    pthread_mutex_lock(&vault->domains_lock);
    for (size_t i = 0; i < vault->domain_count; i++) {
        struct far_domain *domain = vault->domains[i];
        if (domain->state == FAR_DOMAIN_LOCKED) {
            locked++;
            opened += recover_one(vault, domain, recovery_private, &cause) == 0;
        }
    }
    pthread_mutex_unlock(&vault->domains_lock);
    if (locked > 0 && opened == 0) {
        if (err != NULL) {
            *err = cause;
        }
        return cause.klass;
    }
    return 0;
}

int far_vault_domains_reset(struct far_vault *vault, const char *recovery_key_file, size_t *ret_count, struct far_error *err)
{
    size_t count = 0;
    int rc = far_vault_check_writable(vault, err);
    rc = rc == 0 ? far_vault_unlock_from(vault, recovery_key_file, err) : rc;
    pthread_mutex_lock(&vault->domains_lock);
    for (size_t i = 0; rc == 0 && i < vault->domain_count; i++) {
        struct far_domain *domain = vault->domains[i];
        struct far_domain_secrets secrets;
        uint8_t key[32];
        if (domain->state != FAR_DOMAIN_UNLOCKED) {
            continue;
        }
        secrets_of(domain, &secrets);
        rc = reset_key(domain->uuid, domain->secret, key, err);
        rc = rc == 0 ? write_file(vault, domain, &secrets, 0, key, err) : rc;
        domain->generation = rc == 0 ? 0 : domain->generation;
        count += rc == 0;
        OPENSSL_cleanse(key, sizeof key);
        OPENSSL_cleanse(&secrets, sizeof secrets);
    }
    pthread_mutex_unlock(&vault->domains_lock);
    if (rc == 0) {
        *ret_count = count;
    }
    return rc;
}

int far_vault_domain_secret(struct far_vault *vault, const uint8_t uuid[16], uint8_t ret_secret[32], struct far_error *err)
{
    pthread_mutex_lock(&vault->domains_lock);
    const struct far_domain *domain = find(vault, uuid);
    bool is_open = domain != NULL && domain->state == FAR_DOMAIN_UNLOCKED;
    if (is_open) {
        memcpy(ret_secret, domain->secret, 32);
    }
    pthread_mutex_unlock(&vault->domains_lock);
    return is_open ? 0 : far_fail(err, FAR_DENIED, "the domain is locked, or not in this vault");
}

/* ---- the end of one ---- */

int far_vault_domain_destroy(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err)
{
    int rc = far_vault_check_writable(vault, err);
    rc = rc == 0 ? far_vault_lock_check_domain(vault, uuid, err) : rc;
    if (rc != 0) {
        return rc;
    }
    pthread_mutex_lock(&vault->domains_lock);
    struct far_domain *domain = find(vault, uuid);
    bool there = domain != NULL && domain->state != FAR_DOMAIN_DESTROYED;
    if (there && domain->number == 0) {
        rc = far_fail(err, FAR_CORRUPT, "the file of the domain is damaged: its number is not known");
    } else if (there) {
        rc = write_file(vault, domain, NULL, domain->generation, NULL, err);
    }
    if (there && rc == 0) {
        domain->state = FAR_DOMAIN_DESTROYED;
        atomic_store(&domain->usable, false); /* who reads it now still may end; its keys are wiped when the vault is closed */
    }
    bool is_destroyed = domain != NULL && domain->state == FAR_DOMAIN_DESTROYED;
    pthread_mutex_unlock(&vault->domains_lock);
    if (rc == 0 && is_destroyed) { /* asked once more, it goes there once more */
        char hex[33], name[64];
        far_hex_encode(uuid, 16, hex);
        snprintf(name, sizeof name, "domains/%s.domain", hex);
        rc = far_remote_push(vault, name, err);
        rc = rc == 0 ? far_remote_drop_versions(vault, name, err) : rc; /* its keys are in them */
    }
    return rc;
}

/* ---- looking ---- */

/* domains_lock is held; domain may be NULL. */
static int check_found(const struct far_vault *vault, const struct far_domain *domain, const char *what, struct far_error *err)
{
    char path[4096];
    if (domain == NULL) {
        return far_fail(err, FAR_NOT_FOUND, "vault '%s' has no domain %s", vault->dir, what);
    }
    path_of(vault, domain->uuid, path);
    switch (domain->state) {
    case FAR_DOMAIN_UNLOCKED:
        return 0;
    case FAR_DOMAIN_DESTROYED:
        return far_fail(err, FAR_CONFLICT, "domain '%s' was destroyed: nothing of it can be read any more", domain->name);
    case FAR_DOMAIN_DAMAGED:
        return far_fail(err, FAR_DENIED, "the keys of a domain are damaged: '%s'", path);
    default:
        return far_fail(err, FAR_DENIED, "domain '%s' is encrypted, and its key is not here (an order brings it, or the recovery key)",
                        domain->name);
    }
}

int far_vault_domain_find(struct far_vault *vault, const uint8_t uuid[16], const struct far_domain **ret_domain,
                          struct far_error *err)
{
    char hex[33];
    if (is_zero(uuid, 16)) {
        *ret_domain = NULL;
        return 0;
    }
    far_hex_encode(uuid, 16, hex);
    pthread_mutex_lock(&vault->domains_lock);
    const struct far_domain *domain = find(vault, uuid);
    int rc = check_found(vault, domain, hex, err);
    pthread_mutex_unlock(&vault->domains_lock);
    if (rc == 0) {
        *ret_domain = domain;
    }
    return rc;
}

int far_vault_domain_numbered(struct far_vault *vault, uint16_t number, const struct far_domain **ret_domain,
                              struct far_error *err)
{
    char text[16];
    if (number == 0) {
        *ret_domain = NULL;
        return 0;
    }
    snprintf(text, sizeof text, "number %u", number);
    pthread_mutex_lock(&vault->domains_lock);
    const struct far_domain *domain = find_numbered(vault, number);
    int rc = check_found(vault, domain, text, err);
    pthread_mutex_unlock(&vault->domains_lock);
    if (rc == 0) {
        *ret_domain = domain;
    }
    return rc;
}

static int compare_infos(const void *a, const void *b)
{
    const struct far_domain_info *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

size_t far_vault_domains(struct far_vault *vault, struct far_domain_info *ret_infos, size_t max)
{
    size_t count = 0;
    pthread_mutex_lock(&vault->domains_lock);
    for (; count < vault->domain_count && count < max; count++) {
        const struct far_domain *domain = vault->domains[count];
        struct far_domain_info *info = &ret_infos[count];
        *info = (struct far_domain_info){.number = domain->number, .state = domain->state, .generation = domain->generation};
        memcpy(info->uuid, domain->uuid, 16);
        memcpy(info->name, domain->name, sizeof info->name);
        info->key_count = atomic_load(&domain->key_count);
    }
    pthread_mutex_unlock(&vault->domains_lock);
    qsort(ret_infos, count, sizeof *ret_infos, compare_infos);
    return count;
}

uint32_t far_domain_generation(struct far_vault *vault, const struct far_domain *domain)
{
    pthread_mutex_lock(&vault->domains_lock);
    uint32_t generation = domain != NULL ? domain->generation : 0;
    pthread_mutex_unlock(&vault->domains_lock);
    return generation;
}

bool far_vault_domain_is_lost(struct far_vault *vault, const uint8_t uuid[16], struct far_error *err)
{
    const struct far_domain *domain;
    struct far_domain_file file;
    struct far_buf bytes;
    struct far_error cause;
    if (is_zero(uuid, 16)) {
        return false;
    }
    int rc = far_vault_domain_find(vault, uuid, &domain, &cause);
    far_buf_init(&bytes, FAR_DOMAIN_FILE_MAX);
    pthread_mutex_lock(&vault->domains_lock);
    domain = find(vault, uuid);
    bool is_lost = rc == FAR_DENIED && domain != NULL && domain->state == FAR_DOMAIN_DAMAGED;
    if (rc == FAR_NOT_FOUND) { /* who only reads may have been there before it was made */
        is_lost = read_file(vault, uuid, &bytes, &file, NULL) != 0;
    }
    pthread_mutex_unlock(&vault->domains_lock);
    far_buf_done(&bytes);
    if (is_lost && err != NULL) {
        *err = cause;
    }
    return is_lost;
}
