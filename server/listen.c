/* listen.c - see listen.h.
 *
 * A listener is a socket, its address as text, and an event on the main loop. open_all() makes the list of addresses
 * that the configuration wants, takes over those that are open already, opens the others, and drops what is left of the
 * old list.
 *
 * A change comes on an I/O thread (CONFIG SET), events belong to the main loop: so new listeners are handed to it as a
 * task, and old ones are shut down at once, which frees the address, and closed by a task. Their event may fire once
 * more in between: accept then fails with EINVAL, which is ignored.
 *
 * Out of descriptors: accept fails with EMFILE while the connection stays in the backlog and its event stays ready.
 * Accepting pauses for a tenth of a second then, instead of spinning. So it does, for TLS alone, while too many
 * handshakes are under way: the others wait in the backlog, which is fair when a thousand clients come back at once.
 */
#include "server/listen.h"

#include <arpa/inet.h>
#include <errno.h>
#include <event2/event.h>
#include <event2/event_struct.h>
#include <netdb.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <pthread.h>
#include <stdio.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/log.h"
#include "base/mem.h"
#include "server/acl.h"
#include "server/io.h"

#define ACCEPTS_A_TURN 64
#define BINDS_MAX 16

struct listener {
    struct listener *next;
    struct listeners *all;
    struct io_task task; /* to the main loop: add, or close and free */
    struct event ev;
    int fd, added;
    enum io_transport transport;
    char address[128]; /* "127.0.0.1:7379", a path */
};

struct listeners {
    struct server *srv;
    pthread_mutex_t lock; /* of list: changes come from any thread */
    struct listener *list;
    struct event pause_ev;
    unsigned turn;        /* main thread: which I/O thread is next */
    int port[IO_TLS + 1]; /* under lock */
    char unix_path[108];
};

static const char denied[] =
    "-DENIED Coffer is running in protected mode because protected mode is enabled and no password is set for the "
    "default user. In this mode "
    "connections are only accepted from the loopback interface and the UNIX socket. To connect from elsewhere, either "
    "set a password with "
    "requirepass or an ACL user, or switch protected mode off with 'CONFIG SET protected-mode no' from the loopback "
    "interface, if the network "
    "is trusted. Then make sure that the directive bind names the address of that network.\r\n";
static const char too_many[] = "-ERR max number of clients reached\r\n";

/* ---- accepting ---- */

static int is_loopback(const struct sockaddr_storage *a)
{
    if (a->ss_family == AF_INET)
        return ntohl(((const struct sockaddr_in *)(const void *)a)->sin_addr.s_addr) >> 24 == 127;
    if (a->ss_family == AF_INET6) {
        const struct in6_addr *ip = &((const struct sockaddr_in6 *)(const void *)a)->sin6_addr;
        return IN6_IS_ADDR_LOOPBACK(ip) || (IN6_IS_ADDR_V4MAPPED(ip) && ip->s6_addr[12] == 127);
    }
    return 0;
}

static int is_protected(struct server *srv)
{
    if (!config_int(srv->config, CFG_PROTECTED_MODE))
        return 0;
    struct acl_user *u = acl_default(srv->acl);
    int open = acl_user_open(u) && !acl_user_unknown(u); /* one that is not known yet may do nothing */
    acl_user_unref(u);
    return open;
}

/* Says why, as far as the socket takes it at once, and closes. */
static void turn_away(struct server *srv, int fd, enum io_transport transport, const char *why)
{
    static const uint8_t alert[] = {21, 3, 3, 0, 2, 2, 49}; /* TLS: fatal, access_denied */
    struct bytes text = transport == IO_TLS ? bytes_of(alert, sizeof alert) : bytes_str(why);
    atomic_fetch_add(&srv->rejected_connections, 1);
    ssize_t rc = send(fd, text.p, text.n, MSG_NOSIGNAL | MSG_DONTWAIT);
    (void)rc;
    close(fd);
}

static void take(struct listeners *l, struct listener *at, int fd, const struct sockaddr_storage *from)
{
    struct server *srv = l->srv;
    unsigned clients = atomic_fetch_add(&srv->clients, 1) + 1;
    const char *why = NULL;

    if (clients > (uint64_t)config_int(srv->config, CFG_MAXCLIENTS))
        why = too_many;
    else if (at->transport != IO_UNIX && !is_loopback(from) && is_protected(srv))
        why = denied;
    if (!why && at->transport == IO_TLS)
        atomic_fetch_add(&srv->handshakes, 1);
    if (!why && io_adopt(srv->io[l->turn++ % srv->io_count], fd, at->transport) == ERR_OK) {
        if (clients > atomic_load_explicit(&srv->peak_clients, memory_order_relaxed))
            atomic_store_explicit(&srv->peak_clients, clients, memory_order_relaxed);
        return;
    }
    atomic_fetch_sub(&srv->clients, 1);
    if (why) {
        turn_away(srv, fd, at->transport, why);
        return;
    }
    if (at->transport == IO_TLS)
        atomic_fetch_sub(&srv->handshakes, 1);
    close(fd);
}

