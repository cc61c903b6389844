/* kill -9 under load, again and again: every acknowledged write is there afterwards, and nothing that was never sent.
 *
 * Some connections write, each to keys of its own, with windows of a pipeline's length in flight. After a random number
 * of answers the server is killed; what it had answered until then is read to the end and counts as acknowledged. Then
 * it starts again, sometimes is killed during that start as well, and each key is read: its value must be that of a
 * write that is not older than the last acknowledged one. A pair of keys written by one SECRET.MSET must have equal
 * values, a key that KEY.CREATE acknowledged must decrypt, and WBL.VERIFY must find nothing wrong.
 *
 * Snapshots are made all the while, and the log is trimmed behind them; now and then the stores are deleted between the
 * kill and the start, and come back from snapshot and log; shards are rebuilt under the load, and killed in that too.
 * Old versions, which lie in snapshot or log alone, must all be there.
 *
 * CYCLES says how many kills (3); SEED repeats a run, which is as random as the threads of the server let it be.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>

#include <cmocka.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "tests/lib/e2e.h"

#define WRITERS 4
#define KEYS 8 /* of each writer; written one by one, or destroyed */
#define WINDOW 256
#define ANSWERS 4096 /* read before a kill, at most */
#define HISTORY 4096 /* writes of one key in one cycle */

/* ---- chance ---- */

static uint64_t chance_state;

static uint64_t chance(uint64_t n) /* splitmix64; 0 to n - 1 */
{
    uint64_t z = chance_state += 0x9e3779b97f4a7c15;
    z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9;
    z = (z ^ z >> 27) * 0x94d049bb133111eb;
    return (z ^ z >> 31) % n;
}

/* ---- what was written ---- */

/* Writes of one key since it was last read, as numbers that grow; -n: it was destroyed by write n. value[0] is what was
 * read. */
struct history {
    int64_t value[HISTORY];
    int sent, acked; /* value[0..sent] were sent, value[0..acked] are certain to have happened */
};

static struct history keys[WRITERS][KEYS], pairs[WRITERS];
static int64_t clock_;
static int made_keys, lost, versions;

static void sent(struct history *h, int64_t value)
{
    assert_true(h->sent + 1 < HISTORY);
    h->value[++h->sent] = value;
}

/* ---- one window of writes ---- */

struct window {
    struct history *of[WINDOW];
    int entry[WINDOW]; /* index in of[i]->value; -1: a KEY.CREATE */
    int n, answered;
};

static void send_one(redisContext *c, struct window *w, int writer)
{
    int i = w->n++, what = (int)chance(100), k = (int)chance(KEYS);
    struct history *h = what < 20 ? &pairs[writer] : &keys[writer][k];
    int64_t value = ++clock_;

    if (what < 20)
        redisAppendCommand(c, "SECRET.MSET v w%d/a %lld w%d/b %lld", writer, (long long)value, writer,
                           (long long)value);
    else if (what < 30)
        redisAppendCommand(c, "SECRET.DESTROY v w%d/k%d", writer, k);
    else
        redisAppendCommand(c, "SECRET.SET v w%d/k%d %lld", writer, k, (long long)value);
    sent(h, what >= 20 && what < 30 ? -value : value);
    w->of[i] = h;
    w->entry[i] = h->sent;
}

static void answered(struct window *w, const redisReply *r)
{
    if (r->type == REDIS_REPLY_ERROR)
        fail_msg("a write was answered: %s", r->str);
    struct history *h = w->of[w->answered];
    if (w->entry[w->answered] > h->acked)
        h->acked = w->entry[w->answered];
    w->answered++;
}

/* Reads one answer; 0 when the connection is gone. */
static int read_one(redisContext *c, struct window *w)
{
    void *r = NULL;
    if (redisGetReply(c, &r) != REDIS_OK)
        return 0;
    answered(w, r);
    freeReplyObject(r);
    return 1;
}

/* ---- a cycle ---- */

