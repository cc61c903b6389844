/* reply.h - writer of replies, RESP2 and RESP3.
 *
 * A struct reply writes into a buf. Its first failure (ERR_OOM, or ERR_TOOBIG by the buf's limit) is sticky: what
 * follows is ignored, so handlers write a whole reply without a check and the caller looks at r->failed once, then
 * rewinds:
 *
 *     size_t mark = reply_mark(r);
 *     reply_map(r, 2);
 *     reply_bulk_str(r, "id");     reply_int(r, id);
 *     reply_bulk_str(r, "state");  reply_bulk_str(r, state);
 *     if (r->failed) {
 *         enum err e = r->failed;
 *         reply_rewind(r, mark);
 *         reply_error(r, e);
 *     }
 *
 * Every call writes all of its bytes or none; it may ask the buf for up to 24 bytes more than it writes, so the limit
 * bites that much early. When the error does not fit either, all that is left is to close. In RESP2 what it lacks
 * becomes what Redis makes of it: maps are flat arrays, sets and pushes arrays, doubles, verbatim texts and big numbers
 * bulks, booleans 1 and 0. Attributes are never written: half of the clients break on them. Aggregates are a header;
 * that the right number of elements follows is the handler's business.
 *
 * Nothing here puts bytes of a reply anywhere but in the buf; only errors and doubles pass through the stack, and those
 * are not for secrets. One thread at a time, never blocks.
 */
#ifndef COFFER_RESP_REPLY_H
#define COFFER_RESP_REPLY_H

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define REPLY_ERROR_MAX_BYTES 512 /* of a formatted error text; longer ones are cut */

struct reply {
    struct buf *b;
    int proto;       /* 2 or 3; may change between replies (HELLO) */
    enum err failed; /* sticky */
    size_t open;     /* private: bytes reserved by reply_bulk_begin */
};

void reply_init(struct reply *r, struct buf *b, int proto); /* b is borrowed, may hold replies already */

/* One line: +text. CR and LF become spaces, as in errors. */
void reply_simple(struct reply *r, const char *text);
void reply_ok(struct reply *r);

/* -PREFIX text. The first is the default text of base/err.tbl.h. */
void reply_error(struct reply *r, enum err e);
void reply_error_text(struct reply *r, const char *prefix, struct bytes text);
void reply_errorf(struct reply *r, const char *prefix, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

void reply_int(struct reply *r, int64_t v);
void reply_bulk(struct reply *r, struct bytes s);
void reply_bulk_str(struct reply *r, const char *s);
void reply_bulk_int(struct reply *r, int64_t v); /* the digits as a bulk, as INCR's value is stored */
void reply_nil(struct reply *r);
void reply_nil_array(struct reply *r);
void reply_bool(struct reply *r, int v);
void reply_double(struct reply *r, double v);
void reply_verbatim(struct reply *r, const char format[3], struct bytes s); /* format: "txt" or "mkd" */
void reply_big_number(struct reply *r, struct bytes digits);                /* digits with an optional '-' */

void reply_array(struct reply *r, size_t n);
void reply_map(struct reply *r, size_t pairs);
void reply_set(struct reply *r, size_t n);
void reply_push(struct reply *r, size_t n);

/* A bulk written in place, say by decrypting into it: on ERR_OK *room is len bytes to fill. Then reply_bulk_end(), or
 * reply_bulk_abandon(), which wipes them and leaves no trace; nothing else may be called in between. When it fails
 * (also when r had failed before) *room is NULL and neither is called. */
must_use enum err reply_bulk_begin(struct reply *r, size_t len, uint8_t **room);
void reply_bulk_end(struct reply *r);
void reply_bulk_abandon(struct reply *r);

/* Elements that another struct reply of the same proto has written. */
void reply_encoded(struct reply *r, struct bytes elements);

/* A place in the reply, valid while the buf is not consumed. */
size_t reply_mark(const struct reply *r);

/* Takes back what was written since mark and forgets the failure. */
void reply_rewind(struct reply *r, size_t mark);

/* Puts a header in front of what was written since mark: for aggregates whose size is known at the end. Moves those
 * bytes once, so O(bytes since mark). */
void reply_insert_array(struct reply *r, size_t mark, size_t n);
void reply_insert_map(struct reply *r, size_t mark, size_t pairs);
void reply_insert_set(struct reply *r, size_t mark, size_t n);

#endif
