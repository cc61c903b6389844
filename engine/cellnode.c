/* cellnode.c - see cellnode.h. One table says how each effect is carried out; before any of a step's effects the gate
 * is closed if the step ended the primaryship, so that no record of the own slips in between.
 *
 * What is streamed comes from the groups in memory while they are there (sequencer_recent), so that a record travels
 * while it is being synced here; else from the log.
 */
#include "engine/cellnode.h"

#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "engine/celldir.h"
#include "engine/cellwire.h"
#include "engine/engine_impl.h"
#include "engine/vote.h"

#define FRAME_BYTES (CELLWIRE_RECORDS_MAX - RECORD_MAX_BYTES) /* of records in one message, and one record more */

struct cellnode {
    struct cellnode_config cfg;
    char *vote_path;
    struct engine *e;
    struct sequencer *q;
    struct wal *w;
    struct cell cell;
    struct cell_effects fx;
    struct vote_file vote;
    uint64_t synced; /* what the core was told */
    int begun;       /* DIR/begin is gone: the log has a record */
    int open;        /* the gate */
    enum err shut;   /* what it is closed with */
    int halted;
    int holds, tops;              /* writes wait; a message waits until they do */
    int refused;                  /* records, for want of room, since the last tick */
    uint64_t refused_lsn;         /* the commit LSN at the last tick */
    uint64_t stuck_lsn, stuck_ms; /* the commit LSN, and since when it has not moved though there is more */
    struct bytes records;         /* of the message being handled */
    struct buf out;
    struct wal_cursor *cursor[CELL_PEERS]; /* who is too far behind for the groups in memory */
    uint64_t cursor_lsn[CELL_PEERS];
};

/* ---- the log, as the core reads it ---- */

/* The record at lsn, wherever it is, into n->out. */
static enum err read_record(struct cellnode *n, uint64_t lsn, struct record *r)
{
    size_t used;
    buf_clear(&n->out);
    enum err err = sequencer_recent(n->q, lsn, lsn, RECORD_MAX_BYTES, &n->out, &(uint64_t){0});
    if (err == ERR_NOTFOUND)
        err = wal_read(n->w, lsn, &n->out);
    return err ? err : record_get(buf_bytes(&n->out), r, &used);
}

static uint32_t log_term_at(const void *arg, uint64_t lsn)
{
    struct cellnode *n = (struct cellnode *)(uintptr_t)arg; /* the buffer is scratch */
    struct record r;
    uint8_t chain[RECORD_CHAIN_BYTES];
    uint32_t term;
    if (wal_base(n->w, lsn, chain, &term))
        return term;
    term = wal_term_at(n->w, lsn);
    return term ? term : read_record(n, lsn, &r) == ERR_OK ? r.term : 0;
}

static void halt(struct cellnode *n, const char *why)
{
    if (!n->halted)
        n->cfg.halt(n->cfg.arg, why);
    n->halted = 1;
}

static void log_chain_at(const void *arg, uint64_t lsn, uint8_t out[RECORD_CHAIN_BYTES])
{
    struct cellnode *n = (struct cellnode *)(uintptr_t)arg;
    struct record r;
    uint32_t term;
    if (wal_base(n->w, lsn, out, &term))
        return;
    if (read_record(n, lsn, &r) == ERR_OK) {
        memcpy(out, r.chain, RECORD_CHAIN_BYTES);
        return;
    }
    memset(out, 0, RECORD_CHAIN_BYTES); /* equals nobody's: the worst that comes of it is that nothing is shared */
    n->cfg.log(n->cfg.arg, LOG_WARNING, "the log cannot be read to compare it with another node's");
}

/* ---- sending ---- */

static void drop_cursor(struct cellnode *n, uint8_t peer)
{
    wal_cursor_close(n->cursor[peer]);
    n->cursor[peer] = NULL;
}

