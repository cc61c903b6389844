/* leave.h - a shutdown that waits for replicas: a primary without voters holds writes back until every replica that is
 * linked has all of its log, at most shutdown-timeout seconds. In a cell with voters a majority has it anyway.
 *
 *     nothing --- SHUTDOWN, SIGTERM ---> LEAVING: writes park; looked at every LEAVE_TICK_MS
 *        ^                                  |        |
 *        '----- SHUTDOWN ABORT -------------'        '-- all have it, time is over, SHUTDOWN NOW, a second signal -->
 * ends
 *
 * Each SHUTDOWN is answered by the end of its connection, or by an error when another client aborts.
 */
#ifndef COFFER_SERVER_LEAVE_H
#define COFFER_SERVER_LEAVE_H

#include "server/call.h"

#define LEAVE_TICK_MS 10

struct leave;

enum leave_state { STAYS, LEAVING, ABORTED, GOING }; /* server.leaving; writes are held back but in the first */

/* end() is called once, on the main thread, when nothing is waited for any more. srv->main is there. ERR_OOM. */
must_use enum err leave_new(struct leave **out, struct server *srv, void (*end)(void));
void leave_free(struct leave *l); /* when all connections are gone; accepts NULL */

/* Main thread. now: waits for nobody. Again while it waits: goes at once. */
void leave_begin(struct leave *l, int now);
/* SHUTDOWN: answered as above. */
enum call_result leave_ask(struct leave *l, struct call *c, int now);
/* SHUTDOWN ABORT. 0: nothing is waited for. Any thread. */
int leave_abort(struct leave *l);
/* Until it goes whatever replicas have; 0: no shutdown waits. Any thread. */
uint64_t leave_left_ms(const struct leave *l);
/* Main thread: the end has begun, for whatever reason. Whoever asked is let go. */
void leave_ends(struct leave *l);

#endif
