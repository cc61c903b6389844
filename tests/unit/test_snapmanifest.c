/* test_snapmanifest.c - names of snapshots in an object store, and their manifests: one spelling each, and whatever
 * else is there is not taken for one. */
#include "snap_fixture.h"

#include "engine/snapmanifest.h"

static const uint8_t cell[16] = "coffer example.";

static struct snapmanifest a_manifest(void)
{
    struct snapmanifest m = {.object = {.lsn = 51234, .term = 3, .node = "node-1.example"},
                             .time_ms = 1767225600400,
                             .bytes = 10000372,
                             .file_bytes = 9999372};

    memcpy(m.object.cell_id, cell, 16);
    memset(m.realm, 0xa5, sizeof m.realm);
    memset(m.sha256, 0x11, sizeof m.sha256);
    memset(m.digest, 0x22, sizeof m.digest);
    memset(m.content, 0x33, sizeof m.content);
    return m;
}

static void assert_same_object(const struct snapobject *a, const struct snapobject *b)
{
    assert_memory_equal(a->cell_id, b->cell_id, sizeof a->cell_id);
    assert_true(a->lsn == b->lsn && a->term == b->term);
    assert_string_equal(a->node, b->node);
}

static void assert_same(const struct snapmanifest *a, const struct snapmanifest *b)
{
    assert_same_object(&a->object, &b->object);
    assert_memory_equal(a->realm, b->realm, sizeof a->realm);
    assert_true(a->time_ms == b->time_ms && a->bytes == b->bytes && a->file_bytes == b->file_bytes);
    assert_memory_equal(a->sha256, b->sha256, 32);
    assert_memory_equal(a->digest, b->digest, 32);
    assert_memory_equal(a->content, b->content, 32);
    assert_memory_equal(a->hmac, b->hmac, 32);
}

static void write_manifest(struct buf *out, const struct snapmanifest *from)
{
    struct snapmanifest m = *from;

    buf_init(out, 4096);
    assert_int_equal(snapmanifest_put(out, &m, &sx_signer), ERR_OK);
}

static enum err open_text(struct bytes text, struct snapmanifest *m)
{
    struct snapmanifest from = a_manifest();

    return snapmanifest_open(text, &from.object, &sx_signer, m);
}

/* ---- names ---- */

static void names_there_and_back(void **state)
{
    static const char *const prefixes[] = {"", "coffer", "a/b.c/d"};
    static const uint64_t lsns[] = {0, 1, 51234, UINT64_MAX - 1, UINT64_MAX};
    static const uint32_t terms[] = {0, 7, UINT32_MAX};
    static const char *const nodes[] = {"n", "node-1", "a.snap", "9.manifest", "a-b_c.d-"};

    (void)state;
    for (unsigned i = 0; i < 3 * 5 * 3 * 5 * 2; i++) {
        const char *prefix = prefixes[i % 3];
        struct snapobject o = {.lsn = lsns[i / 3 % 5], .term = terms[i / 15 % 3]}, seen;
        enum snapobject_kind kind = i / 225 % 2 ? SNAPOBJECT_MANIFEST : SNAPOBJECT_SNAP, k;
        char name[SNAPOBJECT_NAME_BYTES], folder[SNAPOBJECT_NAME_BYTES];

        memcpy(o.cell_id, cell, 16);
        snprintf(o.node, sizeof o.node, "%s", nodes[i / 45 % 5]);
        assert_int_equal(snapobject_name(name, prefix, &o, kind), ERR_OK);
        assert_true(snapobject_parse(name, prefix, &seen, &k));
        assert_same_object(&o, &seen);
        assert_int_equal(k, kind);
        assert_int_equal(snapobject_folder(folder, prefix, cell), ERR_OK);
        assert_int_equal(strncmp(name, folder, strlen(folder)), 0);
        assert_false(snapobject_parse(name, "other", &seen, &k));
        assert_int_equal(seen.node[0], 0);
    }
}

