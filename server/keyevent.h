/* keyevent.h - keyspace notifications: what happens to secrets, told to whoever subscribed to it.
 *
 *     __keyspace@<db>__:<key>     the message is the event's name
 *     __keyevent@<db>__:<event>   the message is the key
 *
 * notify-keyspace-events says which: K and E which of the two channels, the other letters which classes of events. A
 * key is what a client of the facade calls it in its database; a secret of another vault is `{vault}/path` in database
 * 0. Never a value.
 *
 * Events are sent when their record is durable, by the log writer, in the log's order: before the answer, never for
 * what was refused. Nothing is sent for what the log may or may not hold (UNCERTAIN).
 *
 * Threads: all functions from any. None blocks but for a short lock.
 */
#ifndef COFFER_SERVER_KEYEVENT_H
#define COFFER_SERVER_KEYEVENT_H

#include <stdatomic.h>

#include "base/buf.h"
#include "base/bytes.h"
#include "base/err.h"

struct change;
struct server;
struct vault;

/* EVENT(enum name, class, name on the wire); EVENT_NONE: what the kind of step says. */
#define KEYEVENTS(EVENT)                   \
    EVENT(SET, '$', "set")                 \
    EVENT(DEL, 'g', "del")                 \
    EVENT(EXPIRE, 'g', "expire")           \
    EVENT(PERSIST, 'g', "persist")         \
    EVENT(RENAME_FROM, 'g', "rename_from") \
    EVENT(RENAME_TO, 'g', "rename_to")     \
    EVENT(COPY_TO, 'g', "copy_to")         \
    EVENT(MOVE_FROM, 'g', "move_from")     \
    EVENT(MOVE_TO, 'g', "move_to")         \
    EVENT(RESTORE, 'g', "restore")         \
    EVENT(APPEND, '$', "append")           \
    EVENT(SETRANGE, '$', "setrange")       \
    EVENT(SETBIT, '$', "setbit")           \
    EVENT(INCRBY, '$', "incrby")           \
    EVENT(INCRBYFLOAT, '$', "incrbyfloat") \
    EVENT(EXPIRED, 'x', "expired")         \
    EVENT(NEW, 'n', "new")                 \
    EVENT(MISS, 'm', "keymiss")

enum key_event {
    EVENT_NONE,
#define AS_ENUM(id, class, name) EVENT_##id,
    KEYEVENTS(AS_ENUM)
#undef AS_ENUM
        EVENT_COUNT
};

/* notify-keyspace-events as bits; ERR_SYNTAX: it has a letter that means nothing. */
must_use enum err keyevent_parse(struct bytes classes, unsigned *flags);
/* The flags as Redis writes them, "AKE"; at most 32 bytes with a NUL. */
void keyevent_format(unsigned flags, char out[32]);
void keyevent_set(unsigned flags);
unsigned keyevent_bit(char letter); /* 0: it means nothing */

extern _Atomic unsigned keyevent_flags;
static inline int keyevent_wanted(void)
{
    return atomic_load_explicit(&keyevent_flags, memory_order_relaxed) != 0;
}

/* One event, if it is wanted. */
void keyevent_send(struct server *srv, enum key_event event, unsigned db, struct bytes key);
/* The same by vault and path. */
void keyevent_secret(struct server *srv, enum key_event event, const struct vault *v, struct bytes path);
/* Those of a committed change. */
void keyevent_of_change(const struct change *ch);

#endif
