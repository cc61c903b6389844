/* Making a snapshot, passing over a damaged one, leaving a damaged log behind, rebuilding a store, loading stores at a
 * start: the process dies at the n-th file operation of it, or that fails for want of space or otherwise, for every n.
 *
 * Whatever the moment was: the engine opens afterwards, every value that was acknowledged is there, nothing half-made
 * counts or is left, and the same thing done again comes to its end.
 *
 * STRIDE=n tries every n-th (7), from one on that SEED chooses; 1: all of them. */
#include <errno.h>
#include <sys/wait.h>

#include "base/clock.h"
#include "base/fault.h"
#include "base/log.h"
#include "engine_keys.h"
#include "sweep.h"

#define STRIDE (SANITIZED ? 71 : 7)

#define NEWEST 16

static char gold[72];
static long stride, first; /* n = first, first + stride ... */

/* Two snapshots, the log trimmed, and more behind the newest. */
static int setup_gold(void **state)
{
    const char *n = getenv("STRIDE"), *seed = getenv("SEED");
    uint64_t from = seed ? strtoull(seed, NULL, 10) : clock_mono_us();
    stride = n ? atol(n) : STRIDE;
    first = 1 + (long)(from % (uint64_t)stride);
    print_message("# STRIDE=%ld SEED=%ld\n", stride, first - 1);
    assert_int_equal(setup(state), 0);
    for (unsigned round = 0; round < 3; round++) {
        fill(round * 5 + 1, round * 5 + 5);
        checkpoint();
        make_snapshot();
    }
    fill(NEWEST, NEWEST);
    settle();
    close_engine();
    snprintf(gold, sizeof gold, "%s.gold", dir);
    shell("cp -r %s %s", dir, gold);
    return 0;
}

static int teardown_gold(void **state)
{
    shell("rm -rf %s", gold);
    return teardown(state);
}

/* ---- what is done ---- */

static void nothing(void)
{
}

static void lose_stores(void)
{
    shell("rm -rf %s/base* %s/shard-*", dir, dir);
}

static void damage_snapshot(void)
{
    shell("printf XXXX | dd of=$(ls %s/snapshots/*.snap | tail -1) bs=1 seek=3000 conv=notrunc 2>/dev/null", dir);
}

static void damage_log(void)
{
    shell("printf XXXX | dd of=$(ls %s/wal/*.wbl | head -1) bs=1 seek=3000 conv=notrunc 2>/dev/null", dir);
}

static void damage_table(void)
{
    shell("printf XXXX | dd of=$(ls %s/shard-0*/*.ldb | head -1) bs=1 seek=300 conv=notrunc 2>/dev/null", dir);
}

static enum err snapshot(void)
{
    uint64_t lsn;
    return demand(&lsn);
}

static enum err rebuild_each(void)
{
    enum err err = ERR_OK;
    for (unsigned s = 0; s <= 2 && !err; s++)
        err = rebuild(s, NULL);
    return err;
}

static enum err scrub(void)
{
    struct scrub_wait w = scrub_now();
    return w.err ? w.err : w.errors == w.repaired && !w.skipped ? ERR_OK : ERR_CORRUPT;
}

static const struct scene {
    const char *name;
    void (*before)(void); /* to a closed directory */
    void (*spoil)(void);  /* to an open one */
    enum err (*act)(void);
    int from_open;  /* the open counts */
    int may_refuse; /* a start after it may be refused because of the log, until that is put back */
} scenes[] = {
    {"a snapshot is made, the log trimmed", nothing, nothing, snapshot, 0, 0},
    {"stores are loaded at a start", lose_stores, nothing, snapshot, 1, 0},
    {"a start passes over a snapshot", damage_snapshot, nothing, snapshot, 1, 0},
    {"stores are rebuilt", nothing, nothing, rebuild_each, 0, 0},
    {"a damaged table is found and its store rebuilt", nothing, damage_table, scrub, 0, 0},
    {"a damaged snapshot is found and made again", nothing, damage_snapshot, scrub, 0, 0},
    {"a damaged log is found and left behind", nothing, damage_log, scrub, 0, 1},
};
#define SCENES (sizeof scenes / sizeof *scenes)

static void begin(const struct scene *s)
{
    shell("rm -rf %s && cp -r %s %s", dir, gold, dir);
    s->before();
}

/* ---- what must hold afterwards; the engine is closed ---- */

