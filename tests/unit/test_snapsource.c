/* Both sources of a newer state: in order from any key, values when they are asked for, in whatever order that is. */
#include "snap_world.h"

#include "engine/snapsource.h"
#include "store_fixture.h"

/* From every key of the model and from right behind it, a few items on; values of some. */
static void check_source(struct snapsource *s, const struct sx_set *want)
{
    struct snapsource_item item;
    struct bytes value;
    uint8_t key[SECRET_KEY_MAX + 3];
    for (unsigned i = 0; i < 2000; i++) {
        size_t at = sx_random() % want->n;
        struct bytes k = want->at[at].key;
        int gap = (int)(sx_random() % 2);
        memcpy(key, k.p, k.n);
        key[k.n] = 0;
        assert_int_equal(s->seek(s, bytes_of(key, k.n + (size_t)gap)), ERR_OK);
        at += (size_t)gap;
        for (uint64_t n = sx_random() % 6; n && at < want->n; n--, at++) {
            assert_int_equal(s->next(s, &item), ERR_OK);
            assert_true(bytes_equal(item.key, want->at[at].key) && item.lsn == want->at[at].lsn && !item.tombstone);
            assert_true(s->covers(s, item.key));
            if (sx_random() % 3)
                continue;
            assert_int_equal(s->value(s, &value), ERR_OK);
            assert_true(bytes_equal(value, want->at[at].value));
        }
        if (at == want->n)
            for (int again = 0; again < 2; again++)
                assert_int_equal(s->next(s, &item), ERR_END);
    }
    size_t n = 0;
    assert_int_equal(s->seek(s, bytes_of(NULL, 0)), ERR_OK);
    while (s->next(s, &item) == ERR_OK)
        assert_true(bytes_equal(item.key, want->at[n++].key));
    assert_int_equal(n, want->n);
    assert_int_equal(s->seek(s, bytes_of("\xff\xffz", 3)), ERR_OK);
    assert_int_equal(s->next(s, &item), ERR_END);
}

/* Puts only, so that what changed and what there is are the same. */
static void put_many(struct sw_world *sw)
{
    uint8_t value[3000];
    char key[32];
    memset(value, 'v', sizeof value);
    for (unsigned i = 0; i < 300; i++) {
        sw->lsn++;
        for (uint64_t n = sx_random() % 4; n; n--) {
            int k = snprintf(key, sizeof key, "%ckey%u", "ahkvz"[sx_random() % 5], (unsigned)(sx_random() % 80));
            sw_put(sw, (uint16_t)(sx_random() % SW_STORES), bytes_of(key, (size_t)k),
                   bytes_of(value, sx_random() % 5 ? sx_random() % 100 : sx_random() % sizeof value));
        }
        sw_end_record(sw);
        sw_end_group(sw);
    }
    sx_sort(&sw->kv);
}

static void changes_are_a_source(void **state)
{
    (void)state;
    struct sw_world *sw = sw_new();
    put_many(sw);
    struct changes *c = sw_take_changes(sw);
    for (unsigned kind = 0; kind < 3; kind++) { /* what is read ahead makes no difference */
        struct snapsource *s;
        assert_int_equal(snapsource_of_changes(&s, c, (uint8_t) "\0hq"[kind], sw -> w), ERR_OK);
        check_source(s, &sw->kv);
        assert_false(s->covers(s, bytes_of("\0\1nothing", 9)));
        snapsource_close(s);
    }
    snapsource_close(NULL);
    changes_free(c);
    sw_free(sw);
}

static void tombstones_are_items_without_a_value(void **state)
{
    struct snapsource_item item;
    struct snapsource *s;
    struct bytes value;
    (void)state;
    struct sw_world *sw = sw_new();
    sw->lsn = 1;
    sw_put(sw, 1, bytes_str("a"), bytes_str("1"));
    sw_delete(sw, 1, bytes_str("b"));
    sw_put(sw, 1, bytes_str("c"), bytes_str("3"));
    sw_end_record(sw);
    sw_end_group(sw);
    struct changes *c = sw_take_changes(sw);
    assert_int_equal(snapsource_of_changes(&s, c, 0, sw->w), ERR_OK);
    for (unsigned i = 0; i < 3; i++) {
        assert_int_equal(s->next(s, &item), ERR_OK);
        assert_int_equal(item.tombstone, i == 1);
        if (i == 1)
            continue;
        assert_int_equal(s->value(s, &value), ERR_OK);
        assert_true(value.n == 1 && value.p[0] == '1' + i);
    }
    assert_int_equal(s->next(s, &item), ERR_END);
    snapsource_close(s);
    changes_free(c);
    sw_free(sw);
}

