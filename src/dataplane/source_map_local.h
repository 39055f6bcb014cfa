/* Shared by the files of a source's map only. */
#ifndef FAR_DATAPLANE_SOURCE_MAP_LOCAL_H
#define FAR_DATAPLANE_SOURCE_MAP_LOCAL_H

#include "dataplane/source_map.h"

#include <pthread.h>
#include <stdatomic.h>

enum {
    SMAP_BUCKETS = 1024,
    SMAP_REGION_BITS = 36, /* of the cache file a level: 64 TiB need half of it for their leaves */
    SMAP_PATH_MAX = 4096,
    SMAP_CROWD = 512, /* pages, 4 MiB */
    SMAP_FULL = 1024,
};

enum smap_state {
    SMAP_TO_ASK, /* of the target */
    SMAP_ASKED,
    SMAP_OPEN,
};

struct smap_page {
    struct smap_page *next;
    enum smap_state state;
    bool dirty;   /* something below it differs from the base */
    bool fetched; /* from the target: the cache has not got it */
    unsigned level;
    uint64_t index; /* of the page in its level */
    struct far_hash256 expected; /* its hash in the base point; not of the base's top */
    struct far_hash256 hashes[FAR_MAP_FANOUT];
};

struct far_source_map {
    pthread_mutex_t mutex;
    pthread_mutex_t closing; /* taken before mutex: one thread closes at a time */
    uint64_t size_bytes, blocks;
    unsigned height;
    bool config_has_base; /* the log has a base root */
    struct far_hash256 base_root;
    bool began;
    bool has_base; /* and the target has that base */
    uint64_t base_bytes;
    bool has_base_top;
    struct far_hash256 above[FAR_MAP_HEIGHT_MAX]; /* from the base's top on: hash of the page 0 of each level */
    uint64_t closed; /* everything before this block */
    bool has_top, has_lone;
    struct far_hash256 top;  /* closed */
    struct far_hash256 lone; /* of a disk of one page: that page, by the journal */
    struct smap_page *buckets[SMAP_BUCKETS];
    size_t open_count, asked_count, dirty_count;
    _Atomic size_t opened; /* since the last pass */
    int cache_fd; /* -1: none */
    int journal_fd;
    char *journal_path;
    uint8_t journal_head[256];
    uint64_t journal_durable; /* what it says of that so far */
    uint64_t journal_at, journal_end; /* offsets: of the record to be replayed next, behind the last good one */
    bool replaying;
};

/* source_journal.c; the mutex is held. Errors only mean that the next attempt begins from the start. */
void far_source_journal_open(struct far_source_map *map, const struct far_source_map_config *config);
bool far_source_journal_peek(struct far_source_map *map, uint64_t *ret_index, struct far_hash256 *ret_hash);
void far_source_journal_next(struct far_source_map *map);
void far_source_journal_closed(struct far_source_map *map, uint64_t index, const struct far_hash256 *hash);
void far_source_journal_restart(struct far_source_map *map);
void far_source_journal_remove(struct far_source_map *map);

#endif
