/* Batches of states of the past as a bad peer may send them: nothing but what fits this store is taken (log/past_copy.h). */
#include "log/history.h"
#include "log/past_copy.h"

#include <stdio.h>
#include <stdlib.h>
#include <unistd.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

/* Empty, with an epoch; its files are gone as soon as they are open. */
static struct far_store *open_store(void)
{
    static const char *const files[] = {"data.mdb", "lock.mdb"};
    const char *base = getenv("TMPDIR");
    char dir[256], path[300];
    struct far_store *store;
    struct far_store_txn *txn;
    struct far_history history;
    snprintf(dir, sizeof dir, "%s/far-fuzz-past-XXXXXX", base != NULL ? base : "/tmp");
    if (mkdtemp(dir) == NULL || far_store_open_lmdb(dir, (size_t)1 << 26, false, &store, NULL) != 0 ||
        far_store_begin(store, true, &txn, NULL) != 0 || far_history_begin(&history, txn, NULL) != 0 ||
        far_store_commit(txn, NULL) != 0) {
        abort();
    }
    for (int i = 0; i < 2; i++) {
        snprintf(path, sizeof path, "%s/%s", dir, files[i]);
        (void)unlink(path);
    }
    (void)rmdir(dir);
    return store;
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct far_store *store;
    struct far_store_txn *txn;
    struct far_past_batch batch;
    store = store != NULL ? store : open_store();
    if (far_past_copy_decode(far_slice(data, size), &batch, NULL) == 0 &&
        (batch.next.len + batch.rows.len > size || batch.next.len > FAR_PAST_KEY_MAX + 1)) {
        abort();
    }
    if (far_store_begin(store, true, &txn, NULL) != 0) {
        abort();
    }
    (void)far_past_copy_apply(txn, far_slice(data, size), NULL);
    far_store_abort(txn);
    return 0;
}
