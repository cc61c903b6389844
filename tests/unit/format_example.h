/* format_example.h - a file's bytes, field by field, as text for a page of docs/, and a look whether the page has that
 * text. */
#ifndef COFFER_TESTS_FORMAT_EXAMPLE_H
#define COFFER_TESTS_FORMAT_EXAMPLE_H

#include "wal_fixture.h"

/* Fields in the order of the file: so many bytes, and what they are. */
struct example {
    struct example_row {
        size_t n;
        const char *what;
    } rows[128];
    size_t count;
};

fx_unused static void example_field(struct example *x, size_t n, const char *what)
{
    assert_true(x->count < sizeof x->rows / sizeof *x->rows);
    x->rows[x->count++] = (struct example_row){n, what};
}

/* Lines without spaces at their ends, as an editor leaves them. */
fx_unused static void example_strip_line_ends(struct buf *b)
{
    size_t to = 0, n = buf_size(b);
    uint8_t *p = buf_data(b);
    for (size_t i = 0; i < n; i++) {
        if (p[i] == '\n')
            while (to && p[to - 1] == ' ')
                to--;
        p[to++] = p[i];
    }
    buf_truncate(b, to);
}

/* "    0080  57 42 4c 47 ...   frame: magic", at most 16 bytes a line, a new line for each field. Ends with a NUL. */
fx_unused static void example_print(const struct example *x, struct bytes file, struct buf *out)
{
    size_t off = 0;
    buf_init(out, 1 << 20);
    for (size_t i = 0; i < x->count; i++) {
        const struct example_row *f = &x->rows[i];
        for (size_t at = 0; at < f->n; at += 16) {
            size_t n = f->n - at < 16 ? f->n - at : 16;
            char hex[16 * 3 + 1];
            for (size_t k = 0; k < n; k++)
                snprintf(hex + 3 * k, 4, "%02x ", file.p[off + at + k]);
            assert_int_equal(buf_putf(out, "    %04zx  %-48s%s%s\n", off + at, hex, at ? "" : " ", at ? "" : f->what),
                             ERR_OK);
        }
        off += f->n;
    }
    assert_int_equal(off, file.n);
    example_strip_line_ends(out);
    assert_int_equal(buf_put_u8(out, 0), ERR_OK);
}

/* The page has the text, whole. */
fx_unused static void example_check(const struct buf *text, const char *page, const char *program)
{
    struct buf doc;
    buf_init(&doc, 1 << 20);
    assert_int_equal(file_read_all(page, &doc, 1 << 20), ERR_OK);
    assert_int_equal(buf_put_u8(&doc, 0), ERR_OK);
    if (!strstr((char *)buf_data(&doc), (char *)buf_data(text)))
        fail_msg("the example in %s is not what %s write prints", page, program);
    buf_fini(&doc);
}

#endif
