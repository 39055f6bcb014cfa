/* Folders of recovered disks: RECOVERY_DIR/run-JOB/WORKLOAD/DISK.raw or .qcow2 on the node that brings machines up.
 *
 * The operator of the node allows one folder (recovery_dir in its config); whoever may give orders to the cluster has disks made below
 * it and nowhere else, whatever the path says, and only what is below run-JOB is ever removed, by that job. Links are not followed.
 * Values; any thread. */
#ifndef FAR_DATAPLANE_RUN_FOLDER_H
#define FAR_DATAPLANE_RUN_FOLDER_H

#include "base/error.h"

#include <limits.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* A relative path below dir (NULL or "": this node recovers no machines, FAR_DENIED) as an absolute one; `makes`: its folders are made.
 * own_dirs: folders that the node lives on, or NULL each. FAR_DENIED: it leads out, or over a symbolic link. */
int far_run_folder_resolve(const char *dir, const char *path, bool makes, const char *const *own_dirs, size_t own_count,
                           char ret_path[PATH_MAX], struct far_error *err);
/* Everything below dir/run-JOB/NAME, and dir/run-JOB once it is empty. What is not there is no error. *ret_left: something is there still;
 * ret_path says where. FAR_DENIED: it is a link, or no folder. */
int far_run_folder_remove(const char *dir, uint64_t job_id, const char *name, bool *ret_left, char ret_path[PATH_MAX],
                          struct far_error *err);

#endif
