/* script.c - scenarios: what happens in which order is written down, and so is what comes of it.
 *
 *     # A comment.
 *     > nodes 3                 three voters; `nodes 3 1`: and a replica that does not vote
 *     > batch 1                 records of a message, and under way to a node (4)
 *     > start                   all; `start a`: one
 *     > promote a | reclaim a | follow b a
 *     > write a 2 | read a | outcome b 4 1
 *     > crash a | drop a b      drop: their connections break
 *     > block a b | block a     both ways; from all others
 *     > heal
 *     > damage a 3 | set-aside a 3 | lose-vote a | lose-disk a | lose-log a
 *     > full a | trim a
 *     > deliver a b | sync a    only what is under way from a to b; only a's disk
 *     > run                     everything that is under way arrives, disks sync; no time passes
 *     > time 500                for everybody, in heartbeats, with all that comes of it
 *     > peace                   chaos.c's
 *
 * A scenario's file is its own expected output: comments and commands as they are, then what happened, indented.
 */
#include <stdlib.h>
#include <string.h>

#include "sim.h"

enum { MAX_ARGS = 3 };

struct args {
    unsigned count, node[MAX_ARGS]; /* node[i]: argument i as a node */
    unsigned long number[MAX_ARGS];
};

static void answer(struct sim *s, enum err e)
{
    if (e)
        trace(s, "    refused: %s", err_name(e));
}

static void deliver_all(struct sim *s)
{
    for (int more = 1; more;) {
        more = 0;
        for (unsigned i = 0; i < SIM_CONNS; i++)
            while (sim_deliver(s, &s->conn[i]))
                more = 1;
    }
}

static void sync_one(struct sim *s, unsigned n)
{
    struct sim_node *node = &s->node[n];
    if (!node->up || node->c.durable_lsn >= node->last)
        return;
    node->synced = node->last;
    sim_step(s, n, (struct cell_event){.type = CELL_SYNCED, .lsn = node->last});
}

static void do_run(struct sim *s, const struct args *a)
{
    (void)a;
    for (unsigned turn = 0; turn < 8; turn++) {
        deliver_all(s);
        for (unsigned n = 0; n < s->nodes; n++) {
            if (s->node[n].up && s->node[n].fetching)
                sim_fetch_done(s, n);
            sync_one(s, n);
        }
    }
}

static void do_nodes(struct sim *s, const struct args *a)
{
    FILE *out = s->trace;
    sim_reset(s, 1, (unsigned)a->number[0], a->count > 1 ? (unsigned)a->number[1] : 0);
    s->trace = out;
    s->batch = s->window = SIM_BATCH;
}

static void do_batch(struct sim *s, const struct args *a)
{
    s->batch = s->window = (unsigned)a->number[0] % (SIM_BATCH + 1);
}

static void do_start(struct sim *s, const struct args *a)
{
    for (unsigned n = 0; n < s->nodes; n++)
        if (!s->node[n].up && (!a->count || a->node[0] == n))
            sim_start(s, n);
}

static void do_promote(struct sim *s, const struct args *a)
{
    answer(s, sim_step(s, a->node[0], (struct cell_event){.type = CELL_PROMOTE}));
}

static void do_reclaim(struct sim *s, const struct args *a)
{
    answer(s, sim_step(s, a->node[0], (struct cell_event){.type = CELL_RECLAIM}));
}

static void do_follow(struct sim *s, const struct args *a)
{
    answer(s, sim_step(s, a->node[0], (struct cell_event){.type = CELL_FOLLOW, .peer = (uint8_t)a->node[1]}));
}

static void do_write(struct sim *s, const struct args *a)
{
    uint32_t count = a->count > 1 ? (uint32_t)a->number[1] : 1;
    answer(s, sim_step(s, a->node[0], (struct cell_event){.type = CELL_WRITE, .count = count}));
}

static void do_read(struct sim *s, const struct args *a)
{
    answer(s, sim_step(s, a->node[0], (struct cell_event){.type = CELL_READ}));
}

static void do_outcome(struct sim *s, const struct args *a)
{
    enum err e = cell_outcome(&s->node[a->node[0]].c, a->number[1], (uint32_t)a->number[2]);
    trace(s, "    %s", e ? err_name(e) : "OK");
    oracle_asked_outcome(s, a->node[0], a->number[1], (uint32_t)a->number[2]);
}

static void do_crash(struct sim *s, const struct args *a)
{
    sim_crash(s, a->node[0]);
}

static void do_drop(struct sim *s, const struct args *a)
{
    sim_break(s, a->node[0], a->node[1], 1);
}

static void do_block(struct sim *s, const struct args *a)
{
    for (unsigned n = 0; n < s->nodes; n++)
        if (a->count == 1 || n == a->node[1])
            s->blocked[a->node[0]][n] = s->blocked[n][a->node[0]] = 1;
}

static void do_heal(struct sim *s, const struct args *a)
{
    (void)a;
    memset(s->blocked, 0, sizeof s->blocked);
}

static void do_damage(struct sim *s, const struct args *a)
{
    sim_crash(s, a->node[0]);
    s->node[a->node[0]].damaged = a->number[1];
}

