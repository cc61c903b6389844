/* user.h - users as the engine keeps them: a name and a text, which it does not look into.
 *
 * A user is one value in the base store, under 'U' name; so it is in the log (records of type user), in snapshots, and
 * on every node. What the text means is the server's business (server/acl.h): the words of ACL SETUSER that make the
 * user from nothing. The server hears of every user, and of every change, through engine_config.on_user.
 *
 *     0  u8   format  1
 *     1  ...  rules
 *
 * Pure functions over memory; any thread.
 */
#ifndef COFFER_ENGINE_USER_H
#define COFFER_ENGINE_USER_H

#include "base/bytes.h"
#include "base/err.h"

#define USER_NAME_MAX 255
#define USER_RULES_MAX (1u << 20)
#define USER_KEY_MAX (1 + USER_NAME_MAX)
#define USER_FORMAT 1

/* 1 when name has 1 to USER_NAME_MAX bytes, none of them a blank, a control character's or NUL. */
int user_name_ok(struct bytes name);
/* 'U' name. */
struct bytes user_key(uint8_t out[USER_KEY_MAX], struct bytes name);
/* The rules in a record, pointing into it. ERR_CORRUPT: of another format; *rules is empty then. */
must_use enum err user_rules(struct bytes record, struct bytes *rules);

#endif
