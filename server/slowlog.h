/* slowlog.h - commands that took long, newest first, values redacted.
 *
 * The time is from the start of a command to its answer: for a write that includes the wait for the log, for a key
 * operation the HSM. Of pending commands, whose arguments are gone when the answer comes, the name and the first two
 * arguments are kept.
 *
 * Any thread; a lock inside, taken only for commands that are slow.
 */
#ifndef COFFER_SERVER_SLOWLOG_H
#define COFFER_SERVER_SLOWLOG_H

#include "server/call.h"
#include "server/config.h"

struct slowlog;

must_use enum err slowlog_new(struct slowlog **out,
                              struct config *cfg); /* slowlog-max-len is asked at each entry. ERR_OOM */
void slowlog_free(struct slowlog *s);

/* An entry that finds no memory is left out. */
void slowlog_add(struct slowlog *s, const struct call *c, uint64_t usec);
void slowlog_add_pending(struct slowlog *s, const struct pending *p, uint64_t usec);

void slowlog_reset(struct slowlog *s);
size_t slowlog_len(struct slowlog *s);
void slowlog_reply(struct slowlog *s, size_t max, struct reply *r); /* SLOWLOG GET */

#endif
