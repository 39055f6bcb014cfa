/* The golden file of the formats of log and wire: see golden_formats.c. One thread; asserts by cmocka. */
#ifndef FAR_TESTS_GOLDEN_FORMATS_H
#define FAR_TESTS_GOLDEN_FORMATS_H

#include "base/bytes.h"

#include <stdio.h>

/* Where the lines go. */
extern FILE *golden_made;

/* A line "name hex". */
void golden_put(const char *name, struct far_slice bytes);
/* n bytes, at most 256: first, first + 1, …; good for eight calls. */
const uint8_t *golden_count_up(uint8_t first, size_t n);
void golden_fill(uint8_t *bytes, uint8_t first, size_t n);

/* Envelope, WAL, store, snapshots, raft's messages, frames between logs. */
void golden_write_log_formats(void);

#endif
