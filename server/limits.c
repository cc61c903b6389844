/* limits.c - see limits.h. */
#include "server/limits.h"

#include <stdio.h>
#include <sys/resource.h>

#include "base/log.h"

#define SPARE_FILES 64 /* descriptors for everything but clients */

/* Makes room for so many clients; returns how many there is room for. */
static uint64_t make_room(uint64_t clients)
{
    struct rlimit r;
    uint64_t want = clients + SPARE_FILES;
    if (getrlimit(RLIMIT_NOFILE, &r) != 0 || r.rlim_cur == RLIM_INFINITY || r.rlim_cur >= want)
        return clients;
    rlim_t before = r.rlim_cur;
    r.rlim_cur = r.rlim_max == RLIM_INFINITY || r.rlim_max >= want ? want : r.rlim_max;
    if (setrlimit(RLIMIT_NOFILE, &r) != 0)
        r.rlim_cur = before;
    if (r.rlim_cur >= want)
        return clients;
    return r.rlim_cur > 2 * SPARE_FILES ? r.rlim_cur - SPARE_FILES : SPARE_FILES;
}

static enum err on_maxclients(void *arg, enum config_id id, const char **why)
{
    static char text[128]; /* CONFIG SET holds its lock while this is used */
    uint64_t want = (uint64_t)config_int(arg, id), room = make_room(want);
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
    uint64_t want = (uint64_t)config_int(c, CFG_MAXCLIENTS), room = make_room(want);
    char text[32];
    if (room < want) {
        snprintf(text, sizeof text, "%llu", (unsigned long long)room);
        enum err e = config_put(c, "maxclients", text);
        if (e)
            return e;
        log_at(LOG_WARNING, "maxclients is lowered to %s by the limit of open files; raise that with 'ulimit -n %llu'",
               text, (unsigned long long)want + SPARE_FILES);
    }
    return config_on_change(c, CFG_MAXCLIENTS, on_maxclients, c);
}
