/* bucket.c - see bucket.h.
 *
 * A listing gives manifest and container of one snapshot apart, and not always one behind the other (a node's name may
 * have dots in it): they are put together after sorting.
 *
 * A download writes into dir/restore as box_reader does, chunk by chunk; how far an earlier one came is the file's
 * length. The chunks that are there already were verified when they were written, by this process or one before. After
 * a power loss they may be anything: then the snapshot in them does not verify, and the download begins anew, once.
 */
#include "server/bucket.h"

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/file.h"
#include "base/mem.h"
#include "engine/room.h"

#define LISTED_MAX 1000000 /* objects */
#define PATH_BYTES 4096

enum err bucket_fail(struct bucket *b, enum err e, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(b->text, sizeof b->text, fmt, ap);
    va_end(ap);
    b->why = OBJSTORE_FINE;
    return e;
}

static enum err store_failed(struct bucket *b, enum err e, const struct objstore_trouble *t)
{
    bucket_fail(b, e, "%s", t->text);
    b->why = t->why;
    return e;
}

enum err bucket_store_failed(struct bucket *b, enum err e)
{
    return store_failed(b, e, objstore_trouble(b->store));
}

enum err bucket_open(struct bucket *b, const struct bucket_config *cfg, int (*stop)(void *), void *stop_arg)
{
    struct objstore_trouble t = {0};
    *b = (struct bucket){.cfg = cfg, .stop = stop, .stop_arg = stop_arg};
    enum err e = cfg->connect(cfg->arg, stop, stop_arg, &b->store, &t);
    return e ? store_failed(b, e, &t) : ERR_OK;
}

void bucket_close(struct bucket *b)
{
    objstore_close(b->store);
    b->store = NULL;
}

enum err bucket_pace(void *bucket, uint64_t bytes)
{
    struct bucket *b = bucket;
    (void)bytes;
    return b->stop(b->stop_arg) ? ERR_AGAIN : ERR_OK;
}

/* ---- what is there ---- */

struct listing {
    struct bucket_list *out;
    enum err err;
};

static int on_listed(void *arg, const struct objstore_entry *e)
{
    struct listing *l = arg;
    struct bucket_list *out = l->out;
    enum snapobject_kind kind;
    struct snapobject o;

    if (!snapobject_parse(e->key, "", &o, &kind))
        return 0;
    if (out->n == out->room) {
        size_t room = out->room ? 2 * out->room : 64;
        struct bucket_entry *at = mem_realloc(out->at, room * sizeof *at);
        if (!at) {
            l->err = ERR_OOM;
            return 1;
        }
        out->at = at;
        out->room = room;
    }
    out->at[out->n++] = (struct bucket_entry){.object = o,
                                              .manifest = kind == SNAPOBJECT_MANIFEST,
                                              .container = kind == SNAPOBJECT_SNAP,
                                              .modified_ms = e->modified_ms};
    return 0;
}

static int order(uint64_t a, uint64_t b)
{
    return (a > b) - (a < b);
}

static int best_first(const void *x, const void *y)
{
    const struct snapobject *a = &((const struct bucket_entry *)x)->object,
                            *b = &((const struct bucket_entry *)y)->object;
    int c = bytes_compare(bytes_of(a->cell_id, 16), bytes_of(b->cell_id, 16));

    c = c ? c : order(b->term, a->term);
    c = c ? c : order(b->lsn, a->lsn);
    return c ? c : strcmp(a->node, b->node);
}

/* Manifest and container of a snapshot become one entry. */
static void join(struct bucket_list *l)
{
    size_t n = 0;
    for (size_t i = 0; i < l->n; i++) {
        struct bucket_entry *e = &l->at[i], *last = n ? &l->at[n - 1] : NULL;
        if (!last || best_first(last, e) != 0) {
            l->at[n++] = *e;
            continue;
        }
        last->manifest |= e->manifest;
        last->container |= e->container;
        last->modified_ms = e->modified_ms > last->modified_ms ? e->modified_ms : last->modified_ms;
    }
    l->n = n;
}

enum err bucket_list(struct bucket *b, const uint8_t cell_id[16], struct bucket_list *out)
{
    struct listing l = {.out = out};
    char begin[SNAPOBJECT_NAME_BYTES] = "";
    enum err e = cell_id ? snapobject_folder(begin, "", cell_id) : ERR_OK;

