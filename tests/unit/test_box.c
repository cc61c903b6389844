/* test_box.c - containers of files that leave the node: the same bytes each time, from anywhere; nothing that was
 * changed, cut, mixed up or moved is taken for the file. */
#include "box_fixture.h"

#include "engine/objstore.h"

static const size_t sizes[] = {0, 1, 100, BX_CHUNK - 1, BX_CHUNK, BX_CHUNK + 1, 3 * BX_CHUNK, 3 * BX_CHUNK + 77};
#define SIZES (sizeof sizes / sizeof *sizes)

/* ---- out and in again ---- */

static void what_goes_in_comes_out(void **state)
{
    static const size_t pieces[] = {1 << 20, BX_STRIDE, 4096, 4099, 33};

    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        struct box_head h = bx_make(sizes[i]);
        struct bx_box b = bx_box(&h);

        for (size_t k = 0; k < sizeof pieces / sizeof *pieces; k++) {
            assert_int_equal(bx_unbox(&h, bx_chunks(&b), pieces[k]), ERR_OK);
            bx_assert_same();
        }
        free(b.p);
    }
}

static void nothing_of_the_file_shows(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK);
    struct bx_box b = bx_box(&h);
    struct buf file;

    (void)state;
    fx_read(bx_dir, "from", &file);
    for (size_t at = 0; at < buf_size(&file); at += 1024)
        assert_null(memmem(b.p, b.n, buf_data(&file) + at, 32));
    /* Chunks of the same bytes have nothing in common. */
    assert_memory_not_equal(b.p + BOX_HEADER_BYTES, b.p + BOX_HEADER_BYTES + BX_STRIDE, 16);
    buf_fini(&file);
    free(b.p);
}

static void sizes_and_places_add_up(void **state)
{
    static const uint32_t chunk_bytes[] = {BOX_CHUNK_BYTES_MIN, BOX_CHUNK_BYTES, BOX_CHUNK_BYTES_MAX};

    (void)state;
    for (size_t i = 0; i < SIZES; i++) {
        for (size_t k = 0; k < 3; k++) {
            struct box_head h = bx_make(sizes[i]);
            uint64_t n, off = BOX_HEADER_BYTES;

            h.chunk_bytes = chunk_bytes[k];
            n = box_chunks(&h);
            assert_true(n >= 1);
            for (uint64_t c = 0; c + 1 < n; c++, off += h.chunk_bytes + BOX_TAG_BYTES)
                assert_int_equal(box_chunk_off(&h, c), off);
            assert_int_equal(box_chunk_off(&h, n - 1), off);
            assert_int_equal(box_bytes(&h), off + (sizes[i] - (n - 1) * h.chunk_bytes) + BOX_TAG_BYTES);
            assert_int_equal(box_chunk_off(&h, n), box_bytes(&h));
        }
    }
}

/* ---- the same bytes, whoever asks how ---- */

static void any_range_from_any_writer_is_the_same(void **state)
{
    static uint8_t part[BX_MAX];
    struct box_head h = bx_make(3 * BX_CHUNK + 77);
    struct bx_box b = bx_box(&h);
    struct box_writer *w;

    (void)state;
    for (unsigned round = 0; round < 300; round++) {
        size_t off = (size_t)round * 7919 % b.n, n = (size_t)round * 104729 % (b.n - off + 1);

        gcm_test_openssl(round & 1);
        if (round % 16 == 0) {
            if (round)
                box_writer_close(w);
            assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_OK);
        }
        assert_int_equal(box_writer_read(w, off, part, n), ERR_OK);
        assert_memory_equal(part, b.p + off, n);
    }
    gcm_test_openssl(0);
    assert_int_equal(box_writer_read(w, b.n, part, 0), ERR_OK);
    assert_int_equal(box_writer_read(w, b.n, part, 1), ERR_RANGE);
    assert_int_equal(box_writer_read(w, b.n - 1, part, 2), ERR_RANGE);
    assert_int_equal(box_writer_read(w, UINT64_MAX, part, 1), ERR_RANGE);
    assert_int_equal(box_writer_read(w, 1, part, SIZE_MAX), ERR_RANGE);
    box_writer_close(w);
    free(b.p);
}

