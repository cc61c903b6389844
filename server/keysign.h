/* keysign.h - what KEY.SIGN and KEY.VERIFY have in common: which signature algorithm, of what. On the call's I/O
 * thread. */
#ifndef COFFER_SERVER_KEYSIGN_H
#define COFFER_SERVER_KEYSIGN_H

#include "server/keyop.h"

struct keysign {
    uint8_t code[2];  /* as the HSM wants it: enum sig_code, 1 when the message is a digest */
    uint32_t version; /* asked for, 0: none */
};

/* Parses [DIGEST] [ALG name] from argv[from] on, for VERIFY (from 5) also [VERSION n]; measures argv[3]; finds a key
 * that can sign, and the algorithm that it signs by. 1: go on, then keyop_close(k). 0: replied. */
int keysign_begin(struct call *c, unsigned from, struct keysign *out, struct keyed *k);

#endif
