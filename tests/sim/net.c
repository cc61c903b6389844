/* net.c - connections: in order each, and no order between them. */
#include <string.h>

#include "sim.h"

static struct sim_conn *current_conn(struct sim *s, unsigned from, unsigned to)
{
    for (unsigned i = 0; i < SIM_CONNS; i++) {
        struct sim_conn *k = &s->conn[i];
        if (k->used && k->current && k->from == from && k->to == to)
            return k;
    }
    return NULL;
}

/* A free one; else the oldest broken one loses what it still had. */
static struct sim_conn *new_conn(struct sim *s, unsigned from, unsigned to, int current)
{
    struct sim_conn *k = NULL;
    for (unsigned i = 0; i < SIM_CONNS && !k; i++)
        if (!s->conn[i].used)
            k = &s->conn[i];
    for (unsigned i = 0; i < SIM_CONNS && !k; i++)
        if (!s->conn[i].current)
            k = &s->conn[i];
    k->used = 1;
    k->from = (uint8_t)from;
    k->to = (uint8_t)to;
    k->current = (uint8_t)current;
    k->head = k->count = 0;
    return k;
}

static void push(struct sim_conn *k, const struct sim_msg *m)
{
    k->queue[(k->head + k->count++) % SIM_QUEUE] = *m;
}

static void break_conn(struct sim *s, struct sim_conn *k)
{
    k->current = 0;
    k->count = sim_chance(s, s->late_chance) ? (unsigned)sim_below(s, k->count + 1) : 0;
    k->used = k->count > 0;
}

void sim_send(struct sim *s, unsigned from, unsigned to, const struct cell_msg *m)
{
    struct sim_node *node = &s->node[from];
    struct sim_msg sent = {.m = *m};

    if (m->type == CELL_RECORDS && m->first <= m->last) {
        for (uint64_t lsn = m->first; lsn <= m->last; lsn++)
            sent.records[lsn - m->first] = node->log[lsn];
        sent.m.end = (struct cell_point){.lsn = m->last, .term = node->log[m->last].term};
        memcpy(sent.m.end.chain, &node->log[m->last].chain, sizeof node->log[m->last].chain);
    }
    struct sim_conn *k = current_conn(s, from, to);
    if (k && k->count == SIM_QUEUE) {
        break_conn(s, k);
        k = NULL;
    }
    if (!k)
        k = new_conn(s, from, to, 1);
    push(k, &sent);
}

int sim_deliver(struct sim *s, struct sim_conn *k)
{
    static struct sim_msg got;
    unsigned from = k->from, to = k->to;

    if (!k->used || k->count == 0 || s->blocked[from][to])
        return 0;
    got = k->queue[k->head];
    k->head = (k->head + 1) % SIM_QUEUE;
    k->count--;
    if (k->count == 0 && !k->current)
        k->used = 0;
    if (!s->node[to].up)
        return 1;
    if (sim_chance(s, s->twice_chance))
        push(new_conn(s, from, to, 0), &got);
    got.m.records = got.records;
    trace_message(s, to, from, &got.m);
    sim_step(s, to, (struct cell_event){.type = CELL_RECEIVED, .peer = (uint8_t)from, .msg = &got.m});
    return 1;
}

int sim_deliver_any(struct sim *s)
{
    unsigned start = (unsigned)sim_below(s, SIM_CONNS);
    for (unsigned i = 0; i < SIM_CONNS; i++)
        if (sim_deliver(s, &s->conn[(start + i) % SIM_CONNS]))
            return 1;
    return 0;
}

void sim_break(struct sim *s, unsigned a, unsigned b, int both_hear)
{
    struct sim_conn *there = current_conn(s, a, b), *back = current_conn(s, b, a);
    if (there)
        break_conn(s, there);
    if (back)
        break_conn(s, back);
    if (both_hear && s->node[a].up)
        sim_step(s, a, (struct cell_event){.type = CELL_LINK_DOWN, .peer = (uint8_t)b});
    if (both_hear && s->node[b].up)
        sim_step(s, b, (struct cell_event){.type = CELL_LINK_DOWN, .peer = (uint8_t)a});
    for (unsigned i = 0; both_hear && i < 2; i++) /* what is sent from now on goes over a new one */
        if (s->node[i ? b : a].up)
            sim_step(s, i ? b : a, (struct cell_event){.type = CELL_LINK_UP, .peer = (uint8_t)(i ? a : b)});
}

void sim_drop_all(struct sim *s, unsigned n)
{
    for (unsigned i = 0; i < SIM_CONNS; i++)
        if (s->conn[i].used && (s->conn[i].from == n || s->conn[i].to == n))
            break_conn(s, &s->conn[i]);
}
