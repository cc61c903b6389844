/* cmd_wal.c - WBL.INFO, WBL.OUTCOME, WBL.RANGE; WBL.VERIFY is in cmd_wal_verify.c.
 *
 * RANGE reads the log on another thread (chores.h), which copies what is shown of each record; payloads never leave the
 * engine. */
#include "base/hex.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/chores.h"
#include "server/handlers.h"
#include "server/restore.h"
#include "server/server.h"
#include "server/walcall.h"

#define RANGE_MAX 1000

/* ---- shared ---- */

int walcall_ready(struct call *c)
{
    if (!atomic_load_explicit(&c->srv->loading, memory_order_acquire))
        return 1;
    restore_refuse(c->srv->restore, c->reply);
    return 0;
}

void walcall_reply_hex(struct reply *r, const uint8_t *p, size_t n)
{
    uint8_t *room;
    if (reply_bulk_begin(r, 2 * n, &room))
        return;
    hex_digits(room, p, n);
    reply_bulk_end(r);
}

void walcall_reply_int(struct reply *r, const char *name, uint64_t value)
{
    reply_bulk_str(r, name);
    reply_int(r, (int64_t)value);
}

enum err walcall_check_range(struct call *c, const struct wal_info *info, uint64_t from, uint64_t to)
{
    if (info->first_lsn == 0)
        call_errorf(c, ERR_RANGE, "the log has no records");
    else if (from < info->first_lsn)
        call_errorf(c, ERR_RANGE, "the log begins at LSN %llu", (unsigned long long)info->first_lsn);
    else if (to > info->last_lsn)
        call_errorf(c, ERR_RANGE, "the log ends at LSN %llu", (unsigned long long)info->last_lsn);
    else if (from > to)
        call_errorf(c, ERR_RANGE, "FROM is behind TO");
    else
        return ERR_OK;
    return ERR_RANGE;
}

/* ---- WBL.INFO ---- */

enum call_result cmd_wal_info(struct call *c)
{
    struct reply *r = c->reply;
    struct engine_info i;

    if (!walcall_ready(c))
        return CALL_DONE;
    engine_info(c->srv->engine, &i);
    reply_map(r, 18);
    walcall_reply_int(r, "term", i.term);
    walcall_reply_int(r, "first-lsn", i.wal.first_lsn);
    walcall_reply_int(r, "last-lsn", i.wal.last_lsn);
    walcall_reply_int(r, "commit-lsn", i.commit_lsn);
    walcall_reply_int(r, "applied-lsn", i.apply.applied_lsn);
    walcall_reply_int(r, "checkpoint-lsn", i.apply.checkpoint_lsn);
    reply_bulk_str(r, "chain");
    walcall_reply_hex(r, i.wal.chain, sizeof i.wal.chain);
    walcall_reply_int(r, "segments", i.wal.segments);
    walcall_reply_int(r, "bytes", i.wal.bytes);
    walcall_reply_int(r, "fsyncs", i.wal.fsyncs);
    walcall_reply_int(r, "groups", i.wal.groups);
    walcall_reply_int(r, "records", i.wal.records);
    walcall_reply_int(r, "group-records", i.group_records);
    walcall_reply_int(r, "pending-writes", i.pending_writes);
    walcall_reply_int(r, "pending-apply-bytes", i.hot.dirty_bytes);
    walcall_reply_int(r, "damaged-lsn", i.wal.damaged_lsn);
    walcall_reply_int(r, "verifying-lsn", walcall_verifying());
    reply_bulk_str(r, "failed");
    reply_bool(r, i.wal.failed || i.failed);
    return CALL_DONE;
}

/* ---- WBL.OUTCOME lsn term ---- */

/* What became of the record that was appended as (lsn, term), on any node. Commits go up without gaps, so up to the
 * commit LSN the log itself tells. Terms only grow along a log: once a record of a later term is committed, none of
 * this one comes behind it (cell_outcome). NULL: the log does not have that record, as it is trimmed, began later or is
 * damaged there; then nothing is known, and least of all that it was rolled back. */
