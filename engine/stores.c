/* stores.c - the engine's stores: opening them, what the applier tells of them, references for readers. Which of them
 * are lost, and how they come back, is in recover.c and rebuild.c. */
#include <stdio.h>
#include <string.h>

#include "base/file.h"
#include "base/log.h"
#include "engine/engine_impl.h"
#include "engine/overlay.h"
#include "engine/room.h"
#include "engine/storedir.h"

#define ROUND_MS 2000
#define CHECKPOINT_MS 30000
#define CHECKPOINT_BYTES (256u << 20)

void engine_store_path(struct engine *e, unsigned store, uint32_t generation, int unfinished, char *out, size_t n)
{
    char name[STOREDIR_NAME_BYTES];
    storedir_name(name, store, generation, unfinished);
    snprintf(out, n, "%s/%s", e->dir, name);
}

enum err engine_store_open(struct engine *e, const char *path, struct store **out)
{
    struct store_config cfg = {.path = path, .write_buffer_bytes = e->cfg.write_buffer_bytes, .max_open_files = 100};
    return store_open(out, &cfg);
}

struct store *engine_store_take(struct engine *e, unsigned store)
{
    if (!engine_store_ok(e, store))
        return NULL;
    pthread_mutex_lock(&e->store_lock[store]);
    struct store *s = store_ref(e->stores[store]);
    pthread_mutex_unlock(&e->store_lock[store]);
    return s;
}

/* A file that is gone is ERR_IO. */
enum err engine_store_saw(struct engine *e, unsigned store, enum err err)
{
    if (err == ERR_CORRUPT || err == ERR_IO)
        rebuild_damaged(e->rebuild, store);
    return err;
}

/* *has: LevelDB has, or had, a store there. */
static enum err has_store(const char *path, int *has)
{
    char **names;
    size_t n;
    *has = 0;
    enum err err = file_list(path, &names, &n);
    if (err)
        return err == ERR_NOTFOUND ? ERR_OK : err;
    for (size_t i = 0; i < n; i++)
        *has |= strcmp(names[i], "CURRENT") == 0;
    file_free_names(names, n);
    return ERR_OK;
}

/* One that is not there any more, or does not verify, is not opened: it is lost (recover.c). */
static enum err open_store(struct engine *e, unsigned s)
{
    struct engine_path p;
    engine_store_path(e, s, e->generation[s], 0, p.s, sizeof p.s);
    int has;
    enum err err = has_store(p.s, &has);
    if (err == ERR_OK && (has || e->fresh))
        err = engine_store_open(e, p.s, &e->stores[s]);
    return err && err != ERR_CORRUPT ? engine_refuse(e, err, "cannot open the store %s", p.s) : ERR_OK;
}

enum err engine_stores_open(struct engine *e)
{
    int has_log = 0;
    enum err err = celldir_has_log(e->dir, &has_log);
    e->fresh = !has_log;
    if (err == ERR_OK)
        err = storedir_tidy(e->dir, e->generation, e->shards + 1);
    if (err)
        return engine_refuse(e, err, "cannot tidy up the stores in %s: %s", e->dir, err_text(err));
    for (unsigned s = 0; s <= e->shards && err == ERR_OK; s++)
        err = open_store(e, s);
    return err;
}

static void on_applied(void *arg, uint64_t lsn)
{
    struct engine *e = arg;
    struct sequencer *q = atomic_load(&e->seq);
    if (q)
        sequencer_applied(q);
    if (e->cfg.on_applied)
        e->cfg.on_applied(e->cfg.arg, lsn);
}

static void on_store_failure(void *arg, unsigned store, enum err err)
{
    struct engine *e = arg;
    atomic_store(&e->store_failed[store], 1);
    engine_logf(e, LOG_WARNING, "%s %u failed (%s): it is rebuilt, and read from snapshot and log meanwhile",
                store ? "shard" : "base store", store ? store - 1 : 0, err_name(err));
    rebuild_failed(e->rebuild, store);
}

/* What stands for stores that are out keeps up. When it cannot, it answers LOADING by itself. */
static void on_round(void *arg, uint64_t lsn)
{
    struct engine *e = arg;
    struct overlay *o = engine_overlay_take(e);
    enum err err = o ? overlay_advance(o, lsn) : ERR_OK;
    if (err && err != ERR_LOADING)
        engine_logf(e, LOG_WARNING,
                    "the log cannot be followed (%s): what is not in memory is not answered until the "
                    "stores are filled",
                    err_name(err));
    overlay_unref(o);
}

static int has_room(void *arg)
{
    struct engine *e = arg;
    return room_free(e->dir) >= room_for_stores(hot_dirty_bytes(e->hot));
}

static void on_stall(void *arg, int stalled)
{
    struct engine *e = arg;
    if (stalled)
        engine_logf(e, LOG_WARNING,
                    "only %llu MiB of the disk are free: nothing is written to the stores until there is room",
                    (unsigned long long)room_free(e->dir) >> 20);
    else
        engine_logf(e, LOG_NOTICE, "there is room on the disk again: writing to the stores goes on");
}

enum err engine_stores_apply(struct engine *e)
{
    struct apply_config cfg = {.hot = e->hot,
                               .stores = e->stores,
                               .store_count = e->shards + 1,
                               .round_bytes = e->cfg.dirty_bytes / 3 * 2,
                               .round_ms = ROUND_MS,
                               .checkpoint_ms = CHECKPOINT_MS,
                               .checkpoint_bytes = CHECKPOINT_BYTES,
                               .on_applied = on_applied,
                               .on_failure = on_store_failure,
                               .on_round = on_round,
                               .has_room = has_room,
                               .on_stall = on_stall,
                               .arg = e};
    return apply_start(&e->apply, &cfg);
}

int engine_stores_whole(struct engine *e)
{
    for (unsigned s = 0; s <= e->shards; s++)
        if (e->stores[s] && atomic_load(&e->store_failed[s]))
            return 0;
    return 1;
}

int engine_stores_synced(struct engine *e)
{
    for (unsigned s = 0; s <= e->shards; s++)
        if (!e->stores[s] || store_checkpointed(e->stores[s]) != store_applied(e->stores[s]))
            return 0;
    return engine_stores_whole(e);
}
