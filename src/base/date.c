/* Dates: see date.h. */
#include "base/date.h"

#include <stdio.h>

enum { DAY_S = 86400, ERA_DAYS = 146097 /* 400 years */, EPOCH_DAYS = 719468 /* from 0000-03-01 to 1970-01-01 */ };
#define LAST_S 253402300799ull /* 9999-12-31T23:59:59Z */

/* Howard Hinnant, "chrono-Compatible Low-Level Date Algorithms": years that begin in March, in eras of 400 of them. */
struct far_date far_date_of_days(uint64_t days)
{
    uint64_t shifted = days + EPOCH_DAYS, era = shifted / ERA_DAYS, of_era = shifted % ERA_DAYS;
    uint64_t year = (of_era - of_era / 1460 + of_era / 36524 - of_era / 146096) / 365;
    uint64_t of_year = of_era - (365 * year + year / 4 - year / 100), march = (5 * of_year + 2) / 153;
    struct far_date date = {.year = year + era * 400 + (march >= 10),
                            .month = (unsigned)(march < 10 ? march + 3 : march - 9),
                            .day = (unsigned)(of_year - (153 * march + 2) / 5 + 1)};
    return date;
}

const char *far_date_text(uint64_t ms, char text[FAR_DATE_MAX])
{
    uint64_t second = ms / 1000 < LAST_S ? ms / 1000 : LAST_S;
    struct far_date date = far_date_of_days(second / DAY_S);
    unsigned of_day = (unsigned)(second % DAY_S);
    snprintf(text, FAR_DATE_MAX, "%04u-%02u-%02uT%02u:%02u:%02uZ", (unsigned)(date.year % 10000), date.month % 100, date.day % 100,
             of_day / 3600, of_day / 60 % 60, of_day % 60);
    return text;
}
