/* keyuse.h - how often each version of a key has encrypted, so that no version ever passes 2^32 messages.
 *
 * A random 96-bit GCM nonce is safe for 2^32 messages under one key (NIST SP 800-38D, 8.3). The count must survive
 * crashes and roll-backs, but a log record for each encryption would cost an fsync each. So counts are reserved ahead:
 * the key's record in the log says how many encryptions may have been made ("uses"), raised by KEYUSE_STEP at a time,
 * and this table counts down what this process has reserved and not yet used. What is left when the process ends is
 * lost: a restart costs at most one step, 1/4096 of the whole, for each key used.
 *
 *     left:  2^20 ..... 2^19 .......... 0
 *                        |              |
 *                        |              +-- keyuse_take says ERR_AGAIN until the owner answers (a key's first use in
 * this process)
 *                        +-- the owner is asked for the next step, in the background
 *
 * The owner reserves by a compare-and-swap on the key's record, so two processes never have the same numbers, whoever
 * is primary when; the limit is enforced there, on the record. Entries live as long as the table: about 150 bytes for
 * each version used since the start.
 *
 * Threads: any; a short lock inside, not held while the owner is called. Never blocks.
 */
#ifndef COFFER_SERVER_KEYUSE_H
#define COFFER_SERVER_KEYUSE_H

#include <stdint.h>

#include "base/bytes.h"
#include "base/err.h"

#define KEYUSE_STEP (1ull << 20)
#define KEYUSE_LOW (KEYUSE_STEP / 2)    /* ask for more below it */
#define KEYUSE_MAX (1ull << 32)         /* per version */
#define KEYUSE_FAILURE_KEPT_US 1000000u /* a refused reservation is not tried again before */
#define KEYUSE_ID_BYTES 16

struct keyuse;
struct keyuse_entry; /* one version of one key */
struct vault;

/* What is to be used. vault and name are not looked at here; the owner needs them to find the record. */
struct keyuse_key {
    const uint8_t *id; /* KEYUSE_ID_BYTES */
    uint32_t version;
    struct vault *vault;
    struct bytes name;
};

struct keyuse_owner {
    /* Reserve KEYUSE_STEP more, or what is left up to KEYUSE_MAX, in the log; answer by keyuse_reserved(e), from any
     * thread, also from within. */
    void (*reserve)(void *arg, struct keyuse_entry *e, const struct keyuse_key *key);
    /* An answer is in: whoever was told ERR_AGAIN may ask again. */
    void (*answered)(void *arg);
    void *arg;
};

must_use enum err keyuse_new(struct keyuse **out, const struct keyuse_owner *owner); /* ERR_OOM */
void keyuse_free(struct keyuse *u); /* nothing is under way any more; accepts NULL */

/* Counts one encryption, before it is made. ERR_AGAIN: wait for answered(), then call again. ERR_KEYSTATE: KEYUSE_MAX
 * is used up. ERR_OOM, or what the owner last failed with: nothing was counted. */
must_use enum err keyuse_take(struct keyuse *u, const struct keyuse_key *key);

/* The owner's answer: with ERR_OK n more may be made. ERR_AGAIN: it was overtaken, whoever needs it will ask anew. */
void keyuse_reserved(struct keyuse *u, struct keyuse_entry *e, enum err err, uint64_t n);

/* n encryptions were reserved together with the version itself (KEY.CREATE, KEY.ROTATE), so its first use need not
 * wait. Lost without memory, which costs a step. */
void keyuse_grant(struct keyuse *u, const uint8_t id[KEYUSE_ID_BYTES], uint32_t version, uint64_t n);

/* How many this process may make without a new reservation. */
uint64_t keyuse_left(struct keyuse *u, const uint8_t id[KEYUSE_ID_BYTES], uint32_t version);

#endif