static void send_window(redisContext *c, struct window *w, int writer, int n)
{
    int done = 0;

    w->n = w->answered = 0;
    while (n-- > 0)
        send_one(c, w, writer);
    while (!done)
        assert_int_equal(redisBufferWrite(c, &done), REDIS_OK);
}

/* Windows of all writers are on their way, none of their answers was read: now, or a moment later, it dies. */
static void kill_in_flight(struct e2e *s, redisContext **c, struct window *w)
{
    const struct timespec moment = {.tv_nsec = (long)chance(25 * 1000 * 1000)};

    for (int i = 0; i < WRITERS; i++) {
        while (w[i].answered < w[i].n)
            assert_true(read_one(c[i], &w[i]));
    }
    for (int i = 0; i < WRITERS; i++)
        send_window(c[i], &w[i], i, WINDOW);
    nanosleep(&moment, NULL);
    e2e_kill(s);
    for (int i = 0; i < WRITERS; i++) {
        while (w[i].answered < w[i].n && read_one(c[i], &w[i])) {
        }
        lost += w[i].n - w[i].answered;
        redisFree(c[i]);
    }
}

/* Of some shard, or of several, while they serve: the kill finds it anywhere. Nobody reads the answers. */
static void begin_rebuilds(struct e2e *s)
{
    int done = 0;

    for (uint64_t n = chance(4); n > 0; n--)
        assert_int_equal(redisAppendCommand(s->c, "SHARD.REBUILD %d", (int)chance(4)), REDIS_OK);
    while (!done)
        assert_int_equal(redisBufferWrite(s->c, &done), REDIS_OK);
}

static void load_and_kill(struct e2e *s)
{
    redisContext *c[WRITERS];
    struct window w[WRITERS];

    memset(w, 0, sizeof w);
    for (int i = 0; i < WRITERS; i++)
        c[i] = e2e_connect(s);
    int rebuild_at = (int)chance(ANSWERS / 2);
    for (int left = (int)chance(ANSWERS); left > 0; left--) {
        if (left == rebuild_at)
            begin_rebuilds(s);
        int i = (int)chance(WRITERS);
        if (w[i].answered == w[i].n)
            send_window(c[i], &w[i], i, 1 + (int)chance(WINDOW));
        assert_true(read_one(c[i], &w[i]));
    }
    kill_in_flight(s, c, w);
}

static int64_t read_value(struct e2e *s, const char *path)
{
    redisReply *r = e2e_command(s->c, "SECRET.GET v %s", path);
    int64_t v = 0;

    if (r->type == REDIS_REPLY_STRING)
        v = strtoll(r->str, NULL, 10);
    else if (r->type != REDIS_REPLY_NIL)
        fail_msg("%s: %s", path, r->str);
    freeReplyObject(r);
    return v;
}

/* Every version that is listed has a value, older than that of the version after it. */
static void check_versions(struct e2e *s, const char *path)
{
    redisReply *list = e2e_command(s->c, "SECRET.VERSIONS v %s", path);
    int64_t newer = INT64_MAX;

    for (size_t i = 0; i < list->elements; i++) {
        redisReply *map = list->element[i], *r;
        assert_string_equal(map->element[0]->str, "version");
        r = e2e_command(s->c, "SECRET.GET v %s VERSION %lld", path, map->element[1]->integer);
        if (r->type != REDIS_REPLY_STRING || strtoll(r->str, NULL, 10) >= newer)
            fail_msg("%s VERSION %lld: %s", path, map->element[1]->integer, r->str ? r->str : "nil");
        newer = strtoll(r->str, NULL, 10);
        freeReplyObject(r);
        versions++;
    }
    freeReplyObject(list);
}

