/* The frames of a transfer between two nodes (docs/FORMATS.md, "transfer"): pure encoding and decoding.
 *
 * A frame is a header of 24 bytes, a head (fixed little-endian fields, checked by XXH3 in the header) and, for DATA
 * only, a bulk: the stored bytes of at most 16 blocks, each with an XXH3 of its own in the head. A transfer has a session
 * and in it several connections; whatever is asked on one is answered on the same. On each the source speaks first:
 * HELLO (on a connection that the target dialed, after its KNOCK); the target answers WELCOME or ERROR, which a far source that
 * begins from nothing does not wait for. Then both sides
 * talk without turns:
 *
 *   source -> target  OFFER  a group: at most 16 changed blocks with their ids, and runs of blocks that read as zero
 *   target -> source  WANT   which slots of a group the target lacks, of some with the checksums of the pages that it has;
 *                            nothing wanted: the group is settled. Of a group whose data came: once more, whole
 *   source -> target  DATA   wanted blocks of one group, or of a block the pages that differ; each once, in one frame or several
 *   target -> source  ACK    groups whose data is stored
 *   source -> target  MARK   everything below this block is settled
 *   target -> source  DURABLE everything below this block survives a crash of the target
 *   target -> source  CREDIT how many groups may be open, and how many bytes of DATA sent and not acknowledged
 *   source -> target  PAGE_ASK a page of the base point's tree; target -> source PAGE: it
 *   either way        PING   I am alive; ERROR: why I stop
 *   source -> target  FIN     every group was offered, answered, and what was wanted of it sent: when the last of it is
 *                            stored, everything is settled
 *   target -> source  FIN_ACK complete and durable
 *
 * No frame carries the root of the view: each side tells its own to the log. Values only, no allocation, any thread.
 * Decoders accept any bytes and answer FAR_INVALID on those that are no frame. */
#ifndef FAR_DATAPLANE_TRANSFER_FRAMES_H
#define FAR_DATAPLANE_TRANSFER_FRAMES_H

#include "base/bytes.h"
#include "base/error.h"

enum {
    FAR_TRANSFER_VERSION = 1,
    FAR_TRANSFER_BLOCK = 64 * 1024,
    FAR_TRANSFER_GROUP = 16,      /* blocks of one offer, and of one DATA frame */
    FAR_TRANSFER_RUNS_MAX = 64,   /* zero runs of one offer */
    FAR_TRANSFER_WANTS_MAX = 256, /* answers in one WANT frame, groups in one ACK */
    FAR_TRANSFER_PAGE = 4096,     /* the unit of difference inside a block */
    FAR_TRANSFER_PAGES = 16,      /* of a block */
    FAR_TRANSFER_SLOTS = 1024,    /* groups open at once, at most: the low bits of a group's number */
    FAR_TRANSFER_LANES_MAX = 8,   /* connections of a session */
    FAR_TRANSFER_HEADER = 24,
    FAR_TRANSFER_HEAD_MAX = 16 * 1024,
    FAR_TRANSFER_BULK_MAX = FAR_TRANSFER_GROUP * FAR_TRANSFER_BLOCK,
    FAR_TRANSFER_REF_MAX = 128,
};

enum far_transfer_type {
    FAR_TRANSFER_HELLO = 1,
    FAR_TRANSFER_WELCOME = 2,
    FAR_TRANSFER_CREDIT = 3,
    FAR_TRANSFER_OFFER = 4,
    FAR_TRANSFER_WANT = 5,
    FAR_TRANSFER_DATA = 6,
    FAR_TRANSFER_MARK = 7,
    FAR_TRANSFER_DURABLE = 8,
    FAR_TRANSFER_FIN = 9,
    FAR_TRANSFER_FIN_ACK = 10,
    FAR_TRANSFER_ERROR = 11,
    FAR_TRANSFER_PING = 12,
    FAR_TRANSFER_ACK = 13,
    FAR_TRANSFER_PAGE_ASK = 14,
    FAR_TRANSFER_MAP_PAGE = 15,
    FAR_TRANSFER_KNOCK = 16,
    FAR_TRANSFER_TYPE_MAX = FAR_TRANSFER_KNOCK,
};

