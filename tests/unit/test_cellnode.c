/* test_cellnode.c - cells of three nodes with their whole engines in one process: the test has the links, the clock,
 * and pulls plugs. What the core decides is for tests/sim; here it is carried out on real logs. */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/cellnode.h"
#include "engine/cellwire.h"
#include "engine/sequencer_impl.h"
#include "engine/vote.h"
#include "engine/wal_impl.h"
#include "tests/unit/plain_sealer.h"

#define NODES 3

/* ---- machines and links ---- */

struct packet {
    struct packet *next;
    uint8_t from;
    size_t n;
    uint8_t bytes[];
};

struct machine {
    char dir[64];
    struct engine *e;
    struct cellnode *n;
    struct sequencer_gate gate;
    _Atomic int changed;
    struct packet *in, **in_last;
    int cut_off; /* from all others */
    int untold;  /* it does not hear what is committed */
    int halted;
};

static struct machine m[NODES];
static uint64_t now_ms;
static char root[40];

static void changed(void *arg)
{
    struct machine *x = arg;
    atomic_store(&x->changed, 1);
}

static void forget_commit(uint8_t *head)
{
    struct cell_msg msg;
    uint32_t record_bytes;
    assert_int_equal(cellwire_get(head, &msg, &record_bytes), ERR_OK);
    msg.commit = 0;
    cellwire_put(head, &msg, record_bytes);
}

static void send_packet(void *arg, uint8_t to, struct bytes head, struct bytes records)
{
    struct machine *from = arg, *x = &m[to];
    if (to >= NODES || !x->n || x->cut_off || from->cut_off)
        return;
    struct packet *p = malloc(sizeof *p + head.n + records.n);
    *p = (struct packet){.from = (uint8_t)(from - m), .n = head.n + records.n};
    memcpy(p->bytes, head.p, head.n);
    if (x->untold)
        forget_commit(p->bytes);
    if (records.n)
        memcpy(p->bytes + head.n, records.p, records.n);
    *x->in_last = p;
    x->in_last = &p->next;
}

static void drop_packets(struct machine *x)
{
    for (struct packet *p; (p = x->in);) {
        x->in = p->next;
        free(p);
    }
    x->in_last = &x->in;
}

static void on_halt(void *arg, const char *why)
{
    (void)why;
    ((struct machine *)arg)->halted = 1;
}

static void log_line(void *arg, int level, const char *line)
{
    (void)arg, (void)level, (void)line;
}

static void start(unsigned i, int newborn)
{
    struct machine *x = &m[i];
    const char *why;
    char vote[128];
    struct engine_report report;

    x->gate = (struct sequencer_gate){changed, x};
    x->in_last = &x->in;
    x->halted = x->cut_off = x->untold = 0;
    snprintf(x->dir, sizeof x->dir, "%s/%u", root, i);
    struct engine_config cfg = {.dir = x->dir,
                                .shards = 2,
                                .wal_segment_bytes = 65536,
                                .cache_bytes = 1 << 20,
                                .dirty_bytes = 4 << 20,
                                .write_buffer_bytes = 1 << 20,
                                .secret_max_bytes = 1 << 20,
                                .gate = &x->gate,
                                .sealer = &sealer};
    assert_int_equal(engine_open(&x->e, &cfg, &report, &why), ERR_OK);
    snprintf(vote, sizeof vote, "%s/vote", x->dir);
    struct cellnode_config node = {.engine = x->e,
                                   .cell = cell_config_default,
                                   .vote_path = vote,
                                   .newborn = newborn,
                                   .send = send_packet,
                                   .halt = on_halt,
                                   .log = log_line,
                                   .arg = x};
    node.cell.self = (uint8_t)i;
    node.cell.voters = node.cell.peers = NODES;
    node.cell.config_id = 77;
    node.cell.seed = 1000 * now_ms + i;
    assert_int_equal(cellnode_open(&x->n, &node, now_ms), ERR_OK);
}

static void stop(unsigned i)
{
    struct machine *x = &m[i];
    drop_packets(x);
    cellnode_close(x->n);
    engine_close(x->e);
    x->n = NULL;
    x->e = NULL;
    for (unsigned j = 0; j < NODES; j++)
        if (m[j].n)
            cellnode_link_down(m[j].n, (uint8_t)i, now_ms);
}

/* One cell id for all, as the handshake would see to. */
static void same_cell(unsigned i)
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "mkdir -p %s/%u && cp %s/0/cell %s/%u/ 2>/dev/null || true", root, i, root, root, i);
    assert_int_equal(system(cmd), 0);
}

