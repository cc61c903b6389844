/* Format 1 of snapshot files, for good: the file in tests/golden/snap-1 stays readable, and the worked example in
 * docs/snapshot.md is what it holds, byte for byte.
 *
 *     build/tests/test_snap_format write    writes the file anew and prints the example for docs/snapshot.md
 *
 * Only a new format may need that, and then for a new directory: this file is what a released version wrote.
 */
#include "format_example.h"
#include "snap_fixture.h"

#include "engine/secret.h"

#define GOLDEN "tests/golden/snap-1"
#define NAME "00000000000000000009-2.snap"
#define DOC "docs/snapshot.md"

static const uint8_t cell[16] = "coffer example.";

/* A vault's record in the base store; a secret that has had two values, the newer one in the head. */
static void make_entries(struct sx_set *s)
{
    uint8_t key[SECRET_KEY_MAX + 2] = {0, 0}, head[256], list[2 * SECRET_VERSION_BYTES_MAX];
    struct secret_version v[2] = {
        {.version = 1, .sealed_bytes = 14, .created_ms = 1767225600200, .lsn = 4, .slot = SECRET_NO_SLOT},
        {.version = 2, .sealed_bytes = 14, .created_ms = 1767225600300, .lsn = 8, .slot = SECRET_NO_SLOT}};
    struct secret_head h = {
        .flags = SECRET_CURRENT_INLINE, .last_version = 2, .current = 2, .previous = 1, .versions = 2};
    struct bytes path = bytes_str("db/password");

    memcpy(key + 2, "Vteam", 5);
    sx_add(s, bytes_of(key, 7), bytes_str("(record of the vault)"), 3);
    key[1] = 1;
    h.version_bytes = bytes_of(list, secret_versions_put(list, v, 2));
    h.value.raw = bytes_str("(sealed bytes)");
    secret_head_put(&h, head);
    sx_add(s, bytes_of(key, 2 + secret_key_head(key + 2, 3, path).n), bytes_of(head, secret_head_size(&h)), 8);
    sx_add(s, bytes_of(key, 2 + secret_key_logged(key + 2, 3, path, 4, 1).n), bytes_str("(older sealed)"), 4);
}

static void write_file(const char *dir)
{
    struct snapwrite_config cfg = {.dir = dir, .sign = sx_signer};
    struct snapwrite_result result;
    struct sx_set s = {0};
    cfg.header = (struct snapfile_header){.lsn = 9, .term = 2, .time_ms = 1767225600400};
    memcpy(cfg.header.cell_id, cell, sizeof cell);
    memset(cfg.header.chain, 0xcc, sizeof cfg.header.chain);
    make_entries(&s);
    assert_int_equal(sx_try_write(&cfg, &s, &result), ERR_OK);
    sx_clear(&s);
}

/* ---- the example ---- */

static void describe_header(struct example *x)
{
    example_field(x, 8, "header: magic");
    example_field(x, 4, "format 1");
    example_field(x, 4, "header bytes 128");
    example_field(x, 16, "cell id");
    example_field(x, 8, "LSN");
    example_field(x, 4, "its term");
    example_field(x, 4, "zeros");
    example_field(x, 8, "its time, ms");
    example_field(x, 32, "chain at it");
    example_field(x, 36, "zeros");
    example_field(x, 4, "CRC-32C of 0..123");
}

static void describe_entry(struct example *x, size_t rest, size_t value, const char *key, const char *what)
{
    example_field(x, 1, "entry: bytes of the key shared with the one before");
    example_field(x, 1, "bytes of the rest of it");
    example_field(x, 1, "bytes of the value");
    example_field(x, 1, "LSN");
    example_field(x, rest, key);
    example_field(x, value, what);
}

