/* valueedit.c - see valueedit.h. */
#include "server/valueedit.h"

#include "server/access.h"
#include "server/dek.h"
#include "server/server.h"

const char value_too_long[] = "string exceeds maximum allowed size (secret-max-bytes)";

enum err value_edit_new(struct call *c, struct bytes operand, size_t room, edit_fn fn, enum key_event event,
                        struct facade_key *k, struct change **out)
{
    struct dek *d;
    enum err err = facade_resolve(c, c->argv[1], 1, k);
    if (err == ERR_OK)
        err = access_openable(c, k->vault, k->path);
    if (err == ERR_OK)
        err = deks_writer(c->srv->deks, c, k->vault, &d);
    if (err == ERR_OK)
        err = change_new_edit(d, 1, k->path.n + operand.n + room, fn, out);
    if (err)
        return err;
    struct change *ch = *out;
    ch->out = change_keep(ch, operand);
    ch->step[0] = change_edit_step(ch, 0, k->path);
    ch->step[0].flags |= SET_KEEPTTL;
    ch->step[0].event = (uint8_t)event;
    return ERR_OK;
}

enum err value_edit_refuse(struct change *ch, const char *why)
{
    ch->why = why;
    return ERR_RANGE;
}

enum err value_edit_grown(struct change *ch, enum err err)
{
    return err == ERR_TOOBIG ? value_edit_refuse(ch, value_too_long) : err;
}

enum err value_edit_extend(struct change *ch, struct buf *value, size_t n)
{
    size_t had = buf_size(value);
    uint8_t *room;
    if (n <= had)
        return ERR_OK;
    enum err err = buf_reserve(value, n - had, &room);
    if (err)
        return value_edit_grown(ch, err);
    memset(room, 0, n - had);
    buf_added(value, n - had);
    return ERR_OK;
}

void value_edit_answer(struct change *ch, struct reply *r)
{
    reply_int(r, ch->arg);
}
