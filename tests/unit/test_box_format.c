/* Format 1 of containers and manifests, for good: what lies in tests/golden/box-1 stays readable, and the worked
 * examples in docs/container.md are what it holds, byte for byte.
 *
 *     build/tests/test_box_format write    writes the files anew and prints the examples for docs/container.md
 *
 * Only a new format may need that, and then for a new directory: these files are what a released version wrote. */
#include "box_fixture.h"
#include "format_example.h"
#include "snap_fixture.h"

#include "engine/snapmanifest.h"

#define GOLDEN "tests/golden/box-1"
#define NAME "18446744073709551606-2-node-1"
#define DOC "docs/container.md"

static const char file[] = "(a snapshot file)";

static struct box_head a_head(void)
{
    struct box_head h = {.lsn = 9, .term = 2, .kind = BOX_SNAPSHOT, .chunk_bytes = BOX_CHUNK_BYTES_MIN};

    memcpy(h.cell_id, "coffer example.", 16);
    memcpy(h.realm, "example's realm.", 16);
    h.bytes = strlen(file);
    memset(h.content, 0xcc, sizeof h.content);
    memset(h.wrapped, 0xee, sizeof h.wrapped);
    return h;
}

static struct snapmanifest a_manifest(struct bytes box)
{
    struct box_head h = a_head();
    struct snapmanifest m = {.object = {.lsn = h.lsn, .term = h.term, .node = "node-1"},
                             .time_ms = 1767225600400,
                             .bytes = box.n,
                             .file_bytes = h.bytes};

    memcpy(m.object.cell_id, h.cell_id, 16);
    memcpy(m.realm, h.realm, 16);
    memcpy(m.content, h.content, 32);
    memset(m.digest, 0xdd, sizeof m.digest);
    sha256_of(box.p, box.n, m.sha256);
    return m;
}

static void make_box(struct buf *out)
{
    struct box_head h = a_head();
    struct bx_box b;

    fx_write(bx_dir, "from", bytes_str(file));
    b = bx_box(&h);
    buf_init(out, 1 << 20);
    assert_int_equal(buf_put(out, b.p, b.n), ERR_OK);
    free(b.p);
}

static void make_manifest(struct bytes box, struct buf *out)
{
    struct snapmanifest m = a_manifest(box);

    buf_init(out, 4096);
    assert_int_equal(snapmanifest_put(out, &m, &sx_signer), ERR_OK);
}

/* ---- the examples ---- */

static void describe(struct example *x)
{
    *x = (struct example){0};
    example_field(x, 8, "header: magic");
    example_field(x, 4, "format 1");
    example_field(x, 4, "header bytes 256");
    example_field(x, 16, "cell id");
    example_field(x, 8, "LSN");
    example_field(x, 4, "term");
    example_field(x, 4, "a snapshot");
    example_field(x, 8, "bytes of the file");
    example_field(x, 32, "content");
    example_field(x, 4, "chunk bytes");
    example_field(x, 4, "bytes of the wrapped data key");
    example_field(x, 16, "realm id");
    example_field(x, BOX_WRAPPED_BYTES, "data key, wrapped");
    example_field(x, 7, "zeros");
    example_field(x, 4, "CRC-32C of 0..251");
    example_field(x, strlen(file), "chunk 0, the last: the file, encrypted");
    example_field(x, BOX_TAG_BYTES, "its tag");
}

static void print_box(struct bytes box, struct buf *text)
{
    struct example x;

    describe(&x);
    example_print(&x, box, text);
}

static void print_manifest(struct bytes manifest, struct buf *text)
{
    buf_init(text, 4096);
    while (manifest.n) {
        const uint8_t *end = memchr(manifest.p, '\n', manifest.n);
        struct bytes line = {0};

        assert_non_null(end);
        assert_true(bytes_take(&manifest, (size_t)(end + 1 - manifest.p), &line));
        assert_int_equal(buf_put(text, "    ", 4), ERR_OK);
        assert_int_equal(buf_put(text, line.p, line.n), ERR_OK);
    }
    assert_int_equal(buf_put_u8(text, 0), ERR_OK);
}

static void write_all(void)
{
    struct buf box, manifest, text;

    make_box(&box);
    make_manifest(buf_bytes(&box), &manifest);
    fx_write(GOLDEN, NAME ".snap", buf_bytes(&box));
    fx_write(GOLDEN, NAME ".manifest", buf_bytes(&manifest));
    print_box(buf_bytes(&box), &text);
    fputs((char *)buf_data(&text), stdout);
    buf_fini(&text);
    print_manifest(buf_bytes(&manifest), &text);
    fputs((char *)buf_data(&text), stdout);
    buf_fini(&text);
    buf_fini(&box);
    buf_fini(&manifest);
}

