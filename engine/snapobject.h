/* snapobject.h - how snapshots are called in an object store.
 *
 *     <prefix>/<cell id, 32 hex digits>/<UINT64_MAX - LSN, 20 digits>-<term>-<node>.snap        a container, hsm/box.h
 *     ...                                                                          .manifest    snapmanifest.h
 *
 * The LSN is counted down, so that a listing, which is in the order of the names' bytes, has the newest one first, and
 * its first page is enough. Two of one LSN, from two nodes, follow each other in no meaningful order. A name is used
 * once: what it says never changes, so what lies under it does not either.
 *
 * The prefix may be empty; then there is no slash before the cell either. It is in the rules of objstore.h for keys,
 * which looks at it. A node's name is 1 to 64 of A-Z a-z 0-9 . _ -, beginning with a letter or digit. A name has one
 * spelling only; others (zeros in front, capitals in the cell) are no names of ours.
 *
 * Pure functions; any thread.
 */
#ifndef COFFER_ENGINE_SNAPOBJECT_H
#define COFFER_ENGINE_SNAPOBJECT_H

#include "base/bytes.h"
#include "base/err.h"

#define SNAPOBJECT_NODE_BYTES 65   /* with its NUL */
#define SNAPOBJECT_BASE_BYTES 112  /* of a name behind its last slash, with its NUL */
#define SNAPOBJECT_NAME_BYTES 1025 /* of a whole one: what an object's key may have */

enum snapobject_kind { SNAPOBJECT_SNAP, SNAPOBJECT_MANIFEST };

struct snapobject {
    uint8_t cell_id[16];
    uint64_t lsn;
    uint32_t term;
    char node[SNAPOBJECT_NODE_BYTES];
};

int snapobject_node_valid(struct bytes node);

/* Each fills out, empty on failure. ERR_BADNAME: the node's. ERR_BADPATH: too long with this prefix. */
must_use enum err snapobject_name(char out[SNAPOBJECT_NAME_BYTES], const char *prefix, const struct snapobject *o,
                                  enum snapobject_kind kind);
must_use enum err snapobject_base(char out[SNAPOBJECT_BASE_BYTES], const struct snapobject *o,
                                  enum snapobject_kind kind);
/* What all names of a cell begin with: "<prefix>/<cell>/". */
must_use enum err snapobject_folder(char out[SNAPOBJECT_NAME_BYTES], const char *prefix, const uint8_t cell_id[16]);

/* 1 when key is such a name below prefix. Else 0, and *o is zeroed. */
int snapobject_parse(const char *key, const char *prefix, struct snapobject *o, enum snapobject_kind *kind);

#endif