static void each_event(struct listeners *l, int tls_only, int (*fn)(struct event *))
{
    pthread_mutex_lock(&l->lock);
    for (struct listener *at = l->list; at; at = at->next)
        if (at->added && (!tls_only || at->transport == IO_TLS))
            fn(&at->ev);
    pthread_mutex_unlock(&l->lock);
}

static int add_event(struct event *ev)
{
    return event_add(ev, NULL);
}

static void on_pause_over(evutil_socket_t fd, short what, void *arg)
{
    (void)fd;
    (void)what;
    each_event(arg, 0, add_event);
}

static void pause_accepting(struct listeners *l, int tls_only)
{
    struct timeval tenth = {.tv_usec = 100000};
    each_event(l, tls_only, event_del);
    event_add(&l->pause_ev, &tenth);
}

static int is_crowded(const struct listener *at)
{
    return at->transport == IO_TLS && atomic_load(&at->all->srv->handshakes) >= IO_HANDSHAKES;
}

static void on_accept(evutil_socket_t fd, short what, void *arg)
{
    struct listener *at = arg;
    (void)what;
    for (unsigned i = 0; i < ACCEPTS_A_TURN; i++) {
        struct sockaddr_storage from;
        socklen_t n = sizeof from;
        if (is_crowded(at)) {
            pause_accepting(at->all, 1);
            return;
        }
        int client = accept4(fd, (struct sockaddr *)&from, &n, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (client >= 0) {
            take(at->all, at, client, &from);
            continue;
        }
        if (errno == EMFILE || errno == ENFILE || errno == ENOBUFS || errno == ENOMEM) {
            log_at(LOG_WARNING, "Accepting client connection: %s", strerror(errno));
            pause_accepting(at->all, 0);
            return;
        }
        if (errno != EINTR && errno != ECONNABORTED)
            return;
    }
}

/* ---- listeners ---- */

static void added_on_main(struct io_task *t, struct io *io)
{
    struct listener *at = mpsc_entry(t, struct listener, task);
    if (event_assign(&at->ev, io_base(io), at->fd, EV_READ | EV_PERSIST, on_accept, at) == 0 &&
        event_add(&at->ev, NULL) == 0)
        at->added = 1;
    else
        log_at(LOG_WARNING, "Out of memory: not accepting on %s", at->address);
}

static void dropped_on_main(struct io_task *t, struct io *io)
{
    struct listener *at = mpsc_entry(t, struct listener, task);
    (void)io;
    if (at->added)
        event_del(&at->ev);
    close(at->fd);
    mem_free(at);
}

static void drop(struct listener *at)
{
    shutdown(at->fd, SHUT_RDWR); /* the address is free from now on */
    at->task.run = dropped_on_main;
    io_post(at->all->srv->main, &at->task);
}

static enum err wrap(struct listeners *l, int fd, enum io_transport transport, const char *address,
                     struct listener **out)
{
    struct listener *at = *out = mem_zalloc(sizeof *at);
    if (!at)
        return ERR_OOM;
    at->all = l;
    at->fd = fd;
    at->transport = transport;
    snprintf(at->address, sizeof at->address, "%s", address);
    at->task.run = added_on_main;
    return ERR_OK;
}

static int listening_socket(const struct addrinfo *ai, int backlog)
{
    int on = 1, fd = socket(ai->ai_family, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0)
        return -1;
    if (ai->ai_family == AF_INET6)
        (void)setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof on);
    (void)setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, ai->ai_addr, ai->ai_addrlen) == 0 && listen(fd, backlog) == 0)
        return fd;
    int error = errno;
    close(fd);
    errno = error;
    return -1;
}

/* *out NULL with ERR_OK: an optional address that this machine does not have. */
static enum err open_tcp(struct listeners *l, enum io_transport transport, const char *host, int optional, int port,
                         struct listener **out)
{
    struct addrinfo hints = {.ai_flags = AI_PASSIVE | AI_NUMERICHOST | AI_NUMERICSERV, .ai_socktype = SOCK_STREAM}, *ai;
    char service[8], address[128];
    const char *name = strcmp(host, "*") == 0 ? "0.0.0.0" : strcmp(host, "::*") == 0 ? "::" : host;

