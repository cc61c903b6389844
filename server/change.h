/* change.h - a command that writes: one struct write with its steps, its pending answer and the bytes they borrow, in
 * one allocation.
 *
 *     struct change *ch;
 *     if ((e = change_new(c, 1, bytes to keep, &ch)))        or change_new_set() for the common case of one new secret
 * value return call_error(c, e); ch->step[0] = (struct step){.kind = ..., .path = change_keep(ch, argv[2])}; return
 * change_submit(c, ch, vault, answer);
 *
 * answer() runs on the I/O thread when the write is committed, and writes the reply; errors are answered here.
 * Plaintext travels in the steps' struct plain, in locked memory, and is freed with the change.
 *
 * **An edit** makes the new value of the one that is there: APPEND, INCR, RENAME. It is a step whose edit() the
 * sequencer calls, so a pipeline of INCRs shares a group commit like any writes, nothing is read and written back, and
 * no two edits meet:
 *
 *     change_new_edit(d, 1, bytes to keep, fn, &ch); ch->step[0] = change_edit_step(ch, 0, path); ... change_submit
 *
 * Inside a transaction (multi.h) change_submit only collects: all changes of an EXEC are one write. A handler need not
 * know.
 */
#ifndef COFFER_SERVER_CHANGE_H
#define COFFER_SERVER_CHANGE_H

#include "engine/engine.h"
#include "hsm/seal.h"
#include "server/call.h"

struct change;
/* value is what is there (empty when there is nothing), in locked memory; it is changed in place. there: 0: nothing is
 * there. ERR_OK: value is the new one, or s->nil was set. Else nothing is written; ch->why says what to answer. On the
 * sequencer: no blocking. */
typedef enum err (*edit_fn)(struct change *ch, struct step *s, int there, struct buf *value);

struct change {
    struct pending p;
    struct write w;
    struct step *step;
    void (*answer)(struct change *ch, struct reply *r);
    struct io *io;
    struct plain *home;  /* the plain that this struct lies in front of, or NULL ... */
    size_t secret_bytes; /* ... from mem_secret_alloc, or, 0, from mem_alloc */
    uint8_t *keep, *keep_end;
    int64_t arg;     /* for answer() */
    struct dek *dek; /* of an edit: what the new value will be sealed under */
    edit_fn edit;
    unsigned edit_of;    /* it is about the value of so many steps before */
    const char *why;     /* -ERR text when the edit refused */
    struct bytes out;    /* of the edit, in keep */
    struct change *next; /* of a transaction's */
};

/* Room for steps and keep_bytes of borrowed bytes. ERR_OOM. */
must_use enum err change_new(unsigned steps, size_t keep_bytes, struct change **out);
/* The same for one step that seals value under d (taken over): step[0].plain is set. ERR_OOM, ERR_AGAIN (d is used up),
 * ERR_TOOBIG; d is released then. */
must_use enum err change_new_set(struct dek *d, struct bytes value, size_t keep_bytes, struct change **out);
/* The same for steps of which one is an edit; in locked memory, so that what is kept may be plaintext. d is taken over,
 * also on failure. ERR_OOM. */
must_use enum err change_new_edit(struct dek *d, unsigned steps, size_t keep_bytes, edit_fn fn, struct change **out);
/* A SET step that is ch's edit, of the value that the step so many before it read (0: its own old one). */
struct step change_edit_step(struct change *ch, unsigned edit_of, struct bytes path);
void change_free(struct change *ch);

/* Copies b behind the change; lives as long as it. Asserts that keep_bytes were enough. */
struct bytes change_keep(struct change *ch, struct bytes b);

/* Hands it to the sequencer. Returns CALL_PENDING. v NULL only for VAULT_CREATE. */
enum call_result change_submit(struct call *c, struct change *ch, struct vault *v,
                               void (*answer)(struct change *ch, struct reply *r));

/* Writes the reply: answer(), or the error that w.err is. On the I/O thread. */
void change_reply(struct change *ch, struct reply *r);
/* The vault that a step was about. */
struct vault *change_vault(const struct change *ch, const struct step *s);

/* In an edit whose step is of several: the value that another one's SET_OLD handed out, appended to out, a secret
 * buffer; nothing when there was none. Its vault must be set. */
must_use enum err change_open_old(const struct step *from, struct buf *out);

/* The one opener for edits, on whatever thread the sequencer is; the scratch that values are edited in. One in a
 * process. ERR_OOM. */
must_use enum err change_editor_init(struct keyring *k, size_t value_max_bytes);
void change_editor_fini(void);
void change_editor_drop_stale(void); /* now and then, and when data keys were dropped: any thread */

/* An error of a write as a reply, with what helps: LSN and term of one that is UNCERTAIN or ROLLEDBACK. */
void change_error(struct reply *r, const struct write *w);

/* Opens the value that SET_OLD handed out straight into the reply: a bulk, or nil when there was none. */
void change_reply_old(struct change *ch, struct step *s, struct reply *r);

#endif
