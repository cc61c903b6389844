/* The damage campaign: a bit flips at random in a snapshot, in the log, in a store, of an engine that is stopped or
 * that runs. Whatever bit it is:
 *
 *   - no read gives anything but what was written, or an error; no secret is missing, none is back that was destroyed,
 *     no listing leaves one out;
 *   - the damage is found: by the start, by a read, or by a pass of the scrub;
 *   - what another copy has is made good: a store from snapshot and log, a snapshot from the other one and the log, the
 *     log (of a running engine) by a snapshot behind it. A start with damage in the log is refused, and nothing of it
 * is touched.
 *
 * FLIPS=n makes n flips (1,000), SEED=n repeats a run; what failed names the file and the bit. */
#include <dirent.h>
#include <fcntl.h>
#include <inttypes.h>
#include <sys/stat.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine_keys.h"
#include "sweep.h"

#define FLIPS (SANITIZED ? 120 : 1000)

static char gold[72], where[600]; /* what every flip begins with; where the bit was */
static unsigned newest[KEYS];     /* version, 0: destroyed */
static uint64_t rnd_state;

static uint64_t rnd(void)
{
    rnd_state ^= rnd_state << 13;
    rnd_state ^= rnd_state >> 7;
    return rnd_state ^= rnd_state << 17;
}

static uint64_t from_env(const char *name, uint64_t otherwise)
{
    const char *s = getenv(name);
    return s && *s ? strtoull(s, NULL, 10) : otherwise;
}

/* ---- the state ---- */

static void write_all(unsigned version)
{
    for (unsigned key = 0; key < KEYS; key++)
        if (newest[key] + 1 == version) {
            assert_int_equal(set(key, version), ERR_OK);
            newest[key] = version;
        }
}

static void destroy_every_tenth(unsigned first)
{
    for (unsigned key = first; key < KEYS; key += 10) {
        destroy(key);
        newest[key] = 0;
    }
}

/* Two snapshots, the log from the middle on, tables of several ages, and something of everything behind the newest
 * snapshot. */
static void make_state(void)
{
    unsigned version = 0;
    for (unsigned round = 0; round < 4; round++) {
        for (unsigned i = 0; i < 6; i++)
            write_all(++version);
        if (round == 2)
            destroy_every_tenth(9);
        checkpoint();
        make_snapshot();
    }
    assert_true(first_lsn() > 1);
    for (unsigned i = 0; i < 12; i++) {
        write_all(++version);
        if (i == 4)
            destroy_every_tenth(8);
    }
}

static int setup_campaign(void **state)
{
    assert_int_equal(setup(state), 0);
    make_state();
    settle();
    close_engine();
    snprintf(gold, sizeof gold, "%s.gold", dir);
    shell("cp -r %s %s", dir, gold);
    return 0;
}

static int teardown_campaign(void **state)
{
    shell("rm -rf %s", gold);
    return teardown(state);
}

/* ---- reading all of it ---- */

struct looked {
    unsigned errors, old_errors; /* reads refused: of what is CURRENT, or is not there; of old values */
};

static void look_at_version(struct looked *l, unsigned key, unsigned version)
{
    unsigned now = newest[key];
    enum err err = read_value(key, version, 0); /* a wrong value aborts */
    if (err == ERR_CORRUPT || err == ERR_IO) {
        if (version == now)
            l->errors++;
        else
            l->old_errors++;
    } else if ((err == ERR_OK) != (now && version <= now && version + 5 > now)) {
        fail_msg("%s: key %u version %u of %u: %s", where, key, version, now, err_name(err));
    }
}

static struct looked look(void)
{
    struct looked l = {0};
    for (unsigned key = 0; key < KEYS; key++) {
        unsigned now = newest[key];
        enum err err = read_value(key, now, 1);
        if (err == ERR_CORRUPT || err == ERR_IO)
            l.errors++;
        else if (err != (now ? ERR_OK : ERR_NOTFOUND))
            fail_msg("%s: key %u: %s", where, key, err_name(err));
        for (unsigned version = now > 6 ? now - 6 : 1; version <= now + 1; version++)
            look_at_version(&l, key, version);
    }
    return l;
}