static void stores_are_a_source(void **state)
{
    (void)state;
    struct sw_world *sw = sw_new();
    struct snapsource *s;
    put_many(sw);
    assert_int_equal(apply_wait_lsn(sw->apply, sw->lsn), ERR_OK); /* the stores have keys of their own now */
    assert_int_equal(snapsource_of_stores(&s, sw->stores, SW_STORES), ERR_OK);
    check_source(s, &sw->kv);
    assert_true(s->covers(s, bytes_of("\0\1nothing", 9)));
    snapsource_close(s);
    for (unsigned missing = 0; missing < SW_STORES; missing++) {
        struct store *stores[SW_STORES];
        memcpy(stores, sw->stores, sizeof stores);
        stores[missing] = NULL;
        assert_int_equal(snapsource_of_stores(&s, stores, SW_STORES), ERR_CORRUPT);
        assert_null(s);
    }
    sw_free(sw);
}

static void stores_without_anything_in_them(void **state)
{
    struct snapsource_item item;
    struct snapsource *s;
    (void)state;
    struct sw_world *sw = sw_new();
    assert_int_equal(snapsource_of_stores(&s, sw->stores, SW_STORES), ERR_OK);
    assert_int_equal(s->next(s, &item), ERR_END);
    assert_int_equal(s->seek(s, bytes_of("\0\1a", 3)), ERR_OK);
    assert_int_equal(s->next(s, &item), ERR_END);
    snapsource_close(s);
    sw->lsn = 1;
    sw_put(sw, 2, bytes_str("the only one"), bytes_str("v"));
    sw_end_record(sw);
    sw_end_group(sw);
    assert_int_equal(apply_wait_lsn(sw->apply, 1), ERR_OK);
    assert_int_equal(snapsource_of_stores(&s, sw->stores, SW_STORES), ERR_OK);
    assert_int_equal(s->next(s, &item), ERR_OK);
    assert_true(bytes_equal(item.key, bytes_of("\0\2the only one", 14)));
    assert_int_equal(s->next(s, &item), ERR_END);
    snapsource_close(s);
    sw_free(sw);
}

/* A bit in the middle of every table: which of them LevelDB still uses is its own affair. */
static void spoil_tables(const char *dir)
{
    char path[SF_PATH * 3];
    unsigned tables = 0;
    DIR *d = opendir(dir);
    assert_non_null(d);
    for (struct dirent *e; (e = readdir(d)) != NULL;) {
        size_t n = strlen(e->d_name);
        if (n < 4 || strcmp(e->d_name + n - 4, ".ldb") != 0)
            continue;
        snprintf(path, sizeof path, "%s/%s", dir, e->d_name);
        uint8_t *bytes = sf_read(path, &n);
        bytes[n / 2] ^= 1;
        sf_write(path, bytes, n);
        free(bytes);
        tables++;
    }
    closedir(d);
    assert_true(tables > 0);
}

/* A table with a bad block: the items before it, then the error, and again; never the end. */
static void damage_in_a_store_is_told(void **state)
{
    char dir[SF_PATH];
    struct snapsource_item item;
    struct snapsource *s;
    struct store *store;
    (void)state;
    sf_make_dir(dir);
    store = sf_open(dir);
    for (unsigned i = 0; i < 3000; i++) { /* more than a write buffer holds: there are tables */
        char key[16], value[100];
        snprintf(key, sizeof key, "k%05u", i);
        memset(value, 'v', sizeof value - 1);
        value[sizeof value - 1] = '\0';
        assert_int_equal(sf_put_at(store, key, value, i + 1), ERR_OK);
    }
    store_close(store);
    spoil_tables(dir);
    store = sf_open(dir);
    assert_int_equal(snapsource_of_stores(&s, &store, 1), ERR_OK);
    enum err e;
    while ((e = s->next(s, &item)) == ERR_OK)
        ;
    assert_int_equal(e, ERR_CORRUPT);
    assert_int_equal(s->next(s, &item), ERR_CORRUPT);
    snapsource_close(s);
    store_close(store);
    sf_remove_dir(dir);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(changes_are_a_source),      cmocka_unit_test(tombstones_are_items_without_a_value),
        cmocka_unit_test(stores_are_a_source),       cmocka_unit_test(stores_without_anything_in_them),
        cmocka_unit_test(damage_in_a_store_is_told),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
