/* hello.h - what two nodes say of themselves before they talk: the handshake of a link, and who may talk to whom.
 *
 * A link begins as a Redis replica's connection does, on the port for clients (docs/replication-setup.md has it whole):
 *
 *     PING                                       +PONG
 *     AUTH [masteruser] masterauth               +OK
 *     REPLCONF listening-port P [ip-address A]   +OK
 *     REPLCONF wbl-version 1                     +OK      a Redis says -ERR Unrecognized REPLCONF option
 *     PSYNC <hello>                              +CONTINUE <hello>: frames from here on (engine/cellwire.h)
 *                                                -NEWBORN <hello>: not yet, but now you know: we are not ready, or of
 *                                                another cell, whose data you may want in the place of yours
 *                                                -ERR, -LOADING, -NOMASTERLINK text
 *
 * A hello is nine words:
 *
 *     replid  lsn  term  run-id  cell-id  realm  voters  index  state
 *
 * replid and lsn are where a Redis has them, and tell tools something; the core finds out by itself where logs part.
 * "-" stands for a cell id that is not known yet, for no voters, and for a node that is none of them. State is made of
 * letters: b, blank: it has no log and promised nothing; m, mute: its log is damaged, or was, and it is not counted
 * (engine/cell.h); r, ready: it can take frames; "-": none of these.
 *
 * Pure functions; any thread.
 */
#ifndef COFFER_SERVER_HELLO_H
#define COFFER_SERVER_HELLO_H

#include "server/voters.h"

#define HELLO_WORDS 9
#define HELLO_ID_CHARS 40 /* of run id and replid, hex */
#define HELLO_TEXT_BYTES (VOTERS_TEXT_BYTES + 256)
#define HELLO_WHY_BYTES (2 * VOTERS_TEXT_BYTES + 256)

struct hello_node {
    char replid[HELLO_ID_CHARS + 1], run_id[HELLO_ID_CHARS + 1];
    uint64_t lsn;
    uint32_t term;
    int has_cell;
    uint8_t cell_id[16], realm[16];
    char voters[VOTERS_TEXT_BYTES]; /* "-": none */
    int index;                      /* -1: no voter */
    int blank, mute, ready;
};

/* The nine words with blanks between. */
void hello_put(const struct hello_node *h, char out[HELLO_TEXT_BYTES]);
/* ERR_SYNTAX: these are no nine such words; *h is zeroed then. */
must_use enum err hello_get(const struct bytes words[HELLO_WORDS], struct hello_node *h);
/* The same from a text with blanks between. */
must_use enum err hello_get_text(struct bytes text, struct hello_node *h);

enum hello_verdict {
    HELLO_WELCOME,   /* they may talk */
    HELLO_INTRODUCE, /* one of them is not ready: that was all for now */
    HELLO_STRANGER,  /* both are alone, each in a cell of its own */
    HELLO_REFUSED,   /* why says what differs, with both sides of it */
};
/* Both sides ask, each with itself first. */
enum hello_verdict hello_judge(const struct hello_node *mine, const struct hello_node *theirs,
                               char why[HELLO_WHY_BYTES]);

/* 40 hex digits for INFO's master_replid: another one with each term of each cell. */
void hello_replid(const uint8_t cell_id[16], uint32_t term, char out[HELLO_ID_CHARS + 1]);

#endif
