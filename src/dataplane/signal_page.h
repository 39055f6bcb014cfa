/* What a page of 4 KiB looks like: nothing, structured, compressed or random.
 *
 * Random is what the bytes' histogram cannot tell from an even one (Pearson's chi-square over 256 values, whose mean is 255 and whose
 * deviation is 22.6 whatever the length): cipher text, and of what programs write the output of good range coders (xz, H.264).
 * Compressed is nearly that, but not even (gzip, zstd, JPEG); structured is the rest: text, programs, tables. Zeroes at the end of
 * a page do not count. Pure functions, integers only, any thread. */
#ifndef FAR_DATAPLANE_SIGNAL_PAGE_H
#define FAR_DATAPLANE_SIGNAL_PAGE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum {
    FAR_SIGNAL_PAGE_BYTES = 4096,
    FAR_SIGNAL_PAGE_CHI = 325,   /* mean and three deviations: 998 of 1,000 random pages are below */
    FAR_SIGNAL_RUN_CHI = 360,    /* the same for many pages together, nearly five deviations */
    FAR_SIGNAL_JUDGED_MIN = 256, /* a page with fewer bytes before its zeroes is structured: too little to judge */
};

enum far_signal_class { FAR_SIGNAL_ZERO, FAR_SIGNAL_STRUCTURED, FAR_SIGNAL_COMPRESSED, FAR_SIGNAL_RANDOM, FAR_SIGNAL_CLASSES };

/* How a file that would begin here begins. */
enum far_signal_head {
    FAR_SIGNAL_HEAD_NONE,    /* evenly spread bytes from the first on */
    FAR_SIGNAL_HEAD_UNKNOWN, /* some structure: zeroes or text among the first 64 bytes */
    FAR_SIGNAL_HEAD_KNOWN,   /* the mark of a known format */
};

struct far_signal_histogram {
    uint32_t counts[256];
    uint64_t bytes;
};

struct far_signal_page {
    enum far_signal_class klass;
    uint32_t bytes; /* up to the last that is not zero */
    struct far_signal_histogram histogram;
};

/* Chi-square of a histogram, rounded down; 0 of an empty one. */
uint64_t far_signal_chi(const struct far_signal_histogram *histogram);
void far_signal_histogram_add(struct far_signal_histogram *sum, const struct far_signal_histogram *more);
void far_signal_page_look(const uint8_t page[FAR_SIGNAL_PAGE_BYTES], struct far_signal_page *ret_page);
enum far_signal_head far_signal_page_head(const uint8_t page[FAR_SIGNAL_PAGE_BYTES]);
/* Are its last 512 bytes as varied as compressed or random ones? Then what follows goes on with it. */
bool far_signal_page_runs_on(const uint8_t page[FAR_SIGNAL_PAGE_BYTES]);
/* Random bytes put between bytes that stayed, many times over: a cipher that leaves out every other piece of a page. */
bool far_signal_page_woven(const uint8_t before[FAR_SIGNAL_PAGE_BYTES], const uint8_t after[FAR_SIGNAL_PAGE_BYTES]);

#endif
