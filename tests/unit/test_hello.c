/* test_hello.c - lists of voters, the handshake's words, who may talk to whom, and how a cell begins. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "server/founding.h"

/* ---- voters ---- */

static void a_list_of_voters(void **state)
{
    struct voters v;
    const char *why;
    (void)state;
    assert_int_equal(voters_parse(bytes_str("a:1  b.example:7379 [::1]:3"), &v, &why), ERR_OK);
    assert_int_equal(v.n, 3);
    assert_string_equal(v.text, "a:1,b.example:7379,[::1]:3");
    assert_string_equal(v.at[2].host, "::1");
    assert_int_equal(voters_find(&v, "B.example", 7379), 1);
    assert_int_equal(voters_find(&v, "b.example", 7380), -1);
    assert_int_equal(voters_parse(bytes_str(""), &v, &why), ERR_OK);
    assert_string_equal(v.text, "-");
}

static void what_is_no_list_of_voters(void **state)
{
    static const char *const bad[] = {
        "a",
        "a:",
        ":1",
        "a:0",
        "a:65536",
        "a:1 b:2",
        "a:1 b:2 A:1",
        "a:1x b:2",
        "::1:7379",
        "a,b:1 c:2",
        "[::1:3 b:1 ",
        "a:99999999999",
        "a:1 b:2 c:3 d:4 e:5 f:6 g:7 h:8 i:9",
    };
    struct voters v;
    const char *why;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        assert_int_equal(voters_parse(bytes_str(bad[i]), &v, &why), ERR_SYNTAX);
        assert_true(why[0]);
    }
}

static int local_is_h(const char *host)
{
    return host[0] == 'h';
}

static void which_of_them_a_node_is(void **state)
{
    struct voters v;
    const char *why;
    (void)state;
    assert_int_equal(voters_parse(bytes_str("a:1 h1:1 h2:2"), &v, &why), ERR_OK);
    assert_int_equal(voters_self(&v, "", 1, local_is_h), 1);
    assert_int_equal(voters_self(&v, "", 2, local_is_h), 2);
    assert_int_equal(voters_self(&v, "", 3, local_is_h), VOTERS_NONE);
    assert_int_equal(voters_self(&v, "a", 1, local_is_h), 0);
    assert_int_equal(voters_self(&v, "a", 2, local_is_h), VOTERS_NONE);
    assert_int_equal(voters_parse(bytes_str("h1:1 h2:1 h3:2"), &v, &why), ERR_OK);
    assert_int_equal(voters_self(&v, "", 1, local_is_h), VOTERS_AMBIGUOUS);
}

/* ---- the words ---- */

static struct hello_node a_hello(void)
{
    struct hello_node h = {.lsn = 123456789012, .term = 7, .has_cell = 1, .index = 1, .ready = 1};
    memset(h.replid, 'e', HELLO_ID_CHARS);
    memset(h.run_id, 'f', HELLO_ID_CHARS);
    memset(h.cell_id, 0xc1, sizeof h.cell_id);
    memset(h.realm, 0x0e, sizeof h.realm);
    strcpy(h.voters, "a:1,b:2,c:3");
    return h;
}

static void a_hello_comes_through(void **state)
{
    struct hello_node h = a_hello(), got;
    char text[HELLO_TEXT_BYTES];
    (void)state;
    for (unsigned i = 0; i < 32; i++) {
        h.has_cell = i & 1;
        memset(h.cell_id, i & 1 ? 0xc1 : 0, sizeof h.cell_id);
        h.index = i & 2 ? 2 : -1;
        h.blank = i >> 2 & 1;
        h.ready = i >> 3 & 1;
        h.mute = i >> 4 & 1;
        hello_put(&h, text);
        assert_int_equal(hello_get_text(bytes_str(text), &got), ERR_OK);
        assert_memory_equal(&got, &h, sizeof h);
    }
}