    *out = NULL;
    snprintf(service, sizeof service, "%d", port);
    snprintf(address, sizeof address, "%s:%d", host, port);
    int rc = getaddrinfo(name, service, &hints, &ai);
    if (rc) {
        log_at(LOG_WARNING, "Could not create server TCP listening socket %s: %s", address, gai_strerror(rc));
        return ERR_IO;
    }
    int fd = listening_socket(ai, (int)config_int(l->srv->config, CFG_TCP_BACKLOG)), error = errno;
    freeaddrinfo(ai);
    if (fd < 0) {
        if (optional &&
            (error == EADDRNOTAVAIL || error == EAFNOSUPPORT || error == EPROTONOSUPPORT || error == ENOPROTOOPT))
            return ERR_OK;
        log_at(LOG_WARNING, "Could not create server TCP listening socket %s: bind: %s", address, strerror(error));
        return error == EADDRINUSE ? ERR_CONFLICT : ERR_IO;
    }
    enum err e = wrap(l, fd, transport, address, out);
    if (e)
        close(fd);
    return e;
}

static struct listener *find_open(struct listeners *l, enum io_transport transport, const char *host, int port)
{
    char address[128];
    struct listener **at = &l->list;
    snprintf(address, sizeof address, "%s:%d", host, port);
    while (*at && ((*at)->transport != transport || strcmp((*at)->address, address) != 0))
        at = &(*at)->next;
    struct listener *found = *at;
    if (found)
        *at = found->next;
    return found;
}

static void push_all(struct listener **to, struct listener *from)
{
    while (from) {
        struct listener *next = from->next;
        from->next = *to;
        *to = from;
        from = next;
    }
}

/* Under the lock: the listeners of IO_TCP or IO_TLS as the configuration says it now. On an error everything is as
 * before. */
static enum err open_all(struct listeners *l, enum io_transport transport)
{
    struct listener *kept = NULL, *opened = NULL, *at;
    struct bytes words[BINDS_MAX];
    struct buf b;
    int port = (int)config_int(l->srv->config, transport == IO_TCP ? CFG_PORT : CFG_TLS_PORT), n = 0;

    buf_init(&b, 4096);
    enum err e = config_text(l->srv->config, CFG_BIND, &b);
    if (!e && port)
        n = config_split((char *)buf_data(&b), buf_size(&b), words, BINDS_MAX);
    if (n < 0)
        e = ERR_SYNTAX;
    for (int i = 0; i < n && !e; i++) {
        char host[64];
        int optional = words[i].n > 1 && words[i].p[0] == '-';
        snprintf(host, sizeof host, "%.*s", (int)words[i].n - optional, (const char *)words[i].p + optional);
        if ((at = find_open(l, transport, host, port))) {
            at->next = kept;
            kept = at;
            continue;
        }
        e = open_tcp(l, transport, host, optional, port, &at);
        if (at) {
            at->next = opened;
            opened = at;
        }
    }
    buf_fini(&b);
    if (!e && port && n > 0 && !kept && !opened) {
        log_at(LOG_WARNING, "None of the addresses of bind is one of this machine's");
        e = ERR_IO;
    }
    if (e) {
        push_all(&l->list, kept);
        while ((at = opened)) {
            opened = at->next;
            close(at->fd);
            mem_free(at);
        }
        return e;
    }
    struct listener *rest = NULL;
    while ((at = l->list)) { /* what nobody wants any more */
        l->list = at->next;
        if (at->transport == transport) {
            drop(at);
        } else {
            at->next = rest;
            rest = at;
        }
    }
    push_all(&l->list, rest);
    push_all(&l->list, kept);
    for (at = opened; at; at = at->next)
        io_post(l->srv->main, &at->task);
    push_all(&l->list, opened);
    l->port[transport] = port;
    return ERR_OK;
}

/* A name left by a server that was killed is taken over; one that somebody still answers on is not. */
static enum err free_name(const char *path, const struct sockaddr_un *a)
{
    struct stat st;
    if (lstat(path, &st) != 0 || !S_ISSOCK(st.st_mode))
        return ERR_OK; /* what is no socket, bind refuses to replace */
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    int taken = fd >= 0 && (connect(fd, (const struct sockaddr *)a, sizeof *a) == 0 || errno == EAGAIN);
    if (fd >= 0)
        close(fd);
    if (taken) {
        log_at(LOG_WARNING, "Failed opening Unix socket: %s: a server listens on it", path);
        return ERR_CONFLICT;
    }
    (void)unlink(path); /* bind says what is wrong */
    return ERR_OK;
}

