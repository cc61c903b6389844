/* keyid.h - a key's id tells which vault and name the key was made for.
 *
 *     0  8   random
 *     8  8   the first bytes of SHA-256 of "coffer-key-id-1" | vault id u64 | the random 8 | name
 *
 * The id is part of every masked object's header, which the HSM's HMAC covers. So a record whose id is of the name that
 * it was found under, and whose masked objects verify and carry that id, holds the key that was made under that name:
 * somebody who can write the disk, checksums included, cannot hand one key of a vault out as another. It takes 2^64
 * tries to find an id of one name that passes for another.
 *
 * Pure functions but for the randomness; any thread.
 */
#ifndef COFFER_SERVER_KEYID_H
#define COFFER_SERVER_KEYID_H

#include "base/bytes.h"
#include "base/err.h"

#define KEYID_BYTES 16

/* A new id. ERR_INTERNAL: no randomness. */
must_use enum err keyid_make(uint8_t out[KEYID_BYTES], uint64_t vault, struct bytes name);

/* 1 when it was made for that vault and name. */
int keyid_is(const uint8_t id[KEYID_BYTES], uint64_t vault, struct bytes name);

#endif
