/* upload_steps.c - see upload.h and upload_impl.h: what is done in each state.
 *
 * What a crash leaves, by the state in which it comes:
 *
 *     CHOOSING     nothing, or DIR/upload without an id: the next round begins with that header
 *     BEGINNING    maybe an upload whose id nobody knows: removed there by its age
 *     SENDING      DIR/upload with the id, some parts: the next round goes on. When the container was completed just
 *                  then, the store does not know the id any more: it is there as a whole, and has the right size
 *     MARKING      the same; or the manifest is there, and is found to be the one that would be written
 *     TIDYING      a container without its manifest: removed by its age
 *
 * Rejected: the newest snapshot takes the place of one whose upload was interrupted (with a slow line none would ever
 * arrive); keeping the data key in DIR/upload (the HSM opens it); a name with a number in it for each try (what failed
 * would pile up where keep does not count it).
 */
#include <assert.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "server/upload_impl.h"

#define FILES_MAX 64
#define LOST_MAX 3 /* then the store is to blame */
#define HASH_BYTES (1u << 20)

static enum upload_outcome failed(struct round *r, enum err e)
{
    r->err = e;
    return UPLOAD_FAILED;
}

/* The last call to the store failed. */
static enum upload_outcome store_failed(struct round *r, enum err e)
{
    return failed(r, bucket_store_failed(&r->b, e));
}

static void file_path(const struct upload *u, char out[UPLOAD_PATH_BYTES])
{
    snprintf(out, UPLOAD_PATH_BYTES, "%s/upload", u->dir);
}

static void container_name(const struct round *r, char out[SNAPOBJECT_NAME_BYTES])
{
    enum err e = snapobject_name(out, "", &r->object, SNAPOBJECT_SNAP);
    assert(!e); /* the node's name was checked at the start, or when it was written */
}

/* ---- CHOOSING ---- */

static enum err open_snapshot(struct round *r, uint64_t lsn, uint32_t term)
{
    struct snapshots_file f = {.lsn = lsn, .term = term};
    char name[SNAPFILE_NAME_BYTES], why[128] = "";
    uint64_t bad = 0;

    snapfile_name(name, lsn, term);
    snprintf(r->path, sizeof r->path, "%s/snapshots/%s", r->u->dir, name);
    enum err e = snapshots_open_file(r->u->cfg.snapshots, &f, &r->snap, why, sizeof why);
    if (e)
        return bucket_fail(&r->b, e, "the snapshot at LSN %llu cannot be read: %s", (unsigned long long)lsn,
                           why[0] ? why : err_text(e));
    snapread_info(r->snap, &r->info);
    e = snapread_verify(r->snap, bucket_pace, &r->b, &bad);
    return e ? bucket_fail(&r->b, e, "the snapshot at LSN %llu is not sent: block %llu: %s", (unsigned long long)lsn,
                           (unsigned long long)bad, err_text(e))
             : ERR_OK;
}

void upload_close(struct round *r)
{
    box_writer_close(r->writer);
    r->writer = NULL;
    snapread_unref(r->snap);
    r->snap = NULL;
    mem_secret_free(r->key, BOX_KEY_BYTES);
    r->key = NULL;
}

static enum err key_of(struct round *r, int new)
{
    const struct bucket_config *c = r->b.cfg;
    r->key = mem_secret_alloc(BOX_KEY_BYTES);
    enum err e = !r->key ? ERR_OOM
                 : new   ? c->key_new(c->arg, &r->file.head, r->key)
                         : c->key_open(c->arg, &r->file.head, r->key);
    return e ? bucket_fail(&r->b, e, "the HSM gives no data key for the upload: %s", err_text(e)) : ERR_OK;
}

static void going(struct round *r)
{
    r->bytes = box_bytes(&r->file.head);
    atomic_store(&r->u->done_bytes, 0);
    pthread_mutex_lock(&r->u->lock);
    r->u->info.going_lsn = r->object.lsn;
    r->u->info.total_bytes = r->bytes;
    pthread_mutex_unlock(&r->u->lock);
}

