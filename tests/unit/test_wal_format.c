/* Format 1 of the log, for good: the files in tests/golden/wal-1 stay readable, and the worked example in docs/log.md
 * is what they hold, byte for byte.
 *
 *     build/tests/test_wal_format write    writes the files anew and prints the example for docs/log.md
 *
 * Only a new format may need that, and then for a new directory: these files are what a released version wrote.
 */
#include "format_example.h"
#include "wal_fixture.h"

#include "base/crc32c.h"
#include "engine/ops.h"
#include "engine/wal_mark.h"

#define GOLDEN "tests/golden/wal-1"
#define FIRST "00000000000000000001.wbl"
#define SECOND "00000000000000000004.wbl"
#define DOC "docs/log.md"
#define SECOND_BYTES 4096

static const uint8_t cell[16] = "coffer example.";

struct image {
    struct buf first, second;
    struct example example; /* of first */
    struct record records[4];
    struct buf ops[4];
    uint8_t chain[RECORD_CHAIN_BYTES];
};

static void field(struct image *m, size_t n, const char *what)
{
    example_field(&m->example, n, what);
}

static void put_header(struct buf *out, uint64_t first_lsn, uint8_t salt, const uint8_t *chain, uint32_t *seed)
{
    uint8_t bytes[WAL_HEADER_BYTES];
    struct wal_header h = {.first_lsn = first_lsn, .created_ms = 1767225600000 + first_lsn};
    memcpy(h.cell_id, cell, sizeof cell);
    memset(h.salt, salt, sizeof h.salt);
    memcpy(h.chain, chain, RECORD_CHAIN_BYTES);
    wal_segment_put_header(bytes, &h);
    *seed = wal_segment_seed(h.salt);
    assert_int_equal(buf_put(out, bytes, sizeof bytes), ERR_OK);
}

static void put_group(struct image *m, struct buf *out, uint32_t seed, uint32_t from, uint32_t n)
{
    uint8_t bytes[WAL_FRAME_BYTES];
    struct buf records;
    buf_init(&records, 1 << 20);
    for (uint32_t i = from; i < from + n; i++) {
        assert_int_equal(record_put(&records, &m->records[i], m->chain), ERR_OK);
        memcpy(m->chain, m->records[i].chain, sizeof m->chain);
    }
    struct wal_frame f = {.records = n, .bytes = (uint32_t)buf_size(&records), .synced_lsn = from};
    wal_segment_put_frame(bytes, seed, &f);
    assert_int_equal(buf_put(out, bytes, sizeof bytes), ERR_OK);
    assert_int_equal(buf_put(out, buf_data(&records), buf_size(&records)), ERR_OK);
    buf_fini(&records);
}

static void describe_header(struct image *m)
{
    field(m, 8, "segment header: magic");
    field(m, 4, "format 1");
    field(m, 4, "header bytes 128");
    field(m, 16, "cell id");
    field(m, 8, "first LSN 1");
    field(m, 32, "chain before it");
    field(m, 16, "salt");
    field(m, 8, "created, ms");
    field(m, 28, "zeros");
    field(m, 4, "CRC-32C of 0..123");
}

static void describe_frame(struct image *m)
{
    field(m, 4, "frame: magic");
    field(m, 4, "records");
    field(m, 4, "bytes of records");
    field(m, 4, "CRC-32C");
    field(m, 8, "synced LSN");
}

