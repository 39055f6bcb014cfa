/* A folder that a program fills for the first time, and takes back when that fails: init and join leave nothing of what
 * they made, and touch nothing that was there before. Blocking; one thread. */
#ifndef FAR_BASE_NEW_FOLDER_H
#define FAR_BASE_NEW_FOLDER_H

#include "base/error.h"

#include <stdint.h>

enum { FAR_NEW_FOLDER_PATH_MAX = 3072, FAR_NEW_FOLDER_FILES_MAX = 32 };

struct far_new_folder {
    const char *dir;          /* borrowed, like files */
    const char *const *files; /* names of files that the program is about to write there; ends with NULL */
    uint32_t had;             /* which of them were there before, one bit each */
    bool made;                /* the folder was not there before */
};

/* Makes dir if it is not there. FAR_CONFLICT: it holds a file `config`, so it belongs to an owner ("server") already;
 * FAR_IO: it cannot be made or written; FAR_INVALID: the path is too long. Nothing is left behind by a failure. */
int far_new_folder_begin(const char *dir, const char *owner, const char *const *files,
                         struct far_new_folder *ret_folder, struct far_error *err);
/* Removes those files that were not there before, and the folder if it was made and holds nothing else. */
void far_new_folder_undo(const struct far_new_folder *folder);

#endif