static void check_dir(const struct scene *s, const char *what, long n)
{
    enum err err = try_open();
    if (err == ERR_CORRUPT && s->may_refuse) {
        shell("rm -r %s/wal && cp -r %s/wal %s", dir, gold, dir);
        err = try_open();
    }
    if (err)
        fail_msg("%s, %s at %ld: does not open: %s", s->name, what, n, said);
    assert_filled(NEWEST);
    assert_int_equal(snapshot(), ERR_OK);
    assert_int_equal(scrub(), ERR_OK);
    assert_filled(NEWEST);
    wait_for_filling(); /* what is closed while it is filled is filled at the next start */
    close_engine();
    shell("! ls -d %s/snapshots/*.tmp %s/*.new 2>/dev/null | grep .", dir, dir);
    shell("test $(ls %s/snapshots | wc -l) -le 3 -a $(ls -d %s/shard-* %s/base* | wc -l) = 3", dir, dir, dir);
}

/* ---- deaths ---- */

/* In a process of its own, not a fork of this one: LevelDB has a thread that a fork does not get. Ends with 0 when n
 * was too high. */
static int live(const struct scene *s, long n)
{
    if (!s->from_open)
        check(try_open() == ERR_OK, "it opens");
    s->spoil();
    fault_arm(FAULT_FILE, n, FAULT_DIE);
    if (s->from_open)
        check(try_open() == ERR_OK, "it opens while it counts");
    check(s->act() == ERR_OK, "it comes to its end");
    fault_disarm(FAULT_FILE);
    close_engine();
    return 0;
}

/* 1: it died. */
static int live_apart(const struct scene *s, long n)
{
    char scene[16], count[16];
    int status;
    snprintf(scene, sizeof scene, "%d", (int)(s - scenes));
    snprintf(count, sizeof count, "%ld", n);
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        execl("/proc/self/exe", "live", dir, scene, count, (char *)NULL);
        _exit(127);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return 1;
    if (!WIFEXITED(status) || WEXITSTATUS(status))
        fail_msg("%s: %ld: status %d", s->name, n, status);
    return 0;
}

static void it_dies_at_each_step(void **state)
{
    (void)state;
    for (const struct scene *s = scenes; s < scenes + SCENES; s++) {
        int died = 1;
        long n = first;
        for (; died; n += stride) {
            begin(s);
            died = live_apart(s, n);
            check_dir(s, "death", n);
        }
        print_message("# %s: %ld steps\n", s->name, n - stride);
        assert_true(n > 20);
    }
}

/* ---- failures ---- */

static void fail_at(const struct scene *s, int code, long n, int *fired)
{
    enum err err = ERR_OK;
    begin(s);
    if (!s->from_open)
        open_engine();
    s->spoil();
    fault_arm(FAULT_FILE, n, code);
    if (s->from_open)
        err = try_open();
    if (!err)
        err = s->act();
    *fired = fault_fired(FAULT_FILE);
    fault_disarm(FAULT_FILE);
    if (err && !*fired)
        fail_msg("%s: %s", s->name, said);
    if (e) {
        if (err && (err = s->act()) != ERR_OK && !s->may_refuse) /* a log that failed does not let go of segments */
            fail_msg("%s, %d at %ld: not even again: %s: %s", s->name, code, n, err_name(err), said);
        for (unsigned key = 0; key < KEYS; key += 3)
            assert_int_equal(read_value(key, NEWEST, 1), ERR_OK);
        close_engine();
    }
}

static void it_fails_at_each_step(void **state)
{
    static const int codes[] = {ENOSPC, EIO};
    (void)state;
    for (const struct scene *s = scenes; s < scenes + SCENES; s++)
        for (unsigned c = 0; c < 2; c++) {
            int fired = 1;
            for (long n = first; fired; n += stride) {
                fail_at(s, codes[c], n, &fired);
                check_dir(s, c ? "EIO" : "ENOSPC", n);
            }
        }
}

int main(int argc, char **argv)
{
    if (argc == 4) {
        snprintf(dir, sizeof dir, "%s", argv[1]);
        return live(&scenes[atoi(argv[2])], atol(argv[3]));
    }
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(it_dies_at_each_step, setup_gold, teardown_gold),
        cmocka_unit_test_setup_teardown(it_fails_at_each_step, setup_gold, teardown_gold),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