static void describe_tail(struct example *x)
{
    example_field(x, 8, "index: offset of the block");
    example_field(x, 4, "its bytes");
    example_field(x, 4, "entries in it");
    example_field(x, 32, "SHA-256 of the block");
    example_field(x, 2, "bytes of its first key");
    example_field(x, 2, "zeros");
    example_field(x, 7, "its first key");
    example_field(x, 64, "filter: one group");
    example_field(x, 8, "footer: magic");
    example_field(x, 8, "offset of the index");
    example_field(x, 8, "bytes of it");
    example_field(x, 8, "offset of the filter");
    example_field(x, 8, "bytes of it");
    example_field(x, 8, "blocks");
    example_field(x, 8, "entries");
    example_field(x, 32, "SHA-256 of the header");
    example_field(x, 32, "SHA-256 of the index");
    example_field(x, 32, "SHA-256 of the filter");
    example_field(x, 32, "state digest");
    example_field(x, 32, "zeros");
    example_field(x, 32, "HMAC of all of the footer before it");
    example_field(x, 4, "zeros");
    example_field(x, 4, "CRC-32C of the footer before it");
}

static void describe(struct example *x)
{
    struct sx_set s = {0};
    *x = (struct example){0};
    make_entries(&s);
    describe_header(x);
    describe_entry(x, 7, s.at[0].value.n, "key: base store, V, name of the vault", "value");
    describe_entry(x, 21, s.at[1].value.n, "key: 1 is shared, this is a store's lower byte, h, vault, path",
                   "value: a head");
    describe_entry(x, 32, s.at[2].value.n, "key: 2 are shared; o, vault, path, LSN, version",
                   "value: what version 1 was");
    example_field(x, 4, "CRC-32C of the block");
    describe_tail(x);
    sx_clear(&s);
}

static void read_golden(struct buf *out)
{
    fx_read(GOLDEN, NAME, out);
}

static void print_example(struct buf *text)
{
    struct example x;
    struct buf file;
    describe(&x);
    read_golden(&file);
    example_print(&x, buf_bytes(&file), text);
    buf_fini(&file);
}

static void write_all(void)
{
    struct buf text;
    unlink(GOLDEN "/" NAME);
    write_file(GOLDEN);
    print_example(&text);
    fputs((char *)buf_data(&text), stdout);
    buf_fini(&text);
}

static void what_is_written_today_is_format_1(void **state)
{
    char dir[FX_DIR_BYTES];
    struct buf golden, now;
    (void)state;
    fx_make_dir(dir);
    write_file(dir);
    read_golden(&golden);
    fx_read(dir, NAME, &now);
    assert_int_equal(buf_size(&golden), buf_size(&now));
    assert_memory_equal(buf_data(&golden), buf_data(&now), buf_size(&now));
    buf_fini(&golden);
    buf_fini(&now);
    fx_remove_dir(dir);
}

static void the_example_in_the_documentation_is_what_the_file_holds(void **state)
{
    struct buf text;
    (void)state;
    print_example(&text);
    example_check(&text, DOC, "build/tests/test_snap_format");
    buf_fini(&text);
}

static void a_file_of_format_1_is_read(void **state)
{
    struct snapread_info info;
    struct snapread *r;
    struct sx_set s = {0};
    char why[100];
    (void)state;
    assert_int_equal(snapread_open(&r, GOLDEN "/" NAME, cell, &sx_signer, why, sizeof why), ERR_OK);
    make_entries(&s);
    sx_check(r, &s);
    snapread_info(r, &info);
    assert_true(info.header.lsn == 9 && info.header.term == 2 && info.header.time_ms == 1767225600400);
    assert_true(info.entries == 3 && info.blocks == 1);
    sx_clear(&s);
    snapread_unref(r);
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_today_is_format_1),
        cmocka_unit_test(the_example_in_the_documentation_is_what_the_file_holds),
        cmocka_unit_test(a_file_of_format_1_is_read),
    };
    if (argc == 2 && strcmp(argv[1], "write") == 0) {
        write_all();
        return 0;
    }
    return cmocka_run_group_tests(tests, NULL, NULL);
}
