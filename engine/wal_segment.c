/* wal_segment.c - see wal_segment.h.
 *
 * The window reads in pieces of 256 KiB and grows to the largest record asked for (8 MiB at most, since a record's
 * length is compared with that limit before it is asked for). Rejected: mapping the segments, where a read error would
 * be a SIGBUS instead of an error to report, and a bad sector is exactly what the scan is there to find.
 */
#include "engine/wal_segment.h"

#include <inttypes.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"

#define WINDOW_FIRST_BYTES (32u << 10)
#define WINDOW_BYTES (256u << 10) /* when it is read on */
#define FRAME_MAGIC 0x474C4257u   /* "WBLG" */
#define FOOTER_MAGIC 0x464C4257u  /* "WBLF" */

static const uint8_t header_magic[8] = {'C', 'O', 'F', 'F', 'E', 'R', 'W', 'L'};

uint32_t wal_segment_seed(const uint8_t salt[16])
{
    return crc32c(0, salt, 16);
}

void wal_segment_put_header(uint8_t out[WAL_HEADER_BYTES], const struct wal_header *h)
{
    memset(out, 0, WAL_HEADER_BYTES);
    memcpy(out, header_magic, sizeof header_magic);
    put_le32(out + 8, WAL_FORMAT);
    put_le32(out + 12, WAL_HEADER_BYTES);
    memcpy(out + 16, h->cell_id, 16);
    put_le64(out + 32, h->first_lsn);
    memcpy(out + 40, h->chain, RECORD_CHAIN_BYTES);
    memcpy(out + 72, h->salt, 16);
    put_le64(out + 88, h->created_ms);
    put_le32(out + 96, h->term);
    put_le32(out + 124, crc32c(0, out, 124));
}

enum err wal_segment_get_header(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *h)
{
    *h = (struct wal_header){0};
    if (memcmp(in, header_magic, sizeof header_magic) != 0 || crc32c(0, in, 124) != get_le32(in + 124))
        return ERR_CORRUPT;
    if (get_le32(in + 8) != WAL_FORMAT)
        return ERR_UNSUPPORTED;
    if (get_le32(in + 12) != WAL_HEADER_BYTES || get_le64(in + 32) == 0)
        return ERR_CORRUPT;
    memcpy(h->cell_id, in + 16, 16);
    h->first_lsn = get_le64(in + 32);
    memcpy(h->chain, in + 40, RECORD_CHAIN_BYTES);
    memcpy(h->salt, in + 72, 16);
    h->created_ms = get_le64(in + 88);
    h->term = get_le32(in + 96);
    return ERR_OK;
}

static uint32_t frame_crc(const uint8_t *p, uint32_t seed)
{
    return crc32c(crc32c(seed, p, 12), p + 16, 8);
}

void wal_segment_put_frame(uint8_t out[WAL_FRAME_BYTES], uint32_t seed, const struct wal_frame *f)
{
    put_le32(out, FRAME_MAGIC);
    put_le32(out + 4, f->records);
    put_le32(out + 8, f->bytes);
    put_le64(out + 16, f->synced_lsn);
    put_le32(out + 12, frame_crc(out, seed));
}

enum err wal_segment_get_frame(const uint8_t in[WAL_FRAME_BYTES], uint32_t seed, struct wal_frame *f)
{
    *f = (struct wal_frame){0};
    if (get_le32(in) != FRAME_MAGIC || frame_crc(in, seed) != get_le32(in + 12))
        return ERR_CORRUPT;
    uint32_t records = get_le32(in + 4), bytes = get_le32(in + 8);
    if (records == 0 || bytes % 8 || bytes / RECORD_MIN_BYTES < records)
        return ERR_CORRUPT;
    *f = (struct wal_frame){.records = records, .bytes = bytes, .synced_lsn = get_le64(in + 16)};
    return ERR_OK;
}

void wal_segment_put_footer(uint8_t out[WAL_FOOTER_BYTES], uint32_t seed, const struct wal_footer *f)
{
    put_le32(out, FOOTER_MAGIC);
    put_le32(out + 4, f->records);
    put_le64(out + 8, f->last_lsn);
    memcpy(out + 16, f->chain, RECORD_CHAIN_BYTES);
    put_le32(out + 48, 0);
    put_le32(out + 52, crc32c(seed, out, 52));
}

