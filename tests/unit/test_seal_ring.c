/* Envelope encryption: data keys that expire and are dropped, warm openers, what memory keeps, failing allocations,
 * threads. OpenSSL's allocations go through mem_alloc here, so that the fail-the-n-th loops reach into it; that is set
 * up in main(), before OpenSSL allocates anything. */
#include "hsm/gcm.h"
#include "tests/unit/seal_fixture.h"

#include <fcntl.h>
#include <openssl/crypto.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/fault.h"

/* ---- ttl, drops, warm contexts ---- */

static void ttl_spares_write_keys(void **state)
{
    (void)state;
    const uint64_t now = 1000000;
    clock_test_set_wall_ms(now);
    struct fixture f = fixture_new(1000);
    struct seal_bind b = bind_of(VAULT, 1, "p"), c = bind_of(VAULT + 1, 1, "p");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));

    /* Sealed in another life: the same vault and version, but here the key only opens. */
    struct fixture other = fixture_new(0);
    add_writer(other.ring, VAULT + 1, 3, 0);
    struct sealed t = seal(other.ring, &c, bytes_str(TEXT));
    fixture_free(&other);
    assert_refused(f.opener, t, &c, ERR_AGAIN);
    add(f.ring, VAULT + 1, 3, 0);

    clock_test_set_wall_ms(now + 999);
    keyring_expire(f.ring);
    assert_text(f.opener, t, &c);
    clock_test_set_wall_ms(now + 1000);
    keyring_expire(f.ring);
    assert_refused(f.opener, t, &c, ERR_AGAIN); /* although its context was warm */
    assert_text(f.opener, s, &b);

    add_writer(f.ring, VAULT, 8, 80); /* 7 no longer writes, and is old enough */
    keyring_expire(f.ring);
    assert_refused(f.opener, s, &b, ERR_AGAIN);
    add(f.ring, VAULT, 7, 0);
    assert_text(f.opener, s, &b);
    sealed_free(s);
    sealed_free(t);
    fixture_free(&f);
    clock_test_set_wall_ms(0);
}

static void a_clock_set_back_costs_one_ttl(void **state)
{
    (void)state;
    clock_test_set_wall_ms(1000000);
    struct fixture f = fixture_new(1000);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    add_writer(f.ring, VAULT, 8, 80);

    clock_test_set_wall_ms(500000);
    keyring_expire(f.ring);
    assert_text(f.opener, s, &b);
    clock_test_set_wall_ms(501000);
    keyring_expire(f.ring);
    assert_refused(f.opener, s, &b, ERR_AGAIN);
    sealed_free(s);
    fixture_free(&f);
    clock_test_set_wall_ms(0);
}

static void no_ttl_when_zero(void **state)
{
    (void)state;
    clock_test_set_wall_ms(1000000);
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    add_writer(f.ring, VAULT, 8, 80);
    clock_test_set_wall_ms(UINT64_C(1) << 50);
    keyring_expire(f.ring);
    assert_text(f.opener, s, &b);
    sealed_free(s);
    fixture_free(&f);
    clock_test_set_wall_ms(0);
}

static void a_dropped_vault_is_gone_at_once(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p"), c = bind_of(VAULT + 1, 1, "p");
    add_writer(f.ring, VAULT + 1, 1, 9);
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT)), t = seal(f.ring, &c, bytes_str(TEXT));
    struct plain *under_way = promise(f.ring, VAULT, bytes_str(TEXT));
    uint8_t out[128];

    assert_text(f.opener, s, &b);
    assert_text(f.opener, t, &c);
    keyring_drop_vault(f.ring, VAULT);
    assert_refused(f.opener, s, &b, ERR_AGAIN);
    assert_text(f.opener, t, &c);
    assert_null(keyring_writer(f.ring, VAULT));

    /* The write that was admitted before keeps its key. */
    assert_int_equal(seal_sealer.seal(under_way, &b, out), ERR_OK);
    struct sealed u = {bytes_of(out, seal_sealer.size(under_way))};
    assert_refused(f.opener, u, &b, ERR_AGAIN);
    plain_free(under_way);
    add(f.ring, VAULT, 7, 0);
    assert_text(f.opener, u, &b);
    assert_text(f.opener, s, &b);
    sealed_free(s);
    sealed_free(t);
    fixture_free(&f);
}

/* Data key i of one vault, or the only one of vault i: both meet on slots. */
static struct seal_bind bind_nth(unsigned i)
{
    return bind_of(i % 2 ? 1 : 1000 + i, 1, "p");
}