/* An upload that goes on, with another process's writer, where a chunk or a part of 8 MiB ended. */
static void an_upload_that_goes_on_has_the_same_bytes(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK + 77);
    struct bx_box b = bx_box(&h);
    uint8_t *rest = malloc(b.n), hash[32], want[32];

    (void)state;
    assert_non_null(rest);
    sha256_of(b.p, b.n, want);
    for (uint64_t c = 0; c <= box_chunks(&h); c++) {
        struct box_writer *w;
        size_t off = (size_t)box_chunk_off(&h, c);

        assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_OK);
        assert_int_equal(box_writer_read(w, off, rest, b.n - off), ERR_OK);
        assert_memory_equal(rest, b.p + off, b.n - off);
        assert_int_equal(box_writer_hash(w, hash), ERR_OK);
        assert_memory_equal(hash, want, 32);
        box_writer_close(w);
    }
    free(rest);
    free(b.p);
}

static void another_header_is_another_key(void **state)
{
    struct box_head h = bx_make(100), other = h;
    struct bx_box b = bx_box(&h), c;

    (void)state;
    other.content[31] ^= 1;
    c = bx_box(&other);
    assert_memory_not_equal(b.p + BOX_HEADER_BYTES, c.p + BOX_HEADER_BYTES, 100);
    free(b.p);
    free(c.p);
}

/* ---- what is not the box ---- */

static void fix_crc(uint8_t *header)
{
    put_le32(header + 252, crc32c(0, header, 252));
}

static void every_flipped_byte_is_found(void **state)
{
    static const uint8_t bits[] = {0x01, 0x40, 0x80, 0xff};
    struct box_head h = bx_make(100), seen;
    struct bx_box b = bx_box(&h);

    (void)state;
    for (size_t at = 0; at < b.n; at++) {
        for (size_t k = 0; k < sizeof bits; k++) {
            b.p[at] ^= bits[k];
            enum err e = box_get_header(b.p, &seen);
            assert_int_equal(e, at < BOX_HEADER_BYTES ? ERR_CORRUPT : ERR_OK);
            if (at >= BOX_HEADER_BYTES)
                assert_int_equal(bx_unbox(&seen, bx_chunks(&b), 64), ERR_CORRUPT);
            b.p[at] ^= bits[k];
        }
    }
    free(b.p);
}

/* Somebody who knows how to make the CRC, but has no key. */
static void a_forged_header_opens_nothing(void **state)
{
    struct box_head h = bx_make(100), seen;
    struct bx_box b = bx_box(&h);

    (void)state;
    for (size_t at = 0; at < 252; at++) {
        uint8_t kept[BOX_HEADER_BYTES];

        memcpy(kept, b.p, sizeof kept);
        b.p[at] ^= 1;
        fix_crc(b.p);
        enum err e = box_get_header(b.p, &seen);
        if (e == ERR_OK)
            assert_int_equal(bx_unbox(&seen, bx_chunks(&b), 1 << 20), ERR_CORRUPT);
        else
            assert_int_equal(e, at >= 8 && at < 12 ? ERR_UNSUPPORTED : ERR_CORRUPT);
        memcpy(b.p, kept, sizeof kept);
    }
    free(b.p);
}

static void refused_after(uint8_t *header, unsigned at, uint64_t value, size_t n)
{
    struct box_head seen;

    memcpy(header + at, &value, n);
    fix_crc(header);
    assert_int_equal(box_get_header(header, &seen), ERR_CORRUPT);
    assert_int_equal(seen.bytes, 0);
    box_put_header(header, &(struct box_head){.kind = BOX_SNAPSHOT, .chunk_bytes = BX_CHUNK});
    assert_int_equal(box_get_header(header, &seen), ERR_OK);
}

static void a_header_out_of_range_is_refused(void **state)
{
    struct box_head h = bx_make(100);
    uint8_t header[BOX_HEADER_BYTES];
    struct box_writer *w;
    struct box_reader *r;

    (void)state;
    box_put_header(header, &h);
    refused_after(header, 44, 0, 4);
    refused_after(header, 44, 2, 4);
    refused_after(header, 48, BOX_FILE_BYTES_MAX + 1, 8);
    refused_after(header, 48, UINT64_MAX, 8);
    refused_after(header, 88, 0, 4);
    refused_after(header, 88, BX_CHUNK / 2, 4);
    refused_after(header, 88, BX_CHUNK + 1, 4);
    refused_after(header, 88, 2 * BOX_CHUNK_BYTES_MAX, 4);
    refused_after(header, 92, 132, 4);
    refused_after(header, 12, 255, 4);
    refused_after(header, 251, 1, 1);
    h.chunk_bytes = 1000;
    assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_RANGE);
    assert_null(w);
    assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, 0), ERR_RANGE);
    assert_null(r);
}