static int setup(void **state)
{
    (void)state;
    snprintf(root, sizeof root, "%s/coffer-cell-XXXXXX", access("/dev/shm", W_OK) == 0 ? "/dev/shm" : "/tmp");
    assert_non_null(mkdtemp(root));
    now_ms = 1000000;
    for (unsigned i = 0; i < NODES; i++) {
        if (i)
            same_cell(i);
        start(i, 1);
    }
    return 0;
}

static int teardown(void **state)
{
    char cmd[128];
    (void)state;
    for (unsigned i = 0; i < NODES; i++)
        if (m[i].n)
            stop(i);
    snprintf(cmd, sizeof cmd, "rm -rf %s", root);
    assert_int_equal(system(cmd), 0);
    memset(m, 0, sizeof m);
    return 0;
}

/* ---- the world turns ---- */

static int deliver(struct machine *x)
{
    struct packet *p = x->in;
    struct cell_msg msg;
    uint32_t record_bytes;

    if (!p || !x->n)
        return 0;
    assert_int_equal(cellwire_get(p->bytes, &msg, &record_bytes), ERR_OK);
    assert_int_equal(record_bytes, p->n - CELLWIRE_HEAD_BYTES);
    enum err err =
        cellnode_received(x->n, p->from, &msg, bytes_of(p->bytes + CELLWIRE_HEAD_BYTES, record_bytes), now_ms);
    if (err == ERR_AGAIN)
        return 0;
    assert_int_equal(err, ERR_OK);
    x->in = p->next;
    if (!x->in)
        x->in_last = &x->in;
    free(p);
    return 1;
}

static int is_writing(struct machine *x)
{
    struct sequencer *q = atomic_load(&x->e->seq);
    pthread_mutex_lock(&q->lock);
    int is = q->writing != NULL;
    pthread_mutex_unlock(&q->lock);
    return is;
}

/* Everything that can happen now; when nothing does, and no log is being written, some milliseconds. */
static void turn(void)
{
    int busy = 0;
    for (unsigned i = 0; i < NODES; i++) {
        if (!m[i].n)
            continue;
        int something = atomic_exchange(&m[i].changed, 0), writing = is_writing(&m[i]);
        if (something)
            cellnode_changed(m[i].n, now_ms);
        busy |= something | writing | deliver(&m[i]);
    }
    if (busy) {
        sched_yield();
        return;
    }
    now_ms += 5;
    for (unsigned i = 0; i < NODES; i++)
        if (m[i].n)
            cellnode_tick(m[i].n, now_ms);
}

#define UNTIL(holds)                                \
    for (unsigned turns_ = 0; !(holds); turns_++) { \
        assert_true(turns_ < 1000000);              \
        turn();                                     \
    }

static int serving(unsigned i)
{
    return m[i].n && cellnode_serving(m[i].n);
}

static void promote(unsigned i)
{
    assert_int_equal(cellnode_promote(m[i].n, 0, now_ms), ERR_OK);
    UNTIL(serving(i));
}

/* ---- writes ---- */

struct asked {
    struct write w;
    struct step s;
    _Atomic int done;
};

static void done(struct write *w)
{
    struct asked *x = w->arg;
    atomic_store(&x->done, 1);
}

static void ask(unsigned i, struct asked *x, struct vault *v, struct step s)
{
    *x = (struct asked){.s = s};
    x->w = (struct write){.vault = v, .step = &x->s, .steps = 1, .done = done, .arg = x};
    engine_submit(m[i].e, &x->w);
}

static void ask_set(unsigned i, struct asked *x, const char *path, const char *value)
{
    ask(i, x, vaults_find(engine_vaults(m[i].e), bytes_str("v")),
        (struct step){.kind = STEP_SECRET_SET, .path = bytes_str(path), .plain = plain_of(bytes_str(value))});
}

static enum err outcome(struct asked *x)
{
    UNTIL(atomic_load(&x->done));
    free(x->s.plain);
    x->s.plain = NULL;
    return x->w.err;
}

static enum err set(unsigned i, const char *path, const char *value)
{
    struct asked x;
    ask_set(i, &x, path, value);
    return outcome(&x);
}

