/* Backups: the state of a server at one index, and its events, as one file that proves itself; and a log made of one.
 *
 * Written from one read transaction, so it is consistent whatever the server does meanwhile; beside the file and renamed
 * when it is whole and durable. What the state keeps sealed stays sealed. The format is in docs/FORMATS.md. Blocking; any
 * thread (a transaction as long as this is the dump's, DESIGN.md section 5). Parsers are pure. */
#ifndef FAR_LOG_BACKUP_H
#define FAR_LOG_BACKUP_H

#include "log/log_offline.h"
#include "log/store.h"

enum { FAR_BACKUP_HEADER = 128, FAR_BACKUP_RECORD_HEADER = 8, FAR_BACKUP_BODY_MAX = 1024 * 1024 };
enum far_backup_type {
    FAR_BACKUP_MANIFEST = 1, /* of a snapshot: first, once */
    FAR_BACKUP_PIECE = 2,    /* of the state */
    FAR_BACKUP_HISTORY = 3,  /* a batch of events, newest first */
    FAR_BACKUP_END = 255,    /* SHA-256 of everything before this record, and how many there were */
};

struct far_backup_header {
    uint8_t cluster_uuid[16];
    uint64_t incarnation_epoch;
    uint64_t incarnation_tag;
    uint64_t server_id; /* who made it */
    uint64_t made_ms;   /* wall clock */
    uint64_t index;     /* of the state */
    uint64_t last_seq;
};
void far_backup_header_encode(const struct far_backup_header *header, uint8_t bytes[FAR_BACKUP_HEADER]);
/* FAR_CORRUPT, FAR_INVALID (of a newer version). */
int far_backup_header_decode(struct far_slice bytes, struct far_backup_header *ret_header, struct far_error *err);
/* The header of a record: its type and the length of its body. FAR_CORRUPT. */
int far_backup_record_decode(const uint8_t bytes[FAR_BACKUP_RECORD_HEADER], unsigned *ret_type, uint32_t *ret_len,
                             struct far_error *err);

/* Of the running server. identity: what the log does not know (cluster, incarnation, server, time); index and last_seq are
 * filled in. events_max: the newest so many. */
int far_log_backup(struct far_log *log, const char *path, uint64_t events_max, struct far_backup_header *identity,
                   struct far_error *err);
int far_store_backup(struct far_store *store, const char *path, uint64_t events_max, struct far_backup_header *identity,
                     struct far_error *err);
/* Read all of it. FAR_CORRUPT: damaged, or not whole. */
int far_backup_verify(const char *path, struct far_backup_header *ret_header, struct far_error *err);

/* Make the log of a folder from a verified backup: its state and events, and a WAL whose only voter is config->server_id in a
 * term that nobody has seen. identify is called when the state is there and must fill in server_id and address of the
 * config. FAR_CONFLICT: the folder holds a log. What a crash leaves is no log; the caller removes it. */
typedef int (*far_backup_identify_fn)(void *arg, struct far_log_view *view, struct far_error *err);
int far_log_restore(struct far_log_config *config, const char *path, far_backup_identify_fn identify, void *arg,
                    struct far_log_ending *ret_ending, struct far_error *err);

/* What a restore would begin with: the state of a verified backup, in memory, and where it ends. Nothing is written. */
int far_backup_look(const char *path, far_backup_identify_fn identify, void *arg, struct far_log_ending *ret_ending,
                    struct far_error *err);

#endif
