/* A backup: its header, and the records behind it, with the manifest, pieces and batches that they hold. */
#include "log/backup.h"

#include "base/assert.h"
#include "log/snapshot.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void take_body(unsigned type, struct far_slice body)
{
    struct far_store *store;
    struct far_manifest manifest;
    if (type == FAR_BACKUP_MANIFEST) {
        (void)far_manifest_decode(body, &manifest, NULL);
        return;
    }
    FAR_ASSERT(far_store_open_memory(&store, NULL) == 0);
    if (type == FAR_BACKUP_PIECE) {
        struct far_install install;
        FAR_ASSERT(far_install_begin(store, &install, NULL) == 0);
        (void)far_install_piece(&install, body, NULL);
    } else if (type == FAR_BACKUP_HISTORY) {
        struct far_store_txn *txn;
        FAR_ASSERT(far_store_begin(store, true, &txn, NULL) == 0);
        (void)far_history_apply(txn, body, NULL);
        far_store_abort(txn);
    }
    far_store_close(store);
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct far_backup_header header;
    uint8_t again[FAR_BACKUP_HEADER];
    size_t at = size < FAR_BACKUP_HEADER ? size : FAR_BACKUP_HEADER;
    if (far_backup_header_decode(far_slice(data, at), &header, NULL) == 0) {
        far_backup_header_encode(&header, again);
        FAR_ASSERT(far_backup_header_decode(far_slice(again, sizeof again), &header, NULL) == 0);
    }
    while (size - at >= FAR_BACKUP_RECORD_HEADER) {
        unsigned type;
        uint32_t len;
        if (far_backup_record_decode(data + at, &type, &len, NULL) != 0 || len > size - at - FAR_BACKUP_RECORD_HEADER) {
            break;
        }
        take_body(type, far_slice(data + at + FAR_BACKUP_RECORD_HEADER, len));
        at += FAR_BACKUP_RECORD_HEADER + len;
    }
    return 0;
}
