/* snapmerge.c - see snapmerge.h.
 *
 * Three streams in order of keys, and the lowest key of them is the next of the file:
 *
 *     before    the entries of the snapshot before
 *     newer     what changed since, or everything (snapsource.h)
 *     old       the old keys that the heads in newer want (snapold.h), from a second pass over newer
 *
 *     key in    what happens
 *     newer     its value goes into the file, or nothing for a tombstone; what before has gives way
 *     old       before's entry stays; without one the value is looked for in before's heads and in the log
 *     before    stays, unless it is an old value of a head that newer covers, and not wanted by it any more
 *
 * newer has no old keys and old has no others, so a key is in one of the two at most.
 *
 * With the stores, newer covers everything: of before only old values are of any use, and it is moved past the rest. It
 * may be damaged: then it is given up as a stream, and what is wanted is looked up one by one, or found in the log.
 *
 * Rejected: gathering old values with the changes while the log is read (an entry for each overwrite, in memory, though
 * only a few versions of a path are kept); keeping the wanted old keys of all changed heads in memory instead of
 * reading these heads twice (ten versions a head are more than the head's own entry in changes).
 */
#include "engine/snapmerge.h"

#include "base/mem.h"
#include "engine/secret.h"
#include "engine/snapold.h"

#define STORE_BYTES 2

struct merge {
    struct snapwrite *w;
    struct snapread *source; /* the snapshot before, or NULL */
    uint64_t source_lsn;
    int carry; /* the digest began as before's: what stays is in it, what goes is to be taken off */
    struct snapread_iter *it, *heads_it; /* of before: as a stream; for single heads */
    int unreadable_is_lost;
    struct snapsource *newer;
    struct snapold_list list;
    struct wal_reader *rd;
    struct buf head_key;

    int has_before, has_newer, has_old;
    struct snapfile_entry before;
    struct snapsource_item item;
    struct snapold_wanted old;
    uint64_t lost;
};

/* ---- the streams ---- */

static enum err end_is_ok(enum err e, int *has)
{
    *has = e == ERR_OK;
    return e == ERR_END ? ERR_OK : e;
}

/* Only old values are wanted: from a key in front of them, or behind them, to the next store's. */
static enum err skip_to_old(struct merge *m, struct bytes from)
{
    uint8_t kind = SECRET_KEY_OLD;
    unsigned store = (unsigned)from.p[0] << 8 | from.p[1];
    if (store == 0 || from.p[STORE_BYTES] > SECRET_KEY_OLD)
        store++;
    snapread_iter_free(m->it);
    m->it = NULL;
    return store > UINT16_MAX ? ERR_OK : snapread_iter_new(m->source, (uint16_t)store, bytes_of(&kind, 1), &m->it);
}

static enum err next_before(struct merge *m)
{
    struct snapold o;
    enum err e = ERR_OK;
    m->has_before = 0;
    while (m->it && !m->has_before && !e) {
        e = end_is_ok(snapread_iter_next(m->it, &m->before), &m->has_before);
        if (e || !m->has_before)
            break;
        if (m->carry || snapold_parse(m->before.key, &o))
            return ERR_OK;
        m->has_before = 0;
        e = skip_to_old(m, m->before.key);
    }
    if (!m->carry && (e == ERR_CORRUPT || e == ERR_IO)) /* as a stream it is of no more use */
        e = ERR_OK;
    if (!m->has_before) {
        snapread_iter_free(m->it);
        m->it = NULL;
    }
    return e;
}

static enum err next_newer(struct merge *m)
{
    return end_is_ok(m->newer->next(m->newer, &m->item), &m->has_newer);
}

static enum err next_old(struct merge *m)
{
    return end_is_ok(snapold_list_next(&m->list, &m->old), &m->has_old);
}

/* ---- a key ---- */

static enum err put_newer(struct merge *m, int in_before)
{
    struct snapfile_entry entry = {.key = m->item.key, .lsn = m->item.lsn};
    if (in_before && m->carry)
        snapfile_digest_sub(snapwrite_digest(m->w), &m->before);
    if (m->item.tombstone)
        return ERR_OK;
    enum err e = m->newer->value(m->newer, &entry.value);
    return e ? e : snapwrite_add(m->w, &entry);
}

