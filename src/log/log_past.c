/* Views of the past: what log.h offers of history.h. Any thread. */
#include "log/export.h"
#include "log/history.h"
#include "log/log.h"

int far_log_view_past(struct far_log_view *view, const struct far_moment *moment, struct far_error *err)
{
    struct far_past *past;
    int rv = far_past_open(view->transaction, moment, &past, err);
    if (rv != 0) {
        return rv;
    }
    far_past_close(view->past);
    view->past = past;
    view->state = past->state;
    view->applied_index = past->index;
    view->last_seq = past->seq;
    view->digest = past->state.digest;
    memcpy(view->head, past->head, sizeof view->head);
    return 0;
}

int far_log_view_changed(struct far_log_view *view, struct far_slice key, uint64_t before, uint64_t *ret_from,
                         uint64_t *ret_to, struct far_error *err)
{
    return far_history_changed(view->transaction, key, before, ret_from, ret_to, err);
}

int far_log_view_export(struct far_log_view *view, uint64_t from, const struct far_moment *until, size_t bytes_max,
                        struct far_buf *out, uint64_t *ret_next, uint64_t *ret_until, struct far_error *err)
{
    uint64_t seq;
    int rv = far_moment_seq(view->transaction, until, &seq, err);
    rv = rv != 0 ? rv : far_export_piece(view->transaction, from, seq, bytes_max, out, ret_next, err);
    *ret_until = rv == 0 ? seq : *ret_until;
    return rv;
}