/* Each word replaced by what it cannot be; and words missing, or too many. */
static void what_is_no_hello(void **state)
{
    static const char *const word[HELLO_WORDS] = {"?", "1", "1", "run", "-", "00112233445566778899aabbccddeeff",
                                                  "-", "-", "br"};
    static const struct {
        unsigned at;
        const char *bad;
    } bad[] = {
        {0, "0123456789012345678901234567890123456789x"},
        {1, "x"},
        {1, "-1"},
        {2, "4294967296"},
        {2, ""},
        {3, ""},
        {4, "00"},
        {4, "00112233445566778899aabbccddeefg"},
        {5, "-"},
        {5, "00112233445566778899AABBCCDDEEFF"},
        {6, ""},
        {7, "7"},
        {7, "-1"},
        {7, "x"},
        {8, "x"},
        {8, ""},
        {8, "br br"},
    };
    struct hello_node h;
    (void)state;
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        struct bytes w[HELLO_WORDS];
        for (unsigned k = 0; k < HELLO_WORDS; k++)
            w[k] = bytes_str(k == bad[i].at ? bad[i].bad : word[k]);
        assert_int_equal(hello_get(w, &h), ERR_SYNTAX);
        w[bad[i].at] = bytes_str(word[bad[i].at]);
        assert_int_equal(hello_get(w, &h), ERR_OK);
    }
    assert_int_equal(hello_get_text(bytes_str("? 1 1"), &h), ERR_SYNTAX);
    assert_int_equal(hello_get_text(bytes_str(""), &h), ERR_SYNTAX);
}

/* ---- who may talk to whom ---- */

static void who_may_talk_to_whom(void **state)
{
    struct hello_node a = a_hello(), b = a_hello();
    char why[HELLO_WHY_BYTES];
    (void)state;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED); /* itself */
    b.run_id[0] = '0';
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED); /* two that say they are voter 1 */
    b.index = 2;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_WELCOME);
    b.index = 3;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED); /* of three */
    assert_non_null(strstr(why, "voter 3"));
    b.index = -1;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_WELCOME);
    b.ready = 0;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_INTRODUCE);
    assert_int_equal(hello_judge(&b, &a, why), HELLO_INTRODUCE);
    b.ready = 1;

    b.cell_id[3] ^= 1;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED);
    assert_non_null(strstr(why, "c1c1c1c1c1"));
    assert_non_null(strstr(why, "c1c1c1c0c1"));
    a.index = b.index = -1; /* without voters the one may follow the other */
    strcpy(a.voters, "-");
    strcpy(b.voters, "-");
    assert_int_equal(hello_judge(&a, &b, why), HELLO_STRANGER);
    assert_string_equal(why, "");
    b.index = 1; /* the place of whom the other follows */
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED);
    b.index = -1;
    b.ready = 0;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_INTRODUCE);
    b.ready = 1;
    b.realm[0] ^= 1;
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED);
    a = a_hello();
    b = a;
    b.run_id[0] = '0';
    b.realm[15] ^= 1;
    b.ready = 0; /* is told also before a cell begins */
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED);
    assert_non_null(strstr(why, "0e0e0f"));
    b = a;
    b.run_id[0] = '0';
    strcpy(b.voters, "a:1,b:2,d:4");
    assert_int_equal(hello_judge(&a, &b, why), HELLO_REFUSED);
    assert_non_null(strstr(why, "a:1,b:2,c:3"));
    assert_non_null(strstr(why, "a:1,b:2,d:4"));
}

static void a_replid_for_each_term(void **state)
{
    char one[HELLO_ID_CHARS + 1], two[HELLO_ID_CHARS + 1], other[HELLO_ID_CHARS + 1];
    uint8_t cell[16] = {1}, second[16] = {2};
    (void)state;
    hello_replid(cell, 1, one);
    hello_replid(cell, 2, two);
    hello_replid(second, 1, other);
    assert_int_equal(strlen(one), HELLO_ID_CHARS);
    assert_string_not_equal(one, two);
    assert_string_not_equal(one, other);
}

/* ---- how a cell begins ---- */

static struct hello_node seen(int index, int blank, uint8_t cell)
{
    struct hello_node h = {.index = index, .blank = blank, .has_cell = cell != 0};
    memset(h.cell_id, cell, sizeof h.cell_id);
    return h;
}

static void see(struct founding *f, int index, int blank, uint8_t cell)
{
    struct hello_node h = seen(index, blank, cell);
    founding_saw(f, &h);
}

