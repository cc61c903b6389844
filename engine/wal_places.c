/* wal_places.c - see wal_places.h. */
#include "engine/wal_places.h"

#include "base/mem.h"

void wal_places_fini(struct wal_places *p)
{
    mem_free(p->rows);
    *p = (struct wal_places){0};
}

void wal_places_note(struct wal_places *p, uint64_t lsn, uint64_t off, uint64_t frame_off)
{
    if (off - (p->count ? p->rows[p->count - 1].off : 0) < WAL_PLACES_EVERY_BYTES)
        return;
    if (p->count == p->room) {
        uint32_t room = p->room ? p->room * 2 : 16;
        struct wal_place *rows = mem_realloc(p->rows, room * sizeof *rows);
        if (!rows)
            return;
        p->rows = rows;
        p->room = room;
    }
    p->rows[p->count++] = (struct wal_place){.lsn = lsn, .off = (uint32_t)off, .frame_off = (uint32_t)frame_off};
}

void wal_places_cut(struct wal_places *p, uint64_t end_off)
{
    while (p->count && p->rows[p->count - 1].off >= end_off)
        p->count--;
}

const struct wal_place *wal_places_before(const struct wal_places *p, uint64_t lsn)
{
    uint32_t low = 0, high = p->count; /* rows before low are at or below lsn, rows from high on above it */
    while (low < high) {
        uint32_t mid = low + (high - low) / 2;
        if (p->rows[mid].lsn <= lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? &p->rows[low - 1] : NULL;
}