/* It is not gone on with. */
static void forget_upload(struct round *r)
{
    char path[UPLOAD_PATH_BYTES], name[SNAPOBJECT_NAME_BYTES];

    if (r->file.id[0]) {
        container_name(r, name);
        (void)!objstore_upload_abort(r->b.store, name, r->file.id); /* else it goes by its age */
    }
    upload_close(r);
    file_path(r->u, path);
    if (file_unlink(path) == ERR_OK)
        upload_say(r->u, LOG_NOTICE, "An upload that was interrupted is given up: %s", r->b.text);
    r->file = (struct uploadfile){0};
}

/* The snapshot of an upload that was interrupted is there, and is the same. */
static enum err same_snapshot(struct round *r)
{
    const struct box_head *h = &r->file.head;
    enum err e = open_snapshot(r, h->lsn, h->term);

    if (!e && (r->info.bytes != h->bytes || !bytes_equal(bytes_of(r->info.content, 32), bytes_of(h->content, 32)) ||
               !bytes_equal(bytes_of(h->cell_id, 16), bytes_of(r->u->cfg.cell_id, 16)) ||
               !bytes_equal(bytes_of(h->realm, 16), bytes_of(r->b.cfg->realm, 16))))
        e = bucket_fail(&r->b, ERR_CORRUPT, "it is of another snapshot");
    return e ? e : key_of(r, 0);
}

/* ERR_NOTFOUND: there is none to go on with. */
static enum err find_interrupted(struct round *r)
{
    char path[UPLOAD_PATH_BYTES];

    file_path(r->u, path);
    enum err e = uploadfile_load(path, &r->file);
    if (e == ERR_NOTFOUND)
        return e;
    if (e == ERR_CORRUPT) {
        bucket_fail(&r->b, e, "%s is damaged", path);
        forget_upload(r);
        return ERR_NOTFOUND;
    }
    if (e)
        return bucket_fail(&r->b, e, "%s cannot be read: %s", path, err_text(e));
    r->object = (struct snapobject){.lsn = r->file.head.lsn, .term = r->file.head.term};
    memcpy(r->object.cell_id, r->file.head.cell_id, 16);
    memcpy(r->object.node, r->file.node, sizeof r->object.node);
    if (snapobject_node_valid(bytes_str(r->object.node)))
        e = same_snapshot(r);
    else
        r->file.id[0] = '\0', e = bucket_fail(&r->b, ERR_CORRUPT, "%s names no node", path);
    if (e == ERR_NOTFOUND || e == ERR_CORRUPT || e == ERR_UNSUPPORTED || e == ERR_BADBLOB) {
        forget_upload(r);
        return ERR_NOTFOUND;
    }
    return e;
}

static int may_go(const struct round *r, const struct snapshots_file *f)
{
    return r->exact ? f->lsn == r->want : f->lsn >= r->want && f->verified != SNAPSHOT_BAD;
}

static int is_there(struct upload *u, const struct snapobject *o)
{
    pthread_mutex_lock(&u->lock);
    int there = u->info.lsn == o->lsn && u->info.term == o->term;
    pthread_mutex_unlock(&u->lock);
    return there;
}

/* The newest that verifies. ERR_NOTFOUND: there is none. ERR_END: it is there already, and nobody asks. */
static enum err find_snapshot(struct round *r)
{
    struct snapshots_file f[FILES_MAX];
    unsigned n = snapshots_list(r->u->cfg.snapshots, f, FILES_MAX);

