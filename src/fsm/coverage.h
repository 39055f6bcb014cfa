/* Coverage: how much of a disk's source the proof of its points rests on, and how old that is. Internal to src/fsm/.
 *
 * Where a platform says what changed, a cycle hashes what it names and a few blocks more: the audit, which goes round the disk. The
 * row `coverage` of a disk keeps the place of the audit and, for each sixteenth of the disk (a stretch), with which point hashing it
 * from end to end began the last time. So what is known is a bound, never more than a sixteenth of a round too old: every block of
 * the stretch was hashed for that point or for a later one. A full proof sets all of them. Nothing moves but with a point. */
#ifndef FAR_FSM_COVERAGE_H
#define FAR_FSM_COVERAGE_H

#include "fsm/machines.h"

enum {
    FAR_COVERAGE_MARKS = 16,
    FAR_COVERAGE_RATE_BYTES_MIN = 16 * 1024 * 1024, /* a send that hashed less tells nothing about how fast that goes */
    FAR_AUDIT_PPM_DEFAULT = 100000,                 /* of a disk in one cycle */
    FAR_AUDIT_BLOCK_BYTES = 65536,
};
#define FAR_AUDIT_AGE_S_DEFAULT (7ull * 24 * 3600)

/* A row and its list, to be changed. */
struct far_coverage {
    struct far_row_coverage row;
    struct far_sub_audit_mark marks[FAR_COVERAGE_MARKS]; /* those of the row: one for each stretch */
};

uint64_t far_coverage_blocks(uint64_t size_bytes);
/* Stretches of a disk of so many blocks. */
size_t far_coverage_stretches(uint64_t block_count);
/* All zero but for its key, if there is none. */
int far_coverage_load(struct far_step *step, uint64_t workload_id, uint64_t disk_index, struct far_coverage *ret);
/* Evolve. */
int far_coverage_store(struct far_step *step, struct far_coverage *coverage);
/* What a new point of the disk makes of it; time_ms: when it was frozen. */
void far_coverage_advance(struct far_coverage *coverage, const struct far_sub_point_part *part, uint64_t point_id, uint64_t time_ms);
/* The audit found so many more blocks that its list had not named: its lists are distrusted until a full proof, or a round of the audit,
 * finds none. */
void far_coverage_missed(struct far_coverage *coverage, uint64_t blocks, uint64_t time_ms);
/* When the stretch was hashed that was not for the longest time; 0: it never was, as far as is known. */
uint64_t far_coverage_oldest_ms(const struct far_coverage *coverage);
/* Every block of these ranges was hashed the last time for this point or a later one; 0: not known. It vouches for no point: a block that
 * one list left out and the next one named is right again, and was wrong in between. */
uint64_t far_coverage_good_point(const struct far_coverage *coverage, const struct far_list *ranges);
/* Evolve: the base is gone, the next cycle begins from nothing. */
int far_coverage_drop(struct far_step *step, uint64_t workload_id, uint64_t disk_index);
/* Evolve: the workload is removed. */
int far_coverage_forget(struct far_step *step, uint64_t workload_id, uint64_t disk_index);
/* part of total, in millionths, at most 1,000,000; of nothing, all. */
uint64_t far_coverage_ppm(uint64_t part, uint64_t total);

/* What a send is to hash besides what the platform's list names. */
struct far_audit {
    struct far_slice since; /* empty: there is no list to go by, everything is hashed */
    uint64_t block_count;   /* of the disk */
    uint64_t first_block;
    uint64_t blocks;
    bool full; /* everything, whatever the list says */
};
struct far_audit_of {
    const struct far_row_job *job;
    const struct far_row_plan *plan;
    const struct far_row_workload *workload;
    const struct far_row_disk *disk;
    const struct far_row_task *send;
    uint64_t target_id; /* the node that receives */
};
/* The same for as long as the task is not done: it follows from rows that only a new point of the workload changes, and the plan's
 * policy. */
int far_audit_plan(struct far_step *step, const struct far_audit_of *of, struct far_audit *ret);
/* How far the audit came, as the send's report says; 0: everything was hashed, or nothing of it. */
uint64_t far_audit_passed(const struct far_audit *audit, const struct far_sub_report_item *item);

/* ---- suspect.c ---- */
enum { FAR_SUSPECTS_MAX = 16384 }; /* points that one step marks; more are counted */
struct far_group;
/* decide: the audit of a send found (more) blocks that no list had named: event, points that may be wrong, alert (suspect.c). */
int far_list_missed(struct far_step *step, const struct far_group *g, size_t at, const struct far_audit *audit,
                    const struct far_sub_report_item *item);
/* decide: a send is done: could the list be used? */
int far_list_reported(struct far_step *step, const struct far_group *g, size_t at, const struct far_audit *audit,
                      const struct far_sub_report_item *item);
/* decide: a point was made: alerts of its disks whose cause is gone. */
int far_list_proven(struct far_step *step, const struct far_ev_point_created *ev);

#endif
