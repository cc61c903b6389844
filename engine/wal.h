/* wal.h - the write-behind log on disk: segments, group commit, torn tail or damage. docs/log.md has a worked example.
 *
 *     DIR/00000000000000000001.wbl      first LSN in the name, 20 digits
 *     DIR/00000000000000051234.wbl      the one being written
 *     DIR/next                          the following one, zero-filled and synced ahead of use
 *     DIR/mark                          highest LSN known durable, 64 bytes, mapped
 *     DIR/mend                          a damaged segment that is being written anew (wal_mend)
 *
 * Segment (little-endian):
 *
 *      0  8    magic "COFFERWL"
 *      8  u32  format, 1
 *     12  u32  header bytes, 128
 *     16  16   cell id
 *     32  u64  first LSN
 *     40  32   chain before the first LSN
 *     72  16   salt of the node, new with each segment; seeds the CRCs of frames and footer so that no other
 *              segment's bytes pass for this one's: seed = crc32c(0, salt)
 *     88  u64  time created, ms
 *     96  u32  term of the record before the first LSN; 0: there is none, or a version that did not note it began this
 * one 100  24   zeros 124  u32  crc32c of bytes 0..123 128  frames, then zeros up to the segment size; a sealed segment
 * ends in a footer and is cut there
 *
 * Frame = one group commit (local to the node, not replicated):
 *
 *      0  u32  magic "WBLG"
 *      4  u32  number of records, at least 1
 *      8  u32  bytes of records that follow the frame header
 *     12  u32  crc32c of bytes 0..11 and 16..23, seeded with the salt
 *     16  u64  synced LSN: all records up to it were durable when this frame was written
 *     24  records (record.h), each a multiple of 8 bytes
 *
 * Footer, 56 bytes, behind the last frame:
 *
 *      0  u32  magic "WBLF"
 *      4  u32  count of records in the segment
 *      8  u64  last LSN
 *     16  32   chain at it
 *     48  u32  zeros
 *     52  u32  crc32c of bytes 0..51, seeded with the salt
 *
 * Mark: two slots of 32 bytes, written in turn, so that a process killed between two stores leaves one whole:
 *
 *      0  u32  magic "WBLM"
 *      4  u32  crc32c of bytes 8..31, seeded with crc32c(0, cell id)
 *      8  u64  first 8 bytes of SHA-256 of the boot id's text: which boot wrote it
 *     16  u64  LSN
 *     24  u64  sequence: the slot with the higher one is the newer
 *
 * It is stored after the fdatasync that it tells of, so whatever copy is found is true: within the boot that wrote it,
 * it names the last group acknowledged; after a power loss it is what reached the disk (the helper thread syncs it
 * every tick_ms), a lower bound. A slot that does not verify is not believed; without any the other evidence has to do.
 *
 * **Torn or damaged.** A group is kept whole or not at all. mark = the highest of: synced LSN of any frame header that
 * verifies (also of those behind a bad place: a frame is written only when the one before is durable), first LSN - 1 of
 * every segment (a segment is begun only when the one before is sealed), the mark file, and what the caller knows to be
 * durable (applied LSN, checkpoint, snapshot). Let f be the LSN after the last group that verifies:
 *
 *     not in the last segment              damage
 *     a header that does not verify        damage: it is synced before the segment gets its name
 *     f <= mark                            damage, also when nothing but zeros is found there
 *     f > mark, other than zeros follow    torn tail: zeroed, synced, reported; the log goes on from f
 *     f > mark, zeros up to the end        the end of the log
 *
 * Damage: nothing is cut, wal_open succeeds with report.damaged_lsn set, and the log refuses appends. A group that a
 * crash made whole on disk but that nobody acknowledged is kept.
 *
 * **Fsync.** The first failed write or sync is sticky: wal_append answers ERR_MISCONF for ever after, nothing is
 * retried, the owner must stop acknowledging. The group that failed may or may not be found by the next wal_open.
 * Space: the next segment is zero-filled and synced by a helper thread before it is needed, so ENOSPC shows there, is
 * not sticky, and is tried again; wal_room() tells before a record is admitted.
 *
 * At open every segment is fdatasynced (an error refuses the start), dropped from the page cache, and only then read:
 * what is read is what is on disk. Segments are verified in parallel, each from the chain in its own header.
 *
 * **Lazily** (cfg.lazy), so that a start does not take longer with a longer log: of segments before the last two only
 * header and footer are read, which say what the verdict needs: first and last LSN, the chain at both ends, the number
 * of records, and by the file's size that nothing was cut off. What lies between is verified when somebody first looks
 * for a record in it, or by wal_verify_segment, which the owner calls for all of them (wal_unverified_lsn says which)
 * beside traffic. Nothing is handed out unverified: a cursor that reads on verifies each record on its way. A segment
 * with damage can be read up to it, and those behind it; what becomes of it is for the owner to say.
 *
 * Threads: wal_append and wal_cut by one thread (the log writer). wal_room, wal_info, wal_term_at, wal_read,
 * wal_remove_below, wal_verify_segment, wal_unverified_lsn, wal_mend (by one at a time), cursors and readers (each by
 * one thread at a time) by any; a lock inside covers the list of segments. Cursors and readers read only what is
 * durable. One process has a directory open at a time (a lock on DIR/mark).
 */
