/* What the power-cut shim writes and the power-cut tool reads: records, native byte order, one machine.
 *
 * Good day: libpowercut.so, preloaded into the real programs (FAR_POWERCUT_ROOT=folder, FAR_POWERCUT_LOG=file), appends
 * one record for each operation that changes the folder; the log of several processes is one file, in the order in which
 * the operations were done. The tool rebuilds from a copy of the folder taken before and a cut point what a disk may
 * hold after a power cut there (powercut_disk.h). A test appends marks: "this was acknowledged by now"; a program can do
 * it itself, one write(2) a mark, on the descriptor FAR_POWERCUT_MARK_FD.
 *
 * How it fails: an operation that the shim cannot record (a hard link, a copy inside the kernel) writes a record
 * `unsupported`, and the tool refuses the log. What it cannot see (stdio's own writes, mmap) is found by
 * rebuilding without a cut (keep-all) and comparing with the folder. */
#ifndef FAR_TESTS_LIB_POWERCUT_LOG_H
#define FAR_TESTS_LIB_POWERCUT_LOG_H

#include <stdint.h>

#define POWERCUT_MAGIC 0x74756370u /* "pcut" */

enum powercut_type {
    POWERCUT_OPEN = 1, /* handle, path; flags: enum powercut_open_flags */
    POWERCUT_WRITE,    /* handle, offset, data; flags 1: synced by itself (O_DSYNC) */
    POWERCUT_TRUNCATE, /* handle, offset = new size */
    POWERCUT_ALLOCATE, /* handle, offset, length: grows the file with zeroes */
    POWERCUT_PUNCH,    /* handle, offset, length: zeroes, the size stays */
    POWERCUT_SYNC_BEGIN, /* handle */
    POWERCUT_SYNC_END,   /* handle; length = number of the matching begin (offset of its record) */
    POWERCUT_RENAME,   /* path, path2 */
    POWERCUT_UNLINK,   /* path: file or folder */
    POWERCUT_MKDIR,    /* path */
    POWERCUT_MARK,     /* data: text of the test */
    POWERCUT_UNSUPPORTED, /* data: which call */
    POWERCUT_SYNC_ALL, /* sync, syncfs */
    POWERCUT_TYPE_MAX,
};

enum powercut_open_flags {
    POWERCUT_CREATED = 1,
    POWERCUT_TRUNCATED = 2,
    POWERCUT_FOLDER = 4,
};

/* Followed by path, path2 (not terminated, relative to the root) and data. */
struct powercut_record {
    uint32_t magic;
    uint32_t type;
    uint64_t handle; /* of the open file: process id and a counter */
    uint64_t offset;
    uint64_t length;
    uint32_t flags;
    uint32_t path_len;
    uint32_t path2_len;
    uint32_t data_len;
};

#endif
