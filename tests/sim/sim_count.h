/* How often each fault and each story really happened, over all seeds of a run: not drawn, but done. A fault that is drawn and never
 * strikes tests nothing, so tests/sim/sim ends with a test that each of these happened. See sim.h. */
#ifndef FAR_SIM_COUNT_H
#define FAR_SIM_COUNT_H

#include <stdbool.h>
#include <stdint.h>

enum sim_counted {
    /* the network */
    SIM_COUNT_ALONE,       /* a machine cut off in both directions */
    SIM_COUNT_DEAF,        /* only towards it */
    SIM_COUNT_MUTE,        /* only from it */
    SIM_COUNT_PAIR,        /* one direction of one pair */
    SIM_COUNT_ONE_WAY,     /* messages stopped by a cut while the other direction was open */
    SIM_COUNT_BROKEN_LOST, /* messages lost with their connection */
    SIM_COUNT_BROKEN_LATE, /* messages of a broken connection that came after those of the next */
    SIM_COUNT_DROPPED,
    SIM_COUNT_SLOW_NET,    /* delays of up to 100 ms begin */
    /* crashes */
    SIM_COUNT_KILLED,
    SIM_COUNT_POWER,       /* of one machine */
    SIM_COUNT_DISK_DIED,   /* power cut at an operation of the disk */
    SIM_COUNT_START_CUT,   /* power cut while a server reads and mends its log */
    SIM_COUNT_BLACKOUT,    /* power cut everywhere */
    SIM_COUNT_ANSWER_CUT,  /* power cut everywhere right after an answer */
    SIM_COUNT_COUP,
    SIM_COUNT_UNWRITTEN,   /* writes of which nothing survived a power cut */
    SIM_COUNT_TORN,        /* writes of which some sectors survived, and others did not */
    SIM_COUNT_UNTRUNCATED, /* truncations that a power cut undid */
    SIM_COUNT_NAME_LOST,   /* names made or removed, and that was undone */
    SIM_COUNT_COMMIT_LOST, /* the store lost its last commit */
    /* disks and clocks */
    SIM_COUNT_SLOW_DISK,
    SIM_COUNT_FULL,        /* writes refused for want of space */
    SIM_COUNT_CLOCK_MINUTE,
    SIM_COUNT_CLOCK_HOURS,
    SIM_COUNT_CLOCK_YEARS,
    SIM_COUNT_CLOCK_BACK,
    SIM_COUNT_CLOCK_JUDGED, /* the leader told the log what it makes of the clocks */
    /* damage on one machine */
    SIM_COUNT_MEMORY,
    SIM_COUNT_FLIP,
    SIM_COUNT_ROW,
    SIM_COUNT_MISDIRECTED,
    SIM_COUNT_WRITE_LOST,
    SIM_COUNT_SEEN,        /* damage that the server saw by itself */
    /* members */
    SIM_COUNT_ADDED,
    SIM_COUNT_PROMOTED,
    SIM_COUNT_REMOVED,
    SIM_COUNT_TRANSFER,
    SIM_COUNT_VOTERS,      /* another number of voters was asked for */
    SIM_COUNT_ELECTED,
    /* states and old events */
    SIM_COUNT_INSTALLED,
    SIM_COUNT_INSTALL_CUT, /* power cut between the switch to a state and raft's learning of it */
    SIM_COUNT_BACKFILL,    /* batches of old events */
    SIM_COUNT_HEAD,        /* heads signed by a majority */
    SIM_COUNT_CUT,         /* cuts of old events that the log decided */
    /* nodes and consumers */
    SIM_COUNT_NODE_DIED,
    SIM_COUNT_NODE_SILENT,
    SIM_COUNT_LEASE_LOST,
    SIM_COUNT_CONSUMER_BACK, /* a consumer died and went on from its mark */
    /* layers over the store */
    SIM_COUNT_LAYER,
    SIM_COUNT_LAYER_LOST,  /* answered, and lost with the process before their commit */
    /* compaction and states of the past */
    SIM_COUNT_COMPACT,       /* decided by the log */
    SIM_COUNT_COMPACT_PIECE, /* transactions that carry it out */
    SIM_COUNT_COMPACT_CRASH, /* crashes right after one */
    SIM_COUNT_COMPACT_UNDONE, /* such a transaction undone by a power cut */
    SIM_COUNT_SHORT_READ,    /* compacted events that a consumer got */
    SIM_COUNT_BACKFILL_SHORT, /* compacted events that a new server got */
    SIM_COUNT_BACKFILL_WHOLE, /* whole ones that it got, and the log had decided to compact */
    SIM_COUNT_PAST_FETCHED,  /* states of the past that came from a peer */
    SIM_COUNT_PAST_FORGOT,   /* transactions that removed old ones */
    SIM_COUNT_PAST_CRASH,    /* crashes between two batches of them */
    SIM_COUNT_PAST_READ,     /* reads of the past that were right */
    SIM_COUNT_PAST_BEFORE,   /* from before the installed state */
    SIM_COUNT_PAST_UNKNOWN,  /* that the server cannot show (any more), and says so */
    SIM_COUNT_SEEDS_END,
    /* forced recovery: told by --forced and sim_broken only */
    SIM_COUNT_FORCED = SIM_COUNT_SEEDS_END,
    SIM_COUNT_FORCED_LOST, /* acknowledged commands that only lost servers held */
    SIM_COUNT_FENCED,      /* messages between incarnations, refused */
    SIM_COUNT_FORCED_END,
    /* what need not happen */
    SIM_COUNT_PAST_REFUSED = SIM_COUNT_FORCED_END, /* states of the past that were not whole: their sender changed meanwhile */
    SIM_COUNTS,
};

struct sim_counts {
    uint64_t of[SIM_COUNTS];
};

void sim_counts_add(struct sim_counts *sum, const struct sim_counts *counts);
/* As a table, those in [from, to). */
void sim_counts_print(const struct sim_counts *counts, enum sim_counted from, enum sim_counted to);
/* Did each in [from, to) happen at all? Says which did not. */
bool sim_counts_whole(const struct sim_counts *counts, enum sim_counted from, enum sim_counted to);

#endif
