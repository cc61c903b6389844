/* sweep.h - partitions in the HSM's token that no vault has: a crash came between the making of their keys and the log,
 * or the record was rolled back. They take room, which a device has little of, and nothing else: nobody holds anything
 * sealed under them.
 *
 * A partition's id begins with that of its cell, so a token that serves several cells loses nothing of the others. A
 * replica that shares a token with its primary may know less than that; what it takes away too much comes back from the
 * log's configs (hsm/partition.h): the token is their cache.
 */
#ifndef COFFER_SERVER_SWEEP_H
#define COFFER_SERVER_SWEEP_H

#include "server/server.h"

#define SWEEP_CELL_BYTES 4 /* of the cell id, in front of a partition id */

/* The first bytes of the id of a partition that is made here. */
void sweep_mark(const struct server *srv, uint8_t id[SWEEP_CELL_BYTES]);

/* Once, behind a start that found a log. Blocks on the HSM; what fails is logged, and the next start tries again. */
void sweep_token(struct server *srv);

#endif
