/* test_box_realm.c - a box that one node makes and another opens, with the data key from real HSMs: SoftHSM2 and NSS
 * softokn of one realm, and a stranger. And the wrapped data key taken apart without any of Coffer's code, with the
 * realm's shares from its file: what ops.h says about its bytes is so. */
#include "tests/unit/hsm_pair.h"

#include <openssl/evp.h>
#include <openssl/hmac.h>

#include "hsm/box.h"

static char from[PATH_MAX + 8], to[PATH_MAX + 8];
static const char content[] = "(a snapshot file)";

static struct box_head a_head(void)
{
    struct box_head h = {.lsn = 9, .term = 2, .kind = BOX_SNAPSHOT, .chunk_bytes = BOX_CHUNK_BYTES};

    memcpy(h.cell_id, "coffer example.", 16);
    memcpy(h.realm, on_nss.ops.token.realm, 16);
    h.bytes = strlen(content);
    memset(h.content, 0xcc, sizeof h.content);
    return h;
}

/* The box as it would be sent, and its length. */
static size_t make_box(struct rig *r, uint8_t *box)
{
    struct box_head h = a_head();
    uint8_t context[BOX_CONTEXT_BYTES];
    struct box_writer *w;

    write_text(from, content);
    box_put_context(context, &h);
    assert_int_equal(RUN(r, HSM_REALM_DEK_NEW, bytes_of(context, sizeof context)), ERR_OK);
    assert_int_equal(r->out[1].n, BOX_WRAPPED_BYTES);
    memcpy(h.wrapped, r->out[1].p, BOX_WRAPPED_BYTES);
    assert_int_equal(box_writer_open(&w, from, &h, r->out[0].p), ERR_OK);
    assert_int_equal(box_writer_read(w, 0, box, box_bytes(&h)), ERR_OK);
    box_writer_close(w);
    return box_bytes(&h);
}

static enum err open_key(struct rig *r, const struct box_head *h)
{
    uint8_t context[BOX_CONTEXT_BYTES];

    box_put_context(context, h);
    return RUN(r, HSM_REALM_DEK_OPEN, bytes_of(context, sizeof context), bytes_of(h->wrapped, sizeof h->wrapped));
}

static enum err open_box(struct rig *r, const uint8_t *box, size_t n)
{
    struct box_head h;
    struct box_reader *b;
    enum err e = box_get_header(box, &h);

    if (e == ERR_OK)
        e = open_key(r, &h);
    if (e == ERR_OK)
        e = box_reader_open(&b, to, &h, r->out[0].p, 0);
    if (e != ERR_OK)
        return e;
    e = box_reader_write(b, BOX_HEADER_BYTES, box + BOX_HEADER_BYTES, n - BOX_HEADER_BYTES);
    assert_int_equal(box_reader_finish(b), e);
    return e;
}

static void test_any_node_of_the_realm_opens_it(void **state)
{
    uint8_t box[1024];
    char seen[64];

    (void)state;
    for (unsigned i = 0; i < 2; i++) {
        size_t n = make_box(rigs[i], box);

        for (unsigned k = 0; k < 2; k++) {
            assert_int_equal(open_box(rigs[k], box, n), ERR_OK);
            read_text(to, seen, sizeof seen);
            assert_string_equal(seen, content);
        }
    }
}

static void test_another_realm_does_not(void **state)
{
    uint8_t ours[1024], foreign[1024];
    size_t n = make_box(&on_soft, ours);
    struct rig r;

    (void)state;
    rig_fini(&on_soft);
    rig_start(&r, &stranger);
    assert_int_equal(open_box(&r, ours, n), ERR_BADBLOB);
    n = make_box(&r, foreign);
    rig_fini(&r);
    rig_start(&on_soft, &soft);
    for (unsigned i = 0; i < 2; i++)
        assert_int_equal(open_box(rigs[i], foreign, n), ERR_BADBLOB);
}

