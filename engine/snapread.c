/* snapread.c - see snapread.h.
 *
 * open: both ends of the file, the HMAC over the footer, index and filter (snapio.h). From then on the index is
 * trusted: every hash in it hangs on the HMAC.
 *
 * A block that was hashed once is marked in a bitmap and afterwards only held against its CRC: what the hash was to
 * find, a file that somebody changed, cannot come about any more without the CRC or the disk telling. A scrub that
 * finds a block bad takes the mark away.
 *
 * An iterator that runs on reads up to READ_AHEAD_BYTES of blocks at once, and judges each when it comes to it: damage
 * is told where it is, not a window before.
 *
 * Rejected: mapping the file (a bad sector is a SIGBUS instead of an error for one block); a cache of blocks (the hot
 * table is in front of this, and the page cache behind).
 */
#include "engine/snapread.h"

#include <fcntl.h>
#include <stdatomic.h>
#include <stdio.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/snapio.h"

#define READ_AHEAD_BYTES (256u << 10)
#define KEY_MAX UINT16_MAX /* with the store */

struct snapread {
    _Atomic unsigned refs;
    int fd;
    struct snapio_tail tail;
    _Atomic uint64_t *verified; /* a bit a block */
    _Atomic uint64_t blocks_verified;
};

/* ---- open ---- */

static enum err check_signature(const struct snapio_tail *t, const struct snap_signer *check, const char **why)
{
    uint8_t hmac[SNAPFILE_HASH_BYTES];
    enum err e = check->sign(check->arg, bytes_of(t->signed_bytes, sizeof t->signed_bytes), hmac);
    if (e) {
        *why = "the HSM did not make the HMAC to compare with";
        return e;
    }
    if (mem_equal_ct(hmac, t->footer.hmac, sizeof hmac))
        return ERR_OK;
    *why = "the HMAC is not this realm's";
    return ERR_CORRUPT;
}

static enum err open_file(struct snapread *r, const char *path, const uint8_t cell_id[16],
                          const struct snap_signer *check, const char **why)
{
    enum err e = file_open(path, O_RDONLY, 0, &r->fd);
    if (!e)
        e = snapio_read_ends(r->fd, &r->tail, why);
    if (!e && cell_id && memcmp(cell_id, r->tail.header.cell_id, 16) != 0) {
        *why = "of another cell";
        e = ERR_CORRUPT;
    }
    if (!e)
        e = check_signature(&r->tail, check, why);
    if (!e)
        e = snapio_read_index(r->fd, &r->tail, why);
    if (e)
        return e;
    r->verified = mem_zalloc((size_t)(r->tail.footer.blocks / 64 + 1) * sizeof *r->verified);
    return r->verified ? ERR_OK : ERR_OOM;
}