static int visit(void *arg, struct bytes path, const struct secret_head *head)
{
    char name[16];
    unsigned key;
    snprintf(name, sizeof name, "%.*s", (int)path.n, (const char *)path.p);
    if (head && sscanf(name, "p/%u", &key) == 1 && key < KEYS && newest[key])
        ++*(unsigned *)arg;
    else
        fail_msg("%s: %s is listed", where, name);
    return 1;
}

static void list(void)
{
    for (unsigned parity = 0; parity < 2; parity++) {
        unsigned n = 0, want = 0;
        uint64_t lsn;
        int more;
        struct buf last;
        struct list_query q = {.max = 1000, .scan_max = 1000, .visit = visit, .arg = &n};
        for (unsigned key = parity; key < KEYS; key += 2)
            want += newest[key] != 0;
        apply_all();
        if (engine_list_ready(e, vault_of(parity), &lsn) != ERR_OK)
            continue;
        buf_init(&last, 4096);
        enum err err = secret_list(e, vault_of(parity), &q, &last, &more);
        buf_fini(&last);
        if (err == ERR_OK && n != want)
            fail_msg("%s: %u of %u listed", where, n, want);
    }
}

/* ---- flips ---- */

enum kind { SNAPSHOT, LOG, STORE, KINDS };

static const struct {
    const char *name, *in, *files; /* directories, and the files in them */
    const char *while_running;
} kinds[KINDS] = {
    [SNAPSHOT] = {"snapshot", "snapshots", "*.snap", "*.snap"},
    [LOG] = {"log", "wal", "*.wbl", "*.wbl"},
    [STORE] = {"store", "base* shard-*", "*.ldb *.log MANIFEST-* CURRENT", "*.ldb"},
};

/* Paths of all files of a kind, one a line; of a running engine's log not the segment that is being written. */
static unsigned find_files(enum kind k, int running, char names[64][200])
{
    char command[700];
    unsigned n = 0;
    snprintf(command, sizeof command, "cd %s && for d in %s; do for f in %s; do ls $d/$f 2>/dev/null; done; done%s",
             dir, kinds[k].in, running ? kinds[k].while_running : kinds[k].files,
             k == LOG && running ? " | sort | head -n -1" : "");
    FILE *f = popen(command, "r");
    assert_non_null(f);
    while (n < 64 && fgets(names[n], sizeof names[n], f)) {
        names[n][strcspn(names[n], "\n")] = '\0';
        n++;
    }
    pclose(f);
    assert_true(n > 0);
    return n;
}

static void flip(enum kind k, int running)
{
    char names[64][200], path[300];
    struct stat st;
    uint8_t byte;
    unsigned n = find_files(k, running, names);
    const char *name = names[rnd() % n];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    int fd = open(path, O_RDWR);
    assert_true(fd >= 0 && fstat(fd, &st) == 0);
    if (st.st_size == 0) { /* a log of LevelDB that was just begun: as good as any other */
        close(fd);
        flip(k, running);
        return;
    }
    off_t at = (off_t)(rnd() % (uint64_t)st.st_size);
    unsigned bit = (unsigned)(rnd() % 8);
    assert_int_equal(pread(fd, &byte, 1, at), 1);
    byte ^= (uint8_t)(1u << bit);
    assert_int_equal(pwrite(fd, &byte, 1, at), 1);
    close(fd);
    snprintf(where, sizeof where, "%s, byte %lld, bit %u%s", name, (long long)at, bit, running ? ", running" : "");
}

/* ---- one flip ---- */

static struct tally {
    unsigned flips, refused, by_start, by_scrub, harmless, errors, old_errors;
} tally[KINDS][2];

static void restore(void)
{
    shell("rm -rf %s && cp -r %s %s", dir, gold, dir);
}

/* What verifies is served and what does not is put right: nothing has to be done but to wait. */
static void wait_for_stores(void)
{
    struct rebuild_info i;
    unsigned out = 1;
    for (unsigned k = 0; k < 30000 && out; k++) {
        rebuild_info(engine_rebuild(e), &i);
        out = i.state != REBUILD_IDLE;
        for (unsigned s = 0; s <= 2; s++)
            out += !engine_store_serves(e, s);
        if (out)
            nap();
    }
    if (out)
        fail_msg("%s: a store does not come back: %s", where, said);
}

