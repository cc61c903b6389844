/* box.c - see box.h.
 *
 * Happy path out: whoever uploads asks for a range; the chunk that it begins in is read from the file, sealed and kept,
 * so that the next range, which begins where this one ended, finds it. Two buffers of a chunk, no copy on the disk.
 * Happy path in: pieces are gathered until a chunk is whole; it is opened, and only then written.
 *
 * Failure modes: a chunk that was changed, or comes from another place or box, does not open. A box that was cut ends
 * without its last chunk: one that was made to look like the end (a shorter size in the header) has another key. A
 * header that somebody made up has no data key that the realm would open. A file that was cut on the disk is found by
 * its size; one that was changed on the disk travels as it is, and the reader of what is in the box finds it.
 *
 * Rejected: age, or libsodium's secretstream (another dependency; no place can be computed in the latter); one long GCM
 * message (nothing could be believed before its end, and 64 GiB is its limit); a random nonce for each chunk (an upload
 * that goes on would not have the same bytes); compression (what is sealed does not compress).
 */
#include "hsm/box.h"

#include <fcntl.h>
#include <openssl/err.h>
#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "base/crc32c.h"
#include "base/file.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "hsm/gcm.h"

static const char magic[8] = {'C', 'O', 'F', 'F', 'E', 'R', 'B', 'X'};
static const char label[] = "coffer-box";

enum {
    AT_FORMAT = 8,
    AT_HEADER_BYTES = 12,
    AT_CELL = 16,
    AT_LSN = 32,
    AT_TERM = 40,
    AT_KIND = 44,
    AT_BYTES = 48,
    AT_CONTENT = 56,
    AT_CHUNK_BYTES = 88,
    AT_WRAPPED_BYTES = 92,
    AT_REALM = 96,
    AT_WRAPPED = BOX_CONTEXT_BYTES,
    AT_ZEROS = AT_WRAPPED + BOX_WRAPPED_BYTES,
    AT_CRC = 252
};
_Static_assert(BOX_TAG_BYTES == GCM_TAG_BYTES && BOX_KEY_BYTES == GCM_KEY_BYTES, "of gcm.h");

/* ---- the header ---- */

static int head_valid(const struct box_head *h)
{
    uint32_t c = h->chunk_bytes;

    return h->kind == BOX_SNAPSHOT && h->bytes <= BOX_FILE_BYTES_MAX && c >= BOX_CHUNK_BYTES_MIN &&
           c <= BOX_CHUNK_BYTES_MAX && (c & (c - 1)) == 0;
}

void box_put_context(uint8_t out[BOX_CONTEXT_BYTES], const struct box_head *h)
{
    memcpy(out, magic, sizeof magic);
    put_le32(out + AT_FORMAT, BOX_FORMAT);
    put_le32(out + AT_HEADER_BYTES, BOX_HEADER_BYTES);
    memcpy(out + AT_CELL, h->cell_id, sizeof h->cell_id);
    put_le64(out + AT_LSN, h->lsn);
    put_le32(out + AT_TERM, h->term);
    put_le32(out + AT_KIND, h->kind);
    put_le64(out + AT_BYTES, h->bytes);
    memcpy(out + AT_CONTENT, h->content, sizeof h->content);
    put_le32(out + AT_CHUNK_BYTES, h->chunk_bytes);
    put_le32(out + AT_WRAPPED_BYTES, BOX_WRAPPED_BYTES);
    memcpy(out + AT_REALM, h->realm, sizeof h->realm);
}

void box_put_header(uint8_t out[BOX_HEADER_BYTES], const struct box_head *h)
{
    box_put_context(out, h);
    memcpy(out + AT_WRAPPED, h->wrapped, sizeof h->wrapped);
    memset(out + AT_ZEROS, 0, AT_CRC - AT_ZEROS);
    put_le32(out + AT_CRC, crc32c(0, out, AT_CRC));
}

enum err box_get_header(const uint8_t in[BOX_HEADER_BYTES], struct box_head *h)
{
    static const uint8_t zeros[AT_CRC - AT_ZEROS];

