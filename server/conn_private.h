/* conn_private.h - what an I/O thread and a connection are made of. For io.c, conn.c, dispatch.c, call.c, client.c and
 * monitor.c only; everybody else asks through io.h and conn.h. All of it belongs to the connection's I/O thread, but
 * for what says otherwise. */
#ifndef COFFER_SERVER_CONN_PRIVATE_H
#define COFFER_SERVER_CONN_PRIVATE_H

#include <event2/event.h>
#include <event2/event_struct.h>
#include <pthread.h>

#include "engine/engine.h"
#include "resp/request.h"
#include "server/acl.h"
#include "server/conn.h"
#include "server/io.h"
#include "server/server.h"
#include "server/sock.h"
#include "server/tls.h"

#define CONN_READ_BYTES 65536       /* of one read */
#define CONN_READ_AHEAD_BYTES 65536 /* a connection that waits reads no more than this and its present argument */
#define CONN_FLUSH_BYTES 65536      /* answers are written in between when there are more */
#define CONN_TURN_COMMANDS 256      /* then others get their turn */
#define CONN_RESERVE_MAX (4u << 20) /* room made for an announced argument before its bytes have come */
#define CONN_UNAUTH_READ_BYTES 4096 /* room for what is incomplete before AUTH: locked memory is scarce */

/* Bounds of what a client can make the server keep. One that does not read its answers is not served beyond
 * CONN_UNREAD_BYTES of them (before AUTH: beyond any) until it reads. One whose commands wait for disk or HSM has at
 * most so many of them, of so many bytes in all, under way; all clients' writes together IO_PENDING_BYTES, then
 * -THROTTLED: a connection that closes leaves its writes behind. */
#define CONN_UNREAD_BYTES (16u << 20)
#define CONN_ANSWER_BYTES (256u << 20) /* of one answer */
#define CONN_PENDINGS 1024
#define CONN_PENDING_BYTES (8u << 20)
#define IO_PENDING_BYTES (256u << 20)
/* A handshake's time while half of IO_HANDSHAKES are under way. Steps of handshakes that a thread takes in a turn: one
 * is some hundred microseconds of computing, and others wait. */
#define CONN_HANDSHAKE_CROWDED_MS 2000
#define CONN_HANDSHAKE_STEPS 4

#define CONN_PEER_BYTES SOCK_END_BYTES
#define CONN_NAME_BYTES 64

enum conn_state {
    CONN_READY,   /* takes commands */
    CONN_HELD,    /* waits for pendings, or for the client to read */
    CONN_PARKED,  /* the next command waits on a waitlist */
    CONN_YIELDED, /* had its share; goes on in the next turn */
    CONN_CLOSING, /* takes no more commands; goes when all is answered and written */
    CONN_DEAD,    /* on the list of those to be freed */
};

enum conn_unblock { UNBLOCK_NOT, UNBLOCK_TIMEOUT, UNBLOCK_ERROR };    /* CLIENT UNBLOCK: its WAIT is over */
enum reply_mode { REPLY_ON, REPLY_OFF, REPLY_SKIP, REPLY_SKIP_NEXT }; /* CLIENT REPLY */

struct park { /* a parked connection on a waitlist; freed by its I/O thread */
    struct io_task task;
    struct io *io;
    struct conn *conn; /* I/O thread only; NULL: gone */
    struct park *next; /* under the waitlist's lock */
};

struct conn_text { /* a name that a client gives itself */
    uint8_t n;
    char s[CONN_NAME_BYTES + 1];
};

struct conn {
    struct io *io;
    uint64_t id;
    int fd;
    enum conn_state state;
    uint8_t transport; /* enum io_transport */
    uint8_t proto;
    uint8_t authenticated;
    uint8_t reply_mode;
    uint8_t handshake; /* TLS is not up yet: nothing is read from it */
    uint8_t held;      /* parser.argv is the next command, dispatch it before parsing more */
    uint8_t eof;       /* the client will send nothing more */
    uint8_t reading;   /* read_ev is added */
    uint8_t writing;   /* write_ev is added */
    uint8_t on_todo;
    uint8_t monitor;
    uint8_t mode;      /* enum conn_mode */
    uint8_t close_due; /* conn_close_after_reply, when what is captured is done */
    uint8_t no_evict, no_touch;
    uint8_t linear;   /* CLIENT CONSISTENCY linearizable */
    uint8_t unblock;  /* enum conn_unblock */
    uint8_t obuf;     /* enum obuf_class */
    uint8_t tracking; /* enum conn_tracking */
    unsigned db;
    struct acl_user *user; /* a reference */
    uint64_t acl_epoch;    /* when it was looked up; 0: not since the login */

