/* One connection to an NBD server, used by several threads at once.
 *
 * Requests of all threads are in flight together; whichever thread waits first polls the socket for all of them (leader and
 * followers), so a connection needs no thread of its own. Every wait has a deadline: a server that says nothing until then
 * loses the connection, since its answer could else still arrive in a buffer that is the caller's again. A lost link stays
 * lost; whoever needs another opens one. */
#ifndef FAR_ADAPTERS_NBD_NBD_LINK_H
#define FAR_ADAPTERS_NBD_NBD_LINK_H

#include "adapters/adapters.h"
#include "base/error.h"

enum { FAR_NBD_WORDS_MAX = 240, FAR_NBD_NAME_MAX = 256 };

struct far_nbd_link;

/* What the server said about its export. */
struct far_nbd_about {
    uint64_t size_bytes;
    uint64_t block_min; /* requests are multiples of it, 1: any */
    uint64_t block_max; /* of one request */
    bool read_only, multi_conn, can_zero, has_context;
    char name[FAR_NBD_NAME_MAX];        /* canonical */
    char description[FAR_NBD_NAME_MAX]; /* "": none */
};

enum far_nbd_answer {
    FAR_NBD_OK,
    FAR_NBD_REFUSED, /* this one request, the connection lives on */
    FAR_NBD_LOST,    /* the connection is gone, or was never made */
    FAR_NBD_SILENT,  /* the server said nothing until the deadline; the connection was given up */
};

/* Why not, in the words of libnbd or of the server. */
struct far_nbd_words {
    int sys_errno;
    char text[FAR_NBD_WORDS_MAX];
};

/* Called in the order of the disk with what a metadata context says of it; 0, or negative to hear no more. */
typedef int far_nbd_extent_fn(void *arg, uint64_t offset, uint64_t length, uint32_t flags);

enum far_nbd_op { FAR_NBD_READ, FAR_NBD_WRITE, FAR_NBD_ZERO, FAR_NBD_FLUSH, FAR_NBD_STATUS };

struct far_nbd_request {
    enum far_nbd_op op;
    uint64_t offset, length; /* at most block_max, multiples of block_min */
    void *into;              /* read */
    const void *from;        /* write */
    far_nbd_extent_fn *on_extent; /* status: of the context that the link was opened with */
    void *arg;
};

/* Connects, shakes hands (TLS where the URI says so) and asks for one metadata context; blocks until deadline_ms of the
 * monotonic clock at the latest, but for the resolver. FAR_NBD_REFUSED: the URI itself is of no use. */
enum far_nbd_answer far_nbd_link_open(const char *uri, const char *context, uint64_t deadline_ms,
                                      struct far_nbd_link **ret_link, struct far_nbd_words *ret_words);
const struct far_nbd_about *far_nbd_link_about(const struct far_nbd_link *link);
bool far_nbd_link_is_lost(struct far_nbd_link *link);
/* Any thread. */
enum far_nbd_answer far_nbd_link_do(struct far_nbd_link *link, const struct far_nbd_request *request, uint64_t deadline_ms,
                                    struct far_nbd_words *ret_words);
void far_nbd_link_ref(struct far_nbd_link *link);
void far_nbd_link_unref(struct far_nbd_link *link); /* NULL is allowed; the last one closes */

#endif
