/* io.h - I/O threads: each a libevent base, its connections, its clock, its queues.
 *
 *     main thread                      I/O thread, one loop turn
 *     accepts, hands fds out   ---->   wait in epoll (never with work in a queue)
 *     by turns (io_adopt)              read both clocks
 *                                      sockets that became readable or writable
 *     any thread                       tasks, completed pendings, woken connections
 *     io_post, pending_complete -->    connections that used up their share last turn
 *                                      engine_submit_chain and hsm_flush, once
 *                                      dead connections are freed
 *
 * Waking costs one eventfd write per sleep, however many things are posted: whoever posts looks at a flag that says
 * whether the thread may be asleep.
 *
 * An I/O thread never blocks but in epoll.
 */
#ifndef COFFER_SERVER_IO_H
#define COFFER_SERVER_IO_H

#include <stdint.h>

#include "base/err.h"
#include "base/mpsc.h"
#include "server/stats.h"

struct server;
struct io;
struct opener;
struct event_base;
struct write;

/* ---- what handlers may ask, on the I/O thread itself ---- */

struct opener *io_opener(struct io *io); /* opens sealed values; NULL until the keyring is there (loading) */
uint64_t io_now_ms(const struct io *io); /* wall clock of this turn */
uint64_t io_now_us(const struct io *io); /* monotonic clock of this turn */
unsigned io_index(const struct io *io);
struct server *io_server(const struct io *io);
struct event_base *io_base(struct io *io); /* for timers of this thread */
struct io_stats *io_stats(struct io *io);
/* engine_submit, with the other writes of this turn: at its end, or when there are a few dozen. */
void io_submit(struct io *io, struct write *w);

/* ---- work for an I/O thread, from any thread ---- */

struct io_task {
    struct mpsc_node node;
    void (*run)(struct io_task *t, struct io *io); /* on the I/O thread; owns t from then on */
};
void io_post(struct io *io, struct io_task *t);

/* Users have changed: connections look theirs up again soon, also those that send nothing. Any thread, never blocks. */
void io_users_changed(struct io *io);

/* A walk through all I/O threads, one after the other, so that its state needs no lock: visit() on each, then done() on
 * the thread where it began. For CLIENT LIST, CLIENT KILL and whatever else concerns every connection. */
struct io_tour {
    struct io_task task; /* private */
    struct server *srv;  /* private */
    unsigned next, home; /* private */
    void (*visit)(struct io_tour *t, struct io *io);
    void (*done)(struct io_tour *t, struct io *io);
};
/* On an I/O thread. t lives until done(). Never blocks; done() is never called before this returns. */
void io_tour(struct io *home, struct io_tour *t);

/* ---- life: main() and tests ---- */

/* Makes the thread's state; srv->io[index] is set by the caller. srv->config and srv->acl are there. ERR_OOM. */
must_use enum err io_new(struct io **out, struct server *srv, unsigned index);
must_use enum err io_start(struct io *io); /* the thread. ERR_OOM */
void io_run(struct io *io);                /* the loop on the calling thread: srv->main */
/* From now on no new command starts; when on no I/O thread anything is pending or unwritten, or at deadline_us of the
 * monotonic clock, the threads end. With srv->anew connections stay, and what is unwritten with them. Called once for
 * each, until it is started again. Any thread. */
void io_stop(struct io *io, uint64_t deadline_us);
void io_join(struct io *io);
/* What was posted to threads that have ended, all of srv->io and srv->main, is run, and connections end; with anew only
 * those that have something under way. They may be started again then: the others go on where they were. Only when
 * nobody can complete a pending or post a task any more: engine, HSM and waitlists are closed first. */
void io_settle(struct server *srv, int anew);
/* io_settle, and frees all of srv->io; they may never have been started, entries may be NULL. */
void io_free_all(struct server *srv);
void io_free(struct io *io); /* one without connections: srv->main */

/* Gives a connected, non-blocking socket to the thread, which owns it from now on and takes it off srv->clients when it
 * closes; one of IO_TLS off srv->handshakes when its handshake is over. Any thread. ERR_OOM: the caller closes it. */
#define IO_HANDSHAKES 512 /* under way: no more are accepted meanwhile */
enum io_transport { IO_TCP, IO_TLS, IO_UNIX };
must_use enum err io_adopt(struct io *io, int fd, enum io_transport transport);

#endif