struct far_transfer_header {
    enum far_transfer_type type;
    uint32_t head_len;
    uint32_t bulk_len; /* not 0 only for DATA */
    uint64_t head_hash;
};

struct far_transfer_hello {
    uint64_t job_id;
    uint64_t disk_index;
    uint64_t disk_id;
    uint64_t task;
    uint64_t attempt; /* of the send task */
    uint64_t incarnation_epoch;
    uint64_t plan_epoch;
    uint64_t size_bytes;
    uint64_t frontier_block; /* the source knows the leaves of the frozen view below this block */
    uint8_t session[16]; /* of the source's making, another one for each session */
    bool joins;          /* another connection of a session that is there; else the target begins one */
    bool has_base;
    uint8_t base_root[32];
    bool keyed;        /* of a keyed dedup domain: offers are, too */
    uint8_t proof[32]; /* then: that the source has the domain's secret, far_transfer_hello_bound() */
    char freeze_ref[FAR_TRANSFER_REF_MAX + 1];
};

/* Of a target that dials: which send it means. */
struct far_transfer_knock {
    uint64_t job_id;
    uint64_t disk_id;
};

struct far_transfer_welcome {
    uint64_t resume_block; /* nothing below it is needed any more; at most the hello's frontier_block */
    uint64_t base_bytes;   /* how large the disk was in the base point; 0: the target has not that base */
    bool complete;         /* the target has everything of this view already: nothing is to be offered */
};

struct far_transfer_credit {
    uint64_t groups;       /* offered and not settled, at most */
    uint64_t window_bytes; /* of DATA, sent and not acknowledged, at most; one DATA may always be under way */
    bool busy;             /* the target stores as fast as it can: it is what the transfer waits for */
};

struct far_transfer_run {
    uint64_t first_block;
    uint32_t count;
};

struct far_transfer_offer {
    uint64_t group; /* its lowest bits, below FAR_TRANSFER_SLOTS, are its slot; there numbers only grow in a session */
    uint16_t block_count;
    uint16_t run_count;
    uint64_t blocks[FAR_TRANSFER_GROUP]; /* within 2^32 of the first, ascending */
    bool keyed; /* ids are those of a keyed domain (id_key.h), each with its hash, veiled; else ids are the hashes */
    uint8_t ids[FAR_TRANSFER_GROUP][32];
    uint8_t veiled[FAR_TRANSFER_GROUP][32];
    struct far_transfer_run runs[FAR_TRANSFER_RUNS_MAX];
};

struct far_transfer_want {
    uint64_t group;
    uint16_t mask;  /* bit i: slot i of the offer is wanted */
    uint16_t paged; /* bit i, of those in mask: sums says which pages the target has in the place of slot i now */
    uint64_t sums[FAR_TRANSFER_GROUP][FAR_TRANSFER_PAGES]; /* XXH3 of each page; of slots in paged */
};

struct far_transfer_page {
    uint8_t level;
    uint64_t index;
    uint8_t hashes[256][32];
};

enum far_transfer_codec { FAR_TRANSFER_RAW = 0, FAR_TRANSFER_ZSTD = 1 };

struct far_transfer_data {
    uint64_t group;
    uint16_t count;
    struct far_transfer_stored {
        uint8_t slot;
        uint8_t codec;   /* enum far_transfer_codec */
        uint16_t pages;  /* bit i: page i of the block is there, the others are as at the target; at least one */
        uint32_t length; /* stored bytes; raw: those of the pages */
        uint64_t hash;   /* zstd: XXH3 of the stored bytes; raw: 0, the block's SHA-256 is checked anyway */
    } stored[FAR_TRANSFER_GROUP];
};

struct far_transfer_error {
    int klass;
    char message[401];
};

