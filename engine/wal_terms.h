/* wal_terms.h - which term an LSN is of: a sorted list of the LSNs at which a term begins. A log has few of them.
 * One thread at a time. */
#ifndef COFFER_ENGINE_WAL_TERMS_H
#define COFFER_ENGINE_WAL_TERMS_H

#include <stddef.h>
#include <stdint.h>

#include "base/err.h"

struct wal_terms {
    struct wal_terms_row {
        uint64_t first_lsn;
        uint32_t term;
    } * rows;
    size_t count, room;
};

void wal_terms_fini(struct wal_terms *t); /* leaves an empty table */

must_use enum err wal_terms_reserve(struct wal_terms *t, size_t more); /* ERR_OOM changes nothing */
/* Notes that the record at lsn, which is above all noted so far, is of term: a new row when the last one is of another.
 * Room for it must be reserved. */
void wal_terms_add(struct wal_terms *t, uint64_t lsn, uint32_t term);
void wal_terms_cut(struct wal_terms *t, uint64_t last_lsn);     /* forgets what begins above last_lsn */
uint32_t wal_terms_at(const struct wal_terms *t, uint64_t lsn); /* 0: below the first row */

#endif
