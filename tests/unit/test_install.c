/* A fetched snapshot, or nothing, takes the place of log and state: what is there afterwards, and that a process which
 * dies at any file operation of it, or for which that one fails, leaves the old state or the new one, and never
 * neither; and what is set aside whole. */
#include <errno.h>
#include <sys/wait.h>
#include <unistd.h>

#include "engine_fixture.h"
#include "sweep.h"

#include "base/fault.h"
#include "base/file.h"
#include "engine/celldir.h"
#include "engine/install.h"
#include "engine/vote.h"

#define KEYS 5

static struct install in;        /* of the snapshot that was fetched: version 1 of all keys */
static uint8_t another_cell[16]; /* whose it is in some tests */

/* ---- what the directory holds ---- */

static void set(unsigned key, unsigned version)
{
    char path[16], value[16];
    snprintf(path, sizeof path, "p/%u", key);
    snprintf(value, sizeof value, "%u/%u", key, version);
    struct plain *p = malloc(sizeof *p + strlen(value));
    assert_non_null(p);
    p->n = strlen(value);
    memcpy(p->bytes, value, p->n);
    struct step s = {.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = p};
    assert_int_equal(run(vault_named("v"), &s), ERR_OK);
}

static void fill(unsigned version)
{
    for (unsigned key = 0; key < KEYS; key++)
        set(key, version);
}

static void assert_filled(unsigned version)
{
    for (unsigned key = 0; key < KEYS; key++) {
        char path[16], value[16];
        struct secret_view v;
        snprintf(path, sizeof path, "p/%u", key);
        snprintf(value, sizeof value, "%u/%u", key, version);
        assert_int_equal(secret_read(e, vault_named("v"), bytes_str(path), 0, bytes_of(NULL, 0), &v), ERR_OK);
        assert_int_equal(v.value.raw.n, 4 + strlen(value));
        assert_memory_equal(v.value.raw.p + 4, value, strlen(value));
        secret_view_release(&v);
    }
}

static int is_there(const char *name)
{
    char path[INSTALL_PATH_BYTES];
    snprintf(path, sizeof path, "%s/%s", dir, name);
    return access(path, F_OK) == 0;
}

static void write_vote(const uint8_t cell_id[16])
{
    char path[128];
    struct vote_file v = {.vote = {.promised = 9, .promised_to = CELL_NOBODY}};
    snprintf(path, sizeof path, "%s/vote", dir);
    memcpy(v.cell_id, cell_id, 16);
    assert_int_equal(vote_write(path, &v), ERR_OK);
}

/* DIR has version 2, of its own log and snapshots; in DIR/fetch lies the snapshot of version 1, as if a peer had sent
 * it. DIR.gold is a copy. */