static void every_cut_is_found(void **state)
{
    struct box_head h = bx_make(100);
    struct bx_box b = bx_box(&h);

    (void)state;
    for (size_t n = 0; n < b.n - BOX_HEADER_BYTES; n++)
        assert_int_equal(bx_unbox(&h, bytes_of(b.p + BOX_HEADER_BYTES, n), 1 << 20), ERR_CORRUPT);
    free(b.p);
}

/* At the end of a chunk, and with a header that says that this is the end. */
static void a_cut_between_chunks_is_found(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK), shorter;
    struct bx_box b = bx_box(&h);

    (void)state;
    for (uint64_t c = 0; c < 3; c++) {
        struct bytes front = bytes_of(b.p + BOX_HEADER_BYTES, (size_t)box_chunk_off(&h, c) - BOX_HEADER_BYTES);

        assert_int_equal(bx_unbox(&h, front, 1 << 20), ERR_CORRUPT);
        shorter = h;
        shorter.bytes = c * BX_CHUNK;
        assert_int_equal(bx_unbox(&shorter, front, 1 << 20), ERR_CORRUPT);
    }
    free(b.p);
}

static void more_behind_the_end_is_found(void **state)
{
    struct box_head h = bx_make(BX_CHUNK);
    struct bx_box b = bx_box(&h);
    uint8_t *longer = calloc(1, b.n + BX_STRIDE);

    (void)state;
    assert_non_null(longer);
    memcpy(longer, b.p, b.n);
    memcpy(longer + b.n, b.p + BOX_HEADER_BYTES, BX_STRIDE);
    assert_int_equal(bx_unbox(&h, bytes_of(longer + BOX_HEADER_BYTES, BX_STRIDE + 1), 1 << 20), ERR_CORRUPT);
    assert_int_equal(bx_unbox(&h, bytes_of(longer + BOX_HEADER_BYTES, 2 * BX_STRIDE), 1 << 20), ERR_CORRUPT);
    free(longer);
    free(b.p);
}

static uint8_t *chunk_of(const struct bx_box *b, size_t c)
{
    return b->p + BOX_HEADER_BYTES + c * BX_STRIDE;
}

/* Chunk `to` is replaced by chunk `from` of another box, or of this one. */
static void refuses_moved(const struct box_head *h, size_t to, const struct bx_box *source, size_t from)
{
    struct bx_box b = bx_box(h);

    memcpy(chunk_of(&b, to), chunk_of(source, from), BX_STRIDE);
    assert_int_equal(bx_unbox(h, bx_chunks(&b), 1 << 20), ERR_CORRUPT);
    free(b.p);
}

static void a_chunk_is_good_in_its_place_only(void **state)
{
    struct box_head h = bx_make(4 * BX_CHUNK), other = h;
    struct bx_box b = bx_box(&h), c;
    uint8_t spare[BX_STRIDE];

    (void)state;
    other.lsn++;
    c = bx_box(&other);
    for (size_t to = 0; to < 4; to++) {
        for (size_t from = 0; from < 4; from++) {
            if (from != to)
                refuses_moved(&h, to, &b, from); /* another one twice */
            refuses_moved(&h, to, &c, from);
        }
    }
    memcpy(spare, chunk_of(&b, 1), sizeof spare); /* exchanged */
    memcpy(chunk_of(&b, 1), chunk_of(&b, 2), sizeof spare);
    memcpy(chunk_of(&b, 2), spare, sizeof spare);
    assert_int_equal(bx_unbox(&h, bx_chunks(&b), 1 << 20), ERR_CORRUPT);
    memmove(chunk_of(&b, 1), chunk_of(&b, 2), 2 * BX_STRIDE); /* left out, and the end has moved up */
    assert_int_equal(bx_unbox(&h, bytes_of(chunk_of(&b, 0), 3 * BX_STRIDE), 1 << 20), ERR_CORRUPT);
    free(b.p);
    free(c.p);
}