static void a_name_reads_as_the_page_says(void **state)
{
    struct snapmanifest m = a_manifest();
    char name[SNAPOBJECT_NAME_BYTES];

    (void)state;
    assert_int_equal(snapobject_name(name, "prod", &m.object, SNAPOBJECT_SNAP), ERR_OK);
    assert_string_equal(name, "prod/636f66666572206578616d706c652e00/18446744073709500381-3-node-1.example.snap");
}

static void newer_ones_come_first_in_a_listing(void **state)
{
    static const uint64_t lsns[] = {0, 1, 9, 10, 99, 100, 1ull << 40, UINT64_MAX};
    struct snapobject o = {.term = 1, .node = "n"};
    char before[SNAPOBJECT_BASE_BYTES], base[SNAPOBJECT_BASE_BYTES];

    (void)state;
    for (size_t i = 0; i < sizeof lsns / sizeof *lsns; i++) {
        o.lsn = lsns[i];
        assert_int_equal(snapobject_base(base, &o, SNAPOBJECT_SNAP), ERR_OK);
        if (i)
            assert_true(strcmp(base, before) < 0);
        memcpy(before, base, sizeof before);
    }
}

static void other_names_are_refused(void **state)
{
    static const char *const bad[] = {
        "",
        "p",
        "p/",
        "p/636f66666572206578616d706c652e00",
        "p/636f66666572206578616d706c652e00/",
        "p/636F66666572206578616d706c652e00/18446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e0/18446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e0g/18446744073709500381-3-n.snap",
        "q/636f66666572206578616d706c652e00/18446744073709500381-3-n.snap",
        "pp/636f66666572206578616d706c652e00/18446744073709500381-3-n.snap",
        "/636f66666572206578616d706c652e00/18446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e00/8446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e00/018446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709551616-3-n.snap",
        "p/636f66666572206578616d706c652e00/99999999999999999999-3-n.snap",
        "p/636f66666572206578616d706c652e00/-3-n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-03-n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-4294967296-n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381--n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3--n.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-n",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-n.snapp",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-n.SNAP",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-n/.snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-n .snap",
        "p/636f66666572206578616d706c652e00/18446744073709500381-3-\xc3\xa4.snap",
        "p/636f66666572206578616d706c652e00//18446744073709500381-3-n.snap",
        "p/636f66666572206578616d706c652e00/+8446744073709500381-3-n.snap",
    };
    struct snapobject o;
    enum snapobject_kind kind;

    (void)state;
    assert_true(snapobject_parse("p/636f66666572206578616d706c652e00/18446744073709500381-3-n.snap", "p", &o, &kind));
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        if (snapobject_parse(bad[i], "p", &o, &kind))
            fail_msg("%s", bad[i]);
    }
}

static void names_that_cannot_be_are_refused(void **state)
{
    static char prefix[SNAPOBJECT_NAME_BYTES];
    struct snapobject o = {.lsn = 1}, seen;
    char name[SNAPOBJECT_NAME_BYTES], base[SNAPOBJECT_BASE_BYTES];
    enum snapobject_kind kind;

    (void)state;
    assert_int_equal(snapobject_name(name, "p", &o, SNAPOBJECT_SNAP), ERR_BADNAME);
    memset(o.node, 'n', sizeof o.node); /* without an end */
    assert_int_equal(snapobject_name(name, "p", &o, SNAPOBJECT_SNAP), ERR_BADNAME);
    assert_int_equal(name[0], 0);
    o.node[64] = '\0';
    o.lsn = 0;
    o.term = UINT32_MAX;
    assert_int_equal(snapobject_base(base, &o, SNAPOBJECT_MANIFEST), ERR_OK); /* the longest */
    assert_string_equal(base + strlen(base) - 9, ".manifest");
    for (size_t n = 0; n < sizeof prefix - 1; n++) {
        enum err e = snapobject_name(name, prefix, &o, SNAPOBJECT_MANIFEST);
        size_t want = n + (n ? 1 : 0) + 33 + strlen(base);

        assert_int_equal(e, want <= 1024 ? ERR_OK : ERR_BADPATH);
        assert_int_equal(strlen(name), e ? 0 : want);
        if (!e)
            assert_true(snapobject_parse(name, prefix, &seen, &kind));
        prefix[n] = 'p';
    }
}

