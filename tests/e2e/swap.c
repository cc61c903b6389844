/* swap.c - somebody changes what is on disk while the server is stopped, and does it well: LevelDB takes it, and the
 * CRC of each value is computed anew. Sealed values go to other places, data keys and masked objects too. What stands
 * in the way then is cryptography alone: nothing may open, everything else must be served as before.
 *
 * And somebody who does it badly: one bit in one value, CRC as it was.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <leveldb/c.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/buf.h"
#include "base/crc32c.h"
#include "engine/key.h"
#include "engine/secret.h"
#include "engine/vault.h"
#include "tests/lib/e2e.h"

#define FRAME 12 /* u64 lsn | u32 crc32c of key, lsn, payload */
#define EXPECT(want, ...) e2e_expect(s.c, want, __VA_ARGS__)

static struct e2e s;

/* ---- LevelDB, behind the server's back ---- */

struct entry {
    uint8_t key[SECRET_KEY_MAX];
    size_t key_n;
    uint8_t *value; /* with its frame */
    size_t n;
};

static leveldb_t *open_db(const char *name, leveldb_options_t **options)
{
    char path[E2E_PATH + 32], *err = NULL;

    snprintf(path, sizeof path, "%s/%s", s.dir, name);
    *options = leveldb_options_create();
    leveldb_options_set_compression(*options, leveldb_no_compression);
    leveldb_t *db = leveldb_open(*options, path, &err);
    if (!db)
        fail_msg("%s: %s", path, err);
    return db;
}

static void close_db(leveldb_t *db, leveldb_options_t *options)
{
    leveldb_close(db);
    leveldb_options_destroy(options);
}

static struct entry load(const char *db_name, struct bytes key)
{
    leveldb_options_t *options;
    leveldb_t *db = open_db(db_name, &options);
    leveldb_readoptions_t *how = leveldb_readoptions_create();
    struct entry e = {.key_n = key.n};
    char *err = NULL;

    memcpy(e.key, key.p, key.n);
    char *value = leveldb_get(db, how, (const char *)key.p, key.n, &e.n, &err);
    assert_null(err);
    if (!value || e.n <= FRAME)
        fail_msg("nothing under that key in %s", db_name);
    e.value = malloc(e.n);
    memcpy(e.value, value, e.n);
    leveldb_free(value);
    leveldb_readoptions_destroy(how);
    close_db(db, options);
    return e;
}

static void save_raw(const char *db_name, const struct entry *e)
{
    leveldb_options_t *options;
    leveldb_t *db = open_db(db_name, &options);
    leveldb_writeoptions_t *how = leveldb_writeoptions_create();
    char *err = NULL;

    leveldb_writeoptions_set_sync(how, 1);
    leveldb_put(db, how, (const char *)e->key, e->key_n, (const char *)e->value, e->n, &err);
    assert_null(err);
    leveldb_writeoptions_destroy(how);
    close_db(db, options);
}

static struct bytes payload(const struct entry *e)
{
    return bytes_of(e->value + FRAME, e->n - FRAME);
}

/* Takes another payload in, and makes the CRC right. */
static void put_payload(struct entry *e, struct bytes p)
{
    uint8_t *value = malloc(FRAME + p.n);

    memcpy(value, e->value, 8);
    memcpy(value + FRAME, p.p, p.n);
    put_le32(value + 8, crc32c(crc32c(crc32c(0, e->key, e->key_n), value, 8), p.p, p.n));
    free(e->value);
    e->value = value;
    e->n = FRAME + p.n;
}

static struct bytes copy_of(struct bytes b)
{
    uint8_t *p = malloc(b.n);
    memcpy(p, b.p, b.n);
    return bytes_of(p, b.n);
}

static void drop(struct bytes b)
{
    free((void *)(uintptr_t)b.p);
}

/* That the frame is computed here as the store does it, the swaps prove nothing else. */
static void check_frame(const struct entry *e)
{
    struct bytes p = payload(e);
    assert_int_equal(get_le32(e->value + 8), crc32c(crc32c(crc32c(0, e->key, e->key_n), e->value, 8), p.p, p.n));
}

/* The payloads of two entries change places. */
static void swap_whole(const char *db, struct bytes key_a, struct bytes key_b)
{
    struct entry a = load(db, key_a), b = load(db, key_b);
    struct bytes was = copy_of(payload(&a));

    check_frame(&a);
    put_payload(&a, payload(&b));
    put_payload(&b, was);
    save_raw(db, &a);
    save_raw(db, &b);
    drop(was);
    free(a.value);
    free(b.value);
}

