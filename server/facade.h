/* facade.h - what the string façade's handlers have in common: which vault and path a key means.
 *
 * Database n is the vault "dbn", made on first write (until SWAPDB: engine/databases.h). A key `{vault}/path` addresses
 * that vault from any database (the hash tag of Redis Cluster is the vault): such a vault must exist. Anything else is
 * the path itself in the selected database's vault.
 */
#ifndef COFFER_SERVER_FACADE_H
#define COFFER_SERVER_FACADE_H

#include "engine/engine.h"
#include "server/call.h"
#include "server/command.h"

/* Splits "{vault}/path"; the parts point into key. 1 when key has that form and vault could be a name; 0: key is a path
 * of the selected database, whatever braces it has. */
int facade_split(struct bytes key, struct bytes *vault, struct bytes *path);

struct facade_key {
    struct vault *vault;
    struct bytes path;
};

/* For reads: ERR_NOTFOUND when the database's vault does not exist yet (so nothing is there); ERR_NOVAULT for a {vault}
 * that does not exist. For writes (create 1): ERR_AGAIN: the call is parked until the database's vault is made.
 * ERR_BADPATH, ERR_KEYSTATE. */
must_use enum err facade_resolve(struct call *c, struct bytes key, int create, struct facade_key *out);

/* The number in the name of the vault that database db is for this call: that of the first look (c->databases),
 * whatever SWAPDB did since. Those of the transaction that the call is part of, and stand before it, count. */
unsigned facade_database(const struct call *c, unsigned db);

/* Calls visit with each key of the call by its vault, as command_keys_each() does. */
int facade_keys_each(const struct call *c, int (*visit)(void *arg, const struct command_key *key), void *arg);

/* The same for a key in another database than the connection's. */
must_use enum err facade_resolve_in(struct call *c, struct bytes key, unsigned db, int create, struct facade_key *out);

/* The vault of a database: ERR_NOTFOUND: there is none yet. create as above. */
must_use enum err facade_vault(struct call *c, unsigned db, int create, struct vault **out);

/* Opens the head of a key for reading, with the value when want_value. ERR_NOTFOUND when it is not visible. */
must_use enum err facade_read(struct call *c, struct bytes key, int want_value, struct facade_key *k,
                              struct secret_view *view);

/* The value of a key, appended to value, a secret buffer; nothing when it is not visible: *there tells, and that is no
 * error. m, unless NULL, is told what was seen. Errors of facade_read and access_value. */
must_use enum err facade_value(struct call *c, struct bytes key, struct engine_moment *m, struct buf *value,
                               int *there);

#endif
