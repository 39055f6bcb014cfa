/* Reading the frozen view of a send: what its adapter knows to be a hole is not read.
 *
 * Each worker remembers the extent that it was told last; most chunks lie in it, so that a hole of any size is one
 * question. Holes inside a chunk count only from HOLE_MIN on: cutting a read in small pieces costs more than the zeroes. Of blocks that
 * are listed one by one few lie in holes, and a question may cost more than a read (a file system in memory walks all pages up to the
 * next hole): there it is asked only behind a chunk of zeroes. */
#include "dataplane/send_local.h"

enum { HOLE_MIN = 4 * FAR_BLOCK_BYTES, QUESTIONS_MAX = 16 };

/* The extent of the view that holds offset; nothing known is data. */
static struct far_adapter_extent extent_at(struct send_worker *worker, uint64_t offset, unsigned *questions)
{
    struct far_send *send = worker->send;
    const struct far_adapter_bytes *bytes = send->platform->adapter->bytes;
    const struct far_adapter_extent all = {.offset = offset, .length = UINT64_MAX - offset};
    struct far_adapter_extent *known = &worker->extent, told;
    size_t count = 0;
    if (offset >= known->offset && offset - known->offset < known->length) {
        return *known;
    }
    bool asks = !send->plan.has_list || worker->zeroes_before;
    if (!asks || bytes->extents == NULL || ++*questions > QUESTIONS_MAX ||
        bytes->extents(send->handle, offset, &told, 1, &count, NULL) != FAR_ADAPTER_OK || count != 1 ||
        told.offset > offset || offset - told.offset >= told.length) {
        return all;
    }
    *known = told;
    return told;
}

static int read_bytes(struct send_worker *worker, uint8_t *buffer, uint64_t offset, size_t length, struct far_error *err)
{
    struct far_send *send = worker->send;
    struct far_adapter_error said = {0};
    enum far_adapter_outcome outcome = FAR_ADAPTER_OK;
    if (length == 0) {
        return 0;
    }
    int answer = send->platform->adapter->bytes->read(send->handle, buffer, length, offset, &said);
    int rc = far_adapter_result(answer, &said, &outcome, err);
    if (rc != 0) {
        pthread_mutex_lock(&send->mutex);
        send->outcome = outcome;
        pthread_mutex_unlock(&send->mutex);
    }
    return rc;
}

int send_read(struct send_worker *worker, uint8_t *buffer, uint64_t offset, size_t length, bool *ret_hole,
              struct far_error *err)
{
    size_t at = 0, unread = 0; /* from unread to at is data, to be read at once */
    unsigned questions = 0;
    int rc = 0;
    *ret_hole = false;
    while (rc == 0 && at < length) {
        struct far_adapter_extent extent = extent_at(worker, offset + at, &questions);
        uint64_t rest = extent.length - (offset + at - extent.offset);
        size_t piece = rest < length - at ? (size_t)rest : length - at;
        if (extent.zero && piece == length) {
            *ret_hole = true;
            return 0;
        }
        if (extent.zero && piece >= HOLE_MIN) {
            rc = read_bytes(worker, buffer + unread, offset + unread, at - unread, err);
            memset(buffer + at, 0, piece);
            unread = at + piece;
        }
        at += piece;
    }
    return rc == 0 ? read_bytes(worker, buffer + unread, offset + unread, length - unread, err) : rc;
}
