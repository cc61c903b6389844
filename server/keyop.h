/* keyop.h - what the KEY.* handlers that use a key have in common: find it, see whether it may do that, ask the HSM,
 * answer.
 *
 *     keyop_open -> keyop_usable -> keyop_version -> keyop_submit            -> CALL_PENDING
 *                                                    keyop_submit_counted       the same for what makes a GCM nonce:
 * counted first
 *
 * Functions that return an enum err have replied when it is not ERR_OK: return CALL_DONE. All on the call's I/O thread;
 * none blocks but for a LevelDB read. Plaintext, signatures and whatever else the HSM answers go from the request's
 * secret buffer to the reply and are wiped with the request.
 */
#ifndef COFFER_SERVER_KEYOP_H
#define COFFER_SERVER_KEYOP_H

#include "engine/engine.h"
#include "hsm/alg.h"
#include "hsm/hsm.h"
#include "server/call.h"

struct keyuse;

/* The server's share: counts of encryptions, and who waits for more. */
struct keyops {
    struct server *srv;
    struct keyuse *use;
    struct waitlist *reserved; /* calls that wait for a reservation */
};
must_use enum err keyops_new(struct keyops **out, struct server *srv);
void keyops_free(struct keyops *k); /* after HSM and engine are closed; accepts NULL */

#define KEYOP_INPUT_MAX \
    (1u << 20) /* bytes of a message, plaintext or AAD; a ciphertext may be CIPHERTEXT_GCM_OVERHEAD longer */

/* A key that was found. */
struct keyed {
    struct vault *vault;
    struct bytes name;           /* argv[2] */
    char text[KEY_NAME_MAX + 1]; /* the same for messages */
    struct key_view view;
    const struct alg *alg;
};

/* The key argv[2] of the vault argv[1]. NOVAULT, KEYSTATE (the vault is being deleted), NOKEY, CORRUPT (also: a record
 * of another name, see keyid.h). */
must_use enum err keyop_open(struct call *c, struct keyed *k);
void keyop_close(struct keyed *k);

/* 1 when what the version's masked object says of itself is what the record says of it. Whether the masked object is
 * genuine, the HSM finds out when it is used; both together mean that it is this version of this key. Else: CORRUPT. */
int keyop_own(const struct vault *vault, const struct key_record *rec, const struct key_version *v);

/* KEYSTATE unless it is enabled; ERR with a hint unless it can do all of can (ALG_CAN_ flags; 0: whatever it is). */
must_use enum err keyop_usable(struct call *c, const struct keyed *k, unsigned can);

/* A kept version at or above MINVERSION; KEYSTATE, ERR or CORRUPT. *v points into k. */
must_use enum err keyop_version(struct call *c, const struct keyed *k, uint32_t version, struct key_version *v);

/* The newest one; always there. CORRUPT. */
must_use enum err keyop_newest(struct call *c, const struct keyed *k, struct key_version *v);

/* One request to the HSM; reply() writes the answer from req->part[], of which there are as many as op.tbl.h says. k
 * may be NULL (KEY.RANDOM). */
typedef void (*keyop_reply_fn)(const struct hsm_req *req, struct reply *r);
enum call_result keyop_submit(struct call *c, const struct keyed *k, enum hsm_op op, const struct bytes *part,
                              unsigned parts, keyop_reply_fn reply);

/* The same for one that encrypts under the newest version: counts it where the algorithm has a limit; parks while a
 * reservation is under way. */
enum call_result keyop_submit_counted(struct call *c, const struct keyed *k, enum hsm_op op, const struct bytes *part,
                                      unsigned parts, keyop_reply_fn reply);

/* The most common answer: one part as a bulk. */
void keyop_reply_bulk(const struct hsm_req *req, struct reply *r);

/* An error of the HSM as a reply, and in the log where an operator should know. vault and name may be NULL. */
void keyop_reply_error(struct reply *r, const struct hsm_req *req, const struct vault *vault, const char *name);

/* Is it to be destroyed at a date? Such a key can do nothing. */
static inline int keyop_deleting(const struct key_record *rec)
{
    return rec->delete_ms != 0;
}

#endif
