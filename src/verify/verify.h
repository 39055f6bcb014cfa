/* The offline verifier of exports, from docs/FORMATS.md alone. One file is read once, front to back, in bounded memory: the
 * chain of its events (verify_records.c), and the signed heads that it holds, with the way of trust from the keys that were given
 * (verify_heads.c). What it finds is printed to `out`. One thread; a struct verifier is some 3 MiB, all zero at first. */
#ifndef FARSHORE_VERIFY_H
#define FARSHORE_VERIFY_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>

enum {
    HASH = 32,
    EVENT_HEADER = 64,
    PAYLOAD_MAX = 128 * 1024,
    BODY_MAX = EVENT_HEADER + PAYLOAD_MAX + HASH,
    VOTERS_MAX = 16,
    SIGNATURE = 64,
    GIVEN_MAX = 16,
    OPEN_HEADS = 64,    /* that may still get signatures; the servers keep half as many */
    HEADS_KEPT = 65536, /* chain heads behind events; the servers propose none that is 16,384 events old */
};

struct voter {
    unsigned long long id;
    uint8_t key[HASH];
    bool has_key;
};

/* A head that was proposed, and who signed it as far as the file was read. */
struct signed_head {
    unsigned long long seq; /* 0: unused */
    unsigned long long incarnation;
    uint8_t head[HASH];
    size_t voter_count;
    struct voter voters[VOTERS_MAX];
    bool has_signed[VOTERS_MAX]; /* with a signature that was checked */
    bool is_known;               /* the file holds the chain there */
    bool is_same;                /* and it is this head */
    bool was_told;               /* that it is not, though a majority signed */
};

struct verifier {
    FILE *file;
    FILE *out;
    bool wants_head;
    unsigned long long wanted_seq; /* 0: the last */
    uint8_t wanted[HASH];
    size_t given_count;
    uint8_t given[GIVEN_MAX][HASH]; /* keys, as the user has them from elsewhere */

    unsigned long long at; /* of the record in the file, bytes */
    unsigned long long findings;
    unsigned long long first_seq, last_seq, next_seq, withheld;
    unsigned long long compacted, compacted_seq;     /* events without payload, and the last of them */
    unsigned long long decided_seq, decided_by; /* up to where an event of the file decided that, and which */
    uint8_t uuid[16];
    uint8_t head[HASH];   /* behind the event before, as its bytes give it */
    uint8_t stated[HASH]; /* and as the file says */
    bool met_head;
    bool has_header;

    struct signed_head heads[OPEN_HEADS];
    size_t next_head;
    unsigned long long majority_seq; /* signed by a majority of those whom the file names, whoever that is */
    struct signed_head trusted;      /* the newest that trust leads to; seq 0: none yet */
    unsigned long long untrusted_seq; /* the newest that a majority of strangers signed */
    unsigned long long anew_seq;      /* where trust began anew with another given key */

    uint8_t body[BODY_MAX];
    uint8_t ring[HEADS_KEPT][HASH]; /* heads behind events, at seq modulo HEADS_KEPT */
};

/* Reads and checks the whole file. */
void verify_file(struct verifier *v);

/* ---- of both files ---- */
uint64_t verify_number(const uint8_t *p, unsigned bytes);
void verify_found(struct verifier *v, const char *where, unsigned long long seq, const char *format, ...)
    __attribute__((format(printf, 4, 5)));

/* ---- verify_heads.c ---- */
/* The next event was read: does it say something about heads, or about compaction? */
void verify_heads_event(struct verifier *v, const uint8_t *header, const uint8_t *payload, size_t len);
/* A record of type 3: a whole signed head. */
void verify_heads_record(struct verifier *v, size_t len);
/* What signatures cover and what they do not; may find that the given keys lead nowhere. */
void verify_heads_end(struct verifier *v);

#endif
