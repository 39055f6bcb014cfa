/* The round trip time of a connection: see round_trip.h. */
#include "net/round_trip.h"

#include <linux/tcp.h>
#include <netinet/in.h>
#include <stdbool.h>
#include <stddef.h>
#include <sys/socket.h>

uint32_t far_round_trip_us(int fd)
{
    struct tcp_info info = {0};
    socklen_t len = sizeof info;
    bool told = getsockopt(fd, IPPROTO_TCP, TCP_INFO, &info, &len) == 0 &&
                len >= offsetof(struct tcp_info, tcpi_min_rtt) + sizeof info.tcpi_min_rtt;
    return told && info.tcpi_min_rtt != 0 ? info.tcpi_min_rtt : UINT32_MAX;
}
