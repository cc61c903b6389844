/* databases.h - which vault a database of the facade is: database n is the vault "db<n>", until SWAPDB exchanges two.
 *
 * A swap moves no secret: the base store has one record that says which databases are not their own vault, and that
 * record is the change. Vaults keep their names, so after SWAPDB 0 1 the vault that SELECT 0 leads to is called db1.
 *
 * Record, under the key 'B' in the base store: u8 format 1, then for each database that is not its own vault u32 number
 * of the database, u32 number of the vault, little-endian.
 *
 * Threads: look-ups from any, without a lock while nothing is swapped; changes by the log writer and recovery.
 */
#ifndef COFFER_ENGINE_DATABASES_H
#define COFFER_ENGINE_DATABASES_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define DATABASES_KEY 'B'
#define DATABASES_SWAPPED_MAX 1024 /* databases that are not their own vault */

struct databases;
must_use enum err databases_new(struct databases **out); /* ERR_OOM */
void databases_free(struct databases *d);                /* accepts NULL */

/* The number in the name of database db's vault; the database that the vault of this number is. */
unsigned databases_vault(struct databases *d, unsigned db);
unsigned databases_of_vault(struct databases *d, unsigned vault);

/* Takes a committed record over. ERR_CORRUPT, nothing changed then. */
must_use enum err databases_load(struct databases *d, struct bytes record);

/* The record that exchanges a and b of `record` (empty: there is none yet), appended to out. ERR_TOOBIG: too many are
 * swapped; ERR_CORRUPT, ERR_OOM. Pure. */
must_use enum err databases_swap(struct bytes record, uint32_t a, uint32_t b, struct buf *out);

#endif
