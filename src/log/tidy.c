/* Tidying: see tidy.h. */
#include "log/tidy.h"

static int tidy_txn(struct far_store_txn *txn, struct far_tidy *tidy, struct far_error *err)
{
    return far_segments_trim(txn, FAR_TIDY_ROWS, &tidy->more, err);
}

int far_tidy(struct far_store *store, struct far_tidy *ret_tidy, struct far_error *err)
{
    struct far_store_txn *txn;
    struct far_tidy tidy = {.more = false};
    int rv = far_store_begin(store, true, &txn, err);
    if (rv != 0) {
        return rv;
    }
    rv = tidy_txn(txn, &tidy, err);
    if (rv != 0) {
        far_store_abort(txn);
        return rv;
    }
    rv = far_store_commit(txn, err);
    if (rv == 0) {
        *ret_tidy = tidy;
    }
    return rv;
}