/* ---- names ---- */

static uint64_t vault_id(const char *vault)
{
    uint64_t id = 0;
    redisReply *r = e2e_command(s.c, "VAULT.INFO %s", vault);

    for (size_t i = 0; i + 1 < r->elements; i += 2) {
        if (strcmp(r->element[i]->str, "id") == 0)
            id = (uint64_t)r->element[i + 1]->integer;
    }
    freeReplyObject(r);
    assert_true(id > 0);
    return id;
}

/* Store keys of things, each in memory of its own. */
static uint8_t *room(void)
{
    static uint8_t rooms[16][SECRET_KEY_MAX];
    static unsigned next;
    return rooms[next++ % 16];
}

static struct bytes head_of(uint64_t vault, const char *path)
{
    return secret_key_head(room(), vault, bytes_str(path));
}

static struct bytes key_of(uint64_t vault, const char *name)
{
    return key_key(room(), vault, bytes_str(name));
}

static struct bytes data_key_of(uint64_t vault, uint32_t version)
{
    return vault_dek_key(room(), vault, version);
}

/* Where the value of a version lies that is not in the head. */
static struct bytes version_of(uint64_t vault, const char *path, uint32_t version)
{
    struct entry head = load("shard-0", head_of(vault, path));
    struct secret_version v;
    struct secret_head h;

    assert_int_equal(secret_head_get(payload(&head), &h), ERR_OK);
    assert_true(secret_version_find(&h, version, &v) && v.slot != SECRET_NO_SLOT);
    free(head.value);
    return secret_key_slot(room(), vault, bytes_str(path), v.slot);
}

/* ---- sealed values ---- */

/* The head with another sealed value in it. */
static struct bytes with_value(struct bytes raw, struct bytes sealed)
{
    struct secret_head h;

    assert_int_equal(secret_head_get(raw, &h), ERR_OK);
    assert_true(h.flags & SECRET_CURRENT_INLINE);
    assert_int_equal(h.value.raw.n, sealed.n);
    h.value.raw = sealed;
    uint8_t *out = malloc(secret_head_size(&h));
    secret_head_put(&h, out);
    return bytes_of(out, secret_head_size(&h));
}

static struct bytes sealed_in(struct bytes raw)
{
    struct secret_head h;
    assert_int_equal(secret_head_get(raw, &h), ERR_OK);
    return h.value.raw;
}

/* Two heads keep all they have but their sealed values. */
static void swap_values(struct bytes key_a, struct bytes key_b)
{
    struct entry a = load("shard-0", key_a), b = load("shard-0", key_b);
    struct bytes new_a = with_value(payload(&a), sealed_in(payload(&b)));
    struct bytes new_b = with_value(payload(&b), sealed_in(payload(&a)));

    put_payload(&a, new_a);
    put_payload(&b, new_b);
    save_raw("shard-0", &a);
    save_raw("shard-0", &b);
    drop(new_a);
    drop(new_b);
    free(a.value);
    free(b.value);
}

/* A head's value gives way to an earlier one of the same secret. */
static void put_value(struct bytes head, struct bytes sealed)
{
    struct entry h = load("shard-0", head);
    struct bytes new_head = with_value(payload(&h), sealed);

    put_payload(&h, new_head);
    save_raw("shard-0", &h);
    drop(new_head);
    free(h.value);
}

static struct bytes value_of(struct bytes head)
{
    struct entry h = load("shard-0", head);
    struct bytes value = copy_of(sealed_in(payload(&h)));
    free(h.value);
    return value;
}

/* The head says of its first version that its value is in the record which brought the second one, of this secret or of
 * another. */
static void point_elsewhere(struct bytes head, struct bytes other)
{
    struct entry h = load("shard-0", head), o = load("shard-0", other);
    struct secret_version v[10], second[10];
    uint8_t list[10 * SECRET_VERSION_BYTES_MAX];
    struct secret_head into, from;

    assert_int_equal(secret_head_get(payload(&h), &into), ERR_OK);
    assert_int_equal(secret_head_get(payload(&o), &from), ERR_OK);
    assert_int_equal(secret_versions_get(&into, v), ERR_OK);
    assert_int_equal(secret_versions_get(&from, second), ERR_OK);
    v[0].lsn = second[1].lsn;
    into.version_bytes = bytes_of(list, secret_versions_put(list, v, into.versions));
    struct bytes changed = bytes_of(malloc(secret_head_size(&into)), secret_head_size(&into));
    secret_head_put(&into, (uint8_t *)(uintptr_t)changed.p);
    put_payload(&h, changed);
    save_raw("shard-0", &h);
    drop(changed);
    free(h.value);
    free(o.value);
}

