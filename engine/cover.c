/* cover.c - what stands for stores that are out (overlay.h): made while the server runs, followed down to an older
 * snapshot when the one below it has damage. A start makes it in recover.c.
 */
#include "engine/engine_impl.h"

#include "base/log.h"
#include "engine/overlay.h"

struct overlay *engine_overlay_take(struct engine *e)
{
    pthread_mutex_lock(&e->overlay_lock);
    struct overlay *o = e->overlay ? overlay_ref(e->overlay) : NULL;
    pthread_mutex_unlock(&e->overlay_lock);
    return o;
}

void engine_overlay_set(struct engine *e, struct overlay *o)
{
    pthread_mutex_lock(&e->overlay_lock);
    struct overlay *old = e->overlay;
    e->overlay = o;
    pthread_mutex_unlock(&e->overlay_lock);
    overlay_unref(old);
}

/* ---- made ---- */

/* As the applier is, between two rounds; from then on each round brings it along. */
static enum err install(struct engine *e, struct overlay *o)
{
    enum err err = overlay_advance(o, apply_lsn(e->apply)); /* most of it beside traffic */
    uint64_t lsn = apply_pause(e->apply);
    if (err == ERR_OK)
        err = overlay_advance(o, lsn);
    if (err == ERR_OK)
        engine_overlay_set(e, o);
    apply_resume(e->apply);
    return err;
}

void engine_cover(struct engine *e, int anew)
{
    struct snapread_info info = {0};
    struct overlay *o = engine_overlay_take(e);
    struct wal_info w;
    int covered = o != NULL; /* it is of all stores */
    overlay_unref(o);
    if (covered && !anew)
        return;
    struct snapread *r = NULL;
    if (e->snapshots && snapshots_open_below(e->snapshots, UINT64_MAX, &r) == ERR_OK)
        snapread_info(r, &info);
    wal_info(e->wal, &w);
    enum err err = info.header.lsn + 1 >= w.first_lsn ? apply_wait_lsn(e->apply, info.header.lsn) : ERR_NOTFOUND;
    if (err == ERR_OK)
        err = overlay_new(&o, e->wal, r);
    if (err)
        snapread_unref(r);
    else if ((err = install(e, o)) != ERR_OK)
        overlay_unref(o);
    if (err)
        engine_logf(e, LOG_WARNING, "until the store is rebuilt, what is not in memory is answered CORRUPT: %s",
                    err == ERR_NOTFOUND ? "no snapshot verifies that reaches the log" : err_text(err));
}

/* ---- mended ---- */

static enum err lower_to(struct overlay *o, struct snapread *older)
{
    enum err err = overlay_fall_back(o, older);
    if (err == ERR_OK && older)
        snapread_ref(older);
    if (err == ERR_NOTFOUND || err == ERR_CORRUPT) {
        overlay_is_last(o);
        err = ERR_OK;
    }
    return err;
}

enum err engine_cover_lower(struct engine *e, uint64_t damaged_lsn)
{
    struct overlay *o = engine_overlay_take(e);
    struct snapread *older = NULL;
    enum err err = ERR_OK;
    if (o && overlay_base_lsn(o) == damaged_lsn && damaged_lsn) {
        err = snapshots_open_below(e->snapshots, damaged_lsn, &older);
        if (err == ERR_OK || err == ERR_NOTFOUND)
            err = lower_to(o, older);
        snapread_unref(older);
        if (err == ERR_OK)
            engine_logf(e, LOG_WARNING, "the snapshot at LSN %llu has damage: reads go to LSN %llu and the log",
                        (unsigned long long)damaged_lsn, (unsigned long long)overlay_base_lsn(o));
    }
    overlay_unref(o);
    return err;
}

enum err engine_cover_mend(struct engine *e)
{
    struct overlay *o = engine_overlay_take(e);
    enum err err = ERR_OK;
    if (o && overlay_wants_older(o)) {
        uint64_t lsn = overlay_base_lsn(o);
        snapshots_damaged(e->snapshots, lsn);
        err = engine_cover_lower(e, lsn);
    }
    overlay_unref(o);
    return err;
}
