/* snap_world.h - a small cell without a server, for the tests of both ways to a snapshot: random writes to secrets go
 * into a log, into stores through hot table and applier, into changes, and into a model that knows every value. The
 * model says what a snapshot must hold.
 *
 * Values are random bytes in place of sealed ones. Heads are made by secret.h's codecs, by the rules of steps_secret.c.
 */
#ifndef COFFER_TESTS_SNAP_WORLD_H
#define COFFER_TESTS_SNAP_WORLD_H

#include "snap_fixture.h"

#include "engine/apply.h"
#include "engine/ops.h"
#include "engine/secret.h"
#include "engine/snapmerge.h"

#define SW_STORES 3
#define SW_PATHS 24
#define SW_VERSIONS 5 /* kept of a secret */
#define SW_VAULT 77   /* and the store: a vault is in one */

struct sw_version {
    struct secret_version v;
    struct bytes value; /* malloced */
};

struct sw_secret {
    struct bytes path;
    uint16_t store;
    int exists, in_head;
    uint32_t last, current;
    unsigned n;
    struct sw_version versions[SW_VERSIONS + 1];
};

struct sw_world {
    char dir[FX_DIR_BYTES];
    struct store *stores[SW_STORES];
    struct hot *hot;
    struct apply *apply;
    struct wal *w;
    uint8_t chain[RECORD_CHAIN_BYTES];
    uint64_t lsn;
    struct buf ops, records; /* of the record, of the group that are being made */
    uint32_t in_group;
    struct sx_set kv; /* what the stores must hold, keys with their store */
    struct sw_secret secrets[SW_PATHS], *last;
    struct changes *changes; /* since they were taken last */
};

/* ---- paths ---- */

/* Some that go on from others with zero bytes, so that LSNs decide the order of their old keys. */
fx_unused static void sw_make_paths(struct sw_world *sw)
{
    static const struct {
        const char *p;
        size_t n;
    } odd[] = {{"a", 1},
               {"a\0", 2},
               {"a\0\0", 3},
               {"a\0\0\0", 4},
               {"a\0\0\0\0\0\0\0", 8},
               {"a\0\0\0\0\0\0\0\x20", 9},
               {"a\0\0\0\0\0\0\0\x80zz", 11},
               {"a\0\0\0\0\0\0\1", 8},
               {"a\0b", 3},
               {"a\1", 2},
               {"ab", 2},
               {"\0", 1},
               {"\0\0\0", 3}};
    char path[32];
    for (size_t i = 0; i < SW_PATHS; i++) {
        int n = snprintf(path, sizeof path, "app/%zu", i / 2);
        struct bytes p = i < sizeof odd / sizeof *odd ? bytes_of(odd[i].p, odd[i].n) : bytes_of(path, (size_t)n);
        sw->secrets[i].path = sx_copy(p);
        sw->secrets[i].store = (uint16_t)(i < sizeof odd / sizeof *odd ? 1 : 1 + i % 2);
    }
}

/* ---- opening, closing ---- */

fx_unused static void sw_open_stores(struct sw_world *sw)
{
    char path[512], name[8];
    for (unsigned i = 0; i < SW_STORES; i++) {
        snprintf(name, sizeof name, "%u", i);
        fx_path(path, sw->dir, name);
        struct store_config cfg = {.path = path, .write_buffer_bytes = 64 << 10};
        assert_int_equal(store_open(&sw->stores[i], &cfg), ERR_OK);
    }
    struct apply_config cfg = {.hot = sw->hot,
                               .stores = sw->stores,
                               .store_count = SW_STORES,
                               .round_bytes = SIZE_MAX,
                               .round_ms = 3600 * 1000};
    assert_int_equal(apply_start(&sw->apply, &cfg), ERR_OK);
}

fx_unused static struct sw_world *sw_new(void)
{
    char path[512];
    struct sw_world *sw = calloc(1, sizeof *sw);
    assert_non_null(sw);
    fx_make_dir(sw->dir);
    assert_int_equal(hot_new(&sw->hot, 1 << 20), ERR_OK);
    sw_open_stores(sw);
    fx_path(path, sw->dir, "wal");
    struct wal_config cfg = fx_config(path, 16 << 10);
    sw->w = fx_open(&cfg, NULL);
    buf_init(&sw->ops, RECORD_MAX_BYTES);
    buf_init(&sw->records, 64 << 20);
    assert_int_equal(changes_new(&sw->changes), ERR_OK);
    sw_make_paths(sw);
    return sw;
}