/* ---- the server ---- */

#define CORRUPT "-CORRUPT stored data failed its check and was not served"

static int start(void **state)
{
    (void)state;
    e2e_start(&s, "--shards", "1", NULL);
    EXPECT("+OK", "VAULT.CREATE v");
    EXPECT("+OK", "VAULT.CREATE w");
    EXPECT(":1", "SECRET.SET v good bystander");
    EXPECT(":1", "SECRET.SET w good bystander");
    return 0;
}

/* Too large for a head. */
static const char *large(char fill)
{
    static char value[1101];
    memset(value, fill, sizeof value - 1);
    return value;
}

static void bystanders_are_served(void)
{
    EXPECT("$bystander", "SECRET.GET v good");
    EXPECT("$bystander", "SECRET.GET w good");
    EXPECT(":1", "SECRET.SET v another 1");
    EXPECT(":1", "SECRET.SET w another 1");
    EXPECT("$1", "SECRET.GET v another");
    EXPECT("+PONG", "PING");
}

static void values_open_nowhere_else(void **state)
{
    uint64_t v = vault_id("v"), w = vault_id("w");

    (void)state;
    EXPECT(":1",
           "SECRET.SET v same value-in-v"); /* another vault: path, version, length, data key version are the same */
    EXPECT(":1", "SECRET.SET w same value-in-w");
    EXPECT(":1", "SECRET.SET v path/1 one"); /* another path */
    EXPECT(":1", "SECRET.SET v path/2 two");
    EXPECT(":1", "SECRET.SET v twice %s", large('1')); /* another version, both kept apart */
    EXPECT(":2", "SECRET.SET v twice %s", large('2'));
    EXPECT(":3", "SECRET.SET v twice six");
    EXPECT(":1", "SECRET.SET v head one"); /* another version, in the head */
    EXPECT(":1", "SECRET.SET v log one");  /* another version, both in the log */
    EXPECT(":2", "SECRET.SET v log two");
    EXPECT(":3", "SECRET.SET v log six");
    EXPECT(":1", "SECRET.SET v gol one"); /* another path, in the log */
    EXPECT(":2", "SECRET.SET v gol two");
    EXPECT("+OK", "SELECT 1");
    EXPECT("+OK", "SET k in-db-1");
    EXPECT("+OK", "SELECT 0");
    EXPECT("+OK", "SET k in-db-0");
    uint64_t db0 = vault_id("db0"), db1 = vault_id("db1");
    e2e_stop(&s);
    struct bytes first = value_of(head_of(v, "head"));
    e2e_again(&s);
    EXPECT(":2", "SECRET.SET v head two");
    e2e_stop(&s);
    swap_values(head_of(v, "same"), head_of(w, "same"));
    swap_values(head_of(v, "path/1"), head_of(v, "path/2"));
    swap_whole("shard-0", version_of(v, "twice", 1), version_of(v, "twice", 2));
    put_value(head_of(v, "head"), first);
    point_elsewhere(head_of(v, "log"), head_of(v, "log"));
    point_elsewhere(head_of(v, "gol"), head_of(v, "log"));
    drop(first);
    swap_values(head_of(db0, "k"), head_of(db1, "k"));
    e2e_again(&s);
    EXPECT(CORRUPT, "SECRET.GET v same");
    EXPECT(CORRUPT, "SECRET.GET w same");
    EXPECT(CORRUPT, "SECRET.GET v path/1");
    EXPECT(CORRUPT, "SECRET.GET v path/2 WITHMETA");
    EXPECT(CORRUPT, "SECRET.MGET v good path/2");
    EXPECT(CORRUPT, "SECRET.GET v twice VERSION 1");
    EXPECT(CORRUPT, "SECRET.GET v twice VERSION 2");
    EXPECT("$six", "SECRET.GET v twice");
    EXPECT(CORRUPT, "SECRET.GET v head");
    EXPECT("$one", "SECRET.GET v head STAGE PREVIOUS");
    EXPECT(CORRUPT, "SECRET.GET v log VERSION 1");
    EXPECT("$two", "SECRET.GET v log VERSION 2");
    EXPECT(CORRUPT, "SECRET.GET v gol VERSION 1");
    EXPECT("$two", "SECRET.GET v gol");
    EXPECT(CORRUPT, "GET k");
    EXPECT(CORRUPT, "GET {db1}/k");
    EXPECT(CORRUPT, "SET k new GET");
    bystanders_are_served();
    EXPECT("+OK", "SET k new"); /* a new value mends it */
    EXPECT("$new", "GET k");
    e2e_finish(&s);
}

