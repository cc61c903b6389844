/* number.h - integers as RESP writes them: decimal, an optional '-', no '+', no spaces, no leading zeros.
 *
 * The same strictness serves lengths in headers and integer arguments of commands ("value is not an integer").
 * No allocation, any thread.
 */
#ifndef COFFER_RESP_NUMBER_H
#define COFFER_RESP_NUMBER_H

#include "base/bytes.h"

#define NUMBER_MAX_BYTES 20 /* "-9223372036854775808" and "18446744073709551615" */

/* 1 and *out when all of s is one integer that fits; else 0, *out is 0. */
int number_parse(struct bytes s, int64_t *out);

/* Writes the digits, at most NUMBER_MAX_BYTES, no NUL; returns how many. */
size_t number_format(uint8_t *out, int64_t v);
size_t number_format_u64(uint8_t *out, uint64_t v);

#endif
