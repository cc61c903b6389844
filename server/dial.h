/* dial.h - opening a link to another node: connect, TLS if that is asked for, log in, and the handshake of hello.h, up
 * to where frames begin.
 *
 * A dialer is a thread of its own for one address, since names are resolved on the way, which blocks. It tries again
 * and again, with pauses that grow, until it is told that the link is there; and again when that is gone.
 *
 *     dialer_new -> result() ... result(DIAL_WELCOME) -> the link lives -> dialer_again -> result() ... -> dialer_free
 */
#ifndef COFFER_SERVER_DIAL_H
#define COFFER_SERVER_DIAL_H

#include "base/buf.h"
#include "server/hello.h"
#include "server/sock.h"

#define DIAL_EARLY_BYTES 8192

enum dial_outcome {
    DIAL_WELCOME,    /* sock is connected, non-blocking, and the taker's; theirs */
    DIAL_INTRODUCED, /* theirs: one of the two is not ready */
    DIAL_STRANGER,   /* theirs: both are alone, each in a cell of its own */
    DIAL_REFUSED,    /* by one of the two: why */
    DIAL_NOT_COFFER, /* something answers that streams no log of this kind: why. It is not asked again */
    DIAL_FAILED,     /* the network, a timeout, or it is loading: why */
};

struct dial_result {
    enum dial_outcome outcome;
    struct sock sock;
    uint8_t early[DIAL_EARLY_BYTES]; /* frames that came right behind the answer */
    size_t early_n;
    struct hello_node theirs;
    char why[HELLO_WHY_BYTES];
};

/* What this node says of itself, at each try. */
struct dial_self {
    struct hello_node hello;
    char announce_host[VOTERS_HOST_BYTES]; /* empty: none */
    int port;
    struct tls *tls;           /* over TLS; NULL: plain */
    struct buf user, password; /* secret; to log in with; password empty: not */
};

struct dialer;
struct dialer_config {
    char host[VOTERS_HOST_BYTES];
    int port;
    uint8_t peer; /* these are the owner's */
    uint64_t id;
    void (*self)(void *arg, struct dial_self *s); /* fills it in; on the dialer's thread */
    /* On the dialer's thread, which waits for dialer_again after DIAL_WELCOME and DIAL_STRANGER, for ever after
     * DIAL_NOT_COFFER, and for a pause otherwise. r is borrowed, r->sock is not. */
    void (*result)(void *arg, struct dialer *d, const struct dial_result *r);
    void *arg;
};

must_use enum err dialer_new(struct dialer **out, const struct dialer_config *cfg); /* ERR_OOM */
/* The link is gone: the next try is soon, and less soon when the ones before were gone at once too. Or it is wanted
 * now: the next try is at once. Any thread. */
void dialer_again(struct dialer *d);
void dialer_leave(struct dialer *d); /* it is to end; result() may still be called once */
int dialer_has_left(struct dialer *d);
void dialer_free(struct dialer *d); /* waits for the thread, up to some seconds; accepts NULL */
const struct dialer_config *dialer_config(const struct dialer *d);

/* How long a dialer waits before the next try: 20 ms first, then twice as long each time, up to 200 ms behind tries
 * that fail, up to a second behind links that live for less than a second; a second behind a refusal. Zeroed initially.
 * Pure. */
struct dial_pace {
    uint64_t try_us, link_us;
};
uint64_t dial_pause(struct dial_pace *p, enum dial_outcome last, uint64_t lived_us);

/* ---- what is no link: commands and their answers ---- */

/* Connects and logs in, as a dialer does, on the caller's thread, which blocks. Commands are said and their answers
 * heard, several of them under way if need be, until it is closed. Each call ends with ERR_AGAIN soon after over() says
 * so, and with ERR_IO when nothing comes for DIAL_TALK_SECONDS; talk_why tells. */
#define DIAL_TALK_SECONDS 20
#define DIAL_TALK_BYTES (17u << 20) /* of one answer, at most: there are records of 8 MiB */

struct answer;
struct dial_talk;
struct dial_talk_config {
    char host[VOTERS_HOST_BYTES];
    int port;
    void (*self)(void *arg, struct dial_self *s);
    int (*over)(void *arg);
    void *arg;
    unsigned timeout_ms; /* 0: as above. For connecting, and then for each call */
    int secret;          /* answers are plaintext */
};

/* *out is to be closed after an error too, unless it was ERR_OOM. */
must_use enum err dial_talk_open(struct dial_talk **out, const struct dial_talk_config *cfg);
must_use enum err dial_talk_say(struct dial_talk *t, const struct bytes *words, unsigned n);
/* The next answer; it lives until the next call. Errors of the other side are answers. */
must_use enum err dial_talk_hear(struct dial_talk *t, const struct answer **a);
void dial_talk_forget(struct dial_talk *t); /* gives up the last answer, and its memory, before the next call does */
const char *dial_talk_why(const struct dial_talk *t);
int dial_talk_is_private(const struct dial_talk *t); /* over TLS, or it does not leave this machine */
void dial_talk_close(struct dial_talk *t);           /* accepts NULL */

#endif
