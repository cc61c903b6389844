/* multi_impl.h - what a transaction is made of; for multi.c, which queues, and exec.c, which carries out. */
#ifndef COFFER_SERVER_MULTI_IMPL_H
#define COFFER_SERVER_MULTI_IMPL_H

#include "server/change.h"
#include "server/command.h"
#include "server/conn_private.h"
#include "server/facade.h"
#include "server/handlers.h"
#include "server/multi.h"

enum exec_state { QUEUEING, COMMITTING, ANSWERING };

struct queued {
    struct queued *next;
    const struct command *cmd;
    struct bytes *argv;
    unsigned argc;
    size_t size;                     /* of this allocation, in locked memory */
    struct change *change;           /* its part of the write */
    unsigned first, steps;           /* its steps in the write */
    unsigned db;                     /* that was selected at its place */
    struct call_databases databases; /* as they were there */
    uint8_t planned;                 /* `answer` is its answer */
    struct buf answer;
};

struct watch {
    struct watch *next;
    unsigned db;
    uint64_t vault, mark;
    uint64_t since; /* the LSN at that time */
    size_t n;
    uint8_t key[];
};

struct swap {
    unsigned a, b;
};

struct exec {
    struct server *srv;
    struct conn *conn; /* NULL: the client is gone, the write is under way */
    enum exec_state state;
    uint8_t open; /* MULTI was given: commands queue */
    uint8_t refused, in_flight, dirty;
    uint8_t changes; /* there is a command that may change secrets: it is a write */
    uint8_t by_log;  /* as planned last: it goes the way of a write, as one, or after `looks` in vain */
    uint8_t looks;
    struct queued *first, **end;
    unsigned count, at;
    size_t bytes, watch_bytes;
    struct watch *watches;

    /* From EXEC on. */
    struct queued *cur; /* being planned or answered */
    struct swap *swaps;
    unsigned swap_count, db;
    struct pending p;
    struct write w;
    unsigned watch_steps;
    struct buf steps; /* struct step, before the write is submitted and after it is done; w.step points here */
    struct buf out;
    struct reply reply;
};

/* ---- multi.c ---- */
struct exec *exec_of(const struct conn *c); /* NULL: none */
void exec_end(struct conn *c);              /* the connection is an ordinary one again */
void exec_free(struct exec *x);             /* when nobody refers to it any more */

/* ---- exec.c ---- */
void exec_plan_drop(struct exec *x); /* what was planned is not: steps and changes go */

#endif
