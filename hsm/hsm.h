/* hsm.h - the HSM as the server sees it: asynchronous requests to worker processes.
 *
 * The PKCS#11 module and its PIN live in `coffer-hsm worker` processes and nowhere else (docs/hsm.md says why: two
 * threads in one SoftHSM are slower than one; it leaks per object; modules hang and crash). This module starts them,
 * keeps them to their deadlines, recycles and replaces them, and carries requests: op.tbl.h lists what can be asked.
 *
 *     I/O thread            hsm thread                     worker processes
 *     hsm_submit  ----------------------------------->     coffer-hsm worker
 *     (encodes into the worker's out buffer, one write     one thread, one module, one login
 *      per hsm_flush)
 *                 <-- done() --  reads answers, deadlines,
 *                                respawns, probes  <------
 *
 * Health, as a state machine (enum hsm_state): STARTING -> UP <-> DOWN (breaker open: requests fail at once with
 * ERR_HSMDOWN, a new worker is tried after 0.1 to 30 s with jitter); SEALED by hsm_seal() until hsm_unseal(pin); FAILED
 * after a PIN error or a broken configuration: never retried by itself, real HSMs lock after a few wrong PINs.
 */
#ifndef COFFER_HSM_HSM_H
#define COFFER_HSM_HSM_H

#include "base/buf.h"
#include "base/err.h"
#include "base/mpsc.h"
#include "hsm/proto.h"

struct hsm;

enum hsm_state { HSM_STATE_STARTING, HSM_STATE_UP, HSM_STATE_DOWN, HSM_STATE_SEALED, HSM_STATE_FAILED };

struct hsm_config {
    const char *worker_path;  /* the coffer-hsm program */
    const char *module;       /* PKCS#11 module */
    const char *module_init;  /* pReserved string or NULL */
    const char *token;        /* label or RFC 7512 URI */
    const char *pin_file;     /* 0600 or stricter; NULL: the pin is given to hsm_unseal() */
    const char *softhsm_conf; /* SOFTHSM2_CONF for the workers, or NULL */
    unsigned workers;         /* general workers; one more for slow key generation is started when first needed */
    unsigned timeout_ms; /* a worker that answers later is ended and replaced; slow generation gets 30 times that */
    unsigned key_cache;  /* handles per worker */
    int hsm_only;
    unsigned long recycle_objects;            /* session objects a worker makes before a warm successor takes over */
    void (*log)(int level, const char *line); /* enum log_level; called on the hsm thread */
};

/* Starts the hsm thread and the workers and waits until the first is ready or failed, at most 30 s; without a pin_file
 * it opens sealed, at once. On failure *why (valid until this thread's next call) says which of module, token, PIN,
 * realm is missing and what to do. Strings of cfg are copied. Blocks: call at start only. */
must_use enum err hsm_open(struct hsm **out, const struct hsm_config *cfg, const char **why);
void hsm_close(struct hsm *h); /* ends the workers; unanswered requests complete with ERR_HSMDOWN before it returns */

struct hsm_req {
    struct mpsc_node node; /* the caller's, once done() was called */
    enum hsm_op op;
    void (*done)(struct hsm_req *r); /* on the hsm thread (or in hsm_submit's caller never); must not block: post r to
                                        your own loop */
    void *arg;

    /* Filled before done(): */
    enum err result;
    struct buf out; /* secret; holds the answer's parts; the caller calls hsm_req_fini() */
    struct bytes part[HSM_PARTS_MAX];
    unsigned parts;
    char text[96]; /* on error: for the log, no data */
    void *impl;    /* private */
};

/* Sets op, done, arg; everything else to zero. */
void hsm_req_init(struct hsm_req *r, enum hsm_op op, void (*done)(struct hsm_req *), void *arg);
void hsm_req_fini(struct hsm_req *r); /* wipes and frees out */

/* Hands a request over. Its parts are copied, r itself must live until done(). Returns ERR_OK and calls done() exactly
 * once later; or ERR_HSMDOWN, ERR_SEALED, ERR_THROTTLED (the worker's queue is full), ERR_OOM, ERR_TOOBIG at once, with
 * a text in r->text, and never calls done(). Never blocks. Any thread. */
must_use enum err hsm_submit(struct hsm *h, struct hsm_req *r, const struct bytes *part, unsigned parts);

/* Sends what this thread has submitted since its last flush; call once at the end of a loop turn. A pipeline of n key
 * operations so reaches the workers as one batch each. */
void hsm_flush(struct hsm *h);

/* Closes all sessions by ending the workers; requests fail with ERR_SEALED until hsm_unseal. Any thread. */
void hsm_seal(struct hsm *h);
/* Starts the workers anew with this PIN (copied to locked memory); those that are up finish what they have. The outcome
 * shows in hsm_state_now(). ERR_RANGE: empty or over 255 bytes. ERR_OOM. Any thread. */
must_use enum err hsm_unseal(struct hsm *h, struct bytes pin);

enum hsm_state hsm_state_now(struct hsm *h);
const char *hsm_state_name(enum hsm_state s);

struct hsm_stats {
    uint64_t requests, errors, timeouts, restarts, recycled;
    uint64_t latency_us_p50, latency_us_p99; /* of the last 1,024 requests */
    unsigned workers_up, in_flight;
};
void hsm_stats(struct hsm *h, struct hsm_stats *out);

/* Text lines "name:value" of the last START answer: module, manufacturer, token, serial, realm (32 hex), kwp,
 * protection, mechanisms. Copied into out. */
must_use enum err hsm_info(struct hsm *h, struct buf *out);

/* The realm id, known after hsm_open. */
void hsm_realm(struct hsm *h, uint8_t out[16]);

#endif