/* Where most of what has just become old is: in the head that the snapshot before has. */
static enum err in_head_before(struct merge *m, const struct snapold *o, struct bytes *value)
{
    struct snapfile_entry head;
    buf_clear(&m->head_key);
    enum err e = snapold_head_key(o, &m->head_key);
    struct bytes key = buf_bytes(&m->head_key);
    if (!e && !m->heads_it)
        e = snapread_iter_new(m->source, o->store, bytes_of(key.p + STORE_BYTES, key.n - STORE_BYTES), &m->heads_it);
    else if (!e)
        e = snapread_iter_seek(m->heads_it, o->store, bytes_of(key.p + STORE_BYTES, key.n - STORE_BYTES));
    if (!e)
        e = snapread_iter_next(m->heads_it, &head);
    if (!e && bytes_equal(head.key, key))
        return snapold_in_head(head.value, o, value);
    return e && e != ERR_END ? e : ERR_NOTFOUND;
}

/* Everywhere else, one by one. What the snapshot before does not say for sure, the log may. A value that neither has is
 * lost, and has been since the damage: without it the rest goes on, or nothing would ever be trimmed again. */
static enum err put_searched(struct merge *m, const struct snapold *o, struct snapfile_entry *entry)
{
    struct blob *b = NULL;
    enum err e = ERR_NOTFOUND, logged;
    if (m->source && o->lsn <= m->source_lsn)
        e = snapold_in_snapshot(m->source, o, &b);
    if (!e) {
        entry->value = blob_bytes(b);
    } else {
        logged = snapold_in_log(m->rd, o, &entry->value);
        e = logged == ERR_NOTFOUND ? e : logged;
    }
    if (!e)
        e = snapwrite_add(m->w, entry);
    blob_unref(b);
    if (e != ERR_NOTFOUND && e != ERR_CORRUPT && !(e == ERR_IO && m->unreadable_is_lost && !snapwrite_failure(m->w)))
        return e;
    m->lost++;
    return ERR_OK;
}

static enum err put_found(struct merge *m)
{
    struct snapfile_entry entry = {.key = m->old.key, .value = m->old.value};
    struct snapold o;
    int found = m->old.has_value;

    (void)!snapold_parse(m->old.key, &o);
    entry.lsn = o.lsn;
    if (!found && m->source && o.lsn <= m->source_lsn)
        found = in_head_before(m, &o, &entry.value) == ERR_OK;
    return found ? snapwrite_add(m->w, &entry) : put_searched(m, &o, &entry);
}

static enum err put_before(struct merge *m)
{
    return m->carry ? snapwrite_add_known(m->w, &m->before) : snapwrite_add(m->w, &m->before);
}

/* An entry that neither newer nor old speaks of. */
static enum err keep_or_drop(struct merge *m)
{
    struct snapold o;
    if (!snapold_parse(m->before.key, &o))
        return put_before(m);
    buf_clear(&m->head_key);
    enum err e = snapold_head_key(&o, &m->head_key);
    if (e)
        return e;
    if (!m->newer->covers(m->newer, buf_bytes(&m->head_key)))
        return put_before(m);
    if (m->carry)
        snapfile_digest_sub(snapwrite_digest(m->w), &m->before);
    return ERR_OK;
}

static int is_lowest(int has, struct bytes key, struct bytes lowest)
{
    return has && bytes_equal(key, lowest);
}

static struct bytes lower(int has, struct bytes key, struct bytes lowest)
{
    return has && (!lowest.p || bytes_compare(key, lowest) < 0) ? key : lowest;
}

static enum err put_lowest(struct merge *m)
{
    struct bytes lowest = lower(m->has_before, m->before.key, bytes_of(NULL, 0));
    lowest = lower(m->has_newer, m->item.key, lowest);
    lowest = lower(m->has_old, m->old.key, lowest);
    if (!lowest.p)
        return ERR_END;
    int in_before = is_lowest(m->has_before, m->before.key, lowest);
    int in_newer = is_lowest(m->has_newer, m->item.key, lowest), in_old = is_lowest(m->has_old, m->old.key, lowest);
    enum err e = in_newer              ? put_newer(m, in_before)
                 : !in_old             ? keep_or_drop(m)
                 : in_old && in_before ? put_before(m)
                                       : put_found(m);
    if (!e && in_before)
        e = next_before(m);
    if (!e && in_newer)
        e = next_newer(m);
    if (!e && in_old)
        e = next_old(m);
    return e;
}

