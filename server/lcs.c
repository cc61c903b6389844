/* lcs.c - see lcs.h. The usual table of the lengths of all pairs of beginnings, of which one row is kept, and a bit of
 * each of the others. A length is at most the shorter value's, 4,096. */
#include "server/lcs.h"

#include "base/mem.h"

static void note_up(struct lcs *l, size_t cell)
{
    l->up[cell / 8] |= (uint8_t)(1u << cell % 8);
}

/* row[j]: the length of what a's first i bytes have in common with b's first j. */
static void fill(struct lcs *l, uint16_t *row)
{
    for (size_t i = 0; i < l->a.n; i++) {
        uint16_t corner = 0; /* row[j] as it was for i - 1 */
        for (size_t j = 0; j < l->b.n; j++) {
            uint16_t above = row[j + 1];
            if (l->a.p[i] == l->b.p[j])
                row[j + 1] = (uint16_t)(corner + 1);
            else if (above <= row[j])
                row[j + 1] = row[j];
            else if (l->up)
                note_up(l, i * l->b.n + j);
            corner = above;
        }
    }
    l->length = row[l->b.n];
}

enum err lcs_init(struct lcs *l, struct bytes a, struct bytes b, int matches)
{
    *l = (struct lcs){.a = a, .b = b, .i = a.n, .j = b.n};
    if (!a.n || !b.n)
        return ERR_OK;
    if (a.n > LCS_CELLS_MAX / b.n)
        return ERR_TOOBIG;
    size_t row_bytes = (b.n + 1) * sizeof(uint16_t);
    uint16_t *row = mem_secret_alloc(row_bytes);
    if (!row)
        return ERR_OOM;
    if (matches) {
        l->up_bytes = (a.n * b.n + 7) / 8;
        l->up = mem_secret_alloc(l->up_bytes);
    }
    if (l->up)
        memset(l->up, 0, l->up_bytes);
    memset(row, 0, row_bytes);
    if (l->up || !matches)
        fill(l, row);
    mem_secret_free(row, row_bytes);
    return l->up || !matches ? ERR_OK : ERR_OOM;
}

void lcs_fini(struct lcs *l)
{
    mem_secret_free(l->up, l->up_bytes);
    *l = (struct lcs){0};
}

static int same_before(const struct lcs *l)
{
    return l->i && l->j && l->a.p[l->i - 1] == l->b.p[l->j - 1];
}

int lcs_next(struct lcs *l, struct lcs_match *m)
{
    *m = (struct lcs_match){0};
    while (l->i && l->j && !same_before(l)) {
        size_t cell = (l->i - 1) * l->b.n + l->j - 1;
        if (l->up[cell / 8] >> cell % 8 & 1)
            l->i--;
        else
            l->j--;
    }
    while (same_before(l)) {
        l->i--;
        l->j--;
        m->n++;
    }
    m->a = l->i;
    m->b = l->j;
    return m->n != 0;
}
