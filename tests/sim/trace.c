/* trace.c - what happens, as text: one line for each event that a scenario would tell of. */
#include <stdarg.h>
#include <string.h>

#include "sim.h"

void trace(struct sim *s, const char *fmt, ...)
{
    if (!s->trace)
        return;
    va_list ap;
    va_start(ap, fmt);
    vfprintf(s->trace, fmt, ap);
    va_end(ap);
    fputc('\n', s->trace);
}

static const char *name(unsigned n)
{
    static const char names[][2] = {"a", "b", "c", "d", "e", "f", "g"};
    return n < SIM_NODES ? names[n] : "nobody";
}

static const char *mute_name(unsigned mute)
{
    return mute == CELL_SOUND ? "" : mute == CELL_DAMAGED ? ", mute" : ", mute, promise unknown";
}

/* What each type says beside its name. */
static void describe(const struct cell_msg *m, char *out, size_t n)
{
    switch (m->type) {
    case CELL_PROBE:
        snprintf(out, n, "promised %u", m->promised);
        break;
    case CELL_PROBED:
        snprintf(out, n, "promised %u, leader %s", m->promised, name(m->leader));
        break;
    case CELL_ASK:
    case CELL_LEAD:
    case CELL_STAND:
        snprintf(out, n, "term %u", m->term);
        break;
    case CELL_PROMISED:
        if (m->granted)
            snprintf(out, n, "term %u, last %lu of term %u", m->term, m->at.lsn, m->at.term);
        else
            snprintf(out, n, "not term %u, promised %u", m->term, m->promised);
        break;
    case CELL_JOIN:
        snprintf(out, n, "promised %u, at %lu of term %u%s%s", m->promised, m->at.lsn, m->at.term,
                 m->want.lsn ? ", from its donor" : "", m->full ? ", all of it" : "");
        break;
    case CELL_COUNTER:
    case CELL_SNAPSHOT:
        snprintf(out, n, "term %u, at %lu of term %u", m->term, m->at.lsn, m->at.term);
        break;
    case CELL_CONTINUE:
        snprintf(out, n, "term %u, at %lu, end %lu", m->term, m->at.lsn, m->end.lsn);
        break;
    case CELL_RECORDS:
        if (m->first <= m->last)
            snprintf(out, n, "term %u, %lu..%lu, commit %lu, beat %lu", m->term, m->first, m->last, m->commit, m->seq);
        else
            snprintf(out, n, "term %u, none, commit %lu, beat %lu", m->term, m->commit, m->seq);
        break;
    case CELL_ACK:
        snprintf(out, n, "term %u, durable %lu, beat %lu%s", m->term, m->lsn, m->seq, m->mute ? ", not counted" : "");
        break;
    case CELL_REFUSED:
        snprintf(out, n, "promised %u, why %u, leader %s", m->promised, m->why, name(m->leader));
        break;
    default:
        snprintf(out, n, "?");
    }
}

/* Heartbeats and their answers that say nothing new to who gets them are not told of. */
static int is_news(const struct cell *c, unsigned from, const struct cell_msg *m)
{
    if (m->type == CELL_RECORDS && m->first > m->last)
        return m->session == c->follow.session && (m->commit > c->follow.commit_lsn || m->seq > c->follow.seq);
    if (m->type == CELL_ACK)
        return m->lsn > c->peer[from].acked_lsn || m->seq > c->peer[from].seq;
    return 1;
}

void trace_message(struct sim *s, unsigned to, unsigned from, const struct cell_msg *m)
{
    char text[160];
    if (!s->trace || !is_news(&s->node[to].c, from, m))
        return;
    describe(m, text, sizeof text);
    trace(s, "    %s <- %s  %s %s", name(to), name(from), cell_msg_name(m->type), text);
}

void trace_effect(struct sim *s, unsigned n, const struct cell_effect *e)
{
    const struct cell *c = &s->node[n].c;
    char text[160] = "";
    if (!s->trace || e->type == CELL_SEND) /* told when it arrives */
        return;
    switch (e->type) {
    case CELL_PERSIST:
        snprintf(text, sizeof text, "term %u to %s, holds %lu%s", e->vote.promised, name(e->vote.promised_to),
                 e->vote.held_lsn, mute_name(e->vote.mute));
        break;
    case CELL_APPEND:
    case CELL_ADMIT:
    case CELL_OPEN:
        snprintf(text, sizeof text, "%lu..%lu, term %u", e->first, e->last, e->term);
        break;
    case CELL_OUTCOME:
        snprintf(text, sizeof text, "%lu..%lu, term %u: %s", e->first, e->last, e->term,
                 e->err ? err_name(e->err) : "OK");
        break;
    case CELL_CUT:
    case CELL_COMMIT:
        snprintf(text, sizeof text, "%lu", e->lsn);
        break;
    case CELL_INSTALL:
        snprintf(text, sizeof text, "%lu of term %u", e->at.lsn, e->at.term);
        break;
    case CELL_FETCH:
        snprintf(text, sizeof text, "from %s, at %lu or later", name(e->to), e->at.lsn);
        break;
    case CELL_READS:
        snprintf(text, sizeof text, "up to ticket %lu, as of %lu", e->seq, e->lsn);
        break;
    case CELL_ROLE:
        snprintf(text, sizeof text, "%s",
                 cell_serving(c)             ? "serves"
                 : c->role == CELL_PRIMARY   ? "primary, waits for its barrier"
                 : c->role == CELL_CANDIDATE ? "stands"
                                             : "replica");
        break;
    default:
        break;
    }
    trace(s, "    %s: %s %s", name(n), cell_effect_name(e->type), text);
}
