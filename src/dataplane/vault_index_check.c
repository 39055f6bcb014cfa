/* Walking the LMDB file of the index before LMDB does: a damaged page must cost a rebuild, not a crash.
 *
 * The format is that of LMDB 0.9 on a little-endian machine with 64-bit words (mdb.c: MDB_meta, MDB_db, MDB_page,
 * MDB_node). A file that looks otherwise is called damaged, which costs no more than a rebuild. */
#include "base/file.h"
#include "dataplane/vault_index.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <unistd.h>

enum {
    PAGE = 4096,
    PAGE_HEADER = 16,
    NODE_HEADER = 8,
    P_BRANCH = 1,
    P_LEAF = 2,
    P_OVERFLOW = 4,
    P_META = 8,
    F_BIGDATA = 1,
    DB_BYTES = 48,
    DEPTH_MAX = 16,
    KEY_MAX = FAR_INDEX_KEY_MAX,
    INTEGERKEY = 8,
};
#define LMDB_MAGIC 0xBEEFC0DEu
#define NO_ROOT UINT64_MAX

struct check {
    int fd;
    const char *path;
    const uint8_t *vault_uuid;
    uint64_t last_page;
    uint64_t pages_left; /* a tree that shares or loops pages runs out of them */
    bool is_main;
    uint8_t least[KEY_MAX]; /* the next key is not below this one … */
    size_t least_len;
    bool above; /* … and not equal to it */
    bool has_least;
};

static int bad(const struct check *check, uint64_t page, const char *what, struct far_error *err)
{
    return far_fail(err, FAR_CORRUPT, "index '%s', page %llu: %s", check->path, (unsigned long long)page, what);
}

static bool key_in_order(struct check *check, struct far_slice key, bool is_separator)
{
    int order = check->has_least ? far_slice_compare(key, far_slice(check->least, check->least_len)) : 1;
    if (key.len > KEY_MAX || order < 0 || (order == 0 && check->above)) {
        return false;
    }
    memcpy(check->least, key.data, key.len);
    check->least_len = key.len;
    check->has_least = true;
    check->above = !is_separator; /* a leaf may repeat the separator above it, not the key before it */
    return true;
}

/* A list of free pages: count, then page numbers. */
static bool free_list_good(const struct check *check, struct far_slice list)
{
    if (list.len < 8 || list.len % 8 != 0 || far_get_le64(list.data) > list.len / 8 - 1) {
        return false;
    }
    for (uint64_t i = 1; i <= far_get_le64(list.data); i++) {
        uint64_t page = far_get_le64(list.data + 8 * i);
        if (page < 2 || page > check->last_page) {
            return false;
        }
    }
    return true;
}

static int check_overflow(struct check *check, uint64_t page, uint64_t len, struct far_error *err)
{
    uint64_t count = (PAGE_HEADER - 1 + len) / PAGE + 1;
    if (page < 2 || page > check->last_page || count > check->last_page - page + 1 || len > (64u << 20)) {
        return bad(check, page, "an overflow page out of bounds", err);
    }
    uint8_t *bytes = malloc(count * PAGE);
    if (bytes == NULL) {
        return far_fail(err, FAR_LIMIT, "no memory to check the index");
    }
    int rc = far_file_pread(check->fd, bytes, count * PAGE, page * PAGE, check->path, err);
    if (rc == 0) {
        bool good = far_get_le64(bytes) == page && far_get_le16(bytes + 10) == P_OVERFLOW &&
                    far_get_le32(bytes + 12) == count && free_list_good(check, far_slice(bytes + PAGE_HEADER, len));
        rc = good ? 0 : bad(check, page, "a damaged overflow page", err);
    }
    free(bytes);
    return rc;
}

static int check_leaf_node(struct check *check, const uint8_t *page, uint64_t number, uint32_t at,
                           struct far_error *err)
{
    const uint8_t *node = page + at;
    uint64_t len = far_get_le32(node);
    unsigned flags = far_get_le16(node + 4);
    unsigned key_len = far_get_le16(node + 6);
    bool big = flags == F_BIGDATA && !check->is_main;
    uint64_t inside = big ? 8 : len;
    if ((flags != 0 && !big) || at + NODE_HEADER + key_len + inside > PAGE) {
        return bad(check, number, "an entry out of bounds", err);
    }
    struct far_slice key = far_slice(node + NODE_HEADER, key_len);
    struct far_slice value = far_slice(node + NODE_HEADER + key_len, (size_t)inside);
    if (!check->is_main) { /* integers in the machine's order: the tree of free pages is small, its order is not checked */
        if (big) {
            return check_overflow(check, far_get_le64(value.data), len, err);
        }
        return key_len == 8 && free_list_good(check, value) ? 0 : bad(check, number, "a damaged free list", err);
    }
    bool length_good = key_len <= KEY_MAX && (key_len != 32 || len == FAR_INDEX_ROW_VALUE);
    if (!length_good || !far_index_value_good(check->vault_uuid, key, value)) {
        return bad(check, number, "the check of an entry is wrong", err);
    }
    return key_in_order(check, key, false) ? 0 : bad(check, number, "keys out of order", err);
}

static int check_page(struct check *check, uint64_t number, unsigned depth, struct far_error *err);

