/* upload.c - see upload.h. The happy path is `states`, from top to bottom; `next` says what else there is.
 *
 * A round is one way from CHOOSING back to IDLE. It has a connection of its own, so that credentials that were changed
 * count from the next round on.
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
#include "server/upload.h"

#include <assert.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/file.h"
#include "base/log.h"
#include "base/mem.h"
#include "base/sha256.h"
#include "server/uploadfile.h"

#define NICE 10 /* as snapshots_make.c */
#define TICK_MS 1000
#define RETRY_MS 30000
#define RETRY_MAX_MS 600000
#define FILES_MAX 64
#define PATH_BYTES 4096
#define LOST_MAX 3 /* then the store is to blame */
#define HASH_BYTES (1u << 20)

struct upload {
    struct upload_config cfg;
    char *dir;
    pthread_t thread;
    int started;
    _Atomic int stop;
    _Atomic uint64_t done_bytes;

    pthread_mutex_t lock; /* all of what follows */
    pthread_cond_t wake;
    int ended;
    struct upload_wait *waits;
    struct upload_info info;
    uint64_t round_ms, retry_ms, retry_after_ms; /* clock_mono: of the last round; not before; how long it was */
    char said[16];                               /* the reason that the log has */
};

/* One round; the thread's own. */
struct round {
    struct upload *u;
    struct bucket b;
    struct upload_settings set;
    int demanded, exact; /* somebody waits, for this LSN */
    uint64_t want;
    struct uploadfile file;
    struct snapread *snap;
    struct snapread_info info;
    struct snapobject object;
    uint8_t *key;
    struct box_writer *writer;
    uint64_t bytes; /* of the container */
    unsigned lost, kept, parts, removed;
    enum err err;
    char path[PATH_BYTES]; /* of the snapshot */
};

const char *upload_state_name(enum upload_state s)
{
    static const char *const name[] = {"idle", "choosing", "beginning", "sending", "marking", "tidying"};
    return name[s];
}

enum upload_state upload_next(enum upload_state s, enum upload_outcome o)
{
    static const enum upload_state next[UPLOAD_STATES][UPLOAD_OUTCOMES] = {
        [UPLOAD_IDLE] = {[UPLOAD_DONE] = UPLOAD_CHOOSING},
        [UPLOAD_CHOOSING] =
            {[UPLOAD_DONE] = UPLOAD_BEGINNING, [UPLOAD_RESUMED] = UPLOAD_SENDING, [UPLOAD_STORED] = UPLOAD_TIDYING},
        [UPLOAD_BEGINNING] = {[UPLOAD_DONE] = UPLOAD_SENDING},
        [UPLOAD_SENDING] = {[UPLOAD_DONE] = UPLOAD_MARKING, [UPLOAD_LOST] = UPLOAD_BEGINNING},
        [UPLOAD_MARKING] = {[UPLOAD_DONE] = UPLOAD_TIDYING},
        [UPLOAD_TIDYING] = {[UPLOAD_DONE] = UPLOAD_IDLE},
    };
    return next[s][o]; /* what is not there is IDLE */
}

static uint64_t mono_ms(void)
{
    return clock_mono_us() / 1000;
}