    for (unsigned i = 0; i < n && i < FILES_MAX; i++) {
        if (!may_go(r, &f[i]))
            continue;
        r->object = (struct snapobject){.lsn = f[i].lsn, .term = f[i].term};
        memcpy(r->object.cell_id, r->u->cfg.cell_id, 16);
        memcpy(r->object.node, r->u->cfg.node, sizeof r->object.node);
        if (!r->demanded && is_there(r->u, &r->object))
            return ERR_END;
        enum err e = open_snapshot(r, f[i].lsn, f[i].term);
        if (e == ERR_CORRUPT && !r->exact) {
            upload_say(r->u, LOG_WARNING, "%s; the one before is taken", r->b.text);
            upload_close(r);
            continue;
        }
        return e;
    }
    return r->exact ? bucket_fail(&r->b, ERR_NOTFOUND, "there is no snapshot at LSN %llu: see SNAPSHOT.LIST",
                                  (unsigned long long)r->want)
                    : bucket_fail(&r->b, ERR_NOTFOUND, "there is no snapshot yet: SNAPSHOT.CREATE makes one");
}

/* The manifest that is there tells of this snapshot, and of this container where that is known (sha256 not NULL). */
static enum err read_mark(struct round *r, const uint8_t *sha256, struct snapmanifest *m)
{
    enum err e = bucket_manifest(&r->b, &r->object, m);
    if (!e && (!bytes_equal(bytes_of(m->content, 32), bytes_of(r->info.content, 32)) ||
               (sha256 && !bytes_equal(bytes_of(m->sha256, 32), bytes_of(sha256, 32)))))
        e = bucket_fail(
            &r->b, ERR_CORRUPT,
            "another container of the snapshot at LSN %llu is there under this node's name: it is left alone",
            (unsigned long long)r->object.lsn);
    return e;
}

/* UPLOAD_DONE: nothing is there under this name. */
static enum upload_outcome look_there(struct round *r)
{
    char name[SNAPOBJECT_NAME_BYTES];
    struct objstore_meta meta;
    struct snapmanifest m;
    enum err e = read_mark(r, NULL, &m);

    r->bytes = m.bytes;
    if (!e)
        return UPLOAD_STORED;
    if (r->b.why != OBJSTORE_ABSENT)
        return failed(r, e);
    container_name(r, name);
    e = objstore_head(r->b.store, name, &meta);
    if (!e)
        return failed(r, bucket_fail(&r->b, ERR_CONFLICT,
                                     "%s is there already, from an upload that this node does not know of: it is left "
                                     "alone, and the next snapshot has another name",
                                     name));
    return objstore_trouble(r->b.store)->why == OBJSTORE_ABSENT ? UPLOAD_DONE : store_failed(r, e);
}

static enum err keep_file(struct round *r)
{
    char path[UPLOAD_PATH_BYTES];
    file_path(r->u, path);
    enum err e = uploadfile_save(path, &r->file);
    return e ? bucket_fail(&r->b, e, "%s cannot be written: %s", path,
                           e == ERR_MISCONF ? "the disk is full" : err_text(e))
             : ERR_OK;
}

static enum err make_head(struct round *r)
{
    struct box_head *h = &r->file.head;
    *h = (struct box_head){.lsn = r->object.lsn,
                           .term = r->object.term,
                           .bytes = r->info.bytes,
                           .kind = BOX_SNAPSHOT,
                           .chunk_bytes = BOX_CHUNK_BYTES};
    memcpy(h->cell_id, r->object.cell_id, 16);
    memcpy(h->realm, r->b.cfg->realm, 16);
    memcpy(h->content, r->info.content, sizeof h->content);
    memcpy(r->file.node, r->object.node, sizeof r->file.node);
    r->file.id[0] = '\0';
    enum err e = key_of(r, 1);
    return e ? e : keep_file(r);
}

enum upload_outcome upload_choose(struct round *r)
{
    enum err e = find_interrupted(r);
    if (!e) {
        going(r);
        return r->file.id[0] ? UPLOAD_RESUMED : UPLOAD_DONE;
    }
    if (e != ERR_NOTFOUND)
        return failed(r, e);
    e = find_snapshot(r);
    if (!r->demanded && (e == ERR_NOTFOUND || e == ERR_END))
        return UPLOAD_NOTHING;
    if (e)
        return failed(r, e);
    enum upload_outcome o = look_there(r);
    if (o != UPLOAD_DONE)
        return o;
    if ((e = make_head(r)))
        return failed(r, e);
    going(r);
    return UPLOAD_DONE;
}