static void make_vault(unsigned i)
{
    static const struct vault_settings settings = {.max_versions = 3, .recovery_ms = 10000};
    struct asked x;
    ask(i, &x, NULL,
        (struct step){.kind = STEP_VAULT_CREATE,
                      .path = bytes_str("v"),
                      .record = bytes_str("partition"),
                      .settings = &settings});
    assert_int_equal(outcome(&x), ERR_OK);
}

static int reads(unsigned i, const char *path, const char *want)
{
    struct secret_view view;
    char got[64];
    struct vault *v = vaults_find(engine_vaults(m[i].e), bytes_str("v"));
    if (!v || secret_read(m[i].e, v, bytes_str(path), 0, bytes_of(NULL, 0), &view) != ERR_OK)
        return want == NULL;
    snprintf(got, sizeof got, "%u:%.*s", view.version, (int)view.value.raw.n - 4, view.value.raw.p + 4);
    secret_view_release(&view);
    return want && strcmp(got, want) == 0;
}

static void assert_logs_equal(unsigned i, unsigned j)
{
    struct wal_cursor *a, *b;
    struct record r;
    struct bytes x, y;
    assert_int_equal(wal_cursor_open(&a, m[i].e->wal, 1), ERR_OK);
    assert_int_equal(wal_cursor_open(&b, m[j].e->wal, 1), ERR_OK);
    for (;;) {
        enum err ea = wal_cursor_next(a, &r, &x), eb = wal_cursor_next(b, &r, &y);
        assert_int_equal(ea, eb);
        if (ea == ERR_END)
            break;
        assert_int_equal(ea, ERR_OK);
        assert_int_equal(x.n, y.n);
        assert_memory_equal(x.p, y.p, x.n);
    }
    wal_cursor_close(a);
    wal_cursor_close(b);
}

/* Of the core, when all of it is durable. */
static uint64_t last_lsn(unsigned i)
{
    const struct cell *c = cellnode_cell(m[i].n);
    return c->durable_lsn == c->last_lsn ? c->last_lsn : 0;
}

static int same_end(unsigned i, unsigned j)
{
    return last_lsn(i) && last_lsn(i) == last_lsn(j);
}

/* ---- tests ---- */

static void a_write_is_on_a_majority_before_it_is_told(void **state)
{
    (void)state;
    promote(0);
    make_vault(0);
    assert_int_equal(set(0, "p", "one"), ERR_OK);
    unsigned holders = 0;
    for (unsigned i = 0; i < NODES; i++)
        holders += sequencer_durable(atomic_load(&m[i].e->seq)) >= 3;
    assert_true(holders >= 2);
    UNTIL(reads(1, "p", "1:one") && reads(2, "p", "1:one"));
    assert_logs_equal(0, 1);
    assert_logs_equal(0, 2);
}

static void a_replica_refuses_writes(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    UNTIL(vaults_find(engine_vaults(m[1].e), bytes_str("v")));
    ask_set(1, &x, "p", "no");
    assert_int_equal(outcome(&x), ERR_READONLY);
}

static void a_frozen_one_acknowledges_nothing(void **state)
{
    (void)state;
    promote(0);
    make_vault(0);
    cellnode_freeze(m[0].n);
    assert_int_equal(cellnode_writable(m[0].n), ERR_READONLY);
    assert_int_equal(set(0, "p", "no"), ERR_READONLY);
    assert_int_equal(cellnode_promote(m[0].n, 0, now_ms), ERR_LOADING);
    assert_int_equal(cellnode_follow(m[0].n, 1, now_ms), ERR_LOADING);
    promote(1); /* the others go on */
    assert_int_equal(set(1, "p", "one"), ERR_OK);
    assert_int_equal(set(0, "p", "no"), ERR_READONLY);
    assert_false(m[0].halted);
}

static void another_primary_has_all_that_was_told(void **state)
{
    char value[16];
    (void)state;
    promote(0);
    make_vault(0);
    for (unsigned i = 0; i < 50; i++) {
        snprintf(value, sizeof value, "%u", i);
        assert_int_equal(set(0, "p", value), ERR_OK);
    }
    stop(0);
    promote(2);
    assert_true(reads(2, "p", "50:49"));
    assert_int_equal(set(2, "p", "more"), ERR_OK);
    start(0, 0);
    UNTIL(reads(0, "p", "51:more") && reads(1, "p", "51:more"));
    UNTIL(same_end(0, 2) && same_end(1, 2));
    assert_logs_equal(0, 2);
    assert_logs_equal(1, 2);
}

enum { LONG = 10000 };

