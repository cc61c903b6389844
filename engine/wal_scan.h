/* wal_scan.h - reading a log that was found: what each segment holds, and the verdict over all: sound, torn or damaged.
 *
 * A segment is scanned whole, or by its ends alone: header and footer say where it begins and ends, how many records it
 * has, and the chain at both ends. What lies between is verified later then (wal.h, "Lazily").
 *
 * Two steps, so that the rules of wal.h are a function without input and output: wal_scan_dir reads all segments, in
 * parallel, each on its own; wal_scan_judge looks at what was found in order, and at the evidence of what was durable.
 */
#ifndef COFFER_ENGINE_WAL_SCAN_H
#define COFFER_ENGINE_WAL_SCAN_H

#include "engine/wal_places.h"
#include "engine/wal_segment.h"
#include "engine/wal_terms.h"

/* One segment. "Group" is a frame with all its records verified, from the front on without a gap. */
struct wal_scan {
    uint64_t name_lsn; /* from the file's name */
    int ends_only;     /* 1: as its ends say; terms and places are empty */
    uint64_t file_bytes;
    enum err header_err; /* ERR_OK; ERR_CORRUPT: rot; ERR_UNSUPPORTED: another format. All below is zero then. */
    struct wal_header header;
    uint64_t records;           /* in groups */
    uint64_t last_lsn, end_off; /* of the last group; header.first_lsn - 1 and the header's end when there is none */
    uint8_t chain[RECORD_CHAIN_BYTES]; /* at last_lsn */
    int sealed;                        /* the footer is there and agrees */
    uint64_t rest_off, rest_bytes;     /* behind the groups and the footer, up to the last byte that is not zero */
    uint64_t part_lsn, part_off; /* as last_lsn and end_off, with the records that verify in a group that does not */
    uint8_t part_chain[RECORD_CHAIN_BYTES];
    uint64_t synced_lsn;      /* highest in any frame header that verifies, in the rest too */
    struct wal_terms terms;   /* up to part_lsn */
    struct wal_places places; /* likewise */
};

struct wal_scan_set {
    struct wal_scan *at; /* by name_lsn */
    size_t count;
};

/* Every segment in dir: synced, dropped from the page cache and read. ends: only the last two (the last may have no
 * record yet), and those whose ends do not verify. ERR_IO, ERR_OOM: set is empty. Blocks. */
must_use enum err wal_scan_dir(struct wal_scan_set *set, const char *dir, int ends);
void wal_scan_fini(struct wal_scan_set *set);

/* One segment's file; fd is borrowed. pace as a window's. ERR_IO, ERR_OOM, pace's errors; what does not verify is no
 * error but what it is for. */
must_use enum err wal_scan_file(struct wal_scan *s, int fd, uint64_t name_lsn,
                                enum err (*pace)(void *arg, uint64_t bytes), void *pace_arg);
void wal_scan_free(struct wal_scan *s); /* what it holds */

struct wal_evidence {
    uint8_t cell_id[16];
    uint64_t base_lsn;
    uint8_t base_chain[RECORD_CHAIN_BYTES];
    uint64_t known_lsn; /* the caller's, and the mark file's */
};

struct wal_verdict {
    size_t usable; /* segments that are in the log: all, or up to the damage */
    uint64_t first_lsn, last_lsn, damaged_lsn, torn_bytes, mark_lsn; /* as in wal_report */
    uint64_t end_off; /* where the last usable segment's verified records end */
    uint8_t chain[RECORD_CHAIN_BYTES];
    const char *why; /* damage, or why the log is refused: a static text */
    size_t where;    /* the segment it is about */
};

/* ERR_CORRUPT: a segment of another cell or format, the log is not to be opened (why says which). */
must_use enum err wal_scan_judge(const struct wal_scan_set *set, const struct wal_evidence *known,
                                 struct wal_verdict *v);

#endif
