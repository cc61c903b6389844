/* Old values: their keys, the order in which they are gathered, and the three places where a value may be. */
#include "snap_world.h"

#include "engine/snapold.h"

/* ---- keys ---- */

static void old_keys_and_heads_are_told_apart(void **state)
{
    uint8_t key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2];
    struct snapold o;
    struct buf head;
    (void)state;
    buf_init(&head, 1 << 16);
    struct bytes k = sw_full_key(full, 258, secret_key_logged(key, 7, bytes_str("a path"), 0x123456789a, 70000));
    assert_true(snapold_parse(k, &o));
    assert_true(o.store == 258 && o.lsn == 0x123456789a && o.version == 70000);
    assert_int_equal(snapold_head_key(&o, &head), ERR_OK);
    assert_false(snapold_is_head(k));
    uint8_t other[SECRET_KEY_MAX + 2];
    struct bytes want = sw_full_key(other, 258, secret_key_head(key, 7, bytes_str("a path")));
    assert_true(bytes_equal(buf_bytes(&head), want));
    assert_true(snapold_is_head(want));
    assert_false(snapold_parse(want, &o));
    assert_int_equal(o.lsn, 0);

    for (size_t n = 0; n < k.n; n++) /* a path has a byte at least */
        assert_int_equal(snapold_parse(bytes_of(k.p, n), &o), n >= 2 + 1 + 8 + 1 + 12);
    for (size_t n = 0; n < want.n; n++)
        assert_int_equal(snapold_is_head(bytes_of(want.p, n)), n >= 2 + 1 + 8 + 1);
    full[0] = full[1] = other[0] = other[1] = 0; /* in the base store these letters mean something else */
    assert_false(snapold_parse(k, &o));
    assert_false(snapold_is_head(want));
    buf_fini(&head);
}

/* ---- order ---- */

/* A source of heads in memory, in order. */
struct of_memory {
    struct snapsource base;
    struct sx_set set;
    size_t next;
};

static enum err memory_seek(struct snapsource *s, struct bytes key)
{
    struct of_memory *m = (struct of_memory *)s;
    for (m->next = 0; m->next < m->set.n && bytes_compare(m->set.at[m->next].key, key) < 0;)
        m->next++;
    return ERR_OK;
}

static enum err memory_next(struct snapsource *s, struct snapsource_item *item)
{
    struct of_memory *m = (struct of_memory *)s;
    if (m->next == m->set.n)
        return ERR_END;
    const struct snapfile_entry *e = &m->set.at[m->next++];
    *item = (struct snapsource_item){.key = e->key, .lsn = e->lsn, .tombstone = e->lsn == 0};
    return ERR_OK;
}

static enum err memory_value(struct snapsource *s, struct bytes *value)
{
    struct of_memory *m = (struct of_memory *)s;
    *value = m->set.at[m->next - 1].value;
    return ERR_OK;
}

/* A path of zeros, small bytes and letters, so that many begin with others. */
static struct bytes random_path(uint8_t out[16])
{
    size_t n = 1 + sx_random() % 15;
    for (size_t i = 0; i < n; i++)
        out[i] = (uint8_t)(sx_random() % 4 ? 0 : sx_random() % 3 ? sx_random() % 4 : 'a');
    return bytes_of(out, n);
}

static void add_random_head(struct of_memory *m, struct sx_set *want)
{
    uint8_t path[16], key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2], list[4 * SECRET_VERSION_BYTES_MAX], raw[300];
    struct secret_version versions[4];
    uint16_t store = (uint16_t)(1 + sx_random() % 2 * UINT16_MAX / 2);
    uint64_t vault = sx_random() % 2;
    struct bytes p = random_path(path);
    struct secret_head h = {.versions = (uint16_t)(sx_random() % 5), .current = 1 + (uint32_t)(sx_random() % 4)};
    struct bytes k = sw_full_key(full, store, secret_key_head(key, vault, p));
    for (size_t i = 0; i < m->set.n; i++)
        if (bytes_equal(m->set.at[i].key, k))
            return;
    uint64_t lsn = sx_random() % 8 ? 1 + sx_random() % 0x7fffffffffff : 0; /* 0: a tombstone */
    h.flags = sx_random() % 2 && h.current <= h.versions ? SECRET_CURRENT_INLINE : 0;
    for (uint32_t i = 0; i < h.versions; i++) {
        struct secret_version v = {.version = i + 1,
                                   .lsn = (i ? versions[i - 1].lsn : 0) + (sx_random() >> (18 + sx_random() % 46)),
                                   .slot = sx_random() % 3 ? SECRET_NO_SLOT : 3};
        versions[i] = v;
        if (lsn && v.slot == SECRET_NO_SLOT && !(h.flags && h.current == v.version)) {
            uint8_t old[SECRET_KEY_MAX + 2];
            sx_add(want, sw_full_key(old, store, secret_key_logged(key, vault, p, v.lsn, v.version)), bytes_of(NULL, 0),
                   v.lsn);
        }
    }
    h.version_bytes = bytes_of(list, secret_versions_put(list, versions, h.versions));
    secret_head_put(&h, raw);
    sx_add(&m->set, k, bytes_of(raw, secret_head_size(&h)), lsn);
}

static void add_other_key(struct of_memory *m)
{
    uint8_t full[32] = {0, (uint8_t)(sx_random() % 3)};
    int n = snprintf((char *)full + 2, sizeof full - 2, "%c%08u", "ahkvz"[sx_random() % 5], (unsigned)m -> set.n);
    sx_add(&m->set, bytes_of(full, 2 + (size_t)n), bytes_str("?"), 1);
}