#ifndef COFFER_ENGINE_WAL_H
#define COFFER_ENGINE_WAL_H

#include "engine/record.h"

#define WAL_SEGMENT_MIN_BYTES (4u << 10)
#define WAL_SEGMENT_MAX_BYTES (1u << 30)

struct wal;

struct wal_config {
    const char *dir;
    uint64_t segment_bytes; /* WAL_SEGMENT_MIN_BYTES to WAL_SEGMENT_MAX_BYTES, else ERR_RANGE */
    uint8_t cell_id[16];    /* written into new segments, checked in old ones: another cell's log is ERR_CORRUPT */
    uint64_t known_lsn;     /* what the caller knows to be durable, 0: nothing */
    uint64_t reserve_bytes; /* wal_room says no below so much free disk space (the apply needs it too); 0: no limit */

    /* Where a log without any segment begins: after base_lsn, whose term and chain are these (the snapshot that a node
     * was built from). Zeros: at LSN 1. Not looked at when there are segments. */
    uint64_t base_lsn;
    uint32_t base_term;
    uint8_t base_chain[RECORD_CHAIN_BYTES];

    int lazy; /* above */

    unsigned tick_ms; /* helper thread: sync the mark, look at the free space, try again to prepare; 0: 100 */
};

struct wal_report {
    uint64_t first_lsn, last_lsn; /* first 0: no records; last is then where the log goes on from (base_lsn, or 0) */
    uint32_t last_term;           /* 0: no records */
    uint8_t chain[RECORD_CHAIN_BYTES]; /* at last_lsn */
    uint64_t torn_bytes;               /* cut off the tail */
    uint64_t damaged_lsn;              /* first LSN that does not verify, 0: none; last_lsn is the one before */
    uint64_t mark_lsn;                 /* all of it was durable once: the highest of the evidence above */
    int mark_this_boot;                /* 1: the mark file was written in this boot and verifies */
    unsigned segments;                 /* files */
    char text[160];                    /* one line for the log: what was found and done, or why it failed */
};

/* Opens or creates the log in cfg->dir (strings are copied). Full scan, unless cfg->lazy: CRC and chain of every
 * record, footers, headers, LSN order. ERR_IO, ERR_NOTFOUND (dir's parent), ERR_MISCONF (no space), ERR_CORRUPT
 * (another cell's, or an unknown format), ERR_AGAIN (another process has it open), ERR_RANGE, ERR_OOM; *out is NULL
 * then, *report is filled as far as known. Too little space for the next segment is no error here: wal_room says so.
 * Blocks. */
must_use enum err wal_open(struct wal **out, const struct wal_config *cfg, struct wal_report *report);
/* Writes the mark; the helper thread ends. Cursors must be closed before. Accepts NULL. */
void wal_close(struct wal *w);

/* One group commit: frame + records in one pwritev, then one fdatasync. records holds n whole records from first_lsn
 * on, the one after the log's last; chain is that of the last. On ERR_OK all of them are durable. ERR_MISCONF: sticky,
 * see above. Nothing was written and the log is as it was on: ERR_CORRUPT (the records are not what the arguments say,
 * or the log is damaged), ERR_TOOBIG (over WAL_SEGMENT_MAX_BYTES), ERR_OOM (only when the term changes). Starts the
 * next segment by itself; a group larger than a segment gets one of fitting size. Blocks. */
must_use enum err wal_append(struct wal *w, struct bytes records, uint32_t n, uint64_t first_lsn,
                             const uint8_t chain[RECORD_CHAIN_BYTES]);

/* ERR_OK when bytes more of records (all that are not appended yet) are sure to find room, however they are grouped;
 * ERR_MISCONF when not (disk full, damaged, or a sticky failure). While the next segment is being prepared the free
 * disk space of the last tick counts as room. Cheap, never blocks. */
must_use enum err wal_room(struct wal *w, uint64_t bytes);

/* Cuts off all records after lsn, so that the log goes on from lsn: for a replica whose tail the cell did not commit.
 * The owner answers for nothing applied being above it. On ERR_OK the cut is durable. A crash in between leaves a
 * longer log, never a shorter or a damaged one. Cursors above lsn answer ERR_NOTFOUND. ERR_NOTFOUND: lsn is not first -
 * 1 to last; ERR_CORRUPT: damaged; ERR_MISCONF: sticky. Blocks: up to a segment is written anew. */
must_use enum err wal_cut(struct wal *w, uint64_t lsn);

struct wal_info {
    uint64_t first_lsn, last_lsn, bytes; /* as in wal_report; bytes of headers, frames and footers on disk */
    uint64_t fsyncs, groups, records, appended_bytes; /* since open */
    uint32_t term;
    unsigned segments;
    uint8_t chain[RECORD_CHAIN_BYTES];
    uint64_t unverified_bytes; /* in segments of which only the ends were read so far */
    int failed;                /* sticky */
    uint64_t damaged_lsn;
};
void wal_info(struct wal *w, struct wal_info *out);

