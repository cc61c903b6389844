/* snapwrite.c - see snapwrite.h.
 *
 * add: the entry goes into the block in memory; a block that is full is hashed, gets its row in the index and is
 * written. Every few MiB the file is synced, so that the sync at the end is a short one and the disk's queue never
 * holds a snapshot's worth of writes in front of the log's.
 *
 * finish, in this order, so that a file under its final name has been on the disk as a whole, and been read from there:
 *
 *     last block, fdatasync, page cache dropped
 *     every block read and compared with its row in the index; its keys go into the filter
 *     index, filter, footer written, fdatasync, page cache dropped
 *     both ends of the file read and compared
 *     rename, sync of the directory
 *
 * Failures: the first one is kept and answered from then on; the file is removed. When only the sync of the directory
 * failed the file is there and whole, but a power loss may take it away again.
 *
 * Without a directory nothing of this happens: entries are counted and summed, to learn the digest of a state that
 * nobody wants a file of (asof.h).
 *
 * Rejected: a filter sized by an estimate of the entries (the same state would give other bytes); O_DIRECT (alignment
 * of everything, for a page cache that DONTNEED keeps clean as well); sync_file_range (it swallows the error that a
 * later fdatasync would have reported).
 */
#include "engine/snapwrite.h"

#include <assert.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "engine/snapio.h"

#define SYNC_EVERY_BYTES (4u << 20)
#define TMP_SUFFIX ".tmp"

struct snapwrite {
    struct snapwrite_config cfg;
    char path[PATH_MAX], tmp[PATH_MAX];
    int fd;
    enum err err; /* the first failure */
    uint64_t off, unsynced_bytes, entries, blocks;
    uint32_t in_block; /* entries */
    uint8_t header_hash[SNAPFILE_HASH_BYTES], digest[SNAPFILE_HASH_BYTES];
    struct buf block, first_key, last_key; /* first_key: of the block */
    struct buf index;
};

static void release(struct snapwrite *w)
{
    if (!w)
        return;
    (void)!file_close(w->fd); /* nothing depends on it: success was judged by the syncs */
    buf_fini(&w->block);
    buf_fini(&w->first_key);
    buf_fini(&w->last_key);
    buf_fini(&w->index);
    mem_free(w);
}

void snapwrite_abandon(struct snapwrite *w)
{
    if (w && w->fd >= 0)
        (void)!file_unlink(w->tmp); /* what stays is removed by snapwrite_clean */
    release(w);
}

static enum err make_paths(struct snapwrite *w)
{
    char name[SNAPFILE_NAME_BYTES];
    snapfile_name(name, w->cfg.header.lsn, w->cfg.header.term);
    int n = snprintf(w->path, sizeof w->path, "%s/%s", w->cfg.dir, name);
    int m = snprintf(w->tmp, sizeof w->tmp, "%s/%s" TMP_SUFFIX, w->cfg.dir, name);
    return n > 0 && m > n && (size_t)m < sizeof w->tmp ? ERR_OK : ERR_IO;
}

static enum err put(struct snapwrite *w, const void *p, size_t n)
{
    enum err e = file_pwrite(w->fd, p, n, w->off);
    if (!e) {
        w->off += n;
        w->unsynced_bytes += n;
    }
    return e;
}

static enum err begin(struct snapwrite *w)
{
    uint8_t header[SNAPFILE_HEADER_BYTES];
    enum err e = make_paths(w);
    if (!e)
        e = file_unlink(w->tmp);
    if (e == ERR_NOTFOUND)
        e = ERR_OK;
    if (!e)
        e = file_open(w->tmp, O_RDWR | O_CREAT | O_EXCL, 0600, &w->fd);
    if (e)
        return e;
    snapfile_put_header(header, &w->cfg.header);
    sha256_of(header, sizeof header, w->header_hash);
    return put(w, header, sizeof header);
}

enum err snapwrite_open(struct snapwrite **out, const struct snapwrite_config *cfg)
{
    *out = NULL;
    struct snapwrite *w = mem_zalloc(sizeof *w);
    if (!w)
        return ERR_OOM;
    w->cfg = *cfg;
    w->fd = -1;
    buf_init(&w->block, SNAPFILE_BLOCK_BYTES + 2 * RECORD_MAX_BYTES);
    buf_init(&w->first_key, UINT16_MAX);
    buf_init(&w->last_key, UINT16_MAX);
    buf_init(&w->index, SIZE_MAX / 2);
    enum err e = cfg->dir ? begin(w) : ERR_OK;
    if (e)
        snapwrite_abandon(w);
    else
        *out = w;
    return e;
}