static void more_data_keys_than_slots(void **state)
{
    (void)state;
    enum { DEKS = 8 * SEAL_OPENER_SLOTS };
    static struct sealed s[DEKS];
    struct fixture f = fixture_new(0);

    for (unsigned i = 0; i < DEKS; i++) {
        struct seal_bind b = bind_nth(i);
        add_writer(f.ring, b.vault, i % 2 ? i : 1, i);
        s[i] = seal(f.ring, &b, bytes_str(TEXT));
    }
    for (unsigned n = 0; n < 3 * DEKS; n++) {
        struct seal_bind b = bind_nth(n * 97 % DEKS);
        assert_text(f.opener, s[n * 97 % DEKS], &b);
    }
    for (unsigned i = 0; i < DEKS; i++)
        sealed_free(s[i]);
    fixture_free(&f);
}

/* ---- what memory keeps ---- */

static unsigned count_in(const uint8_t *room, size_t got, const uint8_t *flipped, size_t n)
{
    unsigned found = 0;
    const uint8_t *at = room, *end = room + got;

    for (; (size_t)(end - at) >= n && (at = memchr(at, flipped[0] ^ 0xff, (size_t)(end - at) - n + 1)); at++) {
        size_t same = 1;
        while (same < n && (at[same] ^ flipped[same]) == 0xff)
            same++;
        found += same == n;
    }
    return found;
}

/* Counts the places of this process' memory that hold needle, given with every byte flipped, so that it does not find
 * itself. It reads /proc/self/mem, which may look at freed memory too. Mappings of a sanitizer's size are left out. */
