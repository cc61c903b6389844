/* storefill.c - see storefill.h. */
#include "engine/storefill.h"

#include "engine/apply.h"
#include "engine/secret.h"

#define BATCH_BYTES ((size_t)1 << 20)

static enum err write_to(struct storefill *f, uint64_t lsn)
{
    enum err e = f->go_on ? f->go_on(f) : ERR_OK;
    return e ? e : store_write(f->st, f->batch, lsn);
}

enum err storefill_snapshot(struct storefill *f, struct snapread *r)
{
    struct snapread_info info;
    struct snapread_iter *it;
    struct snapfile_entry entry;
    enum err e = snapread_iter_new(r, (uint16_t)f->store, bytes_of(NULL, 0), &it);

    snapread_info(r, &info);
    while (!e && (e = snapread_iter_next(it, &entry)) == ERR_OK) {
        if ((unsigned)(entry.key.p[0] << 8 | entry.key.p[1]) != f->store)
            break;
        struct bytes key = bytes_of(entry.key.p + 2, entry.key.n - 2);
        f->seen++;
        if (f->store && key.p[0] == SECRET_KEY_OLD)
            continue;
        store_batch_put(f->batch, key, entry.value, entry.lsn);
        f->entries++;
        if (store_batch_bytes(f->batch) >= BATCH_BYTES)
            e = write_to(f, store_applied(f->st));
    }
    snapread_iter_free(it);
    if (!e || e == ERR_END)
        e = write_to(f, info.header.lsn);
    if (!e)
        f->lsn = info.header.lsn;
    return e;
}

enum err storefill_log(struct storefill *f, struct wal_cursor *c, uint64_t to)
{
    struct record r;
    struct bytes raw;
    uint64_t at = f->lsn;
    enum err e = ERR_OK;

    while (!e && at < to) {
        if ((e = wal_cursor_next(c, &r, &raw)) != ERR_OK ||
            (e = apply_record_batch(f->batch, &r, f->store, f->store_count)) != ERR_OK)
            break;
        at = r.lsn;
        f->records++;
        if (store_batch_bytes(f->batch) < BATCH_BYTES && at % 1024 && at != to)
            continue;
        if ((e = write_to(f, at)) == ERR_OK)
            f->lsn = at;
    }
    return e == ERR_END ? ERR_INTERNAL : e; /* `to` is durable, so it cannot end before */
}
