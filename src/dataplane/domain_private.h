/* Shared by the files of domains only: what one is. */
#ifndef FAR_DATAPLANE_DOMAIN_PRIVATE_H
#define FAR_DATAPLANE_DOMAIN_PRIVATE_H

#include "dataplane/domain.h"
#include "dataplane/id_key.h"

struct far_domain {
    uint16_t number;
    uint8_t uuid[16];
    struct far_id_key ids;
};

#endif