/* Term of the record at lsn, any from first to last; 0 when unknown. Blocks when its segment was not verified yet. */
uint32_t wal_term_at(struct wal *w, uint64_t lsn);

/* Where the last record's term begins, and the term of the record in front of that. 0: there is none, or the log begins
 * later. Blocks when that segment was not verified yet. */
int wal_last_turn(struct wal *w, uint64_t *first_lsn, uint32_t *before);

/* 1 when lsn is the one in front of the log's first record; chain is what that one chains from, *term that record's, 0
 * where it is not known. */
int wal_base(struct wal *w, uint64_t lsn, uint8_t chain[RECORD_CHAIN_BYTES], uint32_t *term);

/* Reads records from lsn on, verifying CRC and chain as it goes. ERR_NOTFOUND: older than the first, or beyond the
 * last + 1; ERR_OOM. Does not block. */
struct wal_cursor;
must_use enum err wal_cursor_open(struct wal_cursor **out, struct wal *w, uint64_t lsn);
/* The next record; it and *raw (its bytes on disk) live until the next call. ERR_END at the durable end (more may come
 * later: call again), ERR_CORRUPT with r->lsn set to the LSN that does not verify, ERR_NOTFOUND when it was removed or
 * cut meanwhile, ERR_IO and ERR_OOM (call again to try again). Blocks on reads. */
must_use enum err wal_cursor_next(struct wal_cursor *c, struct record *r, struct bytes *raw);
void wal_cursor_close(struct wal_cursor *c); /* accepts NULL */

/* The record at lsn, whole and verified, appended to out. As a cursor's first step: ERR_NOTFOUND (below the first, or
 * not durable yet), ERR_CORRUPT, ERR_IO, ERR_OOM. Any thread. Blocks: reads some 8 KiB of the segment, all of it when
 * it was not verified yet. */
must_use enum err wal_read(struct wal *w, uint64_t lsn, struct buf *out);

/* Reads records by their LSN in any order, many of them: the values of keys in the order of the keys (snapmerge.h). It
 * keeps some segments open and looks first at what it read last. Cheaper than wal_read, since no chain is followed: the
 * record's own CRC and LSN are checked. That finds rot; an altered log is what wal_open and cursors find. */
struct wal_reader;
must_use enum err wal_reader_open(struct wal_reader **out, struct wal *w); /* ERR_OOM */
/* *r lives until the next call. As wal_read: ERR_NOTFOUND, ERR_CORRUPT, ERR_IO, ERR_OOM; call again to try again. One
 * thread at a time. Blocks. */
must_use enum err wal_reader_read(struct wal_reader *rd, uint64_t lsn, struct record *r);
void wal_reader_close(struct wal_reader *rd); /* before the log is closed; accepts NULL */

/* Reads a sealed segment from the disk: the first one that ends at or behind from_lsn. Header, every record's CRC and
 * chain, footer, and that it joins its neighbours as the log knows them. *first_lsn and *last_lsn say which one it was.
 * pace: after so many bytes, may wait; its errors end the reading. ERR_END: there is none any more. ERR_CORRUPT.
 * ERR_IO, ERR_OOM. Any thread, also while the segment is removed. Leaves nothing of it in the page cache. Blocks. From
 * then on it counts as verified, also with damage. */
must_use enum err wal_verify_segment(struct wal *w, uint64_t from_lsn, enum err (*pace)(void *arg, uint64_t bytes),
                                     void *pace_arg, uint64_t *first_lsn, uint64_t *last_lsn);
/* First LSN of the newest segment of which only the ends were read; 0: none is left. */
uint64_t wal_unverified_lsn(struct wal *w);

/* Records of this log that somebody else has: appends to out whole ones, from from_lsn on, at least one and none behind
 * to_lsn, 16 MiB at most. Its errors are wal_mend's. */
typedef enum err wal_records_fn(void *arg, uint64_t from_lsn, uint64_t to_lsn, struct buf *out);

/* Writes the sealed segment that lsn is in anew, from records that somebody else has, because the disk does not give
 * its own any more. They are taken when they lead from the chain in front of the segment to the one in front of the
 * next: then they are the very same. The file is durable and was read back before it takes the other one's name.
 * ERR_OK: the segment is whole; cursors and readers go on. Nothing has changed: ERR_CORRUPT (those are other records,
 * or the log was damaged at its open), ERR_NOTFOUND (lsn is in no sealed segment, or not any more), ERR_MISCONF (no
 * room), ERR_IO, ERR_OOM. ERR_MISCONF when wal_info says failed: sticky, it may be either file. Blocks. */
must_use enum err wal_mend(struct wal *w, uint64_t lsn, wal_records_fn *records, void *arg);

/* Deletes sealed segments all of whose records are below lsn, oldest first, the directory synced after each so that a
 * power loss leaves no hole. Never the one being written. ERR_CORRUPT: damaged, nothing is deleted; ERR_IO, ERR_MISCONF
 * (sticky: a sync failed). Blocks. */
must_use enum err wal_remove_below(struct wal *w, uint64_t lsn);

#endif