    memset(h, 0, sizeof *h);
    if (!bytes_equal(bytes_of(in, sizeof magic), bytes_of(magic, sizeof magic)) ||
        get_le32(in + AT_CRC) != crc32c(0, in, AT_CRC))
        return ERR_CORRUPT;
    if (get_le32(in + AT_FORMAT) != BOX_FORMAT)
        return ERR_UNSUPPORTED;
    if (get_le32(in + AT_HEADER_BYTES) != BOX_HEADER_BYTES || get_le32(in + AT_WRAPPED_BYTES) != BOX_WRAPPED_BYTES ||
        !bytes_equal(bytes_of(in + AT_ZEROS, sizeof zeros), bytes_of(zeros, sizeof zeros)))
        return ERR_CORRUPT;
    memcpy(h->cell_id, in + AT_CELL, sizeof h->cell_id);
    h->lsn = get_le64(in + AT_LSN);
    h->term = get_le32(in + AT_TERM);
    h->kind = get_le32(in + AT_KIND);
    h->bytes = get_le64(in + AT_BYTES);
    memcpy(h->content, in + AT_CONTENT, sizeof h->content);
    h->chunk_bytes = get_le32(in + AT_CHUNK_BYTES);
    memcpy(h->realm, in + AT_REALM, sizeof h->realm);
    memcpy(h->wrapped, in + AT_WRAPPED, sizeof h->wrapped);
    if (head_valid(h))
        return ERR_OK;
    memset(h, 0, sizeof *h);
    return ERR_CORRUPT;
}

uint64_t box_chunks(const struct box_head *h)
{
    return h->bytes ? (h->bytes + h->chunk_bytes - 1) / h->chunk_bytes : 1;
}

uint64_t box_bytes(const struct box_head *h)
{
    return BOX_HEADER_BYTES + h->bytes + box_chunks(h) * BOX_TAG_BYTES;
}

uint64_t box_chunk_off(const struct box_head *h, uint64_t chunk)
{
    return chunk < box_chunks(h) ? BOX_HEADER_BYTES + chunk * ((uint64_t)h->chunk_bytes + BOX_TAG_BYTES) : box_bytes(h);
}

/* ---- what writer and reader share ---- */

struct box {
    struct box_head head;
    uint8_t header[BOX_HEADER_BYTES];
    struct gcm *gcm;
    uint8_t *plain, *sealed; /* a chunk; a chunk and its tag; NULL in an opener */
    uint64_t chunks;
    int fd;
};

static enum err make_gcm(struct box *b, enum gcm_use use, const uint8_t key[BOX_KEY_BYTES])
{
    uint8_t text[sizeof label - 1 + BOX_HEADER_BYTES], *derived = mem_secret_alloc(BOX_KEY_BYTES);
    unsigned n = 0;
    enum err e;

    if (!derived)
        return ERR_OOM;
    memcpy(text, label, sizeof label - 1);
    memcpy(text + sizeof label - 1, b->header, BOX_HEADER_BYTES);
    e = HMAC(EVP_sha256(), key, BOX_KEY_BYTES, text, sizeof text, derived, &n) ? ERR_OK : ERR_INTERNAL;
    if (e == ERR_OK)
        e = gcm_new(&b->gcm, use, derived);
    else
        ERR_clear_error(); /* the thread's queue is TLS's too */
    mem_secret_free(derived, BOX_KEY_BYTES);
    return e;
}

static enum err box_init(struct box *b, const struct box_head *h, enum gcm_use use, const uint8_t key[BOX_KEY_BYTES])
{
    b->fd = -1;
    if (!head_valid(h))
        return ERR_RANGE;
    b->head = *h;
    b->chunks = box_chunks(h);
    box_put_header(b->header, h);
    return make_gcm(b, use, key);
}

static enum err make_buffers(struct box *b)
{
    b->plain = mem_alloc(b->head.chunk_bytes);
    b->sealed = mem_alloc((size_t)b->head.chunk_bytes + BOX_TAG_BYTES);
    return b->plain && b->sealed ? ERR_OK : ERR_OOM;
}

static enum err box_fini(struct box *b)
{
    enum err e = file_close(b->fd);

    gcm_free(b->gcm);
    mem_free(b->plain);
    mem_free(b->sealed);
    return e;
}

/* Of the file, in this chunk. */
static size_t chunk_bytes(const struct box *b, uint64_t chunk)
{
    return chunk + 1 < b->chunks ? b->head.chunk_bytes : (size_t)(b->head.bytes - chunk * b->head.chunk_bytes);
}

static void chunk_counter(const struct box *b, uint64_t chunk, uint8_t out[8])
{
    put_be64(out, chunk << 8 | (chunk + 1 == b->chunks));
}

static struct bytes header_of(const struct box *b)
{
    return bytes_of(b->header, sizeof b->header);
}

static enum err open_chunk(struct box *b, uint64_t chunk, const uint8_t *sealed, uint8_t *out)
{
    size_t n = chunk_bytes(b, chunk);
    uint8_t counter[8];
    enum err e;

    chunk_counter(b, chunk, counter);
    e = gcm_open(b->gcm, counter, header_of(b), sealed, n, out);
    if (e != ERR_OK)
        mem_wipe(out, n); /* what gcm.h calls rubbish */
    return e;
}

/* ---- writer ---- */

