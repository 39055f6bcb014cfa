/* A shim for tests: the program aborts when it puts a value into LMDB that holds the text of FAR_CRASH_ON. So an entry of the
 * log that is good for everybody else crashes whoever applies it. Loaded with LD_PRELOAD. */
#define _GNU_SOURCE
#include <dlfcn.h>
#include <lmdb.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

typedef int (*put_fn)(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags);

int mdb_put(MDB_txn *txn, MDB_dbi dbi, MDB_val *key, MDB_val *data, unsigned flags)
{
    const char *text = getenv("FAR_CRASH_ON");
    put_fn real = (put_fn)(uintptr_t)dlsym(RTLD_NEXT, "mdb_put");
    if (text != NULL && data != NULL && memmem(data->mv_data, data->mv_size, text, strlen(text)) != NULL) {
        abort();
    }
    return real(txn, dbi, key, data, flags);
}