static void another_data_key_opens_nothing(void **state)
{
    struct box_head h = bx_make(100);
    struct bx_box b = bx_box(&h);

    (void)state;
    for (size_t i = 0; i < sizeof bx_key; i++) {
        bx_key[i] ^= 0x10;
        assert_int_equal(bx_unbox(&h, bx_chunks(&b), 1 << 20), ERR_CORRUPT);
        bx_key[i] ^= 0x10;
    }
    assert_int_equal(bx_unbox(&h, bx_chunks(&b), 1 << 20), ERR_OK);
    free(b.p);
}

/* ---- downloads that go on ---- */

static void feed(struct box_reader *r, const struct bx_box *b, uint64_t from, uint64_t to)
{
    assert_int_equal(box_reader_write(r, from, b->p + from, (size_t)(to - from)), ERR_OK);
}

static void goes_on_in_another_process_at_any_chunk(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK + 77);
    struct bx_box b = bx_box(&h);
    struct box_reader *r;

    (void)state;
    for (uint64_t c = 0; c <= box_chunks(&h); c++) {
        uint64_t off = box_chunk_off(&h, c), some = c < box_chunks(&h) ? 50 : 0;

        assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, 0), ERR_OK);
        feed(r, &b, BOX_HEADER_BYTES, off + some);
        assert_int_equal(box_reader_chunks(r), c);
        assert_int_equal(box_reader_sync(r), ERR_OK);
        box_reader_abandon(r);
        assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, c + 1), ERR_RANGE);
        assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, c), ERR_OK);
        assert_int_equal(box_reader_restart(r), off);
        feed(r, &b, off, b.n);
        assert_int_equal(box_reader_finish(r), ERR_OK);
        bx_assert_same();
    }
    free(b.p);
}

static void goes_on_after_a_bad_chunk(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK);
    struct bx_box b = bx_box(&h);
    struct box_reader *r;
    uint64_t second = box_chunk_off(&h, 1);

    (void)state;
    assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, 0), ERR_OK);
    feed(r, &b, BOX_HEADER_BYTES, second);
    b.p[second + 5] ^= 1;
    assert_int_equal(box_reader_write(r, second, b.p + second, BX_STRIDE), ERR_CORRUPT);
    assert_int_equal(box_reader_write(r, second, b.p + second, 1), ERR_CORRUPT); /* it is not forgotten by itself */
    assert_int_equal(box_reader_sync(r), ERR_CORRUPT);
    b.p[second + 5] ^= 1;
    assert_int_equal(box_reader_restart(r), second);
    assert_int_equal(box_reader_write(r, second + 1, b.p + second, 1), ERR_RANGE);
    assert_int_equal(box_reader_restart(r), second);
    feed(r, &b, second, second + 7);
    assert_int_equal(box_reader_restart(r), second);
    feed(r, &b, second, b.n);
    assert_int_equal(box_reader_finish(r), ERR_OK);
    bx_assert_same();
    free(b.p);
}

/* What a longer file of before left behind is gone. */
static void the_file_is_cut_where_the_box_begins(void **state)
{
    static const uint8_t old[300] = {1};
    struct box_head h = bx_make(100);
    struct bx_box b = bx_box(&h);

    (void)state;
    fx_write(bx_dir, "to", bytes_of(old, sizeof old));
    assert_int_equal(bx_unbox(&h, bx_chunks(&b), 1 << 20), ERR_OK);
    bx_assert_same();
    free(b.p);
}

static void nothing_is_written_before_its_tag(void **state)
{
    struct box_head h = bx_make(100);
    struct bx_box b = bx_box(&h);
    struct buf file;

    (void)state;
    b.p[b.n - 1] ^= 1;
    assert_int_equal(bx_unbox(&h, bx_chunks(&b), 1 << 20), ERR_CORRUPT);
    fx_read(bx_dir, "to", &file);
    assert_int_equal(buf_size(&file), 0);
    buf_fini(&file);
    free(b.p);
}

/* ---- one chunk alone ---- */

