/* Features of increments, kept in the vault beside the points: signals/<point id>.signal.
 *
 * What a detector needs of a point is in its file, with the features of the increments before it, so a newer one judges every kept
 * point anew without reading blocks, and whatever became of the points between. The file is a cache of what the trees say: lost or
 * damaged, it is made again as long as the point before is there. Any thread; files are replaced as a whole. */
#ifndef FAR_DATAPLANE_SIGNAL_STORE_H
#define FAR_DATAPLANE_SIGNAL_STORE_H

#include "base/buf.h"
#include "dataplane/signal.h"

struct far_signal_disk {
    uint64_t disk_id;
    uint64_t since_point; /* the point before of this disk; 0: there was none, and there are no features */
    uint32_t history_count;
    struct far_signal_features features;
    struct far_signal_features history[FAR_SIGNAL_HISTORY_MAX]; /* of the increments before, newest first: their points may be gone */
    uint64_t history_since[FAR_SIGNAL_HISTORY_MAX]; /* of each, the point before */
};
struct far_signal_point {
    uint64_t point_id;
    uint32_t disk_count;
    struct far_signal_disk disks[FAR_MANIFEST_DISKS_MAX]; /* in the manifest's order */
};
enum { FAR_SIGNAL_FILE_BYTES_MAX = 2 << 20 };

/* Bytes as in docs/FORMATS.md. decode: features of a newer version than this program's are read as far as it knows them. The point
 * is the caller's, about 0.7 MiB: on the heap. FAR_CORRUPT. */
int far_signal_encode(const struct far_signal_point *point, struct far_buf *buf, struct far_error *err);
int far_signal_decode(struct far_slice file, struct far_signal_point *ret_point, struct far_error *err);

/* Looks for the points before of its disks, computes and keeps. stop as in far_signal_compute(). The point is sealed here. What is
 * kept already is given back, unless it is of older features. */
int far_signal_make(struct far_vault *vault, uint64_t point_id, bool (*stop)(void *arg), void *arg,
                    struct far_signal_point *ret_point, struct far_error *err);
/* FAR_NOT_FOUND: nothing is kept of this point; FAR_CORRUPT. */
int far_signal_load(struct far_vault *vault, uint64_t point_id, struct far_signal_point *ret_point, struct far_error *err);
/* The last point before what the score rests on began; 0: it rests on nothing. */
uint64_t far_signal_calm_point(const struct far_signal_disk *disk, const struct far_signal_score *score);
/* ret_score->detector 0: the disk has no features. */
void far_signal_judge(const struct far_signal_disk *disk, struct far_signal_score *ret_score);

#endif