/* Whole records from lsn on, up to last or a frame's worth, into n->out; *end: the last one. From the log: it does not
 * follow a peer that has come up to what is in memory. */
static enum err from_log(struct cellnode *n, uint8_t peer, uint64_t lsn, uint64_t last, uint64_t *end)
{
    struct record r;
    struct bytes raw;
    enum err err = ERR_OK;

    if (n->cursor[peer] && n->cursor_lsn[peer] != lsn)
        drop_cursor(n, peer);
    if (!n->cursor[peer])
        err = wal_cursor_open(&n->cursor[peer], n->w, lsn);
    for (*end = lsn - 1; !err && *end < last && buf_size(&n->out) < FRAME_BYTES;) {
        err = wal_cursor_next(n->cursor[peer], &r, &raw);
        if (!err)
            err = buf_put(&n->out, raw.p, raw.n);
        if (!err)
            n->cursor_lsn[peer] = ++*end + 1;
    }
    if (err)
        drop_cursor(n, peer);
    return *end >= lsn ? ERR_OK : err;
}

static void send_head(struct cellnode *n, uint8_t to, const struct cell_msg *m, struct bytes records)
{
    uint8_t head[CELLWIRE_HEAD_BYTES];
    cellwire_put(head, m, (uint32_t)records.n);
    n->cfg.send(n->cfg.arg, to, bytes_of(head, sizeof head), records);
}

static struct cell_point last_point(struct bytes records)
{
    struct bytes raw = {0};
    while (records.n && bytes_take(&records, get_le32(records.p), &raw))
        ;
    struct cell_point p = {.lsn = get_le64(raw.p + 8), .term = get_le32(raw.p + 16)};
    memcpy(p.chain, raw.p + raw.n - RECORD_CHAIN_BYTES, RECORD_CHAIN_BYTES);
    return p;
}

/* In as many messages as it takes. What cannot be read is not sent: the peer misses it, and joins again. */
static void send_records(struct cellnode *n, uint8_t to, const struct cell_msg *m)
{
    struct cell_msg part = *m;

    while (part.first <= m->last) {
        buf_clear(&n->out);
        enum err err = sequencer_recent(n->q, part.first, m->last, FRAME_BYTES, &n->out, &part.last);
        if (err == ERR_NOTFOUND)
            err = from_log(n, to, part.first, m->last, &part.last);
        if (err) {
            n->cfg.log(n->cfg.arg, LOG_WARNING, "records cannot be read to send them");
            return;
        }
        send_head(n, to, &part, buf_bytes(&n->out));
        part.at = last_point(buf_bytes(&n->out));
        part.first = part.last + 1;
    }
}

static void do_send(struct cellnode *n, const struct cell_effect *e)
{
    if (e->msg.type == CELL_RECORDS && e->msg.first <= e->msg.last)
        send_records(n, e->to, &e->msg);
    else
        send_head(n, e->to, &e->msg, bytes_of(NULL, 0));
}

/* ---- the other effects ---- */

/* As of what is known to be durable. */
static void say_mute(struct cellnode *n, int was)
{
    if (n->vote.vote.mute)
        n->cfg.log(n->cfg.arg, LOG_WARNING,
                   "this node is not counted and does not vote until it holds again what it may have lost");
    else if (was)
        n->cfg.log(n->cfg.arg, LOG_NOTICE, "this node holds again what it may have lost, and is counted again");
}

static void do_persist(struct cellnode *n, const struct cell_effect *e)
{
    int was = n->vote.vote.mute;
    n->vote.vote = e->vote;
    if (vote_write(n->vote_path, &n->vote))
        halt(n, "the voting file cannot be written");
    else if (was != n->vote.vote.mute)
        say_mute(n, was);
}

static void do_cut(struct cellnode *n, const struct cell_effect *e)
{
    for (uint8_t p = 0; p < CELL_PEERS; p++)
        drop_cursor(n, p);
    if (sequencer_cut(n->q, e->lsn))
        halt(n, "the log cannot be cut");
    n->synced = e->lsn;
}

