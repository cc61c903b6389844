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
 */
#ifndef COFFER_SERVER_CHANGE_H
#define COFFER_SERVER_CHANGE_H

#include "engine/engine.h"
#include "hsm/seal.h"
#include "server/call.h"

struct change {
    struct pending p;
    struct write w;
    struct step *step;
    void (*answer)(struct change *ch, struct reply *r);
    struct io *io;
    struct plain *home; /* the plain that this struct lies in front of, or NULL: from mem_alloc */
    uint8_t *keep, *keep_end;
    int64_t arg; /* for answer() */
};

/* Room for steps and keep_bytes of borrowed bytes. ERR_OOM. */
must_use enum err change_new(unsigned steps, size_t keep_bytes, struct change **out);
/* The same for one step that seals value under d (taken over): step[0].plain is set. ERR_OOM, ERR_AGAIN (d is used up),
 * ERR_TOOBIG; d is released then. */
must_use enum err change_new_set(struct dek *d, struct bytes value, size_t keep_bytes, struct change **out);
void change_free(struct change *ch);

/* Copies b behind the change; lives as long as it. Asserts that keep_bytes were enough. */
struct bytes change_keep(struct change *ch, struct bytes b);

/* Hands it to the sequencer. Returns CALL_PENDING. v NULL only for VAULT_CREATE. */
enum call_result change_submit(struct call *c, struct change *ch, struct vault *v,
                               void (*answer)(struct change *ch, struct reply *r));

/* An error of a write as a reply, with what helps: LSN and term of an UNCERTAIN one. */
void change_error(struct reply *r, const struct write *w);

/* Opens the value that SET_OLD handed out straight into the reply: a bulk, or nil when there was none. */
void change_reply_old(struct change *ch, struct step *s, struct reply *r);

#endif
