/* box_fixture.h - what the tests of hsm/box.h share: a file, its head and key, the box of it in memory, and a reader
 * that is given any bytes. Directories come from wal_fixture.h. */
#ifndef COFFER_TESTS_BOX_FIXTURE_H
#define COFFER_TESTS_BOX_FIXTURE_H

#include "wal_fixture.h"

#include "base/crc32c.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "hsm/box.h"
#include "hsm/gcm.h"

#define BX_MAX (1u << 20)
#define BX_CHUNK BOX_CHUNK_BYTES_MIN
#define BX_STRIDE (BX_CHUNK + BOX_TAG_BYTES)

static char bx_dir[FX_DIR_BYTES], bx_from[512], bx_to[512];
static uint8_t bx_key[BOX_KEY_BYTES];

fx_unused static void bx_set_up(void)
{
    assert_int_equal(mem_init(1), ERR_OK);
    fx_make_dir(bx_dir);
    fx_path(bx_from, bx_dir, "from");
    fx_path(bx_to, bx_dir, "to");
    for (unsigned i = 0; i < sizeof bx_key; i++)
        bx_key[i] = (uint8_t)i;
}

/* What cannot be told from noise would hide that it was not encrypted; this repeats with every chunk. */
fx_unused static struct box_head bx_make(size_t n)
{
    static uint8_t file[BX_MAX];
    struct box_head h = {
        .lsn = 9, .term = 2, .kind = BOX_SNAPSHOT, .bytes = n, .chunk_bytes = BX_CHUNK, .cell_id = "coffer example."};

    assert_true(n <= sizeof file);
    for (size_t i = 0; i < n; i++)
        file[i] = (uint8_t)(i % BX_CHUNK % 251);
    fx_write(bx_dir, "from", bytes_of(file, n));
    memcpy(h.realm, "example's realm.", 16);
    memset(h.wrapped, 0xee, sizeof h.wrapped);
    sha256_of(file, n, h.content);
    return h;
}

/* The whole box, by one read. */
struct bx_box {
    uint8_t *p;
    size_t n;
};

fx_unused static struct bx_box bx_box(const struct box_head *h)
{
    struct bx_box b = {.n = (size_t)box_bytes(h)};
    struct box_writer *w;

    b.p = malloc(b.n);
    assert_non_null(b.p);
    assert_int_equal(box_writer_open(&w, bx_from, h, bx_key), ERR_OK);
    assert_int_equal(box_writer_read(w, 0, b.p, b.n), ERR_OK);
    box_writer_close(w);
    return b;
}

/* Gives these bytes behind a header to a reader, in pieces of so many. The first error, or what the finish says. */
fx_unused static enum err bx_unbox(const struct box_head *h, struct bytes chunks, size_t pieces)
{
    struct box_reader *r;
    enum err e = box_reader_open(&r, bx_to, h, bx_key, 0);

    for (size_t at = 0; e == ERR_OK && at < chunks.n; at += pieces) {
        size_t n = chunks.n - at < pieces ? chunks.n - at : pieces;
        e = box_reader_write(r, BOX_HEADER_BYTES + at, chunks.p + at, n);
        if (e)
            box_reader_abandon(r);
    }
    return e == ERR_OK ? box_reader_finish(r) : e;
}

fx_unused static void bx_assert_same(void)
{
    struct buf a, b;

    fx_read(bx_dir, "from", &a);
    fx_read(bx_dir, "to", &b);
    assert_int_equal(buf_size(&a), buf_size(&b));
    if (buf_size(&a))
        assert_memory_equal(buf_data(&a), buf_data(&b), buf_size(&a));
    buf_fini(&a);
    buf_fini(&b);
}

fx_unused static struct bytes bx_chunks(const struct bx_box *b)
{
    return bytes_of(b->p + BOX_HEADER_BYTES, b->n - BOX_HEADER_BYTES);
}

#endif