/* Nothing may be in the way of what the core has counted: the log writer may have taken the last group that was spare
 * since there was room, and a barrier commits what fills them. */
static enum err append(struct cellnode *n, struct bytes records, uint32_t count, uint64_t first, const uint8_t *chain)
{
    enum err err = sequencer_append(n->q, records, count, first, chain);
    if (err != ERR_AGAIN)
        return err;
    sequencer_spill(n->q);
    return sequencer_append(n->q, records, count, first, chain);
}

static void do_append(struct cellnode *n, const struct cell_effect *e)
{
    struct bytes rest = n->records, raw = {0};
    uint32_t count = 0;
    uint64_t first = e->first;

    while (rest.n && get_le64(rest.p + 8) < first) /* it has those before */
        bytes_take(&rest, get_le32(rest.p), &raw);
    struct bytes all = rest;
    for (; rest.n && bytes_take(&rest, get_le32(rest.p), &raw); count++)
        ;
    if (!count || append(n, all, count, first, raw.p + raw.n - RECORD_CHAIN_BYTES))
        halt(n, "the log takes no records");
}

static void do_open(struct cellnode *n, const struct cell_effect *e)
{
    struct record r = {.lsn = e->first,
                       .term = e->term,
                       .type = RECORD_BARRIER,
                       .time_ms = clock_wall_ms(),
                       .key = bytes_of(n->vote.node_id, sizeof n->vote.node_id)};
    uint8_t chain[RECORD_CHAIN_BYTES] = {0};
    struct buf b;

    if (e->first > 1)
        log_chain_at(n, e->first - 1, chain);
    buf_init(&b, 4096);
    if (record_put(&b, &r, chain) || append(n, buf_bytes(&b), 1, r.lsn, r.chain))
        halt(n, "the log takes no barrier");
    buf_fini(&b);
}

static void do_admit(struct cellnode *n, const struct cell_effect *e)
{
    (void)n, (void)e; /* sequencer_admit goes on with it */
}

static void do_commit(struct cellnode *n, const struct cell_effect *e)
{
    sequencer_commit(n->q, e->lsn);
}

static void do_outcome(struct cellnode *n, const struct cell_effect *e)
{
    sequencer_resolve(n->q, e->first, e->last, e->err);
}

static void do_reads(struct cellnode *n, const struct cell_effect *e)
{
    if (n->cfg.reads)
        n->cfg.reads(n->cfg.arg, e->seq, e->lsn);
}

static void do_role(struct cellnode *n, const struct cell_effect *e)
{
    (void)e;
    if (n->cfg.role)
        n->cfg.role(n->cfg.arg);
}

static void do_fetch(struct cellnode *n, const struct cell_effect *e)
{
    if (n->cfg.fetch)
        n->cfg.fetch(n->cfg.arg, e->to, &e->at, e->session);
}

static void do_install(struct cellnode *n, const struct cell_effect *e)
{
    if (!n->cfg.install(n->cfg.arg, &e->at))
        halt(n, "a fetched snapshot cannot be made to count");
    n->halted = 1;
}

static void do_alarm(struct cellnode *n, const struct cell_effect *e)
{
    char line[160];
    snprintf(line, sizeof line,
             "this node's log and another's disagree where they cannot differ (%u): it stays out of "
             "the cell until it is restarted",
             e->why);
    n->cfg.log(n->cfg.arg, LOG_WARNING, line);
}

static void do_halt(struct cellnode *n, const struct cell_effect *e)
{
    (void)e;
    halt(n, "the log or the voting file failed");
}