static enum err put_all(struct merge *m)
{
    enum err e = next_before(m);
    if (!e)
        e = next_newer(m);
    if (!e)
        e = next_old(m);
    while (!e)
        e = put_lowest(m);
    return e == ERR_END ? ERR_OK : e;
}

/* ---- a file ---- */

static enum err open_all(struct merge *m, const struct snapwrite_config *cfg, struct snapread *before,
                         struct snapsource *heads, struct wal *w)
{
    struct snapread_info info = {0};
    enum err e = snapwrite_open(&m->w, cfg);
    if (!e)
        e = wal_reader_open(&m->rd, w);
    if (e)
        return e;
    if (before)
        snapread_info(before, &info);
    snapold_list_init(&m->list, heads, m->rd, info.header.lsn);
    m->source = before;
    m->source_lsn = info.header.lsn;
    if (m->carry)
        memcpy(snapwrite_digest(m->w), info.digest, sizeof info.digest);
    return before ? snapread_iter_new(before, 0, bytes_of(NULL, 0), &m->it) : ERR_OK;
}

/* newer and heads: two sources over the same. */
static enum err make(const struct snapwrite_config *cfg, struct snapread *before, struct snapsource *newer,
                     struct snapsource *heads, int carry, struct wal *w, struct snapwrite_result *out)
{
    struct merge m = {.newer = newer, .carry = carry, .unreadable_is_lost = cfg->unreadable_is_lost};
    buf_init(&m.head_key, SIZE_MAX / 2);
    enum err e = open_all(&m, cfg, before, heads, w);
    if (!e)
        e = put_all(&m);
    int unreadable = e == ERR_IO && m.w && !snapwrite_failure(m.w);
    if (!e) {
        e = snapwrite_finish(m.w, out);
        out->lost = m.lost;
        m.w = NULL;
    }
    out->unreadable = unreadable;
    snapwrite_abandon(m.w);
    snapread_iter_free(m.it);
    snapread_iter_free(m.heads_it);
    snapold_list_fini(&m.list);
    wal_reader_close(m.rd);
    buf_fini(&m.head_key);
    return e;
}

static int is_the_stretch(const struct snapwrite_config *cfg, struct snapread *before, const struct changes *c)
{
    struct snapread_info info = {0};
    struct changes_info range;
    if (before)
        snapread_info(before, &info);
    changes_info(c, &range);
    return range.last_lsn == cfg->header.lsn && range.first_lsn <= info.header.lsn + 1 &&
           cfg->header.lsn > info.header.lsn;
}

enum err snapmerge_changes(const struct snapwrite_config *cfg, struct snapread *before, const struct changes *c,
                           struct wal *w, struct snapwrite_result *out)
{
    struct snapsource *newer = NULL, *heads = NULL;
    memset(out, 0, sizeof *out);
    if (!is_the_stretch(cfg, before, c))
        return ERR_RANGE;
    enum err e = snapsource_of_changes(&newer, c, 0, w);
    if (!e)
        e = snapsource_of_changes(&heads, c, SECRET_KEY_HEAD, w);
    if (!e)
        e = make(cfg, before, newer, heads, 1, w, out);
    snapsource_close(newer);
    snapsource_close(heads);
    return e;
}

struct snapmerge_view {
    struct snapsource *newer, *heads;
};

enum err snapmerge_view_new(struct snapmerge_view **out, struct store *const *stores, unsigned count)
{
    *out = NULL;
    struct snapmerge_view *v = mem_zalloc(sizeof *v);
    if (!v)
        return ERR_OOM;
    enum err e = snapsource_of_stores(&v->newer, stores, count);
    if (!e)
        e = snapsource_of_stores(&v->heads, stores, count);
    if (e)
        snapmerge_view_free(v);
    else
        *out = v;
    return e;
}

void snapmerge_view_free(struct snapmerge_view *v)
{
    if (!v)
        return;
    snapsource_close(v->newer);
    snapsource_close(v->heads);
    mem_free(v);
}

enum err snapmerge_stores(const struct snapwrite_config *cfg, struct snapread *before, struct snapmerge_view *v,
                          struct wal *w, struct snapwrite_result *out)
{
    memset(out, 0, sizeof *out);
    return make(cfg, before, v->newer, v->heads, 0, w, out);
}
