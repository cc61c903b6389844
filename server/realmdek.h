/* realmdek.h - data keys of the realm, for files that leave the node (hsm/box.h), by threads that may wait.
 *
 * Both block until the HSM answers; never on an I/O thread or the HSM's. key is 32 bytes of mem_secret_alloc, wiped by
 * the caller; zeros on failure. ERR_HSMDOWN, ERR_SEALED, ERR_THROTTLED, ERR_OOM.
 */
#ifndef COFFER_SERVER_REALMDEK_H
#define COFFER_SERVER_REALMDEK_H

#include "hsm/box.h"

/* A new one, for a box of this head: h->wrapped is set. srv is the struct server. */
must_use enum err realmdek_new(void *srv, struct box_head *h, uint8_t *key);
/* That of a box. ERR_BADBLOB: of another realm, or the header is not what it was. */
must_use enum err realmdek_open(void *srv, const struct box_head *h, uint8_t *key);

#endif