fx_unused static void sw_drop_versions(struct sw_secret *s)
{
    while (s->n)
        free((void *)(uintptr_t)s->versions[--s->n].value.p);
}

fx_unused static void sw_free(struct sw_world *sw)
{
    char cmd[FX_DIR_BYTES + 16];
    apply_stop(sw->apply);
    hot_free(sw->hot);
    for (unsigned i = 0; i < SW_STORES; i++)
        store_close(sw->stores[i]);
    wal_close(sw->w);
    changes_free(sw->changes);
    buf_fini(&sw->ops);
    buf_fini(&sw->records);
    sx_clear(&sw->kv);
    for (size_t i = 0; i < SW_PATHS; i++) {
        sw_drop_versions(&sw->secrets[i]);
        free((void *)(uintptr_t)sw->secrets[i].path.p);
    }
    snprintf(cmd, sizeof cmd, "rm -r %s", sw->dir);
    assert_int_equal(system(cmd), 0);
    free(sw);
}

/* ---- operations: into the record, and into the model ---- */

fx_unused static struct bytes sw_full_key(uint8_t *out, uint16_t store, struct bytes key)
{
    out[0] = (uint8_t)(store >> 8);
    out[1] = (uint8_t)store;
    memcpy(out + 2, key.p, key.n);
    return bytes_of(out, key.n + 2);
}

fx_unused static void sw_forget(struct sw_world *sw, struct bytes full)
{
    for (size_t i = 0; i < sw->kv.n; i++)
        if (bytes_equal(sw->kv.at[i].key, full)) {
            free((void *)(uintptr_t)sw->kv.at[i].key.p);
            free((void *)(uintptr_t)sw->kv.at[i].value.p);
            sw->kv.at[i] = sw->kv.at[--sw->kv.n];
            return;
        }
}

fx_unused static void sw_put(struct sw_world *sw, uint16_t store, struct bytes key, struct bytes value)
{
    uint8_t full[SECRET_KEY_MAX + 2];
    assert_int_equal(ops_put(&sw->ops, store, key, value), ERR_OK);
    sw_forget(sw, sw_full_key(full, store, key));
    sx_add(&sw->kv, sw_full_key(full, store, key), value, sw->lsn);
}

fx_unused static void sw_delete(struct sw_world *sw, uint16_t store, struct bytes key)
{
    uint8_t full[SECRET_KEY_MAX + 2];
    assert_int_equal(ops_delete(&sw->ops, store, key), ERR_OK);
    sw_forget(sw, sw_full_key(full, store, key));
}

/* ---- secrets ---- */

fx_unused static void sw_put_head(struct sw_world *sw, struct sw_secret *s)
{
    uint8_t key[SECRET_KEY_MAX], list[(SW_VERSIONS + 1) * SECRET_VERSION_BYTES_MAX], raw[8192];
    struct secret_version v[SW_VERSIONS + 1];
    struct secret_head h = {.last_version = s->last, .current = s->current, .versions = (uint16_t)s->n};
    h.expires_ms = sx_random() % 3;
    for (unsigned i = 0; i < s->n; i++) {
        v[i] = s->versions[i].v;
        if (s->in_head && s->versions[i].v.version == s->current)
            h.value.raw = s->versions[i].value;
    }
    h.version_bytes = bytes_of(list, secret_versions_put(list, v, s->n));
    h.flags = s->in_head ? SECRET_CURRENT_INLINE : 0;
    secret_head_put(&h, raw);
    sw_put(sw, s->store, secret_key_head(key, SW_VAULT + s->store, s->path), bytes_of(raw, secret_head_size(&h)));
}

fx_unused static void sw_drop_version(struct sw_world *sw, struct sw_secret *s, unsigned i)
{
    uint8_t key[SECRET_KEY_MAX];
    struct sw_version gone = s->versions[i];
    memmove(&s->versions[i], &s->versions[i + 1], (s->n - i - 1) * sizeof gone);
    s->n--;
    if (gone.v.slot != SECRET_NO_SLOT)
        sw_delete(sw, s->store, secret_key_slot(key, SW_VAULT + s->store, s->path, gone.v.slot));
    if (gone.v.version == s->current) {
        s->in_head = 0;
        s->current = s->n ? s->versions[s->n - 1].v.version : 0;
    }
    free((void *)(uintptr_t)gone.value.p);
}

