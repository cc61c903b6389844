/* keywrite.h - changes of a key's record: created, rotated, enabled, deleted, more encryptions reserved.
 *
 * A key's record is one value that holds all of its versions. A change reads it, makes the new one, and hands both to
 * the engine: the new one is written only if the old one is still what is there (compare and swap), so that of two
 * changes at the same time none is lost. The one that comes second is made anew on what the first left, until it holds.
 *
 *     keywrite_new -> fill in change and its arguments -> keywrite_start
 *
 * Everything but the HSM's answer and the engine's happens on the call's I/O thread.
 */
#ifndef COFFER_SERVER_KEYWRITE_H
#define COFFER_SERVER_KEYWRITE_H

#include "hsm/masked.h"
#include "server/io.h"
#include "server/keyop.h"
#include "server/keyturn.h"
#include "server/keyuse.h"

#define KEYWRITE_VERSIONS_MAX 1000 /* of one key: all of them are in one record */
#define KEYWRITE_META_MAX 65536

struct keywrite {
    struct server *srv;
    struct io *io;
    struct vault *vault;
    char name[KEY_NAME_MAX + 1];

    /* Turns rec, the record that is there (zeros when there is none: k->old.hold is NULL), into the new one. May point
     * rec->meta at k->meta and rec->version_bytes at k->versions. ERR_END: nothing has to be written. ERR_AGAIN: let
     * the HSM make version k->version of the key k->id, of the algorithm k->alg, then call this again; it is in
     * k->masked, and k->generated is not 0. Other errors are replied, with text if that is set. */
    enum err (*change)(struct keywrite *k, struct key_record *rec);
    void (*answer)(struct keywrite *k, struct reply *r); /* NULL: +OK */
    int64_t arg;                                         /* for change() */
    struct buf meta;                                     /* likewise */
    uint64_t now_ms;
    char text[160]; /* of an error, without the prefix; empty: the default */

    /* Of a version that was made: */
    const struct alg *alg;
    uint8_t id[KEY_ID_BYTES];
    uint32_t version;
    struct buf masked; /* a masked object */
    int generated;

    /* private */
    struct pending p;
    struct io_task task;
    struct keyturn turn;
    struct hsm_req req;
    struct write w;
    struct step s;
    struct key_view old;
    struct buf record, versions;
    uint8_t hmac[MASKED_MAC];
    enum err err;
    struct keyuse_entry *entry; /* of a reservation: no client waits */
};

/* For the key argv[2] of the vault argv[1], which need not be there. NOVAULT, KEYSTATE (vault), BADNAME, OOM: replied,
 * return CALL_DONE. */
must_use enum err keywrite_new(struct call *c, struct keywrite **out);
void keywrite_free(struct keywrite *k); /* one that was not started */

/* Starts it; k is taken over. Returns CALL_PENDING. */
enum call_result keywrite_start(struct call *c, struct keywrite *k);

/* For change(): appends the version that was made to the versions of rec. ERR_OOM. */
must_use enum err keywrite_add_version(struct keywrite *k, struct key_record *rec);
/* For change(): 1 when rec is of the key k->id. */
int keywrite_is(const struct keywrite *k, const struct key_record *rec);
/* For change(): an error and its text. */
enum err keywrite_fail(struct keywrite *k, enum err err, const char *fmt, ...) __attribute__((format(printf, 3, 4)));

/* keyuse.h's reserve: KEYUSE_STEP more encryptions for a version. arg is the struct keyops. */
void keywrite_reserve(void *arg, struct keyuse_entry *e, const struct keyuse_key *key);

#endif
