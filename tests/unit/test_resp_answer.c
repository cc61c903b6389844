/* The reply parser: as with requests, what comes out must not depend on how the stream was cut into reads
 * (transcript.h). Answers are written as text by say_answer(). */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <inttypes.h>
#include <math.h>
#include <stdio.h>

#include "base/fault.h"
#include "resp/answer.h"
#include "resp/reply.h"
#include "tests/unit/transcript.h"

static const char *const names[] = {
    [ANSWER_NIL] = "nil",    [ANSWER_STATUS] = "+",     [ANSWER_ERROR] = "-",   [ANSWER_BULK] = "$",
    [ANSWER_VERBATIM] = "=", [ANSWER_BIG_NUMBER] = "(", [ANSWER_INTEGER] = ":", [ANSWER_BOOL] = "#",
    [ANSWER_DOUBLE] = ",",   [ANSWER_ARRAY] = "*",      [ANSWER_SET] = "~",     [ANSWER_PUSH] = ">",
    [ANSWER_MAP] = "%",
};

/* "*[:1 $a nil]" and so on. */
static void say_answer(struct text *t, const struct answer *a)
{
    char number[64];
    say(t, names[a->type]);
    if (a->type == ANSWER_INTEGER || a->type == ANSWER_BOOL) {
        snprintf(number, sizeof number, "%" PRId64, a->integer);
        say(t, number);
    } else if (a->type == ANSWER_DOUBLE) {
        snprintf(number, sizeof number, "%g", a->number);
        say(t, number);
    } else if (a->type >= ANSWER_ARRAY) {
        say(t, "[");
        for (size_t i = 0; i < a->count; i++) {
            say(t, i ? " " : "");
            say_answer(t, a->item[i]);
        }
        say(t, "]");
    }
    if (a->type == ANSWER_VERBATIM) {
        say_bytes(t, bytes_of(a->format, 3));
        say(t, ":");
    }
    say_bytes(t, a->text);
}

/* ---- transcripts ---- */

static struct answer_parser parser;

static void begin(const struct transcript_of *how, int variant)
{
    answer_parser_init(&parser, how->limits, variant); /* secret or not */
}

static enum said parse(uint8_t *in, size_t n, size_t *used, struct text *out)
{
    enum answer_status s = answer_parse(&parser, bytes_of(in, n), used);
    assert_int_not_equal(s, ANSWER_OOM);
    if (s == ANSWER_BAD) {
        say(out, "!");
        say(out, parser.error);
    }
    assert_true(s != ANSWER_MORE || parser.need_bytes >= 1);
    return s == ANSWER_READY ? SAID_ONE : s == ANSWER_BAD ? SAID_BAD : SAID_MORE;
}

static void tell(struct text *out)
{
    say_answer(out, parser.root);
    say(out, ";");
}

static int in_the_middle(void)
{
    return parser.depth != 0;
}

static void end(void)
{
    answer_parser_fini(&parser);
}

#define OF(limits_) (&(const struct transcript_of){limits_, begin, parse, tell, in_the_middle, end})

static const struct answer_limits small = {.max_elements = 20, .max_line_bytes = 64, .max_bytes = 2000};

