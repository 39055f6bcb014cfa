/* Packs: the append-only files of the vault, and the records in them.
 *
 * A pack is a header of 64 bytes and records of a header of 64 bytes plus payload. Only the last pack grows; when it is
 * full it ends with a `seal` record, is synced, and never changes again. Formats: pure functions, any thread. The set of
 * packs (struct far_packs) is guarded by the vault's lock. Bytes in docs/FORMATS.md. */
#ifndef FAR_DATAPLANE_PACK_H
#define FAR_DATAPLANE_PACK_H

#include "dataplane/vault.h"

enum {
    FAR_PACK_HEADER_BYTES = 64,
    FAR_RECORD_HEADER_BYTES = 64,
    FAR_SEALED_OVERHEAD = 12 + 16, /* of an encrypted payload: nonce and tag */
    FAR_RECORD_PAYLOAD_MAX = FAR_BLOCK_BYTES + FAR_SEALED_OVERHEAD,
    FAR_PACK_BUFFER_BYTES = 512 << 10, /* stays in a core's cache until it is written */
    FAR_PACK_FILES_MAX = 32, /* open for reading at once */
};

enum far_record_type {
    FAR_RECORD_BLOCK = 1, /* id = leaf */
    FAR_RECORD_PAGE = 2,  /* id = hash of the page; payload 256 x 32 bytes */
    FAR_RECORD_ROOT = 3,  /* id = root; payload: version, block size, disk size, top */
    FAR_RECORD_SEAL = 4,  /* id zero; payload: bytes before it. Nothing follows. */
};

struct far_record {
    uint8_t type;  /* enum far_record_type */
    uint8_t codec; /* enum far_codec */
    uint16_t domain;   /* number in this vault; 0: the plain one */
    uint32_t key_pack; /* encrypted: number of the pack whose data key it has; it may have been moved since */
    uint32_t stored_len;
    uint32_t raw_len;
    struct far_hash256 id; /* in the store: far_domain_id() */
    uint64_t sum; /* XXH3 of the stored bytes */
};

/* A position in the packs: everything before it, in order of pack and offset. */
struct far_place {
    uint32_t pack; /* 1… ; 0 = nowhere */
    uint32_t length; /* of a record: header and payload */
    uint64_t offset;
};
static inline bool far_place_before(struct far_place a, struct far_place b)
{
    return a.pack != b.pack ? a.pack < b.pack : a.offset < b.offset;
}

void far_record_encode(const struct far_record *record, uint8_t ret_header[FAR_RECORD_HEADER_BYTES]);
/* FAR_CORRUPT: no record starts here, or its header is damaged. */
int far_record_decode(const uint8_t header[FAR_RECORD_HEADER_BYTES], struct far_record *ret_record,
                      struct far_error *err);
/* The stored bytes, as they are, have the sum that the header names. FAR_CORRUPT. */
int far_record_check(const struct far_record *record, const void *stored, struct far_error *err);
/* Uncompress what was checked (and decrypted) into raw_max bytes. FAR_CORRUPT. */
int far_record_unpack(const struct far_record *record, const void *packed, size_t len, void *ret_raw, size_t raw_max,
                      struct far_error *err);
/* Both, of a record that is not encrypted. */
int far_record_open(const struct far_record *record, const void *stored, void *ret_raw, size_t raw_max,
                    struct far_error *err);
void far_pack_header_encode(uint32_t number, const uint8_t vault_uuid[16], uint8_t ret_header[FAR_PACK_HEADER_BYTES]);
/* FAR_CORRUPT: not the pack with this number of this vault. */
int far_pack_header_decode(const uint8_t header[FAR_PACK_HEADER_BYTES], uint32_t number, const uint8_t vault_uuid[16],
                           struct far_error *err);

/* ---- scanning ---- */

struct far_dead_list;

struct far_pack_visitor {
    void *arg;
    const struct far_dead_list *dead; /* ranges that are not looked at (vault_dead.h); NULL: none */
    /* Each good record. A result other than 0 stops and is returned. */
    int (*record)(void *arg, struct far_place place, const struct far_record *record, struct far_error *err);
    /* A damaged place (NULL: not wanted), in words that name pack and offset; id may be NULL. */
    void (*damage)(void *arg, struct far_place place, const struct far_hash256 *id, const char *text);
};
/* Walk the records of [from, to) of a pack. strict: check the payloads too and stop at the first byte that is not good;
 * else a damaged record is told and the walk goes on at the next good header. *ret_end: where it stopped. *ret_sealed:
 * a seal record was the last one seen. */
int far_pack_scan(int fd, const char *path, uint32_t number, uint64_t from, uint64_t to, bool strict,
                  const struct far_pack_visitor *visitor, uint64_t *ret_end, bool *ret_sealed, struct far_error *err);

/* ---- the set of packs ---- */

struct far_pack_file {
    uint32_t number; /* 0 = free */
    uint32_t users;
    int fd;
    uint64_t used_at; /* tick of the last use */
};

struct far_packs {
    char dir[3072];
    uint8_t vault_uuid[16];
    uint64_t pack_bytes_max;
    uint32_t first; /* number of the oldest pack; 0 = there is none */
    uint32_t last;
    bool last_sealed;
    bool sync_failed; /* what was written may be gone: write no more */
    int write_fd; /* of the last pack, -1 when it is sealed or there is none */
    uint64_t written;  /* bytes of the last pack that are in the file */
    uint64_t total_bytes; /* of all packs, the buffer not counted */
    uint64_t dead_bytes;  /* of them: in dead ranges, given back */
    uint32_t removed;     /* packs between first and last that are gone */
    uint8_t *buffer; /* what follows `written` */
    size_t buffered;
    uint64_t tick;
    struct far_pack_file files[FAR_PACK_FILES_MAX];
};

int far_packs_init(struct far_packs *packs, const char *dir, const uint8_t vault_uuid[16], uint64_t pack_bytes_max,
                   struct far_error *err);
void far_packs_done(struct far_packs *packs);
/* As far_packs_init() left it. */
void far_packs_restart(struct far_packs *packs);
void far_packs_path(const struct far_packs *packs, uint32_t number, char *path, size_t len);
/* Append one record; *ret_place is where it will be. FAR_LIMIT: no space, nothing was appended. */
int far_packs_append(struct far_packs *packs, const struct far_record *record, const void *stored,
                     struct far_place *ret_place, struct far_error *err);
/* Hand the buffer to the kernel. What could not be written stays buffered. */
int far_packs_flush(struct far_packs *packs, struct far_error *err);
/* The last pack is complete, unless nothing is in it: the next record begins another. */
int far_packs_finish(struct far_packs *packs, struct far_error *err);
/* Where the next record goes. */
struct far_place far_packs_end(const struct far_packs *packs);
/* If the record is still in the buffer, copies it and returns true. */
bool far_packs_read_buffer(const struct far_packs *packs, struct far_place place, void *ret_bytes);
/* A file to read from: opened or found open, in use until far_packs_put_file(). */
int far_packs_get_file(struct far_packs *packs, uint32_t number, int *ret_fd, struct far_error *err);
void far_packs_put_file(struct far_packs *packs, uint32_t number, int fd);
/* The pack is gone: no file of it is kept open but those in use. */
void far_packs_drop_file(struct far_packs *packs, uint32_t number);

#endif
