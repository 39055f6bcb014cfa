/* Disks of machines that come up at once: each an image (qcow2) over the point, which a child of this node (`farshore-node vault open`)
 * serves read-only from the vault, by a socket beside the image. What the guest writes is in the image only, so that it stays
 * whatever becomes of this process; what it reads and the image has not waits for whoever serves it next.
 *
 * A child that ends by itself is started again, until far_served_end(). Children end with this process: the next one begins them
 * where the log has it hydrate the machine. Any thread. */
#ifndef FAR_DATAPLANE_SERVED_H
#define FAR_DATAPLANE_SERVED_H

#include "base/error.h"

#include <stdbool.h>
#include <stdint.h>

struct far_attempt;
struct far_engine;

/* The point of the attempt's order is served for this disk, beside `path`; when it is, ret_socket has where. FAR_TIMEOUT: it does not
 * begin; FAR_INVALID: the path is too long for a socket beside it. */
int far_served_begin(struct far_attempt *attempt, const char *disk, const char *path, char ret_socket[108], struct far_error *err);
/* The image at `path` over what is served at `socket`, durably; one that is there already is an earlier attempt's, and stays. */
int far_served_image(struct far_attempt *attempt, const char *path, const char *socket, struct far_error *err);
/* Nothing is served for this workload of this job any more; what was running has ended. workload_id 0: of all. */
void far_served_end(struct far_engine *engine, uint64_t job_id, uint64_t workload_id);
void far_served_end_all(struct far_engine *engine);

#endif
