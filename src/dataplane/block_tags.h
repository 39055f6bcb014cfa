/* Which blocks of an image are as they were at its last import, told without hashing them: a keyed tag of 16 bytes for each block,
 * four to six times as fast as SHA-256.
 *
 * A tag is GMAC (NIST SP 800-38D) of the block under a key that only this vault has. Two different blocks have the same tag with a
 * probability of at most 2^-115, whoever chose them, as long as they know neither the key nor tags: what is equal by its tag is equal.
 * What differs is hashed as ever; ids, trees and roots never depend on a tag. The tags lie encrypted and authenticated (AES-256-GCM), under
 * a key of each import, so pages of one import cannot be put among those of another. In a keyed domain the keys come from the domain's
 * secret and the file's own random seed, in the plain one from the seed alone: there, who can write to the vault's files could hide a
 * change from an import, as they could alter everything else of the vault that no signature covers.
 *
 * The file replicas/<disk id>.tags (docs/FORMATS.md) holds for one root only: for another (an import that was interrupted, another
 * size), or damaged, as a whole or a page of it, it is as if it were not there. It may be lost at any time, and is never synced.
 *
 * Any thread, each with a maker of its own and pages of its own; finish and close when all others are done. */
#ifndef FAR_DATAPLANE_BLOCK_TAGS_H
#define FAR_DATAPLANE_BLOCK_TAGS_H

#include "dataplane/map.h"

struct far_block_tags;
struct far_domain;
struct far_tag_maker;
struct far_vault;

enum { FAR_TAGS_OF_PAGE = 256 };

struct far_tag {
    uint8_t bytes[16];
};

/* The tags of the disk's last import, if they are of the tree with this root, and room for those of the next. FAR_IO, FAR_LIMIT: no
 * room; FAR_INTERNAL: the crypto library refuses. */
int far_block_tags_open(struct far_vault *vault, const struct far_domain *domain, uint64_t disk_id, uint64_t size_bytes,
                        const struct far_hash256 *root, struct far_block_tags **ret_tags, struct far_error *err);
/* The new ones take the place of the old: they are of the tree with this root. Not done where a page of them could not be kept. */
void far_block_tags_finish(struct far_block_tags *tags, const struct far_hash256 *root);
/* What was not finished is dropped. NULL is allowed. */
void far_block_tags_close(struct far_block_tags *tags);

/* The old tags of blocks page * FAR_TAGS_OF_PAGE and on; false: they are not known. */
bool far_block_tags_known(const struct far_block_tags *tags, uint64_t page, struct far_tag ret_tags[FAR_TAGS_OF_PAGE]);
/* The new tags of that page; those behind the image's end are nothing. NULL: there are none. */
void far_block_tags_keep(struct far_block_tags *tags, uint64_t page, const struct far_tag kept[FAR_TAGS_OF_PAGE]);

/* Of one thread; NULL: no memory, or the crypto library refuses. The key is that of the old tags, if they are known. */
struct far_tag_maker *far_tag_maker_new(const struct far_block_tags *tags);
void far_tag_maker_free(struct far_tag_maker *maker);
/* The tags of `count` whole blocks. false: the crypto library refuses; nothing was made. */
bool far_tags_make(struct far_tag_maker *maker, const uint8_t *const *blocks, size_t count, struct far_tag *ret_tags);
/* The tag of a block of zeroes. */
const struct far_tag *far_tag_of_zeroes(const struct far_tag_maker *maker);

static inline bool far_tag_equal(const struct far_tag *a, const struct far_tag *b)
{
    return memcmp(a->bytes, b->bytes, sizeof a->bytes) == 0;
}

#endif
