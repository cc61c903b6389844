/* tablecheck.c - see tablecheck.h.
 *
 * A table (LevelDB's doc/table_format.md), all integers little-endian:
 *
 *     data blocks, filter block, index of the filters, index of the data blocks, footer
 *
 *     block    its bytes, then u8 compression (0: none), u32 masked crc32c of both
 *     entry    in an index: varint32 bytes shared with the key before, varint32 further bytes, varint32 bytes of value,
 *              key, value; the value is a handle: varint64 offset, varint64 bytes without the 5 behind them
 *     index    entries, then u32 offset of each restart, then u32 number of restarts
 *     footer   48 bytes: handle of the filters' index, handle of the data's index, zeros, u64 magic
 *
 * The footer says where both indexes are, these say where everything else is; then all blocks are read once more in the
 * order of the file.
 *
 * Rejected: walking the store with an iterator (it goes through the page cache, where it may find what the disk does
 * not have any more, and for as long as it lives no file is deleted); looking at the names in the directory (a table
 * that a compaction is still writing has its name already).
 */
#include "engine/tablecheck.h"

#include <fcntl.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/bytes.h"
#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/varint.h"
#include "engine/storecheck.h"

#define FOOTER_BYTES 48
#define TRAILER_BYTES 5
#define MAGIC 0xdb4775248b80fb57u
#define READ_BYTES (256u << 10)
#define BLOCK_MAX_BYTES (64u << 20) /* an index of a table of GiBs */

/* ---- which there are ---- */

static int by_number(const void *a, const void *b)
{
    const struct tablecheck_table *x = a, *y = b;
    return (x->number > y->number) - (x->number < y->number);
}

/* LevelDB's text: a line for each, " number:bytes['first key' ... ]", keys with nothing unprintable in them. */
enum err tablecheck_list(struct store *s, struct tablecheck_table **tables, size_t *count)
{
    struct buf text;
    *tables = NULL;
    *count = 0;
    buf_init(&text, SIZE_MAX / 2);
    enum err e = store_property(s, "leveldb.sstables", &text);
    if (!e)
        e = buf_put_u8(&text, 0);
    size_t lines = 1;
    for (const char *p = e ? "" : (const char *)buf_data(&text); *p; p++)
        lines += *p == '\n';
    if (!e && !(*tables = mem_alloc(lines * sizeof **tables)))
        e = ERR_OOM;
    for (const char *p = e ? NULL : (const char *)buf_data(&text); p; p = strchr(p, '\n')) {
        unsigned long long number, bytes;
        p += *p == '\n';
        if (sscanf(p, " %llu:%llu[", &number, &bytes) == 2)
            (*tables)[(*count)++] = (struct tablecheck_table){number, bytes};
    }
    if (!e && *count)
        qsort(*tables, *count, sizeof **tables, by_number);
    buf_fini(&text);
    return e;
}

/* ---- a window over the file, past the page cache ---- */

struct table {
    int fd;
    uint64_t bytes;
    uint8_t *mem, *at; /* at: aligned, in mem; holds n bytes of the file from off on */
    size_t cap, n;
    uint64_t off;
    enum err (*pace)(void *arg, uint64_t bytes);
    void *pace_arg;
};

struct handle {
    uint64_t off, bytes;
};

static uint64_t down(uint64_t off)
{
    return off / FILE_DIRECT_BYTES * FILE_DIRECT_BYTES;
}

static enum err make_room(struct table *t, size_t n)
{
    if (n <= t->cap)
        return ERR_OK;
    mem_free(t->mem);
    t->n = t->cap = 0;
    t->mem = mem_alloc(n + FILE_DIRECT_BYTES);
    if (!t->mem)
        return ERR_OOM;
    t->at = t->mem + (FILE_DIRECT_BYTES - (uintptr_t)t->mem % FILE_DIRECT_BYTES) % FILE_DIRECT_BYTES;
    t->cap = n;
    return ERR_OK;
}

/* n bytes at off, until the next call. ERR_CORRUPT: the file ends before. */
static enum err get(struct table *t, uint64_t off, size_t n, const uint8_t **p)
{
    if (off >= t->off && off + n <= t->off + t->n) {
        *p = t->at + (off - t->off);
        return ERR_OK;
    }
    uint64_t from = down(off), to = down(off + n + FILE_DIRECT_BYTES - 1);
    if (to < from + READ_BYTES)
        to = from + READ_BYTES;
    enum err e = make_room(t, (size_t)(to - from));
    t->off = from;
    t->n = 0;
    if (!e)
        e = file_pread_direct(t->fd, t->at, (size_t)(to - from), from, &t->n);
    if (!e && t->pace)
        e = t->pace(t->pace_arg, t->n);
    if (!e && off + n > from + t->n)
        e = ERR_CORRUPT;
    *p = t->at + (off - from);
    return e;
}