fx_unused static uint16_t sw_free_slot(const struct sw_secret *s)
{
    for (uint16_t slot = 0;; slot++) {
        unsigned i = 0;
        while (i < s->n && s->versions[i].v.slot != slot)
            i++;
        if (i == s->n)
            return slot;
    }
}

fx_unused static void sw_set(struct sw_world *sw, struct sw_secret *s, int apart, int pending)
{
    uint8_t key[SECRET_KEY_MAX], value[3000];
    size_t n = 1 + sx_random() % (apart ? sizeof value : 200);
    for (size_t i = 0; i < n; i++)
        value[i] = (uint8_t)sx_random();
    while (s->n >= SW_VERSIONS)
        sw_drop_version(sw, s, pending && s->versions[0].v.version == s->current);
    uint16_t slot = apart || pending ? sw_free_slot(s) : SECRET_NO_SLOT;
    s->versions[s->n++] = (struct sw_version){
        .v = {.version = ++s->last, .sealed_bytes = (uint32_t)n, .created_ms = sw->lsn, .lsn = sw->lsn, .slot = slot},
        .value = sx_copy(bytes_of(value, n))};
    if (!pending) {
        s->current = s->last;
        s->in_head = slot == SECRET_NO_SLOT;
    }
    s->exists = 1;
    if (slot != SECRET_NO_SLOT)
        sw_put(sw, s->store, secret_key_slot(key, SW_VAULT + s->store, s->path, slot), bytes_of(value, n));
    sw_put_head(sw, s);
}

fx_unused static void sw_destroy(struct sw_world *sw, struct sw_secret *s)
{
    uint8_t key[SECRET_KEY_MAX];
    while (s->n)
        sw_drop_version(sw, s, 0);
    s->exists = 0;
    sw_delete(sw, s->store, secret_key_head(key, SW_VAULT + s->store, s->path));
    if (sx_random() % 2)
        s->last = 0; /* a vault of the facade: versions begin anew */
}

fx_unused static void sw_step(struct sw_world *sw)
{
    struct sw_secret *s = sw->last && sx_random() % 2 ? sw->last : &sw->secrets[sx_random() % SW_PATHS];
    uint64_t what = sx_random() % 100;
    char key[16];
    sw->last = s; /* several steps on a path in one record are what needs care */
    int n = snprintf(key, sizeof key, "%cthing%u", "VDho"[sx_random() % 4], (unsigned)(sx_random() % 10));
    if (what < 55 || (!s->exists && what < 88))
        sw_set(sw, s, what % 8 == 0, what % 8 == 1);
    else if (what < 65 && s->n > 1) { /* a rollback */
        s->current = s->versions[sx_random() % s->n].v.version;
        s->in_head = 0;
        sw_put_head(sw, s);
    } else if (what < 75 && s->n > 1) {
        sw_drop_version(sw, s, (unsigned)(sx_random() % s->n));
        sw_put_head(sw, s);
    } else if (what < 83 && s->exists)
        sw_put_head(sw, s); /* an expiry, a label */
    else if (what < 88 && s->exists)
        sw_destroy(sw, s);
    else if (what < 97) /* the base store, with keys that would mean something in a shard */
        sw_put(sw, 0, bytes_of(key, (size_t)n), bytes_of(key, sx_random() % 5));
    else
        sw_delete(sw, 0, bytes_of(key, (size_t)n));
}

/* ---- records ---- */

/* The record that was being made is one of the group. */
fx_unused static void sw_end_record(struct sw_world *sw)
{
    struct record r = {.lsn = sw->lsn, .term = 3, .type = RECORD_TXN, .blob = buf_bytes(&sw->ops)};
    r.time_ms = 1767225600000 + sw->lsn;
    assert_int_equal(record_put(&sw->records, &r, sw->chain), ERR_OK);
    memcpy(sw->chain, r.chain, sizeof sw->chain);
    assert_int_equal(apply_record(sw->hot, &r, NULL, SW_STORES), ERR_OK);
    assert_int_equal(changes_add(sw->changes, &r), ERR_OK);
    buf_clear(&sw->ops);
    sw->in_group++;
}

