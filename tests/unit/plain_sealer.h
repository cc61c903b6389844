/* plain_sealer.h - a sealer for tests: the version, and the plaintext as it is. */
#ifndef COFFER_TESTS_PLAIN_SEALER_H
#define COFFER_TESTS_PLAIN_SEALER_H

#include <stdlib.h>
#include <string.h>

#include "base/bytes.h"
#include "base/sealed.h"

#define PLAIN_HEADER_BYTES 4

struct plain {
    size_t n;
    uint8_t bytes[];
};

/* The caller's to free. */
static inline struct plain *plain_of(struct bytes value)
{
    struct plain *p = malloc(sizeof *p + value.n);
    if (!p)
        abort();
    p->n = value.n;
    memcpy(p->bytes, value.p, value.n);
    return p;
}

static enum err test_seal(struct plain *p, const struct seal_bind *bind, uint8_t *out)
{
    put_le32(out, bind->version);
    memcpy(out + PLAIN_HEADER_BYTES, p->bytes, p->n);
    return ERR_OK;
}

static size_t test_size(const struct plain *p)
{
    return p->n + PLAIN_HEADER_BYTES;
}

static const struct sealer sealer = {test_seal, test_size};

#endif
