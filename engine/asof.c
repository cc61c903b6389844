/* asof.c - see asof.h.
 *
 * open: pin the log, choose a snapshot, read the log behind it into changes (changes.h), reduced to the heads asked
 * for. Everything after that is a merge of two ordered things, as in snapmerge.c, but of heads alone and without
 * writing.
 *
 * A head says where its values are. With S the snapshot's LSN and L that of the record that brought a version:
 *
 *     in the head                      it is CURRENT and small
 *     L > S                            in that record: its head, or its slot
 *     L <= S, in a slot                in the snapshot under the slot: slots do not move while a version is kept, and
 * it was kept at S since it is later L <= S, else                     in the snapshot, as an old value or in the head
 * (snapold.h)
 *
 * Trimming: the pin is set before the log is looked at. A trim that is under way already may still take what was asked
 * for: the log then answers NOTFOUND, and all is chosen anew, from what there is then.
 *
 * Rejected: keeping slots' keys in changes as well (the head tells it all); making a snapshot file at the moment (a
 * copy of everything for one secret); an index of the log by path (every write would pay for what is asked once a
 * year).
 */
#include "engine/asof.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"
#include "base/mem.h"
#include "engine/engine_impl.h"
#include "engine/snapold.h"

#define FILES_MAX 64
#define STORE_BYTES 2
#define KEY_BYTES (STORE_BYTES + SECRET_KEY_MAX)
#define HEAD_AT (STORE_BYTES + 9) /* store, 'h', vault: behind these a path begins */
#define TRIES 8

struct asof {
    struct engine *e;
    struct asof_query q;
    struct asof_moment moment;
    struct snapread *base; /* NULL: the log alone */
    struct changes *changes;
    struct wal_reader *rd;
    struct buf head; /* of the secret found last */

    /* for next */
    uint8_t under[KEY_BYTES];
    size_t under_n; /* 0: everything */
    struct snapread_iter *it;
    struct snapfile_entry entry;
    int has_entry, begun;
    enum err entry_err; /* what came instead of the entry, for good */
    size_t at;          /* in changes */
    struct buf path;

    /* Of a database of the facade: heads whose versions are all of records up to it had been flushed (vault.h). */
    uint8_t counters[KEY_BYTES];
    size_t counters_n; /* 0: not of one */
    uint64_t flushed_lsn;

    struct asof *next_open;
    uint64_t pinned_lsn;
};

static struct bytes under_of(const struct asof *a)
{
    return bytes_of(a->under, a->under_n);
}

/* ---- pins ---- */

static void pin(struct asof *a, uint64_t lsn)
{
    pthread_mutex_lock(&a->e->asof_lock);
    if (!a->pinned_lsn) {
        a->next_open = a->e->asof_open;
        a->e->asof_open = a;
    }
    a->pinned_lsn = lsn;
    pthread_mutex_unlock(&a->e->asof_lock);
}

static void unpin(struct asof *a)
{
    pthread_mutex_lock(&a->e->asof_lock);
    struct asof **at = &a->e->asof_open;
    while (*at && *at != a)
        at = &(*at)->next_open;
    if (*at)
        *at = a->next_open;
    pthread_mutex_unlock(&a->e->asof_lock);
}

uint64_t asof_needed_lsn(struct engine *e)
{
    uint64_t lsn = UINT64_MAX;
    pthread_mutex_lock(&e->asof_lock);
    for (const struct asof *a = e->asof_open; a; a = a->next_open)
        lsn = a->pinned_lsn < lsn ? a->pinned_lsn : lsn;
    pthread_mutex_unlock(&e->asof_lock);
    return lsn;
}

/* ---- which snapshot ---- */

/* What there is to choose from. */
struct kept {
    struct snapshots_file file[FILES_MAX]; /* newest first */
    unsigned n;
    uint64_t log_first, commit; /* log_first 0: no log */
};

static void look(struct asof *a, struct kept *k)
{
    struct wal_info w;
    k->n = a->e->snapshots ? snapshots_list(a->e->snapshots, k->file, FILES_MAX) : 0;
    k->n = k->n < FILES_MAX ? k->n : FILES_MAX;
    wal_info(a->e->wal, &w);
    k->log_first = w.first_lsn;
    k->commit = engine_commit_lsn(a->e);
}

