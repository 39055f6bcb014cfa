/* The root of a disk from its leaves in order: see map.h. One unfinished page a level; a full one becomes a child above. */
#include "dataplane/map.h"

#include "base/assert.h"

void far_map_stream_init(struct far_map_stream *stream, uint64_t size_bytes)
{
    FAR_ASSERT(size_bytes > 0 && size_bytes <= FAR_DISK_BYTES_MAX);
    stream->size_bytes = size_bytes;
    stream->next = 0;
}

/* The page of `level` that ends before leaf `end` is full: hash it into its parent, and so on upwards. */
static void close_pages(struct far_map_stream *stream, uint64_t end)
{
    for (unsigned level = 0; level + 1 < FAR_MAP_HEIGHT_MAX && end % (1ull << (8 * (level + 1))) == 0; level++) {
        uint64_t page = (end >> (8 * (level + 1))) - 1;
        far_map_page_hash(stream->children[level], &stream->children[level + 1][page % FAR_MAP_FANOUT]);
    }
}

void far_map_stream_add(struct far_map_stream *stream, const struct far_hash256 *leaf)
{
    FAR_ASSERT(stream->next < far_map_block_count(stream->size_bytes));
    stream->children[0][stream->next % FAR_MAP_FANOUT] = *leaf;
    stream->next++;
    close_pages(stream, stream->next);
}

void far_map_stream_root(struct far_map_stream *stream, struct far_hash256 *ret_root)
{
    struct far_hash256 below;
    uint64_t filled = stream->next; /* entries of this level, the unfinished last one included */
    unsigned height = far_map_height(stream->size_bytes);
    FAR_ASSERT(stream->next == far_map_block_count(stream->size_bytes));
    for (unsigned level = 0; level < height; level++) {
        unsigned used = (unsigned)((filled - 1) % FAR_MAP_FANOUT) + 1;
        if (level > 0) {
            stream->children[level][used - 1] = below;
        }
        for (unsigned i = used; i < FAR_MAP_FANOUT; i++) {
            stream->children[level][i] = *far_map_zero(8 * level);
        }
        far_map_page_hash(stream->children[level], &below);
        filled = (filled + FAR_MAP_FANOUT - 1) / FAR_MAP_FANOUT;
    }
    far_map_bind_root(stream->size_bytes, &below, ret_root);
}