static void chunks_open_in_any_order(void **state)
{
    static const unsigned order[] = {3, 0, 2, 1, 3};
    static uint8_t out[BX_CHUNK];
    struct box_head h = bx_make(3 * BX_CHUNK + 77);
    struct bx_box b = bx_box(&h);
    struct box_opener *o;
    struct buf file;

    (void)state;
    fx_read(bx_dir, "from", &file);
    assert_int_equal(box_opener_new(&o, &h, bx_key), ERR_OK);
    for (size_t i = 0; i < sizeof order / sizeof *order; i++) {
        size_t off = (size_t)box_chunk_off(&h, order[i]), n = (size_t)box_chunk_off(&h, order[i] + 1) - off;

        assert_int_equal(box_opener_open(o, order[i], bytes_of(b.p + off, n), out), ERR_OK);
        assert_memory_equal(out, buf_data(&file) + order[i] * BX_CHUNK, n - BOX_TAG_BYTES);
        for (unsigned other = 0; other < 4; other++) {
            memset(out, 0xff, sizeof out);
            if (other != order[i])
                assert_int_equal(box_opener_open(o, other, bytes_of(b.p + off, n), out), ERR_CORRUPT);
            if (other != order[i] && n == BX_STRIDE && other < 3)
                assert_int_equal(out[0] | out[BX_CHUNK - 1], 0); /* nothing is left of what did not verify */
        }
        assert_int_equal(box_opener_open(o, order[i], bytes_of(b.p + off, n - 1), out), ERR_CORRUPT);
        assert_int_equal(box_opener_open(o, 4, bytes_of(b.p + off, n), out), ERR_RANGE);
    }
    box_opener_free(o);
    box_opener_free(NULL);
    h.kind = 7;
    assert_int_equal(box_opener_new(&o, &h, bx_key), ERR_RANGE);
    assert_null(o);
    buf_fini(&file);
    free(b.p);
}

/* The two ends are what the object store's client takes. */
static void ends_fit_the_object_store(void **state)
{
    enum err (*write)(void *arg, uint64_t off, const void *p, size_t n) = box_reader_write;
    struct objstore_source source = {.read = box_writer_read};
    struct box_head h = bx_make(BX_CHUNK + 1);
    struct box_writer *w;
    struct box_reader *r;
    uint8_t part[5000];

    (void)state;
    assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_OK);
    assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, 0), ERR_OK);
    source.bytes = box_bytes(&h);
    source.arg = w;
    for (uint64_t off = box_chunk_off(&h, 0); off < source.bytes;) {
        size_t n = source.bytes - off < sizeof part ? (size_t)(source.bytes - off) : sizeof part;

        assert_int_equal(source.read(source.arg, off, part, n), ERR_OK);
        assert_int_equal(write(r, off, part, n), ERR_OK);
        off += n;
    }
    assert_int_equal(box_reader_finish(r), ERR_OK);
    box_writer_close(w);
    bx_assert_same();
}

/* ---- trouble with files and memory ---- */

static void a_file_of_another_size_is_refused(void **state)
{
    struct box_head h = bx_make(3 * BX_CHUNK);
    struct box_writer *w;
    struct box_reader *r;
    uint8_t byte;

    (void)state;
    h.bytes--;
    assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_CORRUPT);
    h.bytes++;
    assert_int_equal(box_writer_open(&w, bx_from, &h, bx_key), ERR_OK);
    assert_int_equal(truncate(bx_from, 2 * BX_CHUNK + 5), 0); /* under our hands */
    assert_int_equal(box_writer_read(w, box_chunk_off(&h, 1), &byte, 1), ERR_OK);
    assert_int_equal(box_writer_read(w, box_chunk_off(&h, 2), &byte, 1), ERR_CORRUPT);
    assert_int_equal(box_writer_hash(w, (uint8_t[32]){0}), ERR_CORRUPT);
    assert_int_equal(box_writer_read(w, box_chunk_off(&h, 1), &byte, 1), ERR_OK);
    box_writer_close(w);
    assert_int_equal(box_writer_open(&w, "/nonexistent/file", &h, bx_key), ERR_NOTFOUND);
    assert_int_equal(box_reader_open(&r, "/nonexistent/file", &h, bx_key, 0), ERR_NOTFOUND);
    box_writer_close(NULL);
    box_reader_abandon(NULL);
}

static enum err write_and_read(const struct box_head *h, uint8_t *p, size_t n)
{
    struct box_writer *w;
    uint8_t hash[32];
    enum err e = box_writer_open(&w, bx_from, h, bx_key);