    out->n = 0;
    if (!e)
        e = objstore_list(b->store, begin, "", LISTED_MAX, on_listed, &l);
    if (e)
        return bucket_store_failed(b, e);
    if (l.err)
        return bucket_fail(b, l.err, "out of memory");
    if (out->n)
        qsort(out->at, out->n, sizeof *out->at, best_first);
    join(out);
    return ERR_OK;
}

void bucket_list_free(struct bucket_list *l)
{
    mem_free(l->at);
    *l = (struct bucket_list){0};
}

/* It parses, but the HSM does not sign it so. */
static enum err not_ours(struct bucket *b, struct bytes text, const char *name)
{
    struct snapmanifest m;

    if (snapmanifest_get(text, &m) == ERR_OK &&
        !bytes_equal(bytes_of(m.realm, 16), bytes_of(b->cfg->realm, sizeof b->cfg->realm)))
        return bucket_fail(b, ERR_CORRUPT, "%s is of another realm than this HSM's token", name);
    return bucket_fail(b, ERR_CORRUPT, "%s does not verify: it was altered, or is another one's", name);
}

enum err bucket_manifest(struct bucket *b, const struct snapobject *o, struct snapmanifest *m)
{
    char name[SNAPOBJECT_NAME_BYTES];
    struct buf text;
    enum err e = snapobject_name(name, "", o, SNAPOBJECT_MANIFEST);

    memset(m, 0, sizeof *m);
    if (e)
        return bucket_fail(b, e, "%s", err_text(e));
    buf_init(&text, SNAPMANIFEST_BYTES_MAX);
    e = objstore_get(b->store, name, SNAPMANIFEST_BYTES_MAX, &text, NULL);
    if (e) {
        bucket_store_failed(b, e);
        e = b->why == OBJSTORE_TOOBIG || b->why == OBJSTORE_DAMAGED ? ERR_CORRUPT : e;
    } else if ((e = snapmanifest_open(buf_bytes(&text), o, &b->cfg->signer, m))) {
        if (e == ERR_CORRUPT)
            not_ours(b, buf_bytes(&text), name);
        else if (e == ERR_UNSUPPORTED)
            e = bucket_fail(b, ERR_CORRUPT, "%s is of a later version", name);
        else
            bucket_fail(b, e, "%s cannot be verified: %s", name, err_text(e));
    }
    buf_fini(&text);
    return e;
}

static enum err remove_one(struct bucket *b, const struct snapobject *o, enum snapobject_kind kind)
{
    char name[SNAPOBJECT_NAME_BYTES];
    enum err e = snapobject_name(name, "", o, kind);

    if (e)
        return bucket_fail(b, e, "%s", err_text(e));
    e = objstore_delete(b->store, name);
    return e ? bucket_store_failed(b, e) : ERR_OK;
}

enum err bucket_remove(struct bucket *b, const struct snapobject *o)
{
    enum err e = remove_one(b, o, SNAPOBJECT_MANIFEST);
    return e ? e : remove_one(b, o, SNAPOBJECT_SNAP);
}

/* ---- one brought back ---- */

struct fetch {
    struct bucket *b;
    const struct snapmanifest *m;
    struct bucket_want *w;
    struct box_head head;
    struct objstore_meta meta;
    struct box_reader *reader;
    uint8_t *key;
    int resumed;
    char name[SNAPOBJECT_NAME_BYTES]; /* of the container */
    char folder[PATH_BYTES];          /* dir/restore */
    char part[PATH_BYTES + 256];      /* in it */
};

static enum err local_failed(struct fetch *f, enum err e, const char *what)
{
    if (e == ERR_MISCONF)
        return bucket_fail(f->b, e, "the disk is full: %s cannot be written", f->part);
    return bucket_fail(f->b, e, "%s %s: %s", what, f->part, e == ERR_IO ? strerror(file_errno()) : err_text(e));
}

/* Errors of the store; what is said about one object is about this snapshot. */
static enum err object_failed(struct fetch *f, enum err e)
{
    bucket_store_failed(f->b, e);
    switch (f->b->why) {
    case OBJSTORE_ABSENT:
    case OBJSTORE_ALTERED:
    case OBJSTORE_DAMAGED:
        return ERR_CORRUPT;
    default:
        return e;
    }
}

