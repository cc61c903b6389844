/* log.h - the server's log: one line an event, in Redis's shape.
 *
 *     4711:M 22 Nov 2026 10:00:00.123 * Ready to accept connections
 *
 * Levels and their marks: debug '.', verbose '-', notice '*', warning '#'. Only server/ and main programs log;
 * libraries return errors. Arguments never hold secrets: names, numbers, error texts only. Any thread; may block on the
 * file.
 */
#ifndef COFFER_BASE_LOG_H
#define COFFER_BASE_LOG_H

#include "base/err.h"

enum log_level { LOG_DEBUG, LOG_VERBOSE, LOG_NOTICE, LOG_WARNING, LOG_NOTHING };

/* path NULL or "": standard output. role is the letter after the pid: M primary, S replica, H HSM worker. */
must_use enum err log_open(const char *path, enum log_level level);
must_use enum err log_reopen(void); /* after rotation (SIGHUP) */
void log_set_level(enum log_level level);
void log_set_role(char role);
void log_at(enum log_level level, const char *fmt, ...) __attribute__((format(printf, 2, 3)));

#endif
