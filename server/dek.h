/* dek.h - bringing data keys from the HSM into the keyring, making vaults: what a command may have to wait for.
 *
 * Reads need the data key that a secret was sealed under; writes need a fresh one of this term of service (hsm/seal.h);
 * a façade command may need the vault of its database to be made. All of these ask the HSM and some write to the log,
 * so the command parks (call.h) and is dispatched again when the answer is in.
 *
 *     writer:  keyring_writer() NULL -> HSM DEK_NEW -> STEP_DEK_ADD committed -> keyring_add + keyring_set_writer ->
 * wake reader:  opener_open() ERR_AGAIN -> engine_dek() -> HSM DEK_OPEN -> keyring_add -> wake vault:   HSM
 * PARTITION_NEW -> STEP_VAULT_CREATE committed -> wake
 *
 * One request for a thing is under way at a time, however many connections wait for it. A failure (HSMDOWN, SEALED,
 * CORRUPT) is answered to everybody who waited, and to those who come within a second, so that an HSM that is down is
 * not asked by every command.
 *
 * The context (AAD) of a wrapped data key: "coffer-dek-1" | realm id 16 | vault id u64 | version u32.
 *
 * All functions with a struct call: on its I/O thread; those that wait instead: on any that may. ERR_AGAIN from them
 * means that the call is parked: the handler returns CALL_PARK at once.
 */
#ifndef COFFER_SERVER_DEK_H
#define COFFER_SERVER_DEK_H

#include "engine/engine.h"
#include "hsm/hsm.h"
#include "hsm/seal.h"
#include "server/call.h"

struct deks;
must_use enum err deks_new(struct deks **out, struct server *srv);
void deks_free(struct deks *d); /* after the HSM and the engine are closed: nothing is under way any more */

/* A reference to v's write key (dek_unref it). ERR_AGAIN: parked. */
must_use enum err deks_writer(struct deks *d, struct call *c, struct vault *v, struct dek **out);

/* Gets (vault, version) into the keyring for reading; ERR_OK: open again. ERR_AGAIN: parked. */
must_use enum err deks_reader(struct deks *d, struct call *c, struct vault *v, uint32_t version);

/* The same on a thread that may block (chores.h): they wait for the HSM. */
must_use enum err deks_wait_writer(struct deks *d, struct vault *v, struct dek **out);
must_use enum err deks_wait_reader(struct deks *d, struct vault *v, uint32_t version);

/* The vault of a database of the façade, made when it is not there yet and create is 1. ERR_NOVAULT with create 0.
 * ERR_AGAIN: parked. */
must_use enum err deks_database(struct deks *d, struct call *c, unsigned db, int create, struct vault **out);

/* ---- making a vault ---- */

/* One vault being made: its partition in the HSM first, then its record in the log. If the record is refused the
 * partition is destroyed. */
struct vault_job {
    struct server *srv;
    char name[VAULT_NAME_MAX + 1];
    struct vault_settings settings;
    uint16_t store;                      /* 1 + shard, 0: the engine chooses */
    void (*done)(struct vault_job *job); /* any thread; must not block; owns job */
    enum err err;
    uint64_t lsn;

    struct hsm_req req; /* private from here on */
    struct write w;
    struct step s;
    uint8_t partition[VAULT_PARTITION_MAX];
};
/* job is filled in up to done. Never blocks; done() is called exactly once, maybe before this returns. */
void vault_job_start(struct vault_job *job);

#endif
