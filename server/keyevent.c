/* keyevent.c - see keyevent.h. A step's kind says what happened, unless its submitter said it better (step.event). */
#include "server/keyevent.h"

#include <stdio.h>
#include <stdlib.h>

#include "engine/databases.h"
#include "server/change.h"
#include "server/io.h"
#include "server/pubsub.h"
#include "server/server.h"

static const struct {
    char class;
    const char *name;
} events[] = {[EVENT_NONE] = {0, NULL},
#define AS_ROW(id, class, name) [EVENT_##id] = {class, name},
              KEYEVENTS(AS_ROW)
#undef AS_ROW
};

static void tell(struct server *srv, const char *kind, unsigned db, struct bytes about, struct bytes message)
{
    struct buf channel;
    buf_init(&channel, SIZE_MAX / 4);
    if (buf_putf(&channel, "__%s@%u__:", kind, db) == ERR_OK && buf_put(&channel, about.p, about.n) == ERR_OK)
        pubsub_publish(srv->pubsub, PUBSUB_CHANNEL, buf_bytes(&channel), message);
    buf_fini(&channel);
}

void keyevent_send(struct server *srv, enum key_event event, unsigned db, struct bytes key)
{
    unsigned flags = atomic_load_explicit(&keyevent_flags, memory_order_relaxed);
    if (event == EVENT_NONE || !(flags & keyevent_bit(events[event].class)) || !pubsub_any(srv->pubsub))
        return;
    struct bytes name = bytes_str(events[event].name);
    if (flags & keyevent_bit('K'))
        tell(srv, "keyspace", db, key, name);
    if (flags & keyevent_bit('E'))
        tell(srv, "keyevent", db, name, key);
}

void keyevent_secret(struct server *srv, enum key_event event, const struct vault *v, struct bytes path)
{
    struct buf key;
    if (v->facade) {
        unsigned number = (unsigned)strtoul(v->name + 2, NULL, 10); /* "db<n>" */
        keyevent_send(srv, event, databases_of_vault(engine_databases(srv->engine), number), path);
        return;
    }
    buf_init(&key, SIZE_MAX / 4);
    if (buf_putf(&key, "{%s}/", v->name) == ERR_OK && buf_put(&key, path.p, path.n) == ERR_OK)
        keyevent_send(srv, event, 0, buf_bytes(&key));
    buf_fini(&key);
}

static enum key_event event_of(const struct step *s)
{
    switch (s->kind) {
    case STEP_SECRET_SET:
    case STEP_SECRET_UNDELETE:
        return s->event ? s->event : EVENT_SET;
    case STEP_SECRET_DELETE:
    case STEP_SECRET_DESTROY:
        return s->event ? s->event : EVENT_DEL;
    case STEP_SECRET_EXPIRE:
        return s->out_version ? EVENT_DEL : s->expires_ms ? EVENT_EXPIRE : EVENT_PERSIST;
    default:
        return EVENT_NONE;
    }
}

void keyevent_of_change(const struct change *ch)
{
    struct server *srv = io_server(ch->io);
    for (unsigned i = 0; i < ch->w.steps; i++) {
        const struct step *s = &ch->step[i];
        const struct vault *v = change_vault(ch, s);
        enum key_event e = event_of(s);
        if (!s->changed || s->err || !v || !e)
            continue;
        if (s->created)
            keyevent_secret(srv, EVENT_NEW, v, s->path);
        keyevent_secret(srv, e, v, s->path);
        if (s->kind == STEP_SECRET_SET && s->expires_ms && (e == EVENT_SET))
            keyevent_secret(srv, EVENT_EXPIRE, v, s->path);
    }
}