static int check_branch_node(struct check *check, const uint8_t *page, uint64_t number, uint32_t at, bool is_first,
                             unsigned depth, struct far_error *err)
{
    const uint8_t *node = page + at;
    uint64_t child = far_get_le32(node) | (uint64_t)far_get_le16(node + 4) << 32;
    unsigned key_len = far_get_le16(node + 6);
    if (at + NODE_HEADER + key_len > PAGE || depth <= 1) {
        return bad(check, number, "a branch out of bounds", err);
    }
    struct far_slice key = far_slice(node + NODE_HEADER, key_len);
    if (check->is_main && !is_first && !key_in_order(check, key, true)) {
        return bad(check, number, "branches out of order", err);
    }
    return check_page(check, child, depth - 1, err);
}

static int check_page(struct check *check, uint64_t number, unsigned depth, struct far_error *err)
{
    uint8_t page[PAGE];
    if (number < 2 || number > check->last_page || check->pages_left == 0) {
        return bad(check, number, "a page out of bounds, or used twice", err);
    }
    check->pages_left--;
    int rc = far_file_pread(check->fd, page, PAGE, number * PAGE, check->path, err);
    if (rc != 0) {
        return rc;
    }
    unsigned flags = far_get_le16(page + 10);
    unsigned lower = far_get_le16(page + 12);
    unsigned upper = far_get_le16(page + 14);
    bool kind_good = flags == (depth == 1 ? P_LEAF : P_BRANCH);
    bool bounds_good = lower >= PAGE_HEADER && lower <= upper && upper <= PAGE && lower % 2 == 0;
    unsigned count = bounds_good ? (lower - PAGE_HEADER) / 2 : 0;
    if (far_get_le64(page) != number || !kind_good || count < (depth == 1 ? 1u : 2u)) {
        return bad(check, number, "a damaged page header", err);
    }
    for (unsigned i = 0; rc == 0 && i < count; i++) {
        unsigned at = far_get_le16(page + PAGE_HEADER + 2 * i);
        if (at < upper || at > PAGE - NODE_HEADER || at % 2 != 0) {
            return bad(check, number, "an entry out of bounds", err);
        }
        rc = depth == 1 ? check_leaf_node(check, page, number, at, err)
                        : check_branch_node(check, page, number, at, i == 0, depth, err);
    }
    return rc;
}

static int check_tree(struct check *check, const uint8_t *db, unsigned flags_allowed, struct far_error *err)
{
    unsigned depth = far_get_le16(db + 6);
    uint64_t root = far_get_le64(db + 40);
    if (far_get_le16(db + 4) != flags_allowed || depth > DEPTH_MAX) {
        return bad(check, 0, "a damaged table description", err);
    }
    if (root == NO_ROOT) {
        return 0;
    }
    return depth == 0 ? bad(check, 0, "a damaged table description", err) : check_page(check, root, depth, err);
}

/* One of the two meta pages; *ret_txn its transaction. */
static int read_meta(struct check *check, uint64_t number, uint8_t page[PAGE], struct far_error *err)
{
    int rc = far_file_pread(check->fd, page, PAGE, number * PAGE, check->path, err);
    if (rc != 0) {
        return rc;
    }
    const uint8_t *meta = page + PAGE_HEADER;
    bool good = far_get_le64(page) == number && far_get_le16(page + 10) == P_META &&
                far_get_le32(meta) == LMDB_MAGIC && far_get_le32(meta + 4) == 1 && far_get_le64(meta + 8) == 0 &&
                far_get_le32(meta + 24) == PAGE && far_get_le64(meta + 16) <= (1ull << 44);
    return good ? 0 : bad(check, number, "a damaged meta page", err);
}

static int check_file(struct check *check, struct far_error *err)
{
    uint8_t pages[2][PAGE];
    for (unsigned i = 0; i < 2; i++) {
        int rc = read_meta(check, i, pages[i], err);
        if (rc != 0) {
            return rc;
        }
    }
    enum { DBS_AT = PAGE_HEADER + 24, LAST_AT = DBS_AT + 2 * DB_BYTES, TXN_AT = LAST_AT + 8 };
    unsigned newer = far_get_le64(pages[1] + TXN_AT) > far_get_le64(pages[0] + TXN_AT) ? 1 : 0;
    const uint8_t *meta = pages[newer];
    check->last_page = far_get_le64(meta + LAST_AT);
    if (check->last_page < 1 || check->last_page > (1ull << 40)) {
        return bad(check, newer, "an impossible number of pages", err);
    }
    check->pages_left = check->last_page;
    int rc = check_tree(check, meta + DBS_AT, INTEGERKEY, err);
    check->is_main = true;
    return rc != 0 ? rc : check_tree(check, meta + DBS_AT + DB_BYTES, 0, err);
}

int far_index_check(const char *path, const uint8_t vault_uuid[16], struct far_error *err)
{
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return far_fail_errno(err, errno == ENOENT ? FAR_NOT_FOUND : FAR_IO, errno, "open '%s'", path);
    }
    struct check check = {.fd = fd, .path = path, .vault_uuid = vault_uuid};
    int rc = check_file(&check, err);
    close(fd);
    return rc;
}