static void a_refused_log_is_untouched(enum kind k)
{
    if (k != LOG || !was_said("damaged at LSN"))
        fail_msg("%s: a start is refused: %s", where, said);
    shell("test $(diff -rq %s/wal %s/wal | wc -l) = 1", dir, gold);
    shell("rm -r %s/wal && cp -r %s/wal %s", dir, gold, dir); /* put back from a copy */
    open_engine();
    struct looked l = look();
    assert_true(l.errors == 0 && l.old_errors == 0);
}

static int was_found(const struct scrub_wait *w)
{
    return w->errors || report.stores_lost || report.wal.torn_bytes || was_said("does not verify") ||
           was_said("has damage") || was_said("being rebuilt");
}

/* Old values that were in the damaged record alone, as the snapshot behind it counted them. */
static uint64_t lost;

static void note_lost(void)
{
    struct snapshots_info i;
    snapshots_info(engine_snapshots(e), &i);
    lost = i.lost;
}

static void check_healed(enum kind k, const char *when)
{
    struct looked l = look();
    list();
    if (l.errors || l.old_errors > (k == LOG ? lost : 0))
        fail_msg("%s, %s: %u and %u values do not verify: %s", where, when, l.errors, l.old_errors, said);
}

static void reopen(enum kind k)
{
    close_engine();
    if (k == SNAPSHOT)
        shell("rm -rf %s/base* %s/shard-*", dir, dir);
    if (try_open())
        fail_msg("%s: it does not open any more", where);
    check_healed(k, "opened again");
}

static void one_flip(enum kind k, int running)
{
    struct tally *t = &tally[k][running];
    t->flips++;
    restore();
    if (!running)
        flip(k, 0);
    if (try_open()) {
        t->refused++;
        a_refused_log_is_untouched(k);
        close_engine();
        return;
    }
    if (running)
        flip(k, 1);
    struct looked l = look();
    list();
    t->errors += l.errors;
    t->old_errors += l.old_errors;
    if (l.errors && k != STORE)
        fail_msg("%s: a CURRENT value is not there", where);
    int at_start = report.stores_lost || report.wal.torn_bytes || was_said("does not verify");
    wait_for_stores();
    struct scrub_wait w = scrub_now();
    wait_for_stores();
    int found = was_found(&w);
    t->by_start += (unsigned)at_start;
    t->by_scrub += found && !at_start;
    t->harmless += !found;
    if (!found && !(k == STORE && !running && strstr(where, ".log,")))
        fail_msg("%s: passed unseen", where);
    if (w.errors != w.repaired)
        fail_msg("%s: not repaired: %s", where, said);
    note_lost();
    check_healed(k, "repaired");
    w = scrub_now();
    if (w.errors)
        fail_msg("%s: damage is left: %s", where, said);
    reopen(k);
    close_engine();
}

static void no_flipped_bit_is_served_and_all_is_made_good(void **state)
{
    uint64_t flips = from_env("FLIPS", FLIPS);
    (void)state;
    rnd_state = from_env("SEED", clock_mono_us() | 1);
    print_message("# SEED=%" PRIu64 "\n", rnd_state);
    for (uint64_t i = 0; i < flips; i++)
        one_flip((enum kind)(i % KINDS), (int)(i / KINDS % 2));
    for (enum kind k = 0; k < KINDS; k++)
        for (unsigned running = 0; running < 2; running++) {
            const struct tally *t = &tally[k][running];
            print_message("# %s, %s: %u flips; %u starts refused, %u found by the start or a read, %u by the scrub, "
                          "%u where nothing is kept; %u reads of CURRENT and %u of old values refused\n",
                          kinds[k].name, running ? "running" : "stopped", t->flips, t->refused, t->by_start,
                          t->by_scrub, t->harmless, t->errors, t->old_errors);
        }
    open_engine(); /* for the teardown */
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test(no_flipped_bit_is_served_and_all_is_made_good),
    };
    return cmocka_run_group_tests(tests, setup_campaign, teardown_campaign);
}