typedef void effect_fn(struct cellnode *n, const struct cell_effect *e);
static effect_fn *const carry_out[CELL_EFFECT_TYPES] = {
    [CELL_PERSIST] = do_persist, [CELL_CUT] = do_cut,     [CELL_INSTALL] = do_install, [CELL_APPEND] = do_append,
    [CELL_OPEN] = do_open,       [CELL_ADMIT] = do_admit, [CELL_SEND] = do_send,       [CELL_COMMIT] = do_commit,
    [CELL_OUTCOME] = do_outcome, [CELL_READS] = do_reads, [CELL_ROLE] = do_role,       [CELL_FETCH] = do_fetch,
    [CELL_ALARM] = do_alarm,     [CELL_HALT] = do_halt,
};

/* ---- the gate ---- */

static void close_gate(struct cellnode *n, enum err err)
{
    if (n->open || n->shut != err)
        sequencer_close(n->q, err);
    n->open = 0;
    n->shut = err;
}

/* Open only while what writers would be told is settled; what is open from before is told first. */
static void set_gate(struct cellnode *n)
{
    enum err err = !cell_serving(&n->cell) ? ERR_READONLY : cell_writable(&n->cell, n->cell.now_ms);
    if (err) {
        close_gate(n, err);
    } else if (!n->open && n->cell.commit_lsn == n->cell.last_lsn && !sequencer_is_behind(n->q)) {
        if ((err = sequencer_open(n->q, n->cell.vote.promised)) != ERR_OK) {
            n->cfg.log(n->cfg.arg, LOG_WARNING, "the vaults cannot be read: no writes are taken");
            return;
        }
        n->open = 1;
        n->shut = ERR_OK;
    }
}

/* ---- steps ---- */

static void effects(struct cellnode *n)
{
    if (n->open && !cell_serving(&n->cell))
        close_gate(n, ERR_READONLY);
    for (unsigned i = 0; i < n->fx.count && !n->halted; i++)
        carry_out[n->fx.list[i].type](n, &n->fx.list[i]);
}

static enum err step(struct cellnode *n, struct cell_event *event, uint64_t now_ms)
{
    if (n->halted)
        return ERR_LOADING;
    event->now_ms = now_ms;
    cell_step(&n->cell, event, &n->fx);
    enum err answer = n->fx.answer;
    effects(n);
    set_gate(n);
    return answer;
}

static enum err ask_to_write(void *arg, uint64_t first_lsn, uint32_t records)
{
    struct cellnode *n = arg;
    struct cell_event event = {.type = CELL_WRITE, .count = records, .now_ms = n->cell.now_ms};
    (void)first_lsn;
    cell_step(&n->cell, &event, &n->fx);
    return n->fx.answer;
}

static void admit(struct cellnode *n)
{
    if (!n->open)
        return;
    n->fx.count = 0;
    enum err err = sequencer_admit(n->q, ask_to_write, n);
    if (err == ERR_OK)
        effects(n);
    else if (err != ERR_AGAIN) /* it closed the gate */
        n->open = 0, n->shut = err;
}

/* Before anybody hears of the first record behind a snapshot: a log that is lost later must not begin there again. */
static void end_begin(struct cellnode *n)
{
    if (!n->begun && celldir_remove_begin(n->e->dir))
        halt(n, "the file begin cannot be removed");
    n->begun = 1;
}

static void tell_synced(struct cellnode *n, uint64_t now_ms)
{
    uint64_t durable = sequencer_durable(n->q);
    if (!durable && sequencer_failed(n->q)) {
        (void)!step(n, &(struct cell_event){.type = CELL_SYNC_FAILED}, now_ms);
    } else if (durable > n->synced) {
        n->synced = durable;
        end_begin(n);
        (void)!step(n, &(struct cell_event){.type = CELL_SYNCED, .lsn = durable}, now_ms);
    }
}

void cellnode_changed(struct cellnode *n, uint64_t now_ms)
{
    if (n->halted)
        return;
    tell_synced(n, now_ms);
    sequencer_commit(n->q, n->cell.commit_lsn); /* also those that have nothing to write; and what it is behind with */
    set_gate(n);
    admit(n);
}