struct box_writer {
    struct box box;
    uint64_t at;  /* the chunk in box.sealed */
    int has;      /* there is one */
    uint64_t all; /* bytes of the box */
};

enum err box_writer_open(struct box_writer **out, const char *path, const struct box_head *h,
                         const uint8_t key[BOX_KEY_BYTES])
{
    struct box_writer *w = mem_zalloc(sizeof *w);
    uint64_t size = 0;
    enum err e;

    *out = NULL;
    if (!w)
        return ERR_OOM;
    e = box_init(&w->box, h, GCM_SEAL, key);
    if (e == ERR_OK)
        e = make_buffers(&w->box);
    if (e == ERR_OK)
        e = file_open(path, O_RDONLY, 0, &w->box.fd);
    if (e == ERR_OK)
        e = file_size(w->box.fd, &size);
    if (e == ERR_OK && size != h->bytes)
        e = ERR_CORRUPT;
    if (e != ERR_OK) {
        box_writer_close(w);
        return e;
    }
    w->all = box_bytes(h);
    *out = w;
    return ERR_OK;
}

void box_writer_close(struct box_writer *w)
{
    if (!w)
        return;
    enum err ignored = box_fini(&w->box); /* it was only read */
    (void)ignored;
    mem_free(w);
}

static enum err seal_chunk(struct box_writer *w, uint64_t chunk)
{
    struct box *b = &w->box;
    size_t n = chunk_bytes(b, chunk), got = 0;
    uint8_t counter[8];
    enum err e;

    if (w->has && w->at == chunk)
        return ERR_OK;
    w->has = 0;
    e = file_pread(b->fd, b->plain, n, chunk * b->head.chunk_bytes, &got);
    if (e == ERR_OK && got != n)
        e = ERR_CORRUPT;
    chunk_counter(b, chunk, counter);
    if (e == ERR_OK)
        e = gcm_seal(b->gcm, counter, header_of(b), b->plain, n, b->sealed);
    w->has = e == ERR_OK;
    w->at = chunk;
    return e;
}

/* What lies at off, up to the end of the header or of the chunk there. */
static enum err piece_at(struct box_writer *w, uint64_t off, struct bytes *out)
{
    size_t stride = (size_t)w->box.head.chunk_bytes + BOX_TAG_BYTES;
    uint64_t chunk;
    size_t at;
    enum err e;

    if (off < BOX_HEADER_BYTES) {
        *out = bytes_of(w->box.header + off, BOX_HEADER_BYTES - (size_t)off);
        return ERR_OK;
    }
    chunk = (off - BOX_HEADER_BYTES) / stride;
    at = (off - BOX_HEADER_BYTES) % stride;
    e = seal_chunk(w, chunk);
    *out = e == ERR_OK ? bytes_of(w->box.sealed + at, chunk_bytes(&w->box, chunk) + BOX_TAG_BYTES - at)
                       : bytes_of(NULL, 0);
    return e;
}

enum err box_writer_read(void *writer, uint64_t off, void *p, size_t n)
{
    struct box_writer *w = writer;
    uint8_t *to = p;

    if (off > w->all || n > w->all - off)
        return ERR_RANGE;
    while (n) {
        struct bytes piece;
        enum err e = piece_at(w, off, &piece);
        size_t take = piece.n < n ? piece.n : n;

        if (e != ERR_OK)
            return e;
        memcpy(to, piece.p, take);
        to += take;
        off += take;
        n -= take;
    }
    return ERR_OK;
}

enum err box_writer_hash(struct box_writer *w, uint8_t out[BOX_HASH_BYTES])
{
    struct sha256 s;

    memset(out, 0, BOX_HASH_BYTES);
    sha256_init(&s);
    for (uint64_t off = 0; off < w->all;) {
        struct bytes piece;
        enum err e = piece_at(w, off, &piece);

        if (e != ERR_OK)
            return e;
        sha256_add(&s, piece.p, piece.n);
        off += piece.n;
    }
    sha256_end(&s, out);
    return ERR_OK;
}

/* ---- opener ---- */

struct box_opener {
    struct box box;
};

enum err box_opener_new(struct box_opener **out, const struct box_head *h, const uint8_t key[BOX_KEY_BYTES])
{
    struct box_opener *o = mem_zalloc(sizeof *o);
    enum err e;

    *out = NULL;
    if (!o)
        return ERR_OOM;
    e = box_init(&o->box, h, GCM_OPEN, key);
    if (e != ERR_OK) {
        box_opener_free(o);
        return e;
    }
    *out = o;
    return ERR_OK;
}

void box_opener_free(struct box_opener *o)
{
    if (!o)
        return;
    enum err ignored = box_fini(&o->box); /* it has no file */
    (void)ignored;
    mem_free(o);
}

