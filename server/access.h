/* access.h - what handlers of secrets have in common: finding the vault, opening values into replies, times.
 * All on the call's I/O thread; none blocks but for a LevelDB read. */
#ifndef COFFER_SERVER_ACCESS_H
#define COFFER_SERVER_ACCESS_H

#include "engine/engine.h"
#include "hsm/seal.h"
#include "server/call.h"
#include "server/change.h"

/* Notes in the call that it named what is not here, when e (handed back) says so: ERR_NOVAULT, ERR_NOTFOUND. */
enum err access_missed(struct call *c, enum err e);

/* The vault of this name. ERR_NOVAULT (deleted ones too), ERR_KEYSTATE while its deletion is scheduled. */
must_use enum err access_vault(struct call *c, struct bytes name, struct vault **out);
/* value sealed-to-be under v's write key, in locked memory. ERR_AGAIN: parked for the key. ERR_TOOBIG, ERR_OOM, HSMDOWN
 * ... */
must_use enum err access_plain(struct call *c, struct vault *v, struct bytes value, struct plain **out);
/* The same as a change of one step (change.h), which has room for keep_bytes. */
must_use enum err access_change_set(struct call *c, struct vault *v, struct bytes value, size_t keep_bytes,
                                    struct change **out);

/* secret_read and secret_read_head of the engine, for handlers: inside a transaction they give what the secret was at
 * the command's place in it. */
must_use enum err access_read(struct call *c, struct vault *v, struct bytes path, uint32_t version, struct bytes label,
                              struct secret_view *view);
must_use enum err access_read_head(struct call *c, struct vault *v, struct bytes path, struct secret_view *view);

/* Replies the error, unless it is ERR_AGAIN: then the call is parked. Names the vault where that helps. */
enum call_result access_fail(struct call *c, enum err e, struct bytes vault);

/* Opens the view's value as a bulk at the end of the reply. ERR_AGAIN: its data key is being fetched, the call is
 * parked: rewind the reply, release what you hold, return CALL_PARK. Other errors: nothing was written. */
must_use enum err access_reply_value(struct call *c, struct vault *v, struct bytes path,
                                     const struct secret_view *view);

/* The same into a secret buf, appended. */
must_use enum err access_value(struct call *c, struct vault *v, struct bytes path, const struct secret_view *view,
                               struct buf *out);

/* ERR_OK: the secret's value, if there is one, can be opened without the HSM now. For what hands it out, or edits it,
 * when that cannot be put off any more. ERR_AGAIN: parked. */
must_use enum err access_openable(struct call *c, struct vault *v, struct bytes path);

/* Opens a value into out, a secret buffer, which is cleared before. On a thread that may block (chores.h), with an
 * opener of its own: it waits for the data key. ERR_CORRUPT, ERR_OOM, ERR_TOOBIG, and what the HSM answers; out is
 * empty then. */
must_use enum err access_open(struct server *srv, struct opener *o, struct sealed value, const struct seal_bind *bind,
                              struct vault *v, struct buf *out);

/* What SECRET.GET tells of a secret beside its value, six pairs of a map: version, stages, created-at, expires-at,
 * state, meta. And parts of it: the labels of a version, CURRENT and PREVIOUS first; ACTIVE, DELETED or EXPIRED. */
#define ACCESS_META_PAIRS 6
void access_reply_meta(struct reply *r, const struct secret_head *h, uint32_t version, uint64_t now_ms);
void access_reply_stages(struct reply *r, const struct secret_head *h, uint32_t version);
const char *access_state_name(const struct secret_head *h, uint64_t now_ms);

/* Several values as of one point in time: pass() writes the whole reply, telling m of each thing that it read
 * (engine.h). When they do not belong together that is rewound and done again, after a few times in the next loop turn,
 * until they do: what tears them is the log writer making a group visible, which is short. An error of pass() is
 * replied by access_fail. */
enum call_result access_at_once(struct call *c, enum err (*pass)(struct call *c, struct engine_moment *m),
                                struct bytes vault);

/* The call's options EX, PX, EXAT, PXAT as an absolute time. Checks range and that it lies ahead (unless past_ok).
 * unit_ms 1000 or 1; ERR_BADEXPIRE. */
must_use enum err access_expire_ms(int64_t value, int unit_ms, int absolute, uint64_t now_ms, uint64_t *out);

/* Remaining time in ms of a head at now: -1: for ever, -2: not visible. */
int64_t access_ttl_ms(const struct secret_head *h, uint64_t now_ms);

/* A listing's cursor: "0" is the start and the end, else "c" and the last path in hex. to_path: ERR_RANGE when it is
 * neither. */
void access_reply_cursor(struct reply *r, struct bytes last, int more);
must_use enum err access_cursor_path(struct bytes cursor, struct buf *path);

/* A listing of v that engine_list_ready() put off: parks until the applier has caught up. */
enum call_result access_park_applied(struct call *c, struct vault *v);

#endif
