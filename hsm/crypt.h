/* crypt.h - what the worker does with keys in the HSM, in terms of bytes and handles.
 *
 * Operations run in the token's session, objects are made in its keeper session. Each function is a call or two of
 * p11.h; results are theirs (the policy stays in t->m for the ladder). One thread; all block.
 */
#ifndef COFFER_HSM_CRYPT_H
#define COFFER_HSM_CRYPT_H

#include "hsm/token.h"

#define GCM_NONCE 12
#define GCM_TAG 16

must_use enum err crypt_random(struct token *t, void *out, size_t n);
/* 12 bytes of the same generator, drawn ahead in blocks. */
must_use enum err crypt_nonce(struct token *t, uint8_t out[GCM_NONCE]);

must_use enum err crypt_hmac(struct token *t, CK_OBJECT_HANDLE key, struct bytes msg, uint8_t out[32]);

/* AES-256-GCM. seal writes in.n + 16 bytes; open needs in.n bytes of room (modules ask for more than they write) and
 * says in *n how many there are. open fails with ERR_BADCIPHERTEXT when the tag does not match; out is wiped then. */
must_use enum err crypt_gcm_seal(struct token *t, CK_OBJECT_HANDLE key, const uint8_t nonce[GCM_NONCE],
                                 struct bytes aad, struct bytes in, uint8_t *out);
must_use enum err crypt_gcm_open(struct token *t, CK_OBJECT_HANDLE key, const uint8_t nonce[GCM_NONCE],
                                 struct bytes aad, struct bytes in, uint8_t *out, size_t *n);

/* One mechanism on one input, by C_Decrypt or C_Sign; out has room for room bytes. */
must_use enum err crypt_decrypt(struct token *t, CK_MECHANISM *mech, CK_OBJECT_HANDLE key, struct bytes in,
                                uint8_t *out, size_t room, size_t *n);
must_use enum err crypt_sign(struct token *t, CK_MECHANISM *mech, CK_OBJECT_HANDLE key, struct bytes in, uint8_t *out,
                             size_t room, size_t *n);

/* AES-KWP (RFC 5649). unwrap adds what the module's quirks ask for; secret: the target is a 32-byte secret key.
 * ERR_BADBLOB: the blob was not made by this key. */
must_use enum err crypt_wrap(struct token *t, CK_OBJECT_HANDLE by, CK_OBJECT_HANDLE key, uint8_t *out, size_t room,
                             size_t *n);
must_use enum err crypt_unwrap(struct token *t, CK_OBJECT_HANDLE by, struct bytes blob, struct p11_template *target,
                               int secret, CK_OBJECT_HANDLE *out);

must_use enum err crypt_generate(struct token *t, CK_MECHANISM_TYPE mech, struct p11_template *target,
                                 CK_OBJECT_HANDLE *out);

/* Destroys an object; 0 is no object. Best effort: what fails here leaves a session object that ends with the worker.
 */
void crypt_destroy(struct token *t, CK_OBJECT_HANDLE o);

/* Starts a template of a session key: class, type, private, sensitive, and what it may be used for; every use not named
 * is forbidden. uses is ended by 0. */
void crypt_template(struct p11_template *t, CK_OBJECT_CLASS class, CK_KEY_TYPE type, int token, int extractable,
                    const CK_ATTRIBUTE_TYPE *uses);

#endif
