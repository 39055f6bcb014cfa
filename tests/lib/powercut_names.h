/* For powercut_disk.c only: the names in the folders of a modelled disk, and how the tool gives up.
 *
 * A list of (folder, name, inode); small, so it is searched from one end to the other. */
#ifndef FAR_TESTS_LIB_POWERCUT_NAMES_H
#define FAR_TESTS_LIB_POWERCUT_NAMES_H

#include <limits.h>
#include <stddef.h>

enum { POWERCUT_NONE = -1, POWERCUT_ROOT = 0 };

struct entry { /* a name in a folder; inode POWERCUT_NONE: free slot */
    int parent;
    int inode;
    char name[NAME_MAX + 1];
};

struct names {
    struct entry *list;
    size_t count;
    size_t capacity;
};

/* Prints the reason, with errno's text if it is set, and exits with status 2. */
__attribute__((format(printf, 1, 2), noreturn)) void powercut_die(const char *format, ...);
/* Room for one more element of an array: the array, maybe moved. */
void *powercut_grow(void *list, size_t count, size_t *capacity, size_t element);

/* The entry's number, or POWERCUT_NONE. */
int powercut_lookup(const struct names *names, int parent, const char *name);
/* Adds the name, or gives it another inode. */
void powercut_add_name(struct names *names, int parent, const char *name, int inode);
/* Walks path (length bytes, relative to the root); ret_parent and last are those of its last part. Returns the inode or
 * POWERCUT_NONE; *ret_parent is POWERCUT_NONE when a folder on the way is missing. */
int powercut_resolve(const struct names *names, const char *path, size_t length, int *ret_parent,
                     char last[NAME_MAX + 1]);
struct names powercut_copy_names(const struct names *from);

#endif
