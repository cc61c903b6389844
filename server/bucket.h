/* bucket.h - the snapshots that are in the object store: which there are, one brought back, one removed. Putting one
 * there is upload.h's. Formats and names are in docs/container.md.
 *
 * **The best first.** Snapshots of a cell are in the order of (term, LSN), the highest first. While a cell has one
 * history that is the order of their LSNs: the highest LSN holds everything that the others do. After a forced recovery
 * there is a second history, with a higher term, which is the one that lives.
 *
 * **What comes back is believed** when its manifest's HMAC is the realm's and fits its name; when the container has the
 * size that the manifest says, a header of the same snapshot, and chunks that all open; and when the file in it is a
 * snapshot with the content and digest of the manifest, whose signature and every block verify.
 *
 * Errors: ERR_CORRUPT says that this one snapshot is not to be had or not to be believed, and another may be. All else
 * is about the store, the HSM or this machine. b->text says in one line what it was; b->why which row of
 * objstore.tbl.h, or OBJSTORE_FINE when it was not the store.
 *
 * Threads: one at a time for each struct bucket. All but close block: on the network, on the HSM, on the disk.
 */
#ifndef COFFER_SERVER_BUCKET_H
#define COFFER_SERVER_BUCKET_H

#include "engine/objstore.h"
#include "engine/snapmanifest.h"
#include "engine/snapread.h"
#include "hsm/box.h"

struct bucket_config {
    uint8_t realm[16];
    struct snap_signer signer;
    enum err (*key_new)(void *arg, struct box_head *h, uint8_t *key); /* as realmdek.h */
    enum err (*key_open)(void *arg, const struct box_head *h, uint8_t *key);
    /* With the settings of this moment; stop as in objstore_config. */
    enum err (*connect)(void *arg, int (*stop)(void *), void *stop_arg, struct objstore **out,
                        struct objstore_trouble *t);
    void *arg; /* of these three */
};

struct bucket {
    const struct bucket_config *cfg;
    struct objstore *store;
    int (*stop)(void *arg);
    void *stop_arg;
    enum objstore_why why;
    char text[768];
};

/* Connects; no network yet. On an error b->text says why, and close is allowed. Calls end with ERR_AGAIN within a
 * second or so when stop says anything but 0; it may be asked from the middle of any of them. */
must_use enum err bucket_open(struct bucket *b, const struct bucket_config *cfg, int (*stop)(void *), void *stop_arg);
void bucket_close(struct bucket *b); /* a zeroed one is fine */
/* As pace of snapwrite.h: ERR_AGAIN when it is to stop. bucket is a struct bucket. */
must_use enum err bucket_pace(void *bucket, uint64_t bytes);

/* Notes why a call fails; returns e. The first with a text of its own, the second with the store's. */
enum err bucket_fail(struct bucket *b, enum err e, const char *fmt, ...) __attribute__((format(printf, 3, 4)));
enum err bucket_store_failed(struct bucket *b, enum err e);

/* ---- what is there ---- */

struct bucket_entry {
    struct snapobject object;
    uint8_t manifest, container; /* 1: it is there */
    uint64_t modified_ms;        /* of the newer of both, by the store's clock; 0: not known */
};
struct bucket_list {
    struct bucket_entry *at; /* cell by cell, the best first */
    size_t n, room;
};

/* Everything with the name of a snapshot; of one cell, or of all (cell_id NULL). *out is zeroed, or of an earlier call.
 * What has another name is passed over. */
must_use enum err bucket_list(struct bucket *b, const uint8_t cell_id[16], struct bucket_list *out);
void bucket_list_free(struct bucket_list *l); /* a zeroed one is fine */

/* Reads a manifest and verifies it. */
must_use enum err bucket_manifest(struct bucket *b, const struct snapobject *o, struct snapmanifest *m);

/* Removes a snapshot: its manifest first, so that nothing half-removed counts. What is not there is fine. */
must_use enum err bucket_remove(struct bucket *b, const struct snapobject *o);

/* ---- one brought back ---- */

struct bucket_want {
    const char *dir;        /* the data directory */
    uint64_t keep_free;     /* bytes of its disk that must be free afterwards */
    _Atomic uint64_t *here; /* counts bytes of the container, those of an earlier try included; may be NULL */
    /* Looks at it before it counts; anything but 0 is ERR_CORRUPT. May be NULL. */
    int (*fits)(void *arg, const struct snapfile_header *h);
    void *arg;
    uint64_t resumed; /* out: bytes of the snapshot that an earlier try had left */
};

/* Brings the snapshot of this manifest into dir/snapshots, under its name there (over a damaged one of that name).
 * Until it is verified it lies in dir/restore, where the next call finds what there is of it and goes on behind that,
 * after kill -9 too. ERR_MISCONF: no room on the disk. On ERR_OK it is durable, and dir/restore is gone. */
must_use enum err bucket_fetch(struct bucket *b, const struct snapmanifest *m, struct bucket_want *w);

#endif