enum err snapwrite_failure(const struct snapwrite *w)
{
    return w->err;
}

uint8_t *snapwrite_digest(struct snapwrite *w)
{
    return w->digest;
}

/* ---- blocks ---- */

static enum err sync_and_forget(struct snapwrite *w)
{
    enum err e = file_fdatasync(w->fd);
    if (!e) {
        w->unsynced_bytes = 0;
        (void)posix_fadvise(w->fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: after the sync nothing holds a page back */
    }
    return e;
}

static enum err pace(struct snapwrite *w, uint64_t bytes)
{
    return w->cfg.pace ? w->cfg.pace(w->cfg.pace_arg, bytes) : ERR_OK;
}

static enum err close_block(struct snapwrite *w)
{
    struct snapfile_block b = {.off = w->off, .entries = w->in_block, .first_key = buf_bytes(&w->first_key)};
    enum err e = buf_put_le32(&w->block, crc32c(0, buf_data(&w->block), buf_size(&w->block)));
    if (e)
        return e;
    b.bytes = (uint32_t)buf_size(&w->block);
    sha256_of(buf_data(&w->block), b.bytes, b.hash);
    e = snapfile_put_index(&w->index, &b);
    if (!e)
        e = put(w, buf_data(&w->block), b.bytes);
    if (!e && w->unsynced_bytes >= SYNC_EVERY_BYTES)
        e = sync_and_forget(w);
    if (e)
        return e;
    w->blocks++;
    w->entries += w->in_block;
    w->in_block = 0;
    buf_clear(&w->block);
    return pace(w, b.bytes);
}

static enum err remember_key(struct buf *to, struct bytes key)
{
    buf_clear(to);
    return buf_put(to, key.p, key.n);
}

static enum err add(struct snapwrite *w, const struct snapfile_entry *e)
{
    if (e->key.n > UINT16_MAX || e->value.n > RECORD_MAX_BYTES)
        return ERR_TOOBIG;
    struct bytes last = buf_bytes(&w->last_key);
    assert(e->key.n && bytes_compare(last, e->key) < 0);
    if (!w->cfg.dir) {
        w->entries++;
        enum err paced = pace(w, e->value.n);
        return paced ? paced : remember_key(&w->last_key, e->key);
    }
    enum err err = snapfile_put_entry(&w->block, w->in_block ? last : bytes_of(NULL, 0), e);
    if (!err && !w->in_block)
        err = remember_key(&w->first_key, e->key);
    if (!err)
        err = remember_key(&w->last_key, e->key);
    if (err)
        return err;
    w->in_block++;
    return buf_size(&w->block) >= SNAPFILE_BLOCK_BYTES ? close_block(w) : ERR_OK;
}

enum err snapwrite_add_known(struct snapwrite *w, const struct snapfile_entry *e)
{
    if (!w->err)
        w->err = add(w, e);
    return w->err;
}

enum err snapwrite_add(struct snapwrite *w, const struct snapfile_entry *e)
{
    snapfile_digest_add(w->digest, e);
    return snapwrite_add_known(w, e);
}

/* ---- finish ---- */

struct filter {
    uint8_t *bits;
    uint64_t bytes;
};

static enum err filter_block(struct filter *f, struct bytes in, struct buf *key)
{
    struct snapfile_entry entry;
    enum err e;
    buf_clear(key);
    while ((e = snapfile_get_entry(&in, key, &entry)) == ERR_OK)
        snapfile_filter_add(f->bits, f->bytes, entry.key);
    return e == ERR_END ? ERR_OK : e;
}

static enum err read_back_block(struct snapwrite *w, const struct snapfile_block *b, struct filter *f, struct buf *key)
{
    struct bytes in;
    uint8_t *mem = mem_alloc(b->bytes);
    if (!mem)
        return ERR_OOM;
    enum err e = snapio_read(w->fd, mem, b->bytes, b->off);
    if (!e)
        e = snapio_check_block(b, mem, 1, &in);
    if (!e)
        e = filter_block(f, in, key);
    mem_free(mem);
    return e ? e : pace(w, b->bytes);
}

/* What differs from what was written is a disk that fails: ERR_IO, the snapshots before it are as they were. */
static enum err read_back(struct snapwrite *w, struct filter *f)
{
    struct bytes index = buf_bytes(&w->index);
    struct snapfile_block b;
    struct buf key;
    enum err e = ERR_OK;

