/* client.h - what CLIENT's handlers share with HELLO. */
#ifndef COFFER_SERVER_CLIENT_H
#define COFFER_SERVER_CLIENT_H

#include "server/call.h"

struct conn_text;

/* Sets a name of the connection: 1, or 0 when an error was answered (blanks, line ends, too long). what: "Client
 * names". */
int client_set_text(struct call *c, struct conn_text *t, struct bytes value, const char *what);

#endif
