/* tls_fixture.h - parties with certificates, for tests of TLS.
 *
 * Group setup is tls_world(), teardown tls_world_end(). A party is a configuration of its own with its struct tls, so
 * that either end may be given what the other does not expect. Included once, by a test program. */
#ifndef COFFER_TESTS_UNIT_TLS_FIXTURE_H
#define COFFER_TESTS_UNIT_TLS_FIXTURE_H

#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/tls.h"
#include "tests/lib/certs.h"

static struct {
    char dir[64];
    struct certs ca, other; /* other.crt: of an authority that nobody trusts */
} world;

#define PATH(file) certs_path(&world.ca, file)

static int tls_world(void **state)
{
    (void)state;
    signal(SIGPIPE, SIG_IGN);
    log_set_level(LOG_NOTHING);
    assert_int_equal(mem_init(1), ERR_OK);
    assert_int_equal(tls_init(), ERR_OK);
    snprintf(world.dir, sizeof world.dir, "/tmp/coffer-tls-XXXXXX");
    assert_non_null(mkdtemp(world.dir));
    certs_authority(&world.ca, world.dir, "ca");
    certs_authority(&world.other, world.dir, "other");
    certs_make(&world.ca, (struct certs_want){.name = "server"});
    certs_make(&world.ca, (struct certs_want){.name = "client", .cn = "ann"});
    certs_make(&world.other, (struct certs_want){.name = "stranger", .cn = "ann"});
    certs_make(&world.ca, (struct certs_want){.name = "expired", .from = -2 * CERTS_DAY, .to = -1});
    return 0;
}

static int tls_world_end(void **state)
{
    char **names;
    size_t n;
    (void)state;
    assert_int_equal(file_list(world.dir, &names, &n), ERR_OK);
    for (size_t i = 0; i < n; i++)
        assert_int_equal(unlink(PATH(names[i])), 0);
    file_free_names(names, n);
    assert_int_equal(rmdir(world.dir), 0);
    certs_free(&world.ca);
    certs_free(&world.other);
    return 0;
}

/* ---- parties ---- */

struct party {
    struct config *config;
    struct tls *tls;
};

static void party_put(struct party *p, const char *name, const char *value)
{
    assert_int_equal(config_put(p->config, name, value), ERR_OK);
}

/* The certificate of that name; tls-port is not 0, whatever it is. */
__attribute__((unused)) static void party_configure(struct party *p, const char *name)
{
    char file[64];
    assert_int_equal(config_new(&p->config), ERR_OK);
    party_put(p, "tls-port", "1");
    party_put(p, "tls-ca-cert-file", PATH("ca.crt"));
    snprintf(file, sizeof file, "%s.crt", name);
    party_put(p, "tls-cert-file", PATH(file));
    snprintf(file, sizeof file, "%s.key", name);
    party_put(p, "tls-key-file", PATH(file));
}

__attribute__((unused)) static void party_open(struct party *p, const char *name)
{
    party_configure(p, name);
    assert_int_equal(tls_new(&p->tls, p->config), ERR_OK);
}

__attribute__((unused)) static void party_close(struct party *p)
{
    tls_free(p->tls);
    config_free(p->config);
}

/* CONFIG SET of names and values up to NULL: its answer's text, empty when it went well. Static memory. */
__attribute__((sentinel, unused)) static const char *party_set(struct party *p, ...)
{
    static char text[512];
    struct bytes pairs[16];
    const char *word;
    unsigned n = 0;
    va_list ap;
    va_start(ap, p);
    while ((word = va_arg(ap, const char *)))
        pairs[n++] = bytes_str(word);
    va_end(ap);
    enum err e = config_set(p->config, pairs, n / 2, 1, text, sizeof text);
    assert_int_equal(e == ERR_OK, text[0] == 0);
    return text;
}

#endif
