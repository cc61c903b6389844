/* cmd_hsm.c - HSM.INFO, HSM.SEAL, HSM.UNSEAL.
 *
 *     SEAL     srv->sealed -> workers end -> the ring is emptied -> every I/O thread wipes its cipher contexts -> the
 * ring once more, for a data key that was on its way -> OK: nothing of a data key is left in memory UNSEAL   workers
 * start with this PIN -> state UP: srv->sealed is taken back, OK. Anything else: it stays sealed
 *
 * UNSEAL is asked for, not done: a timer looks for the outcome, which takes as long as a module takes to load and log
 * in. A PIN is tried once: real HSMs lock after a few wrong ones. */
#include <event2/event.h>
#include <event2/event_struct.h>

#include "base/log.h"
#include "base/mem.h"
#include "resp/number.h"
#include "server/change.h"
#include "server/handlers.h"
#include "server/io.h"
#include "server/server.h"
#include "server/walcall.h"

#define POLL_US 10000
#define GIVE_UP_US 120000000ull /* longer than a start may take */

static int hsm_ready(struct call *c)
{
    if (!walcall_ready(c))
        return 0;
    if (c->srv->hsm)
        return 1;
    call_errorf(c, ERR_HSMDOWN, "this server has no HSM");
    return 0;
}

/* ---- HSM.INFO ---- */

/* The next "name:value" line of text. 1: there was one. */
static int next_line(struct bytes *text, struct bytes *name, struct bytes *value)
{
    const uint8_t *end, *colon;
    while (text->n) {
        end = memchr(text->p, '\n', text->n);
        size_t n = end ? (size_t)(end - text->p) : text->n;
        struct bytes line = bytes_of(text->p, n);
        *text = bytes_of(text->p + n, text->n - n);
        if (end)
            *text = bytes_of(text->p + 1, text->n - 1);
        colon = line.n ? memchr(line.p, ':', line.n) : NULL;
        if (!colon)
            continue;
        *name = bytes_of(line.p, (size_t)(colon - line.p));
        *value = bytes_of(colon + 1, line.n - name->n - 1);
        return 1;
    }
    return 0;
}

static unsigned put_lines(struct reply *r, struct bytes text)
{
    struct bytes name, value;
    unsigned n = 0;
    int64_t number;

    for (; next_line(&text, &name, &value); n++) {
        reply_bulk(r, name);
        if (number_parse(value, &number))
            reply_int(r, number);
        else
            reply_bulk(r, value);
    }
    return n;
}

enum call_result cmd_hsm_info(struct call *c)
{
    struct reply *r = c->reply;
    struct hsm_stats s;
    struct buf text;

    if (!hsm_ready(c))
        return CALL_DONE;
    buf_init(&text, 65536);
    enum err err = hsm_info(c->srv->hsm, &text);
    if (err) {
        buf_fini(&text);
        return call_error(c, err);
    }
    hsm_stats(c->srv->hsm, &s);
    size_t mark = reply_mark(r);
    reply_bulk_str(r, "state");
    reply_bulk_str(r, hsm_state_name(hsm_state_now(c->srv->hsm)));
    reply_bulk_str(r, "sealed");
    reply_bool(r, atomic_load(&c->srv->sealed));
    walcall_reply_int(r, "workers-up", s.workers_up);
    walcall_reply_int(r, "in-flight", s.in_flight);
    walcall_reply_int(r, "requests", s.requests);
    walcall_reply_int(r, "errors", s.errors);
    walcall_reply_int(r, "timeouts", s.timeouts);
    walcall_reply_int(r, "restarts", s.restarts);
    walcall_reply_int(r, "recycled", s.recycled);
    walcall_reply_int(r, "latency-us-p50", s.latency_us_p50);
    walcall_reply_int(r, "latency-us-p99", s.latency_us_p99);
    unsigned lines = put_lines(r, buf_bytes(&text));
    reply_insert_map(r, mark, 11 + lines);
    buf_fini(&text);
    return CALL_DONE;
}

/* ---- HSM.SEAL ---- */

struct seal {
    struct pending p;
    struct io_tour tour;
    struct keyring *ring;
};

static void seal_visit(struct io_tour *t, struct io *io)
{
    (void)t;
    if (io_opener(io))
        opener_drop_stale(io_opener(io));
    change_editor_drop_stale();
}