static void write_many(unsigned i)
{
    static struct asked many[LONG];
    for (unsigned k = 0; k < LONG; k++)
        ask_set(i, &many[k], "p", "value");
    for (unsigned k = 0; k < LONG; k++)
        assert_int_equal(outcome(&many[k]), ERR_OK);
}

static uint64_t shown(unsigned i)
{
    return engine_commit_lsn(m[i].e);
}

/* What it learns to be committed, by being primary, it shows step by step: until the last one it serves nobody, and
 * says so. */
static void a_new_primary_serves_when_it_shows_all(void **state)
{
    struct cell_status s;
    unsigned between = 0;
    (void)state;
    m[1].untold = 1;
    promote(0);
    make_vault(0);
    write_many(0);
    UNTIL(same_end(1, 0));
    assert_int_equal(shown(1), 0);
    sequencer_spill(atomic_load(&m[1].e->seq));
    stop(0);
    m[1].untold = 0;
    assert_int_equal(cellnode_promote(m[1].n, 0, now_ms), ERR_OK);
    UNTIL(cell_serving(cellnode_cell(m[1].n)));
    while (!serving(1)) {
        cellnode_status(m[1].n, now_ms, &s);
        assert_int_equal(s.master, 0);
        assert_int_equal(cellnode_fresh(m[1].n, now_ms), ERR_MASTERDOWN);
        assert_int_equal(cellnode_writable(m[1].n), ERR_READONLY);
        uint64_t was = shown(1);
        UNTIL(shown(1) > was || serving(1));
        between++;
    }
    assert_true(between > 1);
    assert_true(reads(1, "p", "10000:value"));
    assert_int_equal(cellnode_fresh(m[1].n, now_ms), ERR_OK);
    UNTIL(cellnode_writable(m[1].n) == ERR_OK);
    assert_int_equal(set(1, "p", "more"), ERR_OK);
    assert_true(reads(1, "p", "10001:more"));
}

/* Nor is it read from a replica that shows less than it knows; which goes on to acknowledge, and to hear. */
static void a_replica_is_not_read_before_it_shows_all(void **state)
{
    unsigned between = 0;
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    UNTIL(vaults_find(engine_vaults(m[1].e), bytes_str("v")) && same_end(1, 0));
    assert_int_equal(cellnode_fresh(m[1].n, now_ms), ERR_OK);
    m[1].untold = 1;
    stop(2); /* so it is this one that acknowledges */
    write_many(0);
    UNTIL(same_end(1, 0));
    sequencer_spill(atomic_load(&m[1].e->seq));
    m[1].untold = 0;
    UNTIL(cellnode_cell(m[1].n)->commit_lsn > shown(1));
    while (shown(1) < 2 + LONG) {
        uint64_t was = shown(1);
        assert_int_equal(cellnode_fresh(m[1].n, now_ms), ERR_MASTERDOWN);
        if (!between)
            ask_set(0, &x, "p", "more");
        UNTIL(shown(1) > was);
        between++;
    }
    assert_true(between > 1);
    assert_int_equal(outcome(&x), ERR_OK);
    UNTIL(reads(1, "p", "10001:more") && cellnode_fresh(m[1].n, now_ms) == ERR_OK);
}

/* A primary cut off from the others: what it appended goes, and its client hears that it is gone. */
static void what_no_other_has_is_cut(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    assert_int_equal(set(0, "p", "one"), ERR_OK);
    m[0].cut_off = 1;
    ask_set(0, &x, "p", "lost");
    UNTIL(last_lsn(0) == 4);
    promote(1);
    assert_int_equal(set(1, "p", "two"), ERR_OK);
    assert_false(atomic_load(&x.done) && x.w.err == ERR_OK);
    m[0].cut_off = 0;
    enum err err = outcome(&x);
    assert_true(err == ERR_ROLLEDBACK || err == ERR_UNCERTAIN);
    UNTIL(reads(0, "p", "2:two"));
    assert_int_equal(set(1, "q", "end"), ERR_OK);
    UNTIL(same_end(0, 1));
    assert_logs_equal(0, 1);
    promote(0);
    assert_int_equal(set(0, "p", "three"), ERR_OK);
    assert_true(reads(0, "p", "3:three"));
}

