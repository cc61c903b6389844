/* storecheck.h - finds the damage in a closed LevelDB directory that LevelDB itself passes over in silence (store.h,
 * Opening). Blocks. */
#ifndef COFFER_ENGINE_STORECHECK_H
#define COFFER_ENGINE_STORECHECK_H

#include "base/err.h"

#define STORECHECK_PATH_BYTES 4200 /* room for a path in a store's directory */

/* ERR_OK also when there is no store in path. ERR_CORRUPT; ERR_IO, ERR_OOM: could not be read. */
must_use enum err storecheck_dir(const char *path);

/* 1 when name is that of a LevelDB log; its number. */
int storecheck_is_log(const char *name, unsigned long long *number);

#endif
