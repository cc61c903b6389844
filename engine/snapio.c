/* snapio.c - see snapio.h. */
#include "engine/snapio.h"

#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"

#define BLOCK_CRC_BYTES 4

enum err snapio_read(int fd, void *mem, size_t n, uint64_t off)
{
    size_t got;
    enum err e = file_pread(fd, mem, n, off, &got);
    return e ? e : got == n ? ERR_OK : ERR_CORRUPT;
}

static int hash_fits(const void *p, size_t n, const uint8_t want[SNAPFILE_HASH_BYTES])
{
    uint8_t hash[SNAPFILE_HASH_BYTES];
    sha256_of(p, n, hash);
    return memcmp(hash, want, sizeof hash) == 0;
}

static enum err corrupt(const char **why, const char *text)
{
    *why = text;
    return ERR_CORRUPT;
}

/* ---- header and footer ---- */

static enum err read_header(int fd, struct snapio_tail *t, uint8_t raw[SNAPFILE_HEADER_BYTES], const char **why)
{
    enum err e = snapio_read(fd, raw, SNAPFILE_HEADER_BYTES, 0);
    if (!e)
        e = snapfile_get_header(raw, &t->header);
    if (e == ERR_CORRUPT)
        *why = "the header does not verify";
    if (e == ERR_UNSUPPORTED)
        *why = "of a newer format";
    return e;
}

/* Index, filter and footer follow one another up to the end of the file. None of these sums overflows: each part is
 * compared with what the file has left. */
static int offsets_fit(const struct snapio_tail *t)
{
    const struct snapfile_footer *f = &t->footer;
    uint64_t end = t->file_bytes - SNAPFILE_FOOTER_BYTES;
    return f->index_off >= SNAPFILE_HEADER_BYTES && f->index_off <= end && f->index_bytes <= end - f->index_off &&
           f->filter_off == f->index_off + f->index_bytes && f->filter_bytes == end - f->filter_off &&
           f->blocks <= f->index_bytes / SNAPFILE_INDEX_ENTRY_BYTES && f->entries <= f->index_off &&
           f->filter_bytes == snapfile_filter_bytes(f->entries);
}

enum err snapio_read_ends(int fd, struct snapio_tail *t, const char **why)
{
    uint8_t header[SNAPFILE_HEADER_BYTES], footer[SNAPFILE_FOOTER_BYTES];

    memset(t, 0, sizeof *t);
    *why = NULL;
    enum err e = file_size(fd, &t->file_bytes);
    if (!e && t->file_bytes < SNAPFILE_HEADER_BYTES + SNAPFILE_FOOTER_BYTES)
        return corrupt(why, "too short");
    if (!e)
        e = read_header(fd, t, header, why);
    if (e)
        return e;
    e = snapio_read(fd, footer, sizeof footer, t->file_bytes - sizeof footer);
    if (!e)
        e = snapfile_get_footer(footer, &t->footer);
    if (e)
        return e == ERR_CORRUPT ? corrupt(why, "the footer does not verify") : e;
    if (!offsets_fit(t))
        return corrupt(why, "the footer does not fit the file's length");
    if (!hash_fits(header, sizeof header, t->footer.header_hash))
        return corrupt(why, "the header is not the one that the footer names");
    memcpy(t->signed_bytes, footer, sizeof t->signed_bytes);
    return ERR_OK;
}

/* ---- index and filter ---- */

static enum err read_part(int fd, uint64_t off, uint64_t n, const uint8_t hash[SNAPFILE_HASH_BYTES], uint8_t **out)
{
    *out = mem_alloc(n ? (size_t)n : 1);
    if (!*out)
        return ERR_OOM;
    enum err e = snapio_read(fd, *out, (size_t)n, off);
    return e ? e : hash_fits(*out, (size_t)n, hash) ? ERR_OK : ERR_CORRUPT;
}

/* Fills t->at. 1 when the blocks lie one behind the other from the header to the index, and their keys go up. */
static int walk_index(struct snapio_tail *t)
{
    struct bytes in = bytes_of(t->index, (size_t)t->footer.index_bytes), before = bytes_of(NULL, 0);
    uint64_t end = SNAPFILE_HEADER_BYTES, entries = 0;
    struct snapfile_block b;

    for (uint64_t i = 0; i < t->footer.blocks; i++) {
        t->at[i] = (uint64_t)(in.p - t->index);
        if (snapfile_get_index(&in, &b) != ERR_OK || b.off != end || b.bytes <= BLOCK_CRC_BYTES || b.entries == 0 ||
            bytes_compare(before, b.first_key) >= 0)
            return 0;
        end += b.bytes;
        entries += b.entries;
        before = b.first_key;
    }
    return in.n == 0 && end == t->footer.index_off && entries == t->footer.entries;
}

enum err snapio_read_index(int fd, struct snapio_tail *t, const char **why)
{
    const struct snapfile_footer *f = &t->footer;
    *why = NULL;
    enum err e = read_part(fd, f->index_off, f->index_bytes, f->index_hash, &t->index);
    if (e)
        return e == ERR_CORRUPT ? corrupt(why, "the index does not verify") : e;
    t->at = mem_alloc((size_t)(f->blocks + 1) * sizeof *t->at);
    if (!t->at)
        return ERR_OOM;
    if (!walk_index(t))
        return corrupt(why, "the index does not fit the file");
    e = read_part(fd, f->filter_off, f->filter_bytes, f->filter_hash, &t->filter);
    return e == ERR_CORRUPT ? corrupt(why, "the filter does not verify") : e;
}

void snapio_tail_fini(struct snapio_tail *t)
{
    mem_free(t->index);
    mem_free(t->filter);
    mem_free(t->at);
    memset(t, 0, sizeof *t);
}

void snapio_block(const struct snapio_tail *t, uint64_t i, struct snapfile_block *b)
{
    struct bytes in = bytes_of(t->index + t->at[i], (size_t)(t->footer.index_bytes - t->at[i]));
    (void)!snapfile_get_index(&in, b); /* it was decoded once */
}

/* ---- blocks ---- */

enum err snapio_check_block(const struct snapfile_block *b, const uint8_t *mem, int hash, struct bytes *entries)
{
    size_t n = b->bytes - BLOCK_CRC_BYTES;
    *entries = bytes_of(NULL, 0);
    if (get_le32(mem + n) != crc32c(0, mem, n) || (hash && !hash_fits(mem, b->bytes, b->hash)))
        return ERR_CORRUPT;
    *entries = bytes_of(mem, n);
    return ERR_OK;
}
