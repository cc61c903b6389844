/* tokendir.h - making SoftHSM's token objects durable.
 *
 * SoftHSM writes its object files without fsync. After a partition was made or destroyed, the files that changed and
 * their directory are synced here. Modules that keep no files (SOFTHSM2_CONF is not set and the manufacturer is not
 * SoftHSM) need nothing: their own affair. Blocks.
 */
#ifndef COFFER_HSM_TOKENDIR_H
#define COFFER_HSM_TOKENDIR_H

#include <stdint.h>

#include "base/err.h"

/* Syncs what changed in the token directory since since_ms (wall clock). ERR_OK also when there is no such directory to
 * know of. */
must_use enum err tokendir_sync(const char *manufacturer, uint64_t since_ms);

/* Reads directories.tokendir from the configuration file; out is empty when there is none. */
must_use enum err tokendir_path(const char *conf, char *out, unsigned long n);

#endif
