/* server.h - what the whole process shares. Filled by main_server.c before the I/O threads start; fields are immutable
 * after that unless they say otherwise. */
#ifndef COFFER_SERVER_SERVER_H
#define COFFER_SERVER_SERVER_H

#include <stdatomic.h>
#include <stdint.h>

#include "engine/engine.h"
#include "hsm/hsm.h"
#include "hsm/seal.h"
#include "server/bucket.h"
#include "server/config.h"

struct acl;       /* acl.h */
struct acl_log;   /* acl_log.h */
struct chores;    /* chores.h */
struct cursors;   /* cursors.h */
struct deks;      /* dek.h */
struct fallback;  /* fallback.h */
struct feed;      /* feed.h */
struct io;        /* io.h */
struct keyops;    /* keyop.h */
struct keyturns;  /* keyturn.h */
struct pubsub;    /* pubsub.h */
struct latency;   /* latency.h */
struct lend;      /* lend.h */
struct listeners; /* listen.h */
struct repl;      /* repl.h */
struct restore;   /* restore.h */
struct slowlog;   /* slowlog.h */
struct tls;       /* tls.h */
struct tracking;  /* tracking.h */
struct upload;    /* upload.h */
struct waitlist;  /* call.h */

enum pause_mode { PAUSE_NONE, PAUSE_WRITE, PAUSE_ALL };

struct server {
    struct config *config;

    /* There once loading is 0; NULL before. */
    struct engine *engine;
    struct hsm *hsm; /* NULL in a test server without one */
    struct keyring *keyring;
    struct deks *deks;
    struct keyops *keyops;       /* KEY.*: counts of encryptions */
    struct keyturns *keyturns;   /* who makes a version of which key */
    struct chores *chores;       /* threads for what blocks on disk */
    struct cursors *cursors;     /* of SCAN */
    struct bucket_config bucket; /* the object store; set with the HSM */
    struct upload *upload;       /* NULL: there is no object store */
    struct lend *lend;           /* snapshots that others copy */
    struct fallback *fallback;   /* reads that the primary answers; NULL in a test server */
    struct restore *restore;     /* a start without a log; from the first moment on, NULL in a test server */
    struct engine_report report;
    struct engine_progress progress;      /* of opening the engine; for INFO while loading */
    struct vault_settings vault_defaults; /* of new vaults, from the configuration */

    struct pubsub *pubsub;
    struct tracking *tracking;       /* NULL in a test server */
    struct feed *feed;               /* the same */
    _Atomic unsigned records_wanted; /* who wants to be told of committed records: engine_config */
    struct waitlist *applied;        /* listings waiting for the applier */
    struct waitlist *paused;         /* CLIENT PAUSE */
    struct acl *acl;
    struct acl_log *acl_log;     /* NULL in a test server */
    struct waitlist *users_turn; /* changes of users, waiting for the one under way (cmd_acl.c) */
    _Atomic int users_changing;  /* 1: there is one */
    struct slowlog *slowlog;
    struct latency *latency;
    struct listeners *listeners; /* NULL in a test server */
    struct tls *tls;             /* the same */
    char run_id[41];             /* 40 hex */
    uint64_t started_ms;

    struct repl *repl; /* the node's part in a cell; NULL in a test server */
    struct {           /* what repl.h says of it, for each command; written by the thread coffer-cell */
        _Atomic int write_err, read_err; /* enum err that commands are refused with */
        _Atomic int replica;             /* 1: INFO says role:slave */
        _Atomic int few;                 /* 1: fewer replicas than min-replicas-to-write; under its lock */
        _Atomic int handing_over;        /* 1: FAILOVER holds writes back, on `paused` */
        _Atomic uint64_t seen_us;        /* when that was so; 0: for ever */
    } cell;

    _Atomic int loading;  /* 1: -LOADING for what needs data */
    _Atomic int sealed;   /* 1: HSM.SEAL; -SEALED for all but admin */
    _Atomic int leaving;  /* enum leave_state: a shutdown waits for replicas */
    _Atomic int stopping; /* 1: a shutdown has begun */
    _Atomic int anew;     /* with it 1: not of connections, only of what they ask for (main_server.c) */

    struct io **io;
    unsigned io_count;
    struct io *main;                   /* the main thread's loop: listeners, signals, timers; NULL in a test server */
    void (*turn_end)(struct io *io);   /* on each I/O thread at the end of each turn; may be NULL */
    struct leave *leave;               /* SHUTDOWN; NULL in a test server */
    void (*again)(struct server *srv); /* to begin anew: another state took this one's place (install.h) */

    _Atomic unsigned io_busy; /* I/O threads that still have connections, while stopping */
    _Atomic uint64_t next_client_id;
    _Atomic unsigned clients;        /* connected */
    _Atomic unsigned handshakes;     /* of these, TLS is not up yet */
    _Atomic unsigned monitors;       /* in MONITOR */
    _Atomic uint64_t pending_bytes;  /* about: of all pendings (call.h), those of clients that are gone too */
    _Atomic uint64_t pause_until_us; /* monotonic */
    _Atomic int pause_mode;          /* enum pause_mode */
    _Atomic uint64_t expired;        /* secrets whose time was over */
    _Atomic uint64_t rejected_connections;
    _Atomic uint64_t sync_full, sync_partial; /* copies that others began; replicas that went on from their log */
    _Atomic unsigned ops_per_sec, in_bytes_per_sec, out_bytes_per_sec; /* sampled by the main thread */
    _Atomic unsigned peak_clients;
};

#endif
