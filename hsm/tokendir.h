/* tokendir.h - what SoftHSM leaves undone about its files: fsync, and locks that hold.
 *
 * SoftHSM writes its object files without fsync. After a partition was made or destroyed, the files that changed and
 * their directory are synced here. Modules that keep no files (SOFTHSM2_CONF is not set and the manufacturer is not
 * SoftHSM) need nothing: their own affair. Blocks.
 *
 * SoftHSM 2.6.1 writes a file by truncating it under a lock, and the new content after the lock was given up. It does
 * so with the token's own file at *every login*. Another process that reads just then finds no token, no label or no
 * PIN. So all of ours that log in, initialise the module, or write or list token objects hold the lock of this header
 * meanwhile.
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

/* Waits until no other process of ours has it. Calls nest. It is advisory, ends with the process, and where it cannot
 * be had (no directory, one that we may not read, a file system without such locks) ERR_OK goes on without. On failure,
 * ERR_OOM or ERR_IO, it is not held. One thread a process uses the module, and so this. */
must_use enum err tokendir_lock(void);
void tokendir_unlock(void);

/* Keeps a copy of the file of the token with this serial number, if it is not the one that is kept already. Puts back
 * those of tokens whose file is empty. The lock is held. ERR_OK also when there is no such token to know of. */
must_use enum err tokendir_keep(const char *serial);
must_use enum err tokendir_put_back(void);

#endif
