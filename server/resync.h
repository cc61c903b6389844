/* resync.h - the other side of lend.h: a peer's snapshot is copied into DIR/fetch, and verified, beside all else.
 *
 *     resync_want -> coffer-fetch: connect, REPL.SNAPSHOT, REPL.PIECE ..., verify -> done()
 *
 * It is copied over a connection of its own, which begins as a link's does: the stream of the cell goes on beside it,
 * and a peer that is slow in sending it is slow in nothing else.
 *
 * **Resumed.** What has come lies in DIR/fetch under the snapshot's name (install_path). The next try, also after
 * kill -9, tells the peer what it has, and goes on behind it when the peer, or another one, still has that snapshot:
 * the same state is the same file, whoever made it (snapfile.h).
 *
 * **Believed** is a file with a footer that the realm's HSMs signed, of the cell, the LSN and the term that were asked
 * for, all of whose blocks verify. One that is not whole is deleted; it is copied once more if the first half was from
 * an earlier try, and else the next older one is asked for.
 *
 * What then becomes of it is the owner's affair (install.h).
 *
 * Threads: any; nothing blocks but free, which may wait for a name to be resolved.
 */
#ifndef COFFER_SERVER_RESYNC_H
#define COFFER_SERVER_RESYNC_H

#include "engine/install.h"
#include "server/dial.h"

struct resync;

struct resync_want {
    char host[VOTERS_HOST_BYTES];
    int port;
    uint8_t cell_id[16];
    uint64_t from_lsn; /* at or behind it */
    uint64_t ticket;   /* handed back */
};

struct resync_result {
    struct resync_want want;
    int ok;
    struct snapfile_header header; /* of the one that is there now, durable */
    unsigned shards;               /* that it takes */
    char why[HELLO_WHY_BYTES];     /* not ok */
};

struct resync_config {
    const char *dir;
    struct snap_signer signer;
    uint64_t (*keep_free)(void *arg); /* bytes of the disk that are not for this */
    void (*self)(void *arg, struct dial_self *s);
    void (*done)(void *arg, const struct resync_result *r); /* on the thread coffer-fetch */
    void *arg;
};

must_use enum err resync_new(struct resync **out, const struct resync_config *cfg); /* ERR_OOM */
void resync_free(struct resync *r); /* ends the thread; done() is not called any more afterwards. Accepts NULL */

/* From now on this is wanted; when it is wanted already, from the same peer, only the ticket is another one. ERR_OOM.
 */
must_use enum err resync_want(struct resync *r, const struct resync_want *w);
void resync_forget(struct resync *r); /* nothing is wanted: done() may still come, once, with an old ticket */

#define RESYNC_WAITS_BYTES 256
struct resync_info {
    int running;
    char waits_for[RESYNC_WAITS_BYTES]; /* what the peer says that has no snapshot to give yet; empty: it does not wait
                                         */
    uint64_t lsn, here_bytes, total_bytes; /* of the snapshot; total 0: not known yet */
    uint64_t last_io_ms;                   /* monotonic: when something came last; 0: nothing yet */
};
void resync_info(struct resync *r, struct resync_info *out);

#endif
