/* glob.h - patterns of KEYS, SCAN, CONFIG GET, ACL: Redis's dialect.
 *
 *     *       any bytes, also none          [abc] [a-z]   one of these      \x   x itself
 *     ?       one byte                      [^abc]        none of these
 *
 * Binary-safe; time is at worst pattern length times text length: after a mismatch only the last * is tried again. Any
 * thread.
 */
#ifndef COFFER_BASE_GLOB_H
#define COFFER_BASE_GLOB_H

#include "base/bytes.h"

/* 1 when the whole text matches; nocase folds ASCII letters. */
int glob_match(struct bytes pattern, struct bytes text, int nocase);

#endif
