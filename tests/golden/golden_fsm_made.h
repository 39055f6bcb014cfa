/* What the golden files of commands and events hold, made by the code as it is: see golden_fsm.c. */
#ifndef FAR_TESTS_GOLDEN_FSM_MADE_H
#define FAR_TESTS_GOLDEN_FSM_MADE_H

#include <stdio.h>

/* A line for every command, event and row: "class name kind version hex", each field filled with a value of its own. */
void golden_write_kinds(FILE *file);
/* A log of some life: its commands, the events they gave, and the digest of the state in the end. */
void golden_write_log(FILE *file);
/* The same of named consumers, which came after the first version. */
void golden_write_log_consumers(FILE *file);
void golden_write_log_heads(FILE *file);
void golden_write_log_updates(FILE *file);
void golden_write_log_incarnations(FILE *file);
void golden_write_log_retention(FILE *file);
void golden_write_log_running(FILE *file);
void golden_write_log_compaction(FILE *file);
void golden_write_log_skips(FILE *file);
void golden_write_log_forget(FILE *file);
void golden_write_log_throttles(FILE *file);

#endif