static void do_set_aside(struct sim *s, const struct args *a)
{
    do_damage(s, a);
    s->node[a->node[0]].aside = 1;
}

static void do_lose_vote(struct sim *s, const struct args *a)
{
    sim_crash(s, a->node[0]);
    s->node[a->node[0]].vote_lost = 1;
}

static void do_lose_disk(struct sim *s, const struct args *a)
{
    sim_crash(s, a->node[0]);
    sim_lose_disk(s, a->node[0]);
}

static void do_lose_log(struct sim *s, const struct args *a)
{
    sim_crash(s, a->node[0]);
    sim_lose_log(s, a->node[0], 0);
}

static void do_full(struct sim *s, const struct args *a)
{
    struct sim_node *node = &s->node[a->node[0]];
    node->room = !node->room;
    sim_step(s, a->node[0], (struct cell_event){.type = CELL_ROOM, .ok = (uint8_t)node->room});
}

static void do_trim(struct sim *s, const struct args *a)
{
    struct sim_node *node = &s->node[a->node[0]];
    node->base = node->applied;
    sim_step(s, a->node[0], (struct cell_event){.type = CELL_TRIMMED, .lsn = node->base});
}

static void do_deliver(struct sim *s, const struct args *a)
{
    for (unsigned i = 0; i < SIM_CONNS; i++)
        if (s->conn[i].from == a->node[0] && s->conn[i].to == a->node[1])
            while (sim_deliver(s, &s->conn[i]))
                ;
}

static void do_sync(struct sim *s, const struct args *a)
{
    sync_one(s, a->node[0]);
}

static void do_time(struct sim *s, const struct args *a)
{
    for (unsigned long left = a->number[0]; left > 0;) {
        unsigned long ms = left < cell_config_default.heartbeat_ms ? left : cell_config_default.heartbeat_ms;
        for (unsigned n = 0; n < s->nodes; n++) {
            s->node[n].now_ms += ms;
            if (s->node[n].up)
                sim_step(s, n, (struct cell_event){.type = CELL_TICK});
        }
        do_run(s, a);
        left -= ms;
    }
}

static void do_peace(struct sim *s, const struct args *a)
{
    (void)a;
    sim_peace(s);
}

static const struct {
    const char *name;
    unsigned min_args;
    void (*run)(struct sim *s, const struct args *a);
} commands[] = {
    {"nodes", 1, do_nodes},         {"start", 0, do_start},
    {"promote", 1, do_promote},     {"reclaim", 1, do_reclaim},
    {"follow", 2, do_follow},       {"write", 1, do_write},
    {"read", 1, do_read},           {"outcome", 3, do_outcome},
    {"crash", 1, do_crash},         {"drop", 2, do_drop},
    {"block", 1, do_block},         {"heal", 0, do_heal},
    {"damage", 2, do_damage},       {"lose-vote", 1, do_lose_vote},
    {"lose-disk", 1, do_lose_disk}, {"lose-log", 1, do_lose_log},
    {"full", 1, do_full},           {"trim", 1, do_trim},
    {"sync", 1, do_sync},           {"run", 0, do_run},
    {"time", 1, do_time},           {"peace", 0, do_peace},
    {"deliver", 2, do_deliver},     {"batch", 1, do_batch},
    {"set-aside", 2, do_set_aside},
};

static void parse_args(const struct sim *s, char *words[], struct args *a)
{
    for (; a->count < MAX_ARGS && words[a->count]; a->count++) {
        const char *word = words[a->count];
        a->number[a->count] = strtoul(word, NULL, 10);
        a->node[a->count] = word[0] >= 'a' && word[0] < 'a' + (int)s->nodes ? (unsigned)(word[0] - 'a') : 0;
    }
}

static void run_line(struct sim *s, char *line)
{
    char *words[MAX_ARGS + 2] = {0}, *rest = line;
    for (unsigned i = 0; i <= MAX_ARGS && *rest; i++) {
        words[i] = rest;
        rest += strcspn(rest, " \n");
        if (*rest)
            *rest++ = 0;
    }
    for (size_t i = 0; i < sizeof commands / sizeof *commands; i++) {
        struct args a = {0};
        if (!words[0] || strcmp(commands[i].name, words[0]) != 0)
            continue;
        parse_args(s, words + 1, &a);
        if (a.count < commands[i].min_args)
            sim_broken(s, "%s wants %u arguments", words[0], commands[i].min_args);
        commands[i].run(s, &a);
        return;
    }
    sim_broken(s, "no such command: %s", line);
}

int sim_script(struct sim *s, FILE *in, FILE *out)
{
    char line[200];
    sim_reset(s, 1, 3, 0);
    s->trace = out;
    s->why[0] = 0;
    if (sigsetjmp(s->broken, 1) == 0) {
        while (fgets(line, sizeof line, in)) {
            if (line[0] == '#' || line[0] == '>' || line[0] == '\n')
                fputs(line, out);
            if (strncmp(line, "> ", 2) == 0)
                run_line(s, line + 2);
        }
    }
    return s->why[0] == 0;
}