static void describe_record(struct image *m, const struct record *r)
{
    size_t body = RECORD_HEADER_BYTES + r->key.n + r->blob.n, pad = (8 - body % 8) % 8;
    field(m, 4, "record: length");
    field(m, 4, "CRC-32C of what follows");
    field(m, 8, "LSN");
    field(m, 4, "term");
    field(m, 1, "type");
    field(m, 1, "flags");
    field(m, 2, "format 1");
    field(m, 8, "vault");
    field(m, 2, "shard");
    field(m, 2, "key length");
    field(m, 4, "blob length");
    field(m, 8, "time, ms");
    field(m, 16, "token");
    field(m, r->key.n, "key");
    field(m, r->blob.n ? OPS_HEADER_BYTES : 0, "blob: operation: kind, 0, store, key length, 0, value length");
    field(m, r->blob.n ? get_le16(r->blob.p + 4) : 0, "its key");
    field(m, r->blob.n ? get_le32(r->blob.p + 8) : 0, "its value");
    field(m, pad, "zeros up to a multiple of 8");
    field(m, r->flags & RECORD_HAS_HMAC ? RECORD_HMAC_BYTES : 0, "HMAC");
    field(m, RECORD_CHAIN_BYTES, "chain");
}

static void describe_footer(struct image *m)
{
    field(m, 4, "footer: magic");
    field(m, 4, "records in the segment");
    field(m, 8, "last LSN");
    field(m, 32, "chain at it");
    field(m, 4, "zeros");
    field(m, 4, "CRC-32C");
}

static void make_records(struct image *m)
{
    static const struct record rows[4] = {
        {.lsn = 1, .term = 1, .type = RECORD_BARRIER, .time_ms = 1767225600100},
        {.lsn = 2, .term = 1, .type = RECORD_PUT, .vault = 7, .shard = 1, .time_ms = 1767225600200},
        {.lsn = 3,
         .term = 1,
         .type = RECORD_KEY,
         .flags = RECORD_HAS_HMAC,
         .vault = 7,
         .shard = 1,
         .time_ms = 1767225600300},
        {.lsn = 4, .term = 2, .type = RECORD_TOMBSTONE, .vault = 7, .shard = 1, .time_ms = 1767225600400},
    };
    static const char *const keys[4] = {NULL, "db/password", "signing", "db/password"};
    static const char *const values[4] = {NULL, "(sealed bytes)", "(masked object)", NULL};

    for (size_t i = 0; i < 4; i++) {
        m->records[i] = rows[i];
        buf_init(&m->ops[i], 4096);
        if (values[i])
            assert_int_equal(ops_put(&m->ops[i], 1, bytes_str(keys[i]), bytes_str(values[i])), ERR_OK);
        else if (keys[i])
            assert_int_equal(ops_delete(&m->ops[i], 1, bytes_str(keys[i])), ERR_OK);
        m->records[i].key = keys[i] ? bytes_str(keys[i]) : bytes_of(cell, sizeof cell);
        m->records[i].blob = buf_bytes(&m->ops[i]);
    }
    memcpy(m->records[1].token, "token of request", 16);
    memset(m->records[2].hmac, 0xbb, RECORD_HMAC_BYTES);
}

static struct image *image_new(void)
{
    struct image *m = calloc(1, sizeof *m);
    uint8_t footer[WAL_FOOTER_BYTES], zeros[SECOND_BYTES] = {0};
    uint32_t seed;

    assert_non_null(m);
    buf_init(&m->first, 1 << 20);
    buf_init(&m->second, 1 << 20);
    make_records(m);
    put_header(&m->first, 1, 0x51, m->chain, &seed);
    put_group(m, &m->first, seed, 0, 1);
    put_group(m, &m->first, seed, 1, 2);
    struct wal_footer f = {.records = 3, .last_lsn = 3};
    memcpy(f.chain, m->chain, sizeof f.chain);
    wal_segment_put_footer(footer, seed, &f);
    assert_int_equal(buf_put(&m->first, footer, sizeof footer), ERR_OK);
    put_header(&m->second, 4, 0x52, m->chain, &seed);
    put_group(m, &m->second, seed, 3, 1);
    assert_int_equal(buf_put(&m->second, zeros, SECOND_BYTES - buf_size(&m->second)), ERR_OK);

    describe_header(m);
    describe_frame(m);
    describe_record(m, &m->records[0]);
    describe_frame(m);
    describe_record(m, &m->records[1]);
    describe_record(m, &m->records[2]);
    describe_footer(m);
    return m;
}

