/* repl_links.c - who is connected: dialers for those to whom this node opens links, guests who came by PSYNC, and the
 * links of both.
 *
 * Between two voters the one with the lower index opens. A replica that is no voter opens one to each of them; without
 * voters one to whom it follows. A new link to a peer takes the old one's place: that one is half open, or the peer
 * started anew.
 *
 * A replica that is no voter is known by its run id, and by its address only while nobody is linked from there: two
 * that announce one address (behind one NAT, a replica-announce-port that was copied) would take the link from each
 * other for ever. One that started anew, and whose old link is half open, is there twice until the new one is in
 * session and the old one was silent for some seconds: then the old one goes.
 */
#include <stdio.h>

#include "base/clock.h"
#include "base/log.h"
#include "base/mem.h"
#include "server/conn.h"
#include "server/listen.h"
#include "server/repl_impl.h"

#define SILENT_MS 5000 /* of a replica that acknowledges heartbeats otherwise */

/* ---- links ---- */

static enum err on_frame(void *arg, struct link *l, const struct cell_msg *m, struct bytes records)
{
    struct repl *r = arg;
    if (r->node && m->type == CELL_DIGEST)
        repl_digest_told(r, link_peer(l), m);
    enum err e = r->node ? cellnode_received(r->node, link_peer(l), m, records, clock_mono_ms()) : ERR_OK;
    if (r->node && m->type == CELL_STAND)
        repl_told_to_stand(r, link_peer(l));
    return e;
}

const char *repl_peer_name(const struct repl *r, uint8_t peer, char out[VOTERS_HOST_BYTES + 16])
{
    const struct repl_guest *g = &r->guest[peer];
    const struct voter *v = peer < r->voters.n ? &r->voters.at[peer] : NULL;
    const struct dialer_config *d = r->dialer[peer] ? dialer_config(r->dialer[peer]) : NULL;
    snprintf(out, VOTERS_HOST_BYTES + 16, "%s:%d",
             v   ? v->host
             : d ? d->host
                 : g->host,
             v   ? v->port
             : d ? d->port
                 : g->port);
    return out;
}

static void lost(struct repl *r, uint8_t peer)
{
    r->link[peer] = NULL;
    pthread_mutex_lock(&r->lock);
    r->shown[peer].id = 0;
    pthread_mutex_unlock(&r->lock);
    if (r->node)
        cellnode_link_down(r->node, peer, clock_mono_ms());
    if (r->dialer[peer])
        dialer_again(r->dialer[peer]);
}

static void on_closed(void *arg, struct link *l, const char *why)
{
    struct repl *r = arg;
    char name[VOTERS_HOST_BYTES + 16];
    log_at(LOG_NOTICE, "The link to %s is gone: %s", repl_peer_name(r, link_peer(l), name), why);
    lost(r, link_peer(l));
}

static void drop_link(struct repl *r, uint8_t peer)
{
    struct link *l = r->link[peer];
    if (!l)
        return;
    lost(r, peer);
    link_close(l);
}

static struct link_settings link_settings(const struct repl *r)
{
    struct config *c = r->srv->config;
    struct link_settings s = {.timeout_ms = (uint64_t)config_int(c, CFG_REPL_TIMEOUT) * 1000,
                              .ping_ms = (uint64_t)config_int(c, CFG_REPL_PING_REPLICA_PERIOD) * 1000};
    config_obuf(c, OBUF_REPLICA, &s.limit);
    return s;
}

/* The socket is the link's, or closed. */
static void add_link(struct repl *r, uint8_t peer, struct sock sock, struct bytes out, struct bytes in)
{
    char name[VOTERS_HOST_BYTES + 16];
    struct link_config cfg = {.base = r->base,
                              .sock = sock,
                              .peer = peer,
                              .out = out,
                              .in = in,
                              .settings = link_settings(r),
                              .frame = on_frame,
                              .closed = on_closed,
                              .arg = r};
    drop_link(r, peer);
    if (link_new(&r->link[peer], &cfg)) {
        sock_close(&sock);
        if (r->dialer[peer])
            dialer_again(r->dialer[peer]);
        return;
    }
    r->trouble[peer][0] = 0;
    r->linked_as[peer] = ++r->links_made;
    cellnode_link_up(r->node, peer, clock_mono_ms());
    pthread_mutex_lock(&r->lock);
    r->shown[peer] =
        (struct repl_link){.id = atomic_fetch_add(&r->srv->next_client_id, 1) + 1, .since_ms = clock_mono_ms()};
    sock_ends(sock.fd, r->shown[peer].peer, r->shown[peer].local);
    snprintf(r->address[peer], sizeof r->address[peer], "%s", link_address(r->link[peer]));
    pthread_mutex_unlock(&r->lock);
    log_at(LOG_NOTICE, "Linked to %s%s", repl_peer_name(r, peer, name), sock.tls ? " over TLS" : "");
}