/* ---- BEGINNING, SENDING ---- */

enum upload_outcome upload_begin(struct round *r)
{
    char name[SNAPOBJECT_NAME_BYTES];

    container_name(r, name);
    enum err e = objstore_upload_begin(r->b.store, name, r->file.id);
    if (e) {
        r->file.id[0] = '\0';
        return store_failed(r, e);
    }
    if ((e = keep_file(r)) == ERR_OK)
        return UPLOAD_DONE;
    (void)!objstore_upload_abort(r->b.store, name, r->file.id); /* nobody would find it again */
    return failed(r, e);
}

static enum err read_box(void *arg, uint64_t off, void *p, size_t n)
{
    struct round *r = arg;
    enum err e = box_writer_read(r->writer, off, p, n);
    if (!e)
        atomic_store(&r->u->done_bytes, off + n);
    return e;
}

/* The store does not know the upload: it was completed, in a moment that somebody missed, or it is gone. */
static enum upload_outcome completed_or_lost(struct round *r, const char *name)
{
    struct objstore_meta meta;
    enum err e = objstore_head(r->b.store, name, &meta);

    if (!e && meta.bytes == r->bytes)
        return UPLOAD_DONE;
    if (!e)
        return failed(r, bucket_fail(&r->b, ERR_CONFLICT, "%s is there with %llu bytes, not %llu: it is left alone",
                                     name, (unsigned long long)meta.bytes, (unsigned long long)r->bytes));
    if (objstore_trouble(r->b.store)->why != OBJSTORE_ABSENT)
        return store_failed(r, e);
    r->file.id[0] = '\0';
    if (++r->lost <= LOST_MAX)
        return UPLOAD_LOST;
    return failed(r, bucket_fail(&r->b, ERR_STOREREFUSED, "the object store forgets uploads that were just begun"));
}

enum upload_outcome upload_send(struct round *r)
{
    char name[SNAPOBJECT_NAME_BYTES];
    struct objstore_source src = {.bytes = r->bytes, .read = read_box, .arg = r};
    struct objstore_upload up = {0};
    struct objstore_meta meta;
    enum err e = r->writer ? ERR_OK : box_writer_open(&r->writer, r->path, &r->file.head, r->key);

    if (e)
        return failed(r, bucket_fail(&r->b, e, "%s cannot be read: %s", r->path, err_text(e)));
    container_name(r, name);
    memcpy(up.id, r->file.id, sizeof up.id);
    e = objstore_upload_run(r->b.store, name, &src, &up, &meta);
    if (e && objstore_trouble(r->b.store)->why == OBJSTORE_NOUPLOAD)
        return completed_or_lost(r, name);
    if (e)
        return store_failed(r, e);
    r->parts = up.parts;
    r->kept = up.parts_kept;
    return UPLOAD_DONE;
}

/* ---- MARKING ---- */

static enum err hash_box(struct round *r, uint8_t out[32])
{
    struct sha256 s;
    enum err e = ERR_OK;
    uint8_t *piece = mem_alloc(HASH_BYTES);

    if (!piece)
        return ERR_OOM;
    sha256_init(&s);
    for (uint64_t off = 0; !e && off < r->bytes; off += HASH_BYTES) {
        size_t n = r->bytes - off < HASH_BYTES ? (size_t)(r->bytes - off) : HASH_BYTES;
        e = bucket_pace(&r->b, n);
        if (!e)
            e = box_writer_read(r->writer, off, piece, n);
        if (!e)
            sha256_add(&s, piece, n);
    }
    sha256_end(&s, out);
    mem_free(piece);
    return e;
}