static enum err refuse(char *why, size_t n, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
static enum err refuse(char *why, size_t n, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(why, n, fmt, ap);
    va_end(ap);
    return ERR_RANGE;
}

/* The moment at LSN n, or in front of it, cannot be had: tells which can. below: the snapshot's LSN in front, 0: none.
 */
static enum err refuse_gone(const struct kept *k, uint64_t below, char *why, size_t n)
{
    uint64_t above = 0;
    for (unsigned i = 0; i < k->n; i++)
        if (k->file[i].lsn > below && k->file[i].verified != SNAPSHOT_BAD)
            above = k->file[i].lsn;
    if (below && above)
        return refuse(
            why, n,
            "the log between the snapshots at LSN %llu and LSN %llu is gone: these two can be had, and what is "
            "between them cannot",
            (unsigned long long)below, (unsigned long long)above);
    if (above)
        return refuse(why, n, "that is gone: the oldest that can be had is LSN %llu", (unsigned long long)above);
    if (below)
        return refuse(why, n, "the log behind the snapshot at LSN %llu is gone: that LSN can be had",
                      (unsigned long long)below);
    return refuse(why, n, "there is no snapshot, and the log does not reach back to its first record");
}

static int usable(const struct asof *a, const struct snapshots_file *f)
{
    return f->verified != SNAPSHOT_BAD && (!a->q.snapshots_below || f->lsn < a->q.snapshots_below) &&
           (!a->q.lsn || f->lsn <= a->q.lsn);
}

/* Opens the newest snapshot that may serve and verifies, into a->base, and its header. Without any: ERR_OK and base
 * NULL. */
static enum err choose(struct asof *a, const struct kept *k, struct snapread_info *info)
{
    char why[128];
    memset(info, 0, sizeof *info);
    for (unsigned i = 0; i < k->n; i++) {
        if (!usable(a, &k->file[i]))
            continue;
        pin(a, k->file[i].lsn + 1);
        enum err e = snapshots_open_file(a->e->snapshots, &k->file[i], &a->base, why, sizeof why);
        if (e == ERR_CORRUPT || e == ERR_UNSUPPORTED || e == ERR_NOTFOUND) /* damaged; or deleted since it was listed */
            continue;
        if (e)
            return e;
        snapread_info(a->base, info);
        if (info->header.time_ms <= a->q.time_ms || !a->q.time_ms)
            return ERR_OK;
        snapread_unref(a->base);
        a->base = NULL;
        memset(info, 0, sizeof *info);
    }
    pin(a, 1);
    return ERR_OK;
}

/* ---- open ---- */

/* The vault's counters at the moment say what had been flushed. */
static enum err look_for_flush(struct asof *a)
{
    struct bytes key = bytes_of(a->counters, a->counters_n), raw;
    struct secret_counters c = {0};
    struct blob *b = NULL;
    const struct change *ch = a->counters_n ? changes_find(a->changes, key) : NULL;
    enum err e = ERR_OK;
    if (ch && !ch->tombstone && (e = changes_value(ch, a->rd, &raw)) == ERR_OK)
        e = secret_counters_get(raw, &c);
    if (a->counters_n && !ch && a->base) {
        e = snapread_get(a->base, a->q.vault->store, bytes_of(key.p + STORE_BYTES, key.n - STORE_BYTES), &b);
        e = e == ERR_NOTFOUND ? ERR_OK : e ? e : secret_counters_get(blob_bytes(b), &c);
        blob_unref(b);
    }
    a->flushed_lsn = c.flushed_lsn;
    return e;
}

static enum err read_log(struct asof *a, const struct snapread_info *info, const struct kept *k, char *why, size_t n)
{
    struct changes_stretch s = {.from = info->header.lsn + 1,
                                .to = a->q.lsn       ? a->q.lsn
                                      : a->q.time_ms ? k->commit
                                                     : info->header.lsn,
                                .until_ms = a->q.time_ms,
                                .under = under_of(a),
                                .also = bytes_of(a->counters, a->counters_n),
                                .stop = a->q.stop,
                                .arg = a->q.arg};
    if (s.from <= s.to && (!k->log_first || k->log_first > s.from))
        return refuse_gone(k, info->header.lsn, why, n);
    enum err e = changes_add_log(a->changes, a->e->wal, &s);
    if (!e)
        e = changes_sort(a->changes);
    if (!e)
        e = look_for_flush(a);
    a->moment = (struct asof_moment){.lsn = s.last.lsn ? s.last.lsn : info->header.lsn,
                                     .time_ms = a->q.time_ms ? a->q.time_ms
                                                : s.last.lsn ? s.last.time_ms
                                                             : info->header.time_ms,
                                     .snapshot_lsn = info->header.lsn};
    if (!e && !a->moment.lsn) /* the very first record is stamped later */
        return refuse(why, n, "nothing here is as old as that");
    return e;
}

static enum err try_open(struct asof *a, char *why, size_t n)
{
    struct snapread_info info;
    struct kept k;
    look(a, &k);
    if (a->q.lsn > k.commit)
        return refuse(why, n, "the log ends at LSN %llu", (unsigned long long)k.commit);
    if (a->q.time_ms > clock_wall_ms())
        return refuse(why, n, "that time is still to come");
    enum err e = changes_new(&a->changes);
    if (!e)
        e = choose(a, &k, &info);
    if (!e && !a->base && !a->q.lsn && !a->q.time_ms)
        return refuse(why, n, "there is no snapshot yet: SNAPSHOT.CREATE makes one");
    return e ? e : read_log(a, &info, &k, why, n);
}

static void forget_try(struct asof *a)
{
    snapread_unref(a->base);
    a->base = NULL;
    changes_free(a->changes);
    a->changes = NULL;
}

/* Heads of the vault whose paths begin so, with the store in front. */
static void make_under(struct asof *a)
{
    if (!a->q.vault)
        return;
    a->under[0] = (uint8_t)(a->q.vault->store >> 8);
    a->under[1] = (uint8_t)a->q.vault->store;
    a->under_n = STORE_BYTES + secret_key_head(a->under + STORE_BYTES, a->q.vault->id, a->q.under).n;
    if (!a->q.vault->facade)
        return;
    memcpy(a->counters, a->under, STORE_BYTES);
    a->counters_n = STORE_BYTES + secret_key_counters(a->counters + STORE_BYTES, a->q.vault->id).n;
}

enum err asof_open(struct asof **out, struct engine *e, const struct asof_query *q, char *why, size_t n)
{
    struct asof *a = *out = NULL;
    why[0] = '\0';
    if (q->under.n > SECRET_PATH_MAX)
        return ERR_BADPATH;
    if (!(a = mem_zalloc(sizeof *a)))
        return ERR_OOM;
    a->e = e;
    a->q = *q;
    buf_init(&a->head, RECORD_MAX_BYTES);
    buf_init(&a->path, SECRET_PATH_MAX);
    make_under(a);
    enum err err = wal_reader_open(&a->rd, e->wal);
    for (int tries = 0; !err && tries < TRIES; tries++) {
        err = try_open(a, why, n);
        if (err != ERR_NOTFOUND)
            break;
        forget_try(a);
        err = tries + 1 < TRIES ? ERR_OK : refuse(why, n, "the log is being cut behind the snapshots: ask again");
    }
    if (err)
        asof_close(a);
    else
        *out = a;
    return err;
}

void asof_close(struct asof *a)
{
    if (!a)
        return;
    unpin(a);
    snapread_iter_free(a->it);
    forget_try(a);
    wal_reader_close(a->rd);
    buf_fini(&a->head);
    buf_fini(&a->path);
    mem_free(a);
}

void asof_moment(const struct asof *a, struct asof_moment *out)
{
    *out = a->moment;
}

/* ---- heads ---- */

/* What a flush left behind still lists what it had; what came since lists nothing that old. */
static int was_flushed(const struct asof *a, const struct secret_head *h)
{
    struct secret_version v[SECRET_VERSIONS_MAX];
    return a->flushed_lsn && h->versions && h->versions <= SECRET_VERSIONS_MAX && secret_versions_get(h, v) == ERR_OK &&
           v[h->versions - 1].lsn <= a->flushed_lsn;
}

/* key: with its store. raw is copied: where it lies may be read from again, for its values. */
static enum err give(struct asof *a, struct bytes key, struct bytes raw, struct asof_secret *s)
{
    buf_clear(&a->head);
    buf_clear(&a->path);
    enum err e = buf_put(&a->head, raw.p, raw.n);
    if (!e)
        e = buf_put(&a->path, key.p + HEAD_AT, key.n - HEAD_AT);
    s->raw = buf_bytes(&a->head);
    s->path = buf_bytes(&a->path);
    if (!e)
        e = secret_head_get(s->raw, &s->head);
    return !e && was_flushed(a, &s->head) ? ERR_NOTFOUND : e;
}

enum err asof_find(struct asof *a, struct bytes path, struct asof_secret *s)
{
    uint8_t key[KEY_BYTES];
    struct bytes value;
    struct blob *b;

    memset(s, 0, sizeof *s);
    if (path.n == 0 || path.n > SECRET_PATH_MAX)
        return ERR_BADPATH;
    memcpy(key, a->under, STORE_BYTES);
    struct bytes full = bytes_of(key, STORE_BYTES + secret_key_head(key + STORE_BYTES, a->q.vault->id, path).n);
    const struct change *ch = changes_find(a->changes, full);
    if (ch && ch->tombstone)
        return ERR_NOTFOUND;
    if (ch) {
        enum err e = changes_value(ch, a->rd, &value);
        return e ? e : give(a, full, value, s);
    }
    if (!a->base)
        return ERR_NOTFOUND;
    enum err e = snapread_get(a->base, a->q.vault->store, bytes_of(key + STORE_BYTES, full.n - STORE_BYTES), &b);
    if (!e)
        e = give(a, full, blob_bytes(b), s);
    blob_unref(b);
    return e;
}

static int begins_with(struct bytes key, struct bytes under)
{
    return key.n >= under.n && memcmp(key.p, under.p, under.n) == 0;
}

static void next_entry(struct asof *a)
{
    a->has_entry = 0;
    if (!a->it || a->entry_err)
        return;
    enum err e = snapread_iter_next(a->it, &a->entry);
    a->has_entry = !e && begins_with(a->entry.key, under_of(a));
    a->entry_err = e == ERR_END ? ERR_OK : e;
}

static enum err begin(struct asof *a)
{
    enum err e = ERR_OK;
    a->at = changes_from(a->changes, under_of(a));
    if (a->base && !a->it)
        e = snapread_iter_new(a->base, a->q.vault->store, bytes_of(a->under + STORE_BYTES, a->under_n - STORE_BYTES),
                              &a->it);
    if (e)
        return e;
    next_entry(a);
    a->begun = 1;
    return ERR_OK;
}

static const struct change *change_at(const struct asof *a)
{
    struct changes_info i;
    changes_info(a->changes, &i);
    return a->at < i.keys ? changes_at(a->changes, a->at) : NULL; /* no others than those under it were added */
}

/* The lower of the two is the next one; of the same key the change counts. */
static enum err next_or_flushed(struct asof *a, struct asof_secret *s)
{
    struct bytes value;
    enum err e = a->begun ? ERR_OK : begin(a);
    memset(s, 0, sizeof *s);
    while (!e && !(e = a->entry_err)) {
        const struct change *ch = change_at(a);
        if (!ch && !a->has_entry)
            return ERR_END;
        int order = !ch ? 1 : !a->has_entry ? -1 : bytes_compare(change_key(ch), a->entry.key);
        if (order > 0) {
            e = give(a, a->entry.key, a->entry.value, s);
            next_entry(a);
            return e;
        }
        if (order == 0)
            next_entry(a);
        a->at++;
        if (!ch->tombstone) {
            e = changes_value(ch, a->rd, &value);
            return e ? e : give(a, change_key(ch), value, s);
        }
    }
    return e;
}

enum err asof_next(struct asof *a, struct asof_secret *s)
{
    enum err e;
    while ((e = next_or_flushed(a, s)) == ERR_NOTFOUND) {
    }
    return e;
}

/* ---- values ---- */

int asof_current(const struct asof *a, const struct asof_secret *s, struct secret_version *v)
{
    memset(v, 0, sizeof *v);
    return secret_visible(&s->head, a->moment.time_ms) && s->head.current &&
           secret_version_find(&s->head, s->head.current, v) && !(v->flags & SECRET_VERSION_DELETED);
}

static enum err blob_of(struct bytes value, uint64_t lsn, struct blob **out)
{
    *out = blob_new(value, value.n, lsn);
    return *out ? ERR_OK : ERR_OOM;
}

/* What the record put under the key last. */
static enum err slot_in_log(struct asof *a, struct bytes key, uint64_t lsn, struct blob **out)
{
    struct bytes found = bytes_of(NULL, 0);
    struct record r;
    struct op op;
    enum err e = wal_reader_read(a->rd, lsn, &r);
    if (e)
        return e;
    while ((e = ops_next(&r.blob, &op)) == ERR_OK)
        if (op.kind == OPS_PUT && op.store == a->q.vault->store && bytes_equal(op.key, key))
            found = op.value;
    if (e != ERR_END)
        return e;
    return found.p ? blob_of(found, lsn, out) : ERR_NOTFOUND;
}

static enum err slot_value(struct asof *a, struct bytes path, const struct secret_version *v, struct blob **out)
{
    uint8_t buf[SECRET_KEY_MAX];
    struct bytes key = secret_key_slot(buf, a->q.vault->id, path, v->slot);
    if (v->lsn > a->moment.snapshot_lsn)
        return slot_in_log(a, key, v->lsn, out);
    enum err e = snapread_get(a->base, a->q.vault->store, key, out);
    if (e || (*out)->lsn == v->lsn)
        return e;
    blob_unref(*out);
    *out = NULL;
    return ERR_CORRUPT;
}

static enum err old_value(struct asof *a, struct bytes path, const struct secret_version *v, struct blob **out)
{
    uint8_t key[SECRET_KEY_MAX];
    struct bytes head = secret_key_head(key, a->q.vault->id, path), value;
    struct snapold o = {
        .store = a->q.vault->store, .lsn = v->lsn, .version = v->version, .middle = bytes_of(head.p + 1, head.n - 1)};
    if (v->lsn <= a->moment.snapshot_lsn) {
        enum err e = snapold_in_snapshot(a->base, &o, out);
        if (e != ERR_NOTFOUND && e != ERR_CORRUPT)
            return e;
    }
    enum err e = snapold_in_log(a->rd, &o, &value);
    return e ? e : blob_of(value, v->lsn, out);
}

enum err asof_value(struct asof *a, const struct asof_secret *s, const struct secret_version *v, struct blob **out)
{
    enum err e;
    *out = NULL;
    if (v->version == s->head.current && s->head.flags & SECRET_CURRENT_INLINE)
        e = blob_of(s->head.value.raw, v->lsn, out);
    else if (v->slot != SECRET_NO_SLOT)
        e = slot_value(a, s->path, v, out);
    else
        e = old_value(a, s->path, v, out);
    return e == ERR_NOTFOUND ? ERR_CORRUPT : e;
}

/* ---- digests ---- */

static enum err go_on(void *arg, uint64_t bytes)
{
    const struct asof_query *q = arg;
    (void)bytes;
    return q->stop && q->stop(q->arg) ? ERR_AGAIN : ERR_OK;
}

/* Of a snapshot that is not made. */
static struct snapwrite_config digest_config(struct asof_query *q, uint64_t lsn)
{
    return (struct snapwrite_config){.pace = go_on, .pace_arg = q, .header = {.lsn = lsn}};
}

enum err asof_digest(struct asof *a, uint8_t out[SNAPFILE_HASH_BYTES])
{
    struct snapwrite_config cfg = digest_config(&a->q, a->moment.lsn);
    struct snapwrite_result r = {0};
    struct snapread_info info;

    memset(out, 0, SNAPFILE_HASH_BYTES);
    if (a->moment.lsn == a->moment.snapshot_lsn) {
        snapread_info(a->base, &info);
        memcpy(out, info.digest, SNAPFILE_HASH_BYTES);
        return ERR_OK;
    }
    enum err e = snapmerge_changes(&cfg, a->base, a->changes, a->e->wal, &r);
    if (!e)
        memcpy(out, r.digest, SNAPFILE_HASH_BYTES);
    return e;
}

/* The stores must not be behind the snapshot: it has no old values of what was kept before it and not any more. */
enum err asof_stores_digest(struct engine *e, const struct asof_query *q, uint64_t *lsn,
                            uint8_t out[SNAPFILE_HASH_BYTES])
{
    struct snapread *before = e->snapshots ? snapshots_newest(e->snapshots) : NULL;
    struct snapmerge_view *view = NULL;
    struct snapwrite_result r = {0};
    struct snapread_info info = {0};
    struct asof_query query = *q;
    uint64_t commit = engine_commit_lsn(e);

    *lsn = 0;
    if (before)
        snapread_info(before, &info);
    enum err err = apply_wait_lsn(e->apply, info.header.lsn > commit ? info.header.lsn : commit);
    if (!err)
        err = engine_view(e, &view, lsn);
    struct snapwrite_config cfg = digest_config(&query, *lsn);
    if (!err)
        err = snapmerge_stores(&cfg, before, view, e->wal, &r);
    memcpy(out, r.digest, SNAPFILE_HASH_BYTES);
    snapmerge_view_free(view);
    snapread_unref(before);
    return err;
}
