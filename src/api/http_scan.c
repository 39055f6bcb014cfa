/* The bytes of a connection, head by head: see http_scan.h. One step a byte; each says what libwebsockets gets instead. */
#include "api/http_scan.h"

enum { DEL = 0x7f, LINE_COST = 16, LENGTH_MAX = 999999999999999 };

/* Ends a head wherever libwebsockets is in it; no header that it knows begins with or goes on with a tilde. */
static const char end_of_head[] = "~:\r\n\r\n", end_of_line_and_head[] = " HTTP/1.1\r\n\r\n";

/* The headers that libwebsockets gets under their names: the ones that are looked at (http_head.c), and what it needs itself. */
static const char *const wanted[] = {"host",          "connection",      "content-length", "transfer-encoding",
                                     "authorization", "accept",          "if-match",       "idempotency-key",
                                     "last-event-id", "farshore-feature-level"};
enum { WANTED = sizeof wanted / sizeof wanted[0], ALL_WANTED = (1 << WANTED) - 1 };

/* The first fault counts. */
static void refuse(struct far_http_scan *scan, int status, const char *why)
{
    if (scan->status == 0) {
        scan->status = status;
        scan->why = why;
    }
}

static void begin_line(struct far_http_scan *scan, enum far_http_part part)
{
    scan->part = part;
    scan->word_len = 0;
    scan->after_cr = scan->is_length = false;
    scan->wanted = ALL_WANTED;
}

static void add_to_word(struct far_http_scan *scan, uint8_t c)
{
    if (scan->word_len < sizeof scan->word) {
        scan->word[scan->word_len] = (char)c;
        scan->word_len++;
    }
}

/* ---- the first line ---- */

static const char bad_escape[] = "a % in the path or query must be followed by two hexadecimal digits";

static int hex_digit(uint8_t c)
{
    return c >= '0' && c <= '9' ? c - '0' : c >= 'a' && c <= 'f' ? c - 'a' + 10 : c >= 'A' && c <= 'F' ? c - 'A' + 10 : -1;
}

static uint8_t see_escape(struct far_http_scan *scan, uint8_t c)
{
    int digit = hex_digit(c);
    scan->escape--;
    if (digit < 0) {
        refuse(scan, 400, bad_escape);
        return '5';
    }
    if (scan->escape == 1) {
        scan->high = (uint8_t)digit;
        return c;
    }
    int byte = scan->high << 4 | digit;
    if (byte < ' ' || byte == DEL) {
        refuse(scan, 400, "the path or query has an escaped control character, %00 to %1F or %7F; no name here has one");
        return '1'; /* %00, %0a, %0d would end it */
    }
    return c;
}

static uint8_t see_line_end(struct far_http_scan *scan)
{
    bool is_http = scan->spaces == 2 && scan->word_len == 8 && memcmp(scan->word, "HTTP/1.", 7) == 0 && scan->word[7] >= '0' &&
                   scan->word[7] <= '9' && scan->escape == 0;
    if (!is_http) {
        refuse(scan, 400, "the first line is none of HTTP/1.1: a method, a target without spaces and the version, one space between");
    }
    uint8_t handed_on = scan->escape > 0 ? '5' : '\n';
    begin_line(scan, FAR_HTTP_NAME);
    scan->escape = 0;
    return handed_on;
}

static uint8_t see_line(struct far_http_scan *scan, uint8_t c)
{
    if (c == '\n') {
        return see_line_end(scan);
    }
    if (scan->after_cr || ((c < ' ' || c == DEL) && c != '\r')) {
        refuse(scan, 400, "the first line has a control character");
        return '_';
    }
    if (c == '\r') {
        scan->after_cr = true;
        if (scan->escape > 0) {
            refuse(scan, 400, bad_escape);
        }
        return scan->escape > 0 ? '5' : c; /* in an escape, libwebsockets would close */
    }
    if (scan->escape > 0) {
        return see_escape(scan, c);
    }
    if (c == ' ') {
        scan->spaces += scan->spaces < UINT8_MAX;
        scan->word_len = 0;
        return c;
    }
    if (scan->spaces == 1 && scan->word_len == 0 && c != '/') {
        refuse(scan, 400, "the path does not begin with a slash");
        c = '/'; /* libwebsockets would close */
    }
    scan->escape = c == '%' && scan->spaces == 1 ? 2 : 0;
    add_to_word(scan, c);
    if ((c == '&' || c == ';') && scan->spaces == 1 && ++scan->arguments > FAR_HTTP_SCAN_ARGUMENTS_MAX) {
        refuse(scan, 414, "the query has too many arguments");
        scan->arguments--;
        return '_';
    }
    return c;
}

