/* How often everything happened: see sim_count.h. */
#include "sim_count.h"

#include <stdio.h>

static const char *const names[SIM_COUNTS] = {
    [SIM_COUNT_ALONE] = "machines cut off in both directions",
    [SIM_COUNT_DEAF] = "machines that nobody reached",
    [SIM_COUNT_MUTE] = "machines that reached nobody",
    [SIM_COUNT_PAIR] = "one direction of one pair cut",
    [SIM_COUNT_ONE_WAY] = "messages stopped in one direction only",
    [SIM_COUNT_BROKEN_LOST] = "messages lost with their connection",
    [SIM_COUNT_BROKEN_LATE] = "messages of a broken connection that came late",
    [SIM_COUNT_DROPPED] = "messages dropped at the sender",
    [SIM_COUNT_SLOW_NET] = "delays raised to 100 ms",
    [SIM_COUNT_KILLED] = "servers killed",
    [SIM_COUNT_POWER] = "power cuts of a machine",
    [SIM_COUNT_DISK_DIED] = "power cuts at an operation of the disk",
    [SIM_COUNT_START_CUT] = "power cuts while a server starts",
    [SIM_COUNT_BLACKOUT] = "power cuts everywhere",
    [SIM_COUNT_ANSWER_CUT] = "power cuts everywhere after an answer",
    [SIM_COUNT_COUP] = "coups against an elected leader",
    [SIM_COUNT_UNWRITTEN] = "writes lost by a power cut",
    [SIM_COUNT_TORN] = "writes torn by a power cut",
    [SIM_COUNT_UNTRUNCATED] = "truncations undone by a power cut",
    [SIM_COUNT_NAME_LOST] = "names undone by a power cut",
    [SIM_COUNT_COMMIT_LOST] = "commits of a store undone by a power cut",
    [SIM_COUNT_SLOW_DISK] = "slow disks",
    [SIM_COUNT_FULL] = "writes refused by a full disk",
    [SIM_COUNT_CLOCK_MINUTE] = "clocks that jumped by up to an hour",
    [SIM_COUNT_CLOCK_HOURS] = "clocks that jumped by hours",
    [SIM_COUNT_CLOCK_YEARS] = "clocks that jumped by months and years",
    [SIM_COUNT_CLOCK_BACK] = "clocks that jumped back",
    [SIM_COUNT_CLOCK_JUDGED] = "judgements of the clocks",
    [SIM_COUNT_MEMORY] = "disks lost",
    [SIM_COUNT_FLIP] = "bits of a log flipped",
    [SIM_COUNT_ROW] = "bits of a row flipped",
    [SIM_COUNT_MISDIRECTED] = "writes misdirected",
    [SIM_COUNT_WRITE_LOST] = "writes acknowledged and never done",
    [SIM_COUNT_SEEN] = "damaged servers that saw it",
    [SIM_COUNT_ADDED] = "servers added",
    [SIM_COUNT_PROMOTED] = "servers promoted",
    [SIM_COUNT_REMOVED] = "servers removed",
    [SIM_COUNT_TRANSFER] = "leadership handed over",
    [SIM_COUNT_VOTERS] = "numbers of voters changed",
    [SIM_COUNT_ELECTED] = "elections",
    [SIM_COUNT_INSTALLED] = "states installed",
    [SIM_COUNT_INSTALL_CUT] = "power cuts after a state was installed",
    [SIM_COUNT_BACKFILL] = "batches of old events fetched",
    [SIM_COUNT_HEAD] = "heads signed by a majority",
    [SIM_COUNT_CUT] = "cuts of old events",
    [SIM_COUNT_NODE_DIED] = "nodes that died",
    [SIM_COUNT_NODE_SILENT] = "nodes that fell silent",
    [SIM_COUNT_LEASE_LOST] = "leases lost",
    [SIM_COUNT_CONSUMER_BACK] = "consumers that went back to their mark",
    [SIM_COUNT_LAYER] = "layers committed",
    [SIM_COUNT_LAYER_LOST] = "layers lost before their commit",
    [SIM_COUNT_COMPACT] = "compactions decided",
    [SIM_COUNT_COMPACT_PIECE] = "transactions that compacted events",
    [SIM_COUNT_COMPACT_CRASH] = "crashes right after one",
    [SIM_COUNT_COMPACT_UNDONE] = "of them undone by a power cut",
    [SIM_COUNT_SHORT_READ] = "compacted events that consumers got",
    [SIM_COUNT_BACKFILL_SHORT] = "compacted events that new servers got",
    [SIM_COUNT_BACKFILL_WHOLE] = "whole events that new servers got and were to be compacted",
    [SIM_COUNT_PAST_FETCHED] = "times that states of the past came from a peer",
    [SIM_COUNT_PAST_FORGOT] = "transactions that removed old ones",
    [SIM_COUNT_PAST_CRASH] = "crashes while they came",
    [SIM_COUNT_PAST_READ] = "reads of the past",
    [SIM_COUNT_PAST_BEFORE] = "reads from before an installed state",
    [SIM_COUNT_PAST_UNKNOWN] = "reads of what a server cannot show",
    [SIM_COUNT_FORCED] = "forced recoveries",
    [SIM_COUNT_FORCED_LOST] = "acknowledged commands stated as lost",
    [SIM_COUNT_FENCED] = "messages between incarnations refused",
    [SIM_COUNT_PAST_REFUSED] = "times that states of the past were refused",
};

void sim_counts_add(struct sim_counts *sum, const struct sim_counts *counts)
{
    for (int i = 0; i < SIM_COUNTS; i++) {
        sum->of[i] += counts->of[i];
    }
}

void sim_counts_print(const struct sim_counts *counts, enum sim_counted from, enum sim_counted to)
{
    for (int i = from; i < (int)to; i++) {
        printf("# %9llu %s\n", (unsigned long long)counts->of[i], names[i]);
    }
}

bool sim_counts_whole(const struct sim_counts *counts, enum sim_counted from, enum sim_counted to)
{
    bool whole = true;
    for (int i = from; i < (int)to; i++) {
        if (counts->of[i] == 0) {
            printf("# never happened: %s\n", names[i]);
            whole = false;
        }
    }
    return whole;
}