struct kill {
    struct repl_task task;
    uint64_t id;
};

static void run_kill(struct repl *r, struct repl_task *t)
{
    struct kill *k = mpsc_entry(t, struct kill, task);
    char name[VOTERS_HOST_BYTES + 16];
    for (uint8_t p = 0; p < CELL_PEERS; p++) {
        if (!r->link[p] || r->shown[p].id != k->id)
            continue;
        log_at(LOG_NOTICE, "The link to %s is closed: CLIENT KILL", repl_peer_name(r, p, name));
        drop_link(r, p);
    }
    mem_free(k);
}

enum err repl_link_kill(struct repl *r, uint64_t id)
{
    struct kill *k = mem_zalloc(sizeof *k);
    if (!k)
        return ERR_OOM;
    k->task.run = run_kill;
    k->id = id;
    repl_post(r, &k->task);
    return ERR_OK;
}

void repl_send(void *arg, uint8_t to, struct bytes head, struct bytes records)
{
    struct repl *r = arg;
    if (r->link[to])
        link_send(r->link[to], head, records);
}

void repl_links_resume(struct repl *r)
{
    for (unsigned p = 0; p < CELL_PEERS; p++)
        if (r->link[p])
            link_resume(r->link[p]);
}

unsigned repl_linked_voters(const struct repl *r)
{
    unsigned n = 0;
    for (unsigned p = 0; p < repl_voters(r); p++)
        n += r->link[p] || p == r->self || !r->voters.n;
    return n;
}

/* ---- dialing ---- */

void repl_self(void *arg, struct dial_self *s)
{
    struct repl *r = arg;
    struct config *c = r->srv->config;
    struct buf ip;

    pthread_mutex_lock(&r->lock);
    s->hello = r->mine;
    pthread_mutex_unlock(&r->lock);
    buf_init(&ip, 1024);
    if (config_text(c, CFG_REPLICA_ANNOUNCE_IP, &ip) == ERR_OK)
        snprintf(s->announce_host, sizeof s->announce_host, "%.*s", (int)buf_size(&ip), (const char *)buf_data(&ip));
    buf_fini(&ip);
    s->port = repl_own_port(r);
    s->tls = config_int(c, CFG_TLS_REPLICATION) ? r->srv->tls : NULL;
    if (config_text(c, CFG_MASTERUSER, &s->user) || config_text(c, CFG_MASTERAUTH, &s->password))
        buf_clear(&s->password); /* it will say what it wants */
}

struct dialed { /* the dialer may be gone when it is looked at */
    struct repl_task task;
    uint8_t peer;
    uint64_t id;
    struct dial_result r;
};

/* One line for each new reason. */
static void say_trouble(struct repl *r, uint8_t peer, const struct dial_result *res)
{
    char name[VOTERS_HOST_BYTES + 16];
    if (strcmp(r->trouble[peer], res->why) == 0)
        return;
    memcpy(r->trouble[peer], res->why, sizeof r->trouble[peer]);
    if (!r->node) { /* nobody publishes yet */
        pthread_mutex_lock(&r->lock);
        r->status.trouble[0] = 0;
        if (res->why[0])
            snprintf(r->status.trouble, sizeof r->status.trouble, "%s: %.1500s", repl_peer_name(r, peer, name),
                     res->why);
        pthread_mutex_unlock(&r->lock);
    }
    if (res->why[0])
        log_at(res->outcome == DIAL_FAILED ? LOG_NOTICE : LOG_WARNING, "No link to %s: %.1500s%s",
               repl_peer_name(r, peer, name), res->why,
               res->outcome == DIAL_NOT_COFFER ? ". It is not asked again; this node keeps its data" : "");
}

