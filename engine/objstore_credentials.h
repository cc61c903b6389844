/* objstore_credentials.h - the key pair with which requests to an object store are signed, from a file.
 *
 * Two lines, the access key's id and the secret key:
 *
 *     AKIAIOSFODNN7EXAMPLE
 *     wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
 *
 * or AWS's own format, of which the section [default] is read, and what stands before any section:
 *
 *     [default]
 *     aws_access_key_id = AKIAIOSFODNN7EXAMPLE
 *     aws_secret_access_key = wJalrXUtnFEMI/K7MDENG/bPxRfiCYEXAMPLEKEY
 *
 * Blanks around words, empty lines and lines that begin with # or ; do not count. Temporary credentials
 * (aws_session_token) are refused: nothing would renew them.
 */
#ifndef COFFER_ENGINE_OBJSTORE_CREDENTIALS_H
#define COFFER_ENGINE_OBJSTORE_CREDENTIALS_H

#include "base/bytes.h"
#include "base/err.h"

#define OBJSTORE_ACCESS_BYTES 129 /* with the NUL */
#define OBJSTORE_SECRET_BYTES 257
#define OBJSTORE_CREDENTIALS_LIMIT (16u << 10) /* of the file */

/* For locked memory: objstore_credentials_new makes it there. */
struct objstore_credentials {
    char access[OBJSTORE_ACCESS_BYTES];
    char secret[OBJSTORE_SECRET_BYTES];
};

/* From a file's content. *why: "" or what is wrong, a static string. ERR_SYNTAX; *out is wiped then. */
must_use enum err objstore_credentials_parse(struct bytes text, struct objstore_credentials *out, const char **why);

/* Reads a file, which must be a regular one that belongs to this user or to root, and that nobody else may read or
 * write. Blocks on it. ERR_NOTFOUND, ERR_IO, ERR_NOPERM, ERR_SYNTAX, ERR_OOM; *out is NULL then, *why set. */
must_use enum err objstore_credentials_new(const char *path, struct objstore_credentials **out, const char **why);
void objstore_credentials_free(struct objstore_credentials *c); /* wipes; NULL is fine */

#endif
