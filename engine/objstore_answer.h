/* objstore_answer.h - the documents that S3 services answer, read from hostile bytes.
 *
 * Everything returns ERR_CORRUPT when the document is not the one expected: another root, a missing or malformed field,
 * text too long for its place. Callbacks have been called for what stood in front of that. Pure functions; any thread;
 * never block but in callbacks.
 */
#ifndef COFFER_ENGINE_OBJSTORE_ANSWER_H
#define COFFER_ENGINE_OBJSTORE_ANSWER_H

#include "engine/objstore.h"

#define OBJSTORE_MARKER_BYTES 4096 /* where a listing goes on, with the NUL */

struct objstore_said {
    char code[64];
    char message[256]; /* as sent, cut */
};

/* 1 when the document is an <Error>; *out is empty otherwise. */
int objstore_answer_error(struct bytes doc, struct objstore_said *out);

/* A page of a listing. keys are whole, prefix included. *token: where it goes on; "": at its end. fn returns ERR_OK to
 * go on; what else it returns is returned. */
must_use enum err objstore_answer_list(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_entry *e),
                                       void *arg, char token[OBJSTORE_MARKER_BYTES]);

/* A page of uploads: they go on behind this key and this id. Empty: at their end. */
struct objstore_behind {
    char key[OBJSTORE_MARKER_BYTES];
    char id[OBJSTORE_ID_BYTES];
};
must_use enum err objstore_answer_uploads(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_pending *p),
                                          void *arg, struct objstore_behind *behind);

/* A page of parts: they go on behind *behind; 0: at their end. */
must_use enum err objstore_answer_parts(struct bytes doc, enum err (*fn)(void *arg, const struct objstore_part *p),
                                        void *arg, unsigned *behind);

must_use enum err objstore_answer_begun(struct bytes doc, char id[OBJSTORE_ID_BYTES]);
/* etag is "" when the service leaves it out, as radosgw 16 does. */
must_use enum err objstore_answer_completed(struct bytes doc, char etag[OBJSTORE_ETAG_BYTES]);

/* An ETag without its quotes, or "" when it is none: at most OBJSTORE_ETAG_BYTES - 1 printable characters. */
void objstore_etag(char out[OBJSTORE_ETAG_BYTES], struct bytes text);

/* 2026-11-29T22:00:00.000Z as Unix time in milliseconds; 0: it is none. */
uint64_t objstore_time_ms(const char *text);

#endif