static void run_dialed(struct repl *r, struct repl_task *t)
{
    struct dialed *x = mpsc_entry(t, struct dialed, task);
    struct dialer *d = r->dialer[x->peer];
    int current = d && dialer_config(d)->id == x->id;

    if (x->r.outcome == DIAL_WELCOME && current && r->node) {
        add_link(r, x->peer, x->r.sock, bytes_of(NULL, 0), bytes_of(x->r.early, x->r.early_n));
    } else if (x->r.outcome == DIAL_WELCOME) {
        sock_close(&x->r.sock);
        if (current)
            dialer_again(d);
    } else if (current) {
        say_trouble(r, x->peer, &x->r);
        if (x->r.outcome == DIAL_STRANGER)
            repl_meet_stranger(r, x->peer, &x->r.theirs);
    }
    mem_free(x);
}

static void introduced(struct repl *r, const struct hello_node *theirs)
{
    pthread_mutex_lock(&r->lock);
    founding_saw(&r->founding, theirs);
    pthread_cond_broadcast(&r->changed);
    pthread_mutex_unlock(&r->lock);
}

static void on_dialed(void *arg, struct dialer *d, const struct dial_result *res)
{
    struct repl *r = arg;
    struct dialed *x = mem_zalloc(sizeof *x);
    if (res->outcome == DIAL_INTRODUCED)
        introduced(r, &res->theirs);
    if (!x && res->sock.fd >= 0) {
        struct sock sock = res->sock;
        sock_close(&sock);
        dialer_again(d);
    }
    if (!x)
        return;
    x->task.run = run_dialed;
    x->peer = dialer_config(d)->peer;
    x->id = dialer_config(d)->id;
    x->r = *res;
    repl_post(r, &x->task);
}

static enum err dial(struct repl *r, uint8_t peer, const char *host, int port)
{
    struct dialer_config cfg = {
        .port = port, .peer = peer, .id = ++r->dialers, .self = repl_self, .result = on_dialed, .arg = r};
    snprintf(cfg.host, sizeof cfg.host, "%s", host);
    return dialer_new(&r->dialer[peer], &cfg);
}

enum err repl_dial_voters(struct repl *r)
{
    enum err e = ERR_OK;
    if (!r->voters.n)
        return dial(r, REPL_SOURCE, r->first.host, r->first.port);
    unsigned from = r->self < r->voters.n ? r->self + 1u : 0;
    for (unsigned p = from; p < r->voters.n && !e; p++)
        e = dial(r, (uint8_t)p, r->voters.at[p].host, r->voters.at[p].port);
    return e;
}

/* Ending waits for a name to resolve, maybe: that is left for the end, or until there are too many. */
static void leave(struct repl *r, struct dialer *d)
{
    dialer_leave(d);
    for (unsigned i = 0; i < CELL_PEERS; i++) {
        if (r->leaving[i] && dialer_has_left(r->leaving[i])) {
            dialer_free(r->leaving[i]);
            r->leaving[i] = NULL;
        }
        if (!r->leaving[i] && d) {
            r->leaving[i] = d;
            d = NULL;
        }
    }
    dialer_free(d);
}

/* Before the other one is dialed: of two strangers that are told to follow each other, one at least is refused. */
static void show_seeking(struct repl *r, int seeks)
{
    pthread_mutex_lock(&r->lock);
    r->seeks = seeks;
    pthread_mutex_unlock(&r->lock);
}

void repl_dial_source(struct repl *r, const char *host, int port)
{
    const struct dialer_config *now = r->dialer[REPL_SOURCE] ? dialer_config(r->dialer[REPL_SOURCE]) : NULL;
    show_seeking(r, port != 0);
    if (now && port && now->port == port && strcmp(now->host, host) == 0) {
        if (!r->link[REPL_SOURCE])
            dialer_again(r->dialer[REPL_SOURCE]);
        return;
    }
    if (now) {
        struct dialer *d = r->dialer[REPL_SOURCE];
        r->dialer[REPL_SOURCE] = NULL;
        drop_link(r, REPL_SOURCE);
        leave(r, d);
    }
    r->trouble[REPL_SOURCE][0] = 0;
    if (port && dial(r, REPL_SOURCE, host, port))
        log_at(LOG_WARNING, "Out of memory for a link to %s:%d", host, port);
}

/* ---- who comes in ---- */

struct guest {
    struct repl_task task;
    struct sock sock;
    struct repl_guest g;
};

/* Places of those who came: behind the voters, or whom this node follows. */
static unsigned first_guest(const struct repl *r)
{
    return r->voters.n ? r->voters.n + (r->self >= r->voters.n) : REPL_SOURCE + 1;
}