/* Snapshots took the place of what the log began with. */
static void tell_trimmed(struct cellnode *n, uint64_t now_ms)
{
    struct wal_info info;
    wal_info(n->w, &info);
    if (info.first_lsn > n->cell.base_lsn + 1)
        (void)!step(n, &(struct cell_event){.type = CELL_TRIMMED, .lsn = info.first_lsn - 1}, now_ms);
}

/* The hard deadline of R9: without a majority nobody can say what becomes of a write, and its client has waited long
 * enough. The core's word on it, if it ever comes, finds nobody who waits. */
static void tell_open(struct cellnode *n, uint64_t now_ms)
{
    const struct cell *c = &n->cell;
    if (c->commit_lsn == c->last_lsn || c->commit_lsn != n->stuck_lsn) {
        n->stuck_lsn = c->commit_lsn;
        n->stuck_ms = now_ms;
    } else if (!n->open && now_ms - n->stuck_ms >= c->config.outcome_timeout_ms) {
        sequencer_resolve(n->q, c->commit_lsn + 1, c->last_lsn, ERR_UNCERTAIN);
    }
}

/* Memory is for records that are visible soon. What a candidate fetches from its donor, or comes below the barrier of a
 * primary that needs this node's acknowledgement, is committed only when all of it is here; and what comes while this
 * node is behind waits for what is in the log. */
static void make_room(struct cellnode *n)
{
    if (n->refused && (n->refused_lsn == n->cell.commit_lsn || sequencer_is_behind(n->q)))
        sequencer_spill(n->q);
    n->refused = 0;
    n->refused_lsn = n->cell.commit_lsn;
}

/* Asked at each tick, since who has no room must not be promoted, and before records are taken, since between two ticks
 * may come more than there is room for: what the log leaves free is the stores'. A primary stays one, and asks for each
 * write (sequencer.c). */
static void tell_room(struct cellnode *n, uint64_t now_ms)
{
    int ok = sequencer_fits(n->q, CELLWIRE_RECORDS_MAX) == ERR_OK;
    if (n->halted || ok == n->cell.room || (!ok && n->cell.role == CELL_PRIMARY))
        return;
    n->cfg.log(n->cfg.arg, ok ? LOG_NOTICE : LOG_WARNING,
               ok ? "the disk has room for the log again"
                  : "the disk has no room for the log: this node takes no records until it has");
    (void)!step(n, &(struct cell_event){.type = CELL_ROOM, .ok = (uint8_t)ok}, now_ms);
}

/* Alone, a term that is higher than the own is topped by one more, which begins with a barrier. To writers it is no
 * change of parts, and they are not to see one: those that are under way are told first, and others wait until the
 * barrier is there. 0: the message waits. */
static int may_hear(struct cellnode *n, uint32_t term)
{
    if (n->cell.config.voters > 1 || !n->open || term <= n->cell.vote.promised)
        return 1;
    n->holds = n->tops = 1;
    return sequencer_hold(n->q) && n->cell.commit_lsn == n->cell.last_lsn;
}

/* It did not come to that: the message's link is gone, or the term was refused. */
static void end_hold(struct cellnode *n)
{
    if (n->holds && !n->tops && (n->open || n->cell.role != CELL_PRIMARY)) {
        sequencer_release(n->q);
        n->holds = 0;
    }
    n->tops = 0;
}

void cellnode_state(struct cellnode *n, int ok, uint64_t now_ms)
{
    if (ok == n->cell.differs)
        (void)!step(n, &(struct cell_event){.type = CELL_STATE, .ok = (uint8_t)ok}, now_ms);
}

void cellnode_tick(struct cellnode *n, uint64_t now_ms)
{
    end_hold(n);
    make_room(n);
    tell_room(n, now_ms);
    tell_trimmed(n, now_ms);
    tell_open(n, now_ms);
    (void)!step(n, &(struct cell_event){.type = CELL_TICK}, now_ms);
    cellnode_changed(n, now_ms);
}

