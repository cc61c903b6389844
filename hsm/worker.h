/* worker.h - the coffer-hsm worker process: one thread, one module, one login.
 *
 * `coffer-hsm worker FD` serves one connected stream socket. It reads all there is, processes frame after frame
 * (proto.h), answers with a write for each batch or millisecond, and ends when the socket closes. The first request
 * must be START.
 * SIGTERM, SIGINT and SIGHUP are ignored: the parent decides when it ends.
 *
 * How a failure shows, so that the parent knows what to do:
 *
 *     answer to START      means                                              parent
 *     ERR_OK               up                                                 send requests
 *     ERR_WRONGPASS        PIN wrong, expired, locked or at its last try      stop: FAILED; never try again by itself
 *     ERR_NOTFOUND         module, token or realm keys are not there          FAILED at start; later: back-off
 *     ERR_SYNTAX           a setting or the token URI is malformed            FAILED
 *     ERR_UNSUPPORTED      the module lacks what Coffer cannot do without     FAILED
 *     ERR_HSMDOWN          device or module trouble                           back-off
 *     ERR_OOM              no memory                                          back-off
 *
 * The answer's text names the module, token or call. After any failed START the worker exits with the code below.
 * Later, a request answered ERR_HSMDOWN by a worker that then exits with WORKER_EXIT_DEVICE means device trouble;
 * ERR_HSMDOWN without an exit means that this call failed while the device passes its probe (a full token, say).
 */
#ifndef COFFER_HSM_WORKER_H
#define COFFER_HSM_WORKER_H

enum worker_exit {
    WORKER_EXIT_EOF = 0,       /* the socket closed: the parent is done with us */
    WORKER_EXIT_USAGE = 2,     /* bad arguments */
    WORKER_EXIT_PROTOCOL = 10, /* malformed frame, or a request before START */
    WORKER_EXIT_DEVICE = 11,   /* the CK_RV policy says: new worker */
    WORKER_EXIT_PIN = 12,      /* PIN trouble: do not start another with this PIN */
    WORKER_EXIT_CONFIG = 13,   /* module, token or realm missing, settings malformed, mechanisms missing */
    WORKER_EXIT_MEMORY = 14,   /* not even the buffers */
    WORKER_EXIT_SOCKET = 15    /* read or write on the socket failed */
};

/* Serves fd until it closes; the worker's main(), past process hygiene. Returns an enum worker_exit. Takes fd over.
 * Blocks. */
int worker_serve(int fd);

/* Process hygiene, then worker_serve: closes all other descriptors above 2, no core dumps, not traceable, memory locked
 * where allowed, OpenSSL's secure heap for private keys of `software` protection. */
int worker_main(int fd);

#endif
