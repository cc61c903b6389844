/* valueedit.h - what commands that make a key's value a new one of the old have in common: APPEND, SETRANGE, INCR,
 * SETBIT, BITFIELD ... Each is an edit (change.h) of the key argv[1], which keeps its time to live.
 *
 * value_edit_new on the call's I/O thread; the others in an edit_fn, on the sequencer. None blocks.
 */
#ifndef COFFER_SERVER_VALUEEDIT_H
#define COFFER_SERVER_VALUEEDIT_H

#include "server/change.h"
#include "server/facade.h"
#include "server/keyevent.h"

extern const char value_too_long[]; /* -ERR text for a value over secret-max-bytes */

/* A change with fn as its edit. operand is copied to ch->out, aligned for any struct; room more bytes lie at ch->keep.
 * Both are locked memory. ERR_OK, or what access_fail wants. */
must_use enum err value_edit_new(struct call *c, struct bytes operand, size_t room, edit_fn fn, enum key_event event,
                                 struct facade_key *k, struct change **out);

/* The edit refuses, with this text. */
must_use enum err value_edit_refuse(struct change *ch, const char *why);
/* err, refused with value_too_long when it says that the value would be too big. */
must_use enum err value_edit_grown(struct change *ch, enum err err);
/* Answers ch->arg. */
void value_edit_answer(struct change *ch, struct reply *r);
/* Makes value at least n bytes long, with zeros at its end. */
must_use enum err value_edit_extend(struct change *ch, struct buf *value, size_t n);

#endif