enum err snapread_open(struct snapread **out, const char *path, const uint8_t cell_id[16],
                       const struct snap_signer *check, char *why, size_t why_n)
{
    const char *text = NULL;
    enum err e = ERR_OOM;
    *out = NULL;
    if (why_n)
        why[0] = '\0';
    struct snapread *r = mem_zalloc(sizeof *r);
    if (r) {
        atomic_init(&r->refs, 1);
        r->fd = -1;
        e = open_file(r, path, cell_id, check, &text);
    }
    if (e) {
        snprintf(why, why_n, "%s", text ? text : err_text(e));
        snapread_unref(r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

struct snapread *snapread_ref(struct snapread *r)
{
    atomic_fetch_add_explicit(&r->refs, 1, memory_order_relaxed);
    return r;
}

void snapread_unref(struct snapread *r)
{
    if (!r || atomic_fetch_sub_explicit(&r->refs, 1, memory_order_acq_rel) != 1)
        return;
    (void)!file_close(r->fd); /* only read from */
    snapio_tail_fini(&r->tail);
    mem_free(r->verified);
    mem_free(r);
}

void snapread_info(const struct snapread *r, struct snapread_info *out)
{
    const struct snapfile_footer *f = &r->tail.footer;
    *out = (struct snapread_info){.header = r->tail.header,
                                  .bytes = r->tail.file_bytes,
                                  .entries = f->entries,
                                  .blocks = f->blocks,
                                  .blocks_verified = atomic_load(&r->blocks_verified)};
    memcpy(out->digest, f->digest, sizeof out->digest);
    memcpy(out->content, f->index_hash, sizeof out->content);
}

uint64_t snapread_entries(const struct snapread *r, uint16_t store)
{
    uint64_t n = 0;
    struct snapfile_block b;
    for (uint64_t i = 0; i < r->tail.footer.blocks; i++) {
        snapio_block(&r->tail, i, &b);
        if ((b.first_key.p[0] << 8 | b.first_key.p[1]) == store)
            n += b.entries;
    }
    return n;
}

/* ---- blocks ---- */

static int is_verified(const struct snapread *r, uint64_t i)
{
    return atomic_load_explicit(&r->verified[i / 64], memory_order_relaxed) >> i % 64 & 1;
}

static void mark_verified(struct snapread *r, uint64_t i, int verified)
{
    uint64_t bit = 1ull << i % 64;
    if (verified == is_verified(r, i)) /* most often; a write would cost the other readers a cache line */
        return;
    uint64_t before =
        verified ? atomic_fetch_or(&r->verified[i / 64], bit) : atomic_fetch_and(&r->verified[i / 64], ~bit);
    if (verified && !(before & bit))
        atomic_fetch_add(&r->blocks_verified, 1);
    else if (!verified && before & bit)
        atomic_fetch_sub(&r->blocks_verified, 1);
}

/* mem is what was read for block i. */
static enum err judge_block(struct snapread *r, uint64_t i, const uint8_t *mem, int hash, struct bytes *entries)
{
    struct snapfile_block b;
    snapio_block(&r->tail, i, &b);
    enum err e = snapio_check_block(&b, mem, hash || !is_verified(r, i), entries);
    mark_verified(r, i, e == ERR_OK);
    return e;
}

/* The number of blocks whose first key is at or below key: it is in the last of these, or nowhere. */
static uint64_t blocks_up_to(const struct snapread *r, struct bytes key)
{
    uint64_t low = 0, high = r->tail.footer.blocks;
    struct snapfile_block b;
    while (low < high) {
        uint64_t mid = low + (high - low) / 2;
        snapio_block(&r->tail, mid, &b);
        if (bytes_compare(b.first_key, key) <= 0)
            low = mid + 1;
        else
            high = mid;
    }
    return low;
}

/* A block's entries are in the order of their keys; what is not in front of the first higher one is not there. */
static enum err find_in_block(struct bytes entries, struct bytes key, struct snapfile_entry *entry)
{
    struct buf at;
    enum err e;
    int order = -1;

    buf_init(&at, KEY_MAX);
    while (order < 0 && (e = snapfile_get_entry(&entries, &at, entry)) == ERR_OK)
        order = bytes_compare(entry->key, key);
    buf_fini(&at);
    entry->key = key;
    return order == 0 ? ERR_OK : order > 0 || e == ERR_END ? ERR_NOTFOUND : e;
}

static enum err get(struct snapread *r, struct bytes key, struct blob **out)
{
    const struct snapfile_footer *f = &r->tail.footer;
    struct snapfile_entry entry;
    struct snapfile_block b;
    struct bytes entries;
    uint64_t n;

    if (!snapfile_filter_may_have(r->tail.filter, f->filter_bytes, key) || (n = blocks_up_to(r, key)) == 0)
        return ERR_NOTFOUND;
    snapio_block(&r->tail, n - 1, &b);
    uint8_t *mem = mem_alloc(b.bytes);
    if (!mem)
        return ERR_OOM;
    enum err e = snapio_read(r->fd, mem, b.bytes, b.off);
    if (!e)
        e = judge_block(r, n - 1, mem, 0, &entries);
    if (!e)
        e = find_in_block(entries, key, &entry);
    if (!e && !(*out = blob_new(entry.value, entry.value.n, entry.lsn)))
        e = ERR_OOM;
    mem_free(mem);
    return e;
}

static enum err make_key(struct buf *out, uint16_t store, struct bytes key)
{
    uint8_t prefix[2] = {(uint8_t)(store >> 8), (uint8_t)store};
    enum err e = buf_put(out, prefix, sizeof prefix);
    return e ? e : buf_put(out, key.p, key.n);
}

enum err snapread_get(struct snapread *r, uint16_t store, struct bytes key, struct blob **out)
{
    struct buf full;
    *out = NULL;
    buf_init(&full, KEY_MAX);
    enum err e = make_key(&full, store, key);
    e = e == ERR_TOOBIG ? ERR_NOTFOUND : e ? e : get(r, buf_bytes(&full), out);
    buf_fini(&full);
    return e;
}

/* ---- iterators ---- */

struct snapread_iter {
    struct snapread *r;
    struct buf from; /* what is below it is passed over; empty once it was reached */
    struct buf key;
    struct bytes in;           /* what is left of the block */
    uint64_t next;             /* block to be entered next */
    int has_block, runs_on;    /* in is what is left of block next - 1; the block before next was read */
    uint64_t loaded, loaded_n; /* blocks in mem: the first, and how many */
    uint64_t loaded_off;       /* where in the file mem begins */
    uint8_t *mem;
    size_t cap;
};

/* In the block that it is in, and not there yet: 1. */
static int is_just_ahead(const struct snapread_iter *it, struct bytes key, uint64_t block)
{
    return it->has_block && it->next == block + 1 && buf_size(&it->key) && bytes_compare(buf_bytes(&it->key), key) < 0;
}

enum err snapread_iter_seek(struct snapread_iter *it, uint16_t store, struct bytes from)
{
    struct buf key;
    buf_init(&key, SIZE_MAX / 2);
    enum err e = make_key(&key, store, from);
    if (e) {
        buf_fini(&key);
        return e;
    }
    buf_fini(&it->from);
    it->from = key;
    uint64_t n = blocks_up_to(it->r, buf_bytes(&key)), block = n ? n - 1 : 0;
    if (is_just_ahead(it, buf_bytes(&key), block))
        return ERR_OK;
    it->in = bytes_of(NULL, 0);
    it->has_block = 0;
    it->runs_on = it->runs_on && it->next == block; /* what is read next is not read on from what was read last */
    it->next = block;
    return ERR_OK;
}

enum err snapread_iter_new(struct snapread *r, uint16_t store, struct bytes from, struct snapread_iter **out)
{
    *out = NULL;
    struct snapread_iter *it = mem_zalloc(sizeof *it);
    if (!it)
        return ERR_OOM;
    it->r = snapread_ref(r);
    buf_init(&it->key, KEY_MAX);
    enum err e = snapread_iter_seek(it, store, from);
    if (e)
        snapread_iter_free(it);
    else
        *out = it;
    return e;
}

void snapread_iter_free(struct snapread_iter *it)
{
    if (!it)
        return;
    snapread_unref(it->r);
    buf_fini(&it->from);
    buf_fini(&it->key);
    mem_free(it->mem);
    mem_free(it);
}

static enum err make_room(struct snapread_iter *it, size_t n)
{
    if (n <= it->cap)
        return ERR_OK;
    mem_free(it->mem);
    it->mem = mem_alloc(n);
    it->cap = it->mem ? n : 0;
    return it->mem ? ERR_OK : ERR_OOM;
}

/* How many blocks from it->next on are to be read, and their bytes: one behind a jump, else what READ_AHEAD_BYTES hold,
 * but one at least. */
static uint64_t blocks_ahead(const struct snapread_iter *it, uint64_t *bytes)
{
    struct snapfile_block b;
    uint64_t n = 0;
    for (*bytes = 0; it->next + n < it->r->tail.footer.blocks; n++, *bytes += b.bytes) {
        snapio_block(&it->r->tail, it->next + n, &b);
        if (n && (!it->runs_on || *bytes + b.bytes > READ_AHEAD_BYTES))
            break;
    }
    return n;
}

static enum err load(struct snapread_iter *it)
{
    struct snapfile_block b;
    uint64_t bytes, n = blocks_ahead(it, &bytes);
    snapio_block(&it->r->tail, it->next, &b);

    it->loaded_n = 0;
    enum err e = make_room(it, (size_t)bytes);
    if (!e)
        e = snapio_read(it->r->fd, it->mem, (size_t)bytes, b.off);
    if (n > 1 && (e == ERR_IO || e == ERR_CORRUPT)) { /* of these blocks one cannot be read; which one, shows then */
        n = 1;
        e = snapio_read(it->r->fd, it->mem, b.bytes, b.off);
    }
    if (e)
        return e;
    it->loaded = it->next;
    it->loaded_n = n;
    it->loaded_off = b.off;
    return ERR_OK;
}

static enum err enter_block(struct snapread_iter *it)
{
    struct snapfile_block b;
    enum err e = ERR_OK;

    if (it->next == it->r->tail.footer.blocks)
        return ERR_END;
    if (it->next - it->loaded >= it->loaded_n)
        e = load(it);
    if (e)
        return e;
    snapio_block(&it->r->tail, it->next, &b);
    e = judge_block(it->r, it->next, it->mem + (b.off - it->loaded_off), 0, &it->in);
    if (e) {
        it->loaded_n = 0; /* the next call reads it anew */
        return e;
    }
    buf_clear(&it->key);
    it->next++;
    it->has_block = it->runs_on = 1;
    return ERR_OK;
}

enum err snapread_iter_next(struct snapread_iter *it, struct snapfile_entry *entry)
{
    enum err e;
    do {
        e = snapfile_get_entry(&it->in, &it->key, entry);
        if (e == ERR_END && (e = enter_block(it)) == ERR_OK)
            e = snapfile_get_entry(&it->in, &it->key, entry);
    } while (!e && buf_size(&it->from) && bytes_compare(entry->key, buf_bytes(&it->from)) < 0);
    if (!e)
        buf_clear(&it->from);
    else
        *entry = (struct snapfile_entry){0};
    return e;
}

/* ---- verify ---- */

enum err snapread_verify(struct snapread *r, enum err (*pace)(void *arg, uint64_t bytes), void *arg,
                         uint64_t *bad_block)
{
    struct snapfile_block b;
    struct bytes entries;
    enum err e = ERR_OK;

    *bad_block = 0;
    (void)posix_fadvise(r->fd, 0, 0, POSIX_FADV_DONTNEED); /* advice: the disk is to be looked at, not memory */
    for (uint64_t i = 0; i < r->tail.footer.blocks && !e; i++) {
        snapio_block(&r->tail, i, &b);
        uint8_t *mem = mem_alloc(b.bytes);
        e = mem ? snapio_read(r->fd, mem, b.bytes, b.off) : ERR_OOM;
        if (!e)
            e = judge_block(r, i, mem, 1, &entries);
        mem_free(mem);
        if (e == ERR_CORRUPT || e == ERR_IO)
            *bad_block = i;
        (void)posix_fadvise(r->fd, (off_t)b.off, (off_t)b.bytes, POSIX_FADV_DONTNEED); /* nobody else wanted it now */
        if (!e && pace)
            e = pace(arg, b.bytes);
    }
    return e;
}