static void image_free(struct image *m)
{
    for (size_t i = 0; i < 4; i++)
        buf_fini(&m->ops[i]);
    buf_fini(&m->first);
    buf_fini(&m->second);
    free(m);
}

static void example(const struct image *m, struct buf *out)
{
    example_print(&m->example, buf_bytes(&m->first), out);
}

static void write_all(void)
{
    struct image *m = image_new();
    struct wal_mark mark;
    struct buf text;
    uint64_t lsn;
    int this_boot;

    fx_write(GOLDEN, FIRST, buf_bytes(&m->first));
    fx_write(GOLDEN, SECOND, buf_bytes(&m->second));
    unlink(GOLDEN "/mark");
    wal_mark_test_set_boot("the boot that wrote the example");
    assert_int_equal(wal_mark_open(&mark, GOLDEN, cell, &lsn, &this_boot), ERR_OK);
    wal_mark_store_both(&mark, 4);
    wal_mark_close(&mark);
    example(m, &text);
    fputs((char *)buf_data(&text), stdout);
    buf_fini(&text);
    image_free(m);
}

static void what_is_written_today_is_format_1(void **state)
{
    (void)state;
    struct image *m = image_new();
    struct buf file;
    fx_read(GOLDEN, FIRST, &file);
    assert_int_equal(buf_size(&file), buf_size(&m->first));
    assert_memory_equal(buf_data(&file), buf_data(&m->first), buf_size(&file));
    buf_fini(&file);
    fx_read(GOLDEN, SECOND, &file);
    assert_int_equal(buf_size(&file), SECOND_BYTES);
    assert_memory_equal(buf_data(&file), buf_data(&m->second), SECOND_BYTES);
    buf_fini(&file);
    image_free(m);
}

static void the_example_in_the_documentation_is_what_the_file_holds(void **state)
{
    (void)state;
    struct image *m = image_new();
    struct buf text;
    example(m, &text);
    example_check(&text, DOC, "build/tests/test_wal_format");
    buf_fini(&text);
    image_free(m);
}

static void check_record(const struct record *got, const struct record *want)
{
    assert_int_equal(got->lsn, want->lsn);
    assert_int_equal(got->term, want->term);
    assert_int_equal(got->type, want->type);
    assert_int_equal(got->vault, want->vault);
    assert_int_equal(got->shard, want->shard);
    assert_int_equal(got->time_ms, want->time_ms);
    assert_true(bytes_equal(got->key, want->key));
    assert_true(bytes_equal(got->blob, want->blob));
    assert_memory_equal(got->token, want->token, RECORD_TOKEN_BYTES);
    assert_memory_equal(got->hmac, want->hmac, RECORD_HMAC_BYTES);
}

/* The log as format 1 wrote it is read, and goes on. */
static void a_log_of_format_1_is_read_and_continued(void **state)
{
    (void)state;
    char dir[FX_DIR_BYTES];
    struct image *m = image_new();
    struct wal_report rep;
    struct wal_cursor *c;
    struct record r;
    struct bytes raw;
    struct buf more;
    struct wal *w;

    fx_make_dir(dir);
    fx_copy_dir(GOLDEN, dir);
    struct wal_config cfg = fx_config(dir, 4096);
    assert_int_equal(wal_open(&w, &cfg, &rep), ERR_CORRUPT); /* another cell's */
    memcpy(cfg.cell_id, cell, sizeof cell);
    w = fx_open(&cfg, &rep);
    assert_int_equal(rep.first_lsn, 1);
    assert_int_equal(rep.last_lsn, 4);
    assert_int_equal(rep.last_term, 2);
    assert_int_equal(rep.mark_lsn, 4); /* the mark's word: frames tell of 3 */
    assert_int_equal(rep.mark_this_boot, 0);
    assert_int_equal(rep.damaged_lsn, 0);
    assert_int_equal(rep.torn_bytes, 0);
    assert_int_equal(wal_cursor_open(&c, w, 1), ERR_OK);
    for (int i = 0; i < 4; i++) {
        assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
        check_record(&r, &m->records[i]);
    }
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_END);
    buf_init(&more, 4096);
    struct record five = {.lsn = 5, .term = 2, .type = RECORD_CHECK};
    assert_int_equal(record_put(&more, &five, rep.chain), ERR_OK);
    assert_int_equal(wal_append(w, buf_bytes(&more), 1, 5, five.chain), ERR_OK);
    assert_int_equal(wal_cursor_next(c, &r, &raw), ERR_OK);
    check_record(&r, &five);
    wal_cursor_close(c);
    wal_close(w);
    buf_fini(&more);
    image_free(m);
    fx_remove_dir(dir);
}

