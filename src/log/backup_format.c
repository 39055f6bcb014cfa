/* The bytes of backups: see backup.h. */
#include "log/backup.h"

#include "base/hash.h"

enum { VERSION = 0, CHECK_AT = FAR_BACKUP_HEADER - 8 };
static const char magic[8] = {'F', 'A', 'R', 'B', 'K', 'U', 'P', '0'};

void far_backup_header_encode(const struct far_backup_header *header, uint8_t bytes[FAR_BACKUP_HEADER])
{
    memset(bytes, 0, FAR_BACKUP_HEADER);
    memcpy(bytes, magic, sizeof magic);
    far_put_le32(bytes + 8, VERSION);
    far_put_le32(bytes + 12, FAR_BACKUP_HEADER);
    memcpy(bytes + 16, header->cluster_uuid, 16);
    far_put_le64(bytes + 32, header->incarnation_epoch);
    far_put_le64(bytes + 40, header->incarnation_tag);
    far_put_le64(bytes + 48, header->server_id);
    far_put_le64(bytes + 56, header->made_ms);
    far_put_le64(bytes + 64, header->index);
    far_put_le64(bytes + 72, header->last_seq);
    far_put_le64(bytes + CHECK_AT, far_hash64(bytes, CHECK_AT));
}

int far_backup_header_decode(struct far_slice bytes, struct far_backup_header *ret_header, struct far_error *err)
{
    const uint8_t *p = bytes.data;
    if (bytes.len != FAR_BACKUP_HEADER || memcmp(p, magic, sizeof magic) != 0 ||
        far_get_le64(p + CHECK_AT) != far_hash64(p, CHECK_AT)) {
        return far_fail(err, FAR_CORRUPT, "this is no backup of a cluster, or its beginning is damaged");
    }
    if (far_get_le32(p + 8) != VERSION || far_get_le32(p + 12) != FAR_BACKUP_HEADER) {
        return far_fail(err, FAR_INVALID, "the backup has format %u; this version of Farshore knows %d",
                        (unsigned)far_get_le32(p + 8), (int)VERSION);
    }
    *ret_header = (struct far_backup_header){.incarnation_epoch = far_get_le64(p + 32),
                                             .incarnation_tag = far_get_le64(p + 40),
                                             .server_id = far_get_le64(p + 48),
                                             .made_ms = far_get_le64(p + 56),
                                             .index = far_get_le64(p + 64),
                                             .last_seq = far_get_le64(p + 72)};
    memcpy(ret_header->cluster_uuid, p + 16, 16);
    return 0;
}

int far_backup_record_decode(const uint8_t bytes[FAR_BACKUP_RECORD_HEADER], unsigned *ret_type, uint32_t *ret_len,
                             struct far_error *err)
{
    unsigned type = far_get_le16(bytes);
    uint32_t len = far_get_le32(bytes + 4);
    if ((type > FAR_BACKUP_HISTORY && type != FAR_BACKUP_END) || type < FAR_BACKUP_MANIFEST ||
        far_get_le16(bytes + 2) != 0 || len > FAR_BACKUP_BODY_MAX) {
        return far_fail(err, FAR_CORRUPT, "a record of the backup is damaged");
    }
    *ret_type = type;
    *ret_len = len;
    return 0;
}
