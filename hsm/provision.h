/* provision.h - the embedded default: a SoftHSM token of its own below a directory.
 *
 *     DIR/                   0700
 *       softhsm2.conf        SOFTHSM2_CONF for the workers
 *       tokens/              SoftHSM's objects
 *       pin, so-pin          random, 0600
 *       realm                realm file (realm.h); copy it, and its passphrase, to nodes that shall join
 *       realm-passphrase     random, 0600
 *       unfinished           there while provisioning is under way
 *
 * Calling it again changes nothing when all is well. The realm file is written last; what a crash left before that is
 * made anew, and only then: a directory with tokens but neither realm file nor the mark "unfinished" is somebody's
 * loss, not a half-made one, and is left alone with an error. So is a realm file without its token, unless rejoin says
 * that the token may be made again from it (its partitions come back from the log).
 *
 * SoftHSM is no security boundary: PIN and passphrase lie beside the tokens. It is there so that Coffer runs without a
 * device.
 *
 * Sets SOFTHSM2_CONF in this process. Single-threaded; blocks.
 */
#ifndef COFFER_HSM_PROVISION_H
#define COFFER_HSM_PROVISION_H

#include "base/buf.h"
#include "base/err.h"

#define PROVISION_TOKEN "coffer"

struct provision {
    const char *dir;
    const char *module;          /* NULL: SoftHSM2 where distributions put it */
    const char *realm_file;      /* join this realm instead of making one; NULL: make one */
    const char *passphrase_file; /* of realm_file */
    int rejoin;                  /* make a lost token again from DIR/realm */
};

/* On failure why (n bytes) says what is wrong and what to do. ERR_CONFLICT: left alone, see above. */
must_use enum err provision(const struct provision *p, char *why, size_t n);

/* Path of the SoftHSM2 module, or NULL. Static string. */
const char *provision_find_module(void);

/* Reads a PIN or passphrase from a file that nobody else may read; a line end at its end is dropped. ERR_NOPERM: mode
 * or owner. ERR_RANGE: empty. out is a secret buffer. */
must_use enum err secret_file_read(const char *path, struct buf *out);

#endif
