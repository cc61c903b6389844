/* box.h - a container for a file that leaves the node, byte by byte; its writer, and its reader.
 * docs/container.md has a worked example.
 *
 * What lies in an object store, or goes to another node, can be read, changed, cut short and mixed up by others. So a
 * file goes there in a box: encrypted under a data key of its own, in chunks that are good for nothing in another place
 * or another box. Little-endian:
 *
 *     header    256 bytes
 *     chunks    chunk bytes of the file each, the last one what is left, a tag of 16 bytes behind each
 *
 * A file of 0 bytes has one chunk of 0 bytes. So the size of the file says how many chunks there are, where each
 * begins, and how large the box is.
 *
 * Header:
 *
 *      0  8    magic "COFFERBX"
 *      8  u32  format, 1
 *     12  u32  header bytes, 256
 *     16  16   cell id
 *     32  u64  LSN
 *     40  u32  term
 *     44  u32  what it is: 1 snapshot (enum box_kind)
 *     48  u64  bytes of the file
 *     56  32   content: names the file's bytes; of a snapshot the SHA-256 of its index
 *     88  u32  chunk bytes, a power of two, 64 KiB to 1 MiB
 *     92  u32  bytes of the wrapped data key, 133
 *     96  16   realm id
 *    112  133  data key, wrapped by REALM_DEK_NEW (ops.h); context: bytes 0 to 111
 *    245  7    zeros
 *    252  u32  crc32c of bytes 0 to 251: tells damage from another file; the tags tell the rest
 *
 * Chunks, STREAM of Hoang, Reyhanitabar, Rogaway, Vizar, "Online Authenticated-Encryption and its Nonce-Reuse
 * Misuse-Resistance", CRYPTO 2015, with AES-256-GCM:
 *
 *     key      HMAC-SHA256(data key, "coffer-box" | header)
 *     nonce    four zeros | number of the chunk, from 0, 7 bytes big-endian | 1: the last chunk, 0: another
 *     AAD      header
 *
 * The number keeps chunks in order, the last bit tells an end from a cut. The key depends on the header, so that one
 * data key in two boxes by mistake is two keys.
 *
 * The same file, header and data key give the same bytes, so that an upload that was interrupted can go on. That is
 * safe because content in the header names the bytes: NEVER give two different files a header with the same content and
 * the same data key; and a file in a box must not change while it is read (snapshots never do).
 *
 * Threads: pure functions any; a writer, reader or opener one at a time. All that touch the file block. The data key
 * and what is made of it lie in locked memory and are wiped, but for OpenSSL's expanded key where it is used (gcm.h).
 * The file's bytes are not secrets here: they lie on the disk as they are.
 */
#ifndef COFFER_HSM_BOX_H
#define COFFER_HSM_BOX_H

#include "base/bytes.h"
#include "base/err.h"

#define BOX_FORMAT 1
#define BOX_HEADER_BYTES 256
#define BOX_CONTEXT_BYTES 112
#define BOX_WRAPPED_BYTES 133
#define BOX_KEY_BYTES 32
#define BOX_TAG_BYTES 16
#define BOX_HASH_BYTES 32
#define BOX_CHUNK_BYTES_MIN (64u << 10)
#define BOX_CHUNK_BYTES_MAX (1u << 20)
#define BOX_CHUNK_BYTES (256u << 10)           /* unless there is a reason for another */
#define BOX_FILE_BYTES_MAX ((uint64_t)1 << 44) /* at most 2^28 chunks: far from what one key of AES-GCM is good for */

enum box_kind { BOX_SNAPSHOT = 1 };

struct box_head {
    uint8_t cell_id[16], realm[16];
    uint64_t lsn, bytes; /* bytes: of the file */
    uint32_t term, kind, chunk_bytes;
    uint8_t content[BOX_HASH_BYTES];
    uint8_t wrapped[BOX_WRAPPED_BYTES];
};

/* The context that the data key is wrapped with; wrapped is not looked at. Then the header, wholly filled. */
void box_put_context(uint8_t out[BOX_CONTEXT_BYTES], const struct box_head *h);
void box_put_header(uint8_t out[BOX_HEADER_BYTES], const struct box_head *h);
/* Verifies magic, CRC and ranges; nothing here says who made it: the data key does, and the tags. ERR_CORRUPT;
 * ERR_UNSUPPORTED: another format. *h is zeroed then. */