static enum err open_unix(struct listeners *l)
{
    const char *path = config_str(l->srv->config, CFG_UNIXSOCKET);
    mode_t mode = (mode_t)config_int(l->srv->config, CFG_UNIXSOCKETPERM);
    struct sockaddr_un a = {.sun_family = AF_UNIX};
    struct listener *at;

    if (!path[0])
        return ERR_OK;
    if (strlen(path) >= sizeof a.sun_path) {
        log_at(LOG_WARNING, "unixsocket %s: the name is too long, at most %zu bytes", path, sizeof a.sun_path - 1);
        return ERR_IO;
    }
    memcpy(a.sun_path, path, strlen(path) + 1);
    enum err e = free_name(path, &a);
    if (e)
        return e;
    int fd = socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0 || bind(fd, (struct sockaddr *)&a, sizeof a) != 0 || (mode && chmod(path, mode) != 0) ||
        listen(fd, (int)config_int(l->srv->config, CFG_TCP_BACKLOG)) != 0) {
        log_at(LOG_WARNING, "Failed opening Unix socket: %s: %s", path, strerror(errno));
        if (fd >= 0)
            close(fd);
        return ERR_IO;
    }
    e = wrap(l, fd, IO_UNIX, path, &at);
    if (e) {
        close(fd);
        return e;
    }
    memcpy(l->unix_path, path, strlen(path) + 1);
    at->next = l->list;
    l->list = at;
    io_post(l->srv->main, &at->task);
    return ERR_OK;
}

static enum err on_change(void *arg, enum config_id id, const char **why)
{
    struct listeners *l = arg;
    enum err e = ERR_OK;
    pthread_mutex_lock(&l->lock);
    if (id != CFG_TLS_PORT)
        e = open_all(l, IO_TCP);
    if (!e && id != CFG_PORT)
        e = open_all(l, IO_TLS);
    pthread_mutex_unlock(&l->lock);
    if (e)
        *why = id == CFG_BIND ? "Failed to bind to specified addresses."
                              : "Unable to listen on this port. Check server logs.";
    return e;
}

static enum err open_port(struct listeners *l, enum io_transport transport, enum config_id id)
{
    enum err e = open_all(l, transport);
    if (e)
        log_at(LOG_WARNING, "Failed listening on port %lld (%s), aborting.", (long long)config_int(l->srv->config, id),
               config_rows[id].name);
    return e;
}

enum err listen_open(struct listeners **out, struct server *srv)
{
    struct listeners *l = *out = mem_zalloc(sizeof *l);
    if (!l)
        return ERR_OOM;
    l->srv = srv;
    pthread_mutex_init(&l->lock, NULL);
    enum err e = event_assign(&l->pause_ev, io_base(srv->main), -1, 0, on_pause_over, l) == 0 ? ERR_OK : ERR_OOM;
    if (!e)
        e = open_port(l, IO_TCP, CFG_PORT);
    if (!e)
        e = open_port(l, IO_TLS, CFG_TLS_PORT);
    if (!e)
        e = open_unix(l);
    if (!e && !l->list) {
        log_at(LOG_WARNING, "Nothing to listen on: port and tls-port are 0 and there is no unixsocket. Aborting.");
        e = ERR_IO;
    }
    if (!e)
        e = config_on_change(srv->config, CFG_PORT, on_change, l);
    if (!e)
        e = config_on_change(srv->config, CFG_TLS_PORT, on_change, l);
    return e ? e : config_on_change(srv->config, CFG_BIND, on_change, l);
}

void listen_close(struct listeners *l)
{
    pthread_mutex_lock(&l->lock);
    struct listener *at = l->list;
    l->list = NULL;
    pthread_mutex_unlock(&l->lock);
    event_del(&l->pause_ev);
    while (at) {
        struct listener *next = at->next;
        if (at->added)
            dropped_on_main(&at->task, l->srv->main);
        else
            at->task.run = dropped_on_main; /* it is in the loop's queue still */
        at = next;
    }
    if (l->unix_path[0])
        unlink(l->unix_path);
    l->unix_path[0] = 0;
}

void listen_free(struct listeners *l)
{
    if (!l)
        return;
    listen_close(l);
    pthread_mutex_destroy(&l->lock);
    mem_free(l);
}

int listen_port(struct listeners *l)
{
    pthread_mutex_lock(&l->lock);
    int port = l->port[IO_TCP] ? l->port[IO_TCP] : l->port[IO_TLS];
    pthread_mutex_unlock(&l->lock);
    return port;
}

int listen_tls_port(struct listeners *l)
{
    pthread_mutex_lock(&l->lock);
    int port = l->port[IO_TLS];
    pthread_mutex_unlock(&l->lock);
    return port;
}