/* The header of a frame whose head is there; out has room for FAR_TRANSFER_HEADER bytes. */
void far_transfer_header_encode(enum far_transfer_type type, struct far_slice head, uint32_t bulk_len, uint8_t *out);
int far_transfer_header_decode(const uint8_t *bytes, struct far_transfer_header *ret_header, struct far_error *err);
/* The head is what the header promised; FAR_CORRUPT if not. */
int far_transfer_head_check(const struct far_transfer_header *header, const uint8_t *header_bytes,
                            struct far_slice head, struct far_error *err);

/* Encoders write a head (room for FAR_TRANSFER_HEAD_MAX bytes) and return its length. */
size_t far_transfer_hello_encode(const struct far_transfer_hello *hello, uint8_t *out);
size_t far_transfer_welcome_encode(const struct far_transfer_welcome *welcome, uint8_t *out);
size_t far_transfer_credit_encode(const struct far_transfer_credit *credit, uint8_t *out);
size_t far_transfer_offer_encode(const struct far_transfer_offer *offer, uint8_t *out);
/* Bytes that a want takes in a frame; together at most FAR_TRANSFER_HEAD_MAX, and FAR_TRANSFER_WANTS_MAX of them. */
size_t far_transfer_want_bytes(const struct far_transfer_want *want);
size_t far_transfer_want_encode(const struct far_transfer_want *want, uint8_t *out);
size_t far_transfer_ack_encode(const uint64_t *groups, size_t count, uint8_t *out);
size_t far_transfer_page_ask_encode(unsigned level, uint64_t index, uint8_t *out);
size_t far_transfer_page_encode(const struct far_transfer_page *page, uint8_t *out);
size_t far_transfer_knock_encode(const struct far_transfer_knock *knock, uint8_t *out);
size_t far_transfer_data_encode(const struct far_transfer_data *data, uint8_t *out);
size_t far_transfer_block_encode(uint64_t block, uint8_t *out); /* MARK, DURABLE, FIN */
size_t far_transfer_error_encode(const struct far_error *error, uint8_t *out);

/* What the proof of a keyed hello is made over: its head, the proof zeroed. */
size_t far_transfer_hello_bound(const struct far_transfer_hello *hello, uint8_t *out);
int far_transfer_hello_decode(struct far_slice head, struct far_transfer_hello *ret_hello, struct far_error *err);
int far_transfer_welcome_decode(struct far_slice head, struct far_transfer_welcome *ret_welcome, struct far_error *err);
int far_transfer_credit_decode(struct far_slice head, struct far_transfer_credit *ret_credit, struct far_error *err);
/* block_total: blocks of the disk; nothing offered may lie beyond it. */
int far_transfer_offer_decode(struct far_slice head, uint64_t block_total, struct far_transfer_offer *ret_offer,
                              struct far_error *err);
/* The next want of a WANT frame; the head shrinks to what follows. FAR_INVALID: it is none. */
int far_transfer_want_next(struct far_slice *head, struct far_transfer_want *ret_want, struct far_error *err);
/* ret_groups: room for FAR_TRANSFER_WANTS_MAX. */
int far_transfer_ack_decode(struct far_slice head, uint64_t *ret_groups, size_t *ret_count, struct far_error *err);
int far_transfer_page_ask_decode(struct far_slice head, unsigned *ret_level, uint64_t *ret_index, struct far_error *err);
int far_transfer_page_decode(struct far_slice head, struct far_transfer_page *ret_page, struct far_error *err);
int far_transfer_knock_decode(struct far_slice head, struct far_transfer_knock *ret_knock, struct far_error *err);
int far_transfer_data_decode(struct far_slice head, uint32_t bulk_len, struct far_transfer_data *ret_data,
                             struct far_error *err);
int far_transfer_block_decode(struct far_slice head, uint64_t block_total, uint64_t *ret_block, struct far_error *err);
int far_transfer_error_decode(struct far_slice head, struct far_transfer_error *ret_error, struct far_error *err);

#endif
