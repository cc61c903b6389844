/* statefile.h - DIR/state: in which boot of the machine the stores were last whole, and whether they were closed then.
 *
 *     boot 3c1f...            /proc/sys/kernel/random/boot_id
 *     clean yes|no
 *
 * Within one boot what was written is there, synced or not; after a power loss only what was synced is. So a start that
 * finds another boot's name, or no clean mark, replays from the last checkpoint (recover.c).
 */
#ifndef COFFER_ENGINE_STATEFILE_H
#define COFFER_ENGINE_STATEFILE_H

#include "base/err.h"

#define STATEFILE_BOOT_BYTES 64

/* The name of this boot; "unknown" when the machine does not tell. */
void statefile_boot(char out[STATEFILE_BOOT_BYTES]);

/* was: the boot in the file, "unknown" without one that can be read; then neither of the others is set, which are 0 or
 * 1 else. Blocks. */
void statefile_read(const char *dir, char was[STATEFILE_BOOT_BYTES], int *same_boot, int *clean);

/* Durable when it returns ERR_OK; else the old file stands: ERR_IO (file_errno()), ERR_OOM. Blocks. */
must_use enum err statefile_write(const char *dir, const char *boot, int clean);

#endif