static int head_is_manifests(const struct box_head *h, const struct snapmanifest *m)
{
    return bytes_equal(bytes_of(h->cell_id, 16), bytes_of(m->object.cell_id, 16)) &&
           bytes_equal(bytes_of(h->realm, 16), bytes_of(m->realm, 16)) && h->lsn == m->object.lsn &&
           h->term == m->object.term && h->bytes == m->file_bytes &&
           bytes_equal(bytes_of(h->content, 32), bytes_of(m->content, 32));
}

/* The container's size and header. */
static enum err look_at_container(struct fetch *f)
{
    struct buf b;
    enum err e = objstore_head(f->b->store, f->name, &f->meta);

    if (e)
        return object_failed(f, e);
    if (f->meta.bytes != f->m->bytes)
        return bucket_fail(f->b, ERR_CORRUPT, "%s has %llu bytes, its manifest says %llu: it was cut or replaced",
                           f->name, (unsigned long long)f->meta.bytes, (unsigned long long)f->m->bytes);
    buf_init(&b, BOX_HEADER_BYTES);
    e = objstore_get_range(f->b->store, f->name, f->meta.etag, 0, BOX_HEADER_BYTES, &b);
    if (e)
        e = object_failed(f, e);
    else if (box_get_header(buf_data(&b), &f->head) || !head_is_manifests(&f->head, f->m) ||
             box_bytes(&f->head) != f->m->bytes)
        e = bucket_fail(f->b, ERR_CORRUPT, "%s has another header than its manifest says: it was altered", f->name);
    buf_fini(&b);
    return e;
}

static enum err open_key(struct fetch *f)
{
    f->key = mem_secret_alloc(BOX_KEY_BYTES);
    if (!f->key)
        return bucket_fail(f->b, ERR_OOM, "out of memory");
    enum err e = f->b->cfg->key_open(f->b->cfg->arg, &f->head, f->key);
    if (e == ERR_BADBLOB)
        return bucket_fail(f->b, ERR_CORRUPT, "the HSM does not open the data key of %s: it was altered", f->name);
    return e ? bucket_fail(f->b, e, "the data key of %s cannot be had: %s", f->name, err_text(e)) : ERR_OK;
}

/* Chunks that an earlier try has left. */
static uint64_t chunks_here(const struct fetch *f)
{
    uint64_t size = 0;
    int fd;

    if (file_open(f->part, O_RDONLY, 0, &fd))
        return 0;
    if (file_size(fd, &size))
        size = 0;
    (void)!file_close(fd);
    return size == f->head.bytes ? box_chunks(&f->head) : size / f->head.chunk_bytes;
}

static enum err open_part(struct fetch *f)
{
    enum err e = file_mkdir(f->folder, 0700);
    if (e)
        return local_failed(f, e, "no folder for");
    uint64_t chunk = chunks_here(f), have = chunk * f->head.chunk_bytes;
    if (chunk >= box_chunks(&f->head)) /* too long, or as long as it should be */
        chunk = box_chunks(&f->head), have = f->head.bytes;
    uint64_t more = f->head.bytes - have, left = room_free(f->w->dir);
    if (left < f->w->keep_free || left - f->w->keep_free < more)
        return bucket_fail(f->b, ERR_MISCONF, "the disk has no room for the snapshot: it takes %llu MiB more",
                           (unsigned long long)(more + f->w->keep_free - left) >> 20);
    f->resumed = chunk > 0;
    f->w->resumed = have;
    e = box_reader_open(&f->reader, f->part, &f->head, f->key, chunk);
    return e ? local_failed(f, e, "cannot open") : ERR_OK;
}

static enum err on_bytes(void *arg, uint64_t off, const void *p, size_t n)
{
    struct fetch *f = arg;
    enum err e = box_reader_write(f->reader, off, p, n);
    if (!e && f->w->here)
        atomic_store(f->w->here, off + n);
    return e;
}

static enum err download(struct fetch *f)
{
    uint64_t off = box_reader_restart(f->reader);
    struct objstore_meta meta;

    if (off == f->m->bytes)
        return ERR_OK;
    enum err e = objstore_download(f->b->store, f->name, f->meta.etag, off, on_bytes, f, &meta);
    if (!e)
        return ERR_OK;
    object_failed(f, e);
    if (f->b->why != OBJSTORE_CALLER)
        return object_failed(f, e);
    if (e == ERR_CORRUPT)
        return bucket_fail(f->b, e, "chunk %llu of %s does not open: it was altered",
                           (unsigned long long)box_reader_chunks(f->reader), f->name);
    return local_failed(f, e, "cannot write");
}

