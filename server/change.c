/* change.c - see change.h. */
#include "server/change.h"

#include <assert.h>
#include <pthread.h>

#include "base/mem.h"
#include "server/conn.h"
#include "server/io.h"
#include "server/keyevent.h"
#include "server/multi.h"
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

/* The keys of a change may be in the way of a secret (APPEND's argument): all of it is locked. */
enum err change_new_edit(struct dek *d, unsigned steps, size_t keep_bytes, edit_fn fn, struct change **out)
{
    size_t n = change_size(steps, keep_bytes);
    *out = mem_secret_alloc(n);
    if (!*out) {
        dek_unref(d);
        return ERR_OOM;
    }
    change_init(*out, steps, keep_bytes);
    (*out)->secret_bytes = n;
    (*out)->dek = d;
    (*out)->edit = fn;
    return ERR_OK;
}

void change_free(struct change *ch)
{
    if (!ch)
        return;
    struct plain *home = ch->home;
    for (unsigned i = 0; i < ch->w.steps; i++) {
        blob_unref(ch->step[i].old.hold);
        blob_unref(ch->step[i].head);
        if (ch->step[i].plain != home)
            plain_free(ch->step[i].plain);
    }
    dek_unref(ch->dek);
    if (home)
        plain_free(home);
    else if (ch->secret_bytes)
        mem_secret_free(ch, ch->secret_bytes);
    else
        mem_free(ch);
}

/* ---- edits ---- */

static struct {
    pthread_mutex_t lock; /* the sequencer is one thread at a time; the other is a timer's */
    struct opener *opener;
    struct buf value;
} editor = {.lock = PTHREAD_MUTEX_INITIALIZER};

#define EDITOR_KEEP_BYTES 4096

enum err change_editor_init(struct keyring *k, size_t value_max_bytes)
{
    buf_init_secret(&editor.value, value_max_bytes);
    return opener_new(&editor.opener, k);
}

void change_editor_fini(void)
{
    if (editor.opener)
        opener_free(editor.opener);
    editor.opener = NULL;
    buf_fini(&editor.value);
}

void change_editor_drop_stale(void)
{
    pthread_mutex_lock(&editor.lock);
    if (editor.opener)
        opener_drop_stale(editor.opener);
    pthread_mutex_unlock(&editor.lock);
}

/* The value that `from` handed out. The editor is locked. */
static enum err open_old(const struct step *from, const struct vault *v, struct buf *out)
{
    uint8_t *room;
    struct seal_bind bind = {.vault = v->id, .version = from->old.version, .path = from->path};
    size_t n = sealed_plain_len(from->old.value);
    enum err err = from->old.hold ? buf_reserve(out, n, &room) : ERR_OK;
    if (err || !from->old.hold)
        return err;
    if ((err = opener_open(editor.opener, from->old.value, &bind, room)) == ERR_OK)
        buf_added(out, n);
    return err == ERR_AGAIN ? ERR_HSMDOWN : err; /* its data key was there when the command came, and went since */
}

enum err change_open_old(const struct step *from, struct buf *out)
{
    return open_old(from, from->vault, out);
}

static enum err edit_locked(struct change *ch, struct step *s, struct vault *v)
{
    const struct step *from = s - ch->edit_of;
    enum err err = open_old(from, from->vault ? from->vault : v, &editor.value);
    if (err == ERR_OK)
        err = ch->edit(ch, s, from->old.hold != NULL, &editor.value);
    if (err || s->nil)
        return err;
    if ((err = plain_new(ch->dek, buf_bytes(&editor.value), 0, NULL, &s->plain)) == ERR_OK)
        ch->dek = NULL; /* the plain's now */
    return err == ERR_AGAIN ? ERR_HSMDOWN : err;
}

static enum err edit_now(struct step *s, struct vault *v)
{
    pthread_mutex_lock(&editor.lock);
    enum err err = editor.opener ? edit_locked(s->arg, s, v) : ERR_SEALED;
    buf_clear(&editor.value);
    buf_shrink(&editor.value, EDITOR_KEEP_BYTES);
    pthread_mutex_unlock(&editor.lock);
    return err;
}

struct step change_edit_step(struct change *ch, unsigned edit_of, struct bytes path)
{
    ch->edit_of = edit_of;
    return (struct step){.kind = STEP_SECRET_SET,
                         .flags = edit_of ? 0 : SET_OLD,
                         .path = change_keep(ch, path),
                         .edit = edit_now,
                         .arg = ch};
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
    if (w->err == ERR_UNCERTAIN || w->err == ERR_ROLLEDBACK)
        reply_errorf(r, err_prefix(w->err), "%llu %lu: %s", (unsigned long long)w->lsn, (unsigned long)w->term,
                     err_text(w->err));
    else
        reply_error(r, w->err);
}

void change_reply(struct change *ch, struct reply *r)
{
    if (ch->w.err && ch->why)
        reply_error_text(r, err_prefix(ERR_SYNTAX), bytes_str(ch->why));
    else if (ch->w.err)
        change_error(r, &ch->w);
    else
        ch->answer(ch, r);
}

struct vault *change_vault(const struct change *ch, const struct step *s)
{
    return s->vault ? s->vault : ch->w.vault;
}

static void change_finish(struct pending *p, struct reply *r)
{
    struct change *ch = mpsc_entry(p, struct change, p);
    if (ch->w.lsn)
        conn_saw_lsn(p->conn, ch->w.lsn);
    change_reply(ch, r);
}

static void change_release(struct pending *p)
{
    change_free(mpsc_entry(p, struct change, p));
}

static void change_done(struct write *w)
{
    struct change *ch = w->arg;
    if (w->lsn && keyevent_wanted())
        keyevent_of_change(ch);
    pending_complete(&ch->p);
}

enum call_result change_submit(struct call *c, struct change *ch, struct vault *v,
                               void (*answer)(struct change *ch, struct reply *r))
{
    ch->w.vault = v;
    ch->w.by = conn_id(c->conn);
    ch->answer = answer;
    ch->io = c->io;
    if (c->exec) {
        multi_collect(c->exec, ch);
        return CALL_PENDING;
    }
    ch->w.done = change_done;
    ch->w.arg = ch;
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
    struct seal_bind bind = {.vault = change_vault(ch, s)->id, .version = s->old.version, .path = s->path};
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
