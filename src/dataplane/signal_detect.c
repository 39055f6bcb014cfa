/* The detector: see signal.h, and docs/SIGNAL.md for why these numbers.
 *
 * What an encryptor cannot avoid is that files become random from their first byte on: runs of random pages begin where nothing dense
 * was, without the head that whatever else is dense (archives, pictures, videos) begins with. Such runs are counted, more for those over
 * what was structured or began as a known format; what dense data of other kinds was written in the same increment accounts for some
 * of them. A disk on which nothing is structured is encrypted by its guest, and says nothing. */
#include "dataplane/signal.h"

enum {
    ON_HEAD = 4, ON_STRUCTURED = 3, ON_ZERO = 2, ON_DENSE = 1, TAIL = 3, /* evidence of a run */
    DENSE_PAGES = 512,  /* so many written ones account for two */
    WOVEN_PAGES = 4,    /* are evidence of one */
    WOVEN_MOST = 400,
    OPAQUE_SHARE = 50,  /* random pages to a structured one: nothing but cipher text is written here */
    AT_ONCE = 36,       /* evidence of one increment that gives the score 500 */
    BY_AND_BY = 40,     /* of all that are looked at, above what is usual */
    USUAL_TIMES = 3,    /* what older increments had is usual so many times over */
    USUAL_LEAST = 3,    /* increments that it takes to know */
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
    uint64_t woven = values[FAR_SIGNAL_woven_pages] < WOVEN_MOST ? values[FAR_SIGNAL_woven_pages] : WOVEN_MOST;
    uint64_t sum = ON_HEAD * head + ON_STRUCTURED * values[FAR_SIGNAL_bare_on_structured_runs];
    sum += ON_ZERO * values[FAR_SIGNAL_bare_on_zero_runs] + ON_DENSE * values[FAR_SIGNAL_bare_on_dense_runs];
    sum += TAIL * values[FAR_SIGNAL_tails_kept_runs];
    uint64_t usual = 2 * ((compressed + random) / DENSE_PAGES);
    if (structured * OPAQUE_SHARE < random) {
        return 0;
    }
    return (sum > usual ? sum - usual : 0) + woven / WOVEN_PAGES;
}

/* What is usual on this disk: of the older half of what is known, which an encryptor that began lately has not touched. */
struct usual {
    uint64_t sum, most;
    size_t count; /* 0: not known */
};

static struct usual usual_of(const uint64_t *before, size_t count)
{
    struct usual usual = {.count = count >= USUAL_LEAST ? count / 2 : 0};
    for (size_t i = count - usual.count; i < count; i++) {
        usual.sum += before[i];
        usual.most = before[i] > usual.most ? before[i] : usual.most;
    }
    return usual;
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
    struct usual usual = usual_of(before, count);
    uint64_t now = evidence(features), above = now > usual.most ? now - usual.most : 0, sum = now;
    for (size_t i = 0; i < count; i++) {
        sum += before[i];
    }
    uint64_t expected = usual.count != 0 ? USUAL_TIMES * usual.sum * (count + 1) / usual.count : 0;
    uint64_t each = usual.count != 0 ? USUAL_TIMES * usual.sum / usual.count : 0;
    bool has = now > 0 && sum > expected;
    *ret_score = (struct far_signal_score){.detector = FAR_SIGNAL_DETECTOR_VERSION,
                                           .evidence = now,
                                           .at_once = score_of(above, AT_ONCE),
                                           .by_and_by = has ? score_of(sum - expected, BY_AND_BY) : 0,
                                           .rising = has || above > 0 ? rising(before, count, each) : 0};
    ret_score->score = ret_score->at_once > ret_score->by_and_by ? ret_score->at_once : ret_score->by_and_by;
}