static enum err finish_part(struct fetch *f, enum err e)
{
    if (e) {
        box_reader_abandon(f->reader);
        return e;
    }
    e = box_reader_finish(f->reader);
    return e ? local_failed(f, e, "cannot finish") : ERR_OK;
}

/* The file as a snapshot, and as the one that the manifest tells of. */
static enum err verify(struct fetch *f)
{
    struct snapread_info i = {0};
    struct snapread *r;
    char why[128] = "";
    uint64_t bad = 0;
    enum err e = snapread_open(&r, f->part, f->m->object.cell_id, &f->b->cfg->signer, why, sizeof why);

    if (e == ERR_UNSUPPORTED)
        e = ERR_CORRUPT;
    if (e)
        return bucket_fail(f->b, e, "the snapshot in %s does not verify: %s", f->name, why[0] ? why : err_text(e));
    snapread_info(r, &i);
    if (i.header.lsn != f->m->object.lsn || i.header.term != f->m->object.term ||
        !bytes_equal(bytes_of(i.content, 32), bytes_of(f->m->content, 32)) ||
        !bytes_equal(bytes_of(i.digest, 32), bytes_of(f->m->digest, 32)))
        e = bucket_fail(f->b, ERR_CORRUPT, "the snapshot in %s is not the one that its manifest tells of", f->name);
    if (!e && (e = snapread_verify(r, bucket_pace, f->b, &bad)))
        bucket_fail(f->b, e, "block %llu of the snapshot in %s does not verify: %s", (unsigned long long)bad, f->name,
                    err_text(e));
    if (!e && f->w->fits && !f->w->fits(f->w->arg, &i.header))
        e = bucket_fail(f->b, ERR_CORRUPT, "the snapshot in %s is not of this log's history", f->name);
    snapread_unref(r);
    return e;
}

/* What there is of this and of others. */
static void remove_folder(struct fetch *f)
{
    char path[sizeof f->part], **names;
    size_t n;

    if (file_list(f->folder, &names, &n))
        return;
    for (size_t i = 0; i < n; i++) {
        snprintf(path, sizeof path, "%s/%.200s", f->folder, names[i]);
        (void)!file_unlink(path);
    }
    file_free_names(names, n);
    (void)!file_rmdir(f->folder); /* what stays is in nobody's way */
}

static enum err put_in_place(struct fetch *f)
{
    char dir[PATH_BYTES], path[PATH_BYTES + 64], name[SNAPFILE_NAME_BYTES];

    snapfile_name(name, f->m->object.lsn, f->m->object.term);
    snprintf(dir, sizeof dir, "%.*s/snapshots", PATH_BYTES - 16, f->w->dir);
    snprintf(path, sizeof path, "%s/%s", dir, name);
    enum err e = file_mkdir(dir, 0700);
    if (!e)
        e = file_rename(f->part, path);
    if (!e)
        e = file_sync_dir(dir);
    if (!e)
        e = file_sync_dir(f->w->dir);
    if (e)
        return local_failed(f, e, "cannot put in its place");
    remove_folder(f);
    return ERR_OK;
}

static enum err fetch_once(struct fetch *f)
{
    enum err e = open_part(f);
    if (!e)
        e = finish_part(f, download(f));
    if (!e)
        e = verify(f);
    if (e == ERR_CORRUPT && f->b->why == OBJSTORE_FINE)
        (void)!file_unlink(f->part); /* nothing of it is any good */
    return e;
}

enum err bucket_fetch(struct bucket *b, const struct snapmanifest *m, struct bucket_want *w)
{
    struct fetch f = {.b = b, .m = m, .w = w};
    char base[SNAPOBJECT_BASE_BYTES];
    enum err e = snapobject_name(f.name, "", &m->object, SNAPOBJECT_SNAP);

    if (!e)
        e = snapobject_base(base, &m->object, SNAPOBJECT_SNAP);
    if (e)
        return bucket_fail(b, e, "%s", err_text(e));
    snprintf(f.folder, sizeof f.folder, "%.*s/restore", PATH_BYTES - 16, w->dir);
    snprintf(f.part, sizeof f.part, "%s/%s.part", f.folder, base);
    if (!(e = look_at_container(&f)) && !(e = open_key(&f))) {
        e = fetch_once(&f);
        if (e == ERR_CORRUPT && f.resumed)
            e = fetch_once(&f);
    }
    mem_secret_free(f.key, BOX_KEY_BYTES);
    return e ? e : put_in_place(&f);
}
