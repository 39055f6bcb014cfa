/* Classes of pages: see signal_page.h. */
#include "dataplane/signal_page.h"

#include <string.h>

enum { EDGE = 512, HEAD = 64 };

uint64_t far_signal_chi(const struct far_signal_histogram *histogram)
{
    uint64_t squares = 0;
    if (histogram->bytes == 0) {
        return 0;
    }
    for (size_t i = 0; i < 256; i++) {
        squares += (uint64_t)histogram->counts[i] * histogram->counts[i];
    }
    return squares * 256 / histogram->bytes - histogram->bytes;
}

void far_signal_histogram_add(struct far_signal_histogram *sum, const struct far_signal_histogram *more)
{
    for (size_t i = 0; i < 256; i++) {
        sum->counts[i] += more->counts[i];
    }
    sum->bytes += more->bytes;
}

static uint32_t length_of(const uint8_t *page)
{
    uint32_t bytes = FAR_SIGNAL_PAGE_BYTES;
    uint64_t word;
    while (bytes > 0) {
        memcpy(&word, page + bytes - sizeof word, sizeof word);
        if (word != 0) {
            break;
        }
        bytes -= (uint32_t)sizeof word;
    }
    while (bytes > 0 && page[bytes - 1] == 0) {
        bytes--;
    }
    return bytes;
}

static void count(const uint8_t *data, uint32_t bytes, struct far_signal_histogram *ret)
{
    uint32_t odd[256] = {0}; /* two tables: the same byte twice in a row does not wait for itself */
    memset(ret, 0, sizeof *ret);
    ret->bytes = bytes;
    for (uint32_t i = 0; i + 1 < bytes; i += 2) {
        ret->counts[data[i]]++;
        odd[data[i + 1]]++;
    }
    if (bytes % 2 != 0) {
        ret->counts[data[bytes - 1]]++;
    }
    for (size_t i = 0; i < 256; i++) {
        ret->counts[i] += odd[i];
    }
}

void far_signal_page_look(const uint8_t page[FAR_SIGNAL_PAGE_BYTES], struct far_signal_page *ret_page)
{
    ret_page->bytes = length_of(page);
    count(page, ret_page->bytes, &ret_page->histogram);
    uint64_t chi = far_signal_chi(&ret_page->histogram);
    if (ret_page->bytes == 0) {
        ret_page->klass = FAR_SIGNAL_ZERO;
    } else if (ret_page->bytes < FAR_SIGNAL_JUDGED_MIN || chi > FAR_SIGNAL_PAGE_CHI + ret_page->bytes * 5 / 4) {
        ret_page->klass = FAR_SIGNAL_STRUCTURED;
    } else {
        ret_page->klass = chi > FAR_SIGNAL_PAGE_CHI ? FAR_SIGNAL_COMPRESSED : FAR_SIGNAL_RANDOM;
    }
}

/* ---- heads ---- */

struct mark {
    uint8_t at;
    uint8_t len;
    char bytes[8];
};
static const struct mark marks[] = {
    {0, 2, "\x1f\x8b"},         {0, 2, "PK"},           {0, 4, "\x28\xb5\x2f\xfd"}, {0, 4, "\xfd" "7zX"}, {0, 3, "BZh"},
    {0, 4, "7z\xbc\xaf"},       {0, 4, "\x04\x22\x4d\x18"}, {0, 3, "\xff\xd8\xff"}, {0, 4, "\x89PNG"},    {0, 4, "GIF8"},
    {0, 4, "RIFF"},             {4, 4, "ftyp"},         {4, 4, "moof"},           {4, 4, "mdat"},         {0, 4, "\x1a\x45\xdf\xa3"},
    {0, 3, "\0\0\1"},           {0, 4, "\0\0\0\1"},     {0, 4, "OggS"},           {0, 4, "fLaC"},         {0, 3, "ID3"},
    {0, 2, "\xff\xfb"},         {0, 4, "%PDF"},         {0, 4, "\x7f" "ELF"},     {0, 4, "PACK"},         {0, 2, "\x78\x01"},
    {0, 2, "\x78\x9c"},         {0, 2, "\x78\xda"},     {0, 4, "Rar!"},           {0, 4, "LUKS"},         {0, 4, "SQLi"},
    {0, 4, "\xd0\xcf\x11\xe0"}, {0, 2, "MZ"},           {0, 4, "hsqs"},           {0, 4, "wOF2"},         {0, 4, "wOFF"},
    {0, 4, "\xca\xfe\xba\xbe"}, {0, 2, "#!"},           {0, 5, "<?xml"},          {0, 5, "!<arc"},        {0, 4, "LZIP"},
};

static unsigned distinct(const uint8_t *data, size_t len)
{
    bool seen[256] = {false};
    unsigned count = 0;
    for (size_t i = 0; i < len; i++) {
        count += !seen[data[i]];
        seen[data[i]] = true;
    }
    return count;
}

enum far_signal_head far_signal_page_head(const uint8_t page[FAR_SIGNAL_PAGE_BYTES])
{
    unsigned zeroes = 0, printable = 0;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        if (memcmp(page + marks[i].at, marks[i].bytes, marks[i].len) == 0) {
            return FAR_SIGNAL_HEAD_KNOWN;
        }
    }
    for (size_t i = 0; i < HEAD; i++) {
        zeroes += page[i] == 0;
        printable += page[i] >= 0x20 && page[i] < 0x7f;
    }
    /* In 64 random bytes there is a zero every fourth time (more than 3: once in 7,000), 24 are printable (sd 4), 57 differ (sd 2). */
    return zeroes > 3 || printable > 40 || distinct(page, HEAD) < 46 ? FAR_SIGNAL_HEAD_UNKNOWN : FAR_SIGNAL_HEAD_NONE;
}

bool far_signal_page_runs_on(const uint8_t page[FAR_SIGNAL_PAGE_BYTES])
{
    uint64_t last[2];
    memcpy(last, page + FAR_SIGNAL_PAGE_BYTES - sizeof last, sizeof last);
    bool ends = last[0] == 0 && last[1] == 0;
    return !ends && distinct(page + FAR_SIGNAL_PAGE_BYTES - EDGE, EDGE) >= 180; /* of random ones 221, give or take 5 */
}

bool far_signal_page_woven(const uint8_t before[FAR_SIGNAL_PAGE_BYTES], const uint8_t after[FAR_SIGNAL_PAGE_BYTES])
{
    enum { STAYED = 8, PIECES = 16, CHANGED_MIN = 512, CHANGED_MAX = 3600 };
    struct far_signal_histogram changed = {.bytes = 0};
    unsigned pieces = 0, stayed = 0;
    for (size_t i = 0; i < FAR_SIGNAL_PAGE_BYTES; i++) {
        if (before[i] == after[i]) {
            stayed++;
            continue;
        }
        pieces += stayed >= STAYED;
        stayed = 0;
        changed.counts[after[i]]++;
        changed.bytes++;
    }
    return pieces >= PIECES && changed.bytes >= CHANGED_MIN && changed.bytes <= CHANGED_MAX &&
           far_signal_chi(&changed) < FAR_SIGNAL_PAGE_CHI;
}
