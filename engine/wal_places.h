/* wal_places.h - where records lie in a segment: an index with a row for every 8 KiB or so, so that a record is found
 * by its LSN without reading the segment from its beginning. A row missing costs time, never correctness.
 *
 * One thread at a time.
 */
#ifndef COFFER_ENGINE_WAL_PLACES_H
#define COFFER_ENGINE_WAL_PLACES_H

#include <stddef.h>
#include <stdint.h>

#define WAL_PLACES_EVERY_BYTES (8u << 10)

struct wal_place {
    uint64_t lsn;
    uint32_t off, frame_off; /* the record's, and that of the frame which it is in; segments are at most 1 GiB */
};

struct wal_places {
    struct wal_place *rows;
    uint32_t count, room;
};

void wal_places_fini(struct wal_places *p); /* leaves an empty index */

/* The record lsn begins at off; in order of LSN. Kept when it is far enough from the row before, and memory allows. */
void wal_places_note(struct wal_places *p, uint64_t lsn, uint64_t off, uint64_t frame_off);
void wal_places_cut(struct wal_places *p, uint64_t end_off); /* forgets what begins at or behind end_off */
/* The last row at or below lsn; NULL: from the segment's beginning. */
const struct wal_place *wal_places_before(const struct wal_places *p, uint64_t lsn);

#endif
