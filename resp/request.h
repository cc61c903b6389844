/* request.h - incremental parser of requests: RESP arrays of bulk strings, and inline commands.
 *
 *     bytes arrive      request_parse()      the caller
 *     *2..$3..GE        REQUEST_MORE         reads more behind what it has
 *     *2..$3..GET$1..k  REQUEST_READY        runs argv[0..argc), then drops *used bytes, then parses again
 *
 * Nothing is copied: arguments point into the input. The input may move between calls (a buffer that grows), because
 * the parser keeps offsets until the request is whole. Nothing is scanned twice, so a large argument that arrives in
 * many reads costs O(size). Nothing is allocated for a request of up to REQUEST_SMALL_ARGS arguments, and for larger
 * ones in proportion to the arguments that have arrived, never to a number that was announced.
 *
 * Compatibility: error texts and their order are those of Redis 7.0.15. Stricter where Redis reads on after a client
 * has lost count: the byte after a header's CR must be LF, and a bulk must be followed by CRLF ("invalid bulk length":
 * it was wrong). Inline commands count against the limit of arguments too. A NUL in an inline command is a byte as any
 * other. Whether a too long line is refused does not depend on how it was cut into reads. The default of 1024 * 1024
 * arguments is that of Redis up to 6.2; 7.0 has INT_MAX.
 *
 * A parser belongs to one connection and one thread, must not be moved in memory, and never blocks.
 */
#ifndef COFFER_RESP_REQUEST_H
#define COFFER_RESP_REQUEST_H

#include "base/bytes.h"
#include "base/err.h"

#define REQUEST_SMALL_ARGS 16
#define REQUEST_KEEP_ARGS 256 /* a larger argument array is given back before the next request */
#define REQUEST_UNAUTH_ARGS 10
#define REQUEST_UNAUTH_BULK_BYTES 16384

/* May be changed between two calls; what was accepted already stays accepted. */
struct request_limits {
    size_t max_args;         /* per request, at most INT64_MAX */
    size_t max_bulk_bytes;   /* of one argument, at most INT64_MAX - 2 */
    size_t max_inline_bytes; /* of an inline command, and of one header line; at least 16 */
    int unauthenticated;     /* 1: REQUEST_UNAUTH_* apply besides, with error texts of their own */
};

/* 1024 * 1024 arguments, 512 MiB, 64 KiB, authenticated. */
extern const struct request_limits request_default_limits;

enum request_status {
    REQUEST_READY, /* argc >= 1 and argv are set, until the next call or until the input moves or goes */
    REQUEST_MORE,  /* incomplete: append at least need_bytes bytes, call again */
    REQUEST_BAD,   /* protocol error: answer -ERR error, close; every further call says the same */
    REQUEST_OOM,   /* no memory for the argument array: nothing is lost, the same call may be repeated */
};

struct request_parser {
    const struct request_limits *limits; /* borrowed; the caller may point it elsewhere, say after AUTH */

    /* Results. */
    size_t argc;
    struct bytes *argv;
    size_t need_bytes; /* after REQUEST_MORE: 1, or what is missing of the bulk under way, CRLF included. A client's
                          word: cap it before reserving room */
    char error[64];    /* after REQUEST_BAD: "Protocol error: ..."; may quote one character of the input */

    /* Private. Offsets count from the first byte of the request. */
    size_t pos;  /* first byte that is not parsed */
    size_t scan; /* no line end in [pos, scan) */
    size_t left; /* arguments still to come; 0 between requests */
    size_t bulk; /* length of the bulk at pos; SIZE_MAX when its header is still to come */
    size_t cap;  /* of argv */
    struct bytes small[REQUEST_SMALL_ARGS];
};

/* limits must outlive the parser. Allocates nothing. */
void request_parser_init(struct request_parser *p, const struct request_limits *limits);
void request_parser_fini(struct request_parser *p);

/* Parses the next request of in[0..n). in[0] is the first byte that no earlier call counted in *used: the caller
 * drops (buf_consume) or steps over *used bytes before the next call. After REQUEST_READY that is the request;
 * after REQUEST_MORE empty requests in front, which are skipped silently (an empty line, *0, *-1); else 0.
 * Not const: escapes of quoted inline arguments are resolved in place. */
must_use enum request_status request_parse(struct request_parser *p, uint8_t *in, size_t n, size_t *used);

#endif