must_use enum err box_get_header(const uint8_t in[BOX_HEADER_BYTES], struct box_head *h);

/* Sizes and places, of a head that box_get_header would accept. chunk: up to and with box_chunks(), the end. */
uint64_t box_bytes(const struct box_head *h);
uint64_t box_chunks(const struct box_head *h);
uint64_t box_chunk_off(const struct box_head *h, uint64_t chunk);

/* ---- writing: the box of a file, computed as it is read ---- */

struct box_writer;

/* Opens the file and copies h and key; the caller wipes its own. ERR_RANGE: a head that box_get_header would refuse.
 * ERR_CORRUPT: the file has not h->bytes. ERR_NOTFOUND, ERR_IO, ERR_OOM, ERR_INTERNAL. */
must_use enum err box_writer_open(struct box_writer **out, const char *path, const struct box_head *h,
                                  const uint8_t key[BOX_KEY_BYTES]);
void box_writer_close(struct box_writer *w); /* NULL is fine */

/* Bytes off to off + n of the box, any, in any order; quickest in order. writer: a struct box_writer; it fits as a
 * source of objstore_upload_run. ERR_RANGE: not in the box. ERR_CORRUPT: the file became shorter. ERR_IO. */
must_use enum err box_writer_read(void *writer, uint64_t off, void *p, size_t n);

/* SHA-256 of the whole box, for its manifest: encrypts the file once. */
must_use enum err box_writer_hash(struct box_writer *w, uint8_t out[BOX_HASH_BYTES]);

/* ---- reading: the file out of a box that comes in pieces ---- */

struct box_reader;

/* Makes the file (mode 0600), or opens it, and cuts it off behind its first `chunk` chunks, which are believed to be
 * there. h: from box_get_header. ERR_RANGE: there are not that many, or h is not valid. ERR_NOTFOUND (no such
 * directory), ERR_IO, ERR_MISCONF (no room), ERR_OOM, ERR_INTERNAL. */
must_use enum err box_reader_open(struct box_reader **out, const char *path, const struct box_head *h,
                                  const uint8_t key[BOX_KEY_BYTES], uint64_t chunk);

/* The bytes of the box that follow, in order, in any pieces, from box_chunk_off(h, chunk) on; off: where they are in
 * the box. reader: a struct box_reader; it fits as the target of objstore_download. A chunk's bytes are written once
 * its tag has been verified, and not before. ERR_CORRUPT: a chunk that does not belong here, or bytes behind the end.
 * ERR_RANGE: off is not what follows. ERR_IO, ERR_MISCONF. After an error every call is the same error, until
 * box_reader_restart. */
must_use enum err box_reader_write(void *reader, uint64_t off, const void *p, size_t n);

/* Forgets what there is of a chunk that is not complete; returns where in the box to go on. An error of the box
 * (ERR_CORRUPT, ERR_RANGE) is forgotten too, one of the file is not. */
uint64_t box_reader_restart(struct box_reader *r);

/* Chunks that are in the file. After a crash of the process all of them are; after one of the machine, those that there
 * were at the last box_reader_sync. */
uint64_t box_reader_chunks(const struct box_reader *r);
must_use enum err box_reader_sync(struct box_reader *r);

/* Syncs and closes; frees r, whatever the outcome. ERR_CORRUPT: the last chunk has not come. */
must_use enum err box_reader_finish(struct box_reader *r);
void box_reader_abandon(struct box_reader *r); /* leaves the file as it is; NULL is fine */

/* ---- one chunk alone: for several at once, or for a part of a file; an opener for each thread ---- */

struct box_opener;

/* ERR_RANGE: h is not valid. ERR_OOM, ERR_INTERNAL. */
must_use enum err box_opener_new(struct box_opener **out, const struct box_head *h, const uint8_t key[BOX_KEY_BYTES]);
void box_opener_free(struct box_opener *o); /* NULL is fine */

/* sealed: from box_chunk_off(h, chunk) up to that of the chunk behind it; out gets BOX_TAG_BYTES less, and they belong
 * in the file at chunk times chunk bytes. ERR_CORRUPT: it is not that chunk. ERR_RANGE: there is none of this number.
 * Nothing here says that the other chunks are there: that is the caller's to count. */
must_use enum err box_opener_open(struct box_opener *o, uint64_t chunk, struct bytes sealed, uint8_t *out);

#endif