    buf_init(&key, UINT16_MAX);
    while (!e && (e = snapfile_get_index(&index, &b)) == ERR_OK)
        e = read_back_block(w, &b, f, &key);
    buf_fini(&key);
    return e == ERR_END ? ERR_OK : e == ERR_CORRUPT ? ERR_IO : e;
}

static enum err put_tail(struct snapwrite *w, const struct filter *f, struct snapfile_footer *footer)
{
    uint8_t raw[SNAPFILE_FOOTER_BYTES];
    *footer = (struct snapfile_footer){.index_off = w->off,
                                       .index_bytes = buf_size(&w->index),
                                       .filter_off = w->off + buf_size(&w->index),
                                       .filter_bytes = f->bytes,
                                       .blocks = w->blocks,
                                       .entries = w->entries};
    memcpy(footer->header_hash, w->header_hash, SNAPFILE_HASH_BYTES);
    sha256_of(buf_data(&w->index), buf_size(&w->index), footer->index_hash);
    sha256_of(f->bits, f->bytes, footer->filter_hash);
    memcpy(footer->digest, w->digest, SNAPFILE_HASH_BYTES);
    snapfile_put_footer(raw, footer);
    enum err e = w->cfg.sign.sign(w->cfg.sign.arg, bytes_of(raw, SNAPFILE_FOOTER_SIGNED_BYTES), footer->hmac);
    if (e)
        return e;
    snapfile_put_footer(raw, footer);
    e = put(w, buf_data(&w->index), buf_size(&w->index));
    if (!e)
        e = put(w, f->bits, f->bytes);
    if (!e)
        e = put(w, raw, sizeof raw);
    return e ? e : sync_and_forget(w);
}

static enum err check_ends(struct snapwrite *w, const struct snapfile_footer *footer)
{
    struct snapio_tail t;
    const char *why;
    enum err e = snapio_read_ends(w->fd, &t, &why);
    if (!e && memcmp(&t.footer, footer, sizeof *footer) != 0)
        e = ERR_CORRUPT;
    if (!e)
        e = snapio_read_index(w->fd, &t, &why);
    snapio_tail_fini(&t);
    return e == ERR_CORRUPT ? ERR_IO : e;
}

static enum err blocks_to_file(struct snapwrite *w, struct snapfile_footer *footer)
{
    enum err e = w->err;
    if (!e && w->in_block)
        e = close_block(w);
    if (!e)
        e = sync_and_forget(w);
    if (e)
        return e;
    struct filter f = {.bytes = snapfile_filter_bytes(w->entries)};
    f.bits = mem_zalloc((size_t)f.bytes);
    e = f.bits ? read_back(w, &f) : ERR_OOM;
    if (!e)
        e = put_tail(w, &f, footer);
    mem_free(f.bits);
    return e ? e : check_ends(w, footer);
}

static enum err give_name(struct snapwrite *w)
{
    enum err e = file_rename(w->tmp, w->path);
    return e ? e : file_sync_dir(w->cfg.dir);
}

enum err snapwrite_finish(struct snapwrite *w, struct snapwrite_result *out)
{
    struct snapfile_footer footer;
    memset(out, 0, sizeof *out);
    memset(&footer, 0, sizeof footer);
    enum err e = w->cfg.dir ? blocks_to_file(w, &footer) : w->err;
    if (!e && w->cfg.dir)
        e = give_name(w);
    if (e) {
        snapwrite_abandon(w);
        return e;
    }
    *out = (struct snapwrite_result){.bytes = w->off, .entries = w->entries, .blocks = w->blocks};
    memcpy(out->digest, w->digest, SNAPFILE_HASH_BYTES);
    memcpy(out->content, footer.index_hash, SNAPFILE_HASH_BYTES);
    release(w);
    return ERR_OK;
}

/* ---- litter ---- */

static int is_half_made(const char *name)
{
    char whole[SNAPFILE_NAME_BYTES];
    size_t n = strlen(name), suffix = strlen(TMP_SUFFIX);
    uint64_t lsn;
    uint32_t term;
    if (n <= suffix || n - suffix >= sizeof whole || strcmp(name + n - suffix, TMP_SUFFIX) != 0)
        return 0;
    memcpy(whole, name, n - suffix);
    whole[n - suffix] = '\0';
    return snapfile_parse_name(whole, &lsn, &term);
}

enum err snapwrite_clean(const char *dir)
{
    char **names, path[PATH_MAX];
    size_t count;
    enum err e = file_list(dir, &names, &count);
    for (size_t i = 0; i < count && !e; i++) {
        if (!is_half_made(names[i]))
            continue;
        int n = snprintf(path, sizeof path, "%s/%s", dir, names[i]);
        e = n > 0 && (size_t)n < sizeof path ? file_unlink(path) : ERR_IO;
    }
    file_free_names(names, count);
    return e;
}
