/* Where uses of points may write on this node, and what is left when one ends anywhere: see tasks_use.c.
 *
 * The operator of the node allows one folder (export_dir in its config); whoever may give orders to the cluster writes there and nowhere
 * else, whatever the path says. A file is made under a name of its own beside the final one and gets that when it is whole; a note in
 * the node's folder says so meanwhile, by which the next start of the node removes what was left. Once the file has its name the note says
 * that it is this task's, until the log knows how the task ended: an attempt whose end nobody heard of is done again, and finds it. */
#ifndef FAR_DATAPLANE_USE_PLACE_H
#define FAR_DATAPLANE_USE_PLACE_H

#include "base/error.h"

#include <limits.h>
#include <stddef.h>
#include <stdint.h>

enum far_use_kind {
    FAR_USE_NEW_FILE,  /* nothing may be there */
    FAR_USE_OWN_FILE,  /* a regular file that was begun before may be there */
    FAR_USE_FOLDER,    /* a folder may be there */
    FAR_USE_OLD_FILE,  /* a regular file must be there */
};

struct far_use_place {
    char path[PATH_MAX];  /* resolved */
    char part[PATH_MAX];  /* where it is made */
    char part2[PATH_MAX]; /* where what makes it makes it, at times */
    char note[PATH_MAX];  /* file of the note */
    bool is_whole;        /* an earlier attempt of this task got as far as the final name */
};

/* dir: the folder that is allowed (NULL or "": none). FAR_DENIED: there is none, or the path leads out of it, or over a symbolic link;
 * FAR_CONFLICT: something is there; FAR_NOT_FOUND: its folder is not there. own_dirs: folders that the node lives on, or NULL. */
int far_use_resolve(const char *dir, const char *path, enum far_use_kind kind, const char *const *own_dirs, size_t own_count,
                    char ret_path[PATH_MAX], struct far_error *err);
/* For a new file: its names, and the note that is durable before anything is made. node_dir: the node's own folder. */
int far_use_place_begin(const char *node_dir, uint64_t job_id, uint64_t task, const char *resolved, struct far_use_place *ret_place,
                        struct far_error *err);
/* The part gets the final name, durably. FAR_CONFLICT: something came to be there meanwhile. */
int far_use_place_finish(struct far_use_place *place, struct far_error *err);
/* Whatever is left of it goes, and the note, unless the file has its name: then far_use_settle() removes that. */
void far_use_place_end(struct far_use_place *place);
/* Of a disk that is hydrated there is no part: a mark, durable before it is begun, says that what is there is this task's. *ret_was_there:
 * an earlier attempt made it, for this path. */
/* ret_written: a file beside it, which is there when somebody wrote to that disk. */
int far_use_mark(const char *node_dir, uint64_t job_id, uint64_t task, const char *resolved, bool *ret_was_there,
                 char ret_written[PATH_MAX], struct far_error *err);
/* Tasks of which there are notes or marks, perhaps twice; at most max. */
struct far_use_key {
    uint64_t job_id;
    uint64_t task;
};
size_t far_use_kept(const char *node_dir, struct far_use_key *ret_keys, size_t max);
/* The log knows how the task ended: note and mark go. */
void far_use_settle(const char *node_dir, uint64_t job_id, uint64_t task);
/* At the start of the node: what notes tell of is removed, and sockets that nobody listens to. */
void far_use_sweep(const char *node_dir);
/* A folder for what its programs make meanwhile, and all that is in it. */
int far_use_tmp_make(const char *node_dir, uint64_t job_id, uint64_t task, char ret_path[PATH_MAX], struct far_error *err);
void far_use_tmp_remove(const char *path);
/* node_dir/uses, made if need be. */
int far_use_folder(const char *node_dir, char ret_path[PATH_MAX], struct far_error *err);

#endif
