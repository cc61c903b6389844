/* hsmwait.h - one request to the HSM, by a thread that may wait for the answer. */
#ifndef COFFER_SERVER_HSMWAIT_H
#define COFFER_SERVER_HSMWAIT_H

#include "hsm/hsm.h"

/* Submits, flushes, and blocks until the HSM has answered. Its errors are the operation's, and those of hsm_submit. On
 * ERR_OK the answer's parts are in *req. The caller ends with hsm_req_fini in every case. Never on an I/O thread or the
 * HSM's. */
must_use enum err hsmwait(struct hsm *h, enum hsm_op op, const struct bytes *part, unsigned parts, struct hsm_req *req);

/* 1: the answer has this part, and it is so long. */
int hsmwait_part_is(const struct hsm_req *req, unsigned part, size_t n);

#endif