/* ---- headers ---- */

static uint8_t see_head_end(struct far_http_scan *scan)
{
    uint64_t length = scan->length, heads = scan->heads + 1, taken = scan->taken;
    if (scan->status != 0) {
        scan->heads = heads;
        scan->part = FAR_HTTP_REST;
        return '\n';
    }
    *scan = (struct far_http_scan){.part = length > 0 ? FAR_HTTP_BODY : FAR_HTTP_LINE, .length = length, .heads = heads, .taken = taken};
    return '\n';
}

/* Which wanted header this is, -1: none. */
static int wanted_one(const struct far_http_scan *scan)
{
    for (int i = 0; i < WANTED; i++) {
        if ((scan->wanted & 1u << i) != 0 && wanted[i][scan->word_len] == '\0') {
            return i;
        }
    }
    return -1;
}

static uint8_t see_colon(struct far_http_scan *scan)
{
    int which = wanted_one(scan);
    if (scan->word_len == 0) {
        refuse(scan, 400, "a header has no name");
    }
    scan->part = FAR_HTTP_VALUE;
    scan->is_length = which >= 0 && strcmp(wanted[which], "content-length") == 0;
    if (scan->is_length && scan->has_length) {
        refuse(scan, 400, "the header Content-Length is there twice");
    }
    scan->has_length = scan->has_length || scan->is_length;
    scan->owes_colon = which < 0 && scan->wanted != 0; /* of a name with which a longer one begins, it would not see it */
    return scan->owes_colon ? '~' : ':';
}

/* The next letter of a name: from where it is no wanted one's any more, a tilde has libwebsockets not know it. */
static uint8_t see_letter(struct far_http_scan *scan, uint8_t c)
{
    uint8_t lower = (uint8_t)(c >= 'A' && c <= 'Z' ? c + 'a' - 'A' : c);
    uint16_t before = scan->wanted;
    for (unsigned left = before; left != 0; left &= left - 1) {
        int i = __builtin_ctz(left);
        scan->wanted &= (uint8_t)wanted[i][scan->word_len] != lower ? (uint16_t)~(1u << i) : UINT16_MAX;
    }
    scan->word_len += scan->word_len < UINT8_MAX;
    return before != 0 && scan->wanted == 0 ? '~' : c;
}

static uint8_t see_name(struct far_http_scan *scan, uint8_t c)
{
    if (c == '\n' && scan->word_len == 0) {
        return see_head_end(scan);
    }
    if (c == '\r' && scan->word_len == 0) {
        return c;
    }
    if (c == ':') {
        return see_colon(scan);
    }
    if (c == '\r' || c == '\n') {
        refuse(scan, 400, "a header has no colon");
        scan->part = c == '\r' ? FAR_HTTP_VALUE : FAR_HTTP_NAME; /* of which libwebsockets would never see the end */
        scan->word_len = 0;
        return c == '\r' ? ':' : c;
    }
    if (c <= ' ' || c == DEL) {
        refuse(scan, 400, scan->word_len == 0 ? "a header goes on in a second line" : "the name of a header has a space");
        c = '~';
    }
    return see_letter(scan, c);
}

static uint8_t see_value(struct far_http_scan *scan, uint8_t c)
{
    if (scan->owes_colon) {
        scan->owes_colon = false;
        scan->after_cr = c == '\r';
        return ':';
    }
    if (c == '\n') {
        begin_line(scan, FAR_HTTP_NAME);
        scan->lines++;
        scan->cost += LINE_COST;
        return c;
    }
    if (scan->after_cr || (c < ' ' && c != '\t' && c != '\r') || c == DEL) {
        refuse(scan, 400, "the value of a header has a control character");
        return '_';
    }
    scan->after_cr = c == '\r';
    if (scan->is_length && c != ' ' && c != '\r' && c != '\t') {
        bool is_digit = c >= '0' && c <= '9' && scan->length <= LENGTH_MAX / 10;
        if (!is_digit) {
            refuse(scan, 400, "the header Content-Length is no number of bytes");
        }
        scan->length = is_digit ? scan->length * 10 + (uint64_t)(c - '0') : scan->length;
    }
    return c;
}

/* ---- bytes ---- */