static void a_cell_begins_when_all_are_blank(void **state)
{
    struct founding f;
    uint8_t id[16];
    (void)state;
    founding_init(&f, 3, 0, NULL);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT);
    see(&f, 1, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT);
    see(&f, 2, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_MAKE);

    founding_init(&f, 3, 2, NULL);
    see(&f, 1, 1, 0);
    see(&f, 0, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT); /* voter 0 makes one */
    see(&f, 0, 1, 7);
    assert_int_equal(founding_look(&f, id), FOUNDING_BEGIN);
    assert_int_equal(id[0], 7);
    see(&f, 0, 0, 7); /* it has begun meanwhile: this node has still promised nothing */
    assert_int_equal(founding_look(&f, id), FOUNDING_BEGIN);
}

static void the_id_that_is_there_is_taken(void **state)
{
    struct founding f;
    uint8_t id[16], own[16] = {9, 9};
    (void)state;
    founding_init(&f, 3, 1, own); /* a first start that ended in the middle */
    see(&f, 0, 1, 0);
    see(&f, 2, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_BEGIN);
    assert_memory_equal(id, own, sizeof own);
    founding_init(&f, 3, 0, NULL); /* and voter 0 does not make another */
    see(&f, 1, 1, 9);
    see(&f, 2, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_BEGIN);
    assert_int_equal(id[0], 9);
}

static void who_lost_its_disk_joins(void **state)
{
    struct founding f;
    uint8_t id[16];
    (void)state;
    founding_init(&f, 3, 0, NULL);
    see(&f, 1, 0, 5);
    assert_int_equal(founding_look(&f, id), FOUNDING_JOIN);
    assert_int_equal(id[0], 5);
    see(&f, 2, 1, 0); /* two of them */
    assert_int_equal(founding_look(&f, id), FOUNDING_JOIN);
}

/* Whom a node may copy from that sets its damaged data aside. */
static void who_can_go_on_without_this_node(void **state)
{
    struct founding f;
    uint8_t id[16];
    (void)state;
    memset(id, 5, sizeof id);
    founding_init(&f, 5, 1, id);
    assert_int_equal(founding_sound(&f, id), 0); /* not itself */
    for (int i = 0; i < 5; i += 1 + (i == 0)) {
        struct hello_node h = seen(i, 0, 5);
        h.ready = 1;
        founding_saw(&f, &h);
    }
    assert_int_equal(founding_sound(&f, id), 4);
    struct hello_node starts = seen(0, 0, 5), damaged = seen(2, 0, 5), emptied = seen(3, 0, 5), other = seen(4, 0, 6);
    founding_saw(&f, &starts);
    assert_int_equal(founding_sound(&f, id), 3);
    damaged.mute = emptied.mute = emptied.ready = other.ready = 1;
    founding_saw(&f, &damaged);
    founding_saw(&f, &emptied);
    assert_int_equal(founding_sound(&f, id), 1);
    assert_true(founding_is_sound(&f, 4, id));
    founding_saw(&f, &other);
    assert_int_equal(founding_sound(&f, id), 0);
}

static void a_replica_waits_for_a_cell(void **state)
{
    struct founding f;
    uint8_t id[16];
    (void)state;
    founding_init(&f, 0, -1, NULL);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT);
    see(&f, -1, 1, 0);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT);
    see(&f, -1, 0, 4);
    assert_int_equal(founding_look(&f, id), FOUNDING_JOIN);
    assert_int_equal(id[0], 4);
    founding_init(&f, 3, -1, NULL);
    see(&f, 0, 1, 3);
    assert_int_equal(founding_look(&f, id), FOUNDING_WAIT); /* founded, and nothing in it yet */
    see(&f, 0, 0, 3);
    assert_int_equal(founding_look(&f, id), FOUNDING_JOIN);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(a_list_of_voters),
        cmocka_unit_test(what_is_no_list_of_voters),
        cmocka_unit_test(which_of_them_a_node_is),
        cmocka_unit_test(a_hello_comes_through),
        cmocka_unit_test(what_is_no_hello),
        cmocka_unit_test(who_may_talk_to_whom),
        cmocka_unit_test(a_replid_for_each_term),
        cmocka_unit_test(a_cell_begins_when_all_are_blank),
        cmocka_unit_test(the_id_that_is_there_is_taken),
        cmocka_unit_test(who_lost_its_disk_joins),
        cmocka_unit_test(who_can_go_on_without_this_node),
        cmocka_unit_test(a_replica_waits_for_a_cell),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
