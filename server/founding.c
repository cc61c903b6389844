/* founding.c - see founding.h. */
#include "server/founding.h"

void founding_init(struct founding *f, unsigned voters, int self, const uint8_t *own)
{
    *f = (struct founding){.voters = voters, .self = self};
    if (self < 0)
        return;
    f->seen[self] = (struct founding_seen){.seen = 1, .was_blank = 1, .is_blank = 1, .has_cell = own != NULL};
    if (own)
        memcpy(f->seen[self].cell_id, own, 16);
}

void founding_saw(struct founding *f, const struct hello_node *theirs)
{
    struct founding_seen *s = &f->seen[theirs->index >= 0 ? theirs->index : CELL_VOTERS];
    s->seen = 1;
    s->was_blank |= theirs->blank;
    s->is_blank = theirs->blank;
    s->mute = theirs->mute;
    s->ready = theirs->ready;
    s->has_cell = theirs->has_cell;
    memcpy(s->cell_id, theirs->cell_id, sizeof s->cell_id);
}

static int all_were_blank(const struct founding *f)
{
    for (unsigned i = 0; i < f->voters; i++)
        if (!f->seen[i].was_blank)
            return 0;
    return f->self >= 0;
}

/* The first with an id, blank or not. */
static const struct founding_seen *first_with_cell(const struct founding *f, int blank_too)
{
    for (unsigned i = 0; i <= CELL_VOTERS; i++)
        if (f->seen[i].has_cell && (blank_too || !f->seen[i].is_blank))
            return &f->seen[i];
    return NULL;
}

enum founding_verdict founding_look(const struct founding *f, uint8_t cell_id[16])
{
    int begins = all_were_blank(f);
    const struct founding_seen *with = first_with_cell(f, begins);
    if (!with)
        return begins && f->self == 0 ? FOUNDING_MAKE : FOUNDING_WAIT;
    memcpy(cell_id, with->cell_id, 16);
    return begins ? FOUNDING_BEGIN : FOUNDING_JOIN;
}

int founding_is_sound(const struct founding *f, unsigned voter, const uint8_t cell_id[16])
{
    const struct founding_seen *s = &f->seen[voter];
    return (int)voter != f->self && s->ready && !s->mute && !s->is_blank &&
           bytes_equal(bytes_of(s->cell_id, 16), bytes_of(cell_id, 16));
}

unsigned founding_sound(const struct founding *f, const uint8_t cell_id[16])
{
    unsigned n = 0;
    for (unsigned i = 0; i < f->voters; i++)
        n += (unsigned)founding_is_sound(f, i, cell_id);
    return n;
}