fx_unused static void sw_end_group(struct sw_world *sw)
{
    uint64_t first = sw->lsn + 1 - sw->in_group;
    assert_int_equal(wal_append(sw->w, buf_bytes(&sw->records), sw->in_group, first, sw->chain), ERR_OK);
    hot_set_published(sw->hot, sw->lsn);
    apply_kick(sw->apply);
    buf_clear(&sw->records);
    sw->in_group = 0;
}

/* n records, in groups, of none to four steps each. */
fx_unused static void sw_run(struct sw_world *sw, unsigned n)
{
    while (n--) {
        sw->lsn++;
        for (uint64_t steps = sx_random() % 5; steps; steps--)
            sw_step(sw);
        sw_end_record(sw);
        if (n == 0 || sx_random() % 3 == 0)
            sw_end_group(sw);
        if (sx_random() % 50 == 0 && sw->in_group == 0)
            assert_int_equal(apply_wait_lsn(sw->apply, sw->lsn), ERR_OK);
    }
}

/* The changes so far, sorted; it begins anew. */
fx_unused static struct changes *sw_take_changes(struct sw_world *sw)
{
    struct changes *c = sw->changes;
    assert_int_equal(changes_sort(c), ERR_OK);
    assert_int_equal(changes_new(&sw->changes), ERR_OK);
    return c;
}

fx_unused static struct snapmerge_view *sw_view(struct sw_world *sw)
{
    struct snapmerge_view *v;
    assert_int_equal(apply_wait_lsn(sw->apply, sw->lsn), ERR_OK);
    assert_int_equal(apply_pause(sw->apply), sw->lsn);
    assert_int_equal(snapmerge_view_new(&v, sw->stores, SW_STORES), ERR_OK);
    apply_resume(sw->apply);
    return v;
}

/* ---- what a snapshot of now must hold ---- */

fx_unused static void sw_expect(const struct sw_world *sw, struct sx_set *out)
{
    uint8_t key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2];
    for (size_t i = 0; i < sw->kv.n; i++)
        sx_add(out, sw->kv.at[i].key, sw->kv.at[i].value, sw->kv.at[i].lsn);
    for (size_t i = 0; i < SW_PATHS; i++) {
        const struct sw_secret *s = &sw->secrets[i];
        for (unsigned j = 0; j < s->n; j++) {
            const struct secret_version *v = &s->versions[j].v;
            if (v->slot != SECRET_NO_SLOT || (s->in_head && v->version == s->current))
                continue;
            struct bytes k = secret_key_logged(key, SW_VAULT + s->store, s->path, v->lsn, v->version);
            sx_add(out, sw_full_key(full, s->store, k), s->versions[j].value, v->lsn);
        }
    }
    sx_sort(out);
}

fx_unused static void sw_config(const struct sw_world *sw, const char *dir, struct snapwrite_config *cfg)
{
    *cfg = sx_config(dir, sw->lsn);
    memcpy(cfg->header.chain, sw->chain, sizeof sw->chain);
}

/* The file of now in dir is byte for byte what the model says. */
fx_unused static void sw_check_file(const struct sw_world *sw, const char *dir)
{
    char model_dir[FX_DIR_BYTES], name[SNAPFILE_NAME_BYTES];
    struct snapwrite_config cfg;
    struct snapwrite_result result;
    struct sx_set want = {0};
    struct buf a, b;
    fx_make_dir(model_dir);
    sw_config(sw, model_dir, &cfg);
    sw_expect(sw, &want);
    assert_int_equal(sx_try_write(&cfg, &want, &result), ERR_OK);
    struct snapread *r = sx_open(dir, sw->lsn);
    sx_check(r, &want);
    snapread_unref(r);
    snapfile_name(name, sw->lsn, 3);
    fx_read(model_dir, name, &a);
    fx_read(dir, name, &b);
    assert_int_equal(buf_size(&a), buf_size(&b));
    assert_memory_equal(buf_data(&a), buf_data(&b), buf_size(&a));
    buf_fini(&a);
    buf_fini(&b);
    sx_clear(&want);
    fx_remove_dir(model_dir);
}

#endif
