/* tls_private.h - the contexts, for tls.c and tls_conn.c only. */
#ifndef COFFER_SERVER_TLS_PRIVATE_H
#define COFFER_SERVER_TLS_PRIVATE_H

#include <openssl/types.h>
#include <pthread.h>

#include "server/tls.h"

struct tls {
    struct config *config;
    pthread_mutex_t lock;     /* of what follows; written by loads only, which come one at a time */
    SSL_CTX *server, *client; /* NULL: TLS is off */
    int64_t expires;
};

/* OpenSSL's words for this thread's error, which is then forgotten. Static memory. */
const char *tls_openssl_says(void);

#endif
