/* wal_segment.h - a segment of the log as bytes: header, frame, footer, name, and a window to read records through.
 *
 * The layouts are in wal.h. Encoders fill their output wholly; decoders verify magic, CRC and ranges and answer
 * ERR_CORRUPT, with *out zeroed. No state, any thread; only the window does input and output.
 */
#ifndef COFFER_ENGINE_WAL_SEGMENT_H
#define COFFER_ENGINE_WAL_SEGMENT_H

#include "engine/record.h"

#define WAL_FORMAT 1
#define WAL_HEADER_BYTES 128
#define WAL_FRAME_BYTES 24
#define WAL_FOOTER_BYTES 56
#define WAL_NAME_BYTES 25 /* 20 digits, ".wbl", NUL */

struct wal_header {
    uint8_t cell_id[16], salt[16], chain[RECORD_CHAIN_BYTES];
    uint64_t first_lsn, created_ms;
    uint32_t term; /* of the record before the first LSN; 0: there is none, or it is not known */
};

struct wal_frame {
    uint32_t records, bytes;
    uint64_t synced_lsn;
};

struct wal_footer {
    uint32_t records;
    uint64_t last_lsn;
    uint8_t chain[RECORD_CHAIN_BYTES];
};

uint32_t wal_segment_seed(const uint8_t salt[16]);

void wal_segment_put_header(uint8_t out[WAL_HEADER_BYTES], const struct wal_header *h);
/* ERR_UNSUPPORTED: whole, but of another format. */
must_use enum err wal_segment_get_header(const uint8_t in[WAL_HEADER_BYTES], struct wal_header *h);
void wal_segment_put_frame(uint8_t out[WAL_FRAME_BYTES], uint32_t seed, const struct wal_frame *f);
must_use enum err wal_segment_get_frame(const uint8_t in[WAL_FRAME_BYTES], uint32_t seed, struct wal_frame *f);
void wal_segment_put_footer(uint8_t out[WAL_FOOTER_BYTES], uint32_t seed, const struct wal_footer *f);
must_use enum err wal_segment_get_footer(const uint8_t in[WAL_FOOTER_BYTES], uint32_t seed, struct wal_footer *f);

void wal_segment_name(char out[WAL_NAME_BYTES], uint64_t first_lsn);
int wal_segment_parse_name(const char *name, uint64_t *first_lsn); /* 1 when it is a segment's name */

/* A window over a file, read ahead: in large pieces when it is read on and on. */
struct wal_window {
    int fd; /* borrowed */
    uint8_t *mem;
    size_t cap, n;
    uint64_t off;       /* mem[0..n) is the file from off on */
    size_t ahead_bytes; /* how much is read when it is read on; set by init, the owner may choose less */
    enum err (*pace)(void *arg, uint64_t bytes); /* after so many bytes more; an error ends the reading; may be NULL */
    void *pace_arg;
};
void wal_window_init(struct wal_window *win, int fd);
void wal_window_fini(struct wal_window *win);

/* The n bytes at off, until the next call. Nothing at or behind limit is read: what may still change lies there.
 * ERR_END: limit or the end of the file comes first. ERR_IO, ERR_OOM. */
must_use enum err wal_window_get(struct wal_window *win, uint64_t off, size_t n, uint64_t limit, const uint8_t **p);

/* The record at off, verified: CRC, its LSN, its chain from prev_chain. r and raw point into the window.
 * ERR_CORRUPT: it does not verify, or does not end by limit. */
must_use enum err wal_window_record(struct wal_window *win, uint64_t off, uint64_t limit, uint64_t lsn,
                                    const uint8_t prev_chain[RECORD_CHAIN_BYTES], struct record *r, struct bytes *raw);

#endif
