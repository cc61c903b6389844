/* err.h - the one error type of Coffer.
 *
 * Every fallible function returns enum err and is marked must_use; 0 is success. Out-parameters are
 * set to a safe value on entry. The rows are in err.tbl.h.
 */
#ifndef COFFER_BASE_ERR_H
#define COFFER_BASE_ERR_H

enum err {
    ERR_OK = 0,
#define ERR(name, prefix, retry, text) ERR_##name,
#include "base/err.tbl.h"
#undef ERR
    ERR_COUNT_
};

#define must_use __attribute__((warn_unused_result))

/* First word of the RESP error ("NOVAULT"). Static string. e must be a row of the table or ERR_OK ("OK"). */
const char *err_prefix(enum err e);

/* Default text, without the prefix. Static string. */
const char *err_text(enum err e);

/* The constant's name without ERR_ ("NOVAULT"), for logs and tests. Static string. */
const char *err_name(enum err e);

/* 1 when the same request may be repeated as it is. */
int err_retryable(enum err e);

#endif