static void whole_heads_open_nowhere_else(void **state)
{
    uint64_t v = vault_id("v"), w = vault_id("w");

    (void)state;
    EXPECT(":1", "SECRET.SET v a one");
    EXPECT(":1", "SECRET.SET v b two");
    EXPECT(":1", "SECRET.SET w a three");
    e2e_stop(&s);
    swap_whole("shard-0", head_of(v, "a"), head_of(v, "b"));
    swap_whole("shard-0", head_of(v, "a"), head_of(w, "a"));
    e2e_again(&s);
    EXPECT(CORRUPT, "SECRET.GET v a");
    EXPECT(CORRUPT, "SECRET.GET v b");
    EXPECT(CORRUPT, "SECRET.GET w a");
    bystanders_are_served();
    e2e_finish(&s);
}

static void data_keys_open_nowhere_else(void **state)
{
    (void)state;
    EXPECT("+OK", "VAULT.CREATE x"); /* between versions of one vault */
    EXPECT("+OK", "VAULT.CREATE y"); /* between two vaults */
    EXPECT("+OK", "VAULT.CREATE z");
    EXPECT(":1", "SECRET.SET x a 1");
    EXPECT(":1", "SECRET.SET y a 1");
    EXPECT(":1", "SECRET.SET z a 1");
    e2e_stop(&s);
    e2e_again(&s);
    EXPECT(":1", "SECRET.SET x b 1"); /* data key 2 */
    uint64_t x = vault_id("x"), y = vault_id("y"), z = vault_id("z");
    e2e_stop(&s);
    swap_whole("base", data_key_of(x, 1), data_key_of(x, 2));
    swap_whole("base", data_key_of(y, 1), data_key_of(z, 1));
    e2e_again(&s);
    EXPECT(CORRUPT, "SECRET.GET x a");
    EXPECT(CORRUPT, "SECRET.GET x b");
    EXPECT(CORRUPT, "SECRET.GET y a");
    EXPECT(CORRUPT, "SECRET.GET z a");
    EXPECT(":1", "SECRET.SET x c 1"); /* under a data key of this start */
    EXPECT("$1", "SECRET.GET x c");
    bystanders_are_served();
    e2e_finish(&s);
}

/* ---- keys ---- */

static const char *const signers[] = {"ec", "ed"};

/* In a vault: aes, ec, ed and mac with two versions each, and the same again as aes2 and so on. */
static void make_keys(const char *vault)
{
    for (int i = 0; i < 2; i++) {
        const char *more = i ? "2" : "";
        EXPECT(":1", "KEY.CREATE %s aes%s", vault, more);
        EXPECT(":1", "KEY.CREATE %s ec%s TYPE ec-p256", vault, more);
        EXPECT(":1", "KEY.CREATE %s ed%s TYPE ed25519", vault, more);
        EXPECT(":1", "KEY.CREATE %s mac%s TYPE hmac-sha256", vault, more);
        EXPECT(":2", "KEY.ROTATE %s aes%s", vault, more);
        EXPECT(":2", "KEY.ROTATE %s ec%s", vault, more);
        EXPECT(":2", "KEY.ROTATE %s mac%s", vault, more);
    }
}

struct proofs { /* made by a key before it was tampered with */
    redisReply *ct, *ec, *ed, *mac;
};

static struct proofs take_proofs(const char *vault)
{
    return (struct proofs){
        .ct = e2e_command(s.c, "KEY.ENCRYPT %s aes plaintext", vault),
        .ec = e2e_command(s.c, "KEY.SIGN %s ec message", vault),
        .ed = e2e_command(s.c, "KEY.SIGN %s ed message", vault),
        .mac = e2e_command(s.c, "KEY.MAC %s mac message", vault),
    };
}

static void free_proofs(struct proofs *p)
{
    freeReplyObject(p->ct);
    freeReplyObject(p->ec);
    freeReplyObject(p->ed);
    freeReplyObject(p->mac);
}