static const char *outcome(uint64_t lsn, uint32_t term, uint64_t commit_lsn, struct wal *w)
{
    uint32_t there = wal_term_at(w, lsn < commit_lsn ? lsn : commit_lsn);
    if (lsn > commit_lsn)
        return there > term ? "rolledback" : "pending";
    if (!there)
        return NULL;
    return there == term ? "committed" : "rolledback";
}

enum call_result cmd_wal_outcome(struct call *c)
{
    struct engine_info i;
    int64_t lsn, term;

    if (!walcall_ready(c))
        return CALL_DONE;
    if (!number_parse(c->argv[1], &lsn) || !number_parse(c->argv[2], &term))
        return call_error(c, ERR_NOTINT);
    if (lsn < 1 || term < 1 || term > UINT32_MAX)
        return call_error(c, ERR_RANGE);
    engine_info(c->srv->engine, &i);
    const char *told = outcome((uint64_t)lsn, (uint32_t)term, i.commit_lsn, engine_wal(c->srv->engine));
    if (!told)
        return call_errorf(c, ERR_RANGE,
                           "this node's log does not tell: it is trimmed up to there, began later, or is damaged");
    reply_bulk_str(c->reply, told);
    return CALL_DONE;
}

/* ---- WBL.RANGE from count ---- */

/* What is shown of a record; key_n bytes follow it. */
struct row {
    uint64_t lsn, time_ms, vault, bytes;
    uint32_t term;
    uint8_t type, chain[RECORD_CHAIN_BYTES];
    size_t key_n;
};

struct range {
    struct pending p;
    struct chore chore;
    struct server *srv;
    uint64_t from;
    unsigned count, found;
    struct buf rows;
    enum err err;
};

static enum err put_row(struct range *g, const struct record *rec, struct bytes raw)
{
    struct row row = {.lsn = rec->lsn,
                      .time_ms = rec->time_ms,
                      .vault = rec->vault,
                      .bytes = raw.n,
                      .term = rec->term,
                      .type = rec->type,
                      .key_n = rec->key.n};
    memcpy(row.chain, rec->chain, sizeof row.chain);
    enum err err = buf_put(&g->rows, &row, sizeof row);
    return err ? err : buf_put(&g->rows, rec->key.p, rec->key.n);
}

static enum err read_rows(struct range *g)
{
    struct wal_cursor *cur;
    struct record rec;
    struct bytes raw;
    enum err err = wal_cursor_open(&cur, engine_wal(g->srv->engine), g->from);

    while (err == ERR_OK && g->found < g->count) {
        err = wal_cursor_next(cur, &rec, &raw);
        if (err == ERR_OK)
            err = put_row(g, &rec, raw);
        g->found += err == ERR_OK;
    }
    wal_cursor_close(cur);
    return err == ERR_END ? ERR_OK : err;
}

static void range_run(struct chore *chore)
{
    struct range *g = mpsc_entry(chore, struct range, chore);
    g->err = read_rows(g);
    pending_complete(&g->p);
}

/* The vault's name: as it is now, or of the record that made it. Empty: none, or not known any more. */
static struct bytes vault_name(struct vaults *vs, const struct row *row, struct bytes key)
{
    struct vault *v = row->vault ? vaults_find_id(vs, row->vault) : NULL;
    if (v)
        return bytes_str(v->name);
    return !row->vault && row->type == RECORD_PARTITION && vault_name_ok(key) ? key : bytes_of(NULL, 0);
}

/* {vault}/key, or {vault}; {#id} for a vault that is not known any more; the key alone where there is no vault. */
static enum err canonical_key(struct buf *out, const struct row *row, struct bytes vault, struct bytes key)
{
    uint8_t id[NUMBER_MAX_BYTES + 1] = {'#'};
    enum err err = ERR_OK;