/* ---- tests ---- */

static void assert_golden(const char *name, struct buf *now)
{
    struct buf golden;

    fx_read(GOLDEN, name, &golden);
    assert_int_equal(buf_size(&golden), buf_size(now));
    assert_memory_equal(buf_data(&golden), buf_data(now), buf_size(now));
    buf_fini(&golden);
}

static void what_is_written_today_is_format_1(void **state)
{
    struct buf box, manifest;

    (void)state;
    for (int openssl = 0; openssl < 2; openssl++) {
        gcm_test_openssl(openssl);
        make_box(&box);
        make_manifest(buf_bytes(&box), &manifest);
        assert_golden(NAME ".snap", &box);
        assert_golden(NAME ".manifest", &manifest);
        buf_fini(&box);
        buf_fini(&manifest);
    }
    gcm_test_openssl(0);
}

static void the_examples_in_the_documentation_are_what_the_files_hold(void **state)
{
    struct buf golden, text;

    (void)state;
    fx_read(GOLDEN, NAME ".snap", &golden);
    print_box(buf_bytes(&golden), &text);
    example_check(&text, DOC, "build/tests/test_box_format");
    buf_fini(&text);
    buf_fini(&golden);
    fx_read(GOLDEN, NAME ".manifest", &golden);
    print_manifest(buf_bytes(&golden), &text);
    example_check(&text, DOC, "build/tests/test_box_format");
    buf_fini(&text);
    buf_fini(&golden);
}

static void a_container_of_format_1_is_read(void **state)
{
    struct box_head h, want = a_head();
    uint8_t header[BOX_HEADER_BYTES];
    struct buf box, seen;

    (void)state;
    fx_read(GOLDEN, NAME ".snap", &box);
    assert_int_equal(box_get_header(buf_data(&box), &h), ERR_OK);
    box_put_header(header, &want);
    assert_memory_equal(header, buf_data(&box), sizeof header);
    box_put_header(header, &h);
    assert_memory_equal(header, buf_data(&box), sizeof header);
    assert_int_equal(box_bytes(&h), buf_size(&box));
    assert_int_equal(
        bx_unbox(&h, bytes_of(buf_data(&box) + BOX_HEADER_BYTES, buf_size(&box) - BOX_HEADER_BYTES), 1 << 20), ERR_OK);
    fx_read(bx_dir, "to", &seen);
    assert_int_equal(buf_size(&seen), strlen(file));
    assert_memory_equal(buf_data(&seen), file, strlen(file));
    buf_fini(&seen);
    buf_fini(&box);
}

static void a_manifest_of_format_1_is_read(void **state)
{
    struct buf box, text;
    struct snapmanifest m, want;
    struct snapobject where;
    enum snapobject_kind kind;

    (void)state;
    fx_read(GOLDEN, NAME ".snap", &box);
    fx_read(GOLDEN, NAME ".manifest", &text);
    want = a_manifest(buf_bytes(&box));
    assert_true(snapobject_parse("coffer/636f66666572206578616d706c652e00/" NAME ".manifest", "coffer", &where, &kind));
    assert_int_equal(kind, SNAPOBJECT_MANIFEST);
    assert_int_equal(snapmanifest_open(buf_bytes(&text), &where, &sx_signer, &m), ERR_OK);
    assert_true(m.object.lsn == 9 && m.object.term == 2 && m.time_ms == want.time_ms);
    assert_true(m.bytes == want.bytes && m.file_bytes == want.file_bytes);
    assert_string_equal(m.object.node, "node-1");
    assert_memory_equal(m.object.cell_id, want.object.cell_id, 16);
    assert_memory_equal(m.realm, want.realm, 16);
    assert_memory_equal(m.sha256, want.sha256, 32);
    assert_memory_equal(m.digest, want.digest, 32);
    assert_memory_equal(m.content, want.content, 32);
    buf_fini(&box);
    buf_fini(&text);
}

static int set_up(void **state)
{
    (void)state;
    bx_set_up();
    return 0;
}

static int tear_down(void **state)
{
    (void)state;
    fx_remove_dir(bx_dir);
    return 0;
}

int main(int argc, char **argv)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_is_written_today_is_format_1),
        cmocka_unit_test(the_examples_in_the_documentation_are_what_the_files_hold),
        cmocka_unit_test(a_container_of_format_1_is_read),
        cmocka_unit_test(a_manifest_of_format_1_is_read),
    };

    if (argc == 2 && strcmp(argv[1], "write") == 0) {
        bx_set_up();
        write_all();
        fx_remove_dir(bx_dir);
        return 0;
    }
    return cmocka_run_group_tests(tests, set_up, tear_down);
}
