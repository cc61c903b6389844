/* start.h - what a start has to open, in order, and a stop to close: HSM, data keys, engine. */
#ifndef COFFER_SERVER_START_H
#define COFFER_SERVER_START_H

#include "base/err.h"
#include "server/server.h"

/* Takes the data directory (the one the process is in) until the engine locks it itself, so that a second server is
 * told before it touches sockets or token. ERR_CONFLICT: another server has it; ERR_IO. The log says so. */
must_use enum err start_lock(struct server *srv);

/* Provisions the embedded token where that applies, opens HSM, keyring and engine, and recovers. I/O threads may run
 * already: they see the result when srv->loading becomes 0, which happens at the end of a success. On an error the log
 * says what is missing and what to do; start_close undoes what was done. Blocks, for as long as recovery takes. */
must_use enum err start_open(struct server *srv);

/* After the I/O threads have ended, before they are freed: finishes what was submitted, applies, checkpoints, ends the
 * HSM workers. */
void start_close(struct server *srv);
/* After the I/O threads were freed. */
void start_free(struct server *srv);

#endif
