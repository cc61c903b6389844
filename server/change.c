/* change.c - see change.h. */
#include "server/change.h"

#include <assert.h>

#include "base/mem.h"
#include "server/conn.h"
#include "server/io.h"
#include "server/server.h"

static size_t change_size(unsigned steps, size_t keep_bytes)
{
    return sizeof(struct change) + steps * sizeof(struct step) + keep_bytes;
}

static void change_init(struct change *ch, unsigned steps, size_t keep_bytes)
{
    memset(ch, 0, sizeof *ch + steps * sizeof(struct step));
    ch->step = (struct step *)(void *)(ch + 1);
    ch->w.step = ch->step;
    ch->w.steps = steps;
    ch->keep = (uint8_t *)(ch->step + steps);
    ch->keep_end = ch->keep + keep_bytes;
}

enum err change_new(unsigned steps, size_t keep_bytes, struct change **out)
{
    *out = mem_alloc(change_size(steps, keep_bytes));
    if (!*out)
        return ERR_OOM;
    change_init(*out, steps, keep_bytes);
    return ERR_OK;
}

enum err change_new_set(struct dek *d, struct bytes value, size_t keep_bytes, struct change **out)
{
    void *extra;
    struct plain *plain;
    *out = NULL;
    enum err err = plain_new(d, value, change_size(1, keep_bytes), &extra, &plain);
    if (err) {
        dek_unref(d);
        return err;
    }
    *out = extra;
    change_init(*out, 1, keep_bytes);
    (*out)->home = plain;
    (*out)->step[0].plain = plain;
    return ERR_OK;
}

void change_free(struct change *ch)
{
    if (!ch)
        return;
    struct plain *home = ch->home;
    for (unsigned i = 0; i < ch->w.steps; i++) {
        blob_unref(ch->step[i].old.hold);
        if (ch->step[i].plain != home)
            plain_free(ch->step[i].plain);
    }
    if (home)
        plain_free(home);
    else
        mem_free(ch);
}

struct bytes change_keep(struct change *ch, struct bytes b)
{
    assert(b.n <= (size_t)(ch->keep_end - ch->keep));
    struct bytes kept = bytes_of(ch->keep, b.n);
    if (b.n)
        memcpy(ch->keep, b.p, b.n);
    ch->keep += b.n;
    return kept;
}

void change_error(struct reply *r, const struct write *w)
{
    if (w->err == ERR_UNCERTAIN)
        reply_errorf(r, err_prefix(w->err), "%llu %lu: %s", (unsigned long long)w->lsn, (unsigned long)w->term,
                     err_text(w->err));
    else
        reply_error(r, w->err);
}

static void change_finish(struct pending *p, struct reply *r)
{
    struct change *ch = mpsc_entry(p, struct change, p);
    if (ch->w.lsn)
        conn_saw_lsn(p->conn, ch->w.lsn);
    if (ch->w.err)
        change_error(r, &ch->w);
    else
        ch->answer(ch, r);
}

static void change_release(struct pending *p)
{
    change_free(mpsc_entry(p, struct change, p));
}

static void change_done(struct write *w)
{
    pending_complete(&((struct change *)w->arg)->p);
}

enum call_result change_submit(struct call *c, struct change *ch, struct vault *v,
                               void (*answer)(struct change *ch, struct reply *r))
{
    ch->w.vault = v;
    ch->w.done = change_done;
    ch->w.arg = ch;
    ch->answer = answer;
    ch->io = c->io;
    call_pending(c, &ch->p, change_finish, change_release);
    io_submit(c->io, &ch->w);
    return CALL_PENDING;
}

void change_reply_old(struct change *ch, struct step *s, struct reply *r)
{
    uint8_t *room;
    if (!s->old.hold) {
        reply_nil(r);
        return;
    }
    struct seal_bind bind = {.vault = ch->w.vault->id, .version = s->old.version, .path = s->path};
    if (reply_bulk_begin(r, sealed_plain_len(s->old.value), &room))
        return;
    enum err err = opener_open(io_opener(ch->io), s->old.value, &bind, room);
    if (err == ERR_OK) {
        reply_bulk_end(r);
    } else {
        reply_bulk_abandon(r);
        reply_errorf(r, err_prefix(err == ERR_AGAIN ? ERR_HSMDOWN : err),
                     "the change was made, but the old value cannot be opened");
    }
}