static void test_every_type_cut_anywhere(void **state)
{
    static const struct row rows[] = {
        ROW("+OK\r\n", "+OK;"),
        ROW("+\r\n", "+;"),
        ROW("-ERR no\r\n", "-ERR no;"),
        ROW("!9\r\nERR a\r\nb!\r\n", "-ERR a\\0d\\0ab!;"),
        ROW(":0\r\n:-5\r\n:9223372036854775807\r\n", ":0;:-5;:9223372036854775807;"),
        ROW("$3\r\nabc\r\n$0\r\n\r\n$5\r\na\0\r\nb\r\n", "$abc;$;$a\\00\\0d\\0ab;"),
        ROW("$-1\r\n*-1\r\n_\r\n", "nil;nil;nil;"),
        ROW("#t\r\n#f\r\n", "#1;#0;"),
        ROW(",1.5\r\n,-3\r\n,1e10\r\n,inf\r\n,-inf\r\n,nan\r\n,.5\r\n", ",1.5;,-3;,1e+10;,inf;,-inf;,nan;,0.5;"),
        ROW("(3492890328409238509324850943850943825024385\r\n(-1\r\n",
            "(3492890328409238509324850943850943825024385;(-1;"),
        ROW("=15\r\ntxt:Some string\r\n=4\r\nmkd:\r\n", "=txt:Some string;=mkd:;"),
        ROW("*0\r\n%0\r\n~0\r\n>0\r\n", "*[];%[];~[];>[];"),
        ROW("*3\r\n:1\r\n$1\r\na\r\n*-1\r\n", "*[:1 $a nil];"),
        ROW("%2\r\n+a\r\n:1\r\n+b\r\n~2\r\n:2\r\n:3\r\n", "%[+a :1 +b ~[:2 :3]];"),
        ROW("*2\r\n*2\r\n*0\r\n*1\r\n+x\r\n%1\r\n+k\r\n*1\r\n_\r\n", "*[*[*[] *[+x]] %[+k *[nil]]];"),
        ROW(">3\r\n+message\r\n+ch\r\n$1\r\nx\r\n+OK\r\n", ">[+message +ch $x];+OK;"),
        ROW("+OK\r\n*2\r\n:1\r\n", "+OK;..."),
        ROW("*1\r\n*1\r\n", "..."),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_attributes_are_dropped(void **state)
{
    static const struct row rows[] = {
        ROW("|1\r\n+ttl\r\n:10\r\n+OK\r\n", "+OK;"),
        ROW("|0\r\n+OK\r\n", "+OK;"),
        ROW("|1\r\n+a\r\n*2\r\n:1\r\n%1\r\n:2\r\n:3\r\n*1\r\n:9\r\n", "*[:9];"),
        ROW("*2\r\n:1\r\n|1\r\n+a\r\n$1\r\nx\r\n:2\r\n:3\r\n", "*[:1 :2];:3;"),
        ROW("|1\r\n|1\r\n+i\r\n+j\r\n+a\r\n+b\r\n|1\r\n+c\r\n*1\r\n+d\r\n:1\r\n", ":1;"),
        ROW("*1\r\n|1\r\n+a\r\n+b\r\n|1\r\n+c\r\n+d\r\n*0\r\n", "*[*[]];"),
        ROW("|1\r\n+a\r\n+b\r\n", ""),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_malformed(void **state)
{
    static const struct row rows[] = {
        ROW("OK\r\n", "!unknown type"),
        ROW("\r\n", "!unknown type"),
        ROW("\xff\r\n", "!unknown type"),
        ROW("*1\r\nx\r\n", "!unknown type"),
        ROW("+OK\rx", "!line without CRLF"),
        ROW(":\r\n", "!invalid integer"),
        ROW(":1a\r\n", "!invalid integer"),
        ROW(":9223372036854775808\r\n", "!invalid integer"),
        ROW("#\r\n", "!invalid boolean"),
        ROW("#x\r\n", "!invalid boolean"),
        ROW("#tt\r\n", "!invalid boolean"),
        ROW("_x\r\n", "!invalid null"),
        ROW(",\r\n", "!invalid double"),
        ROW(",1x\r\n", "!invalid double"),
        ROW(", 1\r\n", "!invalid double"),
        ROW(",0x10\r\n", "!invalid double"),
        ROW(",infinity\r\n", "!invalid double"),
        ROW(",nan(1)\r\n", "!invalid double"),
        ROW(",--1\r\n", "!invalid double"),
        ROW(",1\0\r\n", "!invalid double"),
        ROW("(\r\n", "!invalid big number"),
        ROW("(-\r\n", "!invalid big number"),
        ROW("(1.5\r\n", "!invalid big number"),
        ROW("$\r\n", "!invalid bulk length"),
        ROW("$-2\r\n", "!invalid bulk length"),
        ROW("$?\r\n", "!invalid bulk length"),
        ROW("!-1\r\n", "!invalid bulk length"),
        ROW("$2\r\nabc\r\n", "!bulk without CRLF"),
        ROW("$2\r\nabc\n", "!bulk without CRLF"),
        ROW("=3\r\ntxt\r\n", "!invalid verbatim length"),
        ROW("=5\r\ntxt.a\r\n", "!invalid verbatim format"),
        ROW("*x\r\n", "!invalid count"),
        ROW("*-2\r\n", "!invalid count"),
        ROW("*?\r\n", "!invalid count"),
        ROW("%-1\r\n", "!invalid count"),
        ROW("|-1\r\n", "!invalid count"),
        ROW("*1\r\n>1\r\n:1\r\n", "!push inside an answer"),
        ROW(":1\r\n*2\r\n:1\r\n:x\r\n", ":1;!invalid integer"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_limits(void **state)
{
    static const struct row rows[] = {
        ROW("*19\r\n:1\r\n", "..."),
        ROW("*21\r\n", "!too many elements"),
        ROW("%10\r\n:1\r\n", "..."),
        ROW("%11\r\n", "!too many elements"),
        ROW("|11\r\n", "!too many elements"),
        ROW("*9223372036854775807\r\n", "!too many elements"),
        ROW("%9223372036854775807\r\n", "!too many elements"),
        ROW("*2\r\n*17\r\n:1\r\n", "..."),
        ROW("*2\r\n*20\r\n", "!too many elements"),
        ROW("*3\r\n*5\r\n:1\r\n:1\r\n:1\r\n:1\r\n:1\r\n*14\r\n", "!too many elements"),
        ROW("+" SIXTY "abc\r\n", "+" SIXTY "abc;"),
        ROW("+" SIXTY "abcd\r\n", "!line too long"),
        ROW("+" SIXTY "abcd", "!line too long"),
        ROW("$2000\r\n", "..."),
        ROW("$2001\r\n", "!answer too big"),
        ROW("*2\r\n$100\r\n", "..."),
        ROW("*2\r\n$1999\r\n", "!answer too big"),
        ROW("$9223372036854775807\r\n", "!answer too big"),
    };
    (void)state;
    transcript_check_rows(OF(&small), COUNT(rows), rows);
}

static void test_memory_limit_counts_nodes(void **state)
{
    const struct answer_limits tight = {
        .max_elements = 20, .max_line_bytes = 64, .max_bytes = 4 * sizeof(struct answer)};
    (void)state;
    transcript_check(OF(&tight), bytes_str("*3\r\n:1\r\n:2\r\n"), "...");
    transcript_check(OF(&tight), bytes_str("*3\r\n:1\r\n:2\r\n:3\r\n"), "!answer too big"); /* the array of items */
    transcript_check(OF(&tight), bytes_str("*4\r\n:1\r\n:2\r\n:3\r\n:4\r\n"), "!answer too big");
    transcript_check(OF(&tight), bytes_str("*2\r\n:1\r\n:2\r\n*1\r\n:1\r\n"),
                     "*[:1 :2];*[:1];"); /* starts anew with each answer */
}

static void test_depth(void **state)
{
    char stream[8 * (ANSWER_MAX_DEPTH + 2)] = "", want[8 * (ANSWER_MAX_DEPTH + 2)] = "";
    const struct answer_limits wide = {.max_elements = 1000, .max_line_bytes = 64, .max_bytes = 100000};
    (void)state;
    for (int i = 0; i < ANSWER_MAX_DEPTH; i++) {
        strcat(stream, i % 2 ? "*1\r\n" : "~1\r\n");
        strcat(want, i % 2 ? "*[" : "~[");
    }
    size_t n = strlen(stream);
    strcat(stream, "*0\r\n");
    strcat(want, "*[]");
    memset(want + strlen(want), ']', ANSWER_MAX_DEPTH);
    strcat(want, ";");
    transcript_check(OF(&wide), bytes_str(stream), want);
    strcpy(stream + n, "*1\r\n");
    transcript_check(OF(&wide), bytes_str(stream), "!nested too deep");
    strcpy(stream + n, "|1\r\n");
    transcript_check(OF(&wide), bytes_str(stream), "!nested too deep");
}

static void test_nothing_is_scanned_twice(void **state)
{
    struct answer_parser p;
    size_t used;
    (void)state;
    answer_parser_init(&p, &small, 0);
    assert_int_equal(answer_parse(&p, bytes_str("+aaaaaaaa"), &used), ANSWER_MORE);
    assert_int_equal(answer_parse(&p, bytes_str("+a\r\naaaaaa"), &used), ANSWER_MORE);
    assert_int_equal(answer_parse(&p, bytes_str("+aaaaaaaab\r\n"), &used), ANSWER_READY);
    assert_true(answer_is(p.root, "aaaaaaaab"));
    answer_parser_fini(&p);
}

static void test_need_bytes_of_a_bulk(void **state)
{
    struct answer_parser p;
    size_t used;
    (void)state;
    answer_parser_init(&p, &small, 0);
    assert_int_equal(answer_parse(&p, bytes_str("*2\r\n$100\r\nabc"), &used), ANSWER_MORE);
    assert_int_equal(used, 4); /* what is finished leaves the input */
    assert_int_equal(p.need_bytes, 99);
    answer_parser_fini(&p);
}

static void test_error_is_final_until_reset(void **state)
{
    struct answer_parser p;
    size_t used;
    (void)state;
    answer_parser_init(&p, &small, 0);
    assert_int_equal(answer_parse(&p, bytes_str("*2\r\n|1\r\n?"), &used), ANSWER_BAD);
    assert_int_equal(answer_parse(&p, bytes_str("+OK\r\n"), &used), ANSWER_BAD);
    assert_int_equal(used, 0);
    answer_parser_reset(&p);
    assert_int_equal(answer_parse(&p, bytes_str("+OK\r\n"), &used), ANSWER_READY);
    assert_true(answer_is(p.root, "OK"));
    answer_parser_fini(&p);
}

static void test_get(void **state)
{
    static const char *streams[] = {"%2\r\n+id\r\n:7\r\n$4\r\nname\r\n$1\r\nx\r\n",
                                    "*4\r\n$2\r\nid\r\n:7\r\n+name\r\n$1\r\nx\r\n",
                                    "*5\r\n$2\r\nid\r\n:7\r\n+name\r\n$1\r\nx\r\n+odd\r\n"};
    (void)state;
    for (size_t i = 0; i < COUNT(streams); i++) {
        struct answer_parser p;
        size_t used;
        answer_parser_init(&p, &small, 0);
        assert_int_equal(answer_parse(&p, bytes_str(streams[i]), &used), ANSWER_READY);
        assert_int_equal(answer_get(p.root, "id")->integer, 7);
        assert_true(answer_is(answer_get(p.root, "name"), "x"));
        assert_null(answer_get(p.root, "x"));
        assert_null(answer_get(p.root, "odd"));
        assert_null(answer_get(answer_get(p.root, "id"), "id"));
        answer_parser_fini(&p);
    }
}

static void test_announced_counts_allocate_nothing(void **state)
{
    struct answer_parser p;
    size_t used;
    (void)state;
    answer_parser_init(&p, &answer_default_limits, 0);
    assert_int_equal(answer_parse(&p, bytes_str("+OK\r\n"), &used), ANSWER_READY);
    fault_arm(FAULT_MEM, 1, 1); /* all that follows fits the chunk that the first answer took */
    assert_int_equal(answer_parse(&p, bytes_str("*900000\r\n*90000\r\n$500000000\r\n"), &used), ANSWER_MORE);
    assert_false(fault_fired(FAULT_MEM));
    fault_disarm(FAULT_MEM);
    answer_parser_fini(&p);
}

static void test_secret_texts_are_wiped(void **state)
{
    struct answer_parser p;
    size_t used;
    (void)state;
    answer_parser_init(&p, &small, 1);
    assert_int_equal(answer_parse(&p, bytes_str("*2\r\n$6\r\nsecret\r\n:5\r\n"), &used), ANSWER_READY);
    const uint8_t *at = p.root->item[0]->text.p;
    assert_memory_equal(at, "secret", 6);
    answer_parser_reset(&p);
    for (size_t i = 0; i < 6; i++) /* of the chunk that the arena keeps */
        assert_int_equal(at[i], 0);
    answer_parser_fini(&p);
}

/* Each allocation fails once; the call repeated with what is left of the input gives the whole answer. */
static void run_out_of_memory(struct bytes stream, const char *want, int secret)
{
    const struct answer_limits wide = {.max_elements = 1000, .max_line_bytes = 64, .max_bytes = 100000};
    for (long nth = 1;; nth++) {
        struct answer_parser p;
        struct text got = {0};
        struct bytes in = stream;
        size_t used;
        int tries = 0;
        enum answer_status s;
        answer_parser_init(&p, &wide, secret);
        fault_arm(FAULT_MEM, nth, 1);
        while ((s = answer_parse(&p, in, &used)) == ANSWER_OOM) {
            in = bytes_of(in.p + used, in.n - used);
            tries++;
        }
        fault_disarm(FAULT_MEM);
        assert_int_equal(s, ANSWER_READY);
        assert_int_equal(used, in.n);
        assert_int_equal(tries, fault_fired(FAULT_MEM));
        say_answer(&got, p.root);
        assert_string_equal(got.s, want);
        answer_parser_fini(&p);
        if (!fault_fired(FAULT_MEM)) {
            assert_true(nth > 5);
            return;
        }
    }
}

static void test_out_of_memory_is_survived(void **state)
{
    struct text stream = {0}, want = {0};
    char long_text[2500];
    (void)state;
    /* Texts that get a chunk each, nodes that fill one, items that do not fit its rest. */
    memset(long_text, 'x', sizeof long_text - 1);
    long_text[sizeof long_text - 1] = 0;
    say(&stream, "*3\r\n$2499\r\n");
    say(&stream, long_text);
    say(&stream, "\r\n*200\r\n");
    say(&want, "*[$");
    say(&want, long_text);
    say(&want, " *[");
    for (int i = 0; i < 200; i++) {
        say(&stream, i % 3 ? ":1\r\n" : "$2\r\nab\r\n");
        say(&want, i ? " " : "");
        say(&want, i % 3 ? ":1" : "$ab");
    }
    say(&stream, "$2499\r\n");
    say(&stream, long_text);
    say(&stream, "\r\n");
    say(&want, "] $");
    say(&want, long_text);
    say(&want, "]");
    for (int secret = 0; secret < 2; secret++)
        run_out_of_memory(bytes_of(stream.s, stream.n), want.s, secret);
}

/* Writer and reader agree. */
static void test_reads_what_reply_writes(void **state)
{
    static const char *want[] = {
        "*[+OK -NOKEY no such key: make it with KEY.CREATE :-7 $v nil nil *[$a :1] *[:1] $0.25 :1 $123 $doc];",
        "*[+OK -NOKEY no such key: make it with KEY.CREATE :-7 $v nil nil %[$a :1] ~[:1] ,0.25 #1 (123 =txt:doc];",
    };
    (void)state;
    for (int proto = 2; proto <= 3; proto++) {
        struct buf b;
        struct reply r;
        buf_init(&b, 4096);
        reply_init(&r, &b, proto);
        reply_array(&r, 12);
        reply_ok(&r);
        reply_error(&r, ERR_NOKEY);
        reply_int(&r, -7);
        reply_bulk_str(&r, "v");
        reply_nil(&r);
        reply_nil_array(&r);
        reply_map(&r, 1);
        reply_bulk_str(&r, "a");
        reply_int(&r, 1);
        reply_set(&r, 1);
        reply_int(&r, 1);
        reply_double(&r, 0.25);
        reply_bool(&r, 1);
        reply_big_number(&r, bytes_str("123"));
        reply_verbatim(&r, "txt", bytes_str("doc"));
        assert_int_equal(r.failed, ERR_OK);
        transcript_in_steps(OF(&answer_default_limits), buf_bytes(&b), 1, want[proto - 2]);
        buf_fini(&b);
    }
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(test_every_type_cut_anywhere),
        cmocka_unit_test(test_attributes_are_dropped),
        cmocka_unit_test(test_malformed),
        cmocka_unit_test(test_limits),
        cmocka_unit_test(test_memory_limit_counts_nodes),
        cmocka_unit_test(test_depth),
        cmocka_unit_test(test_nothing_is_scanned_twice),
        cmocka_unit_test(test_need_bytes_of_a_bulk),
        cmocka_unit_test(test_error_is_final_until_reset),
        cmocka_unit_test(test_get),
        cmocka_unit_test(test_announced_counts_allocate_nothing),
        cmocka_unit_test(test_secret_texts_are_wiped),
        cmocka_unit_test(test_out_of_memory_is_survived),
        cmocka_unit_test(test_reads_what_reply_writes),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
