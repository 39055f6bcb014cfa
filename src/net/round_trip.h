/* The round trip time of a connection, by a header of the kernel that does not go together with libuv's. */
#ifndef FAR_NET_ROUND_TRIP_H
#define FAR_NET_ROUND_TRIP_H

#include <stdint.h>

/* The shortest that the kernel saw, microseconds; UINT32_MAX: not known, or no connected TCP socket. */
uint32_t far_round_trip_us(int fd);

#endif
