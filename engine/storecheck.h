/* storecheck.h - finds the damage in a LevelDB directory that LevelDB itself passes over in silence (store.h, Opening).
 * Blocks. */
#ifndef COFFER_ENGINE_STORECHECK_H
#define COFFER_ENGINE_STORECHECK_H

#include <stdint.h>

#include "base/err.h"

#define STORECHECK_PATH_BYTES 4200 /* room for a path in a store's directory */

/* ERR_OK also when there is no store in path. ERR_CORRUPT; ERR_IO, ERR_OOM: could not be read. */
must_use enum err storecheck_dir(const char *path);
/* The same of one that is in use, as far as it is read only at an open: CURRENT and MANIFEST. */
must_use enum err storecheck_manifest(const char *path);

/* LevelDB keeps checksums in another form than they are computed in. */
static inline uint32_t storecheck_unmask(uint32_t masked)
{
    uint32_t rotated = masked - 0xa282ead8u;
    return rotated >> 17 | rotated << 15;
}

/* 1 when name is that of a LevelDB log; its number. */
int storecheck_is_log(const char *name, unsigned long long *number);

#endif
