/* repl_mend.c - a damaged segment of the log is mended from the records of another node (wal_mend), which are asked for
 * by REPL.RECORDS over a connection of its own, as for a full resync (resync.h).
 *
 * Asked are those who are likely to have them, one after the other: the other voters; without voters whom this node
 * follows; and who follows it. Nobody is believed: the log's own chains say what its records are. So it does not matter
 * either how far somebody is, or whether he is up: who cannot help is passed over.
 */
#include <stdio.h>

#include "base/log.h"
#include "resp/answer.h"
#include "server/repl_impl.h"

/* One node being asked. */
struct mend {
    struct repl *r;
    int (*over)(void *arg);
    void *over_arg;
    struct dial_talk *talk;
    char why[HELLO_WHY_BYTES]; /* it could not; empty: it could */
};

/* ---- who may have them ---- */

static void add(struct voter *out, unsigned *n, const char *host, int port)
{
    if (!port || *n == CELL_PEERS)
        return;
    snprintf(out[*n].host, sizeof out[*n].host, "%s", host);
    out[(*n)++].port = port;
}

static unsigned list_nodes(struct repl *r, struct voter out[CELL_PEERS])
{
    struct repl_status s;
    unsigned n = 0;
    repl_status(r, &s);
    for (unsigned i = 0; i < r->voters.n; i++)
        if (i != r->self)
            add(out, &n, r->voters.at[i].host, r->voters.at[i].port);
    if (!r->voters.n && s.leader_port)
        add(out, &n, s.leader_host, s.leader_port);
    else if (!r->voters.n && !s.master) /* at a start it is not linked yet */
        add(out, &n, r->first.host, r->first.port);
    for (unsigned i = 0; i < s.peers; i++)
        if (!s.peer[i].voter && s.peer[i].online)
            add(out, &n, s.peer[i].host, s.peer[i].port);
    return n;
}

/* ---- asking one ---- */

static void fill_self(void *arg, struct dial_self *s)
{
    repl_self(((struct mend *)arg)->r, s);
}

static int is_over(void *arg)
{
    const struct mend *m = arg;
    return m->over(m->over_arg) || atomic_load(&m->r->srv->stopping);
}

static enum err talk_failed(struct mend *m, enum err e)
{
    snprintf(m->why, sizeof m->why, "%s", m->talk ? dial_talk_why(m->talk) : err_text(e));
    return e;
}

static enum err say(struct mend *m, uint64_t from_lsn, uint64_t to_lsn)
{
    char from[24], to[24];
    snprintf(from, sizeof from, "%llu", (unsigned long long)from_lsn);
    snprintf(to, sizeof to, "%llu", (unsigned long long)to_lsn);
    struct bytes words[] = {bytes_str("REPL.RECORDS"), bytes_str(from), bytes_str(to)};
    return dial_talk_say(m->talk, words, 3);
}

/* As wal_records_fn. */
static enum err ask(void *arg, uint64_t from_lsn, uint64_t to_lsn, struct buf *out)
{
    struct mend *m = arg;
    const struct answer *a;
    enum err e = say(m, from_lsn, to_lsn);
    if (!e)
        e = dial_talk_hear(m->talk, &a);
    if (e)
        return talk_failed(m, e);
    if (a->type == ANSWER_BULK)
        return buf_put(out, a->text.p, a->text.n);
    if (a->type == ANSWER_ERROR)
        snprintf(m->why, sizeof m->why, "it says: %.*s", (int)(a->text.n < 500 ? a->text.n : 500),
                 (const char *)a->text.p);
    else
        snprintf(m->why, sizeof m->why, "its answer to REPL.RECORDS is not understood");
    return ERR_NOTFOUND;
}

static enum err mend_from(struct mend *m, const struct voter *node, struct wal *w, uint64_t lsn)
{
    struct dial_talk_config cfg = {.port = node->port, .self = fill_self, .over = is_over, .arg = m};
    memcpy(cfg.host, node->host, sizeof cfg.host);
    m->why[0] = '\0';
    enum err e = dial_talk_open(&m->talk, &cfg);
    e = e ? talk_failed(m, e) : wal_mend(w, lsn, ask, m);
    dial_talk_close(m->talk);
    m->talk = NULL;
    if (e == ERR_CORRUPT && !m->why[0])
        snprintf(m->why, sizeof m->why, "it has other records than were here");
    else if (e && !m->why[0])
        snprintf(m->why, sizeof m->why, "%s", err_text(e));
    return e;
}

/* ---- the outside ---- */

enum err repl_mend_log(void *srv, struct wal *w, uint64_t lsn, int (*over)(void *arg), void *over_arg)
{
    struct repl *r = ((struct server *)srv)->repl;
    struct mend m = {.r = r, .over = over, .over_arg = over_arg};
    struct voter node[CELL_PEERS];
    unsigned n = list_nodes(r, node);
    enum err e = ERR_NOTFOUND;

    for (unsigned i = 0; i < n && e && !is_over(&m); i++) {
        e = mend_from(&m, &node[i], w, lsn);
        if (e)
            log_at(LOG_WARNING, "The segment of the log with LSN %llu is not mended from %s:%d: %.1500s",
                   (unsigned long long)lsn, node[i].host, node[i].port, m.why);
        else
            log_at(LOG_NOTICE, "The segment of the log with LSN %llu is mended with the records of %s:%d",
                   (unsigned long long)lsn, node[i].host, node[i].port);
    }
    return e;
}