/* Must be an error that says so, and none of these may be taken for the key that they pretend to be. */
static void refused(redisReply *r, const char *what)
{
    char *got = e2e_show_reply(r);

    if (r->type != REDIS_REPLY_ERROR ||
        (strncmp(r->str, "CORRUPT ", 8) && strncmp(r->str, "BADBLOB ", 8) && strncmp(r->str, "BADCIPHERTEXT ", 14)))
        fail_msg("%s answered %.200s", what, got);
    free(got);
    freeReplyObject(r);
}

/* What needs the newest version of a vault's first four keys does nothing. */
static void keys_are_refused(const char *v, const struct proofs *p)
{
    refused(e2e_command(s.c, "KEY.ENCRYPT %s aes x", v), "KEY.ENCRYPT");
    refused(e2e_command(s.c, "KEY.DECRYPT %s aes %b", v, p->ct->str, p->ct->len), "KEY.DECRYPT");
    refused(e2e_command(s.c, "KEY.REWRAP %s aes %b", v, p->ct->str, p->ct->len), "KEY.REWRAP");
    refused(e2e_command(s.c, "KEY.DATAKEY %s aes", v), "KEY.DATAKEY");
    refused(e2e_command(s.c, "KEY.MAC %s mac message", v), "KEY.MAC");
    refused(e2e_command(s.c, "KEY.VERIFYMAC %s mac message %b", v, p->mac->str, p->mac->len), "KEY.VERIFYMAC");
    for (size_t i = 0; i < sizeof signers / sizeof *signers; i++) {
        redisReply *sig = i ? p->ed : p->ec;
        refused(e2e_command(s.c, "KEY.SIGN %s %s message", v, signers[i]), "KEY.SIGN");
        refused(e2e_command(s.c, "KEY.VERIFY %s %s message %b", v, signers[i], sig->str, sig->len), "KEY.VERIFY");
    }
}

static void keys_are_served(const char *v, const char *more)
{
    EXPECT("$...", "KEY.ENCRYPT %s aes%s x", v, more);
    EXPECT("$...", "KEY.SIGN %s ec%s x", v, more);
    EXPECT("$...", "KEY.SIGN %s ed%s x", v, more);
    EXPECT("$...", "KEY.MAC %s mac%s x", v, more);
}

static const char *const all_keys[] = {"aes", "ec", "ed", "mac"};

/* Whole records, between vaults: the name is the same, the key is another tenant's. */
static void keys_are_not_used_in_another_vault(void **state)
{
    uint64_t v = vault_id("v"), w = vault_id("w");

    (void)state;
    make_keys("v");
    make_keys("w");
    struct proofs of_v = take_proofs("v"), of_w = take_proofs("w");
    e2e_stop(&s);
    for (size_t i = 0; i < 4; i++)
        swap_whole("shard-0", key_of(v, all_keys[i]), key_of(w, all_keys[i]));
    e2e_again(&s);
    keys_are_refused("v", &of_v);
    keys_are_refused("w", &of_v);
    keys_are_refused("v", &of_w);
    keys_are_served("v", "2");
    keys_are_served("w", "2");
    bystanders_are_served();
    free_proofs(&of_v);
    free_proofs(&of_w);
    e2e_finish(&s);
}

/* Whole records, between two keys of one vault: one key under the other's name. */
static void keys_are_not_used_under_another_name(void **state)
{
    uint64_t v = vault_id("v");

    (void)state;
    make_keys("v");
    make_keys("w");
    struct proofs p = take_proofs("v");
    e2e_stop(&s);
    for (size_t i = 0; i < 4; i++) {
        char second[8];
        snprintf(second, sizeof second, "%s2", all_keys[i]);
        swap_whole("shard-0", key_of(v, all_keys[i]), key_of(v, second));
    }
    e2e_again(&s);
    keys_are_refused("v", &p);
    refused(e2e_command(s.c, "KEY.DECRYPT v aes2 %b", p.ct->str, p.ct->len), "KEY.DECRYPT");
    refused(e2e_command(s.c, "KEY.VERIFY v ec2 message %b", p.ec->str, p.ec->len), "KEY.VERIFY");
    refused(e2e_command(s.c, "KEY.PUBLIC v ec"), "KEY.PUBLIC");
    refused(e2e_command(s.c, "KEY.INFO v ec"), "KEY.INFO");
    refused(e2e_command(s.c, "KEY.ROTATE v ec"), "KEY.ROTATE"); /* it would make the swap good */
    refused(e2e_command(s.c, "KEY.SET v ec META {}"), "KEY.SET");
    keys_are_served("w", "");
    bystanders_are_served();
    free_proofs(&p);
    e2e_finish(&s);
}

