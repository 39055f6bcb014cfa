/* The index of a pack in the store: which records it has, so that nobody has to read the pack to know; see remote.h, bytes in
 * FORMATS.md. */
#include "dataplane/remote_private.h"

#include "base/hash.h"

#include <stdio.h>
#include <unistd.h>

enum { HEADER_BYTES = 64, ENTRY_BYTES = 48, VERSION = 0 };
#define INDEX_BYTES_MAX (1ull << 30)
static const char magic[8] = "FARPKIDX";

/* ---- made from a pack's file ---- */

struct making {
    struct far_buf *bytes;
    uint64_t count;
};

static int add_record(void *arg, struct far_place place, const struct far_record *record, struct far_error *err)
{
    struct making *making = arg;
    uint8_t entry[ENTRY_BYTES] = {0};
    if (record->type == FAR_RECORD_SEAL) {
        return 0;
    }
    memcpy(entry, record->id.bytes, 32);
    far_put_le64(entry + 32, place.offset);
    far_put_le32(entry + 40, record->stored_len);
    entry[44] = record->type;
    entry[45] = record->codec;
    far_put_le16(entry + 46, record->domain);
    making->count++;
    return far_buf_append(making->bytes, entry, sizeof entry) == 0 ? 0 : far_fail(err, FAR_LIMIT, "the index of a pack is too large");
}

int far_remote_index_make(struct far_vault *vault, uint32_t number, int fd, uint64_t size, struct far_buf *ret_bytes,
                          struct far_error *err)
{
    uint8_t header[HEADER_BYTES] = {0}, sum[8];
    struct making making = {.bytes = ret_bytes};
    struct far_dead_list dead;
    struct far_pack_visitor visitor = {.arg = &making, .dead = &dead, .record = add_record};
    char path[4096];
    uint64_t end;
    bool sealed;
    far_packs_path(&vault->packs, number, path, sizeof path);
    far_buf_init(ret_bytes, INDEX_BYTES_MAX);
    int rc = far_dead_read(&vault->packs, number, &dead, err);
    rc = rc == FAR_CORRUPT ? 0 : rc; /* its zeroes are skipped as what cannot be read */
    rc = rc == 0 && far_buf_append(ret_bytes, header, sizeof header) != 0 ? far_fail(err, FAR_LIMIT, "no memory for an index") : rc;
    rc = rc == 0 ? far_pack_scan(fd, path, number, FAR_PACK_HEADER_BYTES, size, false, &visitor, &end, &sealed, err) : rc;
    far_dead_done(&dead);
    if (rc != 0) {
        return rc;
    }
    memcpy(ret_bytes->data, magic, 8);
    far_put_le32(ret_bytes->data + 8, VERSION);
    far_put_le32(ret_bytes->data + 12, number);
    memcpy(ret_bytes->data + 16, vault->uuid, 16);
    far_put_le64(ret_bytes->data + 32, making.count);
    far_put_le64(ret_bytes->data + 40, size);
    far_put_le64(sum, far_hash64(ret_bytes->data, ret_bytes->len));
    return far_buf_append(ret_bytes, sum, sizeof sum) == 0 ? 0 : far_fail(err, FAR_LIMIT, "no memory for an index");
}

/* ---- read ---- */

static bool is_good(const struct far_vault *vault, uint32_t number, uint64_t size, struct far_slice index)
{
    const uint8_t *b = index.data;
    return index.len >= HEADER_BYTES + 8 && memcmp(b, magic, 8) == 0 && far_get_le32(b + 8) == VERSION &&
           far_get_le32(b + 12) == number && memcmp(b + 16, vault->uuid, 16) == 0 && far_get_le64(b + 40) == size &&
           (index.len - HEADER_BYTES - 8) / ENTRY_BYTES == far_get_le64(b + 32) && (index.len - HEADER_BYTES - 8) % ENTRY_BYTES == 0 &&
           far_get_le64(b + index.len - 8) == far_hash64(b, index.len - 8);
}

static int visit(uint32_t number, uint64_t from, uint64_t to, struct far_slice index, const struct far_pack_visitor *visitor,
                 struct far_error *err)
{
    int rc = 0;
    for (const uint8_t *e = index.data + HEADER_BYTES; rc == 0 && e + ENTRY_BYTES + 8 <= index.data + index.len; e += ENTRY_BYTES) {
        struct far_record record = {.type = e[44], .codec = e[45], .domain = far_get_le16(e + 46), .stored_len = far_get_le32(e + 40)};
        struct far_place place = {.pack = number, .offset = far_get_le64(e + 32), .length = FAR_RECORD_HEADER_BYTES + record.stored_len};
        memcpy(record.id.bytes, e, 32);
        bool wanted = place.offset >= from && place.offset < to && record.stored_len <= FAR_RECORD_PAYLOAD_MAX &&
                      far_dead_end(visitor->dead, place.offset) == place.offset;
        rc = wanted ? visitor->record(visitor->arg, place, &record, err) : 0;
    }
    return rc;
}

static int scan_pack(struct far_vault *vault, uint32_t number, uint64_t from, uint64_t to, const struct far_pack_visitor *visitor,
                     uint64_t *ret_end, bool *ret_sealed, struct far_error *err)
{
    char path[4096];
    int fd;
    far_packs_path(&vault->packs, number, path, sizeof path);
    int rc = far_remote_fetch(vault, number, &fd, err);
    if (rc == 0) {
        rc = far_pack_scan(fd, path, number, from, to, false, visitor, ret_end, ret_sealed, err);
        close(fd);
    }
    return rc;
}

int far_remote_scan(struct far_vault *vault, uint32_t number, uint64_t from, uint64_t to, const struct far_pack_visitor *visitor,
                    uint64_t *ret_end, bool *ret_sealed, struct far_error *err)
{
    struct far_remote *remote = vault->remote;
    char key[FAR_REMOTE_NAME_MAX];
    struct far_buf index;
    pthread_mutex_lock(&remote->lock);
    const struct far_remote_pack *pack = far_remote_find(remote, number);
    uint64_t size = pack != NULL ? pack->size : 0;
    uint32_t epoch = pack != NULL ? pack->epoch : 0;
    pthread_mutex_unlock(&remote->lock);
    *ret_end = size;
    *ret_sealed = true;
    far_buf_init(&index, INDEX_BYTES_MAX);
    far_remote_key(number, epoch, ".idx", key, sizeof key);
    int rc = far_objects_read(remote->objects, key, INDEX_BYTES_MAX, &index, NULL, err);
    if (rc == 0 && is_good(vault, number, size, far_buf_slice(&index))) {
        rc = visit(number, from, to, far_buf_slice(&index), visitor, err);
    } else if (rc == 0 || rc == FAR_NOT_FOUND || rc == FAR_LIMIT) {
        rc = scan_pack(vault, number, from, to < size ? to : size, visitor, ret_end, ret_sealed, err);
    }
    far_buf_done(&index);
    return rc;
}
