/* Shared by the files of the map and of the vault only. */
#ifndef FAR_DATAPLANE_MAP_PRIVATE_H
#define FAR_DATAPLANE_MAP_PRIVATE_H

#include "dataplane/map.h"

enum { FAR_MAP_ROOT_BYTES = 48 };

/* What the root is the hash of, behind its prefix: version, block size, disk size, top. */
void far_map_root_bytes(uint64_t size_bytes, const struct far_hash256 *top, uint8_t ret_bytes[FAR_MAP_ROOT_BYTES]);

#endif
