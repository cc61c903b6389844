/* realmsign.h - signatures by the HSM under the realm's MAC key, for threads that may wait. */
#ifndef COFFER_SERVER_REALMSIGN_H
#define COFFER_SERVER_REALMSIGN_H

#include "base/bytes.h"
#include "base/err.h"

/* HMAC of in (at most 4 KiB), as REALM_MAC in hsm/op.tbl.h; srv is the struct server. Blocks until the HSM answers.
 * Never on an I/O thread or the HSM's. ERR_HSMDOWN, ERR_SEALED, ERR_THROTTLED, ERR_OOM. */
must_use enum err realmsign(void *srv, struct bytes in, uint8_t out[32]);

#endif