/* How many of the next bytes are such as change nothing but the cost: nearly all of a head. */
static size_t plain_run(const struct far_http_scan *scan, const uint8_t *data, size_t len)
{
    bool is_target = scan->part == FAR_HTTP_LINE && scan->spaces == 1 && scan->word_len > 0 && scan->escape == 0 && !scan->after_cr;
    bool is_value = scan->part == FAR_HTTP_VALUE && !scan->is_length && !scan->owes_colon && !scan->after_cr;
    bool is_unknown = scan->part == FAR_HTTP_NAME && scan->wanted == 0 && scan->word_len > 0;
    size_t n = 0;
    while (is_value && n < len && data[n] >= ' ' && data[n] != DEL) {
        n++;
    }
    while (is_target && n < len && data[n] > ' ' && data[n] != DEL && data[n] != '%' && data[n] != '&' && data[n] != ';') {
        n++;
    }
    while (is_unknown && n < len && data[n] > ' ' && data[n] != DEL && data[n] != ':') {
        n++;
    }
    return n;
}

static uint8_t see(struct far_http_scan *scan, uint8_t c)
{
    scan->cost++;
    return scan->part == FAR_HTTP_LINE ? see_line(scan, c) : scan->part == FAR_HTTP_NAME ? see_name(scan, c) : see_value(scan, c);
}

/* The head is too large: what libwebsockets has of it must do. The rest is read and dropped, so that the client hears the answer. */
static void begin_drop(struct far_http_scan *scan)
{
    bool is_line = scan->part == FAR_HTTP_LINE;
    refuse(scan, is_line ? 414 : 431, is_line ? "the path and query are longer than all that is taken"
                                              : "the headers are larger, or more, than what is taken");
    scan->end = is_line && scan->spaces == 1 ? end_of_line_and_head : end_of_head;
    scan->after_line = scan->part == FAR_HTTP_NAME && scan->word_len == 0;
    scan->part = FAR_HTTP_DROP;
}

/* Until the head ends, or long enough; then what ends it for libwebsockets is put at `to`, if it fits: else with the next bytes. */
static size_t drop(struct far_http_scan *scan, uint8_t *data, size_t from, size_t to, size_t len, size_t max)
{
    for (; from < len && !scan->is_over; from++) {
        uint8_t c = data[from];
        scan->is_over = (c == '\n' && scan->after_line) || ++scan->dropped > FAR_HTTP_SCAN_DROP_MAX;
        scan->after_line = c == '\n' || (c == '\r' && scan->after_line);
    }
    if (!scan->is_over || max - to < strlen(scan->end)) {
        return to;
    }
    memcpy(data + to, scan->end, strlen(scan->end));
    to += strlen(scan->end);
    (void)see_head_end(scan);
    return to;
}

/* One byte of a head, or several that are plain. Returns how many. */
static size_t step_head(struct far_http_scan *scan, uint8_t *data, size_t len)
{
    size_t room = scan->cost <= FAR_HTTP_SCAN_HEAD_MAX ? FAR_HTTP_SCAN_HEAD_MAX + 1 - scan->cost : 0;
    size_t plain = plain_run(scan, data, len < room ? len : room);
    if (plain > 0) {
        scan->cost += (uint32_t)plain;
        return plain;
    }
    data[0] = see(scan, data[0]);
    return 1;
}

static size_t step_body(struct far_http_scan *scan, size_t len)
{
    size_t step = scan->length < len ? (size_t)scan->length : len;
    scan->length -= step;
    scan->part = scan->length > 0 ? FAR_HTTP_BODY : FAR_HTTP_LINE;
    return step;
}

size_t far_http_scan_bytes(struct far_http_scan *scan, uint8_t *data, size_t len, size_t max, size_t *ret_used)
{
    size_t used = 0;
    bool is_whole = false;
    *ret_used = len;
    if (scan->part == FAR_HTTP_REST) {
        return len;
    }
    while (used < len && !is_whole) {
        bool is_large = scan->cost > FAR_HTTP_SCAN_HEAD_MAX || scan->lines > FAR_HTTP_SCAN_LINES_MAX;
        if (is_large && scan->escape == 0 && scan->part != FAR_HTTP_DROP) { /* an escape would be left open */
            begin_drop(scan);
        }
        if (scan->part == FAR_HTTP_DROP) {
            return drop(scan, data, used, used, len, max);
        }
        uint64_t heads = scan->heads;
        bool is_body = scan->part == FAR_HTTP_BODY;
        used += is_body ? step_body(scan, len - used) : step_head(scan, data + used, len - used);
        is_whole = (is_body || scan->heads != heads) && scan->part != FAR_HTTP_BODY;
    }
    *ret_used = used;
    return used;
}

int far_http_scan_take(struct far_http_scan *scan, const char **ret_why)
{
    if (scan->taken == scan->heads) {
        *ret_why = "where the request begins cannot be told";
        return 400;
    }
    scan->taken++;
    *ret_why = scan->why;
    return scan->taken == scan->heads && scan->part == FAR_HTTP_REST ? scan->status : 0; /* nothing was scanned behind a refused one */
}
