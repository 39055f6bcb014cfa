/* The backups that a server keeps: files in backups/ of its folder, made when somebody asks and by themselves, daily.
 *
 * `<made, ms>-<index>-<server id>.farbackup`; the newest `keep` are kept, at least one: the newest by the log's index, for the wall
 * clock that dates them may jump; nor do more become due by a jump than one. Each new one is also copied into another
 * folder, or handed to a command, where the config says so; that this failed is in the log, and the backup is there all
 * the same. far_backups_make(), _list() and _read() are for any thread, one make at a time (FAR_BUSY). */
#ifndef FAR_SERVER_BACKUPS_H
#define FAR_SERVER_BACKUPS_H

#include "api/api.h"
#include "server/server.h"

enum { FAR_BACKUPS_KEEP_MAX = 64, FAR_BACKUPS_DAILY_EVENTS = 100000 };

struct far_backups;
/* config is borrowed. Begins the daily ones on the loop; leftovers of an interrupted one are removed. */
int far_backups_new(const char *dir, const struct far_server_config *config, struct far_net *net, struct far_log *log,
                    uv_loop_t *loop, struct far_backups **ret_backups, struct far_error *err);
/* Waits for one that is being made by itself; the caller has stopped everybody else. done runs on the loop. */
void far_backups_close(struct far_backups *backups, void (*done)(void *arg), void *arg);
void far_backups_free(struct far_backups *backups); /* after done, and after the API; NULL is allowed */

int far_backups_make(struct far_backups *backups, uint64_t events_max, struct far_api_backup *ret_backup,
                     struct far_error *err);
/* The newest first. */
int far_backups_list(struct far_backups *backups, struct far_api_backup list[FAR_API_BACKUPS_MAX], size_t *ret_count,
                     struct far_error *err);
/* At most max bytes of one from this offset; fewer only at its end. FAR_NOT_FOUND: there is none of that name. */
int far_backups_read(struct far_backups *backups, const char *name, uint64_t offset, size_t max, struct far_buf *out,
                     struct far_error *err);

#endif