    struct tls_conn *tls; /* NULL: the socket as it is */
    struct event read_ev, write_ev;
    struct request_parser parser;
    struct buf in, out; /* what did not fit into this turn; secret */
    uint8_t *cur;       /* unparsed input: in the thread's read buffer while running, else NULL and it is in `in` */
    size_t cur_n;
    const uint8_t *held_base; /* where the input of the held command began when it was parsed */
    size_t held_used;
    struct reply reply;
    struct reply *capture; /* conn_capture */

    struct pending *first, *last;
    unsigned pendings;
    uint64_t answered; /* pendings so far */
    size_t pending_bytes;
    uint8_t lane; /* enum command_lane of the pendings */
    struct park *park;

    struct conn *prev, *next; /* all of the thread */
    struct conn *todo_next, *dead_next;

    uint64_t created_ms, active_ms, soft_since_ms; /* io_tick_ms() */
    uint64_t last_lsn, net_in, net_out, commands;
    uint64_t after_lsn, shown_lsn; /* what its reads must see, and saw, of another node: fallback.h */
    uint64_t round, round_in;      /* of repl_confirm: 0: none; what net_in was when it was asked for */
    const struct command *last_cmd;
    size_t last_bytes; /* of its request */
    size_t counted;    /* of conn_memory, in the thread's sum (evict.h) */
    struct conn_text name, lib_name, lib_ver;
    char peer[CONN_PEER_BYTES], local[CONN_PEER_BYTES];
    struct {
        void *state;
        void (*drop)(struct conn *c, void *state);
    } slot[CONN_SLOTS];
};

struct io {
    struct server *srv;
    unsigned index;
    struct event_base *base;
    pthread_t thread;
    int started;

    /* Posted from any thread. */
    struct mpsc tasks, done;
    _Atomic int asleep; /* 1: whoever posts must write to wake_fd */
    int wake_fd;
    struct event wake_ev, tick_ev;

    struct write_chain writes; /* of this turn, not submitted yet */

    /* This turn's clocks. */
    int clock_fresh;
    uint64_t now_ms, now_us;
    uint64_t mark_us;         /* end of the last command: the start of the next */
    unsigned handshake_steps; /* taken */

    /* Settings as of config_epoch. */
    uint64_t config_epoch;
    struct request_limits limits, limits_unauth;
    uint64_t query_limit, idle_ms, handshake_ms;
    int64_t slower_than_us;
    uint64_t event_ms; /* latency-monitor-threshold, 0: none */
    int tracking;      /* latency-tracking */
    struct obuf_limit obuf[OBUF_CLASSES];
    uint64_t clients_limit; /* 0: none */

    uint8_t *in;                 /* CONN_READ_BYTES, secret */
    struct buf out;              /* of the connection that is running, secret */
    struct buf side;             /* an answer that must wait behind pendings, secret */
    struct buf scratch;          /* plain, for keys and log lines */
    struct request_parser ahead; /* ahead.c's */

    struct conn *conns;                     /* newest first */
    unsigned conn_count, monitors, blocked; /* blocked: commands that are parked, or block by what they are */
    _Atomic unsigned conn_count_shown, monitors_shown, blocked_shown; /* for others */
    struct conn *running;
    struct conn *todo, **todo_end;
    struct conn *dead;
    int stopping, idle_told;
    uint64_t deadline_us;
    struct io_task stop_task, users_task, evict_task;
    _Atomic int users_posted, evict_posted;
    _Atomic uint64_t clients_bytes, largest_bytes; /* evict.h */

    struct opener *opener;
    void (*opener_free)(struct opener *o), (*opener_drop)(struct opener *o); /* opener_drop_stale */
    struct io_stats stats;
};

/* Milliseconds of this turn's monotonic clock: the wall clock may be set back. */
static inline uint64_t io_tick_ms(const struct io *io)
{
    return io->now_us / 1000;
}