enum err cellnode_received(struct cellnode *n, uint8_t from, const struct cell_msg *m, struct bytes records,
                           uint64_t now_ms)
{
    struct cell_msg msg = *m;

    if (!may_hear(n, m->promised))
        return ERR_AGAIN;
    if (m->type == CELL_RECORDS) {
        if (!cellwire_records(m, records, &msg.end))
            return ERR_CORRUPT;
        if (m->first <= m->last && n->cell.follow.phase == CELL_LIVE && !sequencer_has_room(n->q)) {
            n->refused = 1; /* while nobody is followed they are of no use, and the core drops them */
            return ERR_AGAIN;
        }
        if (m->first <= m->last)
            tell_room(n, now_ms);
    }
    n->records = records;
    (void)!step(n, &(struct cell_event){.type = CELL_RECEIVED, .peer = from, .msg = &msg}, now_ms);
    n->records = bytes_of(NULL, 0);
    return ERR_OK;
}

void cellnode_link_up(struct cellnode *n, uint8_t peer, uint64_t now_ms)
{
    (void)!step(n, &(struct cell_event){.type = CELL_LINK_UP, .peer = peer}, now_ms);
}

void cellnode_link_down(struct cellnode *n, uint8_t peer, uint64_t now_ms)
{
    drop_cursor(n, peer);
    (void)!step(n, &(struct cell_event){.type = CELL_LINK_DOWN, .peer = peer}, now_ms);
}

void cellnode_fetched(struct cellnode *n, const struct cell_point *at, uint64_t session, uint64_t now_ms)
{
    struct cell_event event = {.type = CELL_FETCHED, .ok = at != NULL, .session = session};
    if (at)
        event.at = *at;
    (void)!step(n, &event, now_ms);
}

enum err cellnode_promote(struct cellnode *n, int reclaim, uint64_t now_ms)
{
    return step(n, &(struct cell_event){.type = reclaim ? CELL_RECLAIM : CELL_PROMOTE}, now_ms);
}

enum err cellnode_follow(struct cellnode *n, uint8_t peer, uint64_t now_ms)
{
    return step(n, &(struct cell_event){.type = CELL_FOLLOW, .peer = peer}, now_ms);
}

enum err cellnode_hand_over(struct cellnode *n, uint8_t peer, uint64_t now_ms)
{
    return step(n, &(struct cell_event){.type = CELL_HAND_OVER, .peer = peer}, now_ms);
}

enum err cellnode_read(struct cellnode *n, uint64_t *ticket, uint64_t now_ms)
{
    enum err err = step(n, &(struct cell_event){.type = CELL_READ}, now_ms);
    *ticket = n->fx.ticket;
    return err;
}

/* ---- life ---- */

static enum err read_vote(struct cellnode *n, struct cell_boot *boot)
{
    uint8_t cell_id[16];
    engine_cell_id(n->e, cell_id);
    enum err err = vote_read(n->vote_path, cell_id, &n->vote);
    boot->vote_lost = err == ERR_CORRUPT || (err == ERR_NOTFOUND && !n->cfg.newborn);
    if (err == ERR_NOTFOUND || err == ERR_CORRUPT) {
        memcpy(n->vote.cell_id, cell_id, sizeof cell_id);
        n->vote.vote = (struct cell_vote){.promised_to = CELL_NOBODY};
        err = clock_random(n->vote.node_id, sizeof n->vote.node_id);
    }
    /* Terms up to that one were there before the log was lost. A full resync lost no promise: one that is made up would
     * depose the primary that it came from. */
    if (n->e->begin.tier != 2 && n->vote.vote.promised < n->e->begin.term) {
        n->vote.vote.promised = n->e->begin.term;
        n->vote.vote.promised_to = CELL_NOBODY;
    }
    /* What was there before a recovery by force, or in another history, is not missed. */
    if (n->e->begin.term && n->vote.vote.held_lsn > n->e->begin.lsn) {
        n->vote.vote.held_lsn = n->e->begin.lsn;
        err = vote_write(n->vote_path, &n->vote);
    }
    boot->vote = n->vote.vote;
    return err;
}