/* It has all of it before any of it is committed: more than there is memory for. */
static void who_was_away_for_long_may_be_promoted(void **state)
{
    enum { N = 3000 };
    static struct asked x[N];
    (void)state;
    promote(0);
    make_vault(0);
    UNTIL(same_end(0, 1));
    m[1].cut_off = 1;
    for (unsigned i = 0; i < N; i++) {
        ask_set(0, &x[i], "p", "many");
        turn();
    }
    for (unsigned i = 0; i < N; i++)
        assert_int_equal(outcome(&x[i]), ERR_OK);
    m[1].cut_off = 0;
    m[0].cut_off = 1;
    promote(1);
    assert_true(reads(1, "p", "3000:many"));
    m[0].cut_off = 0;
    UNTIL(same_end(0, 1));
    assert_logs_equal(0, 1);
}

/* And when nobody is heard for long, that is what the client is told, whatever becomes of the write. */
static void a_write_without_a_majority_is_uncertain_in_the_end(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    m[0].cut_off = 1;
    ask_set(0, &x, "p", "open");
    assert_int_equal(outcome(&x), ERR_UNCERTAIN);
    assert_int_equal(x.w.lsn, 3);
    assert_true(reads(0, "p", NULL));
    m[0].cut_off = 0;
    UNTIL(cellnode_writable(m[0].n) == ERR_OK);
    assert_int_equal(set(0, "q", "next"), ERR_OK);
    UNTIL(same_end(0, 1) && reads(1, "q", "1:next"));
    assert_logs_equal(0, 1);
}

/* The same across a restart: what the log has is not what was committed. */
static void what_no_other_has_is_cut_after_a_restart(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    assert_int_equal(set(0, "p", "one"), ERR_OK);
    m[0].cut_off = 1;
    ask_set(0, &x, "p", "lost");
    UNTIL(last_lsn(0) == 4);
    stop(0);
    assert_int_equal(outcome(&x), ERR_UNCERTAIN);
    promote(1);
    assert_int_equal(set(1, "p", "two"), ERR_OK);
    start(0, 0);
    assert_true(reads(0, "p", "1:one"));
    UNTIL(same_end(0, 1) && reads(0, "p", "2:two"));
    assert_logs_equal(0, 1);
    assert_int_equal(cellnode_cell(m[0].n)->alarm, 0);
}

/* And what it left in the log is read from there when it turns out to be committed. */
static void what_a_restart_finds_in_the_log_is_committed_later(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    m[0].cut_off = 1;
    ask_set(0, &x, "p", "open");
    UNTIL(last_lsn(0) == 3);
    stop(0);
    assert_int_equal(outcome(&x), ERR_UNCERTAIN);
    start(0, 0);
    assert_true(reads(0, "p", NULL));
    promote(0); /* nobody promises anything newer: it comes through after all */
    assert_true(reads(0, "p", "1:open"));
    assert_int_equal(set(0, "p", "next"), ERR_OK);
    UNTIL(reads(1, "p", "2:next") && reads(2, "p", "2:next"));
}

static void without_a_majority_writes_are_refused(void **state)
{
    struct asked x;
    (void)state;
    promote(0);
    make_vault(0);
    m[0].cut_off = 1;
    UNTIL(cell_writable(cellnode_cell(m[0].n), now_ms) == ERR_NOREPLICAS);
    ask_set(0, &x, "p", "no");
    assert_int_equal(outcome(&x), ERR_NOREPLICAS);
    m[0].cut_off = 0;
    UNTIL(serving(0) && cell_writable(cellnode_cell(m[0].n), now_ms) == ERR_OK &&
          cellnode_cell(m[0].n)->commit_lsn == last_lsn(0));
    assert_int_equal(set(0, "p", "yes"), ERR_OK);
}

static void who_was_away_for_long_reads_from_the_log(void **state)
{
    char value[1200];
    (void)state;
    promote(0);
    make_vault(0);
    stop(2);
    memset(value, 'x', sizeof value - 1);
    value[sizeof value - 1] = '\0';
    for (unsigned i = 0; i < 300; i++)
        assert_int_equal(set(0, "p", value), ERR_OK);
    start(2, 0);
    UNTIL(same_end(2, 0) && cellnode_cell(m[2].n)->commit_lsn == last_lsn(0));
    assert_logs_equal(0, 2);
}

static void a_lost_voting_file_does_not_vote_at_once(void **state)
{
    char cmd[128];
    (void)state;
    promote(0);
    make_vault(0);
    stop(2);
    snprintf(cmd, sizeof cmd, "rm %s/2/vote", root);
    assert_int_equal(system(cmd), 0);
    start(2, 0);
    assert_int_equal(cellnode_cell(m[2].n)->vote.mute, CELL_LOST);
    assert_int_not_equal(cellnode_promote(m[2].n, 0, now_ms), ERR_OK);
    assert_int_equal(set(0, "p", "one"), ERR_OK);
    UNTIL(reads(2, "p", "1:one"));
}

