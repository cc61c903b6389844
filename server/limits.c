/* limits.c - see limits.h. */
#include "server/limits.h"

#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"

/* Descriptors for everything but clients. A store that cannot open one of its tables fails for good, so clients must
 * never be able to take those: LevelDB keeps up to STORE_FILES of them open, and opens them when they are needed. */
#define OTHER_FILES 64  /* log, listeners, loops, workers' sockets and what is open for a moment */
#define STORE_FILES 100 /* max_open_files in engine/engine.c */
#define CLIENTS_MIN 32

static uint64_t spare_files(const struct config *c)
{
    return OTHER_FILES + ((uint64_t)config_int(c, CFG_SHARDS) + 1) * STORE_FILES +
           4 * ((uint64_t)config_int(c, CFG_HSM_WORKERS) + (uint64_t)config_int(c, CFG_IO_THREADS));
}

/* Makes room for so many clients; returns how many there is room for. */
static uint64_t make_room(uint64_t clients, uint64_t spare)
{
    struct rlimit r;
    uint64_t want = clients + spare;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= want)
        return clients;
    rlim_t before = r.rlim_cur;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max >= want ? want : r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        r.rlim_cur = before;
    if (r.rlim_cur >= want)
        return clients;
    uint64_t room = r.rlim_cur > spare + CLIENTS_MIN ? r.rlim_cur - spare : CLIENTS_MIN;
    return room < clients ? room : clients;
}

static enum err on_maxclients(void *arg, enum config_id id, const char **why)
{
    static char text[128]; /* CONFIG SET holds its lock while this is used */
    uint64_t want = (uint64_t)config_int(arg, id), room = make_room(want, spare_files(arg));
    if (room >= want)
        return ERR_OK;
    snprintf(text, sizeof text,
             "The operating system is not able to handle the specified number of clients, try with %llu",
             (unsigned long long)room);
    *why = text;
    return ERR_RANGE;
}

enum err limits_apply(struct config *c)
{
    uint64_t want = (uint64_t)config_int(c, CFG_MAXCLIENTS), spare = spare_files(c), room = make_room(want, spare);
    char text[32];
    if (room < want) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)room);
        enum err e = config_put(c, "maxclients", text);
        if (e)
            return e;
        log_at(LOG_WARNING, "maxclients is lowered to %s by the limit of open files; raise that with 'ulimit -n %llu'",
               text, (unsigned long long)(want + spare));
    }
    return config_on_change(c, CFG_MAXCLIENTS, on_maxclients, c);
}
