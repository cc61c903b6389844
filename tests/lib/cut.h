/* cut.h - a TCP proxy in a thread of the test that breaks connections where it is told to.
 *
 * It serves one connection at a time: a new one ends the one before, which was idle when the test has one thread. What
 * goes wrong fails the cmocka test that runs.
 */
#ifndef COFFER_TESTS_LIB_CUT_H
#define COFFER_TESTS_LIB_CUT_H

#include <pthread.h>
#include <stddef.h>

struct cut {
    int port;
    int to_port, listener, wake; /* private from here on */
    pthread_t thread;
    pthread_mutex_t lock;
    pthread_cond_t go;
    int hold, holding;
    unsigned times, made;
    long up, down;
    long up_left, down_left;
    char before[32];
};

/* From a free port of 127.0.0.1 to another port there. */
void cut_start(struct cut *c, int to_port);
void cut_stop(struct cut *c);

/* So many times: lets `up` bytes pass to the server, or `down` bytes to the client, counted from now on or from the cut
 * before, then closes both connections. -1: no limit in that direction. */
void cut_after(struct cut *c, unsigned times, long up, long down);
/* Once: lets the request pass that has this text in it, and closes both connections instead of handing on the answer.
 */
void cut_answer(struct cut *c, const char *text);
/* Lets so many bytes pass to the server, or to the client (-1: no limit), and then nothing: connections stay open, and
 * new ones wait. cut_holding: that is so now. cut_release: it passes everything again. */
void cut_hold(struct cut *c, long up, long down);
int cut_holding(struct cut *c);
void cut_release(struct cut *c);
void cut_break(struct cut *c); /* instead: what is held is closed, and what comes then passes */

/* How many times it has cut since the last cut_after or cut_answer. */
unsigned cut_made(struct cut *c);

#endif