/* ---- a full disk ---- */

/* Returns what was to be kept free of the log before. */
static uint64_t keep_free(unsigned i, uint64_t bytes)
{
    uint64_t was = m[i].e->wal->cfg.reserve_bytes;
    m[i].e->wal->cfg.reserve_bytes = bytes;
    return was;
}

static int brings_records(const struct machine *x)
{
    const struct packet *p = x->in;
    while (p && p->n == CELLWIRE_HEAD_BYTES)
        p = p->next;
    return p != NULL;
}

static void assert_it_stays_out(unsigned i, uint64_t last)
{
    struct cell_status s;
    cell_status(cellnode_cell(m[i].n), now_ms, &s);
    assert_false(s.link_up);
    assert_int_equal(s.priority, 0);
    assert_int_equal(cellnode_cell(m[i].n)->last_lsn, last);
    assert_false(m[i].halted);
}

/* Between two ticks of the replica, which so far knew nothing of it: not one record comes into its log. */
static void a_replica_without_room_takes_no_records_and_catches_up_later(void **state)
{
    static struct asked x; /* a failure leaves it on its way */
    (void)state;
    promote(0);
    make_vault(0);
    UNTIL(same_end(0, 1) && same_end(0, 2));
    uint64_t last = last_lsn(1), kept = keep_free(1, UINT64_MAX);
    ask_set(0, &x, "p", "first");
    for (unsigned spins = 0; !brings_records(&m[1]); spins++) {
        assert_true(spins < 100000000);
        if (atomic_exchange(&m[0].changed, 0))
            cellnode_changed(m[0].n, now_ms);
        sched_yield();
    }
    while (deliver(&m[1])) {
    }
    assert_it_stays_out(1, last);
    assert_int_equal(cellnode_promote(m[1].n, 0, now_ms), ERR_MISCONF);
    assert_int_equal(outcome(&x), ERR_OK); /* the others go on */
    for (unsigned i = 0; i < 50; i++)
        assert_int_equal(set(0, "p", "more"), ERR_OK);
    assert_int_equal(cellnode_cell(m[1].n)->last_lsn, last);
    assert_int_equal(cellnode_promote(m[1].n, 0, now_ms), ERR_MISCONF);
    assert_false(m[1].halted);

    keep_free(1, kept);
    UNTIL(same_end(0, 1) && reads(1, "p", "51:more"));
    assert_logs_equal(0, 1);
    promote(1);
    assert_int_equal(set(1, "p", "end"), ERR_OK);
}

/* No record comes that would make it look. */
static void a_replica_without_room_is_not_promoted(void **state)
{
    struct cell_status s;
    (void)state;
    promote(0);
    make_vault(0);
    uint64_t kept = keep_free(1, UINT64_MAX);
    UNTIL(!cellnode_cell(m[1].n)->room);
    cell_status(cellnode_cell(m[1].n), now_ms, &s);
    assert_int_equal(s.priority, 0);
    assert_int_equal(cellnode_promote(m[1].n, 0, now_ms), ERR_MISCONF);
    keep_free(1, kept);
    UNTIL(cellnode_cell(m[1].n)->room);
    promote(1);
}

static void a_primary_without_room_refuses_writes_and_stays_primary(void **state)
{
    (void)state;
    promote(0);
    make_vault(0);
    uint64_t kept = keep_free(0, UINT64_MAX);
    for (unsigned i = 0; i < 200; i++)
        turn();
    assert_int_equal(set(0, "p", "no"), ERR_MISCONF);
    assert_true(serving(0));
    keep_free(0, kept);
    assert_int_equal(set(0, "p", "yes"), ERR_OK);
}

/* ---- a log that is gone ---- */

static void lose(unsigned i, const char *files)
{
    char cmd[256];
    snprintf(cmd, sizeof cmd, "cd %s/%u && rm -rf %s", root, i, files);
    assert_int_equal(system(cmd), 0);
}

static uint64_t held_lsn(unsigned i)
{
    return cellnode_cell(m[i].n)->vote.held_lsn;
}