static void seal_done(struct io_tour *t, struct io *io)
{
    struct seal *s = mpsc_entry(t, struct seal, tour);
    (void)io;
    keyring_drop_all(s->ring);
    pending_complete(&s->p);
}

static void seal_finish(struct pending *p, struct reply *r)
{
    (void)p;
    reply_ok(r);
}

static void seal_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct seal, p));
}

enum call_result cmd_hsm_seal(struct call *c)
{
    if (!hsm_ready(c))
        return CALL_DONE;
    atomic_store(&c->srv->sealed, 1);
    hsm_seal(c->srv->hsm);
    keyring_drop_all(c->srv->keyring);
    log_at(LOG_WARNING, "Sealed by HSM.SEAL: data keys are wiped, HSM.UNSEAL takes it back");
    struct seal *s = mem_zalloc(sizeof *s);
    if (!s) /* it is sealed all the same */
        return call_error(c, ERR_OOM);
    s->ring = c->srv->keyring;
    s->tour.visit = seal_visit;
    s->tour.done = seal_done;
    call_pending(c, &s->p, seal_finish, seal_release);
    io_tour(c->io, &s->tour);
    return CALL_PENDING;
}

/* ---- HSM.UNSEAL pin ---- */

struct unseal {
    struct pending p;
    struct server *srv;
    struct io *io;
    struct event ev;
    uint64_t give_up_us;
    enum hsm_state state; /* the outcome */
};

static void unseal_finish(struct pending *p, struct reply *r)
{
    struct unseal *u = mpsc_entry(p, struct unseal, p);
    if (u->state == HSM_STATE_UP)
        reply_ok(r);
    else if (u->state == HSM_STATE_FAILED)
        reply_errorf(
            r, err_prefix(ERR_HSMDOWN),
            "the HSM refused the PIN, or is misconfigured: see the server's log before you try again, HSMs lock");
    else
        reply_errorf(r, err_prefix(ERR_HSMDOWN), "the HSM did not start (%s): see the server's log",
                     hsm_state_name(u->state));
}

static void unseal_release(struct pending *p)
{
    mem_free(mpsc_entry(p, struct unseal, p));
}

static void unseal_poll(evutil_socket_t fd, short what, void *arg)
{
    struct unseal *u = arg;
    (void)fd;
    (void)what;
    u->state = hsm_state_now(u->srv->hsm);
    if (u->state == HSM_STATE_STARTING && io_now_us(u->io) < u->give_up_us)
        return;
    event_del(&u->ev);
    if (u->state == HSM_STATE_UP) {
        atomic_store(&u->srv->sealed, 0);
        if (hsm_state_now(u->srv->hsm) == HSM_STATE_SEALED) /* a SEAL came in between */
            atomic_store(&u->srv->sealed, 1);
        log_at(LOG_NOTICE, "Unsealed by HSM.UNSEAL");
    }
    pending_complete(&u->p);
}

enum call_result cmd_hsm_unseal(struct call *c)
{
    static const struct timeval every = {0, POLL_US};

    if (!hsm_ready(c))
        return CALL_DONE;
    if (hsm_state_now(c->srv->hsm) == HSM_STATE_UP && !atomic_load(&c->srv->sealed))
        return call_errorf(c, ERR_KEYSTATE, "the server is not sealed");
    struct unseal *u = mem_zalloc(sizeof *u);
    if (!u)
        return call_error(c, ERR_OOM);
    u->srv = c->srv;
    u->io = c->io;
    u->give_up_us = io_now_us(c->io) + GIVE_UP_US;
    enum err err = event_assign(&u->ev, io_base(c->io), -1, EV_PERSIST, unseal_poll, u) || event_add(&u->ev, &every)
                       ? ERR_OOM
                       : ERR_OK;
    if (err == ERR_OK && (err = hsm_unseal(c->srv->hsm, c->argv[1])) != ERR_OK)
        event_del(&u->ev);
    if (err) {
        mem_free(u);
        return err == ERR_RANGE ? call_errorf(c, err, "a PIN has 1 to 255 bytes") : call_error(c, err);
    }
    call_pending(c, &u->p, unseal_finish, unseal_release);
    return CALL_PENDING;
}