static void say(struct upload *u, int level, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static void say(struct upload *u, int level, const char *fmt, ...)
{
    char line[1024];
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(line, sizeof line, fmt, ap);
    va_end(ap);
    u->cfg.log(level, line);
}

static int must_stop(void *arg)
{
    struct upload *u = arg;
    return atomic_load(&u->stop) || (u->cfg.stopping && u->cfg.stopping(u->cfg.arg));
}

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

static void file_path(const struct upload *u, char out[PATH_BYTES])
{
    snprintf(out, PATH_BYTES, "%s/upload", u->dir);
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

static void close_snapshot(struct round *r)
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
    char path[PATH_BYTES], name[SNAPOBJECT_NAME_BYTES];

    if (r->file.id[0]) {
        container_name(r, name);
        (void)!objstore_upload_abort(r->b.store, name, r->file.id); /* else it goes by its age */
    }
    close_snapshot(r);
    file_path(r->u, path);
    if (file_unlink(path) == ERR_OK)
        say(r->u, LOG_NOTICE, "An upload that was interrupted is given up: %s", r->b.text);
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
    char path[PATH_BYTES];

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
    if (!snapobject_node_valid(bytes_str(r->object.node)))
        e = bucket_fail(&r->b, ERR_CORRUPT, "its node has no name");
    if (!e)
        e = same_snapshot(r);
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

/* The newest that verifies. ERR_NOTFOUND: there is none. */
static enum err find_snapshot(struct round *r)
{
    struct snapshots_file f[FILES_MAX];
    unsigned n = snapshots_list(r->u->cfg.snapshots, f, FILES_MAX);

    for (unsigned i = 0; i < n && i < FILES_MAX; i++) {
        if (!may_go(r, &f[i]))
            continue;
        enum err e = open_snapshot(r, f[i].lsn, f[i].term);
        if (e == ERR_CORRUPT && !r->exact) {
            say(r->u, LOG_WARNING, "%s; the one before is taken", r->b.text);
            close_snapshot(r);
            continue;
        }
        r->object = (struct snapobject){.lsn = f[i].lsn, .term = f[i].term};
        memcpy(r->object.cell_id, r->u->cfg.cell_id, 16);
        memcpy(r->object.node, r->u->cfg.node, sizeof r->object.node);
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
    char path[PATH_BYTES];
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

static int is_there(struct upload *u, const struct snapobject *o)
{
    pthread_mutex_lock(&u->lock);
    int there = u->info.lsn == o->lsn && u->info.term == o->term;
    pthread_mutex_unlock(&u->lock);
    return there;
}

static enum upload_outcome choose(struct round *r)
{
    enum err e = find_interrupted(r);
    if (!e) {
        going(r);
        return r->file.id[0] ? UPLOAD_RESUMED : UPLOAD_DONE;
    }
    if (e != ERR_NOTFOUND)
        return failed(r, e);
    e = find_snapshot(r);
    if (!r->demanded && (e == ERR_NOTFOUND || (!e && is_there(r->u, &r->object))))
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

static enum upload_outcome begin(struct round *r)
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

static enum upload_outcome send_parts(struct round *r)
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
    char name[SNAPOBJECT_NAME_BYTES], path[PATH_BYTES];
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

static void note_fine(struct upload *u)
{
    pthread_mutex_lock(&u->lock);
    u->said[0] = u->info.why[0] = '\0';
    u->info.error = "";
    u->retry_ms = u->retry_after_ms = 0;
    pthread_mutex_unlock(&u->lock);
}

static void note_stored(struct round *r)
{
    struct upload *u = r->u;
    pthread_mutex_lock(&u->lock);
    u->info.lsn = r->object.lsn;
    u->info.term = r->object.term;
    u->info.time_ms = clock_wall_ms();
    u->info.bytes = r->bytes;
    pthread_mutex_unlock(&u->lock);
    note_fine(u);
}

static enum upload_outcome mark(struct round *r)
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
    say(r->u, LOG_NOTICE, "Snapshot at LSN %llu is in the object store: %llu bytes, %u of %u parts were there already",
        (unsigned long long)r->object.lsn, (unsigned long long)r->bytes, r->kept, r->parts);
    return UPLOAD_DONE;
}

/* ---- TIDYING ---- */

static enum upload_outcome tidy(struct round *r)
{
    struct bucket_list l = {0};
    char folder[SNAPOBJECT_NAME_BYTES];
    unsigned kept = 0, aborted = 0;
    uint64_t now = clock_wall_ms(), before = now > r->set.unfinished_ms ? now - r->set.unfinished_ms : 0;

    close_snapshot(r);
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
        say(r->u, LOG_NOTICE, "Removed from the object store: %u snapshots, %u uploads that nobody finished",
            r->removed, aborted);
    return UPLOAD_DONE;
}

/* ---- a round ---- */

static enum upload_outcome idle(struct round *r)
{
    enum err e = bucket_open(&r->b, r->u->cfg.bucket, must_stop, r->u);
    return e ? failed(r, e) : UPLOAD_DONE;
}

static enum upload_outcome (*const states[UPLOAD_STATES])(struct round *r) = {
    [UPLOAD_IDLE] = idle,          [UPLOAD_CHOOSING] = choose, [UPLOAD_BEGINNING] = begin,
    [UPLOAD_SENDING] = send_parts, [UPLOAD_MARKING] = mark,    [UPLOAD_TIDYING] = tidy,
};

static void enter(struct upload *u, enum upload_state s)
{
    pthread_mutex_lock(&u->lock);
    u->info.state = s;
    pthread_mutex_unlock(&u->lock);
}

/* 1: the round has the answer. What went wrong at the store goes for all. r is NULL at the end. */
static int answers(const struct round *r, const struct upload_wait *w, enum err e)
{
    if (!r || (e && r->b.why != OBJSTORE_FINE))
        return 1;
    if (e)
        return w->lsn == r->want && w->exact == r->exact;
    return w->exact ? r->object.lsn == w->lsn : r->object.lsn >= w->lsn;
}

static void answer(struct upload_wait *w, const struct round *r, enum err e)
{
    snprintf(w->why, sizeof w->why, "%s", r ? r->b.text : "the server is stopping");
    if (!e) {
        w->lsn = r->object.lsn;
        w->bytes = r->bytes;
        e = snapobject_base(w->object, &r->object, SNAPOBJECT_SNAP);
    }
    w->err = e;
    w->done(w);
}

static void answer_waits(struct upload *u, const struct round *r, enum err e)
{
    struct upload_wait *ready = NULL;

    pthread_mutex_lock(&u->lock);
    for (struct upload_wait **at = &u->waits; *at;) {
        struct upload_wait *w = *at;
        if (!answers(r, w, e)) {
            at = &w->next;
            continue;
        }
        *at = w->next;
        w->next = ready;
        ready = w;
    }
    pthread_mutex_unlock(&u->lock);
    while (ready) {
        struct upload_wait *w = ready;
        ready = w->next;
        answer(w, r, e);
    }
}

static void note_failed(struct round *r)
{
    struct upload *u = r->u;
    const char *name = r->b.why == OBJSTORE_FINE ? "LOCAL" : objstore_why_name(r->b.why);

    pthread_mutex_lock(&u->lock);
    int first = strcmp(u->said, name) != 0;
    snprintf(u->said, sizeof u->said, "%s", name);
    u->info.failures++;
    u->info.error = name;
    snprintf(u->info.why, sizeof u->info.why, "%s", r->b.text);
    u->retry_after_ms = u->retry_after_ms ? 2 * u->retry_after_ms : RETRY_MS;
    if (u->retry_after_ms > RETRY_MAX_MS)
        u->retry_after_ms = RETRY_MAX_MS;
    u->retry_ms = mono_ms() + u->retry_after_ms;
    pthread_mutex_unlock(&u->lock);
    if (first)
        say(u, LOG_WARNING, "A snapshot could not be sent to the object store and will be tried again: %s", r->b.text);
}

/* What others learn of a step. */
static void note(struct round *r, enum upload_state s, enum upload_outcome o)
{
    int stored = o == UPLOAD_STORED || (s == UPLOAD_MARKING && o == UPLOAD_DONE);

    if (stored)
        note_stored(r);
    int mistaken = r->demanded && r->err == ERR_NOTFOUND &&
                   r->b.why == OBJSTORE_FINE; /* who asked is told; nothing is wrong here */
    if (o == UPLOAD_FAILED && r->err != ERR_AGAIN && !mistaken)
        note_failed(r);
    if (stored || o == UPLOAD_FAILED)
        answer_waits(r->u, r, r->err);
}

static void run_round(struct round *r)
{
    struct upload *u = r->u;
    enum upload_state s = UPLOAD_IDLE;
    enum upload_outcome o;

    do {
        o = states[s](r);
        note(r, s, o);
        s = upload_next(s, o);
        enter(u, s);
    } while (s != UPLOAD_IDLE);
    if (o != UPLOAD_FAILED)
        note_fine(u);
    close_snapshot(r);
    bucket_close(&r->b);
    pthread_mutex_lock(&u->lock);
    u->info.removed += r->removed;
    u->info.going_lsn = u->info.total_bytes = 0;
    u->round_ms = mono_ms();
    pthread_mutex_unlock(&u->lock);
}

/* ---- the thread ---- */

/* Lock held. */
static int due(struct upload *u, const struct upload_settings *set)
{
    uint64_t now = mono_ms();
    if (u->waits)
        return 1;
    if (!set->interval_ms || now < u->retry_ms)
        return 0;
    return !u->round_ms || u->retry_ms || now - u->round_ms >= set->interval_ms;
}

static void *upload_main(void *arg)
{
    struct upload *u = arg;
    struct upload_settings set;

    pthread_setname_np(pthread_self(), "coffer-upload");
    (void)setpriority(PRIO_PROCESS, (id_t)gettid(), NICE); /* of this thread alone */
    pthread_mutex_lock(&u->lock);
    while (!must_stop(u)) {
        u->cfg.settings(u->cfg.arg, &set);
        if (!due(u, &set)) {
            clock_cond_wait(&u->wake, &u->lock, clock_mono_us() + TICK_MS * 1000);
            continue;
        }
        struct round r = {.u = u, .set = set, .demanded = u->waits != NULL};
        if (u->waits) {
            r.want = u->waits->lsn;
            r.exact = u->waits->exact;
        }
        pthread_mutex_unlock(&u->lock);
        run_round(&r);
        pthread_mutex_lock(&u->lock);
    }
    u->ended = 1;
    pthread_mutex_unlock(&u->lock);
    answer_waits(u, NULL, ERR_AGAIN);
    return NULL;
}

enum err upload_start(struct upload **out, const struct upload_config *cfg)
{
    size_t n = strlen(cfg->dir) + 1;
    struct upload *u = *out = mem_zalloc(sizeof *u);

    if (!u)
        return ERR_OOM;
    u->cfg = *cfg;
    u->info.error = "";
    pthread_mutex_init(&u->lock, NULL);
    clock_cond_init(&u->wake);
    enum err e = (u->dir = mem_alloc(n)) ? ERR_OK : ERR_OOM;
    if (!e)
        memcpy(u->dir, cfg->dir, n);
    if (!e && pthread_create(&u->thread, NULL, upload_main, u) != 0)
        e = ERR_OOM;
    u->started = !e;
    if (e) {
        upload_free(u);
        *out = NULL;
    }
    return e;
}

void upload_end(struct upload *u)
{
    if (!u)
        return;
    pthread_mutex_lock(&u->lock);
    atomic_store(&u->stop, 1);
    pthread_cond_broadcast(&u->wake);
    pthread_mutex_unlock(&u->lock);
    if (u->started)
        pthread_join(u->thread, NULL);
    u->started = 0;
}

void upload_free(struct upload *u)
{
    if (!u)
        return;
    upload_end(u);
    pthread_cond_destroy(&u->wake);
    pthread_mutex_destroy(&u->lock);
    mem_free(u->dir);
    mem_free(u);
}

void upload_demand(struct upload *u, struct upload_wait *w)
{
    pthread_mutex_lock(&u->lock);
    int ended = u->ended;
    if (!ended) {
        w->next = u->waits;
        u->waits = w;
        pthread_cond_signal(&u->wake);
    }
    pthread_mutex_unlock(&u->lock);
    if (!ended)
        return;
    w->err = ERR_AGAIN;
    snprintf(w->why, sizeof w->why, "the server is stopping");
    w->done(w);
}

void upload_info(struct upload *u, struct upload_info *out)
{
    pthread_mutex_lock(&u->lock);
    *out = u->info;
    pthread_mutex_unlock(&u->lock);
    out->done_bytes = out->total_bytes ? atomic_load(&u->done_bytes) : 0;
}