/* A block whose checksum fits. b lives until the next call. */
static enum err get_block(struct table *t, struct handle h, struct bytes *b)
{
    const uint8_t *p;
    *b = bytes_of(NULL, 0);
    if (h.bytes > BLOCK_MAX_BYTES || h.off > t->bytes || h.bytes + TRAILER_BYTES > t->bytes - h.off)
        return ERR_CORRUPT;
    enum err e = get(t, h.off, (size_t)h.bytes + TRAILER_BYTES, &p);
    if (e)
        return e;
    if (crc32c(0, p, (size_t)h.bytes + 1) != storecheck_unmask(get_le32(p + h.bytes + 1)))
        return ERR_CORRUPT;
    *b = bytes_of(p, (size_t)h.bytes);
    return ERR_OK;
}

/* ---- indexes ---- */

static int get_handle(struct bytes *in, struct handle *h)
{
    return varint_take(in, &h->off) && varint_take(in, &h->bytes);
}

/* The next entry's handle. 0: there is none, *bad when there should be. */
static int next_entry(struct bytes *in, struct handle *h, int *bad)
{
    uint64_t shared, more, n;
    if (!in->n)
        return 0;
    *bad = !varint_take(in, &shared) || !varint_take(in, &more) || !varint_take(in, &n) || more > in->n ||
           n > in->n - more;
    if (*bad)
        return 0;
    struct bytes value = bytes_of(in->p + more, (size_t)n);
    *in = bytes_of(value.p + n, in->n - (size_t)(more + n));
    *bad = !get_handle(&value, h);
    return !*bad;
}

/* The entries of an index block, without what lies behind them. */
static enum err entries_of(struct bytes *b)
{
    if (b->n < 4)
        return ERR_CORRUPT;
    uint64_t restarts = get_le32(b->p + b->n - 4);
    if (4 * restarts > b->n - 4)
        return ERR_CORRUPT;
    b->n -= (size_t)(4 * restarts) + 4;
    return ERR_OK;
}

/* Every block that the index names, one behind the other from *at on; *at is where the last one ends. index is a copy:
 * the window moves on. */
static enum err walk(struct table *t, struct handle index_at, uint64_t *at)
{
    struct bytes b, in, block;
    struct handle h;
    int bad = 0;
    enum err e = get_block(t, index_at, &b);
    if (!e)
        e = entries_of(&b);
    if (e)
        return e;
    uint8_t *copy = mem_alloc(b.n + 1);
    if (!copy)
        return ERR_OOM;
    if (b.n)
        memcpy(copy, b.p, b.n);
    for (in = bytes_of(copy, b.n); !e && next_entry(&in, &h, &bad);) {
        e = h.off == *at ? get_block(t, h, &block) : ERR_CORRUPT;
        *at += h.bytes + TRAILER_BYTES;
    }
    mem_free(copy);
    return e ? e : bad ? ERR_CORRUPT : ERR_OK;
}

static enum err verify(struct table *t)
{
    struct handle filters, data;
    const uint8_t *p;
    uint64_t at = 0;
    if (t->bytes < FOOTER_BYTES)
        return ERR_CORRUPT;
    enum err e = get(t, t->bytes - FOOTER_BYTES, FOOTER_BYTES, &p);
    if (e)
        return e;
    struct bytes footer = bytes_of(p, FOOTER_BYTES - 8);
    if (get_le64(p + FOOTER_BYTES - 8) != MAGIC || !get_handle(&footer, &filters) || !get_handle(&footer, &data))
        return ERR_CORRUPT;
    for (size_t i = 0; i < footer.n; i++)
        if (footer.p[i])
            return ERR_CORRUPT;
    e = walk(t, data, &at);
    if (!e)
        e = walk(t, filters, &at);
    if (e)
        return e;
    int fits = filters.off == at && data.off == filters.off + filters.bytes + TRAILER_BYTES &&
               data.off + data.bytes + TRAILER_BYTES + FOOTER_BYTES == t->bytes;
    return fits ? ERR_OK : ERR_CORRUPT;
}

enum err tablecheck_verify(const struct store *s, const struct tablecheck_table *table,
                           enum err (*pace)(void *arg, uint64_t bytes), void *pace_arg)
{
    char path[STORECHECK_PATH_BYTES];
    struct table t = {.pace = pace, .pace_arg = pace_arg};
    snprintf(path, sizeof path, "%s/%06llu.ldb", store_path(s), (unsigned long long)table->number);
    enum err e = file_open(path, O_RDONLY, 0, &t.fd);
    if (e)
        return e;
    file_set_direct(t.fd, 1);
    e = file_size(t.fd, &t.bytes);
    if (!e && t.bytes != table->bytes)
        e = ERR_CORRUPT;
    if (!e)
        e = verify(&t);
    mem_free(t.mem);
    (void)!file_close(t.fd); /* only read from */
    return e;
}
