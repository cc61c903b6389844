/* test_rdb.c - payloads of DUMP: what Redis 7.0 wrote is read, and what is malformed is refused. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>

#include "server/rdb.h"

#define LIMIT 20002

static struct buf out;

/* ERR_OK, and the string is in out. */
static enum err read_payload(const void *p, size_t n)
{
    buf_clear(&out);
    return rdb_string_read(bytes_of(p, n), &out);
}

/* The same of what stands between the type and the version. */
static enum err read_body(const void *body, size_t n)
{
    struct buf b;
    buf_init_secret(&b, SIZE_MAX / 4);
    assert_int_equal(buf_put_u8(&b, 0), ERR_OK);
    assert_int_equal(buf_put(&b, body, n), ERR_OK);
    assert_int_equal(rdb_string_end(&b), ERR_OK);
    enum err err = read_payload(buf_data(&b), buf_size(&b));
    buf_fini(&b);
    return err;
}

static void is(const char *text, size_t n)
{
    assert_int_equal(buf_size(&out), n);
    assert_memory_equal(buf_data(&out), text, n);
}

/* `DUMP key` of Redis 7.0.15. */
static void what_redis_wrote(void **state)
{
    static const char bar[] = "\x00\x03\x62\x61\x72\x0a\x00\xe6\xbe\x49\x60\xee\x66\xfd\x17";
    static const char empty[] = "\x00\x00\x0a\x00\x5d\x9b\x5c\x40\x0f\x7f\xa2\xda";
    static const char int8[] = "\x00\xc0\x0c\x0a\x00\x3c\x2a\xf8\x51\x5c\x04\xbc\xd5";
    static const char int16[] = "\x00\xc1\xd4\xfe\x0a\x00\xc6\xc4\x86\x23\xfe\xbe\xde\x2e";
    static const char int32[] = "\x00\xc2\x70\x11\x01\x00\x0a\x00\x01\xa4\x08\xfe\x95\x30\x95\xa5";
    static const char digits[] =
        "\x00\x0b\x2d\x33\x30\x30\x30\x30\x30\x30\x30\x30\x30\x0a\x00\x7c\xef\x35\x6d\x39\x05\x1f\xd1";
    static const char packed[] = "\x00\xc3\x0b\x40\x78\x03\x61\x62\x63\x61\xe0\x69\x02\x01\x62\x63\x0a\x00\xc4\x94\xa1"
                                 "\x70\x2a\xe2\x3e\x06";
    char abc[120];
    (void)state;
    for (size_t i = 0; i < sizeof abc; i++)
        abc[i] = "abc"[i % 3];
    assert_int_equal(read_payload(bar, sizeof bar - 1), ERR_OK);
    is("bar", 3);
    assert_int_equal(read_payload(empty, sizeof empty - 1), ERR_OK);
    is("", 0);
    assert_int_equal(read_payload(int8, sizeof int8 - 1), ERR_OK);
    is("12", 2);
    assert_int_equal(read_payload(int16, sizeof int16 - 1), ERR_OK);
    is("-300", 4);
    assert_int_equal(read_payload(int32, sizeof int32 - 1), ERR_OK);
    is("70000", 5);
    assert_int_equal(read_payload(digits, sizeof digits - 1), ERR_OK);
    is("-3000000000", 11);
    assert_int_equal(read_payload(packed, sizeof packed - 1), ERR_OK);
    is(abc, sizeof abc);

    struct buf b; /* and "bar" is written as Redis does */
    buf_init_secret(&b, 64);
    assert_int_equal(rdb_string_begin(&b, 3), ERR_OK);
    assert_int_equal(buf_put(&b, "bar", 3), ERR_OK);
    assert_int_equal(rdb_string_end(&b), ERR_OK);
    assert_true(bytes_equal(buf_bytes(&b), bytes_of(bar, sizeof bar - 1)));
    buf_fini(&b);
}

static void what_is_written_is_read(void **state)
{
    static const size_t sizes[] = {0, 1, 63, 64, 255, 256, 16383, 16384, LIMIT};
    (void)state;
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct buf b;
        uint8_t *room;
        buf_init_secret(&b, SIZE_MAX / 4);
        assert_int_equal(rdb_string_begin(&b, sizes[i]), ERR_OK);
        size_t head = buf_size(&b);
        assert_int_equal(buf_reserve(&b, sizes[i], &room), ERR_OK);
        for (size_t k = 0; k < sizes[i]; k++)
            room[k] = (uint8_t)(k * 31 >> 3);
        buf_added(&b, sizes[i]);
        assert_int_equal(rdb_string_end(&b), ERR_OK);
        assert_int_equal(read_payload(buf_data(&b), buf_size(&b)), ERR_OK);
        assert_true(bytes_equal(buf_bytes(&out), bytes_of(buf_data(&b) + head, sizes[i])));
        buf_data(&b)[buf_size(&b) / 2] ^= 1;
        assert_int_equal(read_payload(buf_data(&b), buf_size(&b)), ERR_CORRUPT);
        buf_fini(&b);
    }
}

