/* options.h - the keywords behind a command's positional arguments, parsed from one table a command.
 *
 *     enum { OPT_AAD, OPT_BYTES, OPT_NOPLAINTEXT, OPTS };
 *     static const struct option options[OPTS] = {
 *         [OPT_AAD] = {"AAD", OPTION_BYTES},
 *         [OPT_BYTES] = {"BYTES", OPTION_INT, .min = 16, .max = 64},
 *         [OPT_NOPLAINTEXT] = {"NOPLAINTEXT", OPTION_FLAG},
 *     };
 *     struct option_value opt[OPTS];
 *     if (options_parse(c, 3, options, OPTS, opt))
 *         return CALL_DONE;
 *     if (opt[OPT_AAD].given) ...
 *
 * Options come in any order and any case. -ERR syntax error near 'WORD' answers a word that is no option, one that is
 * given twice, one whose value is missing, and one that shares a group with another one given: groups are bits, so
 * NX|XX are two options of one group, and one that contradicts two such pairs has both bits. Behind an argument that
 * never shows (CMD_REDACT) a word that is no option is told by its place, 1 the first behind the command: it may be a
 * part of the value.
 *
 * Values point into the call's arguments. No allocation; the call's I/O thread.
 */
#ifndef COFFER_SERVER_OPTIONS_H
#define COFFER_SERVER_OPTIONS_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"
#include "server/call.h"

enum option_kind {
    OPTION_FLAG,  /* the word alone */
    OPTION_INT,   /* the word and an integer in [min, max]; both 0: any that fits */
    OPTION_BYTES, /* the word and any bytes */
};

struct option {
    const char *name; /* upper case */
    enum option_kind kind;
    unsigned group; /* bits; 0: contradicts nothing */
    int64_t min, max;
};

struct option_value {
    int given;
    int64_t i;      /* OPTION_INT; else 0 */
    struct bytes b; /* the value as it was given; of a flag, empty */
};

/* Parses argv[from] to the end into out[0..n), parallel to the table; from may be argc. On ERR_OK nothing was replied.
 * Else the error was replied: return CALL_DONE. ERR_SYNTAX as above; ERR_NOTINT: the value of an OPTION_INT is no
 * integer; ERR_RANGE: it is not within min and max, which the text names. out is all zero then. */
must_use enum err options_parse(struct call *c, unsigned from, const struct option *table, unsigned n,
                                struct option_value *out);

/* -ERR syntax error near 'word', cut to 64 bytes, unprintable ones as '?'. */
enum call_result options_syntax_error(struct call *c, struct bytes word);

/* The word as one of names (upper case, NULL-terminated), any case; -1: none of them. For words that are values: DIGEST
 * names, formats. */
int options_word(struct bytes word, const char *const *names);

#endif