static void say_shorter(struct cellnode *n, const struct cell_boot *boot)
{
    char line[160];
    snprintf(line, sizeof line, "the log ends at LSN %llu, and this node has held LSN %llu: some of it is gone",
             (unsigned long long)boot->last_lsn, (unsigned long long)boot->vote.held_lsn);
    n->cfg.log(n->cfg.arg, LOG_WARNING, line);
}

enum err cellnode_open(struct cellnode **out, const struct cellnode_config *cfg, uint64_t now_ms)
{
    struct cellnode *n = *out = mem_zalloc(sizeof *n);
    struct wal_info info;
    if (!n)
        return ERR_OOM;
    n->cfg = *cfg;
    n->e = cfg->engine;
    n->q = atomic_load(&n->e->seq);
    n->w = n->e->wal;
    n->shut = ERR_READONLY;
    buf_init(&n->out, CELLWIRE_RECORDS_MAX);
    n->vote_path = mem_alloc(strlen(cfg->vote_path) + 1);
    if (n->vote_path)
        memcpy(n->vote_path, cfg->vote_path, strlen(cfg->vote_path) + 1);
    wal_info(n->w, &info);
    struct cell_boot boot = {.damaged = cfg->damaged,
                             .base_lsn = info.first_lsn ? info.first_lsn - 1 : info.last_lsn,
                             .last_lsn = info.last_lsn,
                             .applied_lsn = engine_commit_lsn(n->e),
                             .now_ms = now_ms,
                             .log = {n, log_term_at, log_chain_at}};
    enum err err = n->vote_path ? read_vote(n, &boot) : ERR_OOM;
    if (err) {
        cellnode_close(n);
        *out = NULL;
        return err;
    }
    say_mute(n, 0);
    if (boot.last_lsn < boot.vote.held_lsn)
        say_shorter(n, &boot);
    n->synced = info.last_lsn;
    n->begun = !n->e->begin.term || info.first_lsn;
    cell_init(&n->cell, &cfg->cell, &boot, &n->fx);
    effects(n);
    return ERR_OK;
}

void cellnode_close(struct cellnode *n)
{
    if (!n)
        return;
    close_gate(n, ERR_READONLY);
    for (uint8_t p = 0; p < CELL_PEERS; p++)
        drop_cursor(n, p);
    buf_fini(&n->out);
    mem_free(n->vote_path);
    mem_free(n);
}

void cellnode_freeze(struct cellnode *n)
{
    close_gate(n, ERR_READONLY);
    n->halted = 1;
}

enum err cellnode_writable(const struct cellnode *n)
{
    return n->open ? ERR_OK : n->shut;
}

void cellnode_settings(struct cellnode *n, unsigned quorum_timeout_ms, unsigned max_staleness_ms, unsigned priority)
{
    n->cell.config.quorum_timeout_ms = quorum_timeout_ms;
    n->cell.config.max_staleness_ms = max_staleness_ms;
    n->cell.config.priority = priority;
}

const struct cell *cellnode_cell(const struct cellnode *n)
{
    return &n->cell;
}

int cellnode_serving(const struct cellnode *n)
{
    return cell_serving(&n->cell) && !sequencer_is_behind(n->q);
}

void cellnode_status(const struct cellnode *n, uint64_t now_ms, struct cell_status *out)
{
    cell_status(&n->cell, now_ms, out);
    out->master = cellnode_serving(n);
}

enum err cellnode_fresh(const struct cellnode *n, uint64_t now_ms)
{
    return sequencer_is_behind(n->q) ? ERR_MASTERDOWN : cell_fresh(&n->cell, now_ms);
}
