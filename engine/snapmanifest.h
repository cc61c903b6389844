/* snapmanifest.h - the manifest of a snapshot in an object store: a small text that is written last, when all else is
 * there. A snapshot without one does not count. docs/container.md has an example.
 *
 * Lines, ended by a newline each, all of them, in this order, one space behind the name:
 *
 *     coffer-manifest 1       and the format
 *     object                  the container's name behind its last slash (snapobject.h)
 *     kind                    snapshot
 *     cell                    cell id, 32 hex digits
 *     realm                   realm id, 32 hex digits: whose HSMs open it
 *     lsn, term               of the last record that is in it
 *     node                    who wrote it
 *     time-ms                 of that record, Unix time
 *     bytes, sha256           of the container as it lies there
 *     file-bytes              of the snapshot file in it
 *     digest, content         the snapshot's state digest, and SHA-256 of its index (snapfile.h)
 *     hmac                    HMAC-SHA256 by the realm's MAC key over all lines before
 *
 * Numbers are decimal without zeros in front, hex digits are small. A manifest has one spelling only: the parser takes
 * no other order, no blank more, nothing behind. It reads what anybody may have put there.
 *
 * It names the container by name, not by path, so a store may be copied to another place as a whole.
 *
 * Pure functions but for the signer, which may block; any thread.
 */
#ifndef COFFER_ENGINE_SNAPMANIFEST_H
#define COFFER_ENGINE_SNAPMANIFEST_H

#include "base/buf.h"
#include "engine/snapobject.h"
#include "engine/snapwrite.h"

#define SNAPMANIFEST_FORMAT 1
#define SNAPMANIFEST_BYTES_MAX 1024 /* all are shorter */

struct snapmanifest {
    struct snapobject object;
    uint8_t realm[16];
    uint64_t time_ms, bytes, file_bytes;
    uint8_t sha256[32], digest[32], content[32];
    uint8_t hmac[32]; /* set by put and get */
};

/* Appends the text, signed, to an initialised buffer, which is as it was on failure; m->hmac is set. ERR_BADNAME: the
 * node's; ERR_OOM, ERR_TOOBIG, and sign's errors. */
must_use enum err snapmanifest_put(struct buf *out, struct snapmanifest *m, const struct snap_signer *sign);

/* Parses, no more: nothing says yet that it is from the realm. ERR_CORRUPT; ERR_UNSUPPORTED: a later format. *m is
 * zeroed then. */
must_use enum err snapmanifest_get(struct bytes text, struct snapmanifest *m);

/* Parses, and verifies that it belongs where it was found (object: what its own name says; a manifest that was put
 * under another name is not believed), and that the HSM signs it so. ERR_CORRUPT, ERR_UNSUPPORTED, and sign's errors;
 * *m is zeroed then. */
must_use enum err snapmanifest_open(struct bytes text, const struct snapobject *object, const struct snap_signer *check,
                                    struct snapmanifest *m);

#endif