/* Stores and log are gone, but the voting file, which says that there was something. */
static void who_held_something_and_has_nothing_is_mute(void **state)
{
    (void)state;
    promote(0);
    make_vault(0);
    assert_int_equal(set(0, "p", "one"), ERR_OK);
    UNTIL(same_end(2, 0) && held_lsn(2) && held_lsn(0));
    stop(2);
    stop(1);
    lose(2, "wal base shard-*");
    start(2, 0);
    assert_int_equal(cellnode_cell(m[2].n)->vote.mute, CELL_DAMAGED);
    assert_int_equal(cellnode_promote(m[2].n, 0, now_ms), ERR_CORRUPT);
    start(1, 0);
    UNTIL(serving(0) && same_end(2, 0) && cellnode_cell(m[2].n)->vote.mute == CELL_SOUND);
    assert_true(held_lsn(2) > 0);
    UNTIL(reads(2, "p", "1:one"));
    stop(2);
    start(2, 0);
    assert_int_equal(cellnode_cell(m[2].n)->vote.mute, CELL_SOUND);
}

/* ---- the formats ---- */

static void the_voting_file(void **state)
{
    struct vote_file v = {.vote = {.promised = 9, .promised_to = 2, .mute = CELL_DAMAGED, .held_lsn = 0x123456789abc}},
                     got;
    uint8_t out[VOTE_BYTES];
    (void)state;
    memset(v.node_id, 'n', sizeof v.node_id);
    memset(v.cell_id, 'c', sizeof v.cell_id);
    vote_put(out, &v);
    assert_int_equal(vote_get(bytes_of(out, sizeof out), &got), ERR_OK);
    assert_memory_equal(&got, &v, sizeof v);
    for (unsigned bit = 0; bit < 8 * sizeof out; bit++) {
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(vote_get(bytes_of(out, sizeof out), &got), ERR_CORRUPT);
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    for (size_t n = 0; n < sizeof out; n++)
        assert_int_equal(vote_get(bytes_of(out, n), &got), ERR_CORRUPT);
}

static void messages(void **state)
{
    struct cell_msg msg = {.type = CELL_JOIN,
                           .full = 1,
                           .leader = 3,
                           .why = 2,
                           .promised = 4,
                           .term = 5,
                           .session = 6,
                           .config_id = 7,
                           .first = 8,
                           .last = 9,
                           .commit = 10,
                           .seq = 11,
                           .lsn = 12,
                           .hops = 15,
                           .age_ms = 22,
                           .at = {13, 14, {15}},
                           .want = {16, 17, {18}},
                           .end = {19, 20, {21}}},
                    got;
    uint8_t out[CELLWIRE_HEAD_BYTES];
    uint32_t bytes;
    (void)state;
    cellwire_put(out, &msg, 0);
    assert_int_equal(cellwire_get(out, &got, &bytes), ERR_OK);
    assert_int_equal(got.type, CELL_JOIN);
    assert_true(got.full && !got.granted && !got.mute);
    assert_int_equal(got.lsn, 12);
    assert_int_equal(got.hops, 15);
    assert_int_equal(got.age_ms, 22);
    assert_int_equal(got.want.lsn, 16);
    assert_int_equal(got.end.chain[0], 21);
    for (unsigned bit = 0; bit < 8 * sizeof out; bit++) {
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
        assert_int_equal(cellwire_get(out, &got, &bytes), ERR_CORRUPT);
        out[bit / 8] ^= (uint8_t)(1 << bit % 8);
    }
    cellwire_put(out, &msg, 8); /* records behind what is not RECORDS */
    assert_int_equal(cellwire_get(out, &got, &bytes), ERR_CORRUPT);
}

/* Each in a group of its own, none of which is committed: the others are cut off. Returns how many. */
static unsigned fill_all_groups(struct asked *x, unsigned n)
{
    unsigned asked = 0;
    UNTIL(same_end(0, 1) && same_end(0, 2));
    m[1].cut_off = m[2].cut_off = 1;
    for (; asked < n && sequencer_has_room(atomic_load(&m[0].e->seq)); asked++) {
        uint64_t before = cellnode_cell(m[0].n)->durable_lsn;
        ask_set(0, &x[asked], "p", "many");
        UNTIL(cellnode_cell(m[0].n)->durable_lsn > before);
    }
    assert_false(sequencer_has_room(atomic_load(&m[0].e->seq)));
    return asked;
}

/* A frame of a primary that was, which was long under way: there is no room for its records, and no use. */
static void stale_records_do_not_hold_up_a_busy_primary(void **state)
{
    enum { N = 40 };
    static struct asked x[N];
    struct cell_msg msg = {.type = CELL_RECORDS, .promised = 1, .term = 1, .session = 99, .first = 1, .last = 1};
    struct buf b;
    (void)state;
    promote(0);
    make_vault(0);
    UNTIL(same_end(0, 1));
    buf_init(&b, 1 << 20);
    assert_int_equal(wal_read(m[1].e->wal, 1, &b), ERR_OK);
    fill_all_groups(x, N);
    for (int i = 0; i < 2; i++) {
        now_ms += 5;
        cellnode_tick(m[0].n, now_ms);
        assert_int_equal(cellnode_received(m[0].n, 1, &msg, buf_bytes(&b), now_ms), ERR_OK);
    }
    now_ms += 5;
    cellnode_tick(m[0].n, now_ms);
    assert_true(serving(0));
    buf_fini(&b);
}

/* It hears of a higher term, and nobody has it: it stands again, with all its records, and they are committed behind
 * the new barrier. */
static void a_primary_with_all_memory_in_use_opens_another_term(void **state)
{
    enum { N = 40 };
    static struct asked x[N];
    struct cell_msg msg = {.type = CELL_PROBED, .leader = CELL_NOBODY};
    (void)state;
    promote(0);
    make_vault(0);
    unsigned n = fill_all_groups(x, N);
    msg.promised = cellnode_cell(m[0].n)->vote.promised + 5;
    m[1].cut_off = m[2].cut_off = 0;
    assert_int_equal(cellnode_received(m[0].n, 1, &msg, bytes_of(NULL, 0), now_ms), ERR_OK);
    assert_int_equal(cellnode_cell(m[0].n)->role, CELL_REPLICA);
    UNTIL(m[0].halted || (serving(0) && cellnode_writable(m[0].n) == ERR_OK));
    assert_false(m[0].halted);
    assert_true(cellnode_cell(m[0].n)->vote.promised > msg.promised);
    for (unsigned i = 0; i < n; i++)
        assert_int_equal(outcome(&x[i]), ERR_OK);
    assert_int_equal(set(0, "p", "next"), ERR_OK);
    UNTIL(same_end(0, 1) && same_end(0, 2));
    assert_logs_equal(0, 1);
    assert_logs_equal(0, 2);
}

int main(void)
{
    const struct CMUnitTest tests[] = {
        cmocka_unit_test_setup_teardown(who_held_something_and_has_nothing_is_mute, setup, teardown),
        cmocka_unit_test(the_voting_file),
        cmocka_unit_test(messages),
        cmocka_unit_test_setup_teardown(a_write_is_on_a_majority_before_it_is_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_refuses_writes, setup, teardown),
        cmocka_unit_test_setup_teardown(a_frozen_one_acknowledges_nothing, setup, teardown),
        cmocka_unit_test_setup_teardown(stale_records_do_not_hold_up_a_busy_primary, setup, teardown),
        cmocka_unit_test_setup_teardown(a_primary_with_all_memory_in_use_opens_another_term, setup, teardown),
        cmocka_unit_test_setup_teardown(another_primary_has_all_that_was_told, setup, teardown),
        cmocka_unit_test_setup_teardown(a_new_primary_serves_when_it_shows_all, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_is_not_read_before_it_shows_all, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_other_has_is_cut, setup, teardown),
        cmocka_unit_test_setup_teardown(who_was_away_for_long_may_be_promoted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_write_without_a_majority_is_uncertain_in_the_end, setup, teardown),
        cmocka_unit_test_setup_teardown(what_no_other_has_is_cut_after_a_restart, setup, teardown),
        cmocka_unit_test_setup_teardown(what_a_restart_finds_in_the_log_is_committed_later, setup, teardown),
        cmocka_unit_test_setup_teardown(without_a_majority_writes_are_refused, setup, teardown),
        cmocka_unit_test_setup_teardown(who_was_away_for_long_reads_from_the_log, setup, teardown),
        cmocka_unit_test_setup_teardown(a_lost_voting_file_does_not_vote_at_once, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_without_room_takes_no_records_and_catches_up_later, setup, teardown),
        cmocka_unit_test_setup_teardown(a_replica_without_room_is_not_promoted, setup, teardown),
        cmocka_unit_test_setup_teardown(a_primary_without_room_refuses_writes_and_stays_primary, setup, teardown),
    };
    return cmocka_run_group_tests_name("cellnode", tests, NULL, NULL);
}
