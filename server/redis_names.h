/* redis_names.h - names of commands that Redis 7.0 knows, whether they are here or not.
 *
 * Rules for users are carried over from a Redis: "-debug -keys +script|kill" must not be refused because there are no
 * scripts here. Pure; any thread.
 */
#ifndef COFFER_SERVER_REDIS_NAMES_H
#define COFFER_SERVER_REDIS_NAMES_H

#include "base/bytes.h"

/* 1: "get", "script|kill", any case; also "hget|x", a command that has no sub-commands with a first argument. */
int redis_has_command(struct bytes name);

#endif
