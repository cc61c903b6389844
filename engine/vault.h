/* vault.h - vaults at run time: the registry that names are looked up in.
 *
 * A vault is a tenant's container of secrets and keys. Its id is the LSN of the record that made it: unique for ever.
 * Its record in the base store is full-valued ('V' name); what changes often (counters) is a key of its shard ('c' id).
 *
 * A struct vault is made once and lives as long as the engine, so I/O threads may keep pointers. Fields without a
 * comment on threads are immutable after creation.
 */
#ifndef COFFER_ENGINE_VAULT_H
#define COFFER_ENGINE_VAULT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

#define VAULT_NAME_MAX 64
#define VAULT_PARTITION_MAX 1024 /* bytes of a partition config */

enum vault_state { VAULT_ACTIVE = 0, VAULT_DELETING = 1 /* scheduled */, VAULT_DELETED = 2 };

struct vault_settings {
    uint32_t max_versions; /* kept per secret, 1 to 1000 */
    uint64_t max_secrets;  /* 0: no limit */
    uint64_t max_bytes;    /* of sealed values kept, 0: no limit */
    uint64_t rate, burst;  /* operations a second, 0: no limit */
    uint64_t recovery_ms;  /* a soft-deleted secret is kept so long */
};

enum vault_field { /* bits: which settings a change is about */
                   VAULT_HAS_VERSIONS = 1,
                   VAULT_HAS_SECRETS = 2,
                   VAULT_HAS_BYTES = 4,
                   VAULT_HAS_RATE = 8,
                   VAULT_HAS_BURST = 16,
                   VAULT_HAS_RECOVERY = 32,
};

/* What the sequencer knows of a vault with everything staged. */
struct vault_seq {
    uint64_t secrets, keys, bytes, names_lsn, flushed_lsn;
    uint32_t dek_newest;
    int state;
};

struct vault {
    uint64_t id;
    char name[VAULT_NAME_MAX + 1];
    uint8_t name_len;
    uint16_t store; /* 1 + shard */
    uint8_t facade; /* a database of the string facade: db0, db1 ... */
    uint64_t created_ms;
    struct bytes partition; /* the HSM side's config, owned by the vault */

    _Atomic int state;                     /* enum vault_state; written by the log writer thread */
    _Atomic uint64_t delete_ms;            /* when a scheduled deletion happens */
    _Atomic uint64_t secrets, keys, bytes; /* committed counters; written by the log writer thread */
    _Atomic uint64_t names_lsn; /* last record that changed the set of visible names: listings wait for its apply */
    /* Heads of records up to it are gone: a flush costs one record, and what it leaves behind is purged afterwards
     * (keeper.c). Never goes back while the engine runs, so that a reader with an old head in its hand is not misled.
     */
    _Atomic uint64_t flushed_lsn;
    _Atomic uint64_t purge_lsn;  /* the same, 0 when all of it was purged */
    _Atomic uint32_t dek_newest; /* newest data key version in the log, 0: none */

    struct vault_settings settings; /* read and written under the registry's lock: vault_settings_get */

    struct vault_seq seq; /* the sequencer's own, recovery before it starts */

    void *user; /* the server's: throttle buckets and such; set once in the engine's on_vault callback */
    struct vault *next;
};

/* 1 when name is [A-Za-z0-9][A-Za-z0-9._-]{0,63}. */
int vault_name_ok(struct bytes name);

struct vaults;
must_use enum err vaults_new(struct vaults **out);
void vaults_free(struct vaults *vs);

/* By name or id, NULL when there is none (deleted ones are found by id only). Any thread; a short read lock. */
struct vault *vaults_find(struct vaults *vs, struct bytes name);
struct vault *vaults_find_id(struct vaults *vs, uint64_t id);

/* Adds a vault (takes it over), or takes a deleted one's name away. Log writer and recovery only. */
must_use enum err vaults_add(struct vaults *vs, struct vault *v);
void vaults_forget_name(struct vaults *vs, struct vault *v);

/* Names >= after in order, at most max; returns the count. Pointers live as long as the engine. */
size_t vaults_list(struct vaults *vs, struct bytes after, int inclusive, struct vault **out, size_t max);
size_t vaults_count(struct vaults *vs);

void vault_settings_get(struct vaults *vs, struct vault *v, struct vault_settings *out);
void vault_settings_put(struct vaults *vs, struct vault *v, const struct vault_settings *s);

/* Record in the base store under 'V' name:
 *   0 u8 format 1 | 1 u8 state | 2 u16 store | 4 u32 max_versions | 8 u64 id | 16 u64 created_ms | 24 u64 delete_ms |
 * 32 u64 max_secrets | 40 u64 max_bytes | 48 u64 rate | 56 u64 burst | 64 u64 recovery_ms | 72 u16 partition length |
 * 74 partition config The first is encoding of what a change makes of v; the struct itself changes when the record is
 * committed. */
#define VAULT_KEY_MAX (1 + VAULT_NAME_MAX)
#define VAULT_DEK_KEY_BYTES 13
struct bytes vault_key(uint8_t *out, struct bytes name); /* 'V' name */
struct bytes vault_dek_key(uint8_t out[VAULT_DEK_KEY_BYTES], uint64_t vault,
                           uint32_t version); /* 'D' vault u64be version u32be: a wrapped data key */
must_use enum err vault_encode(struct buf *out, const struct vault *v, const struct vault_settings *s, int state,
                               uint64_t delete_ms);
/* The settings in a record. ERR_CORRUPT. */
must_use enum err vault_record_settings(struct bytes record, struct vault_settings *out);
/* Copies state and settings of a newer record of the same vault into v. Log writer and recovery only. */
must_use enum err vault_update(struct vaults *vs, struct vault *v, struct bytes record);
must_use enum err vault_decode(struct bytes name, struct bytes record, struct vault **out); /* ERR_CORRUPT, ERR_OOM */
void vault_free(struct vault *v);                                                           /* one that was not added */

#endif