static void what_is_malformed_is_refused(void **state)
{
    static const struct {
        const char *body;
        size_t n;
        enum err err;
    } rows[] = {
        {"", 0, ERR_SYNTAX},
        {"\x03zz", 3, ERR_SYNTAX},                               /* too short */
        {"\x01zz", 3, ERR_SYNTAX},                               /* something follows */
        {"\x40", 1, ERR_SYNTAX},                                 /* half a length */
        {"\x80\x00\x00\x00", 4, ERR_SYNTAX},                     /* the same */
        {"\x80\x00\x00\x00\x01z", 6, ERR_OK},                    /* longer than it needs to be */
        {"\x81\x00\x00\x00\x00\x00\x00\x00\x01z", 10, ERR_OK},   /* the same */
        {"\x81\xff\xff\xff\xff\xff\xff\xff\xf7", 9, ERR_SYNTAX}, /* what nobody has */
        {"\x82z", 2, ERR_SYNTAX},                                /* no such length */
        {"\xc0", 1, ERR_SYNTAX},                                 /* an integer of no bytes */
        {"\xc4zzzz", 5, ERR_SYNTAX},                             /* no such integer */
        {"\xc3\x02\x01\x00z", 5, ERR_OK},                        /* compressed: one byte as it is */
        {"\xc3\x02\x02\x00z", 5, ERR_SYNTAX},                    /* less than was promised */
        {"\xc3\x03\x01\x01zz", 6, ERR_SYNTAX},                   /* more */
        {"\xc3\x04\x04\x00z\x20\x00", 7, ERR_OK},                /* "z", and it again three times */
        {"\xc3\x04\x04\x00z\x20\x01", 7, ERR_SYNTAX},            /* from in front of the beginning */
        {"\xc3\x03\x04\x00z\x20", 6, ERR_SYNTAX},                /* from where? */
        {"\xc3\x03\x40\x20\x00z\xe0", 7, ERR_SYNTAX},            /* how much? */
        {"\xc3\x02\xc0\x00z", 5, ERR_SYNTAX},                    /* no length */
        {"\xc3\x80\xff\xff\xff\xff\x01z", 8, ERR_SYNTAX},        /* of bytes that are not there */
        {"\xc3\x02\x80\xff\xff\xff\xff\x00z", 9, ERR_TOOBIG},    /* it would be */
    };
    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(read_body(rows[i].body, rows[i].n), rows[i].err);
    assert_int_equal(read_body("\xc3\x04\x04\x00z\x20\x00", 7), ERR_OK);
    is("zzzz", 4);
    assert_int_equal(read_payload("", 0), ERR_CORRUPT);
    assert_int_equal(read_payload("123456789", 9), ERR_CORRUPT);
    /* a list, with a checksum that is right */
    assert_int_equal(read_payload("\x01\x00\x0a\x00", 4), ERR_CORRUPT);
}

/* Random bodies: nothing outside is read or written (which a sanitizer would see), and the limit holds. */
static void anything_at_all(void **state)
{
    uint64_t seed = 7;
    (void)state;
    for (int round = 0; round < 200000; round++) {
        uint8_t body[40];
        seed = seed * 6364136223846793005u + 1442695040888963407u;
        size_t n = 1 + (seed >> 33) % (sizeof body - 1);
        for (size_t i = 0; i < n; i++) {
            seed = seed * 6364136223846793005u + 1442695040888963407u;
            body[i] = seed >> 62 ? (uint8_t)(seed >> 40 & 0x27) : (uint8_t)(seed >> 40);
        }
        if (round % 2)
            body[0] = 0xc3;
        enum err err = read_body(body, n);
        assert_true(err == ERR_OK || err == ERR_SYNTAX || err == ERR_TOOBIG);
        assert_true(buf_size(&out) <= LIMIT);
    }
}

static int set_up(void **state)
{
    (void)state;
    buf_init_secret(&out, LIMIT);
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    buf_fini(&out);
    return 0;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_redis_wrote),
        cmocka_unit_test(what_is_written_is_read),
        cmocka_unit_test(what_is_malformed_is_refused),
        cmocka_unit_test(anything_at_all),
    };
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