/* ---- the decoders of wal_segment.h, which no damage test reaches with CRCs that fit ---- */

static void decoders_refuse_what_no_encoder_makes(void **state)
{
    (void)state;
    uint8_t p[WAL_HEADER_BYTES];
    struct wal_header h = {.first_lsn = 1};
    struct wal_frame f;

    wal_segment_put_header(p, &h);
    assert_int_equal(wal_segment_get_header(p, &h), ERR_OK);
    put_le32(p + 12, 64);
    put_le32(p + 124, crc32c(0, p, 124));
    assert_int_equal(wal_segment_get_header(p, &h), ERR_CORRUPT);
    h = (struct wal_header){.first_lsn = 0};
    wal_segment_put_header(p, &h);
    assert_int_equal(wal_segment_get_header(p, &h), ERR_CORRUPT);

    static const struct wal_frame bad[] = {{.records = 0, .bytes = 96},
                                           {.records = 1, .bytes = 88},
                                           {.records = 2, .bytes = 184},
                                           {.records = 1, .bytes = 100}};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        wal_segment_put_frame(p, 77, &bad[i]);
        assert_int_equal(wal_segment_get_frame(p, 77, &f), ERR_CORRUPT);
        assert_int_equal(f.records, 0);
    }
    f = (struct wal_frame){.records = 2, .bytes = 192, .synced_lsn = 5};
    wal_segment_put_frame(p, 77, &f);
    assert_int_equal(wal_segment_get_frame(p, 78, &f), ERR_CORRUPT); /* another segment's salt */
    assert_int_equal(wal_segment_get_frame(p, 77, &f), ERR_OK);
    assert_int_equal(f.synced_lsn, 5);
}

static void names_are_exact(void **state)
{
    (void)state;
    static const char *const bad[] = {"",
                                      "1.wbl",
                                      "00000000000000000000.wbl",
                                      "0000000000000000001.wbl",
                                      "000000000000000000001.wbl",
                                      "00000000000000000001.wb",
                                      "00000000000000000001.wbl.tmp",
                                      "00000000000000000001xwbl",
                                      "18446744073709551616.wbl",
                                      "99999999999999999999.wbl",
                                      "0000000000000000000a.wbl",
                                      "next",
                                      "mark",
                                      "-0000000000000000001.wbl"};
    char name[WAL_NAME_BYTES];
    uint64_t lsn;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(wal_segment_parse_name(bad[i], &lsn), 0);
        assert_int_equal(lsn, 0);
    }
    static const uint64_t good[] = {1, 51234, UINT64_MAX};
    for (size_t i = 0; i < sizeof good / sizeof *good; i++) {
        wal_segment_name(name, good[i]);
        assert_int_equal(strlen(name), WAL_NAME_BYTES - 1);
        assert_int_equal(wal_segment_parse_name(name, &lsn), 1);
        assert_int_equal(lsn, good[i]);
    }
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_today_is_format_1),
        cmocka_unit_test(the_example_in_the_documentation_is_what_the_file_holds),
        cmocka_unit_test(a_log_of_format_1_is_read_and_continued),
        cmocka_unit_test(decoders_refuse_what_no_encoder_makes),
        cmocka_unit_test(names_are_exact),
    };
    if (argc == 2 && strcmp(argv[1], "write") == 0) {
        write_all();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