    buf_clear(out);
    if (!vault.n && row->vault)
        vault = bytes_of(id, 1 + number_format_u64(id + 1, row->vault));
    if (vault.n &&
        ((err = buf_put_u8(out, '{')) || (err = buf_put(out, vault.p, vault.n)) || (err = buf_put_u8(out, '}'))))
        return err;
    if (!row->vault && vault.n)
        return ERR_OK;
    if (vault.n && key.n && (err = buf_put_u8(out, '/')))
        return err;
    return buf_put(out, key.p, key.n);
}

static void reply_names(struct reply *r, struct vaults *vs, const struct row *row, struct bytes key)
{
    struct bytes vault = vault_name(vs, row, key);
    struct buf text;

    reply_bulk_str(r, "vault");
    reply_bulk(r, vault);
    reply_bulk_str(r, "key");
    if (row->type == RECORD_BARRIER) { /* the cell's id */
        walcall_reply_hex(r, key.p, key.n);
        return;
    }
    buf_init(&text, VAULT_NAME_MAX + UINT16_MAX + 8);
    enum err err = canonical_key(&text, row, vault, key);
    if (err == ERR_OK)
        reply_bulk(r, buf_bytes(&text));
    else if (!r->failed)
        r->failed = err;
    buf_fini(&text);
}

static void reply_row(struct reply *r, struct vaults *vs, const struct row *row, struct bytes key)
{
    reply_map(r, 8);
    walcall_reply_int(r, "lsn", row->lsn);
    walcall_reply_int(r, "term", row->term);
    walcall_reply_int(r, "time", row->time_ms);
    reply_bulk_str(r, "type");
    reply_bulk_str(r, record_type_name(row->type));
    reply_names(r, vs, row, key);
    walcall_reply_int(r, "bytes", row->bytes);
    reply_bulk_str(r, "chain");
    walcall_reply_hex(r, row->chain, sizeof row->chain);
}

static void range_finish(struct pending *p, struct reply *r)
{
    struct range *g = mpsc_entry(p, struct range, p);
    struct bytes in = buf_bytes(&g->rows), raw, key;
    struct row row;

    if (g->err == ERR_NOTFOUND) {
        reply_errorf(r, "ERR", "these records were removed meanwhile");
        return;
    }
    if (g->err) {
        reply_error(r, g->err);
        return;
    }
    reply_array(r, g->found);
    while (bytes_take(&in, sizeof row, &raw)) {
        memcpy(&row, raw.p, sizeof row);
        if (!bytes_take(&in, row.key_n, &key))
            break;
        reply_row(r, engine_vaults(g->srv->engine), &row, key);
    }
}

static void range_release(struct pending *p)
{
    struct range *g = mpsc_entry(p, struct range, p);
    buf_fini(&g->rows);
    mem_free(g);
}

enum call_result cmd_wal_range(struct call *c)
{
    struct wal_info info;
    int64_t from, count;

    if (!walcall_ready(c))
        return CALL_DONE;
    if (!number_parse(c->argv[1], &from) || !number_parse(c->argv[2], &count))
        return call_error(c, ERR_NOTINT);
    if (count < 1 || count > RANGE_MAX)
        return call_errorf(c, ERR_RANGE, "count must be from 1 to %d", RANGE_MAX);
    wal_info(engine_wal(c->srv->engine), &info);
    if ((uint64_t)from == info.last_lsn + 1 && from > 0) { /* where the next one will be */
        reply_array(c->reply, 0);
        return CALL_DONE;
    }
    if (walcall_check_range(c, &info, from < 0 ? 0 : (uint64_t)from, from < 0 ? 0 : (uint64_t)from))
        return CALL_DONE;
    struct range *g = mem_zalloc(sizeof *g);
    if (!g)
        return call_error(c, ERR_OOM);
    g->srv = c->srv;
    g->from = (uint64_t)from;
    g->count = (unsigned)count;
    g->chore.run = range_run;
    buf_init(&g->rows, RANGE_MAX * (sizeof(struct row) + UINT16_MAX));
    call_pending(c, &g->p, range_finish, range_release);
    chores_post(c->srv->chores, &g->chore);
    return CALL_PENDING;
}
