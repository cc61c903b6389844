/* vote.h - the voting file: what a node must not forget (RELIABILITY R1; cell.h struct cell_vote).
 *
 * One file of 64 bytes, written anew as a whole for each promise (temporary name, fsync, rename, fsync of the
 * directory), little-endian:
 *
 *      0  8    magic "COFFERVT"
 *      8  u32  format, 1
 *     12  u32  promised     highest term promised, stood for or followed
 *     16  u8   promised to  index of a voter, 255: nobody
 *     17  u8   mute         enum cell_mute
 *     18  u48  held LSN     0 in files of older versions
 *     24  16   node id      random, made with the file
 *     40  16   cell id
 *     56  u32  zeros
 *     60  u32  CRC-32C of bytes 0 to 59
 *
 * A node without its voting file may have promised anything: it neither votes nor stands until it is known again what
 * it cannot have promised (cell.h, Mute). So the file is written only with what the core wants to be durable, and
 * nobody repairs it.
 *
 * One thread at a time. All of it blocks.
 */
#ifndef COFFER_ENGINE_VOTE_H
#define COFFER_ENGINE_VOTE_H

#include "engine/cell.h"

#define VOTE_BYTES 64

struct vote_file {
    uint8_t node_id[16], cell_id[16];
    struct cell_vote vote;
};

void vote_put(uint8_t out[VOTE_BYTES], const struct vote_file *v);
/* ERR_CORRUPT: not such a file, or not whole; *v is zeroed then. */
must_use enum err vote_get(struct bytes in, struct vote_file *v);

/* ERR_NOTFOUND: there is none. ERR_CORRUPT: it does not verify, or is another cell's. ERR_IO, ERR_OOM. */
must_use enum err vote_read(const char *path, const uint8_t cell_id[16], struct vote_file *v);
/* Durable when it returns. ERR_IO, ERR_MISCONF: what the disk holds now is not known. */
must_use enum err vote_write(const char *path, const struct vote_file *v);

#endif