/* Changes a key's record; change() is given its versions, of which there are at most two. */
static void edit_versions(struct bytes key, void (*change)(struct key_version *v, unsigned n, void *arg), void *arg)
{
    struct entry e = load("shard-0", key);
    struct bytes was = copy_of(payload(&e)), in;
    struct key_version v[2];
    struct key_record rec;
    struct buf versions, out;
    unsigned n = 0;

    assert_int_equal(key_record_get(was, &rec), ERR_OK);
    for (in = rec.version_bytes; in.n; n++) {
        assert_true(n < 2);
        assert_int_equal(key_version_next(&in, &v[n]), ERR_OK);
    }
    change(v, n, arg);
    buf_init(&versions, 1 << 20);
    buf_init(&out, 1 << 20);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(key_version_put(&versions, &v[i]), ERR_OK);
    rec.version_bytes = buf_bytes(&versions);
    assert_int_equal(key_record_put(&out, &rec), ERR_OK);
    put_payload(&e, buf_bytes(&out));
    save_raw("shard-0", &e);
    buf_fini(&versions);
    buf_fini(&out);
    drop(was);
    free(e.value);
}

/* Copies what the other record has for each version: masked objects, public keys, or both. */
struct donor {
    struct key_version v[2];
    int masked, pub;
};

static void take_over(struct key_version *v, unsigned n, void *arg)
{
    struct donor *d = arg;
    for (unsigned i = 0; i < n; i++) {
        v[i].masked = d->masked ? d->v[i].masked : v[i].masked;
        v[i].pub = d->pub ? d->v[i].pub : v[i].pub;
    }
}

static void graft(struct bytes onto, struct bytes from, int masked, int pub)
{
    struct entry e = load("shard-0", from);
    struct donor d = {.masked = masked, .pub = pub};
    struct key_record rec;

    assert_int_equal(key_record_get(payload(&e), &rec), ERR_OK);
    struct bytes in = rec.version_bytes;
    for (unsigned i = 0; in.n; i++)
        assert_int_equal(key_version_next(&in, &d.v[i]), ERR_OK);
    edit_versions(onto, take_over, &d);
    free(e.value);
}

static void exchange(struct key_version *v, unsigned n, void *arg)
{
    struct sealed masked = v[0].masked;
    struct bytes pub = v[0].pub;

    (void)arg;
    assert_int_equal(n, 2);
    v[0].masked = v[1].masked;
    v[0].pub = v[1].pub;
    v[1].masked = masked;
    v[1].pub = pub;
}

/* Masked objects alone, with their public keys: the record keeps its id and its name. */
static void masked_objects_are_not_used_for_another_key(void **state)
{
    uint64_t v = vault_id("v");

    (void)state;
    make_keys("v");
    make_keys("w");
    struct proofs p = take_proofs("v"), q = take_proofs("w");
    e2e_stop(&s);
    for (size_t i = 0; i < 4; i++) {
        char second[8];
        snprintf(second, sizeof second, "%s2", all_keys[i]);
        graft(key_of(v, all_keys[i]), key_of(v, second), 1, 1);
    }
    uint64_t w = 0; /* versions of one key change places */
    e2e_again(&s);
    keys_are_refused("v", &p);
    refused(e2e_command(s.c, "KEY.PUBLIC v ec"), "KEY.PUBLIC");
    keys_are_served("v", "2");
    keys_are_served("w", "");
    w = vault_id("w");
    e2e_stop(&s);
    for (size_t i = 0; i < 4; i++) {
        if (strcmp(all_keys[i], "ed") != 0) /* has one version */
            edit_versions(key_of(w, all_keys[i]), exchange, NULL);
    }
    e2e_again(&s);
    refused(e2e_command(s.c, "KEY.ENCRYPT w aes x"), "KEY.ENCRYPT");
    refused(e2e_command(s.c, "KEY.DECRYPT w aes %b", q.ct->str, q.ct->len), "KEY.DECRYPT");
    refused(e2e_command(s.c, "KEY.SIGN w ec x"), "KEY.SIGN");
    refused(e2e_command(s.c, "KEY.VERIFY w ec message %b VERSION 1", q.ec->str, q.ec->len), "KEY.VERIFY");
    refused(e2e_command(s.c, "KEY.MAC w mac x"), "KEY.MAC");
    refused(e2e_command(s.c, "KEY.VERIFYMAC w mac message %b VERSION 1", q.mac->str, q.mac->len), "KEY.VERIFYMAC");
    EXPECT("$...", "KEY.SIGN w ed x");
    bystanders_are_served();
    free_proofs(&p);
    free_proofs(&q);
    e2e_finish(&s);
}