/* Whatever of the header is not what the data key was made for: the HSM refuses, before a chunk is looked at. */
static void test_a_data_key_opens_under_its_own_header(void **state)
{
    uint8_t box[1024];
    struct box_head h, other;

    (void)state;
    make_box(&on_soft, box);
    assert_int_equal(box_get_header(box, &h), ERR_OK);
    for (unsigned i = 0; i < 2; i++) {
        other = h;
        other.lsn++;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.term++;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.bytes--;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.cell_id[0] ^= 1;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.content[0] ^= 1;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.realm[0] ^= 1;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        other = h;
        other.chunk_bytes *= 2;
        assert_int_equal(open_key(rigs[i], &other), ERR_BADBLOB);
        assert_int_equal(open_key(rigs[i], &h), ERR_OK);
    }
}

/* ---- the wrapped key, by OpenSSL alone ---- */

static void unwrap_kwp(const uint8_t key[32], const uint8_t *in, uint8_t out[48])
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    int n = 0;

    assert_non_null(c);
    EVP_CIPHER_CTX_set_flags(c, EVP_CIPHER_CTX_FLAG_WRAP_ALLOW);
    assert_int_equal(EVP_DecryptInit_ex(c, EVP_aes_256_wrap_pad(), NULL, key, NULL), 1);
    assert_int_equal(EVP_DecryptUpdate(c, out, &n, in, 40), 1);
    assert_int_equal(n, 32);
    EVP_CIPHER_CTX_free(c);
}

static void open_gcm(const uint8_t key[32], const uint8_t *nonce, struct bytes aad, const uint8_t *in, uint8_t out[32])
{
    EVP_CIPHER_CTX *c = EVP_CIPHER_CTX_new();
    uint8_t tag[16], rest[16];
    int n = 0;

    assert_non_null(c);
    memcpy(tag, in + 32, sizeof tag);
    assert_int_equal(EVP_DecryptInit_ex(c, EVP_aes_256_gcm(), NULL, key, nonce), 1);
    assert_int_equal(EVP_DecryptUpdate(c, NULL, &n, aad.p, (int)aad.n), 1);
    assert_int_equal(EVP_DecryptUpdate(c, out, &n, in, 32), 1);
    assert_int_equal(EVP_CIPHER_CTX_ctrl(c, EVP_CTRL_GCM_SET_TAG, 16, tag), 1);
    assert_int_equal(EVP_DecryptFinal_ex(c, rest, &n), 1);
    EVP_CIPHER_CTX_free(c);
}

static void test_the_wrapped_key_is_what_the_page_says(void **state)
{
    static const char label[] = "coffer-realm-dek", context[] = "some context";
    struct realm *realm = mem_secret_alloc(sizeof *realm);
    uint8_t gathered[256], mac[32], kek[48], key[32];
    const size_t l = sizeof label - 1, c = sizeof context - 1;

    (void)state;
    unseal_realm(&soft, realm);
    for (unsigned i = 0; i < 2; i++) {
        const uint8_t *wrapped;
        unsigned n = 0;

        assert_int_equal(RUN(rigs[i], HSM_REALM_DEK_NEW, bytes_of(context, c)), ERR_OK);
        wrapped = rigs[i]->out[1].p;
        assert_int_equal(wrapped[0], 1);
        memcpy(gathered, label, l);
        memcpy(gathered + l, wrapped, 101);
        memcpy(gathered + l + 101, context, c);
        assert_non_null(HMAC(EVP_sha256(), realm->key[REALM_MAC], 32, gathered, l + 101 + c, mac, &n));
        assert_memory_equal(mac, wrapped + 101, 32);
        unwrap_kwp(realm->key[REALM_WRAP], wrapped + 1, kek);
        memcpy(gathered + l + 1, context, c);
        open_gcm(kek, wrapped + 41, bytes_of(gathered, l + 1 + c), wrapped + 53, key);
        assert_memory_equal(key, rigs[i]->out[0].p, 32);
    }
    mem_secret_free(realm, sizeof *realm);
}

static int set_up_files(void **state)
{
    int rc = set_up(state);

    snprintf(from, sizeof from, "%s/from", root);
    snprintf(to, sizeof to, "%s/to", root);
    return rc;
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_any_node_of_the_realm_opens_it),
        cmocka_unit_test(test_another_realm_does_not),
        cmocka_unit_test(test_a_data_key_opens_under_its_own_header),
        cmocka_unit_test(test_the_wrapped_key_is_what_the_page_says),
    };

    return cmocka_run_group_tests(tests, set_up_files, tear_down);
}