enum err wal_segment_get_footer(const uint8_t in[WAL_FOOTER_BYTES], uint32_t seed, struct wal_footer *f)
{
    *f = (struct wal_footer){0};
    if (get_le32(in) != FOOTER_MAGIC || get_le32(in + 48) != 0 || crc32c(seed, in, 52) != get_le32(in + 52))
        return ERR_CORRUPT;
    f->records = get_le32(in + 4);
    f->last_lsn = get_le64(in + 8);
    memcpy(f->chain, in + 16, RECORD_CHAIN_BYTES);
    return ERR_OK;
}

void wal_segment_name(char out[WAL_NAME_BYTES], uint64_t first_lsn)
{
    snprintf(out, WAL_NAME_BYTES, "%020" PRIu64 ".wbl", first_lsn);
}

int wal_segment_parse_name(const char *name, uint64_t *first_lsn)
{
    char again[WAL_NAME_BYTES];
    uint64_t lsn = 0;

    *first_lsn = 0;
    for (int i = 0; i < 20; i++) {
        if (name[i] < '0' || name[i] > '9')
            return 0;
        lsn = lsn * 10 + (uint64_t)(name[i] - '0');
    }
    wal_segment_name(again, lsn); /* one that overflowed, or goes on differently, is not what it began as */
    if (lsn == 0 || strcmp(name, again) != 0)
        return 0;
    *first_lsn = lsn;
    return 1;
}

void wal_window_init(struct wal_window *win, int fd)
{
    *win = (struct wal_window){.fd = fd, .ahead_bytes = WINDOW_BYTES};
}

void wal_window_fini(struct wal_window *win)
{
    mem_free(win->mem);
    *win = (struct wal_window){.fd = -1};
}

static enum err window_grow(struct wal_window *win, size_t cap)
{
    uint8_t *mem = mem_alloc(cap);
    if (!mem)
        return ERR_OOM;
    mem_free(win->mem);
    win->mem = mem;
    win->cap = cap;
    win->n = 0;
    return ERR_OK;
}

enum err wal_window_get(struct wal_window *win, uint64_t off, size_t n, uint64_t limit, const uint8_t **p)
{
    *p = NULL;
    if (off > limit || n > limit - off)
        return ERR_END;
    if (off < win->off || off - win->off > win->n || win->n - (size_t)(off - win->off) < n) {
        int reads_on = win->n && off >= win->off && off - win->off <= win->n;
        size_t cap = reads_on ? win->ahead_bytes : WINDOW_FIRST_BYTES;
        if (win->cap < cap || win->cap < n) {
            enum err e = window_grow(win, n > cap ? n : cap);
            if (e)
                return e;
        }
        win->off = off;
        win->n = 0;
        size_t want = limit - off < win->cap ? (size_t)(limit - off) : win->cap;
        enum err e = file_pread(win->fd, win->mem, want, off, &win->n);
        if (e) {
            win->n = 0;
            return e;
        }
        if (win->pace && (e = win->pace(win->pace_arg, win->n)) != ERR_OK)
            return e;
        if (win->n < n)
            return ERR_END;
    }
    *p = win->mem + (off - win->off);
    return ERR_OK;
}

enum err wal_window_record(struct wal_window *win, uint64_t off, uint64_t limit, uint64_t lsn,
                           const uint8_t prev_chain[RECORD_CHAIN_BYTES], struct record *r, struct bytes *raw)
{
    const uint8_t *p;
    size_t size = 0, used;

    *r = (struct record){0};
    *raw = bytes_of(NULL, 0);
    enum err e = wal_window_get(win, off, RECORD_MIN_BYTES, limit, &p);
    if (!e) {
        size = get_le32(p);
        if (size < RECORD_MIN_BYTES || size > RECORD_MAX_BYTES)
            return ERR_CORRUPT;
        e = wal_window_get(win, off, size, limit, &p);
    }
    if (e)
        return e == ERR_END ? ERR_CORRUPT : e;
    if (record_get(bytes_of(p, size), r, &used) != ERR_OK || r->lsn != lsn ||
        !record_chains(bytes_of(p, used), prev_chain))
        return ERR_CORRUPT;
    *raw = bytes_of(p, used);
    return ERR_OK;
}