static unsigned count_in_memory(const uint8_t *flipped, size_t n)
{
    enum { CHUNK = 1 << 16, LARGEST = 1 << 28 };
    uint8_t *room = mmap(NULL, CHUNK, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int mem = open("/proc/self/mem", O_RDONLY | O_CLOEXEC);
    FILE *maps = fopen("/proc/self/maps", "re");
    char line[512];
    unsigned long from, to;
    unsigned found = 0;

    assert_true(room != MAP_FAILED && mem >= 0 && maps);
    while (fgets(line, sizeof line, maps)) {
        /* Private ones only, which room is not. */
        if (sscanf(line, "%lx-%lx", &from, &to) != 2 || !strstr(line, " rw-p ") || to - from > LARGEST)
            continue;
        for (ssize_t got; from<to; from += (size_t)got> n ? (size_t)got - n + 1 : (size_t)got) {
            got = pread(mem, room, to - from < CHUNK ? to - from : CHUNK, (off_t)from);
            if (got <= 0)
                break;
            found += count_in(room, (size_t)got, flipped, n);
            if (from + (size_t)got >= to)
                break;
        }
    }
    fclose(maps);
    close(mem);
    munmap(room, CHUNK);
    return found;
}

static void random_flipped(uint8_t *flipped, size_t n)
{
    assert_int_equal(clock_random(flipped, n), ERR_OK);
    flipped[0] &= 0x7f; /* not the flip of 0, of which memory is full */
}

/* Adds a key that is known only flipped. The first half is searched for: an expanded AES-256 key begins with the key.
 */
static void add_flipped(struct keyring *k, uint64_t vault, uint32_t version, const uint8_t flipped[SEAL_KEY_BYTES])
{
    uint8_t key[SEAL_KEY_BYTES];
    for (unsigned i = 0; i < sizeof key; i++)
        key[i] = flipped[i] ^ 0xff;
    assert_int_equal(keyring_add(k, vault, version, key), ERR_OK);
    mem_wipe(key, sizeof key);
}

static void dropped_keys_leave_no_copy(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(9, 1, "p");
    uint8_t flipped[SEAL_KEY_BYTES];
    const size_t half = sizeof flipped / 2;
    struct mem_secret_stats before, after;

    random_flipped(flipped, sizeof flipped);
    mem_secret_stats(&before);
    add_flipped(f.ring, 9, 1, flipped);
    assert_int_equal(keyring_set_writer(f.ring, 9, 1), ERR_OK);
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    assert_text(f.opener, s, &b);
    assert_true(count_in_memory(flipped, half) >= 1);

    keyring_drop_all(f.ring);
    opener_drop_stale(f.opener);
    assert_int_equal(count_in_memory(flipped, half), 0);
    mem_secret_stats(&after);
    assert_true(after.used_bytes < before.used_bytes); /* the fixture's key is gone as well */
    assert_refused(f.opener, s, &b, ERR_AGAIN);
    sealed_free(s);
    fixture_free(&f);
}

static void sealed_values_leave_no_copy(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    uint8_t flipped[32], out[128], *value = mem_secret_alloc(sizeof flipped);
    struct plain *p, *q;

    random_flipped(flipped, sizeof flipped);
    for (unsigned i = 0; i < sizeof flipped; i++)
        value[i] = flipped[i] ^ 0xff;
    p = promise(f.ring, VAULT, bytes_of(value, sizeof flipped));
    q = promise(f.ring, VAULT, bytes_of(value, sizeof flipped));
    mem_secret_free(value, sizeof flipped);
    assert_true(count_in_memory(flipped, sizeof flipped) == 2);
    assert_int_equal(seal_sealer.seal(p, &b, out), ERR_OK);
    assert_true(count_in_memory(flipped, sizeof flipped) == 1);
    plain_free(q); /* without having been sealed */
    assert_true(count_in_memory(flipped, sizeof flipped) == 0);
    plain_free(p);
    fixture_free(&f);
}

/* ---- failing allocations ---- */

/* Everything once; the first failure ends it. Uses enough data keys for the tables to grow. */
static enum err use_everything(void)
{
    enum { DEKS = 350 };
    static uint8_t key[SEAL_KEY_BYTES];
    struct keyring *k;
    struct opener *o = NULL;
    struct dek *d = NULL;
    struct plain *p = NULL;
    struct seal_bind b = bind_of(VAULT, 1, "p");
    uint8_t out[128], back[128];
    enum err e = keyring_new(&k, realm, 0);

    if (e || (e = opener_new(&o, k)))
        goto end;
    for (uint32_t v = 1; !e && v <= DEKS; v++)
        e = keyring_add(k, VAULT, v, key);
    if (e || (e = keyring_set_writer(k, VAULT, 2)) || (e = keyring_set_writer(k, VAULT, 5)))
        goto end;
    d = keyring_writer(k, VAULT);
    if ((e = plain_new(d, bytes_str(TEXT), 24, (void *[]){NULL}, &p)))
        goto end;
    d = NULL;
    if ((e = seal_sealer.seal(p, &b, out)))
        goto end;
    struct sealed s = {bytes_of(out, seal_sealer.size(p))};
    if ((e = opener_open(o, s, &b, back)))
        goto end;
    assert_memory_equal(back, TEXT, strlen(TEXT));
    keyring_drop_all(k);
    assert_int_equal(opener_open(o, s, &b, back), ERR_AGAIN);
    if ((e = keyring_add(k, VAULT, 5, key)))
        goto end;
    e = opener_open(o, s, &b, back);
end:
    plain_free(p);
    dek_unref(d);
    opener_free(o);
    keyring_free(k);
    return e;
}

static void every_failing_allocation(void **state)
{
    (void)state;
    struct mem_secret_stats before, after;
    long n = 0;
    enum err e;

    assert_int_equal(use_everything(), ERR_OK); /* what OpenSSL allocates once */
    mem_secret_stats(&before);
    do {
        fault_arm(FAULT_MEM, ++n, 1);
        e = use_everything();
        /* OpenSSL may do without an allocation; where it cannot say why it failed, that is ERR_INTERNAL. */
        assert_true(e == ERR_OK || e == ERR_OOM || (e == ERR_INTERNAL && fault_fired(FAULT_MEM)));
        assert_int_equal(ERR_peek_error(), 0);
        mem_secret_stats(&after);
        assert_int_equal(after.used_bytes, before.used_bytes);
    } while (fault_fired(FAULT_MEM));
    fault_disarm(FAULT_MEM);
    assert_int_equal(e, ERR_OK);
    assert_true(n > 350);
}

/* An opener that could not get a context for one key is as good as before for the next try. */
static void opener_recovers_from_failed_allocations(void **state)
{
    (void)state;
    struct fixture f = fixture_new(0);
    struct seal_bind b = bind_of(VAULT, 1, "p");
    struct sealed s = seal(f.ring, &b, bytes_str(TEXT));
    uint8_t back[128];

    for (long n = 1;; n++) {
        fault_arm(FAULT_MEM, n, 1);
        enum err e = opener_open(f.opener, s, &b, back);
        int fired = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, fired ? ERR_OOM : ERR_OK);
        if (!fired)
            break;
        assert_text(f.opener, s, &b);
        keyring_drop_all(f.ring);
        add(f.ring, VAULT, 7, 0);
        opener_drop_stale(f.opener);
    }
    /* Warm: not one allocation. */
    fault_arm(FAULT_MEM, 1, 1);
    assert_int_equal(opener_open(f.opener, s, &b, back), ERR_OK);
    assert_int_equal(fault_fired(FAULT_MEM), 0);
    fault_disarm(FAULT_MEM);
    sealed_free(s);
    fixture_free(&f);
}

