/* lcs.h - the longest common subsequence of two values, as Redis's LCS finds it: of several that are equally long the
 * same one.
 *
 *     lcs_init -> lcs.length, lcs_next until it is 0 -> lcs_fini
 *
 * Time is the product of the lengths, and so is the way back, a bit each, which is needed for matches only; it tells
 * of the values, so it is in locked memory. The product is bounded by LCS_CELLS_MAX: 4,096 bytes each, for instance.
 * That takes some 50 ms and 2 MiB. One thread at a time.
 */
#ifndef COFFER_SERVER_LCS_H
#define COFFER_SERVER_LCS_H

#include "base/bytes.h"
#include "base/err.h"

#define LCS_CELLS_MAX ((size_t)1 << 24)

struct lcs {
    struct bytes a, b; /* borrowed */
    size_t length;     /* of what they have in common */
    size_t i, j;       /* lcs_next: what is left of them */
    uint8_t *up;       /* private: a bit for each pair of bytes, 1: the way back leads to the one before in a */
    size_t up_bytes;
};

/* a stretch that is the same in both, a part of the sequence */
struct lcs_match {
    size_t a, b, n; /* where it begins; how long it is */
};

/* matches 0: only the length is wanted. ERR_TOOBIG: over LCS_CELLS_MAX, nothing was computed; ERR_OOM. */
must_use enum err lcs_init(struct lcs *l, struct bytes a, struct bytes b, int matches);
void lcs_fini(struct lcs *l); /* wipes; also after an error */
/* The next match, from the end to the beginning; all of them are the sequence. 0: there is none left. */
int lcs_next(struct lcs *l, struct lcs_match *m);

#endif
