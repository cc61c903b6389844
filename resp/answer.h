/* answer.h - incremental parser of replies, RESP2 and RESP3: the client's side of the protocol, for replication links,
 * migration, tools and tests.
 *
 * answer_parse() takes elements off the input as they complete and builds a tree of struct answer. The tree, texts
 * included, lives in an arena of the parser: it does not point into the input, and is valid until the next
 * answer_parse(), answer_parser_reset() or answer_parser_fini(). A secret parser's arena is locked memory and wiped.
 *
 * Attributes (|) are read and dropped. Pushes (>) come out as answers of type ANSWER_PUSH; it is the caller who tells
 * them from the reply it waits for. RESP3's streamed types, which no Redis sends, are refused.
 *
 * Nothing is scanned twice, and nothing is allocated in proportion to an announced number before the bytes have
 * arrived. One thread at a time, never blocks.
 */
#ifndef COFFER_RESP_ANSWER_H
#define COFFER_RESP_ANSWER_H

#include "base/bytes.h"
#include "base/err.h"
#include "resp/arena.h"

#define ANSWER_MAX_DEPTH 32 /* aggregates within aggregates, attributes included */

enum answer_type {
    ANSWER_NIL,        /* _  $-1  *-1 */
    ANSWER_STATUS,     /* +   text */
    ANSWER_ERROR,      /* - ! text, with its prefix */
    ANSWER_BULK,       /* $   text */
    ANSWER_VERBATIM,   /* =   text, format */
    ANSWER_BIG_NUMBER, /* (   text */
    ANSWER_INTEGER,    /* :   integer */
    ANSWER_BOOL,       /* #   integer, 0 or 1 */
    ANSWER_DOUBLE,     /* ,   number */
    ANSWER_ARRAY,      /* *   item[0..count) */
    ANSWER_SET,        /* ~   item[0..count) */
    ANSWER_PUSH,       /* >   item[0..count) */
    ANSWER_MAP,        /* %   item[0..count): key, value, key, value ... */
};

struct answer {
    enum answer_type type;
    char format[3];    /* "txt" or "mkd"; of ANSWER_VERBATIM */
    struct bytes text; /* empty for other types */
    union {
        int64_t integer;
        double number;
        struct answer **item;
    };
    size_t count; /* 0 for other types */

    struct answer *next; /* private: sibling */
};

struct answer_limits {
    size_t max_elements;   /* of one answer, all levels, attributes included */
    size_t max_line_bytes; /* of a status, an error, a header */
    size_t max_bytes;      /* of memory for one answer; hence also of one bulk */
};

/* 1 Mi elements, 64 KiB, 512 MiB. */
extern const struct answer_limits answer_default_limits;

enum answer_status {
    ANSWER_READY, /* root is set */
    ANSWER_MORE,  /* incomplete: append at least need_bytes bytes, call again */
    ANSWER_BAD,   /* not RESP, or over a limit: error says which; close; every further call says the same */
    ANSWER_OOM,   /* nothing is lost, the same call may be repeated after dropping *used bytes */
};

struct answer_frame {
    struct answer *node; /* NULL: an attribute, or within one */
    struct answer *first, *last;
    size_t left; /* elements still to come */
    int attribute;
};

struct answer_parser {
    const struct answer_limits *limits; /* borrowed */

    /* Results. */
    struct answer *root; /* after ANSWER_READY; else not for the caller */
    size_t need_bytes;   /* after ANSWER_MORE: 1, or what is missing of the bulk under way, CRLF included */
    const char *error;   /* after ANSWER_BAD: static text */

    /* Private. */
    struct arena arena;
    size_t bytes, elements; /* of this answer so far */
    size_t scan;            /* no CR before this offset of the element at the front of the input */
    int skipping;           /* attributes that are open */
    int depth;
    struct answer_frame frame[ANSWER_MAX_DEPTH];
};

/* limits must outlive the parser. secret: the tree goes to locked memory. Allocates nothing. */
void answer_parser_init(struct answer_parser *p, const struct answer_limits *limits, int secret);
void answer_parser_fini(struct answer_parser *p);

/* Forgets the tree and any half-read answer or error: for a new connection. */
void answer_parser_reset(struct answer_parser *p);

/* Goes on with the answer at in. Whatever it returns, the caller drops *used bytes, then appends to what is left. */
must_use enum answer_status answer_parse(struct answer_parser *p, struct bytes in, size_t *used);

/* The value of a key in an ANSWER_MAP, or in the flat array that RESP2 makes of one; NULL when there is none. */
const struct answer *answer_get(const struct answer *map, const char *key);

/* 1 when the text of a status, bulk, verbatim or error is s. For public texts. */
int answer_is(const struct answer *a, const char *s);

#endif