/* ---- threads ---- */

enum { READERS = 4, OPENS = 3000, VAULTS = 3, DROPS = 400 };

static struct sealed shared[VAULTS];
static _Atomic int stop;

struct reader {
    pthread_t thread;
    struct keyring *ring;
    unsigned good, gone, bad;
};

static void *open_all_the_time(void *arg)
{
    struct reader *r = arg;
    struct opener *o;
    uint8_t back[128];

    if (opener_new(&o, r->ring))
        return NULL;
    for (unsigned n = 0; n < OPENS || !atomic_load(&stop); n++) {
        struct seal_bind b = bind_of(1 + n % VAULTS, 1, "p");
        enum err e = opener_open(o, shared[n % VAULTS], &b, back);
        r->good += e == ERR_OK && memcmp(back, TEXT, strlen(TEXT)) == 0;
        r->gone += e == ERR_AGAIN;
        r->bad += e != ERR_OK && e != ERR_AGAIN;
    }
    opener_free(o);
    return NULL;
}

static void readers_while_keys_come_and_go(void **state)
{
    (void)state;
    static struct reader readers[READERS];
    struct fixture f = fixture_new(1);

    for (unsigned v = 0; v < VAULTS; v++) {
        struct seal_bind b = bind_of(1 + v, 1, "p");
        add_writer(f.ring, 1 + v, 1, v);
        shared[v] = seal(f.ring, &b, bytes_str(TEXT));
    }
    for (unsigned i = 0; i < READERS; i++) {
        readers[i].ring = f.ring;
        assert_int_equal(pthread_create(&readers[i].thread, NULL, open_all_the_time, &readers[i]), 0);
    }
    for (unsigned n = 0; n < DROPS; n++) {
        if (n % 5 == 4)
            keyring_drop_all(f.ring);
        else
            keyring_drop_vault(f.ring, 1 + n % VAULTS);
        keyring_expire(f.ring);
        for (unsigned v = 0; v < VAULTS; v++)
            add(f.ring, 1 + v, 1, v);
    }
    atomic_store(&stop, 1);
    for (unsigned i = 0; i < READERS; i++) {
        assert_int_equal(pthread_join(readers[i].thread, NULL), 0);
        assert_int_equal(readers[i].bad, 0);
        assert_true(readers[i].good > 0);
        assert_true(readers[i].good + readers[i].gone >= OPENS);
    }
    for (unsigned v = 0; v < VAULTS; v++)
        sealed_free(shared[v]);
    fixture_free(&f);
}

/* ---- OpenSSL's allocations ---- */

static void *ossl_malloc(size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return mem_alloc(n);
}

static void *ossl_realloc(void *p, size_t n, const char *file, int line)
{
    (void)file, (void)line;
    return mem_realloc(p, n);
}

static void ossl_free(void *p, const char *file, int line)
{
    (void)file, (void)line;
    mem_free(p);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(ttl_spares_write_keys),
        cmocka_unit_test(a_clock_set_back_costs_one_ttl),
        cmocka_unit_test(no_ttl_when_zero),
        cmocka_unit_test(a_dropped_vault_is_gone_at_once),
        cmocka_unit_test(more_data_keys_than_slots),
        cmocka_unit_test(dropped_keys_leave_no_copy),
        cmocka_unit_test(sealed_values_leave_no_copy),
        cmocka_unit_test(every_failing_allocation),
        cmocka_unit_test(opener_recovers_from_failed_allocations),
        cmocka_unit_test(readers_while_keys_come_and_go),
    };
    if (CRYPTO_set_mem_functions(ossl_malloc, ossl_realloc, ossl_free) != 1)
        return 1;
    /* With what the machine offers, then with OpenSSL's cipher: the same bytes, the same promises. */
    int failed = cmocka_run_group_tests(tests, NULL, NULL);
    gcm_test_openssl(1);
    return failed + cmocka_run_group_tests(tests, NULL, NULL);
}
