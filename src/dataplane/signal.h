/* The ransomware signal: what an increment of a disk looks like, and how much that resembles a disk being encrypted.
 *
 * Features are numbers of one increment, the difference between two points of a disk: how much changed, how well it compressed
 * before and after (the index knows the stored length of every block, nothing is read for that), and of a bounded sample of it,
 * chosen by hash, what its pages of 4 KiB were and became. They are kept beside the points in the vault, so that a better detector
 * judges old increments anew without reading a block. The detector is a pure function of the features of one increment and of at
 * most 31 before it. docs/SIGNAL.md says what it sees, what it cannot see, and how it was measured.
 *
 * Nothing here looks at a guest's file system. Values and pure functions but for far_signal_compute(); any thread. */
#ifndef FAR_DATAPLANE_SIGNAL_H
#define FAR_DATAPLANE_SIGNAL_H

#include "dataplane/vault.h"

enum {
    FAR_SIGNAL_FEATURES_VERSION = 1, /* of what the numbers mean; grows when one is added at the end or counted otherwise */
    FAR_SIGNAL_DETECTOR_VERSION = 2,
    FAR_SIGNAL_HISTORY_MAX = 31,     /* increments before the one that is judged */
    FAR_SIGNAL_SAMPLE_MAX = 512,     /* blocks of an increment whose pages are looked at */
    FAR_SIGNAL_LOOKED_MAX = 262144,  /* changed blocks whose stored lengths are looked up */
    FAR_SIGNAL_SCORE_MAX = 1000,
    FAR_SIGNAL_ALERT = 500,          /* the default: from this score on it is a rise */
};

/* name, what it counts. Append only; another meaning is another version. */
#define FAR_SIGNAL_FEATURES(F)                                                                                                    \
    F(disk_blocks, "blocks of the disk")                                                                                          \
    F(changed_blocks, "that differ from the point before")                                                                        \
    F(changed_runs, "runs of neighbours of them")                                                                                 \
    F(from_zero_blocks, "that were zeroes")                                                                                       \
    F(to_zero_blocks, "that are zeroes now")                                                                                      \
    F(looked_blocks, "changed ones whose stored lengths were looked up; the next six are of them")                                \
    F(known_blocks, "whose content the vault had before: moved or copied, not made")                                              \
    F(low_to_high_blocks, "that compressed and do no more")                                                                       \
    F(high_to_high_blocks, "that did not compress before or after")                                                               \
    F(high_to_low_blocks, "that compress now")                                                                                    \
    F(low_to_low_blocks, "that compressed before and after")                                                                      \
    F(zero_to_high_blocks, "that were zeroes and do not compress")                                                                \
    F(sampled_blocks, "changed ones whose pages were looked at; all below is of them")                                            \
    F(changed_pages, "pages of them that differ")                                                                                 \
    F(structured_around_pages, "structured pages beside them that stayed")                                                        \
    F(zero_to_zero_pages, "never counted: such pages do not differ")                                                              \
    F(zero_to_structured_pages, "class before and after, see signal_page.h")                                                      \
    F(zero_to_compressed_pages, "")                                                                                               \
    F(zero_to_random_pages, "")                                                                                                   \
    F(structured_to_zero_pages, "")                                                                                               \
    F(structured_to_structured_pages, "")                                                                                         \
    F(structured_to_compressed_pages, "")                                                                                         \
    F(structured_to_random_pages, "")                                                                                             \
    F(compressed_to_zero_pages, "")                                                                                               \
    F(compressed_to_structured_pages, "")                                                                                         \
    F(compressed_to_compressed_pages, "")                                                                                         \
    F(compressed_to_random_pages, "")                                                                                             \
    F(random_to_zero_pages, "")                                                                                                   \
    F(random_to_structured_pages, "")                                                                                             \
    F(random_to_compressed_pages, "")                                                                                             \
    F(random_to_random_pages, "")                                                                                                 \
    F(bare_on_zero_runs, "runs of random pages that begin where nothing random was, without a head, on zeroes")                   \
    F(bare_on_structured_runs, "the same over structured pages")                                                                  \
    F(bare_on_dense_runs, "the same over compressed or random pages")                                                             \
    F(bare_on_head_runs, "the same over a page that began as a known format does")                                                \
    F(bare_pages, "pages of the four")                                                                                            \
    F(bare_brief_runs, "runs as the four, but of at most three whole pages behind one that changed, and not of the four")          \
    F(bare_tail_runs, "of the four, those that end inside a page")                                                                \
    F(odd_head_runs, "runs of random pages with some structure at their beginning")                                               \
    F(known_head_runs, "runs of random pages that begin as a known format does")                                                  \
    F(dense_runs, "runs of compressed pages, however they begin")                                                                 \
    F(dense_pages, "pages of them")                                                                                               \
    F(hidden_runs, "runs of random pages whose beginning is not seen, or that go on after other dense ones")                      \
    F(hidden_pages, "pages of them")                                                                                              \
    F(cut_on_head_runs, "of them, those that begin behind a dense page that stayed, over one that began as a known format does")  \
    F(tails_kept_runs, "runs of random pages without a known head that end where the content before ended")                       \
    F(heads_lost_pages, "pages that began as a known format does and are random now")                                             \
    F(woven_pages, "pages in which random bytes were put between others that stayed")

enum far_signal_feature {
#define FAR_SIGNAL_NUMBER(name, text) FAR_SIGNAL_##name,
    FAR_SIGNAL_FEATURES(FAR_SIGNAL_NUMBER)
#undef FAR_SIGNAL_NUMBER
    FAR_SIGNAL_FEATURE_COUNT
};

struct far_signal_features {
    uint32_t version;
    uint64_t values[FAR_SIGNAL_FEATURE_COUNT]; /* by enum far_signal_feature */
};

/* "changed_blocks" and so on. */
const char *far_signal_feature_name(enum far_signal_feature feature);

/* Reads at most FAR_SIGNAL_SAMPLE_MAX changed blocks, before and after, and as many that lie around them. known_before: a
 * position of the packs; what lies before it was known when the point before was sealed (0, 0: not told). FAR_CORRUPT,
 * FAR_NOT_FOUND: of what was to be looked at something is damaged or gone. FAR_CANCELED as `stop` says (NULL: never). */
struct far_signal_request {
    struct far_point *before;
    struct far_point *after;
    uint64_t known_before_pack;
    uint64_t known_before_offset;
    bool (*stop)(void *arg);
    void *arg;
};
int far_signal_compute(struct far_vault *vault, const struct far_signal_request *request,
                       struct far_signal_features *ret_features, struct far_error *err);

struct far_signal_score {
    uint32_t detector;
    uint32_t score;      /* the greater of the next two */
    uint32_t at_once;    /* of this increment alone, against what is usual on this disk */
    uint32_t by_and_by;  /* of this and those before it together */
    uint64_t evidence;   /* of this increment: the sum that scores are made of */
    uint32_t rising;     /* increments since the last calm point before what the score rests on, this one included; 0: it is calm */
};
/* history: increments of the same disk before this one, the newest first. */
void far_signal_detect(const struct far_signal_features *features, const struct far_signal_features *history, size_t history_count,
                       struct far_signal_score *ret_score);

#endif