static int setup(void **state)
{
    (void)state;
    struct snapread_info i;
    char path[INSTALL_PATH_BYTES];

    snprintf(dir, sizeof dir, "%s/coffer-install-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(dir));
    open_engine();
    fill(1);
    make_snapshot();
    struct snapread *r = snapshots_newest(engine_snapshots(e));
    snapread_info(r, &i);
    in = (struct install){.lsn = i.header.lsn, .term = i.header.term};
    assert_int_equal(install_shards(r, &in.shards), ERR_OK);
    assert_in_range(in.shards, 1, 2);
    in.shards = 2;
    memcpy(in.cell_id, i.header.cell_id, sizeof in.cell_id);
    memcpy(in.chain, i.header.chain, sizeof in.chain);
    snapread_unref(r);
    shell("mkdir %s/fetch && cp %s/snapshots/*.snap %s/fetch/x && touch %s/fetch/older.part", dir, dir, dir, dir);
    fill(2);
    make_snapshot();
    fill(2);
    close_engine();
    install_path(path, dir, in.lsn, in.term);
    shell("mv %s/fetch/x %s && rm %s/snapshots/*%lu*", dir, path, dir, in.lsn);
    write_vote(in.cell_id);
    memset(another_cell, 0xc3, sizeof another_cell);
    shell("cp -r %s %s.gold", dir, dir);
    return 0;
}

static int teardown(void **state)
{
    (void)state;
    close_engine();
    shell("rm -rf %s %s.gold", dir, dir);
    return 0;
}

static void as_it_was(void)
{
    shell("rm -rf %s && cp -r %s.gold %s", dir, dir, dir);
}

/* ---- what must hold ---- */

static void assert_new(void)
{
    struct wal_info w;
    struct install none;
    assert_int_equal(install_finish(dir, &none), ERR_NOTFOUND);
    assert_false(is_there("install"));
    shell("test -z \"$(ls %s/fetch)\"", dir);
    shell("test $(ls %s/snapshots | wc -l) = 1 && ls %s/snapshots | grep -q %lu", dir, dir, in.lsn);
    open_engine();
    assert_filled(1);
    assert_int_equal(report.tier, 2);
    assert_int_equal(report.snapshot_lsn, in.lsn);
    assert_int_equal(first_lsn(), in.lsn + 1); /* the barrier of a node that is alone */
    wal_info(engine_wal(e), &w);
    assert_true(w.term > in.term);
    wait_for_filling();
    assert_filled(1);
    checkpoint(); /* and as ever from then on */
    assert_int_equal(report.tier, 0);
    assert_filled(1);
    close_engine();
}

static void assert_old(void)
{
    struct install none;
    char path[INSTALL_PATH_BYTES];
    assert_int_equal(install_finish(dir, &none), ERR_NOTFOUND);
    install_path(path, dir, in.lsn, in.term);
    assert_int_equal(access(path, F_OK), 0); /* it need not be fetched again */
    open_engine();
    assert_filled(2);
    close_engine();
}

/* What was set aside, put back into the place of what is there now, is the old state. */
static void assert_aside(void)
{
    assert_true(install_has_aside(dir));
    shell("cd %s && rm -rf wal base base.* shard-* snapshots begin state && mv aside/* . && rmdir aside", dir);
    open_engine();
    assert_filled(2);
    close_engine();
    assert_false(install_has_aside(dir));
}

static void assert_empty(void)
{
    struct install none;
    struct celldir c;
    assert_int_equal(install_finish(dir, &none), ERR_NOTFOUND);
    assert_false(is_there("install") || is_there("wal") || is_there("base") || is_there("shard-0") ||
                 is_there("begin"));
    shell("test -z \"$(ls %s/snapshots)\"", dir);
    assert_true(is_there("vote"));
    assert_int_equal(celldir_read(dir, &c), ERR_OK);
    assert_memory_equal(c.cell_id, in.cell_id, 16);
    open_engine(); /* as one that never held anything */
    assert_int_equal(first_lsn(), 1);
    assert_int_equal(report.replayed, 1);
    close_engine();
}

static void assert_log_kept(void)
{
    struct install none;
    assert_int_equal(install_finish(dir, &none), ERR_NOTFOUND);
    assert_false(is_there("begin") || is_there("base") || is_there("aside/wal"));
    assert_true(is_there("aside/base"));
    shell("test $(ls %s/snapshots | wc -l) = 1 && ls %s/snapshots | grep -q %lu", dir, dir, in.lsn);
    open_engine();
    assert_filled(2);
    assert_int_equal(report.snapshot_lsn, in.lsn);
    assert_true(report.replayed > 0);
    wait_for_filling();
    assert_filled(2);
    close_engine();
}

static void the_old_state_is_set_aside(void **state)
{
    (void)state;
    struct install found, kept = in;
    kept.aside = 1;
    assert_false(install_has_aside(dir));
    assert_int_equal(install_mark(dir, &kept), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    assert_int_equal(found.aside, 1);
    assert_new();
    assert_aside();
}

/* Of what was set aside the stores are: the log is where it was, and gives what it gave, from the snapshot on. */
static void the_log_may_stay(void **state)
{
    (void)state;
    struct install found, kept = in;
    kept.aside = kept.keep_log = 1;
    assert_int_equal(install_mark(dir, &kept), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    assert_int_equal(found.keep_log, 1);
    assert_log_kept();
}

static void nothing_takes_the_place_of_what_is_set_aside(void **state)
{
    (void)state;
    struct install found, kept = {.aside = 1};
    assert_int_equal(install_mark(dir, &kept), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    assert_int_equal(found.lsn, 0);
    assert_empty();
    assert_aside();
}

static void one_set_is_kept_and_it_needs_room(void **state)
{
    (void)state;
    char why[INSTALL_WHY_BYTES];
    assert_int_equal(install_may_set_aside(dir, 0, why), ERR_OK);
    assert_int_equal(install_may_set_aside(dir, UINT64_MAX / 2, why), ERR_MISCONF);
    assert_non_null(strstr(why, "MiB free"));
    shell("mkdir %s/aside", dir);
    assert_int_equal(install_may_set_aside(dir, 0, why), ERR_CONFLICT);
    assert_non_null(strstr(why, "was set aside before"));
}

static void a_snapshot_takes_the_place_of_the_state(void **state)
{
    (void)state;
    struct install found;
    assert_int_equal(install_finish(dir, &found), ERR_NOTFOUND);
    assert_int_equal(install_mark(dir, &in), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    assert_int_equal(found.lsn, in.lsn);
    assert_true(is_there("vote")); /* what was promised holds */
    assert_new();
}

static void another_cells_takes_its_identity_too(void **state)
{
    (void)state;
    struct celldir c;
    struct install other = in, found;
    memcpy(other.cell_id, another_cell, sizeof other.cell_id);
    other.shards = 7;
    assert_int_equal(install_mark(dir, &other), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    assert_int_equal(celldir_read(dir, &c), ERR_OK);
    assert_memory_equal(c.cell_id, another_cell, 16);
    assert_int_equal(c.shards, 7);
    assert_false(is_there("vote"));
}

static void a_mark_without_its_snapshot_changes_nothing(void **state)
{
    (void)state;
    struct install found;
    assert_int_equal(install_mark(dir, &in), ERR_OK);
    shell("mv %s/fetch %s/elsewhere", dir, dir);
    assert_int_equal(install_finish(dir, &found), ERR_CORRUPT);
    shell("head -c 60 %s/install >%s/x && mv %s/x %s/install", dir, dir, dir, dir);
    assert_int_equal(install_finish(dir, &found), ERR_CORRUPT);
    shell("rm %s/install && mv %s/elsewhere %s/fetch", dir, dir, dir);
    assert_old();
}

/* The term in front of the log is known where the log begins behind a snapshot, and stays known. */
static void the_term_in_front_of_the_log_is_known(void **state)
{
    (void)state;
    struct install found;
    uint8_t chain[RECORD_CHAIN_BYTES];
    uint32_t term;
    assert_int_equal(install_mark(dir, &in), ERR_OK);
    assert_int_equal(install_finish(dir, &found), ERR_OK);
    for (int i = 0; i < 2; i++) {
        open_engine();
        assert_true(wal_base(engine_wal(e), in.lsn, chain, &term));
        assert_int_equal(term, in.term);
        assert_memory_equal(chain, in.chain, sizeof chain);
        assert_false(wal_base(engine_wal(e), in.lsn + 1, chain, &term));
        close_engine();
    }
}

/* ---- deaths and failures ---- */

static struct install wanted; /* what is installed: in; the same, with the old state set aside; or nothing */

static enum err install_it(void)
{
    struct install found;
    enum err err = install_mark(dir, &wanted);
    return err ? err : install_finish(dir, &found);
}

/* A process that dies at its n-th file operation; 0: it came to its end before. */
static int dies_at(long n)
{
    int status;
    pid_t pid = fork();
    assert_true(pid >= 0);
    if (pid == 0) {
        fault_arm(FAULT_FILE, n, FAULT_DIE);
        _exit(install_it() != ERR_OK);
    }
    assert_int_equal(waitpid(pid, &status, 0), pid);
    if (WIFSIGNALED(status) && WTERMSIG(status) == SIGKILL)
        return 1;
    assert_true(WIFEXITED(status) && WEXITSTATUS(status) == 0);
    return 0;
}

/* Whichever it is. 1: the new one. */
static int assert_one_of_both(void)
{
    struct install found;
    enum err err = install_finish(dir, &found);
    assert_true(err == ERR_OK || err == ERR_NOTFOUND);
    int is_new = err == ERR_OK || is_there("begin") || !is_there("base");
    if (!is_new)
        assert_old();
    else if (wanted.keep_log)
        assert_log_kept();
    else if (wanted.lsn)
        assert_new();
    else
        assert_empty();
    if (is_new && wanted.aside && !wanted.keep_log)
        assert_aside();
    return is_new;
}

static void die_at_each_step(void)
{
    long n = 1, old = 0;
    int died;
    do {
        as_it_was();
        died = dies_at(n++);
        old += !assert_one_of_both();
    } while (died);
    print_message("# %ld steps, the first %ld of them leave the old state\n", n - 2, old);
    assert_true(old > 1 && n > old + 10);
}

static void fail_at_each_step(void)
{
    static const int codes[] = {ENOSPC, EIO};
    for (unsigned c = 0; c < 2; c++) {
        int fired = 1;
        for (long n = 1; fired; n += SWEEP_STEP) {
            as_it_was();
            fault_arm(FAULT_FILE, n, codes[c]);
            enum err err = install_it();
            fired = fault_fired(FAULT_FILE);
            fault_disarm(FAULT_FILE);
            assert_true(fired || err == ERR_OK);
            assert_one_of_both();
        }
    }
}

static void a_death_at_each_step(void **state)
{
    (void)state;
    wanted = in;
    die_at_each_step();
    wanted.aside = 1;
    die_at_each_step();
    wanted.keep_log = 1;
    die_at_each_step();
    wanted = (struct install){.aside = 1};
    die_at_each_step();
}

static void a_failure_at_each_step(void **state)
{
    (void)state;
    wanted = in;
    fail_at_each_step();
    wanted.aside = 1;
    fail_at_each_step();
    wanted.keep_log = 1;
    fail_at_each_step();
    wanted = (struct install){.aside = 1};
    fail_at_each_step();
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(a_snapshot_takes_the_place_of_the_state, setup, teardown),
        cmocka_unit_test_setup_teardown(another_cells_takes_its_identity_too, setup, teardown),
        cmocka_unit_test_setup_teardown(the_old_state_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(the_log_may_stay, setup, teardown),
        cmocka_unit_test_setup_teardown(nothing_takes_the_place_of_what_is_set_aside, setup, teardown),
        cmocka_unit_test_setup_teardown(one_set_is_kept_and_it_needs_room, setup, teardown),
        cmocka_unit_test_setup_teardown(a_mark_without_its_snapshot_changes_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(the_term_in_front_of_the_log_is_known, setup, teardown),
        cmocka_unit_test_setup_teardown(a_death_at_each_step, setup, teardown),
        cmocka_unit_test_setup_teardown(a_failure_at_each_step, setup, teardown),
    };
    return cmocka_run_group_tests(tests, NULL, NULL);
}
