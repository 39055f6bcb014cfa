/* Manifests, pieces and batches of history as a bad peer may send them. Checksums are made right, so that what lies
 * behind them is looked at. */
#include "log/snapshot.h"

#include <stdlib.h>

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void feed(struct far_store *store, uint8_t *bytes, size_t size)
{
    struct far_store_txn *txn;
    struct far_install install;
    struct far_manifest manifest;
    if (size >= 24) { /* the checksum of a piece */
        far_put_le64(bytes + 16, far_hash64_parts(far_slice(bytes, 16), far_slice(bytes + 24, size - 24), far_slice(NULL, 0)));
    }
    if (far_install_begin(store, &install, NULL) == 0) {
        (void)far_install_piece(&install, far_slice(bytes, size), NULL);
    }
    if (far_store_begin(store, true, &txn, NULL) == 0) {
        (void)far_history_apply(txn, far_slice(bytes, size), NULL);
        far_store_abort(txn);
    }
    if (size >= 8) { /* the checksum of a manifest */
        far_put_le64(bytes + size - 8, far_hash64(bytes, size - 8));
    }
    (void)far_manifest_decode(far_slice(bytes, size), &manifest, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    static struct far_store *store;
    if (store == NULL && far_store_open_memory(&store, NULL) != 0) {
        abort();
    }
    uint8_t *copy = malloc(size + 1);
    if (copy != NULL) {
        if (size > 0) {
            memcpy(copy, data, size);
        }
        feed(store, copy, size);
        free(copy);
    }
    return 0;
}
