/* oracle.c - what must hold, whatever happens:
 *
 *     one primary a term; what any node commits at an LSN is what every node commits there; who serves has all of what
 *     earlier terms committed
 *     what was applied is never cut off; a replica, or a replica's replica, applies what a primary committed before
 *     a write is told once; told OK it is committed, told ROLLEDBACK it never is
 *     a confirmed read sees everything that was committed when it began
 */
#include <stdarg.h>

#include "sim.h"

void sim_broken(struct sim *s, const char *fmt, ...)
{
    va_list ap;
    va_start(ap, fmt);
    vsnprintf(s->why, sizeof s->why, fmt, ap);
    va_end(ap);
    trace(s, "BROKEN: %s", s->why);
    siglongjmp(s->broken, 1);
}

void oracle_opened(struct sim *s, unsigned n, uint32_t term)
{
    if (term >= SIM_TERMS)
        sim_broken(s, "term %u", term);
    if (s->opened_by[term])
        sim_broken(s, "%c opens term %u, which %c opened already", 'a' + n, term, 'a' + s->opened_by[term] - 1);
    s->opened_by[term] = (uint8_t)(n + 1);
}

static void must_not_be_dead(struct sim *s, uint64_t lsn, uint32_t term)
{
    for (unsigned i = 0; i < s->dead_count; i++)
        if (s->dead[i].lsn == lsn && s->dead[i].term == term)
            sim_broken(s, "record %lu of term %u is committed, which was told to be rolled back", lsn, term);
}

static void agrees(struct sim *s, unsigned n, uint64_t lsn)
{
    const struct sim_record *mine = &s->node[n].log[lsn], *all = &s->committed[lsn];
    if (s->node[n].last < lsn || mine->id != all->id)
        sim_broken(s, "%c does not have the committed record %lu of term %u", 'a' + n, lsn, all->term);
}

void oracle_commit(struct sim *s, unsigned n, uint64_t lsn)
{
    struct sim_node *node = &s->node[n];
    if (lsn > node->last)
        sim_broken(s, "%c commits %lu, its log ends at %lu", 'a' + n, lsn, node->last);
    for (uint64_t l = node->applied + 1; l <= lsn; l++) {
        if (l > s->committed_lsn && node->c.role == CELL_REPLICA)
            sim_broken(s, "%c commits %lu, which no primary has", 'a' + n, l);
        if (l > s->committed_lsn) {
            must_not_be_dead(s, l, node->log[l].term);
            s->committed[l] = node->log[l];
            s->committed_in[l] = node->c.vote.promised;
            s->committed_lsn = l;
        }
        agrees(s, n, l);
        s->relayed += node->c.role == CELL_REPLICA && node->c.follow.hops;
    }
    if (node->applied < lsn)
        node->applied = lsn;
}

/* Later terms may have committed more by now: a primary that was deposed does not know. */
void oracle_serves(struct sim *s, unsigned n)
{
    for (uint64_t l = 1; l <= s->committed_lsn; l++)
        if (s->committed_in[l] < s->node[n].c.vote.promised)
            agrees(s, n, l);
}

void oracle_has_all(struct sim *s, unsigned n)
{
    for (uint64_t l = 1; l <= s->committed_lsn; l++)
        agrees(s, n, l);
}

void oracle_cut(struct sim *s, unsigned n, uint64_t lsn)
{
    if (lsn < s->node[n].applied)
        sim_broken(s, "%c cuts its log at %lu, %lu is applied", 'a' + n, lsn, s->node[n].applied);
}

/* ---- clients ---- */

void oracle_admitted(struct sim *s, unsigned n, uint64_t first, uint64_t last)
{
    struct sim_node *node = &s->node[n];
    for (uint64_t l = first; l <= last && node->open_count < SIM_OPEN; l++)
        node->open[node->open_count++] = (struct sim_open){l, node->log[l].term};
}

static void told(struct sim *s, unsigned n, uint64_t lsn, uint32_t term, enum err err)
{
    int committed = lsn <= s->committed_lsn && s->committed[lsn].term == term;
    if (err == ERR_OK && !committed)
        sim_broken(s, "%c tells OK for %lu of term %u, which is not committed", 'a' + n, lsn, term);
    if (err == ERR_ROLLEDBACK && committed)
        sim_broken(s, "%c tells ROLLEDBACK for %lu of term %u, which is committed", 'a' + n, lsn, term);
    if (err == ERR_ROLLEDBACK && s->dead_count < SIM_DEAD)
        s->dead[s->dead_count++] = (struct sim_dead){lsn, term};
}

/* 1: a client waited for it, and does not any more. */
static int answered(struct sim_node *node, uint64_t lsn, uint32_t term)
{
    for (unsigned i = 0; i < node->open_count; i++) {
        if (node->open[i].lsn == lsn && node->open[i].term == term) {
            node->open[i] = node->open[--node->open_count];
            return 1;
        }
    }
    return 0;
}

void oracle_outcome(struct sim *s, unsigned n, uint64_t first, uint64_t last, uint32_t term, enum err err)
{
    for (uint64_t l = first; l <= last; l++) {
        told(s, n, l, term, err);
        s->told[err == ERR_OK ? 0 : err == ERR_ROLLEDBACK ? 1 : 2]++;
        if (!answered(&s->node[n], l, term))
            sim_broken(s, "%c tells what became of %lu of term %u, which nobody waits for", 'a' + n, l, term);
    }
}

void oracle_asked_outcome(struct sim *s, unsigned n, uint64_t lsn, uint32_t term)
{
    enum err e = cell_outcome(&s->node[n].c, lsn, term);
    if (e != ERR_UNCERTAIN)
        told(s, n, lsn, term, e);
}

void oracle_end(struct sim *s)
{
    for (unsigned n = 0; n < s->nodes; n++)
        if (s->node[n].up && s->node[n].open_count)
            sim_broken(s, "%c never told what became of %lu", 'a' + n, s->node[n].open[0].lsn);
}

void oracle_read_begun(struct sim *s, unsigned n, uint64_t ticket)
{
    struct sim_node *node = &s->node[n];
    if (node->read_count < SIM_READS)
        node->reads[node->read_count++] = (struct sim_read){ticket, s->committed_lsn};
}

void oracle_reads(struct sim *s, unsigned n, uint64_t seq, uint64_t lsn)
{
    struct sim_node *node = &s->node[n];
    unsigned kept = 0;
    for (unsigned i = 0; i < node->read_count; i++) {
        if (node->reads[i].ticket > seq)
            node->reads[kept++] = node->reads[i];
        else if (lsn < node->reads[i].need_lsn)
            sim_broken(s, "%c answers a read as of %lu, %lu was committed when it began", 'a' + n, lsn,
                       node->reads[i].need_lsn);
        else
            s->reads++;
    }
    node->read_count = kept;
}

void oracle_crashed(struct sim *s, unsigned n)
{
    s->node[n].read_count = 0;
    s->node[n].open_count = 0;
}
