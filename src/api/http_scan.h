/* A look at the bytes of a connection before libwebsockets sees them: where each head ends, and what is wrong with it as it was sent.
 * Private to http*.c.
 *
 * libwebsockets decodes the target of a request while it looks for the end of its line: an escaped line end (%0d, %0a) ends the target
 * there, what follows %0a counts as a header, and %00 ends a value or the connection. Of some other faults it says nothing at all:
 * it closes, or waits. So each head is judged here, and what libwebsockets would stumble over is replaced, byte by byte, so
 * that it comes to the head's end and asks for an answer, which is then a refusal. A head without a fault goes through as it is,
 * but that headers which are not looked at lose their names: of some libwebsockets sees no end ("D: x"), and at "Upgrade" it
 * would close, where nothing else is spoken and the request is served as if that were not there.
 *
 * One scan a connection, in the order of the bytes, in whatever pieces they come. Pure: no memory, no clock. It stops where a
 * request ends, so that libwebsockets gets no byte of the next one before it is answered. After the first head that is refused
 * nothing more is looked at, for the connection ends with the answer. */
#ifndef FAR_API_HTTP_SCAN_H
#define FAR_API_HTTP_SCAN_H

#include "api/http.h"

enum {
    FAR_HTTP_SCAN_HEAD_MAX = FAR_HTTP_HEAD_MAX - 512, /* bytes of a head, 16 more for each line: what libwebsockets has room for */
    FAR_HTTP_SCAN_DROP_MAX = 1024 * 1024, /* behind that, before it is answered without waiting for its end */
    FAR_HTTP_SCAN_LINES_MAX = 50,                     /* headers */
    FAR_HTTP_SCAN_ARGUMENTS_MAX = 2 * FAR_HTTP_QUERY_MAX, /* it has no places for many more; refused before */
};

enum far_http_part { FAR_HTTP_LINE, FAR_HTTP_NAME, FAR_HTTP_VALUE, FAR_HTTP_BODY, FAR_HTTP_DROP, FAR_HTTP_REST };

struct far_http_scan { /* begins as zeros */
    enum far_http_part part;
    uint32_t cost;      /* of the head up to here */
    uint16_t lines;     /* of it */
    uint16_t arguments; /* of the target */
    uint8_t spaces;     /* in the first line */
    uint8_t escape;     /* digits that an escape lacks */
    uint8_t high;       /* its first one */
    uint8_t word_len;   /* of the last word of the first line, or of a header's name */
    char word[20];      /* of the first line */
    uint16_t wanted;    /* bits: the wanted headers with which the name may still go on */
    bool owes_colon;    /* libwebsockets gets it in the place of the next byte */
    bool is_length; /* the header is Content-Length */
    bool has_length, after_cr;
    uint64_t length;    /* of the body */
    uint64_t heads;     /* that have ended */
    uint64_t taken;     /* of them, by far_http_scan_take() */
    const char *end;    /* of a head that is too large, for libwebsockets */
    uint32_t dropped;   /* bytes of it */
    bool after_line, is_over; /* it is at the beginning of a line, has come to its end */
    int status;         /* with which the last one is refused; 0: it is not */
    const char *why;    /* lives for ever */
};

/* The next len bytes, of a buffer with room for max. Goes no further than the end of a request, or of a head that is refused;
 * *ret_used is how far: the bytes behind it are as they were, and the next to be scanned. Returns how many libwebsockets gets: as
 * many, or, in a head that is too large, another number up to max, also 0. */
size_t far_http_scan_bytes(struct far_http_scan *scan, uint8_t *data, size_t len, size_t max, size_t *ret_used);
/* libwebsockets has come to the end of its next head: returns 0, or the status with which to refuse it, and why. */
int far_http_scan_take(struct far_http_scan *scan, const char **ret_why);

#endif
