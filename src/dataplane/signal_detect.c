/* The detector: see signal.h, and docs/SIGNAL.md for why these numbers.
 *
 * What an encryptor cannot avoid is that files become random from their first byte on: runs of random pages begin where nothing dense
 * was, without the head that whatever else is dense (archives, pictures, videos) begins with. Such runs are counted, more for those over
 * what was structured or began as a known format; what dense data of other kinds was written in the same increment accounts for some
 * of them. A disk on which nothing is structured is encrypted by its guest, and says nothing. */
#include "dataplane/signal.h"

enum {
    ON_HEAD = 4, ON_STRUCTURED = 3, ON_OTHER = 2, TAIL = 2, /* evidence of a run */
    DENSE_PAGES = 512,  /* so many written ones account for two */
    WOVEN_PAGES = 4,    /* are evidence of one */
    WOVEN_MOST = 400,
    OPAQUE_SHARE = 50,  /* random pages to a structured one: nothing but cipher text is written here */
    AT_ONCE = 20,       /* evidence of one increment that gives the score 500 */
    BY_AND_BY = 40,     /* of all that are looked at, above what is usual */
};

static uint64_t became(const struct far_signal_features *features, unsigned klass)
{
    enum { CLASSES = 4 };
    uint64_t sum = 0;
    for (unsigned was = 0; was < CLASSES; was++) {
        sum += features->values[(unsigned)FAR_SIGNAL_zero_to_zero_pages + CLASSES * was + klass];
    }
    return sum;
}

static uint64_t evidence(const struct far_signal_features *features)
{
    const uint64_t *values = features->values;
    uint64_t structured = became(features, 1) + values[FAR_SIGNAL_structured_around_pages];
    uint64_t compressed = became(features, 2), random = became(features, 3);
    uint64_t head = values[FAR_SIGNAL_bare_on_head_runs] + values[FAR_SIGNAL_cut_on_head_runs];
    uint64_t other = values[FAR_SIGNAL_bare_on_zero_runs] + values[FAR_SIGNAL_bare_on_dense_runs];
    uint64_t woven = values[FAR_SIGNAL_woven_pages] < WOVEN_MOST ? values[FAR_SIGNAL_woven_pages] : WOVEN_MOST;
    uint64_t sum = ON_HEAD * head + ON_STRUCTURED * values[FAR_SIGNAL_bare_on_structured_runs] + ON_OTHER * other;
    sum += TAIL * values[FAR_SIGNAL_tails_kept_runs];
    uint64_t usual = 2 * ((compressed + random) / DENSE_PAGES);
    if (structured * OPAQUE_SHARE < random) {
        return 0;
    }
    return (sum > usual ? sum - usual : 0) + woven / WOVEN_PAGES;
}

/* The median of the older half of what is known: an encryptor that just began has not moved it. */
static uint64_t usual_evidence(const uint64_t *all, size_t count)
{
    enum { LEAST = 8 };
    uint64_t sorted[FAR_SIGNAL_HISTORY_MAX];
    size_t older = count / 2, rest = count - older;
    if (count < LEAST) {
        return 0;
    }
    for (size_t i = 0; i < rest; i++) { /* by insertion: there are at most 16 */
        size_t at = i;
        for (; at > 0 && sorted[at - 1] > all[older + i]; at--) {
            sorted[at] = sorted[at - 1];
        }
        sorted[at] = all[older + i];
    }
    return sorted[rest / 2];
}

/* How many increments the rise has taken: back to the first before which a while was calm. before: evidence, newest first. */
static uint32_t rising(const uint64_t *before, size_t count, uint64_t usual)
{
    enum { CALM = 6 }; /* so many in a row */
    size_t last = 0;
    for (size_t i = 0; i < count && i < last + CALM; i++) {
        last = before[i] > usual ? i + 1 : last;
    }
    return (uint32_t)(1 + last);
}

static uint32_t score_of(uint64_t sum, uint64_t half)
{
    return (uint32_t)(sum * FAR_SIGNAL_SCORE_MAX / (sum + half));
}

void far_signal_detect(const struct far_signal_features *features, const struct far_signal_features *history, size_t history_count,
                       struct far_signal_score *ret_score)
{
    uint64_t before[FAR_SIGNAL_HISTORY_MAX];
    size_t count = history_count < FAR_SIGNAL_HISTORY_MAX ? history_count : FAR_SIGNAL_HISTORY_MAX;
    for (size_t i = 0; i < count; i++) {
        before[i] = evidence(&history[i]);
    }
    uint64_t now = evidence(features), usual = 2 * usual_evidence(before, count);
    uint64_t above = now > usual ? now - usual : 0, sum = above;
    for (size_t i = 0; i < count; i++) {
        sum += before[i] > usual ? before[i] - usual : 0;
    }
    *ret_score = (struct far_signal_score){.detector = FAR_SIGNAL_DETECTOR_VERSION,
                                           .evidence = now,
                                           .at_once = score_of(above, AT_ONCE),
                                           .by_and_by = now > usual ? score_of(sum, BY_AND_BY) : 0,
                                           .rising = now > usual ? rising(before, count, usual) : 0};
    ret_score->score = ret_score->at_once > ret_score->by_and_by ? ret_score->at_once : ret_score->by_and_by;
}