static int same_address(const struct repl_guest *a, const struct repl_guest *b)
{
    return a->port && a->port == b->port && strcmp(a->host, b->host) == 0;
}

/* Which of a replica's places it gets; the best are last. */
enum fit { FIT_NOT, FIT_FREE, FIT_ADDRESS, FIT_RUN };

static enum fit fit(const struct repl *r, unsigned p, const struct repl_guest *g)
{
    if (strcmp(r->guest[p].hello.run_id, g->hello.run_id) == 0)
        return FIT_RUN;
    if (r->link[p])
        return FIT_NOT;
    return same_address(&r->guest[p], g) ? FIT_ADDRESS : FIT_FREE;
}

/* A replica that is no voter: its place is the one it had, when it comes again, or else a free one. CELL_NOBODY: there
 * is none. */
static uint8_t place_for(const struct repl *r, const struct repl_guest *g)
{
    uint8_t best = CELL_NOBODY;
    enum fit as = FIT_NOT;
    if (g->hello.index >= 0)
        return (uint8_t)g->hello.index;
    for (unsigned p = first_guest(r); p < CELL_PEERS; p++) {
        enum fit f = fit(r, p, g);
        if (f > as) {
            as = f;
            best = (uint8_t)p;
        }
    }
    return best;
}

/* Once for each time that one of the two starts. */
static void warn_of_twins(const struct repl *r, uint8_t place, const struct repl_guest *g)
{
    if (g->hello.index >= 0 || strcmp(r->guest[place].hello.run_id, g->hello.run_id) == 0)
        return;
    for (unsigned p = 0; p < CELL_PEERS; p++) {
        if (p == place || !r->link[p] || !same_address(&r->guest[p], g))
            continue;
        log_at(LOG_WARNING,
               "Two replicas announce %s:%d, unless one of the links is dead: each needs a replica-announce-ip and "
               "replica-announce-port of its own",
               g->host, g->port);
        return;
    }
}

static void take_in(struct repl *r, uint8_t peer, struct guest *x)
{
    char text[HELLO_TEXT_BYTES], line[HELLO_TEXT_BYTES + 16];
    pthread_mutex_lock(&r->lock);
    hello_put(&r->mine, text);
    pthread_mutex_unlock(&r->lock);
    int n = snprintf(line, sizeof line, "+CONTINUE %s\r\n", text);
    warn_of_twins(r, peer, &x->g);
    r->guest[peer] = x->g;
    add_link(r, peer, x->sock, bytes_of(line, (size_t)n), bytes_of(NULL, 0));
}

/* It asks again each second, and so may others: not each time is told. */
static void turn_away(struct repl *r, struct guest *x)
{
    static const char full[] = "-ERR no place for more replicas\r\n",
                      early[] = "-LOADING this node takes no replicas now\r\n";
    const char *text = r->node ? full : early;
    uint64_t now_us = clock_mono_us();
    (void)!sock_send(&x->sock, text, strlen(text)); /* as far as the socket takes it at once */
    sock_close(&x->sock);
    if (!r->node || (r->full_said_us && now_us - r->full_said_us < REPL_SAY_US))
        return;
    r->full_said_us = now_us;
    log_at(LOG_WARNING, "There is no place for more replicas: %s:%d is turned away", x->g.host, x->g.port);
}

static void run_guest(struct repl *r, struct repl_task *t)
{
    struct guest *x = mpsc_entry(t, struct guest, task);
    if (!r->node) {
        repl_turn_on(r); /* whom others follow leads */
        if (r->node)
            repl_lead_now(r);
    }
    uint8_t peer = r->node ? place_for(r, &x->g) : CELL_NOBODY;
    if (peer == CELL_NOBODY)
        turn_away(r, x);
    else
        take_in(r, peer, x);
    mem_free(x);
}

const char *repl_insecure(const struct server *srv, const struct conn *c)
{
    if (!config_int(srv->config, CFG_TLS_REPLICATION) || conn_is_certified(c))
        return NULL;
    return conn_is_tls(c) ? "tls-replication: a link takes a certificate, and tls-auth-clients no asks for none"
                          : "tls-replication: this node takes links over TLS only";
}