/* A public key is in the record twice: beside the masked object, and in it, where the HMAC covers it. */
static void put_public(struct key_version *v, unsigned n, void *arg)
{
    struct donor *d = arg;
    for (unsigned i = 0; i < n; i++) {
        uint8_t *masked = (uint8_t *)(uintptr_t)v[i].masked.raw.p;
        assert_int_equal(v[i].pub.n, d->v[i].pub.n);
        assert_memory_equal(masked + 40, v[i].pub.p, v[i].pub.n);
        memcpy(masked + 40, d->v[i].pub.p, v[i].pub.n);
        v[i].pub = d->v[i].pub;
    }
}

static void public_keys_are_not_anothers(void **state)
{
    uint64_t v = vault_id("v");
    struct donor d = {.masked = 0};
    struct key_record rec;

    (void)state;
    make_keys("v");
    make_keys("w");
    redisReply *sig = e2e_command(s.c, "KEY.SIGN v ec2 message");
    EXPECT(":1", "KEY.VERIFY v ec2 message %b", sig->str, sig->len);
    e2e_stop(&s);
    graft(key_of(v, "ed"), key_of(v, "ed2"), 0, 1);
    struct entry donor = load("shard-0", key_of(v, "ec2"));
    assert_int_equal(key_record_get(payload(&donor), &rec), ERR_OK);
    struct bytes in = rec.version_bytes;
    for (unsigned i = 0; in.n; i++)
        assert_int_equal(key_version_next(&in, &d.v[i]), ERR_OK);
    edit_versions(key_of(v, "ec"), put_public, &d);
    free(donor.value);
    e2e_again(&s);
    refused(e2e_command(s.c, "KEY.VERIFY v ec message %b", sig->str, sig->len), "KEY.VERIFY"); /* forged, as it were */
    refused(e2e_command(s.c, "KEY.VERIFY v ed message %b", sig->str, sig->len), "KEY.VERIFY");
    refused(e2e_command(s.c, "KEY.PUBLIC v ed"), "KEY.PUBLIC");
    refused(e2e_command(s.c, "KEY.SIGN v ec x"), "KEY.SIGN");
    refused(e2e_command(s.c, "KEY.SIGN v ed x"), "KEY.SIGN");
    keys_are_served("v", "2");
    freeReplyObject(sig);
    bystanders_are_served();
    e2e_finish(&s);
}

/* ---- partitions ---- */

/* The partition configs of two vaults change places; ids, names and the rest stay. */
static void partitions_do_not_fit_another_vault(void **state)
{
    (void)state;
    EXPECT("+OK", "VAULT.CREATE x");
    EXPECT("+OK", "VAULT.CREATE y");
    make_keys("x");
    make_keys("y");
    EXPECT(":1", "SECRET.SET x a 1");
    EXPECT(":1", "SECRET.SET y a 1");
    struct proofs p = take_proofs("x");
    e2e_stop(&s);
    struct entry x = load("base", vault_key(room(), bytes_str("x"))),
                 y = load("base", vault_key(room(), bytes_str("y")));
    assert_int_equal(x.n, y.n);
    struct bytes new_x = copy_of(payload(&x)), new_y = copy_of(payload(&y));
    memcpy((uint8_t *)(uintptr_t)new_x.p + 74, payload(&y).p + 74, new_x.n - 74);
    memcpy((uint8_t *)(uintptr_t)new_y.p + 74, payload(&x).p + 74, new_y.n - 74);
    put_payload(&x, new_x);
    put_payload(&y, new_y);
    save_raw("base", &x);
    save_raw("base", &y);
    e2e_again(&s);
    EXPECT(CORRUPT, "SECRET.GET x a");
    EXPECT(CORRUPT, "SECRET.GET y a");
    keys_are_refused("x", &p);
    keys_are_refused("y", &p);
    bystanders_are_served();
    drop(new_x);
    drop(new_y);
    free(x.value);
    free(y.value);
    free_proofs(&p);
    e2e_finish(&s);
}

