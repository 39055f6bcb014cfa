/* Dedup domains: see domain.h. */
#include "dataplane/domain_private.h"

void far_domain_id(const struct far_domain *domain, const struct far_hash256 *hash, struct far_hash256 *ret_id)
{
    if (domain == NULL) {
        *ret_id = *hash;
    } else {
        far_id_key_id(&domain->ids, hash, ret_id);
    }
}

uint16_t far_domain_number(const struct far_domain *domain)
{
    return domain != NULL ? domain->number : 0;
}

void far_domain_uuid(const struct far_domain *domain, uint8_t ret_uuid[16])
{
    if (domain != NULL) {
        memcpy(ret_uuid, domain->uuid, 16);
    } else {
        memset(ret_uuid, 0, 16);
    }
}

const struct far_id_key *far_domain_id_key(const struct far_domain *domain)
{
    return domain != NULL ? &domain->ids : NULL;
}