enum err box_opener_open(struct box_opener *o, uint64_t chunk, struct bytes sealed, uint8_t *out)
{
    if (chunk >= o->box.chunks)
        return ERR_RANGE;
    if (sealed.n != chunk_bytes(&o->box, chunk) + BOX_TAG_BYTES)
        return ERR_CORRUPT;
    return open_chunk(&o->box, chunk, sealed.p, out);
}

/* ---- reader ---- */

struct box_reader {
    struct box box;
    uint64_t next; /* the chunk that is coming */
    size_t have;   /* bytes of it, tag included, in box.sealed */
    enum err err;  /* of the first failure */
};

static enum err open_target(struct box_reader *r, const char *path)
{
    uint64_t keep = r->next * r->box.head.chunk_bytes, size = 0;
    enum err e = ERR_OK;

    if (keep > r->box.head.bytes)
        keep = r->box.head.bytes;
    e = file_open(path, O_WRONLY | O_CREAT | O_NOFOLLOW, 0600, &r->box.fd);
    if (e == ERR_OK)
        e = file_size(r->box.fd, &size);
    if (e == ERR_OK && size < keep)
        e = ERR_RANGE;
    return e == ERR_OK ? file_truncate(r->box.fd, keep) : e;
}

enum err box_reader_open(struct box_reader **out, const char *path, const struct box_head *h,
                         const uint8_t key[BOX_KEY_BYTES], uint64_t chunk)
{
    struct box_reader *r = mem_zalloc(sizeof *r);
    enum err e;

    *out = NULL;
    if (!r)
        return ERR_OOM;
    e = box_init(&r->box, h, GCM_OPEN, key);
    if (e == ERR_OK)
        e = make_buffers(&r->box);
    if (e == ERR_OK && chunk > r->box.chunks)
        e = ERR_RANGE;
    r->next = chunk;
    if (e == ERR_OK)
        e = open_target(r, path);
    if (e != ERR_OK) {
        box_reader_abandon(r);
        return e;
    }
    *out = r;
    return ERR_OK;
}

/* A whole chunk: opened, written. */
static enum err take_chunk(struct box_reader *r)
{
    struct box *b = &r->box;
    enum err e = open_chunk(b, r->next, b->sealed, b->plain);

    if (e == ERR_OK)
        e = file_pwrite(b->fd, b->plain, chunk_bytes(b, r->next), r->next * b->head.chunk_bytes);
    if (e != ERR_OK)
        return e;
    r->next++;
    r->have = 0;
    return ERR_OK;
}

static enum err take_piece(struct box_reader *r, struct bytes *in)
{
    size_t whole, take;
    struct bytes piece;

    if (r->next == r->box.chunks)
        return ERR_CORRUPT; /* bytes behind the end */
    whole = chunk_bytes(&r->box, r->next) + BOX_TAG_BYTES;
    take = whole - r->have < in->n ? whole - r->have : in->n;
    if (bytes_take(in, take, &piece))
        memcpy(r->box.sealed + r->have, piece.p, take);
    r->have += take;
    return r->have == whole ? take_chunk(r) : ERR_OK;
}

enum err box_reader_write(void *reader, uint64_t off, const void *p, size_t n)
{
    struct box_reader *r = reader;
    struct bytes in = bytes_of(p, n);

    if (r->err == ERR_OK && off != box_chunk_off(&r->box.head, r->next) + r->have)
        r->err = ERR_RANGE;
    while (r->err == ERR_OK && in.n)
        r->err = take_piece(r, &in);
    return r->err;
}

uint64_t box_reader_restart(struct box_reader *r)
{
    if (r->err == ERR_CORRUPT || r->err == ERR_RANGE)
        r->err = ERR_OK;
    r->have = 0;
    return box_chunk_off(&r->box.head, r->next);
}

uint64_t box_reader_chunks(const struct box_reader *r)
{
    return r->next;
}

enum err box_reader_sync(struct box_reader *r)
{
    if (r->err == ERR_OK)
        r->err = file_fdatasync(r->box.fd);
    return r->err;
}

enum err box_reader_finish(struct box_reader *r)
{
    enum err e = r->err, closed;

    if (e == ERR_OK && r->next != r->box.chunks)
        e = ERR_CORRUPT;
    if (e == ERR_OK)
        e = file_fdatasync(r->box.fd);
    closed = box_fini(&r->box);
    mem_free(r);
    return e == ERR_OK ? closed : e;
}

void box_reader_abandon(struct box_reader *r)
{
    if (!r)
        return;
    enum err ignored = box_fini(&r->box); /* whoever abandons it does not count on the file */
    (void)ignored;
    mem_free(r);
}
