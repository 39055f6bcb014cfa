/* Dates of the Gregorian calendar, computed: no clock, no environment, so that the pure core may use it too. Any thread. */
#ifndef FAR_BASE_DATE_H
#define FAR_BASE_DATE_H

#include <stdint.h>

struct far_date {
    uint64_t year;
    unsigned month; /* 1 to 12 */
    unsigned day;   /* 1 to 31 */
};
/* Of so many days after 1970-01-01. */
struct far_date far_date_of_days(uint64_t days);

enum { FAR_DATE_MAX = 32 };
/* Milliseconds since 1970 as "2027-01-31T00:00:00Z", rounded down; times behind the year 9999 are shown as its end. Returns text. */
const char *far_date_text(uint64_t ms, char text[FAR_DATE_MAX]);

#endif