/* ---- bits ---- */

/* The shard would be whole again after the first of them is found, and read from the log while it is being rebuilt:
 * what is in the way of the new directory cannot be deleted, and the next try is a minute away. */
static void hold_rebuilds_back(int hold)
{
    char path[E2E_PATH + 32], in[E2E_PATH + 32];
    snprintf(path, sizeof path, "%s/shard-0.1.new", s.dir);
    snprintf(in, sizeof in, "%s/shard-0.1.new/in-the-way", s.dir);
    if (hold)
        assert_true(mkdir(path, 0700) == 0 && mkdir(in, 0700) == 0);
    else
        assert_int_equal(rmdir(in), 0);
}

/* A bit in each of these places of a value: LSN, CRC, the head's fixed part, its versions, the sealed value. */
static void a_flipped_bit_takes_its_own_secret_alone(void **state)
{
    static const int places[] = {0, 7, 8, 11, 12, 13, 20, 30, 52, 60, 71, -1, -10, -16, -20, -40};
    enum { N = sizeof places / sizeof *places };
    uint64_t v = vault_id("v");
    char path[32];

    (void)state;
    for (int i = 0; i < N; i++) {
        EXPECT(":1", "SECRET.SET v flip/%d old", i);
        EXPECT(":2", "SECRET.SET v flip/%d value", i);
        EXPECT(":1", "SECRET.SET v leave/%d value", i);
    }
    EXPECT(":1", "KEY.CREATE v flip");
    EXPECT(":1", "KEY.CREATE v leave");
    e2e_stop(&s);
    for (int i = 0; i < N; i++) {
        snprintf(path, sizeof path, "flip/%d", i);
        struct entry e = load("shard-0", head_of(v, path));
        assert_true(e.n > 80);
        e.value[places[i] < 0 ? (int)e.n + places[i] : places[i]] ^= (uint8_t)(1 << i % 8);
        save_raw("shard-0", &e);
        free(e.value);
    }
    struct entry e = load("shard-0", key_of(v, "flip"));
    e.value[e.n / 2] ^= 1;
    save_raw("shard-0", &e);
    free(e.value);
    e2e_again(&s);
    hold_rebuilds_back(1);
    freeReplyObject(e2e_command(s.c, "SECRET.GET v flip/0"));
    e2e_info_wait(s.c, "shard_rebuilds_failed", "1");
    for (int i = 0; i < N; i++) {
        EXPECT(CORRUPT, "SECRET.GET v flip/%d", i);
        EXPECT(CORRUPT, "SECRET.GET v flip/%d VERSION 1", i);
        EXPECT("-CORRUPT...", "SECRET.SET v flip/%d new CAS 2", i);
        EXPECT("$value", "SECRET.GET v leave/%d", i);
        EXPECT(":2", "SECRET.SET v leave/%d new", i);
    }
    EXPECT("-CORRUPT...", "KEY.ENCRYPT v flip x");
    EXPECT("-CORRUPT...", "KEY.INFO v flip");
    EXPECT("$...", "KEY.ENCRYPT v leave x");
    bystanders_are_served();
    hold_rebuilds_back(0);
    EXPECT("[$shard :0...", "SHARD.REBUILD 0");
    for (int i = 0; i < N; i++) {
        EXPECT("$value", "SECRET.GET v flip/%d", i);
        EXPECT("$old", "SECRET.GET v flip/%d VERSION 1", i);
        EXPECT("$new", "SECRET.GET v leave/%d", i);
    }
    EXPECT("$...", "KEY.ENCRYPT v flip x");
    e2e_finish(&s);
}

int main(void)
{
#define TEST(f) cmocka_unit_test_setup_teardown(f, start, e2e_teardown)
    const struct CMUnitTest tests[] = {
        TEST(values_open_nowhere_else),
        TEST(whole_heads_open_nowhere_else),
        TEST(data_keys_open_nowhere_else),
        TEST(keys_are_not_used_in_another_vault),
        TEST(keys_are_not_used_under_another_name),
        TEST(masked_objects_are_not_used_for_another_key),
        TEST(public_keys_are_not_anothers),
        TEST(partitions_do_not_fit_another_vault),
        TEST(a_flipped_bit_takes_its_own_secret_alone),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