static enum err take_over(struct repl *r, struct conn *c, const struct repl_guest *g)
{
    struct guest *x = mem_zalloc(sizeof *x);
    if (!x)
        return ERR_OOM;
    x->task.run = run_guest;
    x->g = *g;
    pthread_mutex_lock(&r->lock);
    enum err e = repl_thread_start(r);
    pthread_mutex_unlock(&r->lock);
    if (!e)
        e = conn_detach(c, &x->sock);
    if (e) {
        mem_free(x);
        return e;
    }
    repl_post(r, &x->task);
    return ERR_OK;
}

enum repl_accepted repl_accept(struct repl *r, struct conn *c, const struct repl_guest *g,
                               char text[HELLO_WHY_BYTES + HELLO_TEXT_BYTES])
{
    char why[HELLO_WHY_BYTES], mine[HELLO_TEXT_BYTES];
    enum err e;
    const char *plain = repl_insecure(r->srv, c);
    pthread_mutex_lock(&r->lock);
    enum hello_verdict v = hello_judge(&r->mine, &g->hello, why);
    int stopped = r->phase == REPL_STOPPED, early = !r->mine.voters[0], seeks = r->seeks;
    if (!early && !plain && v == HELLO_INTRODUCE) {
        founding_saw(&r->founding, &g->hello);
        pthread_cond_broadcast(&r->changed);
    }
    hello_put(&r->mine, mine);
    pthread_mutex_unlock(&r->lock);

    int wrong_way = !early && g->hello.index >= 0 && r->self < r->voters.n && g->hello.index > r->self;
    if (early || stopped)
        snprintf(text, HELLO_WHY_BYTES, "LOADING this node does not take replicas yet, or any more");
    else if (plain)
        snprintf(text, HELLO_WHY_BYTES, "ERR %s", plain);
    else if (v == HELLO_REFUSED)
        snprintf(text, HELLO_WHY_BYTES, "ERR %.2000s", why);
    else if (v == HELLO_STRANGER && seeks) /* what is here may be about to go: both would take the other's */
        snprintf(text, HELLO_WHY_BYTES, "NOMASTERLINK this node follows another one, and has no link to it yet");
    else if (v == HELLO_INTRODUCE || v == HELLO_STRANGER)
        snprintf(text, HELLO_WHY_BYTES + HELLO_TEXT_BYTES, "NEWBORN %s", mine);
    else if (wrong_way)
        snprintf(text, HELLO_WHY_BYTES, "ERR the voter with the lower index opens the link: that is this node");
    else if ((e = take_over(r, c, g)))
        snprintf(text, HELLO_WHY_BYTES, "OOM out of memory");
    else
        return REPL_TAKEN;
    return REPL_ANSWERED;
}

/* ---- now and then ---- */

/* A newer link from the same address is in session, and this one has nothing to say. If it is alive nevertheless, since
 * two announce one address and this one copies a snapshot, it comes again, and is the newer one then. */
static int is_left_behind(const struct repl *r, unsigned p, uint64_t now_ms)
{
    const struct cell *c = cellnode_cell(r->node);
    if (!r->link[p] || c->peer[p].session || now_ms - c->peer[p].alive_ms < SILENT_MS)
        return 0;
    for (unsigned q = first_guest(r); q < CELL_PEERS; q++)
        if (r->link[q] && c->peer[q].session && r->linked_as[q] > r->linked_as[p] &&
            same_address(&r->guest[p], &r->guest[q]))
            return 1;
    return 0;
}

void repl_links_check(struct repl *r, uint64_t now_ms)
{
    struct link_settings s = link_settings(r);
    for (unsigned p = first_guest(r); p < CELL_PEERS; p++) {
        if (!is_left_behind(r, p, now_ms))
            continue;
        log_at(LOG_NOTICE, "The link to %s:%d is silent, and a newer one is there: it is closed", r->guest[p].host,
               r->guest[p].port);
        drop_link(r, (uint8_t)p);
    }
    for (unsigned p = 0; p < CELL_PEERS; p++)
        if (r->link[p])
            link_check(r->link[p], now_ms, &s);
}

void repl_links_close(struct repl *r)
{
    for (unsigned p = 0; p < CELL_PEERS; p++) { /* all are told before the first is waited for */
        if (r->dialer[p])
            dialer_leave(r->dialer[p]);
    }
    for (unsigned p = 0; p < CELL_PEERS; p++) {
        dialer_free(r->dialer[p]);
        dialer_free(r->leaving[p]);
        r->dialer[p] = r->leaving[p] = NULL;
        link_close(r->link[p]);
        r->link[p] = NULL;
    }
}
