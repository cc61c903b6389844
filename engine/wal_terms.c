/* wal_terms.c - see wal_terms.h. */
#include "engine/wal_terms.h"

#include <assert.h>

#include "base/mem.h"

void wal_terms_fini(struct wal_terms *t)
{
    mem_free(t->rows);
    *t = (struct wal_terms){0};
}

enum err wal_terms_reserve(struct wal_terms *t, size_t more)
{
    if (t->room - t->count >= more)
        return ERR_OK;
    size_t room = t->count + more + 16;
    struct wal_terms_row *rows = mem_realloc(t->rows, room * sizeof *rows);
    if (!rows)
        return ERR_OOM;
    t->rows = rows;
    t->room = room;
    return ERR_OK;
}

void wal_terms_add(struct wal_terms *t, uint64_t lsn, uint32_t term)
{
    if (t->count && t->rows[t->count - 1].term == term)
        return;
    assert(t->count < t->room && (t->count == 0 || t->rows[t->count - 1].first_lsn < lsn));
    t->rows[t->count++] = (struct wal_terms_row){.first_lsn = lsn, .term = term};
}

void wal_terms_cut(struct wal_terms *t, uint64_t last_lsn)
{
    while (t->count && t->rows[t->count - 1].first_lsn > last_lsn)
        t->count--;
}

uint32_t wal_terms_at(const struct wal_terms *t, uint64_t lsn)
{
    size_t low = 0, high = t->count; /* rows before low begin at or below lsn, rows from high on above it */
    while (low < high) {
        size_t mid = low + (high - low) / 2;
        if (t->rows[mid].first_lsn <= lsn)
            low = mid + 1;
        else
            high = mid;
    }
    return low ? t->rows[low - 1].term : 0;
}