/* ---- manifests ---- */

static void a_manifest_there_and_back(void **state)
{
    struct snapmanifest m = a_manifest(), seen;
    struct buf text;

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        buf_init(&text, 4096);
        assert_int_equal(buf_put(&text, "before", 6), ERR_OK); /* it is appended */
        assert_int_equal(snapmanifest_put(&text, &m, &sx_signer), ERR_OK);
        buf_consume(&text, 6);
        assert_true(buf_size(&text) <= SNAPMANIFEST_BYTES_MAX);
        assert_int_equal(snapmanifest_get(buf_bytes(&text), &seen), ERR_OK);
        assert_same(&m, &seen);
        assert_int_equal(snapmanifest_open(buf_bytes(&text), &m.object, &sx_signer, &seen), ERR_OK);
        assert_same(&m, &seen);
        buf_fini(&text);
        /* and the longest there is */
        m.object.term = UINT32_MAX;
        m.object.lsn = m.bytes = m.file_bytes = m.time_ms = UINT64_MAX;
        memset(m.object.node, 'n', sizeof m.object.node - 1);
    }
}

static void every_flipped_byte_is_found(void **state)
{
    static const uint8_t bits[] = {0x01, 0x02, 0x04, 0x08, 0x10, 0x20, 0x40, 0x80};
    struct snapmanifest from = a_manifest(), m;
    struct buf text;

    (void)state;
    write_manifest(&text, &from);
    assert_int_equal(open_text(buf_bytes(&text), &m), ERR_OK);
    for (size_t at = 0; at < buf_size(&text); at++) {
        for (size_t k = 0; k < sizeof bits; k++) {
            buf_data(&text)[at] ^= bits[k];
            enum err e = open_text(buf_bytes(&text), &m);
            buf_data(&text)[at] ^= bits[k];
            if (e != ERR_CORRUPT && !(e == ERR_UNSUPPORTED && at == 16)) /* 16: the format's number */
                fail_msg("byte %zu, bit %zu: %s", at, k, err_name(e));
            assert_int_equal(m.bytes, 0);
        }
    }
    buf_fini(&text);
}

static void every_cut_and_more_is_found(void **state)
{
    struct snapmanifest from = a_manifest(), m;
    struct buf text;

    (void)state;
    write_manifest(&text, &from);
    for (size_t n = 0; n < buf_size(&text); n++) {
        assert_int_equal(open_text(bytes_of(buf_data(&text), n), &m), ERR_CORRUPT);
        assert_int_equal(open_text(bytes_of(buf_data(&text) + n + 1, buf_size(&text) - n - 1), &m), ERR_CORRUPT);
    }
    assert_int_equal(buf_put(&text, "\n", 1), ERR_OK);
    assert_int_equal(open_text(buf_bytes(&text), &m), ERR_CORRUPT);
    assert_int_equal(snapmanifest_get(buf_bytes(&text), &m), ERR_CORRUPT); /* before anybody is asked for an HMAC */
    buf_fini(&text);
}

/* Every byte left out, and one more everywhere. */
static void every_other_length_is_found(void **state)
{
    static const char more[] = " \n0a\r\t-";
    struct snapmanifest from = a_manifest(), m;
    uint8_t other[SNAPMANIFEST_BYTES_MAX + 1];
    struct buf text;

    (void)state;
    write_manifest(&text, &from);
    for (size_t at = 0, n = buf_size(&text); at < n; at++) {
        memcpy(other, buf_data(&text), at);
        memcpy(other + at, buf_data(&text) + at + 1, n - at - 1);
        enum err e = open_text(bytes_of(other, n - 1), &m);
        assert_int_equal(e, ERR_CORRUPT);
        for (size_t k = 0; k < sizeof more - 1; k++) {
            other[at] = (uint8_t)more[k];
            memcpy(other + at + 1, buf_data(&text) + at, n - at);
            e = open_text(bytes_of(other, n + 1), &m);
            if (e != ERR_CORRUPT && !(e == ERR_UNSUPPORTED && at == 17))
                fail_msg("one more at %zu: %s", at, err_name(e));
        }
    }
    buf_fini(&text);
}