    if (e == ERR_OK)
        e = box_writer_hash(w, hash);
    if (e == ERR_OK)
        e = box_writer_read(w, 0, p, n);
    box_writer_close(w);
    return e == ERR_OK ? bx_unbox(h, bytes_of(p + BOX_HEADER_BYTES, n - BOX_HEADER_BYTES), 50000) : e;
}

/* unseen: faults that need not be told of. */
static void fails_cleanly_at(enum fault_kind kind, int code, enum err want, unsigned unseen)
{
    struct box_head h = bx_make(2 * BX_CHUNK + 7);
    size_t n = (size_t)box_bytes(&h);
    uint8_t *p = malloc(n);
    struct mem_secret_stats before, after;

    assert_non_null(p);
    mem_secret_stats(&before);
    for (long nth = 1; nth < 500; nth++) {
        fault_arm(kind, nth, code);
        enum err e = write_and_read(&h, p, n);
        int hit = fault_fired(kind);
        fault_disarm(kind);
        mem_secret_stats(&after);
        assert_int_equal(before.used_bytes, after.used_bytes);
        if (hit && e == ERR_OK && unseen)
            unseen--;
        else
            assert_int_equal(e, hit ? want : ERR_OK);
        if (!hit) {
            assert_true(nth > 3);
            free(p);
            return;
        }
    }
    fail_msg("does not end");
}

static void no_memory(void **state)
{
    (void)state;
    for (int openssl = 0; openssl < 2; openssl++) {
        gcm_test_openssl(openssl);
        fails_cleanly_at(FAULT_MEM, 1, ERR_OOM, 0);
    }
    gcm_test_openssl(0);
}

static void no_file(void **state)
{
    (void)state;
    fails_cleanly_at(FAULT_FILE, EIO, ERR_IO, 1); /* the close of the file that was only read */
    fails_cleanly_at(FAULT_FILE, ENOSPC, ERR_MISCONF, 1);
}

/* A write that failed is not forgotten: part of it may be in the file. */
static void a_failed_write_stays(void **state)
{
    struct box_head h = bx_make(100);
    struct bx_box b = bx_box(&h);
    struct box_reader *r;

    (void)state;
    assert_int_equal(box_reader_open(&r, bx_to, &h, bx_key, 0), ERR_OK);
    fault_arm(FAULT_FILE, 1, EIO);
    assert_int_equal(box_reader_write(r, BOX_HEADER_BYTES, bx_chunks(&b).p, bx_chunks(&b).n), ERR_IO);
    fault_disarm(FAULT_FILE);
    assert_int_equal(box_reader_restart(r), BOX_HEADER_BYTES);
    assert_int_equal(box_reader_write(r, BOX_HEADER_BYTES, bx_chunks(&b).p, bx_chunks(&b).n), ERR_IO);
    assert_int_equal(box_reader_finish(r), ERR_IO);
    free(b.p);
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

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(what_goes_in_comes_out),
        cmocka_unit_test(nothing_of_the_file_shows),
        cmocka_unit_test(sizes_and_places_add_up),
        cmocka_unit_test(any_range_from_any_writer_is_the_same),
        cmocka_unit_test(an_upload_that_goes_on_has_the_same_bytes),
        cmocka_unit_test(another_header_is_another_key),
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(a_forged_header_opens_nothing),
        cmocka_unit_test(a_header_out_of_range_is_refused),
        cmocka_unit_test(every_cut_is_found),
        cmocka_unit_test(a_cut_between_chunks_is_found),
        cmocka_unit_test(more_behind_the_end_is_found),
        cmocka_unit_test(a_chunk_is_good_in_its_place_only),
        cmocka_unit_test(another_data_key_opens_nothing),
        cmocka_unit_test(goes_on_in_another_process_at_any_chunk),
        cmocka_unit_test(goes_on_after_a_bad_chunk),
        cmocka_unit_test(the_file_is_cut_where_the_box_begins),
        cmocka_unit_test(nothing_is_written_before_its_tag),
        cmocka_unit_test(chunks_open_in_any_order),
        cmocka_unit_test(ends_fit_the_object_store),
        cmocka_unit_test(a_file_of_another_size_is_refused),
        cmocka_unit_test(no_memory),
        cmocka_unit_test(no_file),
        cmocka_unit_test(a_failed_write_stays),
    };

    return cmocka_run_group_tests(tests, set_up, tear_down);
}
