/* uploadfile.h - DIR/upload: an upload that is under way, so that it goes on after a kill -9. Little-endian:
 *
 *      0  8    magic "COFFERUP"
 *      8  u32  format, 1
 *     12  256  header of the container (hsm/box.h): which snapshot, and its data key, wrapped
 *    268  65   node's name in the object's name, NULs behind it
 *    333  512  id of the upload at the object store, NULs behind it; empty: none was begun yet
 *    845  3    zeros
 *    848  u32  crc32c of bytes 0 to 847
 *    852
 *
 * Nothing in it is secret. It is written whole, and again when the upload has its id; removed when the manifest is
 * there. Without it, or with a damaged one, an upload begins anew under another name, and what the lost one has left
 * is removed by its age.
 *
 * Functions block on the disk; any thread.
 */
#ifndef COFFER_SERVER_UPLOADFILE_H
#define COFFER_SERVER_UPLOADFILE_H

#include "engine/objstore.h"
#include "engine/snapobject.h"
#include "hsm/box.h"

#define UPLOADFILE_BYTES 852

struct uploadfile {
    struct box_head head;
    char node[SNAPOBJECT_NODE_BYTES];
    char id[OBJSTORE_ID_BYTES];
};

void uploadfile_put(uint8_t out[UPLOADFILE_BYTES], const struct uploadfile *u);
must_use enum err uploadfile_get(struct bytes in, struct uploadfile *u); /* ERR_CORRUPT; *u is zeroed then */

must_use enum err uploadfile_load(const char *path, struct uploadfile *u); /* ERR_NOTFOUND, ERR_CORRUPT, ERR_IO ... */
must_use enum err uploadfile_save(const char *path, const struct uploadfile *u); /* durable; ERR_MISCONF, ERR_IO ... */

#endif
