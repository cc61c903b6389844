/* sha256.h - SHA-256 (FIPS 180-4): in pieces, or at once. Allocates nothing, cannot fail; one thread at a time. */
#ifndef COFFER_BASE_SHA256_H
#define COFFER_BASE_SHA256_H

#include <openssl/sha.h>
#include <stddef.h>
#include <stdint.h>

#define SHA256_BYTES 32

struct sha256 {
    SHA256_CTX ctx;
};

void sha256_init(struct sha256 *s);
void sha256_add(struct sha256 *s, const void *p, size_t n);
void sha256_end(struct sha256 *s, uint8_t out[SHA256_BYTES]); /* s is to be begun anew */

void sha256_of(const void *p, size_t n, uint8_t out[SHA256_BYTES]);

#endif