static enum err make_manifest(struct round *r, struct snapmanifest *m, struct buf *text)
{
    *m = (struct snapmanifest){
        .object = r->object, .time_ms = r->info.header.time_ms, .bytes = r->bytes, .file_bytes = r->info.bytes};
    memcpy(m->realm, r->b.cfg->realm, 16);
    memcpy(m->digest, r->info.digest, 32);
    memcpy(m->content, r->info.content, 32);
    enum err e = hash_box(r, m->sha256);
    if (!e)
        e = snapmanifest_put(text, m, &r->b.cfg->signer);
    return e ? bucket_fail(&r->b, e, "the manifest of the upload cannot be made: %s", err_text(e)) : ERR_OK;
}

static enum upload_outcome put_mark(struct round *r, struct bytes text, const struct snapmanifest *m)
{
    char name[SNAPOBJECT_NAME_BYTES], path[UPLOAD_PATH_BYTES];
    struct snapmanifest there;
    struct objstore_meta meta;
    enum err e = snapobject_name(name, "", &r->object, SNAPOBJECT_MANIFEST);

    if (e)
        return failed(r, bucket_fail(&r->b, e, "%s", err_text(e)));
    e = objstore_put(r->b.store, name, text, 1, &meta);
    if (e && objstore_trouble(r->b.store)->why != OBJSTORE_EXISTS)
        return store_failed(r, e);
    if (e && (e = read_mark(r, m->sha256, &there)))
        return failed(r, e);
    file_path(r->u, path);
    e = file_unlink(path);
    if (e && e != ERR_NOTFOUND)
        return failed(r, bucket_fail(&r->b, e, "%s cannot be removed: %s", path, err_text(e)));
    return UPLOAD_DONE;
}

enum upload_outcome upload_mark(struct round *r)
{
    struct snapmanifest m;
    struct buf text;
    enum upload_outcome o = UPLOAD_FAILED;

    buf_init(&text, 2 * SNAPMANIFEST_BYTES_MAX);
    enum err e = make_manifest(r, &m, &text);
    if (e)
        o = failed(r, e);
    else
        o = put_mark(r, buf_bytes(&text), &m);
    buf_fini(&text);
    if (o != UPLOAD_DONE)
        return o;
    pthread_mutex_lock(&r->u->lock);
    r->u->info.uploads++;
    pthread_mutex_unlock(&r->u->lock);
    upload_say(r->u, LOG_NOTICE,
               "Snapshot at LSN %llu is in the object store: %llu bytes, %u of %u parts were there already",
               (unsigned long long)r->object.lsn, (unsigned long long)r->bytes, r->kept, r->parts);
    return UPLOAD_DONE;
}

/* ---- TIDYING ---- */

enum upload_outcome upload_tidy(struct round *r)
{
    struct bucket_list l = {0};
    char folder[SNAPOBJECT_NAME_BYTES];
    unsigned kept = 0, aborted = 0;
    uint64_t now = clock_wall_ms(), before = now > r->set.unfinished_ms ? now - r->set.unfinished_ms : 0;

    upload_close(r);
    enum err e = bucket_list(&r->b, r->u->cfg.cell_id, &l);
    for (size_t i = 0; i < l.n && !e; i++) {
        const struct bucket_entry *at = &l.at[i];
        if (at->manifest ? kept++ < r->set.keep : !at->modified_ms || at->modified_ms >= before)
            continue;
        e = bucket_remove(&r->b, &at->object);
        r->removed += !e;
    }
    bucket_list_free(&l);
    if (!e)
        e = snapobject_folder(folder, "", r->u->cfg.cell_id);
    if (e)
        return failed(r, e);
    e = objstore_uploads_expire(r->b.store, folder, before, &aborted);
    if (e)
        return store_failed(r, e);
    if (r->removed || aborted)
        upload_say(r->u, LOG_NOTICE, "Removed from the object store: %u snapshots, %u uploads that nobody finished",
                   r->removed, aborted);
    return UPLOAD_DONE;
}
