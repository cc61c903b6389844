/* monitor.h - MONITOR: every command as it is carried out, secrets redacted, to the clients that ask for it.
 *
 * Administrative commands are not shown, as in Redis. A line goes to monitors of the same I/O thread at once, to those
 * of others by a task; it costs nothing while nobody monitors (srv->monitors).
 */
#ifndef COFFER_SERVER_MONITOR_H
#define COFFER_SERVER_MONITOR_H

#include "server/call.h"

/* On the I/O thread of the call, after its handler. */
void monitor_feed(const struct call *c);
/* The call's connection becomes a monitor. */
void monitor_add(struct call *c);

#endif
