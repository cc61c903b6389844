/* walcall.h - what the WBL.* handlers have in common. */
#ifndef COFFER_SERVER_WALCALL_H
#define COFFER_SERVER_WALCALL_H

#include "engine/engine.h"
#include "server/call.h"

/* The log commands answer while the server is sealed, but not before the log is open: 1 when it is; 0: LOADING was
 * replied. */
int walcall_ready(struct call *c);

/* A chain, or another hash, as lower-case hex. */
void walcall_reply_hex(struct reply *r, const uint8_t *p, size_t n);

/* One name and number of a map. */
void walcall_reply_int(struct reply *r, const char *name, uint64_t value);

/* -ERR that [from, to] is not within the log of info. ERR_OK: it is. */
must_use enum err walcall_check_range(struct call *c, const struct wal_info *info, uint64_t from, uint64_t to);

/* How far WBL.VERIFY is: 0 when none runs. */
uint64_t walcall_verifying(void);

#endif
