/* feed.h - the newest changes in memory, for those who follow the log (WBL.FOLLOW), and the place where they wait.
 *
 *     log writer                                   I/O thread
 *     feed_records: what a group changed,   --->   feed_recent: answered without the log being read
 *     into the window, once for all; wakes  --->   whoever waits
 *
 * The window has the last FEED_BYTES of rows, if anybody follows; what is older is read from the log, by whoever wants
 * it. So followers cost the log writer one look at each record, however many they are, and a slow one costs nothing.
 *
 * Threads: any; a lock inside, held for a look-up. feed_records: one at a time.
 */
#ifndef COFFER_SERVER_FEED_H
#define COFFER_SERVER_FEED_H

#include "base/buf.h"
#include "server/changed.h"
#include "server/io.h"

#define FEED_BYTES (1u << 20)

struct feed;

must_use enum err feed_new(struct feed **out, struct server *srv); /* ERR_OOM */
void feed_free(struct feed *f);                                    /* when nobody waits any more; accepts NULL */

/* A change as it is shown; key_n bytes of its canonical name follow. */
struct feed_row {
    uint64_t lsn, time_ms;
    uint32_t term, version;
    uint16_t key_n;
    uint8_t kind;    /* enum changed_kind */
    uint8_t vault_n; /* of the vault's name, which the key has behind its '{' */
    uint8_t facade;  /* the vault is a database */
};

/* Appends a row for each change of the record. ERR_OOM; ERR_TOOBIG by rows' limit. */
must_use enum err feed_put(struct buf *rows, struct vaults *vs, const struct record *r);
/* Takes the next row off the front. 0: there is none. */
int feed_take(struct bytes *rows, struct feed_row *row, struct bytes *key);

/* One more follows, or one less. From the first on the window is filled. */
void feed_follow(struct feed *f, int on);

/* As engine_config.on_records. */
void feed_records(struct feed *f, struct bytes records);

/* Appends rows of the records from `from` on, of whole groups, until there are some of more than `limit` bytes; *next
 * is the LSN behind them. ERR_NOTFOUND: they are not in memory. ERR_OOM. */
must_use enum err feed_recent(struct feed *f, uint64_t from, size_t limit, struct buf *rows, uint64_t *next);

/* ---- waiting ---- */

struct feed_waiter {
    struct feed_waiter *prev, *next;
    struct io *io;
    struct io_task task; /* posted when something was committed; the waiter waits no more */
    int waiting;
};
/* Until a record from lsn on is committed. 0: one is, it does not wait. */
int feed_wait(struct feed *f, struct feed_waiter *w, uint64_t lsn);
/* 1: it waited, and its task will not be posted. 0: it was, or is being posted. */
int feed_leave(struct feed *f, struct feed_waiter *w);

#endif
