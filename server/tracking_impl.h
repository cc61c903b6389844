/* tracking_impl.h - the two sides of CLIENT TRACKING: the table that all threads share (tracking.c), and a connection's
 * settings and messages (tracker.c). cmd_tracking.c sets them. */
#ifndef COFFER_SERVER_TRACKING_IMPL_H
#define COFFER_SERVER_TRACKING_IMPL_H

#include <pthread.h>

#include "base/buf.h"
#include "server/conn_private.h"
#include "server/tracking.h"

#define HASH_NONFATAL_OOM 1
#include <uthash.h>

#define TRACKING_THREADS 64
#define TRACKING_STRIPES 64

enum tracker_flag { TRACKER_BCAST = 1, TRACKER_OPTIN = 2, TRACKER_OPTOUT = 4, TRACKER_NOLOOP = 8 };

/* How a client has a name: a key of its database, or {vault}/path. Bits: it may have read it in both ways. */
enum name_form { FORM_KEY = 1, FORM_FULL = 2 };

struct prefix {
    struct prefix *next;
    size_t n;
    uint8_t text[];
};

struct message;

/* A connection's SLOT_TRACKING: it tracks, or others redirect to it, or it did. Its thread's. */
struct tracker {
    UT_hash_handle hh; /* of the thread, by id */
    struct tracking *t;
    struct conn *conn;
    uint64_t id;
    uint8_t on, flags; /* enum tracker_flag */
    uint8_t caching;   /* CLIENT CACHING was given for the next command */
    uint8_t broken;    /* whom it redirects to is gone */
    uint64_t redirect; /* 0: itself */
    unsigned redirect_thread;
    struct prefix *prefixes;
    size_t prefix_bytes;
    struct message *held, **held_end;
    size_t pushed_bytes; /* since all that was written to it was sent */
};

/* Preallocated, for when there is no memory to say what changed: everything may have. */
struct everything {
    struct io_task task;
    _Atomic int posted;
    struct tracking *t;
};

struct stripe {
    pthread_mutex_t lock;
    struct noted *names; /* oldest first */
    uint64_t items;      /* notes of them all */
};

struct tracking {
    struct server *srv;
    pthread_mutex_t lock; /* held while the number of clients changes, and what follows from it */
    struct stripe stripe[TRACKING_STRIPES];
    _Atomic uint64_t keys, items, prefixes, max_keys;
    _Atomic unsigned clients, evict_at;
    _Atomic unsigned bcast[TRACKING_THREADS]; /* clients that broadcast */
    _Atomic unsigned on[TRACKING_THREADS];    /* clients that track */
    struct tracker *trackers[TRACKING_THREADS];
    struct everything everything[TRACKING_THREADS];
};

/* What happened to a name, on its way to a thread: the header of an item, name_n bytes follow. */
enum item_kind { ITEM_FOR_ONE, ITEM_FOR_BCAST, ITEM_EVERYTHING };
struct item {
    uint64_t to; /* FOR_ONE: the connection */
    uint64_t by; /* who changed it; 0: nobody that is connected here */
    uint16_t name_n;
    uint8_t kind, forms;
};
struct news {
    struct io_task task;
    struct tracking *t;
    struct buf items;
};

/* ---- tracking.c ---- */

/* All names, at once: what they took is given back bit by bit. Any thread. */
void tracking_forget(struct tracking *t);

/* ---- tracker.c ---- */

struct tracker *tracker_of(const struct conn *c); /* NULL: none */
/* The same, made when there is none. NULL: no memory. */
struct tracker *tracker_make(struct tracking *t, struct conn *c);

struct tracker_settings {
    unsigned flags;
    uint64_t redirect;
    unsigned redirect_thread;
    struct prefix *prefixes; /* to be added; taken over */
};
void tracker_on(struct tracker *tr, struct tracker_settings *s);
void tracker_off(struct tracker *tr);
void prefixes_free(struct prefix *p);
/* 1: what the connection reads now is to be noted. */
int tracker_wants(const struct tracker *tr);

void tracker_news(struct io_task *task, struct io *io);       /* runs struct news */
void tracker_everything(struct io_task *task, struct io *io); /* runs struct everything */
/* Behind the answer that is being written: these names, as struct item. OOM: everything. */
void tracker_tell_again(struct tracker *tr, struct buf *items);

#endif