/* Signed with the right key, but not spelled as we do: a signer can be wrong, too. */
static void another_spelling_is_refused(void **state)
{
    static const struct {
        const char *from, *to;
    } rows[] = {
        {"lsn 51234\n", "lsn 051234\n"},
        {"lsn 51234\n", "lsn 51235\n"},
        {"lsn 51234\n", "lsn 18446744073709602850\n"},
        {"lsn 51234\n", "lsn -1\n"},
        {"lsn 51234\n", "lsn \n"},
        {"lsn 51234\n", "lsn  51234\n"},
        {"lsn 51234\n", "lsn 51234 \n"},
        {"lsn 51234\n", "LSN 51234\n"},
        {"lsn 51234\nterm 3\n", "term 3\nlsn 51234\n"},
        {"term 3\n", "term 4294967299\n"},
        {"term 3\n", ""},
        {"term 3\n", "term 3\nterm 3\n"},
        {"kind snapshot", "kind snapshots"},
        {"kind snapshot", "kind log"},
        {"object 1", "object ./1"},
        {"object 1", "object 0"},
        {"node node-1.example", "node node-2.example"},
        {"a5a5\n", "A5A5\n"},
        {"a5a5\n", "a5a5a5\n"},
        {"time-ms ", "time-ms +"},
    };
    struct snapmanifest from = a_manifest(), m;
    struct buf text, other;
    uint8_t *hmac;

    (void)state;
    write_manifest(&text, &from);
    assert_int_equal(buf_put_u8(&text, 0), ERR_OK);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        const char *whole = (char *)buf_data(&text), *at = strstr(whole, rows[i].from);
        uint8_t mac[32];

        assert_non_null(at);
        buf_init(&other, 4096);
        assert_int_equal(buf_put(&other, whole, (size_t)(at - whole)), ERR_OK);
        assert_int_equal(buf_put(&other, rows[i].to, strlen(rows[i].to)), ERR_OK);
        at += strlen(rows[i].from);
        assert_int_equal(buf_put(&other, at, strlen(at)), ERR_OK);
        hmac = buf_data(&other) + buf_size(&other) - 65;
        assert_int_equal(sx_sign(NULL, bytes_of(buf_data(&other), (size_t)(hmac - 5 - buf_data(&other))), mac), ERR_OK);
        for (unsigned k = 0; k < 32; k++) {
            char hex[3];
            snprintf(hex, sizeof hex, "%02x", mac[k]);
            memcpy(hmac + 2 * k, hex, 2);
        }
        if (open_text(buf_bytes(&other), &m) != ERR_CORRUPT)
            fail_msg("row %zu: %s", i, rows[i].to);
        buf_fini(&other);
    }
    buf_fini(&text);
}

static void a_later_format_says_so(void **state)
{
    static const struct {
        const char *text;
        enum err e;
    } rows[] = {
        {"coffer-manifest 2\nanything\n", ERR_UNSUPPORTED},
        {"coffer-manifest 4294967295\n", ERR_UNSUPPORTED},
        {"coffer-manifest 2", ERR_CORRUPT},
        {"coffer-manifest 02\n", ERR_CORRUPT},
        {"coffer-manifest 0\n", ERR_CORRUPT},
        {"coffer-manifest 1\n", ERR_CORRUPT},
        {"coffer-manifest x\n", ERR_CORRUPT},
        {"coffer-manifest 4294967296\n", ERR_CORRUPT},
        {"coffer-manifest \n", ERR_CORRUPT},
        {"", ERR_CORRUPT},
    };
    struct snapmanifest m;

    (void)state;
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        assert_int_equal(open_text(bytes_str(rows[i].text), &m), rows[i].e);
}