static inline void io_count_blocked(struct io *io, unsigned by)
{
    io->blocked += by;
    atomic_store_explicit(&io->blocked_shown, io->blocked, memory_order_relaxed);
}

/* io.c */
void io_submit_writes(struct io *io);                 /* those that io_submit gathered */
void io_clock(struct io *io);                         /* reads the clocks if this turn has not yet */
void io_todo(struct conn *c);                         /* conn_run in the next pass */
must_use enum err io_refresh_settings(struct io *io); /* ERR_OOM: not all; config_epoch stays */

/* conn.c, conn_life.c */
must_use enum err conn_new(struct io *io, int fd, enum io_transport transport, struct conn **out);
void conn_on_read(evutil_socket_t fd, short what, void *arg);
void conn_on_write(evutil_socket_t fd, short what, void *arg);
void conn_kill(struct conn *c);            /* any state to CONN_DEAD */
void conn_free(struct conn *c);            /* of a dead one, at the end of the turn */
int conn_handshake(struct conn *c);        /* goes on with it; 1: it is over, input may be there */
void conn_check_handshake(struct conn *c); /* its time: once a second */
void conn_wait_writable(struct conn *c);
void conn_run(struct conn *c); /* finishes, resumes, parses, dispatches, writes: all that can be done now */
void conn_input(struct conn *c, uint8_t **p, size_t *n);                   /* unparsed input */
void conn_set_user(struct conn *c, struct acl_user *u, int authenticated); /* takes the reference over */
/* Users change under the feet of connections: looks the user up again if any has changed. The connection ends when it
 * is gone, when channels that it may listen to were taken from it, or when it was taken for a default user that needs
 * no password, before users were known, and that is not so. */
void conn_refresh_user(struct conn *c);
void conn_check_limits(struct conn *c); /* idle, output: once a second */
void conn_reset(struct conn *c);        /* RESET: as just accepted, the user included */
/* The server begins anew under its connections (server.h). No more input is read; 1: nothing is under way. */
int conn_stand_still(struct conn *c);
int conn_may_stay(const struct conn *c); /* 1: it has nothing of what goes */
void conn_go_on(struct conn *c);         /* where it was; what it knew of the state that is gone is forgotten */
void conn_set_state(struct conn *c, enum conn_state to);
void conn_set_monitor(struct conn *c, int on);
size_t conn_memory(const struct conn *c); /* bytes that it holds */
size_t conn_describe(struct conn *c, char *out,
                     size_t room); /* a line of CLIENT LIST, no line end; returns its length */

/* dispatch.c: the parsed command in parser.argv. */
enum dispatched { DISPATCH_DONE, DISPATCH_HOLD, DISPATCH_PARK, DISPATCH_AGAIN /* at once, in the next turn */ };
enum dispatched dispatch(struct conn *c);

/* A reply that could not be written is replaced by the error that says so. */
void dispatch_mend_reply(struct conn *c, size_t mark);

/* The text of a refusal by acl_check. */
void dispatch_refuse(struct call *c, enum err err, const struct acl_denial *why);
/* ERR_OK: this node, as it is now, may carry the command out: repl_may_write, repl_may_read. */
enum err dispatch_here(const struct io *io, const struct command *cmd);
/* CLIENT CONSISTENCY linearizable: 1: the read may go on. 0: *result is what became of it: parked, or refused. */
int dispatch_confirmed(struct call *c, enum call_result *result);
/* 1: CLIENT PAUSE holds up what writes, or all. */
int dispatch_paused(const struct call *c, int writes);

/* The books of one command that was carried out: calls, time, histogram, events. */
void dispatch_count(struct io *io, const struct command *cmd, uint64_t usec);

/* call.c */
uint64_t call_wakes(void);                 /* how many waitlist_wake there have been */
void call_finish_pendings(struct conn *c); /* those at the front that are complete */
void call_drop_pendings(struct conn *c);   /* the client is gone */
void call_completed(struct io *io);        /* drains io->done */
/* An answer that must come after what is pending: b's bytes move into a pending of its own. ERR_OOM. */
must_use enum err call_queue_answer(struct conn *c, const struct command *cmd, struct buf *b);

#endif
