/* keys.h - what the end-to-end tests of keys share: values that come from one command and go into the next. */
#ifndef COFFER_TESTS_E2E_KEYS_H
#define COFFER_TESTS_E2E_KEYS_H

#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <string.h>

#include "tests/lib/e2e.h"

#define HEADER 28 /* of a ciphertext */

struct blob {
    unsigned char p[2048];
    size_t n;
};

static inline struct blob take(redisReply *r)
{
    struct blob b = {.n = r->len};
    if (r->type != REDIS_REPLY_STRING)
        fail_msg("wanted a bulk, got %s", e2e_show_reply(r));
    assert_true(r->len <= sizeof b.p);
    memcpy(b.p, r->str, r->len);
    freeReplyObject(r);
    return b;
}

static inline struct blob encrypt(redisContext *c, const char *vault, const char *key, const char *plain)
{
    return take(e2e_command(c, "KEY.ENCRYPT %s %s %s", vault, key, plain));
}

static inline void start(struct e2e *s)
{
    e2e_start(s, NULL);
    e2e_expect(s->c, "+OK", "VAULT.CREATE v");
}

#define TEST(t) cmocka_unit_test_teardown(t, e2e_teardown)

#endif
