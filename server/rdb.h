/* rdb.h - a string as Redis's DUMP writes it and its RESTORE reads it: a piece of an RDB file.
 *
 *     u8  0: a string
 *     the string:     00nnnnnn  or  01nnnnnn n  or  0x80 and a big-endian u32  or  0x81 and a u64: its length; its
 * bytes 0xc0, 0xc1, 0xc2: the digits of a little-endian integer of 8, 16, 32 bits 0xc3: two lengths, compressed and
 * not; bytes compressed by LZF u16 version of RDB files, little-endian u64 CRC-64 (Jones) of all before, little-endian
 *
 * Written is the plain form, which every Redis reads. Strings are the same in all versions, so any is taken.
 * Plaintext passes through: buffers are secret ones. Pure functions, any thread.
 */
#ifndef COFFER_SERVER_RDB_H
#define COFFER_SERVER_RDB_H

#include "base/buf.h"

/* Appends what stands in front of a string of n bytes, which the caller appends; then what stands behind it, b holding
 * nothing else. ERR_TOOBIG, ERR_OOM. */
must_use enum err rdb_string_begin(struct buf *b, size_t n);
must_use enum err rdb_string_end(struct buf *b);

/* The string in a payload, appended to out. ERR_CORRUPT: the checksum is another; ERR_SYNTAX: it
 * holds no string, or is malformed; ERR_TOOBIG: over out's limit; ERR_OOM. */
must_use enum err rdb_string_read(struct bytes payload, struct buf *out);

#endif