/* Under another's name it is not believed, though it is signed. */
static void a_moved_manifest_is_refused(void **state)
{
    struct snapmanifest from = a_manifest(), m;
    struct snapobject where[4] = {from.object, from.object, from.object, from.object};
    struct buf text;

    (void)state;
    write_manifest(&text, &from);
    where[0].lsn++;
    where[1].term++;
    where[2].node[0] = 'm';
    where[3].cell_id[15] = 1;
    for (size_t i = 0; i < 4; i++)
        assert_int_equal(snapmanifest_open(buf_bytes(&text), &where[i], &sx_signer, &m), ERR_CORRUPT);
    buf_fini(&text);
}

static enum err other_realm(void *arg, struct bytes in, uint8_t out[32])
{
    enum err e = sx_sign(arg, in, out);

    out[0] ^= 1;
    return e;
}

static void another_realm_is_refused(void **state)
{
    static const struct snap_signer other = {.sign = other_realm};
    struct snapmanifest from = a_manifest(), m;
    struct buf text;

    (void)state;
    write_manifest(&text, &from);
    assert_int_equal(snapmanifest_open(buf_bytes(&text), &from.object, &other, &m), ERR_CORRUPT);
    buf_fini(&text);
}

static void trouble_is_passed_on(void **state)
{
    enum err down = ERR_HSMDOWN;
    struct snap_signer signer = {.sign = sx_sign, .arg = &down};
    struct snapmanifest m = a_manifest(), seen;
    struct buf text;

    (void)state;
    write_manifest(&text, &m);
    assert_int_equal(snapmanifest_open(buf_bytes(&text), &m.object, &signer, &seen), ERR_HSMDOWN);
    assert_int_equal(seen.bytes, 0);
    assert_int_equal(snapmanifest_put(&text, &m, &signer), ERR_HSMDOWN);
    assert_int_equal(open_text(buf_bytes(&text), &seen), ERR_OK); /* nothing was added */
    m.object.node[0] = '-';
    assert_int_equal(snapmanifest_put(&text, &m, &sx_signer), ERR_BADNAME);
    assert_int_equal(open_text(buf_bytes(&text), &seen), ERR_OK);
    buf_fini(&text);
    for (size_t limit = 0;; limit++) {
        m = a_manifest();
        buf_init(&text, limit);
        enum err e = snapmanifest_put(&text, &m, &sx_signer);
        assert_int_equal(buf_size(&text) == 0, e != ERR_OK);
        buf_fini(&text);
        if (!e)
            break;
        assert_int_equal(e, ERR_TOOBIG);
        assert_true(limit < SNAPMANIFEST_BYTES_MAX);
    }
}

static void no_memory(void **state)
{
    struct snapmanifest m = a_manifest();
    struct buf text;
    int hit = 1;

    (void)state;
    for (long nth = 1; hit; nth++) {
        buf_init(&text, 4096);
        fault_arm(FAULT_MEM, nth, 1);
        enum err e = snapmanifest_put(&text, &m, &sx_signer);
        hit = fault_fired(FAULT_MEM);
        fault_disarm(FAULT_MEM);
        assert_int_equal(e, hit ? ERR_OOM : ERR_OK);
        assert_int_equal(buf_size(&text) == 0, hit);
        buf_fini(&text);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(names_there_and_back),
        cmocka_unit_test(a_name_reads_as_the_page_says),
        cmocka_unit_test(newer_ones_come_first_in_a_listing),
        cmocka_unit_test(other_names_are_refused),
        cmocka_unit_test(names_that_cannot_be_are_refused),
        cmocka_unit_test(a_manifest_there_and_back),
        cmocka_unit_test(every_flipped_byte_is_found),
        cmocka_unit_test(every_cut_and_more_is_found),
        cmocka_unit_test(every_other_length_is_found),
        cmocka_unit_test(another_spelling_is_refused),
        cmocka_unit_test(a_later_format_says_so),
        cmocka_unit_test(a_moved_manifest_is_refused),
        cmocka_unit_test(another_realm_is_refused),
        cmocka_unit_test(trouble_is_passed_on),
        cmocka_unit_test(no_memory),
    };

    return cmocka_run_group_tests(tests, NULL, NULL);
}