static void they_come_in_order_whatever_the_paths_are(void **state)
{
    (void)state;
    struct sw_world *sw = sw_new();
    struct wal_reader *rd;
    assert_int_equal(wal_reader_open(&rd, sw->w), ERR_OK);
    for (unsigned round = 0; round < 300; round++) {
        struct of_memory m = {.base = {memory_seek, memory_next, memory_value, NULL, NULL, round % 2 ? 1 << 20 : 0}};
        struct sx_set want = {0};
        struct snapold_list list;
        struct snapold_wanted w;
        sx_seed = 1000 + round;
        for (unsigned i = 0; i < round; i++) {
            add_random_head(&m, &want);
            if (i % 4 == 0)
                add_other_key(&m);
        }
        sx_sort(&m.set);
        sx_sort(&want);
        snapold_list_init(&list, &m.base, rd, 0);
        for (size_t i = 0; i < want.n; i++) {
            assert_int_equal(snapold_list_next(&list, &w), ERR_OK);
            assert_true(bytes_equal(w.key, want.at[i].key));
            assert_false(w.has_value); /* the log is empty */
        }
        for (int again = 0; again < 2; again++)
            assert_int_equal(snapold_list_next(&list, &w), ERR_END);
        snapold_list_fini(&list);
        sx_clear(&m.set);
        sx_clear(&want);
    }
    wal_reader_close(rd);
    sw_free(sw);
}

static void a_head_that_is_none_is_told(void **state)
{
    uint8_t key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2];
    struct of_memory m = {.base = {memory_seek, memory_next, memory_value, NULL, NULL}};
    struct snapold_list list;
    struct snapold_wanted w;
    (void)state;
    sx_add(&m.set, sw_full_key(full, 1, secret_key_head(key, 1, bytes_str("p"))), bytes_str("no head"), 1);
    snapold_list_init(&list, &m.base, NULL, 0);
    assert_int_equal(snapold_list_next(&list, &w), ERR_CORRUPT);
    snapold_list_fini(&list);
    sx_clear(&m.set);

    uint8_t bytes[SECRET_VERSION_BYTES_MAX], raw[100]; /* an LSN that no log reaches: it would not sort as others do */
    struct secret_version v = {.version = 1, .lsn = 1ull << 48, .slot = SECRET_NO_SLOT};
    struct secret_head h = {.versions = 1};
    h.version_bytes = bytes_of(bytes, secret_versions_put(bytes, &v, 1));
    secret_head_put(&h, raw);
    m.next = 0;
    sx_add(&m.set, sw_full_key(full, 1, secret_key_head(key, 1, bytes_str("p"))), bytes_of(raw, secret_head_size(&h)),
           1);
    snapold_list_init(&list, &m.base, NULL, 0);
    assert_int_equal(snapold_list_next(&list, &w), ERR_CORRUPT);
    snapold_list_fini(&list);
    sx_clear(&m.set);
}

/* ---- where they are ---- */

static void a_value_is_found_where_it_is(void **state)
{
    char dir[FX_DIR_BYTES];
    struct sw_world *sw = sw_new();
    struct wal_reader *rd;
    unsigned in_heads = 0, in_old = 0, in_log = 0;
    (void)state;
    fx_make_dir(dir);
    sx_seed = 77;
    sw_run(sw, 200);
    struct sx_set want = {0};
    sw_expect(sw, &want);
    sx_write(dir, sw->lsn, &want);
    struct snapread *r = sx_open(dir, sw->lsn);
    assert_int_equal(wal_reader_open(&rd, sw->w), ERR_OK);
    for (size_t i = 0; i < SW_PATHS; i++)
        for (unsigned j = 0; j < sw->secrets[i].n; j++) {
            const struct sw_secret *s = &sw->secrets[i];
            const struct sw_version *v = &s->versions[j];
            uint8_t key[SECRET_KEY_MAX], full[SECRET_KEY_MAX + 2];
            struct snapold o, other;
            struct blob *b;
            struct bytes value;
            if (v->v.slot != SECRET_NO_SLOT)
                continue;
            struct bytes k = secret_key_logged(key, SW_VAULT + s->store, s->path, v->v.lsn, v->v.version);
            assert_true(snapold_parse(sw_full_key(full, s->store, k), &o));
            int is_inline = s->in_head && v->v.version == s->current;
            in_heads += (unsigned)is_inline;
            in_old += !is_inline;
            assert_int_equal(snapold_in_snapshot(r, &o, &b), ERR_OK);
            assert_true(bytes_equal(blob_bytes(b), v->value) && b->lsn == v->v.lsn);
            blob_unref(b);
            assert_int_equal(snapold_in_log(rd, &o, &value), ERR_OK);
            assert_true(bytes_equal(value, v->value));
            in_log++;
            other = o;
            other.version += 1000;
            assert_int_equal(snapold_in_snapshot(r, &other, &b), ERR_NOTFOUND);
            assert_int_equal(snapold_in_log(rd, &other, &value), ERR_NOTFOUND);
            other = o;
            other.lsn = sw->lsn + 9; /* of another history than the head's version of the same number */
            assert_int_equal(snapold_in_snapshot(r, &other, &b), ERR_NOTFOUND);
            assert_null(b);
            assert_int_equal(snapold_in_log(rd, &other, &value), ERR_NOTFOUND);
            assert_int_equal(value.n, 0);
        }
    assert_true(in_heads > 5 && in_old > 5 && in_log == in_heads + in_old);
    sx_clear(&want);
    snapread_unref(r);
    wal_reader_close(rd);
    fx_remove_dir(dir);
    sw_free(sw);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(old_keys_and_heads_are_told_apart),
        cmocka_unit_test(they_come_in_order_whatever_the_paths_are),
        cmocka_unit_test(a_head_that_is_none_is_told),
        cmocka_unit_test(a_value_is_found_where_it_is),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
