/* keyid.c - see keyid.h. */
#include "server/keyid.h"

#include <openssl/sha.h>

#include "base/clock.h"
#include "engine/key.h"

#define LABEL "coffer-key-id-1"
#define LABEL_BYTES (sizeof LABEL - 1)
#define HALF (KEYID_BYTES / 2)

static void bind(const uint8_t random[HALF], uint64_t vault, struct bytes name, uint8_t out[HALF])
{
    uint8_t text[LABEL_BYTES + 8 + HALF + KEY_NAME_MAX] = LABEL, hash[SHA256_DIGEST_LENGTH];
    size_t n = name.n < KEY_NAME_MAX ? name.n : KEY_NAME_MAX; /* longer ones are no names */

    put_le64(text + LABEL_BYTES, vault);
    memcpy(text + LABEL_BYTES + 8, random, HALF);
    if (n)
        memcpy(text + LABEL_BYTES + 8 + HALF, name.p, n);
    SHA256(text, LABEL_BYTES + 8 + HALF + n, hash);
    memcpy(out, hash, HALF);
}

enum err keyid_make(uint8_t out[KEYID_BYTES], uint64_t vault, struct bytes name)
{
    memset(out, 0, KEYID_BYTES);
    enum err err = clock_random(out, HALF);
    if (err == ERR_OK)
        bind(out, vault, name, out + HALF);
    return err;
}

int keyid_is(const uint8_t id[KEYID_BYTES], uint64_t vault, struct bytes name)
{
    uint8_t want[HALF];
    bind(id, vault, name, want);
    return bytes_equal(bytes_of(want, HALF), bytes_of(id + HALF, HALF));
}
