/* The disk model of the power-cut tool: from a copy of a folder, the shim's log and a cut, what a disk may hold.
 *
 * Data: what a finished fsync or fdatasync (or an O_DSYNC write) covers is there; of the rest any subset, by the seed:
 * nothing, everything, single operations, pages of 4 KiB, sectors of 512 bytes, or everything up to a moment with the
 * last write torn. Names (create, rename, unlink, mkdir): as on ext4 they reach the disk in order, so a prefix survives;
 * what a finished fsync of the parent folder covers is in it. A file's own fsync does not save its name. */
#ifndef FAR_TESTS_LIB_POWERCUT_DISK_H
#define FAR_TESTS_LIB_POWERCUT_DISK_H

#include <stddef.h>
#include <stdint.h>

struct powercut_disk;

enum powercut_mode {
    POWERCUT_LOSE_ALL,  /* everything that was not synced */
    POWERCUT_KEEP_ALL,  /* nothing is lost: a kill, not a power cut */
    POWERCUT_OPERATIONS,
    POWERCUT_PAGES,
    POWERCUT_SECTORS,
    POWERCUT_PREFIX, /* up to a moment; the write at that moment is torn */
    POWERCUT_MODES,
};

/* Reads log_path and the names under base_path (NULL: an empty folder). Exits with a message when the log is not what the
 * shim writes, or holds an operation that cannot be replayed. */
struct powercut_disk *powercut_disk_new(const char *log_path, const char *base_path);
void powercut_disk_free(struct powercut_disk *disk);
size_t powercut_disk_records(const struct powercut_disk *disk);
/* Calls back with each mark before the cut, in order; at: its record. */
void powercut_disk_marks(const struct powercut_disk *disk, size_t cut,
                         void (*mark)(size_t at, const char *text, size_t length));
/* Makes the folder out_path (must not exist) with what survives a cut before record `cut`. mode < 0: the seed chooses.
 * Returns the mode. Exits on an I/O error. */
int powercut_disk_build(struct powercut_disk *disk, size_t cut, uint64_t seed, int mode, const char *out_path);

#endif
