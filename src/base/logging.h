/* Structured logging: one line a record on stderr, logfmt: time, level, area, message, then key=value pairs that the
 * caller wrote into the message. For programs (server, node, cli) and their threads; library code returns errors
 * instead and does not log. Any thread; a line is one write(2). Never a secret. */
#ifndef FAR_BASE_LOGGING_H
#define FAR_BASE_LOGGING_H

enum far_level { FAR_LEVEL_DEBUG, FAR_LEVEL_INFO, FAR_LEVEL_WARN, FAR_LEVEL_ERROR };

/* The least level that is written; INFO at start. */
void far_log_level_set(enum far_level level);
/* area is a short word: "raft", "api", "vault". The message is quoted and its control characters escaped. */
void far_logf(enum far_level level, const char *area, const char *format, ...) __attribute__((format(printf, 3, 4)));

#endif
