/* cmd_resync.c - what a node asks of another to copy it: REPL.SNAPSHOT and REPL.PIECE of a snapshot (lend.h is this
 * side of it, resync.h the other), REPL.RECORDS of the log (repl_mend.c). All block on the disk, on a thread for that
 * (chores.h). */
#include <stdio.h>

#include "base/clock.h"
#include "base/hex.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/chores.h"
#include "server/handlers.h"
#include "server/io.h"
#include "server/lend.h"
#include "server/repl.h"
#include "server/server.h"
#include "server/walcall.h"

struct asked {
    struct pending p;
    struct chore chore;
    struct lend *lend;
    struct lend_want want;
    struct lend_file file; /* PIECE: what is asked for */
    uint64_t off, n;
    uint64_t first_lsn, last_lsn; /* RECORDS */
    struct wal *wal;
    struct buf piece;
    enum err err;
};

static int get_u64(struct bytes word, uint64_t *out)
{
    int64_t n;
    int ok = number_parse(word, &n) && n >= 0;
    *out = ok ? (uint64_t)n : 0;
    return ok;
}

static void release(struct pending *p)
{
    struct asked *a = mpsc_entry(p, struct asked, p);
    buf_fini(&a->piece);
    mem_free(a);
}

static enum call_result post(struct call *c, const struct asked *what, void (*run)(struct chore *chore),
                             void (*finish)(struct pending *p, struct reply *r))
{
    struct asked *a = mem_alloc(sizeof *a);
    if (!a)
        return call_error(c, ERR_OOM);
    *a = *what;
    a->lend = c->srv->lend;
    a->chore.run = run;
    buf_init(&a->piece, LEND_PIECE_BYTES + RECORD_MAX_BYTES);
    call_pending(c, &a->p, finish, release);
    chores_post(c->srv->chores, &a->chore);
    return CALL_PENDING;
}

static int is_ready(struct call *c)
{
    const char *plain = repl_insecure(c->srv, c->conn);
    if (!walcall_ready(c))
        return 0;
    if (plain)
        call_errorf(c, ERR_NOPERM, "%s", plain);
    else if (!c->srv->lend)
        call_error(c, ERR_UNSUPPORTED);
    return !plain && c->srv->lend;
}

/* ---- REPL.SNAPSHOT cell from-lsn [HAVE lsn term] [BELOW lsn] ---- */

static void choose(struct chore *chore)
{
    struct asked *a = mpsc_entry(chore, struct asked, chore);
    a->err = lend_choose(a->lend, &a->want, clock_mono_ms(), &a->file);
    pending_complete(&a->p);
}

static void chosen(struct pending *p, struct reply *r)
{
    struct asked *a = mpsc_entry(p, struct asked, p);
    if (a->err == ERR_LOADING)
        reply_errorf(r, "LOADING", "%s",
                     a->want.below_lsn ? "there is no other snapshot here: one is made as soon as something was written"
                                       : "there is no snapshot here yet: one is being made");
    else if (a->err == ERR_AGAIN)
        reply_errorf(r, "LOADING", "%d snapshots are being copied from here already", LEND_FILES);
    else if (a->err)
        reply_error(r, a->err);
    if (a->err)
        return;
    atomic_fetch_add(&io_server(p->io)->sync_full, 1);
    reply_array(r, 3);
    reply_int(r, (int64_t)a->file.lsn);
    reply_int(r, (int64_t)a->file.term);
    reply_int(r, (int64_t)a->file.bytes);
}

static int parse_options(struct call *c, struct lend_want *w)
{
    uint64_t term;
    for (unsigned i = 3; i < c->argc;) {
        if (bytes_is_word(c->argv[i], "HAVE") && i + 2 < c->argc && get_u64(c->argv[i + 1], &w->have_lsn) &&
            get_u64(c->argv[i + 2], &term) && term <= UINT32_MAX) {
            w->have_term = (uint32_t)term;
            i += 3;
        } else if (bytes_is_word(c->argv[i], "BELOW") && i + 1 < c->argc && get_u64(c->argv[i + 1], &w->below_lsn)) {
            i += 2;
        } else {
            return 0;
        }
    }
    return 1;
}