/* What was read must be what some write from the last acknowledged one on left; history begins anew with it. */
static void check_one(struct history *h, int64_t got, const char *path)
{
    for (int i = h->acked; i <= h->sent; i++) {
        if ((h->value[i] > 0 ? h->value[i] : 0) == got) {
            h->value[0] = got;
            h->sent = h->acked = 0;
            return;
        }
    }
    fail_msg("%s is %lld; acknowledged was %lld, sent %lld", path, (long long)got, (long long)h->value[h->acked],
             (long long)h->value[h->sent]);
}

static void check_all(struct e2e *s)
{
    char path[32];

    for (int i = 0; i < WRITERS; i++) {
        for (int k = 0; k < KEYS; k++) {
            snprintf(path, sizeof path, "w%d/k%d", i, k);
            check_one(&keys[i][k], read_value(s, path), path);
            check_versions(s, path);
        }
        snprintf(path, sizeof path, "w%d/a", i);
        int64_t a = read_value(s, path);
        check_one(&pairs[i], a, path);
        snprintf(path, sizeof path, "w%d/b", i);
        assert_int_equal(read_value(s, path), a);
    }
}

static void check_log(struct e2e *s)
{
    struct e2e_raw r;

    e2e_raw_open3(&r, s);
    const struct answer *map = e2e_raw_command(&r, "WBL.VERIFY"), *ok = answer_get(map, "chain-ok");
    if (!ok || !ok->integer) {
        char *text = e2e_show_answer(map);
        fail_msg("WBL.VERIFY: %s", text);
    }
    e2e_raw_close(&r);
}

/* Keys of the HSM survive as well: one more each cycle, used after each start. */
static void make_key(struct e2e *s, redisReply **ciphertext)
{
    made_keys++;
    e2e_expect(s->c, ":1", "KEY.CREATE v key%d", made_keys);
    if (!*ciphertext)
        *ciphertext = e2e_command(s->c, "KEY.ENCRYPT v key1 plain");
}

static void check_keys(struct e2e *s, const redisReply *ciphertext)
{
    for (int i = 1; i <= made_keys; i++)
        e2e_expect(s->c, "$...", "KEY.ENCRYPT v key%d x", i);
    e2e_expect(s->c, "$plain", "KEY.DECRYPT v key1 %b", ciphertext->str, (size_t)ciphertext->len);
}

static void lose_stores(const struct e2e *s)
{
    char command[E2E_PATH * 2 + 64];
    snprintf(command, sizeof command, "rm -rf %s/base %s/shard-*", s->dir, s->dir);
    assert_int_equal(system(command), 0);
}

static void test_acknowledged_writes_survive_kill_9(void **state)
{
    struct e2e s;
    const char *cycles = getenv("CYCLES"), *seed = getenv("SEED");
    redisReply *ciphertext = NULL;

    (void)state;
    chance_state = seed ? strtoull(seed, NULL, 10) : (uint64_t)time(NULL) * 1000 + (uint64_t)getpid();
    fprintf(stderr, "# SEED=%llu\n", (unsigned long long)chance_state);
    e2e_start(&s, "--wbl-segment-bytes", "1mb", "--snapshot-log-bytes", "1mb", NULL);
    e2e_expect(s.c, "+OK", "VAULT.CREATE v");
    for (int i = cycles ? atoi(cycles) : 3; i > 0; i--) {
        make_key(&s, &ciphertext);
        load_and_kill(&s);
        for (uint64_t early = chance(3); early > 0; early--)
            e2e_again_killed(&s, (unsigned)chance(60));
        if (chance(3) == 0)
            lose_stores(&s);
        e2e_again(&s);
        check_all(&s);
        check_keys(&s, ciphertext);
        check_log(&s);
    }
    fprintf(stderr, "# %d writes got no answer; %d versions were read\n", lost, versions);
    fprintf(stderr, "# snapshot at LSN %s\n", e2e_info(s.c, "snapshot_lsn"));
    fprintf(stderr, "# the log begins at LSN %s\n", e2e_info(s.c, "wbl_first_lsn"));
    freeReplyObject(ciphertext);
    e2e_finish(&s);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_teardown(test_acknowledged_writes_survive_kill_9, e2e_teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
