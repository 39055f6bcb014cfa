/* Exports: a stretch of the events as a file that proves itself (docs/FORMATS.md, "Export").
 *
 * A header with the cluster and the chain head before the first event, each event with its header, payload and the head after
 * it, the newest signed head that covers some of them, an end with the last head. Payloads that hold secrets stay here: only their
 * hash goes out, which the chain needs. Made piece by piece, so that no transaction lasts long. Any thread.
 *
 * Where events in it are compacted and the one which decided that lies behind its end, the file goes on to that one: of what lies
 * between only heads, their signatures and the decision have payloads. A server that cannot tell where it was decided ends the
 * file as asked; who verifies it says then that it is not decided there. */
#ifndef FAR_LOG_EXPORT_H
#define FAR_LOG_EXPORT_H

#include "log/store.h"

enum { FAR_EXPORT_HEADER = 128, FAR_EXPORT_RECORD = 8 };
enum far_export_type {
    FAR_EXPORT_EVENT = 1,    /* header, payload, head */
    FAR_EXPORT_WITHHELD = 2, /* header, SHA-256 of the payload, head */
    FAR_EXPORT_SIGNED = 3,   /* a signed head: its signatures may be younger than the last event */
    FAR_EXPORT_COMPACTED = 4, /* header, SHA-256 of the payload, head: the log let the payload go */
    FAR_EXPORT_END = 255,    /* last seq, its head */
};

/* Append the piece that begins with event `from` (0: the file's beginning, with its header and the oldest event kept) and
 * goes on to event `until` (or the decision behind it), or until it has more than bytes_max. *ret_next: `from` of the next
 * piece, 0 when the end was written. FAR_NOT_FOUND: an event is not here. */
int far_export_piece(struct far_store_txn *txn, uint64_t from, uint64_t until, size_t bytes_max, struct far_buf *out,
                     uint64_t *ret_next, struct far_error *err);

#endif
