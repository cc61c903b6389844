/* founding.h - how a cell begins, and how a node without a log finds its cell.
 *
 * A node is *blank* when it has no log and no voting file, that is when it cannot have promised or acknowledged
 * anything, or when it has lost all of that. It does not open its engine before it knows which.
 *
 *     some voter is not blank         the cell exists: its id is taken over; this node may have lost what it promised
 *     all others were seen blank      nobody can have been promised or acknowledged anything by this node, since that
 *                                     other one would not be blank: the cell begins, and this node is sound. Its id is
 *                                     that of the voter of the lowest index that has one; voter 0 makes one
 *     else                            it waits
 *
 * That the others were blank at some time since this node started is enough: what this node promised, it promised
 * before. So what was seen is never forgotten, and nobody need be blank at the same time.
 *
 * A replica that is no voter only waits for somebody who has a cell.
 *
 * A node whose data is damaged where a start needs it asks something else of the same handshakes: how many others can
 * go on without it (founding_sound; repl_aside.c).
 *
 * Pure functions of the struct; one thread at a time.
 */
#ifndef COFFER_SERVER_FOUNDING_H
#define COFFER_SERVER_FOUNDING_H

#include "server/hello.h"

struct founding {
    unsigned voters; /* 0: a replica of a node that is alone */
    int self;        /* -1: no voter */
    struct founding_seen {
        int seen, was_blank, is_blank, has_cell;
        int mute, ready; /* as of the last handshake */
        uint8_t cell_id[16];
    } seen[CELL_VOTERS + 1]; /* [index]; the last one: who is no voter */
};

/* own: NULL, or the cell id in DIR/cell. */
void founding_init(struct founding *f, unsigned voters, int self, const uint8_t *own);
void founding_saw(struct founding *f, const struct hello_node *theirs);

enum founding_verdict {
    FOUNDING_WAIT,
    FOUNDING_MAKE,  /* make an id, and begin: then it is this node's own, which others will see */
    FOUNDING_BEGIN, /* cell_id: nothing was ever promised */
    FOUNDING_JOIN,  /* cell_id: what this node promised there is not known */
};
enum founding_verdict founding_look(const struct founding *f, uint8_t cell_id[16]);

/* Voters other than this node that serve in this cell, and hold all that they ever acknowledged. */
unsigned founding_sound(const struct founding *f, const uint8_t cell_id[16]);
int founding_is_sound(const struct founding *f, unsigned voter, const uint8_t cell_id[16]);

#endif
