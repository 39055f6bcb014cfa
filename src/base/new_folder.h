/* A folder that a program fills for the first time, and takes back when that fails: init, restore and join leave nothing of
 * what they made, touch nothing that was there before, and begin in an empty folder or in what an earlier one of them left when
 * it was interrupted. While one of them is at it the file `new.lock` is locked, so that a second one is refused. Blocking; one
 * thread. */
#ifndef FAR_BASE_NEW_FOLDER_H
#define FAR_BASE_NEW_FOLDER_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

enum { FAR_NEW_FOLDER_PATH_MAX = 3072, FAR_NEW_FOLDER_FILES_MAX = 32 };

struct far_new_folder_plan {
    const char *owner;         /* whose it becomes: "server" */
    const char *const *files;  /* names of files that the program is about to write there; ends with NULL */
    const char *const *others; /* what else may be there; ends with NULL; NULL: nothing */
    const char *marker;        /* one of files: with it there, the folder is the rest of an earlier try, whatever it holds */
};

struct far_new_folder {
    const char *dir;         /* borrowed, like files */
    const char *const *files;
    uint32_t had;            /* which of them were there before, one bit each */
    bool made;               /* the folder was not there before */
    int lock_fd;             /* -1: somebody else's lock */
};

/* Makes dir if it is not there, and locks it. FAR_CONFLICT: it holds a file `config`, so it belongs to an owner already, or
 * something that is not in the plan, or another process fills it at this moment; FAR_IO: it cannot be made or written;
 * FAR_INVALID: the path is too long. Nothing is left behind by a failure. */
int far_new_folder_begin(const char *dir, const struct far_new_folder_plan *plan, struct far_new_folder *ret_folder,
                         struct far_error *err);
/* The same, under a lock of far_new_folder_lock that the caller holds and keeps. */
int far_new_folder_begin_locked(const char *dir, const struct far_new_folder_plan *plan, struct far_new_folder *ret_folder,
                                struct far_error *err);
/* It is filled; the lock goes. */
void far_new_folder_keep(struct far_new_folder *folder);
/* Removes those files that were not there before, the lock, and the folder if it was made and holds nothing else. */
void far_new_folder_undo(struct far_new_folder *folder);

/* The lock alone, of a folder that is there; FAR_CONFLICT: another process has it. Unlock removes its file. */
int far_new_folder_lock(const char *dir, int *ret_fd, struct far_error *err);
void far_new_folder_unlock(const char *dir, int fd);

#endif
