/* TZif: the rules of a time zone as a machine's tzdata has them (RFC 9636), made into those that the state keeps.
 *
 * Files of versions 1 to 4. Behind the last change that a file lists its footer goes on, a POSIX TZ string, which is expanded year by
 * year. A server reads them only to propose them (zone_set): what calendars are computed from is in the state. Any thread. */
#ifndef FAR_API_TZIF_H
#define FAR_API_TZIF_H

#include "fsm/calendar.h"

enum {
    FAR_TZIF_BYTES_MAX = 256 * 1024,
    FAR_TZIF_YEARS = 20, /* of rules, from the beginning of the year before the present one on */
};

/* The rules from one time to another (seconds since 1970, from_s < until_s <= 2^32): the first change is at 0 with the offset at from_s.
 * *ret_until_s is until_s, or less if there are more than FAR_ZONE_CHANGES_MAX, or the file says nothing of what comes later. changes has
 * room for FAR_ZONE_CHANGES_MAX. FAR_INVALID: what is wrong with it. Pure. */
int far_tzif_parse(struct far_slice file, uint64_t from_s, uint64_t until_s, struct far_sub_zone_change *changes, size_t *ret_count,
                   uint64_t *ret_until_s, struct far_error *err);

/* The rules of this zone on this machine, as a command; its list lies in changes, the name is borrowed. now_ms: cluster time. Zones are
 * below $TZDIR or /usr/share/zoneinfo; UTC needs no file. FAR_NOT_FOUND: there is no such zone here. */
int far_tzif_load(struct far_slice name, uint64_t now_ms, struct far_sub_zone_change changes[FAR_ZONE_CHANGES_MAX],
                  struct far_cmd_zone_set *ret_command, struct far_error *err);

#endif
