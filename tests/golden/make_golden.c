/* make_golden <folder>: write the golden files of commands, events, rows and messages as the code makes them now.
 *
 * For a change of format only, in the same commit as docs/FORMATS.md; from the first tagged version on old files stay as
 * they are, and new kinds and versions are appended (docs/HACKING.md). */
#include "golden/golden_fsm_made.h"

#include <stdlib.h>

static void write_file(const char *folder, const char *name, void (*write)(FILE *file))
{
    char path[4096];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *file = fopen(path, "w");
    if (file == NULL) {
        perror(path);
        exit(1);
    }
    write(file);
    if (fclose(file) != 0) {
        perror(path);
        exit(1);
    }
}

int main(int argc, char **argv)
{
    if (argc != 2) {
        fprintf(stderr, "usage: %s <folder>, as tests/golden/fsm of the source tree\n", argv[0]);
        return 2;
    }
    write_file(argv[1], "kinds.txt", golden_write_kinds);
    write_file(argv[1], "log.txt", golden_write_log);
    write_file(argv[1], "log_consumers.txt", golden_write_log_consumers);
    write_file(argv[1], "log_heads.txt", golden_write_log_heads);
    write_file(argv[1], "log_updates.txt", golden_write_log_updates);
    write_file(argv[1], "log_incarnations.txt", golden_write_log_incarnations);
    write_file(argv[1], "log_retention.txt", golden_write_log_retention);
    write_file(argv[1], "log_running.txt", golden_write_log_running);
    write_file(argv[1], "log_compaction.txt", golden_write_log_compaction);
    write_file(argv[1], "log_skips.txt", golden_write_log_skips);
    write_file(argv[1], "log_forget.txt", golden_write_log_forget);
    write_file(argv[1], "log_throttles.txt", golden_write_log_throttles);
    return 0;
}
