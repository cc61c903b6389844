/* linear.h - was what clients saw possible, if each key were one register that one client at a time uses?
 *
 * A history is a list of operations with the moments at which each was called and returned. It is *linearizable* when
 * each operation can be given one moment between the two at which all of it happens, so that every value that was seen
 * is the one that was there. Every value is written once only; so what was seen says whose write it was, and nothing
 * has to be guessed:
 *
 *     cluster   a write, and those who saw its value. They come together: first the write, then the others
 *     block     clusters that swaps tie together: a swap saw one value and wrote the next, so that nothing fits in
 *               between. Inside of it the order is known; it must be that of time
 *     X < Y     some operation of block X returned before some of Y was called
 *
 * It is linearizable exactly when no two blocks have both X < Y and Y < X: where there is a cycle of several there is
 * one of two, since the block whose first return is the earliest is in front of all others of the cycle (Gibbons and
 * Korach, "Testing shared memories", for writes and reads). n log n.
 *
 * An operation that did not happen, as the server says, is not in the list: who saw its value saw what nobody wrote.
 * One of which nobody knows is there as *pending*: it returned at LINEAR_NEVER, and what it saw is not looked at. When
 * nobody saw its value it may as well not have happened.
 */
#ifndef COFFER_TESTS_LIB_LINEAR_H
#define COFFER_TESTS_LIB_LINEAR_H

#include <stddef.h>
#include <stdint.h>

#define LINEAR_NEVER UINT64_MAX

enum linear_kind {
    LINEAR_WRITE,
    LINEAR_SWAP, /* writes a value and sees the one before */
    LINEAR_READ,
    /* A read that may be old. What it sees was written, or may have been, by somebody who had begun before it returned;
     * and is not older than what its session saw or wrote before. */
    LINEAR_LOCAL_READ,
};

struct linear_op {
    enum linear_kind kind;
    uint32_t key, session; /* a session's operations come one after the other */
    uint64_t wrote, saw;   /* above 0, unique for the key; saw 0: nothing was there, as in the beginning */
    uint64_t called, returned;
};

/* 1: yes. 0: no, and why. -1: no memory. Sorts ops. */
int linear_check(struct linear_op *ops, size_t n, char *why, size_t why_bytes);

#endif