enum call_result cmd_repl_snapshot(struct call *c)
{
    struct asked a = {0};
    uint8_t theirs[16], mine[16];
    if (!is_ready(c))
        return CALL_DONE;
    if (!hex_get(c->argv[1], theirs, sizeof theirs) || !get_u64(c->argv[2], &a.want.from_lsn) ||
        !parse_options(c, &a.want))
        return call_error(c, ERR_SYNTAX);
    engine_cell_id(c->srv->engine, mine);
    if (!bytes_equal(bytes_of(theirs, 16), bytes_of(mine, 16)))
        return call_errorf(c, ERR_CONFLICT, "this node is of another cell");
    return post(c, &a, choose, chosen);
}

/* ---- REPL.PIECE lsn term offset bytes ---- */

static void read_it(struct chore *chore)
{
    struct asked *a = mpsc_entry(chore, struct asked, chore);
    a->err = lend_read(a->lend, a->file.lsn, a->file.term, a->off, a->n, clock_mono_ms(), &a->piece);
    pending_complete(&a->p);
}

static void was_read(struct pending *p, struct reply *r)
{
    struct asked *a = mpsc_entry(p, struct asked, p);
    if (a->err == ERR_NOTFOUND)
        reply_errorf(r, "ERR", "that snapshot is not here any more");
    else if (a->err)
        reply_error(r, a->err);
    else
        reply_bulk(r, buf_bytes(&a->piece));
}

enum call_result cmd_repl_piece(struct call *c)
{
    struct asked a = {0};
    uint64_t term;
    if (!is_ready(c))
        return CALL_DONE;
    if (!get_u64(c->argv[1], &a.file.lsn) || !get_u64(c->argv[2], &term) || !get_u64(c->argv[3], &a.off) ||
        !get_u64(c->argv[4], &a.n) || term > UINT32_MAX)
        return call_error(c, ERR_NOTINT);
    a.file.term = (uint32_t)term;
    return post(c, &a, read_it, was_read);
}

/* ---- REPL.RECORDS first-lsn last-lsn ---- */

static enum err put_records(struct asked *a, struct wal_cursor *c)
{
    struct record r = {0};
    struct bytes raw;
    enum err e = ERR_OK;
    while (r.lsn < a->last_lsn && buf_size(&a->piece) < LEND_PIECE_BYTES &&
           (e = wal_cursor_next(c, &r, &raw)) == ERR_OK && (e = buf_put(&a->piece, raw.p, raw.n)) == ERR_OK) {
    }
    return buf_size(&a->piece) ? ERR_OK : e; /* as far as they are good */
}

static void read_records(struct chore *chore)
{
    struct asked *a = mpsc_entry(chore, struct asked, chore);
    struct wal_cursor *c;
    a->err = wal_cursor_open(&c, a->wal, a->first_lsn);
    if (!a->err) {
        a->err = put_records(a, c);
        wal_cursor_close(c);
    }
    pending_complete(&a->p);
}

static void records_were_read(struct pending *p, struct reply *r)
{
    struct asked *a = mpsc_entry(p, struct asked, p);
    if (a->err == ERR_NOTFOUND || a->err == ERR_END)
        reply_errorf(r, "ERR", "those records are not here");
    else if (a->err)
        reply_error(r, a->err);
    else
        reply_bulk(r, buf_bytes(&a->piece));
}

enum call_result cmd_repl_records(struct call *c)
{
    struct asked a = {0};
    if (!is_ready(c))
        return CALL_DONE;
    if (!get_u64(c->argv[1], &a.first_lsn) || !get_u64(c->argv[2], &a.last_lsn))
        return call_error(c, ERR_NOTINT);
    if (!a.first_lsn || a.first_lsn > a.last_lsn)
        return call_error(c, ERR_RANGE);
    a.wal = engine_wal(c->srv->engine);
    return post(c, &a, read_records, records_were_read);
}
